/* out.h - rows and records rendered as text or JSON, paged on a terminal. Commands hand data over and never format
 * JSON themselves. Cells, record values and streamed lines are escaped here; out_text prints as is. */
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
/* underline: '=' or '-' under each title, 0 for none. */
struct out_table *out_table_new(struct ui *ui, const char *name, const struct out_column *cols, size_t n, char underline);
void out_table_row(struct out_table *t, json_t *record); /* steals; in JSON it goes to data.<name>[] as is */
void out_table_end(struct out_table **t);
void out_record(struct ui *ui, const struct out_column *keys, size_t n, json_t *record); /* "Key: value" lines; steals */
void out_data(struct ui *ui, json_t *data);              /* JSON only: members are added to the envelope's data; steals */
/* JSON only: a list of any length in the envelope's data, written as it comes. At most one in a command; item
 * steals. */
void out_list_begin(struct ui *ui, const char *name);
void out_list_item(struct ui *ui, json_t *item);
void out_list_end(struct ui *ui);
void out_line(struct ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* a line of text; not in JSON */
void out_prose(struct ui *ui, const char *text);         /* a paragraph, broken at blanks */
void out_item(struct ui *ui, const char *lead, const char *text); /* the same behind lead, below which it goes on */
void out_text(struct ui *ui, const char *text);          /* prose or layout of our own; not in JSON */
/* A line of a stream (tail, grep): printed at once; in JSON one object {"more":true,"data":record} a line. Steals. */
void out_stream(struct ui *ui, const char *line, json_t *record);
void out_live(struct ui *ui);                            /* lines as they happen: no page marks to the end of the command */
bool out_json(const struct ui *ui);                      /* is this run --json? */
bool out_stopped(const struct ui *ui);                   /* "q" at the page mark, or aborted: stop producing */

#endif
