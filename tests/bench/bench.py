# Postern and Postfix side by side: one load generator, one sink, one machine, one run.
#
#     make bench                     the full form, 15 minutes at most (SECONDS=600 make bench: ten)
#     BENCH_SHORT=1 make bench       under 90 seconds, for a first impression
#     bench.py [--short] [--seconds N] [--rounds N] [--only NAME] [--rows WORD] [--queue N] [--json FILE]
#              [--verbose]
#
# How to read the table
#
# Every line is one measurement; every cell is the median of the rounds, with the lowest and the highest in
# brackets when there were several. The servers take turns within each round, so that a disturbance of the
# machine meets all of them. "ratio" is ours / tuned Postfix: above 1 is better for rates, below 1 for costs.
# "goal" is the aim of the design, for a ratio (10x) or a value (<= 0.25).
#
#   postern           factory configuration, limits per client raised, everything relayed to the sink
#   postfix tuned     its TUNING_README: more processes, in_flow_delay=0, no chroot, high destination
#                     concurrency, connection cache, TLS session caches and TLS connection reuse
#   postfix default   main.cf and master.cf as Debian installs them
#
#   relay             generator -> server -> sink; the rate counts from the first connection to the last message
#                     at the sink
#   accept            the server acknowledges and keeps the mail (delivery suspended; HOLD for Postfix, which
#                     spares it the queue manager's work): what "250" costs when it means "on disk"
#   CPU s/1000        user and system time of the server's processes alone, all of them, per 1000 messages
#   new handshake     one message per connection, each with a full TLS handshake and an ECDSA P-256
#                     certificate; "resumed": with a session ticket. The rate of these two lines is bounded by
#                     the generator, whose half of a handshake costs as much; compare the CPU
#   fsyncs            calls of fsync and fdatasync per accepted message, counted by strace in runs of their own
#   idle session      growth of the proportional set size of all processes with N sessions after EHLO
#   drain             N messages are accepted and kept; the server is stopped, then started with delivery on and
#                     nothing incoming: time from the start to the first message at the sink, and messages a
#                     second from there to the last
#   machine           the generator talking to the sink: no server between them can be faster
#
# All programs share the machine: on two cores a fast server leaves little to the generator and the sink, and the
# "machine" lines say where that begins to matter. Postfix logs to syslog as on any Debian system; where no
# syslog daemon listens that costs it nothing. Nothing leaves the loopback interface. Postfix needs root. What
# cannot run says why, and the exit status tells whether every line of ours was measured.

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import lab  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
OURS, TUNED, DEFAULT = "postern", "postfix tuned", "postfix default"


# --- the servers -------------------------------------------------------------------------------------------

class PostfixServer:
    idle_sessions = {True: 100, False: 50}

    def __init__(self, name, setup, sink, pair):
        tuned = name == TUNED
        main = {"smtpd_data_restrictions": "check_client_access static:HOLD"} if setup.hold else {}
        self.idle = self.idle_sessions[tuned]
        self.postfix = lab.Postfix(relay=sink.port, tuned=tuned, tls=pair if setup.tls else None,
                                   tls_out=setup.tls and not setup.hold, main=main, log=False)
        self.port = self.postfix.port

    def pids(self):
        return lab.process_tree(self.postfix.pid)

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

    def __init__(self, name, setup, sink, pair):
        self.box = lab.Sandbox("postern-bench-")
        self.gate = lab.Posternd(self.box.path("home"))
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

    def restart_delivering(self):
        self.gate.stop()

        def go():
            self.gate.start()
            self.gate.console("resumedel")

        return go

    def stop(self):
        self.gate.stop()
        self.box.remove()


SERVERS = {OURS: PosternServer, TUNED: PostfixServer, DEFAULT: PostfixServer}


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
        self.short = options.short
        self.window = 0.7 if self.short else 4.0 # seconds one measurement should last

    def record(self, server, line, unit, value):
        self.values.setdefault((line, unit), {}).setdefault(server, []).append(value)

    def attempt(self, server, lines, function, *args):
        """One measurement; a failure is shown in its cell and does not end the run."""
        if self.options.rows and not any(self.options.rows in line for line in lines):
            return
        if self.options.verbose:
            sys.stderr.write("%6.1f s  %s: %s\n" % (time.monotonic() - self.began, server, ", ".join(lines)))
        try:
            function(*args)
        except lab.Skip as s:
            self.complain(server, lines, str(s))
        except (lab.Failure, OSError, RuntimeError, EOFError, ValueError, subprocess.TimeoutExpired) as e:
            self.complain(server, lines, (str(e).strip().splitlines() or [repr(e)])[-1])

    def complain(self, server, lines, why):
        for line in lines:
            self.problems[(line, server)] = why
        sys.stderr.write("%s, %s: %s\n" % (server, ", ".join(lines), why))

    def load(self, port, messages, **options):
        argv = ["--messages", messages, "--timeout", 60]
        for name, value in options.items():
            argv += ["--" + name.replace("_", "-")] + ([] if value is True else [value])
        return lab.smtp_load(port, *argv)

    def count(self, name, line, port, sink, least, **options):
        """Warms up and says how many messages fill the window."""
        if (line, name) not in self.rates:
            warm = self.load(port, least, **options)
            self.rates[(line, name)] = warm["rate"]
            if sink:
                self.arrived(sink, least, warm["start"])
        return max(least, min(400000, int(self.rates[(line, name)] * self.window)))

    def arrived(self, sink, messages, start):
        """Waits for all of them; the rate from `start` on. The sink forgets nothing, so count from what it had."""
        want = sink.had + messages
        stats = sink.wait_messages(want, timeout=120)
        sink.had = want
        return messages / max(stats["last"] - start, 1e-6)

    def relay(self, name, server, sink, line, least=200, **options):
        messages = self.count(name, line, server.port, sink, least, **options)
        before = lab.cpu_seconds(server.pids())
        start = self.load(server.port, messages, **options)["start"]
        rate = self.arrived(sink, messages, start)
        time.sleep(0.3) # the server puts its books in order
        cpu = lab.cpu_seconds(server.pids()) - before
        self.rates[(line, name)] = rate
        self.record(name, line, "msg/s", rate)
        self.record(name, line, "CPU s/1000", cpu / messages * 1000)

    def accept(self, name, server, line, least=200, **options):
        messages = self.count(name, line, server.port, None, least, **options)
        before = lab.cpu_seconds(server.pids())
        result = self.load(server.port, messages, **options)
        time.sleep(0.2)
        cpu = lab.cpu_seconds(server.pids()) - before
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
        child = lab.Child(argv + (["--starttls"] if tls else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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

    def fsyncs(self, name, server, box, line, sessions):
        if not lab.which("strace"):
            raise lab.Skip("strace is not installed")
        messages = max(60, 10 * sessions) if self.short else 40 * max(10, sessions)
        self.load(server.port, 2 * sessions, sessions=sessions)
        summary = box.path("strace")
        argv = ["strace", "-f", "-q", "-c", "-e", "trace=fsync,fdatasync", "-o", summary]
        for pid in server.pids():
            argv += ["-p", str(pid)]
        tracer = lab.Child(argv, stderr=subprocess.DEVNULL)
        lab.eventually(lambda: all(traced(p) for p in server.pids()), 10, "strace is attached")
        self.load(server.port, messages, sessions=sessions)
        tracer.stop(number=signal.SIGINT)
        calls = sum(int(words[3]) for words in (text.split() for text in lab.read_text(summary).splitlines())
                    if len(words) >= 5 and words[-1] in ("fsync", "fdatasync"))
        self.record(name, line, "per msg", calls / messages)

    def drain(self, name, setup, line, count):
        sink = new_sink(self.pair)
        server = SERVERS[name](name, setup, sink, self.pair)
        try:
            self.load(server.port, count, sessions=50)
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
        syncs = {1: "fsyncs, 1 session", 20: "fsyncs, 20 sessions", 100: "fsyncs, 100 sessions"}

        def run(server, sink, box):
            tls = {"sessions": 20, "starttls": True, "per_connection": 1}
            self.attempt(name, [lines[0]], self.idle, name, server, lines[0], True)
            self.attempt(name, [lines[1]], lambda: self.accept(name, server, lines[1], sessions=20))
            self.attempt(name, [lines[2]], lambda: self.accept(name, server, lines[2], sessions=100))
            self.attempt(name, [lines[3]], lambda: self.accept(name, server, lines[3], **tls))
            self.attempt(name, [lines[4]], lambda: self.accept(name, server, lines[4], resume=True, **tls))
            for sessions, line in syncs.items():
                self.attempt(name, [line], self.fsyncs, name, server, box, line, sessions)

        self.with_server(name, Setup(tls=True, hold=True), lines + list(syncs.values()), run)

    def relaying(self, name):
        lines = ["idle session after EHLO, clear", "relay, 4 KiB, 20 sessions", "relay, 4 KiB, 100 sessions",
                 "relay, 1 MiB, 10 sessions", "relay, 20 sessions, 10,000 idle ones"]

        def run(server, sink, box):
            self.attempt(name, [lines[0]], self.idle, name, server, lines[0], False)
            self.attempt(name, [lines[1]], lambda: self.relay(name, server, sink, lines[1], sessions=20))
            self.attempt(name, [lines[2]], lambda: self.relay(name, server, sink, lines[2], sessions=100))
            self.attempt(name, [lines[3]],
                         lambda: self.relay(name, server, sink, lines[3], least=30, sessions=10, size=MIB))
            if name == OURS and not self.short:
                self.attempt(name, [lines[4]], self.crowd, name, server, sink, lines[4])

        self.with_server(name, Setup(tls=False, hold=False), lines, run)

    def relaying_tls(self, name):
        lines = ["relay, TLS to TLS, 20 sessions", "relay, TLS to TLS, 100 sessions"]

        def run(server, sink, box):
            for line, sessions in zip(lines, (20, 100)):
                self.attempt(name, [line], lambda: self.relay(name, server, sink, line, sessions=sessions,
                                                              starttls=True))

        self.with_server(name, Setup(tls=True, hold=False), lines, run)

    def draining(self, name):
        count = self.options.queue or (1500 if self.short else 10000)
        line = "drain of %d queued messages" % count
        self.attempt(name, [line], self.drain, name, Setup(tls=False, hold=True), line, count)

    def with_server(self, name, setup, lines, run):
        if self.options.rows and not any(self.options.rows in line for line in lines):
            return
        box = lab.Sandbox("postern-bench-")
        sink = new_sink(self.pair)
        server = None
        try:
            server = SERVERS[name](name, setup, sink, self.pair)
            run(server, sink, box)
        except lab.Skip as s:
            self.complain(name, lines, str(s))
        except (lab.Failure, RuntimeError, OSError, EOFError, subprocess.TimeoutExpired) as e:
            self.complain(name, lines, str(e).strip().splitlines()[0])
        finally:
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

    def run(self):
        began = self.began = time.monotonic()
        box = lab.Sandbox("postern-bench-")
        self.pair = lab.make_cert(box.dir, "bench.example")
        names = [n for n in SERVERS if not self.options.only or self.options.only in n]
        rounds = self.options.rounds or (1 if self.short else 5)
        longest = 0
        for number in range(rounds):
            if number and time.monotonic() - began + longest > self.options.seconds:
                break
            at = time.monotonic()
            if self.options.only in ("", "machine"):
                self.machine()
            turn = names[number % len(names):] + names[:number % len(names)] if names else []
            for part in (self.relaying, self.keeping, self.relaying_tls, self.draining):
                for name in turn:
                    if not (self.short and name == DEFAULT and part != self.relaying):
                        part(name)
            self.rounds = number + 1
            longest = max(longest, time.monotonic() - at)
        if not self.options.rows and self.options.only in ("", OURS):
            self.parts()
        self.seconds = time.monotonic() - began


def traced(pid):
    return "TracerPid:\t0\n" not in lab.read_text("/proc/%d/status" % pid)


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
                                      "fsyncs", "drain", "idle", "machine")):
        if key[0].startswith(start):
            return position
    return -1


def report(bench):
    rows = [("", "", OURS, TUNED, DEFAULT, "ratio", "goal")]
    for line, unit in sorted(bench.values, key=place):
        by_server = bench.values[(line, unit)]
        ours, tuned = by_server.get(OURS), by_server.get(TUNED)
        ratio = ""
        if ours and tuned and statistics.median(tuned) > 0:
            ratio = "%.3gx" % (statistics.median(ours) / statistics.median(tuned))
        if "machine" in by_server:
            rows.append((line, unit, cell(by_server["machine"]), "", "", "", ""))
        else:
            rows.append((line, unit, cell(ours), cell(tuned), cell(by_server.get(DEFAULT)), ratio, goal(line, unit)))
    widths = [max(len(r[i]) for r in rows) for i in range(7)]
    last = None
    for row in rows:
        shown = row if row[0] != last else ("",) + row[1:]
        last = row[0]
        print("  ".join([shown[0].ljust(widths[0]), shown[1].ljust(widths[1])]
                        + [c.rjust(w) for c, w in zip(shown[2:], widths[2:])]).rstrip())
    for text in bench.extra:
        print(text)
    reasons = {}
    for (line, server), why in bench.problems.items():
        reasons.setdefault((server, why), []).append(line)
    for (server, why), lines in reasons.items():
        print("not measured: %s: %s: %s" % (server, why, "; ".join(lines)))
    print("%d round%s, %.0f s, %d cores, Postfix %s"
          % (bench.rounds, "" if bench.rounds == 1 else "s", bench.seconds, os.cpu_count(), postfix_version()))


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
    options = parser.parse_args()
    if shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free < 4 << 30:
        sys.exit("bench: less than 4 GiB free below TMPDIR")
    bench = Bench(options)
    bench.run()
    report(bench)
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
