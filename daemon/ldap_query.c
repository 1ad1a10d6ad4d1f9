/* ldap_query.c - ldap_auth.h and ldap_query.h: from a query of ldapconfig and a user, or a
 * certificate, to a verdict. Whoever is found is one entry, or nobody. */
#include "daemon/ldap_query.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "daemon/ldap_cache.h"
#include "daemon/ldap_pool.h"
#include "daemon/password.h"

#define USER_MAX 320u /* bytes of a name: an address */
#define PASSWORD_MAX 1024u
#define VALUE_MAX 1024u /* bytes of what a certificate gives */
#define WITH_TIME_LASTS MINUTES(1) /* answers to filters with {t} */

/* ---- reports ---- */

static enum ldap_verdict say(struct ldap_report *out, enum ldap_outcome outcome, enum err_code code,
                             const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static enum ldap_verdict say(struct ldap_report *out, enum ldap_outcome outcome, enum err_code code,
                             const char *fmt, ...)
{
    char text[sizeof(out->why.text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    out->outcome = outcome;
    err_set(&out->why, code, "%s", text);
    return outcome == LDAP_MATCHED ? LDAP_YES : outcome == LDAP_FAILED ? LDAP_DOWN : LDAP_NO;
}

static void show(char *out, size_t size, const char *text, size_t n)
{
    AUTO(buf) struct buf shown = BUF_INIT(4 * size);

    str_escape_again(&shown, text, n);
    str_copy(out, size, buf_str(&shown));
}

/* ---- searching ---- */

static const char *base_of(const struct ldap_asking *a)
{
    if (!*a->query->base)
        return ldap_pool_base(a->pool);
    return str_ieq(a->query->base, "NONE") ? "" : a->query->base;
}

/* What a search came to, as to who it found. */
static enum ldap_verdict judge(const struct ldap_asking *a, const struct ldap_found *found,
                               struct ldap_report *out)
{
    char text[300];

    ldap_result_print(&found->result, text);
    switch (found->result.code) {
    case LDAP_R_SUCCESS:
        break;
    case LDAP_R_SIZE_LIMIT:
        if (!found->entries)
            return say(out, LDAP_FAILED, E_INVALID, "the server gives no entries: %s", text);
        return say(out, LDAP_SEVERAL, E_INVALID, "several LDAP records match; it must be one");
    case LDAP_R_NO_SUCH_OBJECT:
        return say(out, LDAP_FAILED, E_INVALID, "the server has no base \"%s\": %s",
                   str_printable(base_of(a)), text);
    case LDAP_R_REFERRAL:
        return say(out, LDAP_FAILED, E_INVALID,
                   "the server refers to another one, which is not asked (choose a base it has "
                   "itself): %s",
                   text);
    default:
        return say(out, LDAP_FAILED, E_INVALID, "the search failed: %s", text);
    }
    if (found->entries > 1)
        return say(out, LDAP_SEVERAL, E_INVALID, "several LDAP records match; it must be one");
    if (!found->entries)
        return say(out, LDAP_NO_MATCH, E_NOT_FOUND, "no matching LDAP record was found%s",
                   found->references ? " (the server refers to others, which are not asked)" : "");
    if (!found->dn || !*found->dn) /* nobody can be bound as, who has no name */
        return say(out, LDAP_NO_MATCH, E_NOT_FOUND, "the LDAP record that matches has no name");
    show(out->dn, sizeof(out->dn), found->dn, strlen(found->dn));
    return say(out, LDAP_MATCHED, E_NONE, "a matching LDAP record was found");
}

/* YIELDS. Who matches the filter, with the values of one attribute (NULL: none). found is to be
 * freed. */
static enum ldap_verdict find(const struct ldap_asking *a, const char *filter,
                              const struct ldap_values *values, const char *attribute,
                              struct ldap_found *found, struct ldap_report *out)
{
    AUTO(arena) struct arena arena = {0};
    AUTO(buf) struct buf text = BUF_INIT(64 << 10);
    struct ldap_values all = *values;
    struct ldap_search s = {.base = base_of(a), .attribute = attribute, .size_limit = 2};
    struct ldap_template *t;
    enum ldap_macro lacking;
    char now[16];
    msec_t left = a->deadline - clock_now();

    memset(found, 0, sizeof(*found));
    ldap_time_value(clock_wall(), now);
    all.of[MACRO_TIME] = now;
    show(out->base, sizeof(out->base), s.base, strlen(s.base));
    t = ldap_template_parse(filter, &out->why);
    if (!t) {
        out->outcome = LDAP_FAILED;
        return LDAP_DOWN;
    }
    s.filter = ldap_template_fill(t, &all, &arena, &lacking);
    ldap_template_free(&t);
    if (!s.filter)
        return say(out, LDAP_NO_MATCH, E_NOT_FOUND, "{%s} has no value here, so nothing can match",
                   ldap_macro_name(lacking));
    ldap_filter_print(s.filter, &text);
    show(out->filter, sizeof(out->filter), buf_str(&text), text.n);
    s.time_limit = left > 0 ? (unsigned)((left + 999) / 1000) : 1;
    if (!ldap_pool_search(a->pool, a->host, &s, a->deadline, found, &out->why)) {
        out->outcome = LDAP_FAILED;
        return LDAP_DOWN;
    }
    return judge(a, found, out);
}

/* ---- users ---- */

struct user_values { /* of a name as the client said it */
    struct ldap_values values;
    char user[USER_MAX + 1];
};

static bool take_user(const char *name, struct user_values *out, struct ldap_report *report)
{
    size_t n = strlen(name);
    const char *at = strrchr(name, '@');

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            n = 0;
    if (!n || n > USER_MAX || !str_is_utf8(name, n)) {
        say(report, LDAP_NO_MATCH, E_INVALID,
            "the user name is empty, longer than %u bytes or no text", USER_MAX);
        return false;
    }
    str_copy(out->user, at ? (size_t)(at - name) + 1 : sizeof(out->user), name);
    out->values.of[MACRO_USER] = out->user;
    out->values.of[MACRO_DOMAIN] = at ? at + 1 : "";
    out->values.of[MACRO_ADDRESS] = at && at > name && at[1] ? name : "";
    return true;
}

/* ---- passwords ---- */

/* What the answer to a user's bind says about him, or about the server. */
static enum ldap_verdict judge_bind(const struct ldap_result *r, struct ldap_report *out)
{
    char text[300];

    ldap_result_print(r, text);
    switch (r->code) {
    case LDAP_R_SUCCESS:
        return say(out, LDAP_MATCHED, E_NONE, "the password is right");
    case LDAP_R_INVALID_CREDENTIALS: /* wrong; with many servers also locked or expired */
    case LDAP_R_INAPPROPRIATE_AUTH: /* the entry has no password */
    case LDAP_R_NO_SUCH_OBJECT: /* gone meanwhile */
    case LDAP_R_CONSTRAINT: /* locked, by a password policy */
    case LDAP_R_UNWILLING: /* disabled */
    case LDAP_R_INSUFFICIENT_ACCESS:
        return say(out, LDAP_REFUSED, E_DENIED, "LDAP authentication failed: %s", text);
    default:
        return say(out, LDAP_FAILED, E_INVALID, "the server lets nobody bind: %s", text);
    }
}

/* YIELDS. On a connection that never searches. */
static enum ldap_verdict try_bind(const struct ldap_asking *a, const char *dn, const char *password,
                                  struct ldap_report *out)
{
    struct ldap_result r;

    if (!ldap_pool_bind(a->pool, a->host, dn, password, a->deadline, &r, &out->why)) {
        out->outcome = LDAP_FAILED;
        return LDAP_DOWN;
    }
    return judge_bind(&r, out);
}

/* YIELDS. One value may cost a second of a worker: whoever may write his own must not keep them busy
 * with a hundred of them. */
static enum ldap_verdict try_values(const struct ldap_asking *a, const struct strlist *values,
                                    const char *password, struct ldap_report *out)
{
    const char *attribute = a->query->password_attribute;
    size_t unknown = 0;

    for (size_t i = 0; i < values->n; i++) {
        if (i && clock_now() >= a->deadline)
            return say(out, LDAP_FAILED, E_LIMIT,
                       "the %zu values of the attribute %s take too long to check", values->n,
                       attribute);
        switch (password_check(values->items[i], strlen(values->items[i]), password)) {
        case PASSWORD_RIGHT:
            return say(out, LDAP_MATCHED, E_NONE, "the password is right");
        case PASSWORD_UNKNOWN_SCHEME:
            unknown++;
            break;
        case PASSWORD_WRONG:
            break;
        }
    }
    if (!values->n)
        return say(out, LDAP_REFUSED, E_DENIED,
                   "the LDAP record shows no attribute %s: it has none, or the server does not let "
                   "the bind user read it",
                   attribute);
    if (unknown == values->n)
        return say(out, LDAP_REFUSED, E_DENIED,
                   "the attribute %s of the LDAP record is stored in a scheme that is not known",
                   attribute);
    return say(out, LDAP_REFUSED, E_DENIED, "the password is wrong");
}

enum ldap_verdict ldap_ask_password(const struct ldap_asking *a, const char *user,
                                    const char *password, struct ldap_report *out)
{
    bool fetch = a->query->method == LDAP_METHOD_ATTRIBUTE;
    struct user_values u;
    struct ldap_found found = {0};
    enum ldap_verdict verdict;

    memset(out, 0, sizeof(*out));
    if (!take_user(user, &u, out))
        return LDAP_NO;
    /* RFC 4513 section 5.1.2: a bind with a name and without a password succeeds, and proves
     * nothing. */
    if (password && (!*password || strlen(password) > PASSWORD_MAX))
        return say(out, LDAP_REFUSED, E_DENIED, "the password is empty or longer than %u bytes",
                   PASSWORD_MAX);
    verdict = find(a, a->query->filter, &u.values, fetch ? a->query->password_attribute : NULL,
                   &found, out);
    if (verdict == LDAP_YES && password)
        verdict = fetch ? try_values(a, &found.values, password, out)
                        : try_bind(a, found.dn, password, out);
    ldap_found_free(&found);
    return verdict;
}

enum ldap_verdict ldap_ask_allowed(const struct ldap_asking *a, const char *user,
                                   struct ldap_report *out)
{
    struct user_values u;
    struct ldap_found found = {0};
    enum ldap_verdict verdict;

    memset(out, 0, sizeof(*out));
    if (!*a->query->allowance)
        return say(out, LDAP_MATCHED, E_NONE, "there is no allowance query string");
    if (!take_user(user, &u, out))
        return LDAP_NO;
    verdict = find(a, a->query->allowance, &u.values, NULL, &found, out);
    ldap_found_free(&found);
    return verdict;
}

/* ---- certificates ---- */

/* Only the fields the query has chosen; what is no text has no value. */
static void take_certificate(const struct ldap_query *q, const struct ldap_certificate *who,
                             struct ldap_values *out)
{
    const char *const given[MACROS] = {
        [MACRO_CN] = who->cn,         [MACRO_SERIAL] = who->sn,  [MACRO_EMAIL] = who->email,
        [MACRO_UPN] = who->upn,       [MACRO_SUBJECT] = who->dn, [MACRO_ISSUER] = who->issuer,
        [MACRO_FINGERPRINT] = who->fp};

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < q->fields.n; i++) {
        enum ldap_macro m;
        const char *value;

        if (!ldap_macro_find(q->fields.items[i], &m) || !(MACRO_BIT(m) & MACRO_CERTIFICATE_BITS))
            continue;
        value = given[m];
        if (value && strlen(value) <= VALUE_MAX && str_is_utf8(value, strlen(value)))
            out->of[m] = value;
    }
}

/* Is it a name that may stand in a log and count mail? */
static bool is_name(const char *s)
{
    for (const char *c = s; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return *s && strlen(s) <= USER_MAX && str_is_utf8(s, strlen(s));
}

enum ldap_verdict ldap_ask_certificate(const struct ldap_asking *a,
                                       const struct ldap_certificate *who, struct ldap_report *out)
{
    const char *attribute = a->query->user_attribute;
    struct ldap_found found = {0};
    enum ldap_verdict verdict;
    struct ldap_values values;

    memset(out, 0, sizeof(*out));
    take_certificate(a->query, who, &values);
    verdict = find(a, a->query->filter, &values, attribute, &found, out);
    if (verdict == LDAP_YES && found.values.n && is_name(found.values.items[0])) {
        str_copy(out->user, sizeof(out->user), found.values.items[0]);
        say(out, LDAP_MATCHED, E_NONE, "the certificate is that of %s", str_printable(out->user));
    } else if (verdict == LDAP_YES) {
        verdict = say(out, LDAP_NO_MATCH, E_NOT_FOUND,
                      "the LDAP record that matches has no user ID attribute %s", attribute);
    }
    ldap_found_free(&found);
    return verdict;
}

/* ---- ldap_auth.h ---- */

struct asked { /* a question of a running configuration */
    struct ldap_asking asking;
    struct ldap_pool *pool;
    const struct row *row;
    struct ldap_question question; /* in the cache */
    struct ldap_report *report;
};

static void asked_free(struct asked *q)
{
    ldap_pool_free(&q->pool);
    free(q->report);
}

static bool begin(struct asked *q, const struct config *cfg, const char *query, msec_t deadline,
                  struct err *err)
{
    const struct ldap_query *settings;
    msec_t until;

    memset(q, 0, sizeof(*q));
    q->row = config_row(cfg, &section_ldap_query, query);
    if (!q->row)
        return err_set(err, E_NOT_FOUND, "there is no LDAP query \"%s\"", str_printable(query));
    settings = q->row->data;
    q->pool = running_ldap_pool(settings->server);
    if (!q->pool)
        return err_set(err, E_NOT_FOUND,
                       "the LDAP server configuration \"%s\" of query \"%s\" is gone",
                       settings->server, q->row->name);
    until = clock_in(ldap_pool_patience(q->pool));
    q->asking = (struct ldap_asking){.query = settings,
                                     .pool = q->pool,
                                     .host = -1,
                                     .deadline = until < deadline ? until : deadline};
    q->report = xcalloc(1, sizeof(*q->report));
    return true;
}

/* Is the answer known? kind and what was asked; a changed query is another question. */
static bool remembered(struct asked *q, const char *const *words, size_t n, bool *yes, char *user,
                       size_t size)
{
    struct slice parts[12] = {
        {(const char *)q->row->hash, sizeof(q->row->hash)}
    };

    for (size_t i = 0; i < n && i + 1 < countof(parts); i++)
        parts[i + 1] = slice_of(words[i] ? words[i] : "");
    ldap_question_of(&q->question, parts, n + 1);
    return ldap_cache_get(ldap_pool_cache(q->pool), &q->question, yes, user, size);
}

static void remember(struct asked *q, const char *filter, enum ldap_verdict verdict)
{
    if (verdict != LDAP_DOWN)
        ldap_cache_put(ldap_pool_cache(q->pool), &q->question, verdict == LDAP_YES, q->report->user,
                       strcasestr(filter, "{t}") ? WITH_TIME_LASTS : NEVER);
}

/* A server that cannot be used is the pool's to tell; what nobody but the administrator can put
 * right is told here. */
static enum ldap_verdict finish(struct asked *q, enum ldap_verdict verdict, struct err *err)
{
    const struct err *why = &q->report->why;

    err_set(err, why->code, "%s", why->text);
    if (verdict == LDAP_DOWN && why->code == E_INVALID) {
        char key[100];

        snprintf(key, sizeof(key), "ldap-query %s", q->row->name);
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                    "LDAP: the query %s failed: %s. Users are told to try again later.",
                    q->row->name, why->text);
    }
    asked_free(q);
    return verdict;
}

enum ldap_verdict ldap_check_password(const struct config *cfg, const char *query, const char *user,
                                      const char *password, msec_t deadline, struct err *err)
{
    const char *words[] = {"password", user, password};
    enum ldap_verdict verdict;
    struct asked q;
    char none[1];
    bool yes;

    if (!begin(&q, cfg, query, deadline, err)) {
        asked_free(&q);
        return LDAP_DOWN;
    }
    if (remembered(&q, words, countof(words), &yes, none, sizeof(none))) {
        verdict = yes ? LDAP_YES : LDAP_NO;
        say(q.report, yes ? LDAP_MATCHED : LDAP_REFUSED, yes ? E_NONE : E_DENIED, "%s (remembered)",
            yes ? "the password is right" : "no such user, or a wrong password");
    } else {
        verdict = ldap_ask_password(&q.asking, user, password, q.report);
        remember(&q, q.asking.query->filter, verdict);
    }
    return finish(&q, verdict, err);
}

enum ldap_verdict ldap_fetch_password(const struct config *cfg, const char *query, const char *user,
                                      struct strlist *out, msec_t deadline, struct err *err)
{
    struct ldap_found found = {0};
    enum ldap_verdict verdict = LDAP_NO;
    struct user_values u;
    struct asked q;

    memset(out, 0, sizeof(*out));
    if (!begin(&q, cfg, query, deadline, err)) {
        asked_free(&q);
        return LDAP_DOWN;
    }
    if (take_user(user, &u, q.report))
        verdict = find(&q.asking, q.asking.query->filter, &u.values,
                       q.asking.query->password_attribute, &found, q.report);
    if (verdict == LDAP_YES && found.values.n) {
        *out = found.values;
        found.values = (struct strlist){0};
    } else if (verdict == LDAP_YES) {
        verdict = try_values(&q.asking, &found.values, "", q.report); /* says that there is none */
    }
    ldap_found_free(&found);
    return finish(&q, verdict, err);
}

enum ldap_verdict ldap_check_allowed(const struct config *cfg, const char *query, const char *user,
                                     msec_t deadline, struct err *err)
{
    const char *words[] = {"allowance", user};
    enum ldap_verdict verdict;
    struct asked q;
    char none[1];
    bool yes;

    if (!begin(&q, cfg, query, deadline, err)) {
        asked_free(&q);
        return LDAP_DOWN;
    }
    if (*q.asking.query->allowance &&
        remembered(&q, words, countof(words), &yes, none, sizeof(none))) {
        verdict = yes ? LDAP_YES : LDAP_NO;
        say(q.report, yes ? LDAP_MATCHED : LDAP_NO_MATCH, yes ? E_NONE : E_NOT_FOUND,
            "%s (remembered)",
            yes ? "a matching LDAP record was found" : "no matching LDAP record was found");
    } else {
        verdict = ldap_ask_allowed(&q.asking, user, q.report);
        if (*q.asking.query->allowance)
            remember(&q, q.asking.query->allowance, verdict);
    }
    return finish(&q, verdict, err);
}

enum ldap_verdict ldap_check_certificate(const struct config *cfg, const char *query,
                                         const struct ldap_certificate *who, char *user,
                                         size_t size, msec_t deadline, struct err *err)
{
    const char *words[] = {"certificate", who->cn, who->sn,     who->email,
                           who->upn,      who->dn, who->issuer, who->fp};
    enum ldap_verdict verdict;
    struct asked q;
    bool yes;

    *user = '\0';
    if (!begin(&q, cfg, query, deadline, err)) {
        asked_free(&q);
        return LDAP_DOWN;
    }
    if (remembered(&q, words, countof(words), &yes, q.report->user, sizeof(q.report->user))) {
        verdict = yes ? LDAP_YES : LDAP_NO;
        say(q.report, yes ? LDAP_MATCHED : LDAP_NO_MATCH, yes ? E_NONE : E_NOT_FOUND,
            "%s (remembered)",
            yes ? "a matching LDAP record was found" : "no matching LDAP record was found");
    } else {
        verdict = ldap_ask_certificate(&q.asking, who, q.report);
        remember(&q, q.asking.query->filter, verdict);
    }
    if (verdict == LDAP_YES && strlen(q.report->user) >= size)
        verdict =
            say(q.report, LDAP_NO_MATCH, E_LIMIT, "the user ID is longer than %zu bytes", size - 1);
    if (verdict == LDAP_YES)
        str_copy(user, size, q.report->user);
    return finish(&q, verdict, err);
}
