/* showchanges.c - the difference between two configurations; without words: what a commit would
 * change. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

/* What fits on a line of a difference: long and multi-line values are named by their size. */
static void add_value(struct buf *out, const char *text)
{
    size_t lines = 0;

    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    if (lines)
        buf_printf(out, "(%zu lines)", lines);
    else if (!*text)
        buf_str_add(out, "(empty)");
    else
        buf_str_add(out, str_printable(text));
}

static char *title_of(const json_t *object)
{
    const struct section *sec = section_find(json_str(object, "section", ""));

    return sec ? row_title(sec, json_str(object, "name", ""))
               : xstrdup(json_str(object, "name", ""));
}

static void print_tree(struct ui *ui, const json_t *object)
{
    const char *kind = json_str(object, "kind", "changed");
    char *title = title_of(object);
    json_t *f;
    size_t i;

    if (str_eq(kind, "changed"))
        out_line(ui, "%s", title);
    else if (str_eq(kind, "renamed"))
        out_line(ui, "%-60s (renamed from %s)", title, str_printable(json_str(object, "from", "")));
    else
        out_line(ui, "%-60s (%s)", title, kind);
    free(title);
    if (str_eq(kind, "deleted"))
        return;
    json_array_foreach(json_object_get(object, "fields"), i, f)
    {
        AUTO(buf) struct buf line = BUF_INIT(64u << 10);

        if (str_eq(kind, "new") && !*json_str(f, "new", ""))
            continue;
        buf_printf(&line, "    %-28s ", json_str(f, "name", ""));
        if (!str_eq(kind, "new")) {
            add_value(&line, json_str(f, "old", ""));
            buf_str_add(&line, " -> ");
        }
        add_value(&line, json_str(f, "new", ""));
        out_line(ui, "%s", buf_str(&line));
    }
}

/* A statement that does the same when it is typed. Secrets stand masked, as everywhere. */
static void print_batch(struct ui *ui, const json_t *object)
{
    const struct section *sec = section_find(json_str(object, "section", ""));
    AUTO(buf) struct buf line = BUF_INIT(1u << 20);
    bool deleted = str_eq(json_str(object, "kind", ""), "deleted");
    json_t *f;
    size_t i;

    if (!sec)
        return;
    buf_str_add(&line, sec->command);
    if (str_eq(json_str(object, "kind", ""), "renamed") && section_key(sec)) {
        buf_str_add(&line, " edit ");
        value_quote(json_str(object, "from", ""), &line);
        buf_printf(&line, " %s=", section_key(sec)->name);
        value_quote(json_str(object, "name", ""), &line);
    } else if (!sec->single) {
        buf_str_add(&line, deleted ? " delete " : " set ");
        value_quote(json_str(object, "name", ""), &line);
    }
    json_array_foreach(json_object_get(object, "fields"), i, f)
    {
        const struct field *field = field_find(sec, json_str(f, "name", ""));

        if (deleted || !field || field->key)
            continue;
        buf_printf(&line, " %s=", field->name);
        value_quote(json_str(f, "new", ""), &line);
    }
    out_line(ui, "%s", buf_str(&line));
}

static void put_side(json_t *args, const char *key, const char *word)
{
    char *end;
    long n = strtol(word, &end, 10);

    if (*end)
        json_put_str(args, key, word);
    else
        json_put_int(args, key, n);
}

static void run(struct ui *ui, struct session *s)
{
    const char *format = ui_option(ui, "--format"), *from = ui_word(ui),
               *to = from ? ui_word(ui) : NULL;
    bool batch = format && str_ieq(format, "batch");
    json_t *args = json_object(), *data, *o;
    size_t i;

    if (format && !batch && !str_ieq(format, "tree") && !str_ieq(format, "json"))
        ui_fail(ui, E_USAGE, "The format is tree, batch or json, not \"%s\".",
                str_printable(format));
    put_side(args, "from", from ? from : "running");
    put_side(args, "to", to ? to : "candidate");
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    data = session_call(s, ui, "config.diff", args);
    if (!data)
        return;
    if (!json_array_size(json_object_get(data, "objects")))
        ui_say(ui, "There are no changes.");
    json_array_foreach(json_object_get(data, "objects"), i, o)
    {
        if (out_stopped(ui))
            break;
        if (batch)
            print_batch(ui, o);
        else
            print_tree(ui, o);
    }
    out_data(ui, data);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    (void)words;
    offer(out, "running", "the committed configuration");
    offer(out, "candidate", "with your changes");
    offer(out, "--format=batch", "as statements");
}

const struct command cmd_showchanges = {
    .name = "showchanges",
    .help = "Display what was changed since the last commit",
    .usage = "showchanges [--format tree|batch|json]\n"
             "showchanges FROM [TO]",
    .detail = "FROM and TO are revision numbers, \"running\" or \"candidate\".",
    .roles = ROLE_READONLY,
    .run = run,
    .complete = complete,
};
