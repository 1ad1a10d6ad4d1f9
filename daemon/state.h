/* state.h - HOME/state.db: what has been learnt and should outlive a restart (MTA-STS policies, records of delivery
 * attempts, stored alerts), written by a thread of its own so that neither mail nor commits wait for it. The tables
 * are in schema/state.sql. A damaged file is set aside, logged and made anew: nothing in it is worth not starting for.
 * Calls as in writer.h; any thread. */
#ifndef POSTERN_STATE_H
#define POSTERN_STATE_H

#include "daemon/writer.h"

bool state_start(const char *home, struct err *err);
void state_stop(void);

bool state_txn(writer_fn fn, void *arg, struct err *err); /* YIELDS; on disk when it returns true */
void state_post(writer_fn fn, void (*done)(void *arg, bool ok), void *arg); /* lazy; see writer_post */

#endif
