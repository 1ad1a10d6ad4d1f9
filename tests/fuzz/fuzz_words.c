/* fuzz_words.c - the grammar of a line: whatever comes is refused or parsed; what was parsed prints as a line that parses to
 * the same; the end of any beginning is found. */
#include <stdlib.h>
#include <string.h>

#include "store/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const char *p, *end;
    char *line;
};

static const char *next_line(void *arg)
{
    struct input *in = arg;
    const char *newline;

    if (in->p >= in->end)
        return NULL;
    newline = memchr(in->p, '\n', (size_t)(in->end - in->p));
    free(in->line);
    in->line = xstrndup(in->p, (size_t)((newline ? newline : in->end) - in->p));
    in->p = newline ? newline + 1 : in->end;
    return in->line;
}

static void compare(const struct words *a, const struct words *b)
{
    if (a->n != b->n)
        abort();
    for (size_t i = 0; i < a->n; i++) {
        const struct word *x = &a->items[i], *y = &b->items[i];

        if (!str_eq(x->text, y->text) && !(x->key && str_ieq(x->text, y->text)))
            abort();
        if (!str_eq(x->key, y->key) || x->flag != y->flag || (x->key && (x->op != y->op || !str_eq(x->value, y->value))))
            abort();
    }
}

static void print_and_parse(const struct words *w)
{
    AUTO(buf) struct buf line = BUF_INIT(8u << 20);
    struct statements again = {0};

    words_print(w, &line);
    if (line.n > WORDS_MAX_LINE) /* escapes are longer than what they stand for */
        return;
    if (!words_parse(line.p, line.n, NULL, NULL, &again, NULL) || again.n != 1)
        abort();
    compare(w, &again.items[0]);
    statements_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {(const char *)data, (const char *)data + size, NULL};
    const char *first = next_line(&in);
    struct statements list = {0};
    struct words_end end;

    if (!first)
        return 0;
    words_end_of((const char *)data, size, &end);
    if (end.start > size)
        abort();
    words_end_free(&end);
    first = xstrdup(first);
    if (words_parse(first, strlen(first), next_line, &in, &list, NULL)) {
        for (size_t i = 0; i < list.n; i++)
            print_and_parse(&list.items[i]);
    } else if (list.n) {
        abort();
    }
    statements_free(&list);
    free((char *)(uintptr_t)first);
    free(in.line);
    return 0;
}
