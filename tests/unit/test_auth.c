/* daemon/auth.c and sasl.c over a directory that is played: every mechanism, every verdict, what a
 * client may send. */
#include "daemon/auth.h"

#include <stdio.h>

#include "daemon/auth_forward.h"
#include "daemon/base64.h"
#include "daemon/fiber.h"
#include "daemon/ldap_auth.h"
#include "daemon/loop.h"
#include "daemon/sasl.h"
#include "daemon/tls.h"
#include "daemon/worker.h"
#include "tests/unit/certs.h"
#include "tests/unit/config_of.h"
#include "tests/unit/in_fiber.h"

/* --- the directory --- */

static struct {
    bool down, allowance_down, refuses;
    unsigned asked, allowance_asked;
    char password[2000]; /* that it was asked about */
} directory;

static const struct {
    const char *user, *value, *second;
} people[] = {
    {"joe",     "pencil",                                    NULL    },
    {"ann",     "{SCRAM-SHA-256}5000:QSXCR+Q6sek8bf92$KEYS", NULL    },
    {"old",     "{SSHA}U3mj3XQBEyiCU9s0Z9rPRnGmL7W8GvwC",    NULL    },
    {"both",    "{SSHA}U3mj3XQBEyiCU9s0Z9rPRnGmL7W8GvwC",    "pencil"},
    {"j\u00f6", "pencil",                                    NULL    },
    {"a,b=c",   "pencil",                                    NULL    },
};

static char ann_value[200];

static enum ldap_verdict find(const char *user, struct strlist *out)
{
    for (size_t i = 0; i < countof(people); i++) {
        if (strcmp(people[i].user, user) != 0)
            continue;
        strlist_add(out, strstr(people[i].value, "KEYS") ? ann_value : people[i].value);
        if (people[i].second)
            strlist_add(out, people[i].second);
        return LDAP_YES;
    }
    return LDAP_NO;
}

enum ldap_verdict ldap_fetch_password(const struct config *cfg, const char *query, const char *user,
                                      struct strlist *out, msec_t deadline, struct err *err)
{
    (void)cfg;
    (void)deadline;
    assert_string_equal(query, "d.attribute");
    directory.asked++;
    if (directory.down) {
        err_set(err, E_NET, "the directory is down");
        return LDAP_DOWN;
    }
    fiber_yield();
    if (find(user, out) == LDAP_YES)
        return LDAP_YES;
    err_set(err, E_NOT_FOUND, "no such user");
    return LDAP_NO;
}

enum ldap_verdict ldap_check_password(const struct config *cfg, const char *query, const char *user,
                                      const char *password, msec_t deadline, struct err *err)
{
    struct strlist values = {0};
    enum ldap_verdict v = LDAP_NO;

    (void)cfg;
    (void)deadline;
    assert_true(str_eq(query, "d.bind") || str_eq(query, "d.attribute"));
    directory.asked++;
    str_copy(directory.password, sizeof(directory.password), password);
    if (directory.down) {
        err_set(err, E_NET, "the directory is down");
        return LDAP_DOWN;
    }
    if (find(user, &values) == LDAP_YES)
        for (size_t i = 0; i < values.n; i++)
            if (password_check(values.items[i], strlen(values.items[i]), password) ==
                PASSWORD_RIGHT)
                v = LDAP_YES;
    strlist_free(&values);
    if (v == LDAP_NO)
        err_set(err, E_DENIED, "wrong password");
    return v;
}

enum ldap_verdict ldap_check_allowed(const struct config *cfg, const char *query, const char *user,
                                     msec_t deadline, struct err *err)
{
    (void)cfg;
    (void)query;
    (void)user;
    (void)deadline;
    directory.allowance_asked++;
    if (directory.allowance_down) {
        err_set(err, E_NET, "the directory is down");
        return LDAP_DOWN;
    }
    if (directory.refuses)
        err_set(err, E_DENIED, "has a card");
    return directory.refuses ? LDAP_NO : LDAP_YES;
}

static enum auth_step forward_says;

enum auth_step auth_forward(const struct config *cfg, const struct smtpauth_profile *p,
                            const char *hostname, const char *user, const char *password,
                            msec_t deadline, struct err *err)
{
    (void)cfg;
    (void)deadline;
    (void)err;
    assert_string_equal(p->name, "forward");
    assert_string_equal(hostname, "gw.example");
    assert_string_equal(user, "joe");
    str_copy(directory.password, sizeof(directory.password), password);
    return forward_says;
}

/* --- the gateway --- */

static const struct object objects[] = {
    {&section_ldap_query,       "d.bind",             "kind=smtpauth|method=bind"                    },
    {&section_ldap_query,       "d.attribute",        "kind=smtpauth|method=attribute"               },
    {&section_ldap_query,       "d.cert",             "kind=certauth"                                },
    {&section_smtpauth_profile, "bind",               "kind=ldap|query=d.bind"                       },
    {&section_smtpauth_profile, "attribute",          "kind=ldap|query=d.attribute"                  },
    {&section_smtpauth_profile, "plain",              "kind=ldap|query=d.attribute|mechanisms=PLAIN" },
    {&section_smtpauth_profile, "strict",             "kind=ldap|query=d.attribute|check_allowed=yes"},
    {&section_smtpauth_profile, "watch",
     "kind=ldap|query=d.attribute|check_allowed=yes|refused=monitor"                                 },
    {&section_smtpauth_profile, "gone",               "kind=ldap|query=nothing"                      },
    {&section_smtpauth_profile, "wrong",              "kind=ldap|query=d.cert"                       },
    {&section_smtpauth_profile, "forward",            "kind=forward"                                 },
    {&section_smtpauth_server,  "forward/mx.example", ""                                             },
    {&section_smtpauth_profile, "empty",              "kind=forward"                                 },
    {&section_smtpauth_profile, "cert",               "kind=certificate|query=d.bind"                },
    {&section_smtpauth_profile, "out",                "kind=outgoing|query=d.bind"                   },
};

static struct config *cfg;
static struct auth_client client;

static void use(const char *profile)
{
    memset(&directory, 0, sizeof(directory));
    client =
        (struct auth_client){.cfg = cfg,
                             .profile = profile ? CONFIG_GET(cfg, smtpauth_profile, profile) : NULL,
                             .hostname = "gw.example"};
}

static int setup(void **unused)
{
    struct scram_keys k = {.iterations = 5000, .nsalt = 12};
    AUTO(buf) struct buf salt = BUF_INIT(100), stored = BUF_INIT(100), server = BUF_INIT(100);

    (void)unused;
    cfg = config_of(NULL, objects, countof(objects));
    memcpy(k.salt, "saltsaltsalt", 12);
    password_derive_scram("pencil", &k);
    base64_encode(&salt, k.salt, k.nsalt);
    base64_encode(&stored, k.stored_key, SCRAM_KEY);
    base64_encode(&server, k.server_key, SCRAM_KEY);
    snprintf(ann_value, sizeof(ann_value), "{SCRAM-SHA-256}5000:%s$%s:%s", buf_str(&salt),
             buf_str(&stored), buf_str(&server));
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    config_free(&cfg);
    return 0;
}

static void expect_mechanisms(const char *profile, const char *want)
{
    AUTO(buf) struct buf out = BUF_INIT(1000);

    if (profile)
        use(profile);
    auth_mechanisms(&client, &out);
    assert_string_equal(buf_str(&out), want);
}

static void test_mechanisms(void **unused)
{
    (void)unused;
    expect_mechanisms("bind", "PLAIN LOGIN");
    expect_mechanisms("attribute", "PLAIN LOGIN SCRAM-SHA-256");
    expect_mechanisms("plain", "PLAIN");
    expect_mechanisms("gone", "");
    expect_mechanisms("wrong", "");
    expect_mechanisms("forward", "PLAIN LOGIN");
    expect_mechanisms("empty", "");
    expect_mechanisms("cert", "");
    expect_mechanisms("out", "");
    use(NULL);
    expect_mechanisms(NULL, "");
    client.certified = "";
    expect_mechanisms(NULL, "");
    client.certified = "joe";
    expect_mechanisms(NULL, "EXTERNAL");
    use("bind");
    client.certified = "joe";
    expect_mechanisms(NULL, "PLAIN LOGIN EXTERNAL");
    assert_null(auth_begin(&client, slice_of("SCRAM-SHA-256")));
    assert_null(auth_begin(&client, slice_of("CRAM-MD5")));
    assert_null(auth_begin(&client, slice_of("")));
    use("plain");
    assert_null(auth_begin(&client, slice_of("login")));
    assert_null(auth_begin(&client, slice_of("external")));
    use("attribute");
    assert_null(auth_begin(&client, slice_of("scram-sha-256-plus")));
}

/* --- exchanges --- */

static struct err last;
static struct buf challenge = BUF_INIT(20000);

static char *encode(const char *p, size_t n)
{
    struct buf b = BUF_INIT(40000);

    base64_encode(&b, p, n);
    return b.p ? buf_take(&b) : xstrdup("=");
}

static enum auth_step step(struct auth *a, const char *text)
{
    struct slice s = {text, text ? strlen(text) : 0};

    buf_reset(&challenge);
    return auth_step(a, s, &challenge, &last);
}

/* PLAIN with an initial response. */
static enum auth_step plain_n(const char *message, size_t n, const char *user)
{
    struct auth *a = auth_begin(&client, slice_of("plain"));
    char *text = encode(message, n);
    enum auth_step s = step(a, text);
    struct err reason = last;

    assert_string_equal(auth_mechanism(a), "PLAIN");
    if (user)
        assert_string_equal(auth_user(a), user);
    assert_int_equal(step(a, text), AUTH_SYNTAX); /* it is over */
    last = reason;
    auth_free(&a);
    assert_null(a);
    free(text);
    return s;
}
#define PLAIN(message, user) plain_n(message, sizeof(message) - 1, user)

static void test_plain(void **unused)
{
    char longer[2000] = {0};
    struct auth *a;

    (void)unused;
    use("bind");
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_OK);
    assert_int_equal(last.code, E_NONE);
    assert_int_equal(PLAIN("joe\0joe\0pencil", "joe"), AUTH_OK);
    assert_int_equal(PLAIN("\0j\xc3\xb6\0pencil", "j\xc3\xb6"), AUTH_OK);
    assert_int_equal(PLAIN("\0joe\0pen", "joe"), AUTH_WRONG);
    assert_int_equal(PLAIN("\0nobody\0pencil", "nobody"), AUTH_WRONG);
    directory.asked = 0;
    assert_int_equal(PLAIN("ann\0joe\0pencil", "joe"), AUTH_WRONG); /* for another user */
    assert_int_equal(PLAIN("\0joe\0", "joe"), AUTH_WRONG);
    assert_int_equal(PLAIN("\0\0pencil", ""), AUTH_WRONG);
    assert_int_equal(PLAIN("", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("joe", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("\0joe", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("\0joe\0pencil\0", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("\0joe\0pen\0cil", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("\0jo\xff\0pencil", NULL), AUTH_SYNTAX);
    assert_int_equal(PLAIN("\0jo\ne\0pencil", NULL), AUTH_SYNTAX);
    memset(longer + 1, 'u', 257);
    str_copy(longer + 259, 100, "pencil");
    assert_int_equal(plain_n(longer, 265, NULL), AUTH_SYNTAX);
    memset(longer, 0, sizeof(longer));
    str_copy(longer + 1, 100, "joe");
    memset(longer + 5, 'p', 1025);
    assert_int_equal(plain_n(longer, 5 + 1025, NULL), AUTH_SYNTAX);
    assert_int_equal(directory.asked, 0); /* none of these was anybody's business */
    assert_int_equal(plain_n(longer, 5 + 1024, NULL), AUTH_WRONG);
    assert_int_equal(directory.asked, 1);

    /* Without an initial response: an empty challenge. */
    a = auth_begin(&client, slice_of("PLAIN"));
    assert_int_equal(step(a, NULL), AUTH_MORE);
    assert_int_equal(challenge.n, 0);
    assert_string_equal(auth_user(a), "");
    assert_int_equal(step(a, "AGpvZQBwZW5jaWw="), AUTH_OK);
    auth_free(&a);
    a = auth_begin(&client, slice_of("PLAIN"));
    assert_int_equal(step(a, ""), AUTH_MORE); /* "AUTH PLAIN " */
    assert_int_equal(step(a, "*"), AUTH_CANCELLED);
    auth_free(&a);
    a = auth_begin(&client, slice_of("PLAIN"));
    assert_int_equal(step(a, NULL), AUTH_MORE);
    assert_int_equal(step(a, NULL), AUTH_SYNTAX);
    auth_free(&a);

    static const char *const bad[] = {
        "*",    "AGpvZQBwZW5jaWw", "AGpvZQBwZW5jaWw==", "AGpv ZQBwZW5jaWw=", "AGpvZQ\tBwZW5jaWw=",
        "====", "AGpvZQBwZW5jaWx="};
    for (size_t i = 0; i < countof(bad); i++) {
        a = auth_begin(&client, slice_of("PLAIN"));
        assert_int_equal(step(a, bad[i]), AUTH_SYNTAX);
        auth_free(&a);
    }
    char *huge = xmalloc(12293);
    memset(huge, 'A', 12292);
    huge[12292] = '\0';
    a = auth_begin(&client, slice_of("PLAIN"));
    assert_int_equal(step(a, huge), AUTH_SYNTAX);
    auth_free(&a);
    free(huge);
}

static enum auth_step login(const char *initial, const char *user, const char *password)
{
    struct auth *a = auth_begin(&client, slice_of("LOGIN"));
    char *u = encode(user, strlen(user)), *p = encode(password, strlen(password));
    enum auth_step s = step(a, initial);

    if (!initial) {
        assert_int_equal(s, AUTH_MORE);
        assert_string_equal(buf_str(&challenge), "VXNlcm5hbWU6"); /* Username: */
        s = step(a, str_eq(u, "=") ? "" : u);
    }
    if (s == AUTH_MORE) {
        assert_string_equal(buf_str(&challenge), "UGFzc3dvcmQ6"); /* Password: */
        s = step(a, str_eq(p, "=") ? "" : p);
    }
    auth_free(&a);
    free(u);
    free(p);
    return s;
}

static void test_login(void **unused)
{
    (void)unused;
    use("bind");
    assert_int_equal(login(NULL, "joe", "pencil"), AUTH_OK);
    assert_int_equal(login("am9l", "", "pencil"), AUTH_OK);
    assert_int_equal(login(NULL, "joe", "pen"), AUTH_WRONG);
    assert_int_equal(login(NULL, "joe", ""), AUTH_WRONG);
    assert_int_equal(login(NULL, "", "x"), AUTH_SYNTAX);
    assert_int_equal(login("=", "", "x"), AUTH_SYNTAX);
    assert_int_equal(login(NULL, "jo\x01", "x"), AUTH_SYNTAX);
    assert_int_equal(login("AAAA", "", "x"), AUTH_SYNTAX);
    directory.down = true;
    assert_int_equal(login(NULL, "joe", "pencil"), AUTH_DOWN);
    assert_string_equal(last.text, "the directory is down");
}

static void test_external(void **unused)
{
    static const struct {
        const char *initial, *then;
        enum auth_step want;
    } cases[] = {
        {"=",    NULL,   AUTH_OK    },
        {"am9l", NULL,   AUTH_OK    },
        {"YW5u", NULL,   AUTH_WRONG },
        {NULL,   "",     AUTH_OK    },
        {NULL,   "am9l", AUTH_OK    },
        {NULL,   "YW5u", AUTH_WRONG },
        {NULL,   "AAAA", AUTH_SYNTAX},
    };

    (void)unused;
    use(NULL);
    client.certified = "joe";
    for (size_t i = 0; i < countof(cases); i++) {
        struct auth *a = auth_begin(&client, slice_of("EXTERNAL"));
        enum auth_step s = step(a, cases[i].initial);

        assert_string_equal(auth_user(a), "joe");
        if (!cases[i].initial) {
            assert_int_equal(s, AUTH_MORE);
            assert_int_equal(challenge.n, 0);
            s = step(a, cases[i].then);
        }
        assert_int_equal(s, cases[i].want);
        auth_free(&a);
    }
}

/* The password comes first; then whether the directory allows it; nothing that is down lets anybody
 * in. */
static void test_verdicts(void **unused)
{
    (void)unused;
    use("strict");
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_OK);
    directory.refuses = true;
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_NOT_ALLOWED);
    assert_string_equal(last.text, "has a card");
    directory.allowance_asked = 0;
    assert_int_equal(PLAIN("\0joe\0pen", "joe"), AUTH_WRONG);
    assert_int_equal(directory.allowance_asked, 0);
    directory.allowance_down = true;
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_DOWN);
    use("watch");
    directory.refuses = true;
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_MONITORED);
    assert_string_equal(last.text, "has a card");
    directory.allowance_down = true;
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_DOWN);
    directory.down = true;
    assert_int_equal(PLAIN("\0joe\0pencil", "joe"), AUTH_DOWN);
    use("forward");
    for (forward_says = AUTH_OK; forward_says <= AUTH_DOWN; forward_says++)
        assert_int_equal(PLAIN("\0joe\0pencil", "joe"), forward_says);
    assert_string_equal(directory.password, "pencil");
}

/* --- SCRAM --- */

struct scram_case {
    const char *user, *password, *mechanism;
    const unsigned char *binding;
    bool cancel, chatter;
    char server_first[400];
};

/* A client of GNU SASL against the server. */
static enum auth_step scram(struct scram_case *c)
{
    const char *name = c->mechanism ? c->mechanism : "SCRAM-SHA-256";
    struct auth *a = auth_begin(&client, slice_of(name));
    struct sasl *s = sasl_client_new(sasl_find(slice_of(name)), c->user, c->password, c->binding);
    AUTO(buf) struct buf out = BUF_INIT(4000), in = BUF_INIT(4000);
    static unsigned char message[4000];
    struct slice none = {NULL, 0};
    enum auth_step v;
    enum sasl_step mine;
    size_t n;
    char *text;

    assert_non_null(a);
    mine = sasl_client_step(s, none, &out);
    assert_int_equal(mine, SASL_MORE);
    for (unsigned round = 0;; round++) {
        assert_true(round < 4);
        text = encode(buf_str(&out), out.n);
        v = step(a, round && str_eq(text, "=") ? "" : text);
        free(text);
        if (v != AUTH_MORE)
            break;
        assert_true(
            base64_decode(slice_of(buf_str(&challenge)), true, message, sizeof(message) - 1, &n));
        message[n] = '\0';
        if (!round)
            str_copy(c->server_first, sizeof(c->server_first), (char *)message);
        buf_reset(&out);
        mine = sasl_client_step(s, (struct slice){(char *)message, n}, &out);
        if (c->cancel) {
            v = step(a, "*");
            break;
        }
        if (mine == SASL_PROVEN && c->chatter)
            buf_str_add(&out, "hello");
    }
    if (v == AUTH_OK || v == AUTH_MONITORED)
        assert_int_equal(mine, SASL_PROVEN); /* so has the server proved itself */
    if (v == AUTH_OK || v == AUTH_WRONG)
        assert_string_equal(auth_user(a), c->user);
    auth_free(&a);
    sasl_free(&s);
    return v;
}

static enum auth_step scram_as(const char *user, const char *password)
{
    struct scram_case c = {.user = user, .password = password};

    return scram(&c);
}

static void test_scram(void **unused)
{
    struct scram_case c = {.user = "joe", .password = "pencil", .cancel = true};

    (void)unused;
    use("attribute");
    assert_int_equal(scram_as("joe", "pencil"), AUTH_OK);
    assert_int_equal(scram_as("ann", "pencil"), AUTH_OK);
    assert_int_equal(scram_as("both", "pencil"), AUTH_OK);
    assert_int_equal(scram_as("j\u00f6", "pencil"), AUTH_OK);
    assert_int_equal(scram_as("a,b=c", "pencil"), AUTH_OK);
    assert_int_equal(scram_as("joe", "pencil "), AUTH_WRONG);
    assert_int_equal(scram_as("ann", "pen"), AUTH_WRONG);
    assert_int_equal(scram_as("nobody", "pencil"), AUTH_WRONG);
    assert_string_equal(last.text, "no such user");
    assert_int_equal(scram_as("old", "Correct horse 9"), AUTH_WRONG);
    assert_string_equal(last.text,
                        "the password attribute has no value that SCRAM can be done with");
    assert_int_equal(scram(&c), AUTH_CANCELLED);
    c.cancel = false;
    c.chatter = true;
    assert_int_equal(scram(&c), AUTH_SYNTAX);
    directory.down = true;
    assert_int_equal(scram_as("joe", "pencil"), AUTH_DOWN);
    assert_string_equal(last.text, "the directory is down");
    use("strict");
    assert_int_equal(scram_as("joe", "pencil"), AUTH_OK);
    directory.refuses = true;
    assert_int_equal(scram_as("joe", "pencil"), AUTH_NOT_ALLOWED);
    directory.allowance_asked = 0;
    assert_int_equal(scram_as("joe", "pen"), AUTH_WRONG);
    assert_int_equal(directory.allowance_asked, 0);
    directory.allowance_down = true;
    assert_int_equal(scram_as("joe", "pencil"), AUTH_DOWN);
    use("watch");
    directory.refuses = true;
    assert_int_equal(scram_as("joe", "pencil"), AUTH_MONITORED);
    assert_string_equal(last.text, "has a card");
}

/* "r=...,s=SALT,i=N" */
static void salt_and_iterations(const char *user, char *out, size_t size)
{
    struct scram_case c = {.user = user, .password = "x"};

    assert_int_equal(scram(&c), AUTH_WRONG);
    assert_non_null(strstr(c.server_first, ",s="));
    str_copy(out, size, strstr(c.server_first, ",s="));
}

/* Who does not exist looks like who does: the same salt each time, of the same length, another one
 * for another name. */
static void test_nobody(void **unused)
{
    char joe[200], joe2[200], nobody[200], nobody2[200], other[200], old[200];

    (void)unused;
    use("attribute");
    salt_and_iterations("joe", joe, sizeof(joe));
    salt_and_iterations("joe", joe2, sizeof(joe2));
    salt_and_iterations("nobody", nobody, sizeof(nobody));
    salt_and_iterations("nobody", nobody2, sizeof(nobody2));
    salt_and_iterations("other", other, sizeof(other));
    salt_and_iterations("old", old, sizeof(old));
    assert_string_equal(joe, joe2);
    assert_string_equal(nobody, nobody2);
    assert_string_not_equal(nobody, other);
    assert_string_not_equal(nobody, joe);
    assert_int_equal(strlen(nobody), strlen(joe));
    assert_int_equal(strlen(nobody), strlen(old));
}

/* What a client may send in place of its first and final messages. */
static void test_scram_syntax(void **unused)
{
    static const struct {
        const char *first;
        enum auth_step want;
    } cases[] = {
        {"n,,n=joe,r=abc",            AUTH_MORE  },
        {"y,,n=joe,r=abc",            AUTH_MORE  }, /* no -PLUS was offered */
        {"n,a=joe,n=joe,r=abc",       AUTH_MORE  },
        {"n,a=ann,n=joe,r=abc",       AUTH_WRONG }, /* for another user */
        {"p=tls-exporter,,n=joe,r=a", AUTH_WRONG },
        {"",                          AUTH_SYNTAX},
        {"n",                         AUTH_SYNTAX},
        {"n,,",                       AUTH_SYNTAX},
        {"n,,n=,r=abc",               AUTH_SYNTAX},
        {"n,,n=joe",                  AUTH_SYNTAX},
        {"n,,m=x,n=joe,r=abc",        AUTH_SYNTAX}, /* mandatory extension */
        {"n,,n=jo\ne,r=abc",          AUTH_SYNTAX},
        {"n,,n=jo\xff,r=abc",         AUTH_SYNTAX},
        {"q,,n=joe,r=abc",            AUTH_SYNTAX},
    };
    static const char *const finals[] = {
        "c=biws,r=wrong,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "c=biws", "", "x",
        "c=biws,r=,p="};

    (void)unused;
    use("attribute");
    for (size_t i = 0; i < countof(cases); i++) {
        struct auth *a = auth_begin(&client, slice_of("SCRAM-SHA-256"));
        char *text = encode(cases[i].first, strlen(cases[i].first));
        enum auth_step got = step(a, text);

        if (got != cases[i].want && !(cases[i].want == AUTH_SYNTAX && got == AUTH_WRONG))
            fail_msg("%s: %d", cases[i].first, got);
        auth_free(&a);
        free(text);
    }
    for (size_t i = 0; i < countof(finals); i++) {
        struct auth *a = auth_begin(&client, slice_of("SCRAM-SHA-256"));
        char *first = encode(cases[0].first, strlen(cases[0].first)),
             *text = encode(finals[i], strlen(finals[i]));
        enum auth_step got;

        assert_int_equal(step(a, NULL), AUTH_MORE);
        assert_int_equal(challenge.n, 0);
        assert_int_equal(step(a, first), AUTH_MORE);
        got = step(a, str_eq(text, "=") ? "" : text);
        if (got != AUTH_SYNTAX && got != AUTH_WRONG)
            fail_msg("%s: %d", finals[i], got);
        auth_free(&a);
        free(first);
        free(text);
    }
    struct auth *a = auth_begin(&client, slice_of("SCRAM-SHA-256"));

    assert_int_equal(step(a, "biwsbj1qb2UAeA=="), AUTH_SYNTAX); /* with a NUL */
    auth_free(&a);
}

/* --- channel binding --- */

static void shake(SSL **s, SSL **c, struct tls_context *server, struct tls_context *other)
{
    BIO *a, *b;

    *s = SSL_new(tls_context_ssl(server));
    *c = SSL_new(tls_context_ssl(other));
    BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
    SSL_set_bio(*s, a, a);
    SSL_set_bio(*c, b, b);
    SSL_set_accept_state(*s);
    SSL_set_connect_state(*c);
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(*c);
        SSL_do_handshake(*s);
    }
    assert_true(SSL_is_init_finished(*s) && SSL_is_init_finished(*c));
}

static void test_binding(void **unused)
{
    struct test_cert cert = test_cert_new("gw.example", 0);
    struct tls_settings server = {.cert_pem = cert.cert, .key_pem = cert.key, .server = true},
                        other = {0};
    struct err err = {0};
    struct tls_context *sc = tls_context_new(&server, &err), *cc = tls_context_new(&other, &err),
                       *old;
    unsigned char ours[SASL_BINDING], theirs[SASL_BINDING];
    struct scram_case c = {
        .user = "joe", .password = "pencil", .mechanism = "SCRAM-SHA-256-PLUS", .binding = theirs};
    struct auth *a;
    SSL *s, *p;

    (void)unused;
    use("attribute");
    shake(&s, &p, sc, cc);
    client.ssl = s;
    expect_mechanisms(NULL, "PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS");
    assert_true(sasl_binding(s, ours));
    assert_true(sasl_binding(p, theirs));
    assert_memory_equal(ours, theirs, SASL_BINDING);
    assert_int_equal(scram(&c), AUTH_OK);
    c.password = "x";
    assert_int_equal(scram(&c), AUTH_WRONG);
    c.password = "pencil";
    theirs[5] ^= 1; /* somebody between us has two sessions */
    assert_int_equal(scram(&c), AUTH_WRONG);
    theirs[5] ^= 1;
    c.mechanism = "SCRAM-SHA-256";
    assert_int_equal(scram(&c), AUTH_OK);
    a = auth_begin(&client, slice_of("SCRAM-SHA-256"));
    /* A client that knows channel binding and was not told that we do: somebody is between us. */
    assert_int_equal(step(a, "eSwsbj1qb2Uscj1hYmM="), AUTH_WRONG); /* y,,n=joe,r=abc */
    auth_free(&a);
    SSL_free(s);
    SSL_free(p);

    other.max_version = TLS1_2_VERSION;
    old = tls_context_new(&other, &err);
    shake(&s, &p, sc, old);
    client.ssl = s;
    expect_mechanisms(NULL, "PLAIN LOGIN SCRAM-SHA-256");
    SSL_free(s);
    SSL_free(p);
    tls_context_free(&sc);
    tls_context_free(&cc);
    tls_context_free(&old);
    test_cert_free(&cert);
}

/* --- on a fiber --- */

static void exchanges(void)
{
    test_scram(NULL);
    test_plain(NULL);
    test_login(NULL);
}

static void test_fiber(void **unused)
{
    (void)unused;
    in_fiber(exchanges, 40 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mechanisms), cmocka_unit_test(test_plain),
        cmocka_unit_test(test_login),      cmocka_unit_test(test_external),
        cmocka_unit_test(test_verdicts),   cmocka_unit_test(test_scram),
        cmocka_unit_test(test_nobody),     cmocka_unit_test(test_scram_syntax),
        cmocka_unit_test(test_binding),    cmocka_unit_test(test_fiber),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
