/* dns_answer.c - see dns_answer.h. */
#include "daemon/dns_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MAX_TLSA 100u
#define MAX_TEXTS 100u
#define MAX_MX 100u
#define MAX_ADDRESSES 100u

static const struct {
    const char *name;
    int type;
} types[] = {
    {"A",      TYPE_A     },
    {"NS",     TYPE_NS    },
    {"CNAME",  TYPE_CNAME },
    {"SOA",    TYPE_SOA   },
    {"PTR",    TYPE_PTR   },
    {"MX",     TYPE_MX    },
    {"TXT",    TYPE_TXT   },
    {"AAAA",   TYPE_AAAA  },
    {"SRV",    TYPE_SRV   },
    {"DS",     TYPE_DS    },
    {"RRSIG",  TYPE_RRSIG },
    {"DNSKEY", TYPE_DNSKEY},
    {"TLSA",   TYPE_TLSA  },
    {"CAA",    TYPE_CAA   },
};

/* --- answers --- */

struct dns_answer *dns_answer_new(const char *name, const char *canonical, int type,
                                  enum dns_status status, const struct dns_rdata *rdata, size_t n)
{
    struct dns_answer *a;
    unsigned char *p;
    size_t total = 0, len;

    if (n > DNS_MAX_RECORDS)
        n = DNS_MAX_RECORDS;
    for (size_t i = 0; i < n; i++)
        total += rdata[i].n;
    total += sizeof(*a) + n * sizeof(struct dns_rdata);
    a = xcalloc(1, total);
    a->refs = 1;
    a->status = status;
    a->type = type;
    a->bytes = total;
    a->made = clock_now();
    str_copy(a->canonical, sizeof(a->canonical), canonical && *canonical ? canonical : name);
    len = strlen(a->canonical);
    if (len > 1 && a->canonical[len - 1] == '.')
        a->canonical[len - 1] = '\0';
    str_lower(a->canonical);
    a->n = (unsigned)n;
    a->rdata = (struct dns_rdata *)(a + 1);
    p = (unsigned char *)(a->rdata + n);
    for (size_t i = 0; i < n; i++) {
        if (rdata[i].n)
            memcpy(p, rdata[i].p, rdata[i].n);
        a->rdata[i] = (struct dns_rdata){p, rdata[i].n};
        p += rdata[i].n;
    }
    return a;
}

struct dns_answer *dns_answer_ref(struct dns_answer *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void dns_answer_free(struct dns_answer **ap)
{
    struct dns_answer *a = *ap;

    *ap = NULL;
    if (a && atomic_fetch_sub(&a->refs, 1) == 1)
        free(a);
}

unsigned dns_answer_ttl(const struct dns_answer *a)
{
    msec_t age = (clock_now() - a->made) / 1000;

    return age < (msec_t)a->ttl ? a->ttl - (unsigned)age : 0;
}

static enum dns_security security_of(const struct dns_answer *a)
{
    return a->secure ? DNS_SECURE : DNS_INSECURE;
}

/* --- rdata --- */

bool dns_wire_name(const unsigned char *p, size_t n, char *out, size_t size, size_t *used_up)
{
    size_t used = 0, at = 0;

    while (at < n && p[at]) {
        size_t label = p[at++];

        if (label > 63 || at + label > n || used + label + 2 > size || at + label > 254)
            return false;
        for (size_t i = 0; i < label; i++) {
            unsigned char c = p[at + i];

            /* No host is called so, and a trace line or a report has other uses for these. */
            if (c <= ' ' || c >= 127 || strchr(".\\()<>[]@,;:\"", c))
                return false;
            out[used++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        out[used++] = '.';
        at += label;
    }
    out[used ? used - 1 : 0] = '\0';
    if (used_up)
        *used_up = at + 1;
    return at < n;
}

struct preferred {
    unsigned preference, random;
    const struct dns_rdata *rdata;
};

static int by_preference(const void *a, const void *b)
{
    const struct preferred *x = a, *y = b;

    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return x->random < y->random ? -1 : x->random > y->random;
}

/* RFC 5321 section 5.1: hosts of equal preference in random order. Of a list without end the best
 * are kept. */
void dns_answer_mx(const struct dns_answer *a, struct dns_mx *out)
{
    struct preferred *list;
    uint32_t random = 0;
    unsigned n = 0;

    memset(out, 0, sizeof(*out));
    out->status = a->status;
    out->security = security_of(a);
    out->unvalidated = a->unvalidated;
    out->ttl = dns_answer_ttl(a);
    str_copy(out->canonical, sizeof(out->canonical), a->canonical);
    if (a->status != DNS_OK)
        return;
    if (getrandom(&random, sizeof(random), 0) < 0 || !random)
        random = 1;
    list = xcalloc(a->n ? a->n : 1, sizeof(*list));
    for (unsigned i = 0; i < a->n; i++) {
        const struct dns_rdata *r = &a->rdata[i];

        if (r->n < 3)
            continue;
        list[n].preference = (unsigned)r->p[0] << 8 | r->p[1];
        list[n].rdata = r;
        random ^= random << 13; /* xorshift: fair enough, and one system call is enough */
        random ^= random >> 17;
        random ^= random << 5;
        list[n].random = random;
        n++;
    }
    qsort(list, n, sizeof(*list), by_preference);
    out->hosts = xcalloc(n < MAX_MX ? n + 1 : MAX_MX, sizeof(struct mx));
    for (unsigned i = 0; i < n && out->n < MAX_MX; i++) {
        struct mx *mx = &out->hosts[out->n];

        if (!dns_wire_name(list[i].rdata->p + 2, list[i].rdata->n - 2, mx->host, sizeof(mx->host),
                           NULL))
            continue;
        mx->preference = list[i].preference;
        if (*mx->host)
            out->n++;
        else
            out->null_mx = n == 1;
    }
    free(list);
    if (!out->n && !out->null_mx)
        out->status = DNS_NODATA; /* nothing in it is a host */
}

void dns_answer_addresses(const struct dns_answer *a, struct dns_addrs *out)
{
    int family = a->type == TYPE_A ? AF_INET : AF_INET6;
    size_t size = family == AF_INET ? 4 : 16;

    if (a->status != DNS_OK)
        return;
    out->addrs = xrealloc(out->addrs, (out->n + a->n + 1) * sizeof(struct addr));
    for (unsigned i = 0; i < a->n && out->n < MAX_ADDRESSES; i++) {
        struct addr *addr = &out->addrs[out->n];

        if (a->rdata[i].n != size)
            continue;
        memset(addr, 0, sizeof(*addr));
        addr->family = family;
        memcpy(addr->ip, a->rdata[i].p, size);
        out->n++;
    }
}

void dns_answer_tlsa(const struct dns_answer *a, struct dns_tlsa *out)
{
    memset(out, 0, sizeof(*out));
    out->status = a->status;
    out->security = security_of(a);
    out->ttl = dns_answer_ttl(a);
    str_copy(out->canonical, sizeof(out->canonical), a->canonical);
    if (a->status != DNS_OK)
        return;
    out->records = xcalloc(a->n < MAX_TLSA ? a->n + 1 : MAX_TLSA, sizeof(struct tlsa));
    for (unsigned i = 0; i < a->n && out->n < MAX_TLSA; i++) {
        const struct dns_rdata *r = &a->rdata[i];
        struct tlsa *t = &out->records[out->n];

        if (r->n < 3) /* one without association data is unusable, but it is a record (RFC 7671
                         section 4.1) */
            continue;
        t->usage = r->p[0];
        t->selector = r->p[1];
        t->matching = r->p[2];
        t->len = (unsigned)(r->n - 3);
        t->data = xmalloc(t->len ? t->len : 1);
        memcpy(t->data, r->p + 3, t->len);
        out->n++;
    }
    if (!out->n)
        out->status = DNS_NODATA;
}

void dns_answer_texts(const struct dns_answer *a, struct dns_texts *out)
{
    memset(out, 0, sizeof(*out));
    out->status = a->status;
    out->security = security_of(a);
    out->ttl = dns_answer_ttl(a);
    if (a->status != DNS_OK)
        return;
    for (unsigned i = 0; i < a->n && out->texts.n < MAX_TEXTS; i++) {
        const struct dns_rdata *r = &a->rdata[i];
        AUTO(buf) struct buf text = BUF_INIT(65536);
        size_t at = 0;

        while (at < r->n && at + 1 + r->p[at] <= r->n) {
            buf_add(&text, r->p + at + 1, r->p[at]);
            at += 1 + (size_t)r->p[at];
        }
        if (at == r->n && r->n && !memchr(buf_str(&text), '\0', text.n))
            strlist_addn(&out->texts, buf_str(&text), text.n);
    }
    if (!out->texts.n)
        out->status = DNS_NODATA;
}

/* --- as text --- */

const char *dns_type_name(int type)
{
    static _Thread_local char ring[4][16];
    static _Thread_local unsigned turn;
    char *out;

    for (size_t i = 0; i < countof(types); i++)
        if (types[i].type == type)
            return types[i].name;
    out = ring[turn++ % countof(ring)];
    snprintf(out, sizeof(ring[0]), "TYPE%d", type);
    return out;
}

int dns_type_of(const char *name)
{
    for (size_t i = 0; i < countof(types); i++)
        if (str_ieq(types[i].name, name))
            return types[i].type;
    if (str_istarts(name, "TYPE") && name[4] >= '0' && name[4] <= '9' && strlen(name) <= 9) {
        char *end;
        long n = strtol(name + 4, &end, 10);

        if (!*end && n > 0 && n < 65536)
            return (int)n;
    }
    return -1;
}

static void add_hex(struct buf *out, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%02X", p[i]);
}

static bool add_name(struct buf *out, const unsigned char *p, size_t n, size_t *used)
{
    char name[256];

    if (!dns_wire_name(p, n, name, sizeof(name), used))
        return false;
    buf_printf(out, "%s.", name);
    return true;
}

static unsigned u16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static unsigned u32(const unsigned char *p)
{
    return u16(p) << 16 | u16(p + 2);
}

static bool add_soa(struct buf *out, const unsigned char *p, size_t n)
{
    size_t first, second;

    if (!add_name(out, p, n, &first))
        return false;
    buf_char(out, ' ');
    if (!add_name(out, p + first, n - first, &second) || n != first + second + 20)
        return false;
    p += first + second;
    buf_printf(out, " %u %u %u %u %u", u32(p), u32(p + 4), u32(p + 8), u32(p + 12), u32(p + 16));
    return true;
}

static void add_string(struct buf *out, const unsigned char *p, size_t n)
{
    size_t start = 0;

    buf_char(out, '"');
    for (size_t i = 0; i <= n; i++)
        if (i == n || p[i] == '"') {
            str_escape(out, (const char *)p + start, i - start);
            if (i < n)
                buf_str_add(out, "\\\"");
            start = i + 1;
        }
    buf_char(out, '"');
}

static bool add_strings(struct buf *out, const unsigned char *p, size_t n)
{
    for (size_t at = 0; at < n; at += 1 + (size_t)p[at]) {
        if (at + 1 + p[at] > n)
            return false;
        if (at)
            buf_char(out, ' ');
        add_string(out, p + at + 1, p[at]);
    }
    return n > 0;
}

static bool add_known(struct buf *out, int type, const unsigned char *p, size_t n)
{
    struct addr a = {.family = type == TYPE_A ? AF_INET : AF_INET6};
    char text[ADDR_TEXT];

    switch (type) {
    case TYPE_A:
    case TYPE_AAAA:
        if (n != (type == TYPE_A ? 4u : 16u))
            return false;
        memcpy(a.ip, p, n);
        buf_str_add(out, addr_text(&a, text));
        return true;
    case TYPE_NS:
    case TYPE_CNAME:
    case TYPE_PTR:
        return add_name(out, p, n, NULL);
    case TYPE_MX:
        if (n < 3)
            return false;
        buf_printf(out, "%u ", u16(p));
        return add_name(out, p + 2, n - 2, NULL);
    case TYPE_SRV:
        if (n < 7)
            return false;
        buf_printf(out, "%u %u %u ", u16(p), u16(p + 2), u16(p + 4));
        return add_name(out, p + 6, n - 6, NULL);
    case TYPE_SOA:
        return add_soa(out, p, n);
    case TYPE_TXT:
        return add_strings(out, p, n);
    case TYPE_TLSA:
        if (n < 3)
            return false;
        buf_printf(out, "%u %u %u ", p[0], p[1], p[2]);
        add_hex(out, p + 3, n - 3);
        return true;
    case TYPE_DS:
        if (n < 4)
            return false;
        buf_printf(out, "%u %u %u ", u16(p), p[2], p[3]);
        add_hex(out, p + 4, n - 4);
        return true;
    case TYPE_CAA:
        if (n < 2 || (size_t)p[1] + 2 > n)
            return false;
        buf_printf(out, "%u ", p[0]);
        str_escape(out, (const char *)p + 2, p[1]);
        buf_char(out, ' ');
        add_string(out, p + 2 + p[1], n - 2 - p[1]);
        return true;
    default:
        return false;
    }
}

void dns_rdata_text(int type, const struct dns_rdata *r, struct buf *out)
{
    size_t before = out->n;

    if (add_known(out, type, r->p, r->n))
        return;
    if (out->p) {
        out->n = before;
        out->p[before] = '\0';
    }
    buf_printf(out, "\\# %zu ", r->n);
    add_hex(out, r->p, r->n);
}

const char *dns_rcode_name(int rcode)
{
    static const char *const names[] = {"NOERROR",  "FORMERR", "SERVFAIL",
                                        "NXDOMAIN", "NOTIMP",  "REFUSED"};
    static _Thread_local char number[16];

    if (rcode >= 0 && (size_t)rcode < countof(names))
        return names[rcode];
    snprintf(number, sizeof(number), "code %d", rcode);
    return number;
}
