/* pack.h - binary records for queue.db: little endian, lengths in front, read with bounds. Not
 * thread safe. */
#ifndef POSTERN_PACK_H
#define POSTERN_PACK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "store/base/buf.h"

/* Numbers take seven bits a byte, the low ones first: most of ours are small. */
static inline void pack_uint(struct buf *b, uint64_t v)
{
    unsigned char t[10];
    size_t n = 0;

    do {
        t[n] = (unsigned char)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
        n++;
    } while (v);
    buf_add(b, t, n);
}

/* NULL and "" are different: the length is kept plus one. */
static inline void pack_text(struct buf *b, const char *s)
{
    size_t n = s ? strlen(s) : 0;

    pack_uint(b, s ? n + 1 : 0);
    buf_add(b, s ? s : "", n);
}

/* A reader remembers that something did not fit; everything after that is 0 or NULL. */
struct unpack {
    const unsigned char *p, *end;
    bool bad;
};

static inline uint64_t unpack_uint(struct unpack *u)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && u->p < u->end; shift += 7) {
        unsigned char c = *u->p++;

        v |= (uint64_t)(c & 127) << shift;
        if (!(c & 128))
            return v;
    }
    u->bad = true;
    u->p = u->end;
    return 0;
}

/* Borrowed, not terminated; p is NULL where pack_text was given NULL. */
static inline struct slice unpack_text(struct unpack *u)
{
    uint64_t n = unpack_uint(u);
    struct slice s = {NULL, 0};

    if (!n || u->bad)
        return s;
    n--;
    if (n > (uint64_t)(u->end - u->p)) {
        u->bad = true;
        u->p = u->end;
        return s;
    }
    s.p = (const char *)u->p;
    s.n = n;
    u->p += n;
    return s;
}

#endif
