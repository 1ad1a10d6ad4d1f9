/* certauthority.c - certconfig > certauthority: the system list, which is the distribution's, and
 * the custom list. */
#include "cmds/certauthority.h"

#include <stdlib.h>

#include "cmds/certconfig.h"
#include "cmds/common.h"

#define MANY 30 /* more names than one wants to see before a question */

static bool setting(struct session *s, const char *field)
{
    struct row *r = session_get(s, &section_authority_setup, "-");
    bool on = r && row_is(r, field, "yes");

    row_free(&r);
    return on;
}

static void set(struct session *s, const char *field, bool on)
{
    struct row *r = session_edit(s, &section_authority_setup, "-");

    if (r)
        row_set(r, field, on ? "yes" : "no", NULL);
}

static json_t *arguments(const char *list)
{
    json_t *args = json_object();

    if (list)
        json_put_str(args, "list", list);
    return args;
}

/* --- summary --- */

static const char *count_of(const json_t *list, char *out, size_t size)
{
    json_int_t n = json_int(list, "count", 0), off = n - json_int(list, "trusted", n);
    int used = snprintf(out, size, "%lld certificate%s", (long long)n, n == 1 ? "" : "s");

    if (off > 0)
        snprintf(out + used, size - (size_t)used, ", %lld of them disabled", (long long)off);
    return out;
}

static void say_summary(struct ui *ui, struct session *s, const struct row *unused)
{
    json_t *data = session_call(s, ui, "authority.status", arguments(NULL));
    const json_t *custom = json_object_get(data, "custom"),
                 *system = json_object_get(data, "system");
    char text[100], date[40];

    (void)unused;
    if (!data)
        return;
    ui_say(ui, "Certificate Authority Summary\n");
    ui_say(ui, "  Custom List: %s (%s)",
           json_bool_of(custom, "enabled", false) ? "Enabled" : "Disabled",
           count_of(custom, text, sizeof(text)));
    ui_say(ui, "  System List: %s (%s)",
           json_bool_of(system, "enabled", false) ? "Enabled" : "Disabled",
           count_of(system, text, sizeof(text)));
    if (json_object_get(system, "updated_us"))
        ui_say(ui, "    Version %s, last update %s", json_str(system, "version", ""),
               date_text(json_object_get(system, "updated_us"), date));
    else
        ui_say(ui, "    There is no bundle at %s; install the package ca-certificates.",
               json_str(system, "file", ""));
    json_decref(data);
}

static void status(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *data =
        ui_end_of_words(ui) ? session_call(s, ui, "authority.status", arguments(NULL)) : NULL;
    const json_t *custom = json_object_get(data, "custom"),
                 *system = json_object_get(data, "system");
    char text[100], date[40];

    (void)unused;
    if (!data)
        return;
    out_line(ui, "Custom List: %s (%s)",
             json_bool_of(custom, "enabled", false) ? "Enabled" : "Disabled",
             count_of(custom, text, sizeof(text)));
    out_line(ui, "System List: %s (%s)",
             json_bool_of(system, "enabled", false) ? "Enabled" : "Disabled",
             count_of(system, text, sizeof(text)));
    out_line(ui, "System List Version: %s", json_str(system, "version", ""));
    if (json_object_get(system, "updated_us"))
        out_line(ui, "System List Last Update: %s",
                 date_text(json_object_get(system, "updated_us"), date));
    out_data(ui, data);
}

/* --- lists --- */

static void print(struct ui *ui, struct session *s, const char *list)
{
    static const struct out_column columns[] = {
        {"Name",      "name",           0, false},
        {"Status",    "status",         0, false},
        {"Remaining", "remaining_days", 0, true },
        {"Trusted",   "trusted",        0, false},
    };
    json_t *data =
               ui_end_of_words(ui) ? session_call(s, ui, "authority.list", arguments(list)) : NULL,
           *a;
    struct out_table *t;
    size_t i;

    if (!data)
        return;
    t = out_table_new(ui, "authorities", columns, countof(columns) - str_eq(list, "system"), '-');
    json_array_foreach(json_object_get(data, "authorities"), i, a)
    {
        if (!out_json(ui))
            json_put_str(a, "trusted", json_bool_of(a, "enabled", true) ? "Yes" : "No");
        out_table_row(t, json_incref(a));
    }
    out_table_end(&t);
    json_decref(data);
}

static void detail(struct ui *ui, struct session *s, const char *list, const char *name)
{
    static const struct out_column keys[] = {
        {"Name",           "name",           0, false},
        {"Subject",        "subject",        0, false},
        {"Issuer",         "issuer",         0, false},
        {"Serial Number",  "serial",         0, false},
        {"Valid From",     "not_before",     0, false},
        {"Valid Until",    "not_after",      0, false},
        {"Days Remaining", "remaining_days", 0, false},
        {"Status",         "status",         0, false},
        {"Public Key",     "key",            0, false},
        {"Signature",      "signature",      0, false},
        {"SHA-256",        "sha256",         0, false},
        {"CA Flag",        "ca_flag",        0, false},
        {"Trusted",        "trusted",        0, false},
    };
    json_t *args = arguments(list), *data, *a;

    json_put_str(args, "name", name);
    data = ui_end_of_words(ui) ? session_call(s, ui, "authority.list", json_incref(args)) : NULL;
    json_decref(args);
    a = json_array_get(json_object_get(data, "authorities"), 0);
    if (!a)
        return;
    if (!out_json(ui)) {
        json_put_str(a, "ca_flag", json_bool_of(a, "ca", false) ? "Yes" : "No");
        json_put_str(a, "trusted", json_bool_of(a, "enabled", true) ? "Yes" : "No");
    }
    out_record(ui, keys, countof(keys), json_incref(a));
    out_text(ui, json_str(a, "certificate", ""));
    json_decref(data);
}

/* "print NAME" is what other sections call it. */
static void print_or_detail(struct ui *ui, struct session *s, const char *list)
{
    const char *name = ui_word(ui);
    AUTO(str) char *kept = name ? xstrdup(name) : NULL;

    if (kept)
        detail(ui, s, list, kept);
    else
        print(ui, s, list);
}

static void export(struct ui *ui, struct session *s, const char *list)
{
    char *question = xasprintf("Enter the name of the file on machine \"%s\" to export to:",
                               session_hostname(s));
    char *name = xstrdup(ask_some(ui, "file", question)), *file;
    json_t *args = arguments(list), *data = NULL;
    bool replace = ui_flag(ui, "--replace");

    file = str_ends(name, ".txt") ? xstrdup(name) : xasprintf("%s.txt", name);
    json_put_str(args, "file", file);
    if (!ui_failed(ui) && ui_end_of_words(ui))
        data = call_writing(ui, s, "authority.export", json_incref(args), replace);
    if (data) {
        out_line(ui, "%lld certificate authorities exported to %s.",
                 (long long)json_int(data, "count", 0), json_str(data, "path", file));
        out_data(ui, data);
    }
    json_decref(args);
    free(question);
    free(name);
    free(file);
}

/* People have PRINT; a line may say "list" as everywhere else. */
static bool batch_only(struct session *s, const struct row *unused)
{
    (void)s;
    (void)unused;
    return false;
}

/* --- custom --- */

static void custom_enable(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    set(s, "custom_list", true);
    if (!session_count(s, &section_authority, NULL))
        ui_say(ui, "The custom list is empty; import certificates to trust.");
}

static void custom_disable(struct ui *ui, struct session *s, struct row *unused)
{
    (void)ui;
    (void)unused;
    set(s, "custom_list", false);
}

static bool custom_is_on(struct session *s, const struct row *unused)
{
    (void)unused;
    return setting(s, "custom_list");
}

static bool custom_is_off(struct session *s, const struct row *unused)
{
    (void)unused;
    return !setting(s, "custom_list");
}

static bool custom_any(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_authority, NULL) > 0;
}

static void say_import(struct ui *ui, const json_t *data)
{
    json_t *w;
    size_t i;

    ui_say(ui, "Added %lld, kept %lld, removed %lld certificate authorities.",
           (long long)json_int(data, "added", 0), (long long)json_int(data, "kept", 0),
           (long long)json_int(data, "removed", 0));
    json_array_foreach(json_object_get(data, "warnings"), i, w)
        ui_say(ui, "Warning: %s", json_string_value(w));
}

/* From a file of the export area, or pasted: no file name at a terminal, text=<<TAG in a batch. */
static void take_in(struct ui *ui, struct session *s, bool add)
{
    char *question = xasprintf("Enter the name of the file on machine \"%s\" to import:\n"
                               "(Press Enter to paste the certificates instead.)",
                               session_hostname(s));
    const char *given = ui_key(ui, "text");
    char *text = given ? xstrdup(given) : NULL, *file = NULL;
    json_t *args = json_object(), *data = NULL;
    bool fqdn;

    if (!text)
        file = xstrdup(ask_text(ui, "file", question, ui_interactive(ui) ? "" : NULL));
    if (file && !*file && !ui_failed(ui))
        text = ask_block(ui, "text", "Paste the certificates in PEM format (end with '.'):");
    fqdn = cert_ask_fqdn(ui);
    if (text)
        json_put_str(args, "text", text);
    else if (file)
        json_put_str(args, "file", file);
    json_put(args, "fqdn", json_boolean(fqdn));
    json_put(args, "add", json_boolean(add));
    if (!ui_failed(ui) && ui_end_of_words(ui) && session_flush(s, ui))
        data = session_call(s, ui, "authority.import", json_incref(args));
    if (data) {
        if (json_int(data, "added", 0) + json_int(data, "removed", 0))
            ui_changed(ui);
        say_import(ui, data);
        out_data(ui, data);
    }
    json_decref(args);
    free(question);
    free(text);
    free(file);
}

static void custom_import(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    take_in(ui, s, false);
}

static void custom_add(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    take_in(ui, s, true);
}

static void custom_export(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    export(ui, s, "custom");
}

static void custom_print(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    print_or_detail(ui, s, "custom");
}

static void say_names(struct ui *ui, struct session *s)
{
    AUTO(strlist) struct strlist names = {0};

    if (!ui_interactive(ui) || session_count(s, &section_authority, NULL) > MANY)
        return; /* PRINT has them all, with a pager */
    session_names(s, &section_authority, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        ui_say(ui, "%zu. %s", i + 1, names.items[i]);
}

static void custom_detail(struct ui *ui, struct session *s, struct row *unused)
{
    char *name;

    (void)unused;
    say_names(ui, s);
    name = ask_name(ui, s, &section_authority, NULL, "view");
    if (name)
        detail(ui, s, "custom", name);
    free(name);
}

static void custom_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r;

    (void)unused;
    say_names(ui, s);
    r = ask_row(ui, s, &section_authority, NULL, "edit");
    if (r)
        ask_field(ui, s, r, "enabled");
}

static void custom_delete(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    say_names(ui, s);
    dialog_delete(ui, s, NULL);
}

static void check_ca_flag(struct ui *ui, struct session *s, struct row *unused)
{
    bool on = ask_yes(
        ui, "check_ca_flag",
        "Do you want to refuse certificates without the CA flag when a custom list is imported?",
        setting(s, "check_ca_flag"));

    (void)unused;
    set(s, "check_ca_flag", on);
}

static const struct menu_op custom_ops[] = {
    {"ENABLE",        "Enable the custom list",                            NULL, custom_enable,  custom_is_off},
    {"DISABLE",       "Disable the custom list",                           NULL, custom_disable, custom_is_on },
    {"IMPORT",        "Import the list of custom certificate authorities", NULL, custom_import,  NULL         },
    {"ADD",           "Add certificate authorities to the custom list",    NULL, custom_add,     NULL         },
    {"EXPORT",        "Export the list of custom certificate authorities", NULL, custom_export,
     custom_any                                                                                               },
    {"PRINT",         "Print the list of custom certificate authorities",  NULL, custom_print,   NULL         },
    {"LIST",          "The same as PRINT",                                 NULL, custom_print,   batch_only   },
    {"DETAIL",        "View a certificate of the custom list",             NULL, custom_detail,  custom_any   },
    {"EDIT",          "Trust a certificate of the custom list, or do not", NULL, custom_edit,    custom_any   },
    {"DELETE",        "Remove a certificate from the custom list",         NULL, custom_delete,  custom_any   },
    {"CHECK_CA_FLAG", "Check CA flag in uploaded custom certs",            NULL, check_ca_flag,  NULL         },
};
static const struct menu custom_menu = {say_summary, custom_ops, countof(custom_ops),
                                        &section_authority};

static void custom(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &custom_menu, NULL);
}

/* --- system --- */

static void system_enable(struct ui *ui, struct session *s, struct row *unused)
{
    (void)ui;
    (void)unused;
    set(s, "system_list", true);
}

static void system_disable(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    set(s, "system_list", false);
    if (!setting(s, "custom_list"))
        ui_say(ui, "Both lists are disabled: no certificate of a peer can be verified.");
}

static bool system_is_on(struct session *s, const struct row *unused)
{
    (void)unused;
    return setting(s, "system_list");
}

static bool system_is_off(struct session *s, const struct row *unused)
{
    (void)unused;
    return !setting(s, "system_list");
}

static void system_export(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    export(ui, s, "system");
}

static void system_print(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    print_or_detail(ui, s, "system");
}

static void offer_system(void *arg, const char *typed, struct offers *out)
{
    const json_t *data = arg, *a;
    size_t i;

    json_array_foreach(json_object_get(data, "authorities"), i,
                       a) if (str_istarts(json_str(a, "name", ""), typed))
        offer(out, json_str(a, "name", ""), json_str(a, "common_name", ""));
}

static void system_detail(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *data = session_call(s, ui, "authority.list", arguments("system"));
    const struct ui_question q = {
        .text = "Enter the name of the certificate authority you wish to view.",
        .key = "name",
        .offer = offer_system,
        .arg = data,
        .help = "The names are those of PRINT."};
    char *name = data ? xstrdup(ui_ask(ui, &q)) : NULL;

    (void)unused;
    if (name && *name && !ui_failed(ui))
        detail(ui, s, "system", name);
    free(name);
    json_decref(data);
}

static void system_update(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *data =
        ui_end_of_words(ui) ? session_call(s, ui, "authority.update", arguments(NULL)) : NULL;
    const json_t *system = json_object_get(data, "system");

    (void)unused;
    if (!data)
        return;
    if (json_bool_of(data, "changed", false)) {
        out_line(ui, "The system list was updated to version %s; it holds %lld certificates.",
                 json_str(system, "version", ""), (long long)json_int(system, "count", 0));
        ui_changed(ui);
    } else {
        out_line(ui, "The system list is up to date: version %s, %lld certificates.",
                 json_str(system, "version", ""), (long long)json_int(system, "count", 0));
    }
    out_data(ui, data);
}

static const struct menu_op system_ops[] = {
    {"ENABLE",  "Enable the system list",                            NULL, system_enable,  system_is_off},
    {"DISABLE", "Disable the system list",                           NULL, system_disable, system_is_on },
    {"EXPORT",  "Export the list of system certificate authorities", NULL, system_export,  NULL         },
    {"PRINT",   "Print the list of system certificate authorities",  NULL, system_print,   NULL         },
    {"LIST",    "The same as PRINT",                                 NULL, system_print,   batch_only   },
    {"DETAIL",  "View a certificate of the system list",             NULL, system_detail,  NULL         },
    {"UPDATE",  "Update the system list now",                        NULL, system_update,  NULL         },
};
static const struct menu system_menu = {say_summary, system_ops, countof(system_ops),
                                        &section_authority_setup};

static void system_list(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &system_menu, NULL);
}

/* --- both --- */

static const struct menu_op ops[] = {
    {"CUSTOM", "Manage Custom Certificate Authorities", NULL, custom,      NULL},
    {"SYSTEM", "Manage System Certificate Authorities", NULL, system_list, NULL},
    {"STATUS", "View the state of both lists",          NULL, status,      NULL},
};
static const struct menu menu = {say_summary, ops, countof(ops), &section_authority_setup};

void certauthority(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &menu, NULL);
}
