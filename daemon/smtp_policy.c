/* smtp_policy.c - see smtp_policy.h. */
#include "daemon/smtp_policy.h"

#include <stdio.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/conn.h"
#include "daemon/limits.h"
#include "daemon/maillog.h"
#include "daemon/message.h"
#include "store/base/str.h"

static const char rejection[] =
    "Your access to this mail system has been rejected due to the sending MTA's poor reputation. "
    "If you believe that "
    "this failure is in error, please contact the intended recipient via alternate means.";
static const char harvesting[] = "Too many invalid recipients";

static const char *greeting_name(const struct smtp *s)
{
    return *s->flow->banner_host ? s->flow->banner_host : s->hostname;
}

/* The value of the variable text begins with; *n: how long its name is. NULL: it is none. */
static const char *variable(const struct smtp *s, const char *text, char ip[ADDR_TEXT], size_t *n)
{
    const struct {
        const char *name, *value;
    } variables[] = {
        {"$Hostname", greeting_name(s)  },
        {"$RemoteIP", addr_text(&s->peer, ip)},
        {"$Group",           s->group                     },
        {"$HATEntry",           s->entry},
    };

    for (size_t i = 0; i < countof(variables); i++) {
        if (!str_istarts(text, variables[i].name))
            continue;
        *n = strlen(variables[i].name);
        return variables[i].value ? variables[i].value : "None";
    }
    return NULL;
}

static void add(char *out, size_t size, size_t *n, const char *text, size_t length)
{
    for (size_t i = 0; i < length && *n + 1 < size; i++)
        out[(*n)++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    out[*n] = '\0';
}

void smtp_expand(const struct smtp *s, const char *text, char *out, size_t size)
{
    size_t n = 0, length;

    *out = '\0';
    while (*text) {
        char ip[ADDR_TEXT];
        const char *value = *text == '$' ? variable(s, text, ip, &length) : NULL;

        if (value) {
            add(out, size, &n, value, strlen(value));
            text += length;
        } else {
            add(out, size, &n, text, 1);
            text++;
        }
    }
}

/* "#5.7.1 ", "5.7.1 ": the administrator wrote the code himself. */
static bool has_enhanced(const char *text)
{
    if (*text == '#')
        text++;
    return strchr("245", *text) && *text && text[1] == '.' && text[2] >= '0' && text[2] <= '9';
}

void smtp_respond(struct smtp *s, const struct flow_response *r, const char *detail,
                  const char *standard)
{
    char text[SMTP_RESPONSE_MAX], enhanced[16];

    smtp_expand(s, *r->text ? r->text : standard, text, sizeof(text));
    snprintf(enhanced, sizeof(enhanced), "%u.%s", r->code / 100, detail);
    smtp_reply(s, (int)r->code, has_enhanced(text) ? NULL : enhanced, "%s", text);
}

/* --- the greeting ----------------------------------------------------------------------------- */

/* RFC 5321 section 4.2: the first line names the host, the administrator's text is the second. */
void smtp_greet(struct smtp *s)
{
    const struct flow_response *r = &s->flow->accept;
    char text[SMTP_RESPONSE_MAX];

    if (!*r->text) {
        smtp_reply(s, (int)r->code, NULL, "%s ESMTP", greeting_name(s));
        return;
    }
    smtp_expand(s, r->text, text, sizeof(text));
    conn_printf(s->conn, "%03u-%s ESMTP\r\n%03u %s\r\n", r->code, greeting_name(s), r->code, text);
}

void smtp_greet_rejected(struct smtp *s)
{
    const struct flow_response *r = &s->flow->reject;
    char text[SMTP_RESPONSE_MAX];

    smtp_expand(s, *r->text ? r->text : rejection, text, sizeof(text));
    conn_printf(s->conn, "%03u-%s\r\n%03u %s\r\n", r->code, greeting_name(s), r->code, text);
    s->rejected = true;
    if (r->code == 421) /* RFC 5321 section 3.8: who says that closes */
        s->quit = true;
}

void smtp_reject_rcpt(struct smtp *s, const char *rcpt)
{
    maillog_to_rejected(s->tx->mid, s->icid, rcpt, "HAT");
    if (!smtp_rcpt_rejected(s))
        return;
    smtp_respond(s, &s->flow->reject, "7.1", rejection);
    if (s->flow->reject.code == 421)
        s->quit = true;
}

/* --- directory harvests ----------------------------------------------------------------------- */

static void send_away(struct smtp *s)
{
    const struct flow_response *r = &s->flow->dhap;

    if (s->flow->dhap_action == DHAP_DROP) {
        smtp_close(s, "4.7.0", "%s, disconnecting.", harvesting);
        return;
    }
    smtp_respond(s, r, "7.1", harvesting);
    if (r->code == 421)
        s->quit = true;
}

/* Who may authenticate is let in, for it may be one of many behind that address. */
bool smtp_is_harvesting(struct smtp *s, bool at_connection)
{
    if (smtp_relays(s) || !limits_harvests(s->host, s->flow->dhap_limit) ||
        (at_connection && (s->flow->dhap_action != DHAP_DROP || s->flow->auth != AUTH_OFF)))
        return false;
    if (at_connection)
        maillog_receiving_failed(s->icid, harvesting);
    send_away(s);
    return true;
}

bool smtp_invalid_rcpt(struct smtp *s, const char *rcpt)
{
    char ip[ADDR_TEXT], key[100];

    if (!limits_invalid(s->host, s->flow->dhap_limit))
        return smtp_rcpt_rejected(s);
    maillog_icid_harvest(s->icid, &s->peer, s->reverse, s->flow->dhap_limit, s->group,
                         s->listener->name, s->tx->sender, rcpt);
    snprintf(key, sizeof(key), "dhap %s %s", s->listener->name, addr_text(&s->peer, ip));
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "Potential Directory Harvest Attack detected: host %s%s%s%s named more than %u "
                "invalid recipients within an hour on listener %s. See the mail logs for more "
                "information about this attack.",
                ip, s->reverse ? " (" : "", s->reverse ? s->reverse : "", s->reverse ? ")" : "",
                s->flow->dhap_limit, s->listener->name);
    send_away(s);
    return false;
}

/* --- senders ---------------------------------------------------------------------------------- */

static bool sender_is(const char *pattern, const char *sender, const char *domain)
{
    size_t n = strlen(pattern), length = strlen(domain);

    if (strchr(pattern, '@'))
        return str_ieq(pattern, sender);
    if (*pattern == '.')
        return length > n && str_ieq(domain + length - n, pattern);
    return str_ieq(pattern, domain);
}

bool smtp_sender_needs_tls(const struct smtp *s, const char *sender)
{
    const struct strlist *list = s->flow->tls_senders;
    const char *at = strrchr(sender, '@');

    if (s->tls_mode != TLS_PREFERRED || conn_is_tls(s->conn) || !at)
        return false;
    for (size_t i = 0; i < list->n; i++)
        if (sender_is(list->items[i], sender, at + 1))
            return true;
    return false;
}

bool smtp_rcpt_within_limits(struct smtp *s)
{
    const struct mail_flow *f = s->flow;

    if (!limits_rcpt(s->host, f->max_rcpts_per_hour)) {
        smtp_respond(s, &f->limit, "7.1", "Too many recipients received this hour");
        return false;
    }
    if (!limits_sender(s->limits, s->tx->sender, f->max_rcpts_per_sender, f->sender_minutes)) {
        smtp_respond(s, &(struct flow_response){452, ""}, "7.1",
                     "Too many recipients received from the sender");
        return false;
    }
    return true;
}
