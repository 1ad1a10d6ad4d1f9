/* alert.c - see alert.h. The table of what was said lately is small and has one mutex; any thread.
 */
#include "daemon/alert.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/message.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
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

static const char *const classes[] = {"System", "Message Delivery", "Updater"};
static const char *const severities[] = {"Critical", "Warning", "Info"};

struct raised {
    enum alert_class class;
    enum alert_severity severity;
    char *text;
};

static void send_raised(void *arg)
{
    struct raised *r = arg;
    struct config *cfg = running_config();
    const struct system *sys = cfg ? CONFIG_SINGLE(cfg, system) : NULL;

    if (sys && *sys->admin_address)
        send_alert(sys, severities[r->severity], classes[r->class], r->text);
    config_free(&cfg);
    free(r->text);
    free(r);
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    struct buf text = BUF_INIT(4000), shown = BUF_INIT(8000);
    struct raised *r;
    va_list ap;

    if (!due(key))
        return;
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    for (const char *line = buf_str(&text), *end; line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        str_escape(&shown, line, end ? (size_t)(end - line) : strlen(line));
        if (end)
            buf_str_add(&shown, "\r\n");
    }
    r = xcalloc(1, sizeof(*r));
    r->class = class;
    r->severity = severity;
    r->text = buf_take(&shown);
    buf_free(&text);
    if (worker_post(send_raised, r))
        return;
    log_warning("the alert \"%s\" is lost: too much is waiting for the worker threads", r->text);
    free(r->text);
    free(r);
}

void alert_tls_required(const struct config *cfg, const char *domain, const char *host,
                        const char *reason)
{
    const struct destination_setup *setup = CONFIG_SINGLE(cfg, destination_setup);
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    const char *at;
    char key[300];

    if (!setup || !setup->send_tls_req_alert || !sys || !(at = strrchr(sys->admin_address, '@')))
        return;
    if (str_ieq(at + 1, domain)) /* it would wait for the same TLS */
        return;
    snprintf(key, sizeof(key), "tls %s", domain);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "TLS connection failed for the domain \"%s\". TLS is required for this destination.\n"
                "Host %s: %.200s",
                domain, host, reason);
}
