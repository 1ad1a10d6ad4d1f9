/* test_kept.c - how long, and how much, what was set aside is kept */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/kept.h"
#include "store/base/str.h"

#define MIB (1u << 20)

static char dir[] = "/tmp/postern-kept-XXXXXX";
static struct kept_files found;

static const char *path(const char *name)
{
    static char out[200];

    snprintf(out, sizeof(out), "%s/%s", dir, name);
    return out;
}

static void make(const char *name, size_t size)
{
    static char zeros[MIB];
    int fd = open(path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    memset(zeros, 1, sizeof(zeros));
    for (; size; size -= MIB)
        assert_int_equal(write(fd, zeros, MIB), MIB);
    close(fd);
}

static bool there(const char *name)
{
    return access(path(name), F_OK) == 0;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/postern-kept-XXXXXX");
    return !mkdtemp(dir) || mkdir(path("spool"), 0700);
}

static int tear_down(void **state)
{
    (void)state;
    AUTO(str) char *command = xasprintf("rm -r %s", dir);

    clock_set_real();
    return system(command);
}

static void what_is_kept(void **state)
{
    (void)state;
    make("queue.db.damaged-20260101T000000", MIB);
    make("state.db.damaged", MIB);
    make("spool/lost-seg-00000001", 2 * MIB);
    make("spool/seg-00000001", MIB);
    make("config.db", MIB);
    assert_int_equal(mkdir(path("x.db.damaged-dir"), 0700), 0);
    kept_tidy(dir, 1, 0);
    kept_files(&found);
    assert_int_equal(found.files, 3);
    assert_true(found.bytes >= 4 * MIB && found.bytes < 5 * MIB);
    assert_true(found.oldest > 1700000000000000);
    kept_tidy("/nowhere/at/all", 1, 0);
    kept_files(&found);
    assert_int_equal(found.files, 0);
    assert_int_equal(found.oldest, 0);
}

static void the_oldest_go_first(void **state)
{
    (void)state;
    make("config.db.damaged-2", 2 * MIB); /* of the same moment: by name */
    make("spool/lost-file-1", 2 * MIB);
    make("spool/lost-seg-00000009", 2 * MIB);
    make("queue.db", 2 * MIB);
    kept_tidy(dir, 1, 7 * MIB);
    kept_files(&found);
    assert_int_equal(found.files, 3);
    kept_tidy(dir, 1, 5 * MIB);
    kept_files(&found);
    assert_int_equal(found.files, 2);
    assert_false(there("config.db.damaged-2"));
    kept_tidy(dir, 1, MIB); /* the newest, too, when it alone is more */
    assert_false(there("spool/lost-seg-00000009"));
    assert_false(there("spool/lost-file-1"));
    assert_true(there("queue.db"));
}

static void they_grow_old(void **state)
{
    usec_t now = (usec_t)time(NULL) * 1000000;

    (void)state;
    make("queue.db.damaged-1", MIB);
    make("spool/lost-seg-00000009", MIB);
    clock_set_virtual(SECONDS(1000), now + 29 * (usec_t)86400 * 1000000);
    kept_tidy(dir, 30, 0);
    kept_files(&found);
    assert_int_equal(found.files, 2);
    clock_set_virtual(SECONDS(1000), now + 31 * (usec_t)86400 * 1000000);
    kept_tidy(dir, 30, 0);
    kept_files(&found);
    assert_int_equal(found.files, 0);
    assert_false(there("queue.db.damaged-1"));
    assert_false(there("spool/lost-seg-00000009"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_grow_old, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
