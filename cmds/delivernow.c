/* delivernow.c - a delivery attempt now for what waits for its next one. */
#include "cmds/common.h"

#include <string.h>

static const struct ui_choice options[] = {
    {"domain", "By recipient domain"},
    {"all",    "All messages"       },
    {NULL,     NULL                 }
};

/* What keeps it from having the effect that is expected. */
static void say_why_not(struct ui *ui, struct session *s, const json_t *scheduled)
{
    json_t *status = session_call(s, ui, "status", json_object());
    const char *state = json_str(status, "status", "");

    if (strstr(state, "Offline") || strstr(state, "elivery suspended"))
        ui_say(ui, "Mail delivery is suspended; \"resumedel\" lets it go.");
    else if (strstr(state, "ork queue paused"))
        ui_say(ui, "The work queue is paused; what came since waits for \"workqueue resume\".");
    else if (!json_int(scheduled, "scheduled", 0))
        ui_say(ui, "There is none.");
    json_decref(status);
}

static void run(struct ui *ui, struct session *s)
{
    bool all = ask_choice(ui, "what", "Please choose an option for scheduling immediate delivery.",
                          options, 0) == 1;
    const char *domain =
        all ? ""
            : ask_some(ui, "domain", "Please enter the recipient domain to schedule for delivery.");
    json_t *args = json_object(), *data;

    if (!all)
        json_put_str(args, "domain", domain);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    if (all)
        ui_say(ui, "Scheduling all messages for delivery.");
    else
        ui_say(ui, "Scheduling all messages to %s for delivery.", str_printable(domain));
    data = session_call(s, ui, "queue.deliver", args);
    if (data && ui_interactive(ui))
        say_why_not(ui, s, data);
    if (data)
        out_data(ui, data);
}

const struct command cmd_delivernow = {
    .name = "delivernow",
    .help = "Reschedule messages for immediate delivery",
    .usage = "delivernow domain DOMAIN\ndelivernow all",
    .detail = "Hosts that are down are probed at once, too. It counts as an attempt; the retries go on from there.",
    .roles = ROLE_OPERATOR,
    .run = run,
};
