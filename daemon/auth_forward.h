/* auth_forward.h - profiles of the kind "forward": whether a password is right is asked of other
 * SMTP servers, by authenticating there with it (RFC 4954). */
#ifndef POSTERN_AUTH_FORWARD_H
#define POSTERN_AUTH_FORWARD_H

#include "daemon/auth.h"

/* YIELDS. AUTH_OK, AUTH_WRONG or AUTH_DOWN (err says why). The servers are tried in their order
 * until one has answered the question; a server that has as many connections of ours as it may have
 * is passed over. hostname: ours, for EHLO. */
enum auth_step auth_forward(const struct config *cfg, const struct smtpauth_profile *p,
                            const char *hostname, const char *user, const char *password,
                            msec_t deadline, struct err *err);

#endif
