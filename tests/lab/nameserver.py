# A name server of a test's own, so that it can fail on command.

import socket
import struct
import threading

A, NS, CNAME, SOA, PTR, MX, AAAA = 1, 2, 5, 6, 12, 15, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def wire(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.strip(".").split(".") if l) + b"\0"


class NameServer(threading.Thread):
    """Authoritative for everything: records as {(name, type): [rdata text]}, "*.example" for any name below without
    records of its own; names in `broken` answer that code, names in `silent` nothing at all."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.records = {}
        self.broken = {}
        self.silent = set()
        self.asked = []
        self.start()

    def add(self, name, kind, *values):
        self.records[name, kind] = list(values)

    def run(self):
        while True:
            data, peer = self.sock.recvfrom(4096)
            reply = self.answer(data)
            if reply:
                self.sock.sendto(reply, peer)

    def answer(self, data):
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
            at += data[at] + 1
        kind = struct.unpack("!H", data[at + 1:at + 3])[0]
        question = data[12:at + 5]
        name = ".".join(labels)
        self.asked.append((name, kind))
        if name in self.silent:
            return None
        code, found = self.broken.get(name, NOERROR), []
        while code == NOERROR and (name, CNAME) in self.records and kind != CNAME:
            target = self.records[name, CNAME][0]
            found.append((name, CNAME, wire(target)))
            name = target
        if code == NOERROR:
            key = name
            if not any(n == name or n.endswith("." + name) for n, _ in self.records):
                key = "*." + name.partition(".")[2]
                code = NOERROR if any(n == key for n, _ in self.records) else NXDOMAIN
            found += [(name, kind, self.rdata(kind, v)) for v in self.records.get((key, kind), [])]
        zone = []
        if code in (NOERROR, NXDOMAIN) and not any(k == kind for _, k, _ in found): # a negative answer brings its SOA
            soa = wire("ns.lab.example") + wire("root.lab.example") + struct.pack("!5I", 1, 1, 1, 1, 1)
            zone = [("example", SOA, soa)]
        head = data[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), len(zone), 0)
        body = b"".join(wire(n) + struct.pack("!HHIH", k, 1, 1, len(r)) + r for n, k, r in found + zone)
        return head + question + body

    @staticmethod
    def rdata(kind, value):
        if kind == A:
            return socket.inet_aton(value)
        if kind == AAAA:
            return socket.inet_pton(socket.AF_INET6, value)
        if kind == MX:
            preference, host = value.split()
            return struct.pack("!H", int(preference)) + wire(host)
        return wire(value)
