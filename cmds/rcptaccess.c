/* rcptaccess.c - listenerconfig > EDIT > RCPTACCESS: for whom a public listener accepts mail. */
#include "cmds/listener.h"

#include <stdlib.h>

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

static int ask_action(struct ui *ui, int now)
{
    const char *option = ui_option(ui, "--action");

    if (option && !str_ieq(option, "accept") && !str_ieq(option, "reject"))
        ui_fail(ui, E_INVALID, "The action is \"accept\" or \"reject\", not \"%s\".",
                str_printable(option));
    else if (option)
        return str_ieq(option, "reject");
    return ask_choice(ui, "action", "Select the action to apply to this address.", actions, now);
}

static void table_new(struct ui *ui, struct session *s, struct row *l)
{
    AUTO(strlist) struct strlist addresses = {0};
    char *question = xasprintf("%s\nSeparate multiple entries with commas.",
                               field_find(&section_rcpt_access, "address")->prompt);
    int action;

    ask_items(ui, &section_rcpt_access, "address", "address", question, NULL, &addresses);
    free(question);
    action = ask_action(ui, RCPT_ACCEPT);
    for (size_t i = 0; i < addresses.n && !ui_failed(ui); i++) {
        struct row *r;
        struct err err = {0};

        if (has_name(s, &section_rcpt_access, l->name, addresses.items[i])) {
            ui_fail(ui, E_EXISTS, "There is an entry for %s already. Use EDIT to change it.",
                    str_printable(addresses.items[i]));
            return;
        }
        r = session_new(s, &section_rcpt_access, l->name);
        if (!row_set(r, "address", addresses.items[i], &err) ||
            !row_set(r, "action", actions[action].word, &err))
            ui_error(ui, &err);
    }
}

static void table_edit(struct ui *ui, struct session *s, struct row *l)
{
    struct row *r = ask_row(ui, s, &section_rcpt_access, l->name, "edit");

    if (r)
        row_set(r, "action", actions[ask_action(ui, ((struct rcpt_access *)r->data)->action)].word,
                NULL);
}

static void table_delete(struct ui *ui, struct session *s, struct row *l)
{
    char *name = ask_name(ui, s, &section_rcpt_access, l->name, "delete");

    if (name)
        session_delete(s, &section_rcpt_access, name);
    free(name);
}

static bool print_entry(void *arg, const struct row *r)
{
    const struct rcpt_access *e = r->data;
    json_t *o = json_object();

    json_put_str(o, "address", e->address);
    json_put_str(o, "action", e->action == RCPT_ACCEPT ? "ACCEPT" : "REJECT");
    out_table_row(arg, o);
    return true;
}

static void table_print(struct ui *ui, struct session *s, struct row *l)
{
    static const struct out_column columns[] = {
        {"Address", "address", 0, false},
        {"Action",  "action",  0, false}
    };
    struct out_table *t;
    json_t *all;

    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    t = out_table_new(ui, "entries", columns, countof(columns), '=');
    all = json_object();
    session_each(s, &section_rcpt_access, l->name, print_entry, t);
    json_put_str(all, "address", "ALL");
    json_put_str(all, "action", "REJECT");
    out_table_row(t, all);
    out_table_end(&t);
}

static void table_clear(struct ui *ui, struct session *s, struct row *l)
{
    AUTO(strlist) struct strlist names = {0};

    if (!ask_confirm(ui, "confirm", "Are you sure you want to remove all entries?", false))
        return;
    session_names(s, &section_rcpt_access, l->name, &names);
    for (size_t i = 0; i < names.n; i++) {
        char *full = xasprintf("%s/%s", l->name, names.items[i]);

        session_delete(s, &section_rcpt_access, full);
        free(full);
    }
}

static bool has_entries(struct session *s, const struct row *l)
{
    return session_count(s, &section_rcpt_access, l->name) > 0;
}

static const struct menu_op table_ops[] = {
    {"NEW",    "Create a new entry.", NULL, table_new,    NULL       },
    {"EDIT",   "Modify an entry.",    NULL, table_edit,   has_entries},
    {"DELETE", "Remove an entry.",    NULL, table_delete, has_entries},
    {"PRINT",  "Display the table.",  NULL, table_print,  NULL       },
    {"CLEAR",  "Remove all entries.", NULL, table_clear,  has_entries},
};
const struct menu rcptaccess_menu = {say_table, table_ops, countof(table_ops),
                                     &section_rcpt_access};
