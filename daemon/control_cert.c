/* control_cert.c - looking at certificate profiles: cert.list, cert.detail, cert.check. What
 * changes them is in control_cert_make.c.
 *
 * The facts of a certificate never change, so they are kept by the digest of its profile: listing a
 * thousand profiles parses none of them twice. */
#include "daemon/control_cert.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/candidate.h"
#include "daemon/config_db.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/base/str.h"
#include "store/cert_uses.h"
#include "store/x509.h"

#define MAX_KEPT 20000
#define MAX_LISTED 10000

/* --- facts --- */

struct kept {
    json_t *facts;
    usec_t not_before, not_after;
    bool readable;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map kept; /* hexadecimal digest of the row -> struct kept */

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

static json_t *facts_json(const struct x509_facts *f)
{
    json_t *o = json_object();

    json_put_str(o, "common_name", f->common_name);
    json_put_str(o, "issuer", f->issued_by);
    json_put_str(o, "subject", f->subject);
    json_put_str(o, "issuer_name", f->issuer);
    put_date(o, "not_before", f->not_before);
    put_date(o, "not_after", f->not_after);
    json_put_str(o, "key", f->key);
    json_put_str(o, "signature", f->signature);
    json_put_str(o, "serial", f->serial);
    json_put_str(o, "sha256", f->sha256);
    json_put(o, "self_signed", json_boolean(f->self_signed));
    json_put(o, "authority", json_boolean(f->is_ca));
    json_put(o, "names", strings(&f->names));
    return o;
}

static void put_life(json_t *o, usec_t not_before, usec_t not_after)
{
    struct x509_facts f = {.not_before = not_before, .not_after = not_after};
    usec_t now = clock_wall();

    json_put_str(o, "status", x509_status(&f, now));
    json_put_int(o, "remaining_days", x509_days_left(&f, now));
}

/* A profile whose certificate is not there or cannot be read has the keys of the others. */
static json_t *no_facts(void)
{
    struct x509_facts none = {.common_name = "", .issued_by = "", .subject = "", .issuer = ""};
    json_t *o = facts_json(&none);

    json_put(o, "not_before", json_null());
    json_put(o, "not_after", json_null());
    json_put(o, "remaining_days", json_null());
    json_put_str(o, "status", "Pending");
    return o;
}

static struct kept *keep_facts(const struct row *r)
{
    const struct certificate *c = r->data;
    struct kept *k = xcalloc(1, sizeof(*k));
    struct x509_facts f = {0};

    k->readable = x509_read(c->certificate, &f, NULL);
    k->facts = k->readable ? facts_json(&f) : no_facts();
    k->not_before = f.not_before;
    k->not_after = f.not_after;
    json_put_str(k->facts, "name", r->name);
    json_put_int(k->facts, "intermediates", x509_count(c->intermediates));
    json_put(k->facts, "request", json_boolean(*c->request));
    json_put(k->facts, "demo", json_boolean(c->demo));
    x509_facts_free(&f);
    return k;
}

static void forget_all(void)
{
    const char *key;
    void *value;
    size_t pos = 0;

    while (map_next(&kept, &pos, &key, &value)) {
        json_decref(((struct kept *)value)->facts);
        free(value);
    }
    map_free(&kept);
    kept = (struct map){0};
}

/* New; what a list shows of a profile, apart from its uses. */
static json_t *profile_json(const struct row *r)
{
    char digest[65];
    struct kept *k;
    json_t *o;

    for (size_t i = 0; i < sizeof(r->hash); i++)
        snprintf(digest + 2 * i, 3, "%02x", r->hash[i]);
    pthread_mutex_lock(&lock);
    k = map_get(&kept, digest);
    if (!k) {
        if (kept.n >= MAX_KEPT)
            forget_all();
        k = keep_facts(r);
        map_set(&kept, digest, k);
    }
    o = json_copy(k->facts);
    if (k->readable)
        put_life(o, k->not_before, k->not_after);
    pthread_mutex_unlock(&lock);
    return o;
}

/* After a start or a commit the facts are gathered in the background, before somebody asks. */
static void warm(void *arg)
{
    struct config *cfg = arg;

    for (size_t i = 0; i < config_count(cfg, &section_certificate) && i < MAX_LISTED; i++)
        json_decref(profile_json(config_at(cfg, &section_certificate, i)));
    config_free(&cfg);
}

static void publish(void *state, const struct config *cfg)
{
    struct config *mine = config_ref(cfg);

    (void)state;
    if (!worker_post(warm, mine))
        config_free(&mine);
}

const struct reload_part reload_certs = {.name = "facts of certificates", .publish = publish};

/* --- cert.list --- */

struct services {
    json_t *list;
    struct map by_profile; /* name -> json array, borrowed */
};

static void add_service(void *arg, const struct cert_use *use)
{
    struct services *s = arg;
    json_t *o = json_object(), *uses = map_get(&s->by_profile, use->profile);

    json_put_str(o, "service", use->service);
    json_put_str(o, "certificate", use->profile);
    json_array_append_new(s->list, o);
    if (!uses) {
        uses = json_array();
        map_set(&s->by_profile, use->profile, uses);
    }
    json_array_append_new(uses, json_string(use->service));
}

static void services_free(struct services *s)
{
    const char *key;
    void *value;
    size_t pos = 0;

    while (map_next(&s->by_profile, &pos, &key, &value))
        json_decref(value);
    map_free(&s->by_profile);
    json_decref(s->list);
}

static void put_uses(json_t *o, struct services *s, const char *name)
{
    json_t *uses = map_get(&s->by_profile, name);

    json_put(o, "uses", uses ? json_incref(uses) : json_array());
}

struct look {
    const struct config *cfg;
    json_t *data;
};

static bool list_job(void *arg, struct err *err) /* on a worker: a first look parses everything */
{
    const struct look *look = arg;
    struct services services = {.list = json_array()};
    size_t n = config_count(look->cfg, &section_certificate);
    json_t *out = json_array();

    (void)err;
    cert_uses(look->cfg, add_service, &services);
    for (size_t i = 0; i < n && i < MAX_LISTED; i++) {
        const struct row *r = config_at(look->cfg, &section_certificate, i);
        json_t *o = profile_json(r);

        put_uses(o, &services, r->name);
        json_array_append_new(out, o);
    }
    json_put(look->data, "certificates", out);
    json_put(look->data, "services", json_incref(services.list));
    services_free(&services);
    return true;
}

static struct config *candidate_config(struct control *c)
{
    return config_ref(candidate_view(*control_candidate(c)));
}

static bool cert_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *cfg = candidate_config(c);
    struct look look = {cfg, data};
    bool ok = worker_call(list_job, &look, err); /* YIELDS */

    (void)args;
    config_free(&cfg);
    return ok;
}

struct row *cert_profile(struct control *c, const char *name, struct err *err)
{
    struct config *cfg = candidate_config(c);
    const struct row *r = config_row(cfg, &section_certificate, name);
    struct row *mine = r ? row_ref((struct row *)(uintptr_t)r) : NULL;

    if (!mine)
        err_set(err, E_NOT_FOUND,
                "There is no certificate profile \"%s\". \"certconfig certificate list\" shows "
                "them.",
                str_printable(name));
    config_free(&cfg);
    return mine;
}

/* --- cert.check --- */

struct checking {
    struct x509_subject subject;
    struct x509_findings findings;
};

static bool check_job(void *arg, struct err *err)
{
    struct checking *k = arg;

    (void)err;
    x509_check(&k->subject, &k->findings);
    return true;
}

static json_t *findings_json(const struct x509_findings *f)
{
    json_t *list = json_array();

    for (size_t i = 0; i < f->n; i++) {
        json_t *o = json_object();

        json_put_str(o, "severity", x509_severity_word(f->items[i].severity));
        json_put_str(o, "finding", f->items[i].word);
        json_put_str(o, "text", f->items[i].text);
        json_array_append_new(list, o);
    }
    return list;
}

/* New. YIELDS */
static json_t *find(const struct config *cfg, const struct row *r, struct err *err)
{
    const struct certificate *c = r->data;
    struct strlist hosts = {0};
    struct buf key = BUF_INIT(64u << 10);
    struct checking k = {0};
    json_t *list = NULL;

    cert_subject(cfg, r, clock_wall(), &hosts, &k.subject);
    if (!*c->private_key || config_db_secret(c->private_key, &key, err)) { /* YIELDS */
        k.subject.private_key = buf_str(&key);
        if (worker_call(check_job, &k, err)) /* YIELDS */
            list = findings_json(&k.findings);
    }
    if (key.p)
        OPENSSL_cleanse(key.p, key.cap);
    buf_free(&key);
    x509_findings_free(&k.findings);
    strlist_free(&hosts);
    return list;
}

bool cert_findings(struct control *c, const char *name, json_t *data, struct err *err)
{
    struct config *cfg = candidate_config(c);
    const struct row *r = config_row(cfg, &section_certificate, name);
    json_t *list = r ? find(cfg, r, err) : NULL, *warnings = json_array(), *f; /* YIELDS */
    size_t i;

    json_array_foreach(list, i, f) if (!str_eq(json_str(f, "severity", ""), "note"))
        json_array_append(warnings, json_object_get(f, "text"));
    json_put(data, "warnings", warnings);
    json_put(data, "findings", list ? json_incref(list) : json_array());
    json_decref(list);
    config_free(&cfg);
    return r && list;
}

static bool cert_check(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", NULL);
    struct config *cfg = candidate_config(c);
    size_t n = config_count(cfg, &section_certificate);
    json_t *out = json_array();
    bool ok = true;

    for (size_t i = 0; ok && i < n && i < MAX_LISTED; i++) {
        const struct row *r = config_at(cfg, &section_certificate, i);
        json_t *list, *o;

        if (name && !str_eq(r->name, name))
            continue;
        list = find(cfg, r, err); /* YIELDS */
        ok = list && !control_cancelled(c);
        o = json_object();
        json_put_str(o, "name", r->name);
        json_put(o, "findings", list);
        json_array_append_new(out, o);
    }
    if (ok && name && !json_array_size(out)) {
        struct row *missing = cert_profile(c, name, err); /* for its sentence */

        row_free(&missing);
        ok = false;
    }
    json_put(data, "certificates", out);
    config_free(&cfg);
    return ok;
}

/* --- cert.detail --- */

static json_t *chain_json(const char *pem)
{
    struct x509_facts *facts = xcalloc(X509_MAX_CHAIN, sizeof(*facts));
    int n = x509_read_all(pem, facts, X509_MAX_CHAIN, NULL);
    json_t *list = json_array();

    for (int i = 0; i < n; i++) {
        json_t *o = facts_json(&facts[i]);

        put_life(o, facts[i].not_before, facts[i].not_after);
        json_array_append_new(list, o);
        x509_facts_free(&facts[i]);
    }
    free(facts);
    return list;
}

struct detail {
    const struct row *row;
    const struct config *cfg;
    json_t *data;
};

static bool detail_job(void *arg, struct err *err)
{
    const struct detail *d = arg;
    const struct certificate *c = d->row->data;
    struct services services = {.list = json_array()};
    json_t *o = profile_json(d->row);

    (void)err;
    cert_uses(d->cfg, add_service, &services);
    put_uses(o, &services, d->row->name);
    json_object_update(d->data, o);
    json_decref(o);
    services_free(&services);
    json_put(d->data, "chain", chain_json(c->intermediates));
    json_put_str(d->data, "certificate", c->certificate);
    json_put_str(d->data, "intermediate_certificates", c->intermediates);
    json_put_str(d->data, "csr", c->request);
    return true;
}

static bool cert_detail(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", "");
    struct row *r = cert_profile(c, name, err);
    struct config *cfg = candidate_config(c);
    struct detail d = {r, cfg, data};
    bool ok = r && worker_call(detail_job, &d, err) && /* YIELDS */
              cert_findings(c, name, data, err); /* YIELDS */

    config_free(&cfg);
    row_free(&r);
    return ok;
}

const struct control_op control_cert_ops[] = {
    {"cert.list",   ROLE_READONLY, cert_list  },
    {"cert.detail", ROLE_READONLY, cert_detail},
    {"cert.check",  ROLE_READONLY, cert_check },
    {"cert.new",    ROLE_ADMIN,    cert_new   },
    {"cert.paste",  ROLE_ADMIN,    cert_paste },
    {"cert.import", ROLE_ADMIN,    cert_import},
    {"cert.export", ROLE_ADMIN,    cert_export},
    {"cert.csr",    ROLE_ADMIN,    cert_csr   },
    {NULL,          0,             NULL       },
};
