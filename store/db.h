/* db.h - config.db and audit.db: open, migrate, read a revision, write a revision, candidates, audit. Linked by the daemon
 * only; every call runs on the thread that owns the connection (daemon/config_db.c gives them to a writer).
 *
 * One connection, rollback journal, synchronous EXTRA, exclusive lock, never WAL: a commit is on disk in both files or in
 * neither. Each writing call is one transaction of its own. */
#ifndef POSTERN_DB_H
#define POSTERN_DB_H

#include <sqlite3.h>

#include "store/base/clock.h"
#include "store/base/json.h"
#include "store/change.h"
#include "store/config.h"

#define DB_KEEP_REVISIONS 500 /* older ones are pruned; private keys only they refer to go with them */

/* Makes both files if there are none. A file of a newer release is refused with a sentence. */
bool db_open(const char *home, sqlite3 **db, struct err *err);

struct db_audit {
    const char *actor;   /* login name, or "posternd" */
    int64_t uid;         /* -1: none */
    const char *role, *peer;
    uint64_t session;
    const char *action;  /* "commit", "login", "export", ... */
    const char *object;  /* "revision 12"; may be NULL */
    const char *result;  /* "ok", "denied", "failed" */
    const char *detail;  /* may be NULL */
};
bool db_audit(sqlite3 *db, const struct db_audit *row, struct err *err);
bool db_audit_verify(sqlite3 *db, uint64_t *rows, struct err *err); /* the whole chain */

struct db_revision {
    uint64_t rev, restores;
    const char *kind;    /* "initial", "commit", "rollback", "auto-revert", "migrate" */
    const char *comment;
    bool keep;
    usec_t created;
    unsigned n_new, n_changed, n_deleted;
    const unsigned char *tree_hash;
    const char *via;     /* "console", "factory" */
};
/* Writes r->rev, which must be the head's number + 1, as the new head in state "applying", deletes the candidate (0: none)
 * and adds the audit row. */
bool db_write_revision(sqlite3 *db, const struct db_revision *r, const struct changes *c, uint64_t candidate,
                       const struct db_audit *who, struct err *err);
bool db_set_active(sqlite3 *db, uint64_t rev, struct err *err);

bool db_head(sqlite3 *db, uint64_t *rev, bool *applying, struct err *err); /* 0: empty database */
bool db_snapshot(sqlite3 *db, uint64_t rev, struct config **out, struct err *err); /* E_NOT_FOUND: pruned or never there */
/* New array, newest first: {revision, time, author, comment, kind, restores, keep, new, changed, deleted}. before 0: all. */
bool db_history(sqlite3 *db, uint64_t before, unsigned limit, json_t **out, struct err *err);
bool db_prune(sqlite3 *db, unsigned keep, struct err *err);
bool db_prune_secrets(sqlite3 *db, struct err *err); /* those sealed over a day ago that no kept body names */

struct db_candidate {
    uint64_t id;         /* 0: make one and set it */
    char *owner;
    uint64_t restores;
    usec_t created, touched;
    struct changes changes; /* its base_revision is the candidate's */
};
/* Stores what the candidate says about the n objects named in touched (in its list: written; not in it: removed). */
bool db_put_candidate(sqlite3 *db, struct db_candidate *c, const struct config_edit *touched, size_t n, struct err *err);
bool db_delete_candidate(sqlite3 *db, uint64_t id, struct err *err);
/* fn takes over the candidate's contents. */
bool db_candidates(sqlite3 *db, void (*fn)(void *arg, struct db_candidate *c), void *arg, struct err *err);
void db_candidate_clear(struct db_candidate *c);

/* Migrations, in order; the last is {0}. Layouts (user_version) are migrated when the file is opened, bodies
 * (revision.schema_ver) whenever they are read; the head is written once more as a revision of kind "migrate". */
struct db_layout_step {
    int to;
    const char *sql;
};
struct db_body_step {
    int to;
    bool (*up)(const char *class, json_t *body, struct err *err);
};
extern const struct db_layout_step db_layout_steps[];
extern const struct db_body_step db_body_steps[];
bool db_migrate_head(sqlite3 *db, const struct config *head, bool *written, struct err *err);
bool db_migrate_layout(sqlite3 *db, const struct db_layout_step *steps, int newest, struct err *err);
bool db_migrate_body(const char *class, json_t *body, int from, const struct db_body_step *steps, struct err *err);

#endif
