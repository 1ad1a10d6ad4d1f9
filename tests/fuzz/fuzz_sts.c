/* MTA-STS records and policies on arbitrary bytes: the first byte chooses. What they promise is asserted. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/mta_sts.h"
#include "store/base/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines are the records of one name. */
static void try_records(const char *text)
{
    AUTO(strlist) struct strlist texts = {0};
    struct err err = {0};
    char id[33];

    strlist_split(&texts, text, '\n');
    if (!sts_parse_record((const char *const *)texts.items, (unsigned)texts.n, id, &err)) {
        assert(err.code == E_INVALID || err.code == E_NOT_FOUND);
        return;
    }
    assert(strlen(id) >= 1 && strlen(id) <= 32);
    assert(strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(id));
}

/* What was understood, written down, is understood again and means the same. */
static void write_again(const struct sts_policy *p, struct buf *out)
{
    static const char *const modes[] = {
        [STS_MODE_NONE] = "none", [STS_MODE_TESTING] = "testing", [STS_MODE_ENFORCE] = "enforce"};

    buf_printf(out, "version: STSv1\r\nmode: %s\r\nmax_age: %u\r\n", modes[p->mode], p->max_age);
    for (size_t i = 0; i < p->mx.n; i++)
        buf_printf(out, "mx: %s\r\n", p->mx.items[i]);
}

static void try_policy(const char *body, size_t n)
{
    AUTO(buf) struct buf text = BUF_INIT(1 << 20);
    struct sts_policy *p, *again;
    struct err err = {0};

    p = sts_parse_policy(body, n, &err);
    if (!p) {
        assert(err.code == E_INVALID && str_is_utf8(err.text, strlen(err.text)));
        return;
    }
    assert(p->max_age <= STS_MAX_AGE && (p->mx.n || p->mode == STS_MODE_NONE));
    write_again(p, &text);
    again = sts_parse_policy(buf_str(&text), text.n, NULL);
    assert(again && again->mode == p->mode && again->max_age == p->max_age && again->mx.n == p->mx.n);
    for (size_t i = 0; i < p->mx.n; i++) {
        const char *pattern = p->mx.items[i];

        assert(str_eq(again->mx.items[i], pattern));
        assert(host_check(str_starts(pattern, "*.") ? pattern + 2 : pattern, NULL));
        assert(str_starts(pattern, "*.") || sts_lists(p, pattern));
    }
    sts_policy_free(&p);
    sts_policy_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size < 1 || size > 4096)
        return 0;
    text = xstrndup((const char *)data + 1, size - 1);
    if (data[0] % 2)
        try_records(text);
    else
        try_policy((const char *)data + 1, size - 1);
    free(text);
    return 0;
}
