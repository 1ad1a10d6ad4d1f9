/* hosts.c - see hosts.h. */
#include "daemon/hosts.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/base/map.h"
#include "store/base/str.h"

#define FIRST_FLIGHT 8u
#define NO_LIMIT 10000u /* more than there are sessions */
#define FULL_PAUSE SECONDS(1) /* all it may have are open */
#define SILENT_LEAST 50 /* ms; ... or those that are under way have to show first that it is alive */
#define SILENT_MOST SECONDS(15)
#define PROBE_PAUSE SECONDS(5)
#define PROBE_LASTS MINUTES(2) /* a probe that was never heard of again does not block the next one */
#define FORGOTTEN_AFTER MINUTES(60) /* without anybody who tries again */

struct host {
    unsigned open, greeted;
    unsigned flight; /* how many may be under way without an answer; each one that is greeted adds one */
    unsigned most, credit; /* open in all: it once refused to take more */
    unsigned failures; /* in a row */
    msec_t silent; /* since when those that are under way have got no answer */
    msec_t down_since, probe_at; /* 0: not down */
    msec_t interval, failed_at; /* the last ones */
    bool probing;
    char *why;
};

static struct {
    pthread_mutex_t lock;
    struct map hosts; /* by "address:port" */
} t = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void host_free(struct host *h)
{
    free(h->why);
    free(h);
}

/* Room for one more: what nobody has asked for in an hour goes. */
static void sweep(msec_t now)
{
    const char *key;
    size_t pos = 0;
    void *value;

    while (map_next(&t.hosts, &pos, &key, &value)) {
        struct host *h = value;

        if (!h->open && now >= h->failed_at + FORGOTTEN_AFTER) {
            map_remove(&t.hosts, key);
            host_free(h);
        }
    }
}

static struct host *find(const char *key)
{
    struct host *h = map_get(&t.hosts, key);

    if (h)
        return h;
    h = xcalloc(1, sizeof(*h));
    h->flight = FIRST_FLIGHT;
    h->most = NO_LIMIT;
    map_set(&t.hosts, key, h);
    return h;
}

/* Nothing is worth remembering of one that is well and has no connection. */
static void release(const char *key, struct host *h, msec_t now)
{
    if (h->open)
        return;
    if (h->failures && t.hosts.n >= HOSTS_MAX && now) {
        sweep(now);
        if (t.hosts.n < HOSTS_MAX)
            return;
    } else if (h->failures) {
        return;
    }
    map_remove(&t.hosts, key);
    host_free(h);
}

static enum hosts_answer ask(const struct host *h, unsigned limit, msec_t now)
{
    if (h->probe_at && (now < h->probe_at || (h->probing && now < h->probe_at + PROBE_LASTS)))
        return HOSTS_DOWN;
    if (h->probe_at)
        return HOSTS_PROBE;
    if ((limit && h->open >= limit) || h->open >= h->most || h->open - h->greeted >= h->flight)
        return HOSTS_FULL;
    return HOSTS_GO;
}

/* The longer an address is silent, the likelier it is dead, and the later others come to ask. */
static msec_t pause_of(const struct host *h, msec_t now)
{
    msec_t silent = now - h->silent;

    if (h->open - h->greeted < h->flight)
        return FULL_PAUSE;
    return silent < SILENT_LEAST ? SILENT_LEAST : silent < SILENT_MOST ? silent : SILENT_MOST;
}

enum hosts_answer hosts_enter(const struct addr *a, unsigned limit, msec_t now,
                              struct hosts_wait *w)
{
    enum hosts_answer answer;
    char key[ADDR_TEXT];
    struct host *h;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = find(key);
    answer = ask(h, limit, now);
    if (answer == HOSTS_GO || answer == HOSTS_PROBE) {
        if (h->open++ == h->greeted)
            h->silent = now;
        if (answer == HOSTS_PROBE) {
            h->probing = true;
            h->probe_at = now;
        }
    } else if (w) {
        if (answer == HOSTS_FULL)
            w->until = now + pause_of(h, now);
        else if (now < h->probe_at)
            w->until = h->probe_at;
        else /* the probe that is under way will tell */
            w->until = now + (h->interval < PROBE_PAUSE ? h->interval : PROBE_PAUSE);
        str_copy(w->why, sizeof(w->why), h->why ? h->why : "");
    }
    pthread_mutex_unlock(&t.lock);
    return answer;
}

bool hosts_takes(const struct addr *a, unsigned limit, msec_t now)
{
    char key[ADDR_TEXT];
    const struct host *h;
    bool ok;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = map_get(&t.hosts, key);
    ok = !h || ask(h, limit, now) == HOSTS_GO;
    pthread_mutex_unlock(&t.lock);
    return ok;
}

void hosts_join(const struct addr *a)
{
    char key[ADDR_TEXT];

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    find(key)->open++;
    pthread_mutex_unlock(&t.lock);
}

bool hosts_worked(const struct addr *a, msec_t now, msec_t *lasted)
{
    char key[ADDR_TEXT];
    struct host *h;
    bool was_down;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = find(key);
    h->greeted++;
    h->silent = now;
    h->failures = 0;
    was_down = h->probe_at != 0;
    *lasted = was_down ? now - h->down_since : 0;
    h->down_since = h->probe_at = 0;
    h->probing = false;
    h->flight += h->flight < NO_LIMIT;
    if (h->most < NO_LIMIT && ++h->credit >= h->most) {
        h->most++;
        h->credit = 0;
    }
    pthread_mutex_unlock(&t.lock);
    return was_down;
}

static void note_failure(struct host *h, const char *why, msec_t first, msec_t most, msec_t now)
{
    h->probing = false;
    h->failed_at = now;
    free(h->why);
    h->why = xstrdup(why);
    if (h->failures < HOSTS_STRIKES)
        return;
    for (unsigned k = HOSTS_STRIKES; k < h->failures && first < most; k++)
        first *= 2;
    h->interval = first < most ? first : most;
    h->probe_at = now + h->interval;
    h->flight = 1;
    h->most = NO_LIMIT;
}

bool hosts_failed(const struct addr *a, const char *why, msec_t first, msec_t most, msec_t now,
                  msec_t *until)
{
    char key[ADDR_TEXT];
    bool goes_down = false;
    struct host *h;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = find(key);
    h->open -= h->open > h->greeted;
    h->silent = now;
    h->credit = 0;
    if (h->greeted && !h->probe_at) { /* it takes so many and no more */
        h->most = h->greeted;
    } else if (!h->probe_at || h->probing || now >= h->probe_at) { /* not one that began before it was down */
        h->failures++;
        goes_down = !h->probe_at && h->failures >= HOSTS_STRIKES;
        note_failure(h, why, first, most, now);
        if (goes_down)
            h->down_since = now;
    }
    *until = h->probe_at;
    release(key, h, now);
    pthread_mutex_unlock(&t.lock);
    return goes_down;
}

void hosts_leave(const struct addr *a, bool greeted)
{
    char key[ADDR_TEXT];
    struct host *h;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = map_get(&t.hosts, key);
    if (h) {
        h->open -= h->open > 0;
        h->greeted -= greeted && h->greeted > 0;
        if (!greeted)
            h->probing = false;
        release(key, h, 0);
    }
    pthread_mutex_unlock(&t.lock);
}

void hosts_probe(void)
{
    const char *key;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&t.lock);
    while (map_next(&t.hosts, &pos, &key, &value)) {
        struct host *h = value;

        if (h->probe_at && !h->probing)
            h->probe_at = 1;
    }
    pthread_mutex_unlock(&t.lock);
}

bool hosts_show(const struct addr *a, struct hosts_info *out)
{
    char key[ADDR_TEXT];
    const struct host *h;

    addr_text_port(a, key);
    pthread_mutex_lock(&t.lock);
    h = map_get(&t.hosts, key);
    if (h) {
        *out = (struct hosts_info){h->open, h->down_since, h->probe_at, ""};
        str_copy(out->why, sizeof(out->why), h->why && h->probe_at ? h->why : "");
    }
    pthread_mutex_unlock(&t.lock);
    return h;
}

void hosts_forget(void)
{
    const char *key;
    size_t pos = 0;
    void *value;

    pthread_mutex_lock(&t.lock);
    while (map_next(&t.hosts, &pos, &key, &value))
        host_free(value);
    map_free(&t.hosts);
    pthread_mutex_unlock(&t.lock);
}
