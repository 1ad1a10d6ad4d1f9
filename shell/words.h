/* words.h - the grammar of a line: statements, words, "quotes", key=value, flags, here-texts. Pure.
 *
 * line      = [ statement { ";" statement } ] [ "#" comment ]
 * statement = word { blank word }
 * word      = key ("=" | "+=" | "-=") value | "-" letter ... | text          all of bare text and "quoted text"
 * quoted    = any characters, \n \t \" \\ \x{263a}; a backslash before anything else stands for itself
 * value     = word | "<<" TAG, the lines up to one that holds only TAG
 *
 * ";" separates and "#" at the beginning of a word begins a comment outside quotes only. What is quoted from its first byte
 * on is plain text: "a=b" is no key, "-x" no flag. */
#ifndef POSTERN_WORDS_H
#define POSTERN_WORDS_H

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/base/str.h"

#define WORDS_MAX_LINE 65536

struct word {
    char *text;  /* the whole word, quotes and escapes resolved */
    char *key;   /* of key=value, lower case; NULL: none */
    char op;     /* '=', '+' (+=), '-' (-=) */
    const char *value; /* of key=value: in text */
    bool flag;   /* -x, --name, --name=value */
    bool used;
    bool here;   /* the value was a here-text */
};

struct words { /* one statement */
    struct word *items;
    size_t n, cap;
    unsigned line; /* number of the line it began on, from words_parse's caller */
};

struct statements {
    struct words *items;
    size_t n, cap;
};

/* Appends the line's statements to out. more gives the following lines of a here-text (NULL at the end); more NULL: here-texts
 * are refused. Failure leaves out as it was. */
bool words_parse(const char *text, size_t n, const char *(*more)(void *arg), void *arg, struct statements *out, struct err *err);
/* A word of a program's arguments: quotes are the calling shell's affair. */
void words_add_argument(struct words *w, const char *text);
void words_clear(struct words *w);
void statements_free(struct statements *s);

/* The words as a line that parses to the same words. */
void words_print(const struct words *w, struct buf *out);

/* Where a half-typed line ends, for completion and "?". */
struct words_end {
    struct words before; /* the finished words of the last statement */
    char *partial;       /* what of the last word is there, quotes resolved; "" behind a blank */
    size_t start;        /* where the last word begins, in bytes */
    bool quoted;         /* the end is inside quotes */
    bool comment;        /* the end is in a comment */
};
void words_end_of(const char *text, size_t n, struct words_end *out);
void words_end_free(struct words_end *e);

#endif
