# Files that are damaged: the queue's database, a body in the spool, what was learnt, the counters, the configuration. The
# gateway starts by itself, says what is missing, and delivers the rest.

import contextlib
import glob
import os
import re
import sqlite3
import time

import lab

PAGE = 4096


def start(box, *statements):
    sink = lab.Sink(digest=box.path("digest"))
    gate = lab.Posternd(box.path("home"))
    gate.console("; ".join(("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000",
                            "smtproutes new ALL 127.0.0.1:%d" % sink.port,
                            "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=1000") + statements)
                 + '; commit "test" Y')
    return gate, sink


def fill(gate, book, count, name="d"):
    """Messages that wait; {MID: identifier}."""
    mids = {}
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for n in range(count):
            message = lab.make_message("%s%d" % (name, n), 1500)
            book.add(message)
            reply = c.message("sender@client.lab.example", "rcpt%d@dest%d.lab.example" % (n, n % 5), message)
            mids[int(re.search(r"Message (\d+)", reply)[1])] = message.id
        c.quit()
    return mids


def alerts(gate):
    return re.sub(r"\s+", " ", gate.console("displayalerts").stdout)


def overwrite(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def leaf(path, skip=1):
    """The page number of a leaf of the table that holds rows: not the first one, nor the last."""
    with open(path, "rb") as f:
        data = f.read()
    pages = [n for n in range(2, len(data) // PAGE) if data[n * PAGE] == 0x0d and data[n * PAGE + 4] > 5]
    return pages[skip] + 1


@lab.test("a damaged page of queue.db: all other messages are delivered, the MIDs that may be missing are named")
def queue_page():
    box = lab.Sandbox()
    gate, sink = start(box)
    gate.console("suspenddel 0")
    book = lab.Book()
    mids = fill(gate, book, 300)
    gate.stop()
    path = box.path("home", "queue.db")
    page = leaf(path)
    overwrite(path, (page - 1) * PAGE, os.urandom(PAGE))
    gate.start()
    lab.equal(gate.console("status").stdout.count("Delivery suspended"), 1, "settings are kept")
    told = alerts(gate)
    first, last = map(int, lab.match(told, r"The queue's database was damaged and has been written anew: \d+ messages were"
                                           r" saved .* where they were still queued: MID (\d+) to (\d+)\.").groups())
    lost = {mids[m] for m in mids if first <= m <= last}
    lab.equal(0 < len(lost) < 60, True, "%d to %d" % (first, last))
    for ident in lost:
        del book.sent[ident]
    gate.console("resumedel")
    lab.equal(book.settled(sink), 0)
    lab.equal(len([i for i, _ in sink.digests() if i in lost]), 0)
    lab.equal(len(glob.glob(path + ".damaged-*")) >= 1, True)
    lab.eventually(lambda: lab.match(gate.console("status").stdout, r"^Set aside after damage: +\d+ files, \d+ MiB, the oldest since "), 10)
    lab.equal(gate.json("status")["data"]["set_aside"]["files"] >= 2, True)
    kept = glob.glob(box.path("home", "spool", "lost-seg-*"))
    lab.equal(len(kept) >= 1, True, "the bodies are kept")
    with open(kept[0], "rb") as f:
        lab.equal(lost.pop().encode() in f.read(), True, "... and one of those that are missing is there")
    after = fill(gate, book, 5, "after")
    lab.equal(min(after) > max(mids), True)
    lab.equal(book.settled(sink), 0)
    gate.restart()
    lab.equal(len(glob.glob(path + ".damaged-*")), 1, "once")
    gate.console('resourceconfig setup kept_space=1M; commit "little space" Y')
    gate.restart() # or within ten minutes
    lab.eventually(lambda: not glob.glob(box.path("home", "spool", "lost-*")), 10, "they are removed")
    lab.eventually(lambda: lab.match(alerts(gate), r"\d+ files that were set aside when something was damaged, \d+ MiB, were removed"), 10)
    gate.stop()


@lab.test("a damaged page in the log of queue.db, of which SQLite would make its end: what follows is not forgotten")
def queue_log():
    box = lab.Sandbox()
    gate, sink = start(box)
    gate.console("suspenddel 0")
    book = lab.Book()
    for n in range(4): # so many transactions, at least: what was in the last one alone comes from the ledger without a word
        fill(gate, book, 75, "log%d" % n)
        time.sleep(0.5)
    gate.kill()
    log = box.path("home", "queue.db-wal")
    frames = (os.path.getsize(log) - 32) // (PAGE + 24)
    lab.equal(frames > 10, True, "%d frames" % frames)
    overwrite(log, 32 + frames // 3 * (PAGE + 24) + 24, os.urandom(PAGE))
    gate.start()
    told = alerts(gate)
    lab.match(told, r"The queue's database was damaged and has been written anew: \d+ messages were saved and are delivered\. "
                    r"(A part of its log was damaged: some of the last ones may be missing"
                    r"|These may be missing, where they were still queued: MID \d+ (to \d+|and above))\.") # was it the first image?
    gate.console("resumedel")

    def nearly_all(): # a page holds some fifty rows; those that were no rows yet come from the ledger
        missing, changed, copies, _ = book.compare(sink.digests())
        lab.equal((changed, copies), ([], 0))
        return len(missing) < 100
    lab.eventually(nearly_all, 30, "nearly all are delivered")
    lab.equal(len(glob.glob(box.path("home", "queue.db.damaged-*-wal"))), 1)
    gate.stop()


@lab.test("queue.db destroyed in its first page, and gone altogether")
def queue_header():
    box = lab.Sandbox()
    gate, sink = start(box)
    gate.console("suspenddel 0")
    book = lab.Book()
    fill(gate, book, 100)
    gate.stop()
    path = box.path("home", "queue.db")
    overwrite(path, 0, b"not a database at all" * 190)
    gate.start()
    lab.equal(book.settled(sink), 0) # that deliveries were suspended stood on another page, which nothing leads to
    gate.console("suspenddel 0")
    book = lab.Book()
    fill(gate, book, 10, "gone")
    gate.stop()
    os.unlink(path)
    gate.start()
    lab.match(alerts(gate), "The queue's database was missing at the start and is new, but there are bodies of messages")
    lab.equal(len(glob.glob(box.path("home", "spool", "lost-seg-*"))) >= 1, True)
    book = lab.Book()
    fill(gate, book, 10, "new")
    gate.console("resumedel")
    book.settled(sink)
    gate.stop()


@lab.test("an engine that found queue.db damaged while it was in use leaves a mark, and the next one repairs it")
def queue_running():
    box = lab.Sandbox()
    gate, sink = start(box)
    gate.console("suspenddel 0")
    book = lab.Book()
    fill(gate, book, 50)
    gate.console("showrecipients all") # has their rows written
    open(box.path("home", "queue.db.check"), "w").close() # test_writer.c shows what leads to it
    gate.kill_engine()
    told = lab.eventually(lambda: "written anew" in alerts(gate) and alerts(gate), 10)
    lab.match(told, "written anew: 50 messages were saved and are delivered. None is missing.")
    lab.equal(os.path.exists(box.path("home", "queue.db.check")), False)
    gate.console("resumedel")
    lab.equal(book.settled(sink), 0)
    gate.stop()


@lab.test("a row whose recipients are all done, because the engine died before it was deleted, is no damage and goes")
def finished_row():
    box = lab.Sandbox()
    gate, sink = start(box)
    gate.console("suspenddel 0")
    fill(gate, lab.Book(), 3, "row")
    with lab.Smtp(gate.private) as c: # its body has a file of its own
        c.ehlo()
        c.message("sender@client.lab.example", "a@dest0.lab.example", lab.make_message("large", 5 << 20, "attachment"))
        c.quit()
    gate.stop()
    with contextlib.closing(sqlite3.connect(box.path("home", "queue.db"))) as db:
        delivered = bytes((1, 1, 1, 0, 0, 0, 0)) # as message.c writes it: version, state, attempts, times, no text
        db.execute("UPDATE message SET state = ?", (delivered,))
        db.commit()
    gate.start()
    lab.equal("queue damaged" in alerts(gate) or "cannot be delivered" in alerts(gate), False)
    spool = box.path("home", "spool")
    lab.eventually(lambda: not [n for n in os.listdir(spool) if n.startswith("file-")], 10, "its body goes")
    gate.stop()
    with contextlib.closing(sqlite3.connect(box.path("home", "queue.db"))) as db:
        lab.equal(db.execute("SELECT count(*) FROM message").fetchone(), (0,))
    lab.equal(sink.digests(), [])


@lab.test("a body that is damaged is told with its MID, harms no other message, and its sender hears of it in the end")
def body():
    box = lab.Sandbox()
    letters = lab.Sink(store=box.path("letters"))
    gate, sink = start(box, "smtproutes new client.lab.example 127.0.0.1:%d" % letters.port,
                       "bounceconfig edit Default max_queue_seconds=%d" % (40 if "san" in os.path.basename(lab.BUILD) else 8))
    gate.console("suspenddel 0")
    book = lab.Book()
    mids = fill(gate, book, 20, "small")
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        large = lab.make_message("large", 300000, "attachment")
        mid = int(re.search(r"Message (\d+)", c.message("sender@client.lab.example", "a@dest0.lab.example", large))[1])
        c.quit()
    gate.stop()
    small = sorted(mids)[7]
    segments = glob.glob(box.path("home", "spool", "seg-*"))
    for mark in (mids[small].encode() + b"\r\n", large.body[200000:200100]):
        for path in segments:
            with open(path, "rb") as f:
                at = f.read().find(mark)
            if at >= 0:
                overwrite(path, at, b"X")
                break
        else:
            raise lab.Failure("no segment has %r" % mark)
    del book.sent[mids[small]]
    gate.start()
    gate.console("resumedel")
    lab.equal(book.settled(sink), 0)
    for number in (small, mid):
        lab.eventually(lambda: lab.match(alerts(gate), r"The text of message %d from <sender@client\.lab\.example> is damaged"
                                         r" and cannot be delivered: reading a message from the spool: wrong checksum" % number),
                       10)
    waiting = gate.json("showrecipients all")["data"]["recipients"]
    lab.equal({r["mid"] for r in waiting}, {small, mid})
    lab.equal([i for i, _ in sink.digests() if i in (mids[small], "large")], [])

    def told():
        text = "".join(lab.read_text(p) for p in glob.glob(box.path("letters", "*")))
        return "rcpt7@dest2.lab.example" in text and "a@dest0.lab.example" in text

    lab.eventually(told, 60, "both are bounced")
    lab.eventually(lambda: gate.json("showrecipients all")["data"]["recipients"] == [], 10)
    gate.stop()


def entries(gate):
    return re.findall(r"kept\d\.example", gate.console("destconfig list").stdout)


@lab.test("config.db damaged, empty or gone: the gateway starts from its backup and says so")
def configuration():
    box = lab.Sandbox()
    gate, sink = start(box, "destconfig new kept1.example use_tls=require")
    path = box.path("home", "config.db")
    lab.eventually(lambda: os.path.exists(path + ".backup"), 20, "a backup without a restart")
    gate.console('destconfig new kept2.example use_tls=require; commit "second" Y')
    gate.stop() # the second one is saved now
    for n, damage in enumerate((lambda: overwrite(path, 0, os.urandom(PAGE)), lambda: overwrite(path, PAGE, os.urandom(40 * PAGE)),
                                lambda: os.truncate(path, 0), lambda: os.unlink(path))):
        damage()
        gate.start()
        lab.equal(sorted(set(entries(gate))), ["kept1.example", "kept2.example"], "damage %d" % n)
        lab.match(alerts(gate), "The configuration database was %s at the start. The gateway runs with its backup of"
                  % ("damaged" if n < 2 else "missing"))
        lab.equal(len(glob.glob(path + ".damaged-*")) > 0, True)
        book = lab.Book()
        fill(gate, book, 3, "c%d" % n) # certificates, routes: all of it is there
        lab.equal(book.settled(sink), 0)
        gate.console('destconfig edit kept1.example use_tls=on; commit "works" Y')
        gate.stop()
    overwrite(box.path("home", "audit.db"), 0, os.urandom(PAGE))
    gate.start()
    lab.match(alerts(gate), "The audit trail could not be read at the start")
    lab.equal(len(set(entries(gate))), 2)
    gate.stop()


@lab.test("what was learnt and the counters: set aside, begun anew, told")
def state():
    box = lab.Sandbox()
    gate, sink = start(box)
    book = lab.Book()
    fill(gate, book, 20)
    book.settled(sink)
    gate.stop()
    path = box.path("home", "state.db")
    with open(path, "rb") as f:
        pages = len(f.read()) // PAGE
    overwrite(path, PAGE, os.urandom((pages - 1) * PAGE)) # all but the first: it opens
    overwrite(box.path("home", "counters"), 0, b"\0" * 5)
    gate.start()
    told = alerts(gate)
    lab.match(told, "The database of learnt policies and alerts could not be opened")
    lab.match(told, "The file of the counters was damaged at the start")
    lab.equal(os.path.exists(path + ".damaged"), True)
    book = lab.Book()
    fill(gate, book, 3, "again")
    lab.equal(book.settled(sink), 0)
    gate.stop()
    os.truncate(box.path("home", "counters"), 0)
    gate.start()
    lab.equal(alerts(gate).count("The file of the counters"), 2)
    gate.stop()


lab.main(jobs=4)
