# The clock is set while mail waits: forward, back, and back over a restart. (tests/fault/faultfs.c stands before the clock.)

import os
import re
import time

import faults
import lab

DAY = 86400 * 1000000


def start(*statements):
    box = lab.Sandbox()
    disk = faults.Disk(box)
    port = lab.free_port()
    gate = lab.Posternd(disk.home, env=disk.env)
    gate.console("; ".join(("smtproutes new ALL 127.0.0.1:%d" % port,) + statements) + '; commit "test" Y')
    return box, disk, gate, port


def send(gate, book, n, name):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for i in range(n):
            message = lab.make_message("%s%d" % (name, i), 1000)
            book.add(message)
            c.message("sender@client.lab.example", "x@d%d.example" % i, message)
        c.quit()


def recipients(gate):
    return gate.json("showrecipients all")["data"]["recipients"]


def tried(gate, times):
    found = recipients(gate)
    return found and any(r["attempts"] >= times for r in found) and found # one probes, the others wait


def alerts(gate):
    return re.sub(r"\s+", " ", gate.console("displayalerts").stdout)


@lab.test("ten days forward and back: nothing is given up, sessions and retries go on")
def jumps():
    box, disk, gate, port = start("bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=10000 max_queue_seconds=3600")
    book = lab.Book()
    idle = lab.Smtp(gate.private)
    idle.ehlo()
    send(gate, book, 4, "jump")
    lab.eventually(lambda: tried(gate, 1), 10)
    disk["clock_us"] = 10 * DAY
    time.sleep(1.5)
    before = max(r["attempts"] for r in recipients(gate))
    lab.eventually(lambda: tried(gate, before + 1), 10, "tried again")
    lab.equal(len(recipients(gate)), 4, "none is too old")
    lab.match(alerts(gate), r"The clock of the machine was set forward by 8(64|63)\d{3} seconds")
    lab.equal(idle.cmd("NOOP")[0], 250)
    disk["clock_us"] = -10 * DAY
    time.sleep(1.5)
    before = max(r["attempts"] for r in recipients(gate))
    lab.eventually(lambda: tried(gate, before + 1), 10, "tried again")
    lab.equal(idle.cmd("NOOP")[0], 250)
    send(gate, book, 1, "past")
    sink = lab.Sink(port=port, digest=box.path("digest"))
    lab.equal(book.settled(sink), 0)
    gate.stop()


@lab.test("set back over a restart: what waited for its retry does not wait for the time to come again")
def restart():
    box, disk, gate, port = start("bounceconfig edit Default initial_retry=3600 max_retry=3600")
    book = lab.Book()
    send(gate, book, 3, "back")
    lab.eventually(lambda: tried(gate, 1), 10)
    time.sleep(0.5)
    gate.stop()
    disk["clock_us"] = -100 * DAY
    sink = lab.Sink(port=port, digest=box.path("digest"))
    gate.start()
    lab.equal(book.settled(sink, 20), 0)
    gate.stop()


@lab.test("what was corrected stays so over restarts, however the engine ended: nothing is given up before its time")
def correction():
    box, disk, gate, port = start("bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=10000 max_queue_seconds=3600")
    book = lab.Book()
    send(gate, book, 3, "keep")
    lab.eventually(lambda: tried(gate, 1), 10)
    disk["clock_us"] = 10 * DAY
    lab.eventually(lambda: lab.match(alerts(gate), "set forward by 8"), 10)
    send(gate, book, 1, "new")
    time.sleep(0.5) # written within 200 ms
    for end in (gate.kill, gate.stop):
        end()
        gate.start()
        before = max(r["attempts"] for r in recipients(gate))
        lab.eventually(lambda: tried(gate, before + 1), 10, "tried again")
        lab.equal(len(recipients(gate)), 4, "none is too old")
    disk["clock_us"] = 0 # the correction of the correction
    lab.eventually(lambda: "set by -86" in lab.read_text(os.path.join(gate.home, "log/system_logs/system.current")), 10)
    time.sleep(0.5)
    gate.restart()
    before = max(r["attempts"] for r in recipients(gate))
    lab.eventually(lambda: tried(gate, before + 1), 10, "tried again")
    sink = lab.Sink(port=port, digest=box.path("digest"))
    lab.equal(book.settled(sink), 0)
    gate.stop()


@lab.test("set back by a day, and a restart: a retry is never further away than the profile says")
def short_back():
    box, disk, gate, port = start("bounceconfig edit Default initial_retry=2 max_retry=2")
    book = lab.Book()
    send(gate, book, 3, "day")
    lab.eventually(lambda: tried(gate, 1), 10)
    time.sleep(0.3)
    gate.kill()
    disk["clock_us"] = -DAY
    sink = lab.Sink(port=port, digest=box.path("digest"))
    gate.start()
    lab.equal(book.settled(sink, 15), 0)
    gate.stop()


@lab.test("to and fro while mail flows: every message arrives, once")
def under_load():
    box, disk, gate, port = start("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000",
                                  "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=10000")
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Later,*@d1.bench.example,20", port=port, digest=box.path("digest"))
    load = lab.Child([lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % gate.private, "--sessions", "4", "--messages", "600",
                      "--rate", "200", "--domains", "3", "--size", "2000", "--id", "c", "--acked", box.path("acked")])
    days = 0
    while load.running():
        days = 0 if days else 30 if len(alerts(gate)) % 2 else -30
        disk["clock_us"] = days * DAY
        time.sleep(0.4)
    lab.equal(load.wait(), 0)
    book = lab.Book()
    book.sent = dict(line.split() for line in lab.read_text(box.path("acked")).splitlines())
    lab.equal(len(book.sent), 600)
    lab.equal(book.settled(sink, 30), 0)
    lab.eventually(lambda: not recipients(gate), 10)
    gate.stop()


lab.main(jobs=4)
