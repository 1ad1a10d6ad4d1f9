/* check_auth.c - rules about who clients are: SMTP Auth profiles, revocation lists. See check.h. Those about directories are in
 * check_ldap.c. */
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"
#include "store/check.h"
#include "store/rules.h"

#define CRL_SOURCES 50u /* each may take a hundred megabytes of memory */

/* HOST or HOST:PORT */
static bool check_authority_part(const char *text, size_t n, struct err *err)
{
    AUTO(str) char *host = xstrndup(text, n);
    char *port = strchr(host, ':');
    unsigned long number = 1;

    if (*host == '[')
        return err_set(err, E_INVALID, "The URL must name a host, not an IPv6 address.");
    if (port) {
        *port++ = '\0';
        number = strspn(port, "0123456789") == strlen(port) && strlen(port) <= 5
                     ? strtoul(port, NULL, 10)
                     : 0;
    }
    if (!*host)
        return err_set(err, E_INVALID,
                       "The URL names no host, such as in https://crl.example.com/certs.crl.");
    if (number < 1 || number > 65535)
        return err_set(err, E_INVALID, "The port in the URL must be a number from 1 to 65535.");
    return host_check(host, err);
}

bool check_crl_url(const struct field *f, const char *text, struct err *err)
{
    const char *host = text + (str_istarts(text, "https://") ? 8 : 7);
    size_t n;

    (void)f;
    if (!*text)
        return true;
    if (!str_istarts(text, "https://") && !str_istarts(text, "http://"))
        return err_set(err, E_INVALID, "The URL must begin with https:// or http://.");
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || strchr("\"<>\\^`{|}", *p))
            return err_set(err, E_INVALID,
                           "The URL has a character that must be written as %%XX in it.");
    n = strcspn(host, "/?#");
    if (memchr(host, '@', n))
        return err_set(err, E_INVALID,
                       "The URL may not contain a user name: lists are fetched without logging in.");
    if (!check_authority_part(host, n, err))
        return false;
    if (strchr(text, '#'))
        return err_set(err, E_INVALID, "The URL may not contain \"#\": it names a whole file.");
    if (host[n] != '/' || !host[n + 1])
        return err_set(err, E_INVALID,
                       "The URL must go on with the file name, such as in "
                       "https://crl.example.com/certs.crl.");
    return true;
}

void check_crl_source(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct crl_source *s = row->data;
    const struct crl_setup *setup = CONFIG_SINGLE(cfg, crl_setup);

    if (*s->url2 && str_eq(s->url, s->url2))
        check_error(out, "url2",
                    "The secondary URL is the same as the primary one. Give another place, or none.");
    if (config_count(cfg, &section_crl_source) > CRL_SOURCES)
        check_error(out, "name", "There are more than %u CRL sources; delete one first.",
                    CRL_SOURCES);
    if (s->enabled && !(setup && (setup->inbound || setup->outbound || setup->web)))
        check_warning(out, "enabled",
                      "CRL source \"%s\" has no effect: checking against CRLs is switched off. "
                      "Switch it on with certconfig > crl > setup.",
                      s->name);
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

    /* Whoever puts AUTH on offer first and chooses the profile then does no harm; demanding it shuts everybody out. */
    if (auth_of(l, p) == AUTH_REQUIRED && lets_in && (!p || p->auth) && !*l->smtp_auth)
        check_error(out, "auth",
                    "Nobody could authenticate, so nobody could send, for listener %s has no SMTP authentication profile; "
                    "choose one (smtp_auth) first, or set auth to \"off\".",
                    l->name);
    else if (auth_of(l, p) == AUTH_PREFERRED && lets_in && (!p || p->auth) && !*l->smtp_auth && !out->errors_only)
        check_warning(out, "auth",
                      "SMTP authentication is never offered, for listener %s has no SMTP authentication profile; choose "
                      "one (smtp_auth).",
                      l->name);
    if (verifies && lets_in && !has_tls(l, p) && (!p || p->tls || p->verify_client))
        check_error(out, "verify_client",
                    "A client shows its certificate in TLS, which is off; set tls to \"preferred\" or \"required\", or "
                    "verify_client to \"%s\".",
                    p ? "off" : "no");
}
