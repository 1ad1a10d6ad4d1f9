# "make run" and "make stop": the script behind them on a home of our own.

import os
import shutil

import lab


def script(*arguments):
    return lab.run([os.path.join(lab.ROOT, "tools/home"), *arguments], check=False, timeout=120,
                   env=dict(os.environ, POSTERN_TEST_PORTS="%d,%d" % (lab.free_port(), lab.free_port())))


def pid_of(home):
    return int(lab.read_text(home + "/run/posternd.pid") or 0)


@lab.test("start, start again, a newer program, stop, stop again")
def run_and_stop():
    box = lab.Sandbox()
    build = box.mkdir("build")
    home = box.path("home")
    for name in ("posternd", "postern"):
        if not os.path.exists(lab.binary(name)):
            lab.skip("%s is not built" % name)
        shutil.copy2(lab.binary(name), build)
    lab.at_end(lambda: script("stop", build, home))

    done = script("start", build, home)
    lab.equal(done.returncode, 0, done.stdout + done.stderr)
    first = pid_of(home)
    lab.match(done.stdout, r"^posternd started \(pid %d, home %s\)$" % (first, home))
    lab.match(done.stdout, r"^open the console with: %s/postern --home %s$" % (build, home))

    done = script("start", build, home)
    lab.match(done.stdout, r"^posternd is running \(pid %d, " % first)

    os.utime(build + "/posternd", (2e9, 2e9))
    done = script("start", build, home)
    lab.equal(done.returncode, 0, done.stdout + done.stderr)
    lab.match(done.stdout, r"^the program is newer than the running one: restarting$")
    second = pid_of(home)
    lab.equal(second in (0, first), False, "another process")

    done = script("stop", build, home)
    lab.equal((done.returncode, done.stdout), (0, "posternd stopped\n"))
    lab.equal(os.path.exists("/proc/%d" % second), False, "it is gone")
    done = script("stop", build, home)
    lab.equal((done.returncode, done.stdout), (0, "posternd is not running on %s\n" % home))


@lab.test("a stale pid file is no running gateway")
def stale():
    box = lab.Sandbox()
    box.write("home/run/posternd.pid", "%d\n" % os.getpid()) # alive, but not posternd
    done = script("stop", box.mkdir("build"), box.path("home"))
    lab.equal((done.returncode, done.stdout), (0, "posternd is not running on %s\n" % box.path("home")))
    lab.equal(done.stderr, "")


@lab.test("a gateway that cannot start is said so")
def broken():
    box = lab.Sandbox()
    if not os.path.exists(lab.binary("posternd")):
        lab.skip("posternd is not built")
    os.symlink(lab.binary("posternd"), box.mkdir("build") + "/posternd")
    home = box.write("file", "")
    done = script("start", box.path("build"), home)
    lab.equal(done.returncode, 1)
    lab.match(done.stderr, "is not a directory")


lab.main()
