/* help.h - "help", "help NAME", and the reference pages, all made from the table of commands and the schema. */
#ifndef POSTERN_HELP_H
#define POSTERN_HELP_H

#include "shell/command.h"

void help_list(struct ui *ui, struct session *s);                     /* every command the person may use */
void help_command(struct ui *ui, const struct command *c, bool batch); /* batch: the batch forms alone */
/* Writes a page per command and an index below dir: postern --reference DIR. */
bool help_reference(const char *dir, struct err *err);

#endif
