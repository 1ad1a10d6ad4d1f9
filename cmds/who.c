/* who.c - who is logged in, and as whom: who, whoami. */
#include "cmds/common.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *clock_text(const json_t *date, char out[16])
{
    struct tm tm = {0}, local;
    time_t t;

    out[0] = '\0';
    if (!json_is_string(date) || !strptime(json_string_value(date), "%Y-%m-%dT%H:%M:%S", &tm))
        return out;
    t = timegm(&tm);
    strftime(out, 16, "%I:%M%p", localtime_r(&t, &local));
    return out;
}

static void who(struct ui *ui, struct session *s)
{
    static const struct out_column columns[] = {
        {"Username",    "user",       0, false},
        {"Login Time",  "login_time", 0, false},
        {"Idle Time",   "idle_time",  0, false},
        {"Remote Host", "from",       0, false},
        {"What",        "what",       0, false},
        {"Changes",     "changes",    0, true },
    };
    json_t *data = ui_end_of_words(ui) ? session_call(s, ui, "session.who", json_object()) : NULL,
           *o;
    struct out_table *t;
    size_t i;

    if (!data)
        return;
    t = out_table_new(ui, "sessions", columns, countof(columns), '=');
    json_array_foreach(json_object_get(data, "sessions"), i, o)
    {
        json_t *row = json_deep_copy(o);
        char text[40];

        json_put_str(row, "login_time", clock_text(json_object_get(o, "since"), text));
        if (str_eq(json_str(o, "via", ""), "console") || str_eq(json_str(o, "via", ""), "ssh"))
            json_put_str(row, "what", "cli");
        json_put_str(row, "idle_time", clock_duration(json_int(o, "idle", 0), text));
        out_table_row(t, row);
    }
    out_table_end(&t);
    json_decref(data);
}

const struct command cmd_who = {
    .name = "who",
    .help = "List who is logged in",
    .usage = "who",
    .roles = ROLE_READONLY,
    .run = who,
};

static void whoami(struct ui *ui, struct session *s)
{
    static const struct out_column keys[] = {
        {"Username",  "user",      0, false},
        {"Full Name", "full_name", 0, false},
        {"Groups",    "role",      0, false}
    };
    const json_t *hello = session_hello(s);
    bool may_look = session_role(s) >= ROLE_READONLY;
    struct row *r = may_look ? session_get(s, &section_user, session_user(s)) : NULL;
    json_t *record = json_object();

    json_put_str(record, "user", session_user(s));
    json_put_str(record, "full_name", r ? ((const struct user *)r->data)->full_name : "");
    json_put_str(record, "role", json_str(hello, "role", ""));
    row_free(&r);
    out_record(ui, keys, countof(keys), record);
}

const struct command cmd_whoami = {
    .name = "whoami",
    .help = "List your current user id and group memberships",
    .usage = "whoami",
    .roles = ROLE_GUEST,
    .run = whoami,
};
