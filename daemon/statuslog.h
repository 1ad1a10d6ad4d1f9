/* statuslog.h - a line of numbers into the status logs and the mail logs, again and again
 * (logconfig > setup says how often): "Status: CPULd 13 DskIO 1 ...", keys and values as monitoring
 * scripts know them. */
#ifndef POSTERN_STATUSLOG_H
#define POSTERN_STATUSLOG_H

#include "store/base/buf.h"
#include "store/base/json.h"

void statuslog_run(void); /* once there are loops and workers: its fiber */
void statuslog_line(const json_t *status, struct buf *out); /* from the answer of "status"; pure */

#endif
