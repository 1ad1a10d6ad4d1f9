/* crl.h - certificate revocation lists (RFC 5280 section 5) of certconfig > crl: fetched on schedule in the background,
 * checked (issuer, signature, dates), kept on disk for the next start, and looked up in memory at a handshake, which never
 * waits for a fetch. Any thread. */
#ifndef POSTERN_CRL_H
#define POSTERN_CRL_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"

enum crl_use { CRL_INBOUND, CRL_OUTBOUND, CRL_WEB };

/* Every certificate of a verified chain, leaf first, but its root. true: the switch is off, or none is revoked and none is
 * covered by an outdated list that crl_setup refuses. A certificate whose issuer no source covers is not looked up; where
 * outdated lists are refused, it is refused while an enabled source has no list at all: it might be the one about it.
 * false: why is a phrase for log and peer ("certificate revoked on 2026-11-02 (key compromise)"). */
bool crl_chain_ok(enum crl_use use, STACK_OF(X509) *chain, char *why, size_t size);

/* Changes with the lists and the switches: what was verified under another number is verified again. */
uint64_t running_crl_id(void);

#endif
