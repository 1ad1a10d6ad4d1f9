/* test_writer.c - group commit: isolation, order, what a failure takes with it, kill -9. */
#include "daemon/writer.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/worker.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct loop *l;
static char dir[] = "/tmp/postern-writer-XXXXXX";
static char path[64];
static unsigned criticals;

static sqlite3 *open_db(void)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                  "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v TEXT)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    return db;
}

static int count_rows(const char *where)
{
    sqlite3 *db = open_db();
    char *sql = xasprintf("SELECT count(*) FROM t WHERE %s", where);
    sqlite3_stmt *s;
    int n;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    sqlite3_step(s);
    n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    free(sql);
    return n;
}

static int start(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "%s/db", dir);
    return 0;
}

static int clean(void **state)
{
    static const char *const names[] = {"", "-wal", "-shm", "-journal"};
    char name[80];

    (void)state;
    for (size_t i = 0; i < countof(names); i++) {
        snprintf(name, sizeof(name), "%s%s", path, names[i]);
        unlink(name);
    }
    return 0;
}

/* ---- jobs ---- */

static bool insert(sqlite3 *db, void *arg, struct err *err)
{
    sqlite3_stmt *s = writer_stmt("INSERT INTO t(id, v) VALUES (?1, 'x')", err);

    if (!s)
        return false;
    sqlite3_bind_int(s, 1, *(int *)arg);
    if (sqlite3_step(s) != SQLITE_DONE)
        return err_set(err, E_IO, "insert: %s", sqlite3_errmsg(db));
    return true;
}

static bool insert_and_fail(sqlite3 *db, void *arg, struct err *err)
{
    if (!insert(db, arg, err))
        return false;
    writer_want_sync();
    return err_set(err, E_INVALID, "changed my mind");
}

static bool insert_and_sync(sqlite3 *db, void *arg, struct err *err)
{
    writer_want_sync();
    return insert(db, arg, err);
}

static sem_t gate, entered;

static bool hold(sqlite3 *db, void *arg, struct err *err)
{
    (void)db;
    (void)arg;
    (void)err;
    sem_post(&entered);
    while (sem_wait(&gate) < 0)
        ;
    return true;
}

struct txn {
    struct writer *w;
    writer_fn fn;
    int id;
    bool call, ok, done;
    struct err err;
};

static void txn_fiber(void *arg)
{
    struct txn *t = arg;

    t->ok = t->call ? writer_call(t->w, t->fn, &t->id, &t->err)
                    : writer_txn(t->w, t->fn, &t->id, &t->err);
    t->done = true;
}

/* Runs these as one group: the writer is held while they gather. */
static void run_together(struct writer *w, struct txn *t, size_t n)
{
    struct txn held = {.w = w, .fn = hold, .call = true};

    assert_true(fiber_spawn(l, "gate", txn_fiber, &held));
    loop_settle(l);
    while (sem_wait(&entered) < 0)
        ;
    for (size_t i = 0; i < n; i++) {
        t[i].w = w;
        t[i].id = t[i].id ? t[i].id : (int)i + 1;
        t[i].done = false;
        assert_true(fiber_spawn(l, "txn", txn_fiber, &t[i]));
    }
    loop_settle(l);
    for (size_t i = 0; i < n; i++)
        assert_false(t[i].done);
    sem_post(&gate);
    while (fiber_count() > 0)
        loop_turn(l, NEVER);
    assert_true(held.ok);
}

/* ---- tests ---- */

static void a_job_that_fails_undoes_only_itself(void **state)
{
    struct writer *w = writer_new("test", open_db(), NULL, NULL);
    struct txn t[] = {
        {.fn = insert}, {.fn = insert_and_fail}, {.fn = insert}, {.fn = insert_and_fail}};
    struct writer_stats stats;
    (void)state;

    run_together(w, t, countof(t));
    assert_true(t[0].ok && t[2].ok);
    assert_false(t[1].ok || t[3].ok);
    assert_int_equal(t[1].err.code, E_INVALID);
    assert_string_equal(t[1].err.text, "changed my mind");
    writer_stats(w, &stats);
    assert_int_equal(stats.groups, 1);
    assert_int_equal(stats.jobs, 5);
    assert_int_equal(stats.failed, 2);
    writer_free(&w);
    assert_int_equal(count_rows("1"), 2);
    assert_int_equal(count_rows("id IN (1, 3)"), 2);
}

static void a_job_alone_that_fails_is_undone_too(void **state)
{
    struct writer *w = writer_new("test", open_db(), NULL, NULL);
    struct err err = {0};
    int id = 7;
    (void)state;

    assert_false(writer_txn(w, insert_and_fail, &id, &err));
    assert_int_equal(err.code, E_INVALID);
    assert_true(writer_txn(w, insert, &id, &err)); /* the key is free again */
    writer_free(&w);
    assert_int_equal(count_rows("1"), 1);
}

static int refuse(void *arg)
{
    return *(bool *)arg;
}

static void a_failed_commit_fails_the_whole_group_and_only_it(void **state)
{
    sqlite3 *db = open_db();
    struct writer *w;
    struct txn t[] = {{.fn = insert}, {.fn = insert}, {.fn = insert_and_fail}},
               again[] = {{.fn = insert}};
    bool broken = true;
    (void)state;

    sqlite3_commit_hook(db, refuse, &broken);
    w = writer_new("test", db, NULL, NULL);
    criticals = 0;
    run_together(w, t, countof(t));
    assert_false(t[0].ok || t[1].ok || t[2].ok);
    assert_int_equal(t[0].err.code, E_IO);
    assert_int_equal(t[2].err.code, E_INVALID); /* its own reason */
    assert_int_equal(criticals, 1);
    run_together(w, again, 1);
    assert_false(again[0].ok);
    assert_int_equal(criticals, 1); /* said once */
    broken = false;
    run_together(w, again, 1);
    assert_true(again[0].ok);
    writer_free(&w);
    assert_int_equal(count_rows("1"), 1);
}

static unsigned syncs;
static bool sync_works;

static bool sync_hook(void *arg, struct err *err)
{
    assert_ptr_equal(arg, &syncs);
    syncs++;
    return sync_works || err_set(err, E_IO, "segment: no space");
}

static void the_sync_hook_runs_when_a_job_that_stays_wants_it(void **state)
{
    struct writer *w = writer_new("test", open_db(), sync_hook, &syncs);
    struct txn none[] = {{.fn = insert}, {.fn = insert_and_fail}};
    struct txn then_none[] = {
        {.fn = insert_and_sync, .id = 5},
        {.fn = insert_and_fail, .id = 6}
    };
    struct txn two[] = {
        {.fn = insert,          .id = 8},
        {.fn = insert_and_sync, .id = 9}
    };
    (void)state;

    syncs = 0;
    sync_works = true;
    run_together(w, none, 2);
    assert_int_equal(syncs, 0);
    run_together(w, then_none, 2); /* one that fails behind it takes nothing back */
    assert_int_equal(syncs, 1);
    assert_true(then_none[0].ok && !then_none[1].ok);
    syncs = 0;
    sync_works = false;
    run_together(w, two, 2);
    assert_int_equal(syncs, 1);
    assert_false(two[0].ok || two[1].ok);
    assert_string_equal(two[1].err.text, "segment: no space");
    writer_free(&w);
    assert_int_equal(count_rows("id = 1"), 1); /* of the first run */
    assert_int_equal(count_rows("1"), 2);
}

static bool fill_up(sqlite3 *db, void *arg, struct err *err)
{
    (void)arg;
    if (sqlite3_exec(db, "INSERT INTO t(v) VALUES (zeroblob(1000000))", NULL, NULL, NULL) ==
        SQLITE_OK)
        return true;
    return err_set(err, E_IO, "%s", sqlite3_errmsg(db));
}

static bool roll_back_all(sqlite3 *db, void *arg, struct err *err)
{
    (void)arg;
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL); /* as SQLite does on an I/O error */
    return err_set(err, E_IO, "disk I/O error");
}

static void disk_trouble_ends_what_it_must_and_no_more(void **state)
{
    sqlite3 *db = open_db();
    struct writer *w;
    static struct txn full[] = {{.fn = insert}, {.fn = fill_up}, {.fn = insert}};
    static struct txn broken[] = {{.fn = insert_and_fail},
                                  {.fn = insert},
                                  {.fn = roll_back_all},
                                  {.fn = insert},
                                  {.fn = insert}};
    (void)state;

    sqlite3_exec(db, "PRAGMA max_page_count=50", NULL, NULL, NULL);
    w = writer_new("test", db, NULL, NULL);
    run_together(w, full, countof(full));
    assert_false(full[1].ok);
    assert_string_equal(full[1].err.text, "database or disk is full");
    assert_int_equal(count_rows("1"), full[0].ok + full[2].ok); /* whatever SQLite undid */
    run_together(w, broken, countof(broken));
    assert_false(broken[1].ok);
    assert_string_equal(broken[1].err.text, "disk I/O error");
    assert_string_equal(broken[0].err.text, "changed my mind");
    assert_false(broken[2].ok);
    assert_true(broken[3].ok && broken[4].ok); /* those behind get a transaction of their own */
    writer_free(&w);
    assert_int_equal(count_rows("id IN (4, 5)"), 2);
}

static int order[4000];
static size_t ordered;

static bool note(sqlite3 *db, void *arg, struct err *err)
{
    order[ordered++] = *(int *)arg;
    return insert(db, arg, err);
}

struct storm {
    struct writer *w;
    int from;
    bool ok;
};

static void storm_fiber(void *arg)
{
    struct storm *s = arg;

    s->ok = true;
    for (int i = s->from; i < s->from + 20; i++)
        s->ok &= writer_txn(s->w, note, &i, NULL);
}

static void everything_runs_once_and_in_order(void **state)
{
    struct writer *w = writer_new("test", open_db(), NULL, NULL);
    static struct storm storms[200];
    struct writer_stats stats;
    int last[200] = {0};
    (void)state;

    ordered = 0;
    for (int i = 0; i < 200; i++) {
        storms[i] = (struct storm){w, 1000 + i * 20, false};
        assert_true(fiber_spawn(l, "storm", storm_fiber, &storms[i]));
    }
    while (fiber_count() > 0)
        loop_turn(l, NEVER);
    for (int i = 0; i < 200; i++)
        assert_true(storms[i].ok);
    assert_int_equal(ordered, 4000);
    for (size_t i = 0; i < ordered; i++) { /* each fiber's own jobs in the order it gave them */
        int who = (order[i] - 1000) / 20;

        assert_true(order[i] > last[who]);
        last[who] = order[i];
    }
    writer_stats(w, &stats);
    assert_int_equal(stats.jobs, 4000);
    assert_true(stats.groups < 2000); /* they were grouped */
    writer_free(&w);
    assert_int_equal(count_rows("1"), 4000);
}

static sem_t lazy_done;
static int lazy_results;

static void on_lazy(void *arg, bool ok)
{
    (void)arg;
    lazy_results += ok ? 1 : 100;
    sem_post(&lazy_done);
}

static void lazy_jobs_ride_along_or_go_alone(void **state)
{
    struct writer *w = writer_new("test", open_db(), NULL, NULL);
    static int ids[] = {1, 2, 3, 4};
    struct writer_stats stats;
    (void)state;

    sem_init(&lazy_done, 0, 0);
    lazy_results = 0;
    writer_post(w, insert, on_lazy, &ids[0]);
    writer_post(w, insert_and_fail, on_lazy, &ids[1]);
    assert_true(writer_txn(w, insert, &ids[2], NULL));
    writer_stats(w, &stats);
    assert_int_equal(stats.groups, 1); /* all three, in order */
    assert_int_equal(stats.jobs, 3);
    assert_int_equal(lazy_results, 101);
    writer_post(w, insert, on_lazy, &ids[1]); /* nobody comes along: it goes by itself in a while */
    for (int i = 0; i < 3; i++)
        while (sem_wait(&lazy_done) < 0)
            ;
    assert_int_equal(lazy_results, 102);
    writer_post(w, insert, NULL, &ids[3]);
    writer_free(&w); /* drains */
    assert_int_equal(count_rows("1"), 4);
}

static bool own_transaction(sqlite3 *db, void *arg, struct err *err)
{
    (void)err;
    return sqlite3_get_autocommit(db) &&
           sqlite3_exec(db, arg ? "BEGIN" : "BEGIN; COMMIT; PRAGMA wal_checkpoint", NULL, NULL,
                        NULL) == SQLITE_OK;
}

static void a_call_runs_outside_any_transaction(void **state)
{
    struct writer *w = writer_new("test", open_db(), NULL, NULL);
    struct err err = {0};
    int id = 1;
    (void)state;

    assert_true(writer_call(w, own_transaction, NULL, &err));
    assert_false(writer_call(w, own_transaction, &id, &err)); /* left open: undone, and said */
    assert_string_equal(err.text, "transaction was not ended");
    assert_true(writer_txn(w, insert, &id, &err));
    writer_free(&w);
}

/* What a child acknowledges on a pipe before it is killed must be in its database. */
static void nothing_acknowledged_is_lost_by_kill_9(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        int p[2], acks = 0, id, status;
        pid_t child;

        clean(NULL);
        assert_int_equal(pipe(p), 0);
        child = fork();
        if (!child) {
            struct writer *w = writer_new("test", open_db(), NULL, NULL);

            for (id = 1;; id++)
                if (!writer_txn(w, insert, &id, NULL) || write(p[1], &id, sizeof(id)) != sizeof(id))
                    _exit(1);
        }
        close(p[1]);
        for (int want = 5 + round * 7; acks < want; acks++)
            assert_int_equal(read(p[0], &id, sizeof(id)), sizeof(id));
        kill(child, SIGKILL);
        while (read(p[0], &id, sizeof(id)) == sizeof(id))
            acks++;
        waitpid(child, &status, 0);
        close(p[0]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(count_rows("id <= (SELECT max(id) FROM t)"), count_rows("1"));
        assert_true(count_rows("1") >= acks);
        assert_true(count_rows("1") <= acks + 1); /* one may have been on its way */
    }
}

/* ---- workers ---- */

static pthread_t ran_on;

static bool blocking(void *arg, struct err *err)
{
    ran_on = pthread_self();
    return *(int *)arg == 1 || err_set(err, E_DENIED, "no %d", *(int *)arg);
}

static void worker_fiber(void *arg)
{
    struct txn *t = arg;

    t->ok = worker_call(blocking, &t->id, &t->err);
    t->done = true;
}

static void count_post(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_RELAXED);
}

static void workers_run_what_blocks(void **state)
{
    struct txn yes = {.id = 1}, no = {.id = 2};
    struct err err = {0};
    int one = 1, posts = 0, refused = 0;
    (void)state;

    assert_true(worker_call(blocking, &one, &err)); /* outside a fiber: here */
    assert_true(pthread_equal(ran_on, pthread_self()));
    assert_true(worker_post(count_post, &posts)); /* done when there are workers */
    workers_start(3);
    assert_true(fiber_spawn(l, "yes", worker_fiber, &yes));
    while (fiber_count() > 0)
        loop_turn(l, NEVER);
    assert_true(yes.ok);
    assert_false(pthread_equal(ran_on, pthread_self()));
    assert_true(fiber_spawn(l, "no", worker_fiber, &no));
    while (fiber_count() > 0)
        loop_turn(l, NEVER);
    assert_false(no.ok);
    assert_string_equal(no.err.text, "no 2");
    workers_stop();
    assert_int_equal(posts, 1);
    for (int i = 0; i < 1030; i++)
        refused += !worker_post(count_post, &posts);
    assert_int_equal(refused, 6);
    workers_start(0);
    workers_stop(); /* what was posted is done first */
    assert_int_equal(posts, 1025);
}

static void sink(enum log_level level, const char *text)
{
    (void)text;
    criticals += level == LOG_CRITICAL;
}

static unsigned damages;

static void on_damage(void)
{
    damages++;
}

static void damage_is_told(void **state)
{
    sqlite3 *db = open_db();
    int id = 1, again = 1, fd;
    static char junk[4096];
    struct writer *w;
    struct err err;

    (void)state;
    sqlite3_close(db);
    w = writer_new("test", open_db(), NULL, NULL);
    writer_on_damage(w, on_damage);
    assert_true(writer_txn(w, insert, &id, &err));
    assert_false(writer_txn(w, insert, &again, &err)); /* there is one: nothing is damaged */
    assert_int_equal(damages, 0);
    writer_free(&w);
    memset(junk, 0x77, sizeof(junk));
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 4096), sizeof(junk)); /* the page of the table */
    close(fd);
    w = writer_new("test", open_db(), NULL, NULL);
    writer_on_damage(w, on_damage);
    again = 2;
    assert_false(writer_txn(w, insert, &again, &err));
    assert_true(damages > 0);
    writer_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_that_fails_undoes_only_itself, start, clean),
        cmocka_unit_test_setup_teardown(a_job_alone_that_fails_is_undone_too, start, clean),
        cmocka_unit_test_setup_teardown(a_failed_commit_fails_the_whole_group_and_only_it, start,
                                        clean),
        cmocka_unit_test_setup_teardown(the_sync_hook_runs_when_a_job_that_stays_wants_it, start,
                                        clean),
        cmocka_unit_test_setup_teardown(disk_trouble_ends_what_it_must_and_no_more, start, clean),
        cmocka_unit_test_setup_teardown(everything_runs_once_and_in_order, start, clean),
        cmocka_unit_test_setup_teardown(lazy_jobs_ride_along_or_go_alone, start, clean),
        cmocka_unit_test_setup_teardown(a_call_runs_outside_any_transaction, start, clean),
        cmocka_unit_test_setup_teardown(nothing_acknowledged_is_lost_by_kill_9, start, clean),
        cmocka_unit_test_setup_teardown(damage_is_told, start, clean),
        cmocka_unit_test(workers_run_what_blocks),
    };
    int failed;

    if (!mkdtemp(dir))
        return 1;
    sem_init(&gate, 0, 0);
    sem_init(&entered, 0, 0);
    log_set_sink(sink);
    l = loop_new(0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    loop_free(&l);
    rmdir(dir);
    return failed;
}
