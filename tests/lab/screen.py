# A terminal small enough to read: what a person would see of a program on a pseudo-terminal, and a way to type.
#
#     t = screen.Terminal([lab.binary("postern"), "--home", home])
#     t.ready()                       # until the console waits for a line (its marks of POSTERN_TEST_MARKS)
#     t.type("destconfig\r")
#     t.text()                        # what was shown, as lines
#
# Knows what libedit and the console send to xterm and to a dumb terminal; anything else is a failure of the test.

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unicodedata

import lab


def width(c):
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


class Screen:
    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines = [[]]
        self.row = self.column = 0
        self.top = 0
        self.wrap = False
        self.state = ""
        self.bytes = b""
        self.unknown = []
        self.bells = 0

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows

    def line(self, row):
        while len(self.lines) <= row:
            self.lines.append([])
        return self.lines[row]

    def put(self, c):
        w = width(c)
        if w == 0:
            line = self.line(self.row)
            if self.column and len(line) >= self.column:
                line[self.column - 1] += c
            return
        if self.wrap or self.column + w > self.columns:
            self.newline()
            self.column = 0
        self.wrap = False
        line = self.line(self.row)
        while len(line) < self.column + w:
            line.append(" ")
        line[self.column] = c
        if w == 2:
            line[self.column + 1] = ""
        self.column += w
        if self.column >= self.columns:
            self.column = self.columns - 1
            self.wrap = True

    def newline(self):
        self.row += 1
        self.line(self.row)
        self.top = max(self.top, self.row - self.rows + 1)

    def control(self, sequence):
        """A finished escape sequence without its ESC."""
        found = re.match(r"\[(\??[\d;]*)([A-Za-z@])$", sequence)
        if not found:
            if sequence not in ("=", ">", "(B"):
                self.unknown.append(sequence)
            return
        args, final = found.groups()
        if args.startswith("?"):
            return
        n = int(args.split(";")[0] or 0) if args else 0
        line = self.line(self.row)
        if final == "A":
            self.row = max(self.top, self.row - max(n, 1))
        elif final == "B":
            self.row = min(self.top + self.rows - 1, self.row + max(n, 1))
        elif final == "C":
            self.column = min(self.columns - 1, self.column + max(n, 1))
        elif final == "D":
            self.column = max(0, self.column - max(n, 1))
        elif final == "G":
            self.column = max(1, n) - 1
        elif final == "H":
            parts = [int(p or 1) for p in (args or "1;1").split(";")] + [1]
            self.row, self.column = self.top + parts[0] - 1, parts[1] - 1
        elif final == "K" and n == 0:
            del line[self.column:]
        elif final == "K":
            line[:] = []
        elif final == "J":
            if n == 2:
                for i in range(self.top, len(self.lines)):
                    self.lines[i] = []
            else:
                del line[self.column:]
                del self.lines[self.row + 1:]
        elif final == "P":
            del line[self.column:self.column + max(n, 1)]
        elif final == "@":
            line[self.column:self.column] = [" "] * max(n, 1)
        elif final not in "mhlr":
            self.unknown.append(sequence)
        if final in "ABCDGH":
            self.wrap = False

    def feed(self, data):
        self.bytes += data
        while self.bytes:
            n = 1
            first = self.bytes[0]
            if first >= 0x80:
                n = 2 if first >= 0xc0 and first < 0xe0 else 3 if first < 0xf0 else 4
                if len(self.bytes) < n:
                    return
            c = self.bytes[:n].decode("utf-8", "replace")
            self.bytes = self.bytes[n:]
            self.char(c)

    def char(self, c):
        if self.state:
            self.state += c
            body = self.state[1:]
            if body.startswith("]"):
                if c == "\a":
                    self.state = ""
            elif body == "[" or body == "(":
                pass
            elif body.startswith("[") and not ("@" <= c <= "~"):
                pass
            else:
                self.control(body)
                self.state = ""
        elif c == "\033":
            self.state = c
        elif c == "\r":
            self.column, self.wrap = 0, False
        elif c == "\n":
            self.newline()
            self.wrap = False
        elif c == "\b":
            self.column, self.wrap = max(0, self.column - 1), False
        elif c == "\a":
            self.bells += 1
        elif c == "\t":
            self.column = min(self.columns - 1, (self.column // 8 + 1) * 8)
        elif c >= " ":
            self.put(c)

    def text(self):
        """Everything that was shown, scrolled out or not."""
        return ["".join(line).rstrip() for line in self.lines]


class Terminal:
    def __init__(self, argv, columns=80, rows=24, term="xterm", env=None, cwd=None):
        self.screen = Screen(columns, rows)
        self.raw = b""
        self.seen = 0
        environment = {"TERM": term, "POSTERN_TEST_MARKS": "1", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        environment.update(env or {})
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                if cwd:
                    os.chdir(cwd)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execve(argv[0], argv, environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.status = None
        lab.at_end(self.close)

    def read(self, timeout):
        """What comes within the time. False at the end of the program."""
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.raw += data
        self.screen.feed(data)
        return bool(data)

    def until(self, condition, what, timeout=20):
        limit = time.monotonic() + timeout
        while not condition():
            left = limit - time.monotonic()
            if left <= 0:
                raise lab.Failure("%s: not within %g s; the screen:\n%s" % (what, timeout, "\n".join(self.text())))
            if not self.read(min(left, 1)) and not condition():
                raise lab.Failure("%s: the program ended; the screen:\n%s" % (what, "\n".join(self.text())))

    def ready(self, timeout=20):
        """Until the console waits for something to be typed, counted from the last call."""
        mark = b"\033]133;B\007"

        def waits():
            at = self.raw.find(mark, self.seen)
            if at < 0:
                return False
            self.seen = at + len(mark)
            return True

        self.until(waits, "the console waits for input", timeout)
        return self

    def settle(self, quiet=0.15):
        """Until nothing comes for a moment: after keys that end no line."""
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            before = len(self.raw)
            self.read(quiet)
            if len(self.raw) == before:
                return self
        raise lab.Failure("the program writes without end; the screen:\n%s" % "\n".join(self.text()[-40:]))

    def type(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        limit = time.monotonic() + 30
        while data:
            ready, writable, _ = select.select([self.fd], [self.fd], [], 1)
            if ready:
                self.read(0)
            if writable:
                data = data[os.write(self.fd, data[:1024]):]
                limit = time.monotonic() + 30
            elif time.monotonic() > limit:
                raise lab.Failure("the program reads no keys; the screen:\n%s" % "\n".join(self.text()[-40:]))
        return self

    def line(self, text, timeout=20):
        """Types a line and waits for the next prompt or question."""
        self.type(text + "\r")
        return self.ready(timeout)

    def resize(self, columns, rows):
        self.screen.resize(columns, rows)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        return self

    def text(self):
        return self.screen.text()

    def tail(self, n=1):
        lines = self.text()
        while lines and not lines[-1]:
            lines.pop()
        return "\n".join(lines[-n:])

    def has(self, pattern):
        return re.search(pattern, "\n".join(self.text()), re.M)

    def modes(self):
        """(echo, canonical) of the terminal."""
        flags = termios.tcgetattr(self.fd)[3]
        return bool(flags & termios.ECHO), bool(flags & termios.ICANON)

    def wait(self, timeout=20):
        """The exit status."""
        limit = time.monotonic() + timeout
        while self.status is None:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0.02) and select.select([self.fd], [], [], 0)[0]:
                    pass
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > limit:
                raise lab.Failure("the program does not end; the screen:\n%s" % "\n".join(self.text()))
        return self.status

    def close(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except OSError:
                pass
            self.status = -9
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
