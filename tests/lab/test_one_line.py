#!/usr/bin/python3
# Adding a setting is one line: both programs were built with tests/lab/one_line.def behind schema/listener.def and nothing
# else, and everything that walks the schema knows the setting.

import os
import sqlite3

import lab

os.environ["POSTERND"] = os.path.join(lab.BUILD, "one_line", "posternd")
os.environ["POSTERN"] = os.path.join(lab.BUILD, "one_line", "postern")

import terminal

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))
QUESTION = "Enter the seconds to wait before the greeting."


@lab.test("the programs without the line do not know it")
def without():
    plain = dict(os.environ, POSTERND=os.path.join(lab.BUILD, "posternd"), POSTERN=os.path.join(lab.BUILD, "postern"))
    done = lab.run([plain["POSTERN"], "--home", gate.home, "-c", "listenerconfig edit InboundMail greeting_delay=7"], check=False)
    lab.equal(done.returncode, 2)
    lab.match(done.stderr + done.stdout, "greeting_delay")


@lab.test("batch form, difference, commit, storage over a restart")
def batch():
    done = gate.console("listenerconfig edit InboundMail greeting_delay=7; showchanges; commit \"delay\" Y")
    lab.match(done.stdout, r"greeting_delay +0 -> 7")
    gate.restart()
    lab.match(gate.console("showconfig").stdout, r"(?m)^listenerconfig set InboundMail .*greeting_delay=7")
    body = gate.json("listenerconfig print InboundMail")
    lab.match(str(body), r"greeting_delay'?: 7|Greeting Delay")


@lab.test("validation, at the line and for whoever goes past the console")
def validation():
    done = gate.console("listenerconfig edit InboundMail greeting_delay=61", check=False)
    lab.equal(done.returncode in (2, 3), True, "exit code %d" % done.returncode)
    lab.match(done.stderr + done.stdout, r"The value must be an integer from 0 to 60\.")
    from control import Control
    c = Control(gate.home)
    body = dict(c.body("listener", "InboundMail"), greeting_delay=61)
    answer = c.refused("E_INVALID", "config.stage", changes=[{"section": "listener", "name": "InboundMail", "body": body}])
    lab.equal(answer["errors"][0]["field"], "greeting_delay")


@lab.test("prompt with its default, and help, in the dialog of its group")
def prompt():
    t = terminal.console(gate)
    t.ask("listenerconfig")
    t.ask("edit")
    t.ask("InboundMail", r"\[\]> ")
    seen = t.ask("limits", r"\[\d+\]> ")
    for _ in range(5):
        if QUESTION in seen:
            break
        seen = t.ask("", r"\[\w*\]> ")
    lab.match(seen, QUESTION.replace(".", r"\."))
    lab.match(seen, r"\[7\]> ")
    t.type("?", enter=False)
    lab.match(t.until(r"\[7\]> "), "Spam software does not wait")
    lab.match(t.ask("99", r"\[7\]> "), "from 0 to 60")
    t.ask("9", r"\[\]> ")
    t.stop()


@lab.test("reference and usage")
def reference():
    lab.match(gate.console("help listenerconfig").stdout, r"greeting_delay=UINT")


@lab.test("export and import")
def text():
    config = gate.console("showconfig").stdout
    done = gate.batch(config.replace("greeting_delay=7", "greeting_delay=8"), args=("--commit",))
    lab.equal(done.returncode, 0)
    lab.match(gate.console("showconfig").stdout, r"greeting_delay=8")


@lab.test("the typed column of the SQL view")
def view():
    gate.stop()
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(gate.home, "config.db"), uri=True)
    lab.equal(db.execute("SELECT greeting_delay, typeof(greeting_delay) FROM v_listener WHERE object='InboundMail'").fetchall(),
              [(8, "integer")])


lab.main()
