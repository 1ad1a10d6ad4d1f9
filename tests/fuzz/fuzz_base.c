/* The parsers of store/base on arbitrary bytes: the first byte chooses one. What they promise is asserted. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/json.h"
#include "store/base/net.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_address(const char *text)
{
    char out[ADDR_TEXT];
    struct addr a, b;

    if (!addr_parse_port(text, 25, &a))
        return;
    addr_text_port(&a, out);
    assert(addr_parse_port(out, 0, &b) && addr_eq(&a, &b) && a.port == b.port);
    (void)addr_is_public(&a);
}

static void try_network(const char *text)
{
    struct err err = {0};
    struct net n;

    if (!net_parse(text, &n, &err)) {
        assert(err.code == E_INVALID && str_is_utf8(err.text, strlen(err.text)));
        return;
    }
    assert(n.lo.family == n.hi.family);
    assert(net_has(&n, &n.lo) && net_has(&n, &n.hi));
}

static void try_domain(const char *text)
{
    char once[256], twice[256];
    struct err err = {0};

    if (!domain_to_ascii(text, once, sizeof(once), &err)) {
        assert(err.code != E_NONE);
        return;
    }
    assert(host_check(once, &err));
    assert(domain_to_ascii(once, twice, sizeof(twice), &err));
    assert(strcmp(once, twice) == 0);
}

static void try_json(const char *text, size_t n)
{
    AUTO(json) json_t *j = json_parse(text, n, NULL);
    AUTO(json) json_t *again = NULL;
    char *line;

    if (!j)
        return;
    line = json_text(j);
    assert(!strchr(line, '\n'));
    again = json_parse(line, strlen(line), NULL);
    assert(again && json_equal(j, again));
    free(line);
}

static void try_escape(const char *text, size_t n)
{
    AUTO(buf) struct buf b = BUF_INIT(1 << 20);

    str_escape(&b, text, n);
    assert(!b.full && str_is_utf8(buf_str(&b), b.n));
    for (size_t i = 0; i < b.n; i++)
        assert((unsigned char)b.p[i] >= ' ' && b.p[i] != 0x7f);
}

static void try_list(const char *text)
{
    AUTO(strlist) struct strlist l = {0}, again = {0};
    AUTO(buf) struct buf b = BUF_INIT(1 << 20);

    strlist_split(&l, text, ',');
    strlist_join(&l, ", ", &b);
    strlist_split(&again, buf_str(&b), ',');
    assert(l.n == again.n);
    for (size_t i = 0; i < l.n; i++)
        assert(strcmp(l.items[i], again.items[i]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size < 1 || size > 4096)
        return 0;
    text = xstrndup((const char *)data + 1, size - 1);
    switch (data[0] % 6) {
    case 0:
        try_address(text);
        break;
    case 1:
        try_network(text);
        break;
    case 2:
        try_domain(text);
        break;
    case 3:
        try_json((const char *)data + 1, size - 1);
        break;
    case 4:
        try_escape((const char *)data + 1, size - 1);
        break;
    default:
        try_list(text);
        break;
    }
    free(text);
    return 0;
}
