/* certtlsa.h - certconfig > certificate > tlsa. */
#ifndef POSTERN_CMDS_CERTTLSA_H
#define POSTERN_CMDS_CERTTLSA_H

#include "shell/menu.h"

void certificate_tlsa(struct ui *ui, struct session *s, struct row *unused); /* an operation of the profiles' menu */

#endif
