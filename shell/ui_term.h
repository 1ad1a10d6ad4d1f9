/* ui_term.h - the terminal behind a ui: libedit for lines, own readers for secrets and pasted texts, pages. */
#ifndef POSTERN_UI_TERM_H
#define POSTERN_UI_TERM_H

#include "shell/backend.h"

struct session;

/* stdin and stdout must be a terminal; event_init has been called. history: path of the history file, or NULL. idle: seconds
 * without a key until the session ends. ui_free restores the terminal. */
struct ui *ui_term_new(struct session *s, const char *history, unsigned idle);

#endif
