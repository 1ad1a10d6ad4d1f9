/* test_pattern.c - expressions find what the C library finds, in a time that is bounded. */
#include "daemon/pattern.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"

static bool finds(const char *expression, const char *text, bool ignore_case)
{
    struct err err = {0};
    struct pattern *p = pattern_new(expression, ignore_case, &err);
    bool found;

    if (!p)
        fail_msg("%s: %s", expression, err.text);
    found = pattern_finds(p, text, strlen(text));
    assert_int_equal(pattern_finds(p, text, strlen(text)), found); /* it remembers nothing */
    pattern_free(&p);
    return found;
}

static void known_ones(void **state)
{
    static const struct {
        const char *expression, *text;
        bool found;
    } of[] = {
        {"MID [0-9]+ (ready|queued)", "Info: MID 12 queued", true },
        {"MID [0-9]+ (ready|queued)", "Info: MID x queued",  false},
        {"",                          "",                    true },
        {"^$",                        "",                    true },
        {"^$",                        "x",                   false},
        {"a^b",                       "a^b",                 false},
        {"(^a|b$)",                   "xb",                  true },
        {"x*",                        "",                    true },
        {"(a*)*b",                    "aaab",                true },
        {"(a|)b{2,3}$",               "cbb",                 true },
        {"ab{,2}c",                   "abbc",                true },
        {"ab{,2}c",                   "abbbc",               false},
        {"a{0}b",                     "b",                   true },
        {"(ab){3}",                   "ababab",              true },
        {"(ab){3}",                   "ababb",               false},
        {"\\.\\*\\[",                 "x.*[",                true },
        {"[]a]+[^]]x",                "]bx",                 true },
        {"[[:alpha:]_]{4}",           "12ab_d",              true },
        {"\\bfoo\\b",                 "a foo.",              true },
        {"\\bfoo\\b",                 "afoo",                false},
        {"\\<\\w+\\>$",               "one two",             true },
        {"o\\B",                      "foo",                 true },
        {"a)",                        "a)",                  true },
        {"\xe4",                      "K\xe4se",             true },
        {"...",                       "ab",                  false},
    };

    (void)state;
    for (size_t i = 0; i < countof(of); i++)
        if (finds(of[i].expression, of[i].text, false) != of[i].found)
            fail_msg("%s in %s", of[i].expression, of[i].text);
    assert_true(finds("DCID [a-f]", "dcid F", true));
    assert_false(finds("DCID [a-f]", "dcid F", false));
}

static uint32_t seed = 12345;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void random_text(char *out, size_t most, const char *const *parts, size_t n)
{
    size_t k = random_below((uint32_t)most);

    *out = '\0';
    while (k--)
        strcat(out, parts[random_below((uint32_t)n)]);
}

static void the_same_as_the_c_library(void **state)
{
    static const char *const parts[] = {
        "a",    "b",   "c",    ".",    "*",   "+",     "?",
        "|",    "(",   ")",    "(",    ")",   "^",     "$",
        "a",    "b",   "[ab]", "[^a]", "{2}", "{1,2}", "{0,}",
        "{,2}", "\\b", "\\w",  "\\B",  "\\<", "\\>",   "\\W",
        "-",    "\\s", "[]c]", "_",    "\\.", "[a-c]", "[[:space:]b]",
        " "};
    static const char *const letters[] = {"a", "b", "c", "A", ".", " ", "-", "_", "]"};
    char expression[200], text[100];
    unsigned good = 0, found = 0;

    (void)state;
    for (unsigned i = 0; i < 40000; i++) {
        bool ignore_case = random_below(4) == 0;
        struct err err = {0};
        struct pattern *p;
        regex_t re;
        int rc;

        random_text(expression, 14, parts, countof(parts));
        rc = regcomp(&re, expression, REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0));
        p = pattern_new(expression, ignore_case, &err);
        if (rc == 0 && !p && err.code == E_LIMIT) {
            regfree(&re);
            continue;
        }
        assert_int_equal(p == NULL, rc != 0);
        for (unsigned k = 0; p && k < 8; k++) {
            bool is;

            random_text(text, 12, letters, countof(letters));
            is = regexec(&re, text, 0, NULL, 0) == 0;
            if (pattern_finds(p, text, strlen(text)) != is)
                fail_msg("\"%s\" in \"%s\": %d for the C library", expression, text, is);
            found += is;
        }
        good += p != NULL;
        if (!rc)
            regfree(&re);
        pattern_free(&p);
    }
    assert_true(good > 4000 && found > 4000);
}

static void what_costs_too_much_is_refused(void **state)
{
    static const char *const of[] = {
        "(((a{1,255}){1,255}){1,255}){1,255}", "a{1,256}", "((a?{63}){63})?{9}",
        "(((((((((((((((((((((a)))))))))))))))))))))", "((a{9}){9}{9}){9}{9}{9}{9}{9}"};
    char *longest = xcalloc(1, PATTERN_LONGEST + 2);
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < countof(of); i++) {
        assert_null(pattern_new(of[i], false, &err));
        assert_int_equal(err.code, E_LIMIT);
    }
    memset(longest, 'a', PATTERN_LONGEST + 1);
    assert_null(pattern_new(longest, false, &err));
    free(longest);
    assert_null(pattern_new("(a", false, &err));
    assert_int_equal(err.code, E_INVALID);
    assert_null(pattern_new("(a)\\1", false, &err));
    assert_non_null(strstr(err.text, "Back-references"));
}

/* The C library takes seconds and a hundred megabytes for one such line. */
static void a_line_takes_no_time(void **state)
{
    static const char *const of[] = {".*[aeiou].{250}#", "(.*[aeiou].{100}|.*[xyz].{100})#",
                                     "(a?){200}a{200}#", "((((.*)*)*)*)*#"};
    char text[4001];
    msec_t began = clock_now();

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = "abcdefghijklmnopqrstuvwxyz aeiou"[random_below(32)];
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < countof(of); i++)
        assert_false(finds(of[i], text, false));
    assert_true(clock_now() - began <
                SECONDS(5)); /* a fraction of one, but for sanitizers and a busy machine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ones),
        cmocka_unit_test(the_same_as_the_c_library),
        cmocka_unit_test(what_costs_too_much_is_refused),
        cmocka_unit_test(a_line_takes_no_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
