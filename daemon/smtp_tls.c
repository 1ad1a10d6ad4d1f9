/* smtp_tls.c - TLS of a server's session, by STARTTLS (RFC 3207) or from its beginning (RFC 8314),
 * and the certificate that the client is asked for on the way. */
#include "daemon/smtp_server.h"

#include <stdlib.h>

#include "daemon/client_cert.h"
#include "daemon/limits.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/stats.h"
#include "daemon/tls.h"

bool smtp_implicit_tls(const struct smtp *s)
{
    return s->listener->protocol == PROTOCOL_SMTPS || s->listener->protocol == PROTOCOL_SUBMISSIONS;
}

static bool failed(struct smtp *s, const char *why)
{
    maillog_icid_tls_failed(s->icid, why);
    stats_add(STAT_TLS_FAILED_IN, 1);
    s->quit = true;
    return false;
}

static bool has_context(struct smtp *s)
{
    if (!s->tls)
        s->tls = running_tls_server(s->listener->name);
    return s->tls;
}

/* A place among the TLS sessions. */
static bool has_place(struct smtp *s)
{
    s->tls_counted = s->tls_counted || limits_tls_enter((unsigned)s->setup->max_tls_connections);
    return s->tls_counted;
}

/* YIELDS. The handshake; section 4.2 of RFC 3207: nothing that was said in clear is remembered. */
static bool secure(struct smtp *s)
{
    bool asked = smtp_wants_certificate(s);
    struct client_cert *cert;
    struct tls_info info;
    struct err err = {0};

    conn_before_handshake(s->conn, asked ? client_cert_ask : NULL, NULL);
    if (!conn_start_tls_server(s->conn, s->tls, &err)) /* YIELDS */
        return failed(s, err.text);
    conn_tls_info(s->conn, &info);
    maillog_icid_tls(s->icid, info.protocol, info.cipher);
    stats_add(STAT_TLS_IN, 1);
    smtp_abort(s);
    free(s->helo);
    s->helo = NULL;
    free(s->user);
    s->user = NULL;
    s->auth_done = s->esmtp = false;
    s->state = AT_START;
    if (asked) {
        cert =
            client_cert_look(conn_ssl(s->conn),
                             CONFIG_SINGLE(access_config(s->access), ssl_settings)->peer_cert_x509);
        smtp_judge_certificate(s, cert); /* YIELDS */
        free(cert);
    }
    return true;
}

void smtp_starttls(struct smtp *s)
{
    if (conn_is_tls(s->conn)) {
        smtp_reply(s, 503, "5.5.1", "TLS is already in use");
        return;
    }
    if (s->tls_mode == TLS_OFF) {
        smtp_bad_command(s, 500, "5.5.1", "command not recognized");
        return;
    }
    if (s->args.n) {
        smtp_reply(s, 501, "5.5.4", "STARTTLS takes no parameters");
        return;
    }
    if (!has_context(s)) {
        smtp_reply(s, 454, "4.7.0", "TLS not available due to a temporary reason");
        return;
    }
    if (!has_place(s)) {
        smtp_close(s, "4.4.5", "Too many TLS sessions at this time");
        return;
    }
    if (conn_input_pending(
            s->conn)) { /* section 6: commands injected in clear must never count as secured */
        smtp_reply(s, 554, "5.5.0", "Data in clear text after the STARTTLS command");
        failed(s, "data in clear text after the STARTTLS command");
        return;
    }
    smtp_reply(s, 220, "2.0.0", "Go ahead with TLS");
    secure(s); /* YIELDS */
}

bool smtp_begin_tls(struct smtp *s)
{
    if (!has_context(s))
        return failed(s, "TLS not available due to a temporary reason");
    return has_place(s) ? secure(s) : failed(s, "too many TLS sessions at this time"); /* YIELDS */
}
