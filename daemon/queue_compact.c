/* queue_compact.c - see queue_inside.h: a message that waits long must not keep the whole segment it came in, so what
 * is left of a nearly empty one is copied to the current one. */
#include "daemon/queue_inside.h"

#include <stdlib.h>

#include "store/base/buf.h"

#define COMPACT_EVERY SECONDS(30)
#define COMPACT_FIRST SECONDS(3) /* what a crash leaves behind is a segment for each message that waits */
#define MOVE_BATCH 64u
#define MOVE_BYTES (1u << 20) /* at a time, because acceptance waits meanwhile */

struct move {
    uint64_t mids[MOVE_BATCH];
    struct body *old[MOVE_BATCH], *fresh[MOVE_BATCH]; /* fresh[i] is NULL where nothing was moved */
    size_t n;
    bool undecided; /* the commit failed, and perhaps it did not */
    unsigned failures; /* in a row */
};

/* Nobody has the message in memory or is about to: its row alone says where the body is. */
static bool only_on_disk(uint64_t mid)
{
    const struct queued *e;
    bool rests;

    pthread_mutex_lock(&q.lock);
    e = schedule_find(&q.schedule, mid);
    rests = e && !e->m && entry_rests(e);
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
        was = row_column(read, 0);
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

static void release(struct move *m, bool copies)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->fresh[i] && copies)
            body_remove_pieces(m->fresh[i]);
        if (m->fresh[i]) {
            body_free(&m->old[i]);
            body_free(&m->fresh[i]);
        }
    }
    m->undecided = false;
}

/* YIELDS. A commit that failed may be on disk all the same: after a crash the rows would name the copies, so both stay.
 * One that goes well afterwards takes its place in the log of queue.db. false: there is none yet. */
static bool decide(struct move *m)
{
    if (m->undecided && !writer_txn(q.writer, ids_reserve, NULL, NULL))
        return false;
    if (m->undecided)
        release(m, true);
    return true;
}

/* YIELDS. Copies what is left in a nearly empty segment to the current one. Returns how many
 * messages were moved. */
static size_t compact(struct move *m)
{
    uint32_t segment;
    size_t moved = 0;

    if (!decide(m))
        return 0;
    *m = (struct move){.failures = m->failures};
    segment = spool_sparse_segment();
    if (!segment)
        return 0;
    for (size_t at = 0; at != SIZE_MAX && m->n < MOVE_BATCH;) {
        size_t end;

        pthread_mutex_lock(&q.lock);
        end = at + LOOK_AT < q.schedule.index_cap ? at + LOOK_AT : q.schedule.index_cap;
        for (; at < end && m->n < MOVE_BATCH; at++) {
            const struct queued *e = q.schedule.index[at];

            if (e && e->segment == segment && !e->m && entry_rests(e))
                m->mids[m->n++] = e->mid;
        }
        if (at >= q.schedule.index_cap)
            at = SIZE_MAX;
        pthread_mutex_unlock(&q.lock);
    }
    if (!m->n)
        return 0;
    if (!writer_txn(q.writer, move_bodies, m, NULL)) {
        m->undecided = true;
        m->failures++;
        return 0;
    }
    m->failures = 0;
    for (size_t i = 0; i < m->n; i++) {
        struct queued *e;

        if (!m->fresh[i])
            continue;
        body_remove_pieces(m->old[i]);
        pthread_mutex_lock(&q.lock);
        e = schedule_find(&q.schedule, m->mids[i]);
        if (e)
            e->segment = body_segment(m->fresh[i]);
        pthread_mutex_unlock(&q.lock);
        moved++;
    }
    release(m, false);
    return moved;
}

void queue_compaction(void *unused)
{
    struct move *m = xcalloc(1, sizeof(*m));
    msec_t pause = COMPACT_FIRST;

    (void)unused;
    for (; fiber_sleep(pause); pause = m->failures == 1 ? COMPACT_FIRST : COMPACT_EVERY)
        while (compact(m) && !fiber_stopping())
            ;
    if (m->undecided)
        release(m, false);
    free(m);
}
