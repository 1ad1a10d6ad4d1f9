# People and peers who mean harm: a next hop, an administrator of low rank, whoever finds what was exported.

import json
import os
import re
import socket
import threading
import time

import lab
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"), start=False)
gate.start()


def configure(*statements):
    gate.console("; ".join(statements) + '; commit "test" Y')


def submit(rcpt, message=None, sender=""):
    with lab.Smtp(gate.private) as c:
        c.ehlo()
        c.message(sender, [rcpt], message or lab.make_message("hostile"))
        c.quit()


def grep(pattern):
    """The final answer to a search."""
    c = Control(gate.home)
    c.send("log.grep", name="mail_logs", patterns=[pattern])
    while True:
        answer = c.receive()
        if "ok" in answer:
            return answer


@lab.test("an expression cannot exhaust the stack, the memory or the time of the engine")
def expressions():
    engine = gate.engine
    for pattern in ("(" * 480 + "a" + ")" * 480, "(((a{1,255}){1,255}){1,255}){1,255}", "((a{9}){9}{9}){9}{9}{9}{9}{9}",
                    "a" + "+" * 900, "(" * 300, "a{1,30000}", "(a|b|" * 190 + "c" + ")" * 190):
        began = time.monotonic()
        answer = grep(pattern)
        lab.equal(answer["ok"], False, pattern[:30])
        assert time.monotonic() - began < 2, pattern[:30]
    lab.equal(gate.engine, engine)
    for pattern in ("MID [0-9]{1,9} (ready|queued)", "((a|b)(c|d))+", "^.{10,200}$", "a[{(]b", r"\(x\{"):
        lab.equal(grep(pattern)["ok"], True, pattern)


@lab.test("a connection left open in clear carries nothing once TLS is required")
def raised():
    sink = lab.Sink("--no-starttls")
    configure("smtproutes new raise.example 127.0.0.1:%d" % sink.port, "destconfig new raise.example use_tls=off")
    submit("a@raise.example")
    sink.wait_messages(1)
    configure("destconfig edit raise.example use_tls=require")
    submit("b@raise.example") # while the connection lingers
    gate.maillog().wait_for(r"TLS was required but could not be successfully negotiated")
    lab.equal(sink.stats()["messages"], 1)


lab.main()
