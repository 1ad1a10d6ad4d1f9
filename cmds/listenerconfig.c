/* listenerconfig.c - the list of listeners and the menu of one. */
#include "cmds/listener.h"

#include <stdlib.h>

struct listing {
    struct ui *ui;
    unsigned n;
};

static const char *where(const struct listener *l)
{
    bool all = str_eq(l->address, "0.0.0.0") || str_eq(l->address, "::");

    return all ? "all addresses, " : "";
}

static bool say_listener(void *arg, const struct row *r)
{
    struct listing *p = arg;
    const struct listener *l = r->data;

    if (!p->n)
        ui_say(p->ui, "Currently configured listeners:");
    ui_say(p->ui, "%u. %s (on %s%s) %s TCP Port %llu %s", ++p->n, l->name, where(l), l->address,
           choices_listener_protocols[l->protocol].text, (unsigned long long)l->port,
           choices_listener_kinds[l->kind].text);
    return true;
}

static void say_listeners(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    session_each(s, &section_listener, NULL, say_listener, &p);
    if (!p.n)
        ui_say(ui, "No listeners configured.");
}

static void say_one(struct ui *ui, struct session *s, const struct row *row)
{
    const struct listener *l = row->data;

    (void)s;
    ui_say(ui, "Name: %s", l->name);
    ui_say(ui, "Type: %s", choices_listener_kinds[l->kind].text);
    ui_say(ui, "Interface: %s TCP Port %llu", l->address, (unsigned long long)l->port);
    ui_say(ui, "Protocol: %s", choices_listener_protocols[l->protocol].text);
    ui_say(ui, "Default Domain:%s%s", *l->default_domain ? " " : "", l->default_domain);
    ui_say(ui, "Max Concurrency: %llu (TCP Queue: %llu)", (unsigned long long)l->max_connections,
           (unsigned long long)l->backlog);
    ui_say(ui, "Domain map: disabled");
    ui_say(ui, "TLS: %s", choices_tls_modes[l->tls].text);
    ui_say(ui, "SMTP Authentication: %s", *l->smtp_auth ? l->smtp_auth : "Disabled");
    ui_say(ui, "Certificate: %s", l->certificate);
    if (l->certificates.n)
        ui_say(ui, "Further Certificates: %s", row_text(row, "certificates"));
    ui_say(ui, "Bounce Profile: %s", l->bounce_profile);
}

static void listener_certificate(struct ui *ui, struct session *s, struct row *l)
{
    ask_field(ui, s, l, "certificate");
    say_if_demo(ui, s, row_text(l, "certificate"));
}

/* Which of them is shown depends on the host name and on the key types of the client. */
static void listener_sni(struct ui *ui, struct session *s, struct row *l)
{
    AUTO(strlist) struct strlist names = {0};

    session_names(s, &section_certificate, NULL, &names);
    for (size_t i = 0; ui_interactive(ui) && i < names.n; i++)
        if (!row_is(l, "certificate", names.items[i]))
            ui_say(ui, "- %s", names.items[i]);
    ask_field(ui, s, l, "certificates");
}

static bool any_further(struct session *s, const struct row *l)
{
    (void)l;
    return session_count(s, &section_certificate, NULL) > 1;
}

static void listener_hostaccess(struct ui *ui, struct session *s, struct row *l)
{
    run_menu(ui, s, &hostaccess_menu, l);
}

static void listener_rcptaccess(struct ui *ui, struct session *s, struct row *l)
{
    run_menu(ui, s, &rcptaccess_menu, l);
}

static bool is_public(struct session *s, const struct row *l)
{
    (void)s;
    return ((const struct listener *)l->data)->kind == LISTENER_PUBLIC;
}

/* Who kept to the usual port of the old protocol is asked for that of the new one. */
static void listener_protocol(struct ui *ui, struct session *s, struct row *row)
{
    struct listener *l = row->data;
    int before = l->protocol;

    ask_field(ui, s, row, "protocol");
    if (ui_failed(ui) || l->protocol == before || l->port != listener_usual_port(before))
        return;
    l->port = listener_usual_port(l->protocol);
    ask_listener_port(ui, s, row);
}

/* Who a client is; not who we are elsewhere. */
static bool is_for_clients(const struct row *r)
{
    return ((const struct smtpauth_profile *)r->data)->kind != SMTPAUTH_OUTGOING;
}

static bool find_profile(void *arg, const struct row *r)
{
    *(bool *)arg = is_for_clients(r);
    return !*(bool *)arg;
}

static bool any_profile(struct session *s, const struct row *l)
{
    bool found = *row_text(l, "smtp_auth");

    if (!found)
        session_each(s, &section_smtpauth_profile, NULL, find_profile, &found);
    return found;
}

static void listener_smtpauth(struct ui *ui, struct session *s, struct row *row)
{
    const struct listener *l = row->data;

    ask_ref(ui, s, row, "smtp_auth", is_for_clients, true);
    if (*l->smtp_auth)
        ui_say(ui, "Whether clients may or must authenticate is said by the mail flow policies: "
                   "HOSTACCESS, DEFAULT or EDIT.");
}

/* --- EDIT > SETUP --- */

static void say_options(struct ui *ui, struct session *s, const struct row *row)
{
    const struct listener *l = row->data;

    (void)s;
    ui_say(ui, "Default Domain: %s", *l->default_domain ? l->default_domain : "<none configured>");
    ui_say(ui, "Add \"Received:\" Header: %s", l->add_received ? "Yes" : "No");
    ui_say(ui, "Clean messages of bare CR/LF: %s", l->line_endings == LINES_CLEAN ? "Yes" : "No");
}

static void option_domain(struct ui *ui, struct session *s, struct row *l)
{
    ask_field(ui, s, l, "default_domain");
}

static void option_received(struct ui *ui, struct session *s, struct row *l)
{
    ask_field(ui, s, l, "add_received");
}

/* The default of the policies, which the question about line endings changes too. */
static void option_clean(struct ui *ui, struct session *s, struct row *row)
{
    struct listener *l = row->data;
    bool clean = ask_yes(ui, "clean",
                         "Do you want to repair bare CR and LF in messages? Otherwise such "
                         "messages are refused.",
                         l->line_endings == LINES_CLEAN);

    (void)s;
    if (!ui_failed(ui))
        row_set(row, "line_endings", clean ? "clean" : "reject", NULL);
}

static const struct menu_op option_ops[] = {
    {"DEFAULTDOMAIN", "Configure a default domain name.",                   NULL, option_domain,   NULL},
    {"RECEIVED",      "Set whether or not a Received: header is added.",    NULL, option_received, NULL},
    {"CLEANSMTP",     "Set whether or not to repair bare CR and LF in messages.",
     NULL,                                                                        option_clean,    NULL},
};
static const struct menu options_menu = {say_options, option_ops, countof(option_ops),
                                         &section_listener};

/* Behind the name of the menu a line may say the fields themselves. */
static void listener_options(struct ui *ui, struct session *s, struct row *l)
{
    if (!ui_peek(ui, 0) && ui_has_words(ui))
        ask_group(ui, s, l, "SETUP");
    else
        run_menu(ui, s, &options_menu, l);
}

static const struct menu_op edit_ops[] = {
    {"NAME",         "Change the name of the listener.",                    "NAME",      NULL,                 NULL       },
    {"INTERFACE",    "Change the interface.",                               "INTERFACE", NULL,                 NULL       },
    {"PROTOCOL",     "Change the protocol.",                                NULL,        listener_protocol,    NULL       },
    {"CERTIFICATE",  "Choose the certificate.",                             NULL,        listener_certificate, NULL       },
    {"SNI",          "Choose further certificates, by host name and key type.",
     NULL,                                                                               listener_sni,         any_further},
    {"LIMITS",       "Change the injection limits.",                        "LIMITS",    NULL,                 NULL       },
    {"SETUP",        "Configure general options.",                          NULL,        listener_options,     NULL       },
    {"HOSTACCESS",   "Modify the Host Access Table.",                       NULL,        listener_hostaccess,  NULL       },
    {"RCPTACCESS",   "Modify the Recipient Access Table.",                  NULL,        listener_rcptaccess,  is_public  },
    {"BOUNCECONFIG", "Choose the bounce profile to use for messages injected on this listener.",
     "BOUNCECONFIG",                                                                     NULL,                 NULL       },
    {"SMTPAUTH",     "Configure an SMTP authentication.",                   NULL,        listener_smtpauth,    any_profile},
};
static const struct menu edit_menu = {say_one, edit_ops, countof(edit_ops), &section_listener};

static void listener_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *l = ask_row(ui, s, &section_listener, NULL, "edit");

    (void)unused;
    if (l)
        run_menu(ui, s, &edit_menu, l);
}

static void listener_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_name(ui, s, &section_listener, NULL, "delete");
    char *question = xasprintf("Are you sure you want to delete the listener \"%s\"?", name ? name : "");

    (void)unused;
    if (name && ask_confirm(ui, "confirm", question, false)) {
        session_delete(s, &section_listener, name);
        ui_say(ui, "Listener \"%s\" deleted.", name);
    }
    free(question);
    free(name);
}

/* The questions people know come first, in the order they know. */
static void listener_setup(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const known[] = {"max_connections", "max_tls_connections", "max_header_lines",
                                        "idle_timeout",    "session_timeout",     "add_message_id",
                                        "reject_at_rcpt"};
    struct row *r = session_edit(s, &section_listener_setup, "-");

    (void)unused;
    for (size_t i = 0; r && i < countof(known); i++)
        ask_field(ui, s, r, known[i]);
    for (size_t i = 0; r && i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];
        bool asked = f->hidden;

        for (size_t k = 0; k < countof(known); k++)
            asked = asked || str_eq(known[k], f->name);
        if (!asked)
            ask_field(ui, s, r, f->name);
    }
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new listener.",  NULL, listener_new,    NULL      },
    {"EDIT",   "Modify a listener.",      NULL, listener_edit,   dialog_any},
    {"DELETE", "Remove a listener.",      NULL, listener_delete, dialog_any},
    {"SETUP",  "Change global settings.", NULL, listener_setup,  NULL      },
};
static const struct menu main_menu = {say_listeners, main_ops, countof(main_ops),
                                      &section_listener};

const struct command cmd_listenerconfig = {
    .name = "listenerconfig",
    .help = "Configure mail listeners",
    .detail = "A listener accepts mail on an address and port. A public listener accepts mail for "
              "the recipients of its "
              "Recipient Access Table, a private one relays for the senders its Host Access Table "
              "allows. Both tables are imported from and exported to files of the export area in the "
              "format that \"print\" shows, which is that of other systems: what they know and this "
              "gateway does not (scanning, reputation) is left out with a warning, and an import "
              "replaces the whole table in one change. First match wins; ALL is the last entry. "
              "SIZE has a trailing k or M, -1 in a file is no limit.",
    .usage =
        "listenerconfig new NAME public|private ADDRESS PROTOCOL\n"
        "listenerconfig edit NAME hostaccess new sendergroup GROUP HOST[,HOST...] POLICY|BEHAVIOR "
        "[OPTIONS] [--comment COMMENT]\n"
        "listenerconfig edit NAME hostaccess new policy POLICY BEHAVIOR [OPTIONS] [FIELD=VALUE ...]\n"
        "listenerconfig edit NAME hostaccess edit sendergroup GROUP HOST[,HOST...]\n"
        "listenerconfig edit NAME hostaccess edit sendergroup GROUP new|delete HOST[,HOST...]\n"
        "listenerconfig edit NAME hostaccess edit sendergroup GROUP policy POLICY|BEHAVIOR\n"
        "listenerconfig edit NAME hostaccess edit sendergroup GROUP comment|print\n"
        "listenerconfig edit NAME hostaccess edit policy POLICY BEHAVIOR [OPTIONS] [FIELD=VALUE ...]\n"
        "listenerconfig edit NAME hostaccess delete sendergroup|policy NAME\n"
        "listenerconfig edit NAME hostaccess move GROUP BEFORE|0\n"
        "listenerconfig edit NAME hostaccess default [OPTIONS] [FIELD=VALUE ...]\n"
        "listenerconfig edit NAME hostaccess print|clear|reset\n"
        "listenerconfig edit NAME hostaccess import FILE\n"
        "listenerconfig edit NAME hostaccess export FILE [--replace]\n"
        "listenerconfig edit NAME hostaccess test ADDRESS [HOST]\n"
        "    OPTIONS: --max_size SIZE --max_conn N --max_msgs N --max_rcpt N --override NAME|No\n"
        "    --cust_acc TEXT|No --acc_code N --cust_rej TEXT|No --rej_code N --rate_lim N|No|default\n"
        "    --cust_lim TEXT|No --lim_code N --dhap N|No|default; those about SenderBase and scanning\n"
        "    (--use_sb, --as_scan, --av_scan, --sig_bits) are taken and have no effect\n"
        "listenerconfig edit NAME rcptaccess new|edit ADDRESS[,ADDRESS...] [accept|reject]\n"
        "    [--action accept|reject] [--cust_resp TEXT] [--resp_code N] [--bypass yes|no]\n"
        "listenerconfig edit NAME rcptaccess delete ADDRESS\n"
        "listenerconfig edit NAME rcptaccess print|clear\n"
        "listenerconfig edit NAME rcptaccess import FILE\n"
        "listenerconfig edit NAME rcptaccess export FILE [--replace]",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_listener,
    .menu = &main_menu,
};
