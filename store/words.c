/* words.c - see words.h. One scanner serves parsing and completion. */
#include "store/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *p, *end;
    const char *(*more)(void *arg);
    void *arg;
    struct err *err;
    struct buf word;     /* the word so far, quotes resolved */
    size_t bare;         /* bytes at its beginning that stood outside quotes */
    bool quoted;         /* a quoted part has begun: no more bare prefix */
    bool any;            /* there is a word, be it empty */
    bool in_quotes;      /* the text ended inside quotes */
    bool in_comment;
    const char *start;   /* where the word began */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void put_utf8(struct buf *b, unsigned long u)
{
    if (u < 0x80) {
        buf_char(b, (char)u);
    } else if (u < 0x800) {
        buf_char(b, (char)(0xc0 | u >> 6));
        buf_char(b, (char)(0x80 | (u & 0x3f)));
    } else if (u < 0x10000) {
        buf_char(b, (char)(0xe0 | u >> 12));
        buf_char(b, (char)(0x80 | (u >> 6 & 0x3f)));
        buf_char(b, (char)(0x80 | (u & 0x3f)));
    } else {
        buf_char(b, (char)(0xf0 | u >> 18));
        buf_char(b, (char)(0x80 | (u >> 12 & 0x3f)));
        buf_char(b, (char)(0x80 | (u >> 6 & 0x3f)));
        buf_char(b, (char)(0x80 | (u & 0x3f)));
    }
}

/* Behind "\x{": 1 to 6 hexadecimal digits and "}". */
static bool hex_escape(struct scan *s)
{
    unsigned long u = 0;
    unsigned digits = 0;

    while (s->p < s->end && isxdigit((unsigned char)*s->p) && digits < 7) {
        u = u * 16 + (unsigned long)(isdigit((unsigned char)*s->p) ? *s->p - '0' : (*s->p | 32) - 'a' + 10);
        s->p++;
        digits++;
    }
    if (!digits || s->p >= s->end || *s->p != '}' || !u || u > 0x10ffff || (u >= 0xd800 && u < 0xe000))
        return err_set(s->err, E_USAGE, "\\x{...} wants the hexadecimal number of a character.");
    s->p++;
    put_utf8(&s->word, u);
    return true;
}

static bool quoted_part(struct scan *s)
{
    s->p++;
    s->quoted = true;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p != '\\' || s->p + 1 >= s->end) {
            buf_char(&s->word, *s->p++);
            continue;
        }
        s->p += 2;
        switch (s->p[-1]) {
        case 'n':
            buf_char(&s->word, '\n');
            break;
        case 't':
            buf_char(&s->word, '\t');
            break;
        case '"':
        case '\\':
            buf_char(&s->word, s->p[-1]);
            break;
        case 'x':
            if (s->p < s->end && *s->p == '{') {
                s->p++;
                if (!hex_escape(s))
                    return false;
                break;
            }
            __attribute__((fallthrough));
        default: /* "a\.b" is how regular expressions are written */
            buf_add(&s->word, s->p - 2, 2);
        }
    }
    if (s->p >= s->end) {
        s->in_quotes = true;
        return err_set(s->err, E_USAGE, "A quotation mark is missing at the end.");
    }
    s->p++;
    return true;
}

/* The next word of the statement into s->word. s->any is false at its end; p is then at ";" or the end. */
static bool next_word(struct scan *s)
{
    buf_reset(&s->word);
    s->any = s->quoted = false;
    s->bare = 0;
    while (s->p < s->end && is_blank(*s->p))
        s->p++;
    s->start = s->p;
    if (s->p < s->end && *s->p == '#') {
        s->in_comment = true;
        s->p = s->end;
    }
    while (s->p < s->end && !is_blank(*s->p) && *s->p != ';') {
        s->any = true;
        if (*s->p == '"') {
            if (!quoted_part(s))
                return false;
            continue;
        }
        if (!s->quoted)
            s->bare++;
        buf_char(&s->word, *s->p++);
    }
    return true;
}

/* "key=", "key+=", "key-=" at the beginning, outside quotes: length of the key, else 0. */
static size_t key_length(const char *text, size_t bare, char *op, size_t *value)
{
    size_t n = 0;

    if (!bare || !(isalpha((unsigned char)text[0]) || text[0] == '_'))
        return 0;
    while (n < bare && (isalnum((unsigned char)text[n]) || text[n] == '_' || (text[n] == '-' && text[n + 1] != '=')))
        n++;
    if (n < bare && text[n] == '=') {
        *op = '=';
        *value = n + 1;
        return n;
    }
    if (n + 1 < bare && (text[n] == '+' || text[n] == '-') && text[n + 1] == '=') {
        *op = text[n];
        *value = n + 2;
        return n;
    }
    return 0;
}

static bool check_bytes(const char *text, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f)
            return err_set(err, E_USAGE, "The line holds the control character \\x%02x.", c);
        if (c == 0xef && i + 2 < n && (unsigned char)text[i + 1] == 0xbf && (unsigned char)text[i + 2] == 0xbd)
            return err_set(err, E_USAGE, "The line holds bytes that could not be read as UTF-8.");
    }
    if (!str_is_utf8(text, n))
        return err_set(err, E_USAGE, "The line is not valid UTF-8.");
    return true;
}

static bool here_text(struct scan *s, struct word *w, size_t value)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    const char *tag = w->text + value + 2, *line;

    if (!*tag)
        return err_set(s->err, E_USAGE, "\"<<\" wants the word that ends the text behind it.");
    if (!s->more)
        return err_set(s->err, E_USAGE, "A text \"<<%s\" can be given in a batch file only.", str_printable(tag));
    while ((line = s->more(s->arg)) != NULL && !str_eq(line, tag)) {
        if (!check_bytes(line, strlen(line), s->err))
            return false;
        buf_str_add(&text, line);
        buf_char(&text, '\n');
    }
    if (!line)
        return err_set(s->err, E_USAGE, "The text does not end: a line \"%s\" is missing.", str_printable(tag));
    if (text.full)
        return err_set(s->err, E_LIMIT, "The text is longer than 1 MB.");
    tag = xasprintf("%.*s%s", (int)value, w->text, buf_str(&text));
    free(w->text);
    w->text = (char *)(uintptr_t)tag;
    w->here = true;
    return true;
}

static bool add_word(struct scan *s, struct words *words)
{
    const char *text = buf_str(&s->word);
    size_t key, value = 0;
    struct word *w;

    if (words->n == words->cap) {
        words->cap = words->cap ? words->cap * 2 : 8;
        words->items = xrealloc(words->items, words->cap * sizeof(*words->items));
    }
    w = &words->items[words->n++];
    *w = (struct word){.text = xstrdup(text)};
    key = key_length(text, s->bare, &w->op, &value);
    if (key) {
        w->key = xstrndup(text, key);
        str_lower(w->key);
        if (s->bare >= value + 2 && str_starts(text + value, "<<") && !here_text(s, w, value))
            return false;
        w->value = w->text + value;
    } else if (s->bare >= 2 && text[0] == '-' && (isalpha((unsigned char)text[1]) || text[1] == '-')) {
        w->flag = true;
    }
    return true;
}

void words_clear(struct words *w)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->items[i].text)
            explicit_bzero(w->items[i].text, strlen(w->items[i].text)); /* it may be a password */
        free(w->items[i].text);
        free(w->items[i].key);
    }
    free(w->items);
    *w = (struct words){0};
}

void statements_free(struct statements *s)
{
    for (size_t i = 0; i < s->n; i++)
        words_clear(&s->items[i]);
    free(s->items);
    *s = (struct statements){0};
}

static struct words *add_statement(struct statements *out)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 4;
        out->items = xrealloc(out->items, out->cap * sizeof(*out->items));
    }
    out->items[out->n] = (struct words){0};
    return &out->items[out->n++];
}

bool words_parse(const char *text, size_t n, const char *(*more)(void *arg), void *arg, struct statements *out, struct err *err)
{
    char *line = n <= WORDS_MAX_LINE ? xstrndup(text, n) : NULL; /* more() may read into the buffer text lies in */
    struct scan s = {.p = line, .end = line ? line + n : NULL, .more = more, .arg = arg, .err = err, .word = BUF_INIT(WORDS_MAX_LINE)};
    size_t before = out->n;
    bool ok = line || err_set(err, E_LIMIT, "The line is longer than %d bytes.", WORDS_MAX_LINE);

    if (ok)
        ok = check_bytes(text, n, err);
    while (ok && s.p < s.end) {
        struct words *w = add_statement(out);

        while ((ok = next_word(&s)) && s.any && (ok = add_word(&s, w)))
            ;
        if (!w->n)
            out->n--; /* an empty statement, as in "a;;b" */
        if (s.p < s.end)
            s.p++; /* the ";" */
    }
    buf_free(&s.word);
    free(line);
    while (!ok && out->n > before)
        words_clear(&out->items[--out->n]);
    if (!out->n)
        statements_free(out);
    return ok;
}

void words_add_argument(struct words *w, const char *text)
{
    struct scan s = {.word = BUF_INIT(WORDS_MAX_LINE), .bare = strlen(text)};

    buf_str_add(&s.word, text);
    add_word(&s, w);
    buf_free(&s.word);
}

static bool is_plain(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c <= 0x20 || c >= 0x7f || c == '"' || c == ';' || c == '#')
            return false;
    }
    return true;
}

static void print_quoted(const char *s, struct buf *out)
{
    buf_char(out, '"');
    for (; *s; s++) {
        if (*s == '\n')
            buf_str_add(out, "\\n");
        else if (*s == '\t')
            buf_str_add(out, "\\t");
        else if (*s == '"' || *s == '\\')
            buf_printf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20 || *s == 0x7f)
            buf_printf(out, "\\x{%x}", (unsigned char)*s);
        else if (memcmp(s, "\xef\xbf", 2) == 0 && s[2] == '\xbd') /* refused raw: see check_bytes */
            s += 2, buf_str_add(out, "\\x{fffd}");
        else
            buf_char(out, *s);
    }
    buf_char(out, '"');
}

static void print_word(const struct word *w, struct buf *out)
{
    char op;
    size_t value;
    bool looks = key_length(w->text, strlen(w->text), &op, &value) || (w->text[0] == '-' && w->text[1]);

    if (w->key) {
        buf_printf(out, "%s%s=", w->key, w->op == '+' ? "+" : w->op == '-' ? "-" : "");
        if (is_plain(w->value) && !str_starts(w->value, "<<"))
            buf_str_add(out, w->value);
        else
            print_quoted(w->value, out);
    } else if (w->flag && is_plain(w->text)) {
        buf_str_add(out, w->text);
    } else if (w->flag) { /* the dashes and a letter outside, so that it stays a flag */
        buf_add(out, w->text, 2);
        print_quoted(w->text + 2, out);
    } else if (*w->text && is_plain(w->text) && !looks) {
        buf_str_add(out, w->text);
    } else {
        print_quoted(w->text, out);
    }
}

void words_print(const struct words *w, struct buf *out)
{
    for (size_t i = 0; i < w->n; i++) {
        if (i)
            buf_char(out, ' ');
        print_word(&w->items[i], out);
    }
}

void words_end_of(const char *text, size_t n, struct words_end *out)
{
    struct scan s = {.p = text, .end = text + n, .word = BUF_INIT(WORDS_MAX_LINE)};

    *out = (struct words_end){.start = n};
    for (;;) {
        bool ok = next_word(&s);

        if (ok && s.any && s.p < s.end && *s.p != ';' && is_blank(*s.p)) {
            add_word(&s, &out->before); /* finished: a blank follows; here-texts are refused, which is no matter here */
            continue;
        }
        if (ok && s.p < s.end) { /* ";": another statement begins */
            words_clear(&out->before);
            s.p++;
            continue;
        }
        out->partial = xstrdup(s.any || s.in_quotes ? buf_str(&s.word) : "");
        out->start = s.any || s.in_quotes ? (size_t)(s.start - text) : n;
        out->quoted = s.in_quotes;
        out->comment = s.in_comment;
        break;
    }
    buf_free(&s.word);
}

void words_end_free(struct words_end *e)
{
    words_clear(&e->before);
    free(e->partial);
    e->partial = NULL;
}
