/* bench_access.c - host access tables of 100,000 entries, in many groups and in one: what a look-up costs, what one host more
 * costs from the message of the console to the tables in force, and what it takes in memory. The commit is the
 * daemon's own, on a database of its own below TMPDIR. Prints "name value unit goal". */
#include <ftw.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_db.h"
#include "daemon/reload.h"
#include "store/hat_file.h"

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static double milliseconds_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double now(void)
{
    return milliseconds_of(CLOCK_MONOTONIC);
}

static double cpu(void) /* of all threads: what is left on a machine that others use too */
{
    return milliseconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static double mebibytes(void)
{
    struct mallinfo2 m = mallinfo2();

    return (double)(m.uordblks + m.hblkhd) / (1 << 20);
}

static void need(bool ok, const struct err *err)
{
    if (ok)
        return;
    fprintf(stderr, "bench_access: %s\n", err->text);
    exit(1);
}

static void commit(struct candidate *c)
{
    struct db_audit who = {.actor = "bench", .uid = -1};
    struct commit k = {.comment = "", .keep = true, .who = &who};
    struct err err = {0};

    need(commit_run(c, &k, &err), &err);
    commit_clear(&k);
}

static void stage(struct candidate *c, struct config_edits *edits)
{
    struct check check = {0};
    struct err err = {0};

    need(candidate_stage(c, edits->items, edits->n, 0, &check, &err), &err);
    check_free(&check);
    config_edits_free(edits);
}

/* As many hosts in so many groups, by way of a file. */
static void import(struct candidate *c, unsigned hosts, unsigned groups)
{
    struct buf text = BUF_INIT(HAT_FILE_MAX);
    struct config_edits edits = {0};
    struct hat_facts facts = {0};
    struct config *view;
    struct err err = {0};
    double start;

    buf_str_add(&text, "$SLOW\n    ACCEPT { max_concurrency = 1 }\n");
    for (unsigned i = 0; i < hosts; i++) {
        if (i % (hosts / groups) == 0)
            buf_printf(&text, "%sG%u:\n", i ? "        $SLOW\n" : "", i / (hosts / groups));
        buf_printf(&text, "    %u.%u.%u.%u\n", 11 + (i >> 22), i >> 14 & 255, i >> 6 & 255, (i & 63) * 4);
    }
    buf_str_add(&text, "        $SLOW\nALL\n    REJECT\n");
    view = config_ref(candidate_view(c));
    start = cpu();
    need(hat_file_import(buf_str(&text), text.n, view, "InboundMail", &edits, &facts, &err), &err);
    printf("  read from a file                               %.0f ms\n", cpu() - start);
    start = cpu();
    stage(c, &edits);
    commit(c);
    printf("  staged and committed                           %.0f ms\n", cpu() - start);
    strlist_free(&facts.remarks);
    config_free(&view);
    buf_free(&text);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* One host more in group G0: the row from its JSON, as config.stage has it, checked and staged; then committed. */
static void one_more(struct candidate *c)
{
    enum { TIMES = 15 };
    double staged[TIMES], committed[TIMES], busy[TIMES];

    for (unsigned i = 0; i < TIMES; i++) {
        const struct row *was = config_row(candidate_view(c), &section_sender_group, "InboundMail/G0");
        json_t *body = row_to_json(was);
        char host[40];
        struct config_edits edits = {0};
        struct err err = {0};
        double start, between, used = cpu();
        struct row *row;

        snprintf(host, sizeof(host), "192.0.2.%u", i);
        json_array_append_new(json_object_get(body, "hosts"), json_string(host));
        start = now();
        row = row_from_json(&section_sender_group, "InboundMail/G0", body, &err);
        need(row != NULL, &err);
        row_freeze(row);
        config_edits_put(&edits, &section_sender_group, "InboundMail/G0", row);
        stage(c, &edits);
        between = now();
        commit(c);
        staged[i] = between - start;
        committed[i] = now() - between;
        busy[i] = cpu() - used;
        json_decref(body);
    }
    qsort(staged, TIMES, sizeof(double), by_value);
    qsort(committed, TIMES, sizeof(double), by_value);
    qsort(busy, TIMES, sizeof(double), by_value);
    printf("  one host more committed, median                %.1f ms, best %.1f ms   (goal 50)\n",
           committed[TIMES / 2], committed[0]);
    printf("  the same staged, median                        %.1f ms, best %.1f ms; CPU of both %.1f ms\n",
           staged[TIMES / 2], staged[0], busy[TIMES / 2]);
}

static void look_up(unsigned hosts)
{
    enum { TIMES = 1000000 };
    struct access *a = access_running();
    const struct access_table *t = access_table(a, "InboundMail");
    unsigned found = 0;
    double start = cpu();

    for (unsigned k = 0; k < TIMES; k++) {
        unsigned i = k * 7919u % hosts;
        struct addr ip = {.family = AF_INET,
                          .ip = {(unsigned char)(11 + (i >> 22)), (unsigned char)(i >> 14), (unsigned char)(i >> 6),
                                 (unsigned char)((i & 63) * 4 + (k & 1))}};
        struct access_match m;

        access_sender(t, &ip, "", &m);
        found += m.flow->behavior == BEHAVIOR_ACCEPT;
    }
    printf("  a look-up                                      %.3f us   (goal 1)%s\n", (cpu() - start) * 1e3 / TIMES,
           found == TIMES / 2 ? "" : "   WRONG ANSWERS");
    access_free(&a);
}

static void table(struct candidate *c, unsigned hosts, unsigned groups)
{
    double before = mebibytes();

    printf("%u hosts in %u group%s:\n", hosts, groups, groups > 1 ? "s" : "");
    import(c, hosts, groups);
    malloc_trim(0);
    if (before < 4) /* nothing was there yet */
        printf("  memory of the configuration and the tables     %.1f MiB\n", mebibytes() - before);
    look_up(hosts);
    one_more(c);
}

int main(int argc, char **argv)
{
    static const struct reload_part *const parts[] = {&reload_access, NULL};
    bool whole = argc < 2 || strcmp(argv[1], "--short") != 0;
    static const unsigned groups[] = {1000, 10, 1};
    const char *tmp = getenv("TMPDIR");
    char home[200];
    struct candidate *c;
    struct err err = {0};

    snprintf(home, sizeof(home), "%s/bench_access.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(home)) {
        perror(home);
        return 1;
    }
    reload_use(parts);
    need(config_db_start(home, geteuid(), &err) && config_db_activate(&err), &err);
    c = candidate_new("bench");
    for (size_t i = 0; i < (whole ? countof(groups) : 1); i++)
        table(c, 100000, groups[i]);
    candidate_detach(&c);
    config_db_stop();
    nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
