/* rollbackconfig.c - back to what an earlier commit had made; a new revision, so that this can be
 * undone too. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

#define LISTED 10

static void entry_head(const json_t *r, struct buf *out)
{
    char date[40];
    const char *text = date_text(json_object_get(r, "time"), date);
    size_t zone = strlen(text);

    while (zone && text[zone - 1] != ' ')
        zone--;
    buf_printf(out, "%.*s   %-12s  ", (int)(zone ? zone - 1 : strlen(text)), text,
               str_printable(json_str(r, "author", "")));
}

static void entry_text(const json_t *r, struct buf *out)
{
    entry_head(r, out);
    buf_str_add(out, str_printable(json_str(r, "comment", "")));
}

static json_t *fetch(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *data, *list = json_array(), *r;
    json_int_t head = json_int(session_hello(s), "revision", 0);
    size_t i;

    json_put_int(args, "limit", 100);
    data = session_call(s, ui, "history", args);
    json_array_foreach(json_object_get(data, "revisions"), i, r)
    {
        head = i == 0 ? json_int(r, "revision", head) : head;
        if (json_int(r, "revision", 0) != head && json_bool_of(r, "keep", false) &&
            json_array_size(list) < LISTED)
            json_array_append(list, r);
    }
    json_decref(data);
    return list;
}

static void print_list(struct ui *ui, const json_t *list)
{
    static const char rule[] = "-----------------------------------------------------------------";
    bool narrow = too_narrow(ui, 66);
    json_t *r, *data = json_object();
    size_t i;

    out_line(ui, "Previous Commits :");
    out_line(ui, "%.*s", narrow ? 40 : 65, rule);
    out_line(ui, "     Committed On              User%s", narrow ? "" : "          Description");
    out_line(ui, "%.*s", narrow ? 40 : 65, rule);
    json_array_foreach(list, i, r)
    {
        AUTO(buf) struct buf lead = BUF_INIT(1000), text = BUF_INIT(2000);

        buf_printf(&lead, "%zu. ", i + 1);
        entry_head(r, &lead);
        buf_printf(&text, "%s (revision %lld)", str_printable(json_str(r, "comment", "")),
                   (long long)json_int(r, "revision", 0));
        if (narrow)
            out_line(ui, "%s", buf_str(&lead));
        out_item(ui, narrow ? "   " : buf_str(&lead), buf_str(&text));
    }
    json_put(data, "revisions", json_incref((json_t *)list));
    out_data(ui, data);
}

static bool accept_number(void *arg, const char *answer, struct err *err)
{
    char *end;
    long n = strtol(answer, &end, 10);

    if (!*answer || (!*end && n >= 1 && (size_t)n <= json_array_size(arg)))
        return true;
    return err_set(err, E_INVALID, "The value must be an integer from 1 to %zu.",
                   json_array_size(arg));
}

static void roll_back(struct ui *ui, struct session *s, json_int_t revision)
{
    json_t *args = json_object(), *data;

    json_put_int(args, "revision", revision);
    data = session_call(s, ui, "rollback", args);
    if (data)
        out_data(ui, data);
}

static void commit_now(struct ui *ui, struct session *s, json_int_t revision)
{
    json_t *args = json_object(), *data;
    char *comment = xasprintf("rollback to revision %lld", (long long)revision);

    json_put_str(args, "comment", comment);
    json_put(args, "keep", json_true());
    free(comment);
    data = session_call(s, ui, "commit", args);
    if (data)
        ui_say(ui, "Committed the changes successfully");
    json_decref(data);
}

/* "revision=12" or "12" on the line: no questions; the result is staged. */
static bool from_words(struct ui *ui, struct session *s)
{
    const char *word = ui_key(ui, "revision");
    char *end;
    long n;

    if (!word)
        word = ui_word(ui);
    if (!word)
        return false;
    n = strtol(word, &end, 10);
    if (*end || n < 1)
        ui_fail(ui, E_USAGE,
                "\"%s\" is not a revision number. Type \"rollbackconfig\" to see them.",
                str_printable(word));
    else if (ui_end_of_words(ui))
        roll_back(ui, s, n);
    return true;
}

static void run(struct ui *ui, struct session *s)
{
    json_t *list;
    struct ui_question q = {.text = "Enter the number of the config to revert to.",
                            .key = "number",
                            .deflt = "",
                            .accept = accept_number};
    const char *answer;
    json_int_t revision;

    if (from_words(ui, s))
        return;
    list = fetch(ui, s);
    if (!json_array_size(list)) {
        json_t *data = json_object();

        ui_say(ui, "There is no earlier commit to return to.");
        json_put(data, "revisions", list);
        out_data(ui, data);
        return;
    }
    print_list(ui, list);
    q.arg = list;
    answer = ui_interactive(ui) ? ui_ask(ui, &q) : "";
    if (*answer && !ui_failed(ui)) {
        const json_t *r = json_array_get(list, (size_t)strtol(answer, NULL, 10) - 1);
        AUTO(buf) struct buf line = BUF_INIT(1000);

        entry_text(r, &line);
        revision = json_int(r, "revision", 0);
        if (ask_yes(ui, "confirm", "Are you sure you want to roll back the configuration?",
                    false)) {
            roll_back(ui, s, revision);
            if (!ui_failed(ui))
                ui_say(ui, "Reverted to %s", buf_str(&line));
            if (!ui_failed(ui) &&
                ask_yes(ui, "commit", "Do you want to commit this configuration now?", false))
                commit_now(ui, s, revision);
        }
    }
    json_decref(list);
}

const struct command cmd_rollbackconfig = {
    .name = "rollbackconfig",
    .help = "Roll back to one of the previously committed configurations",
    .usage = "rollbackconfig\nrollbackconfig REVISION",
    .detail = "Stages what that commit had made; \"showchanges\" shows the difference, \"commit\" "
              "makes it active, and that is a "
              "commit like any other. Only commits that were saved for rollback are listed.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .run = run,
};
