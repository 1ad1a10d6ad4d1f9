/* bounce_text.c - what a delivery status notification says; see bounce.h. Pure; any thread.
 *
 * Its header and its status part are ASCII unless it goes to an address that needs SMTPUTF8 itself: whether the way
 * back to an ASCII address speaks SMTPUTF8 is not known, and RFC 6533 has a form of every address that does not need
 * it. The text for people is quoted-printable where it is not ASCII. So at most the copy of the original has bytes above 127. */
#include "daemon/bounce.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "daemon/smtp_parse.h"
#include "store/base/net.h"
#include "store/base/str.h"

#define SOFT 78u /* RFC 5322 section 2.1.1: lines of fields are folded behind it ... */
#define HARD 900u /* ... and no line is longer than that */
#define EXPLAINED 100u /* recipients in the text for people; the status part has them all */

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

/* --- lines --- */

static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s > 127)
            return false;
    return true;
}

/* Foreign text in one line: what could end it or disturb a reader goes, runs of blanks become one. */
static void add_foreign(struct buf *out, const char *text)
{
    struct buf clean = BUF_INIT(16384);
    char *copy = xstrdup(text);
    bool blank = true;
    size_t n = 0;

    for (const char *p = text; *p; p++) {
        bool is = *p == ' ' || *p == '\t' || *p == '\n' || *p == '\r';

        if (!is || !blank)
            copy[n++] = is ? ' ' : *p;
        blank = is;
    }
    while (n && copy[n - 1] == ' ')
        n--;
    str_escape_again(&clean, copy, n);
    buf_str_add(out, buf_str(&clean));
    buf_free(&clean);
    free(copy);
}

/* Where a line has to be broken: at the last blank before soft, else at the next one, else anywhere; 0: it is short enough. */
static size_t break_of(const char *p, size_t n, size_t soft)
{
    size_t at = 0;

    if (n <= soft)
        return 0;
    for (size_t i = 1; i < n && i <= HARD && (i <= soft || !at); i++)
        if (p[i] == ' ')
            at = i;
    if (at || n <= HARD)
        return at;
    for (at = HARD; at > 1 && ((unsigned char)p[at] & 0xc0) == 0x80; at--)
        ;
    return at;
}

/* A field of the status part; with utf8 false it becomes ASCII. */
static void add_field(struct buf *out, struct buf *line, bool utf8)
{
    const char *p = buf_str(line);
    size_t n = line->n, at;

    for (size_t i = 0; i < n && !utf8; i++)
        if ((unsigned char)p[i] > 127)
            line->p[i] = '?';
    while ((at = break_of(p, n, SOFT))) {
        buf_add(out, p, at);
        buf_str_add(out, p[at] == ' ' ? "\r\n" : "\r\n ");
        p += at;
        n -= at;
    }
    buf_add(out, p, n);
    buf_str_add(out, "\r\n");
    buf_reset(line);
}

/* Text with "\n" at the ends of lines, as it stands. */
static void add_lines(struct buf *out, const char *p)
{
    while (*p) {
        size_t n = strcspn(p, "\n"), at;

        while ((at = break_of(p, n, HARD))) {
            buf_add(out, p, at);
            buf_str_add(out, "\r\n");
            p += at + (p[at] == ' ');
            n = strcspn(p, "\n");
        }
        buf_add(out, p, n);
        buf_str_add(out, "\r\n");
        p += n + (p[n] == '\n');
    }
}

/* RFC 2045 section 6.7 */
static void add_quoted_printable(struct buf *out, const char *p)
{
    unsigned column = 0;

    for (; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c > 32 && c < 127 && c != '=') || ((c == ' ' || c == '\t') && p[1] && p[1] != '\n');

        if (c == '\n') {
            buf_str_add(out, "\r\n");
            column = 0;
            continue;
        }
        if (column + (plain ? 1 : 3) > 75) {
            buf_str_add(out, "=\r\n");
            column = 0;
        }
        if (plain)
            buf_char(out, (char)c);
        else
            buf_printf(out, "=%02X", c);
        column += plain ? 1 : 3;
    }
}

/* The head of a text part and the text. */
static void add_text(struct buf *out, const char *text, bool utf8)
{
    bool ascii = is_ascii(text);

    buf_printf(out, "Content-Type: text/plain; charset=%s\r\n", ascii ? "us-ascii" : "utf-8");
    if (!ascii)
        buf_printf(out, "Content-Transfer-Encoding: %s\r\n", utf8 ? "8bit" : "quoted-printable");
    buf_str_add(out, "\r\n");
    if (ascii || utf8)
        add_lines(out, text);
    else
        add_quoted_printable(out, text);
}

/* --- what people read --- */

/* "5.1.1 - Bad destination email address 550-'no such user'" */
static void add_reason(struct buf *out, const struct bounce_rcpt *r)
{
    buf_printf(out, "%s - %s ", r->status, r->phrase);
    if (r->code > 0)
        buf_printf(out, "%d-", r->code);
    buf_char(out, '\'');
    add_foreign(out, r->text);
    buf_char(out, '\'');
}

static void add_explanation(const struct bounce *b, struct buf *out)
{
    static const char *const words[] = {
        "was undeliverable",
        "has not been delivered yet; it will be tried again",
        "was passed on to a system that does not send notifications of delivery",
    };

    for (unsigned i = 0; i < b->n && i < EXPLAINED; i++) {
        const struct bounce_rcpt *r = &b->rcpts[i];

        buf_str_add(out, "The following message to <");
        add_foreign(out, r->rcpt->address);
        buf_printf(out, "> %s.\n", words[b->kind]);
        if (b->kind != BOUNCE_RELAYED) {
            buf_str_add(out, "The reason for the problem:\n");
            add_reason(out, r);
            buf_char(out, '\n');
        }
        buf_char(out, '\n');
    }
    if (b->n > EXPLAINED)
        buf_printf(out, "The same goes for %u more recipients, who are listed in the delivery status below.\n\n",
                   b->n - EXPLAINED);
}

enum variable { V_SUBJECT, V_DATE, V_TIME, V_GMT, V_MID, V_RCPT, V_REASON, V_REMOTE, V_SENDER, V_HOST };

static void add_variable(const struct bounce *b, enum variable v, struct buf *out)
{
    time_t t = (time_t)(b->now / 1000000);
    char date[40];
    struct tm tm;

    switch (v) {
    case V_SUBJECT:
        add_foreign(out, b->of->subject);
        break;
    case V_DATE:
    case V_TIME:
        localtime_r(&t, &tm);
        strftime(date, sizeof(date), v == V_DATE ? "%m/%d/%Y" : "%H:%M:%S %Z", &tm);
        buf_str_add(out, date);
        break;
    case V_GMT:
        gmtime_r(&t, &tm);
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &tm);
        buf_str_add(out, date);
        break;
    case V_MID:
        buf_printf(out, "%" PRIu64, b->of->mid);
        break;
    case V_RCPT:
    case V_REASON:
    case V_REMOTE:
        for (unsigned i = 0; i < b->n && i < EXPLAINED; i++) {
            const struct bounce_rcpt *r = &b->rcpts[i];

            if (i)
                buf_str_add(out, v == V_REASON ? "\n" : ", ");
            if (v == V_REASON)
                add_reason(out, r);
            else
                add_foreign(out, v == V_RCPT ? r->rcpt->address : *r->remote ? r->remote : "none");
        }
        if (b->n > EXPLAINED)
            buf_str_add(out, v == V_REASON ? "\n..." : ", ...");
        break;
    case V_SENDER:
        add_foreign(out, b->of->sender);
        break;
    case V_HOST:
        buf_str_add(out, b->hostname);
        break;
    }
}

/* An administrator's template. */
static void add_template(const struct bounce *b, struct buf *out)
{
    static const struct {
        const char *name;
        enum variable v;
    } variables[] = {
        {"$Subject",          V_SUBJECT},
        {"$Date",             V_DATE   },
        {"$Time",             V_TIME   },
        {"$GMTTimestamp",     V_GMT    },
        {"$MID",              V_MID    },
        {"$BouncedRecipient", V_RCPT   },
        {"$BounceReason",     V_REASON },
        {"$RemoteHost",       V_REMOTE },
        {"$EnvelopeSender",   V_SENDER },
        {"$Hostname",         V_HOST   },
    };
    const char *p = b->template;

    while (*p) {
        size_t i = 0;

        while (i < countof(variables) && !str_istarts(p, variables[i].name))
            i++;
        if (i == countof(variables)) {
            buf_char(out, *p++);
            continue;
        }
        add_variable(b, variables[i].v, out);
        p += strlen(variables[i].name);
    }
    buf_str_add(out, out->n && out->p[out->n - 1] == '\n' ? "\n" : "\n\n");
}

static void add_human(const struct bounce *b, struct buf *out)
{
    if (b->template && b->kind == BOUNCE_FAILED)
        add_template(b, out);
    else
        add_explanation(b, out);
}

/* --- what programs read: RFC 3464, 6533 --- */

/* "rfc822; x@example.com", and the form of RFC 6533 section 3 that the report can carry. */
static void add_address(struct buf *out, const char *address, bool utf8)
{
    if (is_ascii(address)) {
        buf_str_add(out, "rfc822; ");
        add_foreign(out, address);
    } else if (utf8) {
        buf_str_add(out, "utf-8; ");
        add_foreign(out, address);
    } else {
        buf_str_add(out, "utf-8; ");
        smtp_utf8_address_encode(out, address);
    }
}

/* xtext of RFC 3461 as it was meant. */
static void add_xtext(struct buf *out, const char *text)
{
    char plain[600];

    add_foreign(out, smtp_xtext_decode(slice_of(text), plain, sizeof(plain)) < 0 ? text : plain);
}

static void add_orcpt(struct buf *out, const char *orcpt, bool utf8)
{
    const char *semi = strchr(orcpt, ';');
    struct buf address = BUF_INIT(2000);

    if (semi && str_istarts(orcpt, "utf-8;") && smtp_utf8_address_decode(slice_of(semi + 1), &address)) {
        buf_str_add(out, "utf-8;");
        if (utf8)
            add_foreign(out, buf_str(&address));
        else
            smtp_utf8_address_encode(out, buf_str(&address));
    } else {
        add_xtext(out, orcpt);
    }
    buf_free(&address);
}

/* The name a client gave itself, where our own trace line leads the message: RFC 3464 section 2.2.4. */
static void add_received_from(const struct bounce *b, struct buf *line)
{
    static const char trace[] = "Received: from ";
    struct slice s = b->original, field = s;
    const char *end, *blank;
    char id[60], name[SMTP_DOMAIN_MAX + 3];

    snprintf(id, sizeof(id), " id ICID%" PRIu64 "-MID%" PRIu64, b->of->icid, b->of->mid);
    if (s.n < sizeof(trace) || memcmp(s.p, trace, sizeof(trace) - 1) != 0)
        return;
    for (end = s.p; (end = memchr(end, '\n', (size_t)(s.p + s.n - end))); end++)
        if (end + 1 == s.p + s.n || (end[1] != ' ' && end[1] != '\t'))
            break;
    if (!end)
        return;
    field.n = (size_t)(end - field.p);
    field.p += sizeof(trace) - 1;
    field.n -= sizeof(trace) - 1;
    blank = memchr(field.p, ' ', field.n);
    if (blank && memmem(field.p, field.n, id, strlen(id)) &&
        smtp_parse_helo((struct slice){field.p, (size_t)(blank - field.p)}, name, sizeof(name)))
        buf_printf(line, "Received-From-MTA: dns; %s", name);
}

static void add_remote(const struct bounce_rcpt *r, struct buf *line)
{
    struct addr a;

    if (addr_parse(r->remote, &a))
        buf_printf(line, "Remote-MTA: dns; [%s%s]", a.family == AF_INET6 ? "IPv6:" : "", r->remote);
    else
        buf_printf(line, "Remote-MTA: dns; %s", r->remote);
    if (r->address && *r->address && !str_eq(r->address, r->remote))
        buf_printf(line, " (%s)", r->address);
}

static void add_status(const struct bounce *b, struct buf *out, bool utf8)
{
    static const char *const actions[] = {"failed", "delayed", "relayed"};
    struct buf line = BUF_INIT(16384);
    char date[40];

    buf_printf(&line, "Reporting-MTA: dns; %s", b->hostname);
    add_field(out, &line, utf8);
    if (b->of->envid) {
        buf_str_add(&line, "Original-Envelope-Id: ");
        add_xtext(&line, b->of->envid);
        add_field(out, &line, utf8);
    }
    add_received_from(b, &line);
    if (line.n)
        add_field(out, &line, utf8);
    buf_printf(out, "Arrival-Date: %s\r\n", clock_rfc5322(b->of->received, date));
    for (unsigned i = 0; i < b->n; i++) {
        const struct bounce_rcpt *r = &b->rcpts[i];

        buf_str_add(out, "\r\n");
        if (r->rcpt->orcpt) {
            buf_str_add(&line, "Original-Recipient: ");
            add_orcpt(&line, r->rcpt->orcpt, utf8);
            add_field(out, &line, utf8);
        }
        buf_str_add(&line, "Final-Recipient: ");
        add_address(&line, r->rcpt->address, utf8);
        add_field(out, &line, utf8);
        buf_printf(out, "Action: %s\r\nStatus: %s\r\n", actions[b->kind], r->status);
        if (*r->remote) {
            add_remote(r, &line);
            add_field(out, &line, utf8);
        }
        if (r->code > 0)
            buf_printf(&line, "Diagnostic-Code: smtp; %d ", r->code);
        else
            buf_str_add(&line, "Diagnostic-Code: X-Postern; ");
        add_foreign(&line, r->text);
        add_field(out, &line, utf8);
        buf_printf(out, "Last-Attempt-Date: %s\r\n", clock_rfc5322(b->now, date));
        if (b->kind == BOUNCE_DELAYED && b->retry_until)
            buf_printf(out, "Will-Retry-Until: %s\r\n", clock_rfc5322(b->retry_until, date));
    }
    buf_free(&line);
}

/* --- the original --- */

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
static void add_plain(const struct bounce *b, struct slice copy, bool eight, bool utf8, struct buf *out)
{
    struct buf text = BUF_INIT(32u << 20);

    add_human(b, &text);
    if (!eight) {
        char *w;

        add_status(b, &text, utf8);
        if (copy.n) {
            buf_str_add(&text, "\nThe message, or the beginning of it:\n\n");
            buf_add(&text, copy.p, copy.n);
        }
        w = text.p;
        for (const char *p = text.p; *p; p++) /* add_text has its own ends of lines */
            if (*p != '\r')
                *w++ = *p;
        *w = '\0';
        add_text(out, text.p, utf8);
    } else { /* nobody knows in which character set */
        buf_str_add(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
        add_lines(out, buf_str(&text));
        add_status(b, out, utf8);
        buf_str_add(out, "\r\nThe message, or the beginning of it:\r\n\r\n");
        buf_add(out, copy.p, copy.n);
        if (copy.p[copy.n - 1] != '\n')
            buf_str_add(out, "\r\n");
    }
    buf_free(&text);
}

const char *bounce_subject(const struct bounce *b)
{
    return b->kind == BOUNCE_FAILED    ? b->profile->failure_subject
           : b->kind == BOUNCE_DELAYED ? b->profile->delay_subject
                                       : "Delivery Status Notification (Relay)";
}

bool bounce_is_utf8(const struct bounce *b)
{
    return !is_ascii(b->to);
}

void bounce_text(const struct bounce *b, struct buf *out)
{
    bool utf8 = bounce_is_utf8(b), whole, eight;
    struct slice copy = copy_of(b, &whole);
    struct buf text = BUF_INIT(32u << 20);
    char mark[64], date[40];
    const char *type;

    eight = has_8bit(copy);
    snprintf(mark, sizeof(mark), "=_%" PRIx64 ".%" PRIx64, b->mid, (uint64_t)b->now);
    buf_printf(out, "Date: %s\r\n", clock_rfc5322(b->now, date));
    buf_printf(out, "From: \"Mail Delivery System\" <MAILER-DAEMON@%s>\r\nTo: <", b->hostname);
    add_foreign(out, b->to);
    buf_printf(out, ">\r\nSubject: %s\r\n", bounce_subject(b));
    buf_printf(out, "Message-ID: <dsn.%" PRIu64 ".%" PRIx64 "@%s>\r\n", b->mid, (uint64_t)b->now,
               b->hostname);
    buf_str_add(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"); /* RFC 3834 section 5 */
    if (b->profile->dsn_format != ANSWER_YES) {
        add_plain(b, copy, eight, utf8, out);
        return;
    }
    if (eight || utf8)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_printf(
        out,
        "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"%s\"\r\n\r\n",
        mark);

    buf_printf(out, "--%s\r\n", mark);
    add_human(b, &text);
    add_text(out, buf_str(&text), utf8);
    buf_free(&text);

    type = utf8 ? "message/global-delivery-status" : "message/delivery-status"; /* RFC 6533 section 4 */
    buf_printf(out, "--%s\r\nContent-Type: %s\r\n", mark, type);
    if (utf8)
        buf_str_add(out, "Content-Transfer-Encoding: 8bit\r\n");
    buf_str_add(out, "\r\n");
    add_status(b, out, utf8);
    buf_str_add(out, "\r\n");

    if (copy.n) {
        bool global = eight && b->of->flags & MSG_SMTPUTF8; /* RFC 6533 section 5 */

        type = whole    ? global ? "message/global" : "message/rfc822"
               : global ? "message/global-headers"
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
