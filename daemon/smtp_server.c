/* smtp_server.c - see smtp_server.h. Here: a session's beginning (who is it, may it talk), its loop
 * of commands with time-outs and shutdown, and its end with the lines the mail log owes. */
#include "daemon/smtp_server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/conn.h"
#include "daemon/connstats.h"
#include "daemon/dns.h"
#include "daemon/exceptions.h"
#include "daemon/fiber.h"
#include "daemon/limits.h"
#include "daemon/maillog.h"
#include "daemon/queue.h"
#include "daemon/smtp_policy.h"
#include "daemon/stats.h"
#include "daemon/tls.h"
#include "store/base/str.h"

#define BAD_COMMANDS_MAX 5
#define REJECTED_RCPTS_MAX 100 /* in a session */
#define REPLY_MAX 510 /* RFC 5321 section 4.5.3.1.5, without CRLF */

void smtp_reply(struct smtp *s, int code, const char *enhanced, const char *fmt, ...)
{
    char line[REPLY_MAX + 3];
    size_t n;
    va_list ap;
    int more;

    if (!enhanced)
        enhanced = "";
    else if (!s->esmtp && code < 400)
        enhanced = "";
    n = (size_t)snprintf(line, sizeof(line), "%03d %s%s%s", code, *enhanced && !s->esmtp ? "#" : "",
                         enhanced, *enhanced ? " " : "");
    va_start(ap, fmt);
    more = vsnprintf(line + n, REPLY_MAX + 1 - n, fmt, ap);
    va_end(ap);
    if (more > 0)
        n += (size_t)more;
    if (n > REPLY_MAX)
        n = REPLY_MAX;
    memcpy(line + n, "\r\n", 2);
    conn_write(s->conn, line, n + 2);
}

void smtp_close(struct smtp *s, const char *enhanced, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    smtp_reply(s, 421, enhanced, "%s", text);
    s->quit = true;
}

void smtp_bad_command(struct smtp *s, int code, const char *enhanced, const char *text)
{
    if (++s->bad_commands >= BAD_COMMANDS_MAX)
        smtp_close(s, "4.7.0", "Exceeded bad SMTP command limit, disconnecting.");
    else
        smtp_reply(s, code, enhanced, "%s", text);
}

bool smtp_rcpt_rejected(struct smtp *s)
{
    if (smtp_relays(s) || ++s->rejected_rcpts <= REJECTED_RCPTS_MAX)
        return true;
    maillog_receiving_failed(s->icid, "Too many rejected recipients");
    smtp_close(s, "4.7.0", "Too many rejected recipients, disconnecting.");
    return false;
}

void smtp_abort(struct smtp *s)
{
    smtp_intake_drop(s);
    if (!s->tx)
        return;
    maillog_aborted(s->tx->mid, "Receiving aborted");
    message_free(&s->tx);
}

static void service_not_available(struct smtp *s)
{
    smtp_close(s, "4.3.2", "%s Service not available, closing transaction channel", s->hostname);
}

/* Waits for the next command; false: the session is over (and has been told so). YIELDS */
static bool await_command(struct smtp *s)
{
    msec_t now = clock_now(), until = now + (msec_t)s->setup->idle_timeout * 1000;
    bool ok;

    if (fiber_stopping()) {
        service_not_available(s);
        return false;
    }
    if (now < s->end) {
        if (conn_input_pending(s->conn))
            return true;
        fiber_interruptible(true);
        s->waiting = true;
        ok = conn_await(s->conn, until < s->end ? until : s->end);
        s->waiting = false;
        fiber_interruptible(false);
        if (ok || conn_failed(s->conn))
            return true; /* the read that follows meets the failure */
        if (fiber_interrupted()) {
            service_not_available(s);
            return false;
        }
        now = clock_now();
    }
    if (now < s->end || !s->messages)
        maillog_icid_timeout(s->icid, &s->peer);
    smtp_close(s, "4.4.2", "Exceeded allowable connection time, disconnecting.");
    return false;
}

enum conn_line smtp_read_line(struct smtp *s, size_t max, struct slice *line)
{
    return await_command(s) ? conn_read_line(s->conn, max, line) : CONN_LINE_FAILED;
}

static size_t longest(struct slice verb)
{
    return slice_ieq(verb, "MAIL") || slice_ieq(verb, "RCPT") ? SMTP_COMMAND_LONG_MAX
           : slice_ieq(verb, "AUTH")                          ? SMTP_AUTH_LINE_MAX
                                                              : SMTP_COMMAND_MAX;
}

/* YIELDS. The next command into verb and args; lines that are none are answered here. */
static bool read_command(struct smtp *s)
{
    struct slice line;

    while (!s->quit && await_command(s)) {
        switch (conn_read_line(s->conn, SMTP_AUTH_LINE_MAX, &line)) {
        case CONN_LINE_FAILED:
            return false;
        case CONN_LINE_LONG:
            smtp_bad_command(s, 500, "5.5.2", "Line too long");
            continue;
        case CONN_LINE_BARE:
            smtp_bad_command(s, 500, "5.5.2",
                             "Bare CR, bare LF or NUL in a command; lines end with CRLF");
            continue;
        case CONN_LINE_OK:
            break;
        }
        smtp_split_command(line, &s->verb, &s->args);
        if (line.n <= longest(s->verb))
            return true;
        smtp_bad_command(s, 500, "5.5.2", "Line too long");
    }
    return false;
}

/* RFC 5321 section 3.1: after a 554 greeting the server waits for QUIT. */
static void refuse_everything(struct smtp *s)
{
    smtp_greet_rejected(s);
    while (read_command(s)) {
        if (slice_ieq(s->verb, "QUIT")) {
            smtp_reply(s, 221, "2.0.0", "%s", s->hostname);
            s->quit = true;
        } else {
            smtp_bad_command(s, 503, "5.5.1",
                             "No mail is accepted from your host; QUIT is all that is left");
        }
    }
}

/* The whole life of one inbound session, in the order a reader of RFC 5321 expects. */
static void converse(struct smtp *s)
{
    s->state = AT_START;
    if (s->refusal)
        smtp_reply(s, 554, NULL, "%s %s", s->hostname, s->refusal);
    else
        smtp_greet(s);
    while (read_command(s)) /* YIELDS; sends replies when input runs dry */
        smtp_run_verb(s);
}

/* A sender's MTA waits for the greeting (RFC 5321 section 3.1, RFC 2920 section 3.1); what does not
 * is a program that pays no heed to replies, or bytes that were meant for another protocol. */
static bool talks_too_soon(const struct smtp *s)
{
    char byte;

    if (conn_is_tls(s->conn)) /* what came with the handshake; bytes on the socket may be TLS's own */
        return !smtp_relays(s) && conn_input_pending(s->conn);
    return s->flow->behavior != BEHAVIOR_RELAY &&
           recv(conn_fd(s->conn), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

static bool enter_host(struct smtp *s)
{
    s->host = limits_host_enter(s->limits, &s->peer, s->flow->max_concurrency);
    if (s->host)
        return true;
    maillog_receiving_failed(s->icid, "Connection limit exceeded");
    if (!smtp_implicit_tls(s) || conn_is_tls(s->conn)) /* else nothing can be understood yet */
        smtp_close(s, "4.4.5", "Too many connections from your host.");
    return false;
}

/* YIELDS. The access tables' word on the peer; false: it is not to be talked to. */
static bool let_in(struct smtp *s)
{
    static const char *const words[] = {[BEHAVIOR_ACCEPT] = "ACCEPT",
                                        [BEHAVIOR_RELAY] = "RELAY",
                                        [BEHAVIOR_REJECT] = "REJECT",
                                        [BEHAVIOR_TCPREFUSE] = "TCPREFUSE",
                                        [BEHAVIOR_CONTINUE] = "CONTINUE"};
    const struct config *cfg = access_config(s->access);
    struct access_match match;
    char name[256] = "";
    bool by_name = access_needs_name(s->table, &s->peer) || exceptions_need_name(cfg);
    msec_t patience = by_name ? dns_reverse_timeout() : 0;
    bool verified = false;

    if (patience) {
        if (!dns_reverse(&s->peer, clock_in(patience), name, sizeof(name), &verified))
            name[0] = '\0';
        if (verified && name[0])
            s->reverse = xstrdup(name);
    }
    access_sender(s->table, &s->peer, s->reverse ? s->reverse : "", &match);
    s->flow = match.flow;
    s->group = match.group;
    s->entry = match.entry;
    s->tls_mode = exception_inbound(cfg, s->flow->tls, &s->peer, s->reverse, clock_wall());
    maillog_icid_new(s->icid, s->listener->name, &s->local, &s->peer, name, verified);
    maillog_icid_access(s->icid, words[s->flow->behavior], match.group, match.entry);
    if (s->flow->behavior == BEHAVIOR_TCPREFUSE)
        return false;
    if (smtp_implicit_tls(s) && !(enter_host(s) && smtp_begin_tls(s)))
        return false;
    if (s->flow->behavior == BEHAVIOR_REJECT && !s->setup->reject_at_rcpt) {
        refuse_everything(s);
        return false;
    }
    if (s->flow->behavior == BEHAVIOR_REJECT) {
        maillog_icid_delayed_reject(s->icid, &s->peer);
        s->delayed_reject = true;
    }
    if (!s->host && !enter_host(s))
        return false;
    s->counted = connstats_enter(s->listener->name, &s->peer, s->reverse);
    if (listeners_suspended(s->listener->name) || fiber_stopping()) {
        service_not_available(s);
        return false;
    }
    if (smtp_is_harvesting(s, true))
        return false;
    if (talks_too_soon(s)) {
        maillog_receiving_failed(s->icid, "Data before the greeting");
        smtp_reply(s, 554, "5.5.0", "SMTP protocol synchronization error: wait for the greeting");
        return false;
    }
    return true;
}

/* The last lines of the log, and what the session held. */
static void finish(struct smtp *s)
{
    const struct err *why = conn_err(s->conn);

    smtp_abort(s);
    if (s->flow && s->tls_mode == TLS_REQUIRED && s->told_starttls && !s->accepted_rcpts)
        maillog_icid_tls_missing(s->icid);
    if (s->told_auth && !s->tried_auth && !s->user)
        maillog_auth_missing(s->icid);
    if (why->code == E_TIMEOUT) {
        maillog_icid_timeout(s->icid, &s->peer);
        conn_last_words(s->conn, "421 %sExceeded allowable connection time, disconnecting.\r\n",
                        s->esmtp ? "4.4.2 " : "");
    } else if (why->code && !s->quit) {
        maillog_icid_lost(s->icid);
    }
    conn_free(&s->conn);
    maillog_icid_close(s->icid);
    if (s->host)
        limits_host_leave(s->host);
    if (s->counted)
        connstats_leave(s->counted);
    if (s->tls_counted)
        limits_tls_leave();
    tls_context_free(&s->tls);
    free(s->reverse);
    free(s->helo);
    free(s->user);
    free(s->refusal);
}

static _Thread_local struct list sessions; /* of this loop; in the stacks of their fibers */

void smtp_end_suspended(bool all)
{
    if (!sessions.next)
        return;
    list_each (pos, &sessions) {
        struct smtp *s = list_item(pos, struct smtp, link);

        if (!listeners_suspended(s->listener->name) || (!all && (!s->waiting || s->tx)))
            continue;
        if (s->waiting)
            conn_last_words(s->conn,
                            "421 %s%s Service not available, closing transaction channel\r\n",
                            s->esmtp ? "4.3.2 " : "", s->hostname);
        s->quit = true;
        shutdown(conn_fd(s->conn), SHUT_RD); /* its fiber wakes and finds the end */
    }
}

void smtp_serve(const struct smtp_origin *o)
{
    struct smtp s = {
        .conn = conn_new(o->fd),
        .access = o->access,
        .table = o->table,
        .limits = o->limits,
        .peer = o->peer,
        .local = o->local,
        .icid = queue_next_icid(),
    };
    const struct config *cfg = access_config(o->access);
    char ip[ADDR_TEXT];

    s.listener = access_listener(s.table);
    s.setup = CONFIG_SINGLE(cfg, listener_setup);
    s.hostname = CONFIG_SINGLE(cfg, system)->hostname;
    s.end = clock_in((msec_t)s.setup->session_timeout * 1000);
    conn_set_timeout(s.conn, (msec_t)s.setup->idle_timeout * 1000);
    conn_set_deadline(s.conn, s.end);
    fiber_rename("smtp %llu %s", (unsigned long long)s.icid, addr_text(&s.peer, ip));
    stats_add(STAT_CONNS_IN, 1);
    gauge_add(GAUGE_CONN_IN, 1);
    if (!sessions.next)
        list_init(&sessions);
    list_add_tail(&sessions, &s.link);
    if (let_in(&s))
        converse(&s);
    list_remove(&s.link);
    finish(&s);
    gauge_add(GAUGE_CONN_IN, -1);
    limits_disconnect(s.limits);
    access_free(&s.access);
}
