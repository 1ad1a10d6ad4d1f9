#!/usr/bin/python3
# timeout: 600
# The configuration over the control socket of a real gateway: candidates, conflicts, kills, dozens of clients at once,
# roles, limits, and what goes wrong on the wire.

import json
import os
import random
import threading
import time

import lab
from control import Control

box = lab.Sandbox()
gate = lab.Posternd(box.path("home"))


def limit(control, name, value):
    """Stages one object; the body leaves out what keeps its default."""
    control.stage("destination", name, {"concurrency_limit": value})


@lab.test("a candidate is private until it is committed")
def private():
    a, b = Control(gate.home), Control(gate.home)
    limit(a, "private.example", 5)
    lab.equal(a.body("destination", "private.example")["concurrency_limit"], 5)
    lab.equal(b.body("destination", "private.example"), None)
    lab.equal(a.body("destination", "private.example", revision="running"), None)
    done = a.call("commit", comment="mine")
    lab.equal(done["data"]["new"], 1)
    lab.equal(done["changes"], 0)
    lab.equal(b.body("destination", "private.example")["concurrency_limit"], 5)
    lab.eventually(lambda: b.call("candidate.state") and b.notices, what="the other session is told")
    lab.match(b.notices[0], r"committed revision %d: mine" % done["data"]["revision"])
    lab.equal(a.ok("commit")["revision"], None, "nothing to commit")


@lab.test("a lost connection loses nothing; another login does not see it")
def detached():
    a = Control(gate.home)
    limit(a, "lost.example", 6)
    a.close()
    b = lab.eventually(lambda: (lambda c: c if c.hello["detached"] else c.close())(Control(gate.home)))
    lab.equal(len(b.hello["detached"]), 1)
    ident = b.hello["detached"][0]["id"]
    lab.equal(b.ok("candidate.attach", id=ident)["candidate"]["changes"], 1)
    lab.equal(b.body("destination", "lost.example")["concurrency_limit"], 6)
    c = Control(gate.home)
    lab.equal(c.hello["detached"], [])
    c.refused("E_BUSY", "candidate.attach", id=ident)
    b.ok("config.clear")
    b.close()
    d = Control(gate.home)
    lab.equal(d.hello["detached"], [])
    d.refused("E_NOT_FOUND", "candidate.attach", id=ident)


@lab.test("an anonymous candidate goes with its connection unless it is kept")
def anonymous():
    a = Control(gate.home)
    a.ok("candidate.anonymous")
    limit(a, "anonymous.example", 6)
    a.close()
    time.sleep(0.1)
    b = Control(gate.home)
    lab.equal(b.hello["detached"], [])
    b.ok("candidate.anonymous")
    limit(b, "kept.example", 6)
    kept = b.ok("candidate.keep")["candidate"]["id"]
    b.close()
    c = lab.eventually(lambda: (lambda c: c if c.hello["detached"] else c.close())(Control(gate.home)))
    lab.equal([d["id"] for d in c.hello["detached"]], [kept])
    c.ok("candidate.attach", id=kept)
    c.ok("config.clear")


@lab.test("disjoint edits merge, conflicts name the field and keep the candidate")
def conflicts():
    a, b = Control(gate.home), Control(gate.home)
    a.stage("destination", "both.example", {"use_tls": "on", "concurrency_limit": 1})
    a.ok("commit")
    a.stage("destination", "both.example", {"use_tls": "require", "concurrency_limit": 1})
    b.stage("destination", "both.example", {"use_tls": "on", "concurrency_limit": 9})
    b.ok("commit")
    lab.equal(a.call("candidate.state")["base"] < a.call("candidate.state")["head"], True, "base moved")
    lab.equal([m["field"] for m in a.ok("commit", check=True)["merged"]], ["concurrency_limit"])
    a.ok("commit")
    got = b.body("destination", "both.example")
    lab.equal((got["use_tls"], got["concurrency_limit"]), ("require", 9))

    for take, want in (("theirs", 3), ("mine", 2)):
        b.stage("destination", "both.example", dict(got, concurrency_limit=1))
        b.ok("commit")
        a.stage("destination", "both.example", dict(got, concurrency_limit=2))
        b.stage("destination", "both.example", dict(got, concurrency_limit=3))
        b.ok("commit")
        refused = a.refused("E_CONFLICT", "commit")
        conflict = refused["conflicts"][0]
        lab.equal([conflict[k] for k in ("section", "name", "field", "was", "theirs", "mine")],
                  ["destination", "both.example", "concurrency_limit", "1", "3", "2"])
        lab.equal(refused["changes"], 1)
        a.ok("config.resolve", section="destination", name="both.example", field="concurrency_limit", take=take)
        a.ok("commit")
        lab.equal(b.body("destination", "both.example")["concurrency_limit"], want)

    a.stage("destination", "both.example", dict(got, concurrency_limit=7))
    b.stage("destination", "both.example", None)
    b.ok("commit")
    conflict = a.refused("E_CONFLICT", "commit")["conflicts"][0]
    lab.equal([conflict["field"], conflict["theirs"], conflict["mine"]], [None, "deleted", "changed"])
    a.ok("config.resolve", section="destination", name="both.example", take="mine")
    a.ok("commit")
    lab.equal(b.body("destination", "both.example")["concurrency_limit"], 7)


@lab.test("write skew is caught: what one deletes, the other begins to use")
def write_skew():
    a, b = Control(gate.home), Control(gate.home)
    a.stage("bounce_profile", "Shared", {})
    a.ok("commit")
    a.stage("bounce_profile", "Shared", None)
    b.stage("destination", "user.example", {"bounce_profile": "Shared"})
    b.ok("commit")
    refused = a.refused("E_INVALID", "commit")
    lab.match(refused["message"], "Shared")
    lab.equal(refused["changes"], 1)
    a.ok("config.clear")


@lab.test("a plan is what was checked, or nothing")
def plans():
    a, b = Control(gate.home), Control(gate.home)
    limit(a, "plan.example", 1)
    plan = a.ok("commit", check=True)["plan"]
    limit(b, "other.example", 1)
    b.ok("commit")
    a.refused("E_CONFLICT", "commit", plan=plan)
    plan = a.ok("commit", check=True)["plan"]
    a.ok("commit", plan=plan)


@lab.test("going back is a new revision")
def rollback():
    a = Control(gate.home)
    limit(a, "back.example", 1)
    first = a.ok("commit", comment="one")["revision"]
    limit(a, "back.example", 2)
    a.stage("system", "-", {"hostname": "back.example.com"})
    a.ok("commit", comment="two", keep=False)
    lab.equal(a.ok("rollback", revision=first)["staged"], 2)
    done = a.ok("commit", comment="undo")
    lab.equal(a.body("destination", "back.example")["concurrency_limit"], 1)
    rows = a.ok("history", limit=3)["revisions"]
    lab.equal([(r["kind"], r["restores"], r["keep"]) for r in rows],
              [("rollback", first, True), ("commit", None, False), ("commit", None, True)])
    lab.equal(rows[0]["revision"], done["revision"])
    a.refused("E_NOT_FOUND", "rollback", revision=9999)


@lab.test("renaming takes children and references along")
def renaming():
    a = Control(gate.home)
    body = a.body("listener", "InboundMail")
    children = a.ok("config.list", section="mail_policy", owner="InboundMail")["total"]
    a.ok("config.stage", changes=[{"section": "listener", "name": "Incoming", "from": "InboundMail", "body": dict(body, name="Incoming")}])
    lab.equal(a.body("listener", "InboundMail"), None)
    lab.equal(a.ok("config.list", section="mail_policy", owner="Incoming")["total"], children)
    a.stage("bounce_profile", "Quick", {"max_retries": 3})
    a.stage("destination", "quick.example", {"bounce_profile": "Quick"})
    a.ok("config.stage", changes=[{"section": "bounce_profile", "name": "Fast", "from": "Quick", "body": {"max_retries": 3}}])
    lab.equal(a.body("destination", "quick.example")["bounce_profile"], "Fast")
    policy = a.body("mail_policy", "Incoming/TRUSTED")
    a.ok("config.stage", changes=[{"section": "mail_policy", "name": "Incoming/FRIENDS", "from": "Incoming/TRUSTED",
                                   "body": dict(policy, name="FRIENDS")}])
    lab.equal(a.body("sender_group", "Incoming/WHITELIST")["policy"], "FRIENDS")
    a.refused("E_EXISTS", "config.stage", changes=[{"section": "listener", "name": "OutboundMail", "from": "Incoming", "body": {}}])
    a.ok("commit", check=True)
    a.ok("config.clear")


@lab.test("a refused request stages none of its changes")
def all_or_nothing():
    a = Control(gate.home)
    answer = a.refused("E_INVALID", "config.stage", changes=[
        {"section": "destination", "name": "good.example", "body": {"use_tls": "on"}},
        {"section": "destination", "name": "bad.example", "body": {"use_tls": "quatsch"}}])
    lab.match(answer["message"], "use_tls")
    lab.equal(answer["changes"], 0)
    lab.equal(a.body("destination", "good.example"), None)
    a.refused("E_USAGE", "config.stage", changes=[{"section": "nope", "name": "x", "body": {}}])
    a.refused("E_USAGE", "config.stage", changes=[{"section": "destination", "name": "x.example"}])
    a.refused("E_USAGE", "config.stage", changes=5)
    a.refused("E_NOT_FOUND", "config.stage", changes=[{"section": "destination", "name": "none.example", "body": None}])
    busy = a.refused("E_INVALID", "config.stage", changes=[
        {"section": "listener", "name": "OutboundMail", "body": dict(a.body("listener", "OutboundMail"), port=gate.public)}])
    lab.equal(busy["errors"][0]["field"], "port")


@lab.test("a port in use is refused at the commit, and the candidate stays")
def port_in_use():
    import socket
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    a = Control(gate.home)
    a.stage("listener", "Third", {"address": "127.0.0.1", "port": taken.getsockname()[1]})
    refused = a.refused("E_BUSY", "commit")
    lab.match(refused["message"], str(taken.getsockname()[1]))
    lab.equal(refused["changes"], 1)
    taken.close()
    a.ok("commit")
    lab.eventually(lambda: lab.listening(a.body("listener", "Third")["port"]))
    a.stage("listener", "Third", None)
    a.ok("commit")


@lab.test("secrets leave only where an administrator asked")
def secrets():
    a = Control(gate.home)
    canary = "canary-%d" % random.getrandbits(60)
    body = a.body("certificate", "Demo")
    a.ok("config.stage", changes=[{"section": "certificate", "name": "canary", "body": {
        "certificate": body["certificate"], "private_key": {"$plain": canary}}}])
    a.send("commit")
    a.receive()
    seen = [json.dumps(a.call(*call[:1], **call[1])) for call in (
        ("config.get", dict(section="certificate", name="canary")),
        ("config.list", dict(section="certificate", bodies=True)),
        ("config.diff", dict()), ("config.diff", {"from": 1, "to": "running"}),
        ("config.export", dict()), ("config.export", dict(format="json")),
        ("config.export", dict(secrets="encrypt", passphrase="x")), ("history", dict()), ("session.who", dict()))]
    for text in seen:
        lab.equal(canary in text, False, text[:60])
    lab.equal(canary in a.ok("config.export", secrets="plain")["text"], True)
    a.ok("config.clear")
    for name in ("config.db", "audit.db"):
        with open(os.path.join(gate.home, name), "rb") as f:
            lab.equal(canary.encode() in f.read(), False, name)


@lab.test("what is no request is answered, and nothing breaks")
def bad_input():
    a = Control(gate.home)
    for line in (b"\n", b"{}\n", b"[]\n", b"nonsense\n", b"\xff\xfe\n", b'{"op":5}\n', b'{"op":"nope"}\n', b'{"op":"config.get"}\n',
                 b'{"op":"config.get","args":[]}\n', b"[" * 100000 + b"\n", b'{"op":"hello","args":{"peer":5}}\n'):
        a.raw(line)
        answer = a.receive()
        lab.equal("ok" in answer, True, line[:40])
    a.raw(b'{"op":"candidate.state"')
    time.sleep(0.05)
    a.raw(b',"id":7}\n{"op":"candidate.state","id":8}\n')
    lab.equal([a.receive()["id"], a.receive()["id"]], [7, 8], "halves and pairs of lines")
    huge = Control(gate.home)
    with lab.contextlib.suppress(OSError):
        huge.raw(b"x" * (9 << 20) + b"\n")
    with lab.contextlib.suppress(EOFError, OSError):
        lab.equal(huge.receive()["code"], "E_LIMIT")
    lab.equal(Control(gate.home).call("candidate.state")["ok"], True)


@lab.test("one account cannot take all connections")
def limits():
    clients = []
    code = None
    for _ in range(100):
        c = Control(gate.home, hello=False)
        c.send("hello")
        answer = c.receive()
        if not answer["ok"]:
            code = answer["code"]
            break
        clients.append(c)
    lab.equal(code, "E_LIMIT")
    for c in clients:
        c.close()
    lab.eventually(lambda: Control(gate.home))


@lab.test("roles: what is not allowed is denied and written down")
def roles():
    lab.need_root()
    gate2 = lab.Posternd(box.path("roles"))
    admin = Control(gate2.home)
    os.chmod(gate2.home, 0o755)
    os.chmod(os.path.join(gate2.home, "run", "control"), 0o666)

    def as_user(uid, what):
        """Runs what(control) as another user, in a process of its own; its result as JSON."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setgid(uid)
                os.setuid(uid)
                os.write(write, json.dumps(what(Control(gate2.home, hello=False))).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read, "rb") as f:
            text = f.read()
        lab.equal(os.waitpid(pid, 0)[1], 0, "the other user's process")
        return json.loads(text)

    daemon = 1
    denied = as_user(daemon, lambda c: c.receive())
    lab.equal(denied["code"], "E_DENIED")
    want = {"guest": ("E_DENIED", "E_DENIED", "E_DENIED"), "readonly": ("ok", "E_DENIED", "E_DENIED"),
            "operator": ("ok", "ok", "E_DENIED"), "administrator": ("ok", "ok", "ok")}
    for role, results in want.items():
        admin.stage("user", "daemon", {"role": role})
        admin.ok("commit")

        def tries(c):
            c.call("hello")
            answers = [c.call("config.get", section="system"),
                       c.call("config.stage", changes=[{"section": "destination", "name": "a.example", "body": {"use_tls": "on"}}]),
                       c.call("config.stage", changes=[{"section": "user", "name": "daemon", "body": {"role": "administrator"}}])]
            c.call("config.clear")
            return ["ok" if a["ok"] else a["code"] for a in answers]

        lab.equal(tuple(as_user(daemon, tries)), results, role)
    gate2.stop()
    rows = lab.run(["sqlite3", os.path.join(gate2.home, "audit.db"),
                    "SELECT actor,action,result FROM audit WHERE result='denied'"], check=False) if lab.which("sqlite3") else None
    if rows and rows.returncode == 0:
        lab.match(rows.stdout, r"daemon\|login\|denied")
        lab.match(rows.stdout, r"daemon\|config.stage\|denied")


@lab.test("the engine dies at each step of a commit: the old or the new revision, the candidate intact")
def kills():
    for place in ("in_stage", "before_prepare", "after_prepare", "in_write", "before_commit", "after_write", "after_publish"):
        gate.stop()
        gate.env["POSTERN_FAILPOINT"] = place
        gate.start()
        a = Control(gate.home)
        value = random.randrange(1, 1000)
        before = a.body("destination", "kill.example")
        try:
            limit(a, "kill.example", value)
            if place == "in_stage":
                raise lab.Failure("the engine did not die")
            a.ok("commit")
            raise lab.Failure("the engine did not die at %s" % place)
        except (EOFError, ConnectionError):
            pass
        gate.kill()
        del gate.env["POSTERN_FAILPOINT"]
        gate.start()
        b = Control(gate.home)
        committed = b.body("destination", "kill.example")
        detached = b.hello["detached"]
        if place in ("after_write", "after_publish"):
            lab.equal((committed["concurrency_limit"], detached), (value, []), place)
        else:
            lab.equal(committed, before, place)
            lab.equal(len(detached), 0 if place == "in_stage" else 1, place)
            if detached:
                b.ok("candidate.attach", id=detached[0]["id"])
                lab.equal(b.body("destination", "kill.example")["concurrency_limit"], value, place)
                b.ok("commit")
        b.close()


@lab.test("the engine killed at random under load loses no acknowledged commit")
def random_kills():
    rng = random.Random(int(os.environ.get("TEST_SEED", "1")))
    acknowledged = {}
    for round_ in range(5):
        stop = threading.Event()
        errors = []

        def work(me):
            try:
                c = Control(gate.home)
                while not stop.is_set():
                    name = "load%d.example" % me
                    value = rng.randrange(1, 1000)
                    pending[me] = value
                    limit(c, name, value)
                    if c.call("commit")["ok"]:
                        acknowledged[name] = value
            except (EOFError, OSError):
                pass
            except Exception as e:
                errors.append(e)

        pending = {}
        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        time.sleep(rng.uniform(0.1, 0.8))
        gate.kill_engine(ready=False)
        stop.set()
        for t in threads:
            t.join()
        if errors:
            raise errors[0]
        gate.wait_ready()
        c = Control(gate.home)
        for i in range(6):
            name = "load%d.example" % i
            body = c.body("destination", name, revision="running")
            value = body and body["concurrency_limit"]
            lab.equal(value in (acknowledged.get(name), pending.get(i)), True,
                      "%s: %r, acknowledged %r, pending %r" % (name, value, acknowledged.get(name), pending.get(i)))
            acknowledged[name] = value
        for d in Control(gate.home).hello["detached"]:
            c.ok("candidate.attach", id=d["id"])
            c.ok("config.clear")
        c.close()


@lab.test("thirty clients at once leave what a model says")
def model():
    """Every client stages a few fields of a few objects and commits. What a commit reports as done is replayed in the order
    of the revisions onto a model; a conflict must be one by the model too."""
    rng = random.Random(7)
    clients, rounds, objects = 30, 8, 8
    lock = threading.Lock()
    commits = {}  # revision -> {(name, field): value}
    failures = []
    start = Control(gate.home)
    fields = ("concurrency_limit", "max_messages_per_connection")
    for i in range(objects):
        limit(start, "model%d.example" % i, 1)
    start.ok("commit")
    plans = [[(rng.randrange(objects), rng.choice(fields), rng.randrange(2, 900), rng.random() < 0.3) for _ in range(rounds)]
             for _ in range(clients)]

    def work(me):
        try:
            c = Control(gate.home)
            staged = {}
            for obj, field, value, hold in plans[me]:
                name = "model%d.example" % obj
                body = c.body("destination", name)
                body[field] = value
                c.stage("destination", name, body)
                staged[(name, field)] = value
                if hold:
                    continue
                answer = c.call("commit")
                if answer["ok"]:
                    with lock:
                        commits[answer["data"]["revision"]] = dict(staged)
                elif answer["code"] == "E_CONFLICT":
                    c.ok("config.clear")
                else:
                    raise lab.Failure(answer["message"])
                staged = {}
            c.ok("config.clear")
            c.close()
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]
    want = {}
    for revision in sorted(r for r in commits if r):
        want.update(commits[revision])
    for (name, field), value in want.items():
        lab.equal(start.body("destination", name)[field], value, "%s %s" % (name, field))
    revisions = [r for r in commits if r]
    lab.equal(len(revisions), len(set(revisions)), "each commit has a revision of its own")
    lab.note("%d commits" % len(revisions))
    lab.equal(len(revisions) > clients, True, "enough of them went through")


@lab.test("the CLI audit log names who did what, and no values")
def cli_log():
    a = Control(gate.home)
    canary = "canary%d" % random.getrandbits(40)
    a.stage("destination", "logged.example", {"use_tls": "on"})
    a.ok("file.write", name="logged", text=canary)
    a.ok("config.clear")
    path = os.path.join(gate.home, "log", "cli_logs")
    text = lab.eventually(lambda: (lambda t: t if "config.clear" in t.partition("logged.example")[2] else None)(
        "".join(lab.read_text(os.path.join(path, name)) for name in sorted(os.listdir(path)))))
    lab.match(text, r"Info: PID %d: User %s from local, session %d: config\.stage destination/logged\.example ok"
              % (os.getpid(), a.hello["user"], a.hello["session"]))
    lab.equal(canary in text, False)


@lab.test("a restart keeps all of it")
def restart():
    a = Control(gate.home)
    text = a.ok("config.export", revision="running")["text"]
    head = a.call("candidate.state")["head"]
    gate.restart()
    b = Control(gate.home)
    lab.equal(b.ok("config.export", revision="running")["text"], text)
    lab.equal(b.call("candidate.state")["head"], head)
    lab.equal(b.ok("config.import", text=text, mode="replace"), {"new": 0, "changed": 0, "deleted": 0})


lab.main()
