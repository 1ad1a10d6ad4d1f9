# DANE and MTA-STS for the same domain: every row of the table in which they meet, with real mail, and the lines of mail_logs
# that say which of them was in force.

import re
import time

import dnstree
import lab
import policyweb
from mxhosts import CLEAR, PROVEN, TLS, WAITS, Mail, Server, tlsa

lab.need_root() # ports 25 and 443
box = lab.Sandbox()
web = policyweb.PolicyWeb(box)
tree = dnstree.DnsTree(box, ttl=3)
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
mail = Mail(gateway)
zone = "sec.example"
S = {}
CASES = [] # (name, DANE setting, fate, reason, log line)


def publish(name, server, records=(), mode=None, mx=None, state=zone, id="1"):
    """A domain with one MX host, TLSA records and a policy."""
    domain, host = "%s.%s" % (name, state), "mx-%s.%s" % (name, state)
    tree.mx(domain, "10 " + host)
    tree.a(host, S[server].address)
    if records:
        tree.tlsa("_25._tcp." + host, *records)
    if mode:
        tree.txt("_mta-sts." + domain, "v=STSv1; id=%s;" % id)
        tree.a("mta-sts." + domain, web.address)
        web.policy(domain, mode=mode, mx=mx or [host])
    return domain


def case(name, fate, why=None, said=None, dane="opportunistic", **keywords):
    CASES.append((publish(name, **keywords), dane, fate, why, said))


APPLYING = r"Applying MTA-STS policy for the domain \({d}\)\.$"
SUCCESS = r"MTA-STS policy for the domain \({d}\) Successful\.$"
FAILED = r"Applying MTA-STS policy for the domain \({d}\) Failed\.$"
UNREACHED = r"Connection for the domain \({d}\) failed when MTA-STS Policy was enforced\.$"
SKIPPED = r"MTA-STS policy will be skipped for the \({d}\) due to DANE being enforced\.$"


def cases():
    hosts = ["mx-%s.%s" % (n, z) for z in (zone, "plain.example") for n in
             ("s1", "s2", "s3", "s4", "b1", "b2", "u1", "n1", "p1", "e1", "m1", "t1", "t2", "t3", "x1", "a1", "o1", "o2", "o3")]
    S["good"] = Server(box, "good", pair=web.authority.issue("mx-good", "mx", hosts))
    S["self"] = Server(box, "self", name="mx", sans=hosts)
    S["bare"] = Server(box, "bare", "--no-starttls", name="mx")
    S["old"] = Server(box, "old", "--tls-min", "1.1", "--tls-max", "1.1", pair=S["good"].pair)
    match, wrong = tlsa(3, 1, 1, S["good"].pair), tlsa(3, 1, 1, S["bare"].pair)
    unusable = tlsa(1, 0, 1, S["good"].pair)
    # DANE off
    case("s1", TLS, said=SUCCESS, dane="none", server="good", mode="enforce")
    case("s2", WAITS, "the host is not in the domain's MTA-STS policy", FAILED, dane="none", server="good", mode="enforce",
         mx=["other.example"])
    case("s3", WAITS, "self-signed certificate; the domain's MTA-STS policy is enforced", FAILED, dane="none", server="self",
         mode="enforce")
    case("s4", WAITS, "STARTTLS unavailable", UNREACHED, dane="none", server="bare", mode="enforce")
    # DANE proves, or refutes, the host: MTA-STS has no say
    case("p1", PROVEN, said=SKIPPED, server="good", records=[match], mode="enforce", mx=["other.example"])
    case("b1", WAITS, "does not match the TLSA records", SKIPPED, server="good", records=[wrong], mode="enforce")
    case("b2", WAITS, "its DNSSEC answers are bogus", SKIPPED, server="good", records=[match], mode="enforce")
    tree.forge("_25._tcp.mx-b2." + zone, "TLSA")
    # nothing usable: MTA-STS, or TLS
    case("u1", TLS, said=SUCCESS, server="good", records=[unusable], mode="enforce")
    case("x1", WAITS, "self-signed certificate", FAILED, server="self", records=[unusable], mode="enforce")
    case("n1", TLS, said=SUCCESS, server="good", mode="enforce")
    case("e1", TLS, said=SUCCESS, server="good", records=[wrong], mode="enforce", state="plain.example")
    case("a1", WAITS, "the host is not in the domain's", FAILED, server="good", mode="enforce", mx=["*.a1.sec.example"])
    case("m1", WAITS, "DANE is mandatory", SKIPPED, dane="mandatory", server="good", mode="enforce")
    # testing: looked at, said, delivered
    case("t1", TLS, said=FAILED, server="self", mode="testing")
    case("t2", CLEAR, said=FAILED, server="bare", mode="testing")
    case("t3", TLS, said=FAILED, server="good", mode="testing", mx=["other.example"])


def setup():
    if gateway.child:
        return
    tree.zone(zone)
    tree.zone("plain.example", state="insecure")
    cases()
    tree.attach(gateway)
    gateway.configure(web.statements() + "bounceconfig edit Default initial_retry=3600 max_retry=7200\n"
                      "destconfig edit default use_tls=on dane=opportunistic mta_sts=on\n" +
                      "".join("destconfig new %s use_tls=on dane=%s mta_sts=on\n" % (c[0], c[1]) for c in CASES
                              if c[1] != "opportunistic"))


@lab.test("DANE and MTA-STS together: who is in force, and what becomes of the mail")
def together():
    setup()
    mids = {c: mail.submit("rcpt@" + c[0]) for c in CASES}
    fates = {c: mail.outcome(mid, c[0]) for c, mid in mids.items()}
    waiting = mail.queued()
    wrong = []
    for c, fate in fates.items():
        domain, dane, want, why, said = c
        shown = waiting.get(mids[c], {}).get("last_error") or ""
        if fate != want or (why and why not in shown):
            wrong.append("%s: %s instead of %s: %s" % (domain, fate, want, shown))
        if said and not log.find(r"Info: " + said.format(d=re.escape(domain))):
            wrong.append("%s: the log does not say %s" % (domain, said))
    for line in wrong:
        lab.note(line)
    lab.equal(len(wrong), 0, "of %d" % len(CASES))


@lab.test("the log has the lines in the order in which things happen")
def order():
    setup()
    text = log.text()
    lab.match(text, r"Info: Successfully fetched MTA-STS TXT record for domain\(s1\.sec\.example\)\n(.*\n)*?"
                    r".*Info: Applying MTA-STS policy for the domain \(s1\.sec\.example\)\.\n(.*\n)*?"
                    r".*Info: Enforcing TLS for MTA-STS Policy\n(.*\n)*?"
                    r".*Info: DCID (\d+) TLS success protocol \S+ cipher \S+\n(.*\n)*?"
                    r".*Info: MTA-STS policy for the domain \(s1\.sec\.example\) Successful\.\n(.*\n)*?"
                    r".*Info: Delivery start DCID \4 MID")
    lab.equal(bool(log.find(r"Applying MTA-STS policy for the domain \(p1\.sec\.example\)")), False)


@lab.test("an MTA-STS policy that no host meets raises an alert")
def alerted():
    setup()
    lab.eventually(lambda: any('No MX host of the domain "s3.sec.example" meets its MTA-STS policy.' in a["text"]
                               for a in gateway.json("displayalerts")["data"]["alerts"]), 10, "the alert is shown")


@lab.test("a session of one policy does not carry the mail of another host's, nor of a changed one")
def reuse():
    setup()
    before = S["self"].stats()["messages"]
    lab.equal(mail.outcome(mail.submit("a@t1.sec.example"), ""), TLS) # testing: over a certificate that proves nothing
    with tree.change():
        publish("t1", "self", mode="enforce", id="2")
    time.sleep(tree.ttl + 1)
    # the open connection is younger than the minute after which a policy is looked at again; a new one is not
    mail.configure("destconfig edit default concurrency_limit=499")
    mid = mail.submit("b@t1.sec.example")
    lab.equal(mail.outcome(mid, ""), WAITS)
    lab.match(mail.queued()[mid]["last_error"], "self-signed certificate; the domain's MTA-STS policy is enforced")
    lab.equal(S["self"].stats()["messages"], before + 1)


@lab.test("an exception makes a domain's policy count for nothing")
def excepted():
    setup()
    waiting = mail.submit("x@s2.sec.example")
    lab.equal(mail.outcome(waiting, ""), WAITS)
    mail.configure("tlsexceptions new s2 kind=no-mta-sts target=s2.sec.example reason=broken owner=lab expires=" + lab.day(300))
    lab.equal(mail.outcome(mail.submit("y@s2.sec.example"), ""), TLS)


@lab.test("D21 a host that knows no TLS 1.2 gets nothing under DANE and MTA-STS, even where sslconfig would talk to it")
def old_versions():
    setup()
    with tree.change():
        publish("o1", "old", records=[tlsa(3, 1, 1, S["old"].pair)])
        publish("o2", "old", mode="enforce")
        publish("o3", "old")
    mail.configure("sslconfig outbound_min=tlsv1.1")
    mids = {n: mail.submit("a@%s.sec.example" % n) for n in ("o1", "o2", "o3")}
    fates = {n: mail.outcome(mid, n + ".sec.example") for n, mid in mids.items()}
    lab.equal(fates, {"o1": WAITS, "o2": WAITS, "o3": TLS})
    log.wait_for(r"TLS success protocol TLSv1\.1 cipher ")
    for name, rule in (("o1", "the host publishes usable TLSA records"), ("o2", "the domain's MTA-STS policy is enforced")):
        lab.match(mail.queued()[mids[name]]["last_error"], r"version.*; %s$" % rule)
    mail.configure("sslconfig replace outbound_min=tlsv1.2")


@lab.test("before mail is returned because of a policy, a new policy is looked for")
def last_look():
    setup()
    with tree.change():
        publish("last", "self", mode="enforce")
        publish("late", "self", mode="enforce")
    mail.configure("bounceconfig edit Default initial_retry=8 max_retry=8 max_queue_seconds=4")
    good, bad = mail.submit("a@last.sec.example"), mail.submit("a@late.sec.example")
    lab.equal((mail.outcome(good, ""), mail.outcome(bad, "")), (WAITS, WAITS))
    with tree.change():
        publish("last", "self", mode="none", id="2")
    log.wait_for(r"Message done DCID \d+ MID %d " % good, 20)
    log.wait_for(r"Bounced: DCID \d+ MID %d to RID 0 - 5\.4\.7 - .*self-signed certificate; the domain\\'s MTA-STS policy is "
                 r"enforced" % bad, 20)


lab.main()
