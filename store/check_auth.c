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

void check_mail_policy(const struct config *cfg, const struct row *row, struct check *out)
{
    (void)cfg;
    (void)row;
    (void)out;
}
