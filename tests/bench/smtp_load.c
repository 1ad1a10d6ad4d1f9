/*
 * smtp_load.c - an SMTP load generator which checks every reply.
 *
 *     smtp_load --to 127.0.0.1:2525 --sessions 20 --messages 10000
 *
 * One thread, one epoll loop, so that it takes little of a small machine from the server it
 * measures. Any reply it did not expect ends it with status 1 and is printed. The result is one
 * line of JSON on standard output: counts, seconds, rate, and percentiles of the time from MAIL to
 * the reply after the final dot, in milliseconds.
 *
 *     --to HOST:PORT
 *     --sessions N         connections at the same time (1)
 *     --messages N         in all (1)
 *     --per-connection N   messages per connection, then QUIT (20)
 *     --size N             octets of a message, header included (4096)
 *     --rcpts N            recipients of a message (1)
 *     --domains N          domains the recipients are spread over, d0.bench.example and so on (1)
 *     --domain NAME        another name for their end (bench.example)
 *     --sender A           (sender@client.bench.example)
 *     --helo NAME          (client.bench.example)
 *     --starttls           TLS on every connection: a new handshake each time, or with --resume a
 * resumed one
 *     --tls12              no TLS 1.3
 *     --no-pipelining      even where it is offered
 *     --rate N             messages a second at most
 *     --id PREFIX          of the X-Bench-Id of each message (m)
 *     --acked FILE         one line per acknowledged message: its X-Bench-Id and the SHA-256 of its
 * body, as smtp_sink --digest writes them
 *     --survive            lost connections and 4xx replies are counted, not fatal; what was not
 * acknowledged is sent again under a new identifier
 *     --timeout SECONDS    status 1 when nothing happens for so long (60)
 *     --greeting MS        a connection that is not greeted for so long is made again: the listen
 * queue of some servers holds five, and what finds it full would wait for ever
 *     --idle N             open N sessions, say EHLO (after STARTTLS with --starttls), print
 * {"ready": N, ...}, hold them to the end of standard input, print {"held": N, "lost": n}
 */
#include "tests/bench/io.h"

#include <openssl/evp.h>
#include <signal.h>

#define CONNECTING_AT_ONCE 64 /* for --idle: fewer than any listen queue */
#define RETRY_US 20000 /* pause before a lost connection is made again */

enum stage {
    OFF,
    PAUSED, /* no connection before wake_us, with --survive */
    CONNECT,
    GREETING,
    EHLO,
    STARTTLS,
    HANDSHAKE,
    READY, /* waits for its turn under --rate, or idles */
    MAIL,
    RCPT,
    DATA,
    DOT,
    QUIT,
};

static const char *const stage_names[] = {
    "off",  "pause", "connect", "greeting", "EHLO",        "STARTTLS", "handshake",
    "idle", "MAIL",  "RCPT",    "DATA",     "end of data", "QUIT",
};

struct conn {
    struct io io;
    enum stage stage;
    bool pipelining, secure;
    long sent; /* messages on this connection */
    long rcpts_due; /* replies to RCPT not yet read */
    uint64_t serial;
    uint64_t began_us, wake_us;
};

static struct {
    const char *to, *sender, *helo, *id, *acked, *domain;
    long sessions, messages, per_connection, size, rcpts, domains, rate, timeout, idle, greeting;
    bool starttls, resume, tls12, no_pipelining, survive;
} opt = {
    .sender = "sender@client.bench.example",
    .helo = "client.bench.example",
    .id = "m",
    .domain = "bench.example",
    .sessions = 1,
    .messages = 1,
    .per_connection = 20,
    .size = 4096,
    .rcpts = 1,
    .domains = 1,
    .timeout = 60,
};

static const struct option_spec options[] = {
    {"--to",               TEXT,     .to = &opt.to                 },
    {"--sender",           TEXT,     .to = &opt.sender             },
    {"--helo",             TEXT,     .to = &opt.helo               },
    {"--id",               TEXT,     .to = &opt.id                 },
    {"--domain",           TEXT,     .to = &opt.domain             },
    {"--acked",            TEXT,     .to = &opt.acked              },
    {"--sessions",         NUMBER,   .to = &opt.sessions,            .min = 1, .max = 100000},
    {"--messages",       NUMBER,               .to = &opt.messages,                                  .min = 1, .max = 100000000},
    {"--per-connection", NUMBER,.to = &opt.per_connection,.min = 1, .max = INT32_MAX},
    {"--size",   NUMBER,     .to = &opt.size,                        .min = 400, .max = 1L << 30},
    {"--rcpts",    NUMBER,            .to = &opt.rcpts,                                   .min = 1, .max = 100000},
    {"--domains",     NUMBER,.to = &opt.domains,.min = 1, .max = INT32_MAX},
    {"--rate",            NUMBER,           .to = &opt.rate,              .min = 1, .max = INT32_MAX},
    {"--timeout",       NUMBER,               .to = &opt.timeout,                                   .min = 1, .max = 86400},
    {"--greeting",           NUMBER,   .to = &opt.greeting,            .min = 1, .max = 60000},
    {"--idle",  NUMBER,    .to = &opt.idle,                            .min = 1, .max = 1000000},
    {"--starttls",             FLAG,    .to = &opt.starttls        },
    {"--resume",    FLAG,            .to = &opt.resume                               },
    {"--tls12",  FLAG,.to = &opt.tls12},
    {"--no-pipelining",             FLAG,              .to = &opt.no_pipelining                         },
    {"--survive",      FLAG,              .to = &opt.survive                                },
};

static int epoll;
static struct sockaddr_storage server;
static socklen_t server_len;
static SSL_CTX *tls;
static SSL_SESSION *tickets[1024]; /* used once while there are more: RFC 8446 appendix C.4 */
static size_t ntickets;
static struct conn *conns;
static long nconns;
static FILE *acked;

static char *body; /* of every message: CRLF lines, no dot at the start of one */
static size_t body_len;
static char body_sha[65];

static long begun, done, connecting, ready, lost; /* messages begun and acknowledged; sessions */
static uint64_t serial; /* number of identifiers given out */
static uint64_t connections, tls_new, tls_resumed, retried, start_us, progress_us;
static uint32_t *latency_us;

static void step(struct conn *c);

/* --- messages ------------------------------------------------------------------------------- */

static int header_text(char *out, size_t size, uint64_t n)
{
    return snprintf(out, size,
                    "From: Sender <%s>\r\nTo: Bench <user@d0.bench.example>\r\n"
                    "Subject: Bench message\r\nDate: Thu, 01 Feb 2024 10:00:00 +0000\r\n"
                    "Message-ID: <%s%010lu@%s>\r\nX-Bench-Id: %s%010lu\r\n\r\n",
                    opt.sender, opt.id, n, opt.helo, opt.id, n);
}

static void make_body(void)
{
    static const char text[] =
        "The quick brown fox jumps over the lazy dog and says nothing of it.\r\n";
    unsigned char sum[32];
    char header[2048];
    size_t n = (size_t)header_text(header, sizeof(header), 0);

    if (n + 2 > (size_t)opt.size)
        die("--size %ld: the header alone has %zu octets", opt.size, n);
    body_len = (size_t)opt.size - n;
    body = must(malloc(body_len));
    for (size_t i = 0; i < body_len; i++)
        body[i] = text[i % (sizeof(text) - 1)];
    if (body_len > 2 && body[body_len - 3] == '\r')
        body[body_len - 3] = ' '; /* or the line end below would leave a bare CR */
    memcpy(body + body_len - 2, "\r\n", 2);
    EVP_Digest(body, body_len, sum, NULL, EVP_sha256(), NULL);
    for (int i = 0; i < 32; i++)
        snprintf(body_sha + 2 * i, 3, "%02x", sum[i]);
}

static void put_mail(struct conn *c)
{
    bytes_printf(&c->io.out, "MAIL FROM:<%s>\r\n", opt.sender);
}

static void put_rcpt(struct conn *c, long i)
{
    bytes_printf(&c->io.out, "RCPT TO:<user%ld@d%lu.%s>\r\n", i,
                 (c->serial + (uint64_t)i) % (uint64_t)opt.domains, opt.domain);
}

static void put_message(struct conn *c)
{
    char header[2048];

    bytes_put(&c->io.out, header, (size_t)header_text(header, sizeof(header), c->serial));
    bytes_put(&c->io.out, body, body_len);
    bytes_put(&c->io.out, ".\r\n", 3);
}

/* --- sessions ------------------------------------------------------------------------------- */

static void conn_open(struct conn *c)
{
    int fd = socket(server.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        die("socket: %s", strerror(errno));
    io_socket_options(fd);
    memset(&c->io, 0, sizeof(c->io));
    c->io.fd = fd;
    c->io.want_write = true;
    c->sent = 0;
    c->secure = false;
    c->stage = CONNECT;
    c->wake_us = now_us() + (uint64_t)opt.greeting * 1000;
    connections++;
    connecting++;
    if (connect(fd, (struct sockaddr *)&server, server_len) < 0 && errno != EINPROGRESS)
        die("connecting to %s: %s", opt.to, strerror(errno));
    io_watch(&c->io, epoll, true, c);
}

static void conn_close(struct conn *c)
{
    connecting -= c->stage > PAUSED && c->stage < READY;
    if (c->io.ssl)
        SSL_shutdown(c->io.ssl);
    io_close(&c->io);
    c->stage = OFF;
}

/* The connection ended, or answered, in a way which is no part of the plan. */
static void conn_failed(struct conn *c, const char *what)
{
    if (opt.idle && c->stage == READY) {
        lost++;
        conn_close(c);
        return;
    }
    if (!opt.survive) {
        printf("{\"error\": true, \"stage\": \"%s\", \"messages\": %ld}\n", stage_names[c->stage],
               done);
        fflush(stdout);
        fprintf(stderr, "%s: unexpected: %s\n", stage_names[c->stage], what);
        exit(1);
    }
    retried++;
    if (c->stage >= MAIL && c->stage <= DOT)
        begun--;
    conn_close(c);
    c->stage = PAUSED;
    c->wake_us = now_us() + RETRY_US;
}

static void begin_message(struct conn *c)
{
    begun++;
    c->serial = serial++;
    c->began_us = now_us();
    c->rcpts_due = opt.rcpts;
    put_mail(c);
    if (c->pipelining) {
        for (long i = 0; i < opt.rcpts; i++)
            put_rcpt(c, i);
        bytes_put(&c->io.out, "DATA\r\n", 6);
    }
    c->stage = MAIL;
}

static bool may_begin(void)
{
    double since = (double)(now_us() - start_us) / 1e6;

    return begun < opt.messages && (!opt.rate || (double)begun < 1 + since * (double)opt.rate);
}

/* Between messages: the next one, the end of the connection, or patience. */
static void next_message(struct conn *c)
{
    c->stage = READY;
    if (opt.idle)
        return;
    if (begun >= opt.messages || c->sent >= opt.per_connection) {
        bytes_put(&c->io.out, "QUIT\r\n", 6);
        c->stage = QUIT;
    } else if (may_begin()) {
        begin_message(c);
    }
}

static void acknowledged(struct conn *c)
{
    uint64_t took = now_us() - c->began_us;

    latency_us[done++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    c->sent++;
    if (acked)
        fprintf(acked, "%s%010lu %s\n", opt.id, c->serial, body_sha);
    next_message(c);
}

static int keep_ticket(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    if (ntickets == sizeof(tickets) / sizeof(*tickets))
        return 0;
    tickets[ntickets++] = session;
    return 1;
}

static void begin_handshake(struct conn *c)
{
    c->io.ssl = must(SSL_new(tls));
    SSL_set_fd(c->io.ssl, c->io.fd);
    SSL_set_connect_state(c->io.ssl);
    if (ntickets > 0) {
        SSL_SESSION *s = tickets[ntickets - 1];

        /* The last one is kept: TLS 1.2 gives no new one to a resumed session, nor does Postfix. */
        if (ntickets == 1)
            s = must(SSL_SESSION_dup(s));
        else
            ntickets--;
        SSL_set_session(c->io.ssl, s);
        SSL_SESSION_free(s);
    }
    c->stage = HANDSHAKE;
}

static void say_ehlo(struct conn *c)
{
    bytes_printf(&c->io.out, "EHLO %s\r\n", opt.helo);
    c->pipelining = false;
    c->stage = EHLO;
}

/* One line of a reply; `last` of its lines. */
static void on_line(struct conn *c, int code, bool last, const char *text)
{
    static const int wanted[] = {
        [GREETING] = 220, [EHLO] = 250, [STARTTLS] = 220, [MAIL] = 250,
        [RCPT] = 250,     [DATA] = 354, [DOT] = 250,      [QUIT] = 221,
    };

    if (c->stage < GREETING || c->stage == READY || c->stage == HANDSHAKE ||
        code != wanted[c->stage]) {
        conn_failed(c, text);
        return;
    }
    if (c->stage == EHLO && strcasecmp(text + 4, "PIPELINING") == 0)
        c->pipelining = !opt.no_pipelining;
    if (!last)
        return;
    switch (c->stage) {
    case GREETING:
        say_ehlo(c);
        break;
    case EHLO:
        if (opt.starttls && !c->secure) {
            bytes_put(&c->io.out, "STARTTLS\r\n", 10);
            c->stage = STARTTLS;
        } else {
            connecting--;
            ready++;
            next_message(c);
        }
        break;
    case STARTTLS:
        begin_handshake(c);
        break;
    case MAIL:
        if (!c->pipelining)
            put_rcpt(c, 0);
        c->stage = RCPT;
        break;
    case RCPT:
        c->rcpts_due--;
        if (c->rcpts_due == 0)
            c->stage = DATA;
        if (c->pipelining)
            break;
        if (c->stage == DATA)
            bytes_put(&c->io.out, "DATA\r\n", 6);
        else
            put_rcpt(c, opt.rcpts - c->rcpts_due);
        break;
    case DATA:
        put_message(c);
        c->stage = DOT;
        break;
    case DOT:
        acknowledged(c);
        break;
    default: /* QUIT */
        conn_close(c);
    }
}

static void on_input(struct conn *c)
{
    char *lf;

    while (c->io.fd >= 0 && bytes_len(&c->io.in) > 0 &&
           (lf = memchr(bytes_at(&c->io.in), '\n', bytes_len(&c->io.in)))) {
        char *line = bytes_at(&c->io.in);
        size_t n = (size_t)(lf - line);
        char copy[1024];
        int code = 0, digits = 0;

        while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n'))
            n--;
        snprintf(copy, sizeof(copy), "%.*s", (int)n, line);
        bytes_drop(&c->io.in, (size_t)(lf - line) + 1);
        while (copy[digits] >= '0' && copy[digits] <= '9')
            code = code * 10 + copy[digits++] - '0';
        if (digits != 3) {
            conn_failed(c, copy);
            return;
        }
        on_line(c, code, copy[3] != '-', copy);
        if (c->stage == HANDSHAKE)
            return;
    }
}

static void handshake(struct conn *c)
{
    int rc = io_handshake(&c->io);

    if (rc < 0)
        conn_failed(c, ERR_reason_error_string(ERR_peek_error()) ?: "handshake broken off");
    if (rc <= 0)
        return;
    if (SSL_session_reused(c->io.ssl))
        tls_resumed++;
    else
        tls_new++;
    c->secure = true;
    say_ehlo(c);
}

/* As far as this session goes now. */
static void step(struct conn *c)
{
    int n = 0, error = 0;
    socklen_t len = sizeof(error);

    progress_us = now_us();
    if (c->stage == CONNECT) {
        getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            conn_failed(c, strerror(error));
            return;
        }
        c->stage = GREETING;
    }
    do {
        if (c->stage == HANDSHAKE)
            handshake(c);
        if (c->stage <= PAUSED || c->stage == HANDSHAKE)
            break;
        n = io_read(&c->io);
        if (n > 0)
            on_input(c);
        if (c->io.fd >= 0 && c->stage > PAUSED && (n < 0 || !io_flush(&c->io)))
            conn_failed(c, "connection closed");
    } while (c->stage > PAUSED &&
             (n == READ_SIZE || (c->io.ssl && n > 0) || c->stage == HANDSHAKE));
    if (c->stage > PAUSED)
        io_watch(&c->io, epoll, true, c);
}

/* --- the run -------------------------------------------------------------------------------- */

/* Opens what should be open and wakes who waits; returns milliseconds to the next look. */
static int drive(void)
{
    uint64_t now = now_us();
    int wait = 1000;

    if (now - progress_us > (uint64_t)opt.timeout * 1000000) {
        fprintf(stderr, "nothing happened for %ld s; %ld of %ld messages done\n", opt.timeout, done,
                opt.messages);
        exit(1);
    }
    for (long i = 0; i < nconns; i++) {
        struct conn *c = &conns[i];

        if (c->stage == PAUSED && c->wake_us <= now)
            c->stage = OFF;
        if (c->stage == PAUSED)
            wait = 5;
        if (opt.greeting && (c->stage == CONNECT || c->stage == GREETING)) {
            wait = 20;
            if (c->wake_us <= now) {
                conn_close(c);
                retried++;
                if (opt.idle)
                    conn_open(c);
            }
        }
        if (c->stage == OFF && !opt.idle && begun < opt.messages)
            conn_open(c);
        if (c->stage == READY && opt.rate) {
            wait = 1;
            if (may_begin() || begun >= opt.messages) {
                next_message(c);
                step(c);
            }
        }
    }
    return wait;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double percentile(long p)
{
    long rank = (done * p + 99) / 100;

    return latency_us[rank - 1] / 1000.0;
}

static bool all_closed(void)
{
    for (long i = 0; i < nconns; i++)
        if (conns[i].stage > PAUSED)
            return false;
    return true;
}

static void wait_events(int ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(epoll, events, 256, ms);

    for (int i = 0; i < n; i++)
        if (events[i].data.ptr)
            step(events[i].data.ptr);
}

static void run_messages(void)
{
    uint64_t end_us = 0;
    double seconds;

    while (done < opt.messages || !all_closed()) {
        wait_events(drive());
        if (!end_us && done >= opt.messages)
            end_us = now_us();
    }
    seconds = (double)(end_us - start_us) / 1e6;
    qsort(latency_us, (size_t)done, sizeof(*latency_us), compare_u32);
    printf("{\"messages\": %ld, \"seconds\": %.4f, \"rate\": %.1f, \"connections\": %lu, "
           "\"tls_new\": %lu, "
           "\"tls_resumed\": %lu, \"retried\": %lu, \"start\": %.6f, \"ms\": {\"p50\": %.2f, "
           "\"p90\": %.2f, "
           "\"p99\": %.2f, \"max\": %.2f}}\n",
           done, seconds, (double)done / seconds, connections, tls_new, tls_resumed, retried,
           (double)start_us / 1e6, percentile(50), percentile(90), percentile(99), percentile(100));
}

static bool stdin_ended(void)
{
    char junk[256];

    return read(STDIN_FILENO, junk, sizeof(junk)) == 0;
}

static void run_idle(void)
{
    struct epoll_event ev = {.events = EPOLLIN};
    long opened = 0;

    while (ready < opt.idle) {
        while (opened < opt.idle && connecting < CONNECTING_AT_ONCE)
            conn_open(&conns[opened++]);
        wait_events(drive());
    }
    printf("{\"ready\": %ld, \"lost\": %ld, \"seconds\": %.3f, \"tls_new\": %lu, \"tls_resumed\": "
           "%lu}\n",
           ready, lost, (double)(now_us() - start_us) / 1e6, tls_new, tls_resumed);
    fflush(stdout);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO,
              &ev); /* refused for a file: read at once instead */
    while (!stdin_ended())
        wait_events(1000);
    printf("{\"held\": %ld, \"lost\": %ld}\n", ready - lost, lost);
}

int main(int argc, char **argv)
{
    (void)argc;
    parse_options(argv, options, sizeof(options) / sizeof(*options));
    if (!opt.to)
        die("--to HOST:PORT is wanted; the head of smtp_load.c lists the options");
    parse_address(opt.to, &server, &server_len);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    if (opt.acked && !(acked = fopen(opt.acked, "a")))
        die("%s: %s", opt.acked, strerror(errno));
    if (acked)
        setvbuf(acked, NULL, _IOLBF, 0);
    tls = must(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    if (opt.tls12)
        SSL_CTX_set_max_proto_version(tls, TLS1_2_VERSION);
    if (opt.resume) {
        SSL_CTX_set_session_cache_mode(tls,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
        SSL_CTX_sess_set_new_cb(tls, keep_ticket);
    }
    make_body();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    nconns = opt.idle ? opt.idle : opt.sessions < opt.messages ? opt.sessions : opt.messages;
    conns = must(calloc((size_t)nconns, sizeof(*conns)));
    for (long i = 0; i < nconns; i++)
        conns[i].io.fd = -1;
    latency_us = must(calloc((size_t)opt.messages, sizeof(*latency_us)));
    start_us = progress_us = now_us();
    if (opt.idle)
        run_idle();
    else
        run_messages();
    return opt.idle && lost ? 1 : 0;
}
