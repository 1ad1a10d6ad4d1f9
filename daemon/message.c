/* message.c - struct message: building it, its stored forms. See queue.h and message.h. */
#include "daemon/message.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/pack.h"
#include "store/base/str.h"

#define ENVELOPE_VERSION 1
#define STATE_VERSION 1
#define STATE_REDIRECTED 2 /* the same behind the host the message is redirected to */
#define MAX_RCPTS 1000000u

struct message *message_new(void)
{
    struct message *m = xcalloc(1, sizeof(*m));

    m->refs = 1;
    m->sender = m->subject = m->bounce_profile = (char *)"";
    return m;
}

char *message_text(struct message *m, const char *s)
{
    return arena_strdup(&m->arena, s);
}

void message_add_rcpt(struct message *m, const char *address, const char *orcpt, unsigned notify)
{
    struct rcpt *r;

    if (!(m->nrcpts & (m->nrcpts - 1))) /* a power of two, or 0: the array is full */
        m->rcpts = xrealloc(m->rcpts, (m->nrcpts ? m->nrcpts * 2 : 1) * sizeof(*r));
    r = &m->rcpts[m->nrcpts++];
    memset(r, 0, sizeof(*r));
    r->address = message_text(m, address);
    str_lower((char *)(uintptr_t)address_domain(r->address)); /* policy and routes are found by it */
    r->orcpt = orcpt ? message_text(m, orcpt) : NULL;
    r->notify = (unsigned char)notify;
}

struct message *message_ref(struct message *m)
{
    __atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
    return m;
}

void message_free(struct message **mp)
{
    struct message *m = *mp;

    *mp = NULL;
    if (!m || __atomic_fetch_sub(&m->refs, 1, __ATOMIC_ACQ_REL) > 1)
        return;
    for (unsigned i = 0; i < m->nrcpts; i++)
        free(m->rcpts[i].last_error);
    free(m->rcpts);
    body_free(&m->body);
    arena_free(&m->arena);
    free(m);
}

const char *address_domain(const char *address)
{
    const char *at = strrchr(address, '@');

    return at ? at + 1 : "";
}

void message_encode(const struct message *m, struct buf *out)
{
    pack_uint(out, ENVELOPE_VERSION);
    pack_uint(out, m->icid);
    pack_uint(out, (uint64_t)m->received);
    pack_uint(out, m->flags);
    pack_text(out, m->sender);
    pack_text(out, m->subject);
    pack_text(out, m->envid);
    pack_text(out, m->bounce_profile);
    pack_uint(out, m->nrcpts);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        pack_text(out, m->rcpts[i].address);
        pack_text(out, m->rcpts[i].orcpt);
        pack_uint(out, m->rcpts[i].notify);
    }
}

void message_encode_state(const struct message *m, struct buf *out)
{
    pack_uint(out, m->redirect ? STATE_REDIRECTED : STATE_VERSION);
    if (m->redirect)
        pack_text(out, m->redirect);
    for (unsigned i = 0; i < m->nrcpts; i++) {
        const struct rcpt *r = &m->rcpts[i];

        pack_uint(out, r->state);
        pack_uint(out, r->attempts);
        pack_uint(out, (uint64_t)r->next_try);
        pack_uint(out, (uint64_t)r->last_warning);
        pack_uint(out, r->warnings);
        pack_text(out, r->last_error);
    }
}

static char *text_of(struct message *m, struct slice s)
{
    return s.p ? arena_slice(&m->arena, s) : NULL;
}

static char *text_or_empty(struct message *m, struct slice s)
{
    return s.n ? arena_slice(&m->arena, s) : (char *)"";
}

static void decode_state(struct message *m, struct unpack *u)
{
    uint64_t version = unpack_uint(u);

    if (version == STATE_REDIRECTED)
        m->redirect = text_of(m, unpack_text(u));
    else if (version != STATE_VERSION)
        u->bad = true;
    for (unsigned i = 0; i < m->nrcpts && !u->bad; i++) {
        struct rcpt *r = &m->rcpts[i];
        uint64_t state = unpack_uint(u);
        struct slice text;

        if (state > RCPT_DELETED)
            u->bad = true;
        r->state = (unsigned char)state;
        r->attempts = (uint32_t)unpack_uint(u);
        r->next_try = (usec_t)unpack_uint(u);
        r->last_warning = (usec_t)unpack_uint(u);
        r->warnings = (unsigned char)unpack_uint(u);
        text = unpack_text(u);
        r->last_error = text.p ? slice_dup(text) : NULL;
    }
}

struct message *message_decode(uint64_t mid, struct slice envelope, struct slice state,
                               struct err *err)
{
    struct unpack u = {(const unsigned char *)envelope.p,
                       (const unsigned char *)envelope.p + envelope.n, false};
    struct message *m = message_new();
    uint64_t n;

    m->mid = mid;
    if (unpack_uint(&u) != ENVELOPE_VERSION)
        u.bad = true;
    m->icid = unpack_uint(&u);
    m->received = (usec_t)unpack_uint(&u);
    m->flags = (unsigned)unpack_uint(&u);
    m->sender = text_or_empty(m, unpack_text(&u));
    m->subject = text_or_empty(m, unpack_text(&u));
    m->envid = text_of(m, unpack_text(&u));
    m->bounce_profile = text_or_empty(m, unpack_text(&u));
    n = unpack_uint(&u);
    if (n > MAX_RCPTS || n > (uint64_t)(u.end - u.p)) /* each takes at least one byte */
        u.bad = true;
    if (!u.bad && n) {
        m->rcpts = xcalloc(n, sizeof(struct rcpt));
        m->nrcpts = (unsigned)n;
        for (unsigned i = 0; i < n && !u.bad; i++) {
            m->rcpts[i].address = text_or_empty(m, unpack_text(&u));
            m->rcpts[i].orcpt = text_of(m, unpack_text(&u));
            m->rcpts[i].notify = (unsigned char)unpack_uint(&u);
        }
    }
    if (u.p != u.end)
        u.bad = true;
    if (state.n && !u.bad) {
        u.p = (const unsigned char *)state.p;
        u.end = u.p + state.n;
        decode_state(m, &u);
    }
    if (u.bad) {
        err_set(err, E_IO, "the stored envelope of message %" PRIu64 " is damaged", mid);
        message_free(&m);
    }
    return m;
}
