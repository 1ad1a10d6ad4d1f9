/* queue_clock.c - see queue_clock.h.
 *
 * A jump moves what came before it, by number and by date: a message from after the date was
 * received under a clock that was right already, for example when a machine begins with the year
 * 2000 until it is told the time. */
#include "daemon/queue_clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void insert(struct clock_jumps *j, const struct clock_jump *jump)
{
    unsigned at = j->n;

    while (at && j->of[at - 1].number > jump->number)
        at--;
    if (j->n == CLOCK_JUMPS) {
        if (!at)
            return; /* it is the oldest */
        j->n--;
        at--;
        memmove(j->of, j->of + 1, j->n * sizeof(j->of[0]));
    }
    memmove(j->of + at + 1, j->of + at, (j->n - at) * sizeof(j->of[0]));
    j->of[at] = *jump;
    j->n++;
}

void clock_jumps_add(struct clock_jumps *j, uint64_t mid, usec_t wall, usec_t by)
{
    unsigned number = j->n ? j->of[j->n - 1].number + 1 : 1;

    insert(j, &(struct clock_jump){number, mid, wall, by});
}

usec_t clock_jumps_apply(const struct clock_jumps *j, uint64_t mid, usec_t when)
{
    for (unsigned i = 0; i < j->n; i++)
        if (mid <= j->of[i].mid && when <= j->of[i].wall)
            when += j->of[i].by;
    return when;
}

void clock_jumps_forget(struct clock_jumps *j, uint64_t oldest)
{
    unsigned gone = 0;

    while (gone < j->n && j->of[gone].mid < oldest)
        gone++;
    memmove(j->of, j->of + gone, (j->n - gone) * sizeof(j->of[0]));
    j->n -= gone;
}

void clock_jump_row(const struct clock_jumps *j, unsigned i, char name[CLOCK_ROW_SIZE])
{
    snprintf(name, CLOCK_ROW_SIZE, CLOCK_ROW "%u/%" PRIu64 "/%" PRId64, j->of[i].number, j->of[i].mid, j->of[i].wall);
}

bool clock_jumps_read(struct clock_jumps *j, const char *name, usec_t by)
{
    struct clock_jump jump = {.by = by};
    char rest;

    if (sscanf(name, CLOCK_ROW "%u/%" SCNu64 "/%" SCNd64 "%c", &jump.number, &jump.mid, &jump.wall, &rest) != 3)
        return false;
    insert(j, &jump);
    return true;
}
