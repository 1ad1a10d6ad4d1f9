/* test_conn.c - the stream: lines, TLS, gathering of output, timeouts, ends. */
#include "daemon/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/tls.h"
#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct loop *l;
static struct test_cert cert;
static struct tls_context *server_ctx, *client_ctx;

static void pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
}

static void put(int fd, const char *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

static size_t get(int fd, char *out, size_t size)
{
    ssize_t n = recv(fd, out, size - 1, MSG_DONTWAIT);

    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* ---- outside a fiber ---- */

static void lines_end_with_crlf_and_a_bare_lf_is_told(void **state)
{
    static const struct {
        const char *in;
        size_t n;
        enum conn_line want;
        const char *line;
    } cases[] = {
        {"NOOP\r\n",      6,  CONN_LINE_OK,   "NOOP"    },
        {"\r\n",          2,  CONN_LINE_OK,   ""        },
        {"12345678\r\n",  10, CONN_LINE_OK,   "12345678"},
        {"123456789\r\n", 11, CONN_LINE_LONG, ""        },
        {"a\n",           2,  CONN_LINE_BARE, "a"       },
        {"a\rb\r\n",      5,  CONN_LINE_BARE, "a\rb"    },
        {"\n",            1,  CONN_LINE_BARE, ""        },
        {"a\r\r\n",       4,  CONN_LINE_BARE, "a\r"     },
        {"a\0b\r\n",      5,  CONN_LINE_BARE, "a"       },
        {"0123456789\n",  11, CONN_LINE_LONG, ""        },
    };
    (void)state;

    for (size_t i = 0; i < countof(cases); i++) {
        for (size_t cut = 0; cut < cases[i].n;
             cut++) { /* in one piece, and in every pair of pieces */
            int fd[2];
            struct conn *c;
            struct slice line;

            pair(fd);
            c = conn_new(fd[0]);
            if (cut) {
                put(fd[1], cases[i].in, cut);
                assert_true(conn_fill(c));
            }
            put(fd[1], cases[i].in + cut, cases[i].n - cut);
            put(fd[1], "next\r\n", 6);
            assert_int_equal(conn_read_line(c, 8, &line), cases[i].want);
            if (cases[i].want == CONN_LINE_OK)
                assert_true(slice_eq(line, cases[i].line));
            else if (cases[i].want == CONN_LINE_BARE)
                assert_memory_equal(line.p, cases[i].line, strlen(cases[i].line));
            assert_int_equal(conn_read_line(c, 8, &line), CONN_LINE_OK);
            assert_true(slice_eq(line, "next"));
            assert_false(conn_input_pending(c));
            conn_free(&c);
            close(fd[1]);
        }
    }
}

static void a_long_line_is_skipped_to_its_end(void **state)
{
    static char big[100000];
    int fd[2];
    struct conn *c;
    struct slice line;
    (void)state;

    memset(big, 'x', sizeof(big));
    memcpy(big + sizeof(big) - 2, "\r\n", 2);
    pair(fd);
    c = conn_new(fd[0]);
    put(fd[1], big, sizeof(big));
    put(fd[1], "QUIT\r\n", 6);
    assert_int_equal(conn_read_line(c, 1000, &line), CONN_LINE_LONG);
    assert_int_equal(conn_read_line(c, 1000, &line), CONN_LINE_OK);
    assert_true(slice_eq(line, "QUIT"));
    conn_free(&c);
    close(fd[1]);
}

static void a_long_line_that_is_allowed_is_read_whole(void **state)
{
    static char big[60000];
    int fd[2];
    struct conn *c;
    struct slice line;
    (void)state;

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)('a' + i * 31 % 26);
    memcpy(big + sizeof(big) - 2, "\r\n", 2);
    pair(fd);
    c = conn_new(fd[0]);
    put(fd[1], "first\r\n", 7);
    put(fd[1], big, sizeof(big));
    assert_int_equal(conn_read_line(c, 5, &line), CONN_LINE_OK);
    assert_int_equal(conn_read_line(c, sizeof(big), &line), CONN_LINE_OK);
    assert_int_equal(line.n, sizeof(big) - 2);
    assert_memory_equal(line.p, big, line.n);
    conn_free(&c);
    close(fd[1]);
}

static void lines_survive_the_borders_of_buffers(void **state)
{
    static char all[64 * 1000];
    char want[80];
    int fd[2];
    struct conn *c;
    struct slice line;
    size_t n = 0;
    (void)state;

    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%d %*d\r\n", i, i % 50 + 1, i);
    pair(fd);
    c = conn_new(fd[0]);
    put(fd[1], all, n);
    for (int i = 0; i < 1000; i++) {
        snprintf(want, sizeof(want), "%d %*d", i, i % 50 + 1, i);
        assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_OK);
        assert_true(slice_eq(line, want));
    }
    assert_false(conn_input_pending(c));
    conn_free(&c);
    close(fd[1]);
}

static void the_end_is_told_from_a_reset(void **state)
{
    int fd[2];
    struct conn *c;
    struct slice line;
    char text[100];
    (void)state;

    pair(fd);
    c = conn_new(fd[0]);
    put(fd[1], "half a li", 9);
    shutdown(fd[1], SHUT_WR);
    conn_printf(c, "250 %s\r\n", "ok");
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_FAILED);
    assert_int_equal(conn_err(c)->code, E_CLOSED);
    assert_string_equal(conn_err(c)->text, "connection closed by the peer");
    get(fd[1], text, sizeof(text));
    assert_string_equal(text, "250 ok\r\n"); /* what was pending went out before */
    conn_write(c, "x", 1);
    assert_false(conn_flush(c)); /* the first error stays */
    assert_int_equal(conn_err(c)->code, E_CLOSED);
    conn_free(&c);
    close(fd[1]);

    pair(fd);
    c = conn_new(fd[0]);
    close(fd[1]);
    conn_write(c, "220 hello\r\n", 11);
    assert_false(conn_flush(c)); /* and no SIGPIPE */
    assert_int_equal(conn_err(c)->code, E_NET);
    assert_string_equal(conn_err(c)->text, "Connection reset by peer");
    conn_free(&c);
}

static void output_gathers_until_input_runs_dry(void **state)
{
    int fd[2];
    struct conn *c;
    struct slice line;
    char text[100];
    (void)state;

    pair(fd);
    c = conn_new(fd[0]);
    put(fd[1], "one\r\ntwo\r\n", 10);
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_OK);
    conn_printf(c, "1\r\n");
    assert_int_equal(get(fd[1], text, sizeof(text)), 0);
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_OK);
    conn_printf(c, "2\r\n");
    assert_int_equal(get(fd[1], text, sizeof(text)), 0);
    put(fd[1], "three\r\n", 7);
    shutdown(fd[1], SHUT_WR);
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_OK);
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_FAILED);
    get(fd[1], text, sizeof(text));
    assert_string_equal(text, "1\r\n2\r\n");
    conn_free(&c);
    close(fd[1]);
}

static void peek_and_consume_take_what_is_there(void **state)
{
    int fd[2];
    struct conn *c;
    struct slice s;
    (void)state;

    pair(fd);
    c = conn_new(fd[0]);
    assert_int_equal(conn_peek(c).n, 0);
    put(fd[1], "abcdef\r\nrest\r\n", 14);
    assert_true(conn_fill(c));
    assert_int_equal(conn_peek(c).n, 14);
    conn_consume(c, 3);
    s = conn_read_some(c, 2);
    assert_int_equal(s.n, 2);
    assert_memory_equal(s.p, "de", 2);
    assert_int_equal(conn_read_line(c, 10, &s), CONN_LINE_OK);
    assert_true(slice_eq(s, "f"));
    put(fd[1], "!", 1);
    assert_true(conn_fill(c)); /* behind what is there */
    s = conn_peek(c);
    assert_int_equal(s.n, 7);
    assert_memory_equal(s.p, "rest\r\n!", 7);
    assert_int_equal(conn_bytes_in(c), 15);
    conn_free(&c);
    close(fd[1]);
}

static void timeouts_outside_a_fiber_follow_the_virtual_clock(void **state)
{
    int fd[2];
    struct conn *c;
    struct slice line;
    char text[100];
    (void)state;

    pair(fd);
    c = conn_new(fd[0]);
    clock_set_virtual(1000, 0);
    conn_set_timeout(c, SECONDS(30));
    assert_int_equal(conn_read_line(c, 100, &line), CONN_LINE_FAILED);
    assert_int_equal(conn_err(c)->code, E_TIMEOUT);
    assert_string_equal(conn_err(c)->text, "nothing received for 30 seconds");
    assert_int_equal(clock_now(), 31000);
    conn_last_words(c, "421 Timeout\r\n");
    get(fd[1], text, sizeof(text));
    assert_string_equal(text, "421 Timeout\r\n");
    assert_int_equal(conn_err(c)->code, E_TIMEOUT);
    conn_free(&c);
    close(fd[1]);
}

static void quiet_means_nothing_to_read_and_no_end(void **state)
{
    int fd[2];
    struct conn *c;
    struct slice line;
    (void)state;

    pair(fd);
    c = conn_new(fd[0]);
    assert_true(conn_is_quiet(c));
    put(fd[1], "one\r\ntwo\r\n", 10);
    assert_false(conn_is_quiet(c)); /* in the socket */
    conn_read_line(c, 10, &line);
    assert_false(conn_is_quiet(c)); /* in the buffer */
    conn_read_line(c, 10, &line);
    assert_true(conn_is_quiet(c));
    close(fd[1]);
    assert_false(conn_is_quiet(c)); /* the end */
    conn_free(&c);
}

static void output_that_was_cut_off_is_not_followed_by_anything(void **state)
{
    static char big[1 << 20], text[1 << 16];
    int fd[2];
    struct conn *c;
    (void)state;

    memset(big, 'x', sizeof(big));
    pair(fd);
    c = conn_new(fd[0]);
    clock_set_virtual(1000, 0);
    conn_write(c, big, sizeof(big)); /* nobody reads */
    assert_int_equal(conn_err(c)->code, E_TIMEOUT);
    assert_string_equal(conn_err(c)->text, "nothing accepted for 300 seconds");
    while (get(fd[1], text, sizeof(text)) > 0)
        assert_null(strchr(text, '4'));
    conn_last_words(c, "421 Timeout\r\n");
    assert_int_equal(get(fd[1], text, sizeof(text)), 0);
    conn_free(&c);
    close(fd[1]);
}

/* ---- in fibers ---- */

struct end {
    struct conn *c;
    struct err err;
    struct tls_info info;
    struct ssl_session_st *session;
    enum conn_line got;
    unsigned lines;
    bool ok, done, interrupted;
};

static void end_free(struct end *e)
{
    conn_free(&e->c);
    SSL_SESSION_free(e->session);
}

static void echo_server(void *arg)
{
    struct end *e = arg;
    struct slice line;

    if (e->ok && !conn_start_tls_server(e->c, server_ctx, &e->err)) {
        conn_free(&e->c);
        e->done = true;
        return;
    }
    conn_tls_info(e->c, &e->info);
    while ((e->got = conn_read_line(e->c, 1000, &line)) == CONN_LINE_OK) {
        e->lines++;
        conn_write(e->c, line.p, line.n);
        conn_write(e->c, "\r\n", 2);
    }
    if (e->got == CONN_LINE_FAILED)
        e->err = *conn_err(e->c);
    conn_free(&e->c);
    e->done = true;
}

static void echo_client(void *arg)
{
    struct end *e = arg;
    struct slice line;
    char want[50];

    if (e->ok) {
        conn_offer_session(e->c, e->session);
        if (!conn_start_tls_client(e->c, client_ctx, "mx.example.org", &e->err)) {
            conn_free(&e->c);
            e->done = true;
            return;
        }
        conn_tls_info(e->c, &e->info);
    }
    for (int i = 0; i < 100; i++)
        conn_printf(e->c, "line %d\r\n", i);
    for (int i = 0; i < 100; i++) {
        snprintf(want, sizeof(want), "line %d", i);
        assert_int_equal(conn_read_line(e->c, 100, &line), CONN_LINE_OK);
        assert_true(slice_eq(line, want));
        e->lines++;
    }
    SSL_SESSION_free(e->session);
    e->session = conn_take_session(e->c);
    conn_free(&e->c);
    e->done = true;
}

static void run_pair(struct end *server, struct end *client, bool tls)
{
    int fd[2];

    pair(fd);
    server->c = conn_new(fd[0]);
    client->c = conn_new(fd[1]);
    server->ok = client->ok = tls;
    assert_true(fiber_spawn(l, "server", echo_server, server));
    assert_true(fiber_spawn(l, "client", echo_client, client));
    loop_settle(l);
    assert_true(server->done && client->done);
}

static void clear_echo(void **state)
{
    struct end server = {0}, client = {0};
    (void)state;

    run_pair(&server, &client, false);
    assert_int_equal(server.lines, 100);
    assert_int_equal(client.lines, 100);
    assert_int_equal(server.err.code, E_CLOSED);
    assert_string_equal(server.info.protocol, "");
}

static void tls_echo_and_resumption(void **state)
{
    struct end server = {0}, client = {0};
    (void)state;

    run_pair(&server, &client, true);
    assert_int_equal(client.lines, 100);
    assert_string_equal(client.err.text, "");
    assert_string_equal(client.info.protocol, "TLSv1.3");
    assert_false(client.info.resumed);
    assert_string_equal(client.info.peer_subject, "CN=mx.example.org");
    assert_int_equal(server.err.code, E_CLOSED);
    assert_non_null(client.session);

    server = (struct end){0};
    client = (struct end){.session = client.session};
    run_pair(&server, &client, true);
    assert_int_equal(client.lines, 100);
    assert_true(client.info.resumed);
    assert_true(server.info.resumed);
    end_free(&client);
}

static void mass(void *arg)
{
    struct end *e = arg;
    static char data[300000];
    size_t n = 0;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 1000);
    if (e->lines) { /* sends, in pieces of odd sizes */
        if (e->ok && !conn_start_tls_client(e->c, client_ctx, NULL, &e->err))
            fail();
        for (size_t at = 0, size = 1; at < sizeof(data); at += size) {
            size =
                at < 150000 ? size % 5000 + 997 : size * 3; /* many that gather, then large ones */
            if (size > sizeof(data) - at)
                size = sizeof(data) - at;
            conn_write(e->c, data + at, size);
        }
        assert_true(conn_flush(e->c));
    } else {
        if (e->ok && !conn_start_tls_server(e->c, server_ctx, &e->err))
            fail();
        for (;;) {
            struct slice s = conn_read_some(e->c, 70000);

            if (!s.n)
                break;
            assert_true(n + s.n <= sizeof(data));
            assert_memory_equal(s.p, data + n, s.n);
            n += s.n;
        }
        assert_int_equal(n, sizeof(data));
        assert_int_equal(conn_err(e->c)->code, E_CLOSED);
    }
    conn_free(&e->c);
    e->done = true;
}

static void masses_arrive_whole(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct end a = {.ok = tls}, b = {.ok = tls, .lines = 1};
        int fd[2], small = 5000; /* so that the socket takes pieces of what it is given */

        pair(fd);
        setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        a.c = conn_new(fd[0]);
        b.c = conn_new(fd[1]);
        assert_true(fiber_spawn(l, "receiver", mass, &a));
        assert_true(fiber_spawn(l, "sender", mass, &b));
        loop_settle(l);
        assert_true(a.done && b.done);
    }
}

static void quiet_watcher(void *arg)
{
    struct end *e = arg;
    struct slice line;

    e->got = conn_read_line(e->c, 100, &line); /* waits: registered from here on */
    e->ok = conn_is_quiet(e->c);
    fiber_sleep(1000); /* the other side writes or closes meanwhile */
    e->interrupted = conn_is_quiet(e->c);
    e->done = true;
}

static void quiet_is_told_by_the_loop(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct end e = {0};
        int fd[2];

        clock_set_virtual(1000, 0);
        pair(fd);
        e.c = conn_new(fd[0]);
        fiber_spawn(l, "watcher", quiet_watcher, &e);
        loop_settle(l);
        put(fd[1], "line\r\n", 6);
        loop_settle(l);
        if (i == 1)
            put(fd[1], "421 bye\r\n", 9);
        if (i == 2)
            close(fd[1]);
        loop_settle(l);
        clock_advance(1000);
        loop_settle(l);
        assert_true(e.done);
        assert_true(e.ok);
        assert_int_equal(e.interrupted, i == 0); /* quiet still */
        conn_free(&e.c);
        if (i < 2)
            close(fd[1]);
    }
}

static void counts_turns(void *arg)
{
    for (unsigned *turns = arg; *turns < 100; ++*turns)
        fiber_yield();
}

struct flood {
    struct end end;
    unsigned *turns, turns_seen;
};

static void floods(void *arg)
{
    struct flood *f = arg;

    while (conn_read_some(f->end.c, 1 << 20).n > 0)
        f->turns_seen = *f->turns;
    f->end.err = *conn_err(f->end.c);
    f->end.done = true;
}

static void a_peer_that_is_always_ready_does_not_own_the_loop(void **state)
{
    static char data[150000];
    (void)state;

    for (int late = 0; late < 2; late++) {
        unsigned turns = 0;
        struct flood f = {.turns = &turns};
        int fd[2];

        clock_set_virtual(1000, 0);
        loop_settle(l);
        pair(fd);
        put(fd[1], data, sizeof(data)); /* all of it is there before the reader begins */
        f.end.c = conn_new(fd[0]);
        conn_set_deadline(f.end.c, 1500);
        close(fd[1]);
        fiber_spawn(l, "other", counts_turns, &turns);
        fiber_spawn(l, "flooded", floods, &f);
        if (late)
            clock_advance(1000); /* it never waits, and still its time is over */
        loop_settle(l);
        assert_true(f.end.done);
        assert_int_equal(f.end.err.code, late ? E_TIMEOUT : E_CLOSED);
        if (!late)
            assert_true(f.turns_seen > 0);
        conn_free(&f.end.c);
    }
}

static void one_line(void *arg)
{
    struct end *e = arg;
    struct slice line;

    fiber_interruptible(true);
    e->got = conn_read_line(e->c, 100, &line);
    e->interrupted = fiber_interrupted();
    fiber_interruptible(false);
    e->ok = e->got == CONN_LINE_OK && conn_start_tls_server(e->c, server_ctx, &e->err);
    e->done = true;
}

static void clear_bytes_behind_starttls_are_refused(void **state)
{
    struct end e = {0};
    int fd[2];
    (void)state;

    pair(fd);
    e.c = conn_new(fd[0]);
    put(fd[1], "STARTTLS\r\nMAIL FROM:<a@b>\r\n", 27);
    fiber_spawn(l, "server", one_line, &e);
    loop_settle(l);
    assert_true(e.done);
    assert_false(e.ok);
    assert_int_equal(e.err.code, E_TLS);
    assert_string_equal(e.err.text, "bytes after STARTTLS");
    assert_true(conn_failed(e.c));
    conn_free(&e.c);
    close(fd[1]);
}

static void garbage_instead_of_a_handshake(void **state)
{
    struct end e = {0};
    int fd[2];
    (void)state;

    pair(fd);
    e.c = conn_new(fd[0]);
    put(fd[1], "STARTTLS\r\n", 10);
    fiber_spawn(l, "server", one_line, &e);
    loop_settle(l);
    assert_false(e.done);
    put(fd[1], "EHLO clear.example\r\n",
        20); /* not yet read when the handshake began: it is TLS then */
    loop_settle(l);
    assert_true(e.done);
    assert_false(e.ok);
    assert_int_equal(e.err.code, E_TLS);
    assert_string_equal(e.err.text, "TLS handshake: wrong version number");
    conn_free(&e.c);
    close(fd[1]);
}

static void end_in_the_middle_of_a_handshake(void **state)
{
    struct end e = {0};
    int fd[2];
    (void)state;

    pair(fd);
    e.c = conn_new(fd[0]);
    put(fd[1], "STARTTLS\r\n", 10);
    fiber_spawn(l, "server", one_line, &e);
    loop_settle(l);
    put(fd[1], "\x16\x03\x01", 3);
    loop_settle(l);
    assert_false(e.done);
    close(fd[1]);
    loop_settle(l);
    assert_true(e.done);
    assert_int_equal(e.err.code, E_CLOSED);
    assert_string_equal(e.err.text, "connection closed during the TLS handshake");
    conn_free(&e.c);
}

static void a_handshake_that_takes_too_long_has_no_last_words(void **state)
{
    struct end e = {0};
    int fd[2];
    char text[100];
    (void)state;

    pair(fd);
    e.c = conn_new(fd[0]);
    put(fd[1], "STARTTLS\r\n", 10);
    fiber_spawn(l, "server", one_line, &e);
    loop_settle(l);
    clock_advance(MINUTES(5));
    loop_settle(l);
    assert_true(e.done);
    assert_int_equal(e.err.code, E_TIMEOUT);
    conn_last_words(e.c, "421 in clear\r\n");
    assert_int_equal(get(fd[1], text, sizeof(text)), 0);
    conn_free(&e.c);
    assert_int_equal(get(fd[1], text, sizeof(text)), 0);
    close(fd[1]);
}

static void a_wait_has_a_timeout_and_a_dialog_a_deadline(void **state)
{
    char text[100];
    (void)state;

    for (int i = 0; i < 2; i++) {
        struct end e = {0};
        int fd[2];

        clock_set_virtual(1000, 0);
        pair(fd);
        e.c = conn_new(fd[0]);
        conn_set_timeout(e.c, SECONDS(60));
        if (i)
            conn_set_deadline(e.c, clock_in(SECONDS(90)));
        fiber_spawn(l, "server", one_line, &e);
        loop_settle(l);
        clock_advance(SECONDS(59));
        loop_settle(l);
        put(fd[1], "half", 4); /* progress: another minute, unless the deadline comes first */
        loop_settle(l);
        clock_advance(SECONDS(30));
        loop_settle(l);
        assert_false(e.done);
        clock_advance(i ? SECONDS(1) : SECONDS(30));
        loop_settle(l);
        assert_true(e.done);
        assert_int_equal(e.got, CONN_LINE_FAILED);
        assert_int_equal(conn_err(e.c)->code, E_TIMEOUT);
        assert_string_equal(conn_err(e.c)->text, i ? "the time for this dialog is over"
                                                   : "nothing received for 60 seconds");
        conn_last_words(e.c, "421 %s\r\n", "bye");
        get(fd[1], text, sizeof(text));
        assert_string_equal(text, "421 bye\r\n");
        conn_free(&e.c);
        close(fd[1]);
    }
}

static void shutdown_interrupts_a_wait_between_commands(void **state)
{
    struct end e = {0};
    int fd[2];
    char text[100];
    (void)state;

    pair(fd);
    e.c = conn_new(fd[0]);
    fiber_spawn(l, "server", one_line, &e);
    loop_settle(l);
    fibers_stop();
    loop_settle(l);
    fibers_stop_undo();
    assert_true(e.done);
    assert_true(e.interrupted);
    assert_int_equal(conn_err(e.c)->code, E_CLOSED);
    assert_string_equal(conn_err(e.c)->text, "shutting down");
    conn_last_words(e.c, "421 shutting down\r\n");
    get(fd[1], text, sizeof(text));
    assert_string_equal(text, "421 shutting down\r\n");
    conn_free(&e.c);
    close(fd[1]);
}

static int setup(void **state)
{
    struct tls_settings s = {.server = true};
    struct err err = {0};

    (void)state;
    cert = test_cert_new("mx.example.org", 0);
    s.cert_pem = cert.cert;
    s.key_pem = cert.key;
    server_ctx = tls_context_new(&s, &err);
    client_ctx = tls_context_new(&(struct tls_settings){0}, &err);
    if (!server_ctx || !client_ctx) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    clock_set_virtual(1000, 0);
    l = loop_new(0);
    loop_settle(l);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_free(&l);
    tls_context_free(&server_ctx);
    tls_context_free(&client_ctx);
    test_cert_free(&cert);
    return 0;
}

/* ---- several addresses ---- */

/* A listener on a loopback address; full: it answers nobody any more. */
static int listener_at(const char *ip, unsigned *port, bool full)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    assert_int_equal(inet_pton(AF_INET, ip, &a.sin_addr), 1);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, full ? 0 : 10), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    for (int i = 0; full && i < 3; i++) { /* they stay where they are: in the queue, or in front of it */
        int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)!connect(c, (struct sockaddr *)&a, sizeof(a));
    }
    return fd;
}

struct racing {
    struct addr a[3];
    unsigned n, which;
    struct conn *conn;
    struct err err;
    bool done;
};

static void race(void *arg)
{
    struct racing *r = arg;
    const struct addr *to[] = {&r->a[0], &r->a[1], &r->a[2]};

    r->conn = conn_connect_first(to, r->n, NULL, clock_in(SECONDS(30)), &r->which, &r->err);
    r->done = true;
}

static void add_address(struct racing *r, const char *ip, unsigned port)
{
    assert_true(addr_parse(ip, &r->a[r->n]));
    r->a[r->n++].port = (uint16_t)port;
}

static void run_race(struct racing *r, msec_t patience)
{
    assert_true(fiber_spawn(l, "race", race, r));
    loop_settle(l);
    for (msec_t t = 0; t < patience && !r->done; t += 10) {
        clock_advance(10);
        loop_settle(l);
    }
}

static void the_first_address_that_answers_is_taken(void **state)
{
    struct racing silent = {0}, refused = {0}, none = {0}, quick = {0};
    unsigned port = 0;
    int hole = listener_at("127.0.0.2", &port, true), well = listener_at("127.0.0.3", &port, false);

    (void)state;
    clock_set_virtual(1000, 1);
    /* nothing from the first: the second begins a quarter of a second later */
    add_address(&silent, "127.0.0.2", port);
    add_address(&silent, "127.0.0.3", port);
    run_race(&silent, 240);
    assert_false(silent.done);
    for (int i = 0; i < 5 && !silent.done; i++) {
        clock_advance(10);
        loop_settle(l);
    }
    assert_non_null(silent.conn);
    assert_int_equal(silent.which, 1);
    conn_free(&silent.conn);
    /* a refusal is no reason to wait */
    add_address(&refused, "127.0.0.4", port);
    add_address(&refused, "127.0.0.3", port);
    run_race(&refused, 20);
    assert_non_null(refused.conn);
    assert_int_equal(refused.which, 1);
    conn_free(&refused.conn);
    /* the first is first when it answers */
    add_address(&quick, "127.0.0.3", port);
    add_address(&quick, "127.0.0.2", port);
    run_race(&quick, 20);
    assert_int_equal(quick.which, 0);
    assert_non_null(quick.conn);
    conn_free(&quick.conn);
    /* nobody answers before the deadline */
    add_address(&none, "127.0.0.2", port);
    add_address(&none, "127.0.0.4", port);
    run_race(&none, 29900);
    assert_false(none.done);
    for (int i = 0; i < 20 && !none.done; i++) {
        clock_advance(10);
        loop_settle(l);
    }
    assert_true(none.done);
    assert_null(none.conn);
    assert_int_equal(none.err.code, E_TIMEOUT);
    clock_set_real();
    close(hole);
    close(well);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_crlf_and_a_bare_lf_is_told),
        cmocka_unit_test(a_long_line_is_skipped_to_its_end),
        cmocka_unit_test(a_long_line_that_is_allowed_is_read_whole),
        cmocka_unit_test(lines_survive_the_borders_of_buffers),
        cmocka_unit_test(the_end_is_told_from_a_reset),
        cmocka_unit_test(output_gathers_until_input_runs_dry),
        cmocka_unit_test(peek_and_consume_take_what_is_there),
        cmocka_unit_test(timeouts_outside_a_fiber_follow_the_virtual_clock),
        cmocka_unit_test(quiet_means_nothing_to_read_and_no_end),
        cmocka_unit_test(output_that_was_cut_off_is_not_followed_by_anything),
        cmocka_unit_test(clear_echo),
        cmocka_unit_test(tls_echo_and_resumption),
        cmocka_unit_test(masses_arrive_whole),
        cmocka_unit_test(quiet_is_told_by_the_loop),
        cmocka_unit_test(a_peer_that_is_always_ready_does_not_own_the_loop),
        cmocka_unit_test(clear_bytes_behind_starttls_are_refused),
        cmocka_unit_test(garbage_instead_of_a_handshake),
        cmocka_unit_test(end_in_the_middle_of_a_handshake),
        cmocka_unit_test(a_handshake_that_takes_too_long_has_no_last_words),
        cmocka_unit_test(a_wait_has_a_timeout_and_a_dialog_a_deadline),
        cmocka_unit_test(the_first_address_that_answers_is_taken),
        cmocka_unit_test(shutdown_interrupts_a_wait_between_commands),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
