/* sethostname.c - the name of this gateway. The prompt shows it once it is committed. */
#include "cmds/common.h"

#include <stdlib.h>

static void run(struct ui *ui, struct session *s)
{
    const struct field *f = field_find(&section_system, "hostname");
    struct row *r = session_edit(s, &section_system, "-");
    struct err err = {0};
    char *now;

    if (!r)
        return;
    now = xstrdup(row_text(r, "hostname"));
    if (ui_interactive(ui) && !ui_has_words(ui)) {
        ask_field(ui, s, r, "hostname");
    } else {
        const struct ui_question q = {.text = f->prompt, .key = "hostname", .help = f->help};

        if (!row_set(r, "hostname", ui_ask(ui, &q), &err) && !ui_failed(ui))
            ui_error(ui, &err);
    }
    if (!ui_failed(ui) && !row_is(r, "hostname", now))
        ui_say(ui, "The hostname changes to %s with the next commit.", row_text(r, "hostname"));
    free(now);
}

const struct command cmd_sethostname = {
    .name = "sethostname",
    .help = "Set the name of the machine",
    .usage = "sethostname NAME",
    .detail = "The fully qualified name is used in the banner, in EHLO and in Received: headers. "
              "The prompt changes after the "
              "commit.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .run = run,
};
