/* test_served.c - the look at our own listeners: what is as configured is silent, what is not
 * raises an alert. */
#include "daemon/served.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/reload.h"
#include "daemon/tls.h"
#include "store/base/buf.h"
#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

static struct test_cert ec, rsa, stranger;
static struct tls_context *context; /* what the listener shows */
static struct config *config;
static char said[1000];
static atomic_int looks, strangers;
static int listening;
static unsigned port;
static pthread_t thread;

void alert_raise(enum alert_class class, enum alert_severity severity, const char *key,
                 const char *fmt, ...)
{
    va_list ap;

    assert_int_equal(class, ALERT_SYSTEM);
    (void)severity;
    assert_string_equal(key, "served InboundMail");
    va_start(ap, fmt);
    vsnprintf(said, sizeof(said), fmt, ap);
    va_end(ap);
}

struct config *running_config(void)
{
    return config_ref(config);
}

struct tls_context *running_tls_server(const char *listener)
{
    assert_string_equal(listener, "InboundMail");
    return context ? tls_context_ref(context) : NULL;
}

static void *accept_all(void *unused)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr peer;
    int fd;

    while ((fd = accept4(listening, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK)) >= 0) {
        addr_from_sockaddr(&peer, &ss);
        if (served_is_own(&peer)) {
            atomic_fetch_add(&looks, 1);
            served_answer(fd, "InboundMail");
        } else {
            atomic_fetch_add(&strangers, 1);
            close(fd);
        }
        len = sizeof(ss);
    }
    return unused;
}

static void configure(bool tls, const char *further)
{
    static const char *const names[] = {"ec", "rsa"};
    const char *pems[] = {ec.cert, rsa.cert};
    struct config_edits e = {0};
    struct row *l = row_new(&section_listener, "InboundMail");
    char number[12];

    config_free(&config);
    snprintf(number, sizeof(number), "%u", port);
    assert_true(row_set(l, "address", "0.0.0.0", NULL) && row_set(l, "port", number, NULL) &&
                row_set(l, "tls", tls ? "preferred" : "off", NULL) &&
                row_set(l, "certificate", "ec", NULL) && row_set(l, "certificates", further, NULL));
    row_freeze(l);
    config_edits_put(&e, &section_listener, "InboundMail", l);
    for (size_t i = 0; i < countof(names); i++) {
        struct row *r = row_new(&section_certificate, names[i]);

        assert_true(row_set(r, "certificate", pems[i], NULL));
        row_freeze(r);
        config_edits_put(&e, &section_certificate, names[i], r);
    }
    config = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
}

static void show(const struct test_cert *first, const struct test_cert *further)
{
    struct tls_certificate more = {further ? further->cert : NULL, further ? further->key : NULL};
    struct tls_settings s = {.server = true,
                             .cert_pem = first->cert,
                             .key_pem = first->key,
                             .more = &more,
                             .n_more = further != NULL};

    tls_context_free(&context);
    context = tls_context_new(&s, NULL);
    assert_non_null(context);
    said[0] = '\0';
    atomic_store(&looks, 0);
    served_check_all();
}

static void as_configured_it_is_silent(void **state)
{
    (void)state;
    configure(true, "");
    show(&ec, NULL);
    assert_string_equal(said, "");
    assert_int_equal(atomic_load(&looks), 1);
    configure(true, "rsa");
    show(&ec, &rsa);
    assert_string_equal(said, "");
    assert_int_equal(atomic_load(&looks), 3); /* without a name, and each by its own */
    configure(false, "");
    show(&stranger, NULL); /* nobody is ever shown it */
    assert_int_equal(atomic_load(&looks), 0);
}

static void another_certificate_is_told(void **state)
{
    (void)state;
    configure(true, "");
    show(&stranger, NULL);
    assert_non_null(strstr(said, "The listener InboundMail (127.0.0.1:"));
    assert_non_null(strstr(said, "shows a certificate that is not configured for it: "
                                 "CN=stranger.example, SHA-256 fingerprint "));
}

static void a_handshake_that_fails_is_told(void **state)
{
    (void)state;
    configure(true, "rsa");
    show(&ec, NULL); /* there is no RSA key for the client that asks for it */
    assert_non_null(strstr(said, "does not complete a TLS handshake: "));
}

static void only_our_own_connections_are_answered(void **state)
{
    struct addr to = {
        .family = AF_INET, .port = port, .ip = {127, 0, 0, 1}
    };
    struct sockaddr_storage ss;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    (void)state;

    assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)), 0);
    assert_int_equal(read(fd, &byte, 1), 0);
    assert_int_equal(atomic_load(&strangers), 1);
    close(fd);
}

static int set_up(void **state)
{
    struct addr any = {.family = AF_INET};
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    (void)state;

    ec = test_cert_named("ec.example", "DNS:ec.example", 0, 0, 10);
    rsa = test_cert_named("rsa.example", "DNS:*.rsa.example", 2048, 0, 10);
    stranger = test_cert_named("stranger.example", NULL, 0, 0, 10);
    listening = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listening, (struct sockaddr *)&ss, addr_to_sockaddr(&any, &ss)) != 0 ||
        listen(listening, 5) != 0 || getsockname(listening, (struct sockaddr *)&ss, &len) != 0)
        return -1;
    addr_from_sockaddr(&any, &ss);
    port = any.port;
    return pthread_create(&thread, NULL, accept_all, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    shutdown(listening, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listening);
    config_free(&config);
    tls_context_free(&context);
    test_cert_free(&ec);
    test_cert_free(&rsa);
    test_cert_free(&stranger);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_configured_it_is_silent),
        cmocka_unit_test(another_certificate_is_told),
        cmocka_unit_test(a_handshake_that_fails_is_told),
        cmocka_unit_test(only_our_own_connections_are_answered),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
