/* The whole product of levels, fallback settings and events: what a delivery may do is this table
 * and nothing else. */
#include "daemon/tls_policy.h"

#include "store/base/str.h"
#include "tests/unit/cm.h"

#define SEND TLS_STEP_SEND
#define STLS TLS_STEP_STARTTLS
#define NEXT TLS_STEP_NEXT
#define AGAIN TLS_STEP_RECONNECT

static const struct {
    int level, fallback;
    enum tls_step offered, not_offered, refused, broken, done;
} table[] = {
    {DEST_TLS_NONE,      FALLBACK_BEFORE_220, SEND, SEND, SEND, SEND,  SEND},
    {DEST_TLS_NONE,      FALLBACK_BOTH,       SEND, SEND, SEND, SEND,  SEND},
    {DEST_TLS_NONE,      FALLBACK_AFTER_220,  SEND, SEND, SEND, SEND,  SEND},
    {DEST_TLS_NONE,      FALLBACK_NEVER,      SEND, SEND, SEND, SEND,  SEND},
    {DEST_TLS_PREFERRED, FALLBACK_BEFORE_220, STLS, SEND, SEND, NEXT,  SEND},
    {DEST_TLS_PREFERRED, FALLBACK_BOTH,       STLS, SEND, SEND, AGAIN, SEND},
    {DEST_TLS_PREFERRED, FALLBACK_AFTER_220,  STLS, SEND, NEXT, AGAIN, SEND},
    {DEST_TLS_PREFERRED, FALLBACK_NEVER,      STLS, SEND, NEXT, NEXT,  SEND},
    {DEST_TLS_REQUIRED,  FALLBACK_BEFORE_220, STLS, NEXT, NEXT, NEXT,  SEND},
    {DEST_TLS_REQUIRED,  FALLBACK_BOTH,       STLS, NEXT, NEXT, NEXT,  SEND},
    {DEST_TLS_REQUIRED,  FALLBACK_AFTER_220,  STLS, NEXT, NEXT, NEXT,  SEND},
    {DEST_TLS_REQUIRED,  FALLBACK_NEVER,      STLS, NEXT, NEXT, NEXT,  SEND},
};

static void every_combination(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(table); i++) {
        struct tls_verdict v = tls_verdict(
            &(struct tls_evidence){.level = table[i].level, .fallback = table[i].fallback});

        assert_int_equal(tls_next(&v, TLS_EV_EHLO, 0), table[i].offered);
        assert_int_equal(tls_next(&v, TLS_EV_NOT_OFFERED, 0), table[i].not_offered);
        assert_int_equal(tls_next(&v, TLS_EV_REFUSED, 0), table[i].refused);
        assert_int_equal(tls_next(&v, TLS_EV_BROKEN, 0), table[i].broken);
        assert_int_equal(tls_next(&v, TLS_EV_DONE, 0), table[i].done);
    }
}

static void a_failed_record_lookup_holds_mail_unless_dane_proves_the_host(void **state)
{
    (void)state;
    for (int level = DEST_TLS_NONE; level <= DEST_TLS_REQUIRED_HOSTED; level++) {
        struct tls_evidence e = {
            .level = level, .dane = DANE_OPPORTUNISTIC, .sts_state = STS_FAILED};
        struct tls_verdict v = tls_verdict(&e);

        assert_int_equal(v.use, TLS_REFUSE);
        assert_int_equal(v.rule, RULE_STS_FAILED);
        e.dane_state = DANE_USABLE;
        v = tls_verdict(&e);
        assert_int_equal(v.rule, RULE_DANE_USABLE);
    }
}

static void required_has_no_way_into_the_clear(void **state)
{
    (void)state;
    for (int fallback = FALLBACK_BEFORE_220; fallback <= FALLBACK_NEVER; fallback++) {
        struct tls_verdict v =
            tls_verdict(&(struct tls_evidence){.level = DEST_TLS_REQUIRED, .fallback = fallback});

        for (int event = TLS_EV_EHLO; event < TLS_EV_DONE; event++) {
            assert_int_not_equal(tls_next(&v, (enum tls_event)event, 0), TLS_STEP_SEND);
            assert_int_not_equal(tls_next(&v, (enum tls_event)event, 0), TLS_STEP_RECONNECT);
        }
    }
}

static void sessions_serve_no_stronger_need(void **state)
{
    struct tls_need none = {.verdict = tls_verdict(&(struct tls_evidence){.level = DEST_TLS_NONE})};
    struct tls_need try = {.verdict =
                               tls_verdict(&(struct tls_evidence){.level = DEST_TLS_PREFERRED})};
    struct tls_proof clear = {0}, encrypted = {.encrypted = true};

    (void)state;
    assert_true(tls_serves(&clear, &none));
    assert_true(tls_serves(&encrypted, &none));
    assert_false(tls_serves(&clear, &try));
    assert_true(tls_serves(&encrypted, &try));
}

static void words_of_the_log(void **state)
{
    (void)state;
    assert_string_equal(tls_failure(TLS_EV_NOT_OFFERED),
                        "TLS required, STARTTLS unavailable, destination is TLS disabled");
    assert_string_equal(tls_failure(TLS_EV_REFUSED), "STARTTLS unexpected response");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination),
        cmocka_unit_test(a_failed_record_lookup_holds_mail_unless_dane_proves_the_host),
        cmocka_unit_test(required_has_no_way_into_the_clear),
        cmocka_unit_test(sessions_serve_no_stronger_need),
        cmocka_unit_test(words_of_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
