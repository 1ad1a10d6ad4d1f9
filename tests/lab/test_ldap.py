# The LDAP client against slapd, and against servers that are dead, mute, hostile: binds, passwords as attributes, allowance,
# certificates, TLS both ways, several hosts, the cache.
# timeout: 400

import base64
import os
import re
import socket
import threading
import time

import lab
import slapd
from control import Control

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
state = {}

ALLOWANCE = "(&(uid={u})(|(!(caccn=*))(cacexempt=*)(cacemergency>={t})))"
CERTIFICATE = "(&(objectClass=cacUser)(caccn={cn})(cacserial={sn}))"


def directory():
    """The one most tests share."""
    if "directory" not in state:
        d = state["directory"] = slapd.Slapd(box, log="stats", verify_client="try")
        d.user("alice", "secret")
        d.user("bob", "hunter2", scheme="crypt", caccn="Bob Builder", cacserial="0A1B2C", cacemergency="20200101000000Z")
        d.user("carol", "pass", scheme="plain", caccn="Carol", cacserial="0B", cacexempt="yes")
        d.user("dave", "pass", scheme="ssha512", caccn="Dave", cacserial="0C", cacemergency=slapd.generalized_time(3600))
        d.user("argon", "pass", scheme="argon2")
        d.user("nopass")
        d.user("odd(*)\\name", "pass", caccn="a*b", cacserial="(1)")
        d.user("twin", "pass", cn="same")
        d.user("twin2", "pass", cn="same")
    return state["directory"]


def gate():
    if not gateway.child:
        gateway.start()
        gateway.configure("sethostname gw.lab.example\nsmtproutes new ALL /dev/null\n")
        gateway.configure("certconfig certauthority custom set directory certificate=<<CA\n%sCA\n"
                          "certconfig certauthority set custom_list=yes\n" % lab.read_text(directory().ca))
    return gateway


class Staged:
    """A control connection with objects staged on it, not committed."""

    def __init__(self, *objects):
        self.control = Control(gate().home)
        self.control.ok("candidate.anonymous")
        self.put(*objects)

    def put(self, *objects):
        self.control.ok("config.stage", changes=[{"section": s, "name": n, "body": b} for s, n, b in objects])

    def stream(self, op, **args):
        """(events, data) of a request that streams."""
        number = self.control.send(op, **args)
        events = []
        while True:
            answer = self.control.receive()
            lab.equal(answer["id"], number)
            if not answer.get("more"):
                if not answer["ok"]:
                    raise lab.Failure("%s: %s" % (op, answer["message"]))
                return events, answer["data"]
            events.append(answer["data"])

    def test(self, query="q", **args):
        events, data = self.stream("ldap.test", query=query, **args)
        return data["verdict"], events

    def verdict(self, query="q", **args):
        return self.test(query, **args)[0]

    def check(self, server="lab"):
        events, data = self.stream("ldap.check", server=server)
        return data["success"], [e["line"] for e in events]

    def close(self):
        self.control.close()


def server(d=None, name="lab", hosts=None, **fields):
    d = d or directory()
    body = {"hosts": hosts or ["127.0.0.1:%d" % d.port], "base": slapd.PEOPLE, "connect_timeout": 2, "query_timeout": 4}
    body.update(fields)
    return ("ldap_server", name, body)


def service():
    return {"auth": "password", "bind_dn": slapd.SERVICE_DN, "bind_password": {"$plain": slapd.SERVICE_PASSWORD}}


def query(name="q", **fields):
    return ("ldap_query", name, dict({"server": "lab", "filter": "(uid={u})"}, **fields))


def tries(s, users):
    return [s.verdict(user=u, pass_phrase=p) for u, p in users]


# --- what is asked --------------------------------------------------------------------------------------------

@lab.test("bind: the right password, a wrong one, none, somebody unknown, somebody found twice")
def bind():
    s = Staged(server(), query(allowance=""))
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "accept", events)
    lab.equal({k: events[0][k] for k in ("host", "filter", "base", "dn", "result")}, {
        "host": "127.0.0.1:%d" % directory().port, "filter": "(uid=alice)", "base": slapd.PEOPLE,
        "dn": "uid=alice,ou=people,dc=example,dc=com", "result": "match"})
    verdict, events = s.test(user="alice", pass_phrase="wrong")
    lab.equal((verdict, events[0]["result"]), ("reject", "denied"))
    lab.match(events[0]["reason"], r'LDAP authentication failed: <LDAP Error "invalidCredentials" \[0x31\]>')
    lab.equal(s.verdict(user="alice@example.com", pass_phrase="secret"), "accept")
    lab.equal(s.verdict(user="alice"), "accept", "without a password only who it is")
    verdict, events = s.test(user="nobody", pass_phrase="secret")
    lab.equal((verdict, events[0]["result"], events[0]["reason"]),
              ("reject", "no match", "no matching LDAP record was found"))
    lab.equal(tries(s, [("bob", "hunter2"), ("carol", "pass"), ("dave", "pass"), ("argon", "pass"), ("argon", "Pass"),
                        ("nopass", "pass")]),
              ["accept", "accept", "accept", "accept", "reject", "reject"])
    # RFC 4513: a bind without a password succeeds and proves nothing; it is never tried
    binds = directory().binds()
    verdict, events = s.test(user="alice", pass_phrase="")
    lab.equal((verdict, events[0]["result"]), ("reject", "denied"))
    lab.match(events[0]["reason"], "empty")
    lab.equal(directory().binds() - binds, 1, "only the one that asks")
    s.put(query(filter="(cn={u})"))
    verdict, events = s.test(user="same", pass_phrase="pass")
    lab.equal((verdict, events[0]["result"]), ("reject", "several"))
    s.close()


@lab.test("password as an attribute: by the hash schemes, and when it may not be read")
def attribute():
    s = Staged(server(**service()), query(method="attribute"))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "Secret"), ("bob", "hunter2"), ("bob", "hunter3"), ("carol", "pass"),
                        ("carol", "passs"), ("dave", "pass"), ("argon", "pass"), ("nopass", "x"), ("nobody", "x")]),
              ["accept", "reject", "accept", "reject", "accept", "reject", "accept", "accept", "reject", "reject"])
    directory().modify("alice", replace={"description": "secret2"})
    s.put(query(method="attribute", password_attribute="description"))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "secret2")]), ["reject", "accept"])
    s.put(query(method="attribute"), server()) # anonymous
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal((verdict, events[0]["result"]), ("reject", "denied"))
    lab.match(events[0]["reason"], "no attribute userPassword")
    s.close()


@lab.test("a user with many costly passwords keeps nobody waiting for longer than an answer may take")
def costly():
    directory().user("costly", userPassword=["{CRYPT}$6$rounds=1000000$salt%d$%s" % (i, "x" * 86) for i in range(60)])
    s = Staged(server(query_timeout=1, **service()), query(method="attribute"))
    began = time.monotonic()
    verdict, events = s.test(user="costly", pass_phrase="pass")
    lab.match(events[0]["reason"], "the 20 values of the attribute userPassword take too long")
    lab.equal((verdict, time.monotonic() - began < 6), ("error", True))
    s.close()


@lab.test("allowance: no card, exempt, an emergency that lasts; not with a card and an emergency of the past")
def allowance():
    s = Staged(server(), query(allowance=ALLOWANCE))
    lab.equal(tries(s, [("alice", "secret"), ("bob", "hunter2"), ("carol", "pass"), ("dave", "pass")]),
              ["accept", "reject", "accept", "accept"])
    verdict, events = s.test(user="bob", pass_phrase="hunter2")
    lab.equal([(e["step"], e["result"]) for e in events], [("query", "match"), ("allowance", "no match")])
    lab.match(events[1]["filter"], r"^\(&\(uid=bob\)\(\|\(!\(caccn=\*\)\)\(cacexempt=\*\)\(cacemergency>=20\d{12}Z\)\)\)$")
    lab.match(events[1]["reason"], "may not use SMTP AUTH")
    directory().modify("bob", replace={"cacemergency": slapd.generalized_time(60)})
    lab.equal(s.verdict(user="bob", pass_phrase="hunter2"), "accept")
    directory().modify("bob", replace={"cacemergency": slapd.generalized_time(-60)})
    lab.equal(s.verdict(user="bob", pass_phrase="hunter2"), "reject")
    s.close()


@lab.test("certificates: the query finds one user by the chosen fields, and nobody by what a certificate has not")
def certificates():
    s = Staged(server(), query(kind="certauth", filter=CERTIFICATE, fields=["cn", "sn"]))
    verdict, events = s.test(values={"cn": "Bob Builder", "sn": "0A1B2C"})
    lab.equal((verdict, events[0]["user"], events[0]["dn"]), ("accept", "bob", "uid=bob,ou=people,dc=example,dc=com"))
    lab.equal(events[0]["filter"], "(&(objectClass=cacUser)(caccn=Bob Builder)(cacserial=0A1B2C))")
    lab.equal([s.verdict(values=v) for v in (
        {"cn": "Bob Builder", "sn": "0B"}, {"cn": "*", "sn": "*"}, {"cn": "Bob Builder"}, {}, {"cn": "", "sn": "0A1B2C"})],
        ["reject"] * 5)
    verdict, events = s.test(values={"cn": "a*b", "sn": "(1)"})
    lab.equal((verdict, events[0]["user"]), ("accept", "odd(*)\\name"))
    # a field that is not chosen has no value, whatever the certificate has
    s.put(query(kind="certauth", filter="(|(caccn={cn})(cacserial={sn}))", fields=["cn", "sn"]))
    lab.equal(s.verdict(values={"sn": "0A1B2C"}), "accept", "an empty common name spoils only its own part")
    # not even under "not"
    s.put(query(kind="certauth", filter="(&(cacserial={sn})(!(caccn={cn})))", fields=["cn", "sn"]))
    lab.equal(s.verdict(values={"sn": "0A1B2C"}), "reject")
    lab.equal(s.verdict(values={"sn": "0A1B2C", "cn": "somebody else"}), "accept")
    s.put(query(kind="certauth", filter="(caccn={cn})", fields=["cn"], user_attribute="cacexempt"))
    verdict, events = s.test(values={"cn": "Bob Builder"})
    lab.equal(verdict, "reject")
    lab.match(events[0]["reason"], "no user ID attribute cacexempt")
    s.close()


@lab.test("certificates: of a profile and in PEM, and one that would be refused")
def certificate_profiles():
    authority = directory().authority
    pair = lab.make_cert(box.path("user"), "Bob Builder", ca=authority)
    serial = lab.run(["openssl", "x509", "-in", pair.cert, "-noout", "-serial"]).stdout.strip().split("=")[1]
    directory().modify("bob", replace={"cacserial": serial})
    s = Staged(server(), query(kind="certauth", filter=CERTIFICATE, fields=["cn", "sn"]))
    verdict, events = s.test(certificate=lab.read_text(pair.cert))
    lab.equal((verdict, events and events[0].get("user")), ("accept", "bob"), events)
    events, data = s.stream("ldap.test", query="q", certificate="Demo")
    lab.equal(data["verdict"], "reject")
    lab.match(data["reason"], "refused before the directory is asked")
    s.control.refused("E_NOT_FOUND", "ldap.test", query="q", certificate="nothing")
    s.control.refused("E_NOT_FOUND", "ldap.test", query="other")
    directory().modify("bob", replace={"cacserial": "0A1B2C"})
    s.close()


@lab.test("injection: values never become syntax")
def injection():
    s = Staged(server(), query(filter="(&(uid={u})(objectClass=inetOrgPerson))"))
    for user in ("*)(uid=*", "*", "alice)(cn=*", "alice*", "*)(|(uid=*", "\\2a", "a)(objectClass=*))(&(uid=alice",
                 "alice\\00", "(", ")", "alice)", "ali{u}ce", "uid=alice", "*)(userPassword=*)(uid=alice"):
        verdict, events = s.test(user=user, pass_phrase="secret")
        lab.equal((user, verdict, events[0]["result"]), (user, "reject", "no match"))
    verdict, events = s.test(user="odd(*)\\name", pass_phrase="pass")
    lab.equal((verdict, events[0]["filter"]),
              ("accept", "(&(uid=odd\\28\\2a\\29\\5cname)(objectClass=inetOrgPerson))"))
    verdict, events = s.test(user="x\x1b[31m\n\u202e", pass_phrase="pass")
    lab.equal(verdict, "reject")
    lab.equal([c for e in events for v in e.values() for c in str(v) if c in "\x1b\n\u202e"], [])
    lab.equal(s.verdict(user="a" * 5000, pass_phrase="x"), "reject")
    lab.equal(s.verdict(user="alice", pass_phrase="x" * 5000), "reject")
    s.close()


@lab.test("what a directory refuses is said in its own words, and lets nobody in")
def refusals():
    s = Staged(server(base="dc=nowhere,dc=com"), query())
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal((verdict, events[0]["result"]), ("error", "error"))
    lab.match(events[0]["reason"], r'no base "dc=nowhere,dc=com": <LDAP Error "(noSuchObject|referral)')
    s.put(server(), query(base="ou=people,dc=example,dc=com"))
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "accept", "the query's base")
    s.put(server(base="NONE"), query(base=""))
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "error", "no base")
    limited = slapd.Slapd(box, tls=False, extra="sizelimit 1\n")
    limited.user("alice", "secret", description="x")
    limited.user("bob", "secret", description="x")
    s.put(server(limited), query(filter="(|(uid={u})(description={u}))"))
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "accept")
    verdict, events = s.test(user="x", pass_phrase="secret")
    lab.equal((verdict, events[0]["result"]), ("reject", "several"))
    limited.stop()
    closed = slapd.Slapd(box, tls=False, globals="disallow bind_anon\nrequire authc\n", start=False)
    closed.child = lab.Child([lab.which("slapd"), "-d", "0", "-f", closed.config, "-h", closed.url + "/"])
    lab.eventually(lambda: lab.listening(closed.port))
    s.put(server(closed))
    ok, lines = s.check()
    lab.equal(ok, False)
    lab.match(lines[0], r'^Error: LDAP authentication failed: <LDAP Error "inappropriateAuthentication" \[0x30\]>')
    closed.stop()
    s.close()


# --- servers that do what we say ------------------------------------------------------------------------------

class Fake:
    """A server that does with each connection what answer(socket) does."""

    def __init__(self, answer):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.answer = answer
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        try:
            self.answer(c)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for c in self.connections:
            c.close()


def tlv(tag, *parts):
    data = b"".join(parts)
    n = len(data)
    head = bytes([n]) if n < 128 else b"\x84" + n.to_bytes(4, "big")
    return bytes([tag]) + head + data


def message(ident, *parts):
    return tlv(0x30, tlv(2, bytes([ident])), *parts)


def result(tag, code=0, text=b""):
    return tlv(tag, tlv(10, bytes([code])), tlv(4, b""), tlv(4, text))


def entry(dn, *attributes):
    return tlv(0x64, tlv(4, dn), tlv(0x30, *[tlv(0x30, tlv(4, n), tlv(0x31, *[tlv(4, v) for v in vs])) for n, vs in attributes]))


def bound_then(*answers):
    """Takes the bind (message 1), then answers the search (message 2) with these bytes."""
    def serve(c):
        c.recv(65536)
        c.sendall(message(1, result(0x61)))
        c.recv(65536)
        for a in answers:
            c.sendall(a)
        while c.recv(65536):
            pass
    return serve


# --- how it is reached ----------------------------------------------------------------------------------------

@lab.test("ldap.check: bound, refused, unreachable, a name that does not exist")
def check():
    s = Staged(server(**service()))
    lab.equal(s.check(), (True, ["Connected to 127.0.0.1:%d, bound as %s." % (directory().port, slapd.SERVICE_DN)]))
    s.put(server(**dict(service(), bind_password={"$plain": "wrong"})))
    lab.equal(s.check(), (False, ['Error: LDAP authentication failed: <LDAP Error "invalidCredentials" [0x31]> '
                                  '(127.0.0.1:%d)' % directory().port]))
    port = lab.free_port()
    s.put(server(hosts=["127.0.0.1:%d" % directory().port, "127.0.0.1:%d" % port]))
    ok, lines = s.check()
    lab.equal((ok, lines[0]), (False, "Connected to 127.0.0.1:%d, bound anonymously." % directory().port))
    lab.match(lines[1], r"^Error: Server unreachable: unable to connect \(127\.0\.0\.1:%d: .*refused" % port)
    s.put(server(hosts=["no-such-host.invalid"]))
    ok, lines = s.check()
    lab.equal(ok, False)
    lab.match(lines[0], r"^Error: Server unreachable: DNS lookup failure")
    s.control.refused("E_NOT_FOUND", "ldap.check", server="other")
    s.close()


def stage_client_cert(s, d, name="gateway"):
    pair = d.client_cert(name)
    s.put(("certificate", "ldapclient", {"certificate": lab.read_text(pair.cert),
                                         "private_key": {"$plain": lab.read_text(pair.key)}}),
          ("ldap_setup", "-", {"certificate": "ldapclient"}))


@lab.test("LDAPS and StartTLS: verified by host name and authority; a certificate of ours binds")
def tls():
    d = directory()
    s = Staged(server(hosts=["127.0.0.1:%d" % d.ldaps_port], security="ldaps"), query())
    lab.equal(s.check(), (True, ["Connected to 127.0.0.1:%d with LDAPS, bound anonymously." % d.ldaps_port]))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "x")]), ["accept", "reject"])
    s.put(server(hosts=["localhost:%d" % d.ldaps_port], security="ldaps"))
    lab.equal(tries(s, [("alice", "secret")]), ["accept"])
    s.put(server(security="starttls"))
    lab.equal(s.check(), (True, ["Connected to 127.0.0.1:%d with StartTLS, bound anonymously." % d.port]))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "x")]), ["accept", "reject"])
    # EXTERNAL: the directory knows our certificate, and lets its owner read passwords
    stage_client_cert(s, d)
    s.put(server(security="starttls", auth="external"), query(method="attribute"))
    lab.equal(s.check(), (True, ["Connected to 127.0.0.1:%d with StartTLS, bound by certificate." % d.port]))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "x")]), ["accept", "reject"])
    s.put(server(hosts=["127.0.0.1:%d" % d.ldaps_port], security="ldaps", auth="external"))
    lab.equal(tries(s, [("alice", "secret"), ("alice", "x")]), ["accept", "reject"])
    log = d.log_text()
    lab.match(log, r"TLS established tls_ssf=\d+ ssf=\d+ tls_proto=TLS1\.3")
    lab.match(log, r'BIND dn="cn=gateway,dc=example,dc=com" mech=EXTERNAL')
    s.close()


@lab.test("TLS that proves nothing is refused before anything is sent")
def tls_refused():
    other = slapd.Slapd(box, sans=["DNS:other.example"], log="stats")
    other.user("alice", "secret")
    # an authority nobody trusts
    s = Staged(server(other, hosts=["127.0.0.1:%d" % other.ldaps_port], security="ldaps"), query())
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "error")
    lab.match(events[0]["reason"], "certificate is not valid: .*(issuer|self|sign)")
    ok, lines = s.check()
    lab.match(lines[0], r"^Error: Server unreachable: no TLS connection \(127")
    s.put(server(other, security="starttls"))
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "error")
    # a name that is not its own
    gate().configure("certconfig certauthority custom set other certificate=<<CA\n%sCA\n" % lab.read_text(other.ca))
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "error")
    lab.match(events[0]["reason"], "certificate is not valid: (IP address|[Hh]ost ?name) mismatch")
    lab.equal(re.findall(r" (?:BIND|SRCH) .*(?:alice|people).*", "\n".join(
        l for l in other.log_text().splitlines() if "root" not in l and "ADD" not in l)), [])
    # unless the administrator does not care
    s.put(server(other, security="starttls", verify=False))
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "accept")
    # what was sent in clear behind the answer to StartTLS counts for nothing
    stripped = Fake(lambda c: (c.recv(4096), c.sendall(message(1, result(0x78)) + message(2, result(0x61))), c.recv(4096)))
    s.put(server(hosts=["127.0.0.1:%d" % stripped.port], security="starttls", verify=False))
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "error")
    lab.match(events[0]["reason"], "bytes after STARTTLS")
    stripped.close()
    # a server without TLS
    clear = slapd.Slapd(box, tls=False)
    s.put(server(clear, security="starttls"))
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "error")
    lab.match(events[0]["reason"], "refuses StartTLS: <LDAP Error")
    s.close()
    other.stop()
    clear.stop()


# --- hosts that are dead, mute, hostile -----------------------------------------------------------------------

GARBAGE = {
    "HTTP": lambda c: (c.recv(4096), c.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"), c.recv(4096)),
    "SMTP first": lambda c: (c.sendall(b"220 mail ESMTP\r\n"), c.recv(4096)),
    "zeros": lambda c: (c.recv(4096), c.sendall(b"\0" * 100000), c.recv(4096)),
    "a message of 2 GiB": lambda c: (c.recv(4096), c.sendall(b"\x30\x84\x7f\xff\xff\xff" + b"x" * 100000), c.recv(4096)),
    "an endless length": lambda c: (c.recv(4096), c.sendall(b"\x30\x80" + b"x" * 1000), c.recv(4096)),
    "the wrong id": lambda c: (c.recv(4096), c.sendall(message(7, result(0x61))), c.recv(4096)),
    "another answer": lambda c: (c.recv(4096), c.sendall(message(1, result(0x65))), c.recv(4096)),
    "half an answer, then the end": lambda c: (c.recv(4096), c.sendall(message(1, result(0x61))[:-2])),
    "the end": lambda c: c.recv(4096),
    "a notice of disconnection": lambda c: (c.recv(4096), c.sendall(message(0, tlv(
        0x78, tlv(10, b"\x34"), tlv(4, b""), tlv(4, b"going \x1b[31mdown"), tlv(0x8a, b"1.3.6.1.4.1.1466.20036"))))),
    "inner lengths beyond the outer ones": bound_then(message(2, b"\x64\x10\x04\x7fabc\x30\x00" + b"x" * 9)),
    "three entries for two": bound_then(*[message(2, entry(b"uid=u%d" % i)) for i in range(3)], message(2, result(0x65))),
    "entries without end": bound_then(*[message(2, tlv(0x73, tlv(4, b"ldap://x/"))) for i in range(2000)]),
    "a huge attribute": bound_then(message(2, entry(b"uid=alice", (b"uid", [b"x" * 3000000])))),
    "an entry without a name": bound_then(message(2, entry(b"")), message(2, result(0x65))),
    "a name with an octet 0": bound_then(message(2, entry(b"uid=alice\0x")), message(2, result(0x65))),
    "a bind result for a search": bound_then(message(2, result(0x61))),
    "busy": bound_then(message(2, result(0x65, 51, b"try \r\nlater"))),
    "a referral": bound_then(message(2, result(0x65, 10))),
}


@lab.test("hostile servers: refused with a sentence, never a yes")
def hostile():
    s = Staged(server(), query())
    for name, serve in GARBAGE.items():
        fake = Fake(serve)
        s.put(server(hosts=["127.0.0.1:%d" % fake.port]))
        began = time.monotonic()
        verdict, events = s.test(user="alice", pass_phrase="secret")
        took = time.monotonic() - began
        lab.equal((name, verdict), (name, "reject" if "name" in name else "error"))
        if took > 3:
            raise lab.Failure("%s took %.1f s" % (name, took))
        for c in "".join(str(v) for e in events for v in e.values()):
            if ord(c) < 32:
                raise lab.Failure("%s: %r" % (name, events))
        fake.close()
    lab.equal(gate().json("version")["ok"], True)
    s.close()


@lab.test("mute servers: an end in time")
def mute():
    silent = Fake(lambda c: c.recv(1) and time.sleep(60))
    s = Staged(server(hosts=["127.0.0.1:%d" % silent.port], connect_timeout=1, query_timeout=2), query())
    began = time.monotonic()
    verdict, events = s.test(user="alice", pass_phrase="secret")
    lab.equal(verdict, "error")
    lab.match(events[0]["reason"], "no answer in time")
    if time.monotonic() - began > 2.5:
        raise lab.Failure("too slow")
    drip = Fake(lambda c: (c.recv(4096), [(c.sendall(b"\x30"[:1] if i == 0 else b"\x84" if i == 1 else b"\0"), time.sleep(0.2))
                                          for i in range(100)]))
    s.put(server(hosts=["127.0.0.1:%d" % drip.port], connect_timeout=1, query_timeout=2))
    began = time.monotonic()
    lab.equal(s.verdict(user="alice", pass_phrase="secret"), "error")
    if time.monotonic() - began > 2.5:
        raise lab.Failure("a server that drips keeps it")
    s.close()
    silent.close()
    drip.close()


# --- in use: SMTP AUTH ----------------------------------------------------------------------------------------

def commit(*objects):
    c = Control(gate().home)
    c.ok("candidate.anonymous")
    c.ok("config.stage", changes=[{"section": s, "name": n, "body": b} for s, n, b in objects])
    c.ok("commit", comment="ldap")
    c.close()


def use(*objects):
    """Commits the objects, and OutboundMail asks query q of whoever authenticates."""
    c = Control(gate().home)
    listener = c.body("listener", "OutboundMail")
    listener.update(smtp_auth="lab", auth="preferred", auth_needs_tls=False)
    c.close()
    commit(*objects, ("smtpauth_profile", "lab", {"kind": "ldap", "query": "q"}), ("listener", "OutboundMail", listener),
           ("listener_setup", "-", {"auth_failures_host": 100000, "auth_failures_session": 100}))


def auth(user, password):
    """The code AUTH PLAIN gets."""
    word = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
    c = Control(gate().home)
    c.ok("auth.unlock", address="all") # or every failure waits longer than the one before
    c.close()
    with lab.Smtp(gate().private) as own:
        own.ehlo()
        return own.cmd("AUTH PLAIN " + word)[0]


def status(name="lab"):
    c = Control(gate().home)
    servers = {s["name"]: s for s in c.ok("ldap.status")["servers"]}
    c.close()
    return servers[name]


def hosts(name="lab"):
    return [(h["state"], h["connections"]) for h in status(name)["hosts"]]


@lab.test("AUTH PLAIN asks the directory; connections are kept; answers are remembered until they are flushed")
def cache():
    d = directory()
    use(server(cache_ttl=900), query())
    lab.equal([auth("alice", "secret"), auth("alice", "wrong")], [235, 535])
    lab.equal([(h["state"], h["connections"], h["waiting"]) for h in status()["hosts"]], [("up", 2, 0)])
    lab.equal(status()["cache"], {"entries": 2, "max": 10000})
    before = d.searches()
    lab.equal([auth("alice", "secret"), auth("alice", "wrong")], [235, 535])
    lab.equal(d.searches() - before, 1, "only the one that asks")
    d.password("alice", "changed")
    lab.equal(auth("alice", "secret"), 235, "still remembered")
    lab.equal(auth("alice", "changed"), 235, "the new one is asked")
    lab.equal(gate().json("ldapflush lab")["data"], {"flushed": 3})
    lab.equal([auth("alice", "secret"), auth("alice", "changed")], [535, 235])
    d.password("alice", "secret")
    c = Control(gate().home)
    c.ok("ldap.flush")
    c.refused("E_NOT_FOUND", "ldap.flush", server="other")
    c.close()
    lab.equal(auth("alice", "secret"), 235)
    use(server(cache_ttl=0), query())
    before = d.searches()
    lab.equal([auth("alice", "secret") for _ in range(3)], [235] * 3)
    lab.equal(d.searches() - before, 4)
    lab.equal(status()["cache"], {"entries": 0, "max": 0})


@lab.test("AUTH over LDAPS and StartTLS; our certificate; an authority that is trusted no more ends it")
def auth_over_tls():
    d = directory()
    d.password("alice", "secret")
    pair = d.client_cert()
    commit(("certificate", "ldapclient", {"certificate": lab.read_text(pair.cert),
                                          "private_key": {"$plain": lab.read_text(pair.key)}}),
           ("ldap_setup", "-", {"certificate": "ldapclient"}))
    for fields in ({"hosts": ["localhost:%d" % d.ldaps_port], "security": "ldaps"}, {"security": "starttls"}):
        for kind, method in (("anonymous", "bind"), ("external", "attribute")):
            use(server(auth=kind, cache_ttl=0, **fields), query(method=method))
            lab.equal([auth("alice", "secret"), auth("alice", "secret")], [235, 235])
            lab.equal(hosts(), [("up", 2 if method == "bind" else 1)], "used again")
    gate().configure("certconfig certauthority custom edit directory enabled=no\n")
    lab.equal(auth("alice", "secret"), 454)
    lab.match(status()["hosts"][0]["why"], "certificate is not valid")
    gate().configure("certconfig certauthority custom edit directory enabled=yes\n")
    lab.eventually(lambda: auth("alice", "secret") == 235, 15, "it is trusted again")


@lab.test("connections that users bind on run no search, and the other way round")
def separate():
    d = slapd.Slapd(box, tls=False, log="stats")
    d.user("alice", "secret")
    use(server(d, cache_ttl=0, **service()), query())
    lab.equal([auth("alice", p) for p in ("secret", "x", "secret")], [235, 535, 235])
    kinds = {}
    for conn, what in re.findall(r'conn=(\d+) op=\d+ (BIND dn="uid=alice|BIND dn="cn=gateway|SRCH base="ou=people)', d.log_text()):
        kinds.setdefault(conn, set()).add(what.split('"')[1])
    mixed = [k for k in kinds.values() if "uid=alice" in k and len(k) > 1]
    lab.equal(mixed, [])
    if not any("uid=alice" in k for k in kinds.values()) or {"cn=gateway", "ou=people"} not in kinds.values():
        raise lab.Failure("nothing was seen: %r" % kinds)
    lab.equal(hosts(), [("up", 2)])
    # one connection at most: they take turns, and it still works
    use(server(d, cache_ttl=0, max_connections=1), query())
    results = []
    threads = [threading.Thread(target=lambda: results.append(auth("alice", "secret"))) for _ in range(10)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    lab.equal(results, [235] * 10)
    lab.equal(hosts(), [("up", 1)])
    # the server goes away and comes back between two questions: nobody notices
    d.stop()
    d.start()
    lab.equal(auth("alice", "secret"), 235)
    d.stop()


@lab.test("fail over: a dead host costs nothing after the first time, and is found again")
def failover():
    a, b = slapd.Slapd(box, tls=False), slapd.Slapd(box, tls=False)
    for d in (a, b):
        d.user("alice", "secret")
    a.stop()
    use(server(hosts=["127.0.0.1:%d" % a.port, "127.0.0.1:%d" % b.port], cache_ttl=0), query())
    lab.equal([auth("alice", "secret") for _ in range(3)], [235] * 3)
    lab.equal([s for s, _ in hosts()], ["down", "up"])
    lab.match(status()["hosts"][0]["why"], "refused")
    a.start()
    lab.eventually(lambda: [s for s, _ in hosts()] == ["up", "up"], 15, "the first host is found again")
    before = a.searches()
    lab.equal([auth("alice", "secret") for _ in range(3)], [235] * 3)
    lab.equal(a.searches() - before, 4, "in the order of the list")
    # a host that hangs: the other one answers in time
    a.freeze()
    began = time.monotonic()
    lab.equal([auth("alice", "secret") for _ in range(4)], [235] * 4)
    if time.monotonic() - began > 8:
        raise lab.Failure("a host that hangs held up %.1f s" % (time.monotonic() - began))
    lab.equal([s for s, _ in hosts()], ["down", "up"])
    a.thaw()
    a.stop()
    b.stop()


@lab.test("balance: all hosts are asked in turn")
def balance():
    a, b = slapd.Slapd(box, tls=False), slapd.Slapd(box, tls=False)
    for d in (a, b):
        d.user("alice", "secret")
    use(server(hosts=["127.0.0.1:%d" % a.port, "127.0.0.1:%d" % b.port], order="balance", cache_ttl=0), query())
    before = [a.searches(), b.searches()]
    lab.equal([auth("alice", "secret") for _ in range(9)], [235] * 9)
    asked = [a.searches() - before[0] - 1, b.searches() - before[1] - 1]
    lab.equal(sum(asked), 9)
    if min(asked) < 3:
        raise lab.Failure("not in turn: %r" % asked)
    a.stop()
    lab.equal([auth("alice", "secret") for _ in range(4)], [235] * 4)
    b.stop()


@lab.test("down: 454 at once, an alert, and one when it is back; other sessions are not held up")
def down():
    d = slapd.Slapd(box, tls=False)
    d.user("alice", "secret")
    use(server(d, name="dead", cache_ttl=0), query(server="dead")) # whose alerts nobody has seen
    lab.equal(auth("alice", "secret"), 235)
    d.stop()
    lab.equal(auth("alice", "secret"), 454)
    began = time.monotonic()
    lab.equal([auth("alice", p) for p in ("secret", "wrong", "x")], [454, 454, 454])
    if time.monotonic() - began > 2:
        raise lab.Failure("it waits for a host that is known to be down")
    lab.equal(hosts("dead"), [("down", 0)])
    alerts = lab.eventually(lambda: [a for a in Control(gate().home).ok("alert.list")["alerts"] if "LDAP" in a["text"]])
    lab.equal([(a["class"], a["severity"]) for a in alerts][:1], [("System", "Critical")])
    lab.match(alerts[0]["text"], r"no host of the server configuration dead can be used: 127\.0\.0\.1:%d: .*refused" % d.port)
    d.start()
    lab.eventually(lambda: hosts("dead")[0][0] == "up", 15, "it is found again")
    lab.equal(auth("alice", "secret"), 235)
    lab.eventually(lambda: [a for a in Control(gate().home).ok("alert.list")["alerts"]
                            if "dead can be used again" in a["text"]], 10, "an alert that it is back")
    # mute: the session that asks gets 454 in time, others do not notice
    d.freeze()
    with lab.Smtp(gate().private) as waiting, lab.Smtp(gate().private) as other:
        waiting.ehlo()
        other.ehlo()
        waiting.send("AUTH PLAIN " + base64.b64encode(b"\0alice\0secret").decode())
        began = time.monotonic()
        for i in range(20):
            other.message("a@example.org", "b@example.com", "Subject: %d\r\n\r\nx\r\n" % i)
        if time.monotonic() - began > 2:
            raise lab.Failure("others are held up")
        lab.equal(waiting.reply()[0], 454)
    d.thaw()
    d.stop()


@lab.test("a commit while queries run: they end as they began, the next ones go elsewhere")
def reload():
    a, b = slapd.Slapd(box, tls=False), slapd.Slapd(box, tls=False)
    a.user("alice", "first")
    b.user("alice", "second")
    use(server(a, cache_ttl=0, query_timeout=30), query())
    lab.equal(auth("alice", "first"), 235)
    a.freeze()
    with lab.Smtp(gate().private) as c:
        c.ehlo()
        c.send("AUTH PLAIN " + base64.b64encode(b"\0alice\0first").decode())
        time.sleep(0.3)
        use(server(b, cache_ttl=0), query())
        lab.equal([auth("alice", "first"), auth("alice", "second")], [535, 235])
        a.thaw()
        lab.equal(c.reply()[0], 235)
    lab.eventually(lambda: hosts() == [("up", 2)])
    # what a commit does not change stays as it is
    queries = status()["hosts"][0]["queries"]
    gate().configure("sethostname other.lab.example")
    lab.equal(status()["hosts"][0]["queries"], queries)
    a.stop()
    b.stop()


# --- rules ----------------------------------------------------------------------------------------------------

@lab.test("mistakes are refused with a sentence that says where and what")
def mistakes():
    s = Staged(server(), ("ldap_setup", "-", {}))

    def refused(section, name, body, pattern):
        answer = s.control.call("config.stage", changes=[{"section": section, "name": name, "body": body}])
        text = answer.get("message", "") + "\n" + "\n".join(e["message"] for e in answer.get("errors", []))
        lab.equal(answer["ok"], False, pattern)
        lab.match(text, pattern)

    def q(pattern, **fields):
        refused(*query(**fields), pattern)

    q(r'wrong at character 1, before "uid=\{u\}": a filter begins with "\("', filter="uid={u}")
    q(r'wrong at its end: the "\)" for the "\(" at character 1 is missing', filter="(uid={u}")
    q(r'before "\)": there is no "\("', filter="(uid={u}))")
    q(r"the macros \{u\} \{d\}", filter="(uid={x})")
    q(r"the sender, is not known yet", filter="(mail={f})")
    q(r"It does not name the user", filter="(objectClass=person)")
    q(r"\{cn\} is of certificates", filter="(&(uid={u})(caccn={cn}))")
    q(r"It does not name the user", filter="(uid={u})", allowance="(cacexempt=*)")
    q(r"It does not name the certificate", kind="certauth", filter="(uid=x)")
    q(r"uses \{e\}, which is not among", kind="certauth", filter="(mail={e})", fields=["cn"])
    q(r"no field of a certificate", kind="certauth", filter="(cn={cn})", fields=["serial"])
    q(r"no name of an attribute", method="attribute", password_attribute="user password")
    q(r"Enter the attribute", method="attribute", password_attribute="")
    refused(*server(auth="password", bind_dn="cn=x"), "Enter the bind passphrase")
    refused(*server(auth="external", security="ldaps"), "choose one with ldapconfig setup")
    refused(*server(hosts=["a.example", "A.example"]), "there twice")
    s.close()


lab.main()
