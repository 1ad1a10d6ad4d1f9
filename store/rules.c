/* rules.c - rules of one value, named by .check in schema/. See rules.h. */
#include "store/rules.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"
#include "store/ssl.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool consists_of(const char *text, const char *allowed)
{
    return text[strspn(text, allowed)] == '\0';
}

bool check_identifier(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (!*text || !strchr(LETTERS DIGITS "_", *text) || !consists_of(text, LETTERS DIGITS "_-."))
        return err_set(err, E_INVALID,
                       "The name must begin with a letter, a digit or \"_\" and contain only "
                       "letters, digits, \"_\", \"-\" and \".\".");
    return true;
}

bool check_profile_name(const struct field *f, const char *text, struct err *err)
{
    return check_identifier(f, text, err);
}

bool check_policy_name(const struct field *f, const char *text, struct err *err)
{
    if (*text == '$')
        return err_set(err, E_INVALID, "The name of a policy is written without \"$\".");
    return check_identifier(f, text, err);
}

bool check_fqdn(const struct field *f, const char *text, struct err *err)
{
    struct addr a;

    (void)f;
    if (addr_parse(text, &a) || !host_is_fqdn(text))
        return err_set(err, E_INVALID,
                       "The hostname must be fully qualified, such as mail3.example.com.");
    return true;
}

bool check_ip(const struct field *f, const char *text, struct err *err)
{
    struct addr a;

    (void)f;
    if (!addr_parse(text, &a) || *text == '[')
        return err_set(err, E_INVALID,
                       "The value must be an IP address such as 192.0.2.1 or 2001:db8::1.");
    return true;
}

bool check_ip_or_empty(const struct field *f, const char *text, struct err *err)
{
    return !*text || check_ip(f, text, err);
}

static bool is_port(const char *text)
{
    unsigned n = 0;

    if (!*text || !consists_of(text, DIGITS) || strlen(text) > 5)
        return false;
    for (; *text; text++)
        n = n * 10 + (unsigned)(*text - '0');
    return n >= 1 && n <= 65535;
}

bool check_resolver(const struct field *f, const char *text, struct err *err)
{
    const char *at = strchr(text, '@');
    char ip[ADDR_TEXT];
    struct addr a;

    (void)f;
    str_copy(ip, at && (size_t)(at - text) < sizeof(ip) ? (size_t)(at - text) + 1 : sizeof(ip),
             text);
    if (!addr_parse(ip, &a) || (at && !is_port(at + 1)))
        return err_set(err, E_INVALID,
                       "%s is not a DNS server; write its address, or ADDRESS@PORT.",
                       str_printable(text));
    return true;
}

/* An address without angle brackets; quoted local parts are left to the mail path. */
static bool is_mailbox(const char *text)
{
    const char *at = strrchr(text, '@');
    struct addr a;
    char ip[ADDR_TEXT];
    size_t n;

    if (!at || at == text || at - text > 64)
        return false;
    for (const char *p = text; p < at; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("()<>[]:;@\\,\"", *p))
            return false;
    n = strlen(at + 1);
    if (at[1] == '[' && at[n] == ']' && n - 1 < sizeof(ip)) {
        str_copy(ip, n - 1, at + 2);
        return addr_parse(ip, &a);
    }
    return host_check(at + 1, NULL);
}

bool check_address_or_empty(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (*text && !is_mailbox(text))
        return err_set(err, E_INVALID,
                       "The value must be an email address such as postmaster@example.com.");
    return true;
}

bool check_address_or_default(const struct field *f, const char *text, struct err *err)
{
    return str_eq(text, "default") || check_address_or_empty(f, text, err);
}

bool check_mail_address(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (!is_mailbox(text))
        return err_set(err, E_INVALID,
                       "The value must be an email address such as administrator@example.com.");
    return true;
}

/* An address, or a display name of ASCII and the address in angle brackets (RFC 5322 section 3.4). */
bool check_alert_from(const struct field *f, const char *text, struct err *err)
{
    const char *open = strrchr(text, '<');
    char address[256];
    size_t n;

    (void)f;
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return err_set(err, E_INVALID, "The From address may contain only printable ASCII.");
    if (!*text || is_mailbox(text))
        return true;
    n = open ? strlen(open) : 0;
    if (n > 2 && n < sizeof(address) && open[n - 1] == '>' && (open == text || open[-1] == ' ') &&
        !memchr(text, '<', (size_t)(open - text))) {
        str_copy(address, sizeof(address), open + 1);
        address[n - 2] = '\0';
        if (is_mailbox(address))
            return true;
    }
    return err_set(err, E_INVALID,
                   "The From address must look like alert@example.com or \"Gateway Alerts\" "
                   "<alert@example.com>.");
}

static bool is_word_of(const struct choice *choices, const char *what, const char *text,
                       struct err *err)
{
    AUTO(buf) struct buf words = BUF_INIT(400);

    if (str_eq(text, "all"))
        return true;
    for (const struct choice *c = choices; c->word; c++) {
        if (str_eq(text, c->word))
            return true;
        buf_printf(&words, ", %s", c->word);
    }
    return err_set(err, E_INVALID, "\"%s\" is no %s; there are: all%s.", str_printable(text), what,
                   buf_str(&words));
}

bool check_alert_class(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    return is_word_of(choices_alert_class, "alert class", text, err);
}

bool check_alert_severity(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    return is_word_of(choices_alert_severity, "severity", text, err);
}

bool check_domain_or_empty(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (*text && (!host_is_fqdn(text) || *text == '.'))
        return err_set(err, E_INVALID, "The value must be a domain name such as example.com.");
    return true;
}

/* "example.com", ".example.com" or "[192.0.2.1]". */
static bool is_domain_pattern(const char *text)
{
    char ip[ADDR_TEXT];
    struct addr a;
    size_t n = strlen(text);

    if (*text == '[') {
        if (n < 3 || n - 1 > sizeof(ip) || text[n - 1] != ']')
            return false;
        str_copy(ip, n - 1, text + 1);
        return addr_parse(ip, &a);
    }
    return host_check(text + (*text == '.'), NULL);
}

bool check_destination_name(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (str_eq(text, "ALL"))
        return err_set(err, E_INVALID, "Use the entry \"default\" for all other domains.");
    if (!str_eq(text, "default") && !is_domain_pattern(text))
        return err_set(err, E_INVALID,
                       "The value must be a domain such as example.com or .example.com.");
    return true;
}

bool check_route_domain(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (str_eq(text, "default"))
        return err_set(err, E_INVALID, "Use \"ALL\" for the default route.");
    if (!str_eq(text, "ALL") && !is_domain_pattern(text))
        return err_set(err, E_INVALID,
                       "The value must be a domain such as example.com or .example.com, or ALL.");
    return true;
}

bool check_route_host(const struct field *f, const char *text, struct err *err)
{
    const char *colon, *priority = strstr(text, "/pri=");
    char name[256], host[400];
    struct addr a;
    size_t name_len;

    (void)f;
    if (priority) {
        size_t digits = strlen(priority + 5);

        if (!digits || digits > 5 || !consists_of(priority + 5, DIGITS) ||
            strtoul(priority + 5, NULL, 10) > 65535 || (size_t)(priority - text) >= sizeof(host))
            goto refuse;
        str_copy(host, (size_t)(priority - text) + 1, text);
        text = host;
    }
    if ((!priority && (str_eq(text, "USEDNS") || str_eq(text, "/dev/null"))) || addr_parse(text, &a))
        return true;
    if (*text == '[') {
        const char *end = strchr(text, ']');

        colon = end && end[1] == ':' ? end + 1 : NULL;
        if (!end || (!colon && end[1]) || (colon && !is_port(colon + 1)))
            goto refuse;
        text++;
        name_len = (size_t)(end - text);
    } else {
        colon = strrchr(text, ':');
        if (colon && !is_port(colon + 1))
            goto refuse;
        name_len = colon ? (size_t)(colon - text) : strlen(text);
    }
    if (name_len == 0 || name_len >= sizeof(name))
        goto refuse;
    str_copy(name, name_len + 1, text);
    if (addr_parse(name, &a) || (host_check(name, NULL) && !consists_of(name, DIGITS ".")))
        return true; /* digits and dots alone are a mistyped address, no name (RFC 3696, 2) */
refuse:
    return err_set(err, E_INVALID,
                   "The value must be a host name, an IP address, either with \":PORT\" and \"/pri=0\" "
                   "to \"/pri=65535\" behind it, USEDNS or /dev/null.");
}

/* In the file of a table these stand where a host may stand. */
static bool is_access_rule(const char *text)
{
    static const char *const rules[] = {"ACCEPT", "RELAY", "REJECT", "TCPREFUSE", "CONTINUE"};

    for (size_t i = 0; i < countof(rules); i++)
        if (str_ieq(text, rules[i]))
            return true;
    return false;
}

bool check_sender(const struct field *f, const char *text, struct err *err)
{
    struct net n;

    (void)f;
    if (is_access_rule(text))
        return err_set(err, E_INVALID,
                       "%s is a rule of host access tables, so it cannot be a host; write its full name.", text);
    if (str_eq(text, "ALL") || net_parse(text, &n, NULL))
        return true;
    /* digits, dots, dashes and slashes only: it was meant as an address; net_parse says what is
     * wrong with it */
    if (consists_of(text, DIGITS "./-:") || strchr(text, '/')) {
        if (!net_parse(text, &n, err) && err && strlen(err->text) + 1 < sizeof(err->text))
            str_copy(err->text + strlen(err->text), 2, ".");
        return false;
    }
    if (host_check(text + (*text == '.'), NULL))
        return true;
    return err_set(err, E_INVALID,
                   "%s is not a host: use a host name, a partial host name such as .example.com, "
                   "an IP address, a CIDR block, a range or a partial address.",
                   str_printable(text));
}

bool check_rcpt_pattern(const struct field *f, const char *text, struct err *err)
{
    size_t n = strlen(text);

    (void)f;
    if (str_ieq(text, "ALL"))
        return err_set(
            err, E_INVALID,
            "A table that accepts all recipients would be an open relay; name the domains.");
    if (n > 1 && text[n - 1] == '@') {
        char probe[300];

        if (n + 2 < sizeof(probe)) {
            memcpy(probe, text, n);
            memcpy(probe + n, "x", 2);
            if (is_mailbox(probe))
                return true;
        }
    } else if (strchr(text, '@') ? is_mailbox(text) : is_domain_pattern(text)) {
        return true;
    }
    return err_set(err, E_INVALID,
                   "The value must be a domain, a partial domain (.example.com), a user "
                   "(postmaster@) or a full address.");
}

bool check_ciphers(const struct field *f, const char *text, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    bool ok = ctx && ssl_set_ciphers(ctx, text, err);

    (void)f;
    SSL_CTX_free(ctx);
    return ok;
}

bool check_groups(const struct field *f, const char *text, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    bool ok = ctx && ssl_set_groups(ctx, text, err);

    (void)f;
    SSL_CTX_free(ctx);
    return ok;
}

bool check_date(const struct field *f, const char *text, struct err *err)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;
    bool leap;

    (void)f;
    if (strlen(text) != 10 || text[4] != '-' || text[7] != '-' || strspn(text, DIGITS "-") != 10 ||
        sscanf(text, "%4d-%2d-%2d", &year, &month, &day) != 3)
        return err_set(err, E_INVALID, "The value must be a date such as 2027-03-31.");
    leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 2000 || month < 1 || month > 12 || day < 1 ||
        day > days[month - 1] + (month == 2 && leap))
        return err_set(err, E_INVALID, "There is no day %s.", text);
    return true;
}

/* --- receiving ------------------------------------------------------------------------------- */

bool check_sender_address(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (strchr(text, '@') ? is_mailbox(text) : is_domain_pattern(text))
        return true;
    return err_set(err, E_INVALID, "%s is no sender: use an address, a domain, or a partial domain such as .example.com.",
                   str_printable(text));
}

bool check_host_or_empty(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (*text && !host_check(text, NULL))
        return err_set(err, E_INVALID, "The value must be a host name such as mail.example.com.");
    return true;
}

/* One line of an SMTP reply (RFC 5321 section 4.2): printable ASCII. */
bool check_response_text(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return err_set(err, E_INVALID, "The response may contain only printable ASCII, in one line.");
    return true;
}

bool check_language_template(const struct field *f, const char *text, struct err *err)
{
    static const char language[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-";
    const char *colon = strchr(text, ':');

    if (!colon || colon == text || strspn(text, language) != (size_t)(colon - text))
        return err_set(err, E_INVALID, "The value must look like \"de:German\" or \"fr-CA:French\": a language tag "
                                       "and the name of a template.");
    return check_identifier(f, colon + 1, err);
}

bool check_template(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    for (const char *p = text; *p; p += *p == '\n') {
        size_t n = strcspn(p, "\n");

        if (n > 900)
            return err_set(err, E_INVALID, "A line has %zu bytes; at most 900 are allowed.", n);
        p += n;
    }
    return true;
}

bool check_time_of_day(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (strlen(text) == 5 && text[2] == ':' && strspn(text, DIGITS) == 2 && strspn(text + 3, DIGITS) == 2 &&
        strncmp(text, "24", 2) < 0 && text[3] < '6')
        return true;
    return err_set(err, E_INVALID, "The time must be HH:MM, from 00:00 to 23:59.");
}

bool check_auth_mechanism(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (str_ieq(text, "plain") || str_ieq(text, "login") || str_ieq(text, "scram-sha-256"))
        return true;
    return err_set(err, E_INVALID, "\"%s\" is no mechanism; there are: plain, login, scram-sha-256.",
                   str_printable(text));
}

/* HOST or HOST:PORT; an IPv6 address with a port stands in brackets. */
static bool is_host_port(const char *text)
{
    const char *end = *text == '[' ? strchr(text, ']') : NULL;
    const char *colon = end ? (end[1] == ':' ? end + 1 : NULL) : strrchr(text, ':');
    char name[256];
    struct addr a;
    size_t n;

    if (addr_parse(text, &a))
        return true;
    if ((end && end[1] && !colon) || (colon && !is_port(colon + 1)))
        return false;
    n = end ? (size_t)(end - text - 1) : colon ? (size_t)(colon - text) : strlen(text);
    if (!n || n >= sizeof(name))
        return false;
    str_copy(name, n + 1, text + (end != NULL));
    if (addr_parse(name, &a))
        return true;
    return !end && host_check(name, NULL) && !consists_of(name, DIGITS ".");
}

bool check_ldap_host(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (!is_host_port(text))
        return err_set(err, E_INVALID, "%s is no server: use a host name or an IP address, either with \":PORT\" behind it.",
                       str_printable(text));
    return true;
}

bool check_forward_server(const struct field *f, const char *text, struct err *err)
{
    return check_ldap_host(f, text, err);
}

bool check_bv_number(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (strlen(text) != 1 || !strchr(DIGITS, *text))
        return err_set(err, E_INVALID, "The number of a key is one digit, 0 to 9.");
    return true;
}

/* "Name: value" (RFC 5322 section 2.2), in one line of ASCII. */
bool check_header_line(const struct field *f, const char *text, struct err *err)
{
    const char *colon = strchr(text, ':');

    for (const char *p = text; p < colon; p++)
        if (*p <= ' ' || *p > '~')
            colon = NULL;
    if (!colon || colon == text || !check_response_text(f, text, NULL))
        return err_set(err, E_INVALID, "The header must look like \"X-Invalid-Bounce: yes\".");
    return true;
}
