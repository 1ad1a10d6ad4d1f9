/* base64.h - base64 (RFC 4648 section 4) of what comes from the network: strict, bounded. Pure; any
 * thread. */
#ifndef POSTERN_BASE64_H
#define POSTERN_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"

/* false: not base64, or more than size bytes. White space is refused, and so is what no encoder
 * writes: bits left over that are not zero, padding that is missing (padded) or wrong. */
bool base64_decode(struct slice in, bool padded, unsigned char *out, size_t size, size_t *n);
void base64_encode(struct buf *out, const void *p, size_t n);

#endif
