/* One case per kind of line of mail_logs: the shapes other people's tools parse. */
#include "daemon/maillog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/logfile.h"
#include "store/base/clock.h"
#include "store/base/str.h"

static char lines[4][4096];
static unsigned nlines;
static bool debug;
static enum log_level told = LOG_INFO; /* the level the lines are to have */

/* Stands in for the log files. */
void logfile_write(enum logfile kind, enum log_level level, const char *text)
{
    assert_int_equal(kind, LOGFILE_MAIL);
    assert_int_equal(level, debug ? LOG_DEBUG : told);
    assert_true(nlines < countof(lines));
    str_copy(lines[nlines++], sizeof(lines[0]), text);
}

bool logfile_wants(enum logfile kind, enum log_level level)
{
    (void)kind;
    return level <= LOG_INFO || debug;
}

#define LINE(want)                                                                                 \
    do {                                                                                           \
        assert_int_equal(nlines, 1);                                                               \
        assert_string_equal(lines[0], want);                                                       \
        nlines = 0;                                                                                \
    } while (0)

static struct addr ip(const char *text)
{
    struct addr a;

    assert_true(addr_parse_port(text, 25, &a));
    return a;
}

static void test_connection(void **unused)
{
    struct addr local = ip("10.1.1.1"), peer = ip("10.1.1.209"), six = ip("[2001:db8::1]:25");

    (void)unused;
    maillog_icid_new(5, "Management", &local, &peer, "remotehost.com", true);
    LINE("New SMTP ICID 5 interface Management (10.1.1.1) address 10.1.1.209 reverse dns host "
         "remotehost.com "
         "verified yes");
    maillog_icid_new(450, "IncomingMail", &local, &six, "", false);
    LINE("New SMTP ICID 450 interface IncomingMail (10.1.1.1) address 2001:db8::1 reverse dns host "
         "unknown "
         "verified no");
    maillog_icid_access(3160, "ACCEPT", "None", "ALL");
    LINE("ICID 3160 ACCEPT SG None match ALL SBRS not enabled country not enabled");
    maillog_icid_access(7, "RELAY", "RELAYLIST", "10.1.1.0/24");
    LINE("ICID 7 RELAY SG RELAYLIST match 10.1.1.0/24 SBRS not enabled country not enabled");
    maillog_icid_close(5);
    LINE("ICID 5 close");
    maillog_icid_lost(824107);
    LINE("ICID 824107 lost");
    maillog_icid_timeout(3, &peer);
    LINE("ICID 3 disconnected address 10.1.1.209, no messages injected within timeout period");
    maillog_receiving_failed(18446744073709551615ull, "Message loop");
    LINE("ICID 18446744073709551615 Receiving Failed: Message loop");
}

static void test_inbound_tls(void **unused)
{
    (void)unused;
    maillog_icid_tls(824108, "TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384");
    LINE("ICID 824108 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384");
    maillog_icid_tls_failed(4, "[Errno 104] Connection reset by peer");
    LINE("ICID 4 TLS failed: [Errno 104] Connection reset by peer");
    maillog_icid_tls_missing(8);
    LINE("ICID 8 TLS was required but remote host did not initiate it");
    maillog_icid_certificate(5, "verified", NULL, "CN=jdoe,O=Example");
    LINE("ICID 5 client certificate verified: CN=jdoe,O=Example");
    maillog_icid_certificate(5, "refused", "certificate has expired", "CN=jdoe");
    LINE("ICID 5 client certificate refused (certificate has expired): CN=jdoe");
    maillog_icid_certificate(5, "refused", "none was shown", "");
    LINE("ICID 5 client certificate refused (none was shown): no subject");
}

static void test_auth(void **unused)
{
    (void)unused;
    maillog_auth(450, true, "ironport", "PLAIN", "IncomingAuthentication");
    LINE("SMTP Auth: (ICID 450) succeeded for user: ironport using AUTH mechanism: PLAIN with profile: "
         "IncomingAuthentication");
    maillog_auth(451, false, "a b\r\nx", "PLAIN", "P");
    LINE("SMTP Auth: (ICID 451) failed for user: a\\ b\\x0D\\x0Ax using AUTH mechanism: PLAIN with profile: P");
    told = LOG_WARNING;
    maillog_auth_monitored(7, "jdoe", "P");
    LINE("SMTP Auth: (ICID 7) monitored user: jdoe is not allowed to use SMTP AUTH by profile: P");
    maillog_auth_undecided(7, "jdoe", "LOGIN", "P", "no answer\n");
    LINE("SMTP Auth: (ICID 7) could not be decided for user: jdoe using AUTH mechanism: LOGIN with profile: P: no "
         "answer\\x0A");
    told = LOG_INFO;
    maillog_auth_missing(8);
    LINE("SMTP Auth (ICID 8) was required but remote host did not initiate it");
}

static void test_message(void **unused)
{
    (void)unused;
    maillog_start(6, 5);
    LINE("Start MID 6 ICID 5");
    maillog_from(6, 5, "sender@remotehost.com");
    LINE("MID 6 ICID 5 From: <sender@remotehost.com>");
    maillog_from(6, 5, "");
    LINE("MID 6 ICID 5 From: <>");
    maillog_to(6, 5, 0, "mary@yourdomain.com");
    LINE("MID 6 ICID 5 RID 0 To: <mary@yourdomain.com>");
    maillog_to_rejected(1, 2, "postmaster@example.com", "RAT");
    LINE("MID 1 ICID 2 To: <postmaster@example.com> Rejected by RAT");
    maillog_icid_delayed_reject(824107, &(struct addr){.family = AF_INET, .ip = {10, 8, 236, 135}});
    LINE("ICID 824107 Delayed HAT REJECT continuing session for recipient logging (10.8.236.135)");
    maillog_icid_harvest(9, &(struct addr){.family = AF_INET, .ip = {192, 0, 2, 1}}, NULL, 25,
                         "SUSPECTLIST", "In", "", "a\033>b@example.com");
    LINE("ICID 9 Potential Directory Harvest Attack from host=(192.0.2.1, None), dhap_limit=25, "
         "sender_group=SUSPECTLIST, listener=In, sender=<>, rcpt=<a\\x1B\\>b@example.com>");
    maillog_icid_harvest(9, &(struct addr){.family = AF_INET, .ip = {192, 0, 2, 1}}, "h.example", 1,
                         "None", "In", "s@example.com", "r@example.com");
    LINE("ICID 9 Potential Directory Harvest Attack from host=(192.0.2.1, h.example), dhap_limit=1, "
         "sender_group=None, listener=In, sender=<s@example.com>, rcpt=<r@example.com>");
    maillog_to_invalid(1, 3, '!');
    LINE("ICID 3 MID 1 Invalid recipient address: Invalid character in address: '!'");
    maillog_message_id(6, "<37gva9$5uvbhe@mail.example.com>");
    LINE("MID 6 Message-ID '<37gva9$5uvbhe@mail.example.com>'");
    maillog_subject(6, "Hello");
    LINE("MID 6 Subject 'Hello'");
    maillog_ready(6, 100, "sender@remotehost.com");
    LINE("MID 6 ready 100 bytes from <sender@remotehost.com>");
    maillog_queued(6);
    LINE("MID 6 queued for delivery");
    maillog_finished(6);
    LINE("Message finished MID 6 done");
    maillog_deleted(3, (const unsigned[]){0, 4}, 2);
    LINE("Deleted: MID 3 to RID [0, 4]");
    maillog_redirected(3, "[10.0.0.1]:25");
    LINE("MID 3 redirected to [10.0.0.1]:25");
    maillog_redirected(3, "");
    LINE("MID 3 no longer redirected");
    maillog_generated_bounce(515, 511);
    LINE("MID 515 was generated for bounce of MID 511");
    maillog_aborted(1548, "Receiving aborted");
    assert_int_equal(nlines, 2);
    assert_string_equal(lines[0], "Message aborted MID 1548 Receiving aborted");
    assert_string_equal(lines[1], "Message finished MID 1548 aborted");
    nlines = 0;
}

static void test_delivery(void **unused)
{
    static const unsigned rids[] = {0, 1, 12};
    struct addr local = ip("10.1.1.2"), peer = ip("10.1.1.3");

    (void)unused;
    maillog_dcid_new(834833, &local, &peer);
    LINE("New SMTP DCID 834833 interface 10.1.1.2 address 10.1.1.3 port 25");
    maillog_dcid_close(8);
    LINE("DCID 8 close");
    maillog_dcid_tls(30, "TLSv1.3", "TLS_AES_256_GCM_SHA384", NULL);
    LINE("DCID 30 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384");
    maillog_dcid_tls(2322371, "TLSv1.2", "DHE-RSA-AES256-GCM-SHA384", "karakun.com");
    LINE("DCID 2322371 TLS success protocol TLSv1.2 cipher DHE-RSA-AES256-GCM-SHA384 for karakun.com");
    maillog_dcid_tls_unverified(831556, "peer cert does not match domain x.example", true);
    LINE("DCID 831556 TLS deferring: verify error: peer cert does not match domain x.example");
    maillog_dcid_tls_unverified(831557, "certificate has expired", false);
    LINE("DCID 831557 TLS verify error: certificate has expired");
    maillog_dcid_tls_verified(831558, "*.x.example");
    LINE("DCID 831558 TLS verify success: peer cert matches *.x.example");
    maillog_tls_refused("x.example", "mx.x.example", "sts-mx", "mx.x.example: it is not listed");
    LINE("TLS policy sts-mx keeps mail for x.example from mx.x.example: mx.x.example: it is not listed");
    maillog_sts_applying("test-sts.net");
    LINE("Applying MTA-STS policy for the domain (test-sts.net).");
    maillog_sts_enforcing();
    LINE("Enforcing TLS for MTA-STS Policy");
    maillog_sts_success("test-sts.net");
    LINE("MTA-STS policy for the domain (test-sts.net) Successful.");
    maillog_sts_failed("test-sts.net");
    LINE("Applying MTA-STS policy for the domain (test-sts.net) Failed.");
    maillog_sts_unreachable("auto-sts.net");
    LINE("Connection for the domain (auto-sts.net) failed when MTA-STS Policy was enforced.");
    maillog_sts_skipped("pert-sts.net");
    LINE("MTA-STS policy will be skipped for the (pert-sts.net) due to DANE being enforced.");
    maillog_dcid_tls_failed(498, "TLS required, STARTTLS unavailable, destination is TLS disabled");
    LINE("DCID 498 TLS failed: TLS required, STARTTLS unavailable, destination is TLS disabled");
    maillog_dcid_starttls_unsupported(498);
    LINE("DCID 498 STARTTLS command not supported");
    maillog_dcid_auth(5633, &peer, "OutboundAuthentication", NULL);
    LINE("DCID: 5633 IP: 10.1.1.3 SMTP authentication using the profile OutboundAuthentication succeeded.");
    maillog_dcid_auth(5633, &peer, "Out", "535 5.7.8 no\r\nInfo: x");
    LINE("DCID: 5633 IP: 10.1.1.3 SMTP authentication using the profile Out failed: 535 5.7.8 no\\x0D\\x0AInfo: x");
    maillog_auth_unreachable("mx.example:587", "connecting\033: refused");
    LINE("SMTP Auth: could not reach forwarding server mx.example:587 with reason: connecting\\x1B: refused");
    maillog_dcid_tls_required(498);
    LINE("DCID 498 TLS was required but could not be successfully negotiated");
    maillog_delivery_start(5444, 1, rids, 1);
    LINE("Delivery start DCID 5444 MID 1 to RID [0]");
    maillog_delivery_start(3, 4, rids, 3);
    LINE("Delivery start DCID 3 MID 4 to RID [0, 1, 12]");
    maillog_possible_delivery(4641294, 8956463, rids, 1);
    LINE("Possible Delivery: DCID: 4641294 MID 8956463 to [0]");
    maillog_message_done(6193797, 345766720, rids, 1, "[('X-SBRS', '3.5')]");
    LINE("Message done DCID 6193797 MID 345766720 to RID [0] [('X-SBRS', '3.5')]");
    maillog_message_done(8, 6, rids, 1, "");
    LINE("Message done DCID 8 MID 6 to RID [0]");
    maillog_response(68119155, rids, 1, "2.0.0 OK  1687954632 - gsmtp");
    LINE("MID 68119155 RID [0] Response '2.0.0 OK  1687954632 - gsmtp'");
}

static void test_failures(void **unused)
{
    static const unsigned rids[] = {0};
    struct addr local = ip("192.168.1.1"), peer = ip("192.168.1.10");
    AUTO(buf) struct buf want = BUF_INIT(200);
    char date[40];

    (void)unused;
    maillog_bounced(3, 4, 0, "5.1.0", "Unknown address error", "550",
                    "<george@yourdomain.com>... Relaying denied");
    LINE("Bounced: DCID 3 MID 4 to RID 0 - 5.1.0 - Unknown address error ('550', "
         "['<george@yourdomain.com>... Relaying denied']) []");
    maillog_bounced(0, 8, 0, "5.1.2", "Bad destination host", "000",
                    "DNS Hard Error looking up bmq-win.run (MX):  NXDomain");
    LINE("Bounced: DCID 0 MID 8 to RID 0 - 5.1.2 - Bad destination host ('000', "
         "['DNS Hard Error looking up bmq-win.run (MX):  NXDomain'])");
    maillog_bounced(3, 4, 1, "5.1.1", "Bad destination email address", "550", "no such\nuser 'x'");
    LINE("Bounced: DCID 3 MID 4 to RID 1 - 5.1.1 - Bad destination email address ('550', ['no "
         "such', "
         "'user \\'x\\'']) []");
    maillog_delayed(5, 4, 0, "4.1.0", "Unknown address error", "466", "Mailbox temporarily full.");
    LINE("Delayed: DCID 5 MID 4 to RID 0 - 4.1.0 - Unknown address error ('466', ['Mailbox "
         "temporarily "
         "full.']) []");
    maillog_double_bounce(12222130, 0, "5.1.0", "Unknown address error", "501",
                          "5.5.4 Invalid Address");
    LINE("Double bounce: MID 12222130 to 0 - 5.1.0 - Unknown address error 501-'5.5.4 Invalid "
         "Address'");
    maillog_pending(4, rids, 1, 1049137283000000);
    buf_printf(&want, "Message 4 to RID [0] pending till %s",
               clock_log_date(1049137283000000, date));
    LINE(buf_str(&want));
    maillog_connection_error(299, "example.com", &local, &peer,
                             "431-'example.com ESMTP\nMail system full'",
                             "unexpected SMTP response");
    LINE("Connection Error: DCID 299 domain: example.com IP: 192.168.1.10 port: 25 details: "
         "431-'example.com "
         "ESMTP\\x0AMail system full' interface: 192.168.1.1 reason: unexpected SMTP response");
    maillog_connection_error(300, "example.com", NULL, &peer, "timeout", "network error");
    LINE("Connection Error: DCID 300 domain: example.com IP: 192.168.1.10 port: 25 details: "
         "timeout interface: "
         "none reason: network error");
    maillog_dns_failure("example.com", "MX", "ServFail");
    LINE("DNS Temporary Failure example.com MX - ServFail");
}

static void test_sts(void **unused)
{
    (void)unused;
    maillog_sts_record_error("test-sts.net");
    LINE("MTA-STS record Error(Invalid MTA-STS TXT records found) for domain(test-sts.net)");
    maillog_sts_record("test-sts.net");
    LINE("Successfully fetched MTA-STS TXT record for domain(test-sts.net)");
    maillog_sts_fetched("pert-sts.net");
    LINE("Successfully fetched MTA-STS policy for the domain(pert-sts.net)");
    maillog_sts_fetch_failed("test-sts.net");
    LINE("Failure encountered while fetching MTA-STS policy for the domain(test-sts.net)");
    maillog_sts_paused();
    LINE("Failures encountered while fetching STS policy, successive request is skipped for a day.");
}

static void test_escaping(void **unused)
{
    static char huge[5000];
    struct addr a = ip("192.0.2.1");

    (void)unused;
    maillog_from(1, 2, "a\x1b[31m@example.com");
    LINE("MID 1 ICID 2 From: <a\\x1B[31m@example.com>");
    maillog_from(1, 2, "\"a>b\"@example.com");
    LINE("MID 1 ICID 2 From: <\"a\\>b\"@example.com>");
    maillog_subject(1, "it's\r\nInfo: MID 2 Subject 'x'");
    LINE("MID 1 Subject 'it\\'s\\x0D\\x0AInfo: MID 2 Subject \\'x\\''");
    maillog_subject(1, "gr\xc3\xbc\xc3\x9f"
                       "e \xe2\x80\xae \xff");
    LINE("MID 1 Subject 'gr\xc3\xbc\xc3\x9f"
         "e \\u{202E} \\xFF'");
    maillog_icid_new(1, "L", &a, &a, "evil\nhost", false);
    LINE("New SMTP ICID 1 interface L (192.0.2.1) address 192.0.2.1 reverse dns host evil\\x0Ahost "
         "verified no");
    memset(huge, 1, sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    maillog_subject(1, huge);
    assert_int_equal(nlines, 1);
    assert_int_equal(strlen(lines[0]), 2047);
    nlines = 0;
}

static void test_debug(void **unused)
{
    (void)unused;
    maillog_debug("DNS query: Q('%s', 'MX')", "ietf.org");
    assert_int_equal(nlines, 0);
    debug = true;
    maillog_debug("DNS query: Q('%s', 'MX')", "ietf.org");
    debug = false;
    LINE("DNS query: Q('ietf.org', 'MX')");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connection), cmocka_unit_test(test_inbound_tls),
        cmocka_unit_test(test_auth),
        cmocka_unit_test(test_message),    cmocka_unit_test(test_delivery),
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_sts),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_debug),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
