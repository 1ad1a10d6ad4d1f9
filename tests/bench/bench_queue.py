# The cost of a queue by its size: 1,000 messages to 1,000,000 (short: to 100,000). One column a size; what should not
# depend on the size should be the same in all of them. Mail is accepted and delivered all the while; the row "slowest
# acceptance" is the longest any message waited for its 250 during the operations above it.

import json
import os
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import lab  # noqa: E402
import page  # noqa: E402

short = "--short" in sys.argv or os.environ.get("BENCH_SHORT")
sizes = [int(a) for a in sys.argv[1:] if a.isdigit()] or ([1000, 10000, 100000] if short else [1000, 10000, 100000, 1000000])


def rss(pid):
    for line in lab.read_text("/proc/%d/status" % pid).splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def timed(function):
    at = time.monotonic()
    result = function()
    return time.monotonic() - at, result


class Mail:
    """One sender whose mail goes through all the time, and how long its slowest message took."""

    def __init__(self, gate):
        self.gate, self.slowest, self.count, self.stop = gate, 0.0, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        self.thread.join()

    def run(self):
        message = lab.make_message("live", 400, "plain")
        with lab.Smtp(self.gate.private, timeout=300) as c:
            c.ehlo()
            while not self.stop.is_set():
                took, _ = timed(lambda: (c.mail("live@client.bench.example", ["live@live.example"]), c.data(message)))
                self.slowest = max(self.slowest, took)
                self.count += 1
                time.sleep(0.002)
            c.quit()


def measure(size):
    box = lab.Sandbox("postern-bench-")
    sink = lab.Sink()
    gate = lab.Posternd(box.path("home"))
    gate.configure("sethostname gw.bench.example\nsmtproutes new live.example 127.0.0.1:%d\n"
                   "smtproutes new bounce.example 127.0.0.1:%d\nsmtproutes new .bench.example 127.0.0.1:%d\n"
                   % (sink.port, sink.port, lab.free_port()))
    empty = rss(gate.engine)
    owner = os.stat(os.path.join(gate.home, "queue.db"))
    gate.stop()
    domains = max(10, min(10000, size // 100))
    lab.run([lab.tool("bench_queue_fill"), "--home", gate.home, "--messages", str(size), "--domains", str(domains)], timeout=600)
    for where, folders, files in os.walk(gate.home):
        for name in folders + files:
            os.chown(os.path.join(where, name), owner.st_uid, owner.st_gid)
    out = {}
    console = min(timed(lambda: lab.run([lab.binary("postern"), "version"], check=False))[0] for _ in range(3))
    out["start to first answer, s"] = timed(lambda: gate.start(timeout=300))[0]
    # less than nothing, which is shown as "-": too few to be seen beside what else comes and goes
    out["memory of a queued message, bytes"] = (rss(gate.engine) - empty) / size
    out["acceptance, messages a second"] = load(gate, 3000)
    out["first page of all, ms"] = 1000 * timed(lambda: gate.console("showrecipients all limit=100"))[0]
    out["showrecipients by host, us a message"] = 1e6 * timed(lambda: gate.json("showrecipients host d7.bench.example"))[0] / size
    with Mail(gate) as mail:
        def during(name, function, per=lambda done: 1000.0):
            """A row for what it takes, and what the slowest message waited meanwhile."""
            mail.slowest = 0.0
            seconds, done = timed(function)
            out[name] = seconds * per(done)
            time.sleep(0.3)
            waits.append((mail.slowest * 1000, name))
            return done

        waits, each = [], lambda done: 1e6 / max(done, 1)
        during("nothing for three seconds, s", lambda: time.sleep(3), lambda done: 1)
        during("status detail, ms", lambda: gate.console("status detail"))
        during("hoststatus, ms", lambda: gate.console("hoststatus d7.bench.example"))
        during("delivernow of a host, ms", lambda: gate.console("delivernow domain d7.bench.example"))
        during("delete one by MID, ms", lambda: gate.console("removemessage %d" % (1000000 + size // 2)))
        done = during("delete by sender, us a message queued", lambda: operation(gate, "deleterecipients sender s3@client.bench.example"),
                      lambda done: 1e6 / size)
        lab.equal(abs(done - size // 100) <= 1, True)
        during("delete by host, us a message queued", lambda: operation(gate, "deleterecipients host d8.bench.example"), lambda done: 1e6 / size)
        during("bounce, us a message", lambda: operation(gate, "bouncerecipients sender s5@client.bench.example"), each)
        during("redirect all, us a message", lambda: operation(gate, "redirectrecipients host 127.0.0.1:%d" % lab.free_port()), each)
        gate.console("suspenddel 0; resumedel")
        during("delete all, us a message", lambda: operation(gate, "deleterecipients all"), each)
    lab.note("%d queued: the slowest message waited %s" % (size, ", ".join("%.0f ms (%s)" % (w, n.split(",")[0]) for w, n in waits)))
    out["slowest acceptance meanwhile, ms"] = max(w for w, _ in waits)
    out["live messages meanwhile"] = mail.count
    gate.stop()
    sink.stop()
    shutil.rmtree(gate.home)
    return out


def load(gate, count):
    done = lab.run([lab.tool("smtp_load"), "--to", "127.0.0.1:%d" % gate.private, "--sessions", "20", "--messages", str(count),
                    "--size", "1024"], timeout=300)
    return json.loads(done.stdout)["rate"]


def operation(gate, command):
    done = lab.run([lab.binary("postern"), "--home", gate.home, "--json", "-c", command], timeout=900)
    return json.loads(done.stdout)["data"]["messages"]


columns = [measure(size) for size in sizes]
rows = [("queued messages", *["{:,}".format(size) for size in sizes])]
rows += [(name, *["%.*f" % (2 if c[name] < 100 else 0, c[name]) if c[name] >= 0 else "-" for c in columns]) for name in columns[0]]
for name, *cells in rows:
    print("%-42s" % name + "".join("%12s" % text for text in cells))
if os.environ.get("PAGE"): # doc/performance.md
    page.replace(os.environ["PAGE"], "queue", page.table(rows[0], rows[1:]))
