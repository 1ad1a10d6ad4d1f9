/* rcptaccess.c - listenerconfig > EDIT > RCPTACCESS: for whom a public listener accepts mail. */
#include "cmds/listener.h"

#include <stdlib.h>

#include "store/rat_file.h"

static void say_table(struct ui *ui, struct session *s, const struct row *l)
{
    ui_say(ui, "Recipient Access Table");
    ui_say(ui, "\nThere are currently %zu recipients.",
           session_count(s, &section_rcpt_access, l->name));
    ui_say(ui, "Default Access: REJECT");
}

static const struct ui_choice actions[] = {
    {"accept", "Accept"},
    {"reject", "Reject"},
    {NULL,     NULL    }
};

static void set(struct ui *ui, struct row *r, const char *field, const char *value)
{
    struct err err = {0};

    if (!ui_failed(ui) && !row_set(r, field, value, &err))
        ui_fail(ui, E_INVALID, "%s: %s", field, err.text);
}

/* Options of other systems' lines, and fields by name. True: the line said something, so nothing is asked. */
static bool take_words(struct ui *ui, struct row *r)
{
    static const struct {
        const char *option, *field;
    } options[] = {
        {"--action",    "action"},
        {"--cust_resp", "text"  },
        {"--resp_code", "code"  },
        {"--bypass",    "bypass"},
        {NULL,          "action"},
        {NULL,          "code"  },
        {NULL,          "text"  },
        {NULL,          "bypass"}
    };
    bool any = false;

    for (size_t i = 0; i < countof(options); i++) {
        const char *option = options[i].option, *field = options[i].field;
        const char *value = option ? ui_option(ui, option) : ui_key(ui, field);

        if (!value)
            continue;
        any = true;
        if (str_eq(field, "text") && str_ieq(value, "no"))
            value = "";
        if (str_eq(field, "action") && !str_ieq(value, "accept") && !str_ieq(value, "reject"))
            ui_fail(ui, E_INVALID, "The action is \"accept\" or \"reject\", not \"%s\".", str_printable(value));
        set(ui, r, field, value);
    }
    if (ui_option(ui, "--bypass_ldap")) {
        any = true;
        ui_say(ui, "--bypass_ldap has no effect here: recipients are not looked up in a directory.");
    }
    return any;
}

static void ask_response(struct ui *ui, struct session *s, struct row *r)
{
    const struct rcpt_access *e = r->data;
    bool accept = e->action == RCPT_ACCEPT;
    uint64_t code;
    char number[24];

    if (!ask_yes(ui, "custom", "Would you like to specify a custom SMTP response?", e->code || *e->text)) {
        set(ui, r, "code", "default");
        set(ui, r, "text", "");
        return;
    }
    code = accept ? ask_number(ui, "code", "Enter the SMTP code to use in the response. 250 is the standard code.",
                               e->code >= 250 && e->code <= 251 ? e->code : 250, 250, 251)
                  : ask_number(ui, "code", "Enter the SMTP code to use in the response. 550 is the standard code.",
                               e->code >= 400 ? e->code : 550, 400, 599);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)(code == (accept ? 250 : 550) ? 0 : code));
    set(ui, r, "code", number);
    ask_field(ui, s, r, "text");
}

/* What an entry says about its address. */
static void ask_rule(struct ui *ui, struct session *s, struct row *r)
{
    const struct rcpt_access *e = r->data;

    if (take_words(ui, r))
        return;
    set(ui, r, "action",
        actions[ask_choice(ui, "action", "Select the action to apply to this address.", actions, e->action)].word);
    if (!ui_interactive(ui))
        return;
    ask_response(ui, s, r);
    set(ui, r, "bypass",
        ask_yes(ui, "bypass", "Would you like to bypass receiving control for this entry?", e->bypass) ? "yes" : "no");
}

static void table_new(struct ui *ui, struct session *s, struct row *l)
{
    AUTO(strlist) struct strlist addresses = {0};
    char *question = xasprintf("%s\nSeparate multiple entries with commas.",
                               field_find(&section_rcpt_access, "address")->prompt);
    char *like = xasprintf("%s/", l->name);
    struct row *rule = row_new(&section_rcpt_access, like);

    ask_items(ui, &section_rcpt_access, "address", "address", question, NULL, &addresses);
    free(question);
    free(like);
    if (!ui_failed(ui))
        ask_rule(ui, s, rule);
    for (size_t i = 0; i < addresses.n && !ui_failed(ui); i++) {
        struct row *r;

        if (has_name(s, &section_rcpt_access, l->name, addresses.items[i])) {
            ui_fail(ui, E_EXISTS, "There is an entry for %s already. Use EDIT to change it.",
                    str_printable(addresses.items[i]));
            break;
        }
        r = session_new(s, &section_rcpt_access, l->name);
        take_values(r, rule);
        set(ui, r, "address", addresses.items[i]);
    }
    row_free(&rule);
}

static void table_edit(struct ui *ui, struct session *s, struct row *l)
{
    struct row *r = ask_row(ui, s, &section_rcpt_access, l->name, "edit");

    if (r)
        ask_rule(ui, s, r);
}

static void table_delete(struct ui *ui, struct session *s, struct row *l)
{
    char *name = ask_name(ui, s, &section_rcpt_access, l->name, "delete");

    if (name)
        session_delete(s, &section_rcpt_access, name);
    free(name);
}

struct printing {
    struct ui *ui;
    json_t *entries; /* with --json */
};

static bool print_entry(void *arg, const struct row *r)
{
    struct printing *p = arg;
    const struct rcpt_access *e = r->data;
    AUTO(buf) struct buf line = BUF_INIT(4096);
    json_t *o;

    rat_file_entry(e, &line);
    out_text(p->ui, buf_str(&line));
    if (!out_json(p->ui))
        return !out_stopped(p->ui);
    o = row_to_json(r);
    json_put_str(o, "action", e->action == RCPT_ACCEPT ? "ACCEPT" : "REJECT");
    json_array_append_new(p->entries, o);
    return true;
}

static void table_print(struct ui *ui, struct session *s, struct row *l)
{
    struct printing p = {.ui = ui};
    json_t *data, *all;

    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    data = json_object();
    all = json_object();
    p.entries = json_array();
    session_each(s, &section_rcpt_access, l->name, print_entry, &p);
    out_line(ui, "ALL REJECT");
    json_put_str(all, "address", "ALL");
    json_put_str(all, "action", "REJECT");
    json_array_append_new(p.entries, all);
    json_put(data, "entries", p.entries);
    out_data(ui, data);
}

static void table_import(struct ui *ui, struct session *s, struct row *l)
{
    listener_import(ui, s, l, "rat");
}

static void table_export(struct ui *ui, struct session *s, struct row *l)
{
    listener_export(ui, s, l, "rat");
}

static void table_clear(struct ui *ui, struct session *s, struct row *l)
{
    listener_clear(ui, s, l, "rat");
}

static bool has_entries(struct session *s, const struct row *l)
{
    return session_count(s, &section_rcpt_access, l->name) > 0;
}

static const struct menu_op table_ops[] = {
    {"NEW",    "Create a new entry.",         NULL, table_new,    NULL       },
    {"EDIT",   "Modify an entry.",            NULL, table_edit,   has_entries},
    {"DELETE", "Remove an entry.",            NULL, table_delete, has_entries},
    {"PRINT",  "Display the table.",          NULL, table_print,  NULL       },
    {"IMPORT", "Import a table from a file.", NULL, table_import, NULL       },
    {"EXPORT", "Export the table to a file.", NULL, table_export, NULL       },
    {"CLEAR",  "Remove all entries.",         NULL, table_clear,  has_entries},
};
const struct menu rcptaccess_menu = {say_table, table_ops, countof(table_ops),
                                     &section_rcpt_access};
