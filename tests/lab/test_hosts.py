# hoststatus, tophosts, hostrate: what they say about destinations that work, refuse, are down, or never got mail.

import re

import lab

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()


def setup():
    if gateway.child:
        return
    gateway.start()
    good = lab.Sink()
    bad = lab.Sink("--reply", "RCPT=550 5.1.1 <nobody> \033[2Junknown here")
    closed = lab.free_port()
    gateway.configure("\n".join([
        "sethostname gw.lab.example",
        "bounceconfig edit Default initial_retry=60 max_retry=60",
        "destconfig edit default use_tls=on",
        "smtproutes new good.example 127.0.0.1:%d" % good.port,
        "smtproutes new bad.example 127.0.0.1:%d" % bad.port,
        "smtproutes new down.example 127.0.0.1:%d" % closed,
        "smtproutes new client.lab.example /dev/null",
    ]) + "\n")
    for i in range(3):
        submit("good%d" % i, ["a@good.example", "b@good.example"])
    submit("bad", ["a@bad.example"])
    submit("down", ["a@down.example", "b@down.example"])
    lab.eventually(lambda: numbers("good.example")["counters"]["delivered_recips"] == 6, 15)
    lab.eventually(lambda: numbers("bad.example")["counters"]["5xx_hard_bounced_recips"] == 1, 15)
    lab.eventually(lambda: numbers("down.example")["counters"]["soft_bounced_evts"] == 2, 15)


def submit(ident, rcpts):
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<sender@client.lab.example>", 250)
        for r in rcpts:
            c.cmd("RCPT TO:<%s>" % r, 250)
        c.data(lab.make_message(ident, 500, "plain"))
        c.quit()


def numbers(host):
    return gateway.json("hoststatus %s" % host)["data"]


@lab.test("hoststatus of a host that takes mail")
def good():
    setup()
    d = numbers("GOOD.example")
    lab.equal(d["reach"], "up")
    lab.equal(d["counters"]["completed_recips"], 6)
    lab.equal(d["gauges"]["active_recips"], 0)
    lab.equal(d["oldest_message"], None)
    lab.equal(d["tls"]["rule"], "level-preferred")
    lab.match(d["tls"]["protocol"], "^TLSv1")
    text = gateway.console("hoststatus good.example").stdout
    lab.match(text, r"\AHost mail status for: 'good\.example'\nStatus as of:         \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} \w+\n"
                    r"Host up/down:         up\n\nCounters:\n  Queue\n    Soft Bounced Events                     0\n  Completion\n"
                    r"    Completed Recipients                    6\n      Hard Bounced Recipients               0\n"
                    r"        DNS Hard Bounces                    0\n")
    lab.match(text, r"\nGauges:\n  Queue\n    Active Recipients                       0\n")
    lab.match(text, r"\nOldest Message        No Messages\nLast Activity         \w{3} ")
    lab.match(text, r"\nSMTP Routes for this host:\n    127\.0\.0\.1:\d+\n")
    lab.match(text, r"\n    Rule         level-preferred\n    TLS          TLSv1\.\d \S+\n")


@lab.test("... of one that refuses: the last 5XX error, harmless on a terminal")
def bad():
    setup()
    d = numbers("bad.example")
    lab.equal((d["reach"], d["counters"]["hard_bounced_recips"], d["gauges"]["active_recips"]), ("up", 1, 0))
    text = gateway.console("hoststatus bad.example").stdout
    lab.match(text, r"Last 5XX Error:\n--------------------\n550 .*unknown here\n\(at .*\) IP: 127\.0\.0\.1\n--------------------\n")
    lab.equal("\033" in text, False)


@lab.test("... of one that is down: its mail waits")
def down():
    setup()
    d = numbers("down.example")
    lab.equal(d["reach"], "down")
    lab.equal(d["gauges"], {"active_recips": 2, "unattempted_recips": 0, "attempted_recips": 2, "conn_out": 0, "conn_pending": 0})
    lab.equal(d["oldest_message"] >= 0, True)
    lab.equal("refused" in d["down_error"], True, d["down_error"])
    gateway.restart()
    d = numbers("down.example")
    lab.equal((d["reach"], d["gauges"]["active_recips"], d["gauges"]["attempted_recips"]), ("unknown", 2, 2), "after a restart")


@lab.test("... of one nobody has heard of")
def unknown():
    setup()
    d = numbers("never.example")
    lab.equal((d["reach"], d["last_activity"], d["counters"]["completed_recips"]), ("unknown", 0, 0))
    lab.equal("tls" in d, False)
    lab.equal(gateway.console("hoststatus 'no host'", check=False).returncode != 0, True)


@lab.test("tophosts sorts, and marks what is down")
def top():
    setup()
    gateway.console("delivernow all")
    lab.eventually(lambda: numbers("down.example")["counters"]["soft_bounced_evts"] >= 2, 15)
    submit("again", ["a@good.example"])
    lab.eventually(lambda: numbers("good.example")["counters"]["delivered_recips"] == 1, 15)
    text = gateway.console("tophosts active_rcpts").stdout
    lab.match(text, r"\AStatus as of:                   \w{3} .*\nHosts marked with '\*' were down as of the last delivery attempt\.\n\n"
                    r"                                 Active  Conn\.    Deliv\.     Soft     Hard\n"
                    r"#   Recipient Host               Recip\.    Out    Recip\.  Bounced  Bounced\n"
                    r"1\*  down\.example                      2      0         0        2        0\n")
    hosts = gateway.json("tophosts deliv_recip")["data"]["hosts"]
    lab.equal(hosts[0]["host"], "good.example")
    gateway.console("workqueue pause")
    submit("gone", ["a@deleted.example"])
    lab.match(gateway.console("tophosts").stdout, r"\n\d   deleted\.example +1 +0 +0 +0 +0\n")
    gateway.console("deleterecipients host deleted.example")
    gateway.console("workqueue resume")
    lab.equal("deleted.example" in gateway.console("tophosts").stdout, False, "a row of zeros")


@lab.test("hostrate prints a line a second, with the differences")
def rate():
    setup()
    submit("rate", ["r@good.example"])
    lines = gateway.console("hostrate -n 2 good.example 1").stdout.splitlines()
    lab.equal(len(lines), 4, lines)
    lab.match(lines[0], r"^    Time         Host CrtCncOut   ActvRcp   ActvRcp    DlvRcp HrdBncRcp SftBncEvt$")
    for line in lines[2:]:
        lab.match(line, r"^\d\d:\d\d:\d\d           up +\d+ +\d+ +-?\d+ +\d+ +0 +0$")


lab.main()
