/* alertconfig.c - who gets which alerts, how often about the same thing, from whom.
 *
 * The numbers of the classes are those that administrators' scripts send; classes of products that
 * this gateway has not (hardware sensors, scanners, outbreak filters) keep their numbers and are
 * not offered. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

struct numbered {
    unsigned number;
    const char *word; /* NULL: this gateway has no such alerts */
    const char *text;
};

static const struct numbered classes[] = {
    {1,  "all",              "All"                                },
    {2,  "system",           "System"                             },
    {3,  NULL,               "Hardware"                           },
    {4,  "updater",          "Updater"                            },
    {5,  NULL,               "Outbreak Filters"                   },
    {6,  NULL,               "Anti-Virus"                         },
    {7,  NULL,               "Anti-Spam"                          },
    {8,  NULL,               "Directory Harvest Attack Prevention"},
    {9,  NULL,               "Release and Support Notifications"  },
    {10, "message-delivery", "Message Delivery"                   },
    {0,  NULL,               NULL                                 }
};

static const struct numbered severities[] = {
    {1, "all",         "All"        },
    {2, "critical",    "Critical"   },
    {3, "warning",     "Warning"    },
    {4, "information", "Information"},
    {0, NULL,          NULL         }
};

/* --- what is shown --- */

static void add_texts(const struct strlist *words, const struct numbered *table, struct buf *out)
{
    for (const struct numbered *n = table; n->number; n++)
        if (n->word && strlist_has(words, n->word))
            buf_printf(out, "%s%s", out->n ? ", " : "", n->text);
}

static bool say_recipient(void *arg, const struct row *row)
{
    const struct alert_recipient *r = row->data;
    AUTO(buf) struct buf which = BUF_INIT(400);
    AUTO(buf) struct buf how = BUF_INIT(400);

    add_texts(&r->classes, classes, &which);
    add_texts(&r->severities, severities, &how);
    ui_say(arg, "%s\n Class: %s - Severities: %s", r->address, buf_str(&which), buf_str(&how));
    return true;
}

static void say_recipients(struct ui *ui, struct session *s)
{
    struct row *sys;

    if (session_count(s, &section_alert_recipient, NULL)) {
        ui_say(ui, "Sending alerts to:");
        session_each(s, &section_alert_recipient, NULL, say_recipient, ui);
        return;
    }
    sys = session_get(s, &section_system, "-");
    if (sys && *row_text(sys, "admin_address"))
        ui_say(ui,
               "No alert recipients are configured. Sending all alerts to the administrator:\n%s",
               row_text(sys, "admin_address"));
    else
        ui_say(ui, "Not sending alerts.");
    row_free(&sys);
}

static void say_alerts(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *row = session_get(s, &section_alert_setup, "-");
    const struct alert_setup *a = row ? row->data : NULL;

    (void)unused;
    say_recipients(ui, s);
    if (!a)
        return;
    ui_say(ui, "\nInitial number of seconds to wait before sending a duplicate alert: %llu",
           (unsigned long long)a->initial);
    ui_say(ui, "Maximum number of seconds to wait before sending a duplicate alert: %llu",
           (unsigned long long)a->maximum);
    ui_say(ui, "Maximum number of alerts stored in the system are: %llu",
           (unsigned long long)a->stored);
    if (*a->from)
        ui_say(ui, "\nAlerts will be sent using the configured From Address:\n%s", a->from);
    else
        ui_say(ui, "\nAlerts will be sent using the system-default From Address.");
    row_free(&row);
}

/* --- several out of a numbered list --- */

static const struct numbered *find(const struct numbered *table, const char *item)
{
    char *end;
    unsigned long number = strtoul(item, &end, 10);

    for (const struct numbered *n = table; n->number; n++)
        if ((*item && !*end && n->number == number) || str_ieq(n->text, item) ||
            (n->word && str_ieq(n->word, item)))
            return n;
    return NULL;
}

static bool accept_several(void *arg, const char *answer, struct err *err)
{
    const struct numbered *table = arg;
    AUTO(strlist) struct strlist items = {0};
    bool any = false;

    strlist_split(&items, answer, ',');
    for (size_t i = 0; i < items.n; i++) {
        const struct numbered *n = find(table, items.items[i]);

        if (!n)
            return err_set(err, E_INVALID,
                           "\"%s\" is not one of the choices; use their numbers or words.",
                           str_printable(items.items[i]));
        any = any || n->word;
    }
    return any ||
           err_set(err, E_INVALID,
                   items.n ? "This gateway has no such alerts; choose one of those that are listed."
                           : "Choose at least one.");
}

static void offer_several(void *arg, const char *typed, struct offers *out)
{
    (void)typed;
    for (const struct numbered *n = arg; n->number; n++)
        if (n->word)
            offer(out, n->word, n->text);
}

/* "Choose ... Separate multiple choices with commas.", with the numbers of what the field has now
 * as the default. */
static void ask_several(struct ui *ui, struct row *row, const char *field,
                        const struct numbered *table)
{
    const struct field *f = field_find(row->section, field);
    const struct strlist *now = row_slot(row, f);
    AUTO(buf) struct buf text = BUF_INIT(2000);
    AUTO(buf) struct buf deflt = BUF_INIT(100);
    AUTO(buf) struct buf value = BUF_INIT(400);
    AUTO(strlist) struct strlist items = {0};
    struct ui_question q = {.key = field,
                            .help = f->help,
                            .accept = accept_several,
                            .offer = offer_several,
                            .arg = (void *)(uintptr_t)table};
    struct err err = {0};
    bool all = false;

    buf_str_add(&text, f->prompt);
    for (const struct numbered *n = table; n->number; n++) {
        if (!n->word)
            continue;
        buf_printf(&text, "\n%u. %s", n->number, n->text);
        if (strlist_has(now, n->word))
            buf_printf(&deflt, "%s%u", deflt.n ? "," : "", n->number);
    }
    q.text = buf_str(&text);
    q.deflt = buf_str(&deflt);
    strlist_split(&items, ui_ask(ui, &q), ',');
    if (ui_failed(ui))
        return;
    for (size_t i = 0; i < items.n; i++) {
        const struct numbered *n = find(table, items.items[i]);

        if (n && !n->word)
            ui_say(ui, "This gateway has no %s alerts; the choice is left out.", n->text);
        else if (n && !all) {
            all = n->number == 1;
            if (all)
                buf_reset(&value);
            buf_printf(&value, "%s%s", value.n ? ", " : "", n->word);
        }
    }
    if (!row_set(row, field, buf_str(&value), &err))
        ui_error(ui, &err);
}

/* --- operations --- */

static void alert_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_alert_recipient, NULL);

    (void)unused;
    ask_field(ui, s, r, "address");
    ask_several(ui, r, "classes", classes);
    ask_several(ui, r, "severities", severities);
}

static void alert_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_alert_recipient, NULL, "edit");

    (void)unused;
    if (!r)
        return;
    ask_several(ui, r, "classes", classes);
    ask_several(ui, r, "severities", severities);
}

static void alert_clear(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};

    (void)unused;
    if (!ask_confirm(ui, "confirm", "Are you sure you want to remove all email addresses?", false))
        return;
    session_names(s, &section_alert_recipient, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        session_delete(s, &section_alert_recipient, names.items[i]);
    ui_say(ui, "All email addresses have been removed.");
}

static void alert_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_alert_setup, "-");

    (void)unused;
    if (!r)
        return;
    ask_field(ui, s, r, "initial");
    ask_field(ui, s, r, "maximum");
    ask_field(ui, s, r, "stored");
    ask_field(ui, s, r, "subject");
}

static bool any_from(struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_alert_setup, "-");
    bool any = r && *((const struct alert_setup *)r->data)->from;

    (void)unused;
    row_free(&r);
    return any;
}

static void say_from(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_alert_setup, "-");
    const struct alert_setup *a = r ? r->data : NULL;

    (void)unused;
    if (a && *a->from)
        ui_say(ui, "Alerts will be sent using the configured From Address:\n%s", a->from);
    else
        ui_say(ui,
               "Alerts will be sent using the system-default From Address:\n\"Postern Alert\" "
               "<alert@%s>",
               session_hostname(s));
    row_free(&r);
}

static void from_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_alert_setup, "-");

    (void)unused;
    if (r)
        ask_field(ui, s, r, "from");
}

static void from_default(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_alert_setup, "-");

    (void)unused;
    if (!r)
        return;
    row_set(r, "from", "", NULL);
    ui_say(ui, "Alerts will be sent using the system-default From Address.");
}

static const struct menu_op from_ops[] = {
    {"EDIT",    "Edit the From Address.",             NULL, from_edit,    NULL    },
    {"DEFAULT", "Switch back to the system default.", NULL, from_default, any_from},
};
static const struct menu from_menu = {say_from, from_ops, countof(from_ops), &section_alert_setup};

static void alert_from(struct ui *ui, struct session *s, struct row *unused)
{
    run_menu(ui, s, &from_menu, unused);
}

static void alert_test(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *data = session_call(s, ui, "alert.test", json_object());

    (void)unused;
    if (data)
        ui_say(ui, "An Information alert of the class System is on its way to those who subscribe "
                   "to it in the\n"
                   "configuration that runs. \"displayalerts\" shows it, too.");
    json_decref(data);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Add a new email address to send alerts.",         NULL, alert_new,     NULL      },
    {"EDIT",   "Modify alert subscription for an email address.", NULL, alert_edit,    dialog_any},
    {"DELETE", "Remove an email address.",                        NULL, dialog_delete, dialog_any},
    {"CLEAR",  "Remove all email addresses (disable alerts).",    NULL, alert_clear,   dialog_any},
    {"SETUP",  "Configure alert settings.",                       NULL, alert_setup,   NULL      },
    {"FROM",   "Configure the From Address of alert emails.",     NULL, alert_from,    NULL      },
    {"TEST",   "Send a test alert.",                              NULL, alert_test,    NULL      },
};
static const struct menu main_menu = {say_alerts, main_ops, countof(main_ops),
                                      &section_alert_recipient};

const struct command cmd_alertconfig = {
    .name = "alertconfig",
    .help = "Configure email alerts",
    .detail = "Each address subscribes to classes and severities. While nobody subscribes, the "
              "administrator's "
              "address of sethostname gets all alerts. The same alert is repeated after growing "
              "intervals, with "
              "a line that says how often it happened meanwhile. Nothing is sent to the vendor: "
              "there is no "
              "AutoSupport, and its questions are not asked. Classes of alerts that this gateway "
              "cannot have "
              "(hardware, scanners) are not offered; the numbers of the others are as elsewhere.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_alert_recipient,
    .menu = &main_menu,
};
