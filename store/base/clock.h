/* clock.h - time. Deadlines are points on the monotonic clock in milliseconds; dates are UNIX time in
 * microseconds. Unit tests set a virtual clock and move it by hand. Any thread. */
#ifndef POSTERN_CLOCK_H
#define POSTERN_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t msec_t; /* monotonic (CLOCK_BOOTTIME) milliseconds; a deadline or a duration */
typedef int64_t usec_t; /* microseconds since 1970 UTC */

#define NEVER ((msec_t)INT64_MAX)
#define SECONDS(n) ((msec_t)(n)*1000)
#define MINUTES(n) SECONDS((n)*60)

msec_t clock_now(void);
usec_t clock_wall(void);

/* At random from 0 to duration, so that what began together does not come back together. */
int64_t clock_part(int64_t duration);
msec_t clock_in(msec_t duration); /* clock_now() + duration, NEVER stays NEVER */

void clock_set_virtual(msec_t now, usec_t wall); /* for tests: time stands still until clock_advance */
void clock_advance(msec_t by);
void clock_set_real(void);
bool clock_is_virtual(void);

/* Formats; buf has room for 40 bytes. All return buf. */
char *clock_log_date(usec_t t, char *buf);     /* "Tue Feb  5 13:20:03 2019", local time */
char *clock_commit_date(usec_t t, char *buf);  /* "Fri May 23 11:42:12 2014 GMT", local time and zone */
char *clock_rfc5322(usec_t t, char *buf);      /* "Tue, 05 Feb 2019 13:20:03 +0000", local time */
char *clock_rfc3339(usec_t t, char *buf);      /* "2026-11-21T14:02:11Z", UTC */
char *clock_duration(int64_t seconds, char *buf); /* "22h 45m 29s", "12d 6h 37m 28s" */

#endif
