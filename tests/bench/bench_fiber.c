/* bench_fiber.c - what the runtime costs: switches, spawns, posts, stacks, idle sessions, lines.
 *
 * Prints a table; --short takes a tenth of the time; "bench_fiber ping [tls|clear] [GROUP]" is the
 * exchange of lines alone, for strace or perf. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/fiber_switch.h"
#include "daemon/loop.h"
#include "daemon/tls.h"
#include "store/base/str.h"
#include "tests/unit/certs.h"

/* The switch of the C library beside that of the machine, under names of its own. */
#ifndef POSTERN_UCONTEXT
#undef POSTERN_FIBER_SWITCH_H
#define POSTERN_UCONTEXT
#define context uc_context
#define context_make uc_context_make
#define context_switch uc_context_switch
#include "daemon/fiber_ucontext.c"
#undef context
#undef context_make
#undef context_switch
#define HAVE_BOTH 1
#endif

static struct tls_context *server_ctx, *client_ctx;
static int scale = 10; /* 1: --short */

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void row(const char *what, double value, const char *unit)
{
    printf("  %-58s %12.1f %s\n", what, value, unit);
    fflush(stdout);
}

static void run(void)
{
    struct loop *l = loop_self();

    while (fiber_count() > 0)
        loop_turn(l, NEVER);
}

/* ---- switches ---- */

static struct context side[2];

static void pong(void *arg)
{
    (void)arg;
    for (;;)
        context_switch(&side[1], &side[0]);
}

#ifdef HAVE_BOTH
static struct uc_context uc_side[2];

static void uc_pong(void *arg)
{
    (void)arg;
    for (;;)
        uc_context_switch(&uc_side[1], &uc_side[0]);
}
#endif

static void yielder(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--)
        fiber_yield();
}

static void nothing(void *arg)
{
    ++*(long *)arg;
}

static void bench_switches(struct loop *l)
{
    char *stack = xmalloc(65536);
    const int switches = 500000 * scale;
    long yields = 100000 * scale, ended = 0;
    double t;

    context_make(&side[1], stack, stack + 65536, pong, NULL);
    t = seconds();
    for (int i = 0; i < switches; i++)
        context_switch(&side[0], &side[1]);
    row("one switch", (seconds() - t) * 1e9 / switches / 2, "ns");
#ifdef HAVE_BOTH
    uc_context_make(&uc_side[1], stack, stack + 65536, uc_pong, NULL);
    t = seconds();
    for (int i = 0; i < switches / 10; i++)
        uc_context_switch(&uc_side[0], &uc_side[1]);
    row("one switch, ucontext", (seconds() - t) * 1e9 / (switches / 10) / 2, "ns");
#endif
    for (int i = 0; i < 100; i++)
        fiber_spawn(l, "yielder", yielder, &yields);
    yields /= 100;
    t = seconds();
    run();
    row("fiber_yield among 100 fibers (two switches and a turn's share)",
        (seconds() - t) * 1e9 / (double)yields / 100, "ns");
    t = seconds();
    for (int i = 0; i < 1000 * scale; i++) {
        for (int k = 0; k < 100; k++)
            fiber_spawn(l, "nothing", nothing, &ended);
        run();
    }
    row("spawn, run and end of a fiber, stack from the cache",
        (seconds() - t) * 1e9 / (double)ended, "ns");
    ended = 0;
    t = seconds();
    for (int i = 0; i < 1000 * scale; i++)
        fiber_spawn(l, "nothing", nothing, &ended);
    run();
    row("the same, most stacks new", (seconds() - t) * 1e9 / (double)ended, "ns");
    free(stack);
}

/* ---- waking from another thread ---- */

static _Atomic(struct wait *) asked;
static atomic_bool quit;

static void *answering(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&quit, memory_order_relaxed)) {
        struct wait *w = atomic_exchange(&asked, NULL);

        if (w)
            wait_done(w);
    }
    return NULL;
}

static void asking(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10000 * scale; i++) {
        struct wait w;

        wait_init(&w);
        atomic_store(&asked, &w);
        wait_for_done(&w, "answer");
    }
}

static void bench_wakes(struct loop *l)
{
    pthread_t t;
    double begin;

    pthread_create(&t, NULL, answering, NULL);
    fiber_spawn(l, "asking", asking, NULL);
    begin = seconds();
    run();
    row("there and back to a thread that spins (wait, wait_done)",
        (seconds() - begin) * 1e6 / (10000.0 * scale), "us");
    atomic_store(&quit, true);
    pthread_join(t, NULL);
}

/* ---- stacks ---- */

struct session {
    struct conn *c;
    bool tls, client;
    unsigned lines, group;
    unsigned stack_handshake, stack_all;
};

/* A session as a server sees it: replies gather, the reader runs dry, they leave. */
static void serve(void *arg)
{
    struct session *s = arg;
    struct slice line;

    fiber_rename("server %d", conn_fd(s->c));
    if (s->tls && !conn_start_tls_server(s->c, server_ctx, NULL)) {
        fprintf(stderr, "server: %s\n", conn_err(s->c)->text);
        exit(1);
    }
    s->stack_handshake = fiber_stack_used();
    while (conn_read_line(s->c, 1000, &line) == CONN_LINE_OK)
        conn_printf(s->c, "250 %.*s ok\r\n", (int)(line.n < 100 ? line.n : 100), line.p);
    s->stack_all = fiber_stack_used();
    conn_free(&s->c);
}

static void ask(void *arg)
{
    struct session *s = arg;
    struct slice line;

    if (s->tls && !conn_start_tls_client(s->c, client_ctx, "mx.example.org", NULL)) {
        fprintf(stderr, "client: %s\n", conn_err(s->c)->text);
        exit(1);
    }
    s->stack_handshake = fiber_stack_used();
    for (unsigned i = 0; i < s->lines; i += s->group) {
        for (unsigned k = 0; k < s->group; k++)
            conn_printf(s->c, "RCPT TO:<someone%u@example.org>\r\n", k);
        for (unsigned k = 0; k < s->group; k++)
            if (conn_read_line(s->c, 1000, &line) != CONN_LINE_OK)
                exit(1);
    }
    s->stack_all = fiber_stack_used();
    conn_free(&s->c);
}

static void tcp_pair(int fd[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&a, &len) < 0 ||
        connect(fd[0], (struct sockaddr *)&a, len) < 0 || (fd[1] = accept(l, NULL, NULL)) < 0) {
        perror("tcp");
        exit(1);
    }
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    close(l);
}

static void bench_stacks(struct loop *l)
{
    struct session a = {.tls = true}, b = {.tls = true, .client = true, .lines = 100, .group = 10};
    int fd[2];

    tcp_pair(fd);
    a.c = conn_new(fd[0]);
    b.c = conn_new(fd[1]);
    fiber_measure_stacks(true);
    fiber_spawn(l, "server", serve, &a);
    fiber_spawn(l, "client", ask, &b);
    fiber_measure_stacks(false);
    run();
    row("stack, TLS handshake of a server", a.stack_handshake / 1024.0, "KiB");
    row("stack, TLS handshake of a client", b.stack_handshake / 1024.0, "KiB");
    row("stack, whole session", (a.stack_all > b.stack_all ? a.stack_all : b.stack_all) / 1024.0,
        "KiB");
}

/* ---- idle sessions ---- */

#define IDLE 2000

static double private_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size, resident, shared;

    if (!f || fscanf(f, "%ld %ld %ld", &size, &resident, &shared) != 3)
        exit(1);
    fclose(f);
    return (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static unsigned greeted;

static void greet_and_stay(void *arg)
{
    struct session *s = arg;
    struct slice line;

    if (s->tls && !conn_start_tls_client(s->c, client_ctx, "mx.example.org", NULL))
        exit(1);
    conn_printf(s->c, "EHLO client.example.org\r\n");
    if (conn_read_line(s->c, 1000, &line) != CONN_LINE_OK)
        exit(1);
    greeted++;
    conn_read_line(s->c, 1000, &line); /* until the other side is closed */
    conn_free(&s->c);
}

/* The clients live in another process, so that this one's memory is the server's. */
static void idle_clients(const int *fds, bool tls, int ready)
{
    struct loop *l = loop_new(0);
    struct session *s = xcalloc(IDLE, sizeof(*s));

    greeted = 0;
    loop_turn(l, 0);
    for (int i = 0; i < IDLE; i++) {
        s[i] = (struct session){.c = conn_new(fds[i]), .tls = tls};
        fiber_spawn(l, "client", greet_and_stay, &s[i]);
    }
    while (greeted < IDLE)
        loop_turn(l, NEVER);
    if (write(ready, "x", 1) != 1)
        exit(1);
    run();
    _exit(0);
}

static void bench_idle(struct loop *l, bool tls)
{
    static int fds[2][IDLE];
    struct session *s = xcalloc(IDLE, sizeof(*s));
    double before;
    int ready[2], status;
    char byte;
    pid_t child;

    if (pipe(ready) < 0)
        exit(1);
    for (int i = 0; i < IDLE; i++) {
        int fd[2];

        tcp_pair(fd);
        fds[0][i] = fd[0];
        fds[1][i] = fd[1];
    }
    child = fork();
    if (!child) {
        for (int i = 0; i < IDLE; i++)
            close(fds[0][i]);
        idle_clients(fds[1], tls, ready[1]);
    }
    for (int i = 0; i < IDLE; i++)
        close(fds[1][i]);
    close(ready[1]);
    before = private_kib();
    for (int i = 0; i < IDLE; i++) {
        s[i] = (struct session){.c = conn_new(fds[0][i]), .tls = tls};
        fiber_spawn(l, "server", serve, &s[i]);
    }
    while (fiber_wait_fd(ready[0], 1, clock_now(), "") == 0)
        loop_turn(l, 10);
    if (read(ready[0], &byte, 1) != 1)
        exit(1);
    row(tls ? "idle TLS session after EHLO" : "idle clear session after EHLO",
        (private_kib() - before) / IDLE, "KiB");
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    run();
    close(ready[0]);
    free(s);
}

/* ---- lines ---- */

static void bench_lines(const char *what, bool tls, unsigned group, unsigned lines)
{
    struct session a = {.tls = tls}, b = {.tls = tls, .lines = lines, .group = group};
    int fd[2];
    double t, cpu;

    tcp_pair(fd);
    a.c = conn_new(fd[0]);
    b.c = conn_new(fd[1]);
    t = seconds();
    cpu = cpu_seconds();
    loops_start(2);
    fiber_spawn(loops_get(0), "server", serve, &a);
    fiber_spawn(loops_get(1), "client", ask, &b);
    loop_stop(loops_get(0));
    loop_stop(loops_get(1));
    loops_join();
    loops_free();
    t = seconds() - t;
    cpu = cpu_seconds() - cpu;
    printf("  %-58s %12.0f a second, %.2f us CPU a line (both sides)\n", what, lines / t,
           cpu * 1e6 / lines);
    fflush(stdout);
}

struct handshakes {
    int n;
    bool resume;
};

static void shake_server(void *arg)
{
    struct conn *c = arg;
    struct slice line;

    if (conn_start_tls_server(c, server_ctx, NULL)) {
        conn_write(c, "220 hello\r\n", 11);
        conn_read_line(c, 1000, &line);
    }
    conn_free(&c);
}

static void shake_client(void *arg)
{
    struct handshakes *h = arg;
    struct ssl_session_st *session = NULL;

    for (int i = 0; i < h->n; i++) {
        struct conn *c;
        struct slice line;
        int fd[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
            exit(1);
        fiber_spawn(loop_self(), "server", shake_server, conn_new(fd[0]));
        c = conn_new(fd[1]);
        if (h->resume)
            conn_offer_session(c, session);
        if (!conn_start_tls_client(c, client_ctx, "mx.example.org", NULL) ||
            conn_read_line(c, 1000, &line) != CONN_LINE_OK)
            exit(1);
        SSL_SESSION_free(session);
        session = conn_take_session(c);
        conn_free(&c);
    }
    SSL_SESSION_free(session);
}

static void bench_handshakes(struct loop *l)
{
    for (int resume = 0; resume < 2; resume++) {
        struct handshakes h = {200 * scale, resume};
        double cpu = cpu_seconds();

        fiber_spawn(l, "client", shake_client, &h);
        run();
        row(resume ? "TLS 1.3 handshake resumed, both sides"
                   : "TLS 1.3 handshake, ECDSA P-256, both sides",
            (cpu_seconds() - cpu) * 1e6 / h.n, "us CPU");
    }
}

int main(int argc, char **argv)
{
    struct tls_settings server = {.server = true};
    struct test_cert cert;
    struct err err = {0};
    struct loop *l;

    tls_memory_start();
    cert = test_cert_new("mx.example.org", 0);
    server.cert_pem = cert.cert;
    server.key_pem = cert.key;
    server_ctx = tls_context_new(&server, &err);
    client_ctx = tls_context_new(&(struct tls_settings){0}, &err);
    if (!server_ctx || !client_ctx) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (argc > 1 && !strcmp(argv[1], "ping")) { /* ping [tls] [group] */
        bool tls = argc > 2 && !strcmp(argv[2], "tls");

        bench_lines("lines", tls, argc > 3 ? (unsigned)atoi(argv[3]) : 1, 100000);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--short"))
        scale = 1;
    l = loop_new(0);
    loop_turn(l, 0);
    printf("The runtime\n");
    bench_idle(l, false); /* while the heap is small */
    bench_idle(l, true);
    bench_switches(l);
    bench_wakes(l);
    bench_stacks(l);
    bench_handshakes(l);
    loop_free(&l);
    bench_lines("lines, one at a time", false, 1, 10000 * (unsigned)scale);
    bench_lines("lines, groups of 20", false, 20, 100000 * (unsigned)scale);
    bench_lines("lines over TLS, one at a time", true, 1, 10000 * (unsigned)scale);
    bench_lines("lines over TLS, groups of 20", true, 20, 100000 * (unsigned)scale);
    tls_context_free(&server_ctx);
    tls_context_free(&client_ctx);
    test_cert_free(&cert);
    return 0;
}
