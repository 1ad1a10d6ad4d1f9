/* authorities.c - see authorities.h. */
#include "store/authorities.h"

#include <ctype.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/map.h"
#include "store/base/net.h"
#include "store/base/str.h"
#include "store/x509_lib.h"

void authority_fingerprint(const X509 *x, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    out[0] = '\0';
    if (X509_digest(x, EVP_sha256(), digest, &n) == 1)
        for (unsigned i = 0; i < 32; i++)
            snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void authorities_free(struct authorities *a)
{
    for (size_t i = 0; i < a->n; i++)
        X509_free(a->items[i]);
    free(a->items);
    memset(a, 0, sizeof(*a));
}

static void add(struct authorities *a, struct map *seen, X509 *x)
{
    char print[65];

    authority_fingerprint(x, print);
    if (map_get(seen, print)) {
        a->repeated++;
        X509_free(x);
        return;
    }
    map_set(seen, print, x);
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 64;
        a->items = xrealloc(a->items, a->cap * sizeof(X509 *));
    }
    a->items[a->n++] = x;
}

/* true: go on. At the end of the text err stays without a code. */
static bool next(BIO *in, unsigned number, size_t max, bool strict, struct authorities *out,
                 struct map *seen, struct err *err)
{
    size_t before = BIO_ctrl_pending(in);
    X509 *x = PEM_read_bio_X509_AUX(in, NULL, no_pass_phrase, NULL);
    bool end = !x && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

    ERR_clear_error();
    if (x && out->n + out->repeated >= max) {
        X509_free(x);
        return err_set(err, E_LIMIT,
                       "The text holds more than %zu certificates, which is the most a list may "
                       "have.",
                       max);
    }
    if (x)
        add(out, seen, x);
    else if (!end && strict)
        return err_set(err, E_INVALID, "Certificate %u of the text is damaged or incomplete.",
                       number);
    else if (!end)
        out->damaged++;
    return !end && BIO_ctrl_pending(in) < before;
}

bool authorities_read(const char *pem, size_t n, size_t max, bool strict, struct authorities *out,
                      struct err *err)
{
    BIO *in = n <= (256u << 20) ? BIO_new_mem_buf(pem, (int)n) : NULL;
    struct err why = {0};
    struct map seen = {0};

    memset(out, 0, sizeof(*out));
    for (unsigned number = 1; in && next(in, number, max, strict, out, &seen, &why); number++)
        ;
    map_free(&seen);
    BIO_free(in);
    if (!why.code && !out->n)
        err_set(&why, E_INVALID,
                out->damaged ? "None of the certificates in the text can be read."
                             : "The text holds no certificate in PEM format. A certificate begins "
                               "with the line \"-----BEGIN CERTIFICATE-----\".");
    if (!why.code)
        return true;
    authorities_free(out);
    if (err)
        *err = why;
    return false;
}

/* --- names --- */

static char *entry_text(const X509_NAME *name, int nid)
{
    int i = X509_NAME_get_index_by_NID(name, nid, -1);
    unsigned char *utf8 = NULL;
    char *text = NULL;
    int n;

    if (i < 0)
        return NULL;
    n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));
    if (n > 0)
        text = xstrndup((const char *)utf8, strnlen((const char *)utf8, (size_t)n));
    OPENSSL_free(utf8);
    ERR_clear_error();
    return text;
}

void authority_name(const X509 *x, char out[AUTHORITY_NAME])
{
    static const int nids[] = {NID_commonName, NID_organizationalUnitName, NID_organizationName};
    char print[65];
    size_t n = 0;

    for (size_t i = 0; i < countof(nids) && !n; i++) {
        AUTO(str) char *text = entry_text(X509_get_subject_name(x), nids[i]);

        for (const char *p = text ? text : ""; *p && n < 48; p++) {
            unsigned char c = (unsigned char)*p;

            if (c < 0x80 && (isalnum(c) || (n && strchr("._", c))))
                out[n++] = (char)c;
            else if (n && out[n - 1] != '-')
                out[n++] = '-';
        }
        while (n && strchr("-._", out[n - 1]))
            n--;
    }
    out[n] = '\0';
    if (n)
        return;
    authority_fingerprint(x, print);
    snprintf(out, AUTHORITY_NAME, "CA-%.16s", print);
}

void authority_pem(X509 *x, struct buf *out)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    if (b && PEM_write_bio_X509(b, x) == 1) {
        n = BIO_get_mem_data(b, &p);
        buf_add(out, p, (size_t)n);
    }
    BIO_free(b);
}

bool authority_is_ca(X509 *x)
{
    return X509_check_ca(x) > 0;
}

/* --- FQDN validation --- */

static bool is_fqdn(const char *name)
{
    struct addr a;

    if (str_starts(name, "*."))
        name += 2;
    return !addr_parse(name, &a) && host_is_fqdn(name);
}

bool authority_check_fqdn(const X509 *x, struct err *err)
{
    AUTO(str) char *cn = entry_text(X509_get_subject_name(x), NID_commonName);
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    unsigned found = cn != NULL;
    bool ok = true;

    if (cn && !is_fqdn(cn))
        ok = err_set(err, E_INVALID, "its common name %s is not a fully qualified domain name",
                     str_printable(cn));
    for (int i = 0; ok && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        AUTO(str) char *name = NULL;

        if (g->type != GEN_DNS)
            continue;
        found++;
        name = xstrndup((const char *)ASN1_STRING_get0_data(g->d.dNSName),
                        (size_t)ASN1_STRING_length(g->d.dNSName));
        if (strlen(name) != (size_t)ASN1_STRING_length(g->d.dNSName) || !is_fqdn(name))
            ok = err_set(err, E_INVALID, "its DNS name %s is not a fully qualified domain name",
                         str_printable(name));
    }
    if (ok && !found)
        ok = err_set(err, E_INVALID, "it has neither a common name nor a DNS name");
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return ok;
}

char *authority_dn(const X509_NAME *name)
{
    return name_line(name);
}
