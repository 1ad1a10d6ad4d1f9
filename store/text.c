/* text.c - see text.h. Pure but for the callbacks; any thread. */
#include "store/text.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/version.h"
#include "store/words.h"

#define NONCE 12
#define TAG 16

/* --- writing --- */

/* The words of .command: W0, W1, W2; "" where there are fewer. */
static void command_words(const struct section *s, char words[3][32])
{
    const char *p = s->command;

    for (int i = 0; i < 3; i++) {
        size_t n = strcspn(p, " ");

        str_copy(words[i], n + 1 < 32 ? n + 1 : 32, p);
        p += n + (p[n] == ' ');
    }
}

static bool is_default(const struct field *f, const struct row *r, const struct row *fresh)
{
    return f->type->equal(row_slot(r, f), row_slot(fresh, f));
}

static bool add_value(const struct field *f, const struct row *r,
                      const struct text_secrets *secrets, struct buf *out, struct err *err)
{
    struct buf plain = BUF_INIT((size_t)1 << 20);
    bool ok = true;

    if (f->secret && secrets && secrets->out) {
        ok = secrets->out(secrets->arg, *(char **)row_slot(r, f), &plain, err);
        if (ok)
            value_quote(buf_str(&plain), out);
        if (plain.p)
            OPENSSL_cleanse(plain.p, plain.cap);
        buf_free(&plain);
    } else {
        value_batch(f, row_slot(r, f), out);
    }
    return ok;
}

/* "listenerconfig edit InboundMail hostaccess set sendergroup BLACKLIST" */
static void add_head(const struct row *r, const char *verb, struct buf *out)
{
    const struct section *s = r->section;
    char w[3][32];

    command_words(s, w);
    buf_str_add(out, w[0]);
    for (int i = 1; i < 3 && !s->parent && *w[i]; i++)
        buf_printf(out, " %s", w[i]);
    if (s->single) {
        ; /* it has no name */
    } else if (s->parent) {
        buf_printf(out, " edit %.*s %s %s %s%s", (int)strcspn(r->name, "/"), r->name, w[1], verb,
                   w[2], *w[2] ? " " : "");
        value_quote(row_leaf(r), out);
    } else {
        buf_printf(out, " %s ", verb);
        value_quote(r->name, out);
    }
}

#define LIST_LINE_MAX (WORDS_MAX_LINE - 8192) /* bytes of a list in one line */

/* The items from there on that fit in a line; where the rest begins. */
static size_t add_items(const struct strlist *l, size_t from, struct buf *out)
{
    AUTO(buf) struct buf text = BUF_INIT(WORDS_MAX_LINE);
    size_t i = from;

    for (; i < l->n && (i == from || text.n + strlen(l->items[i]) < LIST_LINE_MAX); i++)
        buf_printf(&text, "%s%s", i > from ? ", " : "", l->items[i]);
    value_quote(buf_str(&text), out);
    return i;
}

static bool add_statement(const struct row *r, const struct text_secrets *secrets, struct buf *out,
                          struct err *err)
{
    const struct section *s = r->section;
    struct row *fresh = row_new(s, NULL);
    size_t *rest = xcalloc(s->nfields, sizeof(*rest)); /* of long lists: what follows in more lines */
    bool ok = true;

    add_head(r, "set", out);
    for (size_t i = 0; ok && i < s->nfields; i++) {
        const struct field *f = &s->fields[i];

        if (f->key)
            continue;
        if (s->lead && str_eq(f->name, s->lead)) {
            buf_char(out, ' ');
            ok = add_value(f, r, secrets, out, err);
        } else if (!is_default(f, r, fresh) && f->type == &type_list) {
            buf_printf(out, " %s=", f->name);
            rest[i] = add_items(row_slot(r, f), 0, out);
        } else if (!is_default(f, r, fresh)) {
            buf_printf(out, " %s=", f->name);
            ok = add_value(f, r, secrets, out, err);
        }
    }
    for (size_t i = 0; ok && i < s->nfields; i++) {
        const struct strlist *l = row_slot(r, &s->fields[i]);

        while (rest[i] && rest[i] < l->n) {
            buf_char(out, '\n');
            add_head(r, "edit", out);
            buf_printf(out, " %s+=", s->fields[i].name);
            rest[i] = add_items(l, rest[i], out);
        }
    }
    free(rest);
    row_free(&fresh);
    return ok;
}

void text_statement(const struct row *r, const struct text_secrets *secrets, struct buf *out)
{
    add_statement(r, secrets, out, NULL);
}

static bool is_all_default(const struct row *r)
{
    struct row *fresh = row_new(r->section, NULL);
    bool same = true;

    for (size_t i = 0; i < r->section->nfields; i++)
        same = same && is_default(&r->section->fields[i], r, fresh);
    row_free(&fresh);
    return same;
}

/* fn for every object of the section in the order of the text: owners sorted, then as they are
 * shown. */
static bool each_row(const struct config *cfg, const struct section *s,
                     bool (*fn)(const struct row *r, void *arg), void *arg)
{
    const struct section *parent = s->parent ? section_find(s->parent) : NULL;
    size_t owners = parent ? config_count(cfg, parent) : 1;
    bool ok = true;

    for (size_t i = 0; ok && i < owners; i++) {
        size_t n;
        const struct row **rows =
            config_ordered(cfg, s, parent ? config_at(cfg, parent, i)->name : NULL, &n);

        for (size_t k = 0; ok && k < n; k++)
            ok = fn(rows[k], arg);
        free(rows);
    }
    return ok;
}

struct export
{
    const struct text_secrets *secrets;
    struct buf *out;
    json_t *objects;
    const struct section *headed; /* the last one with its heading written */
    struct err *err;
};

static bool export_row(const struct row *r, void *arg)
{
    struct export *e = arg;

    if (r->section->single && !r->section->lead && is_all_default(r))
        return true;
    if (e->headed != r->section)
        buf_printf(e->out, "\n# %s\n", r->section->plural);
    e->headed = r->section;
    if (!add_statement(r, e->secrets, e->out, e->err))
        return false;
    buf_char(e->out, '\n');
    return true;
}

bool text_export(const struct config *cfg, const struct text_secrets *secrets, struct buf *out,
                 struct err *err)
{
    struct export e = {.secrets = secrets, .out = out, .err = err};

    buf_printf(out, "# Postern %s, schema %d, %s\n", POSTERN_VERSION, SCHEMA_VERSION,
               CONFIG_SINGLE(cfg, system)->hostname);
    if (secrets && secrets->note)
        buf_printf(out, "# %s\n", secrets->note);
    for (size_t i = 0; i < section_count(); i++)
        if (!each_row(cfg, section_at(i), export_row, &e))
            return false;
    return !out->full ||
           err_set(err, E_LIMIT, "The configuration is too large for one text (%zu bytes).",
                   out->max);
}

static bool export_object(const struct row *r, void *arg)
{
    struct export *e = arg;
    json_t *body = row_to_json(r), *o = json_object();
    bool ok = true;

    for (size_t i = 0; ok && i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];
        struct buf text = BUF_INIT((size_t)1 << 20);

        if (f->secret && e->secrets && e->secrets->out) {
            ok = e->secrets->out(e->secrets->arg, *(char **)row_slot(r, f), &text, e->err);
            json_put_str(body, f->name, buf_str(&text));
        }
        if (text.p)
            OPENSSL_cleanse(text.p, text.cap);
        buf_free(&text);
    }
    json_put_str(o, "section", r->section->name);
    json_put_str(o, "name", r->name);
    json_put(o, "body", body);
    json_array_append_new(e->objects, o);
    return ok;
}

json_t *text_export_json(const struct config *cfg, const struct text_secrets *secrets,
                         struct err *err)
{
    struct export e = {.secrets = secrets, .objects = json_array(), .err = err};
    json_t *j = json_object();
    bool ok = true;

    json_put_str(j, "postern", POSTERN_VERSION);
    json_put_int(j, "schema", SCHEMA_VERSION);
    if (secrets && secrets->note)
        json_put_str(j, "note", secrets->note);
    json_put(j, "objects", e.objects);
    for (size_t i = 0; ok && i < section_count(); i++)
        ok = each_row(cfg, section_at(i), export_object, &e);
    if (!ok) {
        json_decref(j);
        j = NULL;
    }
    return j;
}

/* --- reading --- */

struct import {
    const struct config *base;
    const struct text_secrets *secrets;
    struct config_edits *out;
    bool replace;
    struct err *err;
};

static const struct row *current(const struct import *in, const struct section *s, const char *name)
{
    const struct config_edit *e = config_edits_find(in->out, s, name);

    return e ? e->row : config_row(in->base, s, name);
}

static bool set_field(struct import *in, struct row *r, const char *key, char op, const char *value)
{
    const struct field *f = field_find(r->section, key);
    char *kind, *ref = NULL, *whole = NULL;
    bool ok;

    if (f && f->key)
        return err_set(in->err, E_USAGE, "the name is given before the values, not as %s=", key);
    if (f && f->secret && *value && in->secrets && in->secrets->in) {
        kind = xasprintf("%s.%s", r->section->name, f->name);
        ok = in->secrets->in(in->secrets->arg, kind, value, &ref, in->err) &&
             row_set(r, key, ref, in->err);
        free(kind);
        free(ref);
        return ok || err_wrap(in->err, "%s", key);
    }
    if (f && op != '=' && f->type == &type_list) {
        AUTO(buf) struct buf joined = BUF_INIT((size_t)16 << 20);

        list_change(row_slot(r, f), value, op, &joined);
        whole = buf_take(&joined);
    } else if (f && op != '=') {
        return err_set(in->err, E_USAGE, "%s: only lists know %c=", key, op);
    }
    ok = row_set(r, key, whole ? whole : value, in->err) ||
         err_wrap(in->err, "%s", str_printable(key));
    free(whole);
    return ok;
}

enum verb { SET, NEW, EDIT, REPLACE, DELETE, ABSENT, NO_VERB };
static const char *const verbs[] = {"set", "new", "edit", "replace", "delete", "absent"};

static enum verb find_verb(const char *word)
{
    for (size_t i = 0; i < countof(verbs); i++)
        if (str_ieq(word, verbs[i]))
            return (enum verb)i;
    return NO_VERB;
}

/* Applies one statement's words from `at` on to the object. */
static bool apply(struct import *in, const struct section *s, const char *given, enum verb verb,
                  const struct words *w, size_t at)
{
    char *name = row_canonical(s, given);
    const struct row *now = current(in, s, name);
    bool ok = true, removes = verb == DELETE || verb == ABSENT;
    struct row *r;

    if (verb == NEW && now)
        ok = err_set(in->err, E_EXISTS, "there is %s %s %s already", str_article(s->noun), s->noun,
                     str_printable(name));
    else if ((verb == EDIT || verb == DELETE) && !now)
        ok = err_set(in->err, E_NOT_FOUND, "there is no %s %s", s->noun, str_printable(name));
    else if (removes && at < w->n)
        ok = err_set(in->err, E_USAGE, "nothing follows the name: %s",
                     str_printable(w->items[at].text));
    if (!ok || removes) {
        if (ok && now)
            config_edits_put(in->out, s, name, NULL);
        free(name);
        return ok;
    }
    r = now && verb != REPLACE ? row_copy(now) : row_new(s, name);
    for (; ok && at < w->n; at++) {
        const struct word *word = &w->items[at];

        ok = word->key
                 ? set_field(in, r, word->key, word->op, word->value)
                 : err_set(in->err, E_USAGE, "%s is not KEY=VALUE", str_printable(word->text));
    }
    if (ok) {
        row_freeze(r);
        config_edits_put(in->out, s, name, r);
    } else {
        char *title = row_title(s, str_printable(name));

        err_wrap(in->err, "%s", title);
        free(title);
        row_free(&r);
    }
    free(name);
    return ok;
}

/* 0: the words are not a statement of s; else the statement was tried and *ok says how it went. */
static bool try_section(struct import *in, const struct section *s, const struct words *w, bool *ok)
{
    char cmd[3][32];
    const struct word *x = w->items;
    size_t at = 1;
    enum verb verb;

    command_words(s, cmd);
    if (!str_ieq(x[0].text, cmd[0]))
        return false;
    for (int i = 1; i < 3 && !s->parent && *cmd[i]; i++)
        if (at >= w->n || !str_ieq(x[at++].text, cmd[i]))
            return false;
    if (s->single) {
        *ok = true;
        if (s->lead && at < w->n && !x[at].key) {
            struct row *r = row_copy(current(in, s, "-"));

            *ok = set_field(in, r, s->lead, '=', x[at++].text);
            row_freeze(r);
            config_edits_put(in->out, s, "-", r);
        }
        *ok = *ok && apply(in, s, "-", SET, w, at);
        return true;
    }
    if (s->parent) {
        char *name;

        if (w->n < 6 - !*cmd[2] || !str_ieq(x[1].text, "edit") || !str_ieq(x[3].text, cmd[1]) ||
            (verb = find_verb(x[4].text)) == NO_VERB || (*cmd[2] && !str_ieq(x[5].text, cmd[2])))
            return false;
        at = *cmd[2] ? 6 : 5;
        if (at >= w->n || strchr(x[2].text, '/'))
            return false;
        name = xasprintf("%s/%s", x[2].text, x[at].text);
        *ok = apply(in, s, name, verb, w, at + 1);
        free(name);
        return true;
    }
    if (w->n < at + 2 || (verb = find_verb(x[at].text)) == NO_VERB || x[at + 1].key ||
        (w->n > at + 2 && !x[at + 2].key && !x[at + 2].flag))
        return false;
    *ok = apply(in, s, x[at + 1].text, verb, w, at + 2);
    return true;
}

static bool run_statement(struct import *in, const struct words *w)
{
    bool ok;

    if (!w->n)
        return true;
    for (size_t i = 0; i < section_count(); i++)
        if (try_section(in, section_at(i), w, &ok))
            return ok;
    return err_set(in->err, E_USAGE, "\"%s\" is not a statement of the configuration",
                   str_printable(w->items[0].text));
}

/* Lines for here-texts: the reader of the rest of the text. */
struct lines {
    const char *p, *end;
    char *line;
    unsigned number;
};

static const char *next_line(void *arg)
{
    struct lines *l = arg;
    const char *lf;
    size_t n;

    free(l->line);
    l->line = NULL;
    if (l->p >= l->end)
        return NULL;
    lf = memchr(l->p, '\n', (size_t)(l->end - l->p));
    n = lf ? (size_t)(lf - l->p) : (size_t)(l->end - l->p);
    l->line = xmalloc(n + 1);
    memcpy(l->line, l->p, n);
    if (n && l->line[n - 1] == '\r')
        n--;
    l->line[n] = '\0';
    l->p = lf ? lf + 1 : l->end;
    l->number++;
    return l->line;
}

static bool import_lines(struct import *in, const char *text, size_t n)
{
    struct lines lines = {.p = text, .end = text + n};
    const char *line;
    bool ok = true;

    while (ok && (line = next_line(&lines)) != NULL) {
        struct statements all = {0};
        char *copy = xstrdup(line); /* here-texts read on */
        unsigned number = lines.number;

        ok = words_parse(copy, strlen(copy), next_line, &lines, &all, in->err);
        for (size_t i = 0; ok && i < all.n; i++)
            ok = run_statement(in, &all.items[i]);
        if (!ok)
            err_wrap(in->err, "line %u", number);
        statements_free(&all);
        OPENSSL_cleanse(copy, strlen(copy));
        free(copy);
    }
    free(lines.line);
    return ok;
}

static bool import_object(struct import *in, const json_t *o)
{
    const char *name = json_str(o, "name", "-");
    const struct section *s = section_find(json_str(o, "section", ""));
    json_t *body = json_object_get(o, "body");
    struct row *r;

    if (!s)
        return err_set(in->err, E_USAGE, "there is no section \"%s\"",
                       str_printable(json_str(o, "section", "")));
    for (size_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        const char *value = json_str(body, f->name, "");
        char *kind, *ref = NULL;
        bool ok;

        if (!f->secret || !*value || !in->secrets || !in->secrets->in)
            continue;
        kind = xasprintf("%s.%s", s->name, f->name);
        ok = in->secrets->in(in->secrets->arg, kind, value, &ref, in->err);
        free(kind);
        if (ok)
            json_object_set_new(body, f->name, json_string(ref));
        free(ref);
        if (!ok)
            return err_wrap(in->err, "%s %s, %s", s->noun, str_printable(name), f->name);
    }
    r = row_from_json(s, name, body, in->err);
    if (!r)
        return false;
    row_freeze(r);
    config_edits_put(in->out, s, r->name, r);
    return true;
}

static bool import_json(struct import *in, const char *text, size_t n)
{
    json_t *j = json_parse(text, n, in->err), *objects = json_object_get(j, "objects");
    bool ok = j;

    if (ok && json_int(j, "schema", SCHEMA_VERSION) > SCHEMA_VERSION)
        ok = err_set(in->err, E_INVALID,
                     "the text was written by a newer release (schema %lld, this one knows %d)",
                     (long long)json_int(j, "schema", 0), SCHEMA_VERSION);
    else if (ok && !json_is_array(objects))
        ok = err_set(in->err, E_USAGE, "the JSON text has no array \"objects\"");
    for (size_t i = 0; ok && i < json_array_size(objects); i++)
        ok =
            import_object(in, json_array_get(objects, i)) || err_wrap(in->err, "object %zu", i + 1);
    json_decref(j);
    return ok;
}

bool text_import(const char *text, size_t n, const struct config *base, bool replace,
                 const struct text_secrets *secrets, struct config_edits *out, struct err *err)
{
    struct import in = {base, secrets, out, replace, err};
    size_t start = 0;

    for (size_t i = 0; replace && i < section_count(); i++) {
        const struct section *s = section_at(i);

        for (size_t k = 0; k < config_count(base, s); k++) {
            struct row *fresh = s->single ? row_new(s, "-") : NULL;

            if (fresh)
                row_freeze(fresh);
            config_edits_put(out, s, config_at(base, s, k)->name, fresh);
        }
    }
    while (start < n && strchr(" \t\r\n", text[start]))
        start++;
    return start < n && text[start] == '{' ? import_json(&in, text, n) : import_lines(&in, text, n);
}

/* --- passphrases --- */

bool text_key(const char *passphrase, const unsigned char salt[TEXT_SALT],
              unsigned char key[TEXT_KEY], struct err *err)
{
    if (!*passphrase)
        return err_set(err, E_USAGE, "A passphrase is needed.");
    if (EVP_PBE_scrypt(passphrase, strlen(passphrase), salt, TEXT_SALT, 1 << 15, 8, 1, 64 << 20,
                       key, TEXT_KEY) != 1)
        return err_set(err, E_IO, "deriving a key from the passphrase failed");
    return true;
}

static bool gcm(bool seal, const unsigned char *key, const unsigned char *nonce,
                const unsigned char *in, size_t n, unsigned char *out, unsigned char tag[TAG])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0;
    bool ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, seal) &&
              EVP_CipherUpdate(ctx, out, &len, in, (int)n) &&
              (seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag)) &&
              EVP_CipherFinal_ex(ctx, out + len, &len) &&
              (!seal || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag));

    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

bool text_encrypt(const unsigned char key[TEXT_KEY], const char *plain, size_t n, struct buf *out,
                  struct err *err)
{
    size_t total = NONCE + n + TAG;
    unsigned char mac[32], *sealed = xmalloc(total), *base64 = xmalloc(total / 3 * 4 + 8);
    unsigned len = sizeof(mac);
    bool ok;

    HMAC(EVP_sha256(), key, TEXT_KEY, (const unsigned char *)plain, n, mac, &len);
    memcpy(sealed, mac, NONCE);
    ok =
        gcm(true, key, sealed, (const unsigned char *)plain, n, sealed + NONCE, sealed + NONCE + n);
    if (ok) {
        EVP_EncodeBlock(base64, sealed, (int)total);
        buf_printf(out, "encrypted:%s", base64);
    } else {
        err_set(err, E_IO, "encrypting a secret failed");
    }
    free(base64);
    free(sealed);
    return ok;
}

bool text_decrypt(const unsigned char key[TEXT_KEY], const char *text, struct buf *plain,
                  struct err *err)
{
    const char *base64 = str_starts(text, "encrypted:") ? text + strlen("encrypted:") : text;
    size_t n = strlen(base64);
    unsigned char *sealed = xmalloc(n + 4);
    int got = n % 4 == 0 && n < (4u << 20)
                  ? EVP_DecodeBlock(sealed, (const unsigned char *)base64, (int)n)
                  : -1;
    bool ok = false;
    char *out;

    for (size_t i = n; got > 0 && i > 0 && i > n - 2 && base64[i - 1] == '='; i--)
        got--; /* EVP_DecodeBlock counts the padding */
    if (got < NONCE + TAG) {
        err_set(err, E_INVALID, "an encrypted secret is damaged");
    } else {
        size_t body = (size_t)got - NONCE - TAG;

        out = buf_reserve(plain, body + 1);
        ok = out && gcm(false, key, sealed, sealed + NONCE, body, (unsigned char *)out,
                        sealed + NONCE + body);
        if (ok) {
            plain->n += body;
            plain->p[plain->n] = '\0';
        } else {
            err_set(err, E_DENIED, "the passphrase is not the one the file was written with");
        }
    }
    free(sealed);
    return ok;
}
