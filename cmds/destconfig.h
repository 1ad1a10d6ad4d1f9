/* destconfig.h - the parts of the command destconfig: its questions (destconfig_ask.c), its lists (destconfig_list.c). */
#ifndef POSTERN_CMDS_DESTCONFIG_H
#define POSTERN_CMDS_DESTCONFIG_H

#include "cmds/common.h"

bool destination_is_default(const struct destination *d);
void ask_destination(struct ui *ui, struct session *s, struct row *row);

void destination_list(struct ui *ui, struct session *s, struct row *unused);
void destination_detail(struct ui *ui, struct session *s, struct row *unused);
void offer_destinations(void *arg, const char *typed, struct offers *out); /* arg: the session */

#endif
