/* dialog.h - generic dialogs over fields and objects, driven by the schema. */
#ifndef POSTERN_DIALOG_H
#define POSTERN_DIALOG_H

#include "shell/menu.h"
#include "store/row.h"

/* Asks one field of a row of session_edit/session_new: its prompt, its current value as default, choices as a numbered list,
 * .ref fields as a numbered list of the objects there are; refusals by the field's own rules. */
void ask_field(struct ui *ui, struct session *s, struct row *r, const char *field);
/* The same in other words than those of the schema. */
void ask_field_as(struct ui *ui, struct session *s, struct row *r, const char *field, const char *question);
/* The same of a .ref field, of those objects alone that fit; none: the list begins with None, as ask_field's does where the
 * field may be empty. Without it there must be one that fits. */
void ask_ref(struct ui *ui, struct session *s, struct row *r, const char *field, bool (*fits)(const struct row *object),
             bool none);
void ask_group(struct ui *ui, struct session *s, struct row *r, const char *group);
void ask_all(struct ui *ui, struct session *s, struct row *r); /* every field that is not hidden, in order */

/* Which object? A numbered list when there are few; name or number. ask_row returns session_edit of it. verb: "edit", "delete"
 * (makes the question "Enter the name or number of the listener you wish to edit."). NULL: aborted or none. */
struct row *ask_row(struct ui *ui, struct session *s, const struct section *sec, const char *owner, const char *verb);
char *ask_name(struct ui *ui, struct session *s, const struct section *sec, const char *owner, const char *verb); /* full name; caller frees */

/* Operations for menu tables, about menu.section (children: of the row the menu was given). */
void dialog_new(struct ui *ui, struct session *s, struct row *owner);
void dialog_edit(struct ui *ui, struct session *s, struct row *owner);
void dialog_delete(struct ui *ui, struct session *s, struct row *owner);
void dialog_list(struct ui *ui, struct session *s, struct row *owner);
void dialog_print(struct ui *ui, struct session *s, struct row *owner);
/* For menu_op.applies: is there anything to edit, delete, print? */
bool dialog_any(struct session *s, const struct row *owner);

/* Prints: objects of a section as a table of their first fields; an object as "Label: value" lines. */
void print_rows(struct ui *ui, struct session *s, const struct section *sec, const char *owner);
void print_row(struct ui *ui, const struct row *r);

/* Prints the answer of config.diff: objects with their changed fields, old and new. JSON: data.objects. */
void print_diff(struct ui *ui, const json_t *diff);

/* The uniform batch verbs of a section: new, edit, set, replace, delete, absent, move, list, print/detail, with key=value and
 * the flags --if-exists, --if-not-exists (see the reference pages). Returns false, taking nothing, when the words are none of them:
 * a further word behind "edit NAME" belongs to the menus. The dispatcher calls it before menu and run. */
bool dialog_verbs(struct ui *ui, struct session *s, const struct section *sec, const char *owner);
bool dialog_is_verb(const char *word);

#endif
