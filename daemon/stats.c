/* stats.c - see stats.h. Each loop adds to lines of its own, so counting costs no traffic between
 * cores; reading adds the lines up. The samples for the rates belong to the first loop's timer,
 * under a mutex for those who read. */
#include "daemon/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/loop.h"
#include "daemon/worker.h"
#include "store/base/buf.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define LINES 9 /* one for threads without a loop, eight loops */
#define SAMPLE_EVERY SECONDS(5)
#define SAMPLES (15 * 60 / 5 + 1) /* fifteen minutes and the point they begin at */
#define SAVE_EVERY MINUTES(1)

static struct {
    _Alignas(64) _Atomic uint64_t counters[STAT_COUNT];
    _Atomic int64_t gauges[GAUGE_COUNT];
} lines[LINES];

static const char *const names[STAT_COUNT] = {
#define X(id, json, words) json,
    STATS_COUNTERS(X)
#undef X
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t saved[STAT_COUNT]; /* lifetime at the start */
static uint64_t at_reset[STAT_COUNT]; /* lifetime at the last reset */
static usec_t started, last_reset;
static uint64_t samples[SAMPLES][STAT_COUNT]; /* lifetime values; a ring */
static msec_t sample_times[SAMPLES];
static unsigned newest;

static char *path; /* of the file; NULL: not started */
static struct timer sample_timer;
static msec_t next_save;
static pthread_mutex_t file_lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned line_of_thread(void)
{
    struct loop *l = loop_self();

    return l ? 1 + loop_index(l) % (LINES - 1) : 0;
}

void stats_add(enum counter s, uint64_t n)
{
    atomic_fetch_add_explicit(&lines[line_of_thread()].counters[s], n, memory_order_relaxed);
}

void gauge_add(enum gauge g, int n)
{
    atomic_fetch_add_explicit(&lines[line_of_thread()].gauges[g], n, memory_order_relaxed);
}

int64_t gauge_get(enum gauge g)
{
    int64_t v = 0;

    for (unsigned i = 0; i < LINES; i++)
        v += atomic_load_explicit(&lines[i].gauges[g], memory_order_relaxed);
    return v;
}

static uint64_t since_start(enum counter s)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < LINES; i++)
        v += atomic_load_explicit(&lines[i].counters[s], memory_order_relaxed);
    return v;
}

uint64_t stats_get(enum counter s)
{
    struct stats_value v;

    stats_value(s, &v);
    return v.lifetime;
}

void stats_value(enum counter s, struct stats_value *out)
{
    out->uptime = since_start(s);
    pthread_mutex_lock(&lock);
    out->lifetime = saved[s] + out->uptime;
    out->reset = out->lifetime - at_reset[s];
    pthread_mutex_unlock(&lock);
}

const char *stats_name(enum counter s)
{
    return names[s];
}

void stats_reset(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned s = 0; s < STAT_COUNT; s++)
        at_reset[s] = saved[s] + since_start(s);
    last_reset = clock_wall();
    pthread_mutex_unlock(&lock);
}

usec_t stats_since(void)
{
    return started;
}

usec_t stats_last_reset(void)
{
    usec_t t;

    pthread_mutex_lock(&lock);
    t = last_reset;
    pthread_mutex_unlock(&lock);
    return t;
}

/* What happened in the window, as if it went on for an hour; a window the engine has not lived
 * through counts as quiet before the start (100 events in the first minute: 6,000, 1,200, 400). */
uint64_t stats_rate(enum counter s, unsigned minutes)
{
    uint64_t now_value = since_start(s), then;
    msec_t from = clock_now() - MINUTES(minutes);
    unsigned at;

    pthread_mutex_lock(&lock);
    at = newest;
    for (unsigned i = 1; i < SAMPLES && sample_times[at] > from; i++) {
        unsigned before = (newest + SAMPLES - i) % SAMPLES;

        if (!sample_times[before])
            break;
        at = before;
    }
    then = samples[at][s];
    now_value += saved[s];
    pthread_mutex_unlock(&lock);
    return (now_value - then) * 60 / minutes;
}

static void take_sample(void)
{
    newest = (newest + 1) % SAMPLES;
    for (unsigned s = 0; s < STAT_COUNT; s++)
        samples[newest][s] = saved[s] + since_start(s);
    sample_times[newest] = clock_now();
}

/* --- the file: "NAME LIFETIME AT-RESET" a line ----------------------------------------------- */

static void save(void)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 16);
    char *temporary;
    bool ok;
    int fd;

    pthread_mutex_lock(&lock);
    buf_printf(&text, "reset %" PRId64 " 0\n", last_reset);
    for (unsigned s = 0; s < STAT_COUNT; s++)
        buf_printf(&text, "%s %" PRIu64 " %" PRIu64 "\n", names[s], saved[s] + since_start(s),
                   at_reset[s]);
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&file_lock);
    temporary = xasprintf("%s.new", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ok = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fdatasync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(temporary, path) != 0)
        log_warning("stats: %s: %s", path, strerror(errno));
    free(temporary);
    pthread_mutex_unlock(&file_lock);
}

static void save_job(void *unused)
{
    (void)unused;
    save();
}

static bool load_line(char *line)
{
    uint64_t life, reset;
    char name[40];

    if (sscanf(line, "%39s %" SCNu64 " %" SCNu64, name, &life, &reset) != 3)
        return false;
    if (str_eq(name, "reset")) {
        last_reset = (usec_t)life;
        return true;
    }
    for (unsigned s = 0; s < STAT_COUNT; s++) {
        if (str_eq(name, names[s])) {
            saved[s] = life;
            at_reset[s] = reset <= life ? reset : life;
        }
    }
    return true; /* a counter of another version is no damage */
}

static void load(void)
{
    FILE *f = fopen(path, "re");
    char line[200];
    bool ok = true;
    unsigned count = 0;

    if (!f)
        return; /* the first start */
    while (fgets(line, sizeof(line), f)) {
        ok = load_line(line) && ok;
        count++;
    }
    fclose(f);
    if (!ok || !count) {
        log_warning("stats: %s is damaged; some counters start again", path);
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, "counters damaged",
                    "The file of the counters was damaged at the start; some of them begin again at 0.");
    }
}

/* --- life ------------------------------------------------------------------------------------ */

void stats_sample(void)
{
    pthread_mutex_lock(&lock);
    take_sample();
    pthread_mutex_unlock(&lock);
    if (path && clock_now() >= next_save) {
        next_save = clock_in(SAVE_EVERY);
        if (!worker_post(save_job, NULL))
            log_warning("stats: the counters could not be saved, the workers are busy");
    }
}

static void on_timer(struct timer *t)
{
    stats_sample();
    timer_set(t, clock_in(SAMPLE_EVERY));
}

static void start_timer(void *unused)
{
    (void)unused;
    sample_timer.fn = on_timer;
    timer_set(&sample_timer, clock_in(SAMPLE_EVERY));
}

bool stats_start(const char *home, struct err *err)
{
    (void)err;
    path = xasprintf("%s/counters", home);
    load();
    started = clock_wall();
    next_save = clock_in(SAVE_EVERY);
    pthread_mutex_lock(&lock);
    take_sample();
    pthread_mutex_unlock(&lock);
    return true;
}

void stats_run(void)
{
    loop_post(loops_get(0), start_timer, NULL);
}

void stats_stop(void)
{
    if (!path)
        return;
    save();
    free(path);
    path = NULL;
}
