# The numbers of the whole gateway: status in its layout, rate, workqueue, topin, resetcounters.

import json
import re
import signal
import subprocess
import time

import lab
import terminal

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"), start=False)


def setup():
    if gate.child:
        return
    gate.start()
    sink = lab.Sink()
    gate.configure("sethostname gw.lab.example\nsmtproutes new good.example 127.0.0.1:%d\nsmtproutes new dead.example 127.0.0.1:%d\n"
                   % (sink.port, lab.free_port()))
    for i in range(3):
        submit("a%d" % i, ["x@good.example", "y@good.example"])
    submit("dead", ["z@dead.example"])
    lab.eventually(lambda: counters()["soft_bounced_evts"] == 1 and counters()["delivered_recips"] == 6, 15)


def submit(ident, rcpts):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message("s@client.lab.example", rcpts, lab.make_message(ident, 500, "plain"))
        c.quit()


def counters(which="reset"):
    return {k: v[which] for k, v in gate.json("status detail")["data"]["counters"].items()}


@lab.test("status: titles, their order and the columns of the numbers")
def layout():
    setup()
    text = gate.console("status detail").stdout
    lines = text.splitlines()
    lab.match(text, r"\AStatus as of:                  \w{3} \w{3} [ \d]\d [\d:]{8} \d{4} \S+\nUp since:                      \w{3} .* \(\d+s\)\n"
                    r"Last counter reset:            Never\nSystem status:                 Online\nOldest Message:                \d+ secs?\n\n"
                    r"Counters:                                        Reset          Uptime        Lifetime\n  Receiving\n"
                    r"    Messages Received                                4               4               4\n"
                    r"    Recipients Received                              7               7               7\n")
    lab.match(text, r"\nRates \(Events Per Hour\):                      1-Minute       5-Minutes      15-Minutes\n")
    lab.match(text, r"\n    Message ID \(MID\) +\d+\n")
    lab.match(text, r"\nGauges:                                        Current\n  System\n    RAM Utilization +\d+%\n")
    lab.equal({len(l) for l in lines if re.match(r"    (Messages|Recipients|Soft|Completed|Rejected|Dropped)", l)} - {86, 54}, set())
    lab.equal({len(l) for l in lines if re.match(r"    \w+.*\((MID|ICID|DCID)\)", l)}, {86})
    lab.equal({len(l) for l in lines if re.match(r"    (Current|Active|Kilobytes)", l)}, {54})
    want = ["Messages Received", "Recipients Received", "Gen. Bounce Recipients", "Rejected Recipients", "Dropped Messages", "Soft Bounced Events",
            "Completed Recipients", "Hard Bounced Recipients", "DNS Hard Bounces", "5XX Hard Bounces", "Expired Hard Bounces",
            "Other Hard Bounces", "Delivered Recipients", "Deleted Recipients"]
    at = [text.index("    " + w) for w in want]
    lab.equal(at, sorted(at))
    brief = gate.console("status").stdout
    lab.match(brief, r'\AEnter "status detail" for more information\.\n\nStatus as of:')
    lab.equal("Hard Bounced" in brief or "Rates" in brief, False)


@lab.test("rate: a line at once and then one a second, deltas to the line before, JSON a line each")
def rate():
    setup()
    text = gate.console("rate -n 2 1").stdout
    lab.match(text, r"\ATime     Connections Recipients          Recipients          Queue\n         In     Out  Received     Delta  Completed     Delta K-Used\n"
                    r"(\d\d:\d\d:\d\d {6}\d {6}\d {10}\d {9}\d {10}\d {9}\d {7}\d\n){2}\Z")
    done = subprocess.run([lab.binary("postern"), "--home", gate.home, "--json", "rate", "-n", "2", "1"], capture_output=True, text=True, timeout=20)
    lines = [json.loads(l) for l in done.stdout.splitlines()]
    lab.equal([l.get("more") for l in lines[:2]], [True, True])
    lab.equal(lines[0]["data"]["inj_recips"], 7)
    lab.equal("message" in lines[-1], False, "no word of Ctrl-C for a script")
    done = gate.console("rate 0", check=False)
    lab.match(done.stderr, "an integer from 1 to 3600")
    for command in ("rate -n 0 1", "rate -n 2x 1", "hostrate -n -1 good.example 1", "workqueue rate -n 0 1"):
        lab.match(gate.console(command, check=False).stderr, "-n: enter a number of lines from 1 to 1000000")


@lab.test("rate and workqueue rate end with Ctrl-C, at the prompt")
def stopped():
    setup()
    t = terminal.console(gate)
    for command, head in (("rate 1", "Queue\n"), ("workqueue rate 1", "Out\n"), ("hostrate good.example 1", "Delta\n"), ("tail mail_logs", "Press Ctrl-C to stop")):
        t.type(command)
        t.until(r"%s[^\0]*\n" % head, settle=0.3)
        t.type("\x03", enter=False)
        t.until(r"gw\.lab\.example> ")
    t.stop()


@lab.test("what operators watch fits terminals of 50 and 80 columns, and Ctrl-C leaves the prompt")
def narrow():
    setup()
    visitor = lab.Smtp(gate.public)
    for columns in (50, 80):
        t = terminal.console(gate, rows=400, columns=columns)
        seen = t.greeting
        for command in ("status", "status detail", "tophosts active_rcpts", "topin", "hoststatus dead.example", "showrecipients all"):
            seen += t.ask(command)
        seen += t.ask("rollbackconfig", r"\[\]> ")
        t.type("\x03", enter=False)
        t.until(r"gw\.lab\.example> ")
        seen += t.ask("logconfig", r"\[\]> ")
        t.type("\x03", enter=False)
        t.until(r"gw\.lab\.example> ")
        for command in ("rate 1", "hostrate dead.example 1", "workqueue rate 1"):
            t.type(command)
            seen += t.until(r"\d\d:\d\d:\d\d .*\n").partition("\n")[2]
            t.type("\x03", enter=False)
            t.until(r"gw\.lab\.example> ")
        t.ask("deliveryconfig", r"\[\]> ")
        t.ask("setup", r"\[\]> ")
        t.type("?", enter=False)
        seen += t.until(r"\[\]> ", settle=0.3)
        t.type("\x03", enter=False)
        t.until(r"gw\.lab\.example> ")
        t.stop()
        lab.equal([line for line in seen.splitlines() if len(line) > columns], [], "%d columns" % columns)
        lab.equal([line for line in seen.splitlines() if line in ("being hard bounced.", "minutes. Changes which are not")], [])
        lab.match(seen, r"    Messages Received\n? +4 +4 +4\n")
        lab.match(seen, r"\n[12]\*  dead\.example\n? +1 +0 +0 +\d+ +0\n")
        lab.match(seen, r"\n +connecting to 127\.0\.0\.1:\d+:?\s+(refused|Connection\s+refused)\n +Next try \w{3} ")
        lab.match(seen, r"\n1  \S+\s+127\.0\.0\.1 +InboundMail +1\n")
    visitor.close()


@lab.test("suspend: Ctrl-C ends the wait and says how things stand; resume tells of a work queue that is paused")
def suspended():
    setup()
    visitor = lab.Smtp(gate.private)
    visitor.ehlo()
    visitor.mail("s@client.lab.example", ["x@good.example"])
    visitor.cmd("DATA", 354)
    t = terminal.console(gate, rows=400)
    t.type("suspend 60")
    t.until(r"Waiting for outgoing deliveries to finish\.\.\.\n", settle=0.5)
    t.type("\x03", enter=False)
    lab.match(t.until(r"gw\.lab\.example> "), r"\AStopped waiting\. It is suspended all the same, and open connections are left alone\.\n")
    lab.equal(gate.json("status")["data"]["status"], "Offline")
    lab.match(t.ask('workqueue pause "new disk"', r"\[N\]> "), r"\nManually pause work queue\?")
    lab.match(t.ask("y"), r"Status:   Paused by \w+: new disk\n")
    gate.console("workqueue pause another") # by somebody else
    lab.match(t.ask("resume"), r'\nMail delivery resumed\.\nThe work queue is still paused \(by \w+: another\)\. "workqueue resume" lets its mail go\.\n')
    gate.console("workqueue resume")
    t.ask('workqueue pause again and again', r"\[N\]> ")
    lab.match(t.ask("y"), r"Status:   Paused by \w+: again and again\n")
    lab.match(t.ask("workqueue resume"), r"Status:   Operational\n")
    lab.equal("still" in t.ask("resume"), False)
    lab.equal("Listener" in gate.console("status").stdout, False)
    gate.console("suspendlistener InboundMail 0")
    lab.match(gate.console("status").stdout, r'\nListener InboundMail: +suspended; "resumelistener InboundMail" opens it again\n\n')
    gate.console("resumelistener InboundMail")
    t.stop()
    visitor.close()


@lab.test("topin: a row for each address and listener, the most connections first")
def topin():
    setup()
    text = gate.console("topin").stdout
    lab.match(text, r"\AStatus as of:                   .*\n#  Remote hostname            Remote IP addr.   listener        Conn. In\n\Z")
    open_ones = [lab.Smtp(gate.public) for _ in range(2)] + [lab.Smtp(gate.private) for _ in range(3)]
    rows = gate.json("topin")["data"]["hosts"]
    lab.equal([(r["ip"], r["listener"], r["conn_in"]) for r in rows], [("127.0.0.1", "OutboundMail", 3), ("127.0.0.1", "InboundMail", 2)])
    text = gate.console("topin").stdout
    lab.match(text, r"\n1  \S+ +127\.0\.0\.1         OutboundMail          3\n2  \S+ +127\.0\.0\.1         InboundMail           2\n\Z")
    for s in open_ones:
        s.close()
    lab.eventually(lambda: gate.json("topin")["data"]["hosts"] == [], 10)


@lab.test("resetcounters: the column Reset begins again, the others do not; it is remembered over a restart")
def reset():
    setup()
    gate.console("resetcounters")
    lab.equal(counters()["inj_msgs"], 0)
    lab.equal(counters("uptime")["inj_msgs"], 4)
    submit("after", ["x@good.example"])
    lab.equal(counters()["inj_msgs"], 1)
    gate.restart()
    lab.equal(counters()["inj_msgs"], 1)
    lab.equal(counters("uptime")["inj_msgs"], 0)
    lab.equal(counters("lifetime")["inj_msgs"], 5)
    lab.match(gate.console("status").stdout, r"Last counter reset:            \w{3} \w{3} ")


@lab.test("what never ends of itself ends when nobody reads its pipe any more, though it has nothing to say")
def broken_pipe():
    setup()
    for command in ("tail --json mail_logs", "grep -t Nothing mail_logs", "rate 3600", "hostrate good.example 3600"):
        p = subprocess.Popen([lab.binary("postern"), "--home", gate.home, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if not command.startswith("grep"):
            p.stdout.readline()
        p.stdout.close()
        lab.equal(p.wait(10), -signal.SIGPIPE, command)
        lab.equal(p.stderr.read(), b"", command)


@lab.test("showrecipients --json is one document, however it is written")
def streamed():
    setup()
    for command in ("showrecipients all", "showrecipients host none.example", "showrecipients all limit=1"):
        data = gate.json(command)
        lab.equal((data["v"], data["ok"], data["command"], type(data["data"]["recipients"]), type(data["data"]["more"])),
                  (1, True, "showrecipients", list, bool), command)


@lab.test("workqueue: what comes while it is paused waits, over a restart and delivernow too, and then goes")
def workqueue():
    setup()
    lab.match(gate.console("workqueue status").stdout, r"\AStatus as of:   \w{3} .*\nStatus:   Operational\nMessages: 0\n\Z")
    before = gate.json("status detail")["data"]["gauges"]["active_recips"]
    lab.match(gate.console('workqueue pause "checking LDAP server"').stdout,
              r"\AStatus:   Paused by \w+: checking LDAP server\nMessages: 0\n\Z")
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        for _ in range(3):
            c.message("s@client.lab.example", ["a@good.example", "b@waiting.example"], "Subject: x\r\n\r\nx\r\n")
        c.quit()
    gate.console("delivernow all")
    gate.restart()
    lab.match(gate.console("workqueue status").stdout, r"\nStatus:   Paused by \w+: checking LDAP server\nMessages: 3\n\Z")
    lab.match(gate.console('workqueue pause "still checking"').stdout, r"\AStatus:   Paused by \w+: still checking\n")
    refused = gate.console("workqueue pause " + "x" * 251, check=False)
    lab.equal(refused.returncode != 0, True)
    lab.match(refused.stderr, r"The reason has 251 bytes, at most 250 are kept: make it shorter\.")
    gate.kill_engine()
    lab.match(gate.console("workqueue status").stdout, r"\nStatus:   Paused by \w+: still checking\nMessages: 3\n\Z")
    data = gate.json("status detail")["data"]
    lab.equal((data["status"], data["gauges"]["msgs_in_work_queue"]), ("Work queue paused", 3))
    lab.match(gate.console("workqueue rate -n 1 1").stdout, r"\ATime     Pending    In    Out\n[\d:]{8}       3     0      0\n\Z")
    lab.equal(gate.json("workqueue status")["data"]["messages"], 3)
    mid = gate.json("showrecipients host good.example")["data"]["recipients"][-1]["mid"]
    gate.console("deleterecipients mid %d" % mid)
    lab.match(gate.console("workqueue resume").stdout, r"\AStatus:   Operational\nMessages: 0\n\Z")
    lab.eventually(lambda: not gate.json("showrecipients host good.example")["data"]["recipients"], 10, "it is delivered")

    def deleted(): # what is being tried at the moment is left alone
        gate.console("deleterecipients host waiting.example")
        return gate.json("status detail")["data"]["gauges"]["active_recips"] == before

    lab.eventually(deleted, 15, "only what was there before is left")
    gate.console("workqueue resume") # a second time: nothing


lab.main()
