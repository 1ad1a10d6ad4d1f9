/* Who is connected: counted by address and listener, forgotten with the last connection. */
#include "daemon/connstats.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct addr ip(const char *text)
{
    struct addr a;

    assert_true(addr_parse(text, &a));
    return a;
}

static void counted(void **state)
{
    struct addr a = ip("192.0.2.1"), b = ip("2001:db8::2");
    struct conn_host *h[7];
    struct conn_count top[10];

    (void)state;
    assert_int_equal(connstats_top(top, 10), 0);
    h[0] = connstats_enter("InboundMail", &a, NULL);
    h[1] = connstats_enter("InboundMail", &a, "mail.example.com");
    h[2] = connstats_enter("OutboundMail", &a, NULL);
    for (unsigned i = 3; i < 7; i++)
        h[i] = connstats_enter("InboundMail", &b, NULL);
    assert_ptr_equal(h[0], h[1]);
    assert_int_equal(connstats_top(top, 10), 3);
    assert_int_equal(top[0].connections, 4);
    assert_int_equal(top[0].addr.family, b.family);
    assert_int_equal(top[1].connections, 2);
    assert_string_equal(top[1].name, "mail.example.com");
    assert_string_equal(top[2].listener, "OutboundMail");
    assert_int_equal(connstats_top(top, 1), 1); /* no more than there is room for */
    assert_int_equal(top[0].connections, 4);
    for (unsigned i = 3; i < 7; i++)
        connstats_leave(h[i]);
    assert_int_equal(connstats_top(top, 10), 2);
    assert_int_equal(top[0].connections, 2);
    for (unsigned i = 0; i < 3; i++)
        connstats_leave(h[i]);
    assert_int_equal(connstats_top(top, 10), 0);
}

static void bounded(void **state)
{
    enum { MANY = 5000 };
    struct conn_host **h = xcalloc(MANY, sizeof(struct conn_host *));
    static struct conn_count top[20];
    char text[40];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        struct addr a;

        snprintf(text, sizeof(text), "10.1.%u.%u", i / 256, i % 256);
        a = ip(text);
        h[i] = connstats_enter("InboundMail", &a, NULL);
    }
    assert_int_equal(connstats_top(top, 20), 20);
    for (unsigned i = 0; i < MANY; i++)
        connstats_leave(h[i]);
    assert_int_equal(connstats_top(top, 20), 0);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counted),
        cmocka_unit_test(bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
