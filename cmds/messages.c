/* messages.c - showmessage, oldmessage, removemessage, archivemessage: one queued message. Whoever
 * reads somebody's mail stands in the audit log. */
#include "cmds/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "1 hour 5 mins 35 secs old" */
static void print_head(struct ui *ui, const json_t *data)
{
    char age[96];

    age_text(json_int(data, "age", 0), age, sizeof(age));
    out_line(ui, "MID %lld: %s old", (long long)json_int(data, "mid", 0), age);
}

/* The daemon has escaped it already. */
static void print_text(struct ui *ui, const json_t *data)
{
    const char *p = json_str(data, "text", "");

    while (*p && !out_stopped(ui)) {
        size_t n = strcspn(p, "\n");

        out_line(ui, "%.*s", (int)n, p);
        p += n + (p[n] == '\n');
    }
    if (json_bool_of(data, "truncated", false))
        out_line(ui, "[The message has %lld bytes; the rest is not shown.]",
                 (long long)json_int(data, "bytes", 0));
}

static json_t *fetch(struct ui *ui, struct session *s, uint64_t mid, bool header, uint64_t bytes)
{
    json_t *args = json_object();

    json_put_int(args, "mid", (json_int_t)mid);
    json_put(args, "header", json_boolean(header));
    if (bytes)
        json_put_int(args, "bytes", (json_int_t)bytes);
    return session_call(s, ui, "queue.message", args);
}

static void print_envelope(struct ui *ui, const json_t *data)
{
    json_t *r;
    size_t i;

    out_line(ui, "Envelope From: %s", *json_str(data, "sender", "")
                                          ? str_printable(json_str(data, "sender", ""))
                                          : "<>");
    json_array_foreach(json_object_get(data, "recipients"), i, r)
        out_line(ui, "Envelope To: %s", str_printable(json_string_value(r)));
    if (*json_str(data, "redirected_to", ""))
        out_line(ui, "Redirected to: %s", str_printable(json_str(data, "redirected_to", "")));
    out_line(ui, "%s", "");
}

static void show(struct ui *ui, struct session *s)
{
    const char *bytes = ui_key(ui, "bytes");
    uint64_t mid = ask_mid(ui, "show");
    json_t *data;

    if (!mid || !ui_end_of_words(ui))
        return;
    data = fetch(ui, s, mid, false, bytes ? strtoull(bytes, NULL, 10) : 0);
    if (!data)
        return;
    print_head(ui, data);
    print_envelope(ui, data);
    print_text(ui, data);
    out_data(ui, data);
}

static void oldest(struct ui *ui, struct session *s)
{
    json_t *data = ui_end_of_words(ui) ? session_call(s, ui, "queue.oldest", json_object()) : NULL;

    if (!data)
        return;
    if (json_is_null(json_object_get(data, "mid"))) {
        out_line(ui, "No Messages");
    } else {
        print_head(ui, data);
        print_text(ui, data);
    }
    out_data(ui, data);
}

static void remove_one(struct ui *ui, struct session *s)
{
    uint64_t mid = ask_mid(ui, "remove");
    json_t *data, *args, *result = NULL;

    if (!mid)
        return;
    if (ui_interactive(ui)) {
        data = fetch(ui, s, mid, true, 0);
        if (!data)
            return;
        print_head(ui, data);
        print_text(ui, data);
        json_decref(data);
    }
    if (!confirm_queue(ui, "Remove this message?") || ui_failed(ui) || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_str(args, "by", "mid");
    json_put_int(args, "mid", (json_int_t)mid);
    if (!run_queue_op(ui, s, "queue.delete", args, "removed", &result)) {
        json_decref(result);
        return;
    }
    if (!json_int(result, "messages", 0)) {
        ui_fail(ui, json_int(result, "busy", 0) ? E_BUSY : E_NOT_FOUND,
                json_int(result, "busy", 0)
                    ? "The message with the MID %llu is being delivered; try again in a moment."
                    : "There is no message with the MID %llu in the queue. \"findevent -m %llu mail_logs\" says what "
                      "became of it, if there was one.",
                (unsigned long long)mid, (unsigned long long)mid);
        json_decref(result);
        return;
    }
    ui_changed(ui);
    ui_say(ui, "MID %llu has been removed.", (unsigned long long)mid);
    out_data(ui, result);
}

static const struct ui_choice formats[] = {
    {"mbox", "mbox, as mail readers import it"           },
    {"eml",  "the message as it is, lines ending in CRLF"},
    {NULL,   NULL                                        }
};

static void archive(struct ui *ui, struct session *s)
{
    const char *format = ui_key(ui, "format"), *file = ui_key(ui, "file");
    bool replace = ui_flag(ui, "--replace");
    uint64_t mid = ask_mid(ui, "archive");
    json_t *args, *data;

    if (!mid || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_int(args, "mid", (json_int_t)mid);
    json_put_str(args, "format", format ? format : formats[0].word);
    if (file)
        json_put_str(args, "file", file);
    data = call_writing(ui, s, "queue.archive", args, replace);
    if (!data)
        return;
    out_line(ui, "MID %llu has been saved in file %s in the export area (%s)", (unsigned long long)mid,
             str_printable(json_str(data, "file", "")), str_printable(json_str(data, "path", "")));
    out_data(ui, data);
}

const struct command cmd_showmessage = {
    .name = "showmessage",
    .help = "Show a message of the queue",
    .usage = "showmessage MID [bytes=COUNT]",
    .detail = "Header and text, control characters escaped; the first 64 KiB unless bytes says otherwise (at most 1 MiB). "
              "\"archivemessage\" saves all of it. Who looked at which message is written into the audit log.",
    .roles = ROLE_OPERATOR,
    .run = show,
};
const struct command cmd_oldmessage = {
    .name = "oldmessage",
    .help = "Show the header of the oldest message in the queue",
    .usage = "oldmessage",
    .roles = ROLE_OPERATOR,
    .run = oldest,
};
const struct command cmd_removemessage = {
    .name = "removemessage",
    .help = "Remove a message from the queue",
    .usage = "removemessage MID",
    .detail = "Its recipients count as deleted, nobody is told. \"bouncerecipients mid MID\" tells the sender.",
    .roles = ROLE_OPERATOR,
    .run = remove_one,
};
const struct command cmd_archivemessage = {
    .name = "archivemessage",
    .help = "Save a message of the queue in a file",
    .usage = "archivemessage MID [format=mbox|eml] [file=NAME] [--replace]",
    .detail = "The file is written into the export area and holds the whole message; the message stays in the queue.",
    .roles = ROLE_OPERATOR,
    .run = archive,
};
