/* ui.h - saying and asking; the same dialog code serves a terminal (ui_term), batch words and tests (ui_words).
 *
 * After Ctrl-C or end of input the ui is aborted: every later question returns its default at once, nothing is printed,
 * menus end; so dialogs have no error checking between questions. In batch a question takes the next word or
 * key=value of the line; what is missing is an error that names it, and the ui is aborted. */
#ifndef POSTERN_UI_H
#define POSTERN_UI_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/schema.h"

struct ui;

void ui_say(struct ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* a line */
void ui_error(struct ui *ui, const struct err *err); /* the sentence; in batch it also ends the command with its exit code */
bool ui_aborted(const struct ui *ui);
bool ui_interactive(const struct ui *ui); /* a person at a terminal */
void ui_fail(struct ui *ui, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* What "?" and Tab show at a question: words with descriptions, from live data. */
struct ui_choice {
    const char *word, *text;
};
struct ui_question {
    const char *text;       /* the question, may have several lines */
    const char *key;        /* name in batch: key=value */
    const char *deflt;      /* shown in brackets; "" gives []> */
    const char *help;
    bool secret;            /* no echo, not in the history, refused on a command line */
    bool same_line;         /* "question [Y]> " */
    bool bare;              /* "> " alone, as in certconfig's names */
    const struct ui_choice *choices; /* for ? and Tab; ends with {NULL} */
    bool (*accept)(void *arg, const char *answer, struct err *err); /* refusal prints the sentence and asks again */
    void *arg;
};
const char *ui_ask(struct ui *ui, const struct ui_question *q); /* usable value, valid until the next question */

bool ask_yes(struct ui *ui, const char *key, const char *question, bool deflt);
const char *ask_text(struct ui *ui, const char *key, const char *question, const char *deflt);
int ask_choice(struct ui *ui, const char *key, const char *question, const struct ui_choice *choices, int deflt); /* numbered list; accepts number or word */
uint64_t ask_number(struct ui *ui, const char *key, const char *question, uint64_t deflt, uint64_t min, uint64_t max);
char *ask_secret(struct ui *ui, const char *key, const char *question); /* freed (and cleansed) by the caller */
char *ask_block(struct ui *ui, const char *key, const char *question);  /* lines up to a lone "."; caller frees */

#endif
