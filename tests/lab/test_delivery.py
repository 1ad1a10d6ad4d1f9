# Delivery: what the gateway says to sinks of all kinds, when it gives up, what it tells the sender, and that a level of
# security is never lowered on the way.

import email
import email.policy
import os
import re
import socket
import ssl
import threading
import time

import lab

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
sender = "sender@client.lab.example"


def setup():
    """The gateway, started once. Bounces for the test's sender go to a sink of their own."""
    global reports
    if gateway.child:
        return gateway
    gateway.start()
    reports = lab.Sink(store=box.path("reports"))
    configure("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000"
              " max_rcpts_per_msg=1000",
              "bounceconfig edit Default initial_retry=1 max_retry=2 max_retries=3",
              "smtproutes new client.lab.example %s" % hop(reports))
    return gateway


def configure(*statements):
    gateway.console("; ".join(statements) + '; commit "test" Y')


def hop(sink):
    return "127.0.0.1:%d" % sink.port


def route(domain, *sinks, **controls):
    setup()
    statements = ["smtproutes new %s %s" % (domain, " ".join(s if isinstance(s, str) else hop(s) for s in sinks))]
    if controls:
        statements.append("destconfig new %s %s" % (domain, " ".join("%s=%s" % c for c in controls.items())))
    configure(*statements)


def submit(ident, rcpts, size=1500, kind="plain", mail="", sender=sender, message=None, rcpt=""):
    """One message by the relaying listener; its MID."""
    message = message or lab.make_message(ident, size, kind)
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s>%s" % (sender, mail), 250)
        for r in [rcpts] if isinstance(rcpts, str) else rcpts:
            c.cmd("RCPT TO:<%s>%s" % (r, rcpt), 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(message))[1])
        c.quit()
    return mid


def stored(directory):
    """Messages a sink has, by X-Bench-Id, without our trace header: {id: [bytes]}"""
    found = {}
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if name.endswith(".eml"):
            with open(os.path.join(directory, name), "rb") as f:
                data = f.read()
            ident = re.search(rb"^X-Bench-Id: (\S+)\r$", data, re.M)
            found.setdefault(ident[1].decode() if ident else None, []).append(data)
    return found


def report_about(mid, action="failed", timeout=20):
    """The report whose original was MID, parsed; and its bytes."""
    born = log.wait_for(r"MID (\d+) was generated for bounce of MID %d\b" % mid, timeout)[1]

    def arrived():
        for data in stored(box.path("reports")).get(None, []) + sum(stored(box.path("reports")).values(), []):
            if b"<dsn.%s." % born.encode() in data:
                return data

    data = lab.eventually(arrived, timeout, "the report %s arrives" % born)
    return email.message_from_bytes(data, policy=email.policy.SMTP), data


def finished(mid, timeout=20):
    log.wait_for(r"Message finished MID %d done$" % mid, timeout)


@lab.test("a message goes through bit for bit, whatever is in it")
def goes_through():
    sink = lab.Sink(store=box.path("plain"), digest=box.path("plain.digest"))
    route("plain.example", sink)
    book = lab.Book()
    for size in (0, 1, 1000, 65000, 65536, 66000, 1 << 20, (1 << 20) + 4000, 5 << 20):
        for kind in lab.KINDS:
            message = lab.make_message("%s-%d" % (kind, size), size, kind)
            book.add(message)
            submit(message.id, "rcpt@plain.example", message=message, mail=" BODY=8BITMIME")
    lab.equal(book.settled(sink), 0)
    for ident, copies in stored(box.path("plain")).items():
        trace, _, rest = copies[0].partition(b"From: ")
        lab.match(trace.decode(), r"\AReceived: from .*\r\n(\s+.*\r\n)*\Z", ident)
        kind, size = ident.split("-")
        lab.equal(b"From: " + rest == lab.make_message(ident, int(size), kind).data, True, ident)


@lab.test("every recipient at one destination is in one transaction, each destination in its own")
def transactions():
    one, two = lab.Sink(), lab.Sink()
    route("one.example", one)
    route("two.example", two)
    rcpts = ["u%d@one.example" % i for i in range(30)] + ["u%d@two.example" % i for i in range(5)]
    finished(submit("multi", rcpts))
    lab.equal((one.stats()["messages"], one.stats()["recipients"]), (1, 30))
    lab.equal((two.stats()["messages"], two.stats()["recipients"]), (1, 5))


@lab.test("more recipients than fit go in several transactions over one connection")
def many_recipients():
    sink = lab.Sink()
    route("many.example", sink)
    finished(submit("many", ["u%d@many.example" % i for i in range(130)]))
    stats = sink.stats()
    lab.equal((stats["messages"], stats["recipients"], stats["connections"]), (3, 130, 1))


@lab.test("452 too many recipients: the rest at once, without a retry")
def too_many():
    sink = lab.Sink("--reply", "RCPT=452 4.5.3 Too many recipients,late*,2")
    route("few.example", sink)
    mid = submit("few", ["early@few.example", "late1@few.example", "late2@few.example"])
    finished(mid)
    lab.equal(sink.stats()["recipients"], 3)
    lab.equal(log.find(r"Delayed: .* MID %d " % mid), [])


@lab.test("a connection carries many messages, up to the limit")
def reuse():
    sink = lab.Sink()
    route("reuse.example", sink, max_messages_per_connection=5, concurrency_limit=1)
    message = lab.make_message("reuse", 500)
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for _ in range(20):
            c.message(sender, "rcpt@reuse.example", message)
        c.quit()
    sink.wait_messages(20)
    stats = sink.stats()
    lab.equal((stats["connections"], stats["max_open"]), (4, 1))


@lab.test("an idle connection is taken over by another destination at the same host")
def taken_over():
    sink = lab.Sink(digest=box.path("pool.digest"))
    for n in range(12):
        route("pool%d.example" % n, sink)
    book = lab.Book()
    for k in range(3):
        for n in range(12):
            message = lab.make_message("pool%d-%d" % (n, k), 5000, "dots")
            book.add(message)
            finished(submit(message.id, "x@pool%d.example" % n, message=message))
    lab.equal(book.settled(sink), 0)
    stats = sink.stats()
    lab.equal(stats["connections"] <= 2 * os.cpu_count(), True, "%d connections" % stats["connections"])


@lab.test("each recipient gets its own result")
def results():
    sink = lab.Sink("--reply", "RCPT=550 5.1.1 No such user,gone@*", "--reply", "RCPT=451 4.2.1 Busy,busy@*,1")
    route("mixed.example", sink)
    mid = submit("mixed", ["fine@mixed.example", "gone@mixed.example", "busy@mixed.example"])
    log.wait_for(r"Message done DCID \d+ MID %d to RID \[0\]" % mid)
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 1 - .*5\.1\.1 - Bad destination email address \('550', "
                 r"\['5\.1\.1 No such user'\]\)" % mid)
    log.wait_for(r"Delayed: DCID \d+ MID %d to RID 2 - 4\.2\.1 - " % mid)
    log.wait_for(r"Message %d to RID \[2\] pending till \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}" % mid)
    finished(mid)
    lab.equal(sink.stats()["recipients"], 2)
    report, raw = report_about(mid)
    lab.match(report["From"], r"Mail Delivery System.* <MAILER-DAEMON@")
    lab.equal((report["To"], report["Auto-Submitted"]), (sender, "auto-replied"))
    lab.equal(report.get_content_type(), "multipart/report")
    text, status, original = report.iter_parts()
    lab.match(text.get_content(), r"<gone@mixed\.example> was undeliverable")
    lab.equal(status.get_content_type(), "message/delivery-status")
    fields = status.as_string().replace("\r\n", "\n")
    lab.match(fields, r"Final-Recipient: rfc822; gone@mixed\.example\nAction: failed\nStatus: 5\.1\.1\n")
    lab.match(fields, r"Diagnostic-Code: smtp; 550 ")
    lab.equal("fine@" in fields or "busy@" in fields, False, "only the one that failed is reported")
    lab.equal(original.get_content_type(), "message/rfc822")
    lab.equal(lab.make_message("mixed", 1500).data.replace(b"\r\n", b"\n")
              in original.get_payload(0).as_bytes(policy=email.policy.SMTP).replace(b"\r\n", b"\n"), True)


@lab.test("the report itself comes from the null path and is never reported")
def double_bounce():
    sink = lab.Sink("--reply", "RCPT=550 5.1.1 No such user")
    route("nobody.example", sink)
    mid = submit("double", "x@nobody.example", sender="y@nobody.example")
    born = int(log.wait_for(r"MID (\d+) was generated for bounce of MID %d\b" % mid)[1])
    finished(mid)
    log.wait_for(r"Double bounce: MID %d to 0 - 5\.1\.1 - " % born)
    finished(born)
    lab.equal(log.find(r"was generated for bounce of MID %d\b" % born), [])


@lab.test("a message is tried as often as the profile says, then bounces")
def retries():
    sink = lab.Sink("--reply", "MAIL=451 4.3.2 Later")
    route("never.example", sink)
    mid = submit("never", "x@never.example")
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.4\.7 - Delivery expired" % mid, 30)
    finished(mid)
    lab.equal(len(log.find(r"Delivery start DCID \d+ MID %d " % mid)), 4) # the first and three retries
    lab.equal(len(log.find(r"Delayed: DCID \d+ MID %d " % mid)), 3)
    report_about(mid)


@lab.test("a message that is too old bounces before its next attempt")
def expiry():
    sink = lab.Sink("--reply", "MAIL=451 4.3.2 Later")
    setup()
    configure("bounceconfig new Short max_retries=100 max_queue_seconds=1 initial_retry=2 max_retry=2")
    route("old.example", sink, bounce_profile="Short")
    mid = submit("old", "x@old.example")
    log.wait_for(r"Bounced: DCID 0 MID %d to RID 0 - 5\.4\.7 - Delivery expired" % mid)
    lab.equal(len(log.find(r"Delivery start DCID \d+ MID %d " % mid)), 1)


@lab.test("a dead host delays, and the next one in the list takes over")
def next_host():
    dead, alive = lab.free_port(), lab.Sink()
    route("two-hosts.example", "127.0.0.1:%d/pri=5" % dead, hop(alive) + "/pri=10")
    mid = submit("two-hosts", "x@two-hosts.example")
    finished(mid)
    log.wait_for(r"Connection Error: DCID \d+ domain: two-hosts\.example IP: 127\.0\.0\.1 port: %d details: .* "
                 r"reason: network error" % dead)
    lab.equal(alive.stats()["messages"], 1)


@lab.test("a host that refuses at the greeting, drops the line or answers nonsense is skipped")
def bad_hosts():
    bad = [lab.Sink("--reply", "CONNECT=554 5.7.1 Go away"), lab.Sink("--reply", "CONNECT=421 4.3.2 Busy"),
           lab.Sink("--reply", "CONNECT=close"), lab.Sink("--reply", "MAIL=421 4.3.2 Closing"),
           lab.Sink("--drop-after", 3), lab.Sink("--drop-in-data", 100)]
    good = lab.Sink()
    route("hosts.example", *[hop(s) + "/pri=%d" % n for n, s in enumerate(bad)], hop(good) + "/pri=99")
    mid = submit("hosts", "x@hosts.example", size=200000)
    finished(mid)
    lab.equal(good.stats()["messages"], 1)
    lab.equal([s.stats()["messages"] for s in bad], [0] * len(bad))
    log.wait_for(r"Connection Error: .* details: 554-'.*' interface: 127\.0\.0\.1 reason: unexpected SMTP "
                 r"response$")


@lab.test("a limit for each address holds over all destinations that share it")
def per_address():
    sink = lab.Sink("--delay", "DOT=20")
    for name in ("share-a.example", "share-b.example"):
        route(name, sink, limit_type="MXIP", concurrency_limit=2)
    mids = [submit("limit%d" % n, ["x@share-a.example", "x@share-b.example"]) for n in range(15)]
    for mid in mids:
        finished(mid, 40)
    stats = sink.stats()
    lab.equal((stats["messages"], stats["max_open"] <= 2), (30, True))


@lab.test("IPv6 is spoken")
def ipv6():
    try:
        sink = lab.Sink("--listen", "[::1]:0")
    except lab.Failure:
        raise lab.Skip("no IPv6 here")
    route("six.example", "[::1]:%d" % sink.port)
    finished(submit("six", "x@six.example"))
    log.wait_for(r"New SMTP DCID \d+ interface ::1 address ::1 port %d$" % sink.port)


@lab.test("Postfix takes over TLS what was sent, bit for bit")
def postfix():
    receiver = lab.Postfix(tls=lab.make_cert(box.mkdir("cert"), "postfix.lab.example"))
    setup()
    route("postfix.example", "127.0.0.1:%d" % receiver.port, use_tls="require")
    messages = [lab.make_message("postfix-%s-%d" % (kind, n), 3000 * 10 ** n, kind) for n in range(3) for kind in lab.KINDS]
    for m in messages:
        submit(m.id, "rcpt@postfix.example", message=m, mail=" BODY=8BITMIME")
    lab.eventually(lambda: len(receiver.maildir()) == len(messages), 60, "Postfix has every message")
    texts = {re.search(rb"X-Bench-Id: (\S+)", m)[1]: m for m in receiver.maildir()}
    for m in messages:
        body = texts[m.id.encode()].split(b"\n\n", 1)[1]
        lab.equal(body == m.body.replace(b"\r\n", b"\n"), True, m.id)
        lab.match(texts[m.id.encode()].decode("latin-1"), r"by postfix\.lab\.example \(Postfix\) with ESMTPS id ")


@lab.test("hosts of equal priority take turns by connection")
def turns():
    sinks = [lab.Sink() for _ in range(3)]
    route("turns.example", *sinks, max_messages_per_connection=1, concurrency_limit=1)
    for n in range(6):
        finished(submit("turn%d" % n, "x@turns.example"))
    lab.equal([s.stats()["messages"] for s in sinks], [2, 2, 2])


@lab.test("a discarded domain is done without a connection")
def discard():
    setup()
    configure("smtproutes new trash.example /dev/null")
    mid = submit("trash", "x@trash.example")
    finished(mid)
    lab.equal(log.find(r"was generated for bounce of MID %d\b" % mid), [])


@lab.test("servers without extensions are spoken to as they wish")
def old_servers():
    for options in (["--no-esmtp"], ["--no-pipelining"], ["--no-8bitmime"], ["--no-starttls"]):
        name = options[0].strip("-") + ".example"
        sink = lab.Sink(*options, digest=box.path(name))
        route(name, sink, use_tls="on")
        book = lab.Book()
        message = lab.make_message(name, 30000, "eightbit")
        book.add(message)
        submit(name, ["a@" + name, "b@" + name], message=message, mail=" BODY=8BITMIME")
        book.settled(sink)


@lab.test("a message larger than the server takes bounces without being sent")
def size():
    sink = lab.Sink("--size", 10000)
    route("small.example", sink)
    mid = submit("large", "x@small.example", size=50000)
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.3\.4 - Message too big for system" % mid)
    _, raw = report_about(mid)
    lab.equal(b"text/rfc822-headers" in raw and b"X-Bench-Id: large" in raw, True)
    lab.equal(len(raw) < 12000, True, "the header alone comes back")


@lab.test("a message that needs SMTPUTF8 looks for a server that offers it, and bounces when there is none")
def smtputf8():
    plain, modern = lab.Sink(), lab.Sink("--smtputf8")
    route("utf8.example", hop(plain) + "/pri=1", hop(modern) + "/pri=2")
    with lab.Smtp(gateway.private) as c:
        if "SMTPUTF8" not in c.ehlo():
            raise lab.Skip("the listener does not offer SMTPUTF8")
    finished(submit("utf8", "jörg@utf8.example", mail=" SMTPUTF8"))
    lab.equal((plain.stats()["messages"], modern.stats()["messages"]), (0, 1))
    route("ascii.example", plain)
    mid = submit("ascii", "jörg@ascii.example", mail=" SMTPUTF8")
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.6\.7 - " % mid)
    finished(mid)
    lab.equal(plain.stats()["messages"], 0)


def submit_binary(recipient, text):
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s> BODY=BINARYMIME" % sender, 250)
        c.cmd("RCPT TO:<%s>" % recipient, 250)
        half = len(text) // 2
        c.raw(b"BDAT %d\r\n%s" % (half, text[:half]))
        c.expect(250)
        c.raw(b"BDAT %d LAST\r\n%s" % (len(text) - half, text[half:]))
        reply = c.expect(250)
        c.quit()
    return int(re.search(r"Message (\d+) accepted", str(reply))[1])


@lab.test("binary text goes in chunks, byte for byte, to who takes it; from anybody else it comes back as a header")
def binary():
    text = (b"From: <a@lab.example>\r\nMessage-ID: <b@lab.example>\r\nX-Bench-Id: binary\r\nMIME-Version: 1.0\r\n"
            b"Content-Transfer-Encoding: binary\r\nContent-Type: application/octet-stream\r\n\r\n"
            + bytes(range(256)) * 700 + b"\r\n.\r\n.\n\r.\r")
    server = lab.Recorder("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME")
    route("binary.example", "127.0.0.1:%d" % server.port)
    finished(submit_binary("x@binary.example", text))
    head, _, body = server.text.partition(b"X-Bench-Id: binary\r\n")
    lab.equal(text.endswith(b"\r\nX-Bench-Id: binary\r\n" + body) and len(body) > 179000, True, "the same text")
    lab.equal(head.startswith(b"Received: from"), True)
    lab.equal([c for c in server.commands if c.startswith(("MAIL", "BDAT", "DATA"))],
              ["MAIL FROM:<%s> BODY=BINARYMIME" % sender, "BDAT %d LAST" % len(server.text)])
    text_only = lab.Recorder("PIPELINING", "CHUNKING", "8BITMIME")
    route("text.example", "127.0.0.1:%d" % text_only.port, hop(lab.Sink()))
    mid = submit_binary("x@text.example", text)
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.6\.3 - " % mid)
    _, raw = report_about(mid)
    lab.equal(b"text/rfc822-headers" in raw and b"X-Bench-Id: binary" in raw and b"\0" not in raw, True)
    lab.equal(text_only.text, b"", "what it was sent")


@lab.test("deliveries start from the configured addresses in turn")
def sources():
    peers = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(4):
            conn, peer = listener.accept()
            peers.append(peer[0])
            conn.sendall(b"421 later\r\n")
            conn.close()

    threading.Thread(target=serve, daemon=True).start()
    setup()
    configure("deliveryconfig source_address=127.0.0.7,127.0.0.8,::1")
    for i in range(4):
        route("source%d.example" % i, "127.0.0.1:%d" % listener.getsockname()[1])
        submit("source%d" % i, "x@source%d.example" % i)
        lab.eventually(lambda: len(peers) > i, 20, "connection %d" % i)
    configure("deliveryconfig source_address=")
    lab.equal(peers, ["127.0.0.7", "127.0.0.8"] * 2 if peers[0] == "127.0.0.7" else ["127.0.0.8", "127.0.0.7"] * 2)


@lab.test("DSN: parameters are passed on, NEVER is obeyed, SUCCESS is answered where it ends")
def dsn():
    sink = lab.Sink("--reply", "RCPT=550 5.1.1 No such user,gone*")
    route("dsn.example", sink)
    quiet = submit("never", "gone@dsn.example", rcpt=" NOTIFY=NEVER")
    finished(quiet)
    lab.equal(log.find(r"was generated for bounce of MID %d\b" % quiet), [])
    wanted = submit("success", "here@dsn.example", mail=" RET=HDRS ENVID=QQ314159",
                    rcpt=" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Here+40old@dsn.example")
    finished(wanted)
    report, raw = report_about(wanted)
    lab.match(raw.decode(), r"Original-Envelope-Id: QQ314159\r\n")
    lab.match(raw.decode(), r"Original-Recipient: rfc822;Here@old@dsn\.example\r\n")
    lab.match(raw.decode(), r"Action: relayed\r\n")


@lab.test("delay warnings follow the profile")
def delay_warning():
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Busy,*,3")
    setup()
    configure("bounceconfig new Warn initial_retry=1 max_retry=1 delay_warnings=yes delay_interval=60")
    route("warn.example", sink, bounce_profile="Warn")
    mid = submit("warn", "x@warn.example")
    _, raw = report_about(mid)
    lab.match(raw.decode(), r"Action: delayed\r\nStatus: 4\.2\.1\r\n")
    lab.match(raw.decode(), r"Will-Retry-Until: ")
    finished(mid)
    lab.equal(len(log.find(r"was generated for bounce of MID %d\b" % mid)), 1) # the second comes after a minute


# --- TLS -------------------------------------------------------------------------------------------------------

LEVELS = ("off", "on", "require")


@lab.test("TLS is used as the level says when it is offered")
def tls_offered():
    for level in LEVELS:
        sink = lab.Sink()
        route("offer-%s.example" % level, sink, use_tls=level)
        finished(submit(level, "x@offer-%s.example" % level))
        lab.equal(sink.stats()["messages_tls"], 0 if level == "off" else 1, level)
    log.wait_for(r"DCID \d+ TLS success protocol TLSv1\.3 cipher TLS_\w+")


def stripped(name, *options):
    """A sink that spoils STARTTLS in one way, at each level; the counts of what it got in clear."""
    got = {}
    for level in LEVELS:
        sink = lab.Sink(*options)
        domain = "%s-%s.example" % (name, level)
        route(domain, sink, use_tls=level)
        got[level] = (sink, submit(domain, "x@" + domain))
    for level in ("off", "on") if name in ("strip", "refuse") else ("off",):
        finished(got[level][1])
    for level in LEVELS:
        if level == "require" or (level == "on" and name not in ("strip", "refuse")):
            log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0" % got[level][1], 30)
    return {level: sink.stop()["messages"] for level, (sink, _) in got.items()}


@lab.test("required: nothing goes out in clear when STARTTLS is not offered")
def strip():
    lab.equal(stripped("strip", "--no-starttls"), {"off": 1, "on": 1, "require": 0})
    log.wait_for(r"DCID \d+ STARTTLS command not supported$")
    log.wait_for(r"DCID \d+ TLS failed: TLS required, STARTTLS unavailable, destination is TLS disabled$")
    log.wait_for(r"DCID \d+ TLS was required but could not be successfully negotiated$")
    log.wait_for(r"Delayed: DCID \d+ MID \d+ to RID 0 - 4\.7\.5 - Cryptographic failure ")


@lab.test("an alert tells the administrator of required TLS that failed, once")
def alerted():
    setup()
    inbox = lab.Sink(store=box.path("alerts"))
    route("admin.example", inbox)
    configure("destconfig setup send_tls_req_alert=yes", "sethostname gw.lab.example admin_address=root@admin.example")
    sink = lab.Sink("--no-starttls")
    route("alert.example", sink, use_tls="require")
    mids = [submit("alert%d" % i, "x@alert.example") for i in range(3)]
    for mid in mids:
        log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0" % mid, 30)
    mails = [f for f in os.listdir(box.path("alerts")) if f.endswith(".eml")]
    lab.equal(len(mails), 1)
    with open(os.path.join(box.path("alerts"), mails[0]), newline="") as f:
        text = f.read()
    lab.match(text, r'Subject: Warning <System> gw\.lab\.example: TLS connection failed for the domain "alert\.example')
    lab.match(text, r'The Warning message is:\r\n\r\nTLS connection failed for the domain "alert\.example"\.')
    lab.match(text, r"Host 127\.0\.0\.1: ")
    lab.equal(sink.stop()["messages"], 0)
    configure("destconfig setup send_tls_req_alert=no")


@lab.test("required: nothing goes out in clear when STARTTLS is refused; preferred goes on in clear before the 220")
def refuse():
    lab.equal(stripped("refuse", "--reply", "STARTTLS=454 4.7.0 TLS not available"), {"off": 1, "on": 1, "require": 0})
    log.wait_for(r"DCID \d+ TLS failed: STARTTLS unexpected response$")


@lab.test("neither required nor preferred uses a connection whose handshake failed")
def garbage():
    lab.equal(stripped("garbage", "--garbage-tls"), {"off": 1, "on": 0, "require": 0})


@lab.test("a line cut instead of an answer to STARTTLS carries nothing in clear")
def cut():
    lab.equal(stripped("cut", "--reply", "STARTTLS=close"), {"off": 1, "on": 0, "require": 0})


@lab.test("preferred_fallback: after-220 makes a new connection in clear, never does not")
def fallback():
    setup()
    try:
        configure("destconfig setup preferred_fallback=after-220")
        sink = lab.Sink("--garbage-tls")
        route("after.example", sink, use_tls="on")
        finished(submit("after", "x@after.example"))
        lab.equal((sink.stats()["messages"], sink.stats()["connections"]), (1, 2))
        refusing = lab.Sink("--reply", "STARTTLS=454 4.7.0 no")
        route("after2.example", refusing, use_tls="on")
        mid = submit("after2", "x@after2.example")
        log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0" % mid, 30)
        lab.equal(refusing.stats()["messages"], 0)
        configure("destconfig setup preferred_fallback=never")
        required = lab.Sink("--garbage-tls")
        route("after3.example", required, use_tls="require")
        mid = submit("after3", "x@after3.example")
        log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0" % mid, 30)
        lab.equal(required.stats()["messages"], 0)
    finally:
        configure("destconfig setup preferred_fallback=before-220")


@lab.test("connections are resumed: one full handshake, then tickets")
def resumed():
    sink = lab.Sink()
    route("resume.example", sink, use_tls="require", max_messages_per_connection=1, concurrency_limit=1)
    for n in range(5):
        finished(submit("resume%d" % n, "x@resume.example"))
    stats = sink.stats()
    lab.equal((stats["tls_new"], stats["tls_resumed"], stats["messages_tls"]), (1, 4, 5))


def ticket_in(hello):
    """The identity of the pre-shared key which a ClientHello offers (RFC 8446 section 4.2.11), b"" without one."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at]
    end = at + 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 2
    while at < end:
        kind, n = int.from_bytes(hello[at:at + 2], "big"), int.from_bytes(hello[at + 2:at + 4], "big")
        if kind == 41:
            return hello[at + 8:at + 8 + int.from_bytes(hello[at + 6:at + 8], "big")]
        at += 4 + n
    return b""


class Ticketed:
    """A host that says which ticket each session began with, and gives new ones each time."""

    def __init__(self):
        pair = lab.make_cert(box.mkdir("certs"), "ticketed.example")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.cert, pair.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.tickets, self.resumed = [], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            s, _ = self.listener.accept()
            s.settimeout(20)
            for reply in (b"220 ticketed ESMTP", b"250-ticketed\r\n250 STARTTLS", b"220 go"):
                s.sendall(reply + b"\r\n")
                if reply != b"220 go":
                    s.recv(1000)
            hello = b""
            while len(hello) < 5 or len(hello) < 5 + int.from_bytes(hello[3:5], "big"):
                hello = s.recv(20000, socket.MSG_PEEK)
            self.tickets.append(ticket_in(hello))
            t = self.context.wrap_socket(s, server_side=True)
            self.resumed.append(t.session_reused)
            data = False
            for line in t.makefile("rb"):
                if data and line != b".\r\n":
                    continue
                word, data = line[:4].upper(), False
                if word == b"DATA":
                    data = True
                t.sendall(b"354 go\r\n" if data else b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                if word == b"QUIT":
                    break
            t.close()


@lab.test("a resumed session gives no ticket that lives longer: after an hour the certificate is looked at again")
def not_for_ever():
    setup()
    host = Ticketed()
    configure("smtproutes new ticketed.example 127.0.0.1:%d" % host.port,
              "destconfig new ticketed.example use_tls=require max_messages_per_connection=1 concurrency_limit=1")
    for n in range(3):
        finished(submit("ticket%d" % n, "x@ticketed.example"))
    lab.equal(host.resumed, [False, True, True])
    assert host.tickets[1] and host.tickets[2] == host.tickets[1], "a newer ticket was used, whose hour begins anew"


@lab.test("a session in clear never serves a domain that wants TLS at the same host")
def not_shared():
    sink = lab.Sink()
    route("clear.example", sink, use_tls="off")
    route("secret.example", sink, use_tls="require")
    for n in range(4):
        finished(submit("share%d" % n, ["x@clear.example", "x@secret.example"]))
    stats = sink.stats()
    lab.equal((stats["messages"], stats["messages_tls"] >= 4), (8, True))


# --- the console's commands ---------------------------------------------------------------------------------------

@lab.test("suspended deliveries wait, also over a restart, and go on when resumed")
def suspend():
    sink = lab.Sink()
    route("hold.example", sink)
    gateway.console("suspenddel 5")
    mid = submit("hold", "x@hold.example")
    gateway.restart()
    time.sleep(0.5)
    lab.equal(sink.stats()["messages"], 0)
    shown = gateway.json("showrecipients host hold.example")["data"]["recipients"]
    lab.equal([(r["mid"], r["rid"], r["recipient"], r["sender"], r["attempts"]) for r in shown],
              [(mid, 0, "x@hold.example", sender, 0)])
    gateway.console("resumedel")
    finished(mid)
    lab.equal(sink.stats()["messages"], 1)
    lab.equal(gateway.json("showrecipients all")["data"]["recipients"], [])


@lab.test("delivernow tries at once what would wait; the retry states survive a restart")
def deliver_now():
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Busy,*,1")
    setup()
    configure("bounceconfig new Slow initial_retry=3600")
    route("slow.example", sink, bounce_profile="Slow")
    mid = submit("slow", "x@slow.example")
    log.wait_for(r"Message %d to RID \[0\] pending till" % mid)
    gateway.restart()
    shown = gateway.json("showrecipients sender %s" % sender)["data"]["recipients"]
    entry = [r for r in shown if r["mid"] == mid][0]
    lab.equal((entry["attempts"], "4.2.1 Busy" in entry["last_error"]), (1, True))
    time.sleep(0.3)
    lab.equal(sink.stats()["messages"], 0)
    gateway.console("delivernow domain slow.example")
    finished(mid)
    lab.equal(sink.stats()["messages"], 1)


@lab.test("a route that changes takes the mail that waits with it")
def reroute():
    dead = lab.free_port()
    route("moved.example", "127.0.0.1:%d" % dead)
    configure("bounceconfig edit Default max_retries=100")
    mid = submit("moved", "x@moved.example")
    log.wait_for(r"Message %d to RID \[0\] pending till" % mid)
    sink = lab.Sink()
    configure("smtproutes edit moved.example %s" % hop(sink))
    gateway.console("delivernow all")
    finished(mid)
    lab.equal(sink.stats()["messages"], 1)
    configure("bounceconfig edit Default max_retries=3")


lab.main()
