/* help.c - see help.h. */
#include "shell/help.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/out.h"

#define MAX_PAGE (1u << 20)

void help_list(struct ui *ui, struct session *s)
{
    static const struct out_column columns[] = {
        {.title = "Command", .key = "command"},
        {.title = "Purpose", .key = "purpose"}
    };
    json_t *list = json_array();
    unsigned widest = 0, width = ui_width(ui);

    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        unsigned n = (unsigned)strlen(c->name);

        if (!command_allowed(c, s))
            continue;
        widest = n > widest ? n : widest;
        json_array_append_new(
            list, json_pack("{ssss}", columns[0].key, c->name, columns[1].key, c->help));
    }
    for (size_t i = 0; i < json_array_size(list) && !out_json(ui); i++) {
        const json_t *c = json_array_get(list, i);
        int room = width ? (int)width - (int)widest - 2 : 1000;

        out_line(ui, "%-*s  %.*s", (int)widest, json_str(c, "command", ""), room > 0 ? room : 0,
                 json_str(c, "purpose", ""));
    }
    if (!out_json(ui)) {
        out_line(ui, "%s", "");
        out_line(ui,
                 "\"help NAME\" explains a command; \"?\" explains at any point, Tab completes.");
    }
    out_data(ui, json_pack("{so}", "commands", list));
}

static const char *role_name(unsigned roles)
{
    return roles >= ROLE_ADMIN      ? "administrator"
           : roles >= ROLE_OPERATOR ? "operator"
           : roles >= ROLE_READONLY ? "read-only operator"
                                    : "guest";
}

void help_command(struct ui *ui, const struct command *c, bool batch)
{
    AUTO(buf) struct buf usage = BUF_INIT(MAX_PAGE);

    command_usage(c, &usage);
    if (!batch) {
        out_line(ui, "%s - %s", c->name, c->help);
        if (c->aliases)
            out_line(ui, "Also known as: %s", c->aliases);
        if (c->detail) {
            out_line(ui, "%s", "");
            out_prose(ui, c->detail);
        }
        out_line(ui, "\nRole: %s. Changes %s.\n\nBatch forms:", role_name(c->roles),
                 c->commits ? "need \"commit\"" : "need no commit");
    }
    out_text(ui, buf_str(&usage));
    out_data(ui, json_pack("{ssssss}", "command", c->name, "purpose", c->help, "usage",
                           buf_str(&usage)));
}

/* --- the reference pages --------------------------------------------------------------------- */

/* Text inside a table: the bar separates cells. */
static void cell(struct buf *out, const char *text)
{
    buf_str_add(out, "| ");
    for (; text && *text; text++) {
        if (*text == '|' || *text == '<' || *text == '*' || *text == '_')
            buf_char(out, '\\');
        buf_char(out, *text == '\n' ? ' ' : *text);
    }
    buf_char(out, ' ');
}

static void values(struct buf *out, const struct field *f)
{
    if (f->type == &type_choice) {
        for (const struct choice *c = f->choices; c->word; c++)
            buf_printf(out, "%s`%s`", c == f->choices ? "" : ", ", c->word);
    } else if (f->ref) {
        buf_printf(out, "name of %s %s", str_article(section_find(f->ref)->noun),
                   section_find(f->ref)->noun);
    } else {
        buf_str_add(out, f->type->name);
        if (f->max && (f->type == &type_uint || f->type == &type_port || f->type == &type_size ||
                       f->type == &type_duration))
            buf_printf(out, ", %llu to %llu", (unsigned long long)f->min,
                       (unsigned long long)f->max);
        else if (f->max && f->type != &type_boolean)
            buf_printf(out, ", at most %llu bytes", (unsigned long long)f->max);
        if (f->zero)
            buf_printf(out, ", `%s` for 0", f->zero);
        if (f->top)
            buf_printf(out, ", `%s` for the maximum", f->top);
    }
    if (f->required)
        buf_str_add(out, "; required");
    if (f->secret)
        buf_str_add(out, "; secret");
}

static void section_table(struct buf *out, const struct section *sec)
{
    buf_printf(out, "\n## Settings of %s %s\n\n", str_article(sec->noun), sec->noun);
    buf_str_add(
        out,
        "| field | meaning | values | default | explanation |\n| --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sec->nfields; i++) {
        const struct field *f = &sec->fields[i];
        AUTO(buf) struct buf v = BUF_INIT(4096);

        values(&v, f);
        buf_printf(out, "| `%s` ", f->name);
        cell(out, f->label);
        buf_printf(out, "| %s ", buf_str(&v));
        cell(out, f->deflt ? f->deflt : f->type == &type_choice ? f->choices[0].word : "");
        cell(out, f->help ? f->help : f->prompt);
        buf_str_add(out, "|\n");
    }
}

static void page(struct buf *out, const struct command *c)
{
    const struct section *sec;

    buf_printf(out, "# %s\n\n%s.\n\n", c->name, c->help);
    if (c->detail)
        buf_printf(out, "%s\n\n", c->detail);
    if (c->aliases)
        buf_printf(out, "- Also known as: `%s`\n", c->aliases);
    buf_printf(out, "- Least role: %s\n- Changes %s\n\n## Batch forms\n\n```\n",
               role_name(c->roles), c->commits ? "take effect with `commit`" : "need no commit");
    command_usage(c, out);
    buf_str_add(out, "```\n");
    if (c->menu) {
        buf_str_add(out, "\n## Operations\n\n| operation | purpose |\n| --- | --- |\n");
        for (size_t i = 0; i < c->menu->n; i++) {
            buf_printf(out, "| `%s` ", c->menu->ops[i].name);
            cell(out, c->menu->ops[i].help);
            buf_str_add(out, "|\n");
        }
    }
    for (size_t i = 0; (sec = command_section(c, i)) != NULL; i++)
        section_table(out, sec);
}

/* A page that is the same already is left alone, so that make knows. */
static bool write_page(const char *dir, const char *name, const struct buf *text, struct err *err)
{
    AUTO(str) char *path = xasprintf("%s/%s.md", dir, name);
    FILE *f = fopen(path, "re");
    char *now = xcalloc(1, text->n + 2);
    bool same = f && fread(now, 1, text->n + 1, f) == text->n && memcmp(now, text->p, text->n) == 0,
         ok;

    free(now);
    if (f)
        fclose(f);
    if (same)
        return true;
    f = fopen(path, "we");
    if (!f)
        return err_errno(err, errno, "writing %s", path);
    ok = fwrite(text->p, 1, text->n, f) == text->n;
    ok = fclose(f) == 0 && ok;
    return ok || err_errno(err, errno, "writing %s", path);
}

bool help_reference(const char *dir, struct err *err)
{
    AUTO(buf) struct buf index = BUF_INIT(MAX_PAGE);

    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return err_errno(err, errno, "making %s", dir);
    buf_str_add(&index, "# Commands\n\nMade by `make reference` from the table of commands and the "
                        "schema; not edited by hand.\n\n"
                        "| command | purpose |\n| --- | --- |\n");
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        AUTO(buf) struct buf text = BUF_INIT(MAX_PAGE);

        buf_printf(&index, "| [%s](%s.md) ", c->name, c->name);
        cell(&index, c->help);
        buf_str_add(&index, "|\n");
        page(&text, c);
        if (!write_page(dir, c->name, &text, err))
            return false;
    }
    return write_page(dir, "README", &index, err);
}
