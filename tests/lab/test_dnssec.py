# Name resolution as a gateway sees it: zones in every state of health compared with unbound-host, failures that stay
# distinct from the resolver to the log line, servers that fail or strip signatures, trust anchors, the cache.

import json
import os
import re
import socket
import threading
import time

import dnstree
import lab

box = lab.Sandbox()
tree = dnstree.DnsTree(box)
for state in dnstree.STATES:
    zone = state + ".example"
    tree.zone(zone, state=state)
    tree.mx(zone, "10 mx." + zone)
    tree.a("mx." + zone, "127.9.9.9")
    tree.tlsa("_25._tcp.mx." + zone, "3 1 1 " + "ab" * 32)
    tree.txt("_mta-sts." + zone, "v=STSv1; id=1;")
    tree.mx("*.wild." + zone, "10 mx." + zone)
tree.zone("hashed.example", nsec3=True)
tree.a("mx.hashed.example", "127.9.9.9")
tree.mx("*.wild.hashed.example", "10 mx.hashed.example")
tree.cname("alias.secure.example", "mx.secure.example")
tree.cname("out.secure.example", "mx.insecure.example")
tree.cname("spoilt.secure.example", "mx.bogus.example")
tree.cname("in.insecure.example", "mx.secure.example")
tree.cname("gone.secure.example", "none.secure.example")
tree.cname("loop1.secure.example", "loop2.secure.example")
tree.cname("loop2.secure.example", "loop1.secure.example")
for i in range(60):
    tree.cname("chain%d.secure.example" % i, "chain%d.secure.example" % (i + 1))
tree.a("chain60.secure.example", "127.9.9.9")
tree.mx("many.secure.example", *("%d h%d.secure.example" % (1000 - i, i) for i in range(1000)))
tree.a("forged.secure.example", "127.9.9.8").forge("forged.secure.example", "A")
tree.a("halfforged.secure.example", "127.9.9.8").forge("halfforged.secure.example", "NSEC")
tree.txt("long.secure.example", "x" * 3000)

gateway = lab.Posternd(box.path("home"), start=False)


def setup():
    if not gateway.child:
        tree.attach(gateway)
        gateway.console("logconfig edit mail_logs level=debug; commit debug Y")


def look(name, kind="A", where=None):
    """What the gateway believes."""
    if not where:
        setup()
    return (where or gateway).json("nslookup %s %s" % (name, kind))["data"]


def verdict(name, kind="A", where=None):
    data = look(name, kind, where)
    return data["status"], data["security"]


def judge(name, kind):
    """The same from unbound-host, with an anchor and a forwarder of its own making."""
    conf = box.write("unbound.conf", "server:\n do-not-query-localhost: no\n trust-anchor-file: \"%s\"\n"
                     "forward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@%d\n" % (tree.anchor, tree.port))
    text = lab.run(["unbound-host", "-v", "-C", conf, "-t", kind, name], check=False).stdout
    security = ("bogus" if "(BOGUS" in text else "insecure" if "(insecure)" in text else
                "secure" if "(secure)" in text else "indeterminate")
    if security == "bogus":
        return "Bogus", security
    if security == "indeterminate":
        return "ServFail", security
    return ("NXDomain" if "NXDOMAIN" in text else "NoData" if " has no " in text else "OK"), security


def system_log(where=gateway):
    return lab.read_text(os.path.join(where.home, "log", "system_logs", "system.current"))


@lab.test("zones in every state, names that are there and names that are not: as unbound-host says")
def every_zone():
    lab.need_program("unbound-host")
    questions = []
    for state in list(dnstree.STATES) + ["hashed"]:
        zone = state + ".example"
        questions += [(zone, "MX"), ("none." + zone, "A"), ("mx." + zone, "TXT"), ("a.wild." + zone, "MX"),
                      ("_25._tcp.mx." + zone, "TLSA"), ("_25._tcp.none." + zone, "TLSA")]
    questions += [(name + ".secure.example", "A") for name in ("alias", "out", "spoilt", "gone", "loop1", "forged")]
    questions += [("in.insecure.example", "A"), ("nodomain", "A"), (".", "NS")]
    differ = []
    for name, kind in questions:
        ours, theirs = verdict(name, kind), judge(name, kind)
        if ours != theirs:
            differ.append((name, kind, ours, theirs))
    lab.equal(differ, [])
    # and not only because both are wrong in the same way
    for name, kind, want in (
            ("secure.example", "MX", ("OK", "secure")), ("insecure.example", "MX", ("OK", "insecure")),
            ("island.example", "MX", ("OK", "insecure")), ("none.secure.example", "A", ("NXDomain", "secure")),
            ("mx.secure.example", "TXT", ("NoData", "secure")), ("a.wild.secure.example", "MX", ("OK", "secure")),
            ("none.nodenial.example", "A", ("Bogus", "bogus")), ("nodenial.example", "MX", ("OK", "secure")),
            ("a.wild.nodenial.example", "MX", ("Bogus", "bogus")), ("forged.secure.example", "A", ("Bogus", "bogus")),
            ("out.secure.example", "A", ("OK", "insecure")), ("in.insecure.example", "A", ("OK", "insecure")),
            ("spoilt.secure.example", "A", ("Bogus", "bogus")), ("gone.secure.example", "A", ("NXDomain", "secure"))):
        lab.equal(verdict(name, kind), want, name)
    for state in ("bogus", "expired", "future", "forged", "unsigned"):
        lab.equal(verdict(state + ".example", "MX"), ("Bogus", "bogus"), state)


@lab.test("a bogus answer says why")
def reasons():
    for state, why in (("expired", "signature expired"), ("future", "before inception"),
                       ("forged", "signature verification failed"), ("bogus", "no keys have a DS"),
                       ("unsigned", "[Nn]o DNSKEY")):
        lab.match(look("mx.%s.example" % state)["why"], why, state)


@lab.test("an answer says under which name it was found, and for how long it holds")
def canonical():
    data = look("alias.secure.example")
    lab.equal((data["canonical"], data["records"], 0 < data["ttl"] <= tree.ttl),
              ("mx.secure.example", ["127.9.9.9"], True))
    data = look("none.secure.example", "MX")
    lab.equal(0 < data["ttl"] <= tree.ttl, True, "the absence of a name holds as long as its zone says")


@lab.test("questions and answers are in mail_logs at level Debug")
def log_lines():
    gateway.console("dnsflush secure.example", check=not setup())
    log = gateway.maillog()
    for name, kind in (("secure.example", "MX"), ("_25._tcp.mx.secure.example", "TLSA"), ("none.secure.example", "A"),
                       ("mx.secure.example", "TXT"), ("expired.example", "A")):
        look(name, kind)
    log.wait_for(r"Debug: DNS query: Q\('secure\.example', 'MX'\)$")
    log.wait_for(r"Debug: DNS query: Q\(mx\.secure\.example, 'TXT'\)$")
    log.wait_for(r"Debug: DNSSEC Response data\(\[\(10, 'mx\.secure\.example\.'\)\], secure, 0, \d+\)$")
    log.wait_for(r"Debug: DNS encache \(secure\.example, MX, \[\(\d+, 0, 'SECURE', \(10, 'mx\.secure\.example\.'\)\)\]\)$")
    log.wait_for(r"Debug: DNSSEC Response data\(\['030101%s'\], secure, 0, \d+\)$" % ("ab" * 32))
    log.wait_for(r"Debug: Received NXDOMAIN for domain none\.secure\.example type A$")
    log.wait_for(r"Debug: Received NODATA for domain mx\.secure\.example type TXT$")
    log.wait_for(r"Debug: DNS failure for domain expired\.example type A: Bogus: .*signature expired")


@lab.test("a failing server, a refusing one and a silent one are three things; a cut answer comes by TCP")
def failures():
    setup()
    tree.fail("down.insecure.example", "servfail")
    tree.fail("shy.insecure.example", "refused")
    lab.equal(verdict("down.insecure.example"), ("ServFail", "indeterminate"))
    lab.equal(verdict("shy.insecure.example")[1], "indeterminate")
    lab.equal(verdict("long.secure.example", "TXT"), ("OK", "secure"))
    tree.fail("cut.secure.example", "truncate")
    tree.a("cut.secure.example", "127.9.9.7")
    lab.equal(verdict("cut.secure.example"), ("OK", "secure"))
    tree.fail("silent.insecure.example", "silent")
    began = time.monotonic()
    status, security = verdict("silent.insecure.example")
    lab.equal((status in ("Timeout", "ServFail"), security), (True, "indeterminate"))
    lab.equal(time.monotonic() - began < 25, True, "within the time a person waits")


@lab.test("1,000 MX hosts, loops and long chains of aliases cost little")
def hostile():
    began = time.monotonic()
    data = look("many.secure.example", "MX")
    lab.equal((data["status"], data["security"], len(data["records"])), ("OK", "secure", 1000))
    lab.equal(verdict("loop1.secure.example"), ("ServFail", "indeterminate"))
    lab.equal(verdict("chain0.secure.example")[0], "ServFail")
    lab.equal(verdict("chain55.secure.example"), ("OK", "secure"))
    lab.equal(time.monotonic() - began < 10, True)


@lab.test("what was learnt is kept, and forgotten on demand: everything, or one name")
def flush():
    setup()
    with tree.change():
        tree.a("moves.secure.example", "127.9.1.1")
        tree.a("stays.secure.example", "127.9.1.1")
    lab.equal(look("moves.secure.example")["cached"], False)
    lab.equal(look("moves.secure.example")["cached"], True)
    look("stays.secure.example")
    with tree.change():
        tree.a("moves.secure.example", "127.9.2.2")
        tree.a("stays.secure.example", "127.9.2.2")
    lab.equal(look("moves.secure.example")["records"], ["127.9.1.1"])
    gateway.console("dnsflush moves.secure.example")
    lab.equal(look("moves.secure.example")["records"], ["127.9.2.2"])
    lab.equal(look("stays.secure.example")["records"], ["127.9.1.1"])
    lab.equal(gateway.console("dnsflush", check=False).returncode != 0, True, "it asks first")
    gateway.console("dnsflush y")
    lab.equal(look("stays.secure.example")["records"], ["127.9.2.2"])


@lab.test("a negative trust anchor makes a broken zone count as not signed, until its day")
def negative_anchor():
    lab.equal(verdict("expired.example", "MX"), ("Bogus", "bogus"))
    gateway.console("dnsconfig insecure set expired.example reason=\"they know\" expires=2099-01-01; "
                    "dnsconfig insecure set forged.example reason=\"over\" expires=2020-01-01; commit nta Y")
    lab.equal(verdict("expired.example", "MX"), ("OK", "insecure"))
    lab.equal(verdict("forged.example", "MX"), ("Bogus", "bogus"))
    lab.equal(verdict("secure.example", "MX"), ("OK", "secure"))
    gateway.console("dnsconfig insecure delete expired.example; dnsconfig insecure delete forged.example; commit no Y")
    lab.equal(verdict("expired.example", "MX"), ("Bogus", "bogus"))


@lab.test("a zone without a chain above it is secure with an anchor of its own")
def island():
    lab.equal(verdict("island.example", "MX"), ("OK", "insecure"))
    gateway.console("dnsconfig anchor set island.example records=\"DS %s\"; commit island Y" % tree.key.ds("island.example"))
    lab.equal(verdict("island.example", "MX"), ("OK", "secure"))
    anchors = {a["domain"]: a["text"] for a in gateway.json("dnsstatus")["data"]["anchors"]}
    lab.equal(anchors, {".": str(tree.key.tag), "island.example": str(tree.key.tag)})
    gateway.console("dnsconfig anchor set island.example records=\"DS %s\"; commit wrong Y"
                    % tree.wrong.ds("island.example"))
    lab.equal(verdict("island.example", "MX"), ("Bogus", "bogus"))
    gateway.console("dnsconfig anchor delete island.example; commit no Y")


@lab.test("an anchor of one's own holds although the rest cannot be validated")
def private_anchor():
    setup()
    home = lab.Posternd(box.path("private"), start=False)
    os.makedirs(home.home)
    with open(os.path.join(home.home, "root.key"), "w") as f:
        f.write(". 3600 IN DNSKEY %s\n" % tree.wrong.dnskey)
    home.start()
    home.console("dnsconfig setup source=own; dnsconfig parent set 127.0.0.1@%d; dnsconfig anchor set island.example "
                 "records=\"DS %s\"; commit own Y" % (tree.port, tree.key.ds("island.example")))
    lab.equal(verdict("secure.example", "MX", home), ("OK", "insecure"))
    lab.equal(verdict("island.example", "MX", home), ("OK", "secure"))
    home.stop()


@lab.test("servers of one domain answer for it alone")
def alternate():
    setup()
    private = dnstree.DnsTree(box)
    private.zone("corp.example", state="insecure")
    private.a("mx.corp.example", "127.8.8.8")
    private.start()
    lab.equal(verdict("mx.corp.example")[0], "NXDomain")
    gateway.console("dnsconfig alt set corp.example servers=127.0.0.1@%d kind=cache; "
                    "dnsconfig insecure set corp.example reason=private expires=2099-01-01; commit alt Y" % private.port)
    lab.equal(look("mx.corp.example")["records"], ["127.8.8.8"])
    lab.equal(verdict("secure.example", "MX"), ("OK", "secure"))
    gateway.console("dnsconfig alt set corp.example servers=127.0.0.1@%d kind=authoritative; commit alt2 Y"
                    % private.authority)
    lab.equal(look("mx.corp.example")["records"], ["127.8.8.8"])
    gateway.console("dnsconfig alt delete corp.example; dnsconfig insecure delete corp.example; commit no Y")


def states(where):
    return {s["address"]: s["state"] for s in where.json("dnsstatus")["data"]["servers"]}


@lab.test("a server that strips signatures or is silent is left out and reported, and comes back; no domain is bogus meanwhile")
def health():
    setup()
    first, second, third = tree.forwarder(), tree.forwarder(), tree.forwarder()
    at = ["127.0.0.1@%d" % f.port for f in (first, second, third)]
    home = lab.Posternd(box.path("health"))
    home.console("dnsconfig setup source=own health_interval=1; " +
                 "".join("dnsconfig parent set %s priority=%d; " % (a, p) for a, p in zip(at, (0, 0, 5))) +
                 tree.commands().split("; ")[-1] + "; commit own Y")
    lab.equal(verdict("secure.example", "MX", home), ("OK", "secure"))
    lab.eventually(lambda: states(home) == {at[0]: "in use", at[1]: "in use", at[2]: "standby"}, 10, "all are checked")
    lab.equal([n for n in third.asked if n[0] not in ("", ".")], [], "the third is only checked")

    first.strip = True
    home.console("dnsflush y")
    lab.equal(verdict("secure.example", "MX", home), ("OK", "secure"))
    lab.eventually(lambda: states(home)[at[0]] == "no DNSSEC", 10, "the stripper is found out")
    lab.match(system_log(home), r"Warning: dns: the server %s is taken out of use: it takes away the signatures" % at[0])

    second.silent = True
    home.console("dnsflush y")
    lab.equal(verdict("mx.secure.example", "A", home), ("OK", "secure"))
    lab.eventually(lambda: states(home) == {at[0]: "no DNSSEC", at[1]: "not answering", at[2]: "in use"}, 10,
                   "the next priority is used")
    lab.equal(verdict("alias.secure.example", "A", home), ("OK", "secure"))

    first.strip = second.silent = False
    lab.eventually(lambda: states(home) == {at[0]: "in use", at[1]: "in use", at[2]: "standby"}, 10, "they are back")
    lab.match(system_log(home), r"Info: dns: the server %s is back" % at[0])
    alerts = " ".join(home.console("displayalerts").stdout.split())
    lab.match(alerts, r"The DNS server %s is taken out of use: it takes away the signatures" % at[0])

    first.strip = second.strip = third.strip = True # nobody is left: proven validation is not given up
    home.console("dnsflush y")
    lab.equal(verdict("mx.secure.example", "A", home)[1], "bogus")
    first.strip = False
    lab.eventually(lambda: verdict("mx.secure.example", "A", home) == ("OK", "secure"), 10, "one is enough")
    home.stop()


@lab.test("the root's anchor is kept up in the home and survives a restart; without DNSSEC answers are insecure, and that is said")
def rfc5011():
    setup()
    home = lab.Posternd(box.path("root"), start=False)
    os.makedirs(home.home)
    key = os.path.join(home.home, "root.key")
    with open(key, "w") as f:
        f.write(lab.read_text(tree.anchor))
    relay = tree.forwarder()
    home.start()
    home.console("dnsconfig setup source=own health_interval=1; dnsconfig parent set 127.0.0.1@%d; commit own Y" % relay.port)
    lab.equal(verdict("secure.example", "MX", home), ("OK", "secure"))
    lab.eventually(lambda: re.search(r"id = %d .*\[  VALID  \]" % tree.key.tag, lab.read_text(key)), 10, "the state is written")
    anchor = home.json("dnsstatus")["data"]["anchors"][0]
    lab.equal((anchor["domain"], anchor["text"], bool(anchor["checked"])), (".", "%d VALID" % tree.key.tag, True))
    home.restart()
    lab.equal(verdict("secure.example", "MX", home), ("OK", "secure"))
    lab.equal(verdict("expired.example", "MX", home), ("Bogus", "bogus"))

    relay.strip = True # from the beginning this time
    home.restart()
    lab.equal(verdict("secure.example", "MX", home), ("OK", "insecure"))
    lab.eventually(lambda: "dns: answers are not validated: " in system_log(home), 10, "it is said")
    lab.equal(home.json("dnsstatus")["data"]["validating"], False)
    relay.strip = False
    lab.eventually(lambda: home.json("dnsstatus")["data"]["validating"], 10, "it is noticed")
    lab.equal(verdict("secure.example", "MX", home), ("OK", "secure"), "what was learnt meanwhile counts no more")
    relay.strip = True
    home.console("dnsconfig setup validation=require; commit require Y")
    lab.equal(verdict("secure.example", "MX", home)[1], "bogus")
    home.console("dnsconfig setup validation=off; commit off Y")
    lab.equal(verdict("secure.example", "MX", home), ("OK", "insecure"))
    home.stop()


@lab.test("dig asks the gateway or a server; nslookup knows addresses; both in words and JSON")
def tools():
    setup()
    text = gateway.console("dig -t mx secure.example").stdout
    lab.match(text, r"(?s)status: NOERROR.*;; DNSSEC: secure.*secure\.example\.\s+\d+\s+IN\s+MX\s+10 mx\.secure\.example\.")
    lab.equal(gateway.json("dig secure.example mx")["data"]["records"], ["10 mx.secure.example."])
    text = gateway.console("dig @127.0.0.1@%d secure.example MX" % tree.port).stdout
    lab.match(text, r"(?s);; flags: qr rd.*MX\s+10 mx\.secure\.example\..*RRSIG.*DNSSEC: not validated.*\(UDP\)")
    text = gateway.console("dig -t @127.0.0.1@%d secure.example MX" % tree.port).stdout
    lab.match(text, r"\(TCP\)")
    tree.set("4.3.2.9.in-addr.arpa", "PTR", "mx.secure.example.")
    lab.match(gateway.console("nslookup 9.2.3.4").stdout, r"PTR=mx\.secure\.example\. TTL=5m")
    lab.match(gateway.console("dig -x 9.2.3.4").stdout, r"PTR\s+mx\.secure\.example\.")
    for words, want in (("dig secure.example NOSUCH", "not known here"), ("dig a..b", "is not a domain name"),
                        ("dig @nowhere secure.example", "not the address of a DNS server")):
        done = gateway.console(words, check=False)
        lab.equal(done.returncode != 0, True, words)
        lab.match(done.stderr, want, words)


@lab.test("dnsconfig in batch: AsyncOS's words and the uniform verbs; what is wrong is refused by its field")
def batch():
    setup()
    gateway.console("dnsconfig parent new 192.0.2.1 5; dnsconfig parent new 192.0.2.2 6; dnsconfig alt new b.example 192.0.2.3 "
                    "192.0.2.4; dnsconfig parent delete 192.0.2.1 192.0.2.2; commit words Y")
    lab.match(gateway.console("dnsconfig alt print").stdout, r"b\.example +192\.0\.2\.3, 192\.0\.2\.4")
    lab.equal("192.0.2." in gateway.console("dnsconfig parent print").stdout, False)
    gateway.console("dnsconfig alt absent b.example; dnsconfig alt absent b.example; commit no Y")
    for words, want in (("dnsconfig parent set nowhere", "not a DNS server"), ("dnsconfig setup source=moon", "source"),
                        ("dnsconfig parent delete 192.0.2.1 192.0.2.2", "There is no DNS cache server"),
                        ("dnsconfig anchor set x.example records=\"DS 1 2 3\"", "A DS record looks like"),
                        ("dnsconfig anchor set x.example records=\"DNSKEY 257 3 13 !!!\"", "A DNSKEY record looks like"),
                        ("dnsconfig insecure set x.example reason=y expires=never", "a date such as"),
                        ("dnsconfig alt set a..b servers=192.0.2.1", "between dots is empty"),
                        ("dnsconfig alt frobnicate", "help dnsconfig")):
        done = gateway.console(words, check=False)
        lab.equal(done.returncode != 0, True, words)
        lab.match(done.stderr, want, words)


@lab.test("telnet shows what a host says, escaped and bounded; ping says what it needs")
def connections():
    setup()
    lab.match(gateway.console("telnet 127.0.0.1 %d" % gateway.private).stdout, r"^220 .* ESMTP")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(2)

        def serve():
            for flood in (False, True):
                c, _ = s.accept()
                with c:
                    try:
                        c.sendall(b"hello \x1b[2Jworld\r\n" if not flood else b"x" * 8000000)
                        if not flood:
                            c.recv(10)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        port = s.getsockname()[1]
        lab.equal(gateway.console("telnet 127.0.0.1 %d" % port).stdout, "hello \\x1B[2Jworld\n")
        lab.equal(len(gateway.console("telnet 127.0.0.1 %d" % port).stdout) <= 66000, True)
    done = gateway.console("telnet 127.0.0.1 %d" % port, check=False)
    lab.equal(done.returncode != 0, True, "nothing listens there any more")
    lab.match(done.stderr, "refused")
    done = gateway.console("ping -c 1 127.0.0.1", check=False)
    lab.match(done.stdout + done.stderr, r"64 bytes from 127\.0\.0\.1|net\.ipv4\.ping_group_range")
    gateway.stop() # it has its audit log for itself
    audit = lab.run(["sqlite3", os.path.join(gateway.home, "audit.db"),
                     "SELECT count(*) FROM audit WHERE action='telnet'"]).stdout
    lab.equal(int(audit) >= 3, True)


lab.main()
