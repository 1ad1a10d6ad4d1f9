/* spool.h - message bodies on disk: appended to segment files.
 *
 * A body is a run of pieces of 64 KiB. A piece is kept in memory until it is full and goes to a
 * segment with one pwrite; what follows the first 64 pieces (4 MiB) goes to a file of its own. Each
 * piece has a CRC-32C, checked whenever it is read back. Nothing is durable until the queue's
 * writer has synced the segments (spool_sync is its hook), and the bytes of a body go only when
 * body_remove says that no row of queue.db refers to them any more. A segment is used again, or
 * removed, when its last body is gone. Any thread. */
#ifndef POSTERN_SPOOL_H
#define POSTERN_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/err.h"

#define SPOOL_PIECE 65536u

struct body; /* a complete body: pieces, perhaps a file, length; reference-counted */
struct body_writer; /* one being received; belongs to its session */

/* Start: spool_open, then spool_account for every row, then spool_ready, which removes what no row
 * refers to. */
bool spool_open(const char *dir, struct err *err);
bool spool_account(const void *encoded, size_t n, struct err *err);
void spool_ready(
    bool complete); /* complete false: some rows could not be read, so nothing is removed */
bool spool_bodies(void); /* there are segments or files of an earlier run; before spool_ready */
void spool_keep_lost(void); /* rows are missing for good: what is there now stays under names lost-*; before spool_ready */
void spool_forget_accounts(void); /* spool_account begins again; before spool_ready */
void spool_close(void);

/* A writer's hook: every finished body becomes durable. Two writers may call it at once, each with an unsigned of its own
 * that begins as spool_failures(). false (E_IO) also when any sync has failed since its last call: what this group needs
 * may have been in that one. */
bool spool_sync(void *failures, struct err *err);
unsigned spool_failures(void);

/* The ledger's part of a segment (ledger.h), its first bytes. One thread: room, then write. A segment is kept until
 * what was written last in it has passed. */
#define SPOOL_LEDGER (8u << 20)
struct spool_ledger {
    struct segment *segment;
    uint32_t number, offset, room; /* room is at least n, which is at most SPOOL_LEDGER */
};
bool spool_ledger_room(uint32_t n, struct spool_ledger *out, struct err *err);
bool spool_ledger_write(const struct spool_ledger *at, const void *p, size_t n, uint64_t seq, struct err *err);
void spool_ledger_passed(uint64_t seq); /* any thread: records up to seq are not needed any more */
/* Start, before spool_ready: the ledger of every segment from a number on. New segments get numbers above it. fn returns
 * the last sequence number in the segment. */
void spool_ledger_read(uint32_t from, uint64_t (*fn)(void *arg, uint32_t number, struct slice area), void *arg);

struct body_writer *body_create(void);
bool body_append(struct body_writer *w, const void *p, size_t n,
                 struct err *err); /* may block briefly on the disk cache */
struct body *body_finish(struct body_writer **w,
                         struct err *err); /* NULL on error; w is gone either way */
void body_abort(struct body_writer **w); /* *w may be NULL */

/* Writer thread, in the job that adds its row: false (E_IO) when a sync has failed since the body was
 * begun: it may have lost some of its bytes, and no later sync would tell. */
bool body_sound(const struct body *b, struct err *err);

struct body *body_ref(struct body *b);
void body_free(struct body **b); /* drops a reference; the bytes on disk stay */
void body_remove(struct body *b); /* once, when no row refers to the body: its bytes may go */
uint64_t body_length(const struct body *b);
/* Reads up to n bytes at offset, at most to the end of the piece; *got is what came, 0 at the end.
 * With offset on a multiple of SPOOL_PIECE and n at least that nothing is copied twice. E_IO: wrong
 * checksum, short file. */
bool body_read(struct body *b, uint64_t offset, void *p, size_t n, size_t *got, struct err *err);
struct slice
body_cached(struct body *b); /* the whole body when it is still in memory, else n == 0 */
bool body_load(struct body *b,
               struct err *err); /* brings a body of one piece into memory; before it is shared */

/* Can the whole body be read? A body is asked once in its life, one that has just been received never. */
bool body_check(struct body *b, struct err *err);

/* Stored form, a short binary string for the message's row. Decoding counts nothing (spool_account
 * does). */
void body_encode(const struct body *b, struct buf *out);
struct body *body_decode(const void *p, size_t n, struct err *err);

/* Compaction: a body whose pieces lie in a segment that is nearly empty is copied to the current
 * one. */
uint32_t spool_sparse_segment(void); /* the emptiest segment worth clearing; 0: none */
uint32_t body_segment(const struct body *b); /* of its first piece; 0: it has none */
uint32_t spool_segment_of(const void *encoded,
                          size_t n); /* the same of a stored form; 0: unreadable */
struct body *body_copy(struct body *b,
                       struct err *err); /* the pieces again; a file of its own is shared by both */
void body_remove_pieces(struct body *b); /* after a copy took over: the old pieces, not the file */

struct spool_usage {
    uint64_t bytes_used, bytes_free, segments, files;
};
void spool_usage(struct spool_usage *out);

#endif
