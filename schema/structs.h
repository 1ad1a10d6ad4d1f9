/* structs.h - the C structs of the sections, expanded from the .def files. Included by store/config.h only. */
#define FIELD(type, name, ...) ctype_##type name;
struct system {
#include "schema/system.def"
};
struct user {
#include "schema/user.def"
};
struct alert_setup {
#include "schema/alert_setup.def"
};
struct alert_recipient {
#include "schema/alert_recipient.def"
};
struct log {
#include "schema/log.def"
};
struct log_setup {
#include "schema/log_setup.def"
};
struct certificate {
#include "schema/certificate.def"
};
struct authority {
#include "schema/authority.def"
};
struct authority_setup {
#include "schema/authority_setup.def"
};
struct crl_setup {
#include "schema/crl_setup.def"
};
struct crl_source {
#include "schema/crl_source.def"
};
struct ldap_setup {
#include "schema/ldap_setup.def"
};
struct ldap_server {
#include "schema/ldap_server.def"
};
struct ldap_query {
#include "schema/ldap_query.def"
};
struct smtpauth_profile {
#include "schema/smtpauth_profile.def"
};
struct smtpauth_server {
#include "schema/smtpauth_server.def"
};
struct bounce_template {
#include "schema/bounce_template.def"
};
struct bounce_profile {
#include "schema/bounce_profile.def"
};
struct bounce_setup {
#include "schema/bounce_setup.def"
};
struct bv_setup {
#include "schema/bv_setup.def"
};
struct bv_key {
#include "schema/bv_key.def"
};
struct listener_setup {
#include "schema/listener_setup.def"
};
struct listener {
#include "schema/listener.def"
};
struct mail_policy {
#include "schema/mail_policy.def"
};
struct sender_group {
#include "schema/sender_group.def"
};
struct rcpt_access {
#include "schema/rcpt_access.def"
};
struct ssl_settings {
#include "schema/ssl_settings.def"
};
struct destination_setup {
#include "schema/destination_setup.def"
};
struct destination {
#include "schema/destination.def"
};
struct tls_exception {
#include "schema/tls_exception.def"
};
struct smtp_route {
#include "schema/smtp_route.def"
};
struct dns_setup {
#include "schema/dns_setup.def"
};
struct dns_server {
#include "schema/dns_server.def"
};
struct dns_domain {
#include "schema/dns_domain.def"
};
struct dns_anchor {
#include "schema/dns_anchor.def"
};
struct dns_untrusted {
#include "schema/dns_untrusted.def"
};
struct delivery {
#include "schema/delivery.def"
};
struct resource_limits {
#include "schema/resource_limits.def"
};
struct update {
#include "schema/update.def"
};
struct mta_sts_setup {
#include "schema/mta_sts_setup.def"
};
#undef FIELD
