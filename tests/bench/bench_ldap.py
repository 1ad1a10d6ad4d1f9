# What a directory costs: questions a second against slapd; and what mail that needs no directory notices of one that
# is dead, while a thousand sessions wait for its answer. "name value unit goal".

import base64
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import lab  # noqa: E402
import slapd  # noqa: E402
from control import Control  # noqa: E402

SHORT = "--short" in sys.argv or os.environ.get("BENCH_SHORT")
SESSIONS = 1000
MESSAGES = 2000 if SHORT else 10000
ROUNDS = 1 if SHORT else 3

box = lab.Sandbox("postern-bench-")


def row(name, value, unit, goal=""):
    print("%-64s %9.1f %-6s %s" % (name, value, unit, goal))
    sys.stdout.flush()


# --- questions a second ---------------------------------------------------------------------------------------

def questions(d, what, connections, fibers, seconds):
    done = subprocess.run([lab.tool("bench_ldap"), str(d.port), slapd.PEOPLE, what, str(seconds), str(connections),
                           str(fibers)], stdout=subprocess.PIPE, encoding="utf-8")
    result = json.loads(done.stdout)
    if result["failed"]:
        raise SystemExit("%d questions failed" % result["failed"])
    return result


def ask_slapd():
    stored = slapd.stored_password("secret")
    entries = "".join(slapd.ldif(*slapd.user_entry("u%d" % i, stored, scheme="raw")) for i in range(1000))
    d = slapd.Slapd(box, tls=False, entries=entries)
    for what in ("search", "bind"):
        for connections, fibers in ((1, 1), (10, 100)):
            r = questions(d, what, connections, fibers, 1 if SHORT else 3)
            name = "%s, %d connection%s, %d asking" % (what, connections, "s" * (connections > 1), fibers)
            row(name, r["per_second"], "/s")
            row("  CPU of one", r["cpu_us"], "us")
            row("  one takes", r["msec"], "ms")
    d.stop()


# --- sessions that wait ---------------------------------------------------------------------------------------

class Mute:
    """Takes connections and never answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port = self.listener.getsockname()[1]

    def close(self):
        self.listener.close()


def gateway():
    gate = lab.Posternd(box.path("home"))
    sink = lab.Sink()
    gate.configure("sethostname gw.lab.example\nsmtproutes new ALL 127.0.0.1:%d\n"
                   "listenerconfig edit OutboundMail hostaccess edit policy RELAYED max_concurrency=100000\n" % sink.port)
    return gate


def use(gate, port, **fields):
    c = Control(gate.home)
    c.ok("candidate.anonymous")
    listener = c.body("listener", "OutboundMail")
    listener.update(smtp_auth="ldap", auth="preferred", auth_needs_tls=False, max_connections=5000)
    server = dict({"hosts": ["127.0.0.1:%d" % port], "base": slapd.PEOPLE, "cache_ttl": 0}, **fields)
    c.ok("config.stage", changes=[{"section": s, "name": n, "body": b} for s, n, b in (
        ("ldap_server", "lab", server), ("ldap_query", "q", {"server": "lab", "filter": "(uid={u})"}),
        ("smtpauth_profile", "ldap", {"kind": "ldap", "query": "q"}), ("listener", "OutboundMail", listener),
        ("listener_setup", "-", {"auth_failures_host": 100000, "auth_failures_session": 100}))])
    c.ok("commit", comment="bench")
    c.close()


def rate(gate):
    return lab.smtp_load(gate.private, "--sessions", 20, "--messages", MESSAGES, "--timeout", 30)["rate"]


def open_sessions(gate, count):
    word = base64.b64encode(b"\0alice\0secret").decode()
    sessions = []
    for _ in range(count):
        c = lab.Smtp(gate.private)
        c.ehlo()
        sessions.append(c)
    began = time.monotonic()
    for c in sessions:
        c.send("AUTH PLAIN " + word)
    return sessions, began


def answers(sessions, timeout=0):
    """How many have one by now."""
    poll = select.poll()
    for c in sessions:
        poll.register(c.sock, select.POLLIN)
    return len(poll.poll(timeout))


def wait_all(sessions, began, most):
    """Their codes, and after how long the last of them came."""
    codes = {}
    for c in sessions:
        c.sock.settimeout(most)
        code = c.reply()[0]
        codes[code] = codes.get(code, 0) + 1
    took = time.monotonic() - began
    for c in sessions:
        c.close()
    return codes, took


def held_up():
    gate = gateway()
    use(gate, lab.free_port())
    alone = statistics.median(rate(gate) for _ in range(ROUNDS))
    row("mail without a directory in the way", alone, "/s")

    # dead: refused at once, and known to be down from then on
    sessions, began = open_sessions(gate, SESSIONS)
    codes, took = wait_all(sessions, began, 60)
    lab.equal(codes, {454: SESSIONS})
    row("%d sessions ask a dead directory: the last 454 after" % SESSIONS, took * 1000, "ms", "<= 2000")

    # mute: everybody waits for as long as a question may take
    mute = Mute()
    use(gate, mute.port, connect_timeout=40, query_timeout=40)
    sessions, began = open_sessions(gate, SESSIONS)
    time.sleep(0.5)
    lab.equal(answers(sessions), 0)
    during = []
    while len(during) < ROUNDS and time.monotonic() - began < 35:
        during.append(rate(gate))
    waiting = SESSIONS - answers(sessions)
    if time.monotonic() - began > 39:
        raise SystemExit("the load took longer than the sessions waited")
    lab.equal(waiting, SESSIONS)
    row("the same while %d sessions wait for a mute one" % SESSIONS, statistics.median(during), "/s",
        ">= %.0f (95%%)" % (0.95 * alone))
    row("  of that without", 100 * statistics.median(during) / alone, "%", ">= 95")
    codes, took = wait_all(sessions, began, 60)
    lab.equal(codes, {454: SESSIONS})
    row("the last of them has its 454 after", took, "s", "<= 42")
    mute.close()
    gate.stop()


ask_slapd()
held_up()
