/* resourceconfig.c - how much of the machine the gateway may take. */
#include "cmds/common.h"

static void resource_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_resource_limits, "-");

    (void)unused;
    if (r)
        ask_all(ui, s, r);
}

static void say_resources(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_resource_limits, "-");

    (void)unused;
    if (r) {
        ui_say(ui, "Queue: at most %s messages, size %s, free disk space at least %s",
               row_text(r, "max_messages"), row_text(r, "max_queue_size"),
               row_text(r, "min_free_space"));
        ui_say(ui, "Memory: %s", row_text(r, "max_memory"));
        ui_say(ui, "Senders are slowed down at %s%% of a limit, and accepted again below %s%%",
               row_text(r, "slow_at"), row_text(r, "resume_at"));
        ui_say(ui, "Files set aside after damage: %s days, at most %s", row_text(r, "kept_days"),
               row_text(r, "kept_space"));
    }
    row_free(&r);
}

static const struct menu_op main_ops[] = {
    {"SETUP", "Configure resource limits.", NULL, resource_setup, NULL},
};
static const struct menu main_menu = {say_resources, main_ops, countof(main_ops),
                                      &section_resource_limits};

const struct command cmd_resourceconfig = {
    .name = "resourceconfig",
    .help = "Configure resource limits",
    .detail =
        "How much of queue, disk and memory the gateway takes before it slows its senders down, "
        "and then refuses mail for the time being (421, 452) while deliveries go on. Of its file "
        "descriptors the system decides; a share of them is kept for files. \"status detail\" "
        "shows "
        "as Resource Conservation how far it is: 0 to 60, or 999 when mail is refused.",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_resource_limits,
    .menu = &main_menu,
};
