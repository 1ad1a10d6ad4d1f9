# Real mail through every corner of DANE (RFC 7672, 7671): a signed DNS tree, servers with chosen certificates on port 25 of
# loopback addresses of their own, and what becomes of each message: over TLS that DANE proves, over TLS, in clear, or waiting.

import re
import time

import dnstree
import lab
from mxhosts import CLEAR, PROVEN, TLS, WAITS, Mail, Server, tlsa

lab.need_root() # port 25
box = lab.Sandbox()
tree = dnstree.DnsTree(box, ttl=3)
certs = box.mkdir("certs")
ca = lab.make_cert(certs, "Lab CA", is_ca=True)
other_ca = lab.make_cert(certs, "Another CA", is_ca=True)
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
mail = Mail(gateway)


S = {}     # servers
CASES = [] # (domain, mode, fate, pattern of the reason in the queue, D number)


def case(number, domain, fate, why=None, mode="opportunistic"):
    CASES.append((domain + ("" if domain.endswith(".example") else ".sec.example"), mode, fate, why, number))


def host(name, server, *records, zone="sec.example", port_name=None):
    """A host with an address and TLSA records."""
    name = "%s.%s" % (name, zone)
    tree.a(name, S[server].address)
    if records:
        tree.tlsa("_25._tcp." + name, *records)
    return name


def mx(domain, *hosts, zone="sec.example"):
    tree.mx("%s.%s" % (domain, zone), *("%d %s" % (10 * (i + 1), h) for i, h in enumerate(hosts)))


MISMATCH = r"peer cert does not match the TLSA records of its host; the host publishes usable TLSA records$"
NO_TLS = r"TLS required, STARTTLS unavailable"
FAILED = r"its DNSSEC answers are bogus or missing"
MANDATORY = r"DANE is mandatory and the host does not support it"


def servers():
    S["good"] = Server(box, "good", name="nobody.invalid", sans=["nobody.invalid"])
    S["expired"] = Server(box, "expired", name="nobody.invalid", sans=[], expired=True)
    S["bare"] = Server(box, "bare", "--no-starttls", name="nobody.invalid")
    S["refuses"] = Server(box, "refuses", "--reply", "STARTTLS=454 4.7.0 Not now", name="nobody.invalid")
    S["garbage"] = Server(box, "garbage", "--garbage-tls", name="nobody.invalid")
    S["ta-host"] = Server(box, "ta-host", name="x.invalid", sans=["mx-ta.sec.example", "mx-ta2.sec.example"], ca=ca, chain=ca)
    S["ta-domain"] = Server(box, "ta-domain", name="x.invalid", sans=["d12.sec.example"], ca=ca, chain=ca)
    S["ta-other"] = Server(box, "ta-other", name="x.invalid", sans=["x.invalid"], ca=ca, chain=ca)
    S["ta-expired"] = Server(box, "ta-expired", name="x.invalid", sans=["mx-tae.sec.example"], ca=ca, chain=ca, expired=True)
    S["ta-leaf"] = Server(box, "ta-leaf", name="x.invalid", sans=["mx-leaf.sec.example"], ca=ca) # without the CA's certificate


def zones():
    tree.zone("sec.example")
    tree.zone("plain.example", state="insecure")
    for state in ("bogus", "expired", "forged"):
        tree.zone("z%s.example" % state, state=state)
    good, ee = S["good"].pair, tlsa(3, 1, 1, S["good"].pair)
    wrong = tlsa(3, 1, 1, S["bare"].pair)

    mx("plainly", host("mx-ok", "good", ee))
    case("DANE-EE 3 1 1", "plainly", PROVEN)
    for n, record in enumerate((tlsa(3, 0, 1, good), tlsa(3, 0, 2, good), tlsa(3, 1, 2, good), tlsa(3, 1, 0, good),
                                tlsa(3, 0, 0, good))):
        mx("ee%d" % n, host("mx-ee%d" % n, "good", record))
        case("DANE-EE " + record[:5], "ee%d" % n, PROVEN)
    mx("mismatch", host("mx-wrong", "good", wrong))
    case("D20 no match defers", "mismatch", WAITS, MISMATCH)
    mx("bare", host("mx-bare", "bare", wrong))
    case("usable records and no STARTTLS", "bare", WAITS, NO_TLS)
    mx("refuses", host("mx-refuses", "refuses", tlsa(3, 1, 1, S["refuses"].pair)))
    case("usable records and STARTTLS refused", "refuses", WAITS, "STARTTLS unexpected response")
    mx("garbage", host("mx-garbage", "garbage", tlsa(3, 1, 1, S["garbage"].pair)))
    case("usable records and a broken handshake", "garbage", WAITS, "")
    mx("none", host("mx-none", "bare"))
    case("securely no records: the level", "none", CLEAR)
    case("D19 mandatory defers", "mandatory", WAITS, MANDATORY, mode="mandatory")
    mx("mandatory", host("mx-none2", "good"))

    mx("d1a", host("mx-d1a", "bare", wrong))
    tree.fail("_25._tcp.mx-d1a.sec.example", "servfail")
    case("D1 TLSA SERVFAIL", "d1a", WAITS, FAILED)
    mx("d1b", host("mx-d1b", "bare", wrong))
    tree.forge("_25._tcp.mx-d1b.sec.example", "TLSA")
    case("D1 TLSA bogus", "d1b", WAITS, FAILED)
    mx("d1c", host("mx-d1c", "bare"))
    tree.forge("mx-d1c.sec.example", "A")
    case("D1 address bogus", "d1c", WAITS, "")
    for state in ("bogus", "expired", "forged"):
        tree.mx("z%s.example" % state, "10 mx-none.sec.example")
        case("D1 MX in a zone that is " + state, "z%s.example" % state, WAITS, "")

    mx("d2", host("mx-d2", "bare", zone="plain.example"))
    case("D2 insecure address: TLSA is not asked for", "d2", CLEAR)
    tree.fail("_25._tcp.mx-d2.plain.example", "servfail")
    mx("d3", host("mx-d3", "good", ee))
    tree.fail("mx-d3.sec.example", "servfail", type="AAAA")
    case("D3 one secure family is enough", "d3", PROVEN)

    host("target", "good", zone="plain.example")
    tree.cname("mx-d4.sec.example", "target.plain.example")
    tree.tlsa("_25._tcp.mx-d4.sec.example", ee)
    mx("d4", "mx-d4.sec.example")
    case("D4 secure alias into an unsigned zone: TLSA at the alias", "d4", PROVEN)
    tree.cname("mx-d4b.sec.example", "target.plain.example")
    tree.tlsa("_25._tcp.mx-d4b.sec.example", wrong)
    mx("d4b", "mx-d4b.sec.example")
    case("D4 ... which has to match", "d4b", WAITS, MISMATCH)
    host("target5", "good", ee)
    tree.cname("mx-d5.sec.example", "target5.sec.example")
    tree.tlsa("_25._tcp.mx-d5.sec.example", wrong)
    mx("d5", "mx-d5.sec.example")
    case("D5 TLSA at the expanded name first", "d5", PROVEN)
    host("target5b", "good")
    tree.cname("mx-d5b.sec.example", "target5b.sec.example")
    tree.tlsa("_25._tcp.mx-d5b.sec.example", ee)
    mx("d5b", "mx-d5b.sec.example")
    case("D5 ... then at the original one", "d5b", PROVEN)
    mx("d6", host("mx-d6", "good"))
    tree.tlsa("shared._dane.sec.example", ee)
    tree.cname("_25._tcp.mx-d6.sec.example", "shared._dane.sec.example")
    case("D6 the TLSA name is an alias", "d6", PROVEN)

    mx("d7", host("mx-d7", "good", tlsa(0, 0, 1, good), tlsa(1, 0, 1, good)))
    case("D7, D9 usages 0 and 1 only: TLS without proof", "d7", TLS)
    mx("d9", host("mx-d9", "bare", tlsa(1, 0, 1, S["bare"].pair)))
    case("D9 ... never in clear", "d9", WAITS, NO_TLS + ".*; the host publishes only unusable TLSA records")
    case("D9 ... mandatory", "d9m", WAITS, MANDATORY, mode="mandatory")
    mx("d9m", host("mx-d9m", "good", tlsa(1, 0, 1, good)))
    broken = ["3 2 1 " + "ab" * 32, "3 1 3 " + "ab" * 32, "3 1 1 " + "ab" * 31, "2 0 0 " + "ab" * 40]
    for n, record in enumerate(broken):
        mx("d8%d" % n, host("mx-d8%d" % n, "good", record))
        case("D8 unusable: " + record[:9], "d8%d" % n, TLS)
    mx("d8x", host("mx-d8x", "good", *broken, ee))
    case("D8 ... beside one that is usable", "d8x", PROVEN)
    mx("d10", host("mx-d10", "expired", tlsa(3, 1, 1, S["expired"].pair)))
    case("D10 DANE-EE: no dates, no names", "d10", PROVEN)

    for n, (usage, selector, matching) in enumerate(((2, 0, 1), (2, 1, 1), (2, 0, 0), (2, 1, 2))):
        name = "mx-ta" if n == 0 else "mx-ta2" if n == 1 else None
        if name:
            mx("d11%d" % n, host(name, "ta-host", tlsa(usage, selector, matching, ca)))
            case("D11 DANE-TA %d %d %d" % (usage, selector, matching), "d11%d" % n, PROVEN)
    mx("d11x", host("mx-d11x", "ta-host", tlsa(2, 0, 1, ca)))
    case("D11 DANE-TA: names are looked at", "d11x", WAITS, "hostname mismatch")
    mx("d11y", host("mx-ta3", "ta-host", tlsa(2, 0, 1, other_ca)))
    case("D11 DANE-TA: another authority", "d11y", WAITS, "")
    mx("d11z", host("mx-tae", "ta-expired", tlsa(2, 0, 1, ca)))
    case("D11 DANE-TA: dates are looked at", "d11z", WAITS, "certificate has expired")
    mx("d12", host("mx-d12", "ta-domain", tlsa(2, 0, 1, ca)))
    case("D12 DANE-TA: the domain itself is a reference name", "d12", PROVEN)
    mx("d12x", host("mx-d12x", "ta-domain", tlsa(2, 0, 1, ca)))
    case("D12 ... of this domain only", "d12x", WAITS, "hostname mismatch")
    tree.cname("d12y.sec.example", "d12.sec.example")
    case("D12 ... and the domain it is an alias of", "d12y", PROVEN)
    mx("d13", host("mx-leaf", "ta-leaf", tlsa(2, 1, 0, ca)))
    case("D13 bare key of an authority, not in the chain", "d13", PROVEN)
    mx("d14a", host("mx-d14a", "good", ee, tlsa(3, 1, 2, S["bare"].pair)))
    case("D14 the weaker digest does not count", "d14a", WAITS, MISMATCH)
    mx("d14b", host("mx-d14b", "good", wrong, tlsa(3, 1, 2, good)))
    case("D14 the stronger one does", "d14b", PROVEN)

    tree.mx("d15.plain.example", "10 mx-wrong.sec.example")
    case("D15 insecure MX above a host that does not match: the level", "d15.plain.example", TLS)
    tree.mx("d15m.plain.example", "10 mx-ok.sec.example")
    case("D15 ... mandatory: not even to one that does", "d15m.plain.example", WAITS, MANDATORY, mode="mandatory")
    mx("d18a", "mx-wrong.sec.example", "mx-ok.sec.example")
    case("D18 the next MX", "d18a", PROVEN)
    mx("d18b", "mx-none.sec.example", "mx-ok.sec.example")
    case("D18 preference wins over security", "d18b", CLEAR)
    mx("d18c", "mx-d1a.sec.example", "mx-bare.sec.example", "mx-ok.sec.example")
    case("D18 an error skips the host only", "d18c", PROVEN)
    host("implicit", "good", ee)
    case("no MX: the domain itself is the host", "implicit", PROVEN)
    host("implicit2", "good", wrong)
    case("... and has to match", "implicit2", WAITS, MISMATCH)


def setup():
    if gateway.child:
        return
    servers()
    zones()
    tree.attach(gateway)
    statements = ["bounceconfig edit Default initial_retry=3600 max_retry=7200",
                  "destconfig edit default use_tls=on dane=opportunistic"]
    for domain, mode, *_ in CASES:
        if mode != "opportunistic":
            statements.append("destconfig new %s use_tls=on dane=%s" % (domain, mode))
    gateway.configure("\n".join(statements) + "\n")


@lab.test("every corner: proven, encrypted, in clear or waiting")
def corners():
    setup()
    mids = {c: mail.submit("rcpt@" + c[0]) for c in CASES}
    corners.mids = {c[0]: mid for c, mid in mids.items()}
    wrong = []
    fates = {c: mail.outcome(mid, c[0]) for c, mid in mids.items()}
    waiting = mail.queued()
    for c, fate in fates.items():
        shown = waiting.get(mids[c], {}).get("last_error") or ""
        if fate != c[2] or (c[3] and not re.search(c[3], shown)):
            wrong.append("%s (%s): %s instead of %s: %s" % (c[4], c[0], fate, c[2], shown))
    for line in wrong:
        lab.note(line)
    lab.equal(len(wrong), 0, "of %d" % len(CASES))


@lab.test("TLSA is never asked for below an insecure address")
def not_asked():
    setup()
    asked = [name for name, kind in tree.asked if "_25._tcp.mx-d2.plain" in name]
    lab.equal(asked, [])


@lab.test("what waits says 4.7.5, the host and the rule; nothing of it went over the wire")
def said():
    setup()
    mid = corners.mids["mismatch.sec.example"]
    log.wait_for(r"Delayed: DCID 0 MID %d to RID 0 - 4\.7\.5 - Cryptographic failure \('000', \['mx-wrong\.sec\.example: "
                 r"peer cert does not match the TLSA records of its host; the host publishes usable TLSA records'\]\)" % mid)
    log.wait_for(r"DCID \d+ TLS deferring: verify error: peer cert does not match the TLSA records of its host$")
    log.wait_for(r"TLS policy dane-failed keeps mail for d1a\.sec\.example from mx-d1a\.sec\.example: its DNSSEC answers are "
                 r"bogus or missing: ")
    lab.equal(S["bare"].stats()["messages_tls"], 0)
    log.wait_for(r"DCID \d+ TLS success protocol TLSv1\.3 cipher \S+ for plainly\.sec\.example$")


@lab.test("DANE that fails on all hosts of a domain raises an alert")
def alerted():
    setup()
    def texts():
        return " ".join(a["text"] for a in gateway.json("displayalerts")["data"]["alerts"])

    for domain in ("mismatch", "d1a", "d12x", "mandatory"):
        lab.eventually(lambda: 'DANE verification failed for all MX hosts of the domain "%s.sec.example".' % domain
                       in texts(), 10, domain)
    lab.equal([d for d in ("plainly", "d18a", "none") if '"%s.sec.example"' % d in texts()], [])


@lab.test("mail that is accepted rather than relayed is not subject to DANE")
def accepted():
    setup()
    mail.configure("listenerconfig rcptaccess new InboundMail/mismatch.sec.example")
    lab.equal(mail.outcome(mail.submit("in@mismatch.sec.example", gateway.public), "mismatch.sec.example"), TLS)


@lab.test("a route that leads elsewhere leaves DANE out; USEDNS does not")
def routes():
    setup()
    mail.configure("smtproutes new mismatch.sec.example %s" % S["good"].address, "smtproutes new plainly.sec.example USEDNS",
              "smtproutes new mandatory.sec.example %s" % S["good"].address)
    lab.equal(mail.outcome(mail.submit("a@mismatch.sec.example"), "mismatch.sec.example"), TLS)
    lab.equal(mail.outcome(mail.submit("a@plainly.sec.example"), "plainly.sec.example"), PROVEN)
    mid = mail.submit("a@mandatory.sec.example")
    lab.equal(mail.outcome(mid, ""), WAITS)
    lab.match(mail.queued()[mid]["last_error"], MANDATORY)
    mail.configure("smtproutes delete mismatch.sec.example", "smtproutes delete plainly.sec.example",
              "smtproutes delete mandatory.sec.example")


@lab.test("an open connection outlives the answers it was opened by as long as they stay the same, and no longer")
def outlives():
    setup()
    with tree.change():
        mx("keep", host("mx-keep", "good", tlsa(3, 1, 1, S["good"].pair)))

    def dcid():
        mid = mail.submit("a@keep.sec.example")
        return log.wait_for(r"Message done DCID (\d+) MID %d " % mid)[1]

    used = [dcid()]
    for _ in range(2): # the evidence lasts five seconds, the answers three
        time.sleep(3.5)
        used.append(dcid())
    lab.equal(len(set(used)), 1, "one connection")
    tree.tlsa("_25._tcp.mx-keep.sec.example", tlsa(3, 1, 1, S["bare"].pair))
    time.sleep(3.5)
    mail.submit("b@keep.sec.example") # keeps the connection open, if it is still trusted
    time.sleep(3.5)
    mid = mail.submit("c@keep.sec.example")
    lab.equal(mail.outcome(mid, ""), WAITS)
    lab.match(mail.queued()[mid]["last_error"], MISMATCH)


@lab.test("D23 a host is excepted for a while, and only for that")
def excepted():
    setup()
    exception = "tlsexceptions new broken kind=no-dane target=mx-d14a.sec.example reason=rollover owner=lab expires="
    waiting = corners.mids["d14a.sec.example"]
    mail.configure(exception + lab.day(300))
    gateway.console("delivernow all")
    log.wait_for(r"Message done DCID \d+ MID %d " % waiting)
    lab.equal(mail.outcome(mail.submit("a@d14a.sec.example"), "d14a.sec.example"), TLS)
    lab.equal(mail.outcome(mail.submit("a@d8x.sec.example"), "d8x.sec.example"), PROVEN)
    mail.configure("tlsexceptions delete broken")
    lab.equal(mail.outcome(mail.submit("b@d14a.sec.example"), "d14a.sec.example"), WAITS)


@lab.test("1,000 MX records cost bounded time, and the first ones are tried")
def thousand():
    setup()
    with tree.change():
        tree.set("many.plain.example", "MX", *("%d h%d.plain.example." % (i, i) for i in range(1000)))
        for i in range(1000):
            tree.set("h%d.plain.example" % i, "A", S["good"].address if i == 5 else "127.%d.0.%d" % (130 + i // 250, i % 250 + 1))
    asked = len(tree.asked)
    began = time.monotonic()
    mid = mail.submit("a@many.plain.example")
    lab.equal(mail.outcome(mid, ""), TLS)
    lab.equal(time.monotonic() - began < 10, True, "in time")
    names = {name for name, kind in tree.asked[asked:] if re.match(r"h\d+\.plain", name)}
    lab.equal(len(names) <= 64, True, "%d hosts were looked up" % len(names))


@lab.test("another TLSA record ends open connections and TLS sessions that were proven by the old one")
def rollover():
    setup()
    good = S["good"].pair
    tree.set("mx-roll.sec.example", "A", S["good"].address)
    tree.set("_25._tcp.mx-roll.sec.example", "TLSA", tlsa(3, 1, 1, good))
    tree.set("roll.sec.example", "MX", "10 mx-roll.sec.example.")
    lab.equal(mail.outcome(mail.submit("a@roll.sec.example"), "roll.sec.example"), PROVEN)
    before = S["good"].stats()
    lab.equal(mail.outcome(mail.submit("b@roll.sec.example"), "roll.sec.example"), PROVEN)
    lab.equal(S["good"].stats()["connections"], before["connections"], "the open connection is used")
    tree.set("_25._tcp.mx-roll.sec.example", "TLSA", tlsa(3, 1, 1, S["bare"].pair))
    time.sleep(tree.ttl + 1)
    mail.configure("destconfig edit default concurrency_limit=499") # opens the connections anew, with what the DNS says now
    mid = mail.submit("c@roll.sec.example")
    lab.equal(mail.outcome(mid, ""), WAITS, "no resumed session stands in for a certificate that does not match")
    lab.match(mail.queued()[mid]["last_error"], MISMATCH)


lab.main()
