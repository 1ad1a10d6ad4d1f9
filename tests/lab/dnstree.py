"""A private signed DNS tree on loopback: a root of its own, top level domains and zones in every state of health.

    import dnstree, lab

    box = lab.Sandbox()
    tree = dnstree.DnsTree(box)
    tree.zone("secure.example")                          # signed, trusted; so are "example" and the root above it
    tree.zone("plain.example", state="insecure")         # not signed, and its parent proves that
    tree.zone("wrong.example", state="bogus")            # see STATES for all of them
    tree.mx("secure.example", "10 mx.secure.example", "20 mx2.secure.example")
    tree.a("mx.secure.example", "127.9.9.9")
    tree.tlsa("_25._tcp.mx.secure.example", "3 1 1 " + digest)
    tree.txt("_mta-sts.secure.example", "v=STSv1; id=1;")
    tree.cname("alias.secure.example", "mx.plain.example")
    tree.start()

    gateway = lab.Posternd(box.path("home"), start=False)
    tree.attach(gateway)           # starts it unless it runs, points its resolver at the tree, trusts the tree's root
    gateway.console(tree.commands() + "; commit dns Y")     # or by hand: tree.commands() are the console's words

While it runs: tree.set(name, type, *values) replaces one set of records (none: removes it), signs anew and reloads;
tree.change() is a context in which many changes are made at once. A gateway keeps what it has learnt for `tree.ttl`
seconds unless it is told `dnsflush`.

    tree.fail("mx.secure.example", "servfail")           # or "silent", "refused", "truncate"; one type: type="TLSA"
    tree.repair("mx.secure.example")
    tree.forge("mx.secure.example", "TLSA")              # the signature of this one set of records does not fit;
                                                         # of type NSEC: that of the proof that others do not exist
    tree.asked                                           # [(name, type), ...] of the questions that came
    other = tree.forwarder(strip=True)                   # one more way into the tree: a resolver that strips DNSSEC

Records of a name go to the closest zone above it that was declared; a name below no declared zone makes its top level
domain. Names of zones, hosts and aliases are without the final dot.

The tree is one NSD, with all zones, behind a relay of this process which makes the faults. Both listen on 127.0.0.1.
"""

import base64
import contextlib
import hashlib
import os
import socket
import socketserver
import struct
import subprocess
import threading
import time

import lab

STATES = {
    "secure": "signed; its parent has its DS",
    "insecure": "not signed, and its parent proves that it has no DS",
    "bogus": "signed, but its parent's DS is that of another key",
    "expired": "its signatures ended in 2020",
    "future": "its signatures begin in 2090",
    "forged": "the signatures do not fit the records",
    "unsigned": "its parent has a DS, but it has no signatures at all",
    "nodenial": "signed, but the records that prove absence are missing",
    "island": "signed, but its parent proves that it has no DS: insecure without an anchor of its own",
}
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "DS": 43,
         "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "NSEC3": 50, "TLSA": 52, "CAA": 257, "ANY": 255}
NAMES = {number: name for name, number in TYPES.items()}
SIGNATURES = {46, 47, 48, 50, 43}


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.lower().split(".") if label) + b"\0"


def parent_of(name):
    return name.partition(".")[2]


class Key:
    """One ECDSA key, which signs every zone: a key's owner is not part of it."""

    def __init__(self, directory, zone="key.invalid"):
        stem = subprocess.run(["ldns-keygen", "-k", "-a", "ECDSAP256SHA256", zone], cwd=directory, check=True,
                              capture_output=True, text=True, timeout=20).stdout.strip()
        with open(os.path.join(directory, stem + ".key")) as f:
            self.dnskey = f.read().split("DNSKEY", 1)[1].split(";")[0].strip()
        with open(os.path.join(directory, stem + ".private")) as f:
            self.private = f.read()
        flags, protocol, algorithm, key = self.dnskey.split(None, 3)
        self.rdata = struct.pack("!HBB", int(flags), int(protocol), int(algorithm)) + base64.b64decode(key)
        total = sum(b if i & 1 else b << 8 for i, b in enumerate(self.rdata))
        self.tag = (total + (total >> 16)) & 0xffff

    def ds(self, zone):
        digest = hashlib.sha256(wire(zone) + self.rdata).hexdigest()
        return "%d 13 2 %s" % (self.tag, digest)


class Zone:
    def __init__(self, name, state, ttl, nsec3):
        self.name, self.state, self.ttl, self.nsec3 = name, state, ttl, nsec3
        self.records = {} # (name, type): [text]
        self.forged = set() # (name, type) whose signatures are spoilt
        self.serial = 1

    def text(self):
        dot = lambda name: name + "." if name else "."
        lines = ["%s %d IN SOA %s %s %d 3600 600 86400 %d" % (dot(self.name), self.ttl, dot("ns." + self.name if self.name
                 else "ns"), dot("root." + self.name if self.name else "root"), self.serial, self.ttl),
                 "%s %d IN NS %s" % (dot(self.name), self.ttl, dot("ns." + self.name if self.name else "ns")),
                 "%s %d IN A 127.0.0.1" % (dot("ns." + self.name if self.name else "ns"), self.ttl)]
        for (name, kind), values in sorted(self.records.items()):
            lines += ["%s %d IN %s %s" % (dot(name), self.ttl, kind, value) for value in values]
        return "\n".join(lines) + "\n"


class DnsTree:
    def __init__(self, box, ttl=300):
        for program in ("nsd", "ldns-signzone", "ldns-keygen"):
            if not lab.which(program):
                raise lab.Skip("%s is not installed" % program)
        self.dir = box.mkdir("dnstree-%d" % lab.free_port())
        self.ttl = ttl
        self.key, self.wrong = Key(self.dir), Key(self.dir)
        self.zones = {}
        self.faults = {} # (name, type number or None): how
        self.nsd = None
        self.asked = []
        self.dirty = set()
        self.hold = 0
        self.zone("")
        self.anchor = box.write(os.path.basename(self.dir) + ".key", ". 3600 IN DNSKEY %s\n" % self.key.dnskey)
        os.chmod(self.anchor, 0o644)
        self.authority = lab.free_port()
        self.relay = Forwarder(self)
        self.port = self.relay.port
        self.address = "127.0.0.1"
        lab.at_end(self.stop)

    # --- contents

    def zone(self, name, state="secure", nsec3=False):
        assert state in STATES, state
        name = name.strip(".").lower()
        if name and "." in name and self.closest(parent_of(name)).name == "":
            self.zone(name.rpartition(".")[2])
        self.zones[name] = Zone(name, state, self.ttl, nsec3)
        self.touch(name)
        if name:
            parent = self.closest(parent_of(name))
            parent.records[name, "NS"] = ["ns.%s." % name]
            parent.records["ns." + name, "A"] = ["127.0.0.1"]
            parent.records.pop((name, "DS"), None)
            if state not in ("insecure", "island"):
                parent.records[name, "DS"] = [(self.wrong if state == "bogus" else self.key).ds(name)]
            self.touch(parent.name)
        return self

    def closest(self, name):
        while name not in self.zones:
            name = parent_of(name)
        return self.zones[name]

    def set(self, name, kind, *values):
        """Replaces the records of one name and type; no values: removes them."""
        name = name.strip(".").lower()
        zone = self.closest(name)
        if not zone.name and name:
            self.zone(name.rpartition(".")[2])
            zone = self.closest(name)
        if values:
            zone.records[name, kind.upper()] = list(values)
        else:
            zone.records.pop((name, kind.upper()), None)
        self.touch(zone.name)
        return self

    def mx(self, name, *values):
        """Values as "10 mx.example.com"; "0 ." is the null MX."""
        return self.set(name, "MX", *("%s %s." % (v.split()[0], v.split()[1].rstrip(".")) for v in values))

    def a(self, name, *addresses):
        return self.set(name, "A", *addresses)

    def aaaa(self, name, *addresses):
        return self.set(name, "AAAA", *addresses)

    def tlsa(self, name, *values):
        return self.set(name, "TLSA", *values)

    def txt(self, name, *texts):
        """One record per text; what is longer than 255 bytes becomes several strings of one record."""
        return self.set(name, "TXT", *(" ".join('"%s"' % t[i:i + 255].replace("\\", "\\\\").replace('"', '\\"')
                                                for i in range(0, max(len(t), 1), 255)) for t in texts))

    def cname(self, name, target):
        return self.set(name, "CNAME", target.rstrip(".") + ".")

    def forge(self, name, kind, on=True):
        """The signatures of these records do not fit them (on=False: they do again)."""
        zone = self.closest(name)
        (zone.forged.add if on else zone.forged.discard)((name.lower(), kind.upper()))
        self.touch(zone.name)
        return self

    # --- faults that no zone file can have

    def fail(self, name, how, type=None):
        """Questions for name and what is below it are answered "servfail", "refused", "truncate" (nothing but the
        request to come again over TCP), "nodnssec" (without signatures) or not at all ("silent")."""
        self.faults[name.strip(".").lower(), TYPES[type] if type else None] = how

    def repair(self, name, type=None):
        self.faults.pop((name.strip(".").lower(), TYPES[type] if type else None), None)

    def fault(self, name, kind):
        while self.faults:
            for key in ((name, kind), (name, None)):
                if key in self.faults:
                    return self.faults[key]
            if not name:
                break
            name = parent_of(name)
        return None

    def forwarder(self, **faults):
        """Another address of the same tree: strip=True takes DNSSEC away, silent=True never answers, servfail=True always
        fails; each may be set and cleared later as an attribute."""
        return Forwarder(self, **faults)

    # --- running

    def touch(self, zone):
        self.dirty.add(zone)
        if self.nsd and not self.hold:
            self.reload()

    @contextlib.contextmanager
    def change(self):
        """Changes made inside become visible together at its end."""
        self.hold += 1
        try:
            yield self
        finally:
            self.hold -= 1
        if self.nsd and not self.hold:
            self.reload()

    def file(self, zone, suffix=""):
        return os.path.join(self.dir, (zone or "root") + ".zone" + suffix)

    def write(self, zone):
        zone.serial += 1
        plain, done = self.file(zone.name, ".plain"), self.file(zone.name)
        with open(plain, "w") as f:
            f.write(zone.text())
        if zone.state in ("insecure", "unsigned"):
            os.replace(plain, done)
            return
        name = zone.name + "." if zone.name else "."
        stem = self.file(zone.name, ".sign")
        with open(stem + ".key", "w") as f:
            f.write("%s IN DNSKEY %s\n" % (name, self.key.dnskey))
        with open(stem + ".private", "w") as f:
            f.write(self.key.private)
        dates = {"expired": ("20200101", "20200201"), "future": ("20900101", "20900201")}.get(zone.state)
        if not dates:
            dates = [time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + s)) for s in (-86400, 14 * 86400)]
        argv = ["ldns-signzone", "-o", name, "-i", dates[0], "-e", dates[1], "-f", done + ".new"]
        argv += ["-n"] if zone.nsec3 else []
        lab.run(argv + [plain, stem], timeout=20)
        with open(done + ".new") as f:
            lines = f.read().splitlines()
        lines = [line for line in lines if line.strip()]
        if zone.state == "nodenial":
            lines = [line for line in lines if not {"NSEC", "NSEC3"} & set(line.split()[3:5])]
        with open(done, "w") as f:
            f.write("\n".join(self.spoil(zone, line) for line in lines) + "\n")

    @staticmethod
    def spoil(zone, line):
        """Turns a few bits of a signature that has to be wrong."""
        words = line.split()
        if len(words) < 13 or words[3] != "RRSIG":
            return line
        covered = words[4]
        if zone.state == "forged" and covered != "DNSKEY" or (words[0].rstrip(".").lower(), covered) in zone.forged:
            signature = words[12]
            raw = bytearray(base64.b64decode(signature))
            raw[7] ^= 0x55
            return line.replace(signature, base64.b64encode(bytes(raw)).decode())
        return line

    def sign(self):
        for name in sorted(self.dirty):
            self.write(self.zones[name])
        self.dirty.clear()

    def configuration(self):
        lines = ["server:", "  ip-address: 127.0.0.1@%d" % self.authority, "  username: \"\"", "  chroot: \"\"",
                 "  database: \"\"", "  zonesdir: \"%s\"" % self.dir, "  pidfile: \"%s/nsd.pid\"" % self.dir,
                 "  xfrdfile: \"%s/xfrd.state\"" % self.dir, "  zonelistfile: \"%s/zone.list\"" % self.dir,
                 "  xfrdir: \"%s\"" % self.dir, "  server-count: 1", "  minimal-responses: yes", "  hide-version: yes",
                 "  round-robin: no", "  rrl-ratelimit: 0", "remote-control:", "  control-enable: yes",
                 "  control-interface: \"%s/control\"" % self.dir]
        for name in sorted(self.zones):
            lines += ["zone:", "  name: \"%s\"" % (name or "."), "  zonefile: \"%s\"" % self.file(name)]
        path = os.path.join(self.dir, "nsd.conf")
        with open(path, "w") as f:
            f.write("\n".join(lines) + "\n")
        return path

    def start(self):
        self.sign()
        self.served = set(self.zones)
        self.nsd = lab.Child(["nsd", "-d", "-c", self.configuration()], log=os.path.join(self.dir, "nsd.log"))
        lab.eventually(lambda: self.serial_of("") == self.zones[""].serial, 15, "the name server answers")
        return self

    def reload(self):
        changed = sorted(self.dirty)
        self.sign()
        control = ["nsd-control", "-c", self.configuration()]
        if set(self.zones) != self.served:
            lab.run(control + ["reconfig"])
            self.served = set(self.zones)
        for name in changed:
            lab.run(control + ["reload", name or "."])
        for name in changed:
            lab.eventually(lambda: self.serial_of(name) == self.zones[name].serial, 10, "zone %r is reloaded" % name)

    def serial_of(self, zone):
        question = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + wire(zone) + struct.pack("!2H", TYPES["SOA"], 1)
        reply = ask(self.authority, question)
        if not reply or reply[3] & 15 or struct.unpack("!H", reply[6:8])[0] == 0:
            return None
        at = len(question)
        at = skip_name(reply, at) + 10
        at = skip_name(reply, skip_name(reply, at))
        return struct.unpack("!I", reply[at:at + 4])[0]

    def stop(self):
        if self.nsd:
            self.nsd.stop()
            self.nsd = None

    # --- for the gateway

    def commands(self):
        """What to type in a console: the gateway asks nobody but the tree and trusts its root."""
        return ("dnsconfig setup source=own; dnsconfig parent set %s@%d; dnsconfig anchor set . records=\"DNSKEY %s\""
                % (self.address, self.port, self.key.dnskey))

    def attach(self, gateway):
        """Points the gateway at the tree; starts it if need be."""
        if not self.nsd:
            self.start()
        if not gateway.child:
            gateway.start()
        gateway.console(self.commands() + "; commit dns Y")
        return gateway


def ask(port, question, timeout=2):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        s.connect(("127.0.0.1", port))
        try:
            s.send(question)
            return s.recv(65535)
        except OSError:
            return None


def ask_tcp(port, question, timeout=2):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
            s.sendall(struct.pack("!H", len(question)) + question)
            return receive(s)
    except OSError:
        return None


def receive(s):
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
        more = s.recv(65537)
        if not more:
            return None
        data += more
    return data[2:]


def skip_name(data, at):
    while data[at]:
        if data[at] & 0xc0:
            return at + 2
        at += data[at] + 1
    return at + 1


def question_of(data):
    """(name, type, where it ends)"""
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode("latin1").lower())
        at += data[at] + 1
    return ".".join(labels), struct.unpack("!H", data[at + 1:at + 3])[0], at + 5


class Forwarder:
    """Looks like a resolver: takes questions by UDP and TCP, asks the tree's server, passes its answers on."""

    def __init__(self, tree, strip=False, silent=False, servfail=False):
        self.tree, self.strip, self.silent, self.servfail = tree, strip, silent, servfail
        self.asked = []
        forwarder = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                reply = forwarder.answer(data, False)
                if reply:
                    sock.sendto(reply, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.settimeout(30)
                try:
                    while True:
                        data = receive(self.request)
                        reply = data and forwarder.answer(data, True)
                        if not reply:
                            return
                        self.request.sendall(struct.pack("!H", len(reply)) + reply)
                except OSError:
                    pass

        class UdpServer(socketserver.ThreadingUDPServer):
            daemon_threads = True
            max_packet_size = 65535

        class TcpServer(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        while True: # one number for both
            self.udp = UdpServer(("127.0.0.1", 0), Udp)
            self.port = self.udp.server_address[1]
            try:
                self.tcp = TcpServer(("127.0.0.1", self.port), Tcp)
                break
            except OSError:
                self.udp.server_close()
        for server in (self.udp, self.tcp):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def answer(self, data, tcp):
        try:
            name, kind, end = question_of(data)
        except IndexError:
            return None
        self.asked.append((name, NAMES.get(kind, kind)))
        self.tree.asked.append((name, NAMES.get(kind, kind)))
        how = "silent" if self.silent else "servfail" if self.servfail else self.tree.fault(name, kind)
        head = data[:2] + struct.pack("!H", 0x8180)
        if how == "silent":
            return None
        if how in ("servfail", "refused"):
            return data[:2] + struct.pack("!5H", 0x8182 if how == "servfail" else 0x8185, 1, 0, 0, 0) + data[12:end]
        if how == "truncate" and not tcp:
            return data[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + data[12:end]
        if self.strip or how == "nodnssec": # as an old resolver: EDNS is not understood
            data = data[:6] + struct.pack("!3H", 0, 0, 0) + data[12:end]
        reply = (ask_tcp if tcp else ask)(self.tree.authority, data)
        if not reply:
            return None
        flags = struct.unpack("!H", reply[2:4])[0] & ~0x0400 | 0x0080 # not authoritative; recursion is available
        if self.strip or how == "nodnssec":
            reply = without_dnssec(reply)
        return reply[:2] + struct.pack("!H", flags) + reply[4:]


def without_dnssec(reply):
    """Takes the types of DNSSEC out. Compression points backwards, so nothing that stays may point at what goes: an answer
    to a question without the DO bit has such types only where they were asked for."""
    _, kind, end = question_of(reply)
    if kind in SIGNATURES:
        return reply[:6] + struct.pack("!3H", 0, 0, 0) + reply[12:end]
    return reply


def records(reply):
    """[(section, name end offset, type, ttl, rdata)] of a message, for tests that look closely."""
    counts = struct.unpack("!3H", reply[6:12])
    at, out = question_of(reply)[2], []
    for section, count in enumerate(counts):
        for _ in range(count):
            at = skip_name(reply, at)
            kind, _, ttl, size = struct.unpack("!HHIH", reply[at:at + 10])
            out.append((section, kind, ttl, reply[at + 10:at + 10 + size]))
            at += 10 + size
    return out
