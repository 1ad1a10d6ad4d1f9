/* daemon/conserve: thresholds, hysteresis, degrees, with figures of nobody. */
#include "daemon/conserve.h"

#include "store/base/str.h"
#include "tests/unit/cm.h"

static struct conserve fresh(void)
{
    return (struct conserve){.slow_at = 80, .resume_at = 90};
}

static void test_course(void **state)
{
    static const struct {
        unsigned used;
        bool changed;
        enum conserve_mode mode;
        unsigned degree;
    } steps[] = {
        {0,    false, CONSERVE_NOT,    0  },
        {799,  false, CONSERVE_NOT,    0  },
        {800,  true,  CONSERVE_SLOW,   1  },
        {900,  false, CONSERVE_SLOW,   30 },
        {999,  false, CONSERVE_SLOW,   59 },
        {1000, true,  CONSERVE_REFUSE, 999},
        {1500, false, CONSERVE_REFUSE, 999}, /* over it is no worse */
        {999,  false, CONSERVE_REFUSE, 999}, /* one less is not yet better */
        {900,  false, CONSERVE_REFUSE, 999},
        {899,  true,  CONSERVE_SLOW,   30 },
        {1000, true,  CONSERVE_REFUSE, 999},
        {780,  true,  CONSERVE_SLOW,   1  }, /* slow ends later than it began */
        {750,  false, CONSERVE_SLOW,   1  },
        {749,  true,  CONSERVE_NOT,    0  },
        {799,  false, CONSERVE_NOT,    0  },
        {1000, true,  CONSERVE_REFUSE, 999},
        {100,  true,  CONSERVE_NOT,    0  },
    };
    struct conserve c = fresh();

    (void)state;
    for (size_t i = 0; i < countof(steps); i++) {
        assert_int_equal(conserve_set(&c, SCARCE_MESSAGES, steps[i].used, 1000), steps[i].changed);
        assert_int_equal(c.of[SCARCE_MESSAGES].mode, steps[i].mode);
        assert_int_equal(conserve_degree(&c), steps[i].degree);
        assert_int_equal(conserve_worst(&c), steps[i].degree ? SCARCE_MESSAGES : -1);
    }
}

static void test_free_space(void **state)
{
    struct conserve c = fresh();

    (void)state;
    assert_false(conserve_set_free(&c, SCARCE_DISK, 1000, 100));
    assert_true(conserve_set_free(&c, SCARCE_DISK, 125, 100)); /* 100 of 125 is the slow share */
    assert_int_equal(c.of[SCARCE_DISK].mode, CONSERVE_SLOW);
    assert_true(conserve_set_free(&c, SCARCE_DISK, 100, 100));
    assert_int_equal(conserve_degree(&c), CONSERVE_STOP);
    assert_false(conserve_set_free(&c, SCARCE_DISK, 0, 100));
    assert_false(conserve_set_free(&c, SCARCE_DISK, 111, 100));
    assert_true(conserve_set_free(&c, SCARCE_DISK, 112, 100)); /* less than 90 per cent */
    assert_int_equal(c.of[SCARCE_DISK].mode, CONSERVE_SLOW);
    assert_true(conserve_set_free(&c, SCARCE_DISK, 1ull << 60, 100));
    assert_int_equal(conserve_degree(&c), 0);
}

static void test_several(void **state)
{
    struct conserve c = fresh();

    (void)state;
    conserve_set(&c, SCARCE_MEMORY, 85, 100);
    conserve_set(&c, SCARCE_QUEUE, 95, 100);
    assert_int_equal(conserve_worst(&c), SCARCE_QUEUE);
    conserve_set(&c, SCARCE_MEMORY, 100, 100);
    assert_int_equal(conserve_worst(&c), SCARCE_MEMORY);
    assert_int_equal(conserve_degree(&c), CONSERVE_STOP);
    conserve_set(&c, SCARCE_MEMORY, 10, 100);
    assert_int_equal(conserve_worst(&c), SCARCE_QUEUE);
    conserve_set(&c, SCARCE_QUEUE, UINT64_MAX, 0); /* no limit */
    assert_int_equal(conserve_degree(&c), 0);
}

static void test_edges(void **state)
{
    struct conserve c = {.slow_at = 100, .resume_at = 99};

    (void)state;
    assert_false(conserve_set(&c, SCARCE_MESSAGES, 4999999, 5000000)); /* never slow */
    assert_int_equal(conserve_degree(&c), 0);
    assert_true(conserve_set(&c, SCARCE_MESSAGES, 5000000, 5000000)); /* to the message */
    assert_false(conserve_set(&c, SCARCE_MESSAGES, 4950000, 5000000));
    assert_true(conserve_set(&c, SCARCE_MESSAGES, 4949999, 5000000));
    assert_int_equal(c.of[SCARCE_MESSAGES].mode, CONSERVE_NOT);
    assert_true(conserve_set(&c, SCARCE_MEMORY, UINT64_MAX / 2, UINT64_MAX / 4)); /* no overflow */
    assert_false(conserve_set(&c, SCARCE_DISK, UINT64_MAX / 2, UINT64_MAX));
    c = (struct conserve){.slow_at = 3, .resume_at = 99};
    assert_true(conserve_set(&c, SCARCE_MESSAGES, 5, 100));
    assert_false(conserve_set(&c, SCARCE_MESSAGES, 0, 100)); /* a band below 0 has no end: a limit changes it */
    assert_int_equal(conserve_delay(0), 0);
    assert_int_equal(conserve_delay(60), 3000);
    assert_int_equal(conserve_delay(CONSERVE_STOP), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_course),
        cmocka_unit_test(test_free_space),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
