/* tlsexplain.c - why does mail for a domain go the way it goes; why did a message? */
#include "cmds/verify.h"

#include <stdlib.h>
#include <string.h>

#define LABEL 20 /* columns before the values */

/* --- layout --- */

static void row(struct ui *ui, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "  Label             value", broken at blanks, continued under the value. */
static void row(struct ui *ui, const char *label, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(8000), shown = BUF_INIT(32000);
    const char *p;
    size_t width = ui_width(ui) ? ui_width(ui) : 79;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    str_escape_again(&shown, text.p, text.n);
    p = buf_str(&shown);
    width = width > LABEL + 20 ? width - LABEL : 20;
    do {
        size_t n = strlen(p), cut = n;

        if (n > width) {
            for (cut = width; cut && p[cut] != ' '; cut--)
                ;
            if (!cut)
                cut = strcspn(p, " "); /* a word that is longer stays whole */
        }
        out_line(ui, "  %-*s%.*s", LABEL - 2, label, (int)cut, p);
        label = "";
        p += cut;
        p += *p == ' ';
    } while (*p);
}

static void heading(struct ui *ui, const char *text)
{
    out_line(ui, "%s", "");
    out_line(ui, "%s", text);
}

static const char *signed_text(const char *security)
{
    return str_eq(security, "secure") ? "signed" : "not signed";
}

/* --- a domain --- */

static void print_settings(struct ui *ui, const json_t *e)
{
    const json_t *s;
    const char *from;
    size_t i;

    heading(ui, "Destination controls");
    row(ui, "Entry", "%s", json_str(e, "entry", ""));
    json_array_foreach(json_object_get(e, "settings"), i, s)
    {
        from = json_str(s, "from", "");
        row(ui, json_str(s, "label", ""), "%s (%s%s)", json_str(s, "text", ""),
            str_eq(from, "built in") || str_eq(from, "TLS is No") ? "" : "from ", from);
    }
}

static void print_way(struct ui *ui, const json_t *e)
{
    const json_t *r = json_object_get(e, "route"), *mx = json_object_get(e, "mx");
    const char *kind = json_str(r, "kind", "mx"), *entry = json_str(r, "entry", "");

    heading(ui, "Way");
    if (str_eq(kind, "discard"))
        row(ui, "SMTP route", "%s: the mail is thrown away", entry);
    else if (str_eq(kind, "route"))
        row(ui, "SMTP route", "%s to %s", entry, json_str(r, "hosts", ""));
    else if (*entry)
        row(ui, "SMTP route", "%s: USEDNS", entry);
    else
        row(ui, "SMTP route", "none applies");
    if (!*json_str(mx, "status", ""))
        return;
    row(ui, "MX records", "%s, %s, to be kept for %lld seconds", json_str(mx, "status", ""),
        signed_text(json_str(mx, "security", "")), (long long)json_int(mx, "ttl", 0));
    if (*json_str(mx, "canonical", ""))
        row(ui, "Alias of", "%s", json_str(mx, "canonical", ""));
    if (*json_str(mx, "why", ""))
        row(ui, "", "%s", json_str(mx, "why", ""));
}

static void print_sts(struct ui *ui, const json_t *e)
{
    const json_t *s = json_object_get(e, "mta_sts");
    const char *state = json_str(s, "state", "");
    AUTO(buf) struct buf mx = BUF_INIT(4000);
    const json_t *pattern;
    size_t i;

    heading(ui, "MTA-STS");
    if (*json_str(s, "exception", ""))
        row(ui, "Policy", "not asked for: exception %s", json_str(s, "exception", ""));
    else
        row(ui, "Policy", "%s", str_eq(state, "not-asked") ? "not asked for" : state);
    if (*json_str(s, "why", ""))
        row(ui, "", "%s", json_str(s, "why", ""));
    if (!*json_str(s, "id", ""))
        return;
    json_array_foreach(json_object_get(s, "mx"), i, pattern)
    {
        buf_printf(&mx, "%s%s", i ? ", " : "", json_string_value(pattern));
    }
    row(ui, "Id", "%s, fetched %s, good for %lld seconds", json_str(s, "id", ""),
        json_str(s, "fetched", ""), (long long)json_int(s, "max_age", 0));
    row(ui, "Hosts", "%s", buf_str(&mx));
}

static void print_tlsa(struct ui *ui, const json_t *t)
{
    const char *note = json_str(t, "note", ""), *why = json_str(t, "why", "");
    const json_t *r;
    size_t i;

    row(ui, "TLSA", "%s%s%s%s", json_str(t, "sentence", ""), *note ? " (" : "", note,
        *note ? ")" : "");
    if (*why && !json_array_size(json_object_get(t, "records"))) /* which say it themselves */
        row(ui, "", "%s", why);
    if (json_array_size(json_object_get(t, "records")))
        row(ui, "", "at %s", json_str(t, "name", ""));
    json_array_foreach(json_object_get(t, "records"), i, r)
    {
        if (json_bool_of(r, "usable", false))
            row(ui, "", "%s", json_str(r, "record", ""));
        else
            row(ui, "", "%s unusable: %s", json_str(r, "record", ""), json_str(r, "why", ""));
    }
}

static void print_verdict(struct ui *ui, const json_t *a)
{
    const char *reason = json_str(a, "reason", json_str(a, "sentence", ""));

    row(ui, "Decided by", "%s: %s", json_str(a, "rule", ""), reason);
    row(ui, "Verdict", "%s", json_str(a, "verdict", ""));
}

static void print_host(struct ui *ui, const json_t *h, size_t number, bool routed)
{
    const json_t *addresses = json_object_get(h, "addresses"), *a, *x, *before = NULL;
    AUTO(buf) struct buf text = BUF_INIT(4000);
    size_t i, k;

    buf_printf(&text, "Host %zu: %s", number, str_printable(json_str(h, "host", "")));
    heading(ui, buf_str(&text));
    if (!routed && json_object_get(h, "mx_secure"))
        row(ui, "MX record", "preference %lld, %s", (long long)json_int(h, "preference", 0),
            json_bool_of(h, "mx_secure", false) ? "signed" : "not signed");
    if (*json_str(h, "canonical", ""))
        row(ui, "Alias of", "%s", json_str(h, "canonical", ""));
    buf_reset(&text);
    json_array_foreach(addresses, i, a)
    {
        buf_printf(&text, "%s%s", i ? ", " : "", json_str(a, "address", ""));
    }
    if (text.n)
        row(ui, "Addresses", "%s (%s)", buf_str(&text), signed_text(json_str(h, "security", "")));
    else
        row(ui, "Addresses", "none that can be used%s%s", *json_str(h, "why", "") ? ": " : "",
            json_str(h, "why", ""));
    if (json_object_get(h, "tlsa"))
        print_tlsa(ui, json_object_get(h, "tlsa"));
    if (json_object_get(h, "in_policy"))
        row(ui, "MTA-STS", "%s",
            json_bool_of(h, "in_policy", false) ? "the policy names it"
                                                : "the policy does not name it");
    json_array_foreach(addresses, i, a)
    {
        /* Addresses of a host differ only by exceptions and failed handshakes. */
        if (before && str_eq(json_str(a, "verdict", ""), json_str(before, "verdict", "")) &&
            str_eq(json_str(a, "rule", ""), json_str(before, "rule", "")))
            continue;
        if (before)
            row(ui, "At", "%s", json_str(a, "address", ""));
        before = a;
        json_array_foreach(json_object_get(a, "exceptions"), k, x)
        {
            row(ui, "Exception", "%s (%s), until %s, by %s: %s", json_str(x, "name", ""),
                json_str(x, "text", ""), json_str(x, "ends", ""), json_str(x, "owner", ""),
                json_str(x, "reason", ""));
        }
        if (json_bool_of(a, "failed_lately", false))
            row(ui, "Memory", "its TLS handshake failed less than an hour ago");
        print_verdict(ui, a);
    }
}

/* --- attempts --- */

static void print_tried(struct ui *ui, const json_t *h)
{
    static const struct {
        const char *end, *text;
    } ends[] = {
        {"used",        "The mail was handed over"                    },
        {"refused",     "Not tried"                                   },
        {"unreachable", "No session"                                  },
        {"insecure",    "Left for want of security"                   },
        {"route",       "No host was found"                           },
        {"down",        "Not tried, for all hosts failed a moment ago"},
    };
    static const struct {
        const char *word, *text;
    } levels[] = {
        {"clear",     "in clear"                           },
        {"encrypted", "encrypted, certificate not verified"},
        {"verified",  "encrypted, certificate verified"    },
        {"mta-sts",   "encrypted, verified for MTA-STS"    },
        {"dane",      "encrypted, verified by DANE"        },
    };
    const char *end = json_str(h, "end", ""), *why = json_str(h, "why", ""),
               *address = json_str(h, "address", "");
    const char *level = "", *dane = json_str(h, "dane_state", "not-asked"),
               *sts = json_str(h, "sts_state", "not-asked");

    for (size_t i = 0; i < countof(ends); i++)
        if (str_eq(end, ends[i].end))
            end = ends[i].text;
    for (size_t i = 0; i < countof(levels); i++)
        if (str_eq(json_str(h, "tls", ""), levels[i].word))
            level = levels[i].text;
    if (*json_str(h, "host", ""))
        row(ui, "Host", "%s%s%s%s", json_str(h, "host", ""), *address ? " [" : "", address,
            *address ? "]" : "");
    row(ui, "Outcome", "%s%s%s%s%s", end, *level ? ", " : "", level, *why ? ": " : "", why);
    if (*json_str(h, "protocol", ""))
        row(ui, "Session", "%s %s%s%s%s", json_str(h, "protocol", ""), json_str(h, "cipher", ""),
            *json_str(h, "matched", "") ? ", certificate matched " : "", json_str(h, "matched", ""),
            json_bool_of(h, "reused", false) ? ", open already" : "");
    if (!*json_str(h, "rule", ""))
        return;
    row(ui, "Settings", "entry %s: TLS %s, DANE %s",
        str_eq(json_str(h, "entry", ""), "default") ? "DEFAULT" : json_str(h, "entry", ""),
        json_str(h, "level", ""), json_str(h, "dane", "none"));
    row(ui, "Found", "DANE %s, MTA-STS %s%s", dane, sts,
        str_eq(sts, "not-asked") || str_eq(sts, "excepted") ? ""
        : json_bool_of(h, "sts_lists_host", false)          ? ", which names the host"
                                                            : "");
    print_verdict(ui, h);
}

static void print_attempt(struct ui *ui, const json_t *a)
{
    AUTO(buf) struct buf text = BUF_INIT(2000);
    const json_t *hosts = json_object_get(a, "hosts"), *h;
    char date[40];
    size_t i;

    buf_printf(&text, "MID %lld for %s, %s", (long long)json_int(a, "mid", 0),
               str_printable(json_str(a, "domain", "")),
               clock_log_date(json_int(a, "time_us", 0), date));
    if (json_int(a, "dcid", 0))
        buf_printf(&text, ", DCID %lld", (long long)json_int(a, "dcid", 0));
    heading(ui, buf_str(&text));
    row(ui, "Recipients", "%lld delivered, %lld deferred, %lld bounced",
        (long long)json_int(a, "delivered", 0), (long long)json_int(a, "deferred", 0),
        (long long)json_int(a, "bounced", 0));
    if (json_int(a, "code", 0))
        row(ui, "Reply", "%lld %s", (long long)json_int(a, "code", 0), json_str(a, "text", ""));
    else if (*json_str(a, "text", ""))
        row(ui, "Reason", "%s", json_str(a, "text", ""));
    if (!hosts)
        row(ui, "Hosts", "not kept any more");
    json_array_foreach(hosts, i, h)
    {
        if (i)
            out_line(ui, "%s", "");
        print_tried(ui, h);
    }
}

static void explain_mid(struct ui *ui, struct session *s, const char *number)
{
    json_t *args = json_object(), *data, *a;
    char *end;
    long long mid = strtoll(number, &end, 10);
    size_t i;

    if (*end || end == number || mid < 1) {
        json_decref(args);
        ui_fail(ui, E_INVALID, "The MID \"%s\" must be an integer from 1 on.",
                str_printable(number));
        return;
    }
    json_put_int(args, "mid", mid);
    data = session_call(s, ui, "tls.attempts", args);
    if (!data)
        return;
    if (!json_array_size(json_object_get(data, "attempts")))
        ui_fail(ui, E_NOT_FOUND,
                "No delivery attempt of MID %lld is recorded: it has not been tried, or the record "
                "is not kept any more.",
                mid);
    else
        json_array_foreach(json_object_get(data, "attempts"), i, a)
        {
            print_attempt(ui, a);
        }
    out_data(ui, data);
}

/* --- the command --- */

static bool keep_explanation(void *arg, const json_t *data)
{
    json_t **kept = arg;

    json_decref(*kept);
    *kept = json_deep_copy(data);
    json_object_del(*kept, "event");
    json_object_del(*kept, "line");
    return true;
}

static void print_explanation(struct ui *ui, const json_t *e)
{
    const json_t *hosts = json_object_get(e, "hosts"), *attempts = json_object_get(e, "attempts"),
                 *o;
    size_t i;

    out_line(ui, "Mail for %s", str_printable(json_str(e, "domain", "")));
    out_prose(ui, json_str(e, "summary", ""));
    if (*json_str(e, "problem", ""))
        out_prose(ui, json_str(e, "problem", ""));
    print_settings(ui, e);
    print_way(ui, e);
    print_sts(ui, e);
    json_array_foreach(hosts, i, o)
    {
        print_host(ui, o, i + 1,
                   str_eq(json_str(json_object_get(e, "route"), "kind", "mx"), "route"));
    }
    if (json_array_size(attempts))
        heading(ui, json_array_size(attempts) > 1 ? "The last attempts" : "The last attempt");
    json_array_foreach(attempts, i, o)
    {
        print_attempt(ui, o);
    }
    if (json_array_size(json_object_get(e, "advice")))
        heading(ui, "Advice");
    json_array_foreach(json_object_get(e, "advice"), i, o)
    {
        AUTO(buf) struct buf text = BUF_INIT(8000);

        buf_str_add(&text, "- ");
        str_escape_again(&text, json_string_value(o), json_string_length(o));
        out_prose(ui, buf_str(&text));
    }
}

static bool accept_subject(void *unused, const char *answer, struct err *err)
{
    if (str_ieq(answer, "mid") || str_istarts(answer, "mid "))
        return true;
    return accept_domain(unused, answer, err);
}

static void run(struct ui *ui, struct session *s)
{
    const struct ui_question q = {
        .text = "Enter the domain to explain, or \"mid\" and the number of a message:",
        .key = "domain",
        .help = "For a domain everything is looked up now and nothing is sent. For a message "
                "the records of its delivery attempts are shown.",
        .accept = accept_subject};
    const char *last = ui_option(ui, "--last");
    bool accepted = ui_flag(ui, "--accepted");
    AUTO(str) char *subject = xstrdup(ui_ask(ui, &q));
    json_t *args, *explanation = NULL;

    if (ui_failed(ui))
        return;
    if (str_ieq(subject, "mid")) {
        AUTO(str) char *number = xstrdup(ask_some(ui, "mid", "Enter the number of the message."));

        if (!ui_failed(ui) && ui_end_of_words(ui))
            explain_mid(ui, s, number);
        return;
    }
    if (str_istarts(subject, "mid ")) {
        if (ui_end_of_words(ui))
            explain_mid(ui, s, str_trim(subject + 4));
        return;
    }
    args = json_object();
    json_put_str(args, "domain", subject);
    json_put(args, "accepted", json_boolean(accepted));
    json_put_int(args, "last", last ? strtol(last, NULL, 10) : 1);
    if (!ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    if (session_stream(s, ui, "tls.explain", args, keep_explanation, &explanation) && explanation) {
        print_explanation(ui, explanation);
        out_data(ui, json_incref(explanation));
    }
    json_decref(explanation);
}

const struct command cmd_tlsexplain = {
    .name = "tlsexplain",
    .help = "Show why mail is, or was, encrypted the way it is",
    .usage = "tlsexplain DOMAIN [--last N] [--accepted]\ntlsexplain mid MID",
    .detail = "For a domain: the destination controls that apply and where each value comes from, "
              "the way the mail takes, "
              "what DNSSEC, DANE and MTA-STS say, exceptions, and for each mail host the rule that "
              "decided and the "
              "verdict. Everything is looked up as for a delivery, and nothing is sent. --last "
              "shows so many of the last "
              "delivery attempts (1 unless said). "
              "--accepted looks at mail that a policy accepts rather than relays, which DANE is "
              "not used for. For a message: the record of each of its "
              "delivery attempts.",
    .roles = ROLE_READONLY,
    .run = run,
};
