/* test_logreader.c - lines of a log subscription over saved files and rollovers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>

#include "daemon/logreader.h"
#include "store/base/str.h"

static char dir[64];

static char *path(const char *name)
{
    static char p[160];

    snprintf(p, sizeof(p), "%s/%s", dir, name);
    return p;
}

static void add(const char *name, const char *text)
{
    FILE *f = fopen(path(name), "a");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void roll(const char *saved)
{
    char from[160];

    str_copy(from, sizeof(from), path("mail.current"));
    assert_int_equal(rename(from, path(saved)), 0);
}

static void expect(struct logreader *r, const char *want)
{
    struct slice line;

    if (!want) {
        assert_false(logreader_line(r, &line));
        return;
    }
    assert_true(logreader_line(r, &line));
    if (!slice_eq(line, want))
        fail_msg("got '%.*s', want '%s'", (int)line.n, line.p, want);
}

static struct logreader *open_reader(long last)
{
    struct err err = {0};
    struct logreader *r = logreader_open(path("mail.current"), last, &err);

    if (!r)
        fail_msg("%s", err.text);
    return r;
}

static void test_last_lines(void **state)
{
    static const struct {
        long last;
        const char *first;
    } cases[] = {
        {0, NULL   },
        {1, "three"},
        {2, "two"  },
        {3, "one"  },
        {9, "one"  }
    };

    (void)state;
    add("mail.current", "one\ntwo\nthree\n");
    for (size_t i = 0; i < countof(cases); i++) {
        struct logreader *r = open_reader(cases[i].last);

        expect(r, cases[i].first);
        logreader_free(&r);
    }
}

static void test_last_of_many(void **state)
{
    struct logreader *r;
    char text[32];

    (void)state;
    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "line %d\n", i);
        add("mail.current", text);
    }
    r = open_reader(1000);
    expect(r, "line 2000");
    logreader_free(&r);
}

static void test_oldest_first_and_rollovers(void **state)
{
    struct logreader *r;

    (void)state;
    add("mail.@20260102T000000.s", "b1\nb2 cut");
    add("mail.@20260101T000000.s", "a1\n");
    add("other.@20200101T000000.s", "not ours\n");
    add("mail.current", "c1\nhalf");
    r = open_reader(-1);
    expect(r, "a1");
    expect(r, "b1");
    expect(r, "b2 cut");
    expect(r, "c1");
    expect(r, NULL);
    add("mail.current", " line\n");
    expect(r, "half line");
    expect(r, NULL);
    add("mail.current", "c3\n");
    roll("mail.@20260103T000000.s");
    add("mail.current", "d1\n");
    roll("mail.@20260104T000000.s");
    add("mail.current", "e1\n");
    expect(r, "c3");
    expect(r, "d1");
    expect(r, "e1");
    expect(r, NULL);
    roll("mail.@20260105T000000.s"); /* and no new file yet */
    expect(r, NULL);
    add("mail.current", "f1\n");
    expect(r, "f1");
    expect(r, NULL);
    unlink(path("mail.current"));
    add("mail.current", "g1\n");
    expect(r, "g1");
    logreader_free(&r);
}

static void test_long_lines_and_missing(void **state)
{
    struct logreader *r = open_reader(10);
    AUTO(buf) struct buf big = BUF_INIT(200000);
    struct err err = {0};
    struct slice line;

    (void)state;
    expect(r, NULL);
    for (int i = 0; i < 70000; i++)
        buf_char(&big, 'x');
    buf_char(&big, '\n');
    add("mail.current", buf_str(&big));
    assert_true(logreader_line(r, &line));
    assert_int_equal(line.n, 65536);
    assert_true(logreader_line(r, &line));
    assert_int_equal(line.n, 70000 - 65536);
    expect(r, NULL);
    logreader_free(&r);
    assert_null(logreader_open("/nonexistent/mail.current", 1, &err));
    assert_int_equal(err.code, E_IO);
}

static int make_dir(void **state)
{
    (void)state;
    str_copy(dir, sizeof(dir), "/tmp/test-logreader-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    (void)state;
    while ((e = readdir(d)))
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_last_lines, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_last_of_many, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_oldest_first_and_rollovers, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_long_lines_and_missing, make_dir, remove_dir),
    };

    return cmocka_run_group_tests_name("logreader", tests, NULL, NULL);
}
