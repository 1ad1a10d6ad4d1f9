/* queue.c - see queue.h and queue_run.h. It owns queue.db (through its writer), the spool and the
 * schedule.
 *
 * One mutex guards the schedule; it is held for arithmetic only, never across a wait or a system
 * call but the start of a fiber. That departs from posting to one loop: a lock costs a fifth of a
 * post, and a session takes its next message without waiting for anybody.
 *
 * A new message is durable in the ledger (ledger.h); its row, and what changes afterwards, is written late
 * (queue_changes.h). */
#include "daemon/queue.h"

#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/deliver.h"
#include "daemon/deststats.h"
#include "daemon/dns.h"
#include "daemon/ledger.h"
#include "daemon/listeners.h"
#include "daemon/logfile.h"
#include "daemon/hosts.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/message.h"
#include "daemon/queue_changes.h"
#include "daemon/queue_clock.h"
#include "daemon/queue_repair.h"
#include "daemon/queue_run.h"
#include "daemon/queue_salvage.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/route.h"
#include "daemon/schedule.h"
#include "daemon/smtp_pool.h"
#include "daemon/stats.h"
#include "daemon/writer.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define ID_BLOCK 20000u /* identifiers reserved at a time */
#define RESIDENT_BYTES (96u << 20) /* bodies and envelopes that stay in memory as they arrive */
#define AHEAD_BYTES (16u << 20) /* of stored messages read ahead of their delivery */
#define LOAD_BATCH 256u
#define LOAD_PAUSE 2 /* ms between looks for messages to read, when the last one found none */
#define COMPACT_EVERY SECONDS(30)
#define COMPACT_FIRST SECONDS(3) /* what a crash leaves behind is a segment for each message that waits */
#define LOOK_AT 20000u /* messages of the schedule looked at in one go: others want its lock */
#define DUE_AT_ONCE 2000u /* ... or made due */
#define SETTLE_AT_ONCE 50u /* ... or taken out, given back */
#define READ_MS 4 /* one read of many rows takes no longer: acceptance waits meanwhile */
#define SCHEMA_FILE "schema/queue.sql"

__asm__(".section .rodata\n"
        ".global queue_schema\n"
        "queue_schema:\n"
        ".incbin \"" SCHEMA_FILE "\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char queue_schema[];

enum { ID_MID, ID_ICID, ID_DCID, ID_KINDS };

static struct {
    pthread_mutex_t lock;
    struct schedule schedule;
    sqlite3 *db; /* until the writer has it */
    char *path; /* of queue.db */
    bool damaged; /* found while it was read */
    bool missing, unreadable; /* rows are lost for good; rows are there that cannot be read */
    struct writer *writer;
    unsigned failures; /* of the spool, those the writer knows */
    uint64_t resident, loaded; /* bytes of messages in memory: as they came, and read back */
    bool running;

    struct wait tick; /* of the clock fiber, while ticking */
    bool ticking;
    struct wait load; /* of the loader fiber, while loading waits */
    bool load_waits;

    struct clock_jumps jumps; /* under the lock */
    usec_t clock_offset; /* of the wall clock from the one that never jumps, when it was last looked at; 0: never */
    struct map turns; /* of routes, unsigned *: which of equal hosts is first; there are as many as
                         routes */
    uint64_t park_from; /* the work queue is paused for messages from this MID on; 0: it is not */
    struct map kept; /* values as they were at the start, as uint64_t * */

    atomic_uint_fast64_t ids[ID_KINDS]; /* the last one given out */
    atomic_uint_fast64_t reserved[ID_KINDS]; /* on disk: none above it was given out */
    atomic_bool reserving;
} q = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const id_names[ID_KINDS] = {"mid", "icid", "dcid"};

/* --- identifiers --- */

static bool write_value(sqlite3 *db, const char *name, uint64_t value, struct err *err)
{
    sqlite3_stmt *s = writer_stmt(
        "INSERT INTO value VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", err);

    if (!s)
        return false;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)value);
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "writing %s: %s", name, sqlite3_errmsg(db));
    return true;
}

static bool write_changes(sqlite3 *db, void *arg, struct err *err)
{
    return changes_write(db, arg, err);
}

static bool reserve_ids(sqlite3 *db, void *unused, struct err *err)
{
    (void)unused;
    for (int k = 0; k < ID_KINDS; k++)
        if (!write_value(db, id_names[k], atomic_load(&q.ids[k]) + ID_BLOCK, err))
            return false;
    return true;
}

static void ids_reserved(void *unused, bool ok)
{
    (void)unused;
    /* What was written is at least this much; the counters went on meanwhile. */
    for (int k = 0; ok && k < ID_KINDS; k++)
        atomic_store(&q.reserved[k], atomic_load(&q.ids[k]) + ID_BLOCK / 2);
    atomic_store(&q.reserving, false);
}

static uint64_t next_id(int kind)
{
    uint64_t id = atomic_fetch_add(&q.ids[kind], 1) + 1;

    if (id + ID_BLOCK / 4 > atomic_load(&q.reserved[kind]) && q.writer &&
        !atomic_exchange(&q.reserving, true))
        writer_post(q.writer, reserve_ids, ids_reserved, NULL);
    return id;
}

uint64_t queue_next_mid(void)
{
    return next_id(ID_MID);
}

uint64_t queue_next_icid(void)
{
    return next_id(ID_ICID);
}

uint64_t queue_next_dcid(void)
{
    return next_id(ID_DCID);
}

void queue_last_ids(uint64_t out[3])
{
    for (int k = 0; k < ID_KINDS; k++)
        out[k] = atomic_load(&q.ids[k]);
}

static bool final_ids(sqlite3 *db, void *unused, struct err *err)
{
    (void)unused;
    for (int k = 0; k < ID_KINDS; k++)
        if (!write_value(db, id_names[k], atomic_load(&q.ids[k]), err))
            return false;
    return true;
}

static void kick_clock(void) /* under the lock */
{
    if (q.ticking) {
        q.ticking = false;
        wait_done(&q.tick);
    }
}

static void changes_failed(void)
{
    pthread_mutex_lock(&q.lock);
    kick_clock();
    pthread_mutex_unlock(&q.lock);
}

/* --- sessions, clock --- */

static void kick_loader(void) /* under the lock */
{
    if (q.load_waits && q.schedule.ncold > q.schedule.nasleep) {
        q.load_waits = false;
        wait_done(&q.load);
    }
}

/* Under the lock. */
static void open_sessions(msec_t now)
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
        open_sessions(now);
        kick_loader();
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

static uint64_t weight(const struct message *m)
{
    uint64_t n = body_length(m->body);

    return sizeof(*m) + m->arena.used + m->nrcpts * sizeof(struct rcpt) + (n > SPOOL_PIECE ? 0 : n);
}

/* Under the lock. */
static void keep_resident(struct queued *e, struct message *m, bool loaded)
{
    e->m = m;
    e->loaded = loaded;
    *(loaded ? &q.loaded : &q.resident) += weight(m);
}

static void drop_resident(struct queued *e)
{
    if (!e->m)
        return;
    *(e->loaded ? &q.loaded : &q.resident) -= weight(e->m);
    message_free(&e->m);
    kick_loader();
}

/* Under the lock. domain: any that has this key. */
static void set_limits(const struct config *cfg, struct dest *d, const char *domain)
{
    struct controls c;

    route_controls(cfg, domain, &c);
    d->limits = c.limits;
    if (c.per_address) /* the count is per host then; this only bounds the sum */
        d->limits.sessions = c.limits.sessions * 8 > 1000 ? 1000 : c.limits.sessions * 8;
    d->limited = true;
}

static struct dest *dest_for(const struct config *cfg, const char *key, const char *domain)
{
    struct dest *d = schedule_dest(&q.schedule, key);
    struct dest_stats known;

    if (!d->limited) {
        set_limits(cfg, d, domain);
        d->proven = deststats_get(domain, &known) && known.reach == DEST_UP;
    }
    return d;
}

/* No retry is further away than a day (bounceconfig): beyond two, the clock was set back meanwhile. */
static msec_t due_of(usec_t next_try, msec_t now, usec_t wall)
{
    if (next_try > wall + 2 * 86400 * (usec_t)1000000)
        return now;
    return next_try <= wall ? now : now + (next_try - wall) / 1000 + 1;
}

/* Does the paused work queue keep it? What we say ourselves is no unprocessed mail. Under the lock. */
static bool is_parked(const struct message *m, uint32_t attempts)
{
    return q.park_from && m->mid >= q.park_from && !attempts && !(m->flags & (MSG_ALERT | MSG_BOUNCE));
}

/* Makes the entry of a message: one item for every destination of recipients that are still queued.
 * Gives every recipient its item's number. NULL when none is left. Under the lock. */
static struct queued *make_entry(const struct config *cfg, struct message *m, msec_t now,
                                 usec_t wall)
{
    struct group {
        const char *domain; /* of the first recipient; borrowed */
        struct dest *dest;
        unsigned rcpts;
        uint32_t attempts;
        usec_t next_try;
    } first[16], *groups = first;
    unsigned n = 0, cap = countof(first);
    struct queued *e = NULL;
    struct tally tally = {0};
    struct dest_change *change;
    char key[600];

    for (unsigned i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        const char *domain = address_domain(r->address);
        struct dest *dest = NULL;
        unsigned g;

        if (r->state != RCPT_QUEUED)
            continue;
        change = tally_of(&tally, domain);
        change->gauge[DEST_ACTIVE]++;
        change->gauge[DEST_ATTEMPTED] += r->attempts > 0;
        for (g = 0; g < n && !str_eq(groups[g].domain, domain); g++)
            ;
        if (g == n) {
            route_key_via(cfg, m->redirect, domain, key, sizeof(key));
            dest = dest_for(cfg, key, domain);
            for (g = 0; g < n && groups[g].dest != dest; g++)
                ;
        }
        if (g == n) {
            if (n == cap) {
                struct group *more = xmalloc(2 * cap * sizeof(*more));

                memcpy(more, groups, n * sizeof(*more));
                if (groups != first)
                    free(groups);
                groups = more;
                cap *= 2;
            }
            groups[n++] = (struct group){domain, dest, 0, r->attempts, r->next_try};
        }
        r->item = (uint16_t)g;
        groups[g].rcpts++;
        if (r->next_try < groups[g].next_try)
            groups[g].next_try = r->next_try;
    }
    tally_end(&tally);
    if (n) {
        e = queued_new(m->mid, n);
        e->received = m->received;
        for (unsigned g = 0; g < n; g++) {
            e->items[g].dest = groups[g].dest;
            e->items[g].rcpts =
                (uint16_t)(groups[g].rcpts > UINT16_MAX ? UINT16_MAX : groups[g].rcpts);
            e->items[g].attempts = groups[g].attempts;
            e->items[g].due = is_parked(m, groups[g].attempts) ? PARKED
                                                               : due_of(groups[g].next_try, now, wall);
        }
    }
    if (groups != first)
        free(groups);
    return e;
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
    e = make_entry(cfg, m, now, clock_wall());
    if (e) { /* it has a recipient */
        e->segment = body_segment(m->body);
        if (q.resident < RESIDENT_BYTES && due_at_once(e, now) && !q.schedule.suspended)
            keep_resident(e, message_ref(m), false);
        schedule_add(&q.schedule, e, now);
        open_sessions(now);
        kick_loader();
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

/* --- for delivery sessions --- */

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

/* Under the lock: no session has the message in hand, and none will soon. */
static bool at_rest(const struct queued *e)
{
    for (unsigned i = 0; i < e->nitems; i++)
        if (e->items[i].state == ITEM_BUSY || e->items[i].state == ITEM_READY)
            return false;
    return true;
}

void queue_done(struct item *i)
{
    struct queued *e = i->message;
    struct change *c;
    uint64_t mid = e->mid;
    bool last;

    pthread_mutex_lock(&q.lock);
    last = schedule_done(&q.schedule, i);
    if (last) {
        c = change_gone(e->m);
        drop_resident(e);
        free(e);
    } else {
        c = change_state(e->m);
        if (at_rest(e))
            drop_resident(e);
    }
    changes_add(c);
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
        schedule_defer(&q.schedule, i, left, due_of(next_try, now, clock_wall()), now);
    } else {
        i->due = due_of(next_try, now, clock_wall());
        schedule_return(&q.schedule, i, left, now);
    }
    if (at_rest(e))
        drop_resident(e);
    kick_clock();
    pthread_mutex_unlock(&q.lock);
}

void queue_postpone(struct item *i, msec_t delay)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    schedule_postpone(&q.schedule, i, now + delay, now);
    kick_clock();
    pthread_mutex_unlock(&q.lock);
}

void queue_session_end(struct dest *d)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    schedule_close(&q.schedule, d, now);
    open_sessions(now);
    pthread_mutex_unlock(&q.lock);
}

void queue_dest_reached(struct dest *d)
{
    msec_t now = clock_now();

    pthread_mutex_lock(&q.lock);
    schedule_reached(&q.schedule, d, now);
    open_sessions(now);
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
    open_sessions(now);
    if (name)
        kick_loader();
    pthread_mutex_unlock(&q.lock);
    if (name)
        maillog_up("Destination", name, (uint64_t)(now - since) / 1000);
}

/* Under the lock. What waits for a destination that is down need not wait in memory. */
static void chill(struct dest *d, msec_t now)
{
    struct item *i;

    for (unsigned n = 0; n < DUE_AT_ONCE && (i = schedule_chill(&q.schedule, d, now)); n++)
        if (at_rest(i->message))
            drop_resident(i->message);
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
    kick_clock();
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
    kick_clock();
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

/* --- reading messages back --- */

static struct slice column(sqlite3_stmt *s, int n)
{
    struct slice v;

    v.p = sqlite3_column_blob(s, n);
    v.n = (size_t)sqlite3_column_bytes(s, n);
    return v;
}

struct load {
    struct flush flush; /* first, as in all that changes_written gets */
    struct item *items[LOAD_BATCH];
    struct message *messages[LOAD_BATCH];
    size_t n;
};

static struct message *read_message(sqlite3 *db, uint64_t mid, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("SELECT body, envelope, state FROM message WHERE mid = ?1", err);
    struct message *m = NULL;
    struct slice place;

    if (!s)
        return NULL;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)mid);
    if (sqlite3_step(s) != SQLITE_ROW) {
        err_set(err, E_IO, "message %" PRIu64 " is not in the database: %s", mid,
                sqlite3_errmsg(db));
        return NULL;
    }
    m = message_decode(mid, column(s, 1), column(s, 2), err);
    place = column(s, 0);
    if (m)
        m->body = body_decode(place.p, place.n, err);
    if (m && !m->body)
        message_free(&m);
    sqlite3_reset(s);
    return m;
}

static bool load_rows(sqlite3 *db, void *arg, struct err *err)
{
    struct load *l = arg;

    if (!changes_write(db, &l->flush,
                       err)) /* states not written yet must not be read back as they were */
        return false;
    for (size_t i = 0; i < l->n; i++) {
        struct err one = {0};

        l->messages[i] = read_message(db, l->items[i]->message->mid, &one);
        if (l->messages[i])
            body_load(l->messages[i]->body, NULL); /* a damaged body shows when it is sent */
        else
            log_critical("queue: %s", one.text);
    }
    return true;
}

/* The recipients of an item that was just read: those whose destination has its name, and any that
 * fit none (the configuration has changed since). Under the lock. */
static void number_rcpts(const struct config *cfg, struct message *m, const struct queued *e,
                         unsigned fallback)
{
    char key[600];

    for (unsigned r = 0; r < m->nrcpts; r++) {
        struct rcpt *rc = &m->rcpts[r];
        unsigned i = 0;

        if (rc->state != RCPT_QUEUED)
            continue;
        if (e->nitems > 1) {
            route_key_via(cfg, m->redirect, address_domain(rc->address), key, sizeof(key));
            while (i < e->nitems && (!e->items[i].dest || !str_eq(e->items[i].dest->key, key)))
                i++;
        }
        rc->item = (uint16_t)(i < e->nitems ? i : fallback);
    }
}

static void loader_fiber(void *unused)
{
    struct load *l = xcalloc(1, sizeof(*l));

    (void)unused;
    fiber_interruptible(true);
    while (!fiber_stopping()) {
        struct config *cfg;
        msec_t now;

        memset(l, 0, sizeof(*l));
        pthread_mutex_lock(&q.lock);
        l->n = schedule_cold(&q.schedule, l->items, LOAD_BATCH, q.loaded >= AHEAD_BYTES,
                             clock_now());
        if (!l->n) {
            wait_init(&q.load);
            q.load_waits = true;
        }
        pthread_mutex_unlock(&q.lock);
        if (!l->n) {
            wait_until(&q.load, NEVER, "messages to load");
            fiber_sleep(LOAD_PAUSE);
            pthread_mutex_lock(&q.lock);
            q.load_waits = false;
            pthread_mutex_unlock(&q.lock);
            continue;
        }
        writer_txn_then(q.writer, load_rows, changes_written, l, NULL);
        cfg = running_config();
        now = clock_now();
        pthread_mutex_lock(&q.lock);
        for (size_t i = 0; i < l->n; i++) {
            struct item *it = l->items[i];
            struct queued *e = it->message;

            if (l->messages[i] && !e->m) {
                number_rcpts(cfg, l->messages[i], e, (unsigned)(it - e->items));
                keep_resident(e, l->messages[i], true);
                l->messages[i] = NULL;
            }
            if (e->m)
                schedule_warm(&q.schedule, it, now);
            else
                schedule_defer(&q.schedule, it, it->rcpts, now + MINUTES(5),
                               now); /* the disk may recover */
            message_free(&l->messages[i]);
        }
        open_sessions(now);
        pthread_mutex_unlock(&q.lock);
        config_free(&cfg);
    }
    free(l);
}

/* --- compaction --- */

#define MOVE_BATCH 64u
#define MOVE_BYTES (1u << 20) /* at a time, because acceptance waits meanwhile */

struct move {
    uint64_t mids[MOVE_BATCH];
    struct body *old[MOVE_BATCH], *fresh[MOVE_BATCH]; /* fresh[i] is NULL where nothing was moved */
    size_t n;
};

/* Nobody has the message in memory or is about to: its row alone says where the body is. */
static bool only_on_disk(uint64_t mid)
{
    const struct queued *e;
    bool rests;

    pthread_mutex_lock(&q.lock);
    e = schedule_find(&q.schedule, mid);
    rests = e && !e->m && at_rest(e);
    pthread_mutex_unlock(&q.lock);
    return rests;
}

static bool move_one(uint64_t mid, struct body **old, struct body **fresh, struct err *err)
{
    sqlite3_stmt *read = writer_stmt("SELECT body FROM message WHERE mid = ?1", err);
    sqlite3_stmt *write = writer_stmt("UPDATE message SET body = ?2 WHERE mid = ?1", err);
    struct buf place = BUF_INIT(4096);
    struct slice was;
    bool ok = false;

    if (!read || !write || !only_on_disk(mid))
        return false;
    sqlite3_bind_int64(read, 1, (sqlite3_int64)mid);
    if (sqlite3_step(read) == SQLITE_ROW) {
        was = column(read, 0);
        *old = body_decode(was.p, was.n, err);
    }
    sqlite3_reset(read);
    *fresh = *old ? body_copy(*old, err) : NULL;
    if (*fresh) {
        body_encode(*fresh, &place);
        sqlite3_bind_int64(write, 1, (sqlite3_int64)mid);
        sqlite3_bind_blob(write, 2, place.p, (int)place.n, SQLITE_STATIC);
        ok = sqlite3_step(write) == SQLITE_DONE;
        sqlite3_reset(write);
        if (!ok)
            body_remove_pieces(*fresh);
    }
    if (!ok) {
        body_free(old);
        body_free(fresh);
    }
    buf_free(&place);
    return ok;
}

static bool move_bodies(sqlite3 *db, void *arg, struct err *err)
{
    struct move *m = arg;
    uint64_t bytes = 0;

    (void)db;
    writer_want_sync();
    for (size_t i = 0; i < m->n && bytes < MOVE_BYTES; i++)
        if (move_one(m->mids[i], &m->old[i], &m->fresh[i], err))
            bytes += body_length(m->fresh[i]);
    return true;
}

/* YIELDS. Copies what is left in a nearly empty segment to the current one. Returns how many
 * messages were moved. */
static size_t compact(struct move *m)
{
    uint32_t segment = spool_sparse_segment();
    size_t moved = 0;
    bool ok;

    memset(m, 0, sizeof(*m));
    if (!segment)
        return 0;
    for (size_t at = 0; at != SIZE_MAX && m->n < MOVE_BATCH;) {
        size_t end;

        pthread_mutex_lock(&q.lock);
        end = at + LOOK_AT < q.schedule.index_cap ? at + LOOK_AT : q.schedule.index_cap;
        for (; at < end && m->n < MOVE_BATCH; at++) {
            const struct queued *e = q.schedule.index[at];

            if (e && e->segment == segment && !e->m && at_rest(e))
                m->mids[m->n++] = e->mid;
        }
        if (at >= q.schedule.index_cap)
            at = SIZE_MAX;
        pthread_mutex_unlock(&q.lock);
    }
    if (!m->n)
        return 0;
    ok = writer_txn(q.writer, move_bodies, m, NULL);
    for (size_t i = 0; i < m->n; i++) {
        if (!m->fresh[i])
            continue;
        if (ok) { /* else the copies stay unused until the next start finds nobody refers to them */
            struct queued *e;

            body_remove_pieces(m->old[i]);
            pthread_mutex_lock(&q.lock);
            e = schedule_find(&q.schedule, m->mids[i]);
            if (e)
                e->segment = body_segment(m->fresh[i]);
            pthread_mutex_unlock(&q.lock);
            moved++;
        }
        body_free(&m->old[i]);
        body_free(&m->fresh[i]);
    }
    return moved;
}

static void compaction_fiber(void *unused)
{
    struct move *m = xcalloc(1, sizeof(*m));
    msec_t pause = COMPACT_FIRST;

    (void)unused;
    for (; fiber_sleep(pause); pause = COMPACT_EVERY)
        while (compact(m) && !fiber_stopping())
            ;
    free(m);
}

/* --- start and end --- */

static bool sql(sqlite3 *db, const char *text, struct err *err)
{
    char *message = NULL;

    if (sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK)
        return true;
    err_set(err, E_IO, "queue.db: %s", message ? message : sqlite3_errmsg(db));
    sqlite3_free(message);
    return false;
}

static bool database_error(sqlite3 *db, struct err *err)
{
    q.damaged = q.damaged || queue_damaged(db);
    return err_set(err, E_IO, "queue.db: %s", sqlite3_errmsg(db));
}

static bool read_values(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *s;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT name, value FROM value", -1, &s, NULL) != SQLITE_OK)
        return database_error(db, err);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(s, 0);
        uint64_t value = (uint64_t)sqlite3_column_int64(s, 1), *copy;

        for (int k = 0; k < ID_KINDS; k++)
            if (str_eq(name, id_names[k]))
                atomic_store(&q.ids[k], value);
        clock_jumps_read(&q.jumps, name, (usec_t)value);
        copy = xmalloc(sizeof(*copy));
        *copy = value;
        free(map_remove(&q.kept, name));
        map_set(&q.kept, name, copy);
    }
    if (rc != SQLITE_DONE)
        database_error(db, err);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE;
}

/* The clock may have been set since the row was written. A retry that is further away than the profile lets any be
 * was to be under a clock that was set back: it is due. */
static void mend_times(const struct config *cfg, struct message *m, usec_t wall)
{
    m->received = clock_jumps_apply(&q.jumps, m->mid, m->received);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        struct bounce_profile p;
        usec_t most;

        if (r->state != RCPT_QUEUED || r->next_try <= wall)
            continue;
        route_bounce_profile(cfg, address_domain(r->address), m->bounce_profile, &p);
        most = (usec_t)p.max_retry * 1000000;
        if (r->next_try > wall + most + most / 10 + 60 * (usec_t)1000000)
            r->next_try = wall;
    }
}

/* A row whose last recipient is done, but which was still to be deleted when the last engine ended. */
static void forget_later(uint64_t mid, struct slice place)
{
    struct body *body = body_decode(place.p, place.n, NULL);
    struct change *c;

    if (!body)
        return;
    c = xcalloc(1, sizeof(*c));
    c->mid = mid;
    c->gone = body;
    changes_add(c);
}

/* Every row becomes an entry of the schedule. A damaged one is told and left alone. false: a page
 * cannot be read, or the disk. */
static bool load_entries(sqlite3 *db, const struct config *cfg, struct err *err)
{
    msec_t now = clock_now();
    usec_t wall = clock_wall();
    uint64_t damaged = 0;
    sqlite3_stmt *s;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT mid, body, envelope, state FROM message ORDER BY mid", -1,
                           &s, NULL) != SQLITE_OK)
        return database_error(db, err);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        uint64_t mid = (uint64_t)sqlite3_column_int64(s, 0);
        struct slice place = column(s, 1);
        struct err one = {0};
        struct message *m = NULL;
        struct queued *e = NULL;

        if (spool_account(place.p, place.n, &one))
            m = message_decode(mid, column(s, 2), column(s, 3), &one);
        if (m) {
            mend_times(cfg, m, wall);
            e = make_entry(cfg, m, now, wall);
        }
        if (e) {
            e->segment = spool_segment_of(place.p, place.n);
            schedule_add(&q.schedule, e, now);
        } else if (m) {
            forget_later(mid, place);
        } else {
            damaged++;
            log_critical("queue: message %" PRIu64 " cannot be delivered: %s", mid, one.text);
        }
        if (mid > atomic_load(&q.ids[ID_MID]))
            atomic_store(&q.ids[ID_MID], mid);
        message_free(&m);
    }
    if (rc != SQLITE_DONE) {
        database_error(db, err);
        sqlite3_finalize(s);
        return false;
    }
    sqlite3_finalize(s);
    if (damaged) {
        q.unreadable = true;
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "queue damaged",
                    "%" PRIu64 " messages cannot be delivered, because their envelopes or bodies cannot be "
                    "read; they stay in queue.db, and the system log has their MIDs. All others are delivered.",
                    damaged);
    }
    if (q.schedule.messages)
        log_info("queue: %" PRIu64 " messages, %" PRIu64 " recipients", q.schedule.messages,
                 q.schedule.rcpts);
    if (damaged)
        log_critical("queue: %" PRIu64 " messages are damaged and stay in queue.db", damaged);
    return true;
}

/* --- what the ledger has and queue.db has not --- */

struct recovery {
    const struct config *cfg;
    uint64_t passed; /* known to be in queue.db, or to have been */
    struct ledger_mark mark; /* the last record */
    bool add; /* the second time through: only then is passed known */
    uint64_t added, damaged, last; /* last: of one segment */
    struct change *rows, **end;
    struct body **bad; /* of damaged messages: their bytes count until all others are counted */
    size_t nbad;
};

static bool recover_message(struct recovery *r, const struct ledger_record *rec, struct err *err)
{
    struct message *m = message_decode(rec->mid, rec->envelope, (struct slice){NULL, 0}, err);
    struct queued *e = NULL;
    struct change *row;

    /* Its bytes count before they are looked at: nothing else may keep the segment yet. */
    if (m && spool_account(rec->place.p, rec->place.n, err))
        m->body = body_decode(rec->place.p, rec->place.n, err);
    row = m && m->body && body_check(m->body, err) ? change_row(m, err) : NULL; /* as it was */
    if (row) {
        mend_times(r->cfg, m, clock_wall());
        e = make_entry(r->cfg, m, clock_now(), clock_wall());
    }
    if (row && !e) {
        change_free(row);
        row = NULL;
    }
    if (row) {
        e->segment = body_segment(m->body);
        schedule_add(&q.schedule, e, clock_now());
        *r->end = row;
        r->end = &row->next;
        if (rec->mid > atomic_load(&q.ids[ID_MID]))
            atomic_store(&q.ids[ID_MID], rec->mid);
    }
    if (!row && m && m->body) {
        r->bad = xrealloc(r->bad, (r->nbad + 1) * sizeof(struct body *));
        r->bad[r->nbad++] = body_ref(m->body);
    }
    message_free(&m);
    return row;
}

static bool read_record(void *arg, uint32_t number, const struct ledger_record *rec)
{
    struct recovery *r = arg;
    struct err err = {0};

    r->last = rec->seq;
    if (rec->passed > r->passed && !r->add)
        r->passed = rec->passed;
    if (rec->seq > r->mark.seq)
        r->mark = (struct ledger_mark){rec->seq, number};
    if (!r->add || rec->seq <= r->passed || schedule_find(&q.schedule, rec->mid))
        return true;
    if (recover_message(r, rec, &err)) {
        r->added++;
    } else {
        r->damaged++;
        log_critical("queue: message %" PRIu64 " was being stored when the engine ended, and cannot be read: %s",
                     rec->mid, err.text);
    }
    return true;
}

static uint64_t read_segment(void *arg, uint32_t number, struct slice area)
{
    struct recovery *r = arg;
    uint64_t lost;

    r->last = 0;
    lost = ledger_scan(number, area, read_record, r);
    if (lost && r->add)
        log_critical("queue: %" PRIu64 " bytes of the ledger in segment %08" PRIx32
                     " are damaged, or were never completely written",
                     lost, number);
    return r->last;
}

/* Twice: a queue.db that was repaired may not know how far it had come, and the records do. */
static void read_ledger(const struct config *cfg, struct recovery *r)
{
    uint32_t from = (uint32_t)queue_kept_value("ledger_segment");

    r->cfg = cfg;
    r->end = &r->rows;
    r->passed = queue_kept_value("ledger");
    r->mark = (struct ledger_mark){r->passed, from};
    spool_ledger_read(from, read_segment, r);
    r->add = true;
    if (r->mark.seq > r->passed) /* not after an orderly end */
        spool_ledger_read(from, read_segment, r);
    changes_add_rows(r->rows, &r->mark);
    for (size_t i = 0; i < r->nbad; i++) {
        if (!q.unreadable) /* else a row that nobody could read may need the segment */
            body_remove_pieces(r->bad[i]);
        body_free(&r->bad[i]);
    }
    free(r->bad);
    if (r->added)
        log_info("queue: %" PRIu64 " messages more, from the ledger", r->added);
    if (r->damaged)
        log_critical("queue: %" PRIu64 " messages of the ledger cannot be read; none of them was acknowledged, "
                     "unless the disk has lost what it had taken",
                     r->damaged);
}

static sqlite3 *open_database(const char *path, struct err *err)
{
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        err_set(err, E_IO, "opening %s: %s", path, db ? sqlite3_errmsg(db) : "no memory");
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_extended_result_codes(db, 1);
    /* EXCLUSIVE first: WAL then needs no shared memory. One commit is one sync of the log. */
    if (!sql(
            db,
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;"
            "PRAGMA wal_autocheckpoint = 4000;",
            err) ||
        !sql(db, queue_schema, err)) {
        q.damaged = queue_damaged(db);
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

static bool open_and_read(struct err *err)
{
    q.damaged = false;
    q.jumps.n = 0;
    q.db = open_database(q.path, err);
    if (q.db && read_values(q.db, err))
        return true;
    sqlite3_close(q.db);
    q.db = NULL;
    return false;
}

static bool repair(struct err *err)
{
    *err = (struct err){0};
    return queue_repair(q.path, &q.missing, err);
}

bool queue_start(const char *home, struct err *err)
{
    char *spool = xasprintf("%s/spool", home);
    const char *name;
    size_t pos = 0;
    void *value;
    bool ok;

    q.path = xasprintf("%s/queue.db", home);
    schedule_init(&q.schedule, 1);
    ok = spool_open(spool, err) && queue_repair_finish(q.path, err) &&
         ((!queue_repair_wanted(q.path) && !queue_log_damaged(q.path)) || repair(err)) &&
         (open_and_read(err) || (q.damaged && repair(err) && open_and_read(err)));
    free(spool);
    if (!ok)
        return false;
    q.schedule.suspended = queue_kept_value("suspended") != 0;
    q.park_from = queue_kept_value("park_from");
    while (map_next(&q.kept, &pos, &name, &value)) /* see control_queue.c */
        if (str_starts(name, "listener/") && *(uint64_t *)value)
            listeners_suspend(name[9] ? name + 9 : NULL, true);
    return true;
}

/* The database is repaired, and everything that was read of it is read again. */
static bool load_again(const struct config *cfg, struct err *err)
{
    bool suspended = q.schedule.suspended;

    sqlite3_close(q.db);
    q.db = NULL;
    schedule_free(&q.schedule);
    schedule_init(&q.schedule, 1);
    q.schedule.suspended = suspended;
    deststats_forget();
    changes_stop();
    spool_forget_accounts();
    return repair(err) && open_and_read(err) && load_entries(q.db, cfg, err);
}

/* On the writer's thread. What cannot be read is not better tomorrow; a new start repairs it, and what
 * was acknowledged is on disk. */
static void found_damaged(void)
{
    queue_repair_want(q.path);
    log_critical("queue: %s is damaged; the engine ends, and the next one repairs it", q.path);
    logfile_flush();
    _exit(70);
}

/* Those that were before every message that is left. */
static void forget_jumps(void)
{
    const struct queued *oldest = schedule_oldest(&q.schedule);
    unsigned n = q.jumps.n;

    clock_jumps_forget(&q.jumps, oldest ? oldest->mid : UINT64_MAX);
    if (q.jumps.n != n)
        changes_add(change_jumps(&q.jumps));
}

/* With the first configuration: destinations have limits and routes only now. */
static bool load_queue(const struct config *cfg, struct err *err)
{
    struct recovery recovered = {0};

    if (q.writer)
        return true;
    if (!q.db)
        return err_set(err, E_IO, "the queue is not open");
    if (!load_entries(q.db, cfg, err) && !(q.damaged && load_again(cfg, err)))
        return false;
    read_ledger(cfg, &recovered);
    forget_jumps();
    if (!q.kept.n && spool_bodies()) { /* it was there before: somebody took it away */
        q.missing = true;
        log_critical("queue: queue.db is new, but there are bodies in the spool; they are kept as lost-*");
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "queue missing",
                    "The queue's database was missing at the start and is new, but there are bodies of messages "
                    "in the spool. They are kept there as lost-*; without the database nobody knows where they go.");
    }
    if (q.missing)
        spool_keep_lost();
    spool_ready(!q.unreadable);
    q.failures = spool_failures();
    q.writer = writer_new("queue", q.db, spool_sync, &q.failures);
    writer_on_damage(q.writer, found_damaged);
    q.db = NULL; /* the writer's now */
    changes_start(q.writer, recovered.passed, changes_failed);
    spool_ledger_passed(recovered.passed);
    ledger_start(&recovered.mark);
    /* A full disk must not keep what is queued from being delivered; they are reserved later. */
    ids_reserved(NULL, writer_txn(q.writer, reserve_ids, NULL, NULL));
    return true;
}

void queue_stop(void)
{
    struct flush f = {0};
    unsigned unwritten;
    const char *key;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&q.lock);
    q.running = false;
    pthread_mutex_unlock(&q.lock);
    ledger_stop();
    if (q.writer) {
        writer_txn_then(q.writer, write_changes, changes_written, &f, NULL);
        writer_txn(q.writer, final_ids, NULL, NULL);
        writer_free(&q.writer);
    }
    sqlite3_close(q.db);
    q.db = NULL;
    unwritten = changes_stop();
    if (unwritten)
        log_critical("queue: what became of %u messages could not be written; they may be delivered again",
                     unwritten);
    smtp_pool_stop();
    schedule_free(&q.schedule);
    spool_close();
    free(q.path);
    q.path = NULL;
    while (map_next(&q.kept, &pos, &key, &value))
        free(value);
    map_free(&q.kept);
    pos = 0;
    while (map_next(&q.turns, &pos, &key, &value))
        free(value);
    map_free(&q.turns);
}

/* --- configuration --- */

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    (void)old;
    *state = NULL;
    return load_queue(cfg, err); /* a later configuration holds nothing that can fail here */
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

        set_limits(cfg, d, entry ? entry + 1 : key);
    }
    schedule_probe(&q.schedule, NULL, now); /* routes, addresses, anything may be better now */
    begin = !q.running;
    q.running = true;
    open_sessions(now);
    kick_loader();
    pthread_mutex_unlock(&q.lock);
    if (begin) {
        fiber_spawn(loops_get(0), "queue clock", clock_fiber, NULL);
        fiber_spawn(loops_get(0), "queue loader", loader_fiber, NULL);
        fiber_spawn(loops_get(0), "spool compaction", compaction_fiber, NULL);
    }
}

static void discard(void *state)
{
    (void)state;
}

const struct reload_part reload_queue = {"the queue", prepare, publish, discard};

/* --- for the console --- */

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
        struct slice place = column(s, 1);
        struct message *m = message_decode(mid, column(s, 2), column(s, 3), NULL);
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
        open_sessions(now);
        kick_loader();
        kick_clock();
        pthread_mutex_unlock(&q.lock);
    }
    return n;
}

/* --- operations on the queue --- */

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
        struct slice place = column(s, 1);
        struct message *m;

        j->last = (uint64_t)sqlite3_column_int64(s, 0);
        if (j->pick->until && j->last > j->pick->until) {
            rc = SQLITE_DONE;
            break;
        }
        m = message_decode(j->last, column(s, 2), column(s, 3), NULL);
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

/* For recipients whose destination has another name by now: an item that is not done. */
static unsigned fallback_of(const struct queued *e)
{
    unsigned i = 0;

    while (i + 1 < e->nitems && e->items[i].state == ITEM_DONE)
        i++;
    return i;
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
            number_rcpts(j->cfg, c->m, e, fallback_of(e));
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
        fresh = read_message(db, c->m->mid, NULL);
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
            number_rcpts(j->cfg, c->m, c->e, fallback_of(c->e));
            keep_resident(c->e, message_ref(c->m), true);
        }
        if (!c->unread || c->e->m)
            choose_rcpts(j->pick, c);
        return_items(c, false, now);
        if (!c->n && at_rest(c->e))
            drop_resident(c->e);
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

/* Under the lock: sessions, loader and clock look at what was given back. */
static void resume_work(msec_t now)
{
    open_sessions(now);
    kick_loader();
    kick_clock();
}

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
        resume_work(now);
        end_hold(began);
    }
}

static void release_one(struct claim *c, void *unused, msec_t now)
{
    (void)unused;
    if (c->items)
        return_items(c, true, now);
    if (at_rest(c->e))
        drop_resident(c->e);
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
    struct change *change;
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
    if (last) {
        change = change_gone(c->m);
        drop_resident(e);
        free(e);
    } else {
        change = change_state(c->m);
        if (at_rest(e))
            drop_resident(e);
    }
    changes_add(change);
}

bool queue_written(struct err *err)
{
    struct flush f = {0};

    return writer_txn_then(q.writer, write_changes, changes_written, &f, err) ||
           err_wrap(err, "the queue's disk does not take the change, it is tried again");
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
        to = dest_for(r->cfg, key, domain);
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

struct get {
    struct flush flush;
    uint64_t mid;
    struct message *m;
    struct err err;
};

static bool get_row(sqlite3 *db, void *arg, struct err *err)
{
    struct get *g = arg;
    bool there;

    if (!changes_write(db, &g->flush, err))
        return false;
    pthread_mutex_lock(&q.lock);
    there = schedule_find(&q.schedule, g->mid) != NULL; /* if it is, its row is too */
    pthread_mutex_unlock(&q.lock);
    if (!there)
        err_set(&g->err, E_NOT_FOUND, "There is no message with the MID %" PRIu64 " in the queue.", g->mid);
    else
        g->m = read_message(db, g->mid, &g->err);
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

struct kept {
    const char *name;
    uint64_t value;
};

static bool keep_value(sqlite3 *db, void *arg, struct err *err)
{
    const struct kept *k = arg;

    return write_value(db, k->name, k->value, err);
}

bool queue_keep_value(const char *name, uint64_t value, struct err *err)
{
    struct kept k = {name, value};

    return writer_txn(q.writer, keep_value, &k, err);
}

uint64_t queue_kept_value(const char *name)
{
    const uint64_t *v = map_get(&q.kept, name);

    return v ? *v : 0;
}

bool queue_suspend(bool on, struct err *err)
{
    msec_t now = clock_now();

    if (!queue_keep_value("suspended", on, err))
        return false;
    pthread_mutex_lock(&q.lock);
    schedule_suspend(&q.schedule, on, now);
    resume_work(now);
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

bool queue_pause(bool on, struct err *err)
{
    msec_t now = clock_now();
    uint64_t ids[3];

    queue_last_ids(ids);
    if (on == queue_paused())
        return true;
    if (!queue_keep_value("park_from", on ? ids[0] + 1 : 0, err))
        return false;
    pthread_mutex_lock(&q.lock);
    q.park_from = on ? ids[0] + 1 : 0;
    pthread_mutex_unlock(&q.lock);
    for (size_t at = SIZE_MAX; at && !on;) {
        pthread_mutex_lock(&q.lock);
        schedule_unpark(&q.schedule, &at, DUE_AT_ONCE, now);
        resume_work(now);
        pthread_mutex_unlock(&q.lock);
    }
    return true;
}

bool queue_paused(void)
{
    bool on;

    pthread_mutex_lock(&q.lock);
    on = q.park_from;
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
