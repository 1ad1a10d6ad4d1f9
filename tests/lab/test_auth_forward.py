# SMTP AUTH whose answer comes from other SMTP servers (smtpauthconfig, kind "forward").

import base64
import re
import threading

import lab
import dnstree
from authserver import AuthServer, Stripper, b64

box = lab.Sandbox()
tree = dnstree.DnsTree(box)
certs = box.mkdir("certs")
ca = lab.make_cert(certs, "Lab CA", is_ca=True)
gateway = lab.Posternd(box.path("home"), start=False, env={"SSL_CERT_FILE": ca.cert})
log = gateway.maillog()
SMART = lab.make_cert(certs, "smart.example", ca=ca)
OTHER = lab.make_cert(certs, "other.example", ca=ca)
USERS = {"joe": "joe's passphrase", "zo\u00e9": "p\u00e4ss"}
number = iter(range(1, 1000))


def setup(*servers, more=""):
    """A new profile with these servers, and the private listener uses it. servers: (server, settings)"""
    if not gateway.child:
        tree.a("smart.example", "127.0.0.1")
        tree.attach(gateway)
        gateway.configure("listenerconfig edit OutboundMail tls=preferred max_concurrency=200\n"
                          "listenerconfig setup auth_failures_host=10000 auth_failures_session=100\n")
    profile = "fwd%d" % next(number)
    lines = ["smtpauthconfig set %s kind=forward %s" % (profile, more)]
    for position, (server, settings) in enumerate(servers):
        name = "smart.example:%d" % (server if isinstance(server, int) else server.port)
        lines.append("smtpauthconfig edit %s server set %s %s" % (profile, name, settings))
    lines += ["listenerconfig edit OutboundMail smtp_auth=%s auth_needs_tls=no" % profile,
              "listenerconfig edit OutboundMail hostaccess edit policy RELAYED auth=required auth_needs_tls=off"]
    gateway.configure("\n".join(lines) + "\n")
    return profile


def plain(user, password):
    with lab.Smtp(gateway.private, timeout=60) as c:
        c.ehlo()
        lab.match("\n".join(c.extensions), r"(?m)^AUTH PLAIN LOGIN$")
        reply = c.cmd("AUTH PLAIN " + b64("\0%s\0%s" % (user, password)))
        if reply[0] == 235:
            c.cmd("MAIL FROM:<a@example.com>", 250)
        else:
            c.cmd("MAIL FROM:<a@example.com>", 530)
    return reply


@lab.test("each mechanism of the server answers for PLAIN and LOGIN of the client")
def mechanisms():
    for offered in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "PLAIN LOGIN"):
        server = AuthServer(SMART, offered, USERS)
        profile = setup((server, ""))
        lab.equal(plain("joe", "joe's passphrase")[0], 235, offered)
        lab.equal(plain("zo\u00e9", "p\u00e4ss")[0], 235, offered)
        lab.equal(plain("joe", "wrong")[0], 535, offered)
        lab.equal([s["tls"] for s in server.sessions], [True] * 3)
        log.wait_for(r"SMTP Auth: \(ICID \d+\) succeeded for user: joe using AUTH mechanism: PLAIN with profile: %s$" % profile)
        with lab.Smtp(gateway.private) as c:
            c.ehlo()
            c.cmd("AUTH LOGIN", 334)
            c.cmd(b64("joe"), 334)
            c.cmd(b64("joe's passphrase"), 235)


@lab.test("PLAIN and LOGIN are used as the server's entry says")
def settings():
    server = AuthServer(SMART, "PLAIN LOGIN", USERS)
    setup((server, "plain=no"))
    lab.equal(plain("joe", "joe's passphrase")[0], 235)
    lab.equal(server.attempts, [("LOGIN", "joe", True)])
    setup((server, "plain=no login=no"))
    lab.equal(plain("joe", "joe's passphrase")[0], 454)
    lab.equal(len(server.attempts), 1)


@lab.test("a server that does not answer is passed over, for a while without a question; none: 454, and nobody is let in")
def failover():
    first = AuthServer(SMART, "PLAIN", USERS, replies={"AUTH": "454 4.7.0 Later"})
    second = AuthServer(SMART, "PLAIN", USERS)
    dead = lab.free_port()
    setup((dead, ""), (first, ""), (second, ""))
    lab.equal(plain("joe", "joe's passphrase")[0], 235)
    lab.equal((len(first.sessions), len(second.sessions)), (1, 1))
    log.wait_for(r"SMTP Auth: could not reach forwarding server smart\.example:%d with reason: " % dead)
    log.wait_for(r"SMTP Auth: could not reach forwarding server smart\.example:%d with reason: 454 4\.7\.0 Later" % first.port)
    lab.equal(plain("joe", "wrong")[0], 535)
    lab.equal((len(first.sessions), len(second.sessions)), (1, 2))
    second.replies["EHLO"] = "421 4.3.2 Closing"
    reply = plain("joe", "joe's passphrase")
    lab.equal(reply[0], 454)
    lab.equal(len(first.sessions), 2, "all are down: all are asked")
    profile = setup((dead, ""))
    lab.equal(plain("joe", "joe's passphrase")[0], 454)
    lab.equal(log.find(r"succeeded for user: joe using AUTH mechanism: PLAIN with profile: %s$" % profile), [])


@lab.test("a password goes over TLS, and to the server that is meant")
def secrets():
    for settings, server in (("", AuthServer(OTHER, "PLAIN LOGIN", USERS, clear=True)),
                             ("", AuthServer(None, "PLAIN LOGIN", USERS, clear=True)),
                             ("require_tls=no", AuthServer(OTHER, "PLAIN LOGIN", USERS, clear=True))):
        setup((server, settings))
        lab.equal(plain("joe", "joe's passphrase")[0], 454, settings)
        lab.equal(server.saw("joe's passphrase"), False, settings)
        lab.equal(server.attempts, [], settings)
    server = AuthServer(SMART, "PLAIN", USERS, clear=True)
    between = Stripper(server)
    setup((between, ""))
    lab.equal(plain("joe", "joe's passphrase")[0], 454)
    lab.equal((between.connections, between.saw("joe's passphrase"), server.attempts), (1, False, []))
    # ... unless an administrator wants it otherwise.
    for settings, server in (("verify=no", AuthServer(OTHER, "PLAIN", USERS)),
                             ("require_tls=no", AuthServer(None, "PLAIN", USERS, clear=True))):
        setup((server, settings))
        lab.equal(plain("joe", "joe's passphrase")[0], 235, settings)


@lab.test("no more connections than the entry says; who comes meanwhile waits for one")
def limit():
    server = AuthServer(SMART, "PLAIN", USERS, delay=0.2)
    setup((server, "max_connections=3"))
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(plain("joe", "joe's passphrase")[0])) for _ in range(9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    lab.equal(codes, [235] * 9)
    lab.equal(server.most <= 3, True, "%d at once" % server.most)


lab.main()
