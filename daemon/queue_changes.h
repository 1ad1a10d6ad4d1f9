/* queue_changes.h - rows of queue.db that are to be added, changed or deleted, mostly of messages.
 * They are written late: they gather in a list that one job of the queue's writer empties, so that
 * a busy gateway writes hundreds of them at once, and what was delivered before its row was written
 * never gets one. A new message is durable in the ledger (ledger.h) before its row is listed here;
 * a crash before a deletion is written repeats a delivery, never loses one. Any thread, but where
 * it says so. */
#ifndef POSTERN_QUEUE_CHANGES_H
#define POSTERN_QUEUE_CHANGES_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/spool.h"
#include "store/base/clock.h"

struct writer;
struct message;
struct clock_jumps;

struct change {
    struct change *next;
    uint64_t number; /* in the order in which they were listed */
    uint64_t mid;
    struct body *gone; /* deletes the row; its body goes once that is on disk */
    char *bytes; /* of a new row the body's place, then the envelope; else the new states of the
                    recipients */
    uint32_t place, n; /* bytes of the place (0: it is no new row), and of all */
    struct clock_jumps *jumps; /* it is about no row: how often the clock was set */
    bool needless; /* added and deleted in one go */
};

struct change *change_row(const struct message *m,
                          struct err *err); /* NULL: E_LIMIT, the envelope is too large */
struct change *change_state(const struct message *m);
struct change *change_gone(const struct message *m);
struct change *change_jumps(const struct clock_jumps *j);
void change_free(struct change *c);

/* Where the ledger stands: everything up to this record is in queue.db. */
struct ledger_mark {
    uint64_t seq;
    uint32_t segment; /* it is in this segment, or was */
};

/* What was listed before is written now. passed: see changes_passed. failed is called when
 * changes_retry has news. */
void changes_start(struct writer *w, uint64_t passed, void (*failed)(void));
unsigned changes_stop(void); /* after the writer has ended; how many were never written */
void changes_add(struct change *c);
/* Rows that the ledger has up to mark, in its order; list may be NULL. */
void changes_add_rows(struct change *list, const struct ledger_mark *mark);
uint64_t changes_passed(void); /* ledger records up to here are in queue.db, on disk */

bool changes_stuck(void); /* the last could not be written: nothing is accepted before they are */
bool changes_accept(struct err *err); /* cheap; false (E_LIMIT): too many are waiting */

/* Changes that could not be written: written again now if it is time, else when that will be. */
msec_t changes_retry(msec_t now);

/* For every job of the queue's writer that reads rows: first, what is not written yet. The job's done (writer_txn_then)
 * is changes_written, so that no later job writes what came after changes that could not be written. */
struct flush {
    struct change *list;
    struct ledger_mark mark;
};
bool changes_write(sqlite3 *db, struct flush *f, struct err *err); /* writer's thread */
bool change_write(sqlite3 *db, const struct change *c, struct err *err); /* the same for one */
/* What came since, for a flush that is under way: the caller adds the list to it, and writes each
 * and then the mark. */
struct change *changes_take(struct flush *f);
bool changes_write_mark(sqlite3 *db, const struct flush *f, struct err *err);
void changes_written(void *flush, bool ok); /* after the commit, or its failure; writer's thread */

#endif
