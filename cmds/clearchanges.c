/* clearchanges.c - forgets what was staged. */
#include "cmds/common.h"

static void run(struct ui *ui, struct session *s)
{
    json_t *data;
    char date[40];

    if (!ask_yes(ui, "confirm",
                 "Are you sure you want to clear all changes since the last commit? ", true) ||
        !ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "config.clear", json_object());
    if (!data)
        return;
    ui_say(ui, "Changes cleared: %s", clock_commit_date(clock_wall(), date));
    out_data(ui, data);
}

const struct command cmd_clearchanges = {
    .name = "clearchanges",
    .aliases = "clear",
    .help = "Clear changes",
    .usage = "clearchanges",
    .detail = "Forgets everything that was changed since the last commit.",
    .roles = ROLE_OPERATOR,
    .run = run,
};
