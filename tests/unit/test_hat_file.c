/* test_hat_file.c - host and recipient access tables as files: another system's file, ours out and in again, what is refused
 * and where, a hundred thousand entries. */
#include "store/hat_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/str.h"
#include "store/factory.h"
#include "store/rat_file.h"
#include "tests/unit/cm.h"

static struct config *base;

static int set_up(void **state)
{
    static const struct factory f = {.hostname = "gw.example", .demo_cert = "", .demo_key = ""};

    (void)state;
    base = factory_config(&f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_free(&base);
    return 0;
}

static struct config *import_over(const struct config *cfg, const char *listener, const char *text, size_t n,
                                  struct hat_facts *facts, struct err *err)
{
    struct config_edits e = {0};
    struct config *made = NULL;

    if (hat_file_import(text, n, cfg, listener, &e, facts, err))
        made = config_edit(cfg, e.items, e.n, 2);
    config_edits_free(&e);
    return made;
}

static char *exported(const struct config *cfg, const char *listener)
{
    struct buf out = BUF_INIT(HAT_FILE_MAX);

    hat_file_export(cfg, listener, &out);
    return buf_take(&out);
}

/* As an appliance wrote it. */
static const char appliance[] =
    "# File exported by the CLI at 20260530T220526\r\n"
    "$ACCEPTED\r\n"
    "    ACCEPT {}\r\n"
    "$THROTTLED\n"
    "    ACCEPT {\n"
    "        spam_check = \"on\"\n"
    "        max_msgs_per_session = 10\n"
    "        max_concurrency = 10\n"
    "        max_rcpts_per_msg = 25\n"
    "        max_rcpts_per_hour = 1\n"
    "        max_rcpts_per_hour_code = 451\n"
    "        max_rcpts_per_hour_text = \"Slow \\\"down\\\" {please}\"\n"
    "        dhap_limit = 0\n"
    "        virus_check = \"on\"\n"
    "        max_message_size = 1048576\n"
    "        use_sb = \"on\"\n"
    "        tls = \"on\"\n"
    "    }\n"
    "$TRUSTED\n"
    "    ACCEPT { max_concurrency = 600 max_message_size = 100M\n"
    "        max_rcpts_per_hour = -1 # none\n"
    "        dkim_verification = \"on\" tls = \"require_verify\" }\n"
    "$BLOCKED\n"
    "    REJECT {\n"
    "        smtp_banner_code = 550\n"
    "        smtp_banner_text = \"Go away, $RemoteIP\"\n"
    "    }\n"
    "\n"
    "WHITELIST:\n"
    "    192.0.2.1, 192.0.2.2\n"
    "    192.0.2.1\n"
    "    2001:db8::/32\n"
    "    partner.example (our best)\n"
    "        $TRUSTED (My trusted senders (all of them) have no rate limiting)\n"
    "BLACKLIST:\n"
    "    SBRS[-10.0:-3.0]\n"
    "    dnslist[query.blacklist.example]\n"
    "    nx.domain\n"
    "    203.0.113.\n"
    "        $BLOCKED (Spammers are rejected)\n"
    "Suspects & others:\n"
    "    198.51.100.10-20\n"
    "        $THROTTLED\n"
    "spamdomain.example\n"
    "    REJECT (reject the domain)\n"
    ".spamdomain.example\n"
    "    REJECT (reject the domain)\n"
    "251.192.1.\n"
    "    TCPREFUSE (TCPREFUSE the IP addresses in \"251.192.1\")\n"
    "169.254.10.10\n"
    "    RELAY\n"
    "big.example\n"
    "    ACCEPT { max_message_size = 200M }\n"
    "2001:db8::1\n"
    "    CONTINUE\n"
    "ALL\n"
    "    $ACCEPTED (Everyone else)\n";

/* The same as we write it. */
static const char ours[] =
    "# File exported by the CLI: host access table of InboundMail\n"
    "$ACCEPTED\n"
    "    ACCEPT\n"
    "$BLOCKED\n"
    "    REJECT {\n"
    "        smtp_banner_code = 550\n"
    "        smtp_banner_text = \"Go away, $RemoteIP\"\n"
    "    }\n"
    "$BLOCKED_2\n"
    "    REJECT\n"
    "$CONTINUE\n"
    "    CONTINUE\n"
    "$HOSTS_4\n"
    "    ACCEPT {\n"
    "        max_message_size = 209715200\n"
    "    }\n"
    "$RELAYED\n"
    "    RELAY\n"
    "$TCPREFUSED\n"
    "    TCPREFUSE\n"
    "$THROTTLED\n"
    "    ACCEPT {\n"
    "        max_msgs_per_session = 10\n"
    "        max_concurrency = 10\n"
    "        max_rcpts_per_msg = 25\n"
    "        max_rcpts_per_hour = 1\n"
    "        max_rcpts_per_hour_code = 451\n"
    "        max_rcpts_per_hour_text = \"Slow \\\"down\\\" {please}\"\n"
    "        dhap_limit = 0\n"
    "        max_message_size = 1048576\n"
    "        tls = \"on\"\n"
    "    }\n"
    "$TRUSTED\n"
    "    ACCEPT {\n"
    "        max_concurrency = 600\n"
    "        max_rcpts_per_hour = -1\n"
    "        max_message_size = 104857600\n"
    "        tls = \"required\"\n"
    "        verify_client = \"on\"\n"
    "    }\n"
    "WHITELIST:\n"
    "    192.0.2.1\n"
    "    192.0.2.2\n"
    "    2001:db8::/32\n"
    "    partner.example\n"
    "        $TRUSTED (My trusted senders (all of them) have no rate limiting)\n"
    "BLACKLIST:\n"
    "    203.0.113.\n"
    "        $BLOCKED (Spammers are rejected)\n"
    "Suspects___others:\n"
    "    198.51.100.10-20\n"
    "        $THROTTLED\n"
    "HOSTS_1:\n"
    "    spamdomain.example\n"
    "    .spamdomain.example\n"
    "        $BLOCKED_2 (reject the domain)\n"
    "HOSTS_2:\n"
    "    251.192.1.\n"
    "        $TCPREFUSED (TCPREFUSE the IP addresses in \"251.192.1\")\n"
    "HOSTS_3:\n"
    "    169.254.10.10\n"
    "        $RELAYED\n"
    "HOSTS_4:\n"
    "    big.example\n"
    "        $HOSTS_4\n"
    "HOSTS_5:\n"
    "    2001:db8::1\n"
    "        $CONTINUE\n"
    "ALL\n"
    "    $ACCEPTED (Everyone else)\n";

static void appliance_file(void **state)
{
    struct hat_facts facts = {0}, again = {0};
    struct err err = {0};
    struct config *cfg = import_over(base, "InboundMail", appliance, sizeof(appliance) - 1, &facts, &err), *second;
    const struct mail_policy *p;
    AUTO(str) char *text = NULL, *other = NULL, *twice = NULL;

    (void)state;
    if (!cfg)
        fail_msg("%s", err.text);
    text = exported(cfg, "InboundMail");
    assert_string_equal(text, ours);
    assert_int_equal(facts.policies, 4);
    assert_int_equal(facts.groups, 8);
    assert_int_equal(facts.hosts, 12);
    assert_int_equal(facts.remarks.n, 4);
    assert_string_equal(facts.remarks.items[0],
                        "Left out, for this gateway has nothing of the kind: 4 parameters and 3 senders (spam_check, "
                        "virus_check, use_sb, dkim_verification, SBRS, dnslist, nx.domain).");
    assert_string_equal(facts.remarks.items[1], "Left out: comments of 1 single hosts; a group has one.");
    p = CONFIG_GET(cfg, mail_policy, "InboundMail/BLOCKED");
    assert_true(p->reject_code == 550 && p->accept_code == 0);
    p = CONFIG_GET(cfg, mail_policy, "InboundMail/THROTTLED");
    assert_true(p->tls == POLICY_TLS_PREFERRED && p->dhap_limit == 1000000);
    /* the other listener is as it was */
    other = exported(base, "OutboundMail");
    twice = exported(cfg, "OutboundMail");
    assert_string_equal(other, twice);
    /* our file comes to the same */
    second = import_over(cfg, "InboundMail", text, strlen(text), &again, &err);
    if (!second)
        fail_msg("%s", err.text);
    free(twice);
    twice = exported(second, "InboundMail");
    assert_string_equal(twice, text);
    assert_int_equal(again.remarks.n, 0);
    assert_memory_equal(config_hash(cfg), config_hash(second), 32);
    strlist_free(&facts.remarks);
    strlist_free(&again.remarks);
    config_free(&cfg);
    config_free(&second);
}

/* What the factory made comes back as it was, the listener's own rule for all others too. */
static void factory_tables(void **state)
{
    static const char *const listeners[] = {"InboundMail", "OutboundMail"};

    (void)state;
    for (size_t i = 0; i < countof(listeners); i++) {
        AUTO(str) char *text = exported(base, listeners[i]);
        struct hat_facts facts = {0};
        struct err err = {0};
        struct config *cfg = import_over(base, listeners[i], text, strlen(text), &facts, &err);

        if (!cfg)
            fail_msg("%s", err.text);
        assert_memory_equal(config_hash(cfg), config_hash(base), 32);
        assert_int_equal(facts.remarks.n, 0);
        config_free(&cfg);
    }
}

/* Every parameter there is survives. */
static void all_parameters(void **state)
{
    static const char *const values[] = {
        "behavior=accept|max_message_size=5M|max_concurrency=1|max_msgs_per_session=2|max_rcpts_per_msg=3|"
        "max_rcpts_per_hour=4|tls=preferred|verify_client=off|auth=required|auth_needs_tls=off|"
        "tls_senders=a@b.example, .c.example|banner_host=x.example|accept_code=221|accept_text=Hi \"there\"\\|"
        "reject_code=499|reject_text=no|limit_code=450|limit_text=stop|max_rcpts_per_sender=6|sender_minutes=7|"
        "dhap_limit=8|dhap_action=code|dhap_code=551|dhap_text=} {|line_endings=clean|untagged_bounces=on",
        "behavior=reject|accept_code=221|accept_text=in|reject_code=451|reject_text=out|max_rcpts_per_sender=unlimited",
        "behavior=relay|tls=required|auth=preferred|max_rcpts_per_hour=unlimited|dhap_limit=unlimited",
        "behavior=tcprefuse|tls=off",
        "behavior=continue",
    };
    struct config_edits e = {0};
    struct config *cfg, *again, *with;
    struct hat_facts facts = {0};
    struct row *listener;
    struct err err = {0};
    char *text;

    (void)state;
    for (size_t i = 0; i < countof(values); i++) {
        char name[40];
        struct row *r;
        AUTO(strlist) struct strlist list = {0};

        snprintf(name, sizeof(name), "InboundMail/P%zu", i);
        r = row_new(&section_mail_policy, name);
        strlist_split(&list, values[i], '|');
        for (size_t k = 0; k < list.n; k++) {
            char *equals = strchr(list.items[k], '=');

            *equals = '\0';
            if (!row_set(r, list.items[k], equals + 1, &err))
                fail_msg("%s: %s", list.items[k], err.text);
        }
        for (size_t k = 0; i == 0 && k < r->section->nfields; k++) { /* none is forgotten here */
            const struct field *f = &r->section->fields[k];
            struct row *fresh = row_new(r->section, NULL);

            if (!str_eq(f->name, "behavior") && f->type->equal(row_slot(r, f), row_slot(fresh, f)))
                fail_msg("set %s in this test", f->name);
            row_free(&fresh);
        }
        row_freeze(r);
        config_edits_put(&e, &section_mail_policy, name, r);
    }
    listener = row_copy(config_row(base, &section_listener, "InboundMail"));
    row_set(listener, "smtp_auth", "profile", NULL); /* or nobody could authenticate */
    row_freeze(listener);
    with = config_edit(base, &(struct config_edit){&section_listener, "InboundMail", listener}, 1, 2);
    row_free(&listener);
    cfg = config_edit(with, e.items, e.n, 3);
    text = exported(cfg, "InboundMail");
    again = import_over(with, "InboundMail", text, strlen(text), &facts, &err);
    if (!again)
        fail_msg("%s\n%s", err.text, text);
    assert_memory_equal(config_hash(cfg), config_hash(again), 32);
    free(text);
    config_edits_free(&e);
    config_free(&cfg);
    config_free(&with);
    config_free(&again);
}

static void refusals(void **state)
{
    static const struct {
        const char *text, *error, *listener;
    } cases[] = {
        {"",                                             "The file has no entry",                                           NULL},
        {"# nothing\n\n",                                "The file has no entry",                                           NULL},
        {"  ACCEPT\n",                                   "line 1: This line belongs to nothing",                            NULL},
        {"$\n    ACCEPT\n",                              "line 1, $: The policy has no name",                               NULL},
        {"$P\n",                                         "line 2, $P: There is no rule below it",                           NULL},
        {"$P\n$Q\n    ACCEPT\n",                         "line 2, $P: There is no rule below it",                           NULL},
        {"$P\n    MAYBE\n",                              "line 2, $P: This is no rule",                                     NULL},
        {"$P\n    $Q\n",                                 "line 2, $P: A policy cannot be another one",                      NULL},
        {"REJECT    $BLOCKED\n",                        "line 1, REJECT: REJECT is a rule",                                NULL},
        {"$P x\n    ACCEPT\n",                           "line 1, $P: The name of an entry stands alone",                   NULL},
        {"$P\n    ACCEPT\n$P\n    REJECT\n",             "line 3, $P: The policy stands twice",                             NULL},
        {"$P\n    ACCEPT {\n        tls = \"on\"\n",     "line 4, $P: The closing brace",                                   NULL},
        {"$P\n    ACCEPT {\n        tls\n    }\n",       "line 3, $P, tls: There is no \"= value\"",                        NULL},
        {"$P\n    ACCEPT {\n        tls = }\n",          "line 3, $P, tls: There is no value",                              NULL},
        {"$P\n    ACCEPT {\n        tls = \"on\n    }\n", "line 3, $P, tls: The closing quotation mark",                    NULL},
        {"$P\n    ACCEPT {\n        = 5\n    }\n",       "line 3, $P: A parameter is written",                              NULL},
        {"$P\n    ACCEPT {\n        color = 5\n    }\n", "line 3, $P, color: There is no such parameter; correct its name, or remove the line.", NULL},
        {"$P\n    ACCEPT {\n\n        tls = maybe\n    }\n", "line 4, $P, tls: ",                                           NULL},
        {"$P\n    ACCEPT {\n        max_concurrency = many\n    }\n", "line 3, $P, max_concurrency: The value must be an integer", NULL},
        {"$P\n    ACCEPT {\n        max_concurrency = -1\n    }\n", "line 3, $P, max_concurrency: ",                        NULL},
        {"$P\n    ACCEPT {\n        max_rcpts_per_hour = 0\n    }\n", "line 3, $P, max_rcpts_per_hour: 0 is no limit; write a greater number, -1 for none", NULL},
        {"$P\n    ACCEPT {\n        max_message_size = 10G\n    }\n", "line 3, $P, max_message_size: ",                     NULL},
        {"$P\n    ACCEPT {\n        max_rcpts_per_hour_code = 250\n    }\n", "$P, limit_code: 250 is no code of such a reply", NULL},
        {"$P\n    ACCEPT {} x\n",                        "line 2, $P: \"x\" does not belong here",                          NULL},
        {"$P\n    ACCEPT (x) y\n",                       "does not belong here",                                            NULL},
        {":\n    1.2.3.4\n        ACCEPT\n",             "line 1, :: The sender group has no name",                         NULL},
        {"G:\n    1.2.3.4\n",                            "line 3, G:: There is no rule below it",                           NULL},
        {"G:\n    1.2.3.4.5\n        ACCEPT\n",          "line 2, G:: ",                                                    NULL},
        {"G:\n    10.0.0.0/33\n        ACCEPT\n",        "line 2, G:: ",                                                    NULL},
        {"G:\n    1.2.3.4, a b\n        ACCEPT\n",       "line 2, G:: ",                                                    NULL},
        {"G:\n        $NOPE\n",                          "line 1, G: There is no policy $NOPE; define it in the file.",     NULL},
        {"G:\n        $P { tls = \"on\" }\n",            "line 2, G:: Parameters follow a rule",                            NULL},
        {"G:\n        ACCEPT\nG:\n        REJECT\n",     "line 3, G:: The sender group stands twice",                       NULL},
        {"!!\n    ACCEPT\n",                             "line 1, !!: !! is not a host",                                    NULL},
        {"ALL\n    RELAY\n",                             "line 2, ALL: Relaying for all senders makes an open relay",       NULL},
        {"ALL\n    CONTINUE\n",                          "line 2, ALL: Nothing is left",                                    NULL},
        {"ALL\n    ACCEPT\n1.2.3.4\n    REJECT\n",       "line 3, ALL: Nothing may follow ALL",                             NULL},
        {"ALL:\n    ALL\n        REJECT\nALL\n    TCPREFUSE\n", "line 4, ALL: A sender group is named ALL already",         NULL},
        {"$R\n    RELAY\nALL\n    $R\n",                 "line 3, ALL, hosts: Policy R relays, so \"ALL\" makes an open relay", NULL},
        {"$R\n    RELAY\nG:\n    0.0.0.0/0\n    ::/0\n        $R\n", "line 3, G, hosts: Policy R relays",                   NULL},
        {"0.0.0.0/1\n    RELAY\n",                       "line 1, HOSTS_1, hosts: Policy RELAYED relays",                   NULL},
        {"$A\n    ACCEPT\nALL\n    $A\n",                "line 3, ALL, hosts: ",                                            "OutboundMail"},
        {"ALL\n    ACCEPT\n",                            "ALL, hosts: ",                                                    "OutboundMail"},
        {"ALL\n    REJECT\n",                            "There is no listener \"Nowhere\"",                                "Nowhere"},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct hat_facts facts = {0};
        struct err err = {0};
        struct config *cfg = import_over(base, cases[i].listener ? cases[i].listener : "InboundMail", cases[i].text,
                                         strlen(cases[i].text), &facts, &err);

        if (cfg || !strstr(err.text, cases[i].error))
            fail_msg("%s\n--- is %s\n--- not %s", cases[i].text, cfg ? "accepted" : err.text, cases[i].error);
        strlist_free(&facts.remarks);
    }
}

/* Policies the file does not define, IPv6 addresses that end like the name of a group, odd spellings. */
static void accepted(void **state)
{
    static const char text[] = "2001:db8::\n REJECT\n1.2.3.4 REJECT\nfe80::: \n\t5.6.7.8\n\t\taccept (x)\n"
                               "G:\n        $TRUSTED\n";
    struct hat_facts facts = {0};
    struct err err = {0};
    struct config *cfg = import_over(base, "InboundMail", text, sizeof(text) - 1, &facts, &err);
    AUTO(str) char *got = NULL;

    (void)state;
    if (!cfg)
        fail_msg("%s", err.text);
    got = exported(cfg, "InboundMail");
    assert_string_equal(got, "# File exported by the CLI: host access table of InboundMail\n"
                             "$ACCEPTED\n    ACCEPT\n$BLOCKED\n    REJECT\n"
                             "$TRUSTED\n    ACCEPT {\n        max_msgs_per_session = 5000\n        max_concurrency = 600\n"
                             "        max_rcpts_per_msg = 5000\n        dhap_limit = 0\n        max_message_size = 104857600\n    }\n"
                             "HOSTS_1:\n    2001:db8::\n    1.2.3.4\n        $BLOCKED\n"
                             "fe80__:\n    5.6.7.8\n        $ACCEPTED (x)\n"
                             "G:\n        $TRUSTED\n"
                             "ALL\n    ACCEPT\n");
    strlist_free(&facts.remarks);
    config_free(&cfg);
}

/* --- recipients ------------------------------------------------------------------------------- */

static struct config *rat_over(const struct config *cfg, const char *listener, const char *text, size_t n,
                               size_t *entries, struct strlist *remarks, struct err *err)
{
    struct config_edits e = {0};
    struct config *made = NULL;

    if (rat_file_import(text, n, cfg, listener, &e, entries, remarks, err))
        made = config_edit(cfg, e.items, e.n, 2);
    config_edits_free(&e);
    return made;
}

static void recipients(void **state)
{
    static const char text[] = "# File exported by the GUI at 20060530T220526\r\n"
                               "example.com ACCEPT\r\n"
                               "  .example.com \t accept # all below\n"
                               "example.com ACCEPT\n"
                               "postmaster@ ACCEPT (bypass_receiving_control, bypass_ldap)\n"
                               "joe@example.com REJECT (code = 551, text = \"They \\\"moved\\\" (far)\")\n"
                               "joe@[1.2.3.4] REJECT (text=no)\n"
                               "ALL REJECT\n";
    static const char want[] = "# File exported by the CLI: recipient access table of InboundMail\n"
                               ".example.com ACCEPT\n"
                               "example.com ACCEPT\n"
                               "joe@[1.2.3.4] REJECT (text = \"no\")\n"
                               "joe@example.com REJECT (code = 551, text = \"They \\\"moved\\\" (far)\")\n"
                               "postmaster@ ACCEPT (bypass_receiving_control)\n"
                               "ALL REJECT\n";
    static const char shorter[] = "other.example ACCEPT\nALL REJECT\n";
    AUTO(strlist) struct strlist remarks = {0};
    AUTO(buf) struct buf out = BUF_INIT(100000), twice = BUF_INIT(100000);
    size_t entries = 0;
    struct err err = {0};
    struct config *cfg = rat_over(base, "InboundMail", text, sizeof(text) - 1, &entries, &remarks, &err), *again;

    (void)state;
    if (!cfg)
        fail_msg("%s", err.text);
    rat_file_export(cfg, "InboundMail", &out);
    assert_string_equal(buf_str(&out), want);
    assert_int_equal(entries, 5);
    assert_int_equal(remarks.n, 1);
    again = rat_over(cfg, "InboundMail", buf_str(&out), out.n, &entries, &remarks, &err);
    assert_non_null(again);
    assert_memory_equal(config_hash(cfg), config_hash(again), 32);
    config_free(&again);
    again = rat_over(cfg, "InboundMail", shorter, sizeof(shorter) - 1, &entries, &remarks, &err);
    assert_non_null(again);
    rat_file_export(again, "InboundMail", &twice);
    assert_string_equal(buf_str(&twice), "# File exported by the CLI: recipient access table of InboundMail\n"
                                         "other.example ACCEPT\nALL REJECT\n");
    config_free(&again);
    config_free(&cfg);
}

static void refused_recipients(void **state)
{
    static const struct {
        const char *text, *error, *listener;
    } cases[] = {
        {"",                                              "The file has no entry",                                    NULL},
        {"ALL ACCEPT\n",                                  "line 1, ALL: To accept all recipients would make an open relay", NULL},
        {"example.com ACCEPT\nALL REJECT\na.example ACCEPT\n", "line 3, a.example: Nothing may follow ALL",           NULL},
        {"example.com\n",                                 "line 1, example.com: Behind the address stands ACCEPT or REJECT.", NULL},
        {"example.com RELAY\n",                           "line 1, example.com: Behind the address",                  NULL},
        {"\nexa_mple..com ACCEPT\n",                      "line 2, exa_mple..com: ",                 NULL},
        {"@ ACCEPT\n",                                    "line 1, @: The value must be",                             NULL},
        {"example.com ACCEPT REJECT\n",                   "line 1, example.com: \"REJECT\" does not belong here",     NULL},
        {"example.com REJECT (code = 250)\n",             "line 1, example.com, code: 250 is no code of a refusal",   NULL},
        {"example.com ACCEPT (code = 550)\n",             "line 1, example.com, code: 550 is no code for an accepted recipient", NULL},
        {"example.com REJECT (code = x)\n",               "line 1, example.com, code: ",                              NULL},
        {"example.com REJECT (code)\n",                   "line 1, example.com, code: There is no \"= value\"",       NULL},
        {"example.com REJECT (code =\n",                  "line 1, example.com, code: There is no value",             NULL},
        {"example.com REJECT (text = \"x\n",              "line 1, example.com, text: The closing quotation mark",    NULL},
        {"example.com REJECT (color = 1)\n",              "line 1, example.com, color: There is no such option",      NULL},
        {"example.com REJECT (code = 551\n",              "line 1, example.com: The closing parenthesis",             NULL},
        {"example.com REJECT (code = 551) x\n",           "line 1, example.com: Something follows",                   NULL},
        {"a.example REJECT\nA.Example ACCEPT\n",          "line 2, a.example: The address stands twice",              NULL},
        {"a.example ACCEPT\n",                            "Listener OutboundMail is private",                         "OutboundMail"},
        {"a.example ACCEPT\n",                            "There is no listener",                                     "Nowhere"},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        AUTO(strlist) struct strlist remarks = {0};
        struct err err = {0};
        size_t entries = 0;
        struct config *cfg = rat_over(base, cases[i].listener ? cases[i].listener : "InboundMail", cases[i].text,
                                      strlen(cases[i].text), &entries, &remarks, &err);

        if (cfg || !strstr(err.text, cases[i].error))
            fail_msg("%s\n--- is %s\n--- not %s", cases[i].text, cfg ? "accepted" : err.text, cases[i].error);
    }
}

/* --- many ------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void a_hundred_thousand(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(HAT_FILE_MAX), rat = BUF_INIT(RAT_FILE_MAX);
    AUTO(strlist) struct strlist remarks = {0};
    struct hat_facts facts = {0};
    struct err err = {0};
    struct config *cfg, *more;
    size_t entries;
    double began = seconds(), took;

    (void)state;
    buf_str_add(&text, "$SLOW\n    ACCEPT { max_concurrency = 1 }\nMANY:\n");
    for (unsigned i = 0; i < 50000; i++)
        buf_printf(&text, "    10.%u.%u.%u\n", i >> 16, i >> 8 & 255, i & 255);
    buf_str_add(&text, "        $SLOW\n");
    for (unsigned i = 0; i < 50000; i++) /* bare hosts with a rule, in pairs */
        buf_printf(&text, "h%u.example\n    REJECT (number %u)\n", i, i / 2);
    buf_str_add(&text, "ALL\n    REJECT\n");
    for (unsigned i = 0; i < 100000; i++)
        buf_printf(&rat, "user%u@example.com %s\n", i, i & 1 ? "REJECT (code = 551)" : "ACCEPT");
    buf_str_add(&rat, "ALL REJECT\n");
    cfg = import_over(base, "InboundMail", buf_str(&text), text.n, &facts, &err);
    if (!cfg)
        fail_msg("%s", err.text);
    assert_int_equal(facts.hosts, 100000);
    assert_int_equal(facts.groups, 25001);
    more = rat_over(cfg, "InboundMail", buf_str(&rat), rat.n, &entries, &remarks, &err);
    assert_non_null(more);
    assert_int_equal(entries, 100000);
    took = seconds() - began;
    print_message("100000 hosts and 100000 recipients read in %.2f s\n", took);
    assert_true(took < 200); /* a second; a sanitizer on a busy machine makes it many; what is quadratic takes hours */
    strlist_free(&facts.remarks);
    config_free(&cfg);
    config_free(&more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appliance_file), cmocka_unit_test(factory_tables),     cmocka_unit_test(all_parameters),
        cmocka_unit_test(refusals),       cmocka_unit_test(accepted),           cmocka_unit_test(recipients),
        cmocka_unit_test(refused_recipients), cmocka_unit_test(a_hundred_thousand),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
