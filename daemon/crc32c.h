/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the processor's instruction where it
 * has one. Any thread. */
#ifndef POSTERN_CRC32C_H
#define POSTERN_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p,
                size_t n); /* start with 0; feed the result back to go on */

#endif
