# Whom the gateway trusts and what it shows: lists of authorities and what they do to verified deliveries, several certificates
# behind one listener as openssl and gnutls see them, the end of certificates, and the TLSA records that say all this in the DNS.

import hashlib
import os
import re
import subprocess
import time

import dnstree
import lab

box = lab.Sandbox()
certs = box.mkdir("certs")
root = lab.make_cert(certs, "Lab Root", is_ca=True)
partner_ca = lab.make_cert(certs, "Partner Root", is_ca=True, key="rsa")
bundle = box.write("bundle.pem", lab.read_text(root.cert))
os.chmod(bundle, 0o644)
gate = lab.Posternd(box.path("home"), env={"SSL_CERT_FILE": bundle})
log = gate.maillog()
sink_cert = lab.make_cert(certs, "mx.partner.example", sans=["partner.example"], ca=partner_ca, stem="sink")
sink = lab.Sink("--cert", sink_cert.cert, "--key", sink_cert.key)

PAIRS = {
    "first": lab.make_cert(certs, "first.example", ca=root),
    "a-ec": lab.make_cert(certs, "a.example", ca=root, stem="a-ec"),
    "a-rsa": lab.make_cert(certs, "a.example", key="rsa", ca=root, stem="a-rsa"),
    "wild": lab.make_cert(certs, "wild", sans=["*.wild.example"], key="rsa", ca=root, stem="wild"),
}


def here(text, tag="END-OF-TEXT"):
    return "<<%s\n%s\n%s\n" % (tag, text.strip(), tag)


def set_profile(name, pair):
    """Without <<END of the last value on the line: two here-texts follow it."""
    return "certconfig set %s certificate=<<CERT private_key=<<KEY\n%s\nCERT\n%s\nKEY\n" % (
        name, lab.read_text(pair.cert).strip(), lab.read_text(pair.key).strip())


def fingerprint(pair):
    der = subprocess.run(["openssl", "x509", "-in", pair.cert, "-outform", "DER"], stdout=subprocess.PIPE, check=True)
    return hashlib.sha256(der.stdout).hexdigest()


def shown(*args, client=lab.s_client):
    """SHA-256 of the leaf that openssl s_client gets; None: no session."""
    done = client(gate.public, *args)
    pem = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done.stdout, re.S)
    if not pem:
        return None
    der = subprocess.run(["openssl", "x509", "-outform", "DER"], input=pem[0].encode(), stdout=subprocess.PIPE, check=True)
    return hashlib.sha256(der.stdout).hexdigest()


def export_file(name, text):
    home = os.stat(box.path("home"))
    os.makedirs(box.path("home", "export"), exist_ok=True)
    for path in (box.path("home", "export"), box.write("home/export/" + name, text)):
        os.chown(path, home.st_uid, home.st_gid)
    return name


def setup():
    if hasattr(setup, "done"):
        return
    setup.done = True
    gate.configure("".join(set_profile(n, p) for n, p in PAIRS.items()) +
                   "listenerconfig edit InboundMail certificate=first certificates=a-ec,a-rsa,wild tls=preferred\n"
                   "sethostname admin_address=ops@admin.example\n"
                   "smtproutes new ALL 127.0.0.1:%d\n"
                   "bounceconfig edit Default initial_retry=3600 max_retry=7200\n"
                   "destconfig new partner.example use_tls=require_verify\n" % sink.port)


EC = ("-sigalgs", "ECDSA+SHA256")
RSA = ("-sigalgs", "RSA-PSS+SHA256:RSA+SHA256")


@lab.test("openssl is shown the chain of the name it asks for and of the key type it can verify")
def names():
    setup()
    for args, name in ((("-noservername",), "first"), (("-servername", "first.example"), "first"),
                       (("-servername", "a.example", *EC), "a-ec"), (("-servername", "a.example", *RSA), "a-rsa"),
                       (("-servername", "x.wild.example"), "wild"),
                       (("-servername", "nobody.example"), "first"),
                       (("-servername", "a.example", "-tls1_2", *RSA), "a-rsa"),
                       (("-servername", "a.example", "-tls1_2", *EC), "a-ec")):
        lab.equal(shown(*args), fingerprint(PAIRS[name]), " ".join(args))
    done = lab.s_client(gate.public, "-servername", "x.wild.example", "-CAfile", root.cert, "-verify_hostname", "x.wild.example",
                        "-verify_return_error")
    lab.match(done.stdout, r"Verify return code: 0 \(ok\)")


@lab.test("gnutls-cli sees the same")
def gnutls():
    setup()
    for name, host, priority in (("a-ec", "a.example", "NORMAL:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256"),
                                 ("a-rsa", "a.example", "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256"),
                                 ("wild", "q.wild.example", "NORMAL"), ("first", "nobody.example", "NORMAL")):
        lab.equal(shown("--sni-hostname", host, "--priority", priority, "--print-cert", client=lab.gnutls_cli),
                  fingerprint(PAIRS[name]), host + " " + priority)


@lab.test("a renewed certificate serves the next handshake; open sessions and tickets of the others stay")
def renewed():
    setup()
    session = box.path("session")
    lab.s_client(gate.public, "-servername", "x.wild.example", "-tls1_2", "-sess_out", session)
    old = lab.Smtp(gate.public)
    old.ehlo()
    old.starttls(lab.client_context(), name="a.example")
    PAIRS["a-rsa"] = lab.make_cert(certs, "a.example", key="rsa", ca=root, stem="a-rsa2")
    gate.configure(set_profile("a-rsa", PAIRS["a-rsa"]))
    lab.equal(shown("-servername", "a.example", *RSA), fingerprint(PAIRS["a-rsa"]))
    old.cmd("NOOP", 250)
    old.quit()
    done = lab.s_client(gate.public, "-servername", "x.wild.example", "-tls1_2", "-sess_in", session)
    lab.match(done.stdout, r"(?m)^Reused, TLSv1\.2")
    done = lab.s_client(gate.public, "-servername", "a.example", "-tls1_2", "-sess_in", session)
    lab.match(done.stdout, r"(?m)^New, TLSv1\.2")


@lab.test("missing, doubled and unfinished profiles are refused by name; a profile in the list cannot be deleted")
def refused():
    setup()
    for words, reason in (("certificates=a-ec,nosuch", "There is no certificate profile nosuch"),
                          ("certificates=first", "Certificate profile first is named twice")):
        done = gate.batch("listenerconfig edit InboundMail %s\n" % words, args=("--commit",), check=False)
        lab.match(done.stdout + done.stderr, reason)
        lab.equal(done.returncode != 0, True, words)
    done = gate.batch("certconfig delete wild\n", args=("--commit",), check=False)
    lab.match(done.stdout + done.stderr, r"used by .*InboundMail")


def send(ident):
    """A message to the verified destination: "sent", or the reason it waits."""
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>", 250)
        c.cmd("RCPT TO:<b@partner.example>", 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message(ident, 500)))[1])
        c.quit()
    line = lab.eventually(lambda: log.find(r"Message done DCID \d+ MID %d " % mid) or log.find(r"Delayed: DCID \d+ MID %d " % mid),
                          20, "MID %d is decided" % mid)[0]
    return "sent" if "Message done" in line else line


@lab.test("a custom authority makes a verified delivery pass; disabling it stops the next handshake")
def custom():
    setup()
    lab.match(send("unknown"), "Delayed")
    export_file("partner.pem", "the partner's root\n" + lab.read_text(partner_ca.cert))
    done = gate.json("certconfig certauthority custom import partner.pem")
    lab.equal((done["data"]["added"], done["data"]["names"]), (1, ["Partner-Root"]))
    gate.console('commit "trust the partner" y', check=False)
    gate.batch("certconfig certauthority custom import partner.pem\n", args=("--commit",))
    lab.equal(send("imported"), "sent")
    gate.configure("certconfig certauthority custom edit Partner-Root enabled=no\n")
    lab.match(send("entry disabled"), "Delayed")
    gate.configure("certconfig certauthority custom edit Partner-Root enabled=yes\n")
    lab.equal(send("entry enabled"), "sent")
    gate.configure("certconfig certauthority custom disable\n")
    lab.match(send("list disabled"), "Delayed")
    gate.configure("certconfig certauthority custom enable\n")
    lab.equal(send("list enabled"), "sent")
    gate.configure("certconfig certauthority custom delete Partner-Root\n")
    lab.match(send("deleted"), "Delayed")


@lab.test("the system list is the bundle that was there at the start, until it is updated; it can be switched off")
def system():
    setup()
    status = gate.json("certconfig certauthority status")["data"]["system"]
    lab.equal((status["count"], status["enabled"], status["file"]), (1, True, bundle))
    lab.match(status["version"], r"^sha256:[0-9a-f]{16}$")
    lab.match(gate.console("certconfig certauthority system update").stdout, "is up to date")
    box.write("bundle.pem", lab.read_text(root.cert) + lab.read_text(partner_ca.cert))
    lab.match(send("bundle not read yet"), "Delayed")
    lab.match(gate.console("certconfig certauthority system update").stdout, r"was updated to version sha256:\w+; it holds 2")
    lab.equal(send("bundle read"), "sent")
    gate.configure("certconfig certauthority system disable\n")
    lab.match(send("system off"), "Delayed")
    gate.configure("certconfig certauthority system enable\n")
    lab.equal(send("system on"), "sent")
    os.rename(bundle, bundle + ".away")
    done = gate.console("certconfig certauthority system update", check=False)
    lab.match(done.stdout + done.stderr, r"reading \S+bundle\.pem: No such file")
    lab.equal(gate.json("certconfig certauthority status")["data"]["system"]["count"], 2)
    for operation in ("import x.pem", "delete Lab-Root", "add x.pem"):
        done = gate.console("certconfig certauthority system " + operation, check=False)
        lab.equal(done.returncode != 0, True, operation)
    names = [a["name"] for a in gate.json("certconfig certauthority system list")["data"]["authorities"]]
    lab.equal(names, ["Lab-Root", "Partner-Root"])
    gate.console("certconfig certauthority system export list-of-system")
    lab.equal(lab.read_text(box.path("home", "export", "list-of-system.txt")).count("BEGIN CERTIFICATE"), 2)
    export_file("taken.txt", "somebody's\n")
    for words in ("certconfig certauthority system export taken", "destconfig export taken.txt", "smtproutes export taken.txt",
                  "saveconfig mask file=taken.txt"):
        done = gate.console(words, check=False)
        lab.match(done.stdout + done.stderr, r"taken.txt already exists. Choose another name, or overwrite it with --replace", words)
        lab.equal(done.returncode != 0, True, words)
        lab.equal(lab.read_text(box.path("home", "export", "taken.txt")), "somebody's\n", words)
        gate.console(words + " --replace")
        lab.equal(lab.read_text(box.path("home", "export", "taken.txt")) != "somebody's\n", True, words)
        os.unlink(box.path("home", "export", "taken.txt"))
        export_file("taken.txt", "somebody's\n")


@lab.test("a bundle of 150 is taken at once, one of 10,000 gets a sentence, and what is refused changes nothing")
def bundles():
    setup()
    path = "/etc/ssl/certs/ca-certificates.crt"
    if not os.path.exists(path):
        lab.skip("ca-certificates is not installed")
    many = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", lab.read_text(path), re.S)
    export_file("many.pem", "".join(many))
    started = time.monotonic()
    gate.batch("certconfig certauthority custom import many.pem\n", args=("--commit",))
    took = time.monotonic() - started
    lab.note("%d authorities imported and committed in %.3f s" % (len(many), took))
    lab.equal(took < 20, True, "%.2f s" % took) # a second or so; each for itself would be minutes
    before = gate.console("showconfig").stdout
    lab.equal(before.count("certconfig certauthority custom set"), len(set(many)))
    export_file("huge.pem", "".join(many) * 70)
    export_file("none.txt", "nothing in here\n")
    export_file("key.pem", lab.read_text(root.key))
    export_file("cut.pem", many[0] + many[1][:300] + "\n-----END CERTIFICATE-----\n")
    strangers = "".join(lab.read_text(lab.make_cert(certs, "No FQDN %d" % i, is_ca=True, stem="many").cert) for i in range(3))
    export_file("names.pem", strangers)
    for words, reason in (("huge.pem", r"(holds more than 1000 certificates|too (large|long|big)|at most)"),
                          ("none.txt", "holds no certificate in PEM format"), ("key.pem", "holds no certificate in PEM format"),
                          ("cut.pem", "Certificate 2 of the text is damaged"), ("nosuch.pem", "nosuch.pem"),
                          ("names.pem fqdn=yes", r"Certificate 1 \(No-FQDN-0\): its common name No FQDN 0 is not a fully qualified")):
        done = gate.batch("certconfig certauthority custom import %s\n" % words, args=("--commit",), check=False)
        lab.equal(done.returncode != 0, True, words)
        lab.match(done.stdout + done.stderr, reason, words)
    lab.equal(gate.console("showconfig").stdout, before)
    gate.batch("certconfig certauthority custom import many.pem\n", args=("--commit",)) # the same once more
    lab.equal(gate.console("showconfig").stdout, before)
    gate.configure("certconfig certauthority custom import partner.pem\n")
    lab.equal(gate.json("certconfig certauthority status")["data"]["custom"]["count"], 1)


@lab.test("hostile names are escaped; a certificate without the CA flag is imported with a warning, or refused if that is wanted")
def hostile():
    setup()
    evil = box.path("certs", "evil.pem")
    lab.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
             box.path("certs", "evil.key"), "-out", evil, "-days", "3", "-utf8", "-subj",
             "/CN=evil\x1b[31m\u202eroot\x07/O=line\nbreak", "-addext", "basicConstraints=critical,CA:TRUE"])
    leaf = lab.make_cert(certs, "leaf.partner.example")
    export_file("evil.pem", lab.read_text(evil) + lab.read_text(leaf.cert))
    done = gate.json("certconfig certauthority custom add evil.pem")
    lab.equal(done["data"]["added"], 2)
    lab.equal(done["data"]["warnings"], ["leaf.partner.example has no CA flag: it is trusted as the certificate of one peer."])
    gate.console("clearchanges Y")
    gate.batch("certconfig certauthority custom add evil.pem\n", args=("--commit",))
    for command in ("print", "detail %s" % done["data"]["names"][0], "list"):
        text = gate.console("certconfig certauthority custom " + command).stdout
        lab.equal(any(c in text for c in "\x1b\u202e\x07"), False, command)
    gate.configure("certconfig certauthority check_ca_flag=yes\n")
    done = gate.batch("certconfig certauthority custom import text=%s" % here(lab.read_text(leaf.cert)), args=("--commit",),
                      check=False)
    lab.match(done.stdout + done.stderr, r"Certificate 1 \(leaf\.partner\.example\) is not one of a certificate authority")


def alerts():
    return [a["text"] for a in gate.json("displayalerts")["data"]["alerts"] if "certificate" in a["text"]]


@lab.test("certificates that end soon are announced once, over restarts too; the looks at our own listeners leave no trace")
def ends():
    setup()
    soon = lab.make_cert(certs, "soon.example", days=14)
    gate.configure(set_profile("soon", soon) + "listenerconfig edit OutboundMail certificate=soon tls=preferred\n")
    lab.eventually(lambda: any("\"soon\" will expire in" in a for a in alerts()), 15, "the alert about soon")
    told = [a for a in alerts() if "soon" in a]
    lab.match(told[0], r"Your certificate \"soon\" will expire in 13 days\.\s+It ends on .*It is used by .*OutboundMail")
    last = len(log.find(r"New SMTP ICID \d+ "))
    gate.restart()
    gate.configure("listenerconfig edit OutboundMail max_rcpts_per_msg=9000\n")
    time.sleep(3) # the round after a commit comes after two seconds
    lab.equal([a for a in alerts() if "soon" in a], told)
    lab.equal([a for a in alerts() if "listener" in a.split(".")[0]], [])
    lab.equal(len(log.find(r"New SMTP ICID \d+ ")), last)
    lab.equal("could not be looked at" in lab.read_text(box.path("home", "log", "system_logs", "system.current")), False)


@lab.test("TLSA: what to publish, and what a signed and an unsigned zone serve now")
def tlsa():
    setup()
    tree = dnstree.DnsTree(box, ttl=1)
    tree.zone("secure.example")
    tree.zone("plain.example", state="insecure")
    tree.mx("secure.example", "10 mx1.secure.example", "20 mx2.secure.example", "30 elsewhere.plain.example")
    pair = lab.make_cert(certs, "gw.secure.example", sans=["gw.secure.example", "mx1.secure.example", "mx2.secure.example",
                                                           "gw.plain.example"], ca=root, stem="published")

    def digest(cert):
        key = subprocess.run(["openssl", "x509", "-in", cert, "-pubkey", "-noout"], check=True, stdout=subprocess.PIPE)
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.stdout, check=True,
                             stdout=subprocess.PIPE)
        return hashlib.sha256(der.stdout).hexdigest()

    gateway = lab.Posternd(box.path("published"), start=False)
    port = "_%d._tcp." % gateway.public
    ours, authority = "3 1 1 " + digest(pair.cert), "2 1 1 " + digest(root.cert)
    tree.tlsa(port + "gw.secure.example", ours, authority)
    tree.tlsa(port + "mx1.secure.example", ours, "3 1 1 " + "ab" * 32, "1 0 1 " + "cd" * 32)
    tree.start()
    tree.attach(gateway)
    gateway.configure("certconfig set published certificate=<<CERT private_key=<<KEY intermediates=<<CHAIN\n%s\nCERT\n%s\nKEY\n%s\nCHAIN\n"
                   "sethostname gw.secure.example\n"
                   "listenerconfig rcptaccess set InboundMail/secure.example action=accept\n"
                   "listenerconfig edit InboundMail certificate=published certificates=\n"
                   % (lab.read_text(pair.cert).strip(), lab.read_text(pair.key).strip(), lab.read_text(root.cert).strip()))
    data = gateway.json("certconfig certificate tlsa published")["data"]
    lab.equal(sorted(r["text"] for r in data["records"]),
              sorted("%s%s. IN TLSA %s" % (port, h, t) for h in ("gw.secure.example", "mx1.secure.example", "mx2.secure.example")
                     for t in (ours, authority)))
    lab.equal(data["other_hosts"], ["elsewhere.plain.example"])
    states = {p["name"][len(port):]: (p["state"], p.get("secure")) for p in data["published"]}
    lab.equal(states, {"gw.secure.example": ("matches", True), "mx1.secure.example": ("partly", True),
                       "mx2.secure.example": ("missing", True)})
    text = gateway.console("certconfig certificate tlsa published").stdout
    lab.match(text, r"(?m)^; There are no records in the DNS\.$")
    lab.match(text, r"(?m)^;   1 0 1 (cd)+: usage 1 ")
    gateway.configure("sethostname gw.plain.example\n")
    tree.set(port + "gw.plain.example", "TLSA", "3 1 1 " + "ab" * 32)
    text = gateway.console("certconfig certificate tlsa published").stdout
    lab.match(text, r"(?m)^; None of the records in the DNS matches this profile")
    lab.match(text, r"(?m)^; The answer is insecure: the zone is not signed")


@lab.test("without a bundle the gateway starts, says so, and can be told later")
def absent():
    other = lab.Posternd(box.path("bare"), env={"SSL_CERT_FILE": box.path("nosuch.pem")})
    status = other.json("certconfig certauthority status")["data"]["system"]
    lab.equal((status["count"], status["version"]), (0, ""))
    lab.eventually(lambda: "system list of certificate authorities is empty" in other.console("grep authorities system_logs").stdout,
                   10, "the warning")
    box.write("nosuch.pem", lab.read_text(root.cert))
    lab.match(other.console("certconfig certauthority system update").stdout, "it holds 1 certificate")
    other.stop()


lab.main()
