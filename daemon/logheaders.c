/* logheaders.c - see logheaders.h. */
#include "daemon/logheaders.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

#define MAX_VALUE 200u
#define ROOM (4 * MAX_VALUE + 150) /* one header at its longest */

static bool wanted(const struct strlist *names, const char *name, size_t n)
{
    for (size_t i = 0; i < names->n; i++)
        if (strlen(names->items[i]) == n && strncasecmp(names->items[i], name, n) == 0)
            return true;
    return false;
}

static void add_quoted(struct buf *out, const char *p, size_t n)
{
    AUTO(buf) struct buf shown = BUF_INIT(ROOM);

    buf_char(out, '\'');
    str_escape(&shown, p, n);
    for (size_t i = 0; i < shown.n; i++) {
        if (shown.p[i] == '\'')
            buf_char(out, '\\');
        buf_char(out, shown.p[i]);
    }
    buf_char(out, '\'');
}

/* The value from p on, its folds undone; where the next header begins. */
static const char *value_of(const char *p, const char *end, char *out, size_t *n)
{
    *n = 0;
    for (;;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p);

        if (length && p[length - 1] == '\r')
            length--;
        while (length && (*p == ' ' || *p == '\t')) {
            p++;
            length--;
        }
        if (*n && *n < MAX_VALUE)
            out[(*n)++] = ' ';
        if (length > MAX_VALUE - *n)
            length = MAX_VALUE - *n;
        memcpy(out + *n, p, length);
        *n += length;
        p = stop ? stop + 1 : end;
        if (p == end || (*p != ' ' && *p != '\t'))
            return p;
    }
}

void logheaders_text(struct slice text, const struct strlist *names, struct buf *out)
{
    const char *p = text.p, *end = p + text.n;
    char value[MAX_VALUE];
    bool any = false;
    size_t n;

    while (p < end && *p != '\r' && *p != '\n') {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        const char *colon = memchr(p, ':', (size_t)((line_end ? line_end : end) - p));
        size_t name = colon ? (size_t)(colon - p) : 0;
        const char *begin = p;

        while (name && (begin[name - 1] == ' ' || begin[name - 1] == '\t'))
            name--;
        p = value_of(colon ? colon + 1 : p, end, value, &n);
        if (!colon || !wanted(names, begin, name) || out->n + name + 5 * n + 20 > out->max)
            continue;
        buf_str_add(out, any ? ", (" : "[(");
        add_quoted(out, begin, name);
        buf_str_add(out, ", ");
        add_quoted(out, value, n);
        buf_char(out, ')');
        any = true;
    }
    if (any)
        buf_char(out, ']');
}

void logheaders_of(const struct message *m, const struct strlist *names, struct buf *out)
{
    struct slice text;
    char *piece;
    size_t got = 0;

    if (!names->n)
        return;
    text = body_cached(m->body);
    if (text.n) {
        logheaders_text(text, names, out);
        return;
    }
    piece = xmalloc(SPOOL_PIECE);
    if (body_read(m->body, 0, piece, SPOOL_PIECE, &got, NULL))
        logheaders_text((struct slice){piece, got}, names, out);
    free(piece);
}
