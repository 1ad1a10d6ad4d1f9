/* check_ldap.c - rules about directories and their queries. See check.h. */
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"
#include "store/check.h"
#include "store/ldap_filter.h"
#include "store/rules.h"

#define HOSTS_MAX 20u

bool check_ldap_filter(const struct field *f, const char *text, struct err *err)
{
    struct ldap_template *t;

    (void)f;
    if (!*text)
        return true; /* whether it may be empty is the field's to say */
    t = ldap_template_parse(text, err);
    if (!t)
        return false;
    ldap_template_free(&t);
    return true;
}

bool check_ldap_attribute(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    return !*text || ldap_attribute_check(text, err);
}

bool check_certificate_field(const struct field *f, const char *text, struct err *err)
{
    enum ldap_macro m;

    (void)f;
    if (ldap_macro_find(text, &m) && MACRO_BIT(m) & MACRO_CERTIFICATE_BITS)
        return true;
    return err_set(err, E_INVALID,
                   "\"%s\" is no field of a certificate; there are cn, sn, e, upn, dn, i and fp.",
                   str_printable(text));
}

/* ---- servers ---- */

static bool is_loopback(const char *host)
{
    struct addr a;

    if (addr_parse_port(host, 1, &a))
        return addr_is_loopback(&a);
    return str_ieq(host, "localhost") || str_istarts(host, "localhost:");
}

static const char *first_remote(const struct ldap_server *s)
{
    for (size_t i = 0; i < s->hosts.n; i++)
        if (!is_loopback(s->hosts.items[i]))
            return s->hosts.items[i];
    return NULL;
}

static bool asks_passwords(const struct config *cfg, const char *server)
{
    for (size_t i = 0; i < config_count(cfg, &section_ldap_query); i++) {
        const struct ldap_query *q = config_at(cfg, &section_ldap_query, i)->data;

        if (q->kind == LDAP_SMTPAUTH && str_eq(q->server, server))
            return true;
    }
    return false;
}

/* What crosses the network, and whom it is given to. */
static void check_secrecy(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct ldap_server *s = row->data;
    const char *remote = first_remote(s);

    if (!remote)
        return;
    if (s->security == LDAP_CLEAR && s->auth == LDAP_BIND_PASSWORD)
        check_warning(out, "security",
                      "The bind passphrase goes to %s in clear. Choose LDAPS or StartTLS.",
                      str_printable(remote));
    else if (s->security == LDAP_CLEAR && asks_passwords(cfg, row->name))
        check_warning(out, "security",
                      "The passwords of users go to %s, or come from there, in clear. Choose LDAPS "
                      "or StartTLS.",
                      str_printable(remote));
    if (s->security != LDAP_CLEAR && !s->verify)
        check_warning(
            out, "verify",
            "The certificate of %s is not verified: whoever answers in its place gets the "
            "passwords. Import its authority with certconfig certauthority, and verify.",
            str_printable(remote));
}

static void check_bind(const struct config *cfg, const struct ldap_server *s, struct check *out)
{
    const struct ldap_setup *setup = CONFIG_SINGLE(cfg, ldap_setup);

    if (s->auth == LDAP_BIND_PASSWORD && !*s->bind_dn)
        check_error(out, "bind_dn",
                    "Enter the bind username, or choose the authentication type \"anonymous\".");
    if (s->auth == LDAP_BIND_PASSWORD && !*s->bind_password)
        check_error(out, "bind_password",
                    "Enter the bind passphrase: with an empty one a directory binds nobody, and "
                    "says that all is well.");
    if (s->auth != LDAP_BIND_EXTERNAL)
        return;
    if (s->security == LDAP_CLEAR)
        check_error(out, "security",
                    "The authentication type \"external\" shows a certificate, which takes TLS: "
                    "choose LDAPS or StartTLS.");
    if (!setup || !*setup->certificate)
        check_error(out, "auth",
                    "The authentication type \"external\" shows a certificate: choose one with "
                    "ldapconfig setup, or another type.");
}

static unsigned port_of(const struct ldap_server *s, const char *host)
{
    unsigned deflt = s->port ? (unsigned)s->port : s->security == LDAP_LDAPS ? 636 : 389;
    const char *colon = strrchr(host, ':');
    struct addr a;

    if (addr_parse_port(host, deflt, &a))
        return a.port;
    return colon ? (unsigned)strtoul(colon + 1, NULL, 10) : deflt;
}

static void check_ports(const struct ldap_server *s, struct check *out)
{
    for (size_t i = 0; i < s->hosts.n; i++) {
        const char *host = s->hosts.items[i];
        unsigned port = port_of(s, host);

        if (s->security == LDAP_LDAPS && (port == 389 || port == 3268))
            check_warning(
                out, "port",
                "%s: port %u is that of LDAP without TLS. LDAPS is usually on %u; on port "
                "%u choose StartTLS.",
                str_printable(host), port, port == 389 ? 636 : 3269, port);
        if (s->security != LDAP_LDAPS && (port == 636 || port == 3269))
            check_warning(out, "port",
                          "%s: port %u is that of LDAPS. Choose the security LDAPS, or port %u.",
                          str_printable(host), port, port == 636 ? 389 : 3268);
        for (size_t k = 0; k < i; k++)
            if (str_ieq(s->hosts.items[k], host))
                check_error(out, "hosts", "The host %s is there twice.", str_printable(host));
    }
}

void check_ldap_server(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct ldap_server *s = row->data;

    if (s->hosts.n > HOSTS_MAX)
        check_error(out, "hosts", "There are %zu hosts; at most %u are possible.", s->hosts.n,
                    HOSTS_MAX);
    if (s->connect_timeout > s->query_timeout)
        check_warning(out, "connect_timeout",
                      "A query ends after %u seconds, before a connection (%u seconds) has failed: "
                      "no other host will be tried in time.",
                      (unsigned)s->query_timeout, (unsigned)s->connect_timeout);
    check_bind(cfg, s, out);
    check_ports(s, out);
    check_secrecy(cfg, row, out);
}

/* ---- queries ---- */

/* 0 when it cannot be parsed: its field's rule says so. */
static unsigned macros_of(const char *filter)
{
    struct ldap_template *t = *filter ? ldap_template_parse(filter, NULL) : NULL;
    unsigned macros = t ? ldap_template_macros(t) : 0;

    ldap_template_free(&t);
    return macros;
}

static bool parses(const char *filter)
{
    struct ldap_template *t = ldap_template_parse(filter, NULL);
    bool ok = t;

    ldap_template_free(&t);
    return ok;
}

static const char *first_macro(unsigned macros)
{
    for (unsigned m = 0; m < MACROS; m++)
        if (macros & MACRO_BIT(m))
            return ldap_macro_name(m);
    return "";
}

/* A filter about a user names him, or it is about everybody. */
static void check_user_filter(const char *field, const char *filter, struct check *out)
{
    unsigned macros = macros_of(filter);

    if (!*filter || !parses(filter))
        return;
    if (macros & MACRO_CERTIFICATE_BITS)
        check_error(
            out, field,
            "{%s} is of certificates, which certificate queries ask about; there is {u}, {d}, "
            "{a} and {t} here.",
            first_macro(macros & MACRO_CERTIFICATE_BITS));
    else if (!(macros & (MACRO_BIT(MACRO_USER) | MACRO_BIT(MACRO_ADDRESS))))
        check_error(out, field,
                    "It does not name the user: use {u} or {a}, as in (uid={u}). As it stands it "
                    "finds the same for everybody.");
}

static void check_certificate_filter(const struct ldap_query *q, struct check *out)
{
    unsigned macros = macros_of(q->filter), chosen = 0;

    for (size_t i = 0; i < q->fields.n; i++) {
        enum ldap_macro m;

        if (ldap_macro_find(q->fields.items[i], &m))
            chosen |= MACRO_BIT(m);
    }
    if (!chosen)
        check_error(out, "fields", "Choose the fields of the certificate that the query uses.");
    if (!*q->filter || !parses(q->filter))
        return;
    if (macros & MACRO_USER_BITS)
        check_error(
            out, "filter",
            "{%s} is of users who give a name and a password; a certificate has {cn}, {sn}, "
            "{e}, {upn}, {dn}, {i} and {fp}.",
            first_macro(macros & MACRO_USER_BITS));
    else if (!(macros & MACRO_CERTIFICATE_BITS))
        check_error(out, "filter",
                    "It does not name the certificate: use its fields, as in (caccn={cn}). As it "
                    "stands it finds the same for every certificate.");
    else if (macros & MACRO_CERTIFICATE_BITS & ~chosen)
        check_error(out, "filter",
                    "It uses {%s}, which is not among the chosen certificate fields: add it to "
                    "them.",
                    first_macro(macros & MACRO_CERTIFICATE_BITS & ~chosen));
    else if (chosen & ~macros)
        check_warning(out, "fields",
                      "The certificate field %s is chosen, but the query string does not use it.",
                      first_macro(chosen & ~macros));
    if (!*q->user_attribute)
        check_error(out, "user_attribute",
                    "Enter the user ID attribute: its value is who the certificate belongs to.");
    if (*q->allowance)
        check_warning(out, "allowance",
                      "An allowance query string has no effect here: it is asked about users "
                      "without a certificate, in queries of the kind smtpauth.");
}

void check_ldap_query(const struct config *cfg, const struct row *row, struct check *out)
{
    const struct ldap_query *q = row->data;
    const struct ldap_server *s = CONFIG_GET(cfg, ldap_server, q->server);

    if (q->kind == LDAP_CERTAUTH) {
        check_certificate_filter(q, out);
        return;
    }
    check_user_filter("filter", q->filter, out);
    check_user_filter("allowance", q->allowance, out);
    if (q->method != LDAP_METHOD_ATTRIBUTE)
        return;
    if (!*q->password_attribute)
        check_error(out, "password_attribute",
                    "Enter the attribute which contains the password, or choose the method "
                    "\"bind\".");
    if (s && s->server_type == LDAP_AD)
        check_warning(out, "method",
                      "Active Directory shows passwords to nobody; choose the method \"bind\".");
    if (s && s->auth == LDAP_BIND_ANONYMOUS)
        check_warning(out, "method",
                      "The server configuration %s binds anonymously: a directory that shows "
                      "passwords to anybody is not safe. Choose the method \"bind\", or another "
                      "authentication type.",
                      q->server);
}
