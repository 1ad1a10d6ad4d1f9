/* config_db.c - see config_db.h. */
#include "daemon/config_db.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_backup.h"
#include "daemon/fiber.h"
#include "daemon/listeners.h"
#include "daemon/loop.h"
#include "daemon/reload.h"
#include "daemon/writer.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/factory.h"
#include "store/secret.h"
#include "store/x509.h"

#define BACKUP_EVERY SECONDS(3)

static struct writer *writer;
static uid_t owner_uid;
/* It has never worked: it is new, or the process before this one died between write and publish. */
static bool head_was_applying;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct config *head;

bool config_db_call(bool (*fn)(sqlite3 *db, void *arg, struct err *err), void *arg, struct err *err)
{
    return writer_call(writer, fn, arg, err); /* YIELDS */
}

uid_t config_db_owner(void)
{
    return owner_uid;
}

struct config *config_db_head(void)
{
    struct config *c;

    pthread_mutex_lock(&lock);
    c = config_ref(head);
    pthread_mutex_unlock(&lock);
    return c;
}

void config_db_set_head(struct config *cfg)
{
    struct config *old;

    pthread_mutex_lock(&lock);
    old = head;
    head = config_ref(cfg);
    pthread_mutex_unlock(&lock);
    config_free(&old);
}

/* --- secrets --- */

struct secret_job {
    const char *ref;
    struct buf *plain;
};

struct seal_job {
    struct config_seal *list;
    size_t n;
};

static bool open_job(sqlite3 *db, void *arg, struct err *err)
{
    struct secret_job *j = arg;

    return secret_open(db, j->ref, j->plain, err);
}

static bool seal_job(sqlite3 *db, void *arg, struct err *err)
{
    struct seal_job *j = arg;
    bool ok = true;

    for (size_t i = 0; ok && i < j->n; i++) {
        struct config_seal *s = &j->list[i];

        ok = secret_seal(db, s->kind, s->plain, s->n, &s->ref, err);
    }
    return ok;
}

bool config_db_secret(const char *ref, struct buf *plain, struct err *err)
{
    struct secret_job j = {ref, plain};

    return config_db_call(open_job, &j, err);
}

bool config_db_seal_all(struct config_seal *list, size_t n, struct err *err)
{
    struct seal_job j = {list, n};

    if (!n || writer_txn(writer, seal_job, &j, err)) /* YIELDS */
        return true;
    for (size_t i = 0; i < n; i++)
        str_free(&list[i].ref);
    return false;
}

bool config_db_seal(const char *kind, const char *plain, size_t n, char **ref, struct err *err)
{
    struct config_seal one = {kind, plain, n, NULL};
    bool ok = config_db_seal_all(&one, 1, err); /* YIELDS */

    *ref = one.ref;
    return ok;
}

/* --- revisions --- */

struct snapshot_job {
    uint64_t revision;
    struct config **out;
};

static bool snapshot_job(sqlite3 *db, void *arg, struct err *err)
{
    struct snapshot_job *j = arg;

    return db_snapshot(db, j->revision, j->out, err);
}

bool config_db_snapshot(uint64_t revision, struct config **out, struct err *err)
{
    struct snapshot_job j = {revision, out};

    return config_db_call(snapshot_job, &j, err);
}

static bool head_job(sqlite3 *db, void *arg, struct err *err)
{
    bool applying;

    return db_head(db, arg, &applying, err);
}

struct write_job {
    const struct db_revision *revision;
    const struct changes *changes;
    uint64_t candidate;
    const struct db_audit *who;
};

static bool write_job(sqlite3 *db, void *arg, struct err *err)
{
    struct write_job *j = arg;

    return db_write_revision(db, j->revision, j->changes, j->candidate, j->who, err);
}

static bool active_job(sqlite3 *db, void *arg, struct err *err)
{
    return db_set_active(db, (uint64_t)(uintptr_t)arg, err);
}

static _Atomic uint64_t not_active; /* works, but the disk did not take that it does; 0: none */

static void active_done(void *arg, bool ok)
{
    if (!ok)
        atomic_store(&not_active, (uint64_t)(uintptr_t)arg);
}

static void try_active_again(void)
{
    uint64_t revision = atomic_exchange(&not_active, 0);

    if (revision)
        writer_post(writer, active_job, active_done, (void *)(uintptr_t)revision);
}

static bool prune_job(sqlite3 *db, void *arg, struct err *err)
{
    (void)arg;
    return db_prune(db, DB_KEEP_REVISIONS, err);
}

bool config_db_write(const struct db_revision *r, const struct changes *c, uint64_t candidate,
                     const struct db_audit *who, struct err *err)
{
    struct write_job j = {r, c, candidate, who};
    uint64_t now = 0;

    if (config_db_call(write_job, &j, err))
        return true;
    /* An error of the disk at the COMMIT may leave it done; what is in the file counts. */
    return config_db_call(head_job, &now, NULL) && now == r->rev;
}

static bool audit_job(sqlite3 *db, void *arg, struct err *err)
{
    return db_audit(db, arg, err);
}

void config_db_audit(const struct db_audit *row)
{
    struct err err;

    if (!config_db_call(audit_job, (void *)row, &err))
        log_critical("the audit trail lost \"%s %s %s\" by %s: %s", row->action,
                     row->object ? row->object : "", row->result, row->actor, err.text);
}

void config_db_set_active(uint64_t revision)
{
    struct err err;

    writer_post(writer, active_job, active_done, (void *)(uintptr_t)revision);
    /* Pruning looks at everything, so it waits until there is something worth it. */
    if (revision % 50 == 0 && !config_db_call(prune_job, NULL, &err))
        log_warning("forgetting old revisions: %s", err.text);
}

/* --- start --- */

static bool make_demo(struct buf *cert, struct buf *key, struct err *err)
{
    struct strlist names = {0};
    struct x509_request r = {.common_name = "Postern Demo",
                             .organization = "Postern",
                             .days = 3650,
                             .algorithm = "p256",
                             .names = &names};

    return x509_make_self_signed(&r, cert, key, NULL, err);
}

static bool fill(sqlite3 *db, const char *home, struct err *err)
{
    AUTO(buf) struct buf cert = BUF_INIT(64 << 10);
    struct buf key = BUF_INIT(64 << 10);
    struct factory f = {.home = home, .privileged = owner_uid == 0 && str_eq(home, HOME_INSTALLED)};
    struct db_revision r = {.rev = 1,
                            .kind = "initial",
                            .comment = "Factory configuration",
                            .keep = true,
                            .via = "factory"};
    struct db_audit who = {
        .actor = "posternd", .uid = -1, .action = "commit", .object = "revision 1", .result = "ok"};
    struct config *empty = config_new(), *cfg = NULL;
    char hostname[256] = "", *sealed = NULL;
    struct passwd *pw = getpwuid(owner_uid);
    struct changes changes = {0};
    bool ok;

    gethostname(hostname, sizeof(hostname) - 1);
    f.hostname = hostname;
    f.owner = pw ? pw->pw_name : NULL;
    ok = make_demo(&cert, &key, err) &&
         secret_seal(db, "certificate.private_key", buf_str(&key), key.n, &sealed, err);
    if (ok) {
        f.demo_cert = buf_str(&cert);
        f.demo_key = sealed;
        cfg = factory_config(&f);
        config_diff(empty, cfg, &changes);
        r.created = clock_wall();
        r.n_new = (unsigned)changes.n;
        r.tree_hash = config_hash(cfg);
        ok = db_write_revision(db, &r, &changes, 0, &who, err);
    }
    if (key.p)
        OPENSSL_cleanse(key.p, key.cap);
    buf_free(&key);
    free(sealed);
    changes_free(&changes);
    config_free(&empty);
    config_free(&cfg);
    return ok || err_wrap(err, "making the factory configuration");
}

static void keep_candidate(void *arg, struct db_candidate *c)
{
    (void)arg;
    candidate_restore(c);
}

static bool load(sqlite3 *db, const char *home, struct err *err)
{
    bool migrated;
    uint64_t rev;

    if (!db_head(db, &rev, &head_was_applying, err))
        return false;
    if (!rev) {
        if (!fill(db, home, err))
            return false;
        rev = 1;
        head_was_applying = true;
    }
    if (!db_snapshot(db, rev, &head, err) || !db_migrate_head(db, head, &migrated, err))
        return false;
    if (migrated) {
        config_free(&head);
        if (!db_snapshot(db, rev + 1, &head, err))
            return false;
    }
    return db_prune_secrets(db, err) && db_candidates(db, keep_candidate, NULL, err);
}

static sqlite3 *open_and_load(const char *home, struct err *err)
{
    sqlite3 *db;

    *err = (struct err){0};
    if (!db_open(home, &db, err))
        return NULL;
    if (load(db, home, err))
        return db;
    sqlite3_close(db);
    candidates_free();
    config_free(&head);
    return NULL;
}

static void found_damaged(void)
{
    log_critical("config.db is damaged");
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "configuration damaged",
                "The configuration database is damaged. The gateway goes on with the configuration it has in memory; "
                "its next start takes the backup. Please save the configuration now (saveconfig).");
}

/* --- the backup --- */

static char *home_path;
static uint64_t saved_revision; /* in the backup; 0: not known */

static bool backup_job(sqlite3 *db, void *unused, struct err *err)
{
    (void)unused;
    return config_backup_make(db, home_path, err);
}

/* YIELDS. Makes it when there is something new; returns how long to wait for the next time. */
static msec_t back_up(void)
{
    struct config *now = config_db_head();
    uint64_t revision = config_revision(now);
    msec_t began = clock_now(), pause = BACKUP_EVERY;
    struct err err = {0};

    if (revision != saved_revision) {
        if (writer_call(writer, backup_job, NULL, &err))
            saved_revision = revision;
        else
            log_warning("%s", err.text);
        if ((clock_now() - began) * 100 > pause) /* it costs commits no more than a hundredth of the time */
            pause = (clock_now() - began) * 100;
    }
    config_free(&now);
    return pause;
}

static void backup_fiber(void *unused)
{
    msec_t pause = BACKUP_EVERY;

    (void)unused;
    while (fiber_sleep(pause)) {
        try_active_again();
        pause = back_up();
    }
}

bool config_db_watch(struct err *err)
{
    return fiber_spawn(loops_get(0), "configuration backup", backup_fiber, NULL)
               ? true
               : err_set(err, E_LIMIT, "too many fibers");
}

bool config_db_start(const char *home, uid_t owner, struct err *err)
{
    sqlite3 *db;

    owner_uid = owner;
    if (!secret_init(home, err) || !config_backup_missing(home, err))
        return false;
    db = open_and_load(home, err);
    if (!db && config_backup_restore(home))
        db = open_and_load(home, err);
    if (!db)
        return false;
    writer = writer_new("config", db, NULL, NULL);
    writer_on_damage(writer, found_damaged);
    home_path = xstrdup(home);
    saved_revision = config_backup_is_new(home) ? config_revision(head) : 0;
    return true;
}

bool config_db_activate(struct err *err)
{
    struct config *cfg = config_db_head();
    struct err why;
    bool ok;

    /* A commit that was cut off is taken back when it cannot be activated; a configuration that has
     * worked before starts with what is to be had. */
    listeners_strict_start(head_was_applying);
    ok = reload_prepare(cfg, err);
    listeners_strict_start(false);
    if (ok) {
        reload_publish(cfg);
        if (head_was_applying)
            config_db_set_active(config_revision(cfg));
    } else if (head_was_applying && config_revision(cfg) > 1) {
        log_critical("revision %llu cannot be activated (%s); going back to the one before",
                     (unsigned long long)config_revision(cfg), err->text);
        why = *err;
        ok = commit_take_back(err);
        alert_raise(
            ALERT_SYSTEM, ALERT_CRITICAL, "configuration taken back",
            "Revision %llu of the configuration could not be activated at the start (%s). %s",
            (unsigned long long)config_revision(cfg), why.text,
            ok ? "The gateway runs with the one before; its changes are staged again for their "
                 "author."
               : "Going back failed, too.");
    }
    config_free(&cfg);
    return ok;
}

void config_db_stop(void)
{
    if (writer && head && config_revision(head) > 1)
        back_up();
    writer_free(&writer);
    str_free(&home_path);
    candidates_free();
    config_free(&head);
}
