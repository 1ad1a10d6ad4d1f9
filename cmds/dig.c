/* dig.c - dig and nslookup: what the DNS says, to the gateway itself or from one server. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"

static const char *const types[] = {"A",   "AAAA", "CNAME", "MX",  "NS",     "PTR", "SOA",
                                    "TXT", "TLSA", "DS",    "SRV", "DNSKEY", "CAA"};

static bool is_type(const char *word)
{
    for (size_t i = 0; word && i < countof(types); i++)
        if (str_ieq(types[i], word))
            return true;
    return word && str_istarts(word, "TYPE") && word[4] >= '0' && word[4] <= '9';
}

/* "1.2.0.192.in-addr.arpa" */
static char *reverse_name(const struct addr *a)
{
    AUTO(buf) struct buf out = BUF_INIT(100);

    if (a->family == AF_INET)
        return xasprintf("%u.%u.%u.%u.in-addr.arpa", a->ip[3], a->ip[2], a->ip[1], a->ip[0]);
    for (int i = 15; i >= 0; i--)
        buf_printf(&out, "%x.%x.", a->ip[i] & 15u, (unsigned)a->ip[i] >> 4);
    buf_str_add(&out, "ip6.arpa");
    return buf_take(&out);
}

struct question {
    char *name;
    const char *type, *server, *source;
    bool tcp, reverse;
};

/* Type and name in either order; "-t" is dig's word for the type, and before anything else it means
 * TCP. */
static bool read_words(struct ui *ui, struct question *q)
{
    const char *word = ui_option(ui, "-t");

    if (is_type(word))
        q->type = word;
    else if (word)
        q->tcp = true;
    if (q->tcp && *word == '@')
        q->server = word + 1;
    else if (q->tcp)
        q->name = xstrdup(word);
    q->source = ui_option(ui, "-s");
    q->reverse = ui_flag(ui, "-x");
    if (ui_flag(ui, "-u"))
        q->tcp = false;
    while ((word = ui_word(ui))) {
        if (*word == '@')
            q->server = word + 1;
        else if (!q->type && is_type(word) && (q->name || ui_peek(ui, 0)))
            q->type = word;
        else if (!q->name)
            q->name = xstrdup(word);
        else
            ui_fail(ui, E_USAGE, "\"%s\" is not known here. Type \"dig [@SERVER] [TYPE] NAME\".",
                    str_printable(word));
    }
    return !ui_failed(ui);
}

static void make_reverse(struct ui *ui, struct question *q)
{
    struct addr a;

    if (!addr_parse(q->name, &a)) {
        ui_fail(ui, E_USAGE, "\"%s\" is not an IP address.", str_printable(q->name));
        return;
    }
    free(q->name);
    q->name = reverse_name(&a);
    q->type = "PTR";
}

static json_t *ask_dns(struct ui *ui, struct session *s, const struct question *q)
{
    json_t *args = json_object();

    json_put_str(args, "name", q->name);
    json_put_str(args, "type", q->type ? q->type : "A");
    if (q->server)
        json_put_str(args, "server", q->server);
    if (q->source)
        json_put_str(args, "source", q->source);
    if (q->tcp)
        json_put(args, "tcp", json_true());
    return session_call(s, ui, "dns.query", args);
}

static void print_line(struct ui *ui, const char *name, json_int_t ttl, const char *type,
                       const char *data)
{
    out_line(ui, "%-23s %-7lld IN      %-7s %s", name, (long long)ttl, type, data);
}

static void print_section(struct ui *ui, const json_t *data, const char *key, const char *title)
{
    const json_t *list = json_object_get(data, key);
    const json_t *r;
    size_t i;

    if (!json_array_size(list))
        return;
    out_line(ui, "\n;; %s SECTION:", title);
    json_array_foreach(list, i, r)
    {
        char *name = xasprintf("%s.", json_str(r, "name", ""));

        print_line(ui, name, json_int(r, "ttl", 0), json_str(r, "type", ""),
                   json_str(r, "data", ""));
        free(name);
    }
}

static void print_server_answer(struct ui *ui, const json_t *data)
{
    AUTO(buf) struct buf flags = BUF_INIT(100);
    const json_t *f;
    size_t i;

    json_array_foreach(json_object_get(data, "flags"), i, f)
        buf_printf(&flags, " %s", json_string_value(f));
    out_line(ui, ";; opcode: QUERY, status: %s", json_str(data, "rcode", ""));
    out_line(ui, ";; flags:%s; QUERY: 1, ANSWER: %zu, AUTHORITY: %zu, ADDITIONAL: %zu",
             buf_str(&flags), json_array_size(json_object_get(data, "answer")),
             json_array_size(json_object_get(data, "authority")),
             json_array_size(json_object_get(data, "additional")));
    if (json_object_get(data, "error"))
        out_line(ui, ";; EDE: %s", json_str(data, "error", ""));
    out_line(ui, "\n;; QUESTION SECTION:\n;%s.          IN      %s", json_str(data, "name", ""),
             json_str(data, "type", ""));
    print_section(ui, data, "answer", "ANSWER");
    print_section(ui, data, "authority", "AUTHORITY");
    print_section(ui, data, "additional", "ADDITIONAL");
    out_line(ui, "\n;; DNSSEC: not validated; ask without a server for what the gateway believes");
    out_line(ui, ";; Query time: %lld msec", (long long)json_int(data, "msec", 0));
    out_line(ui, ";; SERVER: %s (%s)", json_str(data, "server", ""),
             json_bool_of(data, "tcp", false) ? "TCP" : "UDP");
    out_line(ui, ";; MSG SIZE  rcvd: %lld", (long long)json_int(data, "size", 0));
}

static const char *rcode_of(const char *status)
{
    return str_eq(status, "NXDomain")                         ? "NXDOMAIN"
           : str_eq(status, "OK") || str_eq(status, "NoData") ? "NOERROR"
                                                              : "SERVFAIL";
}

static void print_own_answer(struct ui *ui, const json_t *data)
{
    const char *name = json_str(data, "name", ""), *canonical = json_str(data, "canonical", ""),
               *why = json_str(data, "why", "");
    const json_t *list = json_object_get(data, "records"), *r;
    char *owner = xasprintf("%s%s", canonical, str_eq(canonical, ".") ? "" : ".");
    size_t i;

    out_line(ui, ";; opcode: QUERY, status: %s; QUERY: 1, ANSWER: %zu",
             rcode_of(json_str(data, "status", "")), json_array_size(list));
    out_line(ui, ";; DNSSEC: %s", json_str(data, "security", ""));
    if (*why)
        out_line(ui, ";; %s: %s", json_str(data, "status", ""), why);
    out_line(ui, "\n;; QUESTION SECTION:\n;%s.          IN      %s", name,
             json_str(data, "type", ""));
    if (!str_ieq(name, canonical) && json_array_size(list))
        out_line(ui, "\n;; %s. is an alias for %s", name, owner);
    if (json_array_size(list))
        out_line(ui, "\n;; ANSWER SECTION:");
    json_array_foreach(list, i, r) print_line(ui, owner, json_int(data, "ttl", 0),
                                              json_str(data, "type", ""), json_string_value(r));
    out_line(ui, "\n;; Query time: %lld msec%s", (long long)json_int(data, "msec", 0),
             json_bool_of(data, "cached", false) ? " (from the cache)" : "");
    free(owner);
}

static void run_dig(struct ui *ui, struct session *s)
{
    struct question q = {0};
    json_t *data = NULL;

    if (!ui_has_words(ui))
        q.name = xstrdup(ask_some(ui, "name", "Please enter the host or IP address to resolve."));
    if (!read_words(ui, &q) || ui_failed(ui)) {
        free(q.name);
        return;
    }
    if (!q.name)
        ui_fail(ui, E_USAGE, "Say which name: \"dig [@SERVER] [TYPE] NAME\".");
    else if (q.reverse)
        make_reverse(ui, &q);
    if (!ui_failed(ui))
        data = ask_dns(ui, s, &q);
    free(q.name);
    if (!data)
        return;
    if (json_object_get(data, "flags"))
        print_server_answer(ui, data);
    else
        print_own_answer(ui, data);
    out_data(ui, data);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    (void)words;
    for (size_t i = 0; i < countof(types); i++)
        offer(out, types[i], NULL);
}

const struct command cmd_dig = {
    .name = "dig",
    .help = "Look up a record on a DNS server",
    .usage = "dig [@SERVER] [TYPE] NAME [TYPE] [-t|-u] [-s SOURCE]\ndig -x ADDRESS [@SERVER]",
    .detail =
        "Without a server the gateway's own resolver answers, with its DNSSEC verdict: secure, "
        "insecure or bogus, and why. With a server its answer is shown as it came. -t asks by "
        "TCP (\"-t TYPE\" gives the type), -u by UDP.",
    .roles = ROLE_OPERATOR,
    .run = run_dig,
    .complete = complete,
};

/* --- nslookup --- */

/* clang-format off */
static const struct ui_choice kinds[] = {
    {"A",     "A       the host's IP address"},
    {"AAAA",  "AAAA    the host's IPv6 address"},
    {"CNAME", "CNAME   the canonical name for an alias"},
    {"MX",    "MX      the mail exchanger"},
    {"NS",    "NS      the name server for the named zone"},
    {"PTR",   "PTR     the hostname if the query is an Internet address,\n"
              "           otherwise the pointer to other information"},
    {"SOA",   "SOA     the domain's \"start-of-authority\" information"},
    {"TXT",   "TXT     the text information"},
    {"TLSA",  "TLSA    the certificate association of a service"},
    {NULL, NULL}
};
/* clang-format on */

/* "30m", "1h", "23h 59m" */
static char *short_time(json_int_t seconds, char out[40])
{
    static const struct {
        char unit;
        json_int_t seconds;
    } units[] = {
        {'d', 86400},
        {'h', 3600 },
        {'m', 60   },
        {'s', 1    }
    };
    size_t n = 0;
    int shown = 0;

    str_copy(out, 40, "0s");
    for (size_t i = 0; i < countof(units) && shown < 2; i++) {
        json_int_t count = seconds / units[i].seconds;

        if (!count)
            continue;
        n += (size_t)snprintf(out + n, 40 - n, "%s%lld%c", n ? " " : "", (long long)count,
                              units[i].unit);
        seconds -= count * units[i].seconds;
        shown++;
    }
    return out;
}

static void run_nslookup(struct ui *ui, struct session *s)
{
    struct question q = {0};
    struct addr a;
    const json_t *r;
    json_t *data;
    const char *why;
    char time[40];
    size_t i;
    int kind;

    q.name = xstrdup(ask_some(ui, "name", "Please enter the host or IP address to resolve."));
    if (!ui_failed(ui) && addr_parse(q.name, &a)) { /* what else could be meant? */
        const char *word = ui_word(ui);

        q.type = "PTR";
        if (word && !str_ieq(word, "PTR"))
            ui_fail(ui, E_USAGE, "An address has only a PTR record.");
        else
            make_reverse(ui, &q);
    } else {
        kind = ask_choice(ui, "type", "Choose the query type:", kinds, 0);
        q.type = ui_failed(ui) ? NULL : kinds[kind].word;
    }
    data = ui_failed(ui) || !ui_end_of_words(ui) ? NULL : ask_dns(ui, s, &q);
    free(q.name);
    if (!data)
        return;
    why = json_str(data, "why", "");
    json_array_foreach(json_object_get(data, "records"), i, r)
        out_line(ui, "%s=%s TTL=%s", json_str(data, "type", ""), json_string_value(r),
                 short_time(json_int(data, "ttl", 0), time));
    if (!i)
        out_line(ui, "%s: %s%s%s", json_str(data, "name", ""), json_str(data, "status", ""),
                 *why ? ", " : "", why);
    out_line(ui, "DNSSEC=%s", json_str(data, "security", ""));
    out_data(ui, data);
}

const struct command cmd_nslookup = {
    .name = "nslookup",
    .help = "Query a name server",
    .usage = "nslookup NAME [TYPE]\nnslookup ADDRESS",
    .detail = "Asks the gateway's own resolver and cache.",
    .roles = ROLE_OPERATOR,
    .run = run_nslookup,
    .complete = complete,
};
