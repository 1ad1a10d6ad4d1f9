/* dns_raw.c - see dns_raw.h. */
#include "daemon/dns_raw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/fiber.h"

#define TRY SECONDS(1) /* UDP: then once more */
#define TRIES 3

bool dns_server_parse(const char *text, struct addr *out)
{
    char ip[ADDR_TEXT];
    size_t n = strcspn(text, "@");
    long port = text[n] ? strtol(text + n + 1, NULL, 10) : 53;

    if (n >= sizeof(ip) || port < 1 || port > 65535)
        return false;
    memcpy(ip, text, n);
    ip[n] = '\0';
    if (!addr_parse(ip, out))
        return false;
    out->port = (unsigned)port;
    return true;
}

struct asked {
    const struct addr *to, *from; /* from: NULL, the system's choice */
    unsigned char question[320];
    size_t n;
    unsigned short id;
    const char *name;
    int type;
    msec_t deadline;
};

static bool take(struct dns_reply *out, const unsigned char *p, size_t n, const struct asked *q)
{
    unsigned char *copy = xmalloc(n ? n : 1);

    memcpy(copy, p, n);
    if (!dns_packet_open(&out->packet, copy, n, q->id, q->name, q->type)) {
        free(copy);
        return false;
    }
    free(out->p);
    out->p = copy;
    out->n = n;
    return true;
}

/* Answers to other questions are passed over: they are somebody's attempt, or late. */
static bool bind_to(int fd, const struct addr *from)
{
    struct sockaddr_storage ss;
    socklen_t length;

    if (!from)
        return true;
    length = addr_to_sockaddr(from, &ss);
    return bind(fd, (struct sockaddr *)&ss, length) == 0;
}

static bool ask_udp(const struct asked *q, struct dns_reply *out, struct err *err)
{
    const struct addr *to = q->to;
    msec_t deadline = q->deadline;
    struct sockaddr_storage ss;
    socklen_t length = addr_to_sockaddr(to, &ss);
    int fd = socket(to->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unsigned char *reply = xmalloc(DNS_PACKET_MAX);
    bool ok = fd >= 0 && bind_to(fd, q->from) && connect(fd, (struct sockaddr *)&ss, length) == 0;

    if (!ok)
        err_errno(err, errno, "asking");
    for (int i = 0; ok && i < TRIES && !out->p && clock_now() < deadline; i++) {
        msec_t until = clock_in(TRY) < deadline ? clock_in(TRY) : deadline;

        if (send(fd, q->question, q->n, 0) < 0 && errno != ECONNREFUSED) {
            ok = err_errno(err, errno, "asking");
            break;
        }
        while (!out->p && fiber_wait_fd(fd, EPOLLIN, until, "a DNS server")) { /* YIELDS */
            ssize_t got = recv(fd, reply, DNS_PACKET_MAX, 0);

            if (got < 0 && errno == ECONNREFUSED) {
                ok = err_set(err, E_NET, "nothing listens there");
                break;
            }
            if (got > 0)
                take(out, reply, (size_t)got, q);
        }
        if (!ok || fiber_interrupted())
            break;
    }
    if (ok && !out->p)
        ok = err_set(err, E_TIMEOUT, "no answer in time");
    if (fd >= 0)
        close(fd);
    free(reply);
    return ok;
}

static bool read_bytes(struct conn *c, unsigned char *p, size_t n)
{
    while (n) {
        struct slice some = conn_read_some(c, n);

        if (!some.n)
            return false;
        memcpy(p, some.p, some.n);
        p += some.n;
        n -= some.n;
    }
    return true;
}

static bool ask_tcp(const struct asked *q, struct dns_reply *out, struct err *err)
{
    struct conn *c = conn_connect(q->to, q->from, q->deadline, err); /* YIELDS */
    unsigned char head[2] = {(unsigned char)(q->n >> 8), (unsigned char)q->n};
    unsigned char *reply = xmalloc(DNS_PACKET_MAX);
    bool ok = c != NULL;
    size_t size;

    if (ok) {
        conn_set_deadline(c, q->deadline);
        conn_write(c, head, 2);
        conn_write(c, q->question, q->n);
        ok = conn_flush(c) && read_bytes(c, head, 2);
        size = (size_t)head[0] << 8 | head[1];
        ok = ok && read_bytes(c, reply, size) && take(out, reply, size, q);
        if (!ok)
            err_set(err, E_NET, "asking by TCP: %s",
                    conn_failed(c) ? conn_err(c)->text : "not an answer to this question");
        out->tcp = ok;
        conn_free(&c);
    }
    free(reply);
    return ok;
}

bool dns_raw_ask(const char *server, const char *name, int type, const struct dns_raw_options *o,
                 msec_t deadline, struct dns_reply *out, struct err *err)
{
    struct asked q = {.name = name, .type = type, .deadline = deadline};
    msec_t began = clock_now();
    struct addr to;
    bool ok;

    memset(out, 0, sizeof(*out));
    if (!dns_server_parse(server, &to))
        return err_set(err, E_USAGE, "%s is not the address of a DNS server",
                       str_printable(server));
    q.to = &to;
    q.from = o && o->source.family ? &o->source : NULL;
    if (q.from && q.from->family != to.family)
        return err_set(err, E_USAGE, "the source address is not of the server's family");
    if (getrandom(&q.id, sizeof(q.id), 0) < 0)
        return err_errno(err, errno, "a question's number");
    q.n = dns_packet_question(q.question, sizeof(q.question), q.id, name, type);
    if (!q.n)
        return err_set(err, E_USAGE, "%s is not a domain name", str_printable(name));
    ok = o && o->tcp ? ask_tcp(&q, out, err) : ask_udp(&q, out, err);
    if (ok && !out->tcp && dns_packet_truncated(&out->packet))
        ok = ask_tcp(&q, out, err);
    out->took = clock_now() - began;
    if (!ok)
        dns_reply_free(out);
    return ok;
}

void dns_reply_free(struct dns_reply *r)
{
    free(r->p);
    r->p = NULL;
    r->n = 0;
}
