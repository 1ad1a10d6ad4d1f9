/* password.h - is this the password that a directory has an attribute value for (RFC 2307
 * section 5.3, RFC 5803)?
 *
 * Schemes, whatever their case: none and {CLEARTEXT}; {SHA} {SSHA} {MD5} {SMD5} {SHA256} {SSHA256}
 * {SHA384} {SSHA384} {SHA512} {SSHA512}; {CRYPT} (DES, $1$, $2a$ $2b$ $2y$, $5$, $6$, $7$, $y$,
 * $gy$); {PBKDF2} {PBKDF2-SHA1} {PBKDF2-SHA256} {PBKDF2-SHA512} as OpenLDAP's pw-pbkdf2 writes
 * them; {ARGON2}; {SCRAM-SHA-256}, also without braces as authPassword has it. A clear text that
 * looks as if it had a scheme needs {CLEARTEXT} in front of it. Active Directory's unicodePwd
 * cannot be read at all: such a directory is asked by bind.
 *
 * A value decides how long its own check takes, so there are limits: see password.c. Compared in
 * constant time. */
#ifndef POSTERN_PASSWORD_H
#define POSTERN_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>

enum password_match {
    PASSWORD_WRONG,
    PASSWORD_RIGHT,
    PASSWORD_UNKNOWN_SCHEME, /* or the value is damaged, or checking it would take too long:
                                nobody's password */
};

/* YIELDS: costly schemes are computed by a worker (worker.h); on a thread that is no fiber, here.
 * given: as the user said it; an empty one is never right. n: bytes of stored, at most 8192. */
enum password_match password_check(const char *stored, size_t n, const char *given);

/* What SCRAM-SHA-256 (RFC 5802, RFC 7677) needs to know of a user instead of the password. */
#define SCRAM_SALT_MAX 64u
#define SCRAM_KEY 32u
#define SCRAM_MAX_ITERATIONS 2000000u
struct scram_keys {
    unsigned iterations;
    unsigned char salt[SCRAM_SALT_MAX], stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
    size_t nsalt;
};
/* false: the value is of another scheme, or damaged. */
bool password_scram_keys(const char *stored, size_t n, struct scram_keys *out);
/* Is it a clear text: no scheme, or {CLEARTEXT}? *text points into stored, *len says how long it
 * is. */
bool password_clear_text(const char *stored, size_t n, const char **text, size_t *len);
/* YIELDS. The keys of a password by iterations and salt, which are in *keys already. The password
 * is prepared by SASLprep (RFC 4013), as the protocol demands; one that cannot be is taken as it
 * is. */
bool password_derive_scram(const char *password, struct scram_keys *keys);
/* YIELDS. For a client: the salted password, by the salt (base64) and the iterations a server
 * demands; false: more of them than SCRAM_MAX_ITERATIONS, or no salt. */
bool password_salt_scram(const char *password, const char *salt, unsigned long long iterations,
                         unsigned char out[SCRAM_KEY]);

#endif
