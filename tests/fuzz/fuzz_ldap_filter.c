/* fuzz_ldap_filter.c - a query string and a value for its macros, with an octet 0 between them.
 * Whatever they are: a mistake has a sentence; a value changes no filter's structure; what is
 * printed is the filter that is sent. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ldap_wire.h"
#include "store/base/str.h"
#include "store/ldap_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same_structure(const struct ldap_node *a, const struct ldap_node *b)
{
    const struct ldap_node *x, *y;

    if (a->op != b->op || a->n != b->n || a->attribute.n != b->attribute.n ||
        (a->attribute.n && memcmp(a->attribute.p, b->attribute.p, a->attribute.n) != 0))
        return false;
    for (x = a->child, y = b->child; x && y; x = x->next, y = y->next)
        if (!same_structure(x, y))
            return false;
    return !x && !y;
}

static struct ldap_values all(const char *value)
{
    struct ldap_values v;

    for (unsigned i = 0; i < MACROS; i++)
        v.of[i] = value;
    return v;
}

static void look(const struct ldap_template *t, const char *value)
{
    struct ldap_values given = all(value), plain = all("x"), none = all("");
    struct buf text = BUF_INIT(10 << 20), again = BUF_INIT(10 << 20), sent = BUF_INIT(10 << 20);
    struct arena arena = {0};
    enum ldap_macro lacking;
    const struct ldap_node *f = ldap_template_fill(t, &given, &arena, &lacking),
                           *g = ldap_template_fill(t, &plain, &arena, &lacking);
    struct ldap_search s = {.base = "", .filter = f, .size_limit = 2, .time_limit = 1};
    struct ldap_template *u;

    assert(g && (f || !*value) && (!f || same_structure(f, g) || !*value));
    if (f) {
        ldap_filter_print(f, &text);
        u = ldap_template_parse(buf_str(&text), NULL);
        if (u) { /* not: what was printed is longer than a query string may be */
            assert(!ldap_template_macros(u));
            ldap_filter_print(ldap_template_fill(u, &none, &arena, &lacking), &again);
            assert(!strcmp(buf_str(&text), buf_str(&again)));
        } else {
            assert(text.n > 100000);
        }
        ldap_template_free(&u);
        ldap_put_search(&sent, 1, &s);
        assert(sent.n > 0);
    }
    f = ldap_template_fill(t, &none, &arena, &lacking);
    assert(f || lacking < MACROS);
    buf_free(&text);
    buf_free(&again);
    buf_free(&sent);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size);
    size_t n = strlen(text);
    char *value = n < size ? xstrndup((const char *)data + n + 1, size - n - 1) : xstrdup("");
    struct err err = {0};
    struct ldap_template *t = ldap_template_parse(text, &err);

    if (t)
        look(t, value);
    else
        assert(err.text[0] && str_is_utf8(err.text, strlen(err.text)));
    ldap_template_free(&t);
    ldap_attribute_check(text, &err);
    free(text);
    free(value);
    return 0;
}
