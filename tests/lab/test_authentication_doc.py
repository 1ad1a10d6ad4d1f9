#!/usr/bin/python3
# timeout: 300
# The console sessions of doc/authentication.md, as they stand there, against a real directory; and that mail clients may
# then do what the page says.

import os
import re
import smtplib
import ssl

import lab
import slapd
import terminal
import transcript

PAGE = lab.read_text(os.path.join(lab.ROOT, "doc", "authentication.md"))
HOST = "ldap.example.com"
ANSWERED = re.compile(r"^((?:\* )?gw\.example\.com> |\[[^\n]*\]>|[^\n]*\? ?\[[YN]\]>|(?:Please enter the bind|Passphrase to use)[^\n]*: )(.*)$")
BOX = lab.Sandbox()
DIRECTORY = slapd.Slapd(BOX)
DIRECTORY.user("alice", "wonderland")
DIRECTORY.user("cara", "card", caccn="Cara Card", cacserial="0A1B")
USERS = lab.make_cert(BOX.path("users"), "Example Users CA", is_ca=True, stem="ca")
PORT = lab.free_port() # of a listener that the page makes
SECRETS = {"bind": slapd.SERVICE_PASSWORD, "use": "wonderland"}


def card(name, serial):
    """A client certificate of the users' authority."""
    pair = lab.CertPair(BOX.path("users", serial + ".crt"), BOX.path("users", serial + ".key"))
    lab.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", pair.key, "-out",
             pair.cert, "-days", "30", "-subj", "/CN=" + name, "-set_serial", "0x" + serial, "-addext",
             "basicConstraints=critical,CA:FALSE", "-CA", USERS.cert, "-CAkey", USERS.key])
    return pair


CARA, STRANGER = card("Cara Card", "0A1B"), card("Nobody Known", "0A1C")


def section(title):
    """The console sessions under a heading."""
    text = lab.match(PAGE, r"(?ms)^## %s$(.*?)(?=^## |\Z)" % re.escape(title)).group(1)
    return re.findall(r"(?ms)^```console\n(.*?)^```", text)


def braced(block):
    """The session as a transcript; what is not seen when it is typed is in SECRETS."""
    out = []
    for line in block.rstrip("\n").split("\n"):
        asked = ANSWERED.match(line)
        if line == "(the certificate in PEM format)":
            out += ["{%s}" % pem for pem in lab.read_text(USERS.cert).strip().split("\n")]
        elif line == ".":
            out.append("{.}")
        elif asked:
            prompt, typed = asked.group(1), asked.group(2).strip()
            typed = SECRETS[re.search(r"\b(bind|use)\b", prompt).group(1)] if typed == "********" else typed
            out.append("%s{%s}" % (prompt if prompt.endswith(" ") else prompt + " ", typed))
        else:
            out.append(line)
    text = "\n".join(out) + "\n[...]gw.example.com>"
    text = re.sub(r"\d{14}Z", "<number>Z", re.sub(transcript.DATE, "<date>", text))
    text = text.replace("address=0.0.0.0 port=587", "address=127.0.0.1 port=%d" % PORT)
    return text.replace(HOST, "127.0.0.1:%d" % DIRECTORY.port)


def gateway(name, *parts):
    bundle = BOX.write(name + ".pem", lab.read_text(DIRECTORY.ca))
    os.chmod(bundle, 0o644)
    gate = lab.Posternd(BOX.path(name), env={"SSL_CERT_FILE": bundle})
    gate.configure("sethostname gw.example.com\n")
    t = terminal.console(gate, rows=400, columns=100)
    for block in parts:
        transcript.follow(t, braced(block), "gw.example.com")
    lab.equal(t.leave(), 0, "exit status")
    return gate


def client(gate, pair=None, port=None):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    c = smtplib.SMTP("127.0.0.1", port or gate.private, timeout=30, local_hostname="client.example.com")
    c.ehlo()
    lab.equal(c.has_extn("auth"), False, "AUTH in clear text")
    c.starttls(context=context)
    c.ehlo()
    return c


def sends(c):
    """The reply to MAIL."""
    code, text = c.mail("user@example.com")
    c.close()
    return code if code == 250 else "%d %s" % (code, text.decode())


def logs_in(c, user, password):
    try:
        c.user, c.password = user, password
        return c.auth("PLAIN", c.auth_plain)[0]
    except smtplib.SMTPAuthenticationError as e:
        return "%d %s" % (e.smtp_code, e.smtp_error.decode())


COMMON = section("The directory")
ONE, TWO, THREE = section("1. A certificate"), section("2. Name and passphrase"), section("3. A certificate, else name and passphrase")


@lab.test("a certificate: who has one of a user of the directory sends, nobody else")
def certificate():
    gate = gateway("one", *COMMON, *ONE)
    c = client(gate, CARA)
    lab.equal(c.esmtp_features.get("auth", "EXTERNAL").strip(), "EXTERNAL", "AUTH")
    lab.equal(sends(c), 250)
    lab.match(sends(client(gate)), r"^554 .*A client certificate is required: none was shown")
    lab.match(sends(client(gate, STRANGER)), r"^554 .*certificate")
    gate.stop()


@lab.test("name and passphrase: the right one sends, without it nobody does")
def passphrase():
    gate = gateway("two", *COMMON, *TWO)
    c = client(gate)
    lab.equal(logs_in(c, "alice", "wonderland"), 235)
    lab.equal(sends(c), 250)
    lab.match(logs_in(client(gate), "alice", "card"), r"^535 ")
    lab.match(sends(client(gate)), r"^530 .*must authenticate before sending")
    c = client(gate)
    lab.equal(logs_in(c, "cara", "card"), 235, "one who is monitored")
    lab.equal(sends(c), 250)
    gate.maillog().wait_for(r"SMTP Auth: \(ICID \d+\) monitored user: cara ")
    gate.stop()


@lab.test("a certificate, else name and passphrase: either sends, and who has a card is told to use it")
def either():
    gate = gateway("three", *COMMON, *ONE[:2], *TWO[:1], *THREE)
    lab.equal(sends(client(gate, CARA)), 250)
    c = client(gate)
    lab.equal(logs_in(c, "alice", "wonderland"), 235)
    lab.equal(sends(c), 250)
    lab.equal(logs_in(client(gate), "cara", "card"), "525 Dear user, please use your CAC to send email.")
    lab.match(sends(client(gate)), r"^530 .*must authenticate before sending")
    with smtplib.SMTP("127.0.0.1", gate.private, timeout=30, local_hostname="client.example.com") as clear:
        clear.ehlo()
        lab.match(sends(clear), r"^530 ")
    gate.stop()


@lab.test("from everywhere: who has authenticated sends, and it is no open relay even by mistake")
def everywhere():
    gate = gateway("four", *COMMON, *TWO, *section("From everywhere"))
    lab.eventually(lambda: lab.listening(PORT), 5)
    c = client(gate, port=PORT)
    lab.equal(logs_in(c, "alice", "wonderland"), 235)
    lab.equal((c.mail("alice@example.com")[0], c.rcpt("friend@elsewhere.example")[0]), (250, 250))
    lab.match(sends(client(gate, port=PORT)), r"^530 .*must authenticate before sending")
    gate.console("listenerconfig edit Submission auth=preferred; commit -y")
    lab.match(sends(client(gate, port=PORT)), r"^530 .*Authentication required")
    done = gate.console("listenerconfig edit Submission protocol=smtp; commit -y", check=False)
    lab.match(done.stdout + done.stderr, r"open relay")
    gate.stop()


lab.main()
