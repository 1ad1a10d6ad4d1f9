/* access.c - see access.h. The ranges of all sender groups, which may overlap, are cut into
 * disjoint intervals that each name the first entry that matches; finding a sender is one binary
 * search. Groups whose policy says CONTINUE decide nothing, so they are left out. */
#include "daemon/access.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/reload.h"
#include "store/base/arena.h"
#include "store/base/map.h"
#include "store/base/str.h"
#include "store/hat_file.h"

#define NO_ENTRY UINT32_MAX
#define UNLIMITED 10000000u /* .top of these fields */
#define UNLIMITED_DHAP 1000000u

typedef unsigned __int128 ip_number; /* of either family; each has its own table */

struct entry { /* one line of a sender group, numbered in the order of matching */
    const char *text;
    unsigned group;
};

struct group {
    const char *name, *policy;
    struct mail_flow flow;
};

struct intervals { /* lo[i] up to before lo[i + 1] belongs to entry[i] or to nobody (NO_ENTRY) */
    size_t n;
    uint32_t *lo4; /* one of the two */
    ip_number *lo6;
    uint32_t *entry;
};

struct hat {
    int refs;
    struct arena arena;
    struct group *groups; /* the last is "None" */
    unsigned ngroups;
    struct entry *entries;
    uint32_t nentries;
    struct intervals v4, v6;
    struct map names; /* "host.example", ".example": pointer to the entry */
    uint32_t first_name, all; /* least numbers, NO_ENTRY: there is none */
};

/* A large table that changed a little is the old one and a map of the differences in front of it.
 */
struct rat {
    int refs;
    struct rat *base; /* complete; NULL: this one is */
    struct map patterns; /* &accept_mark or &reject_mark, or the row of an entry that says more, with
                          * a reference; &absent_mark in front of a base; "@example.com": &known_mark
                          * when some address there is listed */
    bool aliases; /* entries were written otherwise than as their patterns: two may be the same */
    size_t nrows; /* references were taken, at least of so many */
};

static const char accept_mark, reject_mark, known_mark, absent_mark;

struct access_table {
    const struct row *row;
    struct hat *hat;
    struct rat *rat;
};

struct access {
    int refs;
    struct config *cfg;
    struct access_table *tables; /* sorted by name, as the section is */
    size_t ntables;
};

/* --- host access ----------------------------------------------------------------------------- */

static ip_number number_of(const struct addr *a)
{
    ip_number v = 0;

    for (int i = 0; i < (a->family == AF_INET ? 4 : 16); i++)
        v = v << 8 | a->ip[i];
    return v;
}

struct range {
    ip_number lo, hi;
    uint32_t entry;
};

struct ranges {
    struct range *items;
    size_t n, cap;
};

static void ranges_add(struct ranges *r, const struct net *net, uint32_t entry)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->items = xrealloc(r->items, r->cap * sizeof(*r->items));
    }
    r->items[r->n++] = (struct range){number_of(&net->lo), number_of(&net->hi), entry};
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;

    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static int compare_numbers(const void *a, const void *b)
{
    const ip_number *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* A heap of the ranges that are open at the sweep's position, the first entry on top. */
static void heap_push(struct range **heap, size_t *n, struct range *r)
{
    size_t i = (*n)++;

    for (; i > 0 && heap[(i - 1) / 2]->entry > r->entry; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = r;
}

static void heap_pop(struct range **heap, size_t *n)
{
    struct range *last = heap[--*n];
    size_t i = 0, kid;

    for (; (kid = 2 * i + 1) < *n; i = kid) {
        if (kid + 1 < *n && heap[kid + 1]->entry < heap[kid]->entry)
            kid++;
        if (heap[kid]->entry >= last->entry)
            break;
        heap[i] = heap[kid];
    }
    heap[i] = last;
}

static void intervals_add(struct intervals *out, ip_number lo, uint32_t entry)
{
    if (out->n ? out->entry[out->n - 1] == entry : entry == NO_ENTRY)
        return;
    if (out->lo4)
        out->lo4[out->n] = (uint32_t)lo;
    else
        out->lo6[out->n] = lo;
    out->entry[out->n++] = entry;
}

static void intervals_make(struct intervals *out, struct ranges *r, bool v4)
{
    ip_number *points;
    struct range **heap;
    size_t npoints = 0, nheap = 0, next = 0;

    if (!r->n)
        return;
    points = xcalloc(r->n * 2, sizeof(*points));
    heap = xcalloc(r->n, sizeof(struct range *));
    out->entry = xcalloc(r->n * 2, sizeof(*out->entry));
    if (v4)
        out->lo4 = xcalloc(r->n * 2, sizeof(*out->lo4));
    else
        out->lo6 = xcalloc(r->n * 2, sizeof(*out->lo6));
    for (size_t i = 0; i < r->n; i++) {
        points[npoints++] = r->items[i].lo;
        if (r->items[i].hi != (v4 ? UINT32_MAX : ~(ip_number)0))
            points[npoints++] = r->items[i].hi + 1;
    }
    qsort(points, npoints, sizeof(*points), compare_numbers);
    qsort(r->items, r->n, sizeof(*r->items), compare_ranges);
    for (size_t i = 0; i < npoints; i++) {
        while (next < r->n && r->items[next].lo <= points[i])
            heap_push(heap, &nheap, &r->items[next++]);
        while (nheap && heap[0]->hi < points[i])
            heap_pop(heap, &nheap);
        if (i + 1 == npoints || points[i + 1] != points[i])
            intervals_add(out, points[i], nheap ? heap[0]->entry : NO_ENTRY);
    }
    free(points);
    free(heap);
}

static uint32_t intervals_find(const struct intervals *t, ip_number ip)
{
    size_t
        lo = 0,
        hi = t->n; /* the answer is in front of hi; the intervals before lo begin at or below ip */

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if ((t->lo4 ? t->lo4[mid] : t->lo6[mid]) <= ip)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? t->entry[lo - 1] : NO_ENTRY;
}

static void intervals_free(struct intervals *t)
{
    free(t->lo4);
    free(t->lo6);
    free(t->entry);
}

static enum tls_modes tls_of(int policy, int listener)
{
    switch (policy) {
    case POLICY_TLS_OFF:
        return TLS_OFF;
    case POLICY_TLS_PREFERRED:
        return TLS_PREFERRED;
    case POLICY_TLS_REQUIRED:
        return TLS_REQUIRED;
    default:
        return (enum tls_modes)listener;
    }
}

/* p NULL: the listener's own parameters. */
static void flow_make(struct mail_flow *f, const struct listener *l, const struct mail_policy *p)
{
    f->behavior = (enum behaviors)(p ? p->behavior : l->default_behavior);
    if (f->behavior == BEHAVIOR_CONTINUE) /* nothing follows */
        f->behavior = BEHAVIOR_ACCEPT;
    f->tls = tls_of(p ? p->tls : POLICY_TLS_DEFAULT, l->tls);
#define INHERIT(type, field) f->field = (type)(p && p->field ? p->field : l->field)
    INHERIT(uint64_t, max_message_size);
    INHERIT(unsigned, max_concurrency);
    INHERIT(unsigned, max_msgs_per_session);
    INHERIT(unsigned, max_rcpts_per_msg);
    INHERIT(unsigned, max_rcpts_per_hour);
    INHERIT(unsigned, max_rcpts_per_sender);
    INHERIT(unsigned, sender_minutes);
    INHERIT(unsigned, dhap_limit);
#undef INHERIT
    if (p && p->max_rcpts_per_hour == UNLIMITED)
        f->max_rcpts_per_hour = 0;
    if (p && p->max_rcpts_per_sender == UNLIMITED)
        f->max_rcpts_per_sender = 0;
    if (p && p->dhap_limit == UNLIMITED_DHAP)
        f->dhap_limit = 0;
#define PICK(field) (p && *p->field ? p->field : l->field)
    f->banner_host = PICK(banner_host);
#define RESPONSE(name)                                                                             \
    f->name = (struct flow_response)                                                               \
    {                                                                                              \
        (unsigned)(p && p->name##_code ? p->name##_code : l->name##_code), PICK(name##_text)      \
    }
    RESPONSE(accept);
    RESPONSE(reject);
    RESPONSE(limit);
    RESPONSE(dhap);
#undef RESPONSE
#undef PICK
    f->tls_senders = p && p->tls_senders.n ? &p->tls_senders : &l->tls_senders;
    f->verify_client = p && p->verify_client ? p->verify_client == SWITCH_ON : l->verify_client;
    f->untagged_bounces =
        p && p->untagged_bounces ? p->untagged_bounces == SWITCH_ON : l->untagged_bounces;
    f->auth_needs_tls = p && p->auth_needs_tls ? p->auth_needs_tls == SWITCH_ON : l->auth_needs_tls;
    /* The words of a policy are those of the listener behind "default". */
    f->auth = (enum auth_modes)(p && p->auth ? p->auth - 1 : l->auth);
    f->dhap_action = (enum dhap_actions)(p && p->dhap_action ? p->dhap_action - 1 : l->dhap_action);
    f->line_endings =
        (enum line_endings)(p && p->line_endings ? p->line_endings - 1 : l->line_endings);
}

static const struct mail_policy *policy_of(const struct config *cfg, const char *listener,
                                           const char *policy)
{
    char *name = xasprintf("%s/%s", listener, policy);
    const struct mail_policy *p = CONFIG_GET(cfg, mail_policy, name);

    free(name);
    return p;
}

static void add_name(struct hat *h, const char *text, uint32_t number)
{
    char name[256];

    str_copy(name, sizeof(name), text);
    str_lower(name);
    if (!map_get(&h->names, name))
        map_set(&h->names, name, &h->entries[number]);
    if (h->first_name == NO_ENTRY)
        h->first_name = number;
}

static struct hat *hat_new(const struct config *cfg, const struct row *row)
{
    const struct listener *l = row->data;
    struct hat *h = xcalloc(1, sizeof(*h));
    struct ranges r4 = {0}, r6 = {0};
    size_t n, total = 0;
    const struct row **groups = config_ordered(cfg, &section_sender_group, row->name, &n);

    hat_all_last(groups, n);
    h->refs = 1;
    h->first_name = h->all = NO_ENTRY;
    for (size_t i = 0; i < n; i++)
        total += ((const struct sender_group *)groups[i]->data)->hosts.n;
    h->groups = arena_alloc(&h->arena, (n + 1) * sizeof(*h->groups));
    h->entries = arena_alloc(&h->arena, (total + 1) * sizeof(*h->entries));
    for (size_t i = 0; i < n; i++) {
        const struct sender_group *g = groups[i]->data;
        const struct mail_policy *p = policy_of(cfg, row->name, g->policy);

        if (!p || p->behavior == BEHAVIOR_CONTINUE)
            continue;
        h->groups[h->ngroups].name = hat_is_all(g) ? "None" : arena_strdup(&h->arena, g->name);
        h->groups[h->ngroups].policy = arena_strdup(&h->arena, g->policy);
        flow_make(&h->groups[h->ngroups].flow, l, p);
        for (size_t k = 0; k < g->hosts.n; k++) {
            const char *text = arena_strdup(&h->arena, g->hosts.items[k]);
            uint32_t number = h->nentries++;
            struct net net;

            h->entries[number] = (struct entry){text, h->ngroups};
            if (str_ieq(text, "ALL"))
                h->all = h->all == NO_ENTRY ? number : h->all;
            else if (net_parse(text, &net, NULL))
                ranges_add(net.lo.family == AF_INET ? &r4 : &r6, &net, number);
            else
                add_name(h, text, number);
        }
        h->ngroups++;
    }
    h->groups[h->ngroups].name = "None";
    h->groups[h->ngroups].policy = "";
    flow_make(&h->groups[h->ngroups++].flow, l, NULL);
    intervals_make(&h->v4, &r4, true);
    intervals_make(&h->v6, &r6, false);
    free(r4.items);
    free(r6.items);
    free(groups);
    return h;
}

static void hat_free(struct hat *h)
{
    if (__atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL))
        return;
    intervals_free(&h->v4);
    intervals_free(&h->v6);
    map_free(&h->names);
    arena_free(&h->arena);
    free(h);
}

/* The least entry that matches by address alone. */
static uint32_t by_address(const struct hat *h, const struct addr *a)
{
    uint32_t found = intervals_find(a->family == AF_INET ? &h->v4 : &h->v6, number_of(a));

    return found < h->all ? found : h->all;
}

static uint32_t by_name(const struct hat *h, const char *host)
{
    uint32_t best = NO_ENTRY;
    char name[257];

    if (!host[0] || strlen(host) > 255)
        return best;
    name[0] = '.';
    str_copy(name + 1, sizeof(name) - 1, host);
    str_lower(name);
    /* "mail.example.com", then ".example.com", ".com" */
    for (const char *p = name + 1; p; p = strchr(p + 1, '.')) {
        const struct entry *e = map_get(&h->names, p);

        if (e && (uint32_t)(e - h->entries) < best)
            best = (uint32_t)(e - h->entries);
    }
    return best;
}

bool access_needs_name(const struct access_table *t, const struct addr *a)
{
    return t->hat->first_name < by_address(t->hat, a); /* NO_ENTRY is the greatest number */
}

void access_sender(const struct access_table *t, const struct addr *a, const char *host,
                   struct access_match *out)
{
    const struct hat *h = t->hat;
    uint32_t entry = by_address(h, a), named = NO_ENTRY;
    const struct group *g;

    if (h->first_name < entry)
        named = by_name(h, host);
    if (named < entry)
        entry = named;
    g = &h->groups[entry == NO_ENTRY ? h->ngroups - 1 : h->entries[entry].group];
    out->flow = &g->flow;
    out->group = g->name;
    out->policy = g->policy;
    out->entry = entry == NO_ENTRY ? "ALL" : h->entries[entry].text;
}

/* --- recipient access ------------------------------------------------------------------------ */

/* A pattern in the spelling of struct smtp_path: lower case, A-labels, literals as the parser
 * writes them. */
static bool normal_pattern(const char *text, char *out, size_t size)
{
    const char *at = strrchr(text, '@'), *domain = at ? at + 1 : text;
    size_t local = (size_t)(domain - text);
    char *end;

    if (local >= size)
        return false;
    memcpy(out, text, local);
    end = out + local;
    *end = '\0';
    if (*domain == '[') {
        struct addr a;
        char inner[ADDR_TEXT], clean[ADDR_TEXT];
        size_t n = strlen(domain);
        const char *ip = inner;

        if (n < 3 || n - 2 >= sizeof(inner) || domain[n - 1] != ']')
            return false;
        memcpy(inner, domain + 1, n - 2);
        inner[n - 2] = '\0';
        if (str_istarts(ip, "IPv6:"))
            ip += 5;
        if (!addr_parse(ip, &a))
            return false;
        snprintf(end, size - local, a.family == AF_INET6 ? "[IPv6:%s]" : "[%s]",
                 addr_text(&a, clean));
        str_lower(out);
        return true;
    }
    if (*domain == '.') {
        *end++ = '.';
        domain++;
    }
    if (*domain && !domain_to_ascii(domain, end, size - (size_t)(end - out), NULL))
        return false;
    str_lower(out);
    return true;
}

static const void *rat_get(const struct rat *r, const char *pattern)
{
    const void *found = map_get(&r->patterns, pattern);

    if (!found && r->base)
        found = map_get(&r->base->patterns, pattern);
    return found == &absent_mark ? NULL : found;
}

static bool is_row(const void *mark)
{
    return mark && mark != &accept_mark && mark != &reject_mark && mark != &known_mark &&
           mark != &absent_mark;
}

static void row_drop(const void *mark)
{
    struct row *row = is_row(mark) ? (struct row *)(uintptr_t)mark : NULL;

    row_free(&row);
}

/* mark is one of ours, or a row, of which a reference is taken. */
static void rat_set(struct rat *r, const char *pattern, const void *mark)
{
    const void *was = r->nrows ? map_get(&r->patterns, pattern) : NULL;

    if (is_row(mark)) {
        row_ref((struct row *)(uintptr_t)mark);
        r->nrows++;
    }
    map_set(&r->patterns, pattern, (void *)(uintptr_t)mark);
    row_drop(was);
}

static bool is_plain(const struct rcpt_access *e)
{
    return !e->code && !*e->text && !e->bypass;
}

static void rat_add(struct rat *r, const struct row *row)
{
    const struct rcpt_access *e = row->data;
    char pattern[SMTP_ADDRESS_MAX + 1], *at;

    if (!normal_pattern(e->address, pattern, sizeof(pattern)))
        return; /* refused by the field's check; no pattern that matches anything */
    r->aliases = r->aliases || !str_eq(pattern, e->address);
    if (is_plain(e))
        rat_set(r, pattern, e->action == RCPT_ACCEPT ? &accept_mark : &reject_mark);
    else
        rat_set(r, pattern, row);
    at = strrchr(pattern, '@');
    if (at && at[1])
        rat_set(r, at, &known_mark);
}

static struct rat *rat_new(const struct config *cfg, const struct row *row)
{
    struct rat *r = xcalloc(1, sizeof(*r));
    size_t first, n = config_children(cfg, &section_rcpt_access, row->name, &first);

    r->refs = 1;
    for (size_t i = first; i < first + n; i++)
        rat_add(r, config_at(cfg, &section_rcpt_access, i));
    return r;
}

static void rat_free(struct rat *r)
{
    size_t pos = 0;
    const char *key;
    void *value;

    if (!r || __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL))
        return;
    rat_free(r->base);
    while (r->nrows && map_next(&r->patterns, &pos, &key, &value))
        row_drop(value);
    map_free(&r->patterns);
    free(r);
}

/* Takes an entry away. False: it was an address, and whether its domain is still known is not to be
 * seen here. */
static bool rat_remove(struct rat *r, const struct row *row)
{
    const struct rcpt_access *e = row->data;
    char pattern[SMTP_ADDRESS_MAX + 1], *at;

    if (!normal_pattern(e->address, pattern, sizeof(pattern)))
        return true;
    at = strrchr(pattern, '@');
    if ((at && at[1]) || r->aliases)
        return false;
    rat_set(r, pattern, &absent_mark);
    return true;
}

#define DIFFERENCES_MAX 1000

/* What was, with the differences between two snapshots on top; NULL: they are too many, or of the
 * wrong kind. The walk over both lists, which are sorted by name and share the rows that did not
 * change, costs a hundredth of making the table. */
static struct rat *rat_changed(struct rat *was, const struct config *old, const struct config *cfg,
                               const char *owner)
{
    size_t i, j, n, m, pos = 0;
    struct rat *r = xcalloc(1, sizeof(*r)), *base = was->base ? was->base : was;
    const char *key;
    void *value;
    bool ok = true;

    r->refs = 1;
    r->base = base;
    r->aliases = was->aliases;
    __atomic_add_fetch(&base->refs, 1, __ATOMIC_RELAXED);
    while (was->base && map_next(&was->patterns, &pos, &key, &value))
        rat_set(r, key, value);
    n = config_children(old, &section_rcpt_access, owner, &i);
    m = config_children(cfg, &section_rcpt_access, owner, &j);
    for (n += i, m += j; ok && (i < n || j < m);) {
        const struct row *a = i < n ? config_at(old, &section_rcpt_access, i) : NULL;
        const struct row *b = j < m ? config_at(cfg, &section_rcpt_access, j) : NULL;
        int order = a == b ? 0 : !a ? 1 : !b ? -1 : strcmp(a->name, b->name);

        i += order <= 0;
        j += order >= 0;
        if (a == b)
            continue;
        if (order < 0)
            ok = rat_remove(r, a);
        else
            rat_add(r, b); /* the same name is the same address */
        ok = ok && r->patterns.n <= DIFFERENCES_MAX;
    }
    if (!ok) {
        rat_free(r);
        return NULL;
    }
    return r;
}

/* The entry for the domain or what it is below, the longest first; NULL: none. */
static const void *rat_domain(const struct rat *r, char *domain)
{
    const void *found = rat_get(r, domain);

    if (domain[0] == '[')
        return found;
    for (char *p = domain; !found && (p = strchr(p, '.')); p++)
        found = rat_get(r, p);
    return found;
}

static const void *find_rcpt(const struct rat *r, const struct smtp_path *to)
{
    char text[SMTP_ADDRESS_MAX + 1], *domain = text + to->local_len + 1, after;
    const void *found, *by_domain;

    if (to->address[to->local_len] != '@')
        return NULL;
    str_copy(text, sizeof(text), to->address);
    str_lower(text);
    found = rat_get(r, text);
    if (found)
        return found;
    by_domain = rat_domain(r, domain);
    after = *domain;
    *domain = '\0'; /* "user@" */
    found = rat_get(r, text);
    *domain = after;
    if (found && (by_domain || rat_get(r, domain - 1)))
        return found;
    return by_domain;
}

void access_rcpt_rule(const struct access_table *t, const struct smtp_path *to,
                      struct access_rcpt *out)
{
    const void *found = find_rcpt(t->rat, to);

    *out = (struct access_rcpt){.accept = found == &accept_mark, .text = ""};
    if (is_row(found)) {
        const struct rcpt_access *e = ((const struct row *)found)->data;

        *out = (struct access_rcpt){e->action == RCPT_ACCEPT, e->bypass, (unsigned)e->code, e->text};
    }
}

bool access_rcpt(const struct access_table *t, const struct smtp_path *to)
{
    struct access_rcpt rule;

    access_rcpt_rule(t, to, &rule);
    return rule.accept;
}

/* --- the tables of a snapshot ---------------------------------------------------------------- */

static bool same_children(const struct config *a, const struct config *b, const struct section *s,
                          const char *owner)
{
    size_t first_a, first_b, n;

    if (config_shares(a, b, s))
        return true;
    n = config_children(a, s, owner, &first_a);
    if (n != config_children(b, s, owner, &first_b))
        return false;
    for (size_t i = 0; i < n; i++)
        if (config_at(a, s, first_a + i) != config_at(b, s, first_b + i))
            return false;
    return true;
}

struct access *access_new(const struct config *cfg, const struct access *old)
{
    struct access *a = xcalloc(1, sizeof(*a));

    a->refs = 1;
    a->cfg = config_ref(cfg);
    a->ntables = config_count(cfg, &section_listener);
    a->tables = xcalloc(a->ntables, sizeof(*a->tables));
    for (size_t i = 0; i < a->ntables; i++) {
        struct access_table *t = &a->tables[i];
        const struct access_table *was;

        t->row = config_at(cfg, &section_listener, i);
        was = old ? access_table(old, t->row->name) : NULL;
        if (was && was->row == t->row &&
            same_children(old->cfg, cfg, &section_mail_policy, t->row->name) &&
            same_children(old->cfg, cfg, &section_sender_group, t->row->name)) {
            t->hat = was->hat;
            __atomic_add_fetch(&t->hat->refs, 1, __ATOMIC_RELAXED);
        } else {
            t->hat = hat_new(cfg, t->row);
        }
        if (was && same_children(old->cfg, cfg, &section_rcpt_access, t->row->name)) {
            t->rat = was->rat;
            __atomic_add_fetch(&t->rat->refs, 1, __ATOMIC_RELAXED);
        } else if (was) {
            t->rat = rat_changed(was->rat, old->cfg, cfg, t->row->name);
        }
        if (!t->rat)
            t->rat = rat_new(cfg, t->row);
    }
    return a;
}

struct access *access_ref(struct access *a)
{
    __atomic_add_fetch(&a->refs, 1, __ATOMIC_RELAXED);
    return a;
}

void access_free(struct access **p)
{
    struct access *a = *p;

    *p = NULL;
    if (!a || __atomic_sub_fetch(&a->refs, 1, __ATOMIC_ACQ_REL))
        return;
    for (size_t i = 0; i < a->ntables; i++) {
        hat_free(a->tables[i].hat);
        rat_free(a->tables[i].rat);
    }
    free(a->tables);
    config_free(&a->cfg);
    free(a);
}

const struct config *access_config(const struct access *a)
{
    return a->cfg;
}

const struct access_table *access_table(const struct access *a, const char *listener)
{
    for (size_t i = 0; i < a->ntables; i++) /* a handful */
        if (str_eq(a->tables[i].row->name, listener))
            return &a->tables[i];
    return NULL;
}

const struct listener *access_listener(const struct access_table *t)
{
    return t->row->data;
}

static pthread_mutex_t running_lock = PTHREAD_MUTEX_INITIALIZER;
static struct access *running;

struct access *access_running(void)
{
    struct access *a;

    pthread_mutex_lock(&running_lock);
    a = running ? access_ref(running) : NULL;
    pthread_mutex_unlock(&running_lock);
    return a;
}

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    struct access *now = access_running();

    (void)old;
    (void)err;
    *state = access_new(cfg, now);
    access_free(&now);
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    struct access *was;

    (void)cfg;
    pthread_mutex_lock(&running_lock);
    was = running;
    running = state;
    pthread_mutex_unlock(&running_lock);
    access_free(&was);
}

static void discard(void *state)
{
    struct access *a = state;

    access_free(&a);
}

const struct reload_part reload_access = {"access tables", prepare, publish, discard};
