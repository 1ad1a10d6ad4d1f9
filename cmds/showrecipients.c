/* showrecipients.c - the recipients in the queue, two lines each. */
#include "cmds/queue.h"

#include <stdio.h>
#include <stdlib.h>

#define NARROW 64 /* columns below which the subject has a line of its own */

static void print_one(struct ui *ui, const json_t *r)
{
    char mid[24], bytes[24], rid[24], attempts[24], date[40];

    snprintf(mid, sizeof(mid), "%lld", (long long)json_int(r, "mid", 0));
    snprintf(bytes, sizeof(bytes), "%lld", (long long)json_int(r, "bytes", 0));
    snprintf(rid, sizeof(rid), "[%lld]", (long long)json_int(r, "rid", 0));
    snprintf(attempts, sizeof(attempts), "[%lld]", (long long)json_int(r, "attempts", 0));
    if (too_narrow(ui, NARROW))
        out_line(ui, "%-9s %-9s %s", mid, bytes, str_printable(json_str(r, "sender", "")));
    else
        out_line(ui, "%-9s %-9s %-24s %s", mid, bytes, str_printable(json_str(r, "sender", "")),
                 str_printable(json_str(r, "subject", "")));
    out_line(ui, "%-9s %-9s %s", rid, attempts, str_printable(json_str(r, "recipient", "")));
    if (too_narrow(ui, NARROW))
        out_item(ui, "          ", str_printable(json_str(r, "subject", "")));
    if (*json_str(r, "last_error", "")) {
        out_item(ui, "          ", str_printable(json_str(r, "last_error", "")));
        if (json_int(r, "next_try", 0) * 1000000 > clock_wall())
            out_line(ui, "          Next try %s",
                     clock_commit_date((usec_t)json_int(r, "next_try", 0) * 1000000, date));
    }
    out_line(ui, "%s", "");
}

/* One page after another; "after" of the next is where this one ended. limit: recipients, 0: all. */
static void print_all(struct ui *ui, struct session *s, const struct selection *sel, uint64_t limit,
                      uint64_t from)
{
    json_t *data, *r, *after = from ? json_integer((json_int_t)from) : NULL, *out;
    bool more = true, any = false;
    uint64_t shown = 0;
    size_t i;

    out_list_begin(ui, "recipients");
    while (more && !out_stopped(ui) && (!limit || shown < limit)) {
        json_t *args = selection_args(sel);

        if (after)
            json_put(args, "after", json_incref(after));
        if (limit)
            json_put_int(args, "limit", (json_int_t)(limit - shown));
        data = session_call(s, ui, "queue.list", args);
        if (!data)
            break;
        json_array_foreach(json_object_get(data, "recipients"), i, r)
        {
            if (!any)
                out_line(ui, "%s",
                         too_narrow(ui, NARROW) ? "MID/      Bytes/    Sender/\n[RID]     [Atmps]   Recipient\n"
                                                  "          Subject"
                                                : "MID/      Bytes/    Sender/                  Subject\n"
                                                  "[RID]     [Atmps]   Recipient");
            any = true;
            shown++;
            if (out_json(ui))
                out_list_item(ui, json_incref(r));
            else
                print_one(ui, r);
        }
        json_decref(after);
        after = json_incref(json_object_get(data, "next"));
        more = json_bool_of(data, "more", false) && after;
        json_decref(data);
    }
    if (!any && !ui_failed(ui))
        ui_say(ui, "No messages match.");
    else if (more && limit && after && !ui_failed(ui) && !out_json(ui))
        ui_say(ui, "There are more. Add after=%lld to go on.", (long long)json_integer_value(after));
    out_list_end(ui);
    out = json_object();
    json_put(out, "more", json_boolean(more));
    if (more && after)
        json_put(out, "next", json_incref(after));
    json_decref(after);
    out_data(ui, out);
}

static bool number_of(struct ui *ui, const char *key, uint64_t *out)
{
    const char *text = ui_key(ui, key);
    char *end;

    *out = text ? strtoull(text, &end, 10) : 0;
    if (!text || (*text >= '0' && *text <= '9' && !*end))
        return true;
    ui_fail(ui, E_INVALID, "%s: enter a whole number.", key);
    return false;
}

static void run(struct ui *ui, struct session *s)
{
    struct selection sel = {0};
    uint64_t limit, after;

    if (number_of(ui, "limit", &limit) && number_of(ui, "after", &after) &&
        ask_selection(ui, "show", &sel) && ui_end_of_words(ui)) {
        ui_say(ui, "Showing messages, please wait.");
        print_all(ui, s, &sel, limit, after);
    }
    selection_free(&sel);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    if (words->n)
        return;
    offer(out, "host", "by recipient host");
    offer(out, "sender", "by Envelope From address");
    offer(out, "mid", "one message");
    offer(out, "all", "everything");
}

const struct command cmd_showrecipients = {
    .name = "showrecipients",
    .help = "Show queued messages by recipient host, by sender, or all",
    .usage = "showrecipients host HOST\nshowrecipients sender ADDRESS\nshowrecipients mid MID\n"
             "showrecipients all\nshowrecipients all limit=COUNT after=MID",
    .detail = "A page at a time, in the order in which the messages came. limit=COUNT ends after so many recipients "
              "(a message is shown whole), after=MID begins behind that message; with --json \"more\" says whether there is "
              "more, \"next\" the MID to go on after.",
    .roles = ROLE_READONLY,
    .run = run,
    .complete = complete,
};
