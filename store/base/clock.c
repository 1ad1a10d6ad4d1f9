/* clock.c - see clock.h. Names of days and months are ours, so that no locale changes a log line. */
#include "store/base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define DATE_SIZE 40 /* promised in clock.h */

static atomic_bool is_virtual;
static _Atomic msec_t virtual_now;
static _Atomic usec_t virtual_wall;

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

msec_t clock_now(void)
{
    struct timespec ts;

    if (atomic_load_explicit(&is_virtual, memory_order_relaxed))
        return atomic_load(&virtual_now);
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (msec_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

usec_t clock_wall(void)
{
    struct timespec ts;

    if (atomic_load_explicit(&is_virtual, memory_order_relaxed))
        return atomic_load(&virtual_wall);
    clock_gettime(CLOCK_REALTIME, &ts);
    return (usec_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

msec_t clock_in(msec_t duration)
{
    msec_t now = clock_now();

    return duration >= NEVER - now ? NEVER : now + duration;
}

void clock_set_virtual(msec_t now, usec_t wall)
{
    atomic_store(&virtual_now, now);
    atomic_store(&virtual_wall, wall);
    atomic_store(&is_virtual, true);
}

void clock_advance(msec_t by)
{
    atomic_fetch_add(&virtual_now, by);
    atomic_fetch_add(&virtual_wall, by * 1000);
}

void clock_set_real(void)
{
    atomic_store(&is_virtual, false);
}

bool clock_is_virtual(void)
{
    return atomic_load(&is_virtual);
}

/* Seconds since 1970, rounded down also before it. */
static time_t seconds_of(usec_t t)
{
    return (time_t)(t >= 0 ? t / 1000000 : -((-t + 999999) / 1000000));
}

static struct tm local(usec_t t)
{
    time_t s = seconds_of(t);
    struct tm tm = {0};

    localtime_r(&s, &tm);
    return tm;
}

char *clock_log_date(usec_t t, char *buf)
{
    struct tm tm = local(t);

    snprintf(buf, DATE_SIZE, "%s %s %2d %02d:%02d:%02d %d", days[tm.tm_wday], months[tm.tm_mon],
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
    return buf;
}

char *clock_commit_date(usec_t t, char *buf)
{
    struct tm tm = local(t);
    const char *zone = tm.tm_zone && *tm.tm_zone ? tm.tm_zone : "GMT";

    /* AsyncOS calls universal time GMT. */
    if (zone[0] == 'U' && zone[1] == 'T' && zone[2] == 'C' && !zone[3])
        zone = "GMT";
    snprintf(buf, DATE_SIZE, "%s %s %02d %02d:%02d:%02d %d %s", days[tm.tm_wday],
             months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900,
             zone);
    return buf;
}

char *clock_rfc5322(usec_t t, char *buf)
{
    struct tm tm = local(t);
    int off = (int)(tm.tm_gmtoff / 60);
    unsigned mag = (unsigned)abs(off) % 6000;

    snprintf(buf, DATE_SIZE, "%s, %02d %s %d %02d:%02d:%02d %c%02u%02u", days[tm.tm_wday],
             tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec,
             off < 0 ? '-' : '+', mag / 60, mag % 60);
    return buf;
}

char *clock_rfc3339(usec_t t, char *buf)
{
    time_t s = seconds_of(t);
    struct tm tm = {0};

    gmtime_r(&s, &tm);
    snprintf(buf, DATE_SIZE, "%d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return buf;
}

char *clock_duration(int64_t seconds, char *buf)
{
    long long s = seconds < 0 ? 0 : seconds, d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;

    s %= 60;
    if (d)
        snprintf(buf, DATE_SIZE, "%lldd %lldh %lldm %llds", d, h, m, s);
    else if (h)
        snprintf(buf, DATE_SIZE, "%lldh %lldm %llds", h, m, s);
    else if (m)
        snprintf(buf, DATE_SIZE, "%lldm %llds", m, s);
    else
        snprintf(buf, DATE_SIZE, "%llds", s);
    return buf;
}

int64_t clock_part(int64_t duration)
{
    uint32_t r = 0;

    if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
        return duration / 2;
    return (int64_t)((double)r / UINT32_MAX * (double)duration);
}
