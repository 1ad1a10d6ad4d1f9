/* The client's dialog under virtual time: a server that takes everything and never says so. */
#include "daemon/smtp_client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/message.h"
#include "daemon/queue.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct loop *l;
static char dir[64];

struct dialog {
    int fd;
    bool possible, done, answered;
    struct message *m;
    struct rcpt_result results[2];
};

static void run(void *arg)
{
    static const unsigned rids[] = {0, 1};
    struct dialog *d = arg;
    struct addr peer = {0}, local;
    struct smtp_reply reply;
    struct err err = {0};
    struct client *c = client_greet(conn_new(d->fd), "mx.example", &peer, 0, NEVER,
                                    &local, &reply, &err);

    assert_non_null(c);
    assert_true(client_hello(c, "gw.example", &err));
    c->possible_delivery = d->possible;
    d->answered = client_transaction(c, d->m, d->m->sender, rids, 2, d->results, &err);
    c->closing = true;
    client_free(&c);
    d->done = true;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    loop_settle(l);
}

static struct message *message(void)
{
    struct message *m = message_new();
    struct body_writer *w = body_create();

    m->mid = 7;
    m->sender = message_text(m, "a@example.org");
    message_add_rcpt(m, "x@example.com", NULL, 0);
    message_add_rcpt(m, "y@example.com", NULL, 0);
    assert_true(body_append(w, "Subject: x\r\n\r\ntext\r\n", 20, NULL));
    m->body = body_finish(&w, NULL);
    assert_non_null(m->body);
    return m;
}

/* y is refused; the text is taken and nothing is said of it. */
static void silent_server(bool possible, enum outcome of_x)
{
    struct dialog d = {.possible = possible, .m = message()};
    int fd[2];

    clock_set_virtual(1000, 1000);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    d.fd = fd[0];
    assert_true(fiber_spawn(l, "client", run, &d));
    loop_settle(l);
    say(fd[1], "220 hello\r\n");
    say(fd[1], "250-mx.example\r\n250 PIPELINING\r\n");
    say(fd[1], "250 ok\r\n250 ok\r\n550 5.1.1 nobody\r\n354 go on\r\n");
    clock_advance(MINUTES(9));
    loop_settle(l);
    assert_false(d.done);
    clock_advance(MINUTES(2));
    loop_settle(l);
    assert_true(d.done);
    assert_true(d.answered); /* no other host gets it now */
    assert_int_equal(d.results[0].outcome, of_x);
    assert_int_equal(d.results[1].outcome, OUTCOME_FAILED);
    assert_int_equal(d.results[1].code, 550);
    free(d.results[0].text);
    free(d.results[1].text);
    message_free(&d.m);
    close(fd[1]);
    clock_set_real();
}

static void no_word_is_no_delivery(void **state)
{
    (void)state;
    silent_server(false, OUTCOME_RETRY);
}

static void possible_delivery_takes_silence_for_a_yes(void **state)
{
    (void)state;
    silent_server(true, OUTCOME_DONE);
}

/* What breaks off is never taken for a yes. */
static void a_broken_line_is_none(void **state)
{
    struct dialog d = {.possible = true, .m = message()};
    int fd[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    d.fd = fd[0];
    assert_true(fiber_spawn(l, "client", run, &d));
    loop_settle(l);
    say(fd[1], "220 hello\r\n");
    say(fd[1], "250-mx.example\r\n250 PIPELINING\r\n");
    say(fd[1], "250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n");
    close(fd[1]);
    loop_settle(l);
    assert_true(d.done);
    assert_int_equal(d.results[0].outcome, OUTCOME_RETRY);
    assert_int_equal(d.results[1].outcome, OUTCOME_RETRY);
    free(d.results[0].text);
    free(d.results[1].text);
    message_free(&d.m);
}

/* A server whose replies do not fit what was asked: nobody's mail is taken for delivered, nor for refused. The line is
 * given up, and another host may have the mail unless this one has all of the text. */
static void out_of_step(const char *extensions, const char *const *replies, bool answered)
{
    struct dialog d = {.m = message()};
    int fd[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    d.fd = fd[0];
    assert_true(fiber_spawn(l, "client", run, &d));
    loop_settle(l);
    say(fd[1], "220 hello\r\n");
    say(fd[1], extensions);
    for (; *replies; replies++)
        say(fd[1], *replies);
    assert_true(d.done);
    assert_int_equal(d.answered, answered);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(d.results[i].outcome, OUTCOME_RETRY);
        assert_int_equal(d.results[i].code, answered ? -1 : 0);
        free(d.results[i].text);
    }
    message_free(&d.m);
    close(fd[1]);
}

#define REPLIES(...) (const char *const[]){__VA_ARGS__, NULL}

static void replies_out_of_step_decide_nothing(void **state)
{
    static const char piped[] = "250-mx.example\r\n250 PIPELINING\r\n", plain[] = "250 mx.example\r\n";

    (void)state;
    out_of_step(piped, REPLIES("250 ok\r\n250 ok\r\n250 ok\r\n250 queued\r\n"), false); /* DATA */
    out_of_step(plain, REPLIES("250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 queued\r\n"), false);
    out_of_step(piped, REPLIES("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go on\r\n"), false); /* one too many */
    out_of_step(plain, REPLIES("250 ok\r\n550 5.1.1 whom?\r\n", "250 ok\r\n", "250 ok\r\n"), false);
    out_of_step(piped, REPLIES("354 go on\r\n250 ok\r\n250 ok\r\n354 go on\r\n"), false); /* MAIL */
    out_of_step(piped, REPLIES("250 ok\r\n354 go on\r\n250 ok\r\n354 go on\r\n"), false); /* RCPT */
    out_of_step(piped, REPLIES("250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 queued\r\n"), false); /* before the dot */
    out_of_step(piped, REPLIES("250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n", "354 go on\r\n"), true); /* the dot */
    out_of_step("250 mx.example\r\n250 ok\r\n", REPLIES(NULL), false); /* before MAIL */
}

static int setup(void **state)
{
    struct err err = {0};

    (void)state;
    strcpy(dir, "/tmp/postern-unit.XXXXXX");
    if (!mkdtemp(dir) || !spool_open(dir, &err))
        return -1;
    spool_ready(true);
    l = loop_new(0);
    loop_settle(l);
    return 0;
}

static int teardown(void **state)
{
    char *remove = xasprintf("rm -rf %s", dir);

    (void)state;
    loop_free(&l);
    spool_close();
    if (system(remove) != 0)
        return -1;
    free(remove);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_word_is_no_delivery),
        cmocka_unit_test(possible_delivery_takes_silence_for_a_yes),
        cmocka_unit_test(a_broken_line_is_none),
        cmocka_unit_test(replies_out_of_step_decide_nothing),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
