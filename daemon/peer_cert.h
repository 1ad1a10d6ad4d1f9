/* peer_cert.h - the two further looks at a peer's certificate that sslconfig offers (PEER_CERT_FQDN, PEER_CERT_X509), off by
 * default: parts of verification, so they count wherever the chain and the names do (levels 4, 5 and 6, MTA-STS), not under
 * DANE, where the certificate is what the domain published. Pure; any thread.
 *
 *     const struct ssl_settings *ssl = CONFIG_SINGLE(cfg, ssl_settings);
 *     ok = ok && (!ssl->peer_cert_fqdn || peer_cert_fqdn_ok(cert, why, sizeof(why)));
 *     ok = ok && (!ssl->peer_cert_x509 || peer_cert_x509_ok(cert, names, n, why, sizeof(why)));
 */
#ifndef POSTERN_PEER_CERT_H
#define POSTERN_PEER_CERT_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

/* There is a common name or a DNS name, and those that are there are fully qualified ("*." may begin them). why: a phrase fit
 * for the log, escaped. */
bool peer_cert_fqdn_ok(X509 *cert, char *why, size_t size);

/* X.509 version 3, signed with SHA-256 or better. */
bool peer_cert_form_ok(X509 *cert, char *why, size_t size);

/* X.509 version 3, signed with SHA-256 or better, and one of the server's names (of host and domain; NULLs are skipped) is in
 * its DNS names or its common name. */
bool peer_cert_x509_ok(X509 *cert, const char *const *names, size_t n, char *why, size_t size);

#endif
