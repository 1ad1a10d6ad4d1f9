/* alert.c - see alert.h. Whoever raises an alert puts it in a list under one mutex; a fiber of the first loop takes it
 * from there, stores it and queues the mail. Duplicates are counted where they are raised, so that a flood of them costs
 * no memory.
 */
#include "daemon/alert.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert_mail.h"
#include "daemon/alert_repeat.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/message.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/state.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define MAX_TOPICS 500u /* things remembered; what comes on top of them shares one */
#define MAX_WAITING 300u /* alerts that could not be sent yet */
#define TEXT_BYTES 4000u
#define RETRY SECONDS(60) /* the disk is full: that is what some of them are about */
#define LOOK_AGAIN MINUTES(10) /* for topics that are over */

struct topic { /* one key */
    struct repeat repeat;
    enum alert_class class;
    enum alert_severity severity;
    char *text; /* of the last time */
};

struct raised { /* on its way to the fiber */
    struct raised *next;
    struct alert alert; /* key and text are owned */
    msec_t not_before;
    bool stored;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static struct map topics;
static struct raised *first, **end = &first;
static unsigned waiting;
static struct wait *sleeper; /* of the fiber, while it sleeps */
static bool ended;

static char serial_number[64];

static void raised_free(struct raised *r)
{
    free((char *)r->alert.key);
    free((char *)r->alert.text);
    free(r);
}

static struct repeat_pace pace_now(void)
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

static void forget_old_topics(msec_t now)
{
    const char *key;
    size_t pos = 0;
    void *v;

    while (map_next(&topics, &pos, &key, &v)) {
        struct topic *t = v;

        if (!repeat_over(&t->repeat, now))
            continue;
        map_remove(&topics, key);
        free(t->text);
        free(t);
    }
}

static struct topic *topic_of(const char *key, msec_t now)
{
    struct topic *t = map_get(&topics, key);

    if (t)
        return t;
    if (topics.n >= MAX_TOPICS)
        forget_old_topics(now);
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

static struct raised *raised_new(const struct topic *t, const char *key, const char *text, usec_t at)
{
    struct raised *r = xcalloc(1, sizeof(*r));

    r->alert = (struct alert){.class = t->class,
                              .severity = t->severity,
                              .key = xstrdup(key),
                              .text = xstrdup(text),
                              .at = at};
    return r;
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    struct buf text = BUF_INIT(TEXT_BYTES);
    struct repeat_pace pace = pace_now();
    msec_t now = clock_now();
    usec_t wall = clock_wall();
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
    t = topic_of(key, now);
    t->class = class;
    t->severity = severity;
    free(t->text);
    t->text = shown;
    if (repeat_happened(&t->repeat, &pace, now, wall))
        append(raised_new(t, key, shown, wall));
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
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "TLS connection failed for the domain \"%s\". TLS is required for this destination.\n"
                "Host %s: %.200s",
                domain, host, reason);
}

/* --- storing --- */

struct record {
    usec_t at;
    enum alert_class class;
    enum alert_severity severity;
    uint64_t keep;
    char *key, *text;
};

static bool insert_record(sqlite3 *db, void *arg, struct err *err)
{
    const struct record *r = arg;
    sqlite3_stmt *s =
        writer_stmt("INSERT INTO alert (at, class, severity, text, key) VALUES (?, ?, ?, ?, ?)", err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, r->at);
    sqlite3_bind_text(s, 2, choices_alert_class[r->class].text, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, choices_alert_severity[r->severity].text, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, r->text, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, r->key, -1, SQLITE_STATIC);
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "storing an alert: %s", sqlite3_errmsg(db));
    s = writer_stmt("DELETE FROM alert WHERE id <= (SELECT max(id) FROM alert) - ?", err);
    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)r->keep);
    return sqlite3_step(s) == SQLITE_DONE ? true
                                          : err_set(err, E_IO, "dropping old alerts: %s", sqlite3_errmsg(db));
}

static void record_done(void *arg, bool ok)
{
    struct record *r = arg;

    if (!ok)
        log_warning("the alert \"%s\" is not stored for displayalerts", r->text);
    free(r->key);
    free(r->text);
    free(r);
}

static void store(const struct alert *a, uint64_t keep)
{
    struct record *r = xcalloc(1, sizeof(*r));
    char from[40], to[40];

    *r = (struct record){.at = a->at, .class = a->class, .severity = a->severity, .keep = keep,
                         .key = xstrdup(a->key)};
    if (a->held)
        r->text = xasprintf("%s\nLast message occurred %u times between %s and %s.", a->text, a->held,
                            clock_rfc5322(a->first, from), clock_rfc5322(a->latest, to));
    else
        r->text = xstrdup(a->text);
    state_post(insert_record, record_done, r);
}

struct listing {
    unsigned max;
    alert_visitor fn;
    void *arg;
};

static bool read_records(sqlite3 *db, void *arg, struct err *err)
{
    const struct listing *l = arg;
    sqlite3_stmt *s =
        writer_stmt("SELECT at, class, severity, text FROM alert ORDER BY id DESC LIMIT ?", err);
    int rc;

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, l->max);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        l->fn(l->arg, sqlite3_column_int64(s, 0), (const char *)sqlite3_column_text(s, 1),
              (const char *)sqlite3_column_text(s, 2), (const char *)sqlite3_column_text(s, 3));
    return rc == SQLITE_DONE ? true : err_set(err, E_IO, "reading the alerts: %s", sqlite3_errmsg(db));
}

bool alert_list(unsigned max, alert_visitor fn, void *arg, struct err *err)
{
    struct listing l = {max, fn, arg};

    return state_txn(read_records, &l, err);
}

/* What was said before a restart is not said again at once: an engine that keeps falling is one such thing. */
static bool resume_topics(sqlite3 *db, void *arg, struct err *err)
{
    const struct repeat_pace *pace = arg;
    msec_t now = clock_now();
    usec_t wall = clock_wall();
    sqlite3_stmt *s = writer_stmt("SELECT key, min(at), max(at) FROM alert WHERE at > ? GROUP BY key", err);
    int rc;

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, wall - (usec_t)pace->maximum * 1000000);
    pthread_mutex_lock(&lock);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(s, 0);
        usec_t begin = sqlite3_column_int64(s, 1), said = sqlite3_column_int64(s, 2);
        struct topic *t;

        if (said > wall || map_get(&topics, key)) /* the clock was put back; or said since */
            continue;
        t = topic_of(key, now);
        repeat_resume(&t->repeat, pace, now - (wall - begin) / 1000, now - (wall - said) / 1000);
    }
    pthread_mutex_unlock(&lock);
    return rc == SQLITE_DONE ? true : err_set(err, E_IO, "reading the alerts: %s", sqlite3_errmsg(db));
}

/* --- sending --- */

/* YIELDS */
static bool send_mail(const struct config *cfg, const struct alert *a, const struct strlist *to)
{
    struct buf mail = BUF_INIT(65536);
    struct message *m = message_new();
    AUTO(buf) struct buf names = BUF_INIT(4000);
    struct err err = {0};
    char subject[512];
    bool ok;

    alert_subject(cfg, a, subject, sizeof(subject));
    m->mid = queue_next_mid();
    m->received = clock_wall();
    m->subject = message_text(m, subject);
    m->bounce_profile = message_text(m, "Default");
    m->flags = MSG_BOUNCE | MSG_ALERT;
    for (size_t i = 0; i < to->n; i++)
        message_add_rcpt(m, to->items[i], NULL, NOTIFY_NEVER);
    alert_mail(cfg, a, to, m->mid, serial_number, &mail);
    for (size_t i = 0; i < mail.n; i++)
        if (mail.p[i] & 0x80)
            m->flags |= MSG_8BIT;
    ok = queue_submit_own(m, &mail, 0, &err);
    strlist_join(to, ", ", &names);
    if (ok)
        log_info("A %s/%s alert was sent to %s with subject \"%s\".", choices_alert_class[a->class].text,
                 alert_severity_word(a->severity), buf_str(&names), subject);
    else
        log_warning("the alert \"%s\" could not be queued, and is tried again: %s", a->text, err.text);
    message_free(&m);
    buf_free(&mail);
    return ok;
}

/* YIELDS. false: to be tried again. */
static bool treat(struct raised *r)
{
    struct config *cfg = running_config();
    const struct alert_setup *setup = CONFIG_SINGLE(cfg, alert_setup);
    AUTO(strlist) struct strlist to = {0};
    bool ok = true;

    if (!r->stored)
        store(&r->alert, setup ? setup->stored : 50);
    r->stored = true;
    alert_recipients(cfg, &r->alert, &to);
    if (to.n)
        ok = send_mail(cfg, &r->alert, &to);
    config_free(&cfg);
    return ok;
}

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
            struct raised *r = raised_new(t, key, t->text, clock_wall());

            r->alert.held = over.held;
            r->alert.first = over.first;
            r->alert.latest = over.latest;
            append(r);
        } else if (repeat_due(&t->repeat) < *next) {
            *next = repeat_due(&t->repeat);
        }
    }
    forget_old_topics(now);
}

static void alert_fiber(void *unused)
{
    struct wait wait;
    struct raised *r;

    (void)unused;
    fiber_interruptible(true);
    while (!fiber_stopping()) {
        struct repeat_pace pace = pace_now();
        msec_t now = clock_now(), next = now + LOOK_AGAIN;

        pthread_mutex_lock(&lock);
        take_summaries(&pace, now, &next);
        r = take(now, &next);
        if (!r) {
            wait_init(&wait);
            sleeper = &wait;
        }
        pthread_mutex_unlock(&lock);
        if (!r) {
            wait_until(&wait, next, "something to alert of"); /* YIELDS */
            pthread_mutex_lock(&lock);
            sleeper = NULL;
            pthread_mutex_unlock(&lock);
        } else if (treat(r)) {
            raised_free(r);
        } else {
            r->not_before = clock_in(RETRY);
            pthread_mutex_lock(&lock);
            append(r);
            pthread_mutex_unlock(&lock);
        }
    }
    /* There is no time for mail; what happened is kept to be shown. */
    pthread_mutex_lock(&lock);
    ended = true;
    for (msec_t never = NEVER; (r = take(NEVER, &never)); raised_free(r))
        if (!r->stored)
            store(&r->alert, 1000);
    pthread_mutex_unlock(&lock);
}

bool alert_start(const char *serial, struct err *err)
{
    struct repeat_pace pace = pace_now();
    struct err why = {0};

    str_copy(serial_number, sizeof(serial_number), serial);
    if (!state_txn(resume_topics, &pace, &why))
        log_warning("%s", why.text);
    return fiber_spawn(loops_get(0), "alerts", alert_fiber, NULL)
               ? true
               : err_set(err, E_LIMIT, "too many fibers");
}
