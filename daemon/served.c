/* served.c - see served.h. */
#include "daemon/served.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "daemon/tls.h"
#include "store/authorities.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define PATIENCE SECONDS(10) /* for one look */
#define MAX_LOOKS 64u /* of one round */
#define MAX_LINE 512

/* --- our own connections --------------------------------------------------------------------- */

#define OWN_MAX 4u /* the round makes one after another */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct addr own[OWN_MAX]; /* family 0: free */
static int own_count;

static bool own_add(const struct addr *a)
{
    bool ok = false;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < OWN_MAX && !ok; i++) {
        if (own[i].family)
            continue;
        own[i] = *a;
        __atomic_add_fetch(&own_count, 1, __ATOMIC_RELEASE);
        ok = true;
    }
    pthread_mutex_unlock(&lock);
    return ok;
}

static void own_remove(const struct addr *a)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < OWN_MAX; i++) {
        if (!own[i].family || !addr_eq(&own[i], a) || own[i].port != a->port)
            continue;
        own[i].family = 0;
        __atomic_sub_fetch(&own_count, 1, __ATOMIC_RELEASE);
        break;
    }
    pthread_mutex_unlock(&lock);
}

bool served_is_own(const struct addr *peer)
{
    bool found = false;

    if (!__atomic_load_n(&own_count, __ATOMIC_ACQUIRE))
        return false;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < OWN_MAX && !found; i++)
        found = own[i].family && addr_eq(&own[i], peer) && own[i].port == peer->port;
    pthread_mutex_unlock(&lock);
    return found;
}

void served_answer(int fd, const char *listener)
{
    struct conn *c = conn_new(fd);
    struct tls_context *tls = running_tls_server(listener);
    struct slice line;

    conn_set_deadline(c, clock_in(PATIENCE));
    conn_printf(c, "220 certificate check\r\n");
    if (tls && conn_read_line(c, MAX_LINE, &line) == CONN_LINE_OK) {
        conn_printf(c, "250 STARTTLS\r\n");
        if (conn_read_line(c, MAX_LINE, &line) == CONN_LINE_OK) {
            conn_printf(c, "220 go ahead\r\n");
            if (conn_flush(c) && conn_start_tls_server(c, tls, NULL))
                conn_read_line(c, MAX_LINE, &line); /* until the other end has seen enough */
        }
    }
    tls_context_free(&tls);
    conn_free(&c);
}

/* --- looking --------------------------------------------------------------------------------- */

/* Its address is registered before the listener can see it. */
static int open_own(const struct addr *to, struct addr *from, msec_t deadline, struct err *err)
{
    int fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), failed = 0;
    struct addr here = *to;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    here.port = 0;
    if (fd < 0) {
        err_errno(err, errno, "a socket");
        return -1;
    }
    if (bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&here, &ss)) != 0 ||
        getsockname(fd, (struct sockaddr *)&ss, &len) != 0) {
        failed = errno;
    } else {
        addr_from_sockaddr(from, &ss);
        if (!own_add(from))
            failed = EBUSY;
    }
    if (!failed && connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) != 0 &&
        errno != EINPROGRESS)
        failed = errno;
    if (!failed && !(fiber_wait_fd(fd, EPOLLOUT, deadline, "own listener") & EPOLLOUT)) /* YIELDS */
        failed = ETIMEDOUT;
    len = sizeof(failed);
    if (!failed)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len);
    if (!failed)
        return fd;
    err_set(err, E_NET, "%s", strerror(failed));
    own_remove(from);
    close(fd);
    return -1;
}

static bool reply(struct conn *c, const char *wanted, struct err *err)
{
    struct slice line;

    for (int i = 0; i < 100; i++) {
        if (conn_read_line(c, MAX_LINE, &line) != CONN_LINE_OK) /* YIELDS */
            return err_set(err, E_NET, "no reply");
        if (line.n > 3 && line.p[3] == '-')
            continue;
        if (line.n >= 3 && !memcmp(line.p, wanted, 3))
            return true;
        break;
    }
    return err_set(err, E_NET, "its reply is not %s", wanted);
}

static bool dialog(struct conn *c, struct err *err)
{
    if (!reply(c, "220", err))
        return false;
    conn_printf(c, "EHLO localhost\r\n");
    if (!reply(c, "250", err))
        return false;
    conn_printf(c, "STARTTLS\r\n");
    return reply(c, "220", err);
}

static bool limit_keys(struct ssl_st *ssl, void *arg, struct err *err)
{
    static const struct {
        const char *type, *algorithms;
    } all[] = {
        {"RSA",     "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"},
        {"EC",      "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512"                                       },
        {"ED25519", "ed25519"                                                                      },
    };

    for (size_t i = 0; i < countof(all); i++)
        if (str_eq(all[i].type, arg) && SSL_set1_sigalgs_list(ssl, all[i].algorithms) != 1)
            return err_set(err, E_TLS, "signature algorithms");
    return true;
}

static bool look(struct conn *c, const char *name, const char *key_type, char sha256[65],
                 char *subject, size_t size, struct err *err)
{
    /* whatever the listener may be set to */
    const struct tls_settings lax = {.min_version = TLS1_VERSION, .ciphers = "ALL"};
    struct tls_context *tls = tls_context_new(&lax, err);
    struct tls_info info;
    X509 *peer = NULL;

    if (tls && dialog(c, err)) {
        conn_before_handshake(c, limit_keys, (void *)key_type);
        if (conn_start_tls_client(c, tls, name, err)) {
            peer = SSL_get0_peer_certificate(conn_ssl(c));
            conn_tls_info(c, &info);
            str_copy(subject, size, info.peer_subject);
            if (peer)
                authority_fingerprint(peer, sha256);
            else
                err_set(err, E_TLS, "it shows no certificate");
        }
    }
    tls_context_free(&tls);
    return peer != NULL;
}

bool served_look(const struct addr *at, const char *name, const char *key_type, char sha256[65],
                 char *subject, size_t size, struct err *err)
{
    msec_t deadline = clock_in(PATIENCE);
    struct addr from = {0};
    int fd = open_own(at, &from, deadline, err);
    struct conn *c;
    bool ok;

    if (fd < 0)
        return false;
    c = conn_new(fd);
    conn_set_deadline(c, deadline);
    ok = look(c, name, key_type, sha256, subject, size, err);
    conn_free(&c);
    own_remove(&from);
    return ok;
}

/* --- comparing ------------------------------------------------------------------------------- */

struct expected { /* a profile of the listener */
    char sha256[65];
    char name[256]; /* a host name it covers; "" when there is none one could ask for */
    const char *key_type;
};

static void describe(const struct certificate *c, struct expected *e)
{
    struct authorities one = {0};
    GENERAL_NAMES *names;

    memset(e, 0, sizeof(*e));
    if (!authorities_read(c->certificate, strlen(c->certificate), 1, true, &one, NULL))
        return;
    authority_fingerprint(one.items[0], e->sha256);
    names = X509_get_ext_d2i(one.items[0], NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !*e->name; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        const char *p = g->type == GEN_DNS ? (const char *)ASN1_STRING_get0_data(g->d.dNSName) : "";
        size_t n = g->type == GEN_DNS ? (size_t)ASN1_STRING_length(g->d.dNSName) : 0;

        if (n && n < 240 && strlen(p) == n)
            snprintf(e->name, sizeof(e->name), "%s%s", *p == '*' ? "check" : "",
                     *p == '*' ? p + 1 : p);
    }
    GENERAL_NAMES_free(names);
    switch (EVP_PKEY_get_base_id(X509_get0_pubkey(one.items[0]))) {
    case EVP_PKEY_RSA:
        e->key_type = "RSA";
        break;
    case EVP_PKEY_EC:
        e->key_type = "EC";
        break;
    case EVP_PKEY_ED25519:
        e->key_type = "ED25519";
        break;
    default:
        break;
    }
    authorities_free(&one);
}

static bool may_speak_tls(const struct config *cfg, const struct listener *l)
{
    size_t first, n = config_children(cfg, &section_mail_policy, l->name, &first);

    for (size_t i = 0; i < n; i++) {
        const struct mail_policy *p = config_at(cfg, &section_mail_policy, first + i)->data;

        if (p->tls == POLICY_TLS_PREFERRED || p->tls == POLICY_TLS_REQUIRED)
            return true;
    }
    return l->tls != TLS_OFF;
}

static void address_of(const struct listener *l, struct addr *out)
{
    static const unsigned char zero[16];

    if (!addr_parse(l->address, out))
        memset(out, 0, sizeof(*out));
    if (!memcmp(out->ip, zero, sizeof(zero))) { /* all addresses: the loopback one is among them */
        if (out->family == AF_INET) {
            out->ip[0] = 127;
            out->ip[3] = 1;
        } else {
            out->ip[15] = 1;
        }
    }
    out->port = (unsigned)l->port;
}

static bool is_expected(const struct expected *all, size_t n, const char *sha256)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(all[i].sha256, sha256))
            return true;
    return false;
}

static bool still_running(const struct config *cfg)
{
    struct config *now = running_config();
    bool same = now && config_revision(now) == config_revision(cfg);

    config_free(&now);
    return same;
}

/* Asks as a client that names no host, then for each certificate by its name and key type. */
static void check_listener(const struct config *cfg, const struct listener *l, unsigned *looks)
{
    size_t n = 1 + l->certificates.n;
    struct expected *all = xcalloc(n, sizeof(*all));
    char ip[ADDR_TEXT], key[80];
    struct addr at;

    address_of(l, &at);
    addr_text_port(&at, ip);
    for (size_t i = 0; i < n; i++) {
        const struct certificate *c =
            CONFIG_GET(cfg, certificate, i ? l->certificates.items[i - 1] : l->certificate);

        if (c)
            describe(c, &all[i]);
    }
    snprintf(key, sizeof(key), "served %.64s", l->name);
    for (size_t i = 0; i <= n && *looks < MAX_LOOKS && !fiber_stopping(); i++) {
        const struct expected *e = i ? &all[i - 1] : NULL;
        char sha256[65], subject[128];
        struct err err = {0};

        if ((i && (n == 1 || !*e->name)))
            continue; /* one certificate is the same for everybody */
        ++*looks;
        if (served_look(&at, e ? e->name : NULL, e ? e->key_type : NULL, sha256, subject,
                        sizeof(subject), &err)) { /* YIELDS */
            if (is_expected(all, n, sha256) || !still_running(cfg))
                continue;
            alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                        "The listener %s (%s) shows a certificate that is not configured for it: "
                        "%s, SHA-256 "
                        "fingerprint %s%s%s.",
                        l->name, ip, subject, sha256, e ? ", to clients that ask for " : "",
                        e ? e->name : "");
        } else if (err.code == E_TLS && still_running(cfg)) {
            alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                        "The listener %s (%s) does not complete a TLS handshake: %s.", l->name, ip,
                        err.text);
        } else if (still_running(cfg) && !fiber_stopping()) {
            log_warning("the certificate of listener %s (%s) could not be looked at: %s", l->name,
                        ip, err.text);
        }
        break;
    }
    free(all);
}

void served_check_all(void)
{
    struct config *cfg = running_config();
    unsigned looks = 0;

    for (size_t i = 0; cfg && i < config_count(cfg, &section_listener); i++) {
        const struct listener *l = config_at(cfg, &section_listener, i)->data;

        if (may_speak_tls(cfg, l))
            check_listener(cfg, l, &looks); /* YIELDS */
    }
    config_free(&cfg);
}
