/* hosts.h - what the commands about recipient hosts share. */
#ifndef POSTERN_CMDS_HOSTS_H
#define POSTERN_CMDS_HOSTS_H

#include "cmds/common.h"

char *ask_host(struct ui *ui); /* NULL: none was given, said; the caller frees it */

#endif
