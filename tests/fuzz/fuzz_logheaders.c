/* fuzz_logheaders.c - headers for the mail log from arbitrary messages: bounded, one line, nothing that disturbs a
 * terminal, and as Python reads a list of pairs. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/logheaders.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *names_of[] = {(char *)"Subject", (char *)"X-Tag", (char *)"x", (char *)"From"};
    const struct strlist names = {.items = names_of, .n = 4};
    struct buf out = BUF_INIT(2000);
    bool quoted = false;

    logheaders_text((struct slice){(const char *)data, size}, &names, &out);
    assert(out.n <= 2000 && !out.full);
    for (size_t i = 0; i < out.n; i++) {
        unsigned char c = (unsigned char)out.p[i];

        assert(c >= ' ' && c != 0x7f);
        if (c == '\\' && quoted)
            i++;
        else if (c == '\'')
            quoted = !quoted;
    }
    assert(!quoted);
    assert(!out.n || (out.p[0] == '[' && out.p[out.n - 1] == ']'));
    buf_free(&out);
    return 0;
}
