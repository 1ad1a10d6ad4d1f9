/* ports.c - see ports.h. Requests: "ready" (no answer) and "bind ADDRESS:PORT BACKLOG". Answers: "ok" with the socket
 * attached (SCM_RIGHTS), or "error NUMBER" with an errno value. The parent trusts nothing in a request: it binds TCP
 * ports for listening and does nothing else. */
#include "daemon/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "daemon/listeners.h"
#include "store/base/net.h"
#include "store/base/str.h"

#define MAX_BACKLOG 4096
#define MESSAGE_BYTES 128

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* one request at a time */
static int parent = -1;

void ports_attach(int fd)
{
    struct timeval patience = {.tv_sec = 5};

    parent = fd;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

/* A listening socket or -1 and errno. Listening starts here, because only then is a port taken by somebody else
 * noticed in every case. */
static int listen_on(const struct addr *a, unsigned backlog)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(a, &ss);
    int fd, on = 1, e;

    if (!len || a->port < 1 || a->port > 65535) {
        errno = EINVAL;
        return -1;
    }
    fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, (int)(backlog < MAX_BACKLOG ? backlog : MAX_BACKLOG)) == 0)
        return fd;
    e = errno;
    close(fd);
    errno = e;
    return -1;
}

static bool explain(struct err *err, int e, const struct addr *a)
{
    char ip[ADDR_TEXT];

    addr_text(a, ip);
    switch (e) {
    case EADDRINUSE:
        return err_set(err, E_BUSY,
                       "Port %u of %s is in use by another program; stop it or choose another port",
                       a->port, ip);
    case EACCES:
    case EPERM:
        return err_set(err, E_DENIED,
                       "Port %u needs a privilege this gateway was started without; start posternd as "
                       "root or choose a port from 1024",
                       a->port);
    case EADDRNOTAVAIL:
        return err_set(err, E_INVALID, "This machine has no address %s", ip);
    case EAFNOSUPPORT:
        return err_set(err, E_INVALID, "This machine does not speak the protocol of %s", ip);
    default:
        return err_errno(err, e, "Listening on port %u of %s", a->port, ip);
    }
}

/* Sends the request, receives the answer and the socket in it. -1 and errno: there was none. */
static int ask_parent(const char *request)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char text[MESSAGE_BYTES];
    struct iovec io = {text, sizeof(text) - 1};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    struct cmsghdr *c;
    ssize_t n;
    int fd = -1;

    if (send(parent, request, strlen(request), MSG_NOSIGNAL) < 0)
        return -1;
    do
        n = recvmsg(parent, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        errno = n == 0 ? EPIPE : errno;
        return -1;
    }
    text[n] = '\0';
    c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    if (fd < 0)
        errno = str_starts(text, "error ") ? (int)strtol(text + 6, NULL, 10) : EPROTO;
    return fd;
}

int supervisor_bind(const char *address, unsigned port, unsigned backlog, struct err *err)
{
    char request[MESSAGE_BYTES], where[ADDR_TEXT];
    struct addr a;
    int fd, e;

    if (!addr_parse(address, &a)) {
        err_set(err, E_INVALID, "%s is not an IP address", str_printable(address));
        return -1;
    }
    a.port = port;
    if (parent < 0) {
        fd = listen_on(&a, backlog);
        e = errno;
    } else {
        snprintf(request, sizeof(request), "bind %s %u", addr_text_port(&a, where), backlog);
        pthread_mutex_lock(&lock);
        fd = ask_parent(request);
        e = errno;
        pthread_mutex_unlock(&lock);
    }
    if (fd < 0)
        explain(err, e, &a);
    return fd;
}

void ports_ready(void)
{
    pthread_mutex_lock(&lock);
    if (parent >= 0)
        (void)!send(parent, "ready", 5, MSG_NOSIGNAL);
    pthread_mutex_unlock(&lock);
}

static void answer(int to, int fd, int e)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char text[MESSAGE_BYTES];
    struct iovec io = {text, 0};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};

    if (fd >= 0) {
        str_copy(text, sizeof(text), "ok");
        memset(&control, 0, sizeof(control));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
        m.msg_control = control.space;
        m.msg_controllen = sizeof(control.space);
    } else {
        snprintf(text, sizeof(text), "error %d", e);
    }
    io.iov_len = strlen(text);
    (void)!sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* "ADDRESS:PORT BACKLOG" */
static bool parse_bind(char *text, struct addr *a, unsigned *backlog)
{
    char *space = strchr(text, ' '), *end;
    unsigned long n;

    if (!space)
        return false;
    *space = '\0';
    n = strtoul(space + 1, &end, 10);
    *backlog = n < MAX_BACKLOG ? (unsigned)n : MAX_BACKLOG;
    return end != space + 1 && !*end && addr_parse_port(text, 0, a);
}

bool ports_serve(int fd, const char *text, size_t n)
{
    char request[MESSAGE_BYTES];
    struct addr a;
    unsigned backlog;
    int listener;

    if (n == 0 || n >= sizeof(request)) {
        answer(fd, -1, EINVAL);
        return false;
    }
    memcpy(request, text, n);
    request[n] = '\0';
    if (str_eq(request, "ready"))
        return true;
    if (!str_starts(request, "bind ") || !parse_bind(request + 5, &a, &backlog)) {
        answer(fd, -1, EINVAL);
        return false;
    }
    listener = listen_on(&a, backlog);
    answer(fd, listener, listener < 0 ? errno : 0);
    if (listener >= 0)
        close(listener);
    return false;
}
