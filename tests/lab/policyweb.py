"""A web server for MTA-STS policies, under a private CA, on port 443 of a loopback address of its own.

    import dnstree, lab, policyweb

    box = lab.Sandbox()
    web = policyweb.PolicyWeb(box)                 # lab.Skip where port 443 may not be bound
    web.policy("example.com", mode="enforce", mx=["mx.example.com"], max_age=86400)
    tree.a("mta-sts.example.com", web.address)
    gateway.configure(web.statements())            # trust its CA, allow its address
    ...
    web.fault("example.com", "404")                # see FAULTS; None: well again
    web.count("example.com")                       # requests for its policy so far
    web.connections                                # whatever they were good for

The server reads the name in the ClientHello before it answers, so each domain has its own certificate, protocol version
and fault. Faults last as long as the peer listens, or until the server stops.

Proxy is a small HTTP proxy that knows CONNECT, with or without a password, and leads every tunnel to one web server."""

import base64
import contextlib
import os
import random
import socket
import ssl
import struct
import threading
import time

import lab

FAULTS = {
    "redirect": "301 to a place with a good policy",
    "404": "status 404, with a good policy as its body",
    "500": "status 500",
    "type": "a good policy, said to be HTML",
    "gzip": "a good policy, said to be compressed",
    "huge": "ten megabytes, announced",
    "endless": "chunks without end",
    "headers": "header lines without end",
    "line": "one header line without end",
    "interim": "100 Continue without end",
    "slow": "one byte every half second",
    "silent": "no answer to the request",
    "deaf": "no answer to the ClientHello",
    "cut": "half of the announced body, then the end",
    "close": "the end of the connection before any answer",
    "garbage": "not HTTP",
    "name": "the certificate is that of another host",
    "cn": "the host stands in the common name, another one in subjectAltName",
    "expired": "the certificate ended yesterday",
    "unknown": "the certificate is of an authority nobody knows",
    "self": "the certificate is signed by itself",
    "tls11": "TLS 1.1 and nothing newer",
    "plain": "HTTP without TLS",
}
HANDSHAKE = {"name", "cn", "expired", "unknown", "self", "tls11", "deaf", "plain"}


def policy_text(mode="enforce", mx=(), max_age=86400, more=""):
    lines = ["version: STSv1", "mode: " + mode] + ["mx: " + m for m in mx] + ["max_age: %d" % max_age]
    return "\r\n".join(lines) + "\r\n" + more


def loopback_address(port):
    """An address of this machine, and a socket that listens there."""
    while True:
        address = "127.%d.%d.%d" % tuple(random.randrange(1, 250) for _ in range(3))
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((address, port))
        except PermissionError:
            s.close()
            raise lab.Skip("port %d may not be bound" % port) from None
        except OSError:
            s.close()
            continue
        s.listen(256)
        return address, s


def hello_name(s):
    """The server name of a ClientHello that is still in the socket; None: it is not one."""
    until = time.monotonic() + 10
    data = b""
    while time.monotonic() < until:
        seen = s.recv(16384, socket.MSG_PEEK)
        if not seen or seen[0] != 22:
            return None
        if len(seen) >= 5 and len(seen) >= 5 + struct.unpack("!H", seen[3:5])[0]:
            data = seen[5:]
            break
        time.sleep(0.01)
    try:
        at = 38
        at += 1 + data[at]
        at += 2 + struct.unpack("!H", data[at:at + 2])[0]
        at += 1 + data[at]
        end = at + 2 + struct.unpack("!H", data[at:at + 2])[0]
        at += 2
        while at < end:
            kind, n = struct.unpack("!HH", data[at:at + 4])
            if kind == 0:
                return data[at + 9:at + 4 + n].decode()
            at += 4 + n
    except (IndexError, struct.error):
        pass
    return None


def read_head(s):
    """The lines of a request's head; none when the client goes before its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(4096)
        if not more:
            return []
        data += more
    return data.decode("latin1").split("\r\n")


class Authority:
    """A CA whose certificates may have any dates."""

    def __init__(self, directory, name):
        self.dir = directory
        os.makedirs(directory, exist_ok=True)
        self.pair = lab.make_cert(directory, name, is_ca=True)
        self.config = os.path.join(directory, "ca.conf")
        for name in ("index", "index.attr"):
            open(os.path.join(directory, name), "w").close()
        with open(self.config, "w") as f:
            f.write("[ca]\ndefault_ca = lab\n[lab]\ndatabase = %s/index\nnew_certs_dir = %s\nrand_serial = yes\n"
                    "default_md = sha256\npolicy = any\ncopy_extensions = copy\nunique_subject = no\n[any]\n"
                    "commonName = supplied\n" % (directory, directory))

    @property
    def pem(self):
        return lab.read_text(self.pair.cert)

    def issue(self, stem, common_name, names, days=30):
        """days < 0: it ended so long ago."""
        key, request, cert = (os.path.join(self.dir, stem + end) for end in (".key", ".csr", ".crt"))
        lab.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                 "-out", request, "-subj", "/CN=" + common_name, "-addext",
                 "subjectAltName=" + ",".join("DNS:" + n for n in names)])
        date = lambda day: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + day * 86400))
        lab.run(["openssl", "ca", "-batch", "-notext", "-config", self.config, "-cert", self.pair.cert, "-keyfile",
                 self.pair.key, "-in", request, "-out", cert, "-startdate", date(min(days, 0) - 10), "-enddate", date(days)])
        return lab.CertPair(cert, key, self.pair.cert)


class PolicyWeb:
    def __init__(self, box):
        self.address, self.sock = loopback_address(443)
        self.authority = Authority(box.mkdir("policyweb"), "Policy Web CA")
        self.stranger = None
        self.policies = {}
        self.faults = {}
        self.delays = {}        # host: seconds before the answer
        self.requests = []      # (host, request and header lines)
        self.connections = 0
        self.contexts = {}
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.directory = box.path("policyweb")
        threading.Thread(target=self.accept, daemon=True).start()
        lab.at_end(self.stop)

    # --- what it serves

    def names(self, domains):
        """One certificate for all of these: faster than one for each."""
        hosts = ["mta-sts." + d for d in domains]
        context = self.load(self.authority.issue(hosts[0], hosts[0], hosts))
        self.contexts.update({(host, None): context for host in hosts})

    def policy(self, domain, text=None, **keywords):
        self.policies["mta-sts." + domain] = text if text is not None else policy_text(**keywords)
        return self.fault(domain, None)

    def fault(self, domain, name):
        assert name is None or name in FAULTS, name
        self.faults["mta-sts." + domain] = name
        self.context("mta-sts." + domain, name) # made now: a client waits for seconds only
        return self

    def count(self, domain):
        return sum(host == "mta-sts." + domain for host, _ in self.requests)

    def statements(self):
        """For the gateway's configuration."""
        return ("certconfig certauthority custom set policyweb certificate=<<CA\n%sCA\n"
                "certconfig certauthority set custom_list=yes\n"
                "updateconfig set allow_private_addresses=yes\n" % self.authority.pem)

    def stop(self):
        self.stopped.set()
        with contextlib.suppress(OSError):
            self.pause()

    def pause(self):
        """Nobody is there any more."""
        self.sock.shutdown(socket.SHUT_RDWR) # a thread may be waiting in accept()
        self.sock.close()

    def resume(self):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((self.address, 443))
        self.sock.listen(256)
        threading.Thread(target=self.accept, daemon=True).start()

    # --- how

    def context(self, host, fault):
        kind = fault if fault in HANDSHAKE else None
        with self.lock:
            if (host, kind) not in self.contexts:
                self.contexts[host, kind] = self.make_context(host, kind)
            return self.contexts[host, kind]

    def make_context(self, host, kind):
        stem = "%s.%s" % (host, kind)
        if kind == "name":
            pair = self.authority.issue(stem, host, ["www.other.example"])
        elif kind == "cn":
            pair = self.authority.issue(stem, host, ["www." + host])
        elif kind == "expired":
            pair = self.authority.issue(stem, host, [host], days=-1)
        elif kind == "unknown":
            self.stranger = self.stranger or Authority(os.path.join(self.directory, "stranger"), "Unknown CA")
            pair = self.stranger.issue(stem, host, [host])
        elif kind == "self":
            pair = lab.make_cert(os.path.join(self.directory, "self"), host)
        else:
            pair = self.authority.issue(stem, host, [host])
        context = self.load(pair)
        if kind == "tls11":
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context

    @staticmethod
    def load(pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        return context

    def accept(self):
        listener = self.sock
        while not self.stopped.is_set():
            try:
                s, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            with s:
                s.settimeout(60)
                host = hello_name(s)
                fault = self.faults.get(host)
                if fault == "deaf":
                    self.wait_for_end(s)
                elif fault == "plain":
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
                elif host:
                    with self.context(host, fault).wrap_socket(s, server_side=True) as tls:
                        self.answer(tls, host, fault)
        except OSError: # ssl.SSLError is one
            pass

    @staticmethod
    def wait_for_end(s):
        while s.recv(4096):
            pass

    def answer(self, s, host, fault):
        lines = read_head(s)
        if not lines:
            return
        self.requests.append((host, [line for line in lines if line]))
        self.stopped.wait(self.delays.get(host, 0))
        body = self.policies.get(host, "").encode()
        if host not in self.policies or lines[0] != "GET /.well-known/mta-sts.txt HTTP/1.1" and fault != "redirect":
            self.reply(s, "404 Not Found", b"not here\n")
        elif fault == "redirect" and "/elsewhere" not in lines[0]:
            self.reply(s, "301 Moved Permanently", body, "Location: https://%s/elsewhere\r\n" % host)
        elif fault in ("404", "500"):
            self.reply(s, fault + " Fault", body)
        elif fault == "type":
            self.reply(s, "200 OK", body, type="text/html")
        elif fault == "gzip":
            self.reply(s, "200 OK", body, "Content-Encoding: gzip\r\n")
        elif fault == "huge":
            self.reply(s, "200 OK", body + b"x: " + b"y" * (10 << 20))
        elif fault == "cut":
            self.head(s, "200 OK", "Content-Length: %d\r\n" % (2 * len(body)))
            s.sendall(body)
        elif fault in ("endless", "headers", "line", "interim", "slow", "silent", "garbage"):
            getattr(self, fault)(s, body)
        elif fault != "close":
            self.reply(s, "200 OK", body, "Set-Cookie: a=b\r\nCache-Control: max-age=31536000\r\n")

    @staticmethod
    def head(s, status, more="", type="text/plain; charset=utf-8"):
        s.sendall(("HTTP/1.1 %s\r\nContent-Type: %s\r\n%s\r\n" % (status, type, more)).encode())

    def reply(self, s, status, body, more="", type="text/plain; charset=utf-8"):
        self.head(s, status, "Content-Length: %d\r\n%s" % (len(body), more), type)
        s.sendall(body)

    def endless(self, s, body):
        self.head(s, "200 OK", "Transfer-Encoding: chunked\r\n")
        s.sendall(b"%x\r\n%s\r\n" % (len(body), body))
        while not self.stopped.is_set():
            s.sendall(b"2000\r\n" + b"z" * 8192 + b"\r\n")

    def headers(self, s, _):
        s.sendall(b"HTTP/1.1 200 OK\r\n")
        while not self.stopped.is_set():
            s.sendall(b"X-More: of the same\r\n" * 100)

    def line(self, s, _):
        s.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.stopped.is_set():
            s.sendall(b"l" * 8192)

    def interim(self, s, _):
        while not self.stopped.is_set():
            s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    def slow(self, s, body):
        self.head(s, "200 OK", "Content-Length: %d\r\n" % len(body))
        for i in range(len(body)):
            if self.stopped.wait(0.5):
                return
            s.sendall(body[i:i + 1])

    def silent(self, s, _):
        self.wait_for_end(s)

    @staticmethod
    def garbage(s, _):
        s.sendall(b"\x00\xff\x1b[31m no HTTP at all \r\n" * 10)


class Proxy:
    """CONNECT to HOST:443 leads to web, whatever HOST is; `connects` are the request's lines."""

    def __init__(self, web, user=None, password=None):
        self.web, self.connects = web, []
        self.want = user and "Proxy-Authorization: Basic " + base64.b64encode(
            ("%s:%s" % (user, password)).encode()).decode()
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(64)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        lab.at_end(self.sock.close)

    def accept(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            with s, socket.socket() as out:
                lines = read_head(s)
                if not lines:
                    return
                self.connects.append(lines)
                if self.want and self.want not in lines:
                    s.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n")
                    return
                out.connect((self.web.address, 443))
                s.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self.copy, args=(out, s), daemon=True)
                back.start()
                self.copy(s, out)
                back.join()
        except OSError:
            pass

    @staticmethod
    def copy(source, target):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
