/* base64.c - see base64.h. */
#include "daemon/base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Without a table in memory: what is decoded may be a password, and tables are read through the
 * cache. */
static int value_of(unsigned char c)
{
    int v = -1;

    v += (1 + c - 'A') & -(c >= 'A' && c <= 'Z');
    v += (1 + c - 'a' + 26) & -(c >= 'a' && c <= 'z');
    v += (1 + c - '0' + 52) & -(c >= '0' && c <= '9');
    v += (1 + 62) & -(c == '+');
    v += (1 + 63) & -(c == '/');
    return v;
}

bool base64_decode(struct slice in, bool padded, unsigned char *out, size_t size, size_t *n)
{
    size_t len = in.n, at = 0;
    uint32_t bits = 0;
    unsigned have = 0;

    *n = 0;
    while (len && in.n - len < 2 && in.p[len - 1] == '=')
        len--;
    if (len % 4 == 1 || (in.n != len && in.n % 4) || (padded && in.n % 4))
        return false;
    for (size_t i = 0; i < len; i++) {
        int v = value_of((unsigned char)in.p[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (at == size)
            return false;
        out[at++] = (unsigned char)(bits >> have);
    }
    if (bits & ((1U << have) - 1))
        return false;
    *n = at;
    return true;
}

void base64_encode(struct buf *out, const void *p, size_t n)
{
    const unsigned char *in = p;

    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16;
        char four[4];

        if (i + 1 < n)
            bits |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < n)
            bits |= in[i + 2];
        four[0] = alphabet[bits >> 18];
        four[1] = alphabet[bits >> 12 & 63];
        four[2] = i + 1 < n ? alphabet[bits >> 6 & 63] : '=';
        four[3] = i + 2 < n ? alphabet[bits & 63] : '=';
        buf_add(out, four, 4);
    }
}
