/* auth.h - who a client is, as an SMTP Auth profile decides: one exchange of AUTH (RFC 4954, RFC 4422), the mechanisms
 * by GNU SASL, the answer from a directory (ldap_auth.h) or from other SMTP servers (profile kind "forward").
 *
 * Says nothing about whether AUTH may be offered now (smtp_auth.c does) and writes no reply. An exchange belongs to
 * one fiber. Passwords are cleansed when they are not needed any more. */
#ifndef POSTERN_AUTH_H
#define POSTERN_AUTH_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/net.h"
#include "store/base/str.h"
#include "store/config.h"

struct auth; /* one exchange */
struct ssl_st;

struct auth_client { /* borrowed for the life of the exchange */
    const struct config *cfg;
    const struct smtpauth_profile *profile; /* kind ldap or forward; of a certificate profile its fallback */
    struct addr peer;
    const char *hostname; /* ours */
    const char *certified; /* user that a client certificate proved, NULL: none. AUTH EXTERNAL is about it */
    struct ssl_st *ssl; /* for channel bindings (RFC 9266), NULL in clear */
};

enum auth_step {
    AUTH_MORE, /* the challenge is to be sent: 334 */
    AUTH_OK, /* auth_user: 235 */
    AUTH_MONITORED, /* the same, but the directory does not allow this user SMTP AUTH: to be logged; 235 */
    AUTH_WRONG, /* 535 5.7.8: counts as a failure */
    AUTH_NOT_ALLOWED, /* the profile's refused_code and refused_text: the password was right; counts as a failure */
    AUTH_DOWN, /* 454 4.7.0: directory or server not reachable, err says why; nobody is let in by that */
    AUTH_SYNTAX, /* 501 5.5.2: not base64, or not what the mechanism demands */
    AUTH_CANCELLED, /* 501 5.7.0: the client sent "*" */
};

/* The mechanisms for the EHLO line, "PLAIN LOGIN SCRAM-SHA-256"; "": none can work. */
void auth_mechanisms(const struct auth_client *c, struct buf *out);

/* NULL: 504 5.5.4, no such mechanism here. */
struct auth *auth_begin(const struct auth_client *c, struct slice mechanism);
/* YIELDS. response: what the client sent, base64, or the initial response ("=": empty, RFC 4954 section 4);
 * p NULL: none yet. challenge: base64, when AUTH_MORE. */
enum auth_step auth_step(struct auth *a, struct slice response, struct buf *challenge, struct err *err);
const char *auth_user(const struct auth *a); /* "" before it is known; as the client said it, unescaped */
const char *auth_mechanism(const struct auth *a); /* "PLAIN" */
void auth_free(struct auth **a);

/* Guessing: failures are counted by host (an IPv6 host is its /64), see listener_setup; auth_guard.c. Any thread.
 *
 * A host that has failed auth_failures_host times, with no more than the time of the lockout between two failures, is
 * locked out for that time. A success takes one failure back, no more: so an office behind one address is not locked out
 * for its one telephone with an old password, and who has an account of his own still guesses slowly. Failures are counted
 * by user name, too, whatever host they come from; that only delays, and alerts: a user whom others try to be can always
 * come in. */
bool auth_locked_out(const struct addr *peer); /* 454 4.7.0 before anything is tried */
/* Counts; the time to wait before the reply: a second, doubled with each failure of the host or of the name, at most
 * eight. Raises an alert when the host is locked out. user: "" unknown. */
msec_t auth_failed(const struct addr *peer, const struct listener_setup *setup, const char *user);
void auth_succeeded(const struct addr *peer);

/* For the console: who is locked out now; no more than max of them. */
struct auth_lockout {
    char address[64]; /* "192.0.2.7", "2001:db8::/64" */
    char user[64]; /* the last name tried, cut, not escaped */
    unsigned failures;
    msec_t left;
};
size_t auth_lockouts(struct auth_lockout *out, size_t max);
/* NULL: all. An address of the network, or the network, as auth_lockouts has it. How many were unlocked; their failures
 * are forgotten. */
size_t auth_unlock(const char *address);

/* The client's side, for forwarding profiles and smart hosts: YIELDS. Speaks AUTH on an open session with the server,
 * with the strongest of the mechanisms both know. code: the reply that decided, 0 none. */
struct client;
enum auth_step auth_as_client(struct client *c, const char *user, const char *password, bool plain, bool login, int *code,
                              struct err *err);

#endif
