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


lab.main()
