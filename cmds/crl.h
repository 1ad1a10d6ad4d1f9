/* crl.h - certconfig > crl. */
#ifndef POSTERN_CMDS_CRL_H
#define POSTERN_CMDS_CRL_H

#include "shell/session.h"

void crl_menu(struct ui *ui, struct session *s, struct row *unused);

#endif
