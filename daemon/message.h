/* message.h - the stored forms of a message: its envelope, written once, and the states of its
 * recipients, written again after every attempt. Pure; any thread. */
#ifndef POSTERN_MESSAGE_H
#define POSTERN_MESSAGE_H

#include "daemon/queue.h"
#include "store/base/buf.h"

void message_encode(const struct message *m,
                    struct buf *out); /* mid and body are columns of their own */
void message_encode_state(const struct message *m, struct buf *out);

/* A message without its body. state may be empty: no attempt yet. NULL and E_IO when a record is
 * damaged. */
struct message *message_decode(uint64_t mid, struct slice envelope, struct slice state,
                               struct err *err);

const char *address_domain(const char *address); /* behind the last @; "" when there is none */

#endif
