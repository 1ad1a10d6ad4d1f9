/* Change lists: differences, applying, three-way merge; properties over random configurations, then
 * the corners by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/change.h"

static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static struct row *destination(const char *name, const char *tls, const char *limit)
{
    struct row *r = row_new(&section_destination, name);

    assert_true(row_set(r, "use_tls", tls, NULL));
    assert_true(row_set(r, "concurrency_limit", limit, NULL));
    row_freeze(r);
    return r;
}

static void put(struct config_edits *e, const char *name, const char *tls, const char *limit)
{
    config_edits_put(e, &section_destination, name, tls ? destination(name, tls, limit) : NULL);
}

static struct config *edited(const struct config *base, struct config_edits *e)
{
    struct config *c = config_edit(base, e->items, e->n, base ? config_revision(base) + 1 : 1);

    config_edits_free(e);
    return c;
}

/* Random objects: sometimes new, sometimes changed, sometimes gone. even, odd or both of the field
 * pairs. */
static struct config *mutate(const struct config *base, bool tls, bool limit)
{
    static const char *const levels[] = {"off", "on", "require", "default"}, *const limits[] = {
                                                                                 "1", "2", "3",
                                                                                 "default"};
    struct config_edits e = {0};

    for (unsigned i = draw(20) + 1; i > 0; i--) {
        char name[20];
        const struct row *now;
        struct row *r;

        snprintf(name, sizeof(name), "d%u.example", draw(40));
        now = config_row(base, &section_destination, name);
        if (!now && !(tls && limit))
            continue;
        if (now && tls && limit && draw(4) == 0) {
            put(&e, name, NULL, NULL);
            continue;
        }
        r = now ? row_copy(now) : row_new(&section_destination, name);
        if (tls)
            row_set(r, "use_tls", levels[draw(4)], NULL);
        if (limit)
            row_set(r, "concurrency_limit", limits[draw(4)], NULL);
        row_freeze(r);
        config_edits_put(&e, &section_destination, name, r);
    }
    return edited(base, &e);
}

static void assert_same(const struct config *a, const struct config *b)
{
    struct changes d = {0};

    config_diff(a, b, &d);
    assert_int_equal(d.n, 0);
    assert_memory_equal(config_hash(a), config_hash(b), 32);
    changes_free(&d);
}

static struct config *merged_onto(const struct config *base, const struct config *mine,
                                  const struct config *head)
{
    struct changes changes = {0}, out = {0};
    struct conflicts conflicts = {0};
    struct config *c;

    config_diff(base, mine, &changes);
    assert_true(changes_merge(head, &changes, &out, &conflicts));
    assert_int_equal(conflicts.n, 0);
    c = changes_apply(head, &out, 99);
    changes_free(&changes);
    changes_free(&out);
    return c;
}

static void properties(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct config *empty = config_new(), *base, *a, *b, *c, *d;
        struct changes diff = {0}, same = {0};

        seed = round;
        base = mutate(empty, true, true);
        a = mutate(base, true, true);
        config_diff(a, a, &same);
        assert_int_equal(same.n, 0);
        config_diff(base, a, &diff);
        b = changes_apply(base, &diff, 5); /* apply(diff(base, a), base) = a */
        assert_same(a, b);
        changes_free(&diff);
        config_diff(a, base, &diff);
        config_free(&b);
        b = changes_apply(a, &diff, 6); /* and back */
        assert_same(base, b);
        config_free(&a);
        config_free(&b);

        a = mutate(base, true,
                   false); /* disjoint fields: the order of the commits does not matter */
        b = mutate(base, false, true);
        c = merged_onto(base, a, b);
        d = merged_onto(base, b, a);
        assert_same(c, d);
        config_free(&d);
        d = merged_onto(base, a, a); /* what is already so changes nothing */
        assert_same(a, d);

        changes_free(&diff);
        config_free(&a), config_free(&b), config_free(&c), config_free(&d), config_free(&base),
            config_free(&empty);
    }
}

static struct config *one(const char *tls, const char *limit)
{
    struct config_edits e = {0};

    put(&e, "x.example", tls, limit);
    return edited(NULL, &e);
}

static struct config *none(void)
{
    return config_new();
}

/* base, mine, head (NULL: the object is absent); the fields in conflict, or NULL and the result. */
static void corner(struct config *base, struct config *mine, struct config *head,
                   const char *conflict, const char *tls, const char *limit)
{
    struct changes changes = {0}, out = {0};
    struct conflicts conflicts = {0};
    struct config *c;
    bool ok;

    config_diff(base, mine, &changes);
    ok = changes_merge(head, &changes, &out, &conflicts);
    assert_int_equal(ok, !conflict);
    if (conflict) {
        assert_int_equal(conflicts.n, 1);
        assert_string_equal(conflicts.items[0].field ? conflicts.items[0].field->name : "object",
                            conflict);
    } else {
        c = changes_apply(head, &out, 9);
        assert_int_equal(config_count(c, &section_destination), tls ? 1 : 0);
        if (tls) {
            assert_true(row_is(config_at(c, &section_destination, 0), "use_tls", tls));
            assert_true(row_is(config_at(c, &section_destination, 0), "concurrency_limit", limit));
        }
        config_free(&c);
    }
    changes_free(&changes);
    changes_free(&out);
    conflicts_free(&conflicts);
    config_free(&base);
    config_free(&mine);
    config_free(&head);
}

static void corners(void **state)
{
    (void)state;
    corner(one("on", "1"), one("require", "1"), one("on", "5"), NULL, "require", "5");
    corner(one("on", "1"), one("require", "1"), one("off", "1"), "use_tls", NULL, NULL);
    corner(one("on", "1"), one("require", "2"), one("require", "5"), "concurrency_limit", NULL,
           NULL);
    corner(one("on", "1"), one("require", "1"), one("require", "1"), NULL, "require", "1");
    corner(one("on", "1"), none(), one("off", "1"), "object", NULL, NULL); /* I delete, they edit */
    corner(one("on", "1"), one("off", "1"), none(), "object", NULL,
           NULL); /* and the other way round */
    corner(one("on", "1"), none(), none(), NULL, NULL, NULL);
    corner(none(), one("on", "1"), one("on", "1"), NULL, "on", "1");
    corner(none(), one("on", "1"), one("off", "1"), "use_tls", NULL, NULL); /* both created it */
}

static void conflicts_say_all_three(void **state)
{
    struct config *base = one("on", "1"), *mine = one("require", "1"), *head = one("off", "1");
    struct changes changes = {0}, out = {0};
    struct conflicts x = {0};

    (void)state;
    config_diff(base, mine, &changes);
    assert_false(changes_merge(head, &changes, &out, &x));
    assert_string_equal(x.items[0].was, "on");
    assert_string_equal(x.items[0].theirs, "off");
    assert_string_equal(x.items[0].mine, "require");
    changes_free(&changes);
    changes_free(&out);
    conflicts_free(&x);
    config_free(&base), config_free(&mine), config_free(&head);
}

/* An edit that leads back is no change; what is listed is found until it is dropped. */
static void lists(void **state)
{
    struct row *a = destination("x.example", "on", "1"), *b = destination("x.example", "off", "1"),
               *c;
    struct changes list = {0};

    (void)state;
    changes_put(&list, &section_destination, "x.example", a, b);
    changes_put(&list, &section_destination, "y.example", NULL, b);
    assert_int_equal(list.n, 2);
    c = row_copy(a);
    changes_put(&list, &section_destination, "x.example", b, c); /* the first base counts */
    assert_int_equal(list.n, 1);
    assert_null(changes_find(&list, &section_destination, "x.example"));
    assert_non_null(changes_find(&list, &section_destination, "y.example"));
    changes_put(&list, &section_destination, "y.example", NULL, NULL);
    assert_int_equal(list.n, 0);
    changes_free(&list);
    row_free(&a), row_free(&b), row_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties),
        cmocka_unit_test(corners),
        cmocka_unit_test(conflicts_say_all_three),
        cmocka_unit_test(lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
