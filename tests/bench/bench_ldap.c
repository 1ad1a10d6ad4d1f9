/* bench_ldap.c - questions to a directory: so many fibers on one loop ask it, through the pool,
 * until the time is over. Prints how many a second, the CPU time of one, and how long one takes.
 *
 *     bench_ldap PORT BASE search|bind SECONDS CONNECTIONS FIBERS
 *
 * search: (uid=u0) to (uid=u999); bind: uid=u0,BASE to uid=u999,BASE with the password "secret". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/fiber.h"
#include "daemon/ldap_pool.h"
#include "store/base/str.h"
#include "store/config.h"
#include "store/row.h"

static struct {
    const char *base;
    bool bind;
    msec_t until;
    unsigned long done, failed;
    unsigned running;
    msec_t waited;
} bench;

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(struct config_edits *e, const struct section *s, struct row *r)
{
    row_freeze(r);
    config_edits_put(e, s, r->name, r);
}

static void configure(const char *port, const char *connections)
{
    struct row *r = row_new(&section_ldap_server, "bench");
    AUTO(str) char *host = xasprintf("127.0.0.1:%s", port);
    struct config_edits e = {0};
    struct err err = {0};
    struct config *c;
    void *state;

    if (!row_set(r, "hosts", host, &err) || !row_set(r, "max_connections", connections, &err))
        exit((fprintf(stderr, "%s\n", err.text), 2));
    put(&e, &section_ldap_server, r);
    put(&e, &section_ldap_setup, row_new(&section_ldap_setup, "-"));
    put(&e, &section_ssl_settings, row_new(&section_ssl_settings, "-"));
    c = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    if (!reload_ldap.prepare(NULL, c, &state, &err))
        exit((fprintf(stderr, "%s\n", err.text), 2));
    reload_ldap.publish(state, c);
    config_free(&c);
}

static bool search(struct ldap_pool *p, const char *user, struct err *err)
{
    struct ldap_template *t = ldap_template_parse("(uid={u})", err);
    struct ldap_values values = {.of = {[MACRO_USER] = user}};
    struct arena arena = {0};
    enum ldap_macro lacking;
    struct ldap_search s = {.base = bench.base, .size_limit = 2, .time_limit = 10};
    struct ldap_found found;
    bool ok;

    s.filter = ldap_template_fill(t, &values, &arena, &lacking);
    ok = ldap_pool_search(p, -1, &s, clock_in(SECONDS(10)), &found, err) && found.entries == 1;
    ldap_found_free(&found);
    ldap_template_free(&t);
    arena_free(&arena);
    return ok;
}

static bool bind_as(struct ldap_pool *p, const char *user, struct err *err)
{
    AUTO(str) char *dn = xasprintf("uid=%s,%s", user, bench.base);
    struct ldap_result r;

    return ldap_pool_bind(p, -1, dn, "secret", clock_in(SECONDS(10)), &r, err) &&
           r.code == LDAP_R_SUCCESS;
}

static void ask(void *unused)
{
    struct ldap_pool *p = running_ldap_pool("bench");
    struct err err = {0};
    char user[20];

    (void)unused;
    while (clock_now() < bench.until) {
        msec_t began = clock_now();

        snprintf(user, sizeof(user), "u%lu", bench.done % 1000);
        bench.done++;
        if (!(bench.bind ? bind_as(p, user, &err) : search(p, user, &err)) && !bench.failed++)
            fprintf(stderr, "%s: %s\n", user, err.text);
        bench.waited += clock_now() - began;
    }
    ldap_pool_free(&p);
    bench.running--;
}

int main(int argc, char **argv)
{
    struct loop *l;
    double seconds, cpu;

    if (argc != 7) {
        fprintf(stderr, "usage: bench_ldap PORT BASE search|bind SECONDS CONNECTIONS FIBERS\n");
        return 2;
    }
    bench.base = argv[2];
    bench.bind = str_eq(argv[3], "bind");
    seconds = strtod(argv[4], NULL);
    bench.running = (unsigned)strtoul(argv[6], NULL, 10);
    configure(argv[1], argv[5]);
    l = loop_new(0);
    loop_settle(l);
    bench.until = clock_in((msec_t)(seconds * 1000));
    for (unsigned i = 0, n = bench.running; i < n; i++)
        fiber_spawn(l, "bench", ask, NULL);
    cpu = cpu_seconds();
    while (bench.running)
        loop_turn(l, 100);
    cpu = cpu_seconds() - cpu;
    printf("{\"per_second\":%.0f,\"cpu_us\":%.1f,\"msec\":%.2f,\"failed\":%lu}\n",
           (double)bench.done / seconds, cpu / (double)bench.done * 1e6,
           (double)bench.waited / (double)bench.done, bench.failed);
    ldap_pools_stop();
    loop_free(&l);
    return bench.failed != 0;
}
