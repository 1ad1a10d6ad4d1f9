/* test_pattern.c - expressions find what they say, and neither they nor a line can cost much. */
#include "store/base/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

static enum pattern_answer find(const char *expression, const char *line, bool ignore_case)
{
    struct err err = {0};
    struct pattern *p = pattern_new(expression, ignore_case, &err);
    enum pattern_answer answer;

    if (!p)
        fail_msg("%s: %s", expression, err.text);
    answer = pattern_find(p, line, strlen(line));
    assert_int_equal(pattern_find(p, line, strlen(line)), answer); /* it remembers nothing */
    if (answer == PATTERN_TOO_MUCH) {
        assert_false(pattern_too_much(p, &err));
        assert_int_equal(err.code, E_LIMIT);
        assert_non_null(strstr(err.text, "Use a simpler one"));
    }
    pattern_free(&p);
    return answer;
}

static void found(void **state)
{
    static const struct {
        const char *expression, *line;
        bool yes;
    } of[] = {
        {"MID [0-9]+ (ready|queued)", "Info: MID 12 queued", true },
        {"MID [0-9]+ (ready|queued)", "Info: MID x queued",  false},
        {"^$",                        "",                    true },
        {"(a*)*b",                    "aaab",                true },
        {"ab{0,2}c",                  "abbbc",               false},
        {"\\.\\*\\[",                 "x.*[",                true },
        {"[[:alpha:]_]{4}",           "12ab_d",              true },
        {"\\bfoo\\b",                 "a foo.",              true },
        {"\\bfoo\\b",                 "afoo",                false},
        {"a[{(]b",                    "a(b",                 true },
        {"\xe4",                      "K\xe4se",             true }, /* bytes */
        {"K.se",                      "K\xe4se",             true },
        {"a.b",                       "a\rb",                true },
    };

    (void)state;
    for (size_t i = 0; i < countof(of); i++)
        if (find(of[i].expression, of[i].line, false) != (of[i].yes ? PATTERN_YES : PATTERN_NO))
            fail_msg("%s in %s", of[i].expression, of[i].line);
    assert_int_equal(find("DCID [a-f]", "dcid F", true), PATTERN_YES);
    assert_int_equal(find("DCID [a-f]", "dcid F", false), PATTERN_NO);
}

static void mistakes_have_a_sentence(void **state)
{
    static const char *const of[] = {"(", "[a", "a{2,1}", "*", "(*UTF)a", "\\C", "\\",
                                     "(((((((((((((((((((((a)))))))))))))))))))))",
                                     "(((a{1,255}){1,255}){1,255}){1,255}", "a{1,70000}"};
    char *longest = xcalloc(1, PATTERN_LONGEST + 2);
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < countof(of); i++) {
        assert_null(pattern_new(of[i], false, &err));
        assert_int_equal(err.code, E_INVALID);
        assert_non_null(strstr(err.text, of[i]));
    }
    assert_null(pattern_new("ab(", false, &err));
    assert_string_equal(err.text, "The regular expression \"ab(\" cannot be used: missing closing parenthesis (at character 4).");
    memset(longest, 'a', PATTERN_LONGEST + 1);
    assert_null(pattern_new(longest, false, &err));
    assert_non_null(strstr(err.text, "longer than 1000 characters"));
    free(longest);
}

/* Each of these is exponential, or nearly: without bounds the line would take hours. */
static void a_line_costs_little(void **state)
{
    static const char *const of[] = {"(a|b|ab)*c\\d", "(a*)*\\d", "(a?){200}a{200}\\d", "(.*)(.*)(.*)(.*)(.*)\\d",
                                     "((a|b)+)+$x?\\d", "(?R)?a\\d"};
    char line[4001];

    (void)state;
    for (size_t i = 0; i < sizeof(line) - 1; i++)
        line[i] = "ab"[i * i % 7 % 2];
    line[sizeof(line) - 2] = 'c';
    line[sizeof(line) - 1] = '\0';
    for (size_t i = 0; i < countof(of); i++)
        assert_int_not_equal(find(of[i], line, false), PATTERN_YES);
    assert_int_equal(find(of[3], line, false), PATTERN_TOO_MUCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found),
        cmocka_unit_test(mistakes_have_a_sentence),
        cmocka_unit_test(a_line_costs_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
