# Writing logs never holds up mail: a log disk that is full, or that does not answer, costs lines, which are counted.

import errno
import os
import re
import time

import faults
import lab


def start(*statements):
    box = lab.Sandbox()
    disk = faults.Disk(box)
    sink = lab.Sink(digest=box.path("digest"))
    gate = lab.Posternd(disk.home, env=disk.env)
    gate.console("; ".join(("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000"
                            " max_rcpts_per_msg=1000", "smtproutes new ALL 127.0.0.1:%d" % sink.port) + statements)
                 + '; commit "test" Y')
    return disk, sink, gate


def load(gate, count, rcpts, name):
    """So many messages; the seconds it took until the last one was acknowledged."""
    began = time.monotonic()
    lab.smtp_load(gate.private, "--sessions", "4", "--messages", str(count), "--size", "1000", "--rcpts", str(rcpts),
                  "--id", name, "--timeout", "20")
    return time.monotonic() - began


def lost(gate, why):
    return sum(map(int, re.findall(r"(\d+) log lines were lost: " + why, gate.maillog().text())))


def alerts(gate):
    return re.sub(r"\s+", " ", gate.console("displayalerts").stdout)


@lab.test("a full log disk: mail goes on, the lines that are missing are counted, and it is told")
def full():
    disk, sink, gate = start()
    load(gate, 50, 1, "before")
    sink.wait_messages(50)
    time.sleep(0.3)
    whole = len(re.findall("MID", gate.maillog().text()))
    disk.arm("write open create rename", errno.ENOSPC, times=faults.FOREVER, only="/log/")
    load(gate, 50, 1, "during")
    sink.wait_messages(100)
    time.sleep(0.3)
    lab.equal(disk.clear() > 0, True)
    load(gate, 50, 1, "after")
    sink.wait_messages(150)
    lab.eventually(lambda: lost(gate, "the disk did not take them") > 0, 10)
    missing = lost(gate, "the disk did not take them")
    lab.equal(whole * 0.8 <= missing <= whole * 2, True, "%d lost, 50 messages have %d lines" % (missing, whole))
    gate.maillog().wait_for("Message finished MID 150 done")
    lab.match(alerts(gate), r"Lines of the log mail_logs are lost: its disk does not take them\. Mail goes on\.")
    gate.stop()


@lab.test("a log disk that does not answer: mail goes on, memory is bounded, the lines that are missing are counted")
def stalled():
    disk, sink, gate = start()
    quick = load(gate, 300, 40, "quick")
    sink.wait_messages(300)
    disk.arm("write", action="hang", times=faults.FOREVER, only="/log/")
    size = lab.pss_bytes([gate.engine])
    slow = load(gate, 1200, 40, "slow")
    sink.wait_messages(1500)
    lab.equal(gate.json("status")["data"]["gauges"]["active_recips"], 0)
    lab.match(alerts(gate), r"Lines of the logs are lost: their disk is too slow or does not answer\. Mail goes on\.")
    grown = lab.pss_bytes([gate.engine]) - size
    disk.clear()
    lab.eventually(lambda: lost(gate, "too many at a time") > 1000, 10)
    lab.equal(slow < quick * 4 * 3 + 2, True, "%.1f s for 1200, %.1f s for 300" % (slow, quick))
    if "san" not in os.path.basename(lab.BUILD): # a sanitizer keeps what is freed
        lab.equal(grown < 64 << 20, True, "%d MiB more" % (grown >> 20))
    lab.note("300 messages took %.2f s, 1200 with a dead log disk %.2f s; %d lines lost" % (quick, slow, lost(gate, "too many at a time")))
    gate.stop()


lab.main(jobs=4)
