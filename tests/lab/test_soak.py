# The promise of a 250, held against thousands of kills and power cuts: small gateways side by side, each with senders that
# never rest and an administrator who deletes, redirects, bounces and commits meanwhile, die at random moments and at random
# calls of the disk. A few rounds in continuous integration; `make soak SECONDS=n` goes on for n seconds.
#
# What is asserted, for each recipient of each message:
#
#   - acknowledged with 250: it is delivered unchanged, or its sender is told (where it was refused or bounced), or an
#     administrator deleted it. Whatever was neither is lost.
#   - told 4xx or 5xx: it is never delivered, as long as the disk itself gave no error.
#   - delivered twice: only when the gateway died between the two, or was told to end its deliveries at once (suspenddel
#     0), and the first had ended at most OPEN seconds before that. A delivery is in flight from MAIL until the record of
#     its end is on disk, which the gateway writes at most 200 ms later; the rest of OPEN is for a busy machine. Longer
#     ago it may be only when two changes of the queue were not yet written that began SLOW seconds later than it was due:
#     the second would have had it. The longest within OPEN is told. While the disk takes nothing, nothing is recorded.
#   - deleted, and the administrator was told so: never delivered after that.
#   - a commit that was acknowledged is there; a MID is given out once.
#
# When all is delivered the queue is empty, the spool holds no file of a large message and no more than a few segments.

import errno
import json
import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time

import faults
import lab

SOAK = float(os.environ.get("SOAK_SECONDS", 0))
SEED = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(1 << 32))
LONGEST = 30.0 # seconds in which a machine must be able to write something
OPEN, SLOW = (1.0, 1.0) if "san" not in os.path.basename(lab.BUILD) else (5.0, 5.0)
GATEWAYS = int(os.environ.get("SOAK_GATEWAYS") or 6 if SOAK else 3)
SETTLE = 25 # rounds after which everything is counted
EVERY = " ".join(faults.CHANGES)
CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CERTIFICATE.check_hostname = False
CERTIFICATE.verify_mode = ssl.CERT_NONE


class Book:
    """What senders were told, and what came of it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sha, self.rcpts, self.at = {}, {}, {} # of acknowledged messages
        self.doubtful, self.refused = {}, {} # ID: SHA-256; no answer came; the answer was no
        self.offered = {} # ID: recipients, of these too
        self.mids = {}
        self.deletions = [] # (began, answered, domain), of those that left nothing out
        self.attempted = set() # domains a deletion was asked for
        self.total = dict.fromkeys(("acknowledged", "recipients", "delivered", "bounced", "deleted", "copies", "doubtful",
                                    "doubtful_delivered", "refused", "large"), 0)
        self.longest = 0.0

    def acknowledge(self, message, rcpts, reply):
        mid = re.search(r"Message (\d+) accepted", reply)
        with self.lock:
            if mid:
                if mid[1] in self.mids:
                    raise RuntimeError("MID %s was given to %s and to %s" % (mid[1], self.mids[mid[1]], message.id))
                self.mids[mid[1]] = message.id
            self.sha[message.id], self.rcpts[message.id], self.at[message.id] = message.sha256, rcpts, time.monotonic()
            self.total["acknowledged"] += 1
            self.total["recipients"] += len(rcpts)
            self.total["large"] += len(message.data) > 1 << 20


class Sender(threading.Thread):
    """Never rests, never sends a message twice."""

    KINDS = (("ok", 60), ("b", 14), ("bad", 6), ("t", 5), ("del", 8), ("later", 7)) # domains; b, del: often unreachable

    def __init__(self, worker, number, seed):
        super().__init__(daemon=True)
        self.worker, self.number, self.rng = worker, number, random.Random(seed)
        self.stopping = False
        self.error = None

    def run(self):
        try:
            while not self.stopping:
                self.session()
        except Exception as e: # told by the worker
            self.error = e

    def message(self):
        w, rng = self.worker, self.rng
        w.serial[self.number] += 1
        ident = "%s-%d-%d" % (w.name, self.number, w.serial[self.number])
        size = rng.choice((300, 300, 2000, 2000, 5000, 20000, 70000))
        if rng.random() < 0.03:
            size = rng.choice((200000, 1500000, 4700000)) # the last has a file of its own
        many = rng.choice((1, 1, 1, 1, 2, 3, 10)) if rng.random() > 0.01 else 150
        kinds = rng.choices([k for k, _ in self.KINDS], [n for _, n in self.KINDS], k=many)
        if kinds.count("bad") > 1: # one report for each message
            kinds = ["ok" if k == "bad" else k for k in kinds]
        rcpts = ["%s.%d@%s.lab.example" % (ident, n, k if k != "ok" else "d%d" % rng.randrange(5)) for n, k in enumerate(kinds)]
        return lab.make_message(ident, size, rng.choice(("plain", "dots", "eightbit", "attachment")), rng), rcpts

    def session(self):
        rng = self.rng
        try:
            c = lab.Smtp(self.worker.gate.private, timeout=30)
        except (OSError, EOFError, AssertionError):
            time.sleep(0.01)
            return
        try:
            c.ehlo()
            if rng.random() < 0.1 and c.has("STARTTLS"):
                c.starttls(CERTIFICATE)
            for _ in range(rng.randrange(1, 40)):
                if self.stopping or not self.send(c):
                    break
                time.sleep(rng.choice((0, 0.002, 0.01, 0.03)))
        except (OSError, EOFError, AssertionError):
            time.sleep(0.005)
        finally:
            c.close()

    def send(self, c):
        """False: the session is of no more use."""
        book = self.worker.book
        message, rcpts = self.message()
        chunks = self.rng.random() < 0.25
        body = "8BITMIME"
        replies = c.pipeline(["MAIL FROM:<s-%s@client.lab.example> BODY=%s" % (message.id, body)]
                             + ["RCPT TO:<%s>" % r for r in rcpts])
        if any(code >= 400 for code, _ in replies):
            time.sleep(0.005)
            return replies[0][0] != 421 and c.cmd("RSET")[0] == 250
        if not chunks and c.cmd("DATA")[0] != 354:
            return c.cmd("RSET")[0] == 250
        with book.lock:
            book.doubtful[message.id] = message.sha256
            book.offered[message.id] = rcpts
        if chunks:
            at = 0
            while at < len(message.data):
                n = min(len(message.data) - at, self.rng.choice((1000, 30000, 1 << 20)))
                last = at + n == len(message.data)
                c.raw(b"BDAT %d%s\r\n" % (n, b" LAST" if last else b"") + message.data[at:at + n])
                code, texts = c.reply()
                at += n
                if code != 250:
                    break
        else:
            c.raw(lab.stuffed(message))
            code, texts = c.reply()
        if code == 250:
            book.acknowledge(message, rcpts, texts[-1])
        else:
            with book.lock:
                book.refused[message.id] = message.sha256
            book.total["refused"] += 1
        with book.lock:
            del book.doubtful[message.id]
        return code == 250 or (code != 421 and c.cmd("RSET")[0] == 250)


class Worker:
    """One gateway, its peers, and all that befalls it."""

    ROUNDS = (("kill", 45), ("cut", 35), ("fault", 10), ("engine", 4), ("stop", 6))

    def __init__(self, number, until, least):
        self.rng = random.Random("%d/%d" % (SEED, number))
        self.name = "w%d" % number
        self.until, self.least = until, least
        self.book = Book()
        self.deaths = [] # (from, to): it died within
        self.lives = dict.fromkeys((k for k, _ in self.ROUNDS), 0)
        self.undone = self.spoilt = self.commands = self.commits = 0
        self.entries = set()
        self.serial = [0] * 3
        self.dirty = False # the disk gave errors since the last settlement
        box = lab.Sandbox()
        self.disk = faults.Disk(box)
        self.events = [box.path("events-a"), box.path("events-b")]
        self.read_to = [0, 0]
        self.a = lab.Sink("--reply", "RCPT=550 5.1.1 No such user,*@bad.lab.example",
                          "--reply", "RCPT=451 4.2.1 Later,*@later.lab.example,%d" % (10 if SOAK else 3), events=self.events[0])
        self.b_port = lab.free_port()
        self.b = None
        self.gate = lab.Posternd(self.disk.home, env=self.disk.env)
        to_a, to_b = "127.0.0.1:%d" % self.a.port, "127.0.0.1:%d" % self.b_port
        self.gate.configure("\n".join((
            "listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000 max_rcpts_per_msg=1000"
            " max_message_size=50M",
            "listenerconfig edit OutboundMail hostaccess edit policy RELAYED tls=preferred",
            "smtproutes new ALL " + to_a, "smtproutes new b.lab.example " + to_b, "smtproutes new del.lab.example " + to_b,
            "destconfig new t.lab.example use_tls=require",
            "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=1000")) + "\n")

    # --- what befalls it ---

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.gate.private), timeout=2) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def ready(self):
        def serves():
            if not self.gate.child.running(): # no engine of it has ever served: a service manager starts it again
                self.gate.start(ready=False)
            return self.greets()
        lab.eventually(serves, 60, "the gateway greets")

    def end(self):
        """When a life ends: many end before they can serve, some see all that takes its time."""
        x = self.rng.random()
        if x < 0.2:
            return time.monotonic() + self.rng.uniform(0, 0.2)
        until = time.monotonic() + 20
        while not self.disk["frozen"] and self.gate.child.running() and not self.greets() and time.monotonic() < until:
            time.sleep(0.01)
        return time.monotonic() + self.rng.uniform(*((0, 0.4) if x < 0.9 else (0.4, 2) if x < 0.97 else (2, 5)))

    def one_life(self):
        rng, disk, gate = self.rng, self.disk, self.gate
        kind = rng.choices([k for k, _ in self.ROUNDS], [n for _, n in self.ROUNDS])[0]
        self.lives[kind] += 1
        self.trail.append("%s %.3f" % (kind, time.monotonic()))
        if kind in ("cut", "fault"):
            disk.journal(True)
        born = time.monotonic()
        if kind == "cut" and rng.random() < 0.8:
            disk.arm(EVERY, at=int(2 ** rng.uniform(0, 11)), action="die")
        gate.start(ready=False)
        if kind == "fault":
            self.ready()
            ops, error, action = rng.choice(((EVERY, errno.ENOSPC, "fail"), (EVERY, errno.EIO, "fail"), ("sync", errno.EIO, "fail"),
                                             ("write", errno.ENOSPC, "short"), ("open create", errno.EMFILE, "fail"),
                                             (EVERY, errno.EROFS, "fail"), ("read", errno.EIO, "fail")))
            disk.arm(ops, error, at=rng.randrange(1, 100), times=rng.choice((1, 1, 3, 1000)), action=action)
        ends = self.end()
        while time.monotonic() < ends and not disk["frozen"]:
            self.administer()
            time.sleep(max(0, min(0.01, ends - time.monotonic())))
        if kind == "fault":
            self.spoilt += disk.clear()
            self.dirty = True
        if kind == "stop":
            began = time.monotonic()
            gate.stop(60)
            self.deaths.append((began, time.monotonic(), OPEN, self.logged()))
            return
        died = time.monotonic()
        if kind == "engine":
            self.ready()
            died = time.monotonic()
            gate.kill_engine(ready=False)
            self.deaths.append((died, time.monotonic(), OPEN, self.logged()))
            died = time.monotonic()
        if kind in ("cut", "fault"):
            if disk["frozen"]:
                died = disk["died_us"] / 1e6
            disk["frozen"] = 1
        gate.kill()
        # what could not be written is tried again every two seconds
        self.deaths.append((died, time.monotonic(), OPEN if kind != "fault" else died - born, self.logged()))
        if kind in ("cut", "fault"):
            disk.clear()
            self.undone += disk.power_cut(rng if rng.random() < 0.7 else None)[0]
            disk["journal"] = 0

    def logged(self):
        """When the last group of changes but one that is on disk began to be written."""
        return self.disk["logged_us"] / 1e6

    def administer(self):
        rng = self.rng
        if rng.random() < 0.0015:
            if self.b:
                self.b.stop()
                self.b = None
            else:
                self.start_b()
        if rng.random() > 0.006 or self.busy():
            return
        self.admin = threading.Thread(target=self.command, args=(rng.randrange(1 << 30),), daemon=True)
        self.admin.start()

    admin = None
    trouble = None

    def busy(self):
        return self.admin and self.admin.is_alive()

    def start_b(self):
        if not self.b:
            self.b = lab.Sink(port=self.b_port, events=self.events[1])

    def command(self, seed):
        rng = random.Random(seed)
        what = rng.choice(("commit", "commit", "delete", "delete", "redirect", "bounce", "suspend", "now"))
        self.commands += 1
        began = time.monotonic()
        name = "n%d.example" % self.commands
        text = {"commit": 'destconfig new %s use_tls=on; commit "n" Y' % name,
                "delete": "deleterecipients host del.lab.example --json",
                "redirect": "redirectrecipients host 127.0.0.1:%d" % self.a.port,
                "bounce": "bouncerecipients host b.lab.example --json",
                "suspend": "suspenddel 0; resumedel",
                "now": "delivernow all"}[what]
        self.asked.add(what)
        try:
            done = self.gate.console(text, check=False, timeout=60)
        except subprocess.TimeoutExpired:
            self.trouble = "no answer to %s" % text
            return
        if what == "suspend": # it ends open deliveries at once
            self.deaths.append((began, time.monotonic(), OPEN, 0))
        if done.returncode:
            if what == "commit":
                self.gate.console("clearchanges y", check=False, timeout=60)
            return
        if what == "commit":
            self.entries.add(name)
            self.commits += 1
        if what == "delete":
            data = json.loads(done.stdout)["data"]
            with self.book.lock:
                if not data.get("busy") and not data.get("failed") and not data.get("stopped"):
                    self.book.deletions.append((began, time.monotonic()))

    # --- the reckoning ---

    def explained(self, first, second):
        """Did the gateway die between the two, soon after the first?"""
        for began, ended, window, logged in self.deaths:
            if not (first <= ended + 0.5 and began < second and began - first <= LONGEST):
                continue
            if began - first <= window or logged <= first + 0.2 + SLOW:
                if window == OPEN:
                    self.book.longest = max(self.book.longest, began - first)
                return True
        return False

    def read_events(self):
        for n, path in enumerate(self.events):
            if not os.path.exists(path):
                continue
            with open(path, "rb") as f:
                f.seek(self.read_to[n])
                data = f.read()
            data = data[:data.rfind(b"\n") + 1]
            self.read_to[n] += len(data)
            for line in data.splitlines():
                e = json.loads(line)
                for rcpt in e.get("rcpts", ()):
                    self.came.setdefault(rcpt, []).append((e["at"], e["id"], e["sha"]))
                if "refused" in e:
                    self.denied.setdefault(e["refused"], []).append(e["at"])

    def begin_count(self):
        self.came, self.denied, self.asked = {}, {}, set()

    def missing(self):
        """Recipients of which nothing is known yet."""
        self.read_events()
        out = []
        for ident, rcpts in self.book.rcpts.items():
            for r in rcpts:
                told = "s-%s@client.lab.example" % ident
                if r in self.came or (told in self.came and (r in self.denied or ("bounce" in self.asked and "@b." in r))):
                    continue
                if "@del." in r and "delete" in self.asked:
                    continue # the queue's being empty is asked for
                out.append(r)
        return out

    def settle(self):
        """Everything comes to its end; then it is counted."""
        book = self.book
        self.gate.start(ready=False)
        self.ready()
        for s in self.senders:
            s.stopping = True
        for s in self.senders:
            s.join(60)
            if s.error or s.is_alive():
                raise s.error or RuntimeError("a sender hangs")
        if self.admin:
            self.admin.join(90)
        if self.trouble:
            raise RuntimeError(self.trouble)
        self.start_b()
        self.gate.wait_ready()
        self.gate.console("resumedel; delivernow all", check=False)

        def all_known():
            left = self.missing()
            if left:
                raise lab.Failure("%d of %d recipients LOST: %s" % (len(left), sum(map(len, book.rcpts.values())), left[:10]))
            return True
        try:
            lab.eventually(all_known, 90)
        except lab.Failure:
            self.gate.console("delivernow all", check=False)
            lab.note(self.gate.console("showrecipients all", check=False).stdout[-2000:])
            raise
        lab.eventually(lambda: self.gate.json("showrecipients all")["data"]["recipients"] == [], 60, "the queue is empty")
        self.read_events()
        self.count()
        listed = set(re.findall(r"\bn\d+\.example", self.gate.console("destconfig list").stdout))
        if self.entries - listed:
            raise RuntimeError("commits are lost: %s" % sorted(self.entries - listed))
        spool = os.path.join(self.disk.home, "spool")
        def kept():
            names = os.listdir(spool)
            large = [n for n in names if n.startswith("file-")]
            segments = [n for n in names if n.startswith("seg-")]
            lab.equal((large, segments if len(segments) > 2 else []), ([], []), "an empty queue keeps them after %s" % self.trail)
            return True
        lab.eventually(kept, 10)
        self.gate.stop(60)
        self.deaths.clear()
        self.dirty = False

    def count(self):
        book, total = self.book, self.book.total
        sha = dict(book.sha)
        sha.update(book.doubtful)
        for rcpt, deliveries in self.came.items():
            if rcpt.startswith("s-"):
                self.count_reports(rcpt, deliveries)
                continue
            ident = rcpt.partition(".")[0]
            if ident in book.refused:
                if not self.dirty:
                    raise RuntimeError("%s was refused, and delivered" % rcpt)
                continue
            if ident not in sha:
                raise RuntimeError("%s was delivered: nobody sent it" % rcpt)
            deliveries.sort()
            for n, (at, got, body) in enumerate(deliveries):
                if got != ident or body != sha[ident]:
                    raise RuntimeError("%s came changed, as %s" % (rcpt, got))
                if n and not self.explained(deliveries[n - 1][0], at):
                    raise RuntimeError("%s came at %.3f and again at %.3f; the gateway died at %s"
                                       % (rcpt, deliveries[n - 1][0], at, self.deaths[-60:]))
            if ident in book.doubtful:
                total["doubtful_delivered"] += 1
                continue
            total["delivered"] += 1
            total["copies"] += len(deliveries) - 1
            if "@del." in rcpt:
                for began, ended in book.deletions:
                    if book.at[ident] < began and deliveries[-1][0] > ended + 0.5:
                        raise RuntimeError("%s was deleted at %.3f and delivered at %.3f" % (rcpt, ended, deliveries[-1][0]))
        for ident, rcpts in book.rcpts.items():
            for r in rcpts:
                total["deleted"] += r not in self.came and "@del." in r
                total["bounced"] += r not in self.came and "@del." not in r
        total["doubtful"] += len(book.doubtful)
        for d in (book.sha, book.rcpts, book.at, book.doubtful, book.refused, book.offered):
            d.clear()
        book.deletions.clear()
        self.begin_count()

    def count_reports(self, rcpt, reports):
        """A report may come twice, as any message, and be made twice, when what was refused was not yet written."""
        ident = rcpt[2:].partition("@")[0]
        rcpts = self.book.offered[ident]
        refusals = sorted(at for r in rcpts for at in self.denied.get(r, ()))
        reports.sort()
        spare = "bounce" in self.asked and any("@b." in r for r in rcpts)
        for n, (at, _, _) in enumerate(reports):
            before = reports[n - 1][0]
            if n and not self.explained(before, at) and not any(self.explained(r, at) for r in refusals) and not spare:
                raise RuntimeError("the report to %s came at %.3f and again at %.3f; refused at %s; the gateway died at %s"
                                   % (rcpt, before, at, refusals, self.deaths[-60:]))
        self.book.total["copies"] += max(0, len(reports) - 1 - spare)

    def run(self):
        self.begin_count()
        self.gate.stop()
        rounds = 0
        while rounds < self.least or time.monotonic() < self.until:
            self.senders = [Sender(self, n, self.rng.randrange(1 << 30)) for n in range(3)]
            for s in self.senders:
                s.start()
            self.trail = []
            for _ in range(min(SETTLE, self.least)):
                self.one_life()
                rounds += 1
            self.settle()
        return {"lives": self.lives, "undone": self.undone, "spoilt": self.spoilt, "commands": self.commands,
                "commits": self.commits, "longest": self.book.longest, **self.book.total}


@lab.test("kills, power cuts and failing disks at any moment: nothing acknowledged is lost, nothing comes twice without need")
def soak():
    lab.note("seed %d" % SEED)
    until = time.monotonic() + SOAK
    results = lab.all_forked([lambda n=n: Worker(n, until, 8).run() for n in range(GATEWAYS)], GATEWAYS)
    failed = [n for n, r in enumerate(results) if r == 1]
    results = [r for r in results if r != 1]
    if results:
        lives = {k: sum(r["lives"][k] for r in results) for k in results[0]["lives"]}
        s = {k: sum(r[k] for r in results) for k in results[0] if k not in ("lives", "longest")}
        lab.note("%d rounds: kill -9 of everything %d, of the engine %d, power cuts %d, power cuts on a failing disk %d, orderly"
                 " ends %d" % (sum(lives.values()), lives["kill"], lives["engine"], lives["cut"], lives["fault"], lives["stop"]))
        lab.note("%d unsynced changes undone, %d calls spoilt, %d commands, %d commits kept"
                 % (s["undone"], s["spoilt"], s["commands"], s["commits"]))
        lab.note("acknowledged %d (%d over 1 MiB) for %d recipients: delivered %d, bounced %d, deleted %d, lost 0; copies %d, all"
                 " in flight when the gateway died (at most %.2f s before)"
                 % (s["acknowledged"], s["large"], s["recipients"], s["delivered"], s["bounced"], s["deleted"], s["copies"],
                    max(r["longest"] for r in results)))
        lab.note("without an answer %d, of which recipients had their message all the same %d; refused %d"
                 % (s["doubtful"], s["doubtful_delivered"], s["refused"]))
    lab.equal(failed, [], "gateways whose promise was broken")


lab.main()
