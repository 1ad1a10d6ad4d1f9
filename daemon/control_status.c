/* control_status.c - status, status.rate, status.reset, host.in: what "status" and "status detail" print, as numbers
 * (store/control.h). */
#include "daemon/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "daemon/connstats.h"
#include "daemon/dns.h"
#include "daemon/exceptions.h"
#include "daemon/fiber.h"
#include "daemon/kept.h"
#include "daemon/limits.h"
#include "daemon/listeners.h"
#include "daemon/queue_run.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/stats.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/version.h"

#define LOOK_EVERY 100 /* ms, for a Ctrl-C */
#define NAMES_WITHIN SECONDS(3)

json_t *control_counters(unsigned first, unsigned last)
{
    json_t *out = json_object();

    for (enum counter c = first; c <= last; c++) {
        json_t *one = json_object();
        struct stats_value v;

        stats_value(c, &v);
        json_put_int(one, "reset", (json_int_t)v.reset);
        json_put_int(one, "uptime", (json_int_t)v.uptime);
        json_put_int(one, "lifetime", (json_int_t)v.lifetime);
        json_put(out, stats_name(c), one);
    }
    return out;
}

static json_t *rates(void)
{
    static const enum counter rated[] = {
        STAT_INJ_MSGS,         STAT_INJ_RECIPS,          STAT_SOFT_BOUNCED_EVTS,
        STAT_COMPLETED_RECIPS, STAT_HARD_BOUNCED_RECIPS, STAT_DELIVERED_RECIPS};
    json_t *out = json_object();

    for (size_t i = 0; i < sizeof(rated) / sizeof(rated[0]); i++) {
        json_t *one = json_object();

        json_put_int(one, "1", (json_int_t)stats_rate(rated[i], 1));
        json_put_int(one, "5", (json_int_t)stats_rate(rated[i], 5));
        json_put_int(one, "15", (json_int_t)stats_rate(rated[i], 15));
        json_put(out, stats_name(rated[i]), one);
    }
    return out;
}

/* A number of the first line of a file of /proc: the word that stands there, or what follows "=" in
 * it. 0: none. */
static double proc_number(const char *path, unsigned word)
{
    FILE *f = fopen(path, "re");
    char line[256] = "", *p = line, *equals;

    if (f && !fgets(line, sizeof(line), f))
        line[0] = '\0';
    if (f)
        fclose(f);
    while (word-- > 0 && p)
        p = (p = strchr(p, ' ')) ? p + 1 : NULL;
    if (!p)
        return 0;
    p[strcspn(p, " ")] = '\0';
    equals = strchr(p, '=');
    return strtod(equals ? equals + 1 : p, NULL);
}

static json_int_t percent(double part, double whole)
{
    double p = whole > 0 ? part * 100 / whole : 0;

    return (json_int_t)(p < 0 ? 0 : p > 100 ? 100 : p + 0.5);
}

/* Of the machine's memory, what this process has; of its processors, what it used since the start
 * and what everything used in the last minute; how long something waited for the disk in the last
 * minute. */
static void system_gauges(json_t *out)
{
    struct rusage use;
    struct statvfs fs;
    double load = proc_number("/proc/loadavg", 0), pages = proc_number("/proc/self/statm", 1),
           io = proc_number("/proc/pressure/io", 2);
    char why[120];
    double up = (double)(clock_wall() - stats_since()) / 1e6, cores = get_nprocs(), cpu = 0;

    if (getrusage(RUSAGE_SELF, &use) == 0)
        cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
              (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    json_put_int(out, "ram_utilization", percent(pages, (double)get_phys_pages()));
    json_put_int(out, "total_utilization", percent(load, cores));
    json_put_int(out, "cpu_utilization", percent(cpu, up * cores));
    json_put_int(out, "disk_utilization", percent(io, 100));
    json_put_int(out, "resource_conservation", resources_conservation(why, sizeof(why)));
    if (statvfs(home_log_dir(), &fs) == 0) {
        json_put_int(out, "log_used",
                     percent((double)(fs.f_blocks - fs.f_bfree), (double)fs.f_blocks));
        json_put_int(out, "log_available", (json_int_t)fs.f_bavail * (json_int_t)fs.f_frsize);
    }
}

static json_t *gauges(const struct queue_totals *queue)
{
    json_t *out = json_object();
    struct spool_usage spool;

    spool_usage(&spool);
    system_gauges(out);
    json_put_int(out, "conn_in", gauge_get(GAUGE_CONN_IN));
    json_put_int(out, "conn_out", gauge_get(GAUGE_CONN_OUT));
    json_put_int(out, "active_recips", (json_int_t)queue->recipients);
    json_put_int(out, "unattempted_recips", (json_int_t)queue->unattempted);
    json_put_int(out, "attempted_recips", (json_int_t)queue->attempted);
    json_put_int(out, "msgs_in_work_queue", (json_int_t)queue_parked());
    json_put_int(out, "dests_in_memory", (json_int_t)queue->destinations);
    json_put_int(out, "kbytes_used", (json_int_t)(spool.bytes_used / 1024));
    json_put_int(out, "kbytes_free", (json_int_t)(spool.bytes_free / 1024));
    return out;
}

static json_t *exceptions(const struct config *cfg)
{
    const struct tls_exception *next;
    usec_t now = clock_wall();
    json_t *out = json_object();

    json_put_int(out, "in_force", (json_int_t)exceptions_in_force(cfg, now, &next));
    if (next) {
        json_put_str(out, "next", next->name);
        json_put_str(out, "expires", next->expires);
        json_put_int(out, "days", exception_days_left(next, now));
    }
    return out;
}

static json_t *listeners(const struct config *cfg)
{
    json_t *out = json_array();

    for (size_t i = 0; i < config_count(cfg, &section_listener); i++) {
        const char *name = config_at(cfg, &section_listener, i)->name;
        json_t *one = json_object();
        char why[256];

        json_put_str(one, "name", name);
        if (listeners_missing(name, why, sizeof(why)))
            json_put_str(one, "missing", why);
        json_put(one, "suspended", json_boolean(listeners_suspended(name)));
        json_put_int(one, "connections", limits_connections(limits_listener(name)));
        json_array_append_new(out, one);
    }
    return out;
}

static const char *system_status(void)
{
    bool receiving = !listeners_suspended(NULL), delivery = !queue_suspended();

    if (queue_paused(NULL))
        return receiving  ? (delivery ? "Work queue paused" : "Delivery suspended, work queue paused")
               : delivery ? "Receiving suspended, work queue paused"
                          : "Offline, work queue paused";
    return receiving  ? (delivery ? "Online" : "Delivery suspended")
           : delivery ? "Receiving suspended"
                      : "Offline";
}

void control_status(json_t *data)
{
    struct config *cfg = running_config();
    struct queue_totals queue;
    struct kept_files kept;
    char conservation[120];
    uint64_t ids[3];
    json_t *last = json_object();

    queue_totals(&queue);
    queue_last_ids(ids);
    json_put_str(data, "host", CONFIG_SINGLE(cfg, system)->hostname);
    json_put_str(data, "version", POSTERN_VERSION);
    json_put_int(data, "as_of", clock_wall() / 1000000);
    json_put_int(data, "up_since", stats_since() / 1000000);
    json_put_int(data, "last_reset", stats_last_reset() / 1000000);
    json_put_str(data, "status", system_status());
    json_put(data, "oldest_message",
             queue.messages ? json_integer((clock_wall() - queue.oldest) / 1000000) : json_null());
    json_put(data, "counters", control_counters(0, STAT_COUNT - 1));
    json_put(data, "rates", rates());
    json_put_int(last, "message_id", (json_int_t)ids[0]);
    json_put_int(last, "injection_conn_id", (json_int_t)ids[1]);
    json_put_int(last, "delivery_conn_id", (json_int_t)ids[2]);
    json_put(data, "ids", last);
    json_put(data, "gauges", gauges(&queue));
    if (resources_conservation(conservation, sizeof(conservation)))
        json_put_str(data, "conservation", conservation);
    kept_files(&kept);
    if (kept.files) {
        json_t *set_aside = json_object();

        json_put_int(set_aside, "files", kept.files);
        json_put_int(set_aside, "bytes", (json_int_t)kept.bytes);
        json_put_int(set_aside, "oldest", kept.oldest / 1000000);
        json_put(data, "set_aside", set_aside);
    }
    json_put(data, "listeners", listeners(cfg));
    json_put(data, "tls_exceptions", exceptions(cfg));
    config_free(&cfg);
}

static bool run_status(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)c;
    (void)args;
    (void)err;
    control_status(data);
    return true;
}

/* --- again and again --- */

static json_t *rate_line(void)
{
    json_t *line = json_object();
    struct queue_totals queue;
    struct spool_usage spool;

    queue_totals(&queue);
    spool_usage(&spool);
    json_put_int(line, "time", clock_wall() / 1000000);
    json_put_int(line, "conn_in", gauge_get(GAUGE_CONN_IN));
    json_put_int(line, "conn_out", gauge_get(GAUGE_CONN_OUT));
    json_put_int(line, "inj_msgs", (json_int_t)stats_get(STAT_INJ_MSGS));
    json_put_int(line, "inj_recips", (json_int_t)stats_get(STAT_INJ_RECIPS));
    json_put_int(line, "completed_recips", (json_int_t)stats_get(STAT_COMPLETED_RECIPS));
    json_put_int(line, "active_recips", (json_int_t)queue.recipients);
    json_put_int(line, "msgs_in_work_queue", (json_int_t)queue_parked());
    json_put_int(line, "kbytes_used", (json_int_t)(spool.bytes_used / 1024));
    return line;
}

/* A line at once and then one every so many seconds, until cancelled or count are sent. */
static bool run_rate(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t seconds = json_int(args, "seconds", 0), count = json_int(args, "count", 0);
    msec_t next = clock_now();
    bool more = true;

    (void)data;
    if (seconds < 1 || seconds > 3600)
        return err_set(err, E_INVALID,
                       "The seconds between displays must be an integer from 1 to 3600.");
    while (more && !control_cancelled(c)) {
        if (clock_now() >= next) {
            next += SECONDS(seconds);
            more = control_more(c, rate_line()) && (!count || --count); /* YIELDS */
        }
        more = more && fiber_sleep(LOOK_EVERY);
    }
    return true;
}

/* YIELDS. Names that nobody had a reason to look up yet are asked for now, a moment long. */
static bool run_in(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t limit = json_int(args, "limit", 20);
    struct conn_count *top;
    json_t *hosts = json_array();
    msec_t until = clock_in(NAMES_WITHIN);
    size_t n;

    (void)c;
    (void)err;
    if (limit < 1 || limit > 1000)
        limit = 1000;
    top = xcalloc((size_t)limit, sizeof(*top));
    n = connstats_top(top, (size_t)limit);
    for (size_t i = 0; i < n; i++) {
        json_t *one = json_object();
        char ip[ADDR_TEXT];
        bool verified = *top[i].name != '\0';

        if (!verified && dns_reverse_timeout() && clock_now() < until &&
            (!dns_reverse(&top[i].addr, until, top[i].name, sizeof(top[i].name), &verified) || !verified))
            top[i].name[0] = '\0';
        addr_text(&top[i].addr, ip);
        json_put_str(one, "host", *top[i].name ? top[i].name : ip);
        json_put_str(one, "ip", ip);
        json_put(one, "verified", json_boolean(verified));
        json_put_str(one, "listener", top[i].listener);
        json_put_int(one, "conn_in", top[i].connections);
        json_array_append_new(hosts, one);
    }
    free(top);
    json_put_int(data, "as_of", clock_wall() / 1000000);
    json_put(data, "hosts", hosts);
    return true;
}


static bool run_reset(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)args;
    (void)data;
    (void)err;
    stats_reset();
    control_audit(c, "status.reset", NULL, "ok", NULL); /* YIELDS */
    log_info("status: %s starts the counters again", control_user(c));
    return true;
}

const struct control_op control_status_ops[] = {
    {"status",       ROLE_GUEST,    run_status},
    {"status.rate",  ROLE_GUEST,    run_rate  },
    {"status.reset", ROLE_OPERATOR, run_reset },
    {"host.in",      ROLE_READONLY, run_in    },
    {NULL,           0,             NULL      },
};
