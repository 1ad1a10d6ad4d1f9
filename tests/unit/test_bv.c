/* Bounce verification: tags of daemon/bv.c, made, verified, forged, outlived. */
#include "daemon/bv.h"

#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

#define DAY 86400000000LL

static struct smtp_path path_of(const char *address)
{
    struct smtp_path p = {0};

    str_copy(p.address, sizeof(p.address), address);
    p.local_len = (unsigned)(strrchr(address, '@') - address);
    return p;
}

static struct bv_keys keys;

static void add_key(int number, const char *key)
{
    keys.newest = number;
    keys.of[number].there = true;
    str_copy(keys.of[number].text, sizeof(keys.of[number].text), key);
    bv_use(&keys);
}

static void no_keys(void)
{
    memset(&keys, 0, sizeof(keys));
    keys.newest = -1;
    bv_use(&keys);
}

static void round_trip(void **state)
{
    usec_t now = 20000 * DAY + 5;
    char tagged[SMTP_ADDRESS_MAX + 1];
    struct smtp_path p;

    (void)state;
    no_keys();
    assert_false(bv_enabled());
    assert_false(bv_tag("joe@example.com", now, tagged, sizeof(tagged)));
    add_key(3, "secret");
    assert_true(bv_enabled());
    assert_true(bv_tag("Joe@Example.com", now, tagged, sizeof(tagged)));
    assert_memory_equal(tagged, "prvs=3007", 9); /* good through day 20007 */
    assert_string_equal(tagged + 15, "=Joe@Example.com");
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now), BV_GOOD);
    assert_string_equal(p.address, "Joe@Example.com");
    assert_int_equal(p.local_len, 3);
    /* what others make of the case of letters does not matter */
    for (char *c = tagged; *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now), BV_GOOD);
    /* a week, and not a day longer; nor from the future */
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now + 7 * DAY), BV_GOOD);
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now + 8 * DAY), BV_BAD);
    assert_string_equal(p.address, tagged);
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now - DAY), BV_BAD);
}

static void forged(void **state)
{
    static const char *const untagged[] = {
        "joe@example.com",         "prvs=joe@example.com",       "prvs=300712345=joe@example.com",
        "prvs=3007XYZXYZ=joe@example.com", "prvs=3007123456@example.com", "prvs=3007123456=@example.com",
    };
    usec_t now = 20000 * DAY;
    char tagged[SMTP_ADDRESS_MAX + 1], was;
    struct smtp_path p;

    (void)state;
    no_keys();
    add_key(3, "secret");
    for (size_t i = 0; i < countof(untagged); i++) {
        p = path_of(untagged[i]);
        assert_int_equal(bv_untag(&p, now), BV_UNTAGGED);
        assert_string_equal(p.address, untagged[i]);
    }
    assert_true(bv_tag("joe@example.com", now, tagged, sizeof(tagged)));
    for (size_t i = 9; i < 15; i++) { /* any digit */
        was = tagged[i];
        tagged[i] = was == '0' ? '1' : '0';
        p = path_of(tagged);
        assert_int_equal(bv_untag(&p, now), BV_BAD);
        tagged[i] = was;
    }
    tagged[16] = 'p'; /* somebody else's address */
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now), BV_BAD);
    tagged[16] = 'j';
    tagged[5] = '4'; /* a key that is not there */
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now), BV_BAD);
    tagged[5] = '3';
    add_key(4, "other"); /* an earlier key still verifies */
    p = path_of(tagged);
    assert_int_equal(bv_untag(&p, now), BV_GOOD);
    assert_true(bv_tag("joe@example.com", now, tagged, sizeof(tagged)));
    assert_int_equal(tagged[5], '4');
}

static void left_alone(void **state)
{
    char out[SMTP_ADDRESS_MAX + 1] = "before", local[80];

    (void)state;
    add_key(0, "secret");
    assert_false(bv_tag("", 0, out, sizeof(out)));
    assert_false(bv_tag("prvs=0007123456=joe@example.com", 0, out, sizeof(out)));
    assert_false(bv_tag("\"quoted local\"@example.com", 0, out, sizeof(out)));
    memset(local, 'x', 49);
    strcpy(local + 49, "@example.com"); /* 49 + 16 are more than 64 */
    assert_false(bv_tag(local, 0, out, sizeof(out)));
    assert_true(bv_tag(local + 1, 0, out, sizeof(out)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(forged),
        cmocka_unit_test(left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
