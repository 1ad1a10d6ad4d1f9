/* sasl.h - SASL mechanisms (RFC 4422) without SMTP and without directories: bytes in, bytes out.
 * PLAIN (RFC 4616), LOGIN, EXTERNAL and SCRAM-SHA-256 with and without channel binding (RFC 5802,
 * RFC 7677, RFC 9266), each for a server and, but EXTERNAL, for a client. auth.c and auth_client.c
 * put them into SMTP (RFC 4954).
 *
 * SCRAM is GNU SASL's. The others are ten lines each and done here, because GNU SASL leaves copies
 * of passwords behind in freed memory and asks for LOGIN's in words that some clients do not know.
 * Names and passwords are taken as they come: a name is UTF-8 without control characters, none has
 * a NUL. An exchange belongs to one fiber. */
#ifndef POSTERN_SASL_H
#define POSTERN_SASL_H

#include <stdbool.h>

#include "daemon/password.h"
#include "store/base/buf.h"

#define SASL_USER_MAX 256u
#define SASL_PASSWORD_MAX 1024u
#define SASL_MESSAGE_MAX 9216u /* of one step, decoded: what a line of 12288 bytes can hold */

enum sasl_mechanism {
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_EXTERNAL,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_256_PLUS,
    SASL_MECHANISMS /* how many; also: no such mechanism */
};
const char *sasl_name(enum sasl_mechanism m);
enum sasl_mechanism sasl_find(struct slice name); /* whatever its case */

#define SASL_BINDING 32u /* bytes of tls-exporter */
struct ssl_st;
/* What a session is bound by. false: it has nothing: it is in clear, or older than TLS 1.3. */
bool sasl_binding(struct ssl_st *ssl, unsigned char out[SASL_BINDING]);

struct sasl;

enum sasl_step {
    SASL_MORE, /* out is to be sent */
    SASL_CREDENTIALS, /* server: sasl_user and sasl_password are known and wait for judgement;
                         EXTERNAL: sasl_authzid */
    SASL_PROVEN, /* the exchange has shown that both know the secret; server: out, if not empty, is
                    still to be sent */
    SASL_WRONG, /* it has shown that they do not, or a name stands for another one */
    SASL_SYNTAX, /* what came is not what the mechanism demands */
    SASL_DOWN, /* server: the keys could not be had */
};

struct sasl_server {
    const unsigned char
        *binding; /* SASL_BINDING bytes, copied; NULL: channel binding was not offered */
    /* YIELDS. SCRAM: the keys of a user; false: not to be had. Of somebody who is not there, keys
     * that fit no password. */
    bool (*keys)(void *arg, const char *user, struct scram_keys *out);
    void *arg;
};
struct sasl *sasl_server_new(enum sasl_mechanism m, const struct sasl_server *how);
/* YIELDS. in.p NULL: the client has said nothing yet. out is empty before. */
enum sasl_step sasl_server_step(struct sasl *s, struct slice in, struct buf *out);
const char *sasl_user(const struct sasl *s); /* "" as long as it is not known */
const char *
sasl_password(const struct sasl *s); /* PLAIN and LOGIN; never "" after SASL_CREDENTIALS */
const char *sasl_authzid(
    const struct sasl *s); /* EXTERNAL: "" none; of the others it was compared with the user */

/* user and password are copied. */
struct sasl *sasl_client_new(enum sasl_mechanism m, const char *user, const char *password,
                             const unsigned char *binding);
/* YIELDS. in.p NULL at the beginning: out is the initial response (LOGIN has none, and says
 * SASL_MORE with out empty). SCRAM's last step checks the server; the others end with SASL_PROVEN
 * when all has been said. */
enum sasl_step sasl_client_step(struct sasl *s, struct slice in, struct buf *out);

void sasl_free(struct sasl **s); /* cleanses */

#endif
