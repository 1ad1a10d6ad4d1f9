/* out.c - see out.h. */
#include "shell/out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "shell/backend.h"
#include "store/control.h"

#define MAX_TEXT (8u << 20)
#define GAP 2 /* blanks between columns */

struct out_table {
    struct ui *ui;
    char *name;
    const struct out_column *cols;
    size_t n;
    char underline;
    unsigned *width;
    bool gathered; /* some column is as wide as its widest cell */
    bool titled;
    json_t *rows; /* in JSON, or gathered */
};

bool out_json(const struct ui *ui)
{
    return ui->json;
}

bool out_stopped(const struct ui *ui)
{
    return ui->stopped || ui_aborted(ui);
}

void out_text(struct ui *ui, const char *text)
{
    ui_write(ui, text, strlen(text));
}

void out_prose(struct ui *ui, const char *text)
{
    AUTO(buf) struct buf in = BUF_INIT(MAX_TEXT), out = BUF_INIT(MAX_TEXT);

    buf_printf(&in, "%s\n", text);
    ui_wrap(&in, ui_width(ui) ? ui_width(ui) : 79, &out);
    ui_write(ui, out.p, out.n);
}

void out_item(struct ui *ui, const char *lead, const char *text)
{
    AUTO(buf) struct buf in = BUF_INIT(MAX_TEXT), out = BUF_INIT(MAX_TEXT);
    unsigned width = ui_width(ui), indent = (unsigned)strlen(lead);
    const char *p = lead, *end;

    buf_str_add(&in, text);
    ui_wrap(&in, width > indent + 20 ? width - indent : 0, &out);
    for (const char *line = buf_str(&out); line; line = *end ? end + 1 : NULL, p = "") {
        end = line + strcspn(line, "\n");
        out_line(ui, "%-*s%.*s", (int)indent, p, (int)(end - line), line);
    }
}

void out_line(struct ui *ui, const char *fmt, ...)
{
    AUTO(buf) struct buf line = BUF_INIT(MAX_TEXT);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&line, fmt, ap);
    va_end(ap);
    buf_char(&line, '\n');
    ui_write(ui, line.p, line.n);
}

void out_data(struct ui *ui, json_t *data)
{
    if (ui->json && json_is_object(data)) {
        if (!ui->data_out)
            ui->data_out = json_object();
        json_object_update(ui->data_out, data);
    }
    json_decref(data);
}

static void put_json(struct ui *ui, const char *text)
{
    if (ui->backend)
        ui->backend->write(ui, text, strlen(text));
    else
        fputs(text, stdout);
}

void out_list_begin(struct ui *ui, const char *name)
{
    AUTO(buf) struct buf text = BUF_INIT(200);

    if (!ui->json)
        return;
    buf_printf(&text, "{\"data\":{\"%s\":[", name);
    put_json(ui, buf_str(&text));
    ui->data_begun = true;
    ui->listed = 0;
}

void out_list_item(struct ui *ui, json_t *item)
{
    char *text;

    if (ui->json) {
        text = json_text(item);
        put_json(ui, ui->listed++ ? "," : "");
        put_json(ui, text);
        free(text);
    }
    json_decref(item);
}

void out_list_end(struct ui *ui)
{
    if (ui->json)
        put_json(ui, "]");
}

void out_live(struct ui *ui)
{
    ui->unpaged = true;
}

void out_stream(struct ui *ui, const char *line, json_t *record)
{
    AUTO(buf) struct buf text = BUF_INIT(MAX_TEXT);

    if (ui->json) {
        json_t *e = json_object();
        char *s;

        json_put_int(e, "v", CONTROL_VERSION);
        json_put(e, "more", json_true());
        json_put(e, "data", record);
        s = json_text(e);
        if (ui->backend) {
            ui->backend->write(ui, s, strlen(s));
            ui->backend->write(ui, "\n", 1);
        } else {
            puts(s);
            fflush(stdout);
        }
        free(s);
        json_decref(e);
        return;
    }
    str_escape_again(&text, line, strlen(line));
    buf_char(&text, '\n');
    ui_write(ui, text.p, text.n);
    if (!ui->backend)
        fflush(stdout);
    json_decref(record);
}

/* The value as a cell: strings escaped, lists joined, yes and no. */
static void cell_text(const json_t *v, struct buf *out)
{
    size_t i;
    json_t *item;

    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING:
        str_escape_again(out, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        buf_printf(out, "%.1f", json_real_value(v));
        break;
    case JSON_TRUE:
        buf_str_add(out, "Yes");
        break;
    case JSON_FALSE:
        buf_str_add(out, "No");
        break;
    case JSON_ARRAY:
        json_array_foreach(v, i, item)
        {
            if (i)
                buf_str_add(out, ", ");
            cell_text(item, out);
        }
        break;
    default:
        break;
    }
}

/* Columns that text takes on a terminal; stops at limit and says how many bytes that is. */
static unsigned columns_of(const char *s, unsigned limit, size_t *bytes)
{
    mbstate_t state = {0};
    unsigned width = 0;
    const char *p = s;

    while (*p) {
        wchar_t wc;
        size_t n = mbrtowc(&wc, p, strlen(p), &state);
        int w;

        if (n == (size_t)-1 || n == (size_t)-2 || !n) {
            state = (mbstate_t){0};
            n = 1;
            w = 1;
        } else {
            w = wcwidth(wc);
        }
        if (w < 0)
            w = 1;
        if (width + (unsigned)w > limit)
            break;
        width += (unsigned)w;
        p += n;
    }
    *bytes = (size_t)(p - s);
    return width;
}

/* A cell that was cut to fit the terminal ends with ">": half a host name must not pass for one. */
static void put_cell(struct buf *line, const char *text, unsigned width,
                     const struct out_column *col, bool last)
{
    bool right = col->right, cut;
    size_t bytes;
    unsigned used = columns_of(text, width, &bytes);

    cut = !col->width && text[bytes] && width;
    if (cut)
        used = columns_of(text, width - 1, &bytes) + 1;

    if (right)
        buf_printf(line, "%*s", (int)(width - used), "");
    buf_add(line, text, bytes);
    if (cut)
        buf_char(line, '>');
    if (!right && !last)
        buf_printf(line, "%*s", (int)(width - used), "");
}

/* Columns that do not fit on the terminal are narrowed from the widest on: nothing wraps, the names
 * stay legible. */
static void fit(struct out_table *t)
{
    unsigned room = ui_width(t->ui);

    for (;;) {
        unsigned total = 0;
        size_t widest = 0;

        for (size_t i = 0; i < t->n; i++) {
            total += t->width[i] + (i ? GAP : 0);
            if (t->width[i] > t->width[widest])
                widest = i;
        }
        if (!room || total <= room || t->width[widest] <= 4)
            return;
        t->width[widest]--;
    }
}

static void put_titles(struct out_table *t)
{
    AUTO(buf) struct buf line = BUF_INIT(MAX_TEXT);

    t->titled = true;
    for (size_t i = 0; i < t->n; i++) {
        put_cell(&line, t->cols[i].title, t->width[i], &t->cols[i], i + 1 == t->n);
        if (i + 1 < t->n)
            buf_str_add(&line, "  ");
    }
    while (line.n && line.p[line.n - 1] == ' ')
        line.p[--line.n] = '\0';
    buf_char(&line, '\n');
    for (size_t i = 0; i < t->n && t->underline; i++) {
        for (unsigned k = 0; k < t->width[i]; k++)
            buf_char(&line, t->underline);
        buf_str_add(&line, i + 1 < t->n ? "  " : "\n");
    }
    ui_write(t->ui, line.p, line.n);
}

static void put_row(struct out_table *t, const json_t *record)
{
    AUTO(buf) struct buf line = BUF_INIT(MAX_TEXT);

    for (size_t i = 0; i < t->n; i++) {
        AUTO(buf) struct buf cell = BUF_INIT(MAX_TEXT);

        cell_text(json_object_get(record, t->cols[i].key), &cell);
        put_cell(&line, buf_str(&cell), t->width[i], &t->cols[i], i + 1 == t->n);
        if (i + 1 < t->n)
            buf_str_add(&line, "  ");
    }
    while (line.n && line.p[line.n - 1] == ' ')
        line.p[--line.n] = '\0';
    buf_char(&line, '\n');
    ui_write(t->ui, line.p, line.n);
}

struct out_table *out_table_new(struct ui *ui, const char *name, const struct out_column *cols,
                                size_t n, char underline)
{
    struct out_table *t = xcalloc(1, sizeof(*t));
    size_t bytes;

    t->ui = ui;
    t->name = xstrdup(name);
    t->cols = cols;
    t->n = n;
    t->underline = underline;
    t->width = xcalloc(n, sizeof(*t->width));
    for (size_t i = 0; i < n; i++) {
        t->width[i] = cols[i].width ? cols[i].width : columns_of(cols[i].title, UINT32_MAX, &bytes);
        t->gathered = t->gathered || !cols[i].width;
    }
    if (ui->json || t->gathered)
        t->rows = json_array();
    return t;
}

void out_table_row(struct out_table *t, json_t *record)
{
    if (t->rows) {
        json_array_append_new(t->rows, record);
        return;
    }
    if (!t->titled) {
        fit(t);
        put_titles(t);
    }
    put_row(t, record);
    json_decref(record);
}

static void print_gathered(struct out_table *t)
{
    size_t r;
    json_t *record;

    json_array_foreach(t->rows, r, record)
    {
        for (size_t i = 0; i < t->n; i++) {
            AUTO(buf) struct buf cell = BUF_INIT(MAX_TEXT);
            size_t bytes;
            unsigned w;

            if (t->cols[i].width)
                continue;
            cell_text(json_object_get(record, t->cols[i].key), &cell);
            w = columns_of(buf_str(&cell), UINT32_MAX, &bytes);
            t->width[i] = w > t->width[i] ? w : t->width[i];
        }
    }
    fit(t);
    put_titles(t);
    json_array_foreach(t->rows, r, record)
    {
        if (out_stopped(t->ui))
            break;
        put_row(t, record);
    }
}

void out_table_end(struct out_table **tp)
{
    struct out_table *t = *tp;

    *tp = NULL;
    if (!t)
        return;
    if (t->ui->json) {
        json_t *data = json_object();

        json_put(data, t->name, json_incref(t->rows));
        out_data(t->ui, data);
    } else if (t->gathered) {
        print_gathered(t);
    } else if (!t->titled) {
        fit(t);
        put_titles(t);
    }
    json_decref(t->rows);
    free(t->width);
    free(t->name);
    free(t);
}

void out_record(struct ui *ui, const struct out_column *keys, size_t n, json_t *record)
{
    for (size_t i = 0; i < n && !ui->json; i++) {
        AUTO(buf) struct buf cell = BUF_INIT(MAX_TEXT);

        cell_text(json_object_get(record, keys[i].key), &cell);
        out_line(ui, "%s: %s", keys[i].title, buf_str(&cell));
    }
    out_data(ui, record);
}
