/* sasl.c - see sasl.h. GNU SASL keeps no state of its own between exchanges: each has a library
 * context, which takes some ten microseconds to make and lets threads alone. Its callback may
 * YIELD, for the stack under it is the fiber's. */
#include "daemon/sasl.h"

#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "store/base/str.h"

struct sasl {
    enum sasl_mechanism mechanism;
    bool client;
    unsigned step;
    char *user, *password, *authzid;
    struct sasl_server how;
    bool bound, down, known, bad_name;
    unsigned char binding[SASL_BINDING];
    struct scram_keys keys;
    Gsasl *library; /* SCRAM */
    Gsasl_session *session;
};

static const char *const names[] = {"PLAIN", "LOGIN", "EXTERNAL", "SCRAM-SHA-256",
                                    "SCRAM-SHA-256-PLUS"};

const char *sasl_name(enum sasl_mechanism m)
{
    return m < SASL_MECHANISMS ? names[m] : "";
}

enum sasl_mechanism sasl_find(struct slice name)
{
    unsigned m = 0;

    while (m < SASL_MECHANISMS && !slice_ieq(name, names[m]))
        m++;
    return m;
}

/* RFC 9266. For older versions it would need the extended master secret, and implementations differ
 * in what they take for the empty context of RFC 5705 there. */
bool sasl_binding(struct ssl_st *ssl, unsigned char out[SASL_BINDING])
{
    static const char label[] = "EXPORTER-Channel-Binding";

    return ssl && SSL_version(ssl) >= TLS1_3_VERSION &&
           SSL_export_keying_material(ssl, out, SASL_BINDING, label, strlen(label),
                                      (const unsigned char *)"", 0, 1) == 1;
}

static void cleanse(char **text)
{
    if (*text)
        OPENSSL_cleanse(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static bool is_name(const char *p, size_t n)
{
    if (n > SASL_USER_MAX || !str_is_utf8(p, n))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
            return false;
    return true;
}

static bool is_password(const char *p, size_t n)
{
    return n <= SASL_PASSWORD_MAX && !memchr(p, '\0', n);
}

/* An empty password is nobody's: a directory takes a bind with one for an anonymous bind, which
 * succeeds (RFC 4513 section 5.1.2). */
static enum sasl_step credentials(const struct sasl *s)
{
    return *s->user && *s->password ? SASL_CREDENTIALS : SASL_WRONG;
}

/* --- PLAIN, LOGIN, EXTERNAL: the server --- */

static enum sasl_step plain(struct sasl *s, struct slice in)
{
    const char *user, *password, *end;
    size_t nauthzid, nuser;

    if (!in.p)
        return s->step++ ? SASL_SYNTAX : SASL_MORE;
    s->step = 2;
    end = in.p + in.n;
    user = in.n ? memchr(in.p, '\0', in.n) : NULL;
    password = user ? memchr(user + 1, '\0', (size_t)(end - user - 1)) : NULL;
    if (!password)
        return SASL_SYNTAX;
    nauthzid = (size_t)(user++ - in.p);
    nuser = (size_t)(password++ - user);
    if (!is_name(in.p, nauthzid) || !is_name(user, nuser) ||
        !is_password(password, (size_t)(end - password)))
        return SASL_SYNTAX;
    s->user = xstrndup(user, nuser);
    s->password = xstrndup(password, (size_t)(end - password));
    if (nauthzid && (nauthzid != nuser || memcmp(in.p, user, nuser) != 0))
        return SASL_WRONG;
    return credentials(s);
}

static enum sasl_step login(struct sasl *s, struct slice in, struct buf *out)
{
    if (!in.p && !s->step) {
        s->step = 1;
        buf_str_add(out, "Username:");
        return SASL_MORE;
    }
    if (!s->user) {
        if (!in.p || !in.n || !is_name(in.p, in.n))
            return SASL_SYNTAX;
        s->step = 1;
        s->user = xstrndup(in.p, in.n);
        buf_str_add(out, "Password:");
        return SASL_MORE;
    }
    if (!is_password(in.p ? in.p : "", in.n))
        return SASL_SYNTAX;
    s->password = in.n ? xstrndup(in.p, in.n) : xstrdup("");
    return credentials(s);
}

static enum sasl_step external(struct sasl *s, struct slice in)
{
    if (!in.p && !s->step++)
        return SASL_MORE;
    if (!is_name(in.p ? in.p : "", in.n))
        return SASL_SYNTAX;
    s->authzid = in.n ? xstrndup(in.p, in.n) : xstrdup("");
    return SASL_CREDENTIALS;
}

/* --- SCRAM --- */

static void set_base64(struct sasl *s, Gsasl_property prop, const void *p, size_t n)
{
    AUTO(buf) struct buf b = BUF_INIT(256);

    base64_encode(&b, p, n);
    gsasl_property_set(s->session, prop, buf_str(&b));
    if (b.p)
        OPENSSL_cleanse(b.p, b.n);
}

/* YIELDS. The server's: GNU SASL has read the client's first message and wants to answer it. */
static bool know_keys(struct sasl *s)
{
    const char *user = gsasl_property_fast(s->session, GSASL_AUTHID);

    if (s->user)
        return s->known; /* asked already */
    if (!user || !*user || !is_name(user, strlen(user))) {
        s->bad_name = true;
        return false;
    }
    s->user = xstrdup(user);
    s->down = !s->how.keys(s->how.arg, s->user, &s->keys);
    s->known = !s->down;
    return s->known;
}

/* YIELDS. The client's: the costly part of the answer to the server's first message, which says how
 * costly. */
static bool know_salted_password(struct sasl *s)
{
    const char *iterations = gsasl_property_fast(s->session, GSASL_SCRAM_ITER);
    const char *salt = gsasl_property_fast(s->session, GSASL_SCRAM_SALT);
    char hex[2 * SCRAM_KEY + 1];
    unsigned char key[SCRAM_KEY];
    bool ok = iterations && salt &&
              password_salt_scram(s->password, salt, strtoull(iterations, NULL, 10), key);

    for (unsigned i = 0; ok && i < SCRAM_KEY; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", key[i]);
    if (ok)
        gsasl_property_set(s->session, GSASL_SCRAM_SALTED_PASSWORD, hex);
    OPENSSL_cleanse(key, sizeof(key));
    OPENSSL_cleanse(hex, sizeof(hex));
    return ok;
}

static bool give(struct sasl *s, Gsasl_property prop)
{
    char number[16];

    switch (prop) {
    case GSASL_CB_TLS_EXPORTER:
        if (s->bound)
            set_base64(s, prop, s->binding, sizeof(s->binding));
        return s->bound;
    case GSASL_AUTHID:
        if (s->client)
            gsasl_property_set(s->session, prop, s->user);
        return s->client;
    case GSASL_SCRAM_SALTED_PASSWORD:
        return s->client && know_salted_password(s);
    case GSASL_SCRAM_ITER:
        if (s->client || !know_keys(s))
            return false;
        snprintf(number, sizeof(number), "%u", s->keys.iterations);
        gsasl_property_set(s->session, prop, number);
        return true;
    case GSASL_SCRAM_SALT:
        if (s->client || !know_keys(s))
            return false;
        set_base64(s, prop, s->keys.salt, s->keys.nsalt);
        return true;
    case GSASL_SCRAM_SERVERKEY:
    case GSASL_SCRAM_STOREDKEY:
        if (s->client || !s->known)
            return false;
        set_base64(s, prop, prop == GSASL_SCRAM_SERVERKEY ? s->keys.server_key : s->keys.stored_key,
                   SCRAM_KEY);
        return true;
    default:
        return false;
    }
}

static int on_property(Gsasl *library, Gsasl_session *session, Gsasl_property prop)
{
    struct sasl *s = gsasl_callback_hook_get(library);

    s->session = session; /* asked for before it is handed out */
    return give(s, prop) ? GSASL_OK : GSASL_NO_CALLBACK;
}

static bool start_scram(struct sasl *s)
{
    int rc;

    if (gsasl_init(&s->library) != GSASL_OK)
        return false;
    gsasl_callback_set(s->library, on_property);
    gsasl_callback_hook_set(s->library, s);
    rc = s->client ? gsasl_client_start(s->library, sasl_name(s->mechanism), &s->session)
                   : gsasl_server_start(s->library, sasl_name(s->mechanism), &s->session);
    if (rc != GSASL_OK)
        s->session = NULL;
    return rc == GSASL_OK;
}

/* Another name than the user's own? */
static bool stands_for_another(const struct sasl *s)
{
    const char *authzid = gsasl_property_fast(s->session, GSASL_AUTHZID);

    return authzid && *authzid && !str_eq(authzid, s->user);
}

static enum sasl_step scram(struct sasl *s, struct slice in, struct buf *out)
{
    char *text = NULL;
    size_t n = 0;
    int rc;

    if (s->step == 3) /* the server's last word was sent; the client's has to be empty (RFC 4954) */
        return in.n ? SASL_SYNTAX : SASL_PROVEN;
    if (!in.p && !s->step && !s->client) {
        s->step = 1;
        return SASL_MORE;
    }
    if (!s->session && !start_scram(s))
        return SASL_DOWN;
    if (in.p && in.n ? memchr(in.p, '\0', in.n) != NULL : !s->client || s->step)
        return SASL_SYNTAX;
    /* A client that binds its proof must choose the mechanism for it (RFC 5802 section 6). */
    if (s->step < 2 && !s->client && s->mechanism == SASL_SCRAM_SHA_256 && *in.p == 'p')
        return SASL_WRONG;
    s->step = 2;
    rc = gsasl_step(s->session, in.n ? in.p : NULL, in.n, &text, &n); /* YIELDS: on_property */
    if (text && n)
        buf_add(out, text, n);
    gsasl_free(text);
    if (s->bad_name)
        return SASL_SYNTAX;
    if (s->down)
        return SASL_DOWN;
    if (rc == GSASL_NEEDS_MORE && !s->client && stands_for_another(s))
        return SASL_WRONG;
    if (rc == GSASL_OK)
        s->step = 3;
    return rc == GSASL_NEEDS_MORE                                          ? SASL_MORE
           : rc == GSASL_OK                                                ? SASL_PROVEN
           : rc == GSASL_MECHANISM_PARSE_ERROR || rc == GSASL_BASE64_ERROR ? SASL_SYNTAX
           : rc == GSASL_MECHANISM_CALLED_TOO_MANY_TIMES                   ? SASL_SYNTAX
                                                                           : SASL_WRONG;
}

/* --- the server --- */

struct sasl *sasl_server_new(enum sasl_mechanism m, const struct sasl_server *how)
{
    struct sasl *s = xcalloc(1, sizeof(*s));

    s->mechanism = m;
    s->how = *how;
    /* Of a client that binds without being asked to, GNU SASL 2.2 cannot write the first message
     * ("y"). */
    s->bound = how->binding && (how->keys || m == SASL_SCRAM_SHA_256_PLUS);
    if (s->bound)
        memcpy(s->binding, how->binding, sizeof(s->binding));
    return s;
}

enum sasl_step sasl_server_step(struct sasl *s, struct slice in, struct buf *out)
{
    if (in.n > SASL_MESSAGE_MAX || (in.n && !in.p))
        return SASL_SYNTAX;
    switch (s->mechanism) {
    case SASL_PLAIN:
        return plain(s, in);
    case SASL_LOGIN:
        return login(s, in, out);
    case SASL_EXTERNAL:
        return external(s, in);
    default:
        return scram(s, in, out);
    }
}

const char *sasl_user(const struct sasl *s)
{
    return s->user ? s->user : "";
}

const char *sasl_password(const struct sasl *s)
{
    return s->password ? s->password : "";
}

const char *sasl_authzid(const struct sasl *s)
{
    return s->authzid ? s->authzid : "";
}

/* --- the client --- */

struct sasl *sasl_client_new(enum sasl_mechanism m, const char *user, const char *password,
                             const unsigned char *binding)
{
    struct sasl *s = sasl_server_new(m, &(struct sasl_server){.binding = binding});

    s->client = true;
    s->user = xstrdup(user);
    s->password = xstrdup(password);
    return s;
}

enum sasl_step sasl_client_step(struct sasl *s, struct slice in, struct buf *out)
{
    if (in.n > SASL_MESSAGE_MAX || (in.n && !in.p))
        return SASL_SYNTAX;
    switch (s->mechanism) {
    case SASL_PLAIN:
        if (s->step++)
            return SASL_SYNTAX;
        buf_add(out, "", 1);
        buf_str_add(out, s->user);
        buf_add(out, "", 1);
        buf_str_add(out, s->password);
        return SASL_PROVEN;
    case SASL_LOGIN: /* whatever the server's words are */
        if (s->step > 2)
            return SASL_SYNTAX;
        if (s->step)
            buf_str_add(out, s->step == 1 ? s->user : s->password);
        return s->step++ == 2 ? SASL_PROVEN : SASL_MORE;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS:
        return scram(s, in, out);
    default:
        return SASL_SYNTAX;
    }
}

void sasl_free(struct sasl **sp)
{
    struct sasl *s = *sp;

    *sp = NULL;
    if (!s)
        return;
    if (s->session)
        gsasl_finish(s->session);
    if (s->library)
        gsasl_done(s->library);
    free(s->user);
    free(s->authzid);
    cleanse(&s->password);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}
