/* tail.c - the last lines of a log, and those that come. */
#include "cmds/logs.h"

#include <stdlib.h>

struct logs {
    struct strlist names;
    size_t shown; /* the first ones, with their numbers */
};

/* By number or name. */
static const char *pick(const struct logs *l, const char *answer)
{
    char *end;
    unsigned long n = strtoul(answer, &end, 10);

    if (*answer && !*end)
        return n >= 1 && n <= l->shown ? l->names.items[n - 1] : NULL;
    return strlist_has(&l->names, answer) ? answer : NULL;
}

static bool accept_log(void *arg, const char *answer, struct err *err)
{
    const struct logs *l = arg;
    AUTO(buf) struct buf names = BUF_INIT(4000);

    if (pick(l, answer))
        return true;
    strlist_join(&l->names, ", ", &names);
    return err_set(err, E_NOT_FOUND, "There is no log \"%s\". The logs are: %s.",
                   str_printable(answer), buf_str(&names));
}

static void offer_logs(void *arg, const char *typed, struct offers *out)
{
    const struct logs *l = arg;

    (void)typed;
    for (size_t i = 0; i < l->names.n; i++)
        offer(out, l->names.items[i], NULL);
}

static char *ask_which(struct ui *ui, struct session *s, const char *question, bool all, bool mail)
{
    json_t *data = session_call(s, ui, "log.list", json_object()), *l;
    struct logs logs = {0};
    AUTO(buf) struct buf text = BUF_INIT(16u << 10);
    struct ui_question q = {.key = "log", .accept = accept_log, .offer = offer_logs, .arg = &logs};
    char *name = NULL;
    const char *answer;
    size_t i;

    buf_printf(&text, "Currently configured logs:");
    for (int round = 0; round < (mail ? 2 : 1); round++) { /* mail: the others come second, and are not shown */
        json_array_foreach(json_object_get(data, "logs"), i, l)
        {
            if (mail && str_eq(json_str(l, "type", ""), "mail") != (round == 0))
                continue;
            if (round == 0)
                buf_printf(&text, "\n%zu. \"%s\" Type: \"%s\" Retrieval: %s", ++logs.shown, json_str(l, "name", ""),
                           json_str(l, "type_name", ""), json_str(l, "retrieval", ""));
            strlist_add(&logs.names, json_str(l, "name", ""));
        }
    }
    if (all) {
        buf_printf(&text, "\n%zu. All Logs", ++logs.shown);
        strlist_add(&logs.names, "all");
    }
    buf_printf(&text, "\n%s", question);
    q.text = buf_str(&text);
    q.deflt = mail && logs.shown && ui_interactive(ui) ? "1" : NULL;
    answer = ui_ask(ui, &q);
    if (!ui_failed(ui) && pick(&logs, answer))
        name = xstrdup(pick(&logs, answer));
    strlist_free(&logs.names);
    json_decref(data);
    return name;
}

char *ask_log(struct ui *ui, struct session *s, const char *verb)
{
    char *question = xasprintf("Enter the number of the log you wish to %s.", verb), *name;

    name = ask_log_or_all(ui, s, question, false);
    free(question);
    return name;
}

char *ask_log_or_all(struct ui *ui, struct session *s, const char *question, bool all)
{
    return ask_which(ui, s, question, all, false);
}

char *ask_mail_log(struct ui *ui, struct session *s, const char *question)
{
    return ask_which(ui, s, question, false, true);
}

void complete_log(struct session *s, const struct strlist *words, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    (void)words;
    session_names(s, &section_log, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

bool print_log_line(void *ui, const json_t *data)
{
    out_stream(ui, json_str(data, "line", ""), json_deep_copy(data));
    return !out_stopped(ui);
}

static void run(struct ui *ui, struct session *s)
{
    json_int_t count = lines_option(ui, 0, 10);
    char *name = ask_log(ui, s, "tail");
    json_t *args;

    if (!name || !ui_end_of_words(ui)) {
        free(name);
        return;
    }
    args = json_object();
    json_put_str(args, "name", name);
    json_put_int(args, "lines", count);
    free(name);
    out_live(ui);
    ui_say(ui, "Press Ctrl-C to stop.");
    session_stream(s, ui, "log.tail", args, print_log_line, ui);
}

const struct command cmd_tail = {
    .name = "tail",
    .help = "Continuously display the end of a log file",
    .usage = "tail [-n LINES] LOG",
    .detail = "Shows the last lines of the current file and follows it, over rollovers too. Ctrl-C "
              "stops.",
    .roles = ROLE_READONLY,
    .run = run,
    .complete = complete_log,
};
