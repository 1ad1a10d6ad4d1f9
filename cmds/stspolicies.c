/* stspolicies.c - the MTA-STS policies the gateway has cached: look, fetch again, forget. */
#include "cmds/common.h"

#include <stdlib.h>

static const struct out_column columns[] = {
    {"Domain",    "domain",  0, false},
    {"Mode",      "mode",    0, false},
    {"Id",        "id",      0, false},
    {"Expires",   "expires", 0, false},
    {"Last Used", "used",    0, false},
    {"Problem",   "problem", 0, false},
};

static json_t *table_row(const json_t *p)
{
    json_t *row = json_deep_copy(p);

    if (!*json_str(p, "mode", ""))
        json_put_str(row, "mode", "-");
    json_put_str(row, "problem", json_str(p, "failure", ""));
    return row;
}

/* Pages of the daemon, one after the other. */
static void list_policies(struct ui *ui, struct session *s, struct row *unused)
{
    struct out_table *t = NULL;
    char *after = NULL;
    bool more = true;

    (void)unused;
    if (!ui_end_of_words(ui))
        return;
    while (more && !out_stopped(ui)) {
        json_t *args = json_object(), *data, *p;
        size_t i;

        if (after)
            json_put_str(args, "after", after);
        data = session_call(s, ui, "sts.list", args);
        if (!data)
            break;
        more = json_bool_of(data, "more", false);
        if (!t && (out_json(ui) || json_array_size(json_object_get(data, "policies"))))
            t = out_table_new(ui, "policies", columns, countof(columns), '-');
        json_array_foreach(json_object_get(data, "policies"), i, p)
        {
            free(after);
            after = xstrdup(json_str(p, "domain", ""));
            out_table_row(t, out_json(ui) ? json_incref(p) : table_row(p));
        }
        json_decref(data);
    }
    free(after);
    if (t)
        out_table_end(&t);
    else if (!ui_failed(ui))
        ui_say(ui, "No MTA-STS policies are cached.");
}

static const struct out_column keys[] = {
    {"Domain",           "domain",    0, false},
    {"Mode",             "mode",      0, false},
    {"Policy id",        "id",        0, false},
    {"MX hosts",         "mx",        0, false},
    {"Maximum age",      "max_age",   0, false},
    {"Fetched",          "fetched",   0, false},
    {"Expires",          "expires",   0, false},
    {"Next refresh",     "refresh",   0, false},
    {"Last used",        "used",      0, false},
    {"Last failure",     "failure",   0, false},
    {"Failed id",        "failed_id", 0, false},
    {"Not tried before", "retry",     0, false},
};

/* Of a domain of which only a failure is known, half of them are missing. */
static void print_policy(struct ui *ui, json_t *policy)
{
    struct out_column there[countof(keys)];
    size_t n = 0;

    for (size_t i = 0; i < countof(keys); i++) {
        const json_t *value = json_object_get(policy, keys[i].key);

        if (value && !(json_is_string(value) && !json_string_length(value)))
            there[n++] = keys[i];
    }
    out_record(ui, there, n, policy);
}

static void show_policy(struct ui *ui, struct session *s, struct row *unused)
{
    const char *domain =
        ask_some(ui, "domain", "Enter the domain whose MTA-STS policy you wish to see.");
    json_t *args = json_object(), *data;

    (void)unused;
    json_put_str(args, "domain", domain);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    data = session_call(s, ui, "sts.show", args);
    if (data)
        print_policy(ui, data);
}

static void refresh_policy(struct ui *ui, struct session *s, struct row *unused)
{
    char *domain = xstrdup(
        ask_some(ui, "domain", "Enter the domain whose MTA-STS policy you wish to fetch again."));
    json_t *args = json_object(), *data;

    (void)unused;
    json_put_str(args, "domain", domain);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        free(domain);
        return;
    }
    data = session_call(s, ui, "sts.refresh", args);
    if (data) {
        ui_say(ui, "The MTA-STS policy of %s was fetched: mode %s.", str_printable(domain),
               str_printable(json_str(data, "mode", "")));
        out_data(ui, data);
    }
    free(domain);
}

static void flush_policies(struct ui *ui, struct session *s, struct row *unused)
{
    char *domain = xstrdup(ask_some(
        ui, "domain", "Enter the domain whose MTA-STS policy you wish to forget, or \"all\"."));
    bool all = str_ieq(domain, "all");
    json_t *args = json_object(), *data;
    long long n;

    (void)unused;
    if (!ui_failed(ui) && all &&
        !ask_confirm(ui, "confirm",
                     "Until they are fetched again, mail is delivered as if these domains had no "
                     "policy. Are you "
                     "sure you want to forget all MTA-STS policies?",
                     false)) {
        json_decref(args);
        free(domain);
        return;
    }
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        free(domain);
        return;
    }
    if (!all)
        json_put_str(args, "domain", domain);
    data = session_call(s, ui, "sts.flush", args);
    if (data) {
        n = (long long)json_int(data, "flushed", 0);
        if (n)
            ui_changed(ui);
        if (all)
            ui_say(ui, "%lld cached %s forgotten.", n, n == 1 ? "entry was" : "entries were");
        else
            ui_say(ui,
                   n ? "The MTA-STS policy of %s was forgotten."
                     : "No MTA-STS policy of %s is cached.",
                   str_printable(domain));
        out_data(ui, data);
    }
    free(domain);
}

static void setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_mta_sts_setup, "-");

    (void)unused;
    if (r)
        ask_all(ui, s, r);
}

static const struct menu_op main_ops[] = {
    {"LIST",    "List the cached MTA-STS policies.",                      NULL, list_policies,  NULL},
    {"SHOW",    "Show what is known of one domain.",                      NULL, show_policy,    NULL},
    {"REFRESH", "Fetch the policy of a domain now.",                      NULL, refresh_policy, NULL},
    {"FLUSH",   "Forget the policy of a domain, or all.",                 NULL, flush_policies, NULL},
    {"SETUP",   "Change what happens when a record cannot be looked up.", NULL, setup,          NULL},
};
static const struct menu main_menu = {NULL, main_ops, countof(main_ops), &section_mta_sts_setup};

const struct command cmd_stspolicies = {
    .name = "stspolicies",
    .help = "Look at, refresh and forget cached MTA-STS policies",
    .usage = "stspolicies list\nstspolicies show DOMAIN\nstspolicies refresh DOMAIN\n"
             "stspolicies flush DOMAIN\nstspolicies flush all --yes",
    .detail = "Policies (RFC 8461) are fetched when mail is sent to a domain for which destconfig "
              "switches MTA-STS on, "
              "survive restarts, are renewed daily, and are replaced when the id of the domain's "
              "TXT record changes. "
              "Use tlsexceptions to ignore the policy of a domain for a while.",
    .roles = ROLE_READONLY,
    .commits = true,
    .section = &section_mta_sts_setup,
    .menu = &main_menu,
};
