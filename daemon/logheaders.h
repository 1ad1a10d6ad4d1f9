/* logheaders.h - headers of a message for the mail log (logconfig > logheaders). */
#ifndef POSTERN_LOGHEADERS_H
#define POSTERN_LOGHEADERS_H

#include "daemon/queue.h"
#include "store/base/buf.h"
#include "store/base/str.h"

/* "[('X-Mailer', 'mutt'), ('X-Tag', 'a')]" of the headers with these names, in the order of the message; "" when it has
 * none of them. Unfolded, escaped, each value cut to 200 bytes, all together to out->max. Reads the beginning of the
 * body; what cannot be read has no headers. */
void logheaders_of(const struct message *m, const struct strlist *names, struct buf *out);
void logheaders_text(struct slice text, const struct strlist *names, struct buf *out); /* the same of a text; pure */

#endif
