/* queue_entry.c - see queue_inside.h: a message as the schedule has it. */
#include "daemon/queue_inside.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/deststats.h"
#include "daemon/message.h"
#include "daemon/route.h"
#include "store/base/str.h"

static uint64_t weight(const struct message *m)
{
    uint64_t n = body_length(m->body);

    return sizeof(*m) + m->arena.used + m->nrcpts * sizeof(struct rcpt) + (n > SPOOL_PIECE ? 0 : n);
}

/* Under the lock. */
void entry_keep(struct queued *e, struct message *m, bool loaded)
{
    e->m = m;
    e->loaded = loaded;
    *(loaded ? &q.loaded : &q.resident) += weight(m);
}

void entry_drop(struct queued *e)
{
    if (!e->m)
        return;
    *(e->loaded ? &q.loaded : &q.resident) -= weight(e->m);
    message_free(&e->m);
    queue_kick_loader();
}

/* Under the lock: no session has the message in hand, and none will soon. */
bool entry_rests(const struct queued *e)
{
    for (unsigned i = 0; i < e->nitems; i++)
        if (e->items[i].state == ITEM_BUSY || e->items[i].state == ITEM_READY)
            return false;
    return true;
}

void entry_item_done(struct queued *e, const struct message *m, bool last)
{
    changes_add(last ? change_gone(m) : change_state(m));
    if (last || entry_rests(e))
        entry_drop(e);
    if (last)
        free(e);
}

/* Under the lock. domain: any that has this key. */
void entry_limits(const struct config *cfg, struct dest *d, const char *domain)
{
    struct controls c;

    route_controls(cfg, domain, &c);
    d->limits = c.limits;
    if (c.per_address) /* the count is per host then; this only bounds the sum */
        d->limits.sessions = c.limits.sessions * 8 > 1000 ? 1000 : c.limits.sessions * 8;
    d->limited = true;
}

struct dest *entry_dest(const struct config *cfg, const char *key, const char *domain)
{
    struct dest *d = schedule_dest(&q.schedule, key);
    struct dest_stats known;

    if (!d->limited) {
        entry_limits(cfg, d, domain);
        d->proven = deststats_get(domain, &known) && known.reach == DEST_UP;
    }
    return d;
}

/* No retry is further away than a day (bounceconfig): beyond two, the clock was set back meanwhile. */
msec_t entry_due(usec_t next_try, msec_t now, usec_t wall)
{
    if (next_try > wall + 2 * 86400 * (usec_t)1000000)
        return now;
    return next_try <= wall ? now : now + (next_try - wall) / 1000 + 1;
}

/* Does the paused work queue keep it? What we say ourselves is no unprocessed mail. Under the lock. */
static bool is_parked(const struct message *m, uint32_t attempts)
{
    return q.park_from && m->mid >= q.park_from && !attempts && !(m->flags & (MSG_ALERT | MSG_BOUNCE));
}

/* Makes the entry of a message: one item for every destination of recipients that are still queued.
 * Gives every recipient its item's number. NULL when none is left. Under the lock. */
struct queued *entry_make(const struct config *cfg, struct message *m, msec_t now,
                                 usec_t wall)
{
    struct group {
        const char *domain; /* of the first recipient; borrowed */
        struct dest *dest;
        unsigned rcpts;
        uint32_t attempts;
        usec_t next_try;
    } first[16], *groups = first;
    unsigned n = 0, cap = countof(first);
    struct queued *e = NULL;
    struct tally tally = {0};
    struct dest_change *change;
    char key[600];

    for (unsigned i = 0; i < m->nrcpts; i++) {
        struct rcpt *r = &m->rcpts[i];
        const char *domain = address_domain(r->address);
        struct dest *dest = NULL;
        unsigned g;

        if (r->state != RCPT_QUEUED)
            continue;
        change = tally_of(&tally, domain);
        change->gauge[DEST_ACTIVE]++;
        change->gauge[DEST_ATTEMPTED] += r->attempts > 0;
        for (g = 0; g < n && !str_eq(groups[g].domain, domain); g++)
            ;
        if (g == n) {
            route_key_via(cfg, m->redirect, domain, key, sizeof(key));
            dest = entry_dest(cfg, key, domain);
            for (g = 0; g < n && groups[g].dest != dest; g++)
                ;
        }
        if (g == n) {
            if (n == cap) {
                struct group *more = xmalloc(2 * cap * sizeof(*more));

                memcpy(more, groups, n * sizeof(*more));
                if (groups != first)
                    free(groups);
                groups = more;
                cap *= 2;
            }
            groups[n++] = (struct group){domain, dest, 0, r->attempts, r->next_try};
        }
        r->item = (uint16_t)g;
        groups[g].rcpts++;
        if (r->next_try < groups[g].next_try)
            groups[g].next_try = r->next_try;
    }
    tally_end(&tally);
    if (n) {
        e = queued_new(m->mid, n);
        e->received = m->received;
        for (unsigned g = 0; g < n; g++) {
            e->items[g].dest = groups[g].dest;
            e->items[g].rcpts =
                (uint16_t)(groups[g].rcpts > UINT16_MAX ? UINT16_MAX : groups[g].rcpts);
            e->items[g].attempts = groups[g].attempts;
            e->items[g].due = is_parked(m, groups[g].attempts) ? PARKED
                                                               : entry_due(groups[g].next_try, now, wall);
        }
    }
    if (groups != first)
        free(groups);
    return e;
}

/* The recipients of an item that was just read: those whose destination has its name, and any that
 * fit none (the configuration has changed since). Under the lock. */
void entry_number(const struct config *cfg, struct message *m, const struct queued *e,
                         unsigned fallback)
{
    char key[600];

    for (unsigned r = 0; r < m->nrcpts; r++) {
        struct rcpt *rc = &m->rcpts[r];
        unsigned i = 0;

        if (rc->state != RCPT_QUEUED)
            continue;
        if (e->nitems > 1) {
            route_key_via(cfg, m->redirect, address_domain(rc->address), key, sizeof(key));
            while (i < e->nitems && (!e->items[i].dest || !str_eq(e->items[i].dest->key, key)))
                i++;
        }
        rc->item = (uint16_t)(i < e->nitems ? i : fallback);
    }
}
