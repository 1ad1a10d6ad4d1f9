/* dnsconfig.c - how names are resolved: servers, private zones, trust anchors. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- summary --- */

static bool say_server(void *arg, const struct row *r)
{
    const struct dns_server *s = r->data;
    struct {
        struct ui *ui;
        unsigned n;
    } *at = arg;

    ui_say(at->ui, "%u. Priority: %llu  %s", ++at->n, (unsigned long long)s->priority, s->address);
    return true;
}

static bool say_named(void *arg, const struct row *r)
{
    struct {
        struct ui *ui;
        unsigned n;
    } *at = arg;

    if (r->section == &section_dns_domain)
        ui_say(at->ui, "%u. %s: %s", ++at->n, r->name, row_text(r, "servers"));
    else if (r->section == &section_dns_anchor)
        ui_say(at->ui, "%u. %s", ++at->n, r->name);
    else
        ui_say(at->ui, "%u. %s until %s (%s)", ++at->n, r->name, row_text(r, "expires"),
               row_text(r, "reason"));
    return true;
}

static void say_all(struct ui *ui, struct session *s, const struct section *sec, const char *title)
{
    struct {
        struct ui *ui;
        unsigned n;
    } at = {ui, 0};

    if (!session_count(s, sec, NULL))
        return;
    ui_say(ui, "\n%s", title);
    session_each(s, sec, NULL, say_named, &at);
}

static void say_dns(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_dns_setup, "-");
    const struct dns_setup *d = r ? r->data : NULL;
    struct {
        struct ui *ui;
        unsigned n;
    } at = {ui, 0};

    (void)unused;
    if (!d)
        return;
    if (d->source == DNS_SOURCE_ROOT) {
        ui_say(ui, "Currently using the Internet root DNS servers.");
    } else if (d->source == DNS_SOURCE_OWN && session_count(s, &section_dns_server, NULL)) {
        ui_say(ui, "Currently using the local DNS cache servers:");
        session_each(s, &section_dns_server, NULL, say_server, &at);
    } else {
        ui_say(ui, "Currently using the DNS servers of the system.");
    }
    if (session_count(s, &section_dns_domain, NULL))
        say_all(ui, s, &section_dns_domain, "Alternate authoritative servers:");
    else
        ui_say(ui, "\nNo alternate authoritative servers configured.");
    say_all(ui, s, &section_dns_anchor, "Trust anchors:");
    say_all(ui, s, &section_dns_untrusted, "Not validated:");
    row_free(&r);
}

/* --- operations --- */

static const struct ui_choice new_kinds[] = {
    {"parent",   "Add a new local DNS cache server."                                },
    {"alt",      "Add an alternate domain server."                                  },
    {"anchor",   "Add a trust anchor for a private zone."                           },
    {"insecure", "Treat a domain as not signed for a while (negative trust anchor)."},
    {NULL,       NULL                                                               }
};
static const struct section *const kinds[] = {&section_dns_server, &section_dns_domain,
                                              &section_dns_anchor, &section_dns_untrusted};

static void dns_new(struct ui *ui, struct session *s, struct row *unused)
{
    int kind = ask_choice(ui, "kind",
                          "Do you want to add a new local DNS cache server or an alternate domain "
                          "server?",
                          new_kinds, -1);
    struct row *r;

    (void)unused;
    if (ui_failed(ui))
        return;
    r = session_new(s, kinds[kind], NULL);
    ask_all(ui, s, r);
    if (ui_failed(ui) || kind != 0)
        return;
    r = session_edit(s, &section_dns_setup, "-");
    if (r && !row_is(r, "source", "own")) { /* or it would not be asked */
        row_set(r, "source", "own", NULL);
        ui_say(ui, "The Gateway now uses your own DNS servers.");
    }
}

static bool has_any(struct session *s, const struct row *unused)
{
    (void)unused;
    for (size_t i = 0; i < countof(kinds); i++)
        if (session_count(s, kinds[i], NULL))
            return true;
    return false;
}

/* What is to be edited or deleted; the kinds of which there are any. NULL: aborted. */
static const struct section *ask_kind(struct ui *ui, struct session *s, const char *verb)
{
    static const char *const words[] = {"parent", "alt", "anchor", "insecure"},
                             *const nouns[] = {"A local DNS cache server.",
                                               "An alternate domain server.", "A trust anchor.",
                                               "A negative trust anchor."};
    struct ui_choice choices[countof(kinds) + 1] = {
        {NULL, NULL}
    };
    const struct section *there[countof(kinds)];
    char question[60];
    int n = 0, i;

    for (size_t k = 0; k < countof(kinds); k++)
        if (session_count(s, kinds[k], NULL)) {
            choices[n] = (struct ui_choice){words[k], nouns[k]};
            there[n++] = kinds[k];
        }
    choices[n] = (struct ui_choice){NULL, NULL};
    if (n == 1)
        return there[0];
    snprintf(question, sizeof(question), "What do you want to %s?", verb);
    i = ask_choice(ui, "kind", question, choices, -1);
    return ui_failed(ui) ? NULL : there[i];
}

static void dns_edit(struct ui *ui, struct session *s, struct row *unused)
{
    const struct section *sec = ask_kind(ui, s, "edit");
    struct row *r = sec ? ask_row(ui, s, sec, NULL, "edit") : NULL;

    (void)unused;
    if (r)
        ask_all(ui, s, r);
}

static void dns_delete(struct ui *ui, struct session *s, struct row *unused)
{
    const struct section *sec = ask_kind(ui, s, "delete");
    char *name = sec ? ask_name(ui, s, sec, NULL, "delete") : NULL;

    (void)unused;
    if (name && !ui_failed(ui))
        session_delete(s, sec, name);
    free(name);
}

/* Those who choose servers of their own are asked for them at once. */
static void ask_servers(struct ui *ui, struct session *s)
{
    AUTO(strlist) struct strlist addresses = {0};

    if (session_count(s, &section_dns_server, NULL))
        return;
    ask_items(ui, &section_dns_server, "address", "servers",
              "Please enter the IP address of your DNS server.\n"
              "Separate multiple IPs with commas.",
              NULL, &addresses);
    for (size_t i = 0; i < addresses.n && !ui_failed(ui); i++) {
        struct row *r = session_new(s, &section_dns_server, NULL);
        char question[256];

        snprintf(question, sizeof(question),
                 "Please enter the priority for %s.\n"
                 "A value of 0 has the highest priority.\n"
                 "The IP will be chosen at random if they have the same priority.",
                 addresses.items[i]);
        row_set(r, "address", addresses.items[i], NULL);
        if (!ui_failed(ui)) {
            char number[24];

            snprintf(number, sizeof(number), "%llu",
                     (unsigned long long)ask_number(ui, "priority", question, 0, 0, 99));
            row_set(r, "priority", number, NULL);
        }
    }
}

static void dns_setup(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const fields[] = {"validation", "reverse_timeout", "min_ttl"};
    struct row *r = session_edit(s, &section_dns_setup, "-");

    (void)unused;
    if (!r)
        return;
    ask_field(ui, s, r, "source");
    if (row_is(r, "source", "own"))
        ask_servers(ui, s);
    for (size_t i = 0; i < countof(fields); i++)
        ask_field(ui, s, r, fields[i]);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Add a new server.",           NULL, dns_new,    NULL   },
    {"EDIT",   "Edit a server.",              NULL, dns_edit,   has_any},
    {"DELETE", "Remove a server.",            NULL, dns_delete, has_any},
    {"SETUP",  "Configure general settings.", NULL, dns_setup,  NULL   },
};
static const struct menu main_menu = {say_dns, main_ops, countof(main_ops), &section_dns_server};

/* --- AsyncOS's words: "parent new ADDRESS PRIORITY", "alt new DOMAIN ADDRESS", "parent delete
 * ADDRESS ADDRESS" --- */

static void set_words(struct ui *ui, struct row *r, const char *key, const char *name,
                      const char *field)
{
    AUTO(buf) struct buf value = BUF_INIT(4000);
    struct err err = {0};

    for (const char *word; (word = ui_word(ui));)
        buf_printf(&value, "%s%s", value.n ? ", " : "", word);
    if (!row_set(r, key, name, &err) || !row_set(r, field, buf_str(&value), &err))
        ui_error(ui, &err);
}

/* "new NAME" alone: a person is asked for the rest. */
static void new_named(struct ui *ui, struct session *s, const struct section *sec)
{
    struct row *r = session_new(s, sec, NULL);
    struct err err = {0};

    if (!row_set(r, section_key(sec)->name, ui_word(ui), &err))
        ui_error(ui, &err);
    for (size_t i = 0; i < sec->nfields && !ui_failed(ui); i++)
        if (!sec->fields[i].key)
            ask_field(ui, s, r, sec->fields[i].name);
}

static bool positional(struct ui *ui, struct session *s)
{
    const char *kind = ui_peek(ui, 0), *verb = ui_peek(ui, 1), *name = ui_peek(ui, 2);
    const struct section *sec = NULL;

    for (size_t i = 0; kind && i < countof(kinds); i++)
        if (str_ieq(kind, new_kinds[i].word))
            sec = kinds[i];
    if (!sec || !verb)
        return false;
    if (str_ieq(verb, "print") && !name) {
        ui_word(ui);
        ui_word(ui);
        print_rows(ui, s, sec, NULL);
    } else if (str_ieq(verb, "new") && name) {
        ui_word(ui);
        ui_word(ui);
        if (!ui_peek(ui, 1) || sec == &section_dns_untrusted) {
            new_named(ui, s, sec);
        } else {
            name = ui_word(ui);
            set_words(ui, session_new(s, sec, NULL), section_key(sec)->name, name,
                      sec->fields[1].name);
        }
    } else if (str_ieq(verb, "delete") && name) {
        ui_word(ui);
        ui_word(ui);
        while ((name = ui_word(ui)) && !ui_failed(ui)) {
            if (!has_name(s, sec, NULL, name))
                ui_fail(ui, E_NOT_FOUND, "There is no %s \"%s\".", sec->noun, str_printable(name));
            else
                session_delete(s, sec, name);
        }
    } else {
        ui_fail(ui, E_USAGE, "Type \"help dnsconfig\" for what can follow \"dnsconfig %s\".", kind);
    }
    return true;
}

static void run(struct ui *ui, struct session *s)
{
    if (!positional(ui, s))
        run_menu(ui, s, &main_menu, NULL);
}

const struct command cmd_dnsconfig = {
    .name = "dnsconfig",
    .help = "Configure DNS setup",
    .detail = "Servers of your own are asked by priority, 0 first, and those of equal priority at "
              "random; one that does not answer, or that takes away what DNSSEC needs, is left "
              "out until it has recovered (dnsstatus). Alternate servers answer for one domain "
              "and what is below it; list the reverse zones too. Answers are validated here, "
              "whatever a server says about them. The root's trust anchor is built in and kept up "
              "by RFC 5011; a negative trust anchor makes a domain with broken signatures count "
              "as not signed, until the date given.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_dns_setup,
    .menu = &main_menu,
    .run = run,
};
