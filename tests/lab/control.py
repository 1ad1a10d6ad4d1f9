# A client of the control socket, for tests that need more than the console says.

import json
import os
import socket

import lab


class Control:
    def __init__(self, home, hello=True, **args):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(os.path.join(home, "run", "control"))
        self.file = self.socket.makefile("rb")
        self.number = 0
        self.notices = []
        if hello:
            self.hello = self.ok("hello", client="lab", **args)

    def send(self, op, **args):
        self.number += 1
        self.raw(json.dumps({"id": self.number, "op": op, "args": args}).encode() + b"\n")
        return self.number

    def raw(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next answer; notices on the way are kept. EOFError when the daemon is gone."""
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("the control connection ended")
            answer = json.loads(line)
            if "notice" not in answer:
                return answer
            self.notices.append(answer["notice"])

    def call(self, op, **args):
        """The whole envelope."""
        number = self.send(op, **args)
        answer = self.receive()
        lab.equal(answer["id"], number, op)
        return answer

    def ok(self, op, **args):
        """The data of an answer that must be good."""
        answer = self.call(op, **args)
        if not answer["ok"]:
            raise lab.Failure("%s: %s" % (op, answer["message"]))
        return answer["data"]

    def refused(self, code, op, **args):
        answer = self.call(op, **args)
        lab.equal((answer["ok"], answer.get("code")), (False, code), op)
        return answer

    def stage(self, section, name, body):
        return self.ok("config.stage", changes=[{"section": section, "name": name, "body": body}])

    def body(self, section, name, **args):
        return self.ok("config.get", section=section, name=name, **args)["body"]

    def close(self):
        self.file.close()
        self.socket.close()
