/* bounce.h - delivery status notifications: multipart/report messages of RFC 3461, 6522, 3464 and 6533,
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
    const char *address; /* of that host; NULL or "": not known */
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
    const char *template; /* the text for people, with variables; NULL: ours */
    size_t max_copy; /* a message up to this size comes back whole (bounce_setup) */
    struct slice original; /* the message or the beginning of it; n == 0: not to be had */
    bool original_whole; /* original is all of it */
};

#define BOUNCE_HEADER 10240u /* the header of a longer message is cut here */

#define BOUNCE_RCPTS 500u /* recipients in one report */

void bounce_text(const struct bounce *b, struct buf *out); /* CRLF lines */
bool bounce_is_utf8(const struct bounce *b); /* it goes to an address that needs SMTPUTF8 */
const char *bounce_subject(const struct bounce *b);

/* YIELDS. Queues the report, or several about BOUNCE_RCPTS recipients each. *told (may be NULL): how many of the
 * recipients, in their order, are in reports that are on disk: all of them if it returns true. */
bool bounce_send(enum bounce_kind kind, const struct message *of,
                 const struct bounce_profile *profile, const struct bounce_rcpt *rcpts, unsigned n,
                 usec_t retry_until, unsigned *told, struct err *err);

/* Is a report about the recipient wanted: NOTIFY of RFC 3461 section 4.1, and what the profile says of those who did not ask? */
bool bounce_wanted(const struct bounce_profile *profile, const struct rcpt *rcpt, enum bounce_kind kind);

/* The template for a message with that header: of its language, else the profile's; NULL: none. Borrowed from cfg. */
const char *bounce_template_for(const struct config *cfg, const struct bounce_profile *profile, struct slice header);

/* "Bad destination email address" for "5.1.1"; RFC 3463 class and detail in the words mail logs
 * use. */
const char *status_phrase(const char *status);

#endif
