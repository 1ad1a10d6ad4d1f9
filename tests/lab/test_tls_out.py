# Deliveries under each of the six TLS settings, to servers with every kind of certificate and every kind of trouble: what
# becomes of the mail, what the log says word for word, and that no session ever carries mail that needed a better one.

import os
import re

import lab
import dnstree

box = lab.Sandbox()
tree = dnstree.DnsTree(box)
certs = box.mkdir("certs")
ca = lab.make_cert(certs, "Lab CA", is_ca=True)
other_ca = lab.make_cert(certs, "Another CA", is_ca=True)
gateway = lab.Posternd(box.path("home"), start=False, env={"SSL_CERT_FILE": ca.cert})
log = gateway.maillog()
sender = "sender@client.lab.example"

LEVELS = {1: "off", 2: "on", 3: "require", 4: "on_verify", 5: "require_verify", 6: "require_hosted_verify"}
CLEAR, TLS, WAITS = "clear", "tls", "waits"
MISMATCH = r"peer cert does not match domain {domain}"
NO_TLS = "TLS required, STARTTLS unavailable, destination is TLS disabled"


class Server:
    """A sink behind a name, and one destination for each level."""

    def __init__(self, name, outcome, why=None, cert=None, options=()):
        self.name, self.outcome, self.why = name, outcome, why
        self.host = "mx.%s.example" % name
        if cert is not None:
            pair = lab.make_cert(certs, stem=name, **cert)
            options = ("--cert", pair.cert, "--key", pair.key, *options)
        self.sink = lab.Sink(*options)

    def domain(self, level):
        return "l%d.%s.example" % (level, self.name)


def domains(name):
    return ["l%d.%s.example" % (level, name) for level in LEVELS]


# What levels 1 to 6 make of each; why: the reason in the log when the certificate is to blame.
SERVERS = [
    Server("domain", [CLEAR, TLS, TLS, TLS, TLS, TLS], cert=dict(name="x.example", sans=domains("domain"), ca=ca)),
    Server("wildcard", [CLEAR, TLS, TLS, TLS, TLS, TLS],
           cert=dict(name="x.example", sans=["*.wildcard.example"], ca=ca)),
    Server("deepwild", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], MISMATCH, # one label, not two
           cert=dict(name="x.example", sans=["*.example"], ca=ca)),
    Server("partwild", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], MISMATCH, # the whole label
           cert=dict(name="x.example", sans=["l*.partwild.example"], ca=ca)),
    Server("cnhost", [CLEAR, TLS, TLS, TLS, TLS, TLS], cert=dict(name="mx.cnhost.example", ca=ca)),
    Server("sanhost", [CLEAR, TLS, TLS, TLS, WAITS, TLS], MISMATCH, # a host of somebody else's: level 6 is for that
           cert=dict(name="x.example", sans=["mx.sanhost.example"], ca=ca)),
    Server("cnonly", [CLEAR, TLS, TLS, TLS, TLS, TLS], cert=dict(name="*.cnonly.example", sans=[], ca=ca)),
    Server("cnbutsan", [CLEAR, TLS, TLS, TLS, TLS, WAITS], MISMATCH, # DNS names there: the common name is nothing
           cert=dict(name="*.cnbutsan.example", sans=["x.example"], ca=ca)),
    Server("wrong", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], MISMATCH, cert=dict(name="x.example", ca=ca)),
    Server("expired", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], "certificate has expired",
           cert=dict(name="x.example", sans=domains("expired"), ca=ca, expired=True)),
    Server("self", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], "self-signed certificate",
           cert=dict(name="x.example", sans=domains("self"))),
    Server("unknown", [CLEAR, TLS, TLS, TLS, WAITS, WAITS], "unable to get local issuer certificate",
           cert=dict(name="x.example", sans=domains("unknown"), ca=other_ca)),
    Server("none", [CLEAR, CLEAR, WAITS, CLEAR, WAITS, WAITS], options=["--no-starttls"]),
    Server("noesmtp", [CLEAR, CLEAR, WAITS, CLEAR, WAITS, WAITS], options=["--no-esmtp"]),
    Server("refuses", [CLEAR, CLEAR, WAITS, CLEAR, WAITS, WAITS], options=["--reply", "STARTTLS=454 4.7.0 Not now"]),
    Server("breaks", [CLEAR, WAITS, WAITS, WAITS, WAITS, WAITS], options=["--garbage-tls"]),
]


def configure(*statements):
    gateway.console("; ".join(statements) + '; commit "test" Y')


def submit(rcpt, ident="t", port=None):
    with lab.Smtp(port or gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s>" % sender, 250)
        c.cmd("RCPT TO:<%s>" % rcpt, 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message(ident, 500)))[1])
        c.quit()
    return mid


def setup():
    if gateway.child:
        return
    for s in SERVERS:
        tree.a(s.host, "127.0.0.1")
    tree.a("mx.reuse.example", "127.0.0.1")
    tree.attach(gateway)
    statements = ["bounceconfig edit Default initial_retry=3600 max_retry=7200"]
    for s in SERVERS:
        for level in LEVELS:
            statements.append("smtproutes new %s [%s]:%d" % (s.domain(level), s.host, s.sink.port))
            statements.append("destconfig new %s use_tls=%s" % (s.domain(level), LEVELS[level]))
    gateway.configure("\n".join(statements) + "\n")


def outcome(mid):
    """-> (fate, DCID, lines about that DCID or about the message)"""
    def decided():
        return (log.find(r"Message done DCID \d+ MID %d " % mid) or log.find(r"Delayed: DCID \d+ MID %d " % mid)
                or log.find(r"Bounced: DCID \d+ MID %d " % mid))

    line = lab.eventually(decided, 20, "MID %d is decided" % mid)[0]
    dcid = int(re.search(r"DCID (\d+)", line if isinstance(line, str) else line[0])[1])
    if log.find(r"Message done DCID %d MID %d " % (dcid, mid)):
        return (TLS if log.find(r"DCID %d TLS success" % dcid) else CLEAR), dcid
    return WAITS, dcid


def text_of(mid):
    for r in gateway.json("showrecipients all")["data"]["recipients"]:
        if r["mid"] == mid:
            return r["last_error"]
    raise lab.Failure("MID %d is not in the queue" % mid)


@lab.test("each level, against every kind of server: clear, encrypted or waiting")
def levels():
    setup()
    mids = {(s, level): submit("rcpt@" + s.domain(level)) for s in SERVERS for level in LEVELS}
    wrong = []
    for (s, level), mid in mids.items():
        fate, _ = outcome(mid)
        if fate != s.outcome[level - 1]:
            wrong.append("%s, level %d: %s instead of %s" % (s.name, level, fate, s.outcome[level - 1]))
    lab.equal(wrong, [])
    levels.mids = mids


def first(name, level):
    return next(m for (s, l), m in levels.mids.items() if s.name == name and l == level)


def connection_of(domain):
    """The DCIDs that were opened for a domain, by what the log says about it."""
    return [int(m) for m in re.findall(r"DCID (\d+) .*%s" % re.escape(domain), log.text())]


@lab.test("a required TLS that fails is logged word for word, and the queue says which host and which rule")
def words():
    setup()
    text = log.text()
    for s in SERVERS:
        for level in LEVELS:
            if s.outcome[level - 1] != WAITS:
                continue
            shown = text_of(first(s.name, level))
            lab.match(shown, r"^mx\.%s\.example: .*; the destination's TLS setting is \w" % s.name)
            if s.why and level >= 5:
                why = s.why.format(domain=s.domain(level))
                lab.match(shown, r": %s; " % re.escape(why))
                lab.match(text, r"Info: DCID (\d+) TLS deferring: verify error: %s\n(.*\n)*?.*Info: DCID \1 TLS was required "
                                r"but could not be successfully negotiated\n" % re.escape(why))
    for name in ("none", "noesmtp"):
        lab.match(text_of(first(name, 3)), r"^mx\.%s\.example: %s; the destination's TLS setting is Required$" % (name, NO_TLS))
    found = re.findall(r"Info: DCID (\d+) STARTTLS command not supported\n", text) # several at a time: their lines mix
    for dcid in found:
        lab.match(text, (r"DCID {0} STARTTLS command not supported\n(?:.*\n)*?.*Info: DCID {0} TLS failed: %s\n"
                         r"(?:.*\n)*?.*Info: DCID {0} TLS was required but could not be successfully negotiated\n"
                         r"(?:.*\n)*?.*Info: DCID {0} close" % re.escape(NO_TLS)).format(dcid))
    lab.equal(len(found), 6, "three levels, two servers")
    lab.match(text, r"Info: DCID (\d+) TLS failed: STARTTLS unexpected response\n(.*\n)*?.*DCID \1 TLS was required but")
    lab.match(text, r"Info: Delayed: DCID 0 MID %d to RID 0 - 4\.7\.5 - Cryptographic failure \('000', \['mx\.none\.example: "
                    % first("none", 3))


@lab.test("Preferred - Verify says what it found and delivers all the same")
def preferred_verify():
    setup()
    text = log.text()
    for name, why in (("self", "self-signed certificate"), ("expired", "certificate has expired"),
                      ("wrong", "peer cert does not match domain l4.wrong.example")):
        lab.match(text, r"Info: DCID (\d+) TLS verify error: %s\n(.*\n)*?.*Info: Delivery start DCID \1 MID %d "
                  % (re.escape(why), first(name, 4)))
    lab.match(text, r"Info: DCID (\d+) TLS verify success: peer cert matches l4\.domain\.example\n(.*\n)*?"
                    r".*Info: Delivery start DCID \1 MID %d " % first("domain", 4))


@lab.test("a level raised between two messages is obeyed by the next one, and lowered as well")
def level_changes():
    setup()
    pair = lab.make_cert(certs, "x.example", stem="reuse", ca=ca)
    sink = lab.Sink("--cert", pair.cert, "--key", pair.key)
    configure("smtproutes new reuse.example [mx.reuse.example]:%d" % sink.port,
              "destconfig new reuse.example use_tls=on")
    lab.equal(outcome(submit("a@reuse.example"))[0], TLS)
    configure("destconfig edit reuse.example use_tls=require_verify")
    waiting = submit("b@reuse.example")
    lab.equal(outcome(waiting)[0], WAITS)
    lab.equal(sink.stats()["messages"], 1)
    configure("destconfig edit reuse.example use_tls=off")
    gateway.console("delivernow all")
    lab.eventually(lambda: log.find(r"Message done DCID \d+ MID %d " % waiting), 10, "it goes")
    lab.equal(sink.stats()["messages"], 2)


@lab.test("no connection and no TLS session of a weaker destination serves a stronger one")
def never_crosses():
    setup()
    pair = lab.make_cert(certs, "x.example", stem="cross", sans=["good.cross.example", "mx.cross.example"], ca=ca)
    sink = lab.Sink("--cert", pair.cert, "--key", pair.key)
    tree.set("mx.cross.example", "A", "127.0.0.1")
    configure(*["smtproutes new %s.cross.example [mx.cross.example]:%d" % (d, sink.port)
                for d in ("weak", "good", "bad", "hosted")],
              "destconfig new weak.cross.example use_tls=on", "destconfig new good.cross.example use_tls=require_verify",
              "destconfig new bad.cross.example use_tls=require_verify",
              "destconfig new hosted.cross.example use_tls=require_hosted_verify")
    fate, weak = outcome(submit("a@weak.cross.example"))
    lab.equal(fate, TLS)
    fate, good = outcome(submit("a@good.cross.example")) # while the first connection waits for work
    lab.equal((fate, good != weak), (TLS, True))
    lab.equal(outcome(submit("a@bad.cross.example"))[0], WAITS)
    fate, hosted = outcome(submit("a@hosted.cross.example"))
    lab.equal((fate, hosted in (weak, good)), (TLS, False))
    stats = sink.stats()
    lab.equal((stats["messages"], stats["tls_resumed"]), (3, 0))
    # what is weaker may use what is stronger: any of the open sessions
    fate, again = outcome(submit("b@weak.cross.example"))
    lab.equal((fate, again in (weak, good, hosted)), (TLS, True))
    # once they are closed: TLS sessions are resumed, each destination its own
    configure("destconfig edit weak.cross.example max_messages_per_connection=7")
    for d in ("weak", "good", "hosted"):
        log.wait_for(r"DCID %d close" % {"weak": weak, "good": good, "hosted": hosted}[d])
        before = sink.stats()
        lab.equal(outcome(submit("c@%s.cross.example" % d))[0], TLS)
        configure("destconfig edit weak.cross.example max_messages_per_connection=%d" % (8 + len(d)))
        after = sink.stats()
        if after["connections"] > before["connections"]:
            lab.equal((d, after["tls_resumed"] - before["tls_resumed"]), (d, 1))
    lab.equal(outcome(submit("c@bad.cross.example"))[0], WAITS)


@lab.test("another client certificate ends what was opened with the first")
def client_certificate():
    setup()
    sink = lab.Sink("--ask-cert", store=box.path("clientcert"))
    configure("smtproutes new client.example [mx.reuse.example]:%d" % sink.port,
              "destconfig new client.example use_tls=require")
    fate, one = outcome(submit("a@client.example"))
    log.wait_for(r"DCID %d close" % one)
    fate, two = outcome(submit("b@client.example"))
    configure("certconfig certificate new second common_name=second.lab.example", "destconfig setup certificate=second")
    log.wait_for(r"DCID %d close" % two)
    fate, three = outcome(submit("c@client.example"))
    stats = sink.stats()
    lab.equal((fate, three != two), (TLS, True))
    lab.equal((stats["tls_new"], stats["tls_resumed"], stats["client_certs"]), (2, 1, 3))


@lab.test("a host whose handshake broke gets clear text for an hour, where the administrator wants that")
def failure_memory():
    setup()
    sink = lab.Sink("--garbage-tls")
    configure("destconfig setup tls_failure_memory=yes", "destconfig new memory.example use_tls=on",
              "destconfig new strict.memory.example use_tls=require",
              "smtproutes new memory.example [mx.reuse.example]:%d" % sink.port,
              "smtproutes new strict.memory.example [mx.reuse.example]:%d" % sink.port)
    first_one = submit("a@memory.example")
    lab.equal(outcome(first_one)[0], WAITS)
    gateway.console("delivernow all")
    done = log.wait_for(r"Message done DCID (\d+) MID %d " % first_one)
    lab.equal(log.find(r"DCID %s TLS " % done[1]), [])
    lab.equal(outcome(submit("a@strict.memory.example"))[0], WAITS)
    listed = gateway.json("tlsfailures list")["data"]["hosts"]
    lab.equal([h["host"] for h in listed if "reuse" in h["host"]], ["mx.reuse.example [127.0.0.1]:%d" % sink.port])
    gateway.console("tlsfailures clear mx.reuse.example")
    listed = gateway.json("tlsfailures list")["data"]["hosts"]
    lab.equal([h["host"] for h in listed if "reuse" in h["host"]], [])
    configure("destconfig setup tls_failure_memory=no")


@lab.test("exceptions: hosts that never get STARTTLS, and hosts that always must")
def exceptions():
    setup()
    sink, bare = lab.Sink(), lab.Sink("--no-starttls")
    configure("smtproutes new exempt.example [mx.reuse.example]:%d" % sink.port,
              "smtproutes new strict.exempt.example [mx.reuse.example]:%d" % sink.port,
              "smtproutes new listed.example [mx.reuse.example]:%d" % bare.port,
              "destconfig new exempt.example use_tls=on", "destconfig new strict.exempt.example use_tls=require",
              "destconfig new listed.example use_tls=on",
              "tlsexceptions new one kind=no-tls target=exempt.example reason=broken owner=lab expires=" + lab.day(300),
              "tlsexceptions new two kind=no-tls target=strict.exempt.example reason=broken owner=lab expires=" + lab.day(300),
              "tlsexceptions new three kind=require-tls target=listed.example reason=law owner=lab expires=" + lab.day(300))
    lab.equal(outcome(submit("a@exempt.example"))[0], CLEAR)
    strict = submit("a@strict.exempt.example")
    lab.equal(outcome(strict)[0], WAITS)
    lab.match(text_of(strict), r"^mx\.reuse\.example: it is on the STARTTLS exemption list$")
    listed = submit("a@listed.example")
    lab.equal(outcome(listed)[0], WAITS)
    lab.match(text_of(listed), r"; it is on the STARTTLS required list$")
    lab.match(log.text(), r"Info: TLS policy exempt keeps mail for strict\.exempt\.example from mx\.reuse\.example: ")


@lab.test("preferred_fallback: before and after the 220 reply are two questions, and only Preferred asks them")
def fallback():
    setup()
    sinks = {"refused": lab.Sink("--reply", "STARTTLS=454 4.7.0 Not now"), "broken": lab.Sink("--garbage-tls")}
    for value, refused, broken in (("after-220", WAITS, CLEAR), ("both", CLEAR, CLEAR), ("never", WAITS, WAITS),
                                   ("before-220", CLEAR, WAITS)):
        wanted, mids = {}, {}
        statements = ["destconfig setup preferred_fallback=" + value]
        for how, fate in (("refused", refused), ("broken", broken)):
            for level in ("on", "require"):
                domain = "%s.%s.%s.fallback.example" % (level, how, value)
                wanted[domain] = fate if level == "on" else WAITS
                statements += ["destconfig set %s use_tls=%s" % (domain, level),
                               "smtproutes new %s [mx.reuse.example]:%d" % (domain, sinks[how].port)]
        configure(*statements)
        before = sinks["broken"].stats()["connections"]
        mids = {d: submit("a@" + d) for d in wanted}
        lab.equal({d: outcome(m)[0] for d, m in mids.items()}, wanted)
        if broken == CLEAR: # what may have been tampered with is not gone on with
            lab.equal(sinks["broken"].stats()["connections"] - before, 3, "two for the one that goes, one for the other")
    configure("destconfig setup preferred_fallback=before-220")


lab.main()
