# tools/need with a package manager of our own, and tools/lint on a tree with one fault each.

import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
number = failed = 0


def report(name, ok, output=""):
    global number, failed
    number += 1
    if not ok:
        failed += 1
        print("".join("# %s\n" % line for line in str(output).splitlines()), end="")
    print("%sok %d - %s" % ("" if ok else "not ", number, name))


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


# --- need ------------------------------------------------------------------------------------------------

DPKG = """#!/bin/sh
# dpkg-query -W -f FORMAT [PACKAGE...]; the state is a file of lines "package status provides"
format=$3; shift 3
while read -r name status provides; do
    case "$format" in
    *Provides*) echo "$name $status $provides" ;;
    *) for wanted in "$@"; do [ "$wanted" = "$name" ] && echo "$name $status"; done ;;
    esac
done <"$STATE"
exit 0
"""
APT = """#!/bin/sh
echo "$0 $*" >>"$LOG"
case "$1" in
update) touch "$LOG.updated"; exit 0 ;;
esac
[ -n "$FIRST_FAILS" ] && [ ! -e "$LOG.updated" ] && exit 100
exit 0
"""


def need(arguments, installed, uid=0, **env):
    with tempfile.TemporaryDirectory() as box:
        os.makedirs(box + "/bin")
        for name in ("sh", "sed", "dirname", "head", "tail", "echo", "printf", "mktemp", "rm", "env", "touch", "cat"):
            os.symlink(shutil.which(name), box + "/bin/" + name)
        write(box + "/bin/dpkg-query", DPKG, 0o755)
        write(box + "/bin/apt-get", APT, 0o755)
        write(box + "/bin/id", "#!/bin/sh\necho %d\n" % uid, 0o755)
        write(box + "/state", "".join(line + "\n" for line in installed))
        write(box + "/log", "")
        write(box + "/tools/packages", "build: gcc libssl-dev\ntest: postfix swaks\n")
        shutil.copy(ROOT + "/tools/need", box + "/tools/need")
        done = subprocess.run([box + "/tools/need"] + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=30,
                              env=dict(env, PATH=box + "/bin", STATE=box + "/state", LOG=box + "/log"))
        with open(box + "/log") as f:
            log = f.read().replace(box + "/bin/", "")
        return done.returncode, done.stdout, log


LINE = "apt-get install --no-install-recommends --no-remove"
code, said, log = need(["build"], ["gcc installed", "libssl-dev installed"])
report("need: nothing is missing", code == 0 and not said and not log, said + log)
code, said, log = need(["build"], ["gcc installed", "libssl-dev config-files"])
report("need: as root it installs", code == 0 and log == LINE + " libssl-dev -y\n", said + log)
code, said, log = need(["build"], [], FIRST_FAILS="1")
report("need: old package lists are renewed", code == 0 and log.split("\n")[1] == "apt-get update -q"
       and log.count(LINE + " gcc libssl-dev -y") == 2, said + log)
code, said, log = need(["build"], ["gcc installed"], uid=1000)
report("need: without root it prints the line", code == 1 and not log and LINE + " libssl-dev\n" in said, said + log)
code, said, log = need(["--check", "build"], ["gcc installed"])
report("need: --check installs nothing", code == 1 and not log and LINE + " libssl-dev\n" in said, said + log)
code, said, log = need(["test"], ["exim4 installed exim4, mail-transport-agent", "swaks installed"])
report("need: another mail server stays", code == 0 and not log, said + log)
code, said, log = need(["test"], ["exim4 config-files mail-transport-agent", "swaks installed"])
report("need: a removed mail server does not count", code == 0 and LINE + " postfix -y" in log, said + log)


# --- lint ------------------------------------------------------------------------------------------------

CLEAN = {
    "store/a.h": "/* a */\n#ifndef POSTERN_A_H\n#define POSTERN_A_H\n#endif\n",
    "store/a.c": '/* a */\n#include "store/a.h"\n',
}
FAULTS = [
    # file, text, part of the message
    ("daemon/b.c", '/* b */\n#include "shell/ui.h"\n', "daemon/b.c:2: daemon must not include shell/ui.h"),
    ("cmds/b.c", '/* b */\n#include "daemon/queue.h"\n', "cmds must not include daemon/queue.h"),
    ("store/b.c", '/* b */\n#include "shell/ui.h"\n', "store must not include"),
    ("store/b.c", "/* b */\nvoid f(char *a) { strcpy(a, a); }\n", "store/b.c:2: strcpy is banned"),
    ("daemon/b.c", "/* b */\nint f(void) { return system(0); }\n", "system is banned"),
    ("store/a.c", '/* a */\n#include <stdio.h>\n#include "store/a.h"\n', "store/a.h must be the first include"),
    ("store/b.h", "/* b */\n", "no include guard"),
    ("store/b.c", "int x;\n", "opens with what it is for"),
    ("store/b.c", "/* b */\n\tint x;\n", "a tab"),
    ("daemon/b.c", "/* b */\nint x;\n", "daemon/b.c:1: the map of README.md does not name it"),
    ("README.md", "text \n", "trailing blanks"),
    ("README.md", "TO" + "DO: more\n", "unfinished work"),
    ("README.md", "see /ho" + "me/me/x\n", "a path of one machine"),
    ("README.md", "no end", "no newline"),
    ("tools/b", "#!/bin/sh\nif\n", "tools/b:1"),
    ("tests/b.py", "def f(:\n", "Python"),
    ("tests/b.md", b"\xff\n", "not UTF-8"),
]


def lint(extra):
    with tempfile.TemporaryDirectory() as box:
        os.makedirs(box + "/tools")
        shutil.copy(ROOT + "/tools/lint", box + "/tools/lint")
        for path, text in list(CLEAN.items()) + extra:
            os.makedirs(os.path.dirname(os.path.join(box, path)), exist_ok=True)
            with open(os.path.join(box, path), "wb") as f:
                f.write(text if isinstance(text, bytes) else text.encode())
        done = subprocess.run([sys.executable, box + "/tools/lint"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60)
        return done.returncode, done.stdout


code, said = lint([])
report("lint: a clean tree", code == 0, said)
code, said = lint([("store/b.c", '/* strcpy(a, b) in words */\nconst char *b = "system(1)";\n')])
report("lint: comments and strings are no calls", code == 0, said)
for path, text, message in FAULTS:
    code, said = lint([(path, text)])
    report("lint: " + message, code == 1 and message in said, said)

print("1..%d" % number)
sys.exit(1 if failed else 0)
