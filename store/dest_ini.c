/* dest_ini.c - see dest_ini.h. One table says what the keys are; reading and writing walk it. */
#include "store/dest_ini.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/ini.h"

enum scope {
    ANYWHERE,
    NEEDED, /* [DEFAULT] must have it */
    DOMAINS, /* not in [DEFAULT] */
    GLOBAL, /* only in [DEFAULT], a field of destconfig > setup */
};

/* The words in the order of their numbers in the file; our word behind "=" where it differs. */
static const struct key {
    const char *name, *field;
    enum scope scope;
    const char *words; /* NULL: the field's own text form */
} keys[] = {
    {"ip_sort_pref",                "ip_sort_pref",                NEEDED,   NULL                          },
    {"max_host_concurrency",        "concurrency_limit",           NEEDED,   NULL                          },
    {"max_messages_per_connection", "max_messages_per_connection", NEEDED,   NULL                          },
    {"recipient_minutes",           "recipient_minutes",           ANYWHERE, NULL                          },
    {"recipient_limit",             "recipient_limit",             ANYWHERE, NULL                          },
    {"limit_type",                  "limit_type",                  NEEDED,   "host MXIP"                   },
    {"limit_apply",                 "limit_apply",                 NEEDED,   "system VG"                   },
    {"table_tls",                   "use_tls",                     NEEDED,
     "off on required=require on_verify require_verify require_hosted_verify"                              },
    {"table_dane",                  "dane",                        ANYWHERE, "none opportunistic mandatory"},
    {"table_mta_sts",               "mta_sts",                     ANYWHERE, "off on"                      },
    {"bounce_validation",           "bounce_verification",         NEEDED,   "off on"                      },
    {"bounce_profile",              "bounce_profile",              DOMAINS,  NULL                          },
    {"send_tls_req_alert",          "send_tls_req_alert",          GLOBAL,   "off=no on=yes"               },
    {"certificate",                 "certificate",                 GLOBAL,   NULL                          },
};
#define SEEN(i) (1u << (i))

enum {
    IP,
    CONCURRENCY,
    MESSAGES,
    MINUTES,
    RECIPIENTS,
    TYPE,
    APPLY,
    TLS,
    DANE,
    STS,
    BOUNCES,
    PROFILE,
    ALERT,
    CERTIFICATE
};

struct reading {
    const struct config *base;
    struct config_edits *out;
    struct ini in;
    struct row *row, *setup,
        *inherited; /* the section being read; destconfig setup; [DEFAULT] once it is read */
    unsigned seen; /* keys of the section, by SEEN */
    unsigned began; /* its line */
    struct map sections; /* name -> marker: no section twice */
    size_t entries;
    struct err *err;
};

/* "Line 12, [example.com], table_tls: " before the sentence. */
static bool __attribute__((format(printf, 4, 5)))
refuse(struct reading *r, unsigned line, const char *key, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(2000);
    const char *name = r->row ? str_eq(r->row->name, "default") ? "DEFAULT" : r->row->name : "";
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    return err_set(r->err, E_INVALID, "Line %u%s%s%s%s%s: %s", line, *name ? ", [" : "",
                   str_printable(name), *name ? "]" : "", key ? ", " : "", key ? key : "",
                   buf_str(&text));
}

static const struct key *find_key(struct slice name, size_t *index)
{
    for (*index = 0; *index < countof(keys); ++*index)
        if (slice_ieq(name, keys[*index].name))
            return &keys[*index];
    return NULL;
}

static void known_keys(bool deflt, struct buf *out)
{
    for (size_t i = 0; i < countof(keys); i++)
        if (keys[i].scope != (deflt ? DOMAINS : GLOBAL))
            buf_printf(out, "%s%s", out->n ? ", " : "", keys[i].name);
}

/* The next of the words: theirs, and ours, which is the same unless "=" says otherwise. */
static bool next_word(const char **words, struct slice *theirs, struct slice *ours)
{
    size_t n = strcspn(*words, " "), equals = strcspn(*words, " =");

    if (!n)
        return false;
    *theirs = (struct slice){*words, equals};
    *ours = equals < n ? (struct slice){*words + equals + 1, n - equals - 1} : *theirs;
    *words += n + strspn(*words + n, " ");
    return true;
}

/* Our word for one of the file: "2" and "Required" are "require". False: it is none of them. */
static bool our_word(const char *words, const char *value, char *out, size_t size)
{
    struct slice theirs, ours;

    for (char digit = '0'; next_word(&words, &theirs, &ours); digit++) {
        if (slice_ieq(theirs, value) || slice_ieq(ours, value) || (*value == digit && !value[1])) {
            str_copy(out, ours.n < size ? ours.n + 1 : size, ours.p);
            return true;
        }
    }
    return false;
}

/* "0 or off, 1 or on" */
static void choices_of(const char *words, struct buf *out)
{
    struct slice theirs, ours;

    for (char digit = '0'; next_word(&words, &theirs, &ours); digit++)
        buf_printf(out, "%s%c or %.*s", out->n ? ", " : "", digit, (int)theirs.n, theirs.p);
}

static bool set_value(struct reading *r, const struct key *k, const char *value)
{
    struct row *to = k->scope == GLOBAL ? r->setup : r->row;
    bool inherits = str_ieq(value, "default") && k->scope != GLOBAL &&
                    !(k->scope == DOMAINS && config_row(r->base, &section_bounce_profile, value));
    AUTO(buf) struct buf choices = BUF_INIT(400);
    char ours[64];
    struct err err = {0};

    if (inherits) {
        value = str_eq(k->field, "limit_type")    ? "host"
                : str_eq(k->field, "limit_apply") ? "system"
                                                  : "default";
    } else if (k->words && our_word(k->words, value, ours, sizeof(ours))) {
        value = ours;
    } else if (k->words) {
        choices_of(k->words, &choices);
        return refuse(r, r->in.line, k->name, "\"%s\" is not one of the values: %s.",
                      str_printable(value), buf_str(&choices));
    }
    if (!row_set(to, k->field, value, &err))
        return refuse(r, r->in.line, k->name, "%s", err.text);
    if (str_eq(k->field, "certificate") && !config_row(r->base, &section_certificate, value))
        return refuse(r, r->in.line, k->name,
                      "There is no certificate profile \"%s\"; create it with certconfig, or name "
                      "another one.",
                      str_printable(value));
    if (str_eq(k->field, "bounce_profile") && !inherits &&
        !config_row(r->base, &section_bounce_profile, value))
        return refuse(r, r->in.line, k->name,
                      "There is no bounce profile \"%s\"; create it with bounceconfig, or name "
                      "another one.",
                      str_printable(value));
    return true;
}

static bool read_key(struct reading *r)
{
    size_t index;
    const struct key *k = find_key(r->in.key, &index);
    AUTO(str) char *name = slice_dup(r->in.key), *value = slice_dup(r->in.value);
    AUTO(buf) struct buf known = BUF_INIT(600);
    bool deflt = r->row && str_eq(r->row->name, "default");

    if (!r->row)
        return refuse(r, r->in.line, str_printable(name),
                      "There must be a section such as [DEFAULT] or [example.com] before it.");
    if (!k) {
        known_keys(deflt, &known);
        return refuse(r, r->in.line, str_printable(name), "There is no such key; the keys are %s.",
                      buf_str(&known));
    }
    if (r->seen & SEEN(index))
        return refuse(r, r->in.line, k->name, "The key stands twice in this section; remove one.");
    if (k->scope == GLOBAL && !deflt)
        return refuse(r, r->in.line, k->name,
                      "It counts for all destinations; move it to [DEFAULT].");
    if (k->scope == DOMAINS && deflt)
        return refuse(r, r->in.line, k->name,
                      "It may not stand in [DEFAULT]; name it in the sections of the domains.");
    if (!*value) { /* "leave undefined for no limit" */
        if (index == MINUTES || index == RECIPIENTS)
            return true;
        return refuse(r, r->in.line, k->name, "There is no value behind the \"=\".");
    }
    r->seen |= SEEN(index);
    return set_value(r, k, value);
}

/* What "default" comes to where there is nothing to inherit from. */
static const char *resolved(const struct key *k, const char *text)
{
    if (!str_eq(text, "default"))
        return text;
    return k == &keys[IP] ? "PREFER_V6" : k == &keys[DANE] ? "none" : "off";
}

/* The file says what "default" comes to in the default entry; where that is what it was, it stays
 * "default". */
static void keep_default_words(struct reading *r)
{
    static const size_t which[] = {IP, DANE, STS, BOUNCES};
    const struct row *base = config_row(r->base, &section_destination, "default");

    for (size_t i = 0; base && i < countof(which); i++) {
        const struct key *k = &keys[which[i]];

        if (str_eq(row_text(base, k->field), "default") &&
            str_ieq(row_text(r->row, k->field), resolved(k, "default")))
            row_set(r->row, k->field, "default", NULL);
    }
}

static bool needs(struct reading *r, size_t key, size_t wants)
{
    if (!(r->seen & SEEN(key)) || (r->seen & SEEN(wants)))
        return true;
    return refuse(r, r->began, keys[key].name, "It needs %s too; add it to this section.",
                  keys[wants].name);
}

/* Rules between the keys of a section. */
static bool end_section(struct reading *r)
{
    const struct destination *d;
    bool deflt;

    if (!r->row)
        return true;
    d = r->row->data;
    deflt = str_eq(d->domain, "default");
    for (size_t i = 0; deflt && i < countof(keys); i++)
        if ((keys[i].scope == NEEDED || i == ALERT) && !(r->seen & SEEN(i)))
            return refuse(r, r->began, keys[i].name, "[DEFAULT] must have this key; add it.");
    if (!needs(r, CONCURRENCY, TYPE) || !needs(r, CONCURRENCY, APPLY) ||
        !needs(r, RECIPIENTS, MINUTES) || !needs(r, RECIPIENTS, TYPE) ||
        !needs(r, RECIPIENTS, APPLY) || !needs(r, MINUTES, RECIPIENTS))
        return false;
    if (deflt && (!d->concurrency_limit || !d->max_messages_per_connection))
        return refuse(r, r->began, keys[d->concurrency_limit ? MESSAGES : CONCURRENCY].name,
                      "The default entry has nothing to inherit from; write a number.");
    if (deflt && d->use_tls == DEST_TLS_DEFAULT)
        return refuse(r, r->began, keys[TLS].name,
                      "The default entry has nothing to inherit from; write off, on or more.");
    if (deflt)
        keep_default_words(r);
    else
        r->entries++;
    row_freeze(r->row);
    config_edits_put(r->out, &section_destination, r->row->name, r->row);
    r->row = NULL;
    return true;
}

static bool begin_section(struct reading *r)
{
    AUTO(str) char *name = slice_dup(r->in.section);
    const char *domain = str_ieq(name, "DEFAULT") ? "default" : name;
    struct err err = {0};
    struct row *row = row_new(&section_destination, NULL);
    const struct row *base;
    bool ok = row_set(row, "domain", domain, &err);

    if (!ok)
        refuse(r, r->in.line, NULL, "[%s]: %s", str_printable(name), err.text);
    else if (map_get(&r->sections, row->name))
        ok = refuse(r, r->in.line, NULL, "The section [%s] stands twice; remove one.",
                    str_printable(name));
    if (!ok) {
        row_free(&row);
        return false;
    }
    map_set(&r->sections, row->name, r);
    base = config_row(r->base, &section_destination, "default");
    if (base && str_eq(row->name, "default")) /* the one value that files cannot say */
        row_set(row, "bounce_profile", row_text(base, "bounce_profile"), NULL);
    r->row = row;
    r->seen = 0;
    r->began = r->in.line;
    return true;
}

/* DANE and MTA-STS with TLS off, once [DEFAULT] is known wherever it stood. */
static bool check_levels(struct reading *r)
{
    const struct config_edit *base = config_edits_find(r->out, &section_destination, "default");

    for (size_t i = 0; i < r->out->n; i++) {
        const struct config_edit *e = &r->out->items[i];
        const struct destination *d = e->row ? e->row->data : NULL;
        const char *field = d && e->section == &section_destination
                                ? destination_tls_conflict(d, base->row->data)
                                : NULL;

        if (field)
            return err_set(r->err, E_INVALID,
                           "[%s], %s: It needs TLS, but table_tls is off; set table_tls to on or "
                           "more, or %s to %s.",
                           str_eq(d->domain, "default") ? "DEFAULT" : d->domain,
                           str_eq(field, "dane") ? "table_dane" : "table_mta_sts",
                           str_eq(field, "dane") ? "table_dane" : "table_mta_sts",
                           str_eq(field, "dane") ? "none" : "off");
    }
    return true;
}

static bool read_all(struct reading *r, const char *text, size_t n)
{
    ini_begin(&r->in, text, n);
    for (;;) {
        switch (ini_next(&r->in, r->err)) {
        case INI_SECTION:
            if (!end_section(r) || !begin_section(r))
                return false;
            break;
        case INI_KEY:
            if (!read_key(r))
                return false;
            break;
        case INI_END:
            return end_section(r);
        case INI_ERROR:
            return false;
        }
    }
}

/* Entries the file does not have go; what is as it was is no edit. */
static void replace_table(struct reading *r)
{
    size_t n = config_count(r->base, &section_destination);

    for (size_t i = 0; i < n; i++) {
        const char *name = config_at(r->base, &section_destination, i)->name;

        if (!map_get(&r->sections, name))
            config_edits_put(r->out, &section_destination, name, NULL);
    }
}

bool dest_ini_import(const char *text, size_t n, const struct config *base,
                     struct config_edits *out, size_t *entries, struct err *err)
{
    struct reading r = {.base = base, .out = out, .err = err};
    const struct row *setup = config_row(base, &section_destination_setup, "-");
    bool ok;

    r.setup = row_copy(setup);
    row_set(r.setup, "certificate", "Demo", NULL); /* what a file without the key means */
    ok = n <= DEST_INI_MAX || err_set(err, E_LIMIT, "The file is too long.");
    ok = ok && read_all(&r, text, n);
    if (ok && !map_get(&r.sections, "default"))
        ok =
            err_set(err, E_INVALID,
                    "There is no section [DEFAULT]; add it with the values that the other sections "
                    "inherit.");
    ok = ok && check_levels(&r);
    if (ok) {
        replace_table(&r);
        row_freeze(r.setup);
        config_edits_put(out, &section_destination_setup, "-", r.setup);
        r.setup = NULL;
        *entries = r.entries;
    }
    row_free(&r.setup);
    row_free(&r.row);
    map_free(&r.sections);
    return ok;
}

/* --- writing --- */

static const char *text_in_file(const struct row *r, const struct key *k)
{
    static _Thread_local char word[64];
    const char *text = row_text(r, k->field), *words = k->words ? k->words : "";
    struct slice theirs, ours;

    while (next_word(&words, &theirs, &ours)) {
        if (slice_eq(ours, text)) {
            str_copy(word, theirs.n < sizeof(word) ? theirs.n + 1 : sizeof(word), theirs.p);
            return word;
        }
    }
    if (k != &keys[IP] || str_eq(text, "default"))
        return text;
    str_copy(word, sizeof(word), text);
    for (char *p = word; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return word;
}

static void write_default(const struct row *r, const struct row *setup, struct buf *out)
{
    const struct destination *d = r->data;

    buf_str_add(out, "[DEFAULT]\n");
    for (size_t i = 0; i < countof(keys); i++) {
        const struct key *k = &keys[i];

        if (k->scope == GLOBAL)
            buf_printf(out, "%s = %s\n", k->name, text_in_file(setup, k));
        else if (k->scope != DOMAINS && ((i != MINUTES && i != RECIPIENTS) || d->recipient_limit))
            buf_printf(out, "%s = %s\n", k->name, resolved(k, text_in_file(r, k)));
    }
}

static void write_entry(const struct row *r, const struct row *fresh, struct buf *out)
{
    const struct destination *d = r->data;
    bool limited = d->concurrency_limit || d->recipient_limit;

    buf_printf(out, "\n[%s]\n", r->name);
    for (size_t i = 0; i < countof(keys); i++) {
        const struct key *k = &keys[i];
        const struct field *f = k->scope == GLOBAL ? NULL : field_find(r->section, k->field);

        if (f && ((limited && (i == TYPE || i == APPLY)) ||
                  !f->type->equal(row_slot(r, f), row_slot(fresh, f))))
            buf_printf(out, "%s = %s\n", k->name, text_in_file(r, k));
    }
}

void dest_ini_export(const struct config *cfg, struct buf *out)
{
    const struct row *base = config_row(cfg, &section_destination, "default");
    struct row *fresh = row_new(&section_destination, NULL);

    write_default(base, config_row(cfg, &section_destination_setup, "-"), out);
    for (size_t i = 0; i < config_count(cfg, &section_destination); i++) {
        const struct row *r = config_at(cfg, &section_destination, i);

        if (r != base)
            write_entry(r, fresh, out);
    }
    row_free(&fresh);
}
