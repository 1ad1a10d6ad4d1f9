/* commitdetail.c - the last commit. */
#include "cmds/common.h"

static void run(struct ui *ui, struct session *s)
{
    json_t *data =
        ui_end_of_words(ui) ? session_call(s, ui, "commit.last", json_object()) : NULL;
    char date[40];

    if (!data)
        return;
    out_line(ui, "Commit at %s with comments: \"%s\".",
             date_text(json_object_get(data, "time"), date),
             str_printable(json_str(data, "comment", "")));
    out_data(ui, data);
}

const struct command cmd_commitdetail = {
    .name = "commitdetail",
    .help = "Display information about the last commit",
    .usage = "commitdetail",
    .roles = ROLE_READONLY,
    .run = run,
};
