# SCRAM-SHA-256 with a real directory, by a client written here and by GNU SASL's: with passwords in clear text and with keys,
# bound to the TLS session, and what somebody learns who only guesses names.

import base64
import re
import time

import lab
import slapd
from authserver import b64, scram

lab.need_program("gsasl")
box = lab.Sandbox()
directory = slapd.Slapd(box)
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
KEYS = lab.run(["gsasl", "--mkpasswd", "-m", "SCRAM-SHA-256", "-p", "carol's", "--iteration-count=10000"]).stdout.strip()


def setup():
    if gateway.child:
        return
    directory.user("alice", "alice's", scheme="plain")
    directory.user("bob", "bob's", scheme="ssha")
    directory.user("carol", KEYS, scheme="raw")
    directory.user("dave,x=y", "dave's", scheme="plain")
    gateway.start()
    gateway.configure("ldapconfig set D hosts=127.0.0.1:%d base=%s auth=password bind_dn=%s bind_password=%s cache_ttl=0\n"
                      % (directory.port, slapd.PEOPLE, slapd.SERVICE_DN, slapd.SERVICE_PASSWORD)
                      + "ldapconfig query set D.q server=D kind=smtpauth filter=(uid={u}) method=attribute\n"
                      "smtpauthconfig set P kind=ldap query=D.q\n"
                      "listenerconfig setup auth_failures_host=10000 auth_failures_session=100\n"
                      "listenerconfig edit OutboundMail tls=preferred smtp_auth=P auth_needs_tls=no\n"
                      "listenerconfig edit OutboundMail hostaccess edit policy RELAYED auth=required auth_needs_tls=off\n")


def client(tls=True):
    c = lab.Smtp(gateway.private, timeout=60)
    c.ehlo()
    if tls:
        c.starttls(lab.client_context())
    return c


def code(user, password, tls=True, mechanism="SCRAM-SHA-256"):
    c = client(tls)
    reply = scram(c, user, password, mechanism)
    c.close()
    return reply[0]


@lab.test("clear text and keys both answer; a digest cannot, and neither can a wrong password")
def values():
    setup()
    c = client()
    lab.match("\n".join(c.extensions), r"(?m)^AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS$")
    c.close()
    c = client(tls=False)
    lab.match("\n".join(c.extensions), r"(?m)^AUTH PLAIN LOGIN SCRAM-SHA-256$")
    c.close()
    for user in ("alice", "carol", "dave,x=y"):
        lab.equal(code(user, user.split(",")[0] + "'s"), 235, user)
        lab.equal(code(user, user.split(",")[0] + "'s", tls=False), 235, user)
    lab.equal(code("alice", "alice"), 535)
    lab.equal(code("carol", "carol"), 535)
    lab.equal(code("bob", "bob's"), 535)
    c = client()
    lab.equal(c.cmd("AUTH PLAIN " + b64("\0bob\0bob's"))[0], 235, "but by PLAIN")
    c.close()
    log.wait_for(r"SMTP Auth: \(ICID \d+\) succeeded for user: carol using AUTH mechanism: SCRAM-SHA-256 with profile: P$")


@lab.test("GNU SASL's client, bound to the TLS session as well")
def gsasl():
    setup()
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
        for user, password, good in (("alice", "alice's", True), ("carol", "carol's", True), ("alice", "wrong", False)):
            done = lab.run(["gsasl", "--smtp", "--connect=127.0.0.1:%d" % gateway.private, "-m", mechanism, "-a", user,
                            "-p", password, "--verbose", "--x509-ca-file=",
                            *(["--no-cb"] if mechanism == "SCRAM-SHA-256" else [])], input="", check=False, timeout=60)
            text = done.stdout + done.stderr
            lab.equal("\n235 " in text, good, "%s %s:\n%s" % (mechanism, user, text))
            lab.equal("\n535 " in text, not good, text)
    log.wait_for(r"SMTP Auth: \(ICID \d+\) succeeded for user: alice using AUTH mechanism: SCRAM-SHA-256-PLUS with profile: P$")


@lab.test("a name that does not exist gets a salt like any other, the same one each time")
def nobody():
    setup()
    seen = {}
    for user in ("alice", "nobody", "nobody2", "alice", "nobody", "bob"):
        c = client()
        reply = c.cmd("AUTH SCRAM-SHA-256 " + b64("n,,n=%s,r=abc" % user))
        lab.equal(reply[0], 334, user)
        salt = re.search(r",s=([^,]+),i=\d+$", base64.b64decode(reply[1][0]).decode())[1]
        lab.equal(seen.setdefault(user, salt), salt, user)
        lab.equal(len(base64.b64decode(salt)), 16, user)
        lab.equal(c.cmd("*")[0], 501)
        c.close()
    lab.equal(len(set(seen.values())), 4)


@lab.test("what the client sends wrong is refused, and a directory that is down lets nobody in")
def wrong():
    setup()
    c = client()
    for first in ("n,,n=alice", "p=tls-exporter,,n=alice,r=abc", "y,,n=alice,r=abc"):
        reply = c.cmd("AUTH SCRAM-SHA-256 " + b64(first))
        lab.equal(reply[0] in (501, 535), True, "%s: %s" % (first, reply))
    lab.equal(c.cmd("AUTH SCRAM-SHA-256 !!!")[0], 501)
    lab.equal(c.cmd("MAIL FROM:<a@example.com>")[0], 530)
    c.close()
    directory.stop()
    lab.equal(code("alice", "alice's"), 454)
    directory.start()
    lab.eventually(lambda: code("alice", "alice's") == 235, 30, "the directory is back")


lab.main()
