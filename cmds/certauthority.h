/* certauthority.h - the certauthority part of certconfig. */
#ifndef POSTERN_CMDS_CERTAUTHORITY_H
#define POSTERN_CMDS_CERTAUTHORITY_H

#include "shell/menu.h"

void certauthority(struct ui *ui, struct session *s, struct row *unused); /* an operation of certconfig's menu */

#endif
