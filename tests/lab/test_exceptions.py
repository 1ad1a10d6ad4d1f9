#!/usr/bin/python3
# A no-dane exception for a host whose TLSA records are wrong: mail goes; the host is repaired, the gateway sees it, removes the
# exception in a commit of its own and says so. A host that is still wrong keeps its exception. The same for a domain whose
# MTA-STS policy did not name its host.

import hashlib
import random
import sqlite3
import subprocess
import time

import dnstree
import lab
import policyweb

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
DAY = time.strftime("%Y-%m-%d", time.localtime(time.time() + 60 * 86400))


def spki(pair):
    der = subprocess.run("openssl x509 -in '%s' -pubkey -noout | openssl pkey -pubin -outform DER" % pair.cert, shell=True,
                         check=True, capture_output=True, timeout=20).stdout
    return "3 1 1 " + hashlib.sha256(der).hexdigest()


def host(pair):
    """A mail host on port 25 of an address of its own."""
    for _ in range(20):
        address = "127.%d.%d.%d" % tuple(random.randrange(2, 250) for _ in range(3))
        try:
            return address, lab.Sink("--listen", address + ":25", "--cert", pair.cert, "--key", pair.key)
        except lab.Failure:
            continue
    raise lab.Skip("port 25 cannot be listened on")


def exceptions():
    return [e["name"] for e in gateway.json("tlsexceptions list")["data"]["exceptions"]]


def a_day_passes():
    """What was tried was tried long ago."""
    gateway.stop()
    db = sqlite3.connect(gateway.home + "/state.db")
    db.execute("UPDATE exception_note SET tried = 0")
    db.commit()
    db.close()
    gateway.start()


@lab.test("an exception lets mail pass while it is needed, and goes when the host is repaired")
def repaired():
    lab.need_root()
    tree = dnstree.DnsTree(box, ttl=0)
    right, wrong = lab.make_cert(box.path("pki"), "mx.one.example"), lab.make_cert(box.path("pki"), "other.example")
    (one, sink), (two, _) = host(right), host(right)
    with tree.change():
        for name, address in (("one.example", one), ("two.example", two)):
            tree.zone(name)
            tree.mx(name, "10 mx." + name)
            tree.a("mx." + name, address)
        tree.tlsa("_25._tcp.mx.one.example", spki(wrong))
        tree.tlsa("_25._tcp.mx.two.example", spki(wrong))
    tree.start()
    tree.attach(gateway)
    gateway.configure("destconfig edit default use_tls=on dane=opportunistic\n"
                      + "".join('tlsexceptions new %s kind=no-dane target=mx.%s.example reason="old key" owner=joe expires=%s\n'
                                % (n, n, DAY) for n in ("one", "two")))
    out = next(l["port"] for l in gateway.json("listenerconfig list")["data"]["entries"] if l["name"] == "OutboundMail")
    with lab.Smtp(out) as s:
        s.ehlo()
        s.message("a@sender.example", ["b@one.example"], "Subject: x\r\n\r\nx\r\n")
        s.quit()
    sink.wait_messages(1)

    time.sleep(7) # the watch looks every five seconds; state.db, where it takes note, is locked by the gateway
    with tree.change():
        tree.tlsa("_25._tcp.mx.one.example", spki(right))
    a_day_passes()
    lab.eventually(lambda: exceptions() == ["two"], timeout=40, what="the exception that is no longer needed to go")
    last = gateway.json("commitdetail")["data"]
    lab.match(str(last), r"TLS exception one removed: DANE works with mx\.one\.example again")
    lab.match(gateway.console("displayalerts").stdout, r"has\s+been\s+removed")
    lab.equal(exceptions(), ["two"], "the other one, which is still needed")
    gateway.stop()


@lab.test("an exception to an MTA-STS policy goes when the policy names the host that takes the mail")
def policy_repaired():
    global gateway
    lab.need_root()
    gateway = lab.Posternd(box.path("other"), start=False)
    tree, web = dnstree.DnsTree(box, ttl=0), policyweb.PolicyWeb(box)
    with tree.change():
        for name in ("three.example", "four.example"):
            tree.zone(name, state="insecure")
            address, _ = host(web.authority.issue("mx." + name, "mx." + name, ["mx." + name]))
            tree.mx(name, "10 mx." + name)
            tree.a("mx." + name, address)
            tree.a("mta-sts." + name, web.address)
            tree.txt("_mta-sts." + name, "v=STSv1; id=1;")
            web.policy(name, mode="enforce", mx=["old." + name])
    tree.start()
    tree.attach(gateway)
    gateway.configure(web.statements() + "destconfig edit default use_tls=on mta_sts=on\n"
                      + "".join('tlsexceptions new %s kind=no-mta-sts target=%s.example reason="old host" owner=joe expires=%s\n'
                                % (n, n, DAY) for n in ("three", "four")))
    time.sleep(7)
    web.policy("three.example", mode="enforce", mx=["mx.three.example"])
    with tree.change():
        tree.txt("_mta-sts.three.example", "v=STSv1; id=2;")
    a_day_passes()
    lab.eventually(lambda: "three" not in exceptions(), timeout=40, what="the exception that is no longer needed to go")
    last = gateway.json("commitdetail")["data"]
    lab.match(str(last), r"TLS exception three removed: the MTA-STS policy works with three\.example again")
    lab.equal("four" in exceptions(), True, "the other one, which is still needed")
    gateway.stop()


lab.main()
