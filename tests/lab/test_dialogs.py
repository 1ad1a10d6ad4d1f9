#!/usr/bin/python3
# Plays the transcripts of tests/dialogs against a gateway of their own, in a pseudo-terminal.
#
# Their form is that of transcript.py.
# "#!" lines at the beginning are statements committed before the first line. `test_dialogs.py --record NAME` plays the typed
# lines of tests/dialogs/NAME.txt and writes the transcript anew, for a person to read.

import os
import re
import sys

import lab
import terminal
import transcript

DIALOGS = os.path.join(lab.ROOT, "tests", "dialogs")
AS_ROOT = ["userconfig"] # a home of somebody else has that user besides root


def read(name):
    """(statements to begin with, the transcript)"""
    text = lab.read_text(os.path.join(DIALOGS, name + ".txt"))
    lines = text.splitlines(True)
    before = [line[2:].strip() for line in lines if line.startswith("#!")]
    body = "".join(line for line in lines if not line.startswith("#"))
    return before, body


def start(name, before):
    box = lab.Sandbox()
    roots = "".join(lab.read_text(lab.make_cert(box.path("roots"), name, is_ca=True).cert) for name in ("Lab Root", "Other Root"))
    bundle = box.write("bundle.pem", roots)
    os.chmod(bundle, 0o644)
    gate = lab.Posternd(box.path("home"), env={"SSL_CERT_FILE": bundle}) # not the authorities of whoever runs this
    gate.configure("\n".join(["sethostname gw.lab.example"] + before) + "\n")
    t = terminal.console(gate, rows=400, columns=300)
    return t


def play(name):
    if name in AS_ROOT:
        lab.need_root()
    before, text = read(name)
    t = start(name, before)
    transcript.follow(t, text, "gw.lab.example")
    lab.equal(t.leave(), 0, "exit status")


def record(name):
    """For the writer of a transcript: the typed lines stay, the rest is what came."""
    before, text = read(name)
    t = start(name, before)
    out = "".join("#! %s\n" % line for line in before) + "gw.lab.example> "
    for typed in transcript.TYPED.split(text)[1::2]:
        transcript.press(t, typed)
        seen = t.until(r"(?:> |:\n|\)\n|: |\. |\A" + re.escape(typed) + r"\n)", timeout=8, settle=0.4)
        seen = seen[len(typed):] if seen.startswith(typed) else seen
        seen = re.sub(transcript.DATE + r"(?: [A-Z]{3,4})?", "<date>", seen)
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
