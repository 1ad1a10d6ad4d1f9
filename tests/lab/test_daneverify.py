#!/usr/bin/python3
# daneverify, tlsverify and the deliveries they speak for, on a private signed DNS tree with mail hosts on port 25 of their
# own loopback addresses. What daneverify says of a zone, a delivery under mandatory DANE does, and Postfix thinks too.

import contextlib
import hashlib
import json
import os
import random
import re
import socket
import subprocess
import time

import dnstree
import lab
import policyweb
import terminal

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
state = {}


def spki(pair, matching=1):
    """TLSA data of the public key of a certificate."""
    der = subprocess.run("openssl x509 -in '%s' -pubkey -noout | openssl pkey -pubin -outform DER" % pair.cert, shell=True,
                         check=True, capture_output=True, timeout=20).stdout
    return digest(der, matching)


def whole(pair, matching=1):
    """... and of the certificate itself."""
    der = subprocess.run(["openssl", "x509", "-in", pair.cert, "-outform", "DER"], check=True, capture_output=True,
                         timeout=20).stdout
    return digest(der, matching)


def digest(der, matching):
    return {0: der.hex(), 1: hashlib.sha256(der).hexdigest(), 2: hashlib.sha512(der).hexdigest()}[matching]


def host(pair, *options, chain=()):
    """A mail host on port 25 of an address of its own; the address."""
    cert = pair.cert
    if chain:
        cert = box.write(os.path.basename(pair.cert) + "-%d.chain" % random.randrange(10**9),
                         "".join(lab.read_text(c.cert) for c in (pair,) + tuple(chain)))
    for _ in range(20):
        address = "127.%d.%d.%d" % tuple(random.randrange(2, 250) for _ in range(3))
        try:
            sink = lab.Sink("--listen", address + ":25", "--cert", cert, "--key", pair.key, *options)
        except lab.Failure:
            continue
        state.setdefault("sinks", {})[address] = sink
        return address
    raise lab.Skip("port 25 cannot be listened on")


def setup():
    if "tree" in state:
        return state["tree"]
    lab.need_root()
    tree = dnstree.DnsTree(box, ttl=0)
    state["ca"] = lab.make_cert(box.path("pki"), "Lab CA", is_ca=True)
    state["cert"] = lab.make_cert(box.path("pki"), "mail.ietf.org", ["mx.lab.example"], key="rsa")
    state["other"] = lab.make_cert(box.path("pki"), "other.example")
    state["leaf"] = lab.make_cert(box.path("pki"), "mx.leaf.example", ca=state["ca"])
    state["foreign"] = lab.make_cert(box.path("pki"), "elsewhere.example", ca=state["ca"])
    state["domain"] = lab.make_cert(box.path("pki"), "byname.example", ca=state["ca"])
    state["tree"] = tree
    state["good"] = host(state["cert"])
    state["wrong"] = host(state["other"])
    state["clear"] = host(state["cert"], "--no-starttls")
    state["garbage"] = host(state["cert"], "--garbage-tls")
    state["chained"] = host(state["leaf"], chain=[state["ca"]])
    state["strange"] = host(state["foreign"], chain=[state["ca"]])
    state["named"] = host(state["domain"], chain=[state["ca"]])
    with tree.change():
        zones(tree)
    tree.start()
    tree.attach(gateway)
    gateway.configure("bounceconfig edit Default initial_retry=60 max_retry=60 send_bounces=no\n"
                      "destconfig edit DEFAULT use_tls=on dane=mandatory\n")
    return tree


# What each zone is, and whether DANE protects mail to it.
EXPECTED = {}


def zone(tree, name, success, address, tlsa=(), mx=None, why="", **keywords):
    """A domain with one MX host mx.DOMAIN, or the one named."""
    EXPECTED[name] = (success, why)
    tree.zone(name, **keywords)
    mx = mx or "mx." + name
    tree.mx(name, "10 " + mx)
    if mx == "mx." + name:
        if address:
            tree.a(mx, address)
        if tlsa:
            tree.tlsa("_25._tcp." + mx, *([tlsa] if isinstance(tlsa, str) else tlsa))


def zones(tree):
    cert, ca, good = state["cert"], state["ca"], state["good"]
    right = "3 1 1 " + spki(cert)
    false = "3 1 1 " + spki(state["other"])

    zone(tree, "good.example", True, good, right)
    zone(tree, "cert.example", True, good, "3 0 1 " + whole(cert))
    zone(tree, "sha512.example", True, good, "3 1 2 " + spki(cert, 2))
    zone(tree, "full.example", True, good, "3 1 0 " + spki(cert, 0))
    zone(tree, "rollover.example", True, good, [false, right])
    zone(tree, "nsec3.example", True, good, right, nsec3=True)
    zone(tree, "mismatch.example", False, state["wrong"], right, why="peer cert does not match the TLSA records")
    zone(tree, "pkix.example", False, good, "1 1 1 " + spki(cert), why="usage 1 (PKIX-EE) is not for SMTP")
    zone(tree, "unknown.example", False, good, "3 7 1 " + spki(cert), why="its selector is unknown")
    zone(tree, "short.example", False, good, "3 1 1 " + spki(cert)[:-2], why="a SHA-256 digest has 32 octets")
    zone(tree, "beside.example", True, good, ["1 1 1 " + spki(state["other"]), right])
    # Digest agility (RFC 7671 section 9): the strongest digest that is published counts alone.
    zone(tree, "agile.example", True, good, [false, "3 1 2 " + spki(cert, 2)])
    zone(tree, "weaker.example", False, good, [right, "3 1 2 " + spki(state["other"], 2)])
    zone(tree, "leaf.example", True, state["chained"], "2 0 1 " + whole(ca))
    zone(tree, "anchorkey.example", True, state["named"], "2 1 1 " + spki(ca), mx="mx.anchorkey.example")
    EXPECTED["anchorkey.example"] = (False, "ostname mismatch") # the certificate names neither host nor domain
    zone(tree, "byname.example", True, state["named"], "2 1 1 " + spki(ca)) # ... but here the domain
    zone(tree, "strange.example", False, state["strange"], "2 0 1 " + whole(ca), why="ostname mismatch")
    zone(tree, "fullanchor.example", False, good, "2 0 0 " + whole(ca, 0)) # somebody else's authority
    zone(tree, "nostarttls.example", False, state["clear"], right, why="STARTTLS is not offered")
    zone(tree, "garbage.example", False, state["garbage"], right, why="TLS connection to")
    zone(tree, "none.example", False, good, why="No TLSA record (NXDOMAIN)")
    zone(tree, "plain.example", False, good, right, state="insecure", why="INSECURE MX record")
    zone(tree, "bogus.example", False, good, right, state="bogus", why="BOGUS MX record")
    zone(tree, "expired.example", False, good, right, state="expired", why="BOGUS MX record")
    zone(tree, "unsigned.example", False, good, right, state="unsigned", why="BOGUS MX record")
    zone(tree, "tlsafails.example", False, good, right, why="TLSA record of MX(mx.tlsafails.example)")
    tree.fail("_25._tcp.mx.tlsafails.example", "servfail", type="TLSA")
    zone(tree, "tlsaforged.example", False, good, right, why="BOGUS TLSA record")
    tree.forge("_25._tcp.mx.tlsaforged.example", "TLSA")
    zone(tree, "aforged.example", False, good, right, why="BOGUS A record")
    tree.forge("mx.aforged.example", "A")
    zone(tree, "nodenial.example", False, good, state="nodenial", why="TLSA record")
    # The address's zone is not signed: TLSA there is not even asked for (RFC 7672 section 2.2.2).
    zone(tree, "lent.example", False, None, mx="mx.plain.example", why="INSECURE A record")
    # An unsigned domain whose MX host is protected: the host is proven, the domain is not.
    zone(tree, "half.example", False, None, mx="mx.good.example", state="insecure", why="DANE does not apply")
    # Aliases: of the TLSA name; of the host, with records at the far or at the near end; into an unsigned zone.
    zone(tree, "tlsaalias.example", True, good)
    tree.cname("_25._tcp.mx.tlsaalias.example", "_25._tcp.mx.good.example")
    zone(tree, "far.example", True, None)
    tree.cname("mx.far.example", "mx.good.example")
    zone(tree, "near.example", True, None, right)
    tree.cname("mx.near.example", "mx.none.example")
    zone(tree, "edge.example", True, None, right)
    tree.cname("mx.edge.example", "mx.plain.example")
    zone(tree, "edgeless.example", False, None)
    tree.cname("mx.edgeless.example", "mx.plain.example")
    # A wildcard, whose expansion has to be proven.
    zone(tree, "wild.example", True, good)
    tree.tlsa("*.mx.wild.example", right)
    # One address family is enough, whatever is wrong with the other one.
    zone(tree, "family.example", True, good, right)
    tree.aaaa("mx.family.example", "2001:db8::25")
    tree.forge("mx.family.example", "AAAA")
    # No MX record: the domain itself is its host (RFC 5321 section 5.1).
    EXPECTED["implicit.example"] = (True, "No MX record")
    tree.zone("implicit.example")
    tree.a("implicit.example", good)
    tree.tlsa("_25._tcp.implicit.example", right)
    # The second host is proven; the first does not answer, or is somebody else.
    EXPECTED["second.example"] = (True, "Trying next MX record")
    tree.zone("second.example")
    tree.mx("second.example", "10 dead.second.example", "20 false.second.example", "30 mx.good.example")
    tree.a("dead.second.example", "127.255.1.1")
    tree.tlsa("_25._tcp.dead.second.example", right)
    tree.a("false.second.example", state["wrong"])
    tree.tlsa("_25._tcp.false.second.example", right)
    # The samples of the vendor's paper.
    tree.zone("ietf.org")
    tree.mx("ietf.org", "0 mail.ietf.org")
    tree.a("mail.ietf.org", good)
    tree.tlsa("_25._tcp.mail.ietf.org", right)
    tree.zone("cisco.com", state="insecure")
    tree.mx("cisco.com", "10 alln-mx-01.cisco.com", "20 rcdn-mx-01.cisco.com", "30 aer-mx-01.cisco.com")
    tree.a("alln-mx-01.cisco.com", "173.37.147.230")
    tree.a("rcdn-mx-01.cisco.com", "72.163.7.166")
    tree.a("aer-mx-01.cisco.com", "173.38.212.150")
    tree.zone("thinkbeyond.ch", state="insecure")
    tree.zone("outlook.com", state="insecure")
    tree.mx("thinkbeyond.ch", "10 thinkbeyond-ch.mail.protection.outlook.com")
    tree.a("thinkbeyond-ch.mail.protection.outlook.com", "104.47.9.36", "104.47.10.36")


def daneverify(domain, *flags, check=False):
    done = gateway.console(" ".join(("daneverify", domain) + flags), check=check)
    return done.returncode, done.stdout


# --- what is printed, to the letter


@lab.test("a domain that is protected, to the letter")
def success():
    setup()
    local = state["good"]
    code, text = daneverify("ietf.org")
    # The kernel chooses our end of a connection to 127.x.y.z.
    text = re.sub(r"from interface 127\.\d+\.\d+\.\d+\.", "from interface 216.71.133.161.", text)
    text = text.replace(local, "4.31.198.44")
    text = re.sub(r"protocol TLSv1\.\d, cipher [A-Z0-9_-]+\.", "protocol TLSv1.2, cipher ECDHE-RSA-AES256-GCM-SHA384.", text)
    lab.equal(text, """\
SECURE MX record(mail.ietf.org) found for ietf.org
SECURE A record (4.31.198.44) found for MX(mail.ietf.org) in ietf.org
Connecting to 4.31.198.44 on port 25.
Connected to 4.31.198.44 from interface 216.71.133.161.
SECURE TLSA record found for MX(mail.ietf.org) in ietf.org
Checking TLS connection.
TLS connection established: protocol TLSv1.2, cipher ECDHE-RSA-AES256-GCM-SHA384.
Certificate verification successful
TLS connection succeeded ietf.org.
DANE SUCCESS for ietf.org
DANE verification completed.
""")
    lab.equal(code, 0)


@lab.test("a domain whose signatures do not hold, to the letter")
def bogus():
    tree = setup()
    tree.forge("ietf.org", "MX")
    code, text = daneverify("ietf.org")
    tree.forge("ietf.org", "MX", on=False)
    lab.equal(text, """\
BOGUS MX record found for ietf.org
DANE FAILED for ietf.org
DANE verification completed.
""")
    lab.equal(code, 1)


@lab.test("a domain without signatures and with three mail hosts, to the letter")
def three_hosts():
    setup()
    code, text = daneverify("cisco.com")
    lab.equal(text, """\
INSECURE MX record(alln-mx-01.cisco.com) found for cisco.com
INSECURE MX record(alln-mx-01.cisco.com) found. The command will still proceed.
INSECURE A record (173.37.147.230) found for MX(alln-mx-01.cisco.com) in cisco.com
Trying next MX record in cisco.com
INSECURE MX record(rcdn-mx-01.cisco.com) found for cisco.com
INSECURE MX record(rcdn-mx-01.cisco.com) found. The command will still proceed.
INSECURE A record (72.163.7.166) found for MX(rcdn-mx-01.cisco.com) in cisco.com
Trying next MX record in cisco.com
INSECURE MX record(aer-mx-01.cisco.com) found for cisco.com
INSECURE MX record(aer-mx-01.cisco.com) found. The command will still proceed.
INSECURE A record (173.38.212.150) found for MX(aer-mx-01.cisco.com) in cisco.com
DANE FAILED for cisco.com
DANE verification completed.
""")
    lab.equal(code, 1)


@lab.test("a mail host with two addresses, to the letter")
def two_addresses():
    setup()
    code, text = daneverify("thinkbeyond.ch")
    host = "MX(thinkbeyond-ch.mail.protection.outlook.com) in thinkbeyond.ch"
    first, second = re.search(r"A record \((\S+)\) found", text)[1], re.search(r"next A record \((\S+)\)", text)[1]
    lab.equal(sorted([first, second]), ["104.47.10.36", "104.47.9.36"])
    lab.equal(text, """\
INSECURE MX record(thinkbeyond-ch.mail.protection.outlook.com) found for thinkbeyond.ch
INSECURE MX record(thinkbeyond-ch.mail.protection.outlook.com) found. The command will still proceed.
INSECURE A record (%s) found for %s
Trying next A record (%s) for %s
INSECURE A record (%s) found for %s
DANE FAILED for thinkbeyond.ch
DANE verification completed.
""" % (first, host, second, host, second, host))
    lab.equal(code, 1)


# --- every zone: daneverify, a delivery, Postfix and unbound-host


@lab.test("what is said of every zone follows from its records")
def every_zone():
    setup()
    wrong = []
    for domain, (expected, why) in EXPECTED.items():
        code, text = daneverify(domain)
        state.setdefault("said", {})[domain] = text
        if (code == 0) != expected or ("DANE SUCCESS for %s\n" % domain in text) != expected or why not in text \
                or not text.endswith("DANE verification completed.\n"):
            wrong.append("%s, exit code %d:\n%s" % (domain, code, text))
    assert not wrong, "\n".join(wrong)


@lab.test("a delivery under mandatory DANE does what daneverify says, and never in clear")
def deliveries():
    setup()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for domain in EXPECTED:
            c.message("a@sender.example", ["b@" + domain], "Subject: %s\r\n\r\nx\r\n" % domain)
        c.quit()
    for domain, (expected, _) in EXPECTED.items():
        mid = re.search(r"MID (\d+) Subject '%s'" % re.escape(domain), log.text())[1]
        if expected:
            log.wait_for(r"Message done DCID \d+ MID %s to RID \[0\]" % mid)
        else:
            log.wait_for(r"Delayed: (DCID \d+ )?MID %s to RID 0 " % mid)
    for dcid in log.find(r"Delivery start DCID (\d+)"):
        assert log.find(r"DCID %s TLS success protocol \S+ cipher \S+ for " % dcid), "in clear: DCID " + dcid
    asked = {name for name, kind in state["tree"].asked if kind in ("TLSA", 52)}
    assert "_25._tcp.mx.good.example" in asked, asked
    assert "_25._tcp.mx.plain.example" not in asked, "TLSA was asked for below unsigned addresses"


def validating_resolver():
    """unbound on port 53 of an address of its own, in front of the tree: it sets the AD bit that Postfix goes by."""
    tree = setup()
    lab.need_program("unbound")
    if "resolver" not in state:
        address = "127.%d.%d.%d" % tuple(random.randrange(2, 250) for _ in range(3))
        conf = box.write("unbound.conf", """\
server:
    interface: %s
    port: 53
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-not-query-localhost: no
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "%s"
    pidfile: "%s"
    trust-anchor-file: "%s"
    module-config: "validator iterator"
    val-clean-additional: yes
    cache-max-ttl: 0
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@%d
""" % (address, box.dir, box.path("unbound.pid"), tree.anchor, tree.port))
        lab.Child(["unbound", "-c", conf], log=box.path("unbound.log"))
        lab.eventually(lambda: answers(address), 10, "unbound answers")
        state["resolver"] = address
    return state["resolver"]


def answers(address):
    """Does it answer at all?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        with contextlib.suppress(OSError):
            s.sendto(bytes.fromhex("12340100000100000000000000000600 01".replace(" ", "")), (address, 53))
            return len(s.recv(4096)) > 12
    return False


@lab.test("Postfix agrees on every zone")
def postfix_agrees():
    setup()
    lab.need_program("posttls-finger")
    lab.need_program("unshare")
    if lab.run(["unshare", "-m", "true"], check=False).returncode:
        lab.skip("no mount namespace for a resolv.conf of its own")
    resolver = validating_resolver()
    box.write("postfix/main.cf", "compatibility_level = 3.6\ninet_protocols = ipv4\nmyhostname = gw.lab.example\n"
                                 "smtp_tls_CAfile =\nsmtp_connect_timeout = 5\n")
    conf = box.write("resolv.conf", "nameserver %s\noptions edns0 trust-ad timeout:2 attempts:2\n" % resolver)
    differ = []
    for domain, (expected, _) in EXPECTED.items():
        # Its default lets an unsigned MX record do; and it does not go on from a host that is somebody else's.
        if domain in ("half.example", "second.example"):
            continue
        done = lab.run(["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && '
                        'exec posttls-finger -c -l dane-only -L summary -T 5 "$1"', conf, domain], check=False,
                       env=dict(os.environ, MAIL_CONFIG=box.path("postfix")))
        text = done.stdout + done.stderr
        if ("Verified TLS connection established" in text) != expected:
            differ.append("%s, %s here:\n%s" % (domain, "verified" if expected else "not verified", text))
    assert not differ, "\n".join(differ)


@lab.test("unbound-host calls signed, unsigned and bogus what daneverify calls so")
def unbound_agrees():
    tree = setup()
    lab.need_program("unbound-host")
    conf = box.write("unbound-host.conf", """\
server:
    trust-anchor-file: "%s"
    do-not-query-localhost: no
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@%d
""" % (tree.anchor, tree.port))
    words = {"(secure)": "SECURE", "(insecure)": "INSECURE"}
    differ = []
    for domain in EXPECTED:
        said = state.get("said", {}).get(domain) or daneverify(domain)[1]
        done = lab.run(["unbound-host", "-C", conf, "-v", "-t", "MX", domain], check=False)
        text = done.stdout + done.stderr
        theirs = "BOGUS" if "(BOGUS" in text else next((w for k, w in words.items() if k in text), "?")
        ours = said.split()[0] if not said.startswith("No MX") else re.search(r"\((\w+)\)", said)[1]
        if ours != theirs:
            differ.append("%s: %s here, unbound-host:\n%s" % (domain, ours, text))
    assert not differ, "\n".join(differ)


# --- what else the command does


@lab.test("--all wants every host, --detail shows the records, --json the facts")
def flags():
    setup()
    lab.equal(daneverify("second.example")[0], 0)
    code, text = daneverify("second.example", "--all")
    lab.equal(code, 1)
    lab.match(text, r"Failed to connect to 127\.255\.1\.1: Connection refused\.")
    lab.equal(text.count("Trying next MX record in second.example"), 2)
    text = daneverify("beside.example", "--detail")[1]
    lab.match(text, r"(?m)^  1 1 1 [0-9a-f]{64} \(unusable: usage 1 \(PKIX-EE\) is not for SMTP\)$")
    lab.match(text, r"(?m)^  3 1 1 [0-9a-f]{64} \(usable\)$")
    lab.match(text, r"(?m)^  The certificate \(CN=mail\.ietf\.org\) matches 3 1 1 [0-9a-f]{64}$")
    done = gateway.console("daneverify mismatch.example --json", check=False)
    lab.equal(done.returncode, 1)
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    events = {l["data"]["event"]: l["data"] for l in lines}
    lab.equal(events["mx"]["security"], "secure")
    lab.equal(events["address"]["address"], state["wrong"])
    lab.equal(events["certificate"]["success"], False)
    lab.match(events["certificate"]["why"], "does not match the TLSA records")
    lab.equal(events["result"]["success"], False)
    lab.equal(last["data"]["success"], False)


@lab.test("a route, an exception and a domain without mail are named")
def obstacles():
    tree = setup()
    tree.zone("nomail.example")
    with tree.change():
        tree.mx("nomail.example", "0 .")
    if "tlsexceptions" not in gateway.console("help").stdout:
        lab.skip("no exceptions")
    gateway.configure("smtproutes new good.example relay.example\n"
                      "tlsexceptions new leftout kind=no-dane target=mx.cert.example reason=test owner=lab "
                      "expires=%s\n" % lab.day(300))
    code, text = daneverify("good.example")
    lab.equal(code, 1)
    lab.match(text, "An SMTP route leads mail for good.example elsewhere: DANE is used only with USEDNS.")
    lab.match(gateway.console("tlsexplain good.example").stdout, r'(?s)SMTP route +good.example to relay.example.*'
                                                                 r'keeps DANE and\s+MTA-STS from being used')
    code, text = daneverify("cert.example")
    lab.equal(code, 0)
    lab.match(text, r"The exception leftout applies to MX\(mx.cert.example\): deliveries do not use its TLSA records.")
    shown = gateway.json("tlsexplain cert.example")["data"]
    address = shown["hosts"][0]["addresses"][0]
    lab.equal(address["exceptions"][0]["owner"], "lab")
    lab.equal(shown["hosts"][0]["tlsa"]["state"], "excepted")
    gateway.configure("smtproutes delete good.example\ntlsexceptions delete leftout\n")
    code, text = daneverify("nomail.example")
    lab.equal(code, 1)
    lab.match(text, "accepts no mail")


@lab.test("Ctrl-C leaves at once, though the host says nothing for minutes")
def interrupted():
    tree = setup()
    for _ in range(20):
        address = "127.%d.%d.%d" % tuple(random.randrange(2, 250) for _ in range(3))
        mute = socket.socket()
        with contextlib.suppress(OSError):
            mute.bind((address, 25))
            break
    mute.listen(5)
    tree.zone("mute.example")
    with tree.change():
        tree.mx("mute.example", "10 mx.mute.example")
        tree.a("mx.mute.example", address)
        tree.tlsa("_25._tcp.mx.mute.example", "3 1 1 " + "00" * 32)
    t = terminal.console(gateway, columns=40)
    t.type("daneverify mute.example")
    t.until(r"Connecting to %s on port 25\.\s*" % re.escape(address))
    began = time.monotonic()
    t.type("\x03", enter=False)
    t.until(r"> $")
    lab.equal(time.monotonic() - began < 2, True, "back at the prompt within two seconds")
    lab.match(t.ask("version"), "Postern")
    t.leave()
    mute.settimeout(5)
    peer, _ = mute.accept()
    peer.settimeout(5)
    lab.equal(peer.recv(100), b"", "the connection is gone as well")
    peer.close()
    mute.close()


# --- tlsverify


def trust_lab():
    setup()
    gateway.configure("certconfig certauthority custom set lab certificate=<<CA\n%sCA\n"
                      "certconfig certauthority set custom_list=yes\n" % lab.read_text(state["ca"].cert))


@lab.test("tlsverify, to the letter")
def tlsverify():
    trust_lab()
    address = state["named"]
    done = gateway.console("tlsverify byname.example mx.byname.example")
    text = re.sub(r"from interface 127\.\d+\.\d+\.\d+\.", "from interface 10.10.10.10.", done.stdout)
    text = re.sub(r"protocol TLSv1\.\d, cipher [A-Z0-9_-]+\.", "protocol TLSv1, cipher RC4-SHA.", text)
    lab.equal(text.replace(address, "1.1.1.1"), """\
Connecting to 1.1.1.1 on port 25.
Connected to 1.1.1.1 from interface 10.10.10.10.
Checking TLS connection.
TLS connection established: protocol TLSv1, cipher RC4-SHA.
Verifying peer certificate.
Verifying certificate common name byname.example.
TLS certificate match byname.example
TLS certificate verified.
TLS connection to 1.1.1.1 succeeded.

TLS successfully connected to mx.byname.example.
TLS verification completed.
""")


@lab.test("tlsverify: what goes wrong is said, and the last line comes always")
def tlsverify_fails():
    trust_lab()
    for words, lines in (
            ("good.example mx.good.example", ("Certificate verification failed: self-signed certificate.",
                                              "TLS connection to %s failed: verify error." % state["good"])),
            ("strange.example", ("Verifying certificate common name elsewhere.example.",
                                 "Certificate verification failed: peer cert does not match domain strange.example.",
                                 "Required - Verify Hosted Domains")),
            ("nostarttls.example", ("TLS connection to %s failed: STARTTLS not supported." % state["clear"],)),
            ("good.example 127.255.1.1:26", ("Connecting to 127.255.1.1 on port 26.",
                                             "Failed to connect to 127.255.1.1: Connection refused.",
                                             "Failed to connect to [127.255.1.1].")),
            ("good.example nowhere.good.example", ("Failed to connect to [nowhere.good.example].",))):
        done = gateway.console("tlsverify " + words, check=False)
        lab.equal(done.returncode, 1, words)
        for line in lines:
            assert line in done.stdout, "%s: no %r in\n%s" % (words, line, done.stdout)
        assert done.stdout.endswith("\nTLS verification completed.\n"), done.stdout
    *lines, last = [json.loads(l) for l in gateway.console("tlsverify byname.example --json").stdout.splitlines()]
    lab.equal(last["data"]["success"], True)
    lab.equal([l["data"]["protocol"] for l in lines if l["data"]["event"] == "tls" and "protocol" in l["data"]],
              ["TLSv1.3"])


# --- tlsexplain


@lab.test("tlsexplain shows what applies, where it comes from and what it leads to")
def tlsexplain():
    setup()
    gateway.configure("destconfig set leaf.example use_tls=require dane=opportunistic\n"
                      "destconfig set plain.example use_tls=off\n")
    data = gateway.json("tlsexplain leaf.example")["data"]
    lab.equal({s["name"]: (s["value"], s["from"]) for s in data["settings"]},
              {"use_tls": ("require", "leaf.example"), "dane": ("opportunistic", "leaf.example"),
               "mta_sts": ("off", "built in")})
    lab.equal(data["mx"]["security"], "secure")
    host = data["hosts"][0]
    lab.equal((host["host"], host["mx_secure"], host["tlsa"]["state"]), ("mx.leaf.example", True, "usable"))
    verdict = host["addresses"][0]
    lab.equal((verdict["rule"], verdict["use"], verdict["must"], verdict["modern"]), ("dane", "must", ["dane"], True))
    data = gateway.json("tlsexplain plain.example")["data"]
    lab.equal([s["from"] for s in data["settings"]], ["plain.example", "TLS is No", "TLS is No"])
    lab.equal(data["hosts"][0]["addresses"][0]["rule"], "level-none")
    for domain, rule in (("bogus.example", None), ("tlsafails.example", "dane-failed"), ("pkix.example", "dane-mandatory"),
                         ("none.example", "dane-mandatory"), ("half.example", "dane-mandatory"),
                         ("good.example", "dane")):
        data = gateway.json("tlsexplain " + domain)["data"]
        if rule:
            lab.equal(data["hosts"][0]["addresses"][0]["rule"], rule, domain)
        else:
            lab.equal(data["mx"]["status"], "Bogus", domain)
        lab.equal("waits" in data["summary"], not EXPECTED[domain][0], domain)
        assert EXPECTED[domain][0] or data["advice"], "no advice about " + domain
    data = gateway.json("tlsexplain good.example --accepted")["data"]
    lab.equal(data["hosts"][0]["tlsa"]["state"], "not-asked")
    text = gateway.console("tlsexplain beside.example").stdout
    lab.match(text, r"1 1 1\s+[0-9a-f]{64}\s+unusable: usage 1 \(PKIX-EE\)\s+is not for SMTP")
    gateway.configure("destconfig delete leaf.example\ndestconfig delete plain.example\n")


@lab.test("tlsexplain shows the MTA-STS policy, and what to do about a certificate of somebody else")
def advice():
    tree = setup()
    trust_lab()
    web = policyweb.PolicyWeb(box)
    for name in ("policy.example", "stray.example"):
        tree.zone(name, state="insecure")
        with tree.change():
            tree.txt("_mta-sts." + name, "v=STSv1; id=1;")
            tree.a("mta-sts." + name, web.address)
            tree.mx(name, "10 mx.leaf.example")
        web.policy(name, mx=["mx.leaf.example" if name == "policy.example" else "*.stray.example"])
    gateway.configure(web.statements() +
                      "destconfig set policy.example use_tls=on mta_sts=on dane=opportunistic\n"
                      "destconfig set stray.example use_tls=on mta_sts=on dane=none\n"
                      "destconfig set strange.example use_tls=require_verify dane=none\n")
    data = gateway.json("tlsexplain policy.example")["data"]
    lab.equal((data["mta_sts"]["state"], data["mta_sts"]["mx"], data["hosts"][0]["in_policy"]),
              ("enforce", ["mx.leaf.example"], True))
    verdict = data["hosts"][0]["addresses"][0]
    lab.equal((verdict["rule"], verdict["use"], verdict["must"]), ("sts-enforce", "must", ["mx"]))
    data = gateway.json("tlsexplain stray.example")["data"]
    lab.equal(data["hosts"][0]["addresses"][0]["rule"], "sts-mx")
    assert [a for a in data["advice"] if "is not in the MTA-STS policy" in a], data["advice"]
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for domain in ("policy.example", "strange.example"):
            c.message("a@sender.example", ["b@" + domain], "Subject: advice %s\r\n\r\nx\r\n" % domain)
        c.quit()
    good, bad = (log.wait_for(r"MID (\d+) Subject 'advice %s'" % d)[1] for d in ("policy.example", "strange.example"))
    log.wait_for(r"Message finished MID %s done" % good)
    log.wait_for(r"Delayed: (DCID \d+ )?MID %s to RID 0 " % bad)
    lab.equal(gateway.json("tlsexplain mid " + good)["data"]["attempts"][-1]["hosts"][-1]["tls"], "mta-sts")
    data = gateway.json("tlsexplain strange.example")["data"]
    assert [a for a in data["advice"] if "Required - Verify Hosted Domains" in a], json.dumps(data, indent=1)
    assert [a for a in data["advice"] if "dane=opportunistic" in a], data["advice"]
    gateway.configure("".join("destconfig delete %s\n" % d for d in ("policy.example", "stray.example", "strange.example")))


@lab.test("tlsexplain mid: the record of an attempt, over a restart too")
def attempts():
    setup()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for domain in ("second.example", "mismatch.example", "bogus.example"):
            c.message("a@sender.example", ["b@" + domain, "c@" + domain], "Subject: record %s\r\n\r\nx\r\n" % domain)
        c.quit()
    mids = {d: int(log.wait_for(r"MID (\d+) Subject 'record %s'" % d)[1])
            for d in ("second.example", "mismatch.example", "bogus.example")}
    log.wait_for(r"Message finished MID %d done" % mids["second.example"])
    for domain in ("mismatch.example", "bogus.example"):
        log.wait_for(r"Delayed: (DCID \d+ )?MID %d to RID 1 " % mids[domain])

    def check():
        a = gateway.json("tlsexplain mid %d" % mids["second.example"])["data"]["attempts"][-1]
        lab.equal((a["delivered"], a["deferred"], a["domain"]), (2, 0, "second.example"))
        lab.equal([h["end"] for h in a["hosts"]][-1], "used")
        last = a["hosts"][-1]
        lab.equal((last["tls"], last["rule"], last["dane_state"]), ("dane", "dane", "usable"))
        lab.match(last["matched"], r"^3 1 1 |^mx\.good\.example$")
        a = gateway.json("tlsexplain mid %d" % mids["mismatch.example"])["data"]["attempts"][-1]
        lab.equal((a["delivered"], a["deferred"]), (0, 2))
        assert a["hosts"][-1]["end"] in ("insecure", "down"), a
        a = gateway.json("tlsexplain mid %d" % mids["bogus.example"])["data"]["attempts"]
        lab.equal([h["end"] for one in a for h in one.get("hosts", [])], ["route"])

    check()
    gateway.restart()
    check()
    text = gateway.console("tlsexplain mid %d" % mids["second.example"]).stdout
    lab.match(text, r"The mail was handed over, encrypted, verified by DANE")
    assert gateway.console("tlsexplain mid 999999", check=False).returncode != 0


lab.main()
