/* daemon/queue_salvage and queue_repair: what comes back from a queue.db that is damaged, page by page. */
#include "daemon/queue_salvage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/message.h"
#include "daemon/queue_repair.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

#define ROWS 3000u
#define PAGE 4096u

static char dir[64], path[80], copy[90];
static const char schema[] = "CREATE TABLE IF NOT EXISTS message (mid INTEGER PRIMARY KEY, body BLOB NOT NULL,"
                             "envelope BLOB NOT NULL, state BLOB);"
                             "CREATE TABLE IF NOT EXISTS value (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
                             "WITHOUT ROWID;"
                             "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT NOT NULL)"
                             "WITHOUT ROWID;";

static void no_log(enum log_level level, const char *text)
{
    (void)level;
    (void)text;
}

/* Every seventh is larger than a page, every third has states. */
static void envelope_of(uint64_t mid, struct buf *envelope, struct buf *state)
{
    struct message *m = message_new();
    char address[40];

    m->mid = mid;
    m->sender = message_text(m, "sender@example.org");
    for (unsigned i = 0; i < (mid % 7 ? 1 : 400); i++) {
        snprintf(address, sizeof(address), "r%u@d%u.example", i, (unsigned)mid);
        message_add_rcpt(m, address, NULL, 0);
    }
    message_encode(m, envelope);
    if (mid % 3 == 0)
        message_encode_state(m, state);
    message_free(&m);
}

static void insert(sqlite3 *db, uint64_t mid)
{
    struct buf envelope = BUF_INIT(1u << 20), state = BUF_INIT(1u << 20);
    sqlite3_stmt *s;
    char body[24];

    envelope_of(mid, &envelope, &state);
    snprintf(body, sizeof(body), "body %u", (unsigned)mid);
    assert_int_equal(sqlite3_prepare_v2(db, "INSERT INTO message VALUES (?,?,?,?)", -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_int64(s, 1, (sqlite3_int64)mid);
    sqlite3_bind_blob(s, 2, body, (int)strlen(body), SQLITE_TRANSIENT);
    sqlite3_bind_blob(s, 3, envelope.p, (int)envelope.n, SQLITE_TRANSIENT);
    if (state.n)
        sqlite3_bind_blob(s, 4, state.p, (int)state.n, SQLITE_TRANSIENT);
    assert_int_equal(sqlite3_step(s), SQLITE_DONE);
    sqlite3_finalize(s);
    buf_free(&envelope);
    buf_free(&state);
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

/* MIDs 1 to ROWS; the first half of those that end in 5 was done and is gone; the last 100 are in the log alone. */
static bool is_there(uint64_t mid)
{
    return mid && mid <= ROWS && !(mid % 10 == 5 && mid <= ROWS / 2);
}

static void copy_file(const char *from, const char *to)
{
    char *command = xasprintf("cp '%s' '%s' 2>/dev/null || rm -f '%s'", from, to, to);

    assert_int_equal(system(command), 0);
    free(command);
}

static int set_up(void **state)
{
    sqlite3 *db;
    char log[100], log_copy[100];

    (void)state;
    log_set_sink(no_log);
    strcpy(dir, "/tmp/postern-salvage-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/queue.db", dir);
    snprintf(copy, sizeof(copy), "%s/live", dir);
    assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
    run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA secure_delete=OFF");
    run(db, schema);
    run(db, "INSERT INTO value VALUES ('mid', 7000), ('suspended', 1); INSERT INTO note VALUES ('paused_by', 'me'); BEGIN");
    for (uint64_t mid = 1; mid <= ROWS - 100; mid++)
        insert(db, mid);
    run(db, "DELETE FROM message WHERE mid % 10 = 5 AND mid <= 1500; COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
            "PRAGMA wal_autocheckpoint = 0; BEGIN");
    for (uint64_t mid = ROWS - 99; mid <= ROWS; mid++)
        insert(db, mid);
    run(db, "COMMIT; INSERT INTO value VALUES ('icid', 5); PRAGMA cache_size = 1; BEGIN");
    for (uint64_t mid = ROWS + 1; mid <= ROWS + 400; mid++) /* never committed, but already in the log */
        insert(db, mid);
    snprintf(log, sizeof(log), "%s-wal", copy);
    snprintf(log_copy, sizeof(log_copy), "%s-wal", path);
    copy_file(copy, path);
    copy_file(log, log_copy);
    sqlite3_close(db);
    unlink(copy);
    unlink(log);
    return 0;
}

static int tear_down(void **state)
{
    char command[120];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static struct got {
    unsigned times[ROWS + 500];
    unsigned n, strange;
    uint64_t gap[2];
    unsigned gaps;
} got;

static bool on_row(void *arg, uint64_t mid, struct slice body, struct slice envelope, struct slice state)
{
    struct buf want = BUF_INIT(1u << 20), want_state = BUF_INIT(1u << 20);
    char text[24];

    (void)arg;
    got.n++;
    if (mid > ROWS + 400) {
        got.strange++;
        return true;
    }
    got.times[mid]++;
    envelope_of(mid, &want, &want_state);
    snprintf(text, sizeof(text), "body %u", (unsigned)mid);
    if (!slice_eq(body, text) || envelope.n != want.n || memcmp(envelope.p, want.p, want.n) ||
        state.n != want_state.n || (state.n && memcmp(state.p, want_state.p, state.n)))
        got.strange++;
    buf_free(&want);
    buf_free(&want_state);
    return true;
}

static void on_gap(void *arg, uint32_t page, uint64_t first, uint64_t last)
{
    (void)arg;
    (void)page;
    got.gap[0] = first;
    got.gap[1] = last;
    got.gaps++;
}

/* How many of the messages are missing; everything that came is right and came once. */
static unsigned salvage(struct salvage *out)
{
    struct err err = {0};
    unsigned missing = 0;

    memset(&got, 0, sizeof(got));
    if (!queue_salvage(path, on_row, on_gap, NULL, out, &err))
        fail_msg("%s", err.text);
    assert_int_equal(got.strange, 0);
    for (uint64_t mid = 1; mid <= ROWS + 400; mid++) {
        assert_true(got.times[mid] <= 1);
        if (is_there(mid))
            missing += !got.times[mid];
        else
            assert_int_equal(got.times[mid], 0);
    }
    return missing;
}

static void spoil(uint32_t page, size_t offset, size_t n, int with)
{
    int fd = open(path, O_RDWR);
    static char junk[PAGE];

    memset(junk, with, sizeof(junk));
    assert_true(fd >= 0 && pwrite(fd, junk, n, (off_t)((page - 1) * PAGE + offset)) == (ssize_t)n);
    close(fd);
}

static unsigned char byte_at(uint32_t page, size_t offset)
{
    int fd = open(path, O_RDONLY);
    unsigned char c = 0;

    assert_int_equal(pread(fd, &c, 1, (off_t)((page - 1) * PAGE + offset)), 1);
    close(fd);
    return c;
}

static void whole(void **state)
{
    struct salvage s;

    (void)state;
    assert_int_equal(salvage(&s), 0);
    assert_int_equal(got.gaps, 0);
    assert_false(s.searched);
    assert_int_equal(s.rows, got.n);
}

static uint32_t some_leaf(void)
{
    for (uint32_t page = 20;; page++)
        if (byte_at(page, 0) == 0x0d && byte_at(page, 3) == 0 && byte_at(page, 4) > 10)
            return page;
}

static void one_leaf(void **state)
{
    uint32_t page = some_leaf();
    struct salvage s;
    unsigned missing;

    (void)state;
    spoil(page, 0, PAGE, 0);
    missing = salvage(&s);
    assert_true(missing > 5 && missing < 80);
    assert_int_equal(got.gaps, 1);
    for (uint64_t mid = 1; mid <= ROWS; mid++)
        if (is_there(mid) && !got.times[mid])
            assert_true(mid >= got.gap[0] && mid <= got.gap[1]);
    assert_true(got.gap[1] - got.gap[0] < 100);
}

static void half_a_leaf(void **state)
{
    uint32_t page = some_leaf();
    struct salvage s;
    unsigned missing;

    (void)state;
    spoil(page, 2048, 2048, 0xff); /* its cells fill it from the end: the later rows stand first */
    missing = salvage(&s);
    if (!missing || missing >= 40)
        fail_msg("%u are missing", missing);
    assert_int_equal(got.gaps, 1);
}

static void forget_log(void)
{
    char name[100];

    snprintf(name, sizeof(name), "%s-wal", path);
    assert_int_equal(unlink(name), 0);
}

static void root(void **state)
{
    struct salvage s;

    (void)state;
    assert_int_equal(byte_at(2, 0), 0x05);
    spoil(2, 0, PAGE, 0x55);
    assert_int_equal(salvage(&s), 0); /* the log has it, too */
    assert_false(s.searched);
    forget_log();
    assert_int_equal(salvage(&s), 100); /* though nothing leads to them any more */
    assert_true(s.searched);
    assert_true(got.gaps > 0);
}

static void first_page(void **state)
{
    struct salvage s;

    (void)state;
    spoil(1, 0, PAGE, 0);
    salvage(&s);
    assert_int_equal(s.bad_pages, 0);
}

static void noise(void **state)
{
    uint32_t x = 12345;
    struct err err = {0};
    struct salvage s;
    struct stat st;

    (void)state;
    assert_int_equal(stat(path, &st), 0);
    for (int i = 0; i < 15; i++) {
        for (int k = 0; k < 40; k++) {
            x = x * 1664525u + 1013904223u;
            spoil(1 + (x >> 8) % (uint32_t)(st.st_size / PAGE - 1), (x >> 4) % 64, 1 + x % 3, (int)(x >> 20));
        }
        memset(&got, 0, sizeof(got));
        queue_salvage(path, on_row, on_gap, NULL, &s, &err);
    }
    assert_int_equal(truncate(path, 5000), 0);
    assert_true(queue_salvage(path, on_row, on_gap, NULL, &s, &err));
    assert_int_equal(truncate(path, 0), 0);
    assert_true(queue_salvage(path, on_row, on_gap, NULL, &s, &err));
    assert_int_equal(unlink(path), 0);
    assert_false(queue_salvage(path, on_row, on_gap, NULL, &s, &err));
}

static int64_t number(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    int64_t n = -1;

    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

static unsigned files(const char *part)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    while ((e = readdir(d)))
        n += strstr(e->d_name, part) != NULL;
    closedir(d);
    return n;
}

static void repaired(void **state)
{
    struct err err = {0};
    bool missing;

    (void)state;
    spoil(2, 0, PAGE, 0x55);
    forget_log();
    queue_repair_want(path);
    assert_true(queue_repair_wanted(path));
    if (!queue_repair(path, &missing, &err))
        fail_msg("%s", err.text);
    assert_true(missing);
    assert_false(queue_repair_wanted(path));
    assert_int_equal(number("SELECT count(*) FROM message"), ROWS - 100 - 150);
    assert_int_equal(number("SELECT value FROM value WHERE name = 'suspended'"), 1);
    assert_int_equal(number("SELECT count(*) FROM note WHERE name = 'paused_by' AND text = 'me'"), 1);
    assert_true(number("SELECT value FROM value WHERE name = 'mid'") >= 1000000 + ROWS - 100);
    assert_true(number("SELECT value FROM value WHERE name = 'dcid'") >= 1000000 + ROWS - 100);
    assert_int_equal(files("damaged-"), 1);
    assert_int_equal(files(".new") + files(".swap") + files("queue.db-wal"), 0);
}

/* Killed between the steps: what is there afterwards is the old database or the new one, never half of each. */
static void cut_off(void **state)
{
    char name[100];
    struct err err = {0};

    (void)state;
    snprintf(name, sizeof(name), "%s.new", path);
    copy_file("/dev/null", name);
    assert_true(queue_repair_finish(path, &err)); /* while it was being written */
    assert_int_equal(files(".new"), 0);
    assert_int_equal(files("queue.db-wal"), 1);
    copy_file(path, name);
    snprintf(name, sizeof(name), "%s.swap", path);
    copy_file("/dev/null", name);
    assert_true(queue_repair_finish(path, &err)); /* it was written, and counts */
    assert_int_equal(files(".new") + files(".swap") + files("queue.db-wal"), 0);
    assert_int_equal(number("SELECT count(*) FROM message"), ROWS - 100 - 150);
    copy_file("/dev/null", name);
    assert_true(queue_repair_finish(path, &err)); /* only the mark was left */
    assert_int_equal(number("SELECT count(*) FROM message"), ROWS - 100 - 150);
}

#define FRAME (24u + PAGE)

static void spoil_log(size_t frame, size_t offset, size_t n)
{
    static char junk[PAGE];
    char name[100];
    int fd;

    snprintf(name, sizeof(name), "%s-wal", path);
    fd = open(name, O_RDWR);
    memset(junk, 0x77, sizeof(junk));
    assert_true(fd >= 0 && pwrite(fd, junk, n, (off_t)(32 + frame * FRAME + offset)) == (ssize_t)n);
    close(fd);
}

/* The number of the first frame from the first on that ends a transaction. */
static size_t last_of_transaction(size_t first)
{
    unsigned char pages[4];
    char name[100];
    int fd;

    snprintf(name, sizeof(name), "%s-wal", path);
    fd = open(name, O_RDONLY);
    assert_true(fd >= 0);
    for (;; first++) {
        assert_int_equal(pread(fd, pages, 4, (off_t)(32 + first * FRAME + 4)), 4);
        if (pages[0] | pages[1] | pages[2] | pages[3])
            break;
    }
    close(fd);
    return first;
}

/* SQLite would forget the whole transaction, all of which was acknowledged. */
static void the_log(void **state)
{
    struct err err = {0};
    struct salvage s;
    unsigned missing;
    bool lost;

    (void)state;
    assert_true(last_of_transaction(0) > 20);
    assert_false(queue_log_damaged(path));
    spoil_log(17, 24 + 100, 1);
    assert_true(queue_log_damaged(path));
    missing = salvage(&s);
    assert_int_equal(s.bad_frames, 1);
    assert_true(missing < 20);
    if (!queue_repair(path, &lost, &err))
        fail_msg("%s", err.text);
    assert_true(lost);
    assert_int_equal(number("SELECT count(*) FROM message"), ROWS - 150 - missing);
    assert_false(queue_log_damaged(path));
}

static void the_log_in_a_header(void **state)
{
    struct salvage s;

    (void)state;
    spoil_log(5, 0, 24);
    assert_true(queue_log_damaged(path));
    assert_true(salvage(&s) < 40);
    assert_int_equal(s.bad_frames, 2); /* the next one cannot be verified */
}

/* What was being written when the power went was never acknowledged. */
static void a_torn_end(void **state)
{
    size_t last = last_of_transaction(0);
    char name[100];

    (void)state;
    spoil_log(last_of_transaction(last + 1) + 1, 24 + 100, 1);
    assert_false(queue_log_damaged(path));
    snprintf(name, sizeof(name), "%s-wal", path);
    assert_int_equal(truncate(name, (off_t)(32 + (last + 1) * FRAME)), 0);
    spoil_log(last - 3, 24 + 100, 1); /* the last one of all, as far as anybody can tell */
    assert_false(queue_log_damaged(path));
    assert_int_equal(truncate(name, 20), 0);
    assert_false(queue_log_damaged(path));
    unlink(name);
    assert_false(queue_log_damaged(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_leaf, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_leaf, set_up, tear_down),
        cmocka_unit_test_setup_teardown(root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(first_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(noise, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_log_in_a_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_torn_end, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
