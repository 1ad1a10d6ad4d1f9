/* fuzz_hat_file.c - host and recipient access tables as files. Whatever came: it is refused with a sentence, or what it made
 * keeps the rules, is written, and read back to the same. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/factory.h"
#include "store/hat_file.h"
#include "store/rat_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *base(void)
{
    static const struct factory f = {.hostname = "gw.example", .demo_cert = "", .demo_key = ""};
    static struct config *made;

    if (!made)
        made = factory_config(&f);
    return made;
}

static struct config *import(const struct config *over, bool hat, const char *listener, const char *text, size_t n)
{
    struct config_edits e = {0};
    struct hat_facts facts = {0};
    struct strlist remarks = {0};
    struct config *cfg = NULL;
    struct err err = {0};
    size_t entries;
    bool ok = hat ? hat_file_import(text, n, over, listener, &e, &facts, &err)
                  : rat_file_import(text, n, over, listener, &e, &entries, &remarks, &err);

    if (ok)
        cfg = config_edit(over, e.items, e.n, 2);
    else
        assert(err.text[0]);
    config_edits_free(&e);
    strlist_free(&facts.remarks);
    strlist_free(&remarks);
    return cfg;
}

static void write_table(const struct config *cfg, bool hat, const char *listener, struct buf *out)
{
    if (hat)
        hat_file_export(cfg, listener, out);
    else
        rat_file_export(cfg, listener, out);
}

/* The same rules that the commit has. */
static void check_rows(const struct config *cfg, const char *listener)
{
    static const struct section *const sections[] = {&section_mail_policy, &section_sender_group, &section_rcpt_access};

    for (size_t s = 0; s < 3; s++) {
        size_t first, n = config_children(cfg, sections[s], listener, &first);

        for (size_t i = first; i < first + n; i++) {
            struct check check = {.row = config_at(cfg, sections[s], i), .errors_only = true};

            check_row_fields(check.row, &check);
            sections[s]->check(cfg, check.row, &check);
            assert(!check.errors);
            check_free(&check);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool hat = size && !(data[0] & 1);
    const char *listener = size && data[0] & 2 ? "OutboundMail" : "InboundMail";
    AUTO(buf) struct buf one = BUF_INIT((size_t)16 << 20);
    AUTO(buf) struct buf two = BUF_INIT((size_t)16 << 20);
    char *text = malloc(size ? size : 1); /* of its own, so that nothing reads beyond it */
    struct config *cfg, *again;

    if (size > 1)
        memcpy(text, data + 1, size - 1);
    cfg = import(base(), hat, listener, text, size ? size - 1 : 0);
    if (cfg) {
        check_rows(cfg, listener);
        write_table(cfg, hat, listener, &one);
        again = import(cfg, hat, listener, buf_str(&one), one.n);
        assert(again);
        write_table(again, hat, listener, &two);
        assert(!strcmp(buf_str(&one), buf_str(&two)));
        config_free(&again);
    }
    config_free(&cfg);
    free(text);
    return 0;
}
