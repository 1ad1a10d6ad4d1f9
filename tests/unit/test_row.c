/* Rows: names, JSON forms, copies, canonical spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/config.h"

static struct row *from(const struct section *s, const char *name, const char *text,
                        struct err *err)
{
    json_t *j = json_parse(text, strlen(text), NULL);
    struct row *r = row_from_json(s, name, j, err);

    assert_non_null(j);
    json_decref(j);
    return r;
}

static void refused(const struct section *s, const char *name, const char *text, const char *why)
{
    struct err err = {0};

    assert_null(from(s, name, text, &err));
    if (!strstr(err.text, why))
        fail_msg("%s says: %s", text, err.text);
}

static void json_forms(void **state)
{
    struct err err;
    struct row *r = from(&section_destination, "Example.COM",
                         "{\"use_tls\":\"require\",\"concurrency_limit\":5}", &err),
               *again;
    json_t *j;
    char *text;

    (void)state;
    assert_non_null(r);
    assert_string_equal(r->name, "example.com");
    assert_string_equal(row_text(r, "domain"), "example.com");
    j = row_to_json(r);
    text = json_text(j);
    assert_string_equal(
        text, "{\"domain\":\"example.com\",\"ip_sort_pref\":\"default\",\"concurrency_limit\":5,"
              "\"max_messages_per_connection\":0,\"recipient_minutes\":0,\"recipient_limit\":0,"
              "\"limit_type\":\"host\",\"limit_apply\":\"system\",\"use_tls\":\"require\",\"dane\":\"default\",\"mta_sts\":\"default\",\"bounce_verification\":\"default\",\"bounce_profile\":\"default\"}");
    again = row_from_json(&section_destination, "example.com", j, &err);
    assert_true(row_equal(r, again));
    row_freeze(r);
    row_freeze(again);
    assert_memory_equal(r->hash, again->hash, 32);
    free(text);
    json_decref(j);
    row_free(&r);
    row_free(&again);
}

/* Numbers and lists may also come in their text form. */
static void text_in_json(void **state)
{
    struct err err;
    struct row *r =
        from(&section_listener, "A", "{\"port\":\"2525\",\"max_message_size\":\"1M\"}", &err);
    struct row *g = from(&section_sender_group, "A/G",
                         "{\"hosts\":\"a.example, b.example\",\"policy\":\"P\"}", &err);
    struct row *h = from(&section_sender_group, "A/G",
                         "{\"hosts\":[\"a.example\",\"b.example\"],\"policy\":\"P\"}", &err);

    (void)state;
    assert_string_equal(row_text(r, "max_message_size"), "1M");
    assert_string_equal(row_leaf(g), "G");
    assert_true(row_equal(g, h));
    row_free(&r), row_free(&g), row_free(&h);
}

/* A setting that was yes or no, and has more answers now. */
static void was_boolean(void)
{
    struct err err;
    struct row *r = from(&section_bounce_profile, "P", "{\"send_bounces\":false,\"dsn_format\":true}", &err);

    assert_string_equal(row_text(r, "send_bounces"), "no");
    assert_string_equal(row_text(r, "dsn_format"), "yes");
    row_free(&r);
}

static void refusals(void **state)
{
    (void)state;
    refused(&section_destination, "a.example", "{\"usetls\":\"on\"}",
            "has no field \"usetls\"; it has: domain, ip_sort_pref");
    refused(&section_destination, "a.example", "{\"domain\":\"b.example\"}",
            "the two must be the same");
    refused(&section_destination, "a.example", "{\"use_tls\":5}",
            "use_tls: The value must be a string.");
    refused(&section_destination, "a.example", "{\"concurrency_limit\":-5}",
            "concurrency_limit: The value must be an integer");
    refused(&section_destination, "a.example", "{\"concurrency_limit\":1.5}", "integer");
    refused(&section_destination, "a.example", "[]", "must be an object");
    refused(&section_sender_group, "A/G", "{\"hosts\":[5]}", "a list of strings");
    refused(&section_bounce_profile, "P", "{\"send_bounces\":1}", "must be a string");
    refused(&section_smtpauth_server, "P/S", "{\"verify\":1}", "true or false");
    was_boolean();
}

static void names(void **state)
{
    struct row *r = row_new(&section_rcpt_access, "Inbound/");
    char *title;

    (void)state;
    assert_true(row_set(r, "address", "a/b@example.com", NULL));
    assert_string_equal(r->name, "Inbound/a/b@example.com");
    assert_string_equal(row_leaf(r), "a/b@example.com");
    title = row_title(r->section, r->name);
    assert_string_equal(title, "listenerconfig Inbound rcptaccess a/b@example.com");
    free(title);
    row_rename(r, "Other/x.example");
    assert_string_equal(row_text(r, "address"), "x.example");
    row_free(&r);
}

/* A copy shares nothing with its original. */
static void copies(void **state)
{
    struct err err;
    struct row *a = from(&section_sender_group, "A/G",
                         "{\"hosts\":[\"a.example\"],\"policy\":\"P\"}", &err),
               *b = row_copy(a);

    (void)state;
    assert_true(row_equal(a, b));
    assert_true(row_set(b, "hosts", "b.example", NULL));
    assert_true(row_is(a, "hosts", "a.example"));
    assert_false(row_equal(a, b));
    row_free(&a);
    assert_string_equal(row_text(b, "policy"), "P");
    row_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_forms), cmocka_unit_test(text_in_json), cmocka_unit_test(refusals),
        cmocka_unit_test(names),      cmocka_unit_test(copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
