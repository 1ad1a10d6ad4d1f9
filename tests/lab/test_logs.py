# Logs in an operator's hands: subscriptions with syslog and rollover, what is logged, findevent, and a disk that is full.

import os
import re
import socket
import ssl
import subprocess
import threading
import time

import lab
import terminal

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"), start=False)
log = gate.maillog()


def setup():
    if gate.child:
        return
    gate.start()
    sink = lab.Sink()
    bad = lab.Sink("--reply", "RCPT=550 5.1.1 no such user")
    gate.configure("sethostname gw.lab.example\nsmtproutes new good.example 127.0.0.1:%d\nsmtproutes new bad.example 127.0.0.1:%d\n"
                   "smtproutes new client.lab.example 127.0.0.1:%d\n" % (sink.port, bad.port, sink.port))


def submit(ident, rcpts, sender="sender@client.lab.example", extra=""):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<%s>" % sender, 250)
        for r in rcpts:
            c.cmd("RCPT TO:<%s>" % r, 250)
        c.cmd("DATA", 354)
        c.raw(("From: <%s>\r\nSubject: about %s\r\nMessage-ID: <%s@client.lab.example>\r\n%s\r\ntext\r\n.\r\n" % (sender, ident, ident, extra)).encode())
        c.expect(250)
        c.quit()
    return int(log.wait_for(r"MID (\d+) Subject 'about %s'" % re.escape(ident)).group(1))


class Udp:
    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.port = self.socket.getsockname()[1]
        self.lines = []

    def read(self):
        try:
            while True:
                self.lines.append(self.socket.recv(65536).decode())
        except TimeoutError:
            return self.lines


class Tcp:
    def __init__(self, port=0):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.text = ""
        self.peer = None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            self.peer, _ = self.listener.accept()
            while True:
                data = self.peer.recv(65536)
                if not data:
                    return
                self.text += data.decode()
        except OSError:
            return

    def close(self):
        if self.peer:
            self.peer.shutdown(socket.SHUT_RDWR)
            self.peer.close()
        self.listener.close()


@lab.test("syslog over UDP: every line of the subscription with its facility and severity, in the file all the same")
def udp():
    setup()
    server = Udp()
    gate.configure("logconfig new mail_remote type=mail method=syslog syslog_host=127.0.0.1 syslog_port=%d syslog_facility=local4\n" % server.port)
    mid = submit("udp", ["a@good.example"])
    lab.eventually(lambda: any("Message finished MID %d done" % mid in l for l in server.read()), 10)
    for line in server.lines:
        lab.match(line, r"\A<166>\w{3} [ \d]\d \d\d:\d\d:\d\d mail_remote: Info: [^\n]*\Z")
    text = gate.console("grep \"MID %d\" mail_remote" % mid).stdout
    lab.equal(len([l for l in server.lines if "MID %d " % mid in l]) >= text.count("\n") - 2, True)
    gate.configure("logconfig delete mail_remote\n")
    submit("after", ["a@good.example"])
    lab.equal([l for l in server.read() if "after" in l], [])


@lab.test("syslog over TCP: lines wait for a server that is away, and are sent whole when it is back")
def tcp():
    setup()
    server = Tcp()
    gate.configure("logconfig new tcp_logs type=mail method=syslog syslog_host=localhost syslog_port=%d syslog_protocol=tcp\n" % server.port)
    submit("tcp1", ["a@good.example"])
    lab.eventually(lambda: "about tcp1" in server.text, 15)
    lab.match(server.text, r"\A(<22>\w{3} [ \d]\d \d\d:\d\d:\d\d tcp_logs: Info: [^\n]*\n)+\Z")
    server.close()
    mid = submit("tcp2", ["a@good.example"])
    submit("tcp3", ["a@good.example"])
    log.wait_for(r"Message finished MID %d done" % mid)
    again = Tcp(server.port)
    lab.eventually(lambda: "about tcp3" in again.text, 20)
    lab.match(again.text, r"\A(<22>[^\n]*\n)+\Z")
    again.close()
    gate.configure("logconfig delete tcp_logs\n")


@lab.test("syslog over TLS: to who proves to be the host, each line with its length; nothing to anybody else")
def tls():
    setup()
    ca = lab.make_cert(box.path("syslog"), "Syslog CA", is_ca=True)
    good = lab.make_cert(box.path("syslog"), "localhost", ca=ca)
    stranger = lab.make_cert(box.path("syslog"), "other.example", ca=ca)
    home = os.stat(gate.home)
    os.makedirs(box.path("home", "export"), exist_ok=True)
    for path in (box.path("home", "export"), box.write("home/export/syslog-ca.pem", lab.read_text(ca.cert))):
        os.chown(path, home.st_uid, home.st_gid)
    gate.configure("certconfig certauthority custom import syslog-ca.pem\n")
    port, seen = lab.free_port(), []

    def serve(pair, stop):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(0.2)
            while not stop.is_set():
                try:
                    conn, _ = listener.accept()
                except TimeoutError:
                    continue
                try:
                    with context.wrap_socket(conn, server_side=True) as c:
                        c.settimeout(0.2)
                        while not stop.is_set():
                            try:
                                data = c.recv(65536)
                            except TimeoutError:
                                continue
                            if not data:
                                break
                            seen.append(data)
                except OSError:
                    pass

    def serving(pair):
        stop = threading.Event()
        thread = threading.Thread(target=serve, args=(pair, stop), daemon=True)
        thread.start()
        return lambda: (stop.set(), thread.join(10))

    end = serving(stranger)
    gate.configure("logconfig new tls_logs type=mail method=syslog syslog_host=localhost syslog_port=%d syslog_protocol=tls\n" % port)
    submit("tls1", ["a@good.example"])
    lab.eventually(lambda: "syslog server localhost cannot be used: its certificate is refused: hostname mismatch" in
                   gate.console("grep syslog tls_logs").stdout.lower(), 15)
    end()
    lab.equal(seen, [])
    end = serving(good)
    lab.eventually(lambda: b"about tls1" in b"".join(seen), 15)
    text, lines = b"".join(seen), []
    while text:
        length, _, text = text.partition(b" ")
        lines.append(text[:int(length)])
        text = text[int(length):]
    lab.equal([l for l in lines if not re.fullmatch(rb"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d tls_logs: \w+: [^\n]*\n", l)], [])
    end()
    gate.configure("logconfig delete tls_logs\n")


@lab.test("status logs: a line of keys and values as often as the setup says, in the mail log, too")
def status_logs():
    setup()
    gate.configure("logconfig setup metrics_frequency=1\n")
    path = os.path.join(gate.home, "log", "status_logs", "status.current")
    lab.eventually(lambda: lab.read_text(path).count("Info: Status: ") >= 2, 10)
    text = [l for l in lab.read_text(path).splitlines() if "Status: " in l][-1]
    lab.match(text, r"Info: Status: CPULd \d+ DskIO \d+ RAMUtil \d+ QKUsd \d+ QKFre \d+ CrtMID \d+ ")
    words = text.split("Status: ")[1].split()
    values = dict(zip(words[::2], words[1::2]))
    lab.equal(int(values["DlvRcp"]), gate.json("status detail")["data"]["counters"]["delivered_recips"]["reset"])
    for key in "InjMsg GenBncRcp 5XXHrdBnc FltrHrdBnc ActvRcp CrtCncOut DnsReq CchHit WorkQ QuarMsgs LogUsd ResCon DstInMem".split():
        lab.match(values[key], r"^\d+$")
    lab.match(values["LogAvail"], r"^\d+[KMGT]$")
    lab.equal(len(log.find(r"Info: Status: CPULd")) > 0, True)
    gate.configure("logconfig setup metrics_frequency=60\n")


@lab.test("rollovernow: the file is saved, a new one begins, tail goes on over it, the oldest go")
def rollover():
    setup()
    gate.configure("logconfig edit mail_logs max_files=3\n")
    folder = os.path.join(gate.home, "log", "mail_logs")
    t = terminal.console(gate)
    t.type("tail mail_logs")
    time.sleep(0.5)
    for i in range(4):
        lab.equal(gate.console("rollovernow mail_logs").stdout, "")
        submit("roll%d" % i, ["a@good.example"])
    t.until(r"(?:[^\0]*)about roll3'[^\0]*")
    t.type("\x03", enter=False)
    t.until(r"gw\.lab\.example> ")
    t.ask("rollovernow", pattern=r"\]> ")
    out = t.ask("5")
    lab.match(out, "Log files successfully rolled over")
    t.stop()
    lab.equal(len([n for n in os.listdir(folder) if n.endswith(".s")]), 2)
    for name in ("system_logs", "cli_logs"):
        lab.equal(len([n for n in os.listdir(os.path.join(gate.home, "log", name)) if n.endswith(".s")]), 1, "all means all")
    done = gate.console("rollovernow nosuch", check=False)
    lab.match(done.stderr, 'There is no log "nosuch"')
    gate.configure("logconfig edit mail_logs max_files=10\n")


@lab.test("a file is rolled over for its age, but not when nothing was written")
def aged():
    setup()
    gate.configure("logconfig new aged type=mail rollover_interval=2s\n")
    folder = os.path.join(gate.home, "log", "aged")
    submit("aged", ["a@good.example"])
    saved = lambda: [n for n in os.listdir(folder) if n.endswith(".s")]
    lab.eventually(lambda: len(saved()) >= 1, 10)
    time.sleep(6) # connections close, then nothing comes
    before = len(saved())
    time.sleep(3)
    lab.equal(len(saved()), before)
    gate.configure("logconfig delete aged\n")
    done = gate.batch("logconfig edit mail_logs rollover_at=25:00\n", check=False)
    lab.match(done.stdout + done.stderr, "The time must be HH:MM")
    gate.configure("logconfig edit mail_logs rollover_at=\"Mon 03:30\"\n")
    lab.match(gate.console("logconfig list").stdout, "mail_logs")
    gate.configure("logconfig edit mail_logs rollover_at=\"\"\n")


@lab.test("what is logged: headers with Message done; Message-IDs, subjects and responses can be left out")
def chosen():
    setup()
    gate.configure("logconfig setup headers=\"X-Tag, X-Mailer\"\n")
    mid = submit("heads", ["a@good.example"], extra="X-Mailer: m'utt\r\nX-Tag: a\r\n b\r\n")
    lab.match(log.wait_for(r"Message done DCID \d+ MID %d to RID \[0\].*" % mid).group(0), r"to RID \[0\] \[\('X-Mailer', 'm\\'utt'\), \('X-Tag', 'a b'\)\]$")
    gate.configure("logconfig setup headers=\"\" message_ids=no subjects=no remote_responses=no\n")
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message("q@client.lab.example", ["a@good.example"], lab.make_message("quiet", 300, "plain"))
        c.quit()
    mid = int(log.wait_for(r"MID (\d+) ICID \d+ From: <q@client").group(1))
    log.wait_for(r"Message finished MID %d done" % mid)
    lab.equal(log.find(r"MID %d (Message-ID|Subject|RID \[0\] Response)" % mid), [])
    gate.configure("logconfig setup message_ids=yes subjects=yes remote_responses=yes\n")
    done = gate.batch("logconfig setup headers=\"bad:name\"\n", check=False)
    lab.match(done.stdout + done.stderr, "is not the name of a header")


@lab.test("findevent: messages by sender, recipient, subject, Message-ID; all that belongs to one of them and nothing else")
def findevent():
    setup()
    submit("other", ["a@good.example"], sender="other@client.lab.example")
    mid = submit("wanted MID 1 ICID 1", ["a@good.example", "b@bad.example"], sender="joe@client.lab.example")
    log.wait_for(r"MID (\d+) was generated for bounce of MID %d" % mid)
    report = int(log.find(r"MID (\d+) was generated for bounce of MID %d" % mid)[0])
    log.wait_for(r"Message finished MID %d done" % report)
    lab.match(gate.console("findevent -f \"joe@client\" mail_logs").stdout, r"\AMID %d \(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\) <joe@client\.lab\.example>\n\Z" % mid)
    lab.match(gate.console("findevent -t b@bad mail_logs").stdout, r"\AMID %d .* <b@bad\.example>\n\Z" % mid)
    lab.match(gate.console("findevent -i -s \"ABOUT WANTED\" mail_logs").stdout, r"\AMID %d " % mid)
    lab.equal(gate.json("findevent -d wanted mail_logs").get("data", {}).get("messages", [{}])[0].get("mid"), mid)
    lab.equal(gate.console("findevent -f nobody@ mail_logs").stdout, "No matching message IDs were found.\n")
    lab.equal(gate.console("findevent -f joe@ dates=20200101 mail_logs").stdout, "No matching message IDs were found.\n")
    gate.console("rollovernow mail_logs")
    lab.equal(gate.console("findevent -f joe@ --current mail_logs").stdout, "No matching message IDs were found.\n")
    lab.equal(gate.console("findevent -m 99999 mail_logs").stdout, "No matching message IDs were found.\n")
    text = gate.console("findevent -m %d mail_logs" % mid).stdout
    icid = lab.match(text, r"Start MID %d ICID (\d+)" % mid).group(1)
    dcid = lab.match(text, r"Delivery start DCID (\d+) MID %d to RID \[0\]" % mid).group(1)
    for line in (r"New SMTP ICID %s interface" % icid, r"ICID %s RELAY SG" % icid, r"ICID %s close" % icid, r"New SMTP DCID %s interface" % dcid,
                 r"Bounced: DCID \d+ MID %d to RID 1 - 5\.1\.1" % mid, r"MID %d was generated for bounce of MID %d" % (report, mid),
                 r"Message finished MID %d done" % mid, r"Message finished MID %d done" % report):
        lab.match(text, line)
    lab.equal([l for l in text.splitlines() if "wanted" not in l and ("other" in l or re.search(r"ICID 1\b", l) and icid != "1")], [])
    t = terminal.console(gate, rows=400)
    t.ask("findevent", pattern=r"\]> ")
    t.ask("1", pattern=r"\]> ")
    t.ask(r"JOE@client\.lab", pattern=r"\]> ")
    t.ask("mail_logs", pattern=r"\]> ")
    out = t.ask("1", pattern=r"\]> ")
    lab.match(out, r"The following matching message IDs were found\.  Please choose one to\nshow additional log information:\n1\. MID %d \(" % mid)
    lab.match(t.ask("1"), "Message finished MID %d done" % report)
    t.stop()


@lab.test("grep: lines of context, a count, what does not match, several expressions")
def grep():
    setup()
    whole = gate.console("grep . mail_logs").stdout.count("\n")
    some = gate.console("grep \"Start MID\" mail_logs").stdout.count("\n")
    lab.equal(gate.console("grep -c \"Start MID\" mail_logs").stdout, "%d\n" % some)
    lab.equal(gate.json("grep -c \"Start MID\" mail_logs")["data"]["matches"], some)
    lab.equal(int(gate.console("grep -c -v \"Start MID\" mail_logs").stdout) >= whole - some, True)
    lab.equal(int(gate.console("grep -c -i -e \"START mid\" -e \"message FINISHED\" mail_logs").stdout) > some, True)
    lab.match(gate.console("grep -C 1 \"Subject .about heads\" mail_logs").stdout, r"Message-ID .*\n.*Subject 'about heads'\n.*ready")


@lab.test("a full log disk loses lines, counts them and says so; every message is delivered; room lets the log go on")
def full_disk():
    setup()
    lab.need_root()
    gate.stop()
    folder = os.path.join(gate.home, "log", "mail_logs")
    owner = os.stat(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k,uid=%d,gid=%d,mode=0700" % (owner.st_uid, owner.st_gid), "none", folder]).returncode:
        lab.skip("no file system can be mounted here")
    try:
        gate.start()
        filler = os.path.join(folder, "filler")
        with open(filler, "wb") as f:
            f.write(b"x" * 80000)
        before = gate.json("status")["data"]["counters"]["delivered_recips"]["lifetime"]
        for i in range(4):
            with lab.Smtp(gate.private) as c:
                c.ehlo()
                for k in range(50):
                    c.message("f@client.lab.example", ["a@good.example"], lab.make_message("full%d-%d" % (i, k), 300, "plain"))
                c.quit()
        lab.eventually(lambda: gate.json("status")["data"]["counters"]["delivered_recips"]["lifetime"] - before == 200, 20)
        lab.match(gate.console("displayalerts").stdout, "Lines of the log mail_logs are lost")
        os.unlink(filler)
        submit_quietly("room")
        lab.eventually(lambda: re.search(r"Warning: \d+ log lines were lost: the disk did not take them",
                                         lab.read_text(os.path.join(folder, "mail.current"))), 10)
        lab.eventually(lambda: "room" in lab.read_text(os.path.join(folder, "mail.current")), 10)
        lines = lab.read_text(os.path.join(folder, "mail.current")).splitlines()
        lab.equal([l for l in lines if not re.match(r"\w{3} \w{3} [ \d]\d [\d:]{8} \d{4} \w+: ", l)], [], "no line is cut")
    finally:
        gate.stop()
        subprocess.run(["umount", folder])


def submit_quietly(ident):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message("s@client.lab.example", ["a@good.example"], lab.make_message(ident, 300, "plain"))
        c.quit()


lab.main()
