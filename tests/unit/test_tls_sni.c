/* test_tls_sni.c - which certificate a client is shown, by host name and key type, and which
 * tickets it may use. */
#include "daemon/tls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

enum { FIRST, A_EC, A_RSA, WILD, WILD_RSA, CN_ONLY, PROFILES };
static struct test_cert certs[PROFILES];

static struct tls_context *server_of(const int *which, size_t n)
{
    struct tls_certificate more[PROFILES];
    struct tls_settings s = {.server = true,
                             .cert_pem = certs[which[0]].cert,
                             .key_pem = certs[which[0]].key,
                             .more = more,
                             .n_more = n - 1};
    struct tls_context *c;
    struct err err = {0};

    for (size_t i = 1; i < n; i++)
        more[i - 1] = (struct tls_certificate){certs[which[i]].cert, certs[which[i]].key};
    c = tls_context_new(&s, &err);
    if (!c)
        fail_msg("%s", err.text);
    return c;
}

struct client {
    const char *sni, *sigalgs;
    int version; /* 0: the newest */
    SSL_SESSION *offer;
    const char *ciphers; /* of TLS 1.2 */
};
struct seen {
    bool ok, resumed;
    char cn[64];
    SSL_SESSION *session;
};

static struct seen shake(struct tls_context *server, struct client how)
{
    struct tls_context *client = tls_context_new(
        &(struct tls_settings){.max_version = how.version, .ciphers = how.ciphers}, NULL);
    SSL *s = SSL_new(tls_context_ssl(server)), *c = SSL_new(tls_context_ssl(client));
    int done_c = 0, done_s = 0;
    struct seen seen = {0};
    BIO *a, *b;
    char byte;

    BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    if (how.sni)
        assert_int_equal(SSL_set_tlsext_host_name(c, how.sni), 1);
    if (how.sigalgs)
        assert_int_equal(SSL_set1_sigalgs_list(c, how.sigalgs), 1);
    if (how.offer)
        SSL_set_session(c, how.offer);
    for (int i = 0; i < 10 && !(done_c && done_s); i++) {
        done_c = done_c || SSL_do_handshake(c) == 1;
        done_s = done_s || SSL_do_handshake(s) == 1;
    }
    seen.ok = done_c && done_s;
    if (seen.ok) {
        X509 *peer = SSL_get0_peer_certificate(c);

        assert_int_equal(SSL_write(s, "x", 1), 1);
        assert_int_equal(SSL_read(c, &byte, 1), 1);
        X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, seen.cn,
                                  sizeof(seen.cn));
        seen.resumed = SSL_session_reused(c);
        seen.session = SSL_get1_session(c);
        SSL_shutdown(c);
        SSL_shutdown(s);
    }
    SSL_free(s);
    SSL_free(c);
    tls_context_free(&client);
    if (seen.ok)
        assert_int_equal(ERR_peek_error(), 0);
    ERR_clear_error();
    return seen;
}

static void the_name_and_the_key_type_decide(void **state)
{
    static const int all[] = {FIRST, A_EC, A_RSA, WILD, WILD_RSA, CN_ONLY};
    static const char ec[] = "ECDSA+SHA256", rsa[] = "RSA-PSS+SHA256:RSA+SHA256",
                      any[] = "RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA256";
    static const struct {
        const char *sni, *sigalgs, *cn;
    } cases[] = {
        {NULL,                 any,       "first"     },
        {"first.example",      any,       "first"     },
        {"a.example",          ec,        "a-ec"      },
        {"a.example",          rsa,       "a-rsa"     },
        {"A.Example",          rsa,       "a-rsa"     },
        {"x.wild.example",     ec,        "wild"      },
        {"x.wild.example",     rsa,       "wild-rsa"  },
        {"exact.wild.example", rsa,       "a-rsa"     }, /* exact before wildcard, */
        {"exact.wild.example", ec,
         "wild"                                       }, /* but a wildcard of the right key type before no certificate for the name */
        {"wild.example",       any,       "first"     }, /* a wildcard stands for one label, neither for none */
        {"y.x.wild.example",   any,       "first"     }, /* nor for two */
        {"cn.example",         any,       "cn.example"},
        {"cn-of-wild.example", any,       "first"     }, /* a common name counts only without DNS names */
        {"unknown.example",    any,       "first"     }, /* never an alert */
        {"first.example",      rsa,
         "a-rsa"                                      }, /* the first one has no RSA beside it: better this than no session */
        {"first.example",      "ed25519", NULL        }, /* nobody has one of those */
    };
    struct tls_context *s = server_of(all, countof(all));
    (void)state;

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (size_t i = 0; i < countof(cases); i++) {
            struct seen seen =
                shake(s, (struct client){cases[i].sni, cases[i].sigalgs, version, NULL, NULL});

            if (seen.ok != (cases[i].cn != NULL) || (seen.ok && strcmp(seen.cn, cases[i].cn) != 0))
                fail_msg("%s with %s: %s", cases[i].sni ? cases[i].sni : "no name",
                         cases[i].sigalgs, seen.ok ? seen.cn : "refused");
            SSL_SESSION_free(seen.session);
        }
    }
    tls_context_free(&s);
}

static void both_key_types_serve_a_client_without_a_name(void **state)
{
    static const int two[] = {A_RSA, A_EC}, strangers[] = {A_RSA, WILD};
    struct tls_context *s = server_of(two, 2), *t = server_of(strangers, 2);
    struct seen seen;
    (void)state;

    seen = shake(s, (struct client){.sigalgs = "ECDSA+SHA256"});
    assert_string_equal(seen.cn, "a-ec");
    SSL_SESSION_free(seen.session);
    seen = shake(s, (struct client){.sigalgs = "RSA-PSS+SHA256"});
    assert_string_equal(seen.cn, "a-rsa");
    SSL_SESSION_free(seen.session);
    seen = shake(t, (struct client){0}); /* one for another host is never shown unasked */
    assert_string_equal(seen.cn, "a-rsa");
    SSL_SESSION_free(seen.session);
    /* its name has no certificate of that key type: better another name than no session */
    seen = shake(t, (struct client){.sni = "x.wild.example", .sigalgs = "RSA-PSS+SHA256"});
    assert_string_equal(seen.cn, "a-rsa");
    SSL_SESSION_free(seen.session);
    tls_context_free(&s);
    tls_context_free(&t);
}

/* An old client that names ECDSA among its algorithms and has no cipher suite for it. */
static void the_cipher_suites_count_too(void **state)
{
    static const int all[] = {FIRST, A_EC, A_RSA, WILD, WILD_RSA};
    struct tls_context *s = server_of(all, countof(all));
    static const char *const cases[][2] = {
        {"a.example",      "a-rsa"   },
        {"x.wild.example", "wild-rsa"},
        {"first.example",  "a-rsa"   },
        {"nobody.example", "a-rsa"   }
    };
    (void)state;

    for (size_t i = 0; i < countof(cases); i++) {
        struct seen seen = shake(s, (struct client){.sni = cases[i][0],
                                                    .version = TLS1_2_VERSION,
                                                    .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"});

        assert_true(seen.ok);
        assert_string_equal(seen.cn, cases[i][1]);
        SSL_SESSION_free(seen.session);
    }
    tls_context_free(&s);
}

static void a_ticket_is_for_one_name_and_its_certificates(void **state)
{
    static const int before[] = {FIRST, A_EC, WILD}, after[] = {CN_ONLY, WILD, A_EC, WILD_RSA};
    (void)state;

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_context *s = server_of(before, 3), *t = server_of(after, 4);
        struct seen a = shake(s, (struct client){"a.example", NULL, version, NULL, NULL}), seen;
        static const struct {
            const char *sni;
            bool other; /* server */
            bool resumed;
        } cases[] = {
            {"a.example",          false, true },
            {"a.example",          true,  true }, /* that certificate stayed, others came and went */
            {"exact.wild.example", false, false},
            {"x.wild.example",     false, false},
            {"unknown.example",    false, false},
            {NULL,                 false, false},
        };

        assert_true(a.ok && !a.resumed);
        for (size_t i = 0; i < countof(cases); i++) {
            seen = shake(cases[i].other ? t : s,
                         (struct client){cases[i].sni, NULL, version, a.session, NULL});
            assert_true(seen.ok);
            if (seen.resumed != cases[i].resumed)
                fail_msg("%s at %s", cases[i].sni ? cases[i].sni : "no name",
                         cases[i].other ? "the new server" : "the server");
            SSL_SESSION_free(seen.session);
        }
        SSL_SESSION_free(a.session);
        a = shake(s, (struct client){"x.wild.example", NULL, version, NULL, NULL});
        seen = shake(t, (struct client){"x.wild.example", NULL, version, a.session,
                                        NULL}); /* another certificate came beside it */
        assert_false(seen.resumed);
        SSL_SESSION_free(seen.session);
        SSL_SESSION_free(a.session);
        tls_context_free(&s);
        tls_context_free(&t);
    }
}

static void a_further_certificate_is_checked_like_the_first(void **state)
{
    struct tls_certificate more[] = {
        {certs[A_EC].cert, certs[A_RSA].key}
    };
    struct tls_settings s = {.server = true,
                             .cert_pem = certs[FIRST].cert,
                             .key_pem = certs[FIRST].key,
                             .more = more,
                             .n_more = 1};
    struct err err = {0};
    (void)state;

    assert_null(tls_context_new(&s, &err));
    assert_string_equal(err.text, "private key: it does not belong to the certificate");
    more[0].cert_pem = "junk";
    assert_null(tls_context_new(&s, &err));
    assert_string_equal(err.text, "certificate: no start line");
    ERR_clear_error();
}

static int make_certs(void **state)
{
    (void)state;
    certs[FIRST] = test_cert_named("first", "DNS:first.example", 0, 0, 1);
    certs[A_EC] = test_cert_named("a-ec", "DNS:A.example", 0, 0, 1);
    certs[A_RSA] = test_cert_named("a-rsa", "DNS:a.example,DNS:exact.wild.example", 2048, 0, 1);
    certs[WILD] = test_cert_named("wild", "DNS:*.wild.example", 0, 0, 1);
    certs[WILD_RSA] = test_cert_named("wild-rsa", "DNS:*.wild.example", 2048, 0, 1);
    certs[CN_ONLY] = test_cert_named("cn.example", NULL, 0, 0, 1);
    return 0;
}

static int free_certs(void **state)
{
    (void)state;
    for (int i = 0; i < PROFILES; i++)
        test_cert_free(&certs[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_name_and_the_key_type_decide),
        cmocka_unit_test(both_key_types_serve_a_client_without_a_name),
        cmocka_unit_test(the_cipher_suites_count_too),
        cmocka_unit_test(a_ticket_is_for_one_name_and_its_certificates),
        cmocka_unit_test(a_further_certificate_is_checked_like_the_first),
    };

    return cmocka_run_group_tests(tests, make_certs, free_certs);
}
