/* complete.h - what may stand next on a half-typed line: commands, operations, object names, fields, values; from the
 * tables, the schema and the live configuration. */
#ifndef POSTERN_COMPLETE_H
#define POSTERN_COMPLETE_H

#include "shell/ui.h"

struct session;

struct completion {
    struct offers *offers; /* whole words, those that fit what is typed */
    size_t start;          /* byte of the line where the word begins */
    bool commands;         /* the words are command names */
    const char *usage;     /* forms of the command that the line begins with, a line each; NULL: unknown */
    bool quoted;           /* the end is inside quotes or a comment: "?" is text there */
};
/* The line up to the cursor. complete_free releases it. */
void complete_line(struct session *s, const char *text, size_t n, struct completion *out);
void complete_free(struct completion *c);

#endif
