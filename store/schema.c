/* schema.c - expands schema/SECTION.def into the tables of schema.h. Nothing here changes when a
 * setting is added; a new section needs its three lines below and one in structs.h and
 * sections.def. */
#include "store/schema.h"

#include <string.h>

#include "store/base/str.h"
#include "store/config.h"
#include "store/rules.h"
#include "store/ssl.h"

/* clang-format off */
#define CHOICE(number, word, text) {word, text},
#define CHOICES(table, ...) const struct choice choices_##table[] = {__VA_ARGS__ {NULL, NULL}};
/* clang-format on */
#include "schema/choices.def"
#undef CHOICES
#undef CHOICE

#define FIELD(t, n, ...)                                                                           \
    {.name = #n, .type = &type_##t, .offset = offsetof(struct SECT, n), __VA_ARGS__},

#define SECT system
static const struct field system_fields[] = {
#include "schema/system.def"
};
#undef SECT
#define SECT user
static const struct field user_fields[] = {
#include "schema/user.def"
};
#undef SECT
#define SECT alert_setup
static const struct field alert_setup_fields[] = {
#include "schema/alert_setup.def"
};
#undef SECT
#define SECT alert_recipient
static const struct field alert_recipient_fields[] = {
#include "schema/alert_recipient.def"
};
#undef SECT
#define SECT log
static const struct field log_fields[] = {
#include "schema/log.def"
};
#undef SECT
#define SECT log_setup
static const struct field log_setup_fields[] = {
#include "schema/log_setup.def"
};
#undef SECT
#define SECT certificate
static const struct field certificate_fields[] = {
#include "schema/certificate.def"
};
#undef SECT
#define SECT authority
static const struct field authority_fields[] = {
#include "schema/authority.def"
};
#undef SECT
#define SECT authority_setup
static const struct field authority_setup_fields[] = {
#include "schema/authority_setup.def"
};
#undef SECT
#define SECT crl_setup
static const struct field crl_setup_fields[] = {
#include "schema/crl_setup.def"
};
#undef SECT
#define SECT crl_source
static const struct field crl_source_fields[] = {
#include "schema/crl_source.def"
};
#undef SECT
#define SECT ldap_setup
static const struct field ldap_setup_fields[] = {
#include "schema/ldap_setup.def"
};
#undef SECT
#define SECT ldap_server
static const struct field ldap_server_fields[] = {
#include "schema/ldap_server.def"
};
#undef SECT
#define SECT ldap_query
static const struct field ldap_query_fields[] = {
#include "schema/ldap_query.def"
};
#undef SECT
#define SECT smtpauth_profile
static const struct field smtpauth_profile_fields[] = {
#include "schema/smtpauth_profile.def"
};
#undef SECT
#define SECT smtpauth_server
static const struct field smtpauth_server_fields[] = {
#include "schema/smtpauth_server.def"
};
#undef SECT
#define SECT bounce_template
static const struct field bounce_template_fields[] = {
#include "schema/bounce_template.def"
};
#undef SECT
#define SECT bounce_profile
static const struct field bounce_profile_fields[] = {
#include "schema/bounce_profile.def"
};
#undef SECT
#define SECT bounce_setup
static const struct field bounce_setup_fields[] = {
#include "schema/bounce_setup.def"
};
#undef SECT
#define SECT bv_setup
static const struct field bv_setup_fields[] = {
#include "schema/bv_setup.def"
};
#undef SECT
#define SECT bv_key
static const struct field bv_key_fields[] = {
#include "schema/bv_key.def"
};
#undef SECT
#define SECT listener_setup
static const struct field listener_setup_fields[] = {
#include "schema/listener_setup.def"
};
#undef SECT
#define SECT listener
static const struct field listener_fields[] = {
#include "schema/listener.def"
};
#undef SECT
#define SECT mail_policy
static const struct field mail_policy_fields[] = {
#include "schema/mail_policy.def"
};
#undef SECT
#define SECT sender_group
static const struct field sender_group_fields[] = {
#include "schema/sender_group.def"
};
#undef SECT
#define SECT rcpt_access
static const struct field rcpt_access_fields[] = {
#include "schema/rcpt_access.def"
};
#undef SECT
#define SECT ssl_settings
static const struct field ssl_settings_fields[] = {
#include "schema/ssl_settings.def"
};
#undef SECT
#define SECT destination_setup
static const struct field destination_setup_fields[] = {
#include "schema/destination_setup.def"
};
#undef SECT
#define SECT destination
static const struct field destination_fields[] = {
#include "schema/destination.def"
};
#undef SECT
#define SECT tls_exception
static const struct field tls_exception_fields[] = {
#include "schema/tls_exception.def"
};
#undef SECT
#define SECT smtp_route
static const struct field smtp_route_fields[] = {
#include "schema/smtp_route.def"
};
#undef SECT
#define SECT dns_setup
static const struct field dns_setup_fields[] = {
#include "schema/dns_setup.def"
};
#undef SECT
#define SECT dns_server
static const struct field dns_server_fields[] = {
#include "schema/dns_server.def"
};
#undef SECT
#define SECT dns_domain
static const struct field dns_domain_fields[] = {
#include "schema/dns_domain.def"
};
#undef SECT
#define SECT dns_anchor
static const struct field dns_anchor_fields[] = {
#include "schema/dns_anchor.def"
};
#undef SECT
#define SECT dns_untrusted
static const struct field dns_untrusted_fields[] = {
#include "schema/dns_untrusted.def"
};
#undef SECT
#define SECT delivery
static const struct field delivery_fields[] = {
#include "schema/delivery.def"
};
#undef SECT
#define SECT resource_limits
static const struct field resource_limits_fields[] = {
#include "schema/resource_limits.def"
};
#undef SECT
#define SECT update
static const struct field update_fields[] = {
#include "schema/update.def"
};
#undef SECT
#define SECT mta_sts_setup
static const struct field mta_sts_setup_fields[] = {
#include "schema/mta_sts_setup.def"
};
#undef SECT

#define SECTION(n, ...)                                                                            \
    const struct section section_##n = {.name = #n,                                                \
                                        .fields = n##_fields,                                      \
                                        .nfields = countof(n##_fields),                            \
                                        .size = sizeof(struct n),                                  \
                                        __VA_ARGS__};
#include "schema/sections.def"
#undef SECTION

#define SECTION(n, ...) &section_##n,
static const struct section *const sections[] = {
#include "schema/sections.def"
};
#undef SECTION

_Static_assert(countof(sections) == SECTIONS, "the enum of schema.h has one number per section");

const struct section *section_find(const char *name)
{
    for (size_t i = 0; i < countof(sections); i++)
        if (str_eq(sections[i]->name, name))
            return sections[i];
    return NULL;
}

size_t section_count(void)
{
    return countof(sections);
}

const struct section *section_at(size_t i)
{
    return sections[i];
}

unsigned section_index(const struct section *s)
{
    unsigned i = 0;

    while (sections[i] != s)
        i++;
    return i;
}

const struct field *field_find(const struct section *s, const char *name)
{
    for (size_t i = 0; i < s->nfields; i++)
        if (str_eq(s->fields[i].name, name) ||
            (s->fields[i].alias && str_eq(s->fields[i].alias, name)))
            return &s->fields[i];
    return NULL;
}

const struct field *section_key(const struct section *s)
{
    for (size_t i = 0; i < s->nfields; i++)
        if (s->fields[i].key)
            return &s->fields[i];
    return NULL;
}
