/* expiry.c - see expiry.h. One fiber looks once an hour and after each commit; what was said is
 * touched by it and by the job it waits for. */
#include "daemon/expiry.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/reload.h"
#include "daemon/served.h"
#include "daemon/state.h"
#include "daemon/worker.h"
#include "store/authorities.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"
#include "store/cert_uses.h"
#include "store/x509.h"

#define DAY (INT64_C(86400) * 1000000)
#define ROUND MINUTES(60)
#define SETTLE SECONDS(2) /* after a commit: several in a row are looked at once */
#define FORGET (400 * DAY)

int expiry_step(usec_t not_after, usec_t now)
{
    static const int steps[] = {15, 30, 60, 90};
    int64_t days = (not_after - now) / DAY;

    if (now >= not_after)
        return EXPIRY_OVER;
    if (days <= 5)
        return (int)days;
    for (size_t i = 0; i < countof(steps); i++)
        if (days <= steps[i])
            return steps[i];
    return EXPIRY_NONE;
}

/* --- what was said --------------------------------------------------------------------------- */

struct said {
    int step;
};
static struct map said; /* fingerprint to struct said */

void expiry_forget(void)
{
    const char *key;
    void *value;
    size_t pos = 0;

    while (map_next(&said, &pos, &key, &value))
        free(value);
    map_free(&said);
}

static int step_of(const char *print)
{
    const struct said *s = map_get(&said, print);

    return s ? s->step : EXPIRY_NONE;
}

static void remember(const char *print, int step)
{
    struct said *s = map_get(&said, print);

    if (!s) {
        s = xcalloc(1, sizeof(*s));
        map_set(&said, print, s);
    }
    s->step = step;
}

static bool load(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *st = writer_stmt("SELECT fingerprint, step FROM expiry", err);

    (void)db;
    (void)arg;
    if (!st)
        return false;
    while (sqlite3_step(st) == SQLITE_ROW)
        remember((const char *)sqlite3_column_text(st, 0), sqlite3_column_int(st, 1));
    return true;
}

bool expiry_load(struct err *err)
{
    expiry_forget();
    return state_txn(load, NULL, err); /* YIELDS */
}

struct record {
    char print[65], *name;
    int step;
    usec_t at;
};

static bool save(sqlite3 *db, void *arg, struct err *err)
{
    const struct record *r = arg;
    sqlite3_stmt *st =
                     writer_stmt("INSERT INTO expiry(fingerprint,name,step,at) VALUES(?1,?2,?3,?4) "
                                 "ON CONFLICT DO UPDATE SET name=?2, step=?3, at=?4",
                                 err),
                 *old = writer_stmt("DELETE FROM expiry WHERE at < ?1", err);

    (void)db;
    if (!st || !old)
        return false;
    sqlite3_bind_text(st, 1, r->print, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, r->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 3, r->step);
    sqlite3_bind_int64(st, 4, r->at);
    sqlite3_bind_int64(old, 1, r->at - FORGET);
    return (sqlite3_step(st) == SQLITE_DONE && sqlite3_step(old) == SQLITE_DONE) ||
           err_set(err, E_IO, "keeping which certificates were reported: %s", sqlite3_errmsg(db));
}

static void saved(void *arg, bool ok)
{
    struct record *r = arg;

    (void)ok; /* the writer has logged it; at worst the alert is repeated after a restart */
    free(r->name);
    free(r);
}

static void keep(const char *print, const char *name, int step, usec_t now)
{
    struct record *r = xcalloc(1, sizeof(*r));

    str_copy(r->print, sizeof(r->print), print);
    r->name = xstrdup(name);
    r->step = step;
    r->at = now;
    remember(print, step);
    state_post(save, saved, r);
}

/* --- one certificate ------------------------------------------------------------------------- */

static enum alert_severity severity_of(int step)
{
    return step == EXPIRY_OVER ? ALERT_CRITICAL : step > 30 ? ALERT_INFO : ALERT_WARNING;
}

/* what: "certificate \"mail\"", where: "It is used by ..." */
static void look_at(const X509 *x, const char *what, const char *where, usec_t now)
{
    struct tm tm = {0};
    char print[65], date[40], key[100], left[40];
    usec_t not_after;
    int step;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
        return;
    not_after = (usec_t)timegm(&tm) * 1000000;
    step = expiry_step(not_after, now);
    authority_fingerprint(x, print);
    if (step >= step_of(print))
        return;
    clock_commit_date(not_after, date);
    snprintf(key, sizeof(key), "expiry %s %d", print, step);
    if (step == 0)
        str_copy(left, sizeof(left), "less than a day");
    else
        snprintf(left, sizeof(left), "%lld day%s", (long long)((not_after - now) / DAY),
                 step == 1 ? "" : "s");
    if (step == EXPIRY_OVER)
        alert_raise(ALERT_SYSTEM, severity_of(step), key, "The %s has expired.\nIt ended on %s. %s",
                    what, date, where);
    else
        alert_raise(ALERT_SYSTEM, severity_of(step), key,
                    "Your %s will expire in %s.\nIt ends on %s. %s", what, left, date, where);
    keep(print, what, step, now);
}

static void look_at_pem(const char *pem, size_t max, const char *what, const char *where,
                        usec_t now)
{
    struct authorities list = {0};

    if (!authorities_read(pem, strlen(pem), max, false, &list, NULL))
        return;
    for (size_t i = 0; i < list.n; i++) {
        char name[AUTHORITY_NAME];
        AUTO(str) char *longer = NULL;

        authority_name(list.items[i], name);
        longer = max > 1 ? xasprintf("intermediate certificate \"%s\" of %s", name, what)
                         : xstrdup(what);
        look_at(list.items[i], longer, where, now);
    }
    authorities_free(&list);
}

/* --- all of them ----------------------------------------------------------------------------- */

struct users {
    const char *profile;
    struct buf text;
    unsigned n;
};

static void add_user(void *arg, const struct cert_use *use)
{
    struct users *u = arg;

    if (str_eq(use->profile, u->profile) && ++u->n <= 6)
        buf_printf(&u->text, "%s%s", u->n > 1 ? ", " : "It is used by ", use->service);
}

/* Whom it serves, as a sentence; "" when nobody uses it. */
static char *users_of(const struct config *cfg, const char *profile)
{
    struct users u = {.profile = profile, .text = BUF_INIT(2000)};

    cert_uses(cfg, add_user, &u);
    if (u.n > 6)
        buf_printf(&u.text, " and %u more", u.n - 6);
    if (u.n)
        buf_char(&u.text, '.');
    return buf_take(&u.text);
}

void expiry_look(const struct config *cfg, usec_t now)
{
    const struct authority_setup *setup = CONFIG_SINGLE(cfg, authority_setup);

    for (size_t i = 0; i < config_count(cfg, &section_certificate); i++) {
        const struct certificate *c = config_at(cfg, &section_certificate, i)->data;
        AUTO(str) char *what = xasprintf("certificate \"%s\"", c->name);
        AUTO(str) char *where = users_of(cfg, c->name);

        if (!*where)
            continue;
        look_at_pem(c->certificate, 1, what, where, now);
        look_at_pem(c->intermediates, X509_MAX_CHAIN, what, where, now);
    }
    for (size_t i = 0; setup->custom_list && i < config_count(cfg, &section_authority); i++) {
        const struct authority *a = config_at(cfg, &section_authority, i)->data;
        AUTO(str) char *what = xasprintf("certificate authority \"%s\"", a->name);

        if (a->enabled)
            look_at_pem(a->certificate, 1, what,
                        "It is in the custom list of certificate authorities.", now);
    }
}

/* --- the fiber ------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct wait *asleep; /* on the fiber's stack; under lock */
static bool committed; /* under lock: while it was not asleep */

static void sleep_until_needed(void)
{
    struct wait w;
    bool at_once;

    wait_init(&w);
    pthread_mutex_lock(&lock);
    at_once = committed;
    committed = false;
    asleep = at_once ? NULL : &w;
    pthread_mutex_unlock(&lock);
    if (!at_once)
        wait_until(&w, clock_in(ROUND), "the next round"); /* YIELDS */
    pthread_mutex_lock(&lock);
    asleep = NULL;
    pthread_mutex_unlock(&lock);
}

static bool look_job(void *arg, struct err *err) /* on a worker: there may be a thousand to parse */
{
    (void)err;
    expiry_look(arg, clock_wall());
    return true;
}

static void round_and_round(void *arg)
{
    struct err err = {0};

    (void)arg;
    fiber_interruptible(true);
    if (!expiry_load(&err)) /* YIELDS */
        log_warning("which certificates were reported is not known: %s", err.text);
    while (fiber_sleep(SETTLE)) { /* YIELDS */
        struct config *cfg = running_config();

        if (cfg)
            worker_call(look_job, cfg, NULL); /* YIELDS */
        config_free(&cfg);
        served_check_all(); /* YIELDS */
        sleep_until_needed();
        if (fiber_stopping())
            break;
    }
    expiry_forget();
}

bool expiry_start(struct err *err)
{
    return fiber_spawn(loops_get(loops_count() - 1), "certificate watch", round_and_round, NULL) ||
           err_set(err, E_LIMIT, "too many sessions");
}

/* --- commits --- */

static void publish(void *state, const struct config *cfg)
{
    (void)state;
    (void)cfg;
    pthread_mutex_lock(&lock);
    committed = true;
    if (asleep) {
        wait_done(asleep);
        asleep = NULL;
        committed = false;
    }
    pthread_mutex_unlock(&lock);
}

const struct reload_part reload_expiry = {.name = "certificate watch", .publish = publish};
