/* crl.c - see crl.h. What is looked up is one immutable set of lists and switches behind a pointer;
 * whoever looks takes a reference and no lock for longer than that. The sources, which change,
 * have the same lock; whatever changes about them makes a new set. */
#include "daemon/crl.h"

#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crl_source.h"
#include "daemon/http.h"
#include "daemon/loop.h"
#include "daemon/reload.h"
#include "daemon/trust.h"
#include "daemon/worker.h"
#include "store/authorities.h"
#include "store/base/home.h"

struct member {
    char name[65];
    struct crl_list *list; /* NULL: it could not be fetched yet */
    bool trusted; /* false: its authority is not in the lists any more */
};
struct crl_set { /* immutable; reference-counted */
    atomic_int refs;
    uint64_t id;
    bool on[3]; /* enum crl_use */
    bool refuse; /* what is outdated */
    bool missing; /* a member has no list */
    size_t n;
    struct member members[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct crl_set *current; /* NULL: nothing is configured */
static struct source **sources; /* by name */
static size_t n_sources;
static struct { /* of crl_setup */
    bool on[3], refuse;
} setup;
static uint64_t last_id, settings;

void crl_lock(void)
{
    pthread_mutex_lock(&lock);
}

void crl_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

bool crl_refuses(void)
{
    return setup.refuse;
}

struct source **crl_sources(size_t *n)
{
    *n = n_sources;
    return sources;
}

/* --- the set --------------------------------------------------------------------------------- */

static void free_set(void *arg)
{
    struct crl_set *set = arg;

    for (size_t i = 0; i < set->n; i++)
        crl_list_free(&set->members[i].list);
    free(set);
}

/* The last reference to a list may go with it, and giving back its memory takes milliseconds that
 * a loop does not have. */
static void set_unref(struct crl_set *set)
{
    if (!set || atomic_fetch_sub(&set->refs, 1) > 1)
        return;
    if (!loop_self() || !worker_post(free_set, set))
        free_set(set);
}

static struct crl_set *take_set(void)
{
    struct crl_set *set;

    pthread_mutex_lock(&lock);
    set = current;
    if (set)
        atomic_fetch_add(&set->refs, 1);
    pthread_mutex_unlock(&lock);
    return set;
}

static void put_member(struct crl_set *set, const struct source *s)
{
    struct member *m = &set->members[set->n++];

    str_copy(m->name, sizeof(m->name), s->name);
    m->list = s->list ? crl_ref(s->list) : NULL;
    m->trusted = s->trusted;
    set->missing |= !s->list;
}

static bool any_switch(void)
{
    return setup.on[CRL_INBOUND] || setup.on[CRL_OUTBOUND] || setup.on[CRL_WEB];
}

static struct crl_set *new_set(void)
{
    struct crl_set *set = xcalloc(1, sizeof(*set) + n_sources * sizeof(set->members[0]));

    set->refs = 1;
    set->id = any_switch() ? ++last_id : 0;
    memcpy(set->on, setup.on, sizeof(set->on));
    set->refuse = setup.refuse;
    for (size_t i = 0; i < n_sources; i++)
        if (sources[i]->set.enabled)
            put_member(set, sources[i]);
    return set;
}

void crl_swap(void)
{
    struct crl_set *old = current;

    current = new_set();
    /* Its lists are freed by whoever has the last reference; mostly they live on in the new set. */
    set_unref(old);
}

/* Where outdated lists are refused, a list that ends is a change as well. */
static uint64_t id_of(const struct crl_set *set, usec_t now)
{
    uint64_t ended = 0;

    for (size_t i = 0; set->id && set->refuse && i < set->n; i++)
        ended += set->members[i].list && crl_is_outdated(set->members[i].list, now);
    return set->id + (ended << 48);
}

uint64_t running_crl_id(void)
{
    usec_t now = clock_wall();
    uint64_t id;

    pthread_mutex_lock(&lock);
    id = current ? id_of(current, now) : 0;
    pthread_mutex_unlock(&lock);
    return id;
}

/* --- looking up ------------------------------------------------------------------------------ */

static void date_of(usec_t t, char out[40])
{
    clock_rfc3339(t, out);
    out[10] = '\0'; /* the day will do */
}

static void say_revoked(X509 *x, int depth, const struct crl_entry *e, char *why, size_t size)
{
    const char *reason = crl_reason_text(e->reason);
    AUTO(str) char *subject = depth ? authority_dn(X509_get_subject_name(x)) : NULL;
    char date[40];

    date_of(e->revoked, date);
    snprintf(why, size, "certificate %s%.100s%srevoked on %s%s%s%s",
             depth ? "of the authority " : "", depth ? subject : "", depth ? " " : "", date,
             *reason ? " (" : "", reason, *reason ? ")" : "");
}

static bool certificate_ok(const struct crl_set *set, X509 *x, int depth, usec_t now, char *why,
                           size_t size)
{
    const struct member *stale = NULL, *missing = NULL;
    bool fresh = false;
    char date[40];

    for (size_t i = 0; i < set->n; i++) {
        const struct member *m = &set->members[i];
        struct crl_entry e;

        if (!m->list) {
            missing = m;
        } else if (crl_is_about(m->list, x)) {
            if (m->trusted && crl_find(m->list, X509_get0_serialNumber(x), &e)) {
                say_revoked(x, depth, &e, why, size);
                return false;
            }
            if (!crl_covers(m->list, x))
                continue;
            if (m->trusted && !crl_is_outdated(m->list, now))
                fresh = true;
            else
                stale = m;
        }
    }
    if (fresh || !set->refuse || (!stale && !missing))
        return true;
    if (stale && stale->trusted) {
        date_of(crl_ends(stale->list), date);
        snprintf(why, size, "revocation list \"%s\" is outdated since %s", stale->name, date);
    } else if (stale) {
        snprintf(why, size, "the issuer of revocation list \"%s\" is no longer trusted",
                 stale->name);
    } else {
        snprintf(why, size, "revocation list \"%s\" could not be fetched yet", missing->name);
    }
    return false;
}

static bool is_root(X509 *x)
{
    return X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
}

bool crl_chain_ok(enum crl_use use, STACK_OF(X509) * chain, char *why, size_t size)
{
    struct crl_set *set = take_set();
    int n = sk_X509_num(chain);
    usec_t now = clock_wall();
    bool ok = true;

    if (size)
        why[0] = '\0';
    for (int i = 0; set && set->on[use] && ok && i < n; i++) {
        X509 *x = sk_X509_value(chain, i);

        if (i < n - 1 || !is_root(x))
            ok = certificate_ok(set, x, i, now, why, size);
    }
    set_unref(set);
    return ok;
}

void crl_findings(X509 *x, void (*fn)(const struct crl_finding *f, void *arg), void *arg)
{
    struct crl_set *set = take_set();
    usec_t now = clock_wall();

    for (size_t i = 0; set && i < set->n; i++) {
        const struct member *m = &set->members[i];
        struct crl_finding f = {.source = m->name};

        if (!m->list || !crl_is_about(m->list, x))
            continue;
        f.state = !m->trusted                     ? CRL_MISSING
                  : crl_is_outdated(m->list, now) ? CRL_OUTDATED
                                                  : CRL_CURRENT;
        f.listed = crl_find(m->list, X509_get0_serialNumber(x), &f.entry);
        f.covers = crl_covers(m->list, x);
        fn(&f, arg);
    }
    set_unref(set);
}

/* --- sources --------------------------------------------------------------------------------- */

struct source *source_ref(struct source *s)
{
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void source_unref(struct source *s)
{
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL))
        return;
    crl_list_free(&s->list);
    row_free(&s->row);
    free(s->from);
    free(s->name);
    free(s);
}

enum crl_state source_state(const struct source *s, usec_t now)
{
    if (!s->set.enabled)
        return CRL_DISABLED;
    if (!s->list || !s->trusted)
        return CRL_MISSING;
    return crl_is_outdated(s->list, now) ? CRL_OUTDATED : CRL_CURRENT;
}

const char *crl_state_word(enum crl_state s)
{
    static const char *const words[] = {[CRL_DISABLED] = "disabled",
                                        [CRL_MISSING] = "missing",
                                        [CRL_CURRENT] = "current",
                                        [CRL_OUTDATED] = "outdated"};

    return words[s];
}

void crl_each(void (*fn)(const struct crl_info *i, void *arg), void *arg)
{
    usec_t now = clock_wall();

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_sources; i++) {
        const struct source *s = sources[i];
        struct crl_info info = {.name = s->name,
                                .state = source_state(s, now),
                                .list = s->list,
                                .fetched_from = s->from ? s->from : "",
                                .failure = s->failure,
                                .fetched = s->fetched,
                                .failed_at = s->failed_at};

        if (s->set.enabled && s->wanted)
            info.next_fetch = now + (s->retry > clock_now() ? s->retry - clock_now() : 0) * 1000;
        if (s->set.enabled && s->next && (!info.next_fetch || s->next < info.next_fetch))
            info.next_fetch = s->next;
        fn(&info, arg);
    }
    pthread_mutex_unlock(&lock);
}

/* Is the authority that signed it still among those that are trusted? */
static bool authority_is_there(const struct crl_list *l)
{
    STACK_OF(X509) *all = trust_by_subject(l->issuer);
    unsigned char key[32];
    bool found = false;

    for (int i = 0; i < sk_X509_num(all) && !found; i++) {
        crl_key_digest(sk_X509_value(all, i), key);
        found = !memcmp(key, l->authority, sizeof(key));
    }
    sk_X509_pop_free(all, X509_free);
    return found;
}

/* Under the lock. true: something about it changed. */
static bool look_at_authority(struct source *s)
{
    bool there = s->list && authority_is_there(s->list), changed = s->list && there != s->trusted;

    if (!changed)
        return false;
    s->trusted = there;
    if (!there) {
        snprintf(s->failure, sizeof(s->failure),
                 "The issuer of the list (%.200s) is no longer among the certificate authorities: "
                 "import its certificate with certconfig > certauthority.",
                 s->list->issuer_text);
        s->failed_at = clock_wall();
        s->wanted = true;
        s->retry = 0;
    }
    return true;
}

void crl_trust_changed(void)
{
    bool changed = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < n_sources; i++) {
        changed |= look_at_authority(sources[i]);
        sources[i]->retry = 0; /* what was refused may be good now */
    }
    if (changed)
        crl_swap();
    pthread_mutex_unlock(&lock);
    crl_wake();
}

/* Under the lock. */
static size_t memory_without(const struct source *without)
{
    size_t sum = 0;

    for (size_t i = 0; i < n_sources; i++)
        if (sources[i] != without && sources[i]->list)
            sum += sources[i]->list->memory;
    return sum;
}

bool crl_install(struct source *s, struct crl_list *list, const char *from, usec_t fetched,
                 struct err *err)
{
    struct crl_list *old = NULL;
    bool ok = true;

    pthread_mutex_lock(&lock);
    if (s->gone || !s->set.enabled) {
        ok = err_set(err, E_CLOSED, "The CRL source is gone or was disabled meanwhile.");
    } else if (memory_without(s) + list->memory > CRL_MAX_MEMORY) {
        ok = err_set(err, E_LIMIT,
                     "The list is not used: all revocation lists together would take more than "
                     "%zu MiB of memory.",
                     CRL_MAX_MEMORY >> 20);
    } else {
        old = s->list;
        s->list = crl_ref(list);
        s->trusted = true;
        s->outdated = crl_is_outdated(list, clock_wall());
        s->fetched = fetched;
        free(s->from);
        s->from = xstrdup(from);
        crl_swap();
    }
    pthread_mutex_unlock(&lock);
    crl_list_free(&old);
    return ok;
}

/* --- commits --------------------------------------------------------------------------------- */

static struct source *find(struct source **all, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(all[i]->name, name))
            return all[i];
    return NULL;
}

static void take_row(struct source *s, const struct row *row)
{
    bool was_enabled = s->row && s->set.enabled;

    if (s->row && !memcmp(s->row->hash, row->hash, sizeof(row->hash)))
        return;
    row_free(&s->row);
    s->row = row_ref((struct row *)row);
    s->set = *(const struct crl_source *)row->data;
    s->generation++;
    s->wanted = s->set.enabled;
    s->retry = 0;
    s->next = s->set.enabled && s->set.auto_update
                  ? crl_next_time(s->set.schedule, s->set.time, clock_wall())
                  : 0;
    s->load |= s->set.enabled && !was_enabled;
}

static struct source *source_of(const struct row *row)
{
    struct source *s = find(sources, n_sources, row->name);

    if (s)
        return source_ref(s);
    s = xcalloc(1, sizeof(*s));
    s->refs = 1;
    s->name = xstrdup(row->name);
    return s;
}

struct drop { /* what a commit leaves behind */
    struct source **sources;
    size_t n;
    struct crl_list **lists;
    size_t n_lists;
};

static void free_drop(void *arg)
{
    struct drop *d = arg;

    for (size_t i = 0; i < d->n; i++)
        source_unref(d->sources[i]);
    for (size_t i = 0; i < d->n_lists; i++)
        crl_list_free(&d->lists[i]);
    free(d->sources);
    free(d->lists);
    free(d);
}

/* Under the lock. */
static struct drop *exchange(const struct config *cfg)
{
    const struct crl_setup *c = CONFIG_SINGLE(cfg, crl_setup);
    size_t n = config_count(cfg, &section_crl_source);
    struct source **fresh = xcalloc(n + 1, sizeof(*fresh));
    struct drop *d = xcalloc(1, sizeof(*d));

    d->lists = xcalloc(n + 1, sizeof(*d->lists));
    for (size_t i = 0; i < n; i++) {
        fresh[i] = source_of(config_at(cfg, &section_crl_source, i));
        take_row(fresh[i], config_at(cfg, &section_crl_source, i));
        if (!fresh[i]->set.enabled && fresh[i]->list) { /* its file stays */
            d->lists[d->n_lists++] = fresh[i]->list;
            fresh[i]->list = NULL;
        }
        look_at_authority(fresh[i]);
    }
    for (size_t i = 0; i < n_sources; i++)
        if (!find(fresh, n, sources[i]->name))
            sources[i]->gone = true;
    d->sources = sources;
    d->n = n_sources;
    sources = fresh;
    n_sources = n;
    setup.on[CRL_INBOUND] = c && c->inbound;
    setup.on[CRL_OUTBOUND] = c && c->outbound;
    setup.on[CRL_WEB] = c && c->web;
    setup.refuse = c && c->stale == CRL_STALE_REFUSE;
    return d;
}

/* Is it what is in force already? Then what was verified under it stays verified. */
static bool same_set(const struct crl_set *a, const struct crl_set *b)
{
    if (!a || a->n != b->n || memcmp(a->on, b->on, sizeof(a->on)) != 0 || a->refuse != b->refuse)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!str_eq(a->members[i].name, b->members[i].name) ||
            a->members[i].list != b->members[i].list ||
            a->members[i].trusted != b->members[i].trusted)
            return false;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    uint64_t id = http_settings_id();
    struct crl_set *fresh, *old = NULL;
    bool first;
    struct drop *d;

    (void)state;
    pthread_mutex_lock(&lock);
    first = !current;
    d = exchange(cfg);
    for (size_t i = 0; id != settings && i < n_sources; i++)
        sources[i]->retry = 0; /* other authorities, another proxy: what failed may work now */
    settings = id;
    fresh = new_set();
    if (same_set(current, fresh)) {
        old = fresh;
    } else {
        old = current;
        current = fresh;
    }
    pthread_mutex_unlock(&lock);
    set_unref(old);
    if (!loop_self() || !worker_post(free_drop, d))
        free_drop(d);
    if (first) /* before anybody listens: a gateway that starts again knows what it knew */
        crl_load_kept();
    crl_wake();
}

const struct reload_part reload_crl = {.name = "revocation lists", .publish = publish};

bool crl_start(struct err *err)
{
    (void)err;
    crl_make_room();
    return true;
}

void crl_stop(void)
{
    struct crl_set *old = current;

    current = NULL;
    set_unref(old);
    for (size_t i = 0; i < n_sources; i++)
        source_unref(sources[i]);
    free(sources);
    sources = NULL;
    n_sources = 0;
    settings = 0;
    memset(&setup, 0, sizeof(setup));
}
