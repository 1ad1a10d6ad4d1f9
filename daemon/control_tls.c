/* control_tls.c - tls.*: hosts whose TLS handshake failed lately. */
#include "daemon/control.h"

#include <stdlib.h>

#include "daemon/tls_failures.h"

static bool failures_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *hosts = json_array();
    struct tls_failure *list;
    unsigned n = tls_failures_list(&list);
    char text[40];

    (void)c;
    (void)args;
    (void)err;
    for (unsigned i = 0; i < n; i++) {
        json_t *o = json_object();

        json_put_str(o, "host", list[i].host);
        json_put_str(o, "failed", clock_rfc3339(list[i].at, text));
        json_put_int(o, "minutes_left", (list[i].until - clock_now()) / MINUTES(1) + 1);
        json_put_str(o, "reason", list[i].reason);
        json_array_append_new(hosts, o);
    }
    free(list);
    json_put(data, "hosts", hosts);
    return true;
}

static bool failures_clear(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *host = json_str(args, "host", NULL);
    unsigned n = tls_failures_clear(host);

    (void)err;
    json_put_int(data, "cleared", n);
    if (n)
        control_audit(c, "tls.failures.clear", host ? host : "all", "ok", NULL); /* YIELDS */
    return true;
}

const struct control_op control_tls_ops[] = {
    {"tls.failures",       ROLE_READONLY, failures_list },
    {"tls.failures.clear", ROLE_OPERATOR, failures_clear},
    {NULL,                 0,             NULL          },
};
