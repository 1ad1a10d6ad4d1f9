/* listener.h - the parts of listenerconfig, which fill several files. */
#ifndef POSTERN_CMDS_LISTENER_H
#define POSTERN_CMDS_LISTENER_H

#include "cmds/policy.h"

void listener_new(struct ui *ui, struct session *s, struct row *unused);
void ask_listener_port(struct ui *ui, struct session *s, struct row *listener);
uint64_t listener_usual_port(int protocol); /* 25, 465, 587 */

/* The whole table ("hat", "rat") of a listener; staged. */
void listener_import(struct ui *ui, struct session *s, const struct row *l, const char *table);
void listener_export(struct ui *ui, struct session *s, const struct row *l, const char *table);
void listener_clear(struct ui *ui, struct session *s, const struct row *l, const char *table);
void listener_reset(struct ui *ui, struct session *s, const struct row *l);

extern const struct menu hostaccess_menu, rcptaccess_menu; /* of a listener */

#endif
