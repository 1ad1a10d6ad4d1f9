/* daemon/sandbox: what the engine may still do behind its filter, tried in a process of its own. */
#include "tests/unit/cm.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/sandbox.h"

static void *do_nothing(void *arg)
{
    return arg;
}

/* The child's checks; the number of the first that fails is its exit status. */
static int check_engine(void)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    char *const argv[] = {(char[]){"true"}, NULL}, *const env[] = {NULL};
    struct err err = {0};
    struct rlimit core;
    pthread_t thread;
    int fd;

    if (!sandbox_engine_user(getuid(), getgid(), &err) || !sandbox_engine_calls(&err)) {
        fprintf(stderr, "# %s\n", err.text);
        return 1;
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 2;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0)
        return 3;
#ifndef POSTERN_SANITIZED
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return 4;
    if (execve("/bin/true", argv, env) != -1 || errno != EPERM)
        return 5;
    if (syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, env, 0) != -1 || errno != EPERM)
        return 6;
    if (fork() != -1 || errno != EPERM)
        return 7;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != -1 || errno != EPERM)
        return 8;
    if (unshare(CLONE_NEWUSER) != -1 || errno != EPERM)
        return 9;
    if (syscall(SYS_bpf, 0, NULL, 0) != -1 || errno != EPERM)
        return 10;
    if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != EPERM)
        return 11;
    if (socket(AF_ALG, SOCK_SEQPACKET, 0) != -1 || errno != EAFNOSUPPORT)
        return 12;
    if (socket(AF_PACKET, SOCK_RAW, 0) != -1 || errno != EAFNOSUPPORT)
        return 13;
    if (socket(AF_AX25, SOCK_DGRAM, 0) != -1 || errno != EAFNOSUPPORT)
        return 14;
#else
    (void)argv;
    (void)env;
#endif
    /* What it lives on still works. */
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 20;
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        fd = socket(families[i], SOCK_STREAM, 0);
        if (fd < 0 && errno != EAFNOSUPPORT) /* a machine may lack IPv6 */
            return 21;
        if (fd >= 0)
            close(fd);
    }
    fd = socket(AF_NETLINK, SOCK_RAW, 0);
    if (fd < 0)
        return 22;
    close(fd);
    fd = open("/dev/null", O_RDWR);
    if (fd < 0)
        return 23;
    close(fd);
    return 0;
}

static void the_engine_cannot_make_processes(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(check_engine());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int check_root(void)
{
    struct err err = {0};

    if (!sandbox_parent(&err) || !sandbox_engine_user(65534, 65534, &err)) {
        fprintf(stderr, "# %s\n", err.text);
        return 1;
    }
    if (getuid() != 65534 || geteuid() != 65534 || getgid() != 65534 || getgroups(0, NULL) != 1)
        return 2;
    if (setuid(0) == 0 || setgid(0) == 0)
        return 3;
    return 0;
}

static void root_is_given_up_for_good(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    if (geteuid() != 0)
        skip();
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(check_root());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_cannot_make_processes),
        cmocka_unit_test(root_is_given_up_for_good),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
