/* ledger.h - what makes 250 true: the envelopes of new messages are appended to the segment that
 * takes their bodies, so that one sync makes both durable, for a whole group of messages at once.
 * Their rows in queue.db follow (queue_changes.h), for those that are not delivered by then. A
 * start reads back what was not followed by a row before the engine ended.
 *
 * A record is a header of 48 bytes, little endian, then the body's place and the envelope as
 * queue.db has them:
 *
 *   0  "PLR1"      4  CRC-32C of all that follows          8  number of the segment
 *   12 bytes of the place      16 bytes of the envelope    20 0
 *   24 sequence number, growing by one    32 the last one known to be in queue.db    40 MID
 *
 * Records lie one behind the other from the beginning of a segment. A used segment may still have
 * old ones; their segment number is another. */
#ifndef POSTERN_LEDGER_H
#define POSTERN_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/queue_changes.h"
#include "store/base/buf.h"

#define LEDGER_HEADER 48u
#define LEDGER_MAX (1u << 20) /* a longer record goes to queue.db at once */

void ledger_start(const struct ledger_mark *mark); /* numbers go on from here */
void ledger_stop(void); /* nobody adds any more; before changes_stop */

/* YIELDS. true: row and body are on disk, and the row is listed (changes_add_rows). c is taken
 * over. E_IO. */
bool ledger_add(struct change *c, const struct body *b, struct err *err);
bool ledger_takes(const struct change *c); /* else: LEDGER_MAX */

/* --- reading back, at the start --- */

struct ledger_record {
    uint64_t seq, passed, mid;
    struct slice place, envelope;
};

/* Pure. The records of segment number in area, in their order; one that is damaged is passed over.
 * Returns how many bytes of the area were passed over between records. fn false: enough. */
uint64_t ledger_scan(uint32_t number, struct slice area,
                     bool (*fn)(void *arg, uint32_t number, const struct ledger_record *r),
                     void *arg);

#endif
