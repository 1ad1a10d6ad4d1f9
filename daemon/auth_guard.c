/* auth_guard.c - who guesses passwords: see auth.h. Two tables, one of hosts and one of user names,
 * so that somebody who makes up names without end does not push the hosts out of theirs; each
 * forgets the one it has not heard of for the longest time when it is full, but not one that is
 * locked out as long as there are others. */
#include "daemon/auth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/alert.h"
#include "store/base/list.h"
#include "store/base/map.h"

#define MAX_ENTRIES 20000u /* of each table, some 250 bytes each */
#define LONGEST_DELAY SECONDS(8)
/* An alert about a name comes at so many times the failures that lock a host out. */
#define NAME_ALERT 5u

struct entry {
    struct list node; /* in the table's order: the one that failed last is at the end */
    char key[64]; /* address of the host or network, or the name in lower case, cut */
    char user[64]; /* the last name that was tried */
    unsigned failures;
    msec_t forgotten; /* when */
    msec_t locked_until; /* 0: not locked out */
    bool told; /* of a name: the alert was raised */
};

struct table {
    struct map index;
    struct list order;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct table hosts = {.order = LIST_INIT(hosts.order)},
                    names = {.order = LIST_INIT(names.order)};

static void host_key(const struct addr *peer, char *key, size_t size)
{
    struct addr a = *peer;
    char text[ADDR_TEXT];

    if (a.family == AF_INET6)
        memset(a.ip + 8, 0, 8);
    addr_text(&a, text);
    snprintf(key, size, a.family == AF_INET6 ? "%s/64" : "%s", text);
}

static void forget(struct table *t, struct entry *e)
{
    map_remove(&t->index, e->key);
    list_remove(&e->node);
    free(e);
}

static bool is_locked(const struct entry *e, msec_t now)
{
    return e->locked_until > now;
}

static void make_room(struct table *t, msec_t now)
{
    struct entry *victim;

    while (!list_empty(&t->order) &&
           (victim = list_item(t->order.next, struct entry, node))->forgotten <= now)
        forget(t, victim);
    if (t->index.n < MAX_ENTRIES)
        return;
    victim = list_item(t->order.next, struct entry, node);
    list_each (it, &t->order) {
        struct entry *e = list_item(it, struct entry, node);

        if (!is_locked(e, now)) {
            victim = e;
            break;
        }
    }
    forget(t, victim);
}

/* The entry, if there is one that is not forgotten. */
static struct entry *find(struct table *t, const char *key, msec_t now)
{
    struct entry *e = map_get(&t->index, key);

    if (e && e->forgotten <= now) {
        forget(t, e);
        e = NULL;
    }
    return e;
}

static struct entry *count(struct table *t, const char *key, msec_t lasts, msec_t now)
{
    struct entry *e = find(t, key, now);

    if (!e) {
        make_room(t, now);
        e = xcalloc(1, sizeof(*e));
        str_copy(e->key, sizeof(e->key), key);
        map_set(&t->index, e->key, e);
        list_init(&e->node);
    }
    e->failures++;
    if (!is_locked(e, now))
        e->forgotten = now + lasts;
    list_remove(&e->node);
    list_add_tail(&t->order, &e->node);
    return e;
}

static msec_t delay_of(const struct entry *e)
{
    return e->failures >= 4 ? LONGEST_DELAY : SECONDS(1) << (e->failures - 1);
}

bool auth_locked_out(const struct addr *peer)
{
    msec_t now = clock_now();
    struct entry *e;
    char key[64];
    bool locked;

    host_key(peer, key, sizeof(key));
    pthread_mutex_lock(&lock);
    e = find(&hosts, key, now);
    locked = e && is_locked(e, now);
    pthread_mutex_unlock(&lock);
    return locked;
}

/* Without the lock: raising an alert takes another one. */
static void tell_host(const struct entry *e, const struct listener_setup *setup)
{
    char key[sizeof(e->key) + 16];

    snprintf(key, sizeof(key), "smtp-auth %s", e->key);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "Possible brute force: %u SMTP authentications from %s have failed, the last one "
                "for the user \"%s\". The "
                "host may not authenticate for %llu seconds.",
                e->failures, e->key, e->user, (unsigned long long)setup->auth_lockout);
}

static void tell_name(const struct entry *e)
{
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, "smtp-auth user",
                "Possible brute force: %u SMTP authentications for the user \"%s\" have failed, "
                "the last one from %s. "
                "The user is not locked out.",
                e->failures, e->key, e->user);
}

msec_t auth_failed(const struct addr *peer, const struct listener_setup *setup, const char *user)
{
    msec_t now = clock_now(), lasts = SECONDS((msec_t)setup->auth_lockout), delay;
    struct entry *e, host = {0}, name = {0};
    char key[64];

    host_key(peer, key, sizeof(key));
    pthread_mutex_lock(&lock);
    e = count(&hosts, key, lasts, now);
    str_copy(e->user, sizeof(e->user), user);
    delay = delay_of(e);
    if (!is_locked(e, now) && e->failures >= setup->auth_failures_host) {
        e->locked_until = e->forgotten = now + lasts;
        host = *e;
    }
    if (*user) {
        char lower[64];

        str_copy(lower, sizeof(lower), user);
        str_lower(lower);
        e = count(&names, lower, lasts, now);
        str_copy(e->user, sizeof(e->user), key);
        if (delay_of(e) > delay)
            delay = delay_of(e);
        if (!e->told && e->failures >= setup->auth_failures_host * NAME_ALERT) {
            e->told = true;
            name = *e;
        }
    }
    pthread_mutex_unlock(&lock);
    if (host.failures)
        tell_host(&host, setup);
    if (name.failures)
        tell_name(&name);
    return delay;
}

void auth_succeeded(const struct addr *peer)
{
    msec_t now = clock_now();
    struct entry *e;
    char key[64];

    host_key(peer, key, sizeof(key));
    pthread_mutex_lock(&lock);
    e = find(&hosts, key, now);
    if (e && !is_locked(e, now) && !--e->failures)
        forget(&hosts, e);
    pthread_mutex_unlock(&lock);
}

size_t auth_lockouts(struct auth_lockout *out, size_t max)
{
    msec_t now = clock_now();
    size_t n = 0;

    pthread_mutex_lock(&lock);
    list_each (it, &hosts.order) {
        const struct entry *e = list_item(it, struct entry, node);

        if (n == max)
            break;
        if (!is_locked(e, now))
            continue;
        str_copy(out[n].address, sizeof(out[n].address), e->key);
        str_copy(out[n].user, sizeof(out[n].user), e->user);
        out[n].failures = e->failures;
        out[n++].left = e->locked_until - now;
    }
    pthread_mutex_unlock(&lock);
    return n;
}

size_t auth_unlock(const char *address)
{
    msec_t now = clock_now();
    char key[64] = "", plain[64];
    struct addr a;
    size_t n = 0;

    if (address) {
        str_copy(plain, sizeof(plain), address);
        if (str_ends(plain, "/64"))
            plain[strlen(plain) - 3] = '\0';
        if (!addr_parse(plain, &a))
            return 0;
        host_key(&a, key, sizeof(key));
    }
    pthread_mutex_lock(&lock);
    list_each_safe (it, &hosts.order) {
        struct entry *e = list_item(it, struct entry, node);

        if (!is_locked(e, now) || (*key && !str_eq(e->key, key)))
            continue;
        forget(&hosts, e);
        n++;
    }
    pthread_mutex_unlock(&lock);
    return n;
}
