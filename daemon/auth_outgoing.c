/* auth_outgoing.c - see auth_outgoing.h. */
#include "daemon/auth_outgoing.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/auth.h"
#include "daemon/config_db.h"
#include "daemon/maillog.h"

#define PASSWORD_MAX 1024u

void auth_identity(const struct config *cfg, const struct smtpauth_profile *p, char *out)
{
    const struct row *r = p ? config_row(cfg, &section_smtpauth_profile, p->name) : NULL;
    size_t n = 0;

    *out = '\0';
    if (!p)
        return;
    n = (size_t)snprintf(out, IDENTITY_SIZE, "%.32s/", p->name);
    for (size_t i = 0; r && i < 16; i++)
        n += (size_t)snprintf(out + n, IDENTITY_SIZE - n, "%02x", r->hash[i]);
}

static bool failed(struct client *c, const struct smtpauth_profile *p, const char *reason,
                   char *why, size_t size)
{
    maillog_dcid_auth(c->dcid, &c->peer, p->name, reason);
    snprintf(why, size, "SMTP authentication using the profile %s failed: %s", p->name, reason);
    return false;
}

static void tell(const struct client *c, const struct smtpauth_profile *p, const char *reason)
{
    char key[100];

    snprintf(key, sizeof(key), "smtp-auth outgoing %s", p->name);
    alert_raise(ALERT_DELIVERY, ALERT_WARNING, key,
                "SMTP authentication at %s using the profile %s failed: %s\nMail for this route "
                "waits. Correct the "
                "user name and the passphrase with smtpauthconfig.",
                c->host, p->name, reason);
}

bool auth_outgoing(struct client *c, const struct config *cfg, const struct smtpauth_profile *p,
                   char *why, size_t size)
{
    AUTO(buf) struct buf password = BUF_INIT(PASSWORD_MAX);
    enum auth_step step = AUTH_DOWN;
    struct err err = {0};
    int code = 0;

    memset(&c->reply, 0, sizeof(c->reply));
    if (!c->proof.encrypted ||
        !(c->proof.passed & TLS_CHECK_ROUTE)) /* tls_policy.c has seen to it */
        return failed(c, p, "the session is not encrypted to a proven host", why, size);
    if (config_db_secret(p->password, &password, &err)) { /* YIELDS */
        step = auth_as_client(c, p->username, buf_str(&password), true, true, &code,
                              &err); /* YIELDS */
        OPENSSL_cleanse(password.p, password.cap);
    } else {
        err_wrap(&err, "opening the passphrase");
    }
    if (step == AUTH_OK) {
        maillog_dcid_auth(c->dcid, &c->peer, p->name, NULL);
        auth_identity(cfg, p, c->identity);
        return true;
    }
    if (!code)
        memset(&c->reply, 0, sizeof(c->reply));
    if (step == AUTH_WRONG)
        tell(c, p, err.text);
    return failed(c, p, err.text, why, size);
}
