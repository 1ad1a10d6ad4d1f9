# An SMTP server that demands AUTH: PLAIN, LOGIN and SCRAM-SHA-256 by hand, over STARTTLS. It keeps every byte that came, so
# that a test can say what never crossed. And somebody in between who takes STARTTLS away.

import base64
import hashlib
import hmac
import os
import socket
import ssl
import threading
import time

import lab


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def traces(password):
    """What a password looks like on the wire, as far as it can be told from its bytes."""
    found = [password.encode()]
    for lead in range(3): # base64 of it behind so many bytes, without what the neighbours have a part in
        text = base64.b64encode(b"\0" * lead + password.encode())
        found.append(text[(0, 2, 3)[lead]:len(text) // 4 * 4 - 4])
    return [f for f in found if len(f) > 3]


class AuthServer:
    """mechanisms: offered behind TLS (and before it with clear=True). users: {name: password}.
    replies: {"AUTH": "454 4.7.0 Later"} instead of an answer to AUTH; starttls=False: not offered; lies: SCRAM ends without
    the server's own proof ("none") or with a wrong one ("wrong"); iterations: of SCRAM."""

    def __init__(self, pair=None, mechanisms="PLAIN LOGIN SCRAM-SHA-256", users=None, replies=None, starttls=True,
                 clear=False, lies=None, demands=True, iterations=4096, delay=0, host="127.0.0.1"):
        self.pair, self.mechanisms, self.users = pair, mechanisms, users or {}
        self.replies, self.offers, self.clear, self.lies = replies or {}, starttls, clear, lies
        self.demands, self.iterations, self.delay = demands, iterations, delay
        self.received = bytearray() # all that came, deciphered
        self.sessions = [] # {"user", "mechanism", "tls", "messages": [rcpts]}
        self.attempts = [] # (mechanism, user, right?)
        self.open = self.most = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server((host, 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        lab.at_end(self.stop)

    def stop(self):
        try:
            self.listener.close()
        except OSError:
            pass

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            c.settimeout(60)
            _Session(self, c).run()
        except (OSError, EOFError, ssl.SSLError):
            pass
        finally:
            with self.lock:
                self.open -= 1
            c.close()

    def saw(self, password):
        return any(t in self.received for t in traces(password))


class _Session:
    def __init__(self, server, c):
        self.server, self.c, self.pending = server, c, b""
        self.state = {"user": None, "mechanism": None, "tls": False, "messages": []}
        server.sessions.append(self.state)

    def line(self):
        while b"\n" not in self.pending:
            data = self.c.recv(65536)
            if not data:
                raise EOFError
            self.server.received += data
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def say(self, *lines):
        self.c.sendall("".join(l + "\r\n" for l in lines).encode())

    def ask(self, challenge):
        self.say("334 " + b64(challenge))
        answer = self.line()
        if answer == "*":
            self.say("501 5.7.0 Cancelled")
            raise ValueError
        return base64.b64decode(answer, validate=True)

    def run(self):
        s = self.server
        self.say("220 auth.lab.example ESMTP")
        rcpts = []
        while True:
            line = self.line()
            verb = line.split(" ")[0].upper()
            if verb == "AUTH":
                time.sleep(s.delay)
                lab.equal(len(line) <= 510, True, "the length of AUTH")
            if verb in s.replies:
                self.say(s.replies[verb])
            elif verb == "EHLO":
                more = ["STARTTLS"] if s.offers and s.pair and not self.state["tls"] else []
                if s.mechanisms and (self.state["tls"] or s.clear):
                    more.append("AUTH " + s.mechanisms)
                more = ["auth.lab.example", "PIPELINING"] + more
                self.say(*["250-" + m for m in more[:-1]], "250 " + more[-1])
            elif verb == "STARTTLS" and s.offers and s.pair:
                self.say("220 2.0.0 Go")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(s.pair.cert, s.pair.key)
                self.c = context.wrap_socket(self.c, server_side=True)
                self.state["tls"] = True
                self.pending = b""
            elif verb == "AUTH":
                self.auth(line.split(" "))
            elif verb == "MAIL" and s.demands and not self.state["user"]:
                self.say("530 5.7.0 Authentication required")
            elif verb in ("MAIL", "RSET", "NOOP"):
                rcpts = []
                self.say("250 2.0.0 ok")
            elif verb == "RCPT":
                if s.demands and not self.state["user"]:
                    self.say("503 5.5.1 MAIL first")
                    continue
                rcpts.append(line.split("<")[1].split(">")[0])
                self.say("250 2.1.5 ok")
            elif verb == "DATA":
                if not rcpts:
                    self.say("503 5.5.1 RCPT first")
                    continue
                self.say("354 go")
                while self.line() != ".":
                    pass
                self.state["messages"].append(rcpts)
                self.say("250 2.0.0 taken")
            elif verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            else:
                self.say("502 5.5.1 What?")

    def auth(self, words):
        mechanism = words[1].upper() if len(words) > 1 else ""
        first = base64.b64decode(words[2]) if len(words) > 2 and words[2] != "=" else None
        if mechanism not in self.server.mechanisms.split():
            self.say("504 5.5.4 No such mechanism")
            return
        try:
            user, right = {"PLAIN": self.plain, "LOGIN": self.login, "SCRAM-SHA-256": self.scram}[mechanism](first)
        except ValueError:
            self.server.attempts.append((mechanism, None, False))
            return
        self.server.attempts.append((mechanism, user, right))
        if right:
            self.state.update(user=user, mechanism=mechanism)
            self.say("235 2.7.0 Authenticated")
        else:
            self.say("535 5.7.8 Authentication credentials invalid")

    def plain(self, first):
        _, user, password = (first if first is not None else self.ask("")).split(b"\0")
        return user.decode(), self.server.users.get(user.decode()) == password.decode()

    def login(self, first):
        user = first if first is not None else self.ask("User Name\0")
        password = self.ask("Password\0")
        return user.decode(), self.server.users.get(user.decode()) == password.decode()

    def scram(self, first): # RFC 5802
        first = (first if first is not None else self.ask("")).decode()
        header, bare = first.split(",", 2)[:2], first.split(",", 2)[2]
        fields = dict(f.split("=", 1) for f in bare.split(","))
        user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        salt, nonce = os.urandom(12), fields["r"] + b64(os.urandom(12))
        challenge = "r=%s,s=%s,i=%d" % (nonce, b64(salt), self.server.iterations)
        final = self.ask(challenge).decode()
        without, proof = final.rsplit(",p=", 1)
        fields = dict(f.split("=", 1) for f in without.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.server.users.get(user, b64(os.urandom(9))).encode(), salt,
                                     self.server.iterations)
        client = hmac.digest(salted, b"Client Key", "sha256")
        message = ",".join((bare, challenge, without)).encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        right = (bytes(a ^ b for a, b in zip(client, signature)) == base64.b64decode(proof) and fields["r"] == nonce
                 and base64.b64decode(fields["c"]).decode() == ",".join(header) + ",")
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        if right and self.server.lies == "wrong":
            verifier = os.urandom(32)
        if right and self.server.lies != "none" and self.ask("v=" + b64(verifier)) != b"":
            raise ValueError
        return user, right


def scram(c, user, password, mechanism="SCRAM-SHA-256"):
    """A client's side over a lab.Smtp: the last reply, after the server has proved itself."""
    nonce = b64(os.urandom(18))
    bare = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), nonce)
    reply = c.cmd("AUTH %s %s" % (mechanism, b64("n,," + bare)))
    if reply[0] != 334:
        return reply
    challenge = base64.b64decode(reply[1][0]).decode()
    fields = dict(f.split("=", 1) for f in challenge.split(","))
    assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client = hmac.digest(salted, b"Client Key", "sha256")
    without = "c=%s,r=%s" % (b64("n,,"), fields["r"])
    message = ",".join((bare, challenge, without)).encode()
    signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
    reply = c.cmd(b64("%s,p=%s" % (without, b64(bytes(a ^ b for a, b in zip(client, signature))))))
    if reply[0] != 334:
        return reply
    verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    lab.equal(base64.b64decode(reply[1][0]).decode(), "v=" + b64(verifier), "the server's proof")
    return c.cmd("")


class Stripper:
    """A proxy in front of a server that takes STARTTLS out of its EHLO replies and offers AUTH itself. It keeps what the
    client says."""

    def __init__(self, server):
        self.server, self.received, self.connections = server, bytearray(), 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        lab.at_end(self.listener.close)

    def _accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            s = socket.create_connection(("127.0.0.1", self.server.port))
            threading.Thread(target=self._pump, args=(c, s, self._note), daemon=True).start()
            threading.Thread(target=self._pump, args=(s, c, self._strip), daemon=True).start()

    def _note(self, data):
        self.received += data
        return data

    def _strip(self, data):
        return data.replace(b"STARTTLS", b"AUTH PLAIN LOGIN")

    def _pump(self, a, b, through):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(through(data))
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def saw(self, password):
        return any(t in self.received for t in traces(password))
