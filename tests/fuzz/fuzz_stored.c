/* fuzz_stored.c - the records of queue.db and the ledger as a damaged disk might deliver them. What is read at all
 * must write itself back as something that reads the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crc32c.h"
#include "daemon/ledger.h"
#include "daemon/message.h"
#include "daemon/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(struct slice envelope, struct slice state)
{
    struct buf e = BUF_INIT(16u << 20), s = BUF_INIT(16u << 20);
    struct message *m = message_decode(1, envelope, state, NULL), *again;

    if (!m)
        return;
    message_encode(m, &e);
    message_encode_state(m, &s);
    again = message_decode(1, (struct slice){e.p, e.n}, (struct slice){s.p, s.n}, NULL);
    assert(again && again->nrcpts == m->nrcpts && again->received == m->received);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        assert(!strcmp(m->rcpts[i].address, again->rcpts[i].address));
        assert(m->rcpts[i].state == again->rcpts[i].state &&
               m->rcpts[i].attempts == again->rcpts[i].attempts);
    }
    message_free(&again);
    message_free(&m);
    buf_free(&e);
    buf_free(&s);
}

static bool check_record(void *arg, uint32_t number, const struct ledger_record *r)
{
    const struct slice *area = arg;

    (void)number;
    assert(r->place.p >= area->p && r->envelope.p == r->place.p + r->place.n &&
           r->envelope.p + r->envelope.n <= area->p + area->n);
    check_message(r->envelope, (struct slice){NULL, 0});
    return true;
}

/* Every record that fits gets the checksum it would have. */
static void check_ledger(const char *p, size_t size)
{
    char *area = malloc(size + 1);
    struct slice whole = {area, size};
    uint32_t n[2], crc;

    memcpy(area, p, size);
    for (char *at = area; (at = memmem(at, (size_t)(area + size - at), "PLR1", 4)); at++) {
        if ((size_t)(area + size - at) < LEDGER_HEADER)
            break;
        memcpy(n, at + 12, sizeof(n)); /* little endian, as the machines that fuzz are */
        if ((uint64_t)n[0] + n[1] > (size_t)(area + size - at) - LEDGER_HEADER)
            continue;
        crc = crc32c(0, at + 8, LEDGER_HEADER - 8 + n[0] + n[1]);
        memcpy(at + 4, &crc, sizeof(crc));
    }
    assert(ledger_scan(1, whole, check_record, &whole) <= size);
    free(area);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    size_t cut;

    if (size < 2)
        return 0;
    cut = (size_t)data[0] * (size - 2) / 255;
    p += 2;
    size -= 2;
    if (data[1] & 2) {
        check_ledger(p, size);
    } else if (data[1] & 1) {
        struct body *b =
            body_decode(p, size, NULL); /* without a spool: only those without pieces exist */

        spool_account(p, size, NULL);
        body_free(&b);
    } else {
        check_message((struct slice){p, cut}, (struct slice){p + cut, size - cut});
    }
    return 0;
}
