/* fuzz_dns_answer.c - rdata as libunbound hands them over, and whole messages of a server: nothing
 * reads outside, what comes out is bounded, and text is fit for a terminal. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dns_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(int type, const struct dns_rdata *r)
{
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);

    dns_rdata_text(type, r, &text);
    assert(str_is_utf8(buf_str(&text), text.n));
    for (size_t i = 0; i < text.n; i++)
        assert((unsigned char)text.p[i] >= ' ' && text.p[i] != 127);
}

/* type, then records: a length and so many octets */
static void check_records(const uint8_t *p, size_t n)
{
    static const int types[] = {TYPE_A,   TYPE_AAAA, TYPE_MX,  TYPE_TXT, TYPE_TLSA,
                                TYPE_PTR, TYPE_SOA,  TYPE_SRV, TYPE_CAA, TYPE_DS};
    struct dns_rdata r[64];
    int type = types[p[0] % countof(types)];
    size_t count = 0;
    struct dns_answer *a;
    struct dns_mx mx;
    struct dns_tlsa tlsa;
    struct dns_texts texts;
    struct dns_addrs addrs = {0};

    for (size_t at = 1; at < n && count < countof(r); count++) {
        size_t length = p[at] < n - at - 1 ? p[at] : n - at - 1;

        r[count] = (struct dns_rdata){p + at + 1, length};
        at += 1 + length;
    }
    a = dns_answer_new("asked.example", NULL, type, DNS_OK, r, count);
    dns_answer_mx(a, &mx);
    assert(mx.n <= 100);
    for (unsigned i = 0; i < mx.n; i++)
        assert(*mx.hosts[i].host && strlen(mx.hosts[i].host) <= 253 &&
               (!i || mx.hosts[i].preference >= mx.hosts[i - 1].preference));
    dns_mx_free(&mx);
    dns_answer_tlsa(a, &tlsa);
    assert(tlsa.n <= 100);
    dns_tlsa_free(&tlsa);
    dns_answer_texts(a, &texts);
    assert(texts.texts.n <= 100);
    dns_texts_free(&texts);
    dns_answer_addresses(a, &addrs);
    assert(addrs.n <= 100);
    dns_addrs_free(&addrs);
    for (unsigned i = 0; i < a->n; i++)
        check_text(type, &a->rdata[i]);
    dns_answer_free(&a);
}

static void check_message(const uint8_t *p, size_t n)
{
    struct dns_record *r = malloc(sizeof(*r));
    struct dns_packet m;
    char error[200];

    if (n >= 2 && dns_packet_open(&m, p, n, (unsigned)p[0] << 8 | p[1], "example", TYPE_MX))
        while (dns_packet_next(&m, r)) {
            assert(strlen(r->name) <= 253);
            check_text(r->type, &r->rdata);
            dns_packet_error(r, error, sizeof(error));
        }
    free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (*data & 1)
        check_message(data + 1, size - 1);
    else if (size > 1)
        check_records(data + 1, size - 1);
    return 0;
}
