/* control_ldap.c - ldap.status, ldap.check, ldap.test, ldap.flush: what ldapstatus, ldapconfig,
 * ldaptest and ldapflush say. Check and test are about the caller's candidate, so they connect on
 * their own; the questions are those that mail asks (ldap_query.c). */
#include "daemon/control.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/candidate.h"
#include "daemon/client_cert.h"
#include "daemon/job.h"
#include "daemon/ldap_pool.h"
#include "daemon/ldap_query.h"
#include "daemon/trust.h"

static bool run_status(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)c;
    (void)args;
    (void)err;
    json_put(data, "servers", ldap_pools_status());
    return true;
}

static bool run_flush(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *server = json_str(args, "server", NULL);
    long n = ldap_pools_flush(server);

    if (n < 0)
        return err_set(err, E_NOT_FOUND, "There is no LDAP server configuration \"%s\" in use.",
                       str_printable(server));
    control_audit(c, "ldapflush", server ? server : "", "ok", NULL); /* YIELDS */
    json_put_int(data, "flushed", n);
    return true;
}

/* ---- what both tests have in common ---- */

static void drop_config(void *context)
{
    struct config *cfg = context;

    config_free(&cfg);
}

/* YIELDS. Runs fn with the caller's candidate as it is now. */
static bool run_with_candidate(struct control *c, const char *name, const char *about,
                               bool (*fn)(struct job *j, const json_t *args, json_t *data,
                                          struct err *err),
                               const json_t *args, json_t *data, struct err *err)
{
    struct config *cfg;

    control_audit(c, name, str_printable(about), "ok", NULL); /* YIELDS; it reaches what we reach */
    cfg = config_ref(candidate_view(*control_candidate(c)));
    return job_run_with(c, name, fn, cfg, drop_config, args, data, err);
}

/* ---- ldap.check ---- */

/* As AsyncOS puts it. */
static void failure(const struct err *why, const char *host, struct buf *out)
{
    if (why->code == E_DENIED)
        buf_printf(out, "Error: %s (%s)", why->text, host);
    else if (why->code == E_DNS)
        buf_printf(out, "Error: Server unreachable: %s (%s)", why->text, host);
    else if (why->code == E_TLS)
        buf_printf(out, "Error: Server unreachable: no TLS connection (%s: %s)", host, why->text);
    else
        buf_printf(out, "Error: Server unreachable: unable to connect (%s: %s)", host, why->text);
}

static void success(const struct ldap_server *s, const char *host, struct buf *out)
{
    buf_printf(out, "Connected to %s%s, ", host,
               s->security == LDAP_CLEAR      ? ""
               : s->security == LDAP_STARTTLS ? " with StartTLS"
                                              : " with LDAPS");
    if (s->auth == LDAP_BIND_PASSWORD)
        buf_printf(out, "bound as %s.", str_printable(s->bind_dn));
    else
        buf_str_add(out,
                    s->auth == LDAP_BIND_EXTERNAL ? "bound by certificate." : "bound anonymously.");
}

/* YIELDS */
static bool check_host(struct job *j, const struct ldap_server *s, struct ldap_pool *pool, size_t i)
{
    AUTO(buf) struct buf line = BUF_INIT(2000);
    const char *host = ldap_pool_host(pool, i);
    json_t *record = json_object();
    struct err why = {0};
    bool ok = ldap_pool_try(pool, i, &why);

    if (ok)
        success(s, host, &line);
    else
        failure(&why, host, &line);
    json_put_str(record, "host", host);
    json_put(record, "ok", json_boolean(ok));
    job_say(j, "host", record, "%s", buf_str(&line));
    return ok;
}

static bool check(struct job *j, const json_t *args, json_t *data, struct err *err)
{
    const struct config *cfg = job_context(j);
    struct ldap_pool *pool = ldap_pool_new(cfg, json_str(args, "server", ""), err);
    bool ok = true;

    if (!pool)
        return false;
    for (size_t i = 0; i < ldap_pool_hosts(pool) && !job_over(j); i++)
        ok = check_host(j, CONFIG_GET(cfg, ldap_server, ldap_pool_name(pool)), pool, i) && ok;
    json_put_str(data, "server", ldap_pool_name(pool));
    json_put(data, "success", json_boolean(ok && ldap_pool_hosts(pool)));
    ldap_pool_free(&pool);
    return true;
}

static bool run_check(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    return run_with_candidate(c, "ldapconfig test", json_str(args, "server", ""), check, args, data,
                              err);
}

/* ---- ldap.test ---- */

struct trial {
    struct job *job;
    const json_t *args;
    struct ldap_asking asking;
    struct client_cert *cert; /* NULL: values were given */
    enum ldap_verdict verdict; /* of the first host that answered; LDAP_DOWN: none has */
    bool decided, differ;
    char why[480];
};

static const char *result_word(enum ldap_outcome o)
{
    static const char *const words[] = {[LDAP_MATCHED] = "match",
                                        [LDAP_NO_MATCH] = "no match",
                                        [LDAP_SEVERAL] = "several",
                                        [LDAP_REFUSED] = "denied",
                                        [LDAP_FAILED] = "error"};

    return words[o];
}

static void say_report(struct trial *t, const char *step, const struct ldap_report *r)
{
    const char *host = ldap_pool_host(t->asking.pool, (size_t)t->asking.host);
    AUTO(buf) struct buf user = BUF_INIT(4000);
    json_t *record = json_object();

    str_escape_again(&user, r->user, strlen(r->user)); /* as the filter and the name: once */
    json_put_str(record, "step", step);
    json_put_str(record, "host", host);
    json_put_str(record, "filter", r->filter);
    json_put_str(record, "base", r->base);
    json_put_str(record, "dn", r->dn);
    if (*r->user)
        json_put_str(record, "user", buf_str(&user));
    json_put_str(record, "result", result_word(r->outcome));
    json_put_str(record, "reason", r->why.text);
    job_say(t->job, "host", record, "%s: %s: %s", host, result_word(r->outcome), r->why.text);
}

static enum ldap_verdict ask_smtpauth(struct trial *t, struct ldap_report *r)
{
    const char *user = json_str(t->args, "user", "");
    enum ldap_verdict verdict =
        ldap_ask_password(&t->asking, user, json_str(t->args, "pass_phrase", NULL), r); /* YIELDS */

    say_report(t, "query", r);
    if (verdict != LDAP_YES || !*t->asking.query->allowance)
        return verdict;
    t->asking.deadline = clock_in(ldap_pool_patience(t->asking.pool));
    verdict = ldap_ask_allowed(&t->asking, user, r); /* YIELDS */
    if (verdict == LDAP_NO)
        err_wrap(&r->why, "the user may not use SMTP AUTH");
    say_report(t, "allowance", r);
    return verdict;
}

static enum ldap_verdict ask_certauth(struct trial *t, struct ldap_report *r)
{
    const json_t *values = json_object_get(t->args, "values");
    struct ldap_certificate who = {json_str(values, "cn", ""), json_str(values, "sn", ""),
                                   json_str(values, "e", ""),  json_str(values, "upn", ""),
                                   json_str(values, "dn", ""), json_str(values, "i", ""),
                                   json_str(values, "fp", "")};
    enum ldap_verdict verdict;

    if (t->cert)
        who = (struct ldap_certificate){t->cert->cn, t->cert->sn,     t->cert->email, t->cert->upn,
                                        t->cert->dn, t->cert->issuer, t->cert->fp};
    verdict = ldap_ask_certificate(&t->asking, &who, r); /* YIELDS */
    say_report(t, "query", r);
    return verdict;
}

/* YIELDS */
static void try_host(struct trial *t, size_t host)
{
    struct ldap_report *r = xcalloc(1, sizeof(*r));
    enum ldap_verdict verdict;

    t->asking.host = (int)host;
    t->asking.deadline = clock_in(ldap_pool_patience(t->asking.pool));
    verdict = t->asking.query->kind == LDAP_CERTAUTH ? ask_certauth(t, r) : ask_smtpauth(t, r);
    if (!t->decided) {
        str_copy(t->why, sizeof(t->why), r->why.text);
        t->verdict = verdict;
    } else if (verdict != LDAP_DOWN && verdict != t->verdict) {
        t->differ = true;
    }
    t->decided = t->decided || verdict != LDAP_DOWN;
    free(r);
}

/* The certificate of a profile, or one in PEM. */
static const char *certificate_of(const struct config *cfg, const char *given, struct err *err)
{
    const struct certificate *profile = CONFIG_GET(cfg, certificate, given);

    if (profile && *profile->certificate)
        return profile->certificate;
    if (strstr(given, "-----BEGIN"))
        return given;
    err_set(err, E_NOT_FOUND,
            profile ? "The certificate profile \"%s\" has no certificate yet."
                    : "There is no certificate profile \"%s\"; give its name, or a PEM text.",
            str_printable(given));
    return NULL;
}

/* Without it the library asks on the engine's terminal, and waits there. */
static int no_pass_phrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static STACK_OF(X509) * read_all(const char *pem)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    BIO *in = BIO_new_mem_buf(pem, -1);
    X509 *x;

    while (in && (x = PEM_read_bio_X509_AUX(in, NULL, no_pass_phrase, NULL)))
        sk_X509_push(all, x);
    ERR_clear_error();
    BIO_free(in);
    return all;
}

/* What a client that shows it would be asked about. */
static bool take_certificate(struct trial *t, const struct config *cfg, struct err *err)
{
    const char *pem = certificate_of(cfg, json_str(t->args, "certificate", ""), err);
    STACK_OF(X509) *all = pem ? read_all(pem) : NULL;
    X509_STORE *authorities = running_trust();
    X509 *cert = sk_X509_num(all) > 0 ? sk_X509_value(all, 0) : NULL;

    if (cert) {
        t->cert = xcalloc(1, sizeof(*t->cert));
        client_cert_check(cert, all, authorities, CONFIG_SINGLE(cfg, ssl_settings)->peer_cert_x509,
                          t->cert);
    }
    X509_STORE_free(authorities);
    sk_X509_pop_free(all, X509_free);
    if (pem && !cert)
        err_set(err, E_INVALID, "The certificate cannot be read.");
    return cert;
}

static bool conclude(struct trial *t, const char *query, json_t *data)
{
    static const char *const words[] = {
        [LDAP_YES] = "accept", [LDAP_NO] = "reject", [LDAP_DOWN] = "error"};
    AUTO(buf) struct buf reason = BUF_INIT(1000);

    buf_printf(&reason, "%s%s", t->why,
               t->differ ? " (the hosts do not agree; this is what the first one says)" : "");
    json_put_str(data, "query", query);
    json_put(data, "success", json_boolean(t->decided));
    json_put_str(data, "verdict", words[t->verdict]);
    json_put_str(data, "reason", buf_str(&reason));
    return true;
}

static bool test_query(struct trial *t, const struct config *cfg, const struct row *row,
                       json_t *data, struct err *err)
{
    if (t->asking.query->kind == LDAP_CERTAUTH && json_object_get(t->args, "certificate") &&
        !take_certificate(t, cfg, err))
        return false;
    if (t->asking.query->kind == LDAP_SMTPAUTH && !*json_str(t->args, "user", ""))
        return err_set(err, E_USAGE, "A user name is needed.");
    t->asking.pool = ldap_pool_new(cfg, t->asking.query->server, err); /* YIELDS */
    if (!t->asking.pool)
        return false;
    if (t->cert && t->cert->state != CLIENT_CERT_VALID) { /* nobody is asked about it */
        t->verdict = LDAP_NO;
        t->decided = true;
        snprintf(t->why, sizeof(t->why),
                 "the certificate is refused before the directory is asked: %s", t->cert->why);
        return conclude(t, row->name, data);
    }
    for (size_t i = 0; i < ldap_pool_hosts(t->asking.pool) && !job_over(t->job); i++)
        try_host(t, i);
    return conclude(t, row->name, data);
}

static bool test(struct job *j, const json_t *args, json_t *data, struct err *err)
{
    const struct config *cfg = job_context(j);
    const struct row *row = config_row(cfg, &section_ldap_query, json_str(args, "query", ""));
    struct trial t = {.job = j, .args = args, .verdict = LDAP_DOWN};
    const char *secret = json_str(args, "pass_phrase", "");
    bool ok;

    if (!row)
        return err_set(err, E_NOT_FOUND, "There is no LDAP query \"%s\".",
                       str_printable(json_str(args, "query", "")));
    t.asking.query = row->data;
    ok = test_query(&t, cfg, row, data, err);
    OPENSSL_cleanse((char *)(uintptr_t)secret, strlen(secret));
    ldap_pool_free(&t.asking.pool);
    free(t.cert);
    return ok;
}

static bool run_test(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *secret = json_str(args, "pass_phrase", "");
    bool ok = run_with_candidate(c, "ldaptest", json_str(args, "query", ""), test, args, data, err);

    OPENSSL_cleanse((char *)(uintptr_t)secret, strlen(secret));
    return ok;
}

const struct control_op control_ldap_ops[] = {
    {"ldap.status", ROLE_READONLY, run_status},
    {"ldap.check",  ROLE_OPERATOR, run_check },
    {"ldap.test",   ROLE_OPERATOR, run_test  },
    {"ldap.flush",  ROLE_OPERATOR, run_flush },
    {NULL,          0,             NULL      },
};
