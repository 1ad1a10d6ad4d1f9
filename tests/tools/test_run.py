# tests/run itself: what it counts, what it calls a failure, and its closing line.

import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CASES = [
    # what the suite is, its script, its closing line, exit status, a line that must be shown
    ("all pass", "echo 1..2; echo 'ok 1 - a'; echo 'ok 2 - b'", "2 passed, 0 failed", 0, "2 passed"),
    ("one fails", "echo 1..2; echo 'ok 1 - a'; echo '# because'; echo 'not ok 2 - b'; exit 1",
     "1 passed, 1 failed", 1, "# because"),
    ("fails with exit status 0", "echo 1..1; echo 'not ok 1 - a'", "0 passed, 1 failed", 1, "not ok 1"),
    ("crash behind the results", "echo 1..1; echo 'ok 1 - a'; kill -SEGV $$", "1 passed, 1 failed", 1, "SIGSEGV"),
    ("results missing", "echo 1..3; echo 'ok 1 - a'", "1 passed, 1 failed", 1, "3 tests planned, 1 results"),
    ("more results than planned", "echo 1..1; echo 'ok 1'; echo 'ok 2'", "2 passed, 1 failed", 1, "1 tests planned"),
    ("no plan", "echo 'ok 1 - a'", "1 passed, 1 failed", 1, "no plan"),
    ("no output", "exit 0", "0 passed, 1 failed", 1, "no plan"),
    ("exit status alone", "echo 1..1; echo 'ok 1'; exit 3", "1 passed, 1 failed", 1, "exit status 3"),
    ("empty plan", "echo 1..0", "0 passed, 1 failed", 1, "no test ran"),
    ("skipped suite", "echo '1..0 # SKIP no network'", "0 passed, 0 failed", 1, "skipped: no network"),
    ("skipped test", "echo 1..2; echo 'ok 1 - a # SKIP needs root'; echo 'ok 2 - b'", "1 passed, 0 failed", 0,
     "a: needs root"),
    ("cmocka's skip", "echo 1..2; echo 'not ok 1 # SKIP a'; echo 'ok 2 - b'", "1 passed, 0 failed", 0, "1 skipped"),
    ("two groups", "echo 1..1; echo 'ok 1 - a'; echo 1..1; echo 'ok 1 - b'", "2 passed, 0 failed", 0, "2 passed"),
    ("bail out", "echo 1..1; echo 'ok 1'; echo 'Bail out! disk'", "1 passed, 1 failed", 1, "Bail out! disk"),
    ("out of time", "echo 1..1; echo 'ok 1'; sleep 60", "1 passed, 1 failed", 1, "not done after 1 s"),
    ("sanitizer report", "echo 1..1; echo 'ok 1'; d=${ASAN_OPTIONS#log_path=}; echo boom >${d%%:*}.1",
     "1 passed, 1 failed", 1, "boom"),
]


def run(arguments):
    env = {k: v for k, v in os.environ.items() if k != "BUILD"} # sanitizer builds get longer time limits
    done = subprocess.run([sys.executable, os.path.join(ROOT, "tests/run")] + arguments,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
                          env=env)
    return done.returncode, done.stdout


def alive(pid):
    """Running, or not reaped yet by whoever adopts orphans."""
    for _ in range(100):
        try:
            with open("/proc/%d/stat" % pid) as f:
                if f.read().rpartition(")")[2].split()[0] in "ZX":
                    return False
        except OSError:
            return False
        time.sleep(0.05)
    return True


def write(directory, name, script):
    path = os.path.join(directory, name + ".py") # a Python suite, so that it may set its time limit
    with open(path, "w") as f:
        f.write("# timeout: %d\nimport subprocess, sys\n" % (1 if "sleep" in script else 30))
        f.write("import os, signal\n")
        f.write("s = subprocess.call(['sh', '-c', %r])\nsys.stdout.flush()\n" % script)
        f.write("os.kill(os.getpid(), -s) if s < 0 else sys.exit(s)\n")
    return path


def main():
    number = failed = 0
    print("1..%d" % (len(CASES) + 4))
    with tempfile.TemporaryDirectory() as directory:
        def report(name, ok, output):
            nonlocal number, failed
            number += 1
            if not ok:
                failed += 1
                print("".join("# %s\n" % line for line in output.splitlines()), end="")
            print("%sok %d - %s" % ("" if ok else "not ", number, name))

        for i, (name, script, closing, status, shown) in enumerate(CASES):
            code, output = run([write(directory, "case%d" % i, script)])
            lines = output.splitlines()
            report(name, lines and lines[-1] == closing and code == status and shown in output, output)

        code, output = run([os.path.join(directory, "case0.py"), os.path.join(directory, "case1.py")])
        report("sums over suites", output.splitlines()[-1] == "3 passed, 1 failed" and code == 1, output)
        code, output = run([os.path.join(directory, "case0.py"), "--only", "nothing-has-this-name"])
        report("nothing to run fails", output.splitlines()[-1] == "0 passed, 0 failed" and code == 1, output)
        left = write(directory, "left", "echo 1..1; echo 'ok 1'; (trap '' TERM; exec sleep 300) & echo \"left $!\"; exit 1")
        code, output = run([left])
        pid = [int(line.split()[1]) for line in output.splitlines() if line.startswith("left ")]
        report("what a suite leaves running is ended", code == 1 and pid and not alive(pid[0]), output)
        missing = os.path.join(directory, "missing")
        code, output = run([missing])
        report("a suite that cannot be started fails", output.splitlines()[-1] == "0 passed, 1 failed" and code == 1,
               output)
    return 1 if failed else 0


sys.exit(main())
