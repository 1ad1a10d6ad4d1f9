/* check_auth.c - rules about who clients are: SMTP Auth profiles, revocation lists. See check.h. Those about directories are in
 * check_ldap.c. */
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/check.h"
#include "store/rules.h"

bool check_crl_url(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (!*text || str_istarts(text, "https://") || str_istarts(text, "http://"))
        return true;
    return err_set(err, E_INVALID, "The URL must begin with https:// or http://.");
}

void check_crl_source(const struct config *cfg, const struct row *row, struct check *out)
{
    (void)cfg;
    (void)row;
    (void)out;
}

void check_smtpauth_profile(const struct config *cfg, const struct row *row, struct check *out)
{
    (void)cfg;
    (void)row;
    (void)out;
}

/* --- listeners and their policies ------------------------------------------------------------ */

static bool begins_with_tls(const struct listener *l)
{
    return l->protocol == PROTOCOL_SMTPS || l->protocol == PROTOCOL_SUBMISSIONS;
}

/* The words of a policy are those of the listener behind "default". */
static enum auth_modes auth_of(const struct listener *l, const struct mail_policy *p)
{
    return (enum auth_modes)(p && p->auth ? p->auth - 1 : l->auth);
}

static bool has_tls(const struct listener *l, const struct mail_policy *p)
{
    return begins_with_tls(l) || (p && p->tls ? p->tls - 1 : l->tls) != TLS_OFF;
}

bool check_all_authenticate(const struct listener *l, const struct mail_policy *p)
{
    return auth_of(l, p) == AUTH_REQUIRED && *l->smtp_auth;
}

void check_client_identity(const struct listener *l, const struct mail_policy *p, struct check *out)
{
    bool lets_in = !p || p->behavior == BEHAVIOR_ACCEPT || p->behavior == BEHAVIOR_RELAY;
    bool verifies = p && p->verify_client ? p->verify_client == SWITCH_ON : l->verify_client;
    bool needs_tls = p && p->auth_needs_tls ? p->auth_needs_tls == SWITCH_ON : l->auth_needs_tls;
    bool own_tls = !p || p->tls, auth = auth_of(l, p) != AUTH_OFF;

    if (auth && (!p || p->auth) && !*l->smtp_auth)
        check_error(out, "auth",
                    "Nobody can authenticate, for listener %s has no SMTP authentication profile; choose one (smtp_auth) "
                    "or set auth to \"off\".",
                    l->name);
    if (verifies && lets_in && !has_tls(l, p) && (own_tls || p->verify_client))
        check_error(out, "verify_client",
                    "A client shows its certificate in TLS, which is off; set tls to \"preferred\" or \"required\", or "
                    "verify_client to \"%s\".",
                    p ? "off" : "no");
    if (auth && lets_in && needs_tls && !has_tls(l, p) && *l->smtp_auth &&
        (own_tls || p->auth || p->auth_needs_tls))
        check_warning(out, "auth",
                      "SMTP authentication is never offered: it needs TLS (auth_needs_tls), which is off; set tls to "
                      "\"preferred\" or \"required\".");
}

void check_mail_policy(const struct config *cfg, const struct row *row, struct check *out)
{
    char *owner = xstrndup(row->name, strcspn(row->name, "/"));
    const struct listener *l = CONFIG_GET(cfg, listener, owner);

    free(owner);
    if (l) /* else told by the rule on owners */
        check_client_identity(l, row->data, out);
}
