/* count.c - what a server asks of the C library, counted: preloaded (LD_PRELOAD or
 * /etc/ld.so.preload), it adds up allocations, syncs, and the bytes its reading and writing calls
 * moved, in a file which all its processes map and the bench reads (COUNT_FILE names it, or else
 * /run/postern-count; tests/bench/bench.py is the other side).
 *
 * Each thread adds to a line of its own, so that counting costs some nanoseconds a call and the
 * server goes on as it would: a tracer slows a server down, and one which syncs in groups then
 * syncs more often. Calls made inside the C library (stdio) are not seen. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define LINES 4096

enum { ALLOCS, ALLOC_BYTES, SYNCS, READ_BYTES, WRITTEN_BYTES, COUNTERS = 8 };

struct line {
    _Atomic uint64_t n[COUNTERS];
};

static struct line *lines; /* [0].n[7] is the number of lines handed out */
static __thread unsigned mine __attribute__((tls_model("initial-exec")));

static void add(int what, uint64_t n)
{
    if (!lines)
        return;
    if (!mine)
        mine = 1 + (unsigned)(atomic_fetch_add_explicit(&lines[0].n[7], 1, memory_order_relaxed) %
                              (LINES - 1));
    atomic_fetch_add_explicit(&lines[mine].n[what], n, memory_order_relaxed);
}

__attribute__((constructor)) static void open_counters(void)
{
    const char *name = getenv("COUNT_FILE");
    int fd = open(name ? name : "/run/postern-count", O_RDWR | O_CLOEXEC);
    void *p;

    if (fd < 0)
        return;
    p = mmap(NULL, LINES * sizeof(struct line), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        lines = p;
}

/* glibc's allocator under its other names: dlsym allocates itself */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

EXPORT void *malloc(size_t n)
{
    add(ALLOCS, 1);
    add(ALLOC_BYTES, n);
    return __libc_malloc(n);
}

EXPORT void *calloc(size_t n, size_t size)
{
    add(ALLOCS, 1);
    add(ALLOC_BYTES, n * size);
    return __libc_calloc(n, size);
}

EXPORT void *realloc(void *p, size_t n)
{
    add(ALLOCS, 1);
    add(ALLOC_BYTES, n);
    return __libc_realloc(p, n);
}

#define REAL(name)                                                                                 \
    static __typeof__(name) *real;                                                                 \
    if (!real)                                                                                     \
    real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static ssize_t moved(int what, ssize_t n)
{
    if (n > 0)
        add(what, (uint64_t)n);
    return n;
}

#define MOVER(what, name, params, args)                                                            \
    EXPORT ssize_t name params                                                                     \
    {                                                                                              \
        REAL(name);                                                                                \
        return moved(what, real args);                                                             \
    }

MOVER(READ_BYTES, read, (int fd, void *p, size_t n), (fd, p, n))
MOVER(READ_BYTES, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
MOVER(READ_BYTES, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at))
MOVER(READ_BYTES, readv, (int fd, const struct iovec *v, int n), (fd, v, n))
MOVER(READ_BYTES, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
MOVER(READ_BYTES, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
MOVER(READ_BYTES, recvfrom,
      (int fd, void *p, size_t n, int flags, __SOCKADDR_ARG a, socklen_t *len),
      (fd, p, n, flags, a, len))
MOVER(WRITTEN_BYTES, write, (int fd, const void *p, size_t n), (fd, p, n))
MOVER(WRITTEN_BYTES, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
MOVER(WRITTEN_BYTES, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
MOVER(WRITTEN_BYTES, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
MOVER(WRITTEN_BYTES, send, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
MOVER(WRITTEN_BYTES, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
MOVER(WRITTEN_BYTES, sendto,
      (int fd, const void *p, size_t n, int flags, __CONST_SOCKADDR_ARG a, socklen_t len),
      (fd, p, n, flags, a, len))

EXPORT int fsync(int fd)
{
    REAL(fsync);
    add(SYNCS, 1);
    return real(fd);
}

EXPORT int fdatasync(int fd)
{
    REAL(fdatasync);
    add(SYNCS, 1);
    return real(fd);
}
