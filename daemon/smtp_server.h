/* smtp_server.h - the server's side of SMTP: a session, shared by smtp_server.c (its life),
 * smtp_verbs.c (one function per verb), smtp_tls.c (TLS and the client's certificate), smtp_auth.c
 * (who the client is) and smtp_data.c (the message). A session belongs to one fiber. */
#ifndef POSTERN_SMTP_SERVER_H
#define POSTERN_SMTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/access.h"
#include "daemon/conn.h"
#include "store/base/clock.h"
#include "store/base/list.h"
#include "store/base/net.h"

struct client_cert;
struct intake;
struct limits_host;
struct conn_host;
struct limits_listener;
struct message;
struct tls_context;

/* YIELDS. The whole life of one inbound connection; owns fd and the reference to access. limits has
 * already counted the connection (limits_connect). */
struct smtp_origin {
    int fd;
    struct access *access;
    const struct access_table *table; /* of the listener, in access */
    struct limits_listener *limits;
    struct addr peer, local;
};
void smtp_serve(const struct smtp_origin *o);

/* Ends sessions of suspended listeners, with 421 where one can be understood: those that are between two messages, or
 * all. On every loop; of the calling loop alone. */
void smtp_end_suspended(bool all);

/* Whether new sessions and new messages of this listener are refused at the moment
 * ("suspendlistener"); listeners.c. */
bool listeners_suspended(const char *name);

/* --- for the five files  --------------------------------------------------------------------- */

enum smtp_state { /* bits, for the table of verbs */
                  AT_START = 1, /* before HELO or EHLO */
                  AT_READY = 2,
                  AT_MAIL = 4, /* a sender, no recipient yet */
                  AT_RCPT = 8, /* at least one recipient */
                  ANY_STATE = 15,
};

struct smtp {
    struct list link;            /* sessions of this loop */
    struct conn *conn;
    struct access *access;
    const struct access_table *table;
    const struct listener *listener;
    const struct listener_setup *setup;
    const struct mail_flow *flow;
    const char *group, *entry; /* of the host access table that gave it; "None", "ALL" */
    enum tls_modes tls_mode; /* the flow's, unless an exception names the peer */
    const char *hostname; /* ours */
    struct limits_listener *limits;
    struct limits_host *host;
    struct conn_host *counted; /* for topin */
    struct tls_context *tls; /* to offer; NULL: policy or certificate does not allow */
    uint64_t icid;
    struct addr peer, local;
    char *reverse; /* verified name of the peer or NULL */
    char *helo; /* what it called itself or NULL */
    msec_t end; /* of the whole session */
    enum smtp_state state;
    bool esmtp; /* greeted with EHLO: enhanced codes were announced */
    bool quit; /* the session ends after the replies that are pending */
    bool waiting;                /* for a command: nothing is half said or half read */
    bool rejected; /* the host access table says REJECT: only QUIT is answered */
    bool delayed_reject; /* the same, told at every recipient */
    bool tls_counted;
    bool told_starttls; /* "Must issue a STARTTLS command first" was said */
    bool certified; /* user comes from a client certificate */
    bool cert_valid; /* the client showed a certificate, and it is a valid one */
    bool cert_undecided; /* a valid one whose user the directory could not be asked for */
    bool told_auth; /* that it has to authenticate */
    bool tried_auth;
    bool auth_done; /* by the verb: not again */
    unsigned auth_failures;
    char *user; /* who has authenticated, unescaped; NULL: nobody */
    char *refusal; /* of the client's certificate: all that is said from now on; NULL: none */
    unsigned bad_commands, messages, accepted_rcpts, rejected_rcpts;
    unsigned idle_commands; /* MAIL, RSET, EHLO and the like since a message was taken */
    struct slice verb, args; /* of the command in hand, valid until the next read */
    struct message *tx; /* the transaction in hand or NULL */
    struct intake *intake; /* what has come of tx's text, or NULL (smtp_data.c) */
};

/* One reply of one line. enhanced: "5.1.0", NULL: none. It is written as RFC 2034 demands once EHLO
 * has announced it, and before that in the manner of AsyncOS: "#5.1.0" behind refusals, nothing
 * behind the others. */
void smtp_reply(struct smtp *s, int code, const char *enhanced, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A command nobody should send: counts towards the limit of bad commands. */
void smtp_bad_command(struct smtp *s, int code, const char *enhanced, const char *text);

/* Counts a stranger's recipient that we do not take, before its refusal is sent; false: those were
 * too many, 421 has been said and the session ends. Whoever guesses addresses has to connect again,
 * where limits count him. */
bool smtp_rcpt_rejected(struct smtp *s);

/* 421 and the end. */
void smtp_close(struct smtp *s, const char *enhanced, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void smtp_run_verb(struct smtp *s); /* YIELDS; smtp_verbs.c */
bool smtp_out_of_step(struct smtp *s); /* input where the client has to wait: told so, and the session ends */

/* YIELDS. The next line within a dialog, at most max bytes; FAILED: the session is over. */
enum conn_line smtp_read_line(struct smtp *s, size_t max, struct slice *line);

void smtp_starttls(struct smtp *s); /* YIELDS; smtp_tls.c */
/* The listener begins with the handshake (RFC 8314). */
bool smtp_implicit_tls(const struct smtp *s);
/* YIELDS. That handshake; false: there is nobody to talk to. */
bool smtp_begin_tls(struct smtp *s);

bool smtp_is_submission(const struct smtp *s); /* RFC 6409 */
/* Mail of this client goes anywhere: its policy relays, or it has authenticated. The one place that says so. */
bool smtp_relays(const struct smtp *s);
/* May this client begin a message now? Else it has been told what is missing. */
bool smtp_may_send(struct smtp *s);
/* AUTH is known here, though perhaps not yet. */
bool smtp_has_auth(const struct smtp *s);
void smtp_offer_auth(struct smtp *s); /* the line of EHLO, if AUTH may be used now */
void smtp_auth(struct smtp *s); /* YIELDS; smtp_auth.c: AUTH */
/* A certificate is to be asked for. */
bool smtp_wants_certificate(const struct smtp *s);
/* YIELDS. What the client's certificate means for the session. */
void smtp_judge_certificate(struct smtp *s, const struct client_cert *c);
void smtp_abort(struct smtp *s); /* drops the transaction, with its log lines */
/* smtp_data.c, all of which YIELD but the last. The text of tx by DATA; or a chunk of n bytes by BDAT, the
 * last or not (RFC 3030); a chunk that is not wanted is read and forgotten. */
void smtp_receive(struct smtp *s);
void smtp_receive_chunk(struct smtp *s, uint64_t n, bool last);
void smtp_swallow_chunk(struct smtp *s, uint64_t n);
void smtp_intake_drop(struct smtp *s); /* forgets what has come */

#endif
