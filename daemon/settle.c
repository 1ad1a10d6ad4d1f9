/* settle.c - see settle.h. */
#include "daemon/settle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/fiber.h"
#include "daemon/logheaders.h"
#include "daemon/maillog.h"
#include "daemon/queue_run.h"
#include "daemon/reload.h"
#include "daemon/message.h"
#include "daemon/stats.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define GREY_MOST 300u /* seconds: see settle_interval */
#define RELAYED_TRIES 3u /* to queue a report about what is delivered already */

/* Initial interval, doubled after every attempt up to the maximum, a tenth more or less so that
 * what failed together does not come back together. A host that answers "later" the first time often
 * does so to everybody it does not know (greylisting), for 1, 5 or 25 to 30 minutes; the default
 * intervals come back after 1, 3, 7, 15 and 31. However long an initial interval is set, such a host is
 * asked again after 5 minutes, which most of them ask for, and never sooner than the interval says. */
usec_t settle_interval(const struct bounce_profile *p, uint32_t attempts, bool refused)
{
    uint64_t seconds = p->initial_retry;
    usec_t usec;

    if (refused && attempts == 1 && seconds > GREY_MOST)
        return (usec_t)GREY_MOST * 1000000 + clock_part((usec_t)GREY_MOST * 100000);
    for (uint32_t i = 1; i < attempts && seconds < p->max_retry; i++)
        seconds *= 2;
    if (seconds > p->max_retry)
        seconds = p->max_retry;
    usec = (usec_t)seconds * 1000000;
    return usec / 10 * 9 + clock_part(usec / 5);
}

static void add_report(struct bounce_rcpt **list, unsigned *n, const struct bounce_profile *p,
                       const struct batch *b, unsigned i, const char *status)
{
    struct bounce_rcpt *r;

    if (!*list)
        *list = xcalloc(b->n, sizeof(**list));
    r = &(*list)[(*n)++];
    r->rcpt = &b->m->rcpts[b->rids[i]];
    if (p->parse_status == ANSWER_YES || b->results[i].code <= 0)
        str_copy(r->status, sizeof(r->status), status);
    else
        snprintf(r->status, sizeof(r->status), "%c.%s", *status, *status == '2' ? "1.5" : "1.0");
    r->phrase = status_phrase(r->status);
    r->code = b->results[i].code;
    r->text = b->results[i].text;
    r->remote = b->host;
    r->address = b->peer;
}

static const char *code_text(int code, char *out, size_t size)
{
    snprintf(out, size, "%03d", code > 0 ? code : 0);
    return out;
}

static void log_delivered(const struct batch *b)
{
    unsigned *rids = xcalloc(b->n, sizeof(*rids));
    struct config *cfg = running_config();
    const struct log_setup *setup = CONFIG_SINGLE(cfg, log_setup);
    AUTO(buf) struct buf headers = BUF_INIT(2000);
    bool asked = false;

    /* Recipients with the same answer share the lines; usually all do. */
    for (unsigned i = 0; i < b->n; i++) {
        const struct rcpt_result *r = &b->results[i];
        unsigned n = 0;
        bool first = true;

        if (r->outcome != OUTCOME_DONE)
            continue;
        for (unsigned k = 0; k < b->n; k++) {
            const struct rcpt_result *o = &b->results[k];

            if (o->outcome != OUTCOME_DONE || !str_eq(o->text, r->text))
                continue;
            if (k < i)
                first = false;
            rids[n++] = b->rids[k];
        }
        if (!first)
            continue;
        if (!asked && setup)
            logheaders_of(b->m, &setup->headers, &headers);
        asked = true;
        maillog_message_done(b->dcid, b->m->mid, rids, n, buf_str(&headers));
        maillog_response(b->m->mid, rids, n, r->text);
        stats_add(STAT_DELIVERED_RECIPS, n);
        stats_add(STAT_COMPLETED_RECIPS, n);
    }
    config_free(&cfg);
    free(rids);
}

static void settle_failed(struct settlement *t, struct batch *b, unsigned i, const char *status,
                          enum counter why)
{
    struct rcpt *rcpt = &t->after[i];
    struct rcpt_result *r = &b->results[i];
    char code[16];

    rcpt->state = RCPT_BOUNCED;
    maillog_bounced(b->dcid, b->m->mid, b->rids[i], status, status_phrase(status),
                    code_text(r->code, code, sizeof(code)), r->text);
    stats_add(STAT_HARD_BOUNCED_RECIPS, 1);
    stats_add(STAT_COMPLETED_RECIPS, 1);
    stats_add(why, 1);
    if (!*b->m->sender)
        maillog_double_bounce(b->m->mid, b->rids[i], status, status_phrase(status),
                              code_text(r->code, code, sizeof(code)), r->text);
    else if (bounce_wanted(t->profile, rcpt, BOUNCE_FAILED))
        add_report(&t->failed, &t->nfailed, t->profile, b, i, status);
}

/* Not more often than the profile says. */
static void warn_of_delay(struct settlement *t, struct batch *b, unsigned i, const char *status,
                          bool due)
{
    struct rcpt *rcpt = &t->after[i];

    if (!due || !*b->m->sender || rcpt->warnings >= t->profile->delay_count ||
        !bounce_wanted(t->profile, rcpt, BOUNCE_DELAYED) ||
        t->now - rcpt->last_warning < (usec_t)t->profile->delay_interval * 1000000)
        return;
    rcpt->warnings++;
    rcpt->last_warning = t->now;
    add_report(&t->delayed, &t->ndelayed, t->profile, b, i, status);
}

static void settle_deferred(struct settlement *t, struct batch *b, unsigned i, const char *status)
{
    struct rcpt *rcpt = &t->after[i];
    struct rcpt_result *r = &b->results[i];
    char code[16];

    maillog_delayed(b->dcid, b->m->mid, b->rids[i], status, status_phrase(status),
                    code_text(r->code, code, sizeof(code)), r->text);
    stats_add(STAT_SOFT_BOUNCED_EVTS, 1);
    queue_set_error(&b->m->rcpts[b->rids[i]],
                    r->code > 0 ? xasprintf("%d %s", r->code, r->text) : xstrdup(r->text));
    rcpt->next_try = t->next_try;
    t->left++;
    warn_of_delay(t, b, i, status, rcpt->attempts >= 2);
}

/* It was not even tried, because nothing goes there: neither an attempt nor a line in the log. Looked
 * at again when its age has grown by half, and when its time is up. */
static void settle_held(struct settlement *t, struct batch *b, unsigned i, const char *status)
{
    struct rcpt *rcpt = &t->after[i];
    usec_t least = (usec_t)t->profile->initial_retry * 1000000,
           most = (usec_t)t->profile->max_retry * 1000000, wait = (t->now - t->received) / 2;

    if (wait > most)
        wait = most;
    if (wait < least)
        wait = least;
    if (!t->next_try)
        t->next_try = t->now + wait < t->expires ? t->now + wait : t->expires + 1000;
    queue_set_error(&b->m->rcpts[b->rids[i]], xstrdup(b->results[i].text));
    rcpt->next_try = t->next_try;
    t->left++;
    warn_of_delay(t, b, i, status, t->now - t->received >= least);
}

/* A status of the right class: replies without one, or with one that contradicts them, get the
 * general one. */
static void status_of(const struct rcpt_result *r, char class, char *out, size_t size)
{
    if (r->status[0] == class && r->status[1] == '.')
        str_copy(out, size, r->status);
    else
        snprintf(out, size, "%c%s", class,
                 r->status[0] && r->status[1] == '.' ? r->status + 1 : ".1.0");
}

/* What became of a recipient, for the statistics of its domain. tried: before this attempt, too. */
static void count_outcome(struct settlement *t, struct batch *b, unsigned i, bool tried)
{
    const struct rcpt *rcpt = &t->after[i];
    const struct rcpt_result *r = &b->results[i];
    struct dest_change *c = tally_of(&t->tally, address_domain(rcpt->address));

    if (!b->expired) {
        c->at = t->now;
        c->reach = r->outcome == OUTCOME_DONE || r->code > 0 || str_ends(r->status, ".7.5") ||
                           str_ends(r->status, ".7.8")
                       ? DEST_UP
                       : DEST_DOWN;
    }
    if (rcpt->state == RCPT_QUEUED) {
        c->count[DEST_SOFT]++;
        c->gauge[DEST_ATTEMPTED] += !tried;
        return;
    }
    c->gauge[DEST_ACTIVE]--;
    c->gauge[DEST_ATTEMPTED] -= tried;
    c->count[rcpt->state == RCPT_DELIVERED               ? DEST_DELIVERED
             : b->expired || r->outcome == OUTCOME_RETRY ? DEST_HARD_EXPIRED
             : r->code == -2                             ? DEST_HARD_DNS
             : r->code / 100 == 5                        ? DEST_HARD_5XX
                                                         : DEST_HARD_OTHER]++;
    if (rcpt->state == RCPT_BOUNCED && r->code / 100 == 5) {
        free(b->refusal);
        b->refusal = xasprintf("%d %.250s", r->code, r->text);
        c->error = b->refusal;
        c->address = b->peer;
    }
}

/* What a recipient of a report will be. */
static struct rcpt *rcpt_of(const struct batch *b, const struct settlement *t,
                            const struct bounce_rcpt *r)
{
    unsigned rid = (unsigned)(r->rcpt - b->m->rcpts), lo = 0, hi = b->n; /* rids ascend */

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (b->rids[mid] < rid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return &t->after[lo];
}

/* Nothing is forgotten that its sender was not told of. */
static void keep_untold(const struct batch *b, struct settlement *t, unsigned told,
                        const struct err *why)
{
    log_critical("delivery: %s; the message stays in the queue", why->text);
    t->next_try = t->now + 60 * 1000000;
    for (unsigned i = told; i < t->nfailed; i++) {
        struct rcpt *rcpt = rcpt_of(b, t, &t->failed[i]);

        rcpt->state = RCPT_QUEUED;
        rcpt->next_try = t->next_try;
        t->left++;
        tally_of(&t->tally, address_domain(rcpt->address))->gauge[DEST_ACTIVE]++;
    }
}

/* The next attempt warns of what this one could not. */
static void warn_later(const struct batch *b, const struct settlement *t, unsigned told,
                       const struct err *why)
{
    log_warning("delivery: %s; the next attempt will warn of the delay", why->text);
    for (unsigned i = told; i < t->ndelayed; i++) {
        struct rcpt *rcpt = rcpt_of(b, t, &t->delayed[i]);

        rcpt->warnings--;
        rcpt->last_warning = 0;
    }
}

/* YIELDS. These recipients have the message and cannot be kept for the report's sake: it is tried some times, and
 * people are told if that fails. */
static void report_relayed(const struct batch *b, struct settlement *t)
{
    struct err err = {0};
    unsigned told = 0, tries = 0, n = 0;
    char key[40];
    bool ok = !t->nrelayed;

    while (!ok && tries++ < RELAYED_TRIES && (tries == 1 || fiber_sleep(SECONDS(1)))) {
        memset(&err, 0, sizeof(err));
        ok = bounce_send(BOUNCE_RELAYED, b->m, t->profile, t->relayed + n, t->nrelayed - n, 0, &told, &err);
        n += told;
    }
    if (ok)
        return;
    snprintf(key, sizeof(key), "relayed %" PRIu64, b->m->mid);
    log_critical("delivery: %s", err.text);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "Message %" PRIu64 " from <%s> was delivered, but the report its sender asked for is lost: %s.",
                b->m->mid, b->m->sender, err.text);
}

void settle(struct batch *b, struct settlement *t)
{
    struct err err = {0};
    unsigned told = 0;
    char status[12];

    log_delivered(b);
    t->after = xcalloc(b->n, sizeof(*t->after));
    for (unsigned i = 0; i < b->n; i++) {
        struct rcpt *rcpt = &t->after[i];
        struct rcpt_result *r = &b->results[i];
        bool tried = b->m->rcpts[b->rids[i]].attempts > 0;

        *rcpt = b->m->rcpts[b->rids[i]];
        switch (r->outcome) {
        case OUTCOME_DONE:
            rcpt->state = RCPT_DELIVERED;
            if (r->relayed_without_dsn && *b->m->sender &&
                bounce_wanted(t->profile, rcpt, BOUNCE_RELAYED))
                add_report(&t->relayed, &t->nrelayed, t->profile, b, i, "2.1.5");
            break;
        case OUTCOME_FAILED:
            status_of(r, '5', status, sizeof(status));
            settle_failed(t, b, i, status,
                          b->expired           ? STAT_EXPIRED_HARD_BOUNCED
                          : r->code == -2      ? STAT_DNS_HARD_BOUNCED
                          : r->code / 100 == 5 ? STAT_FIVEXX_HARD_BOUNCED
                                               : STAT_OTHER_HARD_BOUNCED);
            break;
        case OUTCOME_RETRY:
            status_of(r, '4', status, sizeof(status));
            if (b->held) {
                settle_held(t, b, i, status);
                continue;
            }
            rcpt->attempts++;
            if (rcpt->attempts > t->profile->max_retries) {
                settle_failed(t, b, i, "5.4.7", STAT_EXPIRED_HARD_BOUNCED);
                break;
            }
            if (!t->next_try)
                t->next_try =
                    t->now + settle_interval(t->profile, rcpt->attempts, r->code / 100 == 4);
            settle_deferred(t, b, i, status);
            break;
        }
        count_outcome(t, b, i, tried);
    }
    if (t->nfailed && !bounce_send(BOUNCE_FAILED, b->m, t->profile, t->failed, t->nfailed, 0, &told, &err))
        keep_untold(b, t, told, &err);
    tally_end(&t->tally);
    report_relayed(b, t);
    if (t->ndelayed && !bounce_send(BOUNCE_DELAYED, b->m, t->profile, t->delayed, t->ndelayed,
                                    t->expires, &told, &err))
        warn_later(b, t, told, &err);
    for (unsigned i = 0; i < b->n; i++)
        queue_set_rcpt(&b->m->rcpts[b->rids[i]], &t->after[i]);
}

void settlement_free(struct settlement *t)
{
    free(t->failed);
    free(t->relayed);
    free(t->delayed);
    free(t->after);
}
