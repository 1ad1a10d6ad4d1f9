/* control_host.c - host.status and host.top: what hoststatus, tophosts and hostrate print. */
#include "daemon/control.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/attempt.h"
#include "daemon/deliver.h"
#include "daemon/deststats.h"
#include "daemon/fiber.h"
#include "daemon/hosts.h"
#include "daemon/mta_sts.h"
#include "daemon/queue_run.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/tls_failures.h"
#include "store/base/str.h"

#define RESOLVE_TIMEOUT SECONDS(10)
#define MOST_ROWS 1000
#define LOOK_EVERY 100 /* whether somebody pressed Ctrl-C */

static const char *const reaches[] = {"unknown", "up", "down"};

static json_t *counters(const struct dest_stats *d)
{
    static const char *const names[] = {
#define X(id, json) json,
        DEST_COUNTERS(X)
#undef X
    };
    json_t *out = json_object();
    uint64_t hard = dest_hard(d);

    for (unsigned i = 0; i < DEST_COUNTER_COUNT; i++)
        json_put_int(out, names[i], (json_int_t)d->count[i]);
    json_put_int(out, "hard_bounced_recips", (json_int_t)hard);
    json_put_int(out, "completed_recips",
                 (json_int_t)hard + (json_int_t)d->count[DEST_DELIVERED] +
                     (json_int_t)d->count[DEST_DELETED]);
    return out;
}

static json_t *gauges(const struct dest_stats *d)
{
    uint64_t active = d->gauge[DEST_ACTIVE], attempted = d->gauge[DEST_ATTEMPTED],
             sessions = d->gauge[DEST_SESSIONS], pending = d->gauge[DEST_PENDING];
    json_t *out = json_object();

    if (attempted > active) /* they change one after the other */
        attempted = active;
    if (pending > sessions)
        pending = sessions;
    json_put_int(out, "active_recips", (json_int_t)active);
    json_put_int(out, "unattempted_recips", (json_int_t)(active - attempted));
    json_put_int(out, "attempted_recips", (json_int_t)attempted);
    json_put_int(out, "conn_out", (json_int_t)(sessions - pending));
    json_put_int(out, "conn_pending", (json_int_t)pending);
    return out;
}

static void add_numbers(json_t *data, const struct dest_stats *d)
{
    json_put_str(data, "host", d->domain);
    json_put_str(data, "reach", reaches[d->reach]);
    json_put(data, "counters", counters(d));
    json_put(data, "gauges", gauges(d));
    json_put_int(data, "last_activity", d->last / 1000000);
}

/* --- where its mail goes --- */

static void add_route(json_t *data, const struct config *cfg, const char *domain)
{
    const struct smtp_route *r = route_find(cfg, domain);
    json_t *hosts;

    if (!r || route_uses_dns(r))
        return;
    hosts = json_array();
    for (size_t i = 0; i < r->hosts.n; i++)
        json_array_append_new(hosts, json_string(r->hosts.items[i]));
    json_put(data, "routes", hosts);
}

/* On the wall clock, in seconds. */
static json_int_t wall_of(msec_t when, msec_t now)
{
    return (clock_wall() + (when - now) * 1000) / 1000000;
}

/* What is known of an address, by whatever domain. */
static void add_host(json_t *one, const struct addr *a)
{
    struct hosts_info *h = xcalloc(1, sizeof(*h));
    msec_t now = clock_now();

    if (!hosts_show(a, h)) {
        json_put_str(one, "state", "unknown");
    } else {
        json_put_str(one, "state", h->probe_at ? "down" : h->open ? "up" : "unknown");
        json_put_int(one, "connections", h->open);
        if (h->probe_at) {
            json_put_int(one, "down_since", wall_of(h->down_since, now));
            json_put_int(one, "next_probe", wall_of(h->probe_at > now ? h->probe_at : now, now));
            json_put_str(one, "error", h->why);
        }
    }
    free(h);
}

static void add_targets(json_t *data, const struct targets *t)
{
    json_t *addresses = json_array(), *hosts = json_array();
    char text[ADDR_TEXT];

    for (unsigned i = 0; i < t->n; i++) {
        json_t *one = json_object();

        json_put_int(one, "preference", t->items[i].of->preference);
        json_put_str(one, "ip", addr_text(&t->items[i].addr, text));
        json_put_str(one, "host", t->items[i].of->host);
        add_host(one, &t->items[i].addr);
        json_array_append_new(addresses, one);
    }
    for (unsigned i = 0; i < t->nhosts; i++) {
        json_t *one = json_object();

        json_put_int(one, "preference", t->hosts[i]->preference);
        json_put_int(one, "ttl", t->ttl);
        json_put_str(one, "host", t->hosts[i]->host);
        json_put(one, "signed", json_boolean(t->hosts[i]->mx_secure));
        if (*t->hosts[i]->why)
            json_put_str(one, "why", t->hosts[i]->why);
        json_array_append_new(hosts, one);
    }
    json_put(data, "addresses", addresses);
    json_put(data, "mx", hosts);
    json_put_int(data, "expires", clock_wall() / 1000000 + t->ttl);
}

/* YIELDS */
static void add_dns(json_t *data, const struct config *cfg, const char *domain)
{
    struct targets targets = {0};
    struct route_problem problem;

    switch (route_resolve(cfg, domain, 0, clock_in(RESOLVE_TIMEOUT), &targets, &problem)) {
    case ROUTE_OK:
        add_targets(data, &targets);
        break;
    case ROUTE_DISCARD:
        json_put_str(data, "dns_error", "a route discards mail for this host");
        break;
    case ROUTE_RETRY:
    case ROUTE_FAIL:
        json_put_str(data, "dns_error", problem.text);
        break;
    }
    targets_free(&targets);
}

/* --- its security --- */

static void add_policy(const struct sts_info *i, void *arg)
{
    json_t *out = json_object();

    if (i->policy) {
        json_put_str(out, "state", sts_state_word(i->policy->mode));
        json_put_str(out, "id", i->policy->id);
        json_put_int(out, "expires", i->policy->fetched / 1000000 + (json_int_t)i->policy->max_age);
    }
    if (i->failure && *i->failure)
        json_put_str(out, "failure", i->failure);
    json_put((json_t *)arg, "mta_sts", out);
}

static void add_failures(json_t *data)
{
    struct tls_failure *list = NULL;
    unsigned n = tls_failures_list(&list);
    json_t *out = json_array(), *address;
    size_t i;

    json_array_foreach(json_object_get(data, "addresses"), i, address)
    {
        const char *host = json_str(address, "host", ""), *ip = json_str(address, "ip", "");

        for (unsigned k = 0; k < n; k++)
            if (str_starts(list[k].host, host) && strstr(list[k].host, ip)) {
                json_t *one = json_object();

                json_put_str(one, "host", list[k].host);
                json_put_str(one, "reason", list[k].reason);
                json_put_int(one, "seconds", (list[k].until - clock_now()) / 1000);
                json_array_append_new(out, one);
            }
    }
    free(list);
    json_put(data, "tls_failures", out);
}

/* YIELDS. The last attempt that is on record, with its last host. */
static void add_attempt(json_t *data, const char *domain)
{
    json_t *found = attempt_find(0, domain, 1, NULL);
    json_t *last = json_array_get(found, json_array_size(found) ? json_array_size(found) - 1 : 0);
    json_t *hosts = json_object_get(last, "hosts");
    json_t *host = json_array_get(hosts, json_array_size(hosts) ? json_array_size(hosts) - 1 : 0);

    if (host) {
        json_t *tls = json_deep_copy(host);

        json_put(tls, "time_us", json_incref(json_object_get(last, "time_us")));
        json_put(tls, "mid", json_incref(json_object_get(last, "mid")));
        json_put(data, "tls", tls);
    }
    json_decref(found);
}

static bool run_status(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct queue_dest_state *queue;
    struct dest_stats *d;
    struct config *cfg;
    char domain[256], key[600];

    (void)c;
    if (!domain_to_ascii(json_str(args, "host", ""), domain, sizeof(domain), err))
        return false;
    cfg = running_config();
    d = xcalloc(1, sizeof(*d));
    queue = xcalloc(1, sizeof(*queue));
    deststats_get(domain, d);
    add_numbers(data, d);
    json_put_int(data, "as_of", clock_wall() / 1000000);
    if (!json_bool_of(args, "brief", false)) {
        route_key(cfg, domain, key, sizeof(key));
        queue_dest_state(key, queue);
        json_put(data, "oldest_message",
                 queue->oldest && d->gauge[DEST_ACTIVE]
                     ? json_integer((clock_wall() - queue->oldest) / 1000000)
                     : json_null());
        if (queue->down) {
            json_put_str(data, "reach", "down");
            json_put_int(data, "down_since", queue->down_since / 1000000);
            json_put_int(data, "down_for", queue->down_for / 1000);
            json_put_int(data, "next_probe", clock_wall() / 1000000 + queue->down_for / 1000);
            json_put_int(data, "failures", queue->failures);
            json_put_str(data, "down_error", deliver_down_text(queue->down_error));
        }
        json_put_int(data, "sessions", queue->sessions);
        json_put_int(data, "sessions_allowed", queue->window);
        json_put_int(data, "waiting_messages", (json_int_t)queue->waiting);
        if (*d->error) {
            json_t *error = json_object();

            json_put_str(error, "text", d->error);
            json_put_int(error, "time", d->error_at / 1000000);
            json_put_str(error, "address", d->address);
            json_put(data, "last_5xx", error);
        }
        add_route(data, cfg, domain);
        add_dns(data, cfg, domain); /* YIELDS */
        mta_sts_show(domain, add_policy, data);
        add_failures(data);
        add_attempt(data, domain); /* YIELDS */
    }
    free(d);
    free(queue);
    config_free(&cfg);
    return true;
}

/* A line at once and then one every so many seconds, until cancelled or count are sent. */
static bool run_rate(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t seconds = json_int(args, "seconds", 10), count = json_int(args, "count", 0);
    struct dest_stats *d;
    msec_t next = clock_now();
    char domain[256];
    bool more = true;

    (void)data;
    if (!domain_to_ascii(json_str(args, "host", ""), domain, sizeof(domain), err))
        return false;
    if (seconds < 1 || seconds > 3600)
        return err_set(err, E_INVALID,
                       "The seconds between displays must be an integer from 1 to 3600.");
    d = xcalloc(1, sizeof(*d));
    while (more && !control_cancelled(c)) {
        if (clock_now() >= next) {
            json_t *line = json_object();

            deststats_get(domain, d);
            add_numbers(line, d);
            json_put_int(line, "time", clock_wall() / 1000000);
            next += SECONDS(seconds);
            more = control_more(c, line) && (!count || --count); /* YIELDS */
        }
        more = more && fiber_sleep(LOOK_EVERY);
    }
    free(d);
    return true;
}

static bool run_top(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    static const char *const orders[] = {"active_rcpts", "conn_out", "deliv_recip", "hard_bounced",
                                         "soft_bounced"};
    const char *by = json_str(args, "by", orders[0]);
    json_int_t limit = json_int(args, "limit", 20);
    json_t *hosts;
    struct dest_stats *top;
    size_t order = 0, n;

    (void)c;
    while (order < countof(orders) && !str_eq(orders[order], by))
        order++;
    if (order == countof(orders))
        return err_set(err, E_USAGE, "Hosts cannot be sorted by %s.", str_printable(by));
    if (limit < 1 || limit > MOST_ROWS)
        limit = MOST_ROWS;
    top = xcalloc((size_t)limit, sizeof(*top));
    n = deststats_top((enum dest_order)order, top, (size_t)limit);
    hosts = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();

        add_numbers(one, &top[i]);
        json_array_append_new(hosts, one);
    }
    free(top);
    json_put_int(data, "as_of", clock_wall() / 1000000);
    json_put(data, "hosts", hosts);
    return true;
}

const struct control_op control_host_ops[] = {
    {"host.status", ROLE_READONLY, run_status},
    {"host.rate",   ROLE_READONLY, run_rate  },
    {"host.top",    ROLE_READONLY, run_top   },
    {NULL,          0,             NULL      },
};
