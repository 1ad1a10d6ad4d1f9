/* listener_new.c - listenerconfig > NEW: everything a listener of that kind starts with, and who
 * may use it. */
#include "cmds/listener.h"

#include <stdlib.h>
#include <string.h>

#include "store/factory.h"

struct place { /* which a port would take, and who has it */
    struct session *s;
    const struct row *mine;
    const char *port;
    char *by;
};

static bool same_place(void *arg, const struct row *r)
{
    struct place *p = arg;
    const char *any = strchr(row_text(p->mine, "address"), ':') ? "::" : "0.0.0.0";
    const char *mine = row_text(p->mine, "address"), *theirs = row_text(r, "address");

    if (!str_eq(r->name, p->mine->name) && str_eq(row_text(r, "port"), p->port) &&
        (str_eq(mine, theirs) || str_eq(mine, any) || str_eq(theirs, any)))
        p->by = xstrdup(r->name);
    return !p->by;
}

static bool accept_port(void *arg, const char *answer, struct err *err)
{
    struct place *p = arg;
    struct row *trial = row_copy(p->mine);
    bool ok = row_set(trial, "port", answer, err);

    row_free(&trial);
    p->port = answer;
    p->by = NULL;
    if (ok)
        session_each(p->s, &section_listener, NULL, same_place, p);
    if (p->by) {
        ok = err_set(err, E_INVALID,
                     "Listener %s already uses port %s of this address. Enter another port.", p->by,
                     answer);
        free(p->by);
    }
    return ok;
}

void ask_listener_port(struct ui *ui, struct session *s, struct row *l)
{
    const struct field *f = field_find(&section_listener, "port");
    struct place place = {.s = s, .mine = l};
    char *now = xstrdup(row_text(l, "port"));
    struct ui_question q = {.text = f->prompt,
                            .key = "port",
                            .deflt = now,
                            .help = f->help,
                            .accept = accept_port,
                            .arg = &place};

    row_set(l, "port", ui_ask(ui, &q), NULL);
    free(now);
}

uint64_t listener_usual_port(int protocol)
{
    static const uint64_t ports[] = {[PROTOCOL_SMTP] = 25,
                                     [PROTOCOL_SMTPS] = 465,
                                     [PROTOCOL_SUBMISSION] = 587,
                                     [PROTOCOL_SUBMISSIONS] = 465};

    return ports[protocol];
}

/* What the factory gives a listener of this kind: its limits, policies and sender groups. */
static void start_with(struct session *s, struct row *l)
{
    const struct listener *now = l->data;
    struct row *rows[FACTORY_LISTENER_ROWS];
    size_t n = factory_listener(now->kind, now->name, rows);

    for (size_t i = 0; i < n; i++) {
        struct row *r = l;

        if (i) {
            r = session_new(s, rows[i]->section, now->name);
            row_set(r, "name", row_leaf(rows[i]), NULL);
        }
        take_values(r, rows[i]);
        row_free(&rows[i]);
    }
}

static const char *const kinds_of_address =
    "\n"
    "Hostnames such as \"example.com\" are allowed.\n"
    "Partial hostnames such as \".example.com\" are allowed.\n";

static void route_domains(struct ui *ui, struct session *s, const struct strlist *domains,
                          const char *hosts)
{
    for (size_t i = 0; i < domains->n && !ui_failed(ui); i++) {
        struct row *r = session_edit(s, &section_smtp_route, domains->items[i]);
        struct err err = {0};

        if (!r)
            r = session_new(s, &section_smtp_route, NULL);
        if (!row_set(r, "domain", domains->items[i], &err) || !row_set(r, "hosts", hosts, &err))
            ui_error(ui, &err);
    }
}

static void ask_routes(struct ui *ui, struct session *s, const struct strlist *addresses)
{
    AUTO(strlist) struct strlist domains = {0}, hosts = {0};
    AUTO(buf) struct buf names = BUF_INIT(64u << 10), all = BUF_INIT(64u << 10);
    char *question;

    for (size_t i = 0; i < addresses->n; i++)
        if (!strchr(addresses->items[i], '@') && *addresses->items[i] != '[')
            strlist_add(&domains, addresses->items[i]);
    if (!domains.n)
        return;
    strlist_join(&domains, ", ", &names);
    question = xasprintf("Would you like to configure SMTP routes for %s?", buf_str(&names));
    if (ask_yes(ui, "routes", question, ui_interactive(ui))) {
        free(question);
        question = xasprintf(
            "Enter the destination mail server where you want mail for %s to be delivered.\n"
            "Separate multiple entries with commas.",
            buf_str(&names));
        ask_items(ui, &section_smtp_route, "hosts", "route_hosts", question, NULL, &hosts);
        strlist_join(&hosts, ", ", &all);
        if (hosts.n)
            route_domains(ui, s, &domains, buf_str(&all));
    }
    free(question);
}

static void ask_domains(struct ui *ui, struct session *s, const char *listener)
{
    AUTO(strlist) struct strlist addresses = {0};
    char *question = xasprintf(
        "Please specify the domain names or specific email addresses you want to accept mail "
        "for.\n%s"
        "Usernames such as \"postmaster@\" are allowed.\n"
        "Full email addresses such as \"joe@example.com\" or \"joe@[1.2.3.4]\" are allowed.\n"
        "Separate multiple addresses with commas.",
        kinds_of_address);

    ask_items(ui, &section_rcpt_access, "address", "domains", question, "", &addresses);
    free(question);
    for (size_t i = 0; i < addresses.n && !ui_failed(ui); i++) {
        struct row *r = session_new(s, &section_rcpt_access, listener);
        struct err err = {0};

        if (!row_set(r, "address", addresses.items[i], &err))
            ui_error(ui, &err);
    }
    if (!addresses.n)
        ui_say(ui, "Every recipient will be rejected until you add some with EDIT > RCPTACCESS.");
    ask_routes(ui, s, &addresses);
}

static void ask_relays(struct ui *ui, struct session *s, const char *listener)
{
    AUTO(strlist) struct strlist hosts = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10);
    char *name = xasprintf("%s/RELAYLIST", listener);
    char *question =
        xasprintf("Please specify the systems allowed to relay email through Postern.\n%s"
                  "IP addresses, IP address ranges, and partial IP addresses are allowed.\n"
                  "Separate multiple entries with commas.",
                  kinds_of_address);
    struct row *group;
    struct err err = {0};

    ask_items(ui, &section_sender_group, "hosts", "relays", question, "", &hosts);
    strlist_join(&hosts, ", ", &all);
    group = session_edit(s, &section_sender_group, name);
    if (group && !row_set(group, "hosts", buf_str(&all), &err))
        ui_error(ui, &err);
    if (!hosts.n)
        ui_say(ui, "Nobody may relay until you add systems to RELAYLIST with EDIT > HOSTACCESS.");
    free(question);
    free(name);
}

static void ask_rate_limit(struct ui *ui, struct row *l)
{
    char number[24];
    uint64_t n;

    if (!ask_yes(ui, "rate_limiting",
                 "Do you want to enable rate limiting for this listener? (Rate limiting defines "
                 "the maximum number of "
                 "recipients per hour you are willing to receive from a remote domain.) ",
                 false))
        return;
    n = ask_number(
        ui, "max_rcpts_per_hour",
        "Enter the maximum number of recipients per hour to accept from a remote domain.", 4500, 1,
        10000000);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)n);
    row_set(l, "max_rcpts_per_hour", number, NULL);
}

/* "listenerconfig new NAME public ADDRESS smtp", as other systems write it. */
static bool in_the_order_of_scripts(const struct ui *ui)
{
    const char *second = ui_peek(ui, 1);

    return second && (str_ieq(second, "public") || str_ieq(second, "private"));
}

void listener_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *l = session_new(s, &section_listener, NULL);
    bool public;

    (void)unused;
    if (in_the_order_of_scripts(ui)) {
        ask_field(ui, s, l, "name");
        ask_field(ui, s, l, "kind");
    } else {
        ask_field(ui, s, l, "kind");
        ask_field(ui, s, l, "name");
    }
    if (ui_failed(ui))
        return;
    public = row_is(l, "kind", "public");
    start_with(s, l);
    ask_field(ui, s, l, "address");
    ask_field(ui, s, l, "protocol");
    ((struct listener *)l->data)->port =
        listener_usual_port(((const struct listener *)l->data)->protocol);
    ask_listener_port(ui, s, l);
    if (public)
        ask_domains(ui, s, row_text(l, "name"));
    else
        ask_relays(ui, s, row_text(l, "name"));
    ask_rate_limit(ui, l);
    say_policy_parameters(ui, l);
    if (ask_yes(ui, "change_policy", "Would you like to change the default host access policy?",
                false))
        ask_policy_parameters(ui, s, l);
    ui_say(ui, "Listener %s created.", row_text(l, "name"));
    ui_say(ui, "Defaults have been set for a %s listener.", public ? "Public" : "Private");
    ui_say(ui, "Use the listenerconfig->EDIT command to customize the listener.");
}
