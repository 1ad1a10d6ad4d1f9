/* reload_bv.c - the tagging keys of the running configuration (bv.h). */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "daemon/bv.h"
#include "daemon/config_db.h"
#include "daemon/reload.h"
#include "store/base/str.h"

/* YIELDS */
static bool prepare(const struct config *old, const struct config *cfg, void **state, struct err *err)
{
    struct bv_keys *k = xcalloc(1, sizeof(*k));

    (void)old;
    k->newest = -1;
    *state = k;
    for (size_t i = 0; i < config_count(cfg, &section_bv_key); i++) {
        const struct bv_key *row = config_at(cfg, &section_bv_key, i)->data;
        struct buf plain = BUF_INIT(BV_KEY_MAX + 1);
        int n = row->name[0] - '0';
        bool ok = config_db_secret(row->key, &plain, err);

        if (ok) {
            str_copy(k->of[n].text, sizeof(k->of[n].text), buf_str(&plain));
            k->of[n].created = row->created;
            k->of[n].there = true;
            if (k->newest < 0 || row->created >= k->of[k->newest].created)
                k->newest = n;
        }
        if (plain.p)
            OPENSSL_cleanse(plain.p, plain.cap);
        buf_free(&plain);
        if (!ok) {
            OPENSSL_cleanse(k, sizeof(*k));
            free(k);
            return err_wrap(err, "opening tagging key %s", row->name);
        }
    }
    return true;
}

static void discard(void *state)
{
    OPENSSL_cleanse(state, sizeof(struct bv_keys));
    free(state);
}

static void publish(void *state, const struct config *cfg)
{
    (void)cfg;
    bv_use(state);
    discard(state);
}

const struct reload_part reload_bv = {"tagging keys", prepare, publish, discard};
