/* candidate.c - see candidate.h. */
#include "daemon/candidate.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/config_db.h"
#include "store/base/list.h"
#include "store/base/log.h"

struct kept { /* candidate with its place in the list; the list holds all there are */
    struct candidate c;
    struct list node;
};

static struct list all = LIST_INIT(all);

struct candidate *candidate_new(const char *owner)
{
    struct kept *k = xcalloc(1, sizeof(*k));

    k->c.db.owner = xstrdup(owner);
    k->c.attached = true;
    list_add_tail(&all, &k->node);
    return &k->c;
}

static struct kept *kept_of(struct candidate *c)
{
    return (struct kept *)(void *)c;
}

void candidate_restore(struct db_candidate *c)
{
    struct candidate *fresh = candidate_new(c->owner);

    db_candidate_clear(&fresh->db);
    fresh->db = *c;
    fresh->attached = false;
}

static void drop_view(struct candidate *c)
{
    config_free(&c->view);
    config_free(&c->view_head);
}

static void candidate_free(struct candidate *c)
{
    drop_view(c);
    db_candidate_clear(&c->db);
    list_remove(&kept_of(c)->node);
    free(kept_of(c));
}

/* What nobody came back for goes after a week. YIELDS */
static void expire(void)
{
    usec_t limit = clock_wall() - (usec_t)7 * 86400 * 1000000;

    for (struct candidate *c = candidate_next(NULL); c; c = candidate_next(c)) {
        if (c->attached || c->db.touched > limit)
            continue;
        log_info("uncommitted changes %llu of %s are a week old and dropped",
                 (unsigned long long)c->db.id, c->db.owner);
        c->attached = true; /* nobody resumes it now */
        candidate_clear(c, NULL);
        candidate_free(c);
        return; /* the list may have changed meanwhile; the next one goes with the next session */
    }
}

void candidate_detach(struct candidate **c)
{
    struct candidate *it = *c;

    *c = NULL;
    if (!it)
        return;
    it->attached = false;
    drop_view(it);
    if (it->anonymous || !it->db.id || !it->db.changes.n) {
        if (it->db.id)
            candidate_clear(it, NULL);
        candidate_free(it);
    }
    expire();
}

struct candidate *candidate_find(uint64_t id)
{
    list_each (node, &all) {
        struct candidate *c = &list_item(node, struct kept, node)->c;

        if (id && c->db.id == id)
            return c;
    }
    return NULL;
}

struct candidate *candidate_next(struct candidate *after)
{
    struct list *node = after ? kept_of(after)->node.next : all.next;

    for (; node != &all; node = node->next)
        if (list_item(node, struct kept, node)->c.db.id)
            return &list_item(node, struct kept, node)->c;
    return NULL;
}

void candidates_free(void)
{
    list_each_safe (node, &all)
        candidate_free(&list_item(node, struct kept, node)->c);
}

size_t candidate_count(const struct candidate *c)
{
    return c->db.changes.n;
}

const struct config *candidate_view(struct candidate *c)
{
    struct config *head = config_db_head();

    if (c->view_head != head) {
        drop_view(c);
        c->view = changes_apply(head, &c->db.changes, config_revision(head));
        c->view_head = config_ref(head);
    }
    config_free(&head);
    return c->view;
}

struct put_job {
    struct db_candidate c; /* a copy: other connections look at the list of candidates meanwhile */
    const struct config_edit *touched;
    size_t n;
};

static bool put_job(sqlite3 *db, void *arg, struct err *err)
{
    struct put_job *j = arg;

    return db_put_candidate(db, &j->c, j->touched, j->n, err);
}

static bool delete_job(sqlite3 *db, void *arg, struct err *err)
{
    struct candidate *c = arg;

    return db_delete_candidate(db, c->db.id, err);
}

/* An empty list needs no row; the next change makes a new one. YIELDS */
static bool make_durable(struct candidate *c, const struct config_edit *touched, size_t n,
                         struct err *err)
{
    struct put_job j = {c->db, touched, n};

    if (c->anonymous)
        return true;
    if (c->db.changes.n) {
        if (!config_db_call(put_job, &j, err))
            return false;
        c->db.id = j.c.id;
        return true;
    }
    if (c->db.id && !config_db_call(delete_job, c, err))
        return false;
    c->db.id = 0;
    c->db.restores = 0;
    return true;
}

/* What the list says about the objects of the edits; it is put back when the database refuses. */
struct undo {
    const struct section *section;
    char *name;
    struct row *base, *now;
    bool listed;
};

static struct undo *remember(const struct candidate *c, const struct config_edit *edits, size_t n)
{
    struct undo *u = xcalloc(n, sizeof(*u));

    for (size_t i = 0; i < n; i++) {
        const struct change *item = changes_find(&c->db.changes, edits[i].section, edits[i].name);

        u[i] = (struct undo){edits[i].section, xstrdup(edits[i].name),
                             item ? row_ref(item->base) : NULL, item ? row_ref(item->now) : NULL,
                             item};
    }
    return u;
}

static void undo(struct candidate *c, struct undo *u, size_t n, bool apply)
{
    for (size_t i = 0; i < n; i++) {
        if (apply) {
            changes_drop(&c->db.changes, u[i].section, u[i].name);
            if (u[i].listed)
                changes_put(&c->db.changes, u[i].section, u[i].name, u[i].base, u[i].now);
        }
        free(u[i].name);
        row_free(&u[i].base);
        row_free(&u[i].now);
    }
    free(u);
}

bool candidate_stage(struct candidate *c, struct config_edit *edits, size_t n, uint64_t restores,
                     struct check *check, struct err *err)
{
    struct config *head = config_db_head(), *old = config_ref(candidate_view(c)),
                  *view = config_edit(old, edits, n, config_revision(head));
    struct undo *before;
    bool ok;

    check->errors_only = true; /* the commit tells the warnings */
    check_config(view, old, check);
    ok = !check->errors ||
         err_set(err, E_INVALID, "%s: %s", check->items[0].object, check->items[0].text);
    if (ok) {
        before = remember(c, edits, n);
        if (!c->db.changes.n) {
            c->db.changes.base_revision = config_revision(head);
            c->db.created = clock_wall();
        }
        c->db.touched = clock_wall();
        if (restores)
            c->db.restores = restores;
        for (size_t i = 0; i < n; i++)
            changes_put(&c->db.changes, edits[i].section, edits[i].name,
                        config_row(head, edits[i].section, edits[i].name), edits[i].row);
        ok = make_durable(c, edits, n, err); /* YIELDS */
        undo(c, before, n, !ok);
        if (ok) {
            drop_view(c);
            c->view = config_ref(view);
            c->view_head = config_ref(head);
        }
    }
    config_free(&view);
    config_free(&old);
    config_free(&head);
    return ok;
}

bool candidate_replace(struct candidate *c, struct changes *fresh, struct err *err)
{
    struct config_edit *touched = xcalloc(c->db.changes.n + fresh->n, sizeof(*touched));
    struct changes old = c->db.changes;
    size_t n = 0;
    bool ok;

    for (size_t i = 0; i < old.n; i++)
        touched[n++] = (struct config_edit){old.items[i].section, old.items[i].name, NULL};
    for (size_t i = 0; i < fresh->n; i++)
        if (!changes_find(&old, fresh->items[i].section, fresh->items[i].name))
            touched[n++] =
                (struct config_edit){fresh->items[i].section, fresh->items[i].name, NULL};
    c->db.changes = *fresh;
    c->db.touched = clock_wall();
    ok = make_durable(c, touched, n, err); /* YIELDS */
    free(touched);
    if (ok) {
        *fresh = (struct changes){0};
        changes_free(&old);
        drop_view(c);
    } else {
        c->db.changes = old;
    }
    return ok;
}

bool candidate_clear(struct candidate *c, struct err *err)
{
    struct changes none = {0};
    bool ok = candidate_replace(c, &none, err);

    if (ok)
        c->db.restores = 0;
    return ok;
}

void candidate_committed(struct candidate *c)
{
    changes_free(&c->db.changes);
    c->db.id = 0;
    c->db.restores = 0;
    drop_view(c);
}

bool candidate_keep(struct candidate *c, struct err *err)
{
    size_t n = c->db.changes.n;
    struct config_edit *touched = xcalloc(n, sizeof(*touched));

    for (size_t i = 0; i < n; i++)
        touched[i] =
            (struct config_edit){c->db.changes.items[i].section, c->db.changes.items[i].name, NULL};
    c->anonymous = false;
    if (!make_durable(c, touched, n, err)) /* YIELDS */
        c->anonymous = true;
    free(touched);
    return !c->anonymous;
}
