/* schemagen.c - prints schema/views.sql: what the .def files say, as SQL views for reading and review. */
#include <stdio.h>

#include "store/views.h"

int main(void)
{
    AUTO(buf) struct buf sql = BUF_INIT(4u << 20);

    buf_str_add(&sql, "-- Generated from schema/*.def by make; do not edit. One view per section over the running\n"
                      "-- configuration of config.db.\n");
    views_sql(&sql, false);
    if (sql.full || fputs(buf_str(&sql), stdout) == EOF || fflush(stdout) == EOF)
        return 1;
    return 0;
}
