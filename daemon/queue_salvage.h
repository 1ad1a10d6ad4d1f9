/* queue_salvage.h - reads the messages of a damaged queue.db without SQLite: page by page, as its file format
 * (sqlite.org/fileformat2.html) lays them out, the write-ahead log included. Once, at the start; no other thread. */
#ifndef POSTERN_QUEUE_SALVAGE_H
#define POSTERN_QUEUE_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/str.h"

struct salvage {
    uint64_t pages, rows; /* read; found */
    uint64_t bad_pages; /* of the table, that could not be read */
    uint64_t bad_frames; /* of the log: what they held of pages that no later one has is missing */
    bool searched; /* the tree was broken: rows come from all pages that are not known to be free */
};

/* A row; false ends the search. What the slices point to is gone afterwards. */
typedef bool (*salvage_row)(void *arg, uint64_t mid, struct slice body, struct slice envelope, struct slice state);

/* MIDs from first to last stood on a page that cannot be read; last UINT64_MAX: and all above. */
typedef void (*salvage_gap)(void *arg, uint32_t page, uint64_t first, uint64_t last);

/* path: of queue.db; its log is path-wal. A MID comes once. false: the file cannot be read at all (E_IO), or fn ended it. */
bool queue_salvage(const char *path, salvage_row fn, salvage_gap gap, void *arg, struct salvage *out, struct err *err);

/* Is there a part of the log that was on disk and cannot be read? SQLite takes it for the end, and forgets what follows. */
bool queue_log_damaged(const char *path);

#endif
