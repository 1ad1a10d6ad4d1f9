/* test_tls.c - contexts: what is refused and how it is said, tickets, versions, verification. */
#include "daemon/tls.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct test_cert ec, other, rsa;

static void contexts_say_what_is_wrong(void **state)
{
    static char encrypted[8192], chain[8192];
    const struct {
        struct tls_settings s;
        const char *text; /* NULL: fine */
    } cases[] = {
        {{.server = true, .cert_pem = ec.cert, .key_pem = ec.key},    NULL                                            },
        {{.server = true, .cert_pem = rsa.cert, .key_pem = rsa.key},  NULL                                            },
        {{.server = true, .cert_pem = chain, .key_pem = ec.key},      NULL                                            },
        {{.server = false},                                           NULL                                            },
        {{.ciphers = "ECDHE-RSA-AES128-GCM-SHA256"},                  NULL                                            },
        {{.server = true},                                            "certificate: a server needs one"               },
        {{.server = true, .cert_pem = "junk", .key_pem = ec.key},     "certificate: no start line"                    },
        {{.server = true, .cert_pem = ec.cert},                       "private key: there is none for the certificate"},
        {{.server = true, .cert_pem = ec.cert, .key_pem = "junk"},    "private key: unsupported"                      },
        {{.server = true, .cert_pem = ec.cert, .key_pem = other.key},
         "private key: it does not belong to the certificate"                                                         },
        {{.server = true, .cert_pem = ec.cert, .key_pem = rsa.key},
         "private key: it does not belong to the certificate"                                                         },
        {{.server = true, .cert_pem = ec.cert, .key_pem = encrypted},
         "private key: it is encrypted; remove its passphrase first"                                                  },
        {{.ciphers = "NO-SUCH-CIPHER"},
         "ciphers: OpenSSL knows no cipher and no group of ciphers \"NO-SUCH-CIPHER\"; see VERIFY for what a cipher string selects."},
        {{.groups = "P-256:NO-SUCH-GROUP"},
         "groups: OpenSSL knows no group \"NO-SUCH-GROUP\"; common ones are X25519, P-256, P-384 and P-521."},
        {{.min_version = 1},                                          "TLS version: not supported"                    },
    };
    BIO *b = BIO_new_mem_buf(ec.key, -1), *out = BIO_new(BIO_s_mem());
    EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    char *text;
    (void)state;

    PEM_write_bio_PrivateKey(out, key, EVP_aes_256_cbc(), (const unsigned char *)"secret", 6, NULL,
                             NULL);
    text = test_pem(out);
    str_copy(encrypted, sizeof(encrypted), text);
    free(text);
    EVP_PKEY_free(key);
    BIO_free(b);
    snprintf(chain, sizeof(chain), "%s%s", ec.cert, other.cert);
    for (size_t i = 0; i < countof(cases); i++) {
        struct err err = {0};
        struct tls_context *c = tls_context_new(&cases[i].s, &err);

        assert_string_equal(err.text, cases[i].text ? cases[i].text : "");
        assert_true((c != NULL) == (cases[i].text == NULL));
        if (cases[i].text)
            assert_int_equal(err.code, E_INVALID);
        tls_context_free(&c);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void a_context_lives_as_long_as_its_last_user(void **state)
{
    struct tls_context *a = tls_context_new(&(struct tls_settings){0}, NULL),
                       *b = tls_context_ref(a);
    (void)state;

    tls_context_free(&a);
    assert_null(a);
    assert_non_null(SSL_CTX_get0_certificate(tls_context_ssl(b)) ? NULL : tls_context_ssl(b));
    tls_context_free(&b);
}

/* One handshake in memory, a few bytes through it; the client's session, or NULL when it failed. */
static SSL_SESSION *shake(struct tls_context *server, struct tls_context *client,
                          SSL_SESSION *offer, struct tls_info *info)
{
    SSL *s = SSL_new(tls_context_ssl(server)), *c = SSL_new(tls_context_ssl(client));
    BIO *a, *b;
    SSL_SESSION *session = NULL;
    int done_c = 0, done_s = 0;
    char byte;

    BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    if (offer)
        SSL_set_session(c, offer);
    for (int i = 0; i < 10 && !(done_c && done_s); i++) {
        done_c = done_c || SSL_do_handshake(c) == 1;
        done_s = done_s || SSL_do_handshake(s) == 1;
    }
    memset(info, 0, sizeof(*info));
    if (done_c && done_s) {
        assert_int_equal(SSL_write(s, "x", 1), 1);
        assert_int_equal(SSL_read(c, &byte, 1), 1); /* and the ticket before it */
        tls_info_of(c, info);
        session = SSL_get1_session(c);
        SSL_shutdown(c);
        SSL_shutdown(s);
    }
    SSL_free(s);
    SSL_free(c);
    ERR_clear_error();
    return session;
}

static void tickets_outlive_contexts_but_not_their_keys(void **state)
{
    struct tls_settings server = {.server = true, .cert_pem = ec.cert, .key_pem = ec.key};
    struct tls_settings changed = {.server = true, .cert_pem = other.cert, .key_pem = other.key};
    (void)state;

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_settings plain = {.max_version = version};
        struct tls_context *s = tls_context_new(&server, NULL), *c = tls_context_new(&plain, NULL);
        struct tls_info info;
        SSL_SESSION *first, *second;

        clock_set_virtual(SECONDS(100000) * (version - TLS1_2_VERSION + 1), 0);
        first = shake(s, c, NULL, &info);
        assert_non_null(first);
        assert_false(info.resumed);
        assert_string_equal(info.protocol, version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
        tls_context_free(&s);
        s = tls_context_new(&server, NULL); /* a commit that changed something else */
        second = shake(s, c, first, &info);
        assert_true(info.resumed);
        SSL_SESSION_free(second);
        clock_advance(SECONDS(13 * 3600)); /* the key is replaced when next one is sealed... */
        SSL_SESSION_free(shake(s, c, NULL, &info));
        second = shake(s, c, first, &info); /* ...and still opens */
        assert_true(info.resumed);
        SSL_SESSION_free(second);
        clock_advance(SECONDS(12 * 3600)); /* not after a day */
        SSL_SESSION_free(shake(s, c, NULL, &info));
        second = shake(s, c, first, &info);
        assert_non_null(second);
        assert_false(info.resumed);
        SSL_SESSION_free(second);
        SSL_SESSION_free(first);
        first = shake(s, c, NULL, &info);
        tls_context_free(&s);
        s = tls_context_new(&changed, NULL); /* another certificate: nothing is resumed */
        second = shake(s, c, first, &info);
        assert_non_null(second);
        assert_false(info.resumed);
        SSL_SESSION_free(second);
        SSL_SESSION_free(first);
        tls_context_free(&s);
        tls_context_free(&c);
    }
}

static void verification_is_reported_and_ends_nothing(void **state)
{
    struct tls_settings server = {.server = true, .cert_pem = ec.cert, .key_pem = ec.key};
    struct tls_context *s = tls_context_new(&server, NULL);
    struct tls_context *c = tls_context_new(&(struct tls_settings){0}, NULL);
    struct tls_info info;
    SSL_SESSION *session;
    (void)state;

    session = shake(s, c, NULL, &info);
    assert_non_null(session);
    assert_int_equal(info.verify_result, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT);
    assert_string_equal(info.peer_subject, "CN=mx.\\x1Bexample.org");
    SSL_SESSION_free(session);
    tls_context_free(&s);
    tls_context_free(&c);
}

static void old_versions_are_for_those_who_ask(void **state)
{
    struct tls_settings server = {.server = true, .cert_pem = ec.cert, .key_pem = ec.key};
    struct tls_settings only13 = {
        .server = true, .cert_pem = ec.cert, .key_pem = ec.key, .min_version = TLS1_3_VERSION};
    struct tls_settings old = {.min_version = TLS1_2_VERSION, .max_version = TLS1_2_VERSION};
    struct tls_context *s = tls_context_new(&server, NULL), *s13 = tls_context_new(&only13, NULL);
    struct tls_context *c = tls_context_new(&old, NULL);
    struct tls_info info;
    SSL_SESSION *session;
    (void)state;

    session = shake(s, c, NULL, &info);
    assert_string_equal(info.protocol, "TLSv1.2");
    assert_string_equal(info.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_SESSION_free(session);
    assert_null(shake(s13, c, NULL, &info));
    tls_context_free(&s);
    tls_context_free(&s13);
    tls_context_free(&c);
}

static void errors_are_one_readable_line(void **state)
{
    char text[200];
    (void)state;

    ERR_clear_error();
    tls_errors(text, sizeof(text));
    assert_string_equal(text, "unknown reason");
    ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER);
    ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER);
    ERR_raise(ERR_LIB_SYS, ENOSPC);
    tls_errors(text, sizeof(text));
    assert_string_equal(text, "wrong version number; No space left on device");
    assert_int_equal(ERR_peek_error(), 0);
    for (int i = 0; i < 10; i++)
        ERR_raise(ERR_LIB_SSL, i % 2 ? SSL_R_BAD_LENGTH : SSL_R_BAD_DATA);
    tls_errors(text, 30); /* cut, terminated, emptied */
    assert_int_equal(strlen(text), 29);
    assert_int_equal(ERR_peek_error(), 0);
}

/* Sizes that cross the limits of the slabs, contents that must survive, more than stay warm. */
static void record_buffers_have_memory_of_their_own(void **state)
{
    enum { N = 300 };
    static unsigned char *p[N];
    (void)state;

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            p[i] = OPENSSL_malloc(16000);
            memset(p[i], i & 255, 16000);
        }
        for (int i = 0; i < N; i++) {
            size_t n = i % 3 == 0 ? 21848 : i % 3 == 1 ? 100000 : 100;

            p[i] = OPENSSL_realloc(p[i], n);
            for (size_t k = 0; k < n && k < 16000; k++)
                assert_int_equal(p[i][k], i & 255);
            memset(p[i], 255 - (i & 255), n);
        }
        for (int i = 0; i < N; i++) {
            assert_int_equal(p[i][99], 255 - (i & 255));
            OPENSSL_free(p[i]);
        }
    }
#if !defined(POSTERN_SANITIZED)
    { /* two of them lie as slabs do */
        unsigned char *a = OPENSSL_malloc(16000), *b = OPENSSL_malloc(17000);
        ptrdiff_t apart = a > b ? a - b : b - a;

        assert_int_equal(apart % (24 * 1024), 0);
        OPENSSL_free(a);
        OPENSSL_free(b);
    }
#endif
}

static void alpn_is_ours_or_none(void **state)
{
    static const struct {
        const char *offer;
        bool ok;
        const char *chosen;
    } cases[] = {
        {NULL,                true,  ""     },
        {"\4smtp",            true,  "smtp" },
        {"\5esmtp",           true,  "esmtp"},
        {"\x8http/1.1\4smtp", true,  "smtp" },
        {"\2h2\x8http/1.1",   false, ""     },
        {"\4imap",            false, ""     },
    };
    struct tls_settings settings = {.server = true, .cert_pem = ec.cert, .key_pem = ec.key};
    struct tls_context *server = tls_context_new(&settings, NULL);
    (void)state;

    for (size_t i = 0; i < countof(cases); i++) {
        struct tls_context *client = tls_context_new(&(struct tls_settings){0}, NULL);
        SSL_CTX *ctx = tls_context_ssl(client);
        struct tls_info info;
        SSL_SESSION *session;
        const unsigned char *p = NULL;
        size_t n = 0;

        if (cases[i].offer)
            SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)cases[i].offer, (unsigned)strlen(cases[i].offer));
        session = shake(server, client, NULL, &info);
        assert_true((session != NULL) == cases[i].ok);
        if (session)
            SSL_SESSION_get0_alpn_selected(session, &p, &n);
        assert_int_equal(n, strlen(cases[i].chosen));
        assert_true(!n || !memcmp(p, cases[i].chosen, n));
        SSL_SESSION_free(session);
        tls_context_free(&client);
    }
    tls_context_free(&server);
}

static int setup(void **state)
{
    (void)state;
    ec = test_cert_new("mx.\x1b"
                       "example.org",
                       0);
    other = test_cert_new("other.example.org", 0);
    rsa = test_cert_new("rsa.example.org", 1024); /* importable, if only just */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_cert_free(&ec);
    test_cert_free(&other);
    test_cert_free(&rsa);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_say_what_is_wrong),
        cmocka_unit_test(a_context_lives_as_long_as_its_last_user),
        cmocka_unit_test(tickets_outlive_contexts_but_not_their_keys),
        cmocka_unit_test(verification_is_reported_and_ends_nothing),
        cmocka_unit_test(old_versions_are_for_those_who_ask),
        cmocka_unit_test(alpn_is_ours_or_none),
        cmocka_unit_test(errors_are_one_readable_line),
        cmocka_unit_test(record_buffers_have_memory_of_their_own),
    };

    tls_memory_start();
    return cmocka_run_group_tests(tests, setup, teardown);
}
