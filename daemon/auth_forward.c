/* auth_forward.c - see auth_forward.h. A password is sent to a server only when its session is what
 * the server's entry demands: encrypted, and with a certificate that names the server as the entry
 * does.
 *
 * A server that could not be reached is not tried again for a while, unless no other is left:
 * otherwise each authentication would wait for it. */
#include "daemon/auth_forward.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "daemon/smtp_client.h"
#include "daemon/smtp_dial.h"
#include "daemon/smtp_pool.h"
#include "store/base/map.h"

#define SERVER_TIMEOUT SECONDS(15) /* one server, from its name to its answer */
#define ADDRESS_TIMEOUT SECONDS(5) /* one of its addresses, when there are others */
#define DOWN_FOR SECONDS(30)
#define FULL_WAIT SECONDS(10) /* for a free connection, when all servers have as many as they may */
#define FULL_PAUSE 50
#define MAX_ADDRESSES 4u

/* --- the servers' states --- */

struct state {
    unsigned connections;
    msec_t down_until;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map states; /* by "PROFILE/SERVER"; as many as were ever configured */

static struct state *state_of(const char *key) /* under lock */
{
    struct state *s = map_get(&states, key);

    if (!s) {
        s = xcalloc(1, sizeof(*s));
        map_set(&states, key, s);
    }
    return s;
}

static bool enter(const char *key, unsigned limit)
{
    struct state *s;
    bool ok;

    pthread_mutex_lock(&lock);
    s = state_of(key);
    ok = s->connections < limit;
    s->connections += ok;
    pthread_mutex_unlock(&lock);
    return ok;
}

static void leave(const char *key, bool reached)
{
    struct state *s;

    pthread_mutex_lock(&lock);
    s = state_of(key);
    s->connections--;
    s->down_until = reached ? 0 : clock_in(DOWN_FOR);
    pthread_mutex_unlock(&lock);
}

static bool is_down(const char *key)
{
    bool down;

    pthread_mutex_lock(&lock);
    down = state_of(key)->down_until > clock_now();
    pthread_mutex_unlock(&lock);
    return down;
}

/* --- one server --- */

struct asking {
    const struct config *cfg;
    const char *hostname, *user, *password;
    msec_t deadline;
    struct err *err;
};

static void need_of(const struct smtpauth_server *server, const struct tls_names *names,
                    struct tls_need *out)
{
    memset(out, 0, sizeof(*out));
    out->verdict = (struct tls_verdict){.use = server->require_tls ? TLS_MUST : TLS_TRY,
                                        .must = server->verify ? TLS_CHECK_ROUTE : 0,
                                        .clear_when_refused = !server->require_tls,
                                        .rule = RULE_AUTH};
    out->config = running_tls_client_id();
    tls_verify_keys(out->verdict.must, names, NULL, out->keys);
}

/* YIELDS. AUTH_DOWN: this address has not answered the question. */
static enum auth_step ask_address(struct asking *a, const struct smtpauth_server *server,
                                  const struct hop *hop, const struct addr *to)
{
    const struct ssl_settings *ssl = CONFIG_SINGLE(a->cfg, ssl_settings);
    struct tls_names names = {.domain = hop->host,
                              .host = hop->host,
                              .route = hop->host,
                              .fqdn = ssl && ssl->peer_cert_fqdn,
                              .x509 = ssl && ssl->peer_cert_x509};
    struct addr from;
    struct tls_need need;
    struct dial dial = {.host = hop->host,
                        .addr = to,
                        .helo = a->hostname,
                        .need = &need,
                        .names = names,
                        .deadline = a->deadline,
                        .resume = true};
    struct dialed *d = xcalloc(1, sizeof(*d));
    enum auth_step step = AUTH_DOWN;
    int code;

    need_of(server, &names, &need);
    if (*server->source_address && addr_parse(server->source_address, &from) &&
        from.family == to->family)
        dial.from = &from;
    if (smtp_dial(&dial, d)) {
        step = auth_as_client(d->client, a->user, a->password, server->plain, server->login, &code,
                              a->err);
        if (!d->client->closing)
            pool_keep_session(d->client);
    } else {
        err_set(a->err, d->insecure ? E_TLS : E_NET, "%s", d->why);
    }
    client_free(&d->client); /* YIELDS: QUIT */
    free(d);
    return step;
}

/* YIELDS. The addresses of a name, our source address' family alone when there is one. */
static unsigned addresses_of(const struct smtpauth_server *server, const struct hop *hop,
                             msec_t deadline, struct addr *out, struct err *err)
{
    struct dns_addrs found;
    struct addr from = {0};
    unsigned n = 0;

    if (addr_parse(hop->host, &out[0]))
        return 1;
    if (*server->source_address)
        addr_parse(server->source_address, &from);
    if (!dns_addresses(hop->host, from.family != AF_INET6, from.family != AF_INET, deadline, &found,
                       err))
        err_wrap(err, "looking up %s", hop->host);
    for (unsigned i = 0; i < found.n && n < MAX_ADDRESSES; i++)
        out[n++] = found.addrs[i];
    if (!n && !err->code)
        err_set(err, E_DNS, "%s has no address", hop->host);
    dns_addrs_free(&found);
    return n;
}

/* YIELDS */
static enum auth_step ask_server(struct asking *a, const struct smtpauth_server *server)
{
    struct addr addrs[MAX_ADDRESSES];
    enum auth_step step = AUTH_DOWN;
    msec_t last = a->deadline;
    struct hop hop;
    unsigned n;

    if (!hop_parse(server->name, &hop)) {
        err_set(a->err, E_INVALID, "%s is not a host", server->name);
        return AUTH_DOWN;
    }
    memset(a->err, 0, sizeof(*a->err));
    if (clock_in(SERVER_TIMEOUT) < last)
        last = clock_in(SERVER_TIMEOUT);
    n = addresses_of(server, &hop, last, addrs, a->err);
    for (unsigned i = 0; i < n && step == AUTH_DOWN && clock_now() < last; i++) {
        struct asking one = *a;

        addrs[i].port = hop.port;
        one.deadline =
            i + 1 < n && clock_in(ADDRESS_TIMEOUT) < last ? clock_in(ADDRESS_TIMEOUT) : last;
        step = ask_address(&one, server, &hop, &addrs[i]);
    }
    return step;
}

/* --- all of them --- */

static void tell(const struct smtpauth_server *server, const char *why)
{
    char key[300];

    maillog_auth_unreachable(server->name, why);
    snprintf(key, sizeof(key), "smtp-auth forward %s", server->name);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "SMTP Auth: could not reach forwarding server %s with reason: %s", server->name,
                why);
}

struct round {
    bool full; /* one was passed over for its limit */
    unsigned asked;
};

/* YIELDS. Those that are (not) known to be down. */
static enum auth_step ask_those(struct asking *a, const struct row *const *rows, size_t n,
                                bool down, bool *tried, struct round *r)
{
    enum auth_step step = AUTH_DOWN;

    for (size_t i = 0; i < n && step == AUTH_DOWN && clock_now() < a->deadline; i++) {
        const struct smtpauth_server *server = rows[i]->data;

        if (tried[i] || is_down(rows[i]->name) != down)
            continue;
        if (!enter(rows[i]->name, (unsigned)server->max_connections)) {
            r->full = true;
            continue;
        }
        tried[i] = true;
        r->asked++;
        step = ask_server(a, server);
        leave(rows[i]->name, step != AUTH_DOWN);
        if (step == AUTH_DOWN)
            tell(server, a->err->text);
    }
    return step;
}

enum auth_step auth_forward(const struct config *cfg, const struct smtpauth_profile *p,
                            const char *hostname, const char *user, const char *password,
                            msec_t deadline, struct err *err)
{
    struct asking a = {cfg, hostname, user, password, deadline, err};
    msec_t patience = clock_in(FULL_WAIT);
    enum auth_step step = AUTH_DOWN;
    const struct row **rows;
    struct round r = {0};
    bool *tried;
    size_t n;

    rows = config_ordered(cfg, &section_smtpauth_server, p->name, &n);
    tried = xcalloc(n + 1, sizeof(*tried));
    do {
        r.full = false;
        step = ask_those(&a, rows, n, false, tried, &r);
        if (step == AUTH_DOWN && !r.full)
            step = ask_those(&a, rows, n, true, tried, &r);
    } while (step == AUTH_DOWN && r.full && clock_now() < patience && fiber_sleep(FULL_PAUSE));
    if (step == AUTH_DOWN && !r.asked)
        err_set(err, E_BUSY,
                r.full ? "every forwarding server has as many connections as it may"
                       : "there is no forwarding server");
    else if (step == AUTH_DOWN)
        err_wrap(err, "no forwarding server of %s has answered", p->name);
    free(tried);
    free(rows);
    return step;
}
