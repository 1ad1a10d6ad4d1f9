/* test_client_cert.c - what a client's certificate is worth: chain, purpose, dates, revocation, and
 * names that are taken whole or not at all. */
#include "daemon/client_cert.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crl.h"
#include "daemon/tls.h"
#include "daemon/trust.h"
#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static X509 *root, *middle, *stranger;
static EVP_PKEY *root_key, *middle_key, *stranger_key;
static X509_STORE *store;
static STACK_OF(X509) * sent; /* what a client sends with its certificate */
static const char *revoked; /* why the lists say no */
static int looked_up; /* certificates they were asked about */
static int store_refs;

bool crl_chain_ok(enum crl_use use, STACK_OF(X509) * chain, char *why, size_t size)
{
    assert_int_equal(use, CRL_INBOUND);
    looked_up = sk_X509_num(chain);
    if (revoked)
        str_copy(why, size, revoked);
    return !revoked;
}

X509_STORE *running_trust(void)
{
    store_refs++;
    X509_STORE_up_ref(store);
    return store;
}

STACK_OF(X509_NAME) * running_trust_names(void)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();

    sk_X509_NAME_push(names, X509_NAME_dup(X509_get_subject_name(root)));
    return names;
}

/* --- certificates ---------------------------------------------------------------------------- */

struct entry {
    const char *field; /* "CN", NULL: the end */
    const char *value;
    int len; /* 0: strlen */
    int type; /* 0: UTF-8 */
};

struct order {
    const struct entry *subject;
    const char *sans; /* for X509V3_EXT_conf */
    const char *usage; /* extended */
    long from, to; /* days from now; both 0: yesterday to tomorrow */
    const char *serial; /* hexadecimal */
    bool ca, sha1;
};

static void extend(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = value ? X509V3_EXT_conf_nid(NULL, NULL, nid, value) : NULL;

    if (value)
        assert_non_null(e);
    if (e)
        X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

/* by NULL: self-signed. */
static X509 *issue(const struct order *o, X509 *by, EVP_PKEY *by_key, EVP_PKEY **key_out)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    BIGNUM *serial = NULL;

    X509_set_version(x, X509_VERSION_3);
    BN_hex2bn(&serial, o->serial ? o->serial : "0A1B");
    BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x));
    BN_free(serial);
    X509_gmtime_adj(X509_getm_notBefore(x), o->to ? o->from * 86400 : -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), (o->to ? o->to : 1) * 86400);
    for (const struct entry *e = o->subject; e->field; e++)
        assert_int_equal(X509_NAME_add_entry_by_txt(
                             name, e->field, e->type ? e->type : V_ASN1_UTF8STRING,
                             (const unsigned char *)e->value, e->len ? e->len : -1, -1, 0),
                         1);
    X509_set_issuer_name(x, by ? X509_get_subject_name(by) : name);
    X509_set_pubkey(x, key);
    extend(x, NID_basic_constraints, o->ca ? "critical,CA:TRUE" : NULL);
    extend(x, NID_ext_key_usage, o->usage);
    extend(x, NID_subject_alt_name, o->sans);
    assert_true(X509_sign(x, by ? by_key : key, o->sha1 ? EVP_sha1() : EVP_sha256()) > 0);
    if (key_out)
        *key_out = key;
    else
        EVP_PKEY_free(key);
    return x;
}

#define NAME(...) ((const struct entry[]){__VA_ARGS__, {0}})

/* The result lives until the next look. */
static const struct client_cert *look(const struct order *o, X509 *by, EVP_PKEY *by_key,
                                      bool strict)
{
    X509 *x = issue(o, by, by_key, NULL);
    static struct client_cert c;

    client_cert_check(x, sent, store, strict, &c);
    X509_free(x);
    assert_int_equal(ERR_peek_error(), 0);
    return &c;
}

static const struct client_cert *issued(const struct order *o)
{
    return look(o, middle, middle_key, false);
}

/* --- tests ----------------------------------------------------------------------------------- */

static void fields_are_taken_whole(void **unused)
{
    const struct order o = {
        .subject =
            NAME({"DC", "example", 0, 0}, {"CN", "Users", 0, 0},
                 {"CN", "J\xc3\xb6rg Doe, jr.", 0, 0}, {"emailAddress", "old@example.com", 0, 0}),
        .sans = "email:joerg@example.com,email:second@example.com,otherName:1.3.6.1.4.1.311.20.2.3;"
                "UTF8:jdoe@ad.example",
        .serial = "00FF0A1B2C",
    };
    const struct client_cert *c = issued(&o);

    (void)unused;
    assert_string_equal(c->why, "");
    assert_int_equal(c->state, CLIENT_CERT_VALID);
    assert_string_equal(c->cn, "J\xc3\xb6rg Doe, jr."); /* the most specific one */
    assert_string_equal(c->sn, "FF0A1B2C");
    assert_string_equal(c->email, "joerg@example.com");
    assert_string_equal(c->upn, "jdoe@ad.example");
    assert_string_equal(
        c->dn, "emailAddress=old@example.com,CN=J\xc3\xb6rg Doe\\, jr.,CN=Users,DC=example");
    assert_string_equal(c->issuer, "CN=Middle,O=Test");
    assert_int_equal(strlen(c->fp), 64);
    assert_int_equal(strspn(c->fp, "0123456789ABCDEF"), 64);
    assert_int_equal(looked_up, 3); /* leaf, intermediate, root */
}

static void what_is_not_there_is_empty(void **unused)
{
    const struct order o = {
        .subject = NAME({"O", "Nobody", 0, 0}, {"emailAddress", "a@example.com", 0, 0})};
    const struct client_cert *c = issued(&o);

    (void)unused;
    assert_int_equal(c->state, CLIENT_CERT_VALID);
    assert_string_equal(c->cn, "");
    assert_string_equal(c->upn, "");
    assert_string_equal(c->email,
                        "a@example.com"); /* of the subject, when no alternative name is one */
    assert_string_equal(c->sn, "0A1B");
    assert_string_equal(c->subject, "emailAddress=a@example.com,O=Nobody");
}

static void names_that_deceive_are_refused(void **unused)
{
    static const char not_allowed[] =
        "a name in the certificate holds characters that are not allowed";
    static const char nul[] = "admin\0.evil", upn[] = "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a\tb";
    char too_long[300];
    const struct {
        struct order o;
        const char *why;
    } cases[] = {
        {{.subject = NAME({"CN", nul, sizeof(nul) - 1, 0})},                                       not_allowed},
        {{.subject = NAME({"CN", "admin\nSMTP Auth: succeeded", 0, 0})},                           not_allowed},
        {{.subject = NAME({"CN", "a\x1b[31m", 0, 0})},                                             not_allowed},
        {{.subject = NAME({"CN", "a\x7f", 0, 0})},                                                 not_allowed},
        {{.subject = NAME({"CN", "a\xc2\x85", 0, 0})},                                             not_allowed},
        {{.subject = NAME({"CN", "good", 0, 0}, {"O", "bad\r", 0, 0})},                            not_allowed},
        {{.subject = NAME({"CN", "good", 0, 0}, {"emailAddress", "a@b\0c", 5, V_ASN1_IA5STRING})},
         not_allowed                                                                                          },
        {{.subject = NAME({"CN", "good", 0, 0}), .sans = upn},                                     not_allowed},
        {{.subject = NAME({"CN", "x", 0, 0}), .serial = "-01"},
         "the serial number of the certificate is not allowed"                                                },
        {{.subject = NAME({"CN", "good", 0, 0}),
          .sans = "otherName:1.3.6.1.4.1.311.20.2.3;INTEGER:1"},
         "the principal name in the certificate cannot be read"                                               },
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        const struct client_cert *c = issued(&cases[i].o);

        assert_string_equal(c->why, cases[i].why);
        assert_int_equal(c->state, CLIENT_CERT_INVALID);
        for (const char *p = c->subject; *p; p++)
            assert_true((unsigned char)*p >= ' ' && *p != 0x7f);
    }
    memset(too_long, 'a', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    {
        const struct order o = {.subject =
                                    NAME({"CN", "good", 0, 0}, {"2.5.4.17", too_long, 0, 0})};
        const struct client_cert *c;
        char sans[400];
        struct order named = {.subject = NAME({"CN", "good", 0, 0}), .sans = sans};

        c = issued(&o);
        assert_int_equal(c->state, CLIENT_CERT_VALID); /* no name of ours: only the whole counts */
        snprintf(sans, sizeof(sans), "email:%s@b.example", too_long);
        c = issued(&named);
        assert_string_equal(c->why, "a name in the certificate is too long");
        assert_int_equal(c->state, CLIENT_CERT_INVALID);
    }
}

static void chains_purposes_and_dates_count(void **unused)
{
    static const struct entry name[] = {
        {"CN", "jdoe", 0, 0},
        {0  }
    };
    const struct {
        struct order o;
        X509 *by;
        EVP_PKEY *by_key;
        bool strict;
        const char *why; /* "": valid */
    } cases[] = {
        {{.subject = name},                        middle, middle_key,   true,  ""                                      },
        {{.subject = name},                        root,   root_key,     false, ""                                      },
        {{.subject = name, .usage = "clientAuth"}, middle, middle_key,   false, ""                                      },
        {{.subject = name, .usage = "serverAuth"},
         middle,                                           middle_key,
         false,                                                                 "unsuitable certificate purpose"        },
        {{.subject = name},
         stranger,                                         stranger_key,
         false,                                                                 "unable to get local issuer certificate"},
        {{.subject = name},                        NULL,   NULL,         false, "self-signed certificate"               },
        {{.subject = name, .from = -9, .to = -1},
         middle,                                           middle_key,
         false,                                                                 "certificate has expired"               },
        {{.subject = name, .from = 1, .to = 9},
         middle,                                           middle_key,
         false,                                                                 "certificate is not yet valid"          },
        {{.subject = name, .sha1 = true},
         middle,                                           middle_key,
         false,                                                                 "CA signature digest algorithm too weak"},
        {{.subject = name},                        root,   middle_key,   false, "certificate signature failure"         },
    };

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        const struct client_cert *c =
            look(&cases[i].o, cases[i].by, cases[i].by_key, cases[i].strict);

        assert_string_equal(c->why, cases[i].why);
        assert_int_equal(c->state, *cases[i].why ? CLIENT_CERT_INVALID : CLIENT_CERT_VALID);
        assert_string_equal(c->subject, "CN=jdoe");
        if (*cases[i].why) {
            assert_string_equal(c->cn, ""); /* nothing to be asked about */
            assert_string_equal(c->fp, "");
        }
    }
}

static void revoked_is_invalid(void **unused)
{
    const struct order o = {.subject = NAME({"CN", "jdoe", 0, 0})};
    const struct client_cert *c;

    (void)unused;
    revoked = "certificate revoked on 2026-11-02 (key compromise)";
    c = issued(&o);
    assert_int_equal(c->state, CLIENT_CERT_INVALID);
    assert_string_equal(c->why, revoked);
    revoked = "";
    c = issued(&o);
    assert_int_equal(c->state, CLIENT_CERT_INVALID);
    assert_string_equal(c->why, "certificate revoked");
    revoked = NULL;
}

/* --- in a handshake -------------------------------------------------------------------------- */

/* What the server thinks of the client's certificate; the session, if there is one to resume. */
static struct client_cert *shake(SSL_CTX *server, SSL_CTX *client, bool ask, SSL_SESSION **session,
                                 bool *resumed)
{
    SSL *s = SSL_new(server), *c = SSL_new(client);
    struct client_cert *seen;
    BIO *a, *b;
    int done_c = 0, done_s = 0;
    char byte;

    BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
    SSL_set_bio(s, a, a);
    SSL_set_bio(c, b, b);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    if (*session)
        SSL_set_session(c, *session);
    if (ask)
        assert_true(client_cert_ask(s, NULL, NULL));
    for (int i = 0; i < 10 && !(done_c && done_s); i++) {
        done_c = done_c || SSL_do_handshake(c) == 1;
        done_s = done_s || SSL_do_handshake(s) == 1;
    }
    assert_true(done_c && done_s);
    assert_int_equal(SSL_write(s, "x", 1), 1);
    assert_int_equal(SSL_read(c, &byte, 1), 1);
    if (ask)
        assert_int_equal(sk_X509_NAME_num(SSL_get0_peer_CA_list(c)), 1);
    *resumed = SSL_session_reused(s);
    seen = client_cert_look(s, false);
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(c);
    SSL_shutdown(c);
    SSL_shutdown(s);
    SSL_free(s);
    SSL_free(c);
    ERR_clear_error();
    return seen;
}

/* As a listener has it. */
static struct tls_context *server_context(void)
{
    BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
    struct tls_settings settings = {.server = true};
    struct err err = {0};
    struct tls_context *ctx;
    char *cert_pem, *key_pem;

    PEM_write_bio_X509(cert, root);
    PEM_write_bio_PrivateKey(key, root_key, NULL, NULL, 0, NULL, NULL);
    settings.cert_pem = cert_pem = test_pem(cert);
    settings.key_pem = key_pem = test_pem(key);
    ctx = tls_context_new(&settings, &err);
    assert_string_equal(err.text, "");
    free(cert_pem);
    free(key_pem);
    return ctx;
}

static void handshakes_succeed_and_are_not_resumed(void **unused)
{
    const struct order good = {.subject = NAME({"CN", "jdoe", 0, 0})},
                       bad = {.subject = NAME({"CN", "jdoe", 0, 0}), .from = -9, .to = -1};
    struct tls_context *ctx = server_context();
    SSL_CTX *server = tls_context_ssl(ctx), *client = SSL_CTX_new(TLS_client_method());

    (void)unused;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_SESSION *session = NULL;
        struct client_cert *c;
        bool resumed;

        SSL_CTX_set_max_proto_version(server, version);
        for (int round = 0; round < 2; round++) { /* without being asked for: resumed as always */
            c = shake(server, client, false, &session, &resumed);
            assert_int_equal(resumed, round);
            assert_int_equal(c->state, CLIENT_CERT_NONE);
            free(c);
        }
        for (int round = 0; round < 3;
             round++) { /* that session counts for nothing here, nor does one of these */
            EVP_PKEY *key;
            X509 *x = issue(round ? &good : &bad, middle, middle_key, &key);

            SSL_CTX_use_cert_and_key(client, x, key, sent, 1);
            c = shake(server, client, true, &session, &resumed);
            assert_false(resumed);
            assert_int_equal(c->state, round ? CLIENT_CERT_VALID : CLIENT_CERT_INVALID);
            assert_string_equal(c->subject, "CN=jdoe");
            free(c);
            X509_free(x);
            EVP_PKEY_free(key);
        }
        SSL_SESSION_free(session);
        SSL_CTX_free(client);
        client = SSL_CTX_new(TLS_client_method());
        session = NULL;
        c = shake(server, client, true, &session, &resumed); /* none to show */
        assert_int_equal(c->state, CLIENT_CERT_NONE);
        free(c);
        SSL_SESSION_free(session);
    }
    SSL_CTX_free(client);
    tls_context_free(&ctx);
}

static int setup(void **unused)
{
    const struct order ca = {.subject = NAME({"CN", "Root", 0, 0}), .ca = true},
                       mid = {.subject = NAME({"O", "Test", 0, 0}, {"CN", "Middle", 0, 0}),
                              .ca = true},
                       other = {.subject = NAME({"CN", "Other", 0, 0}), .ca = true};

    (void)unused;
    root = issue(&ca, NULL, NULL, &root_key);
    middle = issue(&mid, root, root_key, &middle_key);
    stranger = issue(&other, NULL, NULL, &stranger_key);
    store = X509_STORE_new();
    X509_STORE_add_cert(store, root);
    sent = sk_X509_new_null();
    sk_X509_push(sent, middle);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    X509_free(root);
    X509_free(middle);
    X509_free(stranger);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(middle_key);
    EVP_PKEY_free(stranger_key);
    X509_STORE_free(store);
    sk_X509_free(sent);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_taken_whole),
        cmocka_unit_test(what_is_not_there_is_empty),
        cmocka_unit_test(names_that_deceive_are_refused),
        cmocka_unit_test(chains_purposes_and_dates_count),
        cmocka_unit_test(revoked_is_invalid),
        cmocka_unit_test(handshakes_succeed_and_are_not_resumed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
