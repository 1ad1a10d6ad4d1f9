/* queue.c - see queue.h and queue_run.h, and queue_inside.h for the files it is made of. It owns queue.db (through its
 * writer), the spool and the schedule.
 *
 * One mutex guards the schedule; it is held for arithmetic only, never across a wait or a system
 * call but the start of a fiber. That departs from posting to one loop: a lock costs a fifth of a
 * post, and a session takes its next message without waiting for anybody.
 *
 * A new message is durable in the ledger (ledger.h); its row, and what changes afterwards, is written late
 * (queue_changes.h). */
#include "daemon/queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/deliver.h"
#include "daemon/ledger.h"
#include "daemon/hosts.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/message.h"
#include "daemon/queue_inside.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/route.h"
#include "store/base/str.h"

#define RESIDENT_BYTES (96u << 20) /* bodies and envelopes that stay in memory as they arrive */

bool queue_write_changes(sqlite3 *db, void *arg, struct err *err)
{
    return changes_write(db, arg, err);
}

struct queue_inside q = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- sessions, clock --- */

void queue_kick_clock(void) /* under the lock */
{
    if (q.ticking) {
        q.ticking = false;
        wait_done(&q.tick);
    }
}

void queue_kick_loader(void) /* under the lock */
{
    if (q.load_waits && q.schedule.ncold > q.schedule.nasleep) {
        q.load_waits = false;
        wait_done(&q.load);
    }
}

void queue_open_sessions(msec_t now)
{
    struct dest *d;
    char name[48];

    while (q.running && !fiber_stopping() && (d = schedule_open(&q.schedule, now))) {
        snprintf(name, sizeof(name), "deliver %.39s", d->key);
        if (!fiber_spawn(loops_next(), name, deliver_session, d)) {
            schedule_close(&q.schedule, d, now); /* too many fibers: the clock tries again */
            break;
        }
    }
}

static void clock_fiber(void *unused)
{
    (void)unused;
    fiber_interruptible(true);
    for (;;) {
        msec_t now = clock_now(), next, retry;

        pthread_mutex_lock(&q.lock);
        next = schedule_advance(&q.schedule, now);
        retry = changes_retry(now);
        if (retry < next)
            next = retry;
        queue_open_sessions(now);
        queue_kick_loader();
        if (schedule_lines(&q.schedule) && next > now + 200)
            next = now + 200; /* somebody stands in line although sessions are free: fibers were short */
        wait_init(&q.tick);
        q.ticking = true;
        pthread_mutex_unlock(&q.lock);
        wait_until(&q.tick, next, "the next retry");
        pthread_mutex_lock(&q.lock);
        q.ticking = false;
        pthread_mutex_unlock(&q.lock);
        if (fiber_stopping())
            break;
    }
}

/* --- accepting --- */

struct insert {
    const struct message *m;
    const struct change *row;
};

static bool insert_row(sqlite3 *db, void *arg, struct err *err)
{
    struct insert *in = arg;

    writer_want_sync();
    return body_sound(in->m->body, err) && change_write(db, in->row, err);
}

/* YIELDS. Body and envelope become durable: by the ledger, or, when it is too long for that, as a row at once. */
static bool store(const struct message *m, struct err *err)
{
    struct change *row;
    struct insert in = {m, NULL};
    bool ok;

    if (!changes_accept(err) || (changes_stuck() && !queue_written(err)))
        return false;
    row = change_row(m, err);
    if (!row)
        return false;
    in.row = row;
    if (ledger_takes(row))
        return ledger_add(row, m->body, err);
    ok = writer_txn(q.writer, insert_row, &in, err);
    change_free(row);
    return ok;
}

bool queue_accepts(struct err *err)
{
    return resources_accept(queue_messages(), err) && changes_accept(err);
}

static bool due_at_once(const struct queued *e, msec_t now)
{
    for (unsigned i = 0; i < e->nitems; i++)
        if (e->items[i].due <= now && !schedule_holds(e->items[i].dest, now))
            return true;
    return false;
}

bool queue_submit(struct message *m, struct err *err)
{
    struct config *cfg;
    struct queued *e;
    msec_t now;

    if (!store(m, err))
        return err_wrap(err, "queueing message %" PRIu64, m->mid);
    maillog_queued(m->mid);

    cfg = running_config();
    now = clock_now();
    pthread_mutex_lock(&q.lock);
    e = entry_make(cfg, m, now, clock_wall());
    if (e) { /* it has a recipient */
        e->segment = body_segment(m->body);
        if (q.resident < RESIDENT_BYTES && due_at_once(e, now) && !q.schedule.suspended)
            entry_keep(e, message_ref(m), false);
        schedule_add(&q.schedule, e, now);
        queue_open_sessions(now);
        queue_kick_loader();
    }
    pthread_mutex_unlock(&q.lock);
    config_free(&cfg);
    return true;
}

static struct body *store_text(const struct buf *text, struct err *err)
{
    struct body_writer *w = body_create();

    if (body_append(w, text->p, text->n, err))
        return body_finish(&w, err);
    body_abort(&w);
    return NULL;
}

bool queue_submit_own(struct message *m, const struct buf *text, uint64_t of_mid, struct err *err)
{
    m->body = store_text(text, err);
    if (!m->body)
        return false;
    maillog_start(m->mid, 0);
    if (of_mid)
        maillog_generated_bounce(m->mid, of_mid);
    maillog_from(m->mid, 0, m->sender);
    for (unsigned i = 0; i < m->nrcpts; i++)
        maillog_to(m->mid, 0, i, m->rcpts[i].address);
    maillog_ready(m->mid, text->n, m->sender);
    if (queue_submit(m, err))
        return true;
    maillog_aborted(m->mid, "queueing failed");
    body_remove(m->body);
    return false;
}

/* --- for a session --- */

struct item *queue_take(struct dest *d)
{
    struct item *i = NULL;

    pthread_mutex_lock(&q.lock);
    if (q.running)
        i = schedule_take(&q.schedule, d, clock_now());
    pthread_mutex_unlock(&q.lock);
    return i;
}

static void wake_waiting(struct idle *i)
{
    wait_done(&list_item(i, struct waiting, idle)->wait);
}

struct item *queue_wait(struct dest *d, struct waiting *w, msec_t deadline)
{
    struct item *i = NULL;

    wait_init(&w->wait);
    pthread_mutex_lock(&q.lock);
    if (q.running)
        i = schedule_take(&q.schedule, d, clock_now());
    if (!i) {
        w->idle.wake = wake_waiting;
        w->idle.loop = loop_index(loop_self());
        schedule_wait(&q.schedule, d, &w->idle);
    }
    pthread_mutex_unlock(&q.lock);
    if (i)
        return i;
    fiber_interruptible(true);
    wait_until(&w->wait, deadline, "a message");
    fiber_interruptible(false);
    pthread_mutex_lock(&q.lock);
    i = w->idle.item;
    if (!i)
        schedule_unwait(&w->idle);
    pthread_mutex_unlock(&q.lock);
    return i;
}

void queue_wake(struct waiting *w)
{
    wait_done(&w->wait);
}

void queue_done(struct item *i)
{
    struct queued *e = i->message;
    uint64_t mid = e->mid;
    bool last;

    pthread_mutex_lock(&q.lock);
    last = schedule_done(&q.schedule, i);
    entry_item_done(e, e->m, last);
    pthread_mutex_unlock(&q.lock);
    if (last)
        maillog_finished(mid);
}

void queue_defer(struct item *i, unsigned left, usec_t next_try, bool tried)
{
    struct queued *e = i->message;
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    changes_add(change_state(e->m));
    if (tried) {
        schedule_defer(&q.schedule, i, left, entry_due(next_try, now, clock_wall()), now);
    } else {
        i->due = entry_due(next_try, now, clock_wall());
        schedule_return(&q.schedule, i, left, now);
    }
    if (entry_rests(e))
        entry_drop(e);
    queue_kick_clock();
    pthread_mutex_unlock(&q.lock);
}

void queue_postpone(struct item *i, msec_t delay, bool changed)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    if (changed)
        changes_add(change_state(i->message->m));
    schedule_postpone(&q.schedule, i, now + delay, now);
    queue_kick_clock();
    pthread_mutex_unlock(&q.lock);
}

void queue_session_end(struct dest *d)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    schedule_close(&q.schedule, d, now);
    queue_open_sessions(now);
    pthread_mutex_unlock(&q.lock);
}

void queue_dest_reached(struct dest *d)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    if (schedule_reached(&q.schedule, d, now))
        queue_open_sessions(now);
    pthread_mutex_unlock(&q.lock);
}

void queue_dest_worked(struct dest *d, bool waited)
{
    msec_t now = clock_now(), since;
    AUTO(str) char *name = NULL;

    pthread_mutex_lock(&q.lock);
    since = d->down_since;
    if (schedule_worked(&q.schedule, d, waited, now))
        name = xstrdup(d->key);
    queue_open_sessions(now);
    if (name)
        queue_kick_loader();
    pthread_mutex_unlock(&q.lock);
    if (name)
        maillog_up("Destination", name, (uint64_t)(now - since) / 1000);
}

/* Under the lock. What waits for a destination that is down need not wait in memory. */
static void chill(struct dest *d, msec_t now)
{
    struct item *i;

    for (unsigned n = 0; n < DUE_AT_ONCE && (i = schedule_chill(&q.schedule, d, now)); n++)
        if (entry_rests(i->message))
            entry_drop(i->message);
}

void queue_dest_failed(struct dest *d, bool hold, msec_t first, msec_t most, const char *text,
                       const char *why)
{
    msec_t now = clock_now(), lasts;
    AUTO(str) char *name = NULL;

    pthread_mutex_lock(&q.lock);
    lasts = schedule_retry(d->failures + 1, first, most);
    if (schedule_failed(&q.schedule, d, hold, now + lasts, text, now))
        name = xstrdup(d->key);
    chill(d, now);
    queue_kick_clock();
    pthread_mutex_unlock(&q.lock);
    if (name)
        maillog_down("Destination", name, why, (uint64_t)lasts / 1000);
}

void queue_dest_hold(struct dest *d, msec_t until, const char *text)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    schedule_hold(&q.schedule, d, until, text, now);
    chill(d, now);
    queue_kick_clock();
    pthread_mutex_unlock(&q.lock);
}

bool queue_dest_down(struct dest *d, char *text, size_t size)
{
    bool down;

    pthread_mutex_lock(&q.lock);
    down = d->failures && clock_now() < d->down_until;
    if (down)
        str_copy(text, size, d->down_error);
    pthread_mutex_unlock(&q.lock);
    return down;
}

unsigned queue_dest_turn(struct dest *d)
{
    unsigned *turn, now;

    if (!strchr(d->key, '/'))
        return 0; /* no route: MX hosts are shuffled */
    pthread_mutex_lock(&q.lock);
    turn = map_get(&q.turns, d->key);
    if (!turn) {
        turn = xcalloc(1, sizeof(*turn));
        map_set(&q.turns, d->key, turn);
    }
    now = (*turn)++;
    pthread_mutex_unlock(&q.lock);
    return now;
}

/* --- configuration --- */

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    (void)old;
    *state = NULL;
    return queue_load(cfg, err); /* a later configuration holds nothing that can fail here */
}

static void publish(void *state, const struct config *cfg)
{
    const struct delivery *delivery = CONFIG_SINGLE(cfg, delivery);
    msec_t now = clock_now();
    const char *key;
    size_t pos = 0;
    bool begin;
    void *d;

    (void)state;
    if (!delivery)
        return;
    pthread_mutex_lock(&q.lock);
    q.schedule.max_sessions = (unsigned)delivery->max_concurrency;
    while (map_next(&q.schedule.dests, &pos, &key, &d)) {
        const char *entry = strrchr(key, '/'); /* of a routed destination: see route_key */

        entry_limits(cfg, d, entry ? entry + 1 : key);
    }
    schedule_probe(&q.schedule, NULL, now); /* routes, addresses, anything may be better now */
    begin = !q.running;
    q.running = true;
    queue_open_sessions(now);
    queue_kick_loader();
    pthread_mutex_unlock(&q.lock);
    if (begin) {
        fiber_spawn(loops_get(0), "queue clock", clock_fiber, NULL);
        fiber_spawn(loops_get(0), "queue loader", queue_loader, NULL);
        fiber_spawn(loops_get(0), "spool compaction", queue_compaction, NULL);
    }
}

static void discard(void *state)
{
    (void)state;
}

const struct reload_part reload_queue = {"the queue", prepare, publish, discard};

const char *queue_redirected(const struct message *m)
{
    const char *host;

    pthread_mutex_lock(&q.lock);
    host = m->redirect;
    pthread_mutex_unlock(&q.lock);
    return host;
}

usec_t queue_received(const struct item *i)
{
    usec_t when, wall = clock_wall(), jump;

    pthread_mutex_lock(&q.lock);
    when = i->message->received;
    jump = q.clock_offset ? wall - clock_now() * 1000 - q.clock_offset : 0;
    pthread_mutex_unlock(&q.lock);
    if ((jump >= CLOCK_JUMP_LEAST || jump <= -CLOCK_JUMP_LEAST) && when <= wall - jump)
        when += jump; /* it was set just now, and nobody has looked since */
    return when;
}

void queue_clock(usec_t offset)
{
    pthread_mutex_lock(&q.lock);
    q.clock_offset = offset;
    pthread_mutex_unlock(&q.lock);
}

void queue_clock_jumped(usec_t before, usec_t by)
{
    pthread_mutex_lock(&q.lock);
    q.clock_offset += by;
    for (size_t i = 0; i < q.schedule.index_cap; i++)
        if (q.schedule.index[i] && q.schedule.index[i]->received <= before)
            q.schedule.index[i]->received += by;
    clock_jumps_add(&q.jumps, atomic_load(&q.ids[ID_MID]), before, by);
    changes_add(change_jumps(&q.jumps));
    pthread_mutex_unlock(&q.lock);
}

uint64_t queue_messages(void)
{
    uint64_t n;

    pthread_mutex_lock(&q.lock);
    n = q.schedule.messages;
    pthread_mutex_unlock(&q.lock);
    return n;
}

void queue_totals(struct queue_totals *out)
{
    const struct queued *oldest;

    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&q.lock);
    out->messages = q.schedule.messages;
    out->recipients = q.schedule.rcpts;
    out->unattempted = q.schedule.unattempted;
    out->attempted = q.schedule.rcpts - q.schedule.unattempted;
    out->destinations = q.schedule.dests.n;
    out->deliveries = q.schedule.sessions;
    oldest = schedule_oldest(&q.schedule);
    out->oldest = oldest ? oldest->received : 0;
    pthread_mutex_unlock(&q.lock);
}

void queue_dest_state(const char *key, struct queue_dest_state *out)
{
    msec_t now = clock_now();
    const struct dest *d;

    memset(out, 0, sizeof(*out));
    for (size_t at = 0; at != SIZE_MAX;) {
        pthread_mutex_lock(&q.lock);
        d = schedule_find_dest(&q.schedule, key);
        if (d)
            out->oldest = schedule_oldest_of(&q.schedule, d, &at, LOOK_AT, out->oldest);
        else
            at = SIZE_MAX;
        if (at == SIZE_MAX && d) {
            out->down = d->down_since != 0;
            out->down_for = out->down && d->down_until > now ? d->down_until - now : 0;
            out->down_since = out->down ? clock_wall() - (usec_t)(now - d->down_since) * 1000 : 0;
            out->failures = d->failures;
            out->sessions = d->sessions;
            out->window = d->held ? 1 : d->window < d->limits.sessions ? d->window : d->limits.sessions;
            out->waiting = d->nready + d->ncold;
            str_copy(out->down_error, sizeof(out->down_error), d->down_error ? d->down_error : "");
        }
        pthread_mutex_unlock(&q.lock);
    }
}

uint64_t queue_deliver_now(const char *domain)
{
    struct config *cfg = running_config();
    msec_t now = clock_now();
    struct dest *d;
    uint64_t n = 0, most = UINT64_MAX;
    char key[600];

    if (domain)
        route_key(cfg, domain, key, sizeof(key));
    config_free(&cfg);
    hosts_probe();
    for (size_t at = SIZE_MAX; at && n < most;) {
        pthread_mutex_lock(&q.lock);
        if (at == SIZE_MAX)
            most = q.schedule.nheap; /* what fails meanwhile is not tried again and again */
        d = domain ? schedule_find_dest(&q.schedule, key) : NULL;
        if (at == SIZE_MAX && (d || !domain))
            schedule_probe(&q.schedule, d, now);
        if (domain && !d)
            at = 0;
        else
            n += schedule_now(&q.schedule, d, &at, DUE_AT_ONCE, now);
        queue_open_sessions(now);
        queue_kick_loader();
        queue_kick_clock();
        pthread_mutex_unlock(&q.lock);
    }
    return n;
}

/* Under the lock: sessions, loader and clock look at what was given back. */
void queue_resume(msec_t now)
{
    queue_open_sessions(now);
    queue_kick_loader();
    queue_kick_clock();
}

uint64_t queue_oldest(void)
{
    const struct queued *e;
    uint64_t mid;

    pthread_mutex_lock(&q.lock);
    e = schedule_oldest(&q.schedule);
    mid = e ? e->mid : 0;
    pthread_mutex_unlock(&q.lock);
    return mid;
}

void queue_set_rcpt(struct rcpt *r, const struct rcpt *now)
{
    pthread_mutex_lock(&q.lock);
    r->state = now->state;
    r->attempts = now->attempts;
    r->next_try = now->next_try;
    r->warnings = now->warnings;
    r->last_warning = now->last_warning;
    pthread_mutex_unlock(&q.lock);
}

void queue_set_error(struct rcpt *r, char *text)
{
    char *old;

    pthread_mutex_lock(&q.lock);
    old = r->last_error;
    r->last_error = text;
    pthread_mutex_unlock(&q.lock);
    free(old);
}

bool queue_suspend(bool on, struct err *err)
{
    msec_t now = clock_now();

    if (!queue_keep_value("suspended", on, err))
        return false;
    pthread_mutex_lock(&q.lock);
    schedule_suspend(&q.schedule, on, now);
    queue_resume(now);
    pthread_mutex_unlock(&q.lock);
    return true;
}

bool queue_suspended(void)
{
    bool on;

    pthread_mutex_lock(&q.lock);
    on = q.schedule.suspended;
    pthread_mutex_unlock(&q.lock);
    return on;
}

bool queue_pause(const char *by, struct err *err)
{
    msec_t now = clock_now();
    uint64_t ids[3], from;
    bool paused;

    queue_last_ids(ids);
    pthread_mutex_lock(&q.lock);
    paused = q.park_from;
    from = !by ? 0 : paused ? q.park_from : ids[0] + 1;
    pthread_mutex_unlock(&q.lock);
    if (!by && !paused)
        return true;
    if (!queue_keep_pause(from, by, err))
        return false;
    pthread_mutex_lock(&q.lock);
    q.park_from = from;
    str_copy(q.paused_by, sizeof(q.paused_by), by ? by : "");
    pthread_mutex_unlock(&q.lock);
    for (size_t at = SIZE_MAX; at && !by;) {
        pthread_mutex_lock(&q.lock);
        schedule_unpark(&q.schedule, &at, DUE_AT_ONCE, now);
        queue_resume(now);
        pthread_mutex_unlock(&q.lock);
    }
    return true;
}

bool queue_paused(char by[QUEUE_PAUSED_BY])
{
    bool on;

    pthread_mutex_lock(&q.lock);
    on = q.park_from;
    if (by)
        str_copy(by, QUEUE_PAUSED_BY, q.paused_by);
    pthread_mutex_unlock(&q.lock);
    return on;
}

uint64_t queue_parked(void)
{
    uint64_t n;

    pthread_mutex_lock(&q.lock);
    n = q.schedule.nparked;
    pthread_mutex_unlock(&q.lock);
    return n;
}

unsigned queue_sessions(void)
{
    unsigned n;

    pthread_mutex_lock(&q.lock);
    n = q.schedule.sessions;
    pthread_mutex_unlock(&q.lock);
    return n;
}
