/* bounce.h - delivery status notifications: multipart/report messages of RFC 3461, 3462 and 3464,
 * from the null path.
 *
 * bounce_text is pure; bounce_send queues the report like any message (ICID 0). A message from the
 * null path never gets one: whoever calls says so in the log (double bounce). */
#ifndef POSTERN_BOUNCE_H
#define POSTERN_BOUNCE_H

#include "daemon/queue.h"
#include "store/base/buf.h"
#include "store/config.h"

enum bounce_kind { BOUNCE_FAILED, BOUNCE_DELAYED, BOUNCE_RELAYED };

struct bounce_rcpt {
    const struct rcpt *rcpt;
    char status[12]; /* "5.1.1" */
    const char *phrase; /* what the status means: status_phrase() */
    int code; /* of the reply, 0: none */
    const char *text; /* of the reply, or the reason */
    const char *remote; /* the host that said it, "" none */
};

struct bounce {
    enum bounce_kind kind;
    const struct message *of;
    const struct bounce_rcpt *rcpts;
    unsigned n;
    const char *hostname;
    uint64_t mid; /* of the report */
    usec_t now;
    usec_t retry_until; /* BOUNCE_DELAYED */
    const char *to; /* the sender, or the profile's alternate address */
    const struct bounce_profile *profile; /* its subjects and its format */
    size_t max_copy; /* a message up to this size comes back whole (bounce_setup) */
    struct slice original; /* the message or the beginning of it; n == 0: not to be had */
    bool original_whole; /* original is all of it */
};

#define BOUNCE_HEADER 10240u /* the header of a longer message is cut here */

void bounce_text(const struct bounce *b, struct buf *out); /* CRLF lines */

/* YIELDS. Queues the report; true when it is on disk (or nobody wants one). */
bool bounce_send(enum bounce_kind kind, const struct message *of,
                 const struct bounce_profile *profile, const struct bounce_rcpt *rcpts, unsigned n,
                 usec_t retry_until, struct err *err);

/* "Bad destination email address" for "5.1.1"; RFC 3463 class and detail in the words mail logs
 * use. */
const char *status_phrase(const char *status);

#endif
