/* The pool of connections to directories on virtual time, with servers made of variables: who is
 * asked, who waits, what is down and for how long. And the cache of answers. */
#include "daemon/ldap_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/config_db.h"
#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/ldap_cache.h"
#include "store/config.h"
#include "store/row.h"
#include "tests/unit/cm.h"

/* --- the world outside: hosts "a", "b" ... --- */

struct host_state {
    enum err_code open_fails, bind_fails, ask_fails;
    msec_t open_takes, ask_takes;
    int code; /* of a search's result */
    unsigned opened, open, most; /* connections: in all, now, at once */
    unsigned searches, binds;
    bool gone; /* idle connections have been closed by the server */
    unsigned age; /* those of another one have died without a trace */
};

static struct {
    struct host_state hosts[3];
    unsigned raised_down, raised_up;
    char alert[1000];
    unsigned mixed; /* connections that searched and had a user bound */
} world;

struct fake {
    struct ldap_client client; /* first */
    struct host_state *host;
    unsigned age;
    bool service, user;
};

static struct fake *fake_of(struct ldap_client *c)
{
    return (struct fake *)(void *)c;
}

static bool wait_a_while(msec_t takes, msec_t deadline, struct err *err)
{
    msec_t left = deadline - clock_now();

    if (takes && !fiber_sleep(takes < left ? takes : left))
        return err_set(err, E_CLOSED, "shutting down");
    return takes <= left || err_set(err, E_TIMEOUT, "no answer in time");
}

struct ldap_client *ldap_open(const struct ldap_access *a, const char *host, unsigned port,
                              msec_t deadline, struct err *err)
{
    struct host_state *h = &world.hosts[host[0] - 'a'];
    struct fake *f;
    int fds[2];

    assert_int_equal(port, 389);
    assert_int_equal(a->security, LDAP_CLEAR);
    h->opened++;
    if (!wait_a_while(h->open_takes, deadline, err))
        return NULL;
    if (h->open_fails) {
        err_set(err, h->open_fails, "no way");
        return NULL;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    close(fds[1]);
    f = calloc(1, sizeof(*f));
    f->client.conn = conn_new(fds[0]);
    f->host = h;
    f->age = h->age;
    h->gone = false;
    if (++h->open > h->most)
        h->most = h->open;
    return &f->client;
}

bool ldap_bind_service(struct ldap_client *c, const struct ldap_access *a, msec_t deadline,
                       struct err *err)
{
    struct fake *f = fake_of(c);

    (void)a;
    (void)deadline;
    f->service = true;
    return !f->host->bind_fails || err_set(err, f->host->bind_fails, "LDAP authentication failed");
}

static bool operate(struct fake *f, msec_t deadline, struct err *err)
{
    if (f->age != f->host->age)
        return err_set(err, E_CLOSED, "connection closed by the peer");
    return wait_a_while(f->host->ask_takes, deadline, err) &&
           (!f->host->ask_fails || err_set(err, f->host->ask_fails, "no answer"));
}

bool ldap_ask(struct ldap_client *c, const struct ldap_search *s, msec_t deadline,
              struct ldap_found *out, struct err *err)
{
    struct fake *f = fake_of(c);

    (void)s;
    memset(out, 0, sizeof(*out));
    f->host->searches++;
    world.mixed += f->user || !f->service;
    out->result.code = f->host->code;
    out->entries = 1;
    return operate(f, deadline, err);
}

bool ldap_bind_user(struct ldap_client *c, const char *dn, const char *password, msec_t deadline,
                    struct ldap_result *r, struct err *err)
{
    struct fake *f = fake_of(c);

    assert_true(*dn && *password);
    f->user = true;
    f->host->binds++;
    world.mixed += f->service;
    r->code = f->host->code ? f->host->code : LDAP_R_INVALID_CREDENTIALS;
    return operate(f, deadline, err);
}

bool ldap_is_usable(struct ldap_client *c)
{
    return !fake_of(c)->host->gone;
}

void ldap_close(struct ldap_client **c)
{
    struct fake *f = *c ? fake_of(*c) : NULL;

    *c = NULL;
    if (!f)
        return;
    f->host->open--;
    conn_free(&f->client.conn);
    free(f);
}

void ldap_found_free(struct ldap_found *f)
{
    strlist_free(&f->values);
    str_free(&f->dn);
}

void ldap_result_print(const struct ldap_result *r, char out[300])
{
    ldap_result_text(r->code, out);
}

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    va_list ap;

    assert_int_equal(class, ALERT_SYSTEM);
    va_start(ap, fmt);
    vsnprintf(world.alert, sizeof(world.alert), fmt, ap);
    va_end(ap);
    if (str_eq(key, "ldap-down dir")) {
        assert_int_equal(severity, ALERT_CRITICAL);
        world.raised_down++;
    } else {
        assert_string_equal(key, "ldap-up dir");
        assert_int_equal(severity, ALERT_INFO);
        world.raised_up++;
    }
}

bool config_db_secret(const char *ref, struct buf *plain, struct err *err)
{
    (void)ref;
    (void)plain;
    return err_set(err, E_INVALID, "none");
}

struct config *running_config(void)
{
    return NULL;
}

/* --- helpers --- */

static struct loop *loop;

static struct config *config_of(const char *hosts, const char *more)
{
    static const struct section *const others[] = {&section_ldap_setup, &section_ssl_settings};
    struct row *r = row_new(&section_ldap_server, "dir");
    AUTO(strlist) struct strlist settings = {0};
    struct config_edits e = {0};
    struct err err = {0};
    struct config *c;

    if (!row_set(r, "hosts", hosts, &err))
        fail_msg("%s", err.text);
    strlist_split(&settings, more, ';');
    for (size_t i = 0; i < settings.n; i++) {
        char *value = strchr(settings.items[i], '=');

        *value++ = '\0';
        if (!row_set(r, settings.items[i], value, &err))
            fail_msg("%s", err.text);
    }
    row_freeze(r);
    config_edits_put(&e, &section_ldap_server, "dir", r);
    for (size_t i = 0; i < countof(others); i++) {
        struct row *o = row_new(others[i], "-");

        row_freeze(o);
        config_edits_put(&e, others[i], "-", o);
    }
    c = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    return c;
}

static void configure(const char *hosts, const char *more)
{
    struct config *c = config_of(hosts, more);
    struct err err = {0};
    void *state;

    if (!reload_ldap.prepare(NULL, c, &state, &err))
        fail_msg("%s", err.text);
    reload_ldap.publish(state, c);
    config_free(&c);
}

struct asker {
    bool bind, done, ok;
    msec_t patience, took;
    struct err err;
};

static void ask_now(void *arg)
{
    struct asker *a = arg;
    struct ldap_pool *p = running_ldap_pool("dir");
    struct ldap_search s = {.base = ""};
    msec_t began = clock_now(), until = clock_in(a->patience ? a->patience : SECONDS(10));
    struct ldap_found found;
    struct ldap_result r;

    if (a->bind)
        a->ok = ldap_pool_bind(p, -1, "cn=x", "pw", until, &r, &a->err);
    else
        a->ok = ldap_pool_search(p, -1, &s, until, &found, &a->err);
    if (a->ok && !a->bind)
        ldap_found_free(&found);
    a->took = clock_now() - began;
    a->done = true;
    ldap_pool_free(&p);
}

static void start(struct asker *a)
{
    a->done = false;
    assert_true(fiber_spawn(loop, "asker", ask_now, a));
    loop_settle(loop);
}

static void pass(msec_t time)
{
    for (; time > 0; time -= 100) {
        clock_advance(100);
        loop_settle(loop);
    }
}

/* One question, answered at once. */
static bool ask_once(bool bind)
{
    struct asker a = {.bind = bind};

    start(&a);
    assert_true(a.done);
    return a.ok;
}

static void tend(void *unused)
{
    (void)unused;
    ldap_pools_tend();
}

static void tend_now(void)
{
    assert_true(fiber_spawn(loop, "tend", tend, NULL));
    loop_settle(loop);
}

static json_int_t status(size_t host, const char *key)
{
    json_t *all = ldap_pools_status();
    json_int_t n =
        json_int(json_array_get(json_object_get(json_array_get(all, 0), "hosts"), host), key, -1);

    json_decref(all);
    return n;
}

static void expect_state(size_t host, const char *state)
{
    json_t *all = ldap_pools_status();

    assert_string_equal(
        json_str(json_array_get(json_object_get(json_array_get(all, 0), "hosts"), host), "state",
                 ""),
        state);
    json_decref(all);
}

static int set_up(void **state)
{
    (void)state;
    clock_set_virtual(SECONDS(1000000), INT64_C(1800000000000000));
    memset(&world, 0, sizeof(world));
    loop = loop_new(0);
    loop_settle(loop); /* this thread's from here on */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ldap_pools_stop();
    for (size_t i = 0; i < countof(world.hosts); i++)
        assert_int_equal(world.hosts[i].open, 0);
    assert_int_equal(world.mixed, 0);
    loop_free(&loop);
    clock_set_real();
    return 0;
}

/* --- tests --- */

static void connections_are_used_again(void **state)
{
    (void)state;
    configure("a", "");
    for (int i = 0; i < 5; i++) {
        assert_true(ask_once(false));
        assert_true(ask_once(true));
    }
    assert_int_equal(world.hosts[0].opened, 2); /* one to search, one to bind users */
    assert_int_equal(status(0, "connections"), 2);
    assert_int_equal(status(0, "queries"), 10);
    expect_state(0, "up");
    pass(SECONDS(59));
    tend_now();
    assert_int_equal(world.hosts[0].open, 2);
    pass(SECONDS(2));
    tend_now();
    assert_int_equal(world.hosts[0].open, 0);
    assert_true(ask_once(false));
}

static void only_so_many_at_once(void **state)
{
    static struct asker a[9];
    unsigned done = 0;

    (void)state;
    configure("a", "max_connections=2");
    world.hosts[0].ask_takes = SECONDS(1);
    for (size_t i = 0; i < countof(a); i++) {
        a[i].bind = i % 3 == 0;
        start(&a[i]);
    }
    assert_int_equal(status(0, "connections"), 2);
    assert_int_equal(status(0, "waiting"), 7);
    pass(SECONDS(2));
    for (size_t i = 0; i < countof(a); i++)
        done += a[i].done;
    assert_int_equal(done, 4);
    pass(SECONDS(4));
    for (size_t i = 0; i < countof(a); i++)
        assert_true(a[i].done && a[i].ok);
    assert_int_equal(world.hosts[0].most, 2);
    assert_int_equal(status(0, "waiting"), 0);
}

static void who_waits_too_long_gives_up(void **state)
{
    struct asker a[3] = {{0}, {0}, {.patience = SECONDS(2)}};

    (void)state;
    configure("a", "max_connections=2");
    world.hosts[0].ask_takes = SECONDS(5);
    for (size_t i = 0; i < countof(a); i++)
        start(&a[i]);
    pass(SECONDS(2));
    assert_true(a[2].done && !a[2].ok);
    assert_int_equal(a[2].err.code, E_TIMEOUT);
    assert_non_null(strstr(a[2].err.text, "a:389: all 2 connections to it are busy"));
    pass(SECONDS(4));
    assert_true(a[0].ok && a[1].ok);
    expect_state(0, "up"); /* it was busy, not down */
    assert_int_equal(world.raised_down, 0);
}

static void one_connection_serves_both_in_turn(void **state)
{
    struct asker a[6] = {{0}};

    (void)state;
    configure("a", "max_connections=1");
    world.hosts[0].ask_takes = 100;
    for (size_t i = 0; i < countof(a); i++) {
        a[i].bind = i % 2;
        start(&a[i]);
    }
    pass(SECONDS(1));
    for (size_t i = 0; i < countof(a); i++)
        assert_true(a[i].ok);
    assert_int_equal(world.hosts[0].most, 1);
}

static void a_host_that_is_down_is_left_alone(void **state)
{
    const msec_t pauses[] = {1, 2, 4, 8, 16, 32, 60, 60};

    (void)state;
    configure("a", "");
    world.hosts[0].open_fails = E_NET;
    assert_false(ask_once(false));
    assert_int_equal(world.raised_down, 1);
    assert_non_null(strstr(world.alert, "configuration dir can be used: a:389: no way."));
    for (size_t i = 0; i < countof(pauses); i++) {
        unsigned opened = world.hosts[0].opened;

        pass(SECONDS(pauses[i]) - 100);
        assert_false(ask_once(false));
        assert_false(ask_once(true));
        assert_int_equal(world.hosts[0].opened, opened);
        pass(100);
        if (i % 2)
            assert_false(ask_once(false));
        else
            tend_now();
        assert_int_equal(world.hosts[0].opened, opened + 1);
        assert_false(ask_once(false));
        assert_int_equal(world.hosts[0].opened, opened + 1);
    }
    assert_int_equal(world.raised_down, 1);
    assert_int_equal(world.raised_up, 0);
    world.hosts[0].open_fails = E_NONE;
    assert_false(ask_once(false));
    pass(SECONDS(60));
    tend_now();
    expect_state(0, "up");
    assert_int_equal(world.raised_up, 1);
    assert_non_null(strstr(world.alert, "dir can be used again (a:389), after 4m "));
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[0].open, 1); /* the one that found out is kept */
    world.hosts[0].gone = true;
    world.hosts[0].open_fails = E_NET; /* and so on from the beginning */
    assert_false(ask_once(false));
    assert_int_equal(world.raised_down, 2);
    pass(SECONDS(1));
    world.hosts[0].open_fails = E_NONE;
    assert_true(ask_once(false));
}

/* Many find out at once: that is one failure, and one tries again. */
static void a_crowd_counts_once(void **state)
{
    static struct asker a[50];

    (void)state;
    configure("a", "max_connections=10;connect_timeout=5s");
    world.hosts[0].open_takes = SECONDS(100);
    for (size_t i = 0; i < countof(a); i++)
        start(&a[i]);
    assert_int_equal(world.hosts[0].opened, 10);
    pass(SECONDS(5));
    for (size_t i = 0; i < countof(a); i++)
        assert_true(a[i].done && !a[i].ok && a[i].took == SECONDS(5));
    assert_int_equal(world.raised_down, 1);
    pass(SECONDS(1));
    for (size_t i = 0; i < countof(a); i++)
        start(&a[i]);
    assert_int_equal(world.hosts[0].opened, 11);
    tend_now();
    assert_int_equal(world.hosts[0].opened, 11);
    pass(SECONDS(5));
    assert_int_equal(status(0, "connections"), 0);
}

static void the_bind_user_is_refused(void **state)
{
    struct asker a = {0};

    (void)state;
    configure("a", "");
    world.hosts[0].bind_fails = E_DENIED;
    start(&a);
    assert_false(a.ok);
    assert_int_equal(a.err.code, E_DENIED);
    assert_string_equal(a.err.text, "LDAP server dir: a:389: LDAP authentication failed");
    expect_state(0, "down");
    assert_int_equal(world.hosts[0].open, 0);
}

static void the_next_host_answers(void **state)
{
    struct asker a = {0};

    (void)state;
    configure("a, b, c", "");
    world.hosts[0].open_fails = E_NET;
    world.hosts[1].code = LDAP_R_BUSY;
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[2].searches, 1);
    expect_state(0, "down");
    expect_state(1, "unknown"); /* it did answer, once */
    assert_int_equal(world.raised_down, 0);
    world.hosts[1].code = 0;
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[1].searches, 2); /* the first of those that work */
    /* mute: each host has its share of the time */
    world.hosts[1].ask_takes = SECONDS(100);
    start(&a);
    pass(SECONDS(6));
    assert_true(a.ok);
    assert_int_equal(a.took, SECONDS(5));
    start(&a);
    pass(SECONDS(6));
    assert_true(a.ok);
    expect_state(1, "down"); /* twice in a row */
    assert_true(ask_once(false));
    /* nobody is left */
    world.hosts[1].ask_takes = 0;
    world.hosts[1].open_fails = E_NET;
    world.hosts[2].ask_fails = E_PROTOCOL;
    assert_false(ask_once(false));
    assert_false(ask_once(false));
    assert_int_equal(world.raised_down, 1);
    /* the first is back */
    world.hosts[0].open_fails = E_NONE;
    pass(SECONDS(2));
    assert_true(ask_once(false));
    assert_int_equal(world.raised_up, 1);
}

static void all_hosts_in_turn(void **state)
{
    (void)state;
    configure("a, b, c", "order=balance");
    for (int i = 0; i < 30; i++) {
        assert_true(ask_once(false));
        assert_true(ask_once(true));
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(world.hosts[i].searches, 10);
        assert_int_equal(world.hosts[i].binds, 10);
    }
    world.hosts[1].open_fails = E_NET;
    world.hosts[1].gone = true;
    for (int i = 0; i < 20; i++)
        assert_true(ask_once(false));
    assert_int_equal(world.hosts[0].searches + world.hosts[2].searches, 40);
}

/* A server closes idle connections, or was started again. */
static void what_died_while_nobody_looked(void **state)
{
    (void)state;
    configure("a", "");
    assert_true(ask_once(false));
    world.hosts[0].gone = true; /* seen before it is used */
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[0].opened, 2);
    assert_int_equal(world.hosts[0].open, 1);
    assert_int_equal(world.hosts[0].searches, 2);
    world.hosts[0].age++; /* seen by using it: asked again, once */
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[0].opened, 3);
    assert_int_equal(world.hosts[0].searches, 4);
    assert_int_equal(world.hosts[0].open, 1);
    expect_state(0, "up");
    configure("a", "max_connections=1"); /* also when there is no room beside it */
    assert_true(ask_once(true));
    world.hosts[0].age++;
    assert_true(ask_once(true));
    assert_int_equal(world.hosts[0].open, 1);
}

static void commits(void **state)
{
    struct asker a = {0}, b = {0};

    (void)state;
    configure("a", "");
    assert_true(ask_once(false));
    world.hosts[0].ask_takes = SECONDS(3);
    start(&a);
    configure("a", ""); /* nothing changed: nothing happens */
    assert_int_equal(world.hosts[0].open, 1);
    assert_int_equal(status(0, "queries"), 1);
    configure("b", "");
    assert_false(a.done);
    start(&b);
    assert_true(b.ok);
    assert_int_equal(world.hosts[1].searches, 1);
    pass(SECONDS(3));
    assert_true(a.ok); /* as it began */
    assert_int_equal(world.hosts[0].open, 0); /* and closed, for nobody will use it again */
    configure("b", "base=dc=x");
    assert_int_equal(world.hosts[1].open, 0);
}

static void a_server_that_cannot_be_made_is_no_commit(void **state)
{
    struct config *c = config_of("a", "auth=password;bind_dn=cn=x;bind_password=sealed:1:2");
    struct err err = {0};
    void *prepared = NULL;

    (void)state;
    configure("b", "");
    assert_false(reload_ldap.prepare(NULL, c, &prepared, &err));
    assert_string_equal(err.text, "LDAP server dir: opening the bind passphrase: none");
    config_free(&c);
    assert_true(ask_once(false));
    assert_int_equal(world.hosts[1].searches, 1);
    assert_int_equal(ldap_pools_flush("other"), -1);
    assert_int_equal(ldap_pools_flush("dir"), 0);
    assert_null(running_ldap_pool("other"));
}

/* --- the cache --- */

static struct ldap_question question(const char *a, const char *b)
{
    struct slice parts[] = {slice_of(a), slice_of(b)};
    struct ldap_question q;

    ldap_question_of(&q, parts, 2);
    assert_null(strstr(q.key, a));
    return q;
}

static int get(struct ldap_cache *c, struct ldap_question q)
{
    char user[20];
    bool yes;

    return ldap_cache_get(c, &q, &yes, user, sizeof(user)) ? yes : -1;
}

static void put(struct ldap_cache *c, struct ldap_question q, bool yes, msec_t longest)
{
    ldap_cache_put(c, &q, yes, "somebody with a long name", longest);
}

static void answers_are_remembered_for_a_while(void **state)
{
    struct ldap_cache *c = ldap_cache_new(3, SECONDS(900));
    struct ldap_question a = question("alice", "secret"), b = question("alicesecre", "t"),
                         d = question("dora", "x"), e = question("emil", "x");
    char user[9];
    bool yes;

    (void)state;
    assert_string_not_equal(a.key, b.key); /* where one part ends counts */
    assert_string_equal(a.key, question("alice", "secret").key);
    assert_int_equal(get(c, a), -1);
    put(c, a, true, NEVER);
    put(c, b, false, NEVER);
    assert_int_equal(get(c, a), 1);
    assert_int_equal(get(c, b), 0);
    assert_true(ldap_cache_get(c, &a, &yes, user, sizeof(user)));
    assert_string_equal(user, "somebody");
    clock_advance(SECONDS(10));
    assert_int_equal(get(c, b), -1); /* a no is short */
    assert_int_equal(get(c, a), 1);
    clock_advance(SECONDS(890));
    assert_int_equal(get(c, a), -1);
    put(c, a, true, SECONDS(60));
    clock_advance(SECONDS(60));
    assert_int_equal(get(c, a), -1);
    /* the one that was not asked for the longest time goes */
    put(c, a, true, NEVER);
    put(c, b, true, NEVER);
    put(c, d, true, NEVER);
    assert_int_equal(get(c, a), 1);
    put(c, e, true, NEVER);
    assert_int_equal(ldap_cache_count(c), 3);
    assert_int_equal(get(c, b), -1);
    assert_int_equal(get(c, a), 1);
    put(c, a, false, NEVER); /* another answer */
    assert_int_equal(get(c, a), 0);
    assert_int_equal(ldap_cache_flush(c), 3);
    assert_int_equal(get(c, a), -1);
    ldap_cache_free(&c);
    for (int i = 0; i < 2; i++) {
        c = i ? ldap_cache_new(0, SECONDS(900)) : ldap_cache_new(10, 0);
        put(c, a, true, NEVER);
        assert_int_equal(get(c, a), -1);
        assert_int_equal(ldap_cache_max(c), 0);
        ldap_cache_free(&c);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(connections_are_used_again),
        TEST(only_so_many_at_once),
        TEST(who_waits_too_long_gives_up),
        TEST(one_connection_serves_both_in_turn),
        TEST(a_host_that_is_down_is_left_alone),
        TEST(a_crowd_counts_once),
        TEST(the_bind_user_is_refused),
        TEST(the_next_host_answers),
        TEST(all_hosts_in_turn),
        TEST(what_died_while_nobody_looked),
        TEST(commits),
        TEST(a_server_that_cannot_be_made_is_no_commit),
        TEST(answers_are_remembered_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
