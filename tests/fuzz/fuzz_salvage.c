/* fuzz_salvage.c - a damaged queue.db and its log, as queue_salvage.c finds them. Input: flags (1: the checksums of the log
 * are made right, so that what is in its frames counts), the length of the database (four bytes, little endian), the
 * database, the log. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/message.h"
#include "daemon/queue_salvage.h"
#include "daemon/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER 32u
#define FRAME_HEADER 24u
#define ROWS_MOST 100000u

static uint64_t mids[ROWS_MOST];
static size_t nmids;
static uint64_t gaps;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void checksum(bool big, const uint8_t *p, size_t n, uint32_t sum[2])
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t a = be32(p + i), b = be32(p + i + 4);

        sum[0] += (big ? a : __builtin_bswap32(a)) + sum[1];
        sum[1] += (big ? b : __builtin_bswap32(b)) + sum[0];
    }
}

static void make_right(uint8_t *w, size_t n)
{
    uint32_t sum[2] = {0, 0}, page;
    bool big;

    if (n < HEADER)
        return;
    page = be32(w + 8);
    put32(w, 0x377f0682 | (be32(w) & 1));
    big = be32(w) & 1;
    checksum(big, w, 24, sum);
    put32(w + 24, sum[0]);
    put32(w + 28, sum[1]);
    if (page > n)
        return;
    for (size_t at = HEADER; at + FRAME_HEADER + page <= n; at += FRAME_HEADER + page) {
        memcpy(w + at + 8, w + 16, 8);
        checksum(big, w + at, 8, sum);
        checksum(big, w + at + FRAME_HEADER, page, sum);
        put32(w + at + 16, sum[0]);
        put32(w + at + 20, sum[1]);
    }
}

static bool row(void *arg, uint64_t mid, struct slice body, struct slice envelope, struct slice state)
{
    struct message *m = message_decode(mid, envelope, state, NULL);

    (void)arg;
    spool_account(body.p, body.n, NULL);
    if (m)
        message_free(&m);
    if (nmids < ROWS_MOST)
        mids[nmids++] = mid;
    return true;
}

static void gap(void *arg, uint32_t page, uint64_t first, uint64_t last)
{
    (void)arg;
    (void)page;
    assert(first <= last);
    gaps++;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void put(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    close(fd);
}

static char db[64], wal[70];

static void clean_up(void)
{
    unlink(db);
    unlink(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct salvage found;
    uint8_t *log;
    size_t n;

    if (size < 5 || size > 1u << 20)
        return 0;
    if (!db[0]) {
        snprintf(db, sizeof(db), "/dev/shm/postern-salvage-%d", getpid());
        snprintf(wal, sizeof(wal), "%s-wal", db);
        atexit(clean_up);
    }
    n = data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16 | (size_t)data[4] << 24;
    n = n < size - 5 ? n : size - 5;
    log = malloc(size - 5 - n + 1);
    memcpy(log, data + 5 + n, size - 5 - n);
    if (data[0] & 1)
        make_right(log, size - 5 - n);
    put(db, data + 5, n);
    put(wal, log, size - 5 - n);
    free(log);

    nmids = 0;
    gaps = 0;
    if (queue_salvage(db, row, gap, NULL, &found, NULL)) {
        assert(found.rows >= nmids && found.bad_pages == gaps);
        qsort(mids, nmids, sizeof(mids[0]), by_number);
        for (size_t i = 1; i < nmids; i++)
            assert(mids[i] != mids[i - 1]); /* a MID comes once */
    }
    return 0;
}
