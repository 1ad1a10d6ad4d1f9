/* backend.h - what is behind a struct ui: the person (or test script) that answers, and what the running command has said.
 * Used by the shell's own files; commands see ui.h. One thread. */
#ifndef POSTERN_BACKEND_H
#define POSTERN_BACKEND_H

#include "shell/ui.h"
#include "store/words.h"
#include "store/base/json.h"

enum ui_end {
    UI_GOES_ON,
    UI_INTERRUPTED, /* Ctrl-C */
    UI_EOF,         /* Ctrl-D, or the script is at its end */
    UI_IDLE,        /* nothing typed for too long */
    UI_HANGUP,      /* the terminal or the process's life is over */
    UI_FAILED,      /* batch: the command failed */
};

struct command;
struct section;

/* The answering side. Absent (NULL) in batch. */
struct backend {
    /* One answer without its newline, "" for an empty one. prompt is one line: "[25]> ". */
    enum ui_end (*ask)(struct ui *ui, const struct ui_question *q, const char *prompt, struct buf *answer);
    enum ui_end (*line)(struct ui *ui, const char *prompt, struct buf *line); /* at the top prompt */
    enum ui_end (*block)(struct ui *ui, struct buf *text, bool echo); /* lines up to a lone "." */
    void (*write)(struct ui *ui, const char *text, size_t n); /* with paging */
    unsigned (*width)(const struct ui *ui);
    void (*remember)(struct ui *ui, const char *line); /* into the history; may be NULL */
    void (*done)(struct ui *ui, int exit_code);        /* a line was run; may be NULL */
    void (*release)(struct ui *ui);
};

struct ui {
    const struct backend *backend;
    void *data;               /* of the backend */

    /* the command that runs */
    const struct command *command;
    const struct section *section; /* what dialog_... are about */
    struct words words;
    bool json, yes, no_input;
    bool json_always, yes_always; /* options of the program, not of the command */
    bool unpaged;             /* the welcome: whoever logs in wants the prompt */
    bool leave;               /* "quit": the prompt ends */
    const char *where;        /* "change.txt:4" in front of errors; NULL: none */

    /* how it goes */
    enum ui_end end;
    bool failed;
    bool stopped;             /* "q" at the page mark */
    int exit_code;
    enum err_code code;
    char *error;              /* the first failure's sentence */
    bool changed;             /* something was staged or committed */
    json_t *data_out;         /* members of the envelope's data */
    bool data_begun;          /* out_list: the envelope's data stands on standard output already, without its end */
    size_t listed;            /* items of the out_list */
    json_t *extra;            /* other members of the envelope: conflicts, warnings */
    struct buf said;          /* ui_say, for JSON */

    /* layout of an interactive run */
    unsigned newlines;        /* newlines at the end of what was written so far, at most 2 */
    bool answered;            /* an answer was typed since the last output */
    char *answer;
};

struct offers {
    struct ui_choice *items;  /* strings owned */
    size_t n, cap;
    size_t limit;             /* 0: none */
};
void offers_free(struct offers *o);
void offers_sort(struct offers *o);
void offers_choices(struct offers *o, const struct ui_choice *choices);

struct ui *ui_new(const struct backend *b, void *data);
void ui_free(struct ui **ui);
/* A command begins: takes the words over and forgets what the last one said. */
void ui_begin(struct ui *ui, struct words *words);
/* It ended: prints the JSON envelope, or nothing; the exit code. state: head, base, candidate; may be NULL; stolen. */
int ui_finish(struct ui *ui, const char *command, json_t *state);

void ui_write(struct ui *ui, const char *text, size_t n); /* results as text: not in JSON, silent when aborted */
void ui_use(struct ui *ui, size_t i);                     /* the i-th unused word counts as used */
void ui_gap(struct ui *ui);                               /* a blank line, unless there is one; at a person only */
void ui_stop(struct ui *ui, enum ui_end how);             /* aborts */
/* Prose for a narrow terminal: lines that are too long break at blanks. width 0: never. */
void ui_wrap(const struct buf *text, unsigned width, struct buf *out);

/* Backend which answers from a list of lines and writes everything, answers too, to a file: for transcripts.
 * An answer of "^C" interrupts; at the end of the list the input is at its end. */
struct ui *ui_script_new(const struct strlist *answers, struct buf *out);

#endif
