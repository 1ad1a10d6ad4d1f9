/*
 * smtp_sink.c - an SMTP receiver for benchmarks and tests: fast when it only counts, exact when it
 * stores, and as ill-behaved as it is told to be.
 *
 *     smtp_sink [--listen 127.0.0.1:0] [options]
 *
 * The first line on standard output is {"port": N}. SIGUSR1 prints one line of statistics; SIGTERM,
 * SIGINT and the end do the same and leave with status 0. One thread, one epoll loop: it takes far
 * more than the servers between the generator and it can deliver.
 *
 *     --any-loopback    takes connections to any address of 127.0.0.0/8 on one port, and none from
 * elsewhere; many hosts for a sender, one program
 *
 * What it keeps
 *     --store DIR       each message as DIR/N.eml, dots unstuffed, line ends as received; the
 * envelope in DIR/N.json. Written before the reply.
 *     --digest FILE     one line per message, appended before the reply: X-Bench-Id and the SHA-256
 * of all that follows the header block
 *     --events FILE     one JSON line per message, appended before the reply: the monotonic clock, what
 * --digest tells, the recipients; and one per recipient that a rule of --reply refused for good
 * What it offers
 *     --name HOST       in the banner and in the certificate it makes itself
 *     --cert F --key F  PEM files instead; --rsa makes an RSA-2048 key instead of ECDSA P-256
 *     --ask-cert        asks for a client certificate (any is taken; the sidecar and the counters
 * tell)
 *     --tls-min V, --tls-max V    1.2 or 1.3
 *     --no-tickets      no session resumption
 *     --no-starttls --no-pipelining --no-8bitmime --no-esmtp --smtputf8 --size N
 *     --require-tls     MAIL in clear is answered 530
 * How it misbehaves (each may be given several times)
 *     --reply VERB=ANSWER[,PATTERN[,TIMES]]
 *                       VERB: CONNECT EHLO HELO STARTTLS MAIL RCPT DATA DOT RSET NOOP QUIT.
 *                       ANSWER: a reply line ("451 4.2.1 Mailbox busy" or "451" alone), `close`
 * (the connection, without a word), or `stall` (no answer ever). 421 closes the connection after
 * the reply. PATTERN (fnmatch, no case) is held against the recipient for RCPT, otherwise against
 * the sender. With TIMES, only the first so many.
 *     --delay MS        before each reply; --delay VERB=MS before those of one verb
 *     --drop-after N    closes each connection when it has sent N commands
 *     --drop-in-data N  closes when N octets of a message have come
 *     --max-messages N  421 to the MAIL after N messages of a connection
 *     --garbage-tls     220 to STARTTLS, then bytes which are not TLS
 */
#include "tests/bench/io.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <strings.h>
#include <sys/signalfd.h>

#define MAX_RULES 64
#define MAX_LINE 65536

enum verb {
    V_CONNECT,
    V_EHLO,
    V_HELO,
    V_STARTTLS,
    V_MAIL,
    V_RCPT,
    V_DATA,
    V_DOT,
    V_RSET,
    V_NOOP,
    V_QUIT,
    V_OTHER,
    VERBS
};

static const char *const verb_names[VERBS] = {
    "CONNECT", "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT",
    "DATA",    "DOT",  "RSET", "NOOP",     "QUIT", "?",
};

struct rule {
    enum verb verb;
    char *answer;
    char *pattern; /* NULL: every one */
    long times; /* -1: without end */
};

enum phase {
    COMMANDS,
    BODY,
    HANDSHAKE,
    GARBAGE, /* --garbage-tls: the client hello is answered in clear */
    STALLED,
    CLOSING,
};

struct conn {
    struct io io;
    enum phase phase;
    struct conn *next, *prev;
    uint64_t wake_us; /* a delayed reply: nothing is read from the buffer before */
    bool delayed, closed;
    bool line_start, saw_cr; /* in BODY */
    long commands, messages;
    struct bytes msg; /* the message, when it is kept */
    size_t body_bytes;
    char *helo, *sender, *mail_args;
    struct bytes rcpts; /* JSON strings, separated by commas */
    long nrcpts;
    char peer[INET6_ADDRSTRLEN + 8];
};

static struct {
    const char *listen, *name, *store, *cert, *key, *tls_min, *tls_max;
    int digest, events; /* descriptors, -1: none */
    bool any_loopback, rsa, ask_cert, no_tickets;
    bool no_starttls, no_pipelining, no_8bitmime, no_esmtp, smtputf8, require_tls, garbage_tls;
    long size, drop_after, drop_in_data, max_messages;
    long delay[VERBS];
    struct rule rules[MAX_RULES];
    int nrules;
} opt = {
    .listen = "127.0.0.1:0",
    .name = "sink.lab.example",
    .tls_min = "1.2",
    .tls_max = "1.3",
    .digest = -1,
    .events = -1,
    .size = 104857600,
};

static struct {
    uint64_t connections, open, max_open, commands, messages, messages_tls, recipients, bytes;
    uint64_t tls_new, tls_resumed, tls_failed, client_certs, refused, dropped;
    uint64_t first_us, last_us;
} stat;

static int epoll;
static SSL_CTX *tls;
static struct conn *conns;
static long ndelayed;

static void print_stats(void)
{
    printf("{\"connections\": %lu, \"open\": %lu, \"max_open\": %lu, \"commands\": %lu, "
           "\"messages\": %lu, "
           "\"messages_tls\": %lu, \"recipients\": %lu, \"bytes\": %lu, \"tls_new\": %lu, "
           "\"tls_resumed\": %lu, "
           "\"tls_failed\": %lu, \"client_certs\": %lu, \"refused\": %lu, \"dropped\": %lu, "
           "\"first\": %.6f, \"last\": %.6f}\n",
           stat.connections, stat.open, stat.max_open, stat.commands, stat.messages,
           stat.messages_tls, stat.recipients, stat.bytes, stat.tls_new, stat.tls_resumed,
           stat.tls_failed, stat.client_certs, stat.refused, stat.dropped,
           (double)stat.first_us / 1e6, (double)stat.last_us / 1e6);
    fflush(stdout);
}

/* --- options
 * ------------------------------------------------------------------------------------------------
 */

static enum verb verb_of(const char *word, size_t n)
{
    for (int v = 0; v < V_OTHER; v++)
        if (strlen(verb_names[v]) == n && strncasecmp(verb_names[v], word, n) == 0)
            return (enum verb)v;
    return V_OTHER;
}

static void add_rule(const char *text)
{
    struct rule *r = &opt.rules[opt.nrules];
    const char *equals = strchr(text, '=');
    char *comma;

    if (opt.nrules == MAX_RULES)
        die("--reply: more than %d rules", MAX_RULES);
    r->verb = equals ? verb_of(text, (size_t)(equals - text)) : V_OTHER;
    if (r->verb == V_OTHER)
        die("--reply %s: VERB=ANSWER[,PATTERN[,TIMES]] is wanted", text);
    r->answer = must(strdup(equals + 1));
    r->times = -1;
    comma = strchr(r->answer, ',');
    if (comma) {
        *comma = '\0';
        r->pattern = comma + 1;
        comma = strchr(r->pattern, ',');
        if (comma) {
            *comma = '\0';
            r->times = parse_number("--reply ... TIMES", comma + 1, 1, 1L << 40);
        }
        if (!*r->pattern)
            r->pattern = NULL;
    }
    opt.nrules++;
}

static void add_delay(const char *text)
{
    const char *equals = strchr(text, '=');
    long ms = parse_number("--delay", equals ? equals + 1 : text, 0, 3600000);

    for (int v = 0; v < VERBS; v++)
        if (!equals || (enum verb)v == verb_of(text, (size_t)(equals - text)))
            opt.delay[v] = ms;
}

static int open_log(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0)
        die("%s: %s", name, strerror(errno));
    return fd;
}

static void open_digest(const char *name)
{
    opt.digest = open_log(name);
}

static void open_events(const char *name)
{
    opt.events = open_log(name);
}

/* --- TLS
 * ----------------------------------------------------------------------------------------------------
 */

static void self_signed(SSL_CTX *ctx)
{
    EVP_PKEY *key = opt.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *cert = must(X509_new());
    X509_NAME *name = X509_get_subject_name(cert);
    char san[300];
    X509_EXTENSION *ext;

    snprintf(san, sizeof(san), "DNS:%s", opt.name);
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), (uint64_t)getpid());
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 30L * 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)opt.name, -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    if (!key || !ext || !X509_set_pubkey(cert, key) || !X509_add_ext(cert, ext, -1) ||
        !X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1)
        die("making a certificate for %s: %s", opt.name, ERR_error_string(ERR_get_error(), NULL));
    X509_EXTENSION_free(ext);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int take_any_cert(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static int tls_version(const char *option, const char *text)
{
    if (strcmp(text, "1.1") == 0)
        return TLS1_1_VERSION;
    if (strcmp(text, "1.2") == 0)
        return TLS1_2_VERSION;
    if (strcmp(text, "1.3") == 0)
        return TLS1_3_VERSION;
    die("%s %s: 1.1, 1.2 or 1.3 is wanted", option, text);
}

static SSL_CTX *make_tls(void)
{
    SSL_CTX *ctx = must(SSL_CTX_new(TLS_server_method()));

    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"sink", 4);
    SSL_CTX_set_min_proto_version(ctx, tls_version("--tls-min", opt.tls_min));
    SSL_CTX_set_max_proto_version(ctx, tls_version("--tls-max", opt.tls_max));
    if (tls_version("--tls-min", opt.tls_min) < TLS1_2_VERSION)
        SSL_CTX_set_security_level(ctx, 0); /* OpenSSL 3 has nothing so old above that */
    if (opt.no_tickets) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    if (opt.ask_cert)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, take_any_cert);
    if (!opt.cert)
        self_signed(ctx);
    else if (SSL_CTX_use_certificate_chain_file(ctx, opt.cert) != 1 ||
             SSL_CTX_use_PrivateKey_file(ctx, opt.key ? opt.key : opt.cert, SSL_FILETYPE_PEM) != 1)
        die("loading %s: %s", opt.cert, ERR_error_string(ERR_get_error(), NULL));
    return ctx;
}

/* --- messages
 * -----------------------------------------------------------------------------------------------
 */

/* The text as a JSON string, quotes included. */
static void put_json(struct bytes *b, const char *text)
{
    bytes_put(b, "\"", 1);
    for (const char *p = text ? text : ""; *p; p++) {
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20)
            bytes_printf(b, "\\u%04x", (unsigned char)*p);
        else
            bytes_put(b, p, 1);
    }
    bytes_put(b, "\"", 1);
}

static void forget_transaction(struct conn *c)
{
    free(c->sender);
    free(c->mail_args);
    c->sender = c->mail_args = NULL;
    bytes_drop(&c->rcpts, bytes_len(&c->rcpts));
    bytes_drop(&c->msg, bytes_len(&c->msg));
    c->nrcpts = 0;
    c->body_bytes = 0;
}

/* Writes or ends: a test must not take a full disk for a lost message. */
static void write_file(const char *name, const char *data, size_t n)
{
    FILE *f = fopen(name, "wb");

    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        die("%s: %s", name, strerror(errno));
}

static void store_message(struct conn *c)
{
    struct bytes env = {0};
    char name[1024];

    snprintf(name, sizeof(name), "%s/%lu.eml", opt.store, stat.messages);
    write_file(name, bytes_at(&c->msg), bytes_len(&c->msg));
    bytes_printf(&env, "{\"peer\": \"%s\", \"helo\": ", c->peer);
    put_json(&env, c->helo);
    bytes_printf(&env, ", \"from\": ");
    put_json(&env, c->sender);
    bytes_printf(&env, ", \"mail_args\": ");
    put_json(&env, c->mail_args);
    bytes_printf(&env, ", \"rcpts\": [%.*s], \"size\": %zu", (int)bytes_len(&c->rcpts),
                 bytes_at(&c->rcpts), bytes_len(&c->msg));
    if (c->io.ssl) {
        X509 *peer = SSL_get1_peer_certificate(c->io.ssl);
        char subject[512] = "";

        if (peer)
            X509_NAME_oneline(X509_get_subject_name(peer), subject, sizeof(subject));
        X509_free(peer);
        bytes_printf(&env, ", \"tls\": \"%s\", \"cipher\": \"%s\", \"client_cert\": ",
                     SSL_get_version(c->io.ssl), SSL_get_cipher_name(c->io.ssl));
        put_json(&env, subject);
        bytes_printf(&env, ", \"sni\": ");
        put_json(&env, SSL_get_servername(c->io.ssl, TLSEXT_NAMETYPE_host_name));
    }
    bytes_put(&env, "}\n", 2);
    snprintf(name, sizeof(name), "%s/%lu.json", opt.store, stat.messages);
    write_file(name, bytes_at(&env), bytes_len(&env));
    bytes_free(&env);
}

static void write_event(struct bytes *line)
{
    ssize_t n = (ssize_t)bytes_len(line);

    if (write(opt.events, bytes_at(line), (size_t)n) != n)
        die("writing the file of events: %s", strerror(errno));
    bytes_free(line);
}

static void event(struct conn *c, const char *what)
{
    struct bytes line = {0};

    bytes_printf(&line, "{\"at\": %.6f, \"id\": \"%.*s\", \"sha\": \"%s\", \"rcpts\": [%.*s]}\n",
                 (double)now_us() / 1e6, (int)strcspn(what, " "), what, what + strcspn(what, " ") + 1,
                 (int)bytes_len(&c->rcpts), bytes_at(&c->rcpts));
    write_event(&line);
}

static void event_refused(const char *rcpt)
{
    struct bytes line = {0};

    bytes_printf(&line, "{\"at\": %.6f, \"refused\": ", (double)now_us() / 1e6);
    put_json(&line, rcpt);
    bytes_put(&line, "}\n", 2);
    write_event(&line);
}

static void digest_message(struct conn *c)
{
    const char *msg = bytes_at(&c->msg);
    size_t len = bytes_len(&c->msg), idlen = 0;
    const char *blank = len ? memmem(msg, len, "\r\n\r\n", 4) : NULL;
    size_t header = blank ? (size_t)(blank - msg) + 4 : len;
    const char *id = header ? memmem(msg, header, "\r\nX-Bench-Id: ", 14) : NULL;
    unsigned char sum[32];
    char line[256];
    int n = 0;

    if (id) {
        id += 14;
        idlen = strcspn(id, "\r\n");
    }
    EVP_Digest(msg + header, len - header, sum, NULL, EVP_sha256(), NULL);
    n = snprintf(line, sizeof(line), "%.*s ", idlen && idlen < 100 ? (int)idlen : 1,
                 idlen ? id : "-");
    for (int i = 0; i < 32; i++)
        n += snprintf(line + n, sizeof(line) - (size_t)n, "%02x", sum[i]);
    if (opt.events >= 0)
        event(c, line);
    line[n++] = '\n';
    if (opt.digest >= 0 && write(opt.digest, line, (size_t)n) != n)
        die("writing the digest file: %s", strerror(errno));
}

/* --- the dialog
 * --------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void reply(struct conn *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    bytes_vprintf(&c->io.out, fmt, ap);
    va_end(ap);
    bytes_put(&c->io.out, "\r\n", 2);
}

/* A scripted answer to this verb, given instead of the ordinary one. */
static bool scripted(struct conn *c, enum verb verb, const char *subject)
{
    for (int i = 0; i < opt.nrules; i++) {
        struct rule *r = &opt.rules[i];

        if (r->verb != verb || r->times == 0)
            continue;
        if (r->pattern && fnmatch(r->pattern, subject ? subject : "", FNM_CASEFOLD) != 0)
            continue;
        if (r->times > 0)
            r->times--;
        stat.refused++;
        if (strcmp(r->answer, "close") == 0) {
            c->closed = true;
        } else if (strcmp(r->answer, "stall") == 0) {
            c->phase = STALLED;
        } else {
            if (verb == V_RCPT && *r->answer == '5' && opt.events >= 0)
                event_refused(subject);
            reply(c, "%s%s", r->answer, strlen(r->answer) == 3 ? " as told" : "");
            if (strncmp(r->answer, "421", 3) == 0)
                c->phase = CLOSING;
        }
        return true;
    }
    return false;
}

/* The address within <>, or up to the first blank, in memory of its own; *rest is what follows it.
 */
static char *address_of(char *args, char **rest)
{
    char *end;

    args += strcspn(args, ":");
    if (*args == ':')
        args++;
    args += strspn(args, " ");
    if (*args == '<') {
        args++;
        end = args + strcspn(args, ">");
    } else {
        end = args + strcspn(args, " ");
    }
    *rest = end + (*end == '>');
    *rest += strspn(*rest, " ");
    return must(strndup(args, (size_t)(end - args)));
}

static void do_ehlo(struct conn *c, const char *args)
{
    free(c->helo);
    c->helo = must(strdup(args));
    forget_transaction(c);
    reply(c, "250-%s", opt.name);
    if (!opt.no_pipelining)
        reply(c, "250-PIPELINING");
    if (!opt.no_8bitmime)
        reply(c, "250-8BITMIME");
    if (opt.smtputf8)
        reply(c, "250-SMTPUTF8");
    if (!opt.no_starttls && !c->io.ssl)
        reply(c, "250-STARTTLS");
    reply(c, "250-SIZE %ld", opt.size);
    reply(c, "250 ENHANCEDSTATUSCODES");
}

static void do_starttls(struct conn *c)
{
    if (c->io.ssl || opt.no_starttls) {
        reply(c, "503 5.5.1 No STARTTLS now");
        return;
    }
    reply(c, "220 2.0.0 Ready to start TLS");
    c->phase = opt.garbage_tls ? GARBAGE : HANDSHAKE;
}

static void do_mail(struct conn *c, char *args)
{
    char *sender, *rest;

    if (opt.require_tls && !c->io.ssl) {
        reply(c, "530 5.7.0 Must issue a STARTTLS command first");
        return;
    }
    if (c->sender) {
        reply(c, "503 5.5.1 Nested MAIL");
        return;
    }
    if (opt.max_messages && c->messages >= opt.max_messages) {
        reply(c, "421 4.7.0 Enough for this connection");
        c->phase = CLOSING;
        return;
    }
    sender = address_of(args, &rest);
    if (scripted(c, V_MAIL, sender)) {
        free(sender);
        return;
    }
    c->sender = sender;
    c->mail_args = must(strdup(rest));
    reply(c, "250 2.1.0 Ok");
}

static void do_rcpt(struct conn *c, char *args)
{
    char *rest, *rcpt;

    if (!c->sender) {
        reply(c, "503 5.5.1 No MAIL");
        return;
    }
    rcpt = address_of(args, &rest);
    if (!scripted(c, V_RCPT, rcpt)) {
        if (opt.store || opt.events >= 0) {
            if (c->nrcpts)
                bytes_put(&c->rcpts, ", ", 2);
            put_json(&c->rcpts, rcpt);
        }
        c->nrcpts++;
        reply(c, "250 2.1.5 Ok");
    }
    free(rcpt);
}

static void do_data(struct conn *c)
{
    if (!c->nrcpts) {
        reply(c, "%s", c->sender ? "554 5.5.1 No valid recipients" : "503 5.5.1 No MAIL");
        return;
    }
    if (scripted(c, V_DATA, c->sender))
        return;
    reply(c, "354 End with a dot");
    c->phase = BODY;
    c->line_start = true;
    c->saw_cr = false;
}

static void end_of_data(struct conn *c)
{
    c->phase = COMMANDS;
    if (!scripted(c, V_DOT, c->sender)) {
        stat.last_us = now_us();
        if (!stat.first_us)
            stat.first_us = stat.last_us;
        stat.messages++;
        stat.messages_tls += c->io.ssl != NULL;
        stat.recipients += (uint64_t)c->nrcpts;
        stat.bytes += c->body_bytes;
        c->messages++;
        if (opt.store)
            store_message(c);
        if (opt.digest >= 0 || opt.events >= 0)
            digest_message(c);
        reply(c, "250 2.0.0 Ok: queued as %lX", stat.messages);
    }
    forget_transaction(c);
}

static void command(struct conn *c, char *line)
{
    size_t n = strcspn(line, " ");
    enum verb v = verb_of(line, n);
    char *args = line + n + strspn(line + n, " ");

    stat.commands++;
    c->commands++;
    if (opt.drop_after && c->commands >= opt.drop_after) {
        c->closed = true;
        stat.dropped++;
        return;
    }
    if (opt.no_esmtp && v == V_EHLO)
        v = V_OTHER;
    if (v != V_MAIL && v != V_RCPT && v != V_DATA && scripted(c, v, c->sender))
        return;
    switch (v) {
    case V_EHLO:
        do_ehlo(c, args);
        break;
    case V_HELO:
        free(c->helo);
        c->helo = must(strdup(args));
        forget_transaction(c);
        reply(c, "250 %s", opt.name);
        break;
    case V_STARTTLS:
        do_starttls(c);
        break;
    case V_MAIL:
        do_mail(c, args);
        break;
    case V_RCPT:
        do_rcpt(c, args);
        break;
    case V_DATA:
        do_data(c);
        break;
    case V_RSET:
        forget_transaction(c);
        reply(c, "250 2.0.0 Ok");
        break;
    case V_NOOP:
        reply(c, "250 2.0.0 Ok");
        break;
    case V_QUIT:
        reply(c, "221 2.0.0 Bye");
        c->phase = CLOSING;
        break;
    default:
        reply(c, "502 5.5.2 Command not recognized");
    }
}

static void keep(struct conn *c, const char *data, size_t n)
{
    c->body_bytes += n;
    if (opt.store || opt.digest >= 0 || opt.events >= 0)
        bytes_put(&c->msg, data, n);
    if (opt.drop_in_data && c->body_bytes >= (size_t)opt.drop_in_data) {
        c->closed = true;
        stat.dropped++;
    }
}

/* Takes what is in the buffer of a message; true when it has ended. Only CRLF ends a line. */
static bool body(struct conn *c)
{
    struct bytes *in = &c->io.in;

    while (bytes_len(in) > 0 && !c->closed) {
        char *p = bytes_at(in), *lf;
        size_t len = bytes_len(in), n;

        if (c->line_start && *p == '.') {
            if (len < 3 && (len == 1 || p[1] == '\r'))
                return false;
            if (p[1] == '\r' && p[2] == '\n') {
                bytes_drop(in, 3);
                return true;
            }
            c->line_start = false;
            bytes_drop(in, 1); /* RFC 5321 section 4.5.2 */
            continue;
        }
        lf = memchr(p, '\n', len);
        n = lf ? (size_t)(lf - p) + 1 : len;
        c->line_start = lf && (n > 1 ? p[n - 2] == '\r' : c->saw_cr);
        c->saw_cr = p[n - 1] == '\r';
        keep(c, p, n);
        bytes_drop(in, n);
    }
    return false;
}

static void delay(struct conn *c, enum verb v)
{
    if (!opt.delay[v])
        return;
    c->wake_us = now_us() + (uint64_t)opt.delay[v] * 1000;
    c->delayed = true;
    ndelayed++;
}

/* Everything that can be done with the input at hand. */
static void process(struct conn *c)
{
    struct bytes *in = &c->io.in;

    while (!c->closed && !c->delayed) {
        if (c->phase == BODY) {
            if (!body(c))
                return;
            end_of_data(c);
            delay(c, V_DOT);
        } else if (c->phase == COMMANDS) {
            size_t len = bytes_len(in), n;
            char *p = bytes_at(in);
            char *lf = len ? memchr(p, '\n', len) : NULL;
            enum verb v;

            if (!lf) {
                c->closed |= len > MAX_LINE;
                return;
            }
            n = (size_t)(lf - p);
            *lf = '\0';
            if (n && p[n - 1] == '\r')
                p[n - 1] = '\0';
            v = verb_of(p, strcspn(p, " "));
            command(c, p);
            bytes_drop(in, n + 1);
            delay(c, v);
        } else {
            if (c->phase == GARBAGE && bytes_len(in) > 0) {
                reply(c, "500 these bytes are no TLS record");
                c->phase = CLOSING;
            }
            if (c->phase != HANDSHAKE)
                bytes_drop(in, bytes_len(in));
            return;
        }
    }
}

static void conn_free(struct conn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    ndelayed -= c->delayed;
    forget_transaction(c);
    bytes_free(&c->msg);
    bytes_free(&c->rcpts);
    free(c->helo);
    io_close(&c->io);
    free(c);
    stat.open--;
}

/* True when the handshake is done. */
static bool handshake(struct conn *c)
{
    int rc = io_handshake(&c->io);

    if (rc < 0) {
        stat.tls_failed++;
        c->closed = true;
    }
    if (rc <= 0)
        return false;
    if (SSL_session_reused(c->io.ssl))
        stat.tls_resumed++;
    else
        stat.tls_new++;
    if (SSL_get0_peer_certificate(c->io.ssl))
        stat.client_certs++;
    c->phase = COMMANDS;
    free(c->helo); /* RFC 3207 section 4.2 */
    c->helo = NULL;
    forget_transaction(c);
    return true;
}

/* Turns to TLS once the 220 is out; bytes sent in clear with STARTTLS are a fault of the client. */
static void begin_handshake(struct conn *c)
{
    if (bytes_len(&c->io.in) > 0) {
        stat.tls_failed++;
        c->closed = true;
        return;
    }
    c->io.ssl = must(SSL_new(tls));
    SSL_set_fd(c->io.ssl, c->io.fd);
    SSL_set_accept_state(c->io.ssl);
}

/* Reads, answers, writes, as far as it goes now. Frees the connection when it has ended. */
static void serve(struct conn *c)
{
    bool eof = false;
    int n = 0;

    do {
        if (c->phase == HANDSHAKE && c->io.ssl && !handshake(c))
            break;
        n = c->delayed ? 0 : io_read(&c->io);
        eof = n < 0;
        process(c);
        if (!c->delayed && !io_flush(&c->io))
            c->closed = true;
        if (c->phase == HANDSHAKE && !c->io.ssl && bytes_len(&c->io.out) == 0)
            begin_handshake(c);
    } while (!c->closed && !eof &&
             (n == READ_SIZE || (c->io.ssl && (n > 0 || c->phase == HANDSHAKE))));
    if (c->closed || eof || (c->phase == CLOSING && !c->delayed && bytes_len(&c->io.out) == 0)) {
        if (c->io.ssl && !c->closed && !eof)
            SSL_shutdown(c->io.ssl);
        conn_free(c);
        return;
    }
    io_watch(&c->io, epoll, !c->delayed, c);
}

static void accept_all(int listener)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *c;

        if (fd < 0)
            return;
        io_socket_options(fd);
        c = must(calloc(1, sizeof(*c)));
        c->io.fd = fd;
        c->next = conns;
        if (conns)
            conns->prev = c;
        conns = c;
        getnameinfo((struct sockaddr *)&from, len, c->peer, sizeof(c->peer), NULL, 0,
                    NI_NUMERICHOST);
        stat.connections++;
        if (++stat.open > stat.max_open)
            stat.max_open = stat.open;
        if (!scripted(c, V_CONNECT, NULL))
            reply(c, "220 %s ESMTP sink", opt.name);
        delay(c, V_CONNECT);
        serve(c);
    }
}

/* Lets go on whose delay is over; returns milliseconds to the next one, -1 if there is none. */
static int wake_delayed(void)
{
    uint64_t now = now_us(), next = UINT64_MAX;

    if (ndelayed == 0)
        return -1;
    for (struct conn *c = conns, *after; c; c = after) {
        after = c->next;
        if (!c->delayed)
            continue;
        if (c->wake_us > now) {
            next = c->wake_us < next ? c->wake_us : next;
            continue;
        }
        c->delayed = false;
        ndelayed--;
        serve(c);
    }
    return ndelayed == 0 ? -1 : next == UINT64_MAX ? 0 : (int)((next - now) / 1000) + 1;
}

static const struct option_spec options[] = {
    {"--listen",              TEXT,    .to = &opt.listen       },
    {"--any-loopback",        FLAG,    .to = &opt.any_loopback },
    {"--store",               TEXT,    .to = &opt.store        },
    {"--digest",              CALL,    .call = open_digest     },
    {"--events",              CALL,    .call = open_events     },
    {"--name",                TEXT,    .to = &opt.name         },
    {"--cert",                TEXT,    .to = &opt.cert         },
    {"--key",                 TEXT,    .to = &opt.key          },
    {"--rsa",                 FLAG,    .to = &opt.rsa          },
    {"--ask-cert",            FLAG,    .to = &opt.ask_cert     },
    {"--tls-min",             TEXT,    .to = &opt.tls_min      },
    {"--tls-max",             TEXT,    .to = &opt.tls_max      },
    {"--no-tickets",          FLAG,    .to = &opt.no_tickets   },
    {"--no-starttls",         FLAG,    .to = &opt.no_starttls  },
    {"--no-pipelining",       FLAG,    .to = &opt.no_pipelining},
    {"--no-8bitmime",         FLAG,    .to = &opt.no_8bitmime  },
    {"--no-esmtp",            FLAG,    .to = &opt.no_esmtp     },
    {"--smtputf8",            FLAG,    .to = &opt.smtputf8     },
    {"--size",                NUMBER,  .to = &opt.size,          .min = 0, .max = INT64_MAX},
    {"--require-tls",       FLAG,              .to = &opt.require_tls                       },
    {"--reply", CALL,.call = add_rule},
    {"--delay",       CALL,                    .call = add_delay                                                },
    {"--drop-after",      NUMBER,.to = &opt.drop_after,.min = 1, .max = INT32_MAX},
    {"--drop-in-data",  NUMBER,        .to = &opt.drop_in_data,                                                            .min = 1, .max = INT64_MAX},
    {"--max-messages",        NUMBER,        .to = &opt.max_messages,  .min = 1, .max = INT32_MAX},
    {"--garbage-tls",       FLAG,              .to = &opt.garbage_tls                      },
};

static int listen_on(const char *address)
{
    struct sockaddr_storage at;
    socklen_t len;
    char port[16];
    int one = 1, fd;

    parse_address(opt.any_loopback ? "0.0.0.0:0" : address, &at, &len);
    fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (opt.any_loopback && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) < 0)
        die("--any-loopback: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 4096) < 0)
        die("listening on %s: %s", address, strerror(errno));
    len = sizeof(at);
    getsockname(fd, (struct sockaddr *)&at, &len);
    getnameinfo((struct sockaddr *)&at, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV);
    printf("{\"port\": %s}\n", port);
    fflush(stdout);
    return fd;
}

/* The events' data point to these two, or to a connection. */
static char is_listener, is_signal;

static bool handle_signal(int fd)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) != sizeof(info))
        return true;
    print_stats();
    return info.ssi_signo == SIGUSR1;
}

int main(int argc, char **argv)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int listener, signals;
    sigset_t set;

    (void)argc;
    parse_options(argv, options, sizeof(options) / sizeof(*options));
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    tls = make_tls();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on(opt.listen);
    ev.data.ptr = &is_listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
    ev.data.ptr = &is_signal;
    epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &ev);

    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, wake_delayed());

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &is_listener)
                accept_all(listener);
            else if (events[i].data.ptr == &is_signal) {
                if (!handle_signal(signals))
                    return 0;
            } else
                serve(events[i].data.ptr);
        }
    }
}
