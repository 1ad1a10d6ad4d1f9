/* TLSA answers of arbitrary records: none is lost, and what passes as usable is what OpenSSL takes.
 */
#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dane.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *rest;
static size_t left;

/* Records of usage, selector, matching type, two octets of length, data. */
static bool next_record(struct tlsa *t)
{
    if (left < 5)
        return false;
    *t = (struct tlsa){rest[0], rest[1], rest[2], (unsigned)rest[3] << 8 | rest[4], NULL};
    rest += 5;
    left -= 5;
    if (t->len > left)
        t->len = (unsigned)left;
    t->data = xmalloc(t->len ? t->len : 1);
    memcpy(t->data, rest, t->len);
    rest += t->len;
    left -= t->len;
    return true;
}

bool dns_validates(void)
{
    return true;
}

bool dns_tlsa(const char *name, msec_t deadline, struct dns_tlsa *out, struct err *err)
{
    (void)name;
    (void)deadline;
    (void)err;
    memset(out, 0, sizeof(*out));
    out->security = DNS_SECURE;
    out->records = xcalloc(201, sizeof(*out->records));
    while (out->n < 200 && next_record(&out->records[out->n]))
        out->n++;
    return true;
}

bool dns_cname(const char *name, msec_t deadline, char target[256], enum dns_security *security,
               struct err *err)
{
    (void)name;
    (void)deadline;
    (void)err;
    *target = '\0';
    *security = DNS_INSECURE;
    return true;
}

void dns_tlsa_free(struct dns_tlsa *t)
{
    for (unsigned i = 0; i < t->n; i++)
        free(t->records[i].data);
    free(t->records);
    memset(t, 0, sizeof(*t));
}

const char *dns_status_name(enum dns_status s)
{
    (void)s;
    return "";
}

static void agree_with_openssl(const uint8_t *data, size_t size)
{
    static SSL_CTX *ctx;
    SSL *ssl;
    struct tlsa t;

    if (!ctx) {
        ctx = SSL_CTX_new(TLS_client_method());
        assert(SSL_CTX_dane_enable(ctx) == 1);
    }
    ssl = SSL_new(ctx);
    assert(SSL_dane_enable(ssl, "mx.example") == 1);
    rest = data;
    left = size;
    for (int i = 0; i < 200 && next_record(&t); i++) {
        bool usable = !tlsa_unusable(&t);

        if (t.usage > 1) /* OpenSSL takes PKIX-TA and PKIX-EE, which SMTP does not */
            assert(usable ==
                   (SSL_dane_tlsa_add(ssl, t.usage, t.selector, t.matching, t.data, t.len) > 0));
        else
            assert(!usable);
        free(t.data);
    }
    ERR_clear_error();
    SSL_free(ssl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_addrs addrs = {.security = DNS_SECURE};
    unsigned records = 0;
    struct tlsa t;
    struct dane d;

    rest = data;
    left = size;
    dane_look_up("mx.example", 25, true, &addrs, NEVER, &d);
    assert(d.state == (d.n ? DANE_USABLE : DANE_UNUSABLE));
    assert(d.n <= DANE_MAX_RECORDS);
    assert(strlen(d.why) < sizeof(d.why) && (d.n == 0) == (*d.why != '\0'));
    for (unsigned i = 0; i < d.n; i++) {
        char text[40];

        assert(!tlsa_unusable(&d.records[i]));
        tlsa_format(&d.records[i], text, sizeof(text));
        assert(strlen(text) < sizeof(text));
    }
    rest = data;
    left = size;
    while (records < 200 && next_record(&t)) {
        free(t.data);
        records++;
    }
    assert(d.n + d.unusable == records);
    dane_free(&d);
    agree_with_openssl(data, size);
    return 0;
}
