/* check_fixture.h - what the tests of store/check*.c begin with: the factory's configuration, statements on top of it, and what
 * the rules are to say of them. */
#ifndef POSTERN_TESTS_CHECK_FIXTURE_H
#define POSTERN_TESTS_CHECK_FIXTURE_H

#include <string.h>

#include "store/check.h"
#include "store/factory.h"
#include "store/text.h"
#include "store/x509.h"
#include "tests/unit/cm.h"

static struct config *base;

static int make_base(void **state)
{
    struct x509_request request = {.common_name = "demo.example", .days = 10, .algorithm = "p256"};
    struct buf cert = BUF_INIT(1 << 16), key = BUF_INIT(1 << 16);
    struct err err;

    (void)state;
    if (!x509_make_self_signed(&request, &cert, &key, NULL, &err))
        return -1;
    base = factory_config(&(struct factory){.home = "/h",
                                            .hostname = "gw.example.com",
                                            .demo_cert = buf_str(&cert),
                                            .demo_key = "sealed:1:2"});
    buf_free(&cert);
    buf_free(&key);
    return 0;
}

static int drop_base(void **state)
{
    (void)state;
    config_free(&base);
    return 0;
}

static struct config *with(const char *statements)
{
    struct config_edits e = {0};
    struct err err = {0};
    struct config *c;

    if (!text_import(statements, strlen(statements), base, false, NULL, &e, &err))
        fail_msg("%s", err.text);
    c = config_edit(base, e.items, e.n, 2);
    config_edits_free(&e);
    return c;
}

/* object NULL: all is well. The rules must find it in the whole and in the change. */
static void expect(const char *statements, const char *object, const char *field, const char *text)
{
    struct config *c = with(statements);

    for (int whole = 0; whole < 2; whole++) {
        struct check check = {0};
        bool found = false;

        check_config(c, whole ? NULL : base, &check);
        for (size_t i = 0; object && i < check.n; i++)
            found = found || (str_eq(check.items[i].object, object) &&
                              (!field || str_eq(check.items[i].field, field)) &&
                              strstr(check.items[i].text, text));
        if (object ? !check.errors || (!whole && !found) : check.errors)
            fail_msg("%s (%s): %zu errors, the first: %s: %s", statements,
                     whole ? "whole" : "change", check.errors, check.n ? check.items[0].object : "",
                     check.n ? check.items[0].text : "");
        check_free(&check);
    }
    config_free(&c);
}

#endif
