/* logconfig.c - log subscriptions: what is written where, how much of it, and what goes to syslog;
 * what is logged at all. */
#include "cmds/common.h"

#include <stdlib.h>

struct listing {
    struct ui *ui;
    unsigned n;
    bool narrow, close; /* the terminal is */
};

static const char *interval(const struct log *l, char out[40])
{
    if (*l->rollover_at)
        str_copy(out, 40, l->rollover_at);
    else if (l->rollover_interval)
        clock_duration((int64_t)l->rollover_interval, out);
    else
        str_copy(out, 40, "None");
    return out;
}

static bool say_log(void *arg, const struct row *r)
{
    const struct log *l = r->data;
    struct listing *p = arg;
    char every[40];

    ui_say(p->ui,
           p->close    ? "%u. %s: %s\n   %s, %s, %s"
           : p->narrow ? "%u. %-16s %-22s %-15s %-8s %s"
                       : "%u. %-20s %-24s %-19s %-12s %s",
           ++p->n, l->name, choices_log_types[l->type].text, choices_log_methods[l->method].text,
           interval(l, every), choices_log_levels[l->level].text);
    return true;
}

static void say_logs(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui, .narrow = too_narrow(ui, 91), .close = too_narrow(ui, 79)};

    (void)unused;
    ui_say(ui, "Currently configured logs:");
    if (p.close)
        ui_say(ui, "   Log Name: Log Type\n   Retrieval, Interval, Level\n----------------------------------------");
    else if (p.narrow)
        ui_say(ui, "   Log Name         Log Type               Retrieval       Interval Level\n"
                   "-----------------------------------------------------------------------------");
    else
        ui_say(ui, "    Log Name            Log Type                 Retrieval           Interval     Level\n"
                   "-------------------------------------------------------------------------------------------");
    session_each(s, &section_log, NULL, say_log, &p);
}

/* From the level on: in the order in which people know the questions. */
static void ask_how(struct ui *ui, struct session *s, struct row *r)
{
    ask_field(ui, s, r, "level");
    ask_field(ui, s, r, "method");
    if (row_is(r, "method", "syslog")) {
        ask_field(ui, s, r, "syslog_host");
        if (!row_is(r, "syslog_host", "")) {
            ask_field(ui, s, r, "syslog_port");
            ask_field(ui, s, r, "syslog_protocol");
            if (row_is(r, "syslog_protocol", "tls") && row_is(r, "syslog_port", "514") && ui_interactive(ui)) {
                row_set(r, "syslog_port", "6514", NULL);
                ask_field_as(ui, s, r, "syslog_port", "Syslog over TLS is usually on port 6514. Please enter the port of the syslog server.");
            }
        }
        ask_field(ui, s, r, "syslog_facility");
    }
    if (ask_yes(ui, "time_based", "Do you want to configure time-based log files rollover?",
                !row_is(r, "rollover_interval", "none") || !row_is(r, "rollover_at", ""))) {
        ask_field(ui, s, r, "rollover_interval");
        ask_field(ui, s, r, "rollover_at");
    } else if (!ui_failed(ui)) {
        row_set(r, "rollover_interval", "none", NULL);
        row_set(r, "rollover_at", "", NULL);
    }
    ask_field(ui, s, r, "max_size");
    ask_field(ui, s, r, "max_files");
    ask_field(ui, s, r, "alert_removed");
}

static void log_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_log, NULL);

    (void)unused;
    ask_field(ui, s, r, "type");
    ask_field(ui, s, r, "name");
    ask_how(ui, s, r);
}

static void log_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_log, NULL, "edit");

    (void)unused;
    if (r)
        ask_how(ui, s, r);
}

static void setup(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const fields[] = {"metrics_frequency", "message_ids", "remote_responses", "subjects"};
    struct row *r = session_edit(s, &section_log_setup, "-");

    (void)unused;
    for (size_t i = 0; r && i < countof(fields); i++)
        ask_field(ui, s, r, fields[i]);
}

static void log_headers(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_log_setup, "-");

    (void)unused;
    if (r)
        ask_field(ui, s, r, "headers");
}

static const struct menu_op main_ops[] = {
    {"NEW",        "Create a new log.",          NULL, log_new,       NULL      },
    {"EDIT",       "Modify a log subscription.", NULL, log_edit,      dialog_any},
    {"DELETE",     "Remove a log subscription.", NULL, dialog_delete, dialog_any},
    {"SETUP",      "General settings.",          NULL, setup,         NULL      },
    {"LOGHEADERS", "Configure headers to log.",  NULL, log_headers,   NULL      },
};
static const struct menu main_menu = {say_logs, main_ops, countof(main_ops), &section_log};

const struct command cmd_logconfig = {
    .name = "logconfig",
    .help = "Configure access to log files",
    .detail = "Several subscriptions of one type may exist; for a hard case add a second mail log "
              "at level Debug and delete it "
              "afterwards. \"tail\", \"grep\" and \"findevent\" read them. A file is rolled over when it is full, when it is "
              "old enough, or at a time of day, whichever comes first. With the method syslog every line also goes to a "
              "syslog server, or to the syslog of this machine. Mail never waits for a log: when a disk or a server does "
              "not take lines they are lost, counted, and an alert says so.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_log,
    .menu = &main_menu,
};
