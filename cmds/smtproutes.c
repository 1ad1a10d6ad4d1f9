/* smtproutes.c - fixed next hops by recipient domain. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

static void say_count(struct ui *ui, struct session *s, const struct row *unused)
{
    size_t n = session_count(s, &section_smtp_route, NULL);

    (void)unused;
    if (n)
        ui_say(ui, "There are currently %zu routes configured.", n);
    else
        ui_say(ui, "There are no routes configured.");
}

/* Several hosts may come as one answer with commas or, in batch, as the words that follow. */
static bool ask_hosts(struct ui *ui, struct row *r, const char *deflt)
{
    AUTO(strlist) struct strlist hosts = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10);
    char *question =
        xasprintf("Enter the destination hosts, separated by commas, which you want mail\n"
                  "for %s to be delivered.\n"
                  "Enter USEDNS by itself to use normal DNS resolution for this route.\n"
                  "Enter /dev/null by itself if you wish to discard the mail.\n"
                  "Enclose in square brackets to force resolution via address (A)\n"
                  "records, ignoring any MX records.",
                  row_text(r, "domain"));
    struct err err = {0};

    ask_items(ui, &section_smtp_route, "hosts", "hosts", question, deflt, &hosts);
    free(question);
    for (const char *word; (word = ui_word(ui));)
        strlist_split(&hosts, word, ',');
    strlist_join(&hosts, ", ", &all);
    if (ui_failed(ui))
        return false;
    if (!row_set(r, "hosts", buf_str(&all), &err)) {
        ui_error(ui, &err);
        return false;
    }
    return true;
}

/* --- what we show the host --- */

static bool is_outgoing(const struct row *r)
{
    return ((const struct smtpauth_profile *)r->data)->kind == SMTPAUTH_OUTGOING;
}

static bool find_outgoing(void *arg, const struct row *r)
{
    *(bool *)arg = is_outgoing(r);
    return !*(bool *)arg;
}

static bool has_outgoing(struct session *s)
{
    bool found = false;

    session_each(s, &section_smtpauth_profile, NULL, find_outgoing, &found);
    return found;
}

/* Of whom the line was enough is asked nothing more. Others than administrators could send the
 * password elsewhere: the daemon lets them change no route that has one. */
static void ask_auth(struct ui *ui, struct session *s, struct row *r, bool all_said)
{
    const char *given = all_said ? ui_key(ui, "auth_profile") : NULL;
    struct err err = {0};

    if (given && !row_set(r, "auth_profile", given, &err))
        ui_error(ui, &err);
    else if (!all_said && !ui_failed(ui) && session_role(s) >= ROLE_ADMIN && has_outgoing(s))
        ask_ref(ui, s, r, "auth_profile", is_outgoing, true);
}

static void say_created(struct ui *ui, const struct row *r)
{
    const char *profile = ((const struct smtp_route *)r->data)->auth_profile;

    ui_say(ui, "Mapping for %s to %s created%s%s.", row_text(r, "domain"), row_text(r, "hosts"),
           *profile ? ", with the outgoing SMTP Auth profile " : "", profile);
}

static void route_new(struct ui *ui, struct session *s, struct row *unused)
{
    bool all_said = !ui_interactive(ui) || ui_peek(ui, 0);
    struct row *r = session_new(s, &section_smtp_route, NULL);

    (void)unused;
    ask_field(ui, s, r, "domain");
    if (!ui_failed(ui) && ask_hosts(ui, r, NULL)) {
        ask_auth(ui, s, r, all_said);
        say_created(ui, r);
    }
}

static char *ask_domain(struct ui *ui, struct session *s, const char *verb)
{
    char *question = xasprintf("Enter the hostname you want to %s.", verb);
    char *name = row_canonical(&section_smtp_route, ask_some(ui, "domain", question));

    free(question);
    if (!ui_failed(ui) && !has_name(s, &section_smtp_route, NULL, name))
        ui_fail(ui, E_NOT_FOUND, "There is no route for \"%s\". Use PRINT to see the routes.",
                str_printable(name));
    return name;
}

static void route_edit(struct ui *ui, struct session *s, struct row *unused)
{
    bool all_said = !ui_interactive(ui) || ui_peek(ui, 0);
    char *name = ask_domain(ui, s, "edit"), *now;
    struct row *r = ui_failed(ui) ? NULL : session_edit(s, &section_smtp_route, name);

    (void)unused;
    if (r) {
        now = xstrdup(row_text(r, "hosts"));
        if (ask_hosts(ui, r, now)) {
            ask_auth(ui, s, r, all_said);
            say_created(ui, r);
        }
        free(now);
    }
    free(name);
}

static void route_delete(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    do {
        char *name = ask_domain(ui, s, "delete");

        if (!ui_failed(ui))
            session_delete(s, &section_smtp_route, name);
        free(name);
    } while (!ui_failed(ui) && ui_peek(ui, 0));
}

struct listing {
    bool (*fn)(struct listing *l, const struct row *r);
    void *to;
    bool last; /* the turn of ALL */
};

static bool visit(void *arg, const struct row *r)
{
    struct listing *l = arg;

    return str_eq(r->name, "ALL") != l->last || l->fn(l, r);
}

/* By domain, the default route last, as it is matched. */
static void each_route(struct session *s, bool (*fn)(struct listing *l, const struct row *r),
                       void *to)
{
    struct listing l = {fn, to, false};

    session_each(s, &section_smtp_route, NULL, visit, &l);
    l.last = true;
    session_each(s, &section_smtp_route, NULL, visit, &l);
}

static bool print_route(struct listing *l, const struct row *r)
{
    json_t *o = json_object(), *hosts = json_array();
    const struct smtp_route *route = r->data;

    for (size_t i = 0; i < route->hosts.n; i++)
        json_array_append_new(hosts, json_string(route->hosts.items[i]));
    json_put_str(o, "domain", route->domain);
    json_put(o, "hosts", hosts);
    json_put_str(o, "auth_profile", route->auth_profile);
    out_table_row(l->to, o);
    return true;
}

static void route_print(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Domain",             "domain",       0, false},
        {"Destination Hosts",  "hosts",        0, false},
        {"Outgoing SMTP Auth", "auth_profile", 0, false}, /* where there are such profiles */
    };
    struct out_table *t;

    (void)unused;
    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    t = out_table_new(ui, "routes", columns, countof(columns) - !has_outgoing(s), '=');
    each_route(s, print_route, t);
    out_table_end(&t);
}

/* --- files
 * --------------------------------------------------------------------------------------------------
 */

static bool write_route(struct listing *l, const struct row *r)
{
    buf_printf(l->to, "%s: %s\n", r->name, row_text(r, "hosts"));
    return true;
}

static void route_export(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(buf) struct buf text = BUF_INIT(8u << 20);
    json_t *args = json_object(), *answer;
    bool replace = ui_flag(ui, "--replace");

    (void)unused;
    json_put_str(args, "name", ask_some(ui, "file", "Enter a name for the exported file:"));
    buf_str_add(&text, "# exported SMTP routes\n");
    each_route(s, write_route, &text);
    json_put_str(args, "text", buf_str(&text));
    if (ui_failed(ui)) {
        json_decref(args);
        return;
    }
    answer = call_writing(ui, s, "file.write", args, replace);
    if (answer)
        ui_say(ui, "File written on machine \"%s\" to the location \"%s\".", session_hostname(s),
               json_str(answer, "path", ""));
    json_decref(answer);
}

/* "domain: host, host"; white space instead of the colon is accepted. */
static struct row *read_route(char *line, struct err *err)
{
    char *rest = line + strcspn(line, ": \t");
    struct row *r = row_new(&section_smtp_route, NULL);

    if (*rest)
        *rest++ = '\0';
    rest += strspn(rest, ": \t");
    if (row_set(r, "domain", line, err) && row_set(r, "hosts", rest, err))
        return r;
    row_free(&r);
    return NULL;
}

static bool read_routes(struct ui *ui, const char *text, struct row ***rows, size_t *n)
{
    const char *p = text;

    for (unsigned number = 1; *p; number++) {
        char *copy = xstrndup(p, strcspn(p, "\r\n")), *line = str_trim(copy);
        struct err err = {0};

        p += strcspn(p, "\n");
        p += *p == '\n';
        if (*line && *line != '#') {
            struct row *r = read_route(line, &err);

            if (r) {
                *rows = xrealloc(*rows, (*n + 1) * sizeof(**rows));
                (*rows)[(*n)++] = r;
            } else {
                ui_fail(ui, E_INVALID, "Line %u: %s Nothing was imported.", number, err.text);
            }
        }
        free(copy);
        if (ui_failed(ui))
            return false;
    }
    return true;
}

struct routes {
    struct row **rows;
    size_t n;
};

static bool keep_auth(void *arg, const struct row *r)
{
    const struct routes *read = arg;
    const char *profile = ((const struct smtp_route *)r->data)->auth_profile;

    for (size_t i = 0; *profile && i < read->n; i++)
        if (str_eq(read->rows[i]->name, r->name))
            row_set(read->rows[i], "auth_profile", profile, NULL);
    return true;
}

/* The file replaces the table, or nothing changes. It does not say how we authenticate: that stays. */
static void replace_routes(struct session *s, struct row **rows, size_t n)
{
    AUTO(strlist) struct strlist names = {0};
    struct routes read = {rows, n};

    session_each(s, &section_smtp_route, NULL, keep_auth, &read);
    session_names(s, &section_smtp_route, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        session_delete(s, &section_smtp_route, names.items[i]);
    for (size_t i = 0; i < n; i++) {
        struct row *r = session_edit(s, &section_smtp_route, rows[i]->name);

        if (!r)
            r = session_new(s, &section_smtp_route, NULL);
        row_set(r, "domain", rows[i]->name, NULL);
        take_values(r, rows[i]);
    }
}

static void route_import(struct ui *ui, struct session *s, struct row *unused)
{
    char *question =
        xasprintf("Enter the name of the file on machine \"%s\" to import:", session_hostname(s));
    json_t *args = json_object(), *answer;
    struct row **rows = NULL;
    size_t n = 0;

    (void)unused;
    json_put_str(args, "name", ask_some(ui, "file", question));
    free(question);
    if (ui_failed(ui)) {
        json_decref(args);
        return;
    }
    answer = session_call(s, ui, "file.read", args);
    if (answer && read_routes(ui, json_str(answer, "text", ""), &rows, &n)) {
        replace_routes(s, rows, n);
        ui_say(ui, "%zu entries imported successfully.", n);
    }
    for (size_t i = 0; i < n; i++)
        row_free(&rows[i]);
    free(rows);
    json_decref(answer);
}

static void route_clear(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};

    (void)unused;
    if (!ask_confirm(ui, "confirm", "Are you sure you want to remove all routes?", false))
        return;
    session_names(s, &section_smtp_route, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        session_delete(s, &section_smtp_route, names.items[i]);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new route.",                     NULL, route_new,    NULL      },
    {"EDIT",   "Edit destinations of an existing route.", NULL, route_edit,   dialog_any},
    {"DELETE", "Remove a route.",                         NULL, route_delete, dialog_any},
    {"PRINT",  "Display all routes.",                     NULL, route_print,  dialog_any},
    {"IMPORT", "Import new routes from a file.",          NULL, route_import, NULL      },
    {"EXPORT", "Export all routes to a file.",            NULL, route_export, dialog_any},
    {"CLEAR",  "Remove all routes.",                      NULL, route_clear,  dialog_any},
};
static const struct menu main_menu = {say_count, main_ops, countof(main_ops), &section_smtp_route};

const struct command cmd_smtproutes = {
    .name = "smtproutes",
    .help = "Set up permanent domain redirections",
    .detail = "The most specific entry wins: \"example.com\" is that domain alone, "
              "\".example.com\" what is below it, ALL the "
              "rest. Equal priorities share the connections; hosts may carry /pri=N (0 is the "
              "first) and :PORT. Where there are outgoing profiles of smtpauthconfig, "
              "an administrator can choose one for a route: the hosts are shown its username and "
              "passphrase, over TLS with a proven certificate only.",
    .usage = "smtproutes new DOMAIN HOST[/pri=N] [HOST ...] [auth_profile=PROFILE]\n"
             "smtproutes edit DOMAIN HOST [HOST ...] [auth_profile=PROFILE]\n"
             "smtproutes delete DOMAIN [DOMAIN ...]\n"
             "smtproutes print\n"
             "smtproutes import FILE\n"
             "smtproutes export FILE [--replace]\n"
             "smtproutes clear",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_smtp_route,
    .menu = &main_menu,
};
