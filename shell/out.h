/* out.h - rows and records rendered as text, JSON or batch lines, paged on a terminal. Commands hand data over and never
 * format JSON themselves. Untrusted text is escaped here. */
#ifndef POSTERN_OUT_H
#define POSTERN_OUT_H

#include "shell/ui.h"
#include "store/base/json.h"

struct out_column {
    const char *title, *key; /* heading; member of the record */
    unsigned width;          /* 0: as wide as the widest cell (whole table is gathered first) */
    bool right;
};
struct out_table;
struct out_table *out_table_new(struct ui *ui, const char *name, const struct out_column *cols, size_t n, char underline);
void out_table_row(struct out_table *t, json_t *record); /* steals; in JSON it goes to data.<name>[] as is */
void out_table_end(struct out_table **t);
void out_record(struct ui *ui, const struct out_column *keys, size_t n, json_t *record); /* "Key: value" lines; steals */
void out_data(struct ui *ui, json_t *data);              /* JSON only: becomes the envelope's data; steals */
void out_text(struct ui *ui, const char *text);          /* prose or layout of our own; paged, not in JSON */
bool out_json(const struct ui *ui);                      /* is this run --json? */

#endif
