/* tophosts.c - the recipient hosts with the most mail; hostrate: the numbers of one of them, again
 * and again. */
#include "cmds/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct ui_choice orders[] = {
    {"active_rcpts", "Active Recipients"      },
    {"conn_out",     "Connections Out"        },
    {"deliv_recip",  "Delivered Recipients"   },
    {"hard_bounced", "Hard Bounced Recipients"},
    {"soft_bounced", "Soft Bounced Events"    },
    {NULL,           NULL                     }
};

#define TOP_WIDE 74   /* columns of tophosts; on a narrower terminal the numbers stand below the name */
#define RATE_WIDE 81  /* of hostrate */
#define RATE_CLOSE 79 /* of the same with a shorter state */

/* A host whose mail was deleted has none of the numbers of a row. */
static bool shows_anything(const json_t *host)
{
    const json_t *c = json_object_get(host, "counters"), *g = json_object_get(host, "gauges");

    return json_int(g, "active_recips", 0) || json_int(g, "conn_out", 0) || json_int(c, "delivered_recips", 0) ||
           json_int(c, "soft_bounced_evts", 0) || json_int(c, "hard_bounced_recips", 0);
}

static void print_host(struct ui *ui, size_t number, const json_t *host)
{
    const json_t *c = json_object_get(host, "counters"), *g = json_object_get(host, "gauges");
    bool down = str_eq(json_str(host, "reach", ""), "down");
    char numbered[24];

    snprintf(numbered, sizeof(numbered), "%zu%s", number, down ? "*" : "");
    out_line(ui,
             too_narrow(ui, TOP_WIDE) ? "%-4s%s\n%10lld%7lld%9lld%9lld%9lld"
                                      : "%-4s%-28s%7lld%7lld%10lld%9lld%9lld",
             numbered,
             str_printable(json_str(host, "host", "")), (long long)json_int(g, "active_recips", 0),
             (long long)json_int(g, "conn_out", 0), (long long)json_int(c, "delivered_recips", 0),
             (long long)json_int(c, "soft_bounced_evts", 0),
             (long long)json_int(c, "hard_bounced_recips", 0));
}

static void run_top(struct ui *ui, struct session *s)
{
    int by = ask_choice(ui, "by", "Sort results by:\n", orders, 0);
    json_t *args, *data, *host;
    char date[40];
    size_t i, shown = 0;

    if (ui_failed(ui) || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_str(args, "by", orders[by].word);
    data = session_call(s, ui, "host.top", args);
    if (!data)
        return;
    out_line(ui, "%-*s%s", too_narrow(ui, 61) ? 15 : 32, "Status as of:",
             clock_commit_date((usec_t)json_int(data, "as_of", 0) * 1000000, date));
    out_prose(ui, "Hosts marked with '*' were down as of the last delivery attempt.\n");
    out_line(ui, "%s",
             too_narrow(ui, TOP_WIDE)
                 ? "#   Recipient Host\n"
                   "    Active  Conn.   Deliv.     Soft     Hard\n"
                   "    Recip.    Out   Recip.  Bounced  Bounced"
                 : "                                 Active  Conn.    Deliv.     Soft     Hard\n"
                   "#   Recipient Host               Recip.    Out    Recip.  Bounced  Bounced");
    json_array_foreach(json_object_get(data, "hosts"), i, host)
    {
        if (shows_anything(host))
            print_host(ui, ++shown, host);
    }
    out_data(ui, data);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    for (const struct ui_choice *c = orders; !words->n && c->word; c++)
        offer(out, c->word, c->text);
}

const struct command cmd_tophosts = {
    .name = "tophosts",
    .help = "Display a sorted list of the top hosts in the queue",
    .usage = "tophosts [active_rcpts | conn_out | deliv_recip | hard_bounced | soft_bounced]",
    .detail = "At most 20 recipient hosts. Counters are since the start.",
    .roles = ROLE_READONLY,
    .run = run_top,
    .complete = complete,
};

/* --- hostrate --- */

struct rates {
    struct ui *ui;
    unsigned lines;
    json_int_t delivered, hard, soft, active;
};

/* Deltas are to the line before; the first has none. */
static bool print_rate(void *arg, const json_t *now)
{
    const json_t *c = json_object_get(now, "counters"), *g = json_object_get(now, "gauges");
    struct rates *r = arg;
    json_int_t delivered = json_int(c, "delivered_recips", 0),
               hard = json_int(c, "hard_bounced_recips", 0),
               soft = json_int(c, "soft_bounced_evts", 0), active = json_int(g, "active_recips", 0);
    time_t t = (time_t)json_int(now, "time", 0);
    bool narrow = too_narrow(r->ui, RATE_CLOSE), close = too_narrow(r->ui, RATE_WIDE);
    char line[200], clock[16];
    struct tm tm;

    if (!r->lines) {
        r->delivered = delivered;
        r->hard = hard;
        r->soft = soft;
        r->active = active;
    }
    if (r->lines++ % 20 == 0)
        out_line(
            r->ui, "%s",
            narrow  ? "Time     Host     Conn Actv Actv  Dlv Hard Soft\n"
                      "         Status    Out  Rcp  +/-  New  New  New"
            : close ? "    Time       Host CrtCncOut   ActvRcp   ActvRcp    DlvRcp HrdBncRcp SftBncEvt\n"
                      "             Status                         Delta     Delta     Delta     Delta"
                    : "    Time         Host CrtCncOut   ActvRcp   ActvRcp    DlvRcp HrdBncRcp SftBncEvt\n"
                      "               Status                         Delta     Delta     Delta     Delta");
    strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&t, &tm));
    snprintf(line, sizeof(line),
             narrow  ? "%8s %-8s %4lld %4lld %4lld %4lld %4lld %4lld"
             : close ? "%8s%11s%10lld%10lld%10lld%10lld%10lld%10lld"
                     : "%8s%13s%10lld%10lld%10lld%10lld%10lld%10lld",
             clock, json_str(now, "reach", ""), (long long)json_int(g, "conn_out", 0), (long long)active,
             (long long)(active - r->active), (long long)(delivered - r->delivered),
             (long long)(hard - r->hard), (long long)(soft - r->soft));
    out_stream(r->ui, line, json_deep_copy(now));
    r->delivered = delivered;
    r->hard = hard;
    r->soft = soft;
    r->active = active;
    return !out_stopped(r->ui);
}

static void run_rate(struct ui *ui, struct session *s)
{
    json_int_t count = lines_option(ui, 1, 0);
    AUTO(str) char *host = ask_host(ui);
    struct rates r = {.ui = ui};
    uint64_t seconds;
    json_t *args;

    if (!host)
        return;
    seconds =
        ask_number(ui, "seconds", "Enter the number of seconds between displays.", 10, 1, 3600);
    if (ui_failed(ui) || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_str(args, "host", host);
    json_put_int(args, "seconds", (json_int_t)seconds);
    if (count)
        json_put_int(args, "count", count);
    out_live(ui);
    if (!out_json(ui))
        ui_say(ui, "Hit Ctrl-C to return to the main prompt.\n");
    session_stream(s, ui, "host.rate", args, print_rate, &r);
}

const struct command cmd_hostrate = {
    .name = "hostrate",
    .help = "Monitor activity for a particular host",
    .usage = "hostrate [-n LINES] HOST SECONDS",
    .detail = "A line every so many seconds until Ctrl-C, or so many lines. Deltas are to the line "
              "before.",
    .roles = ROLE_READONLY,
    .run = run_rate,
};
