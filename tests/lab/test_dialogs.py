#!/usr/bin/python3
# Plays the transcripts of tests/dialogs against a gateway of their own, in a pseudo-terminal.
#
# A transcript is what stands on the screen. What a person types stands in braces at the end of a line: "[]> {new}",
# {^C} is Ctrl-C, {?} the key without Enter. Everything else is compared letter by letter, but for <number>, <port>, <date>, <days>, <day>, <text>, <print>, <home>, <pem>,
# <user>.
# "#!" lines at the beginning are statements committed before the first line. `test_dialogs.py --record NAME` plays the typed
# lines of tests/dialogs/NAME.txt and writes the transcript anew, for a person to read.

import getpass
import os
import re
import sys

import lab
import terminal

DIALOGS = os.path.join(lab.ROOT, "tests", "dialogs")
DATE = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"
PATTERNS = {
    "<number>": r"[\d,]+", "<port>": r"\d{1,5}", "<date>": DATE + r"(?: \S+)?", "<days>": r"\d+ days", "<day>": r"\d{4}-\d\d-\d\d", "<text>": r"[^\n]*",
    "<print>": r"[kc]:[0-9a-f]{6}", "<home>": r"/\S+/home", "<pem>": r"-----BEGIN [A-Z ]+-----\n(?:[A-Za-z0-9+/=]+\n)+-----END [A-Z ]+-----\n?",
    "<user>": re.escape(getpass.getuser()),
}
AS_ROOT = ["userconfig"] # a home of somebody else has that user besides root
TYPED = re.compile(r"\{([^{}\n]*)\}$", re.M)
PROMPT = r"(?:^|\n)(?:[!*~:\d ]*gw\.lab\.example> |[^\n]*> |[^\n]*:)"


def read(name):
    """(statements to begin with, [expected text, typed, expected text, typed, ..., expected text])"""
    text = lab.read_text(os.path.join(DIALOGS, name + ".txt"))
    lines = text.splitlines(True)
    before = [line[2:].strip() for line in lines if line.startswith("#!")]
    body = "".join(line for line in lines if not line.startswith("#"))
    return before, TYPED.split(body)


def as_pattern(text):
    parts = re.split("(" + "|".join(PATTERNS) + ")", text)
    return "".join(PATTERNS.get(p) or re.escape(p) for p in parts)


def start(name, before):
    box = lab.Sandbox()
    roots = "".join(lab.read_text(lab.make_cert(box.path("roots"), name, is_ca=True).cert) for name in ("Lab Root", "Other Root"))
    bundle = box.write("bundle.pem", roots)
    os.chmod(bundle, 0o644)
    gate = lab.Posternd(box.path("home"), env={"SSL_CERT_FILE": bundle}) # not the authorities of whoever runs this
    gate.configure("\n".join(["sethostname gw.lab.example"] + before) + "\n")
    t = terminal.console(gate, rows=400, columns=300)
    return t


def difference(want, got):
    for i, line in enumerate(want.splitlines()):
        seen = got.splitlines()[i] if i < len(got.splitlines()) else "(nothing)"
        if not re.fullmatch(as_pattern(line), seen):
            return "line %d is\n    %s\nand should be\n    %s" % (i + 1, seen, line)
    return "more came than expected"


def play(name):
    if name in AS_ROOT:
        lab.need_root()
    before, parts = read(name)
    t = start(name, before)
    seen = "gw.lab.example> "
    for i in range(0, len(parts) - 1, 2):
        want, typed = parts[i].lstrip("\n") if i == 0 else parts[i], parts[i + 1]
        if not re.fullmatch(as_pattern(want), seen):
            raise lab.Failure("before typing %r: %s\n--- all of it:\n%s" % (typed, difference(want, seen), seen))
        lines = parts[i + 2].split("\n")
        end = "\n" + as_pattern(lines[-1]) if lines[-1] else as_pattern(lines[-2]) + "\n"
        t.type("\x03" if typed == "^C" else typed, enter=typed not in ("^C", "?"))
        out = t.until(end if i + 3 < len(parts) else r"\n\S* ?gw\.lab\.example> ")
        seen = out[len(typed):] if out.startswith(typed) else out
    want = parts[-1].rstrip("\n") + " " if parts[-1].rstrip("\n").endswith(">") else parts[-1].rstrip("\n")
    if not re.fullmatch(as_pattern(want), seen):
        raise lab.Failure("at the end: %s\n--- all of it:\n%s" % (difference(want, seen), seen))
    lab.equal(t.leave(), 0, "exit status")


def record(name):
    """For the writer of a transcript: the typed lines stay, the rest is what came."""
    before, parts = read(name)
    t = start(name, before)
    out = "".join("#! %s\n" % line for line in before) + "gw.lab.example> "
    for typed in parts[1::2]:
        t.type("\x03" if typed == "^C" else typed, enter=typed not in ("^C", "?"))
        seen = t.until(r"(?:> |:\n|: |\. |\A" + re.escape(typed) + r"\n)", timeout=8, settle=0.4)
        seen = seen[len(typed):] if seen.startswith(typed) else seen
        seen = re.sub(DATE + r"(?: [A-Z]{3,4})?", "<date>", seen)
        seen = re.sub(r"(?s)-----BEGIN .*?-----END [A-Z ]+-----\n?", "<pem>", seen)
        seen = re.sub(r"(TCP Port |port +|\n\[)\d{4,5}(?=\D)(?!0)", r"\1<port>", seen) if "ort" in seen else seen
        seen = re.sub(r"/\S+/home(?=/export)", "<home>", seen)
        seen = re.sub(r"fingerprint [kc]:[0-9a-f]+", "fingerprint <print>", seen)
        out += "{%s}%s" % (typed, seen)
    with open(os.path.join(DIALOGS, name + ".txt"), "w") as f:
        f.write(out.rstrip(" ") + "\n")
    t.stop()


if len(sys.argv) > 2 and sys.argv[1] == "--record":
    for dialog in sys.argv[2:]:
        record(dialog)
else:
    for dialog in sorted(n[:-4] for n in os.listdir(DIALOGS) if n.endswith(".txt")):
        lab.test("dialog " + dialog)(lambda name=dialog: play(name))
    lab.main()
