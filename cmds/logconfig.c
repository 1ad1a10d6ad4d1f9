/* logconfig.c - log subscriptions: what is written where, and how much of it. */
#include "cmds/common.h"

#include <stdlib.h>

struct listing {
    struct ui *ui;
    unsigned n;
};

static bool say_log(void *arg, const struct row *r)
{
    const struct log *l = r->data;
    struct listing *p = arg;

    ui_say(p->ui, "%u. %-20s %-24s %s", ++p->n, l->name, choices_log_types[l->type].text,
           choices_log_levels[l->level].text);
    return true;
}

static void say_logs(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    ui_say(ui, "Currently configured logs:");
    ui_say(ui, "    Log Name            Log Type                 Log Level");
    ui_say(ui, "--------------------------------------------------------------------------------");
    session_each(s, &section_log, NULL, say_log, &p);
}

static void log_new(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const fields[] = {"type", "name", "level", "max_size", "max_files"};
    struct row *r = session_new(s, &section_log, NULL);

    (void)unused;
    for (size_t i = 0; i < countof(fields); i++)
        ask_field(ui, s, r, fields[i]);
}

static void log_edit(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const fields[] = {"level", "max_size", "max_files"};
    struct row *r = ask_row(ui, s, &section_log, NULL, "edit");

    (void)unused;
    for (size_t i = 0; r && i < countof(fields); i++)
        ask_field(ui, s, r, fields[i]);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new log.",          NULL, log_new,       NULL      },
    {"EDIT",   "Modify a log subscription.", NULL, log_edit,      dialog_any},
    {"DELETE", "Remove a log subscription.", NULL, dialog_delete, dialog_any},
};
static const struct menu main_menu = {say_logs, main_ops, countof(main_ops), &section_log};

const struct command cmd_logconfig = {
    .name = "logconfig",
    .help = "Configure access to log files",
    .detail = "Several subscriptions of one type may exist; for a hard case add a second mail log "
              "at level Debug and delete it "
              "afterwards. \"tail\" and \"grep\" read them.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_log,
    .menu = &main_menu,
};
