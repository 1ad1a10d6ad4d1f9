/* control_access.c - access.import, access.export, access.clear and access.reset: the whole host or recipient access table of
 * a listener at once, read and written here because a table of 100,000 entries does not fit into a line of the
 * protocol. access.find: which entry of the table a host would meet. */
#include <stdlib.h>

#include "daemon/access.h"
#include "daemon/candidate.h"
#include "daemon/control_config.h"
#include "daemon/dns.h"
#include "daemon/export_area.h"
#include "daemon/worker.h"
#include "store/factory.h"
#include "store/hat_file.h"
#include "store/rat_file.h"

struct table { /* what a request is about */
    struct config *view;
    const char *listener;
    bool hat;
};

static void table_free(struct table *t)
{
    config_free(&t->view);
}

static bool table_of(struct control *c, const json_t *args, struct table *t, struct err *err)
{
    const char *which = json_str(args, "table", "");
    const struct listener *l;

    t->view = config_ref(candidate_view(*control_candidate(c)));
    t->listener = json_str(args, "listener", "");
    t->hat = str_eq(which, "hat");
    l = CONFIG_GET(t->view, listener, t->listener);
    if (!t->hat && !str_eq(which, "rat"))
        return err_set(err, E_USAGE, "The table is \"hat\" or \"rat\".");
    if (!l)
        return err_set(err, E_NOT_FOUND, "There is no listener \"%s\".",
                       str_printable(t->listener));
    return t->hat || l->kind == LISTENER_PUBLIC ||
           err_set(err, E_INVALID, "Listener %s is private and has no recipient access table.",
                   t->listener);
}

struct counts {
    size_t added, changed, deleted;
};

/* Edits that change nothing are dropped. */
static void keep_changes(const struct config *view, const struct config_edits *all,
                         struct config_edits *out, struct counts *n)
{
    for (size_t i = 0; i < all->n; i++) {
        const struct config_edit *e = &all->items[i];
        const struct row *old = config_row(view, e->section, e->name);

        if (row_equal(old, e->row))
            continue;
        n->added += !old;
        n->deleted += !e->row;
        n->changed += old && e->row;
        config_edits_put(out, e->section, e->name, e->row ? row_ref(e->row) : NULL);
    }
}

static void put_counts(json_t *data, const struct counts *n)
{
    json_put_int(data, "new", (json_int_t)n->added);
    json_put_int(data, "changed", (json_int_t)n->changed);
    json_put_int(data, "deleted", (json_int_t)n->deleted);
}

/* --- import --- */

struct reading {
    const struct table *table;
    const struct buf *text;
    const char *file;
    struct config_edits edits;
    struct hat_facts facts;
    size_t recipients;
    struct counts counts;
};

/* On a worker: a large file takes most of a second. */
static bool read_table(void *arg, struct err *err)
{
    struct reading *r = arg;
    struct config_edits all = {0};
    const struct table *t = r->table;
    bool ok = t->hat ? hat_file_import(buf_str(r->text), r->text->n, t->view, t->listener, &all,
                                       &r->facts, err)
                     : rat_file_import(buf_str(r->text), r->text->n, t->view, t->listener, &all,
                                       &r->recipients, &r->facts.remarks, err);

    if (ok)
        keep_changes(t->view, &all, &r->edits, &r->counts);
    else
        err_wrap(err, "%s", r->file);
    config_edits_free(&all);
    return ok;
}

static void put_facts(json_t *data, const struct reading *r)
{
    json_t *remarks = json_array();

    if (r->table->hat) {
        json_put_int(data, "policies", (json_int_t)r->facts.policies);
        json_put_int(data, "groups", (json_int_t)r->facts.groups);
        json_put_int(data, "hosts", (json_int_t)r->facts.hosts);
    }
    json_put_int(data, "entries",
                 (json_int_t)(r->table->hat ? r->facts.policies + r->facts.groups : r->recipients));
    put_counts(data, &r->counts);
    for (size_t i = 0; i < r->facts.remarks.n; i++)
        json_array_append_new(remarks, json_string(r->facts.remarks.items[i]));
    json_put(data, "remarks", remarks);
}

static bool do_import(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(HAT_FILE_MAX);
    struct table t = {0};
    struct reading r = {.table = &t, .text = &text, .file = json_str(args, "name", "")};
    bool ok = table_of(c, args, &t, err) && control_read_file(c, r.file, &text, err) && /* YIELDS */
              worker_call(read_table, &r, err) && /* YIELDS */
              (!r.edits.n || control_stage(c, &r.edits, 0, err)); /* YIELDS */

    if (ok)
        put_facts(data, &r);
    strlist_free(&r.facts.remarks);
    config_edits_free(&r.edits);
    table_free(&t);
    return ok;
}

/* --- export --- */

struct writing {
    const struct table *table;
    struct buf text;
};

static bool write_table(void *arg, struct err *err)
{
    struct writing *w = arg;
    const struct table *t = w->table;

    if (t->hat)
        hat_file_export(t->view, t->listener, &w->text);
    else
        rat_file_export(t->view, t->listener, &w->text);
    return !w->text.full ||
           err_set(err, E_LIMIT, "The file would have more than %zu bytes.", w->text.max);
}

static bool do_export(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct table t = {0};
    struct writing w = {.table = &t, .text = BUF_INIT(HAT_FILE_MAX)};
    char *path = NULL;
    bool ok = table_of(c, args, &t, err) &&
              export_area_path(json_str(args, "name", ""), &path, err) &&
              worker_call(write_table, &w, err) && /* YIELDS */
              export_area_write(path, buf_str(&w.text), w.text.n, control_role(c) >= ROLE_ADMIN,
                                json_bool_of(args, "replace", false), err); /* YIELDS */

    if (ok) {
        json_put_str(data, "path", path);
        control_audit(c, "file.write", path, "ok", NULL);
    }
    buf_free(&w.text);
    free(path);
    table_free(&t);
    return ok;
}

/* --- clear, reset --- */

static void remove_all(const struct table *t, const struct section *s, struct config_edits *out)
{
    size_t first, n = config_children(t->view, s, t->listener, &first);

    for (size_t i = first; i < first + n; i++)
        config_edits_put(out, s, config_at(t->view, s, i)->name, NULL);
}

static bool do_clear(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct table t = {0};
    struct config_edits edits = {0};
    bool ok = table_of(c, args, &t, err);

    if (ok && t.hat) {
        remove_all(&t, &section_mail_policy, &edits);
        remove_all(&t, &section_sender_group, &edits);
    } else if (ok) {
        remove_all(&t, &section_rcpt_access, &edits);
    }
    ok = ok && (!edits.n || control_stage(c, &edits, 0, err)); /* YIELDS */
    if (ok)
        json_put_int(data, "deleted", (json_int_t)edits.n);
    config_edits_free(&edits);
    table_free(&t);
    return ok;
}

/* The policies and groups that the factory gives a listener of its kind. */
static bool do_reset(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct table t = {0};
    struct config_edits all = {0}, edits = {0};
    struct counts counts = {0};
    struct row *rows[FACTORY_LISTENER_ROWS];
    bool ok = table_of(c, args, &t, err);
    size_t n = 0;

    if (ok && !t.hat)
        ok = err_set(err, E_USAGE, "A recipient access table has no factory settings; use CLEAR.");
    if (ok) {
        const struct listener *l = CONFIG_GET(t.view, listener, t.listener);

        remove_all(&t, &section_mail_policy, &all);
        remove_all(&t, &section_sender_group, &all);
        n = factory_listener(l->kind, t.listener, rows);
    }
    for (size_t i = 0; i < n; i++) {
        row_freeze(rows[i]);
        if (rows[i]->section == &section_listener)
            row_free(&rows[i]);
        else
            config_edits_put(&all, rows[i]->section, rows[i]->name, rows[i]);
    }
    if (ok)
        keep_changes(t.view, &all, &edits, &counts);
    ok = ok && (!edits.n || control_stage(c, &edits, 0, err)); /* YIELDS */
    if (ok)
        put_counts(data, &counts);
    config_edits_free(&all);
    config_edits_free(&edits);
    table_free(&t);
    return ok;
}

/* --- find: which entry a host would meet --- */

static bool find_sender(struct access *a, const struct table *t, const struct addr *ip,
                        const char *given, json_t *data)
{
    const struct access_table *table = access_table(a, t->listener);
    struct access_match match;
    char name[256] = "";
    bool verified = false;
    const char *host = given;

    if (!given && access_needs_name(table, ip) && dns_reverse_timeout()) {
        if (dns_reverse(ip, clock_in(dns_reverse_timeout()), name, sizeof(name), &verified)) /* YIELDS */
            json_put_str(data, "reverse", name);
        host = verified ? name : "";
    }
    json_put(data, "verified", json_boolean(given || verified));
    access_sender(table, ip, host ? host : "", &match);
    json_put_str(data, "group", match.group);
    json_put_str(data, "entry", match.entry);
    json_put_str(data, "behavior", hat_rule(match.flow->behavior));
    json_put_str(data, "policy", match.policy);
    return true;
}

struct making {
    const struct config *view;
    struct access *made;
};

static bool make_tables(void *arg, struct err *err)
{
    struct making *m = arg;

    (void)err;
    m->made = access_new(m->view, NULL);
    return true;
}

static bool do_find(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *address = json_str(args, "address", ""), *host = json_str(args, "host", NULL);
    struct table t = {0};
    struct making m = {0};
    struct addr ip;
    bool ok = table_of(c, args, &t, err);

    if (ok && !addr_parse(address, &ip))
        ok = err_set(err, E_INVALID, "%s is not an IP address.", str_printable(address));
    m.view = t.view;
    ok = ok && worker_call(make_tables, &m, err) && /* YIELDS */
         find_sender(m.made, &t, &ip, host, data); /* YIELDS */
    access_free(&m.made);
    table_free(&t);
    return ok;
}

const struct control_op control_access_ops[] = {
    {"access.import", ROLE_OPERATOR, do_import},
    {"access.export", ROLE_OPERATOR, do_export},
    {"access.clear",  ROLE_OPERATOR, do_clear },
    {"access.reset",  ROLE_OPERATOR, do_reset },
    {"access.find",   ROLE_READONLY, do_find  },
    {NULL,            0,             NULL     },
};
