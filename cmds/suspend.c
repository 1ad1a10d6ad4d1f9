/* suspend.c - receiving and delivering stopped and started again, for maintenance. Takes effect at
 * once, without a commit. */
#include "cmds/common.h"

#include <stdlib.h>

static json_t *switch_args(const char *what)
{
    json_t *args = json_object();

    json_put_str(args, "what", what);
    return args;
}

static void ask_seconds(struct ui *ui, json_t *args)
{
    json_put_int(args, "seconds",
                 (json_int_t)ask_number(
                     ui, "seconds",
                     "Enter the number of seconds to wait before abruptly closing connections.", 30,
                     0, 86400));
}

static bool call(struct ui *ui, struct session *s, const char *op, json_t *args)
{
    json_t *data;

    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return false;
    }
    data = session_call(s, ui, op, args);
    if (str_eq(op, "queue.suspend"))
        ui_last_word(ui, "Stopped waiting. It is suspended all the same, and open connections are left alone.");
    if (!data)
        return false;
    out_data(ui, data);
    return true;
}

/* Whoever resumes everything should not wonder why nothing goes. */
static void say_if_paused(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *data;

    json_put_str(args, "what", "status");
    data = ui_interactive(ui) ? session_call(s, ui, "queue.work", args) : NULL;
    if (data && str_eq(json_str(data, "status", ""), "paused"))
        ui_say(ui, "The work queue is still paused (by %s). \"workqueue resume\" lets its mail go.",
               str_printable(json_str(data, "paused_by", "somebody")));
    if (!ui_interactive(ui))
        json_decref(args);
    json_decref(data);
}

static void suspend(struct ui *ui, struct session *s)
{
    json_t *args = switch_args("all");

    ask_seconds(ui, args);
    ui_say(ui, "Waiting for listeners to exit...");
    ui_say(ui, "Waiting for outgoing deliveries to finish...");
    if (call(ui, s, "queue.suspend", args)) {
        ui_say(ui, "Receiving suspended.");
        ui_say(ui, "Mail delivery suspended.");
    }
}

static void resume(struct ui *ui, struct session *s)
{
    if (call(ui, s, "queue.resume", switch_args("all"))) {
        ui_say(ui, "Receiving resumed.");
        ui_say(ui, "Mail delivery resumed.");
        say_if_paused(ui, s);
    }
}

static void suspend_delivery(struct ui *ui, struct session *s)
{
    json_t *args = switch_args("delivery");

    ask_seconds(ui, args);
    ui_say(ui, "Waiting for outgoing deliveries to finish...");
    if (call(ui, s, "queue.suspend", args))
        ui_say(ui, "Mail delivery suspended.");
}

static void resume_delivery(struct ui *ui, struct session *s)
{
    if (call(ui, s, "queue.resume", switch_args("delivery"))) {
        ui_say(ui, "Mail delivery resumed.");
        say_if_paused(ui, s);
    }
}

/* --- listeners
 * ---------------------------------------------------------------------------------------------- */

/* "1,3" or "InboundMail, OutboundMail" against the list as it was shown; 1 is all of them. */
static bool pick(const struct strlist *names, const char *answer, struct strlist *out,
                 struct err *err)
{
    AUTO(strlist) struct strlist words = {0};

    strlist_split(&words, answer, ',');
    if (!words.n)
        return err_set(err, E_INVALID, "Choose one or more of the listeners by number or name.");
    for (size_t i = 0; i < words.n; i++) {
        char *end;
        unsigned long n = strtoul(words.items[i], &end, 10);
        const char *name = *end                          ? words.items[i]
                           : n >= 2 && n <= names->n + 1 ? names->items[n - 2]
                                                         : NULL;

        if (str_ieq(words.items[i], "all") || (!*end && n == 1)) {
            strlist_free(out);
            strlist_copy(out, names);
            return true;
        }
        if (!name || !strlist_has(names, name))
            return err_set(err, E_NOT_FOUND,
                           "There is no listener \"%s\". Choose by number or name.",
                           str_printable(words.items[i]));
        if (!strlist_has(out, name))
            strlist_add(out, name);
    }
    return true;
}

static bool accept_listeners(void *arg, const char *answer, struct err *err)
{
    AUTO(strlist) struct strlist picked = {0};

    return pick(arg, answer, &picked, err);
}

/* The daemon's listeners, which may differ from those of the candidate. */
static bool ask_listeners(struct ui *ui, struct session *s, const char *verb, json_t *args)
{
    AUTO(strlist) struct strlist names = {0}, picked = {0};
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);
    json_t *status = session_call(s, ui, "status", json_object()), *l, *list = json_array();
    struct ui_question q = {
        .key = "listeners", .deflt = "1", .accept = accept_listeners, .arg = &names};
    size_t i;

    buf_printf(
        &text,
        "Choose the listener(s) you wish to %s.\nSeparate multiple entries with commas.\n1. All",
        verb);
    json_array_foreach(json_object_get(status, "listeners"), i, l)
    {
        strlist_add(&names, json_str(l, "name", ""));
        buf_printf(&text, "\n%zu. %s", i + 2, json_str(l, "name", ""));
    }
    json_decref(status);
    q.text = buf_str(&text);
    pick(&names, ui_ask(ui, &q), &picked, NULL);
    for (i = 0; picked.n < names.n && i < picked.n; i++) /* none named: all, those to come too */
        json_array_append_new(list, json_string(picked.items[i]));
    json_put(args, "listeners", list);
    return !ui_failed(ui);
}

static void suspend_listener(struct ui *ui, struct session *s)
{
    json_t *args = switch_args("receiving");

    if (ask_listeners(ui, s, "suspend", args)) {
        ask_seconds(ui, args);
        ui_say(ui, "Waiting for listeners to exit...");
    }
    if (call(ui, s, "queue.suspend", args))
        ui_say(ui, "Receiving suspended.");
}

static void resume_listener(struct ui *ui, struct session *s)
{
    json_t *args = switch_args("receiving");

    ask_listeners(ui, s, "resume", args);
    if (call(ui, s, "queue.resume", args))
        ui_say(ui, "Receiving resumed.");
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    if (words->n)
        return;
    offer(out, "all", "every listener");
    session_names(s, &section_listener, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

const struct command cmd_suspend = {
    .name = "suspend",
    .help = "Temporarily suspend receiving and deliveries",
    .usage = "suspend [SECONDS]",
    .detail = "New connections are told to come back later, deliveries wait in the queue. It lasts "
              "until \"resume\", also over a restart. What is open has SECONDS to end; Ctrl-C ends the wait, not "
              "the suspension.",
    .roles = ROLE_OPERATOR,
    .run = suspend,
};
const struct command cmd_resume = {
    .name = "resume",
    .help = "Resume receiving and deliveries",
    .usage = "resume",
    .roles = ROLE_OPERATOR,
    .run = resume,
};
const struct command cmd_suspendlistener = {
    .name = "suspendlistener",
    .help = "Suspend receiving",
    .usage = "suspendlistener [all|NAME[,NAME...]] [SECONDS]",
    .detail = "New connections are told to come back later (421), until \"resumelistener\", also over a restart. "
              "What is open has SECONDS to end; Ctrl-C ends the wait, not the suspension.",
    .roles = ROLE_OPERATOR,
    .run = suspend_listener,
    .complete = complete,
};
const struct command cmd_resumelistener = {
    .name = "resumelistener",
    .help = "Resume receiving",
    .usage = "resumelistener [all|NAME[,NAME...]]",
    .roles = ROLE_OPERATOR,
    .run = resume_listener,
    .complete = complete,
};
const struct command cmd_suspenddel = {
    .name = "suspenddel",
    .help = "Suspend deliveries",
    .usage = "suspenddel [SECONDS]",
    .detail = "Mail is accepted and waits in the queue until \"resumedel\", also over a restart. "
              "Deliveries under way have SECONDS to end; Ctrl-C ends the wait, not the suspension.",
    .roles = ROLE_OPERATOR,
    .run = suspend_delivery,
};
const struct command cmd_resumedel = {
    .name = "resumedel",
    .help = "Resume deliveries",
    .usage = "resumedel",
    .roles = ROLE_OPERATOR,
    .run = resume_delivery,
};
