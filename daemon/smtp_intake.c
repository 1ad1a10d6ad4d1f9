/* smtp_intake.c - see smtp_intake.h.
 *
 * The data ends with CRLF "." CRLF and nothing else: every other framing of a lone dot (bare LF,
 * bare CR, mixed) is content of a message that is then refused, so no later hop can be made to see
 * two messages where there is one. */
#include "daemon/smtp_intake.h"

#include <string.h>

#include "store/base/str.h"

void smtp_intake_start(struct smtp_intake *in)
{
    size_t first = offsetof(struct smtp_intake, fault);

    memset((char *)in + first, 0, sizeof(*in) - first);
    in->in_header = in->after_crlf = true;
}

void smtp_intake_fault(struct smtp_intake *in, enum smtp_fault fault)
{
    if (!in->fault)
        in->fault = fault;
}

static void keep(struct smtp_intake *in, const char *p, size_t n)
{
    if (!n || in->fault)
        return;
    in->size += n;
    if (in->size > in->max_size)
        smtp_intake_fault(in, FAULT_SIZE);
    else
        in->store(in, p, n);
}

static bool has_high_bit(const char *p, size_t n)
{
    uint64_t word, all = 0;

    for (; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        all |= word;
    }
    for (; n; p++, n--)
        all |= (unsigned char)*p;
    return all & 0x8080808080808080u;
}

/* Bytes seen for the first time. */
static void examine(struct smtp_intake *in, const char *p, size_t n)
{
    if (!in->binary && memchr(p, '\0', n))
        smtp_intake_fault(in, FAULT_NUL);
    if (in->want_8bit && !in->has_8bit)
        in->has_8bit = has_high_bit(p, n);
}

/* "Name:" at the front; 0: this line is no header field. RFC 5322 section 3.6.8, and the blanks of
 * section 4.5. */
static size_t field_name(const char *p, size_t n)
{
    size_t name = 0, i;

    while (name < n && p[name] > ' ' && p[name] != ':' && p[name] < 127)
        name++;
    for (i = name; i < n && (p[i] == ' ' || p[i] == '\t'); i++)
        ;
    return name && i < n && p[i] == ':' ? i + 1 : 0;
}

/* Appends a field's text, without the blanks around it. */
static void add_text(char *to, size_t size, const char *p, size_t n)
{
    size_t have = strlen(to);

    while (n && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }
    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t' || p[n - 1] == '\r' || p[n - 1] == '\n'))
        n--;
    if (have && n && have + 1 < size)
        to[have++] = ' ';
    if (n > size - 1 - have)
        n = size - 1 - have;
    memcpy(to + have, p, n);
    to[have + n] = '\0';
}

static void continue_field(struct smtp_intake *in, const char *p, size_t n)
{
    if (in->field == FIELD_SUBJECT)
        add_text(in->subject, sizeof(in->subject), p, n);
    else if (in->field == FIELD_MESSAGE_ID)
        add_text(in->message_id, sizeof(in->message_id), p, n);
}

static bool is_name(const char *p, size_t n, const char *name)
{
    return n >= strlen(name) && slice_ieq((struct slice){p, strlen(name)}, name);
}

static void begin_field(struct smtp_intake *in, const char *p, size_t n, size_t name)
{
    in->field = FIELD_NONE;
    switch (*p | 0x20) {
    case 'd':
        in->has_date = in->has_date || is_name(p, name, "Date:");
        break;
    case 'r':
        if (is_name(p, name, "Received:") && ++in->received > in->max_received && in->max_received)
            smtp_intake_fault(in, FAULT_LOOP);
        break;
    case 's':
        if (is_name(p, name, "Subject:") && !in->has_subject) {
            in->has_subject = true;
            in->field = FIELD_SUBJECT;
        }
        break;
    case 'm':
        if (is_name(p, name, "Message-ID:") && !in->has_message_id) {
            in->has_message_id = true;
            in->field = FIELD_MESSAGE_ID;
        }
        break;
    }
    continue_field(in, p + name, n - name);
}

/* A line that may belong to the header; false: it is the first behind it. "From " lines that
 * mailbox files leave at the top are let through. */
static bool header_line(struct smtp_intake *in, const char *p, size_t n)
{
    size_t name;

    if (n <= 2 && (p[0] == '\r' || p[0] == '\n'))
        return false;
    if (++in->header_lines > in->max_header_lines && in->max_header_lines)
        smtp_intake_fault(in, FAULT_HEADERS);
    if (*p == ' ' || *p == '\t') {
        continue_field(in, p, n);
        return true;
    }
    name = field_name(p, n);
    if (name)
        begin_field(in, p, n, name);
    else
        in->field = FIELD_NONE;
    return name || (in->header_lines == 1 && n > 5 && memcmp(p, "From ", 5) == 0);
}

/* Nothing but a dot, and more or less the end of a line. */
static bool looks_like_end(const char *p, size_t n)
{
    while (n && (p[n - 1] == '\r' || p[n - 1] == '\n'))
        n--;
    while (n && (*p == '\r' || *p == '\n')) {
        p++;
        n--;
    }
    return n == 1 && *p == '.';
}

/* The part of a line at the end of the buffer that ends like "\r.\r". What is only ".\r" may become the real end. */
static bool tail_looks_like_end(const char *p, size_t n)
{
    return n >= 3 && memcmp(p + n - 3, "\r.\r", 3) == 0;
}

size_t smtp_intake_feed(struct smtp_intake *in, const char *p, size_t n)
{
    const char *const begin = p, *const end = p + n,
                      *run = p; /* run..p is to be stored in one piece */
    bool pseudo_end = false;

    in->stalled = false;
    if (n > in->looked)
        examine(in, p + in->looked, n - in->looked);
    while (p < end && (in->in_header || !in->binary)) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t len;
        bool crlf;

        if (!lf)
            break;
        len = (size_t)(lf + 1 - p);
        crlf = len > 1 && lf[-1] == '\r';
        pseudo_end = false;
        if (in->mid_line) { /* the end of a line that was too long */
            in->mid_line = false;
        } else if (*p == '.' && in->after_crlf && crlf && len == 3 && !in->chunked) {
            keep(in, run, (size_t)(p - run));
            in->ended = true;
            in->looked = 0;
            if (in->in_header && in->header_end && !in->fault)
                in->header_end(in);
            return (size_t)(lf + 1 - begin);
        } else {
            pseudo_end = len <= 4 && looks_like_end(p, len);
            if (*p == '.' && in->after_crlf && !in->chunked) { /* RFC 5321 section 4.5.2 */
                keep(in, run, (size_t)(p - run));
                run = p + 1;
            }
            if (len > SMTP_TEXT_LINE_MAX)
                smtp_intake_fault(in, FAULT_LONG_LINE);
            if (in->in_header && !in->fault) {
                const char *line = run > p ? run : p;

                if (!header_line(in, line, (size_t)(lf + 1 - line))) {
                    keep(in, run, (size_t)(line - run));
                    run = line;
                    in->in_header = false;
                    if (in->header_end && !in->fault)
                        in->header_end(in);
                }
            }
        }
        if (!crlf && !in->binary)
            smtp_intake_fault(in, FAULT_BARE_LF);
        else if (len > 2 && !in->binary && memchr(p, '\r', len - 2))
            smtp_intake_fault(in, FAULT_BARE_CR);
        in->after_crlf = crlf;
        p = lf + 1;
    }
    if (in->binary && !in->in_header)
        p = end;
    keep(in, run, (size_t)(p - run));
    in->looked = (size_t)(end - p);
    if (p == end) {
        in->stalled = pseudo_end;
    } else if (!in->chunked && tail_looks_like_end(p, in->looked)) {
        in->stalled = true;
        smtp_intake_fault(in, FAULT_BARE_CR);
    } else if (in->looked > SMTP_TEXT_LINE_MAX || (in->mid_line && in->looked > 1)) {
        /* its last byte may be the CR of the end */
        size_t drop = in->looked - 1;

        smtp_intake_fault(in, FAULT_LONG_LINE);
        in->mid_line = true;
        in->looked = 1;
        p += drop;
    }
    return (size_t)(p - begin);
}

void smtp_intake_finish(struct smtp_intake *in, const char *p, size_t n)
{
    bool field = in->in_header && n && header_line(in, p, n);

    if (n && !in->binary && memchr(p, '\r', n))
        smtp_intake_fault(in, FAULT_BARE_CR);
    keep(in, p, field ? n : 0);
    if (field) /* what follows it needs a line of its own */
        keep(in, "\r\n", 2);
    if (in->in_header && in->header_end && !in->fault)
        in->header_end(in);
    keep(in, p, field ? 0 : n);
    in->in_header = false;
    in->ended = true;
}
