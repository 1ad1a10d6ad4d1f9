/* alert_repeat.c - see alert_repeat.h. */
#include "daemon/alert_repeat.h"

static uint64_t next_wait(uint64_t last, const struct repeat_pace *pace)
{
    uint64_t maximum = pace->maximum ? pace->maximum : 1, next = pace->initial + 2 * last;

    if (!pace->initial) /* it was not 0 when this began, or will not be */
        return last + maximum;
    return next > maximum ? (last / maximum + 1) * maximum : next;
}

static msec_t wait_end(const struct repeat *r)
{
    return r->begin + SECONDS((msec_t)r->wait);
}

/* To the first wait that ends after now: waits in which nothing happened are passed over. */
static void go_on(struct repeat *r, const struct repeat_pace *pace, msec_t now)
{
    do {
        r->wait = next_wait(r->wait, pace);
    } while (wait_end(r) <= now);
    r->held = 0;
}

bool repeat_over(const struct repeat *r, const struct repeat_pace *pace, msec_t now)
{
    return !r->held && now - wait_end(r) >= SECONDS((msec_t)pace->maximum);
}

enum repeat_verdict repeat_happened(struct repeat *r, const struct repeat_pace *pace, msec_t now,
                                    usec_t wall)
{
    if (!r->begun || repeat_over(r, pace, now)) {
        *r = (struct repeat){.begun = true, .begin = now, .wait = next_wait(0, pace)};
        return REPEAT_FIRST;
    }
    if (!pace->initial) {
        *r = (struct repeat){.begun = true, .begin = now};
        return REPEAT_AGAIN;
    }
    if (now >= wait_end(r) && !r->held) {
        go_on(r, pace, now);
        return REPEAT_AGAIN;
    }
    if (!r->held++)
        r->first = wall;
    r->latest = wall;
    return REPEAT_COUNTED;
}

msec_t repeat_due(const struct repeat *r)
{
    return r->held ? wait_end(r) : NEVER;
}

bool repeat_summary(struct repeat *r, const struct repeat_pace *pace, msec_t now,
                    struct repeat *ended)
{
    if (!r->held || now < wait_end(r))
        return false;
    *ended = *r;
    go_on(r, pace, now);
    return true;
}

void repeat_resume(struct repeat *r, const struct repeat_pace *pace, msec_t begin, msec_t said)
{
    *r = (struct repeat){.begun = true, .begin = begin, .wait = next_wait(0, pace)};
    if (wait_end(r) <= said)
        go_on(r, pace, said);
}
