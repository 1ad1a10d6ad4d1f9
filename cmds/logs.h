/* logs.h - what tail and grep share: the choice of a log. */
#ifndef POSTERN_CMDS_LOGS_H
#define POSTERN_CMDS_LOGS_H

#include "cmds/common.h"

/* "1. "mail_logs" Type: ...": by number or name. The caller frees it; NULL: none was chosen. verb:
 * "tail". */
char *ask_log(struct ui *ui, struct session *s, const char *verb);
/* The same with a question of its own; all: "all" may be chosen, too. */
char *ask_log_or_all(struct ui *ui, struct session *s, const char *question, bool all);
/* A person is shown the mail logs alone, and Enter takes the first; the name of any log will do. */
char *ask_mail_log(struct ui *ui, struct session *s, const char *question);
void complete_log(struct session *s, const struct strlist *words, struct offers *out);
bool print_log_line(void *ui, const json_t *data); /* for session_stream */

#endif
