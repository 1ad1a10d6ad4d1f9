/* spool.c - see spool.h. Files in the spool directory:
 *
 *   seg-XXXXXXXX   a segment of 64 MiB, allocated in full when it is made; numbers only grow. The
 *                  first 8 MiB are the ledger's (ledger.c)
 *   spare-X        a segment without a number, emptied and kept: writing over old blocks syncs
 *                  faster than growing a file
 *   file-X         what follows the first 64 pieces of a large body: pieces of 64 KiB, each
 *                  followed by its CRC
 *
 * One mutex guards the table of segments. A piece is written outside of it, into a range reserved
 * under it, and only then is the segment marked dirty: a sync that began before the mark leaves it
 * for the next. After a restart the active segment is a new one, so an unfinished tail is never
 * appended to.
 *
 * A sync that fails may have failed for bytes of any body that was begun before it, and the next
 * one need not say so again: the kernel takes pages it could not write for clean. So all those
 * bodies are unsound (body_sound), and what comes next goes to another segment. */
#include "daemon/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/crc32c.h"
#include "daemon/pack.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define SEGMENT_SIZE (64u << 20)
#define MAX_PIECES 64u
#define MAX_SPARES 2u
#define RESERVE (48u << 20) /* of the disk that segments never take: queue.db must be able to forget */
#define SPARSE_BYTES                                                                               \
    (SEGMENT_SIZE / 16) /* a full segment with less than this alive is worth clearing */
#define ENCODING 1

struct segment {
    uint32_t number;
    int fd; /* -1: not open */
    uint32_t used; /* next free byte; only of the active segment does it grow */
    uint32_t ledger_used;
    uint64_t ledger_last; /* its last record */
    uint64_t live; /* bytes of bodies that are not removed */
    unsigned readers; /* struct bodies in memory */
    atomic_bool dirty;
};

struct piece {
    struct segment *segment;
    uint32_t offset, length, crc;
};

struct body {
    atomic_int refs;
    unsigned failures; /* sp.failures when it was begun */
    atomic_bool checked; /* every piece was read, or has just been written */
    uint64_t length;
    char *cache; /* the whole body, NULL: on disk only */
    uint64_t file; /* number, 0: none */
    uint64_t file_length; /* without the checksums */
    atomic_int file_fd; /* opened by the first read, -1 before */
    uint32_t npieces;
    struct piece pieces[];
};

struct body_writer {
    unsigned failures;
    char *buf; /* the piece being filled */
    uint32_t n, cap;
    uint64_t length;
    uint64_t file, file_length;
    int file_fd;
    uint32_t npieces;
    struct piece pieces[MAX_PIECES];
};

static struct {
    pthread_mutex_t lock;
    pthread_mutex_t sync; /* before lock: one spool_sync at a time, so that the second does not end before the first */
    uint64_t passed; /* by queue.db: records of the ledger up to here */
    int dir;
    struct segment **segments; /* by number, ascending */
    size_t n, cap;
    struct segment *active;
    uint32_t last_number;
    unsigned spares, spare_names;
    uint64_t last_file, files;
    bool dir_dirty, keep_lost;
    atomic_uint failures; /* of syncs */
    int *unsynced; /* descriptors of finished files */
    size_t nunsynced, unsynced_cap;
} sp = {.lock = PTHREAD_MUTEX_INITIALIZER, .sync = PTHREAD_MUTEX_INITIALIZER, .dir = -1};

/* --- segments --- */

static void segment_name(uint32_t number, char *out, size_t size)
{
    snprintf(out, size, "seg-%08" PRIx32, number);
}

static void file_name(uint64_t number, char *out, size_t size)
{
    snprintf(out, size, "file-%" PRIx64, number);
}

static struct segment *segment_find(uint32_t number)
{
    size_t lo = 0, hi = sp.n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (sp.segments[mid]->number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sp.n && sp.segments[lo]->number == number ? sp.segments[lo] : NULL;
}

static struct segment *segment_add(uint32_t number, int fd)
{
    struct segment *s = xcalloc(1, sizeof(*s));
    size_t at = sp.n;

    s->number = number;
    s->fd = fd;
    if (sp.n == sp.cap) {
        sp.cap = sp.cap ? sp.cap * 2 : 16;
        sp.segments = xrealloc(sp.segments, sp.cap * sizeof(struct segment *));
    }
    for (; at && sp.segments[at - 1]->number > number; at--)
        sp.segments[at] = sp.segments[at - 1];
    sp.segments[at] = s;
    sp.n++;
    if (number > sp.last_number)
        sp.last_number = number;
    return s;
}

static void segment_forget(struct segment *s)
{
    size_t at = 0;

    while (sp.segments[at] != s)
        at++;
    memmove(sp.segments + at, sp.segments + at + 1, (sp.n - at - 1) * sizeof(struct segment *));
    sp.n--;
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

/* Under the lock. A segment nobody needs becomes a spare, or goes. */
static void segment_retire(struct segment *s)
{
    char name[32], spare[32];
    struct stat st;
    bool kept;

    if (s == sp.active || s->live || s->readers || s->ledger_last > sp.passed)
        return;
    segment_name(s->number, name, sizeof(name));
    snprintf(spare, sizeof(spare), "spare-%u", sp.spare_names + 1);
    kept = fstatat(sp.dir, name, &st, 0) == 0 && st.st_nlink > 1; /* under another name: see keep_as_lost */
    if (kept || sp.spares >= MAX_SPARES || renameat(sp.dir, name, sp.dir, spare)) {
        unlinkat(sp.dir, name, 0);
    } else {
        sp.spares++;
        sp.spare_names++;
    }
    segment_forget(s);
}

/* Under the lock. Makes a spare the next segment, or creates one. */
static struct segment *segment_make(struct err *err)
{
    char name[32], spare[32];
    uint32_t number = sp.last_number + 1;
    struct statvfs v;
    int fd = -1;

    segment_name(number, name, sizeof(name));
    while (sp.spares) {
        sp.spares--;
        snprintf(spare, sizeof(spare), "spare-%u", sp.spare_names--);
        if (renameat(sp.dir, spare, sp.dir, name))
            continue;
        fd = openat(sp.dir, name, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            unlinkat(sp.dir, name, 0); /* or the name would be in the way for ever */
        break;
    }
    if (fd < 0) {
        if (fstatvfs(sp.dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < SEGMENT_SIZE + RESERVE) {
            err_set(err, E_LIMIT, "the disk of the spool has no room for a segment");
            return NULL;
        }
        fd = openat(sp.dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) {
            err_errno(err, errno, "creating %s in the spool", name);
            return NULL;
        }
        if (fallocate(fd, 0, 0, SEGMENT_SIZE) && errno != EOPNOTSUPP) {
            err_errno(err, errno, "allocating a segment of the spool");
            close(fd);
            unlinkat(sp.dir, name, 0);
            return NULL;
        }
    }
    sp.dir_dirty = true;
    return segment_add(number, fd);
}

/* Under the lock. The active segment, with room for so much of a body and of the ledger: this one or the next. */
static struct segment *segment_with_room(uint32_t body, uint32_t ledger, struct err *err)
{
    struct segment *s = sp.active, *old;

    if (s && s->used + body <= SEGMENT_SIZE && s->ledger_used + ledger <= SPOOL_LEDGER)
        return s;
    if (s && !s->live && !s->readers) { /* it can follow itself: a full disk may not give another */
        sp.active = NULL;
        segment_retire(s);
    }
    s = segment_make(err);
    if (!s) {
        err_wrap(err, "storing a message");
        return NULL;
    }
    s->used = SPOOL_LEDGER;
    old = sp.active;
    sp.active = s;
    if (old)
        segment_retire(old);
    return s;
}

static bool segment_reserve(uint32_t n, struct piece *out, struct err *err)
{
    struct segment *s;

    pthread_mutex_lock(&sp.lock);
    s = segment_with_room(n, 0, err);
    if (!s) {
        pthread_mutex_unlock(&sp.lock);
        return false;
    }
    out->segment = s;
    out->offset = s->used;
    out->length = n;
    s->used += n;
    s->live += n;
    s->readers++;
    pthread_mutex_unlock(&sp.lock);
    return true;
}

/* Under the lock. */
static void piece_remove(const struct piece *p)
{
    p->segment->live -= p->length;
    segment_retire(p->segment);
}

static void pieces_close(struct piece *pieces, uint32_t n)
{
    pthread_mutex_lock(&sp.lock);
    for (uint32_t i = 0; i < n; i++)
        pieces[i].segment->readers--;
    for (uint32_t i = 0; i < n; i++)
        if (i + 1 == n || pieces[i].segment != pieces[i + 1].segment)
            segment_retire(pieces[i].segment);
    pthread_mutex_unlock(&sp.lock);
}

/* --- starting and stopping --- */

bool spool_open(const char *dir, struct err *err)
{
    struct dirent *e;
    DIR *d;
    int fd;

    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_errno(err, errno, "creating the spool directory %s", dir);
    sp.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sp.dir < 0)
        return err_errno(err, errno, "opening the spool directory %s", dir);
    fd = openat(sp.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return err_errno(err, errno, "reading the spool directory %s", dir);
    while ((e = readdir(d))) {
        char *end;
        uint64_t number;

        if (str_starts(e->d_name, "seg-")) {
            number = strtoull(e->d_name + 4, &end, 16);
            if (!*end && number && number <= UINT32_MAX)
                segment_add((uint32_t)number, -1)->used = SEGMENT_SIZE;
        } else if (str_starts(e->d_name, "file-")) {
            number = strtoull(e->d_name + 5, &end, 16);
            if (!*end && number > sp.last_file)
                sp.last_file = number;
        } else if (str_starts(e->d_name, "spare-")) {
            unlinkat(sp.dir, e->d_name, 0); /* their count begins again at 0 */
        }
    }
    closedir(d);
    return true;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t *known_files; /* of the rows, between spool_open and spool_ready */
static size_t nknown, known_cap;

/* A second name, under which nobody looks. */
static void keep_as_lost(const char *name)
{
    char lost[48];

    snprintf(lost, sizeof(lost), "lost-%.40s", name);
    if (linkat(sp.dir, name, sp.dir, lost, 0) == 0)
        log_critical("spool: %s may hold messages whose envelopes are lost; it is kept as %s", name, lost);
}

static void remove_orphans(bool complete)
{
    int fd = openat(sp.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (nknown)
        qsort(known_files, nknown, sizeof(known_files[0]), compare_numbers);
    while (d && (e = readdir(d))) {
        uint64_t number;

        if (!str_starts(e->d_name, "file-"))
            continue;
        number = strtoull(e->d_name + 5, NULL, 16);
        if (!complete || (nknown && bsearch(&number, known_files, nknown, sizeof(known_files[0]),
                                            compare_numbers))) {
            sp.files++;
            continue;
        }
        if (sp.keep_lost)
            keep_as_lost(e->d_name);
        unlinkat(sp.dir, e->d_name, 0);
    }
    if (d)
        closedir(d);
    free(known_files);
    known_files = NULL;
    nknown = known_cap = 0;
}

void spool_keep_lost(void)
{
    char name[32];

    pthread_mutex_lock(&sp.lock);
    sp.keep_lost = true;
    for (size_t i = 0; i < sp.n; i++) {
        segment_name(sp.segments[i]->number, name, sizeof(name));
        keep_as_lost(name);
    }
    pthread_mutex_unlock(&sp.lock);
}

bool spool_bodies(void)
{
    return sp.n || sp.last_file;
}

void spool_forget_accounts(void)
{
    pthread_mutex_lock(&sp.lock);
    for (size_t i = 0; i < sp.n; i++)
        sp.segments[i]->live = 0;
    nknown = 0;
    pthread_mutex_unlock(&sp.lock);
}

void spool_ready(bool complete)
{
    struct err err = {0};

    pthread_mutex_lock(&sp.lock);
    for (size_t i = sp.n; i-- && complete;)
        segment_retire(sp.segments[i]);
    remove_orphans(complete);
    segment_with_room(0, 0, &err);
    pthread_mutex_unlock(&sp.lock);
    if (err.code) /* what is queued is delivered all the same; the next message tries again */
        log_critical("spool: %s", err.text);
}

void spool_close(void)
{
    pthread_mutex_lock(&sp.lock);
    while (sp.n)
        segment_forget(sp.segments[sp.n - 1]);
    for (size_t i = 0; i < sp.nunsynced; i++)
        close(sp.unsynced[i]);
    free(sp.segments);
    free(sp.unsynced);
    if (sp.dir >= 0)
        close(sp.dir);
    sp.segments = NULL;
    sp.unsynced = NULL;
    sp.n = sp.cap = sp.nunsynced = sp.unsynced_cap = 0;
    sp.active = NULL;
    sp.last_number = 0;
    sp.passed = 0;
    sp.spares = sp.spare_names = 0;
    sp.last_file = sp.files = 0;
    sp.dir_dirty = sp.keep_lost = false;
    sp.dir = -1;
    pthread_mutex_unlock(&sp.lock);
}

/* Under the lock, after a sync that failed. */
static void give_up_segment(void)
{
    struct segment *old = sp.active;

    atomic_fetch_add(&sp.failures, 1);
    sp.dir_dirty = true;
    sp.active = NULL; /* the next body makes another */
    if (old)
        segment_retire(old);
}

unsigned spool_failures(void)
{
    return atomic_load(&sp.failures);
}

static bool sync_all(struct err *err)
{
    struct segment *dirty[16];
    size_t ndirty, nfiles, i;
    int *files, e = 0;
    bool dir;

    do {
        ndirty = 0;
        pthread_mutex_lock(&sp.lock);
        for (i = sp.n; i-- && ndirty < countof(dirty);)
            if (atomic_exchange(&sp.segments[i]->dirty, false)) {
                sp.segments[i]->readers++; /* stays open while we sync it */
                dirty[ndirty++] = sp.segments[i];
            }
        files = sp.unsynced;
        nfiles = sp.nunsynced;
        dir = sp.dir_dirty;
        sp.unsynced = NULL;
        sp.nunsynced = sp.unsynced_cap = 0;
        sp.dir_dirty = false;
        pthread_mutex_unlock(&sp.lock);

        for (i = 0; i < ndirty; i++)
            if (fdatasync(dirty[i]->fd))
                e = errno;
        for (i = 0; i < nfiles; i++) {
            if (fdatasync(files[i]))
                e = errno;
            close(files[i]);
        }
        free(files);
        if (dir && fsync(sp.dir))
            e = errno;

        pthread_mutex_lock(&sp.lock);
        if (e)
            give_up_segment();
        for (i = 0; i < ndirty; i++) {
            dirty[i]->readers--;
            segment_retire(dirty[i]);
        }
        pthread_mutex_unlock(&sp.lock);
    } while (ndirty == countof(dirty));
    return e ? err_errno(err, e, "making messages durable") : true;
}

bool spool_sync(void *failures, struct err *err)
{
    unsigned *known = failures;
    bool ok;

    pthread_mutex_lock(&sp.sync);
    ok = sync_all(err);
    if (ok && *known != spool_failures())
        ok = err_set(err, E_IO, "the disk failed while messages were being stored");
    *known = spool_failures();
    pthread_mutex_unlock(&sp.sync);
    return ok;
}

/* --- writing --- */

struct body_writer *body_create(void)
{
    struct body_writer *w = xcalloc(1, sizeof(*w));

    w->file_fd = -1;
    w->failures = atomic_load(&sp.failures);
    return w;
}

static bool write_all(int fd, const void *p, size_t n, off_t at, struct err *err)
{
    const char *c = p;

    while (n) {
        ssize_t put = pwrite(fd, c, n, at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_errno(err, put ? errno : ENOSPC, "writing to the spool");
        c += put;
        at += put;
        n -= (size_t)put;
    }
    return true;
}

static bool open_file(struct body_writer *w, struct err *err)
{
    char name[32];

    uint64_t number;
    int fd;

    pthread_mutex_lock(&sp.lock);
    number = ++sp.last_file;
    pthread_mutex_unlock(&sp.lock);
    file_name(number, name, sizeof(name));
    fd = openat(sp.dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "creating a message file in the spool");
    w->file = number;
    w->file_fd = fd;
    pthread_mutex_lock(&sp.lock);
    sp.files++;
    sp.dir_dirty = true; /* only now: a sync that began before would not have the name */
    pthread_mutex_unlock(&sp.lock);
    return true;
}

static off_t file_offset(uint64_t at) /* of a piece's first byte */
{
    return (off_t)(at / SPOOL_PIECE * (SPOOL_PIECE + 4));
}

/* Sends the piece in w->buf to its place. */
static bool put_piece(struct body_writer *w, struct err *err)
{
    uint32_t crc = crc32c(0, w->buf, w->n);
    struct piece *p;

    if (!w->n)
        return true;
    if (w->npieces < MAX_PIECES) {
        p = &w->pieces[w->npieces];
        if (!segment_reserve(w->n, p, err))
            return false;
        w->npieces++;
        p->crc = crc;
        if (!write_all(p->segment->fd, w->buf, w->n, p->offset, err))
            return false;
        atomic_store(&p->segment->dirty, true);
        /* Of a large body the disk starts now, so that the sync at the end finds little to do. */
        if (w->n == SPOOL_PIECE)
            sync_file_range(p->segment->fd, p->offset, w->n, SYNC_FILE_RANGE_WRITE);
    } else {
        off_t at = file_offset(w->file_length);

        if (!w->file && !open_file(w, err))
            return false;
        if (!write_all(w->file_fd, w->buf, w->n, at, err) ||
            !write_all(w->file_fd, &crc, 4, at + w->n, err))
            return false;
        sync_file_range(w->file_fd, at, w->n + 4, SYNC_FILE_RANGE_WRITE);
        w->file_length += w->n;
    }
    w->n = 0;
    return true;
}

bool body_append(struct body_writer *w, const void *p, size_t n, struct err *err)
{
    const char *c = p;

    while (n) {
        size_t room;

        if (w->n == SPOOL_PIECE && !put_piece(w, err))
            return false;
        if (w->cap < SPOOL_PIECE && w->n + n > w->cap) {
            size_t cap = w->cap ? w->cap : 4096;

            while (cap < SPOOL_PIECE && cap < w->n + n)
                cap *= 2;
            w->cap = (uint32_t)cap;
            w->buf = xrealloc(w->buf, cap);
        }
        room = w->cap - w->n;
        if (room > n)
            room = n;
        memcpy(w->buf + w->n, c, room);
        w->n += (uint32_t)room;
        w->length += room;
        c += room;
        n -= room;
    }
    return true;
}

static struct body *body_new(uint32_t npieces)
{
    struct body *b = xcalloc(1, sizeof(*b) + npieces * sizeof(struct piece));

    b->refs = 1;
    b->file_fd = -1;
    b->npieces = npieces;
    return b;
}

static void sync_later(int fd)
{
    pthread_mutex_lock(&sp.lock);
    if (sp.nunsynced == sp.unsynced_cap) {
        sp.unsynced_cap = sp.unsynced_cap ? sp.unsynced_cap * 2 : 16;
        sp.unsynced = xrealloc(sp.unsynced, sp.unsynced_cap * sizeof(int));
    }
    sp.unsynced[sp.nunsynced++] = fd;
    pthread_mutex_unlock(&sp.lock);
}

struct body *body_finish(struct body_writer **wp, struct err *err)
{
    struct body_writer *w = *wp;
    bool small = w->npieces == 0;
    uint32_t last = w->n;
    struct body *b;

    if (!put_piece(w, err)) {
        body_abort(wp);
        return NULL;
    }
    *wp = NULL;
    b = body_new(w->npieces);
    b->length = w->length;
    b->failures = w->failures;
    b->checked = true;
    memcpy(b->pieces, w->pieces, w->npieces * sizeof(struct piece));
    if (small && w->length) {
        b->cache = w->cap - last > 1024 ? xrealloc(w->buf, last) : w->buf;
        w->buf = NULL;
    }
    if (w->file) {
        b->file = w->file;
        b->file_length = w->file_length;
        sync_later(w->file_fd);
    }
    free(w->buf);
    free(w);
    return b;
}

void body_abort(struct body_writer **wp)
{
    struct body_writer *w = *wp;
    char name[32];

    *wp = NULL;
    if (!w)
        return;
    if (w->npieces) {
        pthread_mutex_lock(&sp.lock);
        for (uint32_t i = 0; i < w->npieces; i++)
            w->pieces[i].segment->live -= w->pieces[i].length;
        pthread_mutex_unlock(&sp.lock);
        pieces_close(w->pieces, w->npieces);
    }
    if (w->file) {
        if (w->file_fd >= 0)
            close(w->file_fd);
        file_name(w->file, name, sizeof(name));
        unlinkat(sp.dir, name, 0);
        pthread_mutex_lock(&sp.lock);
        sp.files--;
        pthread_mutex_unlock(&sp.lock);
    }
    free(w->buf);
    free(w);
}

/* --- reading --- */

bool body_sound(const struct body *b, struct err *err)
{
    return b->failures == atomic_load(&sp.failures) ||
           err_set(err, E_IO, "the disk failed while the message was being stored");
}

struct body *body_ref(struct body *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void body_free(struct body **bp)
{
    struct body *b = *bp;

    *bp = NULL;
    if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
        return;
    if (b->npieces)
        pieces_close(b->pieces, b->npieces);
    if (b->file_fd >= 0)
        close(b->file_fd);
    free(b->cache);
    free(b);
}

void body_remove_pieces(struct body *b)
{
    pthread_mutex_lock(&sp.lock);
    for (uint32_t i = 0; i < b->npieces; i++)
        piece_remove(&b->pieces[i]);
    pthread_mutex_unlock(&sp.lock);
}

void body_remove(struct body *b)
{
    char name[32];

    body_remove_pieces(b);
    if (b->file) {
        file_name(b->file, name, sizeof(name));
        unlinkat(sp.dir, name, 0);
        pthread_mutex_lock(&sp.lock);
        sp.files--;
        pthread_mutex_unlock(&sp.lock);
    }
}

uint64_t body_length(const struct body *b)
{
    return b->length;
}

struct slice body_cached(struct body *b)
{
    struct slice s = {b->cache, b->cache ? b->length : 0};

    return s;
}

static bool read_all(int fd, void *p, size_t n, off_t at, struct err *err)
{
    char *c = p;

    while (n) {
        ssize_t got = pread(fd, c, n, at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, errno, "reading a message from the spool");
        if (!got)
            return err_set(err, E_IO, "reading a message from the spool: the file ends too early");
        c += got;
        at += got;
        n -= (size_t)got;
    }
    return true;
}

static int file_descriptor(struct body *b, struct err *err)
{
    char name[32];

    pthread_mutex_lock(&sp.lock);
    if (b->file_fd < 0) {
        file_name(b->file, name, sizeof(name));
        b->file_fd = openat(sp.dir, name, O_RDONLY | O_CLOEXEC);
        if (b->file_fd < 0)
            err_errno(err, errno, "opening %s in the spool", name);
    }
    pthread_mutex_unlock(&sp.lock);
    return b->file_fd;
}

/* The whole piece that begins at offset (a multiple of SPOOL_PIECE), length bytes, checked. */
static bool read_piece(struct body *b, uint64_t offset, uint32_t length, char *out, struct err *err)
{
    uint64_t index = offset / SPOOL_PIECE;
    uint32_t crc;

    if (index < b->npieces) {
        const struct piece *p = &b->pieces[index];

        crc = p->crc;
        if (!read_all(p->segment->fd, out, length, p->offset, err))
            return false;
    } else {
        off_t at = file_offset(offset - (uint64_t)b->npieces * SPOOL_PIECE);
        int fd = file_descriptor(b, err);

        if (fd < 0 || !read_all(fd, out, length, at, err) ||
            !read_all(fd, &crc, 4, at + length, err))
            return false;
    }
    if (crc32c(0, out, length) != crc)
        return err_set(err, E_IO,
                       "reading a message from the spool: wrong checksum at byte %" PRIu64, offset);
    return true;
}

static uint32_t piece_length(const struct body *b, uint64_t start)
{
    uint64_t rest = b->length - start;

    return rest < SPOOL_PIECE ? (uint32_t)rest : SPOOL_PIECE;
}

bool body_read(struct body *b, uint64_t offset, void *p, size_t n, size_t *got, struct err *err)
{
    uint64_t start = offset / SPOOL_PIECE * SPOOL_PIECE;
    uint32_t length, skip = (uint32_t)(offset - start);
    char *whole;
    bool ok;

    *got = 0;
    if (offset >= b->length)
        return true;
    length = piece_length(b, start);
    if (n > length - skip)
        n = length - skip;
    if (b->cache) {
        memcpy(p, b->cache + offset, n);
    } else if (!skip && n == length) {
        if (!read_piece(b, start, length, p, err))
            return false;
    } else {
        whole = xmalloc(length);
        ok = read_piece(b, start, length, whole, err);
        if (ok)
            memcpy(p, whole + skip, n);
        free(whole);
        if (!ok)
            return false;
    }
    *got = n;
    return true;
}

bool body_load(struct body *b, struct err *err)
{
    if (b->cache || !b->length || b->npieces != 1)
        return true;
    b->cache = xmalloc(b->length);
    if (read_piece(b, 0, (uint32_t)b->length, b->cache, err))
        return true;
    free(b->cache);
    b->cache = NULL;
    return false;
}

bool body_check(struct body *b, struct err *err)
{
    char *piece;
    bool ok = true;

    if (b->cache || atomic_load(&b->checked))
        return true;
    piece = xmalloc(SPOOL_PIECE);
    for (uint64_t at = 0; ok && at < b->length; at += SPOOL_PIECE)
        ok = read_piece(b, at, piece_length(b, at), piece, err);
    free(piece);
    atomic_store(&b->checked, ok);
    return ok;
}

/* --- stored form --- */

void body_encode(const struct body *b, struct buf *out)
{
    pack_uint(out, ENCODING);
    pack_uint(out, b->npieces);
    for (uint32_t i = 0; i < b->npieces; i++) {
        pack_uint(out, b->pieces[i].segment->number);
        pack_uint(out, b->pieces[i].offset);
        pack_uint(out, b->pieces[i].length);
        pack_uint(out, b->pieces[i].crc);
    }
    pack_uint(out, b->file);
    pack_uint(out, b->file_length);
}

struct stored {
    uint32_t npieces;
    struct {
        uint32_t segment, offset, length, crc;
    } pieces[MAX_PIECES];
    uint64_t file, file_length;
};

static bool parse_stored(const void *p, size_t n, struct stored *out, struct err *err)
{
    struct unpack u = {p, (const unsigned char *)p + n, false};
    uint64_t version = unpack_uint(&u), count = unpack_uint(&u);

    if (version != ENCODING || count > MAX_PIECES)
        return err_set(err, E_IO, "a message's place in the spool is unreadable");
    out->npieces = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t segment = unpack_uint(&u), offset = unpack_uint(&u), length = unpack_uint(&u),
                 crc = unpack_uint(&u);
        bool last = i + 1 == count;

        /* All pieces but the last are full, and the last is when a file follows. */
        if (!segment || segment > UINT32_MAX || offset > SEGMENT_SIZE || !length ||
            length > SPOOL_PIECE || offset + length > SEGMENT_SIZE || crc > UINT32_MAX ||
            (!last && length != SPOOL_PIECE))
            u.bad = true;
        out->pieces[i].segment = (uint32_t)segment;
        out->pieces[i].offset = (uint32_t)offset;
        out->pieces[i].length = (uint32_t)length;
        out->pieces[i].crc = (uint32_t)crc;
    }
    out->file = unpack_uint(&u);
    out->file_length = unpack_uint(&u);
    if (u.bad || u.p != u.end || !out->file != !out->file_length ||
        out->file_length > UINT64_MAX / 2 ||
        (out->file && (count != MAX_PIECES || out->pieces[count - 1].length != SPOOL_PIECE)))
        return err_set(err, E_IO, "a message's place in the spool is unreadable");
    return true;
}

bool spool_account(const void *encoded, size_t n, struct err *err)
{
    struct stored s;
    bool ok = true;

    if (!parse_stored(encoded, n, &s, err))
        return false;
    pthread_mutex_lock(&sp.lock);
    for (uint32_t i = 0; i < s.npieces && ok; i++) {
        struct segment *seg = segment_find(s.pieces[i].segment);

        if (seg)
            seg->live += s.pieces[i].length;
        else
            ok = err_set(err, E_IO, "segment %08" PRIx32 " of the spool is missing",
                         s.pieces[i].segment);
    }
    if (s.file) {
        if (nknown == known_cap) {
            known_cap = known_cap ? known_cap * 2 : 64;
            known_files = xrealloc(known_files, known_cap * sizeof(known_files[0]));
        }
        known_files[nknown++] = s.file;
    }
    pthread_mutex_unlock(&sp.lock);
    return ok;
}

/* Under the lock. A segment from before the restart is opened by its first reader. */
static bool segment_use(struct segment *s, struct err *err)
{
    char name[32];

    if (s->fd < 0) {
        segment_name(s->number, name, sizeof(name));
        s->fd = openat(sp.dir, name, O_RDWR | O_CLOEXEC);
        if (s->fd < 0)
            return err_errno(err, errno, "opening %s in the spool", name);
    }
    s->readers++;
    return true;
}

struct body *body_decode(const void *p, size_t n, struct err *err)
{
    struct stored s;
    struct body *b;

    if (!parse_stored(p, n, &s, err))
        return NULL;
    b = body_new(s.npieces);
    b->file = s.file;
    b->file_length = b->length = s.file_length;
    b->npieces = 0;
    pthread_mutex_lock(&sp.lock);
    for (uint32_t i = 0; i < s.npieces; i++) {
        struct segment *seg = segment_find(s.pieces[i].segment);

        if (!seg) {
            err_set(err, E_IO, "segment %08" PRIx32 " of the spool is missing",
                    s.pieces[i].segment);
            break;
        }
        if (!segment_use(seg, err))
            break;
        b->pieces[i].segment = seg;
        b->pieces[i].offset = s.pieces[i].offset;
        b->pieces[i].length = s.pieces[i].length;
        b->pieces[i].crc = s.pieces[i].crc;
        b->length += s.pieces[i].length;
        b->npieces++;
    }
    pthread_mutex_unlock(&sp.lock);
    if (b->npieces < s.npieces)
        body_free(&b);
    return b;
}

/* --- the ledger's part --- */

bool spool_ledger_room(uint32_t n, struct spool_ledger *out, struct err *err)
{
    struct segment *s;

    pthread_mutex_lock(&sp.lock);
    s = segment_with_room(0, n, err);
    if (s) {
        s->readers++; /* until it is written */
        out->segment = s;
        out->number = s->number;
        out->offset = s->ledger_used;
        out->room = SPOOL_LEDGER - s->ledger_used;
    }
    pthread_mutex_unlock(&sp.lock);
    return s;
}

bool spool_ledger_write(const struct spool_ledger *at, const void *p, size_t n, uint64_t seq, struct err *err)
{
    struct segment *s = at->segment;
    bool ok = write_all(s->fd, p, n, at->offset, err);

    atomic_store(&s->dirty, true);
    pthread_mutex_lock(&sp.lock);
    s->ledger_used = at->offset + (uint32_t)n;
    s->ledger_last = seq;
    s->readers--;
    segment_retire(s); /* another may be active by now */
    pthread_mutex_unlock(&sp.lock);
    return ok;
}

void spool_ledger_passed(uint64_t seq)
{
    pthread_mutex_lock(&sp.lock);
    if (seq > sp.passed) {
        sp.passed = seq;
        for (size_t i = sp.n; i--;)
            if (sp.segments[i]->ledger_last)
                segment_retire(sp.segments[i]);
    }
    pthread_mutex_unlock(&sp.lock);
}

void spool_ledger_read(uint32_t from, uint64_t (*fn)(void *arg, uint32_t number, struct slice area), void *arg)
{
    char name[32], *area = xmalloc(SPOOL_LEDGER);

    if (from > sp.last_number)
        sp.last_number = from;
    for (size_t i = 0; i < sp.n; i++) {
        struct segment *s = sp.segments[i];
        ssize_t n;
        int fd;

        if (s->number < from)
            continue;
        segment_name(s->number, name, sizeof(name));
        fd = openat(sp.dir, name, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : pread(fd, area, SPOOL_LEDGER, 0);
        if (n < 0)
            log_critical("spool: reading the ledger in %s: %s", name, strerror(errno));
        else
            s->ledger_last = fn(arg, s->number, (struct slice){area, (size_t)n});
        if (fd >= 0)
            close(fd);
    }
    free(area);
}

/* --- compaction --- */

uint32_t spool_sparse_segment(void)
{
    uint64_t least = SPARSE_BYTES;
    uint32_t number = 0;

    pthread_mutex_lock(&sp.lock);
    for (size_t i = 0; i < sp.n; i++) {
        struct segment *s = sp.segments[i];

        if (s != sp.active && s->live && s->live < least) {
            least = s->live;
            number = s->number;
        }
    }
    pthread_mutex_unlock(&sp.lock);
    return number;
}

uint32_t body_segment(const struct body *b)
{
    return b->npieces ? b->pieces[0].segment->number : 0;
}

uint32_t spool_segment_of(const void *encoded, size_t n)
{
    struct stored s;

    return parse_stored(encoded, n, &s, NULL) && s.npieces ? s.pieces[0].segment : 0;
}

struct body *body_copy(struct body *b, struct err *err)
{
    struct body *copy = body_new(b->npieces);
    char *piece = xmalloc(SPOOL_PIECE);
    bool ok = true;

    copy->length = b->length;
    copy->failures = atomic_load(&sp.failures);
    copy->file = b->file;
    copy->file_length = b->file_length;
    copy->npieces = 0;
    for (uint32_t i = 0; i < b->npieces && ok; i++) {
        struct piece *p = &copy->pieces[i];
        uint32_t length = b->pieces[i].length;

        ok = read_piece(b, (uint64_t)i * SPOOL_PIECE, length, piece, err) &&
             segment_reserve(length, p, err);
        if (!ok)
            break;
        copy->npieces++;
        p->crc = b->pieces[i].crc;
        ok = write_all(p->segment->fd, piece, length, p->offset, err);
        atomic_store(&p->segment->dirty, true);
    }
    free(piece);
    if (!ok) {
        body_remove_pieces(copy);
        body_free(&copy);
    }
    return copy;
}

void spool_usage(struct spool_usage *out)
{
    struct statvfs v;

    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&sp.lock);
    out->segments = sp.n;
    out->files = sp.files;
    for (size_t i = 0; i < sp.n; i++)
        out->bytes_used += sp.segments[i]->live;
    if (sp.dir >= 0 && !fstatvfs(sp.dir, &v))
        out->bytes_free = (uint64_t)v.f_bavail * v.f_frsize;
    pthread_mutex_unlock(&sp.lock);
}
