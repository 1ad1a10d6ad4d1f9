/* ldap_filter.c - see ldap_filter.h. A template is a tree whose values are lists of pieces, literal
 * or macro; filling makes a second tree whose values are bytes. */
#include "store/ldap_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/str.h"

#define LONGEST 100000u
#define DEEPEST 50u /* nested filters: what is read by hand has a handful */

struct piece { /* of a value */
    const struct piece *next;
    bool is_macro;
    enum ldap_macro macro;
    struct slice text;
};
struct value {
    struct value *next; /* the next part between asterisks */
    const struct piece *pieces;
};
struct node {
    enum ldap_op op;
    struct node *child, *next;
    struct slice attribute, rule;
    bool dn;
    struct value *values;
    size_t nvalues;
};
struct ldap_template {
    struct arena arena;
    struct node *root;
    unsigned macros;
};

static const char *const macro_names[MACROS] = {
    [MACRO_USER] = "u",     [MACRO_DOMAIN] = "d",  [MACRO_ADDRESS] = "a",      [MACRO_TIME] = "t",
    [MACRO_CN] = "cn",      [MACRO_SERIAL] = "sn", [MACRO_EMAIL] = "e",        [MACRO_UPN] = "upn",
    [MACRO_SUBJECT] = "dn", [MACRO_ISSUER] = "i",  [MACRO_FINGERPRINT] = "fp",
};

const char *ldap_macro_name(enum ldap_macro m)
{
    return macro_names[m];
}

bool ldap_macro_find(const char *name, enum ldap_macro *out)
{
    for (unsigned m = 0; m < MACROS; m++) {
        if (str_ieq(name, macro_names[m])) {
            *out = m;
            return true;
        }
    }
    return false;
}

void ldap_time_value(usec_t now, char out[16])
{
    time_t seconds = (time_t)(now / 1000000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(out, 16, "%Y%m%d%H%M%SZ", &tm);
}

/* ---- parsing ---- */

struct parser {
    struct ldap_template *t;
    const char *text, *at;
    struct err *err;
};

/* "The filter is wrong at character 12, before "foo": ..." */
static bool wrong(struct parser *p, const char *where, const char *what)
{
    AUTO(buf) struct buf rest = BUF_INIT(200);
    size_t n = strlen(where), shown = n < 20 ? n : 20, chars = 1;

    while (shown < n && ((unsigned char)where[shown] & 0xc0) == 0x80)
        shown++;
    for (const char *c = p->text; c < where; c++)
        chars += ((unsigned char)*c & 0xc0) != 0x80;
    str_escape_again(&rest, where, shown);
    if (!n)
        return err_set(p->err, E_INVALID, "The filter is wrong at its end: %s.", what);
    return err_set(p->err, E_INVALID, "The filter is wrong at character %zu, before \"%s%s\": %s.",
                   chars, buf_str(&rest), shown < n ? "..." : "", what);
}

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t')
        p->at++;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_letter(c) || is_digit(c) || c == '-';
}

/* The end of a descriptor or OID (RFC 4512 section 1.4); where it began: there is none. */
static const char *skip_oid(const char *s)
{
    const char *begin = s;

    if (is_letter(*s)) {
        while (is_name_char(*s))
            s++;
        return s;
    }
    while (is_digit(*s)) {
        while (is_digit(*s))
            s++;
        if (*s != '.')
            return s;
        if (!is_digit(s[1]))
            return begin;
        s++;
    }
    return begin;
}

/* The same with options behind it (section 2.5). */
static const char *skip_attribute(const char *s)
{
    const char *begin = s;

    s = skip_oid(s);
    while (s > begin && *s == ';' && is_name_char(s[1]))
        for (s++; is_name_char(*s);)
            s++;
    return s;
}

bool ldap_attribute_check(const char *name, struct err *err)
{
    const char *end = skip_attribute(name);

    if (*name && !*end)
        return true;
    return err_set(err, E_INVALID,
                   "\"%s\" is no name of an attribute: it begins with a letter and holds letters, "
                   "digits and hyphens (or it is an OID like 2.5.4.3).",
                   str_printable(name));
}

static int hex_of(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_macro(struct parser *p, struct piece *out)
{
    const char *begin = p->at + 1, *end = strchr(begin, '}');
    char name[8];

    if (end && (size_t)(end - begin) < sizeof(name)) {
        str_copy(name, (size_t)(end - begin) + 1, begin);
        if (ldap_macro_find(name, &out->macro)) {
            out->is_macro = true;
            p->t->macros |= MACRO_BIT(out->macro);
            p->at = end + 1;
            return true;
        }
        if (str_ieq(name, "f"))
            return wrong(p, p->at,
                         "{f}, the sender, is not known yet when a user proves who he is");
    }
    return wrong(p, p->at,
                 "there are the macros {u} {d} {a} {t}, and for certificates {cn} {sn} {e} {upn} "
                 "{dn} {i} {fp}; a brace that is meant as itself is written \\7b");
}

/* A run of literal bytes, \XX decoded. */
static bool parse_literal(struct parser *p, struct piece *out)
{
    const char *begin = p->at;
    char *text;
    size_t n = 0;

    while (*p->at && !strchr("*(){", *p->at))
        p->at += p->at[0] == '\\' && p->at[1] ? 2 : 1;
    text = arena_alloc(&p->t->arena, (size_t)(p->at - begin) + 1);
    for (p->at = begin; *p->at && !strchr("*(){", *p->at);) {
        if (*p->at != '\\') {
            text[n++] = *p->at++;
            continue;
        }
        if (hex_of(p->at[1]) < 0 || hex_of(p->at[2]) < 0)
            return wrong(p, p->at,
                         "a backslash is followed by two hexadecimal digits (RFC 4515): \\2a is *, "
                         "\\28 is (, \\29 is ), \\5c is the backslash");
        text[n++] = (char)(hex_of(p->at[1]) << 4 | hex_of(p->at[2]));
        p->at += 3;
    }
    out->text = (struct slice){text, n};
    return true;
}

/* Up to the next asterisk or parenthesis. */
static bool parse_value(struct parser *p, struct value *out)
{
    const struct piece **last = &out->pieces;

    while (*p->at && !strchr("*()", *p->at)) {
        struct piece *piece = arena_alloc(&p->t->arena, sizeof(*piece));

        if (!(*p->at == '{' ? parse_macro(p, piece) : parse_literal(p, piece)))
            return false;
        *last = piece;
        last = &piece->next;
    }
    return true;
}

/* The value of an equality, which asterisks make something else. */
static bool parse_values(struct parser *p, struct node *node)
{
    struct value **last = &node->values;

    for (;;) {
        struct value *v = arena_alloc(&p->t->arena, sizeof(*v));
        const char *begin = p->at;

        if (!parse_value(p, v))
            return false;
        *last = v;
        last = &v->next;
        node->nvalues++;
        if (*p->at != '*')
            break;
        if (node->nvalues > 1 && !v->pieces)
            return wrong(p, begin, "two asterisks without anything between them");
        p->at++;
    }
    if (node->nvalues == 2 && !node->values->pieces && !node->values->next->pieces)
        node->op = LDAP_PRESENT;
    else if (node->nvalues > 1)
        node->op = LDAP_SUBSTRINGS;
    return true;
}

/* "attr:dn:rule:=value"; p->at is behind the attribute, at the first colon. */
static bool parse_match(struct parser *p, struct node *node)
{
    node->op = LDAP_MATCH;
    if ((str_istarts(p->at, ":dn:"))) {
        node->dn = true;
        p->at += 3;
    }
    if (p->at[0] == ':' && p->at[1] != '=') {
        const char *end = skip_oid(p->at + 1);

        if (end == p->at + 1 || *end != ':')
            return wrong(p, p->at, "a matching rule is written attribute:rule:=value");
        node->rule = (struct slice){p->at + 1, (size_t)(end - p->at - 1)};
        p->at = end;
    }
    if (!str_starts(p->at, ":="))
        return wrong(p, p->at, "\":=\" is missing behind the matching rule");
    p->at += 2;
    if (!node->attribute.n && !node->rule.n)
        return wrong(p, p->at, "there is neither an attribute nor a matching rule before \":=\"");
    return true;
}

static bool parse_operator(struct parser *p, struct node *node)
{
    static const struct {
        const char *text;
        enum ldap_op op;
    } operators[] = {
        {"=",  LDAP_EQUAL  },
        {">=", LDAP_GREATER},
        {"<=", LDAP_LESS   },
        {"~=", LDAP_APPROX },
    };

    if (*p->at == ':')
        return parse_match(p, node);
    for (size_t i = 0; i < countof(operators); i++) {
        if (str_starts(p->at, operators[i].text)) {
            node->op = operators[i].op;
            p->at += strlen(operators[i].text);
            return true;
        }
    }
    return wrong(
        p, p->at,
        "\"=\", \">=\", \"<=\", \"~=\" or \":=\" is missing behind the name of the attribute");
}

static bool parse_item(struct parser *p, struct node *node)
{
    const char *begin = p->at;

    p->at = skip_attribute(p->at);
    node->attribute = (struct slice){begin, (size_t)(p->at - begin)};
    if (!node->attribute.n && *begin == '{')
        return wrong(p, begin, "a macro stands for a value, never for the name of an attribute");
    if (!node->attribute.n && *begin != ':')
        return wrong(p, begin,
                     "a name of an attribute, \"&\", \"|\" or \"!\" must follow the \"(\"");
    if (!parse_operator(p, node))
        return false;
    if (node->op == LDAP_EQUAL)
        return parse_values(p, node);
    node->values = arena_alloc(&p->t->arena, sizeof(*node->values));
    node->nvalues = 1;
    if (!parse_value(p, node->values))
        return false;
    if (*p->at == '*')
        return wrong(p, p->at, "an asterisk has a meaning behind \"=\" only; as itself it is \\2a");
    return true;
}

static struct node *parse_filter(struct parser *p, unsigned depth);

static bool parse_list(struct parser *p, struct node *node, unsigned depth)
{
    struct node **last = &node->child;
    size_t n = 0;

    node->op = *p->at == '&' ? LDAP_AND : *p->at == '|' ? LDAP_OR : LDAP_NOT;
    p->at++;
    for (skip_blanks(p); *p->at == '('; skip_blanks(p)) {
        if (node->op == LDAP_NOT && n == 1)
            return wrong(p, p->at, "\"!\" stands before one filter");
        *last = parse_filter(p, depth + 1);
        if (!*last)
            return false;
        last = &(*last)->next;
        n++;
    }
    if (!n)
        return wrong(p, p->at, "at least one filter in \"(\" and \")\" must follow");
    return true;
}

static struct node *parse_filter(struct parser *p, unsigned depth)
{
    struct node *node = arena_alloc(&p->t->arena, sizeof(*node));
    const char *begin = p->at;
    bool ok;

    if (*p->at != '(') {
        wrong(p, p->at, "a filter begins with \"(\", as in (uid={u})");
        return NULL;
    }
    if (depth > DEEPEST) {
        wrong(p, p->at, "it is nested too deeply");
        return NULL;
    }
    p->at++;
    skip_blanks(p);
    ok = *p->at && strchr("&|!", *p->at) ? parse_list(p, node, depth) : parse_item(p, node);
    if (!ok)
        return NULL;
    if (*p->at == '(') {
        wrong(p, p->at, "a \"(\" inside a value is written \\28; or a \")\" is missing before it");
        return NULL;
    }
    if (*p->at != ')') {
        char what[100];
        size_t chars = 1;

        for (const char *c = p->text; c < begin; c++)
            chars += ((unsigned char)*c & 0xc0) != 0x80;
        snprintf(what, sizeof(what), "the \")\" for the \"(\" at character %zu is missing", chars);
        wrong(p, p->at, what);
        return NULL;
    }
    p->at++;
    return node;
}

struct ldap_template *ldap_template_parse(const char *text, struct err *err)
{
    struct ldap_template *t;
    struct parser p = {.err = err};
    char *copy;

    if (strlen(text) > LONGEST) {
        err_set(err, E_LIMIT, "The filter is longer than %u bytes.", LONGEST);
        return NULL;
    }
    if (!str_is_utf8(text, strlen(text))) {
        err_set(err, E_INVALID, "The filter is not UTF-8 text.");
        return NULL;
    }
    t = xcalloc(1, sizeof(*t));
    copy = arena_strdup(&t->arena, text); /* names stay where they are */
    p.t = t;
    p.text = p.at = copy;
    skip_blanks(&p);
    t->root = parse_filter(&p, 0);
    skip_blanks(&p);
    if (t->root && *p.at) {
        wrong(&p, p.at,
              *p.at == ')' ? "there is no \"(\" for this \")\""
                           : "nothing may follow the filter; several are joined with (&...) "
                             "or (|...)");
        t->root = NULL;
    }
    if (!t->root)
        ldap_template_free(&t);
    return t;
}

void ldap_template_free(struct ldap_template **tp)
{
    struct ldap_template *t = *tp;

    *tp = NULL;
    if (!t)
        return;
    arena_free(&t->arena);
    free(t);
}

unsigned ldap_template_macros(const struct ldap_template *t)
{
    return t->macros;
}

/* ---- filling ---- */

struct filling {
    const struct ldap_values *values;
    struct arena *arena;
    enum ldap_macro *lacking;
};

static bool item_has_values(struct filling *f, const struct node *n)
{
    for (const struct value *v = n->values; v; v = v->next) {
        for (const struct piece *p = v->pieces; p; p = p->next) {
            const char *value = p->is_macro ? f->values->of[p->macro] : "x";

            if (!value || !*value) {
                *f->lacking = p->macro;
                return false;
            }
        }
    }
    return true;
}

static struct slice value_bytes(struct filling *f, const struct value *v)
{
    size_t n = 0;
    char *out;

    for (const struct piece *p = v->pieces; p; p = p->next)
        n += p->is_macro ? strlen(f->values->of[p->macro]) : p->text.n;
    out = arena_alloc(f->arena, n + 1);
    n = 0;
    for (const struct piece *p = v->pieces; p; p = p->next) {
        struct slice s = p->is_macro ? slice_of(f->values->of[p->macro]) : p->text;

        memcpy(out + n, s.p, s.n);
        n += s.n;
    }
    return (struct slice){out, n};
}

static struct slice keep(struct filling *f, struct slice s)
{
    return (struct slice){arena_slice(f->arena, s), s.n};
}

static struct ldap_node *fill_item(struct filling *f, const struct node *n)
{
    struct ldap_node *out;
    struct slice *parts;

    if (!item_has_values(f, n))
        return NULL;
    out = arena_alloc(f->arena, sizeof(*out));
    out->op = n->op;
    out->attribute = keep(f, n->attribute);
    out->rule = keep(f, n->rule);
    out->dn = n->dn;
    parts = arena_alloc(f->arena, (n->nvalues + 1) * sizeof(*parts));
    for (const struct value *v = n->values; v && n->op != LDAP_PRESENT; v = v->next)
        parts[out->n++] = value_bytes(f, v);
    out->parts = parts;
    return out;
}

/* NULL: a constant, for want of values. In a place where more truth finds more entries it is false,
 * under an odd number of "not" it is true: either way it finds fewer, and that is all that is ever
 * done to constants. */
static struct ldap_node *fill(struct filling *f, const struct node *n, bool negated)
{
    struct ldap_node *out;
    const struct ldap_node **last;
    /* One constant part makes the whole constant: false in an AND, true in an OR. */
    bool one_is_enough =
        (n->op == LDAP_AND && !negated) || (n->op == LDAP_OR && negated) || n->op == LDAP_NOT;

    if (n->op > LDAP_NOT)
        return fill_item(f, n);
    out = arena_alloc(f->arena, sizeof(*out));
    out->op = n->op;
    last = &out->child;
    for (const struct node *c = n->child; c; c = c->next) {
        struct ldap_node *part = fill(f, c, n->op == LDAP_NOT ? !negated : negated);

        if (!part && one_is_enough)
            return NULL;
        if (!part)
            continue;
        *last = part;
        last = &part->next;
    }
    return out->child ? out : NULL;
}

const struct ldap_node *ldap_template_fill(const struct ldap_template *t,
                                           const struct ldap_values *values, struct arena *arena,
                                           enum ldap_macro *lacking)
{
    struct filling f = {values, arena, lacking};

    *lacking = MACROS;
    return fill(&f, t->root, false);
}

/* ---- printing ---- */

static void print_value(struct slice s, struct buf *out)
{
    bool utf8 = str_is_utf8(s.p, s.n);

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c < 0x20 || c == 0x7f || strchr("*()\\{", (char)c) || (c >= 0x80 && !utf8))
            buf_printf(out, "\\%02x", c);
        else
            buf_char(out, (char)c);
    }
}

static void print_item(const struct ldap_node *f, struct buf *out)
{
    static const char *const operators[] = {
        [LDAP_EQUAL] = "=",    [LDAP_SUBSTRINGS] = "=", [LDAP_GREATER] = ">=", [LDAP_LESS] = "<=",
        [LDAP_PRESENT] = "=*", [LDAP_APPROX] = "~=",    [LDAP_MATCH] = ":="};

    buf_add(out, f->attribute.p, f->attribute.n);
    if (f->dn)
        buf_str_add(out, ":dn");
    if (f->rule.n) {
        buf_char(out, ':');
        buf_add(out, f->rule.p, f->rule.n);
    }
    buf_str_add(out, operators[f->op]);
    for (size_t i = 0; i < f->n; i++) {
        if (i)
            buf_char(out, '*');
        print_value(f->parts[i], out);
    }
}

void ldap_filter_print(const struct ldap_node *f, struct buf *out)
{
    buf_char(out, '(');
    if (f->op <= LDAP_NOT) {
        buf_char(out, "&|!"[f->op]);
        for (const struct ldap_node *c = f->child; c; c = c->next)
            ldap_filter_print(c, out);
    } else {
        print_item(f, out);
    }
    buf_char(out, ')');
}
