/* The scanner of daemon/smtp_intake.c: every case is fed in pieces of every size, which must make
 * no difference. */
#include "daemon/smtp_intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "store/base/buf.h"
#include "store/base/str.h"

struct sink {
    struct smtp_intake in;
    struct buf stored;
    const char *insert; /* at the end of the header */
    size_t rest; /* bytes behind the end of the data */
    bool stalled; /* at the end of the input */
};

static void store(struct smtp_intake *in, const char *p, size_t n)
{
    buf_add(&((struct sink *)(void *)in)->stored, p, n);
}

static void header_end(struct smtp_intake *in)
{
    struct sink *s = (void *)in;

    if (s->insert && !in->has_message_id)
        store(in, s->insert, strlen(s->insert));
}

/* Feeds text as a connection would: what was not taken comes again, with `piece` more bytes behind
 * it. */
static void run(struct sink *s, const char *text, size_t n, size_t piece)
{
    size_t from = 0, have = 0;

    s->in.store = store;
    s->in.header_end = header_end;
    s->stored = (struct buf)BUF_INIT(64 << 20);
    smtp_intake_start(&s->in);
    while (!s->in.ended && from + have < n) {
        have = n - from - have < piece ? n - from : have + piece;
        size_t used = smtp_intake_feed(&s->in, text + from, have);

        assert_true(used <= have);
        from += used;
        have -= used;
    }
    s->rest = n - from;
    s->stalled = s->in.stalled;
}

static const struct {
    const char *data, *stored; /* stored NULL: refused or not ended */
    enum smtp_fault fault;
    bool ended;
    size_t rest;
} cases[] = {
    {".\r\n",                              "",                          0,             true,  0},
    {"a: b\r\n\r\nhello\r\n.\r\n",         "a: b\r\n\r\nhello\r\n",     0,             true,  0},
    {"\r\nhello\r\n.\r\nQUIT\r\n",         "\r\nhello\r\n",             0,             true,  6},
    {"\r\n..\r\n.a\r\n..b\r\n. \r\n.\r\n", "\r\n.\r\na\r\n.b\r\n \r\n", 0,             true,  0},
    {"..: b\r\n.\r\n",                     ".: b\r\n",                  0,             true,  0},
    {"\r\nno end\r\n",                     NULL,                        0,             false, 0},
    {"\r\nno end\r\n.",                    NULL,                        0,             false, 1},
    {"\r\nno end\r\n.\r",                  NULL,                        0,             false, 2},
 /* smuggled ends: none of them ends the data */
    {"\r\na\n.\nMAIL\r\n.\r\n",            NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\na\n.\r\nMAIL\r\n.\r\n",          NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\na\r\n.\nMAIL\r\n.\r\n",          NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\na\r.\rMAIL\r\n.\r\n",            NULL,                        FAULT_BARE_CR, true,  0},
    {"\r\na\r.\r\nMAIL\r\n.\r\n",          NULL,                        FAULT_BARE_CR, true,  0},
    {"\r\na\r\n.\rMAIL\r\n.\r\n",          NULL,                        FAULT_BARE_CR, true,  0},
    {"\r\na\r\n.\r\r\nMAIL\r\n.\r\n",      NULL,                        FAULT_BARE_CR, true,  0},
    {"\r\na\r\r\n.\r\nMAIL\r\n",           NULL,                        FAULT_BARE_CR, true,  6},
    {"\r\na\n\r.\r\nMAIL\r\n.\r\n",        NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\na\n\n.\r\nMAIL\r\n.\r\n",        NULL,                        FAULT_BARE_LF, true,  0},
    {"\n.\r\n.\r\n",                       NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\n.\n\r\n.\r\n",                   NULL,                        FAULT_BARE_LF, true,  0},
    {"\r\na\r\n.\r\n\n.\n",                "\r\na\r\n",                 0,             true,  3},
    {"\r\n\r.\r\r\n.\r\n",                 NULL,                        FAULT_BARE_CR, true,  0},
};

static void test_ends(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < countof(cases); i++) {
        size_t n = strlen(cases[i].data);

        for (size_t piece = 1; piece <= n; piece++) {
            struct sink s = {.in = {.max_size = 1000}};

            run(&s, cases[i].data, n, piece);
            /* the first fault depends on nothing; the scanner may stop at a fault that leaves it
             * stalled */
            if (s.in.fault != cases[i].fault || s.in.ended != cases[i].ended)
                fail_msg("case %zu in pieces of %zu: fault %d, ended %d", i, piece, s.in.fault,
                         s.in.ended);
            if (s.rest != cases[i].rest)
                fail_msg("case %zu in pieces of %zu: %zu left", i, piece, s.rest);
            if (cases[i].stored && !str_eq(buf_str(&s.stored), cases[i].stored))
                fail_msg("case %zu in pieces of %zu: stored \"%s\"", i, piece, buf_str(&s.stored));
            buf_free(&s.stored);
        }
    }
}

static void test_nul(void **unused)
{
    static const char text[] = "\r\na\0b\r\n.\r\n";

    (void)unused;
    for (size_t piece = 1; piece < sizeof(text); piece++) {
        struct sink s = {.in = {.max_size = 1000}};

        run(&s, text, sizeof(text) - 1, piece);
        assert_true(s.in.ended);
        assert_int_equal(s.in.fault, FAULT_NUL);
        buf_free(&s.stored);
    }
}

/* Senders that end the data in another way wait for an answer; they get it when nothing follows. */
static void test_stalled(void **unused)
{
    static const struct {
        const char *data;
        bool stalled;
    } stalls[] = {
        {"a\n.\n",       true },
        {"a\r\n.\n",     true },
        {"a\n.\r\n",     true },
        {"a\r.\r",       true },
        {"a\r\n.\r\r\n", true },
        {"a\n.\nMAIL\n", false},
        {"a\n",          false},
        {"a\r\nb\r\n",   false},
        {"a\r\n.b\r\n",  false},
    };

    (void)unused;
    for (size_t i = 0; i < countof(stalls); i++) {
        for (size_t piece = 1; piece <= strlen(stalls[i].data); piece++) {
            struct sink s = {.in = {.max_size = 1000}};

            run(&s, stalls[i].data, strlen(stalls[i].data), piece);
            if (s.stalled != stalls[i].stalled || s.in.ended)
                fail_msg("case %zu in pieces of %zu", i, piece);
            assert_true(!s.stalled || s.in.fault);
            buf_free(&s.stored);
        }
    }
}

static void test_facts(void **unused)
{
    static const char text[] = "Received: from a\r\n\tby b\r\n"
                               "RECEIVED : from c\r\n"
                               "Subject: one\r\n two\r\n\t\xc3\xbc three \r\n"
                               "X-Subject: no\r\n"
                               "message-id:\r\n <a@b>\r\n"
                               "Message-ID: <second@b>\r\n"
                               "\r\nSubject: not this\r\nReceived: nor this\r\n.\r\n";

    (void)unused;
    for (size_t piece = 1; piece < sizeof(text); piece++) {
        struct sink s = {
            .in = {.max_size = 10000, .want_8bit = true},
              .insert = "Message-ID: <x>\r\n"
        };

        run(&s, text, sizeof(text) - 1, piece);
        assert_int_equal(s.in.fault, FAULT_NONE);
        assert_int_equal(s.in.received, 1); /* a blank in front of the colon makes another name */
        assert_string_equal(s.in.subject, "one two \xc3\xbc three");
        assert_string_equal(s.in.message_id, "<a@b>");
        assert_true(s.in.has_8bit);
        assert_int_equal(s.in.header_lines, 10);
        assert_int_equal(s.in.size, sizeof(text) - 1 - 3);
        assert_int_equal(s.stored.n, sizeof(text) - 1 - 3);
        buf_free(&s.stored);
    }
}

static void test_insertion(void **unused)
{
    static const struct {
        const char *data, *stored;
    } inserts[] = {
        {"A: b\r\n\r\nx\r\n.\r\n",                "A: b\r\nNEW\r\n\r\nx\r\n"               },
        {"Message-Id: <a>\r\n\r\nx\r\n.\r\n",     "Message-Id: <a>\r\n\r\nx\r\n"           },
        {"\r\nx\r\n.\r\n",                        "NEW\r\n\r\nx\r\n"                       },
        {"A: b\r\n.\r\n",                         "A: b\r\nNEW\r\n"                        },
        {".\r\n",                                 "NEW\r\n"                                },
        {"no header\r\nA: b\r\n.\r\n",            "NEW\r\nno header\r\nA: b\r\n"           },
        {"..no header\r\n.\r\n",                  "NEW\r\n.no header\r\n"                  },
        {"From me Mon\r\nA: b\r\n\r\nx\r\n.\r\n", "From me Mon\r\nA: b\r\nNEW\r\n\r\nx\r\n"},
        {"A: b\r\nFrom me Mon\r\n\r\nx\r\n.\r\n", "A: b\r\nNEW\r\nFrom me Mon\r\n\r\nx\r\n"},
    };

    (void)unused;
    for (size_t i = 0; i < countof(inserts); i++) {
        for (size_t piece = 1; piece <= strlen(inserts[i].data); piece++) {
            struct sink s = {.in = {.max_size = 1000}, .insert = "NEW\r\n"};

            run(&s, inserts[i].data, strlen(inserts[i].data), piece);
            assert_true(s.in.ended && !s.in.fault);
            if (!str_eq(buf_str(&s.stored), inserts[i].stored))
                fail_msg("case %zu in pieces of %zu: \"%s\"", i, piece, buf_str(&s.stored));
            buf_free(&s.stored);
        }
    }
}

static void feed_lines(struct sink *s, const char *line, unsigned count, const char *end)
{
    AUTO(buf) struct buf b = BUF_INIT(4 << 20);

    for (unsigned i = 0; i < count; i++)
        buf_str_add(&b, line);
    buf_str_add(&b, end);
    run(s, b.p, b.n, 1000);
    buf_free(&s->stored);
}

static void test_limits(void **unused)
{
    struct sink s;

    (void)unused;
    s = (struct sink){.in = {.max_size = 100}};
    feed_lines(&s, "12345678\r\n", 10, ".\r\n");
    assert_int_equal(s.in.fault, FAULT_NONE);
    s = (struct sink){.in = {.max_size = 99}};
    feed_lines(&s, "12345678\r\n", 10, ".\r\n");
    assert_int_equal(s.in.fault, FAULT_SIZE);
    assert_true(s.in.ended);
    s = (struct sink){
        .in = {.max_size = 1 << 20, .max_received = 3}
    };
    feed_lines(&s, "Received: x\r\n", 3, "\r\n.\r\n");
    assert_int_equal(s.in.fault, FAULT_NONE);
    s = (struct sink){
        .in = {.max_size = 1 << 20, .max_received = 3}
    };
    feed_lines(&s, "Received: x\r\n", 4, "\r\n.\r\n");
    assert_int_equal(s.in.fault, FAULT_LOOP);
    s = (struct sink){
        .in = {.max_size = 1 << 20, .max_header_lines = 5}
    };
    feed_lines(&s, "X: y\r\n", 5, "\r\n.\r\n");
    assert_int_equal(s.in.fault, FAULT_NONE);
    s = (struct sink){
        .in = {.max_size = 1 << 20, .max_header_lines = 5}
    };
    feed_lines(&s, "X: y\r\n", 6, "\r\n.\r\n");
    assert_int_equal(s.in.fault, FAULT_HEADERS);
}

static void test_long_lines(void **unused)
{
    static const struct {
        size_t n; /* bytes of the line, CRLF included */
        enum smtp_fault fault;
    } lengths[] = {
        {998,                    0              },
        {SMTP_TEXT_LINE_MAX,     0              },
        {SMTP_TEXT_LINE_MAX + 1, FAULT_LONG_LINE},
        {300000,                 FAULT_LONG_LINE}
    };
    static const size_t pieces[] = {1, 7, 1448, 65536, 400000};

    (void)unused;
    for (size_t i = 0; i < countof(lengths); i++) {
        for (size_t k = 0; k < countof(pieces); k++) {
            AUTO(buf) struct buf b = BUF_INIT(1 << 20);
            struct sink s = {.in = {.max_size = 1 << 20}};

            if (pieces[k] == 1 && lengths[i].n > 1000)
                continue; /* a rescan for each byte: right, but slow */
            buf_str_add(&b, "\r\n");
            for (size_t c = 0; c < lengths[i].n - 2; c++)
                buf_char(&b, c % 1000 ? 'x' : '.');
            buf_str_add(&b, "\r\n.\r\nRSET\r\n");
            run(&s, b.p, b.n, pieces[k]);
            if (s.in.fault != lengths[i].fault || !s.in.ended || s.rest != 6)
                fail_msg("%zu bytes in pieces of %zu: fault %d, ended %d, %zu left", lengths[i].n,
                         pieces[k], s.in.fault, s.in.ended, s.rest);
            if (!s.in.fault)
                assert_int_equal(s.stored.n, lengths[i].n + 2 - 1); /* one dot was stuffed */
            buf_free(&s.stored);
        }
    }
}

/* Random soup of the bytes that matter, against a scanner that is plainly right because it looks at
 * one byte at a time and knows only what ends the data and what may not occur. */
static void test_against_a_plain_scanner(void **unused)
{
    static const char letters[] = "\r\n..ab\r\n";

    (void)unused;
    srand(11);
    for (unsigned round = 0; round < 20000; round++) {
        char text[64], plain[64];
        size_t n = (size_t)rand() % 40, kept = 0, i = 0, end = 0;
        bool bare = false, ended = false, line_start = true;
        struct sink s = {.in = {.max_size = 1000}};

        for (size_t c = 0; c < n; c++)
            text[c] = letters[(size_t)rand() % (sizeof(letters) - 1)];
        memcpy(text + n, "\r\n.\r\n", 5);
        n += 5;
        while (i < n && !ended) {
            if (line_start && n - i >= 3 && memcmp(text + i, ".\r\n", 3) == 0) {
                ended = true;
                end = i + 3;
                break;
            }
            if (line_start && text[i] == '.')
                i++;
            line_start = false;
            if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n') {
                plain[kept++] = text[i++];
                line_start = true;
            } else if (text[i] == '\r' || text[i] == '\n') {
                bare = true;
            }
            plain[kept++] = text[i++];
        }
        run(&s, text, n, 1 + (size_t)rand() % 9);
        assert_true(ended && s.in.ended);
        assert_int_equal(s.rest, n - end);
        assert_int_equal(s.in.fault != FAULT_NONE, bare);
        if (!bare) {
            assert_int_equal(s.stored.n, kept);
            if (kept)
                assert_memory_equal(s.stored.p, plain, kept);
        }
        buf_free(&s.stored);
    }
}

static void discard(struct smtp_intake *in, const char *p, size_t n)
{
    (void)in;
    (void)p;
    (void)n;
}

static void test_speed(void **unused)
{
    AUTO(buf) struct buf b = BUF_INIT(1 << 20);
    struct smtp_intake in = {.store = discard, .max_size = UINT64_MAX, .want_8bit = true};
    struct timespec from, to;
    double seconds;

    (void)unused;
    buf_str_add(&b, "Subject: x\r\n\r\n");
    while (b.n < 65000)
        buf_str_add(
            &b, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\r\n");
    smtp_intake_start(&in);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (unsigned i = 0; i < 4000; i++)
        assert_int_equal(smtp_intake_feed(&in, b.p, b.n), b.n);
    clock_gettime(CLOCK_MONOTONIC, &to);
    seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    print_message("%.2f GB/s\n", 4000.0 * (double)b.n / seconds / 1e9);
    assert_true(4000.0 * (double)b.n / seconds >
                20e6); /* loose: sanitizers, valgrind, busy machines */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),       cmocka_unit_test(test_nul),
        cmocka_unit_test(test_stalled),    cmocka_unit_test(test_facts),
        cmocka_unit_test(test_insertion),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_long_lines), cmocka_unit_test(test_against_a_plain_scanner),
        cmocka_unit_test(test_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
