/* net.c - see net.h. An IPv4 address that came mapped into IPv6 (::ffff:192.0.2.1) is an IPv4 address everywhere,
 * so one rule covers both spellings. */
#include "store/base/net.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

static size_t ip_len(const struct addr *a)
{
    return a->family == AF_INET ? 4 : a->family == AF_INET6 ? 16 : 0;
}

static void unmap(struct addr *a)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (a->family == AF_INET6 && memcmp(a->ip, mapped, sizeof(mapped)) == 0) {
        memmove(a->ip, a->ip + 12, 4);
        memset(a->ip + 4, 0, 12);
        a->family = AF_INET;
    }
}

bool addr_parse(const char *text, struct addr *out)
{
    char inner[INET6_ADDRSTRLEN];
    size_t n = strlen(text);

    memset(out, 0, sizeof(*out));
    if (text[0] == '[') {
        if (n < 3 || n - 2 >= sizeof(inner) || text[n - 1] != ']')
            return false;
        memcpy(inner, text + 1, n - 2);
        inner[n - 2] = '\0';
        if (inet_pton(AF_INET6, inner, out->ip) != 1)
            return false;
        out->family = AF_INET6;
    } else if (inet_pton(AF_INET, text, out->ip) == 1) {
        out->family = AF_INET;
    } else if (inet_pton(AF_INET6, text, out->ip) == 1) {
        out->family = AF_INET6;
    } else {
        return false;
    }
    unmap(out);
    return true;
}

/* Decimal digits up to the end, at most max; false on anything else. */
static bool parse_number(const char *s, unsigned max, unsigned *out)
{
    unsigned long v = 0;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (unsigned)(*s - '0');
        if (v > max)
            return false;
    }
    *out = (unsigned)v;
    return true;
}

bool addr_parse_port(const char *text, unsigned deflt, struct addr *out)
{
    char host[ADDR_TEXT];
    const char *colon = strrchr(text, ':'), *close = strchr(text, ']');
    unsigned port;

    /* A bare IPv6 address has colons of its own; only [..]:port and a.b.c.d:port carry a port. */
    if (colon && (close ? colon == close + 1 : strchr(text, ':') == colon)) {
        if ((size_t)(colon - text) >= sizeof(host) || !parse_number(colon + 1, 65535, &port))
            return false;
        memcpy(host, text, (size_t)(colon - text));
        host[colon - text] = '\0';
        text = host;
    } else {
        port = deflt;
    }
    if (!addr_parse(text, out))
        return false;
    out->port = port;
    return true;
}

char *addr_text(const struct addr *a, char *out)
{
    if (!ip_len(a) || !inet_ntop(a->family, a->ip, out, ADDR_TEXT))
        str_copy(out, ADDR_TEXT, "none");
    return out;
}

char *addr_text_port(const struct addr *a, char *out)
{
    char ip[ADDR_TEXT];

    snprintf(out, ADDR_TEXT, a->family == AF_INET6 ? "[%.46s]:%u" : "%.46s:%u", addr_text(a, ip),
             a->port & 0xffff);
    return out;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof(*ss));
    if (a->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)ss;

        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)a->port);
        memcpy(&in->sin_addr, a->ip, 4);
        return sizeof(*in);
    }
    if (a->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)a->port);
        memcpy(&in6->sin6_addr, a->ip, 16);
        return sizeof(*in6);
    }
    return 0;
}

void addr_from_sockaddr(struct addr *a, const struct sockaddr_storage *ss)
{
    memset(a, 0, sizeof(*a));
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

        a->family = AF_INET;
        a->port = ntohs(in->sin_port);
        memcpy(a->ip, &in->sin_addr, 4);
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

        a->family = AF_INET6;
        a->port = ntohs(in6->sin6_port);
        memcpy(a->ip, &in6->sin6_addr, 16);
        unmap(a);
    }
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, ip_len(a)) == 0;
}

static bool in_prefix(const struct addr *a, const unsigned char *prefix, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a->ip, prefix, whole) != 0)
        return false;
    return !rest || ((a->ip[whole] ^ prefix[whole]) & (0xff00u >> rest & 0xff)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
    static const unsigned char one[16] = {[15] = 1};

    if (a->family == AF_INET)
        return a->ip[0] == 127;
    return a->family == AF_INET6 && memcmp(a->ip, one, 16) == 0;
}

/* The IANA special-purpose address registries (RFC 6890), what is not globally reachable. */
bool addr_is_public(const struct addr *a)
{
    static const struct {
        unsigned char prefix[4];
        unsigned bits;
    } special4[] = {
        {{0}, 8},           {{10}, 8},          {{100, 64}, 10},     {{127}, 8},
        {{169, 254}, 16},   {{172, 16}, 12},    {{192, 0, 0}, 24},   {{192, 0, 2}, 24},
        {{192, 88, 99}, 24}, {{192, 168}, 16},  {{198, 18}, 15},     {{198, 51, 100}, 24},
        {{203, 0, 113}, 24}, {{224}, 4},        {{240}, 4},
    };
    static const struct {
        unsigned char prefix[6];
        unsigned bits;
    } special6[] = {
        {{0x20, 0x01}, 23},             /* protocol assignments, Teredo, ORCHID */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
        {{0x20, 0x02}, 16},             /* 6to4: carries an IPv4 address of anyone's choice */
        {{0x3f, 0xff}, 20},             /* documentation */
    };
    static const unsigned char global[1] = {0x20}, nat64[12] = {0x00, 0x64, 0xff, 0x9b};

    if (a->family == AF_INET) {
        for (size_t i = 0; i < countof(special4); i++)
            if (in_prefix(a, special4[i].prefix, special4[i].bits))
                return false;
        return true;
    }
    if (a->family != AF_INET6)
        return false;
    if (in_prefix(a, nat64, 96)) {
        struct addr inner = {.family = AF_INET};

        memcpy(inner.ip, a->ip + 12, 4);
        return addr_is_public(&inner);
    }
    if (!in_prefix(a, global, 3))
        return false;
    for (size_t i = 0; i < countof(special6); i++)
        if (in_prefix(a, special6[i].prefix, special6[i].bits))
            return false;
    return true;
}

static bool parse_cidr(const char *text, const char *slash, struct net *out, struct err *err)
{
    char base[ADDR_TEXT], clean[ADDR_TEXT];
    unsigned bits, max;
    bool stray = false;

    if ((size_t)(slash - text) >= sizeof(base))
        return err_set(err, E_INVALID, "%s is not a network", str_printable(text));
    memcpy(base, text, (size_t)(slash - text));
    base[slash - text] = '\0';
    if (!addr_parse(base, &out->lo))
        return err_set(err, E_INVALID, "%s is not an IP address", str_printable(base));
    max = out->lo.family == AF_INET ? 32 : 128;
    if (!parse_number(slash + 1, max, &bits))
        return err_set(err, E_INVALID, "The prefix length of %s must be a number from 0 to %u",
                       str_printable(text), max);
    out->hi = out->lo;
    for (unsigned i = bits; i < max; i++) {
        unsigned char bit = (unsigned char)(0x80u >> i % 8);

        stray = stray || (out->lo.ip[i / 8] & bit);
        out->lo.ip[i / 8] &= (unsigned char)~bit;
        out->hi.ip[i / 8] |= bit;
    }
    if (stray)
        return err_set(err, E_INVALID, "%s has bits behind its prefix; the network is %s/%u",
                       str_printable(text), addr_text(&out->lo, clean), bits);
    return true;
}

/* "10.2.3." and "10.2.3-5." and "10.1.1.10-20": octets from the left, the last may be a range; a partial one ends
 * with a dot. */
static bool parse_octets(const char *text, struct net *out)
{
    struct net n = {.lo = {.family = AF_INET}, .hi = {.family = AF_INET}};
    unsigned count = 0, lo, hi;
    const char *p = text;

    memset(n.hi.ip, 0xff, 4);
    for (;;) {
        char part[8], *dash;
        size_t len = strcspn(p, ".");

        if (len == 0 || len >= sizeof(part) || count == 4)
            return false;
        memcpy(part, p, len);
        part[len] = '\0';
        dash = strchr(part, '-');
        if (dash)
            *dash++ = '\0';
        if (!parse_number(part, 255, &lo) || (dash && !parse_number(dash, 255, &hi)))
            return false;
        if (!dash)
            hi = lo;
        if (hi < lo)
            return false;
        n.lo.ip[count] = (unsigned char)lo;
        n.hi.ip[count++] = (unsigned char)hi;
        p += len;
        if (!*p && count < 4)
            return false;
        if (!*p || !*++p)
            break;
        if (dash)
            return false;
    }
    if (count == 4 && p[-1] == '.')
        return false;
    *out = n;
    return true;
}

bool net_parse(const char *text, struct net *out, struct err *err)
{
    const char *slash = strchr(text, '/'), *dash = strchr(text, '-');
    char first[ADDR_TEXT];

    memset(out, 0, sizeof(*out));
    if (slash)
        return parse_cidr(text, slash, out, err);
    if (addr_parse(text, &out->lo)) {
        out->hi = out->lo;
        return true;
    }
    if (parse_octets(text, out))
        return true;
    if (dash && (size_t)(dash - text) < sizeof(first)) {
        memcpy(first, text, (size_t)(dash - text));
        first[dash - text] = '\0';
        if (addr_parse(first, &out->lo) && addr_parse(dash + 1, &out->hi) &&
            out->lo.family == out->hi.family &&
            memcmp(out->lo.ip, out->hi.ip, ip_len(&out->lo)) <= 0)
            return true;
    }
    return err_set(err, E_INVALID,
                   "%s is not an address, a network (10.1.1.0/24), a range (10.1.1.10-20) "
                   "or a partial address (10.2.3.)",
                   str_printable(text));
}

bool net_has(const struct net *n, const struct addr *a)
{
    return n->lo.family == a->family && memcmp(a->ip, n->lo.ip, ip_len(a)) >= 0 &&
           memcmp(a->ip, n->hi.ip, ip_len(a)) <= 0;
}

static bool is_label_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool host_check(const char *name, struct err *err)
{
    const char *p = name;
    size_t n = strlen(name), len;

    if (n == 0)
        return err_set(err, E_INVALID, "A host name must not be empty");
    if (n > 253)
        return err_set(err, E_INVALID, "A host name has at most 253 characters");
    for (;;) {
        for (len = 0; is_label_char(p[len]); len++)
            ;
        if (p[len] && p[len] != '.')
            return err_set(err, E_INVALID,
                           "%s: a host name consists of letters, digits, hyphens and dots",
                           str_printable(name));
        if (len == 0)
            return err_set(err, E_INVALID, "%s: a part of the name between dots is empty",
                           str_printable(name));
        if (len > 63)
            return err_set(err, E_INVALID, "%s: a part of the name has more than 63 characters",
                           str_printable(name));
        if (p[0] == '-' || p[len - 1] == '-')
            return err_set(err, E_INVALID, "%s: a part of the name begins or ends with a hyphen",
                           str_printable(name));
        if (!p[len])
            return true;
        p += len + 1;
    }
}

bool host_is_fqdn(const char *name)
{
    return host_check(name, NULL) && strchr(name, '.');
}

bool domain_matches(const char *name, const char *pattern)
{
    size_t n = strlen(name), m = strlen(pattern);

    if (pattern[0] == '.')
        return n > m && str_ieq(name + n - m, pattern);
    return str_ieq(name, pattern);
}

bool domain_to_ascii(const char *name, char *out, size_t size, struct err *err)
{
    size_t n = strlen(name);
    char *ascii = NULL, *trimmed;
    bool plain = true, ok;
    int rc;

    if (n > 1024)
        return err_set(err, E_INVALID, "The domain name is too long");
    trimmed = xstrndup(name, n > 1 && name[n - 1] == '.' ? n - 1 : n);
    for (const char *p = trimmed; *p; p++)
        plain = plain && !(*p & 0x80);
    if (plain) { /* the library would refuse names with underscores, which DNS knows */
        ascii = trimmed;
    } else {
        rc = idn2_lookup_u8((const uint8_t *)trimmed, (uint8_t **)&ascii,
                            IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
        free(trimmed);
        if (rc != IDN2_OK)
            return err_set(err, E_INVALID, "%s is not a domain name: %s", str_printable(name),
                           idn2_strerror(rc));
    }
    str_lower(ascii);
    ok = host_check(ascii, err);
    if (ok && strlen(ascii) >= size)
        ok = err_set(err, E_LIMIT, "The domain name is too long");
    if (ok)
        str_copy(out, size, ascii);
    if (plain)
        free(ascii);
    else
        idn2_free(ascii);
    return ok;
}
