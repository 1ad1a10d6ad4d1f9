/* tls_failures.c - see tls_failures.h. */
#include "daemon/tls_failures.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/map.h"
#include "store/base/str.h"

#define LASTS (SECONDS(3600))
#define MAX_HOSTS 10000u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map failures; /* struct tls_failure by "host [address]:port" */

static void key_of(const char *host, const struct addr *addr, char *key, size_t size)
{
    char text[ADDR_TEXT];

    snprintf(key, size, "%s [%s]:%u", host, addr_text(addr, text), addr->port);
}

static void forget(const char *key)
{
    free(map_remove(&failures, key));
}

static void forget_old(void)
{
    const char *key;
    void *value;
    size_t pos = 0;

    while (map_next(&failures, &pos, &key, &value))
        if (((struct tls_failure *)value)->until <= clock_now())
            forget(key);
}

void tls_failures_note(const char *host, const struct addr *addr, const char *reason)
{
    struct tls_failure *f;
    char key[sizeof(f->host)];

    key_of(host, addr, key, sizeof(key));
    pthread_mutex_lock(&lock);
    if (failures.n >= MAX_HOSTS)
        forget_old();
    f = map_get(&failures, key);
    if (!f && failures.n < MAX_HOSTS) {
        f = xcalloc(1, sizeof(*f));
        str_copy(f->host, sizeof(f->host), key);
        map_set(&failures, key, f);
    }
    if (f) {
        f->until = clock_in(LASTS);
        f->at = clock_wall();
        str_copy(f->reason, sizeof(f->reason), reason);
    }
    pthread_mutex_unlock(&lock);
}

bool tls_failures_has(const char *host, const struct addr *addr)
{
    const struct tls_failure *f;
    char key[sizeof(f->host)];
    bool has;

    key_of(host, addr, key, sizeof(key));
    pthread_mutex_lock(&lock);
    f = failures.n ? map_get(&failures, key) : NULL;
    has = f && f->until > clock_now();
    if (f && !has)
        forget(key);
    pthread_mutex_unlock(&lock);
    return has;
}

static int by_host(const void *a, const void *b)
{
    return strcmp(((const struct tls_failure *)a)->host, ((const struct tls_failure *)b)->host);
}

unsigned tls_failures_list(struct tls_failure **out)
{
    const char *key;
    size_t pos = 0;
    unsigned n = 0;
    void *value;

    pthread_mutex_lock(&lock);
    forget_old();
    *out = xcalloc(failures.n ? failures.n : 1, sizeof(**out));
    while (map_next(&failures, &pos, &key, &value))
        (*out)[n++] = *(struct tls_failure *)value;
    pthread_mutex_unlock(&lock);
    qsort(*out, n, sizeof(**out), by_host);
    return n;
}

/* "mx.example.com" names all its addresses. */
static bool is_of(const char *key, const char *host)
{
    size_t n = strlen(host);

    return !strncasecmp(key, host, n) && (!key[n] || str_starts(key + n, " ["));
}

unsigned tls_failures_clear(const char *host)
{
    const char *key;
    unsigned n = 0;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&lock);
    while (map_next(&failures, &pos, &key, &value))
        if (!host || is_of(key, host)) {
            forget(key);
            n++;
        }
    pthread_mutex_unlock(&lock);
    return n;
}
