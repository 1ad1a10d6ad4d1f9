/* sandbox.c - see sandbox.h. The filter names what a mail gateway never does and refuses it with EPERM, rather than
 * naming everything its libraries may need: those change with every security update of the system. */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/base/str.h"

#define CAP_BIT(c) (UINT64_C(1) << (c))
#define PARENT_CAPS                                                                                \
    (CAP_BIT(CAP_NET_BIND_SERVICE) | CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_KILL))

/* The C library has no wrapper. Capabilities that are not there now cannot be asked for. */
static bool keep_caps(uint64_t keep)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(keep >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &head, data) == 0;
}

bool sandbox_parent(struct err *err)
{
    if (geteuid() != 0)
        return true;
    for (unsigned cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(PARENT_CAPS & CAP_BIT(cap)))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* fails where we may not; then so may the engine */
    if (!keep_caps(PARENT_CAPS))
        return err_errno(err, errno, "giving up capabilities");
    return true;
}

bool sandbox_engine_user(uid_t uid, gid_t gid, struct err *err)
{
    const struct rlimit none = {0, 0};

    if (geteuid() == 0 && uid != 0) {
        if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
            return err_errno(err, errno, "becoming user %u", (unsigned)uid);
        if (setuid(0) == 0)
            return err_set(err, E_DENIED, "the rights of root could not be given up");
    }
    if (!keep_caps(0))
        return err_errno(err, errno, "giving up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(err, errno, "forbidding new privileges");
    setrlimit(RLIMIT_CORE, &none);
    return true;
}

#ifndef POSTERN_SANITIZED

static const int forbidden[] = {
    /* programs and processes; threads are made by clone with CLONE_THREAD, see below */
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork),
    /* other processes */
    SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp), SCMP_SYS(process_madvise),
    /* file systems and namespaces */
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare),
    SCMP_SYS(setns), SCMP_SYS(open_tree), SCMP_SYS(move_mount), SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr),
    SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(quotactl), SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at), SCMP_SYS(fanotify_init), SCMP_SYS(mknod), SCMP_SYS(mknodat),
    /* the kernel */
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load), SCMP_SYS(reboot), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
    SCMP_SYS(acct), SCMP_SYS(syslog), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt),
    SCMP_SYS(lookup_dcookie), SCMP_SYS(vhangup), SCMP_SYS(personality), SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex),
    /* identity */
    SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid),
    SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid), SCMP_SYS(capset),
};

/* Everything but local, Internet and routing-table sockets. */
static int allow_families(scmp_filter_ctx f)
{
    static const unsigned families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    int rc = 0;

    /* Gaps between the allowed numbers, then all above: rules of one filter are alternatives. */
    rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                           SCMP_A0_32(SCMP_CMP_GT, AF_NETLINK));
    for (unsigned family = 0; family < AF_NETLINK; family++) {
        bool allowed = false;

        for (size_t i = 0; i < countof(families); i++)
            allowed = allowed || families[i] == family;
        if (!allowed)
            rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                   SCMP_A0_32(SCMP_CMP_EQ, family));
    }
    return rc;
}

static bool filter_calls(struct err *err)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int rc = 0;

    if (!f)
        return err_set(err, E_IO, "making the system call filter: out of memory");
    for (size_t i = 0; i < countof(forbidden); i++)
        if (forbidden[i] >= 0) /* negative: this architecture has no such call */
            rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
    rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                           SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    /* Its flags stand in memory, where a filter cannot look; the C library then takes clone. */
    rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    rc |= allow_families(f);
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    if (rc != 0)
        return err_errno(err, rc < 0 ? -rc : EINVAL, "installing the system call filter");
    return true;
}

bool sandbox_engine_calls(struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_errno(err, errno, "tying the engine's life to its parent");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return err_errno(err, errno, "making the engine untraceable");
    return filter_calls(err);
}

#else

bool sandbox_engine_calls(struct err *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_errno(err, errno, "tying the engine's life to its parent");
    return true;
}

#endif
