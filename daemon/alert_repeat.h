/* alert_repeat.h - when something that keeps happening is said again: at once the first time, then
 * after waits that grow. Counted from the first time, the n-th wait ends at initial + 2 x the end
 * before it; beyond the maximum at multiples of that. What happens during a wait is counted and
 * summed up at its end. Pure; the caller has the lock and the time. */
#ifndef POSTERN_ALERT_REPEAT_H
#define POSTERN_ALERT_REPEAT_H

#include <stdbool.h>

#include "store/base/clock.h"

struct repeat_pace {
    uint64_t initial, maximum; /* seconds; initial 0: everything is said at once */
};
struct repeat {
    bool begun;
    msec_t begin; /* when it was said first */
    uint64_t wait; /* the end of the wait in progress, in seconds from begin */
    unsigned held; /* how often it happened during the wait */
    usec_t first, latest; /* ... the first and the last time */
};

enum repeat_verdict {
    REPEAT_COUNTED, /* say nothing now */
    REPEAT_FIRST, /* say it: it is new, or so long ago that it is new again */
    REPEAT_AGAIN, /* say it: it goes on */
};
/* It happened. */
enum repeat_verdict repeat_happened(struct repeat *r, const struct repeat_pace *pace, msec_t now,
                                    usec_t wall);
/* When repeat_summary has something to say; NEVER: nothing was counted. */
msec_t repeat_due(const struct repeat *r);
/* true: the wait is over, what was counted is to be said now. *held, *first, *latest are of the
 * wait that ended. */
bool repeat_summary(struct repeat *r, const struct repeat_pace *pace, msec_t now,
                    struct repeat *ended);
/* Nothing happened in the last wait and for the longest one after it: the next time is a first
 * time. */
bool repeat_over(const struct repeat *r, const struct repeat_pace *pace, msec_t now);

/* As it was when it had been said at begin for the first and at said for the last time. */
void repeat_resume(struct repeat *r, const struct repeat_pace *pace, msec_t begin, msec_t said);

#endif
