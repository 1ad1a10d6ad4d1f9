/* exception_watch.c - see exceptions.h: the fiber that announces ends and tries whether exceptions
 * are still needed. It belongs to the loop of the control socket, whose candidates it uses; only it
 * touches what was said and tried. */
#include "daemon/exceptions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/commit.h"
#include "daemon/dane.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/mta_sts.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/smtp_dial.h"
#include "daemon/state.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define SMTP_PORT 25
#define ROUND MINUTES(20)
#define TURN SECONDS(5) /* how soon a commit is noticed */
#define LOOK_WITHIN SECONDS(30)
#define AGAIN (INT64_C(23) * 3600 * 1000000) /* once in about a day */

/* --- what was said and tried, kept in state.db ------------------------------------------------ */

struct note {
    enum exception_step said;
    usec_t tried;
};
static struct map notes; /* "name date" to struct note: another date is another exception */

static struct note *note_of(const char *key)
{
    struct note *n = map_get(&notes, key);

    if (!n) {
        n = xcalloc(1, sizeof(*n));
        map_set(&notes, key, n);
    }
    return n;
}

static void forget_notes(void)
{
    const char *key;
    void *value;
    size_t pos = 0;

    while (map_next(&notes, &pos, &key, &value))
        free(value);
    map_free(&notes);
}

static bool load_notes(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *st = writer_stmt("SELECT key, said, tried FROM exception_note", err);

    (void)db;
    (void)arg;
    while (st && sqlite3_step(st) == SQLITE_ROW) {
        struct note *n = note_of((const char *)sqlite3_column_text(st, 0));

        n->said = (enum exception_step)sqlite3_column_int(st, 1);
        n->tried = sqlite3_column_int64(st, 2);
    }
    return st != NULL;
}

struct saving {
    const char *key;
    struct note note;
};

static bool save_note(sqlite3 *db, void *arg, struct err *err)
{
    const struct saving *s = arg;
    sqlite3_stmt *st = writer_stmt("INSERT INTO exception_note(key,said,tried) VALUES(?1,?2,?3) "
                                   "ON CONFLICT DO UPDATE SET said=?2, tried=?3",
                                   err);

    if (!st)
        return false;
    sqlite3_bind_text(st, 1, s->key, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 2, (int)s->note.said);
    sqlite3_bind_int64(st, 3, s->note.tried);
    return sqlite3_step(st) == SQLITE_DONE ||
           err_set(err, E_IO, "keeping notes about exceptions: %s", sqlite3_errmsg(db));
}

static void keep(const char *key, const struct note *n) /* YIELDS */
{
    struct saving s = {key, *n};
    struct err err = {0};

    if (!state_txn(save_note, &s, &err))
        log_warning("%s", err.text);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void announce(const struct tls_exception *e, enum exception_step step)
{
    static const struct {
        enum alert_severity severity;
        const char *text;
    } what[] = {
        [EXCEPTION_WEEK] = {ALERT_INFO,    "will end within a week"},
        [EXCEPTION_DAY] = {ALERT_WARNING, "is about to end"       },
        [EXCEPTION_OVER] = {ALERT_WARNING, "has ended"             },
    };
    char key[100];

    snprintf(key, sizeof(key), "exception %s", e->name);
    alert_raise(ALERT_SYSTEM, what[step].severity, key,
                "The TLS exception \"%s\" (%s for %s) %s: its last day is %s.\n"
                "Reason: %s\nOwner: %s\nUse \"tlsexceptions\" to prolong or delete it.",
                e->name, choices_exception_kinds[e->kind].word, e->target, what[step].text,
                e->expires, e->reason, e->owner);
}

/* --- is it still needed? ---------------------------------------------------------------------- */

/* YIELDS. Does a session with this address come about under the verdict of these facts? */
static bool proven(const struct config *cfg, const struct tls_evidence *facts,
                   const struct tls_names *names, const struct addr *addr, const struct dane *dane)
{
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    struct tls_need need = {.verdict = tls_verdict(facts), .config = running_tls_client_id()};
    struct dial d = {.host = names->host,
                     .addr = addr,
                     .helo = sys->hostname,
                     .need = &need,
                     .names = *names,
                     .dane = dane};
    struct dialed *out = xcalloc(1, sizeof(*out));
    bool ok;

    tls_verify_keys(need.verdict.must, names, dane, need.keys);
    ok = need.verdict.use != TLS_REFUSE && smtp_dial(&d, out); /* YIELDS */
    client_free(&out->client);
    free(out);
    return ok;
}

/* YIELDS. Does a delivery to this MX host, without the exception, succeed at each of its addresses
 * under DANE? */
static bool dane_works(const struct config *cfg, const char *host)
{
    struct tls_names names = {.domain = host, .host = host, .mx_secure = true};
    struct tls_evidence facts = {.level = DEST_TLS_REQUIRED, .dane = DANE_MANDATORY};
    struct dns_addrs found = {0};
    struct dane dane = {0};
    bool ok = dns_addresses(host, true, true, clock_in(LOOK_WITHIN), &found, NULL) && found.n;

    if (ok)
        dane_look_up(host, SMTP_PORT, true, &found, clock_in(LOOK_WITHIN), &dane);
    facts.dane_state = dane.state;
    ok = ok && dane.state == DANE_USABLE;
    for (unsigned i = 0; ok && i < found.n; i++) {
        struct addr a = found.addrs[i];

        a.port = SMTP_PORT;
        ok = proven(cfg, &facts, &names, &a, &dane);
    }
    dane_free(&dane);
    dns_addrs_free(&found);
    return ok;
}

/* YIELDS. Would the domain's mail go under its MTA-STS policy, whichever of its hosts it went to?
 * Only an enforced policy can show that: a domain in testing mode may be about to repair it. */
static bool sts_works(const struct config *cfg, const char *domain)
{
    struct targets t = {0};
    struct route_problem problem;
    struct sts sts = {0};
    bool ok = false;

    if (route_resolve(cfg, domain, 0, clock_in(LOOK_WITHIN), &t, &problem) == ROUTE_OK &&
        !t.routed) {
        mta_sts_look_up(domain, clock_in(LOOK_WITHIN), &sts);
        ok = sts.state == STS_MODE_ENFORCE && t.n;
    }
    for (unsigned i = 0; ok && i < t.n; i++) {
        const struct tls_names names = {.domain = domain, .host = t.items[i].of->host};
        const struct tls_evidence facts = {.level = DEST_TLS_REQUIRED,
                                           .sts_state = sts.state,
                                           .sts_lists_host = sts_lists(sts.policy, names.host)};

        ok = proven(cfg, &facts, &names, &t.items[i].addr, NULL);
    }
    sts_free(&sts);
    targets_free(&t);
    return ok;
}

/* YIELDS. A commit like any other, so that it is in the history and can be rolled back. */
static bool drop(const char *name, const char *comment, struct err *err)
{
    const struct db_audit who = {.actor = "posternd", .uid = -1, .role = "system", .peer = "local"};
    struct candidate *c = candidate_new("posternd");
    struct commit k = {.comment = comment, .keep = true, .who = &who};
    struct config_edit edit = {&section_tls_exception, name, NULL};
    struct check check = {0};
    bool ok;

    c->anonymous = true;
    ok = candidate_stage(c, &edit, 1, 0, &check, err) && commit_run(c, &k, err);
    check_free(&check);
    commit_clear(&k);
    candidate_detach(&c);
    return ok;
}

static void try_one(const struct config *cfg, const struct tls_exception *e)
{
    bool dane = e->kind == EXCEPTION_NO_DANE;
    AUTO(str) char *comment = NULL;
    struct err err = {0};

    if (!(dane ? dane_works : sts_works)(cfg, e->target)) /* YIELDS */
        return;
    comment = xasprintf("TLS exception %s removed: %s works with %s again", e->name,
                        dane ? "DANE" : "the MTA-STS policy", e->target);
    if (!drop(e->name, comment, &err)) { /* YIELDS */
        log_warning("removing the TLS exception \"%s\", which is no longer needed: %s", e->name,
                    err.text);
        return;
    }
    log_info("%s", comment);
    alert_raise(
        ALERT_SYSTEM, ALERT_INFO, comment,
        "The TLS exception \"%s\" (%s for %s) has been removed: %s again.\n"
        "Reason it was made for: %s\nOwner: %s",
        e->name, choices_exception_kinds[e->kind].word, e->target,
        dane ? "the host proves itself by its TLSA records"
             : "all mail hosts are in the domain's policy and prove themselves as it demands",
        e->reason, e->owner);
}

static bool is_due(const struct tls_exception *e, const struct note *n, usec_t now)
{
    return (e->kind == EXCEPTION_NO_DANE || e->kind == EXCEPTION_NO_MTA_STS) && *e->target != '.' &&
           exception_days_left(e, now) >= 0 && (now - n->tried >= AGAIN || n->tried > now);
}

/* The first round after an exception was made only takes note: whoever made it has just seen that
 * it is needed. */
static void look_at(const struct config *cfg, const struct tls_exception *e)
{
    AUTO(str) char *key = xasprintf("%s %s", e->name, e->expires);
    bool known = map_get(&notes, key);
    struct note *n = note_of(key);
    usec_t now = clock_wall();
    enum exception_step step = exception_step(e, now, n->said);
    bool due = known && is_due(e, n, now);

    if (step != EXCEPTION_QUIET) {
        n->said = step;
        announce(e, step);
    }
    if (due || !known)
        n->tried = now;
    if (due || !known || step != EXCEPTION_QUIET)
        keep(key, n); /* YIELDS */
    if (due)
        try_one(cfg, e); /* YIELDS */
}

static void look_at_all(const struct config *cfg)
{
    for (size_t i = 0; i < config_count(cfg, &section_tls_exception) && !fiber_stopping(); i++)
        look_at(cfg, config_at(cfg, &section_tls_exception, i)->data);
}

static void round_and_round(void *arg)
{
    uint64_t seen = 0;
    msec_t next = 0;
    struct err err = {0};

    (void)arg;
    fiber_interruptible(true);
    if (!state_txn(load_notes, NULL, &err)) /* YIELDS */
        log_warning("what was said about TLS exceptions is not known: %s", err.text);
    while (fiber_sleep(TURN) && !fiber_stopping()) { /* YIELDS */
        struct config *cfg = running_config();

        if (cfg && (config_revision(cfg) != seen || clock_now() >= next)) {
            seen = config_revision(cfg);
            next = clock_in(ROUND);
            look_at_all(cfg); /* YIELDS */
        }
        config_free(&cfg);
    }
    forget_notes();
}

bool exceptions_start(struct err *err)
{
    return fiber_spawn(loops_get(0), "tls exceptions", round_and_round, NULL) ||
           err_set(err, E_LIMIT, "too many sessions");
}
