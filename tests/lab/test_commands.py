#!/usr/bin/python3
# What commands do to the running gateway: staged, checked, committed, seen in the next session, rolled back.

import contextlib
import json
import os
import socket

import lab
import terminal
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
gate.configure("sethostname gw.lab.example\n")


@lab.test("TLS on a listener: offered after the commit, in new sessions only, and gone after the rollback")
def tls_switched():
    old = lab.Smtp(gate.public)
    old.ehlo()
    lab.equal(old.has("STARTTLS"), False)
    gate.console("listenerconfig edit InboundMail tls=preferred; commit \"TLS on\" Y")
    old.ehlo()
    lab.equal(old.has("STARTTLS"), False, "a session keeps the configuration it began with")
    old.quit()
    with lab.Smtp(gate.public) as new:
        new.ehlo()
        lab.equal(new.has("STARTTLS"), True)
        new.starttls()
        new.quit()
    history = gate.json("rollbackconfig")["data"]["revisions"]
    gate.console("rollbackconfig %d; commit -y" % history[0]["revision"])
    with lab.Smtp(gate.public) as last:
        last.ehlo()
        lab.equal(last.has("STARTTLS"), False)
        last.quit()
    diff = gate.json("showchanges %d running" % history[0]["revision"])["data"]["objects"]
    lab.equal(diff, [])


@lab.test("required TLS: everything but a few commands is refused until STARTTLS")
def tls_required():
    gate.configure("listenerconfig edit InboundMail tls=required\n")
    with lab.Smtp(gate.public) as s:
        s.ehlo()
        s.cmd("MAIL FROM:<a@client.example>", 530)
        s.quit()
    gate.configure("listenerconfig edit InboundMail tls=off\n")


@lab.test("a port in use is refused at commit check and at commit; the candidate stays")
def port_in_use():
    busy = socket.socket()
    busy.bind(("127.0.0.1", 0))
    busy.listen()
    port = busy.getsockname()[1]
    t = terminal.console(gate)
    t.ask("listenerconfig edit InboundMail port=%d" % port)
    for command in ("commit check", "commit try"):
        out = t.ask(command, pattern=r"\S+> ")
        while "rollback? [Y]> " in out[-40:]:
            out += t.ask("")
        lab.match(out, r"(?s)%d.*in use" % port, command)
    lab.match(t.ask("showchanges"), r"port +\d+ -> %d" % port)
    lab.equal(lab.listening(gate.public), True)
    busy.close()
    t.ask("commit again", pattern=r"\[Y\]> ")
    lab.match(t.ask(""), "Changes committed: ")
    lab.eventually(lambda: lab.listening(port), 5)
    lab.eventually(lambda: not lab.listening(gate.public), 5)
    t.ask("listenerconfig edit InboundMail port=%d" % gate.public)
    t.ask("commit back", pattern=r"\[Y\]> ")
    t.ask("")
    t.stop()


@lab.test("the ports of two listeners may not be the same, at the prompt and at the commit")
def port_taken():
    done = gate.console("listenerconfig edit InboundMail port=%d; commit -y" % gate.private, check=False)
    lab.equal(done.returncode, 3)
    lab.match(done.stdout + done.stderr, "OutboundMail already uses port %d" % gate.private)
    gate.console("clearchanges", check=False)


@lab.test("the level of mail_logs takes effect with the commit")
def log_level():
    def connect():
        with lab.Smtp(gate.private) as s:
            s.ehlo()
            s.quit()

    gate.configure("logconfig edit mail_logs level=critical\n")
    connect()
    gate.configure("logconfig edit mail_logs level=information\n")
    before = len(gate.maillog().find(r"New SMTP ICID"))
    connect()
    lab.eventually(lambda: len(gate.maillog().find(r"New SMTP ICID")) > before, 10)
    icids = [int(n) for n in gate.maillog().find(r"New SMTP ICID (\d+)")]
    lab.equal(icids[-1] - 1 in icids, False, "the session at level Critical left no line")


@lab.test("the prompt shows the new host name after the commit, not before")
def hostname():
    t = terminal.console(gate)
    lab.match(t.ask("sethostname new.lab.example"), r"\* gw\.lab\.example> \Z")
    lab.match(t.ask("commit name", pattern=r"\[Y\]> "), "rollback")
    lab.match(t.ask(""), r"(?<!\S )new\.lab\.example> \Z")
    t.stop()
    with lab.Smtp(gate.public) as s:
        lab.match(s.greeting, r"^new\.lab\.example ")
    gate.configure("sethostname gw.lab.example\n")


def two_consoles():
    return terminal.console(gate), terminal.console(gate)


def commit(t, comment):
    return t.ask("commit \"%s\" Y" % comment)


def told(t):
    """The notice that somebody else has committed, and the prompt behind it."""
    t.until(r"committed revision \d+[^\n]*\n[^\n]*> ")


@lab.test("two administrators: different fields of one object merge")
def merged():
    a, b = two_consoles()
    a.ask("listenerconfig edit InboundMail max_connections=500")
    b.ask("listenerconfig edit InboundMail max_rcpts_per_msg=60")
    lab.match(commit(a, "a"), "Changes committed")
    told(b)
    lab.match(commit(b, "b"), "Changes committed")
    text = gate.console("showconfig").stdout
    lab.match(text, r"listenerconfig .*InboundMail.*max_connections=500")
    lab.match(text, r"listenerconfig .*InboundMail.*max_rcpts_per_msg=60")
    a.stop()
    b.stop()


@lab.test("two administrators: the same field is a conflict, shown and resolved by either side")
def conflict():
    for take, wanted in (("mine", "8"), ("theirs", "7")):
        a, b = two_consoles()
        a.ask("listenerconfig edit InboundMail max_concurrency=7")
        b.ask("listenerconfig edit InboundMail max_concurrency=8")
        lab.match(commit(a, "a"), "Changes committed")
        told(b)
        out = commit(b, "b")
        lab.match(out, r"max_concurrency")
        lab.match(out, r"theirs +7")
        lab.match(out, r"yours +8\nChoose for each of them: commit resolve mine\|theirs OBJECT FIELD\n")
        lab.equal("Changes committed" in out, False)
        lab.match(b.ask("commit resolve %s InboundMail max_concurrency" % take), "1 conflict resolved")
        b.ask("commit after Y")
        if take == "mine":
            told(a)
        lab.match(gate.console("showconfig").stdout, r"listenerconfig .*InboundMail.*max_concurrency=%s\b" % wanted)
        a.ask("listenerconfig edit InboundMail max_concurrency=10")
        commit(a, "back")
        a.stop()
        b.stop()


@lab.test("as ssh calls it: one string, several commands, silence on success, a code on failure")
def one_string():
    done = gate.console("listenerconfig edit \"InboundMail\" hostaccess edit sendergroup BLACKLIST new 192.0.2.7; "
                        "commit \"blocked\" Y")
    lab.equal(done.stderr, "")
    lab.match(done.stdout, r"\A(Changes committed: [^\n]*\n)?\Z")
    lab.match(gate.console("listenerconfig edit InboundMail hostaccess print").stdout, r"BLACKLIST:\n    192\.0\.2\.7\n")
    gate.console("listenerconfig edit InboundMail hostaccess edit sendergroup BLACKLIST delete 192.0.2.7; commit -y")
    for command, code in (("nonsense", 2), ("destconfig edit nowhere.example use_tls=on", 7),
                          ("destconfig new a.example use_tls=sometimes", 3), ("listenerconfig edit", 2)):
        done = gate.console(command, check=False)
        lab.equal((done.returncode, bool(done.stderr.strip())), (code, True), command + ": " + done.stderr)


@lab.test("routes from a file replace the table, or nothing changes")
def routes():
    gate.configure("smtproutes new one.example [192.0.2.1]:25\nsmtproutes new ALL relay.example/pri=10 backup.example/pri=20\n")
    lab.match(gate.console("smtproutes print").stdout, r"(?s)one\.example.*ALL +relay\.example/pri=10, backup")
    export = os.path.join(gate.home, "export")
    gate.console("smtproutes export routes.txt")
    text = lab.read_text(os.path.join(export, "routes.txt"))
    lab.match(text, r"(?m)^one\.example: \[192\.0\.2\.1\]:25$")
    box.write(os.path.join(export, "bad.txt"), "two.example: [192.0.2.2]\nthree..example x\n")
    done = gate.console("smtproutes import bad.txt", check=False)
    lab.match(done.stdout + done.stderr, "Line 2: ")
    box.write(os.path.join(export, "good.txt"), "# new\n\ntwo.example: [192.0.2.2]\nALL USEDNS\n")
    gate.console("smtproutes import good.txt; commit -y")
    printed = gate.console("smtproutes print").stdout
    lab.equal("one.example" in printed, False)
    lab.match(printed, r"(?s)two\.example.*ALL +USEDNS")
    gate.console("smtproutes clear --yes; commit -y")


def loaded(name):
    """What loading the file would change; nothing stays staged."""
    done = gate.console("loadconfig %s mode=replace --json; clearchanges" % name)
    return json.loads(done.stdout.splitlines()[0])["data"]


@lab.test("a configuration saved and loaded again is no change; a change in the file is one")
def saved():
    done = gate.console("saveconfig y 1")
    path = lab.match(done.stdout, r'location "([^"]+)"').group(1)
    name = os.path.basename(path)
    lab.equal(loaded(name), {"new": 0, "changed": 0, "deleted": 0})
    text = lab.read_text(path)
    lab.equal("PRIVATE KEY" in text, False)
    done = gate.console("saveconfig mask file=never.conf --nosuch", check=False)
    lab.match(done.stderr, "is no option of this command")
    lab.equal((done.returncode, os.path.exists(os.path.join(os.path.dirname(path), "never.conf"))), (2, False))
    with open(path, "w") as f:
        f.write(text.replace("max_connections=500", "max_connections=501"))
    lab.equal(loaded(name)["changed"], 1)


@lab.test("a renamed listener keeps its access tables")
def renamed():
    before = gate.json("listenerconfig edit InboundMail hostaccess print")["data"]
    gate.console("listenerconfig edit InboundMail name=Inbound; commit -y")
    after = gate.json("listenerconfig edit Inbound hostaccess print")["data"]
    lab.equal([g["name"] for g in after["sender_groups"]], [g["name"] for g in before["sender_groups"]])
    lab.eventually(lambda: lab.listening(gate.public), 5)
    gate.console("listenerconfig edit Inbound name=InboundMail; commit -y")


@lab.test("status as text and as JSON, for a probe")
def status():
    text = gate.console("status detail").stdout
    lab.match(text, r"^System status: +Online$")
    lab.match(text, r"^    Messages Received +[\d,]+ +[\d,]+ +[\d,]+$")
    lab.match(text, r"^    Current Inbound Conn\. +\d+$")
    data = gate.json("status")["data"]
    lab.equal(data["status"], "Online")
    lab.equal(data["counters"]["conns_in_total"]["lifetime"] > 0, True)


@lab.test("JSON: times and sizes in one form, no candidate without a number, the summary of a batch")
def json_forms():
    data = gate.json("status")["data"]
    for key in ("as_of", "up_since"):
        lab.match(data[key], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    lab.equal(data["last_reset"], None)
    lab.equal(gate.json("version")["data"]["memory"] > 1 << 20, True)
    done = lab.run([lab.binary("postern"), "--home", gate.home, "--json", "destconfig", "set", "j.example", "use_tls=on"])
    lab.equal("candidate" in json.loads(done.stdout), False, done.stdout)
    number = lab.match(done.stderr, r"candidate=([1-9]\d*)").group(1)
    gate.console("clearchanges candidate=%s" % number, check=False)
    done = lab.batch(gate.home, "version\n\ndestconfig set j.example use_tls=bogus\n", check=False, args=["--json"])
    last = json.loads(done.stdout.splitlines()[-1])
    lab.equal((done.returncode, last["command"], last["code"], last["exit"]), (3, "batch", "E_INVALID", 3))
    lab.match(last["message"], r"^[^:]+:3: use_tls: ")
    text = gate.console("showconfig").stdout
    done = lab.batch(gate.home, text, args=["--replace", "--commit", "--json"])
    lab.equal(json.loads(done.stdout.splitlines()[-1])["changed"], False)


@lab.test("a wrong word on the line is answered with the right ones")
def words_named():
    for line, told in (("showconfig bogus", "choose one of: mask, encrypt, plain"),
                       ("showrecipients bogus x", "choose one of: host, sender, all, mid"),
                       ("destconfig set", r"Say which: destconfig set NAME\."),
                       ("destconfig bogus", "not one of the operations: SETUP"),
                       ("certconfig certificate print Demo", '"Demo" is one word too many'),
                       ("certconfig certificate list Demo", '"Demo" is one word too many'),
                       ("destconfig list x", '"x" is one word too many'),
                       ("destconfig detail all x", '"x" is one word too many'),
                       ("smtproutes print x", '"x" is one word too many'),
                       ("listenerconfig edit InboundMail hostaccess print x", '"x" is one word too many'),
                       ("status detail x", '"x" is one word too many'),
                       ("version x", '"x" is one word too many'),
                       ("ping 127.0.0.1 count=2", '"count" is no setting of this command; "help" shows its forms'),
                       ("updateconfig", 'Say what to do: SETUP; "help updateconfig" shows the forms'),
                       ("who x", '"x" is one word too many'),
                       ("commitdetail x", '"x" is one word too many'),
                       ("showrecipients", r"Usage: showrecipients host HOST \| .* \| showrecipients all \| .*after=MID$"),
                       ("delivernow", r"Usage: delivernow domain DOMAIN \| delivernow all$"),
                       ("bounceconfig edit", r'"help bounceconfig" shows the forms'),
                       ("systemsetup", r"^\S+: systemsetup is a dialog")):
        done = gate.console(line, check=False)
        lab.equal((done.returncode, done.stdout), (2, ""), line)
        lab.match(done.stderr, told)


@lab.test("the list of commands fits a terminal of 80 columns")
def help_width():
    wide = [line for line in gate.console("help").stdout.splitlines() if len(line) > 80]
    lab.equal(wide, [])


@lab.test("a file the engine's user may not read is told with that user")
def unreadable():
    if os.geteuid() == 0:
        lab.skip("root reads every file")
    path = os.path.join(gate.home, "export", "closed.txt")
    with open(path, "w") as f:
        f.write("sethostname x.example\n")
    os.chmod(path, 0)
    lab.match(gate.console("loadconfig closed.txt", check=False).stderr, r'runs as the user "\S+", who must be able to read')


@lab.test("tail and grep")
def logs():
    done = gate.console("grep \"ICID [0-9]+ close\" mail_logs")
    lab.match(done.stdout, r"ICID \d+ close")
    done = gate.console("grep -i -e nothing-like-it -e NEITHER mail_logs")
    lab.equal(done.stdout, "No results were found. Use another regular expression(s) to search.\n")
    lab.equal(done.returncode, 0)
    done = gate.console("grep \"(\" mail_logs", check=False)
    lab.match(done.stdout + done.stderr, "cannot be used")
    t = terminal.console(gate)
    t.type("tail mail_logs")
    t.until(r"Press Ctrl-C to stop\.\n[\s\S]*")
    with lab.Smtp(gate.private) as s:
        s.ehlo("tail.lab.example")
        s.quit()
    t.until(r"ICID \d+ close\n")
    t.type("\x03", enter=False)
    t.until(r"gw\.lab\.example> ")
    lab.match(t.ask("version"), "Postern")
    t.stop()


@lab.test("roles: a hidden command is an unknown one, and the daemon does not trust the console")
def roles():
    lab.need_root()
    lab.need_program("setpriv")
    gate.configure("userconfig new games role=guest\nuserconfig new daemon role=readonly\nuserconfig new bin role=operator\n")
    os.chmod(box.path(), 0o711)
    os.chmod(gate.home, 0o711)
    os.chmod(os.path.join(gate.home, "run", "control"), 0o666)

    def run(user, command):
        done = lab.run(["setpriv", "--reuid", user, "--clear-groups", lab.binary("postern"), "--home", gate.home, "-c",
                        command], check=False)
        return done.returncode, done.stdout + done.stderr

    unknown = (2, "Unknown command or missing feature key: ")
    for user, command, code, text in (
            ("games", "whoami", 0, "Groups: guest"), ("games", "status", 0, "Online"), ("games", "showconfig", *unknown),
            ("games", "tail -n 1 mail_logs", *unknown),
            ("daemon", "showconfig", 0, "listenerconfig"), ("daemon", "grep Begin mail_logs", 0, "Begin Logfile"),
            ("daemon", "destconfig new x.example", *unknown), ("daemon", "suspend 0", *unknown),
            ("bin", "destconfig new x.example use_tls=on; commit -y", 0, "Changes committed"),
            ("bin", "destconfig delete x.example; commit -y", 0, "Changes committed"),
            ("bin", "userconfig new z role=administrator", *unknown),
            ("bin", "certconfig certificate new z common_name=z.example", *unknown)):
        got = run(user, command)
        lab.equal(got[0], code, "%s: %s: %s" % (user, command, got[1]))
        lab.match(got[1], text, user + ": " + command)
    export = os.path.join(gate.home, "export", "more.conf")
    with open(export, "w") as f:
        f.write("userconfig set bin role=administrator\n")
    os.chmod(export, 0o644)
    code, text = run("bin", "loadconfig more.conf; commit -y")
    lab.equal(code, 4, text)


@lab.test("suspended and resumed")
def suspended():
    gate.console("suspendlistener InboundMail 0")
    s = lab.Smtp(gate.public, greet=False)
    s.expect(421)
    lab.equal([l["suspended"] for l in gate.json("status")["data"]["listeners"]], [True, False])
    gate.console("resumelistener")
    lab.Smtp(gate.public).quit()
    gate.console("suspend 0")
    lab.equal(gate.json("status")["data"]["status"] != "Online", True)
    gate.console("resume")
    lab.equal(gate.json("status")["data"]["status"], "Online")
    with contextlib.closing(Control(gate.home)) as control: # nothing is kept of names that are made up, nor cut off at once
        control.refused("E_NOT_FOUND", "queue.suspend", what="receiving", listeners=["InboundMail", "Nobody"], seconds=0)
        control.refused("E_INVALID", "queue.suspend", what="all", seconds=1 << 62)
    lab.equal(gate.json("status")["data"]["status"], "Online")


lab.main()
