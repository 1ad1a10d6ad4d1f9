/* smtp_auth.c - who the client of a session is: AUTH (RFC 4954), its certificate, and what either
 * is good for. The passwords are auth.h's to judge, a certificate's user the directory's
 * (ldap_auth.h); here is the dialog and the policy.
 *
 * What the certificate of a client means where one is asked for:
 *
 * - It is valid: the session goes on. A certificate profile asks the directory whose it is, and
 *   that user has authenticated, as by AUTH.
 * - It is invalid, or the directory does not know it: with verify_client everything but QUIT is
 *   refused, with the reason. Without, the client goes on as if it had shown none; unless it has to
 *   authenticate and the profile leaves it no other way: then it is refused, too.
 * - The directory does not answer: 454 to MAIL, until AUTH has said who it is.
 * - There is none: with verify_client and TLS required, or from the beginning of the session, the
 *   client is refused. Otherwise it goes on. */
#include "daemon/smtp_server.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/auth.h"
#include "daemon/client_cert.h"
#include "daemon/fiber.h"
#include "daemon/ldap_auth.h"
#include "daemon/maillog.h"
#include "daemon/stats.h"
#include "store/base/str.h"

#define ROUNDS_MAX 10 /* responses of one exchange */
#define CHALLENGE_MAX (SMTP_AUTH_LINE_MAX - 4)
#define LOOK_UP_MAX SECONDS(60)

bool smtp_is_submission(const struct smtp *s)
{
    return s->listener->protocol == PROTOCOL_SUBMISSION ||
           s->listener->protocol == PROTOCOL_SUBMISSIONS;
}

bool smtp_relays(const struct smtp *s)
{
    return s->user || (s->flow->behavior == BEHAVIOR_RELAY && s->flow->auth != AUTH_REQUIRED);
}

/* --- profiles -------------------------------------------------------------------------------- */

static bool may_authenticate(const struct smtp *s)
{
    return s->flow->auth != AUTH_OFF || smtp_is_submission(s);
}

static const struct smtpauth_profile *profile_named(const struct smtp *s, const char *name)
{
    return *name ? CONFIG_GET(access_config(s->access), smtpauth_profile, name) : NULL;
}

/* The profile that asks for certificates; NULL: none does. */
static const struct smtpauth_profile *certificate_profile(const struct smtp *s)
{
    const struct smtpauth_profile *p = profile_named(s, s->listener->smtp_auth);

    return p && p->kind == SMTPAUTH_CERTIFICATE && may_authenticate(s) ? p : NULL;
}

/* The profile for the AUTH verb; NULL: there is none. */
static const struct smtpauth_profile *password_profile(const struct smtp *s)
{
    const struct smtpauth_profile *p = profile_named(s, s->listener->smtp_auth);

    if (p && p->kind == SMTPAUTH_CERTIFICATE)
        p = p->allow_auth ? profile_named(s, p->fallback) : NULL;
    return p && (p->kind == SMTPAUTH_LDAP || p->kind == SMTPAUTH_FORWARD) && may_authenticate(s)
               ? p
               : NULL;
}

/* Of the verb for this client: who has shown a certificate can do no more than say so. */
static const struct smtpauth_profile *verb_profile(const struct smtp *s)
{
    return s->certified ? certificate_profile(s) : password_profile(s);
}

bool smtp_has_auth(const struct smtp *s)
{
    return verb_profile(s);
}

static struct auth_client auth_client(const struct smtp *s, const struct smtpauth_profile *p)
{
    return (struct auth_client){
        .cfg = access_config(s->access),
        .profile = p,
        .peer = s->peer,
        .hostname = s->hostname,
        .certified = s->certified ? s->user : NULL,
        .ssl = conn_is_tls(s->conn) ? conn_ssl(s->conn) : NULL,
    };
}

static bool safe_for_passwords(const struct smtp *s)
{
    return conn_is_tls(s->conn) || !s->flow->auth_needs_tls;
}

void smtp_offer_auth(struct smtp *s)
{
    const struct smtpauth_profile *p = verb_profile(s);
    AUTO(buf) struct buf words = BUF_INIT(400);
    struct auth_client c;

    if (!p || s->auth_done || !safe_for_passwords(s))
        return;
    c = auth_client(s, p);
    if (s->certified)
        buf_str_add(&words, "EXTERNAL");
    else
        auth_mechanisms(&c, &words);
    if (words.n)
        conn_printf(s->conn, "250-AUTH %s\r\n", buf_str(&words));
}

/* --- what has been proved -------------------------------------------------------------------- */

static void authenticated(struct smtp *s, const char *user, const char *how,
                          const struct smtpauth_profile *p)
{
    char *now = xstrdup(user);

    free(s->user);
    s->user = now;
    auth_succeeded(&s->peer);
    stats_add(STAT_AUTH_IN, 1);
    maillog_auth(s->icid, true, s->user, how, p->name);
}

/* Without a certificate nobody gets on. Where the session begins with TLS nobody has to set tls, so
 * "off" does not mean that it is a matter of choice. */
static bool needs_certificate(const struct smtp *s)
{
    return s->flow->verify_client &&
           (s->flow->tls == TLS_REQUIRED || (s->flow->tls == TLS_OFF && smtp_implicit_tls(s)));
}

bool smtp_may_send(struct smtp *s)
{
    if (needs_certificate(s) && !s->cert_valid) {
        /* TLS is kept from this host by an exception: that is no way around the certificate */
        smtp_reply(s, 530, "5.7.0", "A client certificate is required");
        return false;
    }
    if (s->user)
        return true;
    if (s->cert_undecided) {
        smtp_reply(s, 454, "4.7.0", "Temporary authentication failure");
        return false;
    }
    if (s->flow->auth == AUTH_REQUIRED) {
        s->told_auth = true;
        smtp_reply(s, 530, "5.7.0", "This sender must authenticate before sending.");
        return false;
    }
    if (smtp_is_submission(s) && !smtp_relays(s)) {
        s->told_auth = true;
        smtp_reply(s, 530, "5.7.0", "Authentication required");
        return false;
    }
    return true;
}

/* --- certificates ---------------------------------------------------------------------------- */

bool smtp_wants_certificate(const struct smtp *s)
{
    return s->flow->verify_client || certificate_profile(s);
}

static void refuse_certificate(struct smtp *s, const char *what, const char *why,
                               const char *subject)
{
    maillog_icid_certificate(s->icid, "refused", why, subject);
    s->refusal = xasprintf("%s: %s", what, why);
}

/* A certificate that proves nothing. */
static void unusable(struct smtp *s, const struct client_cert *c, const char *why)
{
    if (s->flow->verify_client || (s->flow->auth == AUTH_REQUIRED && !password_profile(s)))
        refuse_certificate(s, "Client certificate refused", why, c->subject);
    else
        maillog_icid_certificate(s->icid, "not used", why, c->subject);
}

/* YIELDS */
static void ask_directory(struct smtp *s, const struct smtpauth_profile *p,
                          const struct client_cert *c)
{
    struct ldap_certificate who = {c->cn, c->sn, c->email, c->upn, c->dn, c->issuer, c->fp};
    msec_t until = clock_in(LOOK_UP_MAX);
    struct err err = {0};
    char user[512] = ""; /* more than a directory gives: a name is never cut */

    switch (ldap_check_certificate(access_config(s->access), p->cert_query, &who, user,
                                   sizeof(user), until < s->end ? until : s->end, &err)) {
    case LDAP_YES:
        s->certified = true;
        authenticated(s, user, "CERTIFICATE", p);
        break;
    case LDAP_NO:
        maillog_auth(s->icid, false, *c->cn ? c->cn : c->dn, "CERTIFICATE", p->name);
        stats_add(STAT_AUTH_FAILED_IN, 1);
        unusable(s, c, "the directory does not know it");
        break;
    case LDAP_DOWN:
        s->cert_undecided = true;
        maillog_auth_undecided(s->icid, *c->cn ? c->cn : c->dn, "CERTIFICATE", p->name, err.text);
        break;
    }
}

void smtp_judge_certificate(struct smtp *s, const struct client_cert *c)
{
    const struct smtpauth_profile *p = certificate_profile(s);

    switch (c->state) {
    case CLIENT_CERT_NONE:
        if (needs_certificate(s))
            refuse_certificate(s, "A client certificate is required", "none was shown", "");
        break;
    case CLIENT_CERT_INVALID:
        unusable(s, c, c->why);
        break;
    case CLIENT_CERT_VALID:
        s->cert_valid = true;
        maillog_icid_certificate(s->icid, "verified", NULL, c->subject);
        if (p)
            ask_directory(s, p, c); /* YIELDS */
        break;
    }
}

/* --- AUTH ------------------------------------------------------------------------------------ */

/* Nothing of a password stays where the next session's bytes will be. */
static void cleanse(struct slice s)
{
    if (s.n)
        OPENSSL_cleanse((char *)(uintptr_t)s.p, s.n);
}

/* YIELDS. A wrong password costs the client time, and after a few of them the session. */
static void auth_wrong(struct smtp *s, const struct auth *a, const struct smtpauth_profile *p,
                       bool refused)
{
    msec_t pause, left;

    maillog_auth(s->icid, false, auth_user(a), auth_mechanism(a), p->name);
    stats_add(STAT_AUTH_FAILED_IN, 1);
    s->auth_failures++;
    pause = auth_failed(&s->peer, s->setup, auth_user(a));
    left = s->end - clock_now();
    if (pause > 0 && left > 0)
        fiber_sleep(pause < left ? pause : left); /* YIELDS */
    if (!refused)
        smtp_reply(s, 535, "5.7.8", "Authentication failed.");
    else if (*p->refused_text)
        smtp_reply(s, (int)p->refused_code, NULL, "%s", p->refused_text);
    else
        smtp_reply(s, (int)p->refused_code, "5.7.1", "You are not allowed to use SMTP AUTH.");
    if (s->auth_failures >= s->setup->auth_failures_session)
        smtp_close(s, "4.7.0", "Too many failed authentications, disconnecting.");
}

static void conclude(struct smtp *s, struct auth *a, const struct smtpauth_profile *p,
                     enum auth_step step, const struct err *err)
{
    switch (step) {
    case AUTH_OK:
    case AUTH_MONITORED:
        s->auth_done = true;
        authenticated(s, auth_user(a), auth_mechanism(a), p);
        if (step == AUTH_MONITORED)
            maillog_auth_monitored(s->icid, s->user, p->name);
        smtp_reply(s, 235, "2.7.0", "Authentication successful.");
        break;
    case AUTH_WRONG:
    case AUTH_NOT_ALLOWED:
        auth_wrong(s, a, p, step == AUTH_NOT_ALLOWED); /* YIELDS */
        break;
    case AUTH_DOWN:
        maillog_auth_undecided(s->icid, auth_user(a), auth_mechanism(a), p->name, err->text);
        smtp_reply(s, 454, "4.7.0", "Temporary authentication failure");
        break;
    case AUTH_CANCELLED:
        smtp_bad_command(s, 501, "5.7.0", "Authentication cancelled");
        break;
    case AUTH_MORE: /* more rounds than any mechanism has */
    case AUTH_SYNTAX:
        smtp_bad_command(s, 501, "5.5.2", "Syntax error in the authentication exchange");
        break;
    }
}

/* YIELDS. From the initial response, if there is one (p NULL: none), to the reply that decides. */
static void exchange(struct smtp *s, struct auth *a, const struct smtpauth_profile *p,
                     struct slice response)
{
    AUTO(buf) struct buf challenge = BUF_INIT(CHALLENGE_MAX);
    enum auth_step step = AUTH_MORE;
    struct err err = {0};

    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        buf_reset(&challenge);
        step = auth_step(a, response, &challenge, &err); /* YIELDS */
        cleanse(response);
        if (step != AUTH_MORE)
            break;
        conn_printf(s->conn, "334 %s\r\n", buf_str(&challenge));
        switch (smtp_read_line(s, SMTP_AUTH_LINE_MAX, &response)) { /* YIELDS */
        case CONN_LINE_FAILED:
            return;
        case CONN_LINE_LONG: /* RFC 4954 section 4 */
            smtp_bad_command(s, 500, "5.5.6", "Authentication exchange line is too long");
            return;
        case CONN_LINE_BARE:
            smtp_bad_command(s, 501, "5.5.2",
                             "Bare CR, bare LF or NUL in a response; lines end with CRLF");
            return;
        case CONN_LINE_OK:
            break;
        }
    }
    conclude(s, a, p, step, &err); /* YIELDS */
}

/* "MECHANISM" or "MECHANISM INITIAL-RESPONSE"; initial->p NULL: none. */
static bool split_args(struct slice args, struct slice *mechanism, struct slice *initial)
{
    const char *blank = args.n ? memchr(args.p, ' ', args.n) : NULL;
    size_t n = blank ? (size_t)(blank - args.p) : args.n;

    *mechanism = (struct slice){args.p, n};
    *initial = (struct slice){NULL, 0};
    if (blank)
        *initial = (struct slice){blank + 1, args.n - n - 1};
    return n > 0 && n <= 20 && (!blank || (initial->n && !memchr(initial->p, ' ', initial->n)));
}

/* May AUTH be used now? Else the client has been told. */
static bool ready(struct smtp *s, const struct smtpauth_profile *p)
{
    if (!p)
        smtp_bad_command(s, 502, "5.5.1", "command not implemented");
    else if (s->state == AT_START || !s->esmtp)
        smtp_reply(s, 503, "5.5.1", "EHLO first.");
    else if (s->auth_done)
        smtp_reply(s, 503, "5.5.1", "Already authenticated.");
    else if (s->tx)
        smtp_reply(s, 503, "5.5.1", "AUTH is not permitted during a mail transaction.");
    else if (!safe_for_passwords(s))
        smtp_reply(s, 538, "5.7.11", "Encryption required for requested authentication mechanism");
    else if (auth_locked_out(&s->peer))
        smtp_reply(s, 454, "4.7.0", "Too many failed authentications, try again later");
    else
        return true;
    return false;
}

/* YIELDS. false: the client has been told, and nothing of what it said was looked at. */
static bool begin(struct smtp *s, const struct smtpauth_profile *p)
{
    struct slice mechanism, initial;
    struct auth_client c;
    struct auth *a;

    if (!split_args(s->args, &mechanism, &initial)) {
        smtp_bad_command(s, 501, "5.5.4", "Syntax: AUTH mechanism");
        return false;
    }
    if (!initial.p && smtp_out_of_step(s))
        return false;
    if (s->certified && !slice_ieq(mechanism, "EXTERNAL")) {
        smtp_reply(s, 504, "5.5.4", "The client certificate has authenticated this session.");
        return false;
    }
    c = auth_client(s, p);
    a = auth_begin(&c, mechanism);
    if (!a) {
        smtp_bad_command(s, 504, "5.5.4", "Unrecognized authentication type");
        return false;
    }
    s->tried_auth = true;
    exchange(s, a, p, initial); /* YIELDS */
    auth_free(&a);
    return true;
}

void smtp_auth(struct smtp *s)
{
    const struct smtpauth_profile *p = verb_profile(s);
    struct slice args = s->args;

    if (!ready(s, p) || !begin(s, p)) /* YIELDS */
        cleanse(args);
}
