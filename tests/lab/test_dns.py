# Deliveries by the DNS: preferences, aliases, hosts without MX, names that do not exist, servers that fail. The name server
# is the test's own, so that it can fail on command; the sinks listen on port 25 of loopback addresses nobody else has.

import random
import re
import socket
import time

import lab
from nameserver import A, CNAME, MX, NS, PTR, SERVFAIL, NameServer

box = lab.Sandbox()
dns = NameServer()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()


def setup():
    if gateway.child:
        return
    gateway.start()
    gateway.console("listenerconfig edit OutboundMail max_concurrency=1000; "
                    "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=100 send_bounces=no; "
                    "dnsconfig setup source=own; dnsconfig parent set 127.0.0.1@%d; commit dns Y" % dns.port)


def address():
    """An address of this machine whose port 25 is surely free."""
    while True:
        name = "127.%d.%d.%d" % tuple(random.randrange(1, 250) for _ in range(3))
        with socket.socket() as s:
            try:
                s.connect((name, 25))
            except ConnectionRefusedError:
                return name


class Sink25(lab.Sink):
    def __init__(self, *options):
        lab.need_root()
        self.address = address()
        super().__init__("--listen", self.address + ":25", *options)


def submit(rcpt):
    setup()
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.mail("sender@client.example", rcpt)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("dns", 500)))[1])
        c.quit()
    return mid


def finished(mid):
    log.wait_for(r"Message finished MID %d done$" % mid, 20)


def bounced(mid, text):
    log.wait_for(r"Bounced: DCID 0 MID %d to RID 0 - %s" % (mid, text), 20)
    finished(mid)


@lab.test("the lowest preference first; a dead host gives way to the next")
def preferences():
    first, second = Sink25(), Sink25()
    dead = address()
    dns.add("pref.example", MX, "20 b.pref.example", "10 a.pref.example", "5 dead.pref.example", "30 c.pref.example")
    dns.add("dead.pref.example", A, dead)
    dns.add("a.pref.example", A, first.address)
    dns.add("b.pref.example", A, second.address)
    mid = submit("x@pref.example")
    finished(mid)
    lab.equal((first.stats()["messages"], second.stats()["messages"]), (1, 0))
    log.wait_for(r"Connection Error: DCID \d+ domain: pref\.example IP: %s port: 25 " % re.escape(dead))
    log.wait_for(r"New SMTP DCID \d+ interface \S+ address %s port 25$" % re.escape(first.address))


@lab.test("hosts of equal preference share the load")
def equal_preference():
    sinks = [Sink25(), Sink25()]
    setup()
    dns.add("even.example", MX, "10 a.even.example", "10 b.even.example")
    for name, sink in zip("ab", sinks):
        dns.add(name + ".even.example", A, sink.address)
    gateway.console("destconfig new even.example max_messages_per_connection=1 concurrency_limit=1; commit even Y")
    for _ in range(24):
        finished(submit("x@even.example"))
    counts = [s.stats()["messages"] for s in sinks]
    lab.equal(sum(counts), 24)
    lab.equal(min(counts) > 0, True, "both are used: %r" % counts) # by chance 1 in 8 million


@lab.test("a domain without MX is its own host; a host with several addresses has several chances")
def implicit():
    sink = Sink25()
    dns.add("plain.example", A, address(), sink.address, address())
    finished(submit("x@plain.example"))
    lab.equal(sink.stats()["messages"], 1)


@lab.test("aliases are followed: of the domain and of its host")
def aliases():
    sink = Sink25()
    dns.add("alias.example", CNAME, "real.example")
    dns.add("real.example", MX, "10 mx.real.example")
    dns.add("mx.real.example", CNAME, "host.real.example")
    dns.add("host.real.example", A, sink.address)
    finished(submit("x@alias.example"))
    lab.equal(sink.stats()["messages"], 1)


@lab.test("an address literal is an address")
def literal():
    sink = Sink25()
    finished(submit("x@[%s]" % sink.address))
    lab.equal(sink.stats()["messages"], 1)


@lab.test("a null MX bounces at once, without a connection (RFC 7505)")
def null_mx():
    dns.add("null.example", MX, "0 .")
    dns.add("null.example", A, address())
    bounced(submit("x@null.example"), r"5\.1\.10 - Destination accepts no mail \('000', .*null MX")


@lab.test("a name that does not exist bounces at once")
def nxdomain():
    bounced(submit("x@nowhere.example"),
            r"5\.1\.2 - Bad destination host \('000', \['DNS Hard Error looking up nowhere\.example \(MX\):  NXDomain'\]\)")


@lab.test("a name without any address bounces at once")
def no_data():
    dns.add("empty.example", NS, "ns.lab.example")
    bounced(submit("x@empty.example"), r"5\.1\.2 - Bad destination host ")


@lab.test("a failing name server delays; the mail goes when it answers again")
def servfail():
    sink = Sink25()
    dns.broken["fails.example"] = SERVFAIL
    dns.add("fails.example", A, sink.address)
    mid = submit("x@fails.example")
    log.wait_for(r"DNS Temporary Failure fails\.example MX - ServFail$")
    log.wait_for(r"Delayed: DCID 0 MID %d to RID 0 - 4\.4\.3 - " % mid)
    del dns.broken["fails.example"]
    finished(mid)
    lab.equal(sink.stats()["messages"], 1)


@lab.test("a host whose address cannot be had is no reason to bounce")
def broken_host():
    sink = Sink25()
    dns.add("half.example", MX, "10 gone.half.example", "20 fails.half.example")
    dns.broken["fails.half.example"] = SERVFAIL
    mid = submit("x@half.example")
    log.wait_for(r"Delayed: DCID 0 MID %d to RID 0 - 4\.4\.3 - " % mid)
    dns.add("fails.half.example", A, sink.address)
    del dns.broken["fails.half.example"]
    finished(mid)
    lab.equal(sink.stats()["messages"], 1)


@lab.test("we are never our own next host: our preference and what is behind it are dropped")
def loops():
    setup()
    with lab.Smtp(gateway.private) as c:
        hostname = c.greeting.split()[0]
        c.quit()
    better, behind = Sink25(), Sink25()
    dns.add("backup.example", MX, "5 better.backup.example", "10 %s" % hostname, "20 behind.backup.example")
    dns.add("better.backup.example", A, better.address)
    dns.add("behind.backup.example", A, behind.address)
    finished(submit("x@backup.example"))
    lab.equal((better.stats()["messages"], behind.stats()["messages"]), (1, 0))
    dns.add("ours.example", MX, "10 %s" % hostname, "20 behind.backup.example")
    bounced(submit("x@ours.example"), r"5\.4\.6 - Routing loop detected ")
    lab.equal(behind.stats()["messages"], 0)


@lab.test("a route through the DNS: the host of a route has MX records too, unless in brackets")
def routed():
    setup()
    mx, host = Sink25(), Sink25()
    dns.add("relay.example", MX, "10 mx.relay.example")
    dns.add("mx.relay.example", A, mx.address)
    dns.add("relay.example", A, host.address)
    gateway.console("smtproutes new via.example relay.example; smtproutes new direct.example [relay.example]; "
                    "smtproutes new .sub.example relay.example; smtproutes new open.sub.example USEDNS; commit r Y")
    finished(submit("x@via.example"))
    lab.equal((mx.stats()["messages"], host.stats()["messages"]), (1, 0))
    finished(submit("x@direct.example"))
    lab.equal((mx.stats()["messages"], host.stats()["messages"]), (1, 1))
    finished(submit("x@a.sub.example"))
    lab.equal((mx.stats()["messages"], host.stats()["messages"]), (2, 1))
    bounced(submit("x@open.sub.example"), r"5\.1\.2 - ")


@lab.test("a name server that is silent delays, and other domains are not kept waiting")
def silence():
    sink = Sink25()
    dns.silent.add("silent.example")
    dns.add("quick.example", A, sink.address)
    mid = submit("x@silent.example")
    began = time.monotonic()
    finished(submit("x@quick.example"))
    lab.equal(time.monotonic() - began < 5, True)
    lab.eventually(lambda: ("silent.example", MX) in dns.asked, 5, "it is asked")
    dns.silent.clear()
    dns.add("silent.example", A, sink.address)
    finished(mid)


lab.main()
