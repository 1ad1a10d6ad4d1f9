/* queueops.c - deleterecipients, bouncerecipients, redirectrecipients: what is done with many queued
 * messages at once. Takes effect at once, without a commit. */
#include "cmds/queue.h"

#include <stdlib.h>
#include <string.h>

const struct ui_choice queue_selections[] = {
    {"host",   "By recipient host."       },
    {"sender", "By Envelope From address."},
    {"all",    "All."                     },
    {NULL,     NULL                       }
};

static const struct ui_choice with_mid[] = {
    {"host",   "By recipient host."       },
    {"sender", "By Envelope From address."},
    {"all",    "All."                     },
    {"mid",    "By message ID (MID)."     },
    {NULL,     NULL                       }
};

static bool accept_mid(void *arg, const char *answer, struct err *err)
{
    char *end;
    unsigned long long n = strtoull(answer, &end, 10);

    (void)arg;
    return (n && !*end && *answer != '-') ||
           err_set(err, E_INVALID, "A MID is a whole number from 1, as in the mail log: \"MID 47\".");
}

uint64_t ask_mid(struct ui *ui, const char *verb)
{
    char text[80];
    const struct ui_question q = {.text = text, .key = "mid", .accept = accept_mid};
    const char *answer;

    snprintf(text, sizeof(text), "Enter the MID to %s.", verb);
    answer = ui_ask(ui, &q);
    return ui_failed(ui) ? 0 : strtoull(answer, NULL, 10);
}

bool ask_selection(struct ui *ui, const char *verb, struct selection *out)
{
    char text[200];
    int by;

    snprintf(text, sizeof(text), "Please select how you would like to %s messages:", verb);
    /* The fourth way is not in the list that scripts of other products know by number. */
    by = ask_choice(ui, "by", text, ui_interactive(ui) && !ui_peek(ui, 0) ? queue_selections : with_mid, 0);
    *out = (struct selection){.by = with_mid[by].word};
    if (str_eq(out->by, "host")) {
        snprintf(text, sizeof(text), "Please enter the hostname for the messages you wish to %s.", verb);
        out->value = xstrdup(ask_some(ui, "value", text));
    } else if (str_eq(out->by, "sender")) {
        snprintf(text, sizeof(text),
                 "Please enter the Envelope From address for the messages you wish to %s.", verb);
        out->value = xstrdup(ask_some(ui, "value", text));
    } else if (str_eq(out->by, "mid")) {
        out->mid = ask_mid(ui, verb);
    }
    if (!out->value)
        out->value = xstrdup("");
    return !ui_failed(ui);
}

void selection_free(struct selection *s)
{
    free(s->value);
    s->value = NULL;
}

json_t *selection_args(const struct selection *s)
{
    json_t *args = json_object();

    json_put_str(args, "by", s->by);
    json_put_str(args, "value", s->value);
    if (s->mid)
        json_put_int(args, "mid", (json_int_t)s->mid);
    return args;
}

/* At a terminal one is asked; a line of a script says what it means. */
bool confirm_queue(struct ui *ui, const char *question)
{
    if (ui_interactive(ui))
        return ask_confirm(ui, "confirm", question, false);
    if (!ui_flag(ui, "--yes") && !ui_flag(ui, "-y") && ui_peek(ui, 0) && str_ieq(ui_peek(ui, 0), "Y"))
        ui_word(ui);
    return true;
}

struct bulk {
    struct ui *ui;
    json_int_t messages, recipients;
    json_t *end; /* NULL: it did not come to it */
};

static bool take_result(void *arg, const json_t *data)
{
    struct bulk *b = arg;

    b->messages = json_int(data, "messages", 0);
    b->recipients = json_int(data, "recipients", 0);
    if (str_eq(json_str(data, "event", ""), "end"))
        b->end = json_deep_copy(data);
    return true;
}

/* What was done before Ctrl-C stays done. */
static void say_stopped(struct bulk *b, const char *done)
{
    AUTO(buf) struct buf text = BUF_INIT(200);

    if (!b->messages)
        return;
    buf_printf(&text, "Stopped. At least %lld messages %s.", (long long)b->messages, done);
    ui_last_word(b->ui, buf_str(&text));
}

bool run_queue_op(struct ui *ui, struct session *s, const char *op, json_t *args, const char *done,
                  json_t **result)
{
    struct bulk b = {.ui = ui};
    bool ok = session_stream(s, ui, op, args, take_result, &b) && b.end;

    if (!ok)
        say_stopped(&b, done);
    if (ok && json_int(b.end, "busy", 0))
        ui_say(ui,
               "%lld messages are being delivered at this moment and were left alone.",
               (long long)json_int(b.end, "busy", 0));
    if (b.end)
        json_object_del(b.end, "event");
    *result = b.end;
    return ok;
}

/* The words of deleterecipients and bouncerecipients differ in the verb. */
static void run(struct ui *ui, struct session *s, const char *verb, const char *doing,
                const char *done, const char *op)
{
    AUTO(buf) struct buf question = BUF_INIT(1000);
    AUTO(strlist) struct strlist values = {0};
    struct selection sel;
    json_int_t messages = 0;
    json_t *sum = NULL;
    bool ok = true;

    if (ask_selection(ui, verb, &sel)) {
        if (str_eq(sel.by, "host"))
            buf_printf(&question, "Are you sure you want to %s all messages being delivered to \"%s\"?", verb,
                       str_printable(sel.value));
        else if (str_eq(sel.by, "sender"))
            buf_printf(&question,
                       "Are you sure you want to %s all messages with the Envelope From address of \"%s\"?",
                       verb, str_printable(sel.value));
        else if (str_eq(sel.by, "mid"))
            buf_printf(&question, "Are you sure you want to %s the message with MID %llu?", verb,
                       (unsigned long long)sel.mid);
        else
            buf_printf(&question,
                       "Are you sure you want to %s all messages in the delivery queue (all active "
                       "recipients)?",
                       verb);
        ok = confirm_queue(ui, buf_str(&question));
    }
    if (ui_failed(ui) || !ok || !ui_end_of_words(ui)) {
        selection_free(&sel);
        return;
    }
    ui_say(ui, "%s messages, please wait.", doing);
    strlist_split(&values, sel.value, ','); /* several hosts, or several senders */
    if (!values.n)
        strlist_add(&values, "");
    for (size_t i = 0; ok && i < values.n; i++) {
        json_t *args = selection_args(&sel), *one = NULL;

        json_put_str(args, "value", values.items[i]);
        ok = run_queue_op(ui, s, op, args, done, &one);
        messages += json_int(one, "messages", 0);
        if (sum && one) {
            static const char *const keys[] = {"messages", "recipients", "reports", "busy", "failed"};

            for (size_t k = 0; k < countof(keys); k++)
                json_put_int(sum, keys[k], json_int(sum, keys[k], 0) + json_int(one, keys[k], 0));
            json_decref(one);
        } else if (one) {
            sum = one;
        }
    }
    selection_free(&sel);
    if (ok) {
        ui_changed(ui);
        out_line(ui, "%s%lld messages %s.", ui_interactive(ui) ? "\n" : "", (long long)messages, done);
        out_data(ui, sum);
    } else {
        json_decref(sum);
    }
}

static void delete(struct ui *ui, struct session *s)
{
    run(ui, s, "delete", "Deleting", "deleted", "queue.delete");
}

static void bounce(struct ui *ui, struct session *s)
{
    run(ui, s, "bounce", "Bouncing", "bounced", "queue.bounce");
}

static void redirect(struct ui *ui, struct session *s)
{
    AUTO(buf) struct buf question = BUF_INIT(500);
    AUTO(str) char *host = NULL;
    json_t *args, *result = NULL;
    bool back;

    if (ui_peek(ui, 0) && ui_peek(ui, 1) && str_ieq(ui_peek(ui, 0), "host"))
        ui_word(ui);
    host = xstrdup(ask_some(
        ui, "host",
        "Please enter the hostname or IP address of the machine you want to send all mail to."));
    if (ui_failed(ui))
        return;
    back = str_ieq(host, "USEDNS");
    if (back)
        buf_printf(&question, "Are you sure you want all mail in the queue to go where routes and DNS say?");
    else
        buf_printf(&question, "Are you sure you want to redirect all mail in the queue to \"%s\"?",
                   str_printable(host));
    if (!back)
        ui_say(ui, "WARNING: redirecting recipients to a host or IP address that is not prepared\n"
                   "to accept large volumes of SMTP mail from this host will cause messages to\n"
                   "bounce and possibly result in the loss of mail.");
    if (!confirm_queue(ui, buf_str(&question)) || ui_failed(ui) || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_str(args, "by", "all");
    json_put_str(args, "host", host);
    ui_say(ui, "Redirecting messages, please wait.");
    if (run_queue_op(ui, s, "queue.redirect", args, "redirected", &result)) {
        ui_changed(ui);
        out_line(ui, "%s%lld recipients redirected.", ui_interactive(ui) ? "\n" : "",
                 (long long)json_int(result, "recipients", 0));
        out_data(ui, result);
        return;
    }
    json_decref(result);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    for (const struct ui_choice *c = with_mid; !words->n && c->word; c++)
        offer(out, c->word, c->text);
}

const struct command cmd_deleterecipients = {
    .name = "deleterecipients",
    .help = "Delete messages from the queue",
    .usage = "deleterecipients host HOST[,HOST...]\ndeleterecipients sender ADDRESS[,ADDRESS...]\n"
             "deleterecipients mid MID\ndeleterecipients all",
    .detail = "Nobody is told: the recipients count as deleted. The sender \"<>\" is the empty one of bounces. "
              "Mail is accepted and delivered meanwhile; what is being delivered at the moment is left alone, "
              "and what comes after the command was given too. Ctrl-C stops; what was deleted stays deleted. "
              "A terminal is asked for confirmation, a script is not.",
    .roles = ROLE_OPERATOR,
    .run = delete,
    .complete = complete,
};
const struct command cmd_bouncerecipients = {
    .name = "bouncerecipients",
    .help = "Bounce messages from the queue",
    .usage = "bouncerecipients host HOST[,HOST...]\nbouncerecipients sender ADDRESS[,ADDRESS...]\n"
             "bouncerecipients mid MID\nbouncerecipients all",
    .detail = "The senders get a delivery status notification (failed, 5.3.0), except where they asked for "
              "none, where the bounce profile sends none, and for mail from the null path. A message leaves the "
              "queue when its notification is on disk. Otherwise as deleterecipients.",
    .roles = ROLE_OPERATOR,
    .run = bounce,
    .complete = complete,
};
const struct command cmd_redirectrecipients = {
    .name = "redirectrecipients",
    .help = "Redirect all messages in the queue to another host",
    .usage = "redirectrecipients host HOST[:PORT]\nredirectrecipients host USEDNS",
    .detail = "What is in the queue now goes to that host, at once, not to the hosts of SMTP routes and MX records; "
              "mail that comes later does not. The destination controls of the recipients' domains stay in "
              "force, TLS included; the name and the passphrase of an SMTP route are not shown there. "
              "It outlives a restart. USEDNS takes it back for what is still there.",
    .roles = ROLE_OPERATOR,
    .run = redirect,
};
