/* dane.c - see dane.h. The order of the questions is that of RFC 7672 section 2.2: nothing is asked
 * below a name whose addresses are not signed (some large hosters answer SERVFAIL for TLSA there),
 * and an answer that did not come is never taken for "none". */
#include "daemon/dane.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker.h"
#include "store/base/str.h"

#define MAX_NAME 253 /* characters of a domain name in its text form */

static void say(struct dane *d, const char *text)
{
    str_copy(d->why, sizeof(d->why), str_printable(text));
}

static void failed(struct dane *d, const char *why)
{
    say(d, why);
    d->state = DANE_FAILED;
}

/* --- usable for SMTP? (RFC 7672 sections 2.1.1 and 3.1, RFC 7671 section 5) --- */

/* A full certificate or key has to be one, to the last octet. */
static bool parses(const struct tlsa *t)
{
    const unsigned char *p = t->data;
    X509 *cert;
    EVP_PKEY *key;
    bool ok;

    if (t->selector == 0) {
        cert = d2i_X509(NULL, &p, (long)t->len);
        ok = cert && p == t->data + t->len && X509_get0_pubkey(cert);
        X509_free(cert);
    } else {
        key = d2i_PUBKEY(NULL, &p, (long)t->len);
        ok = key && p == t->data + t->len;
        EVP_PKEY_free(key);
    }
    ERR_clear_error();
    return ok;
}

const char *tlsa_unusable(const struct tlsa *t)
{
    if (t->usage == 0)
        return "usage 0 (PKIX-TA) is not for SMTP";
    if (t->usage == 1)
        return "usage 1 (PKIX-EE) is not for SMTP";
    if (t->usage > 3)
        return "its usage is unknown";
    if (t->selector > 1)
        return "its selector is unknown";
    switch (t->matching) {
    case 0:
        if (!t->len || !parses(t))
            return t->selector ? "it holds no public key" : "it holds no certificate";
        return NULL;
    case 1:
        return t->len == 32 ? NULL : "a SHA-256 digest has 32 octets";
    case 2:
        return t->len == 64 ? NULL : "a SHA-512 digest has 64 octets";
    default:
        return "its matching type is unknown";
    }
}

void tlsa_format(const struct tlsa *t, char *out, size_t size)
{
    int n = snprintf(out, size, "%u %u %u ", t->usage, t->selector, t->matching);
    size_t used = n > 0 ? (size_t)n : 0;

    for (unsigned i = 0; i < t->len && used + 3 <= size; i++, used += 2)
        snprintf(out + used, size - used, "%02x", t->data[i]);
}

struct sorting {
    struct dns_tlsa *from;
    struct dane *to;
};

/* Usable records move from the answer to the finding. */
static bool sort_records(void *arg, struct err *err)
{
    struct sorting *s = arg;
    struct dane *d = s->to;
    unsigned n = s->from->n;

    (void)err;
    d->records = xcalloc(n ? n : 1, sizeof(*d->records));
    for (unsigned i = 0; i < n; i++) {
        struct tlsa *t = &s->from->records[i];
        const char *why = tlsa_unusable(t);

        if (!why && d->n < DANE_MAX_RECORDS) {
            d->records[d->n++] = *t;
            memset(t, 0, sizeof(*t));
            continue;
        }
        if (why && !*d->why) {
            char text[200], record[23]; /* enough to know it by */

            tlsa_format(t, record, sizeof(record));
            snprintf(text, sizeof(text), "%s...: %s", record, why);
            say(d, text);
        }
        d->unusable++;
    }
    return true;
}

static void take_records(struct dns_tlsa *answer, struct dane *d)
{
    struct sorting s = {answer, d};
    bool full = false;

    for (unsigned i = 0; i < answer->n; i++)
        full |= answer->records[i].matching == 0;
    if (full) /* OpenSSL's decoders want more stack than a fiber has */
        worker_call(sort_records, &s, NULL); /* YIELDS */
    else
        sort_records(&s, NULL);
    d->state = d->n ? DANE_USABLE : DANE_UNUSABLE;
    if (d->n)
        d->why[0] = '\0';
    else if (!*d->why)
        say(d, "no record of the answer is complete");
}

/* --- looking up --- */

/* YIELDS. true: this name settles it, one way or the other. */
static bool ask_below(const char *base, unsigned port, msec_t deadline, struct dane *d)
{
    char name[300];
    struct dns_tlsa answer;
    struct err err = {0};
    bool settled = true;

    if (snprintf(name, sizeof(name), "_%u._tcp.%s", port, base) > MAX_NAME)
        return false; /* no such name can exist */
    d->asked = true;
    if (!dns_tlsa(name, deadline, &answer, &err)) {
        failed(d, err.text);
    } else {
        if (answer.ttl < d->ttl)
            d->ttl = answer.ttl;
        if (answer.status == DNS_OK && answer.security == DNS_SECURE) {
            str_copy(d->base, sizeof(d->base), base);
            take_records(&answer, d);
        } else {
            settled = false;
        }
    }
    d->status = answer.status;
    d->security = answer.security;
    dns_tlsa_free(&answer);
    return settled;
}

/* YIELDS. The addresses are not signed, but a signed alias may lead to them: then the owner of the
 * alias can vouch for the host all the same (RFC 7672 section 2.2.2). */
static bool alias_is_signed(const char *host, msec_t deadline, struct dane *d)
{
    char target[256] = "";
    enum dns_security security = DNS_INSECURE;
    struct err err = {0};

    if (!dns_cname(host, deadline, target, &security, &err)) {
        failed(d, err.text);
        return false;
    }
    return *target && security == DNS_SECURE;
}

void dane_look_up(const char *host, unsigned port, bool mx_secure, const struct dns_addrs *addrs,
                  msec_t deadline, struct dane *out)
{
    bool alias = *addrs->canonical && !str_ieq(addrs->canonical, host);
    struct addr literal;

    memset(out, 0, sizeof(*out));
    out->state = DANE_NO_RECORDS;
    out->ttl = addrs->ttl;
    str_copy(out->base, sizeof(out->base), host);
    if (addr_parse(host, &literal))
        return; /* an address has no name to look under */
    /* Whoever can strip signatures on the way to us could otherwise switch DANE off. */
    if (!dns_validates()) {
        failed(out, "no DNS server in use passes on DNSSEC (dnsstatus says why)");
        return;
    }
    if (addrs->unvalidated) {
        failed(out, "its MX and addresses were asked for before answers were validated");
        return;
    }
    if (addrs->status == DNS_SERVFAIL || addrs->status == DNS_TIMEOUT ||
        addrs->status == DNS_BOGUS) {
        char why[400];

        snprintf(why, sizeof(why), "the addresses of %s: %s", host, dns_status_name(addrs->status));
        failed(out, why);
        return;
    }
    if (!mx_secure) {
        out->state = DANE_INSECURE_MX;
        return;
    }
    if (addrs->status != DNS_OK)
        return;
    if (addrs->security != DNS_SECURE) {
        if (!alias || !alias_is_signed(host, deadline, out)) {
            if (out->state != DANE_FAILED)
                out->state = DANE_INSECURE_HOST;
            return;
        }
    } else if (alias && ask_below(addrs->canonical, port, deadline, out)) {
        return;
    }
    ask_below(host, port, deadline, out);
}

void dane_free(struct dane *d)
{
    for (unsigned i = 0; i < d->n; i++)
        free(d->records[i].data);
    free(d->records);
    memset(d, 0, sizeof(*d));
}
