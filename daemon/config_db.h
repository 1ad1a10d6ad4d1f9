/* config_db.h - the daemon's hold on the configuration: the thread that owns config.db, the head snapshot, secrets.
 * Calls that reach the database YIELD in a fiber and block elsewhere. */
#ifndef POSTERN_CONFIG_DB_H
#define POSTERN_CONFIG_DB_H

#include <sys/types.h>

#include "store/base/buf.h"
#include "store/config.h"
#include "store/db.h"

/* Opens the store of home, fills an empty one with the factory configuration, loads the head and the candidates. owner: the
 * uid that started posternd, an administrator. */
bool config_db_start(const char *home, uid_t owner, struct err *err);
/* Prepares and publishes the head: the first configuration of this process. A head that was written but never published
 * and cannot be prepared is taken back: the revision before it is restored as a new one. */
bool config_db_activate(struct err *err);
bool config_db_watch(struct err *err); /* once, when the loops run: keeps a backup (config_backup.h) until the fibers are stopped */
void config_db_stop(void);
uid_t config_db_owner(void);

struct config *config_db_head(void); /* what the next commit starts from; a reference for the caller. Any thread */

/* Runs fn alone on the database thread. */
bool config_db_call(bool (*fn)(sqlite3 *db, void *arg, struct err *err), void *arg, struct err *err);

bool config_db_secret(const char *ref, struct buf *plain, struct err *err); /* cleanse plain after use */
/* All of them in one transaction, or none: each alone would wait for the disk. plain is the caller's to cleanse. */
struct config_seal {
    const char *kind, *plain;
    size_t n;
    char *ref; /* the answer; the caller frees it */
};
bool config_db_seal_all(struct config_seal *list, size_t n, struct err *err);
bool config_db_seal(const char *kind, const char *plain, size_t n, char **ref, struct err *err);
bool config_db_snapshot(uint64_t revision, struct config **out, struct err *err);
void config_db_audit(const struct db_audit *row); /* what cannot be written is logged */

/* For the commit pipeline. */
bool config_db_write(const struct db_revision *r, const struct changes *c, uint64_t candidate,
                     const struct db_audit *who, struct err *err);
/* After publishing, without waiting for the disk: an engine that dies before publishes the revision once more. Prunes now
 * and then. */
void config_db_set_active(uint64_t revision);
void config_db_set_head(struct config *cfg); /* after the write; takes a reference */

#endif
