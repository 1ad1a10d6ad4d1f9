/* bv.h - bounce verification (bvconfig): envelope senders are tagged on their way out, so that a bounce to an address
 * that carries no tag of ours answers a message somebody else sent in our name.
 *
 * The tag is that of BATV (draft-levine-smtp-batv-04): "prvs=KDDDSSSSSS=user@example.com", K the number of the key, DDD the last
 * day it is good for, SSSSSS the front of an HMAC-SHA1 over both and the address. A tag is good for a week.
 *
 * The keys are opened when a configuration is prepared (reload_bv.c). Any thread. */
#ifndef POSTERN_BV_H
#define POSTERN_BV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/smtp_parse.h"
#include "store/base/clock.h"

#define BV_KEY_MAX 256u

struct bv_keys {
    struct {
        char text[BV_KEY_MAX + 1];
        uint64_t created;
        bool there;
    } of[10];
    int newest; /* -1: there is none */
};
void bv_use(const struct bv_keys *keys); /* from now on; a copy is kept */

bool bv_enabled(void); /* there is a key: bounces are looked at */

/* The sender with a tag of the newest key; false, out untouched: there is no key, it is the null path, it has a tag already, or
 * its local part would become too long (RFC 5321 section 4.5.3.1.1). */
bool bv_tag(const char *sender, usec_t now, char *out, size_t size);

enum bv_verdict {
    BV_UNTAGGED,
    BV_GOOD, /* the tag has been taken off */
    BV_BAD, /* wrong, or too old; it still stands */
};
enum bv_verdict bv_untag(struct smtp_path *to, usec_t now);

#endif
