/* reload.c - see reload.h. The published snapshot is one pointer under a mutex; what the parts
 * prepared waits in states[] until it is published or discarded. Only the commit pipeline calls
 * prepare, publish and discard. */
#include "daemon/reload.h"

#include <assert.h>
#include <pthread.h>

#define MAX_PARTS 16

static const struct reload_part *const *parts;
static void *states[MAX_PARTS];
static size_t prepared; /* how many of states are filled */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct config *running;

void reload_use(const struct reload_part *const *list)
{
    size_t n = 0;

    while (list[n])
        n++;
    assert(n <= MAX_PARTS);
    parts = list;
}

bool reload_prepare(const struct config *cfg, struct err *err)
{
    struct config *old = running_config();
    bool ok = true;

    assert(!prepared);
    for (size_t i = 0; ok && parts && parts[i]; i++) {
        states[i] = NULL;
        if (parts[i]->prepare)
            ok = parts[i]->prepare(old, cfg, &states[i], err); /* YIELDS */
        if (ok)
            prepared = i + 1;
    }
    if (!ok)
        reload_discard();
    config_free(&old);
    return ok;
}

void reload_publish(const struct config *cfg)
{
    struct config *old;

    /* First the snapshot: what a part starts may ask for it at once. */
    pthread_mutex_lock(&lock);
    old = running;
    running = config_ref(cfg);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < prepared; i++)
        parts[i]->publish(states[i], cfg);
    prepared = 0;
    config_free(&old);
}

void reload_discard(void)
{
    while (prepared > 0) {
        prepared--;
        if (parts[prepared]->discard)
            parts[prepared]->discard(states[prepared]);
    }
}

struct config *running_config(void)
{
    struct config *c;

    pthread_mutex_lock(&lock);
    c = running ? config_ref(running) : NULL;
    pthread_mutex_unlock(&lock);
    return c;
}
