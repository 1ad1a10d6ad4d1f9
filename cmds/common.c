/* common.c - see common.h. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char *count_text(uint64_t n, char out[COUNT_TEXT])
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), at = 0;

    for (size_t i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

json_int_t lines_option(struct ui *ui, json_int_t min, json_int_t deflt)
{
    const char *text = ui_option(ui, "-n");
    char *end;
    json_int_t n = text ? strtoll(text, &end, 10) : deflt;

    if (text && (*text < '0' || *text > '9' || *end || n < min || n > 1000000)) {
        ui_fail(ui, E_USAGE, "-n: enter a number of lines from %lld to 1000000.", (long long)min);
        return deflt;
    }
    return n;
}

bool too_narrow(const struct ui *ui, unsigned columns)
{
    unsigned width = ui_width(ui);

    return width && width < columns;
}

void say_if_demo(struct ui *ui, struct session *s, const char *certificate)
{
    struct row *r = session_get(s, &section_certificate, certificate);

    if (r && ((const struct certificate *)r->data)->demo)
        ui_say(ui,
               "The \"%s\" certificate is currently configured. You may use \"%s\", but this will "
               "not be secure.",
               certificate, certificate);
    row_free(&r);
}

void say_tls_notice(struct ui *ui)
{
    ui_say(ui, "You have chosen to enable TLS. Please use the 'certconfig' command to\n"
               "ensure that there is a valid certificate configured.");
}

void take_values(struct row *to, const struct row *from)
{
    for (size_t i = 0; i < to->section->nfields; i++) {
        const struct field *f = &to->section->fields[i];

        if (f->key)
            continue;
        f->type->release(row_slot(to, f));
        f->type->copy(row_slot(to, f), row_slot(from, f));
    }
}

struct items {
    const struct section *section;
    const struct field *field;
};

static bool accept_items(void *arg, const char *answer, struct err *err)
{
    const struct items *i = arg;
    AUTO(strlist) struct strlist list = {0};
    struct row *trial = row_new(i->section, i->section->parent ? "-/" : NULL);
    bool ok = true;

    strlist_split(&list, answer, ',');
    for (size_t k = 0; ok && k < list.n; k++)
        ok = row_set(trial, i->field->name, list.items[k], err);
    row_free(&trial);
    return ok;
}

void ask_items(struct ui *ui, const struct section *sec, const char *field, const char *key,
               const char *question, const char *deflt, struct strlist *out)
{
    struct items items = {sec, field_find(sec, field)};
    struct ui_question q = {
        .text = question, .key = key, .deflt = deflt, .accept = accept_items, .arg = &items};

    strlist_split(out, ui_ask(ui, &q), ',');
}

static bool accept_some(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return *answer || err_set(err, E_INVALID, "A value is required.");
}

const char *ask_some(struct ui *ui, const char *key, const char *question)
{
    const struct ui_question q = {.text = question, .key = key, .accept = accept_some};

    return ui_ask(ui, &q);
}

struct needed {
    const struct row *row;
    const struct field *field;
};

static bool accept_needed(void *arg, const char *answer, struct err *err)
{
    const struct needed *n = arg;
    struct row *trial = row_copy(n->row);
    bool ok = *answer ? row_set(trial, n->field->name, answer, err)
                      : err_set(err, E_INVALID, "A value is required.");

    row_free(&trial);
    return ok;
}

void ask_needed(struct ui *ui, struct row *r, const char *field)
{
    struct needed n = {r, field_find(r->section, field)};
    char *now = xstrdup(row_text(r, field));
    struct ui_question q = {.text = n.field->prompt,
                            .key = field,
                            .deflt = *now ? now : NULL,
                            .help = n.field->help,
                            .accept = accept_needed,
                            .arg = &n};
    const char *answer = ui_ask(ui, &q);

    if (!ui_failed(ui))
        row_set(r, field, answer, NULL);
    free(now);
}

bool has_name(struct session *s, const struct section *sec, const char *owner, const char *name)
{
    char *full = owner ? xasprintf("%s/%s", owner, name) : xstrdup(name);
    struct row *r = session_get(s, sec, full);
    bool there = r != NULL;

    row_free(&r);
    free(full);
    return there;
}

struct users {
    const struct field *field;
    const char *name;
    struct buf text;
    size_t n;
};

static bool names_it(const struct users *u, const struct row *r)
{
    const struct strlist *list = u->field->type == &type_list ? row_slot(r, u->field) : NULL;

    return list ? strlist_has(list, u->name) : str_eq(row_text(r, u->field->name), u->name);
}

static bool add_user(void *arg, const struct row *r)
{
    struct users *u = arg;
    char *title;

    if (!names_it(u, r) || ++u->n > 5)
        return u->n <= 5;
    title = row_title(r->section, r->name);
    buf_printf(&u->text, "%s%s (%s)", u->n > 1 ? ", " : "", title, u->field->name);
    free(title);
    return true;
}

static char *named_by(struct session *s, const struct section *sec, const char *name,
                      const struct section *except)
{
    struct users u = {.name = name, .text = BUF_INIT(4000)};
    char *text;

    for (size_t i = 0; i < section_count(); i++) {
        const struct section *in = section_at(i);

        for (size_t k = 0; k < in->nfields && in != except; k++) {
            u.field = &in->fields[k];
            if (u.field->ref && str_eq(u.field->ref, sec->name))
                session_each(s, in, NULL, add_user, &u);
        }
    }
    if (u.n > 5)
        buf_str_add(&u.text, " and more");
    text = u.n ? xstrdup(buf_str(&u.text)) : NULL;
    buf_free(&u.text);
    return text;
}

bool ask_deletable(struct ui *ui, struct session *s, const struct section *sec, const char *name,
                   const struct section *except)
{
    AUTO(str) char *users = ui_failed(ui) ? NULL : named_by(s, sec, name, except);

    if (users)
        ui_fail(ui, E_INVALID, "The %s %s is used by %s; choose another one there first, or keep it.",
                sec->noun, str_printable(name), users);
    return !ui_failed(ui);
}

void ask_new_secret(struct ui *ui, struct session *s, struct row *r, const char *field, bool twice)
{
    const struct field *f = field_find(r->section, field);
    bool has = *row_text(r, field), done = false;
    char *question = xasprintf("%s%s", f->prompt, has ? " (Enter keeps the one there is)" : "");

    while (!done && !ui_failed(ui)) {
        AUTO(secret_text) char *first = ask_secret(ui, field, question);
        AUTO(secret_text) char *again = NULL;

        if (!ui_failed(ui) && !*first && !has)
            ui_say(ui, "A value is required.");
        if (ui_failed(ui) || !*first) {
            done = has;
            continue;
        }
        if (twice && ui_interactive(ui))
            again = ask_secret(ui, NULL, "Please enter it again.");
        done = !again || str_eq(first, again);
        if (!ui_failed(ui) && done)
            session_secret(s, r, field, first);
        else if (!ui_failed(ui))
            ui_say(ui, "The two are not the same. Enter both again.");
    }
    free(question);
}

void age_text(json_int_t seconds, char *out, size_t size)
{
    static const struct {
        const char *one, *many;
        json_int_t seconds;
    } units[] = {
        {"week", "weeks", 604800},
        {"day",  "days",  86400 },
        {"hour", "hours", 3600  },
        {"min",  "mins",  60    },
        {"sec",  "secs",  1     }
    };
    json_int_t left = seconds;
    size_t n = 0;

    str_copy(out, size, "0 secs");
    for (size_t i = 0; i < countof(units); i++) {
        json_int_t count = left / units[i].seconds;

        if (!count)
            continue;
        n += (size_t)snprintf(out + n, size - n, "%s%lld %s", n ? " " : "", (long long)count,
                              count == 1 ? units[i].one : units[i].many);
        left -= count * units[i].seconds;
    }
}

const char *date_text(const json_t *date, char out[40])
{
    struct tm tm = {0};

    if (json_is_integer(date))
        return clock_commit_date((usec_t)json_integer_value(date), out);
    if (json_is_string(date) && strptime(json_string_value(date), "%Y-%m-%dT%H:%M:%S", &tm))
        return clock_commit_date((usec_t)timegm(&tm) * 1000000, out);
    return "unknown date";
}

json_t *call_writing(struct ui *ui, struct session *s, const char *op, json_t *args, bool replace)
{
    json_t *answer, *data = NULL;

    json_put(args, "replace", json_boolean(replace));
    answer = session_answer(s, ui, op, json_incref(args));
    if (answer && str_eq(json_str(answer, "code", ""), "E_EXISTS") && !replace &&
        ui_interactive(ui) &&
        ask_yes(ui, "replace", "The file already exists. Do you want to overwrite it?", false)) {
        json_put(args, "replace", json_true());
        json_decref(answer);
        answer = session_answer(s, ui, op, json_incref(args));
    } else if (answer && str_eq(json_str(answer, "code", ""), "E_EXISTS") && ui_interactive(ui)) {
        json_decref(answer); /* whoever was asked knows */
        answer = NULL;
    }
    if (answer && !json_bool_of(answer, "ok", false))
        session_show_error(s, ui, answer);
    else if (answer)
        data = json_incref(json_object_get(answer, "data"));
    json_decref(answer);
    json_decref(args);
    return data;
}
