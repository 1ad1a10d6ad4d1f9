/* rollovernow.c - a new file for a log now. */
#include "cmds/logs.h"

#include <stdlib.h>

static void run(struct ui *ui, struct session *s)
{
    char *name = ask_log_or_all(ui, s, "Which log would you like to roll over?", true);
    json_t *args, *data;

    if (!name || !ui_end_of_words(ui)) {
        free(name);
        return;
    }
    args = json_object();
    if (!str_eq(name, "all"))
        json_put_str(args, "name", name);
    free(name);
    data = session_call(s, ui, "log.rollover", args);
    if (!data)
        return;
    ui_changed(ui);
    ui_say(ui, "Log files successfully rolled over.");
    out_data(ui, data);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    offer(out, "all", "every log");
    complete_log(s, words, out);
}

const struct command cmd_rollovernow = {
    .name = "rollovernow",
    .help = "Roll over a log file",
    .usage = "rollovernow LOG\nrollovernow all",
    .detail = "The current file is saved under the time of now and a new one begins. The oldest saved files go "
              "when there are more than the subscription keeps.",
    .roles = ROLE_OPERATOR,
    .run = run,
    .complete = complete,
};
