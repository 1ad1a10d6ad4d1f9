/* findevent.c - messages in a mail log by sender, recipient, subject or Message-ID, and everything
 * the log says of one of them: its connection, its deliveries, the bounces it led to. */
#include "cmds/logs.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST_SHOWN 1000 /* found messages to choose from */

static const struct ui_choice searches[] = {
    {"from",    "Search by envelope FROM"},
    {"id",      "Search by Message ID"   },
    {"subject", "Search by Subject"      },
    {"to",      "Search by envelope TO"  },
    {NULL,      NULL                     }
};

static const struct ui_choice ranges[] = {
    {"all",     "All available log files"         },
    {"dates",   "Select log files by date list"   },
    {"current", "Current log file"                },
    {NULL,      NULL                              }
};

struct found {
    struct ui *ui;
    json_t *list;
};

static bool take_found(void *arg, const json_t *data)
{
    struct found *f = arg;

    json_array_append_new(f->list, json_deep_copy(data));
    return json_array_size(f->list) < MOST_SHOWN && !out_stopped(f->ui);
}

static void found_line(const json_t *one, char *out, size_t size)
{
    snprintf(out, size, "MID %lld (%s) %.300s", (long long)json_int(one, "mid", 0),
             json_str(one, "time", ""), str_printable(json_str(one, "text", "")));
}

struct shown {
    struct ui *ui;
    bool any;
};

static bool show_line(void *arg, const json_t *data)
{
    struct shown *s = arg;

    s->any = true;
    return print_log_line(s->ui, data);
}

static void show(struct ui *ui, struct session *s, const char *log, uint64_t mid)
{
    struct shown shown = {.ui = ui};
    json_t *args = json_object();

    json_put_str(args, "name", log);
    json_put_int(args, "mid", (json_int_t)mid);
    session_stream(s, ui, "log.events", args, show_line, &shown);
    if (!shown.any && !ui_failed(ui))
        out_line(ui, "No matching message IDs were found.");
}

static void list_all(struct ui *ui, const json_t *list)
{
    json_t *one, *out;
    char line[500];
    size_t i;

    json_array_foreach(list, i, one)
    {
        found_line(one, line, sizeof(line));
        out_line(ui, "%s", line);
    }
    out = json_object();
    json_put(out, "messages", json_deep_copy(list));
    out_data(ui, out);
}

/* At a terminal one of them is chosen. */
static void choose(struct ui *ui, struct session *s, const char *log, const json_t *list)
{
    struct ui_choice *choices = xcalloc(json_array_size(list) + 1, sizeof(*choices));
    char (*lines)[500] = xcalloc(json_array_size(list) + 1, sizeof(*lines));
    json_t *one;
    int n;
    size_t i;

    json_array_foreach(list, i, one)
    {
        found_line(one, lines[i], sizeof(lines[i]));
        choices[i] = (struct ui_choice){lines[i], lines[i]};
    }
    n = ask_choice(ui, "choice",
                   "The following matching message IDs were found.  Please choose one to\nshow additional log "
                   "information:",
                   choices, 0);
    if (!ui_failed(ui))
        show(ui, s, log, (uint64_t)json_int(json_array_get(list, (size_t)n), "mid", 0));
    free(choices);
    free(lines);
}

static void run(struct ui *ui, struct session *s)
{
    const char *mid = ui_option(ui, "-m"), *regex = NULL, *range, *dates = ui_key(ui, "dates");
    bool ignore_case = ui_flag(ui, "-i"), current = ui_flag(ui, "--current"), asked = false;
    AUTO(str) char *log = NULL, *text = NULL;
    struct found f = {.ui = ui};
    int by = -1;
    json_t *args;

    for (int i = 0; !mid && searches[i].word && by < 0; i++) {
        static const char *const options[] = {"-f", "-d", "-s", "-t"};

        regex = ui_option(ui, options[i]);
        if (regex)
            by = i;
    }
    range = dates ? "dates" : current ? "current" : "all";
    if (!mid && by < 0) {
        asked = true;
        by = ask_choice(ui, "by", "Please choose which type of search you want to perform:", searches, 0);
        regex = ask_some(ui, "regex", "Enter the regular expression to search for.");
    }
    text = xstrdup(regex ? regex : "");
    log = ask_mail_log(ui, s, "Enter the number of the log you wish to use for message tracking.");
    if (asked && log) {
        range = ranges[ask_choice(ui, "range", "Please choose which set of logs to search:", ranges, 2)].word;
        if (str_eq(range, "dates"))
            dates = ask_some(ui, "dates", "Enter the dates, YYYYMMDD, separated by commas.");
    }
    if (!log || ui_failed(ui) || !ui_end_of_words(ui))
        return;
    if (mid) {
        char *end;
        unsigned long long n = strtoull(mid, &end, 10);

        if (!n || *end)
            ui_fail(ui, E_USAGE, "-m: enter a MID, a whole number from 1.");
        else
            show(ui, s, log, n);
        return;
    }
    args = json_object();
    json_put_str(args, "name", log);
    json_put_str(args, "by", searches[by].word);
    json_put_str(args, "regex", text);
    json_put_str(args, "files", range);
    if (dates)
        json_put_str(args, "dates", dates);
    json_put(args, "ignore_case", json_boolean(ignore_case || asked));
    f.list = json_array();
    session_stream(s, ui, "log.find", args, take_found, &f);
    if (!ui_failed(ui) && !json_array_size(f.list))
        out_line(ui, "No matching message IDs were found.");
    else if (!ui_failed(ui) && asked && ui_interactive(ui))
        choose(ui, s, log, f.list);
    else if (!ui_failed(ui))
        list_all(ui, f.list);
    json_decref(f.list);
}

const struct command cmd_findevent = {
    .name = "findevent",
    .help = "Find events in mail log files",
    .usage = "findevent [-i] -f FROM | -s SUBJECT | -t TO | -d MESSAGE-ID [--current] [dates=YYYYMMDD,...] LOG\n"
             "findevent -m MID LOG",
    .detail = "The first form lists the messages whose sender, subject, recipient or Message-ID matches the regular "
              "expression, at most 1,000 of them; the second prints every line about one: the connection it came "
              "over, its deliveries with their connections, and the reports it led to. -i ignores case; --current "
              "leaves the saved files out, dates= what is of other days. Without words it asks.",
    .roles = ROLE_READONLY,
    .run = run,
    .complete = complete_log,
};
