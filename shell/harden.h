/* harden.h - what the console gives up before it reads a line: programs, privileges, the network, its environment. */
#ifndef POSTERN_HARDEN_H
#define POSTERN_HARDEN_H

#include "store/base/err.h"

void harden_environment(void);      /* keeps TERM, HOME and what tests need; UTF-8 whatever the client asked for */
bool harden_process(struct err *err); /* no_new_privs, seccomp, limits; last thing before work */

#endif
