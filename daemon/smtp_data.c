/* smtp_data.c - DATA and BDAT: the message from the socket into the spool, our trace line in front,
 * and into the queue. Nothing of it is held in one piece; a message that is refused is read to its
 * end and leaves nothing behind. */
#include "daemon/smtp_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/conn.h"
#include "daemon/maillog.h"
#include "daemon/queue.h"
#include "daemon/smtp_clean.h"
#include "daemon/smtp_intake.h"
#include "daemon/spool.h"
#include "daemon/stats.h"
#include "daemon/tls.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define STEP 65536u /* bytes that go through pending at a time */

struct intake { /* the scanner and where its text goes */
    struct smtp_intake scan;
    struct smtp *s;
    struct body_writer *body;
    struct err err;
    bool cleans; /* the policy says line_endings "clean" */
    struct smtp_clean clean;
    struct buf pending; /* cleaned, or of a chunk: what the scanner has left, the beginning of a line */
};

static struct intake *intake_of(struct smtp_intake *in)
{
    return (struct intake *)(void *)in; /* scan is the first member */
}

static void put(struct intake *i, const char *p, size_t n)
{
    if (!i->scan.fault && !body_append(i->body, p, n, &i->err))
        smtp_intake_fault(&i->scan, FAULT_STORE);
}

static void store(struct smtp_intake *in, const char *p, size_t n)
{
    put(intake_of(in), p, n);
}

/* RFC 6409 section 8.3: senders we relay for get the Message-ID they forgot, on a submission listener
 * the date as well. Mail from elsewhere stays as it is, unless the setup says otherwise. */
static void header_end(struct smtp_intake *in)
{
    struct intake *i = intake_of(in);
    char line[400], date[40];
    int n;

    if (!in->has_date && smtp_is_submission(i->s)) { /* section 8.2 */
        n = snprintf(line, sizeof(line), "Date: %s\r\n", clock_rfc5322(i->s->tx->received, date));
        put(i, line, (size_t)n);
    }
    if (in->has_message_id || (!smtp_relays(i->s) && !i->s->setup->add_message_id))
        return;
    snprintf(in->message_id, sizeof(in->message_id), "<%llx.%llx@%.250s>",
             (unsigned long long)clock_wall(), (unsigned long long)i->s->tx->mid, i->s->hostname);
    n = snprintf(line, sizeof(line), "Message-ID: %s\r\n", in->message_id);
    put(i, line, (size_t)n);
}

/* What stands before the text that came: the header of a bounce nobody has tagged (bvconfig), and our
 * trace line, RFC 5321 section 4.4 and RFC 3848, 6531 for the protocol's name. What the peer
 * said of itself was checked by smtp_parse_helo, its name comes from verified DNS; neither can
 * leave the comment it stands in. */
static void put_received(struct intake *i)
{
    const struct smtp *s = i->s;
    const struct message *m = s->tx;
    AUTO(buf) struct buf b = BUF_INIT(4096);
    char ip[ADDR_TEXT], date[40];
    bool tls = conn_is_tls(s->conn), utf8 = m->flags & MSG_SMTPUTF8;

    buf_reserve(&b, 1000);
    if (m->flags & MSG_UNTAGGED)
        buf_printf(&b, "%s\r\n", CONFIG_SINGLE(access_config(s->access), bv_setup)->header);
    if (!s->listener->add_received) {
        put(i, b.p, b.n);
        return;
    }
    buf_printf(&b, "Received: from %s (%s%s[%s%s])\r\n", s->helo, s->reverse ? s->reverse : "",
               s->reverse ? " " : "", s->peer.family == AF_INET6 ? "IPv6:" : "",
               addr_text(&s->peer, ip));
    if (tls) {
        struct tls_info info;

        conn_tls_info(s->conn, &info);
        buf_printf(&b, "\t(using %s with cipher %s)\r\n", info.protocol, info.cipher);
    }
    buf_printf(&b, "\tby %s with %s%s%s id ICID%llu-MID%llu", s->hostname,
               utf8       ? "UTF8SMTP"
               : s->esmtp ? "ESMTP"
                          : "SMTP",
               tls && s->esmtp ? "S" : "", s->user && s->esmtp ? "A" : "", (unsigned long long)s->icid, (unsigned long long)m->mid);
    if (m->nrcpts == 1) /* with more, each would learn of the others (RFC 5321 section 7.6) */
        buf_printf(&b, "\r\n\tfor <%s>", m->rcpts[0].address);
    buf_printf(&b, "; %s\r\n", clock_rfc5322(m->received, date));
    put(i, b.p, b.n);
}

/* What each fault is called in the reply and in the log; log NULL: the abort alone says enough. */
static const struct {
    int code;
    const char *enhanced, *text, *log;
} faults[] = {
    [FAULT_BARE_LF] = {550, "5.6.0", "Message contains bare LF; lines end with CRLF",
                       "Message contains bare LF"                                                                    },
    [FAULT_BARE_CR] = {550, "5.6.0", "Message contains bare CR; lines end with CRLF",
                       "Message contains bare CR"                                                                    },
    [FAULT_NUL] = {550, "5.6.0", "Message contains NUL characters",
                       "Message contains NUL characters"                                                             },
    [FAULT_LONG_LINE] = {550, "5.6.0", "Message contains a line of more than 65536 bytes",
                       "Line too long"                                                                               },
    [FAULT_SIZE] = {552, "5.3.4", "message size exceeds limit",                       "Message size exceeds limit"},
    [FAULT_HEADERS] = {552, "5.3.4", "Too many header lines",                            "Too many header lines"     },
    [FAULT_LOOP] = {554, "5.4.6", "Message loop: too many Received headers",          "Message loop"              },
    [FAULT_STORE] = {452, "4.3.1", "Server resources low - try again later",           NULL                        },
};

static void store_failed(const struct smtp *s, const struct err *err)
{
    log_warning("storing message %llu: %s", (unsigned long long)s->tx->mid, err->text);
    if (err->code != E_LIMIT)
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "spool",
                    "Messages cannot be stored: %s. Senders are told to try again later.", err->text);
}

static void refuse(struct smtp *s, const struct intake *i)
{
    enum smtp_fault f = i->scan.fault;

    if (faults[f].log)
        maillog_receiving_failed(s->icid, faults[f].log);
    if (f == FAULT_STORE)
        store_failed(s, &i->err);
    smtp_reply(s, faults[f].code, faults[f].enhanced, "%s", faults[f].text);
    smtp_abort(s);
}

static void scan_pending(struct intake *i)
{
    if (i->pending.n > i->scan.looked)
        buf_drop(&i->pending, smtp_intake_feed(&i->scan, i->pending.p, i->pending.n));
}

/* Input that does not go straight to the scanner: it is cleaned, or it comes in chunks whose edges
 * may cut a line. How much of it was taken: all, but for what follows the end. */
static size_t feed_pending(struct intake *i, const char *p, size_t n)
{
    size_t used = 0;

    while (used < n && !i->scan.ended) {
        size_t step = n - used < STEP ? n - used : STEP;

        if (i->cleans)
            step = smtp_clean_feed(&i->clean, p + used, step, &i->pending);
        else
            buf_add(&i->pending, p + used, step);
        used += step;
        scan_pending(i);
    }
    return used;
}

/* The last chunk has come. */
static void finish_pending(struct intake *i)
{
    if (i->scan.fault)
        return;
    if (i->cleans) {
        smtp_clean_finish(&i->clean, &i->pending);
        scan_pending(i);
    }
    smtp_intake_finish(&i->scan, i->pending.p ? i->pending.p : "", i->pending.n);
}

/* YIELDS. Reads up to the end of the data; false: the connection failed. */
static bool read_data(struct intake *i)
{
    struct conn *c = i->s->conn;

    for (;;) {
        struct slice have = conn_peek(c);
        size_t used;

        if (have.n > (i->cleans ? 0 : i->scan.looked)) {
            used = i->cleans ? feed_pending(i, have.p, have.n)
                             : smtp_intake_feed(&i->scan, have.p, have.n);
            conn_consume(c, used);
            if (i->scan.ended)
                return true;
            if (i->scan.fault && i->body)
                body_abort(&i->body); /* nothing that follows is kept: give the room back now */
            if (i->scan.stalled && i->scan.fault) {
                /* The sender means something else by the end of the data, and waits for our word.
                 */
                conn_consume(c, conn_peek(c).n);
                i->s->quit = true;
                return true;
            }
        }
        if (!conn_fill(c))
            return false;
    }
}

/* RFC 6531 section 3.3: SMTPUTF8 that nothing in the message needs must not keep it from hosts without it. */
static bool needs_utf8(const struct message *m, const struct intake *i)
{
    bool needs = i->scan.has_8bit || i->scan.binary;

    for (const char *p = m->sender; *p; p++)
        needs |= (unsigned char)*p > 127;
    for (unsigned k = 0; k < m->nrcpts && !needs; k++) {
        for (const char *p = m->rcpts[k].address; *p; p++)
            needs |= (unsigned char)*p > 127;
        for (const char *p = m->rcpts[k].orcpt; p && *p; p++)
            needs |= (unsigned char)*p > 127;
    }
    return needs;
}

/* YIELDS. The message is whole; from here on it is the queue's or nobody's. */
static void submit(struct smtp *s, struct intake *i)
{
    struct message *m = s->tx;
    struct err err = {0};

    m->body = body_finish(&i->body, &i->err);
    if (!m->body) {
        smtp_intake_fault(&i->scan, FAULT_STORE);
        refuse(s, i);
        return;
    }
    m->subject = message_text(m, i->scan.subject);
    if (i->scan.has_8bit)
        m->flags |= MSG_8BIT;
    if (m->flags & MSG_SMTPUTF8 && !needs_utf8(m, i))
        m->flags &= ~(unsigned)MSG_SMTPUTF8;
    if (i->scan.message_id[0])
        maillog_message_id(m->mid, i->scan.message_id);
    if (i->scan.has_subject)
        maillog_subject(m->mid, i->scan.subject);
    maillog_ready(m->mid, body_length(m->body), m->sender);
    if (!queue_submit(m, &err)) { /* YIELDS */
        log_warning("queueing message %llu: %s", (unsigned long long)m->mid, err.text);
        body_remove(m->body);
        if (err.code == E_LIMIT)
            smtp_reply(s, 452, "4.3.1", "%s", err.text);
        else
            smtp_reply(s, 451, "4.3.0", "Server error");
        smtp_abort(s);
        return;
    }
    s->messages++;
    s->idle_commands = 0;
    stats_add(STAT_INJ_MSGS, 1);
    stats_add(STAT_INJ_RECIPS, m->nrcpts);
    smtp_reply(s, 250, "2.6.0", "ok:  Message %llu accepted", (unsigned long long)m->mid);
    message_free(&s->tx);
}

/* --- the two ways a message comes ------------------------------------------------------------ */

void smtp_intake_drop(struct smtp *s)
{
    struct intake *i = s->intake;

    s->intake = NULL;
    if (!i)
        return;
    body_abort(&i->body);
    buf_free(&i->pending);
    free(i);
}

/* NULL: no room, which has been said; the transaction is gone. */
static struct intake *begin(struct smtp *s, bool chunked)
{
    struct intake *i;
    struct err err = {0};
    bool binary = s->tx->flags & MSG_BINARY;

    if (!queue_accepts(&err)) {
        smtp_reply(s, 452, "4.3.1", "%s", err.text);
        smtp_abort(s);
        return NULL;
    }
    s->intake = i = xcalloc(1, sizeof(*i));
    i->s = s;
    i->body = body_create();
    i->pending = (struct buf)BUF_INIT(4 * STEP + SMTP_TEXT_LINE_MAX);
    i->cleans = !binary && s->flow->line_endings == LINES_CLEAN;
    smtp_clean_start(&i->clean, chunked);
    i->scan.store = store;
    i->scan.header_end = header_end;
    i->scan.max_size = s->flow->max_message_size;
    i->scan.max_header_lines = (unsigned)s->setup->max_header_lines;
    i->scan.max_received = (unsigned)s->setup->max_received;
    i->scan.want_8bit = !binary && (!(s->tx->flags & MSG_8BIT) || s->tx->flags & MSG_SMTPUTF8);
    i->scan.chunked = chunked;
    i->scan.binary = binary;
    smtp_intake_start(&i->scan);
    s->tx->received = clock_wall();
    return i;
}

/* YIELDS. The message has come to its end, one way or the other. */
static void end(struct smtp *s, struct intake *i)
{
    if (i->scan.fault)
        refuse(s, i);
    else
        submit(s, i);
    smtp_intake_drop(s);
}

void smtp_receive(struct smtp *s)
{
    struct intake *i = begin(s, false);

    if (!i)
        return;
    smtp_reply(s, 354, NULL, "go ahead");
    put_received(i);
    if (read_data(i))
        end(s, i);
    else
        smtp_abort(s);
}

/* YIELDS. Takes n bytes of input; i NULL, or a fault in it: they are forgotten. false: the
 * connection failed. */
static bool read_chunk(struct smtp *s, struct intake *i, uint64_t n)
{
    while (n > 0) {
        struct slice have = conn_peek(s->conn);
        size_t part = have.n < n ? have.n : (size_t)n;

        if (!part && !conn_fill(s->conn))
            return false;
        if (i && !i->scan.fault)
            feed_pending(i, have.p, part);
        else if (i && i->body)
            body_abort(&i->body); /* nothing that follows is kept: give the room back now */
        conn_consume(s->conn, part);
        n -= part;
    }
    return true;
}

void smtp_swallow_chunk(struct smtp *s, uint64_t n)
{
    read_chunk(s, NULL, n);
}

void smtp_receive_chunk(struct smtp *s, uint64_t n, bool last)
{
    struct intake *i = s->intake;
    bool first = !i;

    if (first)
        i = begin(s, true);
    if (!i) {
        smtp_swallow_chunk(s, n);
        return;
    }
    if (first)
        put_received(i);
    if (!read_chunk(s, i, n)) {
        smtp_abort(s);
        return;
    }
    if (last)
        finish_pending(i);
    if (last || i->scan.fault)
        end(s, i); /* RFC 3030 section 2: after a fault every further chunk is refused */
    else
        smtp_reply(s, 250, "2.0.0", "%llu octets received", (unsigned long long)n);
}
