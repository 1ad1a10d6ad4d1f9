# Delivery status notifications with Postfix as the next host: one that does DSN, SMTPUTF8 and 8BITMIME, and one that does
# none of them. What goes wrong goes wrong at a sink.

import email
import email.policy
import errno
import re

import faults
import lab

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
log = gate.maillog()
full = bare = None


def setup():
    global full, bare
    if full:
        return
    full = lab.Postfix(tuned=True)
    bare = lab.Postfix(tuned=True, main={"smtputf8_enable": "no", "smtpd_discard_ehlo_keywords": "dsn, 8bitmime, smtputf8"})
    refusing = lab.Sink("--smtputf8", "--reply", "RCPT=550 5.1.1 Niemand heißt hier so,*")
    full_box = lab.Sink("--reply", "RCPT=452 4.2.2 Mailbox full,*")
    gate.configure("""bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=1
smtproutes new full.example 127.0.0.1:%d
smtproutes new bare.example 127.0.0.1:%d
smtproutes new gone.example 127.0.0.1:%d
smtproutes new busy.example 127.0.0.1:%d
bounceconfig templates new Own text=<<T
Grüße von $Hostname: $BounceReason
T
bounceconfig new Local template=Own parse_status=no
smtproutes new own.example 127.0.0.1:%d
destconfig new own.example bounce_profile=Local
""" % (full.port, bare.port, refusing.port, full_box.port, refusing.port))


def send(sender, rcpts, mail="", text="Subject: x\r\n\r\nText.\r\n"):
    """rcpts: [(address, parameters)]; the MID"""
    setup()
    with lab.Smtp(gate.private) as c:
        c.ehlo("client.lab.example")
        c.cmd("MAIL FROM:<%s>%s" % (sender, mail), 250)
        for address, parameters in rcpts:
            c.cmd("RCPT TO:<%s>%s" % (address, parameters), 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(text.encode()))[1])
        c.quit()
    log.wait_for(r"Message finished MID %d done" % mid)
    return mid


def arrived(postfix, pattern):
    """The message in Postfix's mailbox that holds the pattern."""
    def look():
        return [raw for raw in postfix.maildir() if re.search(pattern, raw)]
    return lab.eventually(look, 20, "a message with %r" % pattern)[-1]


def parts(raw):
    """A report of three parts: text, status as bytes, the last part."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    lab.equal(message.get_content_type(), "multipart/report")
    lab.equal(message.get_param("report-type"), "delivery-status")
    lab.equal(message["Auto-Submitted"], "auto-replied")
    three = message.get_payload()
    lab.equal(len(three), 3)
    return three[0].get_content(), three[1], three[2]


def reports(mid):
    return len(log.find(r"was generated for bounce of MID %d\b" % mid))


@lab.test("parameters reach a host with DSN, which then answers for them; we do not")
def passed_on():
    setup()
    mid = send("s@full.example", [("r@full.example", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Old+2Bname@full.example")],
               " RET=HDRS ENVID=passed+2Bon")
    report = arrived(full, rb"Original-Envelope-Id: passed\+on\r?\n").decode()
    lab.match(report, r"^Original-Recipient: rfc822;Old\+name@full\.example")
    lab.match(report, r"^Action: deliver(ed|able)")
    lab.match(report, r"^From: .*@postfix\.lab\.example")
    lab.equal(reports(mid), 0)


@lab.test("a host without DSN gets no parameters; success is reported as relayed, to who asked for it")
def relayed():
    mid = send("s@full.example", [("one@bare.example", " NOTIFY=SUCCESS ORCPT=utf-8;\\x{F6}ne@bare.example"),
                                  ("two@bare.example", " NOTIFY=FAILURE"), ("three@bare.example", ""),
                                  ("four@bare.example", " NOTIFY=NEVER")], " RET=FULL ENVID=relayed")
    text, status, copy = parts(arrived(full, rb"Original-Envelope-Id: relayed\r?\n"))
    status = status.as_string()
    lab.match(status, r"^Reporting-MTA: dns; ")
    lab.match(status, r"^Received-From-MTA: dns; client\.lab\.example$")
    lab.match(status, r"^Original-Recipient: utf-8;\\x\{F6\}ne@bare\.example$")
    lab.match(status, r"^Final-Recipient: rfc822; one@bare\.example$")
    lab.match(status, r"^Action: relayed$")
    lab.match(status, r"^Remote-MTA: dns; \[127\.0\.0\.1\]$")
    lab.equal(len(re.findall(r"^Final-Recipient", status, re.M)), 1)
    lab.equal(copy.get_content_type(), "text/rfc822-headers")
    lab.equal(reports(mid), 1)


@lab.test("what failed is reported to who did not say otherwise, in one report")
def failed():
    mid = send("s@full.example", [("one@gone.example", " NOTIFY=FAILURE"), ("two@gone.example", ""),
                                  ("three@gone.example", " NOTIFY=SUCCESS"), ("four@gone.example", " NOTIFY=NEVER")],
               " ENVID=failed RET=FULL")
    text, status, copy = parts(arrived(full, rb"Original-Envelope-Id: failed\r?\n"))
    lab.match(text, r"5\.1\.1 - Bad destination email address 550-'5\.1\.1 Niemand heißt hier so'")
    lab.equal(re.findall(r"^Final-Recipient: rfc822; (\w+)@", status.as_string(), re.M), ["one", "two"])
    lab.match(status.as_string(), r"^Diagnostic-Code: smtp; 550 5\.1\.1 Niemand hei\?\?t hier so$")
    lab.equal(copy.get_payload()[0]["Subject"], "x")
    lab.equal(reports(mid), 1)


@lab.test("the null sender never gets a report, whatever it asked for")
def null_sender():
    mid = send("", [("r@gone.example", " NOTIFY=SUCCESS,FAILURE,DELAY"), ("r@bare.example", " NOTIFY=SUCCESS")])
    lab.equal(reports(mid), 0)
    log.wait_for(r"Double bounce: MID %d to 0 - 5\.1\.1" % mid)


@lab.test("time is up: the report says so and what the host said last")
def expired():
    send("s@full.example", [("r@busy.example", "")], " ENVID=expired")
    _, status, _ = parts(arrived(full, rb"Original-Envelope-Id: expired\r?\n"))
    lab.match(status.as_string(), r"^Status: 5\.4\.7\n")
    lab.match(status.as_string(), r"^Diagnostic-Code: smtp; 452 4\.2\.2 Mailbox full$")


UTF8 = "Subject: Grüße\r\n\r\nText mit Umlaut: ü\r\n"


@lab.test("an SMTPUTF8 message from an ASCII address is reported over a host that does neither SMTPUTF8 nor 8BITMIME")
def ascii_way_back():
    mid = send("s@bare.example", [("jörg@gone.example", " ORCPT=utf-8;jörg@gone.example")], " SMTPUTF8 ENVID=asciiway", UTF8)
    raw = arrived(bare, rb"Original-Envelope-Id: asciiway\r?\n")
    lab.equal(max(raw) < 128, True, "nothing is 8-bit")
    text, status, copy = parts(raw)
    lab.match(text, r"<jörg@gone\.example> was undeliverable")
    lab.equal(status.get_content_type(), "message/delivery-status")
    lab.match(status.as_string(), r"^Original-Recipient: utf-8;j\\x\{F6\}rg@gone\.example$")
    lab.match(status.as_string(), r"^Final-Recipient: utf-8; j\\x\{F6\}rg@gone\.example$")
    lab.equal(copy.get_content_type(), "message/global")
    lab.equal(reports(mid), 1)


@lab.test("the same over a host that does: the copy comes back as it was")
def eight_bit_way_back():
    send("s@full.example", [("jörg@gone.example", "")], " SMTPUTF8 ENVID=eightbit", UTF8)
    raw = arrived(full, rb"Original-Envelope-Id: eightbit\r?\n")
    lab.match(raw.decode(), r"^Subject: Grüße\r?$")
    lab.match(raw.decode(), r"^Text mit Umlaut: ü\r?$")


@lab.test("a report to an address that needs SMTPUTF8 is a global one, and goes where that is spoken or nowhere")
def global_report():
    send("jürgen@full.example", [("jörg@gone.example", ""), ("joe@gone.example", "")], " SMTPUTF8 ENVID=global", UTF8)
    raw = arrived(full, rb"Original-Envelope-Id: global\r?\n")
    text = raw.decode()
    lab.match(text, r"^Content-Type: message/global-delivery-status")
    lab.match(text, r"^Final-Recipient: utf-8; jörg@gone\.example")
    lab.match(text, r"^Final-Recipient: rfc822; joe@gone\.example")
    mid = send("jürgen@bare.example", [("jörg@gone.example", "")], " SMTPUTF8", UTF8)
    report = int(log.wait_for(r"MID (\d+) was generated for bounce of MID %d\b" % mid)[1])
    log.wait_for(r"Double bounce: MID %d to 0 - 5\.6\.7" % report)


@lab.test("SMTPUTF8 that nothing needs keeps no message from a host without it")
def needless():
    send("s@full.example", [("needless@bare.example", "")], " SMTPUTF8 BODY=8BITMIME")
    arrived(bare, rb"Delivered-To: needless@bare\.example")


@lab.test("a profile has its own words and the general status")
def own_words():
    send("s@full.example", [("r@own.example", "")], " ENVID=own")
    text, status, _ = parts(arrived(full, rb"Original-Envelope-Id: own\r?\n"))
    lab.match(text, r"^Grüße von \S+: 5\.1\.0 - Unknown address error 550-'5\.1\.1 Niemand heißt hier so'$")
    lab.match(status.as_string(), r"^Status: 5\.1\.0$")


@lab.test("parameters that are not what RFC 3461 and 6533 say are refused")
def refused():
    setup()
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for bad in ("RET=FULL RET=FULL", "RET=ALL", "ENVID=a+zz", "ENVID=" + "e" * 101, "ENVID=a ENVID=b"):
            c.cmd("MAIL FROM:<s@full.example> " + bad, "501 5.5.4 ")
        c.cmd("MAIL FROM:<s@full.example> ENVID=" + "e" * 100, 250)
        for bad in ("NOTIFY=NEVER,DELAY", "NOTIFY=DELAY NOTIFY=DELAY", "NOTIFY=", "ORCPT=x", "ORCPT=rfc822;a+b",
                    "ORCPT=rfc822;" + "a" * 494, "ORCPT=utf-8;a\\x{ZZ}", "ORCPT=utf-8;a+2B"):
            c.cmd("RCPT TO:<r@full.example> " + bad, "501 5.5.4 ")
        c.cmd("RCPT TO:<r@full.example> ORCPT=utf-8;jörg@full.example", "553 5.6.7 ") # not asked for at MAIL
        c.cmd("RCPT TO:<r@full.example> ORCPT=rfc822;" + "a" * 493, 250)
        c.quit()


@lab.test("a report that the disk does not take: who was not told is not forgotten, and a delivery is said to lack its report")
def disk():
    own = lab.Sandbox()
    full_disk = faults.Disk(own, "home")
    own_gate = lab.Posternd(full_disk.home, env=full_disk.env)
    own_log = own_gate.maillog()
    inbox, slow, refusing = lab.Sink("--store", own.mkdir("mail")), lab.Sink("--delay", "DOT=700"), lab.Sink(
        "--delay", "RCPT=700", "--reply", "RCPT=550 5.1.1 gone,*")
    own_gate.configure("smtproutes new back.example 127.0.0.1:%d\nsmtproutes new slow.example 127.0.0.1:%d\n"
                       "smtproutes new gone.example 127.0.0.1:%d\n" % (inbox.port, slow.port, refusing.port))
    mids = []
    with lab.Smtp(own_gate.private) as c:
        c.ehlo()
        for to in ("r@slow.example", "r@gone.example"):
            c.cmd("MAIL FROM:<s@back.example>", 250)
            c.cmd("RCPT TO:<%s> NOTIFY=SUCCESS,FAILURE" % to, 250)
            mids.append(int(re.search(r"Message (\d+) accepted", c.data("Subject: x\r\n\r\nx\r\n"))[1]))
        c.quit()
    full_disk.arm("write sync", errno.ENOSPC, times=faults.FOREVER, only="queue.db")
    own_log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.1\.1" % mids[1])
    lab.eventually(lambda: "Message %d from <s@back.example> was delivered, but the report its sender asked for is lost" % mids[0]
                   in " ".join(own_gate.console("displayalerts").stdout.split()), 15)
    full_disk.clear()
    lab.equal([r["mid"] for r in own_gate.json("showrecipients all")["data"]["recipients"]], [mids[1]])
    own_gate.console("delivernow all")
    own_log.wait_for(r"Message finished MID %d done" % mids[1], 20)
    inbox.wait_messages(1)
    lab.match(lab.read_text(own.path("mail", "1.eml")), r"^Action: failed$")
    own_gate.stop()


@lab.test("a message that goes round and round is refused")
def loop():
    setup()
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.mail("s@full.example", "r@full.example")
        c.data("Received: from x by y; now\r\n" * 200 + "Subject: x\r\n\r\nx\r\n", "554 5.4.6 ")


lab.main()
