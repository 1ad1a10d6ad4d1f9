/* maillog.h - every kind of line of mail_logs, one function and one test each (the formats are
 * product surface: other people's tools parse them). Text from the network is escaped here and only
 * here. Any thread, never blocks. */
#ifndef POSTERN_MAILLOG_H
#define POSTERN_MAILLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/net.h"

/* Which lines an administrator wants (logconfig > setup); all of them until it is said. */
void maillog_choose(bool message_ids, bool responses, bool subjects);
void maillog_status(const char *text); /* "Status: CPULd 13 ..." */

/* receiving */
void maillog_icid_new(uint64_t icid, const char *listener, const struct addr *local,
                      const struct addr *peer, const char *reverse,
                      bool verified); /* reverse "": unknown */
void maillog_icid_access(uint64_t icid, const char *behavior, const char *group, const char *match);
/* A host access table's REJECT is said at the recipients, so that they can be logged. */
void maillog_icid_delayed_reject(uint64_t icid, const struct addr *peer);
/* Invalid recipients beyond the limit; reverse: the verified name of the peer or NULL. */
void maillog_icid_harvest(uint64_t icid, const struct addr *peer, const char *reverse, unsigned limit,
                          const char *group, const char *listener, const char *sender,
                          const char *rcpt);
void maillog_icid_close(uint64_t icid);
void maillog_icid_lost(uint64_t icid);
void maillog_icid_timeout(uint64_t icid, const struct addr *peer);
void maillog_receiving_failed(uint64_t icid, const char *reason);
void maillog_icid_tls(uint64_t icid, const char *protocol, const char *cipher);
void maillog_icid_tls_failed(uint64_t icid, const char *reason);
void maillog_icid_tls_missing(
    uint64_t icid); /* "TLS was required but remote host did not initiate it" */
/* what: "verified", "refused", "not used"; why: a phrase, NULL when verified; subject: escaped already */
void maillog_icid_certificate(uint64_t icid, const char *what, const char *why, const char *subject);
/* how: "PLAIN", "CERTIFICATE" */
void maillog_auth(uint64_t icid, bool ok, const char *user, const char *how, const char *profile);
void maillog_auth_monitored(uint64_t icid, const char *user, const char *profile); /* a warning */
void maillog_auth_undecided(uint64_t icid, const char *user, const char *how, const char *profile,
                            const char *why); /* a warning: 454 */
void maillog_auth_missing(uint64_t icid); /* "was required but remote host did not initiate it" */
void maillog_start(uint64_t mid, uint64_t icid); /* ICID 0: made by the gateway itself */
void maillog_from(uint64_t mid, uint64_t icid, const char *sender);
void maillog_to(uint64_t mid, uint64_t icid, unsigned rid, const char *rcpt);
void maillog_to_rejected(uint64_t mid, uint64_t icid, const char *rcpt, const char *by); /* "RAT", "HAT" */
void maillog_to_invalid(uint64_t mid, uint64_t icid, char character);
void maillog_message_id(uint64_t mid, const char *id);
void maillog_subject(uint64_t mid, const char *subject);
void maillog_ready(uint64_t mid, uint64_t bytes, const char *sender);
void maillog_aborted(
    uint64_t mid,
    const char *reason); /* "Message aborted MID n Receiving aborted" and "finished ... aborted" */
void maillog_queued(uint64_t mid); /* by queue_submit: durable, not yet handed to a delivery */
void maillog_finished(uint64_t mid); /* by the queue, once per MID */
void maillog_deleted(uint64_t mid, const unsigned *rids, unsigned n); /* by an administrator */
void maillog_redirected(uint64_t mid, const char *host); /* "": no longer */
void maillog_generated_bounce(uint64_t mid, uint64_t of_mid);

/* delivery */
void maillog_dcid_new(uint64_t dcid, const struct addr *local, const struct addr *peer);
void maillog_dcid_close(uint64_t dcid);
void maillog_dcid_tls(uint64_t dcid, const char *protocol, const char *cipher,
                      const char *domain); /* domain: "for" it, when DANE proved the host; or NULL */
/* deferring: the connection is not used; else the message goes over it all the same */
void maillog_dcid_tls_unverified(uint64_t dcid, const char *why, bool deferring);
void maillog_dcid_tls_verified(uint64_t dcid, const char *matched);
void maillog_dcid_tls_failed(uint64_t dcid, const char *reason);
/* host gets no mail for domain; rule: the word of tls_policy.h */
void maillog_tls_refused(const char *domain, const char *host, const char *rule, const char *why);
void maillog_sts_applying(const char *domain);
void maillog_sts_enforcing(void);
void maillog_sts_success(const char *domain);
void maillog_sts_failed(const char *domain); /* the certificate, or the host is not in the policy */
void maillog_sts_unreachable(const char *domain); /* no TLS at all */
void maillog_sts_skipped(const char *domain); /* DANE is in force */
void maillog_dcid_starttls_unsupported(uint64_t dcid);
/* Ours at a smart host. why: NULL, it succeeded. */
void maillog_dcid_auth(uint64_t dcid, const struct addr *peer, const char *profile, const char *why);
void maillog_auth_unreachable(const char *server, const char *why); /* one of a forwarding profile */
void maillog_dcid_tls_required(
    uint64_t dcid); /* "TLS was required but could not be successfully negotiated" */
void maillog_delivery_start(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n);
/* headers: "[('X-SBRS', '3.5')]", those of the message that are to be logged; "" none are */
void maillog_message_done(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n,
                          const char *headers);
void maillog_response(uint64_t mid, const unsigned *rids, unsigned n, const char *response);
/* code "000": there was no SMTP reply; lines of text are separated by "\n" */
void maillog_bounced(uint64_t dcid, uint64_t mid, unsigned rid, const char *status,
                     const char *phrase, const char *code, const char *text);
void maillog_double_bounce(uint64_t mid, unsigned rid, const char *status, const char *phrase,
                           const char *code, const char *text);
void maillog_delayed(uint64_t dcid, uint64_t mid, unsigned rid, const char *status,
                     const char *phrase, const char *code, const char *text);
void maillog_possible_delivery(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n);
void maillog_pending(uint64_t mid, const unsigned *rids, unsigned n, int64_t until_usec);
/* local may be NULL: never connected */
void maillog_connection_error(uint64_t dcid, const char *domain, const struct addr *local,
                              const struct addr *peer, const char *details, const char *reason);
/* what: "Destination" or "MX host"; once when it goes down and once when it is back */
void maillog_down(const char *what, const char *name, const char *why, uint64_t seconds);
void maillog_up(const char *what, const char *name, uint64_t seconds);
void maillog_dns_failure(const char *name, const char *type, const char *what);

/* MTA-STS, looking up a policy */
void maillog_sts_record_error(const char *domain);
void maillog_sts_record(const char *domain);
void maillog_sts_fetched(const char *domain);
void maillog_sts_fetch_failed(const char *domain);
void maillog_sts_paused(void); /* the pause between two attempts has grown to a day */

bool maillog_wants_debug(void);
void maillog_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* level Debug */

#endif
