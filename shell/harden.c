/* harden.c - see harden.h. Whoever finds a way to make the console do something foreign still
 * cannot start a program, gain a right, trace a process or reach the network: only the control
 * socket is left. */
#include "shell/harden.h"

#include <errno.h>
#include <locale.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "store/base/str.h"

void harden_environment(void)
{
    static const char *const kept[] = {
        "TERM",         "HOME",          "SSH_CONNECTION",     "NO_COLOR",
        "COLUMNS",      "LINES",         "POSTERN_TEST_MARKS", "POSTERN_TEST_IDLE",
        "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",       "LSAN_OPTIONS"};
    char *values[countof(kept)];

    for (size_t i = 0; i < countof(kept); i++)
        values[i] = getenv(kept[i]) ? xstrdup(getenv(kept[i])) : NULL;
    clearenv();
    for (size_t i = 0; i < countof(kept); i++) {
        if (values[i])
            setenv(kept[i], values[i], 1);
        free(values[i]);
    }
    setenv("LC_ALL", "C.UTF-8", 1);
    setlocale(LC_CTYPE, "C.UTF-8"); /* libedit loses input in any other */
}

#ifdef POSTERN_SANITIZED
/* The sanitizers' run time itself needs what is forbidden below. */
bool harden_process(struct err *err)
{
    (void)err;
    return true;
}
#else
static bool forbid(scmp_filter_ctx filter)
{
    static const char *const calls[] = {
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "perf_event_open",
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "io_uring_setup",
        "open_by_handle_at",
        "pivot_root",
        "chroot",
        "setuid",
        "setgid",
        "setreuid",
        "setregid",
        "setresuid",
        "setresgid",
        "personality",
    };

    for (size_t i = 0; i < countof(calls); i++) {
        int number = seccomp_syscall_resolve_name(calls[i]);

        /* a call this architecture does not have needs no rule */
        if (number != __NR_SCMP_ERROR && number >= 0 &&
            seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0) != 0)
            return false;
    }
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                            SCMP_A0(SCMP_CMP_NE, AF_UNIX)) == 0;
}

bool harden_process(struct err *err)
{
    const struct rlimit none = {0, 0}, memory = {1ul << 30, 1ul << 30};
    scmp_filter_ctx filter;
    bool ok;

    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_AS, &memory);
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(err, errno, "giving up privileges");
    filter = seccomp_init(SCMP_ACT_ALLOW);
    ok = filter && forbid(filter) && seccomp_load(filter) == 0;
    if (filter)
        seccomp_release(filter);
    return ok || err_set(err, E_IO, "The system call filter could not be installed.");
}
#endif
