/* smtp_fixture.h - a server session without a daemon: what surrounds it is replaced by small fakes,
 * the spool, the access tables, connections, TLS and fibers are the real ones. Included by the
 * transcripts' runner and by the session's fuzzer, each of which is one program: the fakes take the
 * place of the daemon's functions at linking. */
#ifndef POSTERN_TESTS_SMTP_FIXTURE_H
#define POSTERN_TESTS_SMTP_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "daemon/auth.h"
#include "daemon/crl.h"
#include "daemon/dns.h"
#include "daemon/ldap_auth.h"
#include "daemon/limits.h"
#include "daemon/logfile.h"
#include "daemon/queue.h"
#include "daemon/resources.h"
#include "daemon/reload.h"
#include "daemon/smtp_server.h"
#include "daemon/tls.h"
#include "daemon/trust.h"
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
    X509_STORE *authorities; /* of clients' certificates */
    bool revoked; /* all of them are */
    unsigned auth_wrong; /* failures that were counted */
    bool locked_out;
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

/* --- who clients are ------------------------------------------------------------------------- */

/* The password of everybody is "secret"; the names of users say what becomes of it. */
struct auth {
    const struct auth_client *c;
    char mechanism[16], user[200];
    int round;
};

void auth_mechanisms(const struct auth_client *c, struct buf *out)
{
    (void)c;
    buf_str_add(out, "PLAIN LOGIN");
}

struct auth *auth_begin(const struct auth_client *c, struct slice mechanism)
{
    struct auth *a;

    if (!slice_ieq(mechanism, "PLAIN") && !slice_ieq(mechanism, "LOGIN") &&
        !(slice_ieq(mechanism, "EXTERNAL") && c->certified))
        return NULL;
    a = xcalloc(1, sizeof(*a));
    a->c = c;
    for (size_t i = 0; i < mechanism.n; i++)
        a->mechanism[i] = (char)(mechanism.p[i] & ~0x20);
    return a;
}

static bool fixture_base64(struct slice s, char *out, size_t size)
{
    static unsigned char bytes[12288];
    int n, pad = 0;

    *out = '\0';
    if (slice_eq(s, "="))
        return true;
    if (s.n % 4 || s.n > 12286)
        return false;
    for (size_t i = s.n; i > 0 && s.p[i - 1] == '=' && pad < 2; i--)
        pad++;
    n = s.n ? EVP_DecodeBlock(bytes, (const unsigned char *)s.p, (int)s.n) : 0;
    if (n < 0 || (size_t)(n - pad) >= size)
        return false;
    memcpy(out, bytes, (size_t)(n - pad));
    for (int i = 0; i < n - pad; i++) /* PLAIN: authzid NUL user NUL password */
        if (!out[i])
            out[i] = '|';
    out[n - pad] = '\0';
    return true;
}

static enum auth_step fixture_verdict(struct auth *a, const char *password, struct err *err)
{
    if (str_eq(a->user, "down")) {
        err_set(err, E_NET, "no directory");
        return AUTH_DOWN;
    }
    if (!str_eq(password, "secret"))
        return AUTH_WRONG;
    return str_eq(a->user, "monitored") ? AUTH_MONITORED : str_eq(a->user, "refused") ? AUTH_NOT_ALLOWED : AUTH_OK;
}

enum auth_step auth_step(struct auth *a, struct slice response, struct buf *challenge, struct err *err)
{
    static char text[12288];
    char *bar;

    if (response.p && slice_eq(response, "*"))
        return AUTH_CANCELLED;
    if (response.p && !fixture_base64(response, text, sizeof(text)))
        return AUTH_SYNTAX;
    if (slice_ieq(slice_of(a->mechanism), "LOGIN")) {
        if (response.p && a->round++ == 1)
            return fixture_verdict(a, text, err);
        if (response.p)
            str_copy(a->user, sizeof(a->user), text);
        buf_str_add(challenge, a->round ? "UGFzc3dvcmQ6" : "VXNlcm5hbWU6");
        return AUTH_MORE;
    }
    if (!response.p)
        return a->round++ ? AUTH_SYNTAX : AUTH_MORE;
    if (slice_ieq(slice_of(a->mechanism), "EXTERNAL")) {
        str_copy(a->user, sizeof(a->user), a->c->certified);
        return !*text || str_eq(text, a->c->certified) ? AUTH_OK : AUTH_WRONG;
    }
    bar = *text == '|' ? strchr(text + 1, '|') : NULL;
    if (!bar)
        return AUTH_SYNTAX;
    *bar = '\0';
    str_copy(a->user, sizeof(a->user), text + 1);
    return fixture_verdict(a, bar + 1, err);
}

const char *auth_user(const struct auth *a)
{
    return a->user;
}

const char *auth_mechanism(const struct auth *a)
{
    return a->mechanism;
}

void auth_free(struct auth **a)
{
    free(*a);
    *a = NULL;
}

bool auth_locked_out(const struct addr *peer)
{
    (void)peer;
    return fixture.locked_out;
}

msec_t auth_failed(const struct addr *peer, const struct listener_setup *setup, const char *user)
{
    (void)peer;
    (void)setup;
    (void)user;
    fixture.auth_wrong++;
    return SECONDS(2);
}

void auth_succeeded(const struct addr *peer)
{
    (void)peer;
    fixture.auth_wrong = 0;
}

/* By common name: "down", "stranger", and everybody else is "cn.user". */
enum ldap_verdict ldap_check_certificate(const struct config *cfg, const char *query, const struct ldap_certificate *who,
                                         char *user, size_t size, msec_t deadline, struct err *err)
{
    (void)cfg;
    (void)deadline;
    if (str_eq(who->cn, "down") || !*query) {
        err_set(err, E_NET, "no directory");
        return LDAP_DOWN;
    }
    if (str_eq(who->cn, "stranger"))
        return LDAP_NO;
    snprintf(user, size, "%s.user", who->cn);
    return LDAP_YES;
}

bool crl_chain_ok(enum crl_use use, STACK_OF(X509) * chain, char *why, size_t size)
{
    (void)use;
    (void)chain;
    if (fixture.revoked)
        str_copy(why, size, "certificate revoked on 2026-11-02 (key compromise)");
    return !fixture.revoked;
}

X509_STORE *running_trust(void)
{
    if (!fixture.authorities)
        return X509_STORE_new();
    X509_STORE_up_ref(fixture.authorities);
    return fixture.authorities;
}

STACK_OF(X509_NAME) * running_trust_names(void)
{
    return NULL;
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
    fixture.suspended = fixture.peer_verified = fixture.no_tls = fixture.revoked = fixture.locked_out = false;
    fixture.auth_wrong = 0;
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
static struct config *fixture_objects(struct config *cfg)
{
    static const char *const objects[][3] = {
        {"system",         "-",              "hostname=mx.test|admin_address=admin@example.com"     },
        {"listener_setup", "-",              ""                                                     },
        {"ssl_settings",   "-",              ""                                                     },
        {"listener",       "In",             "kind=public|default_behavior=accept|max_concurrency=2"},
        {"mail_policy",    "In/RELAYED",     "behavior=relay"                                       },
        {"sender_group",   "In/RELAYLIST",   "position=1|policy=RELAYED|hosts=10.0.0.0/8"           },
        {"rcpt_access",    "In/example.com", ""                                                     },
    };
    struct err err = {0};

    for (size_t i = 0; i < countof(objects); i++) {
        cfg = fixture_set(cfg, objects[i][0], objects[i][1], objects[i][2], &err);
        if (!cfg)
            abort();
    }
    return cfg;
}

static inline struct config *fixture_config(void)
{
    return fixture_objects(config_new());
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
