/* logfile.c - see logfile.h.
 *
 * Producers append records to one of two buffers under a mutex that is held for a memcpy; the thread swaps the
 * buffers at most every 20 ms, so a busy gateway pays one write() for hundreds of lines. A batch that does not
 * reach the disk whole is cut back to its last whole line. The files belong to the thread alone. */
#include "daemon/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/str.h"
#include "store/base/version.h"

#define MAX_SUBSCRIPTIONS 32
#define RING_BYTES (4u << 20)
#define LINE_MAX_BYTES 4000
#define GATHER_MS 20
#define PATH_BYTES 512 /* directory (at most 255 bytes), subscription, file */

struct record { /* in the ring, followed by n bytes of text */
    usec_t when;
    unsigned short n;
    unsigned char kind, level;
};

struct subscription { /* the thread's own view */
    struct logfile_subscription set;
    int fd;
    uint64_t size;   /* of the current file */
    uint64_t lost;   /* lines that did not reach the disk, not yet told */
    struct buf batch;
    size_t lines;    /* in batch, those of producers: header and notes stand before them */
    bool used;       /* the current file has lines of producers: an empty one is not rolled over for its age */
    usec_t roll_next; /* when its time is up; 0: never */
    struct logpush *push; /* NULL: not sent anywhere */
    uint64_t push_lost, push_told; /* lines that did not get there */
    char push_problem[300]; /* with TLS, as it was told last */
};

static const char *const base_names[LOGFILE_KINDS] = {"mail", "system", "cli", "status"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER, written = PTHREAD_COND_INITIALIZER;
static struct buf filling; /* under lock */
static uint64_t ring_lost[LOGFILE_KINDS]; /* under lock: not yet told */
static bool overflow_told; /* under lock: since the thread took the buffer last */
static uint64_t batches_asked, batches_done; /* under lock, for logfile_flush */
static bool stopping, running; /* under lock */
static struct logfile_subscription wanted[MAX_SUBSCRIPTIONS]; /* under lock */
static size_t nwanted;
static unsigned wanted_version;
static bool roll_wanted[MAX_SUBSCRIPTIONS]; /* under lock, parallel to wanted */

static atomic_int kind_level[LOGFILE_KINDS];
static _Atomic uint64_t lost_total;

static char *log_dir, *log_serial;
static pthread_t thread;

/* The thread's own. */
static struct subscription subs[MAX_SUBSCRIPTIONS];
static size_t nsubs;
static unsigned subs_version;

static void current_path(const struct logfile_subscription *s, char *out, size_t size)
{
    snprintf(out, size, "%.255s/%.39s/%s.current", log_dir, s->name, base_names[s->kind]);
}

static const char *stamp(usec_t when)
{
    static char text[40]; /* the thread's own */
    static usec_t second = -1;

    if (when / 1000000 != second) {
        second = when / 1000000;
        clock_log_date(when, text);
    }
    return text;
}

static void add_line(struct subscription *s, usec_t when, enum log_level level, const char *text,
                     size_t n)
{
    size_t start;

    buf_printf(&s->batch, "%s %s: ", stamp(when), log_level_name(level));
    start = s->batch.n;
    buf_add(&s->batch, text, n);
    for (size_t i = start; i < s->batch.n; i++)
        if ((unsigned char)s->batch.p[i] < ' ' || s->batch.p[i] == 0x7f)
            s->batch.p[i] = '?';
    buf_char(&s->batch, '\n');
}

static void add_text(struct subscription *s, enum log_level level, const char *text)
{
    add_line(s, clock_wall(), level, text, strlen(text));
}

static void add_header(struct subscription *s)
{
    AUTO(buf) struct buf line = BUF_INIT(400);
    time_t now = (time_t)(clock_wall() / 1000000);
    struct tm tm = {0};

    localtime_r(&now, &tm);
    add_text(s, LOG_INFO, "Begin Logfile");
    buf_printf(&line, "Version: %s SN: %s", POSTERN_VERSION, log_serial);
    add_text(s, LOG_INFO, buf_str(&line));
    buf_reset(&line);
    buf_printf(&line, "Time offset from UTC: %ld seconds", tm.tm_gmtoff);
    add_text(s, LOG_INFO, buf_str(&line));
}

usec_t logfile_next_wall(const struct logfile_subscription *set, usec_t t)
{
    time_t seconds = (time_t)(t / 1000000), next;
    struct tm tm;

    localtime_r(&seconds, &tm);
    tm.tm_hour = (int)(set->roll_at - 1) / 60;
    tm.tm_min = (int)(set->roll_at - 1) % 60;
    tm.tm_sec = 0;
    for (unsigned day = 0; day < 9; day++) {
        struct tm try = tm;

        try.tm_mday += (int)day;
        try.tm_isdst = -1;
        next = mktime(&try);
        if (next > seconds && (!set->roll_day || (unsigned)try.tm_wday == set->roll_day % 7))
            return (usec_t)next * 1000000;
    }
    return 0;
}

/* begun: the age of the current file counts from there. */
static void set_roll_next(struct subscription *s, usec_t begun)
{
    usec_t wall = s->set.roll_at ? logfile_next_wall(&s->set, begun) : 0;

    s->roll_next = s->set.roll_every ? begun + (usec_t)s->set.roll_every * 1000000 : 0;
    if (wall && (!s->roll_next || wall < s->roll_next))
        s->roll_next = wall;
}

/* When the file of an earlier run was begun: the file system may know. */
static usec_t birth_of(int fd)
{
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) != 0 || !(st.stx_mask & STATX_BTIME))
        return clock_wall();
    return (usec_t)st.stx_btime.tv_sec * 1000000;
}

/* Opens or reopens the current file and writes the header. A last line that a crash cut short is ended. */
static bool open_current(struct subscription *s)
{
    struct buf pending = s->batch;
    char path[PATH_BYTES], last;
    struct stat st;

    snprintf(path, sizeof(path), "%.255s/%.39s", log_dir, s->set.name);
    mkdir(path, 0700);
    current_path(&s->set, path, sizeof(path));
    s->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->fd < 0)
        return false;
    s->size = fstat(s->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    s->used = s->size > 0;
    set_roll_next(s, s->used ? birth_of(s->fd) : clock_wall());
    s->batch = (struct buf)BUF_INIT(RING_BYTES * 3);
    if (s->size && pread(s->fd, &last, 1, (off_t)s->size - 1) == 1 && last != '\n')
        buf_char(&s->batch, '\n');
    add_header(s);
    buf_add(&s->batch, pending.p, pending.n);
    buf_free(&pending);
    return true;
}

static void close_current(struct subscription *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void count_lost(struct subscription *s, size_t lines)
{
    if (lines && !s->lost) {
        char key[80];

        snprintf(key, sizeof(key), "log lost %s", s->set.name);
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                    "Lines of the log %s are lost: its disk does not take them. Mail goes on.", s->set.name);
    }
    s->lost += lines;
    atomic_fetch_add(&lost_total, lines);
}

/* Cuts what a failed write left behind back to whole lines and counts the rest as lost. */
static size_t keep_whole_lines(struct subscription *s, size_t done)
{
    size_t kept = done, lost = 0;

    while (kept > 0 && s->batch.p[kept - 1] != '\n')
        kept--;
    if (kept < done && ftruncate(s->fd, (off_t)(s->size + kept)) != 0)
        kept = done; /* the broken line stays */
    for (size_t i = kept; i < s->batch.n; i++)
        lost += s->batch.p[i] == '\n';
    count_lost(s, lost < s->lines ? lost : s->lines);
    return kept;
}

/* Puts the batch on disk, or what of it fits. */
static void write_batch(struct subscription *s)
{
    size_t done = 0;
    struct stat st;

    if (s->fd >= 0 && (fstat(s->fd, &st) != 0 || st.st_nlink == 0))
        close_current(s); /* somebody removed the file */
    if (s->fd >= 0 || open_current(s)) {
        while (done < s->batch.n) {
            ssize_t n = write(s->fd, s->batch.p + done, s->batch.n - done);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                break;
            done += (size_t)n;
        }
        if (done < s->batch.n)
            done = keep_whole_lines(s, done);
        else
            s->lost = 0; /* tell_lost's line is on disk */
        s->size += done;
    } else {
        count_lost(s, s->lines);
    }
    buf_reset(&s->batch);
    s->lines = 0;
}

/* The saved files' names sort by time. Keeps max_files - 1 of them beside the current one. */
static void remove_old(const struct subscription *s)
{
    AUTO(strlist) struct strlist saved = {0};
    char dir[PATH_BYTES], prefix[16], path[PATH_BYTES * 2];
    struct dirent *e;
    size_t keep = s->set.max_files > 1 ? s->set.max_files - 1 : 0;
    DIR *d;

    snprintf(dir, sizeof(dir), "%.255s/%.39s", log_dir, s->set.name);
    snprintf(prefix, sizeof(prefix), "%s.@", base_names[s->set.kind]);
    d = opendir(dir);
    if (!d)
        return;
    while ((e = readdir(d)) != NULL)
        if (str_starts(e->d_name, prefix) && str_ends(e->d_name, ".s"))
            strlist_add(&saved, e->d_name);
    closedir(d);
    strlist_sort(&saved);
    for (size_t i = 0; saved.n - i > keep; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, saved.items[i]);
        if (unlink(path) == 0 && s->set.alert_removed) {
            char key[80];

            snprintf(key, sizeof(key), "log removed %s", s->set.name);
            alert_raise(ALERT_SYSTEM, ALERT_INFO, key,
                        "The file %s of the log %s was removed: the maximum number of files is %u.",
                        saved.items[i], s->set.name, s->set.max_files);
        }
    }
}

static void roll_over(struct subscription *s)
{
    char from[PATH_BYTES], to[PATH_BYTES], date[24];
    time_t now = (time_t)(clock_wall() / 1000000);
    struct tm tm;

    if (s->fd < 0)
        return;
    current_path(&s->set, from, sizeof(from));
    do { /* two in one second: the later one gets the next second's name */
        localtime_r(&now, &tm);
        strftime(date, sizeof(date), "%Y%m%dT%H%M%S", &tm);
        snprintf(to, sizeof(to), "%.255s/%.39s/%s.@%s.s", log_dir, s->set.name, base_names[s->set.kind],
                 date);
        now++;
    } while (access(to, F_OK) == 0);
    if (rename(from, to) != 0)
        return;
    close_current(s);
    remove_old(s);
    open_current(s);
    write_batch(s);
}

/* Says what was lost, in front of the lines that come now. */
static void tell_lost(struct subscription *s, uint64_t in_ring)
{
    char text[100];

    if (in_ring) {
        snprintf(text, sizeof(text), "%llu log lines were lost: too many at a time",
                 (unsigned long long)in_ring);
        add_text(s, LOG_WARNING, text);
    }
    if (s->lost) {
        snprintf(text, sizeof(text), "%llu log lines were lost: the disk did not take them",
                 (unsigned long long)s->lost);
        add_text(s, LOG_WARNING, text);
    }
}

/* false: nothing is on its way anywhere. Says once in a while what did not get there. */
static msec_t push_lines(struct subscription *s)
{
    uint64_t lost = 0;
    msec_t again = s->push ? logpush_work(s->push, &lost) : NEVER;

    const char *problem = s->push ? logpush_problem(s->push) : NULL;

    if (problem && !str_eq(problem, s->push_problem)) { /* each once, not at every attempt */
        char text[500];

        str_copy(s->push_problem, sizeof(s->push_problem), problem);
        snprintf(text, sizeof(text), "The syslog server %.200s cannot be used: %.200s", s->set.push.host, problem);
        add_text(s, LOG_WARNING, text);
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, "syslog tls", "The log %s: %s. Its lines wait, up to a megabyte of them.",
                    s->set.name, text);
    }
    s->push_lost += lost;
    if (lost && s->push_told == 0)
        alert_raise(ALERT_SYSTEM, ALERT_WARNING, "syslog",
                    "Lines of the log %s are lost: the syslog server %s does not take them. They are in "
                    "the log's file all the same.",
                    s->set.name, *s->set.push.host ? s->set.push.host : "/dev/log");
    if (lost)
        s->push_told = 1;
    else if (s->push_lost && again == NEVER) { /* it works again */
        char text[120];

        snprintf(text, sizeof(text), "%llu log lines did not reach the syslog server",
                 (unsigned long long)s->push_lost);
        add_text(s, LOG_WARNING, text);
        s->push_lost = s->push_told = 0;
    }
    return again;
}

static void distribute(const struct buf *full)
{
    for (size_t at = 0; at < full->n;) {
        struct record r;
        const char *text;

        memcpy(&r, full->p + at, sizeof(r));
        text = full->p + at + sizeof(r);
        at += sizeof(r) + r.n;
        for (size_t i = 0; i < nsubs; i++) {
            if ((unsigned)subs[i].set.kind == r.kind && r.level <= subs[i].set.level) {
                add_line(&subs[i], r.when, r.level, text, r.n);
                subs[i].lines++;
                if (subs[i].push)
                    logpush_line(subs[i].push, r.when, r.level, text, r.n);
            }
        }
    }
}

/* Takes over what logfile_configure asked for, keeping the files of subscriptions that stay. Under lock. */
static void take_subscriptions(void)
{
    static struct subscription next[MAX_SUBSCRIPTIONS];

    for (size_t i = 0; i < nwanted; i++) {
        next[i] = (struct subscription){.set = wanted[i], .fd = -1};
        next[i].batch = (struct buf)BUF_INIT(RING_BYTES * 3);
        for (size_t j = 0; j < nsubs; j++) {
            if (str_eq(subs[j].set.name, wanted[i].name) && subs[j].set.kind == wanted[i].kind) {
                buf_free(&next[i].batch);
                next[i] = subs[j];
                next[i].set = wanted[i];
                subs[j].fd = -1;
                subs[j].batch = (struct buf){0};
                subs[j].push = NULL;
                if (next[i].fd >= 0)
                    set_roll_next(&next[i], birth_of(next[i].fd));
                if (!logpush_same(&subs[j].set.push, &wanted[i].push))
                    logpush_free(&next[i].push);
            }
        }
        if (wanted[i].push.on && !next[i].push)
            next[i].push = logpush_new(&wanted[i].push, wanted[i].name);
    }
    for (size_t j = 0; j < nsubs; j++) {
        close_current(&subs[j]);
        buf_free(&subs[j].batch);
        logpush_free(&subs[j].push);
    }
    memcpy(subs, next, nwanted * sizeof(*next));
    nsubs = nwanted;
    subs_version = wanted_version;
}

/* The moment at which there is something to do without a line: the age of a file, lines that wait
 * for a syslog server. */
static void wake_at(msec_t again, struct timespec *until)
{
    usec_t wall = clock_wall(), next = 0;

    if (again != NEVER) {
        msec_t left = again - clock_now();

        next = wall + (left > 0 ? left : 0) * 1000;
    }
    for (size_t i = 0; i < nsubs; i++)
        if (subs[i].roll_next && subs[i].used && (!next || subs[i].roll_next < next))
            next = subs[i].roll_next;
    if (!next || next > wall + 3600 * (usec_t)1000000)
        next = wall + 3600 * (usec_t)1000000;
    clock_gettime(CLOCK_REALTIME, until);
    next = next > wall ? next - wall : 0;
    until->tv_sec += next / 1000000;
    until->tv_nsec += next % 1000000 * 1000;
    if (until->tv_nsec >= 1000000000) {
        until->tv_nsec -= 1000000000;
        until->tv_sec++;
    }
}

static void *write_lines(void *arg)
{
    msec_t again = NEVER;
    struct buf full = BUF_INIT(RING_BYTES);
    const struct timespec gather = {0, GATHER_MS * 1000000L};
    bool last = false, rolls[MAX_SUBSCRIPTIONS];
    uint64_t lost[LOGFILE_KINDS], asked;

    (void)arg;
    while (!last) {
        struct timespec until;
        struct buf swap;
        int rc = 0;

        wake_at(again, &until);
        again = NEVER;
        pthread_mutex_lock(&lock);
        while (!filling.n && !stopping && subs_version == wanted_version &&
               batches_asked == batches_done && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&more, &lock, &until);
        if (subs_version != wanted_version)
            take_subscriptions();
        last = stopping;
        asked = batches_asked;
        swap = full;
        full = filling;
        filling = swap;
        memcpy(lost, ring_lost, sizeof(lost));
        memset(ring_lost, 0, sizeof(ring_lost));
        overflow_told = false;
        memcpy(rolls, roll_wanted, sizeof(rolls));
        memset(roll_wanted, 0, sizeof(roll_wanted));
        pthread_mutex_unlock(&lock);

        for (size_t i = 0; i < nsubs; i++)
            tell_lost(&subs[i], lost[subs[i].set.kind]);
        distribute(&full);
        buf_reset(&full);
        for (size_t i = 0; i < nsubs; i++) {
            msec_t push_again = push_lines(&subs[i]);

            if (push_again < again)
                again = push_again;
            subs[i].used |= subs[i].lines > 0;
            if (subs[i].batch.n || subs[i].fd < 0)
                write_batch(&subs[i]);
            if (rolls[i] || subs[i].size >= subs[i].set.max_bytes ||
                (subs[i].used && subs[i].roll_next && clock_wall() >= subs[i].roll_next))
                roll_over(&subs[i]);
        }

        pthread_mutex_lock(&lock);
        batches_done = asked;
        pthread_cond_broadcast(&written);
        pthread_mutex_unlock(&lock);
        if (!last)
            nanosleep(&gather, NULL);
    }
    for (size_t i = 0; i < nsubs; i++) {
        close_current(&subs[i]);
        buf_free(&subs[i].batch);
        logpush_free(&subs[i].push);
    }
    nsubs = 0;
    buf_free(&full);
    return NULL;
}

/* Under lock: what producers may skip. */
static void publish_levels(void)
{
    int level[LOGFILE_KINDS];

    for (size_t k = 0; k < LOGFILE_KINDS; k++)
        level[k] = -1;
    for (size_t i = 0; i < nwanted; i++)
        if ((int)wanted[i].level > level[wanted[i].kind])
            level[wanted[i].kind] = (int)wanted[i].level;
    for (size_t k = 0; k < LOGFILE_KINDS; k++)
        atomic_store(&kind_level[k], level[k]);
    if (level[LOGFILE_SYSTEM] >= 0)
        log_set_level((enum log_level)level[LOGFILE_SYSTEM]);
}

static void to_system_logs(enum log_level level, const char *text)
{
    logfile_write(LOGFILE_SYSTEM, level, text);
}

bool logfile_start(const char *dir, const char *serial, struct err *err)
{
    static const struct logfile_subscription factory[] = {
        {.name = "mail_logs", LOGFILE_MAIL, LOG_INFO, 10u << 20, 10},
        {.name = "system_logs", LOGFILE_SYSTEM, LOG_INFO, 10u << 20, 10},
        {.name = "cli_logs", LOGFILE_CLI, LOG_INFO, 10u << 20, 10},
    };
    int rc;

    if (strlen(dir) > 255)
        return err_set(err, E_INVALID, "the path of the log directory is too long: %s", dir);
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return err_errno(err, errno, "creating %s", dir);
    if (access(dir, W_OK | X_OK) != 0)
        return err_errno(err, errno, "writing logs in %s", dir);
    free(log_dir);
    free(log_serial);
    log_dir = xstrdup(dir);
    log_serial = xstrdup(serial);
    filling = (struct buf)BUF_INIT(RING_BYTES);
    stopping = false;
    subs_version = wanted_version;
    logfile_configure(factory, countof(factory));
    rc = pthread_create(&thread, NULL, write_lines, NULL);
    if (rc)
        return err_errno(err, rc, "starting the thread that writes logs");
    pthread_mutex_lock(&lock);
    running = true;
    pthread_mutex_unlock(&lock);
    log_set_sink(to_system_logs);
    return true;
}

void logfile_stop(void)
{
    pthread_mutex_lock(&lock);
    if (!running) {
        pthread_mutex_unlock(&lock);
        return;
    }
    stopping = true;
    running = false;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    log_set_sink(NULL);
    pthread_join(thread, NULL);
    buf_free(&filling);
}

void logfile_configure(const struct logfile_subscription *list, size_t n)
{
    pthread_mutex_lock(&lock);
    nwanted = 0;
    for (size_t i = 0; i < n && i < MAX_SUBSCRIPTIONS; i++)
        if ((unsigned)list[i].kind < LOGFILE_KINDS)
            wanted[nwanted++] = list[i];
    memset(roll_wanted, 0, sizeof(roll_wanted));
    wanted_version++;
    publish_levels();
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
}

void logfile_set_level(const char *name, enum log_level level)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < nwanted; i++)
        if (str_eq(wanted[i].name, name))
            wanted[i].level = level;
    wanted_version++;
    publish_levels();
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
}

bool logfile_wants(enum logfile kind, enum log_level level)
{
    return (int)level <= atomic_load_explicit(&kind_level[kind], memory_order_relaxed);
}

void logfile_write(enum logfile kind, enum log_level level, const char *text)
{
    struct record r;
    size_t n;
    bool was_empty, first = false;

    if (!logfile_wants(kind, level))
        return;
    n = strnlen(text, LINE_MAX_BYTES);
    r = (struct record){clock_wall(), (unsigned short)n, (unsigned char)kind, (unsigned char)level};
    pthread_mutex_lock(&lock);
    was_empty = filling.n == 0;
    if (!running || sizeof(r) + n > RING_BYTES - filling.n) {
        ring_lost[kind]++;
        first = running && !overflow_told;
        overflow_told = overflow_told || first;
        atomic_fetch_add(&lost_total, 1);
    } else {
        buf_add(&filling, &r, sizeof(r));
        buf_add(&filling, text, n);
    }
    pthread_mutex_unlock(&lock);
    if (was_empty)
        pthread_cond_signal(&more);
    if (first) /* not later: the thread may be hanging in a write */
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "log lost",
                    "Lines of the logs are lost: their disk is too slow or does not answer. Mail goes on.");
}

bool logfile_flush(void)
{
    struct timespec until;
    uint64_t mine;
    bool ok = true;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_mutex_lock(&lock);
    mine = ++batches_asked;
    pthread_cond_signal(&more);
    while (running && batches_done < mine && ok)
        ok = pthread_cond_timedwait(&written, &lock, &until) == 0;
    ok = batches_done >= mine;
    pthread_mutex_unlock(&lock);
    return ok;
}

bool logfile_rollover(const char *name, struct err *err)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < nwanted; i++) {
        if (!name || str_eq(wanted[i].name, name)) {
            roll_wanted[i] = true;
            found = true;
        }
    }
    batches_asked++;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    return found || err_set(err, E_NOT_FOUND, "There is no log named %s", str_printable(name));
}

bool logfile_path(const char *name, char *out, size_t size)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < nwanted && !found; i++) {
        if (str_eq(wanted[i].name, name)) {
            current_path(&wanted[i], out, size);
            found = true;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

uint64_t logfile_lost(void)
{
    return atomic_load(&lost_total);
}
