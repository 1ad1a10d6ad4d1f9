/* auth_outgoing.h - SMTP authentication at a smart host, with an outgoing profile of smtpauthconfig that an SMTP route
 * names (smtp_route.auth_profile). */
#ifndef POSTERN_AUTH_OUTGOING_H
#define POSTERN_AUTH_OUTGOING_H

#include "daemon/smtp_client.h"
#include "store/config.h"

/* Whom a session is authenticated as: what client.identity must be for mail of a route with this profile; "" for NULL.
 * Another name or password makes another identity. */
#define IDENTITY_SIZE sizeof(((struct client *)0)->identity)
void auth_identity(const struct config *cfg, const struct smtpauth_profile *p, char *out);

/* YIELDS. Only over a session whose certificate has been found to be the route's host's (TLS_CHECK_ROUTE): any other one
 * never sees the password. true: c->identity is the profile's. false: why has a sentence that names the profile, c->reply
 * what the server said, code 0: nothing. Writes mail_logs, raises an alert when the server refuses. */
bool auth_outgoing(struct client *c, const struct config *cfg, const struct smtpauth_profile *p, char *why, size_t size);

#endif
