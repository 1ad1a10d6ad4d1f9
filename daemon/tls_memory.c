/* tls_memory.c - where OpenSSL's record buffers come from.
 *
 * A TLS session needs 16 KiB and a bit to read a record, to write one and for handshake messages,
 * each for a moment only; what stays is 14 KiB in small pieces. On the heap the moments leave holes
 * between the pieces, and an idle session ends up at 50 KiB. So buffers of that size are slabs of a
 * region of their own: a few stay warm per thread, a few more for all, the memory of the others
 * goes back to the system. Any thread. */
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/tls.h"

#define SLAB ((size_t)24 * 1024)
#define SLAB_MIN ((size_t)12 * 1024) /* smaller ones are the heap's */
#define SLABS 65536U /* 1.5 GiB of addresses, not of memory */
#define WARM_HERE 8 /* kept per thread */
#define WARM 64 /* and for all */

#if defined(POSTERN_SANITIZED)
#define WATCHED 1 /* the sanitizers are to see OpenSSL's heap */
#else
#define WATCHED 0
#endif

static char *region, *region_end;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of these */
static uint32_t *cold, n_cold; /* free, without memory behind them */
static uint32_t warm[WARM], n_warm;
static uint32_t used; /* slabs from here on were never handed out */

static _Thread_local uint32_t here[WARM_HERE], n_here;

static bool is_slab(const void *p)
{
    return (const char *)p >= region && (const char *)p < region_end;
}

static void *slab_get(void)
{
    uint32_t i = SLABS;

    if (n_here) {
        i = here[--n_here];
    } else {
        pthread_mutex_lock(&lock);
        if (n_warm)
            i = warm[--n_warm];
        else if (n_cold)
            i = cold[--n_cold];
        else if (used < SLABS)
            i = used++;
        pthread_mutex_unlock(&lock);
    }
    return i < SLABS ? region + i * SLAB : NULL;
}

static void slab_put(void *p)
{
    uint32_t i = (uint32_t)((size_t)((char *)p - region) / SLAB);
    bool kept = false;

    if (n_here < WARM_HERE) {
        here[n_here++] = i;
        return;
    }
    pthread_mutex_lock(&lock);
    if (n_warm < WARM) {
        warm[n_warm++] = i;
        kept = true;
    }
    pthread_mutex_unlock(&lock);
    if (kept)
        return;
    madvise(p, SLAB, MADV_DONTNEED);
    pthread_mutex_lock(&lock);
    cold[n_cold++] = i;
    pthread_mutex_unlock(&lock);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
    void *p = NULL;

    (void)file;
    (void)line;
    if (n >= SLAB_MIN && n <= SLAB)
        p = slab_get();
    return p ? p : malloc(n);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    if (is_slab(p))
        slab_put(p);
    else
        free(p);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
    void *bigger;

    if (!p)
        return crypto_malloc(n, file, line);
    if (!is_slab(p))
        return realloc(p, n);
    if (n <= SLAB)
        return p;
    bigger = malloc(n);
    if (bigger) {
        memcpy(bigger, p, SLAB);
        slab_put(p);
    }
    return bigger;
}

void tls_memory_start(void)
{
    char *p;

    if (WATCHED)
        return;
    p = mmap(NULL, SLABS * SLAB, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return; /* OpenSSL keeps to the heap, which works as well */
    cold = malloc(SLABS * sizeof(*cold)); /* 256 KiB, touched as far as it is used */
    if (!cold || CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1) {
        munmap(p, SLABS * SLAB);
        return;
    }
    madvise(p, SLABS * SLAB, MADV_NOHUGEPAGE);
    region = p;
    region_end = p + SLABS * SLAB;
}
