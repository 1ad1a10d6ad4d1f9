/* systemsetup.c - a first configuration in a few questions, with better choices than the factory's.
 * Everything is staged; the summary says what, and the commit makes it active. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

#define INBOUND "InboundMail"
#define OUTBOUND "OutboundMail"

static void set(struct ui *ui, struct row *r, const char *field, const char *text)
{
    struct err err = {0};

    if (r && !ui_failed(ui) && !row_set(r, field, text, &err))
        ui_error(ui, &err);
}

static void ask_system(struct ui *ui, struct session *s)
{
    struct row *r = session_edit(s, &section_system, "-");

    ask_field(ui, s, r, "hostname");
    ask_field(ui, s, r, "admin_address");
}

/* --- what mail to accept
 * ------------------------------------------------------------------------------------ */

static void accept_for(struct ui *ui, struct session *s, const char *address)
{
    char *full = xasprintf("%s/%s", INBOUND, address);
    struct row *r = session_edit(s, &section_rcpt_access, full);

    if (!r) {
        r = session_new(s, &section_rcpt_access, INBOUND);
        set(ui, r, "address", address);
    }
    set(ui, r, "action", "accept");
    free(full);
}

static void route_to(struct ui *ui, struct session *s, const char *domain, const char *hosts)
{
    struct row *r = session_edit(s, &section_smtp_route, domain);

    if (!r) {
        r = session_new(s, &section_smtp_route, NULL);
        set(ui, r, "domain", domain);
    }
    set(ui, r, "hosts", hosts);
}

static void ask_incoming(struct ui *ui, struct session *s)
{
    AUTO(strlist) struct strlist domains = {0}, hosts = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10), names = BUF_INIT(64u << 10);
    char *question;

    if (!has_name(s, &section_listener, NULL, INBOUND)) {
        ui_say(ui, "There is no listener " INBOUND "; incoming mail is left as it is.");
        return;
    }
    ask_items(ui, &section_rcpt_access, "address", "domains",
              "For which domains does this gateway accept mail from the Internet?\n"
              "Separate multiple domains with commas. Leave empty to keep what there is.",
              "", &domains);
    for (size_t i = 0; i < domains.n && !ui_failed(ui); i++)
        accept_for(ui, s, domains.items[i]);
    if (!domains.n || ui_failed(ui))
        return;
    strlist_join(&domains, ", ", &names);
    question =
        xasprintf("To which internal mail server does mail for %s go? Ex: mail.internal.example or "
                  "[10.0.0.5]:25\n"
                  "Separate multiple servers with commas. Leave empty to use the MX records.",
                  buf_str(&names));
    ask_items(ui, &section_smtp_route, "hosts", "internal_server", question, "", &hosts);
    free(question);
    strlist_join(&hosts, ", ", &all);
    for (size_t i = 0; hosts.n && i < domains.n && !ui_failed(ui); i++)
        if (!strchr(domains.items[i], '@'))
            route_to(ui, s, domains.items[i], buf_str(&all));
}

static void ask_outgoing(struct ui *ui, struct session *s)
{
    struct row *group = session_edit(s, &section_sender_group, OUTBOUND "/RELAYLIST");
    AUTO(strlist) struct strlist more = {0}, all = {0};
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);

    if (!group)
        return;
    ask_items(ui, &section_sender_group, "hosts", "relays",
              "Which systems may send mail to the Internet through this gateway?\n"
              "IP addresses, networks such as 10.1.1.0/24, and host names are allowed; separate "
              "them with commas.\n"
              "Leave empty to keep what there is.",
              "", &more);
    strlist_copy(&all, &((const struct sender_group *)group->data)->hosts);
    for (size_t i = 0; i < more.n; i++)
        if (!strlist_has(&all, more.items[i]))
            strlist_add(&all, more.items[i]);
    strlist_join(&all, ", ", &text);
    set(ui, group, "hosts", buf_str(&text));
}

/* --- TLS
 * ----------------------------------------------------------------------------------------------------
 */

static bool make_certificate(struct ui *ui, struct session *s, const char *name)
{
    json_t *args = json_object(), *data;

    json_put_str(args, "name", name);
    json_put_str(args, "common_name", name);
    json_put_int(args, "days", 3650);
    json_put_str(args, "algorithm", "rsa-2048");
    data = session_call(s, ui, "cert.new", args);
    json_decref(data);
    return data != NULL;
}

static void use_certificate(struct ui *ui, struct session *s, const char *name)
{
    AUTO(strlist) struct strlist listeners = {0};

    session_names(s, &section_listener, NULL, &listeners);
    for (size_t i = 0; i < listeners.n; i++)
        set(ui, session_edit(s, &section_listener, listeners.items[i]), "certificate", name);
    set(ui, session_edit(s, &section_destination_setup, "-"), "certificate", name);
}

static void ask_tls(struct ui *ui, struct session *s)
{
    AUTO(strlist) struct strlist listeners = {0};
    struct row *system = session_get(s, &section_system, "-"), *r;
    char *host = xstrdup(system ? row_text(system, "hostname") : session_hostname(s));

    row_free(&system);
    session_names(s, &section_listener, NULL, &listeners);
    if (ask_yes(
            ui, "tls_in",
            "Do you want to offer TLS to everybody who sends mail to this gateway? (recommended)",
            true))
        for (size_t i = 0; i < listeners.n; i++) {
            r = session_edit(s, &section_listener, listeners.items[i]);
            if (r && row_is(r, "tls", "off"))
                set(ui, r, "tls", "preferred");
        }
    if (ask_yes(ui, "tls_out",
                "Do you want to use TLS for deliveries wherever it is offered? (recommended)",
                true)) {
        r = session_edit(s, &section_destination, "default");
        if (r && row_is(r, "use_tls", "off"))
            set(ui, r, "use_tls", "on");
    }
    if (!has_name(s, &section_certificate, NULL, host) &&
        ask_yes(ui, "make_certificate",
                "Do you want to create a self-signed certificate for this host name? It replaces\n"
                "the demonstration certificate until you have one of an authority.",
                true) &&
        !ui_failed(ui) && session_flush(s, ui) && make_certificate(ui, s, host))
        use_certificate(ui, s, host);
    free(host);
}

/* --- summary
 * ------------------------------------------------------------------------------------------------
 */

static void say_names(struct ui *ui, struct session *s, const char *label,
                      const struct section *sec, const char *owner)
{
    AUTO(strlist) struct strlist names = {0};
    AUTO(buf) struct buf all = BUF_INIT(64u << 10);

    session_names(s, sec, owner, &names);
    strlist_join(&names, ", ", &all);
    ui_say(ui, "%s%s", label, names.n ? buf_str(&all) : "(none)");
}

static bool say_listener(void *arg, const struct row *r)
{
    const struct listener *l = r->data;

    ui_say(arg, "Listener %s: %s port %llu, TLS %s, certificate %s", l->name, l->address,
           (unsigned long long)l->port, choices_tls_modes[l->tls].text, l->certificate);
    return true;
}

static void say_field(struct ui *ui, struct session *s, const char *label,
                      const struct section *sec, const char *name, const char *field)
{
    struct row *r = session_get(s, sec, name);

    if (r)
        ui_say(ui, "%s%s", label, *row_text(r, field) ? row_text(r, field) : "(none)");
    row_free(&r);
}

static void say_delivery_tls(struct ui *ui, struct session *s)
{
    static const char *const words[] = {
        [DEST_TLS_DEFAULT] = "not used",
        [DEST_TLS_NONE] = "not used",
        [DEST_TLS_PREFERRED] = "used wherever it is offered",
        [DEST_TLS_REQUIRED] = "required",
        [DEST_TLS_PREFERRED_VERIFY] = "used wherever it is offered, certificates looked at",
        [DEST_TLS_REQUIRED_VERIFY] = "required, with valid certificates",
        [DEST_TLS_REQUIRED_HOSTED] = "required, with valid certificates (hosted domains)",
    };
    struct row *r = session_get(s, &section_destination, "default");

    if (r)
        ui_say(ui, "TLS of deliveries: %s", words[((const struct destination *)r->data)->use_tls]);
    row_free(&r);
}

static bool count_accepted(void *arg, const struct row *r)
{
    *(unsigned *)arg += ((const struct rcpt_access *)r->data)->action == RCPT_ACCEPT;
    return true;
}

/* What can be committed, but is hardly meant. */
static void warn_of_gaps(struct ui *ui, struct session *s)
{
    struct row *system = session_get(s, &section_system, "-");
    unsigned accepted = 0;

    if (system && !*row_text(system, "admin_address"))
        ui_say(ui, "\nWarning: there is no administrator address: nobody receives the alerts of "
                   "this system.");
    row_free(&system);
    if (!has_name(s, &section_listener, NULL, INBOUND))
        return;
    session_each(s, &section_rcpt_access, INBOUND, count_accepted, &accepted);
    if (!accepted)
        ui_say(ui, "\nWarning: no domain is accepted: mail from the Internet is refused.");
}

static void say_summary(struct ui *ui, struct session *s)
{
    ui_say(ui, "This is the configuration now:\n");
    say_field(ui, s, "Hostname: ", &section_system, "-", "hostname");
    say_field(ui, s, "Administrator address: ", &section_system, "-", "admin_address");
    say_names(ui, s, "Accept mail for: ", &section_rcpt_access, INBOUND);
    say_names(ui, s, "SMTP routes for: ", &section_smtp_route, NULL);
    say_field(ui, s, "May relay: ", &section_sender_group, OUTBOUND "/RELAYLIST", "hosts");
    session_each(s, &section_listener, NULL, say_listener, ui);
    say_delivery_tls(ui, s);
    warn_of_gaps(ui, s);
    ui_say(ui, "\nNothing is active yet. Type \"showchanges\" to review and \"commit\" to make it "
               "active.");
}

static void run(struct ui *ui, struct session *s)
{
    if (!ui_interactive(ui)) {
        ui_fail(ui, E_USAGE,
                "systemsetup is a dialog and needs a terminal. In batch use sethostname, "
                "listenerconfig, smtproutes "
                "and destconfig.");
        return;
    }
    ui_say(ui, "Enter keeps the value in brackets, ? explains, Ctrl-C leaves without changes.");
    ask_system(ui, s);
    ask_incoming(ui, s);
    ask_outgoing(ui, s);
    ask_tls(ui, s);
    if (!ui_failed(ui) && session_flush(s, ui))
        say_summary(ui, s);
}

const struct command cmd_systemsetup = {
    .name = "systemsetup",
    .help = "First time system setup",
    .detail = "Asks for the host name, the domains to accept mail for, the systems that may relay "
              "and the use of TLS; it can be "
              "run again at any time and keeps what is not answered.",
    .usage = "systemsetup",
    .roles = ROLE_ADMIN,
    .commits = true,
    .run = run,
};
