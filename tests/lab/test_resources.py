# Before anything breaks the gateway slows its senders down and then refuses mail for the time being, and takes it again when
# there is room: queue, disk, descriptors.

import os
import re
import socket
import time

import faults
import lab


def start(*statements, disk=None, box=None):
    box = box or lab.Sandbox()
    gate = lab.Posternd(disk.home if disk else box.path("home"), env=disk.env if disk else None)
    gate.console("; ".join(("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000",
                            "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=1000") + statements)
                 + '; commit "test" Y')
    return gate


def alerts(gate):
    return re.sub(r"\s+", " ", gate.console("displayalerts").stdout)


def offer(gate, rcpt="x@a.example", ident="m"):
    """One message; the reply that decided, and how long it took."""
    began = time.monotonic()
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for line in ("MAIL FROM:<sender@client.lab.example>", "RCPT TO:<%s>" % rcpt, "DATA"):
            code, texts = c.cmd(line)
            if code >= 400:
                return "%d %s" % (code, texts[-1]), time.monotonic() - began
        c.raw(lab.stuffed(lab.make_message(ident, 1000)))
        code, texts = c.reply()
        return "%d %s" % (code, texts[-1]), time.monotonic() - began


def degree(gate):
    return gate.json("status")["data"]["gauges"]["resource_conservation"]


@lab.test("a full queue: slower, then 452, then again; told once each way")
def queue():
    ports = [lab.free_port(), lab.free_port()]
    gate = start("smtproutes new a.example 127.0.0.1:%d" % ports[0], "smtproutes new b.example 127.0.0.1:%d" % ports[1],
                 "resourceconfig setup max_messages=20 slow_at=90 resume_at=80")
    replies = [offer(gate, "x@a.example" if n < 3 else "x@b.example", "q%d" % n) for n in range(25)]
    lab.equal([r[0][:3] for r in replies], ["250"] * 20 + ["452"] * 5)
    lab.equal(replies[20][0], "452 4.3.1 Queue full")
    lab.equal(replies[5][1] < 1 < replies[19][1], True, "slower and slower: %s" % ["%.2f" % r[1] for r in replies])
    lab.equal(degree(gate), 999)
    lab.match(gate.console("status").stdout, r"^Resource conservation: +mail is refused \(messages in the queue: 20 of 20\)$")
    lab.match(gate.console("status detail").stdout, r"^ +Resource Conservation +999$")
    first = lab.Sink(port=ports[0])
    first.wait_messages(3)
    lab.eventually(lambda: gate.json("status")["data"]["gauges"]["active_recips"] == 17, 10)
    lab.equal(offer(gate)[0], "452 4.3.1 Queue full", "17 of 20 are not less than 80 per cent")
    second = lab.Sink(port=ports[1])
    second.wait_messages(17)
    lab.eventually(lambda: degree(gate) == 0, 10)
    lab.equal(offer(gate, "x@b.example")[0][:3], "250")
    told = lab.eventually(lambda: re.search("has exited", alerts(gate)) and alerts(gate), 10)
    lab.equal(len(re.findall("has entered a 'resource conservation' mode", told)), 1, told)
    lab.match(told, r"messages in the queue: 20 of 20\. New mail is refused")
    lab.equal(len(re.findall("slows down its senders", told)), 1, told)
    gate.stop()


@lab.test("too little disk: 452 while deliveries go on, and no change of mind at the edge")
def disk_space():
    box = lab.Sandbox()
    disk = faults.Disk(box)
    sink = lab.Sink(digest=box.path("digest"))
    gate = start("smtproutes new ALL 127.0.0.1:%d" % sink.port, "resourceconfig setup min_free_space=1G", disk=disk)
    gate.console("suspenddel 0")
    lab.equal(offer(gate, ident="first")[0][:3], "250")

    def wait(free, want):
        disk["free_bytes"] = free
        time.sleep(1.2)
        lab.equal(offer(gate, ident="d%d" % free)[0][:3], want, "%d MiB free" % (free >> 20))

    wait(2 << 30, "250")
    wait(900 << 20, "452")
    gate.console("resumedel")
    sink.wait_messages(2)
    wait(1040 << 20, "452") # 1024 of 1040 are 98 per cent
    wait(1 << 40, "250")
    told = lab.eventually(lambda: re.search("has exited", alerts(gate)) and alerts(gate), 10)
    lab.match(told, r"disk of the queue: 900 MiB free, 1024 MiB are needed")
    gate.stop()


def limit_descriptors(gate, n):
    """Of the running engine: as its own user, for root may not have that right."""
    pid = gate.engine
    status = lab.read_text("/proc/%d/status" % pid)
    uid, gid = (int(re.search(what + r"id:\s+(\d+)", status)[1]) for what in ("U", "G"))
    lab.run(["prlimit", "--pid", str(pid), "--nofile=%d:" % n], user=uid, group=gid)


def cpu(gate):
    return lab.cpu_seconds([gate.engine])


@lab.test("descriptors at their end: 421, sessions that are there go on, no busy loop; and again when there are some")
def descriptors():
    lab.need_root()
    gate = start()
    limit_descriptors(gate, 120) # 105 for sessions
    time.sleep(1.2)
    held = []
    refused = None
    while len(held) < 200 and not refused:
        c = lab.Smtp(gate.private, greet=False)
        code, texts = c.reply()
        if code == 220:
            held.append(c)
        else:
            refused = "%d %s" % (code, texts[0])
    lab.equal(refused, "421 #4.3.2 Server resources low - try again later")
    lab.equal(20 < len(held) < 105, True, "%d sessions" % len(held))
    time.sleep(1.2)
    lab.equal(degree(gate), 999) # the console still gets in
    held[0].ehlo()
    lab.equal(held[0].cmd("MAIL FROM:<a@example.org>")[0], 452)
    used = cpu(gate)
    lab.equal(lab.Smtp(gate.private, greet=False).reply()[0], 421)
    time.sleep(1)
    lab.equal(cpu(gate) - used < 0.3, True, "busy")
    for c in held:
        c.close()
    lab.eventually(lambda: offer(gate)[0][:3] == "250", 10, "accepted again")
    told = lab.eventually(lambda: re.search("has exited", alerts(gate)) and alerts(gate), 10)
    lab.match(told, r"prevent the rapid depletion of critical system resources: file descriptors: \d+ of 105")
    gate.stop()


@lab.test("not one descriptor left: the spare one says 421, the rest waits, and nothing is lost")
def no_descriptor():
    lab.need_root()
    gate = start()
    highest = max(int(n) for n in os.listdir("/proc/%d/fd" % gate.engine))
    limit_descriptors(gate, highest + 3) # two more, and those below it that are free, are taken by sessions now
    held = []
    while len(held) < highest + 2:
        c = lab.Smtp(gate.private, greet=False, timeout=3)
        try:
            if c.reply()[0] != 220:
                break
        except OSError:
            break
        held.append(c.sock)
    codes = set()
    used = cpu(gate)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        s = socket.create_connection(("127.0.0.1", gate.private), timeout=3)
        try:
            code = s.recv(200)[:9]
        except TimeoutError:
            code = b"late"
        except OSError:
            code = b"reset"
        if code.startswith(b"220") and len(held) < 2 * highest: # it had closed some of its own meanwhile: taken, too
            held.append(s)
            continue
        codes.add(code)
        s.close()
        time.sleep(0.05)
    lab.equal(cpu(gate) - used < 1, True, "busy")
    lab.equal(b"421 #4.3." in codes, True, str(codes))
    lab.equal(any(c.startswith(b"220") for c in codes), False, str(codes))
    lab.match(lab.read_text(os.path.join(gate.home, "log/system_logs/system.current")), "accepts nothing for a second")
    held[0].sendall(b"EHLO x\r\n")
    lab.equal(held[0].recv(3), b"250")
    limit_descriptors(gate, 10000)
    lab.eventually(lambda: offer(gate)[0][:3] == "250", 10, "accepted again")
    gate.stop()


MANY = "listenerconfig edit OutboundMail max_connections=10000; " \
       "listenerconfig edit OutboundMail hostaccess edit policy RELAYED max_concurrency=10000"


def crowd(gate, most):
    """Sessions until one is refused; (those that were not, what the last one was told)."""
    held = []
    while len(held) < most:
        c = lab.Smtp(gate.private, greet=False)
        code, texts = c.reply()
        if code != 220:
            return held, "%d %s" % (code, texts[0])
        held.append(c)
    return held, None


@lab.test("three thousand sessions are too many for the descriptors: those that are in stay, the rest hears 421, mail goes on")
def many_sessions():
    lab.need_root()
    sink = lab.Sink(digest=None)
    gate = start("smtproutes new ALL 127.0.0.1:%d" % sink.port, MANY)
    limit_descriptors(gate, 3500) # 3244 for sessions
    time.sleep(1.2)
    held, refused = crowd(gate, 5000)
    lab.equal(refused, "421 #4.3.2 Server resources low - try again later")
    lab.equal(3000 < len(held) < 3244, True, "%d sessions" % len(held))
    time.sleep(1.2)
    lab.equal(degree(gate), 999)
    lab.match(gate.console("status").stdout, r"^Resource conservation: +mail is refused \(file descriptors: \d+ of 3244\)$")
    lab.equal(held[0].cmd("EHLO x")[0], 250)
    lab.equal(held[0].cmd("MAIL FROM:<a@example.org>")[0], 452)
    for c in held[1000:]: # two thirds go: below 95 per cent, and below where it is slow
        c.close()
    lab.eventually(lambda: degree(gate) == 0, 10)
    for c in held[:50]:
        c.ehlo()
        c.message("sender@client.lab.example", "x@a.example", lab.make_message("crowd", 500))
    sink.wait_messages(50)
    gate.stop()


@lab.test("large messages and little memory: slower, 452 and 421 before it is gone, and again")
def memory():
    gate = start("smtproutes new ALL 127.0.0.1:%d" % lab.free_port(), "resourceconfig setup max_memory=128M slow_at=85",
                 MANY,
                 "listenerconfig edit OutboundMail max_message_size=50M")
    if "san" in os.path.basename(lab.BUILD):
        raise lab.Skip("a sanitizer takes memory of its own")
    engine, held, codes, most = gate.engine, [], set(), 0
    text = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 900
    for _ in range(60):
        # fifty at once, since each waits up to five seconds when memory is short
        batch = [lab.Smtp(gate.private, greet=False) for _ in range(50)]
        for line in (None, "EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<x@a.example>", "DATA"):
            for c in batch if line else ():
                c.raw(line.encode() + b"\r\n")
            replies = [(c, c.reply()[0]) for c in batch]
            codes.update(code for _, code in replies)
            for c, code in replies:
                if code >= 400:
                    c.close()
            batch = [c for c, code in replies if code < 400]
        for c in batch:
            c.raw(text) # each holds a piece of 64 KiB
        held += batch
        most = max(most, lab.pss_bytes([engine]))
        if 421 in codes:
            break
    lab.equal(421 in codes, True, "%s, %d sessions" % (codes, len(held)))
    # memory is looked at once a second, and on a quiet machine this client sends some 30 MiB in one
    lab.equal(most < 200 << 20, True, "%d MiB" % (most >> 20))
    time.sleep(1.2)
    lab.match(gate.console("status").stdout, r"^Resource conservation: +mail is refused \(memory: \d+ of 128 MiB\)$")
    lab.match(alerts(gate), r"has entered a 'resource conservation' mode .*: memory: \d+ of 128 MiB")
    held[0].raw(b".\r\n") # what has begun is taken
    lab.equal(held[0].reply()[0], 250)
    for c in held:
        c.close()
    lab.eventually(lambda: offer(gate)[0][:3] == "250", 30, "accepted again")
    lab.match(alerts(gate), "has exited 'resource conservation' mode: memory")
    lab.note("%d sessions in the middle of a message, %d MiB at most" % (len(held), most >> 20))
    gate.stop()


@lab.test("the size of the queue has a limit, too")
def queue_size():
    port = lab.free_port()
    gate = start("smtproutes new ALL 127.0.0.1:%d" % port, "resourceconfig setup max_queue_size=1M slow_at=100 resume_at=50")
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message("sender@client.lab.example", "x@a.example", lab.make_message("size", 1200000, "attachment"))
    time.sleep(1.2) # it is looked at every second
    lab.equal(offer(gate)[0], "452 4.3.1 Queue full")
    lab.match(gate.console("status").stdout, r"^Resource conservation: +mail is refused \(size of the queue: 1 of 1 MiB\)$")
    sink = lab.Sink(port=port)
    sink.wait_messages(1)
    lab.eventually(lambda: offer(gate)[0][:3] == "250", 10, "accepted again")
    gate.stop()


lab.main(jobs=4)
