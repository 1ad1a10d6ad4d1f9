/* check.c - see check.h. Objects are checked one by one with their own rules; what one change can
 * break elsewhere is in two places: references to what was deleted (users_of) and the table of
 * dependent sections below. */
#include "store/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/authorities.h"
#include "store/base/clock.h"
#include "store/base/net.h"
#include "store/cert_uses.h"
#include "store/rules.h"
#include "store/ssl.h"
#include "store/x509.h"

#define MAX_ITEMS 200 /* nobody reads more, and a broken import has thousands */

/* When anything in `on` changes, all of `section` is checked again. */
static const struct {
    const struct section *section, *on;
} dependents[] = {
    {&section_listener,          &section_listener      },
    {&section_listener,          &section_certificate   },
    {&section_listener,          &section_system        },
    {&section_mail_policy,       &section_listener      },
    {&section_sender_group,      &section_listener      },
    {&section_rcpt_access,       &section_listener      },
    {&section_sender_group,      &section_mail_policy   },
    {&section_destination,       &section_bounce_profile},
    {&section_bounce_profile,    &section_bounce_template},
    {&section_destination_setup, &section_certificate   },
    {&section_ldap_server,       &section_ldap_setup    },
    {&section_ldap_server,       &section_ldap_query    },
    {&section_ldap_query,        &section_ldap_server   },
    {&section_smtpauth_profile,  &section_smtpauth_profile},
    {&section_smtpauth_profile,  &section_smtpauth_server},
    {&section_smtpauth_profile,  &section_ldap_query    },
    {&section_listener,          &section_smtpauth_profile},
    {&section_smtp_route,        &section_smtpauth_profile},
};

#define MAX_CERTIFICATES 32u /* further ones of a listener */

static void __attribute__((format(printf, 5, 0)))
add(struct check *c, bool warning, const char *object, const char *field, const char *fmt,
    va_list ap)
{
    struct check_item *item;
    struct buf text = BUF_INIT(2000);

    if (!warning)
        c->errors++;
    if (c->n >= MAX_ITEMS)
        return;
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 8;
        c->items = xrealloc(c->items, c->cap * sizeof(*c->items));
    }
    item = &c->items[c->n++];
    item->warning = warning;
    item->object = object ? xstrdup(object) : row_title(c->row->section, c->row->name);
    item->field = field ? xstrdup(field) : NULL;
    buf_vprintf(&text, fmt, ap);
    item->text = buf_take(&text);
}

void check_error(struct check *c, const char *field, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(c, false, NULL, field, fmt, ap);
    va_end(ap);
}

void check_warning(struct check *c, const char *field, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(c, true, NULL, field, fmt, ap);
    va_end(ap);
}

/* About an object that is not there to be c->row. */
static void __attribute__((format(printf, 4, 5)))
error_about(struct check *c, const struct section *s, const char *name, const char *fmt, ...)
{
    char *title = row_title(s, name);
    va_list ap;

    va_start(ap, fmt);
    add(c, false, title, NULL, fmt, ap);
    va_end(ap);
    free(title);
}

void check_free(struct check *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].object);
        free(c->items[i].field);
        free(c->items[i].text);
    }
    free(c->items);
    *c = (struct check){0};
}

/* --- rules over several fields or objects, named in sections.def --- */

/* What peers may refuse. Names are the affair of the listener that shows the certificate. */
static void warn_certificate(const struct config *cfg, const struct row *row, struct check *out)
{
    struct x509_findings found = {0};
    struct strlist hosts = {0};
    struct x509_subject subject;

    cert_subject(cfg, row, clock_wall(), &hosts, &subject);
    subject.hosts = NULL;
    subject.demo = false;
    x509_check(&subject, &found);
    for (size_t i = 0; i < found.n; i++)
        if (found.items[i].severity > X509_NOTE)
            check_warning(
                out, str_starts(found.items[i].word, "chain") ? "intermediates" : "certificate",
                "%s", found.items[i].text);
    x509_findings_free(&found);
    strlist_free(&hosts);
}

void check_certificate(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct certificate *c = row->data;
    const char *texts[] = {c->certificate, c->intermediates},
               *fields[] = {"certificate", "intermediates"};
    size_t errors = out->errors;

    if (*c->certificate && !*c->private_key)
        check_error(out, "private_key",
                    "There is a certificate without its private key; import both.");
    if (!*c->certificate && !*c->request)
        check_error(out, "certificate",
                    "The profile holds neither a certificate nor a signing request; import or "
                    "create one, or delete the profile.");
    for (size_t i = 0; i < countof(texts); i++)
        if (*texts[i] && !x509_count(texts[i]))
            check_error(out, fields[i],
                        "This is not a certificate in PEM format (-----BEGIN CERTIFICATE-----).");
    if (out->errors == errors && !out->errors_only && *c->certificate && !c->demo)
        warn_certificate(cfg, row, out);
}

void check_authority(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct authority *a = row->data;

    (void)cfg;
    if (x509_count(a->certificate) != 1)
        check_error(out, "certificate",
                    "This is not one certificate in PEM format (-----BEGIN CERTIFICATE-----).");
}

void check_alert_setup(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct alert_setup *a = row->data;

    (void)cfg;
    if (a->initial > a->maximum)
        check_error(out, "initial",
                    "The initial number of seconds between duplicates (%llu) must not be larger "
                    "than the maximum one (%llu).",
                    (unsigned long long)a->initial, (unsigned long long)a->maximum);
}

void check_bounce_profile(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct bounce_profile *p = row->data;

    for (size_t i = 0; i < p->language_templates.n; i++) {
        const char *colon = strchr(p->language_templates.items[i], ':');

        if (colon && !CONFIG_GET(cfg, bounce_template, colon + 1))
            check_error(out, "language_templates",
                        "There is no notification template \"%s\"; create it with \"bounceconfig templates new\".",
                        colon + 1);
    }
    if (str_eq(p->name, "Default") &&
        (!p->send_bounces || !p->dsn_format || !p->parse_status || !p->delay_warnings ||
         str_eq(p->alternate, "default")))
        check_error(out, !p->send_bounces     ? "send_bounces"
                         : !p->dsn_format     ? "dsn_format"
                         : !p->parse_status   ? "parse_status"
                         : !p->delay_warnings ? "delay_warnings"
                                              : "alternate",
                    "The profile Default is where \"default\" leads to; it needs a value of its own.");
    if (p->initial_retry > p->max_retry)
        check_error(
            out, "initial_retry",
            "The initial retry interval (%llu) must not be longer than the maximum one (%llu).",
            (unsigned long long)p->initial_retry, (unsigned long long)p->max_retry);
}

void check_bounce_setup(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct bounce_setup *b = row->data;

    (void)cfg;
    if (b->initial_host_retry > b->max_host_retry)
        check_error(out, "initial_host_retry",
                    "The initial retry interval of an unreachable host (%llu) must not be longer "
                    "than the maximum one (%llu).",
                    (unsigned long long)b->initial_host_retry,
                    (unsigned long long)b->max_host_retry);
}

static void check_certificates(const struct config *cfg, const struct listener *l,
                               struct check *out)
{
    if (l->certificates.n > MAX_CERTIFICATES)
        check_error(out, "certificates", "A listener may have at most %u further certificates.",
                    MAX_CERTIFICATES);
    for (size_t i = 0; i < l->certificates.n && i < MAX_CERTIFICATES; i++) {
        const char *name = l->certificates.items[i];
        const struct certificate *c = CONFIG_GET(cfg, certificate, name);
        bool again = str_eq(name, l->certificate);

        for (size_t k = 0; k < i; k++)
            again = again || str_eq(name, l->certificates.items[k]);
        if (again)
            check_error(out, "certificates", "Certificate profile %s is named twice.",
                        str_printable(name));
        else if (c && (!*c->certificate || !*c->private_key))
            check_error(out, "certificates",
                        "Certificate profile %s has no certificate yet; import the signed one or "
                        "choose another profile.",
                        str_printable(name));
    }
}

static const char *const open_relay_advice =
    "set it to reject and name the senders that may relay in a sender group, or let all senders authenticate "
    "(auth \"required\", with a profile in smtp_auth)";

static bool is_news(const struct check *c, const struct config *cfg, const struct section *s,
                    const char *name)
{
    return !c->old || config_row(c->old, s, name) != config_row(cfg, s, name);
}

/* A certificate that is not for this gateway; told when listener, certificate or host name change.
 */
static void warn_listener(const struct config *cfg, const struct row *row,
                          const struct certificate *c, struct check *out)
{
    const struct listener *l = row->data;
    const struct system *system = CONFIG_SINGLE(cfg, system);

    if (!is_news(out, cfg, &section_listener, row->name) &&
        !is_news(out, cfg, &section_certificate, l->certificate) &&
        !is_news(out, cfg, &section_system, "-"))
        return;
    if (c->demo && l->tls != TLS_OFF)
        check_warning(out, "certificate",
                      "TLS is offered with the demonstration certificate \"%s\", which is not "
                      "secure; import or create one with certconfig.",
                      l->certificate);
    if (!c->demo && system && *c->certificate && !x509_covers(c->certificate, system->hostname))
        check_warning(out, "certificate",
                      "Certificate \"%s\" does not cover the name of this gateway, %s; peers that "
                      "verify it will refuse it.",
                      l->certificate, system->hostname);
}

/* RFC 6409: from who has authenticated or may relay, nobody else. */
static bool takes_submissions(const struct listener *l)
{
    return l->protocol == PROTOCOL_SUBMISSION || l->protocol == PROTOCOL_SUBMISSIONS;
}

void check_listener(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct listener *l = row->data, *other;
    const struct certificate *c = CONFIG_GET(cfg, certificate, l->certificate);
    struct addr mine, theirs;

    check_certificates(cfg, l, out);
    check_listener_profile(cfg, l, out);
    if (c && (!*c->certificate || !*c->private_key))
        check_error(out, "certificate",
                    "Certificate profile %s has no certificate yet; import the signed one or "
                    "choose another profile.",
                    l->certificate);
    if (c && !out->errors_only)
        warn_listener(cfg, row, c, out);
    check_flow_defaults(l, out);
    if (l->default_behavior == BEHAVIOR_CONTINUE)
        check_error(out, "default_behavior",
                    "Nothing is left to continue with; choose accept, reject or tcprefuse.");
    else if (l->default_behavior == BEHAVIOR_RELAY && !check_all_authenticate(l, NULL))
        check_error(out, "default_behavior", "Relaying for all senders makes an open relay; %s.",
                    open_relay_advice);
    else if (l->default_behavior == BEHAVIOR_ACCEPT && l->kind == LISTENER_PRIVATE &&
             !check_all_authenticate(l, NULL) && !takes_submissions(l))
        check_error(out, "default_behavior",
                    "A private listener has no recipient access table, so accepting all senders "
                    "makes an open relay; %s.",
                    open_relay_advice);
    check_client_identity(l, NULL, out);
    if (!addr_parse(l->address, &mine))
        return; /* told by the field's own rule */
    for (size_t i = 0; i < config_count(cfg, &section_listener); i++) {
        static const unsigned char any[16];
        const struct row *r = config_at(cfg, &section_listener, i);
        size_t n = mine.family == AF_INET ? 4 : 16;

        other = r->data;
        if (r == row || other->port != l->port || !addr_parse(other->address, &theirs) ||
            theirs.family != mine.family)
            continue;
        if (addr_eq(&mine, &theirs) || !memcmp(mine.ip, any, n) || !memcmp(theirs.ip, any, n))
            check_error(
                out, "port",
                "Listener %s already uses port %llu of address %s; choose another port or address.",
                r->name, (unsigned long long)l->port, other->address);
    }
}

static const struct listener *owner_of(const struct config *cfg, const struct row *row,
                                       struct buf *name)
{
    buf_add(name, row->name, strcspn(row->name, "/"));
    return CONFIG_GET(cfg, listener, buf_str(name));
}

/* More than a /8 of IPv4 or a /16 of IPv6: no organisation has so many, but for the unique local addresses
 * (RFC 4193). */
static bool is_half_the_world(const char *host)
{
    struct net n;
    bool v4;

    if (!net_parse(host, &n, NULL))
        return false;
    v4 = n.lo.family == AF_INET;
    if (!v4 && (n.lo.ip[0] & 0xfe) == 0xfc && (n.hi.ip[0] & 0xfe) == 0xfc)
        return false;
    return n.lo.ip[0] != n.hi.ip[0] || (!v4 && n.lo.ip[1] != n.hi.ip[1]);
}

/* Top-level domains that the public DNS does not have (RFC 6761, RFC 6762, and what networks use all the same). */
static bool is_private_domain(const char *name)
{
    static const char *const names[] = {"internal", "local", "lan", "corp", "home", "private", "intranet", "test", "example"};

    for (size_t i = 0; i < countof(names); i++)
        if (str_ieq(name, names[i]))
            return true;
    return false;
}

void check_sender_group(const struct config *cfg, const struct row *row, struct check *out)
{
    AUTO(buf) struct buf owner = BUF_INIT(300);
    const struct sender_group *g = row->data;
    const struct listener *l = owner_of(cfg, row, &owner);
    char *name = xasprintf("%s/%s", buf_str(&owner), g->policy);
    const struct mail_policy *p = CONFIG_GET(cfg, mail_policy, name);

    free(name);
    if (!l)
        return; /* told by the rule on owners */
    if (!p) {
        check_error(out, "policy",
                    "Listener %s has no mail flow policy %s; create it or choose another one.",
                    l->name, g->policy);
        return;
    }
    if (p->behavior != BEHAVIOR_RELAY &&
        (p->behavior != BEHAVIOR_ACCEPT || l->kind == LISTENER_PUBLIC))
        return;
    if (check_all_authenticate(l, p) || (p->behavior == BEHAVIOR_ACCEPT && takes_submissions(l)))
        return;
    for (size_t i = 0; i < g->hosts.n; i++) {
        const char *host = g->hosts.items[i];
        bool top_level = *host == '.' && !strchr(host + 1, '.');

        if (str_ieq(host, "ALL") || is_half_the_world(host) || (top_level && !is_private_domain(host + 1)))
            check_error(out, "hosts",
                        "Policy %s relays, so \"%s\" makes an open relay; name the senders that may relay, or let "
                        "them authenticate (auth \"required\" in the policy, with a profile in smtp_auth of the "
                        "listener).",
                        g->policy, host);
        else if (top_level && !out->errors_only)
            check_warning(out, "hosts",
                          "Policy %s relays, so every host below the top-level domain \"%s\" may "
                          "send anywhere.",
                          g->policy, host);
    }
}

void check_rcpt_access(const struct config *cfg, const struct row *row, struct check *out)
{
    AUTO(buf) struct buf owner = BUF_INIT(300);
    const struct listener *l = owner_of(cfg, row, &owner);
    const struct rcpt_access *e = row->data;

    if (e->action == RCPT_REJECT && e->code && e->code < 400)
        check_error(out, "code", "%llu is no code of a refusal; choose one from 400 to 599.",
                    (unsigned long long)e->code);
    if (e->action == RCPT_ACCEPT && e->code && e->code != 250 && e->code != 251)
        check_error(out, "code", "%llu is no code for an accepted recipient; choose 250 or 251.",
                    (unsigned long long)e->code);
    if (l && l->kind == LISTENER_PRIVATE)
        check_error(out, NULL,
                    "Listener %s is private and has no recipient access table; delete the entry or "
                    "make the listener public.",
                    l->name);
}

const char *destination_tls_conflict(const struct destination *d, const struct destination *base)
{
    int tls = d->use_tls != DEST_TLS_DEFAULT ? d->use_tls : base->use_tls;

    if (tls != DEST_TLS_NONE && tls != DEST_TLS_DEFAULT)
        return NULL;
    return d->dane == DANE_OPPORTUNISTIC || d->dane == DANE_MANDATORY ? "dane"
           : d->mta_sts == STS_ON                                     ? "mta_sts"
                                                                      : NULL;
}

static void check_destination_tls(const struct config *cfg, const struct destination *d,
                                  struct check *out)
{
    const struct destination *base = CONFIG_GET(cfg, destination, "default");
    const char *field = base ? destination_tls_conflict(d, base) : NULL;
    bool dane = str_eq(field, "dane");

    if (field)
        check_error(
            out, field,
            "%s (%s) needs TLS, but use_tls is off%s; set use_tls to \"on\" or more, or %s to "
            "\"%s\".",
            dane ? "DANE" : "MTA-STS", field,
            d->use_tls == DEST_TLS_DEFAULT ? " in the default entry" : "", field,
            dane ? "none" : "off");
}

/* The default entry has changed: whose DANE or MTA-STS no longer goes with the TLS level it takes
 * from there? */
static void check_heirs(const struct config *cfg, const struct destination *base, struct check *out)
{
    AUTO(buf) struct buf names = BUF_INIT(1500);
    size_t n = 0;

    for (size_t i = 0; i < config_count(cfg, &section_destination); i++) {
        const struct destination *d = config_at(cfg, &section_destination, i)->data;

        if (d != base && d->use_tls == DEST_TLS_DEFAULT && destination_tls_conflict(d, base) &&
            ++n <= 5)
            buf_printf(&names, "%s%s", n > 1 ? ", " : "", d->domain);
    }
    if (n > 5)
        buf_printf(&names, " and %zu more", n - 5);
    if (n)
        check_error(out, "use_tls",
                    "DANE and MTA-STS (dane, mta_sts) need TLS, but this is the TLS setting of %s, "
                    "where they are on; set use_tls to \"on\" or more there or here.",
                    buf_str(&names));
}

void check_destination(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct destination *d = row->data;

    if (!str_eq(d->bounce_profile, "default") &&
        !CONFIG_GET(cfg, bounce_profile, d->bounce_profile))
        check_error(
            out, "bounce_profile",
            "Bounce profile %s does not exist; create it or choose another one, or \"default\".",
            d->bounce_profile);
    if (!d->recipient_limit != !d->recipient_minutes)
        check_error(
            out, d->recipient_limit ? "recipient_minutes" : "recipient_limit",
            "A recipient limit needs both the number of recipients (recipient_limit) and the "
            "minutes they are counted in (recipient_minutes).");
    check_destination_tls(cfg, d, out);
    if (!str_eq(d->domain, "default"))
        return;
    check_heirs(cfg, d, out);
    if (d->use_tls == DEST_TLS_DEFAULT)
        check_error(out, "use_tls",
                    "The default entry has nothing to inherit from; choose off, on or require.");
    if (!d->concurrency_limit || !d->max_messages_per_connection)
        check_error(out, d->concurrency_limit ? "max_messages_per_connection" : "concurrency_limit",
                    "The default entry has nothing to inherit from; enter a number.");
}

static void check_service(struct check *out, const char *service, int min, int max,
                          const char *ciphers, bool server)
{
    char field[32];
    bool old, new;

    snprintf(field, sizeof(field), "%s_min", service);
    if (min > max)
        check_error(out, field,
                    "The oldest version (%s) must not be newer than the newest one (%s_max, %s).",
                    choices_tls_versions[min].text, service, choices_tls_versions[max].text);
    else if (min < TLSV1_2)
        check_warning(
            out, field,
            "%s is obsolete and can be attacked (RFC 8996); choose tlsv1.2 unless a %s knows "
            "nothing newer.",
            choices_tls_versions[min].text, server ? "peer" : "server");
    ssl_ciphers_for(ciphers, &old, &new);
    snprintf(field, sizeof(field), "%s_ciphers", service);
    if (!old && min < TLSV1_3)
        check_error(
            out, field,
            "The cipher string names TLS v1.3 suites only; add ciphers of older versions such "
            "as HIGH, or set %s_min to tlsv1.3.",
            service);
}

void check_ssl_settings(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct ssl_settings *s = row->data;

    (void)cfg;
    check_service(out, "gui", s->gui_min, s->gui_max, s->gui_ciphers, true);
    check_service(out, "inbound", s->inbound_min, s->inbound_max, s->inbound_ciphers, true);
    check_service(out, "outbound", s->outbound_min, s->outbound_max, s->outbound_ciphers, false);
    if (s->other_min < TLSV1_2)
        check_warning(
            out, "other_min",
            "%s is obsolete and can be attacked (RFC 8996); choose tlsv1.2 unless a server "
            "knows nothing newer.",
            choices_tls_versions[s->other_min].text);
}

void check_tls_exception_target(const struct row *row, struct check *out)
{
    const struct tls_exception *e = row->data;
    const char *name = e->target + (*e->target == '.');
    struct net n;

    /* digits and dots alone are a mistyped address, no name (RFC 3696, 2) */
    if (host_is_fqdn(name) && name[strspn(name, "0123456789.")] && !net_parse(e->target, &n, NULL))
        return;
    if (e->kind == EXCEPTION_NO_DANE)
        check_error(
            out, "target",
            "The target of no-dane is an MX host such as mx1.example.com, or .example.com for "
            "all hosts below it.");
    else if (e->kind == EXCEPTION_NO_MTA_STS)
        check_error(out, "target",
                    "The target of no-mta-sts is a recipient domain such as example.com, or "
                    ".example.com for all below it.");
    else if (!net_parse(e->target, &n, NULL))
        check_error(out, "target",
                    "The target of %s is a host, a domain, .domain, an IP address or a CIDR block.",
                    choices_exception_kinds[e->kind].word);
}

/* A date that is over is no error: the file with it must load in a year, too. */
void check_tls_exception(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct tls_exception *e = row->data;
    time_t now = (time_t)(clock_wall() / 1000000), end = now + EXCEPTION_DAYS * 86400;
    char today[11], last[11];
    struct tm tm;

    (void)cfg;
    check_tls_exception_target(row, out);
    strftime(today, sizeof(today), "%Y-%m-%d", localtime_r(&now, &tm));
    strftime(last, sizeof(last), "%Y-%m-%d", localtime_r(&end, &tm));
    if (strlen(e->expires) == 10 && strcmp(e->expires, last) > 0)
        check_error(out, "expires",
                    "The exception %s may last %d days at most, to %s; it can be prolonged later.",
                    e->name, EXCEPTION_DAYS, last);
    if (strlen(e->expires) == 10 && strcmp(e->expires, today) < 0)
        check_warning(out, "expires",
                      "The exception %s ended on %s and does nothing; prolong it or delete it.",
                      e->name, e->expires);
}

void check_bv_key(const struct config *cfg, const struct row *row, struct check *out)
{
    (void)cfg;
    if (!*((const struct bv_key *)row->data)->key)
        check_error(out, "key", "A tagging key may not be empty; assign one with bvconfig > KEY.");
}

void check_smtp_route(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct smtp_route *r = row->data;

    check_route_profile(cfg, r, out);
    for (size_t i = 0; r->hosts.n > 1 && i < r->hosts.n; i++)
        if (str_eq(r->hosts.items[i], "USEDNS") || str_eq(r->hosts.items[i], "/dev/null"))
            check_error(out, "hosts", "%s must stand by itself, without other hosts.",
                        r->hosts.items[i]);
}

void check_update(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct update *u = row->data;

    (void)cfg;
    if (strchr(u->proxy_user, ':'))
        check_error(out, "proxy_user", "The user name for the HTTPS proxy may not contain \":\".");
    if (u->total_timeout < u->connect_timeout)
        check_error(out, "total_timeout",
                    "The time of a whole fetch may not be shorter than the time to connect.");
}

/* --- rules of every object --- */

void check_row_fields(const struct row *r, struct check *out)
{
    const struct row *outer = out->row;
    struct err err;

    out->row = r;
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        if (!value_check(f, row_slot(r, f), &err))
            check_error(out, f->name, "%s", err.text);
    }
    out->row = outer;
}

/* "Demo, mail-2026, ..." */
static void names_of(const struct config *cfg, const struct section *s, struct buf *out)
{
    size_t n = config_count(cfg, s);

    for (size_t i = 0; i < n && i < 6; i++)
        buf_printf(out, "%s%s", i ? ", " : "", i == 5 ? "..." : config_at(cfg, s, i)->name);
}

static void check_reference(const struct config *cfg, const struct config *old,
                            const struct field *f, const char *name, struct check *out)
{
    const struct section *to = section_find(f->ref);
    AUTO(buf) struct buf names = BUF_INIT(400);

    if (!*name || config_row(cfg, to, name) || (old && config_row(old, to, name)))
        return; /* what has just been deleted is told once, with all its users */
    names_of(cfg, to, &names);
    check_error(out, f->name, "There is no %s %s; create it or choose one of: %s.", to->noun,
                str_printable(name), buf_str(&names));
}

static void check_references(const struct config *cfg, const struct config *old,
                             const struct row *r, struct check *out)
{
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];
        const struct section *to = f->ref ? section_find(f->ref) : NULL;

        if (to && f->type == &type_list) {
            const struct strlist *l = row_slot(r, f);

            for (size_t k = 0; k < l->n; k++)
                check_reference(cfg, old, f, l->items[k], out);
        } else if (to) {
            check_reference(cfg, old, f, *(char **)row_slot(r, f), out);
        }
    }
}

static void check_row(const struct config *cfg, const struct config *old, const struct row *r,
                      struct check *out)
{
    AUTO(buf) struct buf owner = BUF_INIT(400);

    out->row = r;
    check_row_fields(r, out);
    if (r->section->parent) {
        buf_add(&owner, r->name, strcspn(r->name, "/"));
        if (!config_row(cfg, section_find(r->section->parent), buf_str(&owner)))
            check_error(out, NULL, "There is no %s %s it could belong to; create that first.",
                        r->section->parent, str_printable(buf_str(&owner)));
    }
    check_references(cfg, old, r, out);
    if (r->section->check)
        r->section->check(cfg, r, out);
    out->row = NULL;
}

/* Every object of cfg that names the deleted one. */
static void check_deleted(const struct config *cfg, const struct row *gone, struct check *out)
{
    AUTO(buf) struct buf users = BUF_INIT(600);
    size_t n = 0;

    if (gone->section == &section_certificate && ((const struct certificate *)gone->data)->demo)
        error_about(
            out, gone->section, gone->name,
            "The demonstration certificate cannot be deleted; a new listener starts with it.");
    for (size_t k = 0; k < SECTIONS; k++) {
        const struct section *s = section_at(k);

        for (size_t i = 0; i < s->nfields; i++) {
            const struct field *f = &s->fields[i];

            if (!f->ref || !str_eq(f->ref, gone->section->name))
                continue;
            for (size_t j = 0; j < config_count(cfg, s); j++) {
                const struct row *r = config_at(cfg, s, j);
                char *title;

                if (!row_names(r, f, gone->name) || ++n > 5)
                    continue;
                title = row_title(s, r->name);
                buf_printf(&users, "%s%s (%s)", n > 1 ? ", " : "", title, f->name);
                free(title);
            }
        }
    }
    if (n > 5)
        buf_printf(&users, " and %zu more", n - 5);
    if (n)
        error_about(out, gone->section, gone->name,
                    "The %s %s is to be deleted but is used by %s; choose another one there first, "
                    "or keep it.",
                    gone->section->noun, gone->name, buf_str(&users));
}

/* Objects that mail cannot do without, and more of them than it can do with. */
static void check_presence(const struct config *cfg, struct check *out)
{
    size_t authorities = config_count(cfg, &section_authority);

    if (authorities > AUTHORITIES_MAX)
        error_about(out, &section_authority,
                    config_at(cfg, &section_authority, authorities - 1)->name,
                    "The custom list would hold %zu certificate authorities; at most %u are "
                    "possible.",
                    authorities, AUTHORITIES_MAX);
    for (size_t i = 0; i < SECTIONS; i++) {
        const struct section *s = section_at(i);

        if (s->single && !config_row(cfg, s, "-"))
            error_about(out, s, "-", "The %ss are missing.", s->noun);
    }
    if (!config_row(cfg, &section_destination, "default"))
        error_about(
            out, &section_destination, "default",
            "The default entry cannot be deleted; it holds the values of all other domains.");
    if (!config_row(cfg, &section_bounce_profile, "Default"))
        error_about(
            out, &section_bounce_profile, "Default",
            "The bounce profile Default cannot be deleted; it is used where no other is chosen.");
}

/* Calls check_row for what is new or different and check_deleted for what is gone; true if there
 * was any of it. */
static bool check_changed(const struct config *cfg, const struct config *old,
                          const struct section *s, bool rows, struct check *out)
{
    size_t n = config_count(cfg, s), m = config_count(old, s), i = 0, j = 0;
    bool changed = false;

    if (config_shares(cfg, old, s))
        return false;
    while (i < n || j < m) {
        const struct row *a = i < n ? config_at(cfg, s, i) : NULL,
                         *b = j < m ? config_at(old, s, j) : NULL;
        int order = a == b ? 0 : !a ? 1 : !b ? -1 : strcmp(a->name, b->name);

        i += order <= 0;
        j += order >= 0;
        if (a == b)
            continue;
        changed = true;
        if (order > 0)
            check_deleted(cfg, b, out);
        else if (rows)
            check_row(cfg, old, a, out);
    }
    return changed;
}

void check_config(const struct config *cfg, const struct config *old, struct check *out)
{
    bool all[SECTIONS] = {false};

    out->old = old;
    for (size_t i = 0; old && i < SECTIONS; i++) {
        const struct section *s = section_at(i);

        for (size_t k = 0; k < countof(dependents); k++)
            if (dependents[k].on == s && !config_shares(cfg, old, s))
                all[section_index(dependents[k].section)] = true;
    }
    for (size_t i = 0; i < SECTIONS; i++) {
        const struct section *s = section_at(i);

        if (old)
            check_changed(cfg, old, s, !all[i], out);
        for (size_t j = 0; (!old || all[i]) && j < config_count(cfg, s); j++)
            check_row(cfg, old, config_at(cfg, s, j), out);
    }
    check_presence(cfg, out);
}
