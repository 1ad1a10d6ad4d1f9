/* bench_store.c - the configuration store at size: staging and committing many objects, one change
 * among many, loading. Runs on a home of its own below TMPDIR, with the real database settings.
 * Prints "name value unit goal". */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_db.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "store/dest_ini.h"

#define CHUNK 500 /* objects in one request, as the console's batch sends them */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static double seconds_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static double cpu_seconds(void) /* of all threads: what is left when the disk costs nothing */
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void need(bool ok, const struct err *err)
{
    if (ok)
        return;
    fprintf(stderr, "bench_store: %s\n", err->text);
    exit(1);
}

static void put(struct config_edits *e, unsigned i, unsigned limit)
{
    char name[40], number[20];
    struct row *r;

    snprintf(name, sizeof(name), "d%06u.example", i);
    snprintf(number, sizeof(number), "%u", limit);
    r = row_new(&section_destination, name);
    row_set(r, "use_tls", "require", NULL);
    row_set(r, "concurrency_limit", number, NULL);
    row_freeze(r);
    config_edits_put(e, &section_destination, name, r);
}

static void stage(struct candidate *c, unsigned from, unsigned to, unsigned limit)
{
    struct err err = {0};

    for (unsigned i = from; i < to;) {
        struct config_edits edits = {0};
        struct check check = {0};

        for (unsigned end = i + CHUNK < to ? i + CHUNK : to; i < end; i++)
            put(&edits, i, limit);
        need(candidate_stage(c, edits.items, edits.n, 0, &check, &err), &err);
        check_free(&check);
        config_edits_free(&edits);
    }
}

static void commit(struct candidate *c)
{
    struct db_audit who = {.actor = "bench", .uid = -1};
    struct commit k = {.comment = "", .keep = true, .who = &who};
    struct err err = {0};

    need(commit_run(c, &k, &err), &err);
    commit_clear(&k);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void one_change(struct candidate *c, unsigned objects)
{
    double staged[41], committed[41], cpu = cpu_seconds();

    for (unsigned i = 0; i < 41; i++) {
        double start = seconds(), between;

        stage(c, objects / 2 + i, objects / 2 + i + 1, 7 + i);
        between = seconds();
        commit(c);
        staged[i] = (between - start) * 1000;
        committed[i] = (seconds() - between) * 1000;
    }
    cpu = (cpu_seconds() - cpu) * 1000 / 41;
    qsort(staged, 41, sizeof(staged[0]), by_value);
    qsort(committed, 41, sizeof(committed[0]), by_value);
    printf("one change committed among %6u, median           %.1f ms, worst %.1f ms   (goal 50)\n",
           objects, committed[20], committed[40]);
    printf("one change staged among %6u, median              %.1f ms, worst %.1f ms; CPU of both "
           "%.1f ms\n",
           objects, staged[20], staged[40], cpu);
}

/* What a message pays for the table of destinations: one look-up of a domain that has an entry, one
 * of a domain below one that has none. */
static void look_up(unsigned objects)
{
    enum { TIMES = 200000 };
    struct config *cfg = running_config();
    struct controls c;
    char name[60];
    double start = cpu_seconds();
    unsigned long sum = 0;

    for (unsigned i = 0; i < TIMES; i++) {
        snprintf(name, sizeof(name), i & 1 ? "d%06u.example" : "mail.x%06u.example",
                 i * 7919u % objects);
        route_controls(cfg, name, &c);
        sum += (unsigned)c.tls;
    }
    printf("controls of a domain among %6u entries          %.2f us%s\n", objects,
           (cpu_seconds() - start) * 1e6 / TIMES, sum ? "" : " (none found)");
    config_free(&cfg);
}

/* The table to a file and back, with one value changed in every section. */
static void ini(struct candidate *c, unsigned objects)
{
    struct config *cfg = config_ref(candidate_view(c));
    struct buf text = BUF_INIT(DEST_INI_MAX);
    struct config_edits edits = {0};
    struct check check = {0};
    struct err err = {0};
    double start = seconds(), written, read, staged, cpu;
    size_t entries;

    dest_ini_export(cfg, &text);
    written = seconds();
    for (char *p = text.p; (p = strstr(p, "table_tls = required")) != NULL; p++)
        memcpy(p, "table_tls = 4        ", 20);
    read = seconds();
    cpu = cpu_seconds();
    need(dest_ini_import(buf_str(&text), text.n, cfg, &edits, &entries, &err), &err);
    read = seconds() - read;
    cpu = cpu_seconds() - cpu;
    staged = seconds();
    need(candidate_stage(c, edits.items, edits.n, 0, &check, &err), &err);
    staged = seconds() - staged;
    printf("INI file of %6zu sections (%zu KiB) written      %.2f s, read %.2f s (CPU %.2f s), "
           "staged %.2f s\n",
           entries, text.n / 1024, written - start, read, cpu, staged);
    start = seconds();
    commit(c);
    printf("the %6u changed entries committed              %.2f s\n", objects, seconds() - start);
    check_free(&check);
    config_edits_free(&edits);
    buf_free(&text);
    config_free(&cfg);
}

int main(int argc, char **argv)
{
    bool whole = argc < 2 || strcmp(argv[1], "--short") != 0;
    unsigned objects = whole ? 100000 : 20000;
    const char *tmp = getenv("TMPDIR");
    char home[200];
    struct candidate *c;
    struct err err = {0};
    double start, cpu;

    snprintf(home, sizeof(home), "%s/bench_store.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(home)) {
        perror(home);
        return 1;
    }
    need(config_db_start(home, geteuid(), &err) && config_db_activate(&err), &err);
    c = candidate_new("bench");

    start = seconds();
    cpu = cpu_seconds();
    stage(c, 0, 20000, 5);
    commit(c);
    printf("20000 objects staged and committed                %.2f s, CPU %.2f s   (goal 5)\n",
           seconds() - start, cpu_seconds() - cpu);
    one_change(c, 20000);

    if (whole) {
        start = seconds();
        stage(c, 20000, objects, 5);
        commit(c);
        printf("80000 more objects staged and committed           %.2f s\n", seconds() - start);
        one_change(c, objects);
    }

    look_up(objects);
    ini(c, objects);
    candidate_detach(&c);
    config_db_stop();
    start = seconds();
    cpu = cpu_seconds();
    need(config_db_start(home, geteuid(), &err), &err);
    printf("loading %6u objects at the start               %.2f s, CPU %.2f s\n", objects,
           seconds() - start, cpu_seconds() - cpu);
    config_db_stop();
    nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
