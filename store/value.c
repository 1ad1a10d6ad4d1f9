/* value.c - see value.h. A parse function knows the type alone; what a field adds (required, range,
 * length, .check) is in value_check, so that values which arrive as JSON pass the same rules as
 * typed ones. */
#include "store/value.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/map.h"
#include "store/base/net.h"

#define MAX_VALUE ((size_t)4 << 20) /* longest text form of a value */

static void replace_string(void *slot, char *s)
{
    char **p = slot;

    free(*p);
    *p = s;
}

/* Text on one line: valid UTF-8 without control characters. */
static bool line_check(const char *text, struct err *err)
{
    if (!str_is_utf8(text, strlen(text)))
        return err_set(err, E_INVALID, "The value is not valid UTF-8 text.");
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, E_INVALID, "The value must not contain control characters.");
    return true;
}

/* --- strings: text, host, domain, pem, secret --- */

static bool text_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    (void)f;
    if (!line_check(text, err))
        return false;
    replace_string(slot, xstrdup(text));
    return true;
}

static bool to_ascii(const char *text, char *out, size_t size, struct err *err)
{
    if (!domain_to_ascii(text, out, size, err)) {
        size_t n = err ? strlen(err->text) : 0;

        if (n && n + 1 < sizeof(err->text) &&
            err->text[n - 1] != '.') /* here it is a whole sentence */
            str_copy(err->text + n, sizeof(err->text) - n, ".");
        return false;
    }
    return true;
}

static bool host_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    char name[256], ip[ADDR_TEXT];
    struct addr a;

    (void)f;
    if (!*text) {
        replace_string(slot, xstrdup(""));
    } else if (addr_parse(text, &a)) {
        replace_string(slot, xstrdup(addr_text(&a, ip)));
    } else {
        if (!to_ascii(text, name, sizeof(name), err))
            return false;
        replace_string(slot, xstrdup(name));
    }
    return true;
}

/* A name, what is below a name (".example.com"), a bracketed address, or one of the words "default"
 * and "ALL"; which of them are allowed is the field's .check. */
static bool domain_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    char name[256], *canonical;

    (void)f;
    if (!*text)
        canonical = xstrdup("");
    else if (str_ieq(text, "ALL"))
        canonical = xstrdup("ALL");
    else if (str_ieq(text, "default"))
        canonical = xstrdup("default");
    else if (str_eq(text, ".")) /* the root of the DNS */
        canonical = xstrdup(".");
    else if (text[0] == '[' && line_check(text, err))
        str_lower(canonical = xstrdup(text));
    else if (!to_ascii(text + (text[0] == '.'), name, sizeof(name), err))
        return false;
    else
        canonical = xasprintf("%s%s", text[0] == '.' ? "." : "", name);
    replace_string(slot, canonical);
    return true;
}

/* PEM or any other text of many lines; CRLF becomes LF, so the same file gives the same value. */
static bool pem_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    char *copy, *out;

    (void)f;
    if (!str_is_utf8(text, strlen(text)))
        return err_set(err, E_INVALID, "The value is not valid UTF-8 text.");
    copy = out = xstrdup(text);
    for (const char *p = text; *p; p++) {
        if (*p == '\r' && p[1] == '\n')
            continue;
        if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f) {
            free(copy);
            return err_set(err, E_INVALID, "The value must not contain control characters.");
        }
        *out++ = *p;
    }
    *out = '\0';
    replace_string(slot, copy);
    return true;
}

static bool secret_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    (void)f;
    if (*text && (!str_starts(text, "sealed:") || strlen(text) > 128 || !line_check(text, NULL)))
        return err_set(err, E_INVALID, "A secret is stored sealed; its plain text is no value.");
    replace_string(slot, xstrdup(text));
    return true;
}

static void string_format(const struct field *f, const void *slot, struct buf *out)
{
    (void)f;
    buf_str_add(out, *(char *const *)slot);
}

static json_t *string_to_json(const struct field *f, const void *slot)
{
    (void)f;
    return json_string(*(char *const *)slot);
}

static bool string_from_json(const struct field *f, const json_t *j, void *slot, struct err *err)
{
    if (!json_is_string(j))
        return err_set(err, E_INVALID, "The value must be a string.");
    return f->type->parse(f, json_string_value(j), slot, err);
}

static bool string_equal(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b) == 0;
}

static void string_copy(void *dst, const void *src)
{
    *(char **)dst = xstrdup(*(char *const *)src);
}

static void string_release(void *slot)
{
    replace_string(slot, NULL);
}

/* --- numbers: uint, port, size, duration --- */

struct unit {
    const char *letters;
    uint64_t factor;
};
static const struct unit size_units[] = {
    {"gG", 1u << 30},
    {"mM", 1u << 20},
    {"kK", 1u << 10},
    {"bB", 1       }
};
static const struct unit time_units[] = {
    {"dD", 86400},
    {"hH", 3600 },
    {"mM", 60   },
    {"sS", 1    }
};

/* Digits and at most one letter of units (NULL: none). The result fits a JSON integer. */
static bool number_parse(const char *text, const struct unit *units, uint64_t *out)
{
    uint64_t n = 0, factor = 1;
    const char *p = text;

    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > (INT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (*p && units) {
        factor = 0;
        for (size_t i = 0; i < 4; i++)
            if (strchr(units[i].letters, *p))
                factor = units[i].factor;
        p++;
    }
    if (*p || !factor || n > INT64_MAX / factor)
        return false;
    *out = n * factor;
    return true;
}

static bool number_error(const struct field *f, struct err *err)
{
    AUTO(buf) struct buf range = BUF_INIT(200);
    AUTO(buf) struct buf zero = BUF_INIT(100);
    const struct type *t = f->type;
    uint64_t min = f->zero && !f->min ? 1 : f->min;
    const char *what = "an integer", *hint = "";

    if (t == &type_size) {
        what = "a size";
        hint = " Add a trailing k for kilobytes, M for megabytes, or no letter for bytes.";
    } else if (t == &type_duration) {
        what = "a time";
        hint = " Add a trailing s, m, h or d; no letter means seconds.";
    }
    if (f->max) {
        buf_str_add(&range, " from ");
        t->format(&(struct field){.type = t}, &min, &range);
        buf_str_add(&range, " to ");
        t->format(&(struct field){.type = t}, &f->max, &range);
    } else if (min) {
        buf_str_add(&range, " of at least ");
        t->format(&(struct field){.type = t}, &min, &range);
    }
    if (f->zero)
        buf_printf(&zero, ", or \"%s\"", f->zero);
    if (f->top)
        buf_printf(&zero, ", or \"%s\"", f->top);
    return err_set(err, E_INVALID, "The value must be %s%s%s.%s", what, buf_str(&range),
                   buf_str(&zero), hint);
}

static bool any_number_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    const struct unit *units = f->type == &type_size       ? size_units
                               : f->type == &type_duration ? time_units
                                                           : NULL;

    if (f->zero && str_ieq(text, f->zero)) {
        *(uint64_t *)slot = 0;
        return true;
    }
    if (f->top && str_ieq(text, f->top)) {
        *(uint64_t *)slot = f->max;
        return true;
    }
    return number_parse(text, units, slot) || number_error(f, err);
}

/* The word that stands for the value, if there is one. */
static bool word_format(const struct field *f, const void *slot, struct buf *out)
{
    uint64_t n = *(const uint64_t *)slot;
    const char *word = !n ? f->zero : n == f->max ? f->top : NULL;

    if (word)
        buf_str_add(out, word);
    return word;
}

static void uint_format(const struct field *f, const void *slot, struct buf *out)
{
    if (!word_format(f, slot, out))
        buf_printf(out, "%" PRIu64, *(const uint64_t *)slot);
}

static void size_format(const struct field *f, const void *slot, struct buf *out)
{
    uint64_t n = *(const uint64_t *)slot;

    if (word_format(f, slot, out))
        return;
    if (n && n % (1u << 20) == 0)
        buf_printf(out, "%" PRIu64 "M", n >> 20);
    else if (n && n % (1u << 10) == 0)
        buf_printf(out, "%" PRIu64 "k", n >> 10);
    else
        buf_printf(out, "%" PRIu64, n);
}

static void duration_format(const struct field *f, const void *slot, struct buf *out)
{
    uint64_t n = *(const uint64_t *)slot;

    if (word_format(f, slot, out))
        return;
    for (size_t i = 0; n && i < 3; i++) {
        if (n % time_units[i].factor == 0) {
            buf_printf(out, "%" PRIu64 "%c", n / time_units[i].factor, time_units[i].letters[0]);
            return;
        }
    }
    buf_printf(out, "%" PRIu64, n);
}

static json_t *number_to_json(const struct field *f, const void *slot)
{
    (void)f;
    return json_integer((json_int_t) * (const uint64_t *)slot);
}

static bool number_from_json(const struct field *f, const json_t *j, void *slot, struct err *err)
{
    if (json_is_string(j))
        return f->type->parse(f, json_string_value(j), slot, err);
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return number_error(f, err);
    *(uint64_t *)slot = (uint64_t)json_integer_value(j);
    return true;
}

static bool number_equal(const void *a, const void *b)
{
    return *(const uint64_t *)a == *(const uint64_t *)b;
}

static void number_copy(void *dst, const void *src)
{
    *(uint64_t *)dst = *(const uint64_t *)src;
}

static void nothing_to_release(void *slot)
{
    (void)slot;
}

/* --- boolean --- */

static bool boolean_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    static const char *const yes[] = {"yes", "y", "on", "true", "1"}, *const no[] = {"no", "n",
                                                                                     "off", "false",
                                                                                     "0"};

    (void)f;
    for (size_t i = 0; i < countof(yes); i++) {
        if (str_ieq(text, yes[i]) || str_ieq(text, no[i])) {
            *(bool *)slot = str_ieq(text, yes[i]);
            return true;
        }
    }
    return err_set(err, E_INVALID, "The value must be yes or no.");
}

static void boolean_format(const struct field *f, const void *slot, struct buf *out)
{
    (void)f;
    buf_str_add(out, *(const bool *)slot ? "yes" : "no");
}

static json_t *boolean_to_json(const struct field *f, const void *slot)
{
    (void)f;
    return json_boolean(*(const bool *)slot);
}

static bool boolean_from_json(const struct field *f, const json_t *j, void *slot, struct err *err)
{
    if (json_is_string(j))
        return boolean_parse(f, json_string_value(j), slot, err);
    if (!json_is_boolean(j))
        return err_set(err, E_INVALID, "The value must be true or false.");
    *(bool *)slot = json_is_true(j);
    return true;
}

static bool boolean_equal(const void *a, const void *b)
{
    return *(const bool *)a == *(const bool *)b;
}

static void boolean_copy(void *dst, const void *src)
{
    *(bool *)dst = *(const bool *)src;
}

/* --- choice --- */

static bool choice_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    AUTO(buf) struct buf words = BUF_INIT(400);
    bool yes;

    if (f->choices == choices_answers && boolean_parse(f, text, &yes, NULL))
        text = yes ? "yes" : "no";
    for (int i = 0; f->choices[i].word; i++) {
        if (str_ieq(text, f->choices[i].word) || str_ieq(text, f->choices[i].text)) {
            *(int *)slot = i;
            return true;
        }
        buf_printf(&words, "%s%s", i ? ", " : "", f->choices[i].word);
    }
    return err_set(err, E_INVALID, "Unknown value \"%s\"; choose one of: %s.", str_printable(text),
                   buf_str(&words));
}

static void choice_format(const struct field *f, const void *slot, struct buf *out)
{
    buf_str_add(out, f->choices[*(const int *)slot].word);
}

static json_t *choice_to_json(const struct field *f, const void *slot)
{
    return json_string(f->choices[*(const int *)slot].word);
}

static bool choice_equal(const void *a, const void *b)
{
    return *(const int *)a == *(const int *)b;
}

static void choice_copy(void *dst, const void *src)
{
    *(int *)dst = *(const int *)src;
}

/* --- list --- */

/* Drops what stood there before; lists of hosts have a hundred thousand items. */
static void drop_repeated(struct strlist *l)
{
    size_t slots = 16, kept = 0;
    size_t *seen; /* open addressing: place of the item + 1 */

    while (slots < l->n * 2)
        slots *= 2;
    seen = xcalloc(slots, sizeof(*seen));
    for (size_t i = 0; i < l->n; i++) {
        size_t at = map_hash(l->items[i]) & (slots - 1);

        while (seen[at] && strcmp(l->items[seen[at] - 1], l->items[i]) != 0)
            at = (at + 1) & (slots - 1);
        if (seen[at]) {
            free(l->items[i]);
            continue;
        }
        l->items[kept] = l->items[i];
        seen[at] = ++kept;
    }
    l->n = kept;
    free(seen);
}

/* Each once, in their order; steals the items. */
static void list_take(struct strlist *slot, struct strlist *items)
{
    drop_repeated(items);
    strlist_free(slot);
    *slot = *items;
    *items = (struct strlist){0};
}

void list_change(const struct strlist *now, const char *change, char op, struct buf *out)
{
    AUTO(strlist) struct strlist given = {0};
    struct map gone = {0};

    strlist_split(&given, change, ',');
    for (size_t i = 0; i < given.n && op != '+'; i++)
        map_set(&gone, given.items[i], &given);
    for (size_t i = 0; i < now->n; i++)
        if (!map_get(&gone, now->items[i]))
            buf_printf(out, "%s%s", out->n ? ", " : "", now->items[i]);
    for (size_t i = 0; i < given.n && op == '+'; i++)
        buf_printf(out, "%s%s", out->n ? ", " : "", given.items[i]);
    map_free(&gone);
}

static bool list_parse(const struct field *f, const char *text, void *slot, struct err *err)
{
    AUTO(strlist) struct strlist items = {0};

    (void)f;
    if (!line_check(text, err))
        return false;
    strlist_split(&items, text, ',');
    list_take(slot, &items);
    return true;
}

static void list_format(const struct field *f, const void *slot, struct buf *out)
{
    (void)f;
    strlist_join(slot, ", ", out);
}

static json_t *list_to_json(const struct field *f, const void *slot)
{
    const struct strlist *l = slot;
    json_t *j = json_array();

    (void)f;
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(j, json_string(l->items[i]));
    return j;
}

static bool list_from_json(const struct field *f, const json_t *j, void *slot, struct err *err)
{
    AUTO(strlist) struct strlist items = {0};

    if (json_is_string(j))
        return list_parse(f, json_string_value(j), slot, err);
    if (!json_is_array(j))
        return err_set(err, E_INVALID, "The value must be a list of strings.");
    for (size_t i = 0; i < json_array_size(j); i++) {
        const char *item = json_string_value(json_array_get(j, i));
        AUTO(strlist) struct strlist parts = {0};

        if (!item || !line_check(item, NULL))
            return err_set(err, E_INVALID, "The value must be a list of strings.");
        if (*item && !strpbrk(item, ", \t")) {
            strlist_add(&items, item);
            continue;
        }
        strlist_split(&parts, item, ','); /* a comma separates wherever it comes from */
        for (size_t k = 0; k < parts.n; k++)
            strlist_add(&items, parts.items[k]);
    }
    list_take(slot, &items);
    return true;
}

static bool list_equal(const void *a, const void *b)
{
    const struct strlist *x = a, *y = b;

    if (x->n != y->n)
        return false;
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->items[i], y->items[i]) != 0)
            return false;
    return true;
}

static void list_copy(void *dst, const void *src)
{
    strlist_copy(dst, src);
}

static void list_release(void *slot)
{
    strlist_free(slot);
}

/* A setting that was yes or no once is still so stored. */
static bool choice_from_json(const struct field *f, const json_t *j, void *slot, struct err *err)
{
    if (json_is_boolean(j))
        return choice_parse(f, json_is_true(j) ? "yes" : "no", slot, err);
    return string_from_json(f, j, slot, err);
}

#define STRING_TYPE(n)                                                                             \
    const struct type type_##n = {                                                                 \
        #n,           "TEXT",      n##_parse,     string_format, string_to_json, string_from_json, \
        string_equal, string_copy, string_release}
#define NUMBER_TYPE(n, format)                                                                     \
    const struct type type_##n = {#n,           "INTEGER",      any_number_parse,                  \
                                  format,       number_to_json, number_from_json,                  \
                                  number_equal, number_copy,    nothing_to_release}

STRING_TYPE(text);
STRING_TYPE(host);
STRING_TYPE(domain);
STRING_TYPE(pem);
STRING_TYPE(secret);
NUMBER_TYPE(uint, uint_format);
NUMBER_TYPE(port, uint_format);
NUMBER_TYPE(size, size_format);
NUMBER_TYPE(duration, duration_format);
const struct type type_boolean = {"boolean",      "INTEGER",       boolean_parse,
                                  boolean_format, boolean_to_json, boolean_from_json,
                                  boolean_equal,  boolean_copy,    nothing_to_release};
const struct type type_choice = {"choice",      "TEXT",         choice_parse,
                                 choice_format, choice_to_json, choice_from_json,
                                 choice_equal,  choice_copy,    nothing_to_release};
const struct type type_list = {"list",         "TEXT",     list_parse, list_format, list_to_json,
                               list_from_json, list_equal, list_copy,  list_release};

/* --- rules --- */

static bool length_check(const struct field *f, const char *text, struct err *err)
{
    size_t n = strlen(text);

    if (f->max && n > f->max)
        return err_set(err, E_INVALID,
                       "The value has %zu characters; at most %" PRIu64 " are allowed.", n, f->max);
    if (n > MAX_VALUE)
        return err_set(err, E_INVALID, "The value is too long.");
    return true;
}

static bool number_check(const struct field *f, uint64_t n, struct err *err)
{
    if (n == 0 && f->zero)
        return true;
    if (n < f->min || (f->max && n > f->max))
        return number_error(f, err);
    return true;
}

bool value_check(const struct field *f, const void *slot, struct err *err)
{
    const struct type *t = f->type;

    if (t == &type_boolean || t == &type_choice)
        return true;
    if (t->equal == number_equal)
        return number_check(f, *(const uint64_t *)slot, err);
    if (t == &type_list) {
        const struct strlist *l = slot;

        if (f->required && !l->n)
            return err_set(err, E_INVALID, "A value is required.");
        for (size_t i = 0; i < l->n; i++)
            if (!length_check(f, l->items[i], err) || (f->check && !f->check(f, l->items[i], err)))
                return false;
        return true;
    }
    if (f->required && !**(char *const *)slot)
        return err_set(err, E_INVALID, "A value is required.");
    return length_check(f, *(char *const *)slot, err) &&
           (!f->check || f->check(f, *(char *const *)slot, err));
}

bool value_set(const struct field *f, void *slot, const char *text, struct err *err)
{
    union {
        char *string;
        uint64_t number;
        bool boolean;
        int choice;
        struct strlist list;
    } fresh;

    memset(&fresh, 0, sizeof(fresh));
    if (strlen(text) > MAX_VALUE)
        return err_set(err, E_INVALID, "The value is too long.");
    if (!f->type->parse(f, text, &fresh, err) || !value_check(f, &fresh, err)) {
        f->type->release(&fresh);
        return false;
    }
    f->type->release(slot);
    f->type->copy(slot, &fresh);
    f->type->release(&fresh);
    return true;
}

char *value_text(const struct field *f, const void *slot)
{
    struct buf b = BUF_INIT(4 * MAX_VALUE);

    f->type->format(f, slot, &b);
    return buf_take(&b);
}

void value_quote(const char *text, struct buf *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:/@+[]%$*";

    if (*text && strspn(text, plain) == strlen(text) && text[0] != '-' && text[0] != '@') {
        buf_str_add(out, text);
        return;
    }
    buf_char(out, '"');
    for (; *text; text++) {
        if (*text == '\n')
            buf_str_add(out, "\\n");
        else if (*text == '\t')
            buf_str_add(out, "\\t");
        else if (*text == '"' || *text == '\\')
            buf_printf(out, "\\%c", *text);
        else
            buf_char(out, *text);
    }
    buf_char(out, '"');
}

void value_batch(const struct field *f, const void *slot, struct buf *out)
{
    char *text = value_text(f, slot);

    value_quote(text, out);
    free(text);
}
