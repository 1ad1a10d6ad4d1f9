/* alert_send.c - see alert.h: a fiber of the first loop stores what was raised in state.db and
 * queues the mail. */
#include "daemon/alert.h"

#include <stdlib.h>

#include "daemon/alert_list.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/message.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/state.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define RETRY SECONDS(60) /* the disk is full: that is what some of them are about */
#define LOOK_AGAIN MINUTES(10) /* for topics that are over */
#define MOST_KEPT 1000 /* as alert_setup.def allows */

static char serial_number[64];

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
    sqlite3_stmt *s = writer_stmt(
        "INSERT INTO alert (at, class, severity, text, key) VALUES (?, ?, ?, ?, ?)", err);

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
    return sqlite3_step(s) == SQLITE_DONE
               ? true
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

    *r = (struct record){.at = a->at,
                         .class = a->class,
                         .severity = a->severity,
                         .keep = keep,
                         .key = xstrdup(a->key)};
    if (a->held)
        r->text = xasprintf("%s\nLast message occurred %u times between %s and %s.", a->text,
                            a->held, clock_rfc5322(a->first, from), clock_rfc5322(a->latest, to));
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
    return rc == SQLITE_DONE ? true
                             : err_set(err, E_IO, "reading the alerts: %s", sqlite3_errmsg(db));
}

bool alert_list(unsigned max, alert_visitor fn, void *arg, struct err *err)
{
    struct listing l = {max, fn, arg};

    return state_txn(read_records, &l, err);
}

/* What was said before a restart is not said again at once: an engine that keeps falling is one
 * such thing. */
static bool resume_topics(sqlite3 *db, void *arg, struct err *err)
{
    const uint64_t *maximum = arg;
    msec_t now = clock_now();
    usec_t wall = clock_wall();
    sqlite3_stmt *s =
        writer_stmt("SELECT key, min(at), max(at) FROM alert WHERE at > ? GROUP BY key", err);
    int rc;

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, wall - (usec_t)*maximum * 1000000);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        usec_t begin = sqlite3_column_int64(s, 1), said = sqlite3_column_int64(s, 2);

        if (said <= wall) /* else the clock was put back */
            alert_resume((const char *)sqlite3_column_text(s, 0), now - (wall - begin) / 1000,
                         now - (wall - said) / 1000);
    }
    return rc == SQLITE_DONE ? true
                             : err_set(err, E_IO, "reading the alerts: %s", sqlite3_errmsg(db));
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
        log_info("A %s/%s alert was sent to %s with subject \"%s\".",
                 choices_alert_class[a->class].text, alert_severity_word(a->severity),
                 buf_str(&names), subject);
    else
        log_warning("the alert \"%s\" could not be queued, and is tried again: %s", a->text,
                    err.text);
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

static void alert_fiber(void *unused)
{
    struct raised *r, *next;
    struct wait wait;

    (void)unused;
    fiber_interruptible(true);
    while (!fiber_stopping()) {
        msec_t until = clock_in(LOOK_AGAIN);

        r = alert_next(&wait, &until);
        if (!r) {
            wait_until(&wait, until, "something to alert of"); /* YIELDS */
            alert_awake();
        } else if (treat(r)) {
            raised_free(r);
        } else {
            alert_again(r, clock_in(RETRY));
        }
    }
    /* There is no time for mail; what happened is kept to be shown. */
    for (r = alert_end(); r; r = next) {
        next = r->next;
        if (!r->stored)
            store(&r->alert, MOST_KEPT);
        raised_free(r);
    }
}

bool alert_start(const char *serial, struct err *err)
{
    struct repeat_pace pace = alert_pace();
    struct err why = {0};

    str_copy(serial_number, sizeof(serial_number), serial);
    if (!state_txn(resume_topics, &pace.maximum, &why))
        log_warning("%s", why.text);
    return fiber_spawn(loops_get(0), "alerts", alert_fiber, NULL)
               ? true
               : err_set(err, E_LIMIT, "too many fibers");
}
