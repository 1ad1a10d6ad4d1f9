/* config_backup.h - HOME/config.db.backup: a copy of the configuration database, made some seconds after each commit, from
 * which a gateway whose config.db is damaged, empty or gone starts by itself. */
#ifndef POSTERN_CONFIG_BACKUP_H
#define POSTERN_CONFIG_BACKUP_H

#include <sqlite3.h>

#include "store/base/err.h"

/* At the start, before the database is opened: nothing happens while config.db is there and not empty. */
bool config_backup_missing(const char *home, struct err *err);

/* After it could not be opened or read: true when that was because it, or audit.db, is damaged, and what is there now is
 * worth another try. The old files are kept as *.damaged-DATE; a new audit trail begins empty. */
bool config_backup_restore(const char *home);

bool config_backup_is_new(const char *home); /* newer than config.db */

/* On the thread that owns the connection, outside any transaction. */
bool config_backup_make(sqlite3 *db, const char *home, struct err *err);

#endif
