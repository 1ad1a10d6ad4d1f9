/* test_open_relay.c - no mistake in a configuration makes an open relay. Configurations are put
 * together at random out of what decides about relaying, right or wrong; to each that a commit
 * would let pass comes a stranger, who guesses a password, shows a certificate of his own, and
 * tries recipients of all kinds. Nothing may be taken for anybody but the recipients of the
 * recipient access table.
 *
 * SEED=n begins elsewhere, ROUNDS=n goes on longer. */
#include <errno.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "store/check.h"
#include "store/factory.h"
#include "store/x509.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"
#include "tests/unit/smtp_fixture.h"

static char home[] = "/tmp/postern-relay-XXXXXX";
static struct loop *l;
static SSL_CTX *client_ctx;
/* What strangers show: a certificate that nobody has signed, and two of our authority: of somebody
 * whom the directory does not know, and of somebody whom it cannot be asked about. */
static const char *const names[] = {"good", "stranger", "down"};
static X509 *certs[countof(names)];
static EVP_PKEY *keys[countof(names)];
static struct config *factory; /* with the fixture's objects */
static unsigned state; /* of the generator */

static unsigned pick(unsigned n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

#define ONE_OF(...)                                                                                \
    (((const char *const[]){__VA_ARGS__})[pick(countof(((const char *const[]){__VA_ARGS__})))])

/* --- configurations -------------------------------------------------------------------------- */

static struct config *set(struct config *cfg, const char *section, const char *name,
                          const char *values)
{
    struct err err = {0};

    cfg = fixture_set(cfg, section, name, values, &err);
    if (!cfg)
        fail_msg("%s %s %s: %s", section, name, values, err.text);
    return cfg;
}

/* What a listener and its policies say of clients; switches are written in different words there.
 */
static void client_settings(char *out, size_t size, bool policy)
{
    snprintf(out, size, "tls=%s|auth=%s|verify_client=%s|auth_needs_tls=%s",
             policy ? ONE_OF("default", "off", "preferred", "required")
                    : ONE_OF("off", "preferred", "required"),
             policy ? ONE_OF("default", "off", "preferred", "required")
                    : ONE_OF("off", "preferred", "required"),
             policy ? ONE_OF("default", "off", "on") : ONE_OF("no", "yes"),
             policy ? ONE_OF("default", "off", "on") : ONE_OF("no", "yes"));
}

static struct config *random_config(char *about, size_t size)
{
    static const char *const behaviors[] = {"accept", "relay", "reject", "tcprefuse", "continue"};
    char settings[200], values[600];
    size_t n;
    struct config *cfg = config_ref(factory);

    cfg = set(cfg, "smtpauth_profile", "pw", "kind=ldap|query=q");
    cfg = set(cfg, "smtpauth_profile", "fw", "kind=forward");
    cfg = set(cfg, "smtpauth_profile", "out", "kind=outgoing|username=good");
    snprintf(values, sizeof(values), "kind=certificate|cert_query=%s|allow_auth=%s|fallback=%s",
             ONE_OF("", "q.cert"), ONE_OF("no", "yes"), ONE_OF("", "pw", "fw", "out", "cac"));
    cfg = set(cfg, "smtpauth_profile", "cac", values);
    client_settings(settings, sizeof(settings), false);
    snprintf(values, sizeof(values),
             "kind=%s|protocol=%s|default_behavior=%s|smtp_auth=%s|default_domain=%s|%s",
             ONE_OF("public", "private"), ONE_OF("smtp", "smtps", "submission", "submissions"),
             behaviors[pick(countof(behaviors))], ONE_OF("", "pw", "fw", "out", "cac", "nobody"),
             ONE_OF("", "example.com"), settings);
    cfg = set(cfg, "listener", "In", values);
    n = (size_t)snprintf(about, size, "listener: %s", values);
    for (unsigned i = 0, groups = pick(4); i < groups; i++) {
        char policy[32], group[32];

        client_settings(settings, sizeof(settings), true);
        snprintf(policy, sizeof(policy), "In/P%u", i);
        snprintf(group, sizeof(group), "In/G%u", i);
        snprintf(values, sizeof(values), "behavior=%s|%s", behaviors[pick(countof(behaviors))],
                 settings);
        cfg = set(cfg, "mail_policy", policy, values);
        n += (size_t)snprintf(about + n, size - n, "\n%s: %s", policy, values);
        snprintf(values, sizeof(values), "position=%u|policy=P%u|hosts=%s", i + 2, i,
                 ONE_OF("ALL", "0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1", "192.0.2.0/24", "203.0.113.7",
                        ".com", ".example", "10.0.0.0/8, ALL", "::/0", "1.0.0.0-255.255.255.255"));
        cfg = set(cfg, "sender_group", group, values);
        n += (size_t)snprintf(about + n, size - n, "\n%s: %s", group, values);
    }
    if (pick(2))
        cfg = set(cfg, "rcpt_access", "In/user@", "");
    if (pick(2))
        cfg = set(cfg, "rcpt_access", "In/.example.com", "");
    if (pick(4) == 0)
        cfg = set(cfg, "tls_exception", "no-tls/203.0.113.9",
                  "kind=no-tls|target=203.0.113.9|reason=r|owner=o|expires=2099-01-01");
    return cfg;
}

static bool is_about_clients(const struct check_item *item)
{
    static const char *const fields[] = {"default_behavior", "hosts",     "auth",
                                         "verify_client",    "smtp_auth", "fallback"};

    for (size_t i = 0; i < countof(fields); i++)
        if (str_eq(item->field, fields[i]))
            return true;
    return false;
}

/* Would a commit let this pass? What the rest of a gateway's configuration lacks here does not
 * count. */
static bool passes(const struct config *cfg)
{
    struct check check = {0};
    bool ok = true;

    check_config(cfg, NULL, &check);
    for (size_t i = 0; i < check.n; i++)
        ok = ok && (check.items[i].warning || !is_about_clients(&check.items[i]));
    check_free(&check);
    return ok;
}

/* --- the stranger ---------------------------------------------------------------------------- */

static void serve(void *arg)
{
    struct smtp_origin o = *(struct smtp_origin *)arg;

    free(arg);
    smtp_serve(&o);
}

struct stranger {
    int fd;
    SSL *ssl;
    struct buf in;
};

static void hear(struct stranger *s)
{
    char block[2048];
    ssize_t n;

    for (;;) {
        loop_settle(l);
        n = s->ssl ? SSL_read(s->ssl, block, sizeof(block))
                   : recv(s->fd, block, sizeof(block), MSG_DONTWAIT);
        if (n <= 0)
            return;
        buf_add(&s->in, block, (size_t)n);
    }
}

/* The last reply's code, 0: none came. */
static int say(struct stranger *s, const char *text)
{
    const char *at;

    buf_reset(&s->in);
    if (s->ssl)
        SSL_write(s->ssl, text, (int)strlen(text));
    else
        send(s->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    hear(s);
    if (s->in.n < 5)
        return 0;
    buf_char(&s->in, '\0');
    s->in.n--;
    s->in.p[s->in.n - 2] = '\0';
    at = strrchr(s->in.p, '\n');
    return atoi(at ? at + 1 : s->in.p);
}

static void shake_hands(struct stranger *s, unsigned show)
{
    s->ssl = SSL_new(client_ctx);
    SSL_set_fd(s->ssl, s->fd);
    if (show < countof(names))
        SSL_use_cert_and_key(s->ssl, certs[show], keys[show], NULL, 1);
    for (int i = 0; i < 20 && SSL_connect(s->ssl) != 1; i++)
        loop_settle(l);
}

static void try_all(struct stranger *s)
{
    static const char *const rcpts[] = {"local@example.com",
                                        "victim@elsewhere.net",
                                        "user@elsewhere.net",
                                        "victim%elsewhere.net@example.com",
                                        "elsewhere.net!victim@example.com",
                                        "\"victim@elsewhere.net\"@example.com",
                                        "victim@sub.example.com",
                                        "postmaster",
                                        "someone",
                                        "@example.com:victim@elsewhere.net",
                                        "victim@example.com.elsewhere.net",
                                        "victim@[203.0.113.80]"};
    char line[200];

    say(s, "EHLO stranger.com\r\n");
    for (unsigned i = 0; i < countof(rcpts); i++) {
        if (say(s, i % 2 ? "MAIL FROM:<a@stranger.com> AUTH=<root@example.com>\r\n"
                         : "MAIL FROM:<a@stranger.com>\r\n") == 555)
            say(s, "MAIL FROM:<a@example.com>\r\n");
        snprintf(line, sizeof(line), "RCPT TO:<%s>\r\n", rcpts[i]);
        say(s, line);
        if (say(s, "DATA\r\n") == 354)
            say(s, "x\r\n.\r\n");
        say(s, "RSET\r\n");
    }
}

static void visit(const struct config *cfg, bool implicit, unsigned show)
{
    struct smtp_origin *o = xcalloc(1, sizeof(*o));
    struct stranger s = {.in = BUF_INIT(1 << 20)};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    s.fd = fds[1];
    *o = fixture_origin(cfg, fds[0], "203.0.113.9");
    assert_true(fiber_spawn(l, "test", serve, o));
    loop_settle(l);
    if (implicit)
        shake_hands(&s, show);
    hear(&s);
    try_all(&s);
    if (!implicit && say(&s, "STARTTLS\r\n") == 220) {
        shake_hands(&s, show);
        try_all(&s);
    }
    say(&s, "AUTH PLAIN AGdvb2QAd3Jvbmc=\r\n"); /* good, wrong */
    clock_advance(SECONDS(2));
    say(&s, "AUTH EXTERNAL =\r\n");
    say(&s, "AUTH PLAIN AGRvd24Ac2VjcmV0\r\n"); /* down, secret */
    try_all(&s);
    SSL_free(s.ssl);
    close(s.fd);
    loop_settle(l);
    clock_advance(SECONDS(2));
    loop_settle(l);
    buf_free(&s.in);
    assert_int_equal(fiber_count(), 0);
}

/* May a stranger send there? */
static bool is_ours(const char *rcpt)
{
    const char *at = strrchr(rcpt, '@');

    return at &&
           (str_eq(at, "@example.com") || str_ends(at, ".example.com") ||
            str_eq(rcpt, "postmaster@mx.test")) &&
           !memchr(rcpt, '%', (size_t)(at - rcpt)) && !memchr(rcpt, '!', (size_t)(at - rcpt)) &&
           !memchr(rcpt, '@', (size_t)(at - rcpt));
}

static void strangers_are_not_relayed_for(void **unused)
{
    const char *seed = getenv("SEED"), *more = getenv("ROUNDS");
    unsigned rounds = more ? (unsigned)atoi(more) : 1000, passed = 0, taken = 0;

    (void)unused;
    state = seed ? (unsigned)atoi(seed) : 1;
    for (unsigned i = 0; i < rounds; i++) {
        static char about[4000];
        unsigned began = state;
        struct config *cfg = random_config(about, sizeof(about));
        enum listener_protocols protocol = CONFIG_GET(cfg, listener, "In")->protocol;

        if (passes(cfg)) {
            passed++;
            clock_set_virtual(SECONDS(100000), 1700000000000000);
            str_copy(fixture.peer_name, sizeof(fixture.peer_name), "mail.stranger.com");
            fixture.peer_verified = true;
            visit(cfg, protocol == PROTOCOL_SMTPS || protocol == PROTOCOL_SUBMISSIONS,
                  pick(countof(names) + 1));
            taken += fixture.nqueued;
            for (unsigned q = 0; q < fixture.nqueued; q++)
                for (unsigned k = 0; k < fixture.queued[q]->nrcpts; k++)
                    if (!is_ours(fixture.queued[q]->rcpts[k].address))
                        fail_msg("SEED=%u relays for a stranger to %s:\n%s", began,
                                 fixture.queued[q]->rcpts[k].address, about);
            fixture_reset();
        }
        config_free(&cfg);
    }
    printf("%u of %u configurations pass, %u messages were taken\n", passed, rounds, taken);
    assert_true(passed > rounds / 50 && taken > passed / 10); /* the test means something */
}

/* --- the program ----------------------------------------------------------------------------- */

/* What the fixture's session needs, within what a real gateway has, for the rules to be asked. */
static struct config *make_factory(void)
{
    struct x509_request request = {.common_name = "demo.example", .days = 10, .algorithm = "p256"};
    AUTO(buf) struct buf cert = BUF_INIT(1 << 16), key = BUF_INIT(1 << 16);
    struct config *made;
    struct err err = {0};

    if (!x509_make_self_signed(&request, &cert, &key, NULL, &err))
        abort();
    made = factory_config(&(struct factory){.home = "/h",
                                            .hostname = "mx.test",
                                            .demo_cert = buf_str(&cert),
                                            .demo_key = "sealed:1:2"});
    return fixture_objects(made);
}

static int setup(void **unused)
{
    struct test_cert cert = test_cert_new("mx.test", 0);
    struct tls_settings s = {.cert_pem = cert.cert, .key_pem = cert.key, .server = true};
    struct err err = {0};

    (void)unused;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to sockets that were closed */
    setenv("TZ", "UTC", 1);
    if (!mkdtemp(home) || !spool_open(home, &err))
        return -1;
    spool_ready(true);
    factory = make_factory();
    fixture.tls = tls_context_new(&s, &err);
    client_ctx = SSL_CTX_new(TLS_client_method());
    fixture.authorities = X509_STORE_new();
    X509_STORE_set_flags(fixture.authorities, X509_V_FLAG_PARTIAL_CHAIN);
    for (size_t i = 0; i < countof(names); i++) {
        struct test_cert own = test_cert_new(names[i], 0);
        BIO *in = BIO_new_mem_buf(own.cert, -1), *key_in = BIO_new_mem_buf(own.key, -1);

        certs[i] = PEM_read_bio_X509(in, NULL, NULL, NULL);
        keys[i] = PEM_read_bio_PrivateKey(key_in, NULL, NULL, NULL);
        if (i)
            X509_STORE_add_cert(fixture.authorities, certs[i]);
        BIO_free(in);
        BIO_free(key_in);
        test_cert_free(&own);
    }
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
    config_free(&factory);
    SSL_CTX_free(client_ctx);
    for (size_t i = 0; i < countof(names); i++) {
        X509_free(certs[i]);
        EVP_PKEY_free(keys[i]);
    }
    X509_STORE_free(fixture.authorities);
    tls_context_free(&fixture.tls);
    spool_close();
    rc = system(command);
    free(command);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_not_relayed_for),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
