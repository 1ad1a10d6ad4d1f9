/* Every corner of looking for TLSA records (RFC 7672 section 2), against a DNS of the test's own:
 * what was concluded, under which name, and which questions were asked. */
#include "daemon/dane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "tests/unit/certs.h"
#include "tests/unit/cm.h"

/* --- the fake DNS --- */

struct fake { /* one answer; the row that has no answer for a name says NXDOMAIN, signed */
    const char *name; /* "_25._tcp.mx.example" for TLSA, "mx.example" for CNAME */
    enum dns_status status;
    enum dns_security security;
    const char *records; /* TLSA: "3 1 1", "3 1 1;2 0 1" ...: digests of the right length; "-" after
                            it: one octet short */
    const char *target; /* CNAME */
    unsigned ttl;
};
#define MAX_FAKES 4

static const struct fake *fakes;
static char asked[600];

static const struct fake *find(const char *type, const char *name)
{
    size_t used = strlen(asked);

    snprintf(asked + used, sizeof(asked) - used, "%s%s %s", used ? "; " : "", type, name);
    for (int i = 0; i < MAX_FAKES && fakes && fakes[i].name; i++)
        if (str_eq(fakes[i].name, name))
            return &fakes[i];
    return NULL;
}

static bool answers(enum dns_status s, const char *name, struct err *err)
{
    if (s == DNS_OK || s == DNS_NODATA || s == DNS_NXDOMAIN)
        return true;
    return err_set(err, E_DNS, "%s: trouble \x1b[31m", name);
}

static void add_records(struct dns_tlsa *out, const char *text)
{
    struct strlist list = {0};

    strlist_split(&list, text, ';');
    out->records = xcalloc(list.n + 1, sizeof(*out->records));
    for (size_t i = 0; i < list.n; i++) {
        struct tlsa *t = &out->records[out->n++];
        unsigned usage, selector, matching;

        assert_int_equal(sscanf(list.items[i], "%u %u %u", &usage, &selector, &matching), 3);
        t->usage = (unsigned char)usage;
        t->selector = (unsigned char)selector;
        t->matching = (unsigned char)matching;
        t->len = (matching == 2 ? 64 : 32) - (strchr(list.items[i], '-') != NULL);
        t->data = xmalloc(t->len);
        memset(t->data, (int)(i + 1), t->len);
    }
    strlist_free(&list);
}

static bool validates = true;

bool dns_validates(void)
{
    return validates;
}

bool dns_tlsa(const char *name, msec_t deadline, struct dns_tlsa *out, struct err *err)
{
    const struct fake *f = find("TLSA", name);

    (void)deadline;
    memset(out, 0, sizeof(*out));
    out->status = f ? f->status : DNS_NXDOMAIN;
    out->security = f ? f->security : DNS_SECURE;
    out->ttl = f && f->ttl ? f->ttl : 3600;
    if (f && f->status == DNS_OK)
        add_records(out, f->records);
    return answers(out->status, name, err);
}

bool dns_cname(const char *name, msec_t deadline, char target[256], enum dns_security *security,
               struct err *err)
{
    const struct fake *f = find("CNAME", name);

    (void)deadline;
    str_copy(target, 256, f && f->status == DNS_OK ? f->target : "");
    *security = f ? f->security : DNS_SECURE;
    return answers(f ? f->status : DNS_NODATA, name, err);
}

void dns_tlsa_free(struct dns_tlsa *t)
{
    for (unsigned i = 0; i < t->n; i++)
        free(t->records[i].data);
    free(t->records);
    memset(t, 0, sizeof(*t));
}

const char *dns_status_name(enum dns_status s)
{
    return s == DNS_BOGUS ? "Bogus" : s == DNS_TIMEOUT ? "Timeout" : "ServFail";
}

/* --- the table --- */

#define SEC DNS_SECURE
#define INS DNS_INSECURE
#define MX25 "_25._tcp.mx.example"
#define NEW25 "_25._tcp.new.example"

/* clang-format off */
static const struct {
    const char *what;
    const char *host;
    unsigned port;
    bool mx_insecure;
    enum dns_status addrs;
    enum dns_security security;
    const char *canonical; /* NULL: host */
    struct fake dns[MAX_FAKES];
    enum dane_state state;
    const char *base;  /* NULL: host */
    unsigned n, unusable;
    const char *asked;
    unsigned ttl;      /* 0: 7200, that of the addresses */
} rows[] = {
    {"signed records", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_OK, SEC, .records = "3 1 1"}},
     DANE_USABLE, NULL, 1, 0, "TLSA " MX25, 3600},

    {"TLSA SERVFAIL is no answer", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_SERVFAIL, .security = INS}},
     DANE_FAILED, NULL, 0, 0, "TLSA " MX25, 0},
    {"TLSA time-out", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_TIMEOUT, .security = INS}},
     DANE_FAILED, NULL, 0, 0, "TLSA " MX25, 0},
    {"TLSA bogus", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_BOGUS, .security = INS}},
     DANE_FAILED, NULL, 0, 0, "TLSA " MX25, 0},
    {"bogus addresses", "mx.example", 25, false, DNS_BOGUS, INS, NULL, {{0}}, DANE_FAILED, NULL, 0, 0, "", 0},
    {"no answer for the addresses", "mx.example", 25, false, DNS_TIMEOUT, INS, NULL, {{0}},
     DANE_FAILED, NULL, 0, 0, "", 0},
    {"the addresses' servers fail", "mx.example", 25, false, DNS_SERVFAIL, INS, NULL, {{0}},
     DANE_FAILED, NULL, 0, 0, "", 0},
    {"bogus addresses below an insecure MX", "mx.example", 25, true, DNS_BOGUS, INS, NULL, {{0}},
     DANE_FAILED, NULL, 0, 0, "", 0},
    {"securely none", "mx.example", 25, false, DNS_OK, SEC, NULL, {{0}},
     DANE_NO_RECORDS, NULL, 0, 0, "TLSA " MX25, 3600},
    {"NODATA", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_NODATA, SEC, .ttl = 60}},
     DANE_NO_RECORDS, NULL, 0, 0, "TLSA " MX25, 60},
    {"unsigned records count for nothing", "mx.example", 25, false, DNS_OK, SEC, NULL,
     {{MX25, DNS_OK, INS, .records = "3 1 1"}}, DANE_NO_RECORDS, NULL, 0, 0, "TLSA " MX25, 3600},
    {"unsigned denial (opt-out)", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_NXDOMAIN, .security = INS}},
     DANE_NO_RECORDS, NULL, 0, 0, "TLSA " MX25, 3600},

    {"unsigned addresses, no alias: not asked", "mx.example", 25, false, DNS_OK, INS, NULL,
     {{MX25, DNS_SERVFAIL, .security = INS}}, DANE_INSECURE_HOST, NULL, 0, 0, "", 0},

    {"signed alias into an unsigned zone", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_OK, SEC, .target = "new.example"}, {MX25, DNS_OK, SEC, .records = "3 1 1"},
      {NEW25, DNS_OK, SEC, .records = "2 0 1"}},
     DANE_USABLE, "mx.example", 1, 0, "CNAME mx.example; TLSA " MX25, 3600},
    {"signed alias without records", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_OK, SEC, .target = "new.example"}},
     DANE_NO_RECORDS, NULL, 0, 0, "CNAME mx.example; TLSA " MX25, 3600},
    {"unsigned alias", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_OK, INS, .target = "new.example"}, {MX25, DNS_OK, SEC, .records = "3 1 1"}},
     DANE_INSECURE_HOST, NULL, 0, 0, "CNAME mx.example", 0},
    {"the alias cannot be looked up", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_SERVFAIL, .security = INS}}, DANE_FAILED, NULL, 0, 0, "CNAME mx.example", 0},
    {"the alias is bogus", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_BOGUS, .security = INS}}, DANE_FAILED, NULL, 0, 0, "CNAME mx.example", 0},
    {"it was an alias a moment ago", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_NODATA, .security = SEC}}, DANE_INSECURE_HOST, NULL, 0, 0, "CNAME mx.example", 0},
    {"TLSA at the alias fails", "mx.example", 25, false, DNS_OK, INS, "new.example",
     {{"mx.example", DNS_OK, SEC, .target = "new.example"}, {MX25, DNS_TIMEOUT, .security = INS}},
     DANE_FAILED, NULL, 0, 0, "CNAME mx.example; TLSA " MX25, 0},

    {"expanded name first", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{NEW25, DNS_OK, SEC, .records = "3 1 1"}, {MX25, DNS_OK, SEC, .records = "2 0 1;2 1 1"}},
     DANE_USABLE, "new.example", 1, 0, "TLSA " NEW25, 3600},
    {"then the original one", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{NEW25, DNS_NODATA, SEC, .ttl = 30}, {MX25, DNS_OK, SEC, .records = "2 0 1;2 1 1"}},
     DANE_USABLE, "mx.example", 2, 0, "TLSA " NEW25 "; TLSA " MX25, 30},
    {"unsigned records at the expanded name", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{NEW25, DNS_OK, INS, .records = "3 1 1"}, {MX25, DNS_OK, SEC, .records = "2 0 1"}},
     DANE_USABLE, "mx.example", 1, 0, "TLSA " NEW25 "; TLSA " MX25, 3600},
    {"an error at the expanded name ends it", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{NEW25, DNS_SERVFAIL, .security = INS}, {MX25, DNS_OK, SEC, .records = "2 0 1"}},
     DANE_FAILED, NULL, 0, 0, "TLSA " NEW25, 0},
    {"unusable records at the expanded name are records", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{NEW25, DNS_OK, SEC, .records = "1 1 1"}, {MX25, DNS_OK, SEC, .records = "3 1 1"}},
     DANE_UNUSABLE, "new.example", 0, 1, "TLSA " NEW25, 3600},
    {"an error at the original name", "mx.example", 25, false, DNS_OK, SEC, "new.example",
     {{MX25, DNS_BOGUS, .security = INS}}, DANE_FAILED, NULL, 0, 0, "TLSA " NEW25 "; TLSA " MX25, 3600},
    {"the case of letters makes no alias", "mx.example", 25, false, DNS_OK, INS, "MX.Example",
     {{0}}, DANE_INSECURE_HOST, NULL, 0, 0, "", 0},

    {"usage 0 and 1", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_OK, SEC, .records = "0 0 1;1 1 1"}},
     DANE_UNUSABLE, NULL, 0, 2, "TLSA " MX25, 3600},
    {"beside a usable one", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_OK, SEC, .records = "1 1 1;3 1 2"}},
     DANE_USABLE, NULL, 1, 1, "TLSA " MX25, 3600},
    {"selector, type, length", "mx.example", 25, false, DNS_OK, SEC, NULL,
     {{MX25, DNS_OK, SEC, .records = "3 2 1;3 1 3;3 1 1 -;3 1 2 -;4 1 1;255 255 255;3 0 0;2 1 0"}},
     DANE_UNUSABLE, NULL, 0, 8, "TLSA " MX25, 3600},
    {"records without anything in them", "mx.example", 25, false, DNS_OK, SEC, NULL, {{MX25, DNS_OK, SEC, .records = ""}},
     DANE_UNUSABLE, NULL, 0, 0, "TLSA " MX25, 3600},

    {"unsigned MX", "mx.example", 25, true, DNS_OK, SEC, NULL, {{MX25, DNS_OK, SEC, .records = "3 1 1"}},
     DANE_INSECURE_MX, NULL, 0, 0, "", 0},
    {"another port", "mx.example", 2525, false, DNS_OK, SEC, NULL,
     {{"_2525._tcp.mx.example", DNS_OK, SEC, .records = "3 1 1"}, {MX25, DNS_OK, SEC, .records = "2 0 1;2 1 1"}},
     DANE_USABLE, NULL, 1, 0, "TLSA _2525._tcp.mx.example", 3600},
    {"an address has no name", "192.0.2.1", 25, false, DNS_OK, SEC, NULL, {{0}},
     DANE_NO_RECORDS, NULL, 0, 0, "", 0},
    {"nor has one of IPv6", "2001:db8::1", 25, false, DNS_OK, SEC, NULL, {{0}},
     DANE_NO_RECORDS, NULL, 0, 0, "", 0},
    {"no address, nothing to prove", "mx.example", 25, false, DNS_NODATA, SEC, NULL,
     {{MX25, DNS_OK, SEC, .records = "3 1 1"}}, DANE_NO_RECORDS, NULL, 0, 0, "", 0},
    {"the least time of the chain", "mx.example", 25, false, DNS_OK, SEC, NULL,
     {{MX25, DNS_OK, SEC, .records = "3 1 1", .ttl = 5}}, DANE_USABLE, NULL, 1, 0, "TLSA " MX25, 5},
    {"that of the addresses", "mx.example", 25, false, DNS_OK, SEC, NULL,
     {{MX25, DNS_OK, SEC, .records = "3 1 1", .ttl = 99999}}, DANE_USABLE, NULL, 1, 0, "TLSA " MX25, 7200},
};
/* clang-format on */

static void look_up(const char *host, unsigned port, bool mx_insecure,
                    const struct dns_addrs *addrs, struct dane *d)
{
    asked[0] = '\0';
    dane_look_up(host, port, !mx_insecure, addrs, NEVER, d);
}

static void every_corner(void **state)
{
    (void)state;
    for (size_t i = 0; i < countof(rows); i++) {
        struct dns_addrs addrs = {
            .status = rows[i].addrs, .security = rows[i].security, .ttl = 7200};
        const char *base = rows[i].base ? rows[i].base : rows[i].host;
        unsigned ttl = rows[i].ttl ? rows[i].ttl : 7200;
        struct dane d;

        str_copy(addrs.canonical, sizeof(addrs.canonical),
                 rows[i].canonical ? rows[i].canonical : rows[i].host);
        fakes = rows[i].dns;
        look_up(rows[i].host, rows[i].port, rows[i].mx_insecure, &addrs, &d);
        if (d.state != rows[i].state || !str_eq(d.base, base) || d.n != rows[i].n || d.ttl != ttl ||
            d.unusable != rows[i].unusable || !str_eq(asked, rows[i].asked))
            fail_msg("%s: %s at %s, %u usable, %u not, ttl %u, asked \"%s\"", rows[i].what,
                     dane_state_word(d.state), d.base, d.n, d.unusable, d.ttl, asked);
        if ((d.state == DANE_FAILED || d.state == DANE_UNUSABLE) != (*d.why != '\0'))
            fail_msg("%s: why \"%s\"", rows[i].what, d.why);
        dane_free(&d);
        assert_null(d.records);
    }
}

static void reasons_are_for_people(void **state)
{
    static const struct fake failing[MAX_FAKES] = {
        {.name = MX25, .status = DNS_SERVFAIL}
    };
    static const struct fake unusable[MAX_FAKES] = {
        {.name = MX25, .security = SEC, .records = "3 1 3;1 1 1"}
    };
    struct dns_addrs addrs = {.security = DNS_SECURE, .canonical = "mx.example"};
    struct dane d;

    (void)state;
    fakes = failing;
    look_up("mx.example", 25, false, &addrs, &d);
    assert_string_equal(d.why, MX25 ": trouble \\x1B[31m");
    dane_free(&d);
    fakes = unusable;
    look_up("mx.example", 25, false, &addrs, &d);
    assert_string_equal(d.why, "3 1 3 0101010101010101...: its matching type is unknown");
    dane_free(&d);
}

/* Who can strip signatures on the way to us must not be able to switch DANE off. */
static void without_validation_nothing_is_known(void **state)
{
    static const struct fake none[MAX_FAKES];
    struct dns_addrs addrs = {.security = DNS_INSECURE, .canonical = "mx.example"};
    struct dane d;

    (void)state;
    fakes = none;
    validates = false;
    for (int mx_insecure = 0; mx_insecure < 2; mx_insecure++) {
        look_up("mx.example", 25, mx_insecure, &addrs, &d);
        assert_int_equal(d.state, DANE_FAILED);
        assert_string_equal(asked, "");
        dane_free(&d);
    }
    validates = true;
}

/* Who could strip them a moment ago may have named the host and its address himself. */
static void what_was_learnt_before_validation_proves_nothing(void **state)
{
    struct dns_addrs addrs = {
        .security = DNS_SECURE, .canonical = "mx.example", .unvalidated = true};
    struct dane d;

    (void)state;
    for (int mx_insecure = 0; mx_insecure < 2; mx_insecure++) {
        look_up("mx.example", 25, mx_insecure, &addrs, &d);
        assert_int_equal(d.state, DANE_FAILED);
        assert_string_equal(asked, "");
        dane_free(&d);
    }
}

/* A name of 250 characters exists; "_25._tcp." before it cannot. */
static void names_too_long_to_ask_for(void **state)
{
    struct dns_addrs addrs = {.security = DNS_SECURE};
    char name[251];
    struct dane d;

    (void)state;
    memset(name, 'a', 250);
    for (int i = 50; i < 250; i += 50)
        name[i] = '.';
    name[250] = '\0';
    str_copy(addrs.canonical, sizeof(addrs.canonical), name);
    look_up(name, 25, false, &addrs, &d);
    assert_int_equal(d.state, DANE_NO_RECORDS);
    assert_string_equal(asked, "");
    dane_free(&d);
}

static void more_records_than_anybody_needs(void **state)
{
    struct dns_addrs addrs = {.security = DNS_SECURE, .canonical = "mx.example"};
    AUTO(buf) struct buf text = BUF_INIT(2000);
    struct fake many[MAX_FAKES] = {
        {.name = MX25, .security = SEC}
    };
    struct dane d;

    (void)state;
    for (unsigned i = 0; i < DANE_MAX_RECORDS + 20; i++)
        buf_str_add(&text, "3 1 1;");
    many[0].records = buf_str(&text);
    fakes = many;
    look_up("mx.example", 25, false, &addrs, &d);
    assert_int_equal(d.n, DANE_MAX_RECORDS);
    assert_int_equal(d.unusable, 20);
    dane_free(&d);
}

/* --- one record --- */

static struct tlsa whole(unsigned char usage, unsigned char selector, unsigned char *der, int n)
{
    return (struct tlsa){usage, selector, 0, (unsigned)n, der};
}

/* Matching type 0: the certificate or key itself, nothing before it and nothing behind. */
static void full_certificates_and_keys(void **state)
{
    struct test_cert pair = test_cert_new("mx.example", 0);
    BIO *in = BIO_new_mem_buf(pair.cert, -1);
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);
    unsigned char *cert = NULL, *key = NULL;
    int ncert = i2d_X509(x, &cert), nkey = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &key);
    struct tlsa t;

    (void)state;
    t = whole(3, 0, cert, ncert);
    assert_null(tlsa_unusable(&t));
    t = whole(2, 1, key, nkey);
    assert_null(tlsa_unusable(&t));
    t = whole(3, 1, cert, ncert);
    assert_string_equal(tlsa_unusable(&t), "it holds no public key");
    t = whole(3, 0, key, nkey);
    assert_string_equal(tlsa_unusable(&t), "it holds no certificate");
    t = whole(3, 0, cert, ncert - 1);
    assert_non_null(tlsa_unusable(&t));
    t = whole(3, 0, cert, 0);
    assert_non_null(tlsa_unusable(&t));
    key = realloc(key, (size_t)nkey + 1);
    key[nkey] = 0;
    t = whole(2, 1, key, nkey + 1);
    assert_non_null(tlsa_unusable(&t));
    OPENSSL_free(cert);
    free(key);
    X509_free(x);
    BIO_free(in);
    free(pair.cert);
    free(pair.key);
}

static void text_of_a_record(void **state)
{
    unsigned char data[32] = {0x0c, 0x72, 0xac};
    struct tlsa t = {3, 1, 1, 3, data};
    char out[13];

    (void)state;
    tlsa_format(&t, out, sizeof(out));
    assert_string_equal(out, "3 1 1 0c72ac");
    t.len = 32; /* cut after a whole octet */
    tlsa_format(&t, out, sizeof(out));
    assert_string_equal(out, "3 1 1 0c72ac");
    tlsa_format(&t, out, sizeof(out) - 1);
    assert_string_equal(out, "3 1 1 0c72");
    t.len = 0;
    tlsa_format(&t, out, 4);
    assert_string_equal(out, "3 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_corner),
        cmocka_unit_test(reasons_are_for_people),
        cmocka_unit_test(without_validation_nothing_is_known),
        cmocka_unit_test(what_was_learnt_before_validation_proves_nothing),
        cmocka_unit_test(names_too_long_to_ask_for),
        cmocka_unit_test(more_records_than_anybody_needs),
        cmocka_unit_test(full_certificates_and_keys),
        cmocka_unit_test(text_of_a_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
