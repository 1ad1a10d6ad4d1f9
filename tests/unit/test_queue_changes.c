/* test_queue_changes.c - rows are written in the order in which they were listed, whatever fails
 * between: what is deleted stays deleted, and the mark never says more than the rows. */
#include "daemon/queue_changes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/message.h"
#include "daemon/spool.h"
#include "daemon/writer.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static char dir[] = "/tmp/postern-changes-XXXXXX";
static char path[64];
static struct writer *w;
static bool disk_fails;
static unsigned failures;

static sqlite3 *open_db(void)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS message (mid INTEGER PRIMARY KEY, body, envelope, state);"
            "CREATE TABLE IF NOT EXISTS value (name TEXT PRIMARY KEY, value INTEGER)",
            NULL, NULL, NULL),
        SQLITE_OK);
    return db;
}

static int64_t ask(const char *sql)
{
    sqlite3 *db = open_db();
    sqlite3_stmt *s;
    int64_t n = -1;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    if (sqlite3_step(s) == SQLITE_ROW)
        n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

static bool sync_hook(void *unused, struct err *err)
{
    (void)unused;
    return !disk_fails || err_set(err, E_IO, "the disk fails");
}

static void on_failure(void)
{
    failures++;
}

static void ignore(enum log_level level, const char *line)
{
    (void)level;
    (void)line;
}

static int start(void **state)
{
    struct err err = {0};
    char *spool = xasprintf("%s/spool", dir);

    (void)state;
    snprintf(path, sizeof(path), "%s/db", dir);
    if (!spool_open(spool, &err))
        return -1;
    free(spool);
    spool_ready(true);
    log_set_sink(ignore);
    w = writer_new("test", open_db(), sync_hook, NULL);
    changes_start(w, 0, on_failure);
    failures = 0;
    disk_fails = false;
    return 0;
}

static int stop(void **state)
{
    char *command = xasprintf("rm -rf %s/*", dir);
    int rc;

    (void)state;
    writer_free(&w);
    changes_stop();
    spool_close();
    rc = system(command);
    free(command);
    return rc;
}

static struct message *make(uint64_t mid)
{
    struct body_writer *b = body_create();
    struct message *m = message_new();

    m->mid = mid;
    message_add_rcpt(m, "to@example.com", NULL, 0);
    assert_true(body_append(b, "text\r\n", 6, NULL));
    m->body = body_finish(&b, NULL);
    assert_non_null(m->body);
    return m;
}

/* As the ledger hands it on. */
static void list_row(const struct message *m, uint64_t seq)
{
    changes_add_rows(change_row(m, NULL), &(struct ledger_mark){seq, 1});
}

static bool nothing(sqlite3 *db, void *unused, struct err *err)
{
    (void)db;
    (void)unused;
    (void)err;
    return true;
}

/* Everything that was posted runs, in one group. */
static void run_group(void)
{
    writer_txn(w, nothing, NULL, NULL);
}

struct job {
    struct flush flush;
    struct message *gone; /* is done with at this moment */
    bool fails;
};

static void *finish(void *m)
{
    changes_add(change_gone(m));
    return NULL;
}

static bool write_some(sqlite3 *db, void *arg, struct err *err)
{
    struct job *j = arg;
    pthread_t session;

    assert_true(changes_write(db, &j->flush, err));
    if (j->gone && pthread_create(&session, NULL, finish, j->gone) == 0)
        pthread_join(session, NULL);
    writer_want_sync();
    return !j->fails || err_set(err, E_IO, "a row cannot be read");
}

static void what_comes_and_goes_in_one_flush_leaves_the_mark_alone(void **state)
{
    struct message *one = make(1), *two = make(2), *three = make(3);

    (void)state;
    list_row(one, 1);
    list_row(two, 2);
    list_row(three, 3);
    changes_add(change_gone(one));
    two->rcpts[0].attempts = 1;
    changes_add(change_state(two));
    run_group();
    assert_int_equal(ask("SELECT value FROM value WHERE name = 'ledger'"), 3);
    assert_int_equal(ask("SELECT sum(mid) FROM message"), 5);
    assert_int_equal(ask("SELECT mid FROM message WHERE state IS NOT NULL"), 2);
    changes_add(change_gone(two)); /* one with a row, one without in the same flush */
    list_row(one, 4);
    changes_add(change_gone(one));
    run_group();
    assert_int_equal(ask("SELECT sum(mid) FROM message"), 3);
    assert_int_equal(changes_passed(), 4);
    message_free(&one);
    message_free(&two);
    message_free(&three);
}

static void a_job_that_fails_gives_back_before_the_next_takes(void **state)
{
    struct message *one = make(1), *two = make(2);
    struct job j = {.gone = one, .fails = true};

    (void)state;
    writer_post(w, write_some, changes_written, &j);
    list_row(one, 1); /* posts a flush, which comes behind that */
    list_row(two, 2);
    run_group();
    assert_int_equal(ask("SELECT value FROM value WHERE name = 'ledger'"), 2);
    assert_int_equal(ask("SELECT count(*) FROM message WHERE mid = 2"), 1);
    run_group();
    assert_int_equal(ask("SELECT count(*) FROM message WHERE mid = 1"), 0); /* and stays away */
    assert_int_equal(ask("SELECT count(*) FROM message"), 1);
    message_free(&one);
    message_free(&two);
}

static void a_group_that_fails_comes_back_in_order(void **state)
{
    struct message *one = make(1), *two = make(2);
    struct job first = {.gone = one}, second = {.gone = NULL};

    (void)state;
    writer_post(w, write_some, changes_written, &first);
    writer_post(w, write_some, changes_written, &second);
    list_row(one, 1);
    list_row(two, 2);
    disk_fails = true;
    run_group();
    assert_true(changes_stuck());
    assert_true(failures > 0);
    assert_int_equal(ask("SELECT count(*) FROM message"), 0);
    assert_int_equal(changes_passed(), 0);
    disk_fails = false;
    first = second = (struct job){.gone = NULL};
    writer_post(w, write_some, changes_written, &first);
    run_group();
    assert_false(changes_stuck());
    assert_int_equal(changes_passed(), 2);
    assert_int_equal(ask("SELECT count(*) FROM message WHERE mid = 1"), 0);
    assert_int_equal(ask("SELECT count(*) FROM message WHERE mid = 2"), 1);
    message_free(&one);
    message_free(&two);
}

/* A transaction that cannot even begin: somebody else has the database. */
static void a_flush_that_could_not_begin_is_posted_again(void **state)
{
    struct message *one = make(1);
    sqlite3 *other = open_db();

    (void)state;
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    list_row(one, 1);
    run_group();
    assert_true(changes_stuck());
    assert_int_equal(failures, 1);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    assert_int_equal(changes_retry(NEVER), NEVER); /* it is time: posted */
    run_group();
    assert_false(changes_stuck());
    assert_int_equal(ask("SELECT count(*) FROM message"), 1);
    message_free(&one);
}

int main(void)
{
#define CHANGES(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        CHANGES(what_comes_and_goes_in_one_flush_leaves_the_mark_alone),
        CHANGES(a_job_that_fails_gives_back_before_the_next_takes),
        CHANGES(a_group_that_fails_comes_back_in_order),
        CHANGES(a_flush_that_could_not_begin_is_posted_again),
    };
    int failed;

    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
