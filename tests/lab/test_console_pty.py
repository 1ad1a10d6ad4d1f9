# timeout: 600
# The console on a pseudo-terminal: keys, help, completion, interruptions, odd terminals, and what must never be reached.

import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab
import screen

BOX = None
GATE = None
PROMPT = r"gw\.example\.com> ?$"


def gate():
    global BOX, GATE
    if not GATE:
        BOX = lab.Sandbox()
        GATE = lab.Posternd(BOX.path("home"))
        GATE.batch("sethostname gw.example.com\n"
                   "destconfig set partner.example use_tls=require\n"
                   "destconfig set peer.example use_tls=on\n"
                   "destconfig set other.example use_tls=on\n", args=("--commit", "--comment", "for the tests"))
    return GATE


def console(*args, home=None, **keywords):
    """A console at its prompt, with a fresh HOME unless one is given."""
    env = {"HOME": home or lab.Sandbox().path()}
    env.update(keywords.pop("env", {}))
    t = screen.Terminal([lab.binary("postern"), "--home", gate().home, *args], env=env, **keywords)
    t.home = env["HOME"]
    t.ready()
    while t.has(r"uncommitted change.*\? \[Y\]> ?$"): # a test before failed
        t.line("y").line("clearchanges").line("y")
    lab.match(t.tail(), PROMPT)
    return t


def leave(t):
    t.type("\x15\x04")
    lab.equal(t.wait(), 0, "exit status")
    lab.equal(t.modes() if t.fd >= 0 else (True, True), (True, True), "terminal restored")


def history(t):
    return lab.read_text(os.path.join(t.home, ".postern_history"))


@lab.test("the welcome, the prompt, leaving with Ctrl-D")
def welcome():
    t = console()
    lab.match("\n".join(t.text()), r"Welcome to the Postern secure mail gateway")
    lab.match("\n".join(t.text()), r"idle for 30 minutes")
    lab.equal(t.text()[-2], "", "a blank line before the prompt")
    t.line("")
    lab.equal(t.text()[-2:], ["gw.example.com>", "gw.example.com>"], "an empty line")
    leave(t)


@lab.test("? explains, and keeps the half-typed line")
def help_key():
    t = console()
    t.type("destconfig edit partner.example use_tls=?").settle()
    lab.match("\n".join(t.text()), r"^  use_tls=require +Required$")
    lab.equal(t.tail(), "gw.example.com> destconfig edit partner.example use_tls=")
    t.type("\x15cert?").settle()
    lab.match("\n".join(t.text()), r"^  certconfig +\S")
    lab.equal(t.tail(), "gw.example.com> cert")
    t.type("config\x02\x02?").settle()
    lab.equal(t.screen.column, len("gw.example.com> certconf"), "cursor stays in the line")
    t.type("\x15hoststatus ?").settle()
    lab.match("\n".join(t.text()), r"^  hoststatus HOST$")
    t.type("\x15resume ?").settle()
    lab.match("\n".join(t.text()), r"^  \(Enter runs the command\)$")
    t.type("\x15showrecipients host ?").settle()
    lab.match("\n".join(t.text()), r"^  showrecipients host HOST\n  showrecipients sender ADDRESS\n")
    t.type("\x15tophosts ?").settle()
    lab.match("\n".join(t.text()), r"^  conn_out +Connections Out$")
    leave(t)


@lab.test("? is text in quotes, after Ctrl-V and in a paste")
def literal_question_mark():
    t = console()
    for keys in ('grep "a?', "grep a\x16?", "\033[200~grep a?\033[201~"):
        t.type(keys).settle()
        lab.match(t.tail(), r"gw\.example\.com> grep \"?a\?$", repr(keys))
        t.type("\x15").settle()
    leave(t)


@lab.test("Tab with no, one and many matches")
def completion():
    t = console()
    bells = t.screen.bells
    t.type("nosuch\t").settle()
    lab.equal((t.tail(), t.screen.bells > bells), ("gw.example.com> nosuch", True), "none")
    t.type("\x15destc\t").settle()
    lab.equal(t.tail() + "|", "gw.example.com> destconfig|")
    lab.equal(t.screen.column, len("gw.example.com> destconfig "), "a blank behind it")
    t.type("edit p\t").settle()
    lab.equal(t.tail(), "gw.example.com> destconfig edit p", "p: no common beginning")
    lab.match(t.tail(3), r"partner\.example\n  peer\.example\n")
    t.type("a\tuse\t").settle()
    lab.equal(t.tail(), "gw.example.com> destconfig edit partner.example use_tls=")
    t.type("\x15resume\t").settle()
    lab.match(t.tail(2), r"^resume, resumelistener, resumedel$", "at the top: comma separated")
    leave(t)


@lab.test("completion and help at questions come from live data")
def question_completion():
    t = console()
    t.line("destconfig")
    t.type("de\t").settle()
    lab.match(t.tail(4), r"DELETE|DEFAULT|DETAIL")
    t.type("\x15").line("edit")
    t.type("pa\t").settle()
    lab.equal(t.tail(), "[]> partner.example")
    t.type("\x03").ready()
    lab.match(t.tail(), PROMPT)
    leave(t)


@lab.test("UTF-8: wide and combining characters, and bytes that are none")
def utf8():
    t = console()
    t.type("caf\u00e9 \u6f22\u5b57 e\u0301").settle()
    lab.match(t.tail(), "caf\u00e9 \u6f22\u5b57 e")
    t.type("\x7f\x7f\x7f\x7f").settle()
    lab.equal(t.tail(), "gw.example.com> caf\u00e9 \u6f22")
    t.type("\x15").type(b"version a\xff\xfeb").settle()
    lab.match(t.tail(), "version a\ufffd\ufffdb")
    t.line("")
    lab.match("\n".join(t.text()), r"could not be read as UTF-8")
    t.type(b"\xe6\xbc").settle()
    t.type(b"\xa2\r").ready()
    lab.match("\n".join(t.text()), "Unknown command or missing feature key: \u6f22")
    leave(t)


@lab.test("a paste of 64 KiB, bracketed and raw, arrives or is refused as a whole")
def long_paste():
    t = console()
    word = "x" * 60000
    began = time.monotonic()
    t.type("\033[200~" + word + "\033[201~\r").ready(60)
    lab.note("bracketed: %.1f s" % (time.monotonic() - began))
    lab.match("\n".join(t.text()), r"Unknown command or missing feature key:\s+x+")
    t.type("\033[200~" + "y" * 70000 + "\033[201~\r").ready(60)
    lab.match("\n".join(t.text()), r"Unknown command or missing feature key:\s+y+|longer than 65536 bytes")
    lines = "".join("help nosuch%d\r\n" % i for i in range(1000))
    began = time.monotonic()
    t.type("\033[200~" + lines + "\033[201~")
    t.until(lambda: t.has(r"no command \"nosuch999\""), "the last of 1000 pasted lines", 60)
    lab.note("1000 lines: %.1f s" % (time.monotonic() - began))
    lab.equal(len(re.findall(r"There is no command \"nosuch", "\n".join(t.text()))), 1000, "pasted lines that ran")
    t.settle()
    began = time.monotonic()
    t.type("z" * 20000 + "\r")
    t.until(lambda: t.has(r"feature key:\s+z+"), "an unbracketed paste", 120)
    lab.note("20000 keys: %.1f s" % (time.monotonic() - began))
    leave(t)


@lab.test("Ctrl-C at the prompt, at a question, in a menu")
def interrupt():
    t = console()
    t.type("half a line").settle().type("\x03").ready()
    lab.match(t.tail(2), r"half a line\^C\n" + PROMPT)
    t.line("destconfig").line("new").line("half.example")
    t.type("\x03").ready()
    lab.match(t.tail(), r"^gw\.example\.com>$", "nothing is staged")
    t.line("destconfig").line("edit").line("partner.example")
    t.type("\x03").ready()
    lab.match(t.tail(), r"^gw\.example\.com>$")
    leave(t)


@lab.test("Ctrl-C ends a long command, not the console")
def interrupt_long():
    t = console()
    t.type("tail mail_logs\r")
    t.until(lambda: t.has(r"tail mail_logs"), "the command is typed")
    t.settle(0.5)
    t.type("\x03").ready()
    lab.match(t.tail(), PROMPT)
    t.line("version")
    lab.match("\n".join(t.text()), r"^Version: ")
    leave(t)


@lab.test("what finished before Ctrl-C stays staged; quit asks; the next login offers it")
def staged():
    t = console()
    t.line("destconfig new kept.example use_tls=on")
    lab.match(t.tail(), r"^\* gw\.example\.com>$")
    t.line("destconfig").line("edit").type("\x03").ready()
    lab.match(t.tail(), r"^\* gw\.example\.com>$")
    t.type("\x04").ready()
    lab.match("\n".join(t.text()), r"changes entered but not committed")
    t.type("\r")
    lab.equal(t.wait(), 0)
    t = screen.Terminal([lab.binary("postern"), "--home", gate().home], env={"HOME": "/nonexistent"})
    t.ready()
    lab.match(t.tail(3), r"You left 1 uncommitted change on ")
    t.line("y")
    lab.match(t.tail(), r"^\* gw\.example\.com>$")
    t.line("showchanges")
    lab.match("\n".join(t.text()), r"kept\.example")
    t.line("clearchanges")
    while not re.search(r"^gw\.example\.com>$", t.tail()):
        t.line("y")
    leave(t)


@lab.test("somebody else's commit shows in the prompt")
def base_moved():
    t = console()
    t.line("destconfig new mine.example use_tls=on")
    gate().console("destconfig set theirs.example use_tls=on; commit other Y")
    t.line("")
    lab.match(t.tail(), r"^!\* gw\.example\.com>$")
    t.line("clearchanges").line("y")
    leave(t)


@lab.test("resize in the middle of a line keeps it")
def resize():
    t = console()
    t.type("destconfig edit partner.example use_tls=require").settle()
    t.resize(30, 10).settle()
    t.type("d").settle()
    t.resize(100, 30).settle()
    t.type("\x7f").settle()
    t.line("")
    lab.match("\n".join(t.text()), r"use_tls=require")
    if t.has(r"[Uu]nknown"):
        raise lab.Failure("the line was damaged:\n" + "\n".join(t.text()))
    leave(t)


@lab.test("odd surroundings: LC_ALL=C, an unknown locale, NO_COLOR, TERM=dumb, no TERM")
def surroundings():
    for env, term in (({"LC_ALL": "C"}, "xterm"), ({"LC_ALL": "xx_YY", "LANG": "de_DE"}, "xterm"), ({"NO_COLOR": "1"}, "xterm"),
                      ({}, "dumb"), ({}, ""), ({}, "vt100")):
        t = console(env=env, term=term)
        t.line("help caf\u00e9")
        lab.match("\n".join(t.text()), "There is no command \"caf\u00e9\"", "%r %r" % (env, term))
        if re.search(rb"\033\[[\d;]*m", t.raw):
            raise lab.Failure("colours without being asked: %r" % term)
        if term == "dumb" and re.search(rb"\033\[", t.raw):
            raise lab.Failure("escape sequences on a dumb terminal: %r" % t.raw)
        lab.equal(t.screen.unknown, [], "sequences the test does not know")
        t.line("?")
        lab.match("\n".join(t.text()), r"destconfig")
        leave(t)


@lab.test("a terminal of 40 columns and 10 rows: pages, no wrapped table")
def narrow():
    t = console(columns=40, rows=10)
    t.type("help\r").ready()
    lab.match(t.tail(), r"^-Press Any Key For More-$")
    for line in t.text():
        if len(line) > 40:
            raise lab.Failure("wider than the terminal: %r" % line)
    t.type(" ").ready()
    if t.has(r"More-\S"):
        raise lab.Failure("the page mark is not erased")
    t.type("q").ready()
    lab.match(t.tail(), PROMPT)
    if t.has(r"-Press Any Key For More-"):
        raise lab.Failure("the page mark stays:\n" + "\n".join(t.text()))
    t.line("listenerconfig list")
    for line in t.text():
        if len(line) > 40:
            raise lab.Failure("wider than the terminal: %r" % line)
    t.line("destconfig new narrow.example")
    t.type("\r").ready()
    lab.match("\n".join(t.text()), r"Do you wish to configure a concurrency$")
    t.type("\x03").ready()
    leave(t)


@lab.test("no page mark in a menu: what is typed next is the answer")
def unpaged_menu():
    t = console(columns=40, rows=16)
    t.line("listenerconfig").line("edit").line("1").line("hostaccess")
    lab.match("\n".join(t.text()), r"^\[\]> hostaccess$")
    t.type("\x03").ready()
    leave(t)


@lab.test("no pages when the output is short")
def short_page():
    t = console()
    t.line("version")
    if t.has("Press Any Key"):
        raise lab.Failure("a page mark")
    leave(t)


@lab.test("the idle timeout says why, keeps the changes and restores the terminal")
def idle():
    t = console(env={"POSTERN_TEST_IDLE": "2"})
    t.line("destconfig new idle.example use_tls=on")
    lab.equal(t.wait(), 1)
    lab.match("\n".join(t.text()), r"Nothing was typed (.|\n)*\skept\sand\soffered at the next login")
    t = screen.Terminal([lab.binary("postern"), "--home", gate().home], env={"HOME": "/nonexistent"})
    t.ready()
    lab.match(t.tail(3), r"You left 1 uncommitted change")
    t.line("y").line("clearchanges").line("y")
    leave(t)


@lab.test("keys keep the session alive")
def not_idle():
    t = console(env={"POSTERN_TEST_IDLE": "2"})
    for _ in range(6):
        t.type("a")
        t.settle(0.5)
    lab.match(t.tail(), r"aaaaaa$")
    leave(t)


@lab.test("the engine dies while somebody types: a notice, the line stays, the next command works")
def engine_restarts():
    t = console()
    t.type("vers").settle()
    gate().kill_engine()
    t.until(lambda: t.has(r"^\*\*\* .*gone"), "a notice")
    t.settle()
    lab.equal(t.tail(), "gw.example.com> vers")
    t.line("ion")
    lab.match("\n".join(t.text()), r"^Version: ")
    leave(t)


@lab.test("an engine that does not answer: the time is shown after a second, Ctrl-C gives the prompt back")
def no_answer():
    t = console()
    os.kill(gate().engine, signal.SIGSTOP)
    try:
        t.type("destconfig list\r")
        t.until(lambda: t.has(r"^\[2 s\]  Ctrl-C stops"), "the elapsed time", 60)
        t.type("\x03")
        t.settle(0.5)
    finally:
        os.kill(gate().engine, signal.SIGCONT)
    t.ready(60)
    lab.match(t.tail(), PROMPT)
    if t.has(r"Ctrl-C stops"):
        raise lab.Failure("the time stays on the screen:\n" + "\n".join(t.text()))
    t.line("version")
    lab.match("\n".join(t.text()), r"^Version: ")
    leave(t)


@lab.test("a secret is not echoed, not kept, and Ctrl-C at it restores the terminal")
def secret():
    t = console()
    t.line("saveconfig")
    for _ in range(6):
        if t.has(r"[Pp]assphrase.*: ?$|[Pp]ass ?phrase[^\[]*$") and t.modes() == (False, False) and "[" not in t.tail():
            break
        t.line("2")
    t.type("correct horse").settle()
    if t.has("horse"):
        raise lab.Failure("the passphrase is on the screen")
    t.type("\x03").ready()
    lab.match(t.tail(), PROMPT)
    t.type("visible").settle()
    lab.match(t.tail(), r"visible$")
    leave(t)
    if "horse" in history(t):
        raise lab.Failure("the passphrase is in the history")


@lab.test("history: kept in HOME with mode 0600, no lines with secrets, shared by appending")
def history_file():
    t = console()
    other = console(home=t.home)
    t.line("version")
    other.line("whoami")
    t.line("nosuch passphrase=geheim")
    t.type("\x1b[A\x1b[A").settle()
    lab.match(t.tail(), r"> version$")
    leave(t)
    leave(other)
    lab.equal(history(t).splitlines()[:2], ["version", "whoami"])
    if "geheim" in history(t):
        raise lab.Failure("a secret is in the history")
    lab.equal(os.stat(os.path.join(t.home, ".postern_history")).st_mode & 0o777, 0o600, "mode")
    t = console(home=t.home)
    t.type("\x10").settle()
    lab.match(t.tail(), r"> (whoami|quit)$")
    leave(t)


@lab.test("the history of answers is not the history of commands")
def answers_apart():
    t = console()
    t.line("destconfig").line("nosuchoperation").line("")
    t.type("\x1b[A").settle()
    lab.match(t.tail(), r"> destconfig$")
    leave(t)
    if "nosuchoperation" in history(t):
        raise lab.Failure("an answer is in the history")


@lab.test("the stop keys do not stop it")
def stop_keys():
    t = console()
    t.type("ver\x1a\x1c\x13").settle()
    t.type("\x07").settle()
    t.type("\x15").line("version")
    lab.match("\n".join(t.text()), r"^Version: ")
    os.kill(t.pid, signal.SIGTSTP)
    t.line("whoami")
    lab.match("\n".join(t.text()), r"^Username: ")
    leave(t)


@lab.test("a batch typed at a terminal: no prompt, Ctrl-C ends it, nothing is changed")
def typed_batch():
    gate()
    t = screen.Terminal([lab.binary("postern"), "--home", gate().home, "batch", "--commit"], env={"HOME": "/nonexistent"})
    t.type("destconfig set typed.example use_tls=on\n").settle()
    t.type("\x03")
    lab.equal(t.wait(), -signal.SIGINT)
    lab.equal("typed.example" in gate().console("showconfig").stdout, False)


@lab.test("a signal to end restores the terminal")
def terminated():
    for number in (signal.SIGTERM, signal.SIGHUP):
        t = console()
        t.type("half").settle()
        os.kill(t.pid, number)
        lab.equal(t.wait(), 1)
        lab.equal(t.modes(), (True, True))


@lab.test("a list as a command's operation, a wrong word, empty answers up the menus")
def menus():
    t = console()
    t.line("listenerconfig").line("edit").line("1")
    lab.match(t.tail(30), r"Choose the operation you want to perform:")
    t.line("bogus")
    lab.match(t.tail(4), r"^\"bogus\" is not one of the operations: .*\n(.*\n)*\[\]> ?$")
    t.line("").line("")
    lab.match(t.tail(), PROMPT)
    t.line("destconfig").line("..")
    lab.match(t.tail(), PROMPT)
    leave(t)


@lab.test("the process has given up programs, privileges and the network")
def hardened():
    t = console()
    with open("/proc/%d/status" % t.pid) as f:
        status = f.read()
    if "build-asan" in lab.BUILD or "build-tsan" in lab.BUILD:
        lab.skip("not under a sanitizer")
    lab.match(status, r"^NoNewPrivs:\s+1$")
    lab.match(status, r"^Seccomp:\s+2$")
    leave(t)


DANGEROUS = b"\x18\x1b\x16\x12\x11:vVxX!~{bB"


def sequences():
    keys = [bytes([c]) for c in range(1, 256) if c not in (3, 4, 10, 13, 26, 28)]
    for a in keys:
        yield a
    for a in keys[:124]:
        for b in keys[:124]:
            yield a + b
    for a in DANGEROUS:
        for b in keys[:124]:
            for c in DANGEROUS:
                yield bytes([a]) + b + bytes([c])


def started(trace):
    """The calls of strace's file, without the one that began the console."""
    calls = [line for line in lab.read_text(trace).splitlines() if "(" in line]
    return calls[1:] if calls and "postern" in calls[0] else calls or ["nothing was traced"]


@lab.test("no sequence of keys starts a program")
def escape():
    lab.need_program("strace")
    box = lab.Sandbox()
    trace = box.path("trace")
    marker = box.path("started")
    script = box.write("editor", "#!/bin/sh\ntouch %s\n" % marker)
    os.chmod(script, 0o755)
    t = screen.Terminal([lab.which("strace"), "-f", "-qq", "-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o", trace,
                           lab.binary("postern"), "--home", gate().home],
                          env={"HOME": box.path(), "EDITOR": script, "VISUAL": script, "SHELL": script,
                               # the search for leaks does not work under strace
                               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"})
    t.ready(60)
    t.type("\x1bxbind -v\r").settle()
    t.type("\x1bv").settle()
    t.type("\x1bX!touch %s\r" % marker).settle()
    t.type("\x15bind -v\r\x1bv:!sh\r").settle()
    lab.equal(started(trace), [], "calls that start programs")
    count = 0
    batch = b""
    for keys in sequences():
        batch += keys + b"\x15"
        count += 1
        if len(batch) > 5000:
            t.type(batch)
            batch = b""
            lab.equal(started(trace), [], "calls that start programs")
    t.type(batch).settle(0.5)
    t.type("\x07\x15\r").settle(0.5)
    lab.note("%d sequences" % count)
    t.type("\x15\x15version\r")
    t.until(lambda: t.has(r"^Version: "), "the console still works", 120)
    t.type("\x15\x04")
    t.wait(60)
    lab.equal(started(trace), [], "calls that start programs")
    if os.path.exists(marker):
        raise lab.Failure("a program was started")


@lab.test("start to prompt within 50 ms")
def start_time():
    if "build-" in os.path.basename(lab.BUILD):
        lab.skip("not under a sanitizer")
    best = 10
    for _ in range(7):
        began = time.monotonic()
        t = screen.Terminal([lab.binary("postern"), "--home", gate().home], env={"HOME": "/nonexistent"})
        t.ready()
        best = min(best, time.monotonic() - began)
        leave(t)
    lab.note("best of 7: %.1f ms" % (best * 1000))
    if best > 0.05:
        raise lab.Failure("%.1f ms" % (best * 1000))


lab.main()
