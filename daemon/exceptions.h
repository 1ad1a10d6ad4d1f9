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

/* STARTTLS with a peer that connects to us, by the lists for both directions: what the mail flow policy says, unless one of
 * them names the peer (reverse: its verified name or NULL). The list of those who must use it wins. */
enum tls_modes exception_inbound(const struct config *cfg, enum tls_modes policy,
                                 const struct addr *peer, const char *reverse, usec_t when);
/* Do the lists hold names, so that the peer's has to be known? */
bool exceptions_need_name(const struct config *cfg);

/* Days from a date to the end of the exception: 0 on its last day, negative when it has ended. */
int exception_days_left(const struct tls_exception *e, usec_t when);

/* Pure. What is to be announced of an exception, each step once: a week before its end, a day before, when it is over. said: the last
 * step that was. EXCEPTION_QUIET: nothing. */
enum exception_step { EXCEPTION_QUIET, EXCEPTION_WEEK, EXCEPTION_DAY, EXCEPTION_OVER };
enum exception_step exception_step(const struct tls_exception *e, usec_t when,
                                   enum exception_step said);

/* How many are in force, and the one that ends first (NULL: none). */
size_t exceptions_in_force(const struct config *cfg, usec_t when, const struct tls_exception **next);

/* Once the loops run and mail can be queued: a fiber that announces the ends and, once a day for each, tries whether the host of
 * a no-dane exception has been repaired; then the exception is removed by a commit of the gateway's own, and that is announced. */
bool exceptions_start(struct err *err);

#endif
