/* queue_claim.c - see queue_run.h: a look at many messages, and operations that take recipients out of the schedule,
 * decide about them and give them back, while mail goes on. */
#include "daemon/queue_inside.h"

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/maillog.h"
#include "daemon/message.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "store/base/str.h"

#define SETTLE_AT_ONCE 50u /* claims given back in one go: others want the lock */
#define READ_MS 4 /* one read of many rows takes no longer: acceptance waits meanwhile */

/* --- looking --- */

struct visit {
    struct flush flush;
    uint64_t after, last;
    unsigned max;
    queue_visitor fn;
    void *arg;
};

static bool visit_rows(sqlite3 *db, void *arg, struct err *err)
{
    struct visit *v = arg;
    sqlite3_stmt *s = writer_stmt(
        "SELECT mid, body, envelope, state FROM message WHERE mid > ?1 ORDER BY mid LIMIT ?2", err);
    msec_t until = clock_in(READ_MS);
    unsigned n = 0;
    int rc = SQLITE_DONE;

    if (!s || !changes_write(db, &v->flush, err)) /* what is done is not shown any more */
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)v->after);
    sqlite3_bind_int(s, 2, (int)v->max);
    while (n < v->max && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        uint64_t mid = (uint64_t)sqlite3_column_int64(s, 0);
        struct slice place = row_column(s, 1);
        struct message *m = message_decode(mid, row_column(s, 2), row_column(s, 3), NULL);
        struct body *b = m ? body_decode(place.p, place.n, NULL) : NULL;
        bool go_on = true;

        n++;
        v->last = mid;
        if (b)
            go_on = v->fn(m, body_length(b), v->arg);
        body_free(&b);
        message_free(&m);
        if (!go_on || (n % 64 == 0 && clock_now() > until)) {
            sqlite3_reset(s);
            return true;
        }
    }
    if (n < v->max)
        v->last = 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE
               ? true
               : err_set(err, E_IO, "queue.db: %s", sqlite3_errmsg(db));
}

bool queue_visit(uint64_t after, unsigned max, queue_visitor fn, void *arg, uint64_t *last,
                 struct err *err)
{
    struct visit v = {{0}, after, after, max, fn, arg};
    bool ok = writer_txn_then(q.writer, visit_rows, changes_written, &v, err);

    *last = v.last;
    return ok;
}

struct get {
    struct flush flush;
    uint64_t mid;
    struct message *m;
    struct err err;
};

static bool get_row(sqlite3 *db, void *arg, struct err *err)
{
    struct get *g = arg;
    uint64_t last[ID_KINDS];
    bool there;

    if (!changes_write(db, &g->flush, err))
        return false;
    pthread_mutex_lock(&q.lock);
    there = schedule_find(&q.schedule, g->mid) != NULL; /* if it is, its row is too */
    pthread_mutex_unlock(&q.lock);
    queue_last_ids(last);
    if (!there && g->mid > last[ID_MID])
        err_set(&g->err, E_NOT_FOUND, "There is no message with the MID %" PRIu64 " in the queue; none has had it yet.",
                g->mid);
    else if (!there)
        err_set(&g->err, E_NOT_FOUND,
                "There is no message with the MID %" PRIu64 " in the queue. \"findevent -m %" PRIu64
                " mail_logs\" says what became of it.",
                g->mid, g->mid);
    else
        g->m = row_message(db, g->mid, &g->err);
    return true; /* what was written stays, whatever is wrong with this one */
}

struct message *queue_get(uint64_t mid, struct err *err)
{
    struct get g = {.mid = mid};

    if (!writer_txn_then(q.writer, get_row, changes_written, &g, err))
        message_free(&g.m);
    else if (!g.m && err)
        *err = g.err;
    return g.m;
}

/* --- what is picked --- */

static usec_t longest_hold; /* under the lock */

static void end_hold(usec_t began) /* under the lock, which it gives up */
{
    usec_t held = clock_wall() - began;

    if (held > longest_hold)
        longest_hold = held;
    pthread_mutex_unlock(&q.lock);
}

usec_t queue_longest_hold(void)
{
    usec_t held;

    pthread_mutex_lock(&q.lock);
    held = longest_hold;
    pthread_mutex_unlock(&q.lock);
    return held;
}

static bool picks(const struct queue_pick *p, const struct message *m, const struct rcpt *r)
{
    if (r->state != RCPT_QUEUED || (p->mid && m->mid != p->mid) || (p->until && m->mid > p->until))
        return false;
    return p->by == QUEUE_BY_HOST     ? str_ieq(address_domain(r->address), p->value)
           : p->by == QUEUE_BY_SENDER ? str_ieq(m->sender, p->value)
                                      : true;
}

static bool picks_any(const struct queue_pick *p, const struct message *m)
{
    for (unsigned i = 0; i < m->nrcpts; i++)
        if (picks(p, m, &m->rcpts[i]))
            return true;
    return false;
}

/* For recipients whose destination has another name by now: an item that is not done. */
static unsigned fallback_of(const struct queued *e)
{
    unsigned i = 0;

    while (i + 1 < e->nitems && e->items[i].state == ITEM_DONE)
        i++;
    return i;
}

/* --- taking it --- */

struct claim_job {
    struct flush flush;
    const struct queue_pick *pick;
    const struct config *cfg;
    uint64_t after, last;
    unsigned max;
    struct claims *out;
};

static void claim_free(struct claim *c)
{
    message_free(&c->m);
    free(c->rids);
    free(c->items);
}

static void claims_free(struct claims *c)
{
    for (size_t i = 0; i < c->n; i++)
        claim_free(&c->list[i]);
    free(c->list);
    free(c->busy);
    *c = (struct claims){0};
}

/* Messages of which anything is picked, as the database has them. */
static bool read_picked(sqlite3 *db, struct claim_job *j, struct err *err)
{
    sqlite3_stmt *s = writer_stmt(
        "SELECT mid, body, envelope, state FROM message WHERE mid > ?1 ORDER BY mid", err);
    struct claims *out = j->out;
    msec_t until = clock_in(READ_MS);
    unsigned n = 0;
    int rc = SQLITE_DONE;

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)j->after);
    while (out->n < j->max && (++n % 64 || clock_now() < until) &&
           (rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct slice place = row_column(s, 1);
        struct message *m;

        j->last = (uint64_t)sqlite3_column_int64(s, 0);
        if (j->pick->until && j->last > j->pick->until) {
            rc = SQLITE_DONE;
            break;
        }
        m = message_decode(j->last, row_column(s, 2), row_column(s, 3), NULL);
        if (m && picks_any(j->pick, m))
            m->body = body_decode(place.p, place.n, NULL);
        if (m && m->body) {
            out->list[out->n++] = (struct claim){.m = m};
            m = NULL;
        }
        message_free(&m);
    }
    if (rc == SQLITE_DONE)
        j->last = 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ||
           err_set(err, E_IO, "queue.db: %s", sqlite3_errmsg(db));
}

/* Under the lock. Takes the items of a claim that no session has. The number of recipients' items
 * must be known. false: none. */
static bool claim_items(const struct queue_pick *p, struct claim *c, struct claims *out)
{
    bool any = false, busy = false;

    c->items = xcalloc(c->e->nitems, sizeof(bool));
    for (unsigned i = 0; i < c->m->nrcpts; i++) {
        const struct rcpt *r = &c->m->rcpts[i];

        if (!picks(p, c->m, r) || c->items[r->item])
            continue;
        c->items[r->item] = schedule_claim(&q.schedule, &c->e->items[r->item]);
        any |= c->items[r->item];
        busy |= c->e->items[r->item].state == ITEM_BUSY && !c->items[r->item];
    }
    if (busy)
        out->busy[out->nbusy++] = c->m->mid;
    return any;
}

static bool changed_since(const struct change *list, uint64_t mid)
{
    for (; list; list = list->next)
        if (list->mid == mid)
            return true;
    return false;
}

/* Gives the items of a claim that have nothing picked any more, or all of them, back. Under the
 * lock. */
static void return_items(struct claim *c, bool all, msec_t now)
{
    for (unsigned k = 0; k < c->e->nitems; k++) {
        bool used = false;

        for (unsigned i = 0; c->items[k] && !all && i < c->n; i++)
            used |= c->m->rcpts[c->rids[i]].item == k;
        if (!c->items[k] || used)
            continue;
        c->items[k] = false;
        schedule_return(&q.schedule, &c->e->items[k], c->e->items[k].rcpts, now);
    }
}

static void choose_rcpts(const struct queue_pick *p, struct claim *c)
{
    c->rids = xcalloc(c->m->nrcpts, sizeof(*c->rids));
    for (unsigned i = 0; i < c->m->nrcpts; i++)
        if (picks(p, c->m, &c->m->rcpts[i]) && c->items[c->m->rcpts[i].item])
            c->rids[c->n++] = i;
}

/* The messages that remain come first again. */
static void keep_claims(struct claims *c, bool (*keep)(const struct claim *one))
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) {
        if (keep(&c->list[i]))
            c->list[n++] = c->list[i];
        else
            claim_free(&c->list[i]);
    }
    c->n = n;
}

static bool was_taken(const struct claim *c)
{
    return c->e != NULL;
}

static bool has_rcpts(const struct claim *c)
{
    return c->n > 0;
}

/* What is being delivered writes its states late, and only a message in memory is up to date: so
 * first the items are taken, then what sessions have left behind until that moment is written, and
 * what it touched is read once more. */
static bool claim_rows(sqlite3 *db, void *arg, struct err *err)
{
    struct claim_job *j = arg;
    struct claims *out = j->out;
    struct change *late, **end = &j->flush.list;
    msec_t now = clock_now();
    bool ok = true;
    usec_t began;

    if (!changes_write(db, &j->flush, err) || !read_picked(db, j, err))
        return false;
    pthread_mutex_lock(&q.lock);
    began = clock_wall();
    for (size_t i = 0; i < out->n; i++) {
        struct claim *c = &out->list[i];
        struct queued *e = schedule_find(&q.schedule, c->m->mid);

        if (!e)
            continue; /* finished meanwhile */
        c->e = e;
        if (e->m) {
            message_free(&c->m);
            c->m = message_ref(e->m);
        } else {
            entry_number(j->cfg, c->m, e, fallback_of(e));
        }
        if (!claim_items(j->pick, c, out))
            c->e = NULL;
    }
    late = changes_take(&j->flush);
    end_hold(began);
    keep_claims(out, was_taken);
    while (*end)
        end = &(*end)->next;
    *end = late;
    for (const struct change *c = late; c && ok; c = c->next)
        ok = change_write(db, c, err);
    ok = ok && changes_write_mark(db, &j->flush, err);
    for (size_t i = 0; ok && late && i < out->n; i++) {
        struct claim *c = &out->list[i];
        struct message *fresh;

        if (!changed_since(late, c->m->mid))
            continue;
        fresh = row_message(db, c->m->mid, NULL);
        c->unread = !fresh;
        if (fresh) {
            message_free(&c->m);
            c->m = fresh;
        }
    }
    pthread_mutex_lock(&q.lock);
    began = clock_wall();
    for (size_t i = 0; i < out->n; i++) {
        struct claim *c = &out->list[i];

        if (c->e->m) {
            message_free(&c->m);
            c->m = message_ref(c->e->m);
        } else if (!c->unread) {
            entry_number(j->cfg, c->m, c->e, fallback_of(c->e));
            entry_keep(c->e, message_ref(c->m), true);
        }
        if (!c->unread || c->e->m)
            choose_rcpts(j->pick, c);
        return_items(c, false, now);
        if (!c->n && entry_rests(c->e))
            entry_drop(c->e);
    }
    end_hold(began);
    keep_claims(out, has_rcpts);
    return ok;
}

bool queue_claim(const struct queue_pick *pick, uint64_t after, unsigned max, struct claims *out,
                 uint64_t *last, struct err *err)
{
    struct claim_job j = {.pick = pick, .after = after, .last = after, .max = max, .out = out};
    struct config *cfg = running_config();
    bool ok;

    *out = (struct claims){.list = xcalloc(max, sizeof(*out->list)),
                           .busy = xcalloc(max, sizeof(*out->busy))};
    j.cfg = cfg;
    ok = writer_txn_then(q.writer, claim_rows, changes_written, &j, err);
    config_free(&cfg);
    *last = j.last;
    if (!ok)
        queue_release(out);
    return ok;
}

/* --- giving it back, or not --- */

/* SETTLE_AT_ONCE claims under the lock, then others have their turn. */
static void each_claim(struct claims *c, void (*fn)(struct claim *one, void *arg, msec_t now),
                       void *arg)
{
    msec_t now = clock_now();

    for (size_t i = 0; i < c->n;) {
        size_t end = i + SETTLE_AT_ONCE < c->n ? i + SETTLE_AT_ONCE : c->n;
        usec_t began;

        pthread_mutex_lock(&q.lock);
        began = clock_wall();
        for (; i < end; i++)
            if (c->list[i].e)
                fn(&c->list[i], arg, now);
        queue_resume(now);
        end_hold(began);
    }
}

static void release_one(struct claim *c, void *unused, msec_t now)
{
    (void)unused;
    if (c->items)
        return_items(c, true, now);
    if (entry_rests(c->e))
        entry_drop(c->e);
    c->e = NULL;
}

void queue_release(struct claims *c)
{
    each_claim(c, release_one, NULL);
    claims_free(c);
}

static unsigned left_of(const struct claim *c, unsigned item)
{
    unsigned left = 0;

    for (unsigned i = 0; i < c->m->nrcpts; i++)
        left += c->m->rcpts[i].state == RCPT_QUEUED && c->m->rcpts[i].item == item;
    return left < UINT16_MAX ? left : UINT16_MAX;
}

static void conclude_one(struct claim *c, void *unused, msec_t now)
{
    struct queued *e = c->e;
    bool last = false;

    (void)unused;
    if (c->verdict == RCPT_QUEUED) {
        release_one(c, NULL, now);
        return;
    }
    for (unsigned i = 0; i < c->n; i++)
        c->m->rcpts[c->rids[i]].state = (unsigned char)c->verdict;
    for (unsigned k = 0; k < e->nitems; k++) {
        unsigned left = c->items[k] ? left_of(c, k) : 0;

        if (c->items[k] && !left)
            last = schedule_done(&q.schedule, &e->items[k]);
        else if (c->items[k])
            schedule_return(&q.schedule, &e->items[k], left, now);
    }
    c->e = NULL;
    c->finished = last;
    entry_item_done(e, c->m, last);
}

void queue_conclude(struct claims *c)
{
    each_claim(c, conclude_one, NULL);
    for (size_t i = 0; i < c->n; i++)
        if (c->list[i].finished)
            maillog_finished(c->list[i].m->mid);
    claims_free(c);
}

struct redirect {
    const struct config *cfg;
    const char *host;
};

/* Items that go to one host now become one. They are due at once. */
static void redirect_one(struct claim *c, void *arg, msec_t now)
{
    const struct redirect *r = arg;
    struct queued *e = c->e;
    struct item *first[16];
    unsigned nfirst = 0;
    char key[600];

    c->m->redirect = *r->host ? message_text(c->m, r->host) : NULL;
    for (unsigned i = 0; i < c->n; i++) /* the pause was for another host */
        c->m->rcpts[c->rids[i]].next_try = 0;
    for (unsigned k = 0; k < e->nitems; k++) {
        const char *domain = NULL;
        struct dest *to;

        for (unsigned i = 0; c->items[k] && !domain && i < c->n; i++)
            if (c->m->rcpts[c->rids[i]].item == k)
                domain = address_domain(c->m->rcpts[c->rids[i]].address);
        if (!domain)
            continue;
        route_key_via(r->cfg, c->m->redirect, domain, key, sizeof(key));
        to = entry_dest(r->cfg, key, domain);
        for (unsigned f = 0; f < nfirst; f++)
            if (first[f]->dest == to && first[f]->rcpts + e->items[k].rcpts < UINT16_MAX) {
                uint16_t n = e->items[k].rcpts;

                for (unsigned i = 0; i < c->m->nrcpts; i++)
                    if (c->m->rcpts[i].item == k)
                        c->m->rcpts[i].item = (uint16_t)(first[f] - e->items);
                q.schedule.rcpts += n; /* schedule_done takes them away again */
                q.schedule.unattempted += first[f]->attempts ? 0 : n;
                first[f]->rcpts = (uint16_t)(first[f]->rcpts + n);
                schedule_done(&q.schedule, &e->items[k]);
                c->items[k] = false;
                break;
            }
        if (!c->items[k])
            continue;
        e->items[k].due = now;
        if (nfirst < countof(first))
            first[nfirst++] = &e->items[k];
        schedule_move(&q.schedule, &e->items[k], to);
    }
    changes_add(change_state(c->m));
    release_one(c, NULL, now);
}

void queue_redirect(struct claims *c, const char *host)
{
    struct redirect r = {.host = host};
    struct config *cfg = running_config();

    r.cfg = cfg;
    each_claim(c, redirect_one, &r);
    config_free(&cfg);
    claims_free(c);
}

bool queue_written(struct err *err)
{
    struct flush f = {0};

    return writer_txn_then(q.writer, queue_write_changes, changes_written, &f, err) ||
           err_wrap(err, "the queue's disk does not take the change, it is tried again");
}
