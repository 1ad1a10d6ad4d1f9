/* conserve.c - see conserve.h. */
#include "daemon/conserve.h"

#define SLOW_BAND 5u /* per cent between the beginning and the end of slowing down */
#define DEGREES 60u

/* Hundredths of a per cent, so that a limit of millions is met to the message. */
static uint64_t share(uint64_t used, uint64_t limit)
{
    if (!limit)
        return 0;
    if (used >= limit)
        return 10000;
    return used > UINT64_MAX / 10000 ? used / (limit / 10000) : used * 10000 / limit;
}

static uint64_t share_of(const struct conserve *c, enum scarce kind)
{
    return share(c->of[kind].used, c->of[kind].limit);
}

bool conserve_set(struct conserve *c, enum scarce kind, uint64_t used, uint64_t limit)
{
    enum conserve_mode was = c->of[kind].mode, mode;
    uint64_t now = share(used, limit), slow = c->slow_at * 100u;
    uint64_t slow_end = slow > SLOW_BAND * 100 ? slow - SLOW_BAND * 100 : 0;

    if (now >= 10000)
        mode = CONSERVE_REFUSE;
    else if (was == CONSERVE_REFUSE && now >= c->resume_at * 100u)
        mode = CONSERVE_REFUSE;
    else if (now >= slow && slow < 10000)
        mode = CONSERVE_SLOW;
    else if (was != CONSERVE_NOT && now >= slow_end && slow < 10000)
        mode = CONSERVE_SLOW;
    else
        mode = CONSERVE_NOT;
    c->of[kind].used = used;
    c->of[kind].limit = limit;
    c->of[kind].mode = mode;
    return mode != was;
}

bool conserve_set_free(struct conserve *c, enum scarce kind, uint64_t free_now, uint64_t least)
{
    return conserve_set(c, kind, least, free_now ? free_now : 1);
}

static unsigned degree_of(const struct conserve *c, enum scarce kind)
{
    uint64_t slow = c->slow_at * 100u, now = share_of(c, kind);

    if (c->of[kind].mode == CONSERVE_REFUSE)
        return CONSERVE_STOP;
    if (c->of[kind].mode == CONSERVE_NOT || slow >= 10000)
        return 0;
    return now <= slow ? 1 : 1 + (unsigned)((now - slow) * (DEGREES - 1) / (10000 - slow));
}

int conserve_worst(const struct conserve *c)
{
    unsigned most = 0;
    int worst = -1;

    for (int k = 0; k < SCARCE_KINDS; k++) {
        unsigned d = degree_of(c, (enum scarce)k);

        if (d > most) {
            most = d;
            worst = k;
        }
    }
    return worst;
}

unsigned conserve_degree(const struct conserve *c)
{
    int worst = conserve_worst(c);

    return worst < 0 ? 0 : degree_of(c, (enum scarce)worst);
}

msec_t conserve_delay(unsigned degree)
{
    return degree == CONSERVE_STOP ? 0 : (msec_t)degree * 50;
}
