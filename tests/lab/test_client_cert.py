# timeout: 600
# TLS from the first byte, submission, and client certificates at the edges: what is asked for and of whom, what a middleman
# gains (nothing), what survives in a ticket (nothing), what thousands of sessions weigh.

import base64
import os
import re
import socket
import ssl
import time

import cards
import lab

world = cards.World()
gate, log, directory = world.gate, world.log, world.directory
PORTS = {}
HAVE = {}


def setup():
    """Listeners of every protocol, open for all hosts; who may send is said by SMTP AUTH."""
    if PORTS:
        return
    HAVE["alice"] = world.card("alice")
    HAVE["old"] = world.card("old", expired=True)
    directory.user("bob", "bob-password")
    for name, protocol in (("Submission", "submission"), ("Submissions", "submissions"), ("Smtps", "smtps")):
        PORTS[protocol] = lab.free_port()
    gate.configure(
        "listenerconfig set Submission kind=private protocol=submission address=127.0.0.1 port=%d tls=preferred smtp_auth=either "
        "auth=required default_behavior=accept\n" % PORTS["submission"]
        + "listenerconfig set Submissions kind=private protocol=submissions address=127.0.0.1 port=%d smtp_auth=either "
        "auth=preferred default_behavior=accept max_concurrency=100\n" % PORTS["submissions"]
        + "listenerconfig set Smtps kind=public protocol=smtps address=127.0.0.1 port=%d default_behavior=accept\n" % PORTS["smtps"]
        + "listenerconfig rcptaccess new Smtps/example.com\n"
        + "listenerconfig edit InboundMail tls=preferred auth=preferred smtp_auth=password max_concurrency=200\n")


def plain(user):
    return "AUTH PLAIN " + base64.b64encode(("\0%s\0%s-password" % (user, user)).encode()).decode()


def implicit(port, card=None, protocols=None, greet=True):
    context = lab.client_context(cert=card)
    if protocols:
        context.set_alpn_protocols(protocols)
    c = lab.Smtp(port, greet=False)
    c.tls(context)
    if greet:
        c.expect(220)
        c.ehlo()
    return c


def header_of(ident):
    def find():
        for name in sorted(os.listdir(world.box.path("in"))):
            text = lab.read_text(world.box.path("in", name)).replace("\r\n", "\n")
            if ident in text:
                return text.partition("\n\n")[0]
        return None

    return lab.eventually(find, 15, "%s arrives" % ident)


# --- implicit TLS and submission -----------------------------------------------------------------------------

@lab.test("implicit TLS: the handshake, then the greeting; no STARTTLS; the trace says ESMTPS")
def smtps():
    setup()
    c = implicit(PORTS["smtps"])
    lab.equal(c.has("STARTTLS"), False)
    lab.equal(c.has("AUTH"), False)
    cards.mail(c, "user@example.com", "s1")
    c.cmd("MAIL FROM:<a@b.example>", 250)
    c.cmd("RCPT TO:<x@elsewhere.example>", 550)
    c.quit()
    lab.match(header_of("X-Bench-Id: s1"), r"with ESMTPS id ")
    done = lab.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % PORTS["smtps"], "-quiet", "-crlf"], input="QUIT\n", check=False)
    lab.match(done.stdout, r"(?m)^220 .*ESMTP")
    done = lab.swaks(PORTS["smtps"], "--to", "user@example.com", "--from", "a@b.example", "--tls-on-connect")
    lab.match(done.stdout, r"250 2.6.0 ok:  Message \d+ accepted")


@lab.test("implicit TLS: clear text, silence and other protocols get nothing")
def smtps_wrong():
    setup()
    s = socket.create_connection(("127.0.0.1", PORTS["smtps"]), timeout=10)
    s.sendall(b"EHLO client.lab.example\r\n")
    data = s.recv(4096)
    lab.equal(b"220" in data, False)
    s.close()
    log.wait_for(r"ICID \d+ TLS failed: TLS handshake: (wrong version number|http request|packet length too long)")
    for names in (["http/1.1"], ["h2", "http/1.1"], ["imap"]):
        try:
            implicit(PORTS["smtps"], protocols=names)
            raise lab.Failure("%s was accepted" % names)
        except ssl.SSLError as e:
            lab.match(str(e), "NO_APPLICATION_PROTOCOL|no application protocol|alert")
    implicit(PORTS["smtps"], protocols=["smtp"]).quit()


@lab.test("submission: nobody sends without authentication, on 587 and on 465; Date and Message-ID are added")
def submission():
    setup()
    for protocol in ("submission", "submissions"):
        if protocol == "submission":
            c = lab.Smtp(PORTS[protocol])
            lab.equal([e for e in c.ehlo() if e.startswith("AUTH")], [])
            c.cmd("MAIL FROM:<a@example.com>", r"530 5\.7\.0 ")
            c.starttls(lab.client_context())
        else:
            c = implicit(PORTS[protocol])
        lab.equal([e for e in c.extensions if e.startswith("AUTH")], ["AUTH PLAIN LOGIN"])
        for rcpt in ("user@example.com", "x@elsewhere.example"):
            c.cmd("MAIL FROM:<a@example.com>", r"530 5\.7\.0 ")
            c.cmd("RCPT TO:<%s>" % rcpt, 503)
        c.cmd(plain("bob"), 235)
        c.mail("bob@example.com", "x@elsewhere.example")
        c.data("Subject: %s\r\n\r\nx\r\n" % protocol)
        c.quit()
        header = header_of("Subject: %s\n" % protocol)
        lab.match(header, r"with ESMTPSA id ")
        lab.match(header, r"(?m)^Date: \w{3}, \d\d \w{3} \d{4} ")
        lab.match(header, r"(?m)^Message-ID: <\S+@\S+>$")
        lab.equal("bob" in header, False)
    c = implicit(PORTS["submissions"], HAVE["alice"])
    lab.equal([e for e in c.extensions if e.startswith("AUTH")], ["AUTH EXTERNAL"])
    cards.mail(c, ident="s3")
    c.quit()


@lab.test("a public listener relays for who has authenticated, and for nobody else")
def public():
    setup()
    with lab.Smtp(gate.public) as c:
        c.ehlo()
        c.starttls()
        c.cmd("MAIL FROM:<a@b.example>", 250)
        c.cmd("RCPT TO:<x@elsewhere.example>", 550)
        c.cmd("RSET", 250)
        c.cmd(plain("bob"), 235)
        cards.mail(c, ident="r1")
        c.quit()
    lab.match(header_of("X-Bench-Id: r1"), r"with ESMTPSA id ")


# --- certificates ---------------------------------------------------------------------------------------------

@lab.test("TLS preferred: no certificate is fine, an invalid one is refused; the authorities are named")
def preferred():
    setup()
    gate.configure("listenerconfig edit InboundMail verify_client=yes\n")
    try:
        with lab.Smtp(gate.public) as c:
            c.ehlo()
            cards.mail(c, "user@example.com", "v1")
            c.quit()
        for card in (None, HAVE["alice"]):
            with lab.Smtp(gate.public) as c:
                c.ehlo()
                c.starttls(lab.client_context(cert=card))
                cards.mail(c, "user@example.com", "v2")
                c.quit()
        with lab.Smtp(gate.public) as c:
            c.ehlo()
            c.starttls(lab.client_context(cert=HAVE["old"]), ehlo=False)
            c.cmd("EHLO client.lab.example", r"554 #5\.7\.1 Client certificate refused: certificate has expired")
            for _ in range(3):
                c.cmd("NOOP", 554)
            c.cmd("NOOP", r"421 #4\.7\.0 ")
            lab.equal(c.at_eof(), True)
        done = lab.s_client(gate.public)
        lab.match(done.stdout, r"Acceptable client certificate CA names\nCN ?= ?Card CA")
    finally:
        gate.configure("listenerconfig edit InboundMail verify_client=no\n")
    done = lab.s_client(gate.public)
    lab.match(done.stdout, r"No client certificate CA names sent")


@lab.test("implicit TLS: a refused certificate is the greeting")
def refused_greeting():
    setup()
    gate.configure("listenerconfig edit Smtps verify_client=yes tls=required\n")
    try:
        c = implicit(PORTS["smtps"], HAVE["old"], greet=False)
        c.expect(r"554 \S+ Client certificate refused: certificate has expired")
        c.cmd("EHLO x.example", 554)
        c.quit()
        c = implicit(PORTS["smtps"], greet=False)
        c.expect(r"554 \S+ A client certificate is required")
        c.quit()
        c = implicit(PORTS["smtps"], HAVE["alice"])
        cards.mail(c, "user@example.com", "v3")
        c.quit()
    finally:
        gate.configure("listenerconfig edit Smtps verify_client=no tls=off\n")


@lab.test("sessions in which a certificate is asked for are never resumed; others are")
def resumption():
    setup()
    file = world.box.path("session.pem")

    def twice(port, version, *args):
        """Is the second session the first one resumed?"""
        if os.path.exists(file):
            os.remove(file)
        argv = ["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, version, "-crlf", "-ign_eof", *args]
        lab.run([*argv, "-sess_out", file], input="NOOP\nQUIT\n", check=False)
        if not os.path.exists(file):
            return False
        done = lab.run([*argv, "-sess_in", file], input="QUIT\n", check=False)
        lab.match(done.stdout, r"(?m)^(New|Reused), TLSv1")
        return "\nReused, " in done.stdout

    card = ("-cert", HAVE["alice"].cert, "-key", HAVE["alice"].key)
    for version in ("-tls1_2", "-tls1_3"):
        lab.equal(twice(PORTS["smtps"], version), True, version)
        lab.equal(twice(PORTS["submissions"], version, *card), False, version)
        lab.equal(twice(PORTS["submissions"], version), False, version)


@lab.test("a middleman who strips STARTTLS, or puts AUTH behind it, gets no password")
def middleman():
    setup()
    c = lab.Smtp(PORTS["submission"]) # what a client sees whose STARTTLS line was taken away
    extensions = [e for e in c.ehlo() if e != "STARTTLS"]
    lab.equal([e for e in extensions if e.startswith("AUTH")], [])
    c.cmd("AUTH LOGIN", r"538 5\.7\.11 ")
    c.cmd("AUTH PLAIN", r"538 5\.7\.11 ")
    c.cmd("MAIL FROM:<a@example.com>", r"530 5\.7\.0 ")
    c.quit()
    c = lab.Smtp(PORTS["submission"])
    c.ehlo()
    c.raw("STARTTLS\r\nEHLO evil.example\r\n%s\r\nMAIL FROM:<evil@b.example>\r\n" % plain("bob"))
    code, _ = c.reply()
    lab.equal(code, 554)
    lab.equal(c.at_eof(), True)
    c = lab.Smtp(PORTS["submission"])
    c.ehlo()
    c.cmd("STARTTLS", 220)
    c.raw("EHLO evil.example\r\n%s\r\n" % plain("bob")) # a second piece: taken for the handshake
    lab.equal(c.at_eof(), True)
    lab.equal(log.find("evil@b.example"), [])


@lab.test("what is smuggled into an authenticated session's message stays in it, and is refused")
def smuggling():
    setup()
    hidden = b"MAIL FROM:<smuggler@b.example>\r\nRCPT TO:<victim@elsewhere.example>\r\nDATA\r\nSubject: y\r\n\r\ny"
    c = implicit(PORTS["submissions"])
    c.cmd(plain("bob"), 235)
    for mark in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n"):
        c.mail("bob@example.com", "x@elsewhere.example")
        c.cmd("DATA", 354)
        c.raw(b"Subject: x\r\n\r\nx" + mark + hidden + b"\r\n.\r\n")
        c.expect(550, repr(mark))
    c.cmd("NOOP", 250)
    c.quit()
    lab.equal(log.find("smuggler@b.example"), [])


@lab.test("AUTH: endless lines, endless dialogs and noise harm nobody")
def noise():
    setup()
    c = implicit(PORTS["submissions"])
    c.send("AUTH PLAIN " + "A" * 20000)
    c.expect(500)
    c.cmd("AUTH PLAIN", 334)
    c.send("A" * 20000)
    c.expect(r"500 5\.5\.6 ")
    c.cmd("AUTH LOGIN", 334)
    c.send("*")
    c.expect(501)
    for _ in range(2):
        c.send("AUTH LOGIN \xff\xfe")
        c.reply()
    lab.equal(c.at_eof(), True)
    implicit(PORTS["submissions"]).quit()


@lab.test("idle sessions that have authenticated weigh what others weigh")
def weight():
    if "san" in os.path.basename(lab.BUILD):
        lab.skip("not under a sanitizer")
    setup()
    gate.configure("listenerconfig edit Submissions max_concurrency=5000\nlistenerconfig edit Smtps max_concurrency=5000\n")
    kept = []

    def weigh(make, count=300):
        """KiB a session; all stay open, so that none lives in what another left."""
        before = lab.pss_bytes([gate.engine])
        kept.extend(make() for _ in range(count))
        time.sleep(7) # stacks are trimmed
        return (lab.pss_bytes([gate.engine]) - before) / count / 1024

    def alone():
        return implicit(PORTS["smtps"])

    def authenticated():
        c = implicit(PORTS["submissions"])
        c.cmd(plain("bob"), 235)
        return c

    def with_card():
        return implicit(PORTS["submissions"], HAVE["alice"])

    weigh(alone) # what all share
    figures = [(name, weigh(make)) for name, make in (("TLS", alone), ("TLS and AUTH", authenticated), ("TLS and certificate", with_card))]
    lab.note(", ".join("%s: %.1f KiB a session" % f for f in figures))
    for c in kept:
        c.close()
    for name, figure in figures:
        lab.equal(figure < 60, True, "%s: %.1f KiB" % (name, figure))


lab.main()
