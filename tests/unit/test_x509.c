/* test_x509.c - certificates: what is made can be read back, what does not fit together is refused
 * with a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "store/x509.h"

static const usec_t wall = 1700000000000000; /* 2023-11-14 22:13:20 UTC */

struct made {
    struct buf cert, key, csr;
};

static void made_free(struct made *m)
{
    buf_free(&m->cert);
    buf_free(&m->key);
    buf_free(&m->csr);
}

#define AUTO_MADE __attribute__((cleanup(made_free))) struct made
#define AUTO_FACTS __attribute__((cleanup(x509_facts_free))) struct x509_facts

static struct made make(const char *name, const char *algorithm, const struct strlist *names)
{
    struct made m = {BUF_INIT(32768), BUF_INIT(32768), BUF_INIT(32768)};
    struct x509_request r = {.common_name = name,
                             .organization = "Example, Inc.",
                             .unit = "Mail",
                             .locality = "Zürich",
                             .state = "ZH",
                             .country = "ch",
                             .days = 365,
                             .algorithm = algorithm,
                             .names = names};
    struct err err = {0};

    if (!x509_make_self_signed(&r, &m.cert, &m.key, &m.csr, &err))
        fail_msg("%s", err.text);
    return m;
}

static void test_every_algorithm(void **state)
{
    static const struct {
        const char *word, *key;
        unsigned bits;
    } cases[] = {
        {"rsa-2048", "RSA 2048",    2048},
        {"rsa-3072", "RSA 3072",    3072},
        {"p256",     "ECDSA P-256", 256 },
        {"p384",     "ECDSA P-384", 384 },
        {"ed25519",  "Ed25519",     253 },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        AUTO_MADE m = make("mail.example.com", cases[i].word, NULL);
        AUTO_FACTS f = {0};
        struct err err = {0};

        assert_true(x509_read(buf_str(&m.cert), &f, &err));
        assert_string_equal(f.key, cases[i].key);
        assert_false(f.weak_key);
        assert_true(f.self_signed);
        assert_false(f.is_ca);
        assert_true(x509_check_key(buf_str(&m.key), &err));
        assert_true(x509_key_matches(buf_str(&m.cert), buf_str(&m.key), &err));
        assert_true(x509_same_key(buf_str(&m.cert), buf_str(&m.csr), &err));
    }
}

static void test_facts(void **state)
{
    struct strlist names = {0};
    struct err err = {0};

    (void)state;
    strlist_add(&names, "mx.example.com");
    strlist_add(&names, "*.example.org");
    strlist_add(&names, "MAIL.example.com"); /* the common name again */
    strlist_add(&names, "192.0.2.7");
    strlist_add(&names, "2001:db8::1");
    {
        AUTO_MADE m = make("mail.example.com", "p256", &names);
        AUTO_FACTS f = {0};
        AUTO(buf) struct buf all = BUF_INIT(400);

        assert_true(x509_read(buf_str(&m.cert), &f, &err));
        assert_string_equal(f.subject,
                            "C=CH,ST=ZH,L=Zürich,O=Example, Inc.,OU=Mail,CN=mail.example.com");
        assert_string_equal(f.issuer, f.subject);
        assert_string_equal(f.common_name, "mail.example.com");
        assert_string_equal(f.issued_by, "mail.example.com");
        strlist_join(&f.names, " ", &all);
        assert_string_equal(buf_str(&all),
                            "mail.example.com mx.example.com *.example.org 192.0.2.7 2001:db8::1");
        assert_int_equal(f.not_before, wall - 300000000);
        assert_int_equal(f.not_after, wall + 365LL * 86400 * 1000000);
        assert_int_equal(strlen(f.sha256), 64);
        assert_int_equal(strlen(f.serial), 32);
        assert_string_equal(f.signature, "ecdsa-with-SHA256");
        assert_int_equal(x509_count(buf_str(&m.cert)), 1);
    }
    strlist_free(&names);
}

static void test_days_and_status(void **state)
{
    struct x509_facts f = {.not_before = wall, .not_after = wall + 10LL * 86400 * 1000000};
    const usec_t day = 86400LL * 1000000;

    (void)state;
    assert_int_equal(x509_days_left(&f, wall), 10);
    assert_int_equal(x509_days_left(&f, wall + 1), 9);
    assert_int_equal(x509_days_left(&f, f.not_after - 1000000), 0);
    assert_int_equal(x509_days_left(&f, f.not_after), 0);
    assert_int_equal(x509_days_left(&f, f.not_after + 1000000), -1);
    assert_int_equal(x509_days_left(&f, f.not_after + day + 1000000), -2);
    assert_string_equal(x509_status(&f, wall - 1), "Not yet valid");
    assert_string_equal(x509_status(&f, wall), "Active");
    assert_string_equal(x509_status(&f, f.not_after), "Active");
    assert_string_equal(x509_status(&f, f.not_after + 1), "Expired");
}

static void test_key_that_does_not_match(void **state)
{
    AUTO_MADE a = make("a.example.com", "p256", NULL);
    AUTO_MADE b = make("b.example.com", "p256", NULL);
    AUTO_MADE c = make("c.example.com", "rsa-2048", NULL);
    struct err err = {0};

    (void)state;
    assert_false(x509_key_matches(buf_str(&a.cert), buf_str(&b.key), &err));
    assert_non_null(strstr(err.text, "does not belong to this certificate"));
    assert_false(x509_key_matches(buf_str(&a.cert), buf_str(&c.key), &err));
    assert_false(x509_same_key(buf_str(&b.cert), buf_str(&a.cert), &err));
    err = (struct err){0};
    assert_false(x509_same_key(buf_str(&b.cert), buf_str(&a.csr), &err));
    assert_non_null(strstr(err.text, "not issued for the key of this profile"));
}

/* What people paste by mistake: each gets a sentence that says what it is. */
static void test_wrong_texts(void **state)
{
    AUTO_MADE m = make("a.example.com", "p256", NULL);
    AUTO(buf) struct buf half = BUF_INIT(32768);
    AUTO_FACTS f = {0};
    struct err err = {0};

    (void)state;
    assert_false(x509_read("", &f, &err));
    assert_non_null(strstr(err.text, "not a certificate in PEM format"));
    assert_false(x509_read(buf_str(&m.key), &f, &err));
    assert_non_null(strstr(err.text, "This is a private key"));
    assert_false(x509_read(buf_str(&m.csr), &f, &err));
    assert_non_null(strstr(err.text, "signing request"));
    buf_add(&half, m.cert.p, m.cert.n / 2);
    assert_false(x509_read(buf_str(&half), &f, &err));
    assert_non_null(strstr(err.text, "damaged or incomplete"));
    assert_false(x509_check_key(buf_str(&m.cert), &err));
    assert_non_null(strstr(err.text, "This is a certificate"));
    assert_false(x509_check_key(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        &err));
    assert_non_null(strstr(err.text, "pass phrase"));
    assert_int_equal(x509_count(buf_str(&half)), 0);
}

static void test_requests_refused(void **state)
{
    static const struct {
        struct x509_request r;
        const char *sentence;
    } cases[] = {
        {{.common_name = "", .days = 1, .algorithm = "p256"},                                "common name is required"},
        {{.common_name = "a.example.com", .days = 0, .algorithm = "p256"},                   "from 1 to 36500"        },
        {{.common_name = "a.example.com", .days = 36501, .algorithm = "p256"},               "from 1 to 36500"        },
        {{.common_name = "a.example.com", .days = 1, .algorithm = "rsa-1024"},               "can be broken"          },
        {{.common_name = "a.example.com", .days = 1, .algorithm = "dsa"},
         "Choose one of: rsa-2048"                                                                                    },
        {{.common_name = "a.example.com", .days = 1, .algorithm = "p256", .country = "USA"},
         "exactly two letters"                                                                                        },
        {{.common_name = "a.example.com", .days = 1, .algorithm = "p256", .country = "1A"},
         "exactly two letters"                                                                                        },
        {{.common_name = "a\xff", .days = 1, .algorithm = "p256"},                           "not valid UTF-8"        },
    };
    char *bad_names[] = {(char *)"not a name"};
    struct strlist names = {.items = bad_names, .n = 1, .cap = 1};
    struct x509_request r = {
        .common_name = "a.example.com", .days = 1, .algorithm = "p256", .names = &names};
    struct made m = {BUF_INIT(32768), BUF_INIT(32768), BUF_INIT(32768)};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        assert_false(x509_make_self_signed(&cases[i].r, &m.cert, &m.key, &m.csr, &err));
        assert_non_null(strstr(err.text, cases[i].sentence));
    }
    assert_false(x509_make_self_signed(&r, &m.cert, &m.key, NULL, &err));
    assert_non_null(strstr(err.text, "neither a fully qualified host name nor an address"));
    assert_int_equal(m.cert.n + m.key.n + m.csr.n, 0);
}

/* --- chains
 * -------------------------------------------------------------------------------------------------
 */

struct authority {
    X509 *cert;
    EVP_PKEY *key;
};

static struct authority issue(const char *name, const struct authority *by)
{
    struct authority a = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *n = X509_get_subject_name(a.cert);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    X509_set_version(a.cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(a.cert), 1);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(a.cert, by ? X509_get_subject_name(by->cert) : n);
    ASN1_TIME_set(X509_getm_notBefore(a.cert), (time_t)(wall / 1000000));
    ASN1_TIME_set(X509_getm_notAfter(a.cert), (time_t)(wall / 1000000) + 86400);
    X509_set_pubkey(a.cert, a.key);
    X509_add_ext(a.cert, e, -1);
    X509_EXTENSION_free(e);
    X509_sign(a.cert, by ? by->key : a.key, EVP_sha256());
    return a;
}

static void add_cert(struct buf *out, X509 *x)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    PEM_write_bio_X509(b, x);
    n = BIO_get_mem_data(b, &p);
    buf_add(out, p, (size_t)n);
    BIO_free(b);
}

static void test_chain_order(void **state)
{
    struct authority root = issue("Root", NULL), upper = issue("Upper", &root),
                     lower = issue("Lower", &upper);
    struct authority leaf = issue("leaf.example.com", &lower),
                     stranger = issue("Stranger\x1b[2J", NULL);
    AUTO(buf)
    struct buf leaf_pem = BUF_INIT(8192),
               mixed = BUF_INIT(32768), want = BUF_INIT(32768), got = BUF_INIT(32768);
    struct err err = {0};

    (void)state;
    add_cert(&leaf_pem, leaf.cert);
    add_cert(&mixed, root.cert);
    add_cert(&mixed, leaf.cert);
    add_cert(&mixed, lower.cert);
    add_cert(&mixed, lower.cert);
    add_cert(&mixed, upper.cert);
    add_cert(&want, lower.cert);
    add_cert(&want, upper.cert);
    add_cert(&want, root.cert);
    assert_true(x509_order_chain(buf_str(&leaf_pem), buf_str(&mixed), &got, &err));
    assert_string_equal(buf_str(&got), buf_str(&want));

    add_cert(&mixed, stranger.cert);
    buf_reset(&got);
    assert_false(x509_order_chain(buf_str(&leaf_pem), buf_str(&mixed), &got, &err));
    assert_non_null(strstr(
        err.text, "\"CN=Stranger\\x1B[2J\" is not part of the chain of \"CN=leaf.example.com\""));
    assert_int_equal(got.n, 0);

    buf_reset(&got);
    assert_true(x509_order_chain(buf_str(&leaf_pem), "", &got, &err));
    assert_int_equal(got.n, 0);

    buf_reset(&mixed);
    add_cert(&mixed, lower.cert);
    buf_str_add(&mixed, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
    assert_false(x509_order_chain(buf_str(&leaf_pem), buf_str(&mixed), &got, &err));
    assert_non_null(strstr(err.text, "Certificate 2 of the text is damaged"));

    buf_reset(&mixed);
    for (int i = 0; i <= X509_MAX_CHAIN; i++)
        add_cert(&mixed, lower.cert);
    assert_false(x509_order_chain(buf_str(&leaf_pem), buf_str(&mixed), &got, &err));
    assert_int_equal(err.code, E_LIMIT);
    for (size_t i = 0; i < 5; i++) {
        struct authority *all[] = {&root, &upper, &lower, &leaf, &stranger};

        X509_free(all[i]->cert);
        EVP_PKEY_free(all[i]->key);
    }
}

/* Names in certificates are text from the network. */
static void test_escaping(void **state)
{
    struct authority a = issue("a\nb\x1b]0;x\x07 \xe2\x80\xae", NULL);
    AUTO(buf) struct buf pem = BUF_INIT(8192);
    AUTO_FACTS f = {0};
    struct err err = {0};

    (void)state;
    add_cert(&pem, a.cert);
    assert_true(x509_read(buf_str(&pem), &f, &err));
    for (const char *p = f.common_name; *p; p++)
        assert_true((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f);
    assert_null(strstr(f.subject, "\xe2\x80\xae"));
    assert_true(f.is_ca);
    X509_free(a.cert);
    EVP_PKEY_free(a.key);
}

static int set_time(void **state)
{
    (void)state;
    clock_set_virtual(1000, wall);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_algorithm),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_days_and_status),
        cmocka_unit_test(test_key_that_does_not_match),
        cmocka_unit_test(test_wrong_texts),
        cmocka_unit_test(test_requests_refused),
        cmocka_unit_test(test_chain_order),
        cmocka_unit_test(test_escaping),
    };

    return cmocka_run_group_tests_name("x509", tests, set_time, NULL);
}
