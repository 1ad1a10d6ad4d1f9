/* command.h - the list of commands (cmds/commands.def), parsing of lines, roles, help. */
#ifndef POSTERN_COMMAND_H
#define POSTERN_COMMAND_H

#include "shell/dialog.h"
#include "store/control.h"

struct command {
    const char *name;
    const char *aliases;          /* "exit q" */
    const char *help;             /* one line for "help" */
    const char *usage;            /* batch forms, one a line, for "help NAME" and the reference page; NULL: made from the section */
    const char *detail;           /* paragraph for "help NAME" */
    unsigned roles;               /* least role: ROLE_GUEST... */
    bool commits;                 /* changes need "commit" (shown in help) */
    const struct section *section;/* gives the uniform batch verbs and completion */
    const struct menu *menu;      /* run when there are no words, or words that name its operations */
    void (*run)(struct ui *ui, struct session *s); /* instead of a menu; takes its words with ask_* or ui_words_* */
    /* completion of the words of the line beyond what section and menu give; may be NULL */
    void (*complete)(struct session *s, const struct strlist *words, struct strlist *out);
};
#define COMMAND(name) extern const struct command cmd_##name;
#include "cmds/commands.def"
#undef COMMAND

const struct command *command_find(const char *name); /* exact, any case; aliases too */

/* Positional words for commands that take them: the next unused word of the line, or NULL (always NULL interactively). */
const char *ui_word(struct ui *ui);
bool ui_flag(struct ui *ui, const char *flag); /* "-i", "--detail": taken out of the words when present */

#endif
