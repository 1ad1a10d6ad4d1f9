/* SIGKILL in the middle of staging and committing, hundreds of times: at random moments and at
 * every named place. A child stages and commits numbers and tells its parent after each what is
 * done; the parent kills it, opens the store again and compares: the old or the new revision,
 * nothing lost that was acknowledged, the candidate as it was, the audit chain whole, the file
 * sound. The store of one kill is the start of the next. */
#include "tests/unit/cm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_db.h"
#include "store/failpoint.h"
#include "tests/unit/home.h"

#define RANDOM_KILLS 200
#define KILLS_PER_PLACE 5
#define OBJECTS 30 /* changed by each commit: enough pages for a kill to fall between them */

static char home[64];

struct told { /* what the child has acknowledged */
    uint64_t staged, committed;
};

static void stage_number(struct candidate *c, uint64_t n)
{
    struct config_edits e = {0};
    struct check check = {0};
    struct err err;

    for (unsigned i = 0; i < OBJECTS; i++) {
        char name[32], value[32];
        struct row *r;

        snprintf(name, sizeof(name), "d%02u.example", i);
        snprintf(value, sizeof(value), "%llu", (unsigned long long)n);
        r = row_new(&section_destination, name);
        row_set(r, "recipient_limit", value, NULL);
        row_set(r, "recipient_minutes", "1", NULL);
        row_freeze(r);
        config_edits_put(&e, &section_destination, name, r);
    }
    if (!candidate_stage(c, e.items, e.n, 0, &check, &err)) {
        fprintf(stderr, "staging %llu: %s\n", (unsigned long long)n, err.text);
        _exit(3);
    }
    config_edits_free(&e);
}

/* The number all objects agree on; 0: there are none; UINT64_MAX: they disagree. */
static uint64_t number_of(const struct config *cfg)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < OBJECTS; i++) {
        char name[32];
        const struct destination *d;

        snprintf(name, sizeof(name), "d%02u.example", i);
        d = CONFIG_GET(cfg, destination, name);
        if (i && n != (d ? d->recipient_limit : 0))
            return UINT64_MAX;
        n = d ? d->recipient_limit : 0;
    }
    return n;
}

static struct candidate *resume(void)
{
    struct candidate *c = candidate_next(NULL);

    if (c)
        c->attached = true;
    return c ? c : candidate_new("tester");
}

static void tell(int fd, struct told told)
{
    if (write(fd, &told, sizeof(told)) != sizeof(told))
        _exit(4);
}

static void child(int fd, const char *place)
{
    struct db_audit who = {.actor = "tester", .uid = -1, .result = "ok"};
    struct told told;
    struct candidate *c;
    struct config *head;
    struct err err;

    failpoint_arm(place);
    if (!config_db_start(home, geteuid(), &err) || !config_db_activate(&err)) {
        fprintf(stderr, "child: %s\n", err.text);
        _exit(2);
    }
    head = config_db_head();
    told.committed = number_of(head);
    config_free(&head);
    c = resume();
    told.staged = candidate_count(c) ? number_of(candidate_view(c)) : told.committed;
    tell(fd, told);
    for (;;) {
        struct commit k = {.comment = "c", .keep = true, .who = &who};

        stage_number(c, told.staged + 1);
        told.staged++;
        tell(fd, told);
        if (!commit_run(c, &k, &err)) {
            fprintf(stderr, "commit: %s\n", err.text);
            _exit(5);
        }
        commit_clear(&k);
        told.committed = told.staged;
        tell(fd, told);
    }
}

/* What the store says now. */
static void look(struct told *is)
{
    struct config *head;
    struct err err;
    sqlite3 *db;
    sqlite3_stmt *st;
    uint64_t rows;

    if (!secret_init(home, &err) || !db_open(home, &db, &err) || !db_audit_verify(db, &rows, &err))
        fail_msg("%s", err.text);
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(st, 0), "ok");
    sqlite3_finalize(st);
    /* each commit has its audit row: both files were written or neither */
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT (SELECT max(rev) FROM revision) - (SELECT count(*) "
                                        "FROM audit.audit WHERE action='commit')",
                                        -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(st, 0), 0);
    sqlite3_finalize(st);
    sqlite3_close(db);

    if (!config_db_start(home, geteuid(), &err) || !config_db_activate(&err))
        fail_msg("%s", err.text);
    head = config_db_head();
    is->committed = number_of(head);
    config_free(&head);
    assert_int_not_equal(is->committed, UINT64_MAX);
    is->staged = is->committed;
    for (struct candidate *c = candidate_next(NULL); c; c = candidate_next(c)) {
        is->staged = number_of(candidate_view(c));
        assert_int_not_equal(is->staged, UINT64_MAX);
        assert_null(candidate_next(c)); /* one login, one candidate */
    }
    config_db_stop();
}

static void one_kill(const char *place, unsigned microseconds)
{
    struct told told = {0}, next, is;
    int pipes[2], status;
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        child(pipes[1], place);
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], &told, sizeof(told)), sizeof(told));
    if (!place) {
        struct timespec t = {.tv_nsec = (long)microseconds * 1000};

        nanosleep(&t, NULL); /* how far the child gets is the point, not how long it takes */
        kill(pid, SIGKILL);
    }
    while (read(pipes[0], &next, sizeof(next)) == (ssize_t)sizeof(next))
        told = next;
    close(pipes[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("%s: the child ended by itself, status %x", place ? place : "random",
                 (unsigned)status);
    look(&is);
    if (is.committed != told.committed && is.committed != told.staged)
        fail_msg("%s: %llu is committed, %llu was acknowledged", place ? place : "random",
                 (unsigned long long)is.committed, (unsigned long long)told.committed);
    if (is.staged != told.staged && is.staged != told.staged + 1)
        fail_msg("%s: %llu is staged, %llu was acknowledged", place ? place : "random",
                 (unsigned long long)is.staged, (unsigned long long)told.staged);
}

static void at_random_moments(void **state)
{
    unsigned seed = 4711;

    (void)state;
    for (unsigned i = 0; i < RANDOM_KILLS; i++)
        one_kill(NULL, (unsigned)rand_r(&seed) % 30000);
}

static void at_named_places(void **state)
{
    static const char *const places[] = {"in_stage",     "before_prepare", "after_prepare",
                                         "in_write",     "before_commit",  "after_write",
                                         "after_publish"};

    (void)state;
    for (unsigned i = 0; i < KILLS_PER_PLACE; i++) {
        for (size_t k = 0; k < countof(places); k++) {
            char place[40];

            snprintf(place, sizeof(place), "%s:%u", places[k], i % 3 + 1);
            one_kill(place, 0);
        }
    }
}

static int make_home(void **state)
{
    struct told is;

    (void)state;
    snprintf(home, sizeof(home), "/tmp/postern-unit.XXXXXX");
    if (!mkdtemp(home))
        return -1;
    look(&is);
    return 0;
}

static int drop_home(void **state)
{
    struct home *h = calloc(1, sizeof(*h));

    (void)state;
    snprintf(h->dir, sizeof(h->dir), "%s", home);
    return home_drop((void **)&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_random_moments),
        cmocka_unit_test(at_named_places),
    };

    return cmocka_run_group_tests(tests, make_home, drop_home);
}
