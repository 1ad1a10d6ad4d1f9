/*
 * bench_limits.c - what this machine can do at most, without any mail server: the figures the bench
 * measures servers against. One line of JSON on standard output.
 *
 *     bench_limits [--seconds N] [--dir DIRECTORY]
 *
 * connections         loopback connections a second: connect, accept, close, on all cores
 * exchanges           lines sent and answered a second over one connection of two processes
 * mib_per_second      one connection between two processes, 64 KiB a call
 * syncs               fdatasync of 4 KiB appended to a file of DIRECTORY, a second
 * handshakes          full TLS 1.3 handshakes a CPU second, ECDSA P-256, both sides
 * handshakes_server   the same, the server's half of the work alone
 * handshakes_resumed  resumed ones, both sides
 */
#include "tests/bench/io.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/wait.h>

static struct {
    long seconds;
    const char *dir;
} opt = {.seconds = 2, .dir = "/tmp"};

static const struct option_spec options[] = {
    {"--seconds", NUMBER, .to = &opt.seconds, .min = 1, .max = 60},
    {"--dir",  TEXT,        .to = &opt.dir                   },
};

static uint64_t until_us;

static bool time_left(void)
{
    return now_us() < until_us;
}

/* Of this thread: what others do on the machine meanwhile does not count. */
static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void begin(void)
{
    until_us = now_us() + (uint64_t)opt.seconds * 1000000;
}

static int listener(struct sockaddr_in *at)
{
    socklen_t len = sizeof(*at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(at, 0, sizeof(*at));
    at->sin_family = AF_INET;
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)at, &len) < 0)
        die("listening on 127.0.0.1: %s", strerror(errno));
    return fd;
}

static int dial(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0)
        die("connecting over loopback: %s", strerror(errno));
    return fd;
}

/* Each core connects to itself; a reset at the end, or the ports would all be waiting soon. */
static double connections(void)
{
    static const struct linger reset = {.l_onoff = 1};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t total = 0;
    int report[2];

    if (pipe(report) < 0)
        die("pipe: %s", strerror(errno));
    begin();
    for (long i = 0; i < cores; i++) {
        uint64_t n = 0;
        struct sockaddr_in at;
        int fd;

        if (fork() != 0)
            continue;
        fd = listener(&at);
        for (; time_left(); n++) {
            int out = dial(&at), in = accept(fd, NULL, NULL);

            setsockopt(out, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(out);
            close(in);
        }
        if (write(report[1], &n, sizeof(n)) != sizeof(n))
            _exit(1);
        _exit(0);
    }
    for (long i = 0; i < cores; i++) {
        uint64_t n = 0;

        if (read(report[0], &n, sizeof(n)) != sizeof(n))
            die("a child ended too early");
        total += n;
    }
    while (wait(NULL) > 0)
        ;
    return (double)total / (double)opt.seconds;
}

/* A connection to a child that runs `serve` on its end until the other closes. */
static int served(void (*serve)(int fd))
{
    struct sockaddr_in at;
    int fd = listener(&at), one = 1, out;

    if (fork() == 0) {
        int in = accept(fd, NULL, NULL);

        setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        serve(in);
        _exit(0);
    }
    out = dial(&at);
    setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    close(fd);
    return out;
}

static void answer(int fd)
{
    char line[512];

    while (read(fd, line, sizeof(line)) > 0 && write(fd, "250 2.0.0 Ok\r\n", 14) == 14)
        ;
}

static double exchanges(void)
{
    char line[512];
    uint64_t n = 0;
    int fd = served(answer);

    for (begin(); time_left(); n++)
        if (write(fd, "NOOP\r\n", 6) != 6 || read(fd, line, sizeof(line)) <= 0)
            die("the exchange of lines broke off");
    close(fd);
    wait(NULL);
    return (double)n / (double)opt.seconds;
}

static char block[READ_SIZE];

static void swallow(int fd)
{
    static char in[READ_SIZE];

    while (read(fd, in, sizeof(in)) > 0)
        ;
}

static double throughput(void)
{
    uint64_t n = 0;
    int fd = served(swallow);

    begin();
    while (time_left()) {
        ssize_t sent = write(fd, block, sizeof(block));

        if (sent <= 0)
            die("the stream broke off");
        n += (uint64_t)sent;
    }
    close(fd);
    wait(NULL);
    return (double)n / (1 << 20) / (double)opt.seconds;
}

static double syncs(void)
{
    static char name[4096];
    uint64_t n = 0;
    int fd;

    snprintf(name, sizeof(name), "%s/postern-limits-XXXXXX", opt.dir);
    fd = mkstemp(name);
    if (fd < 0)
        die("%s: %s", name, strerror(errno));
    unlink(name);
    for (begin(); time_left(); n++)
        if (write(fd, block, 4096) != 4096 || fdatasync(fd) < 0)
            die("%s: %s", name, strerror(errno));
    close(fd);
    return (double)n / (double)opt.seconds;
}

/* --- handshakes in memory -------------------------------------------------------------------- */

static SSL_CTX *server_tls(void)
{
    SSL_CTX *ctx = must(SSL_CTX_new(TLS_server_method()));
    EVP_PKEY *key = must(EVP_EC_gen("P-256"));
    X509 *cert = must(X509_new());

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)"limits.example", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    if (!X509_set_pubkey(cert, key) || !X509_sign(cert, key, EVP_sha256()) ||
        SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
        die("making a certificate: %s", ERR_error_string(ERR_get_error(), NULL));
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

static SSL_SESSION *kept;

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

/* One handshake and the tickets after it; adds the time of the server's side. */
static void shake(SSL_CTX *server, SSL_CTX *client, bool resume, double *server_us)
{
    SSL *s = must(SSL_new(server)), *c = must(SSL_new(client));
    BIO *left, *right;
    char byte;

    if (!BIO_new_bio_pair(&left, 1 << 15, &right, 1 << 15))
        die("out of memory");
    SSL_set_bio(s, left, left);
    SSL_set_bio(c, right, right);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    if (resume && kept) {
        SSL_SESSION *again = must(SSL_SESSION_dup(kept));

        SSL_set_session(c, again);
        SSL_SESSION_free(again);
    }
    for (int i = 0; !SSL_is_init_finished(s) || !SSL_is_init_finished(c); i++) {
        double t;

        SSL_do_handshake(c);
        t = cpu_us();
        SSL_do_handshake(s);
        *server_us += cpu_us() - t;
        if (i > 10)
            die("a handshake did not end: %s", ERR_error_string(ERR_get_error(), NULL));
    }
    SSL_read(c, &byte, 1); /* the tickets */
    if (resume && kept && !SSL_session_reused(c))
        die("a session was not resumed");
    SSL_set_shutdown(s, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    ERR_clear_error();
    SSL_free(s);
    SSL_free(c);
}

static double handshakes(bool resume, double *server_only)
{
    SSL_CTX *server = server_tls(), *client = must(SSL_CTX_new(TLS_client_method()));
    double server_us = 0, began;
    uint64_t n = 0;

    SSL_CTX_set_session_cache_mode(client,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(client, keep_ticket);
    shake(server, client, false, &server_us);
    server_us = 0;
    begin();
    began = cpu_us();
    for (; time_left(); n++)
        shake(server, client, resume, &server_us);
    if (server_only)
        *server_only = (double)n / (server_us / 1e6);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
    SSL_SESSION_free(kept);
    kept = NULL;
    return (double)n / ((cpu_us() - began) / 1e6);
}

int main(int argc, char **argv)
{
    double server_only, full;

    (void)argc;
    parse_options(argv, options, sizeof(options) / sizeof(*options));
    signal(SIGPIPE, SIG_IGN);
    printf("{\"connections\": %.0f", connections());
    printf(", \"exchanges\": %.0f", exchanges());
    printf(", \"mib_per_second\": %.0f", throughput());
    printf(", \"syncs\": %.0f", syncs());
    full = handshakes(false, &server_only);
    printf(", \"handshakes\": %.0f, \"handshakes_server\": %.0f", full, server_only);
    printf(", \"handshakes_resumed\": %.0f}\n", handshakes(true, NULL));
    return 0;
}
