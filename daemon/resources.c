/* resources.c - see resources.h.
 *
 * Figures are taken once a second by a fiber; the number of queued messages, which a limit of the
 * administrator may have to meet exactly, with every message. One mutex; in quiet times a message
 * costs two loads.
 *
 * How many descriptors are open nobody tells cheaply, but the lowest free number does not lie: a new
 * descriptor has it. What lies below it is in use. */
#include "daemon/resources.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/conserve.h"
#include "daemon/fiber.h"
#include "daemon/kept.h"
#include "daemon/queue.h"
#include "daemon/queue_clock.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define LOG_DISK_WARN ((uint64_t)256 << 20)
#define TRIM_EVERY SECONDS(10)
#define TIDY_EVERY SECONDS(600)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct conserve state = {.slow_at = 85, .resume_at = 95}; /* under lock */
static uint64_t max_messages = 5000000; /* under lock */
static atomic_uint degree; /* conserve_degree(&state) */
static atomic_bool refuse_sessions; /* memory or descriptors are at their end */
static _Atomic uint64_t quiet_below; /* so few messages need no look */
static atomic_int last_descriptor; /* no session begins with this number or a higher one */

static const char *const names[SCARCE_KINDS] = {
    [SCARCE_MESSAGES] = "messages in the queue",
    [SCARCE_QUEUE] = "size of the queue",
    [SCARCE_DISK] = "disk of the queue",
    [SCARCE_MEMORY] = "memory",
    [SCARCE_DESCRIPTORS] = "file descriptors",
};

/* Under lock. */
static void describe(enum scarce kind, char *out, size_t size)
{
    uint64_t used = state.of[kind].used, limit = state.of[kind].limit;

    if (kind == SCARCE_DISK)
        snprintf(out, size, "%s: %" PRIu64 " MiB free, %" PRIu64 " MiB are needed", names[kind],
                 limit >> 20, used >> 20);
    else if (kind == SCARCE_MEMORY || kind == SCARCE_QUEUE)
        snprintf(out, size, "%s: %" PRIu64 " of %" PRIu64 " MiB", names[kind], used >> 20, limit >> 20);
    else
        snprintf(out, size, "%s: %" PRIu64 " of %" PRIu64, names[kind], used, limit);
}

/* --- people are told ------------------------------------------------------------------------- */

static void tell(enum scarce kind, enum conserve_mode was, enum conserve_mode mode, const char *why)
{
    struct config *cfg = running_config();
    const char *host = cfg ? CONFIG_SINGLE(cfg, system)->hostname : "";
    char key[80];

    if (mode == CONSERVE_REFUSE) {
        log_critical("resource conservation: %s; no mail is accepted", why);
        snprintf(key, sizeof(key), "resource conservation, %s", names[kind]);
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                    "This system (hostname: %s) has entered a 'resource conservation' mode in order to "
                    "prevent the rapid depletion of critical system resources: %s. New mail is refused "
                    "with 452 or 421 until there is room; accepted mail is delivered.",
                    host, why);
    } else if (mode == CONSERVE_SLOW && was == CONSERVE_NOT) {
        log_warning("resource conservation: %s; senders are slowed down", why);
        snprintf(key, sizeof(key), "resources low, %s", names[kind]);
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                    "This system (hostname: %s) slows down its senders in order to prevent the rapid "
                    "depletion of critical system resources: %s.",
                    host, why);
    } else {
        log_info("resource conservation: %s; mail is accepted%s", why,
                 mode == CONSERVE_SLOW ? " again, slowly" : " at full speed again");
    }
    if (was == CONSERVE_REFUSE) {
        snprintf(key, sizeof(key), "resource conservation over, %s", names[kind]);
        alert_raise(ALERT_SYSTEM, ALERT_INFO, key,
                    "This system (hostname: %s) has exited 'resource conservation' mode: %s.", host, why);
    } else if (mode == CONSERVE_NOT) {
        snprintf(key, sizeof(key), "resources low over, %s", names[kind]);
        alert_raise(ALERT_SYSTEM, ALERT_INFO, key,
                    "This system (hostname: %s) does not slow down its senders any more: %s.", host, why);
    }
    config_free(&cfg);
}

/* --- figures --------------------------------------------------------------------------------- */

/* Under lock. */
static void take_effect(void)
{
    uint64_t first = max_messages;

    if (state.slow_at < 100)
        first = first / 100 * state.slow_at + first % 100 * state.slow_at / 100;
    atomic_store(&quiet_below, state.of[SCARCE_MESSAGES].mode ? 0 : first);
    atomic_store(&degree, conserve_degree(&state));
    atomic_store(&refuse_sessions, state.of[SCARCE_MEMORY].mode == CONSERVE_REFUSE ||
                                       state.of[SCARCE_DESCRIPTORS].mode == CONSERVE_REFUSE);
}

static void note(enum scarce kind, uint64_t used, uint64_t limit)
{
    enum conserve_mode was, mode;
    bool changed;
    char why[120] = "";

    pthread_mutex_lock(&lock);
    was = state.of[kind].mode;
    changed = kind == SCARCE_DISK ? conserve_set_free(&state, kind, used, limit)
                                  : conserve_set(&state, kind, used, limit);
    mode = state.of[kind].mode;
    take_effect();
    if (changed)
        describe(kind, why, sizeof(why));
    pthread_mutex_unlock(&lock);
    if (changed)
        tell(kind, was, mode, why);
}

static uint64_t number_in(const char *path, unsigned word)
{
    FILE *f = fopen(path, "re");
    char line[128] = "", *p = line;

    if (f && !fgets(line, sizeof(line), f))
        line[0] = '\0';
    if (f)
        fclose(f);
    while (word-- > 0 && p)
        p = (p = strchr(p, ' ')) ? p + 1 : NULL;
    return p ? strtoull(p, NULL, 10) : 0; /* "max": 0 */
}

static uint64_t memory_limit(uint64_t set)
{
    uint64_t all = (uint64_t)get_phys_pages() * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t group = number_in("/sys/fs/cgroup/memory.max", 0);

    if (set)
        return set;
    return (group && group < all ? group : all) / 4 * 3;
}

/* glibc keeps what was freed; the limit is about what the machine is short of. */
static void give_memory_back(void)
{
    static msec_t last;

    if (clock_now() - last < TRIM_EVERY)
        return;
    last = clock_now();
    malloc_trim(0);
}

static void look_at_memory(uint64_t set)
{
    uint64_t limit = memory_limit(set), page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t used = number_in("/proc/self/statm", 1) * page;

    if (used >= limit / 100 * 80)
        give_memory_back();
    note(SCARCE_MEMORY, number_in("/proc/self/statm", 1) * page, limit);
}

/* An eighth of the descriptors, but no more than 256, stays for files and deliveries. */
static void look_at_descriptors(void)
{
    int lowest = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    struct rlimit r;
    int limit;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return;
    limit = r.rlim_cur > 1 << 24 ? 1 << 24 : (int)r.rlim_cur;
    limit -= limit / 8 < 256 ? limit / 8 : 256;
    if (lowest >= 0)
        close(lowest);
    else
        lowest = limit;
    atomic_store(&last_descriptor, limit);
    note(SCARCE_DESCRIPTORS, (uint64_t)lowest, (uint64_t)limit);
}

static void look(const struct resource_limits *set)
{
    struct spool_usage usage;

    note(SCARCE_MESSAGES, queue_messages(), set->max_messages);
    spool_usage(&usage);
    note(SCARCE_QUEUE, usage.bytes_used, set->max_queue_size);
    if (usage.bytes_free || usage.bytes_used) /* it can be looked at */
        note(SCARCE_DISK, usage.bytes_free, set->min_free_space);
    look_at_memory(set->max_memory);
    look_at_descriptors();
}

/* --- decisions ------------------------------------------------------------------------------- */

bool resources_accept(uint64_t queued, struct err *err)
{
    uint64_t most;
    int worst;

    if (queued < atomic_load(&quiet_below) && atomic_load(&degree) != CONSERVE_STOP)
        return true;
    pthread_mutex_lock(&lock);
    most = max_messages;
    pthread_mutex_unlock(&lock);
    note(SCARCE_MESSAGES, queued, most);
    if (atomic_load(&degree) != CONSERVE_STOP)
        return true;
    pthread_mutex_lock(&lock);
    worst = conserve_worst(&state);
    pthread_mutex_unlock(&lock);
    return err_set(err, E_LIMIT,
                   worst == SCARCE_MEMORY || worst == SCARCE_DESCRIPTORS
                       ? "Server resources low - try again later"
                       : "Queue full");
}

bool resources_connection(int fd)
{
    int last = atomic_load_explicit(&last_descriptor, memory_order_relaxed);

    return !atomic_load_explicit(&refuse_sessions, memory_order_relaxed) && (!last || fd < last);
}

void resources_pause(void)
{
    msec_t delay = conserve_delay(atomic_load_explicit(&degree, memory_order_relaxed));

    if (delay)
        fiber_sleep(delay);
}

unsigned resources_conservation(char *text, size_t size)
{
    unsigned d;

    text[0] = '\0';
    pthread_mutex_lock(&lock);
    d = conserve_degree(&state);
    if (d)
        describe((enum scarce)conserve_worst(&state), text, size);
    pthread_mutex_unlock(&lock);
    return d;
}

static void publish(void *unused, const struct config *cfg)
{
    const struct resource_limits *set = CONFIG_SINGLE(cfg, resource_limits);

    (void)unused;
    if (!set)
        return;
    pthread_mutex_lock(&lock);
    state.slow_at = (unsigned)set->slow_at;
    state.resume_at = (unsigned)set->resume_at;
    max_messages = set->max_messages;
    take_effect();
    pthread_mutex_unlock(&lock);
}

const struct reload_part reload_resources = {"resource limits", NULL, publish, NULL};

/* --- the watch ------------------------------------------------------------------------------- */

/* A disk that is only told of. */
static void look_at_disk(const char *what, const char *below, const char *path, uint64_t warn, bool *low)
{
    uint64_t free_bytes;
    struct statvfs fs;
    char key[60];

    if (statvfs(path, &fs) != 0)
        return;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (*low || free_bytes >= warn) { /* a disk at the edge is not told of again and again */
        *low = *low && free_bytes < warn + warn / 4;
        return;
    }
    *low = true;
    snprintf(key, sizeof(key), "disk %s", what);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "The disk of the %s is getting full: %" PRIu64 " MiB are free in %s. %s", what,
                free_bytes >> 20, path, below);
}

/* Retries, timeouts and rates go by a clock that never jumps; the age of messages, certificates and policies
 * goes by the other one. */
static void look_at_clock(void)
{
    static usec_t last_wall;
    static msec_t last_now;
    usec_t wall = clock_wall(), jump, before;
    msec_t now = clock_now();
    int64_t seconds;

    jump = last_wall ? wall - last_wall - (now - last_now) * 1000 : 0;
    before = wall - jump;
    last_wall = wall;
    last_now = now;
    if (jump > -CLOCK_JUMP_LEAST && jump < CLOCK_JUMP_LEAST) {
        queue_clock(wall - now * 1000);
        return;
    }
    seconds = jump / 1000000;
    queue_clock_jumped(before, jump);
    log_critical("the clock was set by %" PRId64 " seconds", seconds);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, "clock",
                "The clock of the machine was set %s by %" PRId64 " seconds. Queued mail is neither retried "
                "sooner nor given up for it; certificates, policies and exceptions are judged by the new time.",
                seconds > 0 ? "forward" : "back", seconds > 0 ? seconds : -seconds);
}

struct tidy {
    unsigned days;
    uint64_t most;
};

static bool tidy_job(void *arg, struct err *err)
{
    const struct tidy *t = arg;

    (void)err;
    kept_tidy(home_dir(), t->days, t->most);
    return true;
}

/* A fiber of its own: a disk may take its time. */
static void tidy_fiber(void *unused)
{
    (void)unused;
    do {
        struct config *cfg = running_config();
        const struct resource_limits *set = cfg ? CONFIG_SINGLE(cfg, resource_limits) : NULL;
        struct tidy t = {0};

        if (set)
            t = (struct tidy){(unsigned)set->kept_days, set->kept_space};
        config_free(&cfg);
        if (t.days)
            worker_call(tidy_job, &t, NULL); /* YIELDS */
    } while (fiber_sleep(TIDY_EVERY));
}

static void watch_fiber(void *unused)
{
    bool queue_low = false, log_low = false;
    struct statvfs first, second;
    bool same = statvfs(home_dir(), &first) == 0 && statvfs(home_log_dir(), &second) == 0 &&
                first.f_fsid == second.f_fsid;

    (void)unused;
    do {
        struct config *cfg = running_config();
        const struct resource_limits *set = cfg ? CONFIG_SINGLE(cfg, resource_limits) : NULL;
        char below[120];

        look_at_clock();
        if (set) {
            look(set);
            snprintf(below, sizeof(below), "Below %" PRIu64 " MiB no mail is accepted.",
                     set->min_free_space >> 20);
            look_at_disk("queue and configuration", below, home_dir(), set->min_free_space * 2,
                         &queue_low);
        }
        if (!same)
            look_at_disk("log files", "When it is full, lines of the log are lost.", home_log_dir(),
                         LOG_DISK_WARN, &log_low);
        config_free(&cfg);
    } while (fiber_sleep(SECONDS(1)));
}

bool resources_start(struct err *err)
{
    return fiber_spawn(loops_get(0), "resources", watch_fiber, NULL) &&
                   fiber_spawn(loops_get(0), "files set aside", tidy_fiber, NULL)
               ? true
               : err_set(err, E_LIMIT, "too many fibers");
}
