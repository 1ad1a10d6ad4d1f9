/* Headers for the mail log: found, unfolded, escaped, bounded. */
#include "daemon/logheaders.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

static const char *of(const char *text, const char *names, size_t max)
{
    static char copy[4000];
    struct buf out = BUF_INIT(4000);
    struct strlist list = {0};

    out.max = max;
    strlist_split(&list, names, ',');
    logheaders_text(slice_of(text), &list, &out);
    str_copy(copy, sizeof(copy), buf_str(&out));
    buf_free(&out);
    strlist_free(&list);
    return copy;
}

static void found(void **state)
{
    static const char text[] = "Received: x\r\nX-Mailer: mutt\r\nSubject: a\r\n\tfolded  one\r\nX-TAG : b'c\r\nx-tag:\x1b[2m\r\nBroken\r\n"
                               "X-Last: z\r\n\r\nX-Body: no\r\n";

    (void)state;
    assert_string_equal(of(text, "x-mailer", 2000), "[('X-Mailer', 'mutt')]");
    assert_string_equal(of(text, "Subject", 2000), "[('Subject', 'a folded  one')]");
    assert_string_equal(of(text, "X-Tag,X-Last", 2000), "[('X-TAG', 'b\\'c'), ('x-tag', '\\x1B[2m'), ('X-Last', 'z')]");
    assert_string_equal(of(text, "X-Body,Nothing,Broken", 2000), "");
    assert_string_equal(of("", "X", 2000), "");
    assert_string_equal(of("X:", "X", 2000), "[('X', '')]");
    assert_string_equal(of("X: 1", "X", 2000), "[('X', '1')]");
    assert_string_equal(of("\r\nX: 1\r\n", "X", 2000), "");
}

static void bounded(void **state)
{
    char text[3000] = "X: ";

    (void)state;
    memset(text + 3, 'y', 1000);
    strcat(text, "\r\n");
    assert_int_equal(strlen(of(text, "X", 2000)), 200 + strlen("[('X', '')]"));
    assert_string_equal(of(text, "X", 100), ""); /* no room: left out, not cut */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found),
        cmocka_unit_test(bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
