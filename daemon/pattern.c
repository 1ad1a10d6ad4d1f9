/* pattern.c - see pattern.h. The C library says whether an expression is well-formed and what a
 * single character of it stands for; the rest is Thompson's construction, all of whose states go
 * through the text side by side. */
#include "daemon/pattern.h"

#include <regex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

#define MAX_WEIGHT 4000 /* parts of an expression after repetitions are written out */
#define MAX_PROGRAM (4u * MAX_WEIGHT)
#define ENDLESS UINT32_MAX

enum node_kind { NODE_EMPTY, NODE_SET, NODE_ASSERT, NODE_ALTERNATIVES, NODE_REPEAT };

/* A branch is a list of nodes; alternatives are a list of branches. */
struct node {
    enum node_kind kind;
    int next; /* in its branch; -1: the last */
    int first,
        other; /* of alternatives and repeats: the branch in it; the next alternative, -1: none */
    uint32_t min, max;
    char what; /* of an assertion: ^ $ b B < > */
    unsigned char set[32];
};

enum op { OP_SET, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_FOUND };

struct step {
    enum op op;
    uint32_t to, other; /* of a split the two ways; of a set its node */
    char what;
};

struct pattern {
    struct node *nodes;
    int nnodes, nodes_cap;
    struct step *steps;
    uint32_t nsteps, steps_cap;
    bool too_large;
    bool starts[256]; /* what a match may begin with */
    bool starts_anyhow; /* it may be empty, or begins with an assertion */
    uint32_t *marks, turn; /* of a step: the turn in which it was reached */
    uint32_t *now, *then, *stack;
};

/* --- what may cost too much --------------------------------------------------------------------
 */

/* One atom more, of a cost; what multiplies it comes behind it. */
struct weight {
    unsigned sum[PATTERN_GROUPS + 1], last, depth;
};

static void weigh_atom(struct weight *w, unsigned cost)
{
    w->last = cost;
    w->sum[w->depth] += cost;
}

static const char *behind_brackets(const char *p) /* p: behind the "[" */
{
    p += *p == '^';
    p += *p == ']';
    while (*p && *p != ']') {
        const char close[3] = {p[1], ']', '\0'};
        const char *end = *p == '[' && p[1] && strchr(":.=", p[1]) ? strstr(p + 2, close) : NULL;

        p = end ? end + 2 : p + 1;
    }
    return p;
}

/* The C library copies what is repeated and calls itself for what is nested: a few dozen characters
 * could cost all memory. False: more than any search of a log needs. */
static bool affordable(const char *p)
{
    struct weight w = {0};

    for (; *p && w.sum[w.depth] <= MAX_WEIGHT; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            weigh_atom(&w, 1);
        } else if (*p == '[') {
            p = behind_brackets(p + 1);
            weigh_atom(&w, 1);
            if (!*p)
                break;
        } else if (*p == '(') {
            if (w.depth == PATTERN_GROUPS)
                return false;
            w.sum[++w.depth] = 1;
        } else if (*p == ')' && w.depth) {
            w.depth--;
            weigh_atom(&w, w.sum[w.depth + 1]);
        } else if (*p == '+') { /* x+ is made into xx* */
            w.sum[w.depth] += w.last + 1;
            w.last += w.last + 1;
        } else if (*p == '{' && (p[1] == ',' || (p[1] >= '0' && p[1] <= '9'))) {
            unsigned long most = 1;

            for (p++; *p && *p != '}'; p++)
                if (*p >= '0' && *p <= '9') {
                    unsigned long n = strtoul(p, (char **)&p, 10);

                    p--;
                    most = n > most ? n : most;
                }
            if (!*p)
                break; /* regcomp() says what is missing */
            if (most > PATTERN_REPEAT)
                return false;
            w.sum[w.depth] += w.last * (unsigned)most;
            w.last += w.last * (unsigned)most;
        } else {
            weigh_atom(&w, 1);
        }
    }
    return w.sum[w.depth] <= MAX_WEIGHT;
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct reader {
    struct pattern *p;
    const char *at;
    int flags; /* of regcomp */
    unsigned depth;
};

static int new_node(struct pattern *p, enum node_kind kind)
{
    if (p->nnodes == p->nodes_cap) {
        p->nodes_cap = p->nodes_cap ? p->nodes_cap * 2 : 32;
        p->nodes = xrealloc(p->nodes, (size_t)p->nodes_cap * sizeof(*p->nodes));
    }
    p->nodes[p->nnodes] = (struct node){.kind = kind, .next = -1, .first = -1, .other = -1};
    return p->nnodes++;
}

/* One character, or what stands for one: the C library is asked which. */
static int read_set(struct reader *r, const char *from, size_t n)
{
    char *alone = xasprintf("^%.*s$", (int)n, from), one[2] = {0};
    int node = new_node(r->p, NODE_SET);
    regex_t re;

    if (regcomp(&re, alone, r->flags) == 0) {
        for (unsigned c = 1; c < 256; c++) {
            one[0] = (char)c;
            if (regexec(&re, one, 0, NULL, 0) == 0)
                r->p->nodes[node].set[c / 8] |= (unsigned char)(1u << c % 8);
        }
        regfree(&re);
    }
    free(alone);
    return node;
}

static int read_assertion(struct reader *r, char what)
{
    int node = new_node(r->p, NODE_ASSERT);

    r->p->nodes[node].what = what;
    return node;
}

static int read_alternatives(struct reader *r);

static int read_atom(struct reader *r)
{
    static const char escaped[] = "bB<>`'", as[] = "bB<>^$";
    const char *from = r->at++, *found;
    int node;

    switch (*from) {
    case '(':
        r->depth++;
        node = read_alternatives(r);
        r->depth--;
        r->at += *r->at == ')';
        return node;
    case '^':
    case '$':
        return read_assertion(r, *from);
    case '\\':
        found = *r->at ? strchr(escaped, *r->at) : NULL;
        r->at += *r->at != '\0';
        if (found)
            return read_assertion(r, as[found - escaped]);
        break;
    case '[':
        r->at = behind_brackets(r->at);
        r->at += *r->at == ']';
        break;
    }
    if (r->at == from + 1 && *from != '.') { /* itself, whatever it means elsewhere: ")" */
        char itself[] = {'[', *from, ']'};

        return read_set(r, itself, sizeof(itself));
    }
    return read_set(r, from, (size_t)(r->at - from));
}

/* "{2}", "{2,}", "{,3}", "{2,3}" at r->at. */
static void read_interval(struct reader *r, struct node *n)
{
    char *end = (char *)(uintptr_t)r->at + 1;

    n->min = *end == ',' ? 0 : (uint32_t)strtoul(end, &end, 10);
    n->max = n->min;
    if (*end == ',') {
        end++;
        n->max = *end == '}' ? ENDLESS : (uint32_t)strtoul(end, &end, 10);
    }
    r->at = end + (*end == '}');
}

/* The operators behind an atom. */
static int read_repeats(struct reader *r, int atom)
{
    while (*r->at && strchr("*+?{", *r->at)) {
        int node = new_node(r->p, NODE_REPEAT);
        struct node *n = &r->p->nodes[node];

        n->first = atom;
        if (*r->at == '{') {
            read_interval(r, n);
        } else {
            n->min = *r->at == '+';
            n->max = *r->at == '?' ? 1 : ENDLESS;
            r->at++;
        }
        atom = node;
    }
    return atom;
}

static int read_branch(struct reader *r)
{
    int first = -1, last = -1, node;

    while (*r->at && *r->at != '|' && !(r->depth && *r->at == ')')) {
        bool anchor = *r->at == '^' || *r->at == '$';

        node = read_atom(r);
        if (!anchor)
            node = read_repeats(r, node);
        if (last >= 0)
            r->p->nodes[last].next = node;
        else
            first = node;
        last = node;
    }
    return first >= 0 ? first : new_node(r->p, NODE_EMPTY);
}

static int read_alternatives(struct reader *r)
{
    int all = new_node(r->p, NODE_ALTERNATIVES), last = all, branch;

    branch = read_branch(r);
    r->p->nodes[all].first = branch;
    while (*r->at == '|') {
        int more = new_node(r->p, NODE_ALTERNATIVES);

        r->at++;
        branch = read_branch(r);
        r->p->nodes[more].first = branch;
        r->p->nodes[last].other = more;
        last = more;
    }
    return all;
}

/* --- the program --------------------------------------------------------------------------------
 */

static uint32_t emit(struct pattern *p, struct step s)
{
    if (p->nsteps == MAX_PROGRAM) {
        p->too_large = true;
        return 0;
    }
    if (p->nsteps == p->steps_cap) {
        p->steps_cap = p->steps_cap ? p->steps_cap * 2 : 64;
        p->steps = xrealloc(p->steps, p->steps_cap * sizeof(*p->steps));
    }
    p->steps[p->nsteps] = s;
    return p->nsteps++;
}

static void emit_branch(struct pattern *p, int node);
static void emit_node(struct pattern *p, int node);

static void emit_alternatives(struct pattern *p, int node)
{
    uint32_t split = 0, jump, chain = UINT32_MAX;

    for (; node >= 0; node = p->nodes[node].other) {
        bool more = p->nodes[node].other >= 0;

        if (more)
            split = emit(p, (struct step){.op = OP_SPLIT, .to = p->nsteps + 1});
        emit_branch(p, p->nodes[node].first);
        if (more) {
            jump = emit(p, (struct step){.op = OP_JUMP, .to = chain});
            chain = jump;
            p->steps[split].other = p->nsteps;
        }
    }
    while (chain != UINT32_MAX && !p->too_large) {
        jump = chain;
        chain = p->steps[jump].to;
        p->steps[jump].to = p->nsteps;
    }
}

static void emit_repeat(struct pattern *p, const struct node *n)
{
    uint32_t min = n->min, max = n->max, begin = 0, chain = UINT32_MAX;
    int what = n->first;

    for (uint32_t i = 0; i < min && !p->too_large; i++) {
        begin = p->nsteps;
        emit_node(p, what);
    }
    if (max == ENDLESS && min) {
        emit(p, (struct step){.op = OP_SPLIT, .to = begin, .other = p->nsteps + 1});
    } else if (max == ENDLESS) {
        begin = emit(p, (struct step){.op = OP_SPLIT, .to = p->nsteps + 1});
        emit_node(p, what);
        emit(p, (struct step){.op = OP_JUMP, .to = begin});
        p->steps[begin].other = p->nsteps;
    } else {
        for (uint32_t i = min; i < max && !p->too_large; i++) {
            chain = emit(p, (struct step){.op = OP_SPLIT, .to = p->nsteps + 1, .other = chain});
            emit_node(p, what);
        }
        while (chain != UINT32_MAX && !p->too_large) {
            begin = chain;
            chain = p->steps[begin].other;
            p->steps[begin].other = p->nsteps;
        }
    }
}

static void emit_node(struct pattern *p, int node)
{
    const struct node *n = &p->nodes[node];

    switch (n->kind) {
    case NODE_EMPTY:
        break;
    case NODE_SET:
        emit(p, (struct step){.op = OP_SET, .to = (uint32_t)node});
        break;
    case NODE_ASSERT:
        emit(p, (struct step){.op = OP_ASSERT, .what = n->what});
        break;
    case NODE_ALTERNATIVES:
        emit_alternatives(p, node);
        break;
    case NODE_REPEAT:
        emit_repeat(p, n);
        break;
    }
}

static void emit_branch(struct pattern *p, int node)
{
    for (; node >= 0 && !p->too_large; node = p->nodes[node].next)
        emit_node(p, node);
}

/* --- matching -----------------------------------------------------------------------------------
 */

static bool is_word(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* before, behind: the characters there, -1 where the text ends. */
static bool holds(char what, int before, int behind)
{
    switch (what) {
    case '^':
        return before < 0;
    case '$':
        return behind < 0;
    case 'b':
        return is_word(before) != is_word(behind);
    case 'B':
        return is_word(before) == is_word(behind);
    case '<':
        return !is_word(before) && is_word(behind);
    default:
        return is_word(before) && !is_word(behind);
    }
}

static bool in_set(const struct pattern *p, const struct step *s, unsigned char c)
{
    return p->nodes[s->to].set[c / 8] & 1u << c % 8;
}

/* Adds the sets that can be reached from a step without a character. Each step is added once in a
 * turn, and stands on the stack once for each step that leads to it. true: the end can. */
static bool add(struct pattern *p, uint32_t *list, uint32_t *n, uint32_t at, int before, int behind)
{
    uint32_t depth = 0;

    p->stack[depth++] = at;
    while (depth) {
        const struct step *s;

        at = p->stack[--depth];
        if (p->marks[at] == p->turn)
            continue;
        p->marks[at] = p->turn;
        s = &p->steps[at];
        switch (s->op) {
        case OP_FOUND:
            return true;
        case OP_SET:
            list[(*n)++] = at;
            break;
        case OP_ASSERT:
            if (holds(s->what, before, behind))
                p->stack[depth++] = at + 1;
            break;
        case OP_SPLIT:
            p->stack[depth++] = s->other;
            p->stack[depth++] = s->to;
            break;
        case OP_JUMP:
            p->stack[depth++] = s->to;
            break;
        }
    }
    return false;
}

static void next_turn(struct pattern *p)
{
    if (++p->turn == 0) {
        memset(p->marks, 0, p->nsteps * sizeof(*p->marks));
        p->turn = 1;
    }
}

bool pattern_finds(struct pattern *p, const char *text, size_t n)
{
    const unsigned char *t = (const unsigned char *)text;
    uint32_t nnow = 0, nthen;

    next_turn(p);
    for (size_t i = 0;; i++) {
        int before = i ? t[i - 1] : -1, behind;

        while (!nnow && !p->starts_anyhow && i < n && !p->starts[t[i]])
            before = t[i++];
        behind = i < n ? t[i] : -1;
        if (add(p, p->now, &nnow, 0, before, behind)) /* it may begin anywhere */
            return true;
        if (i == n)
            return false;
        next_turn(p);
        nthen = 0;
        for (uint32_t k = 0; k < nnow; k++) {
            uint32_t at = p->now[k];

            if (in_set(p, &p->steps[at], t[i]) &&
                add(p, p->then, &nthen, at + 1, t[i], i + 1 < n ? t[i + 1] : -1))
                return true;
        }
        uint32_t *swap = p->now;

        p->now = p->then;
        p->then = swap;
        nnow = nthen;
    }
}

/* What a match may begin with, so that most of a text is only looked at. */
static void find_starts(struct pattern *p)
{
    uint32_t n = 0;

    next_turn(p);
    for (uint32_t i = 0; i < p->nsteps; i++)
        p->starts_anyhow |= p->steps[i].op == OP_ASSERT;
    p->starts_anyhow = p->starts_anyhow || add(p, p->now, &n, 0, -1, -1);
    for (uint32_t k = 0; k < n; k++)
        for (unsigned c = 0; c < 256; c++)
            p->starts[c] |= in_set(p, &p->steps[p->now[k]], (unsigned char)c);
}

/* --- the whole ----------------------------------------------------------------------------------
 */

/* Back-references make matching exponential, and nobody needs them to search a log. */
static bool well_formed(const char *text, int flags, struct err *err)
{
    char reason[160];
    regex_t re;
    int rc;

    for (const char *p = text; *p; p++) {
        if (*p == '\\' && p[1] >= '1' && p[1] <= '9')
            return err_set(err, E_INVALID, "Back-references (\\%c) are not supported in \"%s\".",
                           p[1], str_printable(text));
        if (*p == '\\' && p[1])
            p++;
    }
    if (strlen(text) > PATTERN_LONGEST)
        return err_set(err, E_INVALID,
                       "The regular expression must not be longer than %u characters.",
                       PATTERN_LONGEST);
    if (!affordable(text))
        return err_set(err, E_LIMIT,
                       "The regular expression has too many groups or repetitions: at most %u "
                       "groups inside each other and {%u}.",
                       PATTERN_GROUPS, PATTERN_REPEAT);
    rc = regcomp(&re, text, flags);
    if (!rc) {
        regfree(&re);
        return true;
    }
    regerror(rc, &re, reason, sizeof(reason));
    return err_set(err, E_INVALID, "The regular expression \"%s\" cannot be used: %s.",
                   str_printable(text), reason);
}

struct pattern *pattern_new(const char *text, bool ignore_case, struct err *err)
{
    struct reader r = {.at = text,
                       .flags = REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0)};
    struct pattern *p;

    if (!well_formed(text, r.flags, err))
        return NULL;
    r.p = p = xcalloc(1, sizeof(*p));
    emit_alternatives(p, read_alternatives(&r));
    emit(p, (struct step){.op = OP_FOUND});
    if (p->too_large) {
        err_set(err, E_LIMIT, "The regular expression has too many repetitions.");
        pattern_free(&p);
        return NULL;
    }
    p->marks = xcalloc(p->nsteps, sizeof(*p->marks));
    p->now = xcalloc(p->nsteps, sizeof(*p->now));
    p->then = xcalloc(p->nsteps, sizeof(*p->then));
    p->stack = xcalloc(2 * p->nsteps + 1, sizeof(*p->stack));
    find_starts(p);
    return p;
}

void pattern_free(struct pattern **pp)
{
    struct pattern *p = *pp;

    *pp = NULL;
    if (!p)
        return;
    free(p->nodes);
    free(p->steps);
    free(p->marks);
    free(p->now);
    free(p->then);
    free(p->stack);
    free(p);
}
