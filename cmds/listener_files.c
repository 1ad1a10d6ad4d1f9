/* listener_files.c - what HOSTACCESS and RCPTACCESS do with a whole table: files of the export area
 * in and out, clearing, resetting. The gateway reads and writes them. */
#include "cmds/listener.h"

static json_t *table_args(const struct row *l, const char *table)
{
    json_t *args = json_object();

    json_put_str(args, "listener", l->name);
    json_put_str(args, "table", table);
    return args;
}

static json_t *file_args(struct ui *ui, const struct row *l, const char *table,
                         const char *question)
{
    json_t *args = table_args(l, table);

    json_put_str(args, "name", ask_some(ui, "file", question));
    if (!ui_failed(ui) && ui_end_of_words(ui))
        return args;
    json_decref(args);
    return NULL;
}

static bool has_changed(struct session *s, const struct row *l, const json_t *data)
{
    session_forget(s, &section_mail_policy, l->name);
    session_forget(s, &section_sender_group, l->name);
    session_forget(s, &section_rcpt_access, l->name);
    return json_int(data, "new", 0) + json_int(data, "changed", 0) + json_int(data, "deleted", 0) >
           0;
}

void listener_import(struct ui *ui, struct session *s, const struct row *l, const char *table)
{
    json_t *args = file_args(ui, l, table, "Enter the name of the file to import:"),
           *data = args ? session_call(s, ui, "access.import", args) : NULL;
    const json_t *remarks = json_object_get(data, "remarks"), *remark;
    size_t i;

    if (!data)
        return;
    if (has_changed(s, l, data))
        ui_changed(ui);
    json_array_foreach(remarks, i, remark)
        out_line(ui, "Warning: %s", str_printable(json_string_value(remark)));
    ui_say(ui, "%lld entries imported successfully.", (long long)json_int(data, "entries", 0));
    out_data(ui, data);
}

void listener_export(struct ui *ui, struct session *s, const struct row *l, const char *table)
{
    bool replace = ui_flag(ui, "--replace");
    json_t *args = file_args(ui, l, table, "Enter a name for the exported file:"),
           *data = args ? call_writing(ui, s, "access.export", args, replace) : NULL;

    if (!data)
        return;
    ui_say(ui, "File written on machine \"%s\" to the location \"%s\".", session_hostname(s),
           json_str(data, "path", ""));
    out_data(ui, data);
}

static void change_table(struct ui *ui, struct session *s, const struct row *l, const char *table,
                         const char *op, const char *question)
{
    json_t *data;

    if (!ask_confirm(ui, "confirm", question, false) || !ui_end_of_words(ui))
        return;
    data = session_call(s, ui, op, table_args(l, table));
    if (data && has_changed(s, l, data))
        ui_changed(ui);
    out_data(ui, data);
}

void listener_clear(struct ui *ui, struct session *s, const struct row *l, const char *table)
{
    change_table(ui, s, l, table, "access.clear", "Are you sure you want to remove all entries?");
}

void listener_reset(struct ui *ui, struct session *s, const struct row *l)
{
    change_table(
        ui, s, l, "hat", "access.reset",
        "Are you sure you want to remove all senders and set the policies to the system default?");
}
