/* Filters of LDAP: what is one, what it becomes with values, and that no value and no lack of one
 * finds more than was meant. */
#include "store/ldap_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/ldap_presets.h"
#include "tests/unit/cm.h"

static const struct ldap_values people = {
    .of = {[MACRO_USER] = "alice",
           [MACRO_DOMAIN] = "example.com",
           [MACRO_ADDRESS] = "alice@example.com",
           [MACRO_TIME] = "20261128133000Z",
           [MACRO_CN] = "A*(b)\\c",
           [MACRO_SERIAL] = "0A1B",
           [MACRO_EMAIL] = ""}
};

/* The filter with its values as text, "" when it matches nothing; static. */
static const char *filled(const char *text, const struct ldap_values *values)
{
    static char out[2000];
    struct arena arena = {0};
    struct buf b = BUF_INIT(10000);
    struct err err = {0};
    struct ldap_template *t = ldap_template_parse(text, &err);
    const struct ldap_node *f;
    enum ldap_macro lacking;

    if (!t)
        fail_msg("%s: %s", text, err.text);
    f = ldap_template_fill(t, values, &arena, &lacking);
    assert_true(f || lacking < MACROS);
    if (f)
        ldap_filter_print(f, &b);
    str_copy(out, sizeof(out), buf_str(&b));
    buf_free(&b);
    arena_free(&arena);
    ldap_template_free(&t);
    return out;
}

static void what_is_a_filter(void **state)
{
    static const char *const cases[][2] = {
        {"(uid={u})",                                                    "(uid=alice)"                            },
        {"(UID={U})",                                                    "(UID=alice)"                            },
        {" ( & (a={u}) (b={d}) ) ",                                      "(&(a=alice)(b=example.com))"            },
        {"(& (objectClass=posixAccount) (caccn={cn}) (cacserial={sn}))",
         "(&(objectClass=posixAccount)(caccn=A\\2a\\28b\\29\\5cc)(cacserial=0A1B))"                               },
        {"(&(uid={u})(|(!(caccn=*))(cacexempt=*)(cacemergency>={t})))",
         "(&(uid=alice)(|(!(caccn=*))(cacexempt=*)(cacemergency>=20261128133000Z)))"                              },
        {"(proxyAddresses=smtp:{a})",                                    "(proxyAddresses=smtp:alice@example.com)"},
        {"(cn=*{cn}*x*)",                                                "(cn=*A\\2a\\28b\\29\\5cc*x*)"           },
        {"(cn={cn}*)",                                                   "(cn=A\\2a\\28b\\29\\5cc*)"              },
        {"(cn=a*b)",                                                     "(cn=a*b)"                               },
        {"(cn=\\2a\\28\\29\\5C\\00\\7b)",                                "(cn=\\2a\\28\\29\\5c\\00\\7b)"          },
        {"(cn=)",                                                        "(cn=)"                                  },
        {"(cn=x } y)",                                                   "(cn=x } y)"                             },
        {"(cn=  blanks count )",                                         "(cn=  blanks count )"                   },
        {"(a<={t})",                                                     "(a<=20261128133000Z)"                   },
        {"(a~={u})",                                                     "(a~=alice)"                             },
        {"(2.5.4.3={u})",                                                "(2.5.4.3=alice)"                        },
        {"(cn;lang-de={u})",                                             "(cn;lang-de=alice)"                     },
        {"(memberOf:1.2.840.113556.1.4.1941:=cn={u},dc=x)",
         "(memberOf:1.2.840.113556.1.4.1941:=cn=alice,dc=x)"                                                      },
        {"(ou:dn:={u})",                                                 "(ou:dn:=alice)"                         },
        {"(o:dn:2.4.6.8.10:={u})",                                       "(o:dn:2.4.6.8.10:=alice)"               },
        {"(:caseExactMatch:={u})",                                       "(:caseExactMatch:=alice)"               },
        {"(!(a={u}))",                                                   "(!(a=alice))"                           },
        {"(cn=J\xc3\xbcrgen)",                                           "(cn=J\xc3\xbcrgen)"                     },
        {"(cn=\\ff\\fe)",                                                "(cn=\\ff\\fe)"                          },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_string_equal(filled(cases[i][0], &people), cases[i][1]);
}

static void what_is_none(void **state)
{
    static const char *const cases[][2] = {
        {"",                           "wrong at its end: a filter begins with \"(\""                 },
        {"uid={u}",                    "at character 1, before \"uid={u}\": a filter begins with"     },
        {"(uid={u}",                   "at its end: the \")\" for the \"(\" at character 1"           },
        {"(&(uid={u})",                "at its end: the \")\" for the \"(\" at character 1"           },
        {"(uid={u}))",                 "at character 10, before \")\": there is no \"(\" for this"    },
        {"(uid={u})(x=y)",             "nothing may follow the filter; several are joined with (&...)"},
        {"()",                         "a name of an attribute, \"&\", \"|\" or \"!\" must follow"    },
        {"(&)",                        "at least one filter in \"(\" and \")\" must follow"           },
        {"(!)",                        "at least one filter"                                          },
        {"(!(a=b)(c=d))",              "\"!\" stands before one filter"                               },
        {"(&a=b)",                     "at least one filter"                                          },
        {"(uid)",                      "\"=\", \">=\", \"<=\", \"~=\" or \":=\" is missing"           },
        {"(objectClass-posixAccount)", "is missing behind the name of the attribute"                  },
        {"(uid ={u})",                 "is missing behind the name"                                   },
        {"(u$d={u})",                  "is missing behind the name"                                   },
        {"({u}=x)",                    "a macro stands for a value, never for the name"               },
        {"(uid={x})",                  "there are the macros {u} {d} {a} {t}"                         },
        {"(uid={user name})",          "there are the macros"                                         },
        {"(uid={u)",                   "a brace that is meant as itself is written \\7b"              },
        {"(uid={f})",                  "the sender, is not known yet"                                 },
        {"(uid=a\\b)",                 "a backslash is followed by two hexadecimal digits"            },
        {"(uid=a\\2)",                 "a backslash is followed by two"                               },
        {"(uid=a\\",                   "a backslash is followed by two"                               },
        {"(uid=a(b)",                  "a \"(\" inside a value is written \\28"                       },
        {"(uid=a**b)",                 "two asterisks without anything between"                       },
        {"(uid>=a*)",                  "an asterisk has a meaning behind \"=\" only"                  },
        {"(a:=)(",                     "nothing may follow"                                           },
        {"(:={u})",                    "neither an attribute nor a matching rule"                     },
        {"(a:1..2:=x)",                "a matching rule is written attribute:rule:=value"             },
        {"(1.:=x)",                    "a name of an attribute"                                       },
        {"(cn=\xff)",                  "not UTF-8"                                                    },
    };
    struct buf deep = BUF_INIT(1000);

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct err err = {0};

        if (ldap_template_parse(cases[i][0], &err) || !strstr(err.text, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], err.text);
    }
    for (int i = 0; i < 60; i++)
        buf_str_add(&deep, "(!");
    buf_str_add(&deep, "(a=b)");
    for (int i = 0; i < 60; i++)
        buf_str_add(&deep, ")");
    assert_null(ldap_template_parse(buf_str(&deep), NULL));
    buf_free(&deep);
}

static void presets_are_filters(void **state)
{
    (void)state;
    for (int type = LDAP_AD; type <= LDAP_OTHER; type++) {
        const struct ldap_preset *p = ldap_preset(type);
        const char *const filters[] = {p->smtpauth_filter, p->allowance, p->certauth_filter};

        assert_int_equal(p->type, type);
        for (size_t i = 0; i < countof(filters); i++) {
            struct ldap_template *t = ldap_template_parse(filters[i], NULL);

            assert_non_null(t);
            assert_true(ldap_template_macros(t) &
                        (i == 2 ? MACRO_CERTIFICATE_BITS : MACRO_USER_BITS));
            ldap_template_free(&t);
        }
        assert_true(ldap_attribute_check(p->user_attribute, NULL));
        assert_true(ldap_attribute_check(p->password_attribute, NULL));
    }
}

static void without_a_value_nothing_is_found(void **state)
{
    static const char *const cases[][2] = {
        {"(mail={e})",                     ""                    },
        {"(mail=*{e}*)",                   ""                    },
        {"(mail={u}@{e})",                 ""                    },
        {"(!(mail={e}))",                  ""                    },
        {"(&(uid={u})(mail={e}))",         ""                    },
        {"(&(uid={u})(!(mail={e})))",      ""                    },
        {"(|(uid={u})(mail={e}))",         "(|(uid=alice))"      },
        {"(|(uid={u})(!(mail={e})))",      "(|(uid=alice))"      },
        {"(!(|(uid={u})(mail={e})))",      ""                    },
        {"(!(&(uid={u})(mail={e})))",      "(!(&(uid=alice)))"   },
        {"(!(!(mail={e})))",               ""                    },
        {"(!(!(|(uid={u})(mail={e}))))",   "(!(!(|(uid=alice))))"},
        {"(&(|(mail={e})(x={upn}))(a=b))", ""                    },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_string_equal(filled(cases[i][0], &people), cases[i][1]);
}

/* A random filter; items name one of eight facts, some have no value. Whatever the truth of what
 * has none: what is found by the filled filter is found by the one that was meant. */

static unsigned long seed = 1;

static unsigned chance(unsigned n)
{
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(seed >> 33) % n;
}

static void random_filter(struct buf *out, unsigned depth)
{
    unsigned kind = depth ? chance(5) : 4, n;

    if (kind >= 3) {
        buf_printf(out, "(%c=%s)", (int)('a' + chance(8)), chance(3) ? "{u}" : "{e}");
        return;
    }
    n = kind == 2 ? 1 : 1 + chance(3);
    buf_printf(out, "(%c", "&|!"[kind]);
    for (unsigned i = 0; i < n; i++)
        random_filter(out, depth - 1);
    buf_char(out, ')');
}

/* facts: truth of a to h; unknown: truth of items without value. */
static bool holds(const struct ldap_node *f, unsigned facts, unsigned unknown)
{
    bool all = true, any = false;

    if (f->op == LDAP_EQUAL)
        return (slice_eq(f->parts[0], "?") ? unknown : facts) >> (f->attribute.p[0] - 'a') & 1;
    for (const struct ldap_node *c = f->child; c; c = c->next) {
        bool one = holds(c, facts, unknown);

        all = all && one;
        any = any || one;
    }
    return f->op == LDAP_AND ? all : f->op == LDAP_OR ? any : !any;
}

static void lack_never_finds_more(void **state)
{
    static const struct ldap_values with =
                                        {
                                            .of = {[MACRO_USER] = "!", [MACRO_EMAIL] = "?"}
    },
                                    without = {.of = {[MACRO_USER] = "!"}};
    unsigned found = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct arena arena = {0};
        struct buf text = BUF_INIT(10000);
        struct ldap_template *t;
        const struct ldap_node *meant, *sent;
        enum ldap_macro lacking;

        random_filter(&text, 4);
        t = ldap_template_parse(buf_str(&text), NULL);
        meant = ldap_template_fill(t, &with, &arena, &lacking);
        sent = ldap_template_fill(t, &without, &arena, &lacking);
        for (unsigned k = 0; sent && k < 100; k++) {
            unsigned facts = chance(256);

            if (!holds(sent, facts, 0))
                continue;
            found++;
            for (unsigned u = 0; u < 256; u += 1 + chance(9))
                if (!holds(meant, facts, u))
                    fail_msg("%s with %x, %x", buf_str(&text), facts, u);
        }
        ldap_template_free(&t);
        arena_free(&arena);
        buf_free(&text);
    }
    assert_true(found > 1000); /* or it has shown nothing */
}

/* What was printed is the filter that was sent: with the same number of parts, none of which a
 * value has made. */
static void values_never_become_syntax(void **state)
{
    static const char *const values[] = {"*",        "*)(uid=*", ")(|(a=b)",      "\\2a",
                                         "{u}",      "{",        "a\\",           "(",
                                         "\x01\x7f", "\xff\xfe", "a)(b=c))(&(d=e"};
    static const char *const filters[] = {"(uid={u})", "(&(uid={u})(x=y))", "(uid=*{u}*)",
                                          "(a:dn:=x{u})"};

    (void)state;
    for (size_t i = 0; i < countof(values); i++) {
        for (size_t k = 0; k < countof(filters); k++) {
            const struct ldap_values v = {.of = {[MACRO_USER] = values[i]}};
            struct arena arena = {0};
            char once[2000];
            struct ldap_template *t;
            enum ldap_macro lacking;
            const struct ldap_node *f;

            str_copy(once, sizeof(once), filled(filters[k], &v));
            t = ldap_template_parse(once, NULL);
            assert_non_null(t);
            assert_int_equal(ldap_template_macros(t), 0);
            f = ldap_template_fill(t, &v, &arena, &lacking);
            if (k == 0) {
                assert_int_equal(f->op, LDAP_EQUAL);
                assert_true(slice_eq(f->parts[0], values[i]));
            }
            assert_string_equal(filled(once, &v), once);
            ldap_template_free(&t);
            arena_free(&arena);
        }
    }
}

static void time_and_names(void **state)
{
    char text[16];
    enum ldap_macro m;

    (void)state;
    ldap_time_value(INT64_C(1795872600) * 1000000 + 999999, text);
    assert_string_equal(text, "20261128133000Z");
    assert_true(ldap_macro_find("CN", &m));
    assert_int_equal(m, MACRO_CN);
    assert_false(ldap_macro_find("g", &m));
    assert_string_equal(ldap_macro_name(MACRO_FINGERPRINT), "fp");
    assert_int_equal(MACRO_CERTIFICATE_BITS & MACRO_USER_BITS, 0);
    assert_true(ldap_attribute_check("userPassword;binary", NULL));
    assert_true(ldap_attribute_check("0.9.2342.19200300.100.1.1", NULL));
    assert_false(ldap_attribute_check("", NULL));
    assert_false(ldap_attribute_check("user password", NULL));
    assert_false(ldap_attribute_check("-x", NULL));
    assert_false(ldap_attribute_check("uid,cn", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_a_filter),      cmocka_unit_test(what_is_none),
        cmocka_unit_test(presets_are_filters),   cmocka_unit_test(without_a_value_nothing_is_found),
        cmocka_unit_test(lack_never_finds_more), cmocka_unit_test(values_never_become_syntax),
        cmocka_unit_test(time_and_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
