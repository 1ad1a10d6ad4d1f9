/* batch.h - a file of statements as one transaction, and statements line by line. */
#ifndef POSTERN_BATCH_H
#define POSTERN_BATCH_H

#include <stdio.h>

#include "shell/command.h"

/* "postern batch": standard input into a candidate of its own; committed, or shown and dropped. Any error drops it all. */
void batch_run(struct ui *ui, struct session *s);
/* Lines of a file one after another in the session's candidate; the first that fails decides.
 * The exit code; failed (or NULL): what that line said. */
int batch_lines(struct ui *ui, struct session *s, FILE *f, struct err *failed);

#endif
