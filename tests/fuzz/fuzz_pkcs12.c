/* fuzz_pkcs12.c - PKCS#12 files of strangers. The first byte chooses the key. What is read is
 * written, and read again the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/pkcs12.h"
#include "store/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cert_file f, again = {0};
    struct buf der = BUF_INIT(CERT_FILE_MAX);
    struct err err = {0};

    if (!size)
        return 0;
    if (pkcs12_read(data + 1, size - 1, "p", data[0] % 4, &f, &err)) {
        assert(x509_count(buf_str(&f.certificate)) == 1 && f.keys.n);
        assert(pkcs12_write(buf_str(&f.certificate), buf_str(&f.intermediates),
                            buf_str(&f.private_key), "n", "p", true, &der, &err));
        assert(pkcs12_read(der.p, der.n, "p", 0, &again, &err));
        assert(!strcmp(buf_str(&f.certificate), buf_str(&again.certificate)));
        assert(!strcmp(buf_str(&f.intermediates), buf_str(&again.intermediates)));
        cert_file_free(&again);
    } else {
        assert(err.text[0] && !f.private_key.n);
    }
    cert_file_free(&f);
    buf_free(&der);
    return 0;
}
