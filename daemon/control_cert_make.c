/* control_cert_make.c - certificate profiles made, pasted, imported from files and exported:
 * cert.new, cert.paste, cert.import, cert.export, cert.csr. All of it is staged like any other
 * change.
 *
 * What came from outside is parsed on a worker. A key made here never leaves the daemon but sealed
 * in a PKCS#12 file, which the daemon writes itself; one that comes in is sealed before anything is
 * staged. What is there already is said to be, and stages nothing, so that scripts may say the same
 * thing twice. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/candidate.h"
#include "daemon/config_db.h"
#include "daemon/control_cert.h"
#include "daemon/control_config.h"
#include "daemon/export_area.h"
#include "daemon/worker.h"
#include "store/pkcs12.h"
#include "store/x509.h"

/* YIELDS. The path of the file, which the caller frees; NULL: err says why. */
static char *write_file(const json_t *args, const char *name, const void *bytes, size_t n,
                        struct err *err)
{
    char *path = NULL;

    if (export_area_path(name, &path, err) &&
        !export_area_write(path, bytes, n, true, json_bool_of(args, "replace", false), err))
        str_free(&path);
    return path;
}

static bool read_file(const char *name, struct buf *out, struct err *err) /* YIELDS */
{
    char *path = NULL;
    bool ok = export_area_path(name, &path, err) && export_area_read_bytes(path, out, err);

    free(path);
    return ok && (out->n <= CERT_FILE_MAX ||
                  err_set(err, E_LIMIT, "%s is longer than %u bytes.", name, CERT_FILE_MAX));
}

static void secret_buf_free(struct buf *b)
{
    if (b->p)
        OPENSSL_cleanse(b->p, b->cap);
    buf_free(b);
}

static void add_warning(json_t *data, char *text)
{
    json_array_insert_new(json_object_get(data, "warnings"), 0, json_string(text));
    free(text);
}

/* --- the profile that is written --- */

/* What a profile is called when nobody says: its common name, in the letters a name may have. */
static char *name_from(const char *common_name)
{
    bool wildcard = str_starts(common_name, "*.");
    char *name = xasprintf("%s%s", wildcard ? "wildcard." : "", common_name + (wildcard ? 2 : 0));
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

    for (char *p = name; *p; p++)
        if (!strchr(allowed, *p))
            *p = '-';
    if (strlen(name) > 64)
        name[64] = '\0';
    return name;
}

struct target {
    char *name;
    struct row *before; /* NULL: a new profile */
    bool replace;
};

/* The profile args are about. name_hint: the common name, when args have no name. */
static bool find_target(struct control *c, const json_t *args, const char *name_hint,
                        struct target *t, struct err *err)
{
    const char *given = json_str(args, "name", "");
    struct row *trial = row_new(&section_certificate, NULL);
    bool ok;

    t->name = *given ? xstrdup(given) : name_from(name_hint);
    t->replace = json_bool_of(args, "replace", false);
    ok = row_set(trial, "name", t->name, err);
    row_free(&trial);
    if (!ok)
        return false;
    t->before = cert_profile(c, t->name, NULL);
    if (t->before && ((const struct certificate *)t->before->data)->demo)
        return err_set(
            err, E_DENIED,
            "The demonstration certificate \"%s\" cannot be changed. Choose another name.",
            t->name);
    return true;
}

static bool may_replace(const struct target *t, struct err *err)
{
    return !t->before || t->replace ||
           err_set(
               err, E_EXISTS,
               "Certificate profile \"%s\" already exists. Choose another name, or add --replace.",
               t->name);
}

static void target_free(struct target *t)
{
    row_free(&t->before);
    free(t->name);
}

struct parts { /* texts of the profile to be; NULL: as it was */
    const char *certificate, *intermediates, *request, *private_key;
};

/* Stages the profile and says in data whether that changed anything. YIELDS */
static bool stage(struct control *c, const struct target *t, const struct parts *p, json_t *data,
                  struct err *err)
{
    struct row *r = t->before ? row_copy(t->before) : row_new(&section_certificate, t->name);
    struct config_edits edits = {0};
    char *ref = NULL;
    bool ok = row_set(r, "name", t->name, err), same;

    if (ok && p->private_key) {
        ok = config_db_seal("certificate.private_key", p->private_key, strlen(p->private_key), &ref,
                            err); /* YIELDS */
        if (ok && !row_is(r, "private_key", ref))
            ok = row_set(r, "request", "", err); /* it was of the other key */
        ok = ok && row_set(r, "private_key", ref, err);
    }
    ok = ok && (!p->certificate || row_set(r, "certificate", p->certificate, err)) &&
         (!p->intermediates || row_set(r, "intermediates", p->intermediates, err)) &&
         (!p->request || row_set(r, "request", p->request, err));
    free(ref);
    if (!ok) {
        row_free(&r);
        return false;
    }
    row_freeze(r);
    same = t->before && row_equal(r, t->before);
    json_put(data, "changed", json_boolean(!same));
    json_put_str(data, "name", t->name);
    if (same || !may_replace(t, err)) {
        row_free(&r);
        return same;
    }
    config_edits_put(&edits, &section_certificate, t->name, r);
    ok = control_stage(c, &edits, 0, err); /* YIELDS */
    config_edits_free(&edits);
    return ok;
}

/* --- cert.new and cert.csr --- */

struct make_job {
    struct x509_request request;
    struct strlist names;
    struct buf cert, key, csr;
};

static bool make(void *arg,
                 struct err *err) /* on a worker: an RSA key of 4096 bits takes seconds */
{
    struct make_job *j = arg;

    return x509_make_self_signed(&j->request, &j->cert, &j->key, &j->csr, err);
}

static void read_request(const json_t *args, struct make_job *j)
{
    const json_t *names = json_object_get(args, "names"), *n;
    size_t i;

    j->request = (struct x509_request){
        .common_name = json_str(args, "common_name", ""),
        .organization = json_str(args, "organization", ""),
        .unit = json_str(args, "unit", ""),
        .locality = json_str(args, "locality", ""),
        .state = json_str(args, "state", ""),
        .country = json_str(args, "country", ""),
        .algorithm = json_str(args, "algorithm", "rsa-2048"),
        .digest = json_str(args, "digest", ""),
        .names = &j->names,
    };
    j->request.days = (unsigned)json_int(args, "days", 3650);
    json_array_foreach(names, i, n) if (json_is_string(n))
        strlist_add(&j->names, json_string_value(n));
}

static bool save_csr(struct control *c, const json_t *args, const char *name, const char *csr,
                     json_t *data, struct err *err)
{
    char *file = xasprintf("%s.csr", name);
    char *path = write_file(args, file, csr, strlen(csr), err); /* YIELDS */

    if (path) {
        json_put_str(data, "csr", csr);
        json_put_str(data, "csr_path", path);
        control_audit(c, "file.write", path, "ok", NULL); /* YIELDS */
    }
    free(file);
    free(path);
    return path || err_wrap(err, "saving the certificate signing request");
}

static bool put_subject(const char *cert, json_t *data, struct err *err)
{
    struct x509_facts f;
    bool ok = x509_read(cert, &f, err);

    if (ok)
        json_put_str(data, "subject", f.subject);
    x509_facts_free(&f);
    return ok;
}

/* What was made for the same words before: a script says them again after every start. */
static bool made_before(const struct target *t, struct make_job *j)
{
    const struct certificate *c = t->before ? t->before->data : NULL;

    if (!c || t->replace || !*c->request || !x509_made_for(c->certificate, c->request, &j->request))
        return false;
    buf_str_add(&j->cert, c->certificate);
    buf_str_add(&j->csr, c->request);
    return true;
}

/* YIELDS */
static bool make_profile(struct control *c, const struct target *t, struct make_job *j,
                         json_t *data, struct err *err)
{
    struct parts p = {0};

    if (!may_replace(t, err) || !worker_call(make, j, err)) /* YIELDS */
        return false;
    p = (struct parts){buf_str(&j->cert), "", buf_str(&j->csr), buf_str(&j->key)};
    return stage(c, t, &p, data, err); /* YIELDS */
}

bool cert_new(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct make_job j = {.cert = BUF_INIT(65536), .key = BUF_INIT(65536), .csr = BUF_INIT(65536)};
    struct target t = {0};
    struct err saving = {0};
    bool ok;

    read_request(args, &j);
    ok = find_target(c, args, j.request.common_name, &t, err);
    if (ok && made_before(&t, &j)) {
        json_put(data, "changed", json_false());
        json_put_str(data, "name", t.name);
    } else
        ok = ok && make_profile(c, &t, &j, data, err); /* YIELDS */
    ok = ok && put_subject(buf_str(&j.cert), data, err);
    if (ok) {
        json_put_str(data, "certificate", buf_str(&j.cert));
        json_put_str(data, "csr", buf_str(&j.csr));
        json_put(data, "warnings", json_array());
        if (json_bool_of(args, "save_csr", true) &&
            !save_csr(c, args, t.name, buf_str(&j.csr), data, &saving)) /* YIELDS */
            add_warning(data, xstrdup(saving.text)); /* the profile is there all the same */
    }
    secret_buf_free(&j.key);
    buf_free(&j.cert);
    buf_free(&j.csr);
    strlist_free(&j.names);
    target_free(&t);
    return ok;
}

bool cert_csr(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct row *r = cert_profile(c, json_str(args, "name", ""), err);
    const char *csr = r ? ((const struct certificate *)r->data)->request : "";
    bool ok = r && (*csr || err_set(err, E_NOT_FOUND,
                                    "Certificate profile \"%s\" has no signing request; it was "
                                    "imported.",
                                    r->name));

    ok = ok && save_csr(c, args, r->name, csr, data, err); /* YIELDS */
    row_free(&r);
    return ok;
}

/* --- cert.paste --- */

struct paste_job {
    const char *certificate, *key, *added, *removed; /* NULL: not given */
    const struct certificate *before; /* or NULL */
    bool fqdn;
    struct buf leaf, chain;
    char *common_name;
};

/* The key the certificate must belong to: the pasted one, or that of the profile. */
static bool check_key(const struct paste_job *j, const char *leaf, struct err *err)
{
    if (j->key)
        return x509_check_key(j->key, err) && x509_key_matches(leaf, j->key, err);
    if (!j->before || !*j->before->private_key)
        return err_set(err, E_USAGE,
                       "The private key is missing. Give it together with the certificate.");
    return x509_same_key(leaf, *j->before->request ? j->before->request : j->before->certificate,
                         err);
}

/* Chain certificates may stand behind the leaf, as authorities deliver them, or come by themselves.
 */
static bool order_chain(struct paste_job *j, const char *leaf, struct err *err)
{
    AUTO(buf) struct buf all = BUF_INIT(900u << 10), ordered = BUF_INIT(256u << 10);
    const char *stored = j->before ? j->before->intermediates : "";

    buf_printf(&all, "%s\n%s\n", j->certificate ? j->certificate : stored,
               j->added ? j->added : "");
    if (all.full)
        return err_set(err, E_LIMIT, "The certificates are too long.");
    if (!x509_order_chain(leaf, buf_str(&all), &ordered, err))
        return false;
    /* a renewed certificate of the same authority keeps the stored chain when that still fits */
    if (!j->added && !ordered.n && !j->key && !x509_order_chain(leaf, stored, &ordered, NULL))
        buf_reset(&ordered);
    if (j->removed)
        return x509_leave_out(buf_str(&ordered), j->removed, &j->chain, err);
    buf_add(&j->chain, buf_str(&ordered), ordered.n);
    return true;
}

static bool check_names(struct paste_job *j, struct err *err)
{
    struct x509_facts f;
    bool ok = x509_read(buf_str(&j->leaf), &f, err);

    if (ok)
        j->common_name = xstrdup(f.common_name);
    ok = ok && (!j->fqdn || x509_check_fqdn(&f, err));
    x509_facts_free(&f);
    return ok;
}

static bool paste_job(void *arg, struct err *err)
{
    struct paste_job *j = arg;

    if (!j->certificate && !j->before)
        return err_set(err, E_USAGE, "The certificate is missing.");
    return x509_first(j->certificate ? j->certificate : j->before->certificate, &j->leaf, err) &&
           check_names(j, err) && check_key(j, buf_str(&j->leaf), err) &&
           order_chain(j, buf_str(&j->leaf), err);
}

static void paste_job_free(struct paste_job *j)
{
    buf_free(&j->leaf);
    buf_free(&j->chain);
    free(j->common_name);
}

/* Stages what the job made of certificate and chain, and says what is wrong with it. YIELDS */
static bool stage_pasted(struct control *c, const json_t *args, struct target *t,
                         struct paste_job *j, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", "");
    bool ok = true;

    if (!*name) { /* the name comes from the certificate, and with it the profile */
        target_free(t);
        *t = (struct target){0};
        ok = find_target(c, args, j->common_name, t, err);
    }
    return ok &&
           stage(c, t, &(struct parts){buf_str(&j->leaf), buf_str(&j->chain), NULL, j->key}, data,
                 err) && /* YIELDS */
           put_subject(buf_str(&j->leaf), data, err) &&
           cert_findings(c, t->name, data, err); /* YIELDS */
}

bool cert_paste(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct paste_job j = {.certificate = json_str(args, "certificate", NULL),
                          .key = json_str(args, "private_key", NULL),
                          .added = json_str(args, "intermediates", NULL),
                          .removed = json_str(args, "remove", NULL),
                          .fqdn = json_bool_of(args, "fqdn", false),
                          .leaf = BUF_INIT(64u << 10),
                          .chain = BUF_INIT(256u << 10)};
    struct target t = {0};
    bool ok = !*json_str(args, "name", "") || find_target(c, args, "", &t, err);

    j.before = t.before ? t.before->data : NULL;
    ok = ok && worker_call(paste_job, &j, err) && /* YIELDS */
         stage_pasted(c, args, &t, &j, data, err); /* YIELDS */
    paste_job_free(&j);
    target_free(&t);
    return ok;
}

/* --- cert.import --- */

struct import_job {
    struct buf file, key_file;
    const char *pass;
    unsigned which;
    struct cert_file found;
    struct paste_job paste;
};

static bool decode(const char *text, struct buf *out, struct err *err)
{
    size_t n = strlen(text);
    AUTO(buf) struct buf bare = BUF_INIT(2 * CERT_FILE_MAX);
    unsigned char *to;
    int length;

    if (strstr(text, "-----BEGIN ")) {
        buf_add(out, text, n);
        return !out->full ||
               err_set(err, E_LIMIT, "The text is longer than %u bytes.", CERT_FILE_MAX);
    }
    for (; *text; text++)
        if (!strchr(" \t\r\n", *text))
            buf_char(&bare, *text);
    to = bare.n % 4 ? NULL : (unsigned char *)buf_reserve(out, bare.n / 4 * 3 + 4);
    length = to ? EVP_DecodeBlock(to, (const unsigned char *)buf_str(&bare), (int)bare.n) : -1;
    if (length <= 0)
        return err_set(err, E_INVALID,
                       "The data is neither a PEM text nor base64 of a PKCS#12 file.");
    out->n += (size_t)length;
    while (bare.n && bare.p[bare.n - 1] == '=') { /* which the call counts as bytes */
        bare.n--;
        out->n--;
    }
    return true;
}

/* On a worker: whatever came is parsed here. */
static bool import_job(void *arg, struct err *err)
{
    struct import_job *j = arg;
    bool pem = memmem(buf_str(&j->file), j->file.n, "-----BEGIN ", 11), ok;

    if (j->key_file.n && !pem)
        return err_set(err, E_USAGE,
                       "A key file goes with a PEM file only; a PKCS#12 file has its own key.");
    if (pem) {
        buf_char(&j->file, '\n');
        buf_add(&j->file, buf_str(&j->key_file), j->key_file.n);
        ok = pem_read(buf_str(&j->file), j->file.n, j->pass, &j->found, err);
    } else {
        ok = pkcs12_read(buf_str(&j->file), j->file.n, j->pass, j->which, &j->found, err);
    }
    if (!ok)
        return false;
    j->paste.certificate = buf_str(&j->found.certificate);
    j->paste.added = j->found.intermediates.n ? buf_str(&j->found.intermediates) : NULL;
    j->paste.key = j->found.private_key.n ? buf_str(&j->found.private_key) : NULL;
    return paste_job(&j->paste, err);
}

static bool read_files(const json_t *args, struct import_job *j, struct err *err)
{
    const char *file = json_str(args, "file", NULL), *key = json_str(args, "key_file", NULL),
               *text = json_str(args, "data", NULL);
    bool ok;

    if (text) {
        ok = decode(text, &j->file, err);
    } else {
        ok = read_file(file ? file : "", &j->file, err); /* YIELDS */
    }
    if (ok && key && *key)
        ok = read_file(key, &j->key_file, err); /* YIELDS */
    return ok && (j->file.n || err_set(err, E_INVALID, "The file is empty."));
}

static void add_remarks(const struct cert_file *b, bool from_file, json_t *data)
{
    for (size_t i = b->strangers.n; i-- > 0;)
        add_warning(data, xasprintf("\"%s\" is not part of the chain and was left out.",
                                    b->strangers.items[i]));
    if (b->open_key && from_file)
        add_warning(data, xstrdup("The file holds the private key without protection. Remove it "
                                  "from the export area."));
    if (b->old_cipher)
        add_warning(data, xstrdup("The file is protected with a cipher that can be broken (RC2, "
                                  "3DES or DES). Delete it, and do not send it again."));
}

bool cert_import(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct import_job j = {
        .file = BUF_INIT(2 * CERT_FILE_MAX + 4),
        .key_file = BUF_INIT(CERT_FILE_MAX + 16384),
        .pass = json_str(args, "pass_phrase", ""),
        .which = (unsigned)json_int(args, "key", 0),
        .paste = {.fqdn = json_bool_of(args, "fqdn", false),
                  .leaf = BUF_INIT(64u << 10),
                  .chain = BUF_INIT(256u << 10)}
    };
    struct target t = {0};
    bool ok = !*json_str(args, "name", "") || find_target(c, args, "", &t, err);

    cert_file_init(&j.found);
    j.paste.before = t.before ? t.before->data : NULL;
    ok = ok && read_files(args, &j, err) && worker_call(import_job, &j, err) && /* YIELDS */
         stage_pasted(c, args, &t, &j.paste, data, err); /* YIELDS */
    if (ok)
        add_remarks(&j.found, json_str(args, "file", NULL), data);
    else if (j.found.keys.n > 1 && !j.which) { /* so that a person can choose */
        json_t *keys = json_array();

        for (size_t i = 0; i < j.found.keys.n; i++)
            json_array_append_new(keys, json_string(j.found.keys.items[i]));
        control_envelope(c, "keys", keys);
    }
    cert_file_free(&j.found);
    paste_job_free(&j.paste);
    secret_buf_free(&j.file);
    secret_buf_free(&j.key_file);
    target_free(&t);
    return ok;
}

/* --- cert.export --- */

struct export_job {
    const struct certificate *profile;
    const char *name, *pass;
    bool old;
    struct buf key, out;
};

static bool export_job(void *arg, struct err *err)
{
    struct export_job *j = arg;

    return pkcs12_write(j->profile->certificate, j->profile->intermediates, buf_str(&j->key),
                        j->name, j->pass, j->old, &j->out, err);
}

static bool write_export(const json_t *args, const struct row *r, json_t *data, struct err *err)
{
    const struct certificate *profile = r->data;
    char *deflt = xasprintf("%s.p12", r->name), *path = NULL;
    struct export_job j = {.profile = profile,
                           .name = r->name,
                           .pass = json_str(args, "pass_phrase", ""),
                           .old = json_bool_of(args, "legacy", false),
                           .key = BUF_INIT(64u << 10),
                           .out = BUF_INIT(CERT_FILE_MAX)};
    bool ok = *j.pass || err_set(err, E_USAGE, "The pass phrase may not be empty.");

    if (ok && (!*profile->certificate || !*profile->private_key))
        ok = err_set(err, E_INVALID, "Certificate profile \"%s\" has no certificate yet.", r->name);
    ok = ok && config_db_secret(profile->private_key, &j.key, err) && /* YIELDS */
         worker_call(export_job, &j, err); /* YIELDS */
    if (ok)
        path = write_file(args, json_str(args, "file", deflt), j.out.p, j.out.n, err); /* YIELDS */
    if (path)
        json_put_str(data, "path", path);
    secret_buf_free(&j.key);
    buf_free(&j.out);
    free(deflt);
    free(path);
    return json_object_get(data, "path");
}

bool cert_export(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct row *r = cert_profile(c, json_str(args, "name", ""), err);
    bool ok = r && write_export(args, r, data, err); /* YIELDS */

    control_audit(c, "certificate.export", json_str(args, "name", ""), ok ? "ok" : "failed",
                  json_str(data, "path", NULL)); /* YIELDS */
    row_free(&r);
    return ok;
}
