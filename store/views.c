/* views.c - see views.h. */
#include "store/views.h"

#include "store/schema.h"
#include "store/value.h"

void views_sql(struct buf *out, bool drop)
{
    for (size_t i = 0; i < section_count(); i++) {
        const struct section *s = section_at(i);

        if (drop)
            buf_printf(out, "DROP VIEW IF EXISTS v_%s;\n", s->name);
        buf_printf(out, "CREATE VIEW v_%s AS SELECT name AS object", s->name);
        for (size_t k = 0; k < s->nfields; k++)
            buf_printf(out, ",\n  CAST(json_extract(body,'$.%s') AS %s) AS \"%s\"",
                       s->fields[k].name, s->fields[k].type->sql, s->fields[k].name);
        buf_printf(out, "\nFROM entry JOIN blob USING(hash) WHERE class='%s' AND to_rev IS NULL;\n",
                   s->name);
    }
}
