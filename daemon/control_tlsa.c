/* control_tlsa.c - cert.tlsa: which TLSA records say to the world what a profile shows (RFC 7672
 * section 3.1), and whether the DNS serves them now.
 *
 * 3 1 1 is the digest of the profile's public key: it stays true when a renewal keeps the key. 2 1
 * 1 is that of an authority in the chain the listener sends: it stays true as long as certificates
 * come from there. */
#include "daemon/control.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control_config.h"
#include "daemon/dane.h"
#include "daemon/dns.h"
#include "store/authorities.h"
#include "store/base/str.h"
#include "store/x509.h"

#define MAX_DOMAINS 50u /* whose MX is asked for */
#define MAX_NAMES 64u /* that are looked up in the end */
#define PATIENCE SECONDS(5)
#define PATIENCE_ALL SECONDS(30)

struct place { /* where records belong */
    char host[256];
    unsigned port;
};
struct asking {
    struct authorities chain; /* of the profile: leaf first */
    struct place places[MAX_NAMES];
    size_t n;
    struct strlist hosts, others; /* ours; MX hosts that the certificate does not name */
    msec_t deadline;
};

/* --- records --------------------------------------------------------------------------------- */

/* The bytes a record is about. OPENSSL_free them. */
static int selected(const X509 *x, unsigned selector, unsigned char **out)
{
    *out = NULL;
    if (selector == 0)
        return i2d_X509(x, out);
    return selector == 1 ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), out) : -1;
}

static bool record_of(const X509 *x, unsigned usage, unsigned char digest[32], struct tlsa *out)
{
    unsigned char *der;
    int n = selected(x, 1, &der);
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, digest, NULL, EVP_sha256(), NULL) == 1;

    OPENSSL_free(der);
    *out = (struct tlsa){(unsigned char)usage, 1, 1, 32, digest};
    return ok;
}

static bool says(const struct tlsa *t, const X509 *x)
{
    const EVP_MD *md = t->matching == 1 ? EVP_sha256() : t->matching == 2 ? EVP_sha512() : NULL;
    unsigned char digest[EVP_MAX_MD_SIZE], *der;
    int n = selected(x, t->selector, &der);
    unsigned len = 0;
    bool same = false;

    if (n > 0 && t->matching == 0)
        same = t->len == (unsigned)n && !memcmp(t->data, der, (size_t)n);
    else if (n > 0 && md && EVP_Digest(der, (size_t)n, digest, &len, md, NULL) == 1)
        same = t->len == len && !memcmp(t->data, digest, len);
    OPENSSL_free(der);
    return same;
}

/* DANE-EE is about the leaf, DANE-TA about an authority above it. */
static bool matches(const struct tlsa *t, const struct authorities *chain)
{
    if (tlsa_unusable(t))
        return false;
    for (size_t i = t->usage == 3 ? 0 : 1; i < chain->n && (t->usage == 2 || i == 0); i++)
        if (says(t, chain->items[i]))
            return true;
    return false;
}

/* --- places ---------------------------------------------------------------------------------- */

static bool covers(const struct authorities *chain, const char *host)
{
    return X509_check_host(chain->items[0], host, 0, 0, NULL) == 1;
}

static void add_mx_hosts(struct asking *a, const char *domain)
{
    struct dns_mx mx = {0};

    if (clock_now() < a->deadline && dns_mx(domain, clock_in(PATIENCE), &mx, NULL)) { /* YIELDS */
        for (unsigned i = 0; i < mx.n; i++) {
            struct strlist *to = covers(&a->chain, mx.hosts[i].host) ? &a->hosts : &a->others;

            if (!strlist_has(&a->hosts, mx.hosts[i].host) && !strlist_has(to, mx.hosts[i].host))
                strlist_add(to, mx.hosts[i].host);
        }
    }
    dns_mx_free(&mx);
}

/* Domains that public listeners accept mail for. */
static void local_domains(const struct config *cfg, struct strlist *out)
{
    for (size_t i = 0; i < config_count(cfg, &section_rcpt_access) && out->n < MAX_DOMAINS; i++) {
        const struct rcpt_access *r = config_at(cfg, &section_rcpt_access, i)->data;
        const char *at = strrchr(r->address, '@'), *domain = at ? at + 1 : r->address;

        if (r->action == RCPT_ACCEPT && host_is_fqdn(domain) && !strlist_has(out, domain))
            strlist_add(out, domain);
    }
}

static bool uses(const struct listener *l, const char *profile)
{
    return str_eq(l->certificate, profile) || strlist_has(&l->certificates, profile);
}

static void add_place(struct asking *a, const char *host, unsigned port)
{
    for (size_t i = 0; i < a->n; i++)
        if (str_eq(a->places[i].host, host) && a->places[i].port == port)
            return;
    if (a->n == countof(a->places))
        return;
    str_copy(a->places[a->n].host, sizeof(a->places[a->n].host), host);
    a->places[a->n++].port = port;
}

/* The names of the certificate itself, for one that no host we know of goes by. */
static void add_own_names(struct asking *a)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(a->chain.items[0], NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && a->hosts.n < MAX_NAMES; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        AUTO(str) char *name = NULL;

        if (g->type != GEN_DNS)
            continue;
        name = xstrndup((const char *)ASN1_STRING_get0_data(g->d.dNSName),
                        (size_t)ASN1_STRING_length(g->d.dNSName));
        str_lower(name);
        if (host_is_fqdn(name) && !strlist_has(&a->hosts, name))
            strlist_add(&a->hosts, name);
    }
    GENERAL_NAMES_free(names);
}

/* Is it what a client sees that asks for no name, or not in use yet? */
static bool is_first(const struct config *cfg, const char *profile)
{
    bool used = false;

    for (size_t i = 0; i < config_count(cfg, &section_listener); i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;

        if (str_eq(l->certificate, profile))
            return true;
        used = used || uses(l, profile);
    }
    return !used;
}

static void find_places(struct asking *a, const struct config *cfg, const char *profile)
{
    const char *hostname = CONFIG_SINGLE(cfg, system)->hostname;
    AUTO(strlist) struct strlist domains = {0};
    bool any = false;

    if (is_first(cfg, profile) || covers(&a->chain, hostname))
        strlist_add(&a->hosts, hostname);
    local_domains(cfg, &domains);
    for (size_t i = 0; i < domains.n; i++)
        add_mx_hosts(a, domains.items[i]); /* YIELDS */
    if (!a->hosts.n)
        add_own_names(a);
    for (size_t i = 0; i < config_count(cfg, &section_listener); i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;

        for (size_t h = 0; uses(l, profile) && h < a->hosts.n; h++)
            add_place(a, a->hosts.items[h], (unsigned)l->port);
        any = any || uses(l, profile);
    }
    for (size_t h = 0; !any && h < a->hosts.n; h++)
        add_place(a, a->hosts.items[h], 25); /* where other servers deliver to */
}

/* --- the answer ------------------------------------------------------------------------------ */

static void put_record(json_t *to, const struct place *p, const X509 *x, unsigned usage)
{
    char text[200], name[AUTHORITY_NAME];
    unsigned char digest[32];
    struct tlsa t;
    json_t *o;

    if (!record_of(x, usage, digest, &t))
        return;
    tlsa_format(&t, text, sizeof(text));
    authority_name(x, name);
    o = json_object();
    json_put(o, "name", json_sprintf("_%u._tcp.%s", p->port, p->host));
    json_put_int(o, "usage", usage);
    json_put_int(o, "selector", 1);
    json_put_int(o, "matching", 1);
    json_put_str(o, "data", text + 6);
    json_put(o, "text", json_sprintf("_%u._tcp.%s. IN TLSA %s", p->port, p->host, text));
    json_put_str(o, "about", usage == 3 ? "the key of this profile" : name);
    json_array_append_new(to, o);
}

static const char *state_of(const struct dns_tlsa *t, unsigned matching)
{
    if (!t->n)
        return "missing";
    return matching ? matching == t->n ? "matches" : "partly" : "differs";
}

/* What the DNS has under that name now. YIELDS */
static void put_published(json_t *to, const struct asking *a, const struct place *p)
{
    char *name = xasprintf("_%u._tcp.%s", p->port, p->host);
    json_t *o = json_object(), *records = json_array();
    struct dns_tlsa t = {0};
    struct err err = {0};
    unsigned matching = 0;

    json_put_str(o, "name", name);
    if (clock_now() >= a->deadline) {
        json_put_str(o, "state", "failed");
        json_put_str(o, "reason", "no time is left for this name");
    } else if (!dns_tlsa(name, clock_in(PATIENCE), &t, &err)) { /* YIELDS */
        json_put_str(o, "state", "failed");
        json_put_str(o, "reason", err.text);
    } else {
        for (unsigned i = 0; i < t.n; i++) {
            json_t *r = json_object();
            bool ok = matches(&t.records[i], &a->chain);
            const char *unusable = tlsa_unusable(&t.records[i]);
            char text[200];

            tlsa_format(&t.records[i], text, sizeof(text));
            json_put_str(r, "text", text);
            json_put(r, "matches", json_boolean(ok));
            if (unusable)
                json_put_str(r, "unusable", unusable);
            json_array_append_new(records, r);
            matching += ok;
        }
        json_put_str(o, "state", state_of(&t, matching));
        json_put(o, "secure", json_boolean(t.security == DNS_SECURE));
    }
    json_put(o, "records", records);
    json_array_append_new(to, o);
    dns_tlsa_free(&t);
    free(name);
}

static void put_answer(json_t *data, struct asking *a)
{
    json_t *records = json_array(), *published = json_array(), *others = json_array();

    for (size_t i = 0; i < a->n; i++) {
        put_record(records, &a->places[i], a->chain.items[0], 3);
        for (size_t k = 1; k < a->chain.n; k++)
            if (authority_is_ca(a->chain.items[k]))
                put_record(records, &a->places[i], a->chain.items[k], 2);
        put_published(published, a, &a->places[i]); /* YIELDS */
    }
    for (size_t i = 0; i < a->others.n; i++)
        json_array_append_new(others, json_string(a->others.items[i]));
    json_put(data, "records", records);
    json_put(data, "published", published);
    json_put(data, "other_hosts", others);
}

static bool read_chain(const struct certificate *c, struct authorities *out, struct err *err)
{
    AUTO(buf) struct buf all = BUF_INIT(512u << 10);

    buf_str_add(&all, c->certificate);
    buf_char(&all, '\n');
    buf_str_add(&all, c->intermediates);
    return authorities_read(buf_str(&all), all.n, X509_MAX_CHAIN + 1, true, out, err);
}

static bool cert_tlsa(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct asking *a = xcalloc(1, sizeof(*a));
    const char *name = json_str(args, "name", "");
    const struct certificate *profile;
    struct config *view = NULL;
    bool ok = control_view(c, args, "revision", "candidate", &view, err); /* YIELDS */

    profile = ok ? CONFIG_GET(view, certificate, name) : NULL;
    if (ok && !profile)
        ok = err_set(err, E_NOT_FOUND, "There is no certificate profile \"%s\".",
                     str_printable(name));
    else if (ok && !*profile->certificate)
        ok =
            err_set(err, E_INVALID, "The certificate profile \"%s\" has no certificate yet.", name);
    ok = ok && read_chain(profile, &a->chain, err);
    if (ok) {
        a->deadline = clock_in(PATIENCE_ALL);
        find_places(a, view, name); /* YIELDS */
        put_answer(data, a); /* YIELDS */
        json_put_str(data, "profile", name);
    }
    authorities_free(&a->chain);
    strlist_free(&a->hosts);
    strlist_free(&a->others);
    free(a);
    config_free(&view);
    return ok;
}

const struct control_op control_tlsa_ops[] = {
    {"cert.tlsa", ROLE_READONLY, cert_tlsa},
    {NULL,        0,             NULL     },
};
