/* control_queue.c - queue.list, queue.delete, queue.bounce, queue.redirect, queue.deliver,
 * queue.suspend, queue.resume (store/control.h). */
#include "daemon/control.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "daemon/fiber.h"
#include "daemon/listeners.h"
#include "daemon/message.h"
#include "daemon/queue_bulk.h"
#include "daemon/queue_run.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/smtp_client.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define PAGE 500u /* recipients in an answer, unless fewer are asked for */
#define ROWS_AT_ONCE 5000u /* read in one go, unless that takes long: acceptance waits meanwhile */
#define MOST_SECONDS 86400 /* a suspension waits for sessions */
#define TELL_EVERY 500 /* ms between two lines of an operation on many messages */

struct listing {
    struct queue_pick pick;
    json_t *out; /* array */
    size_t limit;
    uint64_t last; /* the message that filled the page, 0: not full */
};

/* A page ends with a whole message. */
static bool add_message(const struct message *m, uint64_t bytes, void *arg)
{
    struct listing *l = arg;

    if (l->pick.by == QUEUE_BY_SENDER && !str_ieq(m->sender, l->pick.value))
        return true;
    if (l->pick.mid && m->mid != l->pick.mid)
        return false;
    for (unsigned i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];
        json_t *entry;

        if (r->state != RCPT_QUEUED ||
            (l->pick.by == QUEUE_BY_HOST && !str_ieq(address_domain(r->address), l->pick.value)))
            continue;
        entry = json_object();
        json_put_int(entry, "mid", (json_int_t)m->mid);
        json_put_int(entry, "rid", (json_int_t)i);
        json_put_int(entry, "bytes", (json_int_t)bytes);
        json_put_int(entry, "attempts", (json_int_t)r->attempts);
        json_put_str(entry, "sender", m->sender);
        json_put_str(entry, "recipient", r->address);
        json_put_str(entry, "subject", m->subject);
        json_put_int(entry, "received", (json_int_t)(m->received / 1000000));
        json_put_int(entry, "next_try", (json_int_t)(r->next_try / 1000000));
        json_put_str(entry, "last_error", r->last_error ? r->last_error : "");
        if (m->redirect)
            json_put_str(entry, "redirected_to", m->redirect);
        json_array_append_new(l->out, entry);
    }
    if (json_array_size(l->out) < l->limit)
        return true;
    l->last = m->mid;
    return false;
}

/* Which messages are meant; host is where a domain's A-labels go. */
static bool pick_of(const json_t *args, struct queue_pick *pick, char host[256], struct err *err)
{
    const char *by = json_str(args, "by", ""), *value = json_str(args, "value", "");

    memset(pick, 0, sizeof(*pick));
    pick->value = value;
    if (str_eq(by, "host")) {
        pick->by = QUEUE_BY_HOST;
        pick->value = host;
        if (!*value)
            return err_set(err, E_USAGE, "Enter a host name.");
        if (*value != '[')
            return domain_to_ascii(value, host, 256, err);
        str_copy(host, 256, value);
        return true;
    }
    if (str_eq(by, "mid")) {
        pick->mid = (uint64_t)json_int(args, "mid", 0);
        return pick->mid > 0 || err_set(err, E_USAGE, "Enter a MID: a whole number from 1.");
    }
    if (str_eq(by, "sender"))
        pick->by = QUEUE_BY_SENDER;
    else if (!str_eq(by, "all"))
        return err_set(err, E_USAGE,
                       "Select messages by \"host\", \"sender\", \"mid\" or \"all\".");
    if (str_eq(value, "<>"))
        pick->value = "";
    return true;
}

static bool queue_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t limit = json_int(args, "limit", PAGE);
    struct listing l = {.limit = PAGE};
    uint64_t at = (uint64_t)json_int(args, "after", 0);
    char host[256];

    if (!pick_of(args, &l.pick, host, err))
        return false;
    if (l.pick.mid)
        at = l.pick.mid - 1;
    if (limit > 0 && limit < (json_int_t)PAGE)
        l.limit = (size_t)limit;
    l.out = json_array();
    do {
        if (!queue_visit(at, l.pick.mid ? 1 : ROWS_AT_ONCE, add_message, &l, &at, err)) {
            json_decref(l.out);
            return false;
        }
    } while (at && !l.last && !l.pick.mid && !control_cancelled(c));
    json_put(data, "recipients", l.out);
    json_put(data, "more", json_boolean(l.last != 0 && !l.pick.mid));
    if (l.last && !l.pick.mid)
        json_put_int(data, "next", (json_int_t)l.last);
    return true;
}

/* --- operations on many messages --- */

struct bulk_watch {
    struct control *c;
    msec_t next;
};

static json_t *result_json(const struct bulk_result *r, const char *event)
{
    json_t *out = json_object();

    json_put_str(out, "event", event);
    json_put_int(out, "messages", (json_int_t)r->messages);
    json_put_int(out, "recipients", (json_int_t)r->recipients);
    json_put_int(out, "reports", (json_int_t)r->reports);
    json_put_int(out, "busy", (json_int_t)r->busy);
    json_put_int(out, "failed", (json_int_t)r->failed);
    json_put(out, "stopped", json_boolean(r->stopped));
    return out;
}

static bool watch_bulk(void *arg, const struct bulk_result *so_far)
{
    struct bulk_watch *w = arg;

    if (control_cancelled(w->c))
        return false;
    if (clock_now() < w->next)
        return true;
    w->next = clock_in(TELL_EVERY);
    return control_more(w->c, result_json(so_far, "progress")); /* YIELDS */
}

/* YIELDS. What was done is in the audit log however it ends. */
static bool run_bulk(struct control *c, const json_t *args, struct bulk *b, const char *name,
                     json_t *data, struct err *err)
{
    struct bulk_watch watch = {c, clock_in(TELL_EVERY)};
    AUTO(buf) struct buf object = BUF_INIT(700), detail = BUF_INIT(400);
    struct bulk_result r;
    json_t *end;
    bool ok;

    b->go_on = watch_bulk;
    b->arg = &watch;
    ok = queue_bulk(b, &r, err);
    buf_printf(&object, "%s", json_str(args, "by", "all"));
    if (*json_str(args, "value", ""))
        buf_printf(&object, " %s", str_printable(json_str(args, "value", "")));
    if (b->pick.mid)
        buf_printf(&object, " %" PRIu64, b->pick.mid);
    if (b->host)
        buf_printf(&object, " to %s", *b->host ? b->host : "where the routes say");
    buf_printf(&detail, "%" PRIu64 " messages, %" PRIu64 " recipients%s", r.messages, r.recipients,
               r.stopped ? "; stopped" : "");
    log_info("queue: %s: %s %s: %s", control_user(c), name, buf_str(&object), buf_str(&detail));
    control_audit(c, name, buf_str(&object), ok ? "ok" : "failed", buf_str(&detail));
    if (ok && r.failed)
        ok = err_set(err, E_IO,
                     "%" PRIu64 " messages stay in the queue: their bounces could not be queued. "
                     "%" PRIu64 " were bounced.",
                     r.failed, r.messages);
    if (!ok)
        return false;
    end = result_json(&r, "end");
    json_object_update(data, end);
    control_more(c, end);
    return true;
}

static bool queue_delete(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct bulk b = {.kind = BULK_DELETE};
    char host[256];

    return pick_of(args, &b.pick, host, err) && run_bulk(c, args, &b, "queue.delete", data, err);
}

static bool queue_bounce(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct bulk b = {.kind = BULK_BOUNCE};
    char host[256];

    return pick_of(args, &b.pick, host, err) && run_bulk(c, args, &b, "queue.bounce", data, err);
}

/* "mx.example.net:2525" is this host and no other: no MX records. */
static bool redirect_host(const char *given, char *out, size_t size, struct err *err)
{
    struct hop hop;
    struct addr a;

    if (str_ieq(given, "USEDNS")) { /* as before, by routes and DNS */
        *out = '\0';
        return true;
    }
    if (!hop_parse(given, &hop))
        return err_set(err, E_INVALID,
                       "\"%s\" is no host. Enter a host name or an IP address, perhaps with a port: "
                       "mail.example.com, 192.0.2.10, mail.example.com:2525, [2001:db8::1]:25; or "
                       "USEDNS to take a redirection back.",
                       str_printable(given));
    if (addr_parse(hop.host, &a) && strchr(hop.host, ':'))
        snprintf(out, size, "[%s]:%u", hop.host, hop.port);
    else
        snprintf(out, size, "[%.250s]:%u", hop.host, hop.port);
    return true;
}

static bool queue_to(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct bulk b = {.kind = BULK_REDIRECT};
    char host[256], to[300];

    b.host = to;
    if (!redirect_host(json_str(args, "host", ""), to, sizeof(to), err) ||
        !pick_of(args, &b.pick, host, err))
        return false;
    if (b.pick.by == QUEUE_BY_HOST) /* a message has one way: its recipients elsewhere would go there, too */
        return err_set(err, E_USAGE, "Whole messages are redirected: select them by \"sender\", \"mid\" or \"all\".");
    return run_bulk(c, args, &b, "queue.redirect", data, err);
}

static bool queue_deliver(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *domain = json_str(args, "domain", "");
    char ascii[256];

    if (*domain && !domain_to_ascii(domain, ascii, sizeof(ascii), err))
        return false;
    log_info("queue: %s schedules %s for delivery", control_user(c),
             *domain ? ascii : "everything");
    json_put_int(data, "scheduled", (json_int_t)queue_deliver_now(*domain ? ascii : NULL));
    control_audit(c, "queue.deliver", *domain ? ascii : "all", "ok", NULL); /* YIELDS */
    return true;
}

static bool keep_listener(const char *name, bool suspend, struct err *err)
{
    char key[300];

    snprintf(key, sizeof(key), "listener/%s", name);
    listeners_suspend(*name ? name : NULL, suspend);
    return queue_keep_value(key, suspend, err);
}

/* What is kept for a name is kept for good: no names are made up. */
static bool are_listeners(const json_t *names, struct err *err)
{
    struct config *cfg = running_config();
    const json_t *name;
    bool ok = true;
    size_t i;

    json_array_foreach(names, i, name)
    {
        const char *text = json_is_string(name) ? json_string_value(name) : "";

        if (ok && !CONFIG_GET(cfg, listener, text))
            ok = err_set(err, E_NOT_FOUND, "There is no listener named \"%s\".", str_printable(text));
    }
    config_free(&cfg);
    return ok;
}

/* The listeners named, or all. */
static bool switch_receiving(const json_t *args, bool suspend, struct err *err)
{
    const json_t *names = json_object_get(args, "listeners"), *name;
    size_t i;

    if (!json_array_size(names))
        return keep_listener("", suspend, err);
    if (suspend && !are_listeners(names, err))
        return false;
    json_array_foreach(names, i,
                       name) if (json_is_string(name) && !keep_listener(json_string_value(name),
                                                                        suspend, err)) return false;
    return true;
}

static bool queue_switch(struct control *c, const json_t *args, json_t *data, bool suspend,
                         struct err *err)
{
    const char *what = json_str(args, "what", "all");
    bool receiving = !str_eq(what, "delivery"), delivery = !str_eq(what, "receiving");
    json_int_t seconds = json_int(args, "seconds", 30);
    msec_t until;

    if (receiving && delivery && !str_eq(what, "all"))
        return err_set(err, E_USAGE, "Choose \"receiving\", \"delivery\" or \"all\".");
    if (seconds < 0 || seconds > MOST_SECONDS)
        return err_set(err, E_INVALID, "The seconds to wait must be an integer from 0 to %d.", MOST_SECONDS);
    if (receiving && !switch_receiving(args, suspend, err))
        return false;
    if (delivery && !queue_suspend(suspend, err))
        return false;
    log_info("queue: %s %s %s", control_user(c), suspend ? "suspends" : "resumes", what);
    control_audit(c, suspend ? "queue.suspend" : "queue.resume", what, "ok", NULL); /* YIELDS */
    if (suspend) {
        until = clock_in(SECONDS(seconds));
        while (((receiving && listeners_connections()) || (delivery && queue_sessions())) &&
               clock_now() < until && !control_cancelled(c))
            if (!fiber_sleep(50))
                break;
        if (receiving && !control_cancelled(c))
            listeners_abort();
        if (delivery && queue_sessions() && !control_cancelled(c))
            clients_abort();
    }
    json_put(data, "receiving_suspended", json_boolean(listeners_suspended(NULL)));
    json_put(data, "delivery_suspended", json_boolean(queue_suspended()));
    return true;
}

static bool run_suspend(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    return queue_switch(c, args, data, true, err);
}

static bool run_resume(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    return queue_switch(c, args, data, false, err);
}

/* --- the work queue --- */

#define MAX_REASON 250 /* bytes */

static bool run_work(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *what = json_str(args, "what", "status"), *reason = json_str(args, "reason", "");
    bool pause = str_eq(what, "pause");
    char by[QUEUE_PAUSED_BY];

    if (pause || str_eq(what, "resume")) {
        if (control_role(c) < ROLE_OPERATOR)
            return err_set(err, E_DENIED, "Only operators may pause or resume the work queue.");
        if (strlen(reason) > MAX_REASON)
            return err_set(err, E_INVALID, "The reason has %zu bytes, at most %d are kept: make it shorter.",
                           strlen(reason), MAX_REASON);
        snprintf(by, sizeof(by), "%.100s%s%s", control_user(c), *reason ? ": " : "", reason);
        if (!queue_pause(pause ? by : NULL, err)) /* YIELDS */
            return false;
        log_info("queue: %s %ss the work queue%s%s", control_user(c), what, pause && *reason ? ": " : "",
                 pause ? str_printable(reason) : "");
        control_audit(c, "queue.work", what, "ok", NULL); /* YIELDS */
    } else if (!str_eq(what, "status")) {
        return err_set(err, E_USAGE, "Choose \"status\", \"pause\" or \"resume\".");
    }
    pause = queue_paused(by);
    json_put_int(data, "as_of", clock_wall() / 1000000);
    json_put_str(data, "status", pause ? "paused" : "operational");
    json_put_int(data, "messages", (json_int_t)queue_parked());
    if (pause && *by)
        json_put_str(data, "paused_by", by);
    return true;
}

const struct control_op control_queue_ops[] = {
    {"queue.list",     ROLE_READONLY, queue_list   },
    {"queue.delete",   ROLE_OPERATOR, queue_delete },
    {"queue.bounce",   ROLE_OPERATOR, queue_bounce },
    {"queue.redirect", ROLE_OPERATOR, queue_to     },
    {"queue.deliver",  ROLE_OPERATOR, queue_deliver},
    {"queue.suspend",  ROLE_OPERATOR, run_suspend  },
    {"queue.resume",   ROLE_OPERATOR, run_resume   },
    {"queue.work",     ROLE_READONLY, run_work     },
    {NULL,             0,             NULL         },
};
