# People and peers who mean harm: a next hop, an administrator of low rank, whoever finds what was exported.

import json
import os
import random
import re
import socket
import threading
import time

import lab
import terminal
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"), start=False)
gate.start()


def configure(*statements):
    gate.console("; ".join(statements) + '; commit "test" Y')


def submit(rcpt, message=None, sender=""):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message(sender, [rcpt], message or lab.make_message("hostile"))
        c.quit()


def grep(pattern):
    """The final answer to a search."""
    c = Control(gate.home)
    c.send("log.grep", name="mail_logs", patterns=[pattern])
    while True:
        answer = c.receive()
        if "ok" in answer:
            return answer


def most_memory(pid):
    """MiB, ever."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+) kB", f.read())[1]) >> 10


@lab.test("an expression cannot exhaust the stack, the memory or the time of the engine")
def expressions():
    engine = gate.engine
    for pattern in ("(" * 480 + "a" + ")" * 480, "(((a{1,255}){1,255}){1,255}){1,255}", "((a{9}){9}{9}){9}{9}{9}{9}{9}",
                    "a" + "+" * 900, "(" * 300, "a{1,70000}", "(a|b|" * 190 + "c" + ")" * 190):
        began = time.monotonic()
        answer = grep(pattern)
        lab.equal(answer["ok"], False, pattern[:30])
        assert time.monotonic() - began < 2, pattern[:30]
    lab.equal(gate.engine, engine)
    with open(os.path.join(gate.home, "log", "mail_logs", "mail.current"), "a") as f: # as a sender's subjects might be
        for n in range(500):
            f.write("Sat Nov 28 20:00:00 2026 Info: " + "".join(random.choice("abcdefghijklmnopqrstuvwxyz aeiou") for _ in range(400)) + "\n")
    before, began = most_memory(engine), time.monotonic()
    lab.equal(grep(".*[aeiou].{250}#")["ok"], True)
    answer = grep("(.*)(.*)(.*)(.*)(.*)[#%]\\d")
    lab.equal((answer["ok"], "takes too long for a line" in str(answer)), (False, True), str(answer))
    lab.equal((time.monotonic() - began < 10, most_memory(engine) - before < 50), (True, True))
    for pattern in ("MID [0-9]{1,9} (ready|queued)", "((a|b)(c|d))+", "^.{10,200}$", "a[{(]b", r"\(x\{"):
        lab.equal(grep(pattern)["ok"], True, pattern)


@lab.test("a connection left open in clear carries nothing once TLS is required")
def raised():
    sink = lab.Sink("--no-starttls")
    configure("smtproutes new raise.example 127.0.0.1:%d" % sink.port, "destconfig new raise.example use_tls=off")
    submit("a@raise.example")
    sink.wait_messages(1)
    configure("destconfig edit raise.example use_tls=require")
    submit("b@raise.example") # while the connection lingers
    gate.maillog().wait_for(r"TLS was required but could not be successfully negotiated")
    lab.equal(sink.stats()["messages"], 1)


def as_daemon(role, what):
    """The result of what(control) for the user daemon with a role, in a process of its own."""
    admin = Control(gate.home)
    admin.stage("user", "daemon", {"role": role})
    admin.ok("commit")
    os.chmod(box.dir, 0o755)
    os.chmod(gate.home, 0o755)
    os.chmod(os.path.join(gate.home, "run"), 0o755)
    os.chmod(os.path.join(gate.home, "run", "control"), 0o666)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgid(1)
            os.setuid(1)
            os.write(write, json.dumps(what(Control(gate.home))).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        text = f.read()
    lab.equal(os.waitpid(pid, 0)[1], 0, "the other user's process")
    return json.loads(text)


@lab.test("an operator does not come by secrets through the export area, nor out of it")
def export_area():
    lab.need_root()
    admin = Control(gate.home)
    plain = admin.ok("config.export", secrets="plain")["text"]
    assert "PRIVATE KEY-----" in plain
    admin.ok("file.write", name="backup", text=plain)
    admin.ok("file.write", name="json", text=admin.ok("config.export", secrets="plain", format="json")["text"])
    admin.ok("file.write", name="masked", text=admin.ok("config.export")["text"])

    def tries(c):
        codes = [c.call("file.read", name=n).get("code", "ok") for n in
                 ("backup", "json", "masked", "../config.db", "..", "/etc/passwd", ".new", "a/b", "seal.key", "")]
        codes.append(c.call("file.write", name="../x", text="x").get("code", "ok"))
        codes += [c.call("file.write", name=n, text=n).get("code", "ok") for n in ("masked", "backup", "own", "own")]
        codes.append(c.call("config.export", secrets="plain").get("code", "ok"))
        codes.append(c.call("config.export", secrets="encrypt", passphrase="x").get("code", "ok"))
        return codes

    lab.equal(as_daemon("operator", tries),
              ["E_DENIED", "E_DENIED", "ok"] + ["E_USAGE"] * 5 + ["E_NOT_FOUND", "E_USAGE", "E_USAGE", "E_DENIED", "E_DENIED",
                                                                  "ok", "ok", "E_DENIED", "E_DENIED"])
    lab.equal(admin.ok("file.read", name="backup")["text"], plain)


# What each role may do, in full; what is not here an administrator alone may.
READ = ["config.get", "config.list", "config.diff", "config.export", "commit.last", "history", "session.who", "log.list",
        "log.tail", "log.grep", "cert.list", "cert.detail", "cert.check", "queue.list", "authority.status", "authority.list",
        "alert.list", "sts.list", "sts.show",
        "host.status", "host.top", "host.rate", "host.in", "log.find", "log.events", "tls.failures",
        "dns.status", "tls.explain", "tls.attempts", "cert.tlsa", "auth.locked", "access.find", "crl.list", "crl.check",
        "ldap.status", "queue.work"]
GUEST = ["hello", "candidate.state", "candidate.anonymous", "status", "status.rate"]
CHANGE = ["candidate.attach", "candidate.keep", "config.stage", "config.clear", "config.resolve", "commit", "rollback",
          "config.import", "file.write", "file.read", "file.list", "queue.deliver", "queue.suspend", "queue.resume",
          "queue.delete", "queue.bounce", "queue.redirect", "queue.message", "queue.oldest", "queue.archive", "log.rollover",
          "status.reset", "debug.fibers", "dane.verify", "tls.verify", "alert.test", "sts.refresh", "tls.failures.clear",
          "dns.query", "dns.flush", "net.ping", "telnet.open", "telnet.send", "telnet.close", "dest.import", "dest.export", "dest.clear",
          "access.import", "access.export", "access.clear", "access.reset",
          "auth.unlock", "crl.update", "ldap.check", "ldap.test", "ldap.flush"]
ALL = ["cert.new", "cert.paste", "cert.import", "cert.export", "cert.csr", "authority.import", "authority.export", "authority.update",
       "sts.flush"]


@lab.test("an operator chooses DNS servers, but trusts no key of his own, and touches nothing that makes others safe")
def trust_anchors():
    lab.need_root()

    def tries(c):
        return [c.call("config.stage", changes=[{"section": section, "name": name, "body": body}]).get("code", "ok")
                for section, name, body in (
                    ("dns_server", "192.0.2.1", {"address": "192.0.2.1"}),
                    ("dns_anchor", "example", {"domain": "example", "records": ["DS 1 13 2 " + "ab" * 32]}),
                    ("crl_setup", "-", {"inbound": False}), ("crl_source", "own", {"name": "own", "url": "http://evil.example.com/x.crl"}),
                    ("bv_setup", "-", {}), ("bv_key", "0", {"name": "0", "key": {"$plain": "mine"}}),
                    ("resource_limits", "-", {}),
                )]

    lab.equal(as_daemon("operator", tries), ["ok"] + ["E_DENIED"] * 6)


@lab.test("an operator gets to see nobody's password: neither what is stored nor what is sent where he says")
def passwords():
    lab.need_root()
    gate.configure("ldapconfig new Directory hosts=ldap.example.com base=\"dc=example,dc=com\" auth=password "
                   "bind_dn=\"cn=gateway,dc=example,dc=com\" bind_password=hunter2\n"
                   "ldapconfig query new Directory.smtpauth server=Directory filter=\"(uid={u})\"\n"
                   "smtpauthconfig new users kind=ldap query=Directory.smtpauth\n"
                   "smtpauthconfig new smarthost kind=outgoing username=gateway password=hunter2\n"
                   "smtproutes new by.example.com relay.example.com auth_profile=smarthost\n"
                   "smtproutes new direct.example.com relay.example.com\n")

    def tries(c):
        def stage(section, name, body, **more):
            return c.call("config.stage", changes=[dict(section=section, name=name, body=body, **more)]).get("code", "ok")

        def changed(section, name, **fields):
            body = c.ok("config.get", section=section, name=name)["body"]
            return stage(section, name, dict(body, **fields))

        seen = json.dumps([c.call("config.list", section=section, bodies=True) for section in
                           ("ldap_server", "smtpauth_profile")] + [c.ok("config.export")["text"], c.ok("config.export", format="json")["text"]])
        route = "smtproutes set direct.example.com hosts=relay.example.com auth_profile=smarthost\n"
        return ["hunter2" in seen] + [
            changed("ldap_server", "Directory", hosts=["evil.example.com"]), changed("ldap_query", "Directory.smtpauth", filter="(uid=*)"),
            changed("ldap_setup", "-", source_address="127.0.0.1"), changed("smtpauth_profile", "users", allow_auth=True),
            stage("smtpauth_server", "users/evil.example.com:25", {"name": "evil.example.com:25"}),
            stage("ldap_server", "Directory", None),
            changed("smtp_route", "by.example.com", hosts=["evil.example.com"]),
            changed("smtp_route", "direct.example.com", auth_profile="smarthost"),
            c.call("config.import", text=route).get("code", "ok"),
            changed("smtp_route", "direct.example.com", hosts=["elsewhere.example.com"]),
            changed("smtp_route", "by.example.com", hosts=["evil.example.com"], auth_profile="")]

    lab.equal(as_daemon("operator", tries), [False] + ["E_DENIED"] * 9 + ["ok", "ok"])
    done = gate.console("showconfig")
    lab.equal("hunter2" in done.stdout, False)


@lab.test("an operator does not bring a smart host's password to a host of his by a conflict or a merge")
def by_merge():
    lab.need_root()
    admin = Control(gate.home)

    def hosts_of(c, name):
        return c.ok("config.get", section="smtp_route", name=name)["body"]["hosts"]

    def tries(c):
        def stage(name, **fields):
            body = c.ok("config.get", section="smtp_route", name=name)["body"]
            c.stage("smtp_route", name, dict(body, **fields))

        codes = []
        stage("by.example.com", hosts=["evil.example.com"], auth_profile="")
        for field in ("auth_profile", None):
            how = {"field": field} if field else {}
            codes.append(c.call("config.resolve", section="smtp_route", name="by.example.com", take="theirs", **how).get("code", "ok"))
            codes.append(c.call("commit").get("code", "ok"))
        c.ok("config.clear")
        stage("later.example.com", hosts=["evil.example.com"])
        os.write(turn[1], b"x")
        lab.eventually(lambda: c.ok("config.get", section="smtp_route", name="later.example.com", revision="running")["body"]["auth_profile"])
        codes.append(c.call("commit").get("code", "ok"))
        c.ok("config.clear")
        return codes

    def gives_profile():
        done.append(os.read(turn[0], 1))
        gate.configure("smtproutes set later.example.com auth_profile=smarthost\n")

    done, turn = [], os.pipe()
    gate.configure("smtproutes new later.example.com relay.example.com\n")
    administrator = threading.Thread(target=gives_profile, daemon=True)
    administrator.start()
    codes = as_daemon("operator", tries)
    administrator.join(20)
    lab.equal((done, codes), ([b"x"], ["ok", "E_DENIED", "ok", "ok", "E_DENIED"]))
    lab.equal([hosts_of(admin, n) for n in ("by.example.com", "later.example.com")], [["relay.example.com"]] * 2)


@lab.test("an engine in the foreground asks for no passphrase of a PEM text that somebody sends")
def encrypted_pem():
    home = box.path("foreground")
    ports = lab.Posternd(home, start=False).env["POSTERN_TEST_PORTS"]
    terminal.Terminal([lab.binary("posternd"), "--home", home], env={"POSTERN_TEST_PORTS": ports})
    lab.eventually(lambda: os.path.exists(os.path.join(home, "run", "control")), 20)
    c = lab.eventually(lambda: Control(home), 20)
    c.ok("candidate.anonymous")
    c.ok("config.stage", changes=[
        {"section": "ldap_server", "name": "lab", "body": {"hosts": ["127.0.0.1:1"], "base": "dc=x"}},
        {"section": "ldap_query", "name": "q", "body": {"server": "lab", "kind": "certauth", "filter": "(cn={cn})", "fields": ["cn"],
                                                        "user_attribute": "uid"}}])
    pem = ("-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,%s\n\n%s=\n-----END CERTIFICATE-----\n"
           % ("0" * 32, "A" * 43))
    number, answers = c.send("ldap.test", query="q", certificate=pem), []
    waiting = threading.Thread(target=lambda: answers.append(c.receive()), daemon=True)
    waiting.start()
    waiting.join(10)
    lab.equal([(a["id"], a["ok"], a["message"]) for a in answers], [(number, False, "The certificate cannot be read.")])


@lab.test("every operation asks for its role")
def operations():
    lab.need_root()

    def allowed(c):
        return [op for op in GUEST + READ + CHANGE + ALL if c.call(op, name="none", follow=False).get("code") != "E_DENIED"]

    lab.equal(as_daemon("guest", allowed), GUEST)
    lab.equal(as_daemon("readonly", allowed), GUEST + READ)
    source = "".join(lab.read_text(os.path.join(lab.ROOT, "daemon", f)) for f in os.listdir(os.path.join(lab.ROOT, "daemon"))
                     if f.startswith("control_") and f.endswith(".c"))
    lab.equal(sorted(re.findall(r'\{"([a-z.]+)",\s*ROLE_', source)), sorted(GUEST + READ + CHANGE + ALL))


@lab.test("a private key that is pasted is not shown")
def pasted_key():
    pair = lab.make_cert(box.path("pair"), "paste.example")
    t = terminal.console(gate, rows=400, columns=200)
    t.ask("certconfig", r"\[\]> ")
    t.ask("certificate", r"\[\]> ")
    t.ask("paste", r"profile:\n> ")
    t.ask("unseen", r"end with '\.'\):\n")
    for line in lab.read_text(pair.cert).splitlines() + ["."]:
        t.type(line)
    t.until(r"format \? \[N\]> ")
    t.ask("", r"private key in PEM format \(end with '\.'\):\n")
    for line in lab.read_text(pair.key).splitlines() + ["."]:
        t.type(line)
    t.until(r"intermediate certificate\? \[N\]> ")
    for line in lab.read_text(pair.key).splitlines()[1:-1]:
        lab.equal(line in t.log, False, "a line of the key")
    t.stop()


def next_hop(reply):
    """A server that answers RCPT with the bytes of reply; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    lab.at_end(listener.close)

    def serve():
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with s, s.makefile("rb") as f:
                s.sendall(b"220 x\r\n")
                for line in f:
                    verb = line[:4].upper()
                    try:
                        s.sendall(reply if verb == b"RCPT" else b"221 x\r\n" if verb == b"QUIT" else
                                  b"503 x\r\n" if verb == b"DATA" else b"250 x\r\n")
                    except OSError:
                        break

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


EVIL = "\x1b[31m\x07\u202e\u2066\x7f\x9b2J"


@lab.test("what a next hop or a sender says reaches no log, report or terminal raw")
def escapes():
    reports = lab.Sink(store=box.path("reports"))
    port = next_hop(b"550-5.1.1 one " + EVIL.encode() + b"\xff\xfe\r\n550 5.1.1 two\tStatus: 2.0.0 " + EVIL.encode() + b"\r\n")
    later = next_hop(b"451-4.1.1 " + EVIL.encode() + b"\r\n451 4.1.1 two\r\n")
    configure("smtproutes new evil.example 127.0.0.1:%d" % port, "smtproutes new later.example 127.0.0.1:%d" % later,
              "smtproutes new reports.example 127.0.0.1:%d" % reports.port)
    for domain in ("evil", "later"):
        with lab.Smtp(gate.private) as c:
            c.raw(("EHLO a\x1b[31m\u202eb.example\r\n").encode())
            c.reply()
            c.ehlo()
            c.raw('MAIL FROM:<"a\x1bb"@reports.example>\r\n'.encode())
            c.reply()
            c.cmd("RSET", 250)
            c.cmd("MAIL FROM:<a@reports.example>", 250)
            c.raw('RCPT TO:<"x\u202e\x1b\u2066"@{0}.example>\r\n'.format(domain).encode())
            c.reply()
            c.cmd("RCPT TO:<x@%s.example>" % domain, 250)
            c.cmd("DATA", 354)
            c.raw(("Subject: %s\r\nMessage-ID: <%s@a>\r\n\r\nbody\r\n.\r\n" % (EVIL, EVIL)).encode())
            c.expect(250)
            c.quit()
    reports.wait_messages(1, 15)
    gate.maillog().wait_for(r"Delayed: .*4\.1\.1")
    with open(box.path("reports", "1.eml"), "rb") as f:
        report = f.read().split(b"message/rfc822")[0].split(b"message/global\r\n")[0]
    lab.match(report.decode(), r"(?m)^Status: 5\.1\.1\r$")
    lab.equal(re.findall(rb"(?m)^Status: 2", report), [], report) # within a folded field it is text
    shown = gate.console("showrecipients all", check=False).stdout + gate.console("status detail", check=False).stdout
    texts = {"report": report, "console": shown.encode()}
    for root, _, files in os.walk(os.path.join(gate.home, "log")):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                texts[name] = f.read()
    assert len(texts) > 3, texts.keys()
    for name, text in texts.items():
        for bad in (b"\x1b", b"\x07", b"\x7f", "\u202e".encode(), "\u2066".encode(), "\x9b".encode(), b"\xff"):
            lab.equal(bad in text, False, "%s has %r" % (name, bad))


@lab.test("a secret is in no log, history, database or error text, whatever went wrong with it")
def canary():
    word = "Canary0x5eedfeed"
    admin = Control(gate.home)
    body = admin.ok("config.get", section="certificate", name="Demo")["body"]
    answers = []

    def stage(value):
        answers.append(admin.call("config.stage", changes=[{"section": "certificate", "name": "c1", "body": {
            "certificate": body["certificate"], "private_key": value}}]))

    for value in (word, ["$plain", word], {"$plain": word, "more": word}, {"plain": word}, {"$plain": word}):
        stage(value)
    pem = "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % word
    answers.append(admin.call("cert.paste", name="c2", certificate=body["certificate"], private_key=pem))
    for text in ("certconfig new c3 private_key=%s bogus=1" % word, "certconfig nonsense private_key=%s" % word,
                 "certconfig new c4 private_key=\"%s" % word, '{"certificate": [{"name": "c5", "private_key": "%s"' % word,
                 "certconfig new c6 private_key=<<END\n%s\n" % word, "certconfig new c7 private_key=encrypted:%s" % word,
                 "certconfig new c8 private_key=sealed:%s" % word):
        answers.append(admin.call("config.import", text=text))
        answers.append(admin.call("config.import", text=text, passphrase=word))
    answers.append(admin.call("commit", comment="canary"))
    answers.append(admin.call("config.export", secrets="encrypt", passphrase=word))
    admin.call("config.clear")
    for text in ("certconfig new c9 private_key=%s bogus=1" % word, "certconfig paste c9 private_key=%s" % word):
        done = gate.console(text, check=False)
        answers.append(done.stdout + (done.stderr or ""))
    for a in answers:
        lab.equal(word in json.dumps(a), False, json.dumps(a)[:300])
    for root, _, files in os.walk(gate.home):
        for name in files:
            if name == "control": # the socket
                continue
            with open(os.path.join(root, name), "rb") as f:
                lab.equal(word.encode() in f.read(), False, name)


lab.main()
