/* delivernow.c - a delivery attempt now for what waits for its next one. */
#include "cmds/common.h"

static const struct ui_choice options[] = {
    {"domain", "By recipient domain"},
    {"all",    "All messages"       },
    {NULL,     NULL                 }
};

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
    if (data)
        out_data(ui, data);
}

const struct command cmd_delivernow = {
    .name = "delivernow",
    .help = "Reschedule messages for immediate delivery",
    .usage = "delivernow domain DOMAIN\ndelivernow all",
    .roles = ROLE_OPERATOR,
    .run = run,
};
