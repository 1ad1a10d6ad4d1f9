/* Rules over objects: what each says, and that looking at a change alone gives the same verdict as
 * looking at everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/check.h"
#include "store/factory.h"
#include "store/text.h"
#include "store/x509.h"
#include "tests/unit/check_fixture.h"

static void rules(void **state)
{
    (void)state;
    expect("", NULL, NULL, NULL);
    expect("listenerconfig set OutboundMail port=2525", "listenerconfig OutboundMail", "port",
           "Listener InboundMail already uses port 2525 of address 127.0.0.1");
    expect("listenerconfig set OutboundMail port=2525 address=0.0.0.0",
           "listenerconfig InboundMail", "port", "Listener OutboundMail already uses port 2525");
    expect("listenerconfig set OutboundMail port=2525 address=127.0.0.2", NULL, NULL, NULL);
    expect("listenerconfig set OutboundMail port=2525 address=::1", NULL, NULL, NULL);
    expect("listenerconfig set InboundMail default_behavior=relay", "listenerconfig InboundMail",
           "default_behavior", "open relay");
    expect("listenerconfig set OutboundMail default_behavior=accept", "listenerconfig OutboundMail",
           "default_behavior", "no recipient access table");
    expect("listenerconfig set InboundMail default_behavior=continue", "listenerconfig InboundMail",
           "default_behavior", "Nothing is left");
    expect("listenerconfig set InboundMail certificate=nope", "listenerconfig InboundMail",
           "certificate",
           "There is no certificate profile nope; create it or choose one of: Demo.");
    expect("listenerconfig set InboundMail bounce_profile=nope", "listenerconfig InboundMail",
           "bounce_profile", "choose one of: Default.");
    expect("certconfig delete Demo", "certconfig Demo", NULL, "used by listenerconfig InboundMail");
    expect("certconfig set new private_key=sealed:1:2", "certconfig new", "certificate",
           "neither a certificate nor a signing request");
    expect("certconfig set new certificate=x", "certconfig new", "private_key",
           "without its private key");
    expect("certconfig set new certificate=x private_key=sealed:1:2", "certconfig new",
           "certificate", "not a certificate in PEM");
    expect("certconfig set new request=x private_key=sealed:1:2; listenerconfig set InboundMail "
           "certificate=new",
           "listenerconfig InboundMail", "certificate", "has no certificate yet");
    expect("bounceconfig set Default initial_retry=4000", "bounceconfig Default", "initial_retry",
           "(4000) must not be longer than the maximum one (3600)");
    expect("bounceconfig setup initial_host_retry=4000", "bounceconfig setup",
           "initial_host_retry", "(4000) must not be longer than the maximum one (3600)");
    expect("bounceconfig delete Default", "bounceconfig Default", NULL,
           "used by listenerconfig InboundMail");
    expect("destconfig delete default", "destconfig default", NULL, "cannot be deleted");
    expect("destconfig set default use_tls=default", "destconfig default", "use_tls",
           "nothing to inherit");
    expect("destconfig set default concurrency_limit=default", "destconfig default",
           "concurrency_limit", "nothing to inherit");
    expect("destconfig set a.example recipient_limit=5", "destconfig a.example",
           "recipient_minutes", "both");
    expect("destconfig set a.example recipient_limit=5 recipient_minutes=1", NULL, NULL, NULL);
    expect("destconfig set a.example recipient_limit=5 recipient_limit_minutes=1 "
           "concurrency_limit_type=MXIP concurrency_limit_apply=vg",
           NULL, NULL, NULL);
    expect("destconfig set a.example dane=mandatory", "destconfig a.example", "dane",
           "needs TLS, but use_tls is off in the default entry; set use_tls to \"on\" or more, or "
           "dane to \"none\".");
    expect("destconfig set a.example use_tls=off mta_sts=on", "destconfig a.example", "mta_sts",
           "needs TLS, but use_tls is off; set use_tls to \"on\" or more, or mta_sts to \"off\".");
    expect("destconfig set default dane=opportunistic", "destconfig default", "dane", "needs TLS");
    expect("destconfig set default use_tls=on dane=opportunistic mta_sts=on; "
           "destconfig set a.example use_tls=off",
           NULL, NULL, NULL); /* what it says itself counts; what it inherits does not contradict */
    expect("destconfig set a.example use_tls=require dane=none mta_sts=on", NULL, NULL, NULL);
    expect("sslconfig inbound_min=tlsv1.3 inbound_max=tlsv1.2", "sslconfig", "inbound_min",
           "must not be newer than the newest one (inbound_max, TLS v1.2)");
    expect("sslconfig outbound_ciphers=TLS_AES_128_GCM_SHA256", "sslconfig", "outbound_ciphers",
           "names TLS v1.3 suites only");
    expect("sslconfig outbound_ciphers=TLS_AES_128_GCM_SHA256 outbound_min=tlsv1.3", NULL, NULL,
           NULL);
    expect("sslconfig inbound_min=tlsv1.0", NULL, NULL, NULL); /* a warning */
    expect("tlsexceptions set x kind=no-dane target=192.0.2.1 reason=r owner=o expires=2030-01-01",
           "tlsexceptions x", "target", "is an MX host");
    expect("tlsexceptions set x kind=no-tls target=192.0.2.1 reason=r owner=o expires=2001-01-01",
           NULL, NULL, NULL); /* over: a warning, so that old files load */
    expect("destconfig set a.example bounce_profile=nope", "destconfig a.example", "bounce_profile",
           "Bounce profile nope does not exist");
    expect("smtproutes set a.example hosts=\"USEDNS, b.example\"", "smtproutes a.example", "hosts",
           "USEDNS must stand by itself");
    expect("smtproutes set a.example hosts=/dev/null", NULL, NULL, NULL);
    expect("listenerconfig edit InboundMail hostaccess set sendergroup WHITELIST policy=nope",
           "listenerconfig InboundMail hostaccess sendergroup WHITELIST", "policy",
           "no mail flow policy nope");
    expect("listenerconfig edit InboundMail hostaccess delete policy BLOCKED",
           "listenerconfig InboundMail hostaccess sendergroup BLACKLIST", "policy",
           "no mail flow policy BLOCKED");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=ALL",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts",
           "\"ALL\" makes an open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=::/0",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts", "open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit policy BLOCKED behavior=relay; "
           "listenerconfig edit OutboundMail hostaccess set sendergroup X policy=BLOCKED hosts=ALL",
           "listenerconfig OutboundMail hostaccess sendergroup X", "hosts", "open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=0.0.0.0/1",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts", "open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=1-254.",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts", "open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=2000::/3",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts", "open relay");
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST "
           "hosts+=10.0.0.0/8,fc00::/7,2001:db8::/32,.example",
           NULL, NULL, NULL);
    expect("listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=.com",
           "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST", "hosts", "open relay");
    expect("listenerconfig edit InboundMail hostaccess edit policy BLOCKED reject_code=250",
           "listenerconfig InboundMail hostaccess policy BLOCKED", "reject_code", "from 400 to 599");
    expect("listenerconfig edit InboundMail hostaccess edit policy ACCEPTED accept_code=199",
           "listenerconfig InboundMail hostaccess policy ACCEPTED", "accept_code", "from 200 to 299");
    expect("listenerconfig edit InboundMail hostaccess edit policy ACCEPTED limit_code=20",
           "listenerconfig InboundMail hostaccess policy ACCEPTED", "limit_code", "from 400 to 599");
    expect("listenerconfig edit InboundMail hostaccess edit policy ACCEPTED dhap_code=20",
           "listenerconfig InboundMail hostaccess policy ACCEPTED", "dhap_code", "from 400 to 599");
    expect("listenerconfig edit InboundMail rcptaccess set a.example action=reject code=250",
           "listenerconfig InboundMail rcptaccess a.example", "code", "from 400 to 599");
    expect("listenerconfig edit InboundMail rcptaccess set a.example code=551",
           "listenerconfig InboundMail rcptaccess a.example", "code", "choose 250 or 251");
    expect("listenerconfig edit OutboundMail rcptaccess set a.example",
           "listenerconfig OutboundMail rcptaccess a.example", NULL, "is private");
    expect("listenerconfig edit InboundMail rcptaccess set a.example", NULL, NULL, NULL);
    expect("listenerconfig edit Nowhere rcptaccess set a.example",
           "listenerconfig Nowhere rcptaccess a.example", NULL, "There is no listener Nowhere");
}

static void clients_have_to_be_known(void **state)
{
#define IN "listenerconfig set InboundMail "
#define OUT "listenerconfig set OutboundMail "
#define PW "smtpauthconfig set pw kind=forward; smtpauthconfig edit pw server set 192.0.2.1; "
#define RELAYED "listenerconfig edit OutboundMail hostaccess set policy RELAYED "
#define RELAYLIST "; listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=ALL"
    static const char in[] = "listenerconfig InboundMail", out[] = "listenerconfig OutboundMail";
    static const char relayed[] = "listenerconfig OutboundMail hostaccess policy RELAYED";
    static const char relaylist[] = "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST";

    (void)state;
    expect(IN "auth=preferred", NULL, NULL, NULL); /* a warning */
    expect(IN "auth=required", in, "auth", "has no SMTP authentication profile; choose one (smtp_auth)");
    expect(RELAYED "auth=required", relayed, "auth", "listener OutboundMail has no SMTP authentication profile");
    expect(PW IN "auth=required smtp_auth=pw", NULL, NULL, NULL); /* a warning: TLS is off */
    expect(IN "verify_client=yes", in, "verify_client", "set tls to \"preferred\" or \"required\"");
    expect(IN "verify_client=yes tls=required", NULL, NULL, NULL);
    expect(IN "verify_client=yes protocol=smtps", NULL, NULL, NULL);
    expect(RELAYED "verify_client=on", relayed, "verify_client", "which is off");
    expect(RELAYED "verify_client=on tls=preferred", NULL, NULL, NULL);
    expect(OUT "verify_client=yes tls=preferred; " RELAYED "tls=off", relayed, "verify_client", "which is off");
    /* Everybody may be relayed for who has authenticated, on public and private listeners. */
    expect(PW OUT "smtp_auth=pw; " RELAYED "auth=required" RELAYLIST, NULL, NULL, NULL);
    expect(PW OUT "smtp_auth=pw auth=required" RELAYLIST, NULL, NULL, NULL);
    expect(PW OUT "smtp_auth=pw auth=required; " RELAYED "auth=preferred" RELAYLIST, relaylist, "hosts", "open relay");
    expect(PW OUT "smtp_auth=pw auth=required; " RELAYED "auth=off" RELAYLIST, relaylist, "hosts", "open relay");
    expect(PW OUT "smtp_auth=pw; " RELAYED "auth=preferred" RELAYLIST, relaylist, "hosts", "open relay");
    expect(PW OUT "smtp_auth=pw auth=required default_behavior=relay", NULL, NULL, NULL);
    expect(PW OUT "smtp_auth=pw auth=preferred default_behavior=relay", out, "default_behavior", "open relay");
    expect(PW OUT "smtp_auth=pw auth=required default_behavior=accept", NULL, NULL, NULL);
    expect(PW OUT "smtp_auth=pw auth=preferred default_behavior=accept", out, "default_behavior", "open relay");
    expect(OUT "protocol=submission default_behavior=accept", NULL, NULL, NULL);
    expect(OUT "protocol=submission default_behavior=relay", out, "default_behavior", "open relay");
#undef IN
#undef OUT
#undef PW
#undef RELAYED
#undef RELAYLIST
}

/* The sentence about a deletion names the users. */
static void deletion_names_its_users(void **state)
{
    struct config *c = with("certconfig delete Demo");
    struct check check = {0};
    bool said = false;

    (void)state;
    check_config(c, base, &check);
    for (size_t i = 0; i < check.n; i++)
        said = said || str_eq(check.items[i].text,
                              "The certificate profile Demo is to be deleted but is used by "
                              "listenerconfig InboundMail (certificate), listenerconfig "
                              "OutboundMail (certificate), destconfig setup (certificate); choose "
                              "another one there first, or keep it.");
    assert_true(said);
    check_free(&check);
    config_free(&c);
}

static size_t warnings(const struct config *cfg, const struct config *old, bool errors_only,
                       struct check *check)
{
    *check = (struct check){.errors_only = errors_only};
    check_config(cfg, old, check);
    assert_int_equal(check->errors, 0);
    return check->n;
}

static bool has(const struct check *c, const char *object, const char *words)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->items[i].warning && str_eq(c->items[i].object, object) &&
            strstr(c->items[i].text, words))
            return true;
    return false;
}

/* Warnings are told about what changed, and once. */
static void warnings_about_policies(void **state)
{
#define AUTH                                                                                       \
    "smtpauthconfig set pw kind=forward; smtpauthconfig edit pw server set 192.0.2.1; "            \
    "listenerconfig set InboundMail smtp_auth=pw "
    static const struct {
        const char *statements, *object, *field, *text;
    } cases[] = {
        {"listenerconfig set InboundMail accept_code=221",                        "listenerconfig InboundMail", "accept_code",   "code 220"     },
        {AUTH "auth=required",                          "listenerconfig InboundMail", "auth",          "never offered"},
        {"listenerconfig set InboundMail tls_senders=a@b.example",                "listenerconfig InboundMail", "tls_senders",   "no difference"},
        {"listenerconfig set InboundMail tls=preferred auth=preferred", "listenerconfig InboundMail", "auth",
         "no SMTP authentication profile; choose one (smtp_auth)."},
        {AUTH "; listenerconfig edit InboundMail hostaccess edit policy ACCEPTED auth=preferred",
         "listenerconfig InboundMail hostaccess policy ACCEPTED",                                               "auth",          "never offered"},
        {"listenerconfig edit OutboundMail hostaccess edit sendergroup RELAYLIST hosts+=.example",
         "listenerconfig OutboundMail hostaccess sendergroup RELAYLIST",                                        "hosts",         "top-level"    },
        {AUTH "tls=required auth=required verify_client=yes", NULL,                   NULL,            NULL           },
        {AUTH "auth=required auth_needs_tls=no",        NULL,                         NULL,            NULL           },
        {"listenerconfig set InboundMail tls=preferred tls_senders=.b.example; "
         "listenerconfig edit InboundMail hostaccess edit policy BLOCKED accept_code=222",
         NULL,                                                                    NULL,                         NULL                           },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct config *c = with(cases[i].statements);
        struct check check = {0};
        bool found = !cases[i].object;

        check_config(c, base, &check);
        for (size_t k = 0; k < check.n; k++) {
            const struct check_item *item = &check.items[k];

            if (!cases[i].object && item->warning && !str_eq(item->field, "certificate"))
                fail_msg("%s: %s", cases[i].statements, item->text);
            found = found || (item->warning && str_eq(item->object, cases[i].object) &&
                              str_eq(item->field, cases[i].field) &&
                              strstr(item->text, cases[i].text));
        }
        assert_int_equal(check.errors, 0);
        if (!found)
            fail_msg("%s: no warning", cases[i].statements);
        check_free(&check);
        config_free(&c);
    }
}

static void warnings_about_certificates(void **state)
{
    struct x509_request request = {.common_name = "other.example", .days = 10, .algorithm = "p256"};
    struct buf cert = BUF_INIT(1 << 16), key = BUF_INIT(1 << 16);
    struct config_edits edits = {0};
    struct config *with_cert, *with_name;
    struct check check;
    struct row *r;

    (void)state;
    assert_true(x509_make_self_signed(&request, &cert, &key, NULL, NULL));
    r = row_new(&section_certificate, "mail");
    row_set(r, "certificate", buf_str(&cert), NULL);
    row_set(r, "private_key", "sealed:1:2", NULL);
    row_freeze(r);
    config_edits_put(&edits, &section_certificate, "mail", r);
    r = row_copy(config_row(base, &section_listener, "InboundMail"));
    row_set(r, "certificate", "mail", NULL);
    row_freeze(r);
    config_edits_put(&edits, &section_listener, "InboundMail", r);
    with_cert = config_edit(base, edits.items, edits.n, 2);
    config_edits_free(&edits);

    assert_int_equal(warnings(with_cert, base, false, &check), 2);
    assert_true(has(&check, "certconfig mail", "The certificate expires in "));
    assert_true(has(&check, "listenerconfig InboundMail",
                    "does not cover the name of this gateway, "
                    "gw.example.com"));
    check_free(&check);
    assert_int_equal(warnings(with_cert, base, true, &check), 0);
    check_free(&check);
    assert_int_equal(warnings(with_cert, with_cert, false, &check), 0);
    check_free(&check);

    r = row_copy(config_row(with_cert, &section_listener, "OutboundMail"));
    row_set(r, "tls", "required", NULL); /* with Demo; the other listener stays as it was */
    row_freeze(r);
    config_edits_put(&edits, &section_listener, "OutboundMail", r);
    with_name = config_edit(with_cert, edits.items, edits.n, 3);
    config_edits_free(&edits);
    assert_int_equal(warnings(with_name, with_cert, false, &check), 1);
    assert_true(has(&check, "listenerconfig OutboundMail", "demonstration certificate"));
    check_free(&check);
    config_free(&with_name);

    r = row_copy(config_row(with_cert, &section_system, "-"));
    row_set(r, "hostname", "other.example", NULL); /* which the certificate covers */
    row_freeze(r);
    config_edits_put(&edits, &section_system, "-", r);
    with_name = config_edit(with_cert, edits.items, edits.n, 3);
    config_edits_free(&edits);
    assert_int_equal(warnings(with_name, with_cert, false, &check), 0);
    check_free(&check);
    config_free(&with_name);
    config_free(&with_cert);
    buf_free(&cert);
    buf_free(&key);
}

/* However they come in. */
static void authorities_are_bounded(void **state)
{
    (void)state;
    for (int n = 1000; n <= 1001; n++) {
        const struct certificate *demo = CONFIG_GET(base, certificate, "Demo");
        struct config_edits e = {0};
        struct check check = {0};
        struct config *c;

        for (int i = 0; i < n; i++) {
            char name[20];
            struct row *r;

            snprintf(name, sizeof(name), "a%04d", i);
            r = row_new(&section_authority, name);
            assert_true(row_set(r, "certificate", demo->certificate, NULL));
            row_freeze(r);
            config_edits_put(&e, &section_authority, name, r);
        }
        c = config_edit(base, e.items, e.n, 2);
        check_config(c, base, &check);
        assert_int_equal(check.errors, n > 1000);
        if (check.errors)
            assert_non_null(
                strstr(check.items[0].text, "hold 1001 certificate authorities; at most 1000"));
        check_free(&check);
        config_free(&c);
        config_edits_free(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(clients_have_to_be_known),
        cmocka_unit_test(deletion_names_its_users),
        cmocka_unit_test(warnings_about_policies),
        cmocka_unit_test(warnings_about_certificates),
        cmocka_unit_test(authorities_are_bounded),
    };

    return cmocka_run_group_tests(tests, make_base, drop_base);
}
