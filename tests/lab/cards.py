"""What tests of client certificates share: an authority that issues cards, the directory that knows their owners, and a
gateway that asks both.

    world = cards.World()
    alice = world.card("alice")                # a lab.CertPair; .serial; its owner is in the directory as uid=alice
    world.card("mallory", known=False)         # the directory does not know it
    world.card("old", expired=True); world.card("x", by=world.other); world.card("x", usage="serverAuth")
    world.recipe("certificate")                # "certificate", "password" or "either", as the recipes of the manual
    mail(world, alice)                         # the last reply of a message over STARTTLS
"""

import os
import ssl

import crlweb
import dnstree
import lab
import slapd

QUERIES = """ldapconfig set dir hosts=127.0.0.1:{port} base=ou=people,dc=example,dc=com server_type=openldap cache_ttl=0 query_timeout=3s connect_timeout=2s
ldapconfig query set dir.smtpauth server=dir kind=smtpauth filter=(uid={{u}}) method=bind \
allowance="(&(uid={{u}})(|(!(caccn=*))(cacexempt=*)(cacemergency>={{t}})))"
ldapconfig query set dir.certauth server=dir kind=certauth filter="(&(caccn={{cn}})(cacserial={{sn}}))" fields="cn, sn" user_attribute=uid
smtpauthconfig set password kind=ldap query=dir.smtpauth check_allowed=yes refused=reject refused_code=525 \
refused_text="Dear user, please use your CAC to send email."
smtpauthconfig set cac kind=certificate cert_query=dir.certauth
smtpauthconfig set either kind=certificate cert_query=dir.certauth allow_auth=yes fallback=password
"""

RECIPES = { # the profile of the listener, and what its policy RELAYED says
    "certificate": ("cac", "tls=required verify_client=on auth=required auth_needs_tls=default"),
    "password": ("password", "tls=required verify_client=default auth=required auth_needs_tls=default"),
    "either": ("either", "tls=preferred verify_client=default auth=required auth_needs_tls=on"),
}


class World:
    def __init__(self, box=None):
        self.box = box or lab.Sandbox()
        self.authority = crlweb.Authority(self.box, "cards", "Card CA")
        self.other = crlweb.Authority(self.box, "other", "Other CA")
        self.web = crlweb.Web(self.box)
        self.tree = dnstree.DnsTree(self.box)
        self.tree.a("crl.lab.example", "127.0.0.1")
        self.directory = slapd.Slapd(self.box)
        self.sink = lab.Sink(store=self.box.path("in"))
        self.gate = lab.Posternd(self.box.path("home"), start=False)
        self.tree.attach(self.gate)
        self.log = self.gate.maillog()
        self.gate.configure("certconfig certauthority custom set cards certificate=<<END\n%sEND\n" % self.authority.pem
                            + "certconfig certauthority set custom_list=yes\n"
                            + "updateconfig set allow_private_addresses=yes\n"
                            + "smtproutes new ALL 127.0.0.1:%d\n" % self.sink.port
                            + "listenerconfig rcptaccess new InboundMail/example.com\n"
                            + "listenerconfig edit OutboundMail max_concurrency=200\n"
                            + "listenerconfig setup auth_failures_host=1000\n"
                            + QUERIES.format(port=self.directory.port))

    def card(self, name, known=True, expired=False, by=None, usage="clientAuth", subject=None, **attributes):
        by = by or self.authority
        stem = "%s-%d" % (name, len(os.listdir(by.dir)))
        key, request, cert = (os.path.join(by.dir, stem + end) for end in (".key", ".csr", ".crt"))
        lab.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                 "-out", request, "-subj", subject or "/CN=" + name, "-addext", "extendedKeyUsage=" + usage,
                 "-addext", "subjectAltName=email:%s@example.com" % name])
        dates = ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"] if expired else ["-days", "30"]
        by.run("-in", request, "-out", cert, *dates)
        pair = lab.CertPair(cert, key, by.pair.cert)
        pair.serial = lab.run(["openssl", "x509", "-in", cert, "-noout", "-serial"]).stdout.strip().partition("=")[2]
        if known:
            self.directory.user(name, "%s-password" % name, caccn=name, cacserial=pair.serial, **attributes)
        return pair

    def recipe(self, name):
        profile, policy = RECIPES[name]
        self.gate.configure("listenerconfig edit OutboundMail smtp_auth=%s\n"
                            "listenerconfig edit OutboundMail hostaccess edit policy RELAYED %s\n" % (profile, policy))

    @property
    def port(self):
        """Of the listener that the recipes are for."""
        return self.gate.private

    def client(self, card=None, tls=True, ehlo=True):
        """A client that has greeted, over STARTTLS unless tls=False."""
        c = lab.Smtp(self.port)
        c.ehlo()
        if tls:
            c.starttls(lab.client_context(cert=card), ehlo=ehlo)
        return c



def mail(c, rcpt="someone@elsewhere.example", ident="m"):
    return c.message("sender@example.com", rcpt, lab.make_message(ident, 200))
