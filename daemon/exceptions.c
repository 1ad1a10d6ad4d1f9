/* exceptions.c - see exceptions.h: what is pure of it. */
#include "daemon/exceptions.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "store/base/str.h"

/* Days since 1970 of a date of the calendar (H. Hinnant, days_from_civil). */
static int day_number(int year, int month, int day)
{
    int y = year - (month <= 2), era = y / 400, of_era = y - era * 400;
    int of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

int exception_days_left(const struct tls_exception *e, usec_t when)
{
    time_t seconds = (time_t)(when / 1000000);
    int year = 0, month = 1, day = 1;
    struct tm tm;

    localtime_r(&seconds, &tm);
    if (sscanf(e->expires, "%4d-%2d-%2d", &year, &month, &day) != 3)
        return -1;
    return day_number(year, month, day) - day_number(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
}

static bool name_matches(const char *name, const char *target)
{
    char lower[256], pattern[256];

    str_copy(lower, sizeof(lower), name);
    str_copy(pattern, sizeof(pattern), target);
    str_lower(lower);
    str_lower(pattern);
    return domain_matches(lower, pattern);
}

static bool address_matches(const struct addr *addr, const char *target)
{
    struct net n;

    return net_parse(target, &n, NULL) && net_has(&n, addr);
}

const struct tls_exception *exception_for(const struct config *cfg, int kind, const char *name,
                                          const struct addr *addr, usec_t when)
{
    size_t n = config_count(cfg, &section_tls_exception);

    for (size_t i = 0; i < n; i++) {
        const struct tls_exception *e = config_at(cfg, &section_tls_exception, i)->data;

        if (e->kind == kind &&
            ((name && *name && name_matches(name, e->target)) ||
             (addr && addr->family && address_matches(addr, e->target))) &&
            exception_days_left(e, when) >= 0)
            return e;
    }
    return NULL;
}

enum tls_modes exception_inbound(const struct config *cfg, enum tls_modes policy,
                                 const struct addr *peer, const char *reverse, usec_t when)
{
    if (!config_count(cfg, &section_tls_exception))
        return policy;
    if (exception_for(cfg, EXCEPTION_TLS, reverse, peer, when))
        return TLS_REQUIRED;
    return exception_for(cfg, EXCEPTION_NO_TLS, reverse, peer, when) ? TLS_OFF : policy;
}

bool exceptions_need_name(const struct config *cfg)
{
    for (size_t i = 0; i < config_count(cfg, &section_tls_exception); i++) {
        const struct tls_exception *e = config_at(cfg, &section_tls_exception, i)->data;
        struct net n;

        if ((e->kind == EXCEPTION_NO_TLS || e->kind == EXCEPTION_TLS) &&
            !net_parse(e->target, &n, NULL))
            return true;
    }
    return false;
}

enum exception_step exception_step(const struct tls_exception *e, usec_t when,
                                   enum exception_step said)
{
    int left = exception_days_left(e, when);
    enum exception_step now = left < 0    ? EXCEPTION_OVER
                              : left <= 1 ? EXCEPTION_DAY
                              : left <= 7 ? EXCEPTION_WEEK
                                          : EXCEPTION_QUIET;

    return now > said ? now : EXCEPTION_QUIET;
}

size_t exceptions_in_force(const struct config *cfg, usec_t when, const struct tls_exception **next)
{
    size_t n = 0;

    *next = NULL;
    for (size_t i = 0; i < config_count(cfg, &section_tls_exception); i++) {
        const struct tls_exception *e = config_at(cfg, &section_tls_exception, i)->data;

        if (exception_days_left(e, when) < 0)
            continue;
        n++;
        if (!*next || strcmp(e->expires, (*next)->expires) < 0)
            *next = e;
    }
    return n;
}
