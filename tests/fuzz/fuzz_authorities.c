/* fuzz_authorities.c - a list of certificate authorities, as a file of strangers. Whatever came: it
 * is refused with a sentence, or every member has a name that fits the section, and the list
 * written out is the list read in. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/authorities.h"
#include "store/row.h"
#include "store/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(X509 *x, struct buf *out)
{
    struct row *r = row_new(&section_authority, NULL);
    char name[AUTHORITY_NAME], print[65];
    struct err err = {0};

    authority_name(x, name);
    if (!row_set(r, "name", name, &err))
        abort();
    authority_fingerprint(x, print);
    assert(strlen(print) == 64);
    authority_is_ca(x);
    if (!authority_check_fqdn(x, &err))
        assert(*err.text);
    authority_pem(x, out);
    row_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int strict = 0; strict < 2; strict++) {
        struct buf out = BUF_INIT((size_t)8 << 20);
        struct authorities list, again;
        struct err err = {0};

        if (!authorities_read((const char *)data, size, 20, strict, &list, &err)) {
            assert(*err.text && !list.n);
            continue;
        }
        assert(list.n > 0 && list.n <= 20);
        for (size_t i = 0; i < list.n; i++)
            look(list.items[i], &out);
        if (!authorities_read(buf_str(&out), out.n, 20, true, &again, &err) || again.n != list.n)
            abort();
        for (size_t i = 0; i < list.n; i++)
            assert(X509_cmp(list.items[i], again.items[i]) == 0);
        authorities_free(&again);
        authorities_free(&list);
        buf_free(&out);
    }
    return 0;
}
