/* err.c - see err.h. Formats into a scratch buffer first, because callers pass parts of the same err. */
#include "store/base/err.h"

#undef err_set
#undef err_wrap
#undef err_errno

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} codes[] = {
    [E_NONE] = {"E_NONE", 0},          [E_USAGE] = {"E_USAGE", 2},
    [E_INVALID] = {"E_INVALID", 3},    [E_DENIED] = {"E_DENIED", 4},
    [E_CONFLICT] = {"E_CONFLICT", 5},  [E_BUSY] = {"E_BUSY", 6},
    [E_NOT_FOUND] = {"E_NOT_FOUND", 7}, [E_EXISTS] = {"E_EXISTS", 8},
    [E_IO] = {"E_IO", 1},              [E_TIMEOUT] = {"E_TIMEOUT", 11},
    [E_CLOSED] = {"E_CLOSED", 9},      [E_NET] = {"E_NET", 1},
    [E_PROTOCOL] = {"E_PROTOCOL", 9},  [E_DNS] = {"E_DNS", 1},
    [E_NO_MAIL] = {"E_NO_MAIL", 1},    [E_TLS] = {"E_TLS", 1},
    [E_LIMIT] = {"E_LIMIT", 3},
};

#define NCODES (sizeof(codes) / sizeof(codes[0]))

/* A text that was cut in the middle of a UTF-8 character loses the rest of that character. */
static void put_text(struct err *err, const char *text, size_t n)
{
    if (n >= sizeof(err->text)) {
        n = sizeof(err->text) - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
            n--;
    }
    memcpy(err->text, text, n);
    err->text[n] = '\0';
}

bool err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (!err)
        return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err->code = code;
    put_text(err, text, strlen(text));
    return false;
}

bool err_wrap(struct err *err, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    size_t n;

    if (!err)
        return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text) - sizeof(err->text) - 2, fmt, ap);
    va_end(ap);
    n = strlen(text);
    snprintf(text + n, sizeof(text) - n, ": %s", err->text);
    put_text(err, text, strlen(text));
    return false;
}

bool err_errno(struct err *err, int e, const char *fmt, ...)
{
    char text[1024], reason[128];
    va_list ap;
    size_t n;

    if (!err)
        return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text) - sizeof(reason) - 2, fmt, ap);
    va_end(ap);
    n = strlen(text);
    snprintf(text + n, sizeof(text) - n, ": %s", strerror_r(e, reason, sizeof(reason)));
    err->code = E_IO;
    put_text(err, text, strlen(text));
    return false;
}

const char *err_code_name(enum err_code code)
{
    return (size_t)code < NCODES ? codes[code].name : "E_UNKNOWN";
}

int err_exit_code(enum err_code code)
{
    return (size_t)code < NCODES ? codes[code].exit_code : 1;
}
