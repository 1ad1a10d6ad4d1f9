/* queue_salvage.c - see queue_salvage.h. The tree of the table "message" is walked from its root; a
 * page that makes no sense is a gap. When such a page may have led to others, every page that was
 * neither visited nor is on the list of free ones is searched for rows: that can bring back a
 * message that was done, when the list of free pages is broken, too. Every number of the file is
 * checked against its size before it is used. */
#include "daemon/queue_salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/buf.h"

#define PAGE_LEAST 512u
#define PAGE_MOST 65536u
#define PAGE_USUAL 4096u /* when the first page does not say */
#define PAYLOAD_MOST (256u << 20)
#define DEPTH_MOST 20u
#define INTERIOR 0x05
#define LEAF 0x0d
#define WAL_HEADER 32u
#define FRAME_HEADER 24u

struct file {
    unsigned char *p;
    size_t n;
};

struct search {
    struct file db, wal;
    uint32_t page_size, usable, npages;
    uint32_t *frames; /* of each page: offset of its newest image in the log, 0: in the file */
    unsigned char *seen; /* a bit of each page: visited, or free */
    uint64_t *mids; /* found so far */
    size_t nmids, mids_cap;
    bool sorted, stop, lost_way;
    salvage_row fn;
    salvage_gap gap;
    void *arg;
    struct salvage *out;
};

static uint32_t be16(const unsigned char *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool read_file(const char *path, struct file *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    size_t at = 0;

    *out = (struct file){0};
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_errno(err, errno, "opening %s", path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    out->p = xcalloc(1, (size_t)st.st_size + 1);
    while (at < (size_t)st.st_size) {
        size_t piece =
            (size_t)st.st_size - at < PAGE_LEAST * 8 ? (size_t)st.st_size - at : PAGE_LEAST * 8;
        ssize_t got = pread(fd, out->p + at, piece, (off_t)at);

        if (got == 0)
            break;
        at += got < 0 ? piece : (size_t)got; /* what the disk does not give is zeros: no page */
    }
    out->n = (size_t)st.st_size;
    close(fd);
    return true;
}

/* --- pages -------------------------------------------------------------------------------------
 */

/* NULL: there is no such page. */
static const unsigned char *page_at(const struct search *s, uint32_t number)
{
    if (!number || number > s->npages)
        return NULL;
    if (s->frames[number])
        return s->wal.p + s->frames[number];
    if ((uint64_t)number * s->page_size > s->db.n)
        return NULL;
    return s->db.p + (size_t)(number - 1) * s->page_size;
}

static bool see(struct search *s, uint32_t number) /* false: not for the first time */
{
    unsigned char bit = (unsigned char)(1u << (number & 7));
    bool first = !(s->seen[number >> 3] & bit);

    s->seen[number >> 3] |= bit;
    return first;
}

static void checksum(bool big, const unsigned char *p, size_t n, uint32_t sum[2])
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t a = be32(p + i), b = be32(p + i + 4);

        if (!big) {
            a = __builtin_bswap32(a);
            b = __builtin_bswap32(b);
        }
        sum[0] += a + sum[1];
        sum[1] += b + sum[0];
    }
}

/* --- the log -----------------------------------------------------------------------------------
 *
 * Each frame has a checksum over itself and all before it. A transaction is written when the one
 * before it is on disk: what does not verify is the torn end of the last one, and never was
 * acknowledged, unless a whole transaction and the beginning of another follow. Then the disk has
 * damaged what was there, and SQLite would silently forget all behind it. The chain can be taken up
 * again from the sum that the next frame carries. */

struct log {
    const unsigned char *p;
    size_t n, frame;
    uint32_t page_size;
    bool big;
};

static bool log_begin(const struct file *f, struct log *l, uint32_t sum[2])
{
    const unsigned char *w = f->p;

    sum[0] = sum[1] = 0;
    if (f->n < WAL_HEADER || (be32(w) & ~1u) != 0x377f0682)
        return false;
    *l = (struct log){w, f->n, FRAME_HEADER + (size_t)be32(w + 8), be32(w + 8), be32(w) & 1};
    if (l->page_size < PAGE_LEAST || l->page_size > PAGE_MOST)
        return false;
    checksum(l->big, w, 24, sum);
    return be32(w + 24) == sum[0] && be32(w + 28) == sum[1];
}

static bool log_has(const struct log *l, size_t at)
{
    return at + l->frame <= l->n && at < UINT32_MAX - l->frame;
}

/* sum: of all before it; then as the frame has it. */
static bool frame_good(const struct log *l, size_t at, uint32_t sum[2])
{
    const unsigned char *h = l->p + at;
    uint32_t own[2] = {be32(h + 16), be32(h + 20)};
    bool good;

    checksum(l->big, h, 8, sum);
    checksum(l->big, h + FRAME_HEADER, l->page_size, sum);
    good = memcmp(h + 8, l->p + 16, 8) == 0 && own[0] == sum[0] && own[1] == sum[1];
    sum[0] = own[0];
    sum[1] = own[1];
    return good;
}

static bool frame_commits(const struct log *l, size_t at)
{
    return be32(l->p + at + 4) != 0;
}

/* The frame at at is not good: do others that were written later prove that it was on disk? */
static bool was_on_disk(const struct log *l, size_t at)
{
    uint32_t sum[2] = {be32(l->p + at + 16), be32(l->p + at + 20)};
    bool ended = false;

    for (at += l->frame; log_has(l, at); at += l->frame) {
        bool good = frame_good(l, at, sum);

        if (good && ended)
            return true;
        ended = good && frame_commits(l, at);
    }
    return false;
}

/* Which pages have a newer image in the log: those of the transactions that were committed. Fills
 * s->frames, which has room for all that the log can name. */
static void read_log(struct search *s)
{
    uint32_t sum[2], *pending;
    size_t npending = 0;
    struct log l;

    if (!log_begin(&s->wal, &l, sum) || l.page_size != s->page_size)
        return;
    pending = xcalloc(s->wal.n / l.frame + 1, 2 * sizeof(*pending));
    for (size_t at = WAL_HEADER; log_has(&l, at); at += l.frame) {
        if (!frame_good(&l, at, sum)) {
            if (!was_on_disk(&l, at))
                break;
            s->out->bad_frames++;
            continue;
        }
        pending[npending * 2] = be32(l.p + at);
        pending[npending++ * 2 + 1] = (uint32_t)(at + FRAME_HEADER);
        if (!frame_commits(&l, at))
            continue;
        for (size_t i = 0; i < npending; i++)
            if (pending[i * 2] <= s->npages)
                s->frames[pending[i * 2]] = pending[i * 2 + 1];
        npending = 0;
    }
    s->lost_way = s->out->bad_frames; /* pages may be as they were before */
    free(pending);
}

bool queue_log_damaged(const char *path)
{
    char *name = xasprintf("%s-wal", path);
    struct file file;
    uint32_t sum[2];
    bool damaged = false;
    struct log l;

    if (read_file(name, &file, NULL) && log_begin(&file, &l, sum))
        for (size_t at = WAL_HEADER; log_has(&l, at); at += l.frame)
            if (!frame_good(&l, at, sum)) {
                damaged = was_on_disk(&l, at);
                break;
            }
    free(file.p);
    free(name);
    return damaged;
}

static bool open_files(struct search *s, const char *path, struct err *err)
{
    char *log = xasprintf("%s-wal", path);
    uint32_t size;

    if (!read_file(path, &s->db, err)) {
        free(log);
        return false;
    }
    read_file(log, &s->wal, NULL);
    free(log);
    size = s->db.n >= 100 && !memcmp(s->db.p, "SQLite format 3", 16) ? be16(s->db.p + 16) : 0;
    if (size == 1)
        size = PAGE_MOST;
    if (size < PAGE_LEAST || size & (size - 1))
        size = s->wal.n >= WAL_HEADER ? be32(s->wal.p + 8) : PAGE_USUAL;
    if (size < PAGE_LEAST || size > PAGE_MOST || size & (size - 1))
        size = PAGE_USUAL;
    s->page_size = s->usable = size; /* our files reserve nothing at the end of a page */
    s->npages = (uint32_t)(s->db.n / size + s->wal.n / (size + FRAME_HEADER)) + 1;
    s->frames = xcalloc(s->npages + 1, sizeof(*s->frames));
    s->seen = xcalloc(s->npages / 8 + 1, 1);
    read_log(s);
    return true;
}

static void mark_free_pages(struct search *s)
{
    const unsigned char *p = page_at(s, 1);
    uint32_t trunk = p && !memcmp(p, "SQLite format 3", 16) ? be32(p + 32) : 0;

    while ((p = page_at(s, trunk)) && see(s, trunk)) {
        uint32_t n = be32(p + 4);

        for (uint32_t i = 0; i < n && 8 + 4 * i + 4 <= s->usable; i++)
            if (page_at(s, be32(p + 8 + 4 * i)))
                see(s, be32(p + 8 + 4 * i));
        trunk = be32(p);
    }
}

/* --- rows --------------------------------------------------------------------------------------
 */

/* 0: it runs over the end. */
static size_t varint(const unsigned char *p, const unsigned char *end, uint64_t *out)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 9 && p + i < end; i++) {
        if (i == 8) {
            *out = v << 8 | p[i];
            return 9;
        }
        v = v << 7 | (p[i] & 0x7f);
        if (!(p[i] & 0x80)) {
            *out = v;
            return i + 1;
        }
    }
    return 0;
}

/* The payload of a cell: local bytes at p, the rest in a chain of pages. */
static bool gather(struct search *s, const unsigned char *p, const unsigned char *end, uint64_t n,
                   struct buf *out)
{
    uint64_t most = s->usable - 35, least = (s->usable - 12) * 32 / 255 - 23, local = n, k;
    uint32_t next;

    if (n > most) {
        k = least + (n - least) % (s->usable - 4);
        local = k <= most ? k : least;
    }
    if (local > (size_t)(end - p) || (n > local && local + 4 > (size_t)(end - p)))
        return false;
    buf_add(out, p, local);
    next = n > local ? be32(p + local) : 0;
    for (uint32_t pages = 0; out->n < n; pages++) {
        const unsigned char *o = page_at(s, next);
        size_t piece = n - out->n < s->usable - 4 ? n - out->n : s->usable - 4;

        if (!o || pages > s->npages)
            return false;
        see(s, next);
        buf_add(out, o + 4, piece);
        next = be32(o);
    }
    return !out->full;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool found_before(struct search *s, uint64_t mid)
{
    if (!s->sorted && s->nmids)
        qsort(s->mids, s->nmids, sizeof(*s->mids), by_number);
    s->sorted = true;
    return s->nmids && bsearch(&mid, s->mids, s->nmids, sizeof(*s->mids), by_number);
}

static void remember(struct search *s, uint64_t mid)
{
    if (s->nmids == s->mids_cap) {
        s->mids_cap = s->mids_cap ? s->mids_cap * 2 : 1024;
        s->mids = xrealloc(s->mids, s->mids_cap * sizeof(*s->mids));
    }
    s->sorted = s->sorted && (!s->nmids || s->mids[s->nmids - 1] < mid);
    s->mids[s->nmids++] = mid;
}

/* NULL, body, envelope, state or NULL: what a row of "message" is. */
static bool read_row(struct search *s, uint64_t mid, const struct buf *payload)
{
    const unsigned char *p = (const unsigned char *)payload->p, *end = payload->n ? p + payload->n : p, *head;
    struct slice v[4] = {
        {NULL, 0},
        {NULL, 0},
        {NULL, 0},
        {NULL, 0}
    };
    uint64_t size, type, at;
    size_t k = payload->n ? varint(p, end, &size) : 0;

    if (!k || size > payload->n)
        return false;
    head = p + k;
    at = size;
    for (int i = 0; i < 4; i++) {
        k = varint(head, p + size, &type);
        if (!k || (type && (type < 12 || type & 1)) || (!type != (i == 0) && i != 3))
            return false;
        head += k;
        v[i].n = type ? (size_t)(type - 12) / 2 : 0;
        if (v[i].n > payload->n - at)
            return false;
        v[i].p = (const char *)p + at;
        at += v[i].n;
    }
    if (head != p + size || at != payload->n)
        return false;
    /* While they ascend, as in a tree that is whole, none can have come before. */
    if ((!s->sorted || (s->nmids && s->mids[s->nmids - 1] >= mid)) && found_before(s, mid))
        return true;
    remember(s, mid);
    s->out->rows++;
    if (!s->fn(s->arg, mid, v[1], v[2], v[3]))
        s->stop = true;
    return true;
}

/* The rows of a leaf, or those of them that make sense; false: not all do. */
static bool read_leaf(struct search *s, const unsigned char *p)
{
    const unsigned char *end = p + s->usable;
    uint32_t n = be16(p + 3);
    bool all = n <= (s->usable - 8) / 4;

    for (uint32_t i = 0; i < n && 8 + 2 * i + 2 <= s->usable && !s->stop; i++) {
        uint32_t at = be16(p + 8 + 2 * i);
        const unsigned char *c = p + at;
        struct buf payload = BUF_INIT(PAYLOAD_MOST);
        uint64_t size, mid;
        size_t k, l;
        bool ok;

        ok = at >= 8 && at < s->usable;
        k = ok ? varint(c, end, &size) : 0;
        l = k ? varint(c + k, end, &mid) : 0;
        ok = l && size <= PAYLOAD_MOST && mid <= INT64_MAX &&
             gather(s, c + k + l, end, size, &payload) && read_row(s, mid, &payload);
        buf_free(&payload);
        all = all && ok;
    }
    return all;
}

static void tell_gap(struct search *s, uint32_t number, uint64_t low, uint64_t high)
{
    s->out->bad_pages++;
    s->gap(s->arg, number, low < high ? low : high, high); /* a damaged parent may leave nothing between */
}

/* The tree below a page whose keys lie from low to high. */
static void walk(struct search *s, uint32_t number, uint64_t low, uint64_t high, unsigned depth)
{
    const unsigned char *p = page_at(s, number);
    uint32_t n = p ? be16(p + 3) : 0;
    uint64_t key, from = low;

    if (!p || depth > DEPTH_MOST || !see(s, number) || (p[0] != LEAF && p[0] != INTERIOR)) {
        s->lost_way = true; /* it may have been the way to others */
        tell_gap(s, number, low, high);
        return;
    }
    s->out->pages++;
    if (p[0] == LEAF) {
        if (!read_leaf(s, p) && !s->stop)
            tell_gap(s, number, low, high);
        return;
    }
    for (uint32_t i = 0; i <= n && !s->stop; i++) {
        uint32_t at = i < n && 12 + 2 * i + 2 <= s->usable ? be16(p + 12 + 2 * i) : 0;

        if (i == n) {
            walk(s, be32(p + 8), from, high, depth + 1);
        } else if (at < 12 + 2 * i || at + 5 > s->usable ||
                   !varint(p + at + 4, p + s->usable, &key) || key < from || key > high) {
            s->lost_way = true;
            tell_gap(s, number, from, high);
            return;
        } else {
            walk(s, be32(p + at), from, key, depth + 1);
            from = key + 1;
        }
    }
}

/* Of the table "message", as the first page has it; it was the first to be made. */
static uint32_t root_page(const struct search *s)
{
    static const char row[] = "tablemessagemessage";
    const unsigned char *p = page_at(s, 1), *at;

    if (p && p[100] == LEAF) {
        at = memmem(p + 100, s->usable - 100, row, sizeof(row) - 1);
        if (at && at + sizeof(row) <= p + s->usable)
            return at[sizeof(row) - 1]; /* a one-byte integer: it is small */
    }
    return 2;
}

bool queue_salvage(const char *path, salvage_row fn, salvage_gap gap, void *arg,
                   struct salvage *out, struct err *err)
{
    struct search s = {.fn = fn, .gap = gap, .arg = arg, .out = out, .sorted = true};
    bool ok;

    memset(out, 0, sizeof(*out));
    ok = open_files(&s, path, err);
    if (ok) {
        mark_free_pages(&s);
        walk(&s, root_page(&s), 0, UINT64_MAX, 0);
    }
    for (uint32_t i = 2; ok && s.lost_way && i <= s.npages && !s.stop; i++) {
        const unsigned char *p = page_at(&s, i);

        out->searched = true;
        if (p && p[0] == LEAF && see(&s, i)) {
            out->pages++;
            read_leaf(&s, p);
        }
    }
    free(s.db.p);
    free(s.wal.p);
    free(s.frames);
    free(s.seen);
    free(s.mids);
    return ok && !s.stop;
}
