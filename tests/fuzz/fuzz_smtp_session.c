/* fuzz_smtp_session.c - a whole server session over a socket pair. The first byte chooses who the
 * client is and what the listener wants, the second how the bytes are cut. Whatever came: replies
 * are replies, nothing is accepted that would relay or smuggle, and nothing is left of the session.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/stats.h"
#include "tests/unit/smtp_fixture.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char home[] = "/tmp/postern-fuzz-XXXXXX";
static struct loop *l;
static struct config *plain, *required, *cleaning;
static struct config *may_auth, *must_auth; /* SMTP AUTH in clear, by the fixture's users */

static void remove_home(void)
{
    char *command = xasprintf("rm -rf %s", home);

    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", home);
    free(command);
}

static void no_log(enum log_level level, const char *text)
{
    (void)level;
    (void)text;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct err err = {0};

    (void)argc;
    (void)argv;
    setenv("TZ", "UTC", 1);
    log_set_sink(no_log);
    if (!mkdtemp(home) || !spool_open(home, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    spool_ready(true);
    atexit(remove_home);
    l = loop_new(0);
    plain = fixture_set(fixture_config(), "listener", "In",
                        "max_message_size=4096|max_rcpts_per_msg=3", &err);
    plain = fixture_set(plain, "listener_setup", "-", "max_header_lines=20|max_received=10", &err);
    required = fixture_set(config_ref(plain), "listener", "In", "tls=required", &err);
    may_auth = fixture_set(config_ref(plain), "smtpauth_profile", "pw", "kind=ldap", &err);
    may_auth = fixture_set(may_auth, "listener", "In", "auth=preferred|auth_needs_tls=no|smtp_auth=pw", &err);
    must_auth = fixture_set(config_ref(may_auth), "listener", "In", "auth=required", &err);
    cleaning = fixture_set(config_ref(plain), "listener", "In", "line_endings=clean", &err);
    if (!plain || !required || !may_auth || !must_auth || !cleaning)
        abort();
    return 0;
}

static void serve(void *arg)
{
    struct smtp_origin o = *(struct smtp_origin *)arg;

    free(arg);
    smtp_serve(&o);
}

/* Lines of three digits, a blank or a hyphen, and printable text. */
static void check_replies(const char *p, size_t n)
{
    while (n) {
        const char *end = memchr(p, '\n', n);

        assert(end && end > p && end[-1] == '\r');
        assert(end - p >= 5 && p[0] >= '2' && p[0] <= '5' && (p[3] == ' ' || p[3] == '-'));
        assert(end - p <= 511 && !memchr(p, '\0', (size_t)(end - p)));
        assert(memchr(p, '\r', (size_t)(end - p)) == end - 1);
        n -= (size_t)(end + 1 - p);
        p = end + 1;
    }
}

static void check_message(const struct message *m, bool relay)
{
    char text[8192];
    size_t got;

    assert(m->nrcpts >= 1 && m->nrcpts <= 3);
    for (unsigned i = 0; i < m->nrcpts && !relay; i++)
        assert(str_ends(m->rcpts[i].address, "@example.com"));
    assert(body_length(m->body) < sizeof(text));
    if (!body_read(m->body, 0, text, sizeof(text), &got, NULL))
        abort();
    assert(got == body_length(m->body) && got >= 2);
    for (size_t i = 0; i < got && !(m->flags & MSG_BINARY); i++) {
        assert(text[i]);
        if (text[i] == '\n')
            assert(i && text[i - 1] == '\r');
        if (text[i] == '\r')
            assert(i + 1 < got && text[i + 1] == '\n');
    }
}

/* The beginning of a reply that says so; only "good" and "monitored" get one, with the right password. */
static bool has_authenticated(const struct buf *out)
{
    return out->n && (memcmp(out->p, "235 ", 4) == 0 || memmem(out->p, out->n, "\r\n235 ", 6));
}

static void drain(int fd, struct buf *out)
{
    char block[2048];
    ssize_t n;

    loop_settle(l);
    while ((n = recv(fd, block, sizeof(block), MSG_DONTWAIT)) > 0) {
        buf_add(out, block, (size_t)n);
        loop_settle(l);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_origin *o;
    AUTO(buf) struct buf out = BUF_INIT(1 << 20);
    struct spool_usage before, after;
    size_t piece;
    int fds[2];
    bool relay, auth, must;

    if (size < 2)
        return 0;
    relay = data[0] & 1;
    auth = data[0] & 8;
    must = auth && data[0] & 2;
    piece = data[1] ? data[1] : 4096;
    clock_set_virtual(SECONDS(100000), 1700000000000000);
    spool_usage(&before);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    if (data[0] & 4)
        fixture.submit_fails = E_IO;
    o = xcalloc(1, sizeof(*o));
    *o = fixture_origin(must          ? must_auth
                        : auth        ? may_auth
                        : data[0] & 2 ? required
                        : data[0] & 16 ? cleaning
                                      : plain,
                        fds[0], relay ? "10.0.0.1" : "192.0.2.1");
    if (!fiber_spawn(l, "fuzz", serve, o))
        abort();
    drain(fds[1], &out);
    for (size_t at = 2; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (send(fds[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
            break;
        drain(fds[1], &out);
        for (int i = 0; i < 4 && auth; i++) { /* wrong passwords cost time */
            clock_advance(SECONDS(2));
            drain(fds[1], &out);
        }
    }
    if (auth || !(data[0] & 2)) /* what follows STARTTLS is no reply */
        check_replies(out.p, out.n);
    shutdown(fds[1], SHUT_WR);
    drain(fds[1], &out);
    close(fds[1]);
    loop_settle(l);
    assert(fiber_count() == 0 && gauge_get(GAUGE_CONN_IN) == 0 && limits_connections(NULL) == 0);
    assert(!must || !fixture.nqueued || has_authenticated(&out));
    for (unsigned i = 0; i < fixture.nqueued; i++)
        check_message(fixture.queued[i], relay || (auth && has_authenticated(&out)));
    fixture_reset();
    spool_usage(&after);
    assert(before.bytes_used == after.bytes_used);
    return 0;
}
