/* x509_make.c - new keys, certificates signed with them, and requests; see x509.h. */
#include "store/x509.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "store/base/net.h"
#include "store/x509_lib.h"

#define MAX_DAYS 36500
#define SLOW_CLOCKS 300 /* seconds: a certificate begins in the past, for clocks of others */

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

bool x509_check_digest(const char *word, struct err *err)
{
    if (str_ieq(word, "sha1") || str_ieq(word, "md5"))
        return err_set(err, E_INVALID,
                       "Signatures with %s can be forged and are refused by today's mail servers. "
                       "Choose sha256, sha384 or sha512.",
                       str_ieq(word, "sha1") ? "SHA-1" : "MD5");
    return !*word || str_ieq(word, "sha256") || str_ieq(word, "sha384") ||
           str_ieq(word, "sha512") ||
           err_set(err, E_INVALID,
                   "Unknown signature digest \"%s\". Choose one of: sha256, sha384, sha512.",
                   str_printable(word));
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

static const EVP_MD *digest_for(EVP_PKEY *k, const char *word)
{
    if (EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519)
        return NULL; /* RFC 8410: the signature hashes by itself */
    if (word && *word)
        return EVP_get_digestbyname(word);
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
         X509_set_pubkey(x, k) && ASN1_TIME_set(X509_getm_notBefore(x), now - SLOW_CLOCKS) &&
         ASN1_TIME_set(X509_getm_notAfter(x), now + (time_t)r->days * DAY);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    list = ok ? extensions(r, &ctx, EVP_PKEY_get_base_id(k) == EVP_PKEY_RSA) : NULL;
    ok = list && add_extension(list, &ctx, NID_subject_key_identifier, "hash");
    for (int i = 0; ok && i < sk_X509_EXTENSION_num(list); i++)
        ok = X509_add_ext(x, sk_X509_EXTENSION_value(list, i), -1);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    if (!ok || !X509_sign(x, k, digest_for(k, r->digest))) {
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
    if (!ok || !X509_REQ_sign(q, k, digest_for(k, r->digest))) {
        openssl_failed(err, "making the certificate signing request");
        return NULL;
    }
    done = q;
    q = NULL;
    return done;
}

bool pem_add_key(struct buf *out, EVP_PKEY *k, struct err *err)
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
        !x509_check_algorithm(r->algorithm ? r->algorithm : "", err) ||
        !x509_check_digest(r->digest ? r->digest : "", err))
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
    if (!x || !pem_add_key(key, k, err))
        return false;
    if (!pem_add(cert, x))
        return err_set(err, E_LIMIT, "The certificate is too long.");
    if (!csr)
        return true;
    q = make_request(r, k, err);
    return q && write_request(csr, q, err);
}

/* --- what a request asks for --- */

static bool same_subject(X509_REQ *q, const struct x509_request *r)
{
    X509_NAME *wanted = X509_NAME_new();
    bool same =
        fill_name(wanted, r, NULL) && X509_NAME_cmp(wanted, X509_REQ_get_subject_name(q)) == 0;

    X509_NAME_free(wanted);
    return same;
}

static bool same_names(X509_REQ *q, const struct x509_request *r)
{
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(q);
    GENERAL_NAMES *there = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL),
                  *wanted = alternative_names(r);
    int n = there ? sk_GENERAL_NAME_num(there) : 0;
    bool same = n == (wanted ? sk_GENERAL_NAME_num(wanted) : 0);

    for (int i = 0; same && i < n; i++)
        same = GENERAL_NAME_cmp(sk_GENERAL_NAME_value(there, i),
                                sk_GENERAL_NAME_value(wanted, i)) == 0;
    GENERAL_NAMES_free(there);
    GENERAL_NAMES_free(wanted);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return same;
}

static bool same_key_type(X509_REQ *q, const struct x509_request *r)
{
    const struct algorithm *a = algorithm_find(r->algorithm);
    EVP_PKEY *k = X509_REQ_get0_pubkey(q);
    char group[32] = "";
    const EVP_MD *md;
    int digest = NID_undef;

    if (!a || !k || !EVP_PKEY_is_a(k, a->type) ||
        (a->bits && (size_t)EVP_PKEY_get_bits(k) != a->bits))
        return false;
    if (a->group && (EVP_PKEY_get_group_name(k, group, sizeof(group), NULL) != 1 ||
                     EC_curve_nist2nid(a->group) != OBJ_txt2nid(group)))
        return false;
    md = digest_for(k, r->digest);
    return !md || (OBJ_find_sigid_algs(X509_REQ_get_signature_nid(q), &digest, NULL) &&
                   digest == EVP_MD_get_type(md));
}

/* A certificate of an authority lasts as long as that authority likes. */
static bool same_days(const char *cert, const struct x509_request *r)
{
    struct x509_facts f = {0};
    bool same = x509_read(cert, &f, NULL) &&
                (!f.self_signed ||
                 f.not_after - f.not_before == ((usec_t)r->days * DAY + SLOW_CLOCKS) * 1000000);

    x509_facts_free(&f);
    return same;
}

bool x509_made_for(const char *cert, const char *csr, const struct x509_request *r)
{
    AUTO_BIO b = BIO_new_mem_buf(csr, -1);
    AUTO_REQ q = check_request(r, NULL) ? PEM_read_bio_X509_REQ(b, NULL, NULL, NULL) : NULL;
    bool same =
        q && same_subject(q, r) && same_names(q, r) && same_key_type(q, r) && same_days(cert, r);

    ERR_clear_error();
    return same;
}
