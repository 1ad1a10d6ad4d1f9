/* pattern.h - regular expressions for searching logs: Perl-compatible (PCRE2), on bytes, with bounds on what an
 * expression and one line may cost, since whoever may search must not be able to keep the engine busy or fill its
 * memory. A pattern belongs to one thread at a time. */
#ifndef POSTERN_PATTERN_H
#define POSTERN_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/err.h"

#define PATTERN_LONGEST 1000u /* characters */
#define PATTERN_GROUPS 20u /* inside each other */
#define PATTERN_STEPS 100000u /* of the matcher for one line: about a millisecond */
#define PATTERN_MEMORY 1024u /* KiB, for one line */

struct pattern;

/* NULL: E_INVALID, what is wrong and where. Not on a fiber: it needs more stack. */
struct pattern *pattern_new(const char *text, bool ignore_case, struct err *err);
void pattern_free(struct pattern **p);

enum pattern_answer { PATTERN_NO, PATTERN_YES, PATTERN_TOO_MUCH };

/* Is there a match anywhere in the line? PATTERN_TOO_MUCH: not found out within the bounds. */
enum pattern_answer pattern_find(struct pattern *p, const char *line, size_t n);
/* What to say then: E_LIMIT. */
bool pattern_too_much(const struct pattern *p, struct err *err);

#endif
