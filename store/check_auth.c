/* check_auth.c - rules about who clients are: directories and their queries, SMTP Auth profiles, revocation lists. See
 * check.h. */
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/check.h"
#include "store/rules.h"

bool check_ldap_filter(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    (void)text;
    (void)err;
    return true;
}

bool check_ldap_attribute(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    (void)text;
    (void)err;
    return true;
}

bool check_certificate_field(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    (void)text;
    (void)err;
    return true;
}

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

void check_ldap_server(const struct config *cfg, const struct row *row, struct check *out)
{
    (void)cfg;
    (void)row;
    (void)out;
}

void check_ldap_query(const struct config *cfg, const struct row *row, struct check *out)
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
