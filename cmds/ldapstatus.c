/* ldapstatus.c - ldapstatus and ldapflush: how the directories do, and forgetting what they have
 * answered. */
#include "cmds/common.h"

static void put_row(struct out_table *t, const json_t *server, const json_t *host)
{
    json_t *o = json_object();

    json_put_str(o, "server", json_str(server, "name", ""));
    json_put_str(o, "host", json_str(host, "host", ""));
    json_put_str(o, "state", json_str(host, "state", ""));
    json_put_int(o, "connections", json_int(host, "connections", 0));
    json_put_int(o, "waiting", json_int(host, "waiting", 0));
    json_put_int(o, "queries", json_int(host, "queries", 0));
    json_put_int(o, "msec", json_int(host, "msec", 0));
    json_put_str(o, "why", json_str(host, "why", ""));
    out_table_row(t, o);
}

static void run_status(struct ui *ui, struct session *s)
{
    static const struct out_column columns[] = {
        {"Server",      "server",      0, false},
        {"Host",        "host",        0, false},
        {"State",       "state",       0, false},
        {"Connections", "connections", 0, true },
        {"Waiting",     "waiting",     0, true },
        {"Queries",     "queries",     0, true },
        {"ms",          "msec",        0, true },
        {"Reason",      "why",         0, false},
    };
    json_t *data = ui_end_of_words(ui) ? session_call(s, ui, "ldap.status", json_object()) : NULL,
           *servers = json_object_get(data, "servers"), *server, *host;
    struct out_table *t;
    size_t i, k;

    if (!data)
        return;
    if (out_json(ui)) {
        out_data(ui, data);
        return;
    }
    if (!json_array_size(servers)) {
        out_line(ui, "No LDAP server configurations are in force.");
        json_decref(data);
        return;
    }
    t = out_table_new(ui, "hosts", columns, countof(columns), '=');
    json_array_foreach(servers, i, server)
        json_array_foreach(json_object_get(server, "hosts"), k, host) put_row(t, server, host);
    out_table_end(&t);
    out_line(ui, "%s", "");
    json_array_foreach(servers, i, server)
    {
        const json_t *cache = json_object_get(server, "cache");
        char n[COUNT_TEXT], max[COUNT_TEXT];

        out_line(ui, "Cache of %s: %s of %s entries", str_printable(json_str(server, "name", "")),
                 count_text((uint64_t)json_int(cache, "entries", 0), n),
                 count_text((uint64_t)json_int(cache, "max", 0), max));
    }
    json_decref(data);
}

const struct command cmd_ldapstatus = {
    .name = "ldapstatus",
    .help = "Display the state of the LDAP servers",
    .usage = "ldapstatus",
    .detail =
        "Every host of the committed configuration: whether it answers, how many connections "
        "there are and how many queries wait for one, the time of the last answer, and why it "
        "is left out for the moment. ldapconfig, EDIT, TEST tries a server now.",
    .roles = ROLE_READONLY,
    .run = run_status,
};

static void run_flush(struct ui *ui, struct session *s)
{
    const char *server = ui_word(ui);
    json_t *args = json_object(), *data = NULL;

    if (server)
        json_put_str(args, "server", server);
    if (ui_end_of_words(ui))
        data = session_call(s, ui, "ldap.flush", json_incref(args));
    json_decref(args);
    if (data) {
        json_int_t n = json_int(data, "flushed", 0);

        ui_say(ui, "%lld cached LDAP answer%s forgotten.", (long long)n,
               n == 1 ? " was" : "s were");
        if (n)
            ui_changed(ui);
        out_data(ui, data);
    }
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    if (words->n)
        return;
    session_names(s, &section_ldap_server, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

const struct command cmd_ldapflush = {
    .name = "ldapflush",
    .help = "Flush any cached LDAP results",
    .usage = "ldapflush [SERVER]",
    .detail = "A user who was refused, allowed or has a new password is looked up again at once. "
              "Without a server configuration all of them are forgotten.",
    .roles = ROLE_OPERATOR,
    .run = run_flush,
    .complete = complete,
};
