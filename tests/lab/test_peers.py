# The peers of the other tests, tried against each other and against Postfix: a sink that loses a dot or a
# generator that misses a wrong reply would make every result of theirs worthless.

import json
import time

import lab


def by_hand(sink, **options):
    return lab.Smtp(sink.port, **options)


@lab.test("the sink stores what was meant, and its envelope")
def stores():
    box = lab.Sandbox()
    sink = lab.Sink(store=box.path("in"), digest=box.path("digest"))
    book = lab.Book()
    with by_hand(sink) as c:
        c.ehlo("a.example")
        for kind in lab.KINDS:
            message = lab.make_message(kind, 3000, kind)
            book.add(message)
            c.message("from@a.example", ["one@b.example", 'tw"o@b.example'], message)
        c.quit()
    for number, kind in enumerate(lab.KINDS, 1):
        with open(box.path("in", "%d.eml" % number), "rb") as f:
            lab.equal(f.read(), lab.make_message(kind, 3000, kind).data, kind)
    envelope = json.loads(lab.read_text(box.path("in", "1.json")))
    lab.equal((envelope["helo"], envelope["from"], envelope["rcpts"]),
              ("a.example", "from@a.example", ["one@b.example", 'tw"o@b.example']))
    lab.equal(book.settled(sink), 0)
    stats = sink.stop()
    lab.equal((stats["messages"], stats["recipients"], stats["connections"]), (5, 10, 1))


@lab.test("only CRLF.CRLF ends a message at the sink")
def ends():
    box = lab.Sandbox()
    sink = lab.Sink(store=box.path("in"))
    body = b"a: b\r\n\r\none\n.\ntwo\n.\r\nthree\r.\r\nfour\r\n"
    with by_hand(sink) as c:
        c.ehlo()
        c.mail("a@b.example", "c@d.example")
        c.cmd("DATA", 354)
        for octet in range(len(body)): # one octet at a time: every split of the end is met
            c.raw(body[octet:octet + 1])
        c.raw(b"..x\r\n.\r\n")
        c.expect(250)
    with open(box.path("in", "1.eml"), "rb") as f:
        lab.equal(f.read(), body + b".x\r\n")


@lab.test("a book tells missing, changed, doubled and unknown messages")
def book_tells():
    book = lab.Book()
    messages = [lab.make_message("m%d" % i, 100) for i in range(4)]
    for m in messages:
        book.add(m)
    arrived = [("m0", messages[0].sha256), ("m0", messages[0].sha256), ("m1", "0" * 64), ("x", "1" * 64),
               ("m2", messages[2].sha256)]
    lab.equal(book.compare(arrived), (["m3"], ["m1"], 1, ["x"]))


@lab.test("scripted replies hold for their pattern and as often as told")
def scripted():
    sink = lab.Sink("--reply", "RCPT=451 4.2.1 Busy,*@slow.example,2", "--reply", "MAIL=550 5.7.1 No,bad@*",
                    "--reply", "DOT=close,,1")
    with by_hand(sink) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<bad@a.example>", "550 5.7.1 No")
        c.cmd("MAIL FROM:<good@a.example>", 250)
        c.cmd("RCPT TO:<a@slow.example>", "451 4.2.1 Busy")
        c.cmd("RCPT TO:<b@quick.example>", 250)
        c.cmd("RCPT TO:<a@SLOW.example>", 451)
        c.cmd("RCPT TO:<a@slow.example>", 250)
        c.cmd("DATA", 354)
        c.raw("x\r\n.\r\n")
        assert c.at_eof()
    lab.equal(sink.stats()["messages"], 0)
    lab.equal(sink.stop()["refused"], 4)


@lab.test("the sink drops, delays and stalls as told")
def misbehaves():
    with by_hand(lab.Sink("--drop-after", 2)) as c:
        c.ehlo()
        c.send("NOOP")
        assert c.at_eof()
    with by_hand(lab.Sink("--drop-in-data", 100)) as c:
        c.ehlo()
        c.mail("a@b.example", "c@d.example")
        c.cmd("DATA", 354)
        c.raw(b"y" * 200)
        assert c.at_eof()
    with by_hand(lab.Sink("--delay", "NOOP=200")) as c:
        c.ehlo()
        began = time.monotonic()
        c.cmd("NOOP", 250)
        assert time.monotonic() - began >= 0.2
    with by_hand(lab.Sink("--reply", "EHLO=stall"), timeout=0.3) as c:
        try:
            c.ehlo()
            raise lab.Failure("the sink answered")
        except TimeoutError:
            pass
    with by_hand(lab.Sink("--reply", "CONNECT=421 4.3.2 Not now"), greet=False) as c:
        c.expect("421 4.3.2 Not now")
        assert c.at_eof()


@lab.test("STARTTLS at the sink: offered, refused, absent, garbled, resumed")
def starttls():
    sink = lab.Sink("--require-tls")
    context = lab.client_context()
    with by_hand(sink) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@b.example>", 530)
        c.starttls(context)
        assert not c.has("STARTTLS")
        c.message("a@b.example", "c@d.example", lab.make_message("x"))
        c.quit()
    result = lab.smtp_load(sink.port, "--starttls", "--resume", "--messages", 10, "--per-connection", 1)
    lab.equal((result["tls_new"], result["tls_resumed"]), (1, 9))
    stats = sink.stop()
    lab.equal((stats["tls_new"], stats["tls_resumed"], stats["messages_tls"]), (2, 9, 11))
    with by_hand(lab.Sink("--no-starttls")) as c:
        assert "STARTTLS" not in c.ehlo()
    with by_hand(lab.Sink("--reply", "STARTTLS=454 4.7.0 No")) as c:
        c.ehlo()
        c.cmd("STARTTLS", 454)
        c.cmd("NOOP", 250)
    done = lab.s_client(lab.Sink("--garbage-tls").port, timeout=10)
    lab.match(done.stdout, "wrong version number")


@lab.test("OpenSSL's, GnuTLS's and swaks' clients reach the sink")
def clients():
    sink = lab.Sink("--name", "mx.example")
    lab.match(lab.s_client(sink.port).stdout, "CN = mx.example")
    lab.match(lab.gnutls_cli(sink.port).stdout, "Handshake was completed")
    lab.swaks(sink.port, "--from", "a@b.example", "--to", "c@d.example", "--tls")
    lab.equal(sink.stop()["messages_tls"], 1)


@lab.test("the generator's book and the sink's agree")
def generator():
    box = lab.Sandbox()
    sink = lab.Sink(digest=box.path("digest"))
    for number, options in enumerate((["--starttls"], ["--no-pipelining", "--rcpts", 3, "--domains", 2],
                                      ["--size", 300000, "--rate", 200])):
        result = lab.smtp_load(sink.port, "--sessions", 7, "--messages", 60, "--per-connection", 4, "--acked",
                               box.path("acked"), "--id", "g%d-" % number, *options)
        lab.equal(result["messages"], 60)
    lab.equal(sorted(lab.read_text(box.path("acked")).split("\n")),
              sorted(lab.read_text(box.path("digest")).split("\n")))
    stats = sink.stop()
    lab.equal((stats["messages"], stats["recipients"], stats["messages_tls"]), (180, 300, 60))


@lab.test("a reply the generator did not expect ends it")
def unexpected():
    for reply, stage in (("CONNECT=554", "greeting"), ("MAIL=451", "MAIL"), ("RCPT=550", "RCPT"),
                         ("DATA=250 no", "DATA"), ("DOT=451", "end of data"), ("STARTTLS=454", "STARTTLS")):
        sink = lab.Sink("--reply", reply)
        done = lab.run([lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % sink.port, "--starttls"], check=False)
        lab.equal(json.loads(done.stdout)["stage"], stage)
        lab.equal(done.returncode, 1)
        lab.match(done.stderr, reply.split("=")[1])


@lab.test("a generator told to survive has every message acknowledged once")
def survives():
    box = lab.Sandbox()
    sink = lab.Sink("--reply", "MAIL=421 later,,5", "--reply", "DOT=close,,5", "--reply", "RCPT=451 no,,5",
                    digest=box.path("digest"))
    result = lab.smtp_load(sink.port, "--sessions", 5, "--messages", 200, "--survive", "--acked", box.path("acked"))
    lab.equal((result["messages"], result["retried"]), (200, 15))
    lab.equal(sorted(lab.read_text(box.path("acked")).split("\n")),
              sorted(lab.read_text(box.path("digest")).split("\n")))


@lab.test("idle sessions are held to the end of standard input")
def idle():
    sink = lab.Sink()
    child = lab.Child([lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % sink.port, "--idle", "300", "--starttls"],
                      stdin=-1, stdout=-1)
    lab.equal(json.loads(child.process.stdout.readline())["ready"], 300)
    lab.equal(sink.stats()["open"], 300)
    child.process.stdin.close()
    lab.equal(json.loads(child.process.stdout.readline())["held"], 300)
    lab.equal(child.wait(), 0)


@lab.test("mixed messages pass Postfix under TLS bit for bit")
def through_postfix():
    box = lab.Sandbox()
    pair = lab.make_cert(box.dir, "relay.example")
    sink = lab.Sink(digest=box.path("digest"))
    relay = lab.Postfix(relay=sink.port, tuned=True, tls=pair, tls_out=True)
    book = lab.Book()
    with lab.Smtp(relay.port) as c:
        c.ehlo()
        c.starttls()
        for message in lab.mixed_messages(120, largest=2 << 20):
            c.message("a@b.example", "c@d.example", message)
            book.add(message)
        c.quit()
    lab.equal(book.settled(sink), 0)
    lab.equal(sink.stats()["messages_tls"], 120)
    lab.eventually(lambda: relay.queue_length() == 0)


@lab.test("Postfix receives into a Maildir and sends")
def postfix_maildir():
    box = lab.Sandbox()
    receiver = lab.Postfix(tls=lab.make_cert(box.dir, "mx.example"))
    sender = lab.Postfix(relay=receiver.port, tls_out=True)
    lab.smtp_source(sender.port, "-m", "20", "-s", "4", "-l", "4000", "-f", "a@b.example", "-t", "c@d.example")
    lab.eventually(lambda: len(receiver.maildir()) == 20, 20)
    lab.match(receiver.maildir()[0].decode(), r"with ESMTPS id")


lab.main()
