/* config_of.h - a configuration from a table: {&section_listener, "In",
 * "kind=public|tls=required"}. */
#ifndef POSTERN_TESTS_CONFIG_OF_H
#define POSTERN_TESTS_CONFIG_OF_H

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"
#include "store/config.h"
#include "tests/unit/cm.h"

struct object {
    const struct section *section;
    const char *name, *values;
};

static inline struct config *config_of(const struct config *base, const struct object *o, size_t n)
{
    struct config_edit *edits = xcalloc(n, sizeof(*edits));
    struct config *cfg;

    for (size_t i = 0; i < n; i++) {
        struct row *r = row_new(o[i].section, o[i].name);
        struct strlist values = {0};

        strlist_split(&values, o[i].values, '|');
        for (size_t k = 0; k < values.n; k++) {
            char *equals = strchr(values.items[k], '=');
            struct err err = {0};

            *equals = '\0';
            if (!row_set(r, values.items[k], equals + 1, &err))
                fail_msg("%s %s: %s", o[i].name, values.items[k], err.text);
        }
        strlist_free(&values);
        row_freeze(r);
        edits[i] = (struct config_edit){o[i].section, r->name, r};
    }
    cfg = config_edit(base, edits, n, 1);
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    free(edits);
    return cfg;
}

#endif
