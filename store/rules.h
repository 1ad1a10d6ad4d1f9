/* rules.h - the .check functions named in schema/, of one value (rules.c) and of one object among the others (check.c).
 * The sentences are for the administrator. Pure; any thread. */
#ifndef POSTERN_RULES_H
#define POSTERN_RULES_H

#include "store/schema.h"

struct listener;
struct smtp_route;

bool check_identifier(const struct field *f, const char *text, struct err *err);
bool check_profile_name(const struct field *f, const char *text, struct err *err);
bool check_policy_name(const struct field *f, const char *text, struct err *err);
bool check_fqdn(const struct field *f, const char *text, struct err *err);
bool check_ip(const struct field *f, const char *text, struct err *err);
bool check_rollover_time(const struct field *f, const char *text, struct err *err);
bool check_syslog_host(const struct field *f, const char *text, struct err *err);
bool check_header_name(const struct field *f, const char *text, struct err *err);
/* "HH:MM", "Mon HH:MM": the minute of the day + 1, and the day (1 Monday, 7 Sunday, 0 every day). */
bool rollover_time(const char *text, unsigned *at, unsigned *day);
bool check_ip_or_empty(const struct field *f, const char *text, struct err *err);
bool check_resolver(const struct field *f, const char *text, struct err *err);
bool check_dns_zone(const struct field *f, const char *text, struct err *err);
bool check_dns_anchor(const struct field *f, const char *text, struct err *err);
bool check_address_or_default(const struct field *f, const char *text, struct err *err); /* or "", or "default" */
bool check_language_template(const struct field *f, const char *text, struct err *err); /* "de:German" */
bool check_template(const struct field *f, const char *text, struct err *err); /* of a bounce */
bool check_address_or_empty(const struct field *f, const char *text, struct err *err);
bool check_mail_address(const struct field *f, const char *text, struct err *err);
bool check_alert_from(const struct field *f, const char *text, struct err *err);
bool check_alert_class(const struct field *f, const char *text, struct err *err);
bool check_alert_severity(const struct field *f, const char *text, struct err *err);
bool check_domain_or_empty(const struct field *f, const char *text, struct err *err);
bool check_destination_name(const struct field *f, const char *text, struct err *err);
bool check_route_domain(const struct field *f, const char *text, struct err *err);
bool check_route_host(const struct field *f, const char *text, struct err *err);
bool check_sender(const struct field *f, const char *text, struct err *err);
bool check_ciphers(const struct field *f, const char *text, struct err *err);
bool check_groups(const struct field *f, const char *text, struct err *err);
bool check_date(const struct field *f, const char *text, struct err *err);
bool check_bv_number(const struct field *f, const char *text, struct err *err);
bool check_header_line(const struct field *f, const char *text, struct err *err);
bool check_sender_address(const struct field *f, const char *text, struct err *err);
bool check_host_or_empty(const struct field *f, const char *text, struct err *err);
bool check_response_text(const struct field *f, const char *text, struct err *err);
bool check_time_of_day(const struct field *f, const char *text, struct err *err);
bool check_crl_url(const struct field *f, const char *text, struct err *err);
bool check_ldap_host(const struct field *f, const char *text, struct err *err);
bool check_ldap_filter(const struct field *f, const char *text, struct err *err);
bool check_ldap_attribute(const struct field *f, const char *text, struct err *err);
bool check_certificate_field(const struct field *f, const char *text, struct err *err);
bool check_auth_mechanism(const struct field *f, const char *text, struct err *err);
bool check_forward_server(const struct field *f, const char *text, struct err *err);
bool check_rcpt_pattern(const struct field *f, const char *text, struct err *err);

void check_alert_setup(const struct config *cfg, const struct row *row, struct check *out);
void check_bounce_setup(const struct config *cfg, const struct row *row, struct check *out);
void check_certificate(const struct config *cfg, const struct row *row, struct check *out);
void check_authority(const struct config *cfg, const struct row *row, struct check *out);
void check_bounce_profile(const struct config *cfg, const struct row *row, struct check *out);
void check_listener(const struct config *cfg, const struct row *row, struct check *out);
void check_bv_key(const struct config *cfg, const struct row *row, struct check *out);
struct listener;
void check_flow_defaults(const struct listener *l, struct check *out); /* a part of check_listener */
void check_mail_policy(const struct config *cfg, const struct row *row, struct check *out);
void check_crl_source(const struct config *cfg, const struct row *row, struct check *out);
void check_ldap_server(const struct config *cfg, const struct row *row, struct check *out);
void check_ldap_query(const struct config *cfg, const struct row *row, struct check *out);
void check_smtpauth_profile(const struct config *cfg, const struct row *row, struct check *out);
void check_smtpauth_server(const struct config *cfg, const struct row *row, struct check *out);
void check_sender_group(const struct config *cfg, const struct row *row, struct check *out);
void check_rcpt_access(const struct config *cfg, const struct row *row, struct check *out);
void check_destination(const struct config *cfg, const struct row *row, struct check *out);
void check_ssl_settings(const struct config *cfg, const struct row *row, struct check *out);
void check_tls_exception(const struct config *cfg, const struct row *row, struct check *out);
void check_smtp_route(const struct config *cfg, const struct row *row, struct check *out);
void check_update(const struct config *cfg, const struct row *row, struct check *out);

/* Parts of check_listener and check_smtp_route, in check_smtpauth.c. */
void check_listener_profile(const struct config *cfg, const struct listener *l, struct check *out);
void check_route_profile(const struct config *cfg, const struct smtp_route *r, struct check *out);

#endif
