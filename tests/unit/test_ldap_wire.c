/* Messages of LDAPv3: the octets that are sent, what is made of what comes, and of what no server
 * should send. */
#include "daemon/ldap_wire.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

static void expect(struct buf *b, const char *want, size_t n)
{
    if (b->n != n || memcmp(b->p, want, n) != 0) {
        for (size_t i = 0; i < b->n; i++)
            print_error("\\x%02x", (unsigned char)b->p[i]);
        fail_msg(" are not the octets");
    }
    buf_free(b);
}
#define EXPECT(b, text) expect(&(b), text, sizeof(text) - 1)

static void requests(void **state)
{
    struct buf b = BUF_INIT(10000);

    (void)state;
    ldap_put_bind(&b, 1, "cn=a", "pw");
    EXPECT(b, "\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04"
              "cn=a\x80\x02pw");
    ldap_put_bind(&b, 300, "", "");
    EXPECT(b, "\x30\x0d\x02\x02\x01\x2c\x60\x07\x02\x01\x03\x04\x00\x80\x00");
    ldap_put_bind_external(&b, 2);
    EXPECT(b, "\x30\x18\x02\x01\x02\x60\x13\x02\x01\x03\x04\x00\xa3\x0c\x04\x08"
              "EXTERNAL\x04\x00");
    ldap_put_starttls(&b, 1);
    EXPECT(b, "\x30\x1d\x02\x01\x01\x77\x18\x80\x16"
              "1.3.6.1.4.1.1466.20037");
    ldap_put_unbind(&b, 3);
    EXPECT(b, "\x30\x05\x02\x01\x03\x42\x00");
}

static void put_search(struct buf *b, const char *filter, const char *base, const char *attribute)
{
    static const struct ldap_values values = {.of = {[MACRO_USER] = "a)*"}};
    struct ldap_template *t = ldap_template_parse(filter, NULL);
    struct arena arena = {0};
    enum ldap_macro lacking;
    struct ldap_search s = {
        .base = base, .attribute = attribute, .size_limit = 2, .time_limit = 10};

    s.filter = ldap_template_fill(t, &values, &arena, &lacking);
    ldap_put_search(b, 2, &s);
    ldap_template_free(&t);
    arena_free(&arena);
}

#define SEARCH(length, operation, filter)                                                          \
    "\x30" length "\x02\x01\x02\x63" operation                                                     \
    "\x04\x01x\x0a\x01\x02\x0a\x01\x00\x02\x01\x02\x02\x01\x0a\x01\x01\x00" filter                 \
    "\x30\x05\x04\x03"                                                                             \
    "1.1"

static void searches(void **state)
{
    struct buf b = BUF_INIT(10000);

    (void)state;
    put_search(&b, "(uid={u})", "x", NULL);
    EXPECT(b, SEARCH("\x2a", "\x25",
                     "\xa3\x0a\x04\x03uid\x04\x03"
                     "a)*"));
    put_search(&b, "(uid=*)", "x", NULL);
    EXPECT(b, SEARCH("\x23", "\x1e", "\x87\x03uid"));
    put_search(&b, "(&(a=b)(!(c>=d)))", "x", NULL);
    EXPECT(b, SEARCH("\x32", "\x2d",
                     "\xa0\x12\xa3\x06\x04\x01"
                     "a\x04\x01"
                     "b\xa2\x08\xa5\x06\x04\x01"
                     "c\x04\x01"
                     "d"));
    put_search(&b, "(a=b*c*{u}*d)", "x", NULL);
    EXPECT(b, SEARCH("\x33", "\x2e",
                     "\xa4\x13\x04\x01"
                     "a\x30\x0e\x80\x01"
                     "b\x81\x01"
                     "c\x81\x03"
                     "a)*\x82\x01"
                     "d"));
    put_search(&b, "(a=*b*)", "x", NULL);
    EXPECT(b, SEARCH("\x28", "\x23",
                     "\xa4\x08\x04\x01"
                     "a\x30\x03\x81\x01"
                     "b"));
    put_search(&b, "(a:dn:1.2:=v)", "x", NULL);
    EXPECT(b, SEARCH("\x2e", "\x29",
                     "\xa9\x0e\x81\x03"
                     "1.2\x82\x01"
                     "a\x83\x01v\x84\x01\xff"));
    put_search(&b, "(a=b)", "", "userPassword");
    EXPECT(b, "\x30\x2e\x02\x01\x02\x63\x29\x04\x00\x0a\x01\x02\x0a\x01\x00\x02\x01\x02\x02\x01\x0a"
              "\x01\x01\x00\xa3\x06\x04\x01"
              "a\x04\x01"
              "b\x30\x0e\x04\x0cuserPassword");
}

static bool parse(const char *p, size_t n, struct ldap_message *m)
{
    struct slice in = {p, n};
    struct err err = {0};
    size_t length = 0;

    if (!ldap_frame(in, &length, &err)) {
        assert_int_equal(err.code, E_PROTOCOL);
        return false;
    }
    assert_int_equal(length, n);
    if (ldap_parse(in, m, &err))
        return true;
    assert_int_equal(err.code, E_PROTOCOL);
    return false;
}
#define PARSE(text, m) parse(text, sizeof(text) - 1, m)

#define ENTRY                                                                                      \
    "\x30\x3b\x02\x01\x05\x64\x36\x04\x05uid=a\x30\x2d"                                            \
    "\x30\x14\x04\x03uid\x31\x0d\x04\x01"                                                          \
    "a\x04\x08"                                                                                    \
    "a\0secret"                                                                                    \
    "\x30\x15\x04\x0cuserPassword\x31\x05\x04\x03"                                                 \
    "{x}"

static void answers(void **state)
{
    struct ldap_message m;
    struct strlist values = {0};

    (void)state;
    assert_true(PARSE("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00", &m));
    assert_int_equal(m.kind, LDAP_BIND_ANSWER);
    assert_int_equal(m.id, 1);
    assert_int_equal(m.code, 0);
    assert_true(PARSE("\x30\x12\x02\x01\x07\x65\x0d\x0a\x01\x31\x04\x02xy\x04\x04oops", &m));
    assert_int_equal(m.kind, LDAP_SEARCH_DONE);
    assert_int_equal(m.code, 49);
    assert_true(slice_eq(m.dn, "xy") && slice_eq(m.text, "oops"));
    /* long forms of lengths, as Active Directory writes them */
    assert_true(PARSE(
        "\x30\x84\x00\x00\x00\x10\x02\x01\x07\x65\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00",
        &m));
    assert_int_equal(m.kind, LDAP_SEARCH_DONE);
    assert_true(PARSE("\x30\x10\x02\x01\x00\x78\x0b\x0a\x01\x34\x04\x00\x04\x00\x8a\x02"
                      "1.",
                      &m));
    assert_int_equal(m.kind, LDAP_EXTENDED);
    assert_true(slice_eq(m.oid, "1."));
    assert_true(PARSE("\x30\x0c\x02\x01\x02\x73\x07\x04\x05ldap:", &m));
    assert_int_equal(m.kind, LDAP_REFERENCE);
    assert_true(PARSE("\x30\x05\x02\x01\x02\x79\x00", &m));
    assert_int_equal(m.kind, LDAP_OTHER_ANSWER);
    /* with controls behind */
    assert_true(
        PARSE("\x30\x10\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x02\x30\x00", &m));

    assert_true(PARSE(ENTRY, &m));
    assert_int_equal(m.kind, LDAP_ENTRY);
    assert_true(slice_eq(m.dn, "uid=a"));
    ldap_entry_values(&m, "UID", 10, &values);
    assert_int_equal(values.n, 1); /* the one with an octet 0 is none */
    assert_string_equal(values.items[0], "a");
    strlist_free(&values);
    ldap_entry_values(&m, "userpassword", 10, &values);
    assert_int_equal(values.n, 1);
    strlist_free(&values);
    ldap_entry_values(&m, "mail", 10, &values);
    assert_int_equal(values.n, 0);
    assert_true(
        PARSE("\x30\x17\x02\x01\x05\x64\x12\x04\x01x\x30\x0d\x30\x0b\x04\x02sn\x31\x05\x04\x01"
              "1\x04\x00",
              &m));
    ldap_entry_values(&m, "surname", 10, &values);
    assert_int_equal(values.n, 2); /* its only attribute, under another name */
    strlist_free(&values);
    ldap_entry_values(&m, "sn", 1, &values);
    assert_int_equal(values.n, 1);
    strlist_free(&values);
}

static void no_answers(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } cases[] = {
#define CASE(text) {text, sizeof(text) - 1}
        CASE("HTTP/1.1 400"),
        CASE("220 mail ESMTP"),
        CASE("\x30\x80\x02\x01\x01\x61\x00"), /* indefinite */
        CASE("\x30\x85\x00\x00\x00\x00\x01x"),
        CASE("\x30\x84\x7f\xff\xff\xff"),
        CASE("\x30\x03\x02\x01\x01"), /* nothing in it */
        CASE("\x30\x0c\x02\x01\xff\x61\x07\x0a\x01\x00\x04\x00\x04\x00"), /* a negative id */
        CASE("\x30\x10\x02\x05\x01\x00\x00\x00\x00\x61\x07\x0a\x01\x00\x04\x00\x04\x00"),
        CASE("\x30\x0b\x02\x00\x61\x07\x0a\x01\x00\x04\x00\x04\x00"),
        CASE("\x30\x0c\x02\x01\x01\x61\x08\x0a\x01\x00\x04\x00\x04\x00"), /* longer than what holds
                                                                             it */
        CASE("\x30\x0a\x02\x01\x01\x61\x05\x0a\x01\x00\x04\x00"), /* shorter than a result */
        CASE(
            "\x30\x0c\x02\x01\x01\x61\x07\x02\x01\x00\x04\x00\x04\x00"), /* an integer is no code */
        CASE("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x02\x04\x00"),
        CASE("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x01"), /* by one octet */
        CASE("\x30\x09\x02\x01\x02\x64\x04\x04\x00\x31\x00"), /* attributes are no set */
        CASE("\x30\x0d\x02\x01\x02\x64\x08\x04\x00\x30\x04\x30\x02\x04\x05"),
        CASE("\x30\x11\x02\x01\x02\x64\x0c\x04\x00\x30\x08\x30\x06\x04\x00\x31\x02\x04\x01"),
        CASE("\x30\x0a\x02\x01\x01\x7f\x61\x04\x0a\x01\x00\x04"), /* a tag of several octets */
#undef CASE
    };
    struct ldap_message m;

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        if (parse(cases[i].p, cases[i].n, &m))
            fail_msg("case %zu is taken", i);
}

/* Half a message asks for more, and never reads beyond what is there. */
static void in_pieces(void **state)
{
    static const char entry[] = ENTRY;
    const size_t n = sizeof(entry) - 1;
    struct ldap_message m;
    size_t length = 1;

    (void)state;
    for (size_t i = 0; i < n; i++) {
        char *copy = malloc(i + 1);
        struct slice s = {copy, i};

        memcpy(copy, entry, i);
        assert_true(ldap_frame(s, &length, NULL));
        assert_int_equal(length, 0);
        assert_false(ldap_parse(s, &m, NULL));
        free(copy);
    }
    assert_true(ldap_frame((struct slice){entry, n}, &length, NULL));
    assert_int_equal(length, n);
    /* one octet that is another one: taken or refused, read to its end or not at all */
    for (size_t i = 0; i < n; i++) {
        for (int flip = 1; flip < 256; flip <<= 1) {
            char *copy = malloc(n);
            struct strlist values = {0};

            memcpy(copy, entry, n);
            copy[i] = (char)(copy[i] ^ flip);
            if (ldap_parse((struct slice){copy, n}, &m, NULL) && m.kind == LDAP_ENTRY)
                ldap_entry_values(&m, "uid", 10, &values);
            strlist_free(&values);
            free(copy);
        }
    }
}

static void names_of_results(void **state)
{
    char text[80];

    (void)state;
    ldap_result_text(49, text);
    assert_string_equal(text, "<LDAP Error \"invalidCredentials\" [0x31]>");
    ldap_result_text(4096, text);
    assert_string_equal(text, "<LDAP Error \"unknown\" [0x1000]>");
    assert_string_equal(ldap_result_name(-1), "unknown");
    assert_string_equal(ldap_result_name(9), "unknown");
    assert_string_equal(ldap_result_name(80), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),  cmocka_unit_test(searches),
        cmocka_unit_test(answers),   cmocka_unit_test(no_answers),
        cmocka_unit_test(in_pieces), cmocka_unit_test(names_of_results),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
