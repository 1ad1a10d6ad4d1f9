/* fuzz_crl.c - revocation lists as web servers send them. The first byte says whether the rest is a
 * file in PEM or the DER itself, and whether the signature is looked at. What is read must be
 * looked up within bounds, its texts must be fit for a terminal, and nobody signed it. */
#include <assert.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crl_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_fit(const char *text)
{
    assert(str_is_utf8(text, strlen(text)));
    for (; *text; text++)
        assert((unsigned char)*text >= ' ' && *text != 0x7f);
}

/* An authority of that name with a key of each kind, who has signed nothing. */
static void verify(struct crl_list *l, const struct crl_signed *sig)
{
    static EVP_PKEY *keys[3];
    STACK_OF(X509) *all = sk_X509_new_null();
    struct err err = {0};

    if (!keys[0]) {
        keys[0] = EVP_RSA_gen(1024);
        keys[1] = EVP_EC_gen("P-256");
        keys[2] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
    for (size_t i = 0; i < countof(keys); i++) {
        X509 *x = X509_new();

        X509_set_subject_name(x, l->issuer);
        X509_set_pubkey(x, keys[i]);
        sk_X509_push(all, x);
    }
    assert(!crl_verify(l, sig, all, &err));
    assert_fit(err.text);
    assert(!crl_verify(l, sig, NULL, &err));
    assert_fit(err.text);
    sk_X509_pop_free(all, X509_free);
}

static void look(struct crl_list *l)
{
    AUTO(buf) struct buf number = BUF_INIT(200);
    unsigned char serial[CRL_MAX_SERIAL + 8] = {0};
    struct crl_entry e;
    struct err err = {0};
    size_t found = 0;

    assert_fit(l->issuer_text);
    crl_number_text(l, &number);
    assert_fit(buf_str(&number));
    for (unsigned i = 0; i <= l->mask; i++)
        if (l->slots[i]) {
            const unsigned char *at = l->blob + l->slots[i] - 1;

            assert(at + 6 + *at <= (unsigned char *)l->map + l->map_size);
            assert(*at >= 1 && *at <= CRL_MAX_SERIAL);
            assert(crl_find_bytes(l, at + 6, *at, &e));
            assert_fit(crl_reason_text(e.reason));
            found++;
        }
    assert(found <= l->entries && (found > 0) == (l->entries > 0));
    for (size_t n = 0; n <= sizeof(serial); n++)
        crl_find_bytes(l, serial, n, &e);
    crl_is_outdated(l, 1700000000000000);
    assert(crl_may_follow(l, l, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(buf) struct buf store = BUF_INIT(1u << 20);
    struct crl_signed sig;
    struct crl_list *l;
    struct slice der;
    struct err err = {0};

    if (!size || size > 200000)
        return 0;
    if (!crl_decode(data + 1, size - 1, data[0] & 1, &store, &der, &err)) {
        assert_fit(err.text);
        return 0;
    }
    l = crl_parse(der, &sig, &err);
    if (l) {
        if (data[0] & 2)
            verify(l, &sig);
        look(l);
    } else {
        assert(err.text[0]);
        assert_fit(err.text);
    }
    crl_list_free(&l);
    return 0;
}
