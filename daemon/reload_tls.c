/* reload_tls.c - the TLS contexts of the running configuration: one per set of certificates that a
 * listener uses, one for deliveries with the certificate of destconfig > setup.
 *
 * A profile that did not change keeps its context over a commit, and with it the session tickets
 * clients hold. */
#include "daemon/reload.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_db.h"
#include "daemon/tls.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"
#include "store/ssl.h"
#include "store/x509.h"

#define OPENED_MAX 33u /* certificates of one listener (check.c) */

struct server { /* of one listener */
    unsigned char hash[32]; /* of the rows it was built from */
    struct tls_context *ctx;
};
struct tls_state {
    struct map servers; /* name of the listener -> struct server */
    unsigned char client_hash[32], ssl_hash[32]; /* of the delivery's profile, of sslconfig */
    struct tls_context *client;
    uint64_t client_id; /* another one with every context */
    struct strlist demo_users; /* who shows the demonstration certificate to others */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tls_state
    *current; /* the pointer under lock; what it points to changes only under the commit mutex */

static uint64_t clients_made; /* under the commit mutex */

static void state_free(struct tls_state *s)
{
    const char *name;
    void *value;
    size_t pos = 0;

    while (map_next(&s->servers, &pos, &name, &value)) {
        struct server *v = value;

        tls_context_free(&v->ctx);
        free(v);
    }
    map_free(&s->servers);
    strlist_free(&s->demo_users);
    tls_context_free(&s->client);
    free(s);
}

bool reload_open_profile(const struct row *r, struct buf *chain, struct buf *key, struct err *err)
{
    const struct certificate *c = r->data;

    if (!*c->certificate || !*c->private_key)
        return err_set(
            err, E_INVALID,
            "it has no certificate yet. Paste the signed certificate with certconfig, or choose "
            "another profile");
    if (!config_db_secret(c->private_key, key, err))
        return err_wrap(err, "opening its private key");
    buf_str_add(chain, c->certificate);
    if (chain->n && chain->p[chain->n - 1] != '\n')
        buf_char(chain, '\n');
    buf_str_add(chain, c->intermediates);
    return x509_key_matches(c->certificate, buf_str(key), err);
}

/* Versions, ciphers and groups of sslconfig. */
static void take_ssl_settings(struct tls_settings *to, const struct config *cfg)
{
    const struct ssl_settings *s = CONFIG_SINGLE(cfg, ssl_settings);

    to->min_version = ssl_version(to->server ? s->inbound_min : s->outbound_min);
    to->max_version = ssl_version(to->server ? s->inbound_max : s->outbound_max);
    to->ciphers = to->server ? s->inbound_ciphers : s->outbound_ciphers;
    to->groups = to->server ? s->inbound_groups : s->outbound_groups;
}

static bool same_ssl_settings(const struct tls_state *s)
{
    return current && !memcmp(current->ssl_hash, s->ssl_hash, sizeof(s->ssl_hash));
}

/* Profiles opened for a context: the first is what a client sees that names no host. */
struct opened {
    struct tls_certificate items[OPENED_MAX];
    struct buf chains[OPENED_MAX], keys[OPENED_MAX];
    size_t n;
};

static void opened_free(struct opened **op)
{
    struct opened *o = *op;

    for (size_t i = 0; i < o->n; i++) {
        if (o->keys[i].p)
            OPENSSL_cleanse(o->keys[i].p, o->keys[i].cap);
        buf_free(&o->keys[i]);
        buf_free(&o->chains[i]);
    }
    free(o);
    *op = NULL;
}

/* YIELDS */
static bool open_profile(struct opened *o, const struct row *r, struct err *err)
{
    size_t i = o->n++;

    o->chains[i] = (struct buf)BUF_INIT(512 << 10);
    o->keys[i] = (struct buf)BUF_INIT(64 << 10);
    if (!reload_open_profile(r, &o->chains[i], &o->keys[i], err))
        return err_wrap(err, "certificate profile \"%s\"", r->name);
    o->items[i] = (struct tls_certificate){buf_str(&o->chains[i]), buf_str(&o->keys[i])};
    return true;
}

/* Of the first n rows. YIELDS */
static bool build(const struct config *cfg, const struct row *const *rows, size_t n, bool server,
                  struct tls_context **out, struct err *err)
{
    AUTO(opened) struct opened *o = xcalloc(1, sizeof(*o));
    struct tls_settings settings = {.server = server};
    bool ok = true;

    *out = NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = open_profile(o, rows[i], err);
    if (!ok)
        return false;
    settings.cert_pem = o->items[0].cert_pem;
    settings.key_pem = o->items[0].key_pem;
    settings.more = o->items + 1;
    settings.n_more = n - 1;
    take_ssl_settings(&settings, cfg);
    *out = tls_context_new(&settings, err);
    return *out || err_wrap(err,
                            n > 1 ? "certificate profiles \"%s\" and further"
                                  : "certificate profile \"%s\"",
                            rows[0]->name);
}

static const struct row *profile(const struct config *cfg, const char *name, struct err *err)
{
    const struct row *r = config_row(cfg, &section_certificate, name);

    if (!r)
        err_set(err, E_NOT_FOUND,
                "There is no certificate profile \"%s\". Create it with certconfig, or choose "
                "another one.",
                name);
    return r;
}

/* Who has the same profiles and settings shares the context. */
static struct tls_context *find_same(const struct tls_state *s, const unsigned char hash[32])
{
    const char *name;
    void *value;
    size_t pos = 0;

    while (s && map_next(&s->servers, &pos, &name, &value)) {
        struct server *v = value;

        if (!memcmp(v->hash, hash, sizeof(v->hash)))
            return tls_context_ref(v->ctx);
    }
    return NULL;
}

static size_t rows_of(const struct config *cfg, const struct listener *l,
                      const struct row *rows[OPENED_MAX], struct err *err)
{
    size_t n = 0;

    rows[n] = profile(cfg, l->certificate, err);
    for (size_t i = 0; rows[n] && i < l->certificates.n; i++) {
        if (n + 2 > OPENED_MAX) {
            err_set(err, E_LIMIT, "more than %u certificates", OPENED_MAX);
            return 0;
        }
        rows[++n] = profile(cfg, l->certificates.items[i], err);
    }
    return rows[n] ? n + 1 : 0;
}

static void hash_of(const struct tls_state *s, const struct row *const *rows, size_t n,
                    unsigned char out[32])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        abort();
    EVP_DigestUpdate(md, s->ssl_hash, sizeof(s->ssl_hash));
    for (size_t i = 0; i < n; i++)
        EVP_DigestUpdate(md, rows[i]->hash, sizeof(rows[i]->hash));
    EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
}

/* YIELDS */
static bool add_server(struct tls_state *s, const struct config *cfg, const struct listener *l,
                       struct err *err)
{
    const struct row *rows[OPENED_MAX];
    size_t n = rows_of(cfg, l, rows, err);
    struct server *v;

    if (!n)
        return false;
    v = xcalloc(1, sizeof(*v));
    hash_of(s, rows, n, v->hash);
    v->ctx = find_same(current, v->hash);
    if (!v->ctx)
        v->ctx = find_same(s, v->hash);
    if (!v->ctx && !build(cfg, rows, n, true, &v->ctx, err)) {
        free(v);
        return false;
    }
    map_set(&s->servers, l->name, v);
    return true;
}

static bool add_client(struct tls_state *s, const struct config *cfg, struct err *err)
{
    const struct row *r = profile(cfg, CONFIG_SINGLE(cfg, destination_setup)->certificate, err);

    if (!r)
        return false;
    memcpy(s->client_hash, r->hash, sizeof(s->client_hash));
    if (same_ssl_settings(s) && !memcmp(current->client_hash, r->hash, sizeof(r->hash))) {
        s->client = tls_context_ref(current->client);
        s->client_id = current->client_id;
        return true;
    }
    s->client_id = ++clients_made;
    return build(cfg, &r, 1, false, &s->client, err);
}

static bool is_demo(const struct config *cfg, const char *name)
{
    const struct certificate *c = CONFIG_GET(cfg, certificate, name);

    return c && c->demo;
}

static void note_demo_users(struct tls_state *s, const struct config *cfg)
{
    const struct destination *d = CONFIG_GET(cfg, destination, "default");

    for (size_t i = 0; i < config_count(cfg, &section_listener); i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;
        bool demo = is_demo(cfg, l->certificate);

        for (size_t k = 0; k < l->certificates.n; k++)
            demo = demo || is_demo(cfg, l->certificates.items[k]);
        if (l->tls != TLS_OFF && demo)
            strlist_add(&s->demo_users, l->name);
    }
    if (d && d->use_tls != DEST_TLS_NONE &&
        is_demo(cfg, CONFIG_SINGLE(cfg, destination_setup)->certificate))
        strlist_add(&s->demo_users, "Outbound SMTP");
}

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    struct tls_state *s = xcalloc(1, sizeof(*s));
    bool ok = true;

    memcpy(s->ssl_hash, config_row(cfg, &section_ssl_settings, "-")->hash, sizeof(s->ssl_hash));
    (void)old; /* what is running is known better here than there */
    for (size_t i = 0; ok && i < config_count(cfg, &section_listener); i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;

        if (!add_server(s, cfg, l, err))
            ok = err_wrap(err, "Listener %s", l->name);
    }
    if (ok && !add_client(s, cfg, err))
        ok = err_wrap(err, "Deliveries (destconfig setup)");
    note_demo_users(s, cfg);
    if (ok)
        *state = s;
    else
        state_free(s);
    return ok;
}

static void publish(void *state, const struct config *cfg)
{
    struct tls_state *s = state, *old;

    (void)cfg;
    pthread_mutex_lock(&lock);
    old = current;
    current = s;
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < s->demo_users.n; i++)
        if (!old || !strlist_has(&old->demo_users, s->demo_users.items[i]))
            log_warning("%s uses the \"Demo\" certificate for TLS, which is not secure: everybody "
                        "has its key",
                        s->demo_users.items[i]);
    if (old)
        state_free(old);
}

static void discard(void *state)
{
    state_free(state);
}

const struct reload_part reload_tls = {"certificates", prepare, publish, discard};

struct tls_context *running_tls_server(const char *listener)
{
    struct tls_context *ctx = NULL;
    struct server *v;

    pthread_mutex_lock(&lock);
    v = current ? map_get(&current->servers, listener) : NULL;
    if (v)
        ctx = tls_context_ref(v->ctx);
    pthread_mutex_unlock(&lock);
    return ctx;
}

struct tls_context *running_tls_client(uint64_t *id)
{
    struct tls_context *ctx = NULL;

    pthread_mutex_lock(&lock);
    *id = current ? current->client_id : 0;
    if (current)
        ctx = tls_context_ref(current->client);
    pthread_mutex_unlock(&lock);
    return ctx;
}

uint64_t running_tls_client_id(void)
{
    uint64_t id;

    pthread_mutex_lock(&lock);
    id = current ? current->client_id : 0;
    pthread_mutex_unlock(&lock);
    return id;
}
