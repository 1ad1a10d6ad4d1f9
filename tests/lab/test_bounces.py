# Bounces: what profiles say about them, and bounce verification: senders are tagged on their way out, bounces to other
# addresses are refused.

import re

import lab

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
log = gate.maillog()
partner, home, reports = lab.Recorder(), lab.Recorder(), lab.Recorder()
gate.configure("""bounceconfig edit Default initial_retry=1 max_retry=1
listenerconfig edit InboundMail rcptaccess new ours.example
smtproutes new partner.example 127.0.0.1:%d
smtproutes new ours.example 127.0.0.1:%d
smtproutes new reports.example 127.0.0.1:%d
destconfig new partner.example bounce_verification=on
""" % (partner.port, home.port, reports.port))


def send(port, sender, rcpt, code=250, text="Subject: x\r\n\r\nText.\r\n"):
    with lab.Smtp(port) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s>" % sender, 250)
        reply = c.cmd("RCPT TO:<%s>" % rcpt, code)
        if code == 250:
            mid = int(re.search(r"Message (\d+) accepted", c.data(text))[1])
            log.wait_for(r"Message finished MID %d done" % mid)
        c.quit()
    return str(reply)


def sender_seen():
    return [c for c in partner.commands if c.startswith("MAIL")][-1]


@lab.test("without a key nothing is tagged and no bounce is refused")
def no_key():
    send(gate.private, "alice@ours.example", "x@partner.example")
    lab.equal(sender_seen(), "MAIL FROM:<alice@ours.example>")
    send(gate.public, "", "alice@ours.example")


@lab.test("with a key senders are tagged where the destination says so, and a bounce comes home without the tag")
def tagged():
    gate.configure("bvconfig key key=<<K\nfirst key\nK\n")
    send(gate.private, "alice@ours.example", "x@partner.example")
    tag = re.fullmatch(r"MAIL FROM:<(prvs=0\d{3}[0-9A-F]{6}=alice@ours\.example)>", sender_seen())
    lab.equal(bool(tag), True, sender_seen())
    send(gate.private, "alice@ours.example", "x@ours.example")
    lab.equal("MAIL FROM:<alice@ours.example>" in home.commands, True, "no tag where no entry asks for it")
    send(gate.public, "", tag[1])
    lab.equal(home.commands[-3].startswith("RCPT TO:<alice@ours.example>") or
              "RCPT TO:<alice@ours.example>" in home.commands, True, "the bounce")
    gate.configure("bvconfig key key=<<K\nsecond key\nK\n")
    send(gate.public, "", tag[1])
    send(gate.private, "alice@ours.example", "x@partner.example")
    lab.match(sender_seen(), r"<prvs=1\d{3}")


@lab.test("a bounce without a tag, or with a wrong one, is refused; other mail is not")
def refused():
    for to in ("alice@ours.example", "prvs=0123456789=alice@ours.example"):
        lab.match(send(gate.public, "", to, 550), r"5\.7\.1 No message was sent from this address")
    log.wait_for(r"To: <alice@ours.example> Rejected by bounce verification")
    send(gate.public, "bob@elsewhere.example", "alice@ours.example")


@lab.test("who is relayed from outside keeps the sender it came with")
def foreign():
    gate.configure("listenerconfig edit InboundMail rcptaccess new partner.example")
    send(gate.public, "bob@elsewhere.example", "x@partner.example")
    lab.equal(sender_seen(), "MAIL FROM:<bob@elsewhere.example>")


@lab.test("untagged bounces: a policy may accept them, or they get a header")
def exceptions():
    gate.configure("listenerconfig edit InboundMail untagged_bounces=yes")
    send(gate.public, "", "alice@ours.example")
    lab.equal(b"X-Invalid-Bounce" in home.text, False)
    gate.configure("listenerconfig edit InboundMail untagged_bounces=no\nbvconfig setup header")
    send(gate.public, "", "alice@ours.example")
    lab.equal(home.text.startswith(b"X-Invalid-Bounce: yes\r\nReceived: "), True, "the header")
    gate.configure("listenerconfig edit InboundMail add_received=no")
    send(gate.public, "", "alice@ours.example")
    lab.equal(home.text.startswith(b"X-Invalid-Bounce: yes\r\n"), True, "the header without a trace")
    gate.configure("listenerconfig edit InboundMail add_received=yes")
    gate.configure("bvconfig clear --yes")
    send(gate.public, "", "alice@ours.example")
    lab.equal(home.text.startswith(b"Received: "), True)


@lab.test("a profile chooses subject, format and addressee of its bounces")
def profile():
    refusing = lab.Sink("--reply", "RCPT=550 5.1.1 No such user,gone*")
    gate.configure("""bounceconfig new Ours failure_subject="Your mail came back" alternate=desk@reports.example
bounceconfig new Plain dsn_format=no
smtproutes new ours-bounce.example 127.0.0.1:%d
smtproutes new plain-bounce.example 127.0.0.1:%d
destconfig new ours-bounce.example bounce_profile=Ours
destconfig new plain-bounce.example bounce_profile=Plain
""" % (refusing.port, refusing.port))
    for domain, to in (("ours-bounce.example", "desk"), ("plain-bounce.example", "s")):
        before = len(reports.commands)
        text = "Subject: x\r\n\r\n" + "A line of the text.\r\n" * 600
        with lab.Smtp(gate.private) as c:
            c.ehlo()
            c.cmd("MAIL FROM:<s@reports.example>", 250)
            c.cmd("RCPT TO:<gone@%s>" % domain, 250)
            c.data(text)
            c.quit()
        lab.eventually(lambda: len(reports.commands) > before and reports.commands[-1].startswith(("DATA", "QUIT")) and
                       reports.text, 20, "the report")
        lab.equal("RCPT TO:<%s@reports.example>" % to in reports.commands[before:], True, domain)
        got, reports.text = reports.text.decode(), b""
        if to == "desk":
            lab.match(got, r"^Subject: Your mail came back\r$")
            lab.match(got, r"^To: <desk@reports.example>\r$")
            lab.match(got, r"Content-Type: text/rfc822-headers")
            lab.equal("A line of the text." in got, False, "12 KB are too long to come back")
            gate.configure("bounceconfig setup max_copy=100k")
        else:
            lab.equal("multipart" in got, False)
            lab.match(got, r"The reason for the problem:\r\n5\.1\.1 - ")
            lab.equal(got.count("A line of the text."), 600, "all of it came back")


lab.main()
