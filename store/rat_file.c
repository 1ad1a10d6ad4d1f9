/* rat_file.c - see rat_file.h. */
#include "store/rat_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/rules.h"

/* --- writing ---------------------------------------------------------------------------------- */

void rat_file_entry(const struct rcpt_access *e, struct buf *out)
{
    const char *lead = " (";

    buf_printf(out, "%s %s", e->address, e->action == RCPT_ACCEPT ? "ACCEPT" : "REJECT");
    if (e->bypass) {
        buf_printf(out, "%sbypass_receiving_control", lead);
        lead = ", ";
    }
    if (e->code) {
        buf_printf(out, "%scode = %llu", lead, (unsigned long long)e->code);
        lead = ", ";
    }
    if (*e->text) {
        buf_printf(out, "%stext = \"", lead);
        lead = ", ";
        for (const char *p = e->text; *p; p++)
            buf_printf(out, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
        buf_char(out, '"');
    }
    buf_str_add(out, *lead == ',' ? ")\n" : "\n");
}

void rat_file_export(const struct config *cfg, const char *listener, struct buf *out)
{
    size_t first, n = config_children(cfg, &section_rcpt_access, listener, &first);

    buf_printf(out, "# File exported by the CLI: recipient access table of %s\n", listener);
    for (size_t i = first; i < first + n; i++)
        rat_file_entry(config_at(cfg, &section_rcpt_access, i)->data, out);
    buf_str_add(out, "ALL REJECT\n");
}

/* --- reading ---------------------------------------------------------------------------------- */

struct reading {
    const struct config *base;
    const char *listener;
    struct config_edits *out;
    struct err *err;
    struct slice line; /* what is left of the one in hand */
    unsigned number; /* of it */
    char address[300]; /* of its entry, for messages */
    struct map names; /* of rows made so far */
    size_t entries, left_out;
    bool ended; /* ALL was there */
};

/* "line 12, joe@example.com, code: " before the sentence. */
static bool __attribute__((format(printf, 3, 4)))
refuse(struct reading *r, const char *option, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(2000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    return err_set(r->err, E_INVALID, "line %u, %s%s%s: %s", r->number, str_printable(r->address),
                   option ? ", " : "", option ? str_printable(option) : "", buf_str(&text));
}

static void skip_blanks(struct slice *s)
{
    while (s->n && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r')) {
        s->p++;
        s->n--;
    }
}

static struct slice take_word(struct slice *s, const char *stops)
{
    struct slice word = {s->p, 0};

    while (word.n < s->n && !strchr(stops, word.p[word.n]))
        word.n++;
    s->p += word.n;
    s->n -= word.n;
    return word;
}

/* "value" or value behind the "=". */
static bool read_value(struct reading *r, const char *option, struct buf *value)
{
    struct slice *s = &r->line, word;

    buf_reset(value);
    skip_blanks(s);
    if (!s->n || *s->p != '=')
        return refuse(r, option, "There is no \"= value\" behind it.");
    s->p++;
    s->n--;
    skip_blanks(s);
    if (!s->n || *s->p != '"') {
        word = take_word(s, " \t\r,)");
        buf_add(value, word.p, word.n);
        return word.n || refuse(r, option, "There is no value behind the \"=\".");
    }
    for (s->p++, s->n--; s->n && *s->p != '"'; s->p++, s->n--) {
        if (*s->p == '\\' && s->n > 1) {
            s->p++;
            s->n--;
        }
        buf_char(value, *s->p);
    }
    if (!s->n)
        return refuse(r, option, "The closing quotation mark is missing on this line.");
    s->p++;
    s->n--;
    return true;
}

static bool read_option(struct reading *r, struct row *row)
{
    static const char *const foreign[] = {
        "bypass_ldap", "bypass_ldapaccept", "bypass_callahead", "bypass_smtp_callahead",
        "ldap",        "callahead"};
    AUTO(buf) struct buf value = BUF_INIT(4096);
    struct slice word = take_word(&r->line, " \t\r,=)");
    char option[64];
    const char *field;
    struct err err = {0};

    slice_copy(word, option, sizeof(option));
    if (str_ieq(option, "bypass_receiving_control") || str_ieq(option, "bypass")) {
        ((struct rcpt_access *)row->data)->bypass = true;
        return true;
    }
    for (size_t i = 0; i < countof(foreign); i++) {
        if (!str_ieq(option, foreign[i]))
            continue;
        r->left_out++;
        return true;
    }
    field =
        str_ieq(option, "code") || str_ieq(option, "smtp_code") || str_ieq(option, "resp_code")
            ? "code"
        : str_ieq(option, "text") || str_ieq(option, "smtp_text") || str_ieq(option, "cust_resp")
            ? "text"
            : NULL;
    if (!field)
        return refuse(
            r, option,
            "There is no such option; there are bypass_receiving_control, code and text.");
    if (!read_value(r, option, &value))
        return false;
    return row_set(row, field, buf_str(&value), &err) || refuse(r, option, "%s", err.text);
}

/* What stands in parentheses behind the action. */
static bool read_options(struct reading *r, struct row *row)
{
    struct slice *s = &r->line;

    skip_blanks(s);
    if (!s->n || *s->p == '#')
        return true;
    if (*s->p != '(')
        return refuse(r, NULL, "\"%.*s\" does not belong here; options stand in parentheses.",
                      (int)(s->n < 60 ? s->n : 60), s->p);
    do {
        s->p++;
        s->n--;
        skip_blanks(s);
        if (!s->n || *s->p == ')')
            break;
        if (!read_option(r, row))
            return false;
        skip_blanks(s);
    } while (s->n && *s->p == ',');
    if (!s->n || *s->p != ')')
        return refuse(r, NULL,
                      "The closing parenthesis is missing; options are separated by commas.");
    s->p++;
    s->n--;
    skip_blanks(s);
    return !s->n || *s->p == '#' ||
           refuse(r, NULL, "Something follows the closing parenthesis; remove it.");
}

static bool keep(struct reading *r, struct row *row)
{
    struct check check = {.row = row, .errors_only = true};
    const struct row *twin = map_get(&r->names, row->name);
    bool ok;

    check_rcpt_access(r->base, row, &check);
    ok = !check.errors || refuse(r, check.items[0].field, "%s", check.items[0].text);
    check_free(&check);
    if (!ok)
        return false;
    row_freeze(row);
    if (twin) /* the same once more is harmless */
        return row_equal(twin, row) ||
               refuse(r, NULL, "The address stands twice with different rules; remove one.");
    map_set(&r->names, row->name, row);
    config_edits_put(r->out, &section_rcpt_access, row->name, row_ref(row));
    r->entries++;
    return true;
}

static bool read_all(struct reading *r, bool accept, struct row *row)
{
    const struct rcpt_access *e = row->data;

    if (accept)
        return refuse(
            r, NULL,
            "To accept all recipients would make an open relay; name the domains mail is accepted "
            "for, and write ALL REJECT.");
    r->left_out += e->code || *e->text || e->bypass;
    r->ended = true;
    return true;
}

static bool read_entry(struct reading *r)
{
    struct slice address = take_word(&r->line, " \t\r"), action;
    char *owner = xasprintf("%s/", r->listener);
    struct row *row = row_new(&section_rcpt_access, owner);
    struct err err = {0};
    bool all, accept = false, ok;

    free(owner);
    slice_copy(address, r->address, sizeof(r->address));
    all = str_ieq(r->address, "ALL");
    if (!all)
        str_lower(r->address); /* as it is matched */
    ok = !r->ended ||
         refuse(r, NULL,
                "Nothing may follow ALL, which matches every recipient; move it to the end.");
    ok = ok && (address.n < sizeof(r->address) || refuse(r, NULL, "The address is too long."));
    ok =
        ok && (all || row_set(row, "address", r->address, &err) || refuse(r, NULL, "%s", err.text));
    skip_blanks(&r->line);
    action = take_word(&r->line, " \t\r(");
    if (ok) {
        accept = slice_ieq(action, "ACCEPT");
        ok = accept || slice_ieq(action, "REJECT") ||
             refuse(r, NULL, "Behind the address stands ACCEPT or REJECT.");
        ((struct rcpt_access *)row->data)->action = accept ? RCPT_ACCEPT : RCPT_REJECT;
    }
    ok = ok && read_options(r, row) && (all ? read_all(r, accept, row) : keep(r, row));
    row_free(&row);
    return ok;
}

static void remove_the_rest(struct reading *r)
{
    size_t first, n = config_children(r->base, &section_rcpt_access, r->listener, &first);

    for (size_t i = first; i < first + n; i++) {
        const char *name = config_at(r->base, &section_rcpt_access, i)->name;

        if (!map_get(&r->names, name))
            config_edits_put(r->out, &section_rcpt_access, name, NULL);
    }
}

bool rat_file_import(const char *text, size_t n, const struct config *base, const char *listener,
                     struct config_edits *out, size_t *entries, struct strlist *remarks,
                     struct err *err)
{
    struct reading r = {.base = base, .listener = listener, .out = out, .err = err};
    const struct listener *l = CONFIG_GET(base, listener, listener);
    const char *p = text, *end = text + n;
    bool ok = true;

    if (!l)
        return err_set(err, E_NOT_FOUND, "There is no listener \"%s\".", str_printable(listener));
    if (l->kind != LISTENER_PUBLIC)
        return err_set(err, E_INVALID, "Listener %s is private and has no recipient access table.",
                       listener);
    if (n > RAT_FILE_MAX || memchr(text, '\0', n))
        return err_set(err, E_INVALID, "This is no text of at most %zu bytes.", RAT_FILE_MAX);
    while (ok && p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));

        r.number++;
        r.line = (struct slice){p, (size_t)((nl ? nl : end) - p)};
        skip_blanks(&r.line);
        if (r.line.n && *r.line.p != '#')
            ok = read_entry(&r);
        p = nl ? nl + 1 : end;
    }
    if (ok && !r.entries && !r.ended)
        ok = err_set(err, E_INVALID, "The file has no entry; to remove all entries, use CLEAR.");
    if (ok) {
        remove_the_rest(&r);
        *entries = r.entries;
    }
    if (ok && r.left_out) {
        AUTO(buf) struct buf remark = BUF_INIT(400);

        buf_printf(&remark,
                   "Left out, for this gateway has nothing of the kind: options of %zu entries.",
                   r.left_out);
        strlist_add(remarks, buf_str(&remark));
    }
    map_free(&r.names);
    return ok;
}
