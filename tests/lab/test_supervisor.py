# The parent and its engine as processes: users, rights, restarts, the end.

import os
import pwd
import signal
import socket
import stat
import subprocess
import time

import lab


def status(pid):
    """Fields of /proc/PID/status."""
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def system_log(gate):
    return lab.read_text(os.path.join(gate.home, "log/system_logs/system.current"))


def serving(gate, times=1):
    lab.eventually(lambda: system_log(gate).count(" Info: Postern ") >= times or _ended(gate), 60,
                   "the engine serves")
    lab.equal(gate.child.running(), True, "posternd runs")
    return gate


def _ended(gate):
    return not gate.child.running()


def start(home=None, times=1, **keywords):
    home = home or lab.Sandbox().path("home")
    gate = lab.Posternd(home, start=False, **keywords)
    gate.start(ready=False)
    return serving(gate, times)


def refused(home, *args):
    """posternd is expected to end at once; its status and what it said."""
    done = subprocess.run([lab.binary("posternd"), "--home", home, *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True)
    return done.returncode, done.stdout


@lab.test("a killed engine is started again, later each time, and the log says why")
def restarts():
    gate = start()
    seen = [gate.engine]
    for count in (1, 2, 3):
        os.kill(seen[-1], signal.SIGKILL)
        serving(gate, count + 1)
        lab.equal(gate.engine in seen, False, "another engine")
        seen.append(gate.engine)
    lab.match(system_log(gate), r"Critical: the engine before this one ended: killed by signal 9 \(Killed\); "
                                r"restarts so far: 3$")
    lab.match(lab.read_text(gate.log), r"restart 1 in 0\.2 s$")
    lab.match(lab.read_text(gate.log), r"restart 2 in 0\.4 s$")
    lab.match(lab.read_text(gate.log), r"restart 3 in 0\.8 s$")
    lab.equal(gate.stop(), 0, "exit status")


@lab.test("the engine dies with its parent")
def orphans():
    gate = start()
    engine = gate.engine
    gate.child.kill()
    lab.eventually(lambda: not os.path.exists("/proc/%d" % engine) or lab._is_zombie(engine), 10, "the engine is gone")
    again = start(gate.home, times=2) # the lock went with the parent
    lab.equal(again.stop(), 0, "exit status")


@lab.test("SIGTERM and Ctrl-C end both with status 0")
def ends():
    for number in (signal.SIGTERM, signal.SIGINT):
        gate = start()
        engine = gate.engine
        if number == signal.SIGINT:
            os.kill(engine, number) # as the terminal does: the whole group
        lab.equal(gate.child.stop(60, number), 0, "exit status")
        lab.equal(os.path.exists("/proc/%d" % engine), False, "the engine is left")
        lab.match(system_log(gate), r"Info: stopping$")
        lab.equal(lab.read_text(gate.home + "/run/posternd.pid"), "", "pid file")


@lab.test("the end: 421 between two commands, time to finish a message, then it is cut off")
def grace():
    gate = start()
    gate.console("suspenddel 0")
    idle, busy, stuck = [lab.Smtp(gate.private) for _ in range(3)]
    for session in (idle, busy, stuck):
        session.ehlo()
    for session in (busy, stuck):
        session.mail("a@example.com", "b@example.com")
        session.cmd("DATA", 354)
    os.kill(gate.pid, signal.SIGTERM)
    began = time.monotonic()
    idle.expect(421)
    busy.send("Subject: the last one\r\n\r\ntext\r\n.")
    busy.expect(250)
    lab.equal(gate.child.wait(60), 0, "exit status")
    took = time.monotonic() - began
    lab.equal(5 < took < 20, True, "%.1f s for the session that never ends" % took)
    lab.match(system_log(gate), r"Warning: \d+ sessions and deliveries are cut off")
    gate.start(ready=False)
    serving(gate, 2)
    lab.match(gate.console("showrecipients all").stdout, "b@example.com")
    gate.stop()


@lab.test("a second gateway on the same home is refused")
def one_per_home():
    gate = start()
    code, said = refused(gate.home)
    lab.equal(code, 1)
    lab.match(said, r"already running on %s \(pid %d\)" % (gate.home, gate.pid))
    lab.equal(gate.child.running(), True)
    lab.equal(lab.read_text(gate.home + "/run/posternd.pid"), "%d\n" % gate.pid)
    gate.stop()


@lab.test("the engine has no rights, new ones are forbidden, core dumps are off")
def rights():
    gate = start()
    fields = status(gate.engine)
    for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        lab.equal(int(fields[cap], 16), 0, cap)
    lab.equal(fields["NoNewPrivs"], "1", "NoNewPrivs")
    if "san" not in os.path.basename(lab.BUILD):
        lab.equal(fields["Seccomp"], "2", "Seccomp")
    with open("/proc/%d/limits" % gate.engine) as f:
        lab.match(f.read(), r"^Max core file size +0 +0 ")
    parent = status(gate.pid)
    allowed = (1 << 5) | (1 << 6) | (1 << 7) | (1 << 10) # kill, setgid, setuid, net_bind_service
    lab.equal(int(parent["CapEff"], 16) & ~allowed, 0, "the parent's rights")
    for name in ("", "log", "log/mail_logs"):
        mode = stat.S_IMODE(os.stat(os.path.join(gate.home, name)).st_mode)
        lab.equal(oct(mode), oct(0o700), name or "home")
    gate.stop()


@lab.test("started by root, the engine is somebody else and owns its home")
def unprivileged():
    lab.need_root()
    gate = start()
    uid = int(status(gate.engine)["Uid"].split()[0])
    lab.equal(uid == 0, False, "root")
    lab.equal(pwd.getpwuid(uid).pw_name in ("postern", "nobody"), True, pwd.getpwuid(uid).pw_name)
    lab.equal(os.stat(gate.home).st_uid, uid, "owner of the home")
    lab.equal(status(gate.engine)["Groups"].split(), [str(pwd.getpwuid(uid).pw_gid)], "groups")
    gate.stop()


@lab.test("a home of a user is served as that user")
def owner():
    lab.need_root()
    box = lab.Sandbox()
    home = box.mkdir("home")
    os.chown(home, 12345, 12346)
    gate = start(home)
    lab.equal(status(gate.engine)["Uid"].split(), ["12345"] * 4)
    lab.equal(status(gate.engine)["Gid"].split(), ["12346"] * 4)
    gate.stop()
    gate = start(box.path("other"), args=["--user", "daemon"])
    lab.equal(int(status(gate.engine)["Uid"].split()[0]), pwd.getpwnam("daemon").pw_uid)
    gate.stop()


@lab.test("where only root can reach the home, root's name stays and its rights go")
def unreachable():
    lab.need_root()
    box = lab.Sandbox()
    os.chmod(box.dir, 0o700)
    gate = start(box.path("home"))
    lab.equal(status(gate.engine)["Uid"].split()[0], "0")
    lab.equal(int(status(gate.engine)["CapEff"], 16), 0, "CapEff")
    lab.match(lab.read_text(gate.log), "no unprivileged user can reach " + box.dir)
    gate.stop()


@lab.test("nothing is inherited but the standard descriptors")
def descriptors():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    port = s.getsockname()[1]
    os.set_inheritable(s.fileno(), True)
    gate = lab.Posternd(lab.Sandbox().path("home"), start=False)
    gate.child = lab.Child([lab.binary("posternd"), "--home", gate.home], log=gate.log, env=gate.env,
                           close_fds=False)
    serving(gate)
    lab.equal(lab.listening(port), True)
    s.close()
    lab.equal(lab.listening(port), False, "parent or engine keep our socket open")
    gate.stop()


@lab.test("--daemon returns when the gateway serves")
def daemon():
    box = lab.Sandbox()
    gate = lab.Posternd(box.path("home"), start=False)
    done = lab.run([lab.binary("posternd"), "--home", gate.home, "--daemon"], env=gate.env)
    pid = int(lab.read_text(gate.home + "/run/posternd.pid"))

    def end():
        if os.path.exists("/proc/%d" % pid):
            os.kill(pid, signal.SIGTERM)
            lab.eventually(lambda: not os.path.exists("/proc/%d" % pid), 60, "posternd ends")

    lab.at_end(end)
    lab.equal(done.stdout, "", "output")
    lab.eventually(lambda: lab.match(system_log(gate), r"Info: Postern \S+ serves "))
    lab.equal(os.readlink("/proc/%d/fd/0" % pid), "/dev/null")
    lab.equal(os.readlink("/proc/%d/fd/2" % pid), gate.home + "/log/posternd.log")
    lab.equal(os.getsid(pid) == os.getsid(0), False, "our session")
    code, said = refused(gate.home, "--daemon")
    lab.equal(code, 1)
    lab.match(said, "already running")
    end()


@lab.test("--daemon shows why it cannot")
def daemon_fails():
    box = lab.Sandbox()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        for again in (False, True): # the second time the log is not empty
            done = lab.run([lab.binary("posternd"), "--home", box.path("home"), "--daemon"], check=False,
                           env=dict(os.environ, POSTERN_TEST_PORTS="%d,%d" % (port, lab.free_port())))
            lab.equal(done.returncode, 1)
            lab.equal(done.stderr.count("Port %d of 127.0.0.1 is in use" % port), 1, done.stderr)
            lab.match(done.stderr, "the engine could not start: exit status 1$")


@lab.test("what cannot work ends with a sentence, not with restarts")
def cannot_start():
    box = lab.Sandbox()
    path = box.write("file", "")
    code, said = refused(path)
    lab.equal(code, 1)
    lab.match(said, r"%s is not a directory" % path)
    os.makedirs(box.path("home/log"))
    if os.geteuid() == 0:
        os.chown(box.path("home"), 12345, 12345)
        os.chown(box.path("home/log"), 12346, 12346)
        os.chmod(box.path("home/log"), 0o700)
        began = time.monotonic()
        code, said = refused(box.path("home"))
        lab.equal(code, 1)
        lab.match(said, r"starting the logs: writing logs in .*home/log: Permission denied")
        lab.equal(time.monotonic() - began < 20, True, "at once")
    code, said = refused(box.path("x" * 150))
    lab.equal(code, 2)
    lab.match(said, "too long for a control socket")
    code, said = refused(box.path("home"), "--nonsense")
    lab.equal(code, 2)
    lab.match(said, "usage: posternd")
    code, said = refused(box.path("home"), "extra")
    lab.equal(code, 2)
    code, said = refused(box.path("home"), "--user", "no-such-user-here")
    lab.equal(code, 1)


lab.main()
