#!/usr/bin/python3
# daneverify, tlsverify and the deliveries they speak for, on a private signed DNS tree with mail hosts on port 25 of their
# own loopback addresses. What daneverify says of a zone, a delivery under mandatory DANE does, and Postfix thinks too.

import hashlib
import json
import os
import random
import re
import subprocess
import time

import dnstree
import lab

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


lab.main()
