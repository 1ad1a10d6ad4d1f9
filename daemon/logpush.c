/* logpush.c - see logpush.h. A host name is looked up on a worker thread; the two share the answer,
 * one reference each, because either may leave first. A line that was sent in part when a connection
 * broke is sent again whole. */
#include "daemon/logpush.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tls.h"
#include "daemon/trust.h"
#include "daemon/worker.h"
#include "store/base/buf.h"
#include "store/base/net.h"
#include "store/base/str.h"

#define PENDING_BYTES (1u << 20) /* of lines that wait */
#define AGAIN_MS SECONDS(5) /* between two attempts to reach the host */
#define CONNECT_MS SECONDS(10)
#define ADDRESS_GOOD_MS MINUTES(10)
#define LOOK_MS 100 /* while something is under way */
#define LINE_BYTES 4096

struct lookup {
    atomic_int refs;
    atomic_bool done;
    char host[256];
    struct addr addr;
    bool ok;
};

struct logpush {
    struct logpush_to to;
    char tag[40];
    struct buf pending; /* lines, each with its LF */
    size_t sent; /* of the first line, over TCP */
    uint64_t lost;
    int fd; /* -1: none */
    bool connecting, known;
    SSL *ssl; /* NULL: none */
    bool secure; /* the handshake is done */
    bool failed; /* TLS did, and problem says why */
    char problem[300];
    msec_t again, give_up, stale; /* next attempt; end of this one; the address is asked for again */
    struct addr addr;
    struct lookup *lookup; /* under way */
};

bool logpush_same(const struct logpush_to *a, const struct logpush_to *b)
{
    return a->on == b->on && a->tcp == b->tcp && a->tls == b->tls && a->port == b->port && a->facility == b->facility &&
           str_eq(a->host, b->host);
}

struct logpush *logpush_new(const struct logpush_to *to, const char *tag)
{
    struct logpush *p = xcalloc(1, sizeof(*p));

    p->to = *to;
    str_copy(p->tag, sizeof(p->tag), tag);
    p->pending = (struct buf)BUF_INIT(PENDING_BYTES);
    p->fd = -1;
    return p;
}

static void lookup_unref(struct lookup *l)
{
    if (l && atomic_fetch_sub(&l->refs, 1) == 1)
        free(l);
}

static void hang_up(struct logpush *p)
{
    SSL_free(p->ssl);
    p->ssl = NULL;
    p->secure = false;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    p->connecting = false;
    p->sent = 0;
    p->again = clock_in(AGAIN_MS);
}

void logpush_free(struct logpush **p)
{
    if (!*p)
        return;
    hang_up(*p);
    lookup_unref((*p)->lookup);
    buf_free(&(*p)->pending);
    free(*p);
    *p = NULL;
}

void logpush_line(struct logpush *p, usec_t when, enum log_level level, const char *text, size_t n)
{
    static const unsigned severities[] = {2, 4, 6, 7, 7}; /* by level, Critical first */
    char head[120], date[32];
    time_t t = (time_t)(when / 1000000);
    struct tm tm;
    size_t length;

    localtime_r(&t, &tm);
    strftime(date, sizeof(date), "%b %e %H:%M:%S", &tm);
    length = (size_t)snprintf(head, sizeof(head), "<%u>%s %s: %s: ",
                              p->to.facility * 8 + severities[level], date, p->tag,
                              log_level_name(level));
    if (n > LINE_BYTES - sizeof(head))
        n = LINE_BYTES - sizeof(head);
    if (p->pending.n + 16 + length + n + 1 > PENDING_BYTES) {
        p->lost++;
        return;
    }
    if (p->to.tls) /* RFC 5425 section 4.3; the LF belongs to the line here, and servers take it off */
        buf_printf(&p->pending, "%zu ", length + n + 1);
    buf_add(&p->pending, head, length);
    for (size_t i = 0; i < n; i++)
        buf_char(&p->pending, (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i]);
    buf_char(&p->pending, '\n');
}

/* --- where to --- */

static void look_up(void *arg) /* on a worker */
{
    struct lookup *l = arg;
    struct addrinfo *found = NULL;

    if (getaddrinfo(l->host, NULL, NULL, &found) == 0) {
        for (struct addrinfo *a = found; a && !l->ok; a = a->ai_next) {
            char text[ADDR_TEXT];

            l->ok = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
                                NI_NUMERICHOST) == 0 &&
                    addr_parse(text, &l->addr);
        }
        freeaddrinfo(found);
    }
    atomic_store(&l->done, true);
    lookup_unref(l);
}

/* false: not known yet. */
static bool know_address(struct logpush *p)
{
    msec_t now = clock_now();

    if (p->known && now < p->stale)
        return true;
    if (addr_parse(p->to.host, &p->addr)) {
        p->stale = NEVER;
        return p->known = true;
    }
    if (p->lookup && atomic_load(&p->lookup->done)) {
        p->known = p->lookup->ok;
        p->addr = p->lookup->addr;
        p->stale = now + (p->known ? ADDRESS_GOOD_MS : 0);
        p->again = p->known ? now : now + AGAIN_MS;
        lookup_unref(p->lookup);
        p->lookup = NULL;
        return p->known;
    }
    if (!p->lookup) {
        p->lookup = xcalloc(1, sizeof(*p->lookup));
        atomic_init(&p->lookup->refs, 2);
        str_copy(p->lookup->host, sizeof(p->lookup->host), p->to.host);
        if (!worker_post(look_up, p->lookup)) { /* too early, too late, too busy */
            atomic_store(&p->lookup->done, true);
            lookup_unref(p->lookup);
        }
    }
    return false;
}

static bool open_socket(struct logpush *p)
{
    int type = (p->to.tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    struct sockaddr_storage to = {0};
    socklen_t size;

    if (!*p->to.host) {
        struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

        p->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        return p->fd >= 0 && connect(p->fd, (struct sockaddr *)&un, sizeof(un)) == 0;
    }
    p->addr.port = (uint16_t)p->to.port;
    size = addr_to_sockaddr(&p->addr, &to);
    p->fd = socket(to.ss_family, type, 0);
    if (p->fd < 0)
        return false;
    if (connect(p->fd, (struct sockaddr *)&to, size) == 0)
        return true;
    p->connecting = errno == EINPROGRESS;
    p->give_up = clock_in(CONNECT_MS);
    return p->connecting;
}

static bool is_connected(struct logpush *p)
{
    struct pollfd poller = {.fd = p->fd, .events = POLLOUT};
    socklen_t size = sizeof(int);
    int error = 0;

    if (!p->connecting)
        return true;
    if (poll(&poller, 1, 0) == 0 && clock_now() < p->give_up)
        return false;
    if (!(poller.revents & POLLOUT) || getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 ||
        error) {
        hang_up(p);
        return false;
    }
    p->connecting = false;
    return true;
}

/* --- TLS --- */

static void tls_failed(struct logpush *p, const char *why)
{
    snprintf(p->problem, sizeof(p->problem), "%.280s", why);
    p->failed = true;
    hang_up(p);
}

static bool start_tls(struct logpush *p)
{
    static SSL_CTX *ctx; /* of the thread that writes logs, to the end of the process */
    X509_STORE *authorities = running_trust();
    struct addr a;
    bool ok;

    if (!ctx) {
        ctx = SSL_CTX_new(TLS_client_method());
        if (ctx && !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION)) {
            SSL_CTX_free(ctx);
            ctx = NULL;
        }
    }
    p->ssl = ctx ? SSL_new(ctx) : NULL;
    ok = p->ssl && SSL_set1_verify_cert_store(p->ssl, authorities) && SSL_set_fd(p->ssl, p->fd) &&
         (addr_parse(p->to.host, &a)
              ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(p->ssl), p->to.host)
              : SSL_set1_host(p->ssl, p->to.host) && SSL_set_tlsext_host_name(p->ssl, p->to.host));
    X509_STORE_free(authorities);
    if (!ok) {
        ERR_clear_error();
        tls_failed(p, "TLS cannot be set up");
        return false;
    }
    SSL_set_verify(p->ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_mode(p->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_connect_state(p->ssl);
    return true;
}

/* Does the call have to be made again later? */
static bool tls_waits(struct logpush *p, int result)
{
    int e = SSL_get_error(p->ssl, result);

    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static bool is_secure(struct logpush *p)
{
    char why[200];
    int r;

    if (!p->to.tls || p->secure)
        return true;
    if (!p->ssl && !start_tls(p))
        return false;
    ERR_clear_error();
    r = SSL_do_handshake(p->ssl);
    if (r == 1)
        return p->secure = true;
    if (tls_waits(p, r)) {
        if (clock_now() >= p->give_up)
            tls_failed(p, "no answer to the TLS handshake in time");
        return false;
    }
    if (SSL_get_verify_result(p->ssl) != X509_V_OK) {
        snprintf(why, sizeof(why), "its certificate is refused: %s",
                 X509_verify_cert_error_string(SSL_get_verify_result(p->ssl)));
        ERR_clear_error();
    } else {
        tls_errors(why, sizeof(why));
    }
    tls_failed(p, *why ? why : "the TLS handshake failed");
    return false;
}

const char *logpush_problem(struct logpush *p)
{
    bool failed = p->failed;

    p->failed = false;
    return failed ? p->problem : NULL;
}

/* --- sending --- */

/* As send(): -1 and EAGAIN when it has to wait. */
static ssize_t send_some(struct logpush *p, const char *from, size_t n)
{
    int done;

    if (!p->ssl)
        return send(p->fd, from, n, MSG_NOSIGNAL);
    ERR_clear_error();
    done = SSL_write(p->ssl, from, n > 16384 ? 16384 : (int)n);
    if (done > 0)
        return done;
    errno = tls_waits(p, done) ? EAGAIN : EPIPE;
    ERR_clear_error();
    return -1;
}

/* Has the server left? Over TLS its close is read, and what else it says is thrown away. */
static bool has_left(struct logpush *p)
{
    char ignored[256];
    int r;

    if (!p->ssl)
        return recv(p->fd, ignored, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    ERR_clear_error();
    r = SSL_read(p->ssl, ignored, sizeof(ignored));
    return r <= 0 && !tls_waits(p, r);
}

static void send_stream(struct logpush *p)
{
    if (p->pending.n && has_left(p)) {
        hang_up(p);
        p->again = 0;
        return;
    }
    while (p->pending.n > p->sent) {
        ssize_t n = send_some(p, p->pending.p + p->sent, p->pending.n - p->sent);
        const char *last;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n <= 0) {
            hang_up(p);
            return;
        }
        p->sent += (size_t)n;
        last = memrchr(p->pending.p, '\n', p->sent);
        if (last) { /* whole lines are done with */
            size_t whole = (size_t)(last - p->pending.p) + 1;

            buf_drop(&p->pending, whole);
            p->sent -= whole;
        }
    }
}

/* A datagram that is refused or too long is lost; a full queue is waited for. */
static void send_datagrams(struct logpush *p)
{
    size_t at = 0;

    while (at < p->pending.n) {
        const char *line = p->pending.p + at, *end = memchr(line, '\n', p->pending.n - at);
        size_t n = (size_t)(end - line);

        if (send(p->fd, line, n, MSG_NOSIGNAL) < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
                break;
            p->lost++;
            if (!*p->to.host) { /* syslogd was restarted */
                at += n + 1;
                hang_up(p);
                break;
            }
        }
        at += n + 1;
    }
    buf_drop(&p->pending, at);
}

msec_t logpush_work(struct logpush *p, uint64_t *lost)
{
    msec_t now = clock_now();

    if (p->fd < 0 && p->pending.n && now >= p->again) {
        if (!*p->to.host || know_address(p)) {
            if (!open_socket(p))
                hang_up(p);
        }
    }
    if (p->fd >= 0 && is_connected(p) && is_secure(p)) {
        if (p->to.tcp && *p->to.host)
            send_stream(p);
        else
            send_datagrams(p);
    }
    *lost = p->lost;
    p->lost = 0;
    return p->pending.n ? now + LOOK_MS : NEVER;
}
