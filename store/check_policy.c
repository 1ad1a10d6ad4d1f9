/* check_policy.c - rules about mail flow policies, and about the defaults of a listener that they
 * inherit. See check.h. */
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/check.h"
#include "store/rules.h"

static void check_code(struct check *out, const char *field, uint64_t code, unsigned least,
                       unsigned most)
{
    if (code && (code < least || code > most))
        check_error(out, field, "%llu is no code of such a reply; choose one from %u to %u.",
                    (unsigned long long)code, least, most);
}

/* l as listener, or with the values a policy puts in their place. */
static void warn_flow(const struct listener *l, struct check *out)
{
    if (l->accept_code && l->accept_code != 220)
        check_warning(out, "accept_code",
                      "A greeting has the code 220 (RFC 5321); many senders give up at %llu.",
                      (unsigned long long)l->accept_code);
    if (l->auth != AUTH_OFF && l->tls == TLS_OFF && l->auth_needs_tls &&
        l->protocol != PROTOCOL_SMTPS && l->protocol != PROTOCOL_SUBMISSIONS)
        check_warning(
            out, "auth",
            "SMTP Authentication is never offered: it needs TLS, which is off. Set tls to "
            "preferred or required.");
    if (l->tls_senders.n && l->tls != TLS_PREFERRED)
        check_warning(out, "tls_senders",
                      "These senders make no difference: they count where tls is preferred.");
}

void check_flow_defaults(const struct listener *l, struct check *out)
{
    if (!out->errors_only)
        warn_flow(l, out);
}

static void inherit(struct listener *l, const struct mail_policy *p)
{
    static const enum tls_modes tls[] = {TLS_OFF, TLS_OFF, TLS_PREFERRED, TLS_REQUIRED};

    if (p->tls != POLICY_TLS_DEFAULT)
        l->tls = tls[p->tls];
    if (p->auth != POLICY_AUTH_DEFAULT)
        l->auth = p->auth - 1;
    if (p->auth_needs_tls != SWITCH_DEFAULT)
        l->auth_needs_tls = p->auth_needs_tls == SWITCH_ON;
    l->accept_code = p->accept_code;
}

void check_mail_policy(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct mail_policy *p = row->data;
    char *owner = xstrndup(row->name, strcspn(row->name, "/"));
    const struct listener *l = CONFIG_GET(cfg, listener, owner);
    struct listener with;

    free(owner);
    check_code(out, "accept_code", p->accept_code, 200, 299);
    check_code(out, "reject_code", p->reject_code, 400, 599);
    check_code(out, "limit_code", p->limit_code, 400, 599);
    check_code(out, "dhap_code", p->dhap_code, 400, 599);
    if (l)
        check_client_identity(l, p, out);
    if (!l || out->errors_only || (p->behavior != BEHAVIOR_ACCEPT && p->behavior != BEHAVIOR_RELAY))
        return;
    if (!p->tls && !p->auth && !p->auth_needs_tls && !p->verify_client && !p->accept_code &&
        !p->tls_senders.n)
        return; /* what it inherits is told where it stands */
    with = *l;
    inherit(&with, p);
    with.tls_senders = p->tls_senders; /* what it says itself; the listener's own are told there */
    warn_flow(&with, out);
}
