/* fuzz_control.c - request lines on the control socket of an administrator. Whatever came: each
 * answer is one line with an object that says whether it went well, and the configuration stays one
 * that passes its rules. */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/config_db.h"
#include "daemon/control.h"
#include "daemon/reload.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/check.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char home[64];

static void quiet(enum log_level level, const char *text)
{
    (void)level;
    (void)text;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void clean_up(void)
{
    config_db_stop();
    nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct err err;

    (void)argc;
    (void)argv;
    /* in memory where there is such a place: it is not the disk that is tested */
    snprintf(home, sizeof(home), "%s/postern-fuzz.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(home) || !home_set(home, &err) || !config_db_start(home, geteuid(), &err) ||
        !config_db_activate(&err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    log_set_sink(quiet);
    atexit(clean_up);
    return 0;
}

static void check_answers(int fd)
{
    struct buf all = BUF_INIT((size_t)64 << 20);
    char *p, *lf;

    for (;;) {
        char *to = buf_reserve(&all, 65536);
        ssize_t n = recv(fd, to, 65536, MSG_DONTWAIT);

        if (n <= 0)
            break;
        all.n += (size_t)n;
    }
    if (all.n)
        all.p[all.n] = '\0';
    for (p = all.p; all.n && *p; p = lf + 1) {
        json_t *j;

        lf = strchr(p, '\n');
        assert(lf);
        j = json_parse(p, (size_t)(lf - p), NULL);
        assert(json_is_object(j));
        assert(json_is_boolean(json_object_get(j, "ok")) || json_object_get(j, "more") ||
               json_object_get(j, "notice"));
        assert(json_bool_of(j, "ok", true) || *json_str(j, "message", ""));
        json_decref(j);
    }
    buf_free(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *head;
    struct check check = {0};
    int pair[2], room = 64 << 20;

    /* log.tail would wait for lines that never come */
    if (size > 8192 || memmem(data, size, "follow", 6) || memmem(data, size, "log.", 4))
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    if (write(pair[0], data, size) != (ssize_t)size)
        abort();
    shutdown(pair[0], SHUT_WR);
    control_serve(pair[1]);
    check_answers(pair[0]);
    close(pair[0]);
    head = config_db_head();
    check_config(head, NULL, &check);
    if (check.errors) {
        fprintf(stderr, "%s: %s\n", check.items[0].object, check.items[0].text);
        abort();
    }
    check_free(&check);
    config_free(&head);
    return 0;
}
