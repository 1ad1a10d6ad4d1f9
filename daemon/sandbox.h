/* sandbox.h - giving up rights: capabilities, user, system calls. Called before there are threads. */
#ifndef POSTERN_SANDBOX_H
#define POSTERN_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "store/base/err.h"

/* Of the privileged parent: keeps the rights to bind ports, to become the engine's user and to signal it. Nothing
 * happens without root. */
bool sandbox_parent(struct err *err);

/* Of the engine, before it is executed: becomes uid and gid for good, drops all capabilities, forbids new ones, no
 * core dumps. uid may be the current one. */
bool sandbox_engine_user(uid_t uid, gid_t gid, struct err *err);

/* Of the engine, first thing after it was executed: dies with its parent, cannot be traced, never executes a program
 * nor makes a process. Left out under sanitizers, which need those calls. */
bool sandbox_engine_calls(struct err *err);

#endif
