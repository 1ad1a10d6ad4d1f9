/* daemon/password.c and base64.c. The values were written by slappasswd, openssl passwd, perl's
 * crypt and python's hashlib; the SCRAM keys are those of RFC 7677's example. */
#include "daemon/password.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "store/base/str.h"
#include "tests/unit/in_fiber.h"

#define PASSWORD "Correct horse 9"

static const char *const values[] = {
    PASSWORD,
    "{CLEARTEXT}" PASSWORD,
    "{SHA}XqLMQt8Q7E4TEnsRv0xGzU8pBtA=",
    "{sha}XqLMQt8Q7E4TEnsRv0xGzU8pBtA=",
    "{SSHA}U3mj3XQBEyiCU9s0Z9rPRnGmL7W8GvwC",
    "{MD5}6e8kOVLE+lZE0qsS2+xXkQ==",
    "{SMD5}0SfP2wDRN7OhgtydW+v4z4BsgIo=",
    "{SHA256}qpIeIZ2+6JEaJ7TooH0lScO7lnn4pU0M3HnMniPmi08=",
    "{SSHA256}IQnMX2a4wh+eQ3TOBPg5kjXZCGjcypriaOSGwNHa37r2LLIx4rZK4Q==",
    "{SHA384}cBedaf3YGpjBpZE8yW8iBohU6+rxLzrX5KsDDEGzqCiWjDSdswD2B+4kpWZvduG3",
    "{SSHA384}aoa/c6QZ5sL1f576BkMS/Wlqe9csBxrhiIPg5JsVvehbN8CD0BE5FqLN2N9mK/8nNHM3Wndb7gU=",
    "{SHA512}aCALnzrYLHpf+/"
    "2g6Dg6ZVLyCpcZQo7FC663bkfBOfrgrGgAiZvAXZywmdfMWmNydrhnMyuSNqTPPkfzdMYu2A==",
    "{SSHA512}fVYC3VO/"
    "HPzYnRhL+RxZbVzO5FasSpk7PxK6LxfiR8u4dIogS5k9w0kZ1+iB0SVRiuhfcuzkygr+FyX5z51amzOKKS3DLMzZ",
    "{CRYPT}$1$EupqZrJ9$76qVQZPhJ0PAbkATeF38R.",
    "{CRYPT}$5$26E9NGRsQ.9JkvRT$TK8z1p4chi1MaAPEUUHpi8N4wPt1HR7zNCGn8bklBG7",
    "{crypt}$6$LLbg18PF/"
    "38GHaud$vP9z1gKTd7h1KGUdMzFaamcVmKak4YNV7l9JbvSOZ2BXf55thfRJBMDLGArsvkU7iUK0gCgVwZRfH/"
    "sCV64zh1",
    "{CRYPT}$7$BU..../....abcdefgh$0MGHz8vNp7A02kZQqQFTU1IhQflfe//ccAwsJVc3fn0",
    "{CRYPT}$2b$04$abcdefghijklmnopqrstuuBYFYwSFhIaIZ1VCtLBw79Zh6yzEG3Pu",
    "{CRYPT}$y$j9T$F5Jx5fExrKuPp53xLKQ..1$FG/18yPAozOlkD67TmO2Yrz3tEv3BGiNcnzOJF9xY17",
    "{CRYPT}$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$Qcmb0V1CPveWEikEDZ7faqSSt4pGo1ZgC5smBLh7yP/",
    "{PBKDF2}10000$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1geUc",
    "{PBKDF2-SHA1}10000$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1geUc",
    "{PBKDF2-SHA256}10000$8PHy8/T19vf4.fr7/P3./w$usdY/idwDwHlfOtNo2Yo6sQxXcmO8T2GVPUddD9Vhrw",
    "{PBKDF2-SHA512}10000$8PHy8/T19vf4.fr7/P3./w$1q/"
    "Zh59nKe1mYM4J06zeCML7Tz0u0vZW4Z0PeSfTC7NAR3H53uXtoAqwsKX6fRuEnJC"
    "SJLgwkjItxdABonDdMg",
    "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1$0t2ITC/kmyeErFOpeoPYMg$apa8DfRF6+F+C/"
    "ZbPk7yBun6aeQRbxtUcJ3++y83sDQ",
    "{SCRAM-SHA-256}4096:W22ZaJ0SNY7soEsUEjb6gQ==$RHUSNXHLI/+p8qAHhQ1VebfDYbYUvFt5irCnq1rNyH0=:"
    "crTGcWaeJ9jaC630Uub4iLH13L1IgqqPzxgGbuRMz4s=",
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$RHUSNXHLI/+p8qAHhQ1VebfDYbYUvFt5irCnq1rNyH0=:"
    "crTGcWaeJ9jaC630Uub4iLH13L1IgqqPzxgGbuRMz4s=",
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,RHUSNXHLI/+p8qAHhQ1VebfDYbYUvFt5irCnq1rNyH0=,"
    "crTGcWaeJ9jaC630Uub4iLH13L1IgqqPzxgGbuRMz4s=",
};

static enum password_match check(const char *stored, const char *given)
{
    return password_check(stored, strlen(stored), given);
}

static void test_values(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < countof(values); i++) {
        if (check(values[i], PASSWORD) != PASSWORD_RIGHT)
            fail_msg("not right: %s", values[i]);
        if (check(values[i], "Correct horse 8") != PASSWORD_WRONG ||
            check(values[i], "") != PASSWORD_WRONG ||
            check(values[i], PASSWORD " ") != PASSWORD_WRONG)
            fail_msg("not wrong: %s", values[i]);
    }
    /* The hash itself is not the password, nor is a value without its end. */
    assert_int_equal(check("{SHA}XqLMQt8Q7E4TEnsRv0xGzU8pBtA=", "XqLMQt8Q7E4TEnsRv0xGzU8pBtA="),
                     PASSWORD_WRONG);
    assert_int_equal(password_check(PASSWORD "x", strlen(PASSWORD), PASSWORD), PASSWORD_RIGHT);
    assert_int_equal(check("{no end", "{no end"), PASSWORD_RIGHT); /* no scheme without a brace */
    assert_int_equal(check("$6$looks$like", "$6$looks$like"), PASSWORD_RIGHT);
    assert_int_equal(check("{CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO/"
                           "O817G3uBnIFNJnQJuesI68OTLYiFblcf"
                           "oFEbUdGpPJe.." /* cut */,
                           "Hello world!"),
                     PASSWORD_WRONG);
}

static void test_refused(void **unused)
{
    static const char *const bad[] = {
        "{}x",
        "{UNKNOWN}x",
        "{SASL}user@realm",
        "{SHA}",
        "{SHA}XqLMQt8Q7E4TEnsRv0xGzU8pBt=", /* length */
        "{SHA}XqLM Qt8Q7E4TEnsRv0xGzU8pBtA=",
        "{SSHA}XqLMQt8Q7E4TEnsRv0xGzU8pBtA=", /* no salt */
        "{SHA}U3mj3XQBEyiCU9s0Z9rPRnGmL7W8GvwC", /* salt */
        "{CRYPT}",
        "{CRYPT}*",
        "{CRYPT}x",
        "{CRYPT}!$6$LLbg18PF$",
        "{CRYPT}_J9..rasmBYk8r9AiWNc", /* BSDi: rounds up to 16 million */
        "{CRYPT}$6$rounds=999999999$LLbg18PF$x",
        "{CRYPT}$5$rounds=2000001$LLbg18PF$x",
        "{CRYPT}$2b$31$abcdefghijklmnopqrstuuBYFYwSFhIaIZ1VCtLBw79Zh6yzEG3Pu",
        "{CRYPT}$y$jFT$F5Jx5fExrKuPp53xLKQ..1$FG/18yPAozOlkD67TmO2Yrz3tEv3BGiNcnzOJF9xY17", /* 1 GiB
                                                                                             */
        "{CRYPT}$y$j9T0$F5Jx5fExrKuPp53xLKQ..1$x",
        "{CRYPT}$y$j",
        "{CRYPT}$7$NU..../....abcdefgh$x",
        "{CRYPT}$7$",
        "{CRYPT}$sha1$999999999$x$x",
        "{CRYPT}$9$x",
        "{PBKDF2}4000000000$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1geUc",
        "{PBKDF2}2000001$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1geUc",
        "{PBKDF2}0$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1geUc",
        "{PBKDF2}10000$8PHy8/T19vf4.fr7/P3./w",
        "{PBKDF2}10000$8PHy8/T19vf4.fr7/P3./w$V1DOqPBIz1py3c4boaupoV1g",
        "{ARGON2}x",
        "{ARGON2}$argon2i$v=19$m=4000000,t=3,p=1$0t2ITC/kmyeErFOpeoPYMg$apa8DfRF6+F+C/"
        "ZbPk7yBun6aeQRbxtUcJ3++y83sDQ",
        "{ARGON2}$argon2i$v=19$m=4096,t=300,p=1$0t2ITC/kmyeErFOpeoPYMg$apa8DfRF6+F+C/"
        "ZbPk7yBun6aeQRbxtUcJ3++y83sDQ",
        "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1000$0t2ITC/kmyeErFOpeoPYMg$apa8DfRF6+F+C/"
        "ZbPk7yBun6aeQRbxtUcJ3++y83sDQ",
        "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1$0t2ITC",
        "{SCRAM-SHA-256}x",
        "{SCRAM-SHA-256}4096:W22ZaJ0SNY7soEsUEjb6gQ==$RHUSNXHLI/+p8qAHhQ1VebfDYbYUvFt5irCnq1rNyH0=",
        "{SCRAM-SHA-256}99999999:W22ZaJ0SNY7soEsUEjb6gQ==$RHUSNXHLI/"
        "+p8qAHhQ1VebfDYbYUvFt5irCnq1rNyH0=:"
        "crTGcWaeJ9jaC630Uub4iLH13L1IgqqPzxgGbuRMz4s=",
    };
    char *long_value = xmalloc(9000);

    (void)unused;
    for (size_t i = 0; i < countof(bad); i++)
        if (check(bad[i], PASSWORD) != PASSWORD_UNKNOWN_SCHEME)
            fail_msg("taken: %s", bad[i]);
    memset(long_value, 'x', 8999);
    long_value[8999] = '\0';
    assert_int_equal(check(long_value, "x"), PASSWORD_UNKNOWN_SCHEME);
    assert_int_equal(check("x", long_value), PASSWORD_WRONG);
    assert_int_equal(password_check("", 0, "x"), PASSWORD_UNKNOWN_SCHEME);
    assert_int_equal(password_check("a\0b", 3, "a"), PASSWORD_UNKNOWN_SCHEME);
    free(long_value);
}

static void test_scram(void **unused)
{
    static const char stored[] =
        "{SCRAM-SHA-256}4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    struct scram_keys k, own;
    const char *text;
    size_t n;

    (void)unused;
    assert_true(password_scram_keys(stored, strlen(stored), &k));
    assert_int_equal(k.iterations, 4096);
    assert_int_equal(k.nsalt, 16);
    own = k;
    memset(own.stored_key, 0, SCRAM_KEY);
    memset(own.server_key, 0, SCRAM_KEY);
    assert_true(password_derive_scram("pencil", &own));
    assert_memory_equal(&own, &k, sizeof(k));
    assert_true(
        password_derive_scram("I\xc2\xadX", &own)); /* SASLprep takes the soft hyphen away */
    assert_true(password_derive_scram("IX", &k));
    assert_memory_equal(&own, &k, sizeof(k));
    k.iterations = SCRAM_MAX_ITERATIONS + 1;
    assert_false(password_derive_scram("x", &k));
    assert_false(password_scram_keys("{SSHA}U3mj3XQBEyiCU9s0Z9rPRnGmL7W8GvwC", 38, &k));
    assert_true(password_clear_text("{CLEARTEXT}abc", 14, &text, &n));
    assert_int_equal(n, 3);
    assert_memory_equal(text, "abc", 3);
    assert_true(password_clear_text("abc", 3, &text, &n));
    assert_int_equal(n, 3);
    assert_false(password_clear_text("{SHA}abc", 8, &text, &n));
    assert_false(password_clear_text(stored, strlen(stored), &text, &n));
    assert_false(password_clear_text("{CLEARTEXT}", 11, &text, &n));
    assert_false(password_clear_text("", 0, &text, &n));
}

/* The whole exchange of RFC 7677 section 3, as the server computes it. */
static void test_rfc7677(void **unused)
{
    static const char nonce[] = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    struct scram_keys k = {.iterations = 4096};
    unsigned char proof[SCRAM_KEY], mac[SCRAM_KEY], hash[SCRAM_KEY], want[SCRAM_KEY];
    char message[500];
    size_t n;

    (void)unused;
    assert_true(base64_decode(slice_of("W22ZaJ0SNY7soEsUEjb6gQ=="), true, k.salt, sizeof(k.salt),
                              &k.nsalt));
    assert_true(password_derive_scram("pencil", &k));
    snprintf(message, sizeof(message),
             "n=user,r=rOprNGfwEbeRWgbNEkqO,r=%s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=%s",
             nonce, nonce);
    assert_true(base64_decode(slice_of("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), true, proof,
                              sizeof(proof), &n));
    HMAC(EVP_sha256(), k.stored_key, SCRAM_KEY, (unsigned char *)message, strlen(message), mac,
         NULL);
    for (unsigned i = 0; i < SCRAM_KEY; i++)
        mac[i] ^= proof[i]; /* the client's key */
    EVP_Digest(mac, SCRAM_KEY, hash, NULL, EVP_sha256(), NULL);
    assert_memory_equal(hash, k.stored_key, SCRAM_KEY);
    HMAC(EVP_sha256(), k.server_key, SCRAM_KEY, (unsigned char *)message, strlen(message), mac,
         NULL);
    assert_true(base64_decode(slice_of("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), true, want,
                              sizeof(want), &n));
    assert_memory_equal(mac, want, SCRAM_KEY);
}

static void test_base64(void **unused)
{
    static const struct {
        const char *text;
        bool padded, bare; /* is it right with, without padding demanded? */
        size_t n;
    } cases[] = {
        {"",         true,  true,  0},
        {"YQ==",     true,  true,  1},
        {"YWI=",     true,  true,  2},
        {"YWJj",     true,  true,  3},
        {"YQ",       false, true,  1},
        {"YWI",      false, true,  2},
        {"YQ=",      false, false, 0},
        {"Y",        false, false, 0},
        {"Y===",     false, false, 0},
        {"=",        false, false, 0},
        {"==",       false, false, 0},
        {"====",     false, false, 0},
        {"YR==",     false, false, 0}, /* bits left over */
        {"YWJj====", false, false, 0},
        {"YQ==YQ==", false, false, 0},
        {"YW Jj",    false, false, 0},
        {"YW-_",     false, false, 0},
        {"+/+/",     true,  true,  3},
    };
    unsigned char out[8], all[256], back[256];
    AUTO(buf) struct buf b = BUF_INIT(1000);
    size_t n;

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        assert_int_equal(base64_decode(slice_of(cases[i].text), true, out, sizeof(out), &n),
                         cases[i].padded);
        assert_int_equal(base64_decode(slice_of(cases[i].text), false, out, sizeof(out), &n),
                         cases[i].bare);
        if (cases[i].bare)
            assert_int_equal(n, cases[i].n);
    }
    assert_false(base64_decode(slice_of("YWJj"), true, out, 2, &n));
    for (unsigned i = 0; i < sizeof(all); i++)
        all[i] = (unsigned char)(i * 7);
    for (size_t len = 0; len <= sizeof(all); len++) {
        buf_reset(&b);
        base64_encode(&b, all, len);
        assert_true(base64_decode(slice_of(buf_str(&b)), true, back, sizeof(back), &n));
        assert_int_equal(n, len);
        assert_memory_equal(back, all, len);
    }
}

static void check_all(void)
{
    for (size_t i = 0; i < countof(values); i++)
        assert_int_equal(check(values[i], PASSWORD), PASSWORD_RIGHT);
}

/* In a fiber the costly ones leave the loop to others. */
static void test_fiber(void **unused)
{
    (void)unused;
    in_fiber(check_all, 24 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_scram),  cmocka_unit_test(test_rfc7677),
        cmocka_unit_test(test_base64), cmocka_unit_test(test_fiber),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
