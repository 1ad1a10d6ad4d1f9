/* control_config.c - the configuration over the control socket: sessions, candidates, reading,
 * staging, committing, history. The files of the export area and the text form are in
 * control_text.c. */
#include "daemon/control_config.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/candidate.h"
#include "daemon/commit.h"
#include "daemon/config_db.h"
#include "daemon/control.h"
#include "store/base/log.h"
#include "store/base/version.h"
#include "store/secret.h"

#define LIST_LIMIT 1000 /* names in one answer */
#define LIST_MAX 20000 /* the same when asked for more */

/* Who may change what an operator may not. */
static bool is_security(const struct section *s)
{
    return s == &section_user || s == &section_certificate || s == &section_authority ||
           s == &section_authority_setup || s == &section_update || s == &section_mta_sts_setup ||
           s == &section_dns_anchor || /* who trusts a key of his own can make anything secure */
           s == &section_ldap_setup || s == &section_ldap_server || s == &section_ldap_query ||
           s == &section_smtpauth_profile || s == &section_smtpauth_server ||
           /* who says which server is asked gets the passwords of users to see, or lets himself in */
           s == &section_crl_setup || s == &section_crl_source || /* ... with a revoked certificate */
           s == &section_bv_setup || s == &section_bv_key || s == &section_resource_limits;
    /* their commands are an administrator's */
}

/* A route that has a profile tells its hosts the password of the smart host: who may choose the
 * hosts learns it. Taking the profile away tells nobody. */
static bool tells_password(const struct section *s, const struct row *was, const struct row *now)
{
    const struct smtp_route *r = s == &section_smtp_route && now ? now->data : NULL;

    return r && *r->auth_profile && !row_equal(was, now);
}

static bool told_password(struct err *err)
{
    return err_set(err, E_DENIED,
                   "Only administrators may change an SMTP route with an outgoing SMTP Auth "
                   "profile: its hosts are told the password.");
}

static bool may_stage(struct control *c, const struct config_edits *e, struct err *err)
{
    struct config *view;
    bool tells = false;

    if (control_role(c) >= ROLE_ADMIN)
        return true;
    view = config_ref(candidate_view(*control_candidate(c)));
    for (size_t i = 0; i < e->n && !tells; i++)
        tells = tells_password(e->items[i].section,
                               config_row(view, e->items[i].section, e->items[i].name),
                               e->items[i].row);
    config_free(&view);
    if (!tells)
        return true;
    control_audit(c, "config.stage", "smtp_route", "denied", NULL); /* YIELDS */
    return told_password(err);
}

static bool touches_security(const struct changes *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (is_security(c->items[i].section))
            return true;
    return false;
}

/* What may not be staged may not come of a merge either, of a conflict that was resolved, or of a
 * candidate from the time when its author was an administrator. */
static bool operator_may(const struct changes *merged, struct err *err)
{
    for (size_t i = 0; i < merged->n; i++)
        if (tells_password(merged->items[i].section, merged->items[i].base, merged->items[i].now))
            return told_password(err);
    return !touches_security(merged) ||
           err_set(err, E_DENIED,
                   "Your changes are about users, certificates or authentication, which only "
                   "administrators may commit; take them back with clearchanges.");
}

static json_t *date_json(usec_t t)
{
    char text[40];

    return json_string(clock_rfc3339(t, text));
}

static const struct section *section_arg(const json_t *args, struct err *err)
{
    const char *name = json_str(args, "section", "");
    const struct section *s = section_find(name);

    if (!s)
        err_set(err, E_USAGE, "There is no section \"%s\".", str_printable(name));
    return s;
}

/* The view a request asks for in args[key]: a revision number, "running", or "candidate". New
 * reference. YIELDS */
bool control_view(struct control *c, const json_t *args, const char *key, const char *deflt,
                  struct config **out, struct err *err)
{
    const json_t *v = json_object_get(args, key);
    const char *word = json_is_string(v) ? json_string_value(v) : deflt;

    if (json_is_integer(v))
        return config_db_snapshot((uint64_t)json_integer_value(v), out, err);
    if (str_eq(word, "running"))
        *out = config_db_head();
    else if (str_eq(word, "candidate"))
        *out = config_ref(candidate_view(*control_candidate(c)));
    else
        return err_set(err, E_USAGE,
                       "\"%s\" is neither a revision number, nor \"running\", nor \"candidate\".",
                       str_printable(word));
    return true;
}

/* --- sessions and candidates --- */

static json_t *candidate_json(const struct candidate *c)
{
    struct config *head = config_db_head();
    json_t *j = json_object();

    json_put_int(j, "id", (json_int_t)c->db.id);
    json_put_int(j, "changes", (json_int_t)candidate_count(c));
    json_put_int(
        j, "base",
        (json_int_t)(candidate_count(c) ? c->db.changes.base_revision : config_revision(head)));
    json_put_int(j, "head", (json_int_t)config_revision(head));
    json_put_str(j, "host", CONFIG_SINGLE(head, system)->hostname);
    json_put(j, "touched", c->db.touched ? date_json(c->db.touched) : NULL);
    config_free(&head);
    return j;
}

static bool do_hello(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *head = config_db_head();
    json_t *detached = json_array();

    (void)err;
    control_greet(c, json_str(args, "via", json_str(args, "client", "socket")),
                  json_str(args, "peer", "local"), json_bool_of(args, "interactive", false));
    for (struct candidate *d = candidate_next(NULL); d; d = candidate_next(d))
        if (!d->attached && str_eq(d->db.owner, control_user(c)))
            json_array_append_new(detached, candidate_json(d));
    json_put_int(data, "session", (json_int_t)control_session(c));
    json_put_str(data, "user", control_user(c));
    json_put_str(data, "role", control_role_name(control_role(c)));
    json_put_str(data, "host", CONFIG_SINGLE(head, system)->hostname);
    json_put_str(data, "version", POSTERN_VERSION);
    json_put_int(data, "revision", (json_int_t)config_revision(head));
    json_put(data, "candidate", candidate_json(*control_candidate(c)));
    json_put(data, "detached", detached);
    config_free(&head);
    if (json_bool_of(args, "interactive", false) || !str_eq(control_peer(c), "local"))
        control_audit(c, "login", NULL, "ok", control_peer(c)); /* YIELDS */
    return true;
}

static bool do_state(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *state = candidate_json(*control_candidate(c));

    (void)args;
    (void)err;
    json_object_update(data, state);
    json_decref(state);
    return true;
}

static bool do_attach(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct candidate **mine = control_candidate(c),
                     *other = candidate_find((uint64_t)json_int(args, "id", 0));

    if (!other || !str_eq(other->db.owner, control_user(c)))
        return err_set(err, E_NOT_FOUND, "There are no uncommitted changes %lld of yours.",
                       (long long)json_int(args, "id", 0));
    if (other->attached && other != *mine)
        return err_set(err, E_BUSY, "Another session is working on these changes.");
    if (other != *mine) {
        if (candidate_count(*mine))
            return err_set(err, E_BUSY,
                           "This session has changes of its own; commit or clear them first.");
        other->attached = true;
        candidate_detach(mine); /* empty: it goes */
        *mine = other;
    }
    json_put(data, "candidate", candidate_json(other));
    return true;
}

static bool do_anonymous(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)args;
    (void)data;
    if (candidate_count(*control_candidate(c)))
        return err_set(err, E_BUSY,
                       "This session has changes already; commit or clear them first.");
    (*control_candidate(c))->anonymous = true;
    return true;
}

static bool do_keep(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct candidate *cand = *control_candidate(c);

    (void)args;
    if (cand->anonymous && !candidate_keep(cand, err)) /* YIELDS */
        return false;
    json_put(data, "candidate", candidate_json(cand));
    return true;
}

static bool do_who(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *list = json_array();

    (void)c;
    (void)args;
    (void)err;
    for (struct control *other = control_next(NULL); other; other = control_next(other))
        if (control_greeted(other))
            json_array_append_new(list, control_describe(other));
    json_put(data, "sessions", list);
    return true;
}

/* --- reading --- */

static bool do_get(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const struct section *s = section_arg(args, err);
    struct config *view = NULL;
    const struct row *r;
    char *name;

    if (!s || !control_view(c, args, "revision", "candidate", &view, err))
        return false;
    name = row_canonical(s, json_str(args, "name", "-"));
    r = config_row(view, s, name);
    json_put_str(data, "name", name);
    json_put(data, "exists", json_boolean(r));
    json_put(data, "staged",
             json_boolean(changes_find(&(*control_candidate(c))->db.changes, s, name)));
    json_put(data, "body", r ? row_to_json(r) : NULL);
    free(name);
    config_free(&view);
    return true;
}

static bool do_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const struct section *s = section_arg(args, err);
    const char *owner = json_str(args, "owner", NULL), *prefix = json_str(args, "prefix", ""),
               *after = json_str(args, "after", NULL);
    bool bodies = json_bool_of(args, "bodies", false), more = false;
    json_int_t limit = json_int(args, "limit", LIST_LIMIT);
    json_t *entries = json_array();
    struct config *view = NULL;
    const struct row **rows;
    size_t n, i = 0;

    if (!s || !control_view(c, args, "revision", "candidate", &view, err)) {
        json_decref(entries);
        return false;
    }
    if (limit < 1 || limit > LIST_MAX)
        limit = LIST_MAX;
    rows = config_ordered(view, s, owner, &n);
    if (after && s->ordered) {
        while (i < n && strcmp(rows[i++]->name, after) != 0)
            ;
    } else if (after) {
        size_t first = 0, at = config_lower_bound(view, s, after);

        if (owner)
            config_children(view, s, owner, &first);
        i = at > first ? at - first : 0;
        i += i < n && str_eq(rows[i]->name, after);
    }
    for (; i < n; i++) {
        json_t *e;

        if (!str_starts(row_leaf(rows[i]), prefix))
            continue;
        if ((json_int_t)json_array_size(entries) == limit) {
            more = true;
            break;
        }
        e = json_object();
        json_put_str(e, "name", rows[i]->name);
        if (bodies)
            json_put(e, "body", row_to_json(rows[i]));
        json_array_append_new(entries, e);
    }
    json_put(data, "entries", entries);
    json_put(data, "more", json_boolean(more));
    json_put_int(data, "total", (json_int_t)n);
    free(rows);
    config_free(&view);
    return true;
}

/* --- staging --- */

void control_put_check(struct control *c, const struct check *check)
{
    json_t *errors = json_array(), *warnings = json_array();

    for (size_t i = 0; i < check->n; i++) {
        const struct check_item *item = &check->items[i];
        json_t *j = json_object();

        json_put_str(j, "object", item->object);
        json_put_str(j, "field", item->field);
        json_put_str(j, "message", item->text);
        json_array_append_new(item->warning ? warnings : errors, j);
    }
    if (json_array_size(errors))
        control_envelope(c, "errors", json_incref(errors));
    if (json_array_size(warnings))
        control_envelope(c, "warnings", json_incref(warnings));
    json_decref(errors);
    json_decref(warnings);
}

/* Secrets of a request, which are sealed together. */
struct plain_secrets {
    struct config_seal *seals; /* of the values below */
    struct place {
        json_t *body;
        const char *field;
        char *kind;
    } * places;
    size_t n, cap;
};

static void add_plain(struct plain_secrets *p, const struct section *s, const struct field *f,
                      json_t *body, const char *plain)
{
    char *kind = xasprintf("%s.%s", s->name, f->name);

    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 16;
        p->seals = xrealloc(p->seals, p->cap * sizeof(*p->seals));
        p->places = xrealloc(p->places, p->cap * sizeof(*p->places));
    }
    p->seals[p->n] = (struct config_seal){kind, plain, strlen(plain), NULL};
    p->places[p->n++] = (struct place){body, f->name, kind};
}

/* {"$plain":"..."} in secret fields; a string there is a reference, which the check looks at. */
static bool find_plain(const json_t *change, struct plain_secrets *p, struct err *err)
{
    const struct section *s = section_arg(change, err);
    json_t *body = json_object_get(change, "body");

    for (size_t i = 0; s && json_is_object(body) && i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        json_t *v = json_object_get(body, f->name);
        const char *plain = json_str(v, "$plain", NULL);

        if (!f->secret || !json_is_object(v))
            continue;
        if (!plain)
            return err_set(err, E_INVALID,
                           "%s %s, %s: a secret is a reference or {\"$plain\":...}.", s->noun,
                           str_printable(json_str(change, "name", "-")), f->name);
        add_plain(p, s, f, body, plain);
    }
    return s;
}

/* Puts references in the place of secrets. YIELDS */
static bool seal_secrets(const json_t *changes, struct err *err)
{
    struct plain_secrets p = {0};
    bool ok = true;

    for (size_t i = 0; ok && i < json_array_size(changes); i++)
        ok = find_plain(json_array_get(changes, i), &p, err);
    ok = ok && config_db_seal_all(p.seals, p.n, err); /* YIELDS */
    for (size_t i = 0; i < p.n; i++) {
        OPENSSL_cleanse((char *)p.seals[i].plain, p.seals[i].n);
        if (ok)
            json_put_str(p.places[i].body, p.places[i].field, p.seals[i].ref);
        free(p.seals[i].ref);
        free(p.places[i].kind);
    }
    free(p.seals);
    free(p.places);
    return ok;
}

/* Children of an owner that goes, or goes on under another name (to NULL: it goes). */
static void move_children(const struct config *view, const struct section *s, const char *from,
                          const char *to, struct config_edits *e)
{
    for (size_t i = 0; i < section_count(); i++) {
        const struct section *child = section_at(i);
        size_t first, n;

        if (!child->parent || !str_eq(child->parent, s->name))
            continue;
        n = config_children(view, child, from, &first);
        for (size_t k = first; k < first + n; k++) {
            const struct row *r = config_at(view, child, k);

            config_edits_put(e, child, r->name, NULL);
            if (to) {
                struct row *copy = row_copy(r);
                char *name = xasprintf("%s/%s", to, row_leaf(r));

                row_rename(copy, name);
                row_freeze(copy);
                config_edits_put(e, child, name, copy);
                free(name);
            }
        }
    }
}

/* Fields that name an object of s: by .ref, or in the two places where "default" or the owner plays
 * a part. */
static bool refers(const struct field *f, const struct section *in, const struct section *s)
{
    return (f->ref && str_eq(f->ref, s->name)) ||
           (s == &section_bounce_profile && in == &section_destination &&
            str_eq(f->name, "bounce_profile")) ||
           (s == &section_mail_policy && in == &section_sender_group && str_eq(f->name, "policy"));
}

static void rename_reference(struct row *r, const struct field *f, const char *old, const char *new)
{
    struct strlist *l = f->type == &type_list ? row_slot(r, f) : NULL;

    if (!l)
        row_set(r, f->name, new, NULL);
    for (size_t i = 0; l && i < l->n; i++) {
        if (!str_eq(l->items[i], old))
            continue;
        free(l->items[i]);
        l->items[i] = xstrdup(new);
    }
}

static void move_references(const struct config *view, const struct section *s, const char *from,
                            const char *to, struct config_edits *e)
{
    const char *slash_from = s->parent ? strchr(from, '/') : NULL,
               *slash_to = s->parent ? strchr(to, '/') : NULL;
    const char *old = slash_from ? slash_from + 1 : from, *new = slash_to ? slash_to + 1 : to;

    for (size_t i = 0; i < section_count(); i++) {
        const struct section *in = section_at(i);

        for (size_t k = 0; k < in->nfields; k++) {
            if (!refers(&in->fields[k], in, s))
                continue;
            for (size_t j = 0; j < config_count(view, in); j++) {
                const struct row *r = config_at(view, in, j);
                struct row *copy;

                if (!row_names(r, &in->fields[k], old) ||
                    (slash_from && strncmp(r->name, from, (size_t)(slash_from + 1 - from)) != 0))
                    continue;
                copy = row_copy(r);
                rename_reference(copy, &in->fields[k], old, new);
                row_freeze(copy);
                config_edits_put(e, in, r->name, copy);
            }
        }
    }
}

bool control_may_change(struct control *c, const struct section *s, struct err *err)
{
    if (!is_security(s) || control_role(c) >= ROLE_ADMIN)
        return true;
    control_audit(c, "config.stage", s->name, "denied", NULL); /* YIELDS */
    return err_set(err, E_DENIED, "Only administrators may change %s %s.", str_article(s->noun),
                   s->noun);
}

static bool add_edit(struct control *c, const struct config *view, const json_t *change,
                     bool renames, struct config_edits *e, struct err *err)
{
    const struct section *s = section_arg(change, err);
    const char *given = json_str(change, "name", "-"), *from = json_str(change, "from", NULL);
    json_t *body = json_object_get(change, "body");
    struct row *r = NULL;
    bool ok = true;
    char *name;

    if (!s || !control_may_change(c, s, err))
        return false;
    name = row_canonical(s, given);
    if (renames) { /* first all renames, so that what the request says about the same objects comes
                      on top */
        if (from && json_is_object(body) && strcmp(from, name) != 0) {
            if (!config_row(view, s, from))
                ok = err_set(err, E_NOT_FOUND, "There is no %s %s.", s->noun, str_printable(from));
            else if (config_row(view, s, name))
                ok = err_set(err, E_EXISTS, "There is %s %s %s already.", str_article(s->noun), s->noun,
                             str_printable(name));
            else {
                config_edits_put(e, s, from, NULL);
                move_children(view, s, from, name, e);
                move_references(view, s, from, name, e);
            }
        }
    } else if (json_is_object(body)) {
        r = row_from_json(s, name, body, err);
        ok = r;
        if (ok) {
            row_freeze(r);
            config_edits_put(e, s, r->name, r);
        }
    } else if (!json_is_null(body)) {
        ok = err_set(err, E_USAGE, "%s %s: the body is missing; null deletes.", s->noun,
                     str_printable(name));
    } else if (!config_row(view, s, name) && !config_edits_find(e, s, name)) {
        ok = err_set(err, E_NOT_FOUND, "There is no %s %s.", s->noun, str_printable(name));
    } else if (s->single) {
        r = row_new(s, "-");
        row_freeze(r);
        config_edits_put(e, s, name, r);
    } else {
        config_edits_put(e, s, name, NULL);
        move_children(view, s, name, NULL, e);
    }
    free(name);
    return ok;
}

bool control_stage(struct control *c, struct config_edits *e, uint64_t restores, struct err *err)
{
    struct check check = {0};
    bool ok =
        may_stage(c, e, err) && /* YIELDS when it refuses */
        candidate_stage(*control_candidate(c), e->items, e->n, restores, &check, err); /* YIELDS */

    if (!ok)
        control_put_check(c, &check);
    check_free(&check);
    return ok;
}

static bool do_stage(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const json_t *changes = json_object_get(args, "changes");
    struct config *view = config_ref(candidate_view(*control_candidate(c)));
    struct config_edits edits = {0};
    bool ok =
        json_is_array(changes) || err_set(err, E_USAGE, "config.stage wants an array \"changes\".");

    for (int pass = 0; ok && pass < 2; pass++) {
        for (size_t i = 0; ok && i < json_array_size(changes); i++)
            ok = add_edit(c, view, json_array_get(changes, i), pass == 0, &edits, err);
        ok = ok && (pass || seal_secrets(changes, err)); /* YIELDS */
    }
    ok = ok && control_stage(c, &edits, 0, err);
    if (ok)
        json_put_int(data, "staged", (json_int_t)edits.n);
    config_edits_free(&edits);
    config_free(&view);
    return ok;
}

static bool do_clear(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct candidate *cand = *control_candidate(c);
    size_t n = candidate_count(cand);

    (void)args;
    if (n && !candidate_clear(cand, err)) /* YIELDS */
        return false;
    json_put_int(data, "cleared", (json_int_t)n);
    return true;
}

/* --- differences --- */

/* What a diff shows of a value: secrets by their fingerprint, PEM texts by their size and digest.
 * New. */
static json_t *shown(const struct field *f, const struct row *r)
{
    char *text;
    json_t *j;

    if (!r)
        return json_null();
    text = value_text(f, row_slot(r, f));
    if (f->secret && *text) {
        char *masked = xasprintf("(secret, fingerprint %s)", secret_fingerprint(text));

        j = json_string(masked);
        free(masked);
    } else if (f->type == &type_pem && *text) {
        unsigned char h[32];
        unsigned lines = 0;
        char *masked;

        for (const char *p = text; *p; p++)
            lines += *p == '\n';
        SHA256((unsigned char *)text, strlen(text), h);
        masked = xasprintf("(%u lines, fingerprint c:%02x%02x%02x)", lines, h[0], h[1], h[2]);
        j = json_string(masked);
        free(masked);
    } else {
        j = json_string(text);
    }
    free(text);
    return j;
}

static json_t *diff_fields(const struct change *d)
{
    struct row *plain = d->base ? NULL : row_new(d->section, NULL);
    const struct row *old = d->base ? d->base : plain;
    json_t *fields = json_array();

    for (size_t i = 0; d->now && i < d->section->nfields; i++) {
        const struct field *f = &d->section->fields[i];
        json_t *j;

        if ((f->key && d->base) || f->type->equal(row_slot(old, f), row_slot(d->now, f)))
            continue;
        j = json_object();
        json_put_str(j, "name", f->name);
        json_put_str(j, "label", f->label ? f->label : f->name);
        json_put(j, "old", shown(f, d->base));
        json_put(j, "new", shown(f, d->now));
        json_array_append_new(fields, j);
    }
    row_free(&plain);
    return fields;
}

/* --- renamed objects: to the store, one that went and one that came --- */

#define MOST_COMPARED 2000u /* objects of a difference; in a larger one nobody looks for names */

struct renames {
    const struct change *
        *from; /* by position in the difference: what the new object was before, or NULL */
    bool *told; /* it is part of something that is shown elsewhere */
};

static bool same_but_key(const struct section *s, const struct row *a, const struct row *b)
{
    for (size_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];

        if (!f->key && !f->type->equal(row_slot(a, f), row_slot(b, f)))
            return false;
    }
    return true;
}

/* The change that made the child of `now` that `old`, a child of `was`, has become; NULL: old is no
 * such child. */
static const struct change *moved_child(const struct changes *diff, const struct change *old,
                                        const struct change *was, const struct change *now)
{
    size_t n = strlen(was->name);
    const struct change *found;
    char *name;

    if (old->now || !str_eq(old->section->parent, now->section->name) ||
        strncmp(old->name, was->name, n) != 0 || old->name[n] != '/')
        return NULL;
    name = xasprintf("%s%s", now->name, old->name + n);
    found = changes_find(diff, old->section, name);
    free(name);
    return found && !found->base && found->now ? found : NULL;
}

static bool has_equal_child(const struct changes *diff, const struct change *was,
                            const struct change *now)
{
    for (size_t i = 0; i < diff->n; i++) {
        const struct change *child = moved_child(diff, &diff->items[i], was, now);

        if (child && same_but_key(child->section, diff->items[i].base, child->now))
            return true;
    }
    return false;
}

/* An object is renamed when one that went was the same but for its name, or when its children are.
 */
static void find_owners(const struct changes *diff, struct renames *r)
{
    for (size_t i = 0; i < diff->n; i++) {
        const struct change *now = &diff->items[i];

        if (now->base || !now->now || now->section->parent || now->section->single)
            continue;
        for (size_t k = 0; k < diff->n && !r->from[i]; k++) {
            const struct change *was = &diff->items[k];

            if (was->section == now->section && !was->now && !r->told[k] &&
                (same_but_key(now->section, was->base, now->now) ||
                 has_equal_child(diff, was, now))) {
                r->from[i] = was;
                r->told[k] = true;
            }
        }
    }
}

/* The children of a renamed object went with it: only what else changed in them is shown. */
static void find_children(const struct changes *diff, const struct change *now,
                          const struct change *was, struct renames *r)
{
    for (size_t i = 0; i < diff->n; i++) {
        const struct change *child = moved_child(diff, &diff->items[i], was, now);

        if (!child)
            continue;
        r->told[i] = true;
        r->from[child - diff->items] = &diff->items[i];
        r->told[child - diff->items] =
            same_but_key(child->section, diff->items[i].base, child->now);
    }
}

static void find_renames(const struct changes *diff, struct renames *r)
{
    r->from = xcalloc(diff->n + 1, sizeof(*r->from));
    r->told = xcalloc(diff->n + 1, sizeof(*r->told));
    if (diff->n > MOST_COMPARED)
        return;
    find_owners(diff, r);
    for (size_t i = 0; i < diff->n; i++)
        if (r->from[i] && !diff->items[i].section->parent)
            find_children(diff, &diff->items[i], r->from[i], r);
}

static bool do_diff(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *section = json_str(args, "section", NULL), *name = json_str(args, "name", NULL);
    struct config *from = NULL, *to = NULL;
    struct changes diff = {0};
    struct renames renames;
    json_t *objects = json_array();
    bool ok = control_view(c, args, "from", "running", &from, err) &&
              control_view(c, args, "to", "candidate", &to, err);

    if (ok)
        config_diff(from, to, &diff);
    find_renames(&diff, &renames);
    for (size_t i = 0; i < diff.n; i++) {
        struct change shows = diff.items[i];
        const struct change *d = &shows, *was = renames.from[i];
        json_t *j;
        char *title;

        if (renames.told[i])
            continue;
        if (was)
            shows.base = was->base; /* borrowed */
        if ((section && !str_eq(section, d->section->name)) || (name && !str_eq(name, d->name)))
            continue;
        j = json_object();
        title = row_title(d->section, d->name);
        json_put_str(j, "section", d->section->name);
        json_put_str(j, "command", d->section->command);
        json_put_str(j, "name", d->name);
        json_put_str(j, "title", title);
        if (was && !d->section->parent) {
            json_put_str(j, "kind", "renamed");
            json_put_str(j, "from", was->name);
        } else {
            json_put_str(j, "kind", !d->base ? "new" : !d->now ? "deleted" : "changed");
        }
        json_put(j, "fields", diff_fields(d));
        json_array_append_new(objects, j);
        free(title);
    }
    json_put(data, "objects", objects);
    free(renames.from);
    free(renames.told);
    changes_free(&diff);
    config_free(&from);
    config_free(&to);
    return ok;
}

/* --- conflicts --- */

static bool resolve_one(struct candidate *cand, const struct config *head, const json_t *args,
                        struct changes *fresh, struct err *err)
{
    const struct section *s = section_arg(args, err);
    const char *name = json_str(args, "name", "-"), *field = json_str(args, "field", NULL),
               *take = json_str(args, "take", "");
    bool mine = str_eq(take, "mine");
    const struct field *f = NULL;

    if (!s)
        return false;
    if (!mine && !str_eq(take, "theirs"))
        return err_set(err, E_USAGE, "Take \"mine\" or \"theirs\".");
    if (field && !(f = field_find(s, field)))
        return err_set(err, E_USAGE, "A %s has no field \"%s\".", s->noun, str_printable(field));
    if (!changes_find(&cand->db.changes, s, name))
        return err_set(err, E_NOT_FOUND, "You have not changed %s %s.", s->noun,
                       str_printable(name));
    for (size_t i = 0; i < cand->db.changes.n; i++) {
        const struct change *m = &cand->db.changes.items[i];
        const struct row *theirs = config_row(head, m->section, m->name);
        struct row *base = row_ref(m->base), *now = row_ref(m->now);

        if (m->section == s && str_eq(m->name, name)) {
            if (f && theirs &&
                now) { /* the others' value becomes the one this change starts from */
                struct row *b = base ? row_copy(base) : row_copy(theirs), *n = row_copy(now);

                f->type->release(row_slot(b, f));
                f->type->copy(row_slot(b, f), row_slot(theirs, f));
                if (!mine) {
                    f->type->release(row_slot(n, f));
                    f->type->copy(row_slot(n, f), row_slot(theirs, f));
                }
                row_freeze(b);
                row_freeze(n);
                row_free(&base);
                row_free(&now);
                base = b;
                now = n;
            } else if (mine) {
                row_free(&base);
                base = row_ref((struct row *)theirs);
            } else {
                row_free(&now);
                now = row_ref(base);
            }
        }
        changes_put(fresh, m->section, m->name, base, now);
        row_free(&base);
        row_free(&now);
    }
    return true;
}

static bool do_resolve(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct candidate *cand = *control_candidate(c);
    struct changes fresh = {.base_revision = cand->db.changes.base_revision};
    struct config *head = config_db_head();
    bool ok = resolve_one(cand, head, args, &fresh, err) &&
              candidate_replace(cand, &fresh, err); /* YIELDS */

    if (ok)
        json_put_int(data, "changes", (json_int_t)candidate_count(cand));
    changes_free(&fresh);
    config_free(&head);
    return ok;
}

/* --- commit and history --- */

static json_t *conflicts_json(const struct conflicts *list, bool values)
{
    json_t *a = json_array();

    for (size_t i = 0; i < list->n; i++) {
        const struct conflict *x = &list->items[i];
        char *title = row_title(x->section, x->name);
        json_t *j = json_object();

        json_put_str(j, "section", x->section->name);
        json_put_str(j, "command", x->section->command);
        json_put_str(j, "name", x->name);
        json_put_str(j, "title", title);
        json_put_str(j, "field", x->field ? x->field->name : NULL);
        if (values) {
            json_put_str(j, "was", x->was);
            json_put_str(j, "theirs", x->theirs);
            json_put_str(j, "mine", x->mine);
        }
        json_array_append_new(a, j);
        free(title);
    }
    return a;
}

static bool do_commit(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct db_audit who = control_who(c);
    struct commit k = {.comment = json_str(args, "comment", ""),
                       .keep = json_bool_of(args, "keep", true),
                       .check_only = json_bool_of(args, "check", false),
                       .plan = json_str(args, "plan", NULL),
                       .who = &who,
                       .may = control_role(c) < ROLE_ADMIN ? operator_may : NULL};
    bool ok = commit_run(*control_candidate(c), &k, err); /* YIELDS */

    if (k.conflicts.n)
        control_envelope(c, "conflicts", conflicts_json(&k.conflicts, true));
    control_put_check(c, &k.check);
    json_put(data, "revision", k.revision ? json_integer((json_int_t)k.revision) : NULL);
    json_put(data, "time", k.revision ? date_json(k.time) : NULL);
    json_put_int(data, "time_us", k.time);
    json_put(data, "merged", conflicts_json(&k.merged, false));
    json_put_str(data, "plan", k.plan_id);
    json_put_int(data, "new", k.n_new);
    json_put_int(data, "changed", k.n_changed);
    json_put_int(data, "deleted", k.n_deleted);
    if (ok && k.revision) {
        log_info("PID %lld: User %s commit changes: %s", (long long)control_pid(c), control_user(c),
                 str_printable(k.comment));
        control_notify_others(c, "%s committed revision %llu%s%s", control_user(c),
                              (unsigned long long)k.revision, *k.comment ? ": " : "",
                              str_printable(k.comment));
    } else if (!ok && !k.check_only) {
        control_audit(c, "commit", NULL, "failed", err->text); /* YIELDS */
    }
    commit_clear(&k);
    return ok;
}

struct history_job {
    uint64_t before;
    unsigned limit;
    json_t *out;
};

static bool history_job(sqlite3 *db, void *arg, struct err *err)
{
    struct history_job *j = arg;

    return db_history(db, j->before, j->limit, &j->out, err);
}

static bool do_last(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct history_job j = {.limit = 1};

    (void)c;
    (void)args;
    if (!config_db_call(history_job, &j, err)) /* YIELDS */
        return false;
    json_object_update(data, json_array_get(j.out, 0));
    json_decref(j.out);
    return true;
}

static bool do_history(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t limit = json_int(args, "limit", 100);
    struct history_job j = {.before = (uint64_t)json_int(args, "before", 0),
                            .limit = (unsigned)(limit < 1 || limit > 10000 ? 10000 : limit)};

    (void)c;
    if (!config_db_call(history_job, &j, err)) /* YIELDS */
        return false;
    json_put(data, "revisions", j.out);
    return true;
}

static bool do_rollback(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *target = NULL, *head;
    struct config_edits edits = {0};
    struct changes diff = {0};
    json_int_t revision = json_int(args, "revision", 0);
    bool ok;

    if (candidate_count(*control_candidate(c)))
        return err_set(err, E_BUSY, "You have uncommitted changes; commit or clear them first.");
    if (!config_db_snapshot((uint64_t)revision, &target, err)) /* YIELDS */
        return false;
    head = config_db_head();
    config_diff(head, target, &diff);
    ok =
        control_role(c) >= ROLE_ADMIN || !touches_security(&diff) ||
        err_set(
            err, E_DENIED,
            "The revision has other users, certificates or authentication; only administrators may "
            "go back to it.");
    for (size_t i = 0; i < diff.n; i++)
        config_edits_put(&edits, diff.items[i].section, diff.items[i].name,
                         row_ref(diff.items[i].now));
    ok = ok && (!edits.n || control_stage(c, &edits, (uint64_t)revision, err)); /* YIELDS */
    if (ok)
        json_put_int(data, "staged", (json_int_t)edits.n);
    config_edits_free(&edits);
    changes_free(&diff);
    config_free(&target);
    config_free(&head);
    return ok;
}

const struct control_op control_config_ops[] = {
    {"hello",               ROLE_GUEST,    do_hello    },
    {"candidate.state",     ROLE_GUEST,    do_state    },
    {"candidate.attach",    ROLE_OPERATOR, do_attach   },
    {"candidate.anonymous", ROLE_GUEST,    do_anonymous},
    {"candidate.keep",      ROLE_OPERATOR, do_keep     },
    {"session.who",         ROLE_READONLY, do_who      },
    {"config.get",          ROLE_READONLY, do_get      },
    {"config.list",         ROLE_READONLY, do_list     },
    {"config.stage",        ROLE_OPERATOR, do_stage    },
    {"config.clear",        ROLE_OPERATOR, do_clear    },
    {"config.diff",         ROLE_READONLY, do_diff     },
    {"config.resolve",      ROLE_OPERATOR, do_resolve  },
    {"commit",              ROLE_OPERATOR, do_commit   },
    {"commit.last",         ROLE_READONLY, do_last     },
    {"history",             ROLE_READONLY, do_history  },
    {"rollback",            ROLE_OPERATOR, do_rollback },
    {NULL,                  0,             NULL        },
};
