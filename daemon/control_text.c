/* control_text.c - config.export, config.import and the files of the export area (HOME/export). */
#include <dirent.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/candidate.h"
#include "daemon/config_db.h"
#include "daemon/control_config.h"
#include "daemon/export_area.h"
#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/text.h"

#define MAX_TEXT                                                                                   \
    ((size_t)JSON_MAX_LINE / 8 * 7) /* an escaped text must still fit in a line of the protocol */
#define SALT_NOTE "secrets are encrypted, salt "
#define PLAIN_NOTE "secrets are in plain text, for administrators only"

struct passphrase { /* a key made of it, on a worker: scrypt takes its time on purpose */
    const char *text;
    unsigned char salt[TEXT_SALT], key[TEXT_KEY];
    bool plain; /* export without encryption */
};

static bool derive(void *arg, struct err *err)
{
    struct passphrase *p = arg;

    return text_key(p->text, p->salt, p->key, err);
}

static bool secret_out(void *arg, const char *ref, struct buf *text, struct err *err)
{
    struct buf plain = BUF_INIT((size_t)1 << 20);
    struct passphrase *p = arg;
    bool ok;

    if (!*ref)
        return true;
    ok = config_db_secret(ref, &plain, err); /* YIELDS */
    if (ok && p->plain)
        buf_add(text, plain.p, plain.n);
    else if (ok)
        ok = text_encrypt(p->key, buf_str(&plain), plain.n, text, err);
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    buf_free(&plain);
    return ok;
}

static bool secret_in(void *arg, const char *kind, const char *text, char **ref, struct err *err)
{
    struct buf plain = BUF_INIT((size_t)1 << 20);
    struct passphrase *p = arg;
    bool ok;

    if (str_starts(text, "sealed:")) { /* a reference: good where it came from */
        ok = config_db_secret(text, &plain, err); /* YIELDS */
        if (ok)
            *ref = xstrdup(text);
        else
            err_wrap(err, "the text names a secret instead of holding it");
    } else if (str_starts(text, "encrypted:")) {
        if (!p->text)
            ok = err_set(err, E_USAGE,
                         "the secrets of this text are encrypted; give its passphrase");
        else
            ok = text_decrypt(p->key, text, &plain, err) &&
                 config_db_seal(kind, buf_str(&plain), plain.n, ref, err); /* YIELDS */
    } else {
        ok = config_db_seal(kind, text, strlen(text), ref, err); /* YIELDS */
    }
    if (plain.p)
        OPENSSL_cleanse(plain.p, plain.cap);
    buf_free(&plain);
    return ok;
}

/* The same secrets give the same salt, so that two exports of the same configuration are the same
 * text. References carry keyed digests of this machine, which keeps the salt from being anyone
 * else's. */
static void make_salt(const struct config *cfg, unsigned char salt[TEXT_SALT])
{
    AUTO(buf) struct buf refs = BUF_INIT((size_t)16 << 20);
    unsigned char h[32];

    for (size_t i = 0; i < section_count(); i++) {
        const struct section *s = section_at(i);

        for (size_t k = 0; k < s->nfields; k++)
            for (size_t j = 0; s->fields[k].secret && j < config_count(cfg, s); j++)
                buf_printf(&refs, "%s\n", *(char **)row_slot(config_at(cfg, s, j), &s->fields[k]));
    }
    SHA256((const unsigned char *)buf_str(&refs), refs.n, h);
    memcpy(salt, h, TEXT_SALT);
}

static bool export_text(const struct config *cfg, bool json, const struct text_secrets *secrets,
                        json_t *data, struct err *err)
{
    struct buf out = BUF_INIT(MAX_TEXT);
    bool ok;

    if (json) {
        json_t *j = text_export_json(cfg, secrets, err);
        char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;

        ok = text;
        if (text) {
            buf_str_add(&out, text);
            buf_char(&out, '\n');
            OPENSSL_cleanse(text, strlen(text));
            free(text);
        }
        json_decref(j);
    } else {
        ok = text_export(cfg, secrets, &out, err);
    }
    if (ok && out.full)
        ok = err_set(err, E_LIMIT, "The configuration is too large for one text (%zu bytes).",
                     out.max);
    if (ok)
        json_put_str(data, "text", buf_str(&out));
    if (out.p)
        OPENSSL_cleanse(out.p, out.cap);
    buf_free(&out);
    return ok;
}

static bool do_export(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *how = json_str(args, "secrets", "mask"),
               *format = json_str(args, "format", "batch");
    struct passphrase p = {.text = json_str(args, "passphrase", ""), .plain = str_eq(how, "plain")};
    struct text_secrets secrets = {.out = secret_out, .arg = &p};
    bool mask = str_eq(how, "mask"), json = str_eq(format, "json"), ok = true;
    struct config *cfg = NULL;
    char note[100];

    if ((!mask && !p.plain && !str_eq(how, "encrypt")) || (!json && !str_eq(format, "batch")))
        return err_set(
            err, E_USAGE,
            "secrets is \"mask\", \"encrypt\" or \"plain\"; format is \"batch\" or \"json\".");
    if (!mask && control_role(c) < ROLE_ADMIN) {
        control_audit(c, "export", how, "denied", NULL); /* YIELDS */
        return err_set(err, E_DENIED, "Only administrators may export secrets.");
    }
    if (!control_view(c, args, "revision", "candidate", &cfg, err)) /* YIELDS */
        return false;
    if (!mask && !p.plain) {
        size_t n = (size_t)snprintf(note, sizeof(note), "%s", SALT_NOTE);

        make_salt(cfg, p.salt);
        for (size_t i = 0; i < TEXT_SALT; i++)
            n += (size_t)snprintf(note + n, sizeof(note) - n, "%02x", p.salt[i]);
        secrets.note = note;
        ok = worker_call(derive, &p, err); /* YIELDS */
    }
    if (p.plain)
        secrets.note = PLAIN_NOTE;
    ok = ok && export_text(cfg, json, mask ? NULL : &secrets, data, err);
    OPENSSL_cleanse(p.key, sizeof(p.key));
    if (!mask)
        control_audit(c, "export", how, ok ? "ok" : "failed", NULL); /* YIELDS */
    config_free(&cfg);
    return ok;
}

/* The salt of the head of an encrypted text. */
static bool read_salt(const char *text, unsigned char salt[TEXT_SALT])
{
    const char *p = strstr(text, SALT_NOTE);

    if (!p)
        return false;
    p += strlen(SALT_NOTE);
    for (size_t i = 0; i < TEXT_SALT; i++, p += 2) {
        unsigned byte;

        if (sscanf(p, "%2x", &byte) != 1)
            return false;
        salt[i] = (unsigned char)byte;
    }
    return true;
}

static bool may_import(struct control *c, const struct config_edits *e, const struct config *view,
                       struct err *err)
{
    for (size_t i = 0; i < e->n; i++)
        if (!row_equal(e->items[i].row, config_row(view, e->items[i].section, e->items[i].name)) &&
            !control_may_change(c, e->items[i].section, err)) /* YIELDS when it refuses */
            return false;
    return true;
}

static bool do_import(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *text = json_str(args, "text", ""), *mode = json_str(args, "mode", "merge");
    struct passphrase p = {.text = json_str(args, "passphrase", NULL)};
    struct text_secrets secrets = {.in = secret_in, .arg = &p};
    struct config *view = config_ref(candidate_view(*control_candidate(c)));
    struct config_edits edits = {0}, changed = {0};
    unsigned n_new = 0, n_changed = 0, n_deleted = 0;
    bool ok = true;

    if (!str_eq(mode, "merge") && !str_eq(mode, "replace"))
        ok = err_set(err, E_USAGE, "The mode is \"merge\" or \"replace\".");
    else if (p.text && !*p.text)
        p.text = NULL;
    if (ok && p.text)
        ok = !read_salt(text, p.salt) || worker_call(derive, &p, err); /* YIELDS */
    ok = ok &&
         text_import(text, strlen(text), view, str_eq(mode, "replace"), &secrets, &edits, err) &&
         may_import(c, &edits, view, err);
    for (size_t i = 0; ok && i < edits.n; i++) {
        const struct config_edit *e = &edits.items[i];
        const struct row *old = config_row(view, e->section, e->name);

        if (row_equal(old, e->row))
            continue;
        n_new += !old;
        n_deleted += !e->row;
        n_changed += old && e->row;
        config_edits_put(&changed, e->section, e->name, row_ref(e->row));
    }
    ok = ok && (!changed.n || control_stage(c, &changed, 0, err)); /* YIELDS */
    OPENSSL_cleanse(p.key, sizeof(p.key));
    if (ok) {
        json_put_int(data, "new", n_new);
        json_put_int(data, "changed", n_changed);
        json_put_int(data, "deleted", n_deleted);
    }
    config_edits_free(&edits);
    config_edits_free(&changed);
    config_free(&view);
    return ok;
}

/* --- the export area --- */

struct list_job {
    json_t *list;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_shown(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static bool list_job(void *arg, struct err *err)
{
    struct list_job *j = arg;
    char *dir = xasprintf("%s/export", home_dir());
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_shown, by_name);

    (void)err;
    for (int i = 0; i < n; i++) {
        char *path = xasprintf("%s/%s", dir, names[i]->d_name), date[40];
        struct stat st;

        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            json_t *o = json_object();

            json_put_str(o, "name", names[i]->d_name);
            json_put_int(o, "size", st.st_size);
            json_put_str(o, "time", clock_rfc3339((usec_t)st.st_mtime * 1000000, date));
            json_array_append_new(j->list, o);
        }
        free(path);
        free(names[i]);
    }
    free(names);
    free(dir);
    return true;
}

static bool do_file_write(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *text = json_str(args, "text", "");
    char *path;
    bool ok;

    if (!export_area_path(json_str(args, "name", ""), &path, err))
        return false;
    ok = export_area_write(path, text, strlen(text), control_role(c) >= ROLE_ADMIN,
                           json_bool_of(args, "replace", false), err); /* YIELDS */
    if (!ok && err->code == E_DENIED)
        control_audit(c, "file.write", path, "denied", NULL); /* YIELDS */
    if (ok) {
        json_put_str(data, "path", path);
        control_audit(c, "file.write", path, "ok", NULL);
    }
    free(path);
    return ok;
}

/* What an administrator exported or put there must not be an operator's by way of the export area.
 */
static bool holds_secrets(const struct buf *text)
{
    return strstr(buf_str(text), PLAIN_NOTE) || strstr(buf_str(text), "PRIVATE KEY-----");
}

bool control_read_file(struct control *c, const char *name, struct buf *text, struct err *err)
{
    char *path;
    bool ok;

    if (!export_area_path(name, &path, err))
        return false;
    ok = export_area_read(path, text, err); /* YIELDS */
    if (ok && control_role(c) < ROLE_ADMIN && holds_secrets(text)) {
        ok = err_set(err, E_DENIED, "The file holds secrets; only administrators may read it.");
        control_audit(c, "file.read", path, "denied", NULL); /* YIELDS */
    }
    free(path);
    return ok;
}

static bool do_file_read(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct buf text = BUF_INIT(MAX_TEXT);
    bool ok = control_read_file(c, json_str(args, "name", ""), &text, err); /* YIELDS */

    if (ok)
        json_put_str(data, "text", buf_str(&text));
    if (text.p)
        OPENSSL_cleanse(text.p, text.n);
    buf_free(&text);
    return ok;
}

static bool do_file_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct list_job j = {.list = json_array()};

    (void)c;
    (void)args;
    json_put(data, "files", j.list);
    return worker_call(list_job, &j, err); /* YIELDS */
}

const struct control_op control_text_ops[] = {
    {"config.export", ROLE_READONLY, do_export    },
    {"config.import", ROLE_OPERATOR, do_import    },
    {"file.write",    ROLE_OPERATOR, do_file_write},
    {"file.read",     ROLE_OPERATOR, do_file_read },
    {"file.list",     ROLE_OPERATOR, do_file_list },
    {NULL,            0,             NULL         },
};
