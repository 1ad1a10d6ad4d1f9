/* ldap_auth.h - the questions of SMTP authentication to a directory: is this the user's password, may the user use SMTP
 * AUTH, whose certificate is this. A query is an object of ldapconfig; cfg is the caller's snapshot.
 *
 * Values of macros never become part of a filter's syntax (RFC 4515): filters are parsed once, without values, and the
 * values are put in as values. Whoever is not found, or found twice, is nobody. Connections are pooled by host, answers are
 * cached, several hosts are used by fail-over or in turn; a host that is down is skipped for a while. */
#ifndef POSTERN_LDAP_AUTH_H
#define POSTERN_LDAP_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/str.h"
#include "store/config.h"

enum ldap_verdict {
    LDAP_YES,
    LDAP_NO, /* no such user, wrong password, not allowed, no such certificate: err says which, for the log only */
    LDAP_DOWN, /* no answer in time, no host reachable, query missing or misconfigured: err says why. 454, never yes */
};

/* YIELDS, all of them. They end within the server's query_timeout and before the deadline. */
enum ldap_verdict ldap_check_password(const struct config *cfg, const char *query, const char *user, const char *password,
                                      msec_t deadline, struct err *err);
/* The values of the password attribute (method "attribute"); the caller cleanses them. */
enum ldap_verdict ldap_fetch_password(const struct config *cfg, const char *query, const char *user, struct strlist *out,
                                      msec_t deadline, struct err *err);
/* The allowance query string; LDAP_YES when the query has none. */
enum ldap_verdict ldap_check_allowed(const struct config *cfg, const char *query, const char *user, msec_t deadline,
                                     struct err *err);

struct ldap_certificate { /* what the macros of a certificate query stand for; "": the certificate has none, which matches nothing */
    const char *cn, *sn /* "0A1B..." upper case hexadecimal */, *email, *upn, *dn /* RFC 4514 */, *issuer, *fp;
};
/* user: the value of the user ID attribute. */
enum ldap_verdict ldap_check_certificate(const struct config *cfg, const char *query, const struct ldap_certificate *who,
                                         char *user, size_t size, msec_t deadline, struct err *err);

#endif
