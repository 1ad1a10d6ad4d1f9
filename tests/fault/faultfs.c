/* faultfs.c - a disk that fails, lies and loses power, for tests: preloaded into posternd
 * (LD_PRELOAD), it stands between the program, SQLite included, and the C library's calls on files
 * below one directory.
 *
 * Everything it is told and everything it tells is in one file that both sides map (FAULTFS names
 * it; tests/lab/faults.py is the other side). It can make the n-th call of some kinds fail, come
 * short, hang (a write or an open, until the fault is over), do nothing and say it did, or end the process; and it keeps a journal of what was there
 * before each change, until the change was synced: a power cut is then a matter of undoing what
 * was not. A directory entry is durable when its directory was synced, never by a sync of the file.
 * After a failed sync the file's changes count as lost for good, as Linux does it: pages that could
 * not be written are clean, and the next sync has nothing to do.
 *
 * Descriptors are followed from open to close; copies of them are not. Mapped files are not seen:
 * the databases use none (exclusive locking needs no shared index). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_FDS 65536
#define JOURNAL_BYTES (1ull << 30)

enum op { OP_WRITE, OP_SYNC, OP_OPEN, OP_CREATE, OP_RENAME, OP_UNLINK, OP_TRUNCATE, OP_ALLOCATE, OP_MKDIR, OP_READ };
enum mode { MODE_OFF, MODE_COUNT, MODE_FAULT };
enum action { ACT_FAIL, ACT_SHORT, ACT_LIE, ACT_DIE, ACT_HANG };
enum kind { REC_WRITE = 1, REC_SIZE, REC_CREATE, REC_UNLINK, REC_RENAME, REC_MKDIR };
enum { NOT_SYNCED, SYNCED, LOST };

struct shared { /* tests/lab/faults.py knows the offsets */
    uint64_t magic;
    _Atomic uint64_t mode, ops, error, at, times, action;
    _Atomic uint64_t seen, hits; /* matching calls; those that were spoilt */
    _Atomic uint64_t journal, tail, overflow;
    _Atomic uint64_t free_bytes; /* what statvfs says; 0: the truth */
    _Atomic int64_t clock_us; /* added to the wall clock */
    _Atomic uint64_t frozen; /* the power is off: new processes end at once */
    _Atomic uint64_t died_us; /* when ACT_DIE came, by the monotonic clock */
    char prefix[256]; /* absolute, without a slash at the end */
    char only[128]; /* parts of paths, with commas between; empty: all but log/ and run/ */
    char last[256]; /* what was spoilt last */
    _Atomic uint64_t logged_us; /* when the last sync but one of queue.db's log that has ended began, by the monotonic clock */
};
_Static_assert(sizeof(struct shared) == 776, "faults.py");

struct record {
    uint32_t size, kind;
    uint64_t ino, offset, length, old_size;
    _Atomic uint32_t state;
    uint32_t stash, n1, n2; /* then the two paths with their zeros, then length bytes */
};

static struct shared *sh;
static char *paths[MAX_FDS]; /* of the descriptors below the prefix */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t stashes;

static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);

    if (!p)
        abort();
    return p;
}

#define REAL(name)                                                                                 \
    static __typeof__(&name) next;                                                                 \
    if (!next)                                                                                     \
    next = (__typeof__(&name))real(#name)

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("FAULTFS");
    int fd = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    sh = mmap(NULL, 4096 + JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    syscall(SYS_close, fd);
    if (sh == MAP_FAILED)
        abort();
    if (sh->frozen)
        _exit(99);
    stashes = (uint32_t)getpid() * 1000u; /* names that no engine before this one took */
}

/* --- which files ------------------------------------------------------------------------------- */

static bool below(const char *path)
{
    size_t n = sh ? strlen(sh->prefix) : 0;

    return n && !strncmp(path, sh->prefix, n) && (!path[n] || path[n] == '/');
}

/* Logs and sockets are no promise to anybody. */
static bool durable(const char *path)
{
    const char *rest = path + strlen(sh->prefix);

    return strncmp(rest, "/log", 4) && strncmp(rest, "/run", 4);
}

static bool meant(const char *path)
{
    char only[128], *part, *rest = NULL;

    memcpy(only, sh->only, sizeof(only));
    only[sizeof(only) - 1] = '\0';
    if (!only[0])
        return durable(path);
    for (part = strtok_r(only, ",", &rest); part; part = strtok_r(NULL, ",", &rest))
        if (strstr(path, part))
            return true;
    return false;
}

static bool absolute(int dir, const char *path, char out[4096])
{
    if (!sh || !path)
        return false;
    if (path[0] == '/')
        snprintf(out, 4096, "%s", path);
    else if (dir >= 0 && dir < MAX_FDS && paths[dir] && !strcmp(path, "."))
        snprintf(out, 4096, "%s", paths[dir]);
    else if (dir >= 0 && dir < MAX_FDS && paths[dir])
        snprintf(out, 4096, "%s/%s", paths[dir], path);
    else
        return false;
    return below(out);
}

static const char *path_of(int fd)
{
    return sh && fd >= 0 && fd < MAX_FDS ? paths[fd] : NULL;
}

static void remember(int fd, const char *path)
{
    if (fd < 0 || fd >= MAX_FDS)
        return;
    free(paths[fd]);
    paths[fd] = strdup(path);
}

static uint64_t monotonic_us(void)
{
    struct timespec now;

    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- faults ------------------------------------------------------------------------------------ */

/* Under the lock. What is to become of this call: -1: it goes its way. */
static int verdict(enum op op, const char *path)
{
    uint64_t n;

    if (sh->mode == MODE_OFF || !(sh->ops >> op & 1) || !meant(path))
        return -1;
    n = ++sh->seen;
    if (sh->mode != MODE_FAULT || n < sh->at || n - sh->at >= sh->times)
        return -1;
    sh->hits++;
    snprintf(sh->last, sizeof(sh->last), "%d %.200s", (int)op, path + strlen(sh->prefix));
    if (sh->action == ACT_DIE) {
        sh->died_us = monotonic_us();
        sh->frozen = 1;
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = (int)sh->error;
    return (int)sh->action;
}

/* Under the lock, which others have meanwhile: waits until the fault is over. */
static void hang(int what)
{
    while (what == ACT_HANG && sh->mode == MODE_FAULT) {
        pthread_mutex_unlock(&lock);
        usleep(5000);
        pthread_mutex_lock(&lock);
    }
}

/* --- the journal ------------------------------------------------------------------------------- */

static struct record *record(enum kind kind, const char *a, const char *b, uint64_t length)
{
    size_t n1 = a ? strlen(a) + 1 : 0, n2 = b ? strlen(b) + 1 : 0;
    uint64_t size = (sizeof(struct record) + n1 + n2 + length + 7) & ~7ull;
    struct record *r;

    if (!sh->journal)
        return NULL;
    if (sh->tail + size > JOURNAL_BYTES) {
        sh->overflow = 1;
        return NULL;
    }
    r = (struct record *)(void *)((char *)sh + 4096 + sh->tail);
    memset(r, 0, sizeof(*r));
    r->size = (uint32_t)size;
    r->kind = kind;
    r->length = length;
    r->n1 = (uint32_t)n1;
    r->n2 = (uint32_t)n2;
    memcpy(r + 1, a ? a : "", n1);
    memcpy((char *)(r + 1) + n1, b ? b : "", n2);
    return r;
}

static char *record_data(struct record *r)
{
    return (char *)(r + 1) + r->n1 + r->n2;
}

static void record_done(struct record *r)
{
    if (r)
        sh->tail += r->size;
}

static void before_bytes(int fd, enum kind kind, off_t offset, size_t n)
{
    struct record *r;
    struct stat st;
    size_t old = 0;

    if (!sh->journal || !durable(paths[fd]) || fstat(fd, &st))
        return;
    if (offset < st.st_size)
        old = (size_t)(st.st_size - offset) < n ? (size_t)(st.st_size - offset) : n;
    r = record(kind, paths[fd], NULL, n);
    if (!r)
        return;
    r->ino = st.st_ino;
    r->offset = (uint64_t)offset;
    r->old_size = (uint64_t)st.st_size;
    memset(record_data(r), 0, n);
    for (size_t got = 0; got < old;) {
        long k = syscall(SYS_pread64, fd, record_data(r) + got, old - got, offset + (off_t)got);

        if (k <= 0)
            break;
        got += (size_t)k;
    }
    record_done(r);
}

static void before_size(int fd, off_t size) /* ftruncate, or an allocation that makes the file longer */
{
    struct stat st;

    if (!fstat(fd, &st))
        before_bytes(fd, REC_SIZE, size < st.st_size ? size : st.st_size,
                     size < st.st_size ? (size_t)(st.st_size - size) : 0);
}

/* Keeps the file a name is about to stop leading to. 0: there is none. */
static uint32_t stash(const char *path)
{
    char to[400];

    snprintf(to, sizeof(to), "%.300s.stash/%u", sh->prefix, ++stashes);
    return syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, to, 0) ? 0 : stashes;
}

static void before_entry(enum kind kind, const char *a, const char *b)
{
    const char *victim = kind == REC_RENAME ? b : kind == REC_UNLINK ? a : NULL;
    uint32_t kept;
    struct record *r;

    if (!sh->journal || !durable(a))
        return;
    kept = victim ? stash(victim) : 0;
    r = record(kind, a, b, 0);
    if (!r)
        return;
    r->stash = kept;
    record_done(r);
}

static bool in_directory(const char *path, const char *dir)
{
    const char *slash = strrchr(path, '/');

    return (size_t)(slash - path) == strlen(dir) && !strncmp(path, dir, strlen(dir));
}

static void after_sync(int fd, uint32_t state)
{
    uint64_t at = 0;
    struct stat st;

    if (!sh->journal || fstat(fd, &st))
        return;
    while (at < sh->tail) {
        struct record *r = (struct record *)(void *)((char *)sh + 4096 + at);

        at += r->size;
        if (r->state != NOT_SYNCED)
            continue;
        if (r->kind <= REC_SIZE ? r->ino == st.st_ino
                                : S_ISDIR(st.st_mode) && in_directory((char *)(r + 1), paths[fd]))
            r->state = state;
    }
}

/* --- calls ------------------------------------------------------------------------------------- */

static long spoilt(int what, long lie)
{
    return what == ACT_LIE ? lie : -1;
}

/* Sanitizers must see what is opened, written, read and closed. */
static int next_open(int dir, const char *name, int flags, mode_t mode)
{
    REAL(openat);
    return next(dir, name, flags, mode);
}

static int open_below(int dir, const char *name, int flags, mode_t mode, const char *path)
{
    bool creates = flags & O_CREAT;
    struct stat st;
    int what, fd;

    pthread_mutex_lock(&lock);
    creates = creates && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
    what = verdict(creates ? OP_CREATE : OP_OPEN, path);
    hang(what);
    if (what >= 0 && what != ACT_HANG) {
        pthread_mutex_unlock(&lock);
        return -1;
    }
    if (creates)
        before_entry(REC_CREATE, path, NULL);
    fd = next_open(dir, name, flags, mode);
    if (fd >= 0)
        remember(fd, path);
    pthread_mutex_unlock(&lock);
    return fd;
}

static int do_open(int dir, const char *name, int flags, mode_t mode)
{
    char path[4096];

    if (absolute(dir, name, path))
        return open_below(dir, name, flags, mode, path);
    return next_open(dir, name, flags, mode);
}

#define OPEN(fn, dirparam, dir)                                                                    \
    EXPORT int fn(dirparam const char *name, int flags, ...)                                       \
    {                                                                                              \
        mode_t mode = 0;                                                                           \
        va_list ap;                                                                                \
                                                                                                   \
        va_start(ap, flags);                                                                       \
        if (flags & (O_CREAT | __O_TMPFILE))                                                       \
            mode = va_arg(ap, mode_t);                                                             \
        va_end(ap);                                                                                \
        return do_open(dir, name, flags, mode);                                                    \
    }
#define AT_PARAM int at,
OPEN(open, , AT_FDCWD)
OPEN(open64, , AT_FDCWD)
OPEN(openat, AT_PARAM, at)
OPEN(openat64, AT_PARAM, at)
EXPORT int __open_2(const char *name, int flags);
EXPORT int __open64_2(const char *name, int flags);
EXPORT int __openat_2(int dir, const char *name, int flags);
EXPORT int __openat64_2(int dir, const char *name, int flags);
EXPORT int __open_2(const char *name, int flags)
{
    return do_open(AT_FDCWD, name, flags, 0);
}
EXPORT int __open64_2(const char *name, int flags)
{
    return do_open(AT_FDCWD, name, flags, 0);
}
EXPORT int __openat_2(int dir, const char *name, int flags)
{
    return do_open(dir, name, flags, 0);
}
EXPORT int __openat64_2(int dir, const char *name, int flags)
{
    return do_open(dir, name, flags, 0);
}

EXPORT int close(int fd)
{
    if (path_of(fd)) {
        pthread_mutex_lock(&lock);
        free(paths[fd]);
        paths[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    REAL(close);
    return next(fd);
}

static ssize_t next_write(int fd, const void *p, size_t n, off_t at, bool positioned)
{
    static __typeof__(&write) plain;
    static __typeof__(&pwrite64) there;

    if (!plain) {
        there = (__typeof__(&pwrite64))real("pwrite64");
        plain = (__typeof__(&write))real("write");
    }
    return positioned ? there(fd, p, n, at) : plain(fd, p, n);
}

static ssize_t do_write(int fd, const void *p, size_t n, off_t at, bool positioned)
{
    ssize_t put;
    int what;

    if (!path_of(fd))
        return next_write(fd, p, n, at, positioned);
    pthread_mutex_lock(&lock);
    what = verdict(OP_WRITE, paths[fd]);
    hang(what);
    if (what == ACT_SHORT && n > 1)
        n /= 2;
    if (what == ACT_FAIL || what == ACT_LIE) {
        put = spoilt(what, (ssize_t)n);
    } else {
        if (sh->journal)
            before_bytes(fd, REC_WRITE,
                         positioned                       ? at
                         : fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END)
                                                          : lseek(fd, 0, SEEK_CUR),
                         n);
        put = next_write(fd, p, n, at, positioned);
    }
    pthread_mutex_unlock(&lock);
    return put;
}

EXPORT ssize_t write(int fd, const void *p, size_t n)
{
    return do_write(fd, p, n, 0, false);
}
EXPORT ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return do_write(fd, p, n, at, true);
}
EXPORT ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    return do_write(fd, p, n, at, true);
}

/* A vector to one of our files is written piece by piece. */
static ssize_t do_writev(int fd, const struct iovec *v, int n, off_t at, bool positioned)
{
    ssize_t sum = 0;

    for (int i = 0; i < n; i++) {
        ssize_t put = do_write(fd, v[i].iov_base, v[i].iov_len, at + sum, positioned);

        if (put < 0)
            return sum ? sum : -1;
        sum += put;
        if ((size_t)put < v[i].iov_len)
            break;
    }
    return sum;
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int n)
{
    REAL(writev);
    return path_of(fd) ? do_writev(fd, v, n, 0, false) : next(fd, v, n);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    return do_writev(fd, v, n, at, true);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
    return do_writev(fd, v, n, at, true);
}

static ssize_t next_read(int fd, void *p, size_t n, off_t at, bool positioned)
{
    static __typeof__(&read) plain;
    static __typeof__(&pread64) there;

    if (!plain) {
        there = (__typeof__(&pread64))real("pread64");
        plain = (__typeof__(&read))real("read");
    }
    return positioned ? there(fd, p, n, at) : plain(fd, p, n);
}

static ssize_t do_read(int fd, void *p, size_t n, off_t at, bool positioned)
{
    if (path_of(fd)) {
        int what;

        pthread_mutex_lock(&lock);
        what = verdict(OP_READ, paths[fd]);
        pthread_mutex_unlock(&lock);
        if (what >= 0)
            return spoilt(what, 0);
    }
    return next_read(fd, p, n, at, positioned);
}

EXPORT ssize_t read(int fd, void *p, size_t n)
{
    return do_read(fd, p, n, 0, false);
}
EXPORT ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return do_read(fd, p, n, at, true);
}
EXPORT ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
    return do_read(fd, p, n, at, true);
}
EXPORT ssize_t __read_chk(int fd, void *p, size_t n, size_t size);
EXPORT ssize_t __read_chk(int fd, void *p, size_t n, size_t size)
{
    return n > size ? (abort(), -1) : do_read(fd, p, n, 0, false);
}
EXPORT ssize_t __pread_chk(int fd, void *p, size_t n, off_t at, size_t size);
EXPORT ssize_t __pread_chk(int fd, void *p, size_t n, off_t at, size_t size)
{
    return n > size ? (abort(), -1) : do_read(fd, p, n, at, true);
}
EXPORT ssize_t __pread64_chk(int fd, void *p, size_t n, off64_t at, size_t size);
EXPORT ssize_t __pread64_chk(int fd, void *p, size_t n, off64_t at, size_t size)
{
    return n > size ? (abort(), -1) : do_read(fd, p, n, at, true);
}

static int do_sync(int fd, long call)
{
    uint64_t began = monotonic_us();
    int what, rc = 0;

    if (!path_of(fd))
        return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    what = verdict(OP_SYNC, paths[fd]);
    if (what == ACT_FAIL || what == ACT_SHORT) {
        after_sync(fd, LOST);
        rc = -1;
        errno = (int)sh->error;
    } else if (what < 0) {
        if (sh->journal)
            after_sync(fd, SYNCED); /* the journal is the disk */
        else
            rc = (int)syscall(call, fd);
        if (!rc && strstr(paths[fd], "/queue.db-wal")) {
            static uint64_t last_began;

            sh->logged_us = last_began;
            last_began = began;
        }
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

EXPORT int fsync(int fd)
{
    return do_sync(fd, SYS_fsync);
}
EXPORT int fdatasync(int fd)
{
    return do_sync(fd, SYS_fdatasync);
}

static int do_size(int fd, enum op op, int mode, off_t offset, off_t size)
{
    int what, rc;

    pthread_mutex_lock(&lock);
    what = path_of(fd) ? verdict(op, paths[fd]) : -1;
    if (what >= 0) {
        rc = (int)spoilt(what, 0);
    } else {
        if (path_of(fd) && sh->journal)
            before_size(fd, offset + size);
        rc = op == OP_TRUNCATE ? (int)syscall(SYS_ftruncate, fd, size)
                               : (int)syscall(SYS_fallocate, fd, mode, offset, size);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

EXPORT int ftruncate(int fd, off_t size)
{
    return do_size(fd, OP_TRUNCATE, 0, 0, size);
}
EXPORT int ftruncate64(int fd, off64_t size)
{
    return do_size(fd, OP_TRUNCATE, 0, 0, size);
}
EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return do_size(fd, OP_ALLOCATE, mode, offset, size);
}
EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return do_size(fd, OP_ALLOCATE, mode, offset, size);
}
EXPORT int posix_fallocate(int fd, off_t offset, off_t size)
{
    return do_size(fd, OP_ALLOCATE, 0, offset, size) ? errno : 0;
}
EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    return do_size(fd, OP_ALLOCATE, 0, offset, size) ? errno : 0;
}

static int do_rename(int da, const char *a, int db, const char *b, unsigned flags)
{
    char from[4096], to[4096];
    int what, rc;

    if (!absolute(da, a, from) || !absolute(db, b, to))
        return (int)syscall(SYS_renameat2, da, a, db, b, flags);
    pthread_mutex_lock(&lock);
    what = verdict(OP_RENAME, from);
    if (what >= 0) {
        rc = (int)spoilt(what, 0);
    } else {
        before_entry(REC_RENAME, from, to);
        rc = (int)syscall(SYS_renameat2, da, a, db, b, flags);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

EXPORT int rename(const char *a, const char *b)
{
    return do_rename(AT_FDCWD, a, AT_FDCWD, b, 0);
}
EXPORT int renameat(int da, const char *a, int db, const char *b)
{
    return do_rename(da, a, db, b, 0);
}
EXPORT int renameat2(int da, const char *a, int db, const char *b, unsigned flags)
{
    return do_rename(da, a, db, b, flags);
}

static int do_unlink(int dir, const char *name, int flags)
{
    char path[4096];
    int what, rc;

    if (!absolute(dir, name, path) || flags)
        return (int)syscall(SYS_unlinkat, dir, name, flags);
    pthread_mutex_lock(&lock);
    what = verdict(OP_UNLINK, path);
    if (what >= 0) {
        rc = (int)spoilt(what, 0);
    } else {
        if (!syscall(SYS_faccessat, AT_FDCWD, path, F_OK))
            before_entry(REC_UNLINK, path, NULL);
        rc = (int)syscall(SYS_unlinkat, dir, name, flags);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

EXPORT int unlink(const char *name)
{
    return do_unlink(AT_FDCWD, name, 0);
}
EXPORT int unlinkat(int dir, const char *name, int flags)
{
    return do_unlink(dir, name, flags);
}

EXPORT int mkdir(const char *name, mode_t mode)
{
    char path[4096];
    int what, rc;

    if (!absolute(AT_FDCWD, name, path))
        return (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    pthread_mutex_lock(&lock);
    what = verdict(OP_MKDIR, path);
    if (what >= 0) {
        rc = (int)spoilt(what, 0);
    } else {
        if (syscall(SYS_faccessat, AT_FDCWD, path, F_OK))
            before_entry(REC_MKDIR, path, NULL);
        rc = (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* --- space and time ---------------------------------------------------------------------------- */

EXPORT int statvfs(const char *path, struct statvfs *out)
{
    REAL(statvfs);
    int rc = next(path, out);

    if (!rc && sh && sh->free_bytes && below(path))
        out->f_bavail = out->f_bfree = sh->free_bytes / out->f_frsize;
    return rc;
}
EXPORT int fstatvfs(int fd, struct statvfs *out)
{
    REAL(fstatvfs);
    int rc = next(fd, out);

    if (!rc && path_of(fd) && sh->free_bytes)
        out->f_bavail = out->f_bfree = sh->free_bytes / out->f_frsize;
    return rc;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ts)
{
    REAL(clock_gettime);
    int rc = next(clock, ts);
    int64_t ns;

    if (!rc && sh && sh->clock_us && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ns = ts->tv_nsec + sh->clock_us % 1000000 * 1000;
        ts->tv_sec += sh->clock_us / 1000000 + (ns < 0 ? -1 : ns / 1000000000);
        ts->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return rc;
}
EXPORT time_t time(time_t *out)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
EXPORT int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec ts;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
