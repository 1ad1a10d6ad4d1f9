# Nothing acknowledged is lost when the disk fails, fills up, lies or loses power: the real gateway under load on a disk of
# tests/fault/faultfs.c. Continuous integration takes a sample of the places where it can go wrong; FULL=1 takes all of them,
# as `make soak` does. test_soak.py goes on for as long as it is told.

import contextlib
import errno
import os
import random
import re
import socket
import sqlite3
import subprocess
import threading
import time

import faults
import lab

FULL = bool(os.environ.get("FULL"))
rng = random.Random(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1 << 32))
EVERY = " ".join(faults.CHANGES)


class Load:
    """Senders that never give up. A message whose 250 was read is in the book; one that got no answer is sent again under
    another name, so what arrives without being in the book was in flight."""

    def __init__(self, port, book, sessions=2, large=0.02, name="m"):
        self.port, self.book, self.large, self.name = port, book, large, name
        self.attempts = self.refused = self.lost = self.acknowledged = 0
        self.replies = set()
        self.lock = threading.Lock()
        self.stopping = False
        self.limit = None
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(sessions)]
        for t in self.threads:
            t.start()

    def _message(self):
        with self.lock:
            if self.limit is not None and self.attempts >= self.limit:
                return None
            self.attempts += 1
            number = self.attempts
        size = rng.choice((300, 2000, 5000, 20000, 70000, 200000))
        if rng.random() < self.large:
            size = 5 << 20 # segments, then a file of its own
        return lab.make_message("%s%d" % (self.name, number), size, "attachment" if size > 70000 else "plain",
                                random.Random(number))

    def _run(self, number):
        client = None
        while not self.stopping:
            message = self._message()
            if not message:
                return
            try:
                if not client:
                    client = lab.Smtp(self.port, timeout=20)
                    client.ehlo()
                reply = self._send(client, message)
                with self.lock:
                    if reply[0] == "2":
                        self.acknowledged += 1
                        self.book.add(message)
                    else:
                        self.refused += 1
                        self.replies.add(re.sub(r"\d{3,}", "N", reply[4:]).strip() and reply.strip())
                if reply[0] != "2":
                    if reply.startswith("421"):
                        client.close()
                        client = None
                    else:
                        client.cmd("RSET")
                    time.sleep(0.005)
            except (OSError, AssertionError, EOFError):
                self.lost += 1
                if client:
                    client.close()
                client = None
                time.sleep(0.01)
        if client:
            client.close()

    @staticmethod
    def _send(client, message):
        for line in ("MAIL FROM:<sender@client.lab.example>", "RCPT TO:<rcpt@d%d.lab.example>" % (hash(message.id) % 5),
                     "DATA"):
            _, text = reply = client.cmd(line)
            if reply[0] >= 400:
                return "%d %s" % (reply[0], " ".join(text))
        client.raw(lab.stuffed(message))
        code, text = client.reply()
        return "%d %s" % (code, " ".join(text))

    def stop(self, timeout=60):
        self.stopping = True
        for t in self.threads:
            t.join(timeout)


class Gateway(lab.Posternd):
    """A gateway on a disk of ours that delivers everything to one sink."""

    def __init__(self, *statements):
        self.box = lab.Sandbox()
        self.disk = faults.Disk(self.box)
        self.sink = lab.Sink(digest=self.box.path("digest"))
        self.book = lab.Book()
        super().__init__(self.disk.home, env=self.disk.env)
        self.console("; ".join((
            "listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000 max_rcpts_per_msg=1000"
            " max_message_size=50M", "smtproutes new ALL 127.0.0.1:%d" % self.sink.port,
            "bounceconfig edit Default initial_retry=1 max_retry=2 max_retries=1000") + statements)
            + '; commit "test" Y')

    def load(self, **keywords):
        return Load(self.private, self.book, **keywords)

    def ready(self, timeout=60):
        """The listener takes mail; cheaper than asking for a console."""
        def greets():
            if not self.child.running():
                raise RuntimeError("posternd ended:\n" + lab.read_text(self.log))
            with socket.create_connection(("127.0.0.1", self.private), timeout=2) as s:
                return s.recv(3) == b"220"
        lab.eventually(greets, timeout, "the gateway greets")

    def restarts(self):
        return len(re.findall("restart [0-9]+ in", lab.read_text(self.log)))

    def arrived(self, timeout=120):
        """Every message of the book has come, unchanged. Returns how many came more than once."""
        return self.book.settled(self.sink, timeout)

    def empty(self, timeout=30):
        lab.eventually(lambda: self.json("showrecipients all")["data"]["recipients"] == [], timeout, "the queue is empty")


@lab.test("power cuts at any call: what was not synced is gone, what was acknowledged is not")
def power_cuts():
    gate = Gateway()
    disk = gate.disk
    cuts = undone = silent = 0
    gate.stop()
    for n in range(300 if FULL else 12):
        disk.journal(True)
        at = rng.randrange(1, 200)
        disk.arm(EVERY, at=at, action="die")
        gate.start(ready=False)
        load = gate.load(name="r%d-" % n)
        until = time.monotonic() + rng.uniform(0.2, 1.0)
        while not disk["frozen"] and time.monotonic() < until:
            time.sleep(0.005)
        silent += not disk["frozen"]
        disk["frozen"] = 1
        gate.kill()
        load.stop()
        disk.clear()
        gone, _ = disk.power_cut(rng if n % 3 else None)
        undone += gone
        cuts += 1
        if n % 10 == 9:
            gate.start()
            gate.arrived()
            gate.stop()
    gate.start()
    copies = gate.arrived()
    gate.empty()
    lab.note("%d power cuts (%d between calls), %d unsynced changes undone: %d acknowledged, 0 lost, %d came twice"
             % (cuts, silent, undone, len(gate.book.sent), copies))
    gate.stop()


SPOILT = (("write", errno.ENOSPC, "fail"), ("write", errno.ENOSPC, "short"), ("write", errno.EIO, "fail"),
          ("write", errno.EDQUOT, "fail"), ("sync", errno.EIO, "fail"), ("sync", errno.ENOSPC, "fail"),
          ("open create", errno.EMFILE, "fail"), ("create", errno.ENOSPC, "fail"), ("create", errno.EROFS, "fail"),
          ("rename", errno.EIO, "fail"), ("unlink", errno.EIO, "fail"), ("truncate", errno.EIO, "fail"),
          ("allocate", errno.ENOSPC, "fail"), ("read", errno.EIO, "fail"))


def send_some(gate, count, name, **keywords):
    """So many messages are tried; the number that got 250."""
    load = gate.load(name=name, **keywords)
    load.limit = count
    for t in load.threads:
        t.join(60)
        lab.equal(t.is_alive(), False, "a sender hangs")
    return load


def spoil(gate, suspended):
    """One call of each kind fails, wherever it stands; then the power is cut."""
    disk = gate.disk
    hits = 0
    disk.journal(True)
    for ops, error, action in SPOILT:
        at = 1
        while True:
            disk.arm(ops, error, at, action=action)
            load = send_some(gate, 5, "%s%d-%s%d-%d-" % (ops[:3], error, action, at, suspended), large=0.05)
            hit = disk.clear()
            hits += hit
            lab.equal(load.replies - {r for r in load.replies if r[0] == "4"}, set(), "only refusals for now")
            if not hit and at > 5:
                break # further than these messages come
            at += 1 if FULL else rng.randrange(3, 12)
    load = send_some(gate, 20, "after%d-" % suspended, large=0)
    lab.equal(load.acknowledged, 20, "all is well again: %s" % load.replies)
    gate.kill()
    disk.power_cut()
    return hits


@lab.test("one call of any kind fails, wherever it stands: a refusal at most, nothing lost")
def single_faults():
    gate = Gateway()
    hits = spoil(gate, False)
    gate.start()
    gate.console("suspenddel 0")
    hits += spoil(gate, True)
    gate.start()
    gate.console("resumedel")
    copies = gate.arrived()
    gate.empty()
    lab.note("%d calls failed: %d acknowledged, 0 lost, %d came twice" % (hits, len(gate.book.sent), copies))
    gate.stop()


@lab.test("one call fails while the gateway starts: it starts all the same, or is started again; nothing lost")
def starts():
    gate = Gateway()
    gate.console("suspenddel 0")
    lab.equal(send_some(gate, 40, "start", large=0.1).acknowledged, 40)
    hits = restarts = 0
    for ops, error in ((EVERY, errno.ENOSPC), (EVERY, errno.EIO), ("read open", errno.EIO), ("open", errno.EMFILE)):
        at = 1
        while True:
            gate.kill()
            gate.disk.arm(ops, error, at, only="spool,.db,counters,root.key")
            before = gate.restarts()
            gate.start(ready=False)
            try:
                gate.ready()
            except RuntimeError: # it ended, because no engine has ever served; systemd starts it again
                restarts += 1
                gate.start(ready=False)
                gate.ready()
            hit = gate.disk.clear()
            hits += hit
            restarts += gate.restarts() - before
            if not hit:
                break
            at += 1 if FULL else rng.randrange(4, 16)
    gate.kill()
    gate.start()
    gate.console("resumedel")
    copies = gate.arrived()
    gate.empty()
    lab.note("%d calls failed, the engine was started %d times more: 40 acknowledged, 0 lost, %d came twice"
             % (hits, restarts, copies))
    gate.stop()


def alerts(gate):
    return re.sub(r"\s+", " ", gate.console("displayalerts").stdout)


@lab.test("a disk that is full, broken or read-only for a while: refused for now, alert, all well when it is back")
def bad_times():
    gate = Gateway()
    for n, (ops, error, only) in enumerate(((EVERY, errno.ENOSPC, "queue.db,spool"), ("sync", errno.EIO, "queue.db,spool"),
                             ("write", errno.ENOSPC, "spool"), (EVERY, errno.EROFS, "queue.db,spool"),
                             ("write", errno.EIO, "queue.db"))):
        load = gate.load(name="bad%d-" % n, sessions=3)
        time.sleep(0.2)
        gate.disk.arm(ops, error, times=faults.FOREVER, only=only)
        time.sleep(0.3)
        before = load.acknowledged
        time.sleep(0.4)
        if "queue.db" in only:
            lab.equal(load.acknowledged, before, "acknowledged although nothing could be written")
        lab.equal(load.refused > 0, True, "senders heard of it")
        lab.equal({r[:3] for r in load.replies} <= {"451", "452"}, True, load.replies)
        gate.disk.clear()
        before = load.acknowledged
        lab.eventually(lambda: load.acknowledged > before + 5, 10, "mail is accepted again")
        load.stop()
    lab.equal(gate.restarts(), 0, "the engine went through it")
    copies = gate.arrived()
    gate.empty()
    for text in ("The queue database cannot be written: .* Nothing that needs it is accepted", "Messages cannot be stored",
                 "The queue database can be written again"):
        lab.eventually(lambda: lab.match(alerts(gate), text), 10)
    lab.note("%d acknowledged, 0 lost, %d came twice" % (len(gate.book.sent), copies))
    gate.stop()


@lab.test("what was delivered while the disk was full is forgotten when it is back, though nobody sends mail")
def late_changes():
    gate = Gateway()
    gate.disk.journal(True)
    port = lab.free_port()
    gate.console('smtproutes new later.example 127.0.0.1:%d; commit "later" Y' % port)
    book = lab.Book()
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for n in range(10):
            message = lab.make_message("late%d" % n, 3000)
            book.add(message)
            c.message("sender@client.lab.example", "x@later.example", message)
        c.quit()
    gate.disk.arm("write sync", errno.ENOSPC, times=faults.FOREVER, only="queue.db")
    sink = lab.Sink(port=port, digest=gate.box.path("late"))
    lab.equal(book.settled(sink), 0) # deliveries go on
    time.sleep(0.5)
    lab.equal(gate.disk.clear() > 0, True, "it was noticed")
    time.sleep(3) # a question about the queue would have it written
    gate.kill()
    gate.disk.power_cut()
    gate.start()
    gate.empty()
    lab.equal(book.settled(sink), 0, "delivered again")
    gate.stop()


@lab.test("a disk without one free byte: the gateway starts, delivers what it has, and takes mail again when there is room")
def full_disk():
    lab.need_root()
    box = lab.Sandbox()
    place = box.mkdir("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "none", place], capture_output=True).returncode:
        raise lab.Skip("no tmpfs can be mounted")
    lab.at_end(lambda: subprocess.run(["umount", "-l", place]))
    port = lab.free_port()
    gate = lab.Posternd(os.path.join(place, "home"))
    gate.console('smtproutes new ALL 127.0.0.1:%d; bounceconfig edit Default initial_retry=1 max_retry=1'
                 ' max_retries=1000; commit "test" Y' % port)
    book = lab.Book()
    load = Load(gate.private, book, name="full")
    load.limit = 200
    for t in load.threads:
        t.join(60)
    lab.equal(load.acknowledged > 150, True, "%d" % load.acknowledged)

    def fill():
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError), open(os.path.join(place, "ballast"), "ab", 0) as f:
                while f.write(b"x" * size) == size:
                    pass

    fill()
    lab.eventually(lambda: load_one(gate.private) == 452, 10, "refused")
    gate.kill()
    fill()
    gate.start()
    lab.equal(load_one(gate.private), 452)
    sink = lab.Sink(port=port, digest=box.path("digest"))
    book.settled(sink)
    os.unlink(os.path.join(place, "ballast"))
    lab.eventually(lambda: load_one(gate.private) == 250, 10, "accepted again")
    lab.eventually(lambda: gate.json("showrecipients all")["data"]["recipients"] == [], 10, "all is forgotten")
    gate.stop()


def load_one(port):
    """The code of the reply to MAIL."""
    with lab.Smtp(port) as c:
        c.ehlo()
        return c.cmd("MAIL FROM:<a@client.lab.example>")[0]


@lab.test("a sync of the configuration fails at any place: the commit is refused, or it is there and counts as one that works")
def commits():
    gate = Gateway()
    refused = made = 0
    for at in range(1, 16) if FULL else (1, 7, 11, 12, 13, 14):
        gate.disk.arm("sync", errno.EIO, at=at, only="config.db,audit.db")
        done = gate.console('destconfig new n%d.example use_tls=on; commit "n" Y' % at, check=False)
        time.sleep(0.4) # the mark is written late
        gate.disk.clear()
        made += done.returncode == 0
        refused += done.returncode != 0
        lab.equal("disk I/O error" in done.stderr, done.returncode != 0, done.stderr)
        gate.console("clearchanges y", check=False)

    def active():
        gate.kill() # the file is locked while the engine lives
        with contextlib.closing(sqlite3.connect(os.path.join(gate.home, "config.db"))) as db:
            found = [s for _, s in db.execute("SELECT rev, state FROM revision ORDER BY rev")]
        gate.start()
        return found[-1] == "active" and len(found) == made + 2

    lab.equal(refused > 0 and made > 0, True, "%d refused, %d made" % (refused, made))
    time.sleep(4)
    lab.eventually(active, 30, "the last one counts as one that works")
    gate.stop()


@lab.test("the file of a large message is made while others are synced: its name is on disk, too, before it is acknowledged")
def slow_name():
    gate = Gateway()
    gate.console("suspenddel 0")
    disk = gate.disk
    disk.journal(True)
    disk.arm("create", action="hang", times=faults.FOREVER, only="spool/file-")
    large = Load(gate.private, gate.book, sessions=1, large=1, name="name-large")
    large.limit = 1
    lab.eventually(lambda: disk["hits"], 10, "a file is being made")
    small = Load(gate.private, gate.book, sessions=8, large=0, name="name-small") # some of them on another loop
    lab.eventually(lambda: small.acknowledged > 10, 10, "others are stored meanwhile")
    disk.clear()
    small.stop()
    lab.eventually(lambda: large.acknowledged, 10)
    large.stop()
    gate.kill()
    disk.power_cut()
    gate.start()
    gate.console("resumedel")
    gate.arrived(30)
    gate.stop()


@lab.test("a sync fails while a message is on its way: it is refused, for no later sync would tell what of it was lost")
def half_way():
    gate = Gateway()
    gate.console("suspenddel 0")
    message = lab.make_message("half", 600000, "attachment")
    text = lab.stuffed(message)
    with lab.Smtp(gate.private) as c, lab.Smtp(gate.private) as other:
        c.ehlo()
        other.ehlo()
        c.mail("sender@client.lab.example", "x@d1.lab.example")
        c.cmd("DATA", 354)
        c.raw(text[:400000])
        time.sleep(0.3)
        gate.disk.arm("sync", errno.EIO, only="spool/seg-")
        other.mail("sender@client.lab.example", "x@d1.lab.example")
        other.data(lab.make_message("spoilt", 500), 451)
        lab.equal(gate.disk.clear(), 1)
        c.raw(text[400000:])
        lab.equal(c.reply()[0], 451)
        c.message("sender@client.lab.example", "x@d1.lab.example", message)
    gate.stop()


@lab.test("what is moved out of a nearly empty segment is on disk in its new place before the old one goes")
def moved():
    gate = Gateway()
    gate.console("suspenddel 0")
    lab.equal(send_some(gate, 4, "moved", large=0).acknowledged, 4)
    gate.stop()
    segments = lambda: sorted(n for n in os.listdir(os.path.join(gate.home, "spool")) if n.startswith("seg-"))
    first = segments()[0]
    gate.disk.journal(True)
    gate.start()
    gate.disk.arm("sync", errno.EIO, only="spool/seg-") # the copies are not on disk: both stay, until that is certain
    lab.eventually(lambda: gate.disk["hits"], 10)
    lab.equal(first in segments(), True)
    lab.eventually(lambda: first not in segments(), 20, "the old segment is cleared")
    lab.equal(len(segments()), 1, "nothing is kept of the copies that were not needed")
    gate.kill()
    gate.disk.power_cut()
    gate.start()
    gate.console("resumedel")
    gate.arrived(20)
    gate.stop()


@lab.test("a disk that lies loses mail, and these tests would see it; the gateway starts all the same")
def liar():
    gate = Gateway()
    gate.console("suspenddel 0")
    gate.disk.journal(True)
    gate.disk.arm("sync", action="lie", times=faults.FOREVER)
    load = send_some(gate, 20, "lie")
    lab.equal(load.acknowledged, 20)
    gate.kill()
    gate.disk.power_cut()
    gate.disk.clear()
    gate.start()
    left = len(gate.json("showrecipients all")["data"]["recipients"])
    lab.equal(left < 20, True, "%d of 20 survived a disk that never wrote" % left)
    lab.equal(send_some(gate, 5, "truth").acknowledged, 5)
    gate.stop()


lab.main(jobs=4)
