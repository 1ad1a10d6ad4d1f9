/* control_dns.c - dns.query, dns.flush, dns.status, net.ping, telnet.open/send/close: the network
 * tools of the console, which has no network itself. For operators, and written into the audit log:
 * they reach what the gateway reaches. */
#include "daemon/control.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/dns_cache.h"
#include "daemon/dns_raw.h"
#include "daemon/dns_servers.h"
#include "daemon/fiber.h"
#include "daemon/mta_sts.h"
#include "daemon/reload.h"
#include "daemon/stats.h"

#define ASK SECONDS(20)
#define CONNECT SECONDS(15)

/* --- work that its user may get tired of --- */

/* Done by a fiber of its own on the same loop, so that the connection can be looked at meanwhile:
 * shared by both. */
struct job {
    unsigned refs;
    struct wait wait;
    bool (*run)(struct job *j, struct err *err); /* YIELDS */
    json_t *args, *data;
    struct conn *conn; /* of telnet.open: made by the job, taken by who waits */
    bool ok;
    struct err err;
};

static void job_unref(struct job *j)
{
    if (--j->refs > 0)
        return;
    json_decref(j->args);
    json_decref(j->data);
    if (j->conn)
        conn_free(&j->conn);
    free(j);
}

static void job_fiber(void *arg)
{
    struct job *j = arg;

    j->ok = j->run(j, &j->err);
    wait_done(&j->wait);
    job_unref(j);
}

/* YIELDS. A reference for the caller; NULL: cancelled, or err is set. What it found is added to
 * data. */
static struct job *do_job(struct control *c, bool (*run)(struct job *j, struct err *err),
                          const json_t *args, json_t *data, struct err *err)
{
    struct job *j = xcalloc(1, sizeof(*j));
    bool done = false;

    j->refs = 2;
    j->run = run;
    j->args = json_deep_copy(args);
    j->data = json_object();
    wait_init(&j->wait);
    if (!fiber_spawn(loop_self(), "console tool", job_fiber, j)) {
        j->refs = 1;
        err_set(err, E_LIMIT, "The gateway is too busy for this now.");
    } else {
        while (!done && !control_cancelled(c) && !fiber_stopping())
            done = wait_until(&j->wait, clock_in(100), "a console tool");
        if (done)
            json_object_update(data, j->data);
        if (!done)
            err_set(err, E_CLOSED, "Stopped.");
        else if (!j->ok)
            *err = j->err;
        else
            return j;
    }
    job_unref(j);
    return NULL;
}

/* --- dns.query --- */

static bool question_of(const json_t *args, const char **name, int *type, struct err *err)
{
    *name = json_str(args, "name", "");
    *type = dns_type_of(json_str(args, "type", "A"));
    if (*type < 0)
        return err_set(err, E_USAGE, "\"%s\" is not a type of DNS records.",
                       str_printable(json_str(args, "type", "")));
    if (!str_eq(*name, ".") && !host_check(*name, NULL))
        return err_set(err, E_USAGE, "\"%s\" is not a domain name.", str_printable(*name));
    return true;
}

static void own_query(const char *name, int type, json_t *data)
{
    msec_t began = clock_now();
    bool cached;
    struct dns_answer *a = dns_ask(name, type, clock_in(ASK), &cached);
    json_t *records = json_array();

    for (unsigned i = 0; i < a->n; i++) {
        AUTO(buf) struct buf text = BUF_INIT(16384);

        dns_rdata_text(type, &a->rdata[i], &text);
        json_array_append_new(records, json_string(buf_str(&text)));
    }
    json_put_str(data, "name", name);
    json_put_str(data, "type", dns_type_name(type));
    json_put_str(data, "status", dns_status_name(a->status));
    json_put_str(data, "security",
                 a->status == DNS_BOGUS                                  ? "bogus"
                 : a->status == DNS_SERVFAIL || a->status == DNS_TIMEOUT ? "indeterminate"
                 : a->secure                                             ? "secure"
                                                                         : "insecure");
    json_put_str(data, "canonical", a->canonical);
    json_put_int(data, "ttl", (json_int_t)dns_answer_ttl(a));
    json_put_str(data, "why", a->why);
    json_put(data, "cached", json_boolean(cached));
    json_put_int(data, "msec", (json_int_t)(clock_now() - began));
    json_put(data, "records", records);
    dns_answer_free(&a);
}

static void put_flags(json_t *data, unsigned flags)
{
    static const struct {
        unsigned bit;
        const char *name;
    } bits[] = {
        {0x8000, "qr"},
        {0x0400, "aa"},
        {0x0200, "tc"},
        {0x0100, "rd"},
        {0x0080, "ra"},
        {0x0020, "ad"},
        {0x0010, "cd"},
    };
    json_t *list = json_array();

    for (size_t i = 0; i < countof(bits); i++)
        if (flags & bits[i].bit)
            json_array_append_new(list, json_string(bits[i].name));
    json_put(data, "flags", list);
}

static bool server_query(const json_t *args, const char *name, int type, json_t *data,
                         struct err *err)
{
    static const char *const sections[] = {"answer", "authority", "additional"};
    const char *server = json_str(args, "server", ""), *source = json_str(args, "source", "");
    struct dns_raw_options o = {.tcp = json_bool_of(args, "tcp", false)};
    json_t *lists[3] = {json_array(), json_array(), json_array()};
    struct dns_record *r;
    struct dns_reply reply;
    char error[300];

    for (int i = 0; i < 3; i++)
        json_put(data, sections[i], lists[i]);
    if (*source && !addr_parse(source, &o.source))
        return err_set(err, E_USAGE, "\"%s\" is not an address.", str_printable(source));
    if (!dns_raw_ask(server, name, type, &o, clock_in(ASK), &reply, err)) /* YIELDS */
        return err_wrap(err, "%s", str_printable(server));
    r = xcalloc(1, sizeof(*r));
    while (dns_packet_next(&reply.packet, r)) {
        AUTO(buf) struct buf text = BUF_INIT(16384);
        json_t *o2;

        if (r->type == 41) { /* OPT */
            if (dns_packet_error(r, error, sizeof(error)))
                json_put_str(data, "error", error);
            continue;
        }
        o2 = json_object();
        dns_rdata_text(r->type, &r->rdata, &text);
        json_put_str(o2, "name", r->name);
        json_put_int(o2, "ttl", (json_int_t)r->ttl);
        json_put_str(o2, "type", dns_type_name(r->type));
        json_put_str(o2, "data", buf_str(&text));
        json_array_append_new(lists[r->section], o2);
    }
    free(r);
    json_put_str(data, "name", name);
    json_put_str(data, "type", dns_type_name(type));
    json_put_str(data, "server", server);
    json_put_str(data, "rcode", dns_rcode_name((int)reply.packet.rcode));
    put_flags(data, reply.packet.flags);
    json_put(data, "tcp", json_boolean(reply.tcp));
    json_put_int(data, "size", (json_int_t)reply.n);
    json_put_int(data, "msec", (json_int_t)reply.took);
    dns_reply_free(&reply);
    return true;
}

static bool query_job(struct job *j, struct err *err)
{
    const char *name, *server = json_str(j->args, "server", "");
    int type;

    if (!question_of(j->args, &name, &type, err))
        return false;
    if (*server)
        return server_query(j->args, name, type, j->data, err);
    own_query(name, type, j->data);
    return true;
}

static bool run_query(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *server = json_str(args, "server", "");
    struct job *j;

    if (*server)
        control_audit(c, "dig", str_printable(json_str(args, "name", "")), "ok",
                      str_printable(server)); /* YIELDS */
    j = do_job(c, query_job, args, data, err);
    if (j)
        job_unref(j);
    return j != NULL;
}

/* --- dns.flush, dns.status --- */

static bool run_flush(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", "");

    (void)data;
    if (*name && !str_eq(name, ".") && !host_check(name, NULL))
        return err_set(err, E_USAGE, "\"%s\" is not a domain name.", str_printable(name));
    control_audit(c, "dnsflush", *name ? name : NULL, "ok", NULL); /* YIELDS */
    dns_flush(*name ? name : NULL); /* YIELDS */
    mta_sts_flush_records(*name ? name : NULL);
    return true;
}

static void put_server(void *list, const struct dns_server_info *s)
{
    json_t *o = json_object();
    char date[40];

    json_put_str(o, "address", s->address);
    json_put_int(o, "priority", (json_int_t)s->priority);
    json_put_str(o, "state",
                 !s->up       ? "not answering"
                 : !s->dnssec ? "no DNSSEC"
                 : s->used    ? "in use"
                              : "standby");
    json_put(o, "used", json_boolean(s->used));
    json_put_str(o, "why", s->why);
    json_put_int(o, "msec", (json_int_t)s->took);
    json_put_str(o, "since", clock_rfc3339(s->since, date));
    json_array_append_new(list, o);
}

static void put_anchor(void *list, const struct dns_anchor_info *a)
{
    json_t *o = json_object();
    char date[40];

    json_put_str(o, "domain", a->domain);
    json_put_str(o, "kind", a->kind);
    json_put_str(o, "text", a->text);
    json_put(o, "checked", a->checked ? json_string(clock_rfc3339(a->checked, date)) : json_null());
    json_array_append_new(list, o);
}

static json_t *untrusted(void)
{
    struct config *cfg = running_config();
    json_t *out = json_array();

    for (size_t i = 0; cfg && i < config_count(cfg, &section_dns_untrusted); i++) {
        const struct dns_untrusted *u = config_at(cfg, &section_dns_untrusted, i)->data;
        json_t *o = json_object();

        json_put_str(o, "domain", u->domain);
        json_put_str(o, "expires", u->expires);
        json_put_str(o, "reason", u->reason);
        json_array_append_new(out, o);
    }
    config_free(&cfg);
    return out;
}

static bool run_status(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *servers = json_array(), *anchors = json_array(), *cache = json_object();
    struct dns_cache_totals t;

    (void)c;
    (void)args;
    (void)err;
    dns_cache_totals(&t);
    dns_servers_list(put_server, servers);
    dns_anchors_list(put_anchor, anchors);
    json_put_str(data, "source", dns_servers_source());
    json_put(data, "validating", json_boolean(dns_servers_validate()));
    json_put_int(data, "as_of", (json_int_t)(clock_wall() / 1000000));
    json_put(data, "counters", control_counters(STAT_DNS_REQUESTS, STAT_DNS_TIMEOUT));
    json_put_int(cache, "entries", (json_int_t)t.entries);
    json_put_int(cache, "bytes", (json_int_t)t.bytes);
    json_put_int(cache, "max_bytes", (json_int_t)t.max_bytes);
    json_put(data, "cache", cache);
    json_put(data, "servers", servers);
    json_put(data, "anchors", anchors);
    json_put(data, "insecure", untrusted());
    return true;
}

/* --- where to --- */

/* YIELDS. An address, or the first one of a name. */
static bool find_host(const char *host, struct addr *out, struct err *err)
{
    struct dns_addrs a;
    bool ok;

    if (addr_parse(host, out))
        return true;
    if (!host_check(host, NULL))
        return err_set(err, E_USAGE, "\"%s\" is neither a host name nor an address.",
                       str_printable(host));
    ok = dns_addresses(host, true, true, clock_in(ASK), &a, err);
    if (ok && !a.n)
        ok = err_set(err, E_NOT_FOUND, "%s has no address (%s).", host, dns_status_name(a.status));
    if (ok)
        *out = a.addrs[0];
    dns_addrs_free(&a);
    return ok;
}

/* --- net.ping --- */

struct ping {
    int fd;
    struct addr to;
    unsigned sent, received, count;
};

/* A socket which the kernel lets send echo requests and nothing else, without privileges. */
static bool ping_open(struct ping *p, struct err *err)
{
    struct sockaddr_storage ss;
    socklen_t n;
    bool v4 = p->to.family == AF_INET;

    p->to.port = 0;
    p->fd = socket(p->to.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                   v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    if (p->fd < 0 && (errno == EACCES || errno == EPERM || errno == EPROTONOSUPPORT))
        return err_set(err, E_DENIED,
                       "The system does not let the gateway send pings: its group is not in "
                       "net.ipv4.ping_group_range; widen that with sysctl(8).");
    n = addr_to_sockaddr(&p->to, &ss);
    if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&ss, n) < 0)
        return err_errno(err, errno, "sending pings");
    return true;
}

/* YIELDS. false: no answer to this one. */
static bool ping_once(struct ping *p, unsigned seq, double *msec)
{
    unsigned char packet[64] = {0}, reply[256];
    bool v4 = p->to.family == AF_INET;
    usec_t began = clock_wall();
    msec_t until = clock_in(SECONDS(1));

    packet[0] = v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST; /* identifier and checksum are the kernel's */
    packet[6] = (unsigned char)(seq >> 8);
    packet[7] = (unsigned char)seq;
    p->sent++;
    if (send(p->fd, packet, sizeof(packet), 0) < 0)
        return false;
    while (fiber_wait_fd(p->fd, EPOLLIN, until, "ping")) {
        ssize_t n = recv(p->fd, reply, sizeof(reply), 0);

        if (n < 0)
            return false;
        if (n >= 8 && reply[0] == (v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) &&
            reply[6] == packet[6] && reply[7] == packet[7]) {
            *msec = (double)(clock_wall() - began) / 1000.0;
            p->received++;
            return true;
        }
    }
    return false;
}

static bool run_ping(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *host = json_str(args, "host", "");
    json_int_t count = json_int(args, "count", 5);
    struct ping p = {.fd = -1};
    char address[ADDR_TEXT];
    bool ok;

    if (count < 1 || count > 1000)
        return err_set(err, E_INVALID, "The number of pings is from 1 to 1000.");
    control_audit(c, "ping", str_printable(host), "ok", NULL); /* YIELDS */
    ok = find_host(host, &p.to, err) && ping_open(&p, err); /* YIELDS */
    addr_text(&p.to, address);
    for (unsigned seq = 0; ok && seq < (unsigned)count && !control_cancelled(c); seq++) {
        msec_t next = clock_in(SECONDS(1));
        json_t *line = json_object();
        char text[160];
        double msec = 0;

        if (ping_once(&p, seq, &msec)) { /* YIELDS */
            snprintf(text, sizeof(text), "64 bytes from %s: icmp_seq=%u time=%.3f ms", address, seq,
                     msec);
            json_put(line, "msec", json_real(msec));
        } else {
            snprintf(text, sizeof(text), "Request timeout for icmp_seq %u", seq);
            json_put(line, "msec", json_null());
        }
        json_put_str(line, "line", text);
        json_put_int(line, "seq", (json_int_t)seq);
        if (!control_more(c, line))
            break;
        while (seq + 1 < (unsigned)count && clock_now() < next && !control_cancelled(c))
            if (!fiber_sleep(50))
                break;
    }
    if (p.fd >= 0)
        close(p.fd);
    json_put_str(data, "host", host);
    json_put_str(data, "address", ok ? address : "");
    json_put_int(data, "sent", (json_int_t)p.sent);
    json_put_int(data, "received", (json_int_t)p.received);
    return ok;
}

/* --- telnet --- */

#define TELNET_IDLE SECONDS(60)
#define TELNET_LONGEST MINUTES(10)
#define TELNET_BYTES (64u << 10) /* of one answer, and a few of them in all */
#define TELNET_TOTAL (1u << 20)
#define TELNET_FIRST SECONDS(3) /* so long an answer may take to begin */
#define TELNET_QUIET 200 /* then it is over */

struct telnet { /* shared with the fiber that ends it when its user has gone away; both are on one
                   loop */
    unsigned refs;
    struct conn *conn; /* NULL: closed */
    msec_t used, end;
    size_t received;
};

static void telnet_unref(struct telnet *t)
{
    if (--t->refs == 0)
        free(t);
}

static void telnet_end(void *thing)
{
    struct telnet *t = thing;

    if (t->conn)
        conn_free(&t->conn);
    telnet_unref(t);
}

static void telnet_watch(void *arg)
{
    struct telnet *t = arg;

    fiber_interruptible(true);
    while (t->conn && clock_now() < t->end && clock_now() < t->used + TELNET_IDLE &&
           fiber_sleep(500))
        ;
    if (t->conn) /* whoever reads sees the end */
        shutdown(conn_fd(t->conn), SHUT_RDWR);
    telnet_unref(t);
}

/* YIELDS. What comes, until it is quiet. */
static void telnet_read(struct telnet *t, json_t *data)
{
    AUTO(buf) struct buf text = BUF_INIT(TELNET_BYTES);
    msec_t until = clock_in(TELNET_FIRST);
    bool open = true;

    while (open && text.n < TELNET_BYTES && conn_await(t->conn, until)) {
        struct slice s = conn_read_some(t->conn, TELNET_BYTES - text.n);

        open = s.n > 0;
        buf_add(&text, s.p, s.n);
        until = clock_in(TELNET_QUIET);
    }
    t->received += text.n;
    t->used = clock_now();
    open = open && !conn_failed(t->conn) && t->received < TELNET_TOTAL;
    json_put_str(data, "text",
                 buf_str(&text)); /* what is not UTF-8 is replaced; the console escapes */
    json_put(data, "open", json_boolean(open));
}

static bool connect_job(struct job *j, struct err *err)
{
    const char *host = json_str(j->args, "host", "");
    json_int_t port = json_int(j->args, "port", 25);
    char address[ADDR_TEXT];
    struct addr to;

    if (!find_host(host, &to, err)) /* YIELDS */
        return false;
    to.port = (unsigned)port;
    json_put_str(j->data, "host", host);
    json_put_str(j->data, "address", addr_text(&to, address));
    json_put_int(j->data, "port", port);
    j->conn = conn_connect(&to, NULL, clock_in(CONNECT), err); /* YIELDS */
    return j->conn || err_wrap(err, "Connecting to %s port %d", str_printable(host), (int)port);
}

static bool telnet_open(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t port = json_int(args, "port", 25);
    char where[300];
    struct telnet *t;
    struct job *j;

    if (port < 1 || port > 65535)
        return err_set(err, E_INVALID, "The port is a number from 1 to 65535.");
    snprintf(where, sizeof(where), "%s port %d", str_printable(json_str(args, "host", "")),
             (int)port);
    control_keep(c, NULL, NULL);
    control_audit(c, "telnet", where, "ok", NULL); /* YIELDS */
    j = do_job(c, connect_job, args, data, err);
    if (!j)
        return false;
    t = xcalloc(1, sizeof(*t));
    t->refs = 2;
    t->conn = j->conn;
    j->conn = NULL;
    job_unref(j);
    t->used = clock_now();
    t->end = clock_in(TELNET_LONGEST);
    conn_set_deadline(t->conn, t->end);
    control_keep(c, t, telnet_end);
    if (!fiber_spawn(loop_self(), "telnet", telnet_watch, t))
        t->refs--;
    telnet_read(t, data); /* YIELDS */
    return true;
}

static bool telnet_send(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct telnet *t = control_kept(c);
    const char *line = json_string_value(json_object_get(args, "line"));

    if (!t || !t->conn || conn_failed(t->conn))
        return err_set(err, E_CLOSED, "The connection is closed.");
    if (line && strlen(line) > 1000)
        return err_set(err, E_LIMIT, "A line has at most 1000 bytes.");
    t->used = clock_now();
    if (line)
        conn_printf(t->conn, "%s\r\n", line);
    telnet_read(t, data); /* YIELDS */
    return true;
}

static bool telnet_close(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)args;
    (void)data;
    (void)err;
    control_keep(c, NULL, NULL);
    return true;
}

const struct control_op control_dns_ops[] = {
    {"dns.query",    ROLE_OPERATOR, run_query   },
    {"dns.flush",    ROLE_OPERATOR, run_flush   },
    {"dns.status",   ROLE_READONLY, run_status  },
    {"net.ping",     ROLE_OPERATOR, run_ping    },
    {"telnet.open",  ROLE_OPERATOR, telnet_open },
    {"telnet.send",  ROLE_OPERATOR, telnet_send },
    {"telnet.close", ROLE_OPERATOR, telnet_close},
    {NULL,           0,             NULL        },
};
