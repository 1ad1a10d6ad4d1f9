/* prompt.c - see prompt.h. */
#include "shell/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shell/backend.h"
#include "shell/run.h"
#include "store/base/clock.h"
#include "store/base/version.h"

static void banner(struct ui *ui, struct session *s, unsigned idle)
{
    const char *last = json_str(session_hello(s), "last_login", NULL);

    if (last)
        ui_say(ui, "Last login: %s", str_printable(last));
    ui_say(ui, "Postern %s\n\nWelcome to the Postern secure mail gateway\n",
           json_str(session_hello(s), "version", POSTERN_VERSION));
    ui_say(ui,
           "NOTE: This session ends when it is idle for %u minutes. Changes which are not\n"
           "committed are not active; they are kept and offered at the next login.\n"
           "\"help\" lists the commands, \"?\" explains at any point.",
           idle / 60 ? idle / 60 : 1);
}

static void offer_detached(struct ui *ui, struct session *s)
{
    const json_t *list = json_object_get(session_hello(s), "detached");
    json_t *c;
    size_t i;

    json_array_foreach(list, i, c)
    {
        AUTO(str) char *question = NULL;
        json_t *args;
        char date[40];
        struct tm tm = {0};
        long long changes = json_int(c, "changes", 0);

        if (session_changes(s))
            break; /* one was taken up */
        strptime(json_str(c, "touched", ""), "%Y-%m-%dT%H:%M:%SZ", &tm);
        clock_commit_date((usec_t)timegm(&tm) * 1000000, date);
        question = xasprintf("You left %lld uncommitted change%s on %s. Resume?", changes,
                             changes == 1 ? "" : "s", date);
        if (!ask_yes(ui, "resume", question, true) || ui_failed(ui))
            continue;
        args = json_object();
        json_put_int(args, "id", json_int(c, "id", 0));
        json_decref(session_call(s, ui, "candidate.attach", args));
        session_refresh(s);
    }
}

static void begin_nothing(struct ui *ui)
{
    struct words none = {0};

    ui_begin(ui, &none);
}

static int run_typed(struct ui *ui, struct session *s, const char *line)
{
    struct statements list = {0};
    struct err err = {0};
    int code = 2;

    if (words_parse(line, strlen(line), NULL, NULL, &list, &err)) {
        code = run_statements(ui, s, &list);
    } else {
        begin_nothing(ui);
        ui_say(ui, "%s", err.text);
    }
    statements_free(&list);
    return code;
}

static void farewell(struct ui *ui, struct session *s, enum ui_end end, unsigned idle)
{
    begin_nothing(ui);
    ui->end = UI_GOES_ON;
    if (end == UI_IDLE)
        ui_say(ui, "Nothing was typed for %u minute%s: the session has ended.%s",
               idle / 60 ? idle / 60 : 1, idle / 60 > 1 ? "s" : "",
               session_changes(s) ? " Uncommitted changes are kept and offered at the next login."
                                  : "");
}

/* One line from the prompt to its end; why no other follows. */
static enum ui_end one_line(struct ui *ui, struct session *s)
{
    AUTO(buf) struct buf prompt = BUF_INIT(1024), line = BUF_INIT(WORDS_MAX_LINE * 4);
    enum ui_end end;
    char *text;
    int code;

    begin_nothing(ui);
    session_refresh(s);
    ui_gap(ui);
    session_prompt(s, &prompt);
    end = ui->backend->line(ui, buf_str(&prompt), &line);
    ui->newlines = 2; /* an empty line prints the prompt again, without a gap */
    if (end == UI_EOF)
        buf_str_add(&line, "quit");
    else if (end)
        return end == UI_INTERRUPTED ? UI_GOES_ON : end;
    text = str_trim((char *)(uintptr_t)buf_str(&line));
    if (!*text)
        return UI_GOES_ON;
    if (ui->backend->remember)
        ui->backend->remember(ui, text);
    ui->newlines = 1;
    ui->answered = true;
    code = run_typed(ui, s, text);
    if (ui->backend->done)
        ui->backend->done(ui, code);
    if (ui->answered)
        ui->newlines = 2; /* it printed nothing */
    return ui->end == UI_HANGUP || ui->end == UI_IDLE ? ui->end : UI_GOES_ON;
}

int prompt_run(struct ui *ui, struct session *s, unsigned idle)
{
    enum ui_end end;

    session_use(s, ui);
    begin_nothing(ui);
    ui->unpaged = true;
    banner(ui, s, idle);
    ui->unpaged = false;
    offer_detached(ui, s);
    end = ui->end == UI_HANGUP || ui->end == UI_IDLE ? ui->end : UI_GOES_ON;
    while (!end && !ui->leave)
        end = one_line(ui, s);
    farewell(ui, s, end, idle);
    return end == UI_HANGUP || end == UI_IDLE ? 1 : 0;
}
