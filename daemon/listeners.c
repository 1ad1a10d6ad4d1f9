/* listeners.c - see listeners.h. Owns the listening sockets: a struct port lives while the
 * configuration names it and, after that, until every loop has let go of it. reload_listeners binds
 * new ones before the commit is written, so a port in use is an error of the commit, and touches no
 * socket that stays as it is. */
#include "daemon/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/fiber.h"
#include "daemon/limits.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/served.h"
#include "daemon/smtp_server.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"

#define ACCEPT_BATCH 32 /* connections taken before the loop's other work goes on */
#define LOOPS_MAX 8
#define PAUSE SECONDS(1) /* when descriptors have run out */
#define FIRST_RETRY SECONDS(1) /* of ports that somebody else had when we started; then twice as long */
#define RETRY SECONDS(30) /* ... up to this */

struct port;

struct port_watch { /* of one loop */
    struct watch watch;
    struct timer pause;
    struct port *port;
};

struct port {
    int refs; /* the list that names it, and each loop that watches it */
    atomic_int fd; /* -1: not to be had so far, nobody watches it; set once, under lock */
    char why[256]; /* ... for this reason; under lock */
    char *name; /* of the listener */
    struct addr addr;
    unsigned backlog;
    struct limits_listener *limits;
    struct port_watch watches[LOOPS_MAX];
};

struct ports {
    struct port **items;
    size_t n;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ports running; /* under lock */
static atomic_int sessions[LOOPS_MAX];

/* --- ports ----------------------------------------------------------------------------------- */

static void port_free(struct port *p)
{
    if (__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
        return;
    if (p->fd >= 0)
        close(p->fd);
    free(p->name);
    free(p);
}

static struct port *port_ref(struct port *p)
{
    __atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
    return p;
}

static void set_socket(struct port *p, int fd)
{
    int on = 1;

    /* accepted sockets inherit it; conn gathers what belongs together itself */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p->fd = fd;
}

/* fd -1: it is tried again, why says what was wrong. */
static struct port *port_new(const char *name, int fd, const char *why, const struct addr *a,
                             unsigned backlog)
{
    struct port *p = xcalloc(1, sizeof(*p));

    p->refs = 1;
    if (fd >= 0)
        set_socket(p, fd);
    else
        p->fd = fd;
    str_copy(p->why, sizeof(p->why), why);
    p->name = xstrdup(name);
    p->addr = *a;
    p->backlog = backlog;
    p->limits = limits_listener(name);
    return p;
}

static void ports_free(struct ports *list)
{
    for (size_t i = 0; i < list->n; i++)
        port_free(list->items[i]);
    free(list->items);
    list->items = NULL;
    list->n = 0;
}

static bool ports_has(const struct ports *list, const struct port *p)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i] == p)
            return true;
    return false;
}

static struct port *ports_find(const struct ports *list, const struct addr *a)
{
    for (size_t i = 0; i < list->n; i++)
        if (addr_eq(&list->items[i]->addr, a) && list->items[i]->addr.port == a->port)
            return list->items[i];
    return NULL;
}

/* --- connections ----------------------------------------------------------------------------- */

struct newcomer { /* from the loop that accepted to the fiber */
    struct smtp_origin origin;
    unsigned loop;
};

static void session_fiber(void *arg)
{
    struct newcomer n = *(struct newcomer *)arg;

    free(arg);
    smtp_serve(&n.origin);
    atomic_fetch_sub_explicit(&sessions[n.loop], 1, memory_order_relaxed);
}

/* This loop, unless another has clearly less to do: crossing over costs a wake-up. */
static unsigned choose_loop(void)
{
    unsigned own = loop_index(loop_self()), best = own,
             n = loops_count() < LOOPS_MAX ? loops_count() : LOOPS_MAX;

    for (unsigned i = 0; i < n; i++) {
        int there = atomic_load_explicit(&sessions[i], memory_order_relaxed);
        int here = atomic_load_explicit(&sessions[best], memory_order_relaxed);

        if (there + (best == own) < here)
            best = i;
    }
    return best;
}

static void say_421(int fd, const char *why)
{
    char line[128];
    int n = snprintf(line, sizeof(line), "421 #%s\r\n", why);

    (void)!send(fd, line, (size_t)n,
                MSG_DONTWAIT | MSG_NOSIGNAL); /* a courtesy: closing says as much */
    close(fd);
}

static void refuse(int fd, const char *why)
{
    char text[100];

    snprintf(text, sizeof(text), "4.4.5 %s", why);
    maillog_receiving_failed(queue_next_icid(), "Connection limit exceeded");
    say_421(fd, text);
}

static void refuse_scarce(int fd)
{
    maillog_receiving_failed(queue_next_icid(), "Server resources low");
    say_421(fd, "4.3.2 Server resources low - try again later");
}

static bool is_wildcard(const struct addr *a)
{
    static const unsigned char zero[16];

    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

/* A look of our own at what we show (served.h): no session. */
struct own_look {
    int fd;
    char *listener;
};

static void own_look_fiber(void *arg)
{
    struct own_look *o = arg;

    served_answer(o->fd, o->listener); /* YIELDS */
    free(o->listener);
    free(o);
}

static void show_certificate(const struct port *p, int fd)
{
    struct own_look *o = xcalloc(1, sizeof(*o));

    o->fd = fd;
    o->listener = xstrdup(p->name);
    if (fiber_spawn(loop_self(), "certificate look", own_look_fiber, o))
        return;
    close(fd);
    free(o->listener);
    free(o);
}

static void start_session(struct port *p, int fd, const struct sockaddr_storage *peer)
{
    struct access *access = access_running();
    const struct access_table *table = access ? access_table(access, p->name) : NULL;
    const struct listener_setup *setup;
    enum limits_verdict verdict;
    struct newcomer *n;
    struct addr from;

    if (!table) { /* the listener was removed while this connection waited in its queue */
        access_free(&access);
        close(fd);
        return;
    }
    addr_from_sockaddr(&from, peer);
    if (served_is_own(&from)) {
        access_free(&access);
        show_certificate(p, fd);
        return;
    }
    if (!resources_connection(fd)) {
        access_free(&access);
        refuse_scarce(fd);
        return;
    }
    setup = CONFIG_SINGLE(access_config(access), listener_setup);
    verdict = limits_connect(p->limits, (unsigned)setup->max_connections,
                             (unsigned)access_listener(table)->max_connections);
    if (verdict != LIMITS_OK) {
        access_free(&access);
        refuse(fd, verdict == LIMITS_ALL ? "Too many connections to this host."
                                         : "Too many connections to this listener.");
        return;
    }
    n = xcalloc(1, sizeof(*n));
    n->loop = choose_loop();
    n->origin = (struct smtp_origin){
        .fd = fd, .access = access, .table = table, .limits = p->limits, .local = p->addr};
    n->origin.peer = from;
    if (is_wildcard(&p->addr)) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss);

        if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
            addr_from_sockaddr(&n->origin.local, &ss);
    }
    atomic_fetch_add_explicit(&sessions[n->loop], 1, memory_order_relaxed);
    if (!fiber_spawn(loops_get(n->loop), "smtp", session_fiber, n)) {
        atomic_fetch_sub_explicit(&sessions[n->loop], 1, memory_order_relaxed);
        limits_disconnect(p->limits);
        access_free(&access);
        free(n);
        refuse(fd, "Too many connections to this host.");
    }
}

/* A descriptor kept for the day there is no other: with it the senders that wait are told to come again. */
static int spare = -1;
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_spare(void)
{
    pthread_mutex_lock(&spare_lock);
    if (spare < 0)
        spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pthread_mutex_unlock(&spare_lock);
}

static void turn_away(int listening)
{
    int fd;

    pthread_mutex_lock(&spare_lock);
    for (unsigned i = 0; i < ACCEPT_BATCH && spare >= 0; i++) {
        close(spare);
        fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            refuse_scarce(fd);
        spare = open("/dev/null", O_RDONLY | O_CLOEXEC); /* -1: another thread was faster; on_pause_over tries again */
        if (fd < 0)
            break;
    }
    pthread_mutex_unlock(&spare_lock);
}

static void watch_port(struct port_watch *w)
{
    if (!watch_add(&w->watch)) {
        log_warning("listener %s: %s", w->port->name, strerror(errno));
        timer_set(&w->pause, clock_in(PAUSE));
    }
}

static void on_pause_over(struct timer *t)
{
    keep_spare();
    watch_port((struct port_watch *)(void *)((char *)t - offsetof(struct port_watch, pause)));
}

static void on_readable(struct watch *watch, uint32_t events)
{
    struct port_watch *w = (struct port_watch *)(void *)watch; /* its first member */
    struct sockaddr_storage peer;

    (void)events;
    for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
        socklen_t len = sizeof(peer);
        int fd = accept4(watch->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            start_session(w->port, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_critical("listener %s accepts nothing for a second: %s", w->port->name,
                         strerror(errno));
            alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "descriptors",
                        "The gateway cannot accept more connections: %s", strerror(errno));
            turn_away(watch->fd);
            watch_remove(watch);
            timer_set(&w->pause, clock_in(PAUSE));
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } /* else that connection broke while it waited */
    }
}

static void begin_watch(void *arg) /* on its loop */
{
    struct port_watch *w = arg;

    w->watch.fd = w->port->fd;
    w->watch.events = EPOLLIN | EPOLLEXCLUSIVE;
    w->watch.fn = on_readable;
    w->pause.fn = on_pause_over;
    keep_spare();
    watch_port(w);
}

static void end_watch(void *arg)
{
    struct port_watch *w = arg;

    if (w->pause.pos)
        timer_cancel(&w->pause);
    else
        watch_remove(&w->watch);
    port_free(w->port);
}

static void on_every_loop(struct port *p, void (*fn)(void *arg), bool begin)
{
    for (unsigned i = 0; i < loops_count() && i < LOOPS_MAX; i++) {
        if (begin)
            p->watches[i].port = port_ref(p);
        loop_post(loops_get(i), fn, &p->watches[i]);
    }
}

/* --- suspending ------------------------------------------------------------------------------ */

static const char yes, no;
static pthread_mutex_t suspend_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map single; /* name to &yes or &no, for those that differ from all */
static bool all_suspended;
static atomic_bool any_suspended; /* spares the common case the lock */

static void end_idle(void *unused)
{
    (void)unused;
    smtp_end_suspended(false);
}

static void end_all(void *unused)
{
    (void)unused;
    smtp_end_suspended(true);
}

void listeners_abort(void)
{
    for (unsigned i = 0; i < loops_count(); i++)
        loop_post(loops_get(i), end_all, NULL);
}

void listeners_suspend(const char *name, bool suspend)
{
    pthread_mutex_lock(&suspend_lock);
    if (name) {
        map_set(&single, name, (void *)(uintptr_t)(suspend ? &yes : &no));
    } else {
        map_free(&single);
        all_suspended = suspend;
    }
    atomic_store(&any_suspended, all_suspended || single.n);
    pthread_mutex_unlock(&suspend_lock);
    for (unsigned i = 0; suspend && i < loops_count(); i++)
        loop_post(loops_get(i), end_idle, NULL);
}

bool listeners_suspended(const char *name)
{
    const void *own;
    bool suspended;

    if (!atomic_load_explicit(&any_suspended, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&suspend_lock);
    own = name ? map_get(&single, name) : NULL;
    suspended = own ? own == &yes : all_suspended;
    pthread_mutex_unlock(&suspend_lock);
    return suspended;
}

unsigned listeners_connections(void)
{
    return limits_connections(NULL);
}

/* --- reload ---------------------------------------------------------------------------------- */

/* The port for a listener: the one that runs, the same socket under another name, or a new one. lenient: one that is
 * not to be had is made all the same, and waits. */
static struct port *port_for(const struct ports *old, const struct listener *l, bool lenient,
                             struct err *err)
{
    struct port *same;
    struct addr a;
    int fd;

    if (!addr_parse(l->address, &a)) {
        err_set(err, E_INVALID, "%s is not an IP address", l->address);
        return NULL;
    }
    a.port = (unsigned)l->port;
    same = ports_find(old, &a);
    if (same && same->fd >= 0 && str_eq(same->name, l->name) && same->backlog == l->backlog)
        return port_ref(same);
    if (same && same->fd >= 0) {
        fd = dup(same->fd);
        if (fd < 0)
            err_errno(err, errno, "another descriptor for its socket");
    } else {
        fd = supervisor_bind(l->address, a.port, (unsigned)l->backlog, err);
        if (fd < 0 && same && str_eq(same->name, l->name) && same->backlog == l->backlog)
            return port_ref(same); /* no news: what else the commit changes is not held up by it */
        for (size_t i = 0; fd < 0 && i < old->n;
             i++) /* 0.0.0.0:25 and 127.0.0.1:25 exclude each other */
            if (err->code == E_BUSY && old->items[i]->addr.port == a.port && old->items[i]->fd >= 0)
                err_set(err, E_BUSY,
                        "Port %u is held by listener %s until it is freed: move that listener to "
                        "another port, "
                        "commit, and then take this one",
                        a.port, old->items[i]->name);
    }
    if (fd < 0 && !same && !lenient)
        return NULL;
    return port_new(l->name, fd, fd < 0 ? err->text : "", &a, (unsigned)l->backlog);
}

/* --- ports that somebody else has ----------------------------------------------------------- */

static void port_missing(const struct port *p)
{
    char key[100];

    snprintf(key, sizeof(key), "port %s", p->name);
    log_critical("listener %s: %s; it is tried again and again", p->name, p->why);
    alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, key,
                "The listener %s receives no mail: %s. It is tried again every half minute; the other "
                "listeners work.",
                p->name, p->why);
}

/* A reference to the n-th port that waits; NULL: there are no more. */
static struct port *waiting_port(size_t n)
{
    struct port *found = NULL;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < running.n && !found; i++)
        if (running.items[i]->fd < 0 && n-- == 0)
            found = port_ref(running.items[i]);
    pthread_mutex_unlock(&lock);
    return found;
}

/* true: it is ours now. */
static bool try_again(struct port *p)
{
    struct err err = {0};
    char address[ADDR_TEXT];
    int fd = supervisor_bind(addr_text(&p->addr, address), p->addr.port, p->backlog, &err);
    bool wanted;

    pthread_mutex_lock(&lock);
    wanted = ports_has(&running, p);
    if (wanted && fd >= 0) {
        set_socket(p, fd);
        on_every_loop(p, begin_watch, true);
    } else if (wanted) {
        str_copy(p->why, sizeof(p->why), err.text);
    }
    pthread_mutex_unlock(&lock);
    if (!wanted && fd >= 0)
        close(fd); /* a commit came in between */
    if (!wanted || fd < 0)
        return false;
    log_info("listener %s listens now", p->name);
    return true;
}

static void retry_fiber(void *unused)
{
    msec_t pause = FIRST_RETRY;

    (void)unused;
    for (; fiber_sleep(pause); pause = pause * 2 < RETRY ? pause * 2 : RETRY) {
        struct port *p;
        size_t n = 0;

        while ((p = waiting_port(n))) {
            n += !try_again(p);
            port_free(p);
        }
    }
}

bool listeners_missing(const char *name, char *why, size_t size)
{
    bool missing = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < running.n && !missing; i++) {
        missing = running.items[i]->fd < 0 && str_eq(running.items[i]->name, name);
        if (missing)
            str_copy(why, size, running.items[i]->why);
    }
    pthread_mutex_unlock(&lock);
    return missing;
}

static bool strict_start;

void listeners_strict_start(bool on)
{
    strict_start = on;
}

static bool prepare(const struct config *before, const struct config *cfg, void **state,
                    struct err *err)
{
    struct ports *new = xcalloc(1, sizeof(*new)), old;
    size_t n = config_count(cfg, &section_listener);

    /* one commit at a time: what is listed here stays listed until this one is published or
     * discarded */
    pthread_mutex_lock(&lock);
    old = running;
    pthread_mutex_unlock(&lock);
    new->items = xcalloc(n, sizeof(*new->items));
    for (size_t i = 0; i < n; i++) {
        const struct row *row = config_at(cfg, &section_listener, i);
        struct port *p = port_for(&old, row->data, !before && !strict_start, err);

        if (!p) {
            err_wrap(err, "listener %s", row->name);
            ports_free(new);
            free(new);
            return false;
        }
        new->items[new->n++] = p;
    }
    *state = new;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    static bool retrying;
    struct ports *new = state, old;

    (void)cfg;
    pthread_mutex_lock(&lock);
    old = running;
    running = *new;
    pthread_mutex_unlock(&lock);
    free(new);
    for (size_t i = 0; i < old.n; i++)
        if (!ports_has(&running, old.items[i]) && old.items[i]->fd >= 0)
            on_every_loop(old.items[i], end_watch, false);
    for (size_t i = 0; i < running.n; i++) {
        struct port *p = running.items[i];

        if (ports_has(&old, p))
            continue;
        if (p->fd < 0) {
            port_missing(p);
            if (!retrying)
                retrying = fiber_spawn(loops_get(0), "listener ports", retry_fiber, NULL);
            continue;
        }
        if (listen(p->fd, (int)p->backlog) != 0) /* the backlog of a socket taken over may differ */
            log_warning("listener %s: %s", p->name, strerror(errno));
        on_every_loop(p, begin_watch, true);
    }
    ports_free(&old);
}

static void discard(void *state)
{
    ports_free(state);
    free(state);
}

const struct reload_part reload_listeners = {"listeners", prepare, publish, discard};

void listeners_stop(void)
{
    struct ports old;

    pthread_mutex_lock(&lock);
    old = running;
    running = (struct ports){0};
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < old.n; i++)
        if (old.items[i]->fd >= 0)
            on_every_loop(old.items[i], end_watch, false);
    ports_free(&old);
}
