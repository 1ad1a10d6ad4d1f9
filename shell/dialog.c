/* dialog.c - see dialog.h. Everything here is made from the schema: no section is named. */
#include "shell/dialog.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/command.h"
#include "shell/event.h"
#include "shell/out.h"
#include "store/check.h"
#include "store/text.h"

#define LISTED 40 /* so many objects are shown as a numbered list; more are asked for by name */

static const char *plural(const struct section *sec)
{
    return sec->plural ? sec->plural : sec->noun;
}

static const char *owner_of(const struct section *sec, const struct row *row)
{
    return sec && sec->parent && row && str_eq(row->section->name, sec->parent) ? row->name : NULL;
}

static char *full_name(const struct section *sec, const char *owner, const char *name)
{
    return sec->parent && owner ? xasprintf("%s/%s", owner, name) : xstrdup(name);
}

/* --- one field ------------------------------------------------------------------------------- */

struct asking {
    struct ui *ui;
    struct session *s;
    struct row *row;
    const struct field *f;
    const char *prompt; /* other words than the field's own, or NULL */
    bool (*fits)(const struct row *object); /* which objects can be named, NULL: all */
    bool none; /* of them: whether the list begins with None */
    struct strlist names; /* of a numbered list of objects */
};

static const char *article(const struct section *sec)
{
    return str_eq(str_article(sec->noun), "an") ? "An" : "A";
}

/* Looked up with the row under its new name for a moment. */
static bool name_is_free(struct asking *a, const struct row *trial, struct err *err)
{
    char *old = a->row->name;
    bool taken;

    if (str_eq(trial->name, old))
        return true;
    a->row->name = trial->name;
    taken = session_taken(a->s, a->row);
    a->row->name = old;
    return !taken || err_set(err, E_EXISTS, "%s %s \"%s\" exists already.",
                             article(a->row->section), a->row->section->noun,
                             str_printable(row_leaf(trial)));
}

/* "" typed as two quotation marks empties a value: Enter alone keeps it. */
static const char *meant(const char *answer)
{
    return str_eq(answer, "\"\"") ? "" : answer;
}

static bool accept_value(void *arg, const char *answer, struct err *err)
{
    struct asking *a = arg;
    struct row *trial = row_copy(a->row);
    bool ok = row_set(trial, a->f->name, meant(answer), err) &&
              (!a->f->key || name_is_free(a, trial, err));

    row_free(&trial);
    return ok;
}

static void set_value(struct asking *a, const char *answer)
{
    struct err err = {0};

    if (!ui_failed(a->ui) && !row_set(a->row, a->f->name, meant(answer), &err))
        ui_error(a->ui, &err);
}

static const char *prompt_of(const struct asking *a)
{
    const struct field *f = a->f;

    return a->prompt ? a->prompt : f->prompt ? f->prompt : f->label ? f->label : f->name;
}

static void ask_choice_field(struct asking *a)
{
    const struct choice *choices = a->f->choices;
    struct ui_choice list[64] = {0};
    int now = *(const int *)row_slot(a->row, a->f), n = 0;

    for (; choices[n].word && n + 1 < (int)countof(list); n++)
        list[n] = (struct ui_choice){choices[n].word, choices[n].text};
    n = ask_choice(a->ui, a->f->name, prompt_of(a), list, now);
    set_value(a, list[n].word);
}

/* The object that an answer names, by its name or its number; "" for none; NULL: no such thing. */
static const char *listed(const struct asking *a, const char *answer)
{
    unsigned long number = isdigit((unsigned char)*answer) ? strtoul(answer, NULL, 10) : 0;

    for (size_t i = 0; i < a->names.n; i++)
        if (str_eq(a->names.items[i], answer))
            return a->names.items[i];
    if (a->none && (number == 1 || str_ieq(answer, "none") || !*meant(answer)))
        return "";
    number -= a->none;
    return number >= 1 && number <= a->names.n ? a->names.items[number - 1] : NULL;
}

static bool accept_listed(void *arg, const char *answer, struct err *err)
{
    const struct asking *a = arg;

    if (listed(a, answer))
        return true;
    if (!*answer)
        return err_set(err, E_USAGE, "A value is required.");
    return err_set(err, E_NOT_FOUND, "There is no %s \"%s\"%s.", section_find(a->f->ref)->noun,
                   str_printable(answer), a->fits ? " that could be used here" : "");
}

static void offer_listed(void *arg, const char *typed, struct offers *out)
{
    const struct asking *a = arg;

    (void)typed;
    if (a->none)
        offer(out, "none", NULL);
    for (size_t i = 0; i < a->names.n; i++)
        offer(out, a->names.items[i], NULL);
}

static bool collect_fitting(void *arg, const struct row *object)
{
    struct asking *a = arg;

    if (!a->fits || a->fits(object))
        strlist_add(&a->names, object->name);
    return true;
}

/* A field that names an object of another section. */
static void ask_ref_field(struct asking *a, const struct section *target)
{
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);
    struct ui_question q = {.key = a->f->name,
                            .help = a->f->help,
                            .offer = offer_listed,
                            .accept = accept_listed,
                            .arg = a};
    AUTO(str) char *now = xstrdup(row_text(a->row, a->f->name));
    const char *answer;
    size_t n = a->none;
    char number[24] = "";

    if (a->fits)
        session_each(a->s, target, NULL, collect_fitting, a);
    else
        session_names(a->s, target, NULL, &a->names);
    buf_str_add(&text, prompt_of(a));
    if (n && a->names.n <= LISTED)
        buf_str_add(&text, "\n1. None");
    if (!*now && (a->none || (ui_interactive(a->ui) && (a->fits || a->names.n == 1))))
        str_copy(number, sizeof(number), "1");
    for (size_t i = 0; i < a->names.n; i++) {
        if (a->names.n <= LISTED)
            buf_printf(&text, "\n%zu. %s", ++n, str_printable(a->names.items[i]));
        if (str_eq(a->names.items[i], now))
            snprintf(number, sizeof(number), "%zu", n);
    }
    q.text = buf_str(&text);
    q.deflt = a->names.n <= LISTED ? number : now;
    if (!*q.deflt && !a->none)
        q.deflt = NULL;
    answer = listed(a, ui_ask(a->ui, &q));
    set_value(a, answer ? answer : now);
}

static void ask_secret_field(struct asking *a)
{
    bool has = *row_text(a->row, a->f->name);
    char *prompt = has ? xasprintf("%s (Enter keeps the one there is)", prompt_of(a))
                       : xstrdup(prompt_of(a));
    AUTO(secret_text) char *plain = ask_secret(a->ui, a->f->name, prompt);

    free(prompt);
    if (!ui_failed(a->ui) && *plain)
        session_secret(a->s, a->row, a->f->name, plain);
    else if (!ui_failed(a->ui) && !has && a->f->required)
        ui_fail(a->ui, E_INVALID, "The %s may not be empty.",
                a->f->label ? a->f->label : a->f->name);
}

static void ask_pem_field(struct asking *a)
{
    char *prompt = xasprintf("%s (end with a line holding only \".\")", prompt_of(a));
    AUTO(str) char *text = ask_block(a->ui, a->f->name, prompt);

    free(prompt);
    if (!ui_failed(a->ui))
        set_value(a, text);
}

/* What "?" says: the schema's words, then what the type and its limits say. */
static char *explain(const struct field *f, bool may_be_emptied)
{
    AUTO(buf) struct buf out = BUF_INIT(4096);
    bool number = f->type == &type_uint || f->type == &type_port;

    if (f->help)
        buf_printf(&out, "%s\n", f->help);
    if (number && f->max)
        buf_printf(&out, "A number from %llu to %llu.\n", (unsigned long long)f->min,
                   (unsigned long long)f->max);
    else if (number)
        buf_str_add(&out, "A number.\n");
    else if (f->type == &type_size)
        buf_str_add(&out, "A size in bytes; k, M or G behind it multiply.\n");
    else if (f->type == &type_duration)
        buf_str_add(&out, "A time in seconds, or with s, m, h or d behind the number.\n");
    else if (f->type == &type_list)
        buf_str_add(&out, "Several are separated by commas.\n");
    else if (f->max)
        buf_printf(&out, "At most %llu characters.\n", (unsigned long long)f->max);
    if (f->zero)
        buf_printf(&out, "\"%s\" stands for 0.\n", f->zero);
    if (f->top)
        buf_printf(&out, "\"%s\" stands for %llu.\n", f->top, (unsigned long long)f->max);
    if (f->deflt && *f->deflt)
        buf_printf(&out, "The factory setting is %s.\n", f->deflt);
    if (may_be_emptied)
        buf_str_add(&out, "Type \"\" (two quotation marks) for none.\n");
    while (out.n && out.p[out.n - 1] == '\n')
        out.n--;
    return xstrndup(out.p ? out.p : "", out.n);
}

static void ask_text_field(struct asking *a)
{
    const char *now = row_text(a->row, a->f->name);
    struct err err = {0};
    AUTO(str) char *help = explain(a->f, *now && accept_value(a, "\"\"", &err));
    struct ui_question q = {
        .text = prompt_of(a), .key = a->f->name, .accept = accept_value, .arg = a};

    q.deflt = !*now && a->f->required ? NULL : now;
    q.help = *help ? help : NULL;
    set_value(a, ui_ask(a->ui, &q));
}

static void ask_it(struct asking *a, const char *field)
{
    const struct section *target;

    if (!a->row || ui_failed(a->ui))
        return;
    a->f = field_find(a->row->section, field);
    if (!a->f) {
        ui_fail(a->ui, E_USAGE, "%s %s has no field \"%s\".", article(a->row->section),
                a->row->section->noun, field);
        return;
    }
    target = a->f->ref ? section_find(a->f->ref) : NULL;
    a->none = a->fits ? a->none : !a->f->required;
    if (a->f->type == &type_boolean)
        set_value(a, ask_yes(a->ui, a->f->name, prompt_of(a), *(const bool *)row_slot(a->row, a->f))
                         ? "yes"
                         : "no");
    else if (a->f->type == &type_choice)
        ask_choice_field(a);
    else if (a->f->secret)
        ask_secret_field(a);
    else if (a->f->type == &type_pem)
        ask_pem_field(a);
    else if (target && a->f->type != &type_list)
        ask_ref_field(a, target);
    else
        ask_text_field(a);
    strlist_free(&a->names);
}

void ask_field(struct ui *ui, struct session *s, struct row *r, const char *field)
{
    struct asking a = {.ui = ui, .s = s, .row = r};

    ask_it(&a, field);
}

void ask_field_as(struct ui *ui, struct session *s, struct row *r, const char *field,
                  const char *question)
{
    struct asking a = {.ui = ui, .s = s, .row = r, .prompt = question};

    ask_it(&a, field);
}

void ask_ref(struct ui *ui, struct session *s, struct row *r, const char *field,
             bool (*fits)(const struct row *object), bool none)
{
    struct asking a = {.ui = ui, .s = s, .row = r, .fits = fits, .none = none};

    ask_it(&a, field);
}

void ask_group(struct ui *ui, struct session *s, struct row *r, const char *group)
{
    for (size_t i = 0; r && i < r->section->nfields; i++) {
        if (str_eq(r->section->fields[i].group, group))
            ask_field(ui, s, r, r->section->fields[i].name);
    }
}

void ask_all(struct ui *ui, struct session *s, struct row *r)
{
    for (size_t i = 0; r && i < r->section->nfields; i++) {
        if (!r->section->fields[i].hidden)
            ask_field(ui, s, r, r->section->fields[i].name);
    }
}

/* --- which object ---------------------------------------------------------------------------- */

struct picking {
    struct session *s;
    const struct section *sec;
    const char *owner;
    char *name; /* the one found, full */
};

static bool find_object(void *arg, const char *answer, struct err *err)
{
    struct picking *p = arg;
    char *name = full_name(p->sec, p->owner, answer);
    struct row *row = *answer ? session_get(p->s, p->sec, name) : NULL;
    struct strlist names = {0};

    free(name);
    str_free(&p->name);
    if (row) {
        p->name = xstrdup(row->name);
        row_free(&row);
        return true;
    }
    if (isdigit((unsigned char)*answer)) {
        unsigned long n = strtoul(answer, NULL, 10);

        session_names(p->s, p->sec, p->owner, &names);
        if (n >= 1 && n <= names.n)
            p->name = full_name(p->sec, p->owner, names.items[n - 1]);
        strlist_free(&names);
    }
    if (p->name)
        return true;
    return err_set(err, E_NOT_FOUND, "There is no %s \"%s\".", p->sec->noun, str_printable(answer));
}

static void offer_objects(void *arg, const char *typed, struct offers *out)
{
    const struct picking *p = arg;
    struct strlist names = {0};

    session_find(p->s, p->sec, p->owner, typed, 200, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
    strlist_free(&names);
}

static bool accept_object(void *arg, const char *answer, struct err *err)
{
    return !*answer || find_object(arg, answer, err);
}

char *ask_name(struct ui *ui, struct session *s, const struct section *sec, const char *owner,
               const char *verb)
{
    struct picking p = {s, sec, owner, NULL};
    AUTO(str)
    char *text = xasprintf("Enter the name or number of the %s you wish to %s.", sec->noun, verb);
    struct ui_question q = {
        .text = text, .key = "name", .offer = offer_objects, .accept = accept_object, .arg = &p};

    if (ui_interactive(ui))
        q.help = "Enter alone goes back.";
    ui_ask(ui, &q);
    if (ui_failed(ui))
        str_free(&p.name);
    return p.name;
}

struct row *ask_row(struct ui *ui, struct session *s, const struct section *sec, const char *owner,
                    const char *verb)
{
    AUTO(str) char *name = ask_name(ui, s, sec, owner, verb);

    return name ? session_edit(s, sec, name) : NULL;
}

/* --- operations for menus -------------------------------------------------------------------- */

void dialog_new(struct ui *ui, struct session *s, struct row *owner)
{
    struct row *r = session_new(s, ui->section, owner_of(ui->section, owner));

    ask_all(ui, s, r);
    if (!ui_failed(ui))
        ui_say(ui, "%c%s \"%s\" created.", toupper((unsigned char)ui->section->noun[0]),
               ui->section->noun + 1, str_printable(row_leaf(r)));
}

void dialog_edit(struct ui *ui, struct session *s, struct row *owner)
{
    struct row *r = ui->section->single
                        ? session_edit(s, ui->section, "-")
                        : ask_row(ui, s, ui->section, owner_of(ui->section, owner), "edit");

    ask_all(ui, s, r);
}

void dialog_delete(struct ui *ui, struct session *s, struct row *owner)
{
    const struct section *sec = ui->section;
    AUTO(str) char *name = ask_name(ui, s, sec, owner_of(sec, owner), "delete");

    if (!name)
        return;
    session_delete(s, sec, name);
    ui_say(ui, "%c%s \"%s\" deleted.", toupper((unsigned char)sec->noun[0]), sec->noun + 1,
           str_printable(sec->parent && strchr(name, '/') ? strchr(name, '/') + 1 : name));
}

void dialog_list(struct ui *ui, struct session *s, struct row *owner)
{
    print_rows(ui, s, ui->section, owner_of(ui->section, owner));
}

void dialog_print(struct ui *ui, struct session *s, struct row *owner)
{
    const struct section *sec = ui->section;
    AUTO(str)
    char *name = sec->single ? xstrdup("-") : ask_name(ui, s, sec, owner_of(sec, owner), "print");
    struct row *r = name && ui_end_of_words(ui) ? session_get(s, sec, name) : NULL;

    if (r)
        print_row(ui, r);
    row_free(&r);
}

/* .applies has no ui; the session knows whose turn it is. */
bool dialog_any(struct session *s, const struct row *owner)
{
    const struct section *sec = session_section(s);

    return sec && session_count(s, sec, owner_of(sec, owner)) > 0;
}

/* --- printing -------------------------------------------------------------------------------- */

static bool is_secret(const struct field *f)
{
    return f->secret || f->type == &type_secret;
}

/* What may be shown of a field: a secret by its fingerprint only. */
static json_t *shown(const struct row *r, const struct field *f)
{
    const char *text, *fp;

    if (!is_secret(f))
        return f->type->to_json(f, row_slot(r, f));
    text = row_text(r, f->name);
    fp = strrchr(text, ':');
    return json_sprintf("%s%s%.6s%s", *text ? "(set" : "", fp ? ", k:" : "", fp ? fp + 1 : "",
                        *text ? ")" : "");
}

static json_t *shown_body(const struct row *r)
{
    json_t *body = json_object();

    if (!r->section->single)
        json_put_str(body, "name", r->name);
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        json_put(body, f->name, shown(r, f));
    }
    return body;
}

static json_t *text_record(const struct row *r)
{
    json_t *record = json_object();

    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];
        const char *text = row_text(r, f->name);

        if (f->type == &type_choice)
            text = f->choices[*(const int *)row_slot(r, f)].text;
        else if (f->type == &type_boolean)
            text = *(const bool *)row_slot(r, f) ? "Yes" : "No";
        if (is_secret(f))
            json_put(record, f->name, shown(r, f));
        else
            json_put_str(record, f->name, text);
    }
    return record;
}

enum form { FORM_TEXT, FORM_BATCH };

static void put_statement(struct ui *ui, const struct row *r)
{
    AUTO(buf) struct buf line = BUF_INIT((size_t)16 << 20);

    text_statement(r, NULL, &line);
    buf_char(&line, '\n');
    out_text(ui, buf_str(&line));
}

struct printing {
    struct ui *ui;
    struct out_table *table;
    enum form form;
};

static bool print_one(void *arg, const struct row *row)
{
    struct printing *p = arg;

    if (p->form == FORM_BATCH)
        put_statement(p->ui, row);
    else
        out_table_row(p->table, out_json(p->ui) ? shown_body(row) : text_record(row));
    return !out_stopped(p->ui);
}

/* The columns a table of the section has: its first visible fields. */
static size_t columns(const struct section *sec, struct out_column *cols, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < sec->nfields && n < max; i++) {
        const struct field *f = &sec->fields[i];

        if (!f->hidden && !is_secret(f))
            cols[n++] = (struct out_column){.title = f->label ? f->label : f->name, .key = f->name};
    }
    return n;
}

static void print_rows_as(struct ui *ui, struct session *s, const struct section *sec,
                          const char *owner, enum form form)
{
    struct out_column cols[5];
    size_t n = columns(sec, cols, countof(cols));
    struct printing p = {.ui = ui, .form = form};

    if (form == FORM_TEXT && !out_json(ui) && ui_interactive(ui) && !session_count(s, sec, owner)) {
        out_line(ui, "There are no %s.", plural(sec));
        return;
    }
    if (form == FORM_TEXT)
        p.table = out_table_new(ui, "entries", cols, n, '=');
    session_each(s, sec, owner, print_one, &p);
    out_table_end(&p.table);
}

void print_rows(struct ui *ui, struct session *s, const struct section *sec, const char *owner)
{
    print_rows_as(ui, s, sec, owner, FORM_TEXT);
}

/* A text of many lines, each of them below its label. */
static void print_lines(struct ui *ui, const char *label, const char *text)
{
    out_line(ui, "%s:", label);
    while (*text) {
        size_t n = strcspn(text, "\n");
        AUTO(str) char *line = xstrndup(text, n);

        out_line(ui, "    %s", str_printable(line));
        text += n + (text[n] == '\n');
    }
}

static void print_row_as(struct ui *ui, const struct row *r, enum form form)
{
    AUTO(json) json_t *record = NULL;

    if (form == FORM_BATCH) {
        put_statement(ui, r);
        return;
    }
    if (out_json(ui)) {
        out_data(ui, shown_body(r));
        return;
    }
    record = text_record(r);
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        const char *label = f->label ? f->label : f->name, *text = json_str(record, f->name, "");

        if (!f->hidden && f->type == &type_pem)
            print_lines(ui, label, text);
        else if (!f->hidden)
            out_line(ui, "%s: %s", label, str_printable(text));
    }
}

void print_row(struct ui *ui, const struct row *r)
{
    print_row_as(ui, r, FORM_TEXT);
}

static void print_changed_field(struct ui *ui, const json_t *f, const char *kind)
{
    const char *was = json_str(f, "old", NULL), *now = json_str(f, "new", NULL),
               *name = json_str(f, "name", "");

    if (str_eq(kind, "new"))
        out_line(ui, "    %-26s %s", name, str_printable(now ? now : ""));
    else
        out_line(ui, "    %-26s %s -> %s", name, was && *was ? str_printable(was) : "(empty)",
                 now && *now ? str_printable(now) : "(empty)");
}

void print_diff(struct ui *ui, const json_t *diff)
{
    const json_t *objects = json_object_get(diff, "objects");
    json_t *o, *f;
    size_t i, k;

    if (out_json(ui)) {
        out_data(ui, json_deep_copy(diff));
        return;
    }
    json_array_foreach(objects, i, o)
    {
        const char *kind = json_str(o, "kind", ""), *name = json_str(o, "name", "-");

        out_line(ui, "%s%s%s%s", str_printable(json_str(o, "title", name)),
                 str_eq(kind, "changed") ? "" : "  (", str_eq(kind, "changed") ? "" : kind,
                 str_eq(kind, "changed") ? "" : ")");
        json_array_foreach(json_object_get(o, "fields"), k, f)
        {
            if (!str_eq(kind, "deleted"))
                print_changed_field(ui, f, kind);
        }
    }
}

/* --- the uniform verbs ----------------------------------------------------------------------- */

enum verb { NEW, EDIT, SET, REPLACE, DELETE, ABSENT, MOVE, LIST, PRINT, NO_VERB };

static enum verb verb_of(const char *word)
{
    static const struct {
        const char *word;
        enum verb verb;
    } verbs[] = {
        {"new",     NEW    },
        {"edit",    EDIT   },
        {"set",     SET    },
        {"replace", REPLACE},
        {"delete",  DELETE },
        {"absent",  ABSENT },
        {"move",    MOVE   },
        {"list",    LIST   },
        {"print",   PRINT  },
        {"detail",  PRINT  },
    };

    for (size_t i = 0; word && i < countof(verbs); i++) {
        if (str_ieq(word, verbs[i].word))
            return verbs[i].verb;
    }
    return NO_VERB;
}

bool dialog_is_verb(const char *word)
{
    return verb_of(word) != NO_VERB;
}

static bool has_keys(const struct ui *ui)
{
    for (size_t i = 0; i < ui->words.n; i++) {
        if (!ui->words.items[i].used && ui->words.items[i].key)
            return true;
    }
    return false;
}

/* "--action reject": an option of a menu's own. */
static bool has_options(const struct ui *ui)
{
    static const char *const ours[] = {"--if-exists", "--if-not-exists", "--format"};

    for (size_t i = 0; i < ui->words.n; i++) {
        const struct word *w = &ui->words.items[i];
        bool known = w->used || !w->flag;

        for (size_t k = 0; k < countof(ours); k++)
            known = known || str_starts(w->text, ours[k]);
        if (!known)
            return true;
    }
    return false;
}

/* Text of a value that is not in the line: "-" standard input, "@NAME" a file of the export area.
 */
static char *outside_value(struct ui *ui, struct session *s, const struct word *w)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    json_t *args, *data;
    char *p, *result = NULL;
    ssize_t n;

    if (*w->value == '@') {
        args = json_object();
        json_put_str(args, "name", w->value + 1);
        data = session_call(s, ui, "file.read", args);
        if (data)
            result = xstrdup(json_str(data, "text", ""));
        json_decref(data);
        return result;
    }
    if (ui->where || isatty(STDIN_FILENO)) {
        ui_fail(ui, E_USAGE, "%s=- reads standard input, which is not free here.", w->key);
        return NULL;
    }
    event_deadly(true);
    while ((p = buf_reserve(&text, 65536)) != NULL && (n = read(STDIN_FILENO, p, 65536)) > 0)
        text.n += (size_t)n;
    event_deadly(false);
    return xstrdup(buf_str(&text));
}

static void trim_newlines(char *text)
{
    size_t n = strlen(text);

    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        text[--n] = '\0';
}

static void set_secret(struct ui *ui, struct session *s, struct row *r, const struct field *f,
                       const struct word *w)
{
    AUTO(secret_text) char *plain = NULL;
    struct err err = {0};

    if (!*w->value || str_starts(w->value, "sealed:")) {
        if (!row_set(r, f->name, w->value, &err))
            ui_error(ui, &err);
        return;
    }
    if (str_eq(w->value, "-") || *w->value == '@')
        plain = outside_value(ui, s, w);
    else if (w->here || ui->where)
        plain = xstrdup(w->value);
    else
        ui_fail(
            ui, E_USAGE,
            "A secret cannot be given on the command line: use %s=- and give it on standard input.",
            w->key);
    if (!plain)
        return;
    if (!strchr(plain, '-')) /* a password, not a PEM text */
        trim_newlines(plain);
    session_secret(s, r, f->name, plain);
}

/* += and -= of a list. */
static void change_list(struct ui *ui, struct row *r, const struct field *f, const struct word *w)
{
    AUTO(buf) struct buf text = BUF_INIT((size_t)16 << 20);
    struct err err = {0};

    if (f->type != &type_list) {
        ui_fail(ui, E_USAGE, "\"%s\" is no list: use %s=VALUE.", w->key, w->key);
        return;
    }
    list_change(row_slot(r, f), w->value, w->op, &text);
    if (!row_set(r, f->name, buf_str(&text), &err))
        ui_error(ui, &err);
}

static void set_word(struct ui *ui, struct session *s, struct row *r, struct word *w)
{
    const struct field *f = field_find(r->section, w->key);
    AUTO(str) char *text = NULL;
    struct err err = {0};

    w->used = true;
    if (f && is_secret(f)) {
        set_secret(ui, s, r, f, w);
    } else if (f && w->op != '=') {
        change_list(ui, r, f, w);
    } else {
        if (f && f->type == &type_pem && (str_eq(w->value, "-") || *w->value == '@')) {
            text = outside_value(ui, s, w);
            if (!text)
                return;
        }
        if (!row_set(r, w->key, text ? text : w->value, &err)) {
            if (f)
                err_wrap(&err, "%s", w->key);
            ui_error(ui, &err);
        }
    }
}

static void set_words(struct ui *ui, struct session *s, struct row *r)
{
    for (size_t i = 0; i < ui->words.n && !ui_failed(ui); i++) {
        struct word *w = &ui->words.items[i];

        if (!w->used && w->key)
            set_word(ui, s, r, w);
    }
}

static void check_fields(struct ui *ui, const struct row *r)
{
    struct check check = {.row = r};

    if (ui_failed(ui))
        return;
    check_row_fields(r, &check);
    for (size_t i = 0; i < check.n && !ui_failed(ui); i++) {
        if (!check.items[i].warning)
            ui_fail(ui, E_INVALID, "%s%s%s", check.items[i].field ? check.items[i].field : "",
                    check.items[i].field ? ": " : "", check.items[i].text);
    }
    check_free(&check);
}

static void reset_fields(struct row *r)
{
    struct row *fresh = row_new(r->section, r->name);

    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        if (f->key || (r->section->ordered && str_eq(f->name, "position")))
            continue;
        f->type->release(row_slot(r, f));
        f->type->copy(row_slot(r, f), row_slot(fresh, f));
    }
    row_free(&fresh);
}

/* The defaults of the command's questions, for what the words did not say; there: what they give
 * way to, or NULL. */
static void fill(struct ui *ui, struct session *s, struct row *r, const struct row *there)
{
    const struct command *c = ui->command;
    struct row *said;

    if (ui_failed(ui) || !c || !c->fill || c->section != r->section)
        return;
    said = row_copy(r);
    c->fill(s, r);
    for (size_t i = 0; there && i < r->section->nfields; i++) {
        const char *name = r->section->fields[i].name;

        if (!str_eq(row_text(r, name), row_text(said, name)))
            row_set(r, name, row_text(there, name), NULL);
    }
    row_free(&said);
}

/* new, set and replace of an object that is not there. */
static void create(struct ui *ui, struct session *s, const struct section *sec, const char *name)
{
    const char *slash = sec->parent ? strchr(name, '/') : NULL;
    char *owner = slash ? xstrndup(name, (size_t)(slash - name)) : NULL;
    const struct section *parent = sec->parent ? section_find(sec->parent) : NULL;
    struct row *r, *there;
    struct err err = {0};

    if (sec->parent && !slash) {
        ui_fail(ui, E_USAGE, "Name the %s as %s/NAME.", sec->noun, parent->noun);
        return;
    }
    there = parent ? session_get(s, parent, owner) : NULL;
    if (parent && !there && !ui_failed(ui))
        ui_fail(ui, E_NOT_FOUND, "There is no %s \"%s\".", parent->noun, str_printable(owner));
    row_free(&there);
    if (!ui_failed(ui)) {
        r = session_new(s, sec, owner);
        if (!row_set(r, section_key(sec)->name, slash ? slash + 1 : name, &err))
            ui_error(ui, &err);
        set_words(ui, s, r);
        fill(ui, s, r, NULL);
        check_fields(ui, r);
    }
    free(owner);
}

static bool same_as_told(struct ui *ui, struct session *s, const struct row *there)
{
    struct row *trial = row_new(there->section, there->name);
    bool same;

    set_words(ui, s, trial);
    fill(ui, s, trial, there);
    if (there->section->ordered) /* the place in the order is not told */
        row_set(trial, "position", row_text(there, "position"), NULL);
    same = !ui_failed(ui) && row_equal(trial, there);
    row_free(&trial);
    return same;
}

static void change(struct ui *ui, struct session *s, enum verb verb, const struct section *sec,
                   const char *name, const struct row *there)
{
    struct row *r;

    if (verb == NEW) {
        if (!same_as_told(ui, s, there))
            ui_fail(ui, E_EXISTS, "%s %s \"%s\" exists already and differs.", article(sec), sec->noun,
                    str_printable(name));
        return;
    }
    r = session_edit(s, sec, name);
    if (!r)
        return;
    if (verb == REPLACE)
        reset_fields(r);
    set_words(ui, s, r);
    if (verb == REPLACE)
        fill(ui, s, r, there);
    if (!ui_failed(ui) && !str_eq(r->name, there->name) && session_taken(s, r))
        ui_fail(ui, E_EXISTS, "%s %s \"%s\" exists already.", article(sec), sec->noun,
                str_printable(row_leaf(r)));
    check_fields(ui, r);
}

struct order {
    struct strlist names;
};

static bool collect_order(void *arg, const struct row *row)
{
    strlist_add(&((struct order *)arg)->names, row->name);
    return true;
}

static size_t place_of(const struct strlist *names, const char *name)
{
    size_t i = 0;

    while (i < names->n && !str_eq(names->items[i], name))
        i++;
    return i;
}

/* move NAME first|last|before=OTHER|after=OTHER */
static void move(struct ui *ui, struct session *s, const struct section *sec,
                 const struct row *there)
{
    const char *where = ui_word(ui), *before = ui_key(ui, "before"), *after = ui_key(ui, "after");
    const char *slash = sec->parent ? strchr(there->name, '/') : NULL;
    AUTO(str) char *owner = slash ? xstrndup(there->name, (size_t)(slash - there->name)) : NULL;
    AUTO(str) char *other = before || after ? full_name(sec, owner, before ? before : after) : NULL;
    struct order o = {0};
    size_t from, to;
    char *moved;

    if (!sec->ordered || (!!before + !!after + !!where) != 1 ||
        (where && !str_ieq(where, "first") && !str_ieq(where, "last"))) {
        ui_fail(ui, E_USAGE,
                sec->ordered ? "Say where to: first, last, before=NAME or after=NAME."
                             : "The %s have no order.",
                plural(sec));
        return;
    }
    session_each(s, sec, owner, collect_order, &o);
    from = place_of(&o.names, there->name);
    to = other ? place_of(&o.names, other) : where && str_ieq(where, "last") ? o.names.n : 0;
    if (other && to == o.names.n)
        ui_fail(ui, E_NOT_FOUND, "There is no %s \"%s\".", sec->noun, str_printable(other));
    if (!ui_failed(ui) && from < o.names.n) {
        to += after ? 1 : 0;
        to -= to > from ? 1 : 0;
        moved = o.names.items[from];
        memmove(&o.names.items[from], &o.names.items[from + 1],
                (o.names.n - from - 1) * sizeof(char *));
        memmove(&o.names.items[to + 1], &o.names.items[to], (o.names.n - 1 - to) * sizeof(char *));
        o.names.items[to] = moved;
    }
    for (size_t i = 0; i < o.names.n && !ui_failed(ui); i++) {
        struct row *r = session_edit(s, sec, o.names.items[i]);
        char number[24];

        snprintf(number, sizeof(number), "%zu", i + 1);
        if (r)
            row_set(r, "position", number, NULL);
    }
    strlist_free(&o.names);
}

static enum form form_option(struct ui *ui)
{
    const char *form = ui_option(ui, "--format");

    if (!form || str_ieq(form, "text"))
        return FORM_TEXT;
    if (str_ieq(form, "json"))
        ui->json = true;
    else if (str_ieq(form, "batch"))
        return FORM_BATCH;
    else
        ui_fail(ui, E_USAGE, "--format is text, batch or json.");
    return FORM_TEXT;
}

static void on_object(struct ui *ui, struct session *s, enum verb verb, const struct section *sec,
                      const char *given)
{
    bool if_exists = ui_flag(ui, "--if-exists"), if_not = ui_flag(ui, "--if-not-exists");
    struct row *there = session_get(s, sec, given);

    if (ui_failed(ui))
        ;
    else if (verb == PRINT && there)
        print_row_as(ui, there, form_option(ui));
    else if ((verb == DELETE || verb == ABSENT) && there)
        session_delete(s, sec, there->name);
    else if (verb == MOVE && there)
        move(ui, s, sec, there);
    else if (there && verb == NEW && if_not)
        for (size_t i = 0; i < ui->words.n; i++)
            ui->words.items[i].used = true;
    else if (there)
        change(ui, s, verb, sec, given, there);
    else if (verb == NEW || verb == SET || verb == REPLACE)
        create(ui, s, sec, given);
    else if (verb == ABSENT || if_exists)
        for (size_t i = 0; i < ui->words.n; i++)
            ui->words.items[i].used = true;
    else
        ui_fail(ui, E_NOT_FOUND, "There is no %s \"%s\".", sec->noun, str_printable(given));
    row_free(&there);
}

static bool single_verbs(struct ui *ui, struct session *s, const struct section *sec)
{
    enum verb verb = verb_of(ui_peek(ui, 0));
    const char *lead = NULL;
    struct row *r;
    struct err err = {0};

    if (verb == NO_VERB && sec->lead)
        lead = ui_peek(ui, 0);
    if (ui_peek(ui, verb != NO_VERB || lead ? 1 : 0))
        return false;
    if (verb != LIST && verb != PRINT && !lead && !has_keys(ui))
        return false;
    if (verb != NO_VERB || lead)
        ui_word(ui);
    if (verb == LIST || verb == PRINT) {
        r = session_get(s, sec, "-");
        if (r)
            print_row_as(ui, r, form_option(ui));
        row_free(&r);
        return true;
    }
    r = session_edit(s, sec, "-");
    if (!r)
        return true;
    if (verb == REPLACE)
        reset_fields(r);
    if (lead && !row_set(r, sec->lead, lead, &err))
        ui_error(ui, &err);
    set_words(ui, s, r);
    check_fields(ui, r);
    return true;
}

bool dialog_verbs(struct ui *ui, struct session *s, const struct section *sec, const char *owner)
{
    enum verb verb = verb_of(ui_peek(ui, 0));
    const char *name = ui_peek(ui, 1);
    char *full;

    if (sec->single)
        return single_verbs(ui, s, sec);
    if (verb == NO_VERB || (!name && verb != LIST))
        return false;
    if (ui_peek(ui, verb == LIST ? 1 : 2) && verb != MOVE)
        return false; /* more words: they walk the menus */
    if (verb == NEW && strchr(name, ','))
        return false; /* several at once, as some menus take them */
    if ((verb == NEW || verb == EDIT) && !has_keys(ui) && ui_interactive(ui))
        return false; /* a person is asked for the rest */
    if ((verb == NEW || verb == EDIT) && has_options(ui))
        return false;
    ui_word(ui);
    if (verb == LIST) {
        print_rows_as(ui, s, sec, owner, form_option(ui));
        return true;
    }
    ui_word(ui);
    if (verb == EDIT && !has_keys(ui)) {
        ui_fail(ui, E_USAGE, "Say what to change: FIELD=VALUE.");
        return true;
    }
    full = full_name(sec, owner, name);
    on_object(ui, s, verb, sec, full);
    free(full);
    return true;
}
