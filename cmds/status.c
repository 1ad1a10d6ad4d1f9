/* status.c - counters, rates and gauges in the layout monitoring scripts know; only lines that are
 * true for this gateway. */
#include "cmds/common.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WIDE 86 /* columns of the layout scripts know: 38 for the title, 16 for each number */
#define LONGEST 31 /* title */
#define CELL 11 /* a number below this width stands on the line after its title */

struct line {
    const char *title; /* indented as printed */
    const char *key; /* NULL: a heading */
    bool detail; /* in "status detail" only */
};

static const struct line counters[] = {
    {"  Receiving",                    NULL,                          false},
    {"    Messages Received",          "inj_msgs",                    false},
    {"    Recipients Received",        "inj_recips",                  false},
    {"    Gen. Bounce Recipients",     "gen_bounce_recips",           true },
    {"  Rejection",                    NULL,                          false},
    {"    Rejected Recipients",        "rejected_recips",             false},
    {"    Dropped Messages",           "dropped_msgs",                false},
    {"  Queue",                        NULL,                          false},
    {"    Soft Bounced Events",        "soft_bounced_evts",           false},
    {"  Completion",                   NULL,                          false},
    {"    Completed Recipients",       "completed_recips",            false},
    {"      Hard Bounced Recipients",  "hard_bounced_recips",         true },
    {"        DNS Hard Bounces",       "dns_hard_bounced_recips",     true },
    {"        5XX Hard Bounces",       "5xx_hard_bounced_recips",     true },
    {"        Expired Hard Bounces",   "expired_hard_bounced_recips", true },
    {"        Other Hard Bounces",     "other_hard_bounced_recips",   true },
    {"      Delivered Recipients",     "delivered_recips",            true },
    {"      Deleted Recipients",       "deleted_recips",              true },
    {"  Connections",                  NULL,                          true },
    {"    Inbound Connections",        "conns_in_total",              true },
    {"      Inbound TLS Connections",  "tls_in",                      true },
    {"      Failed TLS Handshakes",    "tls_failed_in",               true },
    {"    Outbound Connections",       "conns_out_total",             true },
    {"      Outbound TLS Connections", "tls_out",                     true },
    {"      Failed TLS Handshakes",    "tls_failed_out",              true },
};

static const struct line ids[] = {
    {"    Message ID (MID)",          "message_id",        false},
    {"    Injection Conn. ID (ICID)", "injection_conn_id", false},
    {"    Delivery Conn. ID (DCID)",  "delivery_conn_id",  false},
};

static const struct line rates[] = {
    {"  Receiving",                   NULL,                  true},
    {"    Messages Received",         "inj_msgs",            true},
    {"    Recipients Received",       "inj_recips",          true},
    {"  Queue",                       NULL,                  true},
    {"    Soft Bounced Events",       "soft_bounced_evts",   true},
    {"  Completion",                  NULL,                  true},
    {"    Completed Recipients",      "completed_recips",    true},
    {"      Hard Bounced Recipients", "hard_bounced_recips", true},
    {"      Delivered Recipients",    "delivered_recips",    true},
};

static const struct line gauges[] = {
    {"  System",                     NULL,                    true },
    {"    RAM Utilization",          "ram_utilization",       true },
    {"    Overall CPU load average", "total_utilization",     true },
    {"      MGA",                    "cpu_utilization",       true },
    {"    Disk I/O Utilization",     "disk_utilization",      true },
    {"    Resource Conservation",    "resource_conservation", true },
    {"    Logging Disk Usage",       "log_used",              true },
    {"    Logging Disk Available",   "log_available",         true },
    {"  Connections",                NULL,                    false},
    {"    Current Inbound Conn.",    "conn_in",               false},
    {"    Current Outbound Conn.",   "conn_out",              false},
    {"  Queue",                      NULL,                    false},
    {"    Active Recipients",        "active_recips",         false},
    {"      Unattempted Recipients", "unattempted_recips",    true },
    {"      Attempted Recipients",   "attempted_recips",      true },
    {"    Messages In Work Queue",   "msgs_in_work_queue",    false},
    {"    Destinations In Memory",   "dests_in_memory",       true },
    {"    Kilobytes Used",           "kbytes_used",           false},
    {"    Kilobytes Free",           "kbytes_free",           false},
};

static const char *date(const json_t *data, const char *key, char out[40])
{
    json_int_t seconds = json_int(data, key, 0);

    return seconds ? clock_commit_date((usec_t)seconds * 1000000, out) : "Never";
}

/* What scripts get: times as everywhere, null for never. */
static void put_times(json_t *data)
{
    static const char *const keys[] = {"as_of", "up_since", "last_reset"};
    json_t *kept = json_object_get(data, "set_aside");
    char text[40];

    if (kept)
        json_put_str(kept, "oldest", clock_rfc3339((usec_t)json_int(kept, "oldest", 0) * 1000000, text));

    for (size_t i = 0; i < countof(keys); i++) {
        json_int_t seconds = json_int(data, keys[i], 0);

        json_put(data, keys[i],
                 seconds ? json_string(clock_rfc3339((usec_t)seconds * 1000000, text))
                         : json_null());
    }
}

static void fact(struct ui *ui, const char *title, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fact(struct ui *ui, const char *title, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    bool narrow = too_narrow(ui, 60);
    char lead[100];
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    snprintf(lead, sizeof(lead), "%-*s ", narrow ? 19 : 30, title);
    out_item(ui, lead, buf_str(&text));
}

static void head(struct ui *ui, const json_t *data)
{
    char text[40], oldest[96];
    json_int_t up = json_int(data, "as_of", 0) - json_int(data, "up_since", 0);
    const json_t *kept = json_object_get(data, "set_aside");
    char duration[40];
    json_t *l;
    size_t i;

    if (json_int(data, "oldest_message", -1) < 0)
        str_copy(oldest, sizeof(oldest), "No Messages");
    else
        age_text(json_int(data, "oldest_message", 0), oldest, sizeof(oldest));
    fact(ui, "Status as of:", "%s", date(data, "as_of", text));
    fact(ui, "Up since:", "%s (%s)", date(data, "up_since", text), clock_duration(up, duration));
    fact(ui, "Last counter reset:", "%s", date(data, "last_reset", text));
    fact(ui, "System status:", "%s", json_str(data, "status", "unknown"));
    fact(ui, "Oldest Message:", "%s", oldest);
    if (*json_str(data, "conservation", ""))
        fact(ui, "Resource conservation:", "%s (%s)",
             json_int(json_object_get(data, "gauges"), "resource_conservation", 0) == 999
                 ? "mail is refused"
                 : "senders are slowed down",
             json_str(data, "conservation", ""));
    if (kept)
        fact(ui, "Set aside after damage:", "%lld files, %lld MiB, the oldest since %s",
             (long long)json_int(kept, "files", 0), (long long)json_int(kept, "bytes", 0) >> 20,
             date(kept, "oldest", text));
    json_array_foreach(json_object_get(data, "listeners"), i, l)
    {
        char name[80];

        if (!*json_str(l, "missing", "") && !json_bool_of(l, "suspended", false))
            continue;
        snprintf(name, sizeof(name), "Listener %s:", json_str(l, "name", ""));
        if (*json_str(l, "missing", ""))
            fact(ui, name, "%s", str_printable(json_str(l, "missing", "")));
        else
            fact(ui, name, "suspended; \"resumelistener %s\" opens it again", json_str(l, "name", ""));
    }
}

/* A title and up to three texts. A terminal that is too narrow for the layout gets narrower columns; one that has no room
 * for these gets the numbers below their title. */
static void columns(struct ui *ui, const char *title, const char *a, const char *b, const char *c)
{
    unsigned width = ui_width(ui);
    int first = 38, cell = 16;

    if (width && width < WIDE) {
        first = LONGEST;
        cell = ((int)width - 1 - LONGEST) / 3;
    }
    if (cell > 16)
        cell = 16;
    if (!b)
        out_line(ui, "%-*s%*s", first, title, cell < CELL ? CELL + 3 : cell, a);
    else if (cell < CELL)
        out_line(ui, "%s\n%*s%*s%*s", title, (int)(width - 1) / 3, a, (int)(width - 1) / 3, b, (int)(width - 1) / 3, c);
    else
        out_line(ui, "%-*s%*s%*s%*s", first, title, cell, a, cell, b, cell, c);
}

static void three_columns(struct ui *ui, const struct line *lines, size_t n, const json_t *values,
                          const char *const keys[3], bool detail)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = lines[i].key ? json_object_get(values, lines[i].key) : NULL;
        char a[COUNT_TEXT], b[COUNT_TEXT], c[COUNT_TEXT];

        if (lines[i].detail && !detail)
            continue;
        if (lines[i].key)
            columns(ui, lines[i].title, count_text((uint64_t)json_int(v, keys[0], 0), a),
                    count_text((uint64_t)json_int(v, keys[1], 0), b),
                    count_text((uint64_t)json_int(v, keys[2], 0), c));
        else
            out_line(ui, "%s", lines[i].title);
    }
}

/* Percentages, sizes and plain numbers. */
static const char *gauge_text(const char *key, json_int_t n, char out[COUNT_TEXT])
{
    if (str_ends(key, "_utilization") || str_eq(key, "log_used"))
        snprintf(out, COUNT_TEXT, "%lld%%", (long long)n);
    else if (str_eq(key, "log_available"))
        snprintf(out, COUNT_TEXT, n >= 1 << 30 ? "%lldG" : "%lldM",
                 (long long)(n >= 1 << 30 ? n >> 30 : n >> 20));
    else
        count_text((uint64_t)n, out);
    return out;
}

/* Whoever relaxed policy should not forget it. */
static void print_exceptions(struct ui *ui, const json_t *e)
{
    if (!json_int(e, "in_force", 0))
        return;
    out_line(ui, "\nTLS exceptions in force: %lld. The first to end is \"%s\", after %s.",
             (long long)json_int(e, "in_force", 0), str_printable(json_str(e, "next", "")),
             json_str(e, "expires", ""));
}

static void print_status(struct ui *ui, const json_t *data, bool detail)
{
    static const char *const ever[] = {"reset", "uptime", "lifetime"}, *const minutes[] = {"1", "5",
                                                                                           "15"};
    const json_t *g = json_object_get(data, "gauges");
    char text[COUNT_TEXT];

    if (!detail)
        out_line(ui, "Enter \"status detail\" for more information.\n");
    head(ui, data);
    out_line(ui, "%s", "");
    columns(ui, "Counters:", "Reset", "Uptime", "Lifetime");
    three_columns(ui, counters, countof(counters), json_object_get(data, "counters"), ever, detail);
    out_line(ui, "  Current IDs");
    for (size_t i = 0; i < countof(ids); i++) {
        snprintf(text, sizeof(text), "%lld", (long long)json_int(json_object_get(data, "ids"), ids[i].key, 0));
        if (too_narrow(ui, LONGEST + 3 * CELL + 1))
            columns(ui, ids[i].title, text, NULL, NULL);
        else
            columns(ui, ids[i].title, "", "", text);
    }
    if (detail) {
        out_line(ui, "%s", "");
        columns(ui, "Rates (Events Per Hour):", "1-Minute", "5-Minutes", "15-Minutes");
        three_columns(ui, rates, countof(rates), json_object_get(data, "rates"), minutes, detail);
    }
    out_line(ui, "%s", "");
    columns(ui, "Gauges:", "Current", NULL, NULL);
    for (size_t i = 0; i < countof(gauges); i++) {
        if (gauges[i].detail && !detail)
            continue;
        if (gauges[i].key)
            columns(ui, gauges[i].title, gauge_text(gauges[i].key, json_int(g, gauges[i].key, 0), text), NULL, NULL);
        else
            out_line(ui, "%s", gauges[i].title);
    }
    print_exceptions(ui, json_object_get(data, "tls_exceptions"));
}

static void run(struct ui *ui, struct session *s)
{
    const char *word = ui_word(ui);
    bool detail = word && str_ieq(word, "detail");
    json_t *data;

    if (word && !detail) {
        ui_fail(ui, E_USAGE, "\"%s\" is not known here. Type \"status\" or \"status detail\".",
                str_printable(word));
        return;
    }
    if (!ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "status", json_object());
    if (!data)
        return;
    print_status(ui, data, detail);
    put_times(data);
    out_data(ui, data);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    if (!words->n)
        offer(out, "detail", "rates, gauges and every counter");
}

const struct command cmd_status = {
    .name = "status",
    .help = "System status",
    .usage = "status [detail]",
    .detail = "Counters grow: since the last reset, since the start, ever. Rates are events per "
              "hour over the last 1, 5 and 15 "
              "minutes. Gauges are what is now.",
    .roles = ROLE_GUEST,
    .run = run,
    .complete = complete,
};

static void reset(struct ui *ui, struct session *s)
{
    json_t *data = session_call(s, ui, "status.reset", json_object());

    if (data)
        ui_say(ui, "Counters reset.");
    json_decref(data);
}

const struct command cmd_resetcounters = {
    .name = "resetcounters",
    .help = "Reset the counters of status",
    .usage = "resetcounters",
    .roles = ROLE_OPERATOR,
    .run = reset,
};
