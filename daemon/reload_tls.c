/* reload_tls.c - the TLS contexts of the running configuration: one per certificate that a listener
 * uses, one for deliveries with the certificate of destconfig > setup.
 *
 * A profile that did not change keeps its context over a commit, and with it the session tickets
 * clients hold. */
#include "daemon/reload.h"

#include <openssl/crypto.h>
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

struct server { /* one profile in use by listeners */
    unsigned char hash[32]; /* of the row it was built from */
    struct tls_context *ctx;
};
struct tls_state {
    struct map servers; /* profile name -> struct server */
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

/* Certificate and key of a profile, leaf first. The caller frees both and cleanses key. YIELDS */
static bool load_profile(const struct row *r, struct buf *chain, struct buf *key, struct err *err)
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

static bool build(const struct config *cfg, const struct row *r, bool server,
                  struct tls_context **out, struct err *err)
{
    AUTO(buf) struct buf chain = BUF_INIT(512 << 10);
    struct buf key = BUF_INIT(64 << 10);
    struct tls_settings settings = {.server = server};

    *out = NULL;
    if (load_profile(r, &chain, &key, err)) {
        settings.cert_pem = buf_str(&chain);
        settings.key_pem = buf_str(&key);
        take_ssl_settings(&settings, cfg);
        *out = tls_context_new(&settings, err);
    }
    if (key.p)
        OPENSSL_cleanse(key.p, key.cap);
    buf_free(&key);
    return *out || err_wrap(err, "certificate profile \"%s\"", r->name);
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

static bool add_server(struct tls_state *s, const struct config *cfg, const char *name,
                       struct err *err)
{
    const struct row *r = profile(cfg, name, err);
    const struct server *before = current ? map_get(&current->servers, name) : NULL;
    struct tls_context *ctx = NULL;
    struct server *v;

    if (!r)
        return false;
    if (before && same_ssl_settings(s) && !memcmp(before->hash, r->hash, sizeof(r->hash)))
        ctx = tls_context_ref(before->ctx);
    else if (!build(cfg, r, true, &ctx, err))
        return false;
    v = xcalloc(1, sizeof(*v));
    memcpy(v->hash, r->hash, sizeof(v->hash));
    v->ctx = ctx;
    map_set(&s->servers, name, v);
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
    return build(cfg, r, false, &s->client, err);
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

        if (l->tls != TLS_OFF && is_demo(cfg, l->certificate))
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

        if (!map_get(&s->servers, l->certificate) && !add_server(s, cfg, l->certificate, err))
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

struct tls_context *running_tls_server(const char *certificate)
{
    struct tls_context *ctx = NULL;
    struct server *v;

    pthread_mutex_lock(&lock);
    v = current ? map_get(&current->servers, certificate) : NULL;
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
