/* auth.c - see auth.h. sasl.c speaks the mechanism; here the answers come from: a directory, other
 * servers, a client certificate. Nothing but a clear yes lets anybody in: not a directory that is
 * down, not a query that is gone.
 *
 * With SCRAM a client that is nobody is asked for the same proof as others: its salt is made of its
 * name and a key of this process, and the work of deriving keys is done for it, too. */
#include "daemon/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/auth_forward.h"
#include "daemon/base64.h"
#include "daemon/ldap_auth.h"
#include "daemon/password.h"
#include "daemon/sasl.h"

#define ANSWER_TIMEOUT SECONDS(60) /* of a directory; its own time limit is shorter */
#define FORWARD_TIMEOUT SECONDS(120) /* over all servers */
#define LINE_MAX_BASE64 12288u /* RFC 4954 section 4 */
/* RFC 7677 section 4; for passwords that a directory has in clear text. */
#define SCRAM_ITERATIONS 4096u
#define SCRAM_SALT 16u

struct auth {
    struct auth_client c;
    enum sasl_mechanism mechanism;
    struct sasl *sasl;
    bool started, ended, nobody;
    enum auth_step verdict; /* AUTH_MORE: not yet; else what it comes to once the client has had the
                               last word */
    struct err reason; /* of that verdict, or why a is nobody's */
    struct err *err; /* of the step under way */
};

/* --- what can be offered --- */

static const struct ldap_query *query_of(const struct auth_client *c)
{
    const struct ldap_query *q = c->profile && c->profile->kind == SMTPAUTH_LDAP
                                     ? CONFIG_GET(c->cfg, ldap_query, c->profile->query)
                                     : NULL;

    return q && q->kind == LDAP_SMTPAUTH ? q : NULL;
}

static bool wants(const struct auth_client *c, enum sasl_mechanism m)
{
    for (size_t i = 0; i < c->profile->mechanisms.n; i++)
        if (str_ieq(c->profile->mechanisms.items[i], sasl_name(m)))
            return true;
    return false;
}

static bool offers(const struct auth_client *c, enum sasl_mechanism m)
{
    const struct ldap_query *q;
    unsigned char binding[SASL_BINDING];
    size_t first;

    if (m == SASL_EXTERNAL)
        return c->certified && *c->certified;
    if (!c->profile)
        return false;
    if (c->profile->kind == SMTPAUTH_FORWARD)
        return (m == SASL_PLAIN || m == SASL_LOGIN) && wants(c, m) &&
               config_children(c->cfg, &section_smtpauth_server, c->profile->name, &first);
    q = query_of(c);
    if (!q)
        return false;
    if (m == SASL_PLAIN || m == SASL_LOGIN)
        return wants(c, m);
    return q->method == LDAP_METHOD_ATTRIBUTE && wants(c, SASL_SCRAM_SHA_256) &&
           (m == SASL_SCRAM_SHA_256 || sasl_binding(c->ssl, binding));
}

void auth_mechanisms(const struct auth_client *c, struct buf *out)
{
    static const enum sasl_mechanism order[] = {SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_256,
                                                SASL_SCRAM_SHA_256_PLUS, SASL_EXTERNAL};
    const char *space = "";

    for (size_t i = 0; i < countof(order); i++) {
        if (!offers(c, order[i]))
            continue;
        buf_printf(out, "%s%s", space, sasl_name(order[i]));
        space = " ";
    }
}

/* --- keys for SCRAM --- */

static unsigned char process_key[32];
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;
/* Of the first stored key that was seen: what those who are nobody are told. */
static _Atomic unsigned usual_iterations = SCRAM_ITERATIONS;
static atomic_bool iterations_seen;

static void make_process_key(void)
{
    if (RAND_bytes(process_key, sizeof(process_key)) != 1)
        abort();
}

/* The same for the same user as long as this process lives. */
static void salt_of(const char *user, struct scram_keys *k)
{
    unsigned char mac[EVP_MAX_MD_SIZE];

    pthread_once(&process_key_once, make_process_key);
    if (!HMAC(EVP_sha256(), process_key, sizeof(process_key), (const unsigned char *)user,
              strlen(user), mac, NULL))
        abort();
    memcpy(k->salt, mac, SCRAM_SALT);
    k->nsalt = SCRAM_SALT;
}

/* YIELDS. Of a password in clear text. */
static bool derived_keys(const char *user, const char *password, struct scram_keys *k)
{
    k->iterations = SCRAM_ITERATIONS;
    salt_of(user, k);
    return password_derive_scram(password, k);
}

/* YIELDS. Keys of a password that nobody has. */
static bool nobodys_keys(const char *user, struct scram_keys *k)
{
    unsigned char secret[24];
    AUTO(buf) struct buf password = BUF_INIT(64);
    bool ok;

    if (RAND_bytes(secret, sizeof(secret)) != 1)
        return false;
    base64_encode(&password, secret, sizeof(secret));
    ok = derived_keys(user, buf_str(&password), k);
    k->iterations = usual_iterations;
    return ok;
}

/* YIELDS. The first of the values that SCRAM can be done with, keys before clear text. */
static bool keys_of_values(const char *user, const struct strlist *values, struct scram_keys *k)
{
    struct scram_keys ignored;
    const char *text;
    bool ok = false;
    size_t n;

    for (size_t i = 0; i < values->n; i++) {
        if (!password_scram_keys(values->items[i], strlen(values->items[i]), k))
            continue;
        if (!atomic_exchange(&iterations_seen, true))
            usual_iterations = k->iterations;
        return nobodys_keys(user, &ignored); /* takes as long as it takes for others */
    }
    for (size_t i = 0; i < values->n && !ok; i++) {
        char *password;

        if (!password_clear_text(values->items[i], strlen(values->items[i]), &text, &n))
            continue;
        password = xstrndup(text, n);
        ok = derived_keys(user, password, k);
        OPENSSL_cleanse(password, n);
        free(password);
    }
    return ok;
}

static void cleanse_list(struct strlist *l)
{
    for (size_t i = 0; i < l->n; i++)
        OPENSSL_cleanse(l->items[i], strlen(l->items[i]));
    strlist_free(l);
}

/* YIELDS */
static bool scram_keys(void *arg, const char *user, struct scram_keys *out)
{
    struct auth *a = arg;
    struct strlist values = {0};
    enum ldap_verdict v = ldap_fetch_password(a->c.cfg, a->c.profile->query, user, &values,
                                              clock_in(ANSWER_TIMEOUT), a->err);
    bool ok = v != LDAP_DOWN;

    if (ok && (v != LDAP_YES || !keys_of_values(user, &values, out))) {
        a->nobody = true;
        if (v == LDAP_YES)
            err_set(a->err, E_DENIED,
                    "the password attribute has no value that SCRAM can be done with");
        a->reason = *a->err;
        memset(a->err, 0, sizeof(*a->err));
        ok = nobodys_keys(user, out);
    }
    cleanse_list(&values);
    return ok;
}

/* --- judgement --- */

static enum auth_step of_verdict(enum ldap_verdict v, enum auth_step no)
{
    return v == LDAP_YES ? AUTH_OK : v == LDAP_NO ? no : AUTH_DOWN;
}

/* YIELDS. The password was right: may this user use SMTP AUTH? */
static enum auth_step judge_allowance(struct auth *a)
{
    const struct smtpauth_profile *p = a->c.profile;

    if (p->kind != SMTPAUTH_LDAP || !p->check_allowed)
        return AUTH_OK;
    return of_verdict(ldap_check_allowed(a->c.cfg, p->query, sasl_user(a->sasl),
                                         clock_in(ANSWER_TIMEOUT), a->err),
                      p->refused == SMTPAUTH_REJECT ? AUTH_NOT_ALLOWED : AUTH_MONITORED);
}

/* YIELDS */
static enum auth_step judge_password(struct auth *a)
{
    const struct smtpauth_profile *p = a->c.profile;
    const char *user = sasl_user(a->sasl), *password = sasl_password(a->sasl);
    enum auth_step step;

    if (p->kind == SMTPAUTH_FORWARD)
        return auth_forward(a->c.cfg, p, a->c.hostname, user, password, clock_in(FORWARD_TIMEOUT),
                            a->err);
    step = of_verdict(
        ldap_check_password(a->c.cfg, p->query, user, password, clock_in(ANSWER_TIMEOUT), a->err),
        AUTH_WRONG);
    return step == AUTH_OK ? judge_allowance(a) : step;
}

static enum auth_step judge_certificate(struct auth *a)
{
    const char *authzid = sasl_authzid(a->sasl);

    if (!*authzid || str_eq(authzid, a->c.certified))
        return AUTH_OK;
    err_set(a->err, E_DENIED, "the client certificate is another user's");
    return AUTH_WRONG;
}

/* YIELDS. The client's proof was right. out: the server's own, which it must have first. */
static enum auth_step judge_proof(struct auth *a, const struct buf *out)
{
    if (a->verdict != AUTH_MORE) {
        *a->err = a->reason;
        return a->verdict;
    }
    if (a->nobody) {
        *a->err = a->reason;
        return AUTH_WRONG;
    }
    a->verdict = judge_allowance(a);
    a->reason = *a->err;
    return out->n && (a->verdict == AUTH_OK || a->verdict == AUTH_MONITORED) ? AUTH_MORE
                                                                             : a->verdict;
}

/* --- the exchange --- */

struct auth *auth_begin(const struct auth_client *c, struct slice mechanism)
{
    enum sasl_mechanism m = sasl_find(mechanism);
    unsigned char binding[SASL_BINDING];
    struct sasl_server how = {.keys = scram_keys};
    struct auth *a;

    if (m == SASL_MECHANISMS || !offers(c, m))
        return NULL;
    a = xcalloc(1, sizeof(*a));
    a->c = *c;
    a->mechanism = m;
    a->verdict = AUTH_MORE;
    how.arg = a;
    if (m >= SASL_SCRAM_SHA_256 && sasl_binding(c->ssl, binding))
        how.binding = binding;
    a->sasl = sasl_server_new(m, &how);
    OPENSSL_cleanse(binding, sizeof(binding));
    return a;
}

/* YIELDS. in.p NULL: nothing was said. */
static enum auth_step step_of(struct auth *a, struct slice in, struct buf *out)
{
    switch (sasl_server_step(a->sasl, in, out)) {
    case SASL_MORE:
        return AUTH_MORE;
    case SASL_CREDENTIALS:
        return a->mechanism == SASL_EXTERNAL ? judge_certificate(a) : judge_password(a);
    case SASL_PROVEN:
        return judge_proof(a, out);
    case SASL_SYNTAX:
        err_set(a->err, E_PROTOCOL, "the response is not what %s demands", sasl_name(a->mechanism));
        return AUTH_SYNTAX;
    case SASL_DOWN:
        if (!a->err->code)
            err_set(a->err, E_LIMIT, "the exchange could not be begun");
        return AUTH_DOWN;
    case SASL_WRONG:
        *a->err = a->reason;
        break;
    }
    if (!a->err->code)
        err_set(a->err, E_DENIED, "the password is wrong, or stands for another user");
    return AUTH_WRONG;
}

enum auth_step auth_step(struct auth *a, struct slice response, struct buf *challenge,
                         struct err *err)
{
    bool first = !a->started;
    struct slice in = {NULL, 0};
    AUTO(buf) struct buf out = BUF_INIT(2 * SASL_MESSAGE_MAX);
    struct err local = {0};
    unsigned char *message;
    enum auth_step step;

    a->err = err ? err : &local;
    memset(a->err, 0, sizeof(*a->err));
    a->started = true;
    if (a->ended || (!response.p && !first)) {
        err_set(a->err, E_PROTOCOL, "nothing was asked");
        return AUTH_SYNTAX;
    }
    if (!first && slice_eq(response, "*")) {
        a->ended = true;
        err_set(a->err, E_DENIED, "the client gave up");
        return AUTH_CANCELLED;
    }
    message = xmalloc(SASL_MESSAGE_MAX);
    if (first && slice_eq(response, "=")) {
        in.p = (const char *)message;
    } else if (response.p && (response.n || !first)) {
        in.p = (const char *)message;
        if (response.n > LINE_MAX_BASE64 ||
            !base64_decode(response, true, message, SASL_MESSAGE_MAX, &in.n)) {
            a->ended = true;
            err_set(a->err, E_PROTOCOL, "the response is not base64");
        }
    }
    step = a->ended ? AUTH_SYNTAX : step_of(a, in, &out); /* YIELDS */
    OPENSSL_cleanse(message, SASL_MESSAGE_MAX);
    free(message);
    if (step == AUTH_MORE)
        base64_encode(challenge, buf_str(&out), out.n);
    else
        a->ended = true;
    if (step == AUTH_OK)
        memset(a->err, 0, sizeof(*a->err));
    a->err = NULL;
    return step;
}

const char *auth_user(const struct auth *a)
{
    return a->mechanism == SASL_EXTERNAL ? a->c.certified : sasl_user(a->sasl);
}

const char *auth_mechanism(const struct auth *a)
{
    return sasl_name(a->mechanism);
}

void auth_free(struct auth **ap)
{
    struct auth *a = *ap;

    *ap = NULL;
    if (!a)
        return;
    sasl_free(&a->sasl);
    free(a);
}
