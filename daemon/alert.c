/* alert.c - see alert.h: raising. Whoever raises an alert puts it in a list under one mutex, from
 * where alert_send.c takes it. Duplicates are counted where they are raised, so that a flood of
 * them costs no memory.
 */
#include "daemon/alert.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert_list.h"
#include "daemon/alert_repeat.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define MAX_TOPICS 500u /* things remembered; what comes on top of them shares one */
#define MAX_WAITING 300u /* alerts that could not be sent yet */
#define TEXT_BYTES 4000u

struct topic { /* one key */
    struct repeat repeat;
    enum alert_class class;
    enum alert_severity severity;
    char *text; /* of the last time */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static struct map topics;
static struct raised *first, **end = &first;
static unsigned waiting;
static struct wait *sleeper; /* of the fiber, while it sleeps */
static bool ended;

void raised_free(struct raised *r)
{
    free((char *)r->alert.key);
    free((char *)r->alert.text);
    free(r);
}

struct repeat_pace alert_pace(void)
{
    struct config *cfg = running_config();
    const struct alert_setup *setup = cfg ? CONFIG_SINGLE(cfg, alert_setup) : NULL;
    struct repeat_pace pace = {setup ? setup->initial : 300, setup ? setup->maximum : 3600};

    config_free(&cfg);
    return pace;
}

/* --- raising --- */

/* Under the lock. */
static void append(struct raised *r)
{
    if (ended || waiting >= MAX_WAITING) {
        log_warning("the alert \"%s\" is lost: %s", r->alert.text,
                    ended ? "the gateway is stopping" : "too many wait to be sent");
        raised_free(r);
        return;
    }
    r->next = NULL;
    *end = r;
    end = &r->next;
    waiting++;
    if (sleeper)
        wait_done(sleeper);
    sleeper = NULL;
}

static void forget_old_topics(const struct repeat_pace *pace, msec_t now)
{
    const char *key;
    size_t pos = 0;
    void *v;

    while (map_next(&topics, &pos, &key, &v)) {
        struct topic *t = v;

        if (!repeat_over(&t->repeat, pace, now))
            continue;
        map_remove(&topics, key);
        free(t->text);
        free(t);
    }
}

static struct topic *topic_of(const char *key, const struct repeat_pace *pace, msec_t now)
{
    struct topic *t = map_get(&topics, key);

    if (t)
        return t;
    if (topics.n >= MAX_TOPICS)
        forget_old_topics(pace, now);
    if (topics.n >= MAX_TOPICS) { /* somebody makes up new things: they are counted together */
        key = "further alerts";
        t = map_get(&topics, key);
        if (t)
            return t;
    }
    t = xcalloc(1, sizeof(*t));
    map_set(&topics, key, t);
    return t;
}

static char *printable(const struct buf *text)
{
    struct buf shown = BUF_INIT(4u * TEXT_BYTES + 16);

    for (const char *line = buf_str(text), *stop; line; line = stop ? stop + 1 : NULL) {
        stop = strchr(line, '\n');
        str_escape(&shown, line, stop ? (size_t)(stop - line) : strlen(line));
        if (stop)
            buf_char(&shown, '\n');
    }
    return buf_take(&shown);
}

static struct raised *raised_new(const struct topic *t, const char *key, const char *text,
                                 usec_t at, bool again)
{
    struct raised *r = xcalloc(1, sizeof(*r));

    r->alert = (struct alert){.class = t->class,
                              .severity = t->severity,
                              .key = xstrdup(key),
                              .text = xstrdup(text),
                              .at = at,
                              .again = again};
    return r;
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    struct buf text = BUF_INIT(TEXT_BYTES);
    struct repeat_pace pace = alert_pace();
    msec_t now = clock_now();
    usec_t wall = clock_wall();
    enum repeat_verdict verdict;
    struct topic *t;
    char *shown;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    shown = printable(&text);
    buf_free(&text);
    if (fiber_mark() == ALERT_MARK) {
        log_info("no alert, because an alert's own delivery met it: %s", shown);
        free(shown);
        return;
    }
    pthread_mutex_lock(&lock);
    t = topic_of(key, &pace, now);
    t->class = class;
    t->severity = severity;
    free(t->text);
    t->text = shown;
    verdict = repeat_happened(&t->repeat, &pace, now, wall);
    if (verdict != REPEAT_COUNTED)
        append(raised_new(t, key, shown, wall, verdict == REPEAT_AGAIN));
    else if (sleeper && t->repeat.held == 1) { /* the fiber has a new time to wake at */
        wait_done(sleeper);
        sleeper = NULL;
    }
    pthread_mutex_unlock(&lock);
}

void alert_tls_required(const struct config *cfg, const char *domain, const char *host,
                        const char *reason)
{
    const struct destination_setup *setup = CONFIG_SINGLE(cfg, destination_setup);
    char key[300];

    if (!setup || !setup->send_tls_req_alert)
        return;
    snprintf(key, sizeof(key), "tls %s", domain);
    alert_raise(
        ALERT_SYSTEM, ALERT_WARNING, key,
        "TLS connection failed for the domain \"%s\". TLS is required for this destination.\n"
        "Host %s: %.200s",
        domain, host, reason);
}

/* --- for alert_send.c --- */

/* Under the lock: the first whose time has come, taken out of the list. */
static struct raised *take(msec_t now, msec_t *next)
{
    for (struct raised **p = &first; *p; p = &(*p)->next) {
        struct raised *r = *p;

        if (r->not_before > now) {
            if (r->not_before < *next)
                *next = r->not_before;
            continue;
        }
        *p = r->next;
        if (end == &r->next)
            end = p;
        waiting--;
        return r;
    }
    return NULL;
}

/* Under the lock. */
static void take_summaries(const struct repeat_pace *pace, msec_t now, msec_t *next)
{
    const char *key;
    size_t pos = 0;
    void *v;

    while (map_next(&topics, &pos, &key, &v)) {
        struct topic *t = v;
        struct repeat over;

        if (repeat_summary(&t->repeat, pace, now, &over)) {
            struct raised *r = raised_new(t, key, t->text, clock_wall(), true);

            r->alert.held = over.held;
            r->alert.first = over.first;
            r->alert.latest = over.latest;
            append(r);
        } else if (repeat_due(&t->repeat) < *next) {
            *next = repeat_due(&t->repeat);
        }
    }
    forget_old_topics(pace, now);
}

struct raised *alert_next(struct wait *w, msec_t *until)
{
    struct repeat_pace pace = alert_pace();
    msec_t now = clock_now();
    struct raised *r;

    pthread_mutex_lock(&lock);
    take_summaries(&pace, now, until);
    r = take(now, until);
    if (!r) {
        wait_init(w);
        sleeper = w;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

void alert_awake(void)
{
    pthread_mutex_lock(&lock);
    sleeper = NULL;
    pthread_mutex_unlock(&lock);
}

void alert_again(struct raised *r, msec_t not_before)
{
    r->not_before = not_before;
    pthread_mutex_lock(&lock);
    append(r);
    pthread_mutex_unlock(&lock);
}

struct raised *alert_end(void)
{
    struct raised *r;

    pthread_mutex_lock(&lock);
    ended = true;
    r = first;
    first = NULL;
    end = &first;
    waiting = 0;
    pthread_mutex_unlock(&lock);
    return r;
}

void alert_resume(const char *key, msec_t begin, msec_t said)
{
    struct repeat_pace pace = alert_pace();
    msec_t now = clock_now();

    pthread_mutex_lock(&lock);
    if (!map_get(&topics, key)) /* nothing was said of it since the start */
        repeat_resume(&topic_of(key, &pace, now)->repeat, &pace, begin, said);
    pthread_mutex_unlock(&lock);
}
