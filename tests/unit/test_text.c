/* The configuration as text: what is written reads back to the same, whatever the values; merging,
 * verbs, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/factory.h"
#include "store/text.h"
#include "store/words.h"

static struct config *factory(void)
{
    return factory_config(&(struct factory){.home = "/h",
                                            .hostname = "gw.example.com",
                                            .owner = "alice",
                                            .demo_cert = "a\nb\n",
                                            .demo_key = "sealed:1:2"});
}

static struct config *import(const struct config *base, const char *text, bool replace,
                             struct err *err)
{
    struct config_edits e = {0};
    struct config *c = NULL;

    if (text_import(text, strlen(text), base, replace, NULL, &e, err))
        c = config_edit(base, e.items, e.n, 2);
    config_edits_free(&e);
    return c;
}

static char *export(const struct config *c)
{
    struct buf b = BUF_INIT(1 << 20);

    assert_true(text_export(c, NULL, &b, NULL));
    return buf_take(&b);
}

static uint64_t seed = 1;

static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

/* A value that the field accepts, with everything in it that quoting must survive. */
static void set_random(struct row *r, const struct field *f)
{
    static const char *const pieces[] = {"a", "B", " ",     "\"",        "\\", ";",
                                         "#", "=", "'",     "\xc3\xa4",  "-",  "$",
                                         "{", "}", "<<EOF", "x.example", "1",  ","};

    for (unsigned tries = 0; tries < 20; tries++) {
        struct buf b = BUF_INIT(200);

        if (f->choices)
            buf_str_add(&b, f->choices[draw(2)].word);
        else if (f->type == &type_uint || f->type == &type_size || f->type == &type_duration ||
                 f->type == &type_port)
            buf_printf(&b, "%u", draw(3000));
        else if (f->type == &type_boolean)
            buf_str_add(&b, draw(2) ? "yes" : "no");
        else
            for (unsigned i = draw(6); i > 0; i--)
                buf_str_add(&b, f->type == &type_pem && draw(4) == 0
                                    ? "\n\t"
                                    : pieces[draw(countof(pieces))]);
        if (row_set(r, f->name, buf_str(&b), NULL))
            tries = 20;
        buf_free(&b);
    }
}

static struct config *random_config(void)
{
    struct config *c = factory(), *out;
    struct config_edits e = {0};

    for (unsigned i = 0; i < section_count(); i++) {
        const struct section *s = section_at(i);

        for (size_t k = 0; k < config_count(c, s); k++) {
            struct row *r = row_copy(config_at(c, s, k));

            for (size_t f = 0; f < s->nfields; f++)
                if (!s->fields[f].key && !s->fields[f].secret && draw(2))
                    set_random(r, &s->fields[f]);
            row_freeze(r);
            config_edits_put(&e, s, r->name, r);
        }
    }
    out = config_edit(c, e.items, e.n, 3);
    config_edits_free(&e);
    config_free(&c);
    return out;
}

static void round_trip(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        struct config *c = random_config(), *from = round % 2 ? factory() : random_config(), *again;
        char *text = export(c), *second;
        struct err err = {0};

        again = import(from, text, true, &err); /* whatever was there before */
        if (!again)
            fail_msg("%s in:\n%s", err.text, text);
        second = export(again);
        assert_string_equal(text, second);
        assert_memory_equal(config_hash(c), config_hash(again), 32);
        free(text);
        free(second);
        config_free(&c), config_free(&from), config_free(&again);
    }
}

/* A list that is longer than a line may be goes on in further lines, all of which a console would take. */
static void long_lists(void **state)
{
    struct config *from = factory(), *c, *again;
    struct row *r = row_copy(config_row(from, &section_sender_group, "InboundMail/BLACKLIST"));
    struct config_edit edit = {&section_sender_group, "InboundMail/BLACKLIST", r};
    struct err err = {0};
    char *text, *second;
    size_t lines = 0;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        char host[40];

        snprintf(host, sizeof(host), "h%u.example.com", i);
        strlist_add(&((struct sender_group *)r->data)->hosts, host);
    }
    row_freeze(r);
    c = config_edit(from, &edit, 1, 2);
    text = export(c);
    for (const char *p = text, *nl; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
        assert_true(nl - p < WORDS_MAX_LINE);
        lines += strncmp(p, "listenerconfig edit InboundMail hostaccess edit sendergroup BLACKLIST hosts+=", 76) == 0;
    }
    assert_true(lines > 3);
    again = import(from, text, true, &err);
    if (!again)
        fail_msg("%s", err.text);
    second = export(again);
    assert_string_equal(text, second);
    assert_memory_equal(config_hash(c), config_hash(again), 32);
    free(text);
    free(second);
    row_free(&r);
    config_free(&c), config_free(&from), config_free(&again);
}

static void json_round_trip(void **state)
{
    struct config *c = random_config(), *from = factory(), *again;
    json_t *j = text_export_json(c, NULL, NULL);
    char *text = json_text(j);
    struct err err = {0};

    (void)state;
    again = import(from, text, true, &err);
    if (!again)
        fail_msg("%s", err.text);
    assert_memory_equal(config_hash(c), config_hash(again), 32);
    free(text);
    json_decref(j);
    config_free(&c), config_free(&from), config_free(&again);
}

static void statements(void **state)
{
    static const char *const good[] = {
        "DestConfig SET A.Example use_tls=require # a comment",
        "destconfig new a.example; destconfig edit a.example use_tls=on; destconfig delete "
        "a.example",
        "destconfig absent nowhere.example",
        "destconfig set a.example concurrency_limit=5; destconfig replace a.example",
        "sethostname mail.example.org",
        "sethostname admin_address=joe@example.com",
        "listenerconfig setup max_connections=7",
        "listenerconfig set Third address=127.0.0.3\nlistenerconfig edit Third rcptaccess set "
        "joe@example.com",
        "listenerconfig edit InboundMail hostaccess edit sendergroup WHITELIST hosts+=\"a.example, "
        "b.example\" hosts-=a.example",
        "certconfig set Demo certificate=<<END\nline 1\nline 2\nEND\ndestconfig setup "
        "send_tls_req_alert=yes",
    };
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"destconfig set a.example\n\ndestconfig set b.example use_tls=requird",
         "line 3: destconfig b.example: use_tls: Unknown value \"requird\""                                                            },
        {"destconfig new default",                                               "line 1: there is a destination entry default already"},
        {"destconfig edit a.example",                                            "there is no destination entry a.example"             },
        {"destconfig delete a.example",                                          "there is no destination entry a.example"             },
        {"destconfig set a.example usetls=on",                                   "has no field \"usetls\"; it has: domain"             },
        {"destconfig set a.example domain=b.example",                            "the name is given before the values"                 },
        {"destconfig set a.example use_tls",                                     "\"destconfig\" is not a statement"                   },
        {"destconfig set a.example use_tls=on more",                             "more is not KEY=VALUE"                               },
        {"destconfig delete default use_tls=on",                                 "nothing follows the name: use_tls=on"                },
        {"destconfig set a.example use_tls+=on",                                 "only lists know +="                                  },
        {"status",                                                               "\"status\" is not a statement of the configuration"  },
        {"destconfig set \"a.example",                                           "line 1"                                              },
        {"certconfig set Demo certificate=<<END\nline",                          "END"                                                 },
        {"listenerconfig edit A/B rcptaccess set a.example",                     "is not a statement"                                  },
        {"{\"objects\":5}",                                                      "no array"                                            },
        {"{\"schema\":99,\"objects\":[]}",                                       "newer release"                                       },
        {"{\"objects\":[{\"section\":\"nope\"}]}",                               "object 1: there is no section"                       },
    };
    struct config *base = factory();

    (void)state;
    for (size_t i = 0; i < countof(good); i++) {
        struct err err = {0};
        struct config *c = import(base, good[i], false, &err);

        if (!c)
            fail_msg("%s: %s", good[i], err.text);
        config_free(&c);
    }
    for (size_t i = 0; i < countof(bad); i++) {
        struct err err = {0};
        struct config *c = import(base, bad[i].text, false, &err);

        if (c || !strstr(err.text, bad[i].why))
            fail_msg("%s: %s", bad[i].text, c ? "accepted" : err.text);
    }
    config_free(&base);
}

static void merging_keeps_the_rest(void **state)
{
    struct config *base = factory(),
                  *c =
                      import(base, "listenerconfig set InboundMail max_connections=7", false, NULL),
                  *d = import(c, "listenerconfig set InboundMail port=99", false, NULL),
                  *e = import(d, "sethostname a.example", true, NULL);

    (void)state;
    assert_int_equal(CONFIG_GET(d, listener, "InboundMail")->max_connections, 7);
    assert_int_equal(CONFIG_GET(d, listener, "InboundMail")->port, 99);
    assert_int_equal(config_count(e, &section_listener), 0);
    assert_int_equal(config_count(e, &section_delivery), 1);
    config_free(&base), config_free(&c), config_free(&d), config_free(&e);
}

static void passphrases(void **state)
{
    unsigned char salt[TEXT_SALT] = {1}, key[TEXT_KEY], other[TEXT_KEY];
    struct buf out = BUF_INIT(1000), same = BUF_INIT(1000), plain = BUF_INIT(1000);
    struct err err;

    (void)state;
    assert_true(text_key("secret", salt, key, &err));
    assert_true(text_key("Secret", salt, other, &err));
    assert_false(text_key("", salt, other, &err));
    for (size_t n = 0; n < 40; n++) {
        static const char text[] = "0123456789012345678901234567890123456789";

        buf_reset(&out), buf_reset(&same), buf_reset(&plain);
        assert_true(text_encrypt(key, text, n, &out, &err));
        assert_true(text_encrypt(key, text, n, &same, &err));
        assert_string_equal(buf_str(&out), buf_str(&same));
        assert_true(text_decrypt(key, buf_str(&out), &plain, &err));
        assert_int_equal(plain.n, n);
        assert_memory_equal(buf_str(&plain), text, n);
        assert_false(text_decrypt(other, buf_str(&out), &plain, &err));
        assert_int_equal(err.code, E_DENIED);
        out.p[15] = out.p[15] == 'A' ? 'B' : 'A';
        assert_false(text_decrypt(key, buf_str(&out), &plain, &err));
    }
    assert_false(text_decrypt(key, "encrypted:????", &plain, &err));
    assert_false(text_decrypt(key, "encrypted:", &plain, &err));
    buf_free(&out), buf_free(&same), buf_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),  cmocka_unit_test(long_lists), cmocka_unit_test(json_round_trip),
        cmocka_unit_test(statements),  cmocka_unit_test(merging_keeps_the_rest),
        cmocka_unit_test(passphrases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
