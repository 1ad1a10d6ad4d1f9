/* crl_list.h - one certificate revocation list (RFC 5280 section 5): read from its bytes, checked against an authority, and
 * kept in as few bytes as look-ups in it need. Nothing here waits or logs; any thread. Lists of a million entries take some
 * hundred milliseconds to read: call it on a worker.
 *
 * A list is one mapping of memory: a hash table of offsets and, behind it, each entry as length, serial number, date and
 * reason. A million entries with serial numbers of 16 bytes take 30 MiB. */
#ifndef POSTERN_CRL_LIST_H
#define POSTERN_CRL_LIST_H

#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/str.h"

#define CRL_MAX_DER ((size_t)64 << 20) /* bytes of a list */
#define CRL_MAX_PEM ((size_t)88 << 20) /* bytes of a file that holds one in base64 */
#define CRL_MAX_ENTRIES 4000000u
#define CRL_MAX_SERIAL 64u   /* bytes; RFC 5280 allows 20 */
#define CRL_MAX_NUMBER 32u   /* bytes of a CRL number; RFC 5280 allows 20 */
#define CRL_LIVES (INT64_C(7) * 86400 * 1000000) /* of a list that does not say when the next one comes */
#define CRL_AHEAD (INT64_C(5) * 60 * 1000000)    /* so far in the future may its date be: clocks differ */

enum crl_scope { CRL_ALL, CRL_USERS, CRL_AUTHORITIES }; /* onlyContainsUserCerts, onlyContainsCACerts */

struct crl_list { /* immutable once it is checked; reference-counted */
    atomic_int refs;
    X509_NAME *issuer;
    char *issuer_text;             /* "CN=Example CA,O=Example", escaped */
    usec_t this_update, next_update; /* next_update 0: it does not say */
    unsigned char number[CRL_MAX_NUMBER]; /* big-endian, without leading zeros */
    unsigned number_len;
    bool numbered;
    enum crl_scope scope;
    bool divided;                  /* it is one of several: about certificates that name one of these URLs */
    struct strlist points;
    unsigned char key_id[32];      /* of the authority, as the list gives it */
    unsigned key_id_len;           /* 0: it gives none */
    unsigned char digest[32];      /* SHA-256 of the list */
    unsigned char authority[32];   /* SHA-256 of the public key that signed it */
    size_t entries, bytes, memory; /* bytes: of the list; memory: of all this */
    /* the table */
    void *map;
    size_t map_size;
    uint32_t *slots;               /* offset of an entry + 1; 0: empty */
    uint32_t mask;
    unsigned char *blob;
    uint64_t seed[2];
};

struct crl_signed { /* what the signature is about; borrowed from the bytes of the list */
    const unsigned char *tbs, *algorithm, *signature;
    size_t tbs_len, algorithm_len, signature_len;
};

/* The bytes of the list out of a file. pem: base64 between lines of dashes, else DER as it is: *der then borrows from text.
 * store holds what was decoded. The sentence says so when the file is of the other kind. */
bool crl_decode(const void *text, size_t n, bool pem, struct buf *store, struct slice *der, struct err *err);

/* A new list, or NULL: E_INVALID (not a list, or of a kind that is not supported: the sentence names it), E_LIMIT. Its
 * signature is not looked at. */
struct crl_list *crl_parse(struct slice der, struct crl_signed *sig, struct err *err);

/* Was it signed by one of these, which all have its issuer's name? Sets list->authority; before the list is shared. */
bool crl_verify(struct crl_list *list, const struct crl_signed *sig, const STACK_OF(X509) *authorities, struct err *err);
void crl_key_digest(const X509 *authority, unsigned char out[32]); /* what list->authority is compared with */

usec_t crl_ends(const struct crl_list *l);              /* outdated from then on */
bool crl_is_outdated(const struct crl_list *l, usec_t now);
/* May it follow the one in force? Not when that one, of the same authority, is newer: by number or, without, by date. */
bool crl_may_follow(const struct crl_list *next, const struct crl_list *now, struct err *err);
void crl_number_text(const struct crl_list *l, struct buf *out); /* decimal up to 64 bits, else "0x..."; "" : none */

bool crl_is_about(const struct crl_list *l, X509 *x); /* of its issuer, and of the kind it is about */
/* Of such a certificate: if it is not found in the list, it is not revoked. A list that is one of several covers only
 * certificates that name its distribution point. */
bool crl_covers(const struct crl_list *l, X509 *x);

struct crl_entry {
    usec_t revoked;
    int reason; /* CRLReason; -1: it does not say */
};
/* Is this certificate listed, whoever issued it? serial: DER of its INTEGER, as X509_get0_serialNumber has it. */
bool crl_find(const struct crl_list *l, const ASN1_INTEGER *serial, struct crl_entry *out);
bool crl_find_bytes(const struct crl_list *l, const unsigned char *serial, size_t n, struct crl_entry *out); /* two's complement */
const char *crl_reason_text(int reason); /* "key compromise"; "" when there is none */

struct crl_list *crl_ref(struct crl_list *l);
void crl_list_free(struct crl_list **l); /* drops one reference; the last one gives back much memory at once: not on a loop */

#endif
