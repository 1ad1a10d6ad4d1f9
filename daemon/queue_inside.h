/* queue_inside.h - what the files of the queue share with each other and with nobody else: its state under one lock,
 * and the steps they have in common.
 *
 *   queue.c          mail comes in, sessions take it and say what became of it; suspending, counting
 *   queue_entry.c    a message as the schedule has it
 *   queue_values.c   identifiers, and what else queue.db remembers
 *   queue_load.c     messages are read back before their delivery
 *   queue_compact.c  what is left of an old segment moves out of it
 *   queue_start.c    opening, reading and recovering; the end
 *   queue_claim.c    what an administrator looks at, deletes, bounces, redirects
 *
 * The lock is held for arithmetic only, never across a wait or a system call but the start of a fiber. */
#ifndef POSTERN_QUEUE_INSIDE_H
#define POSTERN_QUEUE_INSIDE_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "daemon/queue_changes.h"
#include "daemon/queue_clock.h"
#include "daemon/queue_run.h"
#include "daemon/schedule.h"
#include "daemon/writer.h"
#include "store/base/map.h"
#include "store/config.h"

#define LOOK_AT 20000u /* messages of the schedule looked at in one go: others want its lock */
#define DUE_AT_ONCE 2000u /* ... or made due */

enum { ID_MID, ID_ICID, ID_DCID, ID_KINDS };

struct queue_inside {
    pthread_mutex_t lock;
    struct schedule schedule;
    sqlite3 *db; /* until the writer has it */
    char *path; /* of queue.db */
    bool damaged; /* found while it was read */
    bool missing, unreadable; /* rows are lost for good; rows are there that cannot be read */
    struct writer *writer;
    unsigned failures; /* of the spool, those the writer knows */
    uint64_t resident, loaded; /* bytes of messages in memory: as they came, and read back */
    bool running;

    struct wait tick; /* of the clock fiber, while ticking */
    bool ticking;
    struct wait load; /* of the loader fiber, while loading waits */
    bool load_waits;

    struct clock_jumps jumps; /* under the lock */
    usec_t clock_offset; /* of the wall clock from the one that never jumps, when it was last looked at; 0: never */
    struct map turns; /* of routes, unsigned *: which of equal hosts is first; there are as many as
                         routes */
    uint64_t park_from; /* the work queue is paused for messages from this MID on; 0: it is not */
    char paused_by[QUEUE_PAUSED_BY]; /* and by whom, and why */
    struct map kept; /* values as they were at the start, as uint64_t * */

    atomic_uint_fast64_t ids[ID_KINDS]; /* the last one given out */
    atomic_uint_fast64_t reserved[ID_KINDS]; /* on disk: none above it was given out */
    atomic_bool reserving;
};
extern struct queue_inside q;

/* --- queue.c; under the lock but for the last --- */

void queue_kick_clock(void);
void queue_kick_loader(void);
void queue_open_sessions(msec_t now);
void queue_resume(msec_t now); /* sessions, loader and clock look at what was given back */
bool queue_write_changes(sqlite3 *db, void *flush, struct err *err); /* a job of the writer */

/* --- queue_entry.c; under the lock --- */

/* The entry of a message: one item for every destination of recipients that are still queued. Gives every recipient its
 * item's number. NULL: none is left. */
struct queued *entry_make(const struct config *cfg, struct message *m, msec_t now, usec_t wall);
/* The recipients of a message that was just read: each has the item whose destination has its name; those that fit
 * none, for the configuration has changed since, have the item fallback. */
void entry_number(const struct config *cfg, struct message *m, const struct queued *e, unsigned fallback);
msec_t entry_due(usec_t next_try, msec_t now, usec_t wall);
void entry_keep(struct queued *e, struct message *m, bool loaded); /* in memory; takes the reference over */
void entry_drop(struct queued *e); /* from memory */
/* Items of it are done, last: all of them, and the entry is freed. What m, its message, says now is written later. */
void entry_item_done(struct queued *e, const struct message *m, bool last);
bool entry_rests(const struct queued *e); /* no session and no operation has any of its items */
struct dest *entry_dest(const struct config *cfg, const char *key, const char *domain); /* found or made */
void entry_limits(const struct config *cfg, struct dest *d, const char *domain); /* any that has its key */

/* --- queue_values.c; any time --- */

extern const char *const queue_id_names[ID_KINDS];
bool ids_reserve(sqlite3 *db, void *unused, struct err *err); /* jobs of the writer: a block of them, ... */
void ids_reserved(void *unused, bool ok); /* ... what follows it, */
bool ids_final(sqlite3 *db, void *unused, struct err *err); /* and just those that were given out */
/* YIELDS; the pause and its reason in one transaction; by NULL: it ends */
bool queue_keep_pause(uint64_t from, const char *by, struct err *err);

/* --- queue_load.c --- */

struct slice row_column(sqlite3_stmt *s, int n); /* borrowed until the next step */
struct message *row_message(sqlite3 *db, uint64_t mid, struct err *err); /* writer's thread */
void queue_loader(void *unused); /* fiber */

/* --- queue_compact.c --- */

void queue_compaction(void *unused); /* fiber */

/* --- queue_start.c --- */

bool queue_load(const struct config *cfg, struct err *err); /* YIELDS; with the first configuration */

#endif
