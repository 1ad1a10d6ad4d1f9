/* Snapshots: sharing, order, lookups, the hash that adds up; and the factory configuration passes
 * every rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/check.h"
#include "store/factory.h"

static const char cert[] =
    "-----BEGIN "
    "CERTIFICATE-----"
    "\nMIIBfDCCASOgAwIBAgIUFs6Yv3ncKHbGuIqR2LySmlGA7n4wCgYIKoZIzj0EAwIw\nFDESMBAGA1UEAwwJdGVzdC5kZW"
    "1vMB4XDTI2MDEwMTAwMDAwMFoXDTM2MDEwMTAw\n-----END CERTIFICATE-----\n";

static struct config *factory(void)
{
    return factory_config(&(struct factory){.home = "/h",
                                            .hostname = "gw",
                                            .owner = "alice",
                                            .demo_cert = cert,
                                            .demo_key = "sealed:1:2"});
}

static void factory_passes_its_rules(void **state)
{
    struct config *c = factory();
    struct check check = {0};

    (void)state;
    check_config(c, NULL, &check);
    for (size_t i = 0; i < check.n; i++)
        print_message("%s %s: %s\n", check.items[i].object, check.items[i].field,
                      check.items[i].text);
    assert_int_equal(check.errors, 1); /* the certificate above is cut short on purpose */
    assert_string_equal(check.items[0].object, "certconfig Demo");
    assert_string_equal(CONFIG_SINGLE(c, system)->hostname, "gw.localdomain");
    assert_int_equal(CONFIG_GET(c, listener, "InboundMail")->port, 2525);
    assert_int_equal(CONFIG_GET(c, user, "alice")->role, USER_ADMIN);
    check_free(&check);
    config_free(&c);
}

static struct config *with(struct config *base, const char *domain, const char *tls)
{
    struct row *r = tls ? row_new(&section_destination, domain) : NULL;
    struct config_edit edit = {&section_destination, domain, r};
    struct config *c;

    if (r) {
        assert_true(row_set(r, "use_tls", tls, NULL));
        row_freeze(r);
    }
    c = config_edit(base, &edit, 1, config_revision(base) + 1);
    row_free(&r);
    return c;
}

static void edits_share_and_add_up(void **state)
{
    struct config *a = factory(), *b = with(a, "b.example", "on"),
                  *c = with(b, "a.example", "require");
    struct config *d = with(a, "a.example", "require"), *e = with(d, "b.example", "on"),
                  *f = with(c, "b.example", NULL);
    size_t n;

    (void)state;
    assert_true(config_shares(a, c, &section_listener));
    assert_false(config_shares(a, c, &section_destination));
    assert_memory_equal(config_hash(c), config_hash(e), 32);
    assert_memory_equal(config_hash(d), config_hash(f), 32);
    assert_memory_not_equal(config_hash(a), config_hash(b), 32);
    assert_int_equal(config_count(c, &section_destination), 3);
    assert_string_equal(config_at(c, &section_destination, 0)->name, "a.example");
    assert_int_equal(CONFIG_GET(c, destination, "a.example")->use_tls, DEST_TLS_REQUIRED);
    assert_null(config_row(a, &section_destination, "a.example"));
    assert_int_equal(config_children(c, &section_mail_policy, "InboundMail", &n), 4);
    {
        const struct row **rows = config_ordered(c, &section_sender_group, "InboundMail", &n);

        assert_int_equal(n, 4);
        assert_string_equal(row_leaf(rows[0]), "WHITELIST");
        assert_string_equal(row_leaf(rows[3]), "UNKNOWNLIST");
        free(rows);
    }
    config_free(&a), config_free(&b), config_free(&c), config_free(&d), config_free(&e),
        config_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factory_passes_its_rules),
        cmocka_unit_test(edits_share_and_add_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
