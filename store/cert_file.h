/* cert_file.h - a certificate, its chain and its key out of a file of somebody else's making: PEM here, PKCS#12 in pkcs12.h.
 * Any thread, but slow on purpose where pass phrases are: on a worker. */
#ifndef POSTERN_CERT_FILE_H
#define POSTERN_CERT_FILE_H

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/base/str.h"

#define CERT_FILE_MAX (1u << 20) /* bytes of a file */
#define CERT_FILE_ROUNDS 5000000 /* of key derivation in one file: seconds. Hostile ones ask for billions */

struct cert_file {
    struct buf certificate, intermediates, private_key; /* PEM; private_key is empty when the text had none */
    struct strlist keys;      /* of a file with several keys: what each is called, "mail (C=US,CN=mail.example.com)" */
    struct strlist strangers; /* certificates of the file that are not part of the chain: left out */
    bool old_cipher;          /* protected with RC2, 3DES or DES */
    bool open_key;            /* the private key was not protected at all */
};
void cert_file_init(struct cert_file *b);
void cert_file_free(struct cert_file *b); /* cleanses the key */

/* A text with certificates in any order and at most one private key, which may be protected by pass. Without a key the first
 * certificate that is not an authority's is the leaf. E_DENIED: wrong or missing pass phrase. */
bool pem_read(const char *text, size_t n, const char *pass, struct cert_file *out, struct err *err);

#endif
