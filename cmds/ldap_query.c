/* ldap_query.c - ldapconfig > EDIT > SMTPAUTH and CERTAUTH: the queries of a server, usually one of
 * each kind; and QUERY, those of all servers. */
#include <stdio.h>
#include <stdlib.h>

#include "cmds/ldap.h"
#include "store/ldap_presets.h"

static const struct ldap_query *query_of(const struct row *r)
{
    return r->data;
}

static const struct ldap_preset *preset_of(struct session *s, const char *server)
{
    struct row *r = session_get(s, &section_ldap_server, server);
    const struct ldap_preset *p = ldap_preset(
        r ? (enum ldap_types)((const struct ldap_server *)r->data)->server_type : LDAP_OTHER);

    row_free(&r);
    return p;
}

/* SERVER.smtpauth, or the next that is free: SERVER.smtpauth2 */
static void name_it(struct session *s, struct row *r)
{
    const struct ldap_query *q = query_of(r);
    char *name = xasprintf("%s.%s", q->server, choices_ldap_query_kinds[q->kind].word);

    for (int n = 2; has_name(s, &section_ldap_query, NULL, name); n++) {
        free(name);
        name = xasprintf("%s.%s%d", q->server, choices_ldap_query_kinds[q->kind].word, n);
    }
    row_set(r, "name", name, NULL);
    free(name);
}

static void start_with(struct session *s, struct row *r)
{
    const struct ldap_query *q = query_of(r);
    const struct ldap_preset *p = preset_of(s, q->server);
    bool certificates = q->kind == LDAP_CERTAUTH;

    name_it(s, r);
    row_set(r, "filter", certificates ? p->certauth_filter : p->smtpauth_filter, NULL);
    row_set(r, "fields", p->certauth_fields, NULL);
    row_set(r, "user_attribute", p->user_attribute, NULL);
    row_set(r, "password_attribute", p->password_attribute, NULL);
}

/* --- the questions ---------------------------------------------------------------------------- */

static void ask_smtpauth(struct ui *ui, struct session *s, struct row *r, bool edited)
{
    ask_field_as(ui, s, r, "filter", "Enter the query string (Ex: \"(uid={u})\"):");
    if (edited)
        ask_field(ui, s, r, "base");
    ask_field(ui, s, r, "method");
    if (query_of(r)->method == LDAP_METHOD_ATTRIBUTE)
        ask_field(ui, s, r, "password_attribute");
    ask_field(ui, s, r, "allowance");
}

static void ask_certauth(struct ui *ui, struct session *s, struct row *r, bool edited)
{
    ask_field(ui, s, r, "fields");
    ask_field_as(ui, s, r, "filter", "Enter the query string:");
    if (edited)
        ask_field(ui, s, r, "base");
    ask_field(ui, s, r, "user_attribute");
}

static void ask_rest(struct ui *ui, struct session *s, struct row *r, bool edited)
{
    ask_field(ui, s, r, "name");
    if (query_of(r)->kind == LDAP_CERTAUTH)
        ask_certauth(ui, s, r, edited);
    else
        ask_smtpauth(ui, s, r, edited);
    if (ui_interactive(ui) && !ui_failed(ui) &&
        ask_yes(ui, "test", "Do you want to test this query?", true)) {
        ldap_try_query(ui, s, r->name);
        ui_say(ui, "%s", "");
    }
}

static void create(struct ui *ui, struct session *s, const char *server,
                   enum ldap_query_kinds which)
{
    struct row *r = session_new(s, &section_ldap_query, NULL);

    row_set(r, "server", server, NULL);
    row_set(r, "kind", choices_ldap_query_kinds[which].word, NULL);
    start_with(s, r);
    ask_rest(ui, s, r, false);
    ui_say(ui, "Query \"%s\" created. SMTP Auth profiles use it that name it: smtpauthconfig.",
           r->name);
}

static void edit(struct ui *ui, struct session *s, char *name)
{
    struct row *r = name ? session_edit(s, &section_ldap_query, name) : NULL;

    if (r)
        ask_rest(ui, s, r, true);
    free(name);
}

static void drop(struct ui *ui, struct session *s, char *name)
{
    if (name && ask_deletable(ui, s, &section_ldap_query, name, NULL)) {
        session_delete(s, &section_ldap_query, name);
        ui_say(ui, "Query \"%s\" deleted.", name);
    }
    free(name);
}

/* --- the queries of one kind of one server ---------------------------------------------------- */

static enum ldap_query_kinds kind; /* which of the two menus runs: they are the same otherwise */

static void of_kind(struct session *s, const struct row *server, struct strlist *out)
{
    ldap_queries(s, server->name, kind, out);
}

static char *pick(struct ui *ui, struct session *s, const struct row *server, const char *verb)
{
    AUTO(strlist) struct strlist names = {0};
    char *question = xasprintf("Select the query you wish to %s:", verb), *name;

    of_kind(s, server, &names);
    if (!names.n)
        ui_fail(ui, E_NOT_FOUND, "The server %s has no such query.", server->name);
    name = ldap_ask_query(ui, s, &names, question);
    free(question);
    return name;
}

static void say_query(struct ui *ui, const struct row *r)
{
    const struct ldap_query *q = query_of(r);

    ui_say(ui, "Name: %s", q->name);
    if (q->kind == LDAP_CERTAUTH)
        ui_say(ui, "Certificate Fields: %s", row_text(r, "fields"));
    ui_say(ui, "Query String: %s", str_printable(q->filter));
    if (*q->base)
        ui_say(ui, "Base: %s", str_printable(q->base));
    if (q->kind == LDAP_CERTAUTH) {
        ui_say(ui, "User ID Attribute: %s", q->user_attribute);
    } else {
        ui_say(ui, "Authentication Method: %s", choices_ldap_methods[q->method].text);
        if (q->method == LDAP_METHOD_ATTRIBUTE)
            ui_say(ui, "Password Attribute: %s", q->password_attribute);
        ui_say(ui, "Allowance Query String: %s",
               *q->allowance ? str_printable(q->allowance) : "(none)");
    }
}

static void say_kind(struct ui *ui, struct session *s, const struct row *server)
{
    AUTO(strlist) struct strlist names = {0};

    of_kind(s, server, &names);
    if (!names.n)
        ui_say(ui, "The server %s has no query for this.", server->name);
    for (size_t i = 0; i < names.n; i++) {
        struct row *r = session_get(s, &section_ldap_query, names.items[i]);

        if (i)
            ui_say(ui, "%s", "");
        if (r)
            say_query(ui, r);
        row_free(&r);
    }
}

static bool kind_any(struct session *s, const struct row *server)
{
    AUTO(strlist) struct strlist names = {0};

    of_kind(s, server, &names);
    return names.n;
}

static void kind_new(struct ui *ui, struct session *s, struct row *server)
{
    create(ui, s, server->name, kind);
}

static void kind_edit(struct ui *ui, struct session *s, struct row *server)
{
    edit(ui, s, pick(ui, s, server, "edit"));
}

static void kind_test(struct ui *ui, struct session *s, struct row *server)
{
    AUTO(str) char *name = pick(ui, s, server, "test");

    if (name && !ldap_try_query(ui, s, name) && !ui_interactive(ui) && !ui_failed(ui))
        ui_unsuccessful(ui);
}

static void kind_delete(struct ui *ui, struct session *s, struct row *server)
{
    drop(ui, s, pick(ui, s, server, "delete"));
}

static const struct menu_op kind_ops[] = {
    {"EDIT",   "Modify a query.",       NULL, kind_edit,   kind_any},
    {"TEST",   "Test a query.",         NULL, kind_test,   kind_any},
    {"DELETE", "Remove a query.",       NULL, kind_delete, kind_any},
    {"NEW",    "Create another query.", NULL, kind_new,    NULL    },
};
static const struct menu kind_menu = {say_kind, kind_ops, countof(kind_ops), &section_ldap_query};

/* The first query is asked for at once. */
static void run_kind(struct ui *ui, struct session *s, struct row *server)
{
    if (!kind_any(s, server) && !ui_peek(ui, 0))
        kind_new(ui, s, server);
    else
        run_menu(ui, s, &kind_menu, server);
}

void ldap_smtpauth(struct ui *ui, struct session *s, struct row *server)
{
    kind = LDAP_SMTPAUTH;
    run_kind(ui, s, server);
}

void ldap_certauth(struct ui *ui, struct session *s, struct row *server)
{
    kind = LDAP_CERTAUTH;
    run_kind(ui, s, server);
}

/* --- the queries of all servers --------------------------------------------------------------- */

static bool say_one(void *arg, const struct row *r)
{
    struct {
        struct ui *ui;
        unsigned n;
    } *at = arg;
    const struct ldap_query *q = query_of(r);

    ui_say(at->ui, "%u. %s: %s of %s, %s", ++at->n, q->name, choices_ldap_query_kinds[q->kind].text,
           q->server, str_printable(q->filter));
    return true;
}

static void say_queries(struct ui *ui, struct session *s, const struct row *unused)
{
    struct {
        struct ui *ui;
        unsigned n;
    } at = {ui, 0};

    (void)unused;
    if (session_count(s, &section_ldap_query, NULL))
        ui_say(ui, "Current LDAP queries:");
    else
        ui_say(ui, "No LDAP queries.");
    session_each(s, &section_ldap_query, NULL, say_one, &at);
}

static void query_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r;

    (void)unused;
    if (!session_count(s, &section_ldap_server, NULL)) {
        ui_fail(ui, E_NOT_FOUND, "There is no LDAP server configuration to ask; create one first.");
        return;
    }
    r = session_new(s, &section_ldap_query, NULL);
    if (ui_peek(ui, 0)) { /* "ldapconfig query new NAME" */
        AUTO(str) char *name = xstrdup(ui_word(ui));
        struct err err = {0};

        if (!row_set(r, "name", name, &err))
            ui_error(ui, &err);
        else if (session_taken(s, r))
            ui_fail(ui, E_EXISTS, "An LDAP query \"%s\" exists already.", str_printable(name));
    }
    ask_field(ui, s, r, "server");
    ask_field(ui, s, r, "kind");
    if (!ui_failed(ui)) {
        AUTO(str) char *name = xstrdup(row_text(r, "name"));

        start_with(s, r);
        if (*name)
            row_set(r, "name", name, NULL);
    }
    ask_rest(ui, s, r, false);
}

static void query_edit(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    edit(ui, s, ask_name(ui, s, &section_ldap_query, NULL, "edit"));
}

static void query_delete(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    drop(ui, s, ask_name(ui, s, &section_ldap_query, NULL, "delete"));
}

static const struct menu_op query_ops[] = {
    {"NEW",    "Create a new query.", NULL, query_new,    NULL      },
    {"EDIT",   "Modify a query.",     NULL, query_edit,   dialog_any},
    {"TEST",   "Test a query.",       NULL, ldap_test,    dialog_any},
    {"DELETE", "Remove a query.",     NULL, query_delete, dialog_any},
};
const struct menu ldap_query_menu = {say_queries, query_ops, countof(query_ops),
                                     &section_ldap_query};
