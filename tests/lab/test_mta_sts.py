#!/usr/bin/python3
# MTA-STS through the whole gateway: policies from a web server under a private CA, records from a signed DNS tree, mail
# to MX hosts on port 25 of their own loopback addresses.

import concurrent.futures
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
    web.names([fault + ".fault.lab.example" for fault in REFUSED])
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
    assert took < 15, took
    assert "san" in os.path.basename(lab.BUILD) or grown < 24 << 20, grown # sanitizers keep what is freed
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


# --- mail

SENDER = "sender@client.lab.example"


def submit(domain, count=1):
    """The MIDs."""
    mids = []
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for _ in range(count):
            c.mail(SENDER, "user@" + domain)
            mids.append(int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("t", 500)))[1]))
        c.quit()
    return mids if count > 1 else mids[0]


def delivered(mid, timeout=15):
    log.wait_for(r"Message done DCID \d+ MID %d " % mid, timeout)


def waits(mid):
    """It was tried, and is still there."""
    log.wait_for(r"(Delayed|Connection Error): .*MID %d |Delayed: DCID \d+ MID %d " % (mid, mid))
    assert not log.find(r"Message (done DCID \d+ MID %d |finished MID %d )" % (mid, mid)), "it was delivered"


class MxHost:
    """An SMTP server on port 25 of its own address. names: what its certificate says; None: it makes one itself."""

    def __init__(self, stem, names=None, ca=None, options=()):
        self.address, s = policyweb.loopback_address(25)
        s.close()
        if names:
            pair = ca.issue("mx-" + stem, names[0], names)
            options = ("--cert", pair.cert, "--key", pair.key, *options)
        self.sink = lab.Sink("--listen", self.address + ":25", *options)


# name of the domain -> MX host, mode, fault of the web server, are the MX hosts in the policy, is mail delivered
CASES = {
    "enforce-good": ("good", "enforce", None, True, True),
    "enforce-wrong-name": ("stray", "enforce", None, True, False),
    "enforce-unknown-ca": ("unknown", "enforce", None, True, False),
    "enforce-clear": ("clear", "enforce", None, True, False),
    "enforce-tls12": ("tls12", "enforce", None, True, True),
    "enforce-other-mx": ("good", "enforce", None, False, False),
    "testing-good": ("good", "testing", None, True, True),
    "testing-wrong-name": ("stray", "testing", None, True, True),
    "testing-unknown-ca": ("unknown", "testing", None, True, True),
    "testing-clear": ("clear", "testing", None, True, True),
    "testing-other-mx": ("good", "testing", None, False, True),
    "none-unknown-ca": ("unknown", "none", None, True, True),
    "none-clear": ("clear", "none", None, True, True),
    "no-web-404": ("clear", "enforce", "404", True, True),
    "no-web-redirect": ("clear", "enforce", "redirect", True, True),
    "no-web-ca": ("clear", "enforce", "unknown", True, True),
    "no-web-silent": ("clear", "enforce", "silent", True, True),
    "no-record": ("clear", None, None, True, True),
}


def mx_hosts():
    if "mx" in state:
        return state["mx"]
    web, _ = setup()
    domains = ["mx.%s.mail.lab.example" % name for name in CASES]
    domains += ["mx.%s.lab.example" % name for name in ("kept", "once", "blind", "off")]
    stranger = policyweb.Authority(box.mkdir("stranger"), "Nobody's CA")
    state["mx"] = {
        "good": MxHost("good", domains, web.authority),
        "tls12": MxHost("tls12", domains, web.authority, ("--tls-max", "1.2")),
        "stray": MxHost("stray", ["mx.elsewhere.example"], web.authority),
        "unknown": MxHost("unknown", domains, stranger),
        "clear": MxHost("clear", options=("--no-starttls",)),
    }
    gateway.configure("destconfig edit default use_tls=on mta_sts=on\n")
    return state["mx"]


def mail_domain(domain, host):
    """A domain with one MX host."""
    _, tree = setup()
    with tree.change():
        tree.mx(domain, "10 mx." + domain)
        tree.a("mx." + domain, mx_hosts()[host].address)
    return domain


@lab.test("mail goes or waits as mode, MX host and web server have it; nothing goes over where the policy forbids it")
def modes():
    web, tree = setup()
    hosts = mx_hosts()
    web.names([name + ".mail.lab.example" for name in CASES])
    with tree.change():
        for name, (host, mode, fault, listed, _) in CASES.items():
            domain = name + ".mail.lab.example"
            tree.mx(domain, "10 mx." + domain)
            tree.a("mx." + domain, hosts[host].address)
            if mode:
                tree.txt("_mta-sts." + domain, "v=STSv1; id=1;")
                tree.a("mta-sts." + domain, web.address)
                web.policy(domain, mode=mode, mx=["mx." + domain if listed else "mx.other.example"]).fault(domain, fault)
    mids = {name: submit(name + ".mail.lab.example") for name in CASES}
    for name, case in CASES.items():
        try:
            (delivered if case[-1] else waits)(mids[name])
        except AssertionError as e:
            raise lab.Failure("%s: %s" % (name, e)) from None
    lab.equal(hosts["stray"].sink.stats()["messages"], 1, "messages at the host with a strange name") # testing
    lab.equal(hosts["unknown"].sink.stats()["messages"], 2, "messages at the host of an unknown authority")
    for line in ("MTA-STS policy for the domain (enforce-good.mail.lab.example) Successful.",
                 "Successfully fetched MTA-STS TXT record for domain(enforce-good.mail.lab.example)",
                 "MTA-STS record Error(Invalid MTA-STS TXT records found) for domain(no-record.mail.lab.example)",
                 "Failure encountered while fetching MTA-STS policy for the domain(no-web-404.mail.lab.example)"):
        log.wait_for(r"Info: %s$" % re.escape(line))


@lab.test("a policy survives a restart without its web server, and another id replaces it")
def kept():
    web, tree = setup()
    hosts = mx_hosts()
    domain = publish(mail_domain("kept.lab.example", "good"))
    delivered(submit(domain))
    lab.equal(web.count(domain), 1)
    web.pause()
    tree.a("mx." + domain, hosts["unknown"].address)
    gateway.stop()
    gateway.start()
    held = submit(domain)
    waits(held)
    log.wait_for(r"Debug: Valid cache entry found for the domain \(kept\.lab\.example\)\.$")
    with tree.change(): # the record is taken away, or blocked
        tree.txt("_mta-sts." + domain)
        tree.set("_mta-sts." + domain, "TXT")
    waits(submit(domain))
    web.resume()
    publish(domain, id="2", mode="testing")
    delivered(held)
    delivered(submit(domain))
    lab.equal(web.count(domain), 2)
    lab.equal([show(domain)[k] for k in ("mode", "id")], ["testing", "2"])


@lab.test("many messages at once cause one fetch, and all of them wait for it")
def once():
    web, _ = setup()
    domain = publish(mail_domain("once.lab.example", "good"))
    web.delays["mta-sts." + domain] = 1
    for mid in submit(domain, 60):
        delivered(mid)
    lab.equal(web.count(domain), 1)


@lab.test("a record that cannot be looked up: mail goes, or waits where the operator says so")
def blind():
    _, tree = setup()
    domain = mail_domain("blind.lab.example", "clear")
    tree.fail("_mta-sts." + domain, "servfail")
    delivered(submit(domain))
    gateway.configure("stspolicies setup lookup_error=defer\n")
    try:
        mid = submit(domain)
        waits(mid)
        tree.repair("_mta-sts." + domain)
        gateway.configure("stspolicies setup lookup_error=ignore\n")
        delivered(mid)
    finally:
        gateway.configure("stspolicies setup lookup_error=ignore\n")


@lab.test("switched off for a domain, nothing is asked")
def off():
    web, tree = setup()
    domain = publish(mail_domain("off.lab.example", "clear"))
    gateway.configure("destconfig set off.lab.example mta_sts=off\n")
    tree.asked.clear()
    delivered(submit(domain))
    assert not any(name.startswith("_mta-sts.off.") for name, _ in tree.asked), tree.asked
    lab.equal(web.count(domain), 0)


@lab.test("a gateway that stops while it fetches a policy neither waits nor lets the mail go without it")
def stopped():
    web, _ = setup()
    sink = mx_hosts()["clear"].sink
    domain = publish(mail_domain("stopped.lab.example", "clear"), fault="silent")
    gateway.configure("updateconfig set idle_timeout=60 total_timeout=60\n")
    before = sink.stats()["messages"]
    mid = submit(domain)
    lab.eventually(lambda: web.count(domain) == 1, what="the fetch has begun")
    started = time.monotonic()
    gateway.stop()
    took = time.monotonic() - started
    assert took < 5, "%.1f s" % took
    web.fault(domain, None)
    gateway.start()
    gateway.configure(SHORT)
    waits(mid)
    lab.equal(sink.stats()["messages"], before)


@lab.test("policies are listed, shown and flushed, in JSON too")
def console():
    gateway.console("deleterecipients all") # what waits would fetch a policy again in the middle of this
    publish("ill.lab.example", fault="404")
    refresh("ill.lab.example", check=False)
    refresh("good.lab.example")
    listed = {p["domain"]: p for p in gateway.json("stspolicies list")["data"]["policies"]}
    lab.equal(listed["good.lab.example"]["mode"], "enforce")
    lab.equal(listed["ill.lab.example"]["mode"], "")
    lab.match(listed["ill.lab.example"]["failure"], "status 404")
    lab.equal(gateway.console("stspolicies show nobody.example", check=False).returncode, 7)
    lab.equal(gateway.json("stspolicies flush good.lab.example")["data"]["flushed"], 1)
    lab.equal(gateway.json("stspolicies flush good.lab.example")["data"]["flushed"], 0) # again: no failure
    assert gateway.console("stspolicies flush all", check=False).returncode != 0, "all of them without --yes"
    assert gateway.json("stspolicies flush all --yes")["data"]["flushed"] > 10
    lab.equal(gateway.json("stspolicies list")["data"]["policies"], [])


lab.main()
