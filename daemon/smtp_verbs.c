/* smtp_verbs.c - one function per verb of the server's session, and the table that says when each
 * is allowed. */
#include "daemon/smtp_server.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/bv.h"
#include "daemon/conn.h"
#include "daemon/limits.h"
#include "daemon/maillog.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/smtp_policy.h"
#include "daemon/stats.h"
#include "daemon/tls.h"
#include "store/base/str.h"

#define CHUNK_DIGITS 18
#define CHUNK_SLACK 65536u /* a chunk that is a little too large is read, for the sender to hear why */
#define IDLE_COMMANDS_MAX 200 /* in a row, without a message being taken */

/* RFC 2920: EHLO, HELO and DATA end a group of commands, for the client has to read the answer
 * before it may go on. Trusted senders may be sloppy; from others it is the sign of smuggled or
 * misdirected bytes. */
bool smtp_out_of_step(struct smtp *s)
{
    if (smtp_relays(s) || !conn_input_pending(s->conn))
        return false;
    maillog_receiving_failed(s->icid, "Improper use of command pipelining");
    smtp_reply(s, 503, "5.5.0", "SMTP protocol synchronization error: improper use of pipelining");
    s->quit = true;
    return true;
}

/* --- the session ----------------------------------------------------------------------------- */

static bool greet(struct smtp *s, const char *verb)
{
    char name[256];

    if (smtp_out_of_step(s))
        return false;
    if (!smtp_parse_helo(s->args, name, sizeof(name))) {
        smtp_reply(s, 501, "5.5.4", "%s requires domain address", verb);
        return false;
    }
    smtp_abort(s); /* RFC 5321 section 4.1.4: as RSET */
    free(s->helo);
    s->helo = xstrdup(name);
    s->state = AT_READY;
    return true;
}

static void do_helo(struct smtp *s)
{
    if (!greet(s, "HELO"))
        return;
    s->esmtp = false;
    smtp_reply(s, 250, NULL, "%s", s->hostname);
}

static void do_ehlo(struct smtp *s)
{
    if (!greet(s, "EHLO"))
        return;
    s->esmtp = true;
    if (!s->tls && s->tls_mode != TLS_OFF)
        s->tls = running_tls_server(s->listener->name);
    conn_printf(s->conn,
                "250-%s\r\n"
                "250-8BITMIME\r\n"
                "250-BINARYMIME\r\n"
                "250-CHUNKING\r\n"
                "250-PIPELINING\r\n"
                "250-ENHANCEDSTATUSCODES\r\n"
                "250-DSN\r\n"
                "250-SMTPUTF8\r\n"
                "%s",
                s->hostname, s->tls && !conn_is_tls(s->conn) ? "250-STARTTLS\r\n" : "");
    smtp_offer_auth(s);
    conn_printf(s->conn, "250 SIZE %llu\r\n", (unsigned long long)s->flow->max_message_size);
}

static void do_quit(struct smtp *s)
{
    smtp_reply(s, 221, "2.0.0", "%s", s->hostname);
    s->quit = true;
}

static void do_noop(struct smtp *s)
{
    smtp_reply(s, 250, "2.0.0", "ok");
}

static void do_rset(struct smtp *s)
{
    smtp_abort(s);
    if (s->state != AT_START)
        s->state = AT_READY;
    smtp_reply(s, 250, "2.0.0", "reset");
}

/* RFC 5321 section 3.5.3: nobody learns here who exists. */
static void do_vrfy(struct smtp *s)
{
    if (!s->args.n)
        smtp_reply(s, 501, "5.5.4", "VRFY requires an address");
    else
        smtp_reply(s, 252, "2.1.5", "Cannot verify the user; send the message and see");
}

static void do_help(struct smtp *s)
{
    const char *e = s->esmtp ? "2.0.0 " : "";

    conn_printf(s->conn,
                "214-%sThe following commands are recognized\r\n"
                "214-%s   data     ehlo     helo     help\r\n"
                "214-%s   mail     noop     quit     rcpt\r\n"
                "214 %s   rset     %-8s vrfy%s\r\n",
                e, e, e, e, s->tls_mode != TLS_OFF ? "starttls" : "",
                smtp_has_auth(s) ? "     auth" : "");
}

static void do_unsupported(struct smtp *s)
{
    smtp_bad_command(s, 502, "5.5.1", "command not implemented");
}

/* A browser made to talk to us by somebody else's page. */
static void do_http(struct smtp *s)
{
    maillog_receiving_failed(s->icid, "HTTP request on an SMTP listener");
    smtp_close(s, "4.7.0", "This is an SMTP server, disconnecting.");
}

/* --- the transaction ------------------------------------------------------------------------- */

static void refused(struct smtp *s, const struct smtp_refusal *why)
{
    smtp_reply(s, why->code, why->enhanced, "%s", why->text);
}

static bool has_domain(const struct smtp_path *p)
{
    return p->address[p->local_len] == '@';
}

/* Adds the listener's default domain; false: there is none, or no room. */
static bool add_default_domain(const struct smtp *s, struct smtp_path *p)
{
    const char *domain = s->listener->default_domain;

    if (!domain[0] || strlen(domain) > SMTP_DOMAIN_MAX)
        return false;
    p->address[p->local_len] = '@';
    str_copy(p->address + p->local_len + 1, SMTP_DOMAIN_MAX + 1, domain);
    return true;
}

static void do_mail(struct smtp *s)
{
    struct smtp_refusal why;
    struct smtp_mail mail;
    struct err err = {0};
    struct message *m;

    if (!smtp_parse_mail(s->args, &mail, &why)) {
        refused(s, &why);
        return;
    }
    if (mail.esmtp && !s->esmtp) {
        smtp_reply(s, 555, "5.5.4", "Parameters need EHLO");
        return;
    }
    if (mail.has_auth && !smtp_has_auth(s)) {
        smtp_reply(s, 555, "5.5.4", "Unsupported parameter AUTH");
        return;
    }
    if (listeners_suspended(s->listener->name)) {
        smtp_close(s, "4.3.2", "%s Service not available, closing transaction channel",
                   s->hostname);
        return;
    }
    if (!smtp_may_send(s))
        return;
    if (s->messages >= s->flow->max_msgs_per_session) {
        smtp_close(s, "4.7.0", "Too many messages for this session");
        return;
    }
    if (mail.size > s->flow->max_message_size) {
        maillog_receiving_failed(s->icid, "Message size exceeds limit");
        smtp_reply(s, 552, "5.3.4", "message size exceeds limit");
        return;
    }
    if (!queue_accepts(&err)) {
        smtp_reply(s, 452, "4.3.1", "%s", err.text);
        return;
    }
    resources_pause(); /* YIELDS */
    if (mail.from.address[0] && !has_domain(&mail.from) && !add_default_domain(s, &mail.from)) {
        smtp_reply(s, 553, "5.5.4", "Domain required for sender address");
        return;
    }
    if (smtp_sender_needs_tls(s, mail.from.address)) {
        smtp_reply(s, 530, NULL, "#5.7.0 Must issue a STARTTLS command first");
        return;
    }
    m = s->tx = message_new();
    m->mid = queue_next_mid();
    m->icid = s->icid;
    m->sender = message_text(m, mail.from.address);
    m->bounce_profile = message_text(m, s->listener->bounce_profile);
    m->flags = (mail.eightbit ? MSG_8BIT : 0) | (mail.smtputf8 ? MSG_SMTPUTF8 : 0) |
               (mail.binary ? MSG_BINARY : 0) |
               (mail.ret == 'H'   ? MSG_RET_HDRS
                : mail.ret == 'F' ? MSG_RET_FULL
                                  : 0) |
               (smtp_relays(s) ? 0 : MSG_ACCEPTED);
    if (mail.envid.n)
        m->envid = arena_slice(&m->arena, mail.envid);
    s->state = AT_MAIL;
    maillog_start(m->mid, s->icid);
    maillog_from(m->mid, s->icid, m->sender);
    smtp_reply(s, 250, "2.1.0", "sender <%s> ok", m->sender);
}

/* RFC 5321 section 4.5.1: "postmaster" needs no domain. It is the administrator, else ours by name.
 */
static bool is_postmaster(const struct smtp_path *p)
{
    return !has_domain(p) && str_ieq(p->address, "postmaster");
}

static void expand_postmaster(const struct smtp *s, struct smtp_path *p)
{
    const char *admin = CONFIG_SINGLE(access_config(s->access), system)->admin_address;
    const char *at = strrchr(admin, '@');

    if (at && at - admin <= SMTP_LOCAL_MAX && strlen(admin) <= SMTP_ADDRESS_MAX) {
        str_copy(p->address, sizeof(p->address), admin);
        p->local_len = (unsigned)(at - admin);
    } else if (!add_default_domain(s, p)) {
        p->address[p->local_len] = '@';
        str_copy(p->address + p->local_len + 1, SMTP_DOMAIN_MAX + 1, s->hostname);
    }
}

/* Routing hidden in the local part, for a host behind us that still believes in it:
 * user%elsewhere@here, elsewhere!user@here, "user@elsewhere"@here. */
static char routing_character(const struct smtp_path *p)
{
    for (unsigned i = 0; i < p->local_len; i++)
        if (strchr("%!@:", p->address[i]))
            return p->address[i];
    return '\0';
}

/* A tag of ours is taken off. false: it is a bounce to an address that has none, and the administrator
 * wants it refused (bvconfig). */
static bool bounce_may_come(struct smtp *s, struct smtp_path *to)
{
    enum bv_verdict v = bv_untag(to, clock_wall());

    if (v == BV_GOOD || *s->tx->sender || s->flow->untagged_bounces || !bv_enabled())
        return true;
    if (CONFIG_SINGLE(access_config(s->access), bv_setup)->invalid == BV_REJECT)
        return false;
    s->tx->flags |= MSG_UNTAGGED;
    return true;
}

/* RCPT: syntax, then limits, then policy, then the transaction; one reply on every path. */
static void do_rcpt(struct smtp *s)
{
    struct smtp_refusal why;
    struct smtp_rcpt rcpt;
    struct access_rcpt rule = {.accept = true};
    struct message *m = s->tx;
    char *orcpt = NULL, routing;

    if (smtp_is_harvesting(s, false))
        return;
    if (s->intake) { /* RFC 3030 section 2 */
        smtp_reply(s, 503, "5.5.1", "The message has begun; BDAT or RSET comes next.");
        return;
    }
    if (!smtp_parse_rcpt(s->args, &rcpt, &why)) {
        if (smtp_rcpt_rejected(s))
            refused(s, &why);
        return;
    }
    if (s->delayed_reject) {
        stats_add(STAT_REJECTED_RECIPS, 1);
        smtp_reject_rcpt(s, rcpt.to.address);
        return;
    }
    if (rcpt.esmtp && !s->esmtp) {
        smtp_reply(s, 555, "5.5.4", "Parameters need EHLO");
        return;
    }
    if ((rcpt.to.utf8 || rcpt.orcpt_utf8) && !(m->flags & MSG_SMTPUTF8)) {
        smtp_reply(s, 553, "5.6.7", "The address needs SMTPUTF8, which MAIL did not ask for");
        return;
    }
    if (m->nrcpts >= s->flow->max_rcpts_per_msg) {
        smtp_reply(s, 452, "4.5.3", "Too many recipients");
        return;
    }
    if (is_postmaster(&rcpt.to)) {
        expand_postmaster(s, &rcpt.to);
    } else if (!has_domain(&rcpt.to) && !add_default_domain(s, &rcpt.to)) {
        smtp_reply(s, 553, "5.1.3", "Domain required for recipient address");
        return;
    } else if (!smtp_relays(s)) {
        if (!bounce_may_come(s, &rcpt.to)) {
            maillog_to_rejected(m->mid, s->icid, rcpt.to.address, "bounce verification");
            stats_add(STAT_REJECTED_RECIPS, 1);
            if (smtp_rcpt_rejected(s))
                smtp_reply(s, 550, "5.7.1", "No message was sent from this address; the bounce is refused.");
            return;
        }
        access_rcpt_rule(s->table, &rcpt.to, &rule);
        if (!rule.accept) {
            maillog_to_rejected(m->mid, s->icid, rcpt.to.address, "RAT");
            stats_add(STAT_REJECTED_RECIPS, 1);
            if (smtp_invalid_rcpt(s, rcpt.to.address))
                smtp_respond(s, &(struct flow_response){rule.code ? rule.code : 550, rule.text}, "1.0",
                             "Address rejected.");
            return;
        }
        routing = routing_character(&rcpt.to);
        if (routing) {
            maillog_to_invalid(m->mid, s->icid, routing);
            stats_add(STAT_REJECTED_RECIPS, 1);
            if (smtp_rcpt_rejected(s))
                smtp_reply(s, 553, "5.1.3", "Invalid character in address: '%c'", routing);
            return;
        }
    }
    if (!rule.bypass && !smtp_rcpt_within_limits(s))
        return;
    if (rcpt.orcpt.n)
        orcpt = arena_slice(&m->arena, rcpt.orcpt);
    message_add_rcpt(m, rcpt.to.address, orcpt, rcpt.notify);
    s->accepted_rcpts++;
    s->state = AT_RCPT;
    maillog_to(m->mid, s->icid, m->nrcpts - 1, rcpt.to.address);
    if (rule.code || (rule.text && *rule.text))
        smtp_respond(s, &(struct flow_response){rule.code ? rule.code : 250, rule.text}, "1.5",
                     "recipient ok");
    else
        smtp_reply(s, 250, "2.1.5", "recipient <%s> ok", rcpt.to.address);
}

static void do_data(struct smtp *s)
{
    if (s->args.n) {
        smtp_reply(s, 501, "5.5.4", "DATA takes no parameters");
        return;
    }
    if (s->intake || s->tx->flags & MSG_BINARY) { /* RFC 3030 sections 2 and 3 */
        smtp_reply(s, 503, "5.5.1", "%s", s->intake ? "DATA cannot follow BDAT." : "BODY=BINARYMIME needs BDAT.");
        return;
    }
    if (smtp_out_of_step(s))
        return;
    smtp_receive(s); /* YIELDS */
    s->state = AT_READY;
}

/* "SIZE" or "SIZE LAST" of BDAT; false: what follows cannot be told from commands. */
static bool parse_bdat(struct slice args, uint64_t *size, bool *last)
{
    size_t i = 0;

    *size = 0;
    for (; i < args.n && args.p[i] >= '0' && args.p[i] <= '9' && i < CHUNK_DIGITS; i++)
        *size = *size * 10 + (uint64_t)(args.p[i] - '0');
    *last = args.n - i == 5 && slice_ieq((struct slice){args.p + i, 5}, " LAST");
    return i && (i == args.n || *last);
}

/* RFC 3030 */
static void do_bdat(struct smtp *s)
{
    uint64_t size;
    bool last;

    parse_bdat(s->args, &size, &last); /* smtp_run_verb has looked at it */
    smtp_receive_chunk(s, size, last); /* YIELDS */
    s->state = s->tx ? AT_RCPT : AT_READY;
}

/* YIELDS. The bytes behind a BDAT that is refused must not be taken for commands: they are read to
 * their end, or the session ends. false: it ends. */
static bool skip_chunk(struct smtp *s)
{
    uint64_t size;
    bool last;

    if (!parse_bdat(s->args, &size, &last)) {
        smtp_reply(s, 501, "5.5.4", "BDAT takes a number of octets, and LAST");
        s->quit = true;
    } else if (size > s->flow->max_message_size) {
        smtp_reply(s, 552, "5.3.4", "message size exceeds limit");
        s->quit = true;
    } else {
        smtp_swallow_chunk(s, size);
    }
    return !s->quit;
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    unsigned when;
    bool before_tls; /* allowed where TLS is required and not yet in use (RFC 3207 section 4) */
    void (*run)(struct smtp *s);
} verbs[] = {
    {"MAIL",     AT_READY,          false, do_mail       },
    {"RCPT",     AT_MAIL | AT_RCPT, false, do_rcpt       },
    {"DATA",     AT_RCPT,           false, do_data       },
    {"BDAT",     AT_RCPT,           false, do_bdat       },
    {"EHLO",     ANY_STATE,         true,  do_ehlo       },
    {"HELO",     ANY_STATE,         true,  do_helo       },
    {"AUTH",     ANY_STATE,         false, smtp_auth     },
    {"STARTTLS", ANY_STATE,         true,  smtp_starttls },
    {"RSET",     ANY_STATE,         false, do_rset       },
    {"NOOP",     ANY_STATE,         true,  do_noop       },
    {"QUIT",     ANY_STATE,         true,  do_quit       },
    {"VRFY",     ANY_STATE,         false, do_vrfy       },
    {"HELP",     ANY_STATE,         false, do_help       },
    {"EXPN",     ANY_STATE,         false, do_unsupported},
    {"ETRN",     ANY_STATE,         false, do_unsupported},
    {"TURN",     ANY_STATE,         false, do_unsupported},
    {"ATRN",     ANY_STATE,         false, do_unsupported},
    {"GET",      ANY_STATE,         true,  do_http       },
    {"POST",     ANY_STATE,         true,  do_http       },
    {"PUT",      ANY_STATE,         true,  do_http       },
    {"CONNECT",  ANY_STATE,         true,  do_http       },
};

static const struct verb *verb_find(struct slice name)
{
    for (size_t i = 0; i < countof(verbs); i++)
        if (slice_ieq(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

static void wrong_order(struct smtp *s)
{
    switch (s->state) {
    case AT_START:
        smtp_reply(s, 503, "5.5.1", "EHLO or HELO first.");
        break;
    case AT_READY:
        smtp_reply(s, 503, "5.5.1", "MAIL first.");
        break;
    case AT_MAIL:
        if (slice_ieq(s->verb, "DATA") || slice_ieq(s->verb, "BDAT")) {
            smtp_reply(s, 503, "5.5.1", "RCPT first.");
            break;
        }
        /* fall through */
    default:
        smtp_reply(s, 503, "5.5.1", "Sender already specified.");
    }
}

static bool moves_on(const struct smtp *s, const struct verb *v)
{
    uint64_t size;
    bool last;

    if (!(v->when & s->state))
        return false;
    if (v->run == do_bdat)
        return parse_bdat(s->args, &size, &last) && (size || last);
    return v->run == do_rcpt || v->run == do_data;
}

/* Only RCPT, DATA and BDAT in their place move a message on. So many others without a message coming of
 * them are no mail, and the session ends. */
static bool idles(struct smtp *s, const struct verb *v)
{
    if (!v || v->run == do_quit ||
        moves_on(s, v) ||
        ++s->idle_commands <= IDLE_COMMANDS_MAX)
        return false;
    maillog_receiving_failed(s->icid, "Too many commands without a message");
    smtp_close(s, "4.7.0", "Too many commands without a message, disconnecting.");
    return true;
}

/* Will this BDAT be carried out? */
static bool is_chunk(const struct smtp *s)
{
    uint64_t size;
    bool last;

    return s->state == AT_RCPT && !(s->tls_mode == TLS_REQUIRED && !conn_is_tls(s->conn)) &&
           parse_bdat(s->args, &size, &last) && size <= s->flow->max_message_size + CHUNK_SLACK;
}

void smtp_run_verb(struct smtp *s)
{
    const struct verb *v = verb_find(s->verb);

    if (idles(s, v))
        return;
    if (v && v->run == do_bdat && !is_chunk(s) && !skip_chunk(s))
        return;
    if (s->refusal && !(v && v->run == do_quit)) {
        smtp_bad_command(s, 554, "5.7.1", s->refusal);
        return;
    }
    if (s->tls_mode == TLS_REQUIRED && !conn_is_tls(s->conn) && !(v && v->before_tls)) {
        s->told_starttls = true; /* the mail log's line about it depends on this having been said */
        smtp_reply(s, 530, NULL, "#5.7.0 Must issue a STARTTLS command first");
    } else if (!v) {
        smtp_bad_command(s, 500, "5.5.1", "command not recognized");
    } else if (!(v->when & s->state)) {
        wrong_order(s);
    } else {
        v->run(s);
    }
}
