/* fuzz_pattern.c - an expression and a line, with an octet 0 between them. Whatever they are: a
 * mistake has a sentence; what is taken finds what the C library finds. */
#include <assert.h>
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/pattern.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SHORT 40 /* the C library may need very long for more */

static void compare(struct pattern *p, const char *text, const char *line, bool ignore_case)
{
    bool found = pattern_finds(p, line, strlen(line));
    regex_t re;

    assert(pattern_finds(p, line, strlen(line)) == found);
    if (strlen(text) > SHORT || strlen(line) > SHORT)
        return;
    assert(regcomp(&re, text, REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0)) == 0);
    assert((regexec(&re, line, 0, NULL, 0) == 0) == found);
    regfree(&re);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size);
    size_t n = strlen(text);
    char *line = n < size ? xstrndup((const char *)data + n + 1, size - n - 1) : xstrdup("");

    for (int ignore_case = 0; ignore_case < 2; ignore_case++) {
        struct err err = {0};
        struct pattern *p = pattern_new(text, ignore_case, &err);

        if (p)
            compare(p, text, line, ignore_case);
        else
            assert(err.text[0] && str_is_utf8(err.text, strlen(err.text)));
        pattern_free(&p);
    }
    free(text);
    free(line);
    return 0;
}
