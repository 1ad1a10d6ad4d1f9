/* test_x509_check.c - every finding appears for what it is about, and a good certificate has none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "store/base/clock.h"
#include "store/x509.h"

static const usec_t wall = 1700000000000000; /* 2023-11-14 22:13:20 UTC */
#define DAYS(n) ((n)*86400LL * 1000000)

/* A small authority: what it signs is as odd as the test wants. */
struct recipe {
    const char *cn, *san, *usage, *extended;
    const char *digest; /* NULL: sha256 */
    int rsa, from, days; /* key bits (0: P-256), days from now on, life */
    bool ca, v1;
};
struct made {
    X509 *x;
    EVP_PKEY *key;
    char *pem, *key_pem;
};

static char *text_of(BIO *b)
{
    char *p, *text;
    long n = BIO_get_mem_data(b, &p);

    text = xstrndup(p, (size_t)n);
    BIO_free(b);
    return text;
}

static void extend(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    if (!value)
        return;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static struct made make(const struct recipe *r, const struct made *by)
{
    struct made m = {X509_new(), r->rsa ? EVP_RSA_gen((unsigned)r->rsa) : EVP_EC_gen("P-256"), NULL,
                     NULL};
    BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
    static long serial;
    time_t from = (time_t)(wall / 1000000) + r->from * 86400L;

    X509_set_version(m.x, r->v1 ? 0 : 2);
    ASN1_INTEGER_set(X509_get_serialNumber(m.x), ++serial);
    ASN1_TIME_set(X509_getm_notBefore(m.x), from);
    ASN1_TIME_set(X509_getm_notAfter(m.x), from + (r->days ? r->days : 90) * 86400L);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(m.x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)r->cn, -1, -1, 0);
    X509_set_issuer_name(m.x, X509_get_subject_name(by ? by->x : m.x));
    X509_set_pubkey(m.x, m.key);
    if (!r->v1) {
        extend(m.x, NID_basic_constraints, r->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
        extend(m.x, NID_subject_alt_name, r->san);
        extend(m.x, NID_key_usage, r->usage);
        extend(m.x, NID_ext_key_usage, r->extended);
    }
    assert_true(X509_sign(m.x, by ? by->key : m.key,
                          EVP_get_digestbyname(r->digest ? r->digest : "sha256")));
    PEM_write_bio_X509(cert, m.x);
    PEM_write_bio_PrivateKey(key, m.key, NULL, NULL, 0, NULL, NULL);
    m.pem = text_of(cert);
    m.key_pem = text_of(key);
    return m;
}

static void made_free(struct made *m)
{
    X509_free(m->x);
    EVP_PKEY_free(m->key);
    free(m->pem);
    free(m->key_pem);
}

/* The words of the findings, "error:expired warning:no-san"; the caller frees them. */
static char *words(const struct x509_subject *s)
{
    struct x509_findings f = {0};
    struct buf b = BUF_INIT(1000);

    x509_check(s, &f);
    for (size_t i = 0; i < f.n; i++) {
        buf_printf(&b, "%s%s:%s", i ? " " : "", x509_severity_word(f.items[i].severity),
                   f.items[i].word);
        assert_true(strlen(f.items[i].text) > 10);
    }
    x509_findings_free(&f);
    return buf_take(&b);
}

static struct made root, sub, other;

static char bundle[] = "/tmp/postern-roots-XXXXXX";

static int setup(void **state)
{
    int fd = mkstemp(bundle);

    (void)state;
    clock_set_virtual(1, wall);
    root = make(&(struct recipe){.cn = "Root", .ca = true, .days = 4000}, NULL);
    sub = make(&(struct recipe){.cn = "Sub", .ca = true, .days = 1000}, &root);
    other = make(&(struct recipe){.cn = "Other", .ca = true, .days = 1000}, NULL);
    assert_int_equal(write(fd, root.pem, strlen(root.pem)), strlen(root.pem));
    close(fd);
    setenv("SSL_CERT_FILE", bundle, 1); /* Root is a public authority here */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(bundle);
    made_free(&root);
    made_free(&sub);
    made_free(&other);
    return 0;
}

#define SAN "DNS:mail.example.com"

static void test_words(void **state)
{
    static const struct {
        struct recipe recipe;
        bool server, client;
        const char *words;
    } cases[] = {
        {{.cn = "mail.example.com", .san = SAN},                             true,  true,  ""                                      },
        {{.cn = "mail.example.com", .san = SAN, .from = -100},               true,  false, "error:expired"                         },
        {{.cn = "mail.example.com", .san = SAN, .from = 1},                  true,  false, "error:not-yet-valid"                   },
        {{.cn = "mail.example.com", .san = SAN, .days = -5},                 true,  false, "error:expired"                         },
        {{.cn = "mail.example.com", .san = SAN, .days = 20},                 true,  false, "warning:expires-soon"                  },
        {{.cn = "mail.example.com", .san = SAN, .rsa = 1024},                true,  false, "warning:weak-key"                      },
        {{.cn = "mail.example.com", .san = SAN, .rsa = 2048},                true,  false, ""                                      },
        {{.cn = "mail.example.com", .san = SAN, .digest = "sha1"},
         true,                                                                      false,
         "warning:weak-digest"                                                                                                     },
        {{.cn = "mail.example.com"},                                         true,  false, "warning:no-san"                        },
        {{.cn = "mail.example.com", .v1 = true},                             true,  false, "warning:no-san warning:version"        },
        {{.cn = "mail", .san = "DNS:mail"},                                  false, false, "warning:not-fqdn"                      },
        {{.cn = "mail", .san = SAN},                                         true,  false, ""                                      },
        {{.cn = "x", .san = "DNS:*.example.com"},                            true,  false, ""                                      },
        {{.cn = "x", .san = "DNS:*.com"},                                    true,  false, "warning:name-mismatch warning:not-fqdn"},
        {{.cn = "mail.example.com", .san = "DNS:mx.example.com"},
         true,                                                                      false,
         "warning:name-mismatch"                                                                                                   },
        {{.cn = "mail.example.com", .san = SAN, .usage = "keyEncipherment"},
         true,                                                                      false,
         "warning:key-usage"                                                                                                       },
        {{.cn = "mail.example.com", .san = SAN, .extended = "clientAuth"},
         true,                                                                      false,
         "warning:no-server-auth"                                                                                                  },
        {{.cn = "mail.example.com", .san = SAN, .extended = "serverAuth"},
         true,                                                                      true,
         "note:no-client-auth"                                                                                                     },
        {{.cn = "mail.example.com", .san = SAN, .extended = "serverAuth"},   true,  false, ""                                      },
        {{.cn = "mail.example.com", .san = SAN, .ca = true},                 true,  false, "warning:authority"                     },
        {{.cn = "mail.example.com", .san = SAN, .days = 398},                true,  false, ""                                      },
        {{.cn = "mail.example.com", .san = SAN, .days = 399},                true,  false, "warning:lifetime"                      },
 /* 2026-03-15, 2027-03-15 and 2029-03-15 */
        {{.cn = "mail.example.com", .san = SAN, .from = 851, .days = 398},
         true,                                                                      false,
         "error:not-yet-valid"                                                                                                     },
        {{.cn = "mail.example.com", .san = SAN, .from = 852, .days = 201},
         true,                                                                      false,
         "error:not-yet-valid warning:lifetime"                                                                                    },
        {{.cn = "mail.example.com", .san = SAN, .from = 852, .days = 200},
         true,                                                                      false,
         "error:not-yet-valid"                                                                                                     },
        {{.cn = "mail.example.com", .san = SAN, .from = 1217, .days = 101},
         true,                                                                      false,
         "error:not-yet-valid warning:lifetime"                                                                                    },
        {{.cn = "mail.example.com", .san = SAN, .from = 1948, .days = 48},
         true,                                                                      false,
         "error:not-yet-valid warning:lifetime"                                                                                    },
        {{.cn = "mail.example.com", .san = SAN, .from = 1948, .days = 47},
         true,                                                                      false,
         "error:not-yet-valid"                                                                                                     },
    };
    char *host[] = {(char *)"mail.example.com"};
    const struct strlist hosts = {host, 1, 1};

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct made m = make(&cases[i].recipe, &sub);
        struct x509_subject s = {.certificate = m.pem,
                                 .intermediates = sub.pem,
                                 .private_key = m.key_pem,
                                 .server = cases[i].server,
                                 .client = cases[i].client,
                                 .hosts = cases[i].server ? &hosts : NULL,
                                 .now = wall};
        char *got = words(&s);

        if (!str_eq(got, cases[i].words))
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, got, cases[i].words);
        free(got);
        made_free(&m);
    }
}

static void expect(const struct x509_subject *s, const char *want)
{
    char *got = words(s);

    if (!str_eq(got, want))
        fail_msg("\"%s\" instead of \"%s\"", got, want);
    free(got);
}

static void test_key_and_demo(void **state)
{
    struct made m =
        make(&(struct recipe){.cn = "a.example.com", .san = "DNS:a.example.com"}, &root);
    struct x509_subject s = {.certificate = m.pem, .private_key = root.key_pem, .now = wall};

    (void)state;
    expect(&s, "error:key-mismatch");
    s.private_key = m.key_pem;
    expect(&s, "");
    s.demo = true;
    expect(&s, "warning:demo");
    s = (struct x509_subject){.certificate = "nothing", .now = wall};
    expect(&s, "error:unreadable");
    made_free(&m);
}

static void test_chain(void **state)
{
    struct made leaf = make(&(struct recipe){.cn = "m", .san = SAN}, &sub),
                old =
                    make(&(struct recipe){.cn = "Old", .ca = true, .from = -50, .days = 40}, &root),
                late = make(&(struct recipe){.cn = "m", .san = SAN}, &old),
                weak = make(&(struct recipe){.cn = "Weak", .ca = true, .rsa = 1024}, &root),
                soft = make(&(struct recipe){.cn = "m", .san = SAN}, &weak),
                private_leaf = make(&(struct recipe){.cn = "m", .san = SAN, .days = 3000}, &other);
    char *reversed = xasprintf("%s%s", root.pem, sub.pem),
         *with = xasprintf("%s%s", sub.pem, other.pem),
         *full = xasprintf("%s%s", sub.pem, root.pem);
    struct x509_subject s = {.certificate = leaf.pem, .now = wall};

    (void)state;
    expect(&s, "warning:chain-incomplete");
    s.intermediates = reversed;
    expect(&s, "warning:chain-order");
    s.intermediates = with;
    expect(&s, "warning:chain-stranger");
    s.intermediates = full;
    expect(&s, "");
    s.intermediates = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    expect(&s, "error:chain-unreadable");
    s.certificate = late.pem;
    s.intermediates = old.pem;
    expect(&s, "error:chain-expired");
    s.certificate = soft.pem;
    s.intermediates = weak.pem;
    expect(&s, "warning:chain-weak");
    s.certificate =
        private_leaf.pem; /* which no public authority signed: its life is its own affair */
    s.intermediates = other.pem;
    expect(&s, "");
    s.intermediates = "";
    expect(&s, "warning:chain-incomplete");
    free(reversed);
    free(with);
    free(full);
    made_free(&leaf);
    made_free(&old);
    made_free(&late);
    made_free(&weak);
    made_free(&soft);
    made_free(&private_leaf);
}

/* The sentence names the missing one and the stranger. */
static void test_gap(void **state)
{
    struct made mid = make(&(struct recipe){.cn = "Mid", .ca = true}, &sub),
                leaf = make(&(struct recipe){.cn = "m", .san = SAN}, &mid);
    AUTO(buf) struct buf out = BUF_INIT(65536);
    struct strlist strangers = {0};
    char *all;
    struct err err = {0};

    (void)state;
    assert_false(x509_order_chain(leaf.pem, sub.pem, &out, &err));
    assert_non_null(strstr(err.text, "\"CN=Sub\" is not part of the chain of \"CN=m\""));
    assert_non_null(strstr(err.text, "the certificate of \"CN=Mid\" is missing"));
    all = xasprintf("%s%s%s%s%s", root.pem, other.pem, sub.pem, leaf.pem, mid.pem);
    assert_true(x509_pick_chain(leaf.pem, all, &out, &strangers, &err));
    assert_int_equal(x509_count(buf_str(&out)), 3); /* the leaf is not repeated */
    assert_int_equal(strangers.n, 1);
    assert_string_equal(strangers.items[0], "CN=Other");
    strlist_free(&strangers);
    free(all);
    made_free(&mid);
    made_free(&leaf);
}

/* The list of public authorities is kept until it is said to be another. */
static void test_public_list(void **state)
{
    struct made leaf = make(&(struct recipe){.cn = "mail.example.com", .san = SAN}, &other);
    struct x509_subject s = {
        .certificate = leaf.pem, .private_key = leaf.key_pem, .now = wall, .server = true};
    FILE *f;

    (void)state;
    expect(&s, "warning:chain-incomplete");
    f = fopen(bundle, "a");
    fputs(other.pem, f);
    fclose(f);
    expect(&s, "warning:chain-incomplete");
    x509_forget_public();
    expect(&s, "");
    made_free(&leaf);
}

static void test_fqdn(void **state)
{
    static const struct {
        const char *cn, *san;
        bool ok;
    } cases[] = {
        {"mail.example.com", SAN,            true },
        {"mail.example.com", NULL,           true },
        {"mail",             SAN,            false},
        {"mail.example.com", SAN ",DNS:foo", false},
        {"*.example.com",    NULL,           true },
        {"Mail Server",      NULL,           false},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct made m = make(&(struct recipe){.cn = cases[i].cn, .san = cases[i].san}, NULL);
        struct x509_facts f;
        struct err err = {0};

        assert_true(x509_read(m.pem, &f, &err));
        assert_int_equal(x509_check_fqdn(&f, &err), cases[i].ok);
        x509_facts_free(&f);
        made_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),       cmocka_unit_test(test_key_and_demo),
        cmocka_unit_test(test_chain),       cmocka_unit_test(test_gap),
        cmocka_unit_test(test_public_list), cmocka_unit_test(test_fqdn),
    };

    return cmocka_run_group_tests_name("x509_check", tests, setup, teardown);
}
