/* ldap_client.c - see ldap_client.h. */
#include "daemon/ldap_client.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conn.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/peer_cert.h"
#include "daemon/tls.h"
#include "daemon/trust.h"

#define REQUEST_MAX (256u << 10) /* bytes; a filter has a thousand, with values a few times that */
#define MESSAGES_MAX 200u /* that answer one search: references, mostly */
#define VALUES_MAX 20u /* of an attribute: a user with more passwords is not looked at further */

void ldap_result_print(const struct ldap_result *r, char out[300])
{
    char name[80];

    ldap_result_text(r->code, name);
    snprintf(out, 300, "%s%s%s%s", name, *r->text ? " (" : "", r->text, *r->text ? ")" : "");
}

static void strlist_cleanse(struct strlist *l)
{
    for (size_t i = 0; i < l->n; i++)
        OPENSSL_cleanse(l->items[i], strlen(l->items[i]));
    strlist_free(l);
}

void ldap_found_free(struct ldap_found *f)
{
    strlist_cleanse(&f->values);
    str_free(&f->dn);
}

/* ---- opening ---- */

/* RFC 4513 section 3.1.3: the name the administrator wrote, no other. */
static bool prepare(SSL *ssl, void *arg, struct err *err)
{
    const char *host = arg;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_STORE *store = running_trust();
    struct addr literal;
    bool ok;

    SSL_set1_verify_cert_store(ssl, store);
    X509_STORE_free(store);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (addr_parse(host, &literal))
        ok = X509_VERIFY_PARAM_set1_ip(param, literal.ip, literal.family == AF_INET ? 4 : 16) == 1;
    else
        ok = X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
    return ok || err_set(err, E_TLS, "\"%s\" cannot be looked for in a certificate", host);
}

/* The certificate, before anything is sent. */
static bool verify(const struct ldap_access *a, SSL *ssl, const char *host, struct err *err)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    long result = SSL_get_verify_result(ssl);
    struct addr literal;
    char why[200];

    if (!cert)
        return err_set(err, E_TLS, "the server shows no certificate");
    if (result != X509_V_OK)
        return err_set(err, E_TLS, "its certificate is not valid: %s",
                       X509_verify_cert_error_string(result));
    if (a->fqdn && !peer_cert_fqdn_ok(cert, why, sizeof(why)))
        return err_set(err, E_TLS, "its certificate: %s", why);
    if (a->x509 && !addr_parse(host, &literal) &&
        !peer_cert_x509_ok(cert, &host, 1, why, sizeof(why)))
        return err_set(err, E_TLS, "its certificate: %s", why);
    return true;
}

/* YIELDS */
static bool secure(struct ldap_client *c, const struct ldap_access *a, const char *host,
                   struct err *err)
{
    if (a->verify) {
        c->trust = running_trust_id();
        conn_before_handshake(c->conn, prepare, (void *)(uintptr_t)host);
    }
    return conn_start_tls_client(c->conn, a->tls, host, err) &&
           (!a->verify || verify(a, conn_ssl(c->conn), host, err));
}

/* YIELDS. Any of the host's addresses that takes the connection. */
static struct conn *reach(const struct ldap_access *a, const struct dns_addrs *answer,
                          unsigned port, msec_t deadline, struct err *err)
{
    msec_t now = clock_now();

    for (unsigned i = 0; i < answer->n; i++) {
        struct addr to = answer->addrs[i];
        /* One that is mute must leave some of the time to the next. */
        msec_t until = now + (deadline - now) * (i + 1) / answer->n;
        struct conn *c;

        to.port = port;
        if (a->from.family && a->from.family != to.family) {
            err_set(err, E_NET, "the source address of ldapconfig setup is of another family");
            continue;
        }
        c = conn_connect(&to, a->from.family ? &a->from : NULL, until, err);
        if (c || fiber_interrupted())
            return c;
    }
    return NULL;
}

/* YIELDS */
static struct conn *look_up_and_reach(const struct ldap_access *a, const char *host, unsigned port,
                                      msec_t deadline, struct err *err)
{
    struct dns_addrs answer = {0};
    struct conn *conn = NULL;
    struct addr literal;

    if (addr_parse(host, &literal)) {
        answer.n = 1;
        answer.addrs = &literal;
        return reach(a, &answer, port, deadline, err);
    }
    if (!dns_addresses(host, true, true, deadline, &answer, err)) {
        err->code = E_DNS;
        err_wrap(err, "DNS lookup failure");
    } else if (!answer.n) {
        err_set(err, E_DNS, "DNS lookup failure: %s", dns_status_name(answer.status));
    } else {
        conn = reach(a, &answer, port, deadline, err);
    }
    dns_addrs_free(&answer);
    return conn;
}

static bool start_tls(struct ldap_client *c, struct err *err);

struct ldap_client *ldap_open(const struct ldap_access *a, const char *host, unsigned port,
                              msec_t deadline, struct err *err)
{
    struct ldap_client *c = xcalloc(1, sizeof(*c));
    bool ok;

    c->conn = look_up_and_reach(a, host, port, deadline, err);
    if (!c->conn) {
        free(c);
        return NULL;
    }
    conn_set_deadline(c->conn, deadline);
    ok = a->security != LDAP_STARTTLS || start_tls(c, err);
    if (ok && a->security != LDAP_CLEAR)
        ok = secure(c, a, host, err);
    if (!ok)
        ldap_close(&c);
    return c;
}

/* ---- dialog ---- */

static bool fail(struct ldap_client *c, enum err_code code, struct err *err, const char *text)
{
    conn_fail(c->conn, code, "%s", text);
    return err_set(err, code, "%s", text);
}

static void take_result(const struct ldap_message *m, struct ldap_result *r)
{
    AUTO(buf) struct buf shown = BUF_INIT(1 << 20);
    struct slice text = m->text;

    while (text.n && strchr("\r\n \t", text.p[text.n - 1])) /* NUL as well: Active Directory's */
        text.n--;
    str_escape(&shown, text.p, text.n < 150 ? text.n : 150);
    r->code = m->code;
    str_copy(r->text, sizeof(r->text), buf_str(&shown));
}

/* The server hangs up, and says why (RFC 4511 section 4.4.1). */
static bool disconnected(struct ldap_client *c, const struct ldap_message *m, struct err *err)
{
    struct ldap_result r;
    char text[300];

    take_result(m, &r);
    ldap_result_print(&r, text);
    conn_fail(c->conn, E_CLOSED, "the server ends the connection: %s", text);
    return err_set(err, E_CLOSED, "the server ends the connection: %s", text);
}

/* YIELDS. The next message; its bytes stay where they are until *length of them are consumed. */
static bool read_message(struct ldap_client *c, struct ldap_message *m, size_t *length,
                         struct err *err)
{
    for (;;) {
        struct slice in = conn_peek(c->conn);
        struct err why = {0};

        if (!ldap_frame(in, length, &why))
            return fail(c, why.code, err, why.text);
        if (*length) {
            in.n = *length;
            if (!ldap_parse(in, m, &why))
                return fail(c, why.code, err, why.text);
            if (m->id == 0 && m->kind == LDAP_EXTENDED)
                return disconnected(c, m, err);
            if (m->id != c->last_id)
                return fail(c, E_PROTOCOL, err, "the server answers what was not asked");
            return true;
        }
        if (!conn_fill(c->conn)) {
            const struct err *e = conn_err(c->conn);

            return err_set(err, e->code, "%s",
                           e->code == E_TIMEOUT ? "no answer in time" : e->text);
        }
    }
}

/* Sends what put makes of the next id. The bytes may hold a password. */
static void send_request(struct ldap_client *c, struct buf *request)
{
    conn_write(c->conn, request->p, request->n);
    if (request->p)
        OPENSSL_cleanse(request->p, request->cap);
    buf_free(request);
}

static int next_id(struct ldap_client *c, msec_t deadline)
{
    msec_t left = deadline - clock_now();

    conn_set_deadline(c->conn, deadline);
    conn_set_timeout(c->conn, left > 1 ? left + SECONDS(1) : SECONDS(1));
    return ++c->last_id;
}

/* YIELDS. The one message that answers the request. */
static bool read_result(struct ldap_client *c, enum ldap_answer kind, struct ldap_result *r,
                        struct err *err)
{
    struct ldap_message m;
    size_t length;

    if (!read_message(c, &m, &length, err))
        return false;
    if (m.kind != kind)
        return fail(c, E_PROTOCOL, err, "the server answers what was not asked");
    take_result(&m, r);
    conn_consume(c->conn, length);
    return true;
}

/* YIELDS. RFC 4511 section 4.14; what lies in clear behind the answer is conn's to refuse. */
static bool start_tls(struct ldap_client *c, struct err *err)
{
    struct buf request = BUF_INIT(REQUEST_MAX);
    struct ldap_result r;
    char text[300];

    ldap_put_starttls(&request, ++c->last_id);
    send_request(c, &request);
    if (!read_result(c, LDAP_EXTENDED, &r, err))
        return err_wrap(err, "StartTLS");
    if (r.code == LDAP_R_SUCCESS)
        return true;
    ldap_result_print(&r, text);
    return err_set(err, E_TLS, "the server refuses StartTLS: %s", text);
}

static bool bind_refused(const struct ldap_result *r, struct err *err)
{
    char text[300];

    if (r->code == LDAP_R_SUCCESS)
        return true;
    ldap_result_print(r, text);
    return err_set(err, E_DENIED, "LDAP authentication failed: %s", text);
}

bool ldap_bind_service(struct ldap_client *c, const struct ldap_access *a, msec_t deadline,
                       struct err *err)
{
    struct buf request = BUF_INIT(REQUEST_MAX);
    bool password = a->auth == LDAP_BIND_PASSWORD;
    int id = next_id(c, deadline);
    struct ldap_result r;

    if (a->auth == LDAP_BIND_EXTERNAL)
        ldap_put_bind_external(&request, id);
    else
        ldap_put_bind(&request, id, password ? a->bind_dn : "", password ? a->bind_password : "");
    send_request(c, &request);
    return read_result(c, LDAP_BIND_ANSWER, &r, err) && bind_refused(&r, err);
}

bool ldap_bind_user(struct ldap_client *c, const char *dn, const char *password, msec_t deadline,
                    struct ldap_result *r, struct err *err)
{
    struct buf request = BUF_INIT(REQUEST_MAX);

    assert(*password && *dn);
    ldap_put_bind(&request, next_id(c, deadline), dn, password);
    send_request(c, &request);
    return read_result(c, LDAP_BIND_ANSWER, r, err);
}

static void take_entry(const struct ldap_search *s, const struct ldap_message *m,
                       struct ldap_found *out)
{
    if (out->entries++)
        return;
    out->dn = slice_dup(m->dn);
    if (strlen(out->dn) != m->dn.n)
        str_free(&out->dn); /* with an octet 0 it names another one */
    if (s->attribute)
        ldap_entry_values(m, s->attribute, VALUES_MAX, &out->values);
}

bool ldap_ask(struct ldap_client *c, const struct ldap_search *s, msec_t deadline,
              struct ldap_found *out, struct err *err)
{
    struct buf request = BUF_INIT(REQUEST_MAX);
    struct ldap_message m;
    size_t length;

    memset(out, 0, sizeof(*out));
    ldap_put_search(&request, next_id(c, deadline), s);
    if (request.full)
        return fail(c, E_LIMIT, err, "the filter is too long");
    send_request(c, &request);
    for (unsigned n = 0; n < MESSAGES_MAX; n++) {
        if (!read_message(c, &m, &length, err))
            return false;
        if (m.kind == LDAP_SEARCH_DONE) {
            take_result(&m, &out->result);
            conn_consume(c->conn, length);
            return true;
        }
        if (m.kind == LDAP_ENTRY)
            take_entry(s, &m, out);
        out->references += m.kind == LDAP_REFERENCE;
        conn_consume(c->conn, length);
        if (m.kind == LDAP_BIND_ANSWER || m.kind == LDAP_EXTENDED || out->entries > s->size_limit)
            return fail(c, E_PROTOCOL, err, "the server answers what was not asked");
    }
    return fail(c, E_PROTOCOL, err, "the server's answer does not end");
}

bool ldap_is_usable(struct ldap_client *c)
{
    return !conn_failed(c->conn) && conn_is_quiet(c->conn) &&
           (!c->trust || c->trust == running_trust_id());
}

void ldap_close(struct ldap_client **cp)
{
    struct ldap_client *c = *cp;
    struct buf request = BUF_INIT(REQUEST_MAX);

    *cp = NULL;
    if (!c)
        return;
    if (!conn_failed(c->conn)) {
        ldap_put_unbind(&request, ++c->last_id);
        send_request(c, &request);
    }
    conn_free(&c->conn);
    free(c);
}
