# A person at a console: the program in a pseudo-terminal, what is typed, what is seen.

import os
import pty
import re
import select
import signal
import subprocess
import termios
import struct
import fcntl
import time

import lab


class Terminal:
    def __init__(self, argv, rows=24, columns=100, env=None, timeout=20):
        self.timeout = timeout
        self.pending = ""
        self.log = ""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, close_fds=True,
                                        env=dict(os.environ, TERM="dumb", **(env or {})), start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.master = master
        lab.at_end(self.stop)

    def _read(self, wait):
        if not select.select([self.master], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError: # the other end is closed
            data = b""
        if not data:
            raise EOFError("the program ended")
        text = data.decode("utf-8", "replace")
        self.pending += text
        self.log += text
        return True

    @staticmethod
    def clean(text):
        """As it stands on the paper: no escape sequences, no carriage returns, no page marks."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        text = re.sub(r"\r\[\d+ s\]  Ctrl-C stops|\r {26}\r", "", text) # the progress of a slow command
        text = re.sub(r"\r*\n", "\n", text)
        text = re.sub(r"-Press Any Key For More-\r *\r", "", text)
        return re.sub(r"[^\n]*\r", "", text) if "\r" in text else text

    def until(self, pattern, timeout=None, settle=0):
        """What came up to and including the first match of the pattern at the end of the output, when nothing more
        comes for `settle` seconds."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            seen = self.clean(self.pending)
            if re.search("(?:" + pattern + r")\Z", seen):
                if settle and self._read(settle):
                    continue
                self.pending = ""
                return seen
            if seen.endswith("-Press Any Key For More-"):
                self.pending = self.pending[:-len("-Press Any Key For More-")]
                os.write(self.master, b" ")
            try:
                more = self._read(max(0, deadline - time.monotonic()))
            except EOFError:
                raise lab.Failure("the program ended; no %r in:\n%s" % (pattern, seen))
            if not more:
                raise lab.Failure("no %r at the end of:\n%s" % (pattern, seen))

    def type(self, text, enter=True):
        os.write(self.master, (text + ("\r" if enter else "")).encode())

    def ask(self, text, pattern=r"\S+> "):
        """Types a line and returns what came behind it, up to the next prompt."""
        self.type(text)
        return self.until(pattern).partition("\n")[2]

    def leave(self, timeout=10):
        """Ends a console as a person does; its exit status (not 0 under a sanitizer that found something)."""
        self.type("quit")
        try:
            self.until(r"\[1\]> ", timeout) # what is staged is kept
            self.type("")
            self.until("nothing more to come", timeout)
        except lab.Failure:
            pass
        self.process.wait(timeout)
        status = self.process.returncode
        self.stop()
        return status

    def stop(self):
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def console(gate, **keywords):
    """An interactive console of a gateway, at its first prompt."""
    t = Terminal([lab.binary("postern"), "--home", gate.home], **keywords)
    t.greeting = t.until(r"\S+> ")
    while t.greeting.endswith("Resume? [Y]> "): # what an earlier test staged and left
        t.greeting = t.ask("n")
    return t
