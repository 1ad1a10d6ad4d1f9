# Revocation lists: fetched from real web servers, made by openssl ca, and what they do to deliveries. A list that cannot be
# used never takes the place of one that can.

import os
import re
import stat
import time

import crlweb
import dnstree
import lab

box = lab.Sandbox()
tree = dnstree.DnsTree(box)
corp = crlweb.Authority(box, "corp", "Corp CA")
other = crlweb.Authority(box, "other", "Other CA", key="rsa")
web = crlweb.Web(box)
gate = lab.Posternd(box.path("home"), start=False, env={"SSL_CERT_FILE": web.authority.pair.cert})
log = gate.maillog()
SINKS = {}


def here(text):
    return "<<END\n%sEND\n" % text


def trust(name, authority):
    return "certconfig certauthority custom set %s certificate=%s" % (name, here(authority.pem))


def sink(stem):
    """A server for STEM.example with a certificate of the corporation, and a destination that wants it verified."""
    if stem not in SINKS:
        pair = corp.issue(stem + ".example")
        s = lab.Sink("--cert", pair.cert, "--key", pair.key)
        SINKS[stem] = (s, pair)
        gate.configure("smtproutes new {0}.example [127.0.0.1]:{1}\ndestconfig new {0}.example use_tls=require_verify\n".format(stem, s.port))
    return SINKS[stem][1]


def setup():
    if gate.child:
        return
    tree.a("crl.lab.example", "127.0.0.1")
    tree.attach(gate)
    gate.configure("updateconfig set allow_private_addresses=yes\n"
                   "bounceconfig edit Default initial_retry=3600 max_retry=7200\n"
                   + trust("corp", corp) + "certconfig certauthority set custom_list=yes\n"
                   "certconfig crl setup outbound=yes\n")


def source(name):
    return next(s for s in gate.json("certconfig crl print")["data"]["sources"] if s["name"] == name)


def state(name, want, timeout=15):
    def there():
        return source(name)["state"] == want

    lab.eventually(there, timeout, "source %s is %s" % (name, want))
    return source(name)


def update(name, ok=True):
    """The line it says."""
    done = gate.console("certconfig crl update " + name, check=False)
    lab.equal(done.returncode, 0 if ok else 1, done.stdout + done.stderr)
    return done.stdout


def send(stem):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<sender@client.lab.example>", 250)
        c.cmd("RCPT TO:<rcpt@%s.example>" % stem, 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("t", 500)))[1])
        c.quit()

    def decided():
        return log.find(r"Message done DCID \d+ MID %d " % mid) or log.find(r"Delayed: DCID \d+ MID %d " % mid)

    line = lab.eventually(decided, 20, "MID %d is decided" % mid)[0]
    if line.startswith("Message done"):
        return "delivered"
    return next(r["last_error"] for r in gate.json("showrecipients all")["data"]["recipients"] if r["mid"] == mid)


def alerts(words):
    return [a["text"] for a in gate.json("displayalerts")["data"]["alerts"] if words in a["text"]]


@lab.test("a list of each type, over http and https, is fetched as soon as it is committed, and kept")
def fetched():
    setup()
    revoked = corp.issue("gone.example")
    corp.revoke(revoked, "keyCompromise")
    web.put("corp.crl", corp.crl())
    web.put("corp.pem", corp.crl(pem=True))
    web.put("v1.crl", corp.crl(extensions=None))
    gate.configure("certconfig crl new corp url=%s\ncertconfig crl new pem format=pem url=%s\ncertconfig crl new v1 url=%s\n"
                   % (web.url("corp.crl"), web.url("corp.pem", tls=True), web.url("v1.crl")))
    for name in ("corp", "pem", "v1"):
        s = state(name, "current")
        lab.equal((s["entries"], s["issuer"]), (1, "CN=Corp CA"))
        path = box.path("home", "crl", name + ".crl")
        lab.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        lab.run(["openssl", "crl", "-inform", "DER", "-in", path, "-noout"])
    lab.equal(source("corp")["number"], str(0x1000))
    lab.match(gate.console("certconfig crl print").stdout, r"(?m)^corp +Current +CN=Corp CA +1 ")
    lab.match(gate.console("certconfig crl print corp").stdout, r"(?m)^Primary URL: http://crl\.lab\.example")
    gate.configure("certconfig crl delete v1\ncertconfig crl delete pem\n")
    lab.eventually(lambda: os.listdir(box.path("home", "crl")) == ["corp.crl"], 10, "the files of the others are gone")


@lab.test("a revoked server is refused once the list says so, on an open connection as well; others are not")
def revoked():
    setup()
    sink("good")
    pair = sink("bad")
    lab.equal(send("bad"), "delivered")
    lab.equal(send("good"), "delivered")
    lab.equal(send("bad"), "delivered") # the connection waits for more
    corp.revoke(pair, "superseded")
    web.put("corp.crl", corp.crl())
    lab.match(update("corp"), r"^corp: updated, 2 entries, in date until ")
    lab.match(send("bad"), r"certificate revoked on %s \(superseded\)" % time.strftime("%Y-%m-%d", time.gmtime()))
    lab.equal(send("good"), "delivered")
    lab.match(update("corp"), r"^corp: not changed, 2 entries")
    gate.configure("certconfig crl setup outbound=no\n")
    lab.equal(send("bad"), "delivered")
    gate.configure("certconfig crl setup outbound=yes\n")
    lab.match(send("bad"), "certificate revoked")
    gate.configure("destconfig edit bad.example use_tls=on_verify\n") # mail goes whatever comes out
    lab.equal(send("bad"), "delivered")
    gate.configure("destconfig edit bad.example use_tls=require_verify\n")


@lab.test("a certificate is looked up for a person, whatever is switched on")
def looked_up():
    setup()
    bad, good = sink("bad"), sink("good")
    os.makedirs(box.path("home", "export"), exist_ok=True)
    for name, text in (("bad.pem", lab.read_text(bad.cert) + lab.read_text(good.cert)), ("web.pem", lab.read_text(web.authority.pair.cert))):
        path = box.write("home/export/" + name, text)
        os.chmod(path, 0o644)
    text = gate.console("certconfig crl check bad.pem").stdout
    lab.match(text, r"(?s)CN=bad\.example: revoked\n.*corp \(Current\): revoked 20\S+ \(superseded\)\n.*CN=good\.example: not revoked\n.*corp \(Current\): not listed")
    lab.equal([c["result"] for c in gate.json("certconfig crl check web.pem")["data"]["certificates"]], ["unknown"])
    lab.equal([c["result"] for c in gate.json("certconfig crl check Demo")["data"]["certificates"]], ["unknown"])
    done = gate.batch("certconfig crl check certificate=" + here(lab.read_text(bad.cert)))
    lab.match(done.stdout, "CN=bad.example: revoked")
    lab.match(gate.console("certconfig crl check nosuch", check=False).stderr, "no file")


@lab.test("what cannot be used never replaces what can: garbage, tampered, older, delta, indirect, of a stranger")
def unusable():
    setup()
    good = corp.crl()
    older = web.files["/corp.crl"]
    web.put("corp.crl", good)
    update("corp")
    number = source("corp")["number"]
    tampered = bytearray(good)
    tampered[-5] ^= 1
    for body, why in ((b"no list at all", "It is not a certificate revocation list"),
                      (b"", "It is not a certificate revocation list"),
                      (bytes(tampered), "signature of the list is wrong"),
                      (good[:-10], "It is not a certificate revocation list"),
                      (older, r"older than the one in force: its number is 409\d, after"),
                      (corp.crl(extensions="delta"), "This is a delta list"),
                      (corp.crl(extensions="indirect"), "This is an indirect list"),
                      (corp.crl(pem=True), "The file is PEM, not ASN.1"),
                      (corp.crl(crl_lastupdate="20900101000000Z", crl_nextupdate="20910101000000Z"), "dated in the future"),
                      (other.crl(), r"issuer of the list \(CN=Other CA\) is not among.*certconfig > certauthority"),
                      (bytes((64 << 20) + 1), "the answer is too long"),
                      (301, "redirection"), (404, "status 404"), (None, "corp: not updated: .")):
        web.put("corp.crl", body)
        lab.match(update("corp", ok=False), why, repr(body)[:60])
        s = source("corp")
        lab.equal((s["state"], s["number"]), ("current", number), why)
        lab.match(send("bad"), "certificate revoked")
    lab.equal("/elsewhere.crl" in web.requests, False)
    lab.eventually(lambda: alerts('CRL source "corp": update failed'), 10, "the alert")
    web.put("corp.crl", corp.crl())
    update("corp")
    lab.equal(source("corp").get("failure"), None)
    lab.eventually(lambda: alerts('CRL source "corp" was updated again'), 10, "the all-clear")


@lab.test("the secondary URL serves when the primary fails or has a list that cannot be used")
def secondary():
    setup()
    web.put("second.crl", corp.crl())
    gate.configure("certconfig crl new two url=%s url2=%s\n" % (web.url("first.crl"), web.url("second.crl", tls=True)))
    s = state("two", "current")
    lab.equal(s["fetched_from"], web.url("second.crl", tls=True))
    web.put("first.crl", b"\x30\x03\x02\x01\x01")
    web.put("second.crl", corp.crl())
    update("two")
    lab.equal(source("two")["fetched_from"], web.url("second.crl", tls=True))
    web.put("first.crl", corp.crl())
    update("two")
    lab.equal(source("two")["fetched_from"], web.url("first.crl"))
    web.put("first.crl", 500)
    web.put("second.crl", 500)
    lab.match(update("two", ok=False), r"status 500.*The secondary URL: .*status 500")
    gate.configure("certconfig crl delete two\n")


@lab.test("a list whose issuer is unknown waits for it; one whose issuer goes counts no more")
def authorities():
    setup()
    web.put("other.crl", other.crl())
    gate.configure("certconfig crl new other url=%s\n" % web.url("other.crl"))
    lab.eventually(lambda: "import its certificate" in source("other").get("failure", ""), 10, "the reason")
    lab.equal(source("other")["state"], "missing")
    asked = web.count("other.crl")
    gate.configure(trust("other", other))
    state("other", "current") # without a further word
    lab.equal(web.count("other.crl") > asked, True)
    gate.configure("certconfig certauthority custom delete other\n")
    state("other", "missing")
    gate.configure(trust("other", other))
    state("other", "current")
    gate.configure("certconfig crl delete other\ncertconfig certauthority custom delete other\n")


@lab.test("the last good list outlives its server, a restart and a power cut; a damaged file is not used")
def restart():
    setup()
    number = source("corp")["number"]
    web.stop()
    lab.match(update("corp", ok=False), "corp: not updated: ")
    lab.equal(source("corp")["state"], "current")
    gate.restart()
    s = source("corp")
    lab.equal((s["state"], s["number"], s["fetched_from"]), ("current", number, "disk"))
    lab.match(send("bad"), "certificate revoked")
    gate.kill()
    gate.start()
    lab.match(send("bad"), "certificate revoked")
    gate.stop()
    path = box.path("home", "crl", "corp.crl")
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[-5] ^= 1
    with open(path, "wb") as f:
        f.write(data)
    gate.start()
    lab.equal(source("corp")["state"], "missing")
    lab.eventually(lambda: lab.match(gate.console("grep crl system_logs").stdout,
                                     "corp: the list that was kept cannot be used: The signature") or True, 5)
    web.start()
    lab.match(update("corp"), r"corp: (updated|not changed)")
    lab.equal(source("corp")["state"], "current")
    lab.match(send("bad"), "certificate revoked")


@lab.test("an outdated list is used with an alert, or its certificates are refused; so is one that never came")
def outdated():
    setup()
    web.put("corp.crl", corp.crl(seconds=4))
    update("corp")
    lab.equal(send("good"), "delivered")
    state("corp", "outdated")
    lab.eventually(lambda: alerts('revocation list "corp" is outdated'), 10, "the alert")
    lab.equal(send("good"), "delivered")
    lab.match(send("bad"), "certificate revoked")
    gate.configure("certconfig crl setup stale=refuse\n")
    lab.match(send("good"), 'revocation list "corp" is outdated since ')
    lab.match(send("bad"), "certificate revoked")
    web.put("corp.crl", corp.crl())
    update("corp")
    lab.equal(send("good"), "delivered")
    web.put("corp.crl", corp.crl(seconds=3)) # with a connection open that was good
    update("corp")
    lab.equal(send("good"), "delivered")
    state("corp", "outdated")
    lab.match(send("good"), 'revocation list "corp" is outdated since ')
    gate.configure("certconfig crl delete corp\ncertconfig crl new never url=%s\n" % web.url("never.crl"))
    lab.match(send("good"), 'revocation list "never" could not be fetched yet')
    gate.configure("certconfig crl setup stale=accept\n")
    lab.equal(send("good"), "delivered")
    lab.eventually(lambda: alerts('CRL source "never": update failed'), 10, "the alert")
    gate.configure("certconfig crl delete never\n")


@lab.test("settings that cannot work are refused with the field and the fix")
def rules():
    setup()
    for words, why in (("url=ftp://crl.example/a.crl", "must begin with https:// or http://"),
                       ("url=https:///a.crl", "names no host"),
                       ("url=https://user:pw@crl.example/a.crl", "may not contain a user name"),
                       ("url=https://crl.example", "must go on with the file name"),
                       ("url=https://crl.example/", "must go on with the file name"),
                       ("url=https://crl.example/a.crl#x", 'may not contain "#"'),
                       ("url=https://crl.example:0/a.crl", "port in the URL"),
                       ("url=https://crl.example:99999/a.crl", "port in the URL"),
                       ("url=https://[2001:db8::1]/a.crl", "not an IPv6 address"),
                       ("url=https://crl_{}.example/a.crl", "must be written as"),
                       ("url=https://crl.example/a.crl url2=https://crl.example/a.crl", "same as the primary"),
                       ("url=https://crl.example/a.crl time=25:00", "HH:MM"),
                       ("url=https://crl.example/a.crl schedule=yearly", "daily")):
        done = gate.batch("certconfig crl new x %s\n" % words, args=("--commit",), check=False)
        lab.equal(done.returncode != 0, True, words)
        lab.match(done.stdout + done.stderr, why)
    lab.equal(gate.json("certconfig crl print")["data"]["sources"], [])
    lab.match(gate.console("certconfig crl update", check=False).stderr, "No CRL source is enabled")
    done = gate.json("certconfig crl update nosuch", check=False)
    lab.equal(done["code"], "E_NOT_FOUND")
    gate.configure("updateconfig set allow_private_addresses=no\ncertconfig crl new x url=%s\n" % web.url("corp.crl"))
    lab.match(update("x", ok=False), "crl.lab.example has no public address")
    gate.configure("certconfig crl delete x\n")
    gate.configure("certconfig crl setup outbound=no\n")
    done = gate.batch("certconfig crl new x url=https://crl.example/a.crl enabled=no\ncertconfig crl edit x enabled=yes\n",
                      args=("--commit",))
    lab.match(done.stdout + done.stderr, "has no effect: checking against CRLs is switched off")


lab.main()
