/* x509.c - what a certificate and a key say; see x509.h. The chain, the checks and the making of
 * new ones are in x509_chain.c, x509_check.c and x509_make.c.
 *
 * No call here ever asks on the terminal: OpenSSL's default pass phrase callback would. */
#include "store/x509.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/x509_lib.h"

#define MAX_RSA 8192

void x509_clear(X509 **x)
{
    X509_free(*x);
    *x = NULL;
}

void req_clear(X509_REQ **r)
{
    X509_REQ_free(*r);
    *r = NULL;
}

void pkey_clear(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
    *k = NULL;
}

void bio_clear(BIO **b)
{
    BIO_free(*b);
    *b = NULL;
}

int no_pass_phrase(char *buf, int size, int rwflag, void *u)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)u;
    return -1;
}

BIO *bio_of(const char *pem)
{
    return BIO_new_mem_buf(pem ? pem : "", -1);
}

/* The reason OpenSSL gives, in its words, and an empty queue behind it. */
bool openssl_failed(struct err *err, const char *doing)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;

    ERR_clear_error();
    return err_set(err, E_INVALID, "%s: %s", doing,
                   reason ? reason : "the cryptographic library refused");
}

/* --- reading
 * ------------------------------------------------------------------------------------------------
 */

X509 *pem_first(const char *pem, struct err *err)
{
    AUTO_BIO b = bio_of(pem);
    X509 *x = PEM_read_bio_X509(b, NULL, no_pass_phrase, NULL);

    ERR_clear_error();
    if (x)
        return x;
    if (pem && strstr(pem, "PRIVATE KEY-----"))
        err_set(err, E_INVALID,
                "This is a private key. Paste the certificate, which begins with "
                "\"-----BEGIN CERTIFICATE-----\".");
    else if (pem && strstr(pem, "CERTIFICATE REQUEST-----"))
        err_set(err, E_INVALID,
                "This is a certificate signing request. Send it to a certificate authority and "
                "paste the certificate it returns.");
    else if (pem && strstr(pem, "-----BEGIN CERTIFICATE-----"))
        err_set(err, E_INVALID,
                "The certificate is damaged or incomplete. Paste it again, from the line "
                "\"-----BEGIN CERTIFICATE-----\" to the line \"-----END CERTIFICATE-----\".");
    else
        err_set(err, E_INVALID,
                "This is not a certificate in PEM format. It begins with the line "
                "\"-----BEGIN CERTIFICATE-----\".");
    return NULL;
}

EVP_PKEY *pem_key(const char *pem, struct err *err)
{
    AUTO_BIO b = bio_of(pem);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, no_pass_phrase, NULL);

    ERR_clear_error();
    if (k)
        return k;
    if (pem &&
        (strstr(pem, "BEGIN ENCRYPTED PRIVATE KEY") || strstr(pem, "Proc-Type: 4,ENCRYPTED")))
        err_set(err, E_INVALID,
                "The private key is protected by a pass phrase. Remove the pass phrase (\"openssl "
                "pkey -in FILE\" prints the key without it) and paste the result.");
    else if (pem && strstr(pem, "-----BEGIN CERTIFICATE-----"))
        err_set(
            err, E_INVALID,
            "This is a certificate. Paste the private key, which begins with \"-----BEGIN PRIVATE "
            "KEY-----\".");
    else
        err_set(
            err, E_INVALID,
            "This is not a private key in PEM format, or it is damaged. It begins with the line "
            "\"-----BEGIN PRIVATE KEY-----\".");
    return NULL;
}

int pem_all(const char *pem, X509 **out, int max, struct err *err)
{
    AUTO_BIO b = bio_of(pem);
    int n = 0;

    for (;;) {
        X509 *x = PEM_read_bio_X509(b, NULL, no_pass_phrase, NULL);
        bool end = !x && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

        ERR_clear_error();
        if (end)
            return n;
        if (x && n < max) {
            out[n++] = x;
            continue;
        }
        if (x)
            err_set(err, E_LIMIT,
                    "There are more than %d certificates in one text. Leave out those that do not "
                    "belong to the chain.",
                    max);
        else
            err_set(err, E_INVALID,
                    "Certificate %d of the text is damaged or incomplete. Take it anew from where "
                    "it came.",
                    n + 1);
        X509_free(x);
        while (n)
            X509_free(out[--n]);
        return -1;
    }
}

unsigned x509_count(const char *pem)
{
    X509 *chain[X509_MAX_CHAIN];
    int n = pem_all(pem, chain, X509_MAX_CHAIN, NULL);

    for (int i = 0; i < n; i++)
        X509_free(chain[i]);
    return n > 0 ? (unsigned)n : 0;
}

static void add_asn1(struct buf *out, const ASN1_STRING *s)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, s);

    if (n < 0)
        str_escape(out, (const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
    else
        str_escape(out, (const char *)utf8, (size_t)n);
    OPENSSL_free(utf8);
    ERR_clear_error();
}

char *name_line(const X509_NAME *name)
{
    AUTO(buf) struct buf b = BUF_INIT(2048);

    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *e = X509_NAME_get_entry(name, i);
        const ASN1_OBJECT *o = X509_NAME_ENTRY_get_object(e);
        int nid = OBJ_obj2nid(o);
        char oid[80];

        if (i)
            buf_char(&b, ',');
        if (nid == NID_undef) {
            OBJ_obj2txt(oid, sizeof(oid), o, 1);
            buf_str_add(&b, oid);
        } else {
            buf_str_add(&b, OBJ_nid2sn(nid));
        }
        buf_char(&b, '=');
        add_asn1(&b, X509_NAME_ENTRY_get_data(e));
    }
    return xstrdup(buf_str(&b));
}

static char *name_entry(const X509_NAME *name, int nid)
{
    int i = X509_NAME_get_index_by_NID(name, nid, -1);
    AUTO(buf) struct buf b = BUF_INIT(512);

    if (i >= 0)
        add_asn1(&b, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));
    return xstrdup(buf_str(&b));
}

/* What a list shows for an authority: many roots have no common name. */
char *name_short(const X509_NAME *name)
{
    static const int nids[] = {NID_commonName, NID_organizationName, NID_organizationalUnitName};

    for (size_t i = 0; i < countof(nids); i++) {
        char *s = name_entry(name, nids[i]);

        if (*s)
            return s;
        free(s);
    }
    return xstrdup("");
}

usec_t time_of(const ASN1_TIME *t)
{
    int days = 0, seconds = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    bool ok = epoch && ASN1_TIME_diff(&days, &seconds, epoch, t);

    ASN1_TIME_free(epoch);
    ERR_clear_error();
    return ok ? ((usec_t)days * DAY + seconds) * 1000000 : 0;
}

static void add_ip(struct strlist *names, const ASN1_OCTET_STRING *ip)
{
    struct addr a = {.family = ASN1_STRING_length(ip) == 4 ? AF_INET : AF_INET6};
    char text[ADDR_TEXT];

    if (ASN1_STRING_length(ip) != 4 && ASN1_STRING_length(ip) != 16)
        return;
    memcpy(a.ip, ASN1_STRING_get0_data(ip), (size_t)ASN1_STRING_length(ip));
    strlist_add(names, addr_text(&a, text));
}

static void read_names(const X509 *x, struct strlist *names)
{
    GENERAL_NAMES *list = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(list) && names->n < 256; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(list, i);
        AUTO(buf) struct buf b = BUF_INIT(1100);

        if (g->type == GEN_IPADD) {
            add_ip(names, g->d.iPAddress);
        } else if (g->type == GEN_DNS) {
            add_asn1(&b, g->d.dNSName);
            strlist_add(names, buf_str(&b));
        }
    }
    GENERAL_NAMES_free(list);
    ERR_clear_error();
}

/* What the extensions allow; a certificate without them may be used for everything. */
static void read_usage(X509 *x, struct x509_facts *out)
{
    uint32_t flags = X509_get_extension_flags(x), usage = X509_get_key_usage(x),
             extended = X509_get_extended_key_usage(x);

    out->is_ca = X509_check_ca(x) > 0;
    out->damaged_extensions = flags & EXFLAG_INVALID;
    out->for_signing = usage & KU_DIGITAL_SIGNATURE;
    out->for_servers = !(flags & EXFLAG_XKUSAGE) || extended & (XKU_SSL_SERVER | XKU_ANYEKU);
    out->for_clients = !(flags & EXFLAG_XKUSAGE) || extended & (XKU_SSL_CLIENT | XKU_ANYEKU);
    out->version = (int)X509_get_version(x) + 1;
    ERR_clear_error();
}

static bool is_weak_digest(const X509 *x)
{
    int digest = NID_undef;

    if (!X509_get_signature_info((X509 *)(uintptr_t)x, &digest, NULL, NULL, NULL))
        digest = NID_undef;
    ERR_clear_error();
    return digest == NID_sha1 || digest == NID_md5 || digest == NID_md4 || digest == NID_md2 ||
           digest == NID_mdc2 || digest == NID_md5_sha1;
}

static void read_key_facts(const X509 *x, struct x509_facts *out)
{
    const EVP_PKEY *k = X509_get0_pubkey(x);
    char group[32] = "";

    if (!k) {
        ERR_clear_error();
        str_copy(out->key, sizeof(out->key), "unknown");
        return;
    }
    out->key_bits = (unsigned)EVP_PKEY_get_bits(k);
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        snprintf(out->key, sizeof(out->key), "RSA %u", out->key_bits);
        out->weak_key = out->key_bits < 2048;
        break;
    case EVP_PKEY_EC:
        EVP_PKEY_get_group_name(k, group, sizeof(group), NULL);
        if (str_eq(group, "prime256v1"))
            str_copy(group, sizeof(group), "P-256");
        else if (str_eq(group, "secp384r1"))
            str_copy(group, sizeof(group), "P-384");
        else if (str_eq(group, "secp521r1"))
            str_copy(group, sizeof(group), "P-521");
        snprintf(out->key, sizeof(out->key), "ECDSA %.16s", group);
        break;
    case EVP_PKEY_ED25519:
        str_copy(out->key, sizeof(out->key), "Ed25519");
        break;
    default:
        str_copy(out->key, sizeof(out->key), OBJ_nid2sn(EVP_PKEY_get_base_id(k)));
        break;
    }
    ERR_clear_error();
}

void facts_of(X509 *x, struct x509_facts *out)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    BIGNUM *serial;
    char *hex;

    memset(out, 0, sizeof(*out));
    out->subject = name_line(X509_get_subject_name(x));
    out->issuer = name_line(X509_get_issuer_name(x));
    out->common_name = name_short(X509_get_subject_name(x));
    out->issued_by = name_short(X509_get_issuer_name(x));
    read_names(x, &out->names);
    out->not_before = time_of(X509_get0_notBefore(x));
    out->not_after = time_of(X509_get0_notAfter(x));
    read_key_facts(x, out);
    read_usage(x, out);
    out->weak_digest = is_weak_digest(x);
    out->self_signed = X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
    str_copy(out->signature, sizeof(out->signature), OBJ_nid2ln(X509_get_signature_nid(x)));
    serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    hex = serial ? BN_bn2hex(serial) : NULL;
    str_copy(out->serial, sizeof(out->serial), hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(serial);
    if (X509_digest(x, EVP_sha256(), digest, &n))
        for (unsigned i = 0; i < n; i++)
            snprintf(out->sha256 + 2 * i, 3, "%02x", digest[i]);
    ERR_clear_error();
}

bool x509_read(const char *pem, struct x509_facts *out, struct err *err)
{
    AUTO_X509 x = pem_first(pem, err);

    memset(out, 0, sizeof(*out));
    if (x)
        facts_of(x, out);
    return x;
}

void x509_facts_free(struct x509_facts *f)
{
    free(f->subject);
    free(f->issuer);
    free(f->common_name);
    free(f->issued_by);
    strlist_free(&f->names);
    memset(f, 0, sizeof(*f));
}

int64_t x509_days_left(const struct x509_facts *f, usec_t now)
{
    int64_t seconds = (f->not_after - now) / 1000000;

    return seconds < 0 ? -((-seconds + DAY - 1) / DAY) : seconds / DAY;
}

const char *x509_status(const struct x509_facts *f, usec_t now)
{
    if (now > f->not_after)
        return "Expired";
    return now < f->not_before ? "Not yet valid" : "Active";
}

/* --- keys and chains
 * ---------------------------------------------------------------------------------------- */

bool key_is_usable(EVP_PKEY *k, struct err *err)
{
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        if (EVP_PKEY_get_bits(k) > MAX_RSA)
            return err_set(err, E_LIMIT,
                           "An RSA key of %d bits would make every handshake slow. Use at most %d "
                           "bits, or ECDSA.",
                           EVP_PKEY_get_bits(k), MAX_RSA);
        return true;
    case EVP_PKEY_EC:
    case EVP_PKEY_ED25519:
    case EVP_PKEY_ED448:
        return true;
    default:
        return err_set(err, E_INVALID,
                       "A key of type %s cannot be used for TLS. Use RSA, ECDSA or Ed25519.",
                       OBJ_nid2sn(EVP_PKEY_get_base_id(k)));
    }
}

bool x509_check_key(const char *key_pem, struct err *err)
{
    AUTO_PKEY k = pem_key(key_pem, err);

    return k && key_is_usable(k, err);
}

bool x509_key_matches(const char *cert_pem, const char *key_pem, struct err *err)
{
    AUTO_X509 x = pem_first(cert_pem, err);
    AUTO_PKEY k = x ? pem_key(key_pem, err) : NULL;
    bool same;

    if (!x || !k || !key_is_usable(k, err))
        return false;
    same = X509_get0_pubkey(x) && EVP_PKEY_eq(X509_get0_pubkey(x), k) == 1;
    ERR_clear_error();
    return same || err_set(err, E_INVALID,
                           "The private key does not belong to this certificate. Paste the key the "
                           "certificate was requested with.");
}

/* The public key of a certificate or of a request. New. */
static EVP_PKEY *read_public(const char *pem, struct err *err)
{
    AUTO_BIO b = bio_of(pem);
    AUTO_REQ r = strstr(pem, "CERTIFICATE REQUEST-----")
                     ? PEM_read_bio_X509_REQ(b, NULL, no_pass_phrase, NULL)
                     : NULL;
    AUTO_X509 x = r ? NULL : pem_first(pem, err);
    EVP_PKEY *k = r ? X509_REQ_get_pubkey(r) : x ? X509_get_pubkey(x) : NULL;

    ERR_clear_error();
    if (!k && x)
        err_set(err, E_INVALID,
                "The public key of the certificate cannot be used. Request a certificate for an "
                "RSA, ECDSA "
                "or Ed25519 key.");
    return k;
}

bool x509_same_key(const char *cert_pem, const char *other_pem, struct err *err)
{
    AUTO_PKEY a = read_public(cert_pem, err);
    AUTO_PKEY b = a ? read_public(other_pem, err) : NULL;
    bool same = a && b && EVP_PKEY_eq(a, b) == 1;

    ERR_clear_error();
    return same || !a || !b
               ? same
               : err_set(
                     err, E_INVALID,
                     "This certificate was not issued for the key of this profile. Paste the "
                     "certificate "
                     "that answers the profile's request, or paste it together with its own key.");
}
