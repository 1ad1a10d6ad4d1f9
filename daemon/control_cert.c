/* control_cert.c - cert.list, cert.new, cert.paste. They end in config.stage like any other change:
 * what they add is the knowledge of certificates, and that a key made here never leaves the daemon.
 */
#include "daemon/control.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker.h"
#include "store/base/str.h"
#include "store/row.h"
#include "store/x509.h"

#define MAX_LISTED 10000

/* Runs another operation for the same connection; args is stolen. YIELDS */
static bool run_op(struct control *c, const char *name, json_t *args, json_t *data, struct err *err)
{
    const struct control_op *op = control_config_ops;
    bool ok;

    while (op->name && !str_eq(op->name, name))
        op++;
    ok = op->name ? op->run(c, args, data, err)
                  : err_set(err, E_NOT_FOUND, "there is no operation %s", name);
    json_decref(args);
    return ok;
}

static json_t *list_rows(struct control *c, const char *section, struct err *err)
{
    json_t *args = json_object(), *data = json_object(), *entries;

    json_put_str(args, "section", section);
    json_put(args, "bodies", json_true());
    json_put_int(args, "limit", MAX_LISTED);
    if (!run_op(c, "config.list", args, data, err)) {
        json_decref(data);
        return NULL;
    }
    entries = json_incref(json_object_get(data, "entries"));
    json_decref(data);
    return entries;
}

/* The stored body of a profile in the candidate's view; NULL: there is none. New. */
static json_t *get_body(struct control *c, const char *section, const char *name)
{
    json_t *args = json_object(), *data = json_object(), *body = NULL;

    json_put_str(args, "section", section);
    json_put_str(args, "name", name);
    if (run_op(c, "config.get", args, data, NULL))
        body = json_incref(json_object_get(data, "body"));
    json_decref(data);
    return json_is_object(body) ? body : NULL;
}

/* --- cert.list
 * ---------------------------------------------------------------------------------------------- */

static json_t *strings(const struct strlist *l)
{
    json_t *a = json_array();

    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->items[i]));
    return a;
}

static void put_date(json_t *o, const char *key, usec_t t)
{
    char text[40];

    json_put_str(o, key, clock_rfc3339(t, text));
}

static void put_facts(json_t *o, const char *pem)
{
    struct strlist warnings = {0};
    struct x509_facts f = {0};
    usec_t now = clock_wall();

    if (!x509_read(pem, &f, NULL)) {
        json_put_str(o, "status", "Pending");
        json_put(o, "warnings", json_array());
        x509_facts_free(&f);
        return;
    }
    x509_warnings(&f, now, &warnings);
    json_put_str(o, "common_name", f.common_name);
    json_put_str(o, "issuer", f.issued_by);
    json_put_str(o, "subject", f.subject);
    json_put_str(o, "status", x509_status(&f, now));
    json_put_int(o, "remaining_days", x509_days_left(&f, now));
    put_date(o, "not_before", f.not_before);
    put_date(o, "not_after", f.not_after);
    json_put_str(o, "key", f.key);
    json_put_str(o, "signature", f.signature);
    json_put_str(o, "serial", f.serial);
    json_put_str(o, "sha256", f.sha256);
    json_put(o, "self_signed", json_boolean(f.self_signed));
    json_put(o, "names", strings(&f.names));
    json_put(o, "warnings", strings(&warnings));
    strlist_free(&warnings);
    x509_facts_free(&f);
}

static void add_service(json_t *services, const char *service, const char *certificate)
{
    json_t *o = json_object();

    json_put_str(o, "service", service);
    json_put_str(o, "certificate", certificate);
    json_array_append_new(services, o);
}

/* What uses which profile, in the candidate's view. New. */
static json_t *list_services(struct control *c, struct err *err)
{
    json_t *services = json_array(), *listeners = list_rows(c, "listener", err), *setup, *entry;
    size_t i;

    json_array_foreach(listeners, i, entry)
    {
        char *text = xasprintf("%s (listener)", json_str(entry, "name", ""));

        add_service(services, text, json_str(json_object_get(entry, "body"), "certificate", ""));
        free(text);
    }
    json_decref(listeners);
    setup = get_body(c, "destination_setup", "-");
    if (setup)
        add_service(services, "Outbound SMTP (delivery)", json_str(setup, "certificate", ""));
    json_decref(setup);
    return services;
}

static json_t *uses_of(const json_t *services, const char *name)
{
    json_t *uses = json_array(), *s;
    size_t i;

    json_array_foreach(services, i, s) if (str_eq(json_str(s, "certificate", ""), name))
        json_array_append(uses, json_object_get(s, "service"));
    return uses;
}

static bool cert_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *profiles = list_rows(c, "certificate", err), *services, *out, *entry;
    size_t i;

    (void)args;
    if (!profiles)
        return false;
    services = list_services(c, err);
    out = json_array();
    json_array_foreach(profiles, i, entry)
    {
        const json_t *body = json_object_get(entry, "body");
        const char *name = json_str(entry, "name", "");
        json_t *o = json_object();

        json_put_str(o, "name", name);
        put_facts(o, json_str(body, "certificate", ""));
        json_put_int(o, "intermediates", x509_count(json_str(body, "intermediates", "")));
        json_put(o, "request", json_boolean(*json_str(body, "request", "")));
        json_put(o, "demo", json_boolean(json_bool_of(body, "demo", false)));
        json_put(o, "uses", uses_of(services, name));
        json_array_append_new(out, o);
    }
    json_decref(profiles);
    json_put(data, "certificates", out);
    json_put(data, "services", services);
    return true;
}

/* --- cert.new and cert.paste
 * -------------------------------------------------------------------------------- */

/* May a profile of that name be written? *body is what is there now (new) or NULL. */
static bool check_target(struct control *c, const json_t *args, json_t **body, struct err *err)
{
    const char *name = json_str(args, "name", "");
    struct row *r = row_new(&section_certificate, NULL);
    bool ok = row_set(r, "name", name, err);

    row_free(&r);
    *body = ok ? get_body(c, "certificate", name) : NULL;
    if (*body && json_bool_of(*body, "demo", false))
        return err_set(
            err, E_DENIED,
            "The demonstration certificate \"%s\" cannot be changed. Choose another name.", name);
    if (*body && !json_bool_of(args, "replace", false))
        return err_set(
            err, E_EXISTS,
            "Certificate profile \"%s\" already exists. Choose another name, or replace it.", name);
    return ok;
}

/* Stages the profile; the plain key (may be NULL: the profile keeps its own) is erased. Steals
 * body. YIELDS */
static bool stage(struct control *c, const char *name, json_t *body, const char *key,
                  struct err *err)
{
    json_t *args = json_object(), *change = json_object(), *changes = json_array(),
           *data = json_object();
    json_t *plain = key ? json_string(key) : NULL, *secret = key ? json_object() : NULL;
    bool ok;

    if (key) {
        json_put(secret, "$plain", json_incref(plain));
        json_put(body, "private_key", secret);
    }
    json_put_str(body, "name", name);
    json_put_str(change, "section", "certificate");
    json_put_str(change, "name", name);
    json_put(change, "body", body);
    json_array_append_new(changes, change);
    json_put(args, "changes", changes);
    ok = run_op(c, "config.stage", args, data, err); /* YIELDS */
    if (plain)
        OPENSSL_cleanse((char *)json_string_value(plain), json_string_length(plain));
    json_decref(plain);
    json_decref(data);
    return ok;
}

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
        .names = &j->names,
    };
    j->request.days = (unsigned)json_int(args, "days", 3650);
    json_array_foreach(names, i, n) if (json_is_string(n))
        strlist_add(&j->names, json_string_value(n));
}

static bool cert_new(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct make_job j = {.cert = BUF_INIT(65536), .key = BUF_INIT(65536), .csr = BUF_INIT(65536)};
    json_t *before = NULL, *body = json_object();
    struct x509_facts f = {0};
    bool ok = check_target(c, args, &before, err);

    read_request(args, &j);
    ok = ok && worker_call(make, &j, err); /* YIELDS */
    if (ok) {
        json_put_str(body, "certificate", buf_str(&j.cert));
        json_put_str(body, "request", buf_str(&j.csr));
        ok = stage(c, json_str(args, "name", ""), json_incref(body), buf_str(&j.key), err) &&
             x509_read(buf_str(&j.cert), &f, err);
    }
    if (ok) {
        json_put_str(data, "certificate", buf_str(&j.cert));
        json_put_str(data, "csr", buf_str(&j.csr));
        json_put_str(data, "subject", f.subject);
    }
    if (j.key.p)
        OPENSSL_cleanse(j.key.p, j.key.cap);
    buf_free(&j.cert);
    buf_free(&j.key);
    buf_free(&j.csr);
    strlist_free(&j.names);
    x509_facts_free(&f);
    json_decref(body);
    json_decref(before);
    return ok;
}

/* The key a pasted certificate must belong to: the pasted one, or that of the profile. */
static bool check_key(const json_t *args, const json_t *before, const char *cert, struct err *err)
{
    const char *key = json_str(args, "private_key", NULL), *other;

    if (key)
        return x509_key_matches(cert, key, err);
    if (!before || !*json_str(before, "private_key", ""))
        return err_set(err, E_USAGE,
                       "The private key is missing. Paste it together with the certificate.");
    other = json_str(before, "request", "");
    return x509_same_key(cert, *other ? other : json_str(before, "certificate", ""), err);
}

/* Chain certificates may stand behind the leaf, as authorities deliver them, or come by themselves.
 */
static bool order_chain(const json_t *args, const json_t *before, const char *leaf, struct buf *out,
                        struct err *err)
{
    AUTO(buf) struct buf all = BUF_INIT(600u << 10);
    const char *pasted = json_str(args, "intermediates", NULL);

    buf_str_add(&all, json_str(args, "certificate", ""));
    buf_char(&all, '\n');
    if (pasted)
        buf_str_add(&all, pasted);
    if (!x509_order_chain(leaf, buf_str(&all), out, err))
        return false;
    /* a renewed certificate of the same authority keeps the stored chain when that still fits */
    if (!pasted && !out->n && before && !json_object_get(args, "private_key") &&
        !x509_order_chain(leaf, json_str(before, "intermediates", ""), out, NULL))
        buf_reset(out);
    return true;
}

static void add_warnings(const struct x509_facts *f, bool chain, json_t *data)
{
    struct strlist warnings = {0};

    x509_warnings(f, clock_wall(), &warnings);
    if (!f->self_signed && !chain)
        strlist_add(&warnings, "No intermediate certificate is stored; peers that do not know the "
                               "issuer cannot verify this "
                               "certificate.");
    json_put(data, "warnings", strings(&warnings));
    strlist_free(&warnings);
}

static bool cert_paste(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    AUTO(buf) struct buf leaf = BUF_INIT(64u << 10), chain = BUF_INIT(256u << 10);
    const char *key = json_str(args, "private_key", NULL);
    json_t *before = NULL, *body = NULL;
    struct x509_facts f = {0};
    bool ok = check_target(c, args, &before, err);

    ok = ok && x509_first(json_str(args, "certificate", ""), &leaf, err) &&
         x509_read(buf_str(&leaf), &f, err) && check_key(args, before, buf_str(&leaf), err) &&
         order_chain(args, before, buf_str(&leaf), &chain, err);
    if (ok) {
        body = before && !key ? json_deep_copy(before) : json_object();
        json_put_str(body, "certificate", buf_str(&leaf));
        json_put_str(body, "intermediates", buf_str(&chain));
        ok = stage(c, json_str(args, "name", ""), body, key, err); /* YIELDS */
    }
    if (ok) {
        json_put_str(data, "subject", f.subject);
        add_warnings(&f, chain.n > 0, data);
    }
    x509_facts_free(&f);
    json_decref(before);
    return ok;
}

const struct control_op control_cert_ops[] = {
    {"cert.list",  ROLE_READONLY, cert_list },
    {"cert.new",   ROLE_ADMIN,    cert_new  },
    {"cert.paste", ROLE_ADMIN,    cert_paste},
    {NULL,         0,             NULL      },
};
