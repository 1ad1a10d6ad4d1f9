/* The host and recipient access tables of daemon/access.c: matching, order, names, and that nothing
 * relays. */
#include "daemon/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/base/str.h"

struct object {
    const struct section *section;
    const char *name, *values; /* "field=value|field=value" */
};

static struct config *config_of(const struct config *base, const struct object *o, size_t n)
{
    struct config_edit *edits = xcalloc(n, sizeof(*edits));
    struct config *cfg;

    for (size_t i = 0; i < n; i++) {
        struct row *r = row_new(o[i].section, o[i].name);
        AUTO(strlist) struct strlist values = {0};

        strlist_split(&values, o[i].values, '|');
        for (size_t k = 0; k < values.n; k++) {
            char *equals = strchr(values.items[k], '=');
            struct err err = {0};

            *equals = '\0';
            if (!row_set(r, values.items[k], equals + 1, &err))
                fail_msg("%s %s: %s", o[i].name, values.items[k], err.text);
        }
        row_freeze(r);
        edits[i] = (struct config_edit){o[i].section, r->name, r};
    }
    cfg = config_edit(base, edits, n, 1);
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    free(edits);
    return cfg;
}

static const struct object tables[] = {
    {&section_listener,     "In",
     "kind=public|default_behavior=accept|max_rcpts_per_msg=50|tls=preferred"                          },
    {&section_mail_policy,  "In/ACCEPTED",               "behavior=accept"                             },
    {&section_mail_policy,  "In/BLOCKED",                "behavior=reject"                             },
    {&section_mail_policy,  "In/REFUSED",                "behavior=tcprefuse"                          },
    {&section_mail_policy,  "In/TRUSTED",
     "behavior=accept|max_rcpts_per_msg=5000|max_rcpts_per_hour=7|tls=required"                        },
    {&section_mail_policy,  "In/ON",                     "behavior=continue"                           },
    {&section_sender_group, "In/FIRST",
     "position=1|policy=TRUSTED|hosts=192.0.2.7, good.example.com"                                     },
    {&section_sender_group, "In/SKIP",                   "position=2|policy=ON|hosts=192.0.2.0/24, ALL"},
    {&section_sender_group, "In/BLACK",
     "position=3|policy=BLOCKED|hosts=192.0.2.0/24, .example.com, 10.1.1.10-20, 2001:db8::/32"         },
    {&section_sender_group, "In/REFUSE",
     "position=4|policy=REFUSED|hosts=192.0.2.128/25, 198.51.100., 0.0.0.0/1"                          },
    {&section_sender_group, "In/AGAIN",
     "position=5|policy=ACCEPTED|hosts=192.0.0.0/8, 255.255.255.255, ::/0"                             },
    {&section_rcpt_access,  "In/example.com",            ""                                            },
    {&section_rcpt_access,  "In/.sub.example.com",       ""                                            },
    {&section_rcpt_access,  "In/no.sub.example.com",     "action=reject"                               },
    {&section_rcpt_access,  "In/joe@other.example",      ""                                            },
    {&section_rcpt_access,  "In/bad@example.com",        "action=reject"                               },
    {&section_rcpt_access,  "In/postmaster@",            ""                                            },
    {&section_rcpt_access,  "In/spamtrap@",              "action=reject"                               },
    {&section_rcpt_access,  "In/[192.0.2.1]",            ""                                            },
    {&section_rcpt_access,  "In/joe@[IPv6:2001:db8::1]", ""                                            },
    {&section_listener,     "Out",                       "kind=private|default_behavior=accept"        },
    {&section_listener,     "Empty",                     "kind=public"                                 },
};

static struct access *table_access;

static int setup(void **unused)
{
    struct config *cfg = config_of(NULL, tables, countof(tables));

    (void)unused;
    table_access = access_new(cfg, NULL);
    config_free(&cfg);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    access_free(&table_access);
    return 0;
}

static struct addr ip(const char *text)
{
    struct addr a;

    if (!addr_parse(text, &a))
        fail_msg("%s", text);
    return a;
}

static void test_senders(void **unused)
{
    static const struct {
        const char *ip, *host, *group, *entry;
        bool needs_name;
    } cases[] = {
        {"192.0.2.7",                               "",                 "FIRST",  "192.0.2.7",        false},
        {"192.0.2.8",                               "",                 "BLACK",  "192.0.2.0/24",     true },
        {"192.0.2.8",                               "good.example.com", "FIRST",  "good.example.com", true },
        {"192.0.2.8",                               "GOOD.Example.com", "FIRST",  "good.example.com", true },
        {"192.0.2.200",                             "",                 "BLACK",  "192.0.2.0/24",     true },
        {"192.0.1.255",                             "",                 "AGAIN",  "192.0.0.0/8",      true },
        {"192.0.3.0",                               "",                 "AGAIN",  "192.0.0.0/8",      true },
        {"192.0.3.0",                               "a.b.example.com",  "BLACK",  ".example.com",     true },
        {"192.0.3.0",                               "example.com",      "AGAIN",  "192.0.0.0/8",      true },
        {"192.0.3.0",                               "notexample.com",   "AGAIN",  "192.0.0.0/8",      true },
        {"10.1.1.9",                                "",                 "REFUSE", "0.0.0.0/1",        true },
        {"10.1.1.10",                               "",                 "BLACK",  "10.1.1.10-20",     true },
        {"10.1.1.20",                               "",                 "BLACK",  "10.1.1.10-20",     true },
        {"10.1.1.21",                               "",                 "REFUSE", "0.0.0.0/1",        true },
        {"198.51.100.0",                            "",                 "REFUSE", "198.51.100.",      true },
        {"198.51.101.0",                            "",                 "None",   "ALL",              true },
        {"0.0.0.0",                                 "",                 "REFUSE", "0.0.0.0/1",        true },
        {"127.255.255.255",                         "",                 "REFUSE", "0.0.0.0/1",        true },
        {"128.0.0.0",                               "",                 "None",   "ALL",              true },
        {"255.255.255.255",                         "",                 "AGAIN",  "255.255.255.255",  true },
        {"255.255.255.254",                         "",                 "None",   "ALL",              true },
        {"2001:db8::1",                             "",                 "BLACK",  "2001:db8::/32",    true },
        {"2001:db9::",                              "",                 "AGAIN",  "::/0",             true },
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "",                 "AGAIN",  "::/0",             true },
        {"::ffff:192.0.2.7",                        "",                 "FIRST",  "192.0.2.7",        false},
    };
    const struct access_table *t = access_table(table_access, "In");

    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        struct addr a = ip(cases[i].ip);
        struct access_match m;

        access_sender(t, &a, cases[i].host, &m);
        if (!str_eq(m.group, cases[i].group) || !str_eq(m.entry, cases[i].entry))
            fail_msg("%s %s: %s %s", cases[i].ip, cases[i].host, m.group, m.entry);
        assert_int_equal(access_needs_name(t, &a), cases[i].needs_name);
    }
    assert_null(access_table(table_access, "Nowhere"));
}

static void test_flows(void **unused)
{
    const struct access_table *t = access_table(table_access, "In");
    struct access_match m;
    struct addr a = ip("192.0.2.7");

    (void)unused;
    access_sender(t, &a, "", &m);
    assert_int_equal(m.flow->behavior, BEHAVIOR_ACCEPT);
    assert_int_equal(m.flow->max_rcpts_per_msg, 5000);
    assert_int_equal(m.flow->max_rcpts_per_hour, 7);
    assert_int_equal(m.flow->tls, TLS_REQUIRED);
    assert_int_equal(m.flow->max_message_size, 20 << 20); /* the listener's */
    a = ip("198.51.101.1");
    access_sender(t, &a, "", &m);
    assert_int_equal(m.flow->behavior, BEHAVIOR_ACCEPT);
    assert_int_equal(m.flow->max_rcpts_per_msg, 50);
    assert_int_equal(m.flow->tls, TLS_PREFERRED);
    a = ip("198.51.100.1");
    access_sender(t, &a, "", &m);
    assert_int_equal(m.flow->behavior, BEHAVIOR_TCPREFUSE);
}

/* CONTINUE for those whom no group lists: there is nothing to go on to. */
static void test_continue_at_the_end(void **unused)
{
    static const struct object objects[] = {
        {&section_listener, "L", "default_behavior=continue"}
    };
    struct config *cfg = config_of(NULL, objects, 1);
    struct access *access = access_new(cfg, NULL);
    struct addr a = ip("10.0.0.1");
    struct access_match m;

    (void)unused;
    access_sender(access_table(access, "L"), &a, "", &m);
    assert_int_equal(m.flow->behavior, BEHAVIOR_ACCEPT);
    access_free(&access);
    config_free(&cfg);
}

static void test_all_and_no_names(void **unused)
{
    static const struct object objects[] = {
        {&section_listener,     "L",    "default_behavior=reject"                           },
        {&section_mail_policy,  "L/A",  "behavior=accept"                                   },
        {&section_mail_policy,  "L/R",  "behavior=reject"                                   },
        {&section_sender_group, "L/G1", "position=1|policy=R|hosts=192.0.2.0/24"            },
        {&section_sender_group, "L/G2", "position=2|policy=A|hosts=ALL"                     },
        {&section_sender_group, "L/G3", "position=3|policy=R|hosts=10.0.0.0/8, host.example"},
    };
    struct config *cfg = config_of(NULL, objects, countof(objects));
    struct access *access = access_new(cfg, NULL);
    const struct access_table *t = access_table(access, "L");
    struct addr a = ip("10.0.0.1");
    struct access_match m;

    (void)unused;
    config_free(&cfg);
    assert_false(access_needs_name(t, &a)); /* the name comes after ALL */
    access_sender(t, &a, "host.example", &m);
    assert_string_equal(m.group, "G2");
    assert_string_equal(m.entry, "ALL");
    a = ip("192.0.2.1");
    access_sender(t, &a, "", &m);
    assert_string_equal(m.group, "G1");
    access_free(&access);
}

/* Whatever a stranger asks for, it is taken only for the recipients of the table. */
static const struct {
    const char *rcpt;
    bool in; /* on the public listener with the table above; the two others take nothing */
} rcpts[] = {
    {"<user@example.com>",                     true },
    {"<User@EXAMPLE.COM>",                     true },
    {"<bad@example.com>",                      false},
    {"<BAD@example.com>",                      false},
    {"<\"bad\"@example.com>",                  false},
    {"<user@sub.example.com>",                 false},
    {"<user@a.sub.example.com>",               true },
    {"<user@a.b.sub.example.com>",             true },
    {"<user@no.sub.example.com>",              false},
    {"<user@x.no.sub.example.com>",            true },
    {"<user@xsub.example.com>",                false},
    {"<joe@other.example>",                    true },
    {"<jim@other.example>",                    false},
    {"<postmaster@other.example>",             true },
    {"<postmaster@example.com>",               true },
    {"<postmaster@no.sub.example.com>",        true }, /* the more particular entry */
    {"<spamtrap@example.com>",                 false},
    {"<postmaster@foreign.example>",           false},
    {"<user@foreign.example>",                 false},
    {"<user@example.com.foreign.example>",     false},
    {"<user@notexample.com>",                  false},
    {"<@example.com:user@foreign.example>",    false},
    {"<@foreign.example:user@example.com>",    true },
    {"<\"user@foreign.example\"@example.com>",
     true                                           }, /* such local parts are refused before the table is asked */
    {"<user%foreign.example@example.com>",     true },
    {"<\"user@example.com\"@foreign.example>", false},
    {"<user%example.com@foreign.example>",     false},
    {"<user@[192.0.2.1]>",                     true },
    {"<user@[192.0.2.2]>",                     false},
    {"<user@[127.0.0.1]>",                     false},
    {"<joe@[IPv6:2001:DB8:0::1]>",             true },
    {"<jim@[IPv6:2001:db8::1]>",               false},
    {"<postmaster@[127.0.0.1]>",               false},
    {"<postmaster>",                           false},
    {"<user>",                                 false},
    {"<\"\"@foreign.example>",                 false},
    {"<\"x@\"@foreign.example>",               false},
};

static void test_never_an_open_relay(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < countof(rcpts); i++) {
        struct slice in = slice_of(rcpts[i].rcpt);
        struct smtp_path to;
        struct smtp_refusal why;

        if (!smtp_parse_path(&in, &to, &why))
            fail_msg("%s: %s", rcpts[i].rcpt, why.text);
        if (access_rcpt(access_table(table_access, "In"), &to) != rcpts[i].in)
            fail_msg("%s (%s): %s", rcpts[i].rcpt, to.address, rcpts[i].in ? "refused" : "taken");
        assert_false(access_rcpt(access_table(table_access, "Out"), &to));
        assert_false(access_rcpt(access_table(table_access, "Empty"), &to));
    }
}

static void test_change_shares_the_rest(void **unused)
{
    static const struct object change[] = {
        {&section_rcpt_access, "In/new.example", ""}
    };
    struct config *cfg = config_of(access_config(table_access), change, 1);
    struct access *now = access_new(cfg, table_access);
    struct slice in = slice_of("<a@new.example>");
    struct smtp_path to;
    struct smtp_refusal why;
    struct access_match before, after;
    struct addr a = ip("192.0.2.7");

    (void)unused;
    config_free(&cfg);
    assert_true(smtp_parse_path(&in, &to, &why));
    assert_true(access_rcpt(access_table(now, "In"), &to));
    assert_false(access_rcpt(access_table(table_access, "In"), &to));
    access_sender(access_table(table_access, "In"), &a, "", &before);
    access_sender(access_table(now, "In"), &a, "", &after);
    assert_ptr_equal(before.flow, after.flow);
    access_free(&now);
}

static bool takes(const struct access *a, const char *address)
{
    AUTO(buf) struct buf b = BUF_INIT(300);
    struct slice in;
    struct smtp_path to;
    struct smtp_refusal why;

    buf_printf(&b, "<%s>", address);
    in = slice_of(buf_str(&b));
    assert_true(smtp_parse_path(&in, &to, &why));
    return access_rcpt(access_table(a, "In"), &to);
}

/* What an entry says beyond yes and no outlives the table it came from. */
static void test_rules_of_recipients(void **unused)
{
    static const struct object special[] = {
        {&section_rcpt_access, "In/gone.example",     "action=reject|code=551|text=They moved"},
        {&section_rcpt_access, "In/free.example",     "bypass=yes"                           },
        {&section_rcpt_access, "In/boss@one.example", "action=reject|text=Write to office"   }
    };
    static const struct object more[] = {
        {&section_rcpt_access, "In/plain.example", ""                       },
        {&section_rcpt_access, "In/free.example",  "bypass=yes|action=reject"}
    };
    struct config *cfg = config_of(access_config(table_access), special, countof(special)), *next;
    struct access *now = access_new(cfg, table_access), *later;
    struct slice in[3] = {slice_of("<x@gone.example>"), slice_of("<x@free.example>"),
                          slice_of("<boss@one.example>")};
    struct smtp_path to[3];
    struct smtp_refusal why;
    struct access_rcpt rule;

    (void)unused;
    for (size_t i = 0; i < 3; i++)
        assert_true(smtp_parse_path(&in[i], &to[i], &why));
    next = config_of(cfg, more, countof(more));
    later = access_new(next, now);
    config_free(&cfg);
    access_rcpt_rule(access_table(now, "In"), &to[1], &rule);
    assert_true(rule.accept && rule.bypass);
    access_free(&now);
    access_rcpt_rule(access_table(later, "In"), &to[0], &rule);
    assert_true(!rule.accept && !rule.bypass && rule.code == 551);
    assert_string_equal(rule.text, "They moved");
    access_rcpt_rule(access_table(later, "In"), &to[1], &rule);
    assert_true(!rule.accept && rule.bypass && !rule.code);
    access_rcpt_rule(access_table(later, "In"), &to[2], &rule);
    assert_true(!rule.accept);
    assert_string_equal(rule.text, "Write to office");
    config_free(&next);
    access_free(&later);
}

/* Tables made of a change upon a change upon a change say what tables made afresh say. */
static void test_changes_upon_changes(void **unused)
{
    static const char *const names[] = {"In/one.example", "In/.one.example", "In/joe@two.example",
                                        "In/two.example", "In/postmaster@",  "In/three.example"};
    static const char *const asked[] = {"a@one.example",
                                        "a@x.one.example",
                                        "joe@two.example",
                                        "a@two.example",
                                        "postmaster@one.example",
                                        "postmaster@two.example",
                                        "postmaster@three.example",
                                        "a@three.example"};
    struct config *cfg = config_ref(access_config(table_access));
    struct access *now = access_ref(table_access);
    unsigned taken = 0;

    (void)unused;
    srand(5);
    for (unsigned round = 0; round < 2000; round++) {
        const char *name = names[(size_t)rand() % countof(names)];
        struct object o = {&section_rcpt_access, name, rand() % 3 ? "" : "action=reject"};
        struct config_edit removal = {&section_rcpt_access, name, NULL};
        bool there = config_row(cfg, &section_rcpt_access, name);
        struct config *next =
            there && rand() % 2 ? config_edit(cfg, &removal, 1, round + 2) : config_of(cfg, &o, 1);
        struct access *changed = access_new(next, now), *fresh = access_new(next, NULL);

        for (size_t i = 0; i < countof(asked); i++) {
            if (takes(changed, asked[i]) != takes(fresh, asked[i]))
                fail_msg("round %u: %s", round, asked[i]);
            taken += takes(fresh, asked[i]);
        }
        access_free(&fresh);
        access_free(&now);
        config_free(&cfg);
        now = changed;
        cfg = next;
    }
    assert_true(taken > 1000);
    access_free(&now);
    config_free(&cfg);
}

/* One address written in two ways: taking one away leaves the other. */
static void test_aliases(void **unused)
{
    static const struct object both[] = {
        {&section_rcpt_access, "In/Three.Example", ""},
        {&section_rcpt_access, "In/three.example", ""}
    };
    struct config_edit removal = {&section_rcpt_access, "In/three.example", NULL};
    struct config *two = config_of(access_config(table_access), both, 2),
                  *one = config_edit(two, &removal, 1, 3);
    struct access *a = access_new(two, table_access), *b = access_new(one, a);

    (void)unused;
    assert_true(takes(a, "x@three.example"));
    assert_true(takes(b, "x@three.example"));
    access_free(&a);
    access_free(&b);
    config_free(&one);
    config_free(&two);
}

/* A search of the intervals against a plain walk over random, overlapping ranges. */
static void test_intervals_against_a_walk(void **unused)
{
    AUTO(buf) struct buf values = BUF_INIT(1 << 20);
    const struct sender_group *g;
    struct object objects[] = {
        {&section_listener,     "L",   "default_behavior=reject"},
        {&section_mail_policy,  "L/A", "behavior=accept"        },
        {&section_sender_group, "L/G", NULL                     },
    };
    struct config *cfg;
    struct access *access;

    (void)unused;
    srand(7);
    buf_str_add(&values, "policy=A|hosts=");
    for (size_t i = 0; i < 300; i++) {
        unsigned c = (unsigned)rand() % 8, lo = (unsigned)rand() % 256,
                 hi = lo + (unsigned)rand() % (256 - lo);
        char text[64];

        snprintf(text, sizeof(text), rand() % 4 ? "10.0.%u.%u-%u" : "10.0.%u.0/24", c, lo, hi);
        buf_printf(&values, "%s%s", i ? ", " : "", text);
    }
    objects[2].values = buf_str(&values);
    cfg = config_of(NULL, objects, countof(objects));
    g = CONFIG_GET(cfg, sender_group, "L/G");
    access = access_new(cfg, NULL);
    for (unsigned c = 0; c < 9; c++) {
        for (unsigned d = 0; d < 256; d++) {
            struct addr a = {
                .family = AF_INET, .ip = {10, 0, (unsigned char)c, (unsigned char)d}
            };
            const char *want = "ALL";
            struct access_match m;

            for (size_t i = 0; i < g->hosts.n && want[0] == 'A'; i++) {
                struct net net;

                assert_true(net_parse(g->hosts.items[i], &net, NULL));
                if (net_has(&net, &a))
                    want = g->hosts.items[i];
            }
            access_sender(access_table(access, "L"), &a, "", &m);
            assert_string_equal(m.entry, want);
        }
    }
    access_free(&access);
    config_free(&cfg);
}

/* Tables that lean on earlier ones give the answers of tables made afresh, whatever came and went before. */
static void test_senders_come_and_go(void **unused)
{
    static const char *const hosts[] = {
        "10.0.0.0/8",    "10.1.0.0/16", "10.1.2.3",  "10.1.2.0-9",        "10.1.",          "0.0.0.0/0",
        "255.255.255.255", "0.0.0.0",   "2001:db8::/32", "2001:db8::1",   "::/0",           "a.example.com",
        ".example.com",  ".com",        "ALL",       "10.255.255.255",    "11.0.0.0",       "fe80::/10"};
    static const char *const ips[] = {"10.1.2.3",  "10.1.2.4", "10.1.2.10",     "10.1.9.9",       "10.9.9.9",
                                      "11.0.0.0",  "9.9.9.9",  "0.0.0.0",       "255.255.255.255", "10.255.255.255",
                                      "2001:db8::1", "2001:db8::2", "2001:db9::", "fe80::1",       "::"};
    static const char *const names[] = {"", "a.example.com", "b.example.com", "other.com", "x.net"};
    static const struct object start[] = {
        {&section_listener,     "L",      "default_behavior=reject"                    },
        {&section_mail_policy,  "L/A",    "behavior=accept"                            },
        {&section_mail_policy,  "L/B",    "behavior=reject"                            },
        {&section_mail_policy,  "L/C",    "behavior=continue"                          },
        {&section_sender_group, "L/G2",   "position=1|policy=A|hosts=10.1.2.3"         },
        {&section_sender_group, "L/G1",   "position=2|policy=B|hosts=10.0.0.0/8, .com" },
        {&section_sender_group, "L/G3",   "position=3|policy=C|hosts=10.1.2.0-9"       },
        {&section_sender_group, "L/G4",   "position=4|policy=A"                        },
        {&section_sender_group, "L/ALL",  "position=1000000000|policy=B|hosts=ALL"     }
    };
    static const char *const groups[] = {"L/G1", "L/G2", "L/G3", "L/G4"};
    struct config *cfg = config_of(NULL, start, countof(start));
    struct access *now = access_new(cfg, NULL);

    (void)unused;
    srand(7);
    for (unsigned round = 0; round < 1500; round++) {
        const char *group = groups[(size_t)rand() % countof(groups)];
        struct row *r = row_copy(config_row(cfg, &section_sender_group, group));
        struct strlist *list = &((struct sender_group *)r->data)->hosts, changed = {0};
        struct config_edit edit = {&section_sender_group, group, r};
        struct access *lean, *fresh;
        struct config *next;

        for (unsigned k = 0; k < 1 + (unsigned)rand() % 3; k++) { /* each host in or out */
            const char *host = hosts[(size_t)rand() % countof(hosts)];
            size_t at = (size_t)rand() % (list->n + 1);
            bool there = strlist_has(list, host);

            for (size_t i = 0; i <= list->n; i++) {
                if (i == at && !there)
                    strlist_add(&changed, host);
                if (i < list->n && !str_eq(list->items[i], host))
                    strlist_add(&changed, list->items[i]);
            }
            strlist_free(list);
            *list = changed;
            changed = (struct strlist){0};
        }
        row_freeze(r);
        next = config_edit(cfg, &edit, 1, 2);
        row_free(&r);
        lean = access_new(next, now);
        fresh = access_new(next, NULL);
        for (size_t i = 0; i < countof(ips); i++) {
            for (size_t k = 0; k < countof(names); k++) {
                const struct access_table *a = access_table(lean, "L"), *b = access_table(fresh, "L");
                struct addr address = ip(ips[i]);
                struct access_match x, y, nameless;

                access_sender(a, &address, names[k], &x);
                access_sender(b, &address, names[k], &y);
                access_sender(b, &address, "", &nameless);
                if (!str_eq(x.group, y.group) || !str_eq(x.policy, y.policy) ||
                    (!str_eq(y.group, nameless.group) && !access_needs_name(a, &address)))
                    fail_msg("round %u: %s %s: %s %s, not %s %s", round, ips[i], names[k], x.group, x.entry,
                             y.group, y.entry);
            }
        }
        access_free(&now);
        access_free(&fresh);
        config_free(&cfg);
        now = lean;
        cfg = next;
    }
    access_free(&now);
    config_free(&cfg);
}

static double nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* 100,000 senders and 100,000 recipients; the time is told, and bounded loosely enough for any
 * machine and sanitizer. */
#ifdef POSTERN_SANITIZED
#define SLOWER 20
#else
#define SLOWER 1
#endif

static void test_large_tables(void **unused)
{
    enum { N = 100000, GROUPS = 50, ASKED = 200000 };
    struct object *objects = xcalloc(N + GROUPS + 2, sizeof(*objects));
    struct config *cfg;
    struct access *access;
    const struct access_table *t;
    double began;
    unsigned found = 0;

    (void)unused;
    for (unsigned g = 0; g < GROUPS; g++) {
        AUTO(buf) struct buf hosts = BUF_INIT(1 << 20);

        buf_printf(&hosts, "position=%u|policy=A|hosts=", g + 1);
        for (unsigned i = g * (N / GROUPS); i < (g + 1) * (N / GROUPS); i++)
            buf_printf(&hosts, "%u.%u.%u.0/24,", 11 + i / 65536, i / 256 % 256, i % 256);
        objects[N + 2 + g] =
            (struct object){&section_sender_group, xasprintf("L/G%u", g), buf_take(&hosts)};
    }
    for (unsigned i = 0; i < N; i++)
        objects[i] = (struct object){&section_rcpt_access, xasprintf("L/domain%u.example", i), ""};
    objects[N] = (struct object){&section_listener, "L", "default_behavior=reject"};
    objects[N + 1] = (struct object){&section_mail_policy, "L/A", "behavior=accept"};
    cfg = config_of(NULL, objects, N + GROUPS + 2);
    began = nanoseconds();
    access = access_new(cfg, NULL);
    print_message("compiled %u + %u entries in %.1f ms\n", N, N, (nanoseconds() - began) / 1e6);
    {
        static const struct object change[] = {
            {&section_rcpt_access, "L/new.example", ""}
        };
        struct config *changed = config_of(cfg, change, 1);
        struct access *now;

        began = nanoseconds();
        now = access_new(changed, access);
        print_message("one recipient more: %.1f ms\n", (nanoseconds() - began) / 1e6);
        access_free(&now);
        config_free(&changed);
    }
    t = access_table(access, "L");
    began = nanoseconds();
    for (unsigned i = 0; i < ASKED; i++) {
        unsigned n = i * 7919u % N;
        struct addr a = {
            .family = AF_INET,
            .ip = {(unsigned char)(11 + n / 65536), (unsigned char)(n / 256), (unsigned char)n, 1}
        };
        struct access_match m;

        access_sender(t, &a, "", &m);
        found += m.flow->behavior == BEHAVIOR_ACCEPT;
    }
    print_message("a sender: %.0f ns\n", (nanoseconds() - began) / ASKED);
    assert_true((nanoseconds() - began) / ASKED < 20000 * SLOWER);
    assert_int_equal(found, ASKED);
    began = nanoseconds();
    for (unsigned i = 0; i < ASKED; i++) {
        struct smtp_path to = {.local_len = 4};

        snprintf(to.address, sizeof(to.address), "user@domain%u.example", i * 7919u % (2 * N));
        found -= access_rcpt(t, &to);
    }
    print_message("a recipient, printed first: %.0f ns\n", (nanoseconds() - began) / ASKED);
    assert_true((nanoseconds() - began) / ASKED < 20000 * SLOWER);
    assert_int_equal(found, ASKED / 2);
    access_free(&access);
    config_free(&cfg);
    for (unsigned i = 0; i < N + 2 + GROUPS; i++) {
        if (i == N || i == N + 1)
            continue;
        free((void *)(uintptr_t)objects[i].name);
        if (i > N)
            free((void *)(uintptr_t)objects[i].values);
    }
    free(objects);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_senders),
        cmocka_unit_test(test_flows),
        cmocka_unit_test(test_continue_at_the_end),
        cmocka_unit_test(test_all_and_no_names),
        cmocka_unit_test(test_never_an_open_relay),
        cmocka_unit_test(test_change_shares_the_rest),
        cmocka_unit_test(test_rules_of_recipients),
        cmocka_unit_test(test_changes_upon_changes),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_intervals_against_a_walk),
        cmocka_unit_test(test_senders_come_and_go),
        cmocka_unit_test(test_large_tables),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
