/* control_explain.c - tls.explain and tls.attempts: why mail for a domain goes the way it goes, and
 * why a message went the way it went. What a delivery would find out is found out by the same
 * calls, nothing is sent; what deliveries found is read from their records (attempt.c). Sentences
 * for people are made here, once, for text and JSON. */
#include "daemon/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/attempt.h"
#include "daemon/evidence.h"
#include "daemon/exceptions.h"
#include "daemon/job.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/route.h"
#include "store/base/str.h"

#define ASK_WITHIN SECONDS(60)
#define MAX_ATTEMPTS 100u

/* --- sentences --- */

static const struct {
    unsigned check;
    const char *word, *sentence;
} checks[] = {
    {TLS_CHECK_DANE,   "dane",   "match the TLSA records of the host"                          },
    {TLS_CHECK_MX,     "mx",     "be issued by a trusted authority for the MX host"            },
    {TLS_CHECK_VERIFY, "verify", "be issued by a trusted authority for the domain (\"Verify\")"},
    {TLS_CHECK_HOSTED, "hosted",
     "be issued by a trusted authority for the domain or the host (\"Verify Hosted Domains\")" },
    {TLS_CHECK_ROUTE,  "route",  "be issued by a trusted authority for the host of the route"   },
};

static void add_checks(struct buf *out, unsigned which)
{
    bool first = true;

    for (size_t i = 0; i < countof(checks); i++) {
        if (!(which & checks[i].check))
            continue;
        buf_printf(out, "%s%s", first ? "" : " and ", checks[i].sentence);
        first = false;
    }
}

/* What the verdict demands, as a sentence without its full stop. */
static void say_verdict(const struct tls_verdict *v, struct buf *out)
{
    switch (v->use) {
    case TLS_REFUSE:
        buf_str_add(out, "Nothing is sent to this host");
        return;
    case TLS_NEVER:
        buf_str_add(out, "In clear: STARTTLS is not used");
        return;
    case TLS_TRY:
        buf_printf(out, "TLS if the host offers it, else in clear");
        break;
    case TLS_MUST:
        buf_printf(out, "TLS%s, never in clear", v->modern ? " 1.2 or newer" : "");
        break;
    }
    if (v->must) {
        buf_str_add(out, "; the certificate must ");
        add_checks(out, v->must);
    } else {
        buf_printf(out, v->look ? "; the certificate is looked at but need not be good"
                                : "; any certificate will do");
    }
}

static const char *find_rule(const char *word)
{
    for (int r = 0; r < TLS_RULE_COUNT; r++)
        if (str_eq(tls_rule_word((enum tls_rule)r), word))
            return tls_rule_sentence((enum tls_rule)r);
    return "";
}

static void put_buf(json_t *o, const char *key, const struct buf *b)
{
    json_put_str(o, key, buf_str(b));
}

static json_t *check_words(unsigned which)
{
    json_t *list = json_array();

    for (size_t i = 0; i < countof(checks); i++)
        if (which & checks[i].check)
            json_array_append_new(list, json_string(checks[i].word));
    return list;
}

static void put_verdict(json_t *o, const struct tls_verdict *v)
{
    static const char *const uses[] = {
        [TLS_NEVER] = "never", [TLS_TRY] = "try", [TLS_MUST] = "must", [TLS_REFUSE] = "refuse"};
    AUTO(buf) struct buf text = BUF_INIT(1000);

    say_verdict(v, &text);
    json_put_str(o, "rule", tls_rule_word(v->rule));
    json_put_str(o, "sentence", tls_rule_sentence(v->rule));
    json_put_str(o, "use", uses[v->use]);
    json_put(o, "must", check_words(v->must));
    json_put(o, "look", check_words(v->look));
    json_put(o, "modern", json_boolean(v->modern));
    json_put(o, "clear_when_refused", json_boolean(v->clear_when_refused));
    json_put(o, "clear_when_broken", json_boolean(v->clear_when_broken));
    put_buf(o, "verdict", &text);
}

static const char *dane_sentence(enum dane_state s)
{
    static const char *const sentences[] = {
        [DANE_NOT_ASKED] = "not asked for",
        [DANE_EXCEPTED] = "not used: an exception names the host",
        [DANE_ROUTED] = "not used: an SMTP route leads to the host",
        [DANE_INSECURE_MX] = "not used: the MX record is not signed",
        [DANE_INSECURE_HOST] = "not used: the addresses are not signed",
        [DANE_NO_RECORDS] = "none",
        [DANE_UNUSABLE] = "none that can be used",
        [DANE_USABLE] = "usable",
        [DANE_FAILED] = "no answer that can be trusted",
    };

    return sentences[s];
}

/* --- what is configured --- */

struct explanation {
    struct job *job;
    struct config *cfg;
    char domain[256];
    struct controls controls;
    struct targets targets;
    struct domain_evidence evidence;
    json_t *out, *advice;
    unsigned refused, hosts; /* targets, and those that get nothing */
    bool nothing_there; /* a host has no TLSA records */
    bool proven_unused; /* a host has usable TLSA records and DANE is off */
};

static void advise(struct explanation *x, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void advise(struct explanation *x, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(1000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    json_array_append_new(x->advice, json_string(buf_str(&text)));
}

static void put_setting(json_t *settings, const char *key, const char *label, const char *word,
                        const char *text, const char *from)
{
    json_t *o = json_object();

    json_put_str(o, "name", key);
    json_put_str(o, "label", label);
    json_put_str(o, "value", word);
    json_put_str(o, "text", text);
    json_put_str(o, "from", from);
    json_array_append_new(settings, o);
}

/* Where a value comes from: the entry itself, the default entry, or nobody set it. */
static const char *origin(bool here, bool base, const char *entry)
{
    return here ? entry : base ? "DEFAULT" : "built in";
}

static void explain_settings(struct explanation *x)
{
    static const struct destination nothing;
    const struct controls *c = &x->controls;
    const struct destination *base = CONFIG_GET(x->cfg, destination, "default");
    const struct destination *d = CONFIG_GET(x->cfg, destination, c->entry);
    const struct destination_setup *setup = CONFIG_SINGLE(x->cfg, destination_setup);
    const char *entry = str_eq(c->entry, "default") ? "DEFAULT" : c->entry, *no_tls = "TLS is No";
    json_t *settings = json_array();
    int fallback = setup ? setup->preferred_fallback : FALLBACK_BEFORE_220;
    bool shut;

    base = base ? base : &nothing;
    d = d ? d : base;
    shut = d != base && d->use_tls == DEST_TLS_NONE;
    json_put_str(x->out, "entry", entry);
    put_setting(settings, "use_tls", "TLS", choices_dest_tls_levels[c->tls].word,
                choices_dest_tls_levels[c->tls].text,
                origin(d->use_tls != DEST_TLS_DEFAULT, base->use_tls != DEST_TLS_DEFAULT, entry));
    put_setting(settings, "dane", "DANE", choices_dane_modes[c->dane].word,
                choices_dane_modes[c->dane].text,
                shut && d->dane == DANE_DEFAULT
                    ? no_tls
                    : origin(d->dane != DANE_DEFAULT, base->dane != DANE_DEFAULT, entry));
    put_setting(settings, "mta_sts", "MTA-STS", c->mta_sts ? "on" : "off",
                c->mta_sts ? "On" : "Off",
                shut && d->mta_sts == STS_DEFAULT
                    ? no_tls
                    : origin(d->mta_sts != STS_DEFAULT, base->mta_sts != STS_DEFAULT, entry));
    if (c->tls == DEST_TLS_PREFERRED || c->tls == DEST_TLS_PREFERRED_VERIFY) {
        put_setting(settings, "preferred_fallback", "When TLS fails",
                    choices_preferred_fallbacks[fallback].word,
                    choices_preferred_fallbacks[fallback].text, "destconfig > setup");
        put_setting(settings, "tls_failure_memory", "Failed handshakes",
                    setup && setup->tls_failure_memory ? "yes" : "no",
                    setup && setup->tls_failure_memory ? "Remembered for an hour"
                                                       : "Not remembered",
                    "destconfig > setup");
    }
    json_put(x->out, "settings", settings);
}

static void explain_route(struct explanation *x)
{
    const struct smtp_route *r = route_find(x->cfg, x->domain);
    AUTO(buf) struct buf hosts = BUF_INIT(2000);
    json_t *o = json_object();

    json_put_str(o, "kind", route_discards(r) ? "discard" : route_uses_dns(r) ? "mx" : "route");
    if (r) {
        strlist_join(&r->hosts, ", ", &hosts);
        json_put_str(o, "entry", r->domain);
        put_buf(o, "hosts", &hosts);
    }
    json_put(x->out, "route", o);
    if (r && !route_uses_dns(r) && (x->controls.dane != DANE_OFF || x->controls.mta_sts))
        advise(x,
               "The SMTP route \"%s\" keeps DANE and MTA-STS from being used: nobody vouches for "
               "its hosts but you. "
               "If the hosts are those of the MX records, make its destination USEDNS; else give "
               "the domain an "
               "entry of its own in destconfig, without DANE.",
               r->domain);
}

/* --- what the DNS and the web say --- */

/* YIELDS. */
static void explain_mx(struct explanation *x)
{
    json_t *o = json_object();
    struct err err = {0};
    struct dns_mx mx;

    if (x->targets.routed)
        goto done;
    dns_mx(x->domain, clock_in(ASK_WITHIN), &mx, &err);
    json_put_str(o, "status", dns_status_name(mx.status));
    json_put_str(o, "security", mx.security == DNS_SECURE ? "secure" : "insecure");
    json_put_int(o, "ttl", mx.ttl);
    if (*mx.canonical && !str_ieq(mx.canonical, x->domain))
        json_put_str(o, "canonical", mx.canonical);
    if (err.code)
        json_put_str(o, "why", err.text);
    if (mx.null_mx)
        json_put_str(o, "why", "a null MX record: the domain accepts no mail");
    else if (mx.status == DNS_NODATA)
        json_put_str(o, "why", "no MX record: the domain itself is the host");
    if (mx.status == DNS_BOGUS)
        advise(x,
               "The DNSSEC signatures of %s do not hold: mail waits until its operator or your "
               "resolvers are "
               "repaired. Compare with \"dig %s mx\"; after a repair, \"dnsflush\".",
               x->domain, x->domain);
    else if (mx.security != DNS_SECURE && x->controls.dane == DANE_MANDATORY && mx.n)
        advise(x,
               "The MX record of %s is not signed, so DANE can never be used: Mandatory keeps all "
               "its mail. Use "
               "Opportunistic, or another TLS setting.",
               x->domain);
    dns_mx_free(&mx);
done:
    json_put(x->out, "mx", o);
}

static void explain_sts(struct explanation *x)
{
    const struct sts *s = &x->evidence.sts;
    json_t *o = json_object();
    char date[40];

    json_put_str(o, "state", sts_state_word(x->evidence.facts.sts_state));
    if (*s->why)
        json_put_str(o, "why", s->why);
    if (*x->evidence.exception)
        json_put_str(o, "exception", x->evidence.exception);
    if (s->policy) {
        json_t *mx = json_array();

        for (size_t i = 0; i < s->policy->mx.n; i++)
            json_array_append_new(mx, json_string(s->policy->mx.items[i]));
        json_put_str(o, "id", s->policy->id);
        json_put_int(o, "max_age", s->policy->max_age);
        json_put_str(o, "fetched", clock_rfc3339(s->policy->fetched, date));
        json_put(o, "mx", mx);
    }
    json_put(x->out, "mta_sts", o);
    if (x->evidence.facts.sts_state == STS_MODE_TESTING)
        advise(x,
               "The MTA-STS policy of %s is only being tested by its operator: it changes nothing "
               "yet.",
               x->domain);
}

static void put_exceptions(struct explanation *x, json_t *o, const struct host_evidence *h)
{
    json_t *list = json_array();

    for (size_t kind = 0; kind < countof(h->exceptions); kind++) {
        const struct tls_exception *e =
            *h->exceptions[kind] ? CONFIG_GET(x->cfg, tls_exception, h->exceptions[kind]) : NULL;
        json_t *one;

        if (!e)
            continue;
        one = json_object();
        json_put_str(one, "name", e->name);
        json_put_str(one, "kind", choices_exception_kinds[e->kind].word);
        json_put_str(one, "text", choices_exception_kinds[e->kind].text);
        json_put_str(one, "reason", e->reason);
        json_put_str(one, "owner", e->owner);
        json_put_str(one, "ends", e->expires);
        json_array_append_new(list, one);
    }
    json_put(o, "exceptions", list);
}

/* YIELDS. Also the records that cannot be used, with the reason. */
static void put_records(json_t *o, const struct target_host *h, const struct dane *d)
{
    json_t *list = json_array();
    struct dns_tlsa answer;
    char name[300], text[160];

    json_put(o, "records", list);
    if (!d->asked)
        return;
    snprintf(name, sizeof(name), "_%u._tcp.%s", h->port, d->base);
    json_put_str(o, "name", name);
    json_put_int(o, "ttl", d->ttl);
    if (dns_tlsa(name, clock_in(ASK_WITHIN), &answer, NULL)) /* from the cache */
        for (unsigned i = 0; i < answer.n; i++) {
            const char *why = tlsa_unusable(&answer.records[i]);
            json_t *r = json_object();

            tlsa_format(&answer.records[i], text, sizeof(text));
            json_put_str(r, "record", text);
            json_put(r, "usable", json_boolean(!why));
            if (why)
                json_put_str(r, "why", why);
            json_array_append_new(list, r);
        }
    dns_tlsa_free(&answer);
}

/* YIELDS. */
static json_t *explain_tlsa(struct explanation *x, const struct target *t,
                            const struct host_evidence *h)
{
    json_t *o = json_object();
    struct dane unused = {0};
    const struct dane *d = &h->dane;

    if (h->facts.dane == DANE_OFF && !x->targets.routed) { /* what there would be */
        dane_look_up(t->of->host, t->addr.port, t->of->mx_secure, &t->of->found,
                     clock_in(ASK_WITHIN), &unused);
        d = &unused;
        x->proven_unused |= unused.state == DANE_USABLE;
    }
    json_put_str(o, "state", dane_state_word(h->facts.dane_state));
    json_put_str(o, "sentence", dane_sentence(d == &unused ? unused.state : h->facts.dane_state));
    json_put(o, "used", json_boolean(d != &unused && h->facts.dane_state == DANE_USABLE));
    if (d == &unused)
        json_put_str(o, "note", "not used: the DANE setting is No");
    if (*d->why)
        json_put_str(o, "why", d->why);
    put_records(o, t->of, d);
    dane_free(&unused);
    return o;
}

static void advise_host(struct explanation *x, const struct target *t,
                        const struct host_evidence *h)
{
    const char *host = t->of->host;

    switch (h->facts.dane_state) {
    case DANE_FAILED:
        advise(x,
               "The DNS answers about %s cannot be trusted, so nothing may go there. Run "
               "\"daneverify %s\"; if only "
               "this host is broken and has to be reached, tlsexceptions can leave DANE out for it "
               "until a date.",
               host, x->domain);
        break;
    case DANE_UNUSABLE:
        advise(x, "The TLSA records of %s are of no use for SMTP; tell its operator: %s.", host,
               h->dane.why);
        break;
    default:
        break;
    }
    if (h->need.verdict.rule == RULE_STS_MX)
        advise(x,
               "%s is not in the MTA-STS policy of %s: its operator has forgotten the policy, or "
               "the MX record is not "
               "his.",
               host, x->domain);
    if (h->need.verdict.rule == RULE_MEMORY)
        advise(x,
               "%s gets mail in clear because a handshake failed lately; \"tlsfailures clear %s\" "
               "forgets that.",
               host, host);
}

/* YIELDS. One address: what it shares with the host's others is told with the first. */
static void explain_target(struct explanation *x, json_t *host, const struct target *t)
{
    json_t *addresses = json_object_get(host, "addresses"), *o = json_object();
    struct host_evidence h;
    char text[ADDR_TEXT], reason[300];

    evidence_of_host(x->cfg, &x->evidence, t, clock_in(ASK_WITHIN), &h);
    evidence_reason(&h, reason, sizeof(reason));
    json_put_str(o, "address", addr_text_port(&t->addr, text));
    put_verdict(o, &h.need.verdict);
    json_put_str(o, "reason", reason);
    json_put(o, "failed_lately", json_boolean(h.facts.failed_lately));
    put_exceptions(x, o, &h);
    if (!json_array_size(addresses)) {
        json_put(host, "tlsa", explain_tlsa(x, t, &h));
        if (x->evidence.sts.policy)
            json_put(host, "in_policy", json_boolean(h.facts.sts_lists_host));
        advise_host(x, t, &h);
    }
    x->nothing_there |=
        h.facts.dane_state == DANE_NO_RECORDS || h.facts.dane_state == DANE_INSECURE_HOST;
    x->hosts++;
    x->refused += h.need.verdict.use == TLS_REFUSE;
    json_array_append_new(addresses, o);
    host_evidence_free(&h);
}

/* YIELDS. */
static void explain_hosts(struct explanation *x)
{
    json_t *hosts = json_array();

    json_put(x->out, "hosts", hosts);
    for (unsigned i = 0; i < x->targets.nhosts && !job_over(x->job); i++) {
        const struct target_host *h = x->targets.hosts[i];
        json_t *o = json_object();

        json_array_append_new(hosts, o);
        json_put_str(o, "host", h->host);
        json_put_int(o, "preference", h->preference);
        json_put(o, "mx_secure", json_boolean(h->mx_secure));
        json_put_str(o, "security", h->found.security == DNS_SECURE ? "secure" : "insecure");
        if (*h->found.canonical && !str_ieq(h->found.canonical, h->host))
            json_put_str(o, "canonical", h->found.canonical);
        if (*h->why)
            json_put_str(o, "why", h->why);
        json_put(o, "addresses", json_array());
        for (unsigned k = 0; k < x->targets.n; k++)
            if (x->targets.items[k].of == h)
                explain_target(x, o, &x->targets.items[k]);
    }
}

/* --- all together --- */

static void add_attempts(json_t *out, json_t *attempts);

/* The last attempt may say what no look-up can. */
static void advise_from_attempts(struct explanation *x, const json_t *attempts)
{
    const json_t *a = json_array_get(attempts, json_array_size(attempts) - 1), *h;
    size_t i;

    json_array_foreach(json_object_get(a, "hosts"), i, h)
    {
        const char *why = json_str(h, "why", "");

        if (x->controls.tls == DEST_TLS_REQUIRED_VERIFY &&
            strstr(why, "peer cert does not match domain"))
            advise(x,
                   "The certificate of %s does not name %s, as \"Required - Verify\" wants it. "
                   "Where mail is hosted "
                   "elsewhere that is normal: use \"Required - Verify Hosted Domains\".",
                   json_str(h, "host", "the host"), x->domain);
    }
}

static void conclude(struct explanation *x, const struct route_problem *problem,
                     enum route_result result)
{
    const char *text;

    if (result == ROUTE_DISCARD)
        text = "Mail is thrown away: its SMTP route is /dev/null";
    else if (result == ROUTE_RETRY)
        text = "Mail waits: its way cannot be found at the moment";
    else if (result == ROUTE_FAIL)
        text = "Mail goes back to its sender";
    else if (x->refused == x->hosts)
        text = "Mail waits in the queue: no host may be used. It goes back to its sender when the "
               "bounce profile's time "
               "is up";
    else if (x->refused)
        text = "Mail goes to the hosts that may be used, in this order; the others are passed over";
    else
        text = "Mail goes to these hosts, in this order";
    json_put_str(x->out, "summary", text);
    if (*problem->text)
        json_put_str(x->out, "problem", problem->text);
    if (x->nothing_there && x->controls.dane == DANE_MANDATORY)
        advise(x, "DANE is mandatory, so hosts without usable TLSA records get nothing. "
                  "Opportunistic protects mail "
                  "wherever the records are there and lets it go where they are not.");
    if (x->proven_unused && x->controls.tls != DEST_TLS_NONE)
        advise(x, "%s can be protected by DANE: \"destconfig set %s dane=opportunistic\".",
               x->domain, x->domain);
}

static bool explain(struct job *job, const json_t *args, json_t *data, struct err *err)
{
    struct explanation *x;
    struct route_problem problem;
    enum route_result result;
    const char *given = json_str(args, "domain", "");
    json_int_t last = json_int(args, "last", 1);
    json_t *attempts;
    char domain[256];

    (void)data;
    if (!*given)
        return err_set(err, E_USAGE, "A domain is needed, for example: example.com.");
    if (!domain_to_ascii(given, domain, sizeof(domain), err) || !host_check(domain, err))
        return false;
    x = xcalloc(1, sizeof(*x));
    x->job = job;
    str_copy(x->domain, sizeof(x->domain), domain);
    x->cfg = running_config();
    x->out = json_object();
    x->advice = json_array();
    json_put_str(x->out, "domain", x->domain);
    route_controls(x->cfg, x->domain, &x->controls);
    explain_settings(x);
    explain_route(x);
    result = route_resolve(x->cfg, x->domain, 0, clock_in(ASK_WITHIN), &x->targets,
                           &problem); /* YIELDS */
    explain_mx(x);
    evidence_of_domain(x->cfg, x->domain, &x->targets,
                       json_bool_of(args, "accepted", false) ? MSG_ACCEPTED : 0,
                       clock_in(ASK_WITHIN), &x->evidence);
    explain_sts(x);
    explain_hosts(x);
    conclude(x, &problem, result);
    attempts = last > 0 ? attempt_find(0, x->domain,
                                       last < MAX_ATTEMPTS ? (unsigned)last : MAX_ATTEMPTS, NULL)
                        : NULL;
    if (attempts)
        advise_from_attempts(x, attempts);
    add_attempts(x->out, attempts);
    json_put(x->out, "advice", x->advice);
    job_say(job, "explanation", x->out, "%s", "");
    domain_evidence_free(&x->evidence);
    targets_free(&x->targets);
    config_free(&x->cfg);
    free(x);
    return true;
}

/* --- past attempts --- */

static unsigned check_bits(const json_t *words)
{
    unsigned bits = 0;
    const json_t *w;
    size_t i;

    json_array_foreach(words, i, w)
    {
        for (size_t k = 0; k < countof(checks); k++)
            if (str_eq(json_string_value(w), checks[k].word))
                bits |= checks[k].check;
    }
    return bits;
}

static void add_sentences(json_t *h)
{
    static const char *const uses[] = {"never", "try", "must", "refuse"};
    AUTO(buf) struct buf text = BUF_INIT(1000);
    struct tls_verdict v = {.must = check_bits(json_object_get(h, "must")),
                            .look = check_bits(json_object_get(h, "look"))};
    unsigned passed = check_bits(json_object_get(h, "passed"));

    if (*json_str(h, "rule", "")) {
        for (size_t i = 0; i < countof(uses); i++)
            if (str_eq(json_str(h, "use", ""), uses[i]))
                v.use = (enum tls_use)i;
        v.modern = (v.must & (TLS_CHECK_DANE | TLS_CHECK_MX | TLS_CHECK_ROUTE)) != 0;
        say_verdict(&v, &text);
        json_put_str(h, "sentence", find_rule(json_str(h, "rule", "")));
        put_buf(h, "verdict", &text);
    }
    if (str_eq(json_str(h, "end", ""), "used")) /* in one word: what protected the mail */
        json_put_str(h, "tls",
                     !json_bool_of(h, "encrypted", false) ? "clear"
                     : passed & TLS_CHECK_DANE            ? "dane"
                     : passed & TLS_CHECK_MX              ? "mta-sts"
                     : passed                             ? "verified"
                                                          : "encrypted");
}

/* Steals attempts; NULL: none. */
static void add_attempts(json_t *out, json_t *attempts)
{
    json_t *a, *h;
    size_t i, k;

    json_array_foreach(attempts, i, a)
    {
        json_array_foreach(json_object_get(a, "hosts"), k, h)
        {
            add_sentences(h);
        }
    }
    json_put(out, "attempts", attempts ? attempts : json_array());
}

static bool run_explain(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    return job_run(c, "tlsexplain", explain, args, data, err);
}

static bool run_attempts(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t mid = json_int(args, "mid", 0);
    json_t *attempts;

    (void)c;
    if (mid < 1)
        return err_set(err, E_INVALID, "The MID must be an integer from 1 on.");
    attempts = attempt_find((uint64_t)mid, NULL, MAX_ATTEMPTS, err); /* YIELDS */
    if (!attempts)
        return false;
    json_put_int(data, "mid", mid);
    add_attempts(data, attempts);
    return true;
}

const struct control_op control_explain_ops[] = {
    {"tls.explain",  ROLE_READONLY, run_explain },
    {"tls.attempts", ROLE_READONLY, run_attempts},
    {NULL,           0,             NULL        },
};
