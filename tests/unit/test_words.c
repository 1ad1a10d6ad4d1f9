/* test_words.c - the grammar of a line: a table of cases, and what is printed parses to the same. */
#include "store/words.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "tests/unit/cm.h"

/* The words as "[text]", keys as "[key=value]", flags as "[!flag]", statements apart by " / ". */
static char *shown(const struct statements *list)
{
    struct buf out = BUF_INIT(1 << 20);

    for (size_t i = 0; i < list->n; i++) {
        if (i)
            buf_str_add(&out, " / ");
        for (size_t w = 0; w < list->items[i].n; w++) {
            const struct word *word = &list->items[i].items[w];

            if (word->key)
                buf_printf(&out, "[%s %c %s]", word->key, word->op, word->value);
            else
                buf_printf(&out, "[%s%s]", word->flag ? "!" : "", word->text);
        }
    }
    return out.p ? buf_take(&out) : xstrdup("");
}

static const char *next_here(void *arg)
{
    const char *const **lines = arg;

    return **lines ? *(*lines)++ : NULL;
}

static void lines(void **state)
{
    static const struct {
        const char *line, *words; /* NULL: refused */
    } cases[] = {
        {"",                                 ""                                       },
        {"   # a comment",                   ""                                       },
        {"version",                          "[version]"                              },
        {"a b\tc",                           "[a][b][c]"                              },
        {"a;b ; c",                          "[a] / [b] / [c]"                        },
        {";;a;",                             "[a]"                                    },
        {"a # b; c",                         "[a]"                                    },
        {"a#b",                              "[a#b]"                                  },
        {"a \"b; # c\"",                     "[a][b; # c]"                            },
        {"\"two words\"x",                   "[two wordsx]"                           },
        {"\"\"",                             "[]"                                     },
        {"use_tls=require",                  "[use_tls = require]"                    },
        {"USE_TLS=Require",                  "[use_tls = Require]"                    },
        {"hosts+=a hosts-=b",                "[hosts + a][hosts - b]"                 },
        {"not-before=1",                     "[not-before = 1]"                       },
        {"comment=\"a = b\"",                "[comment = a = b]"                      },
        {"\"a=b\" \"-x\"",                   "[a=b][-x]"                              },
        {"a\"=\"b",                          "[a=b]"                                  },
        {"=b 1=2",                           "[=b][1=2]"                              },
        {"-i --if-exists --format=json -5 -", "[!-i][!--if-exists][!--format=json][-5][-]"},
        {"\"\\n\\t\\\"\\\\\"",               "[\n\t\"\\]"                             },
        {"\"\\x{263a}\\x{e9}\"",             "[\xe2\x98\xba\xc3\xa9]"                 },
        {"\"a\\.b\\d\" a\\b",                "[a\\.b\\d][a\\b]"                       },
        {"caf\xc3\xa9",                      "[caf\xc3\xa9]"                          },
        {"a \"b",                            NULL                                     },
        {"\"\\x{}\"",                        NULL                                     },
        {"\"\\x{0}\"",                       NULL                                     },
        {"\"\\x{110000}\"",                  NULL                                     },
        {"\"\\x{d800}\"",                    NULL                                     },
        {"\"\\x{41\"",                       NULL                                     },
        {"a\xff",                            NULL                                     },
        {"a\xef\xbf\xbd",                    NULL                                     },
        {"a\033[m",                          NULL                                     },
        {"key=<<END",                        NULL                                     },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct statements list = {0};
        struct err err = {0};
        bool ok = words_parse(cases[i].line, strlen(cases[i].line), NULL, NULL, &list, &err);
        char *got = shown(&list);

        if (ok != (cases[i].words != NULL) || (ok && strcmp(got, cases[i].words) != 0))
            fail_msg("%s gave %s, not %s", cases[i].line, ok ? got : err.text, cases[i].words ? cases[i].words : "an error");
        if (!ok) {
            assert_int_equal(list.n, 0);
            assert_true(*err.text);
        }
        free(got);
        statements_free(&list);
    }
}

static void refused_as_a_whole(void **state)
{
    struct statements list = {0};

    (void)state;
    assert_true(words_parse("first", 5, NULL, NULL, &list, NULL));
    assert_false(words_parse("a; b; \"c", 8, NULL, NULL, &list, NULL));
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].items[0].text, "first");
    statements_free(&list);
}

static void too_long(void **state)
{
    char *line = xmalloc(WORDS_MAX_LINE + 2);
    struct statements list = {0};
    struct err err = {0};

    (void)state;
    memset(line, 'x', WORDS_MAX_LINE + 1);
    assert_true(words_parse(line, WORDS_MAX_LINE - 1, NULL, NULL, &list, &err));
    statements_free(&list);
    assert_false(words_parse(line, WORDS_MAX_LINE + 1, NULL, NULL, &list, &err));
    assert_int_equal(err.code, E_LIMIT);
    free(line);
}

static void here_texts(void **state)
{
    static const char *const text[] = {"-----BEGIN", "x; y # z", "", "END", "second", "END", "not read", NULL};
    static const char *const binary[] = {"a\x95", "END", NULL};
    const char *const *next = text;
    struct statements list = {0};
    struct err err = {0};
    char *got;

    (void)state;
    assert_true(words_parse("a cert=<<END key=<<END b", 24, next_here, &next, &list, &err));
    got = shown(&list);
    assert_string_equal(got, "[a][cert = -----BEGIN\nx; y # z\n\n][key = second\n][b]");
    assert_true(list.items[0].items[1].here);
    assert_string_equal(*next, "not read");
    free(got);
    statements_free(&list);
    assert_false(words_parse("cert=<<NOPE", 11, next_here, &next, &list, &err));
    assert_non_null(strstr(err.text, "NOPE"));
    next = binary;
    assert_false(words_parse("cert=<<END", 10, next_here, &next, &list, &err));
    assert_non_null(strstr(err.text, "UTF-8"));
}

static void arguments(void **state)
{
    struct words w = {0};

    (void)state;
    words_add_argument(&w, "comment=why not; \"really\"");
    words_add_argument(&w, "--yes");
    words_add_argument(&w, "two words");
    assert_string_equal(w.items[0].key, "comment");
    assert_string_equal(w.items[0].value, "why not; \"really\"");
    assert_true(w.items[1].flag);
    assert_string_equal(w.items[2].text, "two words");
    words_clear(&w);
}

/* --- parse(print(x)) is x -------------------------------------------------------------------- */

static unsigned random_below(unsigned n)
{
    static uint64_t seed = 0x9e3779b97f4a7c15;

    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static void random_text(struct buf *out, bool key)
{
    static const char *const parts[] = {"a",  "Z",    "7",    " ",  "\t", "\"", "\\", ";", "#", "=",  "-",
                                        "--", "<<",   "\n",   "\r", "+",  "_",  "\x01", "\x7f", "\xc3\xa9",
                                        "x{", "\xe6\xbc\xa2", "\xf0\x9f\x98\x80", "n", "t", "\xef\xbf\xbd"};
    unsigned n = random_below(8);

    buf_reset(out);
    for (unsigned i = 0; i < n || (key && i == 0); i++)
        buf_str_add(out, key ? (const char *[]){"a", "b_", "c9"}[random_below(3)] : parts[random_below(countof(parts))]);
}

static struct words random_words(void)
{
    AUTO(buf) struct buf key = BUF_INIT(1000), text = BUF_INIT(1000), whole = BUF_INIT(4000);
    struct words w = {0};
    unsigned n = 1 + random_below(5);

    for (unsigned i = 0; i < n; i++) {
        unsigned kind = random_below(4);
        struct word *word;

        w.items = xrealloc(w.items, (w.n + 1) * sizeof(*w.items));
        word = &w.items[w.n++];
        *word = (struct word){0};
        random_text(&text, false);
        buf_reset(&whole);
        if (kind == 0) {
            random_text(&key, true);
            word->op = "=+-"[random_below(3)];
            buf_printf(&whole, "%s%s=", buf_str(&key), word->op == '+' ? "+" : word->op == '-' ? "-" : "");
            word->key = xstrdup(buf_str(&key));
            buf_str_add(&whole, buf_str(&text));
            word->text = xstrdup(buf_str(&whole));
            word->value = word->text + strlen(word->key) + (word->op == '=' ? 1 : 2);
        } else if (kind == 1) {
            buf_printf(&whole, "%s%s", random_below(2) ? "-x" : "--", buf_str(&text));
            word->text = xstrdup(buf_str(&whole));
            word->flag = true;
        } else {
            word->text = xstrdup(buf_str(&text));
        }
    }
    return w;
}

static void printed_parses_to_the_same(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct words w = random_words();
        struct statements list = {0};
        AUTO(buf) struct buf line = BUF_INIT(100000);
        struct err err = {0};

        words_print(&w, &line);
        if (!words_parse(line.p, line.n, NULL, NULL, &list, &err))
            fail_msg("%s: %s", str_printable(buf_str(&line)), err.text);
        assert_int_equal(list.n, 1);
        if (list.items[0].n != w.n)
            fail_msg("%s: %zu words, not %zu", str_printable(buf_str(&line)), list.items[0].n, w.n);
        for (size_t i = 0; i < w.n; i++) {
            const struct word *a = &w.items[i], *b = &list.items[0].items[i];

            if (strcmp(a->text, b->text) != 0 || a->flag != b->flag || !str_eq(a->key, b->key) || a->op != b->op ||
                (a->key && strcmp(a->value, b->value) != 0))
                fail_msg("word %zu of %s came back as %s", i, str_printable(buf_str(&line)), str_printable(b->text));
        }
        statements_free(&list);
        words_clear(&w);
    }
}

static void ends(void **state)
{
    static const struct {
        const char *text, *partial;
        size_t before, start;
        bool quoted, comment;
    } cases[] = {
        {"",                     "",          0, 0,  false, false},
        {"des",                  "des",       0, 0,  false, false},
        {"destconfig ",          "",          1, 11, false, false},
        {"destconfig edit a.ex", "a.ex",      2, 16, false, false},
        {"version; des",         "des",       0, 9,  false, false},
        {"a use_tls=r",          "use_tls=r", 1, 2,  false, false},
        {"grep \"a b",           "a b",       1, 5,  true,  false},
        {"grep \"a b\"",         "a b",       1, 5,  false, false},
        {"grep \"a\" \"",        "",          2, 9,  true,  false},
        {"a # wh",               "",          1, 6,  false, true },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct words_end e;

        words_end_of(cases[i].text, strlen(cases[i].text), &e);
        if (strcmp(e.partial, cases[i].partial) != 0 || e.before.n != cases[i].before || e.quoted != cases[i].quoted ||
            e.comment != cases[i].comment || e.start != cases[i].start)
            fail_msg("%s: partial %s, %zu before, from %zu, quoted %d, comment %d", cases[i].text, e.partial, e.before.n, e.start,
                     e.quoted, e.comment);
        words_end_free(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),      cmocka_unit_test(refused_as_a_whole), cmocka_unit_test(too_long),
        cmocka_unit_test(here_texts), cmocka_unit_test(arguments),          cmocka_unit_test(printed_parses_to_the_same),
        cmocka_unit_test(ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
