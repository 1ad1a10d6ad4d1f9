/* smtp_fixture.h - a server session without a daemon: what surrounds it is replaced by small fakes,
 * the spool, the access tables, connections, TLS and fibers are the real ones. Included by the
 * transcripts' runner and by the session's fuzzer, each of which is one program: the fakes take the
 * place of the daemon's functions at linking. */
#ifndef POSTERN_TESTS_SMTP_FIXTURE_H
#define POSTERN_TESTS_SMTP_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "daemon/dns.h"
#include "daemon/limits.h"
#include "daemon/logfile.h"
#include "daemon/queue.h"
#include "daemon/resources.h"
#include "daemon/reload.h"
#include "daemon/smtp_server.h"
#include "daemon/tls.h"
#include "store/base/str.h"

static struct {
    uint64_t mid, icid;
    struct message *queued[64]; /* one reference each */
    unsigned nqueued;
    struct strlist log;
    bool keep_log;
    bool suspended;
    enum err_code submit_fails; /* E_NONE: it works */
    enum err_code full; /* queue_accepts says no */
    char peer_name[256]; /* what reverse DNS says */
    bool peer_verified;
    unsigned lookups;
    struct tls_context *tls;
    bool no_tls; /* the context cannot be had */
} fixture;

uint64_t queue_next_mid(void)
{
    return ++fixture.mid;
}

uint64_t queue_next_icid(void)
{
    return ++fixture.icid;
}

bool queue_accepts(struct err *err)
{
    return !fixture.full || err_set(err, fixture.full, "Queue full");
}

void resources_pause(void)
{
}

bool queue_submit(struct message *m, struct err *err)
{
    if (fixture.submit_fails)
        return err_set(err, fixture.submit_fails, "%s",
                       fixture.submit_fails == E_LIMIT ? "Queue full" : "no disk");
    if (fixture.nqueued < countof(fixture.queued))
        fixture.queued[fixture.nqueued++] = message_ref(m);
    else
        body_remove(m->body);
    return true;
}

msec_t dns_reverse_timeout(void)
{
    return SECONDS(10);
}

bool dns_reverse(const struct addr *a, msec_t deadline, char *host, size_t size, bool *verified)
{
    (void)a;
    (void)deadline;
    fixture.lookups++;
    *verified = fixture.peer_verified;
    str_copy(host, size, fixture.peer_name);
    return fixture.peer_name[0];
}

struct tls_context *running_tls_server(const char *listener)
{
    (void)listener;
    return fixture.tls && !fixture.no_tls ? tls_context_ref(fixture.tls) : NULL;
}

bool listeners_suspended(const char *name)
{
    (void)name;
    return fixture.suspended;
}

void logfile_write(enum logfile kind, enum log_level level, const char *text)
{
    if (kind == LOGFILE_MAIL && level <= LOG_INFO && fixture.keep_log)
        strlist_add(&fixture.log, text);
}

bool logfile_wants(enum logfile kind, enum log_level level)
{
    (void)kind;
    return level <= LOG_INFO;
}

static void fixture_reset(void)
{
    while (fixture.nqueued) {
        struct message *m = fixture.queued[--fixture.nqueued];

        body_remove(m->body);
        message_free(&m);
    }
    strlist_free(&fixture.log);
    fixture.mid = fixture.icid = 0;
    fixture.suspended = fixture.peer_verified = fixture.no_tls = false;
    fixture.submit_fails = fixture.full = E_NONE;
    fixture.peer_name[0] = '\0';
    fixture.lookups = 0;
}

/* --- configuration --------------------------------------------------------------------------- */

/* Changes fields ("field=value|field=value") of an object, which is made when there is none. */
static struct config *fixture_set(struct config *cfg, const char *section, const char *name,
                                  const char *values, struct err *err)
{
    const struct section *s = section_find(section);
    const struct row *was = s ? config_row(cfg, s, name) : NULL;
    struct row *r;
    AUTO(strlist) struct strlist list = {0};
    struct config_edit edit;
    struct config *out = NULL;

    if (!s) {
        err_set(err, E_USAGE, "no section %s", section);
        return NULL;
    }
    r = was ? row_copy(was) : row_new(s, name);
    strlist_split(&list, values, '|');
    for (size_t i = 0; i < list.n; i++) {
        char *equals = strchr(list.items[i], '=');

        if (!equals) {
            err_set(err, E_USAGE, "%s: no value", list.items[i]);
            goto out;
        }
        *equals = '\0';
        if (!row_set(r, list.items[i], equals + 1, err))
            goto out;
    }
    row_freeze(r);
    edit = (struct config_edit){s, r->name, r};
    out = config_edit(cfg, &edit, 1, 1);
    config_free(&cfg);
out:
    row_free(&r);
    return out;
}

/* A public listener "In" that takes mail for example.com and relays for 10.0.0.0/8. */
static struct config *fixture_config(void)
{
    static const char *const objects[][3] = {
        {"system",         "-",              "hostname=mx.test|admin_address=admin@example.com"     },
        {"listener_setup", "-",              ""                                                     },
        {"listener",       "In",             "kind=public|default_behavior=accept|max_concurrency=2"},
        {"mail_policy",    "In/RELAYED",     "behavior=relay"                                       },
        {"sender_group",   "In/RELAYLIST",   "position=1|policy=RELAYED|hosts=10.0.0.0/8"           },
        {"rcpt_access",    "In/example.com", ""                                                     },
    };
    struct config *cfg = config_new();
    struct err err = {0};

    for (size_t i = 0; i < countof(objects); i++) {
        cfg = fixture_set(cfg, objects[i][0], objects[i][1], objects[i][2], &err);
        if (!cfg)
            abort();
    }
    return cfg;
}

/* What a listener would pass to the session's fiber. */
static struct smtp_origin fixture_origin(const struct config *cfg, int fd, const char *peer)
{
    struct smtp_origin o = {.fd = fd, .access = access_new(cfg, NULL)};

    o.table = access_table(o.access, "In");
    o.limits = limits_listener("In");
    limits_connect(o.limits, 1000, 1000);
    if (!addr_parse(peer, &o.peer) || !addr_parse("192.0.2.25", &o.local))
        abort();
    return o;
}

#endif
