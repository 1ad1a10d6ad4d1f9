/* attempt.c - see attempt.h. Attempts gather in a block, deltas of small numbers, which is
 * rewritten whole until it is full: so the rows of the table stay few whether mail is rare or
 * plenty. A job of the writer of state.db takes what has gathered; there is one under way at most.
 */
#include "daemon/attempt.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/pack.h"
#include "daemon/state.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define BLOCK_ATTEMPTS 1000u
#define BLOCK_BYTES (32u << 10)
#define MAX_BLOCKS 5000 /* rows: five million attempts */
#define MAX_AGE (30ll * 86400 * 1000000)
#define MAX_TRAIL_BYTES (64ll << 20) /* of all of them together */
#define KNOWN 4096u /* trails remembered for not storing them again; a power of two */
#define STORE_AGAIN                                                                                \
    MINUTES(60) /* so that a trail is never much older than the attempts that name it */
#define MAX_WAITING 2000u /* new trails, and blocks, that the disk is too slow for */
#define MAX_TEXT 300u

/* --- trails --- */

static const char *const end_words[] = {
    [TRAIL_USED] = "used",         [TRAIL_REFUSED] = "refused", [TRAIL_UNREACHABLE] = "unreachable",
    [TRAIL_INSECURE] = "insecure", [TRAIL_ROUTE] = "route",     [TRAIL_DOWN] = "down",
};
static const char *const use_words[] = {
    [TLS_NEVER] = "never", [TLS_TRY] = "try", [TLS_MUST] = "must", [TLS_REFUSE] = "refuse"};

static void put_text(json_t *o, const char *key, const char *text)
{
    if (text && *text)
        json_put_str(o, key, text);
}

static void put_true(json_t *o, const char *key, bool value)
{
    if (value)
        json_put(o, key, json_true());
}

static void put_checks(json_t *o, const char *key, unsigned checks)
{
    static const char *const words[] = {"dane", "mx", "verify", "hosted", "route"};
    json_t *list = json_array();

    for (unsigned i = 0; i < countof(words); i++)
        if (checks & 1u << i)
            json_array_append_new(list, json_string(words[i]));
    if (json_array_size(list))
        json_put(o, key, list);
    else
        json_decref(list);
}

static void put_evidence(json_t *o, const struct tls_evidence *e)
{
    json_put_str(o, "level", choices_dest_tls_levels[e->level].word);
    if (e->dane != DANE_OFF && e->dane != DANE_DEFAULT) {
        json_put_str(o, "dane", choices_dane_modes[e->dane].word);
        json_put_str(o, "dane_state", dane_state_word(e->dane_state));
    }
    if (e->sts_state != STS_NOT_ASKED)
        json_put_str(o, "sts_state", sts_state_word(e->sts_state));
    put_true(o, "sts_lists_host", e->sts_lists_host);
    put_true(o, "exempt", e->exempt);
    put_true(o, "demanded", e->demanded);
    put_true(o, "authenticates", e->authenticates);
    put_true(o, "failed_lately", e->failed_lately);
}

static void put_verdict(json_t *o, const struct tls_verdict *v)
{
    json_put_str(o, "rule", tls_rule_word(v->rule));
    json_put_str(o, "use", use_words[v->use]);
    put_checks(o, "must", v->must);
    put_checks(o, "look", v->look);
}

void trail_begin(struct trail *t)
{
    t->text.max = TRAIL_MAX_TEXT;
    buf_reset(&t->text);
    t->text.full = false;
    t->hosts = 0;
    t->id = 0;
}

void trail_add(struct trail *t, const struct trail_host *h)
{
    json_t *o;
    char addr[ADDR_TEXT], *text;

    t->id = 0;
    t->text.max = TRAIL_MAX_TEXT;
    if (++t->hosts > TRAIL_MAX_HOSTS)
        return;
    o = json_object();
    put_text(o, "host", h->host);
    if (h->addr && h->addr->family)
        json_put_str(o, "address", addr_text_port(h->addr, addr));
    put_text(o, "entry", h->entry);
    if (h->evidence)
        put_evidence(o, h->evidence);
    if (h->verdict)
        put_verdict(o, h->verdict);
    put_checks(o, "passed", h->passed);
    json_put_str(o, "end", end_words[h->end]);
    put_true(o, "reused", h->reused);
    put_true(o, "encrypted", h->encrypted);
    put_text(o, "protocol", h->protocol);
    put_text(o, "cipher", h->cipher);
    put_text(o, "matched", h->matched);
    put_text(o, "why", h->why);
    text = json_text(o);
    json_decref(o);
    if (t->text.n + strlen(text) + 2 < TRAIL_MAX_TEXT)
        buf_printf(&t->text, "%s%s", t->text.n ? "," : "", text);
    else
        t->hosts = TRAIL_MAX_HOSTS; /* whole hosts or nothing */
    free(text);
}

void trail_free(struct trail *t)
{
    buf_free(&t->text);
    memset(t, 0, sizeof(*t));
}

/* --- what waits for the disk --- */

struct waiting_trail {
    struct waiting_trail *next;
    uint64_t id;
    usec_t at;
    char *text;
};

struct block {
    struct block *next;
    int64_t row;
    struct buf records;
    unsigned n;
    uint64_t first_mid, last_mid;
    usec_t newest;
    uint64_t mid, dcid, trail; /* of the record before: deltas are to them */
    int64_t msec;
    char domain[256];
};

struct known {
    unsigned char digest[16];
    uint64_t id;
    msec_t stored;
};

static struct {
    pthread_mutex_t lock;
    bool running, posted;
    struct known known[KNOWN];
    uint64_t next_trail;
    int64_t next_row;
    struct waiting_trail *trails, **trails_end;
    struct block *full, **full_end; /* not to be added to any more, oldest first */
    struct block *open; /* also what is in the newest row, until it is full */
    unsigned ntrails, nfull;
    uint64_t dropped;
    bool dirty; /* open has more than its row */
    int64_t trail_bytes; /* the writer's own, as is what follows */
    bool trouble;
} attempts = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void block_free(struct block **b)
{
    if (*b)
        buf_free(&(*b)->records);
    free(*b);
    *b = NULL;
}

static struct block *block_new(int64_t row)
{
    struct block *b = xcalloc(1, sizeof(*b));

    b->records.max = BLOCK_BYTES + 2048; /* room for one record more */
    b->row = row;
    b->first_mid = UINT64_MAX;
    return b;
}

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static void pack_delta(struct buf *b, uint64_t now, uint64_t *before)
{
    pack_uint(b, zigzag((int64_t)(now - *before)));
    *before = now;
}

/* The lock is held. */
static void pack_attempt(struct block *b, uint64_t trail, const struct attempt *a)
{
    usec_t now = clock_wall();
    int64_t msec = now / 1000;
    bool same = str_eq(b->domain, a->domain);
    bool plain = a->delivered == 1 && !a->deferred && !a->bounced;

    pack_delta(&b->records, a->mid, &b->mid);
    pack_uint(&b->records, zigzag(msec - b->msec));
    b->msec = msec;
    pack_delta(&b->records, a->dcid, &b->dcid);
    pack_delta(&b->records, trail, &b->trail);
    pack_text(&b->records, same ? NULL : a->domain);
    if (!same)
        str_copy(b->domain, sizeof(b->domain), a->domain);
    pack_uint(&b->records, plain ? 0 : 1);
    if (!plain) {
        char text[MAX_TEXT];

        pack_uint(&b->records, a->delivered);
        pack_uint(&b->records, a->deferred);
        pack_uint(&b->records, a->bounced);
        pack_uint(&b->records, a->code > 0 ? (uint64_t)a->code : 0);
        str_copy(text, sizeof(text), a->text ? a->text : "");
        pack_text(&b->records, text);
    }
    b->n++;
    b->newest = now;
    if (a->mid < b->first_mid)
        b->first_mid = a->mid;
    if (a->mid > b->last_mid)
        b->last_mid = a->mid;
}

/* The lock is held. The number under which the trail is stored, or will be soon. */
static uint64_t intern(struct trail *t, const unsigned char digest[16])
{
    struct known *k;
    struct waiting_trail *w;
    uint32_t slot;

    memcpy(&slot, digest, sizeof(slot));
    k = &attempts.known[slot % KNOWN];
    if (!k->id || memcmp(k->digest, digest, sizeof(k->digest)) != 0 ||
        clock_now() - k->stored > STORE_AGAIN) {
        if (attempts.ntrails >= MAX_WAITING)
            return 0; /* the attempt is kept, without its trail */
        w = xcalloc(1, sizeof(*w));
        w->id = attempts.next_trail++;
        w->at = clock_wall();
        w->text = xasprintf("[%s]", buf_str(&t->text));
        *attempts.trails_end = w;
        attempts.trails_end = &w->next;
        attempts.ntrails++;
        memcpy(k->digest, digest, sizeof(k->digest));
        k->id = w->id;
        k->stored = clock_now();
    }
    t->id = k->id;
    t->stored = k->stored;
    return k->id;
}

static bool write_waiting(sqlite3 *db, void *arg, struct err *err);

void attempt_note(struct trail *t, const struct attempt *a)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    bool post, known = t->id && clock_now() - t->stored <= STORE_AGAIN;
    struct block *b;

    if (!known)
        SHA256((const unsigned char *)buf_str(&t->text), t->text.n, digest);
    pthread_mutex_lock(&attempts.lock);
    if (!attempts.running ||
        (attempts.open->n >= BLOCK_ATTEMPTS && attempts.nfull >= MAX_WAITING)) {
        attempts.dropped += attempts.running;
        pthread_mutex_unlock(&attempts.lock);
        return;
    }
    b = attempts.open;
    if (b->n >= BLOCK_ATTEMPTS || b->records.n >= BLOCK_BYTES) {
        *attempts.full_end = b;
        attempts.full_end = &b->next;
        attempts.nfull++;
        b = attempts.open = block_new(attempts.next_row++);
    }
    pack_attempt(b, known ? t->id : intern(t, digest), a);
    attempts.dirty = true;
    post = !attempts.posted;
    attempts.posted = true;
    pthread_mutex_unlock(&attempts.lock);
    if (post)
        state_post(write_waiting, NULL, NULL);
}

/* --- on the thread of state.db --- */

static bool step(sqlite3 *db, sqlite3_stmt *s, struct err *err)
{
    int rc = sqlite3_step(s);

    sqlite3_reset(s);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ||
           err_set(err, E_IO, "records of delivery attempts: %s", sqlite3_errmsg(db));
}

static bool write_trail(sqlite3 *db, const struct waiting_trail *w, struct err *err)
{
    sqlite3_stmt *s = writer_stmt(
        "INSERT OR REPLACE INTO attempt_trail (id, at, hosts) VALUES (?1, ?2, ?3)", err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)w->id);
    sqlite3_bind_int64(s, 2, w->at);
    sqlite3_bind_text(s, 3, w->text, -1, SQLITE_STATIC);
    attempts.trail_bytes += (int64_t)strlen(w->text);
    return step(db, s, err);
}

static bool write_block(sqlite3 *db, const struct block *b, struct err *err)
{
    sqlite3_stmt *s = writer_stmt(
        "INSERT OR REPLACE INTO attempt_block (id, newest, first_mid, last_mid, records)"
        " VALUES (?1, ?2, ?3, ?4, ?5)",
        err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, b->row);
    sqlite3_bind_int64(s, 2, b->newest);
    sqlite3_bind_int64(s, 3, (sqlite3_int64)b->first_mid);
    sqlite3_bind_int64(s, 4, (sqlite3_int64)b->last_mid);
    sqlite3_bind_blob(s, 5, b->records.p, (int)b->records.n, SQLITE_STATIC);
    return step(db, s, err);
}

/* Whenever a block is full. */
static bool prune(sqlite3 *db, int64_t row, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("DELETE FROM attempt_block WHERE id <= ?1 OR newest < ?2", err);

    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, row - MAX_BLOCKS);
    sqlite3_bind_int64(s, 2, clock_wall() - MAX_AGE);
    if (!step(db, s, err))
        return false;
    /* No attempt that is left names a trail stored long before the oldest of them. */
    s = writer_stmt("DELETE FROM attempt_trail WHERE at < ?1 OR at <"
                    " (SELECT min(newest) FROM attempt_block) - ?2",
                    err);
    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, clock_wall() - MAX_AGE);
    sqlite3_bind_int64(s, 2, 2 * STORE_AGAIN * 1000);
    return step(db, s, err);
}

/* Down to three quarters. */
static bool prune_trails(sqlite3 *db, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("DELETE FROM attempt_trail WHERE id <="
                                  " (SELECT min(id) + (max(id) - min(id)) / 4 FROM attempt_trail)",
                                  err);

    if (!s || !step(db, s, err))
        return false;
    s = writer_stmt("SELECT total(length(CAST(hosts AS BLOB))) FROM attempt_trail", err);
    if (!s || !step(db, s, err))
        return false;
    sqlite3_step(s);
    attempts.trail_bytes = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return true;
}

/* What is to be written. The open block is copied: it goes on growing. */
static void take_waiting(struct waiting_trail **trails, struct block **blocks)
{
    struct block **end = blocks;

    pthread_mutex_lock(&attempts.lock);
    *trails = attempts.trails;
    attempts.trails = NULL;
    attempts.trails_end = &attempts.trails;
    attempts.ntrails = 0;
    *blocks = attempts.full;
    attempts.full = NULL;
    attempts.full_end = &attempts.full;
    attempts.nfull = 0;
    while (*end)
        end = &(*end)->next;
    if (attempts.dirty && attempts.open->n) {
        struct block *copy = xmalloc(sizeof(*copy));

        *copy = *attempts.open;
        copy->records = (struct buf)BUF_INIT(copy->records.max);
        buf_add(&copy->records, attempts.open->records.p, attempts.open->records.n);
        *end = copy;
    }
    attempts.dirty = attempts.posted = false;
    pthread_mutex_unlock(&attempts.lock);
}

static bool write_waiting(sqlite3 *db, void *arg, struct err *err)
{
    struct waiting_trail *trails;
    struct block *blocks;
    bool ok = true;

    (void)arg;
    take_waiting(&trails, &blocks);
    while (trails) {
        struct waiting_trail *w = trails;

        ok = ok && write_trail(db, w, err);
        trails = w->next;
        free(w->text);
        free(w);
    }
    while (blocks) {
        struct block *b = blocks;

        ok = ok && write_block(db, b, err);
        if (ok && b->next)
            ok = prune(db, b->row, err);
        blocks = b->next;
        block_free(&b);
    }
    if (ok && attempts.trail_bytes > MAX_TRAIL_BYTES)
        ok = prune_trails(db, err);
    if (!ok && !attempts.trouble)
        log_warning("%s", err->text);
    attempts.trouble = !ok;
    return ok;
}

/* --- reading --- */

struct search {
    uint64_t mid;
    const char *domain;
    unsigned limit;
    json_t *found; /* newest first */
};

static json_t *hosts_of(uint64_t trail, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("SELECT hosts FROM attempt_trail WHERE id = ?1", err);
    json_t *hosts = NULL;

    if (!s)
        return NULL;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)trail);
    if (sqlite3_step(s) == SQLITE_ROW)
        hosts = json_parse((const char *)sqlite3_column_text(s, 0),
                           (size_t)sqlite3_column_bytes(s, 0), NULL);
    sqlite3_reset(s);
    return hosts;
}

static void put_slice(json_t *o, const char *key, struct slice s)
{
    char *text = xstrndup(s.p ? s.p : "", s.n);

    if (*text)
        json_put_str(o, key, str_printable(text));
    free(text);
}

struct record {
    uint64_t mid, dcid, trail;
    int64_t msec;
    struct slice domain, text;
    uint64_t delivered, deferred, bounced, code;
};

static void unpack_delta(struct unpack *u, uint64_t *v)
{
    *v += (uint64_t)unzigzag(unpack_uint(u));
}

static bool next_record(struct unpack *u, struct record *r)
{
    struct slice domain;

    if (u->p >= u->end)
        return false;
    unpack_delta(u, &r->mid);
    r->msec += unzigzag(unpack_uint(u));
    unpack_delta(u, &r->dcid);
    unpack_delta(u, &r->trail);
    domain = unpack_text(u);
    if (domain.p)
        r->domain = domain;
    r->delivered = 1;
    r->deferred = r->bounced = r->code = 0;
    r->text = (struct slice){NULL, 0};
    if (unpack_uint(u)) {
        r->delivered = unpack_uint(u);
        r->deferred = unpack_uint(u);
        r->bounced = unpack_uint(u);
        r->code = unpack_uint(u);
        r->text = unpack_text(u);
    }
    return !u->bad;
}

static json_t *describe(const struct record *r, struct err *err)
{
    json_t *o = json_object(), *hosts;
    char date[40];

    json_put_int(o, "mid", (json_int_t)r->mid);
    json_put_str(o, "time", clock_rfc3339(r->msec * 1000, date));
    json_put_int(o, "time_us", r->msec * 1000);
    if (r->dcid)
        json_put_int(o, "dcid", (json_int_t)r->dcid);
    put_slice(o, "domain", r->domain);
    json_put_int(o, "delivered", (json_int_t)r->delivered);
    json_put_int(o, "deferred", (json_int_t)r->deferred);
    json_put_int(o, "bounced", (json_int_t)r->bounced);
    if (r->code)
        json_put_int(o, "code", (json_int_t)r->code);
    put_slice(o, "text", r->text);
    hosts = hosts_of(r->trail, err);
    if (hosts)
        json_put(o, "hosts", hosts);
    return o;
}

/* The newest that fit, of one block; those of the blocks behind it were found before. */
static void search_block(struct search *q, const void *p, int n, struct err *err)
{
    struct unpack u = {p, (const unsigned char *)p + n, false};
    struct record r = {0}, *hits = xcalloc(BLOCK_ATTEMPTS, sizeof(*hits));
    unsigned nhits = 0;

    while (nhits < BLOCK_ATTEMPTS && next_record(&u, &r))
        if (q->mid ? r.mid == q->mid : slice_eq(r.domain, q->domain))
            hits[nhits++] = r;
    while (nhits && json_array_size(q->found) < q->limit)
        json_array_append_new(q->found, describe(&hits[--nhits], err));
    free(hits);
}

static bool search(sqlite3 *db, void *arg, struct err *err)
{
    struct search *q = arg;
    sqlite3_stmt *s;
    int rc;

    if (!write_waiting(db, NULL, err))
        return false;
    s = writer_stmt("SELECT records FROM attempt_block"
                    " WHERE ?1 = 0 OR (first_mid <= ?1 AND last_mid >= ?1) ORDER BY id DESC",
                    err);
    if (!s)
        return false;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)q->mid);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && json_array_size(q->found) < q->limit)
        search_block(q, sqlite3_column_blob(s, 0), sqlite3_column_bytes(s, 0), err);
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ||
           err_set(err, E_IO, "reading the records of delivery attempts: %s", sqlite3_errmsg(db));
}

json_t *attempt_find(uint64_t mid, const char *domain, unsigned limit, struct err *err)
{
    struct search q = {mid, domain, limit, json_array()};
    json_t *sorted = NULL;

    if (state_txn(search, &q, err)) { /* YIELDS */
        sorted = json_array();
        for (size_t i = json_array_size(q.found); i-- > 0;)
            json_array_append(sorted, json_array_get(q.found, i));
    }
    json_decref(q.found);
    return sorted;
}

/* --- start and end --- */

static bool number(sqlite3 *db, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = writer_stmt(sql, err);
    bool ok;

    if (!s)
        return false;
    ok = sqlite3_step(s) == SQLITE_ROW;
    *out = ok ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    return ok || err_set(err, E_IO, "%s: %s", sql, sqlite3_errmsg(db));
}

static bool load(sqlite3 *db, void *arg, struct err *err)
{
    int64_t trail, row;

    (void)arg;
    if (!number(db, "SELECT coalesce(max(id), 0) + 1 FROM attempt_trail", &trail, err) ||
        !number(db, "SELECT coalesce(max(id), 0) + 1 FROM attempt_block", &row, err) ||
        !number(db, "SELECT total(length(CAST(hosts AS BLOB))) FROM attempt_trail",
                &attempts.trail_bytes, err))
        return false;
    attempts.next_trail = (uint64_t)trail;
    attempts.next_row = row;
    return prune(db, row, err);
}

bool attempt_start(struct err *err)
{
    if (!state_txn(load, NULL, err))
        return false;
    pthread_mutex_lock(&attempts.lock);
    attempts.trails_end = &attempts.trails;
    attempts.full_end = &attempts.full;
    attempts.open = block_new(attempts.next_row++);
    attempts.running = true;
    pthread_mutex_unlock(&attempts.lock);
    return true;
}

void attempt_stop(void)
{
    struct err err = {0};

    pthread_mutex_lock(&attempts.lock);
    attempts.running = false;
    pthread_mutex_unlock(&attempts.lock);
    state_txn(write_waiting, NULL, &err);
    if (attempts.dropped)
        log_warning("%llu delivery attempts were not recorded: the disk was too slow",
                    (unsigned long long)attempts.dropped);
    pthread_mutex_lock(&attempts.lock);
    block_free(&attempts.open);
    memset(attempts.known, 0, sizeof(attempts.known));
    pthread_mutex_unlock(&attempts.lock);
}
