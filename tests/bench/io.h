/*
 * io.h - what the load generator and the sink share: buffers and non-blocking sockets in clear or
 * TLS.
 *
 * The two are programs of their own, so that a fault of the gateway's connection code cannot hide
 * itself by being on both ends of a measurement; nothing here comes from store/ or daemon/. Static,
 * because each program is one source file. Out of memory ends the program.
 */
#ifndef TESTS_BENCH_IO_H
#define TESTS_BENCH_IO_H

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE (64 * 1024)

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static void *must(void *p)
{
    if (!p)
        die("out of memory");
    return p;
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Bytes start..end of p are filled. */
struct bytes {
    char *p;
    size_t start, end, cap;
};

static inline size_t bytes_len(const struct bytes *b)
{
    return b->end - b->start;
}

static inline char *bytes_at(const struct bytes *b)
{
    return b->p + b->start;
}

static inline char *bytes_room(struct bytes *b, size_t n)
{
    if (b->cap - b->end < n && b->start > 0) {
        memmove(b->p, b->p + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    if (b->cap - b->end < n) {
        b->cap = b->cap * 2 > b->end + n ? b->cap * 2 : b->end + n;
        b->p = must(realloc(b->p, b->cap));
    }
    return b->p + b->end;
}

static inline void bytes_put(struct bytes *b, const void *data, size_t n)
{
    memcpy(bytes_room(b, n), data, n);
    b->end += n;
}

__attribute__((format(printf, 2, 0))) static inline void bytes_vprintf(struct bytes *b, const char *fmt,
                                                                va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(bytes_room(b, 512), 512, fmt, ap);
    if (n < 0)
        die("cannot format \"%s\"", fmt);
    if (n >= 512)
        vsnprintf(bytes_room(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
    va_end(again);
    b->end += (size_t)n;
}

__attribute__((format(printf, 2, 3))) static inline void bytes_printf(struct bytes *b, const char *fmt,
                                                               ...)
{
    va_list ap;

    va_start(ap, fmt);
    bytes_vprintf(b, fmt, ap);
    va_end(ap);
}

/* Drops n bytes from the front; an emptied buffer gives large memory back. */
static inline void bytes_drop(struct bytes *b, size_t n)
{
    b->start += n;
    if (b->start < b->end)
        return;
    b->start = b->end = 0;
    if (b->cap > 4 * READ_SIZE) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
    }
}

static inline void bytes_free(struct bytes *b)
{
    free(b->p);
    memset(b, 0, sizeof(*b));
}

struct io {
    int fd;
    SSL *ssl; /* NULL in clear */
    bool want_write, watched;
    uint32_t events; /* what epoll knows */
    struct bytes in, out;
};

static inline void io_close(struct io *io)
{
    SSL_free(io->ssl);
    if (io->fd >= 0)
        close(io->fd);
    bytes_free(&io->in);
    bytes_free(&io->out);
    io->ssl = NULL;
    io->fd = -1;
}

/* After a TLS call: 0 = try again later, -1 = over. */
static inline int io_ssl_result(struct io *io, int rc)
{
    switch (SSL_get_error(io->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        io->want_write = true;
        return 0;
    default:
        return -1;
    }
}

/* One read into `in`: number of bytes, 0 = nothing there now, -1 = closed or broken. */
static inline int io_read(struct io *io)
{
    char *to = bytes_room(&io->in, READ_SIZE);
    ssize_t n;

    if (io->ssl) {
        ERR_clear_error();
        n = SSL_read(io->ssl, to, READ_SIZE);
        if (n <= 0)
            return io_ssl_result(io, (int)n);
    } else {
        n = read(io->fd, to, READ_SIZE);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        if (n == 0)
            return -1;
    }
    io->in.end += (size_t)n;
    return (int)n;
}

/* Sends what can be sent of `out`; false = broken. */
static inline bool io_flush(struct io *io)
{
    io->want_write = false;
    while (bytes_len(&io->out) > 0) {
        size_t len = bytes_len(&io->out);
        ssize_t n;

        if (io->ssl) {
            ERR_clear_error();
            n = SSL_write(io->ssl, bytes_at(&io->out), len > 1 << 20 ? 1 << 20 : (int)len);
            if (n <= 0)
                return io_ssl_result(io, (int)n) == 0;
        } else {
            n = send(io->fd, bytes_at(&io->out), len, MSG_NOSIGNAL);
            if (n < 0) {
                io->want_write = true;
                return errno == EAGAIN || errno == EINTR;
            }
        }
        bytes_drop(&io->out, (size_t)n);
    }
    return true;
}

/* 1 = done, 0 = in progress, -1 = failed. */
static inline int io_handshake(struct io *io)
{
    int rc;

    ERR_clear_error();
    io->want_write = false;
    rc = SSL_do_handshake(io->ssl);
    return rc == 1 ? 1 : io_ssl_result(io, rc);
}

/* Tells epoll what to wait for now. */
static inline void io_watch(struct io *io, int epoll, bool reading, void *arg)
{
    uint32_t events = (reading ? EPOLLIN : 0) | (io->want_write ? EPOLLOUT : 0);
    struct epoll_event ev = {.events = events, .data.ptr = arg};

    if (io->watched && events == io->events)
        return;
    if (epoll_ctl(epoll, io->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, io->fd, &ev) < 0)
        die("epoll_ctl: %s", strerror(errno));
    io->watched = true;
    io->events = events;
}

static inline void io_socket_options(int fd)
{
    int one = 1;

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* HOST:PORT or [HOST]:PORT; the first address it stands for. */
static inline void parse_address(const char *text, struct sockaddr_storage *out, socklen_t *len)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    int rc;

    if (!colon || n >= sizeof(host))
        die("%s: not HOST:PORT", text);
    if (n > 1 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    rc = getaddrinfo(host, colon + 1, &hints, &list);
    if (rc != 0)
        die("%s: %s", host, gai_strerror(rc));
    memcpy(out, list->ai_addr, list->ai_addrlen);
    *len = list->ai_addrlen;
    freeaddrinfo(list);
}

static inline long parse_number(const char *option, const char *text, long min, long max)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max)
        die("%s %s: a number from %ld to %ld is wanted", option, text, min, max);
    return n;
}

/* What an option of the command line sets. */
struct option_spec {
    const char *name; /* with the dashes */
    enum { FLAG, TEXT, NUMBER, CALL } kind;
    void *to; /* bool, const char * or long */
    long min, max;
    void (*call)(const char *text);
};

static inline void parse_options(char **argv, const struct option_spec *specs, size_t n)
{
    for (char **arg = argv + 1; *arg; arg++) {
        const struct option_spec *o = specs;

        while (o < specs + n && strcmp(o->name, *arg) != 0)
            o++;
        if (o == specs + n)
            die("%s: no such option; the head of %s.c lists them", *arg, argv[0]);
        if (o->kind == FLAG) {
            *(bool *)o->to = true;
            continue;
        }
        if (!*++arg)
            die("%s: a value is wanted", o->name);
        if (o->kind == TEXT)
            *(const char **)o->to = *arg;
        else if (o->kind == NUMBER)
            *(long *)o->to = parse_number(o->name, *arg, o->min, o->max);
        else
            o->call(*arg);
    }
}

/* As many descriptors as the system lets us have. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

#endif
