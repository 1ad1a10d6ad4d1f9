/* conn.c - a line and byte stream over a socket, in clear or TLS, with deadlines.
 *
 * Owns the socket, the TLS session on it and up to three buffers that exist only while they hold
 * something: input, output (what the dialog wrote) and wire (TLS records made of it). A conn
 * belongs to one fiber; its blocks come from a small pool of the thread.
 *
 * System calls are what a session costs, so: output waits until input runs dry; a read that came
 * back short proves, together with the edge-triggered watch, that the socket is empty (fiber_fd),
 * so nobody asks again; TLS records are gathered and leave with one send, and OpenSSL reads ahead.
 */
#include "daemon/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/tls.h"
#include "store/base/str.h"

#define BLOCK 16384 /* of the pool; a TLS record's content fits */
#define POOLED 64 /* blocks kept per thread */
#define BIG 65536 /* for bodies on their way in; and the most output that gathers */
#define INPUT_MAX (1 << 20) /* the most conn_fill piles up */
#define SKIP_MAX (1 << 20) /* of a line that does not end */
#define TURN (128 * 1024) /* moved without a wait: time to let other sessions run */
#define GATHER_MAX 4096 /* larger TLS records are sent without another copy */

struct conn {
    struct fiber_fd fd;
    SSL *ssl;
    SSL_SESSION *offer; /* to resume */
    bool (*prepare)(SSL *ssl, void *arg, struct err *err); /* before the handshake */
    void *prepare_arg;
    char *in; /* in[in_pos..in_end] is buffered */
    size_t in_cap, in_pos, in_end;
    size_t scanned; /* bytes behind in_pos that hold no end of line */
    char *out;
    size_t out_n, out_cap;
    char *wire; /* a block: wire[wire_pos..wire_n] is still to be sent */
    size_t wire_pos, wire_n;
    msec_t timeout, deadline;
    unsigned long long bytes_in, bytes_out;
    size_t turn; /* bytes moved since it last waited */
    struct err *err; /* the first error */
    int socket_errno; /* why the BIO failed, for OpenSSL forgets it */
    bool bulk; /* the last reads filled their buffer: use a bigger one */
    bool secured; /* the handshake is over */
    bool interrupted;
    bool stuck; /* output was cut off somewhere: nothing sensible can follow */
};

/* ---- buffers ---- */

struct pool {
    unsigned n;
    char *blocks[POOLED];
};

static _Thread_local struct pool *pool;
static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void pool_free(void *arg)
{
    struct pool *p = arg;

    while (p->n)
        free(p->blocks[--p->n]);
    free(p);
}

static void pool_key_make(void)
{
    pthread_key_create(&pool_key, pool_free);
}

static char *block_get(size_t size)
{
    if (size == BLOCK && pool && pool->n)
        return pool->blocks[--pool->n];
    return xmalloc(size);
}

static void block_put(char **block, size_t size)
{
    char *p = *block;

    *block = NULL;
    if (!p)
        return;
    if (!pool) {
        pthread_once(&pool_once, pool_key_make);
        pool = xcalloc(1, sizeof(*pool));
        pthread_setspecific(pool_key, pool); /* freed when the thread ends */
    }
    if (size == BLOCK && pool->n < POOLED)
        pool->blocks[pool->n++] = p;
    else
        free(p);
}

static void release_input(struct conn *c)
{
    block_put(&c->in, c->in_cap);
    c->in_cap = c->in_pos = c->in_end = c->scanned = 0;
}

static void release_output(struct conn *c)
{
    block_put(&c->out, c->out_cap);
    c->out_cap = c->out_n = 0;
}

static void release_wire(struct conn *c)
{
    block_put(&c->wire, BLOCK);
    c->wire_pos = c->wire_n = 0;
}

/* ---- errors ---- */

bool conn_failed(const struct conn *c)
{
    return c->err;
}

const struct err *conn_err(const struct conn *c)
{
    static const struct err none;

    return c->err ? c->err : &none;
}

void conn_fail(struct conn *c, enum err_code code, const char *fmt, ...)
{
    char text[sizeof(c->err->text)];
    va_list ap;

    if (c->err)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->err = xcalloc(1, sizeof(*c->err));
    err_set(c->err, code, "%s", text);
}

static void fail_errno(struct conn *c, int e)
{
    conn_fail(c, E_NET, "%s", e == EPIPE ? strerror(ECONNRESET) : strerror(e));
}

/* ---- the socket ---- */

enum { AT_END = 0, WOULD_BLOCK = -1, BROKEN = -2 }; /* instead of a number of bytes */

static ssize_t socket_read(struct conn *c, void *p, size_t size)
{
    ssize_t n;

    if (fiber_fd_is_dry(&c->fd))
        return WOULD_BLOCK;
    do
        n = recv(c->fd.watch.fd, p, size, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        c->bytes_in += (size_t)n;
        if ((size_t)n < size)
            fiber_fd_short_read(&c->fd);
        return n;
    }
    if (n == 0)
        return AT_END;
    if (errno == EAGAIN) {
        fiber_fd_short_read(&c->fd);
        return WOULD_BLOCK;
    }
    c->socket_errno = errno;
    return BROKEN;
}

/* Two pieces with one call; either may be empty, not both. */
static ssize_t socket_write(struct conn *c, const void *a, size_t a_n, const void *b, size_t b_n)
{
    struct iovec iov[2] = {
        {(void *)(uintptr_t)a, a_n},
        {(void *)(uintptr_t)b, b_n}
    };
    struct msghdr msg = {.msg_iov = a_n ? iov : iov + 1, .msg_iovlen = 1 + (a_n != 0)};
    ssize_t n;

    do
        n = b_n ? sendmsg(c->fd.watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL)
                : send(c->fd.watch.fd, a, a_n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        c->bytes_out += (size_t)n;
        return n;
    }
    if (errno == EAGAIN)
        return WOULD_BLOCK;
    c->socket_errno = errno;
    return BROKEN;
}

static void fail_deadline(struct conn *c)
{
    conn_fail(c, E_TIMEOUT, "the time for this dialog is over");
}

/* n bytes have been moved without a wait. A peer that is always ready must not keep the loop from
 * the other sessions, nor itself from its deadline. False: that has passed. */
static bool give_way(struct conn *c, size_t n)
{
    c->turn += n;
    if (c->turn < TURN)
        return true;
    c->turn = 0;
    fiber_yield();
    if (c->deadline != NEVER && clock_now() >= c->deadline)
        fail_deadline(c);
    return !c->err;
}

static bool wait_for(struct conn *c, uint32_t events)
{
    struct loop *l = loop_self();
    msec_t now = fiber_self() ? loop_now(l) : clock_now();
    msec_t until = c->timeout < NEVER - now ? now + c->timeout : NEVER;
    bool reading = events & EPOLLIN;

    c->turn = 0;
    if (c->deadline < until)
        until = c->deadline;
    if (fiber_fd_wait(&c->fd, events, until, reading ? "input" : "output"))
        return true;
    if (!reading)
        c->stuck = true;
    if (fiber_interrupted()) {
        c->interrupted = true;
        conn_fail(c, E_CLOSED, "shutting down");
    } else if (until == c->deadline) {
        fail_deadline(c);
    } else {
        conn_fail(c, E_TIMEOUT,
                  reading ? "nothing received for %lld seconds"
                          : "nothing accepted for %lld seconds",
                  (long long)c->timeout / 1000);
    }
    return false;
}

/* ---- TLS below OpenSSL: a BIO over the socket that gathers what is written ---- */

/* Sends what is on the wire; WOULD_BLOCK or BROKEN when some of it remains. */
static ssize_t wire_send(struct conn *c)
{
    while (c->wire_pos < c->wire_n) {
        ssize_t n = socket_write(c, c->wire + c->wire_pos, c->wire_n - c->wire_pos, NULL, 0);

        if (n < 0)
            return n;
        c->wire_pos += (size_t)n;
    }
    release_wire(c);
    return 0;
}

static int bio_write(BIO *b, const char *p, int len)
{
    struct conn *c = BIO_get_data(b);
    size_t size = (size_t)len;
    ssize_t n;

    BIO_clear_retry_flags(b);
    if (size <= GATHER_MAX && c->wire_n + size <= BLOCK) {
        if (!c->wire)
            c->wire = block_get(BLOCK);
        memcpy(c->wire + c->wire_n, p, size);
        c->wire_n += size;
        return len;
    }
    n = wire_send(c);
    if (n == 0)
        n = socket_write(c, p, size, NULL, 0);
    if (n == WOULD_BLOCK)
        BIO_set_retry_write(b);
    return n < 0 ? -1 : (int)n;
}

static int bio_read(BIO *b, char *p, int size)
{
    struct conn *c = BIO_get_data(b);
    ssize_t n = socket_read(c, p, (size_t)size);

    BIO_clear_retry_flags(b);
    if (n == WOULD_BLOCK)
        BIO_set_retry_read(b);
    return n < 0 ? -1 : (int)n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH; /* gathered on purpose: conn flushes before it waits */
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "conn");
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* What an SSL_* call that did not succeed means: AT_END, WOULD_BLOCK (wants in *events), or BROKEN
 * with the conn failed. */
static ssize_t tls_result(struct conn *c, int r, const char *doing, uint32_t *events)
{
    char text[256];

    switch (SSL_get_error(c->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        *events = EPOLLIN;
        return WOULD_BLOCK;
    case SSL_ERROR_WANT_WRITE:
        *events = EPOLLOUT;
        return WOULD_BLOCK;
    case SSL_ERROR_ZERO_RETURN:
        return AT_END;
    case SSL_ERROR_SYSCALL:
        if (!c->socket_errno)
            return AT_END; /* without close_notify, as many do */
        fail_errno(c, c->socket_errno);
        break;
    default:
        if (c->socket_errno) {
            fail_errno(c, c->socket_errno);
        } else {
            tls_errors(text, sizeof(text));
            conn_fail(c, E_TLS, "%s: %s", doing, text);
        }
        c->stuck = true;
        wire_send(c); /* the alert, if the socket takes it */
    }
    ERR_clear_error();
    return BROKEN;
}

static ssize_t tls_read(struct conn *c, void *p, size_t size, uint32_t *events)
{
    int r;

    ERR_clear_error();
    r = SSL_read(c->ssl, p, (int)size);
    return r > 0 ? r : tls_result(c, r, "TLS", events);
}

/* ---- output ---- */

/* Sends a and b (either may be empty), in clear. */
static bool send_clear(struct conn *c, const char *a, size_t a_n, const char *b, size_t b_n,
                       bool may_wait)
{
    while (a_n + b_n > 0) {
        ssize_t n = socket_write(c, a, a_n, b, b_n);

        if (n == BROKEN) {
            fail_errno(c, c->socket_errno);
            return false;
        }
        if (n == WOULD_BLOCK) {
            if (!may_wait || !wait_for(c, EPOLLOUT))
                return false;
            continue;
        }
        if ((size_t)n == a_n + b_n)
            break;
        if (may_wait && !give_way(c, (size_t)n))
            return false;
        if ((size_t)n < a_n) {
            a += n;
            a_n -= (size_t)n;
        } else {
            b += (size_t)n - a_n;
            b_n -= (size_t)n - a_n;
            a_n = 0;
        }
    }
    return true;
}

static bool wire_flush(struct conn *c, bool may_wait)
{
    for (;;) {
        ssize_t n = wire_send(c);

        if (n == 0)
            return true;
        if (n == BROKEN) {
            fail_errno(c, c->socket_errno);
            return false;
        }
        if (!may_wait || !wait_for(c, EPOLLOUT))
            return false;
    }
}

/* Into records; what is left of them is on the wire. */
static bool send_tls(struct conn *c, const char *p, size_t n, bool may_wait)
{
    while (n > 0) {
        uint32_t events = 0;
        int r;
        ssize_t why;

        ERR_clear_error();
        r = SSL_write(c->ssl, p, n > (1 << 30) ? 1 << 30 : (int)n);
        if (r > 0) {
            p += r;
            n -= (size_t)r;
            if (n > 0 && may_wait && !give_way(c, (size_t)r))
                return false;
            continue;
        }
        why = tls_result(c, r, "TLS", &events);
        if (why == AT_END)
            conn_fail(c, E_CLOSED, "connection closed by the peer");
        if (why != WOULD_BLOCK || !may_wait)
            return false;
        if (events == EPOLLIN && !wire_flush(c, true))
            return false;
        if (!wait_for(c, events))
            return false;
    }
    return true;
}

static bool flush(struct conn *c, bool may_wait)
{
    bool ok = true;

    if (c->err)
        return false;
    if (c->out_n) {
        ok = c->ssl ? send_tls(c, c->out, c->out_n, may_wait)
                    : send_clear(c, c->out, c->out_n, NULL, 0, may_wait);
        release_output(c);
    }
    if (ok && c->wire_n)
        ok = wire_flush(c, may_wait);
    if (!ok) {
        c->stuck = true;
        conn_fail(c, E_NET, "the peer takes no more output");
    }
    return ok;
}

bool conn_flush(struct conn *c)
{
    return flush(c, true);
}

/* Room for n bytes behind the pending output, n <= BLOCK; NULL when sending what is there failed.
 */
static char *output_room(struct conn *c, size_t n)
{
    if (c->out_n + n > BIG && !conn_flush(c))
        return NULL;
    if (c->out_n + n > c->out_cap) {
        size_t cap = c->out ? BIG : BLOCK;
        char *p = block_get(cap);

        if (c->out)
            memcpy(p, c->out, c->out_n);
        block_put(&c->out, c->out_cap);
        c->out = p;
        c->out_cap = cap;
    }
    return c->out + c->out_n;
}

void conn_write(struct conn *c, const void *p, size_t n)
{
    char *room;

    if (c->err || !n)
        return;
    if (n < BLOCK) {
        room = output_room(c, n);
        if (room) {
            memcpy(room, p, n);
            c->out_n += n;
        }
        return;
    }
    if (c->ssl) {
        if (flush(c, true))
            send_tls(c, p, n, true); /* the last records may still lie on the wire */
    } else {
        send_clear(c, c->out, c->out_n, p, n, true);
        release_output(c);
    }
}

void conn_printf(struct conn *c, const char *fmt, ...)
{
    char *room;
    va_list ap;
    int n;

    if (c->err)
        return;
    room = output_room(c, 512); /* most replies fit and are formatted in place */
    if (!room)
        return;
    va_start(ap, fmt);
    n = vsnprintf(room, c->out_cap - c->out_n, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n < c->out_cap - c->out_n) {
        c->out_n += (size_t)n;
    } else {
        char *text;

        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (n < 0)
            abort();
        conn_write(c, text, (size_t)n);
        free(text);
    }
}

void conn_last_words(struct conn *c, const char *fmt, ...)
{
    struct err *err = c->err;
    char text[512];
    va_list ap;
    int n;

    if (c->stuck || (err && err->code != E_TIMEOUT && !c->interrupted))
        return;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n <= 0 || (size_t)n >= sizeof(text))
        return;
    c->err = NULL;
    conn_write(c, text, (size_t)n);
    flush(c, false);
    if (err) {
        free(c->err);
        c->err = err;
    }
}

/* ---- input ---- */

/* Room behind the buffered input. */
static bool input_room(struct conn *c)
{
    size_t cap;
    char *p;

    if (c->in_pos == c->in_end) {
        c->in_pos = c->in_end = 0;
        if (c->in && (!c->bulk || c->in_cap >= BIG))
            return true;
        release_input(c);
    } else if (c->in_cap - c->in_end >= c->in_cap / 4) {
        return true;
    } else if (c->in_cap - (c->in_end - c->in_pos) >= c->in_cap / 4) {
        memmove(c->in, c->in + c->in_pos, c->in_end - c->in_pos);
        c->in_end -= c->in_pos;
        c->in_pos = 0;
        return true;
    }
    cap = !c->in ? (c->bulk ? BIG : BLOCK) : c->in_cap < BIG ? BIG : 2 * c->in_cap;
    if (cap > INPUT_MAX) {
        conn_fail(c, E_LIMIT, "more than %d bytes of input piled up", INPUT_MAX);
        return false;
    }
    p = block_get(cap);
    if (c->in)
        memcpy(p, c->in + c->in_pos, c->in_end - c->in_pos);
    block_put(&c->in, c->in_cap);
    c->in = p;
    c->in_cap = cap;
    c->in_end -= c->in_pos;
    c->in_pos = 0;
    return true;
}

/* Reads what is there behind what is buffered, without waiting: true when that was something. False
 * and *events 0: the conn has failed; else what is to be waited for, with the pending output sent
 * and an empty buffer given back. */
static bool fill_now(struct conn *c, uint32_t *events)
{
    size_t room;
    ssize_t n;

    *events = EPOLLIN;
    if (fiber_fd_is_dry(&c->fd) && (!c->ssl || !SSL_has_pending(c->ssl))) {
        n = WOULD_BLOCK;
    } else {
        if (!input_room(c)) {
            *events = 0;
            return false;
        }
        room = c->in_cap - c->in_end;
        n = c->ssl ? tls_read(c, c->in + c->in_end, room, events)
                   : socket_read(c, c->in + c->in_end, room);
        c->bulk = n >= BLOCK || (n == (ssize_t)room && c->bulk);
    }
    if (n > 0) {
        c->in_end += (size_t)n;
        return true;
    }
    if (n == AT_END) {
        flush(c, false); /* the peer may have closed its side only */
        conn_fail(c, E_CLOSED, "connection closed by the peer");
    } else if (n == BROKEN) {
        if (!c->err)
            fail_errno(c, c->socket_errno);
    } else {
        if (c->in_pos == c->in_end)
            release_input(c);
        if (flush(c, true))
            return false;
    }
    *events = 0;
    return false;
}

bool conn_fill(struct conn *c)
{
    uint32_t events;

    while (!c->err) {
        size_t had = c->in_end - c->in_pos;

        if (fill_now(c, &events))
            return give_way(c, c->in_end - c->in_pos - had);
        if (!events || !wait_for(c, events))
            return false;
    }
    return false;
}

bool conn_await(struct conn *c, msec_t deadline)
{
    uint32_t events;

    while (!c->err) {
        if (c->in_pos < c->in_end || fill_now(c, &events))
            return true;
        if (!events || !fiber_fd_wait(&c->fd, events, deadline, "a command"))
            return false;
    }
    return false;
}

struct slice conn_peek(struct conn *c)
{
    return (struct slice){c->in ? c->in + c->in_pos : "", c->in_end - c->in_pos};
}

void conn_consume(struct conn *c, size_t n)
{
    assert(n <= c->in_end - c->in_pos);
    c->in_pos += n;
    c->scanned = c->scanned > n ? c->scanned - n : 0;
}

bool conn_input_pending(struct conn *c)
{
    return c->in_pos < c->in_end || (c->ssl && SSL_pending(c->ssl) > 0);
}

bool conn_is_quiet(struct conn *c)
{
    char byte;

    if (c->err || conn_input_pending(c) || (c->ssl && SSL_has_pending(c->ssl)))
        return false;
    if (fiber_fd_is_dry(&c->fd))
        return true;
    return recv(c->fd.watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

struct slice conn_read_some(struct conn *c, size_t max)
{
    struct slice s = {"", 0};

    if (c->in_pos == c->in_end && !conn_fill(c))
        return s;
    s = conn_peek(c);
    if (s.n > max)
        s.n = max;
    conn_consume(c, s.n);
    return s;
}

/* The offset of the next LF behind in_pos, or -1. */
static ssize_t find_line_end(struct conn *c)
{
    struct slice s = conn_peek(c);
    const char *lf = memchr(s.p + c->scanned, '\n', s.n - c->scanned);

    if (lf)
        return lf - s.p;
    c->scanned = s.n;
    return -1;
}

static bool is_bare(struct slice s)
{
    assert(s.p);
    return memchr(s.p, '\n', s.n) || memchr(s.p, '\r', s.n) || memchr(s.p, '\0', s.n);
}

enum conn_line conn_read_line(struct conn *c, size_t max, struct slice *line)
{
    size_t skipped = 0;

    *line = (struct slice){"", 0};
    for (;;) {
        ssize_t n = c->in_pos < c->in_end ? find_line_end(c) : -1;
        size_t have = c->in_end - c->in_pos;

        if (n >= 0) {
            assert(c->in); /* something is buffered */
            struct slice s = {c->in + c->in_pos, (size_t)n};
            bool crlf;

            assert(c->in);
            crlf = n > 0 && s.p[n - 1] == '\r';
            s.n -= crlf;
            conn_consume(c, (size_t)n + 1);
            c->scanned = 0;
            if (skipped || s.n > max)
                return CONN_LINE_LONG;
            *line = s;
            return !crlf || is_bare(s) ? CONN_LINE_BARE : CONN_LINE_OK;
        }
        if (have > max + 1 || skipped) { /* too long already, even if it ends with the next byte */
            skipped += have;
            conn_consume(c, have);
            if (skipped > SKIP_MAX) {
                conn_fail(c, E_LIMIT, "a line without end");
                return CONN_LINE_FAILED;
            }
        }
        if (!conn_fill(c))
            return CONN_LINE_FAILED;
    }
}

/* ---- TLS ---- */

void conn_offer_session(struct conn *c, struct ssl_session_st *session)
{
    if (session)
        SSL_SESSION_up_ref(session);
    SSL_SESSION_free(c->offer);
    c->offer = session;
}

struct ssl_session_st *conn_take_session(struct conn *c)
{
    SSL_SESSION *s = c->ssl ? SSL_get1_session(c->ssl) : NULL;

    if (s && SSL_SESSION_is_resumable(s))
        return s;
    SSL_SESSION_free(s);
    return NULL;
}

void conn_before_handshake(struct conn *c,
                           bool (*prepare)(SSL *ssl, void *arg, struct err *err), void *arg)
{
    c->prepare = prepare;
    c->prepare_arg = arg;
}

static bool make_ssl(struct conn *c, struct tls_context *ctx, const char *host)
{
    struct addr literal;
    BIO *bio;

    pthread_once(&bio_once, bio_method_make);
    ERR_clear_error();
    c->ssl = SSL_new(tls_context_ssl(ctx));
    bio = bio_method ? BIO_new(bio_method) : NULL;
    if (!c->ssl || !bio) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    if (!host) {
        SSL_set_accept_state(c->ssl);
        return true;
    }
    SSL_set_connect_state(c->ssl);
    if (c->offer && SSL_set_session(c->ssl, c->offer) != 1)
        return false;
    /* RFC 6066 section 3: no addresses, no trailing dot */
    if (*host && !addr_parse(host, &literal)) {
        char name[256];

        str_copy(name, sizeof(name), host);
        if (name[0] && name[strlen(name) - 1] == '.')
            name[strlen(name) - 1] = '\0';
        if (SSL_set_tlsext_host_name(c->ssl, name) != 1)
            return false;
    }
    return true;
}

/* For the whole of it, however slowly the peer drips: a half-open one holds more memory than a
 * session. */
#define HANDSHAKE_TIMEOUT SECONDS(60)
#define RACE_STAGGER 250 /* ms, RFC 8305 section 8 */
#define RACE_TICK 10

static bool handshake(struct conn *c, struct tls_context *ctx, const char *host)
{
    struct err err = {0};
    char text[256];

    assert(!c->ssl);
    if (!conn_flush(c))
        return false;
    if (c->in_pos < c->in_end) { /* RFC 3207 section 6: clear must not count as secured */
        conn_fail(c, E_TLS, "bytes after STARTTLS");
        return false;
    }
    release_input(c);
    if (!make_ssl(c, ctx, host)) {
        tls_errors(text, sizeof(text));
        conn_fail(c, E_TLS, "preparing TLS: %s", text);
        return false;
    }
    if (c->prepare && !c->prepare(c->ssl, c->prepare_arg, &err)) {
        conn_fail(c, err.code, "%s", err.text);
        return false;
    }
    for (;;) {
        uint32_t events = 0;
        ssize_t why;
        int r;

        ERR_clear_error();
        r = SSL_do_handshake(c->ssl);
        if (r == 1)
            break; /* a server's tickets leave with its first reply */
        why = tls_result(c, r, "TLS handshake", &events);
        if (why == AT_END)
            conn_fail(c, E_CLOSED, "connection closed during the TLS handshake");
        if (why != WOULD_BLOCK)
            return false;
        if (!wire_flush(c, true) || !wait_for(c, events)) {
            c->stuck = true; /* no last words into half a handshake */
            return false;
        }
    }
    c->secured = true;
    SSL_SESSION_free(c->offer);
    c->offer = NULL;
    fiber_trim_stack(); /* nothing later goes as deep */
    return true;
}

static bool start_tls(struct conn *c, struct tls_context *ctx, const char *host, struct err *err)
{
    msec_t until = clock_in(HANDSHAKE_TIMEOUT), deadline = c->deadline;
    bool ok;

    if (until < deadline)
        c->deadline = until;
    ok = handshake(c, ctx, host);
    c->deadline = deadline;
    if (ok)
        return true;
    return err_set(err, c->err->code, "%s", c->err->text);
}

bool conn_start_tls_server(struct conn *c, struct tls_context *ctx, struct err *err)
{
    return start_tls(c, ctx, NULL, err);
}

bool conn_start_tls_client(struct conn *c, struct tls_context *ctx, const char *host,
                           struct err *err)
{
    return start_tls(c, ctx, host ? host : "", err);
}

bool conn_is_tls(const struct conn *c)
{
    return c->secured;
}

void conn_tls_info(const struct conn *c, struct tls_info *out)
{
    if (c->ssl)
        tls_info_of(c->ssl, out);
    else
        memset(out, 0, sizeof(*out));
}

struct ssl_st *conn_ssl(const struct conn *c)
{
    return c->ssl;
}

/* ---- the connection ---- */

struct conn *conn_new(int fd)
{
    struct conn *c = xcalloc(1, sizeof(*c));

    fiber_fd_init(&c->fd, fd);
    c->timeout = MINUTES(5);
    c->deadline = NEVER;
    return c;
}

void conn_free(struct conn **cp)
{
    struct conn *c = *cp;

    *cp = NULL;
    if (!c)
        return;
    if (!c->stuck && (!c->err || c->err->code == E_CLOSED || c->interrupted)) {
        flush(c, false);
        if (conn_is_tls(c)) {
            ERR_clear_error();
            SSL_shutdown(c->ssl);
            ERR_clear_error();
        }
        if (c->wire_n)
            wire_send(c);
    }
    SSL_free(c->ssl);
    SSL_SESSION_free(c->offer);
    fiber_fd_forget(&c->fd);
    close(c->fd.watch.fd);
    release_input(c);
    release_output(c);
    release_wire(c);
    free(c->err);
    free(c);
}

void conn_detach(struct conn *c)
{
    fiber_fd_forget(&c->fd);
}

/* A connection on its way, or NULL. *pending: connect_result will tell. */
static struct conn *connect_begin(const struct addr *to, const struct addr *from, bool *pending,
                                  struct err *err)
{
    struct sockaddr_storage ss;
    char name[ADDR_TEXT], from_name[ADDR_TEXT];
    struct conn *c;
    int fd, on = 1;

    addr_text_port(to, name);
    fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        err_set(err, E_IO, "connecting to %s: %s", name, strerror(errno));
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = conn_new(fd);
    if (from && from->family == to->family) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(from, &ss)) < 0) {
            err_set(err, E_IO, "using %s for connections to %s: %s", addr_text(from, from_name),
                    name, strerror(errno));
            conn_free(&c);
            return NULL;
        }
    }
    *pending = false;
    if (connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) == 0)
        return c;
    *pending = errno == EINPROGRESS;
    if (!*pending) {
        err_set(err, E_NET, "connecting to %s: %s", name, strerror(errno));
        conn_free(&c);
    }
    return c;
}

/* Of a connection that was pending and is decided. */
static bool connect_result(const struct conn *c, const struct addr *to, struct err *err)
{
    socklen_t len = sizeof(int);
    char name[ADDR_TEXT];
    int e = 0;

    if (getsockopt(conn_fd(c), SOL_SOCKET, SO_ERROR, &e, &len) < 0)
        e = errno;
    return !e || err_set(err, E_NET, "connecting to %s: %s", addr_text_port(to, name), strerror(e));
}

struct race { /* connections on their way at once */
    const struct addr *const *to;
    const struct addr *from;
    struct conn *open[CONN_RACE_MAX];
    unsigned n, started, running;
    struct err *err;
};

/* The connection that has won, if there is one; those that have failed are closed. */
static struct conn *race_look(struct race *r, unsigned *which)
{
    for (unsigned i = 0; i < r->started; i++) {
        struct pollfd p = {.events = POLLOUT};
        struct conn *c = r->open[i];

        if (!c)
            continue;
        p.fd = conn_fd(c);
        if (poll(&p, 1, 0) == 0)
            continue;
        r->open[i] = NULL;
        if (connect_result(c, r->to[i], r->err)) {
            *which = i;
            return c;
        }
        conn_free(&c);
        r->running--;
    }
    return NULL;
}

/* The next address; the connection when it stands at once. */
static struct conn *race_start(struct race *r, unsigned *which)
{
    unsigned i = r->started++;
    bool pending = false;
    struct conn *c = connect_begin(r->to[i], r->from, &pending, r->err);

    if (c && !pending) {
        *which = i;
        return c;
    }
    r->open[i] = c;
    r->running += c != NULL;
    return NULL;
}

/* YIELDS. Until something may have happened, or it is time for the next address. false: interrupted. */
static bool race_wait(struct race *r, msec_t until)
{
    msec_t now = clock_now();

    if (r->running == 1) /* the usual case: wakes with the event */
        for (unsigned i = 0; i < r->started; i++)
            if (r->open[i])
                return fiber_fd_wait(&r->open[i]->fd, EPOLLOUT, until, "connection") ||
                       !fiber_interrupted();
    if (now >= until)
        return true;
    return fiber_sleep(until - now < RACE_TICK ? until - now : RACE_TICK);
}

struct conn *conn_connect_first(const struct addr *const *to, unsigned n, const struct addr *from,
                                msec_t deadline, unsigned *which, struct err *err)
{
    struct race r = {.to = to, .from = from, .n = n < CONN_RACE_MAX ? n : CONN_RACE_MAX, .err = err};
    msec_t next = clock_now();
    struct conn *winner = NULL;
    char name[ADDR_TEXT];

    *which = 0;
    while (!winner && (r.running || r.started < r.n)) {
        msec_t now = clock_now();

        if (now >= deadline) {
            err_set(err, E_TIMEOUT, "connecting to %s: no answer in time", addr_text_port(to[0], name));
            break;
        }
        if (r.started < r.n && (!r.running || now >= next)) {
            winner = race_start(&r, which);
            next = now + RACE_STAGGER;
            continue;
        }
        if (!race_wait(&r, r.started < r.n && next < deadline ? next : deadline)) {
            err_set(err, E_CLOSED, "connecting to %s: shutting down", addr_text_port(to[0], name));
            break;
        }
        winner = race_look(&r, which);
    }
    for (unsigned i = 0; i < r.started; i++)
        if (r.open[i])
            conn_free(&r.open[i]);
    return winner;
}

struct conn *conn_connect(const struct addr *to, const struct addr *from, msec_t deadline,
                          struct err *err)
{
    unsigned which;

    return conn_connect_first(&to, 1, from, deadline, &which, err);
}

void conn_set_timeout(struct conn *c, msec_t per_wait)
{
    c->timeout = per_wait;
}

void conn_set_deadline(struct conn *c, msec_t deadline)
{
    c->deadline = deadline;
}

void conn_peer(const struct conn *c, struct addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);

    getpeername(c->fd.watch.fd, (struct sockaddr *)&ss, &len);
    addr_from_sockaddr(out, &ss);
}

void conn_local(const struct conn *c, struct addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);

    getsockname(c->fd.watch.fd, (struct sockaddr *)&ss, &len);
    addr_from_sockaddr(out, &ss);
}

int conn_fd(const struct conn *c)
{
    return c->fd.watch.fd;
}

unsigned long long conn_bytes_in(const struct conn *c)
{
    return c->bytes_in;
}

unsigned long long conn_bytes_out(const struct conn *c)
{
    return c->bytes_out;
}
