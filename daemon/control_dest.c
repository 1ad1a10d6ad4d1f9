/* control_dest.c - dest.import, dest.export and dest.clear: the whole destination table at once,
 * read and written here because a table of 100,000 entries does not fit into a line of the
 * protocol. */
#include <stdlib.h>

#include "daemon/candidate.h"
#include "daemon/control_config.h"
#include "daemon/export_area.h"
#include "daemon/worker.h"
#include "store/dest_ini.h"

struct reading {
    const struct buf *text;
    const struct config *view;
    struct config_edits *edits;
    size_t entries, added, changed, deleted;
};

/* On a worker: a large file takes most of a second. Edits that change nothing are dropped. */
static bool read_table(void *arg, struct err *err)
{
    struct reading *r = arg;
    struct config_edits all = {0};
    bool ok = dest_ini_import(buf_str(r->text), r->text->n, r->view, &all, &r->entries, err);

    for (size_t i = 0; ok && i < all.n; i++) {
        struct config_edit *e = &all.items[i];
        const struct row *old = config_row(r->view, e->section, e->name);

        if (row_equal(old, e->row))
            continue;
        r->added += !old;
        r->deleted += !e->row;
        r->changed += old && e->row;
        config_edits_put(r->edits, e->section, e->name, e->row ? row_ref(e->row) : NULL);
    }
    config_edits_free(&all);
    return ok;
}

static bool do_import(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(DEST_INI_MAX);
    struct config *view = config_ref(candidate_view(*control_candidate(c)));
    struct config_edits edits = {0};
    struct reading r = {.text = &text, .view = view, .edits = &edits};
    bool ok = control_read_file(c, json_str(args, "name", ""), &text, err) && /* YIELDS */
              worker_call(read_table, &r, err) && /* YIELDS */
              (!edits.n || control_stage(c, &edits, 0, err)); /* YIELDS */

    if (ok) {
        json_put_int(data, "entries", (json_int_t)r.entries);
        json_put_int(data, "new", (json_int_t)r.added);
        json_put_int(data, "changed", (json_int_t)r.changed);
        json_put_int(data, "deleted", (json_int_t)r.deleted);
    }
    config_edits_free(&edits);
    config_free(&view);
    return ok;
}

struct writing {
    const struct config *view;
    struct buf text;
};

static bool write_table(void *arg, struct err *err)
{
    struct writing *w = arg;

    dest_ini_export(w->view, &w->text);
    return !w->text.full ||
           err_set(err, E_LIMIT, "The file would have more than %zu bytes.", w->text.max);
}

static bool do_export(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *view = config_ref(candidate_view(*control_candidate(c)));
    struct writing w = {.view = view, .text = BUF_INIT(DEST_INI_MAX)};
    char *path = NULL;
    bool ok = export_area_path(json_str(args, "name", ""), &path, err) &&
              worker_call(write_table, &w, err) && /* YIELDS */
              export_area_write(path, buf_str(&w.text), w.text.n,
                                control_role(c) >= ROLE_ADMIN,
                                json_bool_of(args, "replace", false), err); /* YIELDS */

    if (ok) {
        json_put_str(data, "path", path);
        json_put_int(data, "entries", (json_int_t)config_count(view, &section_destination) - 1);
        control_audit(c, "file.write", path, "ok", NULL);
    }
    buf_free(&w.text);
    free(path);
    config_free(&view);
    return ok;
}

static bool do_clear(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *view = config_ref(candidate_view(*control_candidate(c)));
    struct config_edits edits = {0};
    bool ok;

    (void)args;
    for (size_t i = 0; i < config_count(view, &section_destination); i++) {
        const char *name = config_at(view, &section_destination, i)->name;

        if (!str_eq(name, "default"))
            config_edits_put(&edits, &section_destination, name, NULL);
    }
    ok = !edits.n || control_stage(c, &edits, 0, err); /* YIELDS */
    if (ok)
        json_put_int(data, "deleted", (json_int_t)edits.n);
    config_edits_free(&edits);
    config_free(&view);
    return ok;
}

const struct control_op control_dest_ops[] = {
    {"dest.import", ROLE_OPERATOR, do_import},
    {"dest.export", ROLE_OPERATOR, do_export},
    {"dest.clear",  ROLE_OPERATOR, do_clear },
    {NULL,          0,             NULL     },
};
