/* fuzz_ini.c - an INI file of destinations. Whatever came: it is refused with a sentence, or what
 * it made is written and read back to the same file. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/dest_ini.h"
#include "store/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config *base(void)
{
    static struct config *made;
    static const struct {
        const struct section *section;
        const char *name;
    } rows[] = {
        {&section_destination,       "default"  },
        {&section_destination,       "a.example"},
        {&section_destination_setup, "-"        },
        {&section_certificate,       "Demo"     },
        {&section_bounce_profile,    "Default"  },
    };
    struct config_edits e = {0};

    for (size_t i = 0; !made && i < countof(rows); i++) {
        struct row *r = row_new(rows[i].section, rows[i].name);

        row_freeze(r);
        config_edits_put(&e, rows[i].section, rows[i].name, r);
    }
    if (!made)
        made = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    return made;
}

static struct config *import(const char *text, size_t n, struct err *err)
{
    struct config_edits e = {0};
    struct config *cfg = NULL;
    size_t entries = 0;

    if (dest_ini_import(text, n, base(), &e, &entries, err))
        cfg = config_edit(base(), e.items, e.n, 2);
    else
        assert(err->text[0]);
    config_edits_free(&e);
    return cfg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* a file that is fine but for what came behind it gets further than noise does */
    static const char head[] = "[DEFAULT]\nip_sort_pref=PREFER_V6\nmax_host_concurrency=500\nmax_"
                               "messages_per_connection=50\n"
                               "limit_type=host\nlimit_apply=VG\ntable_tls=on\nbounce_validation="
                               "0\nsend_tls_req_alert=0\n";
    size_t before = size && data[0] & 1 ? sizeof(head) - 1 : 0;
    char *text = malloc(before + size + 1);
    AUTO(buf) struct buf one = BUF_INIT((size_t)16 << 20);
    AUTO(buf) struct buf two = BUF_INIT((size_t)16 << 20);
    struct err err = {0};
    struct config *cfg, *again;

    memcpy(text, head, before);
    if (size)
        memcpy(text + before, data + 1, size - 1);
    cfg = import(text, size ? before + size - 1 : 0, &err);
    if (cfg) {
        dest_ini_export(cfg, &one);
        again = import(buf_str(&one), one.n, &err);
        assert(again);
        dest_ini_export(again, &two);
        assert(!strcmp(buf_str(&one), buf_str(&two)));
        config_free(&again);
    }
    config_free(&cfg);
    free(text);
    return 0;
}
