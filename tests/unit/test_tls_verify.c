/* Names and keys as tables; DANE against handshakes in memory. Chains are the lab's
 * (tests/lab/test_tls_out.py). */
#include "daemon/tls_verify.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dane.h"
#include "daemon/tls.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct test_cert mine, other;

/* ---- names ---- */

static void names_cover_names(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool covers;
    } cases[] = {
        {"mx.example.com",     "mx.example.com",     true },
        {"MX.Example.COM",     "mx.example.com",     true },
        {"mx.example.com.",    "mx.example.com",     true },
        {"mx.example.com",     "mx.example.com.",    true },
        {"mx.example.com",     "mx2.example.com",    false},
        {"example.com",        "mx.example.com",     false},
        {"*.example.com",      "mx.example.com",     true },
        {"*.EXAMPLE.com",      "mx.example.COM",     true },
        {"*.example.com",      "example.com",        false}, /* a label, not none */
        {"*.example.com",      "a.mx.example.com",   false}, /* and not two */
        {"*.example.com",      ".example.com",       false},
        {"m*.example.com",     "mx.example.com",     false}, /* the whole label */
        {"*x.example.com",     "mx.example.com",     false},
        {"mx.*.com",           "mx.example.com",     false}, /* the left-most one */
        {"*",                  "localhost",          false},
        {"*.com",              "example.com",        false}, /* below a top level domain: nobody's */
        {"*.",                 "example.",           false},
        {"*.*.com",            "a.b.com",            false},
        {"*.example.com",      "*.example.com",      false}, /* a host is not called that */
        {"",                   "",                   false},
        {"",                   "mx.example.com",     false},
        {"mx.example.com",     "",                   false},
        {"xn--mx-tna.example", "xn--mx-tna.example", true },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        if (tls_name_covers(cases[i].pattern, cases[i].name) != cases[i].covers)
            fail_msg("%s and %s", cases[i].pattern, cases[i].name);
}

/* sans: separated by blanks. verify, hosted: the name that matches, NULL: none */
static void the_two_methods(void **state)
{
    static const struct {
        const char *sans, *cn, *domain, *host, *ptr, *verify, *hosted;
    } cases[] = {
  /* the domain among the DNS names: both */
        {"example.com",   "x.net",        "example.com",     "mx.host.net", NULL,           "example.com",   "example.com" },
        {"*.example.com", "x.net",        "sub.example.com", "mx.host.net", NULL,           "*.example.com",
         "*.example.com"                                                                                                   },
 /* Verify: the CN may be the host or the domain, whatever the DNS names say; hosted: never
  beside DNS names */
        {"x.net",         "mx.host.net",  "example.com",     "mx.host.net", NULL,           "mx.host.net",   NULL          },
        {"x.net",         "example.com",  "example.com",     "mx.host.net", NULL,           "example.com",   NULL          },
 /* hosted: the host, or the name of its address, among the DNS names; Verify: only the
  domain */
        {"mx.host.net",   "x.net",        "example.com",     "mx.host.net", NULL,           NULL,            "mx.host.net" },
        {"*.host.net",    "x.net",        "example.com",     "mx.host.net", NULL,           NULL,            "*.host.net"  },
        {"out.host.net",  "x.net",        "example.com",     "mx.host.net", "out.host.net", NULL,
         "out.host.net"                                                                                                    },
 /* without DNS names the CN counts for both; the address's name for hosted alone */
        {"",              "example.com",  "example.com",     "mx.host.net", NULL,           "example.com",   "example.com" },
        {"",              "mx.host.net",  "example.com",     "mx.host.net", NULL,           "mx.host.net",   "mx.host.net" },
        {"",              "*.host.net",   "example.com",     "mx.host.net", NULL,           "*.host.net",    "*.host.net"  },
        {"",              "out.host.net", "example.com",     "mx.host.net", "out.host.net", NULL,            "out.host.net"},
 /* nothing fits */
        {"x.net y.net",   "z.net",        "example.com",     "mx.host.net", "out.host.net", NULL,            NULL          },
        {"",              "",             "example.com",     "mx.host.net", NULL,           NULL,            NULL          },
        {"*.com",         "*.com",        "example.com",     "mx.host.com", NULL,           NULL,            NULL          },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct tls_names n = {
            .domain = cases[i].domain, .host = cases[i].host, .ptr = cases[i].ptr};
        AUTO(strlist) struct strlist sans = {0};
        const char *verify, *hosted;

        strlist_split(&sans, cases[i].sans, ' ');
        verify = tls_match_verify(&sans, cases[i].cn, &n);
        hosted = tls_match_hosted(&sans, cases[i].cn, &n);
        if (!str_eq(verify, cases[i].verify) || !str_eq(hosted, cases[i].hosted))
            fail_msg("case %zu: %s, %s", i, verify ? verify : "none", hosted ? hosted : "none");
    }
}

/* ---- keys ---- */

static struct tls_names names_now(void)
{
    return (struct tls_names){.domain = "example.com",
                              .expanded = "example.com",
                              .host = "mx.example.com",
                              .mx_secure = true};
}

static struct dane dane_of(struct tlsa *records, unsigned n)
{
    struct dane d = {.state = DANE_USABLE, .n = n, .records = records};

    str_copy(d.base, sizeof(d.base), "mx.example.com");
    return d;
}

static bool same_key(unsigned check, const struct tls_names *a, const struct dane *da,
                     const struct tls_names *b, const struct dane *db)
{
    unsigned char ka[TLS_CHECKS][TLS_KEY], kb[TLS_CHECKS][TLS_KEY];

    tls_verify_keys(check, a, da, ka);
    tls_verify_keys(check, b, db, kb);
    return !memcmp(ka, kb, sizeof(ka));
}

static void keys_stand_for_what_is_compared(void **state)
{
    unsigned char one[32] = {1}, two[32] = {2};
    struct tlsa records[] = {
        {3, 1, 1, 32, one},
        {3, 1, 1, 32, two}
    };
    struct tlsa turned[] = {
        {3, 1, 1, 32, two},
        {3, 1, 1, 32, one}
    };
    struct tlsa selector[] = {
        {3, 0, 1, 32, one},
        {3, 1, 1, 32, two}
    };
    struct dane d = dane_of(records, 2), t = dane_of(turned, 2), s = dane_of(selector, 2),
                fewer = dane_of(records, 1);
    struct dane base = dane_of(records, 2);
    struct tls_names n = names_now(), domain = n, host = n, expanded = n, strict = n;

    (void)state;
    str_copy(base.base, sizeof(base.base), "mx2.example.com");
    domain.domain = "example.net";
    host.host = "mx2.example.com";
    expanded.expanded = "example.org";
    strict.fqdn = true;
    assert_true(same_key(TLS_CHECK_DANE, &n, &d, &n, &t)); /* the order of the answer */
    assert_false(same_key(TLS_CHECK_DANE, &n, &d, &n, &s));
    assert_false(same_key(TLS_CHECK_DANE, &n, &d, &n, &fewer));
    assert_false(same_key(TLS_CHECK_DANE, &n, &d, &n, &base));
    assert_false(same_key(TLS_CHECK_DANE, &n, &d, &domain, &d));
    assert_false(same_key(TLS_CHECK_DANE, &n, &d, &expanded, &d));
    for (unsigned check = TLS_CHECK_MX; check <= TLS_CHECK_HOSTED; check <<= 1) {
        assert_true(same_key(check, &n, &d, &n, &t)); /* the records are none of its business */
        assert_false(same_key(check, &n, &d, &host, &d));
        assert_int_equal(same_key(check, &n, &d, &domain, &d), check == TLS_CHECK_MX);
        assert_false(same_key(check, &n, &d, &strict, &d));
    }
}

/* ---- DANE, with the library's own comparison ---- */

static struct tlsa record_of(const struct test_cert *c, unsigned char selector)
{
    BIO *in = BIO_new_mem_buf(c->cert, -1);
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
    struct tlsa t = {3, selector, 1, 32, malloc(32)};
    unsigned char *der = NULL;
    int n = selector ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der) : i2d_X509(x, &der);

    EVP_Digest(der, (size_t)n, t.data, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
    X509_free(x);
    BIO_free(in);
    return t;
}

/* One handshake; the checks that passed. *session: offered, and what came of it. */
static unsigned shake(const struct dane *d, const struct tls_names *n, SSL_SESSION **session,
                      struct tls_verified *out)
{
    struct tls_context *sc = tls_context_new(
        &(struct tls_settings){.server = true, .cert_pem = mine.cert, .key_pem = mine.key}, NULL);
    struct tls_context *cc = tls_context_new(&(struct tls_settings){0}, NULL);
    SSL *s = SSL_new(tls_context_ssl(sc)), *c = SSL_new(tls_context_ssl(cc));
    int done_c = 0, done_s = 0;
    BIO *a, *b;
    char byte;

    BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    if (*session)
        SSL_set_session(c, *session);
    assert_true(tls_verify_prepare(c, TLS_CHECK_DANE, true, n, d, NULL));
    for (int i = 0; i < 10 && !(done_c && done_s); i++) {
        done_c = done_c || SSL_do_handshake(c) == 1;
        done_s = done_s || SSL_do_handshake(s) == 1;
    }
    assert_true(done_c && done_s); /* whatever the certificate: nothing has been sent yet */
    assert_string_equal(SSL_get_servername(s, TLSEXT_NAMETYPE_host_name), d->base);
    assert_int_equal(SSL_write(s, "x", 1), 1);
    assert_int_equal(SSL_read(c, &byte, 1), 1);
    tls_verify_result(c, TLS_CHECK_DANE, n, d, out);
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(c);
    SSL_shutdown(c);
    SSL_shutdown(s);
    SSL_free(s);
    SSL_free(c);
    tls_context_free(&sc);
    tls_context_free(&cc);
    return out->passed;
}

static void dane_compares_the_certificate(void **state)
{
    struct tlsa good = record_of(&mine, 1), whole = record_of(&mine, 0), bad = record_of(&other, 1);
    struct tls_names n = names_now();
    struct tls_verified v;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct tlsa *records[] = {&good, &whole, &bad};
        struct dane d = dane_of(records[i], 1);
        SSL_SESSION *session = NULL;

        assert_int_equal(shake(&d, &n, &session, &v), i < 2 ? TLS_CHECK_DANE : 0);
        if (i < 2)
            assert_memory_equal(v.matched, i ? "3 0 1 " : "3 1 1 ", 6);
        else
            assert_string_equal(tls_verify_why(&v, TLS_CHECK_DANE),
                                "peer cert does not match the TLSA records of its host");
        /* a resumed session is worth what it was worth when it began */
        assert_int_equal(shake(&d, &n, &session, &v), i < 2 ? TLS_CHECK_DANE : 0);
        SSL_SESSION_free(session);
    }
    free(good.data);
    free(whole.data);
    free(bad.data);
}

static void old_versions_prove_nothing(void **state)
{
    struct tls_context *ctx =
        tls_context_new(&(struct tls_settings){.min_version = TLS1_VERSION}, NULL);
    SSL *ssl = SSL_new(tls_context_ssl(ctx));
    struct tls_names n = names_now();

    (void)state;
    assert_true(tls_verify_prepare(ssl, 0, false, &n, NULL, NULL));
    assert_int_equal(SSL_get_min_proto_version(ssl), TLS1_VERSION);
    assert_true(tls_verify_prepare(ssl, 0, true, &n, NULL, NULL));
    assert_int_equal(SSL_get_min_proto_version(ssl), TLS1_2_VERSION);
    SSL_free(ssl);
    tls_context_free(&ctx);
}

static void nothing_shown_nothing_proven(void **state)
{
    struct tls_context *ctx = tls_context_new(&(struct tls_settings){0}, NULL);
    SSL *ssl = SSL_new(tls_context_ssl(ctx));
    struct tls_names n = names_now();
    struct dane d = dane_of(NULL, 0);
    struct tls_verified v;

    (void)state;
    /* OpenSSL's verify result is X509_V_OK where no certificate was shown */
    assert_int_equal(SSL_get_verify_result(ssl), X509_V_OK);
    for (unsigned check = 1; check < 1U << TLS_CHECKS; check <<= 1) {
        tls_verify_result(ssl, check, &n, &d, &v);
        assert_int_equal(v.passed, 0);
        assert_string_equal(tls_verify_why(&v, check), "the peer shows no certificate");
    }
    SSL_free(ssl);
    tls_context_free(&ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_cover_names),
        cmocka_unit_test(the_two_methods),
        cmocka_unit_test(keys_stand_for_what_is_compared),
        cmocka_unit_test(dane_compares_the_certificate),
        cmocka_unit_test(old_versions_prove_nothing),
        cmocka_unit_test(nothing_shown_nothing_proven),
    };
    int failed;

    mine = test_cert_new("nobody.invalid", 0);
    other = test_cert_new("nobody.invalid", 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_cert_free(&mine);
    test_cert_free(&other);
    return failed;
}
