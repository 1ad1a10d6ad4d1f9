/* str.c - see str.h. */
#include "store/base/str.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(size_t n)
{
    fprintf(stderr, "out of memory (%zu bytes wanted)\n", n);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    if (!p)
        out_of_memory(n);
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (!p)
        out_of_memory(n * size);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    p = realloc(p, n ? n : 1);
    if (!p)
        out_of_memory(n);
    return p;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = xmalloc(len + 1);

    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *p;

    va_start(ap, fmt);
    if (vasprintf(&p, fmt, ap) < 0)
        out_of_memory(0);
    va_end(ap);
    return p;
}

static unsigned char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : (unsigned char)c;
}

void str_free(char **s)
{
    free(*s);
    *s = NULL;
}

bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

int str_icmp(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b))
        a++, b++;
    return lower(*a) - lower(*b);
}

bool str_ieq(const char *a, const char *b)
{
    return a == b || (a && b && str_icmp(a, b) == 0);
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_istarts(const char *s, const char *prefix)
{
    while (*prefix && lower(*s) == lower(*prefix))
        s++, prefix++;
    return !*prefix;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

size_t str_copy(char *dst, size_t size, const char *src)
{
    size_t n = strlen(src), room = size ? size - 1 : 0;

    if (!size)
        return 0;
    if (n > room)
        n = room;
    memmove(dst, src, n);
    dst[n] = '\0';
    return n;
}

void str_lower(char *s)
{
    for (; *s; s++)
        *s = (char)lower(*s);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

char *str_trim(char *s)
{
    size_t n;

    while (is_blank(*s))
        s++;
    n = strlen(s);
    while (n && is_blank(s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* One character of well-formed UTF-8 (Unicode table 3-7): its length and code point; 0 when there is none. */
size_t str_utf8_char(const char *p, size_t n, uint32_t *out)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char lo = 0x80, hi = 0xBF;
    uint32_t c;
    size_t len;

    if (!n)
        return 0;
    if (s[0] < 0x80) {
        *out = s[0];
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        len = 2;
        c = s[0] & 0x1Fu;
    } else if ((s[0] & 0xF0) == 0xE0) {
        len = 3;
        c = s[0] & 0x0Fu;
        if (s[0] == 0xE0)
            lo = 0xA0;
        else if (s[0] == 0xED) /* surrogates */
            hi = 0x9F;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        len = 4;
        c = s[0] & 0x07u;
        if (s[0] == 0xF0)
            lo = 0x90;
        else if (s[0] == 0xF4)
            hi = 0x8F;
    } else {
        return 0;
    }
    if (n < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (s[i] < lo || s[i] > hi)
            return 0;
        lo = 0x80;
        hi = 0xBF;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *out = c;
    return len;
}

bool str_is_utf8(const char *s, size_t n)
{
    uint32_t c;
    size_t len;

    for (size_t i = 0; i < n; i += len) {
        len = str_utf8_char(s + i, n - i, &c);
        if (!len || !c)
            return false;
    }
    return true;
}

bool slice_eq(struct slice s, const char *text)
{
    return strlen(text) == s.n && (s.n == 0 || memcmp(s.p, text, s.n) == 0);
}

bool slice_ieq(struct slice s, const char *text)
{
    if (strlen(text) != s.n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (lower(s.p[i]) != lower(text[i]))
            return false;
    return true;
}

void slice_copy(struct slice s, char *dst, size_t size)
{
    size_t n = s.n < size ? s.n : size - 1;

    memcpy(dst, s.p, n);
    dst[n] = '\0';
}

struct slice slice_of(const char *s)
{
    return (struct slice){s, strlen(s)};
}

char *slice_dup(struct slice s)
{
    char *p = xmalloc(s.n + 1);

    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

/* Characters that change how their neighbours are shown, or are not shown at all. */
static bool is_disturbing(uint32_t c)
{
    static const struct {
        uint32_t lo, hi;
    } ranges[] = {
        {0x00, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},     {0x180E, 0x180E},
        {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},
        {0xFFF0, 0xFFFC}, {0xFFFE, 0xFFFF}, {0xE0000, 0xE0FFF},
    };

    for (size_t i = 0; i < countof(ranges); i++)
        if (c >= ranges[i].lo && c <= ranges[i].hi)
            return true;
    return c == '\\';
}

void str_escape(struct buf *out, const char *p, size_t n)
{
    size_t i = 0, plain = 0, len;
    uint32_t c;

    while (i < n) {
        len = str_utf8_char(p + i, n - i, &c);
        if (len && !is_disturbing(c)) {
            i += len;
            continue;
        }
        buf_add(out, p + plain, i - plain);
        if (len <= 1)
            buf_printf(out, "\\x%02X", (unsigned char)p[i]);
        else
            buf_printf(out, "\\u{%X}", (unsigned)c);
        i += len ? len : 1;
        plain = i;
    }
    buf_add(out, p + plain, n - plain);
}

void str_escape_again(struct buf *out, const char *p, size_t n)
{
    size_t start = 0;

    for (size_t i = 0; i <= n; i++) {
        if (i < n && p[i] != '\\')
            continue;
        str_escape(out, p + start, i - start);
        if (i < n)
            buf_char(out, '\\');
        start = i + 1;
    }
}

const char *str_article(const char *noun)
{
    bool letters = isupper((unsigned char)noun[0]) && isupper((unsigned char)noun[1]); /* spelt out */

    return strchr(letters ? "AEFHILMNORSX" : "aeioAEIO", noun[0]) ? "an" : "a";
}

const char *str_printable(const char *s)
{
    static __thread char ring[8][1024];
    static __thread unsigned turn;
    char *place = ring[turn++ % countof(ring)];
    AUTO(buf) struct buf b = BUF_INIT(8192);
    size_t n = strnlen(s, sizeof(ring[0]) - 1);

    str_escape(&b, s, n);
    str_copy(place, sizeof(ring[0]), buf_str(&b));
    return place;
}

void strlist_addn(struct strlist *l, const char *s, size_t n)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 4;
        l->items = xrealloc(l->items, l->cap * sizeof(*l->items));
    }
    l->items[l->n++] = xstrndup(s, n);
}

void strlist_add(struct strlist *l, const char *s)
{
    strlist_addn(l, s, strlen(s));
}

bool strlist_has(const struct strlist *l, const char *s)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i], s) == 0)
            return true;
    return false;
}

void strlist_copy(struct strlist *dst, const struct strlist *src)
{
    struct strlist copy = {0};

    for (size_t i = 0; i < src->n; i++)
        strlist_add(&copy, src->items[i]);
    *dst = copy;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strlist_sort(struct strlist *l)
{
    if (l->n)
        qsort(l->items, l->n, sizeof(*l->items), compare_items);
}

void strlist_free(struct strlist *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i]);
    free(l->items);
    l->items = NULL;
    l->n = l->cap = 0;
}

void strlist_split(struct strlist *out, const char *s, char sep)
{
    while (*s) {
        const char *end = strchrnul(s, sep), *stop = end;

        while (s < stop && is_blank(*s))
            s++;
        while (stop > s && is_blank(stop[-1]))
            stop--;
        if (stop > s)
            strlist_addn(out, s, (size_t)(stop - s));
        s = *end ? end + 1 : end;
    }
}

void strlist_join(const struct strlist *l, const char *sep, struct buf *out)
{
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            buf_str_add(out, sep);
        buf_str_add(out, l->items[i]);
    }
}
