/* ldap_presets.c - see ldap_presets.h. */
#include "store/ldap_presets.h"

#include <assert.h>

#include "store/base/str.h"

#define EXAMPLE_BASE "dc=example,dc=com"
#define ALLOWANCE(user) "(&" user "(|(!(caccn=*))(cacexempt=*)(cacemergency>={t})))"

static const struct ldap_preset presets[] = {
    [LDAP_AD] = {.type = LDAP_AD,
                 .port = 3268, /* the global catalogue: every domain of the forest */
                 .ldaps_port = 3269,
                 .base = EXAMPLE_BASE,
                 .bind_dn = "gateway@example.com",
                 .smtpauth_filter = "(&(objectClass=user)(sAMAccountName={u}))",
                 .allowance = ALLOWANCE("(sAMAccountName={u})"),
                 .certauth_filter = "(&(objectClass=user)(cn={cn}))",
                 .certauth_fields = "cn",
                 .user_attribute = "sAMAccountName",
                 .password_attribute = "userPassword"},
    [LDAP_OPENLDAP] = {.type = LDAP_OPENLDAP,
                 .port = 0,
                 .ldaps_port = 0,
                 .base = EXAMPLE_BASE,
                 .bind_dn = "cn=gateway," EXAMPLE_BASE,
                 .smtpauth_filter = "(uid={u})",
                 .allowance = ALLOWANCE("(uid={u})"),
                 .certauth_filter =
                           "(&(objectClass=posixAccount)(caccn={cn})(cacserial={sn}))", .certauth_fields = "cn, sn",
                 .user_attribute = "uid",
                 .password_attribute = "userPassword"},
    [LDAP_ORACLE] = {.type = LDAP_ORACLE,
                 .port = 0,
                 .ldaps_port = 0,
                 .base = EXAMPLE_BASE,
                 .bind_dn = "cn=gateway,cn=Users," EXAMPLE_BASE,
                 .smtpauth_filter = "(&(objectClass=inetOrgPerson)(uid={u}))",
                 .allowance = ALLOWANCE("(uid={u})"),
                 .certauth_filter =
                         "(&(objectClass=inetOrgPerson)(caccn={cn})(cacserial={sn}))",  .certauth_fields = "cn, sn",
                 .user_attribute = "uid",
                 .password_attribute = "userPassword"},
    [LDAP_OTHER] = {.type = LDAP_OTHER,
                 .port = 0,
                 .ldaps_port = 0,
                 .base = EXAMPLE_BASE,
                 .bind_dn = "cn=gateway," EXAMPLE_BASE,
                 .smtpauth_filter = "(uid={u})",
                 .allowance = ALLOWANCE("(uid={u})"),
                 .certauth_filter = "(&(caccn={cn})(cacserial={sn}))",
                 .certauth_fields = "cn, sn",
                 .user_attribute = "uid",
                 .password_attribute = "userPassword"},
};

const struct ldap_preset *ldap_preset(enum ldap_types type)
{
    assert((size_t)type < countof(presets));
    return &presets[type];
}
