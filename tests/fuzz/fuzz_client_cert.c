/* fuzz_client_cert.c - a client's certificate, in DER. It is its own authority and its dates do not
 * count, so that most of what the mutator makes gets to where names are taken. Whatever comes: a
 * valid one has names without control characters, whole, and what is shown of any can be printed.
 */
#include "daemon/client_cert.h"

#include <assert.h>
#include <openssl/err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crl.h"
#include "daemon/trust.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

bool crl_chain_ok(enum crl_use use, STACK_OF(X509) * chain, char *why, size_t size)
{
    (void)use;
    (void)why;
    (void)size;
    assert(sk_X509_num(chain) > 0);
    return true;
}

X509_STORE *running_trust(void)
{
    return X509_STORE_new();
}

STACK_OF(X509_NAME) * running_trust_names(void)
{
    return NULL;
}

static void check_name(const char *name, size_t size)
{
    size_t n = strnlen(name, size);

    assert(n < size && str_is_utf8(name, n));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];

        assert(c >= ' ' && c != 0x7f && !(c == 0xc2 && (unsigned char)name[i + 1] < 0xa0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const unsigned char *p = data;
    X509 *cert = d2i_X509(NULL, &p, (long)size);
    X509_STORE *store;
    struct client_cert *c;

    ERR_clear_error();
    if (!cert)
        return 0;
    store = X509_STORE_new();
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME);
    X509_STORE_add_cert(store, cert);
    ERR_clear_error();
    c = xcalloc(1, sizeof(*c));
    client_cert_check(cert, NULL, store, data[size - 1] & 1, c);
    assert(ERR_peek_error() == 0);
    assert(c->state == (*c->why ? CLIENT_CERT_INVALID : CLIENT_CERT_VALID));
    check_name(c->subject, sizeof(c->subject));
    check_name(c->why, sizeof(c->why));
    if (c->state == CLIENT_CERT_VALID) {
        check_name(c->cn, sizeof(c->cn));
        check_name(c->email, sizeof(c->email));
        check_name(c->upn, sizeof(c->upn));
        check_name(c->dn, sizeof(c->dn));
        check_name(c->issuer, sizeof(c->issuer));
        assert(strlen(c->fp) == 64 && strspn(c->fp, "0123456789ABCDEF") == 64);
        assert(*c->sn && strlen(c->sn) % 2 == 0 &&
               strspn(c->sn, "0123456789ABCDEF") == strlen(c->sn));
    }
    free(c);
    X509_STORE_free(store);
    X509_free(cert);
    return 0;
}
