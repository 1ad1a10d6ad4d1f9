/* Sealed secrets: the same text gives the same reference, nothing of it is in the database in
 * clear, and neither another key file nor a changed row opens it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/str.h"
#include "store/db.h"
#include "store/secret.h"
#include "tests/unit/home.h"

static const char canary[] = "canary-7b1d-private-key";

static void seal_and_open(void **state)
{
    struct home *h = *state;
    struct buf plain = BUF_INIT(1000);
    char *ref, *same, *other_kind, *longer;
    struct err err;

    assert_true(secret_seal(h->db, "certificate.private_key", canary, strlen(canary), &ref, &err));
    assert_true(secret_seal(h->db, "certificate.private_key", canary, strlen(canary), &same, &err));
    assert_true(secret_seal(h->db, "ldap.password", canary, strlen(canary), &other_kind, &err));
    assert_true(secret_seal(h->db, "certificate.private_key", "", 0, &longer, &err));
    assert_string_equal(ref, same);
    assert_string_not_equal(ref, other_kind);
    assert_true(secret_open(h->db, ref, &plain, &err));
    assert_string_equal(buf_str(&plain), canary);
    assert_int_equal(strlen(secret_fingerprint(ref)), 8);
    assert_true(str_starts(secret_fingerprint(ref), "k:"));
    assert_string_equal(secret_fingerprint(ref), secret_fingerprint(same));
    assert_false(secret_open(h->db, "sealed:0123456789abcdef:0123456789abcdef0123456789abcdef",
                             &plain, &err));
    assert_int_equal(err.code, E_NOT_FOUND);
    assert_false(secret_open(h->db, "sealed:../x", &plain, &err));
    assert_false(home_contains(h, "config.db", canary));
    buf_free(&plain);
    free(ref), free(same), free(other_kind), free(longer);
}

static void tampering_is_noticed(void **state)
{
    static const char *const changes[] = {
        "UPDATE secret SET ct=CAST(ct||x'00' AS BLOB)",
        "UPDATE secret SET nonce=zeroblob(12)",
        "UPDATE secret SET kind='other'",
        "UPDATE secret SET wrapped_dek=zeroblob(60)",
        "UPDATE secret SET wrapped_dek=x'00'",
    };
    struct home *h = *state;
    struct buf plain = BUF_INIT(1000);
    struct err err;
    char *ref;

    assert_true(secret_seal(h->db, "k", canary, strlen(canary), &ref, &err));
    for (size_t i = 0; i < countof(changes); i++) {
        assert_int_equal(sqlite3_exec(h->db, "BEGIN", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(h->db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        assert_false(secret_open(h->db, ref, &plain, &err));
        assert_int_equal(plain.n, 0);
        sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    }
    assert_true(secret_open(h->db, ref, &plain, &err));
    buf_free(&plain);
    free(ref);
}

static void key_file(void **state)
{
    struct home *h = *state;
    char *path = xasprintf("%s/seal.key", h->dir);
    struct buf plain = BUF_INIT(1000);
    struct err err;
    struct stat st;
    char *ref;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0400);
    assert_true(secret_seal(h->db, "k", canary, strlen(canary), &ref, &err));
    chmod(path, 0440);
    assert_false(secret_init(h->dir, &err));
    assert_non_null(strstr(err.text, "readable by others"));
    chmod(path, 0600);
    assert_int_equal(truncate(path, 10), 0);
    assert_false(secret_init(h->dir, &err));
    assert_non_null(strstr(err.text, "damaged"));
    unlink(path);
    assert_true(secret_init(h->dir, &err)); /* another key */
    assert_false(secret_open(h->db, ref, &plain, &err));
    assert_non_null(strstr(err.text, "seal.key"));
    buf_free(&plain);
    free(ref);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(seal_and_open, home_make, home_drop),
        cmocka_unit_test_setup_teardown(tampering_is_noticed, home_make, home_drop),
        cmocka_unit_test_setup_teardown(key_file, home_make, home_drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
