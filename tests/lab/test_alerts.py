# Alerts as real mail: who gets which, what they look like, how duplicates are summed up, and that an alert never causes
# the next one.

import email
import email.policy
import os
import re
import signal
import socket
import subprocess
import time

import lab

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"), start=False)
log = gateway.maillog()


def setup():
    global inbox
    if gateway.child:
        return
    gateway.start()
    inbox = lab.Sink(store=box.path("inbox"))
    gateway.configure("\n".join([
        "sethostname gw.lab.example",
        "bounceconfig edit Default initial_retry=1 max_retry=1 max_retries=100",
        "destconfig setup send_tls_req_alert=yes",
        "smtproutes new ops.example 127.0.0.1:%d" % inbox.port,
        "alertconfig new all@ops.example",
        "alertconfig new critical@ops.example severities=critical",
        "alertconfig new delivery@ops.example classes=message-delivery",
    ]) + "\n")


def mails(folder="inbox"):
    """What has arrived, oldest first: (message, its text)."""
    found = []
    for name in os.listdir(box.path(folder)):
        if name.endswith(".eml"):
            with open(os.path.join(box.path(folder), name), "rb") as f:
                m = email.message_from_binary_file(f, policy=email.policy.default)
            found.append((os.stat(os.path.join(box.path(folder), name)).st_mtime_ns, m))
    return [(m, m.get_content()) for _, m in sorted(found, key=lambda pair: pair[0])]


def about(text, folder="inbox"):
    return [(m, body) for m, body in mails(folder) if text in body]


def submit(ident, rcpt):
    with lab.Smtp(gateway.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<sender@client.lab.example>", 250)
        c.cmd("RCPT TO:<%s>" % rcpt, 250)
        mid = int(re.search(r"Message (\d+) accepted", c.data(lab.make_message(ident, 500, "plain")))[1])
        c.quit()
    return mid


def strict(domain, *options):
    """A destination that must have TLS and whose host has none."""
    sink = lab.Sink("--no-starttls", *options)
    gateway.configure("smtproutes new %s 127.0.0.1:%d\ndestconfig new %s use_tls=require\n" % (domain, sink.port, domain))
    return sink


def shown():
    return gateway.json("displayalerts")["data"]["alerts"]


@lab.test("a test alert reaches those who subscribe to its class and severity, in the known form")
def form():
    setup()
    gateway.console("alertconfig test")
    m, text = lab.eventually(lambda: about("This is a test alert"), 10)[0]
    lab.match(m["Subject"], r"^Info <System> gw\.lab\.example: This is a test alert, asked for by \S+\.$")
    lab.equal(m["From"], 'Postern Alert <alert@gw.lab.example>')
    lab.equal(m["To"], "all@ops.example")
    lab.equal(m["Auto-Submitted"], "auto-generated")
    lab.match(text, r"\AThe Info message is:\r?\n\r?\nThis is a test alert, asked for by \S+\.\r?\n\r?\nProduct: Postern "
                    r"Secure Mail Gateway\r?\nVersion: \S+\r?\nSerial Number: [0-9A-F]{12}-[0-9A-F]{8}\r?\nTimestamp: "
                    r"\d\d? \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}\r?\n")
    log.wait_for(r"From: <>$")
    last = [a for a in shown() if a["text"].startswith("This is a test alert")][0]
    lab.equal((last["class"], last["severity"]), ("System", "Information"))
    lab.match(gateway.console("displayalerts").stdout,
              r"(?s)Date and Time Stamp           Description\n-{80}\n.*\n?\d\d? \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}\s+Information: This is a "
              r"test alert, asked")


@lab.test("the other subject, another From address")
def subject():
    setup()
    gateway.configure('alertconfig setup subject=brackets from="Ops <ops@example.com>" initial=0\n')
    gateway.console("alertconfig test")
    lab.eventually(lambda: [m for m, _ in about("This is a test alert") if m["From"] == "Ops <ops@example.com>"
                            and m["Subject"].startswith("[Info]-[gw.lab.example]: (<System>) This is a test alert")], 10)
    gateway.configure('alertconfig setup subject=plain from="" initial=300\n')


@lab.test("what happens during a wait is summed up at its end, and the waits grow")
def duplicates():
    setup()
    gateway.configure("alertconfig setup initial=2 maximum=100\n")
    began = time.monotonic()
    sink = strict("repeat.example")
    submit("repeat", "x@repeat.example") # tried again every second
    lab.eventually(lambda: len(about('"repeat.example"')) >= 3, 20, "three alerts about it")
    lab.equal(time.monotonic() - began > 5, True, "the third one comes 2 + 4 seconds after the first")
    texts = [text for _, text in about('"repeat.example"')]
    lab.equal("Last message occurred" in texts[0], False)
    counts = []
    for text in texts[1:]:
        counts.append(int(re.search(r"Last message occurred (\d+) times between \w{3}, .* [-+]\d{4}\s+and \w{3}, .* [-+]\d{4}\.", text)[1]))
    lab.equal(1 <= counts[0] <= 3 and counts[0] < counts[1] <= 6, True, counts)
    lab.equal(sink.stop()["messages"], 0)
    gateway.configure("alertconfig setup initial=300 maximum=3600\ndestconfig delete repeat.example\n")


@lab.test("a recipient whose own domain lacks the TLS it must have starts no loop")
def loop():
    setup()
    gateway.configure("alertconfig setup initial=1 maximum=100\nalertconfig new me@closed.example\n")
    sink = strict("closed.example")
    submit("closed", "x@closed.example")
    lab.eventually(lambda: about('"closed.example"'), 10, "the others hear of it")
    lab.eventually(lambda: len(about('"closed.example"')) >= 3, 20, "... again and again")
    to_closed = len(log.find(r"MID \d+ ICID 0 RID \d+ To: <me@closed\.example>"))
    lab.equal(to_closed, 1, "alerts for the closed domain")
    lab.eventually(lambda: re.search("no alert, because an alert's own delivery met it",
                                     lab.read_text(gateway.log) + system_log()), 10)
    lab.equal(sink.stop()["messages"], 0)
    gateway.configure("alertconfig delete me@closed.example\ndestconfig delete closed.example\n"
                      "alertconfig setup initial=300 maximum=3600\n")


def system_log():
    folder = os.path.join(gateway.home, "log", "system_logs")
    return "".join(lab.read_text(os.path.join(folder, name)) for name in sorted(os.listdir(folder)))


@lab.test("an engine that crashed is told of, once while it keeps crashing")
def crash():
    setup()
    for _ in range(2):
        old = gateway.engine
        os.kill(old, signal.SIGABRT) # a sanitizer takes SIGSEGV for itself
        lab.eventually(lambda: old not in lab.children(gateway.pid), 20)
        gateway.wait_ready()
    lab.eventually(lambda: about("An application fault occurred"), 15)
    m, text = about("An application fault occurred")[0]
    lab.match(m["Subject"], r"^Critical <System> gw\.lab\.example: An application fault occurred")
    lab.match(m["To"], r"^all@ops\.example, critical@ops\.example$")
    lab.match(text, r"killed by\s+signal 6\s+\(Aborted\)")
    gateway.console("alertconfig test")
    lab.equal(len([a for a in shown() if "An application fault" in a["text"]]), 1)


@lab.test("somebody without a role who knocks is told of")
def denied():
    lab.need_root()
    setup()
    os.chmod(box.path(), 0o755)
    for path in (gateway.home, os.path.join(gateway.home, "run")):
        os.chmod(path, 0o755)
    os.chmod(os.path.join(gateway.home, "run", "control"), 0o666) # else it would not even get to ask
    done = subprocess.run([lab.binary("postern"), "--home", gateway.home, "-c", "status"], user=54321, capture_output=True,
                          text=True, timeout=30)
    lab.match(done.stderr, "has no role")
    lab.eventually(lambda: [a for a in shown() if re.search(r"\(uid 54321\) was denied: log in", a["text"])], 10)


@lab.test("a port that is taken at the start keeps only its own listener waiting; a commit is still refused")
def port():
    setup()
    gateway.stop()
    thief = socket.create_server(("127.0.0.1", gateway.public))
    gateway.start()
    lab.equal(lab.listening(gateway.private), True)
    lab.match(gateway.console("status").stdout,
              r"\nListener InboundMail:          Port %d of 127\.0\.0\.1 is in use by another program" % gateway.public)
    m, text = lab.eventually(lambda: about("The listener InboundMail receives no mail"), 10)[0]
    lab.match(m["Subject"], "^Critical <System> ")
    gateway.configure("bounceconfig edit Default max_retry=2\n") # what does not concern it goes on
    other = socket.create_server(("127.0.0.1", 0))
    done = gateway.console("listenerconfig edit OutboundMail port=%d; commit -y" % other.getsockname()[1], check=False)
    lab.match(done.stdout + done.stderr, "is in use by another program")
    other.close()
    gateway.console("clearchanges", check=False)
    thief.close()
    lab.eventually(lambda: lab.listening(gateway.public), 20)
    with lab.Smtp(gateway.public) as c:
        c.ehlo()
        c.quit()
    lab.eventually(lambda: "missing" not in str(gateway.json("status")["data"]["listeners"]), 5)
    gateway.configure("listenerconfig edit InboundMail max_concurrency=7\n")
    lab.equal(lab.listening(gateway.public), True)


@lab.test("a disk that fills up: a warning, resource conservation, and its end")
def disk():
    lab.need_root()
    place = box.mkdir("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m,mode=755", "none", place], capture_output=True).returncode:
        raise lab.Skip("no tmpfs can be mounted")
    lab.at_end(lambda: subprocess.run(["umount", "-l", place]))
    small = lab.Posternd(os.path.join(place, "home"))
    letters = lab.Sink(store=box.path("letters"))
    small.configure("sethostname small.lab.example admin_address=root@admin.example\n"
                    "smtproutes new admin.example 127.0.0.1:%d\n" % letters.port)

    def leave(megabytes):
        with open(os.path.join(place, "ballast"), "ab") as f:
            fs = os.statvfs(place)
            free = fs.f_bavail * fs.f_frsize - (megabytes << 20)
            if free < 0:
                f.truncate(max(0, f.tell() + free))
            else:
                os.posix_fallocate(f.fileno(), f.tell(), free)

    leave(50)
    lab.eventually(lambda: small.json("status")["data"]["gauges"]["resource_conservation"] == 999, 10)
    with lab.Smtp(small.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.lab.example>", 452)
    m, text = lab.eventually(lambda: about("entered a 'resource", "letters"), 10)[0]
    lab.match(m["Subject"], r"^Critical <System> small\.lab\.example: This system \(hostname: small\.lab\.example\) has")
    lab.match(text, r"disk\s+of\s+the\s+queue:\s+\d+\s+MiB\s+free,\s+128\s+MiB\s+are\s+needed")
    leave(400)

    def over():
        small.console("status")
        return about("exited 'resource", "letters")

    lab.eventually(over, 10)
    letters.stop()
    small.stop()


lab.main()
