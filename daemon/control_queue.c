/* control_queue.c - queue.list, queue.deliver, queue.suspend, queue.resume (store/control.h). */
#include "daemon/control.h"

#include <stdio.h>
#include <string.h>

#include "daemon/fiber.h"
#include "daemon/listeners.h"
#include "daemon/message.h"
#include "daemon/queue_run.h"
#include "daemon/smtp_client.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define PAGE 500u /* recipients in an answer, unless fewer are asked for */
#define ROWS_AT_ONCE 500u /* read in one go, so that acceptance never waits long for a listing */

enum by { BY_ALL, BY_HOST, BY_SENDER };

struct listing {
    enum by by;
    const char *value;
    json_t *out; /* array */
    size_t limit;
    uint64_t last; /* the message that filled the page, 0: not full */
};

/* A page ends with a whole message. */
static bool add_message(const struct message *m, uint64_t bytes, void *arg)
{
    struct listing *l = arg;

    if (l->by == BY_SENDER && !str_ieq(m->sender, l->value))
        return true;
    for (unsigned i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];
        json_t *entry;

        if (r->state != RCPT_QUEUED ||
            (l->by == BY_HOST && !str_ieq(address_domain(r->address), l->value)))
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
        json_array_append_new(l->out, entry);
    }
    if (json_array_size(l->out) < l->limit)
        return true;
    l->last = m->mid;
    return false;
}

static bool queue_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *by = json_str(args, "by", "all");
    json_int_t limit = json_int(args, "limit", PAGE);
    struct listing l = {.value = json_str(args, "value", ""), .limit = PAGE};
    uint64_t at = (uint64_t)json_int(args, "after", 0);

    if (str_eq(by, "host"))
        l.by = BY_HOST;
    else if (str_eq(by, "sender"))
        l.by = BY_SENDER;
    else if (!str_eq(by, "all"))
        return err_set(err, E_USAGE, "Select messages by \"host\", \"sender\" or \"all\".");
    if (l.by != BY_ALL && !*l.value && l.by == BY_HOST)
        return err_set(err, E_USAGE, "Enter a host name.");
    if (limit > 0 && limit < (json_int_t)PAGE)
        l.limit = (size_t)limit;
    l.out = json_array();
    do {
        if (!queue_visit(at, ROWS_AT_ONCE, add_message, &l, &at, err)) {
            json_decref(l.out);
            return false;
        }
    } while (at && !l.last && !control_cancelled(c));
    json_put(data, "recipients", l.out);
    json_put(data, "more", json_boolean(l.last != 0));
    if (l.last)
        json_put_int(data, "next", (json_int_t)l.last);
    return true;
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
    return true;
}

static bool keep_listener(const char *name, bool suspend, struct err *err)
{
    char key[300];

    snprintf(key, sizeof(key), "listener/%s", name);
    listeners_suspend(*name ? name : NULL, suspend);
    return queue_keep_value(key, suspend, err);
}

/* The listeners named, or all. */
static bool switch_receiving(const json_t *args, bool suspend, struct err *err)
{
    const json_t *names = json_object_get(args, "listeners"), *name;
    size_t i;

    if (!json_array_size(names))
        return keep_listener("", suspend, err);
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
    if (receiving && !switch_receiving(args, suspend, err))
        return false;
    if (delivery && !queue_suspend(suspend, err))
        return false;
    log_info("queue: %s %s %s", control_user(c), suspend ? "suspends" : "resumes", what);
    if (suspend) {
        until = clock_in(SECONDS(seconds < 0 ? 0 : seconds));
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

const struct control_op control_queue_ops[] = {
    {"queue.list",    ROLE_READONLY, queue_list   },
    {"queue.deliver", ROLE_OPERATOR, queue_deliver},
    {"queue.suspend", ROLE_OPERATOR, run_suspend  },
    {"queue.resume",  ROLE_OPERATOR, run_resume   },
    {NULL,            0,             NULL         },
};
