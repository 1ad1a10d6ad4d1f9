/* The tables of route.c: which route, which controls, which key; and what a host of a route may
 * look like. */
#include "daemon/route.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"
#include "tests/unit/config_of.h"

static const struct object objects[] = {
    {&section_smtp_route,     "example.com",       "hosts=mx1.inside.example"                           },
    {&section_smtp_route,     ".example.com",      "hosts=mx2.inside.example"                           },
    {&section_smtp_route,     ".deep.example.com", "hosts=mx3.inside.example"                           },
    {&section_smtp_route,     "a.example.com",     "hosts=mx4.inside.example"                           },
    {&section_smtp_route,     "dns.example.com",   "hosts=USEDNS"                                       },
    {&section_smtp_route,     "drop.example",      "hosts=/dev/null"                                    },
    {&section_smtp_route,     "ALL",               "hosts=relay.example, backup.example/pri=10"         },
    {&section_destination,    "default",
     "concurrency_limit=40|use_tls=on|max_messages_per_connection=7"                                    },
    {&section_destination,    "strict.example",    "use_tls=require|concurrency_limit=5|limit_type=MXIP"},
    {&section_destination,    "[2001:db8::1]",     "use_tls=require"                                    },
    {&section_destination,    ".partner.example",
     "use_tls=off|bounce_profile=Patient|ip_sort_pref=require_v4"                                       },
    {&section_bounce_profile, "Default",
     "send_bounces=no|parse_status=no|delay_warnings=yes|delay_count=3|delay_subject=Late|alternate=desk@example.net"},
    {&section_bounce_profile, "Patient",           "max_queue_seconds=999999"                           },
    {&section_delivery,       "-",
     "source_address=192.0.2.10, 2001:db8::10, 192.0.2.11"                                              },
    {&section_bounce_profile, "Quick",             "max_queue_seconds=10|send_bounces=default|parse_status=default|delay_warnings=default|alternate=default"                             },
    {&section_listener,       "In",                "address=192.0.2.1|port=25"                          },
    {&section_listener,       "Any",               "address=0.0.0.0|port=2525"                          },
};

static struct config *cfg;

static int set_up(void **state)
{
    (void)state;
    cfg = config_of(NULL, objects, countof(objects));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_free(&cfg);
    return 0;
}

static void most_specific_wins(void **state)
{
    static const struct {
        const char *domain, *route;
    } cases[] = {
        {"example.com",          "example.com"      },
        {"a.example.com",        "a.example.com"    },
        {"b.example.com",        ".example.com"     },
        {"x.a.example.com",      ".example.com"     },
        {"deep.example.com",     ".example.com"     },
        {"x.deep.example.com",   ".deep.example.com"},
        {"x.y.deep.example.com", ".deep.example.com"},
        {"notexample.com",       "ALL"              },
        {"com",                  "ALL"              },
        {"",                     "ALL"              },
        {"[192.0.2.9]",          "ALL"              },
        {"drop.example",         "drop.example"     },
    };
    struct config *empty = config_new();

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_string_equal(route_find(cfg, cases[i].domain)->domain, cases[i].route);
    assert_true(route_uses_dns(route_find(cfg, "dns.example.com")));
    assert_false(route_uses_dns(route_find(cfg, "a.example.com")));
    assert_true(route_discards(route_find(cfg, "drop.example")));
    assert_false(route_discards(route_find(cfg, "a.example.com")));
    assert_null(route_find(empty, "example.com"));
    assert_true(route_uses_dns(NULL));
    config_free(&empty);
}

static void hosts_of_routes(void **state)
{
    static const struct {
        const char *text, *host;
        unsigned port, priority;
        bool no_mx;
    } good[] = {
        {"relay.example",              "relay.example", 25,    0,     false},
        {"relay.example:2525",         "relay.example", 2525,  0,     false},
        {"relay.example/pri=10",       "relay.example", 25,    10,    false},
        {"relay.example:26/pri=65535", "relay.example", 26,    65535, false},
        {"[relay.example]",            "relay.example", 25,    0,     true },
        {"[relay.example]:2525/pri=1", "relay.example", 2525,  1,     true },
        {"192.0.2.1",                  "192.0.2.1",     25,    0,     true },
        {"192.0.2.1:2525",             "192.0.2.1",     2525,  0,     true },
        {"2001:db8::1",                "2001:db8::1",   25,    0,     true },
        {"[2001:db8::1]",              "2001:db8::1",   25,    0,     true },
        {"[2001:db8::1]:65535/pri=7",  "2001:db8::1",   65535, 7,     true },
    };
    static const char *const bad[] = {
        "",
        "[relay.example",
        "relay.example:",
        "relay.example:0",
        "relay.example:65536",
        "relay.example/pri=",
        "relay.example/pri=65536",
        "relay.example/pri=x",
        "[relay.example]x",
        "a b",
        "[]",
        "relay.example:25x",
    };
    struct hop h;

    (void)state;
    for (size_t i = 0; i < countof(good); i++) {
        if (!hop_parse(good[i].text, &h))
            fail_msg("%s", good[i].text);
        assert_string_equal(h.host, good[i].host);
        assert_int_equal(h.port, good[i].port);
        assert_int_equal(h.priority, good[i].priority);
        assert_int_equal(h.no_mx, good[i].no_mx);
    }
    for (size_t i = 0; i < countof(bad); i++)
        if (hop_parse(bad[i], &h))
            fail_msg("%s was taken", bad[i]);
}

static void what_the_prompt_takes_is_understood(void **state)
{
    static const char *const words[] = {
        "relay.example",
        "relay.example:2525",
        "relay.example/pri=10",
        "relay.example:26/pri=65535",
        "[relay.example]",
        "192.0.2.1",
        "2001:db8::1",
        "[2001:db8::1]:25/pri=3",
        "relay.example/pri",
        "relay.example/pri=",
        "relay.example/pri=x",
        "relay.example/pri=65536",
        "[relay.example",
        "relay.example:0",
        "a b",
    };
    const struct field *f = field_find(&section_smtp_route, "hosts");
    struct hop h;

    (void)state;
    for (size_t i = 0; i < countof(words); i++)
        if (f->check(f, words[i], NULL) != hop_parse(words[i], &h))
            fail_msg("%s", words[i]);
}

static void controls_inherit(void **state)
{
    struct config *empty = config_new();
    struct controls c;

    (void)state;
    route_controls(cfg, "anything.example", &c);
    assert_int_equal(c.limits.sessions, 40);
    assert_int_equal(c.limits.messages_per_session, 7);
    assert_int_equal(c.tls, DEST_TLS_PREFERRED);
    assert_int_equal(c.ip_preference, IP_PREFER_V6);
    assert_string_equal(c.entry, "default");
    route_controls(cfg, "strict.example", &c);
    assert_int_equal(c.limits.sessions, 5);
    assert_int_equal(c.limits.messages_per_session, 7);
    assert_int_equal(c.tls, DEST_TLS_REQUIRED);
    assert_true(c.per_address);
    route_controls(cfg, "[IPv6:2001:db8::1]", &c); /* as recipients have it */
    assert_int_equal(c.tls, DEST_TLS_REQUIRED);
    assert_string_equal(c.entry, "[2001:db8::1]");
    route_controls(cfg, "x.partner.example", &c);
    assert_int_equal(c.tls, DEST_TLS_NONE);
    assert_int_equal(c.ip_preference, IP_REQUIRE_V4);
    assert_string_equal(c.bounce_profile, "Patient");
    route_controls(cfg, "partner.example", &c); /* ".partner.example" is what is below it */
    assert_int_equal(c.tls, DEST_TLS_PREFERRED);
    route_controls(empty, "example.com", &c);
    assert_int_equal(c.limits.sessions, 500);
    assert_int_equal(c.limits.messages_per_session, 50);
    assert_int_equal(c.tls, DEST_TLS_NONE);
    config_free(&empty);
}

static void profiles(void **state)
{
    static const struct {
        const char *domain, *listener, *profile;
    } cases[] = {
        {"x.partner.example", "Quick", "Patient"},
        {"example.com",       "Quick", "Quick"  },
        {"example.com",       "",      "Default"},
        {"example.com",       "gone",  "Default"},
    };
    struct config *empty = config_new();
    struct bounce_profile p;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        route_bounce_profile(cfg, cases[i].domain, cases[i].listener, &p);
        assert_string_equal(p.name, cases[i].profile);
    }
    route_bounce_profile(cfg, "example.com", "Quick", &p); /* what it leaves to Default */
    assert_int_equal(p.max_queue_seconds, 10);
    assert_int_equal(p.send_bounces, ANSWER_NO);
    assert_int_equal(p.dsn_format, ANSWER_YES);
    assert_int_equal(p.parse_status, ANSWER_NO);
    assert_int_equal(p.delay_warnings, ANSWER_YES);
    assert_int_equal(p.delay_count, 3);
    assert_string_equal(p.delay_subject, "Late");
    assert_string_equal(p.alternate, "desk@example.net");
    route_bounce_profile(empty, "example.com", "", &p);
    assert_int_equal(p.max_retries, 100);
    assert_int_equal(p.send_bounces, ANSWER_YES);
    config_free(&empty);
}

static void keys(void **state)
{
    char a[600], b[600];

    (void)state;
    route_key(cfg, "dns.example.com", a, sizeof(a));
    assert_string_equal(a, "dns.example.com");
    route_key(cfg, "one.example", a, sizeof(a));
    route_key(cfg, "two.example", b, sizeof(b));
    assert_string_equal(a, b); /* one smart host, the same controls: they share connections */
    route_key(cfg, "strict.example", b, sizeof(b));
    assert_string_not_equal(a, b); /* the same host, but another demand on the connection */
    route_key(cfg, "b.example.com", b, sizeof(b));
    assert_string_not_equal(a, b);

    route_key_via(cfg, NULL, "one.example", b, sizeof(b));
    assert_string_equal(a, b); /* not redirected */
    route_key_via(cfg, "[192.0.2.9]:25", "one.example", a, sizeof(a));
    assert_string_not_equal(a, b);
    route_key_via(cfg, "[192.0.2.9]:25", "two.example", b, sizeof(b));
    assert_string_equal(a, b); /* wherever the routes lead */
    route_key_via(cfg, "[192.0.2.9]:25", "strict.example", b, sizeof(b));
    assert_string_not_equal(a, b); /* the demands are still those of the domain */
}

static void own_listeners(void **state)
{
    static const struct {
        const char *text;
        bool own;
    } cases[] = {
        {"192.0.2.1:25",       true },
        {"192.0.2.1:26",       false},
        {"192.0.2.2:25",       false},
        {"127.0.0.1:2525",     true },
        {"127.0.0.1:2526",     false},
        {"198.51.100.77:2525", false},
    };
    struct addr a;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        assert_true(addr_parse_port(cases[i].text, 0, &a));
        assert_int_equal(route_is_self(cfg, &a), cases[i].own);
    }
}

static void sources_take_turns(void **state)
{
    char text[ADDR_TEXT], first[ADDR_TEXT];
    struct addr a;

    (void)state;
    assert_true(route_has_source(cfg, AF_INET));
    assert_true(route_has_source(cfg, AF_INET6));
    assert_true(route_source(cfg, AF_INET, &a));
    str_copy(first, sizeof(first), addr_text(&a, text));
    for (int i = 0; i < 4; i++) {
        assert_true(route_source(cfg, AF_INET, &a));
        assert_int_equal(str_eq(addr_text(&a, text), first), i % 2);
        assert_true(str_eq(text, "192.0.2.10") || str_eq(text, "192.0.2.11"));
    }
    for (int i = 0; i < 3; i++) {
        assert_true(route_source(cfg, AF_INET6, &a));
        assert_string_equal(addr_text(&a, text), "2001:db8::10");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_take_turns),
        cmocka_unit_test(most_specific_wins),
        cmocka_unit_test(hosts_of_routes),
        cmocka_unit_test(what_the_prompt_takes_is_understood),
        cmocka_unit_test(controls_inherit),
        cmocka_unit_test(profiles),
        cmocka_unit_test(keys),
        cmocka_unit_test(own_listeners),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
