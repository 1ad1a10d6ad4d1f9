# Postern, Postfix, Exim and OpenSMTPD side by side: one load generator, one sink, one machine, one run.
#
#     make bench                     the full form, 15 minutes at most (SECONDS=600 make bench: ten)
#     make bench PAGE=doc/performance.md   writes the tables into that page as well
#     BENCH_SHORT=1 make bench       about two minutes, for a first impression: no Exim and OpenSMTPD
#     bench.py [--short] [--seconds N] [--rounds N] [--only NAME] [--rows WORD] [--queue N] [--json FILE]
#              [--markdown FILE] [--verbose]
#
# doc/performance.md says how to read the table. In short: every cell is the median of the rounds, with the lowest and the
# highest in brackets when there were several; the servers take turns within each round, so that a disturbance of the
# machine meets all of them; "ratio" is ours / tuned Postfix; "goal" is the aim of the design.
#
#   postern           factory configuration, limits per client raised, everything relayed to the sink
#   postfix tuned     its TUNING_README: more processes, in_flow_delay=0, no chroot, high destination concurrency,
#                     connection cache, TLS session caches and TLS connection reuse
#   postfix default   main.cf and master.cf as Debian installs them
#   exim, opensmtpd   Debian's packages and configuration (tests/bench/peers.py), in the first round only
#
# Nothing leaves the loopback interface. Postfix, Exim and OpenSMTPD need root. What cannot run says why, and the exit
# status tells whether every line of ours was measured.

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import counts  # noqa: E402
import lab  # noqa: E402
import page  # noqa: E402
import peers  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
SIZE = 4096 # of a message, where the line says nothing else
OURS, TUNED, DEFAULT = "postern", "postfix tuned", "postfix default"
EXIM, OPENSMTPD = "exim", "opensmtpd"
OTHERS = (EXIM, OPENSMTPD)


# --- the servers -------------------------------------------------------------------------------------------

class PostfixServer:
    idle_sessions = {True: 100, False: 50}

    def __init__(self, name, setup, sink, pair, counted=False):
        tuned = name == TUNED
        main = {"smtpd_data_restrictions": "check_client_access static:HOLD"} if setup.hold else {}
        if counted:
            self.box = lab.Sandbox("postern-bench-")
            self.counters = counts.new_file(self.box.path("counters"))
            main["import_environment"] = ("MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD=%s COUNT_FILE=%s"
                                          % (counts.library(), self.counters))
        self.idle = self.idle_sessions[tuned]
        self.postfix = lab.Postfix(relay=sink.port, tuned=tuned, tls=pair if setup.tls else None,
                                   tls_out=setup.tls and not setup.hold, main=main, log=False)
        self.port = self.postfix.port

    def pids(self):
        return lab.process_tree(self.postfix.pid)

    def cpu(self):
        return lab.cpu_seconds(self.pids())

    def restart_delivering(self):
        """Stopped with mail on hold; started without."""
        self.postfix.stop()
        self.postfix.command("postconf", "-X", "smtpd_data_restrictions")
        self.postfix.command("postsuper", "-H", "ALL")

        def go():
            self.postfix.start()
            self.postfix.flush()

        return go

    def stop(self):
        self.postfix.stop(kill=True)
        self.postfix.box.remove()


class PosternServer:
    idle = 2000

    def __init__(self, name, setup, sink, pair, counted=False):
        self.box = lab.Sandbox("postern-bench-")
        env = {}
        if counted:
            self.counters = counts.new_file(self.box.path("counters"))
            env = {"LD_PRELOAD": counts.library(), "COUNT_FILE": self.counters}
        self.gate = lab.Posternd(self.box.path("home"), env=env)
        self.gate.configure(
            "listenerconfig setup max_connections=100000 max_tls_connections=100000\n"
            "listenerconfig edit OutboundMail max_connections=100000 backlog=4096 tls=%s\n"
            "listenerconfig edit OutboundMail hostaccess edit policy RELAYED max_concurrency=100000\n"
            "destconfig edit default use_tls=%s\n"
            "smtproutes new ALL 127.0.0.1:%d\n"
            % ("preferred" if setup.tls else "off", "require" if setup.tls and not setup.hold else "off", sink.port))
        self.port = self.gate.private
        if setup.hold:
            self.gate.console("suspenddel 0")

    def pids(self):
        return lab.process_tree(self.gate.pid)

    def cpu(self):
        return lab.cpu_seconds(self.pids())

    def restart_delivering(self):
        self.gate.stop()

        def go():
            self.gate.start()
            self.gate.console("resumedel")

        return go

    def stop(self):
        self.gate.stop()
        self.box.remove()


def peer(kind):
    def make(name, setup, sink, pair, counted=False):
        return kind(setup, sink, pair, counts.library() if counted else None)

    return make


SERVERS = {OURS: PosternServer, TUNED: PostfixServer, DEFAULT: PostfixServer, EXIM: peer(peers.Exim),
           OPENSMTPD: peer(peers.Opensmtpd)}


class Setup:
    """A configuration of the servers; the measurements that need it share one start."""

    def __init__(self, tls, hold):
        self.tls, self.hold = tls, hold


# --- what is measured --------------------------------------------------------------------------------------

class Bench:
    def __init__(self, options):
        self.options = options
        self.pair = None
        self.values = {}    # (line, unit) -> {server: [values]}, in the order of the table
        self.problems = {}  # (line, server) -> why there is no value
        self.extra = []     # lines of other programs
        self.rates = {}     # (line, server) -> messages a second, to choose how many are sent
        self.calls = {}     # line -> {system call: how often a message of ours}
        self.patience = []  # further options of the generator
        self.limits = {}    # what the machine can do (bench_limits)
        self.short = options.short
        self.window = 0.7 if self.short else 4.0 # seconds one measurement should last

    def record(self, server, line, unit, value):
        self.values.setdefault((line, unit), {}).setdefault(server, []).append(value)

    def attempt(self, server, lines, function, *args):
        """One measurement; a failure is shown in its cell and does not end the run."""
        if self.options.rows and not any(self.options.rows in line for line in lines):
            return
        if self.late(server):
            self.complain(server, lines, "no time was left")
            return
        if self.options.verbose:
            sys.stderr.write("%6.1f s  %s: %s\n" % (time.monotonic() - self.began, server, ", ".join(lines)))
        try:
            function(*args)
        except lab.Skip as s:
            self.complain(server, lines, str(s))
        except (lab.Failure, OSError, RuntimeError, EOFError, ValueError, subprocess.TimeoutExpired) as e:
            self.complain(server, lines, (str(e).strip().splitlines() or [repr(e)])[-1])

    def late(self, server):
        """The run has its time; the first round of our own lines and Postfix's comes before Exim's and OpenSMTPD's."""
        return time.monotonic() - self.began > self.options.seconds * (0.6 if server in OTHERS else 1)

    def complain(self, server, lines, why):
        for line in lines:
            self.problems[(line, server)] = why
        sys.stderr.write("%s, %s: %s\n" % (server, ", ".join(lines), why))

    def load(self, port, messages, **options):
        argv = ["--messages", messages, "--timeout", 60] + self.patience
        for name, value in options.items():
            argv += ["--" + name.replace("_", "-")] + ([] if value is True else [value])
        return lab.smtp_load(port, *argv)

    def count(self, name, line, port, sink, least, **options):
        """Warms up and says how many messages fill the window."""
        least = least // 5 if name in OTHERS else least
        if (line, name) not in self.rates:
            warm = self.load(port, least, **options)
            self.rates[(line, name)] = warm["rate"]
            if sink:
                self.rates[(line, name)] = self.arrived(sink, least, warm["start"])
        window = min(self.window, 2) if name in OTHERS else self.window
        return max(least, min(400000, int(self.rates[(line, name)] * window)))

    def arrived(self, sink, messages, start):
        """Waits for all of them; the rate from `start` on. The sink forgets nothing, so count from what it had."""
        want = sink.had + messages
        stats = sink.wait_messages(want, timeout=120)
        sink.had = want
        return messages / max(stats["last"] - start, 1e-6)

    def relay(self, name, server, sink, line, least=200, **options):
        messages = self.count(name, line, server.port, sink, least, **options)
        before = server.cpu()
        start = self.load(server.port, messages, **options)["start"]
        rate = self.arrived(sink, messages, start)
        time.sleep(0.3) # the server puts its books in order
        cpu = server.cpu() - before
        self.rates[(line, name)] = rate
        self.record(name, line, "msg/s", rate)
        self.record(name, line, "CPU s/1000", cpu / messages * 1000)

    def accept(self, name, server, line, least=200, **options):
        messages = self.count(name, line, server.port, None, least, **options)
        before = server.cpu()
        result = self.load(server.port, messages, **options)
        time.sleep(0.2)
        cpu = server.cpu() - before
        if options.get("resume") and result["tls_resumed"] < result["connections"] * 0.5:
            raise lab.Failure("only %d of %d sessions resumed" % (result["tls_resumed"], result["connections"]))
        self.record(name, line, "msg/s", result["rate"])
        self.record(name, line, "CPU s/1000", cpu / messages * 1000)
        if "starttls" not in options:
            self.record(name, line, "ms p50", result["ms"]["p50"])
            self.record(name, line, "ms p99", result["ms"]["p99"])

    def idle(self, name, server, line, tls):
        time.sleep(0.3)
        before = lab.pss_bytes(server.pids())
        argv = [lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % server.port, "--idle", str(server.idle)]
        child = lab.Child(argv + self.patience + (["--starttls"] if tls else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            ready = json.loads(child.process.stdout.readline() or b"{}").get("ready", 0)
            if ready != server.idle:
                raise lab.Failure("%d of %d sessions" % (ready, server.idle))
            time.sleep(0.5)
            grown = lab.pss_bytes(server.pids()) - before
        finally:
            child.process.stdin.close()
            child.wait()
        self.record(name, line, "KiB", grown / server.idle / KIB)

    def fsyncs(self, name, server, line, sessions):
        messages = max(60, 5 * sessions) if self.short or name in OTHERS else 40 * max(10, sessions)
        self.load(server.port, 2 * sessions, sessions=sessions)
        before = counts.read_file(server.counters)["syncs"]
        self.load(server.port, messages, sessions=sessions)
        self.record(name, line, "per msg", (counts.read_file(server.counters)["syncs"] - before) / messages)

    def count_message(self, name, server, sink, box, line, **options):
        """What one message costs in calls, wake-ups, allocations, bytes and handshakes, relayed by 20 sessions."""
        messages, first = (100, 20) if name in OTHERS else (600 if self.short else 3000, 200)
        warm = self.load(server.port, first, sessions=20, **options)
        self.arrived(sink, first, warm["start"])
        time.sleep(0.3)
        try:
            tracer = counts.Tracer(box, server, each=name == OURS)
        except lab.Skip as s:
            tracer = None
            self.complain(name, [line + ": system calls, wake-ups"], str(s))
        before, sunk = counts.read_file(server.counters), sink.stats()
        sent = self.load(server.port, messages, sessions=20, **options)
        self.arrived(sink, messages, sent["start"])
        time.sleep(0.3)
        after, arrived = counts.read_file(server.counters), sink.stats()
        traced = tracer.stop() if tracer else {}
        used = {key: after[key] - before[key] for key in after}
        for key in ("system calls", "wake-ups"):
            if key in traced:
                self.record(name, line, key, traced.pop(key) / messages)
        if name == OURS and tracer:
            self.calls[line] = {call: n / messages for call, n in traced.items() if n > messages / 200}
        self.record(name, line, "allocations", used["allocations"] / messages)
        self.record(name, line, "KiB allocated", used["bytes allocated"] / messages / KIB)
        self.record(name, line, "syncs", used["syncs"] / messages)
        self.record(name, line, "read, bytes/byte", used["bytes read"] / messages / SIZE)
        self.record(name, line, "written, bytes/byte", used["bytes written"] / messages / SIZE)
        self.record(name, line, "connections out", (arrived["connections"] - sunk["connections"]) / messages)
        if options.get("starttls"):
            self.record(name, line, "handshakes in", (sent["tls_new"] + sent["tls_resumed"]) / messages)
            self.record(name, line, "handshakes out, new", (arrived["tls_new"] - sunk["tls_new"]) / messages)
            self.record(name, line, "handshakes out, resumed", (arrived["tls_resumed"] - sunk["tls_resumed"]) / messages)

    def drain(self, name, setup, line, count):
        sink = new_sink(self.pair)
        server = SERVERS[name](name, setup, sink, self.pair)
        count = count if name not in OTHERS else min(count, 200)
        self.patience = ["--greeting", "2000"] if name == OPENSMTPD else []
        try:
            self.load(server.port, count, sessions=20 if name in OTHERS else 50)
            go = server.restart_delivering()
            if sink.stats()["messages"]:
                raise lab.Failure("the server delivered what it was to keep")
            start = time.monotonic()
            go()
            stats = sink.wait_messages(count, timeout=60 + count / 50)
            self.record(name, line, "s to first", stats["first"] - start)
            self.record(name, line, "msg/s", count / max(stats["last"] - stats["first"], 1e-6))
        finally:
            server.stop()
            sink.stop()
            self.patience = []

    def crowd(self, name, server, sink, line):
        """Mail flowing past 10,000 idle sessions."""
        argv = [lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % server.port, "--idle", "10000"]
        child = lab.Child(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if json.loads(child.process.stdout.readline() or b"{}").get("ready") != 10000:
                raise lab.Failure("not all of 10,000 sessions were opened")
            self.relay(name, server, sink, line, sessions=20)
        finally:
            child.process.stdin.close()
            child.wait()

    def machine(self):
        sink = new_sink(self.pair)
        for line, options in (
                ("machine: generator to sink, 4 KiB", {"sessions": 20}),
                ("machine: generator to sink, TLS", {"sessions": 20, "starttls": True}),
                ("machine: generator to sink, new handshake each", {"sessions": 20, "starttls": True,
                                                                    "per_connection": 1}),
                ("machine: generator to sink, 1 MiB", {"sessions": 10, "size": MIB})):
            def measure(line=line, options=options):
                messages = self.count("machine", line, sink.port, None, 100, **options)
                self.record("machine", line, "msg/s", self.load(sink.port, messages, **options)["rate"])

            self.attempt("machine", [line], measure)
        sink.stop()

    # One server, one configuration, all that is measured with it. Idle sessions come first: afterwards Postfix
    # keeps processes, and we keep memory, which new sessions would use.

    def keeping(self, name):
        lines = ["idle session after EHLO, TLS", "accept, 20 sessions", "accept, 100 sessions",
                 "accept, TLS, new handshake each", "accept, TLS, resumed"]

        def run(server, sink, box):
            tls = {"sessions": 20, "starttls": True, "per_connection": 1}
            no_tls = getattr(server, "no_tls", None)
            if not no_tls:
                self.attempt(name, [lines[0]], self.idle, name, server, lines[0], True)
            self.attempt(name, [lines[1]], lambda: self.accept(name, server, lines[1], sessions=20))
            self.attempt(name, [lines[2]], lambda: self.accept(name, server, lines[2], sessions=100))
            if no_tls:
                self.complain(name, [lines[0]] + lines[3:], no_tls)
                return
            self.attempt(name, [lines[3]], lambda: self.accept(name, server, lines[3], **tls))
            if getattr(server, "no_resumption", None):
                self.complain(name, lines[4:], server.no_resumption)
            else:
                self.attempt(name, [lines[4]], lambda: self.accept(name, server, lines[4], resume=True, **tls))

        self.with_server(name, Setup(tls=True, hold=True), lines, run)

    def relaying(self, name):
        lines = ["idle session after EHLO, clear", "relay, 4 KiB, 20 sessions", "relay, 4 KiB, 100 sessions",
                 "relay, 1 MiB, 10 sessions", "relay, 20 sessions, 10,000 idle ones"]

        def run(server, sink, box):
            self.attempt(name, [lines[0]], self.idle, name, server, lines[0], False)
            self.attempt(name, [lines[1]], lambda: self.relay(name, server, sink, lines[1], sessions=20))
            self.attempt(name, [lines[2]], lambda: self.relay(name, server, sink, lines[2], sessions=100))
            self.attempt(name, [lines[3]],
                         lambda: self.relay(name, server, sink, lines[3], least=30, sessions=10, size=MIB))
            if name == OURS:
                self.attempt(name, [lines[4]], self.crowd, name, server, sink, lines[4])

        self.with_server(name, Setup(tls=False, hold=False), lines, run)

    def relaying_tls(self, name):
        lines = ["relay, TLS to TLS, 20 sessions", "relay, TLS to TLS, 100 sessions"]

        def run(server, sink, box):
            if getattr(server, "no_tls", None):
                raise lab.Skip(server.no_tls)
            for line, sessions in zip(lines, (20, 100)):
                self.attempt(name, [line], lambda: self.relay(name, server, sink, line, sessions=sessions,
                                                              starttls=True))

        self.with_server(name, Setup(tls=True, hold=False), lines, run)

    def draining(self, name):
        count = self.options.queue or (1500 if self.short else 10000)
        line = "drain of queued messages"
        self.attempt(name, [line], self.drain, name, Setup(tls=False, hold=True), line, count)

    def counting(self, name):
        """The same servers with the counters in them."""
        syncs = {1: "fsyncs, 1 session", 20: "fsyncs, 20 sessions", 100: "fsyncs, 100 sessions"}
        clear, tls = "a message of 4 KiB, clear", "a message of 4 KiB, TLS to TLS"

        def count_syncs(server, sink, box):
            for sessions, line in syncs.items():
                self.attempt(name, [line], self.fsyncs, name, server, line, sessions)

        self.with_server(name, Setup(tls=False, hold=True), list(syncs.values()), count_syncs, counted=True)
        self.with_server(name, Setup(tls=False, hold=False), [clear], lambda server, sink, box: self.attempt(
            name, [clear], self.count_message, name, server, sink, box, clear), counted=True)
        if name != OPENSMTPD:
            self.with_server(name, Setup(tls=True, hold=False), [tls], lambda server, sink, box: self.attempt(
                name, [tls], lambda: self.count_message(name, server, sink, box, tls, starttls=True)), counted=True)

    # Scale: what we do where the others have a process limit.

    def many_destinations(self):
        """One message to each of so many destinations: domains led to one host by the default route, and hosts of their own."""
        count = 2000 if self.short else 10000
        for own, line in ((False, "scale: a message to each of %s domains, one host"),
                          (True, "scale: a message to each of %s domains, a host each")):
            line %= "{:,}".format(count)
            self.with_server(OURS, Setup(tls=False, hold=False), [line], lambda server, sink, box: self.attempt(
                OURS, [line], self.destinations, server, line, count, own))

    def destinations(self, server, line, count, own):
        hosts = lab.Sink("--any-loopback")
        try:
            routes = ["smtproutes new d%d.many.example 127.%d.%d.%d:%d\n" % (n, 1 + n // 62500, n // 250 % 250, 1 + n % 250, hosts.port)
                      for n in range(count)] if own else ["smtproutes new .many.example 127.0.0.1:%d\n" % hosts.port]
            began = time.monotonic()
            server.gate.batch("".join(routes), args=("--commit", "--comment", "bench"), timeout=120)
            if own:
                self.record(OURS, line, "s to commit the routes", time.monotonic() - began)
            memory, cpu = lab.pss_bytes(server.pids()), server.cpu()
            start = self.load(server.port, count, sessions=20, domains=count, domain="many.example")["start"]
            most, until = 0, time.monotonic() + 60
            while hosts.stats()["messages"] < count and time.monotonic() < until:
                most = max(most, lab.pss_bytes(server.pids()) - memory)
                time.sleep(0.1)
            stats = hosts.stats()
            if stats["messages"] < count:
                raise lab.Failure("%d of %d messages arrived within a minute" % (stats["messages"], count))
            self.record(OURS, line, "msg/s", count / (stats["last"] - start))
            self.record(OURS, line, "CPU s/1000", (server.cpu() - cpu) / count * 1000)
            self.record(OURS, line, "KiB a domain", most / count / KIB)
            self.record(OURS, line, "connections at once", stats["max_open"])
        finally:
            hosts.stop()

    def many_deliveries(self):
        """A sink which takes a second to answer, as 250 hosts and as one."""
        messages = 4000 if self.short else 12000
        for hosts, line in ((250, "scale: deliveries at once, 250 hosts that take 1 s"),
                            (1, "scale: deliveries at once, 1 host that takes 1 s")):
            self.with_server(OURS, Setup(tls=False, hold=False), [line], lambda server, sink, box: self.attempt(
                OURS, [line], self.deliveries, server, line, hosts, messages))

    def deliveries(self, server, line, hosts, messages):
        slow = lab.Sink("--any-loopback", "--delay", "DOT=1000")
        seconds = 10 if self.short else 25
        try:
            server.gate.configure("destconfig edit default concurrency_limit=1000\n" + "".join(
                "smtproutes new d%d.slow.example 127.1.%d.1:%d\n" % (n, n, slow.port) for n in range(hosts)))
            memory, cpu = lab.pss_bytes(server.pids()), server.cpu()
            start = self.load(server.port, messages, sessions=20, domains=hosts, domain="slow.example")["start"]
            most, until = 0, time.monotonic() + seconds
            while slow.stats()["messages"] < messages and time.monotonic() < until:
                most = max(most, lab.pss_bytes(server.pids()) - memory)
                time.sleep(0.1)
            stats = slow.stats()
            self.record(OURS, line, "the most", stats["max_open"])
            self.record(OURS, line, "msg/s", stats["messages"] / (stats["last"] - start))
            if hosts > 1:
                self.record(OURS, line, "KiB each", most / max(stats["max_open"], 1) / KIB)
                self.record(OURS, line, "CPU s/1000", (server.cpu() - cpu) / messages * 1000)
        finally:
            slow.stop()

    def bad_destinations(self):
        """Mail to the sink, alone, and while 2,000 messages each wait for a host that refuses, one that never says a word,
        and one that takes five seconds for an answer."""
        waiting = 500 if self.short else 2000
        lines = ["scale: mail beside nothing", "scale: mail beside dead and slow destinations"]

        def run(server, sink, box):
            mute, slow = lab.Sink("--reply", "CONNECT=stall"), lab.Sink("--delay", "5000")
            try:
                server.gate.configure("".join("smtproutes new .%s.example 127.0.0.1:%d\n" % route for route in (
                    ("dead", lab.free_port()), ("mute", mute.port), ("slow", slow.port))))
                self.relay(OURS, server, sink, lines[0], sessions=20)
                for name in ("dead", "mute", "slow"):
                    self.load(server.port, waiting, sessions=20, domains=3, domain=name + ".example")
                lab.eventually(lambda: mute.stats()["open"] and slow.stats()["open"], 20, "the bad destinations are tried")
                self.rates[(lines[1], OURS)] = self.rates[(lines[0], OURS)]
                self.relay(OURS, server, sink, lines[1], sessions=20)
                if not mute.stats()["open"]:
                    raise lab.Failure("nobody waited for the mute destination any more")
            finally:
                mute.stop()
                slow.stop()

        self.with_server(OURS, Setup(tls=False, hold=False), lines,
                         lambda *three: self.attempt(OURS, lines, run, *three))

    def measure_limits(self):
        def run():
            done = lab.run([lab.tool("bench_limits"), "--dir", lab.tempfile.gettempdir(), "--seconds", "1"])
            limits = json.loads(done.stdout)
            for key, (what, unit) in LIMITS.items():
                self.record("machine", "machine: " + what, unit, limits[key])
                self.limits[key] = median(self, "machine: " + what, unit, "machine")

        self.attempt("machine", ["machine: limits"], run)

    def with_server(self, name, setup, lines, run, counted=False):
        if self.options.rows and not any(self.options.rows in line for line in lines):
            return
        box = lab.Sandbox("postern-bench-")
        sink = new_sink(self.pair)
        server = None
        try:
            self.patience = ["--greeting", "2000"] if name == OPENSMTPD else []
            server = SERVERS[name](name, setup, sink, self.pair, counted)
            run(server, sink, box)
        except lab.Skip as s:
            self.complain(name, lines, str(s))
        except (lab.Failure, RuntimeError, OSError, EOFError, subprocess.TimeoutExpired) as e:
            self.complain(name, lines, str(e).strip().splitlines()[0])
        finally:
            self.patience = []
            if server:
                server.stop()
            sink.stop()
            box.remove()

    def parts(self):
        """The measurements of our own parts: the runtime's and the configuration store's."""
        certs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench_certs.py")
        for program in ("bench_fiber", "bench_store", "bench_access", certs):
            try:
                command = [sys.executable, certs] if program == certs else [lab.tool(program)]
                done = lab.run(command + (["--short"] if self.short else []), timeout=300)
                self.extra += done.stdout.splitlines()
            except (lab.Skip, lab.Failure, subprocess.TimeoutExpired) as e:
                self.extra.append(os.path.basename(program) + ": " + str(e).splitlines()[0])

    def once(self, names):
        """What one measurement is enough for: counts hardly vary, and the scale lines are ours alone."""
        for name in names:
            if name != DEFAULT and not (self.short and name != OURS):
                self.counting(name)
        if OURS in names:
            self.many_destinations()
            self.many_deliveries()
            self.bad_destinations()

    def run(self):
        began = self.began = time.monotonic()
        self.load_before = os.getloadavg()[0]
        box = lab.Sandbox("postern-bench-")
        self.pair = lab.make_cert(box.dir, "bench.example")
        names = [n for n in SERVERS if not self.options.only or self.options.only in n]
        taking_turns = [n for n in names if n not in OTHERS]
        rounds = self.options.rounds or (1 if self.short else 5)
        reserve = 0 if self.options.rows or self.short else 45 # for the parts
        longest = 0
        for number in range(rounds):
            if number and time.monotonic() - began + longest + reserve > self.options.seconds:
                break
            at, others = time.monotonic(), 0
            if self.options.only in ("", "machine"):
                self.machine()
                self.measure_limits()
            turn = taking_turns[number % len(taking_turns):] + taking_turns[:number % len(taking_turns)] if taking_turns else []
            for part in (self.relaying, self.keeping, self.relaying_tls, self.draining):
                for name in turn:
                    if not (self.short and name == DEFAULT and part != self.relaying):
                        part(name)
                began_others = time.monotonic()
                for name in OTHERS if number == 0 and not self.short else ():
                    if name in names:
                        part(name)
                others += time.monotonic() - began_others
            self.rounds = number + 1
            longest = max(longest, time.monotonic() - at - others)
            if number == 0:
                self.once(names)
        if not self.options.rows and self.options.only in ("", OURS):
            if self.late(OURS):
                self.complain(OURS, ["the parts"], "no time was left")
            else:
                self.parts()
        self.seconds = time.monotonic() - began


def new_sink(pair):
    sink = lab.Sink("--cert", pair.cert, "--key", pair.key)
    sink.had = 0
    return sink


# --- the report --------------------------------------------------------------------------------------------

# (start of the line, unit) -> goal: a ratio to tuned Postfix, or the most a value may be.
GOALS = {
    ("relay, 4 KiB", "msg/s"): "10x",
    ("relay, 4 KiB", "CPU s/1000"): "<= 0.25",
    ("relay, TLS", "msg/s"): "6x",
    ("relay, TLS", "CPU s/1000"): "<= 0.5",
    ("relay, 1 MiB", "msg/s"): "3x",
    ("accept, 20", "msg/s"): "6x",
    ("accept, 20", "CPU s/1000"): "<= 0.12",
    ("accept, 100", "msg/s"): "6x",
    ("accept, 100", "CPU s/1000"): "<= 0.12",
    ("accept, TLS, new", "CPU s/1000"): "<= 1.0",
    ("accept, TLS, resumed", "CPU s/1000"): "<= 0.6",
    ("fsyncs, 1 session", "per msg"): "<= 2",
    ("fsyncs, 20", "per msg"): "<= 0.3",
    ("fsyncs, 100", "per msg"): "<= 0.1",
    ("idle session after EHLO, clear", "KiB"): "<= 12",
    ("idle session after EHLO, TLS", "KiB"): "<= 60",
    ("drain", "msg/s"): "5x",
    ("drain", "s to first"): "<= 0.5",
}


# Of bench_limits: its name -> the line and the unit in the table.
LIMITS = {
    "connections": ("loopback connections, all cores", "per s"),
    "exchanges": ("one line sent and answered, one connection", "per s"),
    "mib_per_second": ("loopback, one connection", "MiB/s"),
    "syncs": ("fdatasync of 4 KiB appended", "per s"),
    "handshakes": ("TLS handshakes of a core, both sides", "per CPU s"),
    "handshakes_server": ("TLS handshakes of a core, the server's half", "per CPU s"),
    "handshakes_resumed": ("TLS handshakes of a core, both sides, resumed", "per CPU s"),
}


def goal(line, unit):
    for (start, of), text in GOALS.items():
        if line.startswith(start) and unit == of:
            return text
    return ""


def number(value):
    return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.3g" % value


def cell(values):
    if not values:
        return ""
    text = number(statistics.median(values))
    return text if len(values) == 1 else "%s (%s-%s)" % (text, number(min(values)), number(max(values)))


def place(key):
    """Where a line stands in the table."""
    for position, start in enumerate(("relay, 4", "relay, TLS", "relay, 1", "relay", "accept, 20", "accept, 100", "accept",
                                      "fsyncs", "drain", "idle", "a message of 4 KiB, clear", "a message", "scale",
                                      "machine: gen", "machine")):
        if key[0].startswith(start):
            return position
    return -1


def median(bench, line, unit, server=OURS):
    values = bench.values.get((line, unit), {}).get(server)
    return statistics.median(values) if values else None


def table(bench):
    """Rows of (line, unit, a cell of each server, ratio, goal)."""
    rows = []
    for line, unit in sorted(bench.values, key=place):
        by_server = bench.values[(line, unit)]
        ours, tuned = by_server.get(OURS), by_server.get(TUNED)
        ratio = ""
        if ours and tuned and statistics.median(tuned) > 0:
            ratio = "%.3gx" % (statistics.median(ours) / statistics.median(tuned))
        if "machine" in by_server:
            rows.append((line, unit, cell(by_server["machine"]), "", "", "", "", "", ""))
        else:
            rows.append((line, unit, *[cell(by_server.get(name)) for name in SERVERS], ratio, goal(line, unit)))
    return rows


def distances(bench):
    """Rows of (what, ours, the machine's limit, how it is made up, share): a limit is what the machine would do if the
    server cost nothing, and everything else as it is; cost: the least that could be."""
    limit, rows, cores = bench.limits, [], os.cpu_count()

    def row(what, ours, most, how, cost=False):
        if ours and most:
            rows.append((what, number(ours), number(most), how, "%.0f %%" % (100 * (most / ours if cost else ours / most))))

    through = {key: median(bench, "machine: generator to sink, " + key, "msg/s", "machine")
               for key in ("4 KiB", "TLS", "new handshake each", "1 MiB")}
    row("relay, 4 KiB, 20 sessions, msg/s", median(bench, "relay, 4 KiB, 20 sessions", "msg/s"), through["4 KiB"],
        "generator straight to the sink")
    row("relay, TLS to TLS, 20 sessions, msg/s", median(bench, "relay, TLS to TLS, 20 sessions", "msg/s"), through["TLS"],
        "generator straight to the sink, TLS")
    row("relay, 1 MiB, 10 sessions, MiB/s", median(bench, "relay, 1 MiB, 10 sessions", "msg/s"), through["1 MiB"],
        "generator straight to the sink")
    row("accept, TLS, new handshake each, msg/s", median(bench, "accept, TLS, new handshake each", "msg/s"),
        through["new handshake each"], "generator straight to the sink, a handshake each")
    row("accept, TLS, new handshake each, CPU s/1000", median(bench, "accept, TLS, new handshake each", "CPU s/1000"),
        1000 / limit["handshakes_server"] if limit else None, "the server's half of the bare handshakes", cost=True)
    syncs = {n: median(bench, "fsyncs, %d session%s" % (n, "s" if n > 1 else ""), "per msg") for n in (20, 100)}
    for n, each in syncs.items():
        if each and limit:
            row("accept, %d sessions, msg/s" % n, median(bench, "accept, %d sessions" % n, "msg/s"), limit["syncs"] / each,
                "fdatasyncs a second / our %.2g syncs a message" % each)
    clear = "a message of 4 KiB, clear"
    row("system calls of a relayed message", median(bench, clear, "system calls"), 9,
        "four receives, four sends (two turns with each side), one write to the spool", cost=True)
    row("bytes read for a byte of mail", median(bench, clear, "read, bytes/byte"), 1, "from the sender", cost=True)
    row("bytes written for a byte of mail", median(bench, clear, "written, bytes/byte"), 2, "to the spool and to the next hop",
        cost=True)
    out = median(bench, clear, "connections out")
    if limit and out is not None:
        row("connections for a relayed message, a second", (out + 0.05) * (median(bench, "relay, 4 KiB, 20 sessions", "msg/s") or 0),
            limit["connections"], "loopback connections, %d cores; ours: 1 of 20 messages in, %.2g out" % (cores, out))
    return rows


def lay_out(rows, left=2):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    last = None
    for row in rows:
        shown = row if row[0] != last else ("",) + row[1:]
        last = row[0]
        print("  ".join([c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(shown, widths))]).rstrip())


def reasons(bench):
    found = {}
    for (line, server), why in bench.problems.items():
        found.setdefault((server, why), []).append(line)
    return ["%s: %s: %s" % (server, "; ".join(lines), why) for (server, why), lines in found.items()]


def conditions(bench):
    model = re.findall(r"^model name\s*: (.*)$", lab.read_text("/proc/cpuinfo"), re.M)
    memory = re.findall(r"^MemTotal:\s*(\d+)", lab.read_text("/proc/meminfo"), re.M)
    return "%s, %d round%s in %.0f s; %d cores (%s), %.0f GiB, Linux %s, %s; Postfix %s, Exim %s, OpenSMTPD %s; load %s" % (
        time.strftime("%Y-%m-%d"), bench.rounds, "" if bench.rounds == 1 else "s", bench.seconds, os.cpu_count(),
        model[0] if model else os.uname().machine, int(memory[0]) / MIB if memory else 0, os.uname().release, system_name(),
        postfix_version(), peers.version("exim"), peers.version("opensmtpd"),
        "before %.1f, after %.1f" % (bench.load_before, os.getloadavg()[0]))


def system_name():
    found = re.findall(r'^PRETTY_NAME="?([^"\n]*)', lab.read_text("/etc/os-release"), re.M)
    return found[0] if found else os.uname().sysname


def report(bench):
    lay_out([("", "", *SERVERS, "ratio", "goal")] + table(bench))
    found = distances(bench)
    if found:
        print("\ndistance to what the machine can do")
        lay_out([("", "ours", "limit", "made up of", "reached")] + found, left=1)
    for line, calls in bench.calls.items():
        print("\nsystem calls of %s: %s" % (line, ", ".join(
            "%s %s" % (name, number(n)) for name, n in sorted(calls.items(), key=lambda c: -c[1]))))
    for text in bench.extra:
        print(text)
    for text in reasons(bench):
        print("not measured: " + text)
    print(conditions(bench))


def write_page(bench, file):
    """The tables of doc/performance.md."""
    rows = table(bench)

    def part(*starts):
        return [r for r in rows if r[0].startswith(starts)]

    head = ("", "", *SERVERS, "ratio", "goal")
    ours = lambda found: [r[:3] for r in found]
    page.replace(file, "conditions", conditions(bench) + ".")
    page.replace(file, "rates", page.table(head, part("relay", "accept", "drain")))
    page.replace(file, "memory", page.table(head, part("idle", "fsyncs")))
    page.replace(file, "message", page.table(("", "", OURS, TUNED, EXIM, OPENSMTPD),
                                             [r[:4] + r[5:7] for r in part("a message")]))
    page.replace(file, "scale", page.table(("", "", OURS), ours(part("scale") + part("relay, 20 sessions, 10,000"))))
    page.replace(file, "machine", page.table(("", "", "this machine"), ours(part("machine"))))
    page.replace(file, "distance", page.table(("", "ours", "limit", "made up of", "reached"), distances(bench)))
    names = sorted({n for calls in bench.calls.values() for n in calls},
                   key=lambda n: -max(calls.get(n, 0) for calls in bench.calls.values()))
    page.replace(file, "calls", page.table(("call", *bench.calls), [
        (name, *[number(calls[name]) if name in calls else "" for calls in bench.calls.values()]) for name in names]))
    page.replace(file, "missing", "\n".join("- " + text for text in reasons(bench)) or "Everything was measured.")
    page.replace(file, "parts", "```\n" + "\n".join(bench.extra) + "\n```")


def postfix_version():
    if not lab.which("postconf"):
        return "not installed"
    return lab.run([lab.which("postconf"), "-d", "-h", "mail_version"], check=False).stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", default=bool(os.environ.get("BENCH_SHORT")))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS") or 900))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", default="", help="servers whose names hold this; or machine")
    parser.add_argument("--rows", default="", help="lines whose names hold this")
    parser.add_argument("--queue", type=int, default=0, help="messages of the drain line")
    parser.add_argument("--verbose", action="store_true", help="say what is measured when")
    parser.add_argument("--json", help="file for all values")
    parser.add_argument("--markdown", default=os.environ.get("PAGE"), help="page whose tables are replaced")
    options = parser.parse_args()
    if shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free < 4 << 30:
        sys.exit("bench: less than 4 GiB free below TMPDIR")
    bench = Bench(options)
    bench.run()
    report(bench)
    if options.markdown:
        write_page(bench, options.markdown)
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"rounds": bench.rounds, "seconds": bench.seconds, "short": bench.short,
                       "values": [{"line": line, "unit": unit, "server": server, "values": values}
                                  for (line, unit), by_server in bench.values.items()
                                  for server, values in by_server.items()],
                       "problems": [{"line": line, "server": server, "why": why}
                                    for (line, server), why in bench.problems.items()]}, f, indent=1)
    sys.exit(1 if any(server == OURS for _, server in bench.problems) else 0)


main()
