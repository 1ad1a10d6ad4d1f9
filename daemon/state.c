/* state.c - see state.h. */
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "store/base/embed.h"
#include "store/base/log.h"
#include "store/base/str.h"

EMBED(state_schema, "schema/state.sql");

static struct writer *writer;

/* One page that cannot be read would otherwise be met weeks later, in the middle of something. */
static bool is_whole(sqlite3 *db)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL) == SQLITE_OK &&
              sqlite3_step(s) == SQLITE_ROW && str_eq((const char *)sqlite3_column_text(s, 0), "ok");

    sqlite3_finalize(s);
    return ok;
}

static sqlite3 *open_database(const char *path, struct err *err)
{
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) == SQLITE_OK &&
        sqlite3_exec(db,
                     "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                     "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;",
                     NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, state_schema, NULL, NULL, NULL) == SQLITE_OK) {
        if (is_whole(db))
            return db;
        err_set(err, E_IO, "%s is damaged", path);
    } else {
        err_set(err, E_IO, "opening %s: %s", path, db ? sqlite3_errmsg(db) : "no memory");
    }
    sqlite3_close(db);
    return NULL;
}

/* The name it gets is kept: somebody may want to know what broke. */
static void set_aside(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char from[512], to[512];

    for (size_t i = 0; i < countof(suffixes); i++) {
        snprintf(from, sizeof(from), "%s%s", path, suffixes[i]);
        snprintf(to, sizeof(to), "%s.damaged%s", path, suffixes[i]);
        (void)!rename(from, to);
    }
}

bool state_start(const char *home, struct err *err)
{
    char *path = xasprintf("%s/state.db", home);
    struct err why = {0};
    sqlite3 *db = open_database(path, &why);

    if (!db) {
        log_critical("%s; it is set aside as %s.damaged and begun anew", why.text, path);
        set_aside(path);
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "state damaged",
                    "The database of learnt policies and alerts could not be opened (%s). It was set aside "
                    "as state.db.damaged and begun anew; mail and configuration are not in it.",
                    why.text);
        db = open_database(path, err);
    }
    free(path);
    writer = db ? writer_new("state", db, NULL, NULL) : NULL;
    return writer != NULL;
}

void state_stop(void)
{
    writer_free(&writer);
}

bool state_txn(writer_fn fn, void *arg, struct err *err)
{
    return writer_txn(writer, fn, arg, err);
}

void state_post(writer_fn fn, void (*done)(void *arg, bool ok), void *arg)
{
    writer_post(writer, fn, done, arg);
}
