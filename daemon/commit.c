/* commit.c - see commit.h. The five steps are commit_run; everything before the write leaves no
 * trace, nothing after it can fail. All calls are made on one loop, so the mutex is a flag and a
 * list of those who wait. */
#include "daemon/commit.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_db.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/failpoint.h"

/* --- one at a time --- */

struct waiter {
    struct list node;
    struct wait wait;
};

static bool locked;
static struct list waiters = LIST_INIT(waiters);

bool commit_lock(msec_t deadline, struct err *err)
{
    struct waiter w;

    if (!locked) {
        locked = true;
        return true;
    }
    wait_init(&w.wait);
    list_add_tail(&waiters, &w.node);
    if (wait_until(&w.wait, deadline, "another commit")) /* YIELDS; the lock was handed over */
        return true;
    if (list_empty(&w.node)) /* handed over in the same moment */
        commit_unlock();
    list_remove(&w.node);
    return err_set(err, E_BUSY, "Another commit is in progress; try again.");
}

void commit_unlock(void)
{
    struct waiter *w;

    if (list_empty(&waiters)) {
        locked = false;
        return;
    }
    w = list_item(waiters.next, struct waiter, node);
    list_remove(&w->node);
    wait_done(&w->wait);
}

/* --- the steps --- */

static void make_plan_id(struct commit *k, const struct config *next, uint64_t head)
{
    unsigned char text[40], h[32];

    memcpy(text, config_hash(next), 32);
    memcpy(text + 32, &head, 8);
    SHA256(text, sizeof(text), h);
    snprintf(k->plan_id, sizeof(k->plan_id), "%02x%02x-%02x%02x", h[0], h[1], h[2], h[3]);
}

/* What others changed in objects this candidate changes too, for the receipt. */
static void note_merged(const struct changes *mine, const struct config *head,
                        struct conflicts *out)
{
    for (size_t i = 0; i < mine->n; i++) {
        const struct change *m = &mine->items[i];
        const struct row *now = config_row(head, m->section, m->name);

        if (!m->base || !now || !m->now || now == m->base)
            continue;
        for (size_t k = 0; k < m->section->nfields; k++) {
            const struct field *f = &m->section->fields[k];

            if (f->type->equal(row_slot(now, f), row_slot(m->base, f)))
                continue;
            out->items = xrealloc(out->items, (out->n + 1) * sizeof(*out->items));
            out->items[out->n++] =
                (struct conflict){.section = m->section, .name = xstrdup(m->name), .field = f};
        }
    }
}

static bool merge(struct candidate *c, const struct config *head, struct commit *k,
                  struct changes *merged, struct config **next, struct err *err)
{
    if (!changes_merge(head, &c->db.changes, merged, &k->conflicts)) {
        const struct conflict *x = &k->conflicts.items[0];
        char *title = row_title(x->section, x->name);

        err_set(err, E_CONFLICT,
                "Your change and a later revision touch the same setting: %s%s%s. Nothing was "
                "committed and your changes are kept.",
                title, x->field ? " " : "", x->field ? x->field->name : "");
        free(title);
        return false;
    }
    note_merged(&c->db.changes, head, &k->merged);
    for (size_t i = 0; i < merged->n; i++) {
        const struct change *m = &merged->items[i];

        k->n_new += !m->base;
        k->n_deleted += !m->now;
        k->n_changed += m->base && m->now;
    }
    *next = changes_apply(head, merged, config_revision(head) + 1);
    make_plan_id(k, *next, config_revision(head));
    if (k->plan && !str_eq(k->plan, k->plan_id))
        return err_set(err, E_CONFLICT,
                       "The plan %s is outdated: the configuration or your changes have moved; "
                       "check again (now %s).",
                       str_printable(k->plan), k->plan_id);
    return true;
}

static bool check(const struct config *next, const struct config *head, struct commit *k,
                  struct err *err)
{
    check_config(next, head, &k->check);
    if (k->check.errors) {
        const struct check_item *item = k->check.items;

        while (item->warning)
            item++;
        return err_set(err, E_INVALID, "%s: %s", item->object, item->text);
    }
    return true; /* warnings are told with the receipt: a commit without a person must not stop for them */
}

static bool write(struct candidate *c, const struct changes *merged, const struct config *next,
                  struct commit *k, struct err *err)
{
    struct db_audit who = *k->who;
    struct db_revision r = {.rev = config_revision(next),
                            .kind = "commit",
                            .comment = k->comment,
                            .keep = k->keep,
                            .created = clock_wall(),
                            .n_new = k->n_new,
                            .n_changed = k->n_changed,
                            .n_deleted = k->n_deleted,
                            .tree_hash = config_hash(next),
                            .via = "console"};
    struct config *target = NULL;
    char object[40];
    bool ok;

    if (c->db.restores && config_db_snapshot(c->db.restores, &target, NULL) &&
        !memcmp(config_hash(target), config_hash(next), 32)) {
        r.kind = "rollback";
        r.restores = c->db.restores;
    }
    config_free(&target);
    snprintf(object, sizeof(object), "revision %llu", (unsigned long long)r.rev);
    who.action = "commit";
    who.object = object;
    who.result = "ok";
    who.detail = k->comment;
    ok = config_db_write(&r, merged, c->db.id, &who, err); /* YIELDS */
    if (ok) {
        k->revision = r.rev;
        k->time = r.created;
    }
    return ok;
}

static void publish(struct candidate *c, struct config *next)
{
    reload_publish(next);
    config_db_set_head(next);
    candidate_committed(c);
    config_db_set_active(config_revision(next));
}

/* The steps between which a commit can stop. The caller holds the lock. */
static bool steps(struct candidate *c, struct commit *k, struct changes *merged,
                  struct config **next, struct err *err)
{
    struct config *head = config_db_head();
    bool ok;

    ok = merge(c, head, k, merged, next, err) && (!k->may || k->may(merged, err)) &&
         check(*next, head, k, err);
    config_free(&head);
    if (!ok)
        return false;
    if (!merged->n) /* all of it is so already */
        return k->check_only || candidate_clear(c, err);
    failpoint("before_prepare");
    if (!reload_prepare(*next, err)) /* YIELDS */
        return false;
    failpoint("after_prepare");
    if (k->check_only ||
        !write(c, merged, *next, k, err)) { /* YIELDS; behind it there is no way back */
        reload_discard();
        return k->check_only;
    }
    failpoint("after_write");
    publish(c, *next);
    failpoint("after_publish");
    return true;
}

bool commit_run(struct candidate *c, struct commit *k, struct err *err)
{
    struct changes merged = {0};
    struct config *next = NULL;
    bool ok;

    if (!commit_lock(clock_in(SECONDS(30)), err))
        return false;
    ok = steps(c, k, &merged, &next, err);
    commit_unlock();
    changes_free(&merged);
    config_free(&next);
    return ok;
}

void commit_clear(struct commit *k)
{
    conflicts_free(&k->conflicts);
    conflicts_free(&k->merged);
    check_free(&k->check);
}

/* --- taking back --- */

static bool restage(const char *author, const struct changes *taken, struct err *err)
{
    struct candidate *c = candidate_new(author);
    struct changes copy = {.base_revision = taken->base_revision};
    bool ok;

    for (size_t i = 0; i < taken->n; i++)
        changes_put(&copy, taken->items[i].section, taken->items[i].name, taken->items[i].base,
                    taken->items[i].now);
    c->db.created = clock_wall();
    ok = candidate_replace(c, &copy, err);
    changes_free(&copy);
    candidate_detach(&c);
    return ok;
}

static bool history_job(sqlite3 *db, void *arg, struct err *err)
{
    return db_history(db, 0, 1, arg, err);
}

bool commit_take_back(struct err *err)
{
    struct config *bad = config_db_head(), *good = NULL, *next = NULL;
    struct changes back = {0}, forth = {.base_revision = config_revision(bad) + 1};
    struct db_audit who = {.actor = "posternd",
                           .uid = -1,
                           .action = "auto-revert",
                           .object = "configuration",
                           .result = "ok"};
    struct db_revision r = {.rev = config_revision(bad) + 1,
                            .kind = "auto-revert",
                            .restores = config_revision(bad) - 1,
                            .comment = "The revision could not be activated",
                            .keep = true,
                            .created = clock_wall(),
                            .via = "posternd"};
    json_t *last = NULL;
    bool ok;

    ok = config_db_snapshot(r.restores, &good, err) && config_db_call(history_job, &last, err);
    if (ok) {
        config_diff(bad, good, &back);
        config_diff(good, bad, &forth);
        next = changes_apply(bad, &back, r.rev);
        r.tree_hash = config_hash(next);
        r.n_changed = (unsigned)back.n;
        ok = reload_prepare(next, err);
    }
    if (ok && config_db_write(&r, &back, 0, &who, err)) {
        reload_publish(next);
        config_db_set_head(next);
        config_db_set_active(r.rev);
        ok = restage(json_str(json_array_get(last, 0), "author", "root"), &forth, err);
    } else if (ok) {
        reload_discard();
        ok = false;
    }
    json_decref(last);
    changes_free(&back);
    changes_free(&forth);
    config_free(&bad);
    config_free(&good);
    config_free(&next);
    return ok;
}
