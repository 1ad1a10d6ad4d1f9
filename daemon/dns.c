/* dns.c - see dns.h: questions and answers, with a cache in front of the resolver. Which servers
 * are asked is dns_servers.c's business. */
#include "daemon/dns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dns_cache.h"
#include "daemon/dns_servers.h"
#include "daemon/fiber.h"
#include "daemon/maillog.h"
#include "daemon/stats.h"

#define PATIENCE SECONDS(3) /* then the servers are looked at, while the question waits on */

static bool is_answer(enum dns_status s)
{
    return s == DNS_OK || s == DNS_NODATA || s == DNS_NXDOMAIN;
}

const char *dns_status_name(enum dns_status s)
{
    static const char *const names[] = {"OK", "NoData", "NXDomain", "ServFail", "Timeout", "Bogus"};

    return names[s];
}

/* "example.org (MX): bogus: validation failure <...>: signature expired" */
static bool set_error(const struct dns_answer *a, const char *name, struct err *err)
{
    if (is_answer(a->status))
        return true;
    return err_set(err, a->status == DNS_TIMEOUT ? E_TIMEOUT : E_DNS, "%s (%s): %s%s",
                   str_printable(name), dns_type_name(a->type),
                   a->status == DNS_BOGUS ? "bogus: " : "", a->why);
}

/* The lines of mail_logs at level Debug. */
static void debug_question(const char *name, int type)
{
    const char *quote =
        type == TYPE_TXT ? "" : "'"; /* as tools know the lines of MTA-STS, and all the others */

    if (maillog_wants_debug())
        maillog_debug("DNS query: Q(%s%s%s, '%s')", quote, name, quote, dns_type_name(type));
}

/* "(10, 'mx.example.com.')", "'192.0.2.1'", of TLSA records "'030101ab...'" */
static void debug_value(struct buf *out, const struct dns_answer *a, unsigned i)
{
    AUTO(buf) struct buf text = BUF_INIT(500);
    const char *space;

    if (a->type == TYPE_TLSA) {
        for (size_t k = 0; k < a->rdata[i].n; k++)
            buf_printf(&text, "%02x", a->rdata[i].p[k]);
    } else {
        dns_rdata_text(a->type, &a->rdata[i], &text);
    }
    space = a->type == TYPE_MX ? strchr(buf_str(&text), ' ') : NULL;
    if (space)
        buf_printf(out, "(%.*s, '%s')", (int)(space - buf_str(&text)), buf_str(&text), space + 1);
    else
        buf_printf(out, "'%s'", buf_str(&text));
}

static void debug_answer(const char *name, const struct dns_answer *a)
{
    AUTO(buf) struct buf data = BUF_INIT(600), kept = BUF_INIT(800);
    const char *type = dns_type_name(a->type);

    if (!maillog_wants_debug())
        return;
    if (!is_answer(a->status)) {
        maillog_debug("DNS failure for domain %s type %s: %s: %s", name, type,
                      dns_status_name(a->status), a->why);
        return;
    }
    for (unsigned i = 0; i < a->n && !data.full && !kept.full; i++) {
        AUTO(buf) struct buf value = BUF_INIT(600);

        debug_value(&value, a, i);
        buf_printf(&data, "%s%s", i ? ", " : "", buf_str(&value));
        buf_printf(&kept, "%s(%" PRId64 ", 0, '%s', %s)", i ? ", " : "",
                   (int64_t)(clock_wall() / 1000000 + a->ttl), a->secure ? "SECURE" : "INSECURE",
                   buf_str(&value));
    }
    maillog_debug("DNSSEC Response data([%s%s], %s, %d, %u)", buf_str(&data),
                  data.full ? ", ..." : "", a->secure ? "secure" : "insecure", a->rcode, a->ttl);
    if (a->status == DNS_OK)
        maillog_debug("DNS encache (%s, %s, [%s%s])", name, type, buf_str(&kept),
                      data.full || kept.full ? ", ..." : "");
    else
        maillog_debug("Received %s for domain %s type %s",
                      a->status == DNS_NODATA ? "NODATA" : "NXDOMAIN", name, type);
}

/* --- one question --- */

struct asking {
    const char *name;
    int type;
    struct query *query; /* NULL: it was in the cache */
    struct dns_answer *answer;
    unsigned seen; /* which resolver was asked */
};

static void count_status(const struct dns_answer *a)
{
    switch (a->status) {
    case DNS_BOGUS:
        stats_add(STAT_DNS_BOGUS, 1);
        break;
    case DNS_SERVFAIL:
        stats_add(STAT_DNS_SERVFAIL, 1);
        break;
    case DNS_TIMEOUT:
        stats_add(STAT_DNS_TIMEOUT, 1);
        break;
    default:
        stats_add(a->secure ? STAT_DNS_SECURE : STAT_DNS_INSECURE, 1);
    }
}

/* YIELDS */
static void ask_begin(struct asking *q, const char *name, int type)
{
    memset(q, 0, sizeof(*q));
    q->name = name;
    q->type = type;
    debug_question(name, type);
    stats_add(STAT_DNS_REQUESTS, 1);
    q->answer = dns_cache_get(name, type);
    /* What was learnt from servers that took the signatures away does not outlive them: who can do
     * that for a moment could otherwise switch DANE off, and name the hosts, for a day. */
    if (q->answer && q->answer->unvalidated && dns_validates())
        dns_answer_free(&q->answer);
    if (q->answer) {
        stats_add(STAT_CACHE_HITS, 1);
        return;
    }
    stats_add(STAT_CACHE_MISSES, 1);
    stats_add(STAT_NET_REQUESTS, 1);
    q->query = query_begin(dns_servers_resolver(&q->seen), name, type);
}

static void ask_again(struct asking *q)
{
    if (q->query)
        query_drop(&q->query);
    dns_answer_free(&q->answer);
    stats_add(STAT_NET_REQUESTS, 1);
    q->query = query_begin(dns_servers_resolver(&q->seen), q->name, q->type);
}

/* YIELDS. Never NULL; the caller drops its reference. err, unless NULL, has why there is no answer.
 * A failure may be a server's: then the question is asked once more of those that are all right. */
static struct dns_answer *ask_end(struct asking *q, msec_t deadline, struct err *err)
{
    msec_t soon = clock_in(PATIENCE);

    if (q->query) {
        if (soon < deadline && !query_wait(q->query, soon) &&
            dns_servers_recheck(q->seen, deadline))
            ask_again(q);
        q->answer = query_end(&q->query, deadline);
        if (!is_answer(q->answer->status) && q->answer->status != DNS_TIMEOUT &&
            dns_servers_recheck(q->seen, deadline)) {
            ask_again(q);
            q->answer = query_end(&q->query, deadline);
        }
        if (is_answer(q->answer->status))
            dns_cache_put(q->name, q->answer);
        else
            stats_add(STAT_CACHE_EXCEPTIONS, 1);
        debug_answer(q->name, q->answer);
    }
    count_status(q->answer);
    set_error(q->answer, q->name, err);
    return q->answer;
}

/* YIELDS. As ask_end. */
static struct dns_answer *ask(const char *name, int type, msec_t deadline, struct err *err)
{
    struct asking q;

    ask_begin(&q, name, type);
    return ask_end(&q, deadline, err);
}

struct dns_answer *dns_ask(const char *name, int type, msec_t deadline, bool *cached)
{
    struct asking q;

    ask_begin(&q, name, type);
    *cached = !q.query;
    return ask_end(&q, deadline, NULL);
}

/* --- start, end, flush --- */

bool dns_start(const char *home, struct err *err)
{
    (void)err;
    dns_servers_start(home);
    return true;
}

void dns_stop(void)
{
    dns_servers_stop();
}

/* The library cannot forget one name: it forgets all, and what was asked lately is still in the
 * cache. */
void dns_flush(const char *name)
{
    dns_cache_flush(name);
    dns_servers_flush();
    dns_cache_flush(name); /* what came between */
}

msec_t dns_reverse_timeout(void)
{
    return dns_servers_reverse_timeout();
}

/* --- what callers ask --- */

bool dns_mx(const char *domain, msec_t deadline, struct dns_mx *out, struct err *err)
{
    struct dns_answer *a = ask(domain, TYPE_MX, deadline, err);

    dns_answer_mx(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_tlsa(const char *name, msec_t deadline, struct dns_tlsa *out, struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_TLSA, deadline, err);

    dns_answer_tlsa(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_txt(const char *name, msec_t deadline, struct dns_texts *out, struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_TXT, deadline, err);

    dns_answer_texts(a, out);
    dns_answer_free(&a);
    return is_answer(out->status);
}

bool dns_cname(const char *name, msec_t deadline, char target[256], enum dns_security *security,
               struct err *err)
{
    struct dns_answer *a = ask(name, TYPE_CNAME, deadline, err);
    bool ok = is_answer(a->status);

    *target = '\0';
    *security = a->secure ? DNS_SECURE : DNS_INSECURE;
    if (a->status == DNS_OK &&
        (!a->n || !dns_wire_name(a->rdata[0].p, a->rdata[0].n, target, 256, NULL) || !*target)) {
        *target = '\0';
        ok = err_set(err, E_DNS, "%s: its alias is no host name", str_printable(name));
    }
    dns_answer_free(&a);
    return ok;
}

/* One family that answers is enough, and its security counts; the other one may fail, even its
 * denial (RFC 7672 section 2.2.2: what is bogus of one family does not spoil the other). */
static void merge_addresses(struct dns_answer *const a[2], struct dns_addrs *out)
{
    bool secure = true, found = false;
    const struct dns_answer *first = NULL, *failed = NULL;

    out->status = DNS_NODATA;
    for (int i = 0; i < 2; i++)
        found |= a[i] && a[i]->status == DNS_OK;
    for (int i = 0; i < 2; i++) {
        if (!a[i])
            continue;
        if (!is_answer(a[i]->status)) {
            failed = a[i];
            continue;
        }
        if (found && a[i]->status != DNS_OK)
            continue;
        if (a[i]->status == DNS_NXDOMAIN)
            out->status = DNS_NXDOMAIN;
        dns_answer_addresses(a[i], out);
        secure &= a[i]->secure;
        out->unvalidated |= a[i]->unvalidated;
        out->ttl = !first || a[i]->ttl < out->ttl ? a[i]->ttl : out->ttl;
        first = first ? first : a[i];
    }
    if (out->n)
        out->status = DNS_OK;
    else if (failed)
        out->status = failed->status;
    out->security = first && secure && is_answer(out->status) ? DNS_SECURE : DNS_INSECURE;
    if (first || failed)
        str_copy(out->canonical, sizeof(out->canonical), (first ? first : failed)->canonical);
}

bool dns_addresses(const char *host, bool v4, bool v6, msec_t deadline, struct dns_addrs *out,
                   struct err *err)
{
    static const int type[2] = {TYPE_A, TYPE_AAAA};
    struct dns_answer *a[2] = {NULL, NULL};
    struct asking q[2];

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < 2; i++)
        if (i ? v6 : v4)
            ask_begin(&q[i], host, type[i]); /* both at once */
    for (int i = 0; i < 2; i++)
        if (i ? v6 : v4)
            a[i] = ask_end(&q[i], deadline, NULL);
    merge_addresses(a, out);
    for (int i = 0; i < 2; i++) {
        if (a[i] && !is_answer(out->status))
            set_error(a[i], host, err);
        dns_answer_free(&a[i]);
    }
    return is_answer(out->status);
}

bool dns_reverse(const struct addr *a, msec_t deadline, char *host, size_t size, bool *verified)
{
    struct dns_addrs back = {0};
    char name[80], *p = name;
    struct dns_answer *answer;
    bool found = false;

    *verified = false;
    if (a->family == AF_INET) {
        snprintf(name, sizeof(name), "%u.%u.%u.%u.in-addr.arpa", a->ip[3], a->ip[2], a->ip[1],
                 a->ip[0]);
    } else {
        for (int i = 15; i >= 0; i--)
            p += snprintf(p, 5, "%x.%x.", a->ip[i] & 15u, (unsigned)a->ip[i] >> 4);
        snprintf(p, sizeof(name) - (size_t)(p - name), "ip6.arpa");
    }
    answer = ask(name, TYPE_PTR, deadline, NULL);
    for (unsigned i = 0; i < answer->n && !found; i++)
        found = dns_wire_name(answer->rdata[i].p, answer->rdata[i].n, host, size, NULL) && *host;
    dns_answer_free(&answer);
    if (!found)
        return false;
    if (dns_addresses(host, a->family == AF_INET, a->family == AF_INET6, deadline, &back, NULL))
        for (unsigned i = 0; i < back.n; i++)
            *verified |= addr_eq(&back.addrs[i], a);
    dns_addrs_free(&back);
    return true;
}

void dns_mx_free(struct dns_mx *m)
{
    free(m->hosts);
    memset(m, 0, sizeof(*m));
}

void dns_addrs_free(struct dns_addrs *a)
{
    free(a->addrs);
    memset(a, 0, sizeof(*a));
}

void dns_tlsa_free(struct dns_tlsa *t)
{
    for (unsigned i = 0; i < t->n; i++)
        free(t->records[i].data);
    free(t->records);
    memset(t, 0, sizeof(*t));
}

void dns_texts_free(struct dns_texts *t)
{
    strlist_free(&t->texts);
    memset(t, 0, sizeof(*t));
}

bool dns_validates(void)
{
    return dns_servers_validate();
}
