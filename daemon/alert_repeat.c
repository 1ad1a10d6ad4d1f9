/* alert_repeat.c - see alert_repeat.h. */
#include "daemon/alert_repeat.h"

static uint64_t next_wait(uint64_t last, const struct repeat_pace *pace)
{
    uint64_t maximum = pace->maximum ? pace->maximum : 1, next = pace->initial + 2 * last;

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
        r->last = r->wait;
        r->wait = next_wait(r->last, pace);
    } while (wait_end(r) <= now);
    r->held = 0;
}

bool repeat_over(const struct repeat *r, msec_t now)
{
    return !r->held && now - wait_end(r) >= SECONDS((msec_t)(r->wait - r->last));
}

bool repeat_happened(struct repeat *r, const struct repeat_pace *pace, msec_t now, usec_t wall)
{
    if (!pace->initial)
        return true;
    if (!r->begun || repeat_over(r, now)) {
        *r = (struct repeat){.begun = true, .begin = now, .wait = next_wait(0, pace)};
        return true;
    }
    if (now >= wait_end(r) && !r->held) {
        go_on(r, pace, now);
        return true;
    }
    if (!r->held++)
        r->first = wall;
    r->latest = wall;
    return false;
}

msec_t repeat_due(const struct repeat *r)
{
    return r->held ? wait_end(r) : NEVER;
}

bool repeat_summary(struct repeat *r, const struct repeat_pace *pace, msec_t now, struct repeat *ended)
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
