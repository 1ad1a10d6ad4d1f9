/* rate.c - rate: the whole gateway's numbers, again and again; workqueue: mail that was accepted while delivery of
 * what comes is paused; topin: who is connected. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINES_A_HEADING 20
#define RATE_WIDE 72 /* columns of a line of rate; a narrower terminal gets one of 50 */
#define TOPIN_WIDE 71

struct rates {
    struct ui *ui;
    unsigned lines;
    bool workqueue;
    json_int_t received, completed, pending;
};

static const char *clock_text(const json_t *now, char out[16])
{
    time_t t = (time_t)json_int(now, "time", 0);
    struct tm tm;

    strftime(out, 16, "%H:%M:%S", localtime_r(&t, &tm));
    return out;
}

/* Deltas are to the line before; the first has none. */
static bool print_rate(void *arg, const json_t *now)
{
    struct rates *r = arg;
    json_int_t received = json_int(now, r->workqueue ? "inj_msgs" : "inj_recips", 0),
               completed = json_int(now, "completed_recips", 0),
               pending = json_int(now, "msgs_in_work_queue", 0);
    bool narrow = too_narrow(r->ui, RATE_WIDE);
    char line[200], clock[16];

    if (!r->lines) {
        r->received = received;
        r->completed = completed;
        r->pending = pending;
    }
    if (r->lines++ % LINES_A_HEADING == 0)
        out_line(r->ui, "%s",
                 r->workqueue ? "Time     Pending    In    Out"
                 : narrow     ? "Time       Conn.    Recipients     Recipients Used\n"
                                "          In Out Received  New Completed  New   KB"
                              : "Time     Connections Recipients          Recipients          Queue\n"
                                "         In     Out  Received     Delta  Completed     Delta K-Used");
    if (r->workqueue) /* what does not wait went out at once */
        snprintf(line, sizeof(line), "%8s%8lld%6lld%7lld", clock_text(now, clock), (long long)pending,
                 (long long)(received - r->received),
                 (long long)(received - r->received - (pending - r->pending) > 0
                                 ? received - r->received - (pending - r->pending)
                                 : 0));
    else
        snprintf(line, sizeof(line),
                 narrow ? "%8s %3lld %3lld %8lld %4lld %9lld %4lld %4lld"
                        : "%8s%7lld%7lld%11lld%10lld%11lld%10lld%8lld",
                 clock_text(now, clock),
                 (long long)json_int(now, "conn_in", 0), (long long)json_int(now, "conn_out", 0),
                 (long long)received, (long long)(received - r->received), (long long)completed,
                 (long long)(completed - r->completed), (long long)json_int(now, "kbytes_used", 0));
    out_stream(r->ui, line, json_deep_copy(now));
    r->received = received;
    r->completed = completed;
    r->pending = pending;
    return !out_stopped(r->ui);
}

static void run_lines(struct ui *ui, struct session *s, bool workqueue, const char *hint)
{
    struct rates r = {.ui = ui, .workqueue = workqueue};
    json_int_t count = lines_option(ui, 1, 0);
    uint64_t seconds =
        ask_number(ui, "seconds", "Enter the number of seconds between displays.", 10, 1, 3600);
    json_t *args;

    if (ui_failed(ui) || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_int(args, "seconds", (json_int_t)seconds);
    if (count)
        json_put_int(args, "count", count);
    out_live(ui);
    if (!out_json(ui))
        ui_say(ui, "%s", hint);
    session_stream(s, ui, "status.rate", args, print_rate, &r);
}

static void rate(struct ui *ui, struct session *s)
{
    run_lines(ui, s, false, "Hit Ctrl-C to return to the main prompt.\n");
}

const struct command cmd_rate = {
    .name = "rate",
    .help = "Monitor overall activity",
    .usage = "rate [-n LINES] SECONDS",
    .detail = "A line every so many seconds until Ctrl-C, or so many lines: open connections, recipients "
              "received and completed ever and since the line before, kilobytes of queued mail.",
    .roles = ROLE_GUEST,
    .run = rate,
};

/* --- workqueue --- */

static enum { UNKNOWN, RUNNING, PAUSED } work; /* as it was told last: what the menu offers */

static json_t *call_work(struct ui *ui, struct session *s, const char *what, const char *reason)
{
    json_t *args = json_object(), *data;

    json_put_str(args, "what", what);
    if (*reason)
        json_put_str(args, "reason", reason);
    data = session_call(s, ui, "queue.work", args);
    if (data)
        work = str_eq(json_str(data, "status", ""), "paused") ? PAUSED : RUNNING;
    return data;
}

/* Takes data. */
static void print_work(struct ui *ui, json_t *data, bool date)
{
    const char *by = json_str(data, "paused_by", "");
    char as_of[40];

    if (!data)
        return;
    if (date)
        out_line(ui, "Status as of:   %s", clock_commit_date((usec_t)json_int(data, "as_of", 0) * 1000000, as_of));
    out_line(ui, "Status:   %s%s%s", work == PAUSED ? "Paused" : "Operational", *by ? " by " : "", str_printable(by));
    out_line(ui, "Messages: %lld", (long long)json_int(data, "messages", 0));
    out_data(ui, data);
}

static void say_work(struct ui *ui, struct session *s, const struct row *unused)
{
    (void)unused;
    print_work(ui, call_work(ui, s, "status", ""), false);
    out_line(ui, "%s", "");
}

static void work_status(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    if (ui_end_of_words(ui))
        print_work(ui, call_work(ui, s, "status", ""), true);
}

static void work_rate(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_lines(ui, s, true, "Type Ctrl-C to return to the main prompt.\n");
}

/* The words that are left, as one text; NULL: there are none. */
static char *reason_of_line(struct ui *ui)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);

    if (!ui_peek(ui, 0))
        return NULL;
    buf_str_add(&text, ask_text(ui, "reason", "Reason for pausing work queue:", ""));
    while (ui_peek(ui, 0))
        buf_printf(&text, " %s", ui_word(ui));
    return xstrdup(buf_str(&text));
}

static void work_pause(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(str) char *reason = reason_of_line(ui);

    (void)unused;
    if (ui_interactive(ui) &&
        !ask_confirm(ui, "confirm", "Manually pause work queue?  This will only affect unprocessed messages. ", false))
        return;
    if (!reason)
        reason = xstrdup(ask_text(ui, "reason", "Reason for pausing work queue:", ""));
    if (ui_failed(ui) || !ui_end_of_words(ui))
        return;
    if (!ui_interactive(ui))
        ui_changed(ui);
    print_work(ui, call_work(ui, s, "pause", reason), false);
}

static void work_resume(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    if (!ui_end_of_words(ui))
        return;
    if (!ui_interactive(ui))
        ui_changed(ui);
    print_work(ui, call_work(ui, s, "resume", ""), false);
}

static bool runs(struct session *s, const struct row *unused)
{
    (void)s;
    (void)unused;
    return work != PAUSED;
}

static bool is_paused(struct session *s, const struct row *unused)
{
    (void)s;
    (void)unused;
    return work != RUNNING;
}

static const struct menu_op work_ops[] = {
    {"STATUS", "Display work queue status",               NULL, work_status, NULL     },
    {"PAUSE",  "Pause the work queue",                    NULL, work_pause,  runs     },
    {"RESUME", "Resume the work queue",                   NULL, work_resume, is_paused},
    {"RATE",   "Display work queue statistics over time", NULL, work_rate,   NULL     },
};
static const struct menu work_menu = {say_work, work_ops, countof(work_ops), NULL};

static void workqueue(struct ui *ui, struct session *s)
{
    work = UNKNOWN; /* somebody else may have changed it: the words of a line mean what they say */
    run_menu(ui, s, &work_menu, NULL);
}

const struct command cmd_workqueue = {
    .name = "workqueue",
    .help = "Display and/or alter the work queue's pause status",
    .usage = "workqueue status\nworkqueue pause [REASON]\nworkqueue resume\nworkqueue rate [-n LINES] SECONDS",
    .detail = "While the work queue is paused, mail is accepted and kept, but no delivery of it begins; what was in the "
              "queue before goes on, and so do the gateway's own reports and alerts. \"resume\" sends everything on its way at "
              "once. The pause outlives a restart; \"workqueue status\" shows it, with who paused it and why. "
              "\"suspenddel\" holds all deliveries instead, \"suspendlistener\" acceptance. Unpaused, nothing "
              "waits here: everything is decided before a message is acknowledged. To pause and to resume needs an operator.",
    .roles = ROLE_READONLY,
    .menu = &work_menu,
    .run = workqueue,
};

/* --- topin --- */

static void topin(struct ui *ui, struct session *s)
{
    json_t *data, *host;
    char date[40];
    bool narrow;
    size_t i;

    if (!ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "host.in", json_object());
    if (!data)
        return;
    out_line(ui, "%-*s%s", too_narrow(ui, 61) ? 15 : 32, "Status as of:",
             clock_commit_date((usec_t)json_int(data, "as_of", 0) * 1000000, date));
    narrow = too_narrow(ui, TOPIN_WIDE);
    out_line(ui, "%s", narrow ? "#  Remote hostname\n   Remote IP addr.   listener        Conn. In"
                              : "#  Remote hostname            Remote IP addr.   listener        Conn. In");
    json_array_foreach(json_object_get(data, "hosts"), i, host)
        out_line(ui, narrow ? "%-2zu %s\n   %-17s %-15s%8lld" : "%-2zu %-26s %-17s %-15s%8lld", i + 1, str_printable(json_str(host, "host", "")),
                 json_str(host, "ip", ""), json_str(host, "listener", ""),
                 (long long)json_int(host, "conn_in", 0));
    out_data(ui, data);
}

const struct command cmd_topin = {
    .name = "topin",
    .help = "Display the top hosts by number of incoming connections",
    .usage = "topin",
    .detail = "At most 20 rows, one for each address and listener. The name of a host is shown when it leads back "
              "to the address, else the address again.",
    .roles = ROLE_READONLY,
    .run = topin,
};
