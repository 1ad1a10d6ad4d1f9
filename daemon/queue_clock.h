/* queue_clock.h - how often, and by how much, the wall clock was set while messages were queued. Rows say when a message
 * came by the clock of that moment; with this it is said by the clock as it goes now, so that nothing is given up too
 * early or kept too long because a clock was mended, over restarts too. Pure; queue.c has the lock and the rows. */
#ifndef POSTERN_QUEUE_CLOCK_H
#define POSTERN_QUEUE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/clock.h"

#define CLOCK_JUMP_LEAST ((usec_t)60 * 1000000) /* less is a correction that changes nothing */
#define CLOCK_JUMPS 32u /* remembered; of more the oldest is forgotten */
#define CLOCK_ROW "clock/" /* the names of their rows in the table "value" begin so */
#define CLOCK_ROW_SIZE 60u

struct clock_jumps {
    unsigned n;
    struct clock_jump { /* in the order in which they came */
        unsigned number;
        uint64_t mid; /* the last one given out before */
        usec_t wall, by; /* what the clock showed before; what was added */
    } of[CLOCK_JUMPS];
};

void clock_jumps_add(struct clock_jumps *j, uint64_t mid, usec_t wall, usec_t by);
usec_t clock_jumps_apply(const struct clock_jumps *j, uint64_t mid, usec_t when); /* when, as of now */
void clock_jumps_forget(struct clock_jumps *j, uint64_t oldest); /* no message below this MID is left */

void clock_jump_row(const struct clock_jumps *j, unsigned i, char name[CLOCK_ROW_SIZE]); /* its value: .by */
bool clock_jumps_read(struct clock_jumps *j, const char *name, usec_t by); /* rows in any order; false: not one of them */

#endif
