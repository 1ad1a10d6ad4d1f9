/* trust.h - the authorities peers are verified against: the system list, the custom list, or both, as certconfig >
 * certauthority says. Built when a configuration is prepared; a change counts from the next handshake. Any thread. */
#ifndef POSTERN_TRUST_H
#define POSTERN_TRUST_H

#include <openssl/x509.h>
#include <stdint.h>

X509_STORE *running_trust(void);    /* a reference for the caller (X509_STORE_free); never NULL, empty when both lists are off */
uint64_t running_trust_id(void);    /* changes with the lists: a session verified under another number is not reused */

#endif
