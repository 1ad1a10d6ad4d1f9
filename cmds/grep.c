/* grep.c - lines of a log, its saved files included, that match regular expressions. */
#include "cmds/logs.h"

#include <stdlib.h>

#include "store/base/pattern.h"

static json_t *patterns_of(struct ui *ui)
{
    json_t *list = json_array();

    for (const char *e; (e = ui_option(ui, "-e"));)
        json_array_append_new(list, json_string(e));
    return list;
}

static bool accept_regex(void *arg, const char *answer, struct err *err)
{
    struct pattern *p;

    (void)arg;
    if (!*answer)
        return err_set(err, E_INVALID, "Enter the text or regular expression to search for.");
    p = pattern_new(answer, false, err);
    if (!p)
        return false;
    pattern_free(&p);
    return true;
}

/* The questions a person gets who gave no regular expression on the line. true: in pages. */
static bool ask_rest(struct ui *ui, json_t *patterns, json_t *args)
{
    const struct ui_question q = {
        .text = "Enter the regular expression to grep.",
        .key = "regex",
        .accept = accept_regex,
        .help = "POSIX extended: \"MID (123|456)\", \"TLS (failed|success).*\"."};

    json_array_append_new(patterns, json_string(ui_ask(ui, &q)));
    json_put(args, "ignore_case",
             json_boolean(ask_yes(ui, "ignore_case",
                                  "Do you want this search to be case insensitive?", true)));
    json_put(args, "invert",
             json_boolean(
                 ask_yes(ui, "invert", "Do you want to search for non-matching lines?", false)));
    json_put(args, "follow",
             json_boolean(ask_yes(ui, "follow", "Do you want to tail the logs?", false)));
    return ask_yes(ui, "paginate", "Do you want to paginate the output?", false);
}

struct hits {
    struct ui *ui;
    size_t n;
    bool number; /* count, print nothing */
};

static bool print_hit(void *arg, const json_t *data)
{
    struct hits *h = arg;

    h->n++;
    return h->number || print_log_line(h->ui, data);
}

static void run(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *patterns = patterns_of(ui);
    const char *context = ui_option(ui, "-C");
    bool ignore_case = ui_flag(ui, "-i"), invert = ui_flag(ui, "-v"), follow = ui_flag(ui, "-t"),
         pages = ui_flag(ui, "-p"), number = ui_flag(ui, "-c");
    struct hits hits = {.ui = ui, .number = number};
    bool asked = !json_array_size(patterns) && !ui_peek(ui, 0);
    char *name;

    if (!asked && !json_array_size(patterns))
        json_array_append_new(patterns, json_string(ui_word(ui)));
    name = ask_log(ui, s, "grep");
    json_put(args, "ignore_case", json_boolean(ignore_case));
    json_put(args, "invert", json_boolean(invert));
    json_put(args, "follow", json_boolean(follow));
    if (context)
        json_put_int(args, "context", strtol(context, NULL, 10));
    if (asked && name)
        pages = ask_rest(ui, patterns, args);
    if (!pages)
        out_live(ui);
    if (number && json_bool_of(args, "follow", false))
        ui_fail(ui, E_USAGE, "-c counts what is there, -t waits for what comes: say one of them.");
    json_put(args, "patterns", patterns);
    json_put_str(args, "name", name);
    free(name);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    if (!session_stream(s, ui, "log.grep", args, print_hit, &hits) || ui_failed(ui))
        return;
    if (number) {
        json_t *data = json_object();

        out_line(ui, "%zu", hits.n);
        json_put_int(data, "matches", (json_int_t)hits.n);
        out_data(ui, data);
    } else if (!hits.n)
        out_line(ui, "No results were found. Use another regular expression(s) to search.");
}

const struct command cmd_grep = {
    .name = "grep",
    .help = "Search for text in a log file",
    .usage = "grep [-C COUNT] [-c] [-e REGEX] [-i] [-v] [-p] [-t] [REGEX] LOG",
    .detail =
        "-C lines of context, -c the number of matching lines instead of the lines, -e a regular expression as in Perl (may repeat), -i ignore case, -v lines that "
        "do not match, -p in pages at a terminal, "
        "-t goes on with the lines that come. Saved files are searched too, the oldest first.",
    .roles = ROLE_READONLY,
    .run = run,
    .complete = complete_log,
};
