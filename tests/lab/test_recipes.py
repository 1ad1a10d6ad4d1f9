# timeout: 600
# The three ways to know who sends, end to end, with a real directory and other people's clients: a client certificate alone;
# SMTP AUTH alone, with the directory's word on who may use it; a certificate, or else SMTP AUTH.

import base64
import os
import re
import smtplib
import time

import cards
import lab
import slapd

world = cards.World()
gate, log, directory = world.gate, world.log, world.directory
CARDS = {}
USER = "SMTP Auth: \\(ICID \\d+\\) %s for user: %s using AUTH mechanism: %s with profile: %s$"


def setup():
    if CARDS:
        return
    CARDS["alice"] = world.card("alice")
    CARDS["carol"] = world.card("carol")
    CARDS["old"] = world.card("old", expired=True)
    CARDS["stranger"] = world.card("stranger", known=False)
    CARDS["forged"] = world.card("forged", known=False, by=world.other)
    CARDS["lost"] = world.card("lost")
    directory.user("forged", caccn="forged", cacserial=CARDS["forged"].serial)
    directory.user("bob", "bob-password")                              # was given no card
    world.card("eve", cacexempt="yes")
    world.card("tom", cacemergency=slapd.generalized_time(3600))       # has left it at home
    world.card("tim", cacemergency=slapd.generalized_time(-3600))      # yesterday


def arrived(ident):
    """The header of the message as the next hop has got it."""
    def find():
        for name in sorted(os.listdir(world.box.path("in"))):
            text = lab.read_text(world.box.path("in", name))
            if "X-Bench-Id: %s\n" % ident in text.replace("\r\n", "\n"):
                return text.replace("\r\n", "\n").partition("\n\n")[0]
        return None

    return lab.eventually(find, 15, "message %s arrives" % ident)


def sends(c, ident):
    """It goes anywhere, marked as authenticated, without the name of the user."""
    cards.mail(c, ident=ident)
    header = arrived(ident)
    lab.match(header, r"\tby \S+ with ESMTPSA id ")
    c.quit()
    return header


def refused(card, reason):
    """The handshake succeeds, and everything is answered with the reason."""
    before = len(log.find("Start MID"))
    c = world.client(card, ehlo=False)
    for command in ("EHLO client.lab.example", "MAIL FROM:<a@example.com>", "AUTH PLAIN AGEAYg=="):
        c.cmd(command, r"554 #5\.7\.1 .*" + reason)
    c.quit()
    lab.equal(len(log.find("Start MID")), before)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def plain(user, password=None):
    return "AUTH PLAIN " + b64("\0%s\0%s" % (user, password or user + "-password"))


# --- a certificate alone -------------------------------------------------------------------------------------

@lab.test("certificate: TLS, a valid certificate and the directory's word let a user send anywhere")
def certificate():
    setup()
    world.recipe("certificate")
    c = world.client(tls=False)
    c.cmd("MAIL FROM:<a@example.com>", r"530 #5\.7\.0 Must issue a STARTTLS command first")
    c.quit()
    c = world.client(CARDS["alice"])
    lab.equal([e for e in c.extensions if e.startswith("AUTH")], ["AUTH EXTERNAL"])
    header = sends(c, "c1")
    lab.equal("alice" in header, False)
    log.wait_for(r"ICID \d+ client certificate verified: CN=alice$")
    log.wait_for(USER % ("succeeded", "alice", "CERTIFICATE", "cac"))


@lab.test("certificate: smtplib, swaks, openssl and gnutls-cli send with it")
def certificate_clients():
    setup()
    world.recipe("certificate")
    alice = CARDS["alice"]
    with smtplib.SMTP("127.0.0.1", world.port, "client.lab.example", timeout=20) as s:
        s.starttls(context=lab.client_context(cert=alice))
        s.sendmail("alice@example.com", ["x@elsewhere.example"], lab.make_message("c2", 100).data)
    arrived("c2")
    done = lab.swaks(world.port, "--to", "x@elsewhere.example", "--from", "alice@example.com", "--tls", "--tls-cert",
                     alice.cert, "--tls-key", alice.key)
    lab.match(done.stdout, r"250 2.6.0 ok:  Message \d+ accepted")
    talk = ("EHLO client.lab.example\r\nMAIL FROM:<alice@example.com>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n", ".\r\n", "QUIT\r\n")
    for version in ("-tls1_2", "-tls1_3"):
        out = dialog(["openssl", "s_client", "-connect", "127.0.0.1:%d" % world.port, "-starttls", "smtp", "-quiet", "-crlf", version,
                      "-cert", alice.cert, "-key", alice.key], [t.replace("\r", "") for t in talk])
        lab.match(out, r"250 2.6.0 ok:  Message \d+ accepted", version)
    out = dialog(["gnutls-cli", "--starttls-proto=smtp", "--port", str(world.port), "--insecure", "--x509certfile", alice.cert,
                  "--x509keyfile", alice.key, "127.0.0.1"], talk)
    lab.match(out, r"250 2.6.0 ok:  Message \d+ accepted")


def dialog(argv, parts):
    """What a client prints to which the parts are typed, one when the last has been answered."""
    import subprocess
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = b""
    wants = [rb"354 go ahead", rb"Message \d+ accepted", rb"221 "]
    try:
        os.set_blocking(p.stdout.fileno(), False)

        def read():
            nonlocal out
            out += p.stdout.read() or b""
            return out

        lab.eventually(lambda: re.search(rb"250 (SMTPUTF8|SIZE)|Simple Client Mode|250 ", read()), 15, "the handshake is over")
        for part, want in zip(parts, wants):
            p.stdin.write(part.encode())
            p.stdin.flush()
            lab.eventually(lambda: re.search(want, read()), 15, "%r after %r; so far: %r" % (want, part, out[-600:]))
    finally:
        p.kill()
        p.wait()
    return out.decode("utf-8", "replace")


@lab.test("certificate: none, an expired one, one of another authority, one the directory does not know are refused")
def certificate_refused():
    setup()
    world.recipe("certificate")
    refused(None, "A client certificate is required")
    log.wait_for(r"ICID \d+ client certificate refused \(none was shown\): no subject$")
    refused(CARDS["old"], "certificate has expired")
    log.wait_for(r"ICID \d+ client certificate refused \(certificate has expired\): CN=old$")
    refused(CARDS["forged"], "unable to get local issuer certificate")
    refused(CARDS["stranger"], "the directory does not know it")
    log.wait_for(USER % ("failed", "stranger", "CERTIFICATE", "cac"))
    refused(world.card("server", known=False, usage="serverAuth"), "unsuitable certificate purpose")


@lab.test("certificate: a user who is removed from the directory, or whose card has another number, is nobody")
def certificate_removed():
    setup()
    world.recipe("certificate")
    gone = world.card("gone")
    world.client(gone).quit()
    directory.modify("gone", replace={"cacserial": "0123"})
    refused(gone, "the directory does not know it")
    directory.modify("gone", replace={"cacserial": gone.serial})
    world.client(gone).quit()
    directory.remove("gone")
    refused(gone, "the directory does not know it")


@lab.test("certificate: a revoked one is refused as soon as the list is here, resumption or not")
def certificate_revoked():
    setup()
    world.recipe("certificate")
    context = lab.client_context(cert=CARDS["lost"])
    web, authority = world.web, world.authority
    web.put("cards.crl", authority.crl())
    gate.configure("certconfig crl setup inbound=yes\ncertconfig crl new cards url=%s\n" % web.url("cards.crl"))
    lab.eventually(lambda: next(s for s in gate.json("certconfig crl print")["data"]["sources"] if s["name"] == "cards")["state"]
                   == "current", 15, "the list is here")
    c = lab.Smtp(world.port)
    c.ehlo()
    c.starttls(context)
    session = c.sock.session
    sends(c, "c3")
    authority.revoke(CARDS["lost"], "keyCompromise")
    web.put("cards.crl", authority.crl())
    gate.console("certconfig crl update cards")
    c = lab.Smtp(world.port)
    c.ehlo()
    c.cmd("STARTTLS", 220)
    c.sock = context.wrap_socket(c.sock, session=session)
    c.cmd("EHLO client.lab.example", r"554 #5\.7\.1 Client certificate refused: .*revoked")
    lab.equal(c.sock.session_reused, False)
    c.quit()
    log.wait_for(r"ICID \d+ client certificate refused \(.*revoked.*\): CN=lost$")
    world.client(CARDS["alice"]).quit() # others are not


@lab.test("certificate: without the directory 454, never a relay; mail that does not need it goes on")
def certificate_down():
    setup()
    world.recipe("certificate")
    directory.stop()
    try:
        c = world.client(CARDS["alice"])
        c.cmd("MAIL FROM:<alice@example.com>", r"454 4\.7\.0 Temporary authentication failure")
        c.cmd("RCPT TO:<x@elsewhere.example>", 503)
        c.quit()
        log.wait_for(r"Warning: SMTP Auth: \(ICID \d+\) could not be decided for user: alice using AUTH mechanism: CERTIFICATE with "
                     r"profile: cac: ")
        with lab.Smtp(gate.public) as c:
            c.ehlo()
            cards.mail(c, "user@example.com", "c4")
            c.quit()
        arrived("c4")
    finally:
        directory.start()
    lab.eventually(lambda: still_sends(CARDS["alice"], "c5"), 40, "the directory is asked again")


def still_sends(card, ident):
    c = world.client(card)
    code, _ = c.cmd("MAIL FROM:<a@example.com>")
    c.cmd("RSET", 250)
    if code != 250:
        c.quit()
        return False
    sends(c, ident)
    return True


@lab.test("certificate: a directory that hangs holds nobody up but who waits for it")
def certificate_hangs():
    setup()
    world.recipe("certificate")
    directory.freeze()
    try:
        waiting = [lab.Smtp(world.port) for _ in range(150)]
        for c in waiting:
            c.ehlo()
            c.starttls(lab.client_context(cert=CARDS["alice"]), ehlo=False)
        began = time.monotonic() # they wait, all of them
        for i in range(20):
            with lab.Smtp(gate.public) as c:
                c.ehlo()
                cards.mail(c, "user@example.com", "h%d" % i)
                c.quit()
        lab.equal(time.monotonic() - began < 2.5, True, "mail that needs no directory took %.1f s" % (time.monotonic() - began))
        for c in waiting:
            c.ehlo()
            c.cmd("MAIL FROM:<alice@example.com>", 454)
            c.quit()
    finally:
        directory.thaw()
    lab.eventually(lambda: still_sends(CARDS["alice"], "h-after"), 40, "the directory is asked again")


# --- SMTP AUTH alone -------------------------------------------------------------------------------------------

@lab.test("AUTH: after TLS only, and for whom the directory allows it")
def password():
    setup()
    world.recipe("password")
    with lab.Smtp(world.port) as c:
        lab.equal(any(e.startswith("AUTH") for e in c.ehlo()), False)
        c.cmd(plain("bob"), r"530 #5\.7\.0 Must issue a STARTTLS command first")
    c = world.client()
    lab.match("\n".join(c.extensions), r"(?m)^AUTH PLAIN LOGIN$")
    c.cmd("MAIL FROM:<bob@example.com>", r"530 5\.7\.0 This sender must authenticate before sending\.")
    c.cmd(plain("bob", "wrong"), r"535 5\.7\.8 Authentication failed\.")
    c.cmd(plain("nobody"), r"535 5\.7\.8 Authentication failed\.")
    c.cmd(plain("bob"), r"235 2\.7\.0 Authentication successful\.")
    lab.equal("bob" in re.sub(r"bob@|From:.*", "", sends(c, "p1")), False)
    log.wait_for(USER % ("failed", "bob", "PLAIN", "password"))
    log.wait_for(USER % ("succeeded", "bob", "PLAIN", "password"))
    for user in ("eve", "tom"):
        c = world.client()
        c.cmd(plain(user), 235)
        c.quit()


@lab.test("AUTH: swaks, smtplib and the dialog of LOGIN")
def password_clients():
    setup()
    world.recipe("password")
    for kind in ("PLAIN", "LOGIN"):
        done = lab.swaks(world.port, "--to", "x@elsewhere.example", "--from", "bob@example.com", "--tls", "--auth", kind,
                         "--auth-user", "bob", "--auth-password", "bob-password")
        lab.match(done.stdout, r"235 2.7.0 Authentication successful.")
        lab.match(done.stdout, r"250 2.6.0 ok:  Message \d+ accepted")
    with smtplib.SMTP("127.0.0.1", world.port, "client.lab.example", timeout=20) as s:
        s.starttls(context=lab.client_context())
        s.login("bob", "bob-password")
        s.sendmail("bob@example.com", ["x@elsewhere.example"], lab.make_message("p2", 100).data)
    arrived("p2")
    c = world.client()
    c.cmd("AUTH LOGIN", r"334 VXNlcm5hbWU6")
    c.cmd(b64("bob"), r"334 UGFzc3dvcmQ6")
    c.cmd("*", r"501 5\.7\.0")
    c.cmd("AUTH LOGIN " + b64("bob"), 334)
    c.cmd(b64("bob-password"), 235)
    c.quit()


@lab.test("AUTH: who is not allowed it is refused in the administrator's words, or let in and reported")
def password_allowance():
    setup()
    world.recipe("password")
    for user in ("carol", "tim"):
        c = world.client()
        c.cmd(plain(user), r"525 Dear user, please use your CAC to send email\.")
        c.cmd("MAIL FROM:<carol@example.com>", 530)
        c.quit()
        log.wait_for(USER % ("failed", user, "PLAIN", "password"))
    gate.configure("smtpauthconfig edit password refused=monitor\n")
    c = world.client()
    c.cmd(plain("carol"), 235)
    sends(c, "p3")
    log.wait_for(r"Warning: SMTP Auth: \(ICID \d+\) monitored user: carol is not allowed to use SMTP AUTH by profile: password$")
    gate.configure("smtpauthconfig edit password refused=reject\n")


@lab.test("AUTH: failures cost time and end the session")
def password_failures():
    setup()
    world.recipe("password")
    c = world.client()
    began = time.monotonic()
    for _ in range(3):
        c.cmd(plain("bob", "guess"), 535)
    lab.equal(time.monotonic() - began > 1, True, "three failures took %.1f s" % (time.monotonic() - began))
    c.expect(r"421 4\.7\.0 Too many failed authentications, disconnecting\.")
    lab.equal(c.at_eof(), True)


@lab.test("AUTH: without the directory 454")
def password_down():
    setup()
    world.recipe("password")
    directory.stop()
    try:
        c = world.client()
        c.cmd(plain("bob"), r"454 4\.7\.0 Temporary authentication failure")
        c.cmd("MAIL FROM:<bob@example.com>", 530)
        c.quit()
        log.wait_for(r"Warning: SMTP Auth: \(ICID \d+\) could not be decided for user: bob using AUTH mechanism: PLAIN with profile: "
                     r"password: ")
    finally:
        directory.start()
    lab.eventually(knows_bob, 40, "the directory is asked again")


def knows_bob():
    with world.client() as c:
        return c.cmd(plain("bob"))[0] == 235


# --- a certificate, or else SMTP AUTH -------------------------------------------------------------------------------

@lab.test("either: with a card no password is asked for")
def either_card():
    setup()
    world.recipe("either")
    c = world.client(CARDS["carol"])
    lab.equal([e for e in c.extensions if e.startswith("AUTH")], ["AUTH EXTERNAL"])
    c.cmd(plain("carol"), 504)
    sends(c, "e1")
    log.wait_for(USER % ("succeeded", "carol", "CERTIFICATE", "either"))
    c = world.client(CARDS["carol"])
    c.cmd("AUTH EXTERNAL " + b64("bob"), 535)
    c.cmd("AUTH EXTERNAL =", 235)
    c.quit()


@lab.test("either: without a card a password, for whom the directory allows it; never before TLS")
def either_password():
    setup()
    world.recipe("either")
    with lab.Smtp(world.port) as c:
        lab.equal(any(e.startswith("AUTH") for e in c.ehlo()), False)
        c.cmd(plain("bob"), r"538 5\.7\.11 Encryption required")
        c.cmd("MAIL FROM:<bob@example.com>", 530)
    c = world.client()
    c.cmd("MAIL FROM:<bob@example.com>", 530)
    c.cmd(plain("bob"), 235)
    sends(c, "e2")
    log.wait_for(USER % ("succeeded", "bob", "PLAIN", "password"))
    done = lab.swaks(world.port, "--to", "x@elsewhere.example", "--from", "carol@example.com", "--tls", "--auth", "PLAIN",
                     "--auth-user", "carol", "--auth-password", "carol-password", check=False)
    lab.match(done.stdout, r"525 Dear user, please use your CAC to send email\.")
    lab.equal("accepted" in done.stdout, False)


@lab.test("either: who cannot use the card uses a password, if allowed one")
def either_broken():
    setup()
    world.recipe("either")
    c = world.client(CARDS["old"])
    c.cmd("MAIL FROM:<a@example.com>", 530)
    c.cmd(plain("bob"), 235)
    sends(c, "e3")
    log.wait_for(r"ICID \d+ client certificate not used \(certificate has expired\): CN=old$")
    c = world.client(CARDS["stranger"])
    c.cmd(plain("carol"), 525)
    c.cmd("MAIL FROM:<a@example.com>", 530)
    c.quit()


lab.main()
