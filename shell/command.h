/* command.h - the list of commands (cmds/commands.def), parsing of lines, roles, help. */
#ifndef POSTERN_COMMAND_H
#define POSTERN_COMMAND_H

#include "shell/dialog.h"
#include "store/control.h"

struct words;

struct command {
    const char *name;
    const char *aliases;          /* "exit q" */
    const char *help;             /* one line for "help" */
    const char *usage;            /* batch forms, one a line, for "help NAME" and the reference page; NULL: made from the section */
    const char *detail;           /* paragraph for "help NAME" */
    unsigned roles;               /* least role: ROLE_GUEST... */
    bool commits;                 /* changes need "commit" (shown in help) */
    const struct section *section;/* gives the uniform batch verbs and completion */
    /* What the words for a new object of the section need not say because the questions have a default for it; may be NULL */
    void (*fill)(struct session *s, struct row *row);
    const struct menu *menu;      /* run when there are no words, or words that name its operations */
    void (*run)(struct ui *ui, struct session *s); /* instead of a menu; takes its words with ask_* or ui_word... */
    /* completion of the words of the line beyond what section and menu give; words: what stands before; may be NULL */
    void (*complete)(struct session *s, const struct strlist *words, struct offers *out);
};
#define COMMAND(name) extern const struct command cmd_##name;
#include "cmds/commands.def"
#undef COMMAND

const struct command *command_find(const char *name); /* exact, any case; aliases too */
size_t command_count(void);
const struct command *command_at(size_t i);           /* in the order of commands.def */
bool command_allowed(const struct command *c, const struct session *s);
/* The section whose objects the i-th section statement of this command edits; NULL: no more. */
const struct section *command_section(const struct command *c, size_t i);
void command_usage(const struct command *c, struct buf *out); /* batch forms, one a line */

#endif
