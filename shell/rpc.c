/* rpc.c - see rpc.h. */
#include "shell/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/str.h"

struct rpc {
    int fd;
    int64_t last_id;
    struct buf in;
    size_t scanned; /* bytes of in known to hold no newline */
    struct strlist notices;
};

struct rpc *rpc_of_fd(int fd)
{
    struct rpc *r = xcalloc(1, sizeof(*r));

    r->fd = fd;
    r->in.max = JSON_MAX_LINE + 65536;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return r;
}

struct rpc *rpc_open(const char *path, struct err *err)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd;

    if (str_copy(to.sun_path, sizeof(to.sun_path), path) != strlen(path)) {
        err_set(err, E_CLOSED, "The path of the control socket is too long: %s", path);
        return NULL;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        int e = errno;

        if (e == EACCES)
            err_set(err, E_DENIED, "This account may not use the gateway's console (%s).", path);
        else
            err_set(err, E_CLOSED, "The gateway does not answer: is posternd running? (%s: %s)",
                    path, strerror(e));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return rpc_of_fd(fd);
}

void rpc_free(struct rpc **r)
{
    if (!*r)
        return;
    close((*r)->fd);
    buf_free(&(*r)->in);
    strlist_free(&(*r)->notices);
    free(*r);
    *r = NULL;
}

int rpc_fd(const struct rpc *r)
{
    return r ? r->fd : -1;
}

static bool closed(struct err *err)
{
    return err_set(err, E_CLOSED, "The gateway closed the connection.");
}

static bool send_all(struct rpc *r, const char *p, size_t n, struct err *err)
{
    while (n) {
        ssize_t sent = send(r->fd, p, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return closed(err);
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool send_request(struct rpc *r, int64_t id, const char *op, json_t *args, struct err *err)
{
    AUTO(json) json_t *request = json_object();
    char *text;
    size_t n;
    bool ok;

    json_put_int(request, "id", id);
    json_put_str(request, "op", op);
    json_put(request, "args", args ? args : json_object());
    text = json_text(request);
    n = strlen(text);
    text = xrealloc(text, n + 2);
    memcpy(text + n, "\n", 2);
    ok = n + 1 <= JSON_MAX_LINE
             ? send_all(r, text, n + 1, err)
             : err_set(err, E_LIMIT, "The request is larger than the gateway accepts.");
    explicit_bzero(text, n);
    free(text);
    return ok;
}

int64_t rpc_send(struct rpc *r, const char *op, json_t *args, struct err *err)
{
    return send_request(r, ++r->last_id, op, args, err) ? r->last_id : 0;
}

void rpc_cancel(struct rpc *r, int64_t id)
{
    json_t *args = json_object();

    json_put_int(args, "id", id);
    send_request(r, ++r->last_id, "cancel", args, NULL);
}

/* Reads what is there. false: the peer has gone, or it broke the protocol. */
static bool fill(struct rpc *r, struct err *err)
{
    for (;;) {
        char *room = buf_reserve(&r->in, 65536);
        ssize_t n;

        if (!room)
            return err_set(err, E_PROTOCOL, "The gateway's answer is too long.");
        n = recv(r->fd, room, 65536, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n <= 0)
            return closed(err);
        r->in.n += (size_t)n;
        if ((size_t)n < 65536)
            return true;
    }
}

static json_t *next_line(struct rpc *r, struct err *err)
{
    char *newline =
        r->in.n > r->scanned ? memchr(r->in.p + r->scanned, '\n', r->in.n - r->scanned) : NULL;
    size_t n;
    json_t *j;

    if (!newline) {
        r->scanned = r->in.n;
        return NULL;
    }
    n = (size_t)(newline - r->in.p);
    j = json_parse(r->in.p, n, err);
    buf_drop(&r->in, n + 1);
    r->scanned = 0;
    return j;
}

json_t *rpc_receive(struct rpc *r, int64_t id, struct err *err)
{
    bool filled = false;
    struct err none = {0};

    *err = none;
    for (;;) {
        json_t *j = next_line(r, err);
        const char *notice;

        if (!j && err->code)
            return NULL;
        if (!j && filled)
            return NULL;
        if (!j) {
            struct err gone = {0};

            filled = true;
            if (!fill(r, &gone) && !(r->in.n && memchr(r->in.p, '\n', r->in.n))) {
                *err = gone;
                return NULL;
            }
            continue;
        }
        notice = json_str(j, "notice", NULL);
        if (notice)
            strlist_add(&r->notices, notice);
        else if (id && (json_int(j, "id", 0) == id || json_is_null(json_object_get(j, "id"))))
            return j; /* null: the connection itself is refused */
        json_decref(j);
    }
}

char *rpc_notice(struct rpc *r)
{
    char *first;

    if (!r->notices.n)
        return NULL;
    first = r->notices.items[0];
    r->notices.n--;
    memmove(r->notices.items, r->notices.items + 1, r->notices.n * sizeof(*r->notices.items));
    return first;
}
