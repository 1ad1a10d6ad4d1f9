/* destconfig.c - destination controls: limits and TLS for deliveries, by recipient domain. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_default(const struct destination *d)
{
    return str_eq(d->domain, "default");
}

static size_t entries(struct session *s)
{
    size_t n = session_count(s, &section_destination, NULL);

    return n ? n - 1 : 0; /* the default entry is not counted */
}

static bool any_entry(struct session *s, const struct row *unused)
{
    (void)unused;
    return entries(s) > 0;
}

static void say_count(struct ui *ui, struct session *s, const struct row *unused)
{
    (void)unused;
    ui_say(ui, "There are currently %zu entries configured.", entries(s));
}

/* --- the questions
 * ------------------------------------------------------------------------------------------ */

struct asking {
    struct ui *ui;
    struct session *s;
    struct row *row;
    struct destination *d; /* row->data */
    struct row *base; /* the default entry */
    const struct destination *inherited;
};

static void set_number(struct asking *a, const char *field, uint64_t n)
{
    char text[24];
    struct err err = {0};

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    if (!row_set(a->row, field, text, &err))
        ui_error(a->ui, &err);
}

/* "Do you wish to ... for example.com?"; yes is the default when the entry has a value of its own.
 */
static bool wishes(const struct asking *a, const char *key, const char *format, bool deflt)
{
    char *question;
    bool yes;

    if (is_default(a->d))
        return true;
    question = xasprintf("Do you wish to %s", format);
    yes = ask_yes(a->ui, key, question, deflt);
    free(question);
    return yes;
}

static void ask_limit(struct asking *a, const char *field, const char *format, uint64_t now,
                      uint64_t inherited, uint64_t max)
{
    char *question = xasprintf("Enter the max %s for \"%s\".", format, a->d->domain);

    set_number(a, field, ask_number(a->ui, field, question, now ? now : inherited, 1, max));
    free(question);
}

static void ask_addresses(struct asking *a)
{
    /* the order of the question, which is not that of the table */
    static const struct ui_choice choices[] = {
        {"prefer_v6",  "IPv6 Preferred"},
        {"prefer_v4",  "IPv4 Preferred"},
        {"require_v6", "IPv6 Required" },
        {"require_v4", "IPv4 Required" },
        {"default",    "Default"       },
        {NULL,         NULL            }
    };
    static const int position[] = {4, 0, 1, 2, 3}; /* of enum ip_preferences */
    char *question = xasprintf("Choose the IP address preference for \"%s\":", a->d->domain);
    int i = ask_choice(a->ui, "ip_sort_pref", question, choices, position[a->d->ip_sort_pref]);

    row_set(a->row, "ip_sort_pref", choices[i].word, NULL);
    free(question);
}

static void ask_recipient_limit(struct asking *a)
{
    struct destination *d = a->d;
    uint64_t minutes;
    char *question;

    if (!ask_yes(a->ui, "limit_recipients",
                 "Do you wish to apply a recipient limit to this domain?",
                 d->recipient_limit > 0)) {
        d->recipient_limit = d->recipient_minutes = 0;
        return;
    }
    minutes = ask_number(a->ui, "recipient_minutes",
                         "Enter the number of minutes used to measure the recipient limit.",
                         d->recipient_minutes ? d->recipient_minutes : 60, 1, 60);
    set_number(a, "recipient_minutes", minutes);
    question = xasprintf("Enter the max number of recipients per %llu minutes for \"%s\".",
                         (unsigned long long)minutes, d->domain);
    set_number(a, "recipient_limit",
               ask_number(a->ui, "recipient_limit", question,
                          d->recipient_limit ? d->recipient_limit : 1000, 1, 1000000000));
    free(question);
}

static void ask_limit_type(struct asking *a)
{
    char *whole = is_default(a->d)
                      ? xstrdup("One limit applies to each entire domain")
                      : xasprintf("One limit applies to the entire domain %s", a->d->domain);
    char *question = xasprintf("Select how you want to apply the limits for %s:", a->d->domain);
    const struct ui_choice choices[] = {
        {"host", whole                                              },
        {"MXIP", "Separate limit for each mail exchanger IP address"},
        {NULL,   NULL                                               }
    };

    row_set(a->row, "limit_type",
            choices[ask_choice(a->ui, "limit_type", question, choices, a->d->limit_type)].word,
            NULL);
    free(whole);
    free(question);
}

static void ask_limits(struct asking *a)
{
    struct destination *d = a->d;
    char *question = xasprintf("configure a concurrency limit for %s?", d->domain);

    if (wishes(a, "limit_concurrency", question, true))
        ask_limit(a, "concurrency_limit", "concurrency limit", d->concurrency_limit,
                  a->inherited->concurrency_limit, 1000);
    else
        d->concurrency_limit = 0;
    free(question);
    if (wishes(a, "limit_messages", "apply a messages-per-connection limit to this domain?",
               d->max_messages_per_connection > 0))
        ask_limit(a, "max_messages_per_connection", "number of messages per connection",
                  d->max_messages_per_connection, a->inherited->max_messages_per_connection, 1000);
    else
        d->max_messages_per_connection = 0;
    ask_recipient_limit(a);
    if (d->concurrency_limit || d->recipient_limit)
        ask_limit_type(a);
}

static void ask_tls(struct asking *a)
{
    static const struct ui_choice choices[] = {
        {"off",                   "No"                             },
        {"on",                    "Preferred"                      },
        {"require",               "Required"                       },
        {"on_verify",             "Preferred - Verify"             },
        {"require_verify",        "Required - Verify"              },
        {"require_hosted_verify", "Required - Verify Hosted Domains"},
        {NULL,                    NULL                             }
    };
    int now = a->d->use_tls == DEST_TLS_DEFAULT ? a->inherited->use_tls : a->d->use_tls, picked;

    if (!wishes(a, "specific_tls", "apply a specific TLS setting for this domain?",
                a->d->use_tls != DEST_TLS_DEFAULT)) {
        a->d->use_tls = DEST_TLS_DEFAULT;
        return;
    }
    picked = ask_choice(a->ui, "use_tls", "Do you want to use TLS support?", choices,
                        now == DEST_TLS_DEFAULT ? 0 : now - 1);
    row_set(a->row, "use_tls", choices[picked].word, NULL);
    if (picked)
        ui_say(a->ui, "You have chosen to enable TLS. Please use the 'certconfig' command to "
                      "ensure that there is a valid "
                      "certificate configured.");
}

static void ask_bounce_profile(struct asking *a)
{
    AUTO(strlist) struct strlist names = {0};
    struct ui_choice *choices;
    int now = 0, picked;

    if (!wishes(a, "specific_bounce_profile", "apply a specific bounce profile to this domain?",
                !str_eq(a->d->bounce_profile, "default"))) {
        row_set(a->row, "bounce_profile", "default", NULL);
        return;
    }
    session_names(a->s, &section_bounce_profile, NULL, &names);
    choices = xcalloc(names.n + 1, sizeof(*choices));
    for (size_t i = 0; i < names.n; i++) {
        choices[i] = (struct ui_choice){names.items[i], names.items[i]};
        if (str_ieq(
                names.items[i],
                a->d->bounce_profile)) /* "default" of the default entry is the profile Default */
            now = (int)i;
    }
    picked = names.n ? ask_choice(a->ui, "bounce_profile",
                                  "Please choose a bounce profile to apply:", choices, now)
                     : now;
    if (picked != now || (names.n && !is_default(a->d)))
        row_set(a->row, "bounce_profile", names.items[picked], NULL);
    free(choices);
}

static void ask_entry(struct ui *ui, struct session *s, struct row *row)
{
    struct asking a = {.ui = ui, .s = s, .row = row, .d = row->data};

    a.base = session_get(s, &section_destination, "default");
    a.inherited = a.base ? a.base->data : a.d;
    if (is_default(a.d)) {
        ask_limits(&a);
        ask_tls(&a);
        ask_bounce_profile(&a);
        ask_addresses(&a);
    } else {
        ask_addresses(&a);
        ask_limits(&a);
        ask_tls(&a);
        ask_bounce_profile(&a);
    }
    row_free(&a.base);
}

/* --- operations
 * --------------------------------------------------------------------------------------------- */

static void dest_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_destination, NULL);

    (void)unused;
    ask_field(ui, s, r, "domain");
    if (!ui_failed(ui))
        ask_entry(ui, s, r);
}

static void offer_entries(void *arg, const char *typed, struct offers *out)
{
    struct strlist names = {0};

    session_find(arg, &section_destination, NULL, typed, 100, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
    strlist_free(&names);
}

/* The domain as it is typed: there may be too many for a list. */
static char *ask_domain(struct ui *ui, struct session *s, const char *verb)
{
    char *question = xasprintf("Enter the domain you wish to %s.", verb);
    const struct ui_question q = {
        .text = question, .key = "domain", .offer = offer_entries, .arg = s};
    char *name = row_canonical(&section_destination, ui_ask(ui, &q));

    free(question);
    if (!ui_failed(ui) && !has_name(s, &section_destination, NULL, name))
        ui_fail(ui, E_NOT_FOUND,
                "There is no entry for \"%s\". Use LIST to see the entries, or NEW to create one.",
                str_printable(name));
    return name;
}

static void dest_edit(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_domain(ui, s, "edit");

    (void)unused;
    if (!ui_failed(ui))
        ask_entry(ui, s, session_edit(s, &section_destination, name));
    free(name);
}

static void dest_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_domain(ui, s, "delete");

    (void)unused;
    if (!ui_failed(ui) && str_eq(name, "default"))
        ui_fail(ui, E_INVALID, "The default entry cannot be deleted. Use DEFAULT to change it.");
    else if (!ui_failed(ui))
        session_delete(s, &section_destination, name);
    free(name);
}

static void dest_default(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_destination, "default");

    (void)unused;
    if (r)
        ask_entry(ui, s, r);
}

static void dest_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_destination_setup, "-"), *c;

    (void)unused;
    if (!r)
        return;
    c = session_get(s, &section_certificate, row_text(r, "certificate"));
    if (c && ((const struct certificate *)c->data)->demo)
        say_if_demo(ui, s, row_text(r, "certificate"));
    else
        ui_say(ui, "The \"%s\" certificate is currently configured.", row_text(r, "certificate"));
    row_free(&c);
    ask_all(ui, s, r);
    say_if_demo(ui, s, row_text(r, "certificate"));
}

/* --- list and detail
 * ---------------------------------------------------------------------------------------- */

static const char *tls_word(const struct destination *d)
{
    static const char *const words[] = {
        [DEST_TLS_DEFAULT] = "Default",
        [DEST_TLS_NONE] = "Off",
        [DEST_TLS_PREFERRED] = "Pref",
        [DEST_TLS_REQUIRED] = "Req",
        [DEST_TLS_PREFERRED_VERIFY] = "Pref (Verify)",
        [DEST_TLS_REQUIRED_VERIFY] = "Req (Verify)",
        [DEST_TLS_REQUIRED_HOSTED] = "Req (Hosted)",
    };

    return words[d->use_tls];
}

static const char *rate_word(const struct destination *d)
{
    return d->concurrency_limit || d->recipient_limit || d->max_messages_per_connection ? "On"
                                                                                        : "Default";
}

struct listing {
    struct ui *ui;
    json_t *entries;
    int width;
    bool print_default;
};

static bool measure(void *arg, const struct row *r)
{
    struct listing *p = arg;
    int n = (int)strlen(r->name);

    if (n > p->width)
        p->width = n;
    return true;
}

static bool list_one(void *arg, const struct row *r)
{
    struct listing *p = arg;
    const struct destination *d = r->data;

    if (is_default(d) != p->print_default)
        return true;
    out_line(p->ui, "%-*s   %-8s   %-7s   %s", p->width, is_default(d) ? "(Default)" : d->domain,
             rate_word(d), tls_word(d),
             str_eq(d->bounce_profile, "default") ? is_default(d) ? "(Default)" : "Default"
                                                  : d->bounce_profile);
    json_array_append_new(p->entries, row_to_json(r));
    return !out_stopped(p->ui);
}

static void dest_list(struct ui *ui, struct session *s, struct row *unused)
{
    struct listing p = {.ui = ui, .width = (int)sizeof("(Default)") - 1};
    json_t *data;

    (void)unused;
    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    p.entries = json_array();
    data = json_object();
    session_each(s, &section_destination, NULL, measure, &p);
    out_line(ui, "%-*s   %-8s   %-7s   %s", p.width, "", "Rate", "", "Bounce");
    out_line(ui, "%-*s   %-8s   %-7s   %s", p.width, "Domain", "Limiting", "TLS", "Profile");
    out_line(ui, "%.*s   ========   =======   =========", p.width < 80 ? p.width : 80,
             "================================================================================");
    session_each(s, &section_destination, NULL, list_one, &p);
    p.print_default = true;
    session_each(s, &section_destination, NULL, list_one, &p);
    json_put(data, "entries", p.entries);
    out_data(ui, data);
}

static void print_rates(struct ui *ui, const struct destination *d)
{
    if (!d->concurrency_limit && !d->recipient_limit) {
        out_line(ui, "Rate Limiting: Default");
        return;
    }
    out_line(ui, "Rate Limiting:");
    if (d->concurrency_limit)
        out_line(ui, "%llu concurrent connections", (unsigned long long)d->concurrency_limit);
    else
        out_line(ui, "Default concurrent connections");
    if (d->recipient_limit)
        out_line(ui, "%llu recipients per %llu minutes", (unsigned long long)d->recipient_limit,
                 (unsigned long long)d->recipient_minutes);
    else
        out_line(ui, "No recipient limit");
    out_line(ui, "Limits applied to %s",
             d->limit_type == LIMIT_MXIP ? "each mail exchanger IP address" : "entire domain");
}

static bool detail_one(void *arg, const struct row *r)
{
    struct listing *p = arg;
    const struct destination *d = r->data;

    if (json_array_size(p->entries))
        out_line(p->ui, "%s", "");
    out_line(p->ui, "%s", is_default(d) ? "(Default)" : d->domain);
    out_line(p->ui, "IP Version: %s", choices_ip_preferences[d->ip_sort_pref].text);
    if (d->max_messages_per_connection)
        out_line(p->ui, "Maximum messages per connection: %llu",
                 (unsigned long long)d->max_messages_per_connection);
    else
        out_line(p->ui, "Maximum messages per connection: Default");
    print_rates(p->ui, d);
    out_line(p->ui, "TLS: %s", choices_dest_tls_levels[d->use_tls].text);
    out_line(p->ui, "Bounce Profile: %s",
             str_eq(d->bounce_profile, "default") ? "Default" : d->bounce_profile);
    json_array_append_new(p->entries, row_to_json(r));
    return !out_stopped(p->ui);
}

static void offer_domains(void *arg, const char *typed, struct offers *out)
{
    offer_entries(arg, typed, out);
    offer(out, "all", "every entry");
}

static void dest_detail(struct ui *ui, struct session *s, struct row *unused)
{
    const struct ui_question q = {
        .text = "Select a domain to display its details (\"default\" and \"all\" are allowed):",
        .key = "domain",
        .offer = offer_domains,
        .arg = s};
    struct listing p = {.ui = ui, .entries = json_array()};
    char *name = row_canonical(&section_destination, ui_ask(ui, &q));
    struct row *r = NULL;
    json_t *data;

    (void)unused;
    ui_end_of_words(ui); /* before anything is printed */
    if (!ui_failed(ui) && str_ieq(name, "all"))
        session_each(s, &section_destination, NULL, detail_one, &p);
    else if (!ui_failed(ui) && (r = session_get(s, &section_destination,
                                                str_ieq(name, "(default)") ? "default" : name)))
        detail_one(&p, r);
    else if (!ui_failed(ui))
        ui_fail(ui, E_NOT_FOUND, "There is no entry for \"%s\". Use LIST to see the entries.",
                str_printable(name));
    row_free(&r);
    free(name);
    data = json_object();
    json_put(data, "entries", p.entries);
    out_data(ui, data);
}

static void dest_clear(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};

    (void)unused;
    if (!ask_confirm(ui, "confirm", "Are you sure you want to remove all entries?", false))
        return;
    session_names(s, &section_destination, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        if (!str_eq(names.items[i], "default"))
            session_delete(s, &section_destination, names.items[i]);
}

static const struct menu_op main_ops[] = {
    {"SETUP",   "Change global settings.",                             NULL, dest_setup,   NULL     },
    {"NEW",     "Create a new entry.",                                 NULL, dest_new,     NULL     },
    {"EDIT",    "Modify an entry.",                                    NULL, dest_edit,    any_entry},
    {"DELETE",  "Remove an entry.",                                    NULL, dest_delete,  any_entry},
    {"DEFAULT", "Change the default.",                                 NULL, dest_default, NULL     },
    {"LIST",    "Display a summary list of all entries.",              NULL, dest_list,    NULL     },
    {"DETAIL",  "Display details for one destination or all entries.", NULL, dest_detail,  NULL     },
    {"CLEAR",   "Remove all entries.",                                 NULL, dest_clear,   any_entry},
};
static const struct menu main_menu = {say_count, main_ops, countof(main_ops), &section_destination};

const struct command cmd_destconfig = {
    .name = "destconfig",
    .help = "Configure destination controls: limits and TLS of deliveries",
    .detail = "An entry \"example.com\" is for that domain alone, \".example.com\" for what is "
              "below it; all other domains "
              "have the default entry. What an entry does not say it takes from the default entry.",
    .usage = "destconfig default FIELD=VALUE ...\n"
             "destconfig detail DOMAIN|default|all\n"
             "destconfig clear",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_destination,
    .menu = &main_menu,
};
