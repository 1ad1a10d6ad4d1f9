/* test_crl_parse.c - revocation lists as authorities publish them, and as they should not: made
 * with the library, so that every test says what its list is. */
#include "daemon/crl_list.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

#define DAY (INT64_C(86400) * 1000000)

/* --- authorities --- */

struct ca {
    EVP_PKEY *key;
    X509 *x;
};

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *e;
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static struct ca ca_new(const char *cn, EVP_PKEY *key, const char *usage)
{
    struct ca ca = {key, X509_new()};
    X509_NAME *name = X509_get_subject_name(ca.x);

    X509_set_version(ca.x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(ca.x), 1);
    X509_gmtime_adj(X509_getm_notBefore(ca.x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(ca.x), 86400 * 30);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(ca.x, name);
    X509_set_pubkey(ca.x, key);
    add_extension(ca.x, ca.x, NID_basic_constraints, "critical,CA:TRUE");
    if (usage)
        add_extension(ca.x, ca.x, NID_key_usage, usage);
    add_extension(ca.x, ca.x, NID_subject_key_identifier, "hash");
    X509_sign(ca.x, key, EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256());
    return ca;
}

static void ca_free(struct ca *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->x);
}

static struct ca corp, other, old;

/* --- lists --- */

struct making {
    const struct ca *by; /* NULL: corp */
    const char *serials[8]; /* hexadecimal, "-" in front: negative */
    int reason; /* of all of them; 0: none given */
    int begins, ends; /* days from now; ends 0: it does not say */
    const char *number;
    int ext; /* NID of one more extension ... */
    const char *value; /* ... in the words of x509v3_config(5) */
    int entry_ext; /* the same of every entry */
    const char *entry_value;
    bool v1, critical, pss, no_key_id;
    const EVP_MD *md;
};

static X509_EXTENSION *raw_extension(int nid, bool critical, const char *hex)
{
    long n;
    unsigned char *der = OPENSSL_hexstr2buf(hex, &n);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *e;

    ASN1_OCTET_STRING_set(value, der, (int)n);
    e = X509_EXTENSION_create_by_NID(NULL, nid, critical, value);
    ASN1_OCTET_STRING_free(value);
    OPENSSL_free(der);
    return e;
}

static X509_EXTENSION *extension(X509 *issuer, X509_CRL *crl, int nid, bool critical,
                                 const char *value)
{
    X509V3_CTX ctx;

    if (str_starts(value, "DER:"))
        return raw_extension(nid, critical, value + 4);
    X509V3_set_ctx(&ctx, issuer, NULL, NULL, crl, 0);
    return X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
}

static void add_to_list(X509_CRL *crl, X509 *issuer, int nid, bool critical, const char *value)
{
    X509_EXTENSION *e = extension(issuer, crl, nid, critical, value);

    assert_non_null(e);
    X509_CRL_add_ext(crl, e, -1);
    X509_EXTENSION_free(e);
}

static void add_entry(X509_CRL *crl, X509 *issuer, const struct making *m, const char *serial)
{
    X509_REVOKED *r = X509_REVOKED_new();
    BIGNUM *bn = NULL;
    ASN1_INTEGER *number;
    ASN1_TIME *t = X509_gmtime_adj(NULL, -86400);

    BN_hex2bn(&bn, serial);
    number = BN_to_ASN1_INTEGER(bn, NULL);
    X509_REVOKED_set_serialNumber(r, number);
    X509_REVOKED_set_revocationDate(r, t);
    if (m->reason) {
        ASN1_ENUMERATED *e = ASN1_ENUMERATED_new();

        ASN1_ENUMERATED_set(e, m->reason);
        X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, e, 0, 0);
        ASN1_ENUMERATED_free(e);
    }
    if (m->entry_value) {
        X509_EXTENSION *e = extension(issuer, crl, m->entry_ext, m->critical, m->entry_value);

        X509_REVOKED_add_ext(r, e, -1);
        X509_EXTENSION_free(e);
    }
    X509_CRL_add0_revoked(crl, r);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(t);
    BN_free(bn);
}

static void sign(X509_CRL *crl, const struct ca *by, const struct making *m)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key = NULL;
    const EVP_MD *md = m->md ? m->md : EVP_sha256();

    EVP_DigestSignInit(ctx, &key, EVP_PKEY_get_base_id(by->key) == EVP_PKEY_ED25519 ? NULL : md,
                       NULL, by->key);
    if (m->pss) {
        EVP_PKEY_CTX_set_rsa_padding(key, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(key, 32);
    }
    assert_true(X509_CRL_sign_ctx(crl, ctx) > 0);
    EVP_MD_CTX_free(ctx);
}

static struct slice make(const struct making *m)
{
    const struct ca *by = m->by ? m->by : &corp;
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *t = X509_gmtime_adj(NULL, m->begins * 86400L);
    unsigned char *der = NULL;
    int n;

    if (!m->v1)
        X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(by->x));
    X509_CRL_set1_lastUpdate(crl, t);
    ASN1_TIME_free(t);
    if (m->ends) {
        t = X509_gmtime_adj(NULL, m->ends * 86400L);
        X509_CRL_set1_nextUpdate(crl, t);
        ASN1_TIME_free(t);
    }
    for (size_t i = 0; i < countof(m->serials) && m->serials[i]; i++)
        add_entry(crl, by->x, m, m->serials[i]);
    if (m->number) {
        BIGNUM *bn = NULL;
        ASN1_INTEGER *number;

        BN_hex2bn(&bn, m->number);
        number = BN_to_ASN1_INTEGER(bn, NULL);
        X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0);
        ASN1_INTEGER_free(number);
        BN_free(bn);
    }
    if (!m->v1 && !m->no_key_id)
        add_to_list(crl, by->x, NID_authority_key_identifier, false, "keyid");
    if (m->value)
        add_to_list(crl, by->x, m->ext, m->critical, m->value);
    sign(crl, by, m);
    n = i2d_X509_CRL(crl, &der);
    X509_CRL_free(crl);
    return (struct slice){(char *)der, (size_t)n};
}

/* --- reading them --- */

static struct err said;

static struct crl_list *read_der(struct slice der, const struct ca *a, const struct ca *b)
{
    STACK_OF(X509) *authorities = sk_X509_new_null();
    struct crl_signed sig;
    struct crl_list *l;

    said = (struct err){0};
    if (a)
        sk_X509_push(authorities, a->x);
    if (b)
        sk_X509_push(authorities, b->x);
    l = crl_parse(der, &sig, &said);
    if (l && !crl_verify(l, &sig, authorities, &said))
        crl_list_free(&l);
    sk_X509_free(authorities);
    return l;
}

static struct crl_list *read_list(const struct making *m)
{
    struct slice der = make(m);
    struct crl_list *l = read_der(der, m->by ? m->by : &corp, NULL);

    OPENSSL_free((void *)der.p);
    return l;
}

static struct crl_list *good(const struct making *m)
{
    struct crl_list *l = read_list(m);

    if (!l)
        fail_msg("%s", said.text);
    return l;
}

static void refused(const struct making *m, const char *because)
{
    struct crl_list *l = read_list(m);

    if (l)
        fail_msg("taken, but: %s", because);
    if (!strstr(said.text, because))
        fail_msg("\"%s\" does not say \"%s\"", said.text, because);
}

static bool has(const struct crl_list *l, const char *serial, struct crl_entry *e)
{
    BIGNUM *bn = NULL;
    ASN1_INTEGER *n;
    bool found;

    BN_hex2bn(&bn, serial);
    n = BN_to_ASN1_INTEGER(bn, NULL);
    found = crl_find(l, n, e);
    ASN1_INTEGER_free(n);
    BN_free(bn);
    return found;
}

static void a_good_list_is_read(void **state)
{
    struct crl_list *l = good(&(struct making){
        .serials = {"01", "FF", "80", "00", "123456789ABCDEF0123456789ABCDEF012345678"},
        .reason = CRL_REASON_KEY_COMPROMISE,
        .ends = 7,
        .number = "1234"
    });
    AUTO(buf) struct buf number = BUF_INIT(100);
    struct crl_entry e;

    (void)state;
    assert_int_equal(l->entries, 5);
    assert_string_equal(l->issuer_text, "CN=Corp CA");
    assert_true(has(l, "01", &e));
    assert_int_equal(e.reason, CRL_REASON_KEY_COMPROMISE);
    assert_string_equal(crl_reason_text(e.reason), "key compromise");
    assert_true(llabs(clock_wall() - DAY - e.revoked) < 60 * 1000000);
    assert_true(has(l, "FF", &e) && has(l, "80", &e) && has(l, "0", &e));
    assert_true(has(l, "123456789ABCDEF0123456789ABCDEF012345678", &e));
    assert_false(has(l, "02", &e) || has(l, "7F", &e) || has(l, "-1", &e) || has(l, "-80", &e));
    assert_false(has(l, "123456789ABCDEF0123456789ABCDEF012345679", &e));
    crl_number_text(l, &number);
    assert_string_equal(buf_str(&number), "4660");
    assert_false(crl_is_outdated(l, clock_wall()));
    assert_true(crl_is_outdated(l, clock_wall() + 8 * DAY));
    assert_int_equal(l->scope, CRL_ALL);
    crl_list_free(&l);
}

static void strange_serial_numbers_are_numbers(void **state)
{
    char huge[2 * 40 + 1], limit[2 * 64 + 1], too_long[2 * 65 + 1];
    struct crl_entry e;
    struct crl_list *l;

    (void)state;
    memset(huge, '7', 80);
    memset(limit, '7', 128);
    memset(too_long, '7', 130);
    huge[80] = limit[128] = too_long[130] = '\0';
    l = good(&(struct making){
        .serials = {huge, limit, "-1", "-80", "-FF"},
          .ends = 1
    });
    assert_true(has(l, huge, &e) && has(l, limit, &e));
    assert_int_equal(e.reason, -1);
    assert_true(has(l, "-1", &e) && has(l, "-80", &e) && has(l, "-FF", &e));
    assert_false(has(l, "1", &e) || has(l, "FF", &e) || has(l, "80", &e) || has(l, too_long, &e));
    crl_list_free(&l);
    refused(&(struct making){.serials = {too_long}, .ends = 1}, "serial number of 65 bytes");
}

static void an_empty_list_and_one_that_repeats_itself_will_do(void **state)
{
    struct crl_list *l = good(&(struct making){.ends = 1});
    struct crl_entry e;

    (void)state;
    assert_int_equal(l->entries, 0);
    assert_false(has(l, "1", &e));
    crl_list_free(&l);
    l = good(&(struct making){
        .serials = {"05", "05", "05"},
          .ends = 1
    });
    assert_true(has(l, "5", &e));
    assert_true(
        crl_find_bytes(l, (const unsigned char *)"\0\0\5", 3, &e)); /* a longer way to write it */
    crl_list_free(&l);
}

static void dates_are_what_they_say(void **state)
{
    struct crl_list *l = good(&(struct making){.begins = -9, .ends = -2});

    (void)state;
    assert_true(crl_is_outdated(l, clock_wall()));
    crl_list_free(&l);
    l = good(&(struct making){.begins = -6});
    assert_int_equal(l->next_update, 0);
    assert_false(crl_is_outdated(l, clock_wall()));
    assert_true(crl_is_outdated(l, clock_wall() + DAY + 1000000));
    crl_list_free(&l);
    l = good(&(struct making){.ends = 365 * 40}); /* GeneralizedTime from 2050 on */
    assert_true(l->next_update > clock_wall() + 360 * 40 * DAY);
    crl_list_free(&l);
    refused(&(struct making){.begins = 2, .ends = 1}, "ends before it begins");
}

static void every_kind_of_signature(void **state)
{
    struct ca rsa = ca_new("RSA CA", EVP_RSA_gen(2048), "critical,cRLSign,keyCertSign"),
              ed = ca_new("Ed25519 CA", EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL),
              p384 = ca_new("P-384 CA", EVP_EC_gen("P-384"), "cRLSign");
    const struct making lists[] = {
        {.by = &rsa, .ends = 1         },
        {                   .by = &rsa, .ends = 1, .md = EVP_sha512()},
        {                   .by = &rsa, .ends = 1,        .pss = true},
        {                   .by = &rsa, .ends = 1,        .pss = true, .md = EVP_sha384()},
        { .by = &ed,  .ends = 1         },
        {                  .by = &p384, .ends = 1, .md = EVP_sha384()},
        {                   .by = &corp,
         .ends = 1,
         .v1 = true}, /* what "openssl ca -gencrl" makes when nobody asks for more */
    };

    (void)state;
    for (size_t i = 0; i < countof(lists); i++) {
        struct making m = lists[i];
        struct crl_list *l;
        struct slice der;

        m.serials[0] = "0A";
        l = good(&m);
        crl_list_free(&l);
        der = make(&m);
        ((char *)der.p)[der.n - 3] ^= 1; /* in the signature */
        l = read_der(der, m.by, NULL);
        assert_null(l);
        assert_non_null(strstr(said.text, "signature of the list is wrong"));
        OPENSSL_free((void *)der.p);
    }
    refused(&(struct making){.by = &rsa, .ends = 1, .md = EVP_sha1()}, "not accepted");
    refused(&(struct making){.by = &rsa, .ends = 1, .pss = true, .md = EVP_sha1()}, "SHA-1");
    refused(&(struct making){.by = &rsa, .ends = 1, .md = EVP_md5()}, "not accepted");
    ca_free(&rsa);
    ca_free(&ed);
    ca_free(&p384);
}

static void what_was_changed_on_the_way_is_refused(void **state)
{
    struct slice der = make(&(struct making){.serials = {"AABBCCDD"}, .ends = 7, .number = "5"});
    unsigned taken = 0;

    (void)state;
    for (size_t i = 0; i < der.n; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            struct crl_list *l;

            ((char *)der.p)[i] ^= (char)(1 << bit);
            l = read_der(der, &corp, NULL);
            taken += l != NULL;
            assert_true(l || *said.text);
            crl_list_free(&l);
            ((char *)der.p)[i] ^= (char)(1 << bit);
        }
    assert_int_equal(taken, 0);
    for (size_t n = 0; n < der.n; n++)
        assert_null(read_der((struct slice){der.p, n}, &corp, NULL));
    OPENSSL_free((void *)der.p);
}

static void the_issuer_is_one_of_ours(void **state)
{
    struct slice der = make(&(struct making){.ends = 1}),
                 unnamed = make(&(struct making){.ends = 1, .no_key_id = true});
    struct ca mute = ca_new("Mute CA", EVP_EC_gen("P-256"), "critical,keyCertSign");
    struct crl_list *l;

    (void)state;
    assert_null(read_der(der, NULL, NULL));
    assert_int_equal(said.code, E_NOT_FOUND);
    assert_non_null(strstr(said.text, "certconfig > certauthority"));
    assert_null(read_der(der, &other, NULL)); /* another name */
    assert_null(read_der(der, &old, NULL)); /* the same name, another key, which both say */
    assert_non_null(strstr(said.text, "another key"));
    assert_null(read_der(unnamed, &old, NULL)); /* ... which the list does not say */
    assert_non_null(strstr(said.text, "signature of the list is wrong"));
    l = read_der(der, &old, &corp);
    assert_non_null(l);
    crl_list_free(&l);
    l = read_der(unnamed, &old, &corp);
    assert_non_null(l);
    crl_list_free(&l);
    refused(&(struct making){.by = &mute, .ends = 1}, "lacks cRLSign");
    OPENSSL_free((void *)der.p);
    OPENSSL_free((void *)unnamed.p);
    ca_free(&mute);
}

static void two_algorithms_are_one_too_many(void **state)
{
    struct ca rsa = ca_new("RSA CA", EVP_RSA_gen(2048), NULL);
    struct slice der = make(&(struct making){.by = &rsa, .ends = 1});
    static const unsigned char oid[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b};
    char *outer = NULL, *at = (char *)der.p;

    (void)state;
    while ((at = memmem(at, der.n - (size_t)(at - der.p), oid, sizeof(oid))))
        outer = at++;
    assert_non_null(outer);
    outer[sizeof(oid) - 1] = 0x0c; /* sha384WithRSAEncryption, and only there */
    assert_null(read_der(der, &rsa, NULL));
    assert_non_null(strstr(said.text, "two different signature algorithms"));
    OPENSSL_free((void *)der.p);
    ca_free(&rsa);
}

static void kinds_of_lists_that_would_mislead_are_refused(void **state)
{
    (void)state;
    refused(
        &(struct making){.ends = 1, .ext = NID_delta_crl, .critical = true, .value = "DER:020101"},
        "delta list");
    refused(&(struct making){.ends = 1,
                             .ext = NID_issuing_distribution_point,
                             .critical = true,
                             .value = "DER:30038401FF"},
            "indirect list");
    refused(&(struct making){.ends = 1,
                             .ext = NID_issuing_distribution_point,
                             .critical = true,
                             .value = "DER:300483020560"},
            "only revocations for some reasons");
    refused(&(struct making){.ends = 1,
                             .ext = NID_issuing_distribution_point,
                             .critical = true,
                             .value = "DER:30038501FF"},
            "attribute certificates");
    refused(&(struct making){.ends = 1,
                             .ext = NID_issuing_distribution_point,
                             .critical = true,
                             .value = "DER:30068101FF8201FF"},
            "distribution point is damaged");
    refused(
        &(struct making){
            .ends = 1, .ext = NID_name_constraints, .critical = true, .value = "DER:3000"},
        "critical extension 2.5.29.30");
    refused(&(struct making){.serials = {"1"},
                             .ends = 1,
                             .entry_ext = NID_certificate_issuer,
                             .critical = true,
                             .entry_value = "DER:300882066578616D706C"},
            "indirect list");
    refused(&(struct making){.serials = {"1"},
                             .ends = 1,
                             .entry_ext = NID_name_constraints,
                             .critical = true,
                             .entry_value = "DER:3000"},
            "an entry has the critical extension 2.5.29.30");
    refused(&(struct making){.serials = {"1"}, .ends = 1, .reason = CRL_REASON_REMOVE_FROM_CRL},
            "removeFromCRL");
    refused(&(struct making){.ends = 1, .ext = NID_authority_key_identifier, .value = "keyid"},
            "extension twice");
}

static void unknown_extensions_that_are_not_critical_do_not_matter(void **state)
{
    struct crl_list *l =
        good(&(struct making){.serials = {"1"},
                              .ends = 1,
                              .ext = NID_name_constraints,
                              .value = "DER:3000",
                              .entry_ext = NID_invalidity_date,
                              .entry_value = "DER:180F32303236313130313030303030305A"});

    (void)state;
    crl_list_free(&l);
}

static void the_scope_of_a_list_is_kept(void **state)
{
    struct crl_list *l = good(&(struct making){.ends = 1,
                                               .ext = NID_issuing_distribution_point,
                                               .critical = true,
                                               .value = "DER:30038101FF"});
    X509 *leaf = X509_new();

    (void)state;
    assert_int_equal(l->scope, CRL_USERS);
    assert_false(crl_is_about(l, corp.x)); /* an authority */
    X509_set_version(leaf, 2);
    X509_set_issuer_name(leaf, X509_get_subject_name(corp.x));
    assert_true(crl_is_about(l, leaf));
    assert_true(crl_covers(l, leaf));
    X509_set_issuer_name(leaf, X509_get_subject_name(other.x));
    assert_false(crl_is_about(l, leaf));
    crl_list_free(&l);
    l = good(&(struct making){.ends = 1,
                              .ext = NID_issuing_distribution_point,
                              .critical = true,
                              .value = "DER:30038201FF"});
    assert_int_equal(l->scope, CRL_AUTHORITIES);
    assert_true(crl_is_about(l, corp.x));
    crl_list_free(&l);
    X509_free(leaf);
}

/* One of several lists of an authority: who is not in it is only safe when it is his list. */
static void a_part_of_a_list_covers_its_part(void **state)
{
    struct crl_list *l = good(&(struct making){
        .ends = 1,
        .ext = NID_issuing_distribution_point,
        .critical = true,
        .value = "DER:3013A011A00F860D687474703A2F2F782F612E6372"}); /* http://x/a.cr */
    X509 *leaf = X509_new();

    (void)state;
    assert_true(l->divided);
    assert_int_equal(l->points.n, 1);
    assert_string_equal(l->points.items[0], "http://x/a.cr");
    X509_set_version(leaf, 2);
    X509_set_issuer_name(leaf, X509_get_subject_name(corp.x));
    assert_false(crl_covers(l, leaf));
    add_extension(leaf, corp.x, NID_crl_distribution_points, "URI:http://x/b.cr,URI:http://x/a.cr");
    assert_true(crl_covers(l, leaf));
    X509_free(leaf);
    leaf = X509_new();
    add_extension(leaf, corp.x, NID_crl_distribution_points, "URI:http://x/b.cr");
    assert_false(crl_covers(l, leaf));
    X509_free(leaf);
    crl_list_free(&l);
}

static void an_older_list_does_not_follow(void **state)
{
    struct crl_list *five = good(&(struct making){.ends = 2, .number = "5"}),
                    *four = good(&(struct making){.ends = 3, .number = "4"}),
                    *big = good(&(struct making){.ends = 3, .number = "0100000000000000000005"}),
                    *yesterday = good(&(struct making){.begins = -1, .ends = 3}),
                    *today = good(&(struct making){.ends = 3}),
                    *rekeyed = good(&(struct making){.by = &old, .ends = 3, .number = "1"}),
                    *others = good(&(struct making){.by = &other, .ends = 3, .number = "1"});
    struct err err = {0};

    (void)state;
    assert_true(crl_may_follow(five, four, &err) && crl_may_follow(five, five, &err));
    assert_false(crl_may_follow(four, five, &err));
    assert_non_null(strstr(err.text, "its number is 4, after 5"));
    assert_true(crl_may_follow(big, five, &err));
    assert_false(crl_may_follow(five, big, &err));
    assert_true(crl_may_follow(today, yesterday, &err));
    assert_false(crl_may_follow(yesterday, today, &err));
    assert_true(crl_may_follow(rekeyed, five, &err)); /* the numbers of another key say nothing */
    assert_true(crl_may_follow(others, five, &err));
    crl_list_free(&five);
    crl_list_free(&four);
    crl_list_free(&big);
    crl_list_free(&yesterday);
    crl_list_free(&today);
    crl_list_free(&rekeyed);
    crl_list_free(&others);
}

static void files(void **state)
{
    struct slice der = make(&(struct making){.serials = {"7"}, .ends = 1}), got;
    AUTO(buf) struct buf text = BUF_INIT(10000), store = BUF_INIT(10000), small = BUF_INIT(10);
    unsigned char *base64 = malloc(der.n * 2);
    struct err err = {0};
    struct crl_list *l;

    (void)state;
    EVP_EncodeBlock(base64, (const unsigned char *)der.p, (int)der.n);
    buf_str_add(&text, "some words before\n-----BEGIN X509 CRL-----\n");
    for (size_t i = 0; i < strlen((char *)base64); i += 64)
        buf_printf(&text, "%.64s\r\n", base64 + i);
    assert_false(crl_decode(text.p, text.n, true, &store, &got, &err)); /* cut off */
    assert_non_null(strstr(err.text, "ends before"));
    buf_str_add(&text, "-----END X509 CRL-----\n");
    assert_true(crl_decode(text.p, text.n, true, &store, &got, &err));
    assert_int_equal(got.n, der.n);
    assert_memory_equal(got.p, der.p, der.n);
    l = read_der(got, &corp, NULL);
    assert_non_null(l);
    crl_list_free(&l);
    assert_false(crl_decode(text.p, text.n, true, &small, &got, &err));
    assert_int_equal(err.code, E_LIMIT);
    assert_false(crl_decode(text.p, text.n, false, &store, &got, &err));
    assert_non_null(strstr(err.text, "PEM, not ASN.1"));
    assert_false(crl_decode(der.p, der.n, true, &store, &got, &err));
    assert_non_null(strstr(err.text, "ASN.1, not PEM"));
    assert_false(crl_decode("hello", 5, true, &store, &got, &err));
    assert_false(crl_decode("", 0, true, &store, &got, &err));
    assert_true(crl_decode("", 0, false, &store, &got, &err));
    assert_null(read_der(got, &corp, NULL));
    buf_reset(&text);
    buf_str_add(&text, "-----BEGIN X509 CRL-----\n====!!!!\n-----END X509 CRL-----\n");
    assert_false(crl_decode(text.p, text.n, true, &store, &got, &err));
    free(base64);
    OPENSSL_free((void *)der.p);
}

static int set_up(void **state)
{
    (void)state;
    corp = ca_new("Corp CA", EVP_EC_gen("P-256"), "critical,cRLSign,keyCertSign");
    other = ca_new("Other CA", EVP_EC_gen("P-256"), NULL);
    old = ca_new("Corp CA", EVP_EC_gen("P-256"), NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ca_free(&corp);
    ca_free(&other);
    ca_free(&old);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_list_is_read),
        cmocka_unit_test(strange_serial_numbers_are_numbers),
        cmocka_unit_test(an_empty_list_and_one_that_repeats_itself_will_do),
        cmocka_unit_test(dates_are_what_they_say),
        cmocka_unit_test(every_kind_of_signature),
        cmocka_unit_test(what_was_changed_on_the_way_is_refused),
        cmocka_unit_test(the_issuer_is_one_of_ours),
        cmocka_unit_test(two_algorithms_are_one_too_many),
        cmocka_unit_test(kinds_of_lists_that_would_mislead_are_refused),
        cmocka_unit_test(unknown_extensions_that_are_not_critical_do_not_matter),
        cmocka_unit_test(the_scope_of_a_list_is_kept),
        cmocka_unit_test(a_part_of_a_list_covers_its_part),
        cmocka_unit_test(an_older_list_does_not_follow),
        cmocka_unit_test(files),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
