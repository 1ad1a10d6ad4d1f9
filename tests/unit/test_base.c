/* The helpers of store/base: what their headers promise. */
#include "tests/unit/cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/arena.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/home.h"
#include "store/base/json.h"
#include "store/base/list.h"
#include "store/base/log.h"
#include "store/base/map.h"
#include "store/base/str.h"

static void errors_grow_from_the_inside_out(void **state)
{
    struct err e = {0};

    (void)state;
    assert_false(err_set(&e, E_DNS, "no answer in %d s", 5));
    assert_false(err_wrap(&e, "looking up MX for %s", "example.org"));
    assert_string_equal(e.text, "looking up MX for example.org: no answer in 5 s");
    assert_int_equal(e.code, E_DNS);
    assert_false(err_errno(&e, ENOENT, "opening %s", "x"));
    assert_string_equal(e.text, "opening x: No such file or directory");
    assert_int_equal(e.code, E_IO);
    assert_false(err_set(NULL, E_IO, "nobody listens"));
    assert_false(err_wrap(NULL, "nobody"));
}

static void error_texts_may_come_from_themselves(void **state)
{
    struct err e = {0};

    (void)state;
    err_set(&e, E_IO, "inner");
    err_set(&e, E_NET, "outer (%s)", e.text);
    assert_string_equal(e.text, "outer (inner)");
}

static void long_errors_are_cut_between_characters(void **state)
{
    struct err e = {0};
    char text[700];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) /* e-acute twice as often as fits */
        text[i] = i % 2 ? (char)0xA9 : (char)0xC3;
    text[sizeof(text) - 1] = '\0';
    err_set(&e, E_IO, "%s", text);
    assert_int_equal(strlen(e.text), sizeof(e.text) - 2); /* 479 bytes fit, 478 are whole */
    assert_true(str_is_utf8(e.text, strlen(e.text)));
    for (int i = 0; i < 50; i++)
        err_wrap(&e, "step %d %s", i, text);
    assert_true(strlen(e.text) < sizeof(e.text));
}

static void error_codes_have_names_and_exit_codes(void **state)
{
    (void)state;
    assert_string_equal(err_code_name(E_NOT_FOUND), "E_NOT_FOUND");
    assert_string_equal(err_code_name(E_LIMIT), "E_LIMIT");
    assert_int_equal(err_exit_code(E_NONE), 0);
    assert_int_equal(err_exit_code(E_USAGE), 2);
    assert_int_equal(err_exit_code(E_INVALID), 3);
    assert_int_equal(err_exit_code(E_DENIED), 4);
    assert_int_equal(err_exit_code(E_CONFLICT), 5);
    assert_int_equal(err_exit_code(E_BUSY), 6);
    assert_int_equal(err_exit_code(E_NOT_FOUND), 7);
    assert_int_equal(err_exit_code(E_EXISTS), 8);
    assert_int_equal(err_exit_code(E_CLOSED), 9);
    assert_int_equal(err_exit_code(E_TIMEOUT), 11);
    assert_int_equal(err_exit_code((enum err_code)999), 1);
    assert_string_equal(err_code_name((enum err_code)999), "E_UNKNOWN");
}

static void a_buffer_never_exceeds_its_maximum(void **state)
{
    AUTO(buf) struct buf b = BUF_INIT(10);

    (void)state;
    assert_string_equal(buf_str(&b), "");
    buf_str_add(&b, "12345678");
    buf_str_add(&b, "abc");
    assert_true(b.full);
    assert_string_equal(buf_str(&b), "12345678");
    buf_char(&b, '9');
    buf_char(&b, '0');
    assert_string_equal(buf_str(&b), "1234567890");
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_reset(&b);
    assert_false(b.full);
    buf_printf(&b, "%s", "this is too long");
    assert_true(b.full);
    assert_int_equal(b.n, 0);
}

static void a_buffer_formats_long_texts_and_drops_from_the_front(void **state)
{
    AUTO(buf) struct buf b = BUF_INIT(100000);
    char *taken, *to;

    (void)state;
    buf_printf(&b, "%0*d|", 5000, 7);
    assert_int_equal(b.n, 5001);
    assert_int_equal(b.p[4999], '7');
    buf_drop(&b, 4999);
    assert_string_equal(buf_str(&b), "7|");
    to = buf_reserve(&b, 3);
    memcpy(to, "abc", 3);
    b.n += 3;
    assert_string_equal(buf_str(&b), "7|abc");
    taken = buf_take(&b);
    assert_string_equal(taken, "7|abc");
    free(taken);
    assert_string_equal(buf_str(&b), "");
    taken = buf_take(&b);
    assert_string_equal(taken, "");
    free(taken);
    buf_drop(&b, 5);
    assert_int_equal(b.n, 0);
}

static void an_arena_zeroes_and_aligns(void **state)
{
    struct arena a = {0};
    char *first, *text;

    (void)state;
    for (size_t n = 1; n < 300; n++) {
        unsigned char *p = arena_alloc(&a, n);

        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    first = arena_strdup(&a, "first");
    arena_alloc(&a, 200000); /* larger than any block */
    text = arena_printf(&a, "%s-%d", "x", 42);
    assert_string_equal(text, "x-42");
    assert_string_equal(arena_slice(&a, (struct slice){"abcdef", 3}), "abc");
    assert_string_equal(arena_slice(&a, (struct slice){NULL, 0}), "");
    assert_string_equal(first, "first");
    assert_true(a.used > 200000);
    arena_free(&a);
    assert_int_equal(a.used, 0);
    assert_string_equal(arena_strdup(&a, "again"), "again");
    arena_free(&a);
}

static void strings_compare_and_trim(void **state)
{
    char small[4], spaces[] = " \t two words \r\n", upper[] = "MiXeD-\xC3\x84";

    (void)state;
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq("a", NULL));
    assert_true(str_ieq("ExAmple", "eXaMPLE"));
    assert_false(str_ieq("a", NULL));
    assert_false(str_ieq("[", "{")); /* 0x20 apart, but no letters */
    assert_true(str_icmp("abc", "ABD") < 0);
    assert_true(str_starts("STARTTLS", "START"));
    assert_false(str_starts("ST", "START"));
    assert_true(str_istarts("starttls", "START"));
    assert_true(str_ends("a.example.com", ".com"));
    assert_false(str_ends("com", ".com"));
    assert_int_equal(str_copy(small, sizeof(small), "abcdef"), 3);
    assert_string_equal(small, "abc");
    assert_string_equal(str_trim(spaces), "two words");
    str_lower(upper);
    assert_string_equal(upper, "mixed-\xC3\x84");
    assert_true(slice_eq((struct slice){"abcd", 3}, "abc"));
    assert_false(slice_eq((struct slice){"abcd", 3}, "abcd"));
    assert_true(slice_ieq(slice_of("HeLo"), "hElO"));
    assert_true(slice_eq((struct slice){NULL, 0}, ""));
}

static void utf8_is_checked_as_the_standard_says(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"plain", true},
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", true},
        {"\xF4\x8F\xBF\xBF", true},
        {"\xC0\x80", false},         /* overlong NUL */
        {"\xC1\xBF", false},         /* overlong */
        {"\xE0\x80\x80", false},     /* overlong */
        {"\xED\xA0\x80", false},     /* surrogate */
        {"\xF0\x80\x80\x80", false}, /* overlong */
        {"\xF4\x90\x80\x80", false}, /* above U+10FFFF */
        {"\xFF", false},
        {"\x80", false},
        {"\xE2\x82", false}, /* cut */
        {"a\xE2\x28\xA1", false},
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_int_equal(str_is_utf8(cases[i].text, strlen(cases[i].text)), cases[i].good);
    assert_false(str_is_utf8("a\0b", 3));
    assert_true(str_is_utf8("", 0));
}

static void untrusted_text_is_escaped(void **state)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"Gr\xC3\xBC\xC3\x9F" "e", "Gr\xC3\xBC\xC3\x9F" "e"},
        {"\033[31mred\r\n", "\\x1B[31mred\\x0D\\x0A"},
        {"a\\b", "a\\x5Cb"},
        {"\x7f", "\\x7F"},
        {"\xC2\x9B" "2J", "\\u{9B}2J"},            /* C1 control */
        {"\xE2\x80\xAE" "gpj.exe", "\\u{202E}gpj.exe"}, /* bidi override */
        {"\xE2\x81\xA6x", "\\u{2066}x"},
        {"\xE2\x80\x8B", "\\u{200B}"},
        {"\xEF\xBB\xBF", "\\u{FEFF}"},
        {"\xF3\xA0\x81\x81", "\\u{E0041}"},        /* tag character */
        {"ok\xFF\xC3", "ok\\xFF\\xC3"},
    };
    const char *kept = NULL;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        AUTO(buf) struct buf b = BUF_INIT(1000);

        str_escape(&b, cases[i].text, strlen(cases[i].text));
        assert_string_equal(buf_str(&b), cases[i].shown);
        if (i == 3)
            kept = str_printable(cases[i].text);
        else
            assert_string_equal(str_printable(cases[i].text), cases[i].shown);
    }
    {
        AUTO(buf) struct buf once = BUF_INIT(1000), twice = BUF_INIT(1000);

        str_escape(&once, "a\\b\033\xFF", 5);
        str_escape_again(&twice, once.p, once.n);
        assert_string_equal(buf_str(&twice), "a\\x5Cb\\x1B\\xFF");
        str_escape_again(&twice, "\r\\", 2);
        assert_string_equal(buf_str(&twice), "a\\x5Cb\\x1B\\xFF\\x0D\\");
    }
    kept = str_printable("first");
    str_printable("second");
    assert_string_equal(kept, "first"); /* several may stand in one call */
}

static void long_untrusted_text_is_cut(void **state)
{
    static char text[3000];

    (void)state;
    memset(text, '\001', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(strlen(str_printable(text)), 1023);
}

static void lists_of_strings_split_sort_and_join(void **state)
{
    AUTO(strlist) struct strlist l = {0}, copy = {0};
    AUTO(buf) struct buf out = BUF_INIT(100);

    (void)state;
    strlist_split(&l, " b , a,, c ,", ',');
    assert_int_equal(l.n, 3);
    strlist_copy(&copy, &l);
    strlist_sort(&l);
    strlist_join(&l, "; ", &out);
    assert_string_equal(buf_str(&out), "a; b; c");
    assert_string_equal(copy.items[0], "b");
    assert_true(strlist_has(&copy, "c"));
    assert_false(strlist_has(&copy, "C"));
    strlist_free(&l);
    assert_int_equal(l.n, 0);
    strlist_sort(&l);
}

static void a_map_keeps_what_it_is_given(void **state)
{
    struct map m = {0};
    static int values[5000];
    char key[32];
    const char *k;
    void *v;
    size_t pos = 0, seen = 0;

    (void)state;
    assert_null(map_get(&m, "x"));
    assert_null(map_remove(&m, "x"));
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "key-%d", i);
        map_set(&m, key, &values[i]);
    }
    map_set(&m, "key-7", &values[8]);
    assert_int_equal(m.n, 5000);
    assert_ptr_equal(map_get(&m, "key-7"), &values[8]);
    assert_ptr_equal(map_get(&m, "key-4999"), &values[4999]);
    assert_null(map_get(&m, "key-5000"));
    while (map_next(&m, &pos, &k, &v)) { /* removing while walking is allowed */
        seen++;
        if (str_ends(k, "3"))
            assert_ptr_equal(map_remove(&m, k), v);
    }
    assert_int_equal(seen, 5000);
    assert_int_equal(m.n, 4500);
    assert_null(map_get(&m, "key-13"));
    assert_ptr_equal(map_get(&m, "key-14"), &values[14]);
    map_free(&m);
    assert_int_equal(m.n, 0);
}

static void a_map_does_not_grow_with_turnover(void **state)
{
    struct map m = {0};
    int value;
    char key[32];

    (void)state;
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "session-%d", i);
        map_set(&m, key, &value);
        if (i >= 10) {
            snprintf(key, sizeof(key), "session-%d", i - 10);
            assert_non_null(map_remove(&m, key));
        }
    }
    assert_int_equal(m.n, 10);
    assert_true(m.cap <= 64);
    map_free(&m);
}

static void a_list_may_lose_items_while_it_is_walked(void **state)
{
    struct item {
        int n;
        struct list node;
    } items[5];
    struct list head = LIST_INIT(head);
    int sum = 0;

    (void)state;
    for (int i = 0; i < 5; i++) {
        items[i].n = i;
        list_add_tail(&head, &items[i].node);
    }
    list_each_safe(p, &head)
        if (list_item(p, struct item, node)->n % 2)
            list_remove(p);
    list_remove(&items[1].node); /* twice is harmless */
    list_add_head(&head, &items[3].node);
    assert_int_equal(list_item(head.next, struct item, node)->n, 3);
    list_each(p, &head)
        sum += list_item(p, struct item, node)->n;
    assert_int_equal(sum, 3 + 0 + 2 + 4);
    assert_false(list_empty(&head));
}

static void json_refuses_what_is_dangerous(void **state)
{
    static const char brackets[] =
        "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"]";
    char deep[400];
    struct err e = {0};
    json_t *j;

    (void)state;
    assert_null(json_parse("{\"a\":1,\"a\":2}", 13, &e));
    assert_int_equal(e.code, E_PROTOCOL);
    assert_null(json_parse("{\"a\":", 5, &e));
    assert_null(json_parse("[\"\xFF\"]", 5, &e));
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    assert_null(json_parse(deep, sizeof(deep), &e));
    assert_non_null(strstr(e.text, "nested"));
    j = json_parse(brackets, sizeof(brackets) - 1, NULL);
    assert_non_null(j); /* brackets in strings do not nest */
    json_free(&j);
    assert_null(j);
}

static void json_members_have_defaults(void **state)
{
    AUTO(json) json_t *j = json_object();
    char *text;

    (void)state;
    json_put_str(j, "name", "Gr\xC3\xBC\xC3\x9F" "e");
    json_put_str(j, "broken", "a\xFFz");
    json_put_str(j, "none", NULL);
    json_put_int(j, "n", 42);
    json_put(j, "yes", json_true());
    json_put(j, "null", NULL);
    assert_string_equal(json_str(j, "name", ""), "Gr\xC3\xBC\xC3\x9F" "e");
    assert_string_equal(json_str(j, "broken", ""), "a\xEF\xBF\xBDz");
    assert_string_equal(json_str(j, "none", "default"), "default");
    assert_string_equal(json_str(j, "n", "not a string"), "not a string");
    assert_int_equal(json_int(j, "n", 1), 42);
    assert_int_equal(json_int(j, "name", 7), 7);
    assert_true(json_bool_of(j, "yes", false));
    assert_true(json_bool_of(j, "missing", true));
    assert_string_equal(json_str(NULL, "x", "d"), "d");
    text = json_text(j);
    assert_string_equal(text, "{\"name\":\"Gr\xC3\xBC\xC3\x9F" "e\",\"broken\":\"a\xEF\xBF\xBDz\",\"none\":null,"
                              "\"n\":42,\"yes\":true,\"null\":null}");
    free(text);
}

static void dates_have_fixed_forms(void **state)
{
    char text[40];
    usec_t t = 1549372803 * (usec_t)1000000 + 999999; /* Tue Feb 5 13:20:03 2019 UTC */

    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    assert_string_equal(clock_log_date(t, text), "Tue Feb  5 13:20:03 2019");
    assert_string_equal(clock_commit_date(t, text), "Tue Feb 05 13:20:03 2019 GMT");
    assert_string_equal(clock_rfc5322(t, text), "Tue, 05 Feb 2019 13:20:03 +0000");
    assert_string_equal(clock_rfc3339(t, text), "2019-02-05T13:20:03Z");
    assert_string_equal(clock_rfc3339(-1, text), "1969-12-31T23:59:59Z");
    setenv("TZ", "NST3:30", 1);
    tzset();
    assert_string_equal(clock_rfc5322(t, text), "Tue, 05 Feb 2019 09:50:03 -0330");
    assert_string_equal(clock_commit_date(t, text), "Tue Feb 05 09:50:03 2019 NST");
    setenv("TZ", "UTC0", 1);
    tzset();
    assert_string_equal(clock_duration(29, text), "29s");
    assert_string_equal(clock_duration(61, text), "1m 1s");
    assert_string_equal(clock_duration(81929, text), "22h 45m 29s");
    assert_string_equal(clock_duration(1060648, text), "12d 6h 37m 28s");
    assert_string_equal(clock_duration(-5, text), "0s");
}

static void deadlines_stay_in_range(void **state)
{
    (void)state;
    assert_true(clock_in(NEVER) == NEVER);
    assert_true(clock_in(NEVER - 1) == NEVER);
    assert_true(clock_in(5) >= 5);
    clock_set_virtual(1000, 2000000);
    assert_true(clock_is_virtual());
    clock_advance(SECONDS(3));
    assert_int_equal(clock_now(), 4000);
    assert_int_equal(clock_wall(), 5000000);
    assert_int_equal(clock_in(MINUTES(1)), 64000);
}

static enum log_level logged_level;
static char logged[100];

static void catch_log(enum log_level level, const char *text)
{
    logged_level = level;
    str_copy(logged, sizeof(logged), text);
}

static void log_lines_pass_the_level(void **state)
{
    (void)state;
    log_set_sink(catch_log);
    log_info("server %d", 1);
    assert_string_equal(logged, "server 1");
    assert_int_equal(logged_level, LOG_INFO);
    log_debug("hidden");
    assert_string_equal(logged, "server 1");
    log_set_level(LOG_DEBUG);
    log_debug("shown");
    assert_string_equal(logged, "shown");
    log_set_level(LOG_CRITICAL);
    log_warning("hidden");
    assert_string_equal(logged, "shown");
    log_critical("bad");
    assert_string_equal(logged, "bad");
    log_set_level(LOG_INFO);
    log_set_sink(NULL);
    assert_string_equal(log_level_name(LOG_WARNING), "Warning");
}

static void a_home_holds_everything_below_it(void **state)
{
    struct err e = {0};
    char longer[300], *file;

    (void)state;
    assert_true(home_set("/srv/gate//", &e));
    assert_string_equal(home_dir(), "/srv/gate");
    assert_string_equal(home_log_dir(), "/srv/gate/log");
    assert_string_equal(home_control(), "/srv/gate/run/control");
    file = home_file("config.db");
    assert_string_equal(file, "/srv/gate/config.db");
    free(file);
    assert_true(home_set("var", &e));
    assert_int_equal(home_dir()[0], '/');
    assert_true(str_ends(home_dir(), "/var"));
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    assert_false(home_set(longer, &e));
    setenv("POSTERN_HOME", "/elsewhere", 1);
    assert_true(home_set(NULL, &e));
    assert_string_equal(home_dir(), "/elsewhere");
    unsetenv("POSTERN_HOME");
    assert_true(home_set(NULL, &e));
    assert_string_equal(home_dir(), "/var/lib/postern");
    assert_string_equal(home_log_dir(), "/var/log/postern");
    assert_string_equal(home_control(), "/run/postern/control");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_grow_from_the_inside_out),
        cmocka_unit_test(error_texts_may_come_from_themselves),
        cmocka_unit_test(long_errors_are_cut_between_characters),
        cmocka_unit_test(error_codes_have_names_and_exit_codes),
        cmocka_unit_test(a_buffer_never_exceeds_its_maximum),
        cmocka_unit_test(a_buffer_formats_long_texts_and_drops_from_the_front),
        cmocka_unit_test(an_arena_zeroes_and_aligns),
        cmocka_unit_test(strings_compare_and_trim),
        cmocka_unit_test(utf8_is_checked_as_the_standard_says),
        cmocka_unit_test(untrusted_text_is_escaped),
        cmocka_unit_test(long_untrusted_text_is_cut),
        cmocka_unit_test(lists_of_strings_split_sort_and_join),
        cmocka_unit_test(a_map_keeps_what_it_is_given),
        cmocka_unit_test(a_map_does_not_grow_with_turnover),
        cmocka_unit_test(a_list_may_lose_items_while_it_is_walked),
        cmocka_unit_test(json_refuses_what_is_dangerous),
        cmocka_unit_test(json_members_have_defaults),
        cmocka_unit_test(dates_have_fixed_forms),
        cmocka_unit_test(log_lines_pass_the_level),
        cmocka_unit_test(a_home_holds_everything_below_it),
        cmocka_unit_test(deadlines_stay_in_range), /* last: time stands still from here */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
