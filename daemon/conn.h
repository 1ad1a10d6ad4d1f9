/* conn.h - a line and byte stream over a socket, in clear or TLS, with deadlines.
 *
 * A conn remembers its first error: after it writes do nothing and reads return false, so a dialog tests where it must
 * decide. It belongs to one fiber. Reads flush pending output first (replies go out when input runs dry: one
 * write per pipelined group). Buffers exist only while they hold something, so an idle session costs
 * its stack and little else. */
#ifndef POSTERN_CONN_H
#define POSTERN_CONN_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/net.h"

struct conn;
struct ssl_st;
struct ssl_session_st;
struct tls_context;
struct tls_info;

struct conn *conn_new(int fd); /* a connected socket, owned from now on */
/* Closes. When nothing failed, pending output and the close_notify of TLS are sent as far as the socket takes
 * them at once. */
void conn_free(struct conn **c);

/* YIELDS. family/port from to; from may be NULL. */
struct conn *conn_connect(const struct addr *to, const struct addr *from, msec_t deadline, struct err *err);

/* YIELDS. To the first of these addresses that answers (RFC 8305): each later one is tried a quarter of a second after the one
 * before, or at once when that has failed. *which of them it was. from counts for addresses of its family. */
#define CONN_RACE_MAX 4u
struct conn *conn_connect_first(const struct addr *const *to, unsigned n, const struct addr *from, msec_t deadline,
                                unsigned *which, struct err *err);

/* After a shutdown interruption the error is E_CLOSED and fiber_interrupted() is true. */
void conn_set_timeout(struct conn *c, msec_t per_wait);  /* longest wait without progress; default 5 minutes */
void conn_set_deadline(struct conn *c, msec_t deadline); /* absolute, for the whole dialog; default NEVER */

/* YIELDS. Sends pending output, then waits until there is input, or its end, to read. false: the deadline has come or the fiber was
 * interrupted (fiber_interrupted()); nothing has failed by that, so a last reply can still be written. */
bool conn_await(struct conn *c, msec_t deadline);

/* YIELDS. A line without its end; *line is valid until the next read. max counts bytes without the end.
 * FAILED: error or end (conn_err). LONG: the line was longer; it was skipped to its end. BARE: it ended with a bare
 * LF, or held a bare CR or NUL: to be refused, for others may see other lines in it. */
enum conn_line { CONN_LINE_FAILED, CONN_LINE_OK, CONN_LINE_LONG, CONN_LINE_BARE };
enum conn_line conn_read_line(struct conn *c, size_t max, struct slice *line);

/* YIELDS. Whatever is there, at least one byte, at most max; borrowed until the next read. n == 0: error or end. */
struct slice conn_read_some(struct conn *c, size_t max);
struct slice conn_peek(struct conn *c);          /* what is buffered now, no waiting */
void conn_consume(struct conn *c, size_t n);     /* of what conn_peek showed */
bool conn_fill(struct conn *c);                  /* YIELDS: reads more behind what is buffered; false: error or end */
bool conn_input_pending(struct conn *c);         /* buffered bytes (clear or decrypted) without a system call */

/* Is nothing unread and no end in sight? Before an open connection is used again. Looks at the socket only when the
 * loop's reports do not tell. */
bool conn_is_quiet(struct conn *c);

void conn_write(struct conn *c, const void *p, size_t n); /* YIELDS when much is pending */
void conn_printf(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool conn_flush(struct conn *c);                 /* YIELDS */

/* YIELDS. Handshakes. Refused with E_TLS "bytes after STARTTLS" when clear input is still buffered (the caller
 * closes). server: our listener's side. host: SNI and the name for logs (client). On failure the conn has failed. */
bool conn_start_tls_server(struct conn *c, struct tls_context *ctx, struct err *err);
bool conn_start_tls_client(struct conn *c, struct tls_context *ctx, const char *host, struct err *err);
bool conn_is_tls(const struct conn *c);
void conn_tls_info(const struct conn *c, struct tls_info *out);

bool conn_failed(const struct conn *c);
const struct err *conn_err(const struct conn *c); /* the first error; code E_CLOSED for an orderly end */
void conn_fail(struct conn *c, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conn_peer(const struct conn *c, struct addr *out);
void conn_local(const struct conn *c, struct addr *out);
int conn_fd(const struct conn *c);
unsigned long long conn_bytes_in(const struct conn *c); /* on the wire, TLS included */
unsigned long long conn_bytes_out(const struct conn *c);

/* One last line after a timeout or an interruption for shutdown ("421 ..."): sent as far as the socket takes it
 * at once. Does nothing when the connection itself is broken. */
void conn_last_words(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Before a fiber of another loop takes the connection over (a pool of open sessions). On the loop that used it. */
void conn_detach(struct conn *c);

/* Sessions to resume (client). Offer one before conn_start_tls_client (a reference is taken); take the newest
 * after the dialog: a reference of the caller's, or NULL when the peer gave none that can be resumed. */
void conn_offer_session(struct conn *c, struct ssl_session_st *session);
struct ssl_session_st *conn_take_session(struct conn *c);
/* What prepares the SSL object of either side before its handshake; false ends it. NULL: nothing to prepare. */
void conn_before_handshake(struct conn *c, bool (*prepare)(struct ssl_st *ssl, void *arg, struct err *err), void *arg);
struct ssl_st *conn_ssl(const struct conn *c); /* for looking at the peer's certificate; NULL in clear */

#endif
