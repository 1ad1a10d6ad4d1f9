# timeout: 600
# Receiving mail, with the real daemon and other people's clients.

import os
import random
import re
import signal
import socket
import time

import lab


def gateway(*settings, sink=None, **keywords):
    """A gateway that takes mail for example.com and delivers everything to the sink (or nowhere)."""
    box = lab.Sandbox()
    gate = lab.Posternd(box.path("home"), **keywords)
    port = sink.port if sink else lab.free_port()
    lines = ["listenerconfig rcptaccess new InboundMail/example.com", "smtproutes new ALL 127.0.0.1:%d" % port]
    gate.batch("\n".join(lines + list(settings)) + "\n", args=("--commit",))
    return gate


def commit(gate, *lines, check=True):
    return gate.batch("\n".join(lines) + "\n", args=("--commit",), check=check)


def log_lines(gate, icid):
    return [l for l in gate.maillog().lines() if re.search(r"ICID %d\b" % icid, l)]


_shared = {}


def shared():
    """One gateway for the tests that change nothing in it; TLS is offered on both listeners."""
    if not _shared:
        sink = lab.Sink()
        _shared["sink"] = sink
        _shared["gate"] = gateway("listenerconfig edit InboundMail tls=preferred max_concurrency=200",
                                  "listenerconfig edit OutboundMail tls=preferred", sink=sink)
    return _shared["gate"]


def alive(gate):
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        c.message("a@b.example", "user@example.com", lab.make_message("alive", 100))
        c.quit()


@lab.test("a message arrives bit for bit, with its log lines")
def bit_for_bit():
    box = lab.Sandbox()
    sink = lab.Sink(store=box.path("in"), digest=box.path("digest"))
    gate = gateway(sink=sink)
    book = lab.Book()
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for kind in lab.KINDS:
            for size in (1000, 70000, 3 << 20):
                message = lab.make_message("%s%d" % (kind, size), size, kind)
                book.add(message)
                c.message("from@a.example", "to@b.example", message)
        c.quit()
    lab.equal(book.settled(sink), 0)
    log = gate.maillog()
    log.wait_for(r"Info: ICID \d+ close$")
    log.wait_for(r"Info: New SMTP ICID \d+ interface OutboundMail \(127.0.0.1\) address 127.0.0.1 reverse dns host "
                 r"unknown verified no$")
    log.wait_for(r"Info: ICID \d+ RELAY SG RELAYLIST match 127.0.0.0/8 SBRS not enabled country not enabled$")
    mid = log.wait_for(r"Info: MID (\d+) Message-ID '<plain1000@client.lab.example>'$").group(1)
    for line in (r"Start MID %s ICID \d+", r"MID %s ICID \d+ From: <from@a.example>",
                 r"MID %s ICID \d+ RID 0 To: <to@b.example>", r"MID %s Subject 'plain message plain1000'",
                 r"MID %s ready \d+ bytes from <from@a.example>", r"MID %s queued for delivery",
                 r"Message finished MID %s done"):
        log.wait_for("Info: " + line % mid + "$")
    with open(box.path("in", "1.eml"), "rb") as f:
        head = f.read().split(b"\r\n\r\n")[0].decode()
    lab.match(head, r"\AReceived: from client.lab.example \(\[127.0.0.1\]\)\r\n\tby \S+ with ESMTP id ICID\d+-MID\d+\r\n"
                    r"\tfor <to@b.example>; \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n")


@lab.test("swaks sends in clear and with TLS")
def swaks():
    gate = shared()
    done = lab.swaks(gate.public, "--to", "user@example.com", "--from", "a@b.example")
    lab.match(done.stdout, r"250 2.6.0 ok:  Message \d+ accepted")
    done = lab.swaks(gate.public, "--to", "user@example.com", "--from", "a@b.example", "--tls", "--pipeline")
    lab.match(done.stdout, r"TLS started with cipher TLSv1.[23]")
    lab.match(done.stdout, r"250 2.6.0 ok:  Message \d+ accepted")
    gate.maillog().wait_for(r"Info: ICID \d+ TLS success protocol TLSv1.[23] cipher \S+$")
    done = lab.swaks(gate.public, "--to", "user@elsewhere.example", "--from", "a@b.example", check=False)
    lab.match(done.stdout, r"550 5.1.0 Address rejected\.")


@lab.test("openssl and gnutls speak TLS 1.2 and 1.3")
def tls_versions():
    gate = shared()
    talk = "NOOP\r\nQUIT\r\n"
    for option, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        done = lab.s_client(gate.public, option, "-crlf", "-quiet", input=talk.replace("\r", ""))
        lab.match(done.stdout, r"250 ok\s+221 ", name)
        gate.maillog().wait_for(r"TLS success protocol %s cipher" % re.escape(name))
    for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"):
        done = lab.gnutls_cli(gate.public, "--priority", priority, input=talk)
        lab.match(done.stdout, r"250 ok\s+221 ", priority)


@lab.test("TLS 1.1 is refused")
def old_tls():
    gate = shared()
    done = lab.s_client(gate.public, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    lab.match(done.stdout, r"alert protocol version|unsupported protocol|no protocols available")
    gate.maillog().wait_for(r"Info: ICID \d+ TLS failed: TLS handshake: (unsupported protocol|no shared|.*version)")
    alive(gate)


@lab.test("TLS required: 530 to all but the few, and the line in the log")
def required():
    gate = gateway("listenerconfig edit InboundMail tls=required")
    with lab.Smtp(gate.public) as c:
        c.cmd("MAIL FROM:<a@b.example>", r"530 #5\.7\.0 Must issue a STARTTLS command first")
        c.cmd("NOOP", 250)
        c.ehlo()
        c.cmd("RSET", 530)
        c.cmd("QUIT", 221)
    gate.maillog().wait_for(r"Info: ICID \d+ TLS was required but remote host did not initiate it$")
    before = len(gate.maillog().find("did not initiate it"))
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@b.example>", 530)
        c.starttls()
        c.message("a@b.example", "user@example.com", lab.make_message("tls", 100))
        c.quit()
    gate.maillog().wait_for(r"MID \d+ Message-ID '<tls@")
    time.sleep(0.3)
    lab.equal(len(gate.maillog().find("did not initiate it")), before)


@lab.test("commands injected behind STARTTLS end the session")
def injection():
    gate = shared()
    c = lab.Smtp(gate.public)
    c.ehlo()
    c.raw("STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\n")
    code, _ = c.reply()
    lab.equal(code, 554)
    lab.equal(c.at_eof(), True)
    gate.maillog().wait_for(r"Info: ICID \d+ TLS failed: data in clear text after the STARTTLS command$")
    c = lab.Smtp(gate.public) # the same in a second piece: it is taken for the handshake, and fails as one
    c.ehlo()
    c.send("STARTTLS")
    c.raw("EHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\n")
    first, _ = c.reply()
    lab.equal(first in (220, 554), True)
    lab.equal(c.at_eof(), True)
    lab.equal(gate.maillog().find("evil@b.example"), [])


@lab.test("smuggled ends of data stay inside one refused message")
def smuggling():
    gate = shared()
    hidden = b"MAIL FROM:<smuggler@b.example>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: y\r\n\r\ny"
    for mark in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\n\r.\r\n",
                 b"\r\n\0.\r\n", b"\r\n.\0\r\n"):
        with lab.Smtp(gate.public) as c:
            c.ehlo()
            c.mail("a@b.example", "user@example.com")
            c.cmd("DATA", 354)
            c.raw(b"Subject: x\r\n\r\nx" + mark + hidden + b"\r\n.\r\n")
            c.expect(550, repr(mark))
            c.cmd("NOOP", 250)
            c.quit()
    lab.equal(gate.maillog().find("smuggler@b.example"), [])


@lab.test("noise of any kind harms nobody")
def noise():
    gate = shared()
    rng = random.Random(os.environ.get("TEST_SEED", "noise"))
    for i in range(60):
        s = socket.create_connection(("127.0.0.1", gate.public), timeout=10)
        try:
            if i % 3:
                s.recv(200)
            for _ in range(rng.randrange(1, 6)):
                data = rng.randbytes(rng.randrange(1, 20000))
                s.sendall(data.replace(b"\n", b"\r\n") if i % 2 else data)
            if i % 5 == 0:
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
        except OSError:
            pass
        s.close()
    alive(gate)
    lab.equal(gate.child.running(), True)


@lab.test("lines without end and too long")
def long_lines():
    gate = shared()
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        c.raw(b"NOOP " + b"x" * 600 + b"\r\n")
        c.expect(500)
        c.raw(b"MAIL FROM:<" + b"x" * 300000 + b"@b.example>\r\n")
        c.expect(500)
        c.cmd("NOOP", 250)
        c.mail("a@b.example", "user@example.com")
        c.cmd("DATA", 354)
        c.raw(b"Subject: x\r\n\r\n" + b"y" * 65000 + b"\r\n.\r\n")
        c.expect(250)
        c.mail("a@b.example", "user@example.com")
        c.cmd("DATA", 354)
        c.raw(b"Subject: x\r\n\r\n" + b"y" * 3000000 + b"\r\n.\r\n")
        c.expect(550)
        c.quit()
    s = socket.create_connection(("127.0.0.1", gate.public), timeout=20)
    s.recv(200)
    try:
        for _ in range(200):
            s.sendall(b"x" * 65536)
        raise lab.Failure("13 MB of a line were swallowed")
    except OSError:
        pass
    alive(gate)


@lab.test("sizes: declared and real")
def sizes():
    gate = gateway("listenerconfig edit InboundMail max_message_size=1M")
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        lab.equal("SIZE 1048576" in c.extensions, True)
        c.cmd("MAIL FROM:<a@b.example> SIZE=1048577", 552)
        c.mail("a@b.example", "user@example.com")
        c.data(lab.make_message("big", 2 << 20), 552)
        c.mail("a@b.example", "user@example.com")
        c.data(lab.make_message("good", 900000), 250)
        c.quit()


@lab.test("half-open sessions are many and cost the others nothing")
def half_open():
    gate = shared()
    held = []
    for i in range(150):
        s = socket.create_connection(("127.0.0.1", gate.public), timeout=10)
        if i % 3 == 1:
            s.sendall(b"EHL")
        held.append(s)
    alive(gate)
    for i, s in enumerate(held):
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        s.close()
    lab.eventually(lambda: gate.json("status")["data"]["gauges"]["conn_in"] == 0, 10)


@lab.test("limits of connections, per host and per listener")
def connections():
    gate = gateway("listenerconfig edit InboundMail max_concurrency=3")
    held = [lab.Smtp(gate.public) for _ in range(3)]
    c = lab.Smtp(gate.public, greet=False)
    c.expect(r"421 #4\.4\.5 Too many connections from your host\.")
    lab.equal(c.at_eof(), True)
    held.pop().quit()
    lab.eventually(lambda: _greets(gate.public), 5)
    commit(gate, "listenerconfig edit InboundMail max_connections=2 max_concurrency=10")
    c = lab.Smtp(gate.public, greet=False)
    c.expect(r"421 #4\.4\.5 Too many connections to this listener\.")
    lab.equal(c.at_eof(), True)
    for h in held: # and those that were open stay open
        h.cmd("NOOP", 250)


def _greets(port):
    try:
        lab.Smtp(port).quit()
        return True
    except (lab.Failure, EOFError):
        return False


@lab.test("two thousand idle sessions, mail flowing meanwhile")
def idle_sessions():
    gate = gateway("listenerconfig edit InboundMail max_concurrency=5000 max_connections=5000")
    before = lab.pss_bytes(lab.process_tree(gate.pid))
    held = []
    for _ in range(2000):
        c = lab.Smtp(gate.public)
        c.send("EHLO idle.example")
        held.append(c)
    for c in held:
        c.expect(250)
    time.sleep(1)
    each = (lab.pss_bytes(lab.process_tree(gate.pid)) - before) / len(held)
    lab.note("%.1f KiB of memory per idle session" % (each / 1024))
    if os.path.basename(lab.BUILD) == "build": # sanitizers take more
        lab.equal(each < 16 * 1024, True, "memory per idle session")
    began = time.monotonic()
    for _ in range(20):
        alive(gate)
    lab.note("a message in %.1f ms beside them" % ((time.monotonic() - began) * 50))
    for c in held[::100]:
        c.cmd("NOOP", 250)
    for c in held:
        c.close()
    lab.eventually(lambda: gate.json("status")["data"]["gauges"]["conn_in"] == 0, 20)


@lab.test("listeners come, go and move with commits; open sessions stay")
def reload():
    gate = gateway()
    open_session = lab.Smtp(gate.public)
    open_session.ehlo()
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    busy = taken.getsockname()[1]
    done = commit(gate, "listenerconfig new Third kind=public port=%d address=127.0.0.1" % busy, check=False)
    lab.equal(done.returncode == 0, False)
    lab.match(done.stdout + done.stderr, r"[Pp]ort %d of 127.0.0.1 is in use" % busy)
    taken.close()
    third = lab.free_port()
    commit(gate, "listenerconfig new Third kind=public port=%d address=127.0.0.1 max_message_size=5M" % third)
    with lab.Smtp(third) as c:
        c.ehlo()
        lab.equal("SIZE 5242880" in c.extensions, True)
        kept = lab.Smtp(third)
        commit(gate, "listenerconfig edit Third max_message_size=6M")
        kept.ehlo() # began before
        lab.equal("SIZE 5242880" in kept.extensions, True)
        with lab.Smtp(third) as fresh:
            fresh.ehlo()
            lab.equal("SIZE 6291456" in fresh.extensions, True)
        moved = lab.free_port()
        commit(gate, "listenerconfig edit Third port=%d" % moved)
        lab.eventually(lambda: not lab.listening(third), 5)
        with lab.Smtp(moved) as fresh:
            fresh.quit()
        commit(gate, "listenerconfig delete Third")
        lab.eventually(lambda: not lab.listening(moved), 5)
        c.cmd("NOOP", 250)
    open_session.cmd("NOOP", 250)
    open_session.message("a@b.example", "user@example.com", lab.make_message("old", 100))
    open_session.quit()


@lab.test("suspended listeners say 421, resumed ones do not")
def suspend():
    gate = gateway()
    idle = lab.Smtp(gate.public)
    idle.ehlo()
    gate.console("suspendlistener All 5")
    idle.expect(r"421 4\.3\.2 \S+ Service not available, closing transaction channel")
    lab.equal(idle.at_eof(), True)
    c = lab.Smtp(gate.public, greet=False)
    c.expect(r"421 #4\.3\.2 \S+ Service not available, closing transaction channel")
    gate.console("resumelistener All")
    with lab.Smtp(gate.public) as c:
        c.quit()


@lab.test("at shutdown idle sessions hear 421 and messages on their way in are taken")
def shutdown():
    gate = gateway()
    idle = lab.Smtp(gate.public)
    idle.ehlo()
    sending = lab.Smtp(gate.public)
    sending.ehlo()
    sending.mail("a@b.example", "user@example.com")
    sending.cmd("DATA", 354)
    sending.raw("Subject: late\r\n\r\n")
    os.kill(gate.pid, signal.SIGTERM)
    idle.expect(r"421 4\.3\.2 \S+ Service not available, closing transaction channel")
    lab.equal(idle.at_eof(), True)
    sending.raw("text\r\n.\r\n")
    sending.expect(250)
    lab.equal(gate.child.wait(30), 0)
    gate.start()
    lab.eventually(lambda: "late" in gate.console("showrecipients all").stdout, 10)


@lab.test("status counts what was received")
def status():
    gate = gateway()
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        c.mail("a@b.example", ["one@example.com", "two@example.com"])
        c.cmd("RCPT TO:<x@elsewhere.example>", 550)
        c.data(lab.make_message("s", 100))
        data = gate.json("status")["data"]
        lab.equal(data["gauges"]["conn_in"], 1)
    data = gate.json("status")["data"]
    counters = data["counters"]
    lab.equal([counters[n]["uptime"] for n in ("inj_msgs", "inj_recips", "rejected_recips")], [1, 2, 1])
    lab.equal(data["rates"]["inj_msgs"]["1"], 60)
    lab.equal(data["ids"]["message_id"] >= 1, True)
    gate.restart()
    counters = gate.json("status")["data"]["counters"]
    lab.equal([counters["inj_msgs"][v] for v in ("uptime", "lifetime")], [0, 1])


lab.main()
