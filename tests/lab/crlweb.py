"""Authorities that revoke (openssl ca), and web servers that publish their lists on loopback.

    ca = crlweb.Authority(box, "corp", "Corp CA")
    pair = ca.issue("mx.corp.example")
    ca.revoke(pair, "keyCompromise")
    web = crlweb.Web(box)                      # http://127.0.0.1:PORT/..., https://NAME:PORT/...
    web.put("corp.crl", ca.crl())              # bytes; a number: that status; None: the end of the connection
    source = web.url("corp.crl"); web.url("corp.crl", tls=True)
    web.requests                               # paths so far
"""

import http.server
import os
import ssl
import subprocess
import threading

import lab

CONFIG = """[ca]
default_ca = lab
[lab]
database = {dir}/index
new_certs_dir = {dir}
rand_serial = yes
crlnumber = {dir}/crlnumber
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[v2]
authorityKeyIdentifier = keyid
[delta]
authorityKeyIdentifier = keyid
deltaCRL = DER:02:01:01
2.5.29.27 = critical,DER:02:01:01
[indirect]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@idp
[idp]
indirectCRL = TRUE
"""


class Authority:
    def __init__(self, box, stem, name, key="ec"):
        self.dir = box.mkdir(stem)
        self.name = name
        self.pair = lab.make_cert(self.dir, name, is_ca=True, key=key, stem="ca")
        self.config = box.write(stem + "/ca.conf", CONFIG.replace("deltaCRL = DER:02:01:01\n", "").format(dir=self.dir))
        for file, text in (("index", ""), ("index.attr", ""), ("crlnumber", "1000\n")):
            box.write(stem + "/" + file, text)

    @property
    def pem(self):
        return lab.read_text(self.pair.cert)

    def run(self, *argv):
        return lab.run(["openssl", "ca", "-batch", "-notext", "-config", self.config, "-cert", self.pair.cert, "-keyfile",
                        self.pair.key, *argv])

    def issue(self, *names, stem=None):
        key, request, cert = (os.path.join(self.dir, (stem or names[0]) + end) for end in (".key", ".csr", ".crt"))
        lab.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                 "-out", request, "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names)])
        self.run("-in", request, "-out", cert, "-days", "30")
        return lab.CertPair(cert, key, self.pair.cert)

    def revoke(self, pair, reason=None):
        self.run("-revoke", pair.cert, *(["-crl_reason", reason] if reason else []))

    def crl(self, pem=False, seconds=86400, extensions="v2", **options):
        """The list as it is now. extensions None: version 1."""
        out = os.path.join(self.dir, "list.pem")
        more = [word for key, value in options.items() for word in ("-" + key, value)]
        self.run("-gencrl", "-crlsec", str(seconds), "-out", out, *(["-crlexts", extensions] if extensions else []), *more)
        if pem:
            with open(out, "rb") as f:
                return f.read()
        return subprocess.run(["openssl", "crl", "-in", out, "-outform", "DER"], check=True, stdout=subprocess.PIPE).stdout


class Web:
    """Two servers with the same files."""

    def __init__(self, box, name="crl.lab.example"):
        self.name, self.files, self.requests = name, {}, []
        self.authority = Authority(box, "web", "Web CA")
        self.servers = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self.authority.issue(name)
        context.load_cert_chain(pair.cert, pair.key)
        self.context = context
        self.ports = [lab.free_port(), lab.free_port()]
        self.start()
        lab.at_end(self.stop)

    def start(self):
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.answer(self)

            def log_message(self, *unused):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *unused):
                pass

        for i, port in enumerate(self.ports):
            server = Server(("127.0.0.1", port), Handler)
            if i:
                server.socket = self.context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self.servers.append(server)

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.servers = []

    def url(self, path, tls=False):
        return "%s://%s:%d/%s" % ("https" if tls else "http", self.name, self.ports[tls], path)

    def put(self, path, body):
        self.files["/" + path] = body

    def count(self, path):
        return self.requests.count("/" + path)

    def answer(self, request):
        self.requests.append(request.path)
        body = self.files.get(request.path, 404)
        if body is None:
            return
        if isinstance(body, int):
            request.send_response(body)
            request.send_header("Location", "/elsewhere.crl")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Content-Type", "application/pkix-crl")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
