#!/usr/bin/python3
# Certificates against other people's tools: what Postern makes, OpenSSL and GnuTLS read and verify; what OpenSSL makes,
# Postern takes, or refuses with the reason.

import json
import os

import lab
import terminal

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))

ALGORITHMS = {
    "rsa-2048": r"Public-Key: \(2048 bit\)",
    "rsa-3072": r"Public-Key: \(3072 bit\)",
    "p256": r"NIST CURVE: P-256",
    "p384": r"NIST CURVE: P-384",
    "ed25519": r"ED25519 Public-Key",
}


def here(text):
    """A here-text of a batch file."""
    return "<<END-OF-TEXT\n%s\nEND-OF-TEXT\n" % text.strip()


def paste(name, cert, key, chain, check, more):
    words = ["certconfig certificate paste", name, more, "certificate=<<CERT"]
    texts = [cert.strip(), "CERT"]
    if key:
        words.append("private_key=<<KEY")
        texts += [key.strip(), "KEY"]
    if chain:
        words += ["add_intermediate=yes", "intermediates=<<CHAIN"]
        texts += [chain.strip(), "CHAIN"]
    return gate.batch(" ".join(words) + "\n" + "\n".join(texts) + "\n", args=("--commit",), check=check)


@lab.test("every algorithm: OpenSSL and GnuTLS read certificate and request")
def algorithms():
    lab.need_program("openssl")
    lab.need_program("certtool")
    for word, wanted in ALGORITHMS.items():
        made = gate.json("certconfig certificate new made-%s common_name=mail.example.com organization=\"Example, Inc.\" "
                         "country=ch names=mx.example.com,192.0.2.7,2001:db8::1 days=90 algorithm=%s" % (word, word))["data"]
        cert = box.write("made.pem", made["certificate"])
        csr = box.write("made.csr", made["csr"])
        text = lab.run(["openssl", "x509", "-in", cert, "-noout", "-text"]).stdout
        lab.match(text, wanted, word)
        lab.match(text, r"DNS:mail\.example\.com, DNS:mx\.example\.com, IP Address:192\.0\.2\.7, IP Address:2001:DB8", word)
        lab.match(text, r"TLS Web Server Authentication, TLS Web Client Authentication")
        lab.match(text, r"CA:FALSE")
        lab.match(text, r"C ?= ?CH, O ?= ?\"Example, Inc\.\", CN ?= ?mail\.example\.com")
        lab.run(["openssl", "verify", "-CAfile", cert, cert])
        verified = lab.run(["openssl", "req", "-in", csr, "-noout", "-verify", "-text"])
        lab.match(verified.stdout + verified.stderr, r"verify OK")
        lab.match(verified.stdout, r"DNS:mail\.example\.com, DNS:mx\.example\.com")
        info = lab.run(["certtool", "--certificate-info", "--infile", cert]).stdout
        lab.match(info, r"DNSname: mx\.example\.com", word)
        lab.match(lab.run(["certtool", "--crq-info", "--infile", csr]).stdout, r"Self signature: verified", word)


@lab.test("1024 bits are refused with the reason, and so are other bad requests")
def refused():
    for words, reason in (("algorithm=1024", "can be broken"), ("algorithm=dsa", "Choose one of"),
                          ("country=USA", "exactly two letters"), ("days=0", "from 1 to 36500"),
                          ("names=no_fqdn", "neither a fully qualified host name nor an address")):
        done = gate.console("certconfig certificate new bad common_name=a.example.com " + words, check=False)
        lab.match(done.stdout + done.stderr, reason, words)
        lab.equal(done.returncode != 0, True, words)
    done = gate.console("certconfig certificate new \"a name\" common_name=a.example.com", check=False)
    lab.match(done.stdout + done.stderr, "The name must begin with")
    names = [c["name"] for c in gate.json("certconfig certificate list")["data"]["certificates"]]
    lab.equal("bad" in names or "a name" in names, False)


@lab.test("the same request once more changes nothing, keeps the key and says so; another one over it must be asked for")
def again():
    for word in ALGORITHMS:
        line = "certconfig certificate new same-%s common_name=same.example.com organization=Example names=mx.example.com " \
               "days=90 algorithm=%s" % (word, word)
        first = json.loads(gate.console(line + " --json; commit \"made\" y").stdout.splitlines()[0])
        second = gate.json(line)
        lab.equal((second["changed"], second["data"]["changed"], second["staged"]), (False, False, 0), word)
        lab.equal(set(second["data"]), set(first["data"]), word)
        lab.equal((second["data"]["certificate"], second["data"]["csr"]),
                  (first["data"]["certificate"], first["data"]["csr"]), word)
        for other in (line.replace("=mx.", "=my."), line.replace("=90", "=91"), line.replace("=Example", "=Other"),
                      line.replace("algorithm=" + word, "algorithm=" + ("p384" if word == "p256" else "p256"))):
            done = gate.console(other, check=False)
            lab.equal(done.returncode, 8, other)
            lab.match(done.stderr, r"already exists\. Choose another name, or add --replace\.")
        fresh = gate.json(line + " --replace")
        lab.equal((fresh["changed"], fresh["data"]["csr"] == second["data"]["csr"]), (True, False), word)
    done = gate.console("certconfig certificate detail no-such", check=False)
    lab.equal(done.returncode, 7)
    lab.match(done.stderr, r"There is no certificate profile \"no-such\"")


def authority():
    """A root, an intermediate and a leaf, made by OpenSSL: paths by name."""
    lab.need_program("openssl")
    d = box.mkdir("ca")

    def path(name):
        return os.path.join(d, name)

    def issue(name, by, extension):
        lab.run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name,
                 "-keyout", path(name + ".key"), "-out", path(name + ".csr")])
        box.write("ca/ext", extension)
        signer = ["-CA", path(by + ".pem"), "-CAkey", path(by + ".key"), "-CAcreateserial"] if by else \
            ["-signkey", path(name + ".key")]
        lab.run(["openssl", "x509", "-req", "-in", path(name + ".csr"), "-days", "90", "-extfile", path("ext"),
                 "-out", path(name + ".pem"), *signer])
        return lab.read_text(path(name + ".pem")), lab.read_text(path(name + ".key"))

    return {"root": issue("root", None, "basicConstraints=critical,CA:TRUE\n"),
            "sub": issue("sub", "root", "basicConstraints=critical,CA:TRUE\n"),
            "leaf": issue("leaf.example.com", "sub", "subjectAltName=DNS:leaf.example.com\n")}


ca = authority()


@lab.test("a pasted certificate with its chain serves a listener; OpenSSL and GnuTLS verify it")
def served():
    paste("leaf", ca["leaf"][0], ca["leaf"][1], ca["root"][0] + ca["sub"][0], True, "")
    gate.configure("listenerconfig edit InboundMail certificate=leaf tls=preferred\n")
    root = box.path("ca", "root.pem")
    done = lab.s_client(gate.public, "-CAfile", root, "-verify_return_error", "-verify_hostname", "leaf.example.com",
                        "-servername", "leaf.example.com")
    lab.match(done.stdout, r"Verify return code: 0 \(ok\)")
    lab.match(done.stdout, r" 1 s:CN ?= ?sub\s") # the chain is sent, sorted
    done = lab.gnutls_cli(gate.public, "--x509cafile", root, "--verify-hostname", "leaf.example.com")
    lab.match(done.stdout, r"The certificate is trusted")


@lab.test("a key that does not match, a stranger in the chain, a request instead of a certificate are refused")
def mismatch():
    for cert, key, chain, reason in (
            (ca["leaf"][0], ca["sub"][1], None, "does not belong to this certificate"),
            (ca["leaf"][0], ca["leaf"][1], ca["leaf"][0] + lab.read_text(stranger()), "is not part of the chain"),
            (ca["leaf"][1], ca["leaf"][1], None, "This is a private key"),
            (ca["leaf"][0][:400], ca["leaf"][1], None, "damaged or incomplete"),
            (ca["leaf"][0], encrypted(), None, "protected by a pass phrase")):
        done = paste("bad", cert, key, chain, False, "")
        lab.match(done.stdout + done.stderr, reason)
        lab.equal(done.returncode != 0, True, reason)


def stranger():
    path = box.path("stranger.pem")
    lab.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger", "-days", "2",
             "-keyout", box.path("stranger.key"), "-out", path])
    return path


def encrypted():
    done = lab.run(["openssl", "genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:secret"])
    return done.stdout


@lab.test("a profile that waits for its certificate has the keys of the others in JSON")
def pending():
    csr = gate.json("certconfig certificate new asked common_name=asked.example.com algorithm=p256")["data"]["csr"]
    done = gate.batch("certconfig set waiting request=" + here(csr) + "certconfig certificate list --json\n"
                      "certconfig certificate list\n")
    shown = {c["name"]: c for c in json.loads(done.stdout.splitlines()[0])["data"]["certificates"]}
    lab.equal(set(shown["waiting"]), set(shown["Demo"]))
    lab.equal([shown["waiting"][k] for k in ("status", "not_after", "remaining_days")], ["Pending", None, None])
    lab.match(done.stdout, r"^waiting +Pending *$")


@lab.test("what is in use cannot be deleted, Demo not at all, and nothing shows a private key")
def protected():
    for name, reason in (("leaf", "is used by InboundMail"), ("Demo", "cannot be changed or deleted")):
        done = gate.console("certconfig certificate delete %s --yes" % name, check=False)
        lab.match(done.stdout + done.stderr, reason)
        lab.equal(done.returncode != 0, True)
    for command in ("showconfig", "showconfig --format json", "certconfig certificate list --json", "showchanges 1 candidate"):
        done = gate.console(command)
        lab.equal("PRIVATE KEY" in done.stdout, False, command)


@lab.test("the certificate a request comes back with replaces the self-signed one and keeps the key")
def answered():
    made = json.loads(gate.console("certconfig certificate new site common_name=site.example.com --json; commit -y")
                      .stdout.splitlines()[0])
    csr = box.write("ca/site.csr", made["data"]["csr"])
    box.write("ca/ext", "subjectAltName=DNS:site.example.com\n")
    lab.run(["openssl", "x509", "-req", "-in", csr, "-days", "90", "-CA", box.path("ca", "root.pem"), "-CAkey",
             box.path("ca", "root.key"), "-CAcreateserial", "-extfile", box.path("ca", "ext"), "-out",
             box.path("ca", "site.pem")])
    signed = lab.read_text(box.path("ca", "site.pem"))
    gate.batch("certconfig certificate edit site update=yes certificate=%s" % here(signed), args=("--commit",))
    listed = [c for c in gate.json("certconfig certificate list")["data"]["certificates"] if c["name"] == "site"][0]
    lab.equal(listed["issuer"], "root")
    gate.configure("listenerconfig edit OutboundMail certificate=site tls=required\n")
    done = lab.s_client(gate.private, "-CAfile", box.path("ca", "root.pem"), "-verify_return_error")
    lab.match(done.stdout, r"Verify return code: 0 \(ok\)")
    done = gate.batch("certconfig certificate edit site update=yes certificate=%s" % here(ca["leaf"][0]), check=False,
                      args=("--commit",))
    lab.match(done.stdout + done.stderr, "not issued for the key of this profile")


@lab.test("a certificate put beside another key is refused when the commit is prepared, and named")
def prepared():
    text = "certconfig edit leaf certificate=%s" % here(ca["sub"][0])
    done = gate.batch(text, args=("--commit",), check=False)
    lab.equal(done.returncode != 0, True)
    lab.match(done.stdout + done.stderr, r"(?s)Listener InboundMail: certificate profile \"leaf\": .*private key does not "
                                         r"belong.*Paste the key")
    lab.match(lab.s_client(gate.public, "-servername", "leaf.example.com").stdout, r"subject=CN ?= ?leaf\.example\.com")


def block(t, text, pattern):
    """A pasted text and the lone dot behind it."""
    for line in text.strip().splitlines():
        t.type(line)
    t.type(".")
    return t.until(pattern)


@lab.test("pasted at a terminal: what is wrong is said and asked again")
def pasted():
    t = terminal.console(gate, rows=400, columns=200)
    t.ask("certconfig", r"\[\]> ")
    t.ask("certificate", r"\[\]> ")
    t.ask("paste", r"profile:\n> ")
    t.ask("typed", r"end with '\.'\):\n")
    seen = block(t, ca["leaf"][1], r"end with '\.'\):\n")
    lab.match(seen, "This is a private key")
    seen = block(t, ca["leaf"][0], r"format \? \[N\]> ")
    lab.match(seen, r"(?m)^CN=leaf\.example\.com$")
    t.ask("y", r"end with '\.'\):\n")
    seen = block(t, ca["sub"][0], r"end with '\.'\):\n")
    lab.match(seen, "This is a certificate")
    seen = block(t, ca["leaf"][1], r"intermediate certificate\? \[N\]> ")
    t.ask("y", r"end with '\.'\):\n")
    seen = block(t, lab.read_text(stranger()), r"intermediate certificate\? \[N\]> ")
    lab.match(seen, "is not part of the chain")
    t.ask("y", r"end with '\.'\):\n")
    block(t, ca["sub"][0] + ca["root"][0], r"intermediate certificate\? \[N\]> ")
    lab.match(t.ask("", r"\[\]> "), r"(?m)^typed +leaf\.example\.com +sub +Active +89 days$")
    t.ask("", r"\[\]> ")
    t.ask("", r"\* \S+> ")
    lab.match(t.ask("commit paste Y"), "Changes committed")
    t.stop()


lab.main()
