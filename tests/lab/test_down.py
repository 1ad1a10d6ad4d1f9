# Hosts that are dead, slow or full, and what the mail for others notices of it: nothing. Destinations and MX hosts that are
# down and come back, slow start, shares of the sessions, the race of addresses, and many destinations at once.

import os
import random
import re
import resource
import socket
import threading
import time

import lab
from nameserver import A, AAAA, MX, SERVFAIL, NameServer

box = lab.Sandbox()
dns = NameServer()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()
sender = "sender@client.lab.example"


def setup():
    if gateway.child:
        return
    lab.need_root() # port 25 of loopback addresses
    gateway.start()
    configure("listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=100000",
              "bounceconfig edit Default initial_retry=1 max_retry=2 max_retries=1000 send_bounces=no",
              "dnsconfig setup source=own", "dnsconfig parent set 127.0.0.1@%d" % dns.port,
              "smtproutes new client.lab.example /dev/null")


def configure(*statements):
    gateway.console("; ".join(statements) + '; commit "test" Y')


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
    def __init__(self, *options, at=None):
        self.address = at or address()
        super().__init__("--listen", self.address + ":25", *options)


class Hole:
    """Port 25 of an address that answers no connection: the queue of a socket that nobody accepts from is full."""

    def __init__(self, at=None):
        family = socket.AF_INET6 if at else socket.AF_INET
        self.address = at or address()
        self.sock = socket.socket(family)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.sock.bind((self.address, 25))
        except OSError as e:
            raise lab.Skip("port 25 of %s: %s" % (self.address, e))
        self.sock.listen(0)
        self.clients = []
        for _ in range(3):
            c = socket.socket(family)
            c.settimeout(0.3)
            self.clients.append(c)
            try:
                c.connect((self.address, 25))
            except OSError:
                return
        raise lab.Skip("this kernel answers although the queue is full")

    def close(self):
        for s in self.clients + [self.sock]:
            s.close()


class Rude(threading.Thread):
    """Takes connections and closes them without a word; counts them."""

    def __init__(self, at=None):
        super().__init__(daemon=True)
        self.address = at or address()
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((self.address, 25))
        self.sock.listen(128)
        self.count = 0
        self.start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.count += 1
            c.close()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.join()


def host(domain, *addresses):
    """A domain with one MX host at these addresses."""
    setup()
    dns.add(domain, MX, "10 mx." + domain)
    dns.add("mx." + domain, A, *[a for a in addresses if ":" not in a])
    dns.add("mx." + domain, AAAA, *[a for a in addresses if ":" in a])


def submit(*rcpts, count=1):
    """MIDs of so many messages to these recipients."""
    mids = []
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for _ in range(count):
            c.mail(sender, list(rcpts))
            mids.append(int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("down", 500)))[1]))
        c.quit()
    return mids


def finished(mid, timeout=20):
    log.wait_for(r"Message finished MID %d done$" % mid, timeout)


def status(domain):
    return gateway.json("hoststatus " + domain)["data"]


@lab.test("a destination that refuses is down: one probe at a time, its mail waits untouched, and goes when it is back")
def down_and_up():
    rude = Rude()
    host("rude.example", rude.address)
    mids = submit("x@rude.example", count=40)
    log.wait_for(r"Warning: Destination rude\.example is down \(.*\); its mail waits, next probe in 1 seconds$")
    lab.eventually(lambda: rude.count >= 3, 15, "it is probed")
    lab.equal(rude.count < 15, True, "%d connections for 40 messages" % rude.count)
    d = status("rude.example")
    lab.equal((d["reach"], d["sessions_allowed"], d["gauges"]["active_recips"]), ("down", 1, 40))
    lab.equal(d["gauges"]["unattempted_recips"] > 20, True, d)
    lab.equal(abs(d["down_since"] - time.time()) < 15 and d["next_probe"] >= d["down_since"], True, d)
    lab.match(d["down_error"], r"closed|reset|lost")
    text = gateway.console("hoststatus rude.example").stdout
    lab.match(text, r"\nHost up/down:         down\n")
    lab.match(text, r"\nDown Since            \w{3} .*\nLast Error            .+\nNext Connection ")
    lab.equal(len(log.find(r"Destination rude\.example is down")), 1)
    address, before = rude.address, len(log.find(r"Delayed: DCID \d+ MID "))
    lab.equal(before < 25, True, "%d lines of delay for what was not tried" % before)
    rude.close()
    sink = Sink25(at=address)
    for mid in mids:
        finished(mid)
    lab.equal(sink.stats()["messages"], 40)
    log.wait_for(r"Info: Destination rude\.example is up again, after \d+ seconds$")
    lab.equal(status("rude.example")["reach"], "up")


@lab.test("a dead MX host that many domains share costs a few connections, not one for each; delivernow probes it at once")
def shared():
    setup()
    rude = Rude()
    dns.add("mx.shared.example", A, rude.address)
    for n in range(60):
        dns.add("s%d.example" % n, MX, "10 mx.shared.example")
    configure("bounceconfig edit Default initial_retry=3 max_retry=600")
    mids = [submit("x@s%d.example" % n)[0] for n in range(60)]
    log.wait_for(r"Warning: MX host %s:25 is down \(" % re.escape(rude.address))
    time.sleep(1)
    first = rude.count
    lab.equal(first <= 12, True, "%d connections for 60 domains" % first)
    tried = [mid for mid in mids if log.find(r"Delayed: DCID \d+ MID %d " % mid)]
    lab.equal(len(tried) <= 12, True, "%d messages count as tried" % len(tried))
    a = status("s59.example")["addresses"][0]
    lab.equal((a["ip"], a["state"]), (rude.address, "down"))
    lab.match(gateway.console("hoststatus s59.example").stdout, r"    %s is down since .*,\n    probed next at " % rude.address)
    lab.eventually(lambda: rude.count > first, 10, "it is probed")
    time.sleep(0.5)
    lab.equal(rude.count - first <= 2, True, "%d connections to probe" % (rude.count - first))
    lab.equal(len(log.find(r"MX host %s:25 is down" % re.escape(rude.address))), 1)
    rude.close()
    sink = Sink25(at=rude.address)
    time.sleep(0.2)
    gateway.console("delivernow all")
    for mid in mids:
        finished(mid, 15)
    stats = sink.stats()
    lab.equal((stats["messages"], stats["max_open"] <= 60), (60, True))
    log.wait_for(r"Info: MX host %s:25 is up again, after \d+ seconds$" % re.escape(rude.address))
    configure("bounceconfig edit Default initial_retry=1 max_retry=2")


@lab.test("mail whose time is up bounces although nothing is tried, and a warning of delay is sent")
def time_is_up():
    rude = Rude()
    host("late.example", rude.address)
    sink = Sink25()
    host("sender.example", sink.address)
    configure("bounceconfig new Short initial_retry=1 max_retry=2 max_retries=1000 max_queue_seconds=9 send_bounces=yes "
              "delay_warnings=yes delay_interval=60", "destconfig new late.example bounce_profile=Short")
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        for n in range(20):
            c.message("sender@sender.example", "x@late.example", lab.make_message("late", 500))
        c.quit()
    lab.eventually(lambda: status("late.example")["counters"]["expired_hard_bounced_recips"] == 20, 25)
    d = status("late.example")
    lab.equal((d["gauges"]["active_recips"], rude.count < 12), (0, True), "%d connections" % rude.count)
    sink.wait_messages(25) # 20 bounces, and warnings
    rude.close()


@lab.test("a host that answers no connection takes a few sessions and no more: other mail is not delayed")
def hole():
    holes = [Hole() for _ in range(3)]
    for n, h in enumerate(holes):
        host("hole%d.example" % n, h.address)
    sink = Sink25()
    host("quick.example", sink.address)
    configure("deliveryconfig setup max_concurrency=40")
    for n in range(3):
        submit("x@hole%d.example" % n, count=100)
    lab.eventually(lambda: sum(status("hole%d.example" % n)["sessions"] for n in range(3)) >= 4, 10)
    for n in range(20):
        began = time.monotonic()
        finished(submit("x@quick.example")[0])
        lab.equal(time.monotonic() - began < 5, True, "%.1f s" % (time.monotonic() - began))
    taken = [status("hole%d.example" % n)["sessions"] for n in range(3)]
    lab.equal(max(taken) <= 2, True, taken)
    configure("deliveryconfig setup max_concurrency=2000")
    gateway.console("deleterecipients all", check=False)
    for h in holes:
        h.close()


@lab.test("more hosts that never say a word than there are sessions: mail for a host that answered before does not wait")
def mute():
    socks = []
    for n in range(12):
        s = socket.create_server((address(), 25))
        socks.append(s)
        host("mute%d.example" % n, s.getsockname()[0])
    sink = Sink25()
    host("known.example", sink.address)
    finished(submit("x@known.example")[0])
    configure("deliveryconfig setup max_concurrency=8", "destconfig new known.example max_messages_per_connection=1") # no open connection waits
    for n in range(12):
        submit("x@mute%d.example" % n)
    lab.eventually(lambda: sum(status("mute%d.example" % n)["sessions"] for n in range(12)) == 6, 10)
    for n in range(5):
        began = time.monotonic()
        finished(submit("x@known.example")[0])
        lab.equal(time.monotonic() - began < 5, True, "%.1f s" % (time.monotonic() - began))
    configure("deliveryconfig setup max_concurrency=2000")
    gateway.console("deleterecipients all", check=False)
    for s in socks:
        s.close()


@lab.test("slow destinations leave sessions for others, however many they could use")
def slow():
    slow = Sink25("--delay", "DOT=6000")
    sink = Sink25()
    for n in range(4):
        host("slow%d.example" % n, slow.address)
    host("brisk.example", sink.address)
    configure("deliveryconfig setup max_concurrency=20")
    for n in range(4):
        submit("x@slow%d.example" % n, count=15)
    lab.eventually(lambda: slow.stats()["open"] >= 12, 10)
    began = time.monotonic()
    for mid in submit("x@brisk.example", count=20):
        finished(mid)
    lab.equal(time.monotonic() - began < 5, True, "%.1f s" % (time.monotonic() - began))
    lab.equal(slow.stats()["max_open"] <= 17, True, slow.stats())
    configure("deliveryconfig setup max_concurrency=2000")
    gateway.console("deleterecipients all", check=False)


@lab.test("4XX for one recipient does not make the destination down; a first one is asked again soon, whatever the profile says")
def grey():
    sink = Sink25("--reply", "RCPT=451 4.7.1 Greylisted for now,grey*,1")
    host("grey.example", sink.address)
    configure("bounceconfig new Patient initial_retry=7200 max_retry=14400", "destconfig new grey.example bounce_profile=Patient")
    mid = submit("grey@grey.example")[0]
    log.wait_for(r"Delayed: DCID \d+ MID %d to RID 0 - 4\.7\.1 " % mid)
    for other in submit("x@grey.example", count=5):
        finished(other)
    lab.equal(status("grey.example")["reach"], "up")
    entry = [r for r in gateway.json("showrecipients all")["data"]["recipients"] if r["mid"] == mid][0]
    wait = log.wait_for(r"^(\S+ \S+ +\d+ \S+ \d+) Info: Message %d to RID \[0\] pending till (.*)$" % mid)
    form = "%a %b %d %H:%M:%S %Y"
    seconds = time.mktime(time.strptime(wait[2], form)) - time.mktime(time.strptime(wait[1], form))
    lab.equal(299 <= seconds <= 332, True, "%d s, %s" % (seconds, entry))
    gateway.console("delivernow domain grey.example")
    finished(mid)


@lab.test("an address that does not answer costs a quarter of a second when its host has another one, not a time-out")
def race():
    h = Hole("::1") # IPv6 comes first
    sink = Sink25()
    host("two.example", h.address, sink.address)
    configure("destconfig new two.example use_tls=require max_messages_per_connection=1")
    fastest = 99
    for _ in range(3):
        began = time.monotonic()
        mid = submit("x@two.example")[0]
        finished(mid)
        fastest = min(fastest, time.monotonic() - began)
        dcid = log.wait_for(r"Message done DCID (\d+) MID %d " % mid)[1]
        log.wait_for(r"New SMTP DCID %s interface \S+ address %s port 25$" % (dcid, re.escape(sink.address)))
        log.wait_for(r"DCID %s TLS success " % dcid)
    lab.equal(0.2 < fastest < 5, True, "%.2f s" % fastest)
    lab.equal((sink.stats()["messages_tls"], status("two.example")["reach"]), (3, "up"))

    # What the address that has won does not prove, it does not get; the one that lost is not waited for as long as a dead host.
    poor, other = Sink25("--no-starttls"), Sink25()
    dns.add("poor.example", MX, "10 mx.poor.example", "20 mx2.poor.example")
    dns.add("mx.poor.example", AAAA, h.address)
    dns.add("mx.poor.example", A, poor.address)
    dns.add("mx2.poor.example", A, other.address)
    configure("destconfig new poor.example use_tls=require")
    finished(submit("x@poor.example")[0])
    lab.equal((poor.stats()["messages"], other.stats()["messages_tls"]), (0, 1))

    # An exception for one address: it has to prove more, so it does not take part in a race for less.
    strict = Sink25("--no-starttls")
    host("mixed.example", h.address, strict.address)
    configure("tlsexceptions new strict kind=require-tls target=%s owner=me reason=test expires=%s" % (strict.address, lab.day(30)),
              "destconfig new mixed.example use_tls=on")
    submit("x@mixed.example")
    time.sleep(2)
    lab.equal(strict.stats()["messages"], 0)
    gateway.console("deleterecipients all")
    h.close()


@lab.test("no more connections with TLS than deliveryconfig allows; the mail waits a second and goes")
def tls_limit():
    sink = Sink25("--delay", "DOT=400")
    for n in range(8):
        host("t%d.example" % n, sink.address)
        configure("destconfig new t%d.example use_tls=require" % n)
    configure("deliveryconfig setup max_tls_concurrency=2")
    mids = [submit("x@t%d.example" % n)[0] for n in range(8)]
    plain = Sink25()
    host("plain.example", plain.address)
    began = time.monotonic()
    finished(submit("x@plain.example")[0])
    lab.equal(time.monotonic() - began < 5, True, "clear ones are not kept")
    for mid in mids:
        finished(mid, 30)
    stats = sink.stats()
    lab.equal((stats["messages_tls"], stats["max_open"] <= 2), (8, True), stats)
    configure("deliveryconfig setup max_tls_concurrency=2000")


@lab.test("name servers that do not answer hold up their own domains alone")
def mute_names():
    setup()
    sink = Sink25()
    host("named.example", sink.address)
    mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mute.bind(("127.0.0.1", 0))
    configure("dnsconfig alt set quiet kind=authoritative servers=127.0.0.1@%d" % mute.getsockname()[1],
              "deliveryconfig setup max_concurrency=80") # 60 of them for domains that are not known yet
    for n in range(30):
        submit("x@mute%d.quiet" % n, count=3)
    for _ in range(5):
        began = time.monotonic()
        finished(submit("x@named.example")[0])
        lab.equal(time.monotonic() - began < 5, True, "%.1f s" % (time.monotonic() - began))
    top = gateway.json("tophosts conn_out")["data"]["hosts"]
    lab.equal(max(h["gauges"]["conn_out"] for h in top if "mute" in h["host"]), 2, "sessions of each")
    dns.broken["broken.example"] = SERVFAIL
    submit("x@broken.example", count=20)
    log.wait_for(r"Warning: Destination broken\.example is down \(DNS Soft Error looking up broken\.example: ")
    lab.equal(len(log.find(r"Delayed: .*looking up broken\.example")) < 10, True)
    configure("deliveryconfig setup max_concurrency=2000", "dnsconfig alt delete quiet")


@lab.test("a thousand destinations at once")
def many():
    setup()
    count, domains = int(os.environ.get("MESSAGES", 3000)), int(os.environ.get("DOMAINS", 1000))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    sinks = [Sink25("--delay", "DOT=%s" % os.environ.get("DELAY", 100)) for _ in range(4)]
    for n, s in enumerate(sinks):
        dns.add("mx%d.bench.example" % n, A, s.address)
    for n in range(domains):
        dns.records["d%d.bench.example" % n, MX] = ["10 mx%d.bench.example" % (n % 4)]
    gateway.console("suspenddel 1")
    lab.smtp_load(gateway.private, "--sessions", 20, "--messages", count, "--per-connection", 1000, "--domains", domains,
                  "--size", 1500)
    began = time.monotonic()
    gateway.console("resumedel")
    peak = [0]

    def done():
        peak[0] = max(peak[0], lab.pss_bytes([gateway.engine]))
        return sum(s.stats()["messages"] for s in sinks) == count

    lab.eventually(done, 120, "all have arrived")
    took = time.monotonic() - began
    open_at_once = sum(s.stats()["max_open"] for s in sinks)
    lab.note("%d messages to %d destinations in %.1f s (%.0f a second), %d connections at once, %d MiB" %
             (count, domains, took, count / took, open_at_once, peak[0] >> 20))
    lab.equal(open_at_once >= min(300, domains // 4), True)


lab.main()
