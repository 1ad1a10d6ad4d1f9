/* client_cert.c - see client_cert.h. The library's own verification during the handshake decides
 * nothing: a certificate is looked at here, once, afterwards. What would surprise: a certificate
 * with a NUL or another control character in one of its names is refused as a whole, for somebody
 * would read another name in it than we do. */
#include "daemon/client_cert.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crl.h"
#include "daemon/peer_cert.h"
#include "daemon/trust.h"
#include "store/base/buf.h"
#include "store/base/str.h"

#define SENT_MAX 32768 /* bytes of certificates in a handshake; what came stays with the session */
#define DEPTH_MAX 10 /* certificates between the client's and the authority */
#define UPN_OID "1.3.6.1.4.1.311.20.2.3"

/* --- asking ---------------------------------------------------------------------------------- */

/* RFC 3207 section 4: who is not welcome is told so over the finished handshake. */
static int go_on(int ok, X509_STORE_CTX *ctx)
{
    (void)ok;
    (void)ctx;
    return 1;
}

bool client_cert_ask(SSL *ssl, void *arg, struct err *err)
{
    STACK_OF(X509_NAME) *names = running_trust_names();

    (void)arg;
    SSL_set_verify(ssl, SSL_VERIFY_PEER, go_on);
    SSL_set0_CA_list(ssl, names);
    SSL_set_max_cert_list(ssl, SENT_MAX);
    /* A ticket would carry the certificate past the next look at it; no TLS 1.3 ticket is sent
     * either, and one from elsewhere is not taken. */
    SSL_set_options(ssl, SSL_OP_NO_TICKET);
    return SSL_set_num_tickets(ssl, 0) == 1 ||
           err_set(err, E_TLS, "preparing TLS for client certificates");
}

/* --- names ----------------------------------------------------------------------------------- */

static bool refuse(struct client_cert *c, const char *why)
{
    c->state = CLIENT_CERT_INVALID;
    if (!*c->why)
        str_copy(c->why, sizeof(c->why), why);
    return false;
}

/* UTF-8 without control characters, C1 (0xC2 0x80 to 0xC2 0x9F) included. */
static bool is_clean(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < ' ' || p[i] == 0x7f || (p[i] == 0xc2 && i + 1 < n && p[i + 1] < 0xa0))
            return false;
    return n == 0 || str_is_utf8((const char *)p, n);
}

/* A whole value into out, of size bytes. false: refused; out may be NULL. */
static bool take(struct client_cert *c, const ASN1_STRING *value, char *out, size_t size)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, value);
    bool ok = n >= 0;

    if (!ok || !is_clean(utf8, (size_t)n))
        ok = refuse(c, "a name in the certificate holds characters that are not allowed");
    else if ((size_t)n >= size)
        ok = refuse(c, "a name in the certificate is too long");
    else if (out) {
        memcpy(out, utf8, (size_t)n);
        out[n] = '\0';
    }
    OPENSSL_free(utf8);
    return ok;
}

/* Every value of a distinguished name has to be sound; then its text. */
static bool take_name(struct client_cert *c, X509_NAME *name, char *out, size_t size)
{
    BIO *text;
    char *p = NULL;
    long n;

    for (int i = 0; i < X509_NAME_entry_count(name); i++)
        if (!take(c, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)), NULL, size))
            return false;
    text = BIO_new(BIO_s_mem());
    if (!text)
        return refuse(c, "no memory");
    X509_NAME_print_ex(text, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    n = BIO_get_mem_data(text, &p);
    if (n > 0 && (size_t)n < size) {
        memcpy(out, p, (size_t)n);
        out[n] = '\0';
    }
    BIO_free(text);
    return n < (long)size || refuse(c, "a distinguished name in the certificate is too long");
}

/* The last, most specific value of a kind in the subject. */
static bool take_attribute(struct client_cert *c, X509 *cert, int nid, char *out, size_t size)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = -1, next;

    while ((next = X509_NAME_get_index_by_NID(subject, nid, at)) >= 0)
        at = next;
    return at < 0 || take(c, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out, size);
}

static bool is_upn(const GENERAL_NAME *g)
{
    char oid[64];

    return g->type == GEN_OTHERNAME &&
           OBJ_obj2txt(oid, sizeof(oid), g->d.otherName->type_id, 1) > 0 && str_eq(oid, UPN_OID);
}

static bool take_alternatives(struct client_cert *c, X509 *cert)
{
    int critical = -1;
    GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    bool ok = list || critical == -1 ||
              refuse(c, "the alternative names of the certificate cannot be read");

    for (int i = 0; ok && i < sk_GENERAL_NAME_num(list); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(list, i);
        const ASN1_TYPE *other = g->type == GEN_OTHERNAME ? g->d.otherName->value : NULL;

        if (g->type == GEN_EMAIL)
            ok = take(c, g->d.rfc822Name, *c->email ? NULL : c->email, sizeof(c->email));
        else if (is_upn(g) && other->type != V_ASN1_UTF8STRING)
            ok = refuse(c, "the principal name in the certificate cannot be read");
        else if (is_upn(g))
            ok = take(c, other->value.utf8string, *c->upn ? NULL : c->upn, sizeof(c->upn));
    }
    GENERAL_NAMES_free(list);
    ERR_clear_error();
    return ok;
}

static void hex(char *out, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02X", p[i]);
}

static bool take_serial(struct client_cert *c, X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    int n = ASN1_STRING_length(serial);

    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER || n < 1 ||
        (size_t)n * 2 >= sizeof(c->sn)) /* RFC 5280 section 4.1.2.2: positive, at most 20 octets */
        return refuse(c, "the serial number of the certificate is not allowed");
    hex(c->sn, ASN1_STRING_get0_data(serial), (size_t)n);
    return true;
}

static bool take_fields(struct client_cert *c, X509 *cert)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (X509_digest(cert, EVP_sha256(), digest, &n) != 1 || n != 32)
        return refuse(c, "the certificate has no digest");
    hex(c->fp, digest, n);
    return take_name(c, X509_get_subject_name(cert), c->dn, sizeof(c->dn)) &&
           take_name(c, X509_get_issuer_name(cert), c->issuer, sizeof(c->issuer)) &&
           take_attribute(c, cert, NID_commonName, c->cn, sizeof(c->cn)) && take_serial(c, cert) &&
           take_alternatives(c, cert) &&
           (*c->email ||
            take_attribute(c, cert, NID_pkcs9_emailAddress, c->email, sizeof(c->email)));
}

/* --- the look -------------------------------------------------------------------------------- */

/* The subject as far as it goes, whatever is in it. */
static void show_subject(struct client_cert *c, X509 *cert)
{
    BIO *text = BIO_new(BIO_s_mem());
    AUTO(buf) struct buf shown = BUF_INIT(8 * CLIENT_CERT_DN);
    char *p = NULL;
    long n;

    if (!text)
        return;
    /* OpenSSL puts quotes where they are needed; what must not be printed is str_escape's. */
    X509_NAME_print_ex(
        text, X509_get_subject_name(cert), 0,
        (XN_FLAG_RFC2253 & ~(unsigned long)(ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_ESC_CTRL)) |
            ASN1_STRFLGS_ESC_QUOTE);
    n = BIO_get_mem_data(text, &p);
    if (n > CLIENT_CERT_DN)
        n = CLIENT_CERT_DN;
    if (n > 0)
        str_escape(&shown, p, (size_t)n);
    str_copy(c->subject, sizeof(c->subject), buf_str(&shown));
    for (size_t end = strlen(c->subject); end && !str_is_utf8(c->subject, end); end--)
        c->subject[end - 1] = '\0'; /* it was cut within a character */
    BIO_free(text);
}

static bool chain_ok(struct client_cert *c, X509 *cert, STACK_OF(X509) * intermediates,
                     X509_STORE *authorities)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok = ctx && X509_STORE_CTX_init(ctx, authorities, cert, intermediates) == 1 &&
              X509_STORE_CTX_set_default(ctx, "ssl_client") == 1;

    if (!ok) {
        refuse(c, "the certificate cannot be verified now");
    } else {
        X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(ctx);

        X509_VERIFY_PARAM_set_depth(rules, DEPTH_MAX);
        X509_VERIFY_PARAM_set_auth_level(rules, 1); /* as the contexts of tls.c */
        ok = X509_verify_cert(ctx) == 1;
        if (!ok)
            refuse(c, X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        else if (!crl_chain_ok(CRL_INBOUND, X509_STORE_CTX_get0_chain(ctx), c->why, sizeof(c->why)))
            ok = refuse(c, "certificate revoked");
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

void client_cert_check(X509 *cert, STACK_OF(X509) * intermediates, X509_STORE *authorities,
                       bool strict, struct client_cert *out)
{
    memset(out, 0, sizeof(*out));
    out->state = CLIENT_CERT_VALID;
    show_subject(out, cert);
    if (chain_ok(out, cert, intermediates, authorities) && strict &&
        !peer_cert_form_ok(cert, out->why, sizeof(out->why)))
        refuse(out, "the form of the certificate is not allowed");
    if (out->state == CLIENT_CERT_VALID)
        take_fields(out, cert);
}

struct client_cert *client_cert_look(SSL *ssl, bool strict)
{
    struct client_cert *c = xcalloc(1, sizeof(*c));
    X509 *cert = SSL_get0_peer_certificate(ssl);
    X509_STORE *authorities;

    SSL_set0_CA_list(ssl, NULL); /* was for the handshake */
    if (!cert)
        return c;
    authorities = running_trust();
    client_cert_check(cert, SSL_get_peer_cert_chain(ssl), authorities, strict, c);
    X509_STORE_free(authorities);
    return c;
}
