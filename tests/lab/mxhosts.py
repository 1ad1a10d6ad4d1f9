# MX hosts on port 25 of loopback addresses of their own, with chosen certificates, and what becomes of mail to them.

import hashlib
import random
import re
import subprocess

import lab

PROVEN, TLS, CLEAR, WAITS = "proven", "tls", "clear", "waits"


def net():
    return "127.%d.%d.%d" % (random.randrange(64, 128), random.randrange(1, 255), random.randrange(1, 255))


def der(pair, what):
    """The certificate, or its public key, in DER."""
    certificate = subprocess.run(["openssl", "x509", "-in", pair.cert, "-outform", "DER"], check=True,
                                 stdout=subprocess.PIPE).stdout
    if what == 0:
        return certificate
    key = subprocess.run(["openssl", "x509", "-in", pair.cert, "-pubkey", "-noout"], check=True, stdout=subprocess.PIPE)
    return subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.stdout, check=True,
                          stdout=subprocess.PIPE).stdout


def tlsa(usage, selector, matching, pair):
    data = der(pair, selector)
    data = {0: data, 1: hashlib.sha256(data).digest(), 2: hashlib.sha512(data).digest()}[matching]
    return "%d %d %d %s" % (usage, selector, matching, data.hex())


class Server(lab.Sink):
    """A sink on port 25 of an address of its own. chain: sends this CA's certificate as well; pair: made elsewhere."""

    def __init__(self, box, stem, *options, chain=None, pair=None, **cert):
        self.pair = pair or lab.make_cert(box.mkdir("certs"), stem=stem, **cert)
        path = self.pair.cert
        if chain:
            path = box.write("certs/%s.chain" % stem, lab.read_text(self.pair.cert) + lab.read_text(chain.cert))
        self.address = net()
        super().__init__("--listen", self.address + ":25", "--cert", path, "--key", self.pair.key, *options)


class Mail:
    """Messages through one gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.log = gateway.maillog()

    def configure(self, *statements):
        self.gateway.console("; ".join(statements) + '; commit "test" Y')

    def submit(self, rcpt, port=None):
        with lab.Smtp(port or self.gateway.private) as c:
            c.ehlo()
            c.cmd("MAIL FROM:<sender@client.lab.example>", 250)
            c.cmd("RCPT TO:<%s>" % rcpt, 250)
            mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message("t", 500)))[1])
            c.quit()
        return mid

    def outcome(self, mid, domain):
        """Proven: by DANE, for this domain. A session that was proven for another one may carry what needs no proof."""
        def decided():
            return (self.log.find(r"Message done DCID \d+ MID %d " % mid)
                    or self.log.find(r"Delayed: DCID \d+ MID %d " % mid)
                    or self.log.find(r"Bounced: DCID \d+ MID %d " % mid))

        line = lab.eventually(decided, 40, "MID %d is decided" % mid)[0]
        if line.startswith("Bounced"):
            return "bounced"
        if line.startswith("Delayed"):
            return WAITS
        dcid = re.search(r"DCID (\d+)", line)[1]
        tls = re.search(r"DCID %s TLS success protocol \S+ cipher \S+(?: for (\S+))?$" % dcid, self.log.text(), re.M)
        return CLEAR if not tls else PROVEN if tls[1] == domain else TLS

    def queued(self):
        return {r["mid"]: r for r in self.gateway.json("showrecipients all")["data"]["recipients"]}
