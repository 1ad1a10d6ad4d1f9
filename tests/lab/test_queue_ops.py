# The queue in an operator's hands: shown, deleted, bounced, redirected, message by message and all at once, while mail
# comes and goes.

import contextlib
import email
import email.policy
import json
import mailbox
import os
import queue
import re
import socket
import threading
import time

import lab
import terminal
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"), start=False)
sink = lab.Sink("--store", box.mkdir("mail"))
closed = lab.free_port()


def setup():
    if gate.child:
        return
    gate.start()
    gate.configure("\n".join([
        "sethostname gw.lab.example",
        "bounceconfig edit Default initial_retry=3600 max_retry=3600",
        "smtproutes new good.example 127.0.0.1:%d" % sink.port,
        "smtproutes new client.lab.example 127.0.0.1:%d" % sink.port,
        "smtproutes new dead.example 127.0.0.1:%d" % closed,
        "smtproutes new dead2.example 127.0.0.1:%d" % closed,
    ]) + "\n")


def submit(ident, rcpts, sender="sender@client.lab.example", extra=""):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s>%s" % (sender, extra), 250)
        for r in rcpts:
            c.cmd("RCPT TO:<%s>" % r, 250)
        c.data(lab.make_message(ident, 700, "plain"))
        c.quit()


def queued(by="all"):
    return gate.json("showrecipients %s" % by)["data"]["recipients"]


def stored():
    return [lab.read_text(os.path.join(box.path("mail"), n)) for n in sorted(os.listdir(box.path("mail")))]


def empty():
    gate.console("deleterecipients all")
    lab.eventually(lambda: not queued(), 10)


def counters():
    return {k: v["lifetime"] for k, v in gate.json("status detail")["data"]["counters"].items()}


@lab.test("shown by host, sender, MID, page by page")
def shown():
    setup()
    for i in range(5):
        submit("show%d" % i, ["a@dead.example", "b@dead2.example"], sender="s%d@client.lab.example" % (i % 2))
    lab.eventually(lambda: len(queued()) == 10, 10)
    lab.equal(len(queued("host DEAD.example")), 5)
    lab.equal(len(queued("sender s1@client.lab.example")), 4)
    mid = queued()[4]["mid"]
    lab.equal([(r["mid"], r["rid"]) for r in queued("mid %d" % mid)], [(mid, 0), (mid, 1)])
    page = gate.json("showrecipients all limit=4")["data"]
    lab.equal((len(page["recipients"]), page["more"]), (4, True))
    rest = gate.json("showrecipients all after=%d" % page["next"])["data"]
    lab.equal((len(rest["recipients"]), rest["more"]), (6, False))
    lab.equal(queued("mid 99999999"), [])


@lab.test("deleted by host: other recipients of the same message stay; nobody is told; the log and the counters say so")
def deleted():
    setup()
    before = counters()
    done = gate.console("deleterecipients host dead2.example")
    lab.match(done.stdout, r"\A5 messages deleted\.\n\Z")
    lab.equal({r["recipient"] for r in queued()}, {"a@dead.example"})
    mid = queued()[0]["mid"]
    lab.eventually(lambda: len(gate.maillog().find(r"Deleted: MID %d to RID \[1\]" % mid)) == 1, 10)
    after = counters()
    lab.equal((after["deleted_recips"] - before["deleted_recips"], after["completed_recips"] - before["completed_recips"]), (5, 5))
    lab.equal(gate.json("hoststatus dead2.example")["data"]["gauges"]["active_recips"], 0)
    gate.kill_engine()
    lab.equal({r["recipient"] for r in queued()}, {"a@dead.example"}, "said to be deleted is deleted")
    lab.match(gate.console("deleterecipients sender s1@client.lab.example").stdout, r"\A2 messages deleted")
    lab.match(gate.console("deleterecipients all").stdout, r"\A3 messages deleted")
    lab.equal(queued(), [])
    lab.eventually(lambda: len(gate.maillog().find(r"Message finished MID %d done" % mid)) == 1, 10)
    lab.match(gate.console("deleterecipients all").stdout, r"\A0 messages deleted")
    status = gate.json("status")["data"]["gauges"]
    lab.equal((status["active_recips"], status["dests_in_memory"] < 10), (0, True))


@lab.test("the dialog asks before it deletes; no leaves everything as it is")
def dialog():
    setup()
    submit("dialog", ["a@dead.example"])
    lab.eventually(lambda: len(queued()) == 1, 10)
    t = terminal.console(gate)
    t.ask("deleterecipients", pattern=r"\]> ")
    t.ask("1", pattern=r"\]> ")
    out = t.ask("dead.example", pattern=r"\]> ")
    lab.match(out, r'Are you sure you want to delete all messages being delivered to "dead\.example"\? \[N\]> ')
    t.ask("")
    lab.equal(len(queued()), 1)
    t.ask("deleterecipients", pattern=r"\]> ")
    out = t.ask("3", pattern=r"\]> ")
    lab.match(out, r"Are you sure you want to delete all messages in the delivery queue \(all active recipients\)\? \[N\]> ")
    out = t.ask("Y")
    lab.match(out, r"Deleting messages, please wait\.\n\n1 messages deleted\.\n")
    t.stop()
    lab.equal(queued(), [])


@lab.test("bounced: the sender gets a report, the null sender none, NOTIFY=NEVER none")
def bounced():
    setup()
    gate.console("suspenddel 0")
    submit("bounce", ["a@dead.example", "b@dead.example"])
    submit("null", ["a@dead.example"], sender="")
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<quiet@client.lab.example>", 250)
        c.cmd("RCPT TO:<c@dead.example> NOTIFY=NEVER", 250)
        c.data(lab.make_message("never", 500, "plain"))
        c.quit()
    lab.eventually(lambda: len(queued()) == 4, 10)
    before = counters()
    data = gate.json("bouncerecipients host dead.example")["data"]
    lab.equal((data["messages"], data["recipients"], data["reports"], data["failed"]), (3, 4, 1, 0))
    after = counters()
    lab.equal(after["other_hard_bounced_recips"] - before["other_hard_bounced_recips"], 4)
    gate.console("resumedel")
    lab.eventually(lambda: any("a@dead.example" in text for text in stored()), 15)
    report = [m for m in map(lambda t: email.message_from_string(t, policy=email.policy.default), stored()) if m.get_content_type() == "multipart/report"]
    lab.equal(len(report), 1)
    text = report[0].as_string()
    lab.match(text, "Status: 5\\.3\\.0")
    lab.match(text, "Bounced by an administrator")
    lab.match(text, "Final-Recipient: rfc822; b@dead.example")
    lab.equal(queued(), [])
    lab.equal(len(gate.maillog().find(r"Double bounce: MID \d+ to 0 - 5\.3\.0")), 1)


@lab.test("redirected: what is queued goes to another host, what comes later does not; it outlives a restart and can be taken back")
def redirected():
    setup()
    submit("red1", ["a@dead.example", "b@dead2.example"])
    submit("red2", ["c@dead.example"])
    lab.eventually(lambda: len(queued()) == 3, 10)
    gate.console("suspenddel 0")
    lab.match(gate.console("redirectrecipients host 127.0.0.1:%d" % closed).stdout, r"\A3 recipients redirected")
    lab.equal({r["redirected_to"] for r in queued()}, {"[127.0.0.1]:%d" % closed})
    lab.match(gate.console("redirectrecipients host USEDNS").stdout, r"\A3 recipients redirected")
    lab.equal([r.get("redirected_to") for r in queued()], [None] * 3)
    gate.console("redirectrecipients host 127.0.0.1:%d" % sink.port)
    gate.kill_engine()
    lab.equal({r["redirected_to"] for r in queued()}, {"[127.0.0.1]:%d" % sink.port})
    submit("later", ["d@dead.example"])
    gate.console("resumedel")
    lab.eventually(lambda: [r["recipient"] for r in queued()] == ["d@dead.example"], 15)
    got = "".join(stored())
    lab.equal(("red1" in got, "red2" in got, "later" in got), (True, True, False))
    with contextlib.closing(Control(gate.home)) as control: # recipients of other hosts would go there, too
        refused = control.refused("E_USAGE", "queue.redirect", by="host", value="dead.example", host="127.0.0.1:%d" % sink.port)
    lab.match(refused["message"], "Whole messages are redirected")
    done = gate.console("redirectrecipients host not..a..host", check=False)
    lab.equal(done.returncode, 3)
    lab.match(done.stderr, "is no host")
    empty()


class Slow:
    """A host that has a whole message and says nothing, until it is told what to say to it."""

    def __init__(self, *idents):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.words, self.got = {i.encode(): queue.Queue() for i in idents}, []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, s):
        data = b""
        s.sendall(b"220 slow\r\n")
        for line in s.makefile("rb"):
            if data and line != b".\r\n":
                data += line
            elif data:
                ident = re.search(rb"X-Bench-Id: (\S+)", data)[1]
                self.got.append(ident.decode())
                s.sendall(self.words[ident].get())
                data = b""
            else:
                data = b"\n" if line == b"DATA\r\n" else b""
                s.sendall(b"354 go\r\n" if data else b"250 ok\r\n")
        s.close()


@lab.test("redirected while one of its recipients is being delivered: that one goes where it was going, the others elsewhere, each once")
def redirected_under_delivery():
    setup()
    slow = Slow("under-yes", "under-no")
    gate.configure("smtproutes new slow.example 127.0.0.1:%d\n" % slow.port)
    for ident in ("under-yes", "under-no"):
        submit(ident, ["a@slow.example", "b@dead.example", "c@dead2.example"])
    lab.eventually(lambda: len(slow.got) == 2, 10)
    done = gate.json("redirectrecipients host 127.0.0.1:%d" % sink.port)["data"]
    lab.equal((done["recipients"], done["busy"]), (4, 2))
    lab.eventually(lambda: [r["recipient"] for r in queued()] == ["a@slow.example"] * 2, 10)
    slow.words[b"under-yes"].put(b"250 ok\r\n") # delivered where it was going, and nowhere else
    slow.words[b"under-no"].put(b"451 4.2.1 later\r\n") # goes where all of the message goes now, over a restart too
    lab.eventually(lambda: [(r["recipient"], r["attempts"]) for r in queued()] == [("a@slow.example", 1)], 10)
    time.sleep(0.3)
    gate.kill_engine()
    lab.equal([(r["recipient"], r["attempts"], r["redirected_to"]) for r in queued()],
              [("a@slow.example", 1, "[127.0.0.1]:%d" % sink.port)])
    gate.console("delivernow all")
    lab.eventually(lambda: queued() == [], 10)
    lab.equal(sorted(slow.got), ["under-no", "under-yes"])
    lab.equal(sorted(re.findall(r"(?m)^X-Bench-Id: (under-\S+)", "".join(stored()))), ["under-no"] * 2 + ["under-yes"])
    text = gate.maillog().text()
    mids = re.findall(r"MID (\d+) ICID \d+ RID 0 To: <a@slow.example>", text)
    lab.eventually(lambda: [sorted(re.findall(r"Message done DCID \d+ MID %s to RID \[([^]]*)\]" % m, gate.maillog().text()))
                            for m in mids] == [["0", "1, 2"]] * 2, 10) # the log is written a moment later


@lab.test("one message: shown escaped and in part, saved whole, removed")
def one_message():
    setup()
    gate.console("suspenddel 0")
    body = "Subject: odd \x1b[31m\r\nFrom: <a@client.lab.example>\r\n\r\nFrom here\r\n\tred \x1b[31mtext\r\n..dots\r\nlast\r\n"
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.lab.example>", 250)
        c.cmd("RCPT TO:<x@dead.example>", 250)
        c.cmd("DATA", 354)
        c.raw(body.replace("\r\n..", "\r\n...").encode() + b".\r\n")
        c.expect(250)
        c.quit()
    submit("big", ["y@dead.example"])
    mid = queued()[0]["mid"]
    text = gate.console("showmessage %d" % mid).stdout
    lab.match(text, r"\AMID %d: (\d+ secs?|0 secs) old\nEnvelope From: a@client\.lab\.example\nEnvelope To: x@dead\.example\n\nReceived: " % mid)
    lab.match(text, r"\nFrom here\n\tred \\x1B\[31mtext\n\.\.dots\nlast\n\Z")
    lab.equal("\x1b" in text, False)
    short = gate.json("showmessage %d bytes=100" % mid)["data"]
    lab.equal((short["truncated"], len(short["text"]) < 200), (True, True))
    old = gate.console("oldmessage").stdout
    lab.match(old, r"\AMID %d: .* old\nReceived: " % mid)
    lab.equal("red" in old, False)
    out = gate.console("archivemessage %d" % mid).stdout
    lab.match(out, r"\AMID %d has been saved in file oldmessage_%d\.mbox in the export area \(/" % (mid, mid))
    path = os.path.join(gate.home, "export", "oldmessage_%d.mbox" % mid)
    raw = open(path, "rb").read()
    lab.match(raw.decode("latin-1"), r"\AFrom a@client\.lab\.example \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nReceived: ")
    lab.match(raw.decode("latin-1"), r"\n>From here\n\tred \x1b\[31mtext\n\.\.dots\nlast\n\n\Z")
    lab.equal(b"\r" in raw, False)
    messages = list(mailbox.mbox(path))
    lab.equal(len(messages), 1)
    done = gate.console("archivemessage %d" % mid, check=False)
    lab.match(done.stderr, "already exists")
    gate.console("archivemessage %d format=eml file=one.eml" % mid)
    eml = open(os.path.join(gate.home, "export", "one.eml"), "rb").read()
    lab.equal(eml.endswith(body[body.index("\r\n\r\n"):].encode()), True)
    gate.console("removemessage %d" % mid)
    lab.equal([r["recipient"] for r in queued()], ["y@dead.example"])
    for command in ("showmessage %d", "removemessage %d", "archivemessage %d file=never.mbox"):
        done = gate.console(command % mid, check=False)
        lab.equal(done.returncode, 7, command)
        lab.match(done.stderr, r'There is no message with the MID %d in the queue\. "findevent -m %d mail_logs" says' % (mid, mid))
    lab.match(gate.console("showmessage 987654321", check=False).stderr, "MID 987654321 in the queue; none has had it yet")
    lab.equal(gate.console("showmessage x", check=False).returncode, 2)
    empty()
    lab.equal(gate.console("oldmessage").stdout, "No Messages\n")
    gate.console("resumedel")


@lab.test("everything deleted while it is being delivered: each message is delivered or deleted, once, and none is lost")
def delete_under_delivery():
    setup()
    slow = lab.Sink(digest=box.path("digests"))
    gate.configure("smtproutes new fast.example 127.0.0.1:%d\n" % slow.port)
    gate.console("suspenddel 0")
    count = 4000
    load(count, "fast.example")
    before = counters()
    gate.console("resumedel")
    data = gate.json("deleterecipients host fast.example")["data"]
    lab.eventually(lambda: not queued("host fast.example"), 60)
    after = counters()
    delivered = after["delivered_recips"] - before["delivered_recips"]
    gone = after["deleted_recips"] - before["deleted_recips"]
    lab.note("%d delivered, %d deleted, %d busy" % (delivered, gone, data["busy"]))
    lab.equal(delivered + gone, count)
    lab.equal(data["messages"], gone)
    lab.eventually(lambda: slow.stats()["messages"] == delivered, 10)
    ids = [d[0] for d in slow.digests()]
    lab.equal(len(ids), len(set(ids)), "nothing twice")


def load(count, domain, sessions=10):
    """Quickly into the queue, over a few connections."""
    def some(n, first):
        with lab.Smtp(gate.private) as c:
            c.ehlo()
            for i in range(n):
                c.send("MAIL FROM:<l@client.lab.example>\r\nRCPT TO:<u%d@%s>\r\nDATA" % (i, domain))
                c.expect(250)
                c.expect(250)
                c.expect(354)
                c.raw(("X-Bench-Id: %s%d\r\nSubject: t\r\n\r\nx\r\n.\r\n" % (domain, first + i)).encode())
                c.expect(250)
            c.quit()

    threads = [threading.Thread(target=some, args=(count // sessions, k * (count // sessions))) for k in range(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@lab.test("mail goes on while many are deleted: the slowest acceptance meanwhile, Ctrl-C leaves a whole queue")
def goes_on():
    setup()
    gate.console("deleterecipients all")
    load(6000, "dead.example")
    lab.eventually(lambda: gate.json("status")["data"]["gauges"]["active_recips"] >= 6000, 20)
    t = terminal.console(gate)
    t.ask("deleterecipients host dead.example", pattern=r"\[N\]> ")
    t.type("y")
    t.type("\x03", enter=False)
    t.until(r"gw\.lab\.example> ")
    t.stop()
    left = gate.json("status")["data"]["gauges"]["active_recips"]
    lab.note("Ctrl-C left %d of 6000" % left)
    lab.equal(len(queued()), left)
    slowest, stop = [0.0], threading.Event()

    def accept():
        n = 0
        with lab.Smtp(gate.private) as c:
            c.ehlo()
            while not stop.is_set():
                began = time.monotonic()
                c.mail("l@client.lab.example", ["ok%d@good.example" % n])
                c.data(lab.make_message("on%d" % n, 400, "plain"))
                slowest[0] = max(slowest[0], time.monotonic() - began)
                n += 1
            c.quit()

    thread = threading.Thread(target=accept)
    thread.start()
    began = time.monotonic()
    done = gate.console("deleterecipients host dead.example")
    took = time.monotonic() - began
    stop.set()
    thread.join()
    lab.match(done.stdout, r"\A%d messages deleted" % left)
    lab.note("%d deleted in %.2f s; the slowest message meanwhile took %.0f ms" % (left, took, slowest[0] * 1000))
    lab.equal(slowest[0] < 2, True)
    lab.eventually(lambda: not queued(), 20)


@lab.test("every operation is in the audit log with who, what and how many")
def audited():
    setup()
    gate.stop()
    done = lab.run(["sqlite3", "file:%s?mode=ro" % os.path.join(gate.home, "audit.db"),
                    "SELECT action, object, result, detail FROM audit WHERE action LIKE 'queue.%'"])
    for pattern in (r"queue\.delete\|host dead2\.example\|ok\|5 messages, 5 recipients", r"queue\.bounce\|host dead\.example\|ok\|3 messages, 4 recipients",
                    r"queue\.redirect\|all to \[127\.0\.0\.1\]:\d+\|ok\|2 messages, 3 recipients", r"queue\.message\|MID \d+\|ok", r"queue\.archive\|MID \d+\|ok",
                    r"queue\.oldest\|MID \d+\|ok", r"queue\.suspend\|delivery\|ok"):
        lab.match(done.stdout, pattern)


lab.main()
