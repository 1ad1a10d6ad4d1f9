#!/usr/bin/python3
# MTA-STS through the whole gateway: policies from a web server under a private CA, records from a signed DNS tree, mail
# to MX hosts on port 25 of their own loopback addresses.

import concurrent.futures
import json
import os
import re
import time

import dnstree
import lab
import policyweb


SHORT = "updateconfig set connect_timeout=2 idle_timeout=2 total_timeout=4\n"

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
state = {}


def setup():
    """Once; a test that needs it says so first."""
    if "web" in state:
        return state["web"], state["tree"]
    web = policyweb.PolicyWeb(box)
    tree = dnstree.DnsTree(box, ttl=0)
    tree.zone("lab.example", state="insecure")
    tree.start()
    tree.attach(gateway)
    gateway.configure(web.statements() + SHORT +
                      "logconfig edit mail_logs level=debug\n"
                      "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=100 send_bounces=no\n")
    state.update(web=web, tree=tree)
    return web, tree


def publish(domain, id="1", fault=None, **policy):
    """A record, a web server's name and a policy."""
    web, tree = setup()
    with tree.change():
        tree.txt("_mta-sts." + domain, "v=STSv1; id=%s;" % id)
        tree.a("mta-sts." + domain, web.address)
    web.policy(domain, **dict({"mx": ["mx." + domain]}, **policy))
    web.fault(domain, fault)
    return domain


def refresh(domain, check=True):
    return gateway.console("stspolicies refresh %s" % domain, check=check)


def show(domain):
    return gateway.json("stspolicies show %s" % domain)["data"]


@lab.test("a policy is fetched as RFC 8461 wants it, and shown")
def fetched():
    web, _ = setup()
    publish("good.lab.example", id="20261121T1", mx=["mx.good.lab.example", "*.good.lab.example"], max_age=604800)
    refresh("good.lab.example")
    host, lines = web.requests[-1]
    lab.equal(host, "mta-sts.good.lab.example") # the name in the ClientHello
    lab.equal(lines[0], "GET /.well-known/mta-sts.txt HTTP/1.1")
    lab.equal(sorted(line.split(":")[0] for line in lines[1:]), ["Accept", "Host", "User-Agent"])
    lab.match("\n".join(lines), r"^Host: mta-sts\.good\.lab\.example$")
    got = show("good.lab.example")
    lab.equal([got[k] for k in ("domain", "mode", "id", "mx", "max_age")],
              ["good.lab.example", "enforce", "20261121T1", ["mx.good.lab.example", "*.good.lab.example"], 604800])
    lab.match(gateway.console("stspolicies list").stdout, r"^good\.lab\.example +enforce +20261121T1 ")
    refresh("good.lab.example")
    assert not any("ookie" in line for line in web.requests[-1][1]), "a cookie came back"
    log.wait_for(r"Debug: Fetch MTA-STS policy for the domain\(good\.lab\.example\)$")
    log.wait_for(r"Info: Successfully fetched MTA-STS policy for the domain\(good\.lab\.example\)$")
    log.wait_for(r"Debug: MTA-STS Cache entry added for the domain \(good\.lab\.example\)\.$")


# fault -> what the sentence says; the slow ones end with the time they are given
REFUSED = {
    "redirect": "redirection", "404": "status 404", "500": "status 500", "type": 'media type.*"text/html"',
    "gzip": "compressed", "huge": "too long", "endless": "too long", "headers": "header.*too long|too (large|long)",
    "line": "too long", "interim": "too long|time", "slow": "timeout", "silent": "timeout", "deaf": "timeout",
    "cut": "closed|transfer", "close": "Empty reply|reply from server", "garbage": "HTTP/0.9|Unsupported|Received",
    "name": "certificate|hostname|mismatch", "cn": "certificate|hostname|mismatch", "expired": "expired",
    "unknown": "local issuer", "self": "self.signed", "tls11": "protocol|version", "plain": "SSL|record",
}


@lab.test("a web server with any fault gives no policy, in bounded time and memory")
def faults():
    web, tree = setup()
    assert set(REFUSED) == set(policyweb.FAULTS)
    before = lab.pss_bytes([gateway.engine])
    with tree.change():
        for fault in REFUSED:
            domain = fault + ".fault.lab.example"
            tree.txt("_mta-sts." + domain, "v=STSv1; id=1;")
            tree.a("mta-sts." + domain, web.address)
            web.policy(domain, mx=["mx." + domain]).fault(domain, fault)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(REFUSED)) as pool:
        done = dict(zip(REFUSED, pool.map(lambda f: refresh(f + ".fault.lab.example", check=False), REFUSED)))
    took = time.monotonic() - started
    grown = lab.pss_bytes([gateway.engine]) - before
    for fault, result in done.items():
        said = result.stdout + result.stderr
        assert result.returncode != 0, fault
        lab.match(said, r"(?i)was not fetched: .*(%s)" % REFUSED[fault], fault)
        assert "\x1b" not in said, fault
    lab.note("all of them: %.1f s, memory %+d KiB" % (took, grown >> 10))
    assert took < 15 and grown < 24 << 20, (took, grown)
    lab.equal(web.count("redirect.fault.lab.example"), 1, "requests of the redirected")
    for fault in REFUSED:
        web.fault(fault + ".fault.lab.example", None)
    refresh("tls11.fault.lab.example") # and it is the fault that did it
    refresh("name.fault.lab.example")


@lab.test("no fetch goes to an address that is not public, unless that is allowed")
def private():
    web, tree = setup()
    publish("inside.lab.example")
    gateway.configure("updateconfig set allow_private_addresses=no\n")
    before = web.connections
    try:
        for address in (web.address, "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0"):
            tree.a("mta-sts.inside.lab.example", address)
            said = refresh("inside.lab.example", check=False).stderr
            lab.match(said, "no public address", address)
        lab.equal(web.connections, before)
    finally:
        gateway.configure("updateconfig set allow_private_addresses=yes\n")


@lab.test("through a proxy: CONNECT with the password, the proxy resolves, the tunnel is verified")
def proxied():
    web, tree = setup()
    proxy = policyweb.Proxy(web, "gate", "sesame")
    publish("proxied.lab.example")
    tree.a("mta-sts.proxied.lab.example") # we could not
    gateway.configure("updateconfig set proxy_host=127.0.0.1 proxy_port=%d proxy_user=gate proxy_password=<<X\nwrong\nX\n"
                      "updateconfig set allow_private_addresses=no\n" % proxy.port)
    try:
        lab.match(refresh("proxied.lab.example", check=False).stderr, "407")
        gateway.configure("updateconfig set proxy_password=<<X\nsesame\nX\n")
        refresh("proxied.lab.example")
        lab.equal(proxy.connects[-1][0], "CONNECT mta-sts.proxied.lab.example:443 HTTP/1.1")
        log.wait_for("Debug: Requesting MTA-STS policy fetch through proxy")
        web.fault("proxied.lab.example", "name")
        lab.match(refresh("proxied.lab.example", check=False).stderr, "(?i)certificate|mismatch")
        shown = gateway.console("updateconfig print").stdout + gateway.console("showconfig").stdout
        assert "sesame" not in shown and "sesame" not in log.text()
        for name in ("config.db", "state.db"):
            with open(os.path.join(gateway.home, name), "rb") as f:
                assert b"sesame" not in f.read(), name
    finally:
        gateway.configure("updateconfig set proxy_host=\"\" proxy_user=\"\" proxy_password=\"\" allow_private_addresses=yes\n")
    refresh("good.lab.example")


lab.main()
