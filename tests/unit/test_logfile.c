/* daemon/logfile: files, levels, rollover, and what happens when disk or ring are full. */
#include "tests/unit/cm.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/logfile.h"
#include "store/base/str.h"
#include "store/base/version.h"

static char dir[64];

static int start(void **state)
{
    struct err e;

    (void)state;
    str_copy(dir, sizeof(dir), "/tmp/postern-logfile-XXXXXX");
    if (!mkdtemp(dir) || !logfile_start(dir, "SERIAL-1", &e))
        return -1;
    return 0;
}

static int stop(void **state)
{
    char path[400];
    struct dirent *sub, *file;
    DIR *d, *f;

    (void)state;
    logfile_stop();
    d = opendir(dir);
    while (d && (sub = readdir(d)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", dir, sub->d_name);
        f = sub->d_name[0] == '.' ? NULL : opendir(path);
        while (f && (file = readdir(f)) != NULL) {
            snprintf(path, sizeof(path), "%s/%.60s/%.100s", dir, sub->d_name, file->d_name);
            unlink(path);
        }
        if (f)
            closedir(f);
        snprintf(path, sizeof(path), "%s/%s", dir, sub->d_name);
        rmdir(path);
    }
    if (d)
        closedir(d);
    return rmdir(dir);
}

/* The whole file; the caller frees. */
static char *content(const char *name)
{
    struct buf b = BUF_INIT(64u << 20);
    char path[400], chunk[2048];
    ssize_t n;
    int fd;

    assert_true(logfile_path(name, path, sizeof(path)));
    fd = open(path, O_RDONLY);
    while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
        buf_add(&b, chunk, (size_t)n);
    if (fd >= 0)
        close(fd);
    return buf_take(&b);
}

static unsigned saved_files(const char *name)
{
    char path[400];
    struct dirent *e;
    unsigned n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    d = opendir(path);
    while (d && (e = readdir(d)) != NULL)
        n += str_ends(e->d_name, ".s");
    if (d)
        closedir(d);
    return n;
}

static void subscribe(enum log_level level, uint64_t max_bytes, unsigned max_files)
{
    struct logfile_subscription s = {.name = "mail_logs",
                                     .kind = LOGFILE_MAIL,
                                     .level = level,
                                     .max_bytes = max_bytes,
                                     .max_files = max_files};

    logfile_configure(&s, 1);
    assert_true(logfile_flush());
}

static void a_file_begins_with_its_header(void **state)
{
    char *text;

    (void)state;
    logfile_write(LOGFILE_MAIL, LOG_INFO, "Start MID 6 ICID 5");
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_non_null(strstr(text, " Info: Begin Logfile\n"));
    assert_non_null(strstr(text, " Info: Version: " POSTERN_VERSION " SN: SERIAL-1\n"));
    assert_non_null(strstr(text, " Info: Time offset from UTC: "));
    assert_non_null(strstr(text, " Info: Start MID 6 ICID 5\n"));
    assert_int_equal(text[24], ' '); /* behind "Tue Feb  5 13:20:03 2019" */
    assert_memory_equal(text + 25, "Info: ", 6);
    free(text);
}

static void lines_go_where_they_belong(void **state)
{
    char *mail, *system_text, *cli;

    (void)state;
    logfile_write(LOGFILE_CLI, LOG_INFO, "commit by admin");
    log_warning("ldap: server %s is back", "a");
    assert_true(logfile_flush());
    mail = content("mail_logs");
    system_text = content("system_logs");
    cli = content("cli_logs");
    assert_null(strstr(mail, "ldap"));
    assert_non_null(strstr(system_text, " Warning: ldap: server a is back\n"));
    assert_non_null(strstr(cli, " Info: commit by admin\n"));
    free(mail);
    free(system_text);
    free(cli);
}

static void levels_filter_and_change_at_run_time(void **state)
{
    char *text;

    (void)state;
    assert_true(logfile_wants(LOGFILE_MAIL, LOG_INFO));
    assert_false(logfile_wants(LOGFILE_MAIL, LOG_DEBUG));
    logfile_write(LOGFILE_MAIL, LOG_DEBUG, "one");
    logfile_set_level("mail_logs", LOG_DEBUG);
    assert_true(logfile_wants(LOGFILE_MAIL, LOG_DEBUG));
    logfile_write(LOGFILE_MAIL, LOG_DEBUG, "two");
    logfile_set_level("mail_logs", LOG_CRITICAL);
    logfile_write(LOGFILE_MAIL, LOG_INFO, "three");
    logfile_write(LOGFILE_MAIL, LOG_CRITICAL, "four");
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_null(strstr(text, ": one\n"));
    assert_null(strstr(text, ": three\n"));
    assert_non_null(strstr(text, " Critical: four\n"));
    free(text);
}

static void control_characters_stay_out(void **state)
{
    char *text;

    (void)state;
    logfile_write(LOGFILE_MAIL, LOG_INFO, "a\r\nInfo: forged\033[2J\x7f");
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_non_null(strstr(text, "Info: a??Info: forged?[2J?\n"));
    free(text);
}

static void full_files_are_rolled_over_and_old_ones_removed(void **state)
{
    char line[200], *text;

    (void)state;
    subscribe(LOG_INFO, 2000, 3);
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    for (int i = 0; i < 60; i++) {
        logfile_write(LOGFILE_MAIL, LOG_INFO, line);
        if (i % 10 == 9)
            assert_true(logfile_flush());
    }
    assert_int_equal(saved_files("mail_logs"), 2);
    text = content("mail_logs");
    assert_non_null(strstr(text, "Begin Logfile"));
    free(text);
}

static void a_rollover_can_be_asked_for(void **state)
{
    struct err e;
    char *text;

    (void)state;
    logfile_write(LOGFILE_MAIL, LOG_INFO, "before");
    assert_true(logfile_rollover("mail_logs", &e));
    assert_true(logfile_flush());
    logfile_write(LOGFILE_MAIL, LOG_INFO, "after");
    assert_true(logfile_flush());
    assert_int_equal(saved_files("mail_logs"), 1);
    assert_int_equal(saved_files("system_logs"), 0);
    text = content("mail_logs");
    assert_null(strstr(text, "before"));
    assert_non_null(strstr(text, "after"));
    free(text);
    assert_false(logfile_rollover("nonsense", &e));
    assert_int_equal(e.code, E_NOT_FOUND);
    assert_true(logfile_rollover(NULL, &e));
    assert_true(logfile_flush());
    assert_int_equal(saved_files("system_logs"), 1);
}

static void a_removed_file_comes_back(void **state)
{
    char path[400], *text;

    (void)state;
    assert_true(logfile_flush());
    assert_true(logfile_path("mail_logs", path, sizeof(path)));
    assert_int_equal(unlink(path), 0);
    logfile_write(LOGFILE_MAIL, LOG_INFO, "still here");
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_non_null(strstr(text, "Begin Logfile"));
    assert_non_null(strstr(text, "still here"));
    free(text);
}

static void a_line_cut_by_a_crash_is_ended(void **state)
{
    char path[400], *text;
    struct err e;
    int fd;

    (void)state;
    assert_true(logfile_path("mail_logs", path, sizeof(path)));
    assert_true(logfile_flush());
    logfile_stop();
    fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "Tue Feb  5 13:2", 15), 15);
    close(fd);
    assert_true(logfile_start(dir, "SERIAL-2", &e));
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_non_null(strstr(text, "Tue Feb  5 13:2\n"));
    assert_non_null(strstr(text, "SN: SERIAL-2\n"));
    free(text);
}

static void a_full_disk_loses_lines_and_says_so(void **state)
{
    struct rlimit old, small;
    char *text, *last;
    uint64_t lost;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_true(logfile_flush());
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1000; /* the disk takes the header and a few lines */
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < 100; i++)
        logfile_write(LOGFILE_MAIL, LOG_INFO, "0123456789 0123456789 0123456789 0123456789 012345");
    assert_true(logfile_flush());
    text = content("mail_logs");
    assert_true(strlen(text) <= 1000);
    assert_int_equal(text[strlen(text) - 1], '\n'); /* no broken line */
    free(text);
    setrlimit(RLIMIT_FSIZE, &old);
    lost = logfile_lost();
    assert_in_range(lost, 80, 100);
    logfile_write(LOGFILE_MAIL, LOG_INFO, "there is room again");
    assert_true(logfile_flush());
    text = content("mail_logs");
    last = strstr(text, "log lines were lost: the disk did not take them\n");
    assert_non_null(last);
    assert_non_null(strstr(last, "there is room again"));
    assert_null(strstr(last + 1, "log lines were lost")); /* said once */
    free(text);
}

static void *write_many(void *arg)
{
    char line[400];

    memset(line, *(char *)arg, sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    for (int i = 0; i < 40000; i++)
        logfile_write(LOGFILE_MAIL, LOG_INFO, line);
    return NULL;
}

static void producers_never_wait_and_every_line_is_accounted_for(void **state)
{
    pthread_t threads[4];
    char names[] = "abcd", *text;
    uint64_t before, lines = 0;

    (void)state;
    subscribe(LOG_INFO, 1u << 30, 10);
    before = logfile_lost();
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, write_many, &names[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(logfile_flush());
    text = content("mail_logs");
    for (char *p = text; (p = strchr(p, '\n')) != NULL; p++) {
        char last = p > text ? p[-1] : '\0';

        lines += p - text > 300 && memchr(names, last, 4) && p[-300] == last;
    }
    free(text);
    assert_true(lines + (logfile_lost() - before) == 160000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_begins_with_its_header, start, stop),
        cmocka_unit_test_setup_teardown(lines_go_where_they_belong, start, stop),
        cmocka_unit_test_setup_teardown(levels_filter_and_change_at_run_time, start, stop),
        cmocka_unit_test_setup_teardown(control_characters_stay_out, start, stop),
        cmocka_unit_test_setup_teardown(full_files_are_rolled_over_and_old_ones_removed, start, stop),
        cmocka_unit_test_setup_teardown(a_rollover_can_be_asked_for, start, stop),
        cmocka_unit_test_setup_teardown(a_removed_file_comes_back, start, stop),
        cmocka_unit_test_setup_teardown(a_line_cut_by_a_crash_is_ended, start, stop),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_lines_and_says_so, start, stop),
        cmocka_unit_test_setup_teardown(producers_never_wait_and_every_line_is_accounted_for, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
