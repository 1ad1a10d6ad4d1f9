# What a hostile MX host may put into its certificates: names by the thousand, long chains, keys of every kind, sequences for
# terminals. The engine lives through the handshake on the small stack of a fiber, and nothing of it reaches a terminal.

import base64
import os
import random
import re
import socket
import ssl
import threading

import lab
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
certs = box.mkdir("certs")


class Host:
    """Speaks so much SMTP that a handshake follows."""

    def __init__(self, chain, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        s, _ = self.listener.accept()
        s.settimeout(20)
        try:
            s.sendall(b"220 hostile ESMTP\r\n")
            s.recv(1000)
            s.sendall(b"250-hostile\r\n250 STARTTLS\r\n")
            s.recv(1000)
            s.sendall(b"220 go\r\n")
            t = self.context.wrap_socket(s, server_side=True)
            t.recv(1000)
            t.sendall(b"250 hostile\r\n")
            t.recv(1000)
        except OSError:
            pass
        s.close()
        self.listener.close()


def make(stem, *argv, extensions=""):
    crt, key = os.path.join(certs, stem + ".crt"), os.path.join(certs, stem + ".key")
    config = box.write("certs/%s.cnf" % stem, "[req]\ndistinguished_name=d\nx509_extensions=e\nstring_mask=utf8only\n[d]\n[e]\n"
                       "subjectKeyIdentifier=none\n" + extensions)
    lab.run(["openssl", "req", "-x509", "-nodes", "-utf8", "-keyout", key, "-out", crt, "-days", "30", "-config", config, *argv])
    return lab.CertPair(crt, key)


def chain_of(length):
    """A leaf and what is above it, none of which anybody knows."""
    pairs = [make("c0", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=ca0",
                  extensions="basicConstraints=critical,CA:TRUE\n")]
    for i in range(1, length):
        above = pairs[-1]
        pairs.append(make("c%d" % i, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=ca%d" % i,
                          "-CA", above.cert, "-CAkey", above.key, extensions="basicConstraints=critical,CA:TRUE\n"))
    return box.write("certs/chain.pem", "".join(lab.read_text(p.cert) for p in reversed(pairs))), pairs[-1].key


def verify(chain, key):
    host = Host(chain, key)
    shown = gate.console("tlsverify hostile.example 127.0.0.1:%d" % host.port, check=False).stdout
    lab.match(shown, "TLS connection established: protocol TLSv1.3", "the handshake was done")
    return shown


@lab.test("the handshake survives every kind of key, thousands of names and a long chain")
def kinds():
    engine = gate.engine
    for stem, options in (("p521", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
                          ("explicit", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt",
                                        "ec_param_enc:explicit"]),
                          ("ed448", ["-newkey", "ed448"]), ("rsa", ["-newkey", "rsa:4096"]),
                          ("pss", ["-newkey", "rsa-pss"])):
        pair = make(stem, *options, "-subj", "/CN=hostile.example")
        verify(pair.cert, pair.key)
        lab.equal(gate.engine, engine, stem)
    names = "subjectAltName=" + ",".join("DNS:n%d.example" % i for i in range(4000)) + "\n"
    pair = make("names", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=hostile.example", extensions=names)
    verify(pair.cert, pair.key)
    lab.equal(gate.engine, engine, "names")
    verify(*chain_of(60))
    lab.equal(gate.engine, engine, "a chain")


@lab.test("a subject with sequences for terminals is shown escaped")
def escapes():
    pair = make("esc", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=\x1b]0;owned\x07\x1b[31m\u202eevil")
    shown = verify(pair.cert, pair.key)
    lab.match(shown, r"common name .*x1B\]0;owned")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", shown.replace("\r", "")), repr(shown)


NASTY = b"\x1b]0;owned\x07\x1b[31m\xc2\x9b1m\xe2\x80\xae\x9b2J"


class Talker:
    """Greets and then refuses everything, with sequences for terminals in each reply."""

    def __init__(self, greeting=b"220 hi " + NASTY, mail=b"550 5.7.1 " + NASTY):
        self.greeting, self.mail = greeting, mail
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            s, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        s.settimeout(20)
        try:
            s.sendall(self.greeting + b"\r\n")
            for line in s.makefile("rb"):
                if line.upper().startswith((b"EHLO", b"HELO")):
                    s.sendall(b"250-hostile " + NASTY + b"\r\n250 STARTTLS\r\n")
                elif line.upper().startswith(b"STARTTLS"):
                    s.sendall(b"454 4.7.0 " + NASTY + b"\r\n")
                elif line.upper().startswith(b"QUIT"):
                    s.sendall(b"221 bye\r\n")
                    break
                else:
                    s.sendall(self.mail + b"\r\n")
        except OSError:
            pass
        s.close()


@lab.test("what a host says reaches no terminal unescaped: statistics, records, alerts, tests, logs")
def replies():
    refuses, greets = Talker(), Talker(greeting=b"554 " + NASTY)
    gate.console("; ".join((
        "smtproutes new refuses.example 127.0.0.1:%d" % refuses.port, "smtproutes new greets.example 127.0.0.1:%d" % greets.port,
        "smtproutes new strict.example 127.0.0.1:%d" % refuses.port,
        "destconfig new strict.example use_tls=require", "destconfig setup send_tls_req_alert=yes",
        "destconfig new refuses.example use_tls=off",
        "smtproutes new ops.example 127.0.0.1:9", "alertconfig new ops@ops.example", 'commit "test" Y')))
    for domain in ("refuses", "greets", "strict"):
        with lab.Smtp(gate.private) as c:
            c.ehlo()
            c.message("a@client.example", ["b@%s.example" % domain], lab.make_message("nasty"))
            c.quit()
    log = gate.maillog()
    log.wait_for(r"Bounced: DCID")
    lab.eventually(lambda: len(log.find(r"Delayed: DCID")) >= 2, 15, "two are delayed")
    for command in ("hoststatus refuses.example", "hoststatus greets.example", "hoststatus strict.example", "tophosts",
                    "showrecipients all", "tlsexplain strict.example", "tlsexplain mid 1", "tlsexplain mid 2",
                    "tlsexplain mid 3", "displayalerts", "tlsverify refuses.example 127.0.0.1:%d" % refuses.port,
                    "tlsverify greets.example 127.0.0.1:%d" % greets.port, 'grep "DCID" mail_logs'):
        shown = gate.console(command, check=False).stdout
        bad = re.findall(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f\x80-\x9f\u202e\udc80-\udcff]", shown)
        lab.equal(bad, [], command)
    for path in log.files():
        with open(path, "rb") as f:
            assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2\x9b|\xe2\x80\xae", f.read()), path


SECRET = "Gruen3Wiesen-%06d" % random.randrange(10 ** 6)


@lab.test("pass phrases are in no file below the home and in no answer")
def secrets():
    pair = lab.make_cert(certs, "held.example")
    p12 = lab.run(["openssl", "pkcs12", "-export", "-in", pair.cert, "-inkey", pair.key, "-passout", "pass:" + SECRET, "-out",
                   box.path("held.p12")]) and open(box.path("held.p12"), "rb").read()
    control = Control(gate.home)
    control.ok("cert.import", name="held", data=base64.b64encode(p12).decode(), pass_phrase=SECRET)
    control.ok("commit")
    control.ok("cert.export", name="held", file="again.p12", pass_phrase=SECRET)
    gate.configure("updateconfig set proxy_host=127.0.0.1 proxy_user=u proxy_password=<<X\n%s\nX\n" % SECRET)
    shown = [gate.console(c, check=False).stdout for c in ("showconfig", "updateconfig show", "history", "certconfig certificate list")]
    shown.append(gate.batch("updateconfig set proxy_password=<<X\n%sx\nX\nshowchanges\n" % SECRET).stdout)
    for text in shown:
        assert SECRET not in text, text
    for directory, _, names in os.walk(gate.home):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    assert SECRET.encode() not in f.read(), path


@lab.test("who made the gateway connect somewhere is in the audit log, as with telnet")
def audited():
    gate.console("tlsverify audited.example 127.0.0.1:9", check=False)
    gate.console("daneverify audited.example", check=False)
    gate.stop() # it has its audit log for itself
    rows = lab.run(["sqlite3", os.path.join(gate.home, "audit.db"),
                    "SELECT action, object FROM audit WHERE action LIKE '%verify' AND object IN ('127.0.0.1:9', 'audited.example')"])
    lab.equal(sorted(rows.stdout.split()), ["daneverify|audited.example", "tlsverify|127.0.0.1:9"])


if __name__ == "__main__":
    lab.main()
