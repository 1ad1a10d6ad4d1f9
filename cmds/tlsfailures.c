/* tlsfailures.c - hosts that get clear text for an hour because their TLS handshake failed. */
#include "cmds/common.h"

#include <stdlib.h>

static const struct out_column columns[] = {
    {"Host",         "host",         0, false},
    {"Failed",       "failed",       0, false},
    {"Minutes Left", "minutes_left", 0, true },
    {"Reason",       "reason",       0, false},
};

static void list_hosts(struct ui *ui, struct session *s, struct row *unused)
{
    struct out_table *t;
    json_t *data, *hosts, *h;
    size_t i;

    (void)unused;
    if (!ui_end_of_words(ui))
        return;
    data = session_call(s, ui, "tls.failures", json_object());
    if (!data)
        return;
    hosts = json_object_get(data, "hosts");
    if (!out_json(ui) && !json_array_size(hosts)) {
        ui_say(ui, "No host is listed.");
    } else {
        t = out_table_new(ui, "hosts", columns, countof(columns), '-');
        json_array_foreach(hosts, i, h)
        {
            out_table_row(t, json_incref(h));
        }
        out_table_end(&t);
    }
    json_decref(data);
}

static void clear_hosts(struct ui *ui, struct session *s, struct row *unused)
{
    char *host = xstrdup(ask_some(ui, "host", "Enter the host to forget, or \"all\"."));
    json_t *args = json_object(), *data = NULL;
    long long n;

    (void)unused;
    if (!str_ieq(host, "all"))
        json_put_str(args, "host", host);
    if (ui_failed(ui) || !ui_end_of_words(ui))
        json_decref(args);
    else
        data = session_call(s, ui, "tls.failures.clear", args);
    if (data) {
        n = (long long)json_int(data, "cleared", 0);
        if (n)
            ui_changed(ui);
        ui_say(ui, "%lld %s forgotten.", n, n == 1 ? "entry was" : "entries were");
        out_data(ui, data);
    }
    free(host);
}

static const struct menu_op main_ops[] = {
    {"LIST",  "List the hosts whose TLS handshake failed within the last hour.", NULL, list_hosts,
     NULL                                                                                               },
    {"CLEAR", "Forget one of them, or all: TLS is tried again at once.",         NULL, clear_hosts, NULL},
};
static const struct menu main_menu = {NULL, main_ops, countof(main_ops), NULL};

const struct command cmd_tlsfailures = {
    .name = "tlsfailures",
    .help = "Look at and forget hosts whose TLS handshake failed",
    .usage = "tlsfailures list\ntlsfailures clear HOST\ntlsfailures clear all",
    .detail =
        "With destconfig > setup > tls_failure_memory, hosts whose TLS handshake failed get clear "
        "text for an hour where the destination's TLS setting is Preferred. Never where DANE, "
        "MTA-STS or a stronger setting is in force.",
    .roles = ROLE_READONLY,
    .menu = &main_menu,
};
