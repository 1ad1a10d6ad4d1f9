/* pattern.c - see pattern.h. */
#include "store/base/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

struct pattern {
    char *text;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *bounds;
};

struct pattern *pattern_new(const char *text, bool ignore_case, struct err *err)
{
    pcre2_compile_context *bounds;
    struct pattern *p;
    PCRE2_SIZE at = 0;
    char reason[200];
    int rc = 0;

    if (strlen(text) > PATTERN_LONGEST) {
        err_set(err, E_INVALID, "The regular expression must not be longer than %u characters.", PATTERN_LONGEST);
        return NULL;
    }
    p = xcalloc(1, sizeof(*p));
    p->text = xstrdup(text);
    bounds = pcre2_compile_context_create(NULL);
    pcre2_set_parens_nest_limit(bounds, PATTERN_GROUPS);
    p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOTALL |
                                (ignore_case ? PCRE2_CASELESS : 0),
                            &rc, &at, bounds);
    pcre2_compile_context_free(bounds);
    if (!p->code) {
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)reason, sizeof(reason));
        err_set(err, E_INVALID, "The regular expression \"%s\" cannot be used: %s (at character %zu).",
                str_printable(text), reason, at + 1);
        pattern_free(&p);
        return NULL;
    }
    p->data = pcre2_match_data_create(1, NULL);
    p->bounds = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(p->bounds, PATTERN_STEPS);
    pcre2_set_depth_limit(p->bounds, PATTERN_STEPS);
    pcre2_set_heap_limit(p->bounds, PATTERN_MEMORY);
    return p;
}

void pattern_free(struct pattern **pp)
{
    struct pattern *p = *pp;

    if (!p)
        return;
    pcre2_match_context_free(p->bounds);
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    free(p->text);
    free(p);
    *pp = NULL;
}

enum pattern_answer pattern_find(struct pattern *p, const char *line, size_t n)
{
    int rc = pcre2_match(p->code, (PCRE2_SPTR)line, n, 0, 0, p->data, p->bounds);

    return rc >= 0 ? PATTERN_YES : rc == PCRE2_ERROR_NOMATCH ? PATTERN_NO : PATTERN_TOO_MUCH;
}

bool pattern_too_much(const struct pattern *p, struct err *err)
{
    return err_set(err, E_LIMIT,
                   "The regular expression \"%s\" takes too long for a line of this log. Use a simpler one: fewer "
                   "repetitions inside each other, or plain text around them.",
                   str_printable(p->text));
}
