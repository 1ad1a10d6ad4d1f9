/* views.h - one typed SQL view per section over the running configuration: schema/views.sql, for reading and review. */
#ifndef POSTERN_VIEWS_H
#define POSTERN_VIEWS_H

#include <stdbool.h>

#include "store/base/buf.h"

void views_sql(struct buf *out, bool drop); /* drop: with a DROP VIEW IF EXISTS before each */

#endif
