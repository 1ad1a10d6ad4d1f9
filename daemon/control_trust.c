/* control_trust.c - authority.*: the lists of certificate authorities. What changes them ends in
 * the candidate like any other change; only an update of the system list takes effect at once,
 * because the list is the distribution's and not configuration. Certificates are parsed on worker
 * threads: a list may be long. */
#include "daemon/control.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/control_config.h"
#include "daemon/crl_source.h"
#include "daemon/trust.h"
#include "daemon/worker.h"
#include "store/authorities.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/x509.h"

#define MAX_TEXT (16u << 20)
#define MAX_WARNINGS 20u

static bool is_system(const json_t *args, bool *system, struct err *err)
{
    const char *list = json_str(args, "list", "");

    *system = str_eq(list, "system");
    return *system || str_eq(list, "custom") ||
           err_set(err, E_USAGE, "There is no list \"%s\"; choose system or custom.",
                   str_printable(list));
}

static void put_date(json_t *o, const char *key, usec_t t)
{
    char text[40];

    json_put_str(o, key, clock_rfc3339(t, text));
}

static void put_system(json_t *data)
{
    struct bundle *b = trust_system();
    json_t *o = json_object();

    json_put_int(o, "count", sk_X509_num(b->certificates));
    json_put_int(o, "damaged", b->damaged);
    json_put_str(o, "version", b->version);
    json_put_str(o, "file", b->path);
    if (b->updated) {
        put_date(o, "updated", b->updated);
        json_put_int(o, "updated_us", b->updated);
    }
    json_put(data, "system", o);
    bundle_free(&b);
}

/* --- authority.status --- */

static bool authority_status(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const struct authority_setup *setup;
    struct config *view = NULL;
    json_int_t active = 0;
    json_t *o;
    size_t n;

    if (!control_view(c, args, "revision", "candidate", &view, err)) /* YIELDS */
        return false;
    setup = CONFIG_SINGLE(view, authority_setup);
    n = config_count(view, &section_authority);
    for (size_t i = 0; i < n; i++)
        active += ((const struct authority *)config_at(view, &section_authority, i)->data)->enabled;
    put_system(data);
    json_put(json_object_get(data, "system"), "enabled", json_boolean(setup->system_list));
    o = json_object();
    json_put(o, "enabled", json_boolean(setup->custom_list));
    json_put_int(o, "count", (json_int_t)n);
    json_put_int(o, "trusted", active);
    json_put(o, "check_ca_flag", json_boolean(setup->check_ca_flag));
    json_put(data, "custom", o);
    config_free(&view);
    return true;
}

/* --- authority.list --- */

struct listing {
    struct config *view; /* of the custom list, or */
    struct bundle *bundle; /* the system list */
    const char *only; /* NULL: all of them */
    json_t *out;
};

static json_t *describe(const char *name, const char *pem, bool detail)
{
    struct x509_facts f = {0};
    json_t *o = json_object();
    usec_t now = clock_wall();

    json_put_str(o, "name", name);
    if (x509_read(pem, &f, NULL)) {
        json_put_str(o, "common_name", f.common_name);
        json_put_str(o, "subject", f.subject);
        json_put_str(o, "issuer", f.issuer);
        json_put_str(o, "status", x509_status(&f, now));
        json_put_int(o, "remaining_days", x509_days_left(&f, now));
        put_date(o, "not_before", f.not_before);
        put_date(o, "not_after", f.not_after);
        json_put_str(o, "key", f.key);
        json_put_str(o, "signature", f.signature);
        json_put_str(o, "serial", f.serial);
        json_put_str(o, "sha256", f.sha256);
        json_put(o, "ca", json_boolean(f.is_ca));
    }
    if (detail)
        json_put_str(o, "certificate", pem);
    x509_facts_free(&f);
    return o;
}

/* Names like those of the custom list; a second authority of the same name has its fingerprint
 * behind it. */
static void unique_name(const X509 *x, const struct map *taken, char out[AUTHORITY_NAME])
{
    char print[65];

    authority_name(x, out);
    if (!map_get(taken, out))
        return;
    authority_fingerprint(x, print);
    snprintf(out + strlen(out), AUTHORITY_NAME - strlen(out), "-%.8s", print);
}

static void list_system(struct listing *l)
{
    const STACK_OF(X509) *all = l->bundle->certificates;
    struct map names = {0};

    for (int i = 0; i < sk_X509_num(all); i++) {
        AUTO(buf) struct buf pem = BUF_INIT(256u << 10);
        char name[AUTHORITY_NAME];
        json_t *o;

        unique_name(sk_X509_value(all, i), &names, name);
        map_set(&names, name, l);
        if (l->only && !str_ieq(l->only, name))
            continue;
        authority_pem(sk_X509_value(all, i), &pem);
        o = describe(name, buf_str(&pem), l->only);
        json_put(o, "enabled", json_true());
        json_array_append_new(l->out, o);
    }
    map_free(&names);
}

static bool list_job(void *arg, struct err *err)
{
    struct listing *l = arg;

    (void)err;
    if (l->bundle) {
        list_system(l);
        return true;
    }
    for (size_t i = 0; i < config_count(l->view, &section_authority); i++) {
        const struct authority *a = config_at(l->view, &section_authority, i)->data;
        json_t *o;

        if (l->only && !str_ieq(l->only, a->name))
            continue;
        o = describe(a->name, a->certificate, l->only);
        json_put(o, "enabled", json_boolean(a->enabled));
        json_array_append_new(l->out, o);
    }
    return true;
}

static bool authority_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct listing l = {.only = json_str(args, "name", NULL)};
    bool system, ok;

    if (!is_system(args, &system, err))
        return false;
    if (system)
        l.bundle = trust_system();
    else if (!control_view(c, args, "revision", "candidate", &l.view, err)) /* YIELDS */
        return false;
    l.out = json_array();
    ok = worker_call(list_job, &l, err); /* YIELDS */
    if (ok && l.only && !json_array_size(l.out))
        ok = err_set(err, E_NOT_FOUND, "There is no certificate authority \"%s\" in the %s list.",
                     str_printable(l.only), system ? "system" : "custom");
    if (ok)
        json_put(data, "authorities", json_incref(l.out));
    json_decref(l.out);
    bundle_free(&l.bundle);
    config_free(&l.view);
    return ok;
}

/* --- authority.import --- */

struct intake {
    const char *text;
    size_t n;
    struct config *view;
    bool fqdn, add;
    struct config_edits edits;
    json_t *names;
    struct strlist warnings;
    unsigned added, kept, removed, repeated, more_warnings;
};

static void warn(struct intake *in, const char *name, const char *what)
{
    char *text;

    if (in->warnings.n >= MAX_WARNINGS) {
        in->more_warnings++;
        return;
    }
    text = xasprintf("%s %s", name, what);
    strlist_add(&in->warnings, text);
    free(text);
}

static bool accept(struct intake *in, X509 *x, size_t number, struct err *err)
{
    const struct authority_setup *setup = CONFIG_SINGLE(in->view, authority_setup);
    char name[AUTHORITY_NAME];

    authority_name(x, name);
    if (in->fqdn && !authority_check_fqdn(x, err))
        return err_wrap(err, "Certificate %zu (%s)", number, name);
    if (setup->check_ca_flag && !authority_is_ca(x))
        return err_set(err, E_INVALID,
                       "Certificate %zu (%s) is not one of a certificate authority: it has no CA "
                       "flag. Leave it out, or switch the check off with CHECK_CA_FLAG.",
                       number, name);
    if (!authority_is_ca(x))
        warn(in, name, "has no CA flag: it is trusted as the certificate of one peer.");
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        warn(in, name, "has expired.");
    else if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
        warn(in, name, "is not valid yet.");
    return true;
}

/* The names of the present list by fingerprint: a certificate that stays keeps its name, and with
 * it its history. */
static void note_present(const struct intake *in, struct map *by_print, struct map *by_name)
{
    for (size_t i = 0; i < config_count(in->view, &section_authority); i++) {
        const struct row *r = config_at(in->view, &section_authority, i);
        const struct authority *a = r->data;
        struct authorities one = {0};
        char print[65];

        if (in->add)
            map_set(by_name, r->name, (void *)r);
        if (!authorities_read(a->certificate, strlen(a->certificate), 1, true, &one, NULL))
            continue;
        authority_fingerprint(one.items[0], print);
        map_set(by_print, print, (void *)r);
        map_set(by_name, r->name, (void *)r);
        authorities_free(&one);
    }
}

static void put_authority(struct intake *in, X509 *x, const char *name)
{
    AUTO(buf) struct buf pem = BUF_INIT(256u << 10);
    struct row *r = row_new(&section_authority, NULL);
    struct err err = {0};

    authority_pem(x, &pem);
    if (!row_set(r, "name", name, &err) || !row_set(r, "certificate", buf_str(&pem), &err)) {
        log_warning("certificate authority %s: %s", name, err.text);
        row_free(&r);
        return;
    }
    row_freeze(r);
    config_edits_put(&in->edits, &section_authority, name, r);
    in->added++;
}

static void take(struct intake *in, const struct authorities *list)
{
    struct map by_print = {0}, by_name = {0}, stays = {0};

    note_present(in, &by_print, &by_name);
    for (size_t i = 0; i < list->n; i++) {
        char print[65], name[AUTHORITY_NAME];
        const struct row *there;

        authority_fingerprint(list->items[i], print);
        there = map_get(&by_print, print);
        if (there) {
            str_copy(name, sizeof(name), there->name);
            in->kept++;
        } else {
            unique_name(list->items[i], &by_name, name);
            map_set(&by_name, name, in);
            put_authority(in, list->items[i], name);
        }
        map_set(&stays, name, in);
        json_array_append_new(in->names, json_string(name));
    }
    for (size_t i = 0; !in->add && i < config_count(in->view, &section_authority); i++) {
        const char *name = config_at(in->view, &section_authority, i)->name;

        if (map_get(&stays, name))
            continue;
        config_edits_put(&in->edits, &section_authority, name, NULL);
        in->removed++;
    }
    map_free(&by_print);
    map_free(&by_name);
    map_free(&stays);
}

static void enable_list(struct intake *in)
{
    const struct row *now = config_row(in->view, &section_authority_setup, "-");
    struct row *r;

    if (((const struct authority_setup *)now->data)->custom_list)
        return;
    r = row_copy(now);
    row_set(r, "custom_list", "yes", NULL);
    row_freeze(r);
    config_edits_put(&in->edits, &section_authority_setup, "-", r);
}

static bool import_job(void *arg, struct err *err)
{
    struct intake *in = arg;
    struct authorities list = {0};
    bool ok = authorities_read(in->text, in->n, AUTHORITIES_MAX, true, &list, err);
    size_t total;

    for (size_t i = 0; ok && i < list.n; i++)
        ok = accept(in, list.items[i], i + 1, err);
    if (ok) {
        in->repeated = list.repeated;
        take(in, &list);
        enable_list(in);
        total = in->add ? config_count(in->view, &section_authority) + in->added : list.n;
        if (total > AUTHORITIES_MAX)
            ok = err_set(err, E_LIMIT,
                         "The custom list would hold %zu certificates; %u is the most it may have.",
                         total, AUTHORITIES_MAX);
    }
    authorities_free(&list);
    return ok;
}

static bool run_text_op(struct control *c, const char *name, const json_t *args, json_t *data,
                        struct err *err)
{
    const struct control_op *op = control_text_ops;

    while (!str_eq(op->name, name))
        op++;
    return op->run(c, args, data, err);
}

static bool read_text(struct control *c, const json_t *args, json_t **text, struct err *err)
{
    json_t *ask, *data;
    bool ok;

    if (json_object_get(args, "text")) {
        *text = json_incref(json_object_get(args, "text"));
        return true;
    }
    ask = json_object();
    data = json_object();
    json_put_str(ask, "name", json_str(args, "file", ""));
    ok = run_text_op(c, "file.read", ask, data, err); /* YIELDS */
    *text = json_incref(json_object_get(data, "text"));
    json_decref(ask);
    json_decref(data);
    return ok;
}

static void put_import(struct intake *in, json_t *data)
{
    json_t *warnings = json_array();

    for (size_t i = 0; i < in->warnings.n; i++)
        json_array_append_new(warnings, json_string(in->warnings.items[i]));
    if (in->more_warnings)
        json_array_append_new(
            warnings, json_sprintf("%u more certificates have such warnings.", in->more_warnings));
    json_put(data, "warnings", warnings);
    json_put(data, "names", json_incref(in->names));
    json_put_int(data, "added", in->added);
    json_put_int(data, "kept", in->kept);
    json_put_int(data, "removed", in->removed);
    json_put_int(data, "repeated", in->repeated);
}

static bool authority_import(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct intake in = {.fqdn = json_bool_of(args, "fqdn", false),
                        .add = json_bool_of(args, "add", false),
                        .names = json_array()};
    json_t *text = NULL, *none = json_object();
    bool ok = control_may_change(c, &section_authority, err) && /* YIELDS, here and below */
              read_text(c, args, &text, err) &&
              control_view(c, none, "revision", "candidate", &in.view, err);

    if (ok) {
        in.text = json_string_value(text);
        in.n = in.text ? strlen(in.text) : 0;
        ok = in.text ? worker_call(import_job, &in, err)
                     : err_set(err, E_USAGE, "Give a file of the export area, or a text.");
    }
    ok = ok && (!in.edits.n || control_stage(c, &in.edits, 0, err));
    if (ok)
        put_import(&in, data);
    config_edits_free(&in.edits);
    config_free(&in.view);
    strlist_free(&in.warnings);
    json_decref(in.names);
    json_decref(text);
    json_decref(none);
    return ok;
}

/* --- authority.export --- */

struct outlet {
    struct config *view;
    struct bundle *bundle;
    struct buf text;
    unsigned n;
};

static void add_heading(struct outlet *o, const char *subject)
{
    buf_printf(&o->text, "%s# %s\n", o->n++ ? "\n" : "", subject);
}

static bool export_job(void *arg, struct err *err)
{
    struct outlet *o = arg;
    struct x509_facts f = {0};

    for (int i = 0; o->bundle && i < sk_X509_num(o->bundle->certificates); i++) {
        AUTO(buf) struct buf pem = BUF_INIT(256u << 10);

        authority_pem(sk_X509_value(o->bundle->certificates, i), &pem);
        if (x509_read(buf_str(&pem), &f, err))
            add_heading(o, f.subject);
        x509_facts_free(&f);
        buf_str_add(&o->text, buf_str(&pem));
    }
    for (size_t i = 0; o->view && i < config_count(o->view, &section_authority); i++) {
        const struct authority *a = config_at(o->view, &section_authority, i)->data;

        if (x509_read(a->certificate, &f, err))
            add_heading(o, f.subject);
        x509_facts_free(&f);
        buf_str_add(&o->text, a->certificate);
        buf_char(&o->text, '\n');
    }
    return !o->text.full || err_set(err, E_LIMIT, "The list is too long for one file.");
}

static bool authority_export(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct outlet o = {.text = BUF_INIT(MAX_TEXT)};
    json_t *file = json_object();
    bool system, ok = is_system(args, &system, err);

    if (ok && system)
        o.bundle = trust_system();
    else if (ok)
        ok = control_view(c, args, "revision", "candidate", &o.view, err); /* YIELDS */
    ok = ok && worker_call(export_job, &o, err); /* YIELDS */
    if (ok && !o.n)
        ok = err_set(err, E_NOT_FOUND, "The %s list holds no certificate.",
                     system ? "system" : "custom");
    if (ok) {
        json_put_str(file, "name", json_str(args, "file", ""));
        json_put_str(file, "text", buf_str(&o.text));
        json_put(file, "replace", json_boolean(json_bool_of(args, "replace", false)));
        ok = run_text_op(c, "file.write", file, data, err); /* YIELDS */
    }
    if (ok)
        json_put_int(data, "count", o.n);
    json_decref(file);
    buf_free(&o.text);
    bundle_free(&o.bundle);
    config_free(&o.view);
    return ok;
}

/* --- authority.update --- */

static bool authority_update(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct bundle *b;
    bool changed, ok = trust_update(&changed, err); /* YIELDS */

    (void)args;
    control_audit(c, "authority.update", "system list of certificate authorities",
                  ok ? "ok" : "failed", ok ? changed ? "changed" : "unchanged" : err->text);
    if (!ok)
        return false;
    b = trust_system();
    if (changed)
        crl_trust_changed();
    if (changed)
        log_info("The system list of certificate authorities was updated to version %s (%d "
                 "certificates) by %s",
                 b->version, sk_X509_num(b->certificates), control_user(c));
    bundle_free(&b);
    put_system(data);
    json_put(data, "changed", json_boolean(changed));
    return true;
}

const struct control_op control_trust_ops[] = {
    {"authority.status", ROLE_READONLY, authority_status},
    {"authority.list",   ROLE_READONLY, authority_list  },
    {"authority.import", ROLE_ADMIN,    authority_import},
    {"authority.export", ROLE_ADMIN,    authority_export},
    {"authority.update", ROLE_ADMIN,    authority_update},
    {NULL,               0,             NULL            },
};
