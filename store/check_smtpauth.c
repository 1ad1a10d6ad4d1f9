/* check_smtpauth.c - rules about SMTP Auth profiles and about who refers to them. See check.h. */
#include <string.h>

#include "store/base/str.h"
#include "store/check.h"
#include "store/rules.h"

static const char *kind_word(int kind)
{
    return choices_smtpauth_kinds[kind].word;
}

static bool wants(const struct smtpauth_profile *p, const char *mechanism)
{
    for (size_t i = 0; i < p->mechanisms.n; i++)
        if (str_ieq(p->mechanisms.items[i], mechanism))
            return true;
    return false;
}

static void check_mechanisms(const struct smtpauth_profile *p, bool scram, const char *why,
                             struct check *out)
{
    if (wants(p, "plain") || wants(p, "login") || (scram && wants(p, "scram-sha-256")))
        return;
    if (!p->mechanisms.n)
        check_error(out, "mechanisms",
                    "Without a mechanism nobody can authenticate; enter some, for example \"plain, "
                    "login\".");
    else
        check_error(out, "mechanisms", "Nobody can authenticate: %s. Add plain or login.", why);
}

/* Does the name refer to a query of that kind? What does not exist at all is told by the rule on
 * references. */
static const struct ldap_query *check_query(const struct config *cfg, const char *name,
                                            const char *field, int kind, struct check *out)
{
    const struct ldap_query *q = *name ? CONFIG_GET(cfg, ldap_query, name) : NULL;

    if (!*name)
        check_error(out, field, "Choose a query of the kind \"%s\"; ldapconfig makes them.",
                    choices_ldap_query_kinds[kind].word);
    else if (q && q->kind != kind)
        check_error(out, field,
                    "The query %s is of the kind \"%s\"; choose one of the kind \"%s\".", name,
                    choices_ldap_query_kinds[q->kind].word, choices_ldap_query_kinds[kind].word);
    return q && q->kind == kind ? q : NULL;
}

static void check_ldap(const struct config *cfg, const struct smtpauth_profile *p,
                       struct check *out)
{
    const struct ldap_query *q = check_query(cfg, p->query, "query", LDAP_SMTPAUTH, out);

    if (q)
        check_mechanisms(p, q->method == LDAP_METHOD_ATTRIBUTE,
                         "SCRAM cannot be done with a query that authenticates by bind", out);
    if (!p->check_allowed)
        return;
    if (p->refused == SMTPAUTH_REJECT && !*p->refused_text)
        check_error(out, "refused_text",
                    "Enter the text for users who may not use SMTP AUTH, for example \"Dear user, "
                    "please use your CAC to "
                    "send email.\"");
    if (q && !*q->allowance)
        check_warning(out, "check_allowed",
                      "The query %s has no allowance query string, so it allows every user; enter "
                      "one with ldapconfig.",
                      p->query);
}

static void check_certificate_profile(const struct config *cfg, const struct smtpauth_profile *p,
                                      struct check *out)
{
    const struct smtpauth_profile *f =
        *p->fallback ? CONFIG_GET(cfg, smtpauth_profile, p->fallback) : NULL;

    check_query(cfg, p->cert_query, "cert_query", LDAP_CERTAUTH, out);
    if (p->allow_auth && !*p->fallback)
        check_error(out, "fallback",
                    "Choose the profile that SMTP AUTH uses when there is no client certificate, "
                    "or set allow_auth to \"no\".");
    if (f && f->kind != SMTPAUTH_LDAP && f->kind != SMTPAUTH_FORWARD)
        check_error(
            out, "fallback",
            "The profile %s is of the kind \"%s\"; choose one of the kind \"ldap\" or \"forward\".",
            p->fallback, kind_word(f->kind));
}

static void check_forward(const struct config *cfg, const struct smtpauth_profile *p,
                          struct check *out)
{
    size_t first;

    /* A warning, for the profile is made before its servers are. */
    if (!config_children(cfg, &section_smtpauth_server, p->name, &first))
        check_warning(out, NULL,
                      "Nobody can authenticate: the profile has no server to ask. Add one "
                      "(smtpauthconfig edit %s "
                      "server new HOST).",
                      p->name);
    check_mechanisms(p, false, "SCRAM shows no password that could be forwarded", out);
}

static void check_outgoing(const struct smtpauth_profile *p, struct check *out)
{
    if (!*p->username)
        check_error(out, "username", "Enter the user name for the other server.");
    if (!*p->password)
        check_error(out, "password", "Enter the passphrase for the other server.");
}

void check_smtpauth_profile(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct smtpauth_profile *p = row->data;
    size_t first;

    switch (p->kind) {
    case SMTPAUTH_LDAP:
        check_ldap(cfg, p, out);
        break;
    case SMTPAUTH_CERTIFICATE:
        check_certificate_profile(cfg, p, out);
        break;
    case SMTPAUTH_FORWARD:
        check_forward(cfg, p, out);
        break;
    case SMTPAUTH_OUTGOING:
        check_outgoing(p, out);
        break;
    }
    if (p->kind != SMTPAUTH_OUTGOING && (*p->username || *p->password))
        check_error(out, *p->password ? "password" : "username",
                    "Only a profile of the kind \"outgoing\" has a user name and a passphrase; "
                    "leave both empty.");
    if (p->kind != SMTPAUTH_FORWARD &&
        config_children(cfg, &section_smtpauth_server, p->name, &first))
        check_error(out, "kind",
                    "Only a profile of the kind \"forward\" has servers; delete them first.");
}

void check_smtpauth_server(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct smtpauth_server *s = row->data;

    (void)cfg;
    if (!s->require_tls)
        check_warning(out, "require_tls",
                      "Passwords of users go to %s in clear text when it offers no TLS; set "
                      "require_tls to \"yes\".",
                      s->name);
    else if (!s->verify)
        check_warning(
            out, "verify",
            "Passwords of users go to whoever answers at the address of %s; set verify to \"yes\".",
            s->name);
    if (!s->plain && !s->login)
        check_warning(out, "plain",
                      "Without PLAIN and LOGIN %s can only be asked if it offers SCRAM-SHA-256.",
                      s->name);
}

void check_listener_profile(const struct config *cfg, const struct listener *l, struct check *out)
{
    const struct smtpauth_profile *p =
        *l->smtp_auth ? CONFIG_GET(cfg, smtpauth_profile, l->smtp_auth) : NULL;

    if (p && p->kind == SMTPAUTH_OUTGOING)
        check_error(out, "smtp_auth",
                    "The profile %s is of the kind \"outgoing\", for SMTP routes; choose one that "
                    "tells who clients are.",
                    l->smtp_auth);
}

void check_route_profile(const struct config *cfg, const struct smtp_route *r, struct check *out)
{
    const struct smtpauth_profile *p =
        *r->auth_profile ? CONFIG_GET(cfg, smtpauth_profile, r->auth_profile) : NULL;

    if (p && p->kind != SMTPAUTH_OUTGOING)
        check_error(out, "auth_profile",
                    "The profile %s is of the kind \"%s\"; choose one of the kind \"outgoing\".",
                    r->auth_profile, kind_word(p->kind));
    if (*r->auth_profile && r->hosts.n == 1 &&
        (str_ieq(r->hosts.items[0], "USEDNS") || str_eq(r->hosts.items[0], "/dev/null")))
        check_error(out, "auth_profile",
                    "The passphrase is sent to a host that the route names, and \"%s\" names none; "
                    "enter hosts, or leave "
                    "the profile empty.",
                    r->hosts.items[0]);
}
