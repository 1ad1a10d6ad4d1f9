/* dns_packet.c - see dns_packet.h. */
#include "daemon/dns_packet.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { TYPE_OPT = 41, FLAG_TC = 0x0200, FLAG_QR = 0x8000, OPTION_EDE = 15 };

static unsigned u16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static size_t put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)v;
    return 2;
}

/* --- questions --- */

static size_t put_name(unsigned char *out, size_t size, const char *name)
{
    size_t n = 0;

    if (str_eq(name, "."))
        name++;
    while (*name) {
        size_t label = strcspn(name, ".");

        if (!label || label > 63 || n + label + 2 > size || n + label + 2 > 255)
            return 0;
        out[n++] = (unsigned char)label;
        memcpy(out + n, name, label);
        n += label;
        name += label + (name[label] == '.');
    }
    out[n++] = 0;
    return n;
}

size_t dns_packet_question(unsigned char *out, size_t size, unsigned id, const char *name, int type)
{
    static const unsigned char opt[11] = {0, 0, TYPE_OPT, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0};
    size_t n = 0, length;

    if (size < 12 + 256 + 4 + sizeof(opt))
        return 0;
    n += put16(out, id);
    n += put16(out + n, 0x0110); /* RD, CD */
    n += put16(out + n, 1);
    n += put16(out + n, 0);
    n += put16(out + n, 0);
    n += put16(out + n, 1);
    length = put_name(out + n, 256, name);
    if (!length)
        return 0;
    n += length;
    n += put16(out + n, (unsigned)type);
    n += put16(out + n, 1);
    memcpy(out + n, opt, sizeof(opt));
    return n + sizeof(opt);
}

/* --- answers --- */

/* The name at *at, uncompressed into wire (255 bytes); *at moves behind it. 0: damaged. Pointers
 * must point backwards. */
static size_t read_name(const struct dns_packet *m, size_t *at, unsigned char wire[256])
{
    size_t pos = *at, n = 0, limit = *at;
    bool jumped = false;

    for (;;) {
        unsigned c;

        if (pos >= m->n)
            return 0;
        c = m->p[pos];
        if (c >= 0xc0) {
            size_t to;

            if (pos + 2 > m->n)
                return 0;
            to = u16(m->p + pos) & 0x3fffu;
            if (!jumped)
                *at = pos + 2;
            if (to >= limit)
                return 0;
            jumped = true;
            pos = limit = to;
            continue;
        }
        if (c > 63 || pos + 1 + c > m->n || n + 1 + c > 255 - (c ? 1u : 0u))
            return 0;
        memcpy(wire + n, m->p + pos, 1 + c);
        n += 1 + c;
        pos += 1 + c;
        if (!c) {
            if (!jumped)
                *at = pos;
            return n;
        }
    }
}

static bool read_text(const struct dns_packet *m, size_t *at, char *out)
{
    unsigned char wire[256];
    size_t n = read_name(m, at, wire);

    return n && dns_wire_name(wire, n, out, 256, NULL);
}

bool dns_packet_open(struct dns_packet *m, const unsigned char *p, size_t n, unsigned id,
                     const char *name, int type)
{
    char asked[256];
    size_t length = strlen(name);

    memset(m, 0, sizeof(*m));
    m->p = p;
    m->n = n;
    if (n < 12)
        return false;
    m->id = u16(p);
    m->flags = u16(p + 2);
    m->rcode = m->flags & 15;
    m->questions = u16(p + 4);
    for (int i = 0; i < 3; i++)
        m->left[i] = u16(p + 6 + 2 * i);
    m->at = 12;
    if (length && name[length - 1] == '.')
        length--;
    if (m->id != id || !(m->flags & FLAG_QR) || m->questions != 1 || !read_text(m, &m->at, asked) ||
        strlen(asked) != length || strncasecmp(asked, name, length) != 0 || m->at + 4 > n ||
        u16(p + m->at) != (unsigned)type)
        return false;
    m->at += 4;
    return true;
}

/* Types whose rdata are: some octets, one or two names, some octets. */
static bool expand(const struct dns_packet *m, struct dns_record *r)
{
    static const struct {
        int type;
        unsigned before, names, after;
    } shapes[] = {
        {TYPE_NS,    0, 1, 0 },
        {TYPE_CNAME, 0, 1, 0 },
        {TYPE_PTR,   0, 1, 0 },
        {TYPE_MX,    2, 1, 0 },
        {TYPE_SRV,   6, 1, 0 },
        {TYPE_SOA,   0, 2, 20},
    };
    size_t at = (size_t)(r->rdata.p - m->p), end = at + r->rdata.n, n = 0;

    for (size_t i = 0; i < countof(shapes); i++) {
        if (shapes[i].type != r->type)
            continue;
        if (r->rdata.n < shapes[i].before)
            return false;
        memcpy(r->expanded, r->rdata.p, shapes[i].before);
        n = shapes[i].before;
        at += n;
        for (unsigned k = 0; k < shapes[i].names; k++) {
            size_t length = at < end ? read_name(m, &at, r->expanded + n) : 0;

            if (!length || at > end)
                return false;
            n += length;
        }
        if (end - at != shapes[i].after)
            return false;
        memcpy(r->expanded + n, m->p + at, shapes[i].after);
        r->rdata = (struct dns_rdata){r->expanded, n + shapes[i].after};
        return true;
    }
    return true;
}

bool dns_packet_next(struct dns_packet *m, struct dns_record *r)
{
    const unsigned char *h;
    size_t size;
    int section = 0;

    while (section < 3 && !m->left[section])
        section++;
    if (section == 3)
        return false;
    m->left[section]--;
    r->section = (enum dns_section)section;
    if (!read_text(m, &m->at, r->name) || m->at + 10 > m->n)
        goto damaged;
    h = m->p + m->at;
    r->type = (int)u16(h);
    r->class = (int)u16(h + 2);
    r->ttl = u16(h + 4) << 16 | u16(h + 6);
    size = u16(h + 8);
    m->at += 10;
    if (m->at + size > m->n)
        goto damaged;
    r->rdata = (struct dns_rdata){m->p + m->at, size};
    m->at += size;
    if (expand(m, r))
        return true;
damaged:
    memset(m->left, 0, sizeof(m->left));
    return false;
}

bool dns_packet_truncated(const struct dns_packet *m)
{
    return m->flags & FLAG_TC;
}

bool dns_packet_error(const struct dns_record *opt, char *out, size_t size)
{
    static const char *const names[] = {
        /* RFC 8914 section 5.2 */
        "Other Error",
        "Unsupported DNSKEY Algorithm",
        "Unsupported DS Digest Type",
        "Stale Answer",
        "Forged Answer",
        "DNSSEC Indeterminate",
        "DNSSEC Bogus",
        "Signature Expired",
        "Signature Not Yet Valid",
        "DNSKEY Missing",
        "RRSIGs Missing",
        "No Zone Key Bit Set",
        "NSEC Missing",
        "Cached Error",
        "Not Ready",
        "Blocked",
        "Censored",
        "Filtered",
        "Prohibited",
        "Stale NXDOMAIN Answer",
        "Not Authoritative",
        "Not Supported",
        "No Reachable Authority",
        "Network Error",
        "Invalid Data",
    };
    const unsigned char *p = opt->rdata.p;
    size_t n = opt->rdata.n, at = 0;

    if (opt->type != TYPE_OPT)
        return false;
    while (at + 4 <= n) {
        size_t length = u16(p + at + 2);

        if (at + 4 + length > n)
            return false;
        if (u16(p + at) == OPTION_EDE && length >= 2) {
            AUTO(buf) struct buf text = BUF_INIT(200);
            unsigned code = u16(p + at + 4);

            str_escape(&text, (const char *)p + at + 6, length - 2);
            snprintf(out, size, "%u (%s)%s%s", code, code < countof(names) ? names[code] : "?",
                     text.n ? ": " : "", buf_str(&text));
            return true;
        }
        at += 4 + length;
    }
    return false;
}
