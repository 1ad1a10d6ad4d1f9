/* test_cert_file.c - PKCS#12 and PEM: what is written is read again, the key that is meant is
 * found, and what is wrong is told apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "store/pkcs12.h"
#include "store/x509.h"

struct made {
    struct buf cert, key;
};

static struct made one, two;

static struct made make(const char *name, const char *algorithm)
{
    struct made m = {BUF_INIT(32768), BUF_INIT(32768)};
    const struct x509_request r = {.common_name = name, .days = 30, .algorithm = algorithm};

    assert_true(x509_make_self_signed(&r, &m.cert, &m.key, NULL, NULL));
    return m;
}

static int setup(void **state)
{
    (void)state;
    one = make("one.example.com", "p256");
    two = make("two.example.com", "ed25519");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_free(&one.cert);
    buf_free(&one.key);
    buf_free(&two.cert);
    buf_free(&two.key);
    return 0;
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        AUTO(buf) struct buf der = BUF_INIT(CERT_FILE_MAX);
        struct cert_file f;
        struct err err = {0};

        /* the leaf behind itself and a stranger: one is dropped, the other named */
        char *chain = xasprintf("%s%s", buf_str(&one.cert), buf_str(&two.cert));

        assert_true(pkcs12_write(buf_str(&one.cert), chain, buf_str(&one.key), "mail", "pässword",
                                 old, &der, &err));
        free(chain);
        assert_true(pkcs12_read(der.p, der.n, "pässword", 0, &f, &err));
        assert_string_equal(buf_str(&f.certificate), buf_str(&one.cert));
        assert_string_equal(buf_str(&f.private_key), buf_str(&one.key));
        assert_int_equal(f.intermediates.n, 0);
        assert_int_equal(f.strangers.n, 1);
        assert_string_equal(f.strangers.items[0], "CN=two.example.com");
        assert_string_equal(f.keys.items[0], "mail (CN=one.example.com)");
        assert_int_equal(f.old_cipher, old);
        cert_file_free(&f);
        assert_false(pkcs12_read(der.p, der.n, "password", 0, &f, &err));
        assert_int_equal(err.code, E_DENIED);
        assert_string_equal(err.text, "The pass phrase is wrong.");
        cert_file_free(&f);
        assert_false(pkcs12_read(der.p, der.n, NULL, 0, &f, &err));
        assert_int_equal(err.code, E_DENIED);
        cert_file_free(&f);
        assert_false(pkcs12_read(der.p, der.n, "pässword", 2, &f, &err));
        assert_int_equal(err.code, E_NOT_FOUND);
        cert_file_free(&f);
    }
}

/* Whatever byte is broken: no crash, no key, and a sentence. */
static void test_damage(void **state)
{
    AUTO(buf) struct buf der = BUF_INIT(CERT_FILE_MAX);
    struct err err = {0};

    (void)state;
    assert_true(
        pkcs12_write(buf_str(&two.cert), "", buf_str(&two.key), "x", "p", true, &der, &err));
    for (size_t i = 0; i < der.n; i += 3) {
        struct cert_file f;

        der.p[i] ^= 0x10;
        err = (struct err){0};
        if (!pkcs12_read(der.p, der.n, "p", 0, &f, &err)) {
            assert_int_equal(f.private_key.n, 0);
            assert_true(err.text[0]);
        }
        cert_file_free(&f);
        assert_false(pkcs12_read(der.p, i, "p", 0, &f, NULL));
        cert_file_free(&f);
        der.p[i] ^= 0x10;
    }
}

static void read_text(const char *text, const char *pass, bool ok, const char *want)
{
    struct cert_file f;
    struct err err = {0};

    assert_int_equal(pem_read(text, strlen(text), pass, &f, &err), ok);
    if (ok) {
        assert_string_equal(buf_str(&f.certificate), want);
        assert_int_equal(f.open_key, f.private_key.n > 0);
    }
    if (!ok && !strstr(err.text, want))
        fail_msg("\"%s\" has no \"%s\"", err.text, want);
    cert_file_free(&f);
}

static void test_pem(void **state)
{
    char *both =
             xasprintf("words\n%s%s%s", buf_str(&two.cert), buf_str(&one.key), buf_str(&one.cert)),
         *keys = xasprintf("%s%s%s", buf_str(&one.cert), buf_str(&one.key), buf_str(&two.key)),
         *other = xasprintf("%s%s", buf_str(&one.cert), buf_str(&two.key)),
         *broken = xasprintf("%.200s\n%s", buf_str(&one.cert), buf_str(&one.key));

    (void)state;
    read_text(both, NULL, true, buf_str(&one.cert)); /* the key says which one is the leaf */
    read_text(buf_str(&two.cert), NULL, true, buf_str(&two.cert));
    read_text(keys, NULL, false, "several private keys");
    read_text(other, NULL, false, "None of the certificates belongs");
    read_text(buf_str(&one.key), NULL, false, "no certificate in the file");
    read_text("", NULL, false, "neither a PEM text");
    read_text("-----BEGIN CERTIFICATE-----", NULL, false, "damaged");
    read_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", NULL, false, "damaged");
    read_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", NULL, false,
              "private key is damaged");
    read_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
              NULL, false, "protected by a pass phrase");
    read_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
              "x", false, "is wrong, or the key is damaged");
    read_text(broken, NULL, false, "damaged");
    free(both);
    free(keys);
    free(other);
    free(broken);
}

static void test_crowds(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(CERT_FILE_MAX);

    (void)state;
    for (int i = 0; i < 1001; i++)
        buf_str_add(&text, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    read_text(buf_str(&text), NULL, false, "more than 1000 certificates");
}

/* Hours of scrypt in 32 MiB of memory; what openssl pkcs8 -scrypt writes is fine. */
static void test_scrypt(void **state)
{
    static const struct {
        uint64_t n, r, p;
        bool ok;
    } cases[] = {
        {16384,  8, 1,      true },
        {32768,  1, 131072, false},
        {2,      1, 200000, true },
        {16384,  8, 64,     false},
    };
    unsigned char salt[16] = {1}, iv[16] = {2};

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        X509_ALGOR *a = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt, sizeof(salt), iv, cases[i].n,
                                              cases[i].r, cases[i].p);
        uint64_t rounds = 0;
        struct err err = {0};
        bool old = false;

        assert_non_null(a);
        assert_int_equal(pkcs12_rounds(a, &rounds, &old, &err), cases[i].ok);
        assert_int_equal(err.code, cases[i].ok ? 0 : E_LIMIT);
        X509_ALGOR_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_pem),
        cmocka_unit_test(test_crowds),
        cmocka_unit_test(test_scrypt),
    };

    return cmocka_run_group_tests_name("cert_file", tests, setup, teardown);
}
