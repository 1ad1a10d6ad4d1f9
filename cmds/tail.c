/* tail.c - the last lines of a log, and those that come. */
#include "cmds/logs.h"

#include <stdlib.h>

char *ask_log(struct ui *ui, struct session *s, const char *verb)
{
    json_t *data = session_call(s, ui, "log.list", json_object()),
           *logs = json_object_get(data, "logs"), *l;
    struct ui_choice *choices = xcalloc(json_array_size(logs) + 1, sizeof(*choices));
    AUTO(buf) struct buf text = BUF_INIT(16u << 10);
    char *name = NULL;
    int picked;
    size_t i;

    buf_printf(&text, "Currently configured logs:");
    json_array_foreach(logs, i, l)
    {
        buf_printf(&text, "\n%zu. \"%s\" Type: \"%s\"", i + 1, json_str(l, "name", ""),
                   json_str(l, "type_name", ""));
        choices[i].word = json_str(l, "name", "");
        choices[i].text = json_str(l, "type_name", "");
    }
    buf_printf(&text, "\nEnter the number of the log you wish to %s.", verb);
    if (ui_interactive(ui) && !ui_peek(ui, 0)) {
        struct ui_question q = {.text = buf_str(&text), .key = "log", .choices = choices};
        const char *answer = ui_ask(ui, &q);
        long n = strtol(answer, NULL, 10);

        if (!ui_failed(ui))
            name = n >= 1 && (size_t)n <= json_array_size(logs) ? xstrdup(choices[n - 1].word)
                                                                : xstrdup(answer);
    } else if (data) {
        picked = ask_choice(ui, "log", "", choices, -1);
        if (picked >= 0 && !ui_failed(ui))
            name = xstrdup(choices[picked].word);
    }
    free(choices);
    json_decref(data);
    return name;
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
    const char *count = ui_option(ui, "-n");
    char *name = ask_log(ui, s, "tail");
    json_t *args;

    if (!name || !ui_end_of_words(ui)) {
        free(name);
        return;
    }
    args = json_object();
    json_put_str(args, "name", name);
    json_put_int(args, "lines", count ? strtol(count, NULL, 10) : 10);
    free(name);
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
