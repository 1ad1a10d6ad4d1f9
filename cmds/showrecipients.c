/* showrecipients.c - the recipients in the queue, two lines each. */
#include "cmds/common.h"

#include <stdio.h>

static const struct ui_choice selections[] = {
    {"host",   "By recipient host."       },
    {"sender", "By Envelope From address."},
    {"all",    "All."                     },
    {NULL,     NULL                       }
};

static void print_one(struct ui *ui, const json_t *r)
{
    char mid[24], bytes[24], rid[24], attempts[24];

    snprintf(mid, sizeof(mid), "%lld", (long long)json_int(r, "mid", 0));
    snprintf(bytes, sizeof(bytes), "%lld", (long long)json_int(r, "bytes", 0));
    snprintf(rid, sizeof(rid), "[%lld]", (long long)json_int(r, "rid", 0));
    snprintf(attempts, sizeof(attempts), "[%lld]", (long long)json_int(r, "attempts", 0));
    out_line(ui, "%-9s %-9s %-24s %s", mid, bytes, str_printable(json_str(r, "sender", "")),
             str_printable(json_str(r, "subject", "")));
    out_line(ui, "%-9s %-9s %s", rid, attempts, str_printable(json_str(r, "recipient", "")));
    if (*json_str(r, "last_error", ""))
        out_item(ui, "          ", str_printable(json_str(r, "last_error", "")));
    out_line(ui, "%s", "");
}

/* One page after another; "after" of the next is where this one ended. */
static void print_all(struct ui *ui, struct session *s, const char *by, const char *value)
{
    json_t *all = json_array(), *data, *r, *after = NULL, *out;
    bool more = true, any = false;
    size_t i;

    while (more && !out_stopped(ui)) {
        json_t *args = json_object();

        json_put_str(args, "by", by);
        json_put_str(args, "value", value);
        if (after)
            json_put(args, "after", json_incref(after));
        data = session_call(s, ui, "queue.list", args);
        if (!data)
            break;
        json_array_foreach(json_object_get(data, "recipients"), i, r)
        {
            if (!any)
                out_line(ui, "MID/      Bytes/    Sender/                  Subject\n[RID]     "
                             "[Atmps]   Recipient");
            any = true;
            print_one(ui, r);
            if (out_json(ui))
                json_array_append(all, r);
        }
        json_decref(after);
        after = json_incref(json_object_get(data, "next"));
        more = json_bool_of(data, "more", false) && after;
        json_decref(data);
    }
    json_decref(after);
    if (!any)
        ui_say(ui, "No messages match.");
    out = json_object();
    json_put(out, "recipients", all);
    out_data(ui, out);
}

static void run(struct ui *ui, struct session *s)
{
    int by =
        ask_choice(ui, "by", "Please select how you would like to show messages:", selections, 0);
    const char *value = "";

    if (by == 0)
        value =
            ask_some(ui, "value", "Please enter the hostname for the messages you wish to show.");
    else if (by == 1)
        value = ask_text(
            ui, "value",
            "Please enter the Envelope From address for the messages you wish to show.", "");
    if (ui_failed(ui) || !ui_end_of_words(ui))
        return;
    ui_say(ui, "Showing messages, please wait.");
    print_all(ui, s, selections[by].word, value);
}

const struct command cmd_showrecipients = {
    .name = "showrecipients",
    .help = "Show queued messages by recipient host, by sender, or all",
    .usage = "showrecipients host HOST\nshowrecipients sender ADDRESS\nshowrecipients all",
    .roles = ROLE_READONLY,
    .run = run,
};
