/* queue.h - the schedule of messages and destinations; states of recipients survive a restart in queue.db.
 *
 * A struct message is built by the server session, made durable by queue_submit, and immutable after that but for
 * its recipients' states, which belong to the queue's loop. */
#ifndef POSTERN_QUEUE_H
#define POSTERN_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/spool.h"
#include "store/base/clock.h"
#include "store/base/json.h"
#include "store/base/net.h"

enum rcpt_state { RCPT_QUEUED, RCPT_DELIVERED, RCPT_BOUNCED, RCPT_DELETED };

struct rcpt {
    char *address;        /* "user@example.com", domain in A-labels lower case */
    enum rcpt_state state;
    uint32_t attempts;
    usec_t next_try, last_warning;
    char *orcpt;          /* RFC 3461, NULL: none */
    unsigned notify;      /* NOTIFY_* bits, 0: not given */
    char *last_error;     /* what the last attempt met, for showrecipients and the bounce; NULL: none */
};

enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
enum { MSG_8BIT = 1, MSG_SMTPUTF8 = 2, MSG_BOUNCE = 4, MSG_RET_HDRS = 8, MSG_RET_FULL = 16 };

struct message {
    int refs;
    uint64_t mid, icid;
    usec_t received;
    char *sender;         /* "" for the null path */
    char *subject;        /* decoded not at all, escaped when printed; "" unknown; at most 200 bytes */
    char *envid;          /* RFC 3461, NULL: none */
    char *bounce_profile; /* of the listener */
    unsigned flags;
    struct body *body;    /* header and text as they will be sent, our Received: first */
    struct rcpt *rcpts;
    unsigned nrcpts;
};

uint64_t queue_next_mid(void);  /* also ICIDs and DCIDs: they grow over restarts */
uint64_t queue_next_icid(void);
uint64_t queue_next_dcid(void);

struct message *message_new(void);
void message_add_rcpt(struct message *m, const char *address, const char *orcpt, unsigned notify);
struct message *message_ref(struct message *m);
void message_free(struct message **m);

/* YIELDS. Envelope and body are on disk when it returns true: only then may 250 be said. E_LIMIT "Queue full". */
bool queue_submit(struct message *m, struct err *err);
bool queue_accepts(struct err *err); /* cheap: false when the disk or the queue is over its limit (452) */

bool queue_start(const char *home, struct err *err); /* opens queue.db and the spool, loads, starts delivering */
void queue_stop(void);

struct queue_totals {
    uint64_t messages, recipients, unattempted, attempted, destinations, deliveries; /* now */
    usec_t oldest;
};
void queue_totals(struct queue_totals *out);

#endif
