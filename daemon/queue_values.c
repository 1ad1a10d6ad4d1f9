/* queue_values.c - see queue_inside.h: MIDs, ICIDs and DCIDs grow over restarts, because a block of them is reserved on
 * disk before any of it is given out; and what else queue.db remembers by name. */
#include "daemon/queue_inside.h"

#define ID_BLOCK 20000u /* identifiers reserved at a time */

const char *const queue_id_names[ID_KINDS] = {"mid", "icid", "dcid"};

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

bool ids_reserve(sqlite3 *db, void *unused, struct err *err)
{
    (void)unused;
    for (int k = 0; k < ID_KINDS; k++)
        if (!write_value(db, queue_id_names[k], atomic_load(&q.ids[k]) + ID_BLOCK, err))
            return false;
    return true;
}

void ids_reserved(void *unused, bool ok)
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
        writer_post(q.writer, ids_reserve, ids_reserved, NULL);
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

bool ids_final(sqlite3 *db, void *unused, struct err *err)
{
    (void)unused;
    for (int k = 0; k < ID_KINDS; k++)
        if (!write_value(db, queue_id_names[k], atomic_load(&q.ids[k]), err))
            return false;
    return true;
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

struct pause {
    uint64_t from;
    const char *by; /* NULL: resumed */
};

static bool keep_pause(sqlite3 *db, void *arg, struct err *err)
{
    const struct pause *p = arg;
    sqlite3_stmt *s;

    if (!write_value(db, "park_from", p->from, err))
        return false;
    s = writer_stmt(p->by ? "INSERT OR REPLACE INTO note VALUES ('paused_by', ?1)"
                          : "DELETE FROM note WHERE name = 'paused_by'",
                    err);
    if (!s)
        return false;
    if (p->by)
        sqlite3_bind_text(s, 1, p->by, -1, SQLITE_STATIC);
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "writing who paused the work queue: %s", sqlite3_errmsg(db));
    return true;
}

bool queue_keep_pause(uint64_t from, const char *by, struct err *err)
{
    struct pause p = {from, by};

    return writer_txn(q.writer, keep_pause, &p, err);
}

uint64_t queue_kept_value(const char *name)
{
    const uint64_t *v = map_get(&q.kept, name);

    return v ? *v : 0;
}
