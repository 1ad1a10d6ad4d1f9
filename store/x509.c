/* x509.c - facts about certificates and the making of new ones; see x509.h.
 *
 * No call here ever asks on the terminal: OpenSSL's default pass phrase callback would. */
#include "store/x509.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"

#define DAY 86400
#define MAX_DAYS 36500

static void x509_clear(X509 **x)
{
    X509_free(*x);
    *x = NULL;
}

static void req_clear(X509_REQ **r)
{
    X509_REQ_free(*r);
    *r = NULL;
}

static void pkey_clear(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
    *k = NULL;
}

static void bio_clear(BIO **b)
{
    BIO_free(*b);
    *b = NULL;
}

#define AUTO_X509 __attribute__((cleanup(x509_clear))) X509 *
#define AUTO_REQ __attribute__((cleanup(req_clear))) X509_REQ *
#define AUTO_PKEY __attribute__((cleanup(pkey_clear))) EVP_PKEY *
#define AUTO_BIO __attribute__((cleanup(bio_clear))) BIO *

static int no_pass_phrase(char *buf, int size, int rwflag, void *u)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)u;
    return -1;
}

static BIO *bio_of(const char *pem)
{
    return BIO_new_mem_buf(pem ? pem : "", -1);
}

/* The reason OpenSSL gives, in its words, and an empty queue behind it. */
static bool openssl_failed(struct err *err, const char *doing)
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

static X509 *read_first(const char *pem, struct err *err)
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

static EVP_PKEY *read_key(const char *pem, struct err *err)
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

/* Reads up to X509_MAX_CHAIN certificates; -1 and err when one is broken or there are more. */
static int read_all(const char *pem, X509 *out[X509_MAX_CHAIN], struct err *err)
{
    AUTO_BIO b = bio_of(pem);
    int n = 0;

    for (;;) {
        X509 *x = PEM_read_bio_X509(b, NULL, no_pass_phrase, NULL);
        bool end = !x && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

        ERR_clear_error();
        if (end)
            return n;
        if (x && n < X509_MAX_CHAIN) {
            out[n++] = x;
            continue;
        }
        if (x)
            err_set(err, E_LIMIT, "More than %d certificates in one chain.", X509_MAX_CHAIN);
        else
            err_set(err, E_INVALID,
                    "Certificate %d of the text is damaged or incomplete. Paste it again.", n + 1);
        X509_free(x);
        while (n)
            X509_free(out[--n]);
        return -1;
    }
}

unsigned x509_count(const char *pem)
{
    X509 *chain[X509_MAX_CHAIN];
    int n = read_all(pem, chain, NULL);

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

static char *one_line(const X509_NAME *name)
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
static char *display_name(const X509_NAME *name)
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

static usec_t time_of(const ASN1_TIME *t)
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

bool x509_read(const char *pem, struct x509_facts *out, struct err *err)
{
    AUTO_X509 x = read_first(pem, err);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    BIGNUM *serial;
    char *hex;

    memset(out, 0, sizeof(*out));
    if (!x)
        return false;
    out->subject = one_line(X509_get_subject_name(x));
    out->issuer = one_line(X509_get_issuer_name(x));
    out->common_name = display_name(X509_get_subject_name(x));
    out->issued_by = display_name(X509_get_issuer_name(x));
    read_names(x, &out->names);
    out->not_before = time_of(X509_get0_notBefore(x));
    out->not_after = time_of(X509_get0_notAfter(x));
    read_key_facts(x, out);
    out->is_ca = X509_check_ca(x) > 0;
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
    return true;
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

static void add_warning(struct strlist *out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void add_warning(struct strlist *out, const char *fmt, ...)
{
    AUTO(buf) struct buf b = BUF_INIT(400);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    strlist_add(out, buf_str(&b));
}

void x509_warnings(const struct x509_facts *f, usec_t now, struct strlist *out)
{
    int64_t days = x509_days_left(f, now);

    if (days < 0)
        add_warning(out, "The certificate has expired; peers that verify it will refuse it.");
    else if (now < f->not_before)
        add_warning(out, "The certificate is not valid yet.");
    else if (days < 30)
        add_warning(out, "The certificate expires in %lld day%s.", (long long)days,
                    days == 1 ? "" : "s");
    if (f->weak_key)
        add_warning(out,
                    "The key has only %u bits and can be broken; peers may refuse it. Use RSA with "
                    "2048 bits or more, or "
                    "ECDSA.",
                    f->key_bits);
    if (strstr(f->signature, "sha1") || strstr(f->signature, "md5") || strstr(f->signature, "SHA1"))
        add_warning(out, "The certificate is signed with %s, which peers refuse today.",
                    f->signature);
    if (!f->names.n)
        add_warning(out, "The certificate has no subject alternative name; peers that verify names "
                         "will refuse it.");
}

/* --- keys and chains
 * ---------------------------------------------------------------------------------------- */

static bool usable_kind(const EVP_PKEY *k, struct err *err)
{
    switch (EVP_PKEY_get_base_id(k)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
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
    AUTO_PKEY k = read_key(key_pem, err);

    return k && usable_kind(k, err);
}

bool x509_key_matches(const char *cert_pem, const char *key_pem, struct err *err)
{
    AUTO_X509 x = read_first(cert_pem, err);
    AUTO_PKEY k = x ? read_key(key_pem, err) : NULL;
    bool same;

    if (!x || !k || !usable_kind(k, err))
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
    AUTO_X509 x = r ? NULL : read_first(pem, err);
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

static bool signed_by(X509 *child, X509 *issuer)
{
    bool ok = X509_check_issued(issuer, child) == X509_V_OK && X509_get0_pubkey(issuer) &&
              X509_verify(child, X509_get0_pubkey(issuer)) == 1;

    ERR_clear_error();
    return ok;
}

static bool add_pem(struct buf *out, X509 *x)
{
    AUTO_BIO b = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    if (!PEM_write_bio_X509(b, x))
        return false;
    n = BIO_get_mem_data(b, &p);
    buf_add(out, p, (size_t)n);
    return !out->full;
}

bool x509_first(const char *pem, struct buf *out, struct err *err)
{
    AUTO_X509 x = read_first(pem, err);

    return x && (add_pem(out, x) || err_set(err, E_LIMIT, "The certificate is too long."));
}

/* Sorts chain[] behind leaf; the count of those that found their place is returned, the rest
 * follows them. */
static int sort_chain(X509 *leaf, X509 **chain, int n)
{
    X509 *at = leaf;
    int placed = 0;

    while (placed < n) {
        int i = placed;

        while (i < n && !signed_by(at, chain[i]))
            i++;
        if (i == n)
            break;
        at = chain[i];
        chain[i] = chain[placed];
        chain[placed++] = at;
        if (signed_by(at, at)) /* a root: nothing stands above it */
            break;
    }
    return placed;
}

bool x509_order_chain(const char *leaf_pem, const char *chain_pem, struct buf *out, struct err *err)
{
    AUTO_X509 leaf = read_first(leaf_pem, err);
    X509 *all[X509_MAX_CHAIN], *chain[X509_MAX_CHAIN];
    int count = leaf ? read_all(chain_pem, all, err) : -1, n = 0, placed;
    bool ok = count >= 0;

    for (int i = 0; i < count; i++) {
        bool again = X509_cmp(all[i], leaf) == 0;

        for (int j = 0; j < n; j++)
            again |= X509_cmp(all[i], chain[j]) == 0;
        if (again)
            X509_free(all[i]);
        else
            chain[n++] = all[i];
    }
    placed = ok ? sort_chain(leaf, chain, n) : 0;
    if (ok && placed < n) {
        char *stray = one_line(X509_get_subject_name(chain[placed]));
        char *name = one_line(X509_get_subject_name(leaf));

        ok = err_set(err, E_INVALID, "\"%s\" is not part of the chain of \"%s\". Leave it out.",
                     stray, name);
        free(stray);
        free(name);
    }
    for (int i = 0; ok && i < n; i++)
        ok = add_pem(out, chain[i]) || err_set(err, E_LIMIT, "The certificate chain is too long.");
    for (int i = 0; i < n; i++)
        X509_free(chain[i]);
    return ok;
}

/* --- making
 * -------------------------------------------------------------------------------------------------
 */

static bool is_name(const char *name)
{
    const char *host = str_starts(name, "*.") ? name + 2 : name;
    struct addr a;

    return addr_parse(name, &a) || host_is_fqdn(host);
}

bool x509_check_name(const char *name, struct err *err)
{
    return is_name(name) ||
           err_set(err, E_INVALID,
                   "\"%s\" is neither a fully qualified host name nor an address. Ex: "
                   "\"mail3.example.com\".",
                   name);
}

bool x509_check_common_name(const char *text, struct err *err)
{
    if (!*text)
        return err_set(err, E_INVALID,
                       "The common name is required. Enter the host name clients connect to.");
    if (strlen(text) > 64) /* ub-common-name, RFC 5280 appendix A.1 */
        return err_set(
            err, E_INVALID,
            "The common name may have at most 64 characters. Longer host names go into the "
            "subject alternative names.");
    if (!str_is_utf8(text, strlen(text)))
        return err_set(err, E_INVALID, "The common name is not valid UTF-8.");
    return true;
}

bool x509_check_country(const char *text, struct err *err)
{
    size_t n = strlen(text);
    bool letters = n == 2;

    for (size_t i = 0; i < n; i++)
        letters &= (text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= 'a' && text[i] <= 'z');
    return n == 0 || letters ||
           err_set(err, E_INVALID, "The country is a code of exactly two letters. Ex: \"US\".");
}

static const struct algorithm {
    const char *word, *type;
    size_t bits;
    const char *group;
} algorithms[] = {
    {"rsa-2048", "RSA",     2048, NULL   },
    {"rsa-3072", "RSA",     3072, NULL   },
    {"rsa-4096", "RSA",     4096, NULL   },
    {"p256",     "EC",      0,    "P-256"},
    {"p384",     "EC",      0,    "P-384"},
    {"ed25519",  "ED25519", 0,    NULL   },
};

static const struct algorithm *algorithm_find(const char *word)
{
    for (size_t i = 0; i < countof(algorithms); i++)
        if (str_ieq(algorithms[i].word, word))
            return &algorithms[i];
    return NULL;
}

bool x509_check_algorithm(const char *word, struct err *err)
{
    if (str_ieq(word, "1024") || str_ieq(word, "rsa-1024"))
        return err_set(
            err, E_INVALID,
            "A 1024-bit RSA key can be broken and is refused by today's mail servers. Choose "
            "RSA with 2048 bits or more, or ECDSA P-256.");
    return algorithm_find(word) || err_set(err, E_INVALID,
                                           "Unknown key algorithm \"%s\". Choose one of: rsa-2048, "
                                           "rsa-3072, rsa-4096, p256, p384, "
                                           "ed25519.",
                                           word);
}

static EVP_PKEY *make_key(const struct algorithm *a, struct err *err)
{
    EVP_PKEY *k;

    if (a->bits)
        k = EVP_PKEY_Q_keygen(NULL, NULL, a->type, a->bits);
    else if (a->group)
        k = EVP_PKEY_Q_keygen(NULL, NULL, a->type, a->group);
    else
        k = EVP_PKEY_Q_keygen(NULL, NULL, a->type);
    if (!k)
        openssl_failed(err, "making the private key");
    return k;
}

static bool add_entry(X509_NAME *name, const char *field, const char *text)
{
    return !text || !*text ||
           X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)text, -1,
                                      -1, 0);
}

static bool fill_name(X509_NAME *name, const struct x509_request *r, struct err *err)
{
    char country[3] = "";

    for (int i = 0; r->country && i < 2 && r->country[i]; i++)
        country[i] = (char)(r->country[i] & ~0x20);
    if (add_entry(name, "C", country) && add_entry(name, "ST", r->state) &&
        add_entry(name, "L", r->locality) && add_entry(name, "O", r->organization) &&
        add_entry(name, "OU", r->unit) && add_entry(name, "CN", r->common_name))
        return true;
    return openssl_failed(err, "writing the subject of the certificate");
}

static void add_general(GENERAL_NAMES *list, const char *name)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    struct addr a;

    if (addr_parse(name, &a)) {
        ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();

        ASN1_OCTET_STRING_set(s, a.ip, a.family == AF_INET ? 4 : 16);
        GENERAL_NAME_set0_value(g, GEN_IPADD, s);
    } else {
        ASN1_IA5STRING *s = ASN1_IA5STRING_new();

        ASN1_STRING_set(s, name, -1);
        GENERAL_NAME_set0_value(g, GEN_DNS, s);
    }
    sk_GENERAL_NAME_push(list, g);
}

/* The names of the certificate, the common name first when it is one; NULL when there are none. */
static GENERAL_NAMES *alternative_names(const struct x509_request *r)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();

    if (is_name(r->common_name))
        add_general(list, r->common_name);
    for (size_t i = 0; r->names && i < r->names->n; i++)
        if (!str_ieq(r->names->items[i], r->common_name))
            add_general(list, r->names->items[i]);
    if (!sk_GENERAL_NAME_num(list)) {
        GENERAL_NAMES_free(list);
        list = NULL;
    }
    return list;
}

static bool add_extension(STACK_OF(X509_EXTENSION) * list, X509V3_CTX *ctx, int nid,
                          const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);

    return e && sk_X509_EXTENSION_push(list, e);
}

/* What both the certificate and the request carry. New; NULL on failure. */
static STACK_OF(X509_EXTENSION) *
    extensions(const struct x509_request *r, X509V3_CTX *ctx, bool rsa)
{
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    GENERAL_NAMES *names = alternative_names(r);
    X509_EXTENSION *e = names ? X509V3_EXT_i2d(NID_subject_alt_name, 0, names) : NULL;
    bool ok = !names || (e && sk_X509_EXTENSION_push(list, e));

    GENERAL_NAMES_free(names);
    if (ok && add_extension(list, ctx, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(list, ctx, NID_key_usage,
                      rsa ? "critical,digitalSignature,keyEncipherment"
                          : "critical,digitalSignature") &&
        add_extension(list, ctx, NID_ext_key_usage, "serverAuth,clientAuth"))
        return list;
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return NULL;
}

static const EVP_MD *digest_for(EVP_PKEY *k)
{
    if (EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519)
        return NULL; /* RFC 8410: the signature hashes by itself */
    return EVP_PKEY_get_bits(k) == 384 ? EVP_sha384() : EVP_sha256();
}

static bool random_serial(X509 *x)
{
    unsigned char bytes[16];
    BIGNUM *n;
    bool ok;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, 16 bytes: RFC 5280 section 4.1.2.2 */
    n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
    BN_free(n);
    return ok;
}

static X509 *make_certificate(const struct x509_request *r, EVP_PKEY *k, struct err *err)
{
    AUTO_X509 x = X509_new();
    STACK_OF(X509_EXTENSION) *list = NULL;
    time_t now = (time_t)(clock_wall() / 1000000);
    X509V3_CTX ctx;
    X509 *done = NULL;
    bool ok;

    X509_set_version(x, X509_VERSION_3);
    if (!fill_name(X509_get_subject_name(x), r, err))
        return NULL;
    ok = random_serial(x) && X509_set_issuer_name(x, X509_get_subject_name(x)) &&
         X509_set_pubkey(x, k) &&
         ASN1_TIME_set(X509_getm_notBefore(x), now - 300) && /* clocks of others may be slow */
         ASN1_TIME_set(X509_getm_notAfter(x), now + (time_t)r->days * DAY);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    list = ok ? extensions(r, &ctx, EVP_PKEY_get_base_id(k) == EVP_PKEY_RSA) : NULL;
    ok = list && add_extension(list, &ctx, NID_subject_key_identifier, "hash");
    for (int i = 0; ok && i < sk_X509_EXTENSION_num(list); i++)
        ok = X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    if (!ok || !X509_sign(x, k, digest_for(k))) {
        openssl_failed(err, "making the certificate");
        return NULL;
    }
    done = x;
    x = NULL;
    return done;
}

static X509_REQ *make_request(const struct x509_request *r, EVP_PKEY *k, struct err *err)
{
    AUTO_REQ q = X509_REQ_new();
    STACK_OF(X509_EXTENSION) * list;
    X509V3_CTX ctx;
    X509_REQ *done;
    bool ok;

    X509_REQ_set_version(q, X509_REQ_VERSION_1);
    if (!fill_name(X509_REQ_get_subject_name(q), r, err))
        return NULL;
    X509V3_set_ctx(&ctx, NULL, NULL, q, NULL, 0);
    list = extensions(r, &ctx, EVP_PKEY_get_base_id(k) == EVP_PKEY_RSA);
    ok = list && X509_REQ_set_pubkey(q, k) && X509_REQ_add_extensions(q, list);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    if (!ok || !X509_REQ_sign(q, k, digest_for(k))) {
        openssl_failed(err, "making the certificate signing request");
        return NULL;
    }
    done = q;
    q = NULL;
    return done;
}

static bool write_key(struct buf *out, EVP_PKEY *k, struct err *err)
{
    AUTO_BIO b = BIO_new(BIO_s_secmem());
    char *p = NULL;
    long n;

    if (!PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL))
        return openssl_failed(err, "writing the private key");
    n = BIO_get_mem_data(b, &p);
    buf_add(out, p, (size_t)n);
    OPENSSL_cleanse(p, (size_t)n);
    return !out->full || err_set(err, E_LIMIT, "The private key is too long.");
}

static bool write_request(struct buf *out, X509_REQ *q, struct err *err)
{
    AUTO_BIO b = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    if (!PEM_write_bio_X509_REQ(b, q))
        return openssl_failed(err, "writing the certificate signing request");
    n = BIO_get_mem_data(b, &p);
    buf_add(out, p, (size_t)n);
    return !out->full || err_set(err, E_LIMIT, "The certificate signing request is too long.");
}

static bool check_request(const struct x509_request *r, struct err *err)
{
    if (!x509_check_common_name(r->common_name ? r->common_name : "", err) ||
        !x509_check_country(r->country ? r->country : "", err) ||
        !x509_check_algorithm(r->algorithm ? r->algorithm : "", err))
        return false;
    if (r->days < 1 || r->days > MAX_DAYS)
        return err_set(err, E_INVALID, "The duration must be an integer from 1 to %d days.",
                       MAX_DAYS);
    for (size_t i = 0; r->names && i < r->names->n; i++)
        if (!x509_check_name(r->names->items[i], err))
            return false;
    return true;
}

bool x509_make_self_signed(const struct x509_request *r, struct buf *cert, struct buf *key,
                           struct buf *csr, struct err *err)
{
    AUTO_PKEY k = NULL;
    AUTO_X509 x = NULL;
    AUTO_REQ q = NULL;

    if (!check_request(r, err))
        return false;
    k = make_key(algorithm_find(r->algorithm), err);
    x = k ? make_certificate(r, k, err) : NULL;
    if (!x || !write_key(key, k, err))
        return false;
    if (!add_pem(cert, x))
        return err_set(err, E_LIMIT, "The certificate is too long.");
    if (!csr)
        return true;
    q = make_request(r, k, err);
    return q && write_request(csr, q, err);
}
