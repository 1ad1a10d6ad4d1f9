/* config_backup.c - see config_backup.h. The copy is made by VACUUM INTO under another name, synced
 * and renamed, so it is whole whenever it is there. A hot journal of a damaged database goes with
 * it: it must not be rolled back into the copy. */
#include "daemon/config_backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define PATH_BYTES 512

static void path_in(const char *home, const char *name, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%.400s/%.100s", home, name);
}

static bool sync_path(const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

bool config_backup_make(sqlite3 *db, const char *home, struct err *err)
{
    char path[PATH_BYTES], fresh[PATH_BYTES];
    char *sql;
    bool ok;

    path_in(home, "config.db.backup", path);
    path_in(home, "config.db.backup.new", fresh);
    unlink(fresh);
    sql = sqlite3_mprintf("VACUUM main INTO %Q", fresh);
    ok = sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ||
         err_set(err, E_IO, "copying the configuration: %s", sqlite3_errmsg(db));
    sqlite3_free(sql);
    if (ok && (chmod(fresh, 0600) != 0 || !sync_path(fresh, 0) || rename(fresh, path) != 0 ||
               !sync_path(home, O_DIRECTORY)))
        ok = err_errno(err, errno, "copying the configuration to %s", path);
    return ok;
}

bool config_backup_is_new(const char *home)
{
    char path[PATH_BYTES], backup[PATH_BYTES];
    struct stat a, b;

    path_in(home, "config.db", path);
    path_in(home, "config.db.backup", backup);
    return stat(path, &a) == 0 && stat(backup, &b) == 0 &&
           (b.st_mtim.tv_sec > a.st_mtim.tv_sec ||
            (b.st_mtim.tv_sec == a.st_mtim.tv_sec && b.st_mtim.tv_nsec > a.st_mtim.tv_nsec));
}

static bool copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1;
    char piece[2048];
    ssize_t n = -1;
    bool ok;

    if (in >= 0)
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (out >= 0 && (n = read(in, piece, sizeof(piece))) > 0)
        if (write(out, piece, (size_t)n) != n)
            break;
    ok = n == 0 && fsync(out) == 0;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return ok;
}

/* config.db becomes what the backup is. */
static bool put_back(const char *home)
{
    char path[PATH_BYTES], fresh[PATH_BYTES], backup[PATH_BYTES];

    path_in(home, "config.db", path);
    path_in(home, "config.db.new", fresh);
    path_in(home, "config.db.backup", backup);
    return copy_file(backup, fresh) && rename(fresh, path) == 0 && sync_path(home, O_DIRECTORY);
}

static void tell(const char *home, const char *what)
{
    char path[PATH_BYTES], date[40] = "an unknown time";
    struct stat st;

    path_in(home, "config.db.backup", path);
    if (stat(path, &st) == 0)
        clock_rfc5322((usec_t)st.st_mtime * 1000000, date);
    log_critical("config.db %s; the gateway starts from its backup of %s", what, date);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "configuration restored",
                "The configuration database %s at the start. The gateway runs with its backup of "
                "%s: changes that "
                "were committed later, and those that were not committed, are missing. What was "
                "there is kept "
                "as config.db.damaged-*.",
                what, date);
}

bool config_backup_missing(const char *home, struct err *err)
{
    char path[PATH_BYTES], backup[PATH_BYTES];
    struct stat st;

    path_in(home, "config.db", path);
    path_in(home, "config.db.backup", backup);
    if ((stat(path, &st) == 0 && st.st_size > 0) || access(backup, R_OK) != 0)
        return true;
    if (!put_back(home))
        return err_errno(err, errno, "starting from the backup %s", backup);
    tell(home, "was missing");
    return true;
}

/* By itself: a lock or an error of the disk is no damage. */
static bool is_damaged(const char *path)
{
    sqlite3_stmt *s = NULL;
    sqlite3 *db = NULL;
    bool damaged;
    int rc;

    rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(s);
    damaged = (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB ||
              (rc == SQLITE_ROW && !str_eq((const char *)sqlite3_column_text(s, 0), "ok"));
    sqlite3_finalize(s);
    sqlite3_close(db);
    return damaged;
}

static bool set_aside(const char *home, const char *name)
{
    static const char *const suffixes[] = {"-journal", ""};
    time_t now = (time_t)(clock_wall() / 1000000);
    char from[PATH_BYTES], to[PATH_BYTES], date[24], part[100];
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%S", &tm);
    for (size_t i = 0; i < countof(suffixes); i++) {
        snprintf(part, sizeof(part), "%s%s", name, suffixes[i]);
        path_in(home, part, from);
        snprintf(part, sizeof(part), "%s.damaged-%s%s", name, date, suffixes[i]);
        path_in(home, part, to);
        if (rename(from, to) != 0 && errno != ENOENT)
            return false;
    }
    return true;
}

bool config_backup_restore(const char *home)
{
    char path[PATH_BYTES], audit[PATH_BYTES], backup[PATH_BYTES];
    bool again = false;

    path_in(home, "config.db", path);
    path_in(home, "audit.db", audit);
    path_in(home, "config.db.backup", backup);
    if (is_damaged(audit)) {
        log_critical("%s is damaged; it is set aside, and a new audit trail begins", audit);
        again = set_aside(home, "audit.db");
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "audit damaged",
                    "The audit trail could not be read at the start. It is kept as "
                    "audit.db.damaged-*, and a new one "
                    "begins.");
    }
    if (is_damaged(path) && access(backup, R_OK) == 0 && !is_damaged(backup)) {
        if (!set_aside(home, "config.db") || !put_back(home)) {
            log_critical("starting from the backup %s failed", backup);
            return false;
        }
        tell(home, "was damaged");
        again = true;
    }
    return again;
}
