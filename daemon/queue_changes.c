/* queue_changes.c - see queue_changes.h. */
#include "daemon/queue_changes.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/message.h"
#include "daemon/queue_clock.h"
#include "daemon/writer.h"
#include "store/base/buf.h"
#include "store/base/str.h"

#define FLUSH_RETRY SECONDS(2)
#define MAX_ROWS 50000u /* not yet written: beyond it nothing more is accepted */
#define MAX_ENVELOPE (64u << 20)

static struct {
    pthread_mutex_t lock;
    struct writer *writer;
    void (*failed)(void);
    struct change *list, **end;
    struct ledger_mark mark; /* of all that was ever listed */
    uint64_t passed; /* on disk */
    uint64_t last; /* number */
    unsigned rows; /* new ones that are not on disk */
    bool posted;
    bool stuck; /* the last flush failed */
    msec_t again;
} ch = {.lock = PTHREAD_MUTEX_INITIALIZER, .end = &ch.list};

/* --- one change --- */

struct change *change_row(const struct message *m, struct err *err)
{
    struct buf b = BUF_INIT(MAX_ENVELOPE);
    struct change *c;
    size_t place;

    body_encode(m->body, &b);
    place = b.n;
    message_encode(m, &b);
    if (b.full) {
        buf_free(&b);
        err_set(err, E_LIMIT, "the envelope is too large");
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    c->mid = m->mid;
    c->place = (uint32_t)place;
    c->n = (uint32_t)b.n;
    c->bytes = buf_take(&b);
    return c;
}

struct change *change_state(const struct message *m)
{
    struct buf b = BUF_INIT(256u << 20);
    struct change *c = xcalloc(1, sizeof(*c));

    message_encode_state(m, &b);
    c->mid = m->mid;
    c->n = (uint32_t)b.n;
    c->bytes = buf_take(&b);
    return c;
}

struct change *change_gone(const struct message *m)
{
    struct change *c = xcalloc(1, sizeof(*c));

    c->mid = m->mid;
    c->gone = body_ref(m->body);
    return c;
}

struct change *change_jumps(const struct clock_jumps *j)
{
    struct change *c = xcalloc(1, sizeof(*c));

    c->jumps = xmalloc(sizeof(*j));
    *c->jumps = *j;
    return c;
}

void change_free(struct change *c)
{
    body_free(&c->gone);
    free(c->jumps);
    free(c->bytes);
    free(c);
}

static bool write_jumps(sqlite3 *db, const struct clock_jumps *jumps, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("DELETE FROM value WHERE name GLOB '" CLOCK_ROW "*'", err);
    char name[CLOCK_ROW_SIZE];
    bool ok = s && sqlite3_step(s) == SQLITE_DONE;

    for (unsigned i = 0; ok && i < jumps->n; i++) {
        s = writer_stmt("INSERT INTO value VALUES (?1, ?2)", err);
        if (!s)
            return false;
        clock_jump_row(jumps, i, name);
        sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(s, 2, jumps->of[i].by);
        ok = sqlite3_step(s) == SQLITE_DONE;
    }
    return ok || err_set(err, E_IO, "writing how the clock was set: %s", sqlite3_errmsg(db));
}

bool change_write(sqlite3 *db, const struct change *c, struct err *err)
{
    sqlite3_stmt *s;

    if (c->jumps)
        return write_jumps(db, c->jumps, err);
    s = c->place ? writer_stmt("INSERT INTO message (mid, body, envelope) VALUES (?1, ?2, ?3)", err)
        : c->gone ? writer_stmt("DELETE FROM message WHERE mid = ?1", err)
                  : writer_stmt("UPDATE message SET state = ?2 WHERE mid = ?1", err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)c->mid);
    if (c->place) {
        sqlite3_bind_blob(s, 2, c->bytes, (int)c->place, SQLITE_STATIC);
        sqlite3_bind_blob(s, 3, c->bytes + c->place, (int)(c->n - c->place), SQLITE_STATIC);
    } else if (!c->gone) {
        sqlite3_bind_blob(s, 2, c->bytes, (int)c->n, SQLITE_STATIC);
    }
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "writing what became of message %" PRIu64 ": %s", c->mid,
                       sqlite3_errmsg(db));
    return true;
}

/* --- the list --- */

static bool flush_job(sqlite3 *db, void *arg, struct err *err)
{
    return changes_write(db, arg, err);
}

static void put_back(struct change *list);

static void flush_done(void *arg, bool ok)
{
    struct flush *f = arg;

    if (ok) {
        changes_written(f, true);
    } else {
        pthread_mutex_lock(&ch.lock);
        ch.posted = false; /* it may not even have begun */
        pthread_mutex_unlock(&ch.lock);
        put_back(f->list);
    }
    free(f);
}

/* Under the lock. */
static void post(void)
{
    if (!ch.posted && ch.writer) {
        ch.posted = true;
        writer_post(ch.writer, flush_job, flush_done, xcalloc(1, sizeof(struct flush)));
    }
}

/* Under the lock. */
static void append(struct change *list)
{
    *ch.end = list;
    for (; list; list = list->next) {
        list->number = ++ch.last;
        ch.rows += list->place > 0;
        ch.end = &list->next;
    }
}

void changes_start(struct writer *w, uint64_t passed, void (*failed)(void))
{
    pthread_mutex_lock(&ch.lock);
    ch.writer = w;
    ch.failed = failed;
    ch.passed = passed;
    if (ch.list || ch.mark.seq != passed) /* records that could not be read have passed, too */
        post();
    pthread_mutex_unlock(&ch.lock);
}

unsigned changes_stop(void)
{
    unsigned unwritten = 0;
    struct change *list;

    pthread_mutex_lock(&ch.lock);
    ch.writer = NULL;
    ch.failed = NULL;
    ch.posted = ch.stuck = false;
    ch.mark = (struct ledger_mark){0};
    ch.passed = 0;
    ch.rows = 0;
    list = ch.list;
    ch.list = NULL;
    ch.end = &ch.list;
    pthread_mutex_unlock(&ch.lock);
    for (struct change *next; list; list = next) {
        next = list->next;
        change_free(list);
        unwritten++;
    }
    return unwritten;
}

void changes_add(struct change *c)
{
    c->next = NULL;
    pthread_mutex_lock(&ch.lock);
    append(c);
    post();
    pthread_mutex_unlock(&ch.lock);
}

void changes_add_rows(struct change *list, const struct ledger_mark *mark)
{
    pthread_mutex_lock(&ch.lock);
    append(list);
    ch.mark = *mark;
    post();
    pthread_mutex_unlock(&ch.lock);
}

uint64_t changes_passed(void)
{
    uint64_t passed;

    pthread_mutex_lock(&ch.lock);
    passed = ch.passed;
    pthread_mutex_unlock(&ch.lock);
    return passed;
}

bool changes_stuck(void)
{
    bool stuck;

    pthread_mutex_lock(&ch.lock);
    stuck = ch.stuck;
    pthread_mutex_unlock(&ch.lock);
    return stuck;
}

bool changes_accept(struct err *err)
{
    bool ok;

    pthread_mutex_lock(&ch.lock);
    ok = ch.rows < MAX_ROWS;
    pthread_mutex_unlock(&ch.lock);
    return ok || err_set(err, E_LIMIT, "the queue's database is slower than its mail");
}

msec_t changes_retry(msec_t now)
{
    msec_t when = NEVER;

    pthread_mutex_lock(&ch.lock);
    if (ch.list && !ch.posted) {
        if (now < ch.again)
            when = ch.again;
        else
            post();
    }
    pthread_mutex_unlock(&ch.lock);
    return when;
}

/* --- writing --- */

struct change *changes_take(struct flush *f)
{
    struct change *list;

    pthread_mutex_lock(&ch.lock);
    list = ch.list;
    ch.list = NULL;
    ch.end = &ch.list;
    f->mark = ch.mark;
    pthread_mutex_unlock(&ch.lock);
    return list;
}

/* Rows by MID, open addressing. */
struct rows {
    struct change **slots;
    size_t mask;
};

static struct change **slot_of(const struct rows *r, uint64_t mid)
{
    size_t i = (size_t)(mid * 0x9e3779b97f4a7c15u >> 20) & r->mask;

    while (r->slots[i] && r->slots[i]->mid != mid)
        i = (i + 1) & r->mask;
    return &r->slots[i];
}

/* A message whose row would be added and deleted again needs neither. */
static void skip_finished(struct change *list)
{
    struct rows r = {NULL, 0};
    size_t n = 0;

    for (const struct change *c = list; c; c = c->next)
        n += c->place > 0;
    if (!n)
        return;
    for (r.mask = 16; r.mask < 2 * n; r.mask *= 2)
        ;
    r.slots = xcalloc(r.mask, sizeof(struct change *));
    r.mask--;
    for (struct change *c = list; c; c = c->next) {
        struct change **slot = slot_of(&r, c->mid);

        if (c->place) /* it comes before everything else about its message */
            *slot = c;
        else if (c->gone && *slot)
            c->needless = (*slot)->needless = true;
    }
    free(r.slots);
}

bool changes_write_mark(sqlite3 *db, const struct flush *f, struct err *err)
{
    sqlite3_stmt *s;

    if (f->mark.seq == changes_passed())
        return true;
    s = writer_stmt("INSERT INTO value VALUES ('ledger', ?1), ('ledger_segment', ?2) "
                    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)f->mark.seq);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)f->mark.segment);
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "writing the place in the ledger: %s", sqlite3_errmsg(db));
    return true;
}

bool changes_write(sqlite3 *db, struct flush *f, struct err *err)
{
    pthread_mutex_lock(&ch.lock);
    f->list = ch.list;
    f->mark = ch.mark;
    ch.list = NULL;
    ch.end = &ch.list;
    ch.posted = false;
    pthread_mutex_unlock(&ch.lock);
    skip_finished(f->list);
    for (struct change *c = f->list; c; c = c->next)
        if (!c->needless && !change_write(db, c, err))
            return false;
    return changes_write_mark(db, f, err);
}

/* What could not be written (perhaps nothing) stands where it stood. */
static void put_back(struct change *list)
{
    struct change **at = &ch.list, **end = &list;
    void (*failed)(void);

    for (; *end; end = &(*end)->next)
        (*end)->needless = false; /* the list it was judged by may be another now */
    pthread_mutex_lock(&ch.lock);
    if (list) {
        while (*at && (*at)->number < list->number) /* of other jobs of the same group */
            at = &(*at)->next;
        if (!*at)
            ch.end = end;
        *end = *at;
        *at = list;
    }
    ch.stuck = true;
    ch.again = clock_in(FLUSH_RETRY);
    failed = ch.failed;
    pthread_mutex_unlock(&ch.lock);
    if (failed)
        failed();
}

void changes_written(void *flush, bool ok)
{
    struct flush *f = flush;
    unsigned rows = 0;

    if (!ok) {
        if (f->list)
            put_back(f->list); /* with the next change, or after a while, or at the end */
        f->list = NULL;
        return;
    }
    while (f->list) {
        struct change *c = f->list;

        f->list = c->next;
        rows += c->place > 0;
        if (c->gone)
            body_remove(c->gone);
        change_free(c);
    }
    pthread_mutex_lock(&ch.lock);
    ch.stuck = false;
    ch.rows -= rows;
    if (f->mark.seq > ch.passed)
        ch.passed = f->mark.seq;
    pthread_mutex_unlock(&ch.lock);
    spool_ledger_passed(f->mark.seq);
}
