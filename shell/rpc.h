/* rpc.h - the control socket's client side (messages: store/control.h): sends requests, hands back the lines that answer
 * them, keeps notices. Waiting is the caller's (session.c), who also has a terminal to watch. One thread. */
#ifndef POSTERN_RPC_H
#define POSTERN_RPC_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/json.h"

struct rpc;

struct rpc *rpc_open(const char *path, struct err *err); /* connects; NULL: E_CLOSED with what to do */
struct rpc *rpc_of_fd(int fd);                           /* of a connected socket; takes it over */
void rpc_free(struct rpc **r);
int rpc_fd(const struct rpc *r);

/* Sends a request; its number, or 0 when the connection is gone. args is stolen; NULL: none. */
int64_t rpc_send(struct rpc *r, const char *op, json_t *args, struct err *err);
void rpc_cancel(struct rpc *r, int64_t id);
/* The next line about request id that is there (new), or NULL: err->code is E_NONE when one must wait for more.
 * Lines of other requests (cancelled ones) are dropped. */
json_t *rpc_receive(struct rpc *r, int64_t id, struct err *err);
char *rpc_notice(struct rpc *r); /* the oldest notice, the caller frees it; NULL: none */

#endif
