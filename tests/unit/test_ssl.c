/* test_ssl.c - cipher strings and groups: what is refused, what is selected, what old versions are
 * let in. */
#include "store/ssl.h"

#include <openssl/ssl.h>
#include <string.h>

#include "tests/unit/cm.h"

static bool ciphers(const char *text, char *why, size_t size)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    struct err err = {0};
    bool ok = ssl_set_ciphers(ctx, text, &err);

    str_copy(why, size, err.text);
    SSL_CTX_free(ctx);
    return ok;
}

static void a_misspelt_word_is_refused(void **state)
{
    static const struct {
        const char *text, *why; /* NULL: fine; else a part of the sentence */
    } cases[] = {
        {SSL_DEFAULT_CIPHERS,                                ""                                          },
        {"HIGH",                                             ""                                          },
        {"MEDIUM:HIGH:-SSLv2:-aNULL:!RC4:@STRENGTH:-EXPORT", ""                                          },
        {"RC4-SHA:RC4-MD5:ALL",                              ""                                          },
        {"ECDHE+AESGCM, kRSA",                               ""                                          },
        {"TLS_AES_256_GCM_SHA384",                           ""                                          },
        {"HIGH:TLS_CHACHA20_POLY1305_SHA256",                ""                                          },
        {"HIGH:@SECLEVEL=2",                                 ""                                          },
        {"HIGH:!aNUL",                                       "no cipher and no group of ciphers \"aNUL\""},
        {"HIHG",                                             "\"HIHG\""                                  },
        {"TLS_AES_256_GCM_SHA386",                           "\"TLS_AES_256_GCM_SHA386\""                },
        {"HIGH:@SECLEVEL=0",                                 "@SECLEVEL=1 to 5"                          },
        {"HIGH:@FOO",                                        "@STRENGTH and"                             },
        {"HIGH:!",                                           "no cipher"                                 },
        {"aNULL",                                            "selects no cipher that may be used"        },
        {"RC4",                                              "selects no cipher that may be used"        },
        {"HIGH:\x1b[2J",                                     "\\x1B"                                     },
        {"",                                                 "empty"                                     },
        {":",                                                "empty"                                     },
    };
    char why[480];

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        bool ok = ciphers(cases[i].text, why, sizeof(why));

        if (*cases[i].why && !strstr(why, cases[i].why))
            fail_msg("%s: %s", cases[i].text, why);
        if (ok != !*cases[i].why)
            fail_msg("%s: %s", cases[i].text, why);
    }
}

static void nobody_anonymous_gets_in(void **state)
{
    AUTO(strlist) struct strlist lines = {0};

    (void)state;
    assert_true(ssl_describe("ALL:COMPLEMENTOFALL", TLS1_VERSION, TLS1_3_VERSION, &lines, NULL));
    assert_true(lines.n > 20);
    for (size_t i = 0; i < lines.n; i++) {
        assert_null(strstr(lines.items[i], "Au=None"));
        assert_null(strstr(lines.items[i], "Enc=None"));
    }
}

static void versions_select_ciphers(void **state)
{
    AUTO(strlist) struct strlist old = {0};
    AUTO(strlist) struct strlist new = {0};
    struct err err = {0};

    (void)state;
    assert_true(ssl_describe("HIGH", TLS1_VERSION, TLS1_1_VERSION, &old, &err));
    assert_true(ssl_describe("HIGH", TLS1_3_VERSION, TLS1_3_VERSION, &new, &err));
    assert_int_equal(new.n, 3);
    assert_true(old.n > 2);
    for (size_t i = 0; i < old.n; i++)
        assert_null(strstr(old.items[i], "TLSv1.2"));
    strlist_free(&new);
    new = (struct strlist){0};
    assert_false(
        ssl_describe("ECDHE-RSA-AES128-GCM-SHA256", TLS1_VERSION, TLS1_1_VERSION, &new, &err));
    assert_string_equal(err.text, "The string selects no cipher of these TLS versions.");
}

static void what_a_string_is_for(void **state)
{
    static const struct {
        const char *text;
        bool old, new;
    } cases[] = {
        {"HIGH",                        true,  true },
        {"TLS_AES_128_GCM_SHA256",      false, true },
        {"TLS_AES_128_GCM_SHA256:!A",   false, true },
        {"HIGH:TLS_AES_128_GCM_SHA256", true,  true },
        {"",                            false, false},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        bool old, new;

        ssl_ciphers_for(cases[i].text, &old, &new);
        assert_int_equal(old, cases[i].old);
        assert_int_equal(new, cases[i].new);
    }
}

static void groups_are_names_openssl_knows(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {SSL_DEFAULT_GROUPS, ""                                                },
        {"X25519:P-256",     ""                                                },
        {"?NEVER:P-384",     ""                                                },
        {"NEVER:P-384",      "OpenSSL knows no group \"NEVER\""                },
        {"?NEVER",           "The list names no group that this OpenSSL knows."},
        {"",                 "The list names no group that this OpenSSL knows."},
        {"P-256:P-256",      "OpenSSL refuses this list of groups"             },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_method());
        struct err err = {0};

        assert_int_equal(ssl_set_groups(ctx, cases[i].text, &err), !*cases[i].why);
        assert_true(str_starts(err.text, cases[i].why));
        SSL_CTX_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_misspelt_word_is_refused),
        cmocka_unit_test(nobody_anonymous_gets_in),
        cmocka_unit_test(versions_select_ciphers),
        cmocka_unit_test(what_a_string_is_for),
        cmocka_unit_test(groups_are_names_openssl_knows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
