/* crl_parse.c - the bytes of a revocation list; see crl_list.h. The library would make a dozen
 * objects of each entry; this walks the DER itself, in two turns: the first looks at everything and
 * counts, the second fills a table of exactly the size that was counted. Nothing is copied from a
 * place whose length was not compared with what is left. */
#include "daemon/crl_list.h"

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "store/authorities.h"
#include "store/base/str.h"

#define TAG_BOOLEAN 0x01
#define TAG_INTEGER 0x02
#define TAG_BIT_STRING 0x03
#define TAG_OCTET_STRING 0x04
#define TAG_OID 0x06
#define TAG_ENUMERATED 0x0a
#define TAG_UTC_TIME 0x17
#define TAG_TIME 0x18
#define TAG_SEQUENCE 0x30
#define CONTEXT(n) (0xa0 + (n)) /* constructed; without 0x20: primitive */

#define MAX_NAME (32u << 10) /* bytes of the issuer */
#define MAX_EXTENSIONS 64u
#define MAX_POINTS 16u /* URLs of the distribution point that are looked at */
#define MAX_POINT 1000u /* bytes of one */
#define NO_REASON 0xff
#define ENTRY_HEAD 6u /* length, date, reason */

/* --- DER ------------------------------------------------------------------------------------ */

struct der {
    const unsigned char *p, *end;
};
struct item {
    unsigned tag;
    const unsigned char *start; /* of its tag */
    struct der in; /* its contents */
};

static size_t left(const struct der *d)
{
    return (size_t)(d->end - d->p);
}

/* The next item, if there is a whole one: definite lengths, written as shortly as they can be. */
static bool next(struct der *d, struct item *out)
{
    const unsigned char *p = d->p;
    size_t n, bytes;

    if (left(d) < 2 || (p[0] & 0x1f) == 0x1f)
        return false;
    out->start = p;
    out->tag = *p++;
    n = *p++;
    if (n & 0x80) {
        bytes = n & 0x7f;
        if (bytes < 1 || bytes > 4 || bytes > (size_t)(d->end - p) || !*p)
            return false;
        for (n = 0; bytes > 0; bytes--)
            n = n << 8 | *p++;
        if (n < 0x80)
            return false;
    }
    if (n > (size_t)(d->end - p))
        return false;
    out->in.p = p;
    out->in.end = p + n;
    d->p = p + n;
    return true;
}

static bool next_is(struct der *d, unsigned tag, struct item *out)
{
    return d->p < d->end && *d->p == tag && next(d, out);
}

static bool damaged(struct err *err, const char *what)
{
    return err_set(err, E_INVALID, "It is not a certificate revocation list: %s.", what);
}

/* The shortest form of an INTEGER's contents. */
static bool integer(struct der *in)
{
    if (in->p == in->end)
        return false;
    while (left(in) > 1 &&
           ((in->p[0] == 0 && !(in->p[1] & 0x80)) || (in->p[0] == 0xff && in->p[1] & 0x80)))
        in->p++;
    return true;
}

static unsigned pair(const unsigned char *p)
{
    return (unsigned)(p[0] - '0') * 10 + (unsigned)(p[1] - '0');
}

static int64_t days_of(int64_t year, unsigned month, unsigned day) /* since 1970; Gregorian */
{
    int64_t y = year - (month <= 2), era = y / 400;
    unsigned of_era = (unsigned)(y - era * 400),
             of_year = (153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;

    return era * 146097 + (int64_t)of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* RFC 5280 section 5.1.2.4: YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from then on. */
static bool time_of(const struct item *t, int64_t *seconds)
{
    const unsigned char *p = t->in.p;
    bool utc = t->tag == TAG_UTC_TIME;
    size_t n = left(&t->in);
    unsigned v[5];
    int64_t year;

    if ((!utc && t->tag != TAG_TIME) || n != (utc ? 13 : 15) || p[n - 1] != 'Z')
        return false;
    for (size_t i = 0; i < n - 1; i++)
        if (p[i] < '0' || p[i] > '9')
            return false;
    year = pair(p);
    year = utc ? year + (year < 50 ? 2000 : 1900) : year * 100 + pair(p + 2);
    p += utc ? 2 : 4;
    for (unsigned i = 0; i < 5; i++, p += 2)
        v[i] = pair(p);
    if (v[0] < 1 || v[0] > 12 || v[1] < 1 || v[1] > 31 || v[2] > 23 || v[3] > 59 || v[4] > 60)
        return false;
    *seconds = days_of(year, v[0], v[1]) * 86400 + v[2] * 3600 + v[3] * 60 + v[4];
    return true;
}

/* --- extensions ------------------------------------------------------------------------------ */

struct extension {
    int nid;
    bool critical;
    struct der oid, value;
};

static void oid_text(const struct der *oid, char *out, size_t size)
{
    ASN1_OBJECT *o = NULL;
    const unsigned char *p = oid->p - 2;

    str_copy(out, size, "unknown");
    if (left(oid) < 128 && (o = d2i_ASN1_OBJECT(NULL, &p, (long)left(oid) + 2)))
        OBJ_obj2txt(out, (int)size, o, 1);
    ASN1_OBJECT_free(o);
}

/* All that matter are id-ce 2.5.29.N. */
static int nid_of(const struct der *oid)
{
    static const struct {
        unsigned char last;
        int nid;
    } known[] = {
        {20, NID_crl_number                },
        {21, NID_crl_reason                },
        {23, NID_hold_instruction_code     },
        {24, NID_invalidity_date           },
        {27, NID_delta_crl                 },
        {28, NID_issuing_distribution_point},
        {29, NID_certificate_issuer        },
        {35, NID_authority_key_identifier  },
    };

    if (left(oid) == 3 && oid->p[0] == 0x55 && oid->p[1] == 0x1d)
        for (size_t i = 0; i < countof(known); i++)
            if (known[i].last == oid->p[2])
                return known[i].nid;
    return NID_undef;
}

static bool next_extension(struct der *all, struct extension *out)
{
    struct item seq, oid, part;

    if (!next_is(all, TAG_SEQUENCE, &seq) || !next_is(&seq.in, TAG_OID, &oid) ||
        oid.in.p == oid.in.end)
        return false;
    out->oid = oid.in;
    out->nid = nid_of(&oid.in);
    out->critical = false;
    if (next_is(&seq.in, TAG_BOOLEAN, &part)) {
        if (left(&part.in) != 1)
            return false;
        out->critical = *part.in.p;
    }
    if (!next_is(&seq.in, TAG_OCTET_STRING, &part) || seq.in.p != seq.in.end)
        return false;
    out->value = part.in;
    return true;
}

static bool unknown_critical(const struct extension *e, const char *where, struct err *err)
{
    char oid[80];

    oid_text(&e->oid, oid, sizeof(oid));
    return err_set(err, E_INVALID,
                   "The list cannot be used: %s has the critical extension %s, which is not known "
                   "here.",
                   where, oid);
}

static const char indirect[] =
    "This is an indirect list: it names certificates of other authorities than its issuer, which "
    "is not supported. Give the URL of the list the authority itself publishes.";
static const char delta[] =
    "This is a delta list: it holds only what changed since another list, which is not supported. "
    "Give the URL of the complete list.";
static const char partial[] =
    "This list holds only revocations for some reasons, which is not supported: other certificates "
    "may be revoked as well. Give the URL of a list for all reasons.";
static const char attributes[] =
    "This list is about attribute certificates; no certificate of TLS is ever in it. Give the URL "
    "of the list of public key certificates.";

static bool refuse(struct err *err, const char *sentence)
{
    return err_set(err, E_INVALID, "%s", sentence);
}

/* The URLs of a full name; RFC 5280 section 4.2.1.13. */
static bool points(const struct der *value, struct crl_list *l)
{
    struct der d = *value;
    struct item full, name;

    l->divided = true;
    if (!next_is(&d, CONTEXT(0), &full)) /* relative to the issuer: nobody writes that */
        return true;
    while (next(&full.in, &name))
        if (name.tag == 0x86 && l->points.n < MAX_POINTS && left(&name.in) <= MAX_POINT)
            strlist_addn(&l->points, (const char *)name.in.p, left(&name.in));
    return full.in.p == full.in.end;
}

/* RFC 5280 section 5.2.5 */
static bool distribution_point(const struct der *value, struct crl_list *l, struct err *err)
{
    struct der d = *value;
    struct item seq, part;
    unsigned scopes = 0;

    if (!next_is(&d, TAG_SEQUENCE, &seq) || d.p != d.end)
        return damaged(err, "its issuing distribution point is damaged");
    while (next(&seq.in, &part)) {
        bool on = left(&part.in) == 1 && *part.in.p;

        if (part.tag == CONTEXT(0) && !points(&part.in, l))
            return damaged(err, "its issuing distribution point is damaged");
        if (part.tag == 0x83)
            return refuse(err, partial);
        if (part.tag == 0x84 && on)
            return refuse(err, indirect);
        if (part.tag == 0x85 && on)
            return refuse(err, attributes);
        if ((part.tag == 0x81 || part.tag == 0x82) && on) {
            l->scope = part.tag == 0x81 ? CRL_USERS : CRL_AUTHORITIES;
            scopes++;
        }
    }
    if (seq.in.p != seq.in.end || scopes > 1)
        return damaged(err, "its issuing distribution point is damaged");
    return true;
}

static bool key_id(const struct der *value, struct crl_list *l)
{
    struct der d = *value;
    struct item seq, part;

    if (!next_is(&d, TAG_SEQUENCE, &seq) || d.p != d.end)
        return false;
    if (!next_is(&seq.in, 0x80, &part)) /* by name and number: our own name is compared anyway */
        return true;
    if (left(&part.in) <= sizeof(l->key_id)) { /* longer ones are nobody's; the signature decides */
        l->key_id_len = (unsigned)left(&part.in);
        memcpy(l->key_id, part.in.p, l->key_id_len);
    }
    return true;
}

static bool number(const struct der *value, struct crl_list *l)
{
    struct der d = *value;
    struct item n;

    if (!next_is(&d, TAG_INTEGER, &n) || d.p != d.end || !integer(&n.in) || *n.in.p & 0x80)
        return false;
    if (!*n.in.p)
        n.in.p++;
    if (left(&n.in) > sizeof(l->number))
        return false;
    l->numbered = true;
    l->number_len = (unsigned)left(&n.in);
    memcpy(l->number, n.in.p, l->number_len);
    return true;
}

static bool look_at_extension(const struct extension *e, struct crl_list *l, struct err *err)
{
    switch (e->nid) {
    case NID_delta_crl:
        return refuse(err, delta);
    case NID_issuing_distribution_point:
        return distribution_point(&e->value, l, err);
    case NID_authority_key_identifier:
        return key_id(&e->value, l) || damaged(err, "its authority key identifier is damaged");
    case NID_crl_number:
        return number(&e->value, l) ||
               damaged(err, "its CRL number is not one of at most 32 bytes");
    default:
        return !e->critical || unknown_critical(e, "it", err);
    }
}

static bool extensions(struct der *in, struct crl_list *l, struct err *err)
{
    struct extension e[MAX_EXTENSIONS];
    struct item seq;
    unsigned n = 0;

    if (!next_is(in, TAG_SEQUENCE, &seq) || in->p != in->end)
        return damaged(err, "its extensions are damaged");
    for (; seq.in.p < seq.in.end; n++) {
        if (n == MAX_EXTENSIONS || !next_extension(&seq.in, &e[n]))
            return damaged(err, "its extensions are damaged");
        for (unsigned i = 0; i < n; i++)
            if (left(&e[i].oid) == left(&e[n].oid) &&
                !memcmp(e[i].oid.p, e[n].oid.p, left(&e[n].oid)))
                return damaged(err, "it has an extension twice");
        if (!look_at_extension(&e[n], l, err))
            return false;
    }
    return true;
}

/* --- entries --------------------------------------------------------------------------------- */

struct entry {
    struct der serial;
    int64_t seconds;
    unsigned char reason;
};

static bool entry_extension(const struct extension *x, struct entry *e, struct err *err)
{
    struct der d = x->value;
    struct item code;

    switch (x->nid) {
    case NID_certificate_issuer:
        return refuse(err, indirect);
    case NID_crl_reason:
        if (!next_is(&d, TAG_ENUMERATED, &code) || d.p != d.end || left(&code.in) != 1)
            return damaged(err, "the reason of an entry is damaged");
        e->reason = *code.in.p;
        return e->reason != CRL_REASON_REMOVE_FROM_CRL ||
               err_set(err, E_INVALID,
                       "The list cannot be used: an entry has the reason removeFromCRL, which only "
                       "a delta list may have.");
    case NID_invalidity_date:
    case NID_hold_instruction_code:
        return true;
    default:
        return !x->critical || unknown_critical(x, "an entry", err);
    }
}

static bool next_entry(struct der *all, struct entry *out, struct err *err)
{
    struct item seq, serial, date, more;

    if (!next_is(all, TAG_SEQUENCE, &seq) || !next_is(&seq.in, TAG_INTEGER, &serial) ||
        !integer(&serial.in) || !next(&seq.in, &date) || !time_of(&date, &out->seconds))
        return damaged(err, "an entry is damaged");
    if (left(&serial.in) > CRL_MAX_SERIAL)
        return err_set(err, E_LIMIT,
                       "The list cannot be used: an entry has a serial number of %zu bytes; %u is "
                       "the most.",
                       left(&serial.in), CRL_MAX_SERIAL);
    out->serial = serial.in;
    out->reason = NO_REASON;
    if (seq.in.p == seq.in.end)
        return true;
    if (!next_is(&seq.in, TAG_SEQUENCE, &more) || seq.in.p != seq.in.end)
        return damaged(err, "an entry is damaged");
    while (more.in.p < more.in.end) {
        struct extension x;

        if (!next_extension(&more.in, &x))
            return damaged(err, "an extension of an entry is damaged");
        if (!entry_extension(&x, out, err))
            return false;
    }
    return true;
}

/* --- the table ------------------------------------------------------------------------------- */

/* Keyed, so that nobody can choose serial numbers that all fall into one place. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)a * b;

    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t hash(const struct crl_list *l, const unsigned char *p, size_t n)
{
    uint64_t h = l->seed[0] ^ n, part;

    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&part, p, 8);
        h = mix(h ^ part, l->seed[1]);
    }
    part = 0;
    memcpy(&part, p, n);
    return mix(h ^ part, l->seed[1] ^ 0x9e3779b97f4a7c15u);
}

/* The slot of this serial number, or the empty one where it would be. */
static uint32_t *slot_of(const struct crl_list *l, const unsigned char *p, size_t n)
{
    uint32_t i = (uint32_t)hash(l, p, n) & l->mask;

    for (; l->slots[i]; i = (i + 1) & l->mask) {
        const unsigned char *e = l->blob + l->slots[i] - 1;

        if (*e == n && !memcmp(e + ENTRY_HEAD, p, n))
            break;
    }
    return &l->slots[i];
}

/* One mapping of its own: the whole of it goes back to the system when the list goes. */
static bool make_table(struct crl_list *l, size_t serials, struct err *err)
{
    size_t slots = 16;

    while (slots < l->entries + l->entries / 2)
        slots *= 2;
    l->mask = (uint32_t)(slots - 1);
    l->map_size = slots * sizeof(uint32_t) + l->entries * ENTRY_HEAD + serials;
    l->map = mmap(NULL, l->map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (l->map == MAP_FAILED) {
        l->map = NULL;
        return err_set(err, E_LIMIT, "There is no memory for a list of %zu entries.", l->entries);
    }
    l->slots = l->map;
    l->blob = (unsigned char *)l->map + slots * sizeof(uint32_t);
    l->memory = l->map_size + sizeof(*l);
    RAND_bytes((unsigned char *)l->seed, sizeof(l->seed));
    l->seed[1] |= 1;
    return true;
}

static void fill_table(struct crl_list *l, struct der all)
{
    unsigned char *at = l->blob;
    struct entry e;

    while (all.p < all.end && next_entry(&all, &e, NULL)) { /* they passed before */
        size_t n = left(&e.serial);
        uint32_t *slot = slot_of(l, e.serial.p, n), date;

        if (*slot) /* listed twice: the first one counts */
            continue;
        *slot = (uint32_t)(at - l->blob) + 1;
        date = e.seconds < 0 ? 0 : e.seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)e.seconds;
        at[0] = (unsigned char)n;
        memcpy(at + 1, &date, 4);
        at[5] = e.reason;
        memcpy(at + ENTRY_HEAD, e.serial.p, n);
        at += ENTRY_HEAD + n;
    }
}

static bool entries(struct crl_list *l, const struct der *all, struct err *err)
{
    struct der d = *all;
    struct entry e;
    size_t serials = 0;

    while (d.p < d.end) {
        if (!next_entry(&d, &e, err))
            return false;
        serials += left(&e.serial);
        if (++l->entries > CRL_MAX_ENTRIES)
            return err_set(err, E_LIMIT, "The list has more than %u entries.", CRL_MAX_ENTRIES);
    }
    if (!make_table(l, serials, err))
        return false;
    fill_table(l, *all);
    return true;
}

bool crl_find_bytes(const struct crl_list *l, const unsigned char *serial, size_t n,
                    struct crl_entry *out)
{
    struct der d = {serial, serial + n};
    const unsigned char *e;
    uint32_t slot, date;

    if (!integer(&d) || left(&d) > CRL_MAX_SERIAL)
        return false;
    slot = *slot_of(l, d.p, left(&d));
    if (!slot)
        return false;
    e = l->blob + slot - 1;
    memcpy(&date, e + 1, 4);
    out->revoked = (usec_t)date * 1000000;
    out->reason = e[5] == NO_REASON ? -1 : e[5];
    return true;
}

bool crl_find(const struct crl_list *l, const ASN1_INTEGER *serial, struct crl_entry *out)
{
    unsigned char der[CRL_MAX_SERIAL + 16], *p = der;
    int n = i2d_ASN1_INTEGER(serial, NULL);

    if (n < 3 || n > (int)CRL_MAX_SERIAL + 2)
        return false;
    i2d_ASN1_INTEGER(serial, &p);
    return crl_find_bytes(l, der + 2, (size_t)n - 2, out);
}

/* --- the whole ------------------------------------------------------------------------------- */

static bool issuer(struct der *in, struct crl_list *l, struct err *err)
{
    const unsigned char *p;
    struct item name;

    if (!next_is(in, TAG_SEQUENCE, &name) || (size_t)(name.in.end - name.start) > MAX_NAME)
        return damaged(err, "its issuer is damaged");
    p = name.start;
    l->issuer = d2i_X509_NAME(NULL, &p, name.in.end - name.start);
    if (!l->issuer || p != name.in.end || !X509_NAME_entry_count(l->issuer))
        return damaged(err, "its issuer is damaged");
    l->issuer_text = authority_dn(l->issuer);
    return true;
}

static bool dates(struct der *in, struct crl_list *l, struct err *err)
{
    struct item t;
    int64_t seconds;

    if (!next(in, &t) || !time_of(&t, &seconds))
        return damaged(err, "its date (thisUpdate) is damaged");
    l->this_update = seconds * 1000000;
    if (in->p < in->end && (*in->p == TAG_UTC_TIME || *in->p == TAG_TIME)) {
        if (!next(in, &t) || !time_of(&t, &seconds))
            return damaged(err, "the date of the next list (nextUpdate) is damaged");
        l->next_update = seconds * 1000000;
        if (l->next_update < l->this_update)
            return damaged(err, "it ends before it begins");
    }
    return true;
}

/* TBSCertList. The version is there from 2 on; version 1 has no extensions. */
static bool contents(struct der in, const struct crl_signed *sig, struct crl_list *l,
                     struct err *err)
{
    struct item part, all = {
                          .in = {in.end, in.end}
    };
    bool v2 = false;

    if (next_is(&in, TAG_INTEGER, &part)) {
        if (left(&part.in) != 1 || *part.in.p != 1)
            return err_set(err, E_INVALID, "The list cannot be used: its version is not 1 or 2.");
        v2 = true;
    }
    if (!next_is(&in, TAG_SEQUENCE, &part))
        return damaged(err, "it names no signature algorithm");
    if ((size_t)(part.in.end - part.start) != sig->algorithm_len ||
        memcmp(part.start, sig->algorithm, sig->algorithm_len) != 0)
        return err_set(err, E_INVALID,
                       "The list cannot be used: it names two different signature algorithms.");
    if (!issuer(&in, l, err) || !dates(&in, l, err))
        return false;
    if (next_is(&in, TAG_SEQUENCE, &part))
        all = part;
    if (next_is(&in, CONTEXT(0), &part)) {
        if (!v2)
            return damaged(err, "it has extensions, but is of version 1");
        if (!extensions(&part.in, l, err))
            return false;
    }
    if (in.p != in.end)
        return damaged(err, "something stands behind its end");
    return entries(l, &all.in, err);
}

struct crl_list *crl_parse(struct slice der, struct crl_signed *sig, struct err *err)
{
    struct der in = {(const unsigned char *)der.p, (const unsigned char *)der.p + der.n};
    struct item whole, tbs, algorithm, signature;
    struct crl_list *l;

    if (der.n > CRL_MAX_DER) {
        err_set(err, E_LIMIT, "The list is longer than %zu MiB.", CRL_MAX_DER >> 20);
        return NULL;
    }
    if (!next_is(&in, TAG_SEQUENCE, &whole) || in.p != in.end ||
        !next_is(&whole.in, TAG_SEQUENCE, &tbs) || !next_is(&whole.in, TAG_SEQUENCE, &algorithm) ||
        !next_is(&whole.in, TAG_BIT_STRING, &signature) || whole.in.p != whole.in.end ||
        left(&signature.in) < 2 || *signature.in.p) {
        damaged(err, "its outermost structure is damaged");
        return NULL;
    }
    *sig = (struct crl_signed){
        .tbs = tbs.start,
        .tbs_len = (size_t)(tbs.in.end - tbs.start),
        .algorithm = algorithm.start,
        .algorithm_len = (size_t)(algorithm.in.end - algorithm.start),
        .signature = signature.in.p + 1,
        .signature_len = left(&signature.in) - 1,
    };
    l = xcalloc(1, sizeof(*l));
    l->refs = 1;
    l->bytes = der.n;
    if (!contents(tbs.in, sig, l, err)) {
        crl_list_free(&l);
        return NULL;
    }
    EVP_Digest(der.p, der.n, l->digest, NULL, EVP_sha256(), NULL);
    return l;
}

struct crl_list *crl_ref(struct crl_list *l)
{
    atomic_fetch_add(&l->refs, 1);
    return l;
}

void crl_list_free(struct crl_list **lp)
{
    struct crl_list *l = *lp;

    *lp = NULL;
    if (!l || atomic_fetch_sub(&l->refs, 1) > 1)
        return;
    if (l->map)
        munmap(l->map, l->map_size);
    X509_NAME_free(l->issuer);
    free(l->issuer_text);
    strlist_free(&l->points);
    free(l);
}

/* --- files ----------------------------------------------------------------------------------- */

#define BEGIN "-----BEGIN X509 CRL-----"
#define END "-----END X509 CRL-----"

bool crl_decode(const void *text, size_t n, bool pem, struct buf *store, struct slice *der,
                struct err *err)
{
    const char *begin = memmem(text, n, BEGIN, strlen(BEGIN)), *end;
    EVP_ENCODE_CTX *ctx;
    char *out;
    int some = 0, rest = 0;
    bool ok;

    if (!pem) {
        *der = (struct slice){text, n};
        return n == 0 || *(const unsigned char *)text == TAG_SEQUENCE || !begin ||
               err_set(err, E_INVALID,
                       "The file is PEM, not ASN.1: change the file type of the source.");
    }
    if (!begin)
        return n > 0 && *(const unsigned char *)text == TAG_SEQUENCE
                   ? err_set(err, E_INVALID,
                             "The file is ASN.1, not PEM: change the file type of the source.")
                   : err_set(err, E_INVALID,
                             "The file holds no certificate revocation list in PEM (\"%s\").",
                             BEGIN);
    begin += strlen(BEGIN);
    end = memmem(begin, n - (size_t)(begin - (const char *)text), END, strlen(END));
    if (!end)
        return err_set(err, E_INVALID, "The file ends before the list does.");
    out = buf_reserve(store, (size_t)(end - begin) / 4 * 3 + 100);
    if (!out)
        return err_set(err, E_LIMIT, "The list is longer than %zu MiB.", CRL_MAX_DER >> 20);
    ctx = EVP_ENCODE_CTX_new();
    EVP_DecodeInit(ctx);
    ok = ctx &&
         EVP_DecodeUpdate(ctx, (unsigned char *)out, &some, (const unsigned char *)begin,
                          (int)(end - begin)) >= 0 &&
         EVP_DecodeFinal(ctx, (unsigned char *)out + some, &rest) == 1;
    EVP_ENCODE_CTX_free(ctx);
    if (!ok)
        return err_set(err, E_INVALID, "The list in the file is not valid base64.");
    store->n += (size_t)(some + rest);
    *der = (struct slice){store->p, store->n};
    return true;
}

/* --- what is asked of a list ----------------------------------------------------------------- */

usec_t crl_ends(const struct crl_list *l)
{
    return l->next_update ? l->next_update : l->this_update + CRL_LIVES;
}

bool crl_is_outdated(const struct crl_list *l, usec_t now)
{
    return now >= crl_ends(l);
}

static int compare_numbers(const struct crl_list *a, const struct crl_list *b)
{
    if (a->number_len != b->number_len)
        return a->number_len < b->number_len ? -1 : 1;
    return memcmp(a->number, b->number, a->number_len);
}

bool crl_may_follow(const struct crl_list *following, const struct crl_list *now, struct err *err)
{
    AUTO(buf) struct buf a = BUF_INIT(100), b = BUF_INIT(100);
    char before[40], after[40];

    if (memcmp(following->authority, now->authority, sizeof(now->authority)) != 0 ||
        X509_NAME_cmp(following->issuer, now->issuer) != 0)
        return true;
    if (following->numbered && now->numbered) {
        if (compare_numbers(following, now) >= 0)
            return true;
        crl_number_text(following, &a);
        crl_number_text(now, &b);
        return err_set(err, E_INVALID,
                       "The list is older than the one in force: its number is %s, after %s.",
                       buf_str(&a), buf_str(&b));
    }
    return following->this_update >= now->this_update ||
           err_set(err, E_INVALID, "The list is older than the one in force: of %s, after %s.",
                   clock_rfc3339(following->this_update, after),
                   clock_rfc3339(now->this_update, before));
}

void crl_number_text(const struct crl_list *l, struct buf *out)
{
    uint64_t n = 0;

    if (!l->numbered)
        return;
    if (l->number_len > 8) {
        buf_str_add(out, "0x");
        for (unsigned i = 0; i < l->number_len; i++)
            buf_printf(out, "%02x", l->number[i]);
        return;
    }
    for (unsigned i = 0; i < l->number_len; i++)
        n = n << 8 | l->number[i];
    buf_printf(out, "%llu", (unsigned long long)n);
}

/* Does the certificate say that its list is to be found where this one is the list of? */
static bool names_point(const struct crl_list *l, const DIST_POINT *d)
{
    const GENERAL_NAMES *names =
        d->distpoint && d->distpoint->type == 0 ? d->distpoint->name.fullname : NULL;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

        for (size_t k = 0; g->type == GEN_URI && k < l->points.n; k++)
            if ((size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier) ==
                    strlen(l->points.items[k]) &&
                !memcmp(ASN1_STRING_get0_data(g->d.uniformResourceIdentifier), l->points.items[k],
                        strlen(l->points.items[k])))
                return true;
    }
    return false;
}

bool crl_is_about(const struct crl_list *l, X509 *x)
{
    bool authority = X509_get_extension_flags(x) & EXFLAG_CA;

    return X509_NAME_cmp(l->issuer, X509_get_issuer_name(x)) == 0 &&
           (l->scope == CRL_ALL || (l->scope == CRL_AUTHORITIES) == authority);
}

bool crl_covers(const struct crl_list *l, X509 *x)
{
    CRL_DIST_POINTS *all;
    bool found = false;

    if (!l->divided)
        return true;
    all = X509_get_ext_d2i(x, NID_crl_distribution_points, NULL, NULL);
    for (int i = 0; i < sk_DIST_POINT_num(all) && !found; i++)
        found = names_point(l, sk_DIST_POINT_value(all, i));
    CRL_DIST_POINTS_free(all);
    return found;
}

const char *crl_reason_text(int reason)
{
    static const char *const words[] = {
        [CRL_REASON_UNSPECIFIED] = "unspecified",
        [CRL_REASON_KEY_COMPROMISE] = "key compromise",
        [CRL_REASON_CA_COMPROMISE] = "compromise of the authority",
        [CRL_REASON_AFFILIATION_CHANGED] = "affiliation changed",
        [CRL_REASON_SUPERSEDED] = "superseded",
        [CRL_REASON_CESSATION_OF_OPERATION] = "cessation of operation",
        [CRL_REASON_CERTIFICATE_HOLD] = "on hold",
        [CRL_REASON_PRIVILEGE_WITHDRAWN] = "privilege withdrawn",
        [CRL_REASON_AA_COMPROMISE] = "compromise of the attribute authority",
    };

    if (reason < 0)
        return "";
    return (size_t)reason < countof(words) && words[reason] ? words[reason] : "unknown reason";
}
