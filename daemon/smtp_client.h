/* smtp_client.h - one session with one SMTP server, as a client (RFC 5321). It belongs to one
 * fiber.
 *
 * The calls follow the dialog: client_connect, client_hello, client_starttls (then hello again),
 * client_transaction any number of times, client_quit. Which of them is called when is deliver.c's
 * business, what TLS must do tls_policy's. */
#ifndef POSTERN_SMTP_CLIENT_H
#define POSTERN_SMTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/queue.h"
#include "daemon/smtp_parse.h"
#include "daemon/tls_policy.h"
#include "store/base/list.h"
#include "store/base/net.h"

struct conn;
struct ssl_st;
struct tls_context;

enum { /* what EHLO offered */
       CAP_ESMTP = 1,
       CAP_STARTTLS = 2,
       CAP_PIPELINING = 4,
       CAP_SIZE = 8,
       CAP_8BITMIME = 16,
       CAP_SMTPUTF8 = 32,
       CAP_DSN = 64,
       CAP_CHUNKING = 128,
       CAP_REQUIRETLS = 256,
       CAP_BINARYMIME = 512,
       CAP_AUTH = 1024,
};

struct client {
    struct list node; /* in the list of open ones */
    struct conn *conn;
    uint64_t dcid;
    char host[256]; /* name of the host, for SNI and messages */
    struct addr peer;
    unsigned caps;
    unsigned auth; /* mechanisms of CAP_AUTH, those that we know: bits, 1 << enum sasl_mechanism */
    char identity[100]; /* whom it was authenticated as, so that nobody else's mail goes over it; "" nobody */
    msec_t deadline; /* for everything that is said; NEVER: only the time-outs of the RFC */
    uint64_t max_size; /* RFC 1870, 0: not said */
    unsigned transactions; /* so far */
    struct tls_proof proof; /* what its TLS has shown */
    bool unfinished; /* the last transaction was left open: RSET comes before the next */
    bool possible_delivery; /* no reply to the whole text in time counts as delivered: whoever hands over says so */
    bool tls_counted; /* in GAUGE_TLS_OUT */
    bool closing; /* the peer said 421 or the line broke: no further transaction */
    struct smtp_reply reply; /* the last one; code 0: the line broke before it came */
};

enum outcome { OUTCOME_RETRY, OUTCOME_DONE, OUTCOME_FAILED };

struct rcpt_result {
    enum outcome outcome;
    int code; /* of the reply that decided; 0: none */
    char status[12]; /* "5.1.1", "" unknown */
    char *text; /* reply without its code, or the reason; malloc'd, never NULL once decided */
    bool relayed_without_dsn; /* done, but the peer does not know DSN (RFC 3461 section 5.2.2) */
};
void rcpt_result_set(struct rcpt_result *r, enum outcome outcome, int code, const char *status,
                     const char *text);

/* YIELDS. Connects to the first of n addresses that answers (conn_connect_first) and reads the greeting. NULL and err: no connection, or a greeting other than
 * 220; *reply says which reply that was (code 0: none), *local what our end was (family 0: never
 * connected), *which what address it was. patience: for the connection alone. dcid is what the log calls this connection; 0: nothing is logged or counted. deadline:
 * for the connection and all that is said over it; NEVER: the time-outs of the RFC. */
struct client *client_connect(const char *host, const struct addr *const *to, unsigned n,
                              const struct addr *from, uint64_t dcid, msec_t patience,
                              msec_t deadline, unsigned *which, struct addr *local,
                              struct smtp_reply *reply, struct err *err);
/* The same from an open connection on, which it takes over. */
struct client *client_greet(struct conn *conn, const char *host, const struct addr *peer,
                            uint64_t dcid, msec_t deadline, struct addr *local,
                            struct smtp_reply *reply, struct err *err);
bool client_hello(struct client *c, const char *helo,
                  struct err *err); /* YIELDS. EHLO, or HELO when that is refused */

/* YIELDS. Any line, and its reply in c->reply; what: how errors call it. The line is not logged. */
bool client_say(struct client *c, const char *line, const char *what, struct err *err);

/* YIELDS. STARTTLS and the handshake, which shows name as SNI and is prepared by the given call. false:
 * c->reply.code is not 220 (refused, the connection is as before) or it is 220 and the handshake
 * failed (the connection is dead). */
bool client_starttls(struct client *c, struct tls_context *ctx, const char *name,
                     bool (*prepare)(struct ssl_st *ssl, void *arg, struct err *err), void *arg,
                     struct err *err);

/* YIELDS. One message, from its sender or from this one, to some of its recipients: rids[i] gets results[i], n at most
 * CLIENT_MAX_RCPTS. Every result is decided when it returns. false: the connection broke or was
 * closed before the peer had answered for the message, so that another host may be tried for
 * results that say OUTCOME_RETRY with code 0. */
#define CLIENT_MAX_RCPTS 100u /* what every server takes (RFC 5321 section 4.5.3.1.8) */
bool client_transaction(struct client *c, struct message *m, const char *sender,
                        const unsigned *rids, unsigned n, struct rcpt_result *results,
                        struct err *err);

/* What the server does not offer and a message with these flags needs: a phrase, NULL: nothing. */
const char *client_lacks(const struct client *c, unsigned flags);

bool client_alive(
    struct client *c); /* no waiting: has the peer closed, or said anything, while we were idle? */
void client_free(struct client **c); /* YIELDS. QUIT when the session is in order, then closes */
void clients_abort(void); /* any thread: cuts every open connection; their dialogs fail */

#endif
