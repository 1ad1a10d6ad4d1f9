/* Runs the transcripts of tests/smtp/server-*.txt against a session: each is one test. A line of a
 * transcript is
 *
 *   C: LINE         sent with CRLF; C lines that follow each other leave in one piece (they are
 * pipelined) c: BYTES        sent as they are; \r \n \0 \t \\ \xNN are bytes C* N LINE       the
 * line N times S: LINE         the next line that comes; nothing else may have come in front of it
 *   closed          the server closes, after nothing else
 *   pause           what was sent before is worked off before more is sent
 *   drop            whatever has come
 *   wait SECONDS    so much later
 *   tls             the handshake (tls 1.1: a client that knows nothing newer, which must fail)
 *   cert KIND CN    what the client shows in a handshake: "good", "unknown" (no authority), "expired", "server" (of
 *                   another purpose), "revoked", or CN with an end of line in it ("torn")
 *   resume          closes, connects again, and offers the TLS session of before; then, after the handshake,
 *                   "resumed" or "not resumed" is demanded
 *   hangup          the client closes
 *   set SECTION NAME FIELD=VALUE|...     in front of everything else: the configuration
 *   peer ADDRESS [NAME [unverified]]     likewise: who connects
 *   early BYTES                          likewise: sent before the greeting
 *   lookups N       how often reverse DNS was asked
 *   locked out, suspended, full, submit fails, submit full, stopping, no certificate
 *   ended, aborted  sessions of suspended listeners end: those between two messages, or all
 *   tls sessions are all taken
 *   occupied        another session of the same peer is open
 *   Q: SUMMARY      the next message in the queue: <sender> -> <rcpt> <rcpt> FLAGS
 *   B: LINE         the next line of its body; "<...@" stands for a left-hand side that changes
 *   L: LINE         the next line of the mail log
 *   end             nothing but this is left in the queue, the body, the log (those that the
 * transcript looked at)
 *
 * Time is virtual and stands still but for wait. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/stats.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"
#include "tests/unit/smtp_fixture.h"

static char home[] = "/tmp/postern-smtp-XXXXXX";
static struct loop *l;
static SSL_CTX *client_ctx;

struct run {
    const char *path;
    unsigned line;
    struct config *cfg;
    char peer[ADDR_TEXT];
    struct buf early, out; /* out: to be sent */
    int fd; /* -1: not connected yet */
    SSL *ssl;
    struct buf in; /* received, not yet expected */
    bool eof;
    unsigned queued; /* messages looked at */
    struct buf body; /* of the last one, what was not looked at */
    size_t logged;
    struct limits_host *other;
    bool tls_taken;
    bool looked_at_log, looked_at_queue, looked_at_body;
    X509 *cert; /* the client's, with its key */
    EVP_PKEY *key;
    SSL_SESSION *session; /* to be resumed */
};

static void __attribute__((format(printf, 2, 3)))
fail_run(const struct run *r, const char *fmt, ...)
{
    static char text[10000];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fail_msg("%s:%u: %s", r->path, r->line, text);
}

/* --- the client ------------------------------------------------------------------------------ */

static void serve(void *arg)
{
    struct smtp_origin o = *(struct smtp_origin *)arg;

    free(arg);
    smtp_serve(&o);
}

static void receive(struct run *r)
{
    static char block[65536];

    for (;;) {
        ssize_t n;

        loop_settle(l);
        if (r->eof)
            return;
        n = r->ssl ? SSL_read(r->ssl, block, sizeof(block))
                   : recv(r->fd, block, sizeof(block), MSG_DONTWAIT);
        if (n > 0) {
            buf_add(&r->in, block, (size_t)n);
        } else {
            r->eof = r->ssl ? SSL_get_error(r->ssl, (int)n) != SSL_ERROR_WANT_READ
                            : n == 0 || errno == ECONNRESET;
            if (!r->eof)
                return;
        }
    }
}

static void connect_session(struct run *r)
{
    struct smtp_origin *o = xcalloc(1, sizeof(*o));
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    r->fd = fds[1];
    if (r->early.n)
        assert_int_equal(send(r->fd, r->early.p, r->early.n, 0), r->early.n);
    *o = fixture_origin(r->cfg, fds[0], r->peer);
    assert_true(fiber_spawn(l, "test", serve, o));
    receive(r);
}

/* Sends what has gathered. */
static void push(struct run *r)
{
    size_t sent = 0;

    if (r->fd < 0)
        connect_session(r);
    while (sent < r->out.n) {
        ssize_t n;

        if (r->ssl)
            n = SSL_write(r->ssl, r->out.p + sent, (int)(r->out.n - sent));
        else
            n = send(r->fd, r->out.p + sent, r->out.n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        else if (r->eof || (!r->ssl && errno == EPIPE))
            break;
        receive(r);
    }
    buf_reset(&r->out);
    receive(r);
}

static void expect_line(struct run *r, const char *want)
{
    const char *end;

    push(r);
    end = r->in.n ? memchr(r->in.p, '\n', r->in.n) : NULL;
    if (!end)
        fail_run(r, "nothing came; wanted: %s", want);
    if (end == r->in.p || end[-1] != '\r')
        fail_run(r, "a line without CRLF: %s", buf_str(&r->in));
    if ((size_t)(end - 1 - r->in.p) != strlen(want) || memcmp(r->in.p, want, strlen(want)) != 0)
        fail_run(r, "came:   %.*s\n       wanted: %s", (int)(end - 1 - r->in.p), r->in.p, want);
    buf_drop(&r->in, (size_t)(end + 1 - r->in.p));
}

static void expect_quiet(struct run *r)
{
    push(r);
    if (r->in.n)
        fail_run(r, "unexpected: %s", buf_str(&r->in));
}

static void start_tls(struct run *r, const char *version)
{
    bool old = str_eq(version, "1.1");

    push(r);
    r->ssl = SSL_new(client_ctx);
    SSL_set_fd(r->ssl, r->fd);
    if (r->cert)
        assert_true(SSL_use_certificate(r->ssl, r->cert) && SSL_use_PrivateKey(r->ssl, r->key));
    if (r->session)
        assert_true(SSL_set_session(r->ssl, r->session));
    if (old) {
        SSL_set_security_level(r->ssl, 0);
        SSL_set_min_proto_version(r->ssl, TLS1_VERSION);
        SSL_set_max_proto_version(r->ssl, TLS1_1_VERSION);
    }
    for (int i = 0; i < 100; i++) {
        int n = SSL_connect(r->ssl);

        loop_settle(l);
        if (n == 1) {
            if (old)
                fail_run(r, "TLS 1.1 was accepted");
            return;
        }
        if (SSL_get_error(r->ssl, n) != SSL_ERROR_WANT_READ)
            break;
    }
    if (!old)
        fail_run(r, "the handshake failed");
    SSL_free(r->ssl);
    r->ssl = NULL;
}

static void make_certificate(struct run *r, char *rest)
{
    char *save, *kind = strtok_r(rest, " ", &save), *cn = strtok_r(NULL, "", &save);
    struct test_cert made;
    BIO *in;

    if (!cn)
        fail_run(r, "cert KIND CN");
    if (str_eq(kind, "torn"))
        strchr(cn, ' ')[0] = '\n';
    made = test_cert_named(cn, str_eq(kind, "server") ? "EKU:serverAuth" : NULL, 0, 0, str_eq(kind, "expired") ? -1 : 1);
    in = BIO_new_mem_buf(made.cert, -1);
    r->cert = PEM_read_bio_X509(in, NULL, NULL, NULL);
    BIO_free(in);
    in = BIO_new_mem_buf(made.key, -1);
    r->key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    BIO_free(in);
    test_cert_free(&made);
    fixture.revoked = str_eq(kind, "revoked");
    fixture.authorities = X509_STORE_new();
    X509_STORE_set_flags(fixture.authorities, X509_V_FLAG_PARTIAL_CHAIN);
    if (!str_eq(kind, "unknown"))
        X509_STORE_add_cert(fixture.authorities, r->cert);
}

static void resume(struct run *r)
{
    r->session = SSL_get1_session(r->ssl);
    SSL_set_shutdown(r->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or it would be worth nothing */
    SSL_free(r->ssl);
    r->ssl = NULL;
    close(r->fd);
    r->fd = -1;
    r->eof = false;
    buf_reset(&r->in);
    loop_settle(l);
}

/* --- what the session left ------------------------------------------------------------------- */

static void summary(const struct message *m, struct buf *out)
{
    static const struct {
        unsigned bit;
        const char *name;
    } flags[] = {
        {MSG_8BIT,     "8bit"    },
        {MSG_SMTPUTF8, "utf8"    },
        {MSG_RET_HDRS, "ret=hdrs"},
        {MSG_RET_FULL, "ret=full"},
        {MSG_BINARY,   "binary"  }
    };

    buf_printf(out, "<%s> ->", m->sender);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        buf_printf(out, " <%s>", m->rcpts[i].address);
        if (m->rcpts[i].notify)
            buf_printf(out, " notify=%u", m->rcpts[i].notify);
        if (m->rcpts[i].orcpt)
            buf_printf(out, " orcpt=%s", m->rcpts[i].orcpt);
    }
    for (size_t i = 0; i < countof(flags); i++)
        if (m->flags & flags[i].bit)
            buf_printf(out, " %s", flags[i].name);
    if (m->envid)
        buf_printf(out, " envid=%s", m->envid);
}

static void expect_message(struct run *r, const char *want)
{
    AUTO(buf) struct buf got = BUF_INIT(4096);
    struct message *m;
    uint64_t at = 0;
    size_t n;

    push(r);
    r->looked_at_queue = true;
    if (r->queued >= fixture.nqueued)
        fail_run(r, "no message in the queue");
    m = fixture.queued[r->queued++];
    summary(m, &got);
    if (!str_eq(buf_str(&got), want))
        fail_run(r, "queued: %s\n       wanted: %s", buf_str(&got), want);
    buf_reset(&r->body);
    for (; at < body_length(m->body); at += n) {
        char *p = buf_reserve(&r->body, 65536);
        struct err err = {0};

        if (!body_read(m->body, at, p, 65536, &n, &err) || !n)
            fail_run(r, "body: %s", err.text);
        r->body.n += n;
    }
}

/* "Message-ID: <...@mx.test>": the dots stand for what changes from run to run. */
static bool body_line_is(const char *line, size_t n, const char *want)
{
    const char *dots = strstr(want, "<...@");
    size_t front = dots ? (size_t)(dots + 1 - want) : 0, back = dots ? strlen(dots + 4) : 0;

    if (!dots)
        return n == strlen(want) && memcmp(line, want, n) == 0;
    return n > front + back && memcmp(line, want, front) == 0 &&
           memcmp(line + n - back, dots + 4, back) == 0;
}

static void expect_body(struct run *r, const char *want)
{
    const char *end = r->body.n ? memchr(r->body.p, '\n', r->body.n) : NULL;

    r->looked_at_body = true;
    if (!end)
        fail_run(r, "the body has no further line; wanted: %s", want);
    if (!body_line_is(r->body.p, (size_t)(end - 1 - r->body.p), want))
        fail_run(r, "body:   %.*s\n       wanted: %s", (int)(end - 1 - r->body.p), r->body.p, want);
    buf_drop(&r->body, (size_t)(end + 1 - r->body.p));
}

static void expect_log(struct run *r, const char *want)
{
    push(r);
    r->looked_at_log = true;
    if (r->logged >= fixture.log.n)
        fail_run(r, "the log has no further line; wanted: %s", want);
    if (!str_eq(fixture.log.items[r->logged], want))
        fail_run(r, "logged: %s\n       wanted: %s", fixture.log.items[r->logged], want);
    r->logged++;
}

/* --- transcripts ----------------------------------------------------------------------------- */

static void add_bytes(struct run *r, struct buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned value;

        if (*s != '\\') {
            buf_char(out, *s);
            continue;
        }
        switch (*++s) {
        case 'r':
            buf_char(out, '\r');
            break;
        case 'n':
            buf_char(out, '\n');
            break;
        case 't':
            buf_char(out, '\t');
            break;
        case '0':
            buf_char(out, '\0');
            break;
        case '\\':
            buf_char(out, '\\');
            break;
        case 'x':
            if (sscanf(s + 1, "%2x", &value) == 1) {
                buf_char(out, (char)value);
                s += 2;
                break;
            }
            /* fall through */
        default:
            fail_run(r, "a bad escape");
        }
    }
}

static void set_object(struct run *r, char *rest)
{
    char *save, *section = strtok_r(rest, " ", &save), *name = strtok_r(NULL, " ", &save);
    struct err err = {0};
    char *values = strtok_r(NULL, "", &save);

    if (!name)
        fail_run(r, "set SECTION NAME VALUES");
    r->cfg = fixture_set(r->cfg, section, name, values ? values : "", &err);
    if (!r->cfg)
        fail_run(r, "%s", err.text);
}

static void set_peer(struct run *r, char *rest)
{
    char *save, *ip = strtok_r(rest, " ", &save), *name = strtok_r(NULL, " ", &save);

    str_copy(r->peer, sizeof(r->peer), ip);
    if (name) {
        str_copy(fixture.peer_name, sizeof(fixture.peer_name), name);
        fixture.peer_verified = !strtok_r(NULL, " ", &save);
    }
}

static void repeat(struct run *r, char *rest)
{
    char *end;

    for (unsigned long n = strtoul(rest, &end, 10); n > 0; n--)
        buf_printf(&r->out, "%s\r\n", end + 1);
}

static void expect_repeated(struct run *r, char *rest)
{
    char *end;

    for (unsigned long n = strtoul(rest, &end, 10); n > 0; n--)
        expect_line(r, end + 1);
}

/* Another session of the same peer. */
static void occupy(struct run *r)
{
    struct addr a;

    assert_true(addr_parse(r->peer, &a));
    r->other = limits_host_enter(limits_listener("In"), &a, 1000);
}

static void do_end(struct run *r)
{
    expect_quiet(r);
    if (r->looked_at_queue && r->queued < fixture.nqueued)
        fail_run(r, "%u more messages in the queue", fixture.nqueued - r->queued);
    if (r->looked_at_body && r->body.n)
        fail_run(r, "more of the body: %s", buf_str(&r->body));
    if (r->looked_at_log && r->logged < fixture.log.n)
        fail_run(r, "more of the log: %s", fixture.log.items[r->logged]);
}

static void do_line(struct run *r, char *line)
{
    char *rest = strchr(line, ' ');

    rest = rest ? rest + 1 : line + strlen(line);
    if (!*line || *line == '#')
        return;
    if (str_starts(line, "C:"))
        buf_printf(&r->out, "%s\r\n", rest);
    else if (str_starts(line, "c:"))
        add_bytes(r, &r->out, rest);
    else if (str_starts(line, "C*"))
        repeat(r, rest);
    else if (str_starts(line, "S*"))
        expect_repeated(r, rest);
    else if (str_starts(line, "S:"))
        expect_line(r, rest);
    else if (str_starts(line, "Q:"))
        expect_message(r, rest);
    else if (str_starts(line, "B:"))
        expect_body(r, rest);
    else if (str_starts(line, "L:"))
        expect_log(r, rest);
    else if (str_starts(line, "set "))
        set_object(r, rest);
    else if (str_starts(line, "peer "))
        set_peer(r, rest);
    else if (str_starts(line, "cert "))
        make_certificate(r, rest);
    else if (str_eq(line, "resume")) {
        push(r);
        resume(r);
    } else if (str_eq(line, "resumed") || str_eq(line, "not resumed")) {
        if (!r->ssl || SSL_session_reused(r->ssl) != (*line == 'r'))
            fail_run(r, "the TLS session was%s resumed", *line == 'r' ? " not" : "");
    } else if (str_starts(line, "early "))
        add_bytes(r, &r->early, rest);
    else if (str_eq(line, "tls sessions are all taken")) {
        assert_true(limits_tls_enter(1));
        r->tls_taken = true;
    } else if (str_starts(line, "tls"))
        start_tls(r, rest);
    else if (str_eq(line, "pause"))
        push(r);
    else if (str_eq(line, "drop")) {
        push(r);
        buf_reset(&r->in);
    }
    else if (str_eq(line, "suspended")) {
        if (r->fd >= 0)
            push(r);
        fixture.suspended = true;
    } else if (str_eq(line, "ended") || str_eq(line, "aborted")) {
        push(r);
        smtp_end_suspended(str_eq(line, "aborted"));
        receive(r);
    } else if (str_eq(line, "full"))
        fixture.full = E_LIMIT;
    else if (str_eq(line, "submit fails"))
        fixture.submit_fails = E_IO;
    else if (str_eq(line, "submit full"))
        fixture.submit_fails = E_LIMIT;
    else if (str_eq(line, "no certificate"))
        fixture.no_tls = true;
    else if (str_eq(line, "occupied"))
        occupy(r);
    else if (str_eq(line, "end"))
        do_end(r);
    else if (str_starts(line, "lookups ")) {
        push(r);
        assert_int_equal(fixture.lookups, strtoul(rest, NULL, 10));
    } else if (str_starts(line, "wait ")) {
        expect_quiet(r);
        clock_advance(SECONDS(strtol(rest, NULL, 10)));
        receive(r);
    } else if (str_eq(line, "locked out")) {
        fixture.locked_out = true;
    } else if (str_eq(line, "stopping")) {
        push(r);
        fibers_stop();
        receive(r);
    } else if (str_eq(line, "closed")) {
        expect_quiet(r);
        if (!r->eof)
            fail_run(r, "the connection is still open");
    } else if (str_eq(line, "hangup")) {
        expect_quiet(r);
        shutdown(r->fd, SHUT_RDWR);
        receive(r);
    } else {
        fail_run(r, "not understood: %s", line);
    }
}

static struct run run; /* of the test in hand; tests that fail leave by longjmp */
static struct spool_usage before;

static int begin(void **state)
{
    run = (struct run){.path = *state, .cfg = fixture_config(), .peer = "192.0.2.1", .fd = -1};
    run.early = run.out = run.in = run.body = (struct buf)BUF_INIT(64 << 20);
    clock_set_virtual(SECONDS(100000), 1700000000000000);
    spool_usage(&before);
    return 0;
}

static void hang_up(struct run *r)
{
    SSL_free(r->ssl);
    r->ssl = NULL;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    loop_settle(l);
    if (r->other)
        limits_host_leave(r->other);
    r->other = NULL;
    if (r->tls_taken)
        limits_tls_leave();
    r->tls_taken = false;
    X509_free(r->cert);
    EVP_PKEY_free(r->key);
    SSL_SESSION_free(r->session);
    X509_STORE_free(fixture.authorities);
    fixture.authorities = NULL;
    r->cert = NULL;
    r->key = NULL;
    r->session = NULL;
}

static int finish_test(void **unused)
{
    (void)unused;
    hang_up(&run);
    fibers_stop_undo();
    fixture_reset();
    config_free(&run.cfg);
    buf_free(&run.early);
    buf_free(&run.out);
    buf_free(&run.in);
    buf_free(&run.body);
    return 0;
}

static void transcript(void **state)
{
    static char line[8192];
    FILE *f = fopen(*state, "re");
    struct spool_usage after;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        run.line++;
        line[strcspn(line, "\n")] = '\0';
        do_line(&run, line);
    }
    fclose(f);
    expect_quiet(&run);
    hang_up(&run);
    assert_int_equal(fiber_count(), 0); /* nothing is left of the session */
    assert_int_equal(gauge_get(GAUGE_CONN_IN), 0);
    assert_int_equal(limits_connections(NULL), 0);
    fixture_reset();
    spool_usage(&after);
    assert_int_equal(before.bytes_used, after.bytes_used);
    assert_int_equal(before.files, after.files);
}

/* --- the program ----------------------------------------------------------------------------- */

static int setup(void **unused)
{
    struct test_cert cert = test_cert_new("mx.test", 0);
    struct tls_settings s = {.cert_pem = cert.cert, .key_pem = cert.key, .server = true};
    struct err err = {0};

    (void)unused;
    setenv("TZ", "UTC", 1);
    if (!mkdtemp(home) || !spool_open(home, &err))
        return -1;
    spool_ready(true);
    fixture.keep_log = true;
    fixture.tls = tls_context_new(&s, &err);
    client_ctx = SSL_CTX_new(TLS_client_method());
    test_cert_free(&cert);
    l = loop_new(0);
    return fixture.tls && client_ctx ? 0 : -1;
}

static int teardown(void **unused)
{
    char *command = xasprintf("rm -rf %s", home);
    int rc;

    (void)unused;
    loop_free(&l);
    SSL_CTX_free(client_ctx);
    tls_context_free(&fixture.tls);
    spool_close();
    rc = system(command);
    free(command);
    return rc;
}

int main(int argc, char **argv)
{
    char *dir =
        xasprintf("%.*s", (int)(strlen(__FILE__) - strlen("unit/test_smtp_server.c")), __FILE__);
    char *pattern = xasprintf("%ssmtp/server-*.txt", dir);
    struct CMUnitTest *tests;
    glob_t g;
    int failed;

    if (glob(pattern, 0, NULL, &g) != 0) {
        printf("no transcripts: %s\n", pattern);
        return 1;
    }
    tests = xcalloc(g.gl_pathc, sizeof(*tests));
    for (size_t i = 0, n = 0; i < g.gl_pathc; i++)
        if (argc < 2 || strstr(g.gl_pathv[i], argv[1]))
            tests[n++] =
                (struct CMUnitTest){g.gl_pathv[i], transcript, begin, finish_test, g.gl_pathv[i]};
    failed = _cmocka_run_group_tests("transcripts", tests, g.gl_pathc, setup, teardown);
    free(tests);
    globfree(&g);
    free(pattern);
    free(dir);
    return failed;
}
