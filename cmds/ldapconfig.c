/* ldapconfig.c - directories: how they are reached, and the menu of one. Their queries are in
 * ldap_query.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/ldap.h"
#include "store/ldap_presets.h"

static const struct ldap_server *server_of(const struct row *r)
{
    return r->data;
}

/* What "default" stands for. */
static unsigned usual_port(const struct ldap_server *l)
{
    return l->security == LDAP_LDAPS ? 636 : 389;
}

static unsigned port_of(const struct ldap_server *l)
{
    return l->port ? (unsigned)l->port : usual_port(l);
}

/* --- summaries -------------------------------------------------------------------------------- */

/* "HOST:PORT", as it is or with the port of all of them. */
static void put_host(const struct ldap_server *l, const char *host, struct buf *out)
{
    const char *end = *host == '[' ? strchr(host, ']') : NULL,
               *colon = strchr(end ? end : host, ':');

    if (colon && !strchr(colon + 1, ':'))
        buf_str_add(out, host);
    else if (colon && !end)
        buf_printf(out, "[%s]:%u", host, port_of(l));
    else
        buf_printf(out, "%s:%u", host, port_of(l));
}

struct listing {
    struct ui *ui;
    unsigned n;
};

static bool list_server(void *arg, const struct row *r)
{
    const struct ldap_server *l = server_of(r);
    AUTO(buf) struct buf hosts = BUF_INIT(64u << 10);
    struct listing *p = arg;

    for (size_t i = 0; i < l->hosts.n; i++) {
        buf_str_add(&hosts, i ? ", " : "");
        put_host(l, l->hosts.items[i], &hosts);
    }
    ui_say(p->ui, "%u. %s: (%s)", ++p->n, l->name, buf_str(&hosts));
    return true;
}

static void say_servers(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    if (!session_count(s, &section_ldap_server, NULL)) {
        ui_say(ui, "No LDAP server configurations.");
        return;
    }
    ui_say(ui, "Current LDAP server configurations:");
    session_each(s, &section_ldap_server, NULL, list_server, &p);
}

static void say_queries(struct ui *ui, struct session *s, const struct row *server,
                        enum ldap_query_kinds kind, const char *title)
{
    AUTO(strlist) struct strlist names = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10);

    ldap_queries(s, server->name, kind, &names);
    strlist_join(&names, ", ", &all);
    if (names.n)
        ui_say(ui, "%s: %s", title, buf_str(&all));
}

static void say_server(struct ui *ui, struct session *s, const struct row *r)
{
    const struct ldap_server *l = server_of(r);

    ui_say(ui, "Name: %s", l->name);
    ui_say(ui, "Hostname: %s Port %u", row_text(r, "hosts"), port_of(l));
    if (l->hosts.n > 1)
        ui_say(ui, "Several Hosts: %s", choices_ldap_orders[l->order].text);
    ui_say(ui, "Security: %s%s", choices_ldap_securities[l->security].text,
           l->security == LDAP_CLEAR ? ""
           : l->verify               ? ", server certificate verified"
                                     : ", server certificate not verified");
    ui_say(ui, "Server Type: %s", choices_ldap_types[l->server_type].text);
    ui_say(ui, "Authentication Type: %s%s%s", choices_ldap_binds[l->auth].word,
           l->auth == LDAP_BIND_PASSWORD ? ", as " : "",
           l->auth == LDAP_BIND_PASSWORD ? str_printable(l->bind_dn) : "");
    ui_say(ui, "Base: %s", *l->base ? str_printable(l->base) : "NONE");
    say_queries(ui, s, r, LDAP_SMTPAUTH, "SMTP Authentication Query");
    say_queries(ui, s, r, LDAP_CERTAUTH, "Certificate Authentication Query");
}

/* --- trying ----------------------------------------------------------------------------------- */

static bool print_line(void *arg, const json_t *data)
{
    struct ui *ui = arg;
    AUTO(buf) struct buf line = BUF_INIT(4096);

    if (out_json(ui)) {
        out_stream(ui, "", json_deep_copy(data));
    } else {
        str_escape_again(&line, json_str(data, "line", ""), strlen(json_str(data, "line", "")));
        out_item(ui, "", buf_str(&line));
    }
    return !out_stopped(ui);
}

static bool connect_now(struct ui *ui, struct session *s, const struct row *r)
{
    json_t *args = json_object(), *data;
    struct err err;
    bool ok;

    json_put_str(args, "server", r->name);
    ui_say(ui, "Connecting to the LDAP server, please wait...");
    data = session_stream_trial(s, ui, "ldap.check", args, print_line, ui, &err);
    if (!data && err.code && ui_interactive(ui))
        ui_say(ui, "%s", err.text); /* the questions go on */
    else if (!data && err.code)
        ui_error(ui, &err);
    ok = json_bool_of(data, "success", false);
    json_decref(data);
    return ok;
}

/* --- the questions ---------------------------------------------------------------------------- */

static bool any_certificate(const struct row *unused)
{
    (void)unused;
    return true;
}

/* One is shown to all directories: it is asked for here where there is none yet. */
static void ask_certificate(struct ui *ui, struct session *s)
{
    struct row *setup = session_edit(s, &section_ldap_setup, "-");

    if (setup && *row_text(setup, "certificate"))
        ui_say(ui, "The certificate shown to LDAP servers is %s; SETUP changes it.",
               row_text(setup, "certificate"));
    else if (setup)
        ask_ref(ui, s, setup, "certificate", any_certificate, false);
}

static void ask_bind(struct ui *ui, struct session *s, struct row *r)
{
    const struct ldap_server *l = server_of(r);
    const struct field *f = field_find(&section_ldap_server, "auth");
    struct ui_choice choices[4] = {0};
    int chosen;

    for (int i = 0; i < 3; i++) /* a certificate is shown in TLS alone */
        if (i != LDAP_BIND_EXTERNAL || l->security != LDAP_CLEAR)
            choices[i] = (struct ui_choice){choices_ldap_binds[i].word, choices_ldap_binds[i].text};
    chosen =
        ask_choice(ui, "auth", f->prompt, choices,
                   l->auth == LDAP_BIND_EXTERNAL && l->security == LDAP_CLEAR ? 0 : (int)l->auth);
    row_set(r, "auth", choices[chosen].word, NULL);
    if (l->auth == LDAP_BIND_PASSWORD) {
        ask_needed(ui, r, "bind_dn");
        ask_new_secret(ui, s, r, "bind_password", false);
    } else if (l->auth == LDAP_BIND_EXTERNAL) {
        ask_certificate(ui, s);
    }
}

/* dc=lab,dc=example of gw.lab.example: the usual base of the organisation that this gateway is of.
 */
static char *likely_base(struct session *s, const struct ldap_preset *p)
{
    const char *dot = strchr(session_hostname(s), '.');
    AUTO(strlist) struct strlist labels = {0};
    AUTO(buf) struct buf base = BUF_INIT(2000);

    if (!dot || !strchr(dot + 1, '.'))
        return xstrdup(p->base);
    strlist_split(&labels, dot + 1, '.');
    for (size_t i = 0; i < labels.n; i++)
        buf_printf(&base, "%sdc=%s", i ? "," : "", labels.items[i]);
    return xstrdup(buf_str(&base));
}

/* What a server of its type and security usually listens on. */
static unsigned likely_port(const struct ldap_server *l)
{
    const struct ldap_preset *p = ldap_preset((enum ldap_types)l->server_type);
    unsigned port = l->security == LDAP_LDAPS ? p->ldaps_port : p->port;

    return port ? port : usual_port(l);
}

/* usual: it is what it usually is, so that a new type or security may change it. */
static void ask_port(struct ui *ui, struct row *r, bool usual)
{
    const struct ldap_server *l = server_of(r);
    uint64_t port = ask_number(ui, "port", field_find(&section_ldap_server, "port")->prompt,
                               usual ? likely_port(l) : port_of(l), 1, 65535);
    char number[24];

    snprintf(number, sizeof(number), "%llu",
             (unsigned long long)(port == usual_port(l) ? 0 : port));
    if (!ui_failed(ui))
        row_set(r, "port", number, NULL);
}

/* NONE is no base, as "" is. */
static void ask_base(struct ui *ui, struct session *s, struct row *r, bool fresh)
{
    if (fresh && !*row_text(r, "base")) {
        char *base = likely_base(s, ldap_preset((enum ldap_types)server_of(r)->server_type));

        row_set(r, "base", base, NULL);
        free(base);
    }
    ask_field(ui, s, r, "base");
    if (str_eq(row_text(r, "base"), "NONE"))
        row_set(r, "base", "", NULL);
}

static bool ask_connect(struct ui *ui, struct session *s, const struct row *r)
{
    return !ui_interactive(ui) || ui_failed(ui) ||
           !ask_yes(ui, "connect", "Connect to LDAP server to validate setting?", true) ||
           connect_now(ui, s, r);
}

static void ask_server(struct ui *ui, struct session *s, struct row *r, bool fresh)
{
    const struct ldap_server *l = server_of(r);
    uint64_t port = l->port;
    bool usual = fresh || port_of(l) == likely_port(l), reached;

    ask_field(ui, s, r, "name");
    ask_field(ui, s, r, "hosts");
    if (l->hosts.n > 1)
        ask_field(ui, s, r, "order");
    ask_field(ui, s, r, "security");
    if (l->security != LDAP_CLEAR)
        ask_field(ui, s, r, "verify");
    else
        ui_say(ui, "Passwords of users cross the network to this server in clear text.");
    ask_bind(ui, s, r);
    reached = ask_connect(ui, s, r);
    ask_field(ui, s, r, "server_type");
    ask_port(ui, r, usual);
    ask_base(ui, s, r, fresh);
    if (!reached || l->port != port)
        ask_connect(ui, s, r);
}

/* --- the menu of one server ------------------------------------------------------------------- */

static void server_edit(struct ui *ui, struct session *s, struct row *r)
{
    ask_server(ui, s, r, false);
}

/* Every host, then what else can be tried: the queries. */
static void server_test(struct ui *ui, struct session *s, struct row *r)
{
    AUTO(strlist) struct strlist names = {0};

    if (!ui_peek(ui, 0) && !connect_now(ui, s, r) && !ui_interactive(ui) && !ui_failed(ui))
        ui_unsuccessful(ui);
    ldap_queries(s, r->name, -1, &names);
    if (names.n && !ui_failed(ui) && (ui_interactive(ui) || ui_peek(ui, 0)))
        ldap_test(ui, s, r);
}

static const struct menu_op server_ops[] = {
    {"SERVER",   "Change the server for the query.",      NULL,     server_edit,   NULL},
    {"TEST",     "Test the server configuration.",        NULL,     server_test,   NULL},
    {"SMTPAUTH", "Configure SMTP authentication.",        NULL,     ldap_smtpauth, NULL},
    {"CERTAUTH", "Configure certificate authentication.", NULL,     ldap_certauth, NULL},
    {"LIMITS",   "Change timeouts and connections.",      "LIMITS", NULL,          NULL},
    {"CACHE",    "Change how answers are remembered.",    "CACHE",  NULL,          NULL},
};
static const struct menu server_menu = {say_server, server_ops, countof(server_ops),
                                        &section_ldap_server};

static void main_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_ldap_server, NULL);

    (void)unused;
    ask_server(ui, s, r, true);
    if (ui_interactive(ui) && !ui_failed(ui) && session_flush(s, ui))
        run_menu(ui, s, &server_menu, r);
}

static void main_edit(struct ui *ui, struct session *s, struct row *unused)
{
    const char *word = ui_word(ui); /* first: "name=" further on is that of a query */
    AUTO(str) char *name = word ? xstrdup(word) : NULL;
    struct row *r = name ? session_edit(s, &section_ldap_server, name)
                         : ask_row(ui, s, &section_ldap_server, NULL, "edit");

    (void)unused;
    if (r)
        run_menu(ui, s, &server_menu, r);
    else if (name)
        ui_fail(ui, E_NOT_FOUND, "There is no LDAP server configuration \"%s\".",
                str_printable(name));
}

/* The queries of a server go with it, unless a profile uses one of them. */
static void main_delete(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(str) char *name = ask_name(ui, s, &section_ldap_server, NULL, "delete");
    AUTO(strlist) struct strlist names = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10);

    (void)unused;
    if (!name)
        return;
    ldap_queries(s, name, -1, &names);
    for (size_t i = 0; i < names.n; i++)
        ask_deletable(ui, s, &section_ldap_query, names.items[i], NULL);
    strlist_join(&names, ", ", &all);
    for (size_t i = 0; i < names.n && !ui_failed(ui); i++)
        session_delete(s, &section_ldap_query, names.items[i]);
    if (ui_failed(ui))
        return;
    session_delete(s, &section_ldap_server, name);
    ui_say(ui, "LDAP server configuration \"%s\" deleted%s%s.", name,
           names.n == 1  ? ", and its query "
           : names.n > 1 ? ", and its queries "
                         : "",
           buf_str(&all));
}

static void main_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_ldap_setup, "-");

    (void)unused;
    if (r)
        ask_all(ui, s, r);
}

static void main_query(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &ldap_query_menu, NULL);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new server configuration.", NULL, main_new,    NULL      },
    {"SETUP",  "Configure LDAP options.",            NULL, main_setup,  NULL      },
    {"EDIT",   "Modify a server configuration.",     NULL, main_edit,   dialog_any},
    {"DELETE", "Remove a server configuration.",     NULL, main_delete, dialog_any},
    {"QUERY",  "Manage the queries of all servers.", NULL, main_query,  dialog_any},
};
static const struct menu main_menu = {say_servers, main_ops, countof(main_ops),
                                      &section_ldap_server};

/* --- completion of what the menus take from a line --- */

static void offer_queries(struct session *s, const char *server, int kind, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    ldap_queries(s, server, kind, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

/* "edit NAME smtpauth edit QUERY" */
static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    static const char *const verbs[] = {"new", "edit", "delete", "test"};
    const char *op = words->n > 2 ? words->items[2] : "";
    bool smtpauth = str_ieq(op, "smtpauth"), kinds = smtpauth || str_ieq(op, "certauth");

    if (words->n < 2 || !str_ieq(words->items[0], "edit"))
        return;
    for (size_t i = 0; words->n == 2 && i < countof(server_ops); i++) {
        AUTO(str) char *word = xstrdup(server_ops[i].name);

        str_lower(word);
        offer(out, word, server_ops[i].help);
    }
    for (size_t i = 0; words->n == 3 && kinds && i < countof(verbs); i++)
        offer(out, verbs[i], NULL);
    if (words->n == 3 && str_ieq(op, "test"))
        offer_queries(s, words->items[1], -1, out);
    if (words->n == 4 && kinds && !str_ieq(words->items[3], "new"))
        offer_queries(s, words->items[1], smtpauth ? LDAP_SMTPAUTH : LDAP_CERTAUTH, out);
}

const struct command cmd_ldapconfig = {
    .name = "ldapconfig",
    .help = "Configure LDAP servers and queries",
    .detail =
        "A server configuration says how a directory is reached: hosts, TLS, who the gateway is "
        "there, and the base. Its queries say what is asked: SMTPAUTH whether a password is that "
        "of "
        "a user, and by its allowance query string whether the user may use SMTP AUTH at all; "
        "CERTAUTH whose certificate a client has shown. A query is used by the SMTP Auth profiles "
        "that name it (smtpauthconfig). {u}, {d}, {a}, {t} and the fields of certificates in "
        "braces "
        "are replaced by their values, which never become part of the filter's syntax. The server "
        "type only sets what the questions offer.",
    .usage = "ldapconfig edit NAME test\n"
             "ldapconfig edit NAME smtpauth|certauth new [QUERY] [FIELD=VALUE ...]\n"
             "ldapconfig edit NAME smtpauth|certauth edit [QUERY] FIELD=VALUE ...\n"
             "ldapconfig edit NAME smtpauth|certauth delete|test [QUERY]",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_ldap_server,
    .menu = &main_menu,
    .complete = complete,
};
