/* tls_verify.c - see tls_verify.h. */
#include "daemon/tls_verify.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/crl.h"
#include "daemon/dane.h"
#include "daemon/peer_cert.h"
#include "daemon/tls.h"
#include "daemon/trust.h"
#include "store/base/net.h"

#define RECORD_DIGEST 35 /* usage, selector, matching type, SHA-256 of the data */
#define WITH_CHAIN (TLS_CHECK_MX | TLS_CHECK_VERIFY | TLS_CHECK_HOSTED | TLS_CHECK_ROUTE)

/* ---- names ---- */

bool tls_name_covers(const char *pattern, const char *name)
{
    size_t np = strlen(pattern), nn = strlen(name);
    const char *rest;

    np -= np && pattern[np - 1] == '.';
    nn -= nn && name[nn - 1] == '.';
    if (!np || !nn || strcspn(name, "*") < nn)
        return false;
    if (np > 2 && pattern[0] == '*' &&
        pattern[1] == '.') { /* RFC 9525 section 6.3: one label, and all of it */
        rest = memchr(name, '.', nn);
        if (!rest || rest == name || !memchr(pattern + 2, '.', np - 2))
            return false; /* a wildcard straight below the root names nobody in particular */
        nn -= (size_t)(rest - name);
        return nn == np - 1 && !strncasecmp(rest, pattern + 1, nn);
    }
    return np == nn && !strncasecmp(pattern, name, np);
}

static const char *covers_any(const struct strlist *sans, const char *name)
{
    for (size_t i = 0; name && *name && i < sans->n; i++)
        if (tls_name_covers(sans->items[i], name))
            return sans->items[i];
    return NULL;
}

const char *tls_match_verify(const struct strlist *sans, const char *cn,
                             const struct tls_names *names)
{
    if (*cn && (tls_name_covers(cn, names->host) || tls_name_covers(cn, names->domain)))
        return cn;
    return covers_any(sans, names->domain);
}

const char *tls_match_hosted(const struct strlist *sans, const char *cn,
                             const struct tls_names *names)
{
    const char *references[] = {names->domain, names->host, names->ptr};
    const char *found = NULL;

    for (size_t i = 0; i < countof(references) && !found; i++) {
        if (!references[i] || !*references[i])
            continue;
        if (sans->n)
            found = covers_any(sans, references[i]);
        else if (*cn && tls_name_covers(cn, references[i]))
            found = cn;
    }
    return found;
}

/* A string of a certificate that can be a name: without NUL inside, which would show half of it. */
static char *name_of(const ASN1_STRING *s)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, s);
    char *text = NULL;

    if (n > 0 && n < 256 && !memchr(utf8, '\0', (size_t)n))
        text = xstrndup((char *)utf8, (size_t)n);
    OPENSSL_free(utf8);
    return text;
}

struct cert_names {
    struct strlist sans;
    char cn[256];
};

static void names_of(X509 *x, struct cert_names *out)
{
    GENERAL_NAMES *alt = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    const X509_NAME *subject = X509_get_subject_name(x);
    int at = -1, next;

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < sk_GENERAL_NAME_num(alt); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(alt, i);
        AUTO(str) char *name = NULL;

        if (g->type != GEN_DNS)
            continue;
        name = name_of(g->d.dNSName);
        strlist_add(&out->sans,
                    name ? name : ""); /* counts: a broken one is no reason to look at the CN */
    }
    GENERAL_NAMES_free(alt);
    while ((next = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_commonName, at)) >= 0)
        at = next; /* the most specific one */
    if (at >= 0) {
        AUTO(str) char *cn = name_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));

        str_copy(out->cn, sizeof(out->cn), cn ? cn : "");
    }
}

/* ---- before the handshake ---- */

static bool add_records(SSL *ssl, const struct dane *dane)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < dane->n; i++) {
        const struct tlsa *t = &dane->records[i];

        taken += SSL_dane_tlsa_add(ssl, t->usage, t->selector, t->matching, t->data, t->len) > 0;
    }
    return taken > 0;
}

static bool prepare_dane(SSL *ssl, const struct tls_names *names, const struct dane *dane,
                         struct err *err)
{
    bool ok = SSL_dane_enable(ssl, dane->base) == 1; /* sets the first reference name, and SNI */

    /* RFC 7672 section 3.1.1: the names and dates of a certificate that DANE-EE records name are
     * nobody's business. */
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    ok = ok && SSL_set1_host(ssl, dane->base) == 1;
    /* Section 3.2.2: the domain itself counts where a signed MX answer leads from it to the host.
     */
    if (ok && names->mx_secure && *names->domain)
        ok = SSL_add1_host(ssl, names->domain) == 1;
    if (ok && names->mx_secure && names->expanded && *names->expanded)
        ok = SSL_add1_host(ssl, names->expanded) == 1;
    return (ok && add_records(ssl, dane)) ||
           err_set(err, E_TLS, "preparing the TLSA records of %s", dane->base);
}

bool tls_verify_prepare(SSL *ssl, unsigned checks, bool modern, const struct tls_names *names,
                        const struct dane *dane, struct err *err)
{
    if (modern && SSL_get_min_proto_version(ssl) < TLS1_2_VERSION &&
        SSL_set_min_proto_version(ssl, TLS1_2_VERSION) != 1)
        return err_set(err, E_TLS, "TLS 1.2 is needed and sslconfig does not allow it");
    if (checks & WITH_CHAIN) {
        X509_STORE *store = running_trust();

        SSL_set1_verify_cert_store(ssl, store);
        X509_STORE_free(store);
    }
    if (checks & TLS_CHECK_DANE)
        return prepare_dane(ssl, names, dane, err);
    return true;
}

/* ---- after the handshake ---- */

static void fail(struct tls_verified *out, unsigned check, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void fail(struct tls_verified *out, unsigned check, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(1000), shown = BUF_INIT(4000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    str_escape(&shown, text.p, text.n);
    for (unsigned i = 0; i < TLS_CHECKS; i++)
        if (check & 1U << i)
            str_copy(out->why[i], sizeof(out->why[i]), buf_str(&shown));
}

static void passed(struct tls_verified *out, unsigned check, const char *matched)
{
    AUTO(buf) struct buf shown = BUF_INIT(4000);

    out->passed |= check;
    if (!*out->matched && matched) {
        str_escape(&shown, matched, strlen(matched));
        str_copy(out->matched, sizeof(out->matched), buf_str(&shown));
    }
}

static void look_dane(SSL *ssl, const struct dane *dane, struct tls_verified *out)
{
    long result = SSL_get_verify_result(ssl);
    unsigned char usage, selector, matching;
    const unsigned char *data;
    struct tlsa record;
    size_t n;
    char text[200];

    if (result != X509_V_OK) {
        fail(out, TLS_CHECK_DANE, "%s",
             result == X509_V_ERR_DANE_NO_MATCH
                 ? "peer cert does not match the TLSA records of its host"
                 : X509_verify_cert_error_string(result));
    } else if (SSL_session_reused(ssl)) { /* no certificate was shown, and none compared: it was,
                                             when this began */
        passed(out, TLS_CHECK_DANE, dane->base);
    } else if (SSL_get0_dane_authority(ssl, NULL, NULL) < 0 ||
               SSL_get0_dane_tlsa(ssl, &usage, &selector, &matching, &data, &n) < 0) {
        fail(out, TLS_CHECK_DANE, "peer cert does not match the TLSA records of its host");
    } else {
        record = (struct tlsa){usage, selector, matching, (unsigned)n, (unsigned char *)data};
        tlsa_format(&record, text, sizeof(text));
        passed(out, TLS_CHECK_DANE, text);
    }
}

/* By a dNSName, or an iPAddress when the route says an address. */
static void look_route(X509 *peer, const struct cert_names *cert, const struct tls_names *names,
                       struct tls_verified *out)
{
    const char *route = names->route ? names->route : "";
    struct addr a;
    bool same = addr_parse(route, &a)
                    ? X509_check_ip(peer, a.ip, a.family == AF_INET ? 4 : 16, 0) == 1
                    : covers_any(&cert->sans, route) != NULL;

    if (same)
        passed(out, TLS_CHECK_ROUTE, route);
    else
        fail(out, TLS_CHECK_ROUTE, "peer cert does not match the host %s of the route", route);
}

static void look_name(unsigned check, const struct cert_names *cert, const struct tls_names *names,
                      struct tls_verified *out)
{
    const char *found = check == TLS_CHECK_MX ? covers_any(&cert->sans, names->host)
                        : check == TLS_CHECK_VERIFY
                            ? tls_match_verify(&cert->sans, cert->cn, names)
                            : tls_match_hosted(&cert->sans, cert->cn, names);

    if (found)
        passed(out, check, found);
    else if (check == TLS_CHECK_MX)
        fail(out, check, "peer cert does not match MX host %s", names->host);
    else
        fail(out, check, "peer cert does not match domain %s", names->domain);
}

static void look_chain(SSL *ssl, X509 *peer, unsigned checks, const struct tls_names *names,
                       struct tls_verified *out)
{
    long result = SSL_get_verify_result(ssl);
    const char *here[] = {names->host, names->domain};
    char wrong[200] = "";
    struct cert_names cert;

    if (result == X509_V_OK && SSL_session_reused(ssl) &&
        X509_cmp_current_time(X509_get0_notAfter(peer)) < 0)
        result = X509_V_ERR_CERT_HAS_EXPIRED; /* since the session began */
    if (result != X509_V_OK) {
        fail(out, checks, "%s", X509_verify_cert_error_string(result));
        return;
    }
    /* Of a resumed session there is no chain: it is of one that was looked at under the same lists. */
    if (!SSL_session_reused(ssl) &&
        !crl_chain_ok(CRL_OUTBOUND, SSL_get0_verified_chain(ssl), wrong, sizeof(wrong))) {
        fail(out, checks, "%s", wrong);
        return;
    }
    names_of(peer, &cert);
    if (names->fqdn && !peer_cert_fqdn_ok(peer, wrong, sizeof(wrong)))
        fail(out, checks, "%s", wrong);
    else if (names->x509 && !peer_cert_x509_ok(peer, here, countof(here), wrong, sizeof(wrong)))
        fail(out, checks, "%s", wrong);
    for (unsigned check = 1; check < 1U << TLS_CHECKS && !*wrong; check <<= 1)
        if (checks & check & TLS_CHECK_ROUTE)
            look_route(peer, &cert, names, out);
        else if (checks & check)
            look_name(check, &cert, names, out);
    strlist_free(&cert.sans);
}

void tls_verify_result(SSL *ssl, unsigned checks, const struct tls_names *names,
                       const struct dane *dane, struct tls_verified *out)
{
    X509 *peer = SSL_get0_peer_certificate(ssl);

    memset(out, 0, sizeof(*out));
    if (checks && !peer) { /* an anonymous suite proves nothing, whatever the verify result says */
        fail(out, checks, "the peer shows no certificate");
        return;
    }
    if (checks & TLS_CHECK_DANE)
        look_dane(ssl, dane, out);
    if (checks & WITH_CHAIN && !(checks & TLS_CHECK_DANE))
        look_chain(ssl, peer, checks & WITH_CHAIN, names, out);
    ERR_clear_error();
}

const char *tls_verify_why(const struct tls_verified *v, unsigned missing)
{
    for (unsigned i = 0; i < TLS_CHECKS; i++)
        if (missing & 1U << i)
            return v->why[i];
    return "";
}

/* ---- keys ---- */

uint64_t tls_verify_id(void)
{
    return running_trust_id() ^ running_crl_id() * 0x9e3779b97f4a7c15u;
}

static void digest_text(EVP_MD_CTX *md, const char *text)
{
    EVP_DigestUpdate(md, text ? text : "", strlen(text ? text : "") + 1);
}

static int compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, RECORD_DIGEST);
}

/* Whatever order a name server gives the records in. */
static void digest_records(EVP_MD_CTX *md, const struct dane *dane)
{
    unsigned char *all = xcalloc(dane->n ? dane->n : 1, RECORD_DIGEST);

    for (unsigned i = 0; i < dane->n; i++) {
        const struct tlsa *t = &dane->records[i];
        unsigned char *out = all + (size_t)i * RECORD_DIGEST;

        EVP_Digest(t->data, t->len, out + 3, NULL, EVP_sha256(), NULL);
        out[0] = t->usage;
        out[1] = t->selector;
        out[2] = t->matching;
    }
    qsort(all, dane->n, RECORD_DIGEST, compare_digests);
    EVP_DigestUpdate(md, all, (size_t)dane->n * RECORD_DIGEST);
    free(all);
}

static void digest_check(EVP_MD_CTX *md, unsigned check, const struct tls_names *names,
                         const struct dane *dane)
{
    uint64_t trust = tls_verify_id();
    unsigned char flags[3] = {(unsigned char)check, names->fqdn, names->x509};

    EVP_DigestUpdate(md, flags, sizeof(flags));
    if (check == TLS_CHECK_DANE) {
        digest_text(md, dane->base);
        digest_text(md, names->mx_secure ? names->domain : NULL);
        digest_text(md, names->mx_secure ? names->expanded : NULL);
        digest_records(md, dane);
        return;
    }
    EVP_DigestUpdate(md, &trust, sizeof(trust));
    digest_text(md, check == TLS_CHECK_ROUTE ? names->route : names->host);
    if ((check != TLS_CHECK_MX && check != TLS_CHECK_ROUTE) || names->x509)
        digest_text(md, names->domain);
}

void tls_verify_keys(unsigned checks, const struct tls_names *names, const struct dane *dane,
                     unsigned char keys[TLS_CHECKS][TLS_KEY])
{
    unsigned char digest[EVP_MAX_MD_SIZE];

    memset(keys, 0, TLS_CHECKS * TLS_KEY);
    for (unsigned i = 0; i < TLS_CHECKS; i++) {
        EVP_MD_CTX *md;

        if (!(checks & 1U << i))
            continue;
        md = EVP_MD_CTX_new();
        EVP_DigestInit_ex(md, EVP_sha256(), NULL);
        digest_check(md, 1U << i, names, dane);
        EVP_DigestFinal_ex(md, digest, NULL);
        memcpy(keys[i], digest, TLS_KEY);
        EVP_MD_CTX_free(md);
    }
}
