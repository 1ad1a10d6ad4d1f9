#!/usr/bin/python3
# timeout: 300
# Directories, queries and SMTP Auth profiles as an administrator makes them: at the questions, with a real slapd.

import json
import os
import re
import smtplib
import ssl
import time

import lab
import slapd
import terminal

BOX = lab.Sandbox()
DIRECTORY = slapd.Slapd(BOX)
DIRECTORY.user("alice", "wonderland", mail="alice@example.com")
DIRECTORY.user("cara", "card", caccn="Cara Card", cacserial="0A1B")
DIRECTORY.user("evan", "exempt", caccn="Evan Exempt", cacserial="0C", cacexempt="yes")
DIRECTORY.user("emma", "emergency", caccn="Emma", cacserial="0D", cacemergency=slapd.generalized_time(3600))
DIRECTORY.user("late", "emergency", caccn="Late", cacserial="0E", cacemergency=slapd.generalized_time(-3600))
HOST = "127.0.0.1:%d" % DIRECTORY.port
ALLOWANCE = "(&(uid={u})(|(!(caccn=*))(cacexempt=*)(cacemergency>={t})))"
BATCH = """
ldapconfig new Corp hosts=%s base="dc=example,dc=com" auth=password bind_dn="%s" bind_password=%s server_type=openldap
ldapconfig query new Corp.smtpauth server=Corp filter="(uid={u})" allowance="%s"
ldapconfig query new Corp.certauth server=Corp kind=certauth filter="(&(caccn={cn})(cacserial={sn}))" fields="cn, sn"
""" % (HOST, slapd.SERVICE_DN, slapd.SERVICE_PASSWORD, ALLOWANCE)
number = 0


def gateway(text=""):
    """A gateway of its own, whose bundle of authorities is that of the directory."""
    global number
    number += 1
    gate = lab.Posternd(BOX.path("home%d" % number), env={"SSL_CERT_FILE": DIRECTORY.ca})
    gate.configure("sethostname gw.example.com\n" + text)
    return gate


ASKED = r"[^>]*?(?:> |looked for\): )" # the end of a question, whose beginning stands before it


def answer(t, line):
    question, _, typed = line.strip().partition("|")
    secret = "bind passphrase:" in question # not in brackets, nor is it seen
    seen = t.until(re.escape(question.strip()) + (" " if secret else ASKED), 30)
    t.type(typed.strip())
    return seen


def talk(t, script):
    """Lines "beginning of the question | answer"; all that came, to the next prompt."""
    seen = "".join(answer(t, line) for line in script.strip().splitlines())
    return seen + t.until(r"\n(?:\* )?gw\.example\.com> |\n\[\]> ", 30)


def login(gate, user, password):
    """(code of AUTH, code of MAIL or the text) as a mail client tries it, over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", gate.private, timeout=30) as client:
        client.ehlo("client.example.com")
        lab.equal(client.has_extn("auth"), False, "AUTH before TLS")
        client.starttls(context=context)
        client.ehlo("client.example.com")
        client.user, client.password = user, password
        try:
            code, _ = client.auth("PLAIN", client.auth_plain)
        except smtplib.SMTPAuthenticationError as e:
            return e.smtp_code, e.smtp_error.decode().split(" ", 1)[-1] if e.smtp_error[:1].isdigit() else e.smtp_error.decode()
        return code, client.mail("%s@example.com" % user)[0]


def shows(text, *patterns):
    for p in patterns:
        lab.match(text, p)


@lab.test("an administrator makes a server, its queries and a profile at the questions, tries each, and commits")
def by_questions():
    gate = gateway()
    t = terminal.console(gate, columns=300)
    t.type("ldapconfig")
    seen = talk(t, """
        Choose the operation | new
        Please create a name for this server configuration | PublicLDAP
        Please enter the hostname | %s
        How shall the connection to the LDAP server be secured? | 2
        verify the certificate of the LDAP server? |
        Select the authentication method | 2
        Please enter the bind username | %s
        Please enter the bind passphrase: | wrong
        Connect to LDAP server to validate setting? |
        Select the server type | 2
        Please enter the port number | 389
        Please enter the base | dc=example,dc=com
        Connect to LDAP server to validate setting? | n
    """ % (HOST, slapd.SERVICE_DN))
    shows(seen, r"Connecting to the LDAP server, please wait\.\.\.", r"Error: LDAP authentication failed.*invalidCredentials",
          r"Name: PublicLDAP\nHostname: %s Port 389\nSecurity: StartTLS, server certificate verified\nServer Type: OpenLDAP\n" % HOST)
    t.type("server")
    seen = talk(t, """
        Please create a name for this server configuration |
        Please enter the hostname |
        How shall the connection to the LDAP server be secured? |
        verify the certificate of the LDAP server? |
        Select the authentication method |
        Please enter the bind username |
        Please enter the bind passphrase: (Enter keeps the one there is) | %s
        Connect to LDAP server to validate setting? |
        Select the server type |
        Please enter the port number |
        Please enter the base |
    """ % slapd.SERVICE_PASSWORD)
    shows(seen, r"Connected to %s with StartTLS, bound as cn=gateway,dc=example,dc=com\." % HOST)
    t.type("limits") # the passphrase of before stays what it is
    talk(t, """
        Enter the time a connection may take | 6s
        Enter the time a query may take |
        Enter the maximum number of simultaneous connections |
    """)
    shows(t.ask("test", r"\n\[\]> "), r"Connected to %s with StartTLS, bound as cn=gateway,dc=example,dc=com\." % HOST)
    t.type("smtpauth")
    seen = talk(t, """
        Please create a name for this query |
        Enter the query string | (uid={u})
        Choose the authentication method | 1
        Please enter the allowance query string | %s
        Do you want to test this query? |
        User identity to use in query | alice
        Passphrase to use in query | wonderland
    """ % ALLOWANCE)
    shows(seen, r"LDAP query test results:\nQuery: +PublicLDAP\.smtpauth\nArgument: +alice\nHost: +%s\nBase: +dc=example,dc=com\nFilter: +\(uid=alice\)\n"
          r"DN: +uid=alice,ou=people,dc=example,dc=com\nResult: +match\n" % HOST,
          r"Query: +PublicLDAP\.smtpauth \(allowance query string\)\n", r"Verdict: +accept\n\nLDAP query test finished\.\n",
          r"Query \"PublicLDAP\.smtpauth\" created\.")
    t.type("certauth")
    seen = talk(t, """
        Please create a name for this query |
        Enter the certificate fields to use |
        Enter the query string: | (&(caccn={cn})(cacserial={sn}))
        Enter the user ID attribute |
        Do you want to test this query? |
        Certificate to use in query | 1
        Enter the common name: | Cara Card
        Enter the serial number, in hexadecimal: | 0A1B
    """)
    shows(seen, r"Filter: +\(&\(caccn=Cara Card\)\(cacserial=0A1B\)\)\n", r"User: +cara\n", r"Verdict: +accept\n")
    t.ask("")
    t.ask("", r"com> ")
    t.type("smtpauthconfig")
    talk(t, """
        Choose the operation | new
        Choose the type of profile | ldap
        Enter a name for this profile | users
        Select the SMTP authentication LDAP query to use |
        check with LDAP whether the user is allowed | y
        Select what happens to users who are not allowed | 2
        Enter the SMTP AUTH code | 525
        Enter the custom SMTP AUTH response | Dear user, please use your CAC to send email.
    """)
    t.type("new")
    talk(t, """
        Choose the type of profile | certificate
        Enter a name for this profile | cac
        Select the certificate authentication LDAP query to use |
        Allow the SMTP AUTH command if a client certificate is not available? | y
        Select the SMTP Auth LDAP profile to use | users
    """)
    t.ask("", r"com> ")
    t.ask("listenerconfig edit OutboundMail smtp_auth=cac", r"com> ")
    t.ask("listenerconfig edit OutboundMail hostaccess edit policy RELAYED tls=preferred auth=required auth_needs_tls=on", r"com> ")
    t.type("commit \"who may send\" Y")
    shows(t.until(r"com> "), r"Changes committed: ")
    lab.equal(t.leave(), 0, "exit status")
    shows(gate.console("showconfig").stdout, r"ldapconfig (?:new|set) PublicLDAP .*bind_password=", r"smtpauthconfig (?:new|set) cac ")
    lab.equal(slapd.SERVICE_PASSWORD in gate.console("showconfig").stdout, False, "the passphrase is shown")
    lab.equal(login(gate, "alice", "wonderland"), (235, 250), "a user who may")
    lab.equal(login(gate, "alice", "looking-glass")[0], 535, "a wrong passphrase")
    lab.equal(login(gate, "cara", "card"), (525, "Dear user, please use your CAC to send email."), "one with a card")


@lab.test("Ctrl-C while a silent directory is tried: the console goes on, and nothing is staged")
def interrupted():
    gate = gateway()
    t = terminal.console(gate)
    DIRECTORY.freeze()
    try:
        t.type("ldapconfig")
        for line in """
            Choose the operation | new
            Please create a name for this server configuration | Silent
            Please enter the hostname | HOST
            How shall the connection to the LDAP server be secured? | 1
            Select the authentication method | 1
            Connect to LDAP server to validate setting? |
        """.strip().replace("HOST", HOST).splitlines():
            answer(t, line)
        t.until(r"please wait\.\.\.\n")
        time.sleep(0.3)
        began = time.monotonic()
        t.type("\x03", enter=False)
        t.until(r"com> ")
        assert time.monotonic() - began < 4, "Ctrl-C took %.1f s" % (time.monotonic() - began)
    finally:
        DIRECTORY.thaw()
    shows(t.ask("showchanges", r"com> "), r"There are no changes\.")
    shows(t.ask("ldapconfig list", r"com> "), r"There are no LDAP server configurations\.")
    lab.equal(t.leave(), 0, "exit status")


@lab.test("ldaptest from a script: the exit code is the answer, and secrets come in by the standard input")
def from_scripts():
    gate = gateway(BATCH)

    def test(line, stdin=None):
        done = lab.run([lab.binary("postern"), "--home", gate.home, *line.split("|")], input=stdin, check=False)
        return done.returncode, done.stdout + done.stderr

    for who, code, expected in (("alice", 0, r"Verdict: +accept\n"), ("cara", 1, r"(?s)Reason: .*may not use SMTP AUTH.*Verdict: +reject\n"),
                                ("evan", 0, r"Verdict: +accept\n"), ("emma", 0, r"Verdict: +accept\n"), ("late", 1, r"Verdict: +reject\n"),
                                ("nobody", 1, r"Result: +no match\n"), ("*", 1, r"(?s)Filter: +\(uid=\\2a\)\n.*Verdict: +reject\n")):
        status, text = test("ldaptest|Corp.smtpauth|user=%s" % who)
        lab.match(text, expected, who)
        lab.equal(status, code, "exit code for %s" % who)
    lab.equal(test("ldaptest|Corp.smtpauth|user=alice|pass_phrase=-", "wonderland\n")[0], 0, "the right passphrase")
    status, text = test("ldaptest|Corp.smtpauth|user=alice|pass_phrase=-", "looking-glass\n")
    lab.equal(status, 1, "a wrong passphrase")
    lab.equal("looking-glass" in text, False, "the passphrase is printed")
    status, text = test("ldaptest|Corp.smtpauth|user=alice|pass_phrase=wonderland")
    lab.match(text, r"A secret cannot be given on the command line")
    lab.equal(status, 2)
    for values, code in (("cn=Cara Card|sn=0A1B", 0), ("cn=Cara Card|sn=0A1C", 1), ("cn=*|sn=*", 1)):
        lab.equal(test("ldaptest|Corp.certauth|" + values)[0], code, values)
    lab.match(test("ldaptest|Corp.certauth")[1], r"Say whose certificate")
    lab.match(test("ldaptest|Corp.certauth|certificate=NoSuch")[1], r"There is no certificate profile \"NoSuch\"")
    lab.equal(test("ldaptest|Nothing|user=x")[0] in (2, 7), True, "no such query")
    lab.match(test("ldaptest")[1], r"A value is missing: query")
    status, text = test("ldaptest|Corp.smtpauth|user=cara|--json")
    lines = [json.loads(line) for line in text.splitlines()]
    lab.equal([x["data"]["result"] for x in lines if x.get("more")], ["match", "no match"])
    lab.equal((lines[-1]["data"]["verdict"], lines[-1]["ok"], status), ("reject", False, 1))
    for where, _, files in os.walk(gate.home):
        for name in files:
            path = os.path.join(where, name)
            if os.path.isfile(path):
                lab.equal("looking-glass" in lab.read_text(path), False, "the passphrase is in %s" % path)


@lab.test("lines of scripts: the menus by words, the uniform verbs, profiles in one line")
def lines():
    gate = gateway('ldapconfig new Corp hosts=%s base="dc=example,dc=com" security=starttls\n' % HOST)

    def run(line, code=0):
        done = gate.console(line, check=False)
        lab.equal((line, done.returncode), (line, code), done.stdout + done.stderr)
        return done.stdout + done.stderr

    run('ldapconfig edit Corp smtpauth filter="(uid={u})"; commit -y')
    run('ldapconfig edit Corp smtpauth new name=Corp.mail filter="(mail={a})"; commit -y')
    run('ldapconfig edit Corp smtpauth edit Corp.mail base="ou=people,dc=example,dc=com"; commit -y')
    lab.match(run("ldapconfig query print Corp.mail"), r"Query String: \(mail=\{a\}\)\nBase: ou=people,dc=example,dc=com\n")
    lab.match(run("ldapconfig edit Corp test"), r"Connected to %s with StartTLS, bound anonymously\." % HOST)
    run("ldapconfig edit Corp test Corp.smtpauth user=alice")
    run("ldapconfig edit Corp smtpauth test query=Corp.smtpauth user=nobody", 1)
    run("ldapconfig edit Corp smtpauth test Corp.nothing user=nobody", 2)
    run("ldapconfig edit Corp smtpauth test query=Corp.nothing user=nobody", 7)
    lab.match(run("ldapconfig edit Corp certauth test", 7), "no such query")
    lab.match(run("smtpauthconfig new certificate cac", 7), "There is no certificate authentication query yet")
    lab.match(run("smtpauthconfig new kind=outgoing name=out", 2), "A value is missing: username")
    run('smtpauthconfig new ldap users Corp.smtpauth y reject 525 "go away"; commit -y')
    lab.equal(gate.json("smtpauthconfig print users")["data"],
              {"name": "users", "kind": "ldap", "query": "Corp.smtpauth", "check_allowed": True, "refused": "reject",
               "refused_code": 525, "refused_text": "go away", "mechanisms": ["plain", "login", "scram-sha-256"]})
    lab.match(run("ldapconfig edit Corp smtpauth delete Corp.smtpauth", 3), r"is used by smtpauthconfig users \(query\)")
    run("ldapconfig edit Corp smtpauth delete Corp.mail; commit -y")
    lab.equal([e["name"] for e in gate.json("ldapconfig query list")["data"]["entries"]], ["Corp.smtpauth"])
    done = lab.run([lab.binary("postern"), "--home", gate.home, "ldapconfig", "edit", "Corp", "server", "auth=password",
                    "bind_dn=" + slapd.SERVICE_DN, "bind_password=-"], input=slapd.SERVICE_PASSWORD + "\n", check=False)
    number = lab.match(done.stdout + done.stderr, r"candidate=(\d+)").group(1)
    run("commit candidate=%s -y" % number)
    lab.match(run("ldapconfig edit Corp test"), "bound as " + slapd.SERVICE_DN)


@lab.test("uncommitted changes are what is tried; the state of the servers and their cache can be seen")
def tried():
    gate = gateway(BATCH)
    t = terminal.console(gate, columns=200)
    t.ask("ldapconfig query edit Corp.smtpauth filter=\"(mail={a})\" allowance=\"\"", r"com> ")
    shows(t.ask("ldaptest Corp.smtpauth user=alice@example.com", r"com> |looked for\): "), r"Passphrase to use in query")
    t.type("")
    shows(t.until(r"com> "), r"Filter: +\(mail=alice@example\.com\)\n", r"Verdict: +accept\n")
    shows(t.ask("ldapstatus", r"com> "), r"Server +Host +State +", r"Corp +%s +" % HOST, r"Cache of Corp: [\d,]+ of 10,000 entries")
    shows(t.ask("ldapflush Corp", r"com> "), r"\d+ cached LDAP answers? (?:was|were) forgotten\.")
    shows(t.ask("ldapflush Nobody", r"com> "), r"There is no LDAP server configuration \"Nobody\"")
    t.ask("clearchanges", r"\[Y\]> ")
    t.ask("", r"com> ")
    lab.equal(t.leave(), 0, "exit status")


@lab.test("a new name of a server goes to its queries; what is used is not deleted, and it is said by whom")
def names():
    gate = gateway(BATCH + "smtpauthconfig new users kind=ldap query=Corp.smtpauth\n")
    gate.configure("ldapconfig edit Corp name=Head\n")
    lab.match(gate.console("ldapconfig query print Corp.smtpauth").stdout, r"Server: Head\n")
    t = terminal.console(gate, columns=200)
    t.ask("ldapconfig", r"\[\]> ")
    t.ask("delete", r"\[\]> ")
    shows(t.ask("Head", r"\[\]> "), r"The LDAP query Corp\.smtpauth is used by smtpauthconfig users \(query\); choose another one there first")
    t.ask("", r"com> ")
    t.ask("smtpauthconfig delete users", r"com> ")
    shows(t.ask("ldapconfig delete Head --yes", r"com> ") + "", r"com> ")
    lab.equal(t.leave(), 0, "exit status")
    done = gate.console("ldapconfig delete Head; commit -y", check=False)
    lab.match(done.stdout + done.stderr, r"is to be deleted but is used by ldapconfig query Corp\.certauth \(server\)")


@lab.test("a host that has guessed too often is shown, and let in again by the console")
def locked_out():
    gate = gateway(BATCH + "smtpauthconfig new users kind=ldap query=Corp.smtpauth\n"
                   "listenerconfig setup auth_failures_host=2\nlistenerconfig edit OutboundMail smtp_auth=users\n"
                   "listenerconfig edit OutboundMail hostaccess edit policy RELAYED tls=preferred auth=required\n")
    lab.match(gate.console("smtpauthconfig locked").stdout, r"No host is locked out\.")
    for _ in range(3):
        last = login(gate, "alice", "wrong")[0]
    lab.equal(last, 454, "after two failures")
    lab.match(gate.console("smtpauthconfig locked").stdout, r"Address +Failures +Last User +Locked For\n=.*\n127\.0\.0\.1 +\d+ +alice +\d+ ")
    lab.equal(gate.json("smtpauthconfig locked")["data"]["hosts"][0]["user"], "alice")
    t = terminal.console(gate)
    shows(t.ask("smtpauthconfig unlock 192.0.2.7", r"com> "), r"192\.0\.2\.7 is not locked out\.")
    shows(t.ask("smtpauthconfig unlock 127.0.0.1", r"com> "), r"127\.0\.0\.1 was unlocked\.")
    lab.equal(t.leave(), 0, "exit status")
    lab.equal(login(gate, "alice", "wonderland"), (235, 250), "unlocked")


@lab.test("on a narrow terminal no line is longer than it")
def narrow():
    gate = gateway(BATCH)
    t = terminal.console(gate, columns=60)
    for command in ("ldapconfig edit Corp", "ldapstatus", "smtpauthconfig print", "ldaptest Corp.certauth cn=Nobody"):
        seen = t.ask(command, r"com> |\[\]> ")
        long = [line for line in seen.splitlines() if len(line) > 60]
        lab.equal(long, [], "too long after \"%s\"" % command)
        if seen.endswith("[]> "):
            t.ask("", r"com> ")
    lab.equal(t.leave(), 0, "exit status")


lab.main()
