/* cert_file.c - see cert_file.h. */
#include "store/cert_file.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "store/pkcs12.h"
#include "store/x509.h"
#include "store/x509_lib.h"

void cert_file_init(struct cert_file *b)
{
    *b = (struct cert_file){.certificate = BUF_INIT(64u << 10),
                            .intermediates = BUF_INIT(256u << 10),
                            .private_key = BUF_INIT(64u << 10)};
}

void cert_file_free(struct cert_file *b)
{
    if (b->private_key.p)
        OPENSSL_cleanse(b->private_key.p, b->private_key.cap);
    buf_free(&b->certificate);
    buf_free(&b->intermediates);
    buf_free(&b->private_key);
    strlist_free(&b->keys);
    strlist_free(&b->strangers);
}

/* The next "-----BEGIN label-----" ... "-----END label-----" from *p on; false: no more. */
static bool next_block(const char **p, struct slice *block, struct slice *label)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ";
    const char *start = strstr(*p, begin), *dashes, *last;

    if (!start)
        return false;
    label->p = start + strlen(begin);
    dashes = strstr(label->p, "-----");
    last = dashes ? strstr(dashes, end) : NULL;
    label->n = dashes ? (size_t)(dashes - label->p) : 0;
    block->p = start;
    last = last ? strchr(last, '\n') : NULL;
    block->n = last ? (size_t)(last + 1 - start) : strlen(start);
    *p = block->p + block->n;
    return true;
}

static int give_pass(char *out, int size, int rwflag, void *pass)
{
    size_t n = pass ? strlen(pass) : 0;

    (void)rwflag;
    if (!n || n > (size_t)size)
        return -1;
    memcpy(out, pass, n);
    return (int)n;
}

static bool check_rounds(struct slice block, struct err *err)
{
    AUTO_BIO b = BIO_new_mem_buf(block.p, (int)block.n);
    X509_SIG *sig = PEM_read_bio_PKCS8(b, NULL, no_pass_phrase, NULL);
    const X509_ALGOR *algorithm = NULL;
    bool old;
    uint64_t rounds = 0;
    bool ok = true;

    if (sig) {
        X509_SIG_get0(sig, &algorithm, NULL);
        ok = pkcs12_rounds(algorithm, &rounds, &old, err);
    }
    X509_SIG_free(sig);
    ERR_clear_error();
    return ok;
}

static bool read_private(struct slice block, struct slice label, const char *pass,
                         struct cert_file *out, struct err *err)
{
    AUTO_BIO b = BIO_new_mem_buf(block.p, (int)block.n);
    AUTO_PKEY k = NULL;
    bool closed = slice_eq(label, "ENCRYPTED PRIVATE KEY") ||
                  memmem(block.p, block.n, "Proc-Type: 4,ENCRYPTED", 22);

    if (out->private_key.n)
        return err_set(err, E_CONFLICT,
                       "The file holds several private keys. Leave the one that belongs to the "
                       "certificate.");
    if (closed && !check_rounds(block, err))
        return false;
    out->open_key = !closed;
    if (closed && (!pass || !*pass))
        return err_set(err, E_DENIED, "The private key is protected by a pass phrase. Give it.");
    k = PEM_read_bio_PrivateKey(b, NULL, give_pass, (void *)(uintptr_t)pass);
    ERR_clear_error();
    if (k)
        return key_is_usable(k, err) && pem_add_key(&out->private_key, k, err);
    return closed ? err_set(err, E_DENIED,
                            "The pass phrase of the private key is wrong, or the key is damaged.")
                  : err_set(err, E_INVALID,
                            "The private key is damaged or incomplete, or of a kind that cannot be "
                            "read. Take it anew from where it came.");
}

static bool is_certificate(struct slice label)
{
    return slice_eq(label, "CERTIFICATE") || slice_eq(label, "X509 CERTIFICATE") ||
           slice_eq(label, "TRUSTED CERTIFICATE");
}

static bool ends_with(struct slice s, const char *suffix)
{
    size_t n = strlen(suffix);

    return s.n >= n && !memcmp(s.p + s.n - n, suffix, n);
}

/* The one the key belongs to, or without a key the first that is no authority. */
static bool find_leaf(const char *pool, struct cert_file *out, struct err *err)
{
    X509 **all = xcalloc(X509_MAX_POOL, sizeof(*all));
    AUTO_PKEY key = out->private_key.n ? pem_key(buf_str(&out->private_key), err) : NULL;
    int n = pem_all(pool, all, X509_MAX_POOL, err), found = -1;

    for (int i = 0; found < 0 && i < n; i++)
        if (key ? X509_get0_pubkey(all[i]) && EVP_PKEY_eq(X509_get0_pubkey(all[i]), key) == 1
                : X509_check_ca(all[i]) == 0)
            found = i;
    if (found < 0 && n > 0 && !key)
        found = 0;
    ERR_clear_error();
    if (found >= 0 && !pem_add(&out->certificate, all[found]))
        err_set(err, E_LIMIT, "The certificate is too long.");
    else if (found < 0 && n >= 0)
        err_set(err, E_INVALID,
                n ? "None of the certificates belongs to the private key. Add the certificate that "
                    "was issued for it."
                  : "There is no certificate in the file. It begins with the line "
                    "\"-----BEGIN CERTIFICATE-----\".");
    for (int i = 0; i < n; i++)
        X509_free(all[i]);
    free(all);
    return out->certificate.n;
}

static bool check_text(const char *text, size_t n, struct err *err)
{
    if (n > CERT_FILE_MAX * 2)
        return err_set(err, E_LIMIT, "A file may have at most %u bytes.", CERT_FILE_MAX);
    if (memchr(text, '\0', n) || !memmem(text, n, "-----BEGIN ", 11))
        return err_set(err, E_INVALID,
                       "This is neither a PEM text nor a PKCS#12 file. A PEM text has the line "
                       "\"-----BEGIN CERTIFICATE-----\".");
    return true;
}

bool pem_read(const char *text, size_t n, const char *pass, struct cert_file *out, struct err *err)
{
    AUTO(buf) struct buf pool = BUF_INIT(CERT_FILE_MAX * 2 + 4);
    struct slice block, label;
    const char *p = text;
    size_t certificates = 0;
    bool ok;

    cert_file_init(out);
    ok = check_text(text, n, err);
    while (ok && next_block(&p, &block, &label)) {
        if (ends_with(label, "PRIVATE KEY")) {
            ok = read_private(block, label, pass, out, err);
        } else if (is_certificate(label)) {
            buf_add(&pool, block.p, block.n);
            buf_char(&pool, '\n');
            ok = ++certificates <= X509_MAX_POOL ||
                 err_set(err, E_LIMIT,
                         "The file holds more than %d certificates. Leave those of the chain and "
                         "take the others out.",
                         X509_MAX_POOL);
        }
    }
    return ok && find_leaf(buf_str(&pool), out, err) &&
           x509_pick_chain(buf_str(&out->certificate), buf_str(&pool), &out->intermediates,
                           &out->strangers, err);
}
