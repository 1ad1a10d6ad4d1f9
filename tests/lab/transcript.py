# What stands on the screen of a console, with what a person types in braces at the end of a line: "[]> {new}", {^C} is
# Ctrl-C, {?} the key without Enter. Everything else is compared letter by letter, but for the words of PATTERNS.

import getpass
import re

import lab

DATE = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"
PATTERNS = {
    "<number>": r"[\d,]+", "<port>": r"\d{1,5}", "<date>": DATE + r"(?: \S+)?", "<days>": r"\d+ days", "<day>": r"\d{4}-\d\d-\d\d", "<text>": r"[^\n]*",
    "<print>": r"[kc]:[0-9a-f]{6}", "<home>": r"/\S+/home", "<pem>": r"-----BEGIN [A-Z ]+-----\n(?:[A-Za-z0-9+/=]+\n)+-----END [A-Z ]+-----\n?",
    "<user>": re.escape(getpass.getuser()), "[...]": r"[\s\S]*?",
}
TYPED = re.compile(r"(?:(?<=[>:.] )|^)\{([^\n]*)\}$", re.M) # behind what asks for it


def as_pattern(text):
    parts = re.split("(" + "|".join(map(re.escape, PATTERNS)) + ")", text)
    return "".join(PATTERNS.get(p) or re.escape(p) for p in parts)


def difference(want, got):
    for i, line in enumerate(want.splitlines()):
        seen = got.splitlines()[i] if i < len(got.splitlines()) else "(nothing)"
        if not re.fullmatch(as_pattern(line), seen):
            return "line %d is\n    %s\nand should be\n    %s" % (i + 1, seen, line)
    return "more came than expected"


def press(t, typed):
    t.type("\x03" if typed == "^C" else typed, enter=typed not in ("^C", "?"))


def follow(t, text, host, keys=lambda typed: typed):
    """Plays a transcript on a console that is at its prompt, "HOST> ". keys: what is typed for what stands in braces."""
    parts = TYPED.split(text)
    prompt = r"\n\S* ?" + re.escape(host) + "> "
    seen = re.match(r"(?:\S+ )?" + re.escape(host) + "> ", parts[0].lstrip("\n"))
    seen = seen.group(0) if seen else host + "> "
    for i in range(0, len(parts) - 1, 2):
        want, typed = parts[i].lstrip("\n") if i == 0 else parts[i], parts[i + 1]
        if not re.fullmatch(as_pattern(want), seen):
            raise lab.Failure("before typing %r: %s\n--- all of it:\n%s" % (typed, difference(want, seen), seen))
        lines = parts[i + 2].split("\n")
        end = "\n" + as_pattern(lines[-1]) if lines[-1] else as_pattern(lines[-2]) + "\n"
        press(t, keys(typed))
        out = t.until(end if i + 3 < len(parts) else prompt)
        typed = keys(typed)
        seen = out[len(typed):] if out.startswith(typed) else out
    want = parts[-1].rstrip("\n") + " " if parts[-1].rstrip("\n").endswith(">") else parts[-1].rstrip("\n")
    if not re.fullmatch(as_pattern(want), seen):
        raise lab.Failure("at the end: %s\n--- all of it:\n%s" % (difference(want, seen), seen))
