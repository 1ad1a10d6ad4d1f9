/* smtpauthconfig.c - SMTP Auth profiles: how listeners know who a client is, and who we are at
 * smart hosts; hosts that have guessed too often. A profile has the fields of every kind; only
 * those of its own are asked for and shown. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/common.h"

/* --- kinds ------------------------------------------------------------------------------------ */

static const struct ui_choice kinds[] = {
    {"FORWARD",     "Create an SMTP Auth forwarding server group profile."},
    {"LDAP",        "Create an SMTP Auth LDAP profile."                   },
    {"CERTIFICATE", "Create an SMTP Auth certificate profile."            },
    {"OUTGOING",    "Create an outgoing SMTP Auth profile."               },
    {NULL,          NULL                                                  }
};

static bool is_of_kind(const struct field *f, const struct smtpauth_profile *p)
{
    static const struct {
        const char *field;
        unsigned kinds;
    } own[] = {
        {"query",         1u << SMTPAUTH_LDAP                                                   },
        {"check_allowed", 1u << SMTPAUTH_LDAP                                                   },
        {"refused",       1u << SMTPAUTH_LDAP                                                   },
        {"refused_code",  1u << SMTPAUTH_LDAP                                                   },
        {"refused_text",  1u << SMTPAUTH_LDAP                                                   },
        {"cert_query",    1u << SMTPAUTH_CERTIFICATE                                            },
        {"allow_auth",    1u << SMTPAUTH_CERTIFICATE                                            },
        {"fallback",      1u << SMTPAUTH_CERTIFICATE                                            },
        {"mechanisms",    1u << SMTPAUTH_LDAP | 1u << SMTPAUTH_FORWARD | 1u << SMTPAUTH_OUTGOING},
        {"username",      1u << SMTPAUTH_OUTGOING                                               },
        {"password",      1u << SMTPAUTH_OUTGOING                                               },
    };

    for (size_t i = 0; i < countof(own); i++)
        if (str_eq(f->name, own[i].field))
            return own[i].kinds & 1u << p->kind;
    return true;
}

/* Of those which of them count as things stand. */
static bool counts(const struct field *f, const struct smtpauth_profile *p)
{
    if (!is_of_kind(f, p))
        return false;
    if (str_eq(f->name, "refused"))
        return p->check_allowed;
    if (str_starts(f->name, "refused_"))
        return p->check_allowed && p->refused == SMTPAUTH_REJECT;
    return !str_eq(f->name, "fallback") || p->allow_auth;
}

/* --- which objects ---------------------------------------------------------------------------- */

static bool is_smtpauth_query(const struct row *r)
{
    return ((const struct ldap_query *)r->data)->kind == LDAP_SMTPAUTH;
}

static bool is_certauth_query(const struct row *r)
{
    return ((const struct ldap_query *)r->data)->kind == LDAP_CERTAUTH;
}

/* What may stand in for a certificate that is not there. */
static bool is_fallback(const struct row *r)
{
    const struct smtpauth_profile *p = r->data;

    return p->kind == SMTPAUTH_LDAP || p->kind == SMTPAUTH_FORWARD;
}

struct any {
    bool (*fits)(const struct row *r);
    bool found;
};

static bool look(void *arg, const struct row *r)
{
    struct any *a = arg;

    a->found = a->fits(r);
    return !a->found;
}

static bool there_is(struct session *s, const struct section *sec,
                     bool (*fits)(const struct row *r))
{
    struct any a = {.fits = fits};

    session_each(s, sec, NULL, look, &a);
    return a.found;
}

static void ask_query(struct ui *ui, struct session *s, struct row *r, const char *field,
                      bool (*fits)(const struct row *r), const char *what)
{
    if (ui_failed(ui))
        return;
    if (there_is(s, &section_ldap_query, fits))
        ask_ref(ui, s, r, field, fits, false);
    else
        ui_fail(ui, E_NOT_FOUND,
                "There is no %s query yet. Create one first: ldapconfig, NEW or EDIT, %s.",
                fits == is_certauth_query ? "certificate authentication" : "SMTP authentication",
                what);
}

/* --- forwarding servers ----------------------------------------------------------------------- */

static const char *server_text(const struct smtpauth_server *v, char *out, size_t size)
{
    snprintf(out, size, "%s, %s%s%s, %llu connection%s",
             v->require_tls ? v->verify ? "TLS required, certificate verified"
                                        : "TLS required, certificate not verified"
                            : "TLS not required",
             v->plain ? "PLAIN" : "", v->plain && v->login ? " " : "", v->login ? "LOGIN" : "",
             (unsigned long long)v->max_connections, v->max_connections == 1 ? "" : "s");
    return out;
}

struct naming { /* a server's host, then its port, make its name */
    struct row *row;
    const char *host;
};

static bool accept_server(void *arg, const char *answer, struct err *err)
{
    struct naming *n = arg;
    struct row *trial = row_copy(n->row);
    bool ok = *answer ? row_set(trial, "name", answer, err)
                      : err_set(err, E_INVALID, "A value is required.");

    row_free(&trial);
    return ok;
}

static bool says_port(const char *host)
{
    const char *end = *host == '[' ? strchr(host, ']') : NULL,
               *colon = strchr(end ? end : host, ':');

    return colon && !strchr(colon + 1, ':');
}

static char *with_port(const char *host, uint64_t port)
{
    bool bare = *host != '[' && strchr(host, ':');

    return xasprintf("%s%s%s:%llu", bare ? "[" : "", host, bare ? "]" : "",
                     (unsigned long long)port);
}

static void ask_server_name(struct ui *ui, struct session *s, struct row *r, const char *deflt)
{
    const struct field *f = field_find(&section_smtpauth_server, "name");
    struct naming naming = {.row = r};
    struct ui_question q = {.text = f->prompt,
                            .key = "name",
                            .deflt = deflt,
                            .help = f->help,
                            .accept = accept_server,
                            .arg = &naming};
    bool again;

    do {
        char *host = xstrdup(ui_ask(ui, &q));
        char *name = says_port(host) || ui_failed(ui)
                         ? xstrdup(host)
                         : with_port(host, ask_number(ui, "port", "Enter a port:", 25, 1, 65535));
        struct err err = {0};

        if (!ui_failed(ui) && !row_set(r, "name", name, &err))
            ui_error(ui, &err);
        again = !ui_failed(ui) && session_taken(s, r);
        if (again && ui_interactive(ui))
            ui_say(ui, "The profile has the server %s already.", str_printable(name));
        else if (again)
            ui_fail(ui, E_EXISTS, "The profile has the server %s already.", str_printable(name));
        free(host);
        free(name);
    } while (again && !ui_failed(ui));
}

static void ask_server(struct ui *ui, struct session *s, struct row *r)
{
    const struct smtpauth_server *v = r->data;
    char *now = *row_leaf(r) ? xstrdup(row_leaf(r)) : NULL;

    ask_server_name(ui, s, r, now);
    ask_field(ui, s, r, "source_address");
    ask_field(ui, s, r, "require_tls");
    if (v->require_tls)
        ask_field(ui, s, r, "verify");
    else
        ui_say(ui, "The passwords of users are sent in clear text where the server offers no TLS.");
    ask_field(ui, s, r, "max_connections");
    ask_field(ui, s, r, "plain");
    ask_field(ui, s, r, "login");
    while (!v->plain && !v->login && !ui_failed(ui)) {
        if (!ui_interactive(ui))
            ui_fail(ui, E_INVALID, "One of plain and login must be yes.");
        ui_say(ui, "One of PLAIN and LOGIN is needed.");
        ask_field(ui, s, r, "plain");
        ask_field(ui, s, r, "login");
    }
    free(now);
}

static void server_new(struct ui *ui, struct session *s, struct row *profile)
{
    ask_server(ui, s, session_new(s, &section_smtpauth_server, profile->name));
}

static void server_edit(struct ui *ui, struct session *s, struct row *profile)
{
    struct row *r = ask_row(ui, s, &section_smtpauth_server, profile->name, "edit");

    if (r)
        ask_server(ui, s, r);
}

static void server_delete(struct ui *ui, struct session *s, struct row *profile)
{
    if (session_count(s, &section_smtpauth_server, profile->name) == 1)
        ui_fail(ui, E_INVALID, "It is the only server of the profile; add another one first.");
    else
        dialog_delete(ui, s, profile);
}

struct listing {
    struct ui *ui;
    unsigned n;
};

static bool say_server(void *arg, const struct row *r)
{
    struct listing *l = arg;
    char text[160];

    ui_say(l->ui, "%u. %s (%s)", ++l->n, row_leaf(r), server_text(r->data, text, sizeof(text)));
    return true;
}

static void say_servers(struct ui *ui, struct session *s, const struct row *profile)
{
    struct listing l = {.ui = ui};

    ui_say(ui, "Forwarding servers of %s, in the order in which they are tried:", profile->name);
    session_each(s, &section_smtpauth_server, profile->name, say_server, &l);
    if (!l.n)
        ui_say(ui, "None: nobody can authenticate.");
}

static void place(struct session *s, const char *profile, const char *server, uint64_t position)
{
    char *full = xasprintf("%s/%s", profile, server), number[24];
    struct row *r = session_edit(s, &section_smtpauth_server, full);

    snprintf(number, sizeof(number), "%llu", (unsigned long long)position);
    if (r)
        row_set(r, "position", number, NULL);
    free(full);
}

static void server_move(struct ui *ui, struct session *s, struct row *profile)
{
    AUTO(strlist) struct strlist names = {0};
    char *full = ask_name(ui, s, &section_smtpauth_server, profile->name, "move");
    const char *moved = full ? strchr(full, '/') + 1 : NULL;
    uint64_t before, position = 0;

    session_names(s, &section_smtpauth_server, profile->name, &names);
    if (!moved)
        return;
    before = ask_number(ui, "before",
                        "Enter the number of the server to insert before (0 for end of list).", 0,
                        0, names.n);
    for (size_t i = 0; i <= names.n && !ui_failed(ui); i++) {
        if (i + 1 == (before ? before : names.n + 1))
            place(s, profile->name, moved, ++position);
        if (i < names.n && !str_eq(names.items[i], moved))
            place(s, profile->name, names.items[i], ++position);
    }
    free(full);
}

static void profile_name(struct ui *ui, struct session *s, struct row *profile)
{
    ask_field(ui, s, profile, "name");
}

static void profile_mechanisms(struct ui *ui, struct session *s, struct row *profile)
{
    ask_field(ui, s, profile, "mechanisms");
}

static bool has_servers(struct session *s, const struct row *profile)
{
    return session_count(s, &section_smtpauth_server, profile->name) > 0;
}

static bool has_several(struct session *s, const struct row *profile)
{
    return session_count(s, &section_smtpauth_server, profile->name) > 1;
}

static const struct menu_op forward_ops[] = {
    {"NEW",        "Add a forwarding server.",                  NULL, server_new,         NULL       },
    {"EDIT",       "Modify a forwarding server.",               NULL, server_edit,        has_servers},
    {"DELETE",     "Remove a forwarding server.",               NULL, server_delete,      has_servers},
    {"MOVE",       "Change the order of the servers.",          NULL, server_move,        has_several},
    {"MECHANISMS", "Choose the mechanisms offered to clients.", NULL, profile_mechanisms, NULL       },
    {"NAME",       "Change the name of the profile.",           NULL, profile_name,       NULL       },
};
static const struct menu forward_menu = {say_servers, forward_ops, countof(forward_ops),
                                         &section_smtpauth_server};

/* --- the questions of each kind --------------------------------------------------------------- */

static void ask_forward(struct ui *ui, struct session *s, struct row *profile)
{
    unsigned n = 0;

    if (!ui_failed(ui))
        ui_say(ui, "Please begin entering forwarding servers for this group profile.");
    do {
        struct row *r = session_new(s, &section_smtpauth_server, profile->name);
        char number[16];

        snprintf(number, sizeof(number), "%u", ++n); /* those before are not known outside yet */
        row_set(r, "position", number, NULL);
        ask_server(ui, s, r);
    } while (!ui_failed(ui) &&
             ask_yes(ui, "another",
                     "Would you like to enter another forwarding server to this group?", false));
}

static bool has_allowance(struct session *s, const char *query)
{
    struct row *r = session_get(s, &section_ldap_query, query);
    bool has = r && *((const struct ldap_query *)r->data)->allowance;

    row_free(&r);
    return has;
}

static void ask_ldap(struct ui *ui, struct session *s, struct row *r)
{
    const struct smtpauth_profile *p = r->data;

    ask_query(ui, s, r, "query", is_smtpauth_query, "SMTPAUTH");
    ask_field(ui, s, r, "check_allowed");
    if (p->check_allowed && !has_allowance(s, p->query))
        ui_say(ui,
               "The query %s has no allowance query string: everybody is allowed until it has "
               "one (ldapconfig, EDIT, SMTPAUTH).",
               p->query);
    if (p->check_allowed)
        ask_field(ui, s, r, "refused");
    if (p->check_allowed && p->refused == SMTPAUTH_REJECT) {
        ask_field(ui, s, r, "refused_code");
        ask_field(ui, s, r, "refused_text");
    }
}

static void ask_certificate(struct ui *ui, struct session *s, struct row *r)
{
    const struct smtpauth_profile *p = r->data;

    ask_query(ui, s, r, "cert_query", is_certauth_query, "CERTAUTH");
    ask_field(ui, s, r, "allow_auth");
    if (!p->allow_auth)
        row_set(r, "fallback", "", NULL);
    else
        ask_ref(ui, s, r, "fallback", is_fallback, true);
    if (p->allow_auth && !*p->fallback && !ui_failed(ui))
        ui_say(ui, "Without a profile to use nobody can authenticate by SMTP AUTH. Create one with "
                   "NEW, then EDIT this one.");
}

static void ask_outgoing(struct ui *ui, struct session *s, struct row *r)
{
    ask_needed(ui, r, "username");
    ask_new_secret(ui, s, r, "password", true);
}

static void ask_profile(struct ui *ui, struct session *s, struct row *r)
{
    static void (*const ask[])(struct ui * ui, struct session * s, struct row * r) = {
        [SMTPAUTH_FORWARD] = ask_forward,
        [SMTPAUTH_LDAP] = ask_ldap,
        [SMTPAUTH_CERTIFICATE] = ask_certificate,
        [SMTPAUTH_OUTGOING] = ask_outgoing,
    };

    ask[((const struct smtpauth_profile *)r->data)->kind](ui, s, r);
}

static bool accept_kind(void *arg, const char *answer, struct err *err)
{
    int *kind = arg, n = 0;

    for (int i = 0; kinds[i].word && *answer; i++)
        if (str_istarts(kinds[i].word, answer)) {
            *kind = i;
            n++;
        }
    return n == 1 || !*answer ||
           err_set(err, E_USAGE,
                   "\"%s\" is not one of the types: FORWARD, LDAP, CERTIFICATE, OUTGOING.",
                   str_printable(answer));
}

/* Like a menu, which it looks like: Enter alone goes back. -1 then. */
static int ask_kind(struct ui *ui)
{
    AUTO(buf) struct buf text = BUF_INIT(1000);
    int kind = -1;
    struct ui_question q = {.key = "kind",
                            .help = "Enter goes back.",
                            .choices = kinds,
                            .accept = accept_kind,
                            .arg = &kind};

    buf_str_add(&text, "Choose the type of profile you wish to create:");
    for (size_t i = 0; kinds[i].word; i++)
        buf_printf(&text, "\n- %s - %s", kinds[i].word, kinds[i].text);
    q.text = buf_str(&text);
    ui_ask(ui, &q);
    return ui_failed(ui) ? -1 : kind;
}

static void profile_new(struct ui *ui, struct session *s, struct row *unused)
{
    int kind = ask_kind(ui);
    struct row *r = kind < 0 ? NULL : session_new(s, &section_smtpauth_profile, NULL);

    (void)unused;
    if (!r)
        return;
    row_set(r, "kind", choices_smtpauth_kinds[kind].word, NULL);
    ask_field(ui, s, r, "name");
    if (ui_failed(ui))
        return;
    ask_profile(ui, s, r);
    ui_say(ui,
           kind == SMTPAUTH_OUTGOING
               ? "Profile \"%s\" created. Routes use it that name it: smtproutes."
               : "Profile \"%s\" created. Listeners use it that name it: listenerconfig, EDIT, "
                 "SMTPAUTH.",
           r->name);
}

static bool say_profile(void *arg, const struct row *r)
{
    struct listing *l = arg;

    ui_say(l->ui, "%u. %s (%s)", ++l->n, r->name,
           choices_smtpauth_kinds[((const struct smtpauth_profile *)r->data)->kind].text);
    return true;
}

/* With the names before the question, unless the line says it. */
static char *ask_profile_name(struct ui *ui, struct session *s, const char *verb)
{
    struct listing l = {.ui = ui};

    if (ui_interactive(ui) && !ui_peek(ui, 0))
        session_each(s, &section_smtpauth_profile, NULL, say_profile, &l);
    return ask_name(ui, s, &section_smtpauth_profile, NULL, verb);
}

static void profile_edit(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_profile_name(ui, s, "edit");
    struct row *r = name ? session_edit(s, &section_smtpauth_profile, name) : NULL;

    (void)unused;
    free(name);
    if (!r)
        return;
    if (((const struct smtpauth_profile *)r->data)->kind == SMTPAUTH_FORWARD) {
        run_menu(ui, s, &forward_menu, r);
        return;
    }
    ask_field(ui, s, r, "name");
    ask_profile(ui, s, r);
    if (is_fallback(r))
        ask_field(ui, s, r, "mechanisms");
}

static void profile_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_profile_name(ui, s, "delete");

    (void)unused;
    if (name && ask_deletable(ui, s, &section_smtpauth_profile, name, NULL)) {
        session_delete(s, &section_smtpauth_profile, name);
        ui_say(ui, "Profile \"%s\" deleted.", name);
    }
    free(name);
}

static void profile_clear(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};

    (void)unused;
    session_names(s, &section_smtpauth_profile, NULL, &names);
    if (!ask_confirm(ui, "confirm", "Are you sure you want to delete all SMTP Auth profiles?",
                     false))
        return;
    for (size_t i = 0; i < names.n; i++)
        if (ask_deletable(ui, s, &section_smtpauth_profile, names.items[i],
                          &section_smtpauth_profile)) /* those go as well */
            session_delete(s, &section_smtpauth_profile, names.items[i]);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void say_count(struct ui *ui, struct session *s, const struct row *unused)
{
    (void)unused;
    ui_say(ui, "There are currently %zu SMTP Auth profiles configured.",
           session_count(s, &section_smtpauth_profile, NULL));
}

static bool add_server(void *arg, const struct row *r)
{
    json_array_append_new(arg, json_string(row_leaf(r)));
    return true;
}

/* What there is to know of a profile in a few words. */
static char *summary(struct session *s, const struct row *r, const struct json_t *servers)
{
    const struct smtpauth_profile *p = r->data;
    AUTO(buf) struct buf text = BUF_INIT(8000);
    json_t *v;
    size_t i;

    (void)s;
    switch ((enum smtpauth_kinds)p->kind) {
    case SMTPAUTH_FORWARD:
        json_array_foreach(servers, i, v)
            buf_printf(&text, "%s%s", i ? ", " : "", json_string_value(v));
        break;
    case SMTPAUTH_LDAP:
        buf_printf(&text, "query %s", p->query);
        if (p->check_allowed && p->refused == SMTPAUTH_REJECT)
            buf_printf(&text, ", not allowed: %llu", (unsigned long long)p->refused_code);
        else if (p->check_allowed)
            buf_str_add(&text, ", not allowed: monitored");
        break;
    case SMTPAUTH_CERTIFICATE:
        buf_printf(&text, "query %s, ", p->cert_query);
        if (p->allow_auth && *p->fallback)
            buf_printf(&text, "else %s", p->fallback);
        else
            buf_str_add(&text, p->allow_auth ? "else SMTP AUTH, no profile" : "no SMTP AUTH");
        break;
    case SMTPAUTH_OUTGOING:
        buf_printf(&text, "username %s", p->username);
        break;
    }
    return xstrdup(buf_str(&text));
}

struct printing {
    struct session *s;
    struct ui *ui;
    struct out_table *table;
};

/* Fields of its kind alone; a secret is never shown. */
static json_t *record_of(struct session *s, const struct row *r)
{
    const struct smtpauth_profile *p = r->data;
    json_t *o = json_object(), *servers = json_array();
    const struct section *sec = r->section;

    for (size_t i = 0; i < sec->nfields; i++) {
        const struct field *f = &sec->fields[i];

        if (f->secret)
            continue;
        if (is_of_kind(f, p))
            json_put(o, f->name, f->type->to_json(f, row_slot(r, f)));
    }
    if (p->kind == SMTPAUTH_FORWARD)
        session_each(s, &section_smtpauth_server, r->name, add_server, servers);
    if (p->kind == SMTPAUTH_FORWARD)
        json_object_set(o, "servers", servers);
    json_decref(servers);
    return o;
}

static bool print_one(void *arg, const struct row *r)
{
    struct printing *p = arg;
    json_t *o = record_of(p->s, r);

    if (!out_json(p->ui)) {
        char *text = summary(p->s, r, json_object_get(o, "servers"));

        json_put_str(o, "type",
                     choices_smtpauth_kinds[((const struct smtpauth_profile *)r->data)->kind].text);
        json_put_str(o, "summary", text);
        free(text);
    }
    out_table_row(p->table, o);
    return !out_stopped(p->ui);
}

static void print_all(struct ui *ui, struct session *s)
{
    static const struct out_column columns[] = {
        {"Name",     "name",    0, false},
        {"Type",     "type",    0, false},
        {"Settings", "summary", 0, false},
    };
    struct printing p = {.s = s, .ui = ui};

    if (!ui_end_of_words(ui))
        return;
    p.table = out_table_new(ui, "profiles", columns, countof(columns), '=');
    session_each(s, &section_smtpauth_profile, NULL, print_one, &p);
    out_table_end(&p.table);
}

static bool print_server(void *arg, const struct row *r)
{
    struct listing *l = arg;
    char text[160];

    out_line(l->ui, "Server: %s (%s)", row_leaf(r), server_text(r->data, text, sizeof(text)));
    return true;
}

static void print_detail(struct ui *ui, struct session *s, const char *name)
{
    struct row *r = ui_end_of_words(ui) ? session_get(s, &section_smtpauth_profile, name) : NULL;
    struct listing l = {.ui = ui};

    if (!r) {
        ui_fail(ui, E_NOT_FOUND, "There is no SMTP Auth profile \"%s\".", str_printable(name));
        return;
    }
    for (size_t i = 0; i < r->section->nfields && !out_json(ui); i++) {
        const struct field *f = &r->section->fields[i];
        const char *text = row_text(r, f->name);

        if (!counts(f, r->data))
            continue;
        if (f->secret)
            text = *text ? "(set)" : "(none)";
        else if (f->type == &type_choice)
            text = f->choices[*(const int *)row_slot(r, f)].text;
        else if (f->type == &type_boolean)
            text = *(const bool *)row_slot(r, f) ? "Yes" : "No";
        out_line(ui, "%s: %s", f->label, str_printable(text));
    }
    if (!out_json(ui))
        session_each(s, &section_smtpauth_server, r->name, print_server, &l);
    out_data(ui, record_of(s, r));
    row_free(&r);
}

static void profile_print(struct ui *ui, struct session *s, struct row *unused)
{
    const char *name = ui_word(ui);
    AUTO(str) char *kept = name ? xstrdup(name) : NULL;

    (void)unused;
    if (kept)
        print_detail(ui, s, kept);
    else
        print_all(ui, s);
}

/* --- who has guessed too often ---------------------------------------------------------------- */

static void locked(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Address",    "address",  0, false},
        {"Failures",   "failures", 0, true },
        {"Last User",  "user",     0, false},
        {"Locked For", "left",     0, false},
    };
    json_t *data = ui_end_of_words(ui) ? session_call(s, ui, "auth.locked", json_object()) : NULL,
           *hosts = json_object_get(data, "hosts"), *h;
    struct out_table *t;
    size_t i;

    (void)unused;
    if (!data)
        return;
    if (!json_array_size(hosts) && !out_json(ui)) {
        out_line(ui, "No host is locked out.");
    } else {
        t = out_table_new(ui, "hosts", columns, countof(columns), '=');
        json_array_foreach(hosts, i, h)
        {
            char left[100];

            age_text(json_int(h, "seconds", 0), left, sizeof(left));
            if (!out_json(ui))
                json_put_str(h, "left", left);
            out_table_row(t, json_incref(h));
        }
        out_table_end(&t);
    }
    json_decref(data);
}

static void unlock(struct ui *ui, struct session *s, struct row *unused)
{
    char *address =
        xstrdup(ask_some(ui, "address", "Enter the IP address of the host to unlock, or \"all\"."));
    json_t *args = json_object(), *data = NULL;

    (void)unused;
    json_put_str(args, "address", address);
    if (!ui_failed(ui) && ui_end_of_words(ui))
        data = session_call(s, ui, "auth.unlock", json_incref(args));
    if (data) {
        json_int_t n = json_int(data, "unlocked", 0);

        if (n)
            ui_changed(ui);
        if (str_ieq(address, "all"))
            ui_say(ui, "%lld host%s unlocked.", (long long)n, n == 1 ? " was" : "s were");
        else
            ui_say(ui, n ? "%s was unlocked." : "%s is not locked out.", str_printable(address));
        out_data(ui, data);
    }
    json_decref(args);
    free(address);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new SMTP Auth profile.",                   NULL, profile_new,    NULL      },
    {"EDIT",   "Edit an existing SMTP Auth profile.",               NULL, profile_edit,   dialog_any},
    {"PRINT",  "List all profiles.",                                NULL, profile_print,  dialog_any},
    {"DELETE", "Delete a profile.",                                 NULL, profile_delete, dialog_any},
    {"CLEAR",  "Delete all profiles.",                              NULL, profile_clear,  dialog_any},
    {"LOCKED", "List the hosts locked out for failed SMTP AUTH.",   NULL, locked,         NULL      },
    {"UNLOCK", "Let a host that is locked out authenticate again.", NULL, unlock,         NULL      },
};
static const struct menu main_menu = {say_count, main_ops, countof(main_ops),
                                      &section_smtpauth_profile};

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    if (words->n == 1 && str_ieq(words->items[0], "unlock"))
        offer(out, "all", "Every host that is locked out.");
}

const struct command cmd_smtpauthconfig = {
    .name = "smtpauthconfig",
    .help = "Configure SMTP Auth profiles",
    .detail =
        "A profile of the kind ldap asks a directory for the password of SMTP AUTH (a query of "
        "ldapconfig); certificate asks a directory whose certificate the client has shown, and can "
        "leave those without one to another profile; forward tries the password at other SMTP "
        "servers, one after another. A listener uses the profile that is chosen there "
        "(listenerconfig edit NAME smtp_auth=PROFILE), when the mail flow policy allows or "
        "requires "
        "SMTP authentication. outgoing holds the name and password shown at a smart host "
        "(smtproutes edit DOMAIN auth_profile=PROFILE). Of the fields those of the other kinds are "
        "not used. A host that fails too often is locked out for a while; the limits are those of "
        "listenerconfig setup.",
    .usage = "smtpauthconfig print [NAME]\n"
             "smtpauthconfig clear --yes\n"
             "smtpauthconfig locked\n"
             "smtpauthconfig unlock ADDRESS|all\n"
             "smtpauthconfig server new PROFILE/HOST:PORT [FIELD=VALUE ...]",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_smtpauth_profile,
    .menu = &main_menu,
    .complete = complete,
};
