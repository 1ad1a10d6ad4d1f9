/* sts_parse.c - the record and the policy of RFC 8461, sections 3.1 and 3.2, to the letter of their
 * grammars: what is not a policy must not become an empty one, which no host would match. Pure; any
 * thread. */
#include "daemon/mta_sts.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"

#define VERSION "STSv1"
#define RECORD_START "v=" VERSION ";" /* records that begin otherwise are somebody else's */
#define MAX_ID 32
#define MAX_KEY 32

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_key_char(char c)
{
    return is_alnum(c) || c == '_' || c == '-' || c == '.';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* What is left to read. */
struct reader {
    const char *p, *end;
};

static bool at_end(const struct reader *r)
{
    return r->p == r->end;
}

static bool take(struct reader *r, char c)
{
    if (at_end(r) || *r->p != c)
        return false;
    r->p++;
    return true;
}

static void skip_blanks(struct reader *r)
{
    while (!at_end(r) && is_blank(*r->p))
        r->p++;
}

static struct slice run_of(struct reader *r, bool (*belongs)(char c))
{
    const char *start = r->p;

    while (!at_end(r) && belongs(*r->p))
        r->p++;
    return (struct slice){start, (size_t)(r->p - start)};
}

/* A name of a field: at most 32 characters, the first a letter or a digit. */
static bool take_key(struct reader *r, struct slice *key)
{
    *key = run_of(r, is_key_char);
    return key->n >= 1 && key->n <= MAX_KEY && is_alnum(*key->p);
}

/* --- the record --- */

static bool is_record_value(char c)
{
    return c > ' ' && c < 0x7f && c != ';' && c != '=';
}

static bool is_id(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]))
            return false;
    return s.n >= 1 && s.n <= MAX_ID;
}

/* 1*(delimiter field) [delimiter], behind the version. */
static bool parse_fields(struct reader r, char id[33], struct err *err)
{
    *id = '\0';
    for (;;) {
        struct slice key, value;

        skip_blanks(&r);
        if (at_end(&r))
            break;
        if (!take(&r, ';'))
            return err_set(err, E_INVALID, "the record has no \";\" between two fields");
        skip_blanks(&r);
        if (at_end(&r))
            break;
        if (!take_key(&r, &key) || !take(&r, '='))
            return err_set(err, E_INVALID, "a field of the record is not NAME=VALUE");
        value = run_of(&r, is_record_value);
        if (!value.n)
            return err_set(
                err, E_INVALID,
                "a field of the record has no value, or one of characters that are not allowed");
        if (!slice_eq(key, "id") || *id)
            continue;
        if (!is_id(value))
            return err_set(err, E_INVALID, "the record's id is not 1 to 32 letters and digits");
        memcpy(id, value.p, value.n);
        id[value.n] = '\0';
    }
    return *id || err_set(err, E_INVALID, "the record has no id");
}

bool sts_parse_record(const char *const *texts, unsigned n, char id[33], struct err *err)
{
    const char *record = NULL;

    for (unsigned i = 0; i < n; i++) {
        if (!str_starts(texts[i], RECORD_START))
            continue;
        if (record)
            return err_set(err, E_INVALID, "there is more than one MTA-STS record");
        record = texts[i];
    }
    if (!record)
        return err_set(err, E_NOT_FOUND, "there is no MTA-STS record");
    record += strlen(RECORD_START) - 1;
    return parse_fields((struct reader){record, record + strlen(record)}, id, err);
}

/* --- the policy --- */

struct sts_policy *sts_policy_ref(struct sts_policy *p)
{
    atomic_fetch_add(&p->refs, 1);
    return p;
}

void sts_policy_free(struct sts_policy **pp)
{
    struct sts_policy *p = *pp;

    *pp = NULL;
    if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    strlist_free(&p->mx);
    free(p);
}

void sts_free(struct sts *s)
{
    sts_policy_free(&s->policy);
}

static bool parse_mode(struct sts_policy *p, struct slice value, struct err *err)
{
    static const struct {
        const char *word;
        enum sts_state mode;
    } modes[] = {
        {"enforce", STS_MODE_ENFORCE},
        {"testing", STS_MODE_TESTING},
        {"none",    STS_MODE_NONE   },
    };

    for (size_t i = 0; i < countof(modes); i++) {
        if (slice_eq(value, modes[i].word)) {
            p->mode = modes[i].mode;
            return true;
        }
    }
    return err_set(err, E_INVALID, "the mode is not enforce, testing or none");
}

static bool parse_age(struct sts_policy *p, struct slice value, struct err *err)
{
    uint64_t n = 0;

    for (size_t i = 0; i < value.n && i < 11; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return err_set(err, E_INVALID, "max_age is not a number");
        n = n * 10 + (uint64_t)(value.p[i] - '0');
    }
    if (!value.n || value.n > 10)
        return err_set(err, E_INVALID, "max_age has not 1 to 10 digits");
    p->max_age = n > STS_MAX_AGE ? STS_MAX_AGE : (unsigned)n;
    return true;
}

/* ["*."] domain. U-labels, which the grammar does not know but some write, are converted: a host is
 * always compared as it stands in the DNS. */
static bool parse_mx(struct sts_policy *p, struct slice value, struct err *err)
{
    char pattern[256], ascii[256], *name = pattern;
    struct err why = {0};

    if (value.n >= sizeof(pattern))
        return err_set(err, E_INVALID, "an mx pattern is too long");
    memcpy(pattern, value.p, value.n);
    pattern[value.n] = '\0';
    if (str_starts(pattern, "*."))
        name += 2;
    if (!*name || str_ends(name, ".") || !domain_to_ascii(name, ascii + 2, sizeof(ascii) - 2, &why))
        return err_set(err, E_INVALID,
                       "the mx pattern \"%s\" is neither a host name nor \"*.\" and a domain",
                       str_printable(pattern));
    memcpy(ascii, "*.", 2);
    strlist_add(&p->mx, name == pattern ? ascii + 2 : ascii);
    return true;
}

/* Characters of a value: printable ASCII, blanks between them, UTF-8 (looked at as a whole,
 * before). */
static bool is_value_char(char c)
{
    return (unsigned char)c >= ' ' && c != 0x7f;
}

enum { SEEN_VERSION = 1, SEEN_MODE = 2, SEEN_AGE = 4 };

/* The first of several fields of one name counts, mx excepted; names nobody knows are for other
 * readers. */
static bool take_field(struct sts_policy *p, struct slice key, struct slice value, unsigned *seen,
                       struct err *err)
{
    static const struct {
        const char *name;
        unsigned bit;
    } once[] = {
        {"version", SEEN_VERSION},
        {"mode",    SEEN_MODE   },
        {"max_age", SEEN_AGE    },
    };
    unsigned bit = 0;

    if (slice_eq(key, "mx"))
        return parse_mx(p, value, err);
    for (size_t i = 0; i < countof(once); i++)
        if (slice_eq(key, once[i].name))
            bit = once[i].bit;
    if (!bit || *seen & bit)
        return true;
    *seen |= bit;
    if (bit == SEEN_VERSION)
        return slice_eq(value, VERSION) ||
               err_set(err, E_INVALID, "the policy's version is not " VERSION);
    return bit == SEEN_MODE ? parse_mode(p, value, err) : parse_age(p, value, err);
}

static bool take_line_end(struct reader *r)
{
    if (r->end - r->p >= 2 && r->p[0] == '\r' && r->p[1] == '\n') {
        r->p += 2;
        return true;
    }
    return take(r, '\n');
}

static bool parse_lines(struct sts_policy *p, struct reader r, unsigned *seen, struct err *err)
{
    do {
        struct slice key, value;

        if (!take_key(&r, &key) || !take(&r, ':'))
            return err_set(err, E_INVALID, "a line of the policy is not NAME: VALUE");
        skip_blanks(&r);
        value = run_of(&r, is_value_char);
        while (value.n && value.p[value.n - 1] == ' ')
            value.n--;
        skip_blanks(&r); /* a tab ends a value and may only be followed by more blanks */
        if (!value.n)
            return err_set(err, E_INVALID, "a field of the policy is empty");
        if (!at_end(&r) && !take_line_end(&r))
            return err_set(err, E_INVALID,
                           "a line of the policy has characters that are not allowed");
        if (!take_field(p, key, value, seen, err))
            return false;
    } while (!at_end(&r));
    return true;
}

static bool complete(const struct sts_policy *p, unsigned seen, struct err *err)
{
    if (!(seen & SEEN_VERSION))
        return err_set(err, E_INVALID, "the policy has no version");
    if (!(seen & SEEN_MODE))
        return err_set(err, E_INVALID, "the policy has no mode");
    if (!(seen & SEEN_AGE))
        return err_set(err, E_INVALID, "the policy has no max_age");
    if (!p->mx.n && p->mode != STS_MODE_NONE)
        return err_set(err, E_INVALID, "the policy has no mx");
    return true;
}

struct sts_policy *sts_parse_policy(const char *body, size_t n, struct err *err)
{
    struct sts_policy *p;
    unsigned seen = 0;

    if (n > STS_MAX_POLICY) {
        err_set(err, E_LIMIT, "the policy has more than %u bytes", STS_MAX_POLICY);
        return NULL;
    }
    if (!str_is_utf8(body, n)) {
        err_set(err, E_INVALID, "the policy is not text in UTF-8");
        return NULL;
    }
    p = xcalloc(1, sizeof(*p));
    p->refs = 1;
    if (!parse_lines(p, (struct reader){body, body + n}, &seen, err) || !complete(p, seen, err))
        sts_policy_free(&p);
    return p;
}

bool sts_lists(const struct sts_policy *p, const char *host)
{
    char name[256];
    const char *dot;

    if (!domain_to_ascii(host, name, sizeof(name), NULL))
        return false;
    dot = strchr(name, '.');
    for (size_t i = 0; i < p->mx.n; i++) {
        const char *pattern = p->mx.items[i];

        if (str_starts(pattern, "*.") ? dot && str_eq(pattern + 1, dot) : str_eq(pattern, name))
            return true;
    }
    return false;
}
