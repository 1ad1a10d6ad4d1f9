/* pattern.h - extended regular expressions (POSIX, with what glibc adds: \w \W \s \S \b \B \< \> \`
 * \') for searching logs, matched in a time and a space that are bounded, whatever the expression
 * and the text: the C library's matcher keeps every state it comes through, tens of megabytes for
 * one line. Bytes, as in the locale "C". A pattern belongs to one thread at a time. */
#ifndef POSTERN_PATTERN_H
#define POSTERN_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/err.h"

#define PATTERN_LONGEST 1000u /* characters */
#define PATTERN_GROUPS 20u /* inside each other */
#define PATTERN_REPEAT 255u /* the most an interval may say */

struct pattern;

/* Not on a fiber: the C library, which judges the syntax, needs more stack than that. NULL:
 * E_INVALID, E_LIMIT. */
struct pattern *pattern_new(const char *text, bool ignore_case, struct err *err);
void pattern_free(struct pattern **p);

/* Is there a match anywhere? Takes n times the length of the expression (repetitions written out)
 * at most. */
bool pattern_finds(struct pattern *p, const char *text, size_t n);

#endif
