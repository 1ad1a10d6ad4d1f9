/* destconfig.c - destination controls: limits and TLS for deliveries, by recipient domain. */
#include "cmds/destconfig.h"

#include <stdlib.h>

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

static void dest_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_destination, NULL);

    (void)unused;
    ask_field(ui, s, r, "domain");
    if (!ui_failed(ui))
        ask_destination(ui, s, r);
}

/* The domain as it is typed: there may be too many for a list. */
static char *ask_domain(struct ui *ui, struct session *s, const char *verb)
{
    char *question = xasprintf("Enter the domain you wish to %s.", verb);
    const struct ui_question q = {
        .text = question, .key = "domain", .offer = offer_destinations, .arg = s};
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
        ask_destination(ui, s, session_edit(s, &section_destination, name));
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
        ask_destination(ui, s, r);
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

static void dest_clear(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *data;

    (void)unused;
    if (!ask_confirm(ui, "confirm", "Are you sure you want to remove all entries?", false) ||
        !ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "dest.clear", NULL);
    if (json_int(data, "deleted", 0))
        ui_changed(ui);
    out_data(ui, data);
}

/* --- files: read and written by the gateway, in its export area */

static json_t *file_args(struct ui *ui, const char *question)
{
    json_t *args = json_object();

    json_put_str(args, "name", ask_some(ui, "file", question));
    if (!ui_failed(ui) && ui_end_of_words(ui))
        return args;
    json_decref(args);
    return NULL;
}

static void dest_import(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = file_args(ui, "Enter the name of the file to import:"),
           *data = args ? session_call(s, ui, "dest.import", args) : NULL;

    (void)unused;
    if (!data)
        return;
    if (json_int(data, "new", 0) + json_int(data, "changed", 0) + json_int(data, "deleted", 0))
        ui_changed(ui);
    ui_say(ui, "%lld entries imported successfully: %lld new, %lld changed, %lld deleted.",
           (long long)json_int(data, "entries", 0), (long long)json_int(data, "new", 0),
           (long long)json_int(data, "changed", 0), (long long)json_int(data, "deleted", 0));
    out_data(ui, data);
}

static void dest_export(struct ui *ui, struct session *s, struct row *unused)
{
    bool replace = ui_flag(ui, "--replace");
    json_t *args = file_args(ui, "Enter a name for the exported file:"),
           *data = args ? call_writing(ui, s, "dest.export", args, replace) : NULL;

    (void)unused;
    if (!data)
        return;
    ui_say(ui, "File written on machine \"%s\" to the location \"%s\".", session_hostname(s),
               json_str(data, "path", ""));
    out_data(ui, data);
}

static const struct menu_op main_ops[] = {
    {"SETUP",   "Change global settings.",                             NULL, dest_setup,         NULL     },
    {"NEW",     "Create a new entry.",                                 NULL, dest_new,           NULL     },
    {"EDIT",    "Modify an entry.",                                    NULL, dest_edit,          any_entry},
    {"DELETE",  "Remove an entry.",                                    NULL, dest_delete,        any_entry},
    {"DEFAULT", "Change the default.",                                 NULL, dest_default,       NULL     },
    {"LIST",    "Display a summary list of all entries.",              NULL, destination_list,   NULL     },
    {"DETAIL",  "Display details for one destination or all entries.", NULL, destination_detail,
     NULL                                                                                                 },
    {"CLEAR",   "Remove all entries.",                                 NULL, dest_clear,         any_entry},
    {"IMPORT",  "Import tables from a file.",                          NULL, dest_import,        NULL     },
    {"EXPORT",  "Export tables to a file.",                            NULL, dest_export,        NULL     },
};
static const struct menu main_menu = {say_count, main_ops, countof(main_ops), &section_destination};

const struct command cmd_destconfig = {
    .name = "destconfig",
    .help = "Configure destination controls: limits and TLS of deliveries",
    .detail =
        "An entry \"example.com\" is for that domain alone, \".example.com\" for what is "
        "below it; all other domains "
        "have the default entry. What an entry does not say it takes from the default entry. "
        "IMPORT replaces the whole table by an INI file of the export area, as other gateways "
        "write them: a section [DEFAULT] and one for each domain; a file with an error "
        "changes nothing.",
    .usage = "destconfig default FIELD=VALUE ...\n"
             "destconfig detail DOMAIN|default|all\n"
             "destconfig clear\n"
             "destconfig import FILE\n"
             "destconfig export FILE [--replace]",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_destination,
    .menu = &main_menu,
};
