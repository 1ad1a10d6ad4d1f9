/* dnsstatus.c - dnsstatus and dnsflush: how name resolution does, and forgetting what it has
 * learnt. */
#include "cmds/common.h"

#include <stdio.h>
#include <string.h>

#define COLUMNS "%-31s%16s%16s%16s" /* fits into 80 */

static const struct {
    const char *title, *key;
} lines[] = {
    {"  DNS Requests",     "dns_requests"    },
    {"  Network Requests", "net_requests"    },
    {"  Cache Hits",       "cache_hits"      },
    {"  Cache Misses",     "cache_misses"    },
    {"  Cache Exceptions", "cache_exceptions"},
    {"  Cache Expired",    "cache_expired"   },
    {"  Secure Answers",   "dns_secure"      },
    {"  Insecure Answers", "dns_insecure"    },
    {"  Bogus Answers",    "dns_bogus"       },
    {"  Server Failures",  "dns_servfail"    },
    {"  Time-outs",        "dns_timeout"     },
};

static void print_counters(struct ui *ui, const json_t *counters)
{
    out_line(ui, COLUMNS, "Counters:", "Reset", "Uptime", "Lifetime");
    for (size_t i = 0; i < countof(lines); i++) {
        const json_t *v = json_object_get(counters, lines[i].key);
        char a[COUNT_TEXT], b[COUNT_TEXT], c[COUNT_TEXT];

        out_line(ui, COLUMNS, lines[i].title, count_text((uint64_t)json_int(v, "reset", 0), a),
                 count_text((uint64_t)json_int(v, "uptime", 0), b),
                 count_text((uint64_t)json_int(v, "lifetime", 0), c));
    }
}

static void print_servers(struct ui *ui, const json_t *data)
{
    const json_t *list = json_object_get(data, "servers"), *o;
    size_t i;

    out_line(ui, "\nServers: %s",
             str_eq(json_str(data, "source", ""), "root")  ? "the Internet root DNS servers"
             : str_eq(json_str(data, "source", ""), "own") ? "own"
                                                           : "those of the system");
    json_array_foreach(list, i, o)
    {
        const char *why = json_str(o, "why", "");

        out_line(ui, "  Priority: %-3lld %-24s %-14s %6lld ms%s%s",
                 (long long)json_int(o, "priority", 0), json_str(o, "address", ""),
                 json_str(o, "state", ""), (long long)json_int(o, "msec", 0), *why ? "  " : "",
                 why);
    }
}

static void print_trust(struct ui *ui, const json_t *data)
{
    const json_t *o;
    char date[40];
    size_t i;

    out_line(ui, "\nDNSSEC: answers are %s",
             json_bool_of(data, "validating", false) ? "validated" : "not validated");
    json_array_foreach(json_object_get(data, "anchors"), i, o)
    {
        const json_t *checked = json_object_get(o, "checked");

        out_line(ui, "  Trust anchor: %-20s %s (%s)%s%s", json_str(o, "domain", ""),
                 json_str(o, "text", ""), json_str(o, "kind", ""),
                 json_is_string(checked) ? ", last confirmed " : "",
                 json_is_string(checked) ? date_text(checked, date) : "");
    }
    json_array_foreach(json_object_get(data, "insecure"), i, o)
        out_line(ui, "  Not validated: %-19s until %s (%s)", json_str(o, "domain", ""),
                 json_str(o, "expires", ""), json_str(o, "reason", ""));
}

static void run_status(struct ui *ui, struct session *s)
{
    json_t *data, *cache;
    char date[40], a[COUNT_TEXT], b[COUNT_TEXT];

    if (!ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "dns.status", json_object());
    if (!data)
        return;
    cache = json_object_get(data, "cache");
    out_line(ui, "Status as of: %s",
             clock_commit_date((usec_t)json_int(data, "as_of", 0) * 1000000, date));
    print_counters(ui, json_object_get(data, "counters"));
    out_line(ui, "\nCache: %s names, %s KiB of %lld KiB",
             count_text((uint64_t)json_int(cache, "entries", 0), a),
             count_text((uint64_t)json_int(cache, "bytes", 0) / 1024, b),
             (long long)json_int(cache, "max_bytes", 0) / 1024);
    print_servers(ui, data);
    print_trust(ui, data);
    out_data(ui, data);
}

const struct command cmd_dnsstatus = {
    .name = "dnsstatus",
    .help = "Display DNS statistics",
    .usage = "dnsstatus",
    .detail = "Counters, the cache, the servers with what is known about their health, and the "
              "trust anchors with the tags of their keys.",
    .roles = ROLE_READONLY,
    .run = run_status,
};

static void run_flush(struct ui *ui, struct session *s)
{
    const char *name = ui_word(ui);
    json_t *args, *data;

    if (name && (str_ieq(name, "y") || str_ieq(name, "yes")))
        name = NULL; /* the answer to the question below */
    else if (!name && !ask_confirm(ui, "confirm",
                                   "Are you sure you want to clear out the DNS cache?", false))
        return;
    if (!ui_end_of_words(ui))
        return;
    args = json_object();
    if (name)
        json_put_str(args, "name", name);
    data = session_call(s, ui, "dns.flush", args);
    if (data && name)
        ui_say(ui, "What was known about %s and what is below it has been forgotten.",
               str_printable(name));
    else if (data)
        ui_say(ui, "The DNS cache has been cleared.");
    json_decref(data);
}

const struct command cmd_dnsflush = {
    .name = "dnsflush",
    .help = "Clear all entries from the DNS cache",
    .usage = "dnsflush [y]\ndnsflush NAME",
    .detail = "With a name, that name and what is below it is asked for anew.",
    .roles = ROLE_OPERATOR,
    .run = run_flush,
};
