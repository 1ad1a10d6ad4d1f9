/* access.c - see access.h. The ranges of all sender groups, which may overlap, are cut into
 * disjoint intervals that each name the first entry that matches; finding a sender is one binary
 * search. Groups whose policy says CONTINUE decide nothing, so they are left out. A few hosts more or
 * less make a table that leans on the one before: only the intervals they touch are cut anew. */
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

struct entry { /* one line of a sender group; group and index are the order of matching */
    const char *text;
    uint32_t group, index;
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

struct spans { /* the ranges themselves, in no order */
    size_t n, cap;
    uint32_t *lo4, *hi4; /* two of the four */
    ip_number *lo6, *hi6;
    uint32_t *entry;
};

/* One that leans on a base has its groups and entries, and further entries numbered behind them. */
struct hat {
    int refs;
    struct hat *base; /* complete; NULL: this one is */
    struct arena arena;
    struct group *groups; /* the last is "None" */
    unsigned ngroups;
    struct entry *entries;
    uint32_t nentries; /* without the base's */
    struct spans s4, s6; /* without the base's */
    struct intervals v4, v6; /* with the base's */
    struct map names; /* "host.example", ".example": pointer to the entry; without the base's */
    uint32_t *gone; /* entries of either that are no more */
    size_t ngone;
    uint32_t first_name, all; /* the first of their kind, NO_ENTRY: there is none */
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
    uint64_t order; /* of the entry */
};

struct ranges {
    struct range *items;
    size_t n, cap;
};

static void spans_add(struct spans *s, const struct net *net, uint32_t entry)
{
    bool v4 = net->lo.family == AF_INET;

    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->entry = xrealloc(s->entry, s->cap * sizeof(*s->entry));
        if (v4) {
            s->lo4 = xrealloc(s->lo4, s->cap * sizeof(*s->lo4));
            s->hi4 = xrealloc(s->hi4, s->cap * sizeof(*s->hi4));
        } else {
            s->lo6 = xrealloc(s->lo6, s->cap * sizeof(*s->lo6));
            s->hi6 = xrealloc(s->hi6, s->cap * sizeof(*s->hi6));
        }
    }
    if (v4) {
        s->lo4[s->n] = (uint32_t)number_of(&net->lo);
        s->hi4[s->n] = (uint32_t)number_of(&net->hi);
    } else {
        s->lo6[s->n] = number_of(&net->lo);
        s->hi6[s->n] = number_of(&net->hi);
    }
    s->entry[s->n++] = entry;
}

static void spans_free(struct spans *s)
{
    free(s->lo4);
    free(s->hi4);
    free(s->lo6);
    free(s->hi6);
    free(s->entry);
}

static const struct entry *entry_at(const struct hat *h, uint32_t i)
{
    uint32_t before = h->base ? h->base->nentries : 0;

    return i < before ? &h->base->entries[i] : &h->entries[i - before];
}

/* The first to match has the least; NO_ENTRY the greatest of all. */
static uint64_t order_of(const struct hat *h, uint32_t i)
{
    const struct entry *e;

    if (i == NO_ENTRY)
        return UINT64_MAX;
    e = entry_at(h, i);
    return (uint64_t)e->group << 32 | e->index;
}

static bool is_gone(const struct hat *h, uint32_t entry)
{
    for (size_t i = 0; i < h->ngone; i++)
        if (h->gone[i] == entry)
            return true;
    return false;
}

/* The spans of a table that touch lo up to hi, cut to that. */
static void take_spans(const struct hat *h, const struct spans *s, ip_number lo, ip_number hi,
                       struct ranges *out)
{
    for (size_t i = 0; i < s->n; i++) {
        ip_number a = s->lo4 ? s->lo4[i] : s->lo6[i], b = s->lo4 ? s->hi4[i] : s->hi6[i];

        if (a > hi || b < lo || is_gone(h, s->entry[i]))
            continue;
        if (out->n == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 64;
            out->items = xrealloc(out->items, out->cap * sizeof(*out->items));
        }
        out->items[out->n++] = (struct range){a < lo ? lo : a, b > hi ? hi : b, s->entry[i],
                                              order_of(h, s->entry[i])};
    }
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

    for (; i > 0 && heap[(i - 1) / 2]->order > r->order; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = r;
}

static void heap_pop(struct range **heap, size_t *n)
{
    struct range *last = heap[--*n];
    size_t i = 0, kid;

    for (; (kid = 2 * i + 1) < *n; i = kid) {
        if (kid + 1 < *n && heap[kid + 1]->order < heap[kid]->order)
            kid++;
        if (heap[kid]->order >= last->order)
            break;
        heap[i] = heap[kid];
    }
    heap[i] = last;
}

static ip_number interval_at(const struct intervals *t, size_t i)
{
    return t->lo4 ? t->lo4[i] : t->lo6[i];
}

/* From lo on; what was said about lo before does not count. */
static void intervals_add(struct intervals *out, ip_number lo, uint32_t entry)
{
    if (out->n && interval_at(out, out->n - 1) == lo)
        out->n--;
    if (out->n ? out->entry[out->n - 1] == entry : entry == NO_ENTRY)
        return;
    if (out->lo4)
        out->lo4[out->n] = (uint32_t)lo;
    else
        out->lo6[out->n] = lo;
    out->entry[out->n++] = entry;
}

static void intervals_room(struct intervals *out, size_t n, bool v4)
{
    out->entry = xcalloc(n + 1, sizeof(*out->entry));
    if (v4)
        out->lo4 = xcalloc(n + 1, sizeof(*out->lo4));
    else
        out->lo6 = xcalloc(n + 1, sizeof(*out->lo6));
}

/* Cuts the ranges, which lie between lo and hi, into intervals behind those of out, which has room for two more each. */
static void intervals_cut(struct intervals *out, struct ranges *r, ip_number last)
{
    ip_number *points;
    struct range **heap;
    size_t npoints = 0, nheap = 0, next = 0;

    if (!r->n)
        return;
    points = xcalloc(r->n * 2, sizeof(*points));
    heap = xcalloc(r->n, sizeof(struct range *));
    for (size_t i = 0; i < r->n; i++) {
        points[npoints++] = r->items[i].lo;
        if (r->items[i].hi < last)
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

static void intervals_make(struct intervals *out, const struct hat *h, const struct spans *s, bool v4)
{
    ip_number last = v4 ? UINT32_MAX : ~(ip_number)0;
    struct ranges r = {0};

    if (!s->n)
        return;
    take_spans(h, s, 0, last, &r);
    intervals_room(out, r.n * 2, v4);
    intervals_cut(out, &r, last);
    free(r.items);
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

/* The intervals of old, but cut anew between lo and hi, where ranges of h have come or gone. */
static void intervals_recut(struct intervals *out, const struct intervals *old, const struct hat *h, ip_number lo,
                            ip_number hi, bool v4)
{
    ip_number last = v4 ? UINT32_MAX : ~(ip_number)0;
    struct ranges r = {0};
    size_t i = 0;

    if (h->base)
        take_spans(h, v4 ? &h->base->s4 : &h->base->s6, lo, hi, &r);
    take_spans(h, v4 ? &h->s4 : &h->s6, lo, hi, &r);
    intervals_room(out, old->n + r.n * 2 + 3, v4);
    for (; i < old->n && interval_at(old, i) < lo; i++)
        intervals_add(out, interval_at(old, i), old->entry[i]);
    intervals_add(out, lo, NO_ENTRY);
    intervals_cut(out, &r, last);
    if (hi < last)
        intervals_add(out, hi + 1, intervals_find(old, hi + 1));
    for (; i < old->n; i++)
        if (interval_at(old, i) > hi)
            intervals_add(out, interval_at(old, i), old->entry[i]);
    free(r.items);
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

static const struct entry *find_name(const struct hat *h, const char *name)
{
    const struct entry *e = map_get(&h->names, name);

    return e || !h->base ? e : map_get(&h->base->names, name);
}

static bool comes_before(const struct entry *a, const struct entry *b)
{
    return a->group != b->group ? a->group < b->group : a->index < b->index;
}

static void add_name(struct hat *h, const char *text, uint32_t number)
{
    const struct entry *e = entry_at(h, number), *there;
    char name[256];

    str_copy(name, sizeof(name), text);
    str_lower(name);
    there = find_name(h, name);
    if (!there || comes_before(e, there))
        map_set(&h->names, name, (void *)(uintptr_t)e);
    if (order_of(h, number) < order_of(h, h->first_name))
        h->first_name = number;
}

/* The entry of this number, the last one so far: into the tables. */
static void add_entry(struct hat *h, uint32_t number)
{
    const char *text = entry_at(h, number)->text;
    struct net net;

    if (str_ieq(text, "ALL"))
        h->all = order_of(h, number) < order_of(h, h->all) ? number : h->all;
    else if (net_parse(text, &net, NULL))
        spans_add(net.lo.family == AF_INET ? &h->s4 : &h->s6, &net, number);
    else
        add_name(h, text, number);
}

static struct hat *hat_new(const struct config *cfg, const struct row *row)
{
    const struct listener *l = row->data;
    struct hat *h = xcalloc(1, sizeof(*h));
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
            uint32_t number = h->nentries++;

            h->entries[number] = (struct entry){arena_strdup(&h->arena, g->hosts.items[k]),
                                                h->ngroups, (uint32_t)k};
            add_entry(h, number);
        }
        h->ngroups++;
    }
    h->groups[h->ngroups].name = "None";
    h->groups[h->ngroups].policy = "";
    flow_make(&h->groups[h->ngroups++].flow, l, NULL);
    intervals_make(&h->v4, h, &h->s4, true);
    intervals_make(&h->v6, h, &h->s6, false);
    free(groups);
    return h;
}

static void hat_free(struct hat *h)
{
    if (!h || __atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL))
        return;
    hat_free(h->base);
    intervals_free(&h->v4);
    intervals_free(&h->v6);
    spans_free(&h->s4);
    spans_free(&h->s6);
    free(h->gone);
    map_free(&h->names);
    arena_free(&h->arena);
    free(h);
}

/* --- a table that leans on the one before --- */

#define CHANGES_MAX 16 /* hosts, in one step */
#define LEAN_MAX 1000u /* entries come or gone, before the table is made afresh */

struct change {
    const char *host;
    const char *group;
    uint32_t index;
    bool gone;
};

struct changes {
    struct change items[CHANGES_MAX];
    size_t n;
    bool too_many;
};

static void note(struct changes *c, const struct sender_group *g, size_t k, bool gone)
{
    c->too_many = c->too_many || c->n == CHANGES_MAX;
    if (!c->too_many)
        c->items[c->n++] = (struct change){g->hosts.items[k], g->name, (uint32_t)k, gone};
}

static bool lists(const struct strlist *l, size_t from, size_t to, const char *host)
{
    for (size_t i = from; i < to; i++)
        if (str_eq(l->items[i], host))
            return true;
    return false;
}

/* What lies between the beginning and the end that both lists share. */
static void compare_hosts(const struct sender_group *a, const struct sender_group *b, struct changes *c)
{
    size_t front = 0, n = a->hosts.n, m = b->hosts.n;

    while (front < n && front < m && str_eq(a->hosts.items[front], b->hosts.items[front]))
        front++;
    while (n > front && m > front && str_eq(a->hosts.items[n - 1], b->hosts.items[m - 1])) {
        n--;
        m--;
    }
    c->too_many = c->too_many || n - front > CHANGES_MAX || m - front > CHANGES_MAX;
    for (size_t i = front; i < n && !c->too_many; i++)
        if (!lists(&b->hosts, front, m, a->hosts.items[i]))
            note(c, a, i, true);
    for (size_t i = front; i < m && !c->too_many; i++)
        if (!lists(&a->hosts, front, n, b->hosts.items[i]))
            note(c, b, i, false);
}

/* The hosts by which the groups of two snapshots differ; false: they differ otherwise, or by too many. */
static bool find_changes(const struct config *old, const struct config *cfg, const char *owner,
                         struct changes *out)
{
    size_t i, j, n = config_children(old, &section_sender_group, owner, &i);

    if (n != config_children(cfg, &section_sender_group, owner, &j))
        return false;
    for (size_t k = 0; k < n && !out->too_many; k++) {
        const struct row *a = config_at(old, &section_sender_group, i + k);
        const struct row *b = config_at(cfg, &section_sender_group, j + k);
        const struct sender_group *x = a->data, *y = b->data;

        if (a == b)
            continue;
        if (!str_eq(a->name, b->name) || x->position != y->position || !str_eq(x->policy, y->policy) ||
            hat_is_all(x) || hat_is_all(y))
            return false;
        compare_hosts(x, y, out);
    }
    return !out->too_many;
}

static bool group_number(const struct hat *h, const char *name, uint32_t *out)
{
    for (*out = 0; *out + 1 < h->ngroups; ++*out)
        if (str_eq(h->groups[*out].name, name))
            return true;
    return false; /* its policy says CONTINUE */
}

static bool find_entry(const struct hat *h, const struct spans *s, uint32_t group, const char *host,
                       uint32_t *out)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct entry *e = entry_at(h, s->entry[i]);

        if (e->group == group && str_eq(e->text, host) && !is_gone(h, s->entry[i])) {
            *out = s->entry[i];
            return true;
        }
    }
    return false;
}

/* False: a name, or ALL, which may hide others. */
static bool take_away(struct hat *h, uint32_t group, const struct change *c, struct net *net)
{
    bool v4;
    uint32_t entry;

    if (!net_parse(c->host, net, NULL))
        return false;
    v4 = net->lo.family == AF_INET;
    if (!find_entry(h, v4 ? &h->s4 : &h->s6, group, c->host, &entry) &&
        !find_entry(h, v4 ? &h->base->s4 : &h->base->s6, group, c->host, &entry))
        return false;
    h->gone = xrealloc(h->gone, (h->ngone + 1) * sizeof(*h->gone));
    h->gone[h->ngone++] = entry;
    return true;
}

static bool put_in(struct hat *h, uint32_t group, const struct change *c, struct net *net, bool *is_net)
{
    uint32_t number = h->base->nentries + h->nentries;

    if (str_ieq(c->host, "ALL"))
        return false;
    *is_net = net_parse(c->host, net, NULL);
    h->entries[h->nentries++] = (struct entry){arena_strdup(&h->arena, c->host), group, c->index};
    add_entry(h, number);
    return true;
}

static void recut(struct intervals *t, const struct hat *h, const struct net *net)
{
    struct intervals old = *t;

    *t = (struct intervals){0};
    intervals_recut(t, &old, h, number_of(&net->lo), number_of(&net->hi), net->lo.family == AF_INET);
    intervals_free(&old);
}

static bool apply(struct hat *h, const struct change *c)
{
    struct net net;
    bool is_net = true;
    uint32_t group;

    if (!group_number(h, c->group, &group))
        return true;
    if (!(c->gone ? take_away(h, group, c, &net) : put_in(h, group, c, &net, &is_net)))
        return false;
    if (is_net)
        recut(net.lo.family == AF_INET ? &h->v4 : &h->v6, h, &net);
    return true;
}

static void intervals_copy(struct intervals *to, const struct intervals *from)
{
    if (!from->n)
        return;
    intervals_room(to, from->n, from->lo4 != NULL);
    if (from->lo4)
        memcpy(to->lo4, from->lo4, from->n * sizeof(*from->lo4));
    else
        memcpy(to->lo6, from->lo6, from->n * sizeof(*from->lo6));
    memcpy(to->entry, from->entry, from->n * sizeof(*from->entry));
    to->n = from->n;
}

/* A table like was, which may itself lean on another: on the same base, with its differences. */
static struct hat *hat_lean(struct hat *was, size_t more)
{
    struct hat *h = xcalloc(1, sizeof(*h)), *base = was->base ? was->base : was;

    h->refs = 1;
    h->base = base;
    __atomic_add_fetch(&base->refs, 1, __ATOMIC_RELAXED);
    h->groups = base->groups;
    h->ngroups = base->ngroups;
    h->first_name = base->first_name;
    h->all = was->all;
    intervals_copy(&h->v4, &was->v4);
    intervals_copy(&h->v6, &was->v6);
    if (!was->base)
        was = NULL;
    h->entries = arena_alloc(&h->arena, ((was ? was->nentries : 0) + more) * sizeof(*h->entries));
    for (uint32_t i = 0; was && i < was->nentries; i++) {
        h->entries[i] = (struct entry){arena_strdup(&h->arena, was->entries[i].text),
                                       was->entries[i].group, was->entries[i].index};
        h->nentries++;
        add_entry(h, base->nentries + i);
    }
    if (was && was->ngone) {
        h->gone = xcalloc(was->ngone, sizeof(*h->gone));
        memcpy(h->gone, was->gone, was->ngone * sizeof(*h->gone));
        h->ngone = was->ngone;
    }
    return h;
}

/* What was, with the differences between two snapshots; NULL: they are too many, or of the wrong kind. */
static struct hat *hat_changed(struct hat *was, const struct config *old, const struct config *cfg,
                               const char *owner)
{
    struct changes c = {0};
    struct hat *h;
    bool ok = true;

    if (!find_changes(old, cfg, owner, &c) ||
        (was->base && was->nentries + was->ngone + c.n > LEAN_MAX))
        return NULL;
    h = hat_lean(was, c.n);
    for (size_t i = 0; ok && i < c.n; i++)
        ok = apply(h, &c.items[i]);
    if (!ok) {
        hat_free(h);
        return NULL;
    }
    return h;
}

/* --- asking --- */

/* The first entry that matches by address alone. */
static uint32_t by_address(const struct hat *h, const struct addr *a)
{
    uint32_t found = intervals_find(a->family == AF_INET ? &h->v4 : &h->v6, number_of(a));

    return h->all == NO_ENTRY || order_of(h, found) < order_of(h, h->all) ? found : h->all;
}

static const struct entry *by_name(const struct hat *h, const char *host)
{
    const struct entry *best = NULL;
    char name[257];

    if (!host[0] || strlen(host) > 255)
        return best;
    name[0] = '.';
    str_copy(name + 1, sizeof(name) - 1, host);
    str_lower(name);
    /* "mail.example.com", then ".example.com", ".com" */
    for (const char *p = name + 1; p; p = strchr(p + 1, '.')) {
        const struct entry *e = find_name(h, p);

        if (e && (!best || comes_before(e, best)))
            best = e;
    }
    return best;
}

/* May a name come before the entry? */
static bool names_matter(const struct hat *h, uint32_t entry)
{
    return h->first_name != NO_ENTRY && order_of(h, h->first_name) < order_of(h, entry);
}

bool access_needs_name(const struct access_table *t, const struct addr *a)
{
    return names_matter(t->hat, by_address(t->hat, a));
}

void access_sender(const struct access_table *t, const struct addr *a, const char *host,
                   struct access_match *out)
{
    const struct hat *h = t->hat;
    uint32_t number = by_address(h, a);
    const struct entry *e = number == NO_ENTRY ? NULL : entry_at(h, number), *named = NULL;
    const struct group *g;

    if (names_matter(h, number))
        named = by_name(h, host);
    if (named && (!e || comes_before(named, e)))
        e = named;
    g = &h->groups[e ? e->group : h->ngroups - 1];
    out->flow = &g->flow;
    out->group = g->name;
    out->policy = g->policy;
    out->entry = e ? e->text : "ALL";
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
            same_children(old->cfg, cfg, &section_mail_policy, t->row->name)) {
            if (same_children(old->cfg, cfg, &section_sender_group, t->row->name)) {
                t->hat = was->hat;
                __atomic_add_fetch(&t->hat->refs, 1, __ATOMIC_RELAXED);
            } else {
                t->hat = hat_changed(was->hat, old->cfg, cfg, t->row->name);
            }
        }
        if (!t->hat)
            t->hat = hat_new(cfg, t->row);
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
