/* fuzz_stored.c - the records of queue.db as a damaged disk might deliver them. What is read at all
 * must write itself back as something that reads the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    size_t cut;

    if (size < 2)
        return 0;
    cut = (size_t)data[0] * (size - 2) / 255;
    p += 2;
    size -= 2;
    if (data[1] & 1) {
        struct body *b =
            body_decode(p, size, NULL); /* without a spool: only those without pieces exist */

        spool_account(p, size, NULL);
        body_free(&b);
    } else {
        check_message((struct slice){p, cut}, (struct slice){p + cut, size - cut});
    }
    return 0;
}
