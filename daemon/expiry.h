/* expiry.h - says in time that certificates end: those the gateway shows, with their chains, and those of the custom list of
 * authorities. Once at 90, 60, 30 and 15 days, every day from 5 on, once when it is over; what was said is kept in
 * state.db, so a restart does not repeat it. The same round looks at what the listeners really show (served.h). */
#ifndef POSTERN_EXPIRY_H
#define POSTERN_EXPIRY_H

#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/config.h"

/* Pure. The step a certificate has reached: 90, 60, 30, 15, then the days that are left, EXPIRY_OVER at last; EXPIRY_NONE
 * before all of them. Each step is lower than the one before it and is said once. */
enum { EXPIRY_OVER = -1, EXPIRY_NONE = 1000 };
int expiry_step(usec_t not_after, usec_t now);

bool expiry_start(struct err *err); /* once the loops run and mail can be queued; ends with the fibers */
void expiry_forget(void);           /* what is in memory of what was said */

bool expiry_load(struct err *err);               /* YIELDS; what was said before this start */
void expiry_look(const struct config *cfg, usec_t now); /* one round over a configuration; raises alerts */

#endif
