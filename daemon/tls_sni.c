/* tls_sni.c - see tls_sni.h. What is chosen from is built with the context, lives as long as it
 * does and never changes. */
#include "daemon/tls_sni.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/map.h"
#include "store/base/net.h"
#include "store/base/str.h"

#define MAX_NAMES 256u /* of one certificate */
#define KEY_TYPES                                                                                  \
    4u /* OpenSSL has room for one certificate of each: RSA, RSA-PSS, ECDSA, EdDSA                 \
        */

struct identity { /* certificate, key and chain: one profile */
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
    struct strlist names; /* lower case, "*.example.com" as it is */
    unsigned char print[32];
};

struct members { /* who covers a name */
    unsigned n;
    unsigned char at[TLS_MAX_CERTIFICATES];
};

struct sni {
    struct identity items[TLS_MAX_CERTIFICATES]; /* the listener's first one first */
    unsigned n;
    struct map names; /* name to struct members */
    unsigned char rules[32];
};

struct set { /* at most one of each key type, in the order of the configuration */
    unsigned n;
    const struct identity *items[KEY_TYPES];
};

static int slot; /* ex_data of SSL_CTX */
static pthread_once_t slot_once = PTHREAD_ONCE_INIT;

static void sni_free(struct sni *s)
{
    const char *name;
    void *value;
    size_t pos = 0;

    if (!s)
        return;
    while (map_next(&s->names, &pos, &name, &value))
        free(value);
    map_free(&s->names);
    for (unsigned i = 0; i < s->n; i++) {
        X509_free(s->items[i].leaf);
        EVP_PKEY_free(s->items[i].key);
        sk_X509_pop_free(s->items[i].chain, X509_free);
        strlist_free(&s->items[i].names);
    }
    free(s);
}

static void on_ctx_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent;
    (void)ad;
    (void)idx;
    (void)argl;
    (void)argp;
    sni_free(ptr);
}

static void make_slot(void)
{
    slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_ctx_free);
}

/* --- reading --------------------------------------------------------------------------------- */

static void add_name(struct identity *id, const char *p, size_t n)
{
    char *name;

    if (id->names.n >= MAX_NAMES || n == 0 || n > 255 || memchr(p, '\0', n))
        return;
    name = xstrndup(p, n);
    str_lower(name);
    if (host_check(str_starts(name, "*.") ? name + 2 : name, NULL))
        strlist_add(&id->names, name);
    free(name);
}

/* The DNS names; a certificate that has none goes by its common name. */
static void read_names(struct identity *id)
{
    GENERAL_NAMES *list = X509_get_ext_d2i(id->leaf, NID_subject_alt_name, NULL, NULL);
    bool any = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(list); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(list, i);

        if (g->type != GEN_DNS)
            continue;
        any = true;
        add_name(id, (const char *)ASN1_STRING_get0_data(g->d.dNSName),
                 (size_t)ASN1_STRING_length(g->d.dNSName));
    }
    GENERAL_NAMES_free(list);
    if (!any) {
        char cn[256];
        int n = X509_NAME_get_text_by_NID(X509_get_subject_name(id->leaf), NID_commonName, cn,
                                          sizeof(cn));

        if (n > 0)
            add_name(id, cn, (size_t)n);
    }
    ERR_clear_error();
}

/* What was loaded into ctx by the loaders of tls.c. */
static void take_over(struct sni *s, SSL_CTX *ctx)
{
    struct identity *id = &s->items[s->n++];
    STACK_OF(X509) *chain = NULL;
    unsigned n = 0;

    id->leaf = SSL_CTX_get0_certificate(ctx);
    X509_up_ref(id->leaf);
    id->key = SSL_CTX_get0_privatekey(ctx);
    EVP_PKEY_up_ref(id->key);
    SSL_CTX_get0_chain_certs(ctx, &chain);
    id->chain = chain ? X509_chain_up_ref(chain) : sk_X509_new_null();
    X509_digest(id->leaf, EVP_sha256(), id->print, &n);
    read_names(id);
}

static bool load(struct sni *s, const struct tls_certificate *c, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    bool ok;

    if (!ctx)
        return err_set(err, E_TLS, "TLS");
    SSL_CTX_set_security_level(ctx, 1); /* as the context it is for */
    ok = tls_load_certificates(ctx, c->cert_pem, err) && tls_load_key(ctx, c->key_pem, err);
    if (ok)
        take_over(s, ctx);
    SSL_CTX_free(ctx);
    return ok;
}

static void index_names(struct sni *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct strlist *names = &s->items[i].names;

        for (size_t k = 0; k < names->n; k++) {
            struct members *m = map_get(&s->names, names->items[k]);

            if (!m) {
                m = xcalloc(1, sizeof(*m));
                map_set(&s->names, names->items[k], m);
            }
            if (m->n < countof(m->at) && (!m->n || m->at[m->n - 1] != i))
                m->at[m->n++] = (unsigned char)i;
        }
    }
}

/* --- choosing -------------------------------------------------------------------------------- */

static void set_add(struct set *set, const struct identity *id)
{
    int type = EVP_PKEY_get_base_id(id->key);

    for (unsigned i = 0; i < set->n; i++)
        if (EVP_PKEY_get_base_id(set->items[i]->key) == type)
            return;
    if (set->n < KEY_TYPES)
        set->items[set->n++] = id;
}

static void add_members(const struct sni *s, const char *name, struct set *set)
{
    const struct members *m = map_get(&s->names, name);

    for (unsigned i = 0; m && i < m->n; i++)
        set_add(set, &s->items[m->at[i]]);
}

/* Those for a name: exact ones first, then wildcards, which stand for one label (RFC 9525
 * section 6.3). */
static struct set find(const struct sni *s, const char *name)
{
    const char *dot = strchr(name, '.');
    struct set set = {0};
    char wildcard[260];

    add_members(s, name, &set);
    if (dot && (size_t)snprintf(wildcard, sizeof(wildcard), "*%s", dot) < sizeof(wildcard))
        add_members(s, wildcard, &set);
    return set;
}

/* The first certificate, and those of other key types that share a name with it. */
static struct set fallback(const struct sni *s)
{
    struct set set = {1, {&s->items[0]}};

    for (size_t i = 0; i < s->items[0].names.n; i++)
        add_members(s, s->items[0].names.items[i], &set);
    return set;
}

static bool install(SSL *ssl, const struct set *set)
{
    SSL_certs_clear(ssl);
    for (unsigned i = 0; i < set->n; i++)
        if (SSL_use_cert_and_key(ssl, set->items[i]->leaf, set->items[i]->key, set->items[i]->chain,
                                 1) != 1)
            return false;
    return true;
}

/* Until TLS 1.2 the cipher suite says whose signature is expected. */
static bool has_suite(SSL *ssl, const struct identity *id)
{
    const STACK_OF(SSL_CIPHER) *offered = SSL_get_client_ciphers(ssl);
    int type = EVP_PKEY_get_base_id(id->key);
    int wanted = type == EVP_PKEY_RSA || type == EVP_PKEY_RSA_PSS ? NID_auth_rsa : NID_auth_ecdsa;

    if (SSL_version(ssl) >= TLS1_3_VERSION)
        return true;
    for (int i = 0; i < sk_SSL_CIPHER_num(offered); i++)
        if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(offered, i)) == wanted)
            return true;
    return false;
}

/* Can the client verify a signature by one of them? */
static bool usable(SSL *ssl, const struct set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        if (has_suite(ssl, set->items[i]) &&
            SSL_check_chain(ssl, set->items[i]->leaf, set->items[i]->key, set->items[i]->chain) &
                CERT_PKEY_SIGN)
            return true;
    return false;
}

/* A host name as the client wrote it, lower case. false: not one. */
static bool name_of(const char *p, size_t n, char out[256])
{
    if (n == 0 || n > 255 || memchr(p, '\0', n))
        return false;
    memcpy(out, p, n);
    out[n] = '\0';
    str_lower(out);
    return true;
}

/* ServerNameList of RFC 6066: two octets of length, then type, length and name of the only entry.
 */
static bool name_in_hello(SSL *ssl, char out[256])
{
    const unsigned char *p;
    size_t n;

    return SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) && n > 5 &&
           p[2] == TLSEXT_NAMETYPE_host_name && (size_t)(p[3] << 8 | p[4]) <= n - 5 &&
           name_of((const char *)p + 5, (size_t)(p[3] << 8 | p[4]), out);
}

static void set_session_context(SSL *ssl, const struct sni *s, const struct set *set,
                                const char *name)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned n = 0;
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, s->rules, sizeof(s->rules)) == 1;

    for (unsigned i = 0; ok && i < set->n; i++)
        ok = EVP_DigestUpdate(md, set->items[i]->print, sizeof(set->items[i]->print)) == 1;
    ok = ok && EVP_DigestUpdate(md, name, strlen(name)) == 1 &&
         EVP_DigestFinal_ex(md, digest, &n) == 1;
    EVP_MD_CTX_free(md);
    if (!ok || SSL_set_session_id_context(ssl, digest, n) != 1)
        SSL_set_options(ssl, SSL_OP_NO_TICKET); /* rather no resumption than a wrong one */
}

/* Before a ticket is looked at: a session is resumed for the name it was made for only (RFC 6066
 * section 3). */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    const struct sni *s = arg;
    char name[256];
    struct set set = {0};

    (void)alert;
    if (name_in_hello(ssl, name))
        set = find(s, name);
    if (set.n)
        set_session_context(ssl, s, &set, name);
    ERR_clear_error();
    return SSL_CLIENT_HELLO_SUCCESS;
}

static struct set asked_for(SSL *ssl, const struct sni *s)
{
    const char *given = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    char name[256];

    if (given && name_of(given, strlen(given), name))
        return find(s, name);
    return (struct set){0};
}

/* The extension is acknowledged when it was heeded. */
static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    return asked_for(ssl, arg).n ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* A client that understands none of the key types there are for its name gets what everybody gets,
 * and if it cannot use that either, whatever it can: better a certificate of another name than no
 * session. */
static int on_certificate(SSL *ssl, void *arg)
{
    const struct sni *s = arg;
    struct set set = asked_for(ssl, s), all = fallback(s);
    bool ok = true;

    if (set.n && usable(ssl, &set)) {
        ok = install(ssl, &set);
    } else if (!usable(ssl, &all)) {
        for (unsigned i = 0; i < s->n; i++) {
            const struct set one = {1, {&s->items[i]}};

            if (!usable(ssl, &one))
                continue;
            ok = install(ssl, &one);
            break;
        }
    }
    ERR_clear_error();
    return ok;
}

/* --- attaching ------------------------------------------------------------------------------- */

/* Certificates of other key types beside the first one, for clients that name no host. A ticket of
 * theirs must not outlive one of them. */
static bool add_fallback(SSL_CTX *ctx, struct sni *s, struct err *err)
{
    struct set set = fallback(s);
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md;
    unsigned n = 0;
    bool ok;

    if (set.n == 1)
        return true;
    md = EVP_MD_CTX_new();
    ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
         EVP_DigestUpdate(md, s->rules, sizeof(s->rules)) == 1;
    for (unsigned i = 0; ok && i < set.n; i++)
        ok = SSL_CTX_use_cert_and_key(ctx, set.items[i]->leaf, set.items[i]->key,
                                      set.items[i]->chain, 1) == 1 &&
             EVP_DigestUpdate(md, set.items[i]->print, sizeof(set.items[i]->print)) == 1;
    ok = ok && EVP_DigestFinal_ex(md, digest, &n) == 1 &&
         SSL_CTX_set_session_id_context(ctx, digest, n) == 1;
    EVP_MD_CTX_free(md);
    return ok || err_set(err, E_TLS, "certificates of several key types");
}

bool tls_sni_attach(SSL_CTX *ctx, const unsigned char rules[32], const struct tls_certificate *more,
                    size_t n, struct err *err)
{
    struct sni *s;
    bool ok = true;

    pthread_once(&slot_once, make_slot);
    if (n >= TLS_MAX_CERTIFICATES)
        return err_set(err, E_LIMIT, "more than %u certificates", TLS_MAX_CERTIFICATES);
    s = xcalloc(1, sizeof(*s));
    memcpy(s->rules, rules, sizeof(s->rules));
    take_over(s, ctx);
    for (size_t i = 0; ok && i < n; i++)
        ok = load(s, &more[i], err);
    index_names(s);
    ok = ok && add_fallback(ctx, s, err);
    if (!ok || SSL_CTX_set_ex_data(ctx, slot, s) != 1) {
        sni_free(s);
        return ok ? err_set(err, E_TLS, "certificates of several names") : false;
    }
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, s);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_tlsext_servername_arg(ctx, s);
    SSL_CTX_set_cert_cb(ctx, on_certificate, s);
    return true;
}
