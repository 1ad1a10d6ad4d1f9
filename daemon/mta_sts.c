/* mta_sts.c - see mta_sts.h. The table of policies has one mutex and a row in state.db for each
 * policy; what is remembered about failures is in memory only.
 *
 * What surprises: a failed look-up of the record, of the policy, or both, never takes away a policy
 * that is in date (RFC 8461 section 3.3): that is all an attacker on the path could bring about.
 * And with none cached, failing to get one is having none: who can block the fetch of the policy,
 * which the RFC says means "no policy", gains nothing by blocking the record as well, while holding
 * the mail would let every broken _mta-sts zone stop it. Operators who see that otherwise say so in
 * stspolicies > setup. */
#include "daemon/mta_sts.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/http.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/state.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/net.h"

#define MAX_POLICIES 50000u /* domains with a policy; the least recently used goes first */
#define MAX_BYTES                                                                                  \
    ((size_t)64 << 20) /* of all patterns: a policy larger than its share goes first */
#define HEAP_OVERHEAD 16u /* of one pattern */
#define MAX_OTHERS                                                                                 \
    20000u /* domains of which only an answer of the DNS or a failure is remembered */
#define HOURS(n) MINUTES((n)*60)
#define DAY HOURS(24)
#define UNUSED (180 * DAY) /* then a policy is not worth refreshing any more */
#define RECORD_TIME SECONDS(10) /* for the TXT record; mail waits for it */
#define RECORD_KEPT SECONDS(60) /* at most, and never longer than the TTL */
#define FETCH_TIME SECONDS(60) /* RFC 8461 section 3.3 */
#define FIRST_PAUSE MINUTES(5)
#define LEAST_AGE                                                                                  \
    60u /* seconds; a policy of max_age 0 serves one burst of mail, not one message                \
         */
#define REFRESH_TURN SECONDS(10) /* how often the table is looked through */
#define MAX_REFRESHING 32u
#define MAX_ALERTS 10u /* an hour */
#define WHY_TEXT 160

enum record_kind { RECORD_UNKNOWN, RECORD_VALID, RECORD_NONE, RECORD_INVALID, RECORD_FAILED };
struct record { /* what the DNS said last */
    enum record_kind kind;
    msec_t until; /* not asked again before */
    char id[33];
    char why[WHY_TEXT];
};

struct flight; /* a fetch that is under way */

struct domain {
    struct list lru; /* of policies or of others, the last used first */
    char *name;
    struct sts_policy *policy;
    usec_t used, used_saved;
    msec_t refresh; /* when the policy is fetched again unasked; 0: never */
    unsigned refresh_failures;
    struct record record;
    char failed_id[33]; /* "": the last fetch went well */
    char failure[WHY_TEXT];
    msec_t retry;
    unsigned failures; /* in a row, under failed_id */
    uint64_t failed_with; /* these settings; others may do better */
    struct flight *flight;
};

/* One fiber that waits for a flight; shared with the flight, either may leave first. */
struct waiter {
    int refs;
    struct waiter *next;
    struct wait wait;
    bool ok;
    struct err err;
};
struct flight {
    char name[256];
    char id[33];
    bool refresh; /* nobody asked: the record is looked up first */
    struct waiter *waiters;
};

static struct {
    pthread_mutex_t lock;
    struct map domains;
    struct list policies, others;
    unsigned n_policies, n_others;
    size_t bytes; /* of patterns */
    unsigned refreshing;
    msec_t alerts_since;
    unsigned alerts; /* since then */
} sts = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .policies = LIST_INIT(sts.policies),
         .others = LIST_INIT(sts.others)};

/* --- state.db --- */

struct saved {
    char *domain, *id, *policy;
    usec_t fetched, used;
};

static void saved_free(void *arg, bool ok)
{
    struct saved *s = arg;

    (void)ok; /* the writer has logged it; what is not saved is fetched again after a restart */
    free(s->domain);
    free(s->id);
    free(s->policy);
    free(s);
}

static bool run(sqlite3_stmt *st, struct err *err)
{
    return st && (sqlite3_step(st) == SQLITE_DONE ||
                  err_set(err, E_IO, "%s", sqlite3_errmsg(sqlite3_db_handle(st))));
}

static bool save_row(sqlite3 *db, void *arg, struct err *err)
{
    struct saved *s = arg;
    sqlite3_stmt *st =
        writer_stmt("INSERT OR REPLACE INTO sts_policy (domain, id, policy, fetched, used)"
                    " VALUES (?1, ?2, ?3, ?4, ?5)",
                    err);

    (void)db;
    if (!st)
        return false;
    sqlite3_bind_text(st, 1, s->domain, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, s->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, s->policy, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 4, s->fetched);
    sqlite3_bind_int64(st, 5, s->used);
    return run(st, err);
}

static bool save_use(sqlite3 *db, void *arg, struct err *err)
{
    struct saved *s = arg;
    sqlite3_stmt *st = writer_stmt("UPDATE sts_policy SET used = ?2 WHERE domain = ?1", err);

    (void)db;
    if (!st)
        return false;
    sqlite3_bind_text(st, 1, s->domain, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, s->used);
    return run(st, err);
}

static bool drop_row(sqlite3 *db, void *arg, struct err *err)
{
    struct saved *s = arg;
    sqlite3_stmt *st = writer_stmt("DELETE FROM sts_policy WHERE domain = ?1", err);

    (void)db;
    if (!st)
        return false;
    sqlite3_bind_text(st, 1, s->domain, -1, SQLITE_STATIC);
    return run(st, err);
}

static struct saved *saved_of(const struct domain *d)
{
    struct saved *s = xcalloc(1, sizeof(*s));

    s->domain = xstrdup(d->name);
    s->used = d->used;
    return s;
}

/* --- the table; its mutex is held --- */

static size_t patterns(const struct sts_policy *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->mx.n; i++)
        n += sizeof(char *) + strlen(p->mx.items[i]) + 1 + HEAP_OVERHEAD;
    return n;
}

static usec_t ends(const struct sts_policy *p)
{
    unsigned age = p->max_age < LEAST_AGE ? LEAST_AGE : p->max_age;

    return p->fetched + (usec_t)age * 1000000;
}

static bool in_date(const struct domain *d)
{
    return d && d->policy && clock_wall() < ends(d->policy);
}

static void put_first(struct domain *d)
{
    list_remove(&d->lru);
    list_add_head(d->policy ? &sts.policies : &sts.others, &d->lru);
}

static void set_policy(struct domain *d, struct sts_policy *p)
{
    bool moves = !d->policy != !p;

    if (d->policy) {
        sts.bytes -= patterns(d->policy);
        sts.n_policies--;
    } else {
        sts.n_others--;
    }
    sts_policy_free(&d->policy);
    d->policy = p;
    if (p) {
        sts.bytes += patterns(p);
        sts.n_policies++;
    } else {
        sts.n_others++;
        d->refresh = 0;
    }
    if (moves) /* being refreshed is not being used */
        put_first(d);
}

static void forget(struct domain *d)
{
    set_policy(d, NULL);
    sts.n_others--;
    list_remove(&d->lru);
    map_remove(&sts.domains, d->name);
    free(d->name);
    free(d);
}

/* The last one with more than so many bytes of patterns. false: all that are left are being
 * fetched.
 */
static bool forget_last(struct list *head, bool saved, size_t more_than)
{
    for (struct list *node = head->prev; node != head; node = node->prev) {
        struct domain *d = list_item(node, struct domain, lru);

        if (d->flight || (more_than && patterns(d->policy) <= more_than))
            continue;
        if (saved)
            state_post(drop_row, saved_free, saved_of(d));
        forget(d);
        return true;
    }
    return false;
}

/* Whoever lets us write to a thousand domains of his, each with as long a policy as there may be,
 * must not drive out the policies of others: when memory runs out, some policy has more than its
 * share. */
static void make_room(void)
{
    while (sts.n_policies > MAX_POLICIES && forget_last(&sts.policies, true, 0))
        ;
    while (sts.bytes > MAX_BYTES && forget_last(&sts.policies, true, MAX_BYTES / MAX_POLICIES))
        ;
    while (sts.n_others > MAX_OTHERS && forget_last(&sts.others, false, 0))
        ;
}

static struct domain *find(const char *name)
{
    return map_get(&sts.domains, name);
}

static struct domain *find_or_add(const char *name)
{
    struct domain *d = find(name);

    if (d)
        return d;
    d = xcalloc(1, sizeof(*d));
    d->name = xstrdup(name);
    d->used = clock_wall();
    list_init(&d->lru);
    sts.n_others++;
    put_first(d);
    map_set(&sts.domains, name, d);
    make_room(); /* the new one is the first of its list */
    return d;
}

static void note_use(struct domain *d)
{
    d->used = clock_wall();
    put_first(d);
    if (d->policy && d->used - d->used_saved > DAY * 1000) {
        d->used_saved = d->used;
        state_post(save_use, saved_free, saved_of(d));
    }
}

/* Once a day, spread over four hours, and well before the policy ends. What lives for less than an
 * hour and a half is only fetched when it is asked for; mode none has ended. */
static msec_t next_refresh(const struct sts_policy *p, msec_t age)
{
    msec_t life = SECONDS((msec_t)p->max_age), at = DAY - HOURS(2);
    unsigned random = 0;

    if (p->mode == STS_MODE_NONE)
        return 0;
    RAND_bytes((unsigned char *)&random, sizeof(random));
    at += random % HOURS(4);
    if (at > life / 4 * 3)
        at = life / 4 * 3 - (msec_t)(random % (unsigned)(life / 8 + 1));
    return at < HOURS(1) ? 0 : clock_now() + (at > age ? at - age : (msec_t)(random % MINUTES(10)));
}

static msec_t pause_after(unsigned failures)
{
    return failures > 8 ? DAY : FIRST_PAUSE << (failures - 1); /* 5, 10, ... 640 minutes */
}

/* --- the record --- */

static void record_from_dns(const char *name, msec_t deadline, struct record *r)
{
    char query[300];
    struct dns_texts texts = {0};
    struct err err = {0};
    msec_t kept = RECORD_KEPT;

    snprintf(query, sizeof(query), "_mta-sts.%s", name);
    if (deadline > clock_in(RECORD_TIME))
        deadline = clock_in(RECORD_TIME);
    if (strlen(query) > 253) {
        r->kind = RECORD_NONE;
        snprintf(err.text, sizeof(err.text), "the name of the record would be too long");
    } else if (!dns_txt(query, deadline, &texts, &err)) { /* YIELDS */
        r->kind = RECORD_FAILED;
        maillog_dns_failure(query, "TXT", dns_status_name(texts.status));
    } else {
        if (SECONDS((msec_t)texts.ttl) < kept)
            kept = SECONDS((msec_t)texts.ttl);
        if (sts_parse_record((const char *const *)texts.texts.items, (unsigned)texts.texts.n, r->id,
                             &err))
            r->kind = RECORD_VALID;
        else
            r->kind = err.code == E_NOT_FOUND ? RECORD_NONE : RECORD_INVALID;
    }
    str_copy(r->why, sizeof(r->why), str_printable(err.text));
    r->until = clock_in(kept);
    dns_texts_free(&texts);
}

/* YIELDS. Asks the DNS unless its last answer still holds. A failure is remembered too: a zone that
 * does not answer would make every message wait. */
static void find_record(const char *name, msec_t deadline, struct record *r)
{
    struct domain *d;
    bool known;

    pthread_mutex_lock(&sts.lock);
    d = find(name);
    known = d && d->record.kind != RECORD_UNKNOWN && d->record.until > clock_now();
    if (known)
        *r = d->record;
    pthread_mutex_unlock(&sts.lock);
    if (!known) {
        record_from_dns(name, deadline, r); /* YIELDS */
        if (r->kind == RECORD_INVALID)
            maillog_debug("MTA-STS TXT records of the domain (%s): %s", name, r->why);
        if (r->until > clock_now() && !fiber_stopping()) {
            pthread_mutex_lock(&sts.lock);
            find_or_add(name)->record = *r;
            pthread_mutex_unlock(&sts.lock);
        }
    }
    if (r->kind == RECORD_VALID)
        maillog_sts_record(name);
    else if (r->kind != RECORD_FAILED)
        maillog_sts_record_error(name);
}

/* --- fetching --- */

/* The policy as the web server has it now; body is the text of it. YIELDS */
static struct sts_policy *fetch(const char *name, struct buf *body, struct err *err)
{
    char *url = xasprintf("https://mta-sts.%s/.well-known/mta-sts.txt", name);
    const struct http_request request = {.url = url,
                                         .type = "text/plain",
                                         .max_bytes = STS_MAX_POLICY,
                                         .deadline = clock_in(FETCH_TIME)};
    struct http_answer answer;
    struct sts_policy *p = NULL;

    maillog_debug("Fetch MTA-STS policy for the domain(%s)", name);
    if (http_uses_proxy())
        maillog_debug("Requesting MTA-STS policy fetch through proxy");
    if (http_get(&request, &answer, err)) {
        p = sts_parse_policy(answer.body.p, answer.body.n, err);
        if (!p)
            err_wrap(err, "invalid policy");
    }
    free(url);
    *body = answer.body;
    return p;
}

static void keep_policy(struct flight *f, struct sts_policy *p, struct buf *body)
{
    struct saved *s = xcalloc(1, sizeof(*s));
    struct domain *d;

    str_copy(p->id, sizeof(p->id), f->id);
    p->fetched = clock_wall();
    s->domain = xstrdup(f->name);
    s->id = xstrdup(f->id);
    s->policy = buf_take(body);
    s->fetched = p->fetched;
    pthread_mutex_lock(&sts.lock);
    d = find_or_add(f->name);
    set_policy(d, p);
    d->refresh = next_refresh(p, 0);
    d->refresh_failures = d->failures = 0;
    *d->failed_id = *d->failure = '\0';
    s->used = d->used_saved = d->used;
    make_room();
    pthread_mutex_unlock(&sts.lock);
    state_post(save_row, saved_free, s);
    maillog_sts_fetched(f->name);
    maillog_debug("MTA-STS Cache entry added for the domain (%s).", f->name);
}

/* One alert for each domain, but not thousands when the trouble is our own. */
static void tell(const char *name, const char *why)
{
    char *key = xasprintf("mta-sts %s", name);
    unsigned n;

    log_warning("mta-sts: the policy of %s cannot be renewed: %s", name, why);
    pthread_mutex_lock(&sts.lock);
    if (sts.alerts_since + HOURS(1) <= clock_now()) {
        sts.alerts_since = clock_now();
        sts.alerts = 0;
    }
    n = ++sts.alerts;
    pthread_mutex_unlock(&sts.lock);
    if (n <= MAX_ALERTS)
        alert_raise(
            ALERT_DELIVERY, ALERT_WARNING, key,
            "The MTA-STS policy of %s cannot be renewed: %s\nThe policy that is cached stays in "
            "force until it expires.",
            name, why);
    else if (n == MAX_ALERTS + 1)
        alert_raise(ALERT_DELIVERY, ALERT_WARNING, "mta-sts",
                    "The MTA-STS policies of many domains cannot be renewed, that of %s for one: "
                    "%s\nThe command stspolicies lists them.",
                    name, why);
    free(key);
}

/* The administrators learn of a policy that is in force and cannot be renewed: when it ends, so
 * does the protection (RFC 8461 section 3.3). A first failure is between us and that domain. */
static void note_failure(const struct flight *f, const struct err *err)
{
    uint64_t settings = http_settings_id();
    bool had_policy, a_day = false;
    struct domain *d;

    pthread_mutex_lock(&sts.lock);
    d = find_or_add(f->name);
    if (!str_eq(d->failed_id, f->id)) {
        str_copy(d->failed_id, sizeof(d->failed_id), f->id);
        d->failures = 0;
    }
    d->failures++;
    d->retry = clock_in(pause_after(d->failures));
    d->failed_with = settings;
    a_day = pause_after(d->failures) == DAY;
    str_copy(d->failure, sizeof(d->failure), err->text);
    had_policy = in_date(d) && d->policy->mode != STS_MODE_NONE;
    if (had_policy)
        d->refresh = clock_in(pause_after(++d->refresh_failures + 3)); /* from 40 minutes */
    pthread_mutex_unlock(&sts.lock);
    maillog_debug("Request to fetch STS policy failed due to %s. For domain %s", err->text,
                  f->name);
    maillog_sts_fetch_failed(f->name);
    if (a_day)
        maillog_sts_paused();
    if (had_policy)
        tell(f->name, err->text);
}

static struct waiter *waiter_new(void)
{
    struct waiter *w = xcalloc(1, sizeof(*w));

    w->refs = 1;
    wait_init(&w->wait);
    return w;
}

/* With the mutex held. */
static void waiter_unref(struct waiter *w)
{
    if (--w->refs == 0)
        free(w);
}

static void land(struct flight *f, bool ok, const struct err *err)
{
    struct domain *d;
    struct waiter *w, *next;

    pthread_mutex_lock(&sts.lock);
    d = find(f->name);
    if (d && d->flight == f)
        d->flight = NULL;
    for (w = f->waiters; w; w = next) {
        next = w->next;
        w->ok = ok;
        w->err = *err;
        wait_done(&w->wait);
        waiter_unref(w);
    }
    if (f->refresh)
        sts.refreshing--;
    pthread_mutex_unlock(&sts.lock);
    free(f);
}

/* A refresh takes the id that is published now; when there is none any more, the policy keeps its
 * own. */
static void renew_id(struct flight *f)
{
    struct record r = {0};

    record_from_dns(f->name, clock_in(RECORD_TIME), &r); /* YIELDS */
    if (r.kind == RECORD_VALID)
        str_copy(f->id, sizeof(f->id), r.id);
}

static void fly(void *arg)
{
    struct flight *f = arg;
    struct buf body = BUF_INIT(0);
    struct sts_policy *p;
    struct err err = {0};

    fiber_interruptible(true); /* a gateway that stops does not wait for somebody's web server */
    if (f->refresh)
        renew_id(f); /* YIELDS */
    p = fetch(f->name, &body, &err); /* YIELDS */
    if (p)
        keep_policy(f, p, &body);
    else if (fiber_stopping())
        err_set(&err, E_CLOSED, "the gateway is stopping");
    else
        note_failure(f, &err);
    buf_free(&body);
    land(f, p != NULL, &err);
}

/* With the mutex held. */
static struct flight *flight_new(struct domain *d, const char *id, bool refresh)
{
    struct flight *f = xcalloc(1, sizeof(*f));

    str_copy(f->name, sizeof(f->name), d->name);
    str_copy(f->id, sizeof(f->id), id);
    f->refresh = refresh;
    d->flight = f;
    return f;
}

static void take_off(struct flight *f)
{
    struct loop *l = loop_self();
    struct err err = {0};
    char name[48];

    if (!l && loops_count())
        l = loops_next();
    snprintf(name, sizeof(name), "mta-sts %.38s", f->name);
    if (!l) {
        fly(f);
    } else if (!fiber_spawn(l, name, fly, f)) {
        err_set(&err, E_BUSY, "too many sessions");
        land(f, false, &err);
    }
}

/* YIELDS. Fetches, or waits for the fetch that is under way; false: it failed, or is not done in
 * time. */
static bool fetch_once(const char *name, const char *id, msec_t deadline, struct err *err)
{
    struct waiter *w = waiter_new();
    struct flight *fresh = NULL;
    struct domain *d;
    bool ok;

    pthread_mutex_lock(&sts.lock);
    d = find_or_add(name);
    if (!d->flight)
        fresh = flight_new(d, id, false);
    w->refs++;
    w->next = d->flight->waiters;
    d->flight->waiters = w;
    pthread_mutex_unlock(&sts.lock);
    if (fresh)
        take_off(fresh);
    ok = wait_until(&w->wait, deadline, "MTA-STS policy"); /* YIELDS */
    if (!ok && fiber_stopping())
        err_set(err, E_CLOSED, "the gateway is stopping");
    else if (!ok)
        err_set(err, E_TIMEOUT, "the policy was not there in time");
    pthread_mutex_lock(&sts.lock);
    if (ok && !w->ok)
        *err = w->err;
    ok = ok && w->ok;
    waiter_unref(w);
    pthread_mutex_unlock(&sts.lock);
    return ok;
}

/* --- looking up --- */

static bool defers(void)
{
    struct config *cfg = running_config();
    bool yes = cfg && CONFIG_SINGLE(cfg, mta_sts_setup)->lookup_error == STS_ERROR_DEFER;

    config_free(&cfg);
    return yes;
}

static void answer(struct sts *out, enum sts_state state, const char *why)
{
    out->state = state;
    str_copy(out->why, sizeof(out->why), why);
}

/* With the mutex held. */
static bool answer_policy(struct sts *out, struct domain *d)
{
    if (!in_date(d))
        return false;
    note_use(d);
    out->policy = sts_policy_ref(d->policy);
    out->state = d->policy->mode;
    return true;
}

enum decision { DECIDED, MUST_FETCH };

/* What the cache says about a domain whose record is r. With no valid record a cached policy stays
 * in force until it ends. */
static enum decision from_cache(const char *name, const struct record *r, struct sts *out)
{
    uint64_t settings = http_settings_id();
    enum decision result = DECIDED;
    struct domain *d;

    pthread_mutex_lock(&sts.lock);
    d = find(name);
    if (in_date(d) && (r->kind != RECORD_VALID || str_eq(d->policy->id, r->id)))
        answer_policy(out, d);
    else if (r->kind != RECORD_VALID)
        answer(out, STS_NO_RECORD, r->why);
    else if (!d || !str_eq(d->failed_id, r->id) || d->retry <= clock_now() ||
             d->failed_with != settings)
        result = MUST_FETCH;
    else if (!answer_policy(out, d))
        answer(out, STS_NO_POLICY, d->failure);
    pthread_mutex_unlock(&sts.lock);
    return result;
}

static void after_fetch(const char *name, const struct err *err, struct sts *out)
{
    pthread_mutex_lock(&sts.lock);
    if (!answer_policy(out, find(name)))
        answer(out, err->code == E_CLOSED || err->code == E_BUSY ? STS_FAILED : STS_NO_POLICY,
               err->text); /* what is our own fault proves nothing about the domain */
    pthread_mutex_unlock(&sts.lock);
}

void mta_sts_look_up(const char *domain, msec_t deadline, struct sts *out)
{
    struct record r = {0};
    struct err err = {0};
    struct addr literal;
    char name[256];

    *out = (struct sts){.state = STS_NO_RECORD};
    if (addr_parse(domain, &literal) || !domain_to_ascii(domain, name, sizeof(name), NULL)) {
        answer(out, STS_NO_RECORD, "only domains have policies");
        return;
    }
    find_record(name, deadline, &r); /* YIELDS */
    if (from_cache(name, &r, out) == MUST_FETCH) {
        fetch_once(name, r.id, deadline, &err); /* YIELDS */
        after_fetch(name, &err, out);
        return;
    }
    out->cached = out->policy != NULL;
    if (out->cached)
        maillog_debug("Valid cache entry found for the domain (%s).", name);
    else if (r.kind == RECORD_FAILED && (fiber_stopping() || defers()))
        out->state = STS_FAILED; /* a lookup that shutdown cut off says nothing either */
}

/* --- for the console --- */

static usec_t wall_of(msec_t at)
{
    return at ? clock_wall() + (at - clock_now()) * 1000 : 0;
}

static struct sts_info info_of(const struct domain *d)
{
    return (struct sts_info){.domain = d->name,
                             .policy = d->policy,
                             .used = d->used,
                             .refresh = wall_of(d->refresh),
                             .failed_id = d->failed_id,
                             .failure = d->failure,
                             .retry = *d->failed_id ? wall_of(d->retry) : 0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct domain *const *)a)->name, (*(struct domain *const *)b)->name);
}

/* Domains of which nothing but "no record" is remembered are of no interest. */
static bool worth_showing(const struct domain *d)
{
    return d->policy || *d->failed_id;
}

void mta_sts_list(const char *after, bool (*fn)(const struct sts_info *i, void *arg), void *arg)
{
    struct domain **all;
    const char *name;
    size_t pos = 0, n = 0;
    void *value;

    pthread_mutex_lock(&sts.lock);
    all = xcalloc(sts.domains.n + 1, sizeof(struct domain *));
    while (map_next(&sts.domains, &pos, &name, &value))
        if (worth_showing(value) && (!after || strcmp(name, after) > 0))
            all[n++] = value;
    qsort(all, n, sizeof(struct domain *), by_name);
    for (size_t i = 0; i < n; i++) {
        struct sts_info info = info_of(all[i]);

        if (!fn(&info, arg))
            break;
    }
    free(all);
    pthread_mutex_unlock(&sts.lock);
}

bool mta_sts_show(const char *domain, void (*fn)(const struct sts_info *i, void *arg), void *arg)
{
    char name[256];
    struct domain *d;
    bool found;

    if (!domain_to_ascii(domain, name, sizeof(name), NULL))
        return false;
    pthread_mutex_lock(&sts.lock);
    d = find(name);
    found = d && worth_showing(d);
    if (found) {
        struct sts_info info = info_of(d);

        fn(&info, arg);
    }
    pthread_mutex_unlock(&sts.lock);
    return found;
}

bool mta_sts_refresh(const char *domain, msec_t deadline, struct err *err)
{
    struct record r = {0};
    struct domain *d;
    char name[256];

    if (!domain_to_ascii(domain, name, sizeof(name), err))
        return false;
    record_from_dns(name, deadline, &r); /* YIELDS */
    pthread_mutex_lock(&sts.lock);
    d = find(name);
    if (d)
        d->record = r;
    if (r.kind != RECORD_VALID && d && d->policy)
        str_copy(r.id, sizeof(r.id), d->policy->id);
    pthread_mutex_unlock(&sts.lock);
    if (!*r.id)
        return err_set(err, r.kind == RECORD_FAILED ? E_DNS : E_NOT_FOUND, "_mta-sts.%s: %s", name,
                       r.why);
    return fetch_once(name, r.id, deadline, err); /* YIELDS */
}

static unsigned flush_one(struct domain *d)
{
    bool was = worth_showing(d);

    if (d->policy)
        state_post(drop_row, saved_free, saved_of(d));
    if (d->flight) { /* what is being fetched will be news */
        set_policy(d, NULL);
        d->record.kind = RECORD_UNKNOWN;
        *d->failed_id = '\0';
    } else {
        forget(d);
    }
    return was;
}

unsigned mta_sts_flush(const char *domain)
{
    const char *key;
    char name[256];
    unsigned n = 0;
    size_t pos = 0;
    void *value;

    if (domain && !domain_to_ascii(domain, name, sizeof(name), NULL))
        return 0;
    pthread_mutex_lock(&sts.lock);
    if (domain && find(name))
        n = flush_one(find(name));
    while (!domain && map_next(&sts.domains, &pos, &key, &value))
        n += flush_one(value);
    pthread_mutex_unlock(&sts.lock);
    return n;
}

/* --- refreshing --- */

/* With the mutex held. */
static bool is_due(const struct domain *d)
{
    return d->refresh && d->refresh <= clock_now() && !d->flight;
}

static void drop_old(struct domain *d)
{
    if (d->flight || (in_date(d) && clock_wall() - d->used < UNUSED * 1000))
        return;
    state_post(drop_row, saved_free, saved_of(d));
    set_policy(d, NULL);
}

void mta_sts_refresh_due(void)
{
    struct flight *flights[MAX_REFRESHING];
    unsigned n = 0;
    const char *name;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&sts.lock);
    while (map_next(&sts.domains, &pos, &name, &value)) {
        struct domain *d = value;

        if (!d->policy)
            continue;
        drop_old(d);
        if (d->policy && sts.refreshing < MAX_REFRESHING && is_due(d)) {
            flights[n++] = flight_new(d, d->policy->id, true);
            sts.refreshing++;
        }
    }
    pthread_mutex_unlock(&sts.lock);
    for (unsigned i = 0; i < n; i++)
        take_off(flights[i]);
}

static void refresh_for_ever(void *arg)
{
    (void)arg;
    while (fiber_sleep(REFRESH_TURN)) /* YIELDS; false: the gateway stops */
        mta_sts_refresh_due();
}

/* --- start and end --- */

static void load_one(const char *name, const char *id, const char *body, usec_t fetched,
                     usec_t used)
{
    usec_t now = clock_wall();
    struct err err = {0};
    struct sts_policy *p = sts_parse_policy(body, strlen(body), &err);
    struct domain *d;

    if (!p) {
        log_warning("mta-sts: the saved policy of %s is not used: %s", str_printable(name),
                    err.text);
        return;
    }
    str_copy(p->id, sizeof(p->id), id);
    p->fetched = fetched < now ? fetched : now; /* the clock may have been set back */
    if (now >= ends(p) || now - used >= UNUSED * 1000) {
        sts_policy_free(&p);
        return;
    }
    pthread_mutex_lock(&sts.lock);
    d = find_or_add(name);
    set_policy(d, p);
    d->used = d->used_saved = used;
    d->refresh = next_refresh(p, (now - p->fetched) / 1000);
    make_room();
    pthread_mutex_unlock(&sts.lock);
}

static const char *column(sqlite3_stmt *st, int i)
{
    const unsigned char *text = sqlite3_column_text(st, i);

    return text ? (const char *)text : "";
}

static bool load(sqlite3 *db, void *arg, struct err *err)
{
    /* the last used come last, so that they are the first of the list */
    sqlite3_stmt *st =
        writer_stmt("SELECT domain, id, policy, fetched, used FROM sts_policy ORDER BY used", err);
    int rc = SQLITE_ERROR;

    (void)arg;
    while (st && (rc = sqlite3_step(st)) == SQLITE_ROW)
        load_one(column(st, 0), column(st, 1), column(st, 2), sqlite3_column_int64(st, 3),
                 sqlite3_column_int64(st, 4));
    if (st)
        sqlite3_reset(st);
    return rc == SQLITE_DONE || err_set(err, E_IO, "reading sts_policy: %s", sqlite3_errmsg(db));
}

/* What was not loaded is of no use any more. */
static bool clean(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *st = writer_stmt("DELETE FROM sts_policy WHERE used < ?1", err);
    usec_t *oldest = arg;

    (void)db;
    if (!st)
        return false;
    sqlite3_bind_int64(st, 1, *oldest);
    return run(st, err);
}

bool mta_sts_start(struct err *err)
{
    usec_t oldest = clock_wall() - UNUSED * 1000;

    if (!state_txn(clean, &oldest, err) || !state_txn(load, NULL, err))
        return false;
    if (sts.n_policies)
        log_info("mta-sts: %u policies are cached", sts.n_policies);
    return true;
}

/* Is name the domain or below it, as dns_flush has it? */
static bool is_below(const char *name, const char *domain)
{
    size_t n = strlen(name), m = strlen(domain);

    return str_ieq(domain, ".") ||
           (n >= m && str_ieq(name + n - m, domain) && (n == m || name[n - m - 1] == '.'));
}

void mta_sts_flush_records(const char *domain)
{
    const char *name;
    size_t pos = 0;
    void *value;

    if (domain && str_istarts(domain, "_mta-sts."))
        domain += strlen("_mta-sts.");
    pthread_mutex_lock(&sts.lock);
    while (map_next(&sts.domains, &pos, &name, &value))
        if (!domain || is_below(name, domain))
            ((struct domain *)value)->record = (struct record){0};
    pthread_mutex_unlock(&sts.lock);
}

void mta_sts_run(void)
{
    if (!fiber_spawn(loops_get(0), "mta-sts refresh", refresh_for_ever, NULL))
        log_critical("mta-sts: policies are not refreshed ahead of time: too many sessions");
}

void mta_sts_stop(void)
{
    const char *name;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&sts.lock);
    while (map_next(&sts.domains, &pos, &name, &value))
        forget(value);
    map_free(&sts.domains);
    sts.domains = (struct map){0};
    sts.alerts_since = 0;
    sts.alerts = 0;
    pthread_mutex_unlock(&sts.lock);
}
