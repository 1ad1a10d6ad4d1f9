/* password.c - see password.h.
 *
 * Limits on what one check may cost, each about a second of one processor at most: whoever may
 * write the attribute of one user must not stop the authentication of all others. Memory of one
 * check: 128 MiB, of all: as many as there are workers. */
#include "daemon/password.h"

#include <argon2.h>
#include <crypt.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "daemon/worker.h"
#include "store/base/str.h"

#define STORED_MAX 8192u
#define GIVEN_MAX 1024u
#define SHA_CRYPT_MAX_ROUNDS 2000000u
#define BCRYPT_MAX_COST 14u
#define CRYPT_MAX_LOG2_MEMORY 26u /* of yescrypt and scrypt: 64 MiB */
#define PBKDF2_MAX_ROUNDS 2000000u
#define ARGON2_MAX_KIB 131072u
#define ARGON2_MAX_KIB_PASSES 1048576u /* memory times passes */
#define ARGON2_MOST_LANES 8u

static const char itoa64[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* What a scheme checks: its name, the value behind the braces, the password. */
struct check {
    const struct scheme *scheme;
    const char *value, *given; /* value: NUL-terminated */
    enum password_match match;
};

struct scheme {
    const char *name;
    enum password_match (*check)(const struct check *c);
    const char *digest; /* for EVP_get_digestbyname */
    bool salted, costly;
};

static enum password_match verdict(bool same)
{
    return same ? PASSWORD_RIGHT : PASSWORD_WRONG;
}

/* Digits only, at most max; *end: what follows them. */
static bool number(const char *text, unsigned max, unsigned *out, const char **end)
{
    unsigned long v;
    size_t n = strspn(text, "0123456789");

    if (!n || n > 9)
        return false;
    v = strtoul(text, NULL, 10);
    *out = (unsigned)v;
    *end = text + n;
    return v && v <= max;
}

/* --- clear text and digests --- */

static bool digest_of(const EVP_MD *md, const void *a, size_t na, const void *b, size_t nb,
                      unsigned char *out)
{
    EVP_MD_CTX *x = EVP_MD_CTX_new();
    bool ok = x && EVP_DigestInit_ex(x, md, NULL) == 1 && EVP_DigestUpdate(x, a, na) == 1 &&
              EVP_DigestUpdate(x, b, nb) == 1 && EVP_DigestFinal_ex(x, out, NULL) == 1;

    EVP_MD_CTX_free(x);
    return ok;
}

/* By their digests, so that not even the length shows. */
static enum password_match check_clear(const struct check *c)
{
    unsigned char a[EVP_MAX_MD_SIZE] = {0}, b[EVP_MAX_MD_SIZE] = {1};
    bool same = digest_of(EVP_sha256(), c->value, strlen(c->value), "", 0, a) &&
                digest_of(EVP_sha256(), c->given, strlen(c->given), "", 0, b) &&
                !CRYPTO_memcmp(a, b, 32);

    OPENSSL_cleanse(a, sizeof(a));
    OPENSSL_cleanse(b, sizeof(b));
    return verdict(same);
}

static enum password_match check_digest(const struct check *c)
{
    const EVP_MD *md = EVP_get_digestbyname(c->scheme->digest);
    unsigned char raw[EVP_MAX_MD_SIZE + 256], own[EVP_MAX_MD_SIZE];
    size_t n, size = md ? (size_t)EVP_MD_get_size(md) : 0;

    if (!md || !base64_decode(slice_of(c->value), false, raw, sizeof(raw), &n) || n < size ||
        (n > size) != c->scheme->salted ||
        !digest_of(md, c->given, strlen(c->given), raw + size, n - size, own))
        return PASSWORD_UNKNOWN_SCHEME;
    return verdict(!CRYPTO_memcmp(raw, own, size));
}

/* --- crypt(3) --- */

/* One digit of crypt's base 64. */
static bool digit(char c, unsigned *out)
{
    const char *at = c ? strchr(itoa64, c) : NULL;

    *out = at ? (unsigned)(at - itoa64) : 0;
    return at != NULL;
}

/* "$y$j9T$SALT$...": flavour, log2 of N less one, r less one, each in one digit, and nothing else;
 * more is for ROMs and parallel chains, which nothing writes. */
static bool yescrypt_fits(const char *params)
{
    unsigned flavour, n, r, log2_r = 0;

    if (!digit(params[0], &flavour) || !digit(params[1], &n) || !digit(params[2], &r) ||
        params[3] != '$' || n >= 48 || r >= 48)
        return false;
    while (1U << log2_r < r + 1)
        log2_r++;
    return n + 1 + log2_r + 7 <= CRYPT_MAX_LOG2_MEMORY;
}

/* "$7$CU..../....SALT$": log2 of N in one digit, r and p in five each, the lowest first. */
static bool scrypt_fits(const char *params)
{
    unsigned v[11], log2_r = 0, r;

    for (size_t i = 0; i < countof(v); i++)
        if (!digit(params[i], &v[i]))
            return false;
    r = v[1] | v[2] << 6;
    if (!r || v[3] || v[4] || v[5] || v[6] > 4 || !v[6] || v[7] || v[8] || v[9] || v[10])
        return false;
    while (1U << log2_r < r)
        log2_r++;
    return v[0] + log2_r + 7 <= CRYPT_MAX_LOG2_MEMORY;
}

/* Does crypt know the method, and end within the limits? */
static bool crypt_fits(const char *v)
{
    const char *end;
    unsigned n;

    if (str_starts(v, "$1$"))
        return true;
    if (str_starts(v, "$5$") || str_starts(v, "$6$"))
        return !str_starts(v + 3, "rounds=") || number(v + 10, SHA_CRYPT_MAX_ROUNDS, &n, &end);
    if (str_starts(v, "$2a$") || str_starts(v, "$2b$") || str_starts(v, "$2y$"))
        return number(v + 4, BCRYPT_MAX_COST, &n, &end) && end == v + 6 && *end == '$';
    if (str_starts(v, "$y$"))
        return yescrypt_fits(v + 3);
    if (str_starts(v, "$gy$"))
        return yescrypt_fits(v + 4);
    if (str_starts(v, "$7$"))
        return scrypt_fits(v + 3);
    return strlen(v) == 13 && strspn(v, itoa64) == 13;
}

static enum password_match check_crypt(const struct check *c)
{
    struct crypt_data *data;
    enum password_match m = PASSWORD_UNKNOWN_SCHEME;
    size_t n = strlen(c->value);
    const char *own;

    if (!crypt_fits(c->value))
        return m;
    data = xcalloc(1, sizeof(*data)); /* 32 KiB */
    own = crypt_r(c->given, c->value, data);
    if (own && *own != '*') /* "*0" and "*1" are its ways to fail */
        m = verdict(strlen(own) == n && !CRYPTO_memcmp(own, c->value, n));
    OPENSSL_cleanse(data, sizeof(*data));
    free(data);
    return m;
}

/* --- PBKDF2, Argon2 --- */

/* What pw-pbkdf2 writes: base64 without padding, "." for "+". */
static bool adapted_base64(const char *p, size_t len, unsigned char *out, size_t size, size_t *n)
{
    char copy[256];

    if (len >= sizeof(copy))
        return false;
    for (size_t i = 0; i < len; i++)
        copy[i] = (char)(p[i] == '.' ? '+' : p[i]);
    return base64_decode((struct slice){copy, len}, false, out, size, n);
}

static enum password_match check_pbkdf2(const struct check *c)
{
    const EVP_MD *md = EVP_get_digestbyname(c->scheme->digest);
    unsigned char salt[128], key[EVP_MAX_MD_SIZE], own[EVP_MAX_MD_SIZE];
    const char *at, *dollar;
    size_t nsalt, nkey;
    unsigned rounds;

    if (!md || !number(c->value, PBKDF2_MAX_ROUNDS, &rounds, &at) || *at++ != '$')
        return PASSWORD_UNKNOWN_SCHEME;
    dollar = strchr(at, '$');
    if (!dollar || !adapted_base64(at, (size_t)(dollar - at), salt, sizeof(salt), &nsalt) ||
        !adapted_base64(dollar + 1, strlen(dollar + 1), key, sizeof(key), &nkey) ||
        nkey != (size_t)EVP_MD_get_size(md) ||
        PKCS5_PBKDF2_HMAC(c->given, (int)strlen(c->given), salt, (int)nsalt, (int)rounds, md,
                          (int)nkey, own) != 1)
        return PASSWORD_UNKNOWN_SCHEME;
    return verdict(!CRYPTO_memcmp(key, own, nkey));
}

/* "$argon2id$v=19$m=65536,t=3,p=1$SALT$HASH"; older values have no version. */
static bool argon2_fits(const char *v, argon2_type *type)
{
    unsigned version, m, t, p;

    if (str_starts(v, "$argon2id$"))
        *type = Argon2_id;
    else if (str_starts(v, "$argon2i$"))
        *type = Argon2_i;
    else if (str_starts(v, "$argon2d$"))
        *type = Argon2_d;
    else
        return false;
    v = strchr(v + 1, '$') + 1;
    if (str_starts(v, "v=") && (!number(v + 2, 19, &version, &v) || *v++ != '$'))
        return false;
    return str_starts(v, "m=") && number(v + 2, ARGON2_MAX_KIB, &m, &v) && str_starts(v, ",t=") &&
           number(v + 3, ARGON2_MAX_KIB_PASSES, &t, &v) && str_starts(v, ",p=") &&
           number(v + 3, ARGON2_MOST_LANES, &p, &v) && *v == '$' &&
           (uint64_t)m * t <= ARGON2_MAX_KIB_PASSES;
}

static enum password_match check_argon2(const struct check *c)
{
    argon2_type type;
    int rc;

    if (!argon2_fits(c->value, &type))
        return PASSWORD_UNKNOWN_SCHEME;
    rc = argon2_verify(c->value, c->given, strlen(c->given), type); /* compares in constant time */
    return rc == ARGON2_OK                ? PASSWORD_RIGHT
           : rc == ARGON2_VERIFY_MISMATCH ? PASSWORD_WRONG
                                          : PASSWORD_UNKNOWN_SCHEME;
}

/* --- SCRAM --- */

static bool hmac(const unsigned char key[SCRAM_KEY], const char *text, unsigned char out[SCRAM_KEY])
{
    return HMAC(EVP_sha256(), key, SCRAM_KEY, (const unsigned char *)text, strlen(text), out,
                NULL) != NULL;
}

/* RFC 5802 section 3: SaltedPassword. */
static bool salted_password(const char *password, const unsigned char *salt, size_t nsalt,
                            unsigned iterations, unsigned char out[SCRAM_KEY])
{
    char *prepared = NULL;
    bool ok;

    if (gsasl_saslprep(password, GSASL_ALLOW_UNASSIGNED, &prepared, NULL) != GSASL_OK)
        prepared = NULL;
    if (prepared)
        password = prepared;
    ok = PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)nsalt, (int)iterations,
                           EVP_sha256(), SCRAM_KEY, out) == 1;
    if (prepared)
        OPENSSL_cleanse(prepared, strlen(prepared));
    gsasl_free(prepared);
    return ok;
}

static bool scram_keys_of(const char *password, struct scram_keys *k)
{
    unsigned char salted[SCRAM_KEY], client[SCRAM_KEY];
    bool ok = salted_password(password, k->salt, k->nsalt, k->iterations, salted) &&
              hmac(salted, "Client Key", client) &&
              digest_of(EVP_sha256(), client, SCRAM_KEY, "", 0, k->stored_key) &&
              hmac(salted, "Server Key", k->server_key);

    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client, sizeof(client));
    return ok;
}

struct derivation {
    const char *password;
    struct scram_keys *keys;
    unsigned char *salted; /* only this far */
};

static bool derive(void *arg, struct err *err)
{
    struct derivation *d = arg;
    struct scram_keys *k = d->keys;

    (void)err;
    return d->salted ? salted_password(d->password, k->salt, k->nsalt, k->iterations, d->salted)
                     : scram_keys_of(d->password, k);
}

static bool fits_scram(const char *password, unsigned long long iterations)
{
    return iterations && iterations <= SCRAM_MAX_ITERATIONS && strlen(password) <= GIVEN_MAX;
}

bool password_derive_scram(const char *password, struct scram_keys *keys)
{
    struct derivation d = {password, keys, NULL};

    return fits_scram(password, keys->iterations) && worker_call(derive, &d, NULL);
}

bool password_salt_scram(const char *password, const char *salt, unsigned long long iterations,
                         unsigned char out[SCRAM_KEY])
{
    struct scram_keys keys = {.iterations = (unsigned)iterations};
    struct derivation d = {password, &keys, out};

    return fits_scram(password, iterations) &&
           base64_decode(slice_of(salt), true, keys.salt, sizeof(keys.salt), &keys.nsalt) &&
           keys.nsalt && worker_call(derive, &d, NULL);
}

static bool scram_part(const char **at, char until, unsigned char *out, size_t size, size_t *n)
{
    size_t len = until ? strcspn(*at, until == ':' ? ":," : "$,") : strlen(*at);
    bool ok = base64_decode((struct slice){*at, len}, false, out, size, n);

    *at += len;
    if (until && **at)
        (*at)++;
    return ok && *n;
}

/* "4096:SALT$STOREDKEY:SERVERKEY", or with commas between all of them as GNU SASL and Dovecot write
 * it. */
static bool parse_scram(const char *v, struct scram_keys *k)
{
    size_t n, m;

    return number(v, SCRAM_MAX_ITERATIONS, &k->iterations, &v) && (*v == ':' || *v == ',') && v++ &&
           scram_part(&v, '$', k->salt, sizeof(k->salt), &k->nsalt) &&
           scram_part(&v, ':', k->stored_key, SCRAM_KEY, &n) && n == SCRAM_KEY &&
           scram_part(&v, '\0', k->server_key, SCRAM_KEY, &m) && m == SCRAM_KEY;
}

static enum password_match check_scram(const struct check *c)
{
    struct scram_keys k = {0}, own;
    enum password_match m = PASSWORD_UNKNOWN_SCHEME;

    if (!parse_scram(c->value, &k))
        return m;
    own = k;
    if (scram_keys_of(c->given, &own))
        m = verdict(!CRYPTO_memcmp(k.stored_key, own.stored_key, SCRAM_KEY));
    OPENSSL_cleanse(&k, sizeof(k));
    OPENSSL_cleanse(&own, sizeof(own));
    return m;
}

/* --- all of them --- */

static const struct scheme schemes[] = {
    {"CLEARTEXT",     check_clear,  NULL,     false, false},
    {"SHA",           check_digest, "SHA1",   false, false},
    {"SSHA",          check_digest, "SHA1",   true,  false},
    {"MD5",           check_digest, "MD5",    false, false},
    {"SMD5",          check_digest, "MD5",    true,  false},
    {"SHA256",        check_digest, "SHA256", false, false},
    {"SSHA256",       check_digest, "SHA256", true,  false},
    {"SHA384",        check_digest, "SHA384", false, false},
    {"SSHA384",       check_digest, "SHA384", true,  false},
    {"SHA512",        check_digest, "SHA512", false, false},
    {"SSHA512",       check_digest, "SHA512", true,  false},
    {"CRYPT",         check_crypt,  NULL,     false, true },
    {"PBKDF2",        check_pbkdf2, "SHA1",   false, true },
    {"PBKDF2-SHA1",   check_pbkdf2, "SHA1",   false, true },
    {"PBKDF2-SHA256", check_pbkdf2, "SHA256", false, true },
    {"PBKDF2-SHA512", check_pbkdf2, "SHA512", false, true },
    {"ARGON2",        check_argon2, NULL,     false, true },
    {"SCRAM-SHA-256", check_scram,  NULL,     false, true },
};
#define SCRAM_SCHEME (&schemes[countof(schemes) - 1])
#define BARE_SCRAM "SCRAM-SHA-256$" /* RFC 5803: a value of authPassword */

/* The scheme of a value and what follows its name; NULL: none that we know. */
static const struct scheme *scheme_of(const char *stored, const char **value)
{
    const char *end = *stored == '{' ? strchr(stored, '}') : NULL;

    *value = stored;
    if (!end) {
        struct scram_keys k;

        if (!str_starts(stored, BARE_SCRAM) || !parse_scram(stored + strlen(BARE_SCRAM), &k))
            return &schemes[0];
        *value = stored + strlen(BARE_SCRAM);
        return SCRAM_SCHEME;
    }
    *value = end + 1;
    for (size_t i = 0; i < countof(schemes); i++)
        if (slice_ieq((struct slice){stored + 1, (size_t)(end - stored - 1)}, schemes[i].name))
            return &schemes[i];
    return NULL;
}

static bool usable(const char *stored, size_t n)
{
    return n && n <= STORED_MAX && !memchr(stored, '\0', n);
}

static bool run(void *arg, struct err *err)
{
    struct check *c = arg;

    (void)err;
    c->match = c->scheme->check(c);
    return true;
}

static void cleanse(char *copy)
{
    OPENSSL_cleanse(copy, strlen(copy));
    free(copy);
}

enum password_match password_check(const char *stored, size_t n, const char *given)
{
    struct check c = {.given = given, .match = PASSWORD_UNKNOWN_SCHEME};
    char *copy;

    if (!*given || strlen(given) > GIVEN_MAX)
        return PASSWORD_WRONG;
    if (!usable(stored, n))
        return PASSWORD_UNKNOWN_SCHEME;
    copy = xstrndup(stored, n);
    c.scheme = scheme_of(copy, &c.value);
    if (c.scheme && c.scheme->costly)
        worker_call(run, &c, NULL); /* YIELDS */
    else if (c.scheme)
        run(&c, NULL);
    cleanse(copy);
    return c.match;
}

bool password_scram_keys(const char *stored, size_t n, struct scram_keys *out)
{
    const char *value;
    char *copy;
    bool ok;

    memset(out, 0, sizeof(*out));
    if (!usable(stored, n))
        return false;
    copy = xstrndup(stored, n);
    ok = scheme_of(copy, &value) == SCRAM_SCHEME && parse_scram(value, out);
    cleanse(copy);
    return ok;
}

bool password_clear_text(const char *stored, size_t n, const char **text, size_t *len)
{
    const char *value;
    char *copy;
    bool ok;

    if (!usable(stored, n))
        return false;
    copy = xstrndup(stored, n);
    ok = scheme_of(copy, &value) == &schemes[0] && *value;
    *text = stored + (value - copy);
    *len = n - (size_t)(value - copy);
    cleanse(copy);
    return ok;
}
