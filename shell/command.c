/* command.c - see command.h: which command a statement names, and how it is run. */
#include "shell/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shell/backend.h"
#include "shell/run.h"
#include "store/words.h"

#define COMMAND(name) &cmd_##name,
static const struct command *const commands[] = {
#include "cmds/commands.def"
};
#undef COMMAND

size_t command_count(void)
{
    return countof(commands);
}

const struct command *command_at(size_t i)
{
    return commands[i];
}

static bool has_alias(const struct command *c, const char *name)
{
    struct strlist names = {0};
    bool found = false;

    strlist_split(&names, c->aliases ? c->aliases : "", ' ');
    for (size_t i = 0; i < names.n; i++)
        found = found || str_ieq(names.items[i], name);
    strlist_free(&names);
    return found;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < countof(commands); i++) {
        if (str_ieq(commands[i]->name, name) || has_alias(commands[i], name))
            return commands[i];
    }
    return NULL;
}

bool command_allowed(const struct command *c, const struct session *s)
{
    return !s || session_role(s) >= c->roles;
}

static bool is_of(const struct section *sec, const struct command *c)
{
    size_t n = strlen(c->name);

    return strncmp(sec->command, c->name, n) == 0 && (!sec->command[n] || sec->command[n] == ' ');
}

const struct section *command_section(const struct command *c, size_t i)
{
    for (size_t n = 0; n < section_count(); n++) {
        if (is_of(section_at(n), c) && i-- == 0)
            return section_at(n);
    }
    return NULL;
}

/* --- sections on the line -------------------------------------------------------------------- */

/* Where the words stand that name a section, counted over the unused words. */
struct match {
    const struct section *section;
    size_t at[4], n; /* all of them, in order */
    size_t owner; /* which of them is the owner's name, from 1; 0: none does */
    size_t verb; /* where the verb stands */
};

static bool is_word(const struct ui *ui, size_t at, const char *word)
{
    const char *there = ui_peek(ui, at);

    return there && str_ieq(there, word);
}

/* "listenerconfig hostaccess policy VERB OWNER/NAME", "destconfig VERB NAME" */
static bool match_direct(const struct ui *ui, struct match *m, const struct strlist *path)
{
    for (size_t i = 1; i < path->n; i++) {
        if (!is_word(ui, i - 1, path->items[i]))
            return false;
        m->at[m->n++] = i - 1;
    }
    m->verb = m->n;
    return true;
}

/* "listenerconfig [edit] OWNER hostaccess VERB policy NAME", also "... hostaccess policy VERB NAME"
 */
static bool match_within(const struct ui *ui, struct match *m, const struct strlist *path)
{
    size_t owner = is_word(ui, 0, "edit") ? 1 : 0, at = owner + 2;

    if (!m->section->parent || path->n < 2 || !ui_peek(ui, owner) ||
        !is_word(ui, owner + 1, path->items[1]))
        return false;
    if (owner)
        m->at[m->n++] = 0;
    m->at[m->n++] = owner;
    m->owner = m->n;
    m->at[m->n++] = owner + 1;
    m->verb = at;
    if (path->n == 2)
        return true;
    m->verb = is_word(ui, at, path->items[2]) ? at + 1 : at;
    m->at[m->n++] = m->verb == at ? at + 1 : at;
    return is_word(ui, m->at[m->n - 1], path->items[2]);
}

/* The longest path that fits. */
static struct match find_section(const struct ui *ui, const struct command *c)
{
    struct match best = {0};
    const struct section *sec;

    for (size_t i = 0; (sec = command_section(c, i)) != NULL; i++) {
        struct match direct = {.section = sec}, within = {.section = sec};
        struct strlist path = {0};

        strlist_split(&path, sec->command, ' ');
        if (match_direct(ui, &direct, &path) && (!best.section || direct.n > best.n))
            best = direct;
        if (match_within(ui, &within, &path) && within.n > best.n)
            best = within;
        strlist_free(&path);
    }
    return best;
}

static bool menu_has(const struct menu *m, const char *word)
{
    for (size_t i = 0; m && word && i < m->n; i++) {
        if (str_ieq(m->ops[i].name, word))
            return true;
    }
    return false;
}

/* The uniform verbs; false: the line is for menu or run, with no word taken. */
static bool run_verbs(struct ui *ui, struct session *s, const struct command *c)
{
    struct match m = find_section(ui, c);
    const char *verb = ui_peek(ui, m.verb);
    AUTO(str) char *owner = NULL;
    bool *used, taken;

    if (!m.section)
        return false;
    /* What a command lists in its own way is its own. */
    if (verb && (str_ieq(verb, "list") || str_ieq(verb, "print") || str_ieq(verb, "detail")) &&
        (m.section->own_lists || (!m.n && menu_has(c->menu, verb))))
        return false;
    used = xcalloc(ui->words.n + 1, sizeof(*used));
    for (size_t i = 0; i < ui->words.n; i++)
        used[i] = ui->words.items[i].used;
    if (m.owner)
        owner = xstrdup(ui_peek(ui, m.at[m.owner - 1]));
    for (size_t i = m.n; i-- > 0;)
        ui_use(ui, m.at[i]); /* from the last: the places of the others stay */
    taken = dialog_verbs(ui, s, m.section, owner);
    for (size_t i = 0; i < ui->words.n && !taken; i++)
        ui->words.items[i].used = used[i];
    free(used);
    return taken;
}

/* --- running --------------------------------------------------------------------------------- */

/* Edits to turn one word into the other, at most limit. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[40], n = (unsigned)strlen(b);

    if (strlen(a) >= 39 || n >= 39)
        return 99;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

            best = best < above + 1 ? best : above + 1;
            best = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[n];
}

static void unknown_command(struct ui *ui, const struct session *s, const char *name)
{
    const struct command *near = NULL;
    unsigned best = 3;
    AUTO(str) char *lower = xstrdup(name);

    str_lower(lower);
    for (size_t i = 0; i < countof(commands); i++) {
        unsigned d = distance(lower, commands[i]->name);

        if (strlen(lower) >= 3 && str_starts(commands[i]->name, lower))
            d = 1;
        if (command_allowed(commands[i], s) && d < best && d * 2 < strlen(commands[i]->name)) {
            best = d;
            near = commands[i];
        }
    }
    if (near)
        ui_fail(ui, E_USAGE, "Unknown command or missing feature key: %s\nDid you mean \"%s\"?",
                str_printable(name), near->name);
    else
        ui_fail(ui, E_USAGE, "Unknown command or missing feature key: %s", str_printable(name));
}

static void run_found(struct ui *ui, struct session *s, const struct command *c)
{
    unsigned mark = session_mark(s);

    ui->command = c;
    ui->section = c->section;
    if (!run_verbs(ui, s, c)) {
        if (c->run)
            c->run(ui, s);
        else if (c->menu)
            run_menu(ui, s, c->menu, NULL);
        else
            ui_fail(ui, E_USAGE, "Say what to do; \"help %s\" shows how.", c->name);
    }
    if (!ui_failed(ui))
        ui_end_of_words(ui);
    if (!ui_failed(ui))
        session_flush(s, ui);
    session_end_command(s, mark, !ui_failed(ui));
}

int run_statement(struct ui *ui, struct session *s, struct words *words)
{
    char *name = xstrdup(words->items[0].text);
    const struct command *c = command_find(name);
    int code;

    ui_begin(ui, words);
    session_use(s, ui);
    ui->words.items[0].used = true;
    ui->json = ui_flag(ui, "--json") || ui->json_always;
    ui->yes = ui_flag(ui, "--yes") || ui->yes_always;
    if (ui_flag(ui, "--no-input"))
        ui->no_input = true;
    if (c && command_allowed(c, s))
        run_found(ui, s, c);
    else
        unknown_command(ui, s, name);
    code = ui_finish(ui, c ? c->name : name, ui->json ? session_state(s) : NULL);
    free(name);
    return code;
}

int run_statements(struct ui *ui, struct session *s, struct statements *list)
{
    int code = 0;

    for (size_t i = 0; i < list->n && !code; i++) {
        if (i && ui->backend)
            ui_gap(ui);
        code = run_statement(ui, s, &list->items[i]);
        if (ui->leave || (ui->end && ui->end != UI_FAILED))
            break;
    }
    return code;
}

bool line_has_secret(const char *line)
{
    struct statements list = {0};
    bool found = false;

    if (!words_parse(line, strlen(line), NULL, NULL, &list, NULL))
        return true; /* better lost than kept: a quotation mark may be missing around it */
    for (size_t i = 0; i < list.n && !found; i++) {
        for (size_t w = 0; w < list.items[i].n && !found; w++) {
            const char *key = list.items[i].items[w].key;

            found = key && (strstr(key, "pass") || strstr(key, "secret"));
            for (size_t n = 0; key && n < section_count() && !found; n++) {
                const struct field *f = field_find(section_at(n), key);

                found = f && f->secret;
            }
        }
    }
    statements_free(&list);
    return found;
}

/* --- batch forms ----------------------------------------------------------------------------- */

static void value_hint(const struct field *f, struct buf *out)
{
    if (f->type == &type_choice) {
        for (size_t i = 0; f->choices[i].word; i++)
            buf_printf(out, "%s%s", i ? "|" : "", f->choices[i].word);
    } else if (f->type == &type_boolean) {
        buf_str_add(out, "yes|no");
    } else {
        AUTO(str) char *name = xstrdup(f->ref ? f->ref : f->type->name);

        for (char *p = name; *p; p++)
            *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        buf_str_add(out, name);
    }
}

/* The form of a statement: everything before and behind the verb. */
static void statement_form(const struct section *sec, char **before, char **behind)
{
    struct strlist path = {0};

    strlist_split(&path, sec->command, ' ');
    if (sec->parent && path.n > 1) {
        *before = xasprintf("%s edit OWNER %s", path.items[0], path.items[1]);
        *behind = xasprintf("%s%sNAME", path.n > 2 ? path.items[2] : "", path.n > 2 ? " " : "");
    } else {
        *before = xstrdup(sec->command);
        *behind = xstrdup("NAME");
    }
    strlist_free(&path);
}

static void section_usage(const struct section *sec, struct buf *out)
{
    AUTO(str) char *a = NULL;
    AUTO(str) char *b = NULL;

    statement_form(sec, &a, &b);
    if (sec->single && sec->lead)
        buf_printf(out, "%s [%s] [FIELD=VALUE ...]\n", sec->command, sec->lead);
    else if (sec->single)
        buf_printf(out, "%s FIELD=VALUE ...\n", sec->command);
    if (sec->single) {
        buf_printf(out, "%s print\n", sec->command);
    } else {
        buf_printf(out, "%s new|set|replace %s [FIELD=VALUE ...] [--if-not-exists]\n", a, b);
        buf_printf(out, "%s edit %s FIELD=VALUE ... [--if-exists]\n", a, b);
        buf_printf(out, "%s delete|absent %s [--if-exists]\n", a, b);
        if (sec->ordered)
            buf_printf(out, "%s move %s first|last|before=NAME|after=NAME\n", a, b);
        buf_printf(out, "%s print %s\n", a, b);
        b[strlen(b) - strlen("NAME")] = '\0';
        buf_printf(out, "%s list%s%s\n", a, *b ? " " : "", str_trim(b));
    }
    for (size_t i = 0; i < sec->nfields; i++) {
        const struct field *f = &sec->fields[i];

        if (f->key || (f->hidden && str_eq(f->name, "position")))
            continue;
        buf_printf(out, "    %s=", f->name);
        value_hint(f, out);
        buf_char(out, '\n');
    }
}

void command_usage(const struct command *c, struct buf *out)
{
    const struct section *sec;
    size_t start = out->n;

    if (c->usage)
        buf_printf(out, "%s\n", c->usage);
    for (size_t i = 0; (sec = command_section(c, i)) != NULL; i++) {
        if (out->n > start)
            buf_char(out, '\n');
        section_usage(sec, out);
    }
    if (out->n == start)
        buf_printf(out, "%s\n", c->name);
}
