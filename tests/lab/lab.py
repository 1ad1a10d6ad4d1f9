# What the integration tests share: TAP output, sandboxes, the gateway, its console, and the peers it meets.
#
#     import lab
#
#     @lab.test("a message is relayed")
#     def relayed():
#         box = lab.Sandbox()
#         sink = lab.Sink()
#         gate = lab.Posternd(box.path("home"))
#         gate.batch("smtproutes new ALL 127.0.0.1:%d" % sink.port)
#         client = lab.Smtp(gate.private)
#         ...
#
#     lab.main()
#
# Tests run in the order in which they stand. Every process started here is remembered and ended by its pid when
# the program ends, whether it ends well or by a signal; every sandbox is removed (KEEP=1 leaves them). Nothing
# here uses a fixed port or a fixed path, so any number of test programs may run at the same time.
#
# Environment: POSTERND and POSTERN name the two binaries, BUILD the build directory they are looked for in
# otherwise; TEST_SEED seeds the message makers.

import atexit
import contextlib
import hashlib
import json
import os
import pwd
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

# a connection of a test is a descriptor of its program
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
BUILD = BUILD if os.path.isabs(BUILD) else os.path.join(ROOT, BUILD)


def binary(name):
    """Path of one of the two programs."""
    return os.path.abspath(os.environ.get(name.upper()) or os.path.join(BUILD, name))


def tool(name):
    """Path of a program built from tests/bench."""
    for build in (BUILD, os.path.join(ROOT, "build")):
        path = os.path.join(build, "tests", "bench", name)
        if os.access(path, os.X_OK):
            return path
    raise Skip("%s is not built" % name)


# --- TAP ---------------------------------------------------------------------------------------------------

class Skip(Exception):
    """Raised by a test that cannot run here; the text says what is missing."""


class Failure(AssertionError):
    pass


_tests = []


def test(name):
    def register(function):
        _tests.append((name, function))
        return function

    return register


def skip(reason):
    raise Skip(reason)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def need_program(name):
    if not which(name):
        raise Skip("%s is not installed" % name)


def which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def note(text):
    """A comment line of the test's output."""
    for line in str(text).splitlines():
        print("# " + line)
    sys.stdout.flush()


def equal(got, want, what=""):
    if got != want:
        raise Failure("%sgot %r, want %r" % (what + ": " if what else "", got, want))


def match(text, pattern, what=""):
    found = re.search(pattern, text, re.M)
    if not found:
        raise Failure("%sno %r in:\n%s" % (what + ": " if what else "", pattern, text))
    return found


def eventually(function, timeout=10, what=None):
    """Calls until the result is true and returns it; the last exception or `what` is the failure."""
    until = time.monotonic() + timeout
    pause = 0.01
    while True:
        error = None
        try:
            result = function()
            if result:
                return result
        except (AssertionError, OSError) as e:
            error = e
        if time.monotonic() > until:
            raise error or Failure("%s: not within %g s" % (what or function.__name__, timeout))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def main(jobs=1):
    """Runs the tests (or those whose names hold one of the arguments) and ends the program. With jobs, so many at a time,
    each in a process of its own: for tests that share nothing and wait a lot."""
    chosen = [t for t in _tests if len(sys.argv) < 2 or any(a in t[0] for a in sys.argv[1:])]
    chosen = list(enumerate(chosen, 1))
    if jobs > 1:
        failed = sum(all_forked([lambda one=one: _run_tests([one]) for one in chosen], jobs))
    else:
        failed = _run_tests(chosen)
    print("1..%d" % len(chosen))
    sys.stdout.flush()
    sys.exit(1 if failed else 0)


def _run_tests(chosen):
    """Returns how many failed."""
    failed = 0
    for number, (name, function) in chosen:
        began = time.monotonic()
        try:
            function()
            line = "ok %d - %s" % (number, name)
        except Skip as s:
            line = "ok %d - %s # SKIP %s" % (number, name, s)
        except Exception:
            failed += 1
            note(traceback.format_exc().rstrip())
            for about in list(_on_failure):
                about()
            line = "not ok %d - %s" % (number, name)
        print(line)
        if time.monotonic() - began > 2:
            note("took %.1f s" % (time.monotonic() - began))
        sys.stdout.flush()
    return failed


class Forked:
    """A function in a process of its own; what it starts is ended with it. `result`: what it returned, as JSON carries it;
    1 when it ended otherwise. Its output is shown when it has ended."""

    def __init__(self, function):
        self.out = tempfile.TemporaryFile()
        self.answer = tempfile.TemporaryFile()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._child(function)
        self.result = None
        at_end(self.stop)

    def _child(self, function):
        _cleanups.clear()
        _on_failure.clear()
        os.dup2(self.out.fileno(), 1)
        status = 1
        try:
            result = function()
            self.answer.write(json.dumps(result).encode())
            self.answer.flush()
            status = 0
        except (Exception, SystemExit):
            note(traceback.format_exc())
        finally:
            with contextlib.suppress(BaseException):
                _run_cleanups()
                sys.stdout.flush()
            os._exit(status)

    def ended(self):
        """Waits for nothing."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self._take()
        return not self.pid

    def _take(self):
        self.pid = 0
        self.out.seek(0)
        sys.stdout.write(self.out.read().decode("utf-8", "replace"))
        sys.stdout.flush()
        self.answer.seek(0)
        text = self.answer.read()
        self.result = json.loads(text) if text else 1

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            os.waitpid(self.pid, 0)
            self._take()


def all_forked(functions, jobs):
    """Runs the functions, `jobs` of them at a time; their results in order."""
    waiting = list(functions)
    running, done = [], []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Forked(waiting.pop(0)))
            done.append(running[-1])
        running = [f for f in running if not f.ended()]
        time.sleep(0.02)
    return [f.result for f in done]


# --- what is started is ended ------------------------------------------------------------------------------

_cleanups = []
_on_failure = []


def at_end(function):
    """Registers what the end of the program has to undo; last in, first out."""
    _cleanups.append(function)
    return function


def _run_cleanups():
    while _cleanups:
        try:
            _cleanups.pop()()
        except (Exception, SystemExit):
            note(traceback.format_exc())


atexit.register(_run_cleanups)


def _terminated(number, frame):
    sys.exit(128 + number)


if threading.current_thread() is threading.main_thread():
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(_number, _terminated)


class Sandbox:
    """A temporary directory, removed at the end. Readable by the users that servers change to."""

    def __init__(self, prefix="postern-lab-"):
        self.dir = tempfile.mkdtemp(prefix=prefix)
        os.chmod(self.dir, 0o755)
        at_end(self.remove)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def mkdir(self, *names):
        path = self.path(*names)
        os.makedirs(path, exist_ok=True)
        return path

    def write(self, name, data):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb" if isinstance(data, bytes) else "w") as f:
            f.write(data)
        return path

    def remove(self):
        if os.environ.get("KEEP"):
            note("kept %s" % self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


_handed_out = {} # port -> a socket whose name reserves it


def free_port():
    """A port of 127.0.0.1 and ::1 nobody listens on. Taken from below the range the kernel hands to outgoing
    connections, or a busy client could be given it before the server binds it, and reserved to the end of this program:
    suites run at the same time, and a server may be stopped and started again on its port."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(12000, 32000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind("\0postern-port-%d" % port)
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _handed_out[port] = reservation
        return port
    raise Failure("no free port")


class Child:
    """A started program; stopped at the end of the tests."""

    def __init__(self, argv, log=None, **keywords):
        self.argv = argv
        self.log = log
        out = open(log, "ab") if log else None
        if out:
            keywords.setdefault("stdout", out)
            keywords.setdefault("stderr", out)
        keywords.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(argv, **keywords)
        if out:
            out.close()
        self.pid = self.process.pid
        at_end(self.stop)

    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def stop(self, timeout=10, number=signal.SIGTERM):
        """Asks it to end, and ends it when it does not. Returns its exit status."""
        if self.running():
            try:
                self.process.send_signal(number)
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self):
        if self.running():
            self.process.kill()
        return self.process.wait()

    def log_text(self):
        return read_text(self.log) if self.log else ""


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def day(ahead):
    """The date so many days from today, as the console takes it."""
    return time.strftime("%Y-%m-%d", time.localtime(time.time() + ahead * 86400))


def run(argv, input=None, timeout=60, check=True, **keywords):
    """Runs a program to its end; text in and out unless `input` is bytes."""
    if not isinstance(input, bytes):
        keywords.setdefault("encoding", "utf-8")
        keywords.setdefault("errors", "replace")
    if input is None:
        keywords.setdefault("stdin", subprocess.DEVNULL)
    else:
        keywords["input"] = input
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **keywords)
    if check and done.returncode != 0:
        raise Failure("%s: exit %d\n%s%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
    return done


# --- processes, as the kernel sees them --------------------------------------------------------------------

def children(pid):
    kids = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                kids += [int(k) for k in f.read().split()]
    except OSError:
        pass
    return kids


def process_tree(pid):
    """The pid and all that descend from it."""
    found = [pid]
    for p in found:
        found += [k for k in children(p) if k not in found]
    return found


def cpu_seconds(pids):
    """User and system time of the processes and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid) as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(t) for t in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def pss_bytes(pids):
    """Memory with shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
        except OSError:
            continue
    return total


def listening(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


# --- the gateway -------------------------------------------------------------------------------------------

class Posternd:
    """A gateway on its own home. An empty home gets free ports for the two factory listeners."""

    def __init__(self, home, start=True, args=(), env=None, timeout=30):
        self.home = os.path.abspath(home)
        self.args = list(args)
        self.log = self.home + ".log"
        self.public = free_port()
        self.private = free_port()
        self.env = dict(os.environ, POSTERN_TEST_PORTS="%d,%d" % (self.public, self.private))
        self.env.update(env or {})
        self.child = None
        _on_failure.append(self._tell)
        at_end(lambda: _on_failure.remove(self._tell))
        if start:
            self.start(timeout)

    def _tell(self):
        tail = read_text(self.log).splitlines()[-25:]
        if tail:
            note("the last lines of posternd %s:" % self.home)
            note("\n".join("  " + line for line in tail))

    def start(self, timeout=30, ready=True):
        for name in ("posternd", "postern"):
            if not os.access(binary(name), os.X_OK):
                raise Skip("%s is not built" % name)
        os.makedirs(os.path.dirname(self.home), exist_ok=True)
        self.child = Child([binary("posternd"), "--home", self.home] + self.args, log=self.log, env=self.env)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30):
        """Until the control socket answers a console."""
        def answers():
            if not self.child.running():
                raise RuntimeError("posternd ended with status %d\n%s"
                                   % (self.child.process.returncode, read_text(self.log)))
            return self.console("version", check=False).returncode == 0

        eventually(answers, timeout, "posternd answers its console")

    @property
    def pid(self):
        """The parent."""
        return self.child.pid

    @property
    def engine(self):
        """The engine: the parent's child."""
        kids = eventually(lambda: children(self.pid), 10, "posternd has an engine")
        return kids[0]

    def stop(self, timeout=30):
        """Ends it as an operator would. Returns the exit status."""
        return self.child.stop(timeout)

    def restart(self, timeout=30):
        self.stop()
        return self.start(timeout)

    def kill_engine(self, ready=True, timeout=30):
        """SIGKILL to the engine alone; the parent starts another."""
        old = self.engine
        os.kill(old, signal.SIGKILL)
        eventually(lambda: old not in children(self.pid), timeout, "the parent notices the engine's death")
        if ready:
            self.wait_ready(timeout)

    def kill(self):
        """SIGKILL to parent and engine: what a power cut leaves of the processes."""
        pids = process_tree(self.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.process.wait()
        for pid in pids[1:]:
            eventually(lambda: not os.path.exists("/proc/%d" % pid) or _is_zombie(pid), 10, "the engine is gone")

    def console(self, commands, check=True, timeout=60, **keywords):
        return console(self.home, commands, check, timeout, **keywords)

    def batch(self, text, check=True, timeout=60, args=()):
        return batch(self.home, text, check, timeout, args)

    def configure(self, text):
        """Statements which become active, or a failure."""
        return self.batch(text, args=("--commit", "--comment", "lab"))

    def json(self, command, check=True):
        """The envelope of one command run with --json."""
        done = self.console(command + " --json", check=check)
        return json.loads(done.stdout)

    def maillog(self):
        return MailLog(self.home)


def _is_zombie(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def console(home, commands, check=True, timeout=60, **keywords):
    """`postern --home HOME -c 'COMMAND; COMMAND'`; the completed process, with stdout and stderr as text."""
    return run([binary("postern"), "--home", home, "-c", commands], timeout=timeout, check=check, **keywords)


def batch(home, text, check=True, timeout=60, args=()):
    """Feeds a file of statements to the console as one transaction."""
    return run([binary("postern"), "--home", home, "batch", *args], input=text, timeout=timeout, check=check)


class MailLog:
    """Reader of mail_logs; `lines` are without the time stamp and with the level."""

    STAMP = re.compile(r"^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} ")

    def __init__(self, home):
        self.home = home

    def files(self):
        found = []
        for base, _, names in os.walk(self.home):
            if os.path.basename(base) == "mail_logs":
                found += [os.path.join(base, n) for n in names]
        return sorted(found, key=lambda p: os.stat(p).st_mtime)

    def text(self):
        seen = set()
        out = []
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                if (status.st_dev, status.st_ino) not in seen: # `current` may be a link
                    seen.add((status.st_dev, status.st_ino))
                    out.append(read_text(path))
        return "".join(out)

    def lines(self):
        return [self.STAMP.sub("", line) for line in self.text().splitlines()]

    def find(self, pattern):
        return re.findall(pattern, self.text(), re.M)

    def wait_for(self, pattern, timeout=15):
        """The first match object of the pattern, as soon as it is there."""
        try:
            return eventually(lambda: re.search(pattern, self.text(), re.M), timeout)
        except Failure:
            tail = "\n".join(self.text().splitlines()[-40:])
            raise Failure("mail_logs: no %r within %g s; it ends:\n%s" % (pattern, timeout, tail)) from None


# --- peers -------------------------------------------------------------------------------------------------

class Sink:
    """Our SMTP sink. Options as in tests/bench/smtp_sink.c: Sink("--store", dir, "--no-starttls")."""

    def __init__(self, *options, port=0, digest=None, store=None, events=None):
        argv = [tool("smtp_sink"), "--listen", "127.0.0.1:%d" % port]
        if events:
            argv += ["--events", events]
        if digest:
            argv += ["--digest", digest]
        if store:
            os.makedirs(store, exist_ok=True)
            argv += ["--store", store]
        self.digest = digest
        self.child = Child(argv + [str(o) for o in options], stdout=subprocess.PIPE)
        self.out = self.child.process.stdout
        first = self.out.readline()
        if not first:
            raise Failure("smtp_sink ended with status %d" % self.child.wait())
        self.port = json.loads(first)["port"]
        self.pid = self.child.pid

    def stats(self):
        """Counters: connections, tls_new, tls_resumed, messages, recipients, bytes, refused and others."""
        self.child.process.send_signal(signal.SIGUSR1)
        return json.loads(self.out.readline())

    def wait_messages(self, count, timeout=60):
        def enough():
            return self.stats()["messages"] >= count

        eventually(enough, timeout, "the sink has %d messages" % count)
        return self.stats()

    def digests(self):
        """What arrived: list of (X-Bench-Id, SHA-256 of the body)."""
        return [tuple(line.split()) for line in read_text(self.digest).splitlines()]

    def stop(self):
        """Ends it; returns the last counters."""
        if self.child.running():
            self.child.stop()
        rest = self.out.read().decode().splitlines()
        return json.loads(rest[-1]) if rest else None


class CertPair:
    def __init__(self, cert, key, ca=None):
        self.cert, self.key, self.ca = cert, key, ca


def make_cert(directory, name="localhost", names=(), key="ec", ca=None, days=30, is_ca=False, sans=None, stem=None,
              expired=False):
    """A certificate in DIRECTORY, self-signed or signed by the CertPair `ca`. key: ec, ec384, rsa, ed25519. sans: exactly
    these DNS names; stem: of the files, when one name has several; expired: since 2021."""
    os.makedirs(directory, exist_ok=True)
    stem = os.path.join(directory, re.sub(r"[^A-Za-z0-9.-]", "_", stem or name))
    pair = CertPair(stem + ".crt", stem + ".key", ca.cert if ca else None)
    kinds = {
        "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "ec384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        "rsa": ["rsa:2048"],
        "ed25519": ["ed25519"],
    }
    alternatives = ",".join("DNS:" + n for n in (sans if sans is not None else ([name] if not is_ca else []) + list(names)))
    argv = ["openssl", "req", "-x509", "-newkey", *kinds[key], "-nodes", "-keyout", pair.key, "-out", pair.cert,
            "-days", str(days), "-subj", "/CN=" + name]
    if alternatives:
        argv += ["-addext", "subjectAltName=" + alternatives]
    argv += ["-addext", "basicConstraints=critical,CA:" + ("TRUE" if is_ca else "FALSE")]
    if ca:
        argv += ["-CA", ca.cert, "-CAkey", ca.key]
    run(argv)
    if expired:
        _backdate(pair, ca, alternatives, stem)
    os.chmod(pair.key, 0o600)
    return pair


def _backdate(pair, ca, alternatives, stem):
    """The same certificate again with dates of the past, which only `openssl ca` knows how to write."""
    with tempfile.TemporaryDirectory(prefix="postern-ca-") as work:
        config = os.path.join(work, "ca.cnf")
        extension = "subjectAltName=%s" % alternatives if alternatives else ""
        with open(config, "w") as f:
            f.write("[ca]\ndefault_ca=a\n[a]\ndatabase={w}/index\nnew_certs_dir={w}\nserial={w}/serial\n"
                    "default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\n{e}\n"
                    .format(w=work, e=extension))
        open(os.path.join(work, "index"), "w").close()
        with open(os.path.join(work, "serial"), "w") as f:
            f.write("0A\n")
        request = stem + ".csr"
        run(["openssl", "x509", "-x509toreq", "-in", pair.cert, "-signkey", pair.key, "-out", request])
        signer = ["-cert", ca.cert, "-keyfile", ca.key] if ca else ["-selfsign", "-keyfile", pair.key]
        run(["openssl", "ca", "-batch", "-notext", "-config", config, *signer, "-in", request, "-out", pair.cert,
             "-startdate", "20200101000000Z", "-enddate", "20210101000000Z"])


class Postfix:
    """A private Postfix instance, as relay, sender or receiver. Needs root and the Debian package.

    relay      port on 127.0.0.1 everything is sent to; without it mail for any domain goes to a Maildir
               (`maildir()`), or nowhere with discard=True
    tuned      more processes, no pauses and no chroot, as TUNING_README says; otherwise Debian's settings
    tls        CertPair: STARTTLS offered (smtpd) and, with tls_out, used (smtp)
    main       further main.cf settings, which win
    log        keep the log in a file (`log_text()`); off, it goes to syslog as on every Debian system
    """

    MASTER = """\
{smtpd}   inet  n  -  {c}  -    {many}  smtpd
pickup    unix  n  -  {c}  60   1  pickup
cleanup   unix  n  -  {c}  -    0  cleanup
qmgr      unix  n  -  n    300  1  qmgr
tlsmgr    unix  -  -  {c}  1000?  1  tlsmgr
rewrite   unix  -  -  {c}  -    -  trivial-rewrite
bounce    unix  -  -  {c}  -    0  bounce
defer     unix  -  -  {c}  -    0  bounce
trace     unix  -  -  {c}  -    0  bounce
verify    unix  -  -  {c}  -    1  verify
flush     unix  n  -  {c}  1000?  0  flush
proxymap  unix  -  -  n    -    -  proxymap
proxywrite unix -  -  n    -    1  proxymap
smtp      unix  -  -  {c}  -    {many}  smtp
relay     unix  -  -  {c}  -    {many}  smtp
showq     unix  n  -  {c}  -    -  showq
error     unix  -  -  {c}  -    -  error
retry     unix  -  -  {c}  -    -  error
discard   unix  -  -  {c}  -    -  discard
virtual   unix  -  n  n    -    -  virtual
lmtp      unix  -  -  {c}  -    -  lmtp
anvil     unix  -  -  {c}  -    1  anvil
scache    unix  -  -  {c}  -    1  scache
postlog   unix-dgram n - n  -    1  postlogd
"""

    def __init__(self, relay=None, discard=False, tuned=False, tls=None, tls_out=False, main=None, log=True,
                 processes=None, start=True):
        need_root()
        need_program("postfix")
        self.box = Sandbox("postern-postfix-")
        self.port = free_port()
        self.config = self.box.mkdir("etc")
        self.queue = self.box.mkdir("queue")
        self.data = self.box.mkdir("data")
        self.logfile = self.box.path("postfix.log")
        self.pid = None
        at_end(self.stop)
        shutil.chown(self.data, "postfix", "postfix")
        self._make_queue()
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue,
            "data_directory": self.data,
            "daemon_directory": "/usr/lib/postfix/sbin",
            "command_directory": "/usr/sbin",
            "meta_directory": "/etc/postfix",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "multi_instance_name": "postfix-lab%d" % self.port,
            "syslog_name": "postfix-lab",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "myhostname": "postfix.lab.example",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "alias_database": "",
            "biff": "no",
            "append_dot_mydomain": "no",
            "smtpd_banner": "$myhostname ESMTP $mail_name (Debian/GNU)",
            "smtpd_peername_lookup": "no",
            "message_size_limit": "52428800",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
        }
        if log:
            settings["maillog_file"] = self.logfile
            settings["maillog_file_prefixes"] = self.box.dir
        if relay:
            settings["relayhost"] = "[127.0.0.1]:%d" % relay
        elif discard:
            settings["relay_domains"] = "static:all"
            settings["relay_transport"] = "discard:"
        else:
            mail = self.box.mkdir("mail")
            shutil.chown(mail, "postfix", "postfix")
            owner = pwd.getpwnam("postfix")
            settings.update({
                "virtual_mailbox_domains": "static:all",
                "virtual_mailbox_base": mail,
                "virtual_mailbox_maps": "static:all/",
                "virtual_uid_maps": "static:%d" % owner.pw_uid,
                "virtual_gid_maps": "static:%d" % owner.pw_gid,
                "virtual_mailbox_limit": "0",
                "smtpd_reject_unlisted_recipient": "no",
            })
        if tuned:
            settings.update({
                "default_process_limit": "400",
                "in_flow_delay": "0",
                "default_destination_concurrency_limit": "100",
                "initial_destination_concurrency": "50",
                "qmgr_message_active_limit": "40000",
                "qmgr_message_recipient_limit": "40000",
                "smtpd_client_connection_count_limit": "0",
                "smtpd_client_connection_rate_limit": "0",
                # over loopback a new connection costs less than a look into the cache
                "smtp_connection_cache_on_demand": "no",
            })
        if tls:
            settings.update({
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": tls.cert,
                "smtpd_tls_key_file": tls.key,
                "smtpd_tls_session_cache_database": "btree:${data_directory}/smtpd_scache",
            })
        if tls_out:
            settings.update({
                "smtp_tls_security_level": "encrypt" if tls_out is True else tls_out,
                "smtp_tls_session_cache_database": "btree:${data_directory}/smtp_scache",
            })
            if tuned and relay:
                settings["smtp_tls_connection_reuse"] = "yes"
                settings["smtp_connection_cache_destinations"] = "[127.0.0.1]:%d" % relay
        settings.update(main or {})
        self.settings = settings
        with open(os.path.join(self.config, "main.cf"), "w") as f:
            f.writelines("%s = %s\n" % s for s in settings.items())
        many = str(processes) if processes else "-"
        with open(os.path.join(self.config, "master.cf"), "w") as f:
            f.write(self.MASTER.format(smtpd="127.0.0.1:%d" % self.port, c="n" if tuned else "y", many=many))
            if tls_out:
                f.write("tlsproxy  unix  -  -  %s  -  0  tlsproxy\n" % ("n" if tuned else "y"))
        if start:
            self.start()

    def start(self, timeout=30):
        """The master alone, in the foreground: the start script's checks of files and modes take a second."""
        log = self.box.path("start.log")
        os.utime(os.path.join(self.config, "main.cf"), (0, 0)) # Postfix waits two seconds for a file just changed
        self.child = Child([self.settings["daemon_directory"] + "/master", "-c", self.config, "-s"], log=log,
                           env=dict(os.environ, MAIL_CONFIG=self.config))
        self.pid = self.child.pid

        def ready():
            if not self.child.running():
                raise RuntimeError("Postfix did not start: %s" % (self.log_text() or read_text(log) or "see syslog"))
            return self.listens()

        eventually(ready, timeout, "Postfix listens")
        return self

    def _make_queue(self):
        """The directories the start script would make."""
        os.mkdir(os.path.join(self.queue, "pid"))
        for name in ("incoming", "active", "deferred", "defer", "bounce", "trace", "hold", "flush", "saved", "corrupt",
                     "private", "public", "maildrop"):
            path = os.path.join(self.queue, name)
            os.mkdir(path)
            os.chmod(path, {"public": 0o710, "maildrop": 0o730}.get(name, 0o700))
            shutil.chown(path, "postfix", "postdrop" if name in ("public", "maildrop") else None)

    def listens(self):
        try:
            with Smtp(self.port, timeout=5) as s:
                s.quit()
            return True
        except (OSError, EOFError):
            return False

    def log_text(self):
        return read_text(self.logfile)

    def command(self, *argv, check=True, **keywords):
        """A Postfix command with -c on this instance: command("postqueue", "-f")."""
        return run([which(argv[0]), "-c", self.config, *argv[1:]], check=check, **keywords)

    def flush(self):
        self.command("postqueue", "-f")

    def queue_length(self):
        count = 0
        for name in ("incoming", "active", "deferred", "maildrop", "hold"):
            for _, _, files in os.walk(os.path.join(self.queue, name)):
                count += len(files)
        return count

    def maildir(self):
        """Delivered messages, as bytes."""
        out = []
        new = self.box.path("mail", "all", "new")
        for name in sorted(os.listdir(new)) if os.path.isdir(new) else []:
            with open(os.path.join(new, name), "rb") as f:
                out.append(f.read())
        return out

    def stop(self, timeout=20, kill=False):
        """Ends the master and what it started; they are one process group. An orderly end takes a second or two."""
        if self.pid:
            pid, self.pid = self.pid, None
            self.child.stop(timeout, signal.SIGKILL if kill else signal.SIGTERM)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


# --- an SMTP client that does exactly what it is told -------------------------------------------------------

class Recorder:
    """A server that accepts everything, with these EHLO keywords: `commands` it was told, `text` of the last message as it
    came, by DATA or in one chunk."""

    def __init__(self, *extensions, connections=20):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.extensions, self.commands, self.text = extensions, [], b""
        threading.Thread(target=self.serve, args=(connections,), daemon=True).start()

    def serve(self, connections):
        for _ in range(connections):
            conn, _ = self.listener.accept()
            with conn, conn.makefile("rb") as lines:
                conn.settimeout(20)
                conn.sendall(b"220 recorder\r\n")
                for line in lines:
                    self.commands.append(line.decode().strip())
                    verb, *words = line.split() or [b""]
                    if verb == b"EHLO":
                        conn.sendall("".join("250-%s\r\n" % e for e in self.extensions).encode() + b"250 HELP\r\n")
                        continue
                    if verb == b"BDAT":
                        self.text = lines.read(int(words[0]))
                    elif verb == b"DATA":
                        conn.sendall(b"354 go\r\n")
                        self.text = b"".join(iter(lines.readline, b".\r\n"))
                    conn.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n")


class Smtp:
    def __init__(self, port, host="127.0.0.1", timeout=30, greet=True):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.extensions = []
        self.greeting = self.expect(220) if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def raw(self, data):
        """Bytes as they are."""
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def send(self, line):
        """One line; the CRLF is added."""
        self.raw((line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line) + b"\r\n")

    def line(self):
        while b"\n" not in self.pending:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("connection closed by the server, after %r" % self.pending)
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def reply(self):
        """The next reply: (code, [text of each line])."""
        texts = []
        while True:
            line = self.line()
            if not re.match(r"\d{3}([ -]|$)", line):
                raise Failure("not a reply: %r" % line)
            texts.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), texts

    def expect(self, want, what=""):
        """Reads a reply and compares: a code, a list of codes, or a pattern for `code text`. Returns its text."""
        code, texts = self.reply()
        text = "\n".join("%d %s" % (code, t) for t in texts)
        if isinstance(want, str):
            good = re.search(want, text, re.M)
        else:
            good = code in (want if isinstance(want, (list, tuple, set)) else (want,))
        if not good:
            raise Failure("%swant %s, got %s" % (what + ": " if what else "", want, text))
        return "\n".join(texts)

    def cmd(self, line, want=None):
        """Sends a line; with `want` as in expect(), without it returns (code, texts)."""
        self.send(line)
        return self.reply() if want is None else self.expect(want, line)

    def ehlo(self, name="client.lab.example"):
        self.extensions = self.cmd("EHLO " + name, 250).split("\n")[1:]
        return self.extensions

    def has(self, extension):
        return any(e.split(" ")[0].upper() == extension.upper() for e in self.extensions)

    def pipeline(self, lines):
        """All lines in one write; the list of replies as (code, texts)."""
        lines = list(lines)
        self.raw(b"".join((l.encode() if isinstance(l, str) else l) + b"\r\n" for l in lines))
        return [self.reply() for _ in lines]

    def starttls(self, context=None, name=None, ehlo=True):
        self.cmd("STARTTLS", 220)
        self.tls(context, name)
        if ehlo:
            self.ehlo()

    def tls(self, context=None, name=None):
        """The handshake alone."""
        if self.pending:
            raise Failure("bytes in clear before the handshake: %r" % self.pending)
        self.sock = (context or client_context()).wrap_socket(self.sock, server_hostname=name)

    def mail(self, sender, rcpts, want=250):
        self.cmd("MAIL FROM:<%s>" % sender, 250)
        for rcpt in [rcpts] if isinstance(rcpts, str) else rcpts:
            self.cmd("RCPT TO:<%s>" % rcpt, want)

    def data(self, message, want=250):
        """DATA, the message (a Message, bytes or text with CRLF) dot-stuffed, the final dot; the last reply."""
        self.cmd("DATA", 354)
        self.raw(stuffed(message))
        return self.expect(want, "end of data")

    def message(self, sender, rcpts, message):
        """A whole transaction; the text of the last reply."""
        self.mail(sender, rcpts)
        return self.data(message)

    def quit(self):
        self.cmd("QUIT", 221)
        self.close()

    def at_eof(self, timeout=10):
        """True when the server has closed the connection (whatever it says first is dropped)."""
        self.sock.settimeout(timeout)
        try:
            while self.sock.recv(65536):
                pass
            return True
        except (ConnectionResetError, ssl.SSLError):
            return True
        except OSError:
            return False

    def reset(self):
        """Ends the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self):
        self.sock.close()


def client_context(ca=None, cert=None, minimum=None, maximum=None, ciphers=None):
    """A TLS client; verifies only when given a CA file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(ca)
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca)
    if cert:
        context.load_cert_chain(cert.cert, cert.key)
    if minimum:
        context.minimum_version = minimum
    if maximum:
        context.maximum_version = maximum
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def stuffed(message):
    """RFC 5321 section 4.5.2, and the final dot."""
    data = message.data if isinstance(message, Message) else message
    data = data.encode() if isinstance(data, str) else data
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..") + b".\r\n"


# --- other people's clients ---------------------------------------------------------------------------------

def s_client(port, *args, input="QUIT\r\n", timeout=30, check=False):
    """openssl s_client -starttls smtp; the completed process, stdout and stderr in .stdout."""
    need_program("openssl")
    done = run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-starttls", "smtp", *args],
               input=input, timeout=timeout, check=check)
    done.stdout += done.stderr
    return done


def gnutls_cli(port, *args, input="QUIT\r\n", timeout=30, check=False):
    need_program("gnutls-cli")
    done = run(["gnutls-cli", "--starttls-proto=smtp", "--port", str(port), "--insecure", *args, "127.0.0.1"],
               input=input, timeout=timeout, check=check)
    done.stdout += done.stderr
    return done


def swaks(port, *args, timeout=60, check=True):
    need_program("swaks")
    return run(["swaks", "--server", "127.0.0.1", "--port", str(port), "--helo", "swaks.lab.example", *args],
               timeout=timeout, check=check)


def smtp_source(port, *args, timeout=300, check=True):
    """Postfix's load generator."""
    need_program("smtp-source")
    return run([which("smtp-source"), *args, "127.0.0.1:%d" % port], timeout=timeout, check=check)


def smtp_load(port, *options, timeout=600, check=True):
    """Our load generator, options as in tests/bench/smtp_load.c; its JSON line."""
    done = run([tool("smtp_load"), "--to", "127.0.0.1:%d" % port, *[str(o) for o in options]], timeout=timeout,
               check=check)
    return json.loads(done.stdout) if done.stdout else None


# --- messages -----------------------------------------------------------------------------------------------

class Message:
    """data: what the sender means, CRLF lines, not dot-stuffed. sha256: of everything after the header block,
    which no relay may change; smtp_sink --digest writes the same sum next to X-Bench-Id."""

    def __init__(self, ident, header, body):
        self.id = ident
        self.body = body
        self.data = header + b"\r\n" + body
        self.sha256 = hashlib.sha256(body).hexdigest()


KINDS = ("plain", "eightbit", "longlines", "dots", "attachment")


def make_message(ident, size=1024, kind="plain", rng=None):
    """A message whose body has about `size` octets (never fewer than asked)."""
    rng = rng or random.Random("%s/%s/%d" % (os.environ.get("TEST_SEED", "postern"), ident, size))
    header = ("From: Sender <sender@client.lab.example>\r\nTo: <rcpt@dest.lab.example>\r\n"
              "Subject: %s message %s\r\nDate: Thu, 01 Feb 2024 10:00:00 +0000\r\n"
              "Message-ID: <%s@client.lab.example>\r\nX-Bench-Id: %s\r\nMIME-Version: 1.0\r\n"
              % (kind, ident, ident, ident)).encode()
    if kind == "attachment":
        mark = "=_%s" % ident
        header += ('Content-Type: multipart/mixed; boundary="%s"\r\n' % mark).encode()
        body = ("--%s\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n--%s\r\n"
                "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                % (mark, mark)).encode()
        return Message(ident, header, body + _base64_lines(rng, size) + b"--" + mark.encode() + b"--\r\n")
    header += b"Content-Type: text/plain; charset=%s\r\n" % (b"utf-8" if kind == "eightbit" else b"us-ascii")
    if kind == "eightbit":
        header += b"Content-Transfer-Encoding: 8bit\r\n"
    lines = []
    length = 0
    block = [_line(kind, rng) for _ in range(64)] # a pool: a 20 MiB message is not made letter by letter
    while length < size:
        lines.append(rng.choice(block))
        length += len(lines[-1])
    return Message(ident, header, b"".join(lines))


def _line(kind, rng):
    letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 ,.-"
    if kind == "longlines":
        text = bytes(rng.choices(letters, k=rng.choice((998, 998, 997, 500)))) # RFC 5321 section 4.5.3.1.6
    elif kind == "eightbit":
        text = "".join(rng.choices("äöüßéèñçøåжшλπ漢字かな abcde", k=rng.randrange(0, 60))).encode()
        text += bytes(rng.choices(range(128, 256), k=rng.randrange(0, 20)))
    elif kind == "dots":
        text = rng.choice((b".", b"..", b"...", b".\t", b". ", b"", b".QUIT", b"a.", b".." + b"x" * 70))
    else:
        text = bytes(rng.choices(letters, k=rng.randrange(0, 76)))
    return text + b"\r\n"


def _base64_lines(rng, size):
    import base64
    chunk = base64.b64encode(rng.randbytes(57 * 512))
    lines = b"".join(chunk[i:i + 76] + b"\r\n" for i in range(0, len(chunk), 76))
    return (lines * (size // len(lines) + 1))[:size // 78 * 78 + 78]


def mixed_messages(count, prefix="m", seed=None, largest=20 << 20):
    """`count` messages of all kinds: most are small, one in 50 goes up to 1 MiB, one in 1000 up to `largest`."""
    rng = random.Random(seed or os.environ.get("TEST_SEED", "postern"))
    for i in range(count):
        if i % 1000 == 999 or (count < 1000 and i == count - 1):
            size = rng.randrange(largest // 2, largest + 1)
        elif i % 50 == 49:
            size = rng.randrange(64 << 10, min(largest, 1 << 20) + 1)
        else:
            size = int(1024 * 2 ** rng.uniform(0, 5))
        yield make_message("%s%d" % (prefix, i), size, KINDS[i % len(KINDS)], rng)


class Book:
    """What was acknowledged, against what arrived."""

    def __init__(self):
        self.sent = {}

    def add(self, message):
        self.sent[message.id] = message.sha256

    def compare(self, digests):
        """-> (missing ids, ids that came changed, number of further copies of ids that came, unknown ids)"""
        seen = {}
        changed = []
        unknown = []
        copies = 0
        for ident, sha in digests:
            if ident not in self.sent:
                unknown.append(ident)
                continue
            if sha != self.sent[ident]:
                changed.append(ident)
            copies += ident in seen
            seen[ident] = sha
        return [i for i in self.sent if i not in seen], changed, copies, unknown

    def settled(self, sink, timeout=120):
        """Waits until nothing is missing at the sink; fails on the first changed body. Returns the number of
        messages that came more than once."""
        def complete():
            missing, changed, _, _ = self.compare(sink.digests())
            if changed:
                raise RuntimeError("changed on the way: %s" % changed[:10])
            if missing:
                raise Failure("%d of %d not arrived: %s ..." % (len(missing), len(self.sent), missing[:10]))
            return True

        eventually(complete, timeout)
        return self.compare(sink.digests())[2]
