/* ldap_wire.c - see ldap_wire.h. */
#include "daemon/ldap_wire.h"

#include <lber.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { /* tags, RFC 4511 appendix B */
       TAG_INTEGER = 0x02,
       TAG_OCTETS = 0x04,
       TAG_ENUM = 0x0a,
       TAG_SEQUENCE = 0x30,
       TAG_SET = 0x31,
       TAG_UNBIND = 0x42,
       TAG_BIND = 0x60,
       TAG_BIND_ANSWER = 0x61,
       TAG_SEARCH = 0x63,
       TAG_ENTRY = 0x64,
       TAG_DONE = 0x65,
       TAG_REFERENCE = 0x73,
       TAG_EXTENDED = 0x77,
       TAG_EXTENDED_ANSWER = 0x78,
       TAG_SIMPLE = 0x80,
       TAG_SASL = 0xa3,
       TAG_RESPONSE_NAME = 0x8a,
};

#define STARTTLS "1.3.6.1.4.1.1466.20037" /* RFC 4511 section 4.14 */

/* ---- requests ---- */

static BerElement *begin(void)
{
    BerElement *ber = ber_alloc_t(LBER_USE_DER);

    if (!ber)
        abort();
    return ber;
}

/* rc: of the last ber_printf. It fails for want of memory, and never for what is written. */
static void finish(struct buf *out, BerElement *ber, int rc)
{
    struct berval bytes;

    if (rc < 0 || ber_flatten2(ber, &bytes, 0) < 0)
        abort();
    buf_add(out, bytes.bv_val, bytes.bv_len);
    OPENSSL_cleanse(bytes.bv_val, bytes.bv_len);
    ber_free(ber, 1);
}

void ldap_put_bind(struct buf *out, int id, const char *dn, const char *password)
{
    BerElement *ber = begin();

    finish(out, ber,
           ber_printf(ber, "{it{ists}}", id, (ber_tag_t)TAG_BIND, 3, dn, (ber_tag_t)TAG_SIMPLE,
                      password));
}

void ldap_put_bind_external(struct buf *out, int id)
{
    BerElement *ber = begin();

    finish(out, ber,
           ber_printf(ber, "{it{ist{ss}}}", id, (ber_tag_t)TAG_BIND, 3, "", (ber_tag_t)TAG_SASL,
                      "EXTERNAL", ""));
}

void ldap_put_starttls(struct buf *out, int id)
{
    BerElement *ber = begin();

    finish(
        out, ber,
        ber_printf(ber, "{it{ts}}", id, (ber_tag_t)TAG_EXTENDED, (ber_tag_t)TAG_SIMPLE, STARTTLS));
}

void ldap_put_unbind(struct buf *out, int id)
{
    BerElement *ber = begin();

    finish(out, ber, ber_printf(ber, "{itn}", id, (ber_tag_t)TAG_UNBIND));
}

static void put_octets(BerElement *ber, ber_tag_t tag, struct slice s)
{
    if (ber_printf(ber, "to", tag, s.n ? s.p : "", (ber_len_t)s.n) < 0)
        abort();
}

static void put_substrings(BerElement *ber, const struct ldap_node *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->parts[i].n)
            put_octets(ber, i == 0 ? 0x80 : i + 1 < f->n ? 0x81 : 0x82, f->parts[i]);
}

/* Filter, RFC 4511 section 4.5.1. */
static void put_filter(BerElement *ber, const struct ldap_node *f)
{
    static const unsigned char tags[] = {
        [LDAP_AND] = 0xa0,        [LDAP_OR] = 0xa1,      [LDAP_NOT] = 0xa2,  [LDAP_EQUAL] = 0xa3,
        [LDAP_SUBSTRINGS] = 0xa4, [LDAP_GREATER] = 0xa5, [LDAP_LESS] = 0xa6, [LDAP_PRESENT] = 0x87,
        [LDAP_APPROX] = 0xa8,     [LDAP_MATCH] = 0xa9,
    };
    int rc = 0;

    if (f->op == LDAP_PRESENT) {
        put_octets(ber, tags[f->op], f->attribute);
        return;
    }
    rc |= ber_printf(ber, "t{", (ber_tag_t)tags[f->op]);
    for (const struct ldap_node *c = f->child; c; c = c->next)
        put_filter(ber, c);
    switch (f->op) {
    case LDAP_SUBSTRINGS:
        put_octets(ber, TAG_OCTETS, f->attribute);
        rc |= ber_printf(ber, "{");
        put_substrings(ber, f);
        rc |= ber_printf(ber, "}");
        break;
    case LDAP_MATCH:
        if (f->rule.n)
            put_octets(ber, 0x81, f->rule);
        if (f->attribute.n)
            put_octets(ber, 0x82, f->attribute);
        put_octets(ber, 0x83, f->parts[0]);
        if (f->dn)
            rc |= ber_printf(ber, "tb", (ber_tag_t)0x84, 1);
        break;
    case LDAP_AND:
    case LDAP_OR:
    case LDAP_NOT:
        break;
    default:
        put_octets(ber, TAG_OCTETS, f->attribute);
        put_octets(ber, TAG_OCTETS, f->parts[0]);
    }
    rc |= ber_printf(ber, "}");
    if (rc < 0)
        abort();
}

void ldap_put_search(struct buf *out, int id, const struct ldap_search *s)
{
    BerElement *ber = begin();

    /* Aliases are never followed: who is found is who stands there. */
    if (ber_printf(ber, "{it{seeiib", id, (ber_tag_t)TAG_SEARCH, s->base,
                   (ber_int_t)(s->base_only ? 0 : 2), (ber_int_t)0, (ber_int_t)s->size_limit,
                   (ber_int_t)s->time_limit, 0) < 0)
        abort();
    put_filter(ber, s->filter);
    finish(out, ber, ber_printf(ber, "{s}}}", s->attribute ? s->attribute : "1.1"));
}

/* ---- answers ---- */

/* Tag and length at the beginning of in; *head: bytes they take. 0: more are needed; -1: not what
 * LDAP uses. */
static int read_head(struct slice in, unsigned *tag, size_t *head, size_t *length)
{
    const unsigned char *p = (const unsigned char *)in.p;
    unsigned n;

    if (in.n < 2)
        return 0;
    *tag = p[0];
    *head = 2;
    *length = p[1];
    if ((p[0] & 0x1f) == 0x1f || p[1] == 0x80) /* no tags of several bytes; definite lengths */
        return -1;
    if (p[1] < 0x80)
        return 1;
    n = p[1] & 0x7f;
    if (n > 4)
        return -1;
    if (in.n < 2 + n)
        return 0;
    *length = 0;
    for (unsigned i = 0; i < n; i++)
        *length = *length << 8 | p[2 + i];
    *head += n;
    return 1;
}

/* The next element of in; in moves behind it. false: there is none that fits. */
static bool take(struct slice *in, unsigned *tag, struct slice *content)
{
    size_t head, length;

    if (read_head(*in, tag, &head, &length) != 1 || length > in->n - head)
        return false;
    *content = (struct slice){in->p + head, length};
    in->p += head + length;
    in->n -= head + length;
    return true;
}

static bool take_tag(struct slice *in, unsigned want, struct slice *content)
{
    unsigned tag;

    return take(in, &tag, content) && tag == want;
}

static bool take_number(struct slice *in, unsigned want, int *out)
{
    struct slice s;
    long long value;

    if (!take_tag(in, want, &s) || s.n < 1 || s.n > 4)
        return false;
    value = (unsigned char)s.p[0] & 0x80 ? -1 : 0; /* two's complement */
    for (size_t i = 0; i < s.n; i++)
        value = value * 256 + (unsigned char)s.p[i];
    *out = (int)value;
    return true;
}

bool ldap_frame(struct slice in, size_t *length, struct err *err)
{
    size_t head = 0, content = 0;
    unsigned tag = 0;
    int known = read_head(in, &tag, &head, &content);

    *length = 0;
    if (known < 0 || (in.n && (unsigned char)in.p[0] != TAG_SEQUENCE))
        return err_set(err, E_PROTOCOL, "the server does not speak LDAP");
    if (known && content > LDAP_MESSAGE_MAX - head)
        return err_set(err, E_PROTOCOL, "the server sends a message of %zu bytes", content);
    if (known && in.n >= head + content)
        *length = head + content;
    return true;
}

/* LDAPResult, and what follows it in an extended response. */
static bool parse_result(struct slice in, struct ldap_message *out)
{
    unsigned tag;
    struct slice s;

    if (!take_number(&in, TAG_ENUM, &out->code) || !take_tag(&in, TAG_OCTETS, &out->dn) ||
        !take_tag(&in, TAG_OCTETS, &out->text))
        return false;
    while (in.n) {
        if (!take(&in, &tag, &s))
            return false;
        if (tag == TAG_RESPONSE_NAME)
            out->oid = s;
    }
    return true;
}

/* Are the attributes of an entry what they should be? Every length is looked at here, once. */
static bool check_attributes(struct slice list)
{
    struct slice attribute, name, values, value;

    while (list.n) {
        if (!take_tag(&list, TAG_SEQUENCE, &attribute) ||
            !take_tag(&attribute, TAG_OCTETS, &name) || !take_tag(&attribute, TAG_SET, &values) ||
            attribute.n)
            return false;
        while (values.n)
            if (!take_tag(&values, TAG_OCTETS, &value))
                return false;
    }
    return true;
}

static bool parse_operation(unsigned tag, struct slice in, struct ldap_message *out)
{
    switch (tag) {
    case TAG_BIND_ANSWER:
        out->kind = LDAP_BIND_ANSWER;
        return parse_result(in, out);
    case TAG_DONE:
        out->kind = LDAP_SEARCH_DONE;
        return parse_result(in, out);
    case TAG_EXTENDED_ANSWER:
        out->kind = LDAP_EXTENDED;
        return parse_result(in, out);
    case TAG_ENTRY:
        out->kind = LDAP_ENTRY;
        return take_tag(&in, TAG_OCTETS, &out->dn) &&
               take_tag(&in, TAG_SEQUENCE, &out->attributes) && !in.n &&
               check_attributes(out->attributes);
    case TAG_REFERENCE:
        out->kind = LDAP_REFERENCE;
        return true;
    default:
        out->kind = LDAP_OTHER_ANSWER;
        return true;
    }
}

bool ldap_parse(struct slice message, struct ldap_message *out, struct err *err)
{
    struct slice in, operation;
    unsigned tag;

    memset(out, 0, sizeof(*out));
    out->dn = out->text = out->oid = out->attributes = (struct slice){"", 0};
    if (!take_tag(&message, TAG_SEQUENCE, &in) || message.n ||
        !take_number(&in, TAG_INTEGER, &out->id) || out->id < 0 || !take(&in, &tag, &operation) ||
        !parse_operation(tag, operation, out))
        return err_set(err, E_PROTOCOL, "the server's message is not LDAP");
    return true;
}

void ldap_entry_values(const struct ldap_message *entry, const char *attribute, size_t max,
                       struct strlist *out)
{
    struct slice list = entry->attributes, one, name, values = {"", 0}, value;
    size_t n = 0;
    bool found = false;

    for (; list.n && !found; n++) {
        if (!take_tag(&list, TAG_SEQUENCE, &one) || !take_tag(&one, TAG_OCTETS, &name) ||
            !take_tag(&one, TAG_SET, &values))
            return;
        found = slice_ieq(name, attribute);
    }
    if (!found && n != 1)
        return;
    while (out->n < max && values.n && take_tag(&values, TAG_OCTETS, &value))
        if (!memchr(value.p, '\0', value.n))
            strlist_addn(out, value.p, value.n);
}

/* ---- results ---- */

const char *ldap_result_name(int code)
{
    static const char *const names[] = {
        [0] = "success",
        [1] = "operationsError",
        [2] = "protocolError",
        [3] = "timeLimitExceeded",
        [4] = "sizeLimitExceeded",
        [5] = "compareFalse",
        [6] = "compareTrue",
        [7] = "authMethodNotSupported",
        [8] = "strongerAuthRequired",
        [10] = "referral",
        [11] = "adminLimitExceeded",
        [12] = "unavailableCriticalExtension",
        [13] = "confidentialityRequired",
        [14] = "saslBindInProgress",
        [16] = "noSuchAttribute",
        [17] = "undefinedAttributeType",
        [18] = "inappropriateMatching",
        [19] = "constraintViolation",
        [20] = "attributeOrValueExists",
        [21] = "invalidAttributeSyntax",
        [32] = "noSuchObject",
        [33] = "aliasProblem",
        [34] = "invalidDNSyntax",
        [36] = "aliasDereferencingProblem",
        [48] = "inappropriateAuthentication",
        [49] = "invalidCredentials",
        [50] = "insufficientAccessRights",
        [51] = "busy",
        [52] = "unavailable",
        [53] = "unwillingToPerform",
        [54] = "loopDetect",
        [64] = "namingViolation",
        [65] = "objectClassViolation",
        [66] = "notAllowedOnNonLeaf",
        [67] = "notAllowedOnRDN",
        [68] = "entryAlreadyExists",
        [69] = "objectClassModsProhibited",
        [71] = "affectsMultipleDSAs",
        [80] = "other",
    };

    return code >= 0 && (size_t)code < countof(names) && names[code] ? names[code] : "unknown";
}

void ldap_result_text(int code, char out[80])
{
    snprintf(out, 80, "<LDAP Error \"%s\" [0x%02x]>", ldap_result_name(code), (unsigned)code);
}
