/* queue.h - messages on their way out: what is queued, who delivers it next, what became of it.
 *
 * A struct message is built by the server session (or by bounce.c), made durable by queue_submit,
 * and immutable after that but for the states of its recipients, which belong to whoever delivers
 * them at the moment. Only what is being delivered, or has just arrived, is in memory as a struct
 * message; the rest is a compact entry of schedule.h and a row of queue.db. Any thread. */
#ifndef POSTERN_QUEUE_H
#define POSTERN_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/spool.h"
#include "store/base/arena.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum rcpt_state { RCPT_QUEUED, RCPT_DELIVERED, RCPT_BOUNCED, RCPT_DELETED };

struct rcpt {
    char *address; /* "user@example.com", domain in A-labels lower case */
    char *orcpt; /* RFC 3461, as it came: "rfc822;user@example.com" in xtext; NULL: none */
    char *last_error; /* what the last attempt met, for showrecipients and the bounce; NULL: none;
                         malloc'd */
    usec_t next_try, last_warning;
    uint32_t attempts;
    uint16_t item; /* which item of the schedule delivers it; not stored */
    unsigned char state; /* enum rcpt_state */
    unsigned char notify; /* NOTIFY_* bits, 0: not given */
    unsigned char warnings;
};

enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
enum { MSG_8BIT = 1, MSG_SMTPUTF8 = 2, MSG_BOUNCE = 4, MSG_RET_HDRS = 8, MSG_RET_FULL = 16, MSG_ALERT = 32,
       MSG_ACCEPTED = 64 /* taken by a policy with ACCEPT, not relayed for its sender: no DANE on its way on */,
       MSG_BINARY = 128 /* BODY=BINARYMIME: goes by BDAT alone, to who takes it (RFC 3030) */,
       MSG_UNTAGGED = 256 /* a bounce that answers nothing of ours (bv.h) */ };

struct message {
    int refs;
    unsigned flags;
    uint64_t mid, icid;
    usec_t received;
    char *sender; /* "" for the null path */
    char *subject; /* decoded not at all, escaped when printed; "" unknown; at most 200 bytes */
    char *envid; /* RFC 3461, as it came, in xtext; NULL: none */
    char *bounce_profile; /* of the listener */
    char *redirect; /* the host it goes to whatever the routes say (redirectrecipients); NULL: none */
    struct body
        *body; /* header and text as they will be sent, our Received: first; not dot-stuffed */
    struct rcpt *rcpts;
    unsigned nrcpts;
    struct arena arena; /* every string above but last_error lives here: message_text() */
};

uint64_t queue_next_mid(void); /* also ICIDs and DCIDs: they grow over restarts */
uint64_t queue_next_icid(void);
uint64_t queue_next_dcid(void);
void queue_last_ids(uint64_t out[3]); /* MID, ICID, DCID: the last ones given out */

struct message *message_new(void); /* sender, subject, bounce_profile are "" */
char *message_text(struct message *m,
                   const char *s); /* a copy of s that lives as long as m: m->sender = ... */
void message_add_rcpt(struct message *m, const char *address, const char *orcpt, unsigned notify);
struct message *message_ref(struct message *m);
void message_free(struct message **m); /* drops a reference, and with the last one the body's */

/* YIELDS. Envelope and body are on disk when it returns true: only then may 250 be said; the queue
 * has taken its own reference then. E_LIMIT "Queue full". On failure the caller still owns the
 * body's bytes (body_remove). */
bool queue_submit(struct message *m, struct err *err);

/* YIELDS. A message of our own (ICID 0): stores text as the body of m, which has its MID, sender and recipients,
 * logs its coming and submits it. of_mid: the message it reports about, 0: none. */
bool queue_submit_own(struct message *m, const struct buf *text, uint64_t of_mid, struct err *err);
bool queue_accepts(
    struct err *err); /* cheap: false when the disk or the queue is over its limit (452) */

/* Opens queue.db and the spool; identifiers can be had from here on. reload_queue does the rest: it
 * loads when the first configuration is prepared and delivers when that is published. */
bool queue_start(const char *home, struct err *err);
void queue_stop(void); /* after the loops have ended: writes what is pending and closes */

struct queue_totals {
    uint64_t messages, recipients, unattempted, attempted, destinations, deliveries; /* now */
    usec_t oldest;
};
void queue_totals(struct queue_totals *out); /* looks at every message */
uint64_t queue_messages(void); /* cheap */

/* Looked at every second: how far the wall clock is from clock_now (clock_wall() - clock_now() * 1000). */
void queue_clock(usec_t offset);

/* The wall clock showed before and was set by so much: what is queued gets neither older nor younger by it, over a
 * restart neither. */
void queue_clock_jumped(usec_t before, usec_t by);

#endif
