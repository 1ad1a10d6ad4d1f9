/* destconfig_ask.c - the questions about one destination entry, in the order people know. */
#include "cmds/destconfig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool destination_is_default(const struct destination *d)
{
    return str_eq(d->domain, "default");
}

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

/* "Do you wish to apply ... for this domain?"; the default entry is not asked. */
static bool wishes(const struct asking *a, const char *key, const char *question, bool deflt)
{
    return destination_is_default(a->d) || ask_yes(a->ui, key, question, deflt);
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
    char *whole = destination_is_default(a->d)
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

/* How the limits are counted is asked only where there are some. */
static void ask_limit_apply(struct asking *a)
{
    const struct field *f = field_find(&section_destination, "limit_apply");
    const struct ui_choice choices[] = {
        {"system", "System Wide"            },
        {"VG",     "Per Virtual Gateway(tm)"},
        {NULL,     NULL                     }
    };
    int i = ask_choice(a->ui, "limit_apply", f->prompt, choices, a->d->limit_apply);

    row_set(a->row, "limit_apply", choices[i].word, NULL);
}

static void ask_limits(struct asking *a)
{
    struct destination *d = a->d;
    char *question = xasprintf("Do you wish to configure a concurrency limit for %s?", d->domain);

    if (wishes(a, "limit_concurrency", question, true))
        ask_limit(a, "concurrency_limit", "concurrency limit", d->concurrency_limit,
                  a->inherited->concurrency_limit, 1000);
    else
        d->concurrency_limit = 0;
    free(question);
    if (wishes(a, "limit_messages",
               "Do you wish to apply a messages-per-connection limit to this domain?",
               d->max_messages_per_connection > 0))
        ask_limit(a, "max_messages_per_connection", "number of messages per connection",
                  d->max_messages_per_connection, a->inherited->max_messages_per_connection, 1000);
    else
        d->max_messages_per_connection = 0;
    ask_recipient_limit(a);
    if (d->concurrency_limit || d->recipient_limit) {
        ask_limit_type(a);
        ask_limit_apply(a);
    }
}

/* What counts for the entry: its own value, else the default entry's. 0 stands for "default" in all
 * of these. */
static int effective(int own, int inherited)
{
    return own ? own : inherited;
}

/* Numbered choices without "Default", the first word of the table; the default answer is what
 * counts now. True: something other than the first of them ("No", "Off") was chosen. */
static bool ask_mode(struct asking *a, const char *field, const struct choice *table, int own,
                     int inherited)
{
    const struct field *f = field_find(&section_destination, field);
    struct ui_choice choices[8] = {0};
    int now = effective(own, inherited), picked;

    for (size_t i = 1; table[i].word && i < countof(choices); i++)
        choices[i - 1] = (struct ui_choice){table[i].word, table[i].text};
    picked = ask_choice(a->ui, field, f->prompt, choices, now ? now - 1 : 0);
    if (own || picked + 1 != (now ? now : 1) || !destination_is_default(a->d))
        row_set(a->row, field, choices[picked].word, NULL);
    return picked > 0;
}

static void ask_dane(struct asking *a)
{
    struct destination *d = a->d;

    if (wishes(a, "specific_dane", "Do you want to configure DANE Support?",
               d->dane != DANE_DEFAULT))
        ask_mode(a, "dane", choices_dane_modes, d->dane, a->inherited->dane);
    else
        d->dane = DANE_DEFAULT;
}

static void ask_mta_sts(struct asking *a)
{
    struct destination *d = a->d;
    bool on;

    if (wishes(a, "specific_mta_sts", "Do you want to configure MTA STS Support?",
               d->mta_sts != STS_DEFAULT)) {
        on = ask_mode(a, "mta_sts", choices_sts_modes, d->mta_sts, a->inherited->mta_sts);
    } else {
        d->mta_sts = STS_DEFAULT;
        on = false;
    }
    if (on)
        ui_say(a->ui, "MTA STS will not be enforced for domains with SMTP routes configured.");
}

/* Without TLS there is neither DANE nor MTA-STS. */
static void drop_policies(struct destination *d)
{
    if (d->dane > DANE_OFF)
        d->dane = DANE_DEFAULT;
    if (d->mta_sts == STS_ON)
        d->mta_sts = STS_DEFAULT;
}

static void ask_tls(struct asking *a)
{
    struct destination *d = a->d;

    if (!wishes(a, "specific_tls", "Do you wish to apply a specific TLS setting for this domain?",
                d->use_tls != DEST_TLS_DEFAULT))
        d->use_tls = DEST_TLS_DEFAULT;
    else if (ask_mode(a, "use_tls", choices_dest_tls_levels, d->use_tls, a->inherited->use_tls))
        ui_say(a->ui, "You have chosen to enable TLS. Please use the 'certconfig' command to "
                      "ensure that there is a valid "
                      "certificate configured.");
    if (effective(d->use_tls, a->inherited->use_tls) > DEST_TLS_NONE) {
        ask_dane(a);
        ask_mta_sts(a);
    } else {
        drop_policies(d);
    }
}

static void ask_bounce_verification(struct asking *a)
{
    struct destination *d = a->d;
    bool on;

    if (!wishes(a, "specific_bounce_verification",
                "Do you wish to apply a specific bounce verification address tagging setting for "
                "this domain?",
                d->bounce_verification != SWITCH_DEFAULT)) {
        d->bounce_verification = SWITCH_DEFAULT;
        return;
    }
    on = ask_yes(a->ui, "bounce_verification", "Perform bounce verification address tagging?",
                 effective(d->bounce_verification, a->inherited->bounce_verification) == SWITCH_ON);
    if (on || !destination_is_default(d) || d->bounce_verification == SWITCH_ON)
        d->bounce_verification = on ? SWITCH_ON : SWITCH_OFF;
    if (on && !session_count(a->s, &section_bv_key, NULL))
        ui_say(a->ui, "Addresses will be tagged once bounce verification is configured: see bvconfig.");
}

static void ask_bounce_profile(struct asking *a)
{
    AUTO(strlist) struct strlist names = {0};
    struct ui_choice *choices;
    struct row *fresh;
    int now = 0, picked;

    if (!wishes(a, "specific_bounce_profile",
                "Do you wish to apply a specific bounce profile to this domain?",
                !str_eq(a->d->bounce_profile, "default"))) {
        row_set(a->row, "bounce_profile", "default", NULL);
        return;
    }
    session_names(a->s, &section_bounce_profile, NULL, &names);
    choices = xcalloc(names.n + 2, sizeof(*choices));
    for (size_t i = 0; i < names.n; i++) {
        choices[i] = (struct ui_choice){names.items[i], names.items[i]};
        if (str_ieq(
                names.items[i],
                a->d->bounce_profile)) /* "default" of the default entry is the profile Default */
            now = (int)i;
    }
    choices[names.n] = (struct ui_choice){"New Profile", "New Profile"};
    picked = ask_choice(a->ui, "bounce_profile",
                        "Please choose a bounce profile to apply:", choices, now);
    if (picked == (int)names.n) {
        fresh = ask_new_bounce_profile(a->ui, a->s);
        if (fresh && !ui_failed(a->ui))
            row_set(a->row, "bounce_profile", fresh->name, NULL);
    } else if (picked != now || !destination_is_default(a->d)) {
        row_set(a->row, "bounce_profile", names.items[picked], NULL);
    }
    free(choices);
}

void ask_destination(struct ui *ui, struct session *s, struct row *row)
{
    struct asking a = {.ui = ui, .s = s, .row = row, .d = row->data};

    a.base = session_get(s, &section_destination, "default");
    a.inherited = a.base ? a.base->data : a.d;
    if (destination_is_default(a.d)) {
        ask_limits(&a);
        ask_tls(&a);
        ask_bounce_verification(&a);
        ask_bounce_profile(&a);
        ask_addresses(&a);
    } else {
        ask_addresses(&a);
        ask_limits(&a);
        ask_tls(&a);
        ask_bounce_verification(&a);
        ask_bounce_profile(&a);
    }
    row_free(&a.base);
}
