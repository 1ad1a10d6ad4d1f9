/* ledger.c - see ledger.h. A writer without a database gathers the groups; its sync hook writes the
 * records of a group with one call, syncs, and hands the rows on before anybody is woken. */
#include "daemon/ledger.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crc32c.h"
#include "daemon/spool.h"
#include "daemon/writer.h"
#include "store/base/log.h"

static const char magic[4] = {'P', 'L', 'R', '1'};

static struct {
    struct writer *writer;
    struct change *group, **end; /* the rest is the writer's thread's own */
    unsigned failures; /* of the spool, those known */
    struct ledger_mark mark; /* the last record */
} led = {.end = &led.group};

/* --- the record --- */

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static void put64(unsigned char *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint64_t get64(const char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void add_record(struct buf *out, const struct change *c, uint32_t segment, uint64_t seq,
                       uint64_t passed)
{
    unsigned char h[LEDGER_HEADER] = {0};
    uint32_t crc;

    memcpy(h, magic, sizeof(magic));
    put32(h + 8, segment);
    put32(h + 12, c->place);
    put32(h + 16, c->n - c->place);
    put64(h + 24, seq);
    put64(h + 32, passed);
    put64(h + 40, c->mid);
    crc = crc32c(crc32c(0, h + 8, sizeof(h) - 8), c->bytes, c->n);
    put32(h + 4, crc);
    buf_add(out, h, sizeof(h));
    buf_add(out, c->bytes, c->n);
}

/* The record at the beginning of s; its length, 0: there is none. */
static size_t read_record(uint32_t number, struct slice s, struct ledger_record *r)
{
    uint64_t place, envelope;

    if (s.n < LEDGER_HEADER || memcmp(s.p, magic, sizeof(magic)) != 0 || get32(s.p + 8) != number)
        return 0;
    place = get32(s.p + 12);
    envelope = get32(s.p + 16);
    if (place + envelope > s.n - LEDGER_HEADER ||
        crc32c(0, s.p + 8, LEDGER_HEADER - 8 + place + envelope) != get32(s.p + 4))
        return 0;
    r->seq = get64(s.p + 24);
    r->passed = get64(s.p + 32);
    r->mid = get64(s.p + 40);
    r->place = (struct slice){s.p + LEDGER_HEADER, place};
    r->envelope = (struct slice){s.p + LEDGER_HEADER + place, envelope};
    return LEDGER_HEADER + place + envelope;
}

uint64_t ledger_scan(uint32_t number, struct slice area,
                     bool (*fn)(void *arg, uint32_t number, const struct ledger_record *r),
                     void *arg)
{
    uint64_t passed_over = 0, last = 0;
    struct ledger_record r;
    size_t at = 0, end = 0, n;
    const char *next;

    while (at < area.n) {
        n = read_record(number, (struct slice){area.p + at, area.n - at}, &r);
        if (n && r.seq > last) {
            passed_over += at - end;
            last = r.seq;
            at = end = at + n;
            if (!fn(arg, number, &r))
                break;
            continue;
        }
        next = memmem(area.p + at + 1, area.n - at - 1, magic, sizeof(magic));
        if (!next)
            break;
        at = (size_t)(next - area.p);
    }
    return passed_over;
}

/* --- writing --- */

struct add {
    struct change *c;
    const struct body *body;
};

static bool add_job(sqlite3 *db, void *arg, struct err *err)
{
    struct add *a = arg;

    (void)db;
    if (!body_sound(a->body, err))
        return false;
    a->c->next = NULL;
    *led.end = a->c;
    led.end = &a->c->next;
    a->c = NULL;
    writer_want_sync();
    return true;
}

/* As many records as the segment takes, from *c on. */
static bool write_some(struct change **c, struct buf *b, struct err *err)
{
    uint64_t passed = changes_passed();
    struct spool_ledger at;

    if (!spool_ledger_room(LEDGER_HEADER + (*c)->n, &at, err))
        return false;
    buf_reset(b);
    for (; *c && b->n + LEDGER_HEADER + (*c)->n <= at.room; *c = (*c)->next) {
        led.mark.segment = at.number;
        add_record(b, *c, at.number, ++led.mark.seq, passed);
    }
    return spool_ledger_write(&at, b->p, b->n, led.mark.seq, err);
}

static bool make_durable(void *unused, struct err *err)
{
    struct buf b = BUF_INIT(SPOOL_LEDGER);
    struct change *list = led.group, *c = list;
    bool ok = true;

    (void)unused;
    while (ok && c)
        ok = write_some(&c, &b, err);
    buf_free(&b);
    ok = ok && spool_sync(&led.failures, err);
    while (!ok && list) { /* its numbers count as passed: nobody was told that it is safe */
        c = list->next;
        change_free(list);
        list = c;
    }
    led.group = NULL;
    led.end = &led.group;
    changes_add_rows(list, &led.mark);
    return ok;
}

bool ledger_takes(const struct change *c)
{
    return c->n <= LEDGER_MAX - LEDGER_HEADER;
}

bool ledger_add(struct change *c, const struct body *b, struct err *err)
{
    struct add a = {c, b};
    bool ok = writer_txn(led.writer, add_job, &a, err);

    if (a.c)
        change_free(a.c);
    return ok;
}

void ledger_start(const struct ledger_mark *mark)
{
    led.mark = *mark;
    led.failures = spool_failures();
    led.writer = writer_new("spool", NULL, make_durable, NULL);
}

void ledger_stop(void)
{
    writer_free(&led.writer);
    led.mark = (struct ledger_mark){0};
}
