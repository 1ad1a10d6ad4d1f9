/* displayalerts.c - the last alerts, newest first, as they are stored even when nobody gets them by
 * mail. */
#include "cmds/common.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define INDENT 30
#define WIDTH 80

/* "10 Mar 2015 11:33:36 +0000" */
static void date_of(const json_t *alert, char out[40])
{
    char whole[40];
    const char *blank;

    clock_rfc5322(json_int(alert, "time_us", 0), whole);
    blank = strchr(whole, ' ');
    str_copy(out, 40, blank ? blank + 1 : whole);
}

/* Lines of the text below each other in the second column, broken at blanks. */
static void print_text(struct ui *ui, const char *date, const char *text)
{
    while (*text || *date) {
        size_t line = strcspn(text, "\n"), n = line;

        if (n > WIDTH - INDENT) {
            for (n = WIDTH - INDENT; n && text[n] != ' ';)
                n--;
            if (!n)
                n = strcspn(text, " \n");
        }
        out_line(ui, "%-*s%.*s", INDENT, date, (int)n, text);
        date = "";
        text += n;
        while (*text == ' ' || (n == line && *text == '\n')) {
            if (*text++ == '\n')
                break;
        }
    }
}

static void run(struct ui *ui, struct session *s)
{
    json_t *data, *alert;
    size_t i;

    if (!ui_end_of_words(ui) || !(data = session_call(s, ui, "alert.list", json_object())))
        return;
    if (!json_array_size(json_object_get(data, "alerts")))
        out_line(ui, "There are no recent alerts to display.");
    else
        out_line(
            ui, "%-*sDescription\n%s", INDENT, "Date and Time Stamp",
            "--------------------------------------------------------------------------------");
    json_array_foreach(json_object_get(data, "alerts"), i, alert)
    {
        AUTO(buf) struct buf text = BUF_INIT(20000);
        char date[40];

        if (out_stopped(ui))
            break;
        date_of(alert, date);
        buf_printf(&text, "%s: %s", json_str(alert, "severity", ""), json_str(alert, "text", ""));
        print_text(ui, date, buf_str(&text));
    }
    out_data(ui, data);
}

const struct command cmd_displayalerts = {
    .name = "displayalerts",
    .help = "Display the last alerts sent by the system",
    .usage = "displayalerts",
    .detail =
        "The newest first; how many are kept is a setting of \"alertconfig setup\". Alerts are "
        "kept whether or not somebody gets them by mail.",
    .roles = ROLE_READONLY,
    .run = run,
};
