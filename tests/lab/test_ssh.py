# timeout: 300
# The console behind a real sshd on loopback: single commands with their exit codes, batches on standard input, terminals,
# file transfers refused, what clients send along.

import getpass
import json
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab
import screen

BOX = None
GATE = None
PORT = 0


def key(path):
    lab.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])
    return path


def server():
    """sshd of this user with keys of its own; every login becomes the console."""
    global BOX, GATE, PORT
    if GATE:
        return
    sshd = lab.which("sshd")
    if not sshd or not lab.which("ssh"):
        lab.skip("openssh-server is not installed")
    BOX = lab.Sandbox()
    GATE = lab.Posternd(BOX.path("home"))
    GATE.configure("sethostname gw.example.com\ndestconfig set partner.example use_tls=require\n")
    key(BOX.path("host"))
    key(BOX.path("user"))
    PORT = lab.free_port()
    # sshd hands on no environment; a sanitizer's options belong to the test
    sanitizers = " ".join('"%s=%s"' % (name, value) for name, value in os.environ.items() if "SAN_OPTIONS" in name)
    sanitizers = sanitizers and "SetEnv " + sanitizers
    BOX.write("sshd_config", """
Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
%s
ForceCommand exec %s --home %s
""" % (PORT, BOX.path("host"), BOX.path("user"), sanitizers, lab.binary("postern"), GATE.home))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    child = lab.Child([sshd, "-D", "-e", "-f", BOX.path("sshd_config")], log=BOX.path("sshd.log"))
    lab.eventually(lambda: lab.listening(PORT) or not child.running(), 10, "sshd listens")
    if not child.running():
        lab.skip("sshd does not start here: " + lab.read_text(BOX.path("sshd.log")).strip()[-200:])
    done = ssh("whoami", check=False)
    if done.returncode == 255:
        lab.skip("this account cannot log in: " + lab.read_text(BOX.path("sshd.log")).strip()[-200:])


def options():
    return ["-F", "none", "-p", str(PORT), "-i", BOX.path("user"), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"]


def argv(*words, before=()):
    return ["ssh", *options(), *before, "%s@127.0.0.1" % getpass.getuser(), *words]


def ssh(*words, check=True, before=(), **keywords):
    server()
    return lab.run(argv(*words, before=before), check=check, timeout=60, stdin=keywords.pop("stdin", subprocess.DEVNULL)
                   if "input" not in keywords else None, **keywords)


def last_comment():
    return GATE.console("commitdetail").stdout


@lab.test("one command, its output and exit code 0")
def one_command():
    done = ssh("destconfig list --json")
    domains = [e["domain"] for e in json.loads(done.stdout)["data"]["entries"]]
    lab.equal("partner.example" in domains, True)
    lab.equal(done.stderr, "")


@lab.test("changes and their commit in one line")
def change_and_commit():
    done = ssh('destconfig set a.example use_tls=on; commit "why not; really" Y')
    lab.match(done.stdout, r"\AChanges committed: ")
    lab.match(last_comment(), r"why not; really")
    lab.match(GATE.console("showconfig").stdout, r"^destconfig set a\.example use_tls=on$")


@lab.test("exit codes: never 255")
def exit_codes():
    for line, code in (("version", 0), ("nosuch", 2), ("destconfig set b.example use_tls=bogus", 3),
                       ("destconfig edit missing.example use_tls=on", 7), ("destconfig new a.example use_tls=require", 8),
                       ("version; nosuch; version", 2), ('grep "a', 2)):
        done = ssh(line, check=False)
        lab.equal(done.returncode, code, line)
        if code:
            lab.match(done.stderr, r"^postern: ")
            lab.equal("Traceback" in done.stderr or "\n\n" in done.stderr, False, done.stderr)


@lab.test("what is staged without a commit is kept and can be committed by its number")
def staged_only():
    done = ssh("destconfig set kept.example use_tls=on")
    number = lab.match(done.stderr, r"commit candidate=(\d+)").group(1)
    lab.match(ssh("showchanges").stdout or "none", r"none|no changes")
    ssh("commit candidate=%s" % number)
    lab.match(GATE.console("showconfig").stdout, r"kept\.example")


@lab.test("a batch on standard input, one transaction")
def batch_input():
    done = ssh("batch --commit --comment CHG-1", input="destconfig set c1.example use_tls=on\ndestconfig set c2.example use_tls=on\n",
               before=["-T"])
    lab.match(last_comment(), r"CHG-1")
    done = ssh("batch --commit", input="destconfig set c3.example use_tls=on\ndestconfig set c4.example use_tls=bogus\n", check=False)
    lab.equal(done.returncode, 3)
    lab.match(done.stderr, r"^stdin:2: destconfig: use_tls: .*\nnothing was changed$")
    lab.equal("c3.example" in GATE.console("showconfig").stdout, False, "half of a batch")


@lab.test("statements on standard input without a command")
def lines_on_input():
    done = ssh(input="version\nwhoami\n", before=["-T"])
    lab.match(done.stdout, r"^Version: ")
    lab.match(done.stdout, r"^Username: ")
    lab.equal("Welcome" in done.stdout or "> " in done.stdout, False, "no welcome, no prompt")


@lab.test("a command with a terminal asks nothing, stops at no page")
def command_on_a_terminal():
    lab.need_root() # sshd gives terminals away only then
    done = ssh("help", before=["-tt"])
    lab.match(done.stdout, r"destconfig")
    lab.equal("Press Any Key" in done.stdout or "Welcome" in done.stdout, False)
    done = ssh("destconfig", before=["-tt"], check=False)
    lab.equal(done.returncode, 2)


@lab.test("a login: the prompt, the address in who, leaving")
def login():
    lab.need_root() # sshd gives terminals away only then
    server()
    t = screen.Terminal([lab.which("ssh")] + argv(before=["-t"])[1:], env={"HOME": BOX.path(), "LC_ALL": "xx_YY", "LANG": "C"})
    t.until(lambda: re.search(r"^gw\.example\.com> ?$", t.tail()), "the prompt")
    t.type("who\r")
    t.until(lambda: t.has(r"127\.0\.0\.1 +cli"), "the address")
    t.type("help caf\u00e9\r")
    t.until(lambda: t.has("There is no command \"caf\u00e9\""), "UTF-8 whatever the client says")
    t.type("quit\r")
    lab.equal(t.wait(), 0)


@lab.test("the connection is cut: the changes are kept and offered")
def cut():
    lab.need_root() # sshd gives terminals away only then
    server()
    t = screen.Terminal([lab.which("ssh")] + argv(before=["-t"])[1:], env={"HOME": BOX.path()})
    t.until(lambda: re.search(r"^gw\.example\.com> ?$", t.tail()), "the prompt")
    t.type("destconfig set cut.example use_tls=on\r")
    t.until(lambda: re.search(r"^\* gw\.example\.com> ?$", t.tail()), "it is staged")
    os.kill(t.pid, signal.SIGKILL)
    t.wait()
    t = screen.Terminal([lab.which("ssh")] + argv(before=["-t"])[1:], env={"HOME": BOX.path()})
    t.until(lambda: t.has(r"You left 1 uncommitted change on .*Resume\? \[Y\]> ?$"), "the offer")
    t.type("y\r")
    t.until(lambda: re.search(r"^\* gw\.example\.com> ?$", t.tail()), "the changes are back")
    t.type("clearchanges\r")
    t.until(lambda: t.has(r"\[Y\]> ?$"), "the question")
    t.type("y\r")
    t.until(lambda: re.search(r"^gw\.example\.com> ?$", t.tail()), "cleared")
    t.type("quit\r")
    lab.equal(t.wait(), 0)


@lab.test("SFTP and SCP are refused with a sentence")
def transfers():
    server()
    target = "%s@127.0.0.1" % getpass.getuser()
    common = [o if o != "-p" else "-P" for o in options()]
    box = lab.Sandbox()
    path = box.write("file", "x")
    for command in (["sftp", *common, "-b", "/dev/null", target], ["scp", *common, path, target + ":x"],
                    ["scp", "-O", *common, path, target + ":x"]):
        if not lab.which(command[0]):
            lab.skip(command[0] + " is not installed")
        done = lab.run(command, check=False, timeout=60, stdin=subprocess.DEVNULL)
        lab.equal(done.returncode != 0, True, "refused")
        if "-O" in command: # sshd drops what a subsystem says on stderr
            lab.match(done.stderr, r"it has no file transfer")


@lab.test("the console as a login shell")
def login_shell():
    server()
    env = {"TERM": "dumb", "HOME": BOX.path(), "POSTERN_HOME": GATE.home}

    def run(*words, **more):
        return subprocess.run(["-postern", *words], executable=lab.binary("postern"), env=dict(env, **more), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)

    lab.match(run("-c", "version").stdout, r"^Version: ")
    lab.equal(run("-c", "nosuch; version").returncode, 2)
    lab.equal(run("-c", "/usr/lib/openssh/sftp-server").returncode, 4)
    lab.match(run("-c", "postern", SSH_ORIGINAL_COMMAND="whoami").stdout, r"^Username: ")
    lab.equal(run("-c", "version; /bin/sh -c id").returncode, 2)
    lab.equal(run("-c", "version $(id) `id` | id > x").returncode, 2)


lab.main()
