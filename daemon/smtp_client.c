/* smtp_client.c - see smtp_client.h. Time-outs are those of RFC 5321 section 4.5.3.2.
 *
 * A message with 8-bit text for a peer without 8BITMIME is sent as it is, as most of the field
 * does: every server in use takes it, and recoding would break signatures. Our own reports are not: in them only the
 * copy of the original can be 8-bit (bounce_text.c), and it goes with question marks rather than not at all. SMTPUTF8 has no such way
 * out and fails with 5.6.7 (RFC 6531). */
#include "daemon/smtp_client.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/conn.h"
#include "daemon/maillog.h"
#include "daemon/sasl.h"
#include "daemon/stats.h"
#include "store/base/str.h"

#define REPLY_TIMEOUT MINUTES(5) /* greeting, EHLO, MAIL, RCPT */
#define DATA_TIMEOUT MINUTES(2)
#define BLOCK_TIMEOUT MINUTES(3)
#define BODY_TIMEOUT MINUTES(10) /* for the whole text, and a second more for every */
#define BODY_PER_SECOND                                                                            \
    1024u /* bytes of it: a peer that takes a byte a minute keeps no session for ever */
#define DOT_TIMEOUT MINUTES(10)
#define QUIT_TIMEOUT SECONDS(2)
#define BINARY_CAPS (CAP_CHUNKING | CAP_BINARYMIME)
#define REPLY_LINE 2048 /* four times what the RFC allows */
#define REPLY_LINES 100

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list open_clients = LIST_INIT(open_clients);

void rcpt_result_set(struct rcpt_result *r, enum outcome outcome, int code, const char *status,
                     const char *text)
{
    r->outcome = outcome;
    r->code = code;
    str_copy(r->status, sizeof(r->status), status);
    free(r->text);
    r->text = xstrdup(text);
}

static msec_t reply_deadline(const struct client *c, msec_t timeout)
{
    return clock_in(timeout) < c->deadline ? clock_in(timeout) : c->deadline;
}

/* YIELDS. false: the line broke or the peer does not speak SMTP; err has it and c->reply.code is 0.
 */
static bool read_reply(struct client *c, msec_t timeout, const char *what, struct err *err)
{
    struct smtp_reply *r = &c->reply;
    enum smtp_reply_state state = SMTP_REPLY_MORE;
    struct slice line;

    memset(r, 0, sizeof(*r));
    conn_set_timeout(c->conn, timeout);
    conn_set_deadline(c->conn,
                      reply_deadline(c, timeout)); /* for the whole reply, however slowly it drips */
    for (unsigned n = 0; state == SMTP_REPLY_MORE && n < REPLY_LINES; n++) {
        if (conn_read_line(c->conn, REPLY_LINE, &line) == CONN_LINE_FAILED) {
            r->code = 0;
            c->closing = true;
            if (err) {
                const struct err *e = conn_err(c->conn);

                err_set(err, e->code, "%s", e->text);
                return err_wrap(err, "waiting for the reply to %s", what);
            }
            return false;
        }
        state = smtp_reply_feed(r, line);
    }
    if (state != SMTP_REPLY_DONE) {
        r->code = 0;
        c->closing = true;
        conn_fail(c->conn, E_PROTOCOL, "the reply is not SMTP");
        return err_set(err, E_PROTOCOL, "the reply to %s is not SMTP", what);
    }
    if (r->code == 421)
        c->closing = true;
    return true;
}

static bool command(struct client *c, const char *line, struct err *err)
{
    return client_say(c, line, line, err);
}

bool client_say(struct client *c, const char *line, const char *what, struct err *err)
{
    conn_write(c->conn, line, strlen(line));
    conn_write(c->conn, "\r\n", 2);
    return read_reply(c, REPLY_TIMEOUT, what, err);
}

/* --- opening --- */

struct client *client_connect(const char *host, const struct addr *const *to, unsigned n,
                              const struct addr *from, uint64_t dcid, msec_t patience,
                              msec_t deadline, unsigned *which, struct addr *local,
                              struct smtp_reply *reply, struct err *err)
{
    msec_t until = clock_in(patience);
    struct conn *conn =
        conn_connect_first(to, n, from, until < deadline ? until : deadline, which, err);

    memset(reply, 0, sizeof(*reply));
    memset(local, 0, sizeof(*local));
    return conn ? client_greet(conn, host, to[*which], dcid, deadline, local, reply, err) : NULL;
}

struct client *client_greet(struct conn *conn, const char *host, const struct addr *peer,
                            uint64_t dcid, msec_t deadline, struct addr *local,
                            struct smtp_reply *reply, struct err *err)
{
    struct client *c = xcalloc(1, sizeof(*c));

    memset(reply, 0, sizeof(*reply));
    c->conn = conn;
    c->dcid = dcid;
    c->deadline = deadline;
    c->peer = *peer;
    str_copy(c->host, sizeof(c->host), host);
    conn_local(conn, local);
    if (dcid) {
        maillog_dcid_new(dcid, local, peer);
        stats_add(STAT_CONNS_OUT, 1);
    }
    gauge_add(GAUGE_CONN_OUT, 1);
    pthread_mutex_lock(&open_lock);
    list_add_tail(&open_clients, &c->node);
    pthread_mutex_unlock(&open_lock);
    if (!read_reply(c, REPLY_TIMEOUT, "the connection", err)) {
        client_free(&c);
        return NULL;
    }
    if (c->reply.code != 220) {
        *reply = c->reply;
        err_set(err, E_PROTOCOL, "the server greets with %d", c->reply.code);
        client_free(&c);
        return NULL;
    }
    return c;
}

/* " PLAIN LOGIN", or "=PLAIN LOGIN" as servers wrote it before RFC 2554. */
static void add_mechanisms(struct client *c, const char *list)
{
    while (*list && *list != '\n') {
        size_t n = strcspn(list, " =\n");
        enum sasl_mechanism m = sasl_find((struct slice){list, n});

        if (m < SASL_MECHANISMS)
            c->auth |= 1U << m;
        list += n + (list[n] == ' ' || list[n] == '=');
    }
}

/* One line of the EHLO reply. */
static void add_extension(struct client *c, const char *line)
{
    static const struct {
        const char *name;
        unsigned cap;
    } names[] = {
        {"STARTTLS",   CAP_STARTTLS  },
        {"PIPELINING", CAP_PIPELINING},
        {"SIZE",       CAP_SIZE      },
        {"8BITMIME",   CAP_8BITMIME  },
        {"SMTPUTF8",   CAP_SMTPUTF8  },
        {"DSN",        CAP_DSN       },
        {"CHUNKING",   CAP_CHUNKING  },
        {"REQUIRETLS", CAP_REQUIRETLS},
        {"BINARYMIME", CAP_BINARYMIME},
        {"AUTH",       CAP_AUTH      },
    };
    size_t n = strcspn(line, " =\n");

    for (size_t i = 0; i < countof(names); i++) {
        if (strlen(names[i].name) != n || !str_istarts(line, names[i].name))
            continue;
        c->caps |= names[i].cap;
        if (names[i].cap == CAP_SIZE && line[n] == ' ')
            c->max_size = strtoull(line + n + 1, NULL, 10);
        if (names[i].cap == CAP_AUTH)
            add_mechanisms(c, line + n);
    }
}

bool client_hello(struct client *c, const char *helo, struct err *err)
{
    char line[300];
    const char *p;

    c->auth = 0;
    c->caps = 0; /* RFC 3207 section 4.2: what was said before TLS is forgotten */
    c->max_size = 0;
    snprintf(line, sizeof(line), "EHLO %.255s", helo);
    if (!command(c, line, err))
        return false;
    if (c->reply.code == 250) {
        c->caps |= CAP_ESMTP;
        for (p = strchr(c->reply.text, '\n'); p; p = strchr(p, '\n'))
            add_extension(c, ++p);
        return true;
    }
    if (c->closing)
        return err_set(err, E_PROTOCOL, "the server answers EHLO with %d", c->reply.code);
    snprintf(line, sizeof(line), "HELO %.255s", helo);
    if (!command(c, line, err))
        return false;
    return c->reply.code == 250
               ? true
               : err_set(err, E_PROTOCOL, "the server answers HELO with %d", c->reply.code);
}

bool client_starttls(struct client *c, struct tls_context *ctx, const char *name,
                     bool (*prepare)(struct ssl_st *ssl, void *arg, struct err *err), void *arg,
                     struct err *err)
{
    if (!command(c, "STARTTLS", err))
        return false;
    if (c->reply.code != 220)
        return err_set(err, E_TLS, "STARTTLS unexpected response");
    c->tls_counted = true;
    gauge_add(GAUGE_TLS_OUT, 1);
    conn_set_timeout(c->conn, REPLY_TIMEOUT);
    conn_before_handshake(c->conn, prepare, arg);
    if (!conn_start_tls_client(c->conn, ctx, name, err)) {
        c->closing = true;
        return false;
    }
    return true;
}

/* --- a transaction --- */

static void write_mail(struct client *c, const struct message *m, const char *sender)
{
    conn_printf(c->conn, "MAIL FROM:<%s>", sender);
    if (c->caps & CAP_SIZE)
        conn_printf(c->conn, " SIZE=%" PRIu64, body_length(m->body));
    if (m->flags & MSG_BINARY)
        conn_printf(c->conn, " BODY=BINARYMIME");
    else if (c->caps & CAP_8BITMIME && m->flags & MSG_8BIT)
        conn_printf(c->conn, " BODY=8BITMIME");
    if (c->caps & CAP_SMTPUTF8 && m->flags & MSG_SMTPUTF8)
        conn_printf(c->conn, " SMTPUTF8");
    if (c->caps & CAP_DSN) {
        if (m->flags & (MSG_RET_HDRS | MSG_RET_FULL))
            conn_printf(c->conn, " RET=%s", m->flags & MSG_RET_FULL ? "FULL" : "HDRS");
        if (m->envid)
            conn_printf(c->conn, " ENVID=%s", m->envid);
    }
    conn_write(c->conn, "\r\n", 2);
}

static void write_rcpt(struct client *c, const struct rcpt *r)
{
    conn_printf(c->conn, "RCPT TO:<%s>", r->address);
    if (c->caps & CAP_DSN) {
        if (r->notify & NOTIFY_NEVER)
            conn_printf(c->conn, " NOTIFY=NEVER");
        else if (r->notify)
            conn_printf(c->conn, " NOTIFY=%s%s%s%s%s", r->notify & NOTIFY_SUCCESS ? "SUCCESS" : "",
                        r->notify & NOTIFY_SUCCESS && r->notify & (NOTIFY_FAILURE | NOTIFY_DELAY)
                            ? ","
                            : "",
                        r->notify & NOTIFY_FAILURE ? "FAILURE" : "",
                        r->notify & NOTIFY_FAILURE && r->notify & NOTIFY_DELAY ? "," : "",
                        r->notify & NOTIFY_DELAY ? "DELAY" : "");
        if (r->orcpt)
            conn_printf(c->conn, " ORCPT=%s", r->orcpt);
    }
    conn_write(c->conn, "\r\n", 2);
}

/* Sends text with a second dot before each that begins a line (RFC 5321 section 4.5.2). *start:
 * does it begin a line? NULL: the text goes as it is. */
static void write_text(struct conn *c, const char *p, size_t n, bool *start)
{
    const char *end = p + n, *from = p, *nl;

    if (!start) {
        conn_write(c, p, n);
        return;
    }
    if (*start && n && *p == '.')
        conn_write(c, ".", 1);
    while ((nl = memchr(p, '\n', (size_t)(end - p)))) {
        p = nl + 1;
        if (p < end && *p == '.') {
            conn_write(c, from, (size_t)(p - from));
            conn_write(c, ".", 1);
            from = p;
        }
    }
    conn_write(c, from, (size_t)(end - from));
    if (n)
        *start = end[-1] == '\n';
}

static void make_ascii(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] > 127)
            p[i] = '?';
}

/* YIELDS. The whole text; line_start NULL: as it is, else with dots doubled; ascii: bytes above 127 become question
 * marks. false: it could not be read. The connection is made unusable then, because a message must not end where
 * reading it did. */
static bool send_text(struct client *c, struct body *b, bool ascii, bool *line_start, struct err *err)
{
    struct slice whole = body_cached(b);
    bool ok = true;
    char *piece;
    uint64_t at = 0;
    size_t got = 0;

    conn_set_timeout(c->conn, BLOCK_TIMEOUT);
    conn_set_deadline(c->conn,
                      clock_in(BODY_TIMEOUT + SECONDS((msec_t)(body_length(b) / BODY_PER_SECOND))));
    if (whole.n && !ascii) {
        write_text(c->conn, whole.p, whole.n, line_start);
        return true;
    }
    piece = xmalloc(SPOOL_PIECE);
    for (bool more = body_length(b) > 0; more; more = ok && got && !conn_failed(c->conn)) {
        ok = body_read(b, at, piece, SPOOL_PIECE, &got, err);
        if (ascii)
            make_ascii(piece, ok ? got : 0);
        write_text(c->conn, piece, ok ? got : 0, line_start);
        at += got;
    }
    free(piece);
    if (!ok) {
        c->closing = true;
        conn_fail(c->conn, E_IO, "%s", err->text);
    }
    return ok;
}

static bool flush_text(struct client *c, struct err *err)
{
    if (conn_flush(c->conn))
        return true;
    *err = *conn_err(
        c->conn); /* without its end the peer has no message, so another host may have it */
    return err_wrap(err, "sending the message");
}

/* YIELDS. The whole text and the final dot. false: not all of it went out. */
static bool send_body(struct client *c, const struct message *m, struct err *err)
{
    bool start = true, ascii = m->flags & MSG_BOUNCE && !(c->caps & CAP_8BITMIME);

    if (!send_text(c, m->body, ascii, &start, err))
        return false;
    if (!start)
        conn_write(c->conn, "\r\n", 2);
    conn_write(c->conn, ".\r\n", 3);
    return flush_text(c, err);
}

static void decide(struct rcpt_result *r, const struct smtp_reply *reply)
{
    enum outcome outcome = reply->code / 100 == 2   ? OUTCOME_DONE
                           : reply->code / 100 == 5 ? OUTCOME_FAILED
                                                    : OUTCOME_RETRY;

    rcpt_result_set(r, outcome, reply->code, reply->enhanced, reply->text);
    if (*reply->enhanced) { /* what the peer said, as it said it */
        free(r->text);
        r->text = xasprintf("%s %s", reply->enhanced, reply->text);
    }
}

/* Every recipient that has no result yet gets this one. */
static void decide_rest(struct rcpt_result *results, unsigned n, const struct smtp_reply *reply)
{
    for (unsigned i = 0; i < n; i++)
        if (!results[i].text)
            decide(&results[i], reply);
}

static void refuse_all(struct rcpt_result *results, unsigned n, const char *status,
                       const char *text)
{
    for (unsigned i = 0; i < n; i++)
        rcpt_result_set(&results[i], OUTCOME_FAILED, 0, status, text);
}

static bool broken(struct client *c, struct rcpt_result *results, unsigned n, const struct err *err)
{
    c->closing = true;
    for (unsigned i = 0; i < n; i++)
        if (!results[i].text)
            rcpt_result_set(&results[i], OUTCOME_RETRY, 0, "4.4.2", err->text);
    return false;
}

/* The peer answers something that was not asked: any of its replies may have been about something else, so none of them
 * has decided anything, and the line is of no more use. */
static bool out_of_step(struct client *c, struct rcpt_result *results, unsigned n, const char *what, struct err *err)
{
    for (unsigned i = 0; i < n; i++) {
        free(results[i].text);
        memset(&results[i], 0, sizeof(results[i]));
    }
    conn_fail(c->conn, E_PROTOCOL, "the replies are out of step");
    err_set(err, E_PROTOCOL, "the server's replies are out of step with the commands, at %s", what);
    return broken(c, results, n, err);
}

/* deliveryconfig: whoever wants that loses mail rather than send it twice. */
static void assume_delivered(struct client *c, const struct message *m, const unsigned *rids,
                             struct rcpt_result *results, unsigned n)
{
    unsigned *list = xcalloc(n, sizeof(*list)), done = 0;

    c->closing = true;
    for (unsigned i = 0; i < n; i++) {
        if (results[i].text)
            continue;
        rcpt_result_set(&results[i], OUTCOME_DONE, 0, "2.0.0", "possible delivery");
        list[done++] = rids[i];
    }
    if (done && c->dcid)
        maillog_possible_delivery(c->dcid, m->mid, list, done);
    free(list);
}

/* It may have been delivered: another host now would make that a certain duplicate. */
static bool stays_here(struct rcpt_result *results, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (results[i].outcome == OUTCOME_RETRY && !results[i].code)
            results[i].code = -1;
    return true;
}

/* YIELDS. The reply to the whole message is everybody's. */
static bool text_answered(struct client *c, const char *what, const struct message *m,
                          const unsigned *rids, struct rcpt_result *results, unsigned n,
                          struct err *err)
{
    if (!read_reply(c, DOT_TIMEOUT, what, err)) {
        if (c->possible_delivery && err->code == E_TIMEOUT) {
            assume_delivered(c, m, rids, results, n);
            return true;
        }
        broken(c, results, n, err);
        return stays_here(results, n);
    }
    if (c->reply.code / 100 == 3) {
        out_of_step(c, results, n, what, err);
        return stays_here(results, n);
    }
    decide_rest(results, n, &c->reply);
    for (unsigned i = 0; i < n; i++)
        results[i].relayed_without_dsn = results[i].outcome == OUTCOME_DONE && !(c->caps & CAP_DSN);
    return true;
}

/* RFC 5321 section 4.5.3.1.10: 552 to RCPT means 452. */
static void decide_rcpt(struct rcpt_result *r, struct smtp_reply *reply)
{
    if (reply->code == 552)
        reply->code = 452;
    if (reply->code / 100 != 2)
        decide(r, reply);
}

/* YIELDS. The whole text as one chunk (RFC 3030). */
static bool send_chunk(struct client *c, struct body *b, struct err *err)
{
    conn_printf(c->conn, "BDAT %" PRIu64 " LAST\r\n", body_length(b));
    return send_text(c, b, false, NULL, err) && flush_text(c, err);
}

const char *client_lacks(const struct client *c, unsigned flags)
{
    if (flags & MSG_SMTPUTF8 && !(c->caps & CAP_SMTPUTF8)) /* RFC 6531 section 3.2 */
        return "the message needs SMTPUTF8, which the server does not offer";
    if (flags & MSG_BINARY && (c->caps & BINARY_CAPS) != BINARY_CAPS) /* RFC 3030 section 3 */
        return "the message needs BINARYMIME, which the server does not offer";
    return NULL;
}

bool client_transaction(struct client *c, struct message *m, const char *sender,
                        const unsigned *rids, unsigned n, struct rcpt_result *results,
                        struct err *err)
{
    bool pipelining = c->caps & CAP_PIPELINING, answered = false, binary = m->flags & MSG_BINARY;
    unsigned accepted = 0;
    struct err local = {0};
    const char *lacks;

    if (!err)
        err = &local;
    c->transactions++;
    lacks = client_lacks(c, m->flags);
    if (lacks) { /* recoding would break signatures */
        refuse_all(results, n, binary ? "5.6.3" : "5.6.7", lacks);
        return true;
    }
    if (c->max_size && body_length(m->body) > c->max_size) {
        refuse_all(results, n, "5.3.4", "the message is larger than the server takes");
        return true;
    }
    if (conn_input_pending(c->conn))
        return out_of_step(c, results, n, "MAIL", err);
    if (c->unfinished) {
        conn_write(c->conn, "RSET\r\n", 6);
        if (!pipelining && !read_reply(c, REPLY_TIMEOUT, "RSET", err))
            return broken(c, results, n, err);
    }
    write_mail(c, m, sender);
    if (pipelining) {
        for (unsigned i = 0; i < n; i++)
            write_rcpt(c, &m->rcpts[rids[i]]);
        if (!binary)
            conn_write(c->conn, "DATA\r\n", 6);
    }
    if (c->unfinished && pipelining && !read_reply(c, REPLY_TIMEOUT, "RSET", err))
        return broken(c, results, n, err);
    c->unfinished = false;
    if (!read_reply(c, REPLY_TIMEOUT, "MAIL", err))
        return broken(c, results, n, err);
    if (c->reply.code / 100 == 3)
        return out_of_step(c, results, n, "MAIL", err);
    answered = c->reply.code / 100 == 2;
    if (!answered)
        decide_rest(results, n, &c->reply);
    if (!answered && !pipelining)
        return !c->closing;
    for (unsigned i = 0; i < n; i++) {
        if (!pipelining)
            write_rcpt(c, &m->rcpts[rids[i]]);
        if (!read_reply(c, REPLY_TIMEOUT, "RCPT", err))
            return broken(c, results, n, err);
        if (c->reply.code / 100 == 3)
            return out_of_step(c, results, n, "RCPT", err);
        if (results[i].text)
            continue; /* MAIL was refused; this reply only says so again */
        decide_rcpt(&results[i], &c->reply);
        accepted += !results[i].text;
    }
    if (!pipelining || binary) {
        c->unfinished = answered && !accepted;
        if (!accepted)
            return !c->closing;
    }
    if (binary) {
        if (!send_chunk(c, m->body, err))
            return broken(c, results, n, err);
        return text_answered(c, "the last chunk", m, rids, results, n, err);
    }
    if (!pipelining)
        conn_write(c->conn, "DATA\r\n", 6);
    if (!read_reply(c, DATA_TIMEOUT, "DATA", err))
        return broken(c, results, n, err);
    /* Yes to a text that it has not seen, or more than was asked. */
    if (c->reply.code / 100 == 2 || (c->reply.code == 354 && conn_input_pending(c->conn)))
        return out_of_step(c, results, n, "DATA", err);
    if (c->reply.code != 354) {
        c->unfinished = answered;
        decide_rest(results, n, &c->reply);
        return !c->closing;
    }
    if (!accepted) { /* RFC 2920 section 3.1: 354 without a recipient; nothing but the dot is sent
                      */
        conn_write(c->conn, ".\r\n", 3);
        return read_reply(c, DOT_TIMEOUT, "the final dot", err) || true;
    }
    if (!send_body(c, m, err))
        return broken(c, results, n, err);
    return text_answered(c, "the final dot", m, rids, results, n, err);
}

/* --- the end --- */

bool client_alive(struct client *c)
{
    return !c->closing && conn_is_quiet(c->conn);
}

void client_free(struct client **cp)
{
    struct client *c = *cp;

    *cp = NULL;
    if (!c)
        return;
    if (!c->closing && !conn_failed(c->conn)) {
        conn_write(c->conn, "QUIT\r\n", 6);
        read_reply(c, QUIT_TIMEOUT, "QUIT", NULL);
    }
    pthread_mutex_lock(&open_lock);
    list_remove(&c->node);
    pthread_mutex_unlock(&open_lock);
    if (c->dcid)
        maillog_dcid_close(c->dcid);
    gauge_add(GAUGE_CONN_OUT, -1);
    if (c->tls_counted)
        gauge_add(GAUGE_TLS_OUT, -1);
    conn_free(&c->conn);
    free(c);
}

void clients_abort(void)
{
    pthread_mutex_lock(&open_lock); /* the descriptors stay open while they are listed */
    list_each (it, &open_clients)
        shutdown(conn_fd(list_item(it, struct client, node)->conn), SHUT_RDWR);
    pthread_mutex_unlock(&open_lock);
}
