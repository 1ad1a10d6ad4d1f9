/* The spool: what comes back, what a crash leaves, what is removed when. */
#include "daemon/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/crc32c.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static char dir[64], spool[80];

/* The disk as the spool sees it. */
static int sync_fails, open_fails; /* so many of the next calls, with this reason: */
static int reason = EIO;
static uint64_t free_bytes; /* 0: the truth */

int fdatasync(int fd)
{
    if (sync_fails && sync_fails--)
        return errno = reason, -1;
    return (int)syscall(SYS_fdatasync, fd);
}

int openat(int at, const char *name, int flags, ...)
{
    va_list ap;
    int mode;

    va_start(ap, flags);
    mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    if (open_fails && str_starts(name, "seg-") && open_fails--)
        return errno = reason, -1;
    return (int)syscall(SYS_openat, at, name, flags, mode);
}

int fstatvfs(int fd, struct statvfs *out)
{
    (void)fd;
    memset(out, 0, sizeof(*out));
    out->f_frsize = 4096;
    out->f_bavail = (free_bytes ? free_bytes : 1ull << 40) / 4096;
    return 0;
}

static int set_up(void **state)
{
    struct err err = {0};

    (void)state;
    strcpy(dir, "/tmp/postern-spool-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(spool, sizeof(spool), "%s/spool", dir);
    assert_true(spool_open(spool, &err));
    spool_ready(true);
    return 0;
}

static int tear_down(void **state)
{
    char command[120];

    (void)state;
    spool_close();
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static size_t files(const char *prefix)
{
    DIR *d = opendir(spool);
    struct dirent *e;
    size_t n = 0;

    assert_non_null(d);
    while ((e = readdir(d)))
        n += str_starts(e->d_name, prefix);
    closedir(d);
    return n;
}

/* Bytes that depend on where they stand. */
static char *make_text(size_t n)
{
    char *p = xmalloc(n + 1);
    uint32_t x = 1;

    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (char)(x >> 24);
    }
    return p;
}

static struct body *store(const char *p, size_t n, size_t step)
{
    struct body_writer *w = body_create();
    struct err err = {0};

    for (size_t at = 0; at < n; at += step)
        assert_true(body_append(w, p + at, n - at < step ? n - at : step, &err));
    struct body *b = body_finish(&w, &err);
    assert_non_null(b);
    assert_null(w);
    return b;
}

static unsigned failures; /* of the spool, as a writer knows them */

static void check_text(struct body *b, const char *p, size_t n)
{
    char *piece = xmalloc(SPOOL_PIECE);
    struct err err = {0};
    size_t got, at = 0;

    assert_int_equal(body_length(b), n);
    do {
        if (!body_read(b, at, piece, SPOOL_PIECE, &got, &err))
            fail_msg("%s", err.text);
        assert_memory_equal(piece, p + at, got);
        at += got;
    } while (got);
    assert_int_equal(at, n);
    free(piece);
}

static struct body *again(struct body **b)
{
    struct buf stored = BUF_INIT(4096);
    struct err err = {0};
    struct body *copy;

    body_encode(*b, &stored);
    body_free(b);
    copy = body_decode(stored.p, stored.n, &err);
    if (!copy)
        fail_msg("%s", err.text);
    buf_free(&stored);
    return copy;
}

static void crc_of_the_rfc(void **state)
{
    char zeros[32] = {0}, text[] = "123456789";

    (void)state;
    assert_int_equal(crc32c(0, text, 9), 0xe3069283u);
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aau); /* RFC 3720 appendix B.4 */
    assert_int_equal(crc32c(crc32c(0, text, 4), text + 4, 5), 0xe3069283u);
}

static void sizes_come_back(void **state)
{
    static const size_t sizes[] = {
        0,         1,        4096,           SPOOL_PIECE - 1, SPOOL_PIECE,    SPOOL_PIECE + 1,
        5 * 70000, 1u << 20, (1u << 20) + 1, (4u << 20) + 1,  (5u << 20) + 17};
    char *text = make_text(6u << 20);

    (void)state;
    for (size_t i = 0; i < countof(sizes); i++) {
        struct body *b = store(text, sizes[i], i % 2 ? 997 : 1u << 20);

        assert_true((body_cached(b).n == sizes[i]) == (sizes[i] <= SPOOL_PIECE));
        check_text(b, text, sizes[i]);
        b = again(&b);
        assert_int_equal(body_cached(b).n, 0);
        check_text(b, text, sizes[i]);
        assert_true(body_load(b, NULL));
        assert_int_equal(body_cached(b).n, sizes[i] <= SPOOL_PIECE ? sizes[i] : 0);
        check_text(b, text, sizes[i]);
        body_remove(b);
        body_free(&b);
    }
    assert_int_equal(files("file-"), 0);
    free(text);
}

static void reads_at_any_offset(void **state)
{
    size_t n = (1u << 20) + 100000, got;
    char *text = make_text(n), out[300];
    struct body *b = store(text, n, 5000);
    struct err err = {0};

    (void)state;
    for (size_t at = 0; at < n; at += 4321) {
        assert_true(body_read(b, at, out, sizeof(out), &got, &err));
        assert_true(got > 0 && got <= sizeof(out));
        assert_memory_equal(out, text + at, got);
    }
    assert_true(body_read(b, n, out, sizeof(out), &got, &err));
    assert_int_equal(got, 0);
    body_free(&b);
    free(text);
}

/* Closes the spool as a crash would and opens it with the bodies that rows still refer to. */
static void restart(struct buf *rows, size_t n)
{
    struct err err = {0};

    spool_close();
    assert_true(spool_open(spool, &err));
    for (size_t i = 0; i < n; i++)
        if (!spool_account(rows[i].p, rows[i].n, &err))
            fail_msg("%s", err.text);
    spool_ready(true);
}

static void restart_keeps_what_rows_name(void **state)
{
    size_t large = (4u << 20) + 5;
    char *text = make_text(large);
    struct buf rows[2] = {BUF_INIT(4096), BUF_INIT(4096)};
    struct body *small = store(text, 1000, 1000), *big = store(text, large, 65536),
                *lost = store(text, large, 65536);
    struct err err = {0};

    (void)state;
    body_encode(small, &rows[0]);
    body_encode(big, &rows[1]);
    body_free(&small);
    body_free(&big);
    body_free(&lost);
    assert_true(spool_sync(&failures, &err));
    assert_int_equal(files("file-"), 2);
    restart(rows, 2);
    assert_int_equal(files("file-"), 1); /* nobody referred to the other */
    assert_int_equal(files("seg-"), 2); /* the old one and a fresh one */
    small = body_decode(rows[0].p, rows[0].n, &err);
    big = body_decode(rows[1].p, rows[1].n, &err);
    check_text(small, text, 1000);
    check_text(big, text, large);
    body_remove(small);
    body_free(&small);
    assert_int_equal(files("seg-"), 2);
    body_remove(big);
    assert_int_equal(files("seg-"), 2); /* still being read */
    body_free(&big);
    assert_int_equal(files("seg-"), 1);
    assert_int_equal(files("file-"), 0);
    buf_free(&rows[0]);
    buf_free(&rows[1]);
    free(text);
}

/* A row that cannot be read may be the one that names a file, or the rest of a segment. */
static void nothing_goes_while_rows_are_unreadable(void **state)
{
    size_t large = (4u << 20) + 5;
    char *text = make_text(large);
    struct body *big = store(text, large, 65536);
    struct err err = {0};

    (void)state;
    body_free(&big);
    assert_true(spool_sync(&failures, &err));
    spool_close();
    assert_true(spool_open(spool, &err));
    spool_ready(false);
    assert_int_equal(files("file-"), 1);
    assert_int_equal(files("seg-"), 2);
    restart(NULL, 0);
    assert_int_equal(files("file-"), 0);
    assert_int_equal(files("seg-"), 1);
    free(text);
}

static void damage_is_noticed(void **state)
{
    char *text = make_text(200000), *out = xmalloc(SPOOL_PIECE), name[120];
    struct body *b = store(text, 200000, 65536);
    struct err err = {0};
    size_t got;
    int fd;

    (void)state;
    snprintf(name, sizeof(name), "%s/seg-00000001", spool);
    fd = open(name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\x55\xaa", 2, SPOOL_LEDGER + 70000), 2); /* in the second piece */
    assert_true(body_read(b, 0, out, SPOOL_PIECE, &got, &err));
    assert_false(body_read(b, SPOOL_PIECE, out, SPOOL_PIECE, &got, &err));
    assert_int_equal(err.code, E_IO);
    assert_non_null(strstr(err.text, "checksum"));
    assert_true(body_read(b, 2 * SPOOL_PIECE, out, SPOOL_PIECE, &got, &err));
    assert_int_equal(ftruncate(fd, SPOOL_LEDGER + 100000), 0); /* as if the end had never reached the disk */
    assert_false(body_read(b, 2 * SPOOL_PIECE, out, SPOOL_PIECE, &got, &err));
    assert_non_null(strstr(err.text, "ends too early"));
    close(fd);
    body_free(&b);
    free(out);
    free(text);
}

static void segments_are_used_again(void **state)
{
    size_t n = 60000, count = (64u << 20) / n + 10; /* goes over into a second segment */
    struct body **b = xcalloc(count, sizeof(*b));
    char *text = make_text(n);

    (void)state;
    for (size_t i = 0; i < count; i++)
        b[i] = store(text, n, n);
    assert_int_equal(files("seg-"), 2);
    assert_int_equal(files("spare-"), 0);
    for (size_t i = 0; i < count; i++) {
        body_remove(b[i]);
        body_free(&b[i]);
    }
    assert_int_equal(files("seg-"), 1);
    assert_int_equal(files("spare-"), 1);
    for (size_t i = 0; i < count; i++)
        b[i] = store(text, n, n);
    assert_int_equal(files("spare-"), 0); /* it became the next segment */
    for (size_t i = 0; i < count; i++) {
        check_text(b[i], text, n);
        body_remove(b[i]);
        body_free(&b[i]);
    }
    free(b);
    free(text);
}

static void sparse_segments_are_cleared(void **state)
{
    size_t n = 60000, count = (64u << 20) / n + 10;
    struct body **b = xcalloc(count, sizeof(*b)), *moved;
    char *text = make_text(n);
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < count; i++)
        b[i] = store(text, n, n);
    assert_int_equal(spool_sparse_segment(), 0);
    for (size_t i = 1; i < count; i++) {
        body_remove(b[i]);
        body_free(&b[i]);
    }
    assert_int_equal(spool_sparse_segment(), body_segment(b[0])); /* one message pins 64 MiB */
    moved = body_copy(b[0], &err);
    assert_non_null(moved);
    body_remove_pieces(b[0]);
    check_text(b[0], text, n); /* a session may be reading it still */
    body_free(&b[0]);
    assert_int_equal(spool_sparse_segment(), 0);
    assert_int_equal(files("seg-"), 1);
    moved = again(&moved);
    check_text(moved, text, n);
    body_remove(moved);
    body_free(&moved);
    free(b);
    free(text);
}

static void aborted_bodies_leave_nothing(void **state)
{
    struct body_writer *w = body_create();
    char *text = make_text(6u << 20);
    struct spool_usage usage;
    struct err err = {0};

    (void)state;
    assert_true(body_append(w, text, 6u << 20, &err));
    spool_usage(&usage);
    assert_int_equal(usage.bytes_used, 4u << 20);
    assert_int_equal(usage.files, 1);
    body_abort(&w);
    body_abort(&w); /* harmless */
    spool_usage(&usage);
    assert_int_equal(usage.bytes_used, 0);
    assert_int_equal(usage.files, 0);
    assert_int_equal(files("file-"), 0);
    assert_true(usage.bytes_free > 0);
    free(text);
}

static void broken_places_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "\x02\x00\x00\x00", /* another version */
        "\x01\x01\x01\x00\x00\x00\x00\x00", /* a piece without length */
        "\x01\x01\x00\x00\x05\x00\x00\x00", /* segment 0 */
        "\x01\x02\x01\x00\x05\x00\x01\x05\x05\x00\x00\x00", /* a short piece before the last */
        "\x01\x01\x01\xff\xff\xff\xff\x0f\x05\x00\x00\x00", /* behind the end of the segment */
        "\x01\x01\x01\x00\x05\x00\x07\x01", /* a file behind a short piece */
        "\x01\x01\x01\x00\x05\x00\x00\x00\x00", /* something behind the end */
        "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    static const size_t len[] = {0, 4, 8, 8, 12, 12, 8, 9, 11};
    struct err err;

    (void)state;
    for (size_t i = 0; i < countof(bad); i++) {
        memset(&err, 0, sizeof(err));
        assert_null(body_decode(bad[i], len[i], &err));
        assert_int_equal(err.code, E_IO);
        assert_false(spool_account(bad[i], len[i], &err));
    }
    assert_null(body_decode("\x01\x01\x77\x00\x05\x00\x00\x00", 8,
                            &err)); /* well formed, but no such segment */
    assert_non_null(strstr(err.text, "00000077"));
}

/* One sync covers bodies of several messages; when it fails, the next one says nothing of those that were not in the
 * group that failed. */
static void failed_sync_spoils_what_was_begun(void **state)
{
    char *text = make_text(200000);
    struct body *before = store(text, 1000, 1000), *after;
    struct body_writer *w = body_create();
    struct err err = {0};

    (void)state;
    assert_true(spool_sync(&failures, &err));
    assert_true(body_sound(before, &err));
    assert_true(body_append(w, text, 200000, &err)); /* of another group, on its way */
    reason = EIO;
    sync_fails = 1;
    assert_false(spool_sync(&failures, &err));
    assert_int_equal(err.code, E_IO);
    assert_true(spool_sync(&failures, &err)); /* as if nothing had been */
    body_free(&before);
    before = body_finish(&w, &err);
    assert_non_null(before);
    assert_false(body_sound(before, &err));
    assert_string_equal(err.text, "the disk failed while the message was being stored");
    after = store(text, 1000, 1000);
    assert_true(body_sound(after, &err));
    assert_int_not_equal(body_segment(after), body_segment(before)); /* not where the disk failed */
    check_text(after, text, 1000);
    body_remove(before);
    body_free(&before);
    body_free(&after);
    free(text);
}

static void spare_that_does_not_open(void **state)
{
    char *text = make_text(1u << 20);
    struct body *b, *first = store(text, 1u << 20, 1u << 20);
    struct err err = {0};

    (void)state;
    for (unsigned i = 0; i < 80; i++) { /* fills its segment */
        b = store(text, 1u << 20, 1u << 20);
        body_remove(b);
        body_free(&b);
    }
    body_remove(first);
    body_free(&first);
    assert_int_equal(files("spare-"), 1);
    reason = EMFILE;
    open_fails = 2;
    for (unsigned failed = 0, i = 0; i < 200; i++) {
        struct body_writer *w = body_create();

        b = NULL;
        if (body_append(w, text, 1u << 20, &err))
            b = body_finish(&w, &err);
        body_abort(&w);
        failed += !b;
        assert_true(failed <= 1); /* the next one has a descriptor again */
        if (b)
            body_remove(b);
        body_free(&b);
    }
    assert_int_equal(open_fails, 0);
    free(text);
}

static void last_space_is_left_for_the_database(void **state)
{
    char *text = make_text(1u << 20);
    struct body_writer *w;
    struct err err = {0};
    unsigned taken = 0;
    bool ok;

    (void)state;
    free_bytes = 100u << 20;
    do {
        w = body_create();
        ok = body_append(w, text, 1u << 20, &err);
        body_abort(&w);
        taken += ok;
    } while (ok && taken < 1000);
    assert_int_equal(err.code, E_LIMIT);
    assert_true(taken > 50 && taken < 70); /* the segment that is there, no other */
    w = body_create();
    assert_true(body_append(w, text, 1u << 20, &err)); /* it is empty again, and can be used once more */
    body_abort(&w);
    spool_close();
    assert_true(spool_open(spool, &err)); /* starting is possible all the same */
    spool_ready(true);
    free_bytes = 0;
    w = body_create();
    assert_true(body_append(w, text, 1u << 20, &err));
    body_abort(&w);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_of_the_rfc),
        cmocka_unit_test_setup_teardown(sizes_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_at_any_offset, set_up, tear_down),
        cmocka_unit_test_setup_teardown(restart_keeps_what_rows_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_goes_while_rows_are_unreadable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_are_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sparse_segments_are_cleared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(aborted_bodies_leave_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_places_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_sync_spoils_what_was_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(spare_that_does_not_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(last_space_is_left_for_the_database, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
