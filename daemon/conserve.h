/* conserve.h - resource conservation: when what a gateway lives on becomes scarce, its senders are
 * slowed down, and then refused for the time being. Pure arithmetic with hysteresis; resources.c
 * has the figures and the lock. */
#ifndef POSTERN_CONSERVE_H
#define POSTERN_CONSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/clock.h"

enum scarce {
    SCARCE_MESSAGES,
    SCARCE_QUEUE,
    SCARCE_DISK,
    SCARCE_MEMORY,
    SCARCE_DESCRIPTORS,
    SCARCE_KINDS
};
enum conserve_mode { CONSERVE_NOT, CONSERVE_SLOW, CONSERVE_REFUSE };

struct conserve {
    unsigned slow_at, resume_at; /* per cent of a limit; slow_at 100: never slow */
    struct {
        uint64_t used, limit; /* limit 0: none */
        enum conserve_mode mode;
    } of[SCARCE_KINDS];
};

/* Takes a new figure: true when the mode of this kind is another now. What refuses goes on until
 * less than resume_at per cent are used, what slows until 5 per cent below slow_at. */
bool conserve_set(struct conserve *c, enum scarce kind, uint64_t used, uint64_t limit);

/* Free space, of which least must stay: as a share used. */
bool conserve_set_free(struct conserve *c, enum scarce kind, uint64_t free_now, uint64_t least);

/* 0: everything is accepted. 1 to 60: how much is slowed down. 999: refused. As AsyncOS counts. */
#define CONSERVE_STOP 999u
unsigned conserve_degree(const struct conserve *c);
msec_t conserve_delay(unsigned degree); /* of each message; 50 ms for each degree */

/* The kind that decides; -1: none does. */
int conserve_worst(const struct conserve *c);

#endif
