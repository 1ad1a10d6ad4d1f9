/* spool.h - message bodies on disk: appended to segment files, one file of its own above 1 MiB (DESIGN section 9).
 *
 * A body is written as it arrives; small ones (up to one extent of 64 KiB) stay in memory until they are complete and
 * go to their segment with one pwrite. Nothing is durable until the queue writer has synced the segments
 * (spool_sync is its hook). A segment is removed when its last body is released. */
#ifndef POSTERN_SPOOL_H
#define POSTERN_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/err.h"

struct body;        /* a complete body: extents or a file, length, checksum; reference-counted, any thread */
struct body_writer; /* one being received */

bool spool_open(const char *dir, struct err *err);
void spool_close(void);
bool spool_sync(void *unused, struct err *err); /* writer thread: everything appended so far becomes durable */

struct body_writer *body_create(void);
bool body_append(struct body_writer *w, const void *p, size_t n, struct err *err); /* may block briefly on the disk cache */
struct body *body_finish(struct body_writer **w, struct err *err);
void body_abort(struct body_writer **w);

struct body *body_ref(struct body *b);
void body_free(struct body **b);              /* drops a reference; the bytes on disk stay */
void body_remove(struct body *b);             /* the message is done: its bytes may go */
uint64_t body_length(const struct body *b);
/* Reads up to n bytes at offset; *got is what came. Bodies still cached in memory cost no system call. E_IO on a wrong checksum
 * or short file. */
bool body_read(struct body *b, uint64_t offset, void *p, size_t n, size_t *got, struct err *err);
struct slice body_cached(struct body *b);     /* the whole body when it is still in memory, else n == 0 */

/* Stored form, a short binary string for the envelope's row. */
void body_encode(const struct body *b, struct buf *out);
struct body *body_decode(const void *p, size_t n, struct err *err);

struct spool_usage {
    uint64_t bytes_used, bytes_free, segments, files;
};
void spool_usage(struct spool_usage *out);

#endif
