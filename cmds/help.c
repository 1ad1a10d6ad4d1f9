/* help.c - the list of commands, or one of them explained. */
#include "shell/help.h"

static void help_run(struct ui *ui, struct session *s)
{
    const char *word = ui_word(ui),
               *name = word && str_ieq(word, "batch") && ui_peek(ui, 0) ? ui_word(ui) : word;
    const struct command *c = name ? command_find(name) : NULL;

    if (!ui_end_of_words(ui))
        return;
    if (!word)
        help_list(ui, s);
    else if (c && command_allowed(c, s))
        help_command(ui, c, name != word);
    else
        ui_fail(ui, E_NOT_FOUND, "There is no command \"%s\".", str_printable(name));
}

static void help_complete(struct session *s, const struct strlist *words, struct offers *out)
{
    for (size_t i = 0; words->n == 0 && i < command_count(); i++) {
        if (command_allowed(command_at(i), s))
            offer(out, command_at(i)->name, command_at(i)->help);
    }
}

const struct command cmd_help = {
    .name = "help",
    .aliases = "h ?",
    .help = "List the commands, or explain one",
    .usage = "help\nhelp NAME\nhelp batch NAME",
    .roles = ROLE_GUEST,
    .run = help_run,
    .complete = help_complete,
};
