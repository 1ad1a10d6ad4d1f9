/* smtp_policy.h - what a mail flow policy adds to the words of a session: the administrator's own replies, limits of senders
 * and of invalid recipients, senders that need TLS. */
#ifndef POSTERN_SMTP_POLICY_H
#define POSTERN_SMTP_POLICY_H

#include "daemon/smtp_server.h"

#define SMTP_RESPONSE_MAX 480 /* bytes of an administrator's text with its variables replaced */

/* Replaces $Hostname, $RemoteIP, $Group, $HATEntry in any case of letters; another "$" stays. The result is printable
 * ASCII and is cut at size. */
void smtp_expand(const struct smtp *s, const char *text, char *out, size_t size);

/* One reply: the administrator's code and text, or the standard text of that code. An enhanced code of the reply's class goes
 * in front, unless the text brings its own; detail: "7.1". */
void smtp_respond(struct smtp *s, const struct flow_response *r, const char *detail, const char *standard);

void smtp_greet(struct smtp *s);     /* 220, under the name and with the text of the policy */
void smtp_greet_rejected(struct smtp *s); /* 554 instead; may end the session */
void smtp_reject_rcpt(struct smtp *s, const char *rcpt); /* delayed HAT REJECT: said to a recipient */

/* The host has named too many invalid recipients within an hour: it is told so, and true is returned. at_connection: whether
 * the connection has just begun, where only a policy that drops says something. */
bool smtp_is_harvesting(struct smtp *s, bool at_connection);
/* Another invalid recipient, before its refusal is sent; false: the session has had its answer. */
bool smtp_invalid_rcpt(struct smtp *s, const char *rcpt);

bool smtp_sender_needs_tls(const struct smtp *s, const char *sender);
/* Counts a recipient towards the limits of the host and of the envelope sender; false: they are reached, told. */
bool smtp_rcpt_within_limits(struct smtp *s);

#endif
