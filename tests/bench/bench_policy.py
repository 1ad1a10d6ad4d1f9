# What DANE and MTA-STS cost on the default destination entry once their caches are warm.
#
#     bench_policy.py [MESSAGES] [ROUNDS]
#
# Two gateways relay by the DNS to the same sink, over TLS: one with TLS Preferred alone, one with DANE and MTA-STS as well,
# to a domain that has both (DANE decides; the policy is looked up all the same) and to one that has a policy only. They take
# turns within each round, so that a disturbance of the machine meets both. CPU is that of the gateway's processes, the lowest
# of the rounds: what disturbs only adds. The goal is a cost of less than 5 %; the exit status tells. Needs root (ports 25 and
# 443), NSD and ldns. The last line is the cost of the records of attempts (tlsexplain), which may be 3 %.

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))

import dnstree
import lab
import policyweb
from mxhosts import Server, tlsa

GOAL = 1.05
RECORDS_GOAL = 3.0 # per cent
SIZE, SESSIONS, EACH = 4096, 20, 20
DOMAIN = "d0.bench.example" # smtp_load's


class Gateway(lab.Posternd):
    def __init__(self, box, name, tree, web, sink, default):
        super().__init__(box.path(name), start=False)
        self.sink = sink
        tree.attach(self)
        self.configure(web.statements() + "destconfig edit default use_tls=on %s\n"
                       "listenerconfig edit OutboundMail max_concurrency=1000 max_msgs_per_session=1000000\n" % default)

    def load(self, messages):
        """-> CPU seconds per 1,000 messages, messages per second"""
        before = self.sink.stats()["messages"]
        cpu = lab.cpu_seconds(lab.process_tree(self.pid))
        began = time.monotonic()
        lab.smtp_load(self.private, "--messages", messages, "--sessions", SESSIONS, "--size", SIZE, "--per-connection", EACH)
        self.sink.wait_messages(before + messages)
        rate = messages / (time.monotonic() - began)
        time.sleep(0.3)
        return (lab.cpu_seconds(lab.process_tree(self.pid)) - cpu) / messages * 1000, rate


def compare(box, what, messages, rounds, dane):
    web = policyweb.PolicyWeb(box)
    tree = dnstree.DnsTree(box, ttl=3600)
    tree.zone("bench.example")
    sink = Server(box, "mx", pair=web.authority.issue("mx", "mx.bench.example", ["mx.bench.example"]))
    tree.mx(DOMAIN, "10 mx.bench.example")
    tree.a("mx.bench.example", sink.address)
    if dane:
        tree.tlsa("_25._tcp.mx.bench.example", tlsa(3, 1, 1, sink.pair))
    tree.txt("_mta-sts." + DOMAIN, "v=STSv1; id=1;")
    tree.a("mta-sts." + DOMAIN, web.address)
    web.policy(DOMAIN, mode="enforce", mx=["mx.bench.example"])
    gateways = {"without": Gateway(box, what + "-without", tree, web, sink, ""),
                "with": Gateway(box, what + "-with", tree, web, sink, "dane=opportunistic mta_sts=on")}
    found = {name: [] for name in gateways}
    for gateway in gateways.values():
        gateway.load(messages // 4)
    for number in range(rounds):
        for name in sorted(gateways, reverse=number % 2): # neither is always the first
            found[name].append(gateways[name].load(messages))
    proof = {"dane": r"TLS success protocol .* for %s$" % DOMAIN, "mta-sts": r"MTA-STS policy for the domain \(%s\) Successful"
             % DOMAIN}[what]
    if not gateways["with"].maillog().find(proof) or gateways["without"].maillog().find(proof):
        raise lab.Failure("the policy was not in force")
    for gateway in gateways.values():
        gateway.stop()
    cpu = {name: min(c for c, _ in values) for name, values in found.items()}
    rate = {name: max(r for _, r in values) for name, values in found.items()}
    cost = cpu["with"] / cpu["without"]
    print("%-8s CPU s/1000: %.3f without, %.3f with, %+.1f %%   msg/s: %.0f without, %.0f with" % (
        what, cpu["without"], cpu["with"], (cost - 1) * 100, rate["without"], rate["with"]))
    sys.stdout.flush()
    return cost < GOAL, cpu["without"]


def records(cpu):
    """The record of an attempt, against what a relayed message costs."""
    box = lab.Sandbox()
    each = float(lab.run([lab.tool("bench_attempt"), box.mkdir("state")], timeout=300).stdout)
    print("records  CPU us each: %.2f, %.2f %% of the %.0f us of a relayed message" % (each, each / cpu / 10, cpu * 1000))
    return each / cpu / 10 < RECORDS_GOAL


def main():
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    try:
        lab.need_root()
        found = [compare(lab.Sandbox(), what, messages, rounds, what == "dane") for what in ("dane", "mta-sts")]
        done = [ok for ok, _ in found] + [records(min(cpu for _, cpu in found))]
    except lab.Skip as s:
        print("DANE and MTA-STS: not measured: %s" % s)
        return 0
    return 0 if all(done) else 1


sys.exit(main())
