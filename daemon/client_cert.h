/* client_cert.h - the certificate of a client that connects to us: asking for it in the handshake, and what it is worth.
 *
 * The handshake succeeds whatever the client shows, so that it can be told why it is refused (RFC 3207 section 4).
 * A session in which a certificate was asked for is never resumed: every session is judged anew, by the
 * authorities, revocation lists and dates of its own time. Any thread; an SSL object belongs to its fiber. */
#ifndef POSTERN_CLIENT_CERT_H
#define POSTERN_CLIENT_CERT_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "store/base/err.h"

#define CLIENT_CERT_VALUE 256 /* bytes of one name, with its end */
#define CLIENT_CERT_DN 1024

enum client_cert_state {
    CLIENT_CERT_NONE, /* the client showed none */
    CLIENT_CERT_VALID, /* chain, purpose, dates, revocation lists, and all names below are sound */
    CLIENT_CERT_INVALID,
};

struct client_cert {
    enum client_cert_state state;
    char why[200]; /* INVALID: a phrase for log and peer, escaped */
    char subject[CLIENT_CERT_DN]; /* for the log, escaped; "" if there is none */
    /* VALID: for queries; UTF-8 without control characters, "" when the certificate has no such name. */
    char cn[CLIENT_CERT_VALUE]; /* the most specific common name */
    char sn[CLIENT_CERT_VALUE]; /* serial number, "0A1B": upper-case hexadecimal, whole octets */
    char email[CLIENT_CERT_VALUE]; /* first rfc822Name, else emailAddress of the subject */
    char upn[CLIENT_CERT_VALUE]; /* user principal name, an otherName of Active Directory */
    char dn[CLIENT_CERT_DN], issuer[CLIENT_CERT_DN]; /* RFC 4514 */
    char fp[65]; /* SHA-256 of the certificate, upper-case hexadecimal */
};

/* For conn_before_handshake: asks for a certificate, naming the authorities of the custom list. arg is not used. */
bool client_cert_ask(SSL *ssl, void *arg, struct err *err);

/* After the handshake. strict: the settings for peers' certificates of sslconfig (peer_cert_x509) that apply to
 * clients. The result is the caller's (free). */
struct client_cert *client_cert_look(SSL *ssl, bool strict);

/* What it does: certificate and intermediates against authorities. out is overwritten. */
void client_cert_check(X509 *cert, STACK_OF(X509) *intermediates, X509_STORE *authorities, bool strict,
                       struct client_cert *out);

#endif
