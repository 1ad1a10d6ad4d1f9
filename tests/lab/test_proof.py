# timeout: 300
# The whole gateway on real input: mail in quantity and of every shape, with kills in the middle, between Postfixes, and
# beside senders who mean harm. What single parts answer is in test_smtp_in.py and test_delivery.py.

import collections
import hashlib
import os
import random
import re
import socket
import ssl
import threading
import time

import lab

sanitized = "san" in os.path.basename(lab.BUILD)
rng = random.Random(os.environ.get("TEST_SEED", "proof"))
SENDER = "sender@client.lab.example"
LIMITS = "max_concurrency=1000 max_msgs_per_session=1000000 max_rcpts_per_msg=1000 max_message_size=50M"


# --- messages, fast enough that a test of ten thousand waits for the gateway and not for its own ------------------

class Maker:
    """Messages whose bodies are cut, at line ends, from one stock of lines for each kind."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.count = 0
        self.stock = {}
        for kind in lab.KINDS:
            message = lab.make_message(kind, 256 << 10, kind, rng)
            body = message.body
            if kind == "attachment":
                body = body.split(b"\r\n\r\n", 2)[2].rpartition(b"--=_")[0]
            self.stock[kind] = (message.data[:-len(message.body)], body)

    def size(self, number):
        if number % 1000 == 999:
            return rng.randrange(5 << 20, (20 << 20) - 4096)
        if number % 50 == 49:
            return rng.randrange(100 << 10, 1 << 20)
        return int(1024 * 2 ** rng.uniform(0, 4))

    def make(self, size=None):
        """The next message."""
        number, self.count = self.count, self.count + 1
        kind = lab.KINDS[number % len(lab.KINDS)]
        ident = "%s%d" % (self.prefix, number)
        header, stock = self.stock[kind]
        header = header.replace(b"X-Bench-Id: " + kind.encode(), b"X-Bench-Id: " + ident.encode())
        header = header.replace(b"<%s@" % kind.encode(), b"<%s@" % ident.encode())
        size = size or self.size(number)
        start = stock.index(b"\r\n", rng.randrange(len(stock) - 4096)) + 2
        text = stock[start:start + size]
        if len(text) < size:
            text += stock * ((size - len(text)) // len(stock) + 1)
        text = text[:text.rindex(b"\r\n", 0, size) + 2]
        if kind == "attachment":
            mark = b"--=_attachment"
            body = (mark + b"\r\nContent-Type: text/plain\r\n\r\n" + ident.encode() + b"\r\n" + mark
                    + b"\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                    + text + mark + b"--\r\n")
        else: # the first line of some begins with a dot
            body = (b"." if kind == "dots" else b"") + ident.encode() + b"\r\n" + text
        return lab.Message(ident, header[:-2], body)


# --- destinations and what they have to get ------------------------------------------------------------------------

class Places:
    """Sinks behind routes: one never offers TLS, one is asked for it, one must have it, one must have it slowly."""

    NAMES = ("clear.example", "wanted.example", "sealed.example", "slow.example")

    def __init__(self, box):
        options = {"clear.example": ["--no-starttls"], "slow.example": ["--delay", "DOT=3"]}
        self.sinks = {n: lab.Sink(*options.get(n, []), digest=box.path(n)) for n in self.NAMES}
        self.want = {n: {} for n in self.NAMES} # acknowledged
        self.unsure = {n: {} for n in self.NAMES} # sent whole, but the answer was lost
        self.lock = threading.Lock()

    def statements(self):
        lines = ["smtproutes new %s 127.0.0.1:%d" % (n, s.port) for n, s in self.sinks.items()]
        return lines + ["destconfig new %s use_tls=%s" % p
                        for p in (("wanted.example", "on"), ("sealed.example", "require"), ("slow.example", "require"))]

    def choose(self, number):
        """The domains of a message: each is met by every kind, and a third goes to two."""
        first = number // len(lab.KINDS) % len(self.NAMES)
        return [self.NAMES[first]] + ([self.NAMES[(first + 1) % len(self.NAMES)]] if number % 3 == 0 else [])

    def note(self, book, domains, message):
        with self.lock:
            for d in domains:
                book[d][message.id] = message.sha256

    def arrived(self):
        return {n: s.digests() for n, s in self.sinks.items()}

    def settled(self, timeout):
        """Waits for all that was acknowledged; fails on what is unknown or changed. The copies beyond the first, as
        {domain: {id: [line numbers of all copies in the digest]}}"""
        def complete():
            missing = []
            for name, digests in self.arrived().items():
                known = {**self.unsure[name], **self.want[name]}
                for ident, sha in digests:
                    if known.get(ident) != sha:
                        raise RuntimeError("%s came to %s %s" % (ident, name, "changed" if ident in known else "unasked"))
                here = {ident for ident, _ in digests}
                missing += [(name, i) for i in self.want[name] if i not in here]
            if missing:
                raise lab.Failure("%d are missing: %s ..." % (len(missing), missing[:5]))
            return True

        lab.eventually(complete, timeout)
        return self.copies()

    def copies(self):
        again = {}
        for name, digests in self.arrived().items():
            seen = collections.defaultdict(list)
            for number, (ident, _) in enumerate(digests):
                seen[ident].append(number)
            again[name] = {i: at for i, at in seen.items() if len(at) > 1}
        return again

    def sealed(self):
        """No octet of a message went in clear where TLS is required, none in TLS where there is none."""
        for name, sink in self.sinks.items():
            stats = sink.stats()
            lab.equal(stats["messages_tls"], 0 if name == "clear.example" else stats["messages"], name)


def gateway(box, places, *statements):
    """A gateway with the factory's relaying listener in clear and one more which requires TLS; (gateway, its port)"""
    gate = lab.Posternd(box.path("home"))
    port = lab.free_port()
    access = "listenerconfig edit Sealed hostaccess set "
    gate.batch("\n".join(["listenerconfig set Sealed kind=private address=127.0.0.1 port=%d tls=required"
                          " default_behavior=reject" % port,
                          access + "policy RELAYED behavior=relay %s" % LIMITS,
                          access + "sendergroup RELAYLIST position=1 hosts=127.0.0.0/8 policy=RELAYED",
                          *places.statements(), *statements]) + "\n", args=("--commit",))
    return gate, port


def empty(gate, timeout=60):
    lab.eventually(lambda: gate.json("showrecipients all")["data"]["recipients"] == [], timeout, "the queue is empty")


def transaction(c, domains, message):
    """One message, pipelined as far as RFC 2920 allows; True when its last octet has been sent."""
    lines = ["MAIL FROM:<%s> BODY=8BITMIME" % SENDER, *["RCPT TO:<rcpt@%s>" % d for d in domains], "DATA"]
    codes = [code for code, _ in c.pipeline(lines)]
    if codes != [250] * (1 + len(domains)) + [354]:
        raise lab.Failure("%s: %s" % (message.id, codes))
    c.raw(lab.stuffed(message))


def session(port, tls):
    c = lab.Smtp(port, timeout=60)
    c.ehlo()
    if tls:
        c.starttls()
    return c


def run_threads(functions, stop=None, timeout=240):
    """All of them at once; the first failure of one is ours, and sets `stop` for the others."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as e:
            failures.append(e)
            if stop:
                stop.set()

    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    until = time.monotonic() + timeout
    for t in threads:
        t.start()
    for t in threads:
        t.join(max(0, until - time.monotonic()))
        if t.is_alive() and not failures:
            raise lab.Failure("the senders did not come to their end in %d s" % timeout)
    if failures:
        raise failures[0]


@lab.test("ten thousand messages of every size and shape arrive bit for bit, once, and sealed where they must be")
def ten_thousand():
    count = 2000 if sanitized else 10000
    box = lab.Sandbox()
    places = Places(box)
    gate, sealed = gateway(box, places)
    maker = Maker("m")
    kinds = [(gate.private, False), (sealed, True)] * 4
    octets = 0

    def sender(port, tls):
        nonlocal octets
        sent = 0
        c = session(port, tls)
        while True:
            with places.lock:
                if maker.count == count:
                    break
                domains = places.choose(maker.count)
                message = maker.make()
                octets += len(message.body)
            transaction(c, domains, message)
            c.expect(250, message.id)
            places.note(places.want, domains, message)
            sent += 1
            if sent % 200 == 0:
                c.quit()
                c = session(port, tls)
        c.quit()

    began = time.monotonic()
    run_threads([lambda p=p: sender(*p) for p in kinds])
    taken = time.monotonic() - began
    copies = places.settled(60)
    empty(gate)
    lab.equal(places.copies(), {n: {} for n in places.NAMES}, "each came once")
    deliveries = sum(len(w) for w in places.want.values())
    lab.note("%d messages, %.0f MB, %d deliveries: taken in %.1f s, delivered in %.1f s"
             % (count, octets / 1e6, deliveries, taken, time.monotonic() - began))
    lab.equal(sum(map(len, copies.values())), 0)
    lab.equal(sum(s.stats()["messages"] for s in places.sinks.values()), deliveries)
    places.sealed()
    lab.equal([gate.json("status")["data"]["counters"][n]["uptime"] for n in ("inj_msgs", "inj_recips")],
              [count, deliveries])


@lab.test("kill -9 in the middle of it: nothing acknowledged is lost, and only what was in flight comes twice")
def killed():
    pauses = [3] + [rng.uniform(0.1, 0.6) for _ in range(3)] # after the first, most of what came is long done with
    box = lab.Sandbox()
    places = Places(box)
    gate, sealed = gateway(box, places, "bounceconfig edit Default initial_retry=1 max_retry=2 max_retries=1000")
    maker = Maker("k")
    done = threading.Event()
    samples = [] # (time, {domain: lines of its digest})
    kills = [] # (time, lines before, lines when the engine was gone)

    def lines():
        return {n: len(s.digests()) for n, s in places.sinks.items()}

    def watcher():
        while not done.is_set():
            now = time.monotonic()
            samples.append((now, lines()))
            time.sleep(0.05)

    def sender(port, tls):
        c = None
        while not done.is_set():
            with places.lock:
                domains = places.choose(maker.count)
                message = maker.make(rng.randrange(2 << 20, 6 << 20) if maker.count % 200 == 199 else None)
            whole = False
            try:
                c = c or session(port, tls)
                transaction(c, domains, message)
                whole = True
                c.expect(250, message.id)
                places.note(places.want, domains, message)
            except (OSError, EOFError, lab.Failure):
                if whole:
                    places.note(places.unsure, domains, message)
                c = None
                time.sleep(0.02)
            time.sleep(0.005)

    def killer():
        try:
            for pause in pauses:
                flowed = sum(map(len, places.want.values())) + 30
                lab.eventually(lambda: done.is_set() or sum(map(len, places.want.values())) > flowed, 60, "mail flows")
                time.sleep(pause)
                before, at = lines(), time.monotonic()
                gate.kill_engine(ready=False)
                kills.append((at, before, lines()))
                gate.wait_ready(60)
        finally:
            done.set()

    run_threads([killer, watcher] + [lambda p=p: sender(*p) for p in [(gate.private, False), (sealed, True)] * 3], done)
    places.settled(90)
    empty(gate)
    copies = places.copies()
    oldest = 0
    for name, again in copies.items():
        for ident, at in again.items():
            for first, second in zip(at, at[1:]):
                crossed = [k for k in kills if first < k[2][name] and second >= k[1][name]]
                if not crossed:
                    raise lab.Failure("%s came twice to %s, and no kill lies between" % (ident, name))
                known = min([t for t, n in samples if n[name] > first] + [crossed[0][0]])
                oldest = max(oldest, crossed[0][0] - known)
    lab.note("%d kills; %d deliveries acknowledged, %d sent without an answer, of which %d arrived"
             % (len(kills), sum(map(len, places.want.values())), sum(map(len, places.unsure.values())),
                sum(i in places.unsure[n] for n, d in places.arrived().items() for i in {i for i, _ in d})))
    lab.note("%d came twice, the oldest of them delivered %.2f s before its kill"
             % (sum(map(len, copies.values())), oldest))
    lab.equal(len(kills), len(pauses))
    lab.equal(oldest < 1.5, True, "what was delivered long before the kill does not come again")
    places.sealed()


# --- between Postfixes ---------------------------------------------------------------------------------------------

@lab.test("Postfix sends through us to Postfix, TLS required on both sides")
def postfixes():
    lab.need_root()
    lab.need_program("postfix")
    box = lab.Sandbox()
    places = Places(box)
    gate, sealed = gateway(box, places)
    pair = lab.make_cert(box.mkdir("cert"), "mx.postfix.example")
    receiver = lab.Postfix(tls=pair, tuned=True, main={"smtpd_tls_security_level": "encrypt"})
    sender = lab.Postfix(relay=sealed, tls=pair, tls_out=True, tuned=True)
    gate.batch("smtproutes new postfix.example 127.0.0.1:%d\ndestconfig new postfix.example use_tls=require\n"
               % receiver.port, args=("--commit",))
    maker = Maker("p")
    book = {}
    with session(sender.port, True) as c:
        for n in range(100):
            message = maker.make(rng.randrange(100 << 10, 3 << 20) if n % 20 == 19 else None)
            book[message.id] = message
            transaction(c, ["postfix.example"], message)
            c.expect(250)
        c.quit()
    lab.smtp_source(sender.port, "-m", "200", "-s", "10", "-l", "5000", "-f", SENDER, "-t", "source@postfix.example")
    lab.eventually(lambda: len(receiver.maildir()) >= 300, 60, "the receiver has every message")
    empty(gate)
    lab.eventually(lambda: sender.queue_length() == 0, 20, "the sender's queue is empty")
    mails = receiver.maildir()
    lab.equal(len(mails), 300)
    generated = collections.Counter()
    for mail in mails:
        head, _, body = mail.partition(b"\n\n")
        hops = re.sub(rb"\n[ \t]+", b" ", head).split(b"\nReceived: ")[1:]
        lab.match(hops[0].decode("latin-1"), r"by postfix\.lab\.example \(Postfix\) with ESMTPS ")
        lab.match(hops[1].decode("latin-1"), r"^from postfix\.lab\.example \(\[127\.0\.0\.1\]\).* with ESMTPS id ICID")
        ident = re.search(rb"\nX-Bench-Id: (\S+)", head)
        if ident:
            message = book.pop(ident[1].decode())
            if body != message.body.replace(b"\r\n", b"\n"):
                raise lab.Failure("%s changed" % message.id)
            original = message.data[:-len(message.body)].replace(b"\r\n", b"\n").strip()
            lab.equal(head.endswith(original), True, "the header of " + message.id)
        else:
            generated[hashlib.sha256(body).hexdigest()] += 1
    lab.equal(list(book), [])
    lab.equal(list(generated.values()), [200], "the messages of smtp-source, all alike")


@lab.test("smtp-source alone: many sessions, every message counted")
def source():
    lab.need_program("smtp-source")
    box = lab.Sandbox()
    places = Places(box)
    gate, _ = gateway(box, places)
    for options, rcpts in ((["-s", "20", "-m", "1000", "-l", "3000", "-d"], 1), (["-s", "5", "-m", "50", "-r", "20"], 20)):
        lab.smtp_source(gate.private, "-f", SENDER, "-t", "rcpt@clear.example", *options)
    sink = places.sinks["clear.example"]
    stats = sink.wait_messages(1050)
    empty(gate)
    lab.equal((sink.stats()["messages"], stats["recipients"]), (1050, 1000 + 50 * 20))
    lab.equal(len(set(sink.digests())), 2, "two kinds of message were sent")


@lab.test("OpenSSL's and GnuTLS's clients and swaks deliver whole messages in TLS 1.2 and 1.3")
def clients():
    box = lab.Sandbox()
    places = Places(box)
    gate, sealed = gateway(box, places)
    maker = Maker("c")

    def dialog(message):
        return (b"EHLO client.lab.example\r\nMAIL FROM:<%s>\r\nRCPT TO:<rcpt@sealed.example>\r\nDATA\r\n" % SENDER.encode()
                + lab.stuffed(message) + b"QUIT\r\n")

    for version in ("1.2", "1.3"):
        for client in ("openssl", "gnutls", "swaks"):
            message = maker.make(20000)
            places.note(places.want, ["sealed.example"], message)
            if client == "openssl":
                done = lab.s_client(sealed, "-tls1_" + version[2], "-quiet", input=dialog(message))
                said = done.stdout.decode("latin-1") if isinstance(done.stdout, bytes) else done.stdout
            elif client == "gnutls":
                done = lab.gnutls_cli(sealed, "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" + version, input=dialog(message))
                said = done.stdout.decode("latin-1") if isinstance(done.stdout, bytes) else done.stdout
            else:
                path = box.write("mail", message.data[:-2]) # it adds the last line end
                done = lab.swaks(sealed, "--tls", "--tls-protocol", "tlsv1_" + version[2], "--from", SENDER, "--to",
                                 "rcpt@sealed.example", "--data", "@" + path)
                said = done.stdout
            lab.match(said, r"250 2\.6\.0 ok:  Message \d+ accepted", "%s, TLS %s" % (client, version))
    places.settled(30)
    empty(gate)
    lab.equal(places.copies(), {n: {} for n in places.NAMES})
    places.sealed()
    told = r"TLS success protocol TLSv1\.2 cipher"
    lab.eventually(lambda: len(gate.maillog().find(told)) >= 3, 5, "the log tells each handshake")
    lab.equal(len(gate.maillog().find(told)), 3)


# --- bad input, and mail beside it ---------------------------------------------------------------------------------

class Flow:
    """Good mail, one message after the other, over its own sessions until it is stopped."""

    def __init__(self, gate, places):
        self.gate, self.places = gate, places
        self.maker = Maker("f")
        self.done = threading.Event()
        self.slowest = 0
        self.failure = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.done.is_set():
                with session(self.gate.private, False) as c:
                    for _ in range(20):
                        began = time.monotonic()
                        domains, message = self.places.choose(self.maker.count), self.maker.make()
                        transaction(c, domains, message)
                        c.expect(250)
                        self.places.note(self.places.want, domains, message)
                        self.slowest = max(self.slowest, time.monotonic() - began)
                    c.quit()
        except BaseException as e:
            self.failure = e

    def stop(self):
        self.done.set()
        self.thread.join(60)
        if self.failure:
            raise self.failure
        lab.equal(self.thread.is_alive(), False)


BAD_MARK = "abuser@bad.example" # the sender of all that must never be taken


def public(gate, ehlo=True):
    c = lab.Smtp(gate.public)
    if ehlo:
        c.ehlo()
    return c


def closed(c, *codes):
    """The session ends, and the last words have one of the codes."""
    last = None
    try:
        while True:
            last = c.reply()
    except (EOFError, OSError):
        pass
    lab.equal(bool(last) and last[0] in codes, True, "the last words are %r" % (last,))


def bad_sequences(gate):
    with public(gate, ehlo=False) as c:
        c.cmd("MAIL FROM:<%s>" % BAD_MARK, r"503 #5\.5\.1 EHLO or HELO first\.")
        c.cmd("DATA", 503)
        c.ehlo()
        for line, want in (("RCPT TO:<user@example.com>", r"503 5\.5\.1 MAIL first\."), ("DATA", r"503 5\.5\.1 MAIL first\."),
                           ("BDAT 0 LAST", [502, 503]), ("MAIL FROM:<%s" % BAD_MARK, 501), ("MAIL TO:<%s>" % BAD_MARK, 501),
                           ("MAIL FROM:<%s> SIZE=99999999999999999999999" % BAD_MARK, [501, 552]),
                           ("MAIL FROM:<%s> SIZE=-1" % BAD_MARK, 501), ("MAIL FROM:<%s> WHAT=EVER" % BAD_MARK, 555),
                           ("STARTTLS now", 501)):
            c.cmd(line, want)
        c.quit()
    with public(gate) as c:
        c.cmd("MAIL FROM:<%s>" % BAD_MARK, 250)
        c.cmd("MAIL FROM:<%s>" % BAD_MARK, r"503 5\.5\.1 Sender already specified\.")
        c.cmd("DATA", r"503 5\.5\.1 RCPT first\.")
        c.cmd("RCPT TO:<user@elsewhere.example>", r"550 5\.1\.0 Address rejected\.")
        c.cmd("DATA", r"503 5\.5\.1 RCPT first\.")
        c.cmd("RCPT TO:user@@example.com", [501, 553])
        c.cmd("RCPT TO:<user@example.com>", 250)
        c.ehlo() # forgets the transaction
        c.cmd("DATA", 503)
        c.starttls()
        c.cmd("STARTTLS", r"503 5\.5\.1 TLS is already in use")
        c.cmd("DATA", 503)
        c.quit()


def pipelined(gate):
    c = public(gate, ehlo=False) # EHLO ends a group (RFC 2920); what follows in the same breath is not believed
    c.raw("EHLO a.example\r\nMAIL FROM:<%s>\r\nRCPT TO:<user@example.com>\r\nDATA\r\n" % BAD_MARK)
    closed(c, 503)
    c = public(gate)
    c.raw("MAIL FROM:<%s>\r\nRCPT TO:<user@example.com>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n" % BAD_MARK)
    closed(c, 503)
    c = session(gate.private, False) # a relaying client may, but its text is no text when every recipient was refused
    c.raw("MAIL FROM:<%s>\r\nRCPT TO:<>\r\nDATA\r\nSubject: x\r\n\r\nMAIL FROM:<%s>\r\nx\r\n.\r\nQUIT\r\n"
          % (BAD_MARK, BAD_MARK))
    lab.equal([c.reply()[0] for _ in range(3)], [250, 501, 503])
    closed(c, 221, 421)
    c = public(gate) # commands without a message come to an end, and the peer is told why
    c.raw(b"NOOP\r\n" * 3000)
    lab.equal({c.reply()[0] for _ in range(199)}, {250})
    c.expect(r"421 4\.7\.0 Too many commands without a message")
    lab.equal(c.at_eof(), True)
    with public(gate) as c:
        c.cmd("MAIL FROM:<%s>" % BAD_MARK, 250)
        codes = [code for code, _ in c.pipeline(["RCPT TO:<user%d@example.com>" % i for i in range(500)])]
        lab.equal(codes, [250] * 50 + [452] * 450)
        c.cmd("RSET", 250)
    c = public(gate)
    c.raw(b"".join(b"WHAT%d\r\n" % i for i in range(500)))
    closed(c, 421)


def oversized(gate):
    with public(gate) as c:
        for head, want in ((b"Received: from a by b; now\r\n" * 200, r"554 5\.4\.6 Message loop"),
                           (b"X: y\r\n" * 5000, r"552 5\.3\.4 Too many header lines")):
            c.mail(BAD_MARK, "user@example.com")
            c.data(head + b"\r\nx\r\n", want)
        c.mail(BAD_MARK, "user@example.com")
        c.data(b"Subject: x\r\n\r\n" + b"y" * 70 * 1024 + b"\r\n", r"550 5\.6\.0 Message contains a line of more than 65536")
        c.mail(BAD_MARK, "user@example.com")
        c.data(lab.make_message("toobig", 21 << 20), r"552 5\.3\.4 message size exceeds limit")
        c.mail(BAD_MARK, "user@example.com")
        c.cmd("DATA", 354)
        c.raw(rng.randbytes(200000).replace(b".", b"_") + b"\r\n.\r\n")
        c.expect(r"550 5\.6\.0 Message contains")
        c.quit()


def half_open(gate):
    held = []
    for i in range(90):
        c = public(gate)
        c.raw("MAIL FROM:<%s>\r\n" % BAD_MARK)
        if i % 3:
            c.raw("RCPT TO:<user@example.com>\r\n")
            c.expect(250)
            c.expect(250)
            c.cmd("DATA", 354)
            c.raw("Subject: half\r\n\r\n" + "x" * (10, 70000)[i % 2])
            if i % 3 == 2:
                c.raw("\r\n.\r") # all but the last octet of the end
        held.append(c)
    for i, c in enumerate(held):
        c.reset() if i % 2 else c.close()


def tls_garbage(gate):
    for data in (rng.randbytes(5000), b"\x16\x03\x01\xff\xff" + rng.randbytes(100), b"\x16\x03\x01\x00\x05hello",
                 b"GET / HTTP/1.0\r\n\r\n"):
        c = public(gate)
        c.cmd("STARTTLS", 220)
        c.raw(data)
        lab.equal(c.at_eof(), True, "the session ends after %r" % data[:10])
    c = public(gate) # a true handshake, then octets below TLS
    c.starttls()
    c.mail(BAD_MARK, "user@example.com")
    with socket.socket(fileno=os.dup(c.sock.fileno())) as below:
        below.sendall(b"DATA\r\n" + rng.randbytes(300))
    lab.equal(c.at_eof(), True)
    c = public(gate) # a message whose end is cut off below TLS, without the close that TLS wants
    c.starttls()
    c.mail(BAD_MARK, "user@example.com")
    c.cmd("DATA", 354)
    c.raw("Subject: cut\r\n\r\nx\r\n")
    c.sock.shutdown(socket.SHUT_RDWR)
    c.close()
    c = lab.Smtp(gate.public) # TLS from the first octet, to a port that speaks first
    try:
        c.tls()
        raise lab.Failure("a handshake without STARTTLS")
    except (ssl.SSLError, OSError):
        pass
    held = [public(gate) for _ in range(20)]
    for c in held: # the first octets of a handshake, and no more
        c.cmd("STARTTLS", 220)
        c.raw(b"\x16\x03\x01\x02\x00\x01")
    for c in held:
        c.close()
    gate.maillog().wait_for(r"Info: ICID \d+ TLS failed: ")


@lab.test("bad input gets its code and its text, changes nothing, and mail flows on beside it")
def bad_input():
    box = lab.Sandbox()
    places = Places(box)
    gate, _ = gateway(box, places, "listenerconfig rcptaccess new InboundMail/example.com",
                      "listenerconfig edit InboundMail tls=preferred max_concurrency=500")
    sink = lab.Sink(digest=box.path("bad"))
    gate.batch("smtproutes new example.com 127.0.0.1:%d\n" % sink.port, args=("--commit",))
    before = gate.console("showconfig").stdout
    engine = gate.engine
    flow = Flow(gate, places)
    try:
        for abuse in (bad_sequences, pipelined, oversized, half_open, tls_garbage):
            began = flow.maker.count
            abuse(gate)
            lab.eventually(lambda: flow.failure or flow.maker.count > began, 20, "mail flows beside " + abuse.__name__)
    finally:
        flow.stop()
    places.settled(30)
    empty(gate)
    lab.equal(places.copies(), {n: {} for n in places.NAMES})
    places.sealed()
    lab.note("%d messages flowed meanwhile, the slowest took %.0f ms" % (flow.maker.count, flow.slowest * 1000))
    lab.equal(sink.stats()["messages"], 0, "nothing of the abuse was sent on")
    taken = r"MID \d+ queued for delivery"
    lab.eventually(lambda: len(gate.maillog().find(taken)) >= flow.maker.count, 5, "the log tells each message taken")
    lab.equal(len(gate.maillog().find(taken)), flow.maker.count, "messages taken")
    lab.equal(gate.console("showconfig").stdout, before, "the configuration")
    lab.equal(gate.engine, engine, "the engine is the one that was there")
    lab.eventually(lambda: gate.json("status")["data"]["gauges"]["conn_in"] == 0, 20, "no session is left")


lab.main()
