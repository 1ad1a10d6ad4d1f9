# What a server does for a message, counted without slowing it: tests/bench/count.c inside its processes (allocations,
# syncs, bytes), and the kernel's tracepoints through perf (system calls, threads put to sleep). Root only; where perf or
# the tracepoints are missing, the two rows that need them say so.

import os
import re
import signal
import struct
import subprocess
import time

import lab

LINES, FIELDS = 4096, 8
NAMES = ("allocations", "bytes allocated", "syncs", "bytes read", "bytes written")
TRACING = "/sys/kernel/tracing"


def library():
    return lab.tool("count.so")


def new_file(path):
    """The counters, all zero; any user's processes may add to them."""
    with open(path, "wb") as f:
        f.truncate(LINES * FIELDS * 8)
    os.chmod(path, 0o666)
    return path


def read_file(path):
    with open(path, "rb") as f:
        values = struct.unpack("=%dQ" % (LINES * FIELDS), f.read())
    return {name: sum(values[i::FIELDS]) for i, name in enumerate(NAMES)}


class Tracer:
    """perf counting the system calls of a server, and how often a thread of it went to sleep. each: also by name.
    A server in a control group of its own (peers.py) is counted there: perf loses a process when it runs a set-user-id
    program. Otherwise it is the processes there are and those they start."""

    def __init__(self, box, server, each=False):
        self.file = box.path("perf-%d" % time.monotonic_ns())
        lab.need_root()
        lab.need_program("perf")
        if not os.path.isdir(TRACING + "/events/raw_syscalls") and not os.path.isdir("/sys/kernel/debug/tracing/events"):
            raise lab.Skip("no tracepoints here: %s is not there" % TRACING)
        events = ["-e", "raw_syscalls:sys_enter", "-e", "sched:sched_switch", "--filter", "prev_state != 0"]
        group = getattr(server, "group", None)
        if group and group.path:
            what = ["-a", *events, "-G", ",".join([os.path.basename(group.path)] * 2)]
        else:
            for name in calls() if each else ():
                events += ["-e", "syscalls:sys_enter_" + name]
            what = events + ["-p", ",".join(map(str, server.pids()))]
        self.child = lab.Child(["perf", "stat", "-x", ",", "-o", self.file, *what], stderr=subprocess.DEVNULL)
        time.sleep(0.5) # it says nothing when it has begun
        if not self.child.running():
            raise lab.Skip("perf cannot count here: " + (lab.read_text(self.file).strip().splitlines() or ["no reason"])[-1])

    def stop(self):
        """-> {"system calls": n, "wake-ups": n, name of a call: n}"""
        self.child.stop(number=signal.SIGINT)
        found = {}
        for line in lab.read_text(self.file).splitlines():
            words = line.split(",")
            name = re.sub(r"^syscalls:sys_enter_", "", words[2]) if len(words) > 3 else ""
            if name and words[0].isdigit():
                found[{"raw_syscalls:sys_enter": "system calls", "sched:sched_switch": "wake-ups"}.get(name, name)] = int(words[0])
        if "system calls" not in found:
            raise lab.Skip("perf counted nothing")
        return found


def calls():
    """Those a mail server may be expected to use and this kernel knows."""
    names = ("read write recvfrom sendto recvmsg sendmsg readv writev pread64 pwrite64 epoll_wait epoll_ctl epoll_pwait poll futex "
             "accept4 connect socket shutdown close setsockopt getsockopt getsockname getpeername bind openat newfstat newfstatat "
             "fstat fsync fdatasync ftruncate fallocate rename renameat2 unlink unlinkat link linkat mkdir fcntl lseek "
             "clock_gettime getpid gettid getrandom mmap munmap madvise mprotect brk timerfd_settime eventfd2 nanosleep "
             "clock_nanosleep sync_file_range").split()
    return [n for n in names if os.path.isdir("%s/events/syscalls/sys_enter_%s" % (TRACING, n))]
