/* queue_load.c - see queue_inside.h: what is due and only on disk is read ahead of its delivery, some hundred
 * messages at a time, so that sessions find work in memory. */
#include "daemon/queue_inside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/message.h"
#include "daemon/reload.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define AHEAD_BYTES (16u << 20) /* of stored messages read ahead of their delivery */
#define LOAD_BATCH 256u
#define LOAD_PAUSE 2 /* ms between looks for messages to read, when the last one found none */

struct load {
    struct flush flush; /* first, as in all that changes_written gets */
    struct item *items[LOAD_BATCH];
    struct message *messages[LOAD_BATCH];
    size_t n;
};

struct slice row_column(sqlite3_stmt *s, int n)
{
    struct slice v;

    v.p = sqlite3_column_blob(s, n);
    v.n = (size_t)sqlite3_column_bytes(s, n);
    return v;
}

struct message *row_message(sqlite3 *db, uint64_t mid, struct err *err)
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
    m = message_decode(mid, row_column(s, 1), row_column(s, 2), err);
    place = row_column(s, 0);
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

        l->messages[i] = row_message(db, l->items[i]->message->mid, &one);
        if (l->messages[i])
            body_load(l->messages[i]->body, NULL); /* a damaged body shows when it is sent */
        else
            log_critical("queue: %s", one.text);
    }
    return true;
}

void queue_loader(void *unused)
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
                entry_number(cfg, l->messages[i], e, (unsigned)(it - e->items));
                entry_keep(e, l->messages[i], true);
                l->messages[i] = NULL;
            }
            if (e->m)
                schedule_warm(&q.schedule, it, now);
            else
                schedule_defer(&q.schedule, it, it->rcpts, now + MINUTES(5),
                               now); /* the disk may recover */
            message_free(&l->messages[i]);
        }
        queue_open_sessions(now);
        pthread_mutex_unlock(&q.lock);
        config_free(&cfg);
    }
    free(l);
}
