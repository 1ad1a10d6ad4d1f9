/* control.c - the control socket's server: accepts, says who is there, reads requests, calls the
 * handlers of control_*.c, writes answers. All connections are fibers of one loop, so sessions and
 * candidates need no locks; log lines and the like from other threads come as posts. A request line
 * from a local user is still input from outside. */
#include "daemon/control.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/candidate.h"
#include "daemon/config_db.h"
#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/logfile.h"
#include "daemon/loop.h"
#include "daemon/worker.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define MAX_CONNECTIONS 256
#define MAX_PER_UID 64
#define LARGE_REQUEST (256u << 10) /* smaller ones are not looked at: 64 of them are little */
#define MAX_UNFINISHED                                                                             \
    (3u * JSON_MAX_LINE) /* bytes of one account's requests that are not complete yet */
#define BURST                                                                                      \
    20000 /* requests a connection may send at once; beyond it they are slowed down to             \
           */
#define PER_SECOND 5000 /* this rate */
#define MAX_NOTICES 20 /* kept while a request is served */

struct control {
    struct list node;
    struct conn *conn;
    uint64_t id;
    uid_t uid;
    pid_t pid;
    char *user, *peer, *via;
    enum role role;
    bool interactive, greeted;
    usec_t since, touched;
    char *what; /* the last operation */
    struct candidate *candidate;
    void *kept; /* see control_keep */
    void (*kept_end)(void *thing);

    json_int_t request; /* id of the one being served */
    bool busy, cancelled;
    json_t *extra; /* members of the final answer besides data */
    struct strlist notices;
    struct buf in; /* bytes received and not served yet */
    double tokens;
    msec_t refilled;
};

static const struct control_op *const tables[] = {
    control_verify_ops, control_explain_ops, control_ldap_ops, control_crl_ops, control_access_ops,
    control_config_ops, control_text_ops,   control_cert_ops, control_trust_ops, control_tlsa_ops,  control_log_ops,
    control_message_ops,
    control_queue_ops,  control_status_ops, control_sts_ops,  control_debug_ops, control_auth_ops,
    control_alert_ops,  control_dest_ops, control_tls_ops, control_host_ops, control_dns_ops,
};

static struct list connections = LIST_INIT(connections);
static unsigned count;
static uint64_t next_id = 1;
static int listen_fd = -1;
static struct loop *loop;
static char *socket_path;

const char *control_user(struct control *c)
{
    return c->user;
}

const char *control_peer(struct control *c)
{
    return c->peer;
}

enum role control_role(struct control *c)
{
    return c->role;
}

uint64_t control_session(struct control *c)
{
    return c->id;
}

pid_t control_pid(struct control *c)
{
    return c->pid;
}

struct candidate **control_candidate(struct control *c)
{
    return &c->candidate;
}

void control_envelope(struct control *c, const char *key, json_t *value)
{
    json_put(c->extra, key, value);
}

struct control *control_next(struct control *after)
{
    struct list *node = after ? after->node.next : connections.next;

    return node == &connections ? NULL : list_item(node, struct control, node);
}

const char *control_role_name(enum role role)
{
    return role == ROLE_ADMIN      ? "administrator"
           : role == ROLE_OPERATOR ? "operator"
           : role == ROLE_READONLY ? "readonly"
           : role                  ? "guest"
                                   : "none";
}

bool control_greeted(struct control *c)
{
    return c->greeted;
}

json_t *control_describe(struct control *c)
{
    json_t *j = json_object();
    char date[40];

    json_put_int(j, "id", (json_int_t)c->id);
    json_put_str(j, "user", c->user);
    json_put_str(j, "role", control_role_name(c->role));
    json_put_str(j, "from", c->peer);
    json_put_str(j, "via", c->via);
    json_put_str(j, "since", clock_rfc3339(c->since, date));
    json_put_int(j, "since_us", c->since);
    json_put_int(j, "idle", (clock_wall() - c->touched) / 1000000);
    json_put_str(j, "what", c->what);
    json_put_int(j, "changes", c->candidate ? (json_int_t)candidate_count(c->candidate) : 0);
    return j;
}

void control_audit(struct control *c, const char *action, const char *object, const char *result,
                   const char *detail)
{
    struct db_audit row = control_who(c);

    row.action = action;
    row.object = object;
    row.result = result;
    row.detail = detail;
    config_db_audit(&row); /* YIELDS */
}

struct db_audit control_who(struct control *c)
{
    return (struct db_audit){.actor = c->user,
                             .uid = c->uid,
                             .role = control_role_name(c->role),
                             .peer = c->peer,
                             .session = c->id};
}

/* --- writing --- */

static bool send_json(struct control *c, json_t *j)
{
    char *text = json_text(j);

    conn_write(c->conn, text, strlen(text));
    conn_write(c->conn, "\n", 1);
    free(text);
    json_decref(j);
    return conn_flush(c->conn); /* YIELDS */
}

bool control_more(struct control *c, json_t *data)
{
    json_t *j = json_object();

    json_put_int(j, "id", c->request);
    json_put(j, "more", json_true());
    json_put(j, "data", data);
    return send_json(c, j) && !control_cancelled(c);
}

/* Looks into the socket's buffer for {"op":"cancel"...} or the end, without taking anything out:
 * the line is read in its turn, when it finds nothing to cancel any more. */
bool control_cancelled(struct control *c)
{
    char text[512];
    ssize_t n;

    if (c->cancelled || conn_failed(c->conn))
        return true;
    if (c->in.n) {
        c->cancelled =
            memmem(c->in.p, c->in.n < sizeof(text) ? c->in.n : sizeof(text), "\"cancel\"", 8);
        return c->cancelled;
    }
    n = recv(conn_fd(c->conn), text, sizeof(text) - 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0)
        c->cancelled = errno != EAGAIN && errno != EINTR;
    else
        c->cancelled = n == 0 || memmem(text, (size_t)n, "\"cancel\"", 8);
    return c->cancelled;
}

static void send_notices(struct control *c)
{
    for (size_t i = 0; i < c->notices.n; i++) {
        json_t *j = json_object();

        json_put_str(j, "notice", c->notices.items[i]);
        send_json(c, j);
    }
    strlist_free(&c->notices);
}

/* To a connection that waits for its next request nothing else is being written, so the line goes
 * out at once; a peer that does not read loses its connection rather than half a line. */
static void notify(struct control *c, const char *text)
{
    json_t *j;
    char *line, *whole;

    if (!c->greeted)
        return;
    if (c->busy) {
        if (c->notices.n < MAX_NOTICES)
            strlist_add(&c->notices, text);
        return;
    }
    j = json_object();
    json_put_str(j, "notice", text);
    line = json_text(j);
    whole = xasprintf("%s\n", line);
    if (send(conn_fd(c->conn), whole, strlen(whole), MSG_DONTWAIT | MSG_NOSIGNAL) !=
        (ssize_t)strlen(whole))
        shutdown(conn_fd(c->conn), SHUT_RDWR);
    free(whole);
    free(line);
    json_decref(j);
}

void control_notify_others(struct control *not_this, const char *fmt, ...)
{
    struct buf b = BUF_INIT(1000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    list_each (node, &connections)
        if (list_item(node, struct control, node) != not_this)
            notify(list_item(node, struct control, node), buf_str(&b));
    buf_free(&b);
}

static void notify_posted(void *arg)
{
    control_notify_others(NULL, "%s", (char *)arg);
    free(arg);
}

void control_notify_all(const char *fmt, ...)
{
    struct buf b = BUF_INIT(1000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    if (loop)
        loop_post(loop, notify_posted, buf_take(&b));
    buf_free(&b);
}

/* --- requests --- */

static enum role role_of(uid_t uid, const char *name)
{
    static const enum role roles[] = {[USER_ADMIN] = ROLE_ADMIN,
                                      [USER_OPERATOR] = ROLE_OPERATOR,
                                      [USER_READONLY] = ROLE_READONLY,
                                      [USER_GUEST] = ROLE_GUEST};
    struct config *head = config_db_head();
    const struct user *u = CONFIG_GET(head, user, name);
    enum role role = uid == 0 || uid == geteuid() || uid == config_db_owner() ? ROLE_ADMIN
                     : u                                                      ? roles[u->role]
                                                                              : 0;

    config_free(&head);
    return role;
}

static const struct control_op *find_op(const char *name)
{
    for (size_t i = 0; i < countof(tables); i++)
        for (const struct control_op *op = tables[i]; op->name; op++)
            if (str_eq(op->name, name))
                return op;
    return NULL;
}

/* The console's prompt needs these after every answer. */
static void add_state(struct control *c, json_t *answer)
{
    struct config *head = config_db_head();
    struct candidate *cand = c->candidate;

    json_put_int(answer, "head", (json_int_t)config_revision(head));
    json_put_int(answer, "base",
                 (json_int_t)(cand && candidate_count(cand) ? cand->db.changes.base_revision
                                                            : config_revision(head)));
    json_put_int(answer, "changes", cand ? (json_int_t)candidate_count(cand) : 0);
    json_put_str(answer, "host", CONFIG_SINGLE(head, system)->hostname);
    config_free(&head);
}

static void alert_denied(const struct control *c, const char *what)
{
    char key[100];

    snprintf(key, sizeof(key), "denied %u", (unsigned)c->uid);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key, "%s (uid %u) was denied: %s", c->user,
                (unsigned)c->uid, what);
}

static bool run_op(struct control *c, const char *name, const json_t *args, json_t *data,
                   struct err *err)
{
    const struct control_op *op = find_op(name);

    if (str_eq(name, "cancel")) /* what it wanted to stop has ended by now */
        return true;
    if (!op)
        return err_set(err, E_USAGE, "There is no operation %s.", str_printable(name));
    c->role = role_of(c->uid, c->user); /* a commit may have taken it away since */
    if (c->role < op->role) {
        control_audit(c, name, NULL, "denied", NULL);
        log_warning("control: %s (%s) may not %s", c->user, control_role_name(c->role), name);
        alert_denied(c, name);
        return err_set(err, E_DENIED, "Your role (%s) does not allow this.",
                       control_role_name(c->role));
    }
    return op->run(c, args, data, err); /* YIELDS */
}

/* The CLI audit log: who asked for what and how it went; never the values, which may be secrets.
 * Looking is for the debug level. */
static void log_request(struct control *c, const char *name, const json_t *args, bool ok,
                        const struct err *err)
{
    const struct control_op *op = find_op(name);
    bool changes = !op || op->role >= ROLE_OPERATOR || str_eq(name, "hello");
    const json_t *list = json_object_get(args, "changes");
    AUTO(buf) struct buf line = BUF_INIT(1000);

    if (!logfile_wants(LOGFILE_CLI, changes ? LOG_INFO : LOG_DEBUG))
        return;
    buf_printf(&line, "PID %lld: User %s from %s, session %llu: %s", (long long)c->pid, c->user,
               str_printable(c->peer), (unsigned long long)c->id, str_printable(name));
    for (size_t i = 0; i < json_array_size(list) && i < 4; i++) {
        const json_t *change = json_array_get(list, i);

        buf_printf(&line, "%s %s/%s", i ? "," : "", str_printable(json_str(change, "section", "")),
                   str_printable(json_str(change, "name", "")));
    }
    if (json_array_size(list) > 4)
        buf_printf(&line, " and %zu more", json_array_size(list) - 4);
    if (ok)
        buf_str_add(&line, " ok");
    else
        buf_printf(&line, " failed: %s", str_printable(err->text));
    logfile_write(LOGFILE_CLI, changes ? LOG_INFO : LOG_DEBUG, buf_str(&line));
}

static void answer(struct control *c, const json_t *request, bool ok, json_t *data,
                   const struct err *err)
{
    json_t *a = json_object(), *id = json_object_get(request, "id");

    json_put_int(a, "v", CONTROL_VERSION);
    json_put(a, "id", json_is_integer(id) ? json_incref(id) : NULL);
    json_put(a, "ok", json_boolean(ok));
    if (ok) {
        json_put_int(a, "exit", 0);
        json_put(a, "data", json_incref(data));
    } else {
        json_put_str(a, "code", err_code_name(err->code));
        json_put_int(a, "exit", err_exit_code(err->code));
        json_put_str(a, "message", err->text);
    }
    json_object_update(a, c->extra);
    add_state(c, a);
    send_json(c, a);
}

static void serve(struct control *c, struct slice line)
{
    json_t *request, *data = json_object(), *none = json_object();
    struct err err = {0};
    const char *op;
    bool ok = false;

    c->busy = true;
    c->cancelled = false;
    c->extra = json_object();
    request = json_parse(line.p, line.n, &err);
    op = json_str(request, "op", NULL);
    if (request && !op) {
        err_set(&err, E_USAGE, "A request is an object with the member \"op\".");
    } else if (request) {
        const json_t *args = json_object_get(request, "args");

        c->request = json_int(request, "id", 0);
        c->touched = clock_wall();
        free(c->what);
        c->what = xstrndup(op, 40);
        fiber_rename("control %s %s", c->user, c->what);
        ok = run_op(c, op, json_is_object(args) ? args : none, data, &err); /* YIELDS */
        log_request(c, op, args, ok, &err);
    }
    answer(c, request, ok, data, &err);
    json_decref(request);
    json_decref(data);
    json_decref(none);
    json_decref(c->extra);
    c->extra = NULL;
    send_notices(c);
    c->busy = false;
}

static void refuse(struct control *c, enum err_code code, const char *text)
{
    struct err err = {0};
    json_t *none = json_object();

    err_set(&err, code, "%s", text);
    c->extra = json_object();
    answer(c, none, false, none, &err);
    json_decref(c->extra);
    c->extra = NULL;
    json_decref(none);
}

/* What the connections of an account have sent of requests that are not complete. */
static size_t unfinished_of(uid_t uid)
{
    size_t n = 0;

    list_each (pos, &connections) {
        const struct control *c = list_item(pos, struct control, node);

        if (c->uid == uid)
            n += c->in.n;
    }
    return n;
}

/* The next line, without its LF, as a copy; false: no more. What is longer than JSON_MAX_LINE ends
 * the connection. YIELDS */
static bool read_line(struct control *c, char **line, size_t *n)
{
    size_t seen = 0;

    for (;;) {
        char *lf = c->in.n > seen ? memchr(c->in.p + seen, '\n', c->in.n - seen) : NULL;
        struct slice more;

        if (lf) {
            *n = (size_t)(lf - c->in.p);
            *line = xmalloc(*n + 1);
            memcpy(*line, c->in.p, *n);
            (*line)[*n] = '\0';
            buf_drop(&c->in, *n + 1);
            if (!c->in.n)
                buf_free(&c->in); /* an idle session holds no memory for what it once said */
            return true;
        }
        seen = c->in.n;
        more = conn_read_some(c->conn, 65536); /* YIELDS */
        buf_add(&c->in, more.p, more.n);
        if (c->in.full)
            refuse(c, E_LIMIT, "The request is longer than 8 MiB.");
        if (!more.n || c->in.full)
            return false;
        if (c->in.n > LARGE_REQUEST && unfinished_of(c->uid) > MAX_UNFINISHED) {
            refuse(c, E_LIMIT,
                   "The unfinished requests of this account are too large together; try again.");
            return false;
        }
    }
}

static void slow_down(struct control *c)
{
    msec_t now = clock_now();

    c->tokens += (double)(now - c->refilled) * PER_SECOND / 1000.0;
    if (c->tokens > BURST)
        c->tokens = BURST;
    c->refilled = now;
    if (c->tokens < 1)
        fiber_sleep(10); /* YIELDS */
    c->tokens -= 1;
}

/* --- who is there --- */

struct identity {
    uid_t uid;
    char name[64];
};

static bool look_up(void *arg, struct err *err) /* on a worker: the account may be in a directory */
{
    struct identity *id = arg;
    struct passwd pw, *found = NULL;
    char *buf = xmalloc(1 << 16);

    (void)err;
    if (getpwuid_r(id->uid, &pw, buf, 1 << 16, &found) == 0 && found)
        str_copy(id->name, sizeof(id->name), found->pw_name);
    else
        snprintf(id->name, sizeof(id->name), "uid-%u", (unsigned)id->uid);
    free(buf);
    return true;
}

static unsigned connections_of(uid_t uid)
{
    unsigned n = 0;

    list_each (node, &connections)
        n += list_item(node, struct control, node)->uid == uid;
    return n;
}

/* YIELDS. Takes the hello, too: closing a socket with bytes unread would take the answer away from
 * the peer. */
static void refuse_login(struct control *c, enum err_code code, const char *text)
{
    refuse(c, code, text);
    conn_set_timeout(c->conn, SECONDS(2));
    conn_read_some(c->conn, 65536);
}

static bool identify(struct control *c)
{
    struct identity id = {.uid = c->uid};

    worker_call(look_up, &id, NULL); /* YIELDS */
    c->user = xstrdup(id.name);
    c->role = role_of(c->uid, c->user);
    if (!c->role) {
        refuse_login(
            c, E_DENIED,
            "This account has no role in Postern; an administrator can add it with userconfig.");
        control_audit(c, "login", NULL, "denied", NULL);
        log_warning("control: %s (uid %u) has no role", c->user, (unsigned)c->uid);
        alert_denied(c, "log in to the console: the account has no role");
        return false;
    }
    if (connections_of(c->uid) > MAX_PER_UID) {
        refuse_login(c, E_LIMIT, "This account has too many sessions open.");
        return false;
    }
    c->candidate = candidate_new(c->user);
    return true;
}

void control_greet(struct control *c, const char *via, const char *peer, bool interactive)
{
    free(c->via);
    free(c->peer);
    c->via = xstrdup(via);
    c->peer = xstrdup(peer);
    c->interactive = interactive;
    c->greeted = true;
    if (interactive)
        log_info("User %s login from %s", c->user, str_printable(peer));
}

static void close_session(struct control *c)
{
    list_remove(&c->node);
    count--;
    conn_free(&c->conn);
    strlist_free(&c->notices);
    buf_free(&c->in);
    free(c->user);
    free(c->peer);
    free(c->via);
    free(c->what);
    free(c);
}

void control_keep(struct control *c, void *thing, void (*end)(void *thing))
{
    if (c->kept)
        c->kept_end(c->kept);
    c->kept = thing;
    c->kept_end = end;
}

void *control_kept(struct control *c)
{
    return c->kept;
}

static void session(void *arg)
{
    struct control *c = arg;
    char *line;
    size_t n;

    fiber_rename("control");
    if (identify(c)) {
        while (!fiber_stopping()) {
            bool more;

            conn_set_timeout(c->conn, NEVER); /* a console may be idle; that is its own business */
            fiber_interruptible(true);
            more = read_line(c, &line, &n); /* YIELDS */
            fiber_interruptible(false);
            if (!more)
                break;
            slow_down(c);
            conn_set_timeout(c->conn, SECONDS(60)); /* but it has to take its answers */
            serve(c, (struct slice){line, n});
            OPENSSL_cleanse(line, n); /* it may have held a private key */
            free(line);
        }
        candidate_detach(&c->candidate); /* YIELDS */
    }
    control_keep(c, NULL, NULL);
    close_session(c);
}

/* Owns fd; NULL when there are too many sessions. */
static struct control *open_session(int fd)
{
    struct control *c;
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || count >= MAX_CONNECTIONS) {
        close(fd);
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    c->conn = conn_new(fd);
    c->in = (struct buf)BUF_INIT(JSON_MAX_LINE);
    c->id = next_id++;
    c->uid = cred.uid;
    c->pid = cred.pid;
    c->peer = xstrdup("local");
    c->via = xstrdup("socket");
    c->what = xstrdup("");
    c->since = c->touched = clock_wall();
    c->tokens = BURST;
    c->refilled = clock_now();
    list_add_tail(&connections, &c->node);
    count++;
    return c;
}

void control_serve(int fd)
{
    struct control *c = open_session(fd);

    if (c)
        session(c);
}

static void admit(int fd)
{
    struct control *c = open_session(fd);

    if (c && !fiber_spawn(loop_self(), "control", session, c))
        close_session(c);
}

static void accept_all(void *arg)
{
    (void)arg;
    fiber_interruptible(true);
    while (!fiber_stopping()) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0)
            admit(fd);
        else if (errno == EMFILE || errno == ENFILE)
            fiber_sleep(100);
        else
            fiber_wait_fd(listen_fd, EPOLLIN, NEVER, "control connection");
    }
    close(listen_fd);
    listen_fd = -1;
}

/* --- start --- */

static bool bind_socket(const char *path, struct err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(sun.sun_path))
        return err_set(err, E_INVALID, "the path of the control socket is too long: %s", path);
    str_copy(sun.sun_path, sizeof(sun.sun_path), path);
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path); /* of a process that is gone: the database is locked by us */
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&sun, sizeof(sun)) != 0 ||
        chmod(path, 0660) != 0 || listen(listen_fd, 128) != 0)
        return err_errno(err, errno, "making the control socket %s", path);
    return true;
}

bool control_start(const char *path, struct err *err)
{
    if (!bind_socket(path, err)) {
        if (listen_fd >= 0)
            close(listen_fd);
        listen_fd = -1;
        return false;
    }
    socket_path = xstrdup(path);
    loop = loops_get(0);
    return fiber_spawn(loop, "control listener", accept_all, NULL) ||
           err_set(err, E_LIMIT, "no fiber for the control socket");
}

/* The listener's fiber closes the socket when the fibers are told to stop. */
void control_stop(void)
{
    unlink(socket_path);
    free(socket_path);
    socket_path = NULL;
}
