/* bounce.c - see bounce.h. */
#include "daemon/bounce.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/smtp_parse.h"
#include "daemon/stats.h"
#include "store/base/str.h"

const char *status_phrase(const char *status)
{
    static const struct {
        const char *detail, *phrase;
    } phrases[] = {
        {"1.1",  "Bad destination email address"       },
        {"1.2",  "Bad destination host"                },
        {"1.3",  "Bad destination address syntax"      },
        {"1.10", "Destination accepts no mail"         },
        {"2.1",  "Mailbox disabled"                    },
        {"2.2",  "Mailbox full"                        },
        {"3.0",  "Other mail system problem"           },
        {"3.1",  "Mail system full"                    },
        {"3.2",  "Not accepting messages at this time" },
        {"3.4",  "Message too big for system"          },
        {"4.0",  "Other network problem"               },
        {"4.1",  "No answer from host"                 },
        {"4.2",  "Bad connection"                      },
        {"4.3",  "Directory server failure"            },
        {"4.6",  "Routing loop detected"               },
        {"4.7",  "Delivery expired (message too old)"  },
        {"5.0",  "Other network/SMTP protocol problem" },
        {"6.7",  "Message needs internationalized mail"},
        {"7.0",  "Other security problem"              },
        {"7.1",  "Delivery not authorized"             },
        {"7.5",  "Cryptographic failure"               },
        {"7.10", "Encryption needed"                   },
    };

    for (size_t i = 0; *status && status[1] && i < countof(phrases); i++)
        if (str_eq(status + 2, phrases[i].detail))
            return phrases[i].phrase;
    return "Unknown address error";
}

/* --- text --- */

/* One line of foreign text: what could end the line or disturb a reader goes; non-ASCII stays only
 * where UTF-8 may be. */
static void add_foreign(struct buf *out, const char *text, bool utf8)
{
    struct buf clean = BUF_INIT(8192);

    str_escape(&clean, text, strlen(text));
    for (const char *p = buf_str(&clean); *p; p++)
        buf_char(out, !utf8 && (unsigned char)*p > 126 ? '?' : *p);
    buf_free(&clean);
}

/* A reply of several lines becomes one. */
static void add_reply(struct buf *out, const char *text, bool utf8)
{
    char *copy = xstrdup(text);

    for (char *p = copy; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    add_foreign(out, copy, utf8);
    free(copy);
}

static void add_explanation(const struct bounce *b, struct buf *out, bool utf8)
{
    static const char *const words[] = {
        "was undeliverable",
        "has not been delivered yet; it will be tried again",
        "was passed on to a system that does not send notifications of delivery",
    };

    for (unsigned i = 0; i < b->n; i++) {
        const struct bounce_rcpt *r = &b->rcpts[i];

        buf_str_add(out, "The following message to <");
        add_foreign(out, r->rcpt->address, utf8);
        buf_printf(out, "> %s.\r\n", words[b->kind]);
        if (b->kind != BOUNCE_RELAYED) {
            buf_printf(out, "The reason for the problem:\r\n%s - %s ", r->status, r->phrase);
            if (r->code > 0)
                buf_printf(out, "%d-", r->code);
            buf_char(out, '\'');
            add_reply(out, r->text, utf8);
            buf_str_add(out, "'\r\n");
        }
        buf_str_add(out, "\r\n");
    }
}

/* xtext of RFC 3461 as it was meant. */
static void add_xtext(struct buf *out, const char *text, bool utf8)
{
    struct slice in = slice_of(text);
    char plain[600];

    add_foreign(out, smtp_xtext_decode(in, plain, sizeof(plain)) < 0 ? text : plain, utf8);
}

static void add_fields(const struct bounce *b, struct buf *out, bool utf8)
{
    static const char *const actions[] = {"failed", "delayed", "relayed"};
    char date[40];

    buf_printf(out, "Reporting-MTA: dns; %s\r\n", b->hostname);
    if (b->of->envid) {
        buf_str_add(out, "Original-Envelope-Id: ");
        add_xtext(out, b->of->envid, utf8);
        buf_str_add(out, "\r\n");
    }
    buf_printf(out, "Arrival-Date: %s\r\n", clock_rfc5322(b->of->received, date));
    for (unsigned i = 0; i < b->n; i++) {
        const struct bounce_rcpt *r = &b->rcpts[i];

        buf_str_add(out, "\r\n");
        if (r->rcpt->orcpt) {
            buf_str_add(out, "Original-Recipient: ");
            add_xtext(out, r->rcpt->orcpt, utf8);
            buf_str_add(out, "\r\n");
        }
        buf_printf(out, "Final-Recipient: %s; ", utf8 ? "utf-8" : "rfc822");
        add_foreign(out, r->rcpt->address, utf8);
        buf_printf(out, "\r\nAction: %s\r\nStatus: %s\r\n", actions[b->kind], r->status);
        if (*r->remote)
            buf_printf(out, "Remote-MTA: dns; %s\r\n", r->remote);
        if (r->code > 0) {
            buf_printf(out, "Diagnostic-Code: smtp; %d ", r->code);
            add_reply(out, r->text, utf8);
            buf_str_add(out, "\r\n");
        }
        buf_printf(out, "Last-Attempt-Date: %s\r\n", clock_rfc5322(b->now, date));
        if (b->kind == BOUNCE_DELAYED && b->retry_until)
            buf_printf(out, "Will-Retry-Until: %s\r\n", clock_rfc5322(b->retry_until, date));
    }
}

/* Are all of its lines what DATA may carry? */
static bool is_text(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || (s.p[i] == '\n' && (!i || s.p[i - 1] != '\r')) ||
            (s.p[i] == '\r' && (i + 1 == s.n || s.p[i + 1] != '\n')))
            return false;
    return true;
}

/* What of the original comes back: all of it when it is short and nobody asked for less, else its
 * header. */
static struct slice copy_of(const struct bounce *b, bool *whole)
{
    struct slice s = b->original;
    const char *end;

    *whole = b->kind == BOUNCE_FAILED && b->original_whole && s.n <= b->max_copy &&
             !(b->of->flags & (MSG_RET_HDRS | MSG_BINARY));
    if (*whole || !s.n)
        return s;
    end = memmem(s.p, s.n, "\r\n\r\n", 4);
    if (end)
        s.n = (size_t)(end - s.p) + 2;
    if (s.n > BOUNCE_HEADER)
        s.n = BOUNCE_HEADER;
    while (!end && s.n && s.p[s.n - 1] != '\n') /* cut: back to the end of a line */
        s.n--;
    if (b->of->flags & MSG_BINARY && !is_text(s)) /* the report goes by DATA, to anybody */
        s.n = 0;
    return s;
}

static bool has_8bit(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] > 127)
            return true;
    return false;
}

/* For profiles without the format of RFC 3464: everything in one text. */
static void add_plain(const struct bounce *b, struct slice copy, bool eight, bool utf8,
                      struct buf *out)
{
    buf_printf(out, "Content-Type: text/plain; charset=%s\r\n", utf8 ? "utf-8" : "us-ascii");
    if (eight)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_str_add(out, "\r\n");
    add_explanation(b, out, utf8);
    add_fields(b, out, utf8);
    if (copy.n) {
        buf_str_add(out, "\r\nThe message, or the beginning of it:\r\n\r\n");
        buf_add(out, copy.p, copy.n);
        if (copy.p[copy.n - 1] != '\n')
            buf_str_add(out, "\r\n");
    }
}

static const char *subject_of(const struct bounce *b)
{
    return b->kind == BOUNCE_FAILED    ? b->profile->failure_subject
           : b->kind == BOUNCE_DELAYED ? b->profile->delay_subject
                                       : "Delivery Status Notification (Relay)";
}

void bounce_text(const struct bounce *b, struct buf *out)
{
    bool utf8 = b->of->flags & MSG_SMTPUTF8, whole, eight;
    struct slice copy = copy_of(b, &whole);
    char mark[64], date[40];
    const char *type;

    eight = utf8 || has_8bit(copy);
    snprintf(mark, sizeof(mark), "=_%" PRIx64 ".%" PRIx64, b->mid, (uint64_t)b->now);
    buf_printf(out, "Date: %s\r\n", clock_rfc5322(b->now, date));
    buf_printf(out, "From: \"Mail Delivery System\" <MAILER-DAEMON@%s>\r\nTo: <", b->hostname);
    add_foreign(out, b->to, utf8);
    buf_printf(out, ">\r\nSubject: %s\r\n", subject_of(b));
    buf_printf(out, "Message-ID: <dsn.%" PRIu64 ".%" PRIx64 "@%s>\r\n", b->mid, (uint64_t)b->now,
               b->hostname);
    buf_str_add(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
    if (!b->profile->dsn_format) {
        add_plain(b, copy, eight, utf8, out);
        return;
    }
    if (eight)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_printf(
        out,
        "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"%s\"\r\n\r\n",
        mark);

    buf_printf(out, "--%s\r\nContent-Type: text/plain; charset=%s\r\n", mark,
               utf8 ? "utf-8" : "us-ascii");
    if (utf8)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_str_add(out, "\r\n");
    add_explanation(b, out, utf8);

    type = utf8 ? "message/global-delivery-status" : "message/delivery-status"; /* RFC 6533 */
    buf_printf(out, "--%s\r\nContent-Type: %s\r\n", mark, type);
    if (utf8)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_str_add(out, "\r\n");
    add_fields(b, out, utf8);
    buf_str_add(out, "\r\n");

    if (copy.n) {
        type = whole  ? utf8 ? "message/global" : "message/rfc822"
               : utf8 ? "message/global-headers"
                      : "text/rfc822-headers";
        buf_printf(out, "--%s\r\nContent-Type: %s\r\n", mark, type);
        if (eight)
            buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
        buf_str_add(out, "\r\n");
        buf_add(out, copy.p, copy.n);
        if (copy.p[copy.n - 1] != '\n')
            buf_str_add(out, "\r\n");
        buf_str_add(out, "\r\n");
    }
    buf_printf(out, "--%s--\r\n", mark);
}

/* --- queueing --- */

static void read_original(struct bounce *b, char *copy, size_t size)
{
    struct body *body = b->of->body;
    struct slice whole = body_cached(body);
    size_t got = 0;

    b->original_whole = body_length(body) <= size;
    if (whole.n) {
        b->original.p = whole.p;
        b->original.n = whole.n < size ? whole.n : size;
        return;
    }
    b->original.p = copy;
    while (b->original.n < size && /* a damaged one is reported without itself */
           body_read(body, b->original.n, copy + b->original.n, size - b->original.n, &got, NULL) &&
           got)
        b->original.n += got;
}

bool bounce_send(enum bounce_kind kind, const struct message *of,
                 const struct bounce_profile *profile, const struct bounce_rcpt *rcpts, unsigned n,
                 usec_t retry_until, struct err *err)
{
    struct config *cfg = running_config();
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    struct bounce b = {.kind = kind,
                       .of = of,
                       .rcpts = rcpts,
                       .n = n,
                       .hostname = sys ? sys->hostname : "localhost",
                       .now = clock_wall(),
                       .retry_until = retry_until,
                       .profile = profile};
    const struct bounce_setup *setup = CONFIG_SINGLE(cfg, bounce_setup);
    struct buf text = BUF_INIT(64u << 20);
    struct message *m;
    size_t room = BOUNCE_HEADER;
    char *copy;
    bool ok;

    b.to = *profile->alternate && kind != BOUNCE_RELAYED ? profile->alternate : of->sender;
    b.max_copy = setup ? setup->max_copy : BOUNCE_HEADER;
    if (b.max_copy > room)
        room = b.max_copy;
    copy = xmalloc(room);
    m = message_new();
    m->mid = b.mid = queue_next_mid();
    m->received = b.now;
    m->bounce_profile = message_text(m, of->bounce_profile);
    m->subject = message_text(m, subject_of(&b));
    m->flags = MSG_BOUNCE | (of->flags & MSG_SMTPUTF8);
    message_add_rcpt(m, b.to, NULL, NOTIFY_NEVER); /* RFC 3461 section 6.1 */
    read_original(&b, copy, room);
    bounce_text(&b, &text);
    if (has_8bit((struct slice){text.p, text.n}))
        m->flags |= MSG_8BIT;
    ok = queue_submit_own(m, &text, of->mid, err);
    if (ok)
        stats_add(STAT_GEN_BOUNCE_RECIPS, 1);
    message_free(&m);
    buf_free(&text);
    free(copy);
    config_free(&cfg);
    return ok ? true : err_wrap(err, "queueing the report about message %" PRIu64, of->mid);
}
