/* test_ledger.c - what the ledger has comes back: after a crash at any byte, beside old records,
 * past damage. */
#include "daemon/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/message.h"
#include "daemon/queue_changes.h"
#include "daemon/spool.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static char dir[] = "/tmp/postern-ledger-XXXXXX";
static char spool[60];

static struct message *make(uint64_t mid, const char *text)
{
    struct body_writer *w = body_create();
    struct message *m = message_new();
    char rcpt[40];

    m->mid = mid;
    m->sender = message_text(m, "from@example.com");
    snprintf(rcpt, sizeof(rcpt), "to%llu@example.com", (unsigned long long)mid);
    message_add_rcpt(m, rcpt, NULL, NOTIFY_FAILURE); /* so that no record ends with a zero */
    assert_true(body_append(w, text, strlen(text), NULL));
    m->body = body_finish(&w, NULL);
    assert_non_null(m->body);
    return m;
}

static void add(uint64_t mid, const char *text)
{
    struct message *m = make(mid, text);
    struct err err = {0};

    if (!ledger_add(change_row(m, NULL), m->body, &err))
        fail_msg("%s", err.text);
    message_free(&m);
}

static int start(void **state)
{
    struct ledger_mark mark = {41, 0};
    struct err err = {0};

    (void)state;
    snprintf(spool, sizeof(spool), "%s/spool", dir);
    if (!spool_open(spool, &err))
        return -1;
    spool_ready(true);
    ledger_start(&mark);
    return 0;
}

static int stop(void **state)
{
    char command[100];

    (void)state;
    ledger_stop();
    changes_stop();
    spool_close();
    snprintf(command, sizeof(command), "rm -rf %s", spool);
    return system(command);
}

/* --- what a start finds --- */

struct found {
    uint64_t seqs[64], mids[64], passed;
    char text[200]; /* of the last message */
    unsigned n;
    uint64_t lost, last;
};

static bool find(void *arg, uint32_t number, const struct ledger_record *r)
{
    struct found *f = arg;
    struct message *m = message_decode(r->mid, r->envelope, (struct slice){NULL, 0}, NULL);
    struct body *b = body_decode(r->place.p, r->place.n, NULL);
    size_t got;

    (void)number;
    assert_non_null(m);
    assert_string_equal(m->sender, "from@example.com");
    assert_true(f->n < countof(f->seqs));
    f->seqs[f->n] = f->last = r->seq;
    f->mids[f->n++] = r->mid;
    f->passed = r->passed;
    if (b && body_read(b, 0, f->text, sizeof(f->text) - 1, &got, NULL))
        f->text[got] = 0;
    body_free(&b);
    message_free(&m);
    return true;
}

static uint64_t look(void *arg, uint32_t number, struct slice area)
{
    struct found *f = arg;

    f->last = 0;
    f->lost += ledger_scan(number, area, find, f);
    return f->last;
}

static char *segment_path(unsigned number)
{
    return xasprintf("%s/seg-%08x", spool, number);
}

static void durable_without_a_database(void **state)
{
    struct found f = {.n = 0};
    struct flush flush = {0};
    struct change *rows;

    (void)state;
    add(7, "one\r\n");
    add(8, "two\r\n");
    rows = changes_take(&flush);
    assert_int_equal(rows->mid, 7); /* rows to be, in the ledger's order */
    assert_int_equal(rows->next->mid, 8);
    assert_null(rows->next->next);
    assert_int_equal(flush.mark.seq, 43);
    assert_int_equal(flush.mark.segment, 1);
    spool_ledger_read(0, look, &f);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.seqs[0], 42);
    assert_int_equal(f.seqs[1], 43);
    assert_int_equal(f.mids[1], 8);
    assert_string_equal(f.text, "two\r\n");
    assert_int_equal(f.lost, 0);
    change_free(rows->next);
    change_free(rows);
}

/* The beginning of the segment as the ledger wrote it. */
static struct slice read_area(char *out, size_t size)
{
    char *name = segment_path(1);
    int fd = open(name, O_RDONLY);
    ssize_t n = pread(fd, out, size, 0);

    assert_true(fd >= 0 && n == (ssize_t)size);
    close(fd);
    free(name);
    return (struct slice){out, size};
}

static bool count(void *arg, uint32_t number, const struct ledger_record *r)
{
    unsigned *n = arg;

    (void)number;
    n[r->mid - 1]++;
    return true;
}

static void any_byte_may_be_the_last(void **state)
{
    static char area[4096], cut[4096];
    size_t ends[4] = {0}, end;
    unsigned n[3];

    (void)state;
    for (uint64_t mid = 1; mid <= 3; mid++)
        add(mid, "text\r\n");
    read_area(area, sizeof(area));
    for (unsigned k = 0; k < 3; k++) /* all three have the same length */
        ends[k + 1] = ends[k] + LEDGER_HEADER + (unsigned char)area[12] + (unsigned char)area[16];
    for (end = 0; end <= ends[3];
         end++) { /* zeros follow: what a file has that was never written */
        memset(cut, 0, sizeof(cut));
        memcpy(cut, area, end);
        memset(n, 0, sizeof(n));
        ledger_scan(1, (struct slice){cut, sizeof(cut)}, count, n);
        for (unsigned k = 0; k < 3; k++)
            assert_int_equal(n[k], end >= ends[k + 1]);
    }
}

static void damage_hides_only_itself(void **state)
{
    static char area[4096];
    size_t size;

    (void)state;
    for (uint64_t mid = 1; mid <= 3; mid++)
        add(mid, "text\r\n");
    read_area(area, sizeof(area));
    size = LEDGER_HEADER + (unsigned char)area[12] + (unsigned char)area[16];
    for (size_t at = size; at < 2 * size;
         at++) { /* any byte of the second, but its reserved ones too */
        unsigned n[3] = {0};

        area[at] ^= 0x40;
        assert_int_equal(ledger_scan(1, (struct slice){area, sizeof(area)}, count, n), size);
        assert_int_equal(n[0] + n[1] + n[2], 2);
        assert_int_equal(n[1], 0);
        area[at] ^= 0x40;
    }
}

static void old_records_are_no_records(void **state)
{
    static char area[8192];
    unsigned n[3] = {0};

    (void)state;
    for (uint64_t mid = 1; mid <= 3; mid++)
        add(mid, "text\r\n");
    read_area(area, 4096);
    assert_int_equal(ledger_scan(2, (struct slice){area, 4096}, count, n),
                     0); /* of another segment */
    assert_int_equal(n[0] + n[1] + n[2], 0);
    memcpy(area + 4096, area, 4096); /* the same numbers again: not newer */
    ledger_scan(1, (struct slice){area, sizeof(area)}, count, n);
    assert_int_equal(n[0] + n[1] + n[2], 3);
}

static void a_segment_stays_until_its_records_have_passed(void **state)
{
    char *name = segment_path(1), *rest = xcalloc(1, SPOOL_PIECE);
    struct message *m = make(1, "text\r\n");
    struct body_writer *w;
    struct body *b;

    (void)state;
    assert_true(ledger_add(change_row(m, NULL), m->body, NULL));
    body_remove(m->body); /* delivered at once */
    message_free(&m);
    for (unsigned i = 0; i < 1000; i++) { /* the next segment begins */
        w = body_create();
        body_append(w, rest, SPOOL_PIECE, NULL);
        b = body_finish(&w, NULL);
        body_remove(b);
        body_free(&b);
    }
    assert_int_equal(access(name, F_OK), 0);
    spool_ledger_passed(42);
    assert_int_equal(access(name, F_OK), -1);
    free(rest);
    free(name);
}

static void what_is_too_long_goes_elsewhere(void **state)
{
    struct message *m = make(1, "text\r\n");
    struct change *c;
    char rcpt[80];

    (void)state;
    c = change_row(m, NULL);
    assert_true(ledger_takes(c));
    change_free(c);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(rcpt, sizeof(rcpt), "somebody-with-a-long-name-%u@destination.example.com", i);
        message_add_rcpt(m, rcpt, NULL, 0);
    }
    c = change_row(m, NULL);
    assert_false(ledger_takes(c));
    change_free(c);
    message_free(&m);
}

int main(void)
{
#define LEDGER(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        LEDGER(durable_without_a_database),
        LEDGER(any_byte_may_be_the_last),
        LEDGER(damage_hides_only_itself),
        LEDGER(old_records_are_no_records),
        LEDGER(a_segment_stays_until_its_records_have_passed),
        LEDGER(what_is_too_long_goes_elsewhere),
    };
    int failed;

    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
