/* maillog.c - see maillog.h. A line is put together on the stack by appending, without printf: a
 * message makes eight of them. What does not fit is cut; a line of the log is at most LINE_MAX
 * bytes. */
#include "daemon/maillog.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "daemon/logfile.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/str.h"

#define LINE_BYTES 2048
#define FOREIGN_MAX 1000 /* bytes of one piece of foreign text */

struct line {
    size_t n;
    char text[LINE_BYTES];
};

static void add_bytes(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof(l->text) - 1 - l->n;

    if (n > room)
        n = room;
    memcpy(l->text + l->n, p, n);
    l->n += n;
}

static void add(struct line *l, const char *s)
{
    add_bytes(l, s, strlen(s));
}

static void add_number(struct line *l, uint64_t v)
{
    char digits[20];
    size_t i = sizeof(digits);

    do
        digits[--i] = (char)('0' + v % 10);
    while (v /= 10);
    add_bytes(l, digits + i, sizeof(digits) - i);
}

static void add_ip(struct line *l, const struct addr *a)
{
    char text[ADDR_TEXT];

    add(l, a ? addr_text(a, text) : "none");
}

/* Text that came from outside; quote is the character that ends it in this line, 0: none. */
static void add_foreign_bytes(struct line *l, const char *s, size_t n, char quote)
{
    size_t plain = 0;

    while (plain < n && s[plain] >= ' ' && s[plain] < 0x7f && s[plain] != '\\' && s[plain] != quote)
        plain++;
    add_bytes(l, s, plain);
    if (plain < n) {
        AUTO(buf) struct buf b = BUF_INIT(10 * FOREIGN_MAX);

        str_escape(&b, s + plain, n - plain);
        for (size_t i = 0; i < b.n; i++) {
            if (quote && b.p[i] == quote)
                add(l, "\\");
            add_bytes(l, b.p + i, 1);
        }
    }
}

static void add_foreign(struct line *l, const char *s, char quote)
{
    add_foreign_bytes(l, s, strnlen(s, FOREIGN_MAX), quote);
}

static void add_mid_icid(struct line *l, uint64_t mid, uint64_t icid)
{
    add(l, "MID ");
    add_number(l, mid);
    add(l, " ICID ");
    add_number(l, icid);
}

/* "[0, 1]" */
static void add_rids(struct line *l, const unsigned *rids, unsigned n)
{
    add(l, "[");
    for (unsigned i = 0; i < n; i++) {
        if (i)
            add(l, ", ");
        add_number(l, rids[i]);
    }
    add(l, "]");
}

static void write_line(struct line *l)
{
    l->text[l->n] = '\0';
    logfile_write(LOGFILE_MAIL, LOG_INFO, l->text);
}

/* "WORD <id> REST" */
static void id_line(const char *word, uint64_t id, const char *rest)
{
    struct line l;

    l.n = 0;
    add(&l, word);
    add_number(&l, id);
    add(&l, rest);
    write_line(&l);
}

/* "WORD <id> BETWEEN<foreign>" */
static void id_text_line(const char *word, uint64_t id, const char *between, const char *foreign)
{
    struct line l;

    l.n = 0;
    add(&l, word);
    add_number(&l, id);
    add(&l, between);
    add_foreign(&l, foreign, 0);
    write_line(&l);
}

/* --- receiving ------------------------------------------------------------------------------- */

void maillog_icid_new(uint64_t icid, const char *listener, const struct addr *local,
                      const struct addr *peer, const char *reverse, bool verified)
{
    struct line l;

    l.n = 0;
    add(&l, "New SMTP ICID ");
    add_number(&l, icid);
    add(&l, " interface ");
    add(&l, listener);
    add(&l, " (");
    add_ip(&l, local);
    add(&l, ") address ");
    add_ip(&l, peer);
    add(&l, " reverse dns host ");
    if (reverse[0])
        add_foreign(&l, reverse, 0);
    else
        add(&l, "unknown");
    add(&l, verified ? " verified yes" : " verified no");
    write_line(&l);
}

void maillog_icid_access(uint64_t icid, const char *behavior, const char *group, const char *match)
{
    struct line l;

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " ");
    add(&l, behavior);
    add(&l, " SG ");
    add(&l, group);
    add(&l, " match ");
    add(&l, match);
    add(&l, " SBRS not enabled country not enabled"); /* the parts tools look for; there is no
                                                         reputation service */
    write_line(&l);
}

void maillog_icid_delayed_reject(uint64_t icid, const struct addr *peer)
{
    struct line l;
    char ip[ADDR_TEXT];

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " Delayed HAT REJECT continuing session for recipient logging (");
    add(&l, addr_text(peer, ip));
    add(&l, ")");
    write_line(&l);
}

void maillog_icid_harvest(uint64_t icid, const struct addr *peer, const char *reverse, unsigned limit,
                          const char *group, const char *listener, const char *sender,
                          const char *rcpt)
{
    struct line l;
    char ip[ADDR_TEXT];

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " Potential Directory Harvest Attack from host=(");
    add(&l, addr_text(peer, ip));
    add(&l, ", ");
    add_foreign(&l, reverse ? reverse : "None", ')');
    add(&l, "), dhap_limit=");
    add_number(&l, limit);
    add(&l, ", sender_group=");
    add(&l, group);
    add(&l, ", listener=");
    add(&l, listener);
    add(&l, ", sender=<");
    add_foreign(&l, sender, '>');
    add(&l, ">, rcpt=<");
    add_foreign(&l, rcpt, '>');
    add(&l, ">");
    write_line(&l);
}

void maillog_icid_close(uint64_t icid)
{
    id_line("ICID ", icid, " close");
}

void maillog_icid_lost(uint64_t icid)
{
    id_line("ICID ", icid, " lost");
}

void maillog_icid_timeout(uint64_t icid, const struct addr *peer)
{
    struct line l;

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " disconnected address ");
    add_ip(&l, peer);
    add(&l, ", no messages injected within timeout period");
    write_line(&l);
}

void maillog_receiving_failed(uint64_t icid, const char *reason)
{
    id_text_line("ICID ", icid, " Receiving Failed: ", reason);
}

void maillog_icid_tls(uint64_t icid, const char *protocol, const char *cipher)
{
    struct line l;

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " TLS success protocol ");
    add(&l, protocol);
    add(&l, " cipher ");
    add(&l, cipher);
    write_line(&l);
}

void maillog_icid_tls_failed(uint64_t icid, const char *reason)
{
    id_text_line("ICID ", icid, " TLS failed: ", reason);
}

void maillog_icid_tls_missing(uint64_t icid)
{
    id_line("ICID ", icid, " TLS was required but remote host did not initiate it");
}

void maillog_icid_certificate(uint64_t icid, const char *what, const char *why, const char *subject)
{
    struct line l;

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " client certificate ");
    add(&l, what);
    if (why) {
        add(&l, " (");
        add(&l, why);
        add(&l, ")");
    }
    add(&l, ": ");
    add(&l, *subject ? subject : "no subject");
    write_line(&l);
}

/* "SMTP Auth: (ICID n) BETWEEN user: U"; a user's blanks are escaped, or a name could go on like this line. */
static void begin_auth(struct line *l, uint64_t icid, const char *between, const char *user)
{
    l->n = 0;
    add(l, "SMTP Auth: (ICID ");
    add_number(l, icid);
    add(l, between);
    add(l, " user: ");
    add_foreign(l, user, ' ');
}

static void add_auth_way(struct line *l, const char *how, const char *profile)
{
    add(l, " using AUTH mechanism: ");
    add(l, how);
    add(l, " with profile: ");
    add(l, profile);
}

void maillog_auth(uint64_t icid, bool ok, const char *user, const char *how, const char *profile)
{
    struct line l;

    begin_auth(&l, icid, ok ? ") succeeded for" : ") failed for", user);
    add_auth_way(&l, how, profile);
    write_line(&l);
}

static void write_warning(struct line *l)
{
    l->text[l->n] = '\0';
    logfile_write(LOGFILE_MAIL, LOG_WARNING, l->text);
}

void maillog_auth_monitored(uint64_t icid, const char *user, const char *profile)
{
    struct line l;

    begin_auth(&l, icid, ") monitored", user);
    add(&l, " is not allowed to use SMTP AUTH by profile: ");
    add(&l, profile);
    write_warning(&l);
}

void maillog_auth_undecided(uint64_t icid, const char *user, const char *how, const char *profile,
                            const char *why)
{
    struct line l;

    begin_auth(&l, icid, ") could not be decided for", user);
    add_auth_way(&l, how, profile);
    add(&l, ": ");
    add_foreign(&l, why, 0);
    write_warning(&l);
}

void maillog_auth_missing(uint64_t icid)
{
    id_line("SMTP Auth (ICID ", icid, ") was required but remote host did not initiate it");
}

void maillog_start(uint64_t mid, uint64_t icid)
{
    struct line l;

    l.n = 0;
    add(&l, "Start ");
    add_mid_icid(&l, mid, icid);
    write_line(&l);
}

void maillog_from(uint64_t mid, uint64_t icid, const char *sender)
{
    struct line l;

    l.n = 0;
    add_mid_icid(&l, mid, icid);
    add(&l, " From: <");
    add_foreign(&l, sender, '>');
    add(&l, ">");
    write_line(&l);
}

void maillog_to(uint64_t mid, uint64_t icid, unsigned rid, const char *rcpt)
{
    struct line l;

    l.n = 0;
    add_mid_icid(&l, mid, icid);
    add(&l, " RID ");
    add_number(&l, rid);
    add(&l, " To: <");
    add_foreign(&l, rcpt, '>');
    add(&l, ">");
    write_line(&l);
}

void maillog_to_rejected(uint64_t mid, uint64_t icid, const char *rcpt, const char *by)
{
    struct line l;

    l.n = 0;
    add_mid_icid(&l, mid, icid);
    add(&l, " To: <");
    add_foreign(&l, rcpt, '>');
    add(&l, "> Rejected by ");
    add(&l, by);
    write_line(&l);
}

void maillog_to_invalid(uint64_t mid, uint64_t icid, char character)
{
    struct line l;
    const char text[2] = {character, '\0'};

    l.n = 0;
    add(&l, "ICID ");
    add_number(&l, icid);
    add(&l, " MID ");
    add_number(&l, mid);
    add(&l, " Invalid recipient address: Invalid character in address: '");
    add_foreign(&l, text, '\'');
    add(&l, "'");
    write_line(&l);
}

static void mid_quoted(uint64_t mid, const char *what, const char *text)
{
    struct line l;

    l.n = 0;
    add(&l, "MID ");
    add_number(&l, mid);
    add(&l, what);
    add_foreign(&l, text, '\'');
    add(&l, "'");
    write_line(&l);
}

static atomic_bool wants_ids = true, wants_responses = true, wants_subjects = true;

void maillog_choose(bool message_ids, bool responses, bool subjects)
{
    atomic_store(&wants_ids, message_ids);
    atomic_store(&wants_responses, responses);
    atomic_store(&wants_subjects, subjects);
}

void maillog_status(const char *text)
{
    logfile_write(LOGFILE_STATUS, LOG_INFO, text);
    logfile_write(LOGFILE_MAIL, LOG_INFO, text);
}

void maillog_message_id(uint64_t mid, const char *id)
{
    if (!atomic_load_explicit(&wants_ids, memory_order_relaxed))
        return;
    mid_quoted(mid, " Message-ID '", id);
}

void maillog_subject(uint64_t mid, const char *subject)
{
    if (!atomic_load_explicit(&wants_subjects, memory_order_relaxed))
        return;
    mid_quoted(mid, " Subject '", subject);
}

void maillog_ready(uint64_t mid, uint64_t bytes, const char *sender)
{
    struct line l;

    l.n = 0;
    add(&l, "MID ");
    add_number(&l, mid);
    add(&l, " ready ");
    add_number(&l, bytes);
    add(&l, " bytes from <");
    add_foreign(&l, sender, '>');
    add(&l, ">");
    write_line(&l);
}

void maillog_aborted(uint64_t mid, const char *reason)
{
    id_text_line("Message aborted MID ", mid, " ", reason);
    id_line("Message finished MID ", mid, " aborted");
}

void maillog_queued(uint64_t mid)
{
    id_line("MID ", mid, " queued for delivery");
}

void maillog_finished(uint64_t mid)
{
    id_line("Message finished MID ", mid, " done");
}

void maillog_generated_bounce(uint64_t mid, uint64_t of_mid)
{
    struct line l;

    l.n = 0;
    add(&l, "MID ");
    add_number(&l, mid);
    add(&l, " was generated for bounce of MID ");
    add_number(&l, of_mid);
    write_line(&l);
}

/* --- delivery -------------------------------------------------------------------------------- */

void maillog_dcid_new(uint64_t dcid, const struct addr *local, const struct addr *peer)
{
    struct line l;

    l.n = 0;
    add(&l, "New SMTP DCID ");
    add_number(&l, dcid);
    add(&l, " interface ");
    add_ip(&l, local);
    add(&l, " address ");
    add_ip(&l, peer);
    add(&l, " port ");
    add_number(&l, peer->port);
    write_line(&l);
}

void maillog_dcid_close(uint64_t dcid)
{
    id_line("DCID ", dcid, " close");
}

void maillog_dcid_tls(uint64_t dcid, const char *protocol, const char *cipher, const char *domain)
{
    struct line l;

    l.n = 0;
    add(&l, "DCID ");
    add_number(&l, dcid);
    add(&l, " TLS success protocol ");
    add(&l, protocol);
    add(&l, " cipher ");
    add(&l, cipher);
    if (domain) {
        add(&l, " for ");
        add_foreign(&l, domain, 0);
    }
    write_line(&l);
}

void maillog_dcid_tls_unverified(uint64_t dcid, const char *why, bool deferring)
{
    id_text_line("DCID ", dcid,
                 deferring ? " TLS deferring: verify error: " : " TLS verify error: ", why);
}

void maillog_dcid_tls_verified(uint64_t dcid, const char *matched)
{
    id_text_line("DCID ", dcid, " TLS verify success: peer cert matches ", matched);
}

static void domain_line(const char *before, const char *domain, const char *behind)
{
    struct line l;

    l.n = 0;
    add(&l, before);
    add_foreign(&l, domain, 0);
    add(&l, behind);
    write_line(&l);
}

void maillog_tls_refused(const char *domain, const char *host, const char *rule, const char *why)
{
    struct line l;

    l.n = 0;
    add(&l, "TLS policy ");
    add(&l, rule);
    add(&l, " keeps mail for ");
    add_foreign(&l, domain, 0);
    add(&l, " from ");
    add_foreign(&l, host, 0);
    add(&l, ": ");
    add_foreign(&l, why, 0);
    write_line(&l);
}

void maillog_sts_applying(const char *domain)
{
    domain_line("Applying MTA-STS policy for the domain (", domain, ").");
}

void maillog_sts_enforcing(void)
{
    domain_line("Enforcing TLS for MTA-STS Policy", "", "");
}

void maillog_sts_success(const char *domain)
{
    domain_line("MTA-STS policy for the domain (", domain, ") Successful.");
}

void maillog_sts_failed(const char *domain)
{
    domain_line("Applying MTA-STS policy for the domain (", domain, ") Failed.");
}

void maillog_sts_unreachable(const char *domain)
{
    domain_line("Connection for the domain (", domain,
                ") failed when MTA-STS Policy was enforced.");
}

void maillog_sts_skipped(const char *domain)
{
    domain_line("MTA-STS policy will be skipped for the (", domain,
                ") due to DANE being enforced.");
}

void maillog_dcid_tls_failed(uint64_t dcid, const char *reason)
{
    id_text_line("DCID ", dcid, " TLS failed: ", reason);
}

void maillog_dcid_starttls_unsupported(uint64_t dcid)
{
    id_line("DCID ", dcid, " STARTTLS command not supported");
}

void maillog_dcid_auth(uint64_t dcid, const struct addr *peer, const char *profile, const char *why)
{
    char text[ADDR_TEXT];
    struct line l;

    l.n = 0;
    add(&l, "DCID: ");
    add_number(&l, dcid);
    add(&l, " IP: ");
    add(&l, addr_text(peer, text));
    add(&l, " SMTP authentication using the profile ");
    add(&l, profile);
    add(&l, why ? " failed: " : " succeeded.");
    if (why)
        add_foreign(&l, why, 0);
    write_line(&l);
}

void maillog_auth_unreachable(const char *server, const char *why)
{
    struct line l;

    l.n = 0;
    add(&l, "SMTP Auth: could not reach forwarding server ");
    add(&l, server);
    add(&l, " with reason: ");
    add_foreign(&l, why, 0);
    write_line(&l);
}

void maillog_dcid_tls_required(uint64_t dcid)
{
    id_line("DCID ", dcid, " TLS was required but could not be successfully negotiated");
}

static void delivery_line(const char *what, uint64_t dcid, uint64_t mid, const unsigned *rids,
                          unsigned n, const char *headers)
{
    struct line l;

    l.n = 0;
    add(&l, what);
    add_number(&l, dcid);
    add(&l, " MID ");
    add_number(&l, mid);
    add(&l, " to RID ");
    add_rids(&l, rids, n);
    add(&l, *headers ? " " : "");
    add(&l, headers); /* escaped where they were read */
    write_line(&l);
}

void maillog_delivery_start(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n)
{
    delivery_line("Delivery start DCID ", dcid, mid, rids, n, "");
}

void maillog_message_done(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n,
                          const char *headers)
{
    delivery_line("Message done DCID ", dcid, mid, rids, n, headers);
}

void maillog_possible_delivery(uint64_t dcid, uint64_t mid, const unsigned *rids, unsigned n)
{
    struct line l;

    l.n = 0;
    add(&l, "Possible Delivery: DCID: ");
    add_number(&l, dcid);
    add(&l, " MID ");
    add_number(&l, mid);
    add(&l, " to ");
    add_rids(&l, rids, n);
    write_line(&l);
}

void maillog_deleted(uint64_t mid, const unsigned *rids, unsigned n)
{
    struct line l;

    l.n = 0;
    add(&l, "Deleted: MID ");
    add_number(&l, mid);
    add(&l, " to RID ");
    add_rids(&l, rids, n);
    write_line(&l);
}

void maillog_redirected(uint64_t mid, const char *host)
{
    struct line l;

    l.n = 0;
    add(&l, "MID ");
    add_number(&l, mid);
    add(&l, *host ? " redirected to " : " no longer redirected");
    add_foreign(&l, host, 0);
    write_line(&l);
}

void maillog_response(uint64_t mid, const unsigned *rids, unsigned n, const char *response)
{
    struct line l;

    if (!atomic_load_explicit(&wants_responses, memory_order_relaxed))
        return;
    l.n = 0;
    add(&l, "MID ");
    add_number(&l, mid);
    add(&l, " RID ");
    add_rids(&l, rids, n);
    add(&l, " Response '");
    add_foreign(&l, response, '\'');
    add(&l, "'");
    write_line(&l);
}

/* "('550', ['first line', 'second line'])" */
static void add_reply(struct line *l, const char *code, const char *text)
{
    add(l, "('");
    add_foreign(l, code, '\'');
    add(l, "', ['");
    for (;;) {
        const char *end = strchr(text, '\n');

        if (end)
            add_foreign_bytes(l, text, (size_t)(end - text), '\'');
        else
            add_foreign(l, text, '\'');
        if (!end)
            break;
        add(l, "', '");
        text = end + 1;
    }
    add(l, "'])");
}

static void outcome_line(const char *what, uint64_t dcid, uint64_t mid, unsigned rid,
                         const char *status, const char *phrase, const char *code, const char *text)
{
    struct line l;

    l.n = 0;
    add(&l, what);
    add_number(&l, dcid);
    add(&l, " MID ");
    add_number(&l, mid);
    add(&l, " to RID ");
    add_number(&l, rid);
    add(&l, " - ");
    add(&l, status);
    add(&l, " - ");
    add_foreign(&l, phrase, 0);
    add(&l, " ");
    add_reply(&l, code, text);
    if (dcid)
        add(&l, " []"); /* the message's headers chosen for the log: none; a message never sent has
                           no list */
    write_line(&l);
}

void maillog_bounced(uint64_t dcid, uint64_t mid, unsigned rid, const char *status,
                     const char *phrase, const char *code, const char *text)
{
    outcome_line("Bounced: DCID ", dcid, mid, rid, status, phrase, code, text);
}

void maillog_delayed(uint64_t dcid, uint64_t mid, unsigned rid, const char *status,
                     const char *phrase, const char *code, const char *text)
{
    outcome_line("Delayed: DCID ", dcid, mid, rid, status, phrase, code, text);
}

void maillog_double_bounce(uint64_t mid, unsigned rid, const char *status, const char *phrase,
                           const char *code, const char *text)
{
    struct line l;

    l.n = 0;
    add(&l, "Double bounce: MID ");
    add_number(&l, mid);
    add(&l, " to ");
    add_number(&l, rid);
    add(&l, " - ");
    add(&l, status);
    add(&l, " - ");
    add_foreign(&l, phrase, 0);
    add(&l, " ");
    add_foreign(&l, code, 0);
    add(&l, "-'");
    add_foreign(&l, text, '\'');
    add(&l, "'");
    write_line(&l);
}

void maillog_pending(uint64_t mid, const unsigned *rids, unsigned n, int64_t until_usec)
{
    struct line l;
    char date[40];

    l.n = 0;
    add(&l, "Message ");
    add_number(&l, mid);
    add(&l, " to RID ");
    add_rids(&l, rids, n);
    add(&l, " pending till ");
    add(&l, clock_log_date(until_usec, date));
    write_line(&l);
}

void maillog_connection_error(uint64_t dcid, const char *domain, const struct addr *local,
                              const struct addr *peer, const char *details, const char *reason)
{
    struct line l;

    l.n = 0;
    add(&l, "Connection Error: DCID ");
    add_number(&l, dcid);
    add(&l, " domain: ");
    add_foreign(&l, domain, 0);
    add(&l, " IP: ");
    add_ip(&l, peer);
    add(&l, " port: ");
    add_number(&l, peer ? peer->port : 0);
    add(&l, " details: ");
    add_foreign(&l, details, 0);
    add(&l, " interface: ");
    add_ip(&l, local);
    add(&l, " reason: ");
    add_foreign(&l, reason, 0);
    write_line(&l);
}

void maillog_down(const char *what, const char *name, const char *why, uint64_t seconds)
{
    struct line l;

    l.n = 0;
    add(&l, what);
    add(&l, " ");
    add_foreign(&l, name, 0);
    add(&l, " is down (");
    add_foreign(&l, why, 0);
    add(&l, "); its mail waits, next probe in ");
    add_number(&l, seconds);
    add(&l, " seconds");
    write_warning(&l);
}

void maillog_up(const char *what, const char *name, uint64_t seconds)
{
    struct line l;

    l.n = 0;
    add(&l, what);
    add(&l, " ");
    add_foreign(&l, name, 0);
    add(&l, " is up again, after ");
    add_number(&l, seconds);
    add(&l, " seconds");
    write_line(&l);
}

void maillog_dns_failure(const char *name, const char *type, const char *what)
{
    struct line l;

    l.n = 0;
    add(&l, "DNS Temporary Failure ");
    add_foreign(&l, name, 0);
    add(&l, " ");
    add(&l, type);
    add(&l, " - ");
    add_foreign(&l, what, 0);
    write_line(&l);
}

static void sts_line(const char *before, const char *domain)
{
    struct line l;

    l.n = 0;
    add(&l, before);
    add_foreign(&l, domain, 0);
    add(&l, ")");
    write_line(&l);
}

void maillog_sts_record_error(const char *domain)
{
    sts_line("MTA-STS record Error(Invalid MTA-STS TXT records found) for domain(", domain);
}

void maillog_sts_record(const char *domain)
{
    sts_line("Successfully fetched MTA-STS TXT record for domain(", domain);
}

void maillog_sts_fetched(const char *domain)
{
    sts_line("Successfully fetched MTA-STS policy for the domain(", domain);
}

void maillog_sts_fetch_failed(const char *domain)
{
    sts_line("Failure encountered while fetching MTA-STS policy for the domain(", domain);
}

void maillog_sts_paused(void)
{
    struct line l;

    l.n = 0;
    add(&l, "Failures encountered while fetching STS policy, successive request is skipped for a day.");
    write_line(&l);
}

bool maillog_wants_debug(void)
{
    return logfile_wants(LOGFILE_MAIL, LOG_DEBUG);
}

void maillog_debug(const char *fmt, ...)
{
    char text[1000];
    struct line l;
    va_list ap;

    if (!maillog_wants_debug())
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    l.n = 0;
    add_foreign(&l, text, 0);
    l.text[l.n] = '\0';
    logfile_write(LOGFILE_MAIL, LOG_DEBUG, l.text);
}
