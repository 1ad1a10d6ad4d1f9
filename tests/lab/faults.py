# The other side of tests/fault/faultfs.c: a gateway whose disk fails, lies, fills up or loses power on demand.
#
#     disk = faults.Disk(box, "home")
#     gate = lab.Posternd(disk.home, env=disk.env)
#     disk.arm("sync", errno.EIO, at=3)      # the third sync from now fails, once
#     ...
#     disk.clear()
#     disk.journal(True)                     # from here on, what is not synced can be taken away
#     gate.kill()
#     disk.power_cut(rng)                    # rng None: everything unsynced goes; else some of it, torn

import errno
import mmap
import os
import struct

import lab

OPS = ("write", "sync", "open", "create", "rename", "unlink", "truncate", "allocate", "mkdir", "read")
CHANGES = OPS[:-1]
ACTIONS = ("fail", "short", "lie", "die", "hang")
JOURNAL = 1 << 30
BLOCK = 4096 # what a torn write keeps or loses as a whole

_FIELDS = {name: 8 * (1 + i) for i, name in enumerate(
    ("mode", "ops", "error", "at", "times", "action", "seen", "hits", "journal", "tail", "overflow", "free_bytes",
     "clock_us", "frozen", "died_us"))}
_FIELDS["logged_us"] = 768
_RECORD = struct.Struct("=IIQQQQIIII")
WRITE, SIZE, CREATE, UNLINK, RENAME, MKDIR = range(1, 7)
NOT_SYNCED, SYNCED, LOST = range(3)
FOREVER = (1 << 63) - 1


def library():
    path = os.path.join(lab.BUILD, "tests", "fault", "faultfs.so")
    if not os.path.exists(path):
        lab.skip("faultfs.so is not built")
    return path


class Disk:
    def __init__(self, box, name="home"):
        self.home = box.path(name)
        self.stash = self.home + ".stash"
        os.makedirs(self.stash)
        os.chmod(self.stash, 0o777)
        self.control = self.home + ".faults"
        with open(self.control, "wb") as f:
            f.truncate(4096 + JOURNAL)
        os.chmod(self.control, 0o666)
        with open(self.control, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096 + JOURNAL)
        self.map[128:384] = self.home.encode().ljust(256, b"\0")
        self.env = {"LD_PRELOAD": library(), "FAULTFS": self.control, "ASAN_OPTIONS":
                    "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}

    def __getitem__(self, name):
        return struct.unpack_from("=q", self.map, _FIELDS[name])[0]

    def __setitem__(self, name, value):
        struct.pack_into("=q", self.map, _FIELDS[name], value)

    @property
    def last(self):
        """What was spoilt last: the kind of call and the path below the home."""
        text = self.map[512:768].split(b"\0")[0].decode()
        op, _, path = text.partition(" ")
        return "%s %s" % (OPS[int(op)], path) if text else ""

    def arm(self, ops, error=errno.EIO, at=1, times=1, action="fail", only=""):
        """From the at-th matching call on, `times` of them are spoilt. ops: names with spaces between."""
        self["mode"] = 0
        self["ops"] = sum(1 << OPS.index(op) for op in ops.split())
        self["error"], self["at"], self["times"] = error, at, times
        self["action"] = ACTIONS.index(action)
        self["seen"] = self["hits"] = 0
        self.map[384:512] = only.encode().ljust(128, b"\0")
        self.map[512:768] = bytes(256)
        self["mode"] = 2

    def count(self, ops, only=""):
        self.arm(ops, only=only)
        self["mode"] = 1

    def clear(self):
        """No faults from here on. Returns how many there were."""
        self["mode"] = 0
        return self["hits"]

    # --- power cuts ---

    def journal(self, on):
        """Begins with everything as it is now on disk."""
        self["journal"] = 0
        self["tail"] = 0
        self["journal"] = int(on)
        for name in os.listdir(self.stash):
            os.unlink(os.path.join(self.stash, name))

    def records(self):
        at = 4096
        end = at + self["tail"]
        while at < end:
            size, kind, ino, offset, length, old, state, stash, n1, n2 = _RECORD.unpack_from(self.map, at)
            text = at + _RECORD.size
            a = self.map[text:text + n1 - 1].decode()
            b = self.map[text + n1:text + n1 + n2 - 1].decode() if n2 else None
            data = text + n1 + n2
            yield kind, ino, offset, length, old, state, stash, a, b, data
            at += size

    def power_cut(self, rng=None):
        """After every process has died. Returns (changes undone, changes there were)."""
        if self["overflow"]:
            raise RuntimeError("the journal of faultfs is too small")
        records = list(self.records())
        # Directories change in order: with rng, some of the first unsynced changes may have come through.
        entries = [r for r in records if r[0] > SIZE and r[5] != SYNCED]
        kept = rng.randrange(len(entries) + 1) if rng else 0
        keep = {id(r) for r in entries[:kept]}
        files = self._inodes()
        covered = {} # of each file, what later changes that stay have written
        undone = 0
        for r in reversed(records):
            kind, ino, offset, length, old, state, stash, a, b, data = r
            if kind > SIZE:
                if state != SYNCED and id(r) not in keep:
                    self._undo_entry(kind, stash, a, b)
                    undone += 1
                continue
            path = files.get(ino)
            if not path:
                continue # its name is gone for good
            path = path()
            if path is None:
                continue
            whole = covered.setdefault(ino, [])
            if kind == SIZE:
                if state == SYNCED or (rng and rng.random() < 0.5):
                    whole.append((offset, max(offset + length, old)))
                    continue
                self._restore(path, offset, length, data, whole, old)
                if os.stat(path).st_size < old:
                    os.truncate(path, old)
                undone += 1
                continue
            pieces = [(offset, length)]
            if rng:
                pieces = []
                at = offset
                while at < offset + length:
                    n = min(BLOCK - at % BLOCK, offset + length - at)
                    pieces.append((at, n))
                    at += n
            gone = False
            stay = []
            for at, n in reversed(pieces):
                if state == SYNCED or (rng and rng.random() < 0.5):
                    stay.append((at, at + n))
                else:
                    self._restore(path, at, n, data + at - offset, whole, old)
                    gone = True
            whole.extend(stay)
            undone += gone
        self["frozen"] = 0
        self.journal(self["journal"])
        return undone, len(records)

    def _inodes(self):
        """{inode: function that finds its path now}: names change while entries are undone."""
        def finder(ino):
            def find():
                for top in (self.home, self.stash):
                    for base, _, names in os.walk(top):
                        for name in names:
                            path = os.path.join(base, name)
                            try:
                                if os.lstat(path).st_ino == ino:
                                    return path
                            except OSError:
                                pass
                return None
            return find

        found = {}
        for top in (self.home, self.stash):
            for base, _, names in os.walk(top):
                for name in names:
                    ino = os.lstat(os.path.join(base, name)).st_ino
                    found[ino] = finder(ino)
        return found

    def _restore(self, path, offset, length, data, covered, old):
        """What stood at offset stands there again, but for what a later change that stays has written."""
        pieces = [(offset, offset + length)]
        for a, b in covered:
            pieces = [p for x, y in pieces for p in ((x, min(y, a)), (max(x, b), y)) if p[0] < p[1]]
        with open(path, "r+b") as f:
            for a, b in pieces:
                f.seek(a)
                f.write(self.map[data + a - offset:data + b - offset])
            size = os.fstat(f.fileno()).st_size
            if size > old and not any(b > old for a, b in covered):
                f.truncate(old)

    def _undo_entry(self, kind, stash, a, b):
        kept = os.path.join(self.stash, str(stash))
        if kind in (CREATE, MKDIR):
            if os.path.lexists(a):
                os.rename(a, os.path.join(self.stash, "gone-%d" % len(os.listdir(self.stash))))
        elif kind == UNLINK:
            if stash and not os.path.lexists(a):
                os.rename(kept, a)
        elif kind == RENAME:
            if os.path.lexists(b):
                os.rename(b, a)
            if stash:
                os.rename(kept, b)
