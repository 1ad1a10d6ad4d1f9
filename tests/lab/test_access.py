#!/usr/bin/python3
# The host and recipient access tables from the command line: the lines other systems' scripts use, files in and out, and
# what the gateway then says to a sender.

import json
import os
import re
import smtplib
import time

import lab

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
HAT = "listenerconfig edit InboundMail hostaccess "
RAT = "listenerconfig edit InboundMail rcptaccess "

APPLIANCE = """# File exported by the CLI at 20260530T220526
$ACCEPTED
    ACCEPT {}
$THROTTLED
    ACCEPT {
        spam_check = "on"
        max_msgs_per_session = 10
        max_concurrency = 10
        max_rcpts_per_msg = 25
        max_rcpts_per_hour = 1
        max_rcpts_per_hour_text = "Slow down, $RemoteIP"
        dhap_limit = 0
        virus_check = "on"
        max_message_size = 1048576
        use_sb = "on"
        tls = "off"
    }
$TRUSTED
    ACCEPT {
        spam_check = "off"
        max_msgs_per_session = 5000
        max_concurrency = 600
        max_rcpts_per_msg = 5000
        max_rcpts_per_hour = -1
        dhap_limit = 0
        virus_check = "on"
        max_message_size = 104857600
        use_sb = "off"
        tls = "off"
    }
$BLOCKED
    REJECT
WHITELIST:
        $TRUSTED (My trusted senders have no anti-spam scanning or rate limiting)
BLACKLIST:
    SBRS[-10.0:-3.0]
    192.0.2.7
        $BLOCKED (Spammers are rejected)
SUSPECTLIST:
    127.0.0.2
        $THROTTLED (Suspicious senders are throttled)
UNKNOWNLIST:
    SBRS[-1.0:10.0]
        $ACCEPTED (Reviewed but undecided, continue normal acceptance)
spamdomain.com
    REJECT (reject the domain "spamdomain.com")
.spamdomain.com
    REJECT (reject the domain "spamdomain.com")
251.192.1.
    TCPREFUSE (TCPREFUSE the IP addresses in "251.192.1")
127.0.0.3
    REJECT { smtp_banner_code = 550 smtp_banner_text = "Not from $RemoteIP, which $Group lists" }
ALL
    $ACCEPTED
"""


def put(name, text):
    path = os.path.join(gate.home, "export", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    st = os.stat(gate.home)
    os.chown(path, st.st_uid, st.st_gid)
    os.chown(os.path.dirname(path), st.st_uid, st.st_gid)
    return path


def changes():
    return gate.json("showchanges")["data"]["objects"]


def table():
    return gate.console(HAT + "print").stdout


@lab.test("listeners: made in one line, on either family; a taken port and a wrong protocol are refused")
def listeners():
    ports = [lab.free_port() for _ in range(3)]
    gate.configure("listenerconfig new Six private ::1 smtp port=%d\n"
                   "listenerconfig new Submit public 127.0.0.1 submission port=%d domains=example.org\n" % (ports[0], ports[1]))
    config = gate.console("showconfig").stdout
    lab.match(config, r"(?m)^listenerconfig set Six kind=private .*address=::1 port=%d " % ports[0])
    lab.match(config, r"(?m)^listenerconfig set Submit protocol=submission address=127\.0\.0\.1 port=%d " % ports[1])
    lab.match(gate.console("listenerconfig edit Six hostaccess print").stdout, r"RELAYLIST:\n        \$RELAYED ")
    lab.match(gate.console("listenerconfig edit Submit rcptaccess print").stdout, r"example\.org ACCEPT\nALL REJECT")
    for line, code, word in (("listenerconfig new Seven public 127.0.0.1 qmqp", 2, "choose one of: smtp, smtps, submission"),
                             ("listenerconfig new Seven public 127.0.0.1 smtp port=%d; commit" % ports[1], 2, "already uses port"),
                             ("listenerconfig new Seven blackhole 127.0.0.1 smtp", 2, "")):
        done = gate.console(line, check=False)
        lab.equal((done.returncode, word in done.stderr), (code, True), line + ": %d " % done.returncode + done.stderr)
    gate.configure("listenerconfig delete Six\nlistenerconfig delete Submit\n")


@lab.test("sender groups: the lines real scripts use")
def groups():
    gate.configure(HAT + "edit sendergroup BLACKLIST new 192.0.2.7\n")
    gate.configure("\n".join(HAT + line for line in (
        'new sendergroup REDLIST possible.example,192.0.2.64/26 THROTTLED --comment "for a look"',
        'new sendergroup BAD bad.example Reject',
        'new sendergroup WORSE worse.example "TCP Refuse"',
        'new sendergroup SLOW slow.example accept --max_conn 1 --rate_lim 5 --use_sb Yes --cust_lim "Slow down" --lim_code 451',
        "new sendergroup LATER later.example $BLOCKED",
        "new sendergroup REST rest.example Continue",
        "edit sendergroup BAD bad.example,verybad.example",
        "edit sendergroup WORSE delete worse.example",
        "edit sendergroup LATER policy ACCEPTED",
        "delete sendergroup LATER",
        "move BAD BLACKLIST",
        "move REDLIST 0")) + "\n")
    text = table()
    lab.match(text, r"(?s)BAD:\n    bad\.example\n    verybad\.example\n        \$BLOCKED\nBLACKLIST:\n    192\.0\.2\.7\n")
    lab.match(text, r"(?s)REDLIST:\n    possible\.example\n    192\.0\.2\.64/26\n        \$THROTTLED \(for a look\)\nALL\n    ACCEPT\n$")
    lab.match(text, r"(?m)^\$TCPREFUSED\n    TCPREFUSE\n")
    lab.match(text, r"WORSE:\n        \$TCPREFUSED\n")
    lab.match(text, r'(?m)^\$SLOW\n    ACCEPT \{\n        max_concurrency = 1\n        max_rcpts_per_hour = 5\n'
                    r'        max_rcpts_per_hour_code = 451\n        max_rcpts_per_hour_text = "Slow down"\n    \}\n')
    lab.match(text, r"(?m)^\$CONTINUE\n    CONTINUE\n")
    assert "LATER" not in text


@lab.test("policies: options, fields by name, the defaults")
def policies():
    gate.configure("\n".join(HAT + line for line in (
        'new policy MINE Accept --max_size 5M --max_msgs 7 --max_rcpt 9 --override mx.example --cust_acc "Hi $RemoteIP" '
        '--acc_code 220 --cust_rej No --dhap 12 --sig_bits 24 --as_scan No tls=required verify_client=on',
        "edit policy MINE Accept --dhap No --rate_lim default --cust_acc No",
        "new policy RUDE Reject --cust_rej Go --rej_code 550",
        "default --dhap 25 --max_conn 20 --rate_lim No --cust_lim Enough")) + "\n")
    mine = {p["name"]: p for p in gate.json(HAT + "print")["data"]["policies"]}["MINE"]
    want = {"max_message_size": 5 << 20, "max_msgs_per_session": 7, "max_rcpts_per_msg": 9, "banner_host": "mx.example",
            "accept_text": "", "dhap_limit": 1000000, "max_rcpts_per_hour": 0, "tls": "required", "verify_client": "on"}
    lab.equal({k: mine[k] for k in want}, want)
    listener = gate.json("listenerconfig print InboundMail")
    lab.match(json.dumps(listener), r'"dhap_limit": 25\b')
    lab.match(json.dumps(listener), r'"limit_text": "Enough"')
    for line, code, word in (("new policy X Accept --tls on", 2, "write tls=off"),
                             ("new policy X Accept --max_size lots", 3, "--max_size: "),
                             ("new policy X Accept --wrong 5", 2, '"--wrong" is no option'),
                             ("new policy X Maybe", 2, "choose one of: accept, relay"),
                             ("new sendergroup X x.example NOPE", 2, "choose one of: Continue, ACCEPTED"),
                             ("new sendergroup X 300.1.1.1 ACCEPTED", 2, "300.1.1.1"),
                             ("edit sendergroup NOPE new 1.2.3.4", 7, 'no sender group "NOPE"'),
                             ("move NOPE 0", 7, 'no sender group "NOPE"'),
                             ("delete policy THROTTLED", 3, "has no mail flow policy THROTTLED"),
                             ("default --rej_code 200", 3, "from 400 to 599")):
        done = gate.console(HAT + line, check=False)
        lab.equal((done.returncode, word in done.stderr), (code, True), line + ": " + done.stderr)
    lab.equal(changes(), [], "changes after refusals")


@lab.test("recipients: options and several at once, with --json")
def recipients():
    gate.configure("\n".join(RAT + line for line in (
        "new a.example,b.example --action accept",
        'new old@a.example --action reject --cust_resp "They moved" --resp_code 551',
        "new abuse@a.example --bypass yes --bypass_ldap yes",
        "edit b.example reject",
        "new c.example",
        "delete c.example")) + "\n")
    lab.equal(gate.console(RAT + "print").stdout,
              'a.example ACCEPT\nabuse@a.example ACCEPT (bypass_receiving_control)\nb.example REJECT\n'
              'old@a.example REJECT (code = 551, text = "They moved")\nALL REJECT\n')
    entries = gate.json(RAT + "print")["data"]["entries"]
    lab.equal([(e["address"], e["action"]) for e in entries][-2:], [("old@a.example", "REJECT"), ("ALL", "REJECT")])
    for line, code, word in (("new a.example,d.example --action accept", 8, "an entry for a.example already"),
                             ("new d.example --action maybe", 3, '"accept" or "reject"'),
                             ("new ALL", 3, "open relay"),
                             ("new d.example --action accept --resp_code 550", 3, "choose 250 or 251"),
                             ("edit a.example --resp_code 9999 --action reject", 3, "code: ")):
        done = gate.console(RAT + line, check=False)
        lab.equal((done.returncode, word in done.stderr), (code, True), line + ": %d " % done.returncode + done.stderr)
    lab.equal(changes(), [], "changes after refusals")


@lab.test("a file of another system is imported, in one change; what comes out goes in again")
def appliance():
    put("hat", APPLIANCE)
    answer = gate.json(HAT + "import hat")
    lab.equal(answer["changed"], True)
    lab.equal({k: answer["data"][k] for k in ("policies", "groups", "hosts")}, {"policies": 4, "groups": 7, "hosts": 6})
    lab.equal(answer["data"]["remarks"],
              ["Left out, for this gateway has nothing of the kind: 6 parameters and 2 senders (spam_check, virus_check, "
               "use_sb, SBRS).", "Hosts with rules of their own became 3 sender groups HOSTS_1 and so on."])
    lab.equal(changes(), [], "an anonymous import is not kept")
    done = gate.console(HAT + "import hat; commit imported Y")
    lab.match(done.stdout, r"^Warning: Left out, for this gateway")
    text = table()
    lab.match(text, r'HOSTS_1:\n    spamdomain\.com\n    \.spamdomain\.com\n        \$BLOCKED \(reject the domain "spamdomain\.com"\)\n')
    lab.match(text, r"ALL\n    \$ACCEPTED\n$")
    gate.console(HAT + "export mine")
    again = gate.json(HAT + "import mine")
    lab.equal((again["changed"], again["data"]["remarks"]), (False, []))
    done = gate.console(HAT + "export hat", check=False)
    lab.equal((done.returncode, "already exists" in done.stderr), (8, True), done.stderr)
    gate.console(HAT + "export hat --replace")
    lab.equal(lab.read_text(os.path.join(gate.home, "export/hat")),
              "# File exported by the CLI: host access table of InboundMail\n" + text)


@lab.test("an error names file, line, entry, parameter and fix, and changes nothing")
def errors():
    before = table()
    for text, word in (("$P\n    ACCEPT {\n        tls = maybe\n    }\n", "bad: line 3, $P, tls: "),
                       ("$P\n    ACCEPT {\n        colour = 1\n    }\n", "bad: line 3, $P, colour: There is no such parameter; correct its name"),
                       ("G:\n    1.2.3.4.5\n        $ACCEPTED\n", "bad: line 2, G:: "),
                       ("ALL\n    RELAY\n", "open relay"),
                       ("", "no entry")):
        put("bad", text)
        done = gate.console(HAT + "import bad", check=False)
        lab.equal((done.returncode, word in done.stderr), (3, True), done.stderr)
    put("bad", "example.com ACCEPT\nALL ACCEPT\n")
    done = gate.console(RAT + "import bad", check=False)
    lab.equal((done.returncode, "bad: line 2, ALL: To accept all recipients would make an open relay" in done.stderr), (3, True),
              done.stderr)
    for name, code in (("nosuch", 7), ("../config.db", 2)):
        lab.equal(gate.console(HAT + "import " + name, check=False).returncode, code, name)
    done = gate.console("listenerconfig edit OutboundMail rcptaccess import bad", check=False)
    lab.match(done.stderr, "OutboundMail is private")
    lab.equal((table(), changes()), (before, []))


@lab.test("test shows the entry a host would meet")
def which():
    for words, want in (("192.0.2.7", {"group": "BLACKLIST", "entry": "192.0.2.7", "policy": "BLOCKED", "behavior": "REJECT"}),
                        ("198.51.100.9 a.spamdomain.com", {"group": "HOSTS_1", "entry": ".spamdomain.com", "behavior": "REJECT"}),
                        ("251.192.1.77 x.example", {"group": "HOSTS_2", "entry": "251.192.1.", "behavior": "TCPREFUSE"}),
                        ("2001:db8::1 x.example", {"group": "None", "entry": "ALL", "policy": "ACCEPTED", "behavior": "ACCEPT"})):
        data = gate.json(HAT + "test " + words)["data"]
        lab.equal({k: data[k] for k in want}, want, words)
    done = gate.console(HAT + "test 300.1.1.1", check=False)
    lab.equal(done.returncode, 2, done.stderr)


def greeting(source):
    s = smtplib.SMTP(timeout=20, source_address=(source, 0))
    code, text = s.connect("127.0.0.1", gate.public)
    return s, code, text.decode()


@lab.test("a sender hears what the imported table says")
def enforced():
    gate.configure(RAT + "new example.com\nlistenerconfig edit InboundMail hostaccess default --cust_acc \"Welcome $RemoteIP\"\n")
    s, code, text = greeting("127.0.0.3")
    lab.equal((code, text.split("\n")[-1]), (550, "Not from 127.0.0.3, which HOSTS_3 lists"))
    s.close()
    s, code, text = greeting("127.0.0.2")
    lab.equal((code, text.split("\n")[-1]), (220, "Welcome 127.0.0.2"))
    s.ehlo("client.example")
    s.mail("a@client.example")
    lab.equal(s.rcpt("joe@example.com")[0], 250)
    lab.equal(s.rcpt("ann@example.com"), (452, b"4.7.1 Slow down, 127.0.0.2"))
    s.quit()


@lab.test("clear and reset ask, and reset brings the factory's table back")
def clear_and_reset():
    lab.equal(gate.console(HAT + "clear", check=False).returncode, 2)
    lab.equal(changes(), [])
    gate.configure(HAT + "clear Y\n")
    lab.equal(table(), "ALL\n    ACCEPT\n")
    gate.configure(HAT + "reset --yes\n")
    fresh = lab.Posternd(lab.Sandbox().path("home"))
    lab.equal(table(), fresh.console(HAT + "print").stdout)
    fresh.stop()
    lab.equal(gate.json(HAT + "reset --yes")["changed"], False)
    gate.configure(RAT + "clear Y\n")
    lab.equal(gate.console(RAT + "print").stdout, "ALL REJECT\n")


@lab.test("a hundred thousand hosts come in within seconds, and a change of one within a moment")
def many():
    lines = ["$SLOW\n    ACCEPT { max_concurrency = 1 }\nMANY:\n"]
    lines += ["    10.%d.%d.%d\n" % (i >> 16, i >> 8 & 255, i & 255) for i in range(50000)]
    lines += ["        $SLOW\n"] + ["h%d.example\n    REJECT (number %d)\n" % (i, i) for i in range(50000)]
    put("many", "".join(lines) + "ALL\n    REJECT\n")
    began = time.monotonic()
    done = gate.console(HAT + "import many; commit many Y")
    took = time.monotonic() - began
    lab.equal(gate.json(HAT + "test 10.0.17.9")["data"]["group"], "MANY")
    lab.equal(gate.json(HAT + "test 192.0.2.1 h31000.example")["data"]["behavior"], "REJECT")
    began = time.monotonic()
    gate.console(HAT + "edit sendergroup HOSTS_700 new 192.0.2.99; commit one Y")
    one = time.monotonic() - began
    began = time.monotonic()
    gate.console(HAT + "edit sendergroup MANY new 192.0.2.98; commit one Y")
    big = time.monotonic() - began
    print("# import and commit %.1f s, one host of a small group %.2f s, of a group of 50,000 %.2f s" % (took, one, big))
    lab.equal(took < 60 and one < 10 and big < 20, True, "%.1f s, %.1f s, %.1f s" % (took, one, big))
    lab.equal(gate.json(HAT + "test 192.0.2.98")["data"]["group"], "MANY")


lab.main()
