/* test_peer_cert.c - what the two further looks at a peer's certificate find wrong. */
#include "daemon/peer_cert.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

/* cn NULL: none; v: 0 is X.509 version 1, 2 is version 3. */
static X509 *make(const char *cn, const char *names, int v, const EVP_MD *md)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_EXTENSION *e = names ? X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names) : NULL;

    X509_set_version(x, v);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    if (cn)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                   (const unsigned char *)cn, -1, -1, 0);
    X509_set_pubkey(x, key);
    if (e)
        X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, key, md) > 0);
    EVP_PKEY_free(key);
    return x;
}

static void names_are_fully_qualified(void **state)
{
    static const struct {
        const char *cn, *names, *why; /* "": fine */
    } cases[] = {
        {"mx.example.com",   NULL,                                 ""                                                             },
        {NULL,               "DNS:mx.example.com",                 ""                                                             },
        {"mx.example.com",   "DNS:mx.example.com,DNS:example.com", ""                                                             },
        {"*.example.com",    NULL,                                 ""                                                             },
        {NULL,               "DNS:*.example.com",                  ""                                                             },
        {NULL,               "IP:192.0.2.1",                       "the peer cert has neither a common name nor a DNS name"       },
        {NULL,               NULL,                                 "the peer cert has neither a common name nor a DNS name"       },
        {"mail",             NULL,                                 "the common name of the peer cert is not fully qualified: mail"},
        {"Example, Inc.",    "DNS:mx.example.com",
         "the common name of the peer cert is not fully qualified: Example, Inc."                                                 },
        {"mx.example.com",   "DNS:mx.example.com,DNS:mail",
         "a DNS name of the peer cert is not fully qualified: mail"                                                               },
        {"a\x1b[2J.example", NULL,
         "the common name of the peer cert is not fully qualified: a\\x1B[2J.example"                                             },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        X509 *x = make(cases[i].cn, cases[i].names, 2, EVP_sha256());
        char why[200] = "";

        assert_int_equal(peer_cert_fqdn_ok(x, why, sizeof(why)), !*cases[i].why);
        assert_string_equal(why, cases[i].why);
        assert_int_equal(ERR_peek_error(), 0);
        X509_free(x);
    }
}

static void version_signature_and_name(void **state)
{
    static const char *const names[] = {"mx.example.com", NULL, "example.com"};
    const struct {
        const char *cn, *names;
        int v;
        const EVP_MD *md;
        const char *why;
    } cases[] = {
        {"mx.example.com", NULL,                2, EVP_sha256(), ""                                                  },
        {"x.example",      "DNS:example.com",   2, EVP_sha384(), ""                                                  },
        {"x.example",      "DNS:*.example.com", 2, EVP_sha256(), ""                                                  },
        {"mx.example.com", NULL,                0, EVP_sha256(), "the peer cert is not of X.509 version 3"           },
        {"mx.example.com", NULL,                2, EVP_sha1(),
         "the signature algorithm of the peer cert is too weak: ecdsa-with-SHA1"                                     },
        {"mx.example.com", "DNS:other.example", 2, EVP_sha256(),
         "the peer cert does not have the name of the server"                                                        },
        {NULL,             NULL,                2, EVP_sha256(), "the peer cert does not have the name of the server"},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        X509 *x = make(cases[i].cn, cases[i].names, cases[i].v, cases[i].md);
        char why[200] = "";

        assert_int_equal(peer_cert_x509_ok(x, names, countof(names), why, sizeof(why)),
                         !*cases[i].why);
        assert_string_equal(why, cases[i].why);
        assert_int_equal(ERR_peek_error(), 0);
        X509_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_fully_qualified),
        cmocka_unit_test(version_signature_and_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
