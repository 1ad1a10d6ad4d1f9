/* tls.c - OpenSSL contexts: what every listener and every delivery has in common.
 *
 * Tickets for resumption are sealed under keys of the process that are replaced twice a day; the
 * session id context of a server covers its certificate and settings, so a ticket is good for as
 * long as these stay and survives a commit that changes something else. Any thread. */
#include "daemon/tls.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tls_sni.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/ssl.h"

#define TICKET_KEY_LIFE (SECONDS(12 * 3600))

struct tls_context {
    atomic_int refs;
    SSL_CTX *ssl;
};

void tls_errors(char *out, size_t size)
{
    unsigned long e, last = 0;
    size_t n = 0;

    out[0] = '\0';
    while ((e = ERR_get_error())) {
        const char *reason =
            ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
        char number[32];

        if (e == last)
            continue; /* one per failed certificate of a list, say */
        last = e;
        if (!reason) {
            snprintf(number, sizeof(number), "OpenSSL error %lx", e);
            reason = number;
        }
        if (n < size)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "; " : "", reason);
    }
    if (!out[0])
        str_copy(out, size, "unknown reason");
}

/* err_set with the texts of OpenSSL behind "what: ". */
static bool tls_error(struct err *err, enum err_code code, const char *what)
{
    char text[256];

    tls_errors(text, sizeof(text));
    return err_set(err, code, "%s: %s", what, text);
}

/* ---- ticket keys ---- */

struct ticket_key {
    unsigned char name[16], aes[32], mac[32];
    msec_t born; /* 0: none yet */
};

static pthread_mutex_t ticket_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ticket_key ticket_keys[2]; /* the present one, the one before */

static bool ticket_key_present(struct ticket_key *out)
{
    msec_t now = clock_now();
    bool ok = true;

    pthread_mutex_lock(&ticket_lock);
    if (!ticket_keys[0].born || now - ticket_keys[0].born > TICKET_KEY_LIFE) {
        struct ticket_key fresh = {.born = now > 0 ? now : 1};

        ok = RAND_bytes(fresh.name, sizeof(fresh.name)) == 1 &&
             RAND_priv_bytes(fresh.aes, sizeof(fresh.aes)) == 1 &&
             RAND_priv_bytes(fresh.mac, sizeof(fresh.mac)) == 1;
        if (ok) {
            ticket_keys[1] = ticket_keys[0];
            ticket_keys[0] = fresh;
        }
        OPENSSL_cleanse(&fresh, sizeof(fresh));
    }
    *out = ticket_keys[0];
    pthread_mutex_unlock(&ticket_lock);
    return ok;
}

/* 0: unknown; 1: the present key; 2: the one before, if it is not too old: the peer gets a new
 * ticket. */
static int ticket_key_find(const unsigned char *name, struct ticket_key *out)
{
    msec_t now = clock_now();
    int found = 0;

    pthread_mutex_lock(&ticket_lock);
    for (int i = 0; i < 2 && !found; i++) {
        if (ticket_keys[i].born && now - ticket_keys[i].born <= 2 * TICKET_KEY_LIFE &&
            !memcmp(ticket_keys[i].name, name, sizeof(ticket_keys[i].name))) {
            *out = ticket_keys[i];
            found = i + 1;
        }
    }
    pthread_mutex_unlock(&ticket_lock);
    return found;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int seal)
{
    struct ticket_key key;
    OSSL_PARAM params[3];
    int result = 1;

    (void)ssl;
    if (seal) {
        if (!ticket_key_present(&key) || RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
            return -1;
        memcpy(name, key.name, sizeof(key.name));
        if (EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) != 1)
            result = -1;
    } else {
        result = ticket_key_find(name, &key);
        if (!result)
            return 0;
        if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) != 1)
            result = -1;
    }
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof(key.mac));
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
    params[2] = OSSL_PARAM_construct_end();
    if (EVP_MAC_CTX_set_params(mac, params) != 1)
        result = -1;
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

/* ---- certificates ---- */

static int no_passphrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return -1;
}

bool tls_load_certificates(SSL_CTX *ctx, const char *pem, struct err *err)
{
    BIO *in = BIO_new_mem_buf(pem, -1);
    X509 *leaf = in ? PEM_read_bio_X509_AUX(in, NULL, NULL, NULL) : NULL;
    bool ok = false;

    if (!leaf)
        tls_error(err, E_INVALID, "certificate");
    else if (SSL_CTX_use_certificate(ctx, leaf) != 1)
        tls_error(err, E_INVALID, "certificate");
    else
        ok = true;
    X509_free(leaf);
    while (ok) {
        X509 *next = PEM_read_bio_X509(in, NULL, NULL, NULL);

        if (!next) {
            unsigned long e = ERR_peek_last_error();

            /* PEM_R_NO_START_LINE: the end of the list */
            ok = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
            if (!ok)
                tls_error(err, E_INVALID, "intermediate certificate");
            break;
        }
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            ok = tls_error(err, E_INVALID, "intermediate certificate");
        }
    }
    ERR_clear_error();
    BIO_free(in);
    return ok;
}

bool tls_load_key(SSL_CTX *ctx, const char *pem, struct err *err)
{
    BIO *in = BIO_new_mem_buf(pem, -1);
    bool asked = false, ok = false;
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, &asked) : NULL;

    if (!key && asked)
        err_set(err, E_INVALID, "private key: it is encrypted; remove its passphrase first");
    else if (!key)
        tls_error(err, E_INVALID, "private key");
    else if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) != 1)
        err_set(err, E_INVALID, "private key: it does not belong to the certificate");
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1)
        tls_error(err, E_INVALID, "private key");
    else
        ok = true;
    EVP_PKEY_free(key);
    BIO_free(in);
    ERR_clear_error();
    return ok;
}

/* ---- ALPN ---- */

/* A client that names protocols has to name ours (RFC 7301 section 3.2): what means to speak HTTP to a server of
 * the same certificate ends here. There is no registered name; Exim's are accepted. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\4smtp\5esmtp";

    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof(ours) - 1, in, in_len) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- contexts ---- */

/* Settings that a ticket must not outlive, whatever the certificate. */
static bool digest_rules(const struct tls_settings *s, unsigned char out[32])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int numbers[2] = {s->min_version, s->max_version};
    bool ok =
        md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
        EVP_DigestUpdate(md, numbers, sizeof(numbers)) == 1 &&
        EVP_DigestUpdate(md, s->ciphers ? s->ciphers : "",
                         s->ciphers ? strlen(s->ciphers) + 1 : 1) == 1 &&
        EVP_DigestUpdate(md, s->groups ? s->groups : "", s->groups ? strlen(s->groups) : 0) == 1 &&
        EVP_DigestFinal_ex(md, out, NULL) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

/* Tickets of one server must not open sessions of another that has another certificate or other
 * rules. */
static bool set_session_context(SSL_CTX *ctx, const struct tls_settings *s,
                                const unsigned char rules[32])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, rules, 32) == 1 &&
              EVP_DigestUpdate(md, s->cert_pem, strlen(s->cert_pem)) == 1 &&
              EVP_DigestFinal_ex(md, digest, &n) == 1 &&
              SSL_CTX_set_session_id_context(ctx, digest, n) == 1;

    EVP_MD_CTX_free(md);
    return ok;
}

static bool configure(SSL_CTX *ctx, const struct tls_settings *s, struct err *err)
{
    unsigned char rules[32];

    SSL_CTX_set_security_level(ctx, 1); /* RSA of 1024 bits may be imported, with a warning */
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_clear_options(
        ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT); /* nothing looks for TLS behind STARTTLS */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx,
                                   SSL_SESS_CACHE_OFF); /* servers: tickets; clients: smtp_pool */
    if (SSL_CTX_set_min_proto_version(ctx, s->min_version ? s->min_version : TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, s->max_version) != 1)
        return err_set(err, E_INVALID, "TLS version: not supported");
    if (s->min_version && s->min_version < TLS1_2_VERSION)
        ssl_allow_old_versions(ctx);
    if (!ssl_set_ciphers(ctx, s->ciphers ? s->ciphers : SSL_DEFAULT_CIPHERS, err))
        return err_wrap(err, "ciphers");
    if (!ssl_set_groups(ctx, s->groups ? s->groups : SSL_DEFAULT_GROUPS, err))
        return err_wrap(err, "groups");
    if (SSL_CTX_set_dh_auto(ctx, 1) != 1)
        return tls_error(err, E_TLS, "Diffie-Hellman");
    if (s->cert_pem && !tls_load_certificates(ctx, s->cert_pem, err))
        return false;
    if (s->cert_pem && !s->key_pem)
        return err_set(err, E_INVALID, "private key: there is none for the certificate");
    if (s->cert_pem && !tls_load_key(ctx, s->key_pem, err))
        return false;
    if (s->server) {
        if (!s->cert_pem)
            return err_set(err, E_INVALID, "certificate: a server needs one");
        SSL_CTX_set_num_tickets(ctx, 1);
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
        if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) != 1 || !digest_rules(s, rules) ||
            !set_session_context(ctx, s, rules))
            return tls_error(err, E_TLS, "session tickets");
        if (s->n_more && !tls_sni_attach(ctx, rules, s->more, s->n_more, err))
            return false;
    } else if (SSL_CTX_dane_enable(ctx) != 1) {
        return tls_error(err, E_TLS, "DANE");
    }
    return true;
}

struct tls_context *tls_context_new(const struct tls_settings *s, struct err *err)
{
    SSL_CTX *ctx;
    struct tls_context *c;

    ERR_clear_error();
    ctx = SSL_CTX_new(s->server ? TLS_server_method() : TLS_client_method());
    if (!ctx) {
        tls_error(err, E_TLS, "TLS");
        return NULL;
    }
    if (!configure(ctx, s, err)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    atomic_init(&c->refs, 1);
    c->ssl = ctx;
    return c;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void tls_context_free(struct tls_context **cp)
{
    struct tls_context *c = *cp;

    *cp = NULL;
    if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    SSL_CTX_free(c->ssl);
    free(c);
}

SSL_CTX *tls_context_ssl(struct tls_context *c)
{
    return c->ssl;
}

void tls_info_of(SSL *ssl, struct tls_info *out)
{
    X509 *peer = SSL_get0_peer_certificate(ssl);

    memset(out, 0, sizeof(*out));
    str_copy(out->protocol, sizeof(out->protocol), SSL_get_version(ssl));
    str_copy(out->cipher, sizeof(out->cipher), SSL_get_cipher_name(ssl));
    out->resumed = SSL_session_reused(ssl);
    out->verify_result = SSL_get_verify_result(ssl);
    if (peer) {
        BIO *text = BIO_new(BIO_s_mem());
        char *p = NULL;
        long n;

        /* OpenSSL puts quotes where they are needed; what must not be printed is str_escape's to
         * say. */
        X509_NAME_print_ex(
            text, X509_get_subject_name(peer), 0,
            (XN_FLAG_RFC2253 & ~(unsigned long)(ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_ESC_CTRL)) |
                ASN1_STRFLGS_ESC_QUOTE);
        n = BIO_get_mem_data(text, &p);
        if (n > 0) {
            AUTO(buf) struct buf b = BUF_INIT(4096);

            str_escape(&b, p, (size_t)n);
            str_copy(out->peer_subject, sizeof(out->peer_subject), buf_str(&b));
        }
        BIO_free(text);
    }
}
