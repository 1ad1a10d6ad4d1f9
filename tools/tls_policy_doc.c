/* tls_policy_doc.c - prints doc/tls-policy.md: what becomes of mail under every combination of
 * settings and findings, asked of the code that decides it. */
#include <stdio.h>
#include <string.h>

#include "daemon/tls_policy.h"
#include "store/base/str.h"

static const char *const levels[] = {"1 No",
                                     "2 Preferred",
                                     "3 Required",
                                     "4 Preferred - Verify",
                                     "5 Required - Verify",
                                     "6 Required - Verify Hosted Domains"};
static const char *const checks[TLS_CHECKS] = {"DANE", "MX", "Verify", "Hosted", "Route"};

static void print_checks(unsigned which)
{
    bool first = true;

    for (unsigned i = 0; i < TLS_CHECKS; i++)
        if (which & 1U << i) {
            printf("%s%s", first ? "" : " + ", checks[i]);
            first = false;
        }
}

static void print_verdict(const struct tls_evidence *e)
{
    struct tls_verdict v = tls_verdict(e);

    switch (v.use) {
    case TLS_NEVER:
        printf("clear");
        break;
    case TLS_TRY:
        printf("TLS if offered");
        break;
    case TLS_MUST:
        printf("TLS");
        break;
    case TLS_REFUSE:
        printf("not this host");
        break;
    }
    if (v.must) {
        printf(", proof: ");
        print_checks(v.must);
    }
    if (v.look) {
        printf(", look: ");
        print_checks(v.look);
    }
}

static void print_row(struct tls_evidence e)
{
    for (e.level = DEST_TLS_NONE; e.level <= DEST_TLS_REQUIRED_HOSTED; e.level++) {
        printf(" | ");
        print_verdict(&e);
    }
    e.level = DEST_TLS_PREFERRED;
    printf(" | %s |\n", tls_rule_word(tls_verdict(&e).rule));
}

static void print_head(const char *const *columns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("| %s ", columns[i]);
    for (size_t i = 0; i < countof(levels); i++)
        printf("| %s ", levels[i]);
    printf("| rule at level 2 |\n");
    for (size_t i = 0; i < n + countof(levels) + 1; i++)
        printf("| --- ");
    printf("|\n");
}

static bool same_rows(struct tls_evidence a, struct tls_evidence b)
{
    for (a.level = b.level = DEST_TLS_NONE; a.level <= DEST_TLS_REQUIRED_HOSTED;
         a.level++, b.level++) {
        struct tls_verdict va = tls_verdict(&a), vb = tls_verdict(&b);

        if (va.use != vb.use || va.must != vb.must || va.look != vb.look || va.rule != vb.rule)
            return false;
    }
    return true;
}

static const struct {
    enum sts_state state;
    bool lists;
    const char *words;
} sts[] = {
    {STS_NO_RECORD,    false, "no policy"            },
    {STS_FAILED,       false, "record not answered"  },
    {STS_MODE_TESTING, true,  "testing"              },
    {STS_MODE_ENFORCE, true,  "enforce, lists host"  },
    {STS_MODE_ENFORCE, false, "enforce, host missing"},
};

static struct tls_evidence with_sts(struct tls_evidence e, size_t i)
{
    e.sts_state = sts[i].state;
    e.sts_lists_host = sts[i].lists;
    return e;
}

static bool same_states(int dane, int a, int b)
{
    bool same = true;

    for (size_t i = 0; i < countof(sts) && same; i++)
        same = same_rows(
            with_sts((struct tls_evidence){.dane = dane, .dane_state = (enum dane_state)a}, i),
            with_sts((struct tls_evidence){.dane = dane, .dane_state = (enum dane_state)b}, i));
    return same;
}

/* Findings that come to the same are one group; so are policies that make no difference. */
static void print_group(int dane, int first)
{
    const char *setting = dane == DANE_OFF             ? "none"
                          : dane == DANE_OPPORTUNISTIC ? "opportunistic"
                                                       : "mandatory";
    struct tls_evidence e = {.dane = dane, .dane_state = (enum dane_state)first};
    bool matters = false;

    for (size_t i = 1; i < countof(sts); i++)
        matters = matters || !same_rows(with_sts(e, 0), with_sts(e, i));
    for (size_t i = 0; i < (matters ? countof(sts) : 1); i++) {
        printf("| %s | %s", setting, dane == DANE_OFF ? "-" : dane_state_word(e.dane_state));
        for (int other = first + 1; dane != DANE_OFF && other <= DANE_FAILED; other++)
            if (same_states(dane, first, other))
                printf(", %s", dane_state_word((enum dane_state)other));
        printf(" | %s", matters ? sts[i].words : "any");
        print_row(with_sts(e, i));
    }
}

static void print_policy(void)
{
    static const char *const columns[] = {"DANE", "DNS says", "MTA-STS"};

    print_head(columns, countof(columns));
    print_group(DANE_OFF, DANE_NOT_ASKED);
    for (int dane = DANE_OPPORTUNISTIC; dane <= DANE_MANDATORY; dane++)
        for (int state = DANE_NOT_ASKED; state <= DANE_FAILED; state++) {
            bool printed = false;

            for (int before = DANE_NOT_ASKED; before < state; before++)
                printed = printed || same_states(dane, before, state);
            if (!printed)
                print_group(dane, state);
        }
}

static void print_exceptions(void)
{
    static const char *const columns[] = {"exception"};

    print_head(columns, countof(columns));
    printf("| none");
    print_row((struct tls_evidence){0});
    printf("| STARTTLS exemption list");
    print_row((struct tls_evidence){.exempt = true});
    printf("| STARTTLS required list");
    print_row((struct tls_evidence){.demanded = true});
    printf("| SMTP route with an outgoing SMTP Auth profile");
    print_row((struct tls_evidence){.authenticates = true});
    printf("| handshake failed within the hour (tls_failure_memory)");
    print_row((struct tls_evidence){.failed_lately = true});
}

static const char *step_words(enum tls_step step, enum tls_event event)
{
    switch (step) {
    case TLS_STEP_STARTTLS:
        return "STARTTLS";
    case TLS_STEP_SEND:
        return event == TLS_EV_DONE ? "sent" : "sent in clear";
    case TLS_STEP_RECONNECT:
        return "new connection, in clear";
    default:
        return "next host, else later";
    }
}

static void print_events(void)
{
    static const char *const words[] = {"before-220", "both", "after-220", "never"};

    printf(
        "| TLS | preferred_fallback | not offered | refused | handshake broke | proof missing |\n"
        "| --- | --- | --- | --- | --- | --- |\n");
    for (int level = DEST_TLS_PREFERRED; level <= DEST_TLS_REQUIRED; level++)
        for (int fallback = FALLBACK_BEFORE_220; fallback <= FALLBACK_NEVER; fallback++) {
            struct tls_verdict v =
                tls_verdict(&(struct tls_evidence){.level = level, .fallback = fallback});
            bool must = level == DEST_TLS_REQUIRED;

            if (must && fallback != FALLBACK_BEFORE_220)
                continue;
            v.must = TLS_CHECK_DANE;
            printf("| %s | %s | %s | %s | %s | %s |\n", must ? "TLS" : "TLS if offered",
                   must ? "any" : words[fallback],
                   step_words(tls_next(&v, TLS_EV_NOT_OFFERED, 0), TLS_EV_NOT_OFFERED),
                   step_words(tls_next(&v, TLS_EV_REFUSED, 0), TLS_EV_REFUSED),
                   step_words(tls_next(&v, TLS_EV_BROKEN, 0), TLS_EV_BROKEN),
                   must ? step_words(tls_next(&v, TLS_EV_DONE, 0), TLS_EV_DONE) : "-");
        }
}

static void print_rules(void)
{
    printf("| word | means |\n| --- | --- |\n");
    for (int r = 0; r < TLS_RULE_COUNT; r++)
        printf("| %s | %s |\n", tls_rule_word((enum tls_rule)r),
               tls_rule_sentence((enum tls_rule)r));
}

int main(void)
{
    puts("# Which security a delivery gets\n\n"
         "Printed by `make` from the code that decides (`daemon/tls_policy.c`); do not edit.\n\n"
         "The verdict is made for each MX host by itself, in the order of their preferences. A "
         "host that does not get the\n"
         "mail is followed by the next one; when none is left the message waits, and is returned "
         "to its sender when the\n"
         "bounce profile's time is over. Nothing is ever sent in clear because something stronger "
         "failed.\n\n"
         "Proofs: **DANE** the certificate matches a usable TLSA record (RFC 7672); **MX** it "
         "leads to a trusted authority\n"
         "and names the MX host (RFC 8461); **Verify** it leads to a trusted authority, and its "
         "common name is that of the\n"
         "host or the domain, or one of its DNS names is the domain's; **Hosted** the same, but "
         "DNS names alone count when\n"
         "there are any, and may name the domain, the host, or the address's host; **Route** it leads "
         "to a trusted authority\n"
         "and names the host of the SMTP route. \"look\": the result is logged, and\n"
         "the mail goes whatever it is. DANE and MTA-STS demand TLS 1.2 at least.\n\n"
         "## By destination setting\n");
    print_policy();
    puts("\nDNS says: `not-asked` the mail was accepted by the gateway's recipient access table "
         "rather than relayed for its\n"
         "sender; `excepted` tlsexceptions names the host; `routed` an SMTP route that is not "
         "USEDNS; `insecure-mx`,\n"
         "`insecure-host` the answer that named the host, or its addresses, are not signed; "
         "`no-records` securely none;\n"
         "`unusable` records that RFC 7672 does not allow for SMTP; `usable`; `failed` bogus, or "
         "no answer.\n"
         "MTA-STS is not asked for where a route leads elsewhere.\n\n"
         "## Lists and memory\n");
    print_exceptions();
    puts("\n## When TLS fails\n");
    print_events();
    puts("\n## Rules\n\nThe words stand in mail_logs, tlsexplain and records of attempts.\n");
    print_rules();
    return ferror(stdout) || fflush(stdout) == EOF;
}
