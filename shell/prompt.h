/* prompt.h - a person's session: the welcome, what was left behind, line after line until they leave. */
#ifndef POSTERN_PROMPT_H
#define POSTERN_PROMPT_H

struct session;
struct ui;

/* idle: seconds, for the texts. The exit code. */
int prompt_run(struct ui *ui, struct session *s, unsigned idle);

#endif
