# AUTH as a client: smart hosts get a name and a password over TLS that is proven to be theirs, and nobody else gets them.

import os
import re
import shutil

import lab
import dnstree
from authserver import AuthServer, Stripper, b64

box = lab.Sandbox()
tree = dnstree.DnsTree(box)
certs = box.mkdir("certs")
ca = lab.make_cert(certs, "Lab CA", is_ca=True)
other_ca = lab.make_cert(certs, "Another CA", is_ca=True)
gateway = lab.Posternd(box.path("home"), start=False, env={"SSL_CERT_FILE": ca.cert})
log = gateway.maillog()
PASSWORD = "s3kret horse, b=attery"
PROFILES = ["smtpauthconfig set OUT kind=outgoing username=\"gw@lab.example\" password=\"%s\"" % PASSWORD]
USERS = {"gw@lab.example": PASSWORD}


def cert(name, stem=None, **how):
    return lab.make_cert(certs, name, stem=stem or name, **{"ca": ca, **how})


SMART = cert("smart.example")


def setup():
    if gateway.child:
        return
    tree.a("smart.example", "127.0.0.1")
    tree.a("other.example", "127.0.0.1")
    tree.mx("indirect.example", "10 smart.example")
    tree.attach(gateway)
    configure("bounceconfig edit Default initial_retry=3600 max_retry=7200", *PROFILES)


def configure(*statements):
    gateway.configure("\n".join(statements) + "\n")


def route(domain, server, host="smart.example", profile="OUT", more=()):
    configure("smtproutes set %s hosts=[%s]:%d auth_profile=\"%s\"" % (domain, host, server.port, profile), *more)


def submit(rcpt):
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<sender@client.lab.example>", 250)
        c.cmd("RCPT TO:<%s>" % rcpt, 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("t", 500)))[1])
        c.quit()
    return mid


def delivered(mid):
    def decided():
        return log.find(r"Message done DCID \d+ MID %d " % mid) or log.find(r"(Delayed|Bounced): DCID \d+ MID %d " % mid)

    lab.eventually(decided, 20, "MID %d is decided" % mid)
    return bool(log.find(r"Message done DCID \d+ MID %d " % mid))


def waits(mid, pattern):
    lab.equal(delivered(mid), False, "delivered")
    lab.equal(log.find(r"Bounced: DCID \d+ MID %d " % mid), [])
    text = [r["last_error"] for r in gateway.json("showrecipients all")["data"]["recipients"] if r["mid"] == mid]
    lab.equal(len(text), 1, "MID %d in the queue" % mid)
    lab.match(text[0], pattern)


@lab.test("each mechanism, with TLS whose certificate names the route's host; the strongest is taken")
def mechanisms():
    setup()
    for offered, taken in (("PLAIN", "PLAIN"), ("LOGIN", "LOGIN"), ("SCRAM-SHA-256", "SCRAM-SHA-256"),
                           ("CRAM-MD5 LOGIN PLAIN XOAUTH2", "PLAIN"), ("LOGIN PLAIN SCRAM-SHA-256", "SCRAM-SHA-256")):
        server = AuthServer(SMART, offered, USERS)
        domain = "m%d.example" % server.port
        route(domain, server)
        lab.equal(delivered(submit("a@" + domain)), True, offered)
        lab.equal([(s["user"], s["mechanism"], s["tls"], len(s["messages"])) for s in server.sessions],
                  [("gw@lab.example", taken, True, 1)])
        lab.equal(server.saw(PASSWORD), taken != "SCRAM-SHA-256", taken)
    lab.equal(len(log.find(r"Info: DCID: \d+ IP: 127.0.0.1 SMTP authentication using the profile OUT succeeded\.")), 5)
    lab.equal(PASSWORD in log.text(), False)


@lab.test("Postfix with Cyrus SASL takes each mechanism")
def postfix():
    setup()
    lab.need_program("saslpasswd2")
    for offered in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
        peer = lab.Postfix(discard=True, tuned=True, tls=SMART, start=False, main={
            "smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "yes", "smtpd_sasl_security_options": "noanonymous",
            "mynetworks": "192.0.2.1", "smtpd_relay_restrictions": "permit_sasl_authenticated, reject"})
        database = peer.box.path("sasldb2")
        lab.run(["saslpasswd2", "-p", "-c", "-f", database, "-u", "lab.example", "gw"], input=PASSWORD)
        shutil.chown(database, "postfix", "postfix")
        os.chmod(peer.box.dir, 0o755)
        conf = peer.box.write("etc/sasl/smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s\n"
                              "mech_list: %s\n" % (database, offered))
        os.chmod(os.path.dirname(conf), 0o755)
        os.chmod(conf, 0o644)
        peer.start()
        domain = "px%d.example" % peer.port
        route(domain, peer)
        lab.equal(delivered(submit("a@" + domain)), True, offered + ":\n" + peer.log_text())
        lab.eventually(lambda: re.search(r"sasl_method=%s, sasl_username=gw@lab\.example" % offered, peer.log_text()), 10,
                       "the log names the user")
        peer.stop()


@lab.test("a name and a password too long for one line")
def long_names():
    setup()
    user, password = "u" * 250, "p" * 250
    configure("smtpauthconfig set LONG kind=outgoing username=%s password=%s" % (user, password))
    for offered in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
        server = AuthServer(SMART, offered, {user: password})
        domain = "long%d.example" % server.port
        route(domain, server, profile="LONG")
        lab.equal(delivered(submit("a@" + domain)), True, offered)
        lab.equal(server.attempts, [(offered, user, True)])


@lab.test("a refused password keeps the mail, with an alert, and is not tried again before something changes")
def refused():
    setup()
    server = AuthServer(SMART, "PLAIN", {"gw@lab.example": "new password"})
    route("refused.example", server)
    first = submit("a@refused.example")
    waits(first, r"smart\.example: SMTP authentication using the profile OUT failed: 535 5\.7\.8 Authentication credentials")
    lab.match(log.text(), r"Info: DCID: \d+ IP: 127.0.0.1 SMTP authentication using the profile OUT failed: 535 5\.7\.8 Auth")
    lab.match(log.text(), r"Delayed: DCID \d+ MID %d to RID 0 - 4\.7\.8 " % first)
    second = submit("b@refused.example")
    waits(second, r"SMTP authentication using the profile OUT failed: 535")
    lab.equal(len(server.attempts), 1, "attempts")
    alerts = [a["text"] for a in gateway.json("displayalerts")["data"]["alerts"]]
    lab.match("\n".join(alerts), r"SMTP authentication at smart\.example using the profile OUT failed: 535 5\.7\.8")
    configure("smtpauthconfig set OUT password=\"new password\"")
    gateway.console("delivernow all")
    for mid in (first, second):
        lab.eventually(lambda: log.find(r"Message done DCID \d+ MID %d " % mid), 15, "it goes")
    configure("smtpauthconfig set OUT password=\"%s\"" % PASSWORD)


@lab.test("somebody between us who takes STARTTLS away never sees the password")
def stripped():
    setup()
    for n, offered in enumerate(("PLAIN LOGIN", "LOGIN")):
        server = AuthServer(SMART, offered, USERS, clear=True)
        between = Stripper(server)
        route("stripped%d.example" % n, between)
        mid = submit("a@stripped%d.example" % n)
        waits(mid, r"smart\.example: TLS required, STARTTLS unavailable.*; the SMTP route authenticates, which it does over "
                   r"verified TLS only")
        lab.equal(between.connections >= 1, True)
        lab.equal(between.saw(PASSWORD), False)
        lab.equal(b"AUTH" in between.received, False)
        lab.equal(server.attempts, [])


@lab.test("mail that is redirected to another host takes no password along, whatever certificate that host has")
def redirected():
    setup()
    elsewhere = AuthServer(cert("elsewhere.example"), "PLAIN LOGIN", USERS, demands=False)
    tree.a("elsewhere.example", "127.0.0.1")
    route("redirected.example", AuthServer(SMART, "PLAIN", USERS))
    gateway.console("suspenddel 0")
    mid = submit("a@redirected.example")
    gateway.console("redirectrecipients host elsewhere.example:%d" % elsewhere.port)
    gateway.console("resumedel")
    lab.equal(delivered(mid), True)
    lab.equal({s["user"] for s in elsewhere.sessions}, {None})
    lab.equal((elsewhere.attempts, elsewhere.saw(PASSWORD)), ([], False))


@lab.test("a certificate of somebody else never gets the password")
def impostors():
    setup()
    for n, (pair, why) in enumerate((
            (cert("other.example"), r"peer cert does not match the host smart\.example of the route"),
            (cert("smart.example", "unknown", ca=other_ca), r"unable to get local issuer certificate"),
            (cert("smart.example", "self", ca=None), r"self-signed certificate"),
            (cert("smart.example", "expired", expired=True), r"certificate has expired"),
            (cert("smart.example", "cn-only", sans=["x.example"]), r"peer cert does not match the host smart\.example of the route"))):
        server = AuthServer(pair, "PLAIN LOGIN", USERS, clear=True)
        # Neither a level without TLS nor one that is content with any certificate changes that.
        route("im%d.example" % n, server, more=["destconfig set im%d.example use_tls=%s" % (n, ("off", "on", "require")[n % 3])])
        waits(submit("a@im%d.example" % n), r"smart\.example: %s; the SMTP route authenticates" % why)
        lab.equal(server.attempts, [])
        lab.equal(server.saw(PASSWORD), False)


@lab.test("the name that counts is the route's, whatever the DNS makes of it; an address must be in the certificate")
def names():
    setup()
    server = AuthServer(cert("indirect.example"), "PLAIN", USERS)
    configure("smtproutes set ind.example hosts=indirect.example:%d auth_profile=OUT" % server.port)
    lab.equal(delivered(submit("a@ind.example")), True)
    server = AuthServer(SMART, "PLAIN", USERS) # what the MX record says
    configure("smtproutes set ind2.example hosts=indirect.example:%d auth_profile=OUT" % server.port)
    waits(submit("a@ind2.example"), r"peer cert does not match the host indirect\.example of the route")
    lab.equal(server.attempts, [])
    server = AuthServer(cert("addr", sans=["x.example,IP:127.0.0.1"]), "PLAIN", USERS)
    route("addr.example", server, host="127.0.0.1")
    lab.equal(delivered(submit("a@addr.example")), True)
    server = AuthServer(SMART, "PLAIN", USERS)
    route("addr2.example", server, host="127.0.0.1")
    waits(submit("a@addr2.example"), r"peer cert does not match the host 127\.0\.0\.1 of the route")


@lab.test("servers that do not take AUTH, or only say that they do")
def odd_servers():
    setup()
    for n, (how, why) in enumerate((
            (dict(mechanisms=""), r"the server does not offer SMTP authentication"),
            (dict(mechanisms="CRAM-MD5 GSSAPI"), r"the server offers no mechanism of SMTP authentication that we use"),
            (dict(replies={"AUTH": "454 4.7.0 Directory is down"}), r"454 4\.7\.0 Directory is down"),
            (dict(replies={"AUTH": "500 5.5.1 What is AUTH PLAIN %s?" % b64("\0gw@lab.example\0" + PASSWORD)}), r"500 5\.5\.1 *$"),
            (dict(replies={"AUTH": "334 AAAA"}), r"what the server asks is not what PLAIN demands"),
            (dict(replies={"AUTH": "235 2.7.0 Come in"}, mechanisms="SCRAM-SHA-256"),
             r"the server has not shown that it knows the passphrase itself"),
            (dict(lies="none", mechanisms="SCRAM-SHA-256"), r"the server has not shown that it knows the passphrase itself"),
            (dict(lies="wrong", mechanisms="SCRAM-SHA-256"), r"the server's own proof is wrong"),
            (dict(iterations=900000000, mechanisms="SCRAM-SHA-256"), r"the server's own proof is wrong, or it demands too much work"))):
        server = AuthServer(SMART, users=USERS, **{"mechanisms": "PLAIN", **how})
        route("odd%d.example" % n, server)
        waits(submit("a@odd%d.example" % n), r"smart\.example: SMTP authentication using the profile OUT failed: (%s)" % why)
        lab.equal([s["messages"] for s in server.sessions if s["messages"]], [])


@lab.test("a session carries mail of the profile it was authenticated with, and no other")
def sessions():
    setup()
    server = AuthServer(SMART, "PLAIN", {**USERS, "second": "2nd passphrase"}, demands=False)
    configure("smtpauthconfig set TWO kind=outgoing username=second password=\"2nd passphrase\"")
    for domain, profile in (("one.example", "OUT"), ("two.example", "TWO"), ("three.example", ""), ("four.example", "OUT")):
        route(domain, server, profile=profile)
    # Settings under which one session could carry all of it as far as TLS is concerned.
    configure("destconfig set three.example use_tls=on")
    for round in range(3):
        for domain in ("one.example", "two.example", "three.example", "four.example"):
            lab.equal(delivered(submit("r%d@%s" % (round, domain))), True)
    who = {"one.example": "gw@lab.example", "two.example": "second", "three.example": None, "four.example": "gw@lab.example"}
    carried = 0
    for s in server.sessions:
        for rcpts in s["messages"]:
            for rcpt in rcpts:
                lab.equal(who[rcpt.split("@")[1]], s["user"], rcpt)
                carried += 1
    lab.equal(carried, 12)
    lab.equal(len(server.sessions) < 12, True, "sessions are used again: %d" % len(server.sessions))
    # A changed password: what was open is of no use any more.
    before = len(server.sessions)
    server.users["second"] = "3rd"
    configure("smtpauthconfig set TWO password=3rd")
    lab.equal(delivered(submit("x@two.example")), True)
    lab.equal(len(server.sessions), before + 1)


@lab.test("tlsexplain and the record of an attempt name the rule")
def explained():
    setup()
    server = AuthServer(SMART, "PLAIN", USERS)
    route("explained.example", server)
    lab.equal(delivered(submit("a@explained.example")), True)
    text = gateway.console("tlsexplain explained.example").stdout
    lab.match(text, r"Decided by +auth: the SMTP route authenticates, which it does over")
    lab.match(text, r"(?s)Verdict +TLS 1\.2 or newer, never in clear; .*The last attempt.*certificate verified")


if __name__ == "__main__":
    lab.main()
