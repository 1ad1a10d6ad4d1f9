/* secret.h - sealing of private keys and passwords. Daemon only (the console never holds the key file).
 *
 * Each secret has a random data key, AES-256-GCM, additional data = id and kind; the data key is wrapped by the key file
 * HOME/seal.key (0400). The fingerprint is a keyed digest: stable here, useless elsewhere. A row's field holds the
 * reference "sealed:ID:FP". The key file protects backups and stolen database copies, not a stolen disk with both. */
#ifndef POSTERN_SECRET_H
#define POSTERN_SECRET_H

#include <sqlite3.h>

#include "store/base/buf.h"
#include "store/base/err.h"

bool secret_init(const char *home, struct err *err); /* reads or makes the key file */
/* Stores the secret (same plain text and kind: same reference again). ref is freed by the caller. */
bool secret_seal(sqlite3 *db, const char *kind, const char *plain, size_t n, char **ref, struct err *err);
bool secret_open(sqlite3 *db, const char *ref, struct buf *plain, struct err *err); /* plain: cleanse after use */
const char *secret_fingerprint(const char *ref);     /* "k:9c41e2", for display */

#endif
