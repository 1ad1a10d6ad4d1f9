/* auth_client.c - AUTH as a client: see auth.h. What is said here is never logged and never part of
 * an error's text. */
#include <openssl/crypto.h>
#include <string.h>

#include "daemon/auth.h"
#include "daemon/base64.h"
#include "daemon/conn.h"
#include "daemon/sasl.h"
#include "daemon/smtp_client.h"

#define COMMAND_MAX 510u /* RFC 5321 section 4.5.3.1.4, without CRLF; RFC 4954 section 4 */
#define ROUNDS 6u /* LOGIN takes three replies, SCRAM four */

/* The strongest that both know. */
static enum sasl_mechanism choose(const struct client *c, bool plain, bool login, bool bound)
{
    static const enum sasl_mechanism order[] = {SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_256,
                                                SASL_PLAIN, SASL_LOGIN};

    for (size_t i = 0; i < countof(order); i++) {
        enum sasl_mechanism m = order[i];

        if (!(c->auth & 1U << m) || (m == SASL_PLAIN && !plain) || (m == SASL_LOGIN && !login) ||
            (m == SASL_SCRAM_SHA_256_PLUS && !bound))
            continue;
        return m;
    }
    return SASL_MECHANISMS;
}

static void cleanse(struct buf *b)
{
    if (b->p)
        OPENSSL_cleanse(b->p, b->cap);
    buf_free(b);
}

/* What the server asks; false: not base64. */
static bool decode(const struct client *c, unsigned char *out, size_t size, struct slice *challenge)
{
    size_t n;

    if (!base64_decode((struct slice){c->reply.text, c->reply.text_len}, true, out, size, &n))
        return false;
    *challenge = (struct slice){(const char *)out, n};
    return true;
}

static enum auth_step down(struct err *err, const char *text)
{
    err_set(err, E_PROTOCOL, "%s", text);
    return AUTH_DOWN;
}

/* Is it about the user and the passphrase, and not about how we have asked? */
static bool is_about_us(int code)
{
    static const int others[] = {500, 501, 502, 503, 504, 530, 538};

    for (size_t i = 0; i < countof(others); i++)
        if (code == others[i])
            return false;
    return code / 100 == 5;
}

/* YIELDS. Says the line; a server that says it again with what is wrong about it gets into no log. */
static bool say(struct client *c, struct buf *line, enum sasl_mechanism m, struct err *err)
{
    const char *blank = strrchr(buf_str(line), ' '), *last = blank ? blank + 1 : buf_str(line);
    bool ok = client_say(c, buf_str(line), "AUTH", err);

    if (ok && c->reply.code != 334 && strlen(last) > 1 && !str_eq(last, sasl_name(m)) &&
        strcasestr(c->reply.text, last))
        memset(c->reply.text, 0, sizeof(c->reply.text));
    return ok;
}

/* YIELDS. The dialog; proven: the mechanism has nothing more to say and, with SCRAM, the server has
 * shown who it is. */
static bool converse(struct client *c, struct sasl *s, enum sasl_mechanism m, bool *proven,
                     struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(SASL_MESSAGE_MAX), line = BUF_INIT(2 * SASL_MESSAGE_MAX);
    unsigned char message[sizeof(c->reply.text)];
    struct slice challenge = {NULL, 0};
    enum sasl_step step = sasl_client_step(s, challenge, &out); /* YIELDS */
    bool ok = step == SASL_MORE || step == SASL_PROVEN, early = true;

    *proven = step == SASL_PROVEN;
    if (!ok)
        return err_set(err, E_INVALID, "%s cannot be done with this user name and passphrase",
                       sasl_name(m));
    buf_printf(&line, "AUTH %s", sasl_name(m));
    if (line.n + 1 + (out.n + 2) / 3 * 4 > COMMAND_MAX) { /* the response must wait to be asked for */
        ok = say(c, &line, m, err);
        buf_reset(&line);
        early = false;
    } else if (out.n) {
        buf_char(&line, ' ');
    }
    if (early || (ok && c->reply.code == 334)) {
        base64_encode(&line, buf_str(&out), out.n);
        ok = say(c, &line, m, err);
    }
    for (unsigned round = 0; ok && c->reply.code == 334 && round < ROUNDS; round++) {
        cleanse(&out);
        cleanse(&line);
        if (*proven && m != SASL_SCRAM_SHA_256 && m != SASL_SCRAM_SHA_256_PLUS) {
            step = SASL_SYNTAX; /* it goes on asking */
        } else if (!decode(c, message, sizeof(message), &challenge)) {
            step = m == SASL_LOGIN ? SASL_MORE : SASL_SYNTAX;
            challenge = (struct slice){NULL, 0};
        }
        if (step != SASL_SYNTAX)
            step = sasl_client_step(s, challenge, &out); /* YIELDS */
        *proven = step == SASL_PROVEN;
        if (step == SASL_MORE || step == SASL_PROVEN)
            base64_encode(&line, buf_str(&out), out.n);
        else
            buf_char(&line, '*'); /* whatever the reply is */
        ok = say(c, &line, m, err);
    }
    cleanse(&out);
    cleanse(&line);
    if (ok && step == SASL_SYNTAX)
        return err_set(err, E_PROTOCOL, "what the server asks is not what %s demands",
                       sasl_name(m));
    if (ok && step != SASL_MORE && step != SASL_PROVEN)
        return err_set(err, E_PROTOCOL,
                       "the server's own proof is wrong, or it demands too much work for one");
    return ok;
}

enum auth_step auth_as_client(struct client *c, const char *user, const char *password, bool plain,
                              bool login, int *code, struct err *err)
{
    unsigned char binding[SASL_BINDING];
    bool bound = sasl_binding(conn_ssl(c->conn), binding), proven = false, ok;
    enum sasl_mechanism m = choose(c, plain, login, bound);
    struct sasl *s;

    *code = 0;
    memset(err, 0, sizeof(*err));
    if (m == SASL_MECHANISMS)
        return down(err, c->caps & CAP_AUTH
                             ? "the server offers no mechanism of SMTP authentication that we use"
                             : "the server does not offer SMTP authentication");
    s = sasl_client_new(m, user, password, bound ? binding : NULL);
    ok = converse(c, s, m, &proven, err); /* YIELDS */
    sasl_free(&s);
    OPENSSL_cleanse(binding, sizeof(binding));
    if (!ok)
        return AUTH_DOWN;
    *code = c->reply.code;
    if (*code == 235)
        return proven ? AUTH_OK
                      : down(err, "the server has not shown that it knows the passphrase itself");
    if (strstr(c->reply.text, password)) /* there are servers that say what was wrong */
        memset(c->reply.text, 0, sizeof(c->reply.text));
    err_set(err, E_DENIED, "%d %s%s%.300s", *code, c->reply.enhanced, *c->reply.enhanced ? " " : "",
            str_printable(c->reply.text));
    return is_about_us(*code) ? AUTH_WRONG : AUTH_DOWN;
}
