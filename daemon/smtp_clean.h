/* smtp_clean.h - makes CRLF of every bare CR and bare LF in the data of a message, for senders whose policy says
 * line_endings "clean". Pure; it does no input or output.
 *
 * The end of the data stays CRLF "." CRLF and nothing else: a dot that stands at the front of a line which began or
 * ends otherwise is content and is written as such, so that the scanner behind (smtp_intake.h), and every later hop,
 * sees one message where the sender framed one. */
#ifndef POSTERN_SMTP_CLEAN_H
#define POSTERN_SMTP_CLEAN_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"

struct smtp_clean {
    bool chunked; /* to be set first: BDAT, where dots mean nothing */
    bool ended; /* CRLF "." CRLF has come; nothing is taken any more */
    enum { /* what was seen last; of the last three nothing has been written yet */
           CLEAN_IN_LINE,
           CLEAN_AFTER_CRLF,
           CLEAN_AFTER_BARE, /* CR or LF */
           CLEAN_CR,
           CLEAN_DOT, /* behind CRLF */
           CLEAN_DOT_CR,
    } at;
};

void smtp_clean_start(struct smtp_clean *c, bool chunked);
/* Appends the cleaned text to out (at most twice n bytes and three) and returns how many bytes of p were taken: all, or up to
 * the end of the message. */
size_t smtp_clean_feed(struct smtp_clean *c, const char *p, size_t n, struct buf *out);
void smtp_clean_finish(struct smtp_clean *c, struct buf *out); /* chunked: nothing follows */

#endif
