/* fuzz_x509.c - certificates, chains and keys as they are pasted or come in PEM files. The first
 * byte says whether what follows is the text itself or the bytes of certificates that are put into
 * a text, so that damage gets beyond base64. What the facts and findings say must be fit for a
 * terminal; what was taken in reads the same again. */
#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "store/cert_file.h"
#include "store/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_block(struct buf *out, const uint8_t *p, size_t n)
{
    unsigned char *base64 = xmalloc(n / 3 * 4 + 8);

    EVP_EncodeBlock(base64, p, (int)n);
    buf_str_add(out, "-----BEGIN CERTIFICATE-----\n");
    for (size_t i = 0, m = strlen((char *)base64); i < m; i += 64)
        buf_printf(out, "%.64s\n", base64 + i);
    buf_str_add(out, "-----END CERTIFICATE-----\n");
    free(base64);
}

/* Certificates of two bytes of length and their DER. */
static void add_der(struct buf *out, const uint8_t *p, size_t n)
{
    while (n > 2) {
        size_t length = (size_t)p[0] << 8 | p[1];

        p += 2;
        n -= 2;
        length = length > n ? n : length;
        add_block(out, p, length);
        p += length;
        n -= length;
    }
}

static void assert_fit(const char *text)
{
    assert(str_is_utf8(text, strlen(text)));
    for (; *text; text++)
        assert((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void look(const char *text)
{
    struct x509_facts f;
    struct x509_findings found = {0};
    struct err err = {0};
    char *host[] = {(char *)"mail.example.com"};
    const struct strlist hosts = {host, 1, 1};
    const struct x509_subject s = {.certificate = text,
                                   .intermediates = text,
                                   .hosts = &hosts,
                                   .server = true,
                                   .client = true,
                                   .now = 1700000000000000};

    if (x509_read(text, &f, &err)) {
        const char *texts[] = {f.subject, f.issuer, f.common_name, f.issued_by,
                               f.key,     f.serial, f.signature,   f.sha256};

        for (size_t i = 0; i < countof(texts); i++)
            assert_fit(texts[i]);
        for (size_t i = 0; i < f.names.n; i++)
            assert_fit(f.names.items[i]);
        x509_check_fqdn(&f, &err);
    } else {
        assert(err.text[0]);
    }
    x509_facts_free(&f);
    x509_check(&s, &found);
    for (size_t i = 0; i < found.n; i++)
        assert_fit(found.items[i].text);
    x509_findings_free(&found);
}

static void take_in(const char *text, size_t n)
{
    struct cert_file f;
    struct buf again = BUF_INIT(512u << 10);
    struct err err = {0};

    if (pem_read(text, n, "pass", &f, &err)) {
        assert(x509_count(buf_str(&f.certificate)) == 1);
        assert(x509_order_chain(buf_str(&f.certificate), buf_str(&f.intermediates), &again, NULL));
        assert(!strcmp(buf_str(&again), buf_str(&f.intermediates)));
        assert(!f.private_key.n ||
               x509_key_matches(buf_str(&f.certificate), buf_str(&f.private_key), NULL));
    } else {
        assert(err.text[0]);
    }
    buf_free(&again);
    cert_file_free(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = BUF_INIT(CERT_FILE_MAX);

    if (!size || size > 100000)
        return 0;
    setenv("SSL_CERT_FILE", "/dev/null",
           1); /* the machine's authorities are not part of the input */
    if (data[0] & 1)
        buf_add(&text, data + 1, size - 1);
    else
        add_der(&text, data + 1, size - 1);
    if (!text.full) {
        take_in(buf_str(&text), text.n);
        look(buf_str(&text));
    }
    buf_free(&text);
    return 0;
}
