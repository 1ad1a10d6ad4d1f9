/* schedule.c - see schedule.h. */
#include "daemon/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/queue.h"
#include "store/base/str.h"

#define ROOM_AT_ONCE 16u /* idle sessions that are sent home for others and not yet gone */
#define ENOUGH_READY 128u /* messages in memory for a destination: no more are read ahead */
#define FIRST_WINDOW 2u /* sessions of a destination that has not shown yet that it takes mail */
#define QUICK_WINDOW 8u /* so far each success brings one more; then only when more of them help */
#define STILL_WELL SECONDS(10) /* a failure so soon after a success, with others connected, says
                                  "fewer", not "down" */
#define LOOK_AFTER SECONDS(30) /* what is due for so long (or for as long as until the next probe) for a
                                  destination that is down is looked at */
#define LOOKS_A_SWEEP 100u /* ... so many of one destination a second */
#define OVERS_AT_ONCE 8u /* destinations with their share that are asked again in one go */

void schedule_init(struct schedule *s, unsigned max_sessions)
{
    memset(s, 0, sizeof(*s));
    list_init(&s->line);
    list_init(&s->strange);
    list_init(&s->over);
    list_init(&s->idle);
    list_init(&s->ages);
    s->max_sessions = max_sessions;
}

static void dest_free(struct dest *d)
{
    free(d->key);
    free(d->down_error);
    free(d);
}

void schedule_free(struct schedule *s)
{
    const char *key;
    size_t pos = 0;
    void *d;

    for (size_t i = 0; i < s->index_cap; i++)
        if (s->index[i]) {
            message_free(&s->index[i]->m);
            free(s->index[i]);
        }
    while (map_next(&s->dests, &pos, &key, &d))
        dest_free(d);
    map_free(&s->dests);
    free(s->index);
    free(s->heap);
    memset(s, 0, sizeof(*s));
}

/* --- destinations --- */

struct dest *schedule_find_dest(const struct schedule *s, const char *key)
{
    return map_get(&s->dests, key);
}

struct dest *schedule_dest(struct schedule *s, const char *key)
{
    struct dest *d = map_get(&s->dests, key);

    if (d)
        return d;
    d = xcalloc(1, sizeof(*d));
    d->key = xstrdup(key);
    list_init(&d->ready);
    list_init(&d->cold);
    list_init(&d->idle);
    list_init(&d->line);
    d->limits.sessions = 1;
    d->window = FIRST_WINDOW;
    d->calm = UINT32_MAX;
    map_set(&s->dests, key, d);
    return d;
}

static bool dest_unused(const struct dest *d)
{
    return !d->nready && !d->ncold && !d->ndeferred && !d->nbusy && !d->sessions;
}

/* A destination is forgotten with its last item, unless it is known to be down. */
static void dest_release(struct schedule *s, struct dest *d)
{
    if (!dest_unused(d) || d->failures || d->rate_used)
        return;
    list_remove(&d->line);
    map_remove(&s->dests, d->key);
    dest_free(d);
}

static bool rate_allows(const struct dest *d, unsigned rcpts, msec_t now)
{
    if (!d->limits.rcpts)
        return true;
    if (now >= d->rate_until)
        return true;
    return d->rate_used + rcpts <= d->limits.rcpts || !d->rate_used;
}

static void sweep_soon(struct schedule *s, msec_t now)
{
    if (s->sweep_at > now + SECONDS(1))
        s->sweep_at = now + SECONDS(1);
}

static void rate_count(struct schedule *s, struct dest *d, unsigned rcpts, msec_t now)
{
    if (!d->limits.rcpts) {
        d->rate_used = 0;
        return;
    }
    if (now >= d->rate_until) {
        d->rate_used = 0;
        d->rate_until = now + MINUTES(d->limits.rcpt_minutes ? d->limits.rcpt_minutes : 60);
    }
    d->rate_used += rcpts;
    sweep_soon(s, now);
}

static struct item *first_ready(const struct dest *d)
{
    return list_item(d->ready.next, struct item, node);
}

/* The item that would be taken now; NULL: none. Of a destination that is held only what has waited
 * long, so that it is not forgotten past its time; or one, when a probe is due. */
static struct item *may_take(const struct dest *d, msec_t now)
{
    struct item *i = d->nready ? first_ready(d) : NULL;

    if (i && d->held && now < d->down_until && (!d->looks || i->due + d->look_after > now))
        return NULL;
    return i;
}

static bool wants_session(const struct schedule *s, const struct dest *d, msec_t now)
{
    unsigned limit = d->limits.sessions < d->window ? d->limits.sessions : d->window;
    const struct item *i = may_take(d, now);

    /* As many sessions as items and no more: those that are being opened count for one each. */
    return !s->suspended && i && now >= d->full_until && d->sessions < (d->held ? 1 : limit) &&
           d->sessions < d->nready + d->nbusy && rate_allows(d, i->rcpts, now);
}

static uint32_t left_of(uint32_t all, uint32_t taken)
{
    return taken < all ? all - taken : 0;
}

/* Sessions for those of which no host has answered yet: a quarter of all is for the others. */
static uint32_t strange_room(const struct schedule *s)
{
    return left_of(s->max_sessions - s->max_sessions / 4, s->strange_sessions);
}

static uint32_t room_for(const struct schedule *s, const struct dest *d)
{
    uint32_t room = left_of(s->max_sessions, s->sessions), strange = strange_room(s);

    return d->proven || room < strange ? room : strange;
}

/* However slow they are, destinations leave sessions for others: none has more than are free. */
static bool has_share(const struct schedule *s, const struct dest *d)
{
    return d->sessions && d->sessions >= room_for(s, d);
}

/* Where d waits for its session. */
static struct list *line_of(struct schedule *s, const struct dest *d)
{
    return has_share(s, d) ? &s->over : d->proven ? &s->line : &s->strange;
}

/* Puts d into its line, or takes it out. */
static void line_up(struct schedule *s, struct dest *d, msec_t now)
{
    if (!wants_session(s, d, now))
        list_remove(&d->line);
    else if (list_empty(&d->line))
        list_add_tail(line_of(s, d), &d->line);
}

static void set_proven(struct schedule *s, struct dest *d, bool proven, msec_t now)
{
    if (d->proven == proven)
        return;
    d->proven = proven;
    s->strange_sessions += proven ? -d->sessions : d->sessions;
    list_remove(&d->line);
    line_up(s, d, now);
}

/* The first in a line that may have a session; looks at no more than max. */
static struct dest *first_of(struct schedule *s, struct list *line, unsigned max, msec_t now)
{
    struct dest *d;

    while (max-- && !list_empty(line)) {
        d = list_item(line->next, struct dest, line);
        list_remove(&d->line);
        if (!wants_session(s, d, now))
            continue;
        if (d->sessions < room_for(s, d))
            return d;
        if (!d->sessions && line == &s->strange) { /* no room: nobody behind it fares better */
            list_add_head(line, &d->line);
            return NULL;
        }
        list_add_tail(line_of(s, d), &d->line);
    }
    return NULL;
}

static struct dest *next_in_line(struct schedule *s, msec_t now)
{
    struct dest *d;

    s->strange_first = !s->strange_first;
    d = first_of(s, s->strange_first ? &s->strange : &s->line, UINT32_MAX, now);
    if (!d)
        d = first_of(s, s->strange_first ? &s->line : &s->strange, UINT32_MAX, now);
    return d ? d : first_of(s, &s->over, OVERS_AT_ONCE, now);
}

static void send_home(struct idle *i)
{
    list_remove(&i->node);
    list_remove(&i->among);
    i->wake(i);
}

static uint32_t waiting_in(const struct schedule *s, const struct list *line, msec_t now)
{
    uint32_t n = 0;

    for (const struct list *at = line->next; at != line && n < ROOM_AT_ONCE; at = at->next) {
        const struct dest *d = list_item(at, struct dest, line);

        n += wants_session(s, d, now) && !has_share(s, d);
    }
    return n;
}

/* Sessions without work keep no destination from getting one: as many as wait in line are sent
 * home, the longest idle first, a few at a time. */
static void make_room(struct schedule *s, msec_t now)
{
    uint32_t wanted = waiting_in(s, &s->line, now);

    if (strange_room(s))
        wanted += waiting_in(s, &s->strange, now);
    for (; s->leaving < wanted && !list_empty(&s->idle); s->leaving++)
        send_home(list_item(s->idle.next, struct idle, among));
}

struct dest *schedule_open(struct schedule *s, msec_t now)
{
    struct dest *d;

    if (s->suspended)
        return NULL;
    if (s->sessions >= s->max_sessions) {
        make_room(s, now);
        return NULL;
    }
    d = next_in_line(s, now);
    if (!d)
        return NULL;
    d->sessions++;
    s->sessions++;
    s->strange_sessions += !d->proven;
    line_up(s, d, now);
    return d;
}

bool schedule_lines(const struct schedule *s)
{
    return !list_empty(&s->line) || (!list_empty(&s->strange) && strange_room(s));
}

void schedule_close(struct schedule *s, struct dest *d, msec_t now)
{
    d->sessions--;
    s->sessions--;
    s->strange_sessions -= !d->proven;
    if (s->leaving)
        s->leaving--; /* whoever it was: there is room for one */
    if (!d->sessions)
        d->window = d->failures ? 1 : FIRST_WINDOW;
    line_up(s, d, now);
    dest_release(s, d);
}

/* --- destinations that are down --- */

static void sleep_or_wake(struct schedule *s, struct dest *d, bool asleep)
{
    if (d->asleep == asleep)
        return;
    d->asleep = asleep;
    s->nasleep += asleep ? d->ncold : -(uint64_t)d->ncold;
}

static void is_well(struct schedule *s, struct dest *d)
{
    d->failures = 0;
    d->down_until = d->down_since = 0;
    d->held = d->told = false;
    sleep_or_wake(s, d, false);
}

bool schedule_worked(struct schedule *s, struct dest *d, bool waited, msec_t now)
{
    bool told = d->told;

    is_well(s, d);
    d->worked_at = now ? now : 1;
    set_proven(s, d, true, now);
    if (d->window < QUICK_WINDOW) {
        d->window++;
        line_up(s, d, now);
    } else if (waited && d->nready && d->window < d->limits.sessions &&
               (d->window < d->calm || ++d->credit >= d->window)) {
        d->window++;
        d->credit = 0;
        line_up(s, d, now);
    }
    return told;
}

bool schedule_reached(struct schedule *s, struct dest *d, msec_t now)
{
    if (d->proven || d->failures)
        return false;
    set_proven(s, d, true, now);
    return true;
}

msec_t schedule_retry(uint32_t failures, msec_t first, msec_t most)
{
    for (uint32_t k = 1; k < failures && first < most; k++)
        first *= 2;
    return first < most ? first : most;
}

static void set_down(struct schedule *s, struct dest *d, bool hold, msec_t until, const char *text,
                     msec_t now)
{
    if (until > d->down_until || hold != d->held)
        d->down_until = until;
    d->held = hold;
    if (!d->down_since)
        d->down_since = now ? now : 1;
    if (text != d->down_error) {
        free(d->down_error);
        d->down_error = xstrdup(text);
    }
    d->look_after = (uint32_t)(until - now < LOOK_AFTER ? until - now : LOOK_AFTER);
    d->looks = 0;
    sleep_or_wake(s, d, hold && until > now);
    sweep_soon(s, now);
    set_proven(s, d, false, now);
    line_up(s, d, now);
}

bool schedule_failed(struct schedule *s, struct dest *d, bool hold, msec_t until, const char *text,
                     msec_t now)
{
    bool told = d->told;

    d->credit = 0;
    d->window = d->window > 2 ? d->window / 2 : 1;
    d->calm = d->window;
    if (d->sessions > 1 && d->worked_at && now - d->worked_at < STILL_WELL)
        return false;
    if (schedule_holds(d, now)) /* it began before the one that has told already */
        return false;
    d->failures++;
    if (hold)
        d->window = 1;
    d->told = true;
    set_down(s, d, hold, until, text, now);
    return !told;
}

void schedule_hold(struct schedule *s, struct dest *d, msec_t until, const char *text, msec_t now)
{
    if (!d->failures)
        d->failures = 1;
    d->window = 1;
    set_down(s, d, true, until, text, now);
}

static void probe_now(struct schedule *s, struct dest *d, msec_t now)
{
    if (!d->failures)
        return;
    d->down_until = 0;
    sleep_or_wake(s, d, false);
    line_up(s, d, now);
}

void schedule_probe(struct schedule *s, struct dest *d, msec_t now)
{
    const char *key;
    size_t pos = 0;
    void *value;

    if (d)
        probe_now(s, d, now);
    while (!d && map_next(&s->dests, &pos, &key, &value))
        probe_now(s, value, now);
}

bool schedule_holds(const struct dest *d, msec_t now)
{
    return d->held && now < d->down_until;
}

/* --- the heap of deferred items --- */

static void heap_put(struct schedule *s, size_t at, struct item *i)
{
    s->heap[at] = i;
    i->heap = (uint32_t)at + 1;
}

static void heap_up(struct schedule *s, size_t at)
{
    struct item *i = s->heap[at];

    while (at && s->heap[(at - 1) / 2]->due > i->due) {
        heap_put(s, at, s->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(s, at, i);
}

static void heap_down(struct schedule *s, size_t at)
{
    struct item *i = s->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= s->nheap)
            break;
        if (child + 1 < s->nheap && s->heap[child + 1]->due < s->heap[child]->due)
            child++;
        if (s->heap[child]->due >= i->due)
            break;
        heap_put(s, at, s->heap[child]);
        at = child;
    }
    heap_put(s, at, i);
}

/* Once for each message. */
static bool counts_as_parked(const struct item *i)
{
    return i->due == PARKED && i == i->message->items;
}

static void heap_add(struct schedule *s, struct item *i)
{
    s->nparked += counts_as_parked(i);
    if (s->nheap == s->heap_cap) {
        s->heap_cap = s->heap_cap ? s->heap_cap * 2 : 64;
        s->heap = xrealloc(s->heap, s->heap_cap * sizeof(struct item *));
    }
    s->heap[s->nheap++] = i;
    heap_up(s, s->nheap - 1);
}

static void heap_remove(struct schedule *s, struct item *i)
{
    struct item *last = s->heap[--s->nheap];
    size_t at = i->heap - 1;

    s->nparked -= counts_as_parked(i);
    i->heap = 0;
    if (last == i)
        return;
    heap_put(s, at, last);
    if (at && s->heap[(at - 1) / 2]->due > last->due)
        heap_up(s, at);
    else
        heap_down(s, at);
}

static struct item *heap_pop(struct schedule *s)
{
    struct item *top = s->heap[0];

    heap_remove(s, top);
    return top;
}

/* --- the index by MID --- */

static size_t slot_of(const struct schedule *s, uint64_t mid)
{
    return (mid * 0x9e3779b97f4a7c15u >> 20) & (s->index_cap - 1);
}

static void index_put(struct schedule *s, struct queued *q)
{
    size_t at = slot_of(s, q->mid);

    while (s->index[at])
        at = (at + 1) & (s->index_cap - 1);
    s->index[at] = q;
}

static void index_add(struct schedule *s, struct queued *q)
{
    if (s->nindex * 3 >= s->index_cap * 2) {
        struct queued **old = s->index;
        size_t cap = s->index_cap;

        s->index_cap = cap ? cap * 2 : 256;
        s->index = xcalloc(s->index_cap, sizeof(struct queued *));
        for (size_t i = 0; i < cap; i++)
            if (old[i])
                index_put(s, old[i]);
        free(old);
    }
    index_put(s, q);
    s->nindex++;
}

struct queued *schedule_find(const struct schedule *s, uint64_t mid)
{
    if (!s->index_cap)
        return NULL;
    for (size_t at = slot_of(s, mid); s->index[at]; at = (at + 1) & (s->index_cap - 1))
        if (s->index[at]->mid == mid)
            return s->index[at];
    return NULL;
}

static void index_remove(struct schedule *s, const struct queued *q)
{
    size_t mask = s->index_cap - 1, at = slot_of(s, q->mid), next;

    while (s->index[at] != q)
        at = (at + 1) & mask;
    s->index[at] = NULL;
    s->nindex--;
    /* What was pushed behind by the one that left moves up, so that searches need no marks. */
    for (next = (at + 1) & mask; s->index[next]; next = (next + 1) & mask) {
        size_t home = slot_of(s, s->index[next]->mid);

        if (((next - home) & mask) >= ((next - at) & mask)) {
            s->index[at] = s->index[next];
            s->index[next] = NULL;
            at = next;
        }
    }
}

/* --- items --- */

static void item_state(struct schedule *s, struct item *i, enum item_state state)
{
    struct dest *d = i->dest;

    switch (i->state) {
    case ITEM_DEFERRED:
        d->ndeferred--;
        break;
    case ITEM_COLD:
        d->ncold--;
        s->ncold--;
        s->nasleep -= d->asleep;
        list_remove(&i->node);
        break;
    case ITEM_READY:
        d->nready--;
        list_remove(&i->node);
        break;
    case ITEM_BUSY:
        d->nbusy--;
        break;
    default:
        break;
    }
    i->state = (uint8_t)state;
    switch (state) {
    case ITEM_DEFERRED:
        d->ndeferred++;
        break;
    case ITEM_COLD:
        d->ncold++;
        s->ncold++;
        s->nasleep += d->asleep;
        list_add_tail(&d->cold, &i->node);
        break;
    case ITEM_READY:
        d->nready++;
        list_add_tail(&d->ready, &i->node);
        break;
    case ITEM_BUSY:
        d->nbusy++;
        break;
    default:
        break;
    }
}

/* Ready items go to sessions that wait; what remains asks for new ones. */
static void serve(struct schedule *s, struct dest *d, msec_t now)
{
    while (!list_empty(&d->idle) && d->nready) {
        struct idle *idle = list_item(d->idle.next, struct idle, node);
        struct item *i = schedule_take(s, d, now);

        if (!i)
            break;
        list_remove(&idle->node);
        list_remove(&idle->among);
        idle->item = i;
        idle->wake(idle);
    }
    line_up(s, d, now);
}

static void make_due(struct schedule *s, struct item *i, msec_t now)
{
    item_state(s, i,
               i->message->m && !schedule_holds(i->dest, now) ? ITEM_READY : ITEM_COLD);
    if (i->state == ITEM_READY)
        serve(s, i->dest, now);
}

struct queued *queued_new(uint64_t mid, unsigned nitems)
{
    struct queued *q = xcalloc(1, sizeof(*q) + nitems * sizeof(struct item));

    list_init(&q->age);
    q->mid = mid;
    q->nitems = q->left = (uint16_t)nitems;
    for (unsigned i = 0; i < nitems; i++) {
        list_init(&q->items[i].node);
        q->items[i].message = q;
    }
    return q;
}

void schedule_add(struct schedule *s, struct queued *q, msec_t now)
{
    index_add(s, q);
    list_add_tail(&s->ages, &q->age);
    s->messages++;
    for (unsigned n = 0; n < q->nitems; n++) {
        struct item *i = &q->items[n];

        s->rcpts += i->rcpts;
        if (!i->attempts)
            s->unattempted += i->rcpts;
        if (i->due > now) {
            item_state(s, i, ITEM_DEFERRED);
            heap_add(s, i);
        } else {
            make_due(s, i, now);
        }
    }
}

static bool has_waited(const struct dest *d, const struct list *items, msec_t now)
{
    return !list_empty(items) &&
           list_item(items->next, struct item, node)->due + d->look_after <= now;
}

/* Of a destination that is held: is it time for a probe, or for a look at what has waited long? */
static void wake_up(struct schedule *s, struct dest *d, msec_t now)
{
    d->looks = LOOKS_A_SWEEP;
    sleep_or_wake(s, d, now < d->down_until && !has_waited(d, &d->ready, now) &&
                            !has_waited(d, &d->cold, now));
    serve(s, d, now);
}

/* Once a second is enough for the ends of periods, for destinations that are down and for those nobody
 * asks for any more. */
static msec_t sweep(struct schedule *s, msec_t now)
{
    bool waiting = false;
    const char *key;
    size_t pos = 0;
    void *value;

    while (map_next(&s->dests, &pos, &key, &value)) {
        struct dest *d = value;

        if (d->rate_used && now >= d->rate_until) {
            d->rate_used = 0;
            serve(s, d, now);
        }
        if (d->held)
            wake_up(s, d, now);
        if (d->full_until && now >= d->full_until) {
            d->full_until = 0;
            line_up(s, d, now);
        }
        if (d->failures && now >= d->down_until + MINUTES(60) && dest_unused(d))
            is_well(s, d);
        waiting |= d->rate_used || d->failures || d->full_until;
        dest_release(s, d);
    }
    return waiting ? now + SECONDS(1) : NEVER;
}

msec_t schedule_advance(struct schedule *s, msec_t now)
{
    msec_t next;

    while (s->nheap && s->heap[0]->due <= now)
        make_due(s, heap_pop(s), now);
    if (now >= s->sweep_at)
        s->sweep_at = sweep(s, now);
    next = s->nheap && s->heap[0]->due != PARKED ? s->heap[0]->due : NEVER;
    return next < s->sweep_at ? next : s->sweep_at;
}

struct item *schedule_take(struct schedule *s, struct dest *d, msec_t now)
{
    struct item *i;

    i = s->suspended ? NULL : may_take(d, now);
    if (!i || !rate_allows(d, i->rcpts, now))
        return NULL;
    if (schedule_holds(d, now))
        d->looks--;
    rate_count(s, d, i->rcpts, now);
    item_state(s, i, ITEM_BUSY);
    return i;
}

void schedule_wait(struct schedule *s, struct dest *d, struct idle *i)
{
    i->item = NULL;
    list_add_head(&d->idle, &i->node);
    list_add_tail(&s->idle, &i->among);
}

void schedule_unwait(struct idle *i)
{
    list_remove(&i->node);
    list_remove(&i->among);
}

void schedule_defer(struct schedule *s, struct item *i, unsigned left, msec_t due, msec_t now)
{
    if (!i->attempts)
        s->unattempted -= i->rcpts;
    s->rcpts -= i->rcpts - left;
    i->rcpts = (uint16_t)left;
    i->attempts++;
    i->due = due;
    if (due <= now) {
        make_due(s, i, now);
        return;
    }
    item_state(s, i, ITEM_DEFERRED);
    heap_add(s, i);
}

void schedule_postpone(struct schedule *s, struct item *i, msec_t due, msec_t now)
{
    i->due = i->dest->full_until = due;
    list_remove(&i->dest->line);
    sweep_soon(s, now);
    item_state(s, i, ITEM_DEFERRED);
    heap_add(s, i);
}

bool schedule_done(struct schedule *s, struct item *i)
{
    struct queued *q = i->message;

    if (!i->attempts)
        s->unattempted -= i->rcpts;
    s->rcpts -= i->rcpts;
    item_state(s, i, ITEM_DONE);
    dest_release(s, i->dest);
    i->dest = NULL;
    if (--q->left)
        return false;
    index_remove(s, q);
    list_remove(&q->age);
    s->messages--;
    return true;
}

/* Of a destination that is held: one message for a probe, or those that are to be looked at. */
static bool may_warm(const struct dest *d, const struct item *i, msec_t now)
{
    uint32_t have = d->nready + d->nbusy;

    return now < d->down_until ? have < d->looks && i->due + d->look_after <= now : !have;
}

size_t schedule_cold(struct schedule *s, struct item **out, size_t max, bool short_of_memory,
                     msec_t now)
{
    unsigned enough = short_of_memory ? 1 : ENOUGH_READY;
    size_t n = 0, pos = 0, share = short_of_memory ? 2 : max / 4 + 1;
    const char *key;
    void *value;

    if (s->suspended || s->ncold == s->nasleep)
        return 0;
    /* What a destination leaves of its share is for the next batch, which follows at once. */
    while (n < max && map_next(&s->dests, &pos, &key, &value)) {
        struct dest *d = value;

        for (size_t k = 0; k < share && n < max && d->ncold && !d->asleep && d->nready < enough;
             k++) {
            struct item *i = list_item(d->cold.next, struct item, node);

            if (d->held && !may_warm(d, i, now)) {
                sleep_or_wake(s, d, true); /* the sweep wakes it */
                break;
            }
            item_state(s, i, ITEM_BUSY);
            out[n++] = i;
        }
    }
    return n;
}

void schedule_warm(struct schedule *s, struct item *i, msec_t now)
{
    item_state(s, i, ITEM_READY);
    serve(s, i->dest, now);
}

static size_t make_now(struct schedule *s, struct dest *d, bool parked, size_t *at, size_t max,
                       msec_t now)
{
    size_t n = 0, seen = 0;

    if (*at > s->nheap)
        *at = s->nheap;
    /* From the end: what a removal moves into a place comes from behind it, or from in front and is
     * looked at there. */
    while (*at && n < max && seen++ < max * 16) {
        struct item *i = s->heap[*at - 1];

        if ((d && i->dest != d) || (i->due == PARKED) != parked) {
            --*at;
            continue;
        }
        heap_remove(s, i);
        i->due = now;
        if (!i->dest->held)
            i->dest->down_until = 0;
        make_due(s, i, now);
        n++;
        if (*at > s->nheap)
            *at = s->nheap;
    }
    return n;
}

struct item *schedule_chill(struct schedule *s, struct dest *d, msec_t now)
{
    struct item *i = d->nready ? first_ready(d) : NULL;

    if (!i || !schedule_holds(d, now))
        return NULL;
    item_state(s, i, ITEM_COLD);
    return i;
}

size_t schedule_now(struct schedule *s, struct dest *d, size_t *at, size_t max, msec_t now)
{
    return make_now(s, d, false, at, max, now);
}

size_t schedule_unpark(struct schedule *s, size_t *at, size_t max, msec_t now)
{
    return make_now(s, NULL, true, at, max, now);
}

bool schedule_claim(struct schedule *s, struct item *i)
{
    if (i->state == ITEM_BUSY || i->state == ITEM_DONE)
        return false;
    if (i->state == ITEM_DEFERRED)
        heap_remove(s, i);
    item_state(s, i, ITEM_BUSY);
    return true;
}

void schedule_return(struct schedule *s, struct item *i, unsigned left, msec_t now)
{
    if (!i->attempts)
        s->unattempted -= i->rcpts - left;
    s->rcpts -= i->rcpts - left;
    i->rcpts = (uint16_t)left;
    if (i->due <= now) {
        make_due(s, i, now);
        return;
    }
    item_state(s, i, ITEM_DEFERRED);
    heap_add(s, i);
}

void schedule_move(struct schedule *s, struct item *i, struct dest *to)
{
    struct dest *from = i->dest;

    if (to == from)
        return;
    from->nbusy--;
    i->dest = to;
    to->nbusy++;
    dest_release(s, from);
}

const struct queued *schedule_oldest(const struct schedule *s)
{
    return list_empty(&s->ages) ? NULL : list_item(s->ages.next, struct queued, age);
}

usec_t schedule_oldest_of(const struct schedule *s, const struct dest *d, size_t *at, size_t max,
                          usec_t best)
{
    size_t end = *at + max < s->index_cap ? *at + max : s->index_cap;

    for (; *at < end; ++*at) {
        const struct queued *q = s->index[*at];

        for (unsigned k = 0; q && (!best || q->received < best) && k < q->nitems; k++)
            if (q->items[k].dest == d && q->items[k].state != ITEM_DONE)
                best = q->received;
    }
    if (*at >= s->index_cap)
        *at = SIZE_MAX;
    return best;
}

void schedule_suspend(struct schedule *s, bool on, msec_t now)
{
    const char *key;
    size_t pos = 0;
    void *value;

    s->suspended = on;
    while (map_next(&s->dests, &pos, &key, &value)) {
        struct dest *d = value;

        while (on && !list_empty(&d->idle)) /* they have nothing to wait for */
            send_home(list_item(d->idle.next, struct idle, node));
        if (!on)
            serve(s, d, now);
    }
}
