/* hoststatus.c - what is known of one recipient host: counters, queue, DNS, the last TLS verdict.
 */
#include "cmds/hosts.h"

#include <stdio.h>
#include <string.h>

struct line {
    const char *title; /* indented as printed */
    const char *key; /* NULL: a heading */
};

static const struct line counters[] = {
    {"  Queue",                       NULL                         },
    {"    Soft Bounced Events",       "soft_bounced_evts"          },
    {"  Completion",                  NULL                         },
    {"    Completed Recipients",      "completed_recips"           },
    {"      Hard Bounced Recipients", "hard_bounced_recips"        },
    {"        DNS Hard Bounces",      "dns_hard_bounced_recips"    },
    {"        5XX Hard Bounces",      "5xx_hard_bounced_recips"    },
    {"        Expired Hard Bounces",  "expired_hard_bounced_recips"},
    {"        Other Hard Bounces",    "other_hard_bounced_recips"  },
    {"      Delivered Recipients",    "delivered_recips"           },
    {"      Deleted Recipients",      "deleted_recips"             },
};
static const struct line gauges[] = {
    {"  Queue",                          NULL                },
    {"    Active Recipients",            "active_recips"     },
    {"      Unattempted Recipients",     "unattempted_recips"},
    {"      Attempted Recipients",       "attempted_recips"  },
    {"  Connections",                    NULL                },
    {"    Current Outbound Connections", "conn_out"          },
    {"    Pending Outbound Connections", "conn_pending"      },
};

static void print_lines(struct ui *ui, const struct line *lines, size_t n, const json_t *values)
{
    char text[COUNT_TEXT];

    for (size_t i = 0; i < n; i++) {
        if (lines[i].key)
            out_line(ui, "%-35s%10s", lines[i].title,
                     count_text((uint64_t)json_int(values, lines[i].key, 0), text));
        else
            out_line(ui, "%s", lines[i].title);
    }
}

static const char *date(const json_t *obj, const char *key, const char *none, char out[40])
{
    json_int_t seconds = json_int(obj, key, 0);

    return seconds ? clock_commit_date((usec_t)seconds * 1000000, out) : none;
}

/* "52m24s", "2h", "3d" */
static const char *ttl_text(json_int_t seconds, char *out, size_t size)
{
    if (seconds >= 86400)
        snprintf(out, size, "%lldd%lldh", (long long)(seconds / 86400),
                 (long long)(seconds / 3600 % 24));
    else if (seconds >= 3600)
        snprintf(out, size, "%lldh%lldm", (long long)(seconds / 3600),
                 (long long)(seconds / 60 % 60));
    else
        snprintf(out, size, "%lldm%llds", (long long)(seconds / 60), (long long)(seconds % 60));
    return out;
}

/* Three a line, each preference on its own. */
static void print_addresses(struct ui *ui, const json_t *data)
{
    AUTO(buf) struct buf row = BUF_INIT(400);
    json_int_t preference = -1;
    unsigned in_row = 0;
    json_t *a;
    char text[40];
    size_t i;

    if (!json_array_size(json_object_get(data, "addresses"))) {
        out_line(ui, "%s", "");
        return;
    }
    out_line(ui, "Ordered IP addresses:%s(expiring at %s)", too_narrow(ui, 65) ? "\n    " : " ", date(data, "expires", "once", text));
    out_line(ui, "    Preference   IPs");
    json_array_foreach(json_object_get(data, "addresses"), i, a)
    {
        if (in_row == 3 || (in_row && json_int(a, "preference", 0) != preference)) {
            out_line(ui, "%s", buf_str(&row));
            buf_reset(&row);
            in_row = 0;
        }
        preference = json_int(a, "preference", 0);
        if (!in_row)
            buf_printf(&row, "    %-12lld", (long long)preference);
        buf_printf(&row, " %s", json_str(a, "ip", ""));
        in_row++;
    }
    out_line(ui, "%s\n", buf_str(&row));
    json_array_foreach(json_object_get(data, "addresses"), i, a)
    {
        if (!str_eq(json_str(a, "state", ""), "down"))
            continue;
        out_line(ui, "    %s is down since %s,", json_str(a, "ip", ""),
                 date(a, "down_since", "", text));
        out_line(ui, "    probed next at %s:%s%s\n", date(a, "next_probe", "", text), too_narrow(ui, 100) ? "\n    " : " ",
                 str_printable(json_str(a, "error", "")));
    }
}

static void print_mx(struct ui *ui, const json_t *data)
{
    json_t *host;
    char ttl[40];
    size_t i;

    if (json_object_get(data, "routes")) {
        out_line(ui, "SMTP Routes for this host:");
        json_array_foreach(json_object_get(data, "routes"), i, host)
            out_line(ui, "    %s", str_printable(json_string_value(host)));
        out_line(ui, "%s", "");
    } else if (json_array_size(json_object_get(data, "mx"))) {
        out_line(ui, "MX Records:\n    Preference   TTL        Hostname");
        json_array_foreach(json_object_get(data, "mx"), i, host) out_line(
            ui, "    %-12lld %-10s %s%s%s", (long long)json_int(host, "preference", 0),
            ttl_text(json_int(host, "ttl", 0), ttl, sizeof(ttl)),
            str_printable(json_str(host, "host", "")), *json_str(host, "why", "") ? " - " : "",
            str_printable(json_str(host, "why", "")));
        out_line(ui, "%s", "");
    }
    if (*json_str(data, "dns_error", ""))
        out_line(ui, "DNS: %s\n", str_printable(json_str(data, "dns_error", "")));
}

static void print_error(struct ui *ui, const json_t *data)
{
    const json_t *e = json_object_get(data, "last_5xx");
    char text[40];

    out_line(ui, "Last 5XX Error:\n--------------------");
    if (e)
        out_line(ui, "%s\n(at %s) IP: %s", str_printable(json_str(e, "text", "")),
                 date(e, "time", "", text), str_printable(json_str(e, "address", "")));
    else
        out_line(ui, "(none)");
    out_line(ui, "--------------------\n");
}

static void print_tls(struct ui *ui, const json_t *data)
{
    const json_t *t = json_object_get(data, "tls"), *sts = json_object_get(data, "mta_sts");
    json_t *f;
    char text[40];
    size_t i;

    out_line(ui, "Last delivery attempt on record:");
    if (t) {
        bool encrypted = json_bool_of(t, "encrypted", false);

        out_line(ui, "    At           %s", clock_commit_date(json_int(t, "time_us", 0), text));
        out_line(ui, "    Host         %s%s%s", str_printable(json_str(t, "host", "")),
                 *json_str(t, "address", "") ? " " : "", str_printable(json_str(t, "address", "")));
        out_line(ui, "    Rule         %s", str_printable(json_str(t, "rule", "none")));
        if (encrypted)
            out_line(ui, "    TLS          %s %s", str_printable(json_str(t, "protocol", "")),
                     str_printable(json_str(t, "cipher", "")));
        else
            out_line(ui, "    TLS          none");
        if (*json_str(t, "matched", ""))
            out_line(ui, "    Matched      %s", str_printable(json_str(t, "matched", "")));
        out_line(ui, "    DANE         %s", str_printable(json_str(t, "dane_state", "not-asked")));
        out_line(ui, "    MTA-STS      %s", str_printable(json_str(t, "sts_state", "not-asked")));
        if (*json_str(t, "why", ""))
            out_item(ui, "    Failed       ", str_printable(json_str(t, "why", "")));
    } else {
        out_line(ui, "    none");
    }
    if (sts) {
        out_line(ui, "MTA-STS policy:");
        if (json_object_get(sts, "state"))
            out_line(ui, "    %s, id %s, until %s", str_printable(json_str(sts, "state", "")),
                     str_printable(json_str(sts, "id", "")), date(sts, "expires", "", text));
        if (*json_str(sts, "failure", ""))
            out_line(ui, "    The last fetch failed: %s",
                     str_printable(json_str(sts, "failure", "")));
    }
    json_array_foreach(json_object_get(data, "tls_failures"), i, f)
    {
        char left[40];

        out_line(ui,
                 "TLS handshake failed lately: %s (%s); clear text for another %s where policy "
                 "allows it",
                 str_printable(json_str(f, "host", "")), str_printable(json_str(f, "reason", "")),
                 ttl_text(json_int(f, "seconds", 0), left, sizeof(left)));
    }
}

static void print_status(struct ui *ui, const json_t *data)
{
    char text[40], age[96] = "No Messages";

    if (json_is_integer(json_object_get(data, "oldest_message")))
        age_text(json_int(data, "oldest_message", 0), age, sizeof(age));
    out_line(ui, "Host mail status for: '%s'", str_printable(json_str(data, "host", "")));
    out_line(ui, "Status as of:         %s", date(data, "as_of", "", text));
    out_line(ui, "Host up/down:         %s\n", json_str(data, "reach", "unknown"));
    out_line(ui, "Counters:");
    print_lines(ui, counters, countof(counters), json_object_get(data, "counters"));
    out_line(ui, "\nGauges:");
    print_lines(ui, gauges, countof(gauges), json_object_get(data, "gauges"));
    out_line(ui, "\nOldest Message        %s", age);
    out_line(ui, "Last Activity         %s", date(data, "last_activity", "Never", text));
    if (json_object_get(data, "down_since")) {
        out_line(ui, "Down Since            %s", date(data, "down_since", "", text));
        out_item(ui, "Last Error            ", str_printable(json_str(data, "down_error", "")));
        if (json_int(data, "down_for", 0))
            out_line(ui, "Next Connection in    %s", clock_duration(json_int(data, "down_for", 0), text));
        else
            out_line(ui, "Next Connection       with the next message");
    }
    print_addresses(ui, data);
    print_mx(ui, data);
    print_error(ui, data);
    print_tls(ui, data);
}

char *ask_host(struct ui *ui)
{
    const char *host = ask_some(ui, "host", "Recipient host:");

    return ui_failed(ui) || !*host ? NULL : xstrdup(host);
}

static void run(struct ui *ui, struct session *s)
{
    AUTO(str) char *host = ask_host(ui);
    json_t *args, *data;

    if (!host || !ui_end_of_words(ui))
        return;
    args = json_object();
    json_put_str(args, "host", host);
    data = session_call(s, ui, "host.status", args);
    if (!data)
        return;
    print_status(ui, data);
    out_data(ui, data);
}

const struct command cmd_hoststatus = {
    .name = "hoststatus",
    .help = "Get the status of the given hostname",
    .usage = "hoststatus HOST",
    .detail = "Counters of a recipient domain since the start, its mail in the queue, where its "
              "mail goes, the last "
              "permanent refusal, and the security of the last delivery attempt: the rule that "
              "decided, protocol and "
              "cipher, what the certificate matched, DANE and MTA-STS. The last 50,000 domains are "
              "remembered. A host that took no connection is down: its mail waits, and one connection "
              "at a time probes it, after intervals that grow (bounceconfig setup); delivernow probes "
              "it at once.",
    .roles = ROLE_READONLY,
    .run = run,
};
