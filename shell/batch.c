/* batch.c - see batch.h. Errors are told as "FILE:LINE: COMMAND: sentence". */
#include "shell/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/event.h"
#include "shell/out.h"
#include "shell/run.h"

struct source {
    FILE *f;
    char name[128];
    unsigned line;
    char *text;
    size_t size;
    size_t n;
};

/* "change.txt" for "batch < change.txt"; a pipe has no name. */
static void name_input(struct source *in)
{
    char path[2048];
    ssize_t n = readlink("/proc/self/fd/0", path, sizeof(path) - 1);
    const char *base;

    str_copy(in->name, sizeof(in->name), "stdin");
    if (n <= 0)
        return;
    path[n] = '\0';
    base = strrchr(path, '/');
    if (path[0] == '/' && base && base[1] && !str_starts(path, "/dev/") &&
        !str_ends(path, "(deleted)"))
        str_copy(in->name, sizeof(in->name), str_printable(base + 1));
}

static bool next_line(struct source *in)
{
    ssize_t n;

    event_deadly(true);
    n = getline(&in->text, &in->size, in->f);
    event_deadly(false);
    if (n < 0)
        return false;
    while (n && (in->text[n - 1] == '\n' || in->text[n - 1] == '\r'))
        in->text[--n] = '\0';
    in->n = (size_t)n;
    in->line++;
    return true;
}

static const char *here_line(void *arg)
{
    struct source *in = arg;

    return next_line(in) && strlen(in->text) == in->n ? in->text : NULL;
}

/* One line; the exit code. */
static int run_line(struct ui *outer, struct ui *ui, struct session *s, struct source *in)
{
    struct statements list = {0};
    struct err err = {0};
    char where[160];
    int code = 0;

    snprintf(where, sizeof(where), "%s:%u", in->name, in->line);
    ui->where = where;
    if (strlen(in->text) != in->n)
        err_set(&err, E_USAGE, "The line holds a NUL.");
    if (err.code || !words_parse(in->text, in->n, here_line, in, &list, &err)) {
        struct words none = {0};

        ui_begin(ui, &none);
        ui->json = outer->json;
        ui_error(ui, &err);
        code = ui_finish(ui, "batch", NULL);
    } else if (list.n) {
        ui->json_always = outer->json;
        code = run_statements(ui, s, &list);
    }
    statements_free(&list);
    ui->where = NULL;
    session_use(s, outer);
    return code;
}

int batch_lines(struct ui *outer, struct session *s, FILE *f, struct err *failed)
{
    struct source in = {.f = f};
    struct ui *ui = ui_new(NULL, NULL);
    int code = 0;

    name_input(&in);
    ui->yes_always = outer->yes || outer->yes_always;
    while (!code && next_line(&in)) {
        code = run_line(outer, ui, s, &in);
        if (code && failed && ui->error) {
            failed->code = ui->code;
            snprintf(failed->text, sizeof(failed->text), "%s:%u: %s", in.name, in.line, ui->error);
        }
        if (ui->leave)
            break;
    }
    if (!code && ferror(f)) {
        fprintf(stderr, "%s:%u: it cannot be read: %s\n", in.name, in.line, strerror(errno));
        code = 1;
    }
    ui_free(&ui);
    free(in.text);
    return code;
}

static bool read_all(struct source *in, struct buf *text)
{
    char *p;
    size_t n;

    event_deadly(true);
    while ((p = buf_reserve(text, 65536)) != NULL && (n = fread(p, 1, 65536, in->f)) > 0)
        text->n += n;
    event_deadly(false);
    return p && !ferror(in->f);
}

/* The whole configuration is what the text says. */
static void replace_all(struct ui *ui, struct session *s, struct source *in)
{
    AUTO(buf) struct buf text = BUF_INIT(JSON_MAX_LINE / 2);
    json_t *args = json_object();

    ui->where = in->name;
    if (!read_all(in, &text)) {
        ui_fail(ui, E_LIMIT, "It cannot be read, or is too long.");
        json_decref(args);
        return;
    }
    json_put_str(args, "text", buf_str(&text));
    json_put_str(args, "mode", "replace");
    json_decref(session_call(s, ui, "config.import", args));
    ui->where = NULL;
}

/* The receipt of a commit or of its rehearsal, warnings included; NULL: refused, shown. Steals args. */
static json_t *call_commit(struct ui *ui, struct session *s, json_t *args)
{
    json_t *answer = session_answer(s, ui, "commit", args), *data = NULL, *w;
    size_t i;

    if (answer && !json_bool_of(answer, "ok", false)) {
        session_show_error(s, ui, answer);
    } else if (answer) {
        data = json_incref(json_object_get(answer, "data"));
        json_array_foreach(json_object_get(answer, "warnings"), i, w) out_line(
            ui, "Warning: %s: %s", json_str(w, "object", ""), json_str(w, "message", ""));
        json_object_set(data, "warnings", json_object_get(answer, "warnings"));
    }
    json_decref(answer);
    return data;
}

static void finish(struct ui *ui, struct session *s, bool commit, bool check, const char *comment)
{
    json_t *args = json_object(), *data;

    if (commit || check) {
        json_put_str(args, "comment", comment ? comment : "");
        json_put(args, "keep", json_true());
        if (check)
            json_put(args, "check", json_true());
        data = call_commit(ui, s, args);
        if (data && !check && json_int(data, "revision", 0)) /* null: nothing was different */
            ui_changed(ui);
    } else {
        json_put_str(args, "from", "running");
        json_put_str(args, "to", "candidate");
        data = session_call(s, ui, "config.diff", args);
        if (data && !json_array_size(json_object_get(data, "objects")))
            out_line(ui, "Nothing would change.");
        else if (data)
            print_diff(ui, data);
        if (data && !out_json(ui) && json_array_size(json_object_get(data, "objects")))
            out_line(ui, "Nothing was changed: --commit makes it so.");
    }
    if (data && check)
        out_line(ui, "Checked, not committed: %lld new, %lld changed, %lld deleted.",
                 (long long)json_int(data, "new", 0), (long long)json_int(data, "changed", 0),
                 (long long)json_int(data, "deleted", 0));
    if (data && (commit || check))
        out_data(ui, data);
    else
        json_decref(data);
}

void batch_run(struct ui *ui, struct session *s)
{
    bool commit = ui_flag(ui, "--commit"), check = ui_flag(ui, "--dry-run"),
         replace = ui_flag(ui, "--replace");
    const char *comment = ui_option(ui, "--comment");
    struct source in = {.f = stdin};
    struct err failed = {0};
    int code;

    if (ui_interactive(ui) || ui->backend) {
        ui_fail(ui, E_USAGE, "batch reads standard input: postern batch < FILE.");
        return;
    }
    if (ui->where) {
        ui_fail(ui, E_USAGE, "batch cannot stand in a batch file.");
        return;
    }
    if (!comment)
        comment = ui_key(ui, "comment");
    if (!ui_end_of_words(ui) || !session_begin_anonymous(s, ui))
        return;
    name_input(&in);
    if (replace) {
        replace_all(ui, s, &in);
    } else {
        session_deferred(s, true);
        code = batch_lines(ui, s, stdin, &failed);
        if (!code)
            session_sync(s, ui);
        session_deferred(s, false);
        if (code && !ui_failed(ui)) { /* the line has said why; in JSON both do */
            if (ui->json && failed.code)
                ui_error(ui, &failed);
            else
                ui_unsuccessful(ui);
            ui->exit_code = code;
        }
    }
    if (!ui_failed(ui)) {
        finish(ui, s, commit, check, comment);
    } else if (!ui->json) {
        fflush(stdout);
        fputs("nothing was changed\n", stderr);
    }
}
