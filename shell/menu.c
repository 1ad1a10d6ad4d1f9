/* menu.c - see menu.h. */
#include "shell/menu.h"

#include <string.h>

#include "shell/backend.h"
#include "shell/command.h"
#include "shell/dialog.h"

struct choosing {
    struct session *s;
    const struct menu *m;
    const struct row *row;
    bool exact; /* batch: no abbreviations */
};

static bool applies(const struct choosing *c, const struct menu_op *op)
{
    return !op->applies || op->applies(c->s, c->row);
}

static const struct menu_op *find_op(const struct choosing *c, const char *word)
{
    const struct menu_op *found = NULL;

    for (size_t i = 0; i < c->m->n; i++) {
        const struct menu_op *op = &c->m->ops[i];

        if (!c->exact && !applies(c, op))
            continue; /* batch goes on and hears from the operation that there is nothing */
        if (str_ieq(op->name, word))
            return op;
        if (c->exact || !str_istarts(op->name, word))
            continue;
        if (found)
            return NULL;
        found = op;
    }
    return found;
}

static void op_names(const struct choosing *c, struct buf *out)
{
    for (size_t i = 0; i < c->m->n; i++) {
        if (applies(c, &c->m->ops[i]))
            buf_printf(out, "%s%s", out->n ? ", " : "", c->m->ops[i].name);
    }
}

static bool unknown_op(const struct choosing *c, const char *word, struct err *err)
{
    AUTO(buf) struct buf names = BUF_INIT(1000);

    op_names(c, &names);
    return err_set(err, E_USAGE, "\"%s\" is not one of the operations: %s.", str_printable(word),
                   buf_str(&names));
}

static bool accept_op(void *arg, const char *answer, struct err *err)
{
    const struct choosing *c = arg;

    return !*answer || str_eq(answer, "..") || find_op(c, answer) || unknown_op(c, answer, err);
}

static void offer_ops(void *arg, const char *typed, struct offers *out)
{
    const struct choosing *c = arg;

    (void)typed;
    for (size_t i = 0; i < c->m->n; i++) {
        if (applies(c, &c->m->ops[i]))
            offer(out, c->m->ops[i].name, c->m->ops[i].help);
    }
}

static const struct menu_op *from_word(struct ui *ui, struct choosing *c)
{
    const struct menu_op *op;
    const char *word = ui_word(ui);
    AUTO(buf) struct buf names = BUF_INIT(1000);
    struct err err = {0};

    c->exact = !ui_interactive(ui) || (word && dialog_is_verb(word)); /* "set" is not SETUP */
    if (!word) {
        op_names(c, &names);
        ui_fail(ui, E_USAGE, "Say what to do: %s; \"help %s\" shows the forms.", buf_str(&names),
                ui->command->name);
        return NULL;
    }
    op = find_op(c, word);
    if (!op) {
        if (!c->row && ui->section && !ui->section->single && dialog_is_verb(word))
            err_set(&err, E_USAGE, "Say which: %s %s NAME.", ui->command->name,
                    str_printable(word));
        else
            unknown_op(c, word, &err);
        ui_error(ui, &err);
    }
    return op;
}

static const struct menu_op *from_person(struct ui *ui, struct choosing *c)
{
    AUTO(buf) struct buf text = BUF_INIT(8192);
    struct ui_question q = {
        .deflt = "", .help = "Enter goes back.", .offer = offer_ops, .accept = accept_op, .arg = c};
    const char *answer;

    buf_str_add(&text, "Choose the operation you want to perform:");
    for (size_t i = 0; i < c->m->n; i++) {
        if (applies(c, &c->m->ops[i]))
            buf_printf(&text, "\n- %s - %s", c->m->ops[i].name, c->m->ops[i].help);
    }
    q.text = buf_str(&text);
    c->exact = false;
    answer = ui_ask(ui, &q);
    return *answer && !ui_aborted(ui) ? find_op(c, answer) : NULL;
}

static void run_op(struct ui *ui, struct session *s, const struct menu_op *op, struct row *row)
{
    if (op->run)
        op->run(ui, s, row);
    else if (op->group && row)
        ask_group(ui, s, row, op->group);
}

void run_menu(struct ui *ui, struct session *s, const struct menu *m, struct row *row)
{
    const struct section *outer = ui->section;
    bool once = ui_peek(ui, 0) || !ui_interactive(ui);
    struct choosing c = {.s = s, .m = m, .row = row};
    const struct menu_op *op;

    while (!ui_failed(ui)) {
        unsigned mark;

        ui->section = m->section ? m->section : outer;
        if (!once && m->summary) {
            ui_gap(ui);
            m->summary(ui, s, row);
        }
        ui->stopped = false;
        op = once ? from_word(ui, &c) : from_person(ui, &c);
        if (!op)
            break;
        mark = session_mark(s);
        run_op(ui, s, op, row);
        if (once && !ui_failed(ui))
            ui_end_of_words(ui);
        if (!ui_failed(ui) && session_flush(s, ui))
            session_release(s, mark);
        else
            session_undo(s, mark);
        if (once)
            break;
        if (!ui_aborted(ui))
            ui->failed = false;
    }
    ui->section = outer;
}
