/* daemon/ports: both ends of the socket pair, the parent's in a thread of its own. */
#include "tests/unit/cm.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/listeners.h"
#include "daemon/ports.h"
#include "store/base/net.h"

static bool ready_seen;

static void *parent(void *arg)
{
    int fd = *(int *)arg;
    char text[256];
    ssize_t n;

    while ((n = recv(fd, text, sizeof(text), 0)) > 0)
        ready_seen = ports_serve(fd, text, (size_t)n) || ready_seen;
    return NULL;
}

static unsigned port_of(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr a;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    addr_from_sockaddr(&a, &ss);
    return a.port;
}

/* A port that was free a moment ago; somebody else may take it, so callers try again. */
static unsigned free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    unsigned port;

    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    port = port_of(fd);
    close(fd);
    return port;
}

static int bind_some_port(unsigned *port, struct err *e)
{
    int fd = -1;

    for (int i = 0; i < 20 && fd < 0; i++) {
        *port = free_port();
        fd = supervisor_bind("127.0.0.1", *port, 16, e);
    }
    return fd;
}

static void check_binding(void)
{
    struct err e = {0};
    unsigned port;
    int fd = bind_some_port(&port, &e), client, accepts = 0;
    socklen_t len = sizeof(accepts);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

    if (fd < 0)
        fail_msg("%s", e.text);
    assert_int_equal(port_of(fd), port);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len), 0);
    assert_true(accepts);

    assert_int_equal(supervisor_bind("127.0.0.1", port, 16, &e), -1);
    assert_int_equal(e.code, E_BUSY);
    assert_non_null(strstr(e.text, "in use"));
    assert_int_equal(supervisor_bind("203.0.113.77", port, 16, &e), -1);
    assert_int_equal(e.code, E_INVALID);
    assert_string_equal(e.text, "This machine has no address 203.0.113.77");
    assert_int_equal(supervisor_bind("127.0.0.1", 0, 16, &e), -1);
    assert_int_equal(supervisor_bind("127.0.0.1", 65536, 16, &e), -1);
    assert_int_equal(supervisor_bind("mail.example", 25, 16, &e), -1);
    assert_int_equal(e.code, E_INVALID);

    in.sin_port = htons((unsigned short)port);
    client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&in, sizeof(in)), 0);
    close(client);
    close(fd);
}

static void without_a_parent_sockets_are_bound_here(void **state)
{
    (void)state;
    check_binding();
}

static void the_parent_binds_and_passes_sockets(void **state)
{
    pthread_t thread;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    pthread_create(&thread, NULL, parent, &pair[0]);
    ports_attach(pair[1]);
    check_binding();
    ports_ready();
    shutdown(pair[1], SHUT_WR);
    pthread_join(thread, NULL);
    assert_true(ready_seen);
    ports_attach(-1);
    close(pair[0]);
    close(pair[1]);
}

static void the_parent_refuses_anything_else(void **state)
{
    static const char *const requests[] = {
        "bind 127.0.0.1:25",       "bind 127.0.0.1 16",   "bind 127.0.0.1:x 16", "bind x:25 16",
        "bind 127.0.0.1:2525 16x", "bind 127.0.0.1:0 16", "BIND 127.0.0.1:1 1",  "exec /bin/sh",
        "ready ",
    };
    char text[300], longer[250];
    int pair[2];
    ssize_t n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        assert_false(ports_serve(pair[0], requests[i], strlen(requests[i])));
        n = recv(pair[1], text, sizeof(text) - 1, MSG_DONTWAIT);
        assert_true(n > 0);
        text[n] = '\0';
        assert_string_equal(text, "error 22");
    }
    memset(longer, '1', sizeof(longer));
    assert_false(ports_serve(pair[0], longer, sizeof(longer)));
    assert_true(recv(pair[1], text, sizeof(text), MSG_DONTWAIT) > 0);
    close(pair[0]);
    close(pair[1]);
}

static void a_dead_parent_is_an_error(void **state)
{
    struct err e = {0};
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    close(pair[0]);
    ports_attach(pair[1]);
    assert_int_equal(supervisor_bind("127.0.0.1", 2525, 16, &e), -1);
    assert_int_equal(e.code, E_IO);
    ports_ready();
    ports_attach(-1);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_parent_sockets_are_bound_here),
        cmocka_unit_test(the_parent_binds_and_passes_sockets),
        cmocka_unit_test(the_parent_refuses_anything_else),
        cmocka_unit_test(a_dead_parent_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
