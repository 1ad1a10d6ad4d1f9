/* The whole product of what can be known about a host, played against every kind of peer. What must
 * hold is said here in terms of what happens to the mail, as the RFCs and the product's documents
 * put it, not in terms of verdicts. */
#include "daemon/tls_policy.h"

#include <stdio.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/cm.h"

/* ---- a peer, and what becomes of the mail ---- */

enum peer { NO_STARTTLS, REFUSES, BREAKS, ENCRYPTS, PEERS };
enum fate { WAITS, IN_CLEAR, ENCRYPTED };

/* passed: the checks the peer's certificate would pass. *said: STARTTLS was. */
static enum fate play(const struct tls_verdict *v, enum peer peer, unsigned passed, bool *said)
{
    enum tls_step step = tls_next(v, peer == NO_STARTTLS ? TLS_EV_NOT_OFFERED : TLS_EV_EHLO, 0);

    *said = step == TLS_STEP_STARTTLS;
    if (step == TLS_STEP_SEND)
        return IN_CLEAR;
    if (step == TLS_STEP_NEXT)
        return WAITS;
    assert_int_equal(step, TLS_STEP_STARTTLS);
    if (peer == ENCRYPTS) {
        step =
            tls_next(v, TLS_EV_DONE, passed & (v->must | v->look)); /* nothing else is looked at */
        assert_true(step == TLS_STEP_SEND || step == TLS_STEP_NEXT);
        return step == TLS_STEP_SEND ? ENCRYPTED : WAITS;
    }
    step = tls_next(v, peer == REFUSES ? TLS_EV_REFUSED : TLS_EV_BROKEN, 0);
    /* RFC 3207: after its 220 a connection that did not shake hands carries nothing */
    assert_true(peer == REFUSES ? step != TLS_STEP_RECONNECT : step != TLS_STEP_SEND);
    assert_int_not_equal(step, TLS_STEP_STARTTLS);
    return step == TLS_STEP_NEXT ? WAITS : IN_CLEAR;
}

/* ---- every combination ---- */

#define FOR_EVERY(e)                                                                               \
    for ((e)->level = DEST_TLS_DEFAULT; (e)->level <= DEST_TLS_REQUIRED_HOSTED; (e)->level++)      \
        for ((e)->fallback = FALLBACK_BEFORE_220; (e)->fallback <= FALLBACK_NEVER;                 \
             (e)->fallback++)                                                                      \
            for ((e)->dane = DANE_DEFAULT; (e)->dane <= DANE_MANDATORY; (e)->dane++)               \
                for (int ds = DANE_NOT_ASKED; ds <= DANE_FAILED; ds++)                             \
                    for (int ss = STS_NOT_ASKED; ss <= STS_MODE_ENFORCE; ss++)                     \
                        for (int bits = 0; bits < 32; bits++)                                      \
                            if (set_rest((e), ds, ss, bits))

static bool set_rest(struct tls_evidence *e, int ds, int ss, int bits)
{
    e->dane_state = (enum dane_state)ds;
    e->sts_state = (enum sts_state)ss;
    e->sts_lists_host = bits & 1;
    e->exempt = bits & 2;
    e->demanded = bits & 4;
    e->failed_lately = bits & 8;
    e->authenticates = !!(bits & 16);
    return true;
}

/* What is so, in words of the RFCs and of the settings. */
struct facts {
    bool dane; /* the destination uses it and this host was asked about */
    bool dane_proves; /* usable records */
    bool dane_error; /* nothing may be concluded */
    bool dane_missing; /* mandatory, and not there */
    bool dane_encrypts; /* records, but unusable: RFC 7672 section 2.2 */
    bool sts; /* a policy in force that DANE does not supersede (RFC 8461 section 2) */
    bool level_encrypts, level_verifies, level_verifies_hosted;
    bool password; /* of ours goes over: to the host that is meant, and to nobody else */
    bool nothing_ever;
};

static struct facts facts_of(const struct tls_evidence *e)
{
    struct facts f = {0};

    f.dane = (e->dane == DANE_OPPORTUNISTIC || e->dane == DANE_MANDATORY) &&
             e->dane_state != DANE_NOT_ASKED && e->dane_state != DANE_EXCEPTED;
    f.dane_proves = f.dane && e->dane_state == DANE_USABLE;
    f.dane_error = f.dane && e->dane_state == DANE_FAILED;
    f.dane_missing = f.dane && e->dane == DANE_MANDATORY && !f.dane_proves && !f.dane_error;
    f.dane_encrypts = f.dane && e->dane_state == DANE_UNUSABLE;
    f.sts = e->sts_state == STS_MODE_ENFORCE && !f.dane_proves;
    f.level_verifies = e->level == DEST_TLS_REQUIRED_VERIFY && !f.dane_proves;
    f.level_verifies_hosted = e->level == DEST_TLS_REQUIRED_HOSTED && !f.dane_proves;
    f.password = e->authenticates;
    f.level_encrypts = e->level == DEST_TLS_REQUIRED || e->level == DEST_TLS_REQUIRED_VERIFY ||
                       e->level == DEST_TLS_REQUIRED_HOSTED;
    f.nothing_ever = f.dane_error || f.dane_missing || (f.sts && !e->sts_lists_host) ||
                     (e->sts_state == STS_FAILED && !f.dane_proves);
    return f;
}

static unsigned proof_needed(const struct facts *f)
{
    return (f->dane_proves ? TLS_CHECK_DANE : 0) | (f->sts ? TLS_CHECK_MX : 0) |
           (f->level_verifies ? TLS_CHECK_VERIFY : 0) |
           (f->level_verifies_hosted ? TLS_CHECK_HOSTED : 0) |
           (f->password ? TLS_CHECK_ROUTE : 0);
}

static void report(const struct tls_evidence *e, enum peer peer, unsigned passed)
{
    print_message("level %d fallback %d dane %d %s sts %s lists %d exempt %d demanded %d memory %d "
                  "peer %d passed %x\n",
                  e->level, e->fallback, e->dane, dane_state_word(e->dane_state),
                  sts_state_word(e->sts_state), e->sts_lists_host, e->exempt, e->demanded,
                  e->failed_lately, (int)peer, passed);
}

#define HOLDS(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            report(&e, peer, passed);                                                              \
            assert_true(what);                                                                     \
        }                                                                                          \
    } while (0)

static void nothing_goes_where_it_may_not(void **state)
{
    struct tls_evidence e;
    size_t n = 0;

    (void)state;
    FOR_EVERY(&e)
    {
        struct tls_verdict v = tls_verdict(&e);
        struct facts f = facts_of(&e);
        bool no_clear = f.level_encrypts || f.dane_proves || f.dane_encrypts || f.sts ||
                        e.demanded || f.password || f.nothing_ever;

        n++;
        assert_false(v.use == TLS_NEVER && v.look); /* there is nothing to look at */
        for (enum peer peer = NO_STARTTLS; peer < PEERS; peer++)
            for (unsigned passed = 0; passed < (peer == ENCRYPTS ? 1U << TLS_CHECKS : 1);
                 passed++) {
                bool said;
                enum fate fate = play(&v, peer, passed, &said);

                HOLDS(!no_clear || fate != IN_CLEAR);
                HOLDS(!f.nothing_ever || fate == WAITS);
                HOLDS(!e.exempt || !said);
                HOLDS(!e.exempt || !no_clear || fate == WAITS);
                if (fate == ENCRYPTED)
                    HOLDS((passed & proof_needed(&f)) == proof_needed(&f));
                if (said && (f.dane_proves || f.sts || f.password)) /* RFC 7672 section 8, RFC 8461 section 7.2 */
                    HOLDS(v.modern);
            }
    }
    assert_int_equal(n, 7 * 4 * 4 * 9 * 8 * 32);
}

/* Security that nobody asked for must not keep mail either. */
static void everything_goes_where_it_may(void **state)
{
    struct tls_evidence e;

    (void)state;
    FOR_EVERY(&e)
    {
        struct tls_verdict v = tls_verdict(&e);
        struct facts f = facts_of(&e);
        bool may_clear = !f.level_encrypts && !f.dane_proves && !f.dane_encrypts && !f.sts &&
                         !e.demanded && !f.password && !f.nothing_ever;
        enum peer peer = ENCRYPTS;
        unsigned passed = proof_needed(&f);
        bool said;
        enum fate fate = play(&v, peer, passed, &said);

        /* a peer that shows what was asked for gets the mail */
        if (!f.nothing_ever && !(e.exempt && !may_clear))
            HOLDS(fate != WAITS);
        /* encrypted whenever anything asks for it and nothing forbids STARTTLS */
        if (fate == IN_CLEAR)
            HOLDS(e.exempt || e.level == DEST_TLS_NONE || e.level == DEST_TLS_DEFAULT ||
                  (e.failed_lately && e.level == DEST_TLS_PREFERRED));
        peer = NO_STARTTLS;
        passed = 0;
        fate = play(&v, peer, passed, &said);
        HOLDS((fate == IN_CLEAR) == may_clear);
        /* the fallback setting says how a preferred TLS that fails goes on, and nothing else does
         */
        peer = REFUSES;
        fate = play(&v, peer, passed, &said);
        if (may_clear && said)
            HOLDS((fate == IN_CLEAR) ==
                  (e.fallback == FALLBACK_BEFORE_220 || e.fallback == FALLBACK_BOTH));
        peer = BREAKS;
        fate = play(&v, peer, passed, &said);
        if (may_clear && said)
            HOLDS((fate == IN_CLEAR) ==
                  (e.fallback == FALLBACK_AFTER_220 || e.fallback == FALLBACK_BOTH));
    }
}

static bool same_fate(const struct tls_evidence *a, const struct tls_evidence *b)
{
    struct tls_verdict va = tls_verdict(a), vb = tls_verdict(b);

    for (enum peer peer = NO_STARTTLS; peer < PEERS; peer++)
        for (unsigned passed = 0; passed < 1U << TLS_CHECKS; passed++) {
            bool sa, sb;

            if (play(&va, peer, passed, &sa) != play(&vb, peer, passed, &sb) || sa != sb)
                return false;
        }
    return true;
}

static void what_must_not_matter_does_not(void **state)
{
    struct tls_evidence e;

    (void)state;
    FOR_EVERY(&e)
    {
        struct tls_evidence o = e;
        struct facts f = facts_of(&e);
        enum peer peer = PEERS;
        unsigned passed = 0;

        /* RFC 8461 section 5: a policy in testing mode changes nothing about the delivery, but for
         * the memory of failures, which is not for hosts under a policy; nor does one that is not
         * there */
        if (e.sts_state == STS_MODE_TESTING && !e.failed_lately) {
            o.sts_state = STS_NOT_ASKED;
            HOLDS(same_fate(&e, &o));
        }
        if (e.sts_state <= STS_NO_POLICY || e.sts_state == STS_MODE_NONE) {
            o.sts_state = STS_NOT_ASKED;
            HOLDS(same_fate(&e, &o));
        }
        o = e; /* opportunistic DANE that finds nothing leaves everything as it was */
        if (e.dane == DANE_OPPORTUNISTIC && f.dane && e.dane_state <= DANE_NO_RECORDS) {
            o.dane = DANE_OFF;
            HOLDS(same_fate(&e, &o));
        }
        o = e; /* DANE that proves the host leaves nothing to the level and to MTA-STS (RFC 8461
                  section 2) */
        if (f.dane_proves) {
            o.level = DEST_TLS_REQUIRED_HOSTED;
            o.sts_state = STS_MODE_ENFORCE;
            o.sts_lists_host = false;
            HOLDS(same_fate(&e, &o));
        }
        o = e; /* the memory of failures counts where TLS is preferred and nothing else is known */
        if (e.failed_lately && (e.level != DEST_TLS_PREFERRED || e.demanded || f.dane_proves ||
                                f.dane_encrypts || f.sts || f.password ||
                                e.sts_state == STS_MODE_TESTING)) {
            o.failed_lately = false;
            HOLDS(same_fate(&e, &o));
        }
    }
}

/* ---- the documents' own tables, row by row ---- */

#define ANY (-1)
struct scenario {
    int dane, dane_state, sts_state, lists; /* ANY */
    unsigned passed; /* by the certificate, on top of what the level wants */
    enum { YES_TLS, NO, BY_LEVEL } delivered;
};

/* Seeds, "DANE and MTA-STS scenarios": three tables. */
static const struct scenario scenarios[] = {
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_ENFORCE, 1,   TLS_CHECK_MX,   YES_TLS },
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_ENFORCE, 0,   TLS_CHECK_MX,
     NO                                                                                     }, /* MX record not in the policy */
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_ENFORCE, 1,   0,              NO      }, /* certificate of the MX fails */
    {DANE_OFF,           DANE_NOT_ASKED,     STS_NO_RECORD,    ANY, 0,              BY_LEVEL}, /* any other failure */
    {DANE_OFF,           DANE_NOT_ASKED,     STS_NO_POLICY,    ANY, 0,              BY_LEVEL},
    {DANE_OPPORTUNISTIC, DANE_USABLE,        ANY,              ANY, TLS_CHECK_DANE, YES_TLS },
    {DANE_OPPORTUNISTIC, DANE_USABLE,        ANY,              ANY, TLS_CHECK_MX,   NO      }, /* certificate fails */
    {DANE_OPPORTUNISTIC, DANE_FAILED,        ANY,              ANY, TLS_CHECK_MX,   NO      }, /* bogus MX, A or TLSA */
    {DANE_OPPORTUNISTIC, DANE_INSECURE_MX,   STS_MODE_ENFORCE, 1,   TLS_CHECK_MX,   YES_TLS },
    {DANE_OPPORTUNISTIC, DANE_INSECURE_HOST, STS_MODE_ENFORCE, 1,   TLS_CHECK_MX,   YES_TLS },
    {DANE_OPPORTUNISTIC, DANE_NO_RECORDS,    STS_MODE_ENFORCE, 1,   TLS_CHECK_MX,   YES_TLS },
    {DANE_OPPORTUNISTIC, DANE_UNUSABLE,      STS_MODE_ENFORCE, 1,   TLS_CHECK_MX,   YES_TLS },
    {DANE_OPPORTUNISTIC, DANE_NO_RECORDS,    STS_MODE_ENFORCE, 0,   TLS_CHECK_MX,   NO      },
    {DANE_OPPORTUNISTIC, DANE_NO_RECORDS,    STS_NO_POLICY,    ANY, 0,              BY_LEVEL},
    {DANE_OPPORTUNISTIC, DANE_INSECURE_MX,   STS_NO_RECORD,    ANY, 0,              BY_LEVEL},
    {DANE_MANDATORY,     DANE_USABLE,        ANY,              ANY, TLS_CHECK_DANE, YES_TLS },
    {DANE_MANDATORY,     DANE_USABLE,        ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_INSECURE_MX,   ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_INSECURE_HOST, ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_NO_RECORDS,    ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_UNUSABLE,      ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_FAILED,        ANY,              ANY, TLS_CHECK_MX,   NO      },
    {DANE_MANDATORY,     DANE_ROUTED,        ANY,              ANY, TLS_CHECK_MX,   NO      },
 /* testing: the same faults, delivered by the destination's level */
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_TESTING, 0,   0,              BY_LEVEL},
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_TESTING, 1,   0,              BY_LEVEL},
    {DANE_OFF,           DANE_NOT_ASKED,     STS_MODE_NONE,    0,   0,              BY_LEVEL},
};

static void one_row(const struct scenario *r, const struct tls_evidence *e)
{
    struct tls_evidence level = {.level = e->level, .fallback = e->fallback};
    struct tls_verdict v = tls_verdict(e);
    unsigned passed =
        r->passed | TLS_CHECK_VERIFY | TLS_CHECK_HOSTED; /* what the level wants is there */
    bool said;

    switch (r->delivered) {
    case YES_TLS:
        assert_int_equal(play(&v, ENCRYPTS, passed, &said), ENCRYPTED);
        for (enum peer peer = NO_STARTTLS; peer < ENCRYPTS; peer++)
            assert_int_equal(play(&v, peer, 0, &said), WAITS);
        break;
    case NO:
        for (enum peer peer = NO_STARTTLS; peer < PEERS; peer++)
            assert_int_equal(play(&v, peer, passed, &said), WAITS);
        break;
    case BY_LEVEL:
        assert_true(same_fate(e, &level));
        break;
    }
}

static void scenarios_of_dane_and_mta_sts(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(scenarios); i++)
        for (int level = DEST_TLS_NONE; level <= DEST_TLS_REQUIRED_HOSTED; level++)
            for (int sts = STS_NOT_ASKED; sts <= STS_MODE_ENFORCE; sts++)
                for (int lists = 0; lists < 2; lists++) {
                    const struct scenario *r = &scenarios[i];
                    struct tls_evidence e = {.level = level,
                                             .dane = r->dane,
                                             .dane_state = (enum dane_state)r->dane_state,
                                             .sts_state = (enum sts_state)sts,
                                             .sts_lists_host = lists};

                    if ((r->sts_state != ANY && sts != r->sts_state) ||
                        (r->lists != ANY && lists != r->lists))
                        continue;
                    one_row(r, &e);
                }
}

/* Seeds, table 2 "delivery TLS settings", with the default of preferred_fallback. */
static const struct {
    int level;
    enum fate no_starttls, refused, broken, verified, not_verified;
} settings[] = {
    {DEST_TLS_NONE,             IN_CLEAR, IN_CLEAR, IN_CLEAR, IN_CLEAR,  IN_CLEAR },
    {DEST_TLS_PREFERRED,        IN_CLEAR, IN_CLEAR, WAITS,    ENCRYPTED, ENCRYPTED},
    {DEST_TLS_REQUIRED,         WAITS,    WAITS,    WAITS,    ENCRYPTED, ENCRYPTED},
    {DEST_TLS_PREFERRED_VERIFY, IN_CLEAR, IN_CLEAR, WAITS,    ENCRYPTED, ENCRYPTED},
    {DEST_TLS_REQUIRED_VERIFY,  WAITS,    WAITS,    WAITS,    ENCRYPTED, WAITS    },
    {DEST_TLS_REQUIRED_HOSTED,  WAITS,    WAITS,    WAITS,    ENCRYPTED, WAITS    },
};

static void delivery_tls_settings(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(settings); i++) {
        struct tls_verdict v = tls_verdict(&(struct tls_evidence){.level = settings[i].level});
        bool said;

        assert_int_equal(play(&v, NO_STARTTLS, 0, &said), settings[i].no_starttls);
        assert_int_equal(play(&v, REFUSES, 0, &said), settings[i].refused);
        assert_int_equal(play(&v, BREAKS, 0, &said), settings[i].broken);
        assert_int_equal(play(&v, ENCRYPTS, ~0U, &said), settings[i].verified);
        assert_int_equal(play(&v, ENCRYPTS, 0, &said), settings[i].not_verified);
        assert_int_equal(said, settings[i].level != DEST_TLS_NONE);
    }
}

/* Level 4: what was found is looked at, whatever it is. */
static void preferred_verify_looks(void **state)
{
    struct tls_verdict v = tls_verdict(&(struct tls_evidence){.level = DEST_TLS_PREFERRED_VERIFY});
    struct tls_verdict testing = tls_verdict(&(struct tls_evidence){
        .level = DEST_TLS_PREFERRED, .sts_state = STS_MODE_TESTING, .sts_lists_host = true});

    (void)state;
    assert_int_equal(v.look, TLS_CHECK_VERIFY);
    assert_int_equal(testing.look, TLS_CHECK_MX);
}

static void rules_have_words(void **state)
{
    struct tls_evidence e;
    unsigned seen = 0;

    (void)state;
    FOR_EVERY(&e)
    seen |= 1U << tls_verdict(&e).rule;
    for (int r = 0; r < TLS_RULE_COUNT; r++) {
        assert_true(seen & 1U << r);
        assert_true(*tls_rule_word((enum tls_rule)r) && *tls_rule_sentence((enum tls_rule)r));
    }
}

/* ---- one session for many messages ---- */

static struct tls_need need_of(const struct tls_evidence *e, uint64_t config, unsigned char key)
{
    struct tls_need n = {.verdict = tls_verdict(e), .config = config};

    memset(n.keys, key, sizeof(n.keys));
    return n;
}

/* What a session has shown that was opened for a need, when it carried mail at all. */
static struct tls_proof proof_of(const struct tls_need *n, unsigned passed, bool modern)
{
    struct tls_proof p = {
        .encrypted = true, .modern = modern || n->verdict.modern, .config = n->config};

    p.looked = n->verdict.must | n->verdict.look;
    p.passed = p.looked & (passed | n->verdict.must);
    memcpy(p.keys, n->keys, sizeof(p.keys));
    return p;
}

static const struct tls_evidence needs[] = {
    {.level = DEST_TLS_NONE            },
    {                                                        .level = DEST_TLS_PREFERRED                                 },
    {                               .level = DEST_TLS_REQUIRED},
    {                       .level = DEST_TLS_PREFERRED_VERIFY                                 },
    {                                                  .level = DEST_TLS_REQUIRED_VERIFY       },
    { .level = DEST_TLS_REQUIRED_HOSTED       },
    {                       .level = DEST_TLS_PREFERRED,                                  .sts_state = STS_MODE_TESTING},
    {                                                         .level = DEST_TLS_PREFERRED,            .sts_state = STS_MODE_ENFORCE, .sts_lists_host = true},
    {                                                                   .level = DEST_TLS_REQUIRED_VERIFY,        .sts_state = STS_MODE_ENFORCE, .sts_lists_host = true},
    {                               .level = DEST_TLS_PREFERRED,        .dane = DANE_OPPORTUNISTIC, .dane_state = DANE_USABLE},
    {    .level = DEST_TLS_PREFERRED,                                  .dane = DANE_OPPORTUNISTIC, .dane_state = DANE_UNUSABLE},
    {                                                               .level = DEST_TLS_PREFERRED,         .dane = DANE_OPPORTUNISTIC, .dane_state = DANE_FAILED},
    {                                                                .level = DEST_TLS_PREFERRED,     .sts_state = STS_MODE_ENFORCE},
};

static void a_session_carries_what_it_could_have_been_opened_for(void **state)
{
    (void)state;
    for (size_t a = 0; a < countof(needs); a++)
        for (size_t b = 0; b < countof(needs); b++)
            for (unsigned passed = 0; passed < 16; passed++)
                for (int bits = 0; bits < 8; bits++) {
                    struct tls_need first = need_of(&needs[a], 7, 1);
                    struct tls_need then = need_of(&needs[b], bits & 1 ? 8 : 7, bits & 2 ? 2 : 1);
                    struct tls_proof p = proof_of(&first, passed, bits & 4);
                    bool serves = tls_serves(&p, &then);
                    const struct tls_verdict *v = &then.verdict;

                    if (v->use == TLS_REFUSE)
                        assert_false(serves);
                    else if (v->use == TLS_NEVER)
                        assert_true(serves);
                    else if (bits & 1) /* another client certificate, other settings */
                        assert_false(serves);
                    else if ((v->must | v->look) &&
                             bits & 2) /* other names, records or authorities */
                        assert_false(serves);
                    else if (v->modern && !p.modern)
                        assert_false(serves);
                    else if ((p.looked & v->look) !=
                             v->look) /* what is to be logged was not seen */
                        assert_false(serves);
                    else if (tls_next(v, TLS_EV_DONE, p.passed) !=
                             TLS_STEP_SEND) /* it would not be sent when new */
                        assert_false(serves);
                    if (a == b && !(bits & 3) && v->use != TLS_REFUSE)
                        assert_true(serves);
                }
}

static void a_session_in_clear_carries_what_asks_for_none(void **state)
{
    struct tls_proof clear = {.config = 7};

    (void)state;
    for (size_t i = 0; i < countof(needs); i++) {
        struct tls_need n = need_of(&needs[i], 7, 0);

        assert_int_equal(tls_serves(&clear, &n), n.verdict.use == TLS_NEVER);
    }
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
        cmocka_unit_test(nothing_goes_where_it_may_not),
        cmocka_unit_test(everything_goes_where_it_may),
        cmocka_unit_test(what_must_not_matter_does_not),
        cmocka_unit_test(scenarios_of_dane_and_mta_sts),
        cmocka_unit_test(delivery_tls_settings),
        cmocka_unit_test(preferred_verify_looks),
        cmocka_unit_test(rules_have_words),
        cmocka_unit_test(a_session_carries_what_it_could_have_been_opened_for),
        cmocka_unit_test(a_session_in_clear_carries_what_asks_for_none),
        cmocka_unit_test(words_of_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
