/* fuzz_auth.c - SMTP authentication: what a client answers to our challenges, what a server says to
 * our AUTH, and the values of password attributes. The first byte says which, the lines after it
 * are the messages; in SCRAM's, "@" stands for the nonce of the server. Whatever they are: nobody
 * is let in but by the password, and ours does not go where it must not. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/auth.h"
#include "daemon/auth_forward.h"
#include "daemon/base64.h"
#include "daemon/conn.h"
#include "daemon/ldap_auth.h"
#include "daemon/password.h"
#include "daemon/sasl.h"
#include "daemon/smtp_client.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PASSWORD "pencil case"

static struct config *cfg;
static bool said_yes;

static void check_name(const char *user)
{
    size_t n = strlen(user);

    assert(n && n <= SASL_USER_MAX && str_is_utf8(user, n));
    for (size_t i = 0; i < n; i++)
        assert((unsigned char)user[i] >= ' ' && user[i] != 0x7f);
}

enum ldap_verdict ldap_fetch_password(const struct config *c, const char *query, const char *user,
                                      struct strlist *out, msec_t deadline, struct err *err)
{
    (void)c;
    (void)query;
    (void)deadline;
    (void)err;
    check_name(user);
    if (!str_eq(user, "joe"))
        return LDAP_NO;
    strlist_add(out, PASSWORD);
    return LDAP_YES;
}

enum ldap_verdict ldap_check_password(const struct config *c, const char *query, const char *user,
                                      const char *password, msec_t deadline, struct err *err)
{
    (void)c;
    (void)query;
    (void)deadline;
    (void)err;
    check_name(user);
    assert(*password && strlen(password) <= SASL_PASSWORD_MAX);
    said_yes = str_eq(user, "joe") && str_eq(password, PASSWORD);
    return said_yes ? LDAP_YES : LDAP_NO;
}

enum ldap_verdict ldap_check_allowed(const struct config *c, const char *query, const char *user,
                                     msec_t deadline, struct err *err)
{
    (void)c;
    (void)query;
    (void)user;
    (void)deadline;
    (void)err;
    return LDAP_YES;
}

enum ldap_verdict ldap_check_certificate(const struct config *c, const char *query,
                                         const struct ldap_certificate *who, char *user,
                                         size_t size, msec_t deadline, struct err *err)
{
    (void)c;
    (void)query;
    (void)who;
    (void)user;
    (void)size;
    (void)deadline;
    (void)err;
    return LDAP_NO;
}

enum auth_step auth_forward(const struct config *c, const struct smtpauth_profile *p,
                            const char *hostname, const char *user, const char *password,
                            msec_t deadline, struct err *err)
{
    (void)c;
    (void)p;
    (void)hostname;
    (void)user;
    (void)password;
    (void)deadline;
    (void)err;
    abort();
}

static void add(struct config_edit *e, const struct section *s, const char *name,
                const char *const *values)
{
    struct row *r = row_new(s, name);

    for (; *values; values += 2)
        if (!row_set(r, values[0], values[1], NULL))
            abort();
    row_freeze(r);
    *e = (struct config_edit){s, r->name, r};
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct config_edit e[2];

    (void)argc;
    (void)argv;
    add(&e[0], &section_ldap_query, "q",
        (const char *const[]){"kind", "smtpauth", "method", "attribute", NULL});
    add(&e[1], &section_smtpauth_profile, "p",
        (const char *const[]){"kind", "ldap", "query", "q", "check_allowed", "yes", NULL});
    cfg = config_edit(NULL, e, 2, 1);
    return 0;
}

/* --- a client that says anything --- */

static void add_line(struct buf *out, const char *line, size_t n, const char *nonce)
{
    for (size_t i = 0; i < n; i++) {
        if (line[i] == '@' && *nonce)
            buf_str_add(out, nonce);
        else
            buf_char(out, line[i]);
    }
}

static void read_nonce(const struct buf *challenge, char *nonce, size_t size)
{
    unsigned char text[4000];
    size_t n;

    assert(base64_decode((struct slice){buf_str(challenge), challenge->n}, true, text,
                         sizeof(text) - 1, &n));
    text[n] = '\0';
    if (!str_starts((char *)text, "r="))
        return;
    text[strcspn((char *)text, ",")] = '\0';
    str_copy(nonce, size, (char *)text + 2);
}

static void run_server(unsigned mode, const char *p, size_t size)
{
    enum sasl_mechanism m = mode % SASL_SCRAM_SHA_256_PLUS;
    struct auth_client client = {.cfg = cfg,
                                 .profile = CONFIG_GET(cfg, smtpauth_profile, "p"),
                                 .hostname = "gw.example",
                                 .certified = "ann"};
    struct auth *a = auth_begin(&client, slice_of(sasl_name(m)));
    struct buf challenge = BUF_INIT(40000), text = BUF_INIT(40000), line = BUF_INIT(60000);
    enum auth_step step = AUTH_MORE;
    const char *end = p + size;
    char nonce[3000] = "";
    struct err err;

    assert(a);
    said_yes = false;
    for (unsigned round = 0; step == AUTH_MORE && round < 6; round++) {
        const char *stop = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        struct slice s = {NULL, 0};

        if (!stop)
            stop = end;
        buf_reset(&text);
        buf_reset(&line);
        buf_reset(&challenge);
        if (p < end || round) {
            add_line(&text, p, (size_t)(stop - p), nonce);
            if (mode & 32)
                buf_add(&line, buf_str(&text), text.n);
            else
                base64_encode(&line, buf_str(&text), text.n);
            s = (struct slice){buf_str(&line), line.n};
        }
        p = stop < end ? stop + 1 : end;
        step = auth_step(a, s, &challenge, &err);
        assert(step != AUTH_DOWN && step != AUTH_NOT_ALLOWED && step != AUTH_MONITORED);
        if (step == AUTH_MORE)
            read_nonce(&challenge, nonce, sizeof(nonce));
        else
            assert(!challenge.n);
    }
    if (step == AUTH_OK) {
        assert(m == SASL_EXTERNAL || said_yes);
        assert(str_eq(auth_user(a), m == SASL_EXTERNAL ? "ann" : "joe"));
    }
    auth_free(&a);
    buf_free(&challenge);
    buf_free(&text);
    buf_free(&line);
}

/* --- a server that says anything --- */

static void run_client(unsigned mode, const char *p, size_t size)
{
    struct smtp_reply refusal;
    struct addr peer = {0}, local;
    struct err err = {0};
    struct client *c;
    char said[20000];
    ssize_t n;
    int fds[2], code;

    if (size > 60000 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        return;
    if (send(fds[1], "220 x\r\n", 7, 0) != 7 ||
        (size && send(fds[1], p, size, MSG_DONTWAIT) != (ssize_t)size))
        abort();
    shutdown(fds[1], SHUT_WR);
    c = client_greet(conn_new(fds[0]), "mx.example.com", &peer, 1, NEVER, &local, &refusal, &err);
    assert(c);
    c->auth = mode & 0x3f;
    if (auth_as_client(c, "joe", PASSWORD, mode & 1, true, &code, &err) == AUTH_OK)
        assert(code == 235 && !(mode & (1 << SASL_SCRAM_SHA_256)));
    assert(!strstr(err.text, PASSWORD));
    client_free(&c);
    n = recv(fds[1], said, sizeof(said), MSG_DONTWAIT);
    assert(n <= 0 || !memmem(said, (size_t)n, PASSWORD, strlen(PASSWORD)));
    close(fds[1]);
}

/* --- a value of a password attribute --- */

static void run_password(const char *p, size_t size)
{
    struct scram_keys keys;
    const char *text;
    size_t n;

    /* Not those whose cost the value decides: they are bounded, but not to what a fuzzer has time
     * for. */
    if (memchr(p, '{', size) &&
        (memmem(p, size, "rounds", 6) || memmem(p, size, "m=", 2) || memmem(p, size, "$2", 2) ||
         memmem(p, size, "PBKDF2", 6) || memmem(p, size, "$y$", 3) || memmem(p, size, "$7$", 3) ||
         memmem(p, size, "$gy$", 4) || memmem(p, size, "SCRAM", 5)))
        return;
    if (password_check(p, size, PASSWORD) == PASSWORD_RIGHT &&
        password_clear_text(p, size, &text, &n))
        assert(n == strlen(PASSWORD) && !memcmp(text, PASSWORD, n));
    if (password_scram_keys(p, size, &keys))
        assert(keys.iterations && keys.iterations <= SCRAM_MAX_ITERATIONS && keys.nsalt &&
               keys.nsalt <= SCRAM_SALT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data + 1;

    if (!size || size > 30000)
        return 0;
    if (data[0] < 64)
        run_server(data[0], p, size - 1);
    else if (data[0] < 192)
        run_client(data[0], p, size - 1);
    else
        run_password(p, size - 1);
    return 0;
}
