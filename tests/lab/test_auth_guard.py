# Who guesses passwords waits longer each time and is locked out in the end, whatever he tries then; an operator lets him in
# again. (The counting itself is tests/unit/test_auth_guard.c's.)

import time

import lab
from authserver import AuthServer, b64

box = lab.Sandbox()
gateway = lab.Posternd(box.path("home"))
log = gateway.maillog()
server = AuthServer(None, "PLAIN", {"joe": "right"}, clear=True)
gateway.configure("smtpauthconfig set F kind=forward\n"
                  "smtpauthconfig edit F server set 127.0.0.1:%d require_tls=no\n"
                  "listenerconfig setup auth_failures_host=3 auth_failures_session=2 auth_lockout=1h\n"
                  "listenerconfig edit OutboundMail tls=preferred smtp_auth=F auth_needs_tls=no\n"
                  "listenerconfig edit OutboundMail hostaccess edit policy RELAYED auth=required auth_needs_tls=off\n"
                  % server.port)


def attempt(password, session=None):
    c = session or lab.Smtp(gateway.private, timeout=60)
    if not session:
        c.ehlo()
    begin = time.monotonic()
    reply = c.cmd("AUTH PLAIN " + b64("\0joe\0" + password))
    return c, reply[0], time.monotonic() - begin


@lab.test("failures wait, close the connection, lock the host out, and are told of; unlock lets it in again")
def guard():
    c, code, took = attempt("right")
    lab.equal((code, took < 1), (235, True))
    c.close()
    c, code, took = attempt("wrong 1")
    lab.equal((code, 1 <= took < 2), (535, True), "a second")
    c, code, took = attempt("wrong 2", c)
    lab.equal((code, 2 <= took < 3.5), (535, True), "two")
    lab.equal(c.at_eof(), True, "two failures end a connection")
    c, code, took = attempt("wrong 3")
    lab.equal(code, 535)
    c.close()
    asked = len(server.attempts)
    for password in ("wrong 4", "right"):
        c, code, took = attempt(password)
        lab.equal(code, 454, password)
        c.close()
    lab.equal(len(server.attempts), asked, "nobody was asked any more")
    lab.match("\n".join(a["text"] for a in gateway.json("displayalerts")["data"]["alerts"]),
              r"Possible brute force: 3 SMTP authentications from 127\.0\.0\.1 have failed, the last one for the user \"joe\"")
    lab.match(gateway.console("smtpauthconfig locked").stdout, r"127\.0\.0\.1 +3 +joe|127\.0\.0\.1.*joe")
    gateway.console("smtpauthconfig unlock 127.0.0.1")
    c, code, took = attempt("right")
    lab.equal(code, 235)
    c.close()


lab.main()
