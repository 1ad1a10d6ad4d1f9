/* exceptions.h - tlsexceptions: what policy treats differently for a while. They end by themselves: an exception counts through
 * the day it names, in local time. Announced a week and a day before the end; those that are no longer needed are
 * dropped. Calls as said; the others any thread. */
#ifndef POSTERN_EXCEPTIONS_H
#define POSTERN_EXCEPTIONS_H

#include "store/base/clock.h"
#include "store/base/net.h"
#include "store/config.h"

/* The exception of a kind (EXCEPTION_NO_DANE ...) in force at a time for a name (host or domain, any case; NULL: none) or an
 * address (NULL: none); NULL: there is none. Costs nothing when there are no exceptions. */
const struct tls_exception *exception_for(const struct config *cfg, int kind, const char *name,
                                          const struct addr *addr, usec_t when);

/* Days from a date to the end of the exception: 0 on its last day, negative when it has ended. */
int exception_days_left(const struct tls_exception *e, usec_t when);

#endif
