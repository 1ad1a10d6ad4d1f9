# A real directory for tests: OpenLDAP's slapd on loopback, made from nothing in a sandbox.
#
#     import lab, slapd
#
#     box = lab.Sandbox()
#     directory = slapd.Slapd(box)                       # started; ldap on directory.port, ldaps on directory.ldaps_port
#     directory.user("alice", "secret")                  # uid=alice,ou=people,dc=example,dc=com, userPassword {SSHA}
#     directory.user("bob", "hunter2", scheme="crypt", caccn="Bob B", cacserial="0A1B2C")
#     directory.user("eve", "x", cacexempt="yes")
#     directory.user("tom", "x", caccn="Tom", cacemergency=slapd.generalized_time(+3600))   # for an hour from now
#     directory.modify("eve", delete=["cacexempt"], replace={"mail": "eve@example.com"})
#     directory.remove("eve")
#     directory.stop(); directory.start()                # the same ports, the same entries
#     directory.kill(); directory.freeze(); directory.thaw()     # dies; hangs (SIGSTOP); goes on
#     directory.log_text()                               # with log="stats": each BIND, SRCH and RESULT
#     directory.searches(), directory.binds()            # how many it has served (cn=monitor)
#
# Who may what: anonymous reads everything but userPassword; slapd.SERVICE_DN with slapd.SERVICE_PASSWORD reads that too;
# slapd.ROOT_DN with slapd.ROOT_PASSWORD may do all. Every user may bind. Base of users: slapd.PEOPLE.
#
# Attributes of CAC users, as in the gateway's example queries: caccn, cacserial, cacexempt (strings), cacemergency
# (GeneralizedTime, compares with >=), in the auxiliary class cacUser that every user has.
#
# TLS: directory.ca is the PEM file of the authority, directory.pair the server's certificate (127.0.0.1, localhost and
# names). client_cert() makes one whose subject may bind with SASL EXTERNAL: directory.client_cert("gateway") is mapped to
# SERVICE_DN. tls=False: none. verify_client="demand": nobody gets in without one.
#
# Schemes of user(): "ssha", "sha", "smd5", "md5", "crypt" (SHA-512), "plain", "ssha256", "ssha512" (module pw-sha2),
# "argon2" (module argon2), "raw" (the password text is the stored value as it is: "{SCRAM-SHA-256}...").
#
# Limits of a database: extra="sizelimit 1\n" and the like go into slapd.conf.

import base64
import hashlib
import os
import signal
import time
import warnings

import lab

BASE = "dc=example,dc=com"
PEOPLE = "ou=people," + BASE
ROOT_DN = "cn=root," + BASE
ROOT_PASSWORD = "root-password"
SERVICE_DN = "cn=gateway," + BASE
SERVICE_PASSWORD = "gateway-password"

SCHEMA = """
attributetype ( 1.3.6.1.4.1.4203.666.1.9001 NAME 'caccn' DESC 'common name of the common access card'
    EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1.9002 NAME 'cacserial' DESC 'serial number of its certificate'
    EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1.9003 NAME 'cacexempt' DESC 'needs no card'
    EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1.9004 NAME 'cacemergency' DESC 'may do without until then'
    EQUALITY generalizedTimeMatch ORDERING generalizedTimeOrderingMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.24 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.4203.666.1.9005 NAME 'cacupn' DESC 'principal name of the card'
    EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1.9006 NAME 'cacfp' DESC 'SHA-256 fingerprint of the certificate'
    EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.4203.666.1.9010 NAME 'cacUser' SUP top AUXILIARY
    MAY ( caccn $ cacserial $ cacexempt $ cacemergency $ cacupn $ cacfp ) )
"""

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include {dir}/cac.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload back_monitor
{modules}
pidfile {dir}/slapd.pid
loglevel {log}
threads 8
{tls}
authz-regexp "cn=([^,]+).*,ou=services" "cn=$1,{base}"
{globals}
database monitor
access to * by * read
database mdb
maxsize 1073741824
suffix "{base}"
rootdn "{root}"
rootpw {rootpw}
directory {dir}/data
index objectClass,uid,caccn,cacserial eq
dbnosync
access to attrs=userPassword by dn.exact="{service}" read by * auth
access to * by * read
{extra}
"""


def generalized_time(seconds=0):
    """So many seconds from now, in UTC."""
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))


def stored_password(password, scheme="ssha"):
    """What a directory keeps in userPassword."""
    data = password.encode()
    salt = os.urandom(8)

    def b64(name, salted):
        digest = hashlib.new(name, data + (salt if salted else b"")).digest()
        return base64.b64encode(digest + (salt if salted else b"")).decode()

    if scheme in ("plain", "raw"):
        return password
    if scheme in ("sha", "md5"):
        return "{%s}%s" % (scheme.upper(), b64({"sha": "sha1", "md5": "md5"}[scheme], False))
    if scheme in ("ssha", "smd5", "ssha256", "ssha512"):
        name = {"ssha": "sha1", "smd5": "md5", "ssha256": "sha256", "ssha512": "sha512"}[scheme]
        return "{%s}%s" % (scheme.upper(), b64(name, True))
    if scheme == "crypt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import crypt
            return "{CRYPT}" + crypt.crypt(password, crypt.mksalt(crypt.METHOD_SHA512))
    if scheme == "argon2":
        done = lab.run([lab.which("slappasswd"), "-o", "module-path=/usr/lib/ldap", "-o", "module-load=argon2",
                        "-h", "{ARGON2}", "-n", "-s", password])
        return done.stdout.strip()
    raise ValueError(scheme)


def ldif(dn, attributes):
    """One entry; values are strings, bytes or lists of them."""
    def line(name, value):
        data = value if isinstance(value, bytes) else str(value).encode()
        return "%s:: %s\n" % (name, base64.b64encode(data).decode())

    text = line("dn", dn)
    for name, values in attributes.items():
        for value in values if isinstance(values, (list, tuple)) else [values]:
            text += line(name, value)
    return text + "\n"


def user_entry(uid, password=None, scheme="ssha", base=PEOPLE, **attributes):
    """(dn, attributes) of a user as user() adds it."""
    entry = {"objectClass": ["inetOrgPerson", "cacUser"], "uid": uid, "cn": uid, "sn": uid,
             "mail": "%s@example.com" % uid}
    if password is not None:
        entry["userPassword"] = stored_password(password, scheme)
    entry.update(attributes)
    rdn = "".join("\\" + c if c in ',+"\\<>;#=' else c for c in str(entry["uid"]))
    return "uid=%s,%s" % (rdn, base), entry


class Slapd:
    def __init__(self, box=None, tls=True, verify_client="never", names=("directory.lab.example",), sans=None,
                 log="none", modules=("pw-sha2", "argon2"), globals="", extra="", entries="", minimum=None, start=True):
        """globals, extra: lines of slapd.conf, of the server and of the database. entries: LDIF loaded at first.
        sans: exactly these names in the server's certificate, "DNS:other.example". minimum: TLSProtocolMin, "3.4" is
        TLS 1.3."""
        lab.need_program("slapd")
        self.box = box or lab.Sandbox()
        number = 1
        while os.path.exists(self.box.path("slapd%d" % number)):
            number += 1
        self.dir = self.box.mkdir("slapd%d" % number)
        os.makedirs(os.path.join(self.dir, "data"))
        self.log = os.path.join(self.dir, "slapd.log")
        self.loglevel = log
        self.port = lab.free_port()
        self.ldaps_port = lab.free_port() if tls else 0
        self.url = "ldap://127.0.0.1:%d" % self.port
        self.child = None
        lines = ""
        if tls:
            self.authority = lab.make_cert(self.dir, "Directory CA", is_ca=True, stem="ca")
            self.ca = self.authority.cert
            self.pair = self._certify("server", "/CN=directory", ["IP:127.0.0.1", "DNS:localhost"]
                                      + ["DNS:" + n for n in names] if sans is None else sans)
            lines = ("TLSCACertificateFile %s\nTLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSVerifyClient %s\n"
                     % (self.ca, self.pair.cert, self.pair.key, verify_client))
            if minimum:
                lines += "TLSProtocolMin %s\n" % minimum
        self._write("cac.schema", SCHEMA)
        self.config = self._write("slapd.conf", CONFIG.format(
            dir=self.dir, base=BASE, root=ROOT_DN, rootpw=ROOT_PASSWORD, service=SERVICE_DN, log=log, tls=lines,
            modules="\n".join("moduleload " + m for m in modules), globals=globals, extra=extra))
        first = ldif(BASE, {"objectClass": ["dcObject", "organization"], "dc": "example", "o": "Example"})
        first += ldif(PEOPLE, {"objectClass": "organizationalUnit", "ou": "people"})
        first += ldif(SERVICE_DN, {"objectClass": ["organizationalRole", "simpleSecurityObject"], "cn": "gateway",
                                   "userPassword": stored_password(SERVICE_PASSWORD)})
        lab.run([lab.which("slapadd"), "-q", "-f", self.config, "-l", self._write("first.ldif", first + entries)],
                timeout=120)
        if start:
            self.start()

    def _write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def start(self):
        urls = self.url + ("/ ldaps://127.0.0.1:%d/" % self.ldaps_port if self.ldaps_port else "/")
        level = {"none": "0"}.get(self.loglevel, self.loglevel)
        self.child = lab.Child([lab.which("slapd"), "-d", level, "-f", self.config, "-h", urls], log=self.log)
        lab.eventually(self._answers, 20, "slapd answers on port %d" % self.port)
        return self

    def _answers(self):
        if not self.child.running():
            raise RuntimeError("slapd ended with status %d\n%s" % (self.child.process.returncode, self.log_text()))
        return self.search("(objectClass=*)", base=BASE, scope="base", check=False).returncode == 0

    def stop(self):
        self.thaw()
        return self.child.stop()

    def kill(self):
        return self.child.kill()

    def freeze(self):
        """Accepts connections (the kernel does) and answers nothing."""
        self.child.process.send_signal(signal.SIGSTOP)
        lab.eventually(self._is_stopped, 5, "slapd stops")

    def _is_stopped(self):
        tasks = "/proc/%d/task" % self.child.pid
        return all(lab.read_text(os.path.join(tasks, t, "stat")).rpartition(")")[2].split()[0] == "T"
                   for t in os.listdir(tasks))

    def thaw(self):
        if self.child.running():
            self.child.process.send_signal(signal.SIGCONT)

    def log_text(self):
        return lab.read_text(self.log)

    # --- entries ---

    def add(self, dn, attributes):
        self._tool("ldapadd", ldif(dn, attributes))
        return dn

    def user(self, uid, password=None, scheme="ssha", base=PEOPLE, **attributes):
        """Adds a user; returns the DN. Attributes beyond uid, cn, sn and mail by name."""
        return self.add(*user_entry(uid, password, scheme, base, **attributes))

    def modify(self, uid, replace=None, delete=()):
        """uid: of a user, or a whole DN."""
        text = "dn: %s\nchangetype: modify\n" % self.dn(uid)
        for name in delete:
            text += "delete: %s\n-\n" % name
        for name, value in (replace or {}).items():
            data = value if isinstance(value, bytes) else str(value).encode()
            text += "replace: %s\n%s:: %s\n-\n" % (name, name, base64.b64encode(data).decode())
        self._tool("ldapmodify", text)

    def password(self, uid, password, scheme="ssha"):
        self.modify(uid, replace={"userPassword": stored_password(password, scheme)})

    def remove(self, uid):
        self._tool("ldapdelete", self.dn(uid) + "\n")

    @staticmethod
    def dn(uid):
        return uid if "=" in uid else "uid=%s,%s" % (uid, PEOPLE)

    def _tool(self, name, text):
        lab.run([name, "-x", "-H", self.url, "-D", ROOT_DN, "-w", ROOT_PASSWORD], input=text,
                env=dict(os.environ, LDAPNOINIT="1"))

    # --- looking ---

    def search(self, filter, *attributes, base=PEOPLE, scope="sub", check=True):
        """ldapsearch; the completed process."""
        return lab.run(["ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", self.url, "-b", base, "-s", scope, filter,
                        *attributes], check=check, env=dict(os.environ, LDAPNOINIT="1"))

    def _operations(self, name):
        done = self.search("(objectClass=*)", "monitorOpCompleted", base="cn=%s,cn=Operations,cn=Monitor" % name,
                           scope="base")
        return int(lab.match(done.stdout, r"monitorOpCompleted: (\d+)").group(1))

    def searches(self):
        """Searches completed so far; the ones that ask this count as well."""
        return self._operations("Search")

    def binds(self):
        """Binds completed so far; an ldapsearch of ours makes one, anonymous."""
        return self._operations("Bind")

    # --- certificates ---

    def client_cert(self, name="gateway"):
        """A client certificate by the directory's authority; EXTERNAL makes its owner cn=NAME,BASE."""
        return self._certify("client-" + name, "/OU=services/CN=" + name, [])

    def _certify(self, stem, subject, sans):
        pair = lab.CertPair(os.path.join(self.dir, stem + ".crt"), os.path.join(self.dir, stem + ".key"), self.ca)
        lab.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                 pair.key, "-out", pair.cert, "-days", "30", "-subj", subject, "-addext",
                 "basicConstraints=critical,CA:FALSE", "-CA", self.authority.cert, "-CAkey", self.authority.key]
                + (["-addext", "subjectAltName=" + ",".join(sans)] if sans else []))
        return pair
