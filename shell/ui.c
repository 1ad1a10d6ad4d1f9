/* ui.c - see ui.h and backend.h: the order in which answers are looked for, the layout around
 * questions, what becomes of failures. Where the terminal is concerned see ui_term.c; the words of
 * the line are ui_words.c's. */
#include "shell/ui.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/command.h"
#include "shell/event.h"

#define MAX_SAID (64u << 10)

struct ui *ui_new(const struct backend *b, void *data)
{
    struct ui *ui = xcalloc(1, sizeof(*ui));

    ui->backend = b;
    ui->data = data;
    ui->newlines = 2;
    ui->said.max = MAX_SAID;
    return ui;
}

static void forget(struct ui *ui)
{
    words_clear(&ui->words);
    free(ui->error);
    ui->error = NULL;
    json_free(&ui->data_out);
    json_free(&ui->extra);
    buf_reset(&ui->said);
    ui->command = NULL;
    ui->section = NULL;
    ui->json = ui->failed = ui->stopped = ui->changed = false;
    ui->exit_code = 0;
    ui->code = E_NONE;
}

void ui_free(struct ui **ui)
{
    if (!*ui)
        return;
    forget(*ui);
    if ((*ui)->backend && (*ui)->backend->release)
        (*ui)->backend->release(*ui);
    buf_free(&(*ui)->said);
    secret_text_free(&(*ui)->answer);
    free(*ui);
    *ui = NULL;
}

void ui_begin(struct ui *ui, struct words *words)
{
    forget(ui);
    ui->unpaged = false;
    ui->words = *words;
    *words = (struct words){0};
    if (ui->end == UI_INTERRUPTED || ui->end == UI_FAILED || (ui->end == UI_EOF && ui->backend))
        ui->end = UI_GOES_ON;
}

static json_t *envelope(struct ui *ui, const char *command, json_t *state)
{
    json_t *e = json_object();
    const char *key;
    json_t *value;

    json_put_int(e, "v", CONTROL_VERSION);
    json_put(e, "ok", json_boolean(ui->exit_code == 0));
    json_put_str(e, "command", command);
    if (ui->code)
        json_put_str(e, "code", err_code_name(ui->code));
    json_put_int(e, "exit", ui->exit_code);
    if (ui->error)
        json_put_str(e, "message", ui->error);
    else if (ui->said.n)
        json_put_str(e, "message", str_trim((char *)(uintptr_t)buf_str(&ui->said)));
    json_put(e, "changed", json_boolean(ui->changed));
    if (state)
        json_object_update(e, state);
    json_decref(state);
    if (ui->extra) {
        json_object_foreach(ui->extra, key, value) json_object_set(e, key, value);
    }
    if (!ui->data_begun)
        json_put(e, "data", ui->data_out ? json_incref(ui->data_out) : json_null());
    return e;
}

/* After out_list: the other members of its data, and then those of the envelope. */
static char *rest_of_envelope(const struct ui *ui, const json_t *e)
{
    AUTO(str) char *data = json_text(ui->data_out), *rest = json_text(e);
    bool any = json_object_size(ui->data_out);

    return xasprintf("%s%s,%s", any ? "," : "", any ? data + 1 : "}", rest + 1);
}

int ui_finish(struct ui *ui, const char *command, json_t *state)
{
    AUTO(json) json_t *e = NULL;
    char *text;

    if (!ui->json) {
        json_decref(state);
        return ui->exit_code;
    }
    e = envelope(ui, command, state);
    if (ui->data_begun && !ui->data_out)
        ui->data_out = json_object();
    text = ui->data_begun ? rest_of_envelope(ui, e) : json_text(e);
    ui->data_begun = false;
    if (ui->backend)
        ui->backend->write(ui, text, strlen(text));
    else
        fputs(text, stdout);
    free(text);
    if (ui->backend)
        ui->backend->write(ui, "\n", 1);
    else
        putchar('\n');
    fflush(stdout);
    return ui->exit_code;
}

/* --- saying ---------------------------------------------------------------------------------- */

/* The last line of defence of a terminal: whatever a command prints, control characters and their
 * like are escaped; newlines and tabs are ours, and a backslash may be the mark of what was escaped
 * before. */
static void clean(const char *text, size_t n, struct buf *out)
{
    size_t start = 0;

    for (size_t i = 0; i <= n; i++) {
        if (i < n && text[i] != '\n' && text[i] != '\t')
            continue;
        str_escape_again(out, text + start, i - start);
        if (i < n)
            buf_char(out, text[i]);
        start = i + 1;
    }
}

static void write_clean(struct ui *ui, const char *text, size_t n)
{
    AUTO(buf) struct buf out = BUF_INIT(n * 8 + 16);

    clean(text, n, &out);
    if (ui->backend)
        ui->backend->write(ui, out.p, out.n);
    else
        fwrite(out.p, 1, out.n, stdout);
}

static void put(struct ui *ui, const char *text, size_t n)
{
    size_t tail = 0;

    if (!n)
        return;
    if (ui->backend || isatty(STDOUT_FILENO))
        write_clean(ui, text, n);
    else
        fwrite(text, 1, n, stdout);
    while (tail < n && tail < 2 && text[n - 1 - tail] == '\n')
        tail++;
    ui->newlines =
        tail < n ? (unsigned)tail : (unsigned)(ui->newlines + tail > 2 ? 2 : ui->newlines + tail);
}

void ui_gap(struct ui *ui)
{
    bool unpaged = ui->unpaged;

    ui->answered = false;
    if (!ui->backend || ui->json || ui->newlines >= 2)
        return;
    ui->unpaged = true; /* a blank line alone is no page */
    if (ui->newlines == 0)
        put(ui, "\n", 1);
    put(ui, "\n", 1);
    ui->unpaged = unpaged;
}

void ui_write(struct ui *ui, const char *text, size_t n)
{
    if (ui->json || ui_failed(ui) || ui->stopped)
        return;
    if (ui->answered)
        ui_gap(ui);
    put(ui, text, n);
}

void ui_wrap(const struct buf *text, unsigned width, struct buf *out)
{
    unsigned column = 0;
    size_t blank = 0; /* position in out of the last blank of this line + 1 */
    bool broken = false; /* the line of the text did not fit */

    for (size_t i = 0; i < text->n; i++) {
        char c = text->p[i];

        if (c == '\n' && broken && i + 1 < text->n && text->p[i + 1] >= 'a' && text->p[i + 1] <= 'z')
            c = ' ';
        buf_char(out, c);
        if (c == '\n') {
            column = 0;
            blank = 0;
            broken = false;
            continue;
        }
        column += (c & 0xc0) != 0x80;
        if (width && column > width && blank && out->p[blank - 1] == ' ') {
            out->p[blank - 1] = '\n';
            column = (unsigned)(out->n - blank);
            blank = 0;
            broken = true;
        }
        if (c == ' ' && column > 1)
            blank = out->n;
    }
}

void ui_say(struct ui *ui, const char *fmt, ...)
{
    AUTO(buf) struct buf line = BUF_INIT(MAX_SAID), wrapped = BUF_INIT(MAX_SAID);
    va_list ap;

    if (ui_failed(ui))
        return;
    va_start(ap, fmt);
    buf_vprintf(&line, fmt, ap);
    va_end(ap);
    buf_char(&line, '\n');
    if (ui->json) {
        buf_add(&ui->said, line.p, line.n);
    } else if (ui->backend) {
        ui_wrap(&line, ui_width(ui), &wrapped);
        ui_write(ui, wrapped.p, wrapped.n);
    }
}

void ui_last_word(struct ui *ui, const char *text)
{
    AUTO(buf) struct buf line = BUF_INIT(MAX_SAID), wrapped = BUF_INIT(MAX_SAID);

    if (ui->end != UI_INTERRUPTED || ui->json)
        return;
    buf_printf(&line, "%s\n", text);
    ui_wrap(&line, ui_width(ui), &wrapped);
    if (ui->backend)
        put(ui, wrapped.p, wrapped.n);
    else
        fputs(buf_str(&line), stderr);
}

bool ui_aborted(const struct ui *ui)
{
    return ui->end != UI_GOES_ON;
}

bool ui_failed(const struct ui *ui)
{
    return ui->end != UI_GOES_ON || ui->failed;
}

bool ui_interactive(const struct ui *ui)
{
    return ui->backend && !ui->no_input && !ui->json;
}

void ui_leave(struct ui *ui)
{
    ui->leave = true;
}

void ui_changed(struct ui *ui)
{
    ui->changed = true;
}

void ui_stop(struct ui *ui, enum ui_end how)
{
    if (!ui->end)
        ui->end = how;
    if (!ui->exit_code && how == UI_INTERRUPTED)
        ui->exit_code = 130;
    if (!ui->exit_code && (how == UI_HANGUP || how == UI_IDLE))
        ui->exit_code = 1;
}

unsigned ui_width(const struct ui *ui)
{
    return ui->backend && ui->backend->width ? ui->backend->width(ui) : 0;
}

static void fail(struct ui *ui, enum err_code code, const char *text)
{
    if (ui_failed(ui))
        return;
    if (!ui->exit_code) {
        ui->exit_code = code ? err_exit_code(code) : 1;
        ui->code = code;
        if (text)
            ui->error = xstrdup(text);
    }
    if (text && !ui->json && ui->backend) {
        AUTO(buf) struct buf line = BUF_INIT(MAX_SAID), wrapped = BUF_INIT(MAX_SAID);

        buf_printf(&line, "%s\n", text);
        ui_wrap(&line, ui_width(ui), &wrapped);
        ui_write(ui, wrapped.p, wrapped.n);
    } else if (text && !ui->json) {
        const char *name = ui->command ? ui->command->name : NULL;
        size_t n = name ? strlen(name) : 0;

        if (n && str_starts(text, name) && (text[n] == ' ' || text[n] == ':'))
            name = NULL; /* the sentence begins with it already */
        fflush(stdout);
        fprintf(stderr, "%s: %s%s%s\n", ui->where ? ui->where : "postern", name ? name : "",
                name ? ": " : "", text);
    }
    ui->failed = true;
    if (!ui_interactive(ui))
        ui_stop(ui, UI_FAILED);
}

void ui_error(struct ui *ui, const struct err *err)
{
    fail(ui, err->code ? err->code : E_INVALID, err->text);
}

void ui_fail(struct ui *ui, enum err_code code, const char *fmt, ...)
{
    struct err err = {.code = code};
    AUTO(buf) struct buf text = BUF_INIT(MAX_SAID);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    fail(ui, err.code, buf_str(&text));
}

void ui_unsuccessful(struct ui *ui)
{
    fail(ui, E_NONE, NULL);
}

/* --- what "?" and Tab show ------------------------------------------------------------------- */

void offer(struct offers *o, const char *word, const char *text)
{
    if (o->limit && o->n >= o->limit)
        return;
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 16;
        o->items = xrealloc(o->items, o->cap * sizeof(*o->items));
    }
    o->items[o->n++] = (struct ui_choice){xstrdup(word), text ? xstrdup(text) : NULL};
}

void offers_free(struct offers *o)
{
    for (size_t i = 0; i < o->n; i++) {
        free((char *)(uintptr_t)o->items[i].word);
        free((char *)(uintptr_t)o->items[i].text);
    }
    free(o->items);
    *o = (struct offers){0};
}

static int by_word(const void *a, const void *b)
{
    return strcmp(((const struct ui_choice *)a)->word, ((const struct ui_choice *)b)->word);
}

void offers_sort(struct offers *o)
{
    if (o->n)
        qsort(o->items, o->n, sizeof(*o->items), by_word);
}

void offers_choices(struct offers *o, const struct ui_choice *choices)
{
    for (; choices && choices->word; choices++)
        offer(o, choices->word, choices->text);
}

/* --- asking ---------------------------------------------------------------------------------- */

void secret_text_free(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static const char *keep(struct ui *ui, const char *answer)
{
    char *copy = xstrdup(answer); /* the default may be the answer before */

    secret_text_free(&ui->answer);
    return ui->answer = copy;
}

static bool accepted(const struct ui_question *q, const char *answer, struct err *err)
{
    *err = (struct err){0};
    return !q->accept || q->accept(q->arg, answer, err);
}

static bool accept_choice(void *arg, const char *answer, struct err *err);

static bool unknown_choice(const struct ui_choice *choices, const char *word, struct err *err)
{
    AUTO(buf) struct buf names = BUF_INIT(1000);

    for (; choices->word; choices++)
        buf_printf(&names, "%s%s", names.n ? ", " : "", choices->word);
    return err_set(err, E_USAGE, "Unknown value \"%s\"; choose one of: %s.", str_printable(word),
                   buf_str(&names));
}

/* A secret may stand in a batch file as key=<<END, where no history and no list of processes shows it; its line
 * end is not part of it. */
static const char *from_here_text(struct ui *ui, const char *given)
{
    for (size_t i = 0; i < ui->words.n; i++) {
        struct word *w = &ui->words.items[i];

        if (w->here && w->value == given) {
            w->text[strcspn(w->text, "\n")] = '\0';
            return given;
        }
    }
    return NULL;
}

/* key=- of a secret: the first line of the standard input. NULL: it is a terminal's, or a batch file's. */
static const char *from_input(struct ui *ui)
{
    size_t size = 0;
    ssize_t n;

    if (ui->backend || ui->where || isatty(STDIN_FILENO))
        return NULL;
    secret_text_free(&ui->answer);
    event_deadly(true);
    n = getline(&ui->answer, &size, stdin);
    event_deadly(false);
    if (n < 0)
        free(ui->answer);
    if (n < 0)
        ui->answer = xstrdup("");
    ui->answer[strcspn(ui->answer, "\r\n")] = '\0';
    return ui->answer;
}

/* The answer the line gives, or NULL. */
static const char *from_words(struct ui *ui, const struct ui_question *q)
{
    const char *given = q->key ? ui_key(ui, q->key) : NULL, *key = q->key ? q->key : "it";

    if (!given)
        given = ui_word(ui);
    if (!given || !q->secret || from_here_text(ui, given))
        return given;
    given = str_eq(given, "-") ? from_input(ui) : NULL;
    if (!given)
        ui_fail(ui, E_USAGE,
                "A secret cannot be given on the command line: \"%s\" is asked for without echo, "
                "read from the standard input for %s=-, or given in a batch file as %s=<<END.",
                key, key, key);
    return given;
}

/* Prints the question down to its last line, which is the prompt. No page mark stands in it: what
 * is typed next is the answer. */
static void print_question(struct ui *ui, const struct ui_question *q, struct buf *prompt)
{
    AUTO(buf) struct buf text = BUF_INIT(MAX_SAID), wrapped = BUF_INIT(MAX_SAID);
    const char *all, *last;

    buf_printf(&text, "%s%c", q->text, q->same_line || q->secret ? ' ' : '\n');
    if (q->bare)
        buf_str_add(&text, "> ");
    else if (!q->secret)
        buf_printf(&text, "[%s]> ", q->deflt ? str_printable(q->deflt) : "");
    ui_wrap(&text, ui_width(ui), &wrapped);
    all = buf_str(&wrapped);
    last = strrchr(all, '\n');
    ui_gap(ui);
    ui->unpaged = true;
    if (last)
        put(ui, all, (size_t)(last + 1 - all));
    ui->unpaged = false;
    clean(last ? last + 1 : all, strlen(last ? last + 1 : all), prompt);
}

static void print_help(struct ui *ui, const struct ui_question *q)
{
    struct offers offers = {.limit = 200};

    if (q->help)
        ui_say(ui, "%s", q->help);
    offers_choices(&offers, q->choices);
    if (q->offer)
        q->offer(q->arg, "", &offers);
    for (size_t i = 0; i < offers.n; i++)
        ui_say(ui, "  %-16s %s", offers.items[i].word,
               offers.items[i].text ? offers.items[i].text : "");
    if (!q->help && !offers.n)
        ui_say(ui, "%s",
               q->deflt && *q->deflt ? "Enter keeps the value in brackets."
                                     : "There is no further help here.");
    offers_free(&offers);
}

static const char *from_person(struct ui *ui, const struct ui_question *q)
{
    AUTO(buf) struct buf prompt = BUF_INIT(4096), answer = BUF_INIT(1 << 20);
    struct err err = {0};
    const char *text = NULL;

    print_question(ui, q, &prompt);
    while (!text) {
        enum ui_end end;

        buf_reset(&answer);
        end = ui->backend->ask(ui, q, buf_str(&prompt), &answer);
        ui->newlines = 1;
        ui->answered = false;
        if (end) {
            ui_stop(ui, end);
            break;
        }
        text = answer.n ? buf_str(&answer) : q->deflt ? q->deflt : "";
        if (str_eq(text, "?") && !q->secret) {
            print_help(ui, q);
            text = NULL;
        } else if (!accepted(q, text, &err)) {
            ui_say(ui, "%s", err.text);
            text = NULL;
        }
    }
    ui->answered = true;
    keep(ui, text ? text : q->deflt ? q->deflt : "");
    if (q->secret && answer.p)
        explicit_bzero(answer.p, answer.n);
    return ui->answer;
}

/* The key alone says little to who typed only the command: its forms, where they fit in a sentence. */
static void fail_missing(struct ui *ui, const struct ui_question *q)
{
    const char *what = q->key ? q->key : q->text;
    const struct command *c = ui->command;
    AUTO(buf) struct buf forms = BUF_INIT(1000);

    if (!c) {
        ui_fail(ui, E_USAGE, "A value is missing: %s.", what);
    } else if (c->menu || c->section || !c->usage) {
        ui_fail(ui, E_USAGE, "A value is missing: %s. \"help %s\" shows the forms.", what, c->name);
    } else {
        for (const char *p = c->usage; *p; p++)
            buf_str_add(&forms, *p == '\n' ? " | " : (char[]){*p, '\0'});
        ui_fail(ui, E_USAGE, "A value is missing: %s. Usage: %s", what, buf_str(&forms));
    }
}

const char *ui_ask(struct ui *ui, const struct ui_question *q)
{
    struct err err = {0};
    const char *given;

    if (!ui_failed(ui) && (given = from_words(ui, q)) != NULL) {
        keep(ui, given);
        if (accepted(q, ui->answer, &err))
            return ui->answer;
        if (q->accept == accept_choice) /* a line has no numbered list to look at */
            unknown_choice(q->choices, ui->answer, &err);
        fail(ui,
             err.code == E_NOT_FOUND || err.code == E_EXISTS || err.code == E_DENIED ? err.code
                                                                                     : E_USAGE,
             err.text);
    }
    if (ui_failed(ui)) /* a refused line is not made good by questions */
        return keep(ui, q->deflt ? q->deflt : "");
    if (ui_interactive(ui))
        return from_person(ui, q);
    if (!q->deflt)
        fail_missing(ui, q);
    return keep(ui, q->deflt ? q->deflt : "");
}

static int yes_or_no(const char *answer)
{
    static const char *const yes[] = {"y", "yes", "on", "true", "1"}, *const no[] = {"n", "no",
                                                                                     "off", "false",
                                                                                     "0"};

    for (size_t i = 0; i < countof(yes); i++) {
        if (str_ieq(answer, yes[i]))
            return 1;
        if (str_ieq(answer, no[i]))
            return 0;
    }
    return -1;
}

static bool accept_yes(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return yes_or_no(answer) >= 0 || err_set(err, E_USAGE, "Please answer Y or N.");
}

static const struct ui_choice yes_choices[] = {
    {"Y",  "Yes."},
    {"N",  "No." },
    {NULL, NULL  }
};

bool ask_yes(struct ui *ui, const char *key, const char *question, bool deflt)
{
    struct ui_question q = {.text = question,
                            .key = key,
                            .deflt = deflt ? "Y" : "N",
                            .same_line = true,
                            .choices = yes_choices,
                            .accept = accept_yes};

    return yes_or_no(ui_ask(ui, &q)) == 1;
}

bool ask_confirm(struct ui *ui, const char *key, const char *question, bool deflt)
{
    struct ui_question q = {.text = question,
                            .key = key,
                            .deflt = deflt ? "Y" : "N",
                            .same_line = true,
                            .choices = yes_choices,
                            .accept = accept_yes};

    if (ui->yes && !ui_failed(ui))
        return true;
    if (!ui_failed(ui) && !ui_interactive(ui)) {
        if (!ui_peek(ui, 0)) {
            ui_fail(ui, E_USAGE, "This must be confirmed: say Y, or give --yes.");
            return false;
        }
        q.deflt = "N";
    }
    return yes_or_no(ui_ask(ui, &q)) == 1 && !ui_failed(ui);
}

const char *ask_text(struct ui *ui, const char *key, const char *question, const char *deflt)
{
    struct ui_question q = {.text = question, .key = key, .deflt = deflt};

    return ui_ask(ui, &q);
}

static int choice_of(const struct ui_choice *choices, const char *answer)
{
    char *end;
    unsigned long number;
    int n = 0, found = -1;

    for (; choices[n].word; n++) {
        if (str_ieq(answer, choices[n].word) ||
            (choices[n].text && str_ieq(answer, choices[n].text)))
            return n;
    }
    number = strtoul(answer, &end, 10);
    if (isdigit((unsigned char)answer[0]) && !*end)
        return number >= 1 && number <= (unsigned long)n ? (int)number - 1 : -1;
    for (int i = 0; i < n && *answer; i++) { /* a unique beginning */
        if (!str_istarts(choices[i].word, answer) &&
            !(choices[i].text && str_istarts(choices[i].text, answer)))
            continue;
        if (found >= 0)
            return -1;
        found = i;
    }
    return found;
}

static bool accept_choice(void *arg, const char *answer, struct err *err)
{
    const struct ui_choice *choices = arg;
    int n = 0;

    if (choice_of(choices, answer) >= 0)
        return true;
    while (choices[n].word)
        n++;
    return err_set(err, E_USAGE, "The value must be an integer from 1 to %d.", n);
}

int ask_choice(struct ui *ui, const char *key, const char *question,
               const struct ui_choice *choices, int deflt)
{
    AUTO(buf) struct buf text = BUF_INIT(MAX_SAID);
    char number[16] = "";
    struct ui_question q = {
        .key = key, .choices = choices, .accept = accept_choice, .arg = (void *)(uintptr_t)choices};
    int chosen;

    buf_str_add(&text, question ? question : "");
    for (int i = 0; choices[i].word; i++)
        buf_printf(&text, "%s%d. %s", text.n ? "\n" : "", i + 1,
                   choices[i].text ? choices[i].text : choices[i].word);
    if (deflt >= 0) {
        snprintf(number, sizeof(number), "%d", deflt + 1);
        q.deflt = number;
    }
    q.text = buf_str(&text);
    chosen = choice_of(choices, ui_ask(ui, &q));
    return chosen >= 0 ? chosen : deflt >= 0 ? deflt : 0;
}

struct range {
    uint64_t min, max;
};

static bool number_of(const char *answer, uint64_t *out)
{
    char *end;

    if (!isdigit((unsigned char)*answer) || strlen(answer) > 19)
        return false;
    *out = strtoull(answer, &end, 10);
    return !*end;
}

static bool accept_number(void *arg, const char *answer, struct err *err)
{
    const struct range *r = arg;
    uint64_t n;

    if (number_of(answer, &n) && n >= r->min && n <= r->max)
        return true;
    return err_set(err, E_USAGE, "The value must be an integer from %" PRIu64 " to %" PRIu64 ".",
                   r->min, r->max);
}

uint64_t ask_number(struct ui *ui, const char *key, const char *question, uint64_t deflt,
                    uint64_t min, uint64_t max)
{
    char number[24];
    struct range range = {min, max};
    struct ui_question q = {
        .text = question, .key = key, .deflt = number, .accept = accept_number, .arg = &range};
    uint64_t n;

    snprintf(number, sizeof(number), "%" PRIu64, deflt);
    return number_of(ui_ask(ui, &q), &n) ? n : deflt;
}

char *ask_secret(struct ui *ui, const char *key, const char *question)
{
    struct ui_question q = {.text = question, .key = key, .secret = true};

    return xstrdup(ui_ask(ui, &q));
}

static char *block(struct ui *ui, const char *key, const char *question, bool secret)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 20), line = BUF_INIT(MAX_SAID), wrapped = BUF_INIT(MAX_SAID);
    const char *given = ui_failed(ui) ? NULL : ui_key(ui, key);
    enum ui_end end;
    char *answer;

    if (given)
        return xstrdup(given);
    if (ui_failed(ui))
        return xstrdup("");
    if (!ui_interactive(ui)) {
        ui_fail(ui, E_USAGE, "A text is missing: %s (give it in a batch file as %s=<<END).", key,
                key);
        return xstrdup("");
    }
    ui_gap(ui);
    buf_str_add(&line, question);
    ui_wrap(&line, ui_width(ui), &wrapped);
    put(ui, wrapped.p, wrapped.n);
    put(ui, "\n", 1);
    end = ui->backend->block(ui, &text, !secret);
    ui->newlines = 1;
    ui->answered = true;
    if (end)
        ui_stop(ui, end);
    else if (text.full)
        ui_fail(ui, E_LIMIT, "The text is longer than 1 MB.");
    answer = xstrdup(ui_failed(ui) ? "" : buf_str(&text));
    if (secret && text.p)
        explicit_bzero(text.p, text.n);
    return answer;
}

char *ask_block(struct ui *ui, const char *key, const char *question)
{
    return block(ui, key, question, false);
}

char *ask_secret_block(struct ui *ui, const char *key, const char *question)
{
    return block(ui, key, question, true);
}
