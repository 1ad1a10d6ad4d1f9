/* run.h - running statements: used by the prompt, by -c and by batch. */
#ifndef POSTERN_RUN_H
#define POSTERN_RUN_H

#include "shell/command.h"
#include "store/words.h"

/* Runs one statement to its end, changes sent; takes its words. The exit code. */
int run_statement(struct ui *ui, struct session *s, struct words *words);
/* One after another; the first that fails decides and stops the rest. */
int run_statements(struct ui *ui, struct session *s, struct statements *list);

/* Does the line mention a secret, so that it must not be kept in a history? */
bool line_has_secret(const char *line);

#endif
