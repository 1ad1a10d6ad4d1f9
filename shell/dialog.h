/* dialog.h - generic dialogs over fields and objects, driven by the schema. */
#ifndef POSTERN_DIALOG_H
#define POSTERN_DIALOG_H

#include "shell/menu.h"
#include "store/row.h"

void ask_field(struct ui *ui, struct session *s, struct row *r, const char *field); /* with refs: numbered list of the objects there are */
void ask_group(struct ui *ui, struct session *s, struct row *r, const char *group);
struct row *ask_row(struct ui *ui, struct session *s, const struct section *sec, const char *owner, const char *verb); /* name or number; session_edit of it */
void dialog_delete(struct ui *ui, struct session *s, struct row *unused);

/* The uniform batch verbs of a section: new, edit, set, replace, delete, absent, list, print/detail, with key=value and the flags
 * --if-exists, --if-not-exists (reference/console 4.2). Returns false when the next word is none of them. */
bool dialog_verbs(struct ui *ui, struct session *s, const struct section *sec, const char *owner);

#endif
