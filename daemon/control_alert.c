/* control_alert.c - alert.list and alert.test: what displayalerts shows, and "alertconfig test". */
#include "daemon/alert.h"
#include "daemon/control.h"
#include "store/base/clock.h"

#define MOST 1000

/* On the thread of state.c, which waits for nothing of ours meanwhile. */
static void add_alert(void *arg, usec_t at, const char *class, const char *severity,
                      const char *text)
{
    json_t *one = json_object();
    char time[40];

    json_put_str(one, "time", clock_rfc3339(at, time));
    json_put_int(one, "time_us", at);
    json_put_str(one, "class", class);
    json_put_str(one, "severity", severity);
    json_put_str(one, "text", text);
    json_array_append_new(arg, one);
}

static bool run_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t limit = json_int(args, "limit", MOST);
    json_t *alerts = json_array();
    bool ok;

    (void)c;
    ok = alert_list(limit > 0 && limit < MOST ? (unsigned)limit : MOST, add_alert, alerts, err);
    if (ok)
        json_put(data, "alerts", alerts);
    else
        json_decref(alerts);
    return ok;
}

static bool run_test(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    (void)args;
    (void)data;
    (void)err;
    alert_raise(ALERT_SYSTEM, ALERT_INFO, "test", "This is a test alert, asked for by %s.",
                control_user(c));
    return true;
}

const struct control_op control_alert_ops[] = {
    {"alert.list", ROLE_READONLY, run_list},
    {"alert.test", ROLE_OPERATOR, run_test},
    {NULL,         0,             NULL    },
};
