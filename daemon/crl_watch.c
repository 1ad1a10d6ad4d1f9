/* crl_watch.c - when revocation lists are fetched, and who is told how it went; see crl_source.h.
 * One fiber looks at the sources once a minute, after a commit, and when somebody asks; each fetch
 * is a fiber of its own, so that a slow server delays nobody else's list. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/alert.h"
#include "daemon/crl_source.h"
#include "daemon/fiber.h"
#include "daemon/worker.h"
#include "store/base/log.h"

#define ROUND MINUTES(1)
#define SETTLE 200 /* ms after a commit */
#define FIRST_PAUSE MINUTES(5)
#define LONGEST_PAUSE MINUTES(60)
#define MAX_FETCHING 2u /* at a time: each may need 200 MiB for a moment */
#define USEC 1000000

/* --- the schedule ---------------------------------------------------------------------------- */

/* Local time; what the summer leaves out comes as much later. */
static usec_t on_day(const struct tm *today, int ahead, int hour, int minute)
{
    struct tm t = {.tm_year = today->tm_year,
                   .tm_mon = today->tm_mon,
                   .tm_mday = today->tm_mday + ahead,
                   .tm_hour = hour,
                   .tm_min = minute,
                   .tm_isdst = -1};

    return (usec_t)mktime(&t) * USEC;
}

static bool is_day(ctype_choice schedule, const struct tm *today, int ahead)
{
    struct tm t = {.tm_year = today->tm_year,
                   .tm_mon = today->tm_mon,
                   .tm_mday = today->tm_mday + ahead,
                   .tm_hour = 12,
                   .tm_isdst = -1};

    mktime(&t);
    return schedule == CRL_DAILY || (schedule == CRL_WEEKLY ? t.tm_wday == 0 : t.tm_mday == 1);
}

usec_t crl_next_time(ctype_choice schedule, const char *time, usec_t now)
{
    time_t seconds = (time_t)(now / USEC);
    int hour = 0, minute = 0;
    struct tm today;
    usec_t t;

    if (strlen(time) == 5) { /* check_time_of_day */
        hour = (int)strtol(time, NULL, 10);
        minute = (int)strtol(time + 3, NULL, 10);
    }
    localtime_r(&seconds, &today);
    if (schedule == CRL_HOURLY) {
        t = (usec_t)(seconds - today.tm_sec - today.tm_min * 60 + minute * 60) * USEC;
        return t > now ? t : t + INT64_C(3600) * USEC;
    }
    for (int ahead = 0; ahead < 40; ahead++)
        if (is_day(schedule, &today, ahead) && (t = on_day(&today, ahead, hour, minute)) > now)
            return t;
    return now + INT64_C(86400) * USEC; /* the calendar of this machine is beyond us */
}

/* --- how it went ----------------------------------------------------------------------------- */

static msec_t pause_after(unsigned failures)
{
    msec_t pause = failures > 4 ? LONGEST_PAUSE : FIRST_PAUSE << (failures - 1);

    return pause < LONGEST_PAUSE ? pause : LONGEST_PAUSE;
}

static char *key_of(const char *what, const struct source *s)
{
    return xasprintf("crl %s %s", what, s->name);
}

static const char *meanwhile(enum crl_state state)
{
    return state == CRL_CURRENT    ? "The last good list stays in force."
           : state == CRL_OUTDATED ? "The last good list stays in force, but is outdated."
                                   : "There is no list in force.";
}

struct news { /* what is to be said, once the lock is gone */
    bool failed, again;
    enum crl_state state;
    const char *which;
    msec_t pause;
};

/* Under the lock. */
static void take_down(struct source *s, unsigned generation, bool ok, const struct err *err,
                      struct news *n)
{
    n->state = source_state(s, clock_wall());
    n->which = s->set.url2 && *s->set.url2 ? "primary and secondary URL" : "its URL";
    if (ok) {
        s->failures = 0;
        s->failure[0] = '\0';
        s->wanted &= s->generation != generation; /* another commit came meanwhile */
        n->again = s->told_failure;
        s->told_failure = false;
        return;
    }
    s->failures++;
    str_copy(s->failure, sizeof(s->failure), err->text);
    s->failed_at = clock_wall();
    s->wanted = s->generation != generation || s->set.auto_update || !s->list;
    n->pause = pause_after(s->failures);
    if (s->generation == generation)
        s->retry = clock_in(n->pause);
    n->failed = s->failures >= 2 || n->state != CRL_CURRENT || s->refused;
    s->told_failure |= n->failed;
}

void crl_fetched(struct source *s, unsigned generation, bool ok, const struct err *err)
{
    AUTO(str) char *key = key_of("fetch", s), *again = key_of("again", s);
    struct news n = {0};
    bool gone;

    crl_lock();
    gone = s->gone || !s->set.enabled;
    if (!gone)
        take_down(s, generation, ok, err, &n);
    crl_unlock();
    if (gone)
        return;
    if (!ok)
        log_warning("crl: %s was not updated: %s", s->name, err->text);
    if (n.failed)
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                    "CRL source \"%s\": update failed from %s.\n%s\n%s", s->name, n.which,
                    err->text, meanwhile(n.state));
    if (n.again)
        alert_raise(ALERT_SYSTEM, ALERT_INFO, again, "CRL source \"%s\" was updated again.",
                    s->name);
}

/* --- what is due ----------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct wait *asleep; /* on the fiber's stack; under lock */
static bool woken; /* under lock: while it was not asleep */
static atomic_uint fetching;

void crl_wake(void)
{
    pthread_mutex_lock(&lock);
    woken = true;
    if (asleep) {
        wait_done(asleep);
        asleep = NULL;
        woken = false;
    }
    pthread_mutex_unlock(&lock);
}

/* YIELDS. s is marked busy. */
static bool fetch_now(struct source *s, bool *unchanged, struct err *err)
{
    unsigned generation;
    bool ok;

    crl_lock();
    generation = s->generation;
    crl_unlock();
    ok = crl_fetch(s, unchanged, err); /* YIELDS */
    if (ok || err->code != E_CLOSED)
        crl_fetched(s, generation, ok, err);
    crl_lock();
    s->busy = false;
    crl_unlock();
    crl_wake();
    return ok;
}

static bool unref_job(void *arg, struct err *err)
{
    (void)err;
    source_unref(arg);
    return true;
}

static void fetch_fiber(void *arg)
{
    struct source *s = arg;
    struct err err = {0};
    bool unchanged;

    fiber_interruptible(true);
    fetch_now(s, &unchanged, &err); /* YIELDS */
    worker_call(unref_job, s, NULL); /* YIELDS */
    atomic_fetch_sub(&fetching, 1);
    crl_wake();
}

static void start_fetch(struct source *s) /* has its own reference and is busy */
{
    atomic_fetch_add(&fetching, 1);
    if (fiber_spawn(loop_self(), "crl fetch", fetch_fiber, s))
        return;
    atomic_fetch_sub(&fetching, 1);
    crl_lock();
    s->busy = false;
    s->retry = clock_in(ROUND);
    crl_unlock();
    source_unref(s);
}

/* Under the lock. */
static bool is_due(struct source *s, usec_t now)
{
    if (!s->set.enabled)
        return false;
    if (s->next && now >= s->next) {
        s->next = crl_next_time(s->set.schedule, s->set.time, now);
        s->wanted = true;
        s->retry = 0;
    }
    return s->wanted && !s->busy && clock_now() >= s->retry;
}

/* Under the lock. true: it has just become outdated. */
static bool has_ended(struct source *s, usec_t now)
{
    bool outdated = source_state(s, now) == CRL_OUTDATED, ended = outdated && !s->told_outdated;

    if (outdated && !s->outdated && s->set.auto_update) {
        s->wanted = true;
        s->retry = 0;
    }
    s->outdated = outdated;
    s->told_outdated = outdated;
    return ended;
}

static void tell_outdated(const struct source *s, bool refuse)
{
    AUTO(str) char *key = key_of("outdated", s);

    log_warning("crl: %s: the list in force is outdated", s->name);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "The certificate revocation list \"%s\" is outdated.\n%s", s->name,
                refuse ? "Certificates that it is about are refused until there is a newer one."
                       : "It is used as if it were in date; what was revoked since is not known.");
}

#define MANY 64u

/* What is found in one look; more comes with the next one, at once. */
struct look {
    struct source *due[MAX_FETCHING], *ended[MANY];
    unsigned n_due, n_ended;
    bool refuse;
};

void crl_look(usec_t now)
{
    struct look *l = xcalloc(1, sizeof(*l));
    struct source **all;
    size_t n;

    crl_lock();
    all = crl_sources(&n);
    for (size_t i = 0; i < n; i++) {
        if (l->n_ended < MANY && has_ended(all[i], now))
            l->ended[l->n_ended++] = source_ref(all[i]);
        if (is_due(all[i], now) && l->n_due + atomic_load(&fetching) < MAX_FETCHING) {
            all[i]->busy = true;
            l->due[l->n_due++] = source_ref(all[i]);
        }
    }
    l->refuse = crl_refuses();
    crl_unlock();
    for (unsigned i = 0; i < l->n_ended; i++) {
        tell_outdated(l->ended[i], l->refuse);
        source_unref(l->ended[i]);
    }
    for (unsigned i = 0; i < l->n_due; i++)
        start_fetch(l->due[i]);
    free(l);
}

/* --- the fiber ------------------------------------------------------------------------------- */

/* Until something ends or is due, but not longer than a round. */
static msec_t next_look(void)
{
    msec_t at = clock_in(ROUND);
    usec_t now = clock_wall();
    struct source **all;
    size_t n;

    crl_lock();
    all = crl_sources(&n);
    for (size_t i = 0; i < n; i++) {
        const struct source *s = all[i];
        usec_t ends = s->list ? crl_ends(s->list) : 0;

        if (s->set.enabled && s->next && clock_in((s->next - now) / 1000 + 1) < at)
            at = clock_in((s->next - now) / 1000 + 1);
        if (ends > now && clock_in((ends - now) / 1000 + 1) < at)
            at = clock_in((ends - now) / 1000 + 1);
    }
    crl_unlock();
    return at;
}

static void sleep_until_needed(void)
{
    msec_t at = next_look();
    struct wait w;
    bool at_once;

    wait_init(&w);
    pthread_mutex_lock(&lock);
    at_once = woken;
    woken = false;
    asleep = at_once ? NULL : &w;
    pthread_mutex_unlock(&lock);
    if (!at_once)
        wait_until(&w, at, "the next round"); /* YIELDS */
    pthread_mutex_lock(&lock);
    asleep = NULL;
    pthread_mutex_unlock(&lock);
}

/* Files of sources that are gone; lists of sources that were switched on again. */
static bool disk_job(void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    crl_tidy();
    crl_load_kept();
    return true;
}

static void round_and_round(void *arg)
{
    (void)arg;
    fiber_interruptible(true);
    while (!fiber_stopping()) {
        worker_call(disk_job, NULL, NULL); /* YIELDS */
        crl_look(clock_wall());
        sleep_until_needed(); /* YIELDS */
        if (!fiber_sleep(SETTLE)) /* YIELDS */
            break;
    }
}

void crl_run(void)
{
    if (!fiber_spawn(loops_get(loops_count() - 1), "crl watch", round_and_round, NULL))
        log_critical("crl: revocation lists are not fetched: too many sessions");
}

/* --- the console ----------------------------------------------------------------------------- */

/* Under the lock: marks it busy, unless it is. */
static struct source *claim(const char *name, bool *busy, struct err *err)
{
    struct source **all, *s = NULL;
    size_t n;

    all = crl_sources(&n);
    for (size_t i = 0; i < n && !s; i++)
        if (str_eq(all[i]->name, name))
            s = all[i];
    if (!s) {
        err_set(err, E_NOT_FOUND, "There is no CRL source \"%s\" in the running configuration.",
                str_printable(name));
        return NULL;
    }
    if (!s->set.enabled) {
        err_set(err, E_INVALID, "CRL source \"%s\" is disabled.", s->name);
        return NULL;
    }
    *busy = s->busy;
    s->busy = true;
    return source_ref(s);
}

/* YIELDS */
static bool wait_for_fetch(struct source *s, struct err *err)
{
    bool busy, ok;

    do {
        if (!fiber_sleep(100)) /* YIELDS */
            return err_set(err, E_CLOSED, "The gateway is stopping.");
        crl_lock();
        busy = s->busy;
        ok = !s->failure[0];
        if (!busy && !ok)
            err_set(err, E_INVALID, "%s", s->failure);
        crl_unlock();
    } while (busy);
    return ok;
}

bool crl_update(const char *name, bool *unchanged, struct err *err)
{
    struct source *s;
    bool busy, ok;

    *unchanged = false;
    crl_lock();
    s = claim(name, &busy, err);
    crl_unlock();
    if (!s)
        return false;
    ok = busy ? wait_for_fetch(s, err) : fetch_now(s, unchanged, err); /* YIELDS */
    worker_call(unref_job, s, NULL); /* YIELDS */
    return ok;
}
