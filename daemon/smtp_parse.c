/* smtp_parse.c - see smtp_parse.h. What would surprise: a quoted local part that needs no quotes
 * loses them, because "john"@example.com and john@example.com are one mailbox (RFC 5321
 * section 4.1.2) and access rules must see one spelling. */
#include "daemon/smtp_parse.h"

#include <stdio.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"

static bool refuse(struct smtp_refusal *why, int code, const char *enhanced, const char *text)
{
    why->code = code;
    why->enhanced = enhanced;
    str_copy(why->text, sizeof(why->text), text);
    return false;
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_atext(char c)
{
    return is_alpha(c) || is_digit(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c)) || (c & 0x80);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static void skip(struct slice *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

static void skip_blanks(struct slice *s)
{
    while (s->n && (*s->p == ' ' || *s->p == '\t'))
        skip(s, 1);
}

void smtp_split_command(struct slice line, struct slice *verb, struct slice *args)
{
    size_t n = 0;

    while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
        line.n--;
    while (n < line.n && is_alpha(line.p[n]))
        n++;
    if (n < line.n && line.p[n] != ' ' && line.p[n] != '\t')
        n = 0;
    *verb = (struct slice){line.p, n};
    *args = line;
    skip(args, n);
    skip_blanks(args);
}

const char *smtp_path_domain(const struct smtp_path *p)
{
    return p->address[p->local_len] == '@' ? p->address + p->local_len + 1 : "";
}

/* --- paths ----------------------------------------------------------------------------------- */

struct path_build {
    struct smtp_path *out;
    size_t n;
};

static bool put(struct path_build *b, char c)
{
    if (b->n >= SMTP_ADDRESS_MAX)
        return false;
    b->out->address[b->n++] = c;
    return true;
}

/* Dot-string: atoms with single dots between them. */
static bool parse_dot_string(struct slice *in, struct path_build *b)
{
    bool atom = false;

    while (in->n) {
        char c = *in->p;

        if (c == '.') {
            if (!atom)
                return false;
            atom = false;
        } else if (is_atext(c)) {
            atom = true;
        } else {
            break;
        }
        if (!put(b, c))
            return false;
        skip(in, 1);
    }
    return atom;
}

static bool needs_quotes(const char *s, size_t n)
{
    bool atom = false;

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' ? !atom : !is_atext(s[i]))
            return true;
        atom = s[i] != '.';
    }
    return !atom;
}

static bool parse_quoted(struct slice *in, struct path_build *b)
{
    char raw[SMTP_LOCAL_MAX];
    size_t n = 0;

    skip(in, 1);
    for (;;) {
        char c;

        if (!in->n)
            return false;
        c = *in->p;
        skip(in, 1);
        if (c == '"')
            break;
        if (c == '\\') {
            if (!in->n)
                return false;
            c = *in->p;
            skip(in, 1);
            if (c & 0x80)
                return false;
        }
        if ((unsigned char)c < 32 || c == 127 || n == sizeof(raw))
            return false;
        raw[n++] = c;
    }
    if (!needs_quotes(raw, n)) {
        for (size_t i = 0; i < n; i++)
            if (!put(b, raw[i]))
                return false;
        return true;
    }
    put(b, '"');
    for (size_t i = 0; i < n; i++) {
        if ((raw[i] == '"' || raw[i] == '\\') && !put(b, '\\'))
            return false;
        if (!put(b, raw[i]))
            return false;
    }
    return put(b, '"');
}

/* "[192.0.2.1]" or "[IPv6:...]"; other tags are nothing we could route. */
static bool parse_literal(struct slice *in, struct path_build *b)
{
    char text[ADDR_TEXT], clean[ADDR_TEXT];
    const char *end = memchr(in->p, ']', in->n), *ip = text;
    struct addr a;
    size_t n;

    if (!end)
        return false;
    n = (size_t)(end - in->p) - 1;
    if (n >= sizeof(text))
        return false;
    memcpy(text, in->p + 1, n);
    text[n] = '\0';
    if (strlen(text) != n)
        return false;
    if (str_istarts(text, "IPv6:"))
        ip += 5;
    if (*ip == '[' || !addr_parse(ip, &a) || (ip == text && strchr(ip, ':')) ||
        (ip != text && !strchr(ip, ':')))
        return false;
    addr_text(&a, clean);
    for (const char *p = a.family == AF_INET6 ? "[IPv6:" : "["; *p; p++)
        put(b, *p);
    for (const char *p = clean; *p; p++)
        put(b, *p);
    skip(in, n + 2);
    return put(b, ']');
}

/* The bytes that may stand in a domain here; whether they make one is for domain_to_ascii. */
static size_t domain_span(struct slice in)
{
    size_t n = 0;

    while (n < in.n && (is_alpha(in.p[n]) || is_digit(in.p[n]) || in.p[n] == '-' ||
                        in.p[n] == '.' || in.p[n] == '_' || (in.p[n] & 0x80)))
        n++;
    return n;
}

/* The common case without allocation; other names, and the reason why one is refused, come from
 * domain_to_ascii. */
static bool plain_domain(struct slice s, char *out)
{
    size_t label = 0;

    if (s.n == 0 || s.n > SMTP_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c & 0x80)
            return false;
        if (c == '.') {
            if (label == 0 || s.p[i - 1] == '-')
                return false;
            label = 0;
        } else if (++label > 63 || (c == '-' && label == 1)) {
            return false;
        }
        out[i] = lower(c);
    }
    out[s.n] = '\0';
    return label > 0 && s.p[s.n - 1] != '-';
}

static bool parse_domain(struct slice *in, struct path_build *b)
{
    char text[4 * SMTP_DOMAIN_MAX], ascii[SMTP_DOMAIN_MAX + 1];
    size_t n = domain_span(*in);

    if (n == 0 || n >= sizeof(text))
        return false;
    if (!plain_domain((struct slice){in->p, n}, ascii)) {
        memcpy(text, in->p, n);
        text[n] = '\0';
        if (!str_is_utf8(text, n) || !domain_to_ascii(text, ascii, sizeof(ascii), NULL))
            return false;
    }
    skip(in, n);
    for (const char *p = ascii; *p; p++)
        if (!put(b, *p))
            return false;
    return true;
}

/* "@one.example,@two.example:" in front of the mailbox. RFC 5321 appendix C: recognised and
 * ignored. */
static bool skip_route(struct slice *in)
{
    for (;;) {
        size_t n;

        if (!in->n || *in->p != '@')
            return false;
        skip(in, 1);
        n = domain_span(*in);
        if (n == 0)
            return false;
        skip(in, n);
        if (!in->n || (*in->p != ',' && *in->p != ':'))
            return false;
        if (*in->p == ':') {
            skip(in, 1);
            return true;
        }
        skip(in, 1);
    }
}

bool smtp_parse_path(struct slice *in, struct smtp_path *out, struct smtp_refusal *why)
{
    struct path_build b = {out, 0};
    const char *begin = in->p;
    bool bracket = in->n && *in->p == '<';
    bool ok;

    out->local_len = 0;
    out->literal = out->utf8 = false;
    out->address[0] = '\0';
    if (bracket)
        skip(in, 1);
    if (bracket && in->n && *in->p == '>') {
        skip(in, 1);
        return true;
    }
    if (in->n && *in->p == '@' && !skip_route(in))
        return refuse(why, 501, "5.1.7", "Syntax error in the source route");
    if (!in->n)
        return refuse(why, 501, "5.5.4", "Address missing");
    ok = *in->p == '"' ? parse_quoted(in, &b) : parse_dot_string(in, &b);
    if (!ok || b.n > SMTP_LOCAL_MAX + 2)
        return refuse(why, 501, "5.1.3", "Syntax error in the local part of the address");
    out->local_len = (unsigned)b.n;
    if (in->n && *in->p == '@') {
        put(&b, '@');
        skip(in, 1);
        out->literal = in->n && *in->p == '[';
        if (!(out->literal ? parse_literal(in, &b) : parse_domain(in, &b)))
            return refuse(why, 501, "5.1.3", "Syntax error in the domain of the address");
    }
    out->address[b.n] = '\0';
    for (const char *p = begin; p < in->p; p++)
        out->utf8 = out->utf8 || (*p & 0x80);
    if (out->utf8 && !str_is_utf8(out->address, b.n))
        return refuse(why, 501, "5.1.3", "The address is not valid UTF-8");
    if (bracket) {
        if (!in->n || *in->p != '>')
            return refuse(why, 501, "5.1.3", "Syntax error in the address");
        skip(in, 1);
    }
    if (in->n && *in->p != ' ' && *in->p != '\t')
        return refuse(why, 501, "5.1.3", "Syntax error behind the address");
    return true;
}

/* --- parameters ------------------------------------------------------------------------------ */

/* The next "KEY" or "KEY=VALUE" of *in. 1: there it is, 0: no more, -1: refused. */
static int next_param(struct slice *in, struct slice *key, struct slice *value,
                      struct smtp_refusal *why)
{
    size_t n = 0;

    skip_blanks(in);
    if (!in->n)
        return 0;
    while (n < in->n && (is_alpha(in->p[n]) || is_digit(in->p[n]) || in->p[n] == '-'))
        n++;
    if (n == 0 || in->p[0] == '-')
        goto syntax;
    *key = (struct slice){in->p, n};
    skip(in, n);
    *value = (struct slice){in->p, 0};
    if (in->n && *in->p == '=') {
        skip(in, 1);
        for (n = 0;
             n < in->n && (unsigned char)in->p[n] > ' ' && in->p[n] != '=' && in->p[n] != 127; n++)
            ;
        if (n == 0)
            goto syntax;
        *value = (struct slice){in->p, n};
        skip(in, n);
    }
    if (!in->n || *in->p == ' ' || *in->p == '\t')
        return 1;
syntax:
    refuse(why, 501, "5.5.4", "Syntax error in the parameters");
    return -1;
}

static bool unknown_param(struct slice key, struct smtp_refusal *why)
{
    why->code = 555;
    why->enhanced = "5.5.4";
    snprintf(why->text, sizeof(why->text), "Unsupported parameter %.*s",
             key.n > 40 ? 40 : (int)key.n, key.p);
    return false;
}

static bool bad_value(struct slice key, struct smtp_refusal *why)
{
    why->code = 501;
    why->enhanced = "5.5.4";
    snprintf(why->text, sizeof(why->text), "Bad or repeated parameter %.*s",
             key.n > 40 ? 40 : (int)key.n, key.p);
    return false;
}

static bool is_xtext(struct slice s, size_t max)
{
    char small[512];

    return s.n > 0 &&
           smtp_xtext_decode(s, small, max + 1 < sizeof(small) ? max + 1 : sizeof(small)) >= 0;
}

/* "FROM:" or "TO:", blanks after it forgiven. */
static bool skip_keyword(struct slice *in, const char *keyword, struct smtp_refusal *why)
{
    size_t n = strlen(keyword);

    if (in->n < n || !slice_ieq((struct slice){in->p, n}, keyword)) {
        why->code = 501;
        why->enhanced = "5.5.4";
        snprintf(why->text, sizeof(why->text), "Syntax: %s<address>", keyword);
        return false;
    }
    skip(in, n);
    skip_blanks(in);
    return true;
}

static bool parse_size(struct slice v, uint64_t *out)
{
    uint64_t n = 0;

    if (v.n == 0 || v.n > 20)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (!is_digit(v.p[i]))
            return false;
        if (n > (UINT64_MAX - 9) / 10)
            n = (UINT64_MAX - 9) / 10; /* 20 digits are allowed; that large is too large anyway */
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    *out = n;
    return true;
}

enum {
    SEEN_SIZE = 1,
    SEEN_BODY = 2,
    SEEN_UTF8 = 4,
    SEEN_RET = 8,
    SEEN_ENVID = 16,
    SEEN_NOTIFY = 32,
    SEEN_ORCPT = 64,
    SEEN_AUTH = 128
};

static bool mail_param(struct smtp_mail *m, unsigned *seen, struct slice key, struct slice v,
                       struct smtp_refusal *why)
{
    unsigned bit;
    bool ok;

    if (slice_ieq(key, "SIZE")) {
        bit = SEEN_SIZE;
        ok = parse_size(v, &m->size);
    } else if (slice_ieq(key, "BODY")) {
        bit = SEEN_BODY;
        m->eightbit = slice_ieq(v, "8BITMIME");
        m->binary = slice_ieq(v, "BINARYMIME");
        ok = m->eightbit || m->binary || slice_ieq(v, "7BIT");
    } else if (slice_ieq(key, "SMTPUTF8")) {
        bit = SEEN_UTF8;
        m->smtputf8 = ok = v.n == 0;
    } else if (slice_ieq(key, "RET")) {
        bit = SEEN_RET;
        m->ret = slice_ieq(v, "FULL") ? 'F' : slice_ieq(v, "HDRS") ? 'H' : 0;
        ok = m->ret != 0;
    } else if (slice_ieq(key, "ENVID")) { /* RFC 3461 section 5.4: at most 100 characters */
        bit = SEEN_ENVID;
        m->envid = v;
        ok = v.n <= 100 && is_xtext(v, 100);
    } else if (slice_ieq(key, "AUTH")) { /* RFC 4954 section 5 */
        bit = SEEN_AUTH;
        m->has_auth = true;
        ok = v.n <= 500 && (slice_eq(v, "<>") || is_xtext(v, 500));
    } else {
        return unknown_param(key, why);
    }
    if (!ok || *seen & bit)
        return bad_value(key, why);
    *seen |= bit;
    return true;
}

bool smtp_parse_mail(struct slice args, struct smtp_mail *out, struct smtp_refusal *why)
{
    struct slice key, value;
    unsigned seen = 0;
    int more;

    out->size = 0;
    out->esmtp = out->eightbit = out->binary = out->smtputf8 = out->has_auth = false;
    out->ret = 0;
    out->envid = (struct slice){NULL, 0};
    if (!skip_keyword(&args, "FROM:", why) || !smtp_parse_path(&args, &out->from, why))
        return false;
    while ((more = next_param(&args, &key, &value, why)) > 0) {
        out->esmtp = true;
        if (!mail_param(out, &seen, key, value, why))
            return false;
    }
    if (more < 0)
        return false;
    if (out->from.utf8 && !out->smtputf8)
        return refuse(why, 553, "5.6.7", "The address needs SMTPUTF8, which MAIL does not ask for");
    return true;
}

static bool parse_notify(struct slice v, unsigned *out)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {
        {"NEVER",   SMTP_NOTIFY_NEVER  },
        {"SUCCESS", SMTP_NOTIFY_SUCCESS},
        {"FAILURE", SMTP_NOTIFY_FAILURE},
        {"DELAY",   SMTP_NOTIFY_DELAY  }
    };

    *out = 0;
    for (;;) {
        const char *comma = memchr(v.p, ',', v.n);
        struct slice word = {v.p, comma ? (size_t)(comma - v.p) : v.n};
        unsigned bit = 0;

        for (size_t i = 0; i < countof(words); i++)
            if (slice_ieq(word, words[i].word))
                bit = words[i].bit;
        if (!bit || *out & bit)
            return false;
        *out |= bit;
        if (!comma)
            break;
        skip(&v, word.n + 1);
    }
    return !(*out & SMTP_NOTIFY_NEVER) || *out == SMTP_NOTIFY_NEVER;
}

/* "addr-type;xtext", at most 500 characters; RFC 6533 section 3 gives the type "utf-8" its own form. */
static bool check_orcpt(struct slice v, bool *utf8)
{
    struct buf decoded = BUF_INIT(2000);
    const char *semi = memchr(v.p, ';', v.n);
    struct slice type = {v.p, semi ? (size_t)(semi - v.p) : 0}, rest = v;

    if (!semi || type.n == 0 || v.n > 500)
        return false;
    for (size_t i = 0; i < type.n; i++)
        if (!is_alpha(type.p[i]) && !is_digit(type.p[i]) && type.p[i] != '-')
            return false;
    skip(&rest, type.n + 1);
    if (slice_ieq(type, "utf-8")) {
        bool ok = rest.n > 0 && smtp_utf8_address_decode(rest, &decoded);

        for (size_t i = 0; i < rest.n; i++)
            *utf8 |= (unsigned char)rest.p[i] > 127;
        buf_free(&decoded);
        return ok;
    }
    return is_xtext(rest, 500);
}

bool smtp_parse_rcpt(struct slice args, struct smtp_rcpt *out, struct smtp_refusal *why)
{
    struct slice key, value;
    unsigned seen = 0, bit;
    bool ok;
    int more;

    out->esmtp = out->orcpt_utf8 = false;
    out->notify = 0;
    out->orcpt = (struct slice){NULL, 0};
    if (!skip_keyword(&args, "TO:", why) || !smtp_parse_path(&args, &out->to, why))
        return false;
    if (out->to.address[0] == '\0')
        return refuse(why, 501, "5.1.3", "The null path is no recipient");
    while ((more = next_param(&args, &key, &value, why)) > 0) {
        out->esmtp = true;
        if (slice_ieq(key, "NOTIFY")) {
            bit = SEEN_NOTIFY;
            ok = parse_notify(value, &out->notify);
        } else if (slice_ieq(key, "ORCPT")) {
            bit = SEEN_ORCPT;
            out->orcpt = value;
            ok = check_orcpt(value, &out->orcpt_utf8);
        } else {
            return unknown_param(key, why);
        }
        if (!ok || seen & bit)
            return bad_value(key, why);
        seen |= bit;
    }
    return more == 0;
}

bool smtp_parse_helo(struct slice args, char *out, size_t size)
{
    if (args.n == 0 || args.n >= size || args.n > SMTP_DOMAIN_MAX + 2)
        return false;
    for (size_t i = 0; i < args.n; i++) {
        char c = args.p[i];

        if (!is_alpha(c) && !is_digit(c) && !(c && strchr("-._:[]+/", c)))
            return false;
        out[i] = c;
    }
    out[args.n] = '\0';
    return true;
}

/* --- xtext ----------------------------------------------------------------------------------- */

static int hex_digit(char c) /* RFC 3461 section 4: capitals only */
{
    return is_digit(c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int smtp_xtext_decode(struct slice in, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];

        if (c < 33 || c > 126 || c == '=')
            return -1;
        if (c == '+') {
            int hi = i + 2 < in.n ? hex_digit(in.p[i + 1]) : -1, lo;

            lo = hi >= 0 ? hex_digit(in.p[i + 2]) : -1;
            if (lo < 0)
                return -1;
            c = (unsigned char)(hi * 16 + lo);
            i += 2;
            if (c == 0)
                return -1;
        }
        if (n + 1 >= size)
            return -1;
        out[n++] = (char)c;
    }
    if (size == 0)
        return -1;
    out[n] = '\0';
    return (int)n;
}

void smtp_xtext_encode(struct buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c < 33 || c > 126 || c == '+' || c == '=')
            buf_printf(out, "+%02X", c);
        else
            buf_char(out, (char)c);
    }
}

/* --- addresses of the type "utf-8", RFC 6533 section 3 ------------------------------------------------ */

/* What QCHAR leaves out of printable ASCII. */
static bool is_special(unsigned char c)
{
    return c < 33 || c == 127 || c == '\\' || c == '+' || c == '=';
}

static void add_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_char(out, (char)c);
    } else if (c < 0x800) {
        buf_char(out, (char)(0xc0 | c >> 6));
        buf_char(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_char(out, (char)(0xe0 | c >> 12));
        buf_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_char(out, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_char(out, (char)(0xf0 | c >> 18));
        buf_char(out, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_char(out, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_char(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* "\x{F6}" at the front of s; bytes of it, 0: it is none. */
static size_t embedded(struct slice s, uint32_t *c)
{
    size_t i = 3;

    if (s.n < 6 || memcmp(s.p, "\\x{", 3) != 0)
        return 0;
    for (*c = 0; i < s.n && i < 9 && s.p[i] != '}'; i++) {
        int digit = hex_digit((char)(s.p[i] >= 'a' && s.p[i] <= 'f' ? s.p[i] - 32 : s.p[i]));

        if (digit < 0)
            return 0;
        *c = *c * 16 + (uint32_t)digit;
    }
    if (i < 5 || i == s.n || s.p[i] != '}' || !*c || *c > 0x10ffff || (*c >= 0xd800 && *c <= 0xdfff))
        return 0;
    return i + 1;
}

bool smtp_utf8_address_decode(struct slice in, struct buf *out)
{
    uint32_t c;
    size_t n;

    if (!str_is_utf8(in.p, in.n))
        return false;
    for (; in.n; skip(&in, n)) {
        n = *in.p == '\\' ? embedded(in, &c) : 1;
        if (!n || (n == 1 && is_special((unsigned char)*in.p)))
            return false;
        if (n == 1)
            buf_char(out, *in.p);
        else
            add_utf8(out, c);
    }
    return !out->full;
}

void smtp_utf8_address_encode(struct buf *out, const char *s)
{
    while (*s) {
        uint32_t c;
        size_t n = str_utf8_char(s, strlen(s), &c);

        if (n == 1 && !is_special((unsigned char)*s))
            buf_char(out, *s);
        else
            buf_printf(out, "\\x{%02X}", n ? (unsigned)c : (unsigned char)*s);
        s += n ? n : 1;
    }
}

/* --- replies --------------------------------------------------------------------------------- */

/* RFC 3463: "2.1.5"; the class must be that of the code. Bytes of it at the front of s, 0: none. */
static size_t enhanced_span(struct slice s, int code)
{
    size_t i = 0;

    if (s.n < 5 || s.p[0] != '0' + code / 100 || !strchr("245", s.p[0]))
        return 0;
    for (int part = 0; part < 3; part++) {
        size_t digits = 0;

        while (i < s.n && is_digit(s.p[i]) && digits < 4) {
            i++;
            digits++;
        }
        if (digits == 0 || digits > 3)
            return 0;
        if (part < 2 && (i >= s.n || s.p[i++] != '.'))
            return 0;
    }
    return i == s.n || s.p[i] == ' ' ? i : 0;
}

enum smtp_reply_state smtp_reply_feed(struct smtp_reply *r, struct slice line)
{
    bool more = false;
    int code;
    size_t n;

    if (line.n < 3 || line.p[0] < '2' || line.p[0] > '5' || !is_digit(line.p[1]) ||
        !is_digit(line.p[2]))
        return SMTP_REPLY_BAD;
    code = (line.p[0] - '0') * 100 + (line.p[1] - '0') * 10 + (line.p[2] - '0');
    if (r->lines && code != r->code)
        return SMTP_REPLY_BAD;
    r->code = code;
    skip(&line, 3);
    if (line.n) {
        if (*line.p != ' ' && *line.p != '-')
            return SMTP_REPLY_BAD;
        more = *line.p == '-';
        skip(&line, 1);
    }
    n = enhanced_span(line, code);
    if (n) {
        if (!r->lines) {
            memcpy(r->enhanced, line.p, n);
            r->enhanced[n] = '\0';
        }
        skip(&line, n);
        if (line.n)
            skip(&line, 1);
    }
    if (r->lines && r->text_len + 1 < sizeof(r->text))
        r->text[r->text_len++] = '\n';
    n = sizeof(r->text) - 1 - r->text_len;
    if (n > line.n)
        n = line.n;
    memcpy(r->text + r->text_len, line.p, n);
    r->text_len += n;
    r->text[r->text_len] = '\0';
    if (++r->lines > 500)
        return SMTP_REPLY_BAD; /* a server that never ends its reply */
    return more ? SMTP_REPLY_MORE : SMTP_REPLY_DONE;
}
