# The promise of a 250: the engine is killed again and again under load, and every message it acknowledged arrives, bit for
# bit. What was in flight may come twice.

import os
import random
import re
import time

import lab

rng = random.Random(os.environ.get("TEST_SEED", "postern"))


LEDGER = 8 << 20 # the first bytes of a segment have the envelopes, the rest the bodies


def start(box, *statements):
    gateway = lab.Posternd(box.path("home"))
    gateway.console("; ".join(("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000"
                               " max_rcpts_per_msg=1000 max_message_size=50M",
                               "bounceconfig edit Default initial_retry=1 max_retry=2 max_retries=1000") + statements)
                    + '; commit "test" Y')
    return gateway


def acked(path):
    """The generator's own list: {id: sha256}."""
    return dict(line.split() for line in lab.read_text(path).splitlines())


def all_arrive(sinks, want, timeout=120):
    """Waits until each message has come to two of the sinks, one for each recipient; how many came to one twice."""
    def complete():
        places = {i: 0 for i in want}
        copies = 0
        for sink in sinks:
            here = set()
            for ident, sha in sink.digests():
                if ident in want and want[ident] != sha:
                    raise RuntimeError("%s came changed" % ident)
                copies += ident in here
                here.add(ident)
            for ident in here.intersection(want):
                places[ident] += 1
        missing = [i for i, n in places.items() if n != 2]
        if missing:
            raise lab.Failure("%d of %d did not come to two: %s ..." % (len(missing), len(want), missing[:5]))
        return copies + 1

    return lab.eventually(complete, timeout) - 1


@lab.test("kill -9 of the engine, and of everything, under load loses nothing that was acknowledged")
def kills():
    box = lab.Sandbox()
    sinks = [lab.Sink(digest=box.path("digest%d" % n)) for n in range(3)] # one for each domain of the generator
    gateway = start(box, *["smtproutes new d%d.bench.example 127.0.0.1:%d" % (n, s.port) for n, s in enumerate(sinks)])
    loads = [lab.Child([lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % gateway.private, "--sessions", "10",
                        "--messages", str(count), "--size", str(size), "--domains", "3", "--rcpts", "2", "--id", name,
                        "--rate", str(rate), "--survive", "--acked", box.path(name)])
             for name, count, size, rate in (("small", 6000, 3000, 1500), ("large", 60, 1500000, 15))]
    kills = 0
    while any(c.running() for c in loads) and kills < 8:
        time.sleep(rng.uniform(0.3, 1.2))
        if kills % 3 == 0:
            gateway.kill_engine(timeout=60)
        else: # the supervisor waits longer each time
            gateway.kill()
            gateway.start(timeout=60)
        kills += 1
    for c in loads:
        lab.equal(c.wait(180), 0, "the generator ends well: " + c.log_text())
    want = acked(box.path("small"))
    want.update(acked(box.path("large")))
    lab.equal(len(want), 6060)
    copies = all_arrive(sinks, want)
    lab.note("%d kills, %d messages, %d came twice" % (kills, len(want), copies))
    lab.equal(kills >= 5, True, "it was killed while mail flowed")
    # Both halves die: as after a power cut, as far as processes go.
    lab.eventually(lambda: gateway.json("showrecipients all")["data"]["recipients"] == [], 60, "the queue is empty")


@lab.test("a queue with many destinations and states survives a crash of everything")
def states():
    box = lab.Sandbox()
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Busy,*later*", digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port,
                    "bounceconfig edit Default initial_retry=3600 max_retry=3600")
    book = lab.Book()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for n, message in enumerate(lab.mixed_messages(400, largest=3 << 20)):
            book.add(message)
            c.message("sender@client.lab.example", ["a@d%d.example" % (n % 40), "later@d%d.example" % (n % 7)], message)
        c.quit()
    lab.equal(book.settled(sink), 0) # the first recipients have it, once
    lab.eventually(lambda: all(r["attempts"] == 1 for r in gateway.json("showrecipients all")["data"]["recipients"]),
                   20, "every other recipient was tried")
    time.sleep(0.5) # states are written within 200 ms
    gateway.kill()
    gateway.start()
    waiting = gateway.json("showrecipients all")["data"]["recipients"]
    lab.equal(sorted({r["recipient"] for r in waiting}), ["later@d%d.example" % n for n in range(7)])
    lab.equal((len(waiting), {r["attempts"] for r in waiting}), (400, {1}))
    port = sink.port
    sink.stop()
    again = lab.Sink(port=port, digest=box.path("again"))
    gateway.console("delivernow all")
    lab.equal(book.settled(again), 0)
    lab.equal(sorted(os.listdir(box.path("home", "spool")))[:1] != [], True)
    lab.eventually(lambda: not [f for f in os.listdir(box.path("home", "spool")) if f.startswith("file-")], 10,
                   "the files of large messages are gone")


def number(reply):
    return int(re.search(r"Message (\d+) accepted", reply)[1])


@lab.test("a torn write at the end of the spool harms nothing that was acknowledged")
def torn():
    box = lab.Sandbox()
    sink = lab.Sink(digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port)
    gateway.console("suspenddel 0")
    book = lab.Book()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for n in range(50):
            message = lab.make_message("torn%d" % n, 5000, "attachment")
            book.add(message)
            last = c.message("sender@client.lab.example", "x@dest.example", message)
        # half a message that is never acknowledged
        c.mail("sender@client.lab.example", "x@dest.example")
        c.cmd("DATA", 354)
        c.raw(b"Subject: half\r\n\r\n" + b"x" * 70 + b"\r\n" + b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 5000)
        time.sleep(0.2)
        gateway.kill()
    spool = box.path("home", "spool")
    for name in os.listdir(spool):
        if name.startswith("seg-"):
            with open(os.path.join(spool, name), "r+b") as f: # what a crash may leave behind the synced part
                for part in (0, LEDGER):
                    f.seek(part + 50 * 8000)
                    f.write(os.urandom(100000))
    with open(os.path.join(spool, "file-ffff"), "wb") as f:
        f.write(b"nobody's")
    gateway.start()
    lab.equal(os.path.exists(os.path.join(spool, "file-ffff")), False)
    with lab.Smtp(gateway.private) as c: # identifiers only grow, or an old message would be in the way of a new one
        c.ehlo()
        message = lab.make_message("after", 500)
        book.add(message)
        new = c.message("sender@client.lab.example", "x@dest.example", message)
        c.quit()
    lab.equal(number(new) > number(last), True, "%s after %s" % (new, last))
    gateway.console("resumedel")
    lab.equal(book.settled(sink), 0)


@lab.test("what was acknowledged a moment ago has no row yet, and is there after a crash; so is what has too many recipients to wait for one")
def moment_ago():
    box = lab.Sandbox()
    sink = lab.Sink(digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port,
                    "listenerconfig edit OutboundMail max_rcpts_per_msg=30000",
                    "listenerconfig edit OutboundMail hostaccess edit policy RELAYED max_rcpts_per_msg=30000")
    gateway.console("suspenddel 0")
    book = lab.Book()
    log = os.path.join(gateway.home, "log", "system_logs", "system.current")
    for attempt in range(5): # now and then all rows are just written
        with lab.Smtp(gateway.private) as c:
            c.ehlo()
            for n in range(20):
                message = lab.make_message("moment%d-%d" % (attempt, n), 3000 if n else 300000, "attachment" if not n else "")
                book.add(message)
                c.message("sender@client.lab.example", "x@dest.example", message)
            gateway.kill()
        gateway.start()
        lab.equal(len(gateway.json("showrecipients all")["data"]["recipients"]), 20 * (attempt + 1))
        if "messages more, from the ledger" in lab.read_text(log):
            break
    else:
        raise lab.Failure("the ledger was never needed")
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        message = lab.make_message("many", 3000)
        c.mail("many@client.lab.example", [])
        for at in range(0, 25000, 500):
            replies = c.pipeline("RCPT TO:<a-recipient-with-a-long-name-%d@dest.example>" % n for n in range(at, at + 500))
            lab.equal({r[0] for r in replies}, {250})
        c.data(message)
        gateway.kill()
    gateway.start()
    lab.equal(gateway.json("status detail")["data"]["gauges"]["active_recips"], 20 * (attempt + 1) + 25000)
    gateway.console("deleterecipients sender many@client.lab.example Y")
    gateway.console("resumedel")
    lab.equal(book.settled(sink), 0)
    gateway.stop()


def ids_of(gateway):
    text = gateway.maillog().text()
    return [max(int(n) for n in re.findall(r"\b%s (\d+)" % word, text)) for word in ("MID", "ICID", "DCID")]


@lab.test("what has passed on does not come back, with queue.db or without it; no identifier is used twice")
def passed_on():
    box = lab.Sandbox()
    sink = lab.Sink(digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port)

    def send(*names):
        with lab.Smtp(gateway.private) as c:
            c.ehlo()
            replies = [c.message("sender@client.lab.example", "x@dest.example", lab.make_message(n, 500)) for n in names]
            c.quit()
        return [number(r) for r in replies]

    send("one", "two", "three")
    sink.wait_messages(3)
    lab.eventually(lambda: gateway.json("status detail")["data"]["gauges"]["active_recips"] == 0, 5)
    time.sleep(0.5) # rows are written within 200 ms: here none, only how far they have come
    before = ids_of(gateway)
    gateway.kill()
    gateway.start()
    lab.equal(gateway.json("showrecipients all")["data"]["recipients"], [])
    send("four")
    sink.wait_messages(4)
    time.sleep(0.5)
    after = ids_of(gateway)
    lab.equal([a > b for a, b in zip(after, before)], [True] * 3, "%s after %s" % (after, before))
    gateway.console("suspenddel 0")
    send("five")
    gateway.kill()
    for name in os.listdir(gateway.home): # somebody has lost it: only the ledger says how far it had come
        if name.startswith("queue.db"):
            os.unlink(os.path.join(gateway.home, name))
    gateway.start()
    sink.wait_messages(5) # nobody remembers either that delivery was suspended
    lab.eventually(lambda: gateway.json("showrecipients all")["data"]["recipients"] == [], 5)
    lab.equal(sorted(i for i, _ in sink.digests()), ["five", "four", "one", "three", "two"])


@lab.test("what an administrator was told is done stays done after a crash, though the messages came a moment ago")
def told():
    box = lab.Sandbox()
    sink = lab.Sink(digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % lab.free_port())
    gateway.console("suspenddel 0")
    for attempt in range(3):
        with lab.Smtp(gateway.private) as c:
            c.ehlo()
            for n in range(20):
                c.message("%s@client.lab.example" % ("gone" if n % 2 else "stays"), "x@dest.example",
                          lab.make_message("told%d-%d" % (attempt, n), 500))
            c.quit()
        gateway.console("deleterecipients sender gone@client.lab.example Y; redirectrecipients host 127.0.0.1:%d Y" % sink.port)
        gateway.kill()
        gateway.start()
        waiting = gateway.json("showrecipients all")["data"]["recipients"]
        lab.equal({(r["sender"], r["redirected_to"]) for r in waiting},
                  {("stays@client.lab.example", "[127.0.0.1]:%d" % sink.port)})
        lab.equal(len(waiting), 10 * (attempt + 1))
    gateway.console("resumedel")
    sink.wait_messages(30)
    lab.equal(len({i for i, _ in sink.digests()}), 30)


@lab.test("recipients that part after a change: one has the message, the other finds no free connection, and a crash repeats nothing")
def parted():
    box = lab.Sandbox()
    slow, sink = lab.Sink("--reply", "DATA=stall"), lab.Sink(digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port, "smtproutes new slow.example 127.0.0.1:%d" % slow.port,
                    "destconfig new slow.example use_tls=require", "deliveryconfig max_tls_concurrency=1")
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.message("sender@client.lab.example", "x@slow.example", lab.make_message("slow", 500)) # has the only connection with TLS
        lab.eventually(lambda: gateway.maillog().find("Delivery start"), 5)
        gateway.console("workqueue pause")
        c.message("sender@client.lab.example", ["x@dest.example", "y@strict.example"], lab.make_message("part", 500))
        c.quit()
    gateway.configure("destconfig new strict.example use_tls=require\n")
    gateway.console("workqueue resume")
    sink.wait_messages(1)
    time.sleep(0.5)
    gateway.kill()
    slow.stop() # or it would be the first again
    gateway.start()
    sink.wait_messages(2)
    lab.eventually(lambda: [r["recipient"] for r in gateway.json("showrecipients all")["data"]["recipients"]] == ["x@slow.example"], 10)
    lab.equal(sink.stats()["messages"], 2, "one for each")


@lab.test("one message that waits does not keep the 64 MiB around it")
def compaction():
    box = lab.Sandbox()
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Busy,later*", digest=box.path("digest"))
    gateway = start(box, "smtproutes new ALL 127.0.0.1:%d" % sink.port,
                    "bounceconfig edit Default initial_retry=3600 max_retry=3600")
    book = lab.Book()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for n in range(100):
            message = lab.make_message("move%d" % n, 900000, "attachment")
            later = n in (0, 1)
            if later:
                book.add(message)
            c.message("sender@client.lab.example", "later@dest.example" if later else "now@dest.example", message)
        c.quit()
    sink.wait_messages(98)
    first = os.path.join(box.path("home", "spool"), "seg-00000001")
    gateway.restart() # the first look at the segments comes soon then
    lab.eventually(lambda: not os.path.exists(first), 60, "the segment is cleared")
    port = sink.port
    sink.stop()
    gateway.kill() # what was copied must be on disk by now
    gateway.start()
    again = lab.Sink(port=port, digest=box.path("again"))
    gateway.console("delivernow all")
    lab.equal(book.settled(again), 0)


lab.main(jobs=4)
