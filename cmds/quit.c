/* quit.c - leaving; what is not committed stays. */
#include "shell/command.h"

static void quit_run(struct ui *ui, struct session *s)
{
    static const struct ui_choice choices[] = {
        {"keep",    "Keep them; they are offered at the next login"},
        {"discard", "Discard them"                                 },
        {"stay",    "Stay here"                                    },
        {NULL,      NULL                                           },
    };
    int chosen = 0;

    if (!ui_end_of_words(ui))
        return;
    if (session_changes(s) && ui_interactive(ui))
        chosen = ask_choice(
            ui, "changes",
            "Configuration changes entered but not committed. Type 'commit' at the command\n"
            "prompt to commit changes. What shall become of them?",
            choices, 0);
    if (ui_failed(ui) || chosen == 2)
        return;
    if (chosen == 1)
        json_decref(session_call(s, ui, "config.clear", NULL));
    if (!ui_failed(ui))
        ui_leave(ui);
}

const struct command cmd_quit = {
    .name = "quit",
    .aliases = "exit q",
    .help = "Leave the console",
    .roles = ROLE_GUEST,
    .run = quit_run,
};
