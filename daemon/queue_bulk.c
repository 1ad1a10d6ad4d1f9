/* queue_bulk.c - see queue_bulk.h. One slice is one job of the queue's writer that reads and takes,
 * and one that writes; bounces are queued by several fibers at once, so that they share commits. */
#include "daemon/queue_bulk.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bounce.h"
#include "daemon/deststats.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/message.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/stats.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define SLICE 200u /* messages: acceptance waits as long as one takes */
#define BOUNCERS 100u /* reports queued at a time */
#define MOST_BUSY 10000u /* messages in the hands of sessions that are tried again */
#define BUSY_ROUNDS 10
#define BUSY_PAUSE 200 /* ms */
#define STATUS "5.3.0"
#define REASON "Bounced by an administrator"

struct run {
    const struct bulk *b;
    struct bulk_result *out;
    uint64_t *busy;
    size_t nbusy;
};

/* --- one message --- */

static void count_one(const struct run *r, const struct claim *c, enum dest_counter counter)
{
    struct tally tally = {0};

    for (unsigned i = 0; i < c->n; i++) {
        const struct rcpt *rcpt = &c->m->rcpts[c->rids[i]];
        struct dest_change *change = tally_of(&tally, address_domain(rcpt->address));

        change->count[counter]++;
        change->gauge[DEST_ACTIVE]--;
        change->gauge[DEST_ATTEMPTED] -= rcpt->attempts > 0;
    }
    tally_end(&tally);
    stats_add(STAT_COMPLETED_RECIPS, c->n);
    if (counter == DEST_DELETED) {
        stats_add(STAT_DELETED_RECIPS, c->n);
    } else {
        stats_add(STAT_HARD_BOUNCED_RECIPS, c->n);
        stats_add(STAT_OTHER_HARD_BOUNCED, c->n);
    }
    r->out->messages++;
    r->out->recipients += c->n;
}

/* YIELDS. One report to the sender about all its recipients; it is on disk before they are
 * forgotten. */
static bool report(const struct claim *c, bool *sent)
{
    struct bounce_rcpt *list = xcalloc(c->n, sizeof(*list));
    struct config *cfg = running_config();
    struct bounce_profile profile, p; /* of the first of them: it says how the report looks */
    unsigned n = 0;
    struct err err = {0};
    bool ok = true;

    for (unsigned i = 0; i < c->n && *c->m->sender; i++) {
        const struct rcpt *rcpt = &c->m->rcpts[c->rids[i]];

        route_bounce_profile(cfg, address_domain(rcpt->address), c->m->bounce_profile, &p);
        if (!bounce_wanted(&p, rcpt, BOUNCE_FAILED))
            continue;
        if (!n)
            profile = p;
        list[n] = (struct bounce_rcpt){
            .rcpt = rcpt, .phrase = status_phrase(STATUS), .text = REASON, .remote = ""};
        str_copy(list[n++].status, sizeof(list[0].status), STATUS);
    }
    if (n)
        ok = bounce_send(BOUNCE_FAILED, c->m, &profile, list, n, 0, NULL, &err); /* YIELDS */
    if (!ok)
        log_critical("queue: %s; the message stays in the queue", err.text);
    *sent = ok && n;
    config_free(&cfg);
    free(list);
    return ok;
}

static void log_bounced(const struct claim *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        maillog_bounced(0, c->m->mid, c->rids[i], STATUS, status_phrase(STATUS), "000", REASON);
        if (!*c->m->sender)
            maillog_double_bounce(c->m->mid, c->rids[i], STATUS, status_phrase(STATUS), "000",
                                  REASON);
    }
}

/* --- a slice --- */

struct bouncers { /* all on one loop: no lock */
    struct claims *claims;
    size_t next, reports;
    unsigned running;
    struct wait done;
};

static void bounce_some(void *arg)
{
    struct bouncers *b = arg;

    while (b->next < b->claims->n) {
        struct claim *c = &b->claims->list[b->next++];
        bool sent;

        c->verdict = report(c, &sent) ? RCPT_BOUNCED : RCPT_QUEUED; /* YIELDS */
        b->reports += sent;
    }
    if (!--b->running)
        wait_done(&b->done);
}

static void bounce_slice(const struct run *r, struct claims *claims)
{
    struct bouncers b = {.claims = claims, .running = 1};

    wait_init(&b.done);
    for (unsigned i = 1; i < BOUNCERS && i < claims->n; i++) {
        b.running++;
        if (!fiber_spawn(loop_self(), "bouncerecipients", bounce_some, &b)) {
            b.running--;
            break;
        }
    }
    bounce_some(&b);
    wait_for_done(&b.done, "bounces to be queued");
    r->out->reports += b.reports;
    for (size_t i = 0; i < claims->n; i++) {
        if (claims->list[i].verdict != RCPT_BOUNCED) {
            r->out->failed++;
            continue;
        }
        log_bounced(&claims->list[i]);
        count_one(r, &claims->list[i], DEST_HARD_OTHER);
    }
}

/* YIELDS. What was taken is done with and given back. */
static void settle(const struct run *r, struct claims *claims)
{
    if (r->b->kind == BULK_REDIRECT) {
        for (size_t i = 0; i < claims->n; i++) {
            maillog_redirected(claims->list[i].m->mid, r->b->host);
            r->out->messages++;
            r->out->recipients += claims->list[i].n;
        }
        queue_redirect(claims, r->b->host);
        return;
    }
    if (r->b->kind == BULK_BOUNCE)
        bounce_slice(r, claims);
    for (size_t i = 0; i < claims->n && r->b->kind == BULK_DELETE; i++) {
        struct claim *c = &claims->list[i];

        c->verdict = RCPT_DELETED;
        maillog_deleted(c->m->mid, c->rids, c->n);
        count_one(r, c, DEST_DELETED);
    }
    queue_conclude(claims);
}

/* YIELDS. */
static bool slice(struct run *r, const struct queue_pick *pick, uint64_t after, unsigned max,
                  uint64_t *last, struct err *err)
{
    struct claims claims;
    bool ok = queue_claim(pick, after, max, &claims, last, err);

    for (size_t i = 0; ok && i < claims.nbusy; i++) {
        r->out->busy++;
        if (r->nbusy < MOST_BUSY)
            r->busy[r->nbusy++] = claims.busy[i];
    }
    if (ok)
        settle(r, &claims);
    return ok;
}

static bool go_on(const struct run *r)
{
    if (fiber_stopping() || (r->b->go_on && !r->b->go_on(r->b->arg, r->out)))
        r->out->stopped = true;
    return !r->out->stopped;
}

/* Sessions are often done with what they have in a moment. */
static bool try_busy(struct run *r, struct err *err)
{
    bool ok = true;

    for (unsigned round = 0; ok && r->nbusy && round < BUSY_ROUNDS && go_on(r); round++) {
        uint64_t *mids = r->busy, ignored;
        size_t n = r->nbusy;

        if (!fiber_sleep(BUSY_PAUSE))
            break;
        r->busy = xcalloc(MOST_BUSY, sizeof(*r->busy));
        r->nbusy = 0;
        for (size_t i = 0; ok && i < n && go_on(r); i++) {
            struct queue_pick pick = r->b->pick;

            pick.mid = mids[i];
            r->out->busy--;
            ok = slice(r, &pick, mids[i] - 1, 1, &ignored, err);
        }
        free(mids);
    }
    return ok;
}

bool queue_bulk(const struct bulk *b, struct bulk_result *out, struct err *err)
{
    struct queue_pick pick = b->pick;
    struct run r = {.b = b, .out = out, .busy = xcalloc(MOST_BUSY, sizeof(*r.busy))};
    uint64_t ids[3], at = 0;
    bool ok = true;

    memset(out, 0, sizeof(*out));
    queue_last_ids(ids);
    pick.until = out->end = ids[0];
    if (pick.mid) {
        ok = slice(&r, &pick, pick.mid - 1, 1, &at, err);
    } else {
        do {
            ok = slice(&r, &pick, at, SLICE, &at, err);
            out->at = at ? at : out->end;
        } while (ok && at && at < out->end && go_on(&r));
    }
    ok = ok && try_busy(&r, err) && queue_written(err);
    free(r.busy);
    return ok;
}
