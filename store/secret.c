/* secret.c - see secret.h. The key file holds 64 bytes: 32 that wrap data keys, 32 that key the
 * fingerprints. Read once at the start and kept in memory that is neither swapped nor dumped; only
 * the thread that owns the database calls. */
#include "store/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/str.h"

#define KEY_BYTES 32
#define NONCE 12
#define TAG 16
#define WRAPPED (NONCE + KEY_BYTES + TAG)

static unsigned char *keys; /* KEY_BYTES to wrap, KEY_BYTES for fingerprints */

static bool read_all(int fd, unsigned char *p, size_t n)
{
    for (ssize_t got; n; p += got, n -= (size_t)got) {
        got = read(fd, p, n);
        if (got <= 0)
            return false;
    }
    return true;
}

static bool make_file(const char *path, struct err *err)
{
    char *fresh = xasprintf("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0400);
    bool ok = fd >= 0 && RAND_bytes(keys, 2 * KEY_BYTES) == 1 &&
              write(fd, keys, 2 * KEY_BYTES) == 2 * KEY_BYTES && fsync(fd) == 0;

    if (fd >= 0 && close(fd) != 0)
        ok = false;
    ok = ok && rename(fresh, path) == 0;
    if (!ok)
        err_errno(err, errno, "making the key file %s", path);
    free(fresh);
    return ok;
}

bool secret_init(const char *home, struct err *err)
{
    char *path = xasprintf("%s/seal.key", home);
    struct stat st;
    bool ok = true;
    int fd;

    if (!keys) {
        keys =
            mmap(NULL, 2 * KEY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (keys == MAP_FAILED)
            abort();
        mlock(
            keys,
            2 * KEY_BYTES); /* may be over the limit of locked memory; swapping is then the risk */
        madvise(keys, 2 * KEY_BYTES, MADV_DONTDUMP);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        ok = make_file(path, err);
    else if (fd < 0)
        ok = err_errno(err, errno, "opening the key file %s", path);
    else if (fstat(fd, &st) != 0 || st.st_size != 2 * KEY_BYTES ||
             !read_all(fd, keys, 2 * KEY_BYTES))
        ok = err_set(err, E_IO,
                     "The key file %s is damaged; restore it from a backup, without it no private "
                     "key can be read.",
                     path);
    else if (st.st_mode & 077)
        ok = err_set(
            err, E_IO,
            "The key file %s is readable by others; make it 0400 and replace the keys it protects.",
            path);
    if (fd >= 0)
        close(fd);
    free(path);
    return ok;
}

/* AES-256-GCM; out gets n bytes and the tag behind them (sealing) or n - TAG bytes (opening). */
static bool gcm(bool seal, const unsigned char key[KEY_BYTES], const unsigned char nonce[NONCE],
                const char *aad, const unsigned char *in, size_t n, unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t body = seal ? n : n - TAG;
    int len = 0, ok;

    ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, seal) &&
         EVP_CipherUpdate(ctx, NULL, &len, (const unsigned char *)aad, (int)strlen(aad)) &&
         EVP_CipherUpdate(ctx, out, &len, in, (int)body);
    if (ok && !seal)
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, (void *)(in + body));
    ok = ok && EVP_CipherFinal_ex(ctx, out + len, &len);
    if (ok && seal)
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, out + body);
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static void to_hex(const unsigned char *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

static void fingerprint(const char *kind, const char *plain, size_t n, char out[33])
{
    unsigned char *text = xmalloc(strlen(kind) + 1 + n), mac[32];
    unsigned len = sizeof(mac);

    memcpy(text, kind, strlen(kind) + 1);
    memcpy(text + strlen(kind) + 1, plain, n);
    HMAC(EVP_sha256(), keys + KEY_BYTES, KEY_BYTES, text, strlen(kind) + 1 + n, mac, &len);
    OPENSSL_cleanse(text, strlen(kind) + 1 + n);
    free(text);
    to_hex(mac, 16, out);
}

static bool sql_error(sqlite3 *db, struct err *err, const char *what)
{
    return err_set(err, E_IO, "%s: %s", what, sqlite3_errmsg(db));
}

/* Taking a secret up again makes it new: what is old and named nowhere is pruned. */
static char *find_by_fingerprint(sqlite3 *db, const char *fp)
{
    sqlite3_stmt *st;
    char *ref = NULL;

    if (sqlite3_prepare_v2(db, "UPDATE secret SET created_us=?2 WHERE fp=?1 RETURNING id", -1, &st,
                           NULL) != SQLITE_OK)
        return NULL;
    sqlite3_bind_text(st, 1, fp, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, clock_wall());
    if (sqlite3_step(st) == SQLITE_ROW)
        ref = xasprintf("sealed:%s:%s", (const char *)sqlite3_column_text(st, 0), fp);
    sqlite3_finalize(st);
    return ref;
}

bool secret_seal(sqlite3 *db, const char *kind, const char *plain, size_t n, char **ref,
                 struct err *err)
{
    unsigned char raw_id[8], dek[KEY_BYTES], nonce[NONCE], wrapped[WRAPPED], *ct;
    char id[17], fp[33], *aad;
    sqlite3_stmt *st = NULL;
    bool ok;

    fingerprint(kind, plain, n, fp);
    *ref = find_by_fingerprint(db, fp);
    if (*ref)
        return true;
    if (RAND_bytes(raw_id, sizeof(raw_id)) != 1 || RAND_bytes(dek, sizeof(dek)) != 1 ||
        RAND_bytes(nonce, sizeof(nonce)) != 1 || RAND_bytes(wrapped, NONCE) != 1)
        return err_set(err, E_IO, "sealing a secret: no random numbers");
    to_hex(raw_id, sizeof(raw_id), id);
    aad = xasprintf("%s:%s", id, kind);
    ct = xmalloc(n + TAG);
    ok = gcm(true, dek, nonce, aad, (const unsigned char *)plain, n, ct) &&
         gcm(true, keys, wrapped, aad, dek, sizeof(dek), wrapped + NONCE);
    OPENSSL_cleanse(dek, sizeof(dek));
    if (!ok) {
        err_set(err, E_IO, "sealing a secret: the cipher failed");
    } else if (sqlite3_prepare_v2(db,
                                  "INSERT INTO secret(id,kind,fp,wrapped_dek,nonce,ct,created_us) "
                                  "VALUES(?1,?2,?3,?4,?5,?6,?7)",
                                  -1, &st, NULL) != SQLITE_OK) {
        ok = sql_error(db, err, "sealing a secret");
    } else {
        sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, kind, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 3, fp, -1, SQLITE_STATIC);
        sqlite3_bind_blob(st, 4, wrapped, sizeof(wrapped), SQLITE_STATIC);
        sqlite3_bind_blob(st, 5, nonce, sizeof(nonce), SQLITE_STATIC);
        sqlite3_bind_blob(st, 6, ct, (int)(n + TAG), SQLITE_STATIC);
        sqlite3_bind_int64(st, 7, clock_wall());
        ok = sqlite3_step(st) == SQLITE_DONE || sql_error(db, err, "sealing a secret");
    }
    sqlite3_finalize(st);
    if (ok)
        *ref = xasprintf("sealed:%s:%s", id, fp);
    free(ct);
    free(aad);
    return ok;
}

/* "sealed:ID:FP" -> ID */
static bool parse_ref(const char *ref, char id[17])
{
    if (!str_starts(ref, "sealed:") || strlen(ref) != 7 + 16 + 1 + 32 || ref[23] != ':')
        return false;
    memcpy(id, ref + 7, 16);
    id[16] = '\0';
    return true;
}

bool secret_open(sqlite3 *db, const char *ref, struct buf *plain, struct err *err)
{
    unsigned char dek[KEY_BYTES];
    sqlite3_stmt *st = NULL;
    bool ok = false;
    char id[17];

    if (!parse_ref(ref, id))
        return err_set(err, E_INVALID,
                       "this is not a reference to a sealed secret"); /* it may be one */
    if (sqlite3_prepare_v2(db, "SELECT kind,wrapped_dek,nonce,ct FROM secret WHERE id=?1", -1, &st,
                           NULL) != SQLITE_OK)
        return sql_error(db, err, "opening a secret");
    sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    if (sqlite3_step(st) != SQLITE_ROW) {
        err_set(err, E_NOT_FOUND, "the secret %s is not on this machine", secret_fingerprint(ref));
    } else if (sqlite3_column_bytes(st, 1) != WRAPPED || sqlite3_column_bytes(st, 2) != NONCE ||
               sqlite3_column_bytes(st, 3) < TAG) {
        err_set(err, E_IO, "the secret %s is damaged", secret_fingerprint(ref));
    } else {
        char *aad = xasprintf("%s:%s", id, (const char *)sqlite3_column_text(st, 0));
        const unsigned char *wrapped = sqlite3_column_blob(st, 1);
        size_t n = (size_t)sqlite3_column_bytes(st, 3);
        char *out = buf_reserve(plain, n);

        ok = out && gcm(false, keys, wrapped, aad, wrapped + NONCE, KEY_BYTES + TAG, dek) &&
             gcm(false, dek, sqlite3_column_blob(st, 2), aad, sqlite3_column_blob(st, 3), n,
                 (unsigned char *)out);
        OPENSSL_cleanse(dek, sizeof(dek));
        free(aad);
        if (ok) {
            plain->n += n - TAG;
            plain->p[plain->n] = '\0';
        } else {
            err_set(err, E_IO,
                    "the secret %s does not open with this machine's key file (seal.key)",
                    secret_fingerprint(ref));
        }
    }
    sqlite3_finalize(st);
    return ok;
}

const char *secret_fingerprint(const char *ref)
{
    static __thread char ring[8][12];
    static __thread unsigned turn;
    char *out = ring[turn++ % 8];
    const char *colon = strrchr(ref, ':');

    snprintf(out, sizeof(ring[0]), "k:%.6s", colon ? colon + 1 : "");
    return out;
}
