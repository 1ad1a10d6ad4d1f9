/* test_trust.c - the store peers are verified against, as configurations come and go. */
#include "daemon/trust.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/reload.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/config.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct test_cert system_ca, custom_ca, peer;
static char bundle[] = "/tmp/postern-unit-bundle.XXXXXX";
static char warned[400];

static void on_log(enum log_level level, const char *text)
{
    if (level <= LOG_WARNING)
        str_copy(warned, sizeof(warned), text);
}

static void write_bundle(const char *one, const char *two)
{
    FILE *f = fopen(bundle, "w");

    assert_non_null(f);
    fprintf(f, "%s%s", one, two);
    fclose(f);
}

static void put(struct config_edits *e, const struct section *s, const char *name, const char *f1,
                const char *v1, const char *f2, const char *v2)
{
    struct row *r = row_new(s, name);

    assert_true(row_set(r, f1, v1, NULL) && row_set(r, f2, v2, NULL));
    row_freeze(r);
    config_edits_put(e, s, name, r);
}

/* Makes it the running configuration. */
static void run(bool system, bool custom, const struct test_cert *authority, bool enabled)
{
    struct config_edits e = {0};
    struct config *c;
    struct err err = {0};

    put(&e, &section_authority_setup, "-", "system_list", system ? "yes" : "no", "custom_list",
        custom ? "yes" : "no");
    if (authority)
        put(&e, &section_authority, "own", "certificate", authority->cert, "enabled",
            enabled ? "yes" : "no");
    c = config_edit(NULL, e.items, e.n, 1);
    if (!reload_prepare(c, &err))
        fail_msg("%s", err.text);
    reload_publish(c);
    config_free(&c);
    config_edits_free(&e);
}

static bool trusts(const struct test_cert *c)
{
    X509_STORE *store = running_trust();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    BIO *in = BIO_new_mem_buf(c->cert, -1);
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
    bool ok;

    X509_STORE_CTX_init(ctx, store, x, NULL);
    ok = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_free(x);
    BIO_free(in);
    X509_STORE_free(store);
    return ok;
}

/* How many names a server would send that asks for certificates. */
static int names_sent(void)
{
    STACK_OF(X509_NAME) *names = running_trust_names();
    int n = names ? sk_X509_NAME_num(names) : 0;

    assert_true(!names || n > 0); /* an empty list is not sent as one */
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return n;
}

static void the_lists_count_as_configured(void **state)
{
    (void)state;
    assert_false(trusts(&system_ca)); /* nothing is configured yet */
    assert_int_equal(names_sent(), 0);
    run(true, false, &custom_ca, true);
    assert_true(trusts(&system_ca));
    assert_false(trusts(&custom_ca));
    assert_int_equal(names_sent(), 0); /* those of the system list are not sent */
    run(true, true, &custom_ca, true);
    assert_int_equal(names_sent(), 1);
    assert_true(trusts(&system_ca) && trusts(&custom_ca));
    run(false, true, &custom_ca, true);
    assert_true(!trusts(&system_ca) && trusts(&custom_ca));
    run(false, true, &custom_ca, false); /* one entry switched off */
    assert_true(!trusts(&system_ca) && !trusts(&custom_ca));
    run(false, false, NULL, false);
    assert_false(trusts(&system_ca));
}

/* A certificate that an authority issued which nobody lists. */
static struct test_cert issue(const struct test_cert *by)
{
    struct test_cert made = test_cert_named("issued", NULL, 0, 0, 10);
    BIO *cert_in = BIO_new_mem_buf(made.cert, -1), *ca_in = BIO_new_mem_buf(by->cert, -1),
        *key_in = BIO_new_mem_buf(by->key, -1), *out = BIO_new(BIO_s_mem());
    X509 *x = PEM_read_bio_X509(cert_in, NULL, NULL, NULL),
         *ca = PEM_read_bio_X509(ca_in, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(key_in, NULL, NULL, NULL);

    X509_set_issuer_name(x, X509_get_subject_name(ca));
    X509_sign(x, key, EVP_sha256());
    PEM_write_bio_X509(out, x);
    free(made.cert);
    made.cert = test_pem(out);
    BIO_free(cert_in);
    BIO_free(ca_in);
    BIO_free(key_in);
    X509_free(x);
    X509_free(ca);
    EVP_PKEY_free(key);
    return made;
}

static void a_listed_certificate_is_trusted_for_what_it_is(void **state)
{
    struct test_cert issued = issue(&custom_ca);
    (void)state;

    run(true, true, &issued, true);
    assert_true(trusts(&issued));
    assert_false(trusts(&custom_ca));
    test_cert_free(&issued);
    run(true, true, &peer, true); /* not an authority, not self-signed by one */
    assert_true(trusts(&peer));
    run(true, false, NULL, false);
    assert_false(trusts(&peer));
}

static void what_did_not_change_is_shared_and_keeps_its_number(void **state)
{
    X509_STORE *one, *two;
    uint64_t id;
    (void)state;

    run(true, true, &custom_ca, true);
    one = running_trust();
    id = running_trust_id();
    run(true, true, &custom_ca, true);
    two = running_trust();
    assert_ptr_equal(one, two);
    assert_true(running_trust_id() == id);
    run(true, false, &custom_ca, true);
    assert_true(running_trust_id() != id);
    run(true, true, &custom_ca, true); /* back again: what was verified then is verified now */
    assert_true(running_trust_id() == id);
    X509_STORE_free(one);
    X509_STORE_free(two);
}

static void an_update_is_asked_for_and_survives_a_bad_file(void **state)
{
    struct bundle *b;
    struct err err = {0};
    bool changed;
    (void)state;

    run(true, false, NULL, false);
    write_bundle(system_ca.cert, peer.cert);
    assert_false(trusts(&peer)); /* the file changed, the list did not */
    assert_true(trust_update(&changed, &err));
    assert_true(changed && trusts(&peer));
    b = trust_system();
    assert_int_equal(sk_X509_num(b->certificates), 2);
    assert_memory_equal(b->version, "sha256:", 7);
    bundle_free(&b);
    assert_true(trust_update(&changed, &err));
    assert_false(changed);
    write_bundle("nothing", "");
    assert_false(trust_update(&changed, &err));
    assert_non_null(strstr(err.text, "holds no certificate"));
    assert_true(trusts(&peer) && trusts(&system_ca));
    write_bundle(system_ca.cert, "");
    assert_true(trust_update(&changed, &err));
    assert_true(changed && !trusts(&peer));
}

static int set_up(void **state)
{
    static const struct reload_part *const parts[] = {&reload_trust, NULL};
    int fd = mkstemp(bundle);
    (void)state;

    close(fd);
    log_set_sink(on_log);
    system_ca = test_cert_named("system", NULL, 0, 1, 10);
    custom_ca = test_cert_named("custom", NULL, 0, 1, 10);
    peer = test_cert_named("peer", "DNS:peer.example", 0, 0, 10);
    write_bundle(system_ca.cert, "");
    reload_use(parts);
    return setenv("SSL_CERT_FILE", bundle, 1);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(bundle);
    test_cert_free(&system_ca);
    test_cert_free(&custom_ca);
    test_cert_free(&peer);
    return *warned != '\0'; /* nobody complained */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lists_count_as_configured),
        cmocka_unit_test(a_listed_certificate_is_trusted_for_what_it_is),
        cmocka_unit_test(what_did_not_change_is_shared_and_keeps_its_number),
        cmocka_unit_test(an_update_is_asked_for_and_survives_a_bad_file),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
