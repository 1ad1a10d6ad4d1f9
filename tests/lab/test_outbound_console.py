#!/usr/bin/python3
# What destconfig and sslconfig promise, seen from outside: tables that go out to an INI file and come back, and TLS versions,
# ciphers and groups that other people's clients meet after the commit.

import json
import os
import re
import socket
import ssl
import time

import lab

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
gate.configure("listenerconfig set InboundMail tls=preferred\n")
EXPORT = os.path.join(gate.home, "export")
gate.console("saveconfig mask file=first.conf") # the directory is the gateway's to make

HEAD = """[DEFAULT]
ip_sort_pref = PREFER_V6
max_host_concurrency = 500
max_messages_per_connection = 50
limit_type = host
limit_apply = VG
table_tls = off
bounce_validation = 0
send_tls_req_alert = 0
certificate = Demo
"""


def port():
    return next(l["port"] for l in gate.json("listenerconfig list")["data"]["entries"] if l["name"] == "InboundMail")


def put(name, text):
    path = os.path.join(EXPORT, name)
    with open(path, "w") as f:
        f.write(text)
    os.chown(path, os.stat(EXPORT).st_uid, os.stat(EXPORT).st_gid)


def table():
    return gate.json("destconfig list")["data"]["entries"]


@lab.test("a table goes out to a file and comes back the same")
def round_trip():
    gate.configure("""destconfig edit default use_tls=on recipient_limit=300 recipient_minutes=60
destconfig new example1.com ip_sort_pref=prefer_v4 concurrency_limit=20 concurrency_limit_type=MXIP use_tls=require_verify
destconfig new .example2.com use_tls=require_hosted_verify dane=opportunistic mta_sts=on bounce_verification=on
destconfig new quiet.example use_tls=off
destconfig setup send_tls_req_alert=yes
""")
    before = table()
    gate.console("destconfig export one.ini")
    gate.console("destconfig export one.ini") # the same once more is no change
    text = lab.read_text(os.path.join(EXPORT, "one.ini"))
    lab.match(text, r"(?m)^\[\.example2\.com\]\ntable_tls = require_hosted_verify\ntable_dane = opportunistic\n"
                    r"table_mta_sts = on\nbounce_validation = on$")
    gate.configure("destconfig clear y\ndestconfig edit default use_tls=off\ndestconfig setup send_tls_req_alert=no\n")
    lab.equal(len(table()), 1, "entries after clear")
    done = gate.json("destconfig import one.ini")
    lab.equal({k: done["data"][k] for k in ("entries", "new", "deleted")}, {"entries": 3, "new": 3, "deleted": 0})
    gate.console("destconfig import one.ini; commit import y")
    after = table()
    lab.equal(after, before)
    gate.console("destconfig export two.ini")
    lab.equal(lab.read_text(os.path.join(EXPORT, "two.ini")), text)


@lab.test("a file that is refused changes nothing, and the refusal says where")
def refused():
    before = table()
    for text, sentence in (
            (HEAD + "[a.example]\nmax_host_concurrency = 5\n", r"Line 11, \[a\.example\], max_host_concurrency: It needs limit_type too"),
            (HEAD + "[a.example]\ntable_dane = mandatory\n", r"\[a\.example\], table_dane: It needs TLS, but table_tls is off"),
            (HEAD.replace("limit_apply = VG\n", ""), r"\[DEFAULT\], limit_apply: \[DEFAULT\] must have this key"),
            (HEAD + "[a.example]\nspeed = 1\n", r"speed: There is no such key"),
            ("-----BEGIN PRIVATE KEY-----\n", r"Line 1: ")):
        put("bad.ini", text)
        done = gate.console("destconfig import bad.ini", check=False)
        lab.equal(done.returncode, 3, sentence)
        lab.match(done.stdout + done.stderr, sentence)
        lab.equal(table(), before)
    done = gate.console("destconfig import nowhere.ini", check=False)
    lab.equal(done.returncode, 7)


@lab.test("10,000 sections are read and staged within seconds")
def large():
    put("large.ini", HEAD + "".join("[d%05d.example]\ntable_tls = on\nmax_host_concurrency = 7\nlimit_type = 0\nlimit_apply = 0\n"
                                    % i for i in range(10000)))
    began = time.monotonic()
    done = gate.batch("destconfig import large.ini\ndestconfig edit d00007.example use_tls=require\n"
                      "destconfig new d00008.example\ndestconfig delete d00009.example\n", check=False)
    lab.match(done.stdout + done.stderr, "exists already") # names that came with the file are known to the batch
    done = gate.batch("destconfig import large.ini\ndestconfig edit d00007.example use_tls=require\ncommit large y\n")
    lab.note("two imports, 10,000 sections: %.1f s" % (time.monotonic() - began))
    lab.equal(gate.json("destconfig detail d00007.example")["data"].get("use_tls") or
              gate.json("destconfig detail d00007.example")["data"]["entries"][0]["use_tls"], "require")
    gate.configure("destconfig clear y\n")


@lab.test("contradictions name both fields and the fix")
def contradictions():
    for line, sentence in (
            ("destconfig set a.example dane=mandatory", r"dane.* needs TLS, but use_tls is off in the default entry; set use_tls"),
            ("destconfig set a.example use_tls=off mta_sts=on", r"mta_sts.* needs TLS, but use_tls is off; .*mta_sts to \"off\""),
            ("destconfig set a.example recipient_limit=5", r"recipient_minutes"),
            ("destconfig setup certificate=none", r"none")):
        done = gate.console(line, check=False)
        lab.equal(done.returncode != 0, True, line)
        lab.match(done.stdout + done.stderr, sentence)
    gate.configure("destconfig set a.example use_tls=on dane=mandatory\n")
    done = gate.console("destconfig set a.example use_tls=default", check=False)
    lab.match(done.stdout + done.stderr, r"needs TLS")
    gate.configure("destconfig set b.example use_tls=on\ndestconfig set b.example use_tls=on\n") # the same again is no change
    lab.equal(gate.console("destconfig new b.example use_tls=require", check=False).returncode != 0, True)
    gate.configure("destconfig clear y\n")


def s_client(*args):
    out = lab.s_client(port(), "-brief", *args).stdout
    version = re.search(r"Protocol version: (\S+)", out)
    suite = re.search(r"Ciphersuite: (\S+)", out)
    return (version and version.group(1), suite and suite.group(1))


LOOSE = ["-cipher", "DEFAULT:@SECLEVEL=0"]


@lab.test("versions, ciphers and groups count from the next connection on; open sessions stay")
def versions():
    lab.equal(s_client()[0], "TLSv1.3")
    lab.equal(s_client("-tls1_2")[0], "TLSv1.2")
    lab.equal(s_client("-tls1_1", *LOOSE)[0], None)
    held = lab.Smtp(port())
    held.ehlo()
    held.starttls()
    lab.equal(held.sock.version(), "TLSv1.3")

    gate.console("sslconfig inbound versions=3 ciphers=ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384 groups=P-384; "
                 "commit narrow y")
    version, suite = s_client()
    lab.equal(version, "TLSv1.2")
    lab.match(suite, r"AES256-GCM-SHA384$")
    lab.equal(s_client("-tls1_3")[0], None)
    lab.equal(s_client("-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")[0], None)
    lab.equal(s_client("-groups", "X25519")[0], None)
    lab.match(lab.s_client(port(), "-brief", "-groups", "P-256:P-384").stdout, r"Server Temp Key: ECDH, (P-384|secp384r1)")
    lab.equal(held.cmd("NOOP")[0], 250, "the session from before")

    done = gate.console("sslconfig inbound versions=1-2 ciphers=HIGH; commit old y")
    lab.match(done.stdout + done.stderr, r"TLS v1\.0 is obsolete and can be attacked \(RFC 8996\)")
    lab.equal(s_client("-tls1_1", *LOOSE)[0], "TLSv1.1")
    lab.equal(s_client("-tls1", *LOOSE)[0], "TLSv1")
    lab.equal(s_client("-tls1_2")[0], None)
    lab.equal(s_client("-tls1", "-cipher", "aNULL:@SECLEVEL=0")[0], None)

    gate.console("sslconfig replace inbound_min=tlsv1.2; commit back y")
    lab.equal(s_client()[0], "TLSv1.3")
    lab.equal(s_client("-tls1_1", *LOOSE)[0], None)
    held.quit()


@lab.test("deliveries take the versions and ciphers of outbound SMTP")
def deliveries():
    pair = lab.make_cert(box.path("pki"), "mx.lab.example", key="rsa")
    sink = lab.Sink("--cert", pair.cert, "--key", pair.key)
    out = next(l["port"] for l in gate.json("listenerconfig list")["data"]["entries"] if l["name"] == "OutboundMail")
    gate.configure("smtproutes new ALL 127.0.0.1:%d\ndestconfig edit default use_tls=require\n" % sink.port)
    for versions, ciphers, wanted in (
            ("3-4", None, r"TLS success protocol TLSv1\.3 cipher TLS_"),
            ("3", "ECDHE-RSA-AES256-GCM-SHA384", r"TLS success protocol TLSv1\.2 cipher ECDHE-RSA-AES256-GCM-SHA384"),
            ("3-4", "HIGH:TLS_CHACHA20_POLY1305_SHA256", r"TLS success protocol TLSv1\.3 cipher TLS_CHACHA20_POLY1305_SHA256")):
        gate.console("sslconfig replace outbound_min=tlsv1.2; sslconfig outbound versions=%s%s; commit next y"
                     % (versions, " ciphers=" + ciphers if ciphers else ""))
        with lab.Smtp(out) as s:
            s.ehlo()
            s.message("a@sender.example", ["b@partner.example"], "Subject: x\r\n\r\nx\r\n")
            s.quit()
        gate.maillog().wait_for(wanted)
    gate.console("sslconfig replace outbound_min=tlsv1.2; destconfig edit default use_tls=off; commit back y")


@lab.test("verify lists what a string selects; nonsense is refused at the prompt and in a loaded file")
def verify():
    lines = gate.json("sslconfig verify ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_256_GCM_SHA384")["data"]["ciphers"]
    lab.equal([l.split()[0] for l in lines], ["TLS_AES_256_GCM_SHA384", "ECDHE-RSA-AES128-GCM-SHA256"])
    for line in ("sslconfig verify HIGH:!aNUL", "sslconfig inbound_ciphers=HIGH:!aNUL", "sslconfig inbound_groups=P-257",
                 "sslconfig inbound_min=tlsv1.3 inbound_max=tlsv1.2", "sslconfig inbound_ciphers=TLS_AES_128_GCM_SHA256"):
        done = gate.console(line, check=False)
        lab.equal(done.returncode != 0, True, line + done.stdout)
    put("bad.conf", "sslconfig inbound_ciphers=HIGH:!aNUL\n")
    done = gate.console("loadconfig bad.conf", check=False)
    lab.match(done.stdout + done.stderr, r"aNUL")


def greeted(source):
    """What EHLO from this loopback address offers, and what MAIL is answered."""
    s = lab.Smtp(port(), greet=False)
    s.sock.close()
    s.sock = socket.create_connection(("127.0.0.1", port()), timeout=10, source_address=(source, 0))
    s.file = s.sock.makefile("rb")
    s.reply()
    s.ehlo()
    code = s.cmd("MAIL FROM:<a@b.example>")[0]
    starttls = s.has("STARTTLS")
    s.close()
    return starttls, code


@lab.test("the lists for STARTTLS count for those who connect to us, and end")
def lists():
    day = lab.day(40)
    lab.equal(greeted("127.0.0.9"), (True, 250))
    gate.configure("""tlsexceptions new broken kind=no-tls target=127.0.0.8/30 reason="breaks at STARTTLS" owner=joe expires=%s
tlsexceptions new bank kind=require-tls target=127.0.0.20 reason=contract owner=joe expires=%s
tlsexceptions new over kind=no-tls target=127.0.0.30 reason=old owner=joe expires=2020-01-01
""" % (day, day))
    lab.equal(greeted("127.0.0.9"), (False, 250))
    lab.equal(greeted("127.0.0.20"), (True, 530))
    lab.equal(greeted("127.0.0.30"), (True, 250))
    status = gate.console("status").stdout
    lab.match(status, r'TLS exceptions in force: 2\. The first to end is "bank", after ' + day)
    lab.equal(gate.json("status")["data"]["tls_exceptions"]["days"], 40)
    lab.eventually(lambda: re.search(r"has\s+ended:\s+its\s+last\s+day\s+is\s+2020-01-01", gate.console("displayalerts").stdout),
                   timeout=20, what="the alert about the end")
    gate.configure("tlsexceptions delete broken\ntlsexceptions delete bank\ntlsexceptions delete over\n")
    lab.equal(greeted("127.0.0.9"), (True, 250))


@lab.test("what a line does not say about an exception is what the dialog proposes")
def defaults():
    line = "tlsexceptions new short kind=no-dane target=mx.a.example reason=x"
    gate.console("%s; commit short y" % line)
    short = gate.json("tlsexceptions list")["data"]["exceptions"][0]
    lab.equal((short["days"], short["owner"]), (30, gate.json("whoami")["data"]["user"]))
    gate.console("tlsexceptions set short owner=joe expires=%s; commit longer y" % lab.day(100))
    lab.equal(gate.console(line).returncode, 0)  # it is there, as far as this line says
    short = gate.json("tlsexceptions list")["data"]["exceptions"][0]
    lab.equal((short["days"], short["owner"]), (100, "joe"))
    gate.configure("tlsexceptions delete short\n")


@lab.test("tlsexplain names no MX record for the host of a route")
def routed():
    gate.configure("smtproutes new routed.example 127.0.0.1:1\n")
    told = gate.console("tlsexplain routed.example").stdout
    lab.match(told, r"SMTP route +routed\.example to 127\.0\.0\.1:1")
    lab.match(told, r"Host 1: 127\.0\.0\.1\n +Addresses +127\.0\.0\.1:1")
    gate.configure("smtproutes delete routed.example\n")


@lab.test("exceptions are refused with the reason, and one that is over still loads")
def rules():
    for line, sentence in (
            ("kind=no-dane target=192.0.2.1 reason=x owner=y expires=2030-01-01", r"target.*MX host"),
            ("kind=no-tls target=192.0.2.1 reason=x owner=y expires=2030-02-30", r"expires.*no day"),
            ("kind=no-tls target=192.0.2.1 owner=y expires=2030-01-01", r"reason"),
            ("kind=none target=192.0.2.1 reason=x owner=y expires=2030-01-01", r"kind")):
        done = gate.console("tlsexceptions new bad " + line, check=False)
        lab.equal(done.returncode != 0, True, line)
        lab.match(done.stdout + done.stderr, sentence)
    lab.match(gate.console("tlsexceptions new far kind=no-tls target=192.0.2.1 reason=x expires=%s; commit far y" % lab.day(367),
                           check=False).stderr, r"366\s+days\s+at\s+most")
    gate.console("clear y")
    gate.configure("tlsexceptions set old kind=no-mta-sts target=a.example reason=x owner=y expires=2021-05-01\n")
    gate.console("saveconfig mask file=with-old.conf")
    gate.configure("tlsexceptions delete old\n")
    done = gate.console("loadconfig with-old.conf; commit again y")
    lab.match(done.stdout + done.stderr, r"ended on 2021-05-01 and does nothing")
    lab.equal(len(gate.json("tlsexceptions list")["data"]["exceptions"]), 1)


lab.main()
