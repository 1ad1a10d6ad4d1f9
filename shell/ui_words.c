/* ui_words.c - answers from lists: the words of a line (ui_word, ui_key, ui_flag...), and the
 * script of a transcript. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shell/backend.h"

/* --- the words of the line ------------------------------------------------------------------- */

static struct word *positional(const struct ui *ui, size_t i)
{
    for (size_t w = 0; w < ui->words.n; w++) {
        struct word *word = &ui->words.items[w];

        if (!word->used && !word->key && !word->flag && i-- == 0)
            return word;
    }
    return NULL;
}

const char *ui_word(struct ui *ui)
{
    struct word *w = positional(ui, 0);

    if (w)
        w->used = true;
    return w ? w->text : NULL;
}

const char *ui_peek(const struct ui *ui, size_t i)
{
    const struct word *w = positional(ui, i);

    return w ? w->text : NULL;
}

void ui_use(struct ui *ui, size_t i)
{
    struct word *w = positional(ui, i);

    if (w)
        w->used = true;
}

const char *ui_key(struct ui *ui, const char *key)
{
    for (size_t i = 0; i < ui->words.n; i++) {
        struct word *w = &ui->words.items[i];

        if (!w->used && w->key && w->op == '=' && str_ieq(w->key, key)) {
            w->used = true;
            return w->value;
        }
    }
    return NULL;
}

bool ui_flag(struct ui *ui, const char *flag)
{
    bool found = false;

    for (size_t i = 0; i < ui->words.n; i++) {
        struct word *w = &ui->words.items[i];

        if (!w->used && w->flag && str_eq(w->text, flag))
            w->used = found = true;
    }
    return found;
}

const char *ui_option(struct ui *ui, const char *flag)
{
    size_t n = strlen(flag);

    for (size_t i = 0; i < ui->words.n; i++) {
        struct word *w = &ui->words.items[i], *next = i + 1 < ui->words.n ? w + 1 : NULL;

        if (w->used || !w->flag || strncmp(w->text, flag, n) != 0)
            continue;
        if (w->text[n] == '=') {
            w->used = true;
            return w->text + n + 1;
        }
        if (!w->text[n] && next && !next->used && !next->flag) {
            w->used = next->used = true;
            return next->text;
        }
    }
    return NULL;
}

bool ui_has_words(const struct ui *ui)
{
    for (size_t i = 0; i < ui->words.n; i++) {
        if (!ui->words.items[i].used)
            return true;
    }
    return false;
}

bool ui_has_flags(const struct ui *ui)
{
    for (size_t i = 0; i < ui->words.n; i++) {
        if (!ui->words.items[i].used && ui->words.items[i].flag)
            return true;
    }
    return false;
}

bool ui_end_of_words(struct ui *ui)
{
    if (ui_failed(ui))
        return false;
    for (size_t i = 0; i < ui->words.n; i++) {
        const struct word *w = &ui->words.items[i];

        if (w->used)
            continue;
        if (w->key)
            ui_fail(ui, E_USAGE, "\"%s\" is no setting of this command; \"help\" shows its forms.",
                    str_printable(w->key));
        else if (w->flag)
            ui_fail(ui, E_USAGE, "\"%s\" is no option of this command; \"help\" shows its forms.",
                    str_printable(w->text));
        else
            ui_fail(ui, E_USAGE, "\"%s\" is one word too many.", str_printable(w->text));
        return false;
    }
    return true;
}

/* --- the script of a transcript -------------------------------------------------------------- */

struct script {
    const struct strlist *answers;
    size_t next;
    struct buf *out;
};

static void script_write(struct ui *ui, const char *text, size_t n)
{
    struct script *s = ui->data;

    buf_add(s->out, text, n);
}

static const char *script_next(struct ui *ui)
{
    struct script *s = ui->data;

    return s->next < s->answers->n ? s->answers->items[s->next++] : NULL;
}

static enum ui_end script_line(struct ui *ui, const char *prompt, struct buf *answer)
{
    struct script *s = ui->data;
    const char *line = script_next(ui);

    buf_str_add(s->out, prompt);
    if (!line) {
        buf_char(s->out, '\n');
        return UI_EOF;
    }
    buf_printf(s->out, "%s\n", line);
    if (str_eq(line, "^C"))
        return UI_INTERRUPTED;
    buf_str_add(answer, line);
    return UI_GOES_ON;
}

static enum ui_end script_ask(struct ui *ui, const struct ui_question *q, const char *prompt,
                              struct buf *answer)
{
    (void)q;
    return script_line(ui, prompt, answer);
}

static enum ui_end script_block(struct ui *ui, struct buf *text, bool echo)
{
    struct script *s = ui->data;
    const char *line;

    while ((line = script_next(ui)) != NULL && !str_eq(line, "^C")) {
        if (echo || str_eq(line, "."))
            buf_printf(s->out, "%s\n", echo ? line : "");
        if (str_eq(line, "."))
            return UI_GOES_ON;
        buf_printf(text, "%s\n", line);
    }
    return line ? UI_INTERRUPTED : UI_EOF;
}

static unsigned script_width(const struct ui *ui)
{
    (void)ui;
    return 80;
}

static void script_release(struct ui *ui)
{
    free(ui->data);
}

static const struct backend script_backend = {
    .ask = script_ask,
    .line = script_line,
    .block = script_block,
    .write = script_write,
    .width = script_width,
    .release = script_release,
};

struct ui *ui_script_new(const struct strlist *answers, struct buf *out)
{
    struct script *s = xcalloc(1, sizeof(*s));

    s->answers = answers;
    s->out = out;
    return ui_new(&script_backend, s);
}
