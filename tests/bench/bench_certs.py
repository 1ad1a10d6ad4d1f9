# Certificate profiles at size, through the console as people and scripts meet it: listing a thousand, importing a
# bundle of a hundred and fifty certificates. "name value unit goal"; the time of a console that does nothing is taken off.

import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import lab  # noqa: E402

SYSTEM = "/etc/ssl/certs/ca-certificates.crt"
rounds = 3 if "--short" in sys.argv or os.environ.get("BENCH_SHORT") else 9


def timed(function):
    at = time.monotonic()
    function()
    return (time.monotonic() - at) * 1000


def row(name, milliseconds, goal):
    print("%-44s %8.1f ms   <= %d" % (name, milliseconds, goal))


box = lab.Sandbox("postern-bench-")
gate = lab.Posternd(box.path("home"))
pair = lab.make_cert(box.path("pair"), "mail.example.com")
cert, key = (lab.read_text(p) for p in (pair.cert, pair.key))
one = 'certificate="%s" private_key="%s"\n' % (cert.replace("\n", "\\n"), key.replace("\n", "\\n"))
empty = statistics.median(timed(lambda: gate.console("version")) for _ in range(rounds))

row("1,000 certificate profiles, staged and committed",
    timed(lambda: gate.batch("".join("certconfig set p%03d %s" % (i, one) for i in range(1000)), args=("--commit",))), 5000)
row("list of 1,000 certificate profiles", statistics.median(timed(lambda: gate.console("certconfig certificate list"))
                                                            for _ in range(rounds)) - empty, 100)
gate.restart()
row("the same, first after a start", timed(lambda: gate.console("certconfig certificate list")) - empty, 500)

area = os.path.join(gate.home, "export")
owner = os.stat(os.path.join(gate.home, "config.db"))
os.mkdir(area, 0o700)
os.chown(area, owner.st_uid, owner.st_gid)
bundle = key + cert + "\n".join(lab.read_text(SYSTEM).split("\n\n"))
with open(os.path.join(area, "bundle.pem"), "w") as f:
    f.write(bundle)
row("import of a bundle of %d certificates" % bundle.count("BEGIN CERTIFICATE"),
    statistics.median(timed(lambda: gate.console("certconfig certificate import b bundle.pem")) for _ in range(rounds)) - empty, 500)
gate.stop()
