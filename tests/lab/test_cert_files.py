#!/usr/bin/python3
# Certificates in files, both ways: what OpenSSL, GnuTLS and NSS write Postern imports, what Postern exports they open.
# An authority made by "openssl ca" signs requests. Hostile files are refused with a sentence and change nothing.

import json
import os
import re

import lab

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
EXPORT = box.path("home", "export")
PASS = "corréct horse"


def shown(name):
    found = [c for c in gate.json("certconfig certificate list")["data"]["certificates"] if c["name"] == name]
    return found[0] if found else None


def put(name, data):
    """A file in the export area."""
    with open(os.path.join(area(gate), name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return name


def area(of):
    """The export area, which is the gateway's own even when a test makes it."""
    path = os.path.join(of.home, "export")
    owner = os.stat(os.path.join(of.home, "config.db"))
    if not os.path.isdir(path):
        os.mkdir(path, 0o700)
        os.chown(path, owner.st_uid, owner.st_gid)
    return path


def here(key, text):
    return "%s=<<END-OF-%s\n%s\nEND-OF-%s\n" % (key, key.upper(), text, key.upper())


def take(profile, words, password=PASS, check=True, commit=True):
    text = "certconfig certificate import %s %s " % (profile, words)
    text += here("pass_phrase", password) if password else "\n"
    return gate.batch(text, check=check, args=("--commit", "--json") if commit else ("--json",))


def refused(profile, words, reason, password=PASS):
    before = json.dumps(gate.json("certconfig certificate list")["data"]["certificates"])
    done = take(profile, words, password, check=False)
    lab.match(done.stdout + done.stderr, reason, words)
    lab.equal(done.returncode != 0, True, words)
    lab.equal(json.dumps(gate.json("certconfig certificate list")["data"]["certificates"]), before, words)


def openssl(*words, **keywords):
    return lab.run(["openssl", *words], **keywords)


class Authority:
    """A root and an intermediate which "openssl ca" runs."""

    def __init__(self, name):
        lab.need_program("openssl")
        self.dir = box.mkdir(name)
        self.root, self.sub = self.path("root.pem"), self.path("sub.pem")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Lab/CN=%s Root" % name, "-days", "3000",
                "-keyout", self.path("root.key"), "-out", self.root)
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Lab/CN=%s Sub" % name, "-keyout",
                self.path("sub.key"), "-out", self.path("sub.csr"))
        open(self.path("index.txt"), "w").close()
        with open(self.path("ca.cnf"), "w") as f:
            f.write("""[ca]
default_ca = lab
[lab]
new_certs_dir = %s
database = %s
serial = %s
default_md = sha256
default_days = 90
policy = any
copy_extensions = copy
unique_subject = no
email_in_dn = no
[any]
commonName = supplied
organizationName = optional
countryName = optional
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = keyCertSign,cRLSign
[leaf]
basicConstraints = critical,CA:FALSE
""" % (self.dir, self.path("index.txt"), self.path("serial")))
        with open(self.path("serial"), "w") as f:
            f.write("01\n")
        self.sign("root", "authority", self.path("sub.csr"), self.sub, days=2000)

    def path(self, name):
        return os.path.join(self.dir, name)

    def sign(self, by, extensions, csr, out, days=90):
        openssl("ca", "-batch", "-config", self.path("ca.cnf"), "-cert", self.path(by + ".pem"), "-keyfile",
                self.path(by + ".key"), "-in", csr, "-out", out, "-notext", "-extensions", extensions, "-days", str(days))

    def leaf(self, name, *key):
        """Key and certificate signed by the intermediate: their paths."""
        key_file, cert = self.path(name + ".key"), self.path(name + ".pem")
        openssl("req", "-new", "-newkey", *(key or ("rsa:2048",)), "-nodes", "-subj", "/CN=" + name, "-addext",
                "subjectAltName=DNS:" + name, "-keyout", key_file, "-out", self.path(name + ".csr"))
        self.sign("sub", "leaf", self.path(name + ".csr"), cert)
        return key_file, cert


ca = Authority("ca")
KEYS = {"rsa": ("rsa:2048",), "ec": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "ed": ("ed25519",)}
leaves = {kind: ca.leaf("%s.example.com" % kind, *words) for kind, words in KEYS.items()}


def text(path):
    return lab.read_text(path)


def p12(kind, name, *more):
    """A PKCS#12 file made by OpenSSL, in the export area."""
    key, cert = leaves[kind]
    openssl("pkcs12", "-export", "-inkey", key, "-in", cert, "-certfile", ca.sub, "-name", kind, "-passout", "pass:" + PASS,
            "-out", box.path(name), *more)
    return put(name, open(box.path(name), "rb").read())


@lab.test("OpenSSL's PKCS#12 files are imported, modern and old, with their chain; a listener serves it")
def from_openssl():
    for kind in KEYS:
        for name, more in (("modern", ()), ("legacy", ("-legacy",)), ("aes128", ("-certpbe", "AES-128-CBC", "-keypbe", "AES-128-CBC")),
                           ("desc", ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1")),
                           ("plain", ("-certpbe", "NONE", "-keypbe", "NONE")), ("nomac", ("-nomac",))):
            profile = "%s-%s" % (kind, name)
            done = json.loads(take(profile, p12(kind, profile + ".p12", *more), commit=False).stdout.splitlines()[0])
            lab.equal(done["data"]["changed"], True, profile)
            lab.equal("cipher that can be broken" in "".join(done["data"]["warnings"]), name in ("legacy", "desc"), profile)
    take("rsa", "rsa-modern.p12")
    lab.equal(shown("rsa")["intermediates"], 1)
    lab.equal(shown("rsa")["issuer"], "ca Sub")
    gate.configure("listenerconfig edit InboundMail certificate=rsa tls=preferred\n")
    done = lab.s_client(gate.public, "-CAfile", ca.root, "-verify_return_error", "-verify_hostname", "rsa.example.com")
    lab.match(done.stdout, r"Verify return code: 0 \(ok\)")


@lab.test("GnuTLS's PKCS#12 files are imported")
def from_gnutls():
    lab.need_program("certtool")
    for kind, ciphers in (("rsa", ("rc2-40",)), ("ec", ("aes-256", "3des-pkcs12"))):
        key, cert = leaves[kind]
        chain = box.write("chain.pem", text(cert) + text(ca.sub))
        for cipher in ciphers:
            name = "gnutls-%s-%s.p12" % (kind, cipher)
            lab.run(["certtool", "--to-p12", "--load-privkey", key, "--load-certificate", chain, "--p12-name", "gnu", "--password",
                     PASS, "--pkcs-cipher", cipher, "--outder", "--outfile", box.path(name)])
            put(name, open(box.path(name), "rb").read())
            take("gnutls-%s-%s" % (kind, cipher), name, commit=False)
    take("gnutls", "gnutls-ec-aes-256.p12")
    lab.equal([shown("gnutls")[k] for k in ("common_name", "intermediates", "key")], ["ec.example.com", 1, "ECDSA P-256"])


def nss_database(name):
    path = box.mkdir(name)
    lab.run(["certutil", "-N", "-d", "sql:" + path, "--empty-password"])
    return "sql:" + path


@lab.test("NSS's PKCS#12 files are imported, and it opens ours")
def nss():
    lab.need_program("pk12util")
    db = nss_database("nss")
    noise = box.write("noise", "0123456789abcdef" * 64)
    lab.run(["certutil", "-S", "-d", db, "-n", "nss", "-s", "CN=nss.example.com", "-8", "nss.example.com", "-x", "-t", "u,u,u",
             "-z", noise, "-v", "3"])
    for cipher in ("AES-256-CBC", "PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-CBC"):
        name = "nss%d.p12" % len(cipher)
        lab.run(["pk12util", "-o", box.path(name), "-n", "nss", "-d", db, "-W", PASS, "-c", cipher])
        put(name, open(box.path(name), "rb").read())
        take("nss", name + " --replace")
    lab.equal(shown("nss")["common_name"], "nss.example.com")
    for kind in ("rsa", "ec"):
        for more in ("", "--legacy"):
            own = export(kind, "for-nss-%s%s.p12" % (kind, more), more)
            listed = lab.run(["pk12util", "-l", own, "-W", PASS]).stdout
            lab.match(listed, r"%s\.example\.com" % kind)
            lab.run(["pk12util", "-i", own, "-d", nss_database("nss-%s%s" % (kind, more)), "-W", PASS])


def export(profile, name, more=""):
    if not shown(profile):
        take(profile, p12(profile, profile + ".p12"))
    done = gate.batch("certconfig certificate export %s %s %s %s" % (profile, name, more, here("pass_phrase", PASS)))
    lab.match(done.stdout, re.escape(name))
    path = os.path.join(EXPORT, name)
    lab.equal(oct(os.stat(path).st_mode & 0o777), "0o400")
    return path


@lab.test("OpenSSL and GnuTLS open ours: AES and 200,000 rounds, or 3DES when asked for; nothing but the pass phrase opens them")
def exported():
    for kind in KEYS:
        for more, wanted in (("", r"PBES2, PBKDF2, AES-256-CBC, Iteration 200000, PRF hmacWithSHA256"),
                             ("--legacy", r"pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048")):
            path = export(kind, "own-%s%s.p12" % (kind, more), more)
            done = openssl("pkcs12", "-in", path, "-info", "-nodes", "-passin", "pass:" + PASS)
            lab.match(done.stdout + done.stderr, wanted, kind)
            lab.match(done.stdout + done.stderr, r"MAC: sha%s, Iteration %s" % (("1", "2048") if more else ("256", "200000")))
            lab.equal(done.stdout.count("BEGIN CERTIFICATE"), 2, kind)
            lab.match(done.stdout, r"friendlyName: %s" % kind)
            key = openssl("pkcs12", "-in", path, "-nocerts", "-nodes", "-passin", "pass:" + PASS).stdout
            made = openssl("pkey", "-pubout", input=key[key.index("-----BEGIN"):]).stdout
            lab.equal(made, openssl("x509", "-in", leaves[kind][1], "-noout", "-pubkey").stdout, kind)
            lab.equal(openssl("pkcs12", "-in", path, "-nodes", "-passin", "pass:wrong", check=False).returncode != 0, True)
            lab.equal(b"PRIVATE" in open(path, "rb").read(), False)
            if kind != "ed":
                info = lab.run(["certtool", "--p12-info", "--inder", "--infile", path, "--password", PASS])
                lab.match(info.stdout + info.stderr, r"BEGIN CERTIFICATE", kind)
    seen = gate.console("showconfig; certconfig certificate detail rsa; certconfig certificate detail rsa --json").stdout
    lab.equal("PRIVATE KEY" in seen, False)
    audit = lab.run(["strings", box.path("home", "audit.db")]).stdout if lab.which("strings") else "certificate.export"
    lab.match(audit, "certificate.export")


@lab.test("the same certificate once more changes nothing; another one over it must be asked for")
def twice():
    take("rsa", p12("rsa", "again.p12"))
    done = take("rsa", "again.p12")
    lab.equal(json.loads(done.stdout.splitlines()[0])["data"]["changed"], False)
    lab.match(gate.batch("certconfig certificate import rsa again.p12 " + here("pass_phrase", PASS), args=()).stdout,
              "Nothing would change")
    refused("rsa", p12("ec", "other.p12"), "already exists")
    take("rsa", "other.p12 --replace")
    lab.equal(shown("rsa")["common_name"], "ec.example.com")
    take("rsa", "again.p12 --replace")


@lab.test("wrong pass phrases, damaged files and files that hold something else are told apart, and nothing changes")
def bad_files():
    good = open(os.path.join(EXPORT, p12("rsa", "good.p12")), "rb").read()
    refused("bad", "good.p12", "The pass phrase is wrong", "not it")
    refused("bad", "good.p12", "The pass phrase is wrong", None)
    refused("bad", p12("rsa", "old.p12", "-legacy"), "The pass phrase is wrong", "not it")
    for n in (0, 1, 4, 50, len(good) // 2, len(good) - 1):
        refused("bad", put("cut.p12", good[:n]), "damaged or incomplete|is empty|not a PKCS#12 file")
    middle = bytearray(good)
    middle[len(good) // 2] ^= 1
    refused("bad", put("flipped.p12", bytes(middle)), "damaged|pass phrase is wrong, or")
    refused("bad", put("text.p12", "hello"), "not a PKCS#12 file")
    refused("bad", put("zeros.p12", b"\0" * 5000), "not a PKCS#12 file")
    refused("bad", put("nested.p12", b"\x30\x80" * 20000), "damaged")
    refused("bad", put("long.p12", b"\x30\x84\x7f\xff\xff\xff" + b"A" * 1000), "damaged")
    refused("bad", put("huge.p12", b"\x30" * 3000000), "at most|longer than")
    refused("bad", put("noise.p12", os.urandom(20000)), "PKCS#12")
    openssl("pkcs12", "-export", "-nokeys", "-in", leaves["rsa"][1], "-passout", "pass:" + PASS, "-out", box.path("nokey"))
    refused("bad", put("nokey.p12", open(box.path("nokey"), "rb").read()), "no private key")
    openssl("pkcs12", "-export", "-nocerts", "-inkey", leaves["rsa"][0], "-passout", "pass:" + PASS, "-out", box.path("nocert"))
    refused("bad", put("nocert.p12", open(box.path("nocert"), "rb").read()), "no certificate for its private key")
    pfx = children(children(good)[0][1])
    mac = children(pfx[2][1])
    slow = der(0x30, pfx[0][2], pfx[1][2], der(0x30, mac[0][2], mac[1][2], b"\x02\x04\x7f\xff\xff\xff"))
    refused("bad", put("slow.p12", slow), "rounds of key derivation")
    refused("bad", "nosuch.p12", "There is no file")
    refused("bad", "../home/seal.key", "A file name consists of")
    os.symlink(box.path("home", "seal.key"), os.path.join(EXPORT, "link.p12"))
    refused("bad", "link.p12", "link.p12")


@lab.test("a pass phrase is taken from a batch file or without echo, never from the command line")
def pass_phrase():
    done = gate.console("certconfig certificate import cl good.p12 pass_phrase=secret", check=False)
    lab.match(done.stdout + done.stderr, "cannot be given on the command line")
    lab.equal(shown("cl"), None)


@lab.test("several keys in one file: the answer names them, key=NUMBER chooses")
def several():
    lab.need_program("pk12util")
    db = nss_database("several")
    for kind in ("rsa", "ec"):
        lab.run(["pk12util", "-i", os.path.join(EXPORT, p12(kind, "one.p12")), "-d", db, "-W", PASS])
    nicks = [line.rsplit(None, 1)[0].strip() for line in lab.run(["certutil", "-L", "-d", db]).stdout.splitlines() if "u,u,u" in line]
    lab.equal(sorted(nicks), ["ec", "rsa"])
    merged = merge_p12([os.path.join(EXPORT, p12("rsa", "a.p12", "-certpbe", "NONE", "-keypbe", "NONE", "-nomac")),
                        os.path.join(EXPORT, p12("ec", "b.p12", "-certpbe", "NONE", "-keypbe", "NONE", "-nomac"))])
    put("two.p12", merged)
    refused("two", "two.p12", r"holds 2 keys. Say which one with key=NUMBER: 1 rsa \(CN=rsa.example.com\), 2 ec")
    done = json.loads(take("two", "two.p12 key=2").stdout.splitlines()[0])
    lab.equal([w for w in done["data"]["warnings"] if "rsa.example.com" in w], [], "what the other key is for is not spoken of")
    lab.equal(shown("two")["common_name"], "ec.example.com")
    refused("three", "two.p12 key=3", "has 2 keys, not 3")


def der(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    length = bytes([n]) if n < 128 else bytes([0x80 | (n.bit_length() + 7) // 8]) + n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag]) + length + body


def children(data):
    """The elements of a run of DER."""
    out = []
    while data:
        n, at = data[1], 2
        if n & 0x80:
            at = 2 + (n & 0x7f)
            n = int.from_bytes(data[2:at], "big")
        out.append((data[0], data[at:at + n], data[:at + n]))
        data = data[at + n:]
    return out


def merge_p12(paths):
    """One file with the safes of several, none of them encrypted: no tool here writes such a file."""
    safes = b""
    for path in paths:
        with open(path, "rb") as f:
            pfx = children(children(f.read())[0][1])
        content = children(pfx[1][1])
        octets = children(children(content[1][1])[0][2])[0][1]
        safes += children(octets)[0][1]
        data = content[0][2]
    return der(0x30, b"\x02\x01\x03", der(0x30, data, der(0xa0, der(0x04, der(0x30, safes)))))


@lab.test("PEM: one file or two, keys with a pass phrase, certificates in any order; strangers are named and left out")
def pem():
    key, cert = leaves["rsa"]
    put("all.pem", text(ca.root) + text(key) + text(ca.sub) + "some words\n" + text(cert) + text(cert))
    done = json.loads(take("pem", "all.pem", None).stdout.splitlines()[0])
    lab.match(" ".join(done["data"]["warnings"]), "private key without protection. Remove it from the export area")
    lab.equal([shown("pem")[k] for k in ("common_name", "intermediates")], ["rsa.example.com", 2])
    lab.equal(json.loads(take("pem", "all.pem", None).stdout.splitlines()[0])["data"]["changed"], False)
    put("cert.pem", text(cert) + text(ca.sub) + text(Authority("other").root))
    put("key.pem", text(key))
    done = json.loads(take("pem2", "cert.pem key_file=key.pem", None).stdout.splitlines()[0])
    lab.match(" ".join(done["data"]["warnings"]), r'"O=Lab,CN=other Root" is not part of the chain and was left out')
    for more in (("-aes256",), ("-aes256", "-traditional"), ("-des3", "-traditional")):
        put("closed.pem", text(cert) + openssl("pkey", "-in", key, *more, "-passout", "pass:" + PASS).stdout)
        refused("closed", "closed.pem", "protected by a pass phrase", None)
        refused("closed", "closed.pem", "pass phrase of the private key is wrong", "no")
        done = json.loads(take("closed", "closed.pem --replace").stdout.splitlines()[0])
        lab.equal([w for w in done["data"]["warnings"] if "protection" in w], [])
    refused("bad", put("nocert.pem", text(key)), "no certificate in the file", None)
    refused("bad", put("nokey.pem", text(cert)), "The private key is missing", None)
    refused("bad", put("otherkey.pem", text(cert) + text(leaves["ec"][0])), "None of the certificates belongs", None)
    refused("bad", put("twokeys.pem", text(cert) + text(key) + text(leaves["ec"][0])), "several private keys", None)
    refused("bad", put("half.pem", text(key) + text(cert)[:600]), "damaged or incomplete|no certificate", None)
    refused("bad", put("nul.pem", text(cert) + "\0" + text(key)), "neither a PEM text", None)
    # the certificate alone renews a profile that has the key
    ca.sign("sub", "leaf", ca.path("rsa.example.com.csr"), ca.path("renewed.pem"), days=80)
    take("pem", put("renewed.pem", text(ca.path("renewed.pem"))) + " --replace", None)
    lab.equal([shown("pem")[k] for k in ("remaining_days", "intermediates")], [79, 2])


@lab.test("text of a PKCS#12 or PEM file may come from standard input")
def from_stdin():
    import base64
    data = base64.encodebytes(open(os.path.join(EXPORT, p12("ec", "in.p12")), "rb").read()).decode().strip()
    gate.batch("certconfig certificate import stdin %s" % here("data", data).rstrip("\n") + "\n", check=False)
    gate.batch("certconfig certificate import stdin data=<<D pass_phrase=<<P\n%s\nD\n%s\nP\n" % (data, PASS), args=("--commit",))
    lab.equal(shown("stdin")["common_name"], "ec.example.com")
    gate.batch("certconfig certificate import \"\" data=<<D\n%s%sD\n" % (text(leaves["ed"][0]), text(leaves["ed"][1])), args=("--commit",))
    lab.equal(shown("ed.example.com")["key"], "Ed25519") # called after its common name
    done = gate.batch("certconfig certificate import x data=<<D\nnot base64!\nD\n", args=("--commit",), check=False)
    lab.match(done.stdout + done.stderr, "neither a PEM text nor base64")


@lab.test("bundles: 150 certificates at once, 10,000 are refused at once")
def bundles():
    key, cert = leaves["rsa"]
    crowd = "".join(text(p) for p in (ca.root, ca.sub, cert))
    put("crowd.pem", text(key) + crowd + text("/etc/ssl/certs/ca-certificates.crt"))
    done = json.loads(take("crowd", "crowd.pem", None).stdout.splitlines()[0])
    lab.equal(len([w for w in done["data"]["warnings"] if "left out" in w]), 20)
    lab.equal(shown("crowd")["intermediates"], 2)
    one = text(ca.sub)
    refused("bad", put("more.pem", text(key) + text(cert) + one * 10000), "longer than|at most", None)
    refused("bad", put("tiny.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" * 10000), "more than 1000", None)
    done = gate.batch("certconfig certificate edit rsa update=no add_intermediate=yes intermediates=<<I\n%sI\n" % (one * 400), check=False,
                      args=("--commit",))
    lab.match(done.stdout + done.stderr, "more than 16 certificates")


@lab.test("names with escape sequences, directions and NUL bytes reach a terminal as text only")
def hostile_names():
    config = box.write("hostile.cnf", "[req]\nprompt=no\ndistinguished_name=dn\nstring_mask=utf8only\n[dn]\nCN=evil\x1b[31m\u202Eelif\n"
                                      "O=a\x07b\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-utf8", "-config", config, "-days", "30", "-keyout", box.path("evil.key"),
            "-out", box.path("evil.crt"))
    put("evil.pem", text(box.path("evil.key")) + text(box.path("evil.crt")))
    take("evil", "evil.pem", None)
    for command in ("certconfig certificate list", "certconfig certificate detail evil", "certconfig certificate check evil"):
        seen = gate.console(command).stdout
        lab.equal([c for c in seen if c in "\x1b\x07\u202e"], [], command)
    lab.match(gate.console("certconfig certificate detail evil").stdout, r"(?i)CN=evil\\x1b\[31m\\u\{202e\}")
    # a NUL in a subject alternative name: made by hand in the signed bytes, so the signature no longer fits
    raw = bytearray(openssl_der(leaves["ec"][1]))
    at = bytes(raw).rindex(b"ec.example.com")
    raw[at + 2] = 0
    put("nulname.pem", text(leaves["ec"][0]) + to_pem(bytes(raw)))
    take("nulname", "nulname.pem", None)
    lab.match(gate.console("certconfig certificate detail nulname").stdout, r"ec\\x00example\.com")
    lab.match(gate.console("certconfig certificate check nulname").stdout, "not a fully qualified domain name")


def openssl_der(path):
    return lab.run(["openssl", "x509", "-in", path, "-outform", "DER", "-out", box.path("der")]) and open(box.path("der"), "rb").read()


def to_pem(data):
    import base64
    return "-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(data).decode()


@lab.test("an authority run by openssl ca signs our requests: RSA, ECDSA, Ed25519; chain added, taken away, shown")
def requests():
    for algorithm in ("rsa-2048", "rsa-3072", "p256", "p384", "ed25519"):
        name = "csr-%s.example.com" % algorithm
        made = gate.batch("certconfig certificate new common_name=%s names=mx.%s algorithm=%s fqdn=yes\n" % (name, name, algorithm),
                          args=("--commit", "--json"))
        lab.equal(json.loads(made.stdout.splitlines()[0])["data"]["name"], name)
        csr = os.path.join(EXPORT, name + ".csr")
        lab.match(text(csr), "BEGIN CERTIFICATE REQUEST")
        lab.equal(text(csr), gate.json("certconfig certificate edit %s --csr" % name)["data"]["csr"])
        ca.sign("sub", "leaf", csr, ca.path(name + ".pem"))
        gate.batch("certconfig certificate edit %s certificate=<<C add_intermediate=yes intermediates=<<I\n%sC\n%sI\n" % (
            name, text(ca.path(name + ".pem")), text(ca.root) + text(ca.sub)), args=("--commit",))
        lab.equal([shown(name)[k] for k in ("issuer", "intermediates", "request")], ["ca Sub", 2, True])
    detail = gate.json("certconfig certificate detail " + name)["data"]
    lab.equal([c["common_name"] for c in detail["chain"]], ["ca Sub", "ca Root"])
    gate.batch("certconfig certificate edit %s update=no remove_intermediate=yes intermediate=%s\n" % (name, detail["chain"][1]["sha256"]),
               args=("--commit",))
    lab.equal(shown(name)["intermediates"], 1)
    gate.batch("certconfig certificate edit %s update=no add_intermediate=yes intermediates=<<I\n%sI\n" % (name, text(ca.root)),
               args=("--commit",))
    lab.equal(shown(name)["intermediates"], 2)
    done = gate.batch("certconfig certificate edit %s update=no add_intermediate=yes intermediates=<<I\n%sI\n" % (name, text(leaves["ec"][1])),
                      args=("--commit",), check=False)
    lab.match(done.stdout + done.stderr, "is not part of the chain")


@lab.test("digests: what is asked for signs certificate and request, SHA-1 is refused with the reason")
def digests():
    for algorithm, digest in (("rsa-2048", "sha512"), ("p256", "sha384")):
        made = gate.json("certconfig certificate new d common_name=d.example.com algorithm=%s digest=%s" % (algorithm, digest))["data"]
        for kind, words in (("certificate", ["x509"]), ("csr", ["req"])):
            shows = openssl(*words, "-noout", "-text", input=made[kind]).stdout
            lab.match(shows, r"(?i)Signature Algorithm: .*%s" % digest)
    done = gate.console("certconfig certificate new d common_name=d.example.com digest=sha1", check=False)
    lab.match(done.stdout + done.stderr, "can be forged")
    done = gate.console("certconfig certificate new d common_name=\"Mail Server\" fqdn=yes", check=False)
    lab.match(done.stdout + done.stderr, "not a fully qualified domain name")


@lab.test("what is wrong is said at import, by check, and with the commit, which it does not stop")
def findings():
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-sha1", "-subj", "/CN=weak", "-days", "5", "-keyout", box.path("weak.key"),
            "-out", box.path("weak.crt"))
    put("weak.pem", text(box.path("weak.key")) + text(box.path("weak.crt")))
    done = gate.batch("certconfig certificate import weak weak.pem\n", args=("--commit",))
    lab.match(done.stdout, r"Warning: certconfig (certificate )?weak: The key has only 1024 bits")
    words = [f["finding"] for f in gate.json("certconfig certificate check weak")["data"]["certificates"][0]["findings"]]
    lab.equal(sorted(words), ["expires-soon", "no-san", "not-fqdn", "weak-digest", "weak-key"])
    lab.equal(shown("weak")["common_name"], "weak")
    done = gate.console("listenerconfig edit OutboundMail certificate=weak tls=preferred; commit check; commit -y")
    lab.match(done.stdout, r"warning  listenerconfig OutboundMail: Certificate \"weak\" does not cover the name of this gateway")
    lab.match(done.stdout, r"The changes can be committed(?s:.*)Warning: (?s:.*)Changes committed")
    lab.match(gate.console("certconfig certificate check weak").stdout, r"name-mismatch")
    committed = json.loads(gate.console("listenerconfig edit OutboundMail certificate=Demo --json; commit -y --json").stdout.splitlines()[1])
    lab.match(committed["data"]["warnings"][0]["message"], "demonstration certificate")
    lab.equal(committed["ok"], True)
    done = gate.console("bounceconfig edit Default max_retry=7200; commit -y", check=False)
    lab.equal("Warning" in done.stdout, False) # what did not change is not said again


@lab.test("a saved configuration brings keys to another gateway: encrypted or plain; masked it stays at home")
def carried():
    key = openssl("pkey", "-pubout", "-in", leaves["rsa"][0]).stdout
    gate.batch("saveconfig encrypt file=carried.conf passphrase=<<P\n%s\nP\n" % PASS, args=("--commit",))
    gate.console("saveconfig mask file=masked.conf")
    gate.console("saveconfig plain file=plain.conf")
    encrypted, masked, plain = (text(os.path.join(EXPORT, n)) for n in ("carried.conf", "masked.conf", "plain.conf"))
    lab.equal(["PRIVATE KEY" in t for t in (encrypted, masked, plain)], [False, False, True])
    lab.equal(gate.batch("loadconfig masked.conf mode=replace\n", args=("--json",)).returncode, 0)
    lab.equal(json.loads(gate.console("loadconfig carried.conf mode=replace passphrase=x --json", check=False).stdout)["ok"], False)
    other = lab.Posternd(box.path("second"))
    for name, sentence, pass_phrase in (("masked.conf", "secret", None), ("carried.conf", "passphrase", "wrong"),
                                        ("carried.conf", None, PASS), ("plain.conf", None, None)):
        with open(os.path.join(area(other), name), "w") as f:
            f.write(re.sub(r"(port=)\d+", lambda m: m.group(1) + str(lab.free_port()), text(os.path.join(EXPORT, name))))
        words = "loadconfig %s mode=replace " % name + (here("passphrase", pass_phrase) if pass_phrase else "\n")
        done = other.batch(words, args=("--commit",), check=False)
        names = [c["name"] for c in other.json("certconfig certificate list")["data"]["certificates"]]
        if sentence:
            lab.match(done.stdout + done.stderr, sentence, name)
            lab.equal([done.returncode != 0, names], [True, ["Demo"]], name)
            continue
        lab.equal(done.returncode, 0, done.stdout + done.stderr)
        lab.equal("rsa" in names, True, name)
        other.batch("certconfig certificate export rsa out.p12 --replace " + here("pass_phrase", PASS))
        made = openssl("pkcs12", "-in", os.path.join(area(other), "out.p12"), "-nocerts", "-nodes", "-passin", "pass:" + PASS).stdout
        lab.equal(openssl("pkey", "-pubout", input=made[made.index("-----BEGIN"):]).stdout, key, name)


@lab.test("one list says where each certificate is used; what is used cannot be deleted, and what is gone is gone")
def used():
    rows = {c["name"]: c for c in gate.json("certconfig certificate list")["data"]["certificates"]}
    lab.equal(rows["rsa"]["uses"], ["InboundMail (listener)"])
    lab.match(gate.console("certconfig certificate list").stdout, r"(?m)^rsa .* 89 .*InboundMail \(listener\)$")
    done = gate.console("certconfig certificate delete rsa --yes", check=False)
    lab.match(done.stdout + done.stderr, r"used by InboundMail \(listener\)")
    gate.console("certconfig certificate delete evil --yes; commit -y")
    lab.equal(shown("evil"), None)
    done = gate.console("certconfig certificate detail evil", check=False)
    lab.equal(done.returncode != 0, True)


lab.main()
