/* logreader.h - reads a log subscription line by line, saved files oldest first, and follows it
 * over rollovers. Blocks on the disk only; one owner at a time. */
#ifndef POSTERN_LOGREADER_H
#define POSTERN_LOGREADER_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/err.h"

struct logreader;

/* current: path of the current file, as logfile_path gives it. last >= 0: begin with that many last
 * lines of the current file; last < 0: with the oldest saved file. */
struct logreader *logreader_open(const char *current, long last, struct err *err);
void logreader_free(struct logreader **r);

/* The next whole line, valid until the next call. false: nothing more now; later there may be. */
bool logreader_line(struct logreader *r, struct slice *line);

#endif
