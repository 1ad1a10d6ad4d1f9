/* The cleaner of daemon/smtp_clean.c: in pieces of every size, and what the scanner behind it then sees. */
#include "daemon/smtp_clean.h"

#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

static const struct {
    const char *in, *out;
    bool ended;
    const char *rest; /* behind the end */
} cases[] = {
    {"a\r\nb\r\n",              "a\r\nb\r\n",                  false, ""      },
    {"a\nb\rc",                 "a\r\nb\r\nc",                 false, ""      },
    {"a\n\nb\r\rc\n\rd",        "a\r\n\r\nb\r\n\r\nc\r\n\r\nd", false, ""      },
    {".\r\nQUIT",               ".\r\n",                       true,  "QUIT"  },
    {"a\r\n.\r\nb",             "a\r\n.\r\n",                  true,  "b"     },
    {"a\r\n..\r\n",             "a\r\n..\r\n",                 false, ""      },
    {"a\r\n.b\r\n",             "a\r\n.b\r\n",                 false, ""      },
    {"a\n.\nMAIL\n",            "a\r\n..\r\nMAIL\r\n",         false, ""      },
    {"a\n.\r\nMAIL\r\n",        "a\r\n..\r\nMAIL\r\n",         false, ""      },
    {"a\r\n.\nMAIL\r\n",        "a\r\n..\r\nMAIL\r\n",         false, ""      },
    {"a\r.\rMAIL\r\n",          "a\r\n..\r\nMAIL\r\n",         false, ""      },
    {"a\r\n.\rMAIL\r\n",        "a\r\n..\r\nMAIL\r\n",         false, ""      },
    {"a\r\r\n.\r\r\nMAIL\r\n",  "a\r\n\r\n..\r\n\r\nMAIL\r\n", false, ""      },
    {"a\r\n\n.\r\nMAIL\r\n",    "a\r\n\r\n..\r\nMAIL\r\n",     false, ""      },
};

static void clean(const char *in, bool chunked, size_t piece, struct smtp_clean *c, struct buf *out, size_t *used)
{
    size_t n = strlen(in);

    smtp_clean_start(c, chunked);
    for (*used = 0; *used < n && !c->ended;) {
        size_t step = n - *used < piece ? n - *used : piece;
        size_t taken = smtp_clean_feed(c, in + *used, step, out);

        assert_true(taken == step || c->ended);
        *used += taken;
    }
}

static void data(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].in); piece++) {
            AUTO(buf) struct buf out = BUF_INIT(1000);
            struct smtp_clean c;
            size_t used;

            clean(cases[i].in, false, piece, &c, &out, &used);
            assert_string_equal(buf_str(&out), cases[i].out);
            assert_int_equal(c.ended, cases[i].ended);
            assert_string_equal(cases[i].in + used, cases[i].rest);
        }
    }
}

/* In chunks dots mean nothing, and a CR at the very end is a line's end. */
static void chunks(void **state)
{
    static const char *const texts[][2] = {
        {"a\r\n.\r\nb",  "a\r\n.\r\nb" },
        {".\n.\r.",      ".\r\n.\r\n." },
        {"a\r",          "a\r\n"       },
        {"a\r\n",        "a\r\n"       },
        {"",             ""            },
    };

    (void)state;
    for (size_t i = 0; i < countof(texts); i++) {
        for (size_t piece = 1; piece <= strlen(texts[i][0]) + 1; piece++) {
            AUTO(buf) struct buf out = BUF_INIT(1000);
            struct smtp_clean c;
            size_t used;

            clean(texts[i][0], true, piece, &c, &out, &used);
            smtp_clean_finish(&c, &out);
            assert_false(c.ended);
            assert_string_equal(buf_str(&out), texts[i][1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data),
        cmocka_unit_test(chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
