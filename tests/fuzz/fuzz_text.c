/* fuzz_text.c - reading a configuration text. Whatever came: it is refused with a sentence, or what
 * it made is written and read back to the same, if it passes the rules. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/factory.h"
#include "store/text.h"
#include "store/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *factory(void)
{
    static struct config *made;
    struct x509_request request = {.common_name = "demo.example", .days = 10, .algorithm = "p256"};
    struct buf cert = BUF_INIT(1 << 16), key = BUF_INIT(1 << 16);

    if (!made && x509_make_self_signed(&request, &cert, &key, NULL, NULL))
        made = factory_config(&(struct factory){.home = "/h",
                                                .hostname = "gw.example.com",
                                                .demo_cert = buf_str(&cert),
                                                .demo_key = "sealed:1:2"});
    buf_free(&cert);
    buf_free(&key);
    assert(made);
    return made;
}

static struct config *import(const char *text, size_t n, bool replace, struct err *err)
{
    struct config_edits e = {0};
    struct config *c = NULL;

    if (text_import(text, n, factory(), replace, NULL, &e, err))
        c = config_edit(factory(), e.items, e.n, 2);
    else
        assert(err->text[0]);
    config_edits_free(&e);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct config *c = size ? import((const char *)data + 1, size - 1, data[0] & 1, &err) : NULL,
                  *again;
    struct buf text = BUF_INIT((size_t)16 << 20);
    struct check check = {0};

    if (!c)
        return 0;
    check_config(
        c, factory(),
        &check); /* objects of an owner that is not there are not written: they never pass */
    if (!check.errors && text_export(c, NULL, &text, &err)) {
        again = import(buf_str(&text), text.n, true, &err);
        if (!again) {
            fprintf(stderr, "%s in:\n%s\n", err.text, buf_str(&text));
            abort();
        }
        assert(!memcmp(config_hash(c), config_hash(again), 32));
        config_free(&again);
    }
    check_free(&check);
    buf_free(&text);
    config_free(&c);
    return 0;
}
