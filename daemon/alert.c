/* alert.c - see alert.h. The table of what was said lately is small and has one mutex; any thread.
 */
#include "daemon/alert.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/message.h"
#include "daemon/queue.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"
#include "store/base/version.h"

#define REPEAT MINUTES(60)
#define MAX_SUBJECTS                                                                               \
    1000u /* things remembered; further ones wait until others are older than REPEAT */
#define SUBJECT_TEXT 60 /* of the text that is in the subject */

struct said {
    msec_t at;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map said;

static void forget_old(msec_t now)
{
    struct map kept = {0};
    const char *key;
    size_t pos = 0;
    void *v;

    while (map_next(&said, &pos, &key, &v)) {
        if (now - ((struct said *)v)->at < REPEAT)
            map_set(&kept, key, v);
        else
            free(v);
    }
    map_free(&said);
    said = kept;
}

/* Is it time to speak of this again? Remembers that we did. */
static bool due(const char *subject)
{
    msec_t now = clock_now();
    struct said *s;
    bool yes = true;

    pthread_mutex_lock(&lock);
    s = map_get(&said, subject);
    if (s) {
        yes = now - s->at >= REPEAT;
    } else {
        if (said.n >= MAX_SUBJECTS)
            forget_old(now);
        if (said.n >= MAX_SUBJECTS) {
            yes = false;
        } else {
            s = xcalloc(1, sizeof(*s));
            map_set(&said, subject, s);
        }
    }
    if (yes)
        s->at = now;
    pthread_mutex_unlock(&lock);
    return yes;
}

static void send_alert(const struct system *sys, const char *severity, const char *class,
                       const char *text)
{
    struct buf mail = BUF_INIT(65536);
    struct message *m = message_new();
    struct err err = {0};
    char date[40], subject[256];

    m->mid = queue_next_mid();
    m->received = clock_wall();
    snprintf(subject, sizeof(subject), "%s <%s> %s: %.*s%s", severity, class, sys->hostname,
             SUBJECT_TEXT, text, strlen(text) > SUBJECT_TEXT ? "..." : "");
    m->subject = message_text(m, subject);
    m->bounce_profile = message_text(m, "Default");
    m->flags = MSG_BOUNCE;
    message_add_rcpt(m, sys->admin_address, NULL, NOTIFY_NEVER);
    clock_rfc5322(m->received, date);
    buf_printf(&mail,
               "From: \"Postern Alert\" <alert@%s>\r\n"
               "To: <%s>\r\n"
               "Date: %s\r\n"
               "Message-ID: <alert-%llu@%s>\r\n"
               "Subject: %s\r\n"
               "Auto-Submitted: auto-generated\r\n"
               "MIME-Version: 1.0\r\n"
               "Content-Type: text/plain; charset=us-ascii\r\n"
               "\r\n"
               "The %s message is:\r\n\r\n%s\r\n\r\n"
               "Product: Postern Secure Mail Gateway\r\n"
               "Version: %s\r\n"
               "Timestamp: %s\r\n",
               sys->hostname, sys->admin_address, date, (unsigned long long)m->mid, sys->hostname,
               subject, severity, text, POSTERN_VERSION, date);
    if (!queue_submit_own(m, &mail, 0, &err))
        log_warning("the alert \"%s\" could not be queued: %s", text, err.text);
    else
        log_info("A %s/%s alert was sent to %s with subject \"%s\".", class, severity,
                 sys->admin_address, subject);
    message_free(&m);
    buf_free(&mail);
}

void alert_tls_required(const struct config *cfg, const char *domain, const char *host,
                        const char *reason)
{
    const struct destination_setup *setup = CONFIG_SINGLE(cfg, destination_setup);
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    struct buf text = BUF_INIT(2000), seen = BUF_INIT(1000);
    const char *at;

    if (!setup || !setup->send_tls_req_alert || !sys || !(at = strrchr(sys->admin_address, '@')))
        return;
    if (str_ieq(at + 1, domain) || !due(domain)) /* it would wait for the same TLS */
        return;
    str_escape(&seen, reason, strlen(reason) < 200 ? strlen(reason) : 200);
    buf_printf(
        &text,
        "TLS connection failed for the domain \"%s\". TLS is required for this destination.\r\n"
        "Host %s: %s",
        str_printable(domain), str_printable(host), buf_str(&seen));
    send_alert(sys, "Warning", "System", buf_str(&text));
    buf_free(&seen);
    buf_free(&text);
}
