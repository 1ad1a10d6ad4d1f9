/* test_dns_packet.c - messages of the DNS, honest and not; what unbound.conf says for a plan. */
#include "tests/unit/cm.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/dns_packet.h"
#include "daemon/dns_resolver.h"

/* An answer to "example. MX": one MX that points back at the question's name, in 12 + 13 + 20
 * octets. */
static const unsigned char good[] = {
    0x12, 0x34, 0x81, 0x80, 0,    1,   0,   1,    0, 0,    0,  1, /* head: an answer, an additional
                                                                     record */
    7,    'e',  'x',  'a',  'm',  'p', 'l', 'e',  0, 0,    15, 0, 1, /* question, at 12 */
    0xc0, 12,   0,    15,   0,    1,   0,   0,    1, 0x2c, 0,  7, 0,
    10,   2,    'm',  'x',  0xc0, 12, /* at 25 */
    0,    0,    41,   4,    0xd0, 0,   0,   0x80, 0, 0,    9,  0, 15,
    0,    5,    0,    9,    'b',  'a', 'd', /* OPT with an error */
};

static struct dns_record record;

static bool first(const unsigned char *p, size_t n)
{
    struct dns_packet m;

    return dns_packet_open(&m, p, n, 0x1234, "example", TYPE_MX) && dns_packet_next(&m, &record);
}

static void an_answer(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(100);
    struct dns_packet m;
    char error[100];

    (void)state;
    assert_true(dns_packet_open(&m, good, sizeof(good), 0x1234, "Example.", TYPE_MX));
    assert_false(dns_packet_truncated(&m));
    assert_true(dns_packet_next(&m, &record));
    assert_int_equal(record.section, DNS_ANSWER);
    assert_string_equal(record.name, "example");
    assert_int_equal(record.type, TYPE_MX);
    assert_int_equal(record.ttl, 300);
    dns_rdata_text(record.type, &record.rdata, &text);
    assert_string_equal(buf_str(&text), "10 mx.example.");
    assert_false(dns_packet_error(&record, error, sizeof(error)));
    assert_true(dns_packet_next(&m, &record));
    assert_int_equal(record.section, DNS_ADDITIONAL);
    assert_true(dns_packet_error(&record, error, sizeof(error)));
    assert_string_equal(error, "9 (DNSKEY Missing): bad");
    assert_false(dns_packet_next(&m, &record));
}

static void not_this_answer(void **state)
{
    struct dns_packet m;
    unsigned char p[sizeof(good)];

    (void)state;
    assert_false(dns_packet_open(&m, good, sizeof(good), 0x1235, "example", TYPE_MX));
    assert_false(dns_packet_open(&m, good, sizeof(good), 0x1234, "example.com", TYPE_MX));
    assert_false(dns_packet_open(&m, good, sizeof(good), 0x1234, "examplf", TYPE_MX));
    assert_false(dns_packet_open(&m, good, sizeof(good), 0x1234, "example", TYPE_A));
    memcpy(p, good, sizeof(good));
    p[2] &= 0x7f; /* a question */
    assert_false(dns_packet_open(&m, p, sizeof(p), 0x1234, "example", TYPE_MX));
    p[2] |= 0x80;
    p[5] = 2;
    assert_false(dns_packet_open(&m, p, sizeof(p), 0x1234, "example", TYPE_MX));
}

static void cut_anywhere(void **state)
{
    (void)state;
    for (size_t n = 0; n < 44; n++) {
        unsigned char *p = malloc(n ? n : 1); /* so that a sanitizer sees what is read behind it */

        memcpy(p, good, n);
        assert_false(first(p, n));
        free(p);
    }
    assert_true(first(good, sizeof(good)));
}

static void lies(void **state)
{
    static const struct {
        size_t at;
        unsigned char value;
    } cases[] = {
        {26, 25 }, /* a name that points at itself */
        {26, 200}, /* behind the end */
        {36, 8  }, /* rdata longer than the message says */
        {36, 6  }, /* rdata that ends within its name */
        {36, 1  }, /* too short for its type */
        {43, 41 }, /* the MX host points forward */
        {39, 64 }, /* a label of an unknown kind */
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        unsigned char p[44];

        memcpy(p, good, sizeof(p));
        p[cases[i].at] = cases[i].value;
        if (first(p, sizeof(p)))
            fail_msg("case %zu is believed", i);
    }
}

static void questions(void **state)
{
    unsigned char q[400];
    struct dns_packet m;
    char label[70];

    (void)state;
    assert_int_equal(dns_packet_question(q, sizeof(q), 1, "mx.example.", TYPE_TLSA),
                     12 + 12 + 4 + 11);
    q[2] |= 0x80;
    assert_true(dns_packet_open(&m, q, 12 + 12 + 4 + 11, 1, "mx.example", TYPE_TLSA));
    assert_true(dns_packet_next(&m, &record));
    assert_int_equal(record.type, 41);
    assert_int_equal(record.ttl, 0x8000); /* DO */
    assert_int_equal(dns_packet_question(q, sizeof(q), 1, ".", TYPE_NS), 12 + 1 + 4 + 11);
    memset(label, 'a', sizeof(label));
    label[64] = '\0';
    assert_int_equal(dns_packet_question(q, sizeof(q), 1, label, TYPE_A), 0);
    assert_int_equal(dns_packet_question(q, sizeof(q), 1, "a..b", TYPE_A), 0);
}

static void plans(void **state)
{
    AUTO(buf) struct buf text = BUF_INIT(4000);
    struct dns_plan p = {.validate = true, .max_ttl = 86400, .cache_mib = 32};

    (void)state;
    p.nzones = 2;
    p.zones = calloc(2, sizeof(*p.zones));
    p.zones[0].name = strdup("corp.example.");
    strlist_add(&p.zones[0].servers, "192.0.2.1");
    p.zones[1].name = strdup("lab.example.");
    p.zones[1].cache = true;
    strlist_add(&p.zones[1].servers, "192.0.2.2@5353");
    strlist_add(&p.servers, "192.0.2.3");
    strlist_add(&p.anchors, "corp.example. DS 1 13 2 AB");
    strlist_add(&p.untrusted, "lab.example.");
    strcpy(p.root_key, "/x/root.key");
    dns_plan_text(&p, &text);
    assert_non_null(strstr(buf_str(&text), "module-config: \"validator iterator\"\n"));
    assert_non_null(strstr(buf_str(&text), "trust-anchor: \"corp.example. DS 1 13 2 AB\"\n"));
    assert_non_null(strstr(buf_str(&text), "auto-trust-anchor-file: \"/x/root.key\"\n"));
    assert_non_null(strstr(buf_str(&text), "domain-insecure: \"lab.example.\"\n"));
    assert_non_null(
        strstr(buf_str(&text), "stub-zone:\n  name: \"corp.example.\"\n  stub-addr: 192.0.2.1\n"));
    assert_non_null(
        strstr(buf_str(&text),
               "forward-zone:\n  name: \"lab.example.\"\n  forward-addr: 192.0.2.2@5353\n"));
    assert_non_null(
        strstr(buf_str(&text), "forward-zone:\n  name: \".\"\n  forward-addr: 192.0.2.3\n"));
    buf_reset(&text);
    p.validate = false;
    dns_plan_text(&p, &text);
    assert_non_null(strstr(buf_str(&text), "module-config: \"iterator\"\n"));
    assert_null(strstr(buf_str(&text), "anchor"));
    dns_plan_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer),    cmocka_unit_test(not_this_answer),
        cmocka_unit_test(cut_anywhere), cmocka_unit_test(lies),
        cmocka_unit_test(questions),    cmocka_unit_test(plans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
