/* ui.h - saying and asking; the same dialog code serves a terminal, the words of a batch line, and tests.
 *
 * Where an answer comes from: a question takes key=value of the line, else the line's next word, else it asks the
 * person at the terminal. Without a terminal it takes its default, and without a default it fails with a sentence
 * that names what is missing.
 *
 * After Ctrl-C, end of input or (in batch) a failure the ui is aborted: every later question returns its default at
 * once, nothing is printed, menus end; so dialogs have no error checking between questions.
 *
 * What a command prints: ui_say is a remark to a person ("Listener X created."), silent in batch, "message" in JSON.
 * Results, which batch prints too, go through out.h. Failures go through ui_fail or ui_error. */
#ifndef POSTERN_UI_H
#define POSTERN_UI_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/base/str.h"
#include "store/schema.h"

struct ui;

void ui_say(struct ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* a line */
/* A line about what an interrupted command has done: printed after Ctrl-C, when nothing else is; otherwise and in JSON
 * not. */
void ui_last_word(struct ui *ui, const char *text);
/* The sentence; the command has failed with the code's exit code. In batch it ends; at a terminal a menu undoes the
 * operation and goes on. */
void ui_error(struct ui *ui, const struct err *err);
void ui_fail(struct ui *ui, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "ran and failed" (DANE FAILED): exit code 1 without a sentence; what there is to say was printed. */
void ui_unsuccessful(struct ui *ui);
bool ui_aborted(const struct ui *ui);
bool ui_failed(const struct ui *ui);      /* aborted, or failed since the operation began */
bool ui_interactive(const struct ui *ui); /* a person at a terminal */
unsigned ui_width(const struct ui *ui);   /* columns of the terminal, 0: unlimited */
void ui_leave(struct ui *ui);             /* "quit": the console ends after this command */
void ui_changed(struct ui *ui);           /* something was changed beyond session_flush: "changed" in JSON */

/* What "?" and Tab show: words with descriptions (text may be NULL). Strings are copied. */
struct offers;
void offer(struct offers *o, const char *word, const char *text);

struct ui_choice {
    const char *word, *text;
};
struct ui_question {
    const char *text;       /* the question, may have several lines */
    const char *key;        /* name in batch: key=value */
    const char *deflt;      /* shown in brackets; "" gives []>; NULL the same, but batch must say it */
    const char *help;       /* what "?" says */
    bool secret;            /* no echo, not in the history, refused on a command line */
    bool same_line;         /* "question [Y]> " */
    bool bare;              /* "> " alone, as in certconfig's names */
    const struct ui_choice *choices; /* for ? and Tab; ends with {NULL} */
    void (*offer)(void *arg, const char *typed, struct offers *out); /* the same from live data */
    bool (*accept)(void *arg, const char *answer, struct err *err); /* refusal prints the sentence and asks again */
    void *arg;              /* of offer and accept */
};
const char *ui_ask(struct ui *ui, const struct ui_question *q); /* usable value, valid until the next question */

bool ask_yes(struct ui *ui, const char *key, const char *question, bool deflt); /* batch: the default when unsaid */
/* "Are you sure...": batch needs Y in the line or --yes, and fails without. */
bool ask_confirm(struct ui *ui, const char *key, const char *question, bool deflt);
const char *ask_text(struct ui *ui, const char *key, const char *question, const char *deflt);
/* Numbered list; accepts number or word; the index. deflt -1: none. */
int ask_choice(struct ui *ui, const char *key, const char *question, const struct ui_choice *choices, int deflt);
uint64_t ask_number(struct ui *ui, const char *key, const char *question, uint64_t deflt, uint64_t min, uint64_t max);
char *ask_secret(struct ui *ui, const char *key, const char *question); /* freed by the caller with secret_text_free */
void secret_text_free(char **text);                                     /* cleanses; for AUTO(secret_text) */
char *ask_block(struct ui *ui, const char *key, const char *question);  /* lines up to a lone "."; caller frees */
char *ask_secret_block(struct ui *ui, const char *key, const char *question); /* not echoed; freed with secret_text_free */

/* The words of the line, for commands that take them. Words and key=value and flags are each found in any order. */
const char *ui_word(struct ui *ui);                    /* the next unused word, or NULL */
const char *ui_peek(const struct ui *ui, size_t i);    /* the i-th unused word from here, left where it is; NULL: none */
const char *ui_key(struct ui *ui, const char *key);    /* value of key=value, or NULL */
bool ui_flag(struct ui *ui, const char *flag);         /* "-i", "--detail": taken out of the words when present */
const char *ui_option(struct ui *ui, const char *flag);/* "--format json", "--format=json", "-f joe", or NULL */
bool ui_has_words(const struct ui *ui);                /* anything unused */
bool ui_has_flags(const struct ui *ui);                /* an unused one that begins with a dash */
/* Fails with a sentence and returns false when something of the line is left; a command which cannot be undone
 * asks this before it acts. The dispatcher asks it after every command. */
bool ui_end_of_words(struct ui *ui);

#endif
