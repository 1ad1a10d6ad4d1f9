/* x509.h - facts about certificates and the making of new ones, with OpenSSL. Used by the console
 * (what a certificate says), by the checks of the certificate section and by the daemon (keys). Any
 * thread.
 *
 * Certificates come from outside: every text a fact holds is escaped already, fit for a terminal
 * and a log. */
#ifndef POSTERN_X509_H
#define POSTERN_X509_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/str.h"

#define X509_MAX_CHAIN 16 /* certificates of one chain */
#define X509_MAX_POOL 1000 /* certificates of one file out of which a chain is picked */

struct x509_facts {
    char *subject, *issuer; /* "C=US,ST=CA,L=San Francisco,O=Example,OU=Org,CN=partner.com" */
    char *common_name, *issued_by; /* common names of subject and issuer (or the organization); ""
                                      when there is none */
    struct strlist names; /* subjectAltName: DNS names and addresses */
    usec_t not_before, not_after;
    char key[24]; /* "RSA 2048", "ECDSA P-256", "Ed25519" */
    unsigned key_bits;
    bool weak_key; /* RSA below 2048 bits: no client of today should accept it */
    bool weak_digest; /* signed with SHA-1, MD5 or older */
    bool self_signed, is_ca;
    bool for_servers, for_clients, for_signing; /* what key usage and extended key usage allow */
    bool damaged_extensions; /* present, but they cannot be read */
    int version; /* 3 for everything of this century */
    char signature[48]; /* "ecdsa-with-SHA256" */
    char serial[48]; /* hexadecimal */
    char sha256[65]; /* of the whole certificate */
};

/* Of the first certificate of a PEM text. E_INVALID with a sentence for the administrator. */
bool x509_read(const char *pem, struct x509_facts *out, struct err *err);
void x509_facts_free(struct x509_facts *f);
unsigned x509_count(const char *pem); /* certificates in the text; 0: none or broken */

int64_t x509_days_left(const struct x509_facts *f,
                       usec_t now); /* whole days; negative when it is over */
const char *x509_status(const struct x509_facts *f,
                        usec_t now); /* "Active", "Expired", "Not yet valid" */

/* What is wrong with a certificate, as findings: a stable word for programs, a sentence for people. */
enum x509_severity { X509_NOTE, X509_WARNING, X509_ERROR };
struct x509_finding {
    enum x509_severity severity;
    const char *word; /* "expired", "weak-key", "name-mismatch" ...: the list is in x509_check.c */
    char *text;
};
struct x509_findings {
    struct x509_finding *items;
    size_t n, cap;
};
struct x509_subject { /* what is looked at; texts may be NULL or "" */
    const char *certificate, *intermediates, *private_key; /* PEM; without the key it is not compared */
    const struct strlist *hosts; /* names peers know its users by: each must be covered */
    bool demo, server, client; /* the demonstration certificate; used by listeners; used for deliveries */
    usec_t now;
};
void x509_check(const struct x509_subject *s, struct x509_findings *out); /* adds to out, worst first */
void x509_forget_public(void); /* the system's list of public authorities is read again for the next x509_check */
void x509_findings_free(struct x509_findings *f);
const char *x509_severity_word(enum x509_severity s); /* "note", "warning", "error" */
/* Are all names (subject alternative names and, without any, the common name) fully qualified? */
bool x509_check_fqdn(const struct x509_facts *f, struct err *err);
/* Does the certificate cover the host? Wildcards stand for one label. */
bool x509_covers(const char *pem, const char *host);

/* A private key in PEM: readable, not protected by a pass phrase, of a kind TLS can use. */
bool x509_check_key(const char *key_pem, struct err *err);
/* Does the key belong to the first certificate? The sentence says what to do when it does not. */
bool x509_key_matches(const char *cert_pem, const char *key_pem, struct err *err);
/* Does the certificate carry the public key of that other certificate or certificate signing
 * request? */
bool x509_same_key(const char *cert_pem, const char *other_pem, struct err *err);

bool x509_first(const char *pem, struct buf *out,
                struct err *err); /* the first certificate alone, as PEM */

/* Writes the certificates of chain_pem to out in the order of signing, beginning with the issuer of
 * leaf_pem; copies of the leaf and repetitions are left out. One that signed nothing of the chain
 * is refused, and the sentence names it. */
bool x509_order_chain(const char *leaf_pem, const char *chain_pem, struct buf *out,
                      struct err *err);

/* The same out of many: what does not belong to the chain is left out, and up to twenty of those are
 * named in strangers. */
bool x509_pick_chain(const char *leaf_pem, const char *pool_pem, struct buf *out,
                     struct strlist *strangers, struct err *err);
/* The chain without the certificate of that fingerprint. */
bool x509_leave_out(const char *chain_pem, const char *sha256, struct buf *out, struct err *err);
/* The facts of every certificate of the text; their number, or -1. */
int x509_read_all(const char *pem, struct x509_facts *out, int max, struct err *err);

struct x509_request { /* texts may be NULL */
    const char *common_name, *organization, *unit, *locality, *state, *country;
    unsigned days; /* 1 to 36500 */
    const char *algorithm; /* a word of choices key_algorithms: "rsa-2048", "p256", "ed25519" ... */
    const char *digest; /* "sha256", "sha384", "sha512"; NULL or "": what suits the key */
    const struct strlist *names; /* further DNS names and addresses; the common name is added when
                                    it is a host name */
};
/* One part of a request: what the prompt asks. All of them run again in x509_make_self_signed. */
bool x509_check_common_name(const char *text, struct err *err);
bool x509_check_country(const char *text, struct err *err);
bool x509_check_algorithm(const char *word,
                          struct err *err); /* 1024 bits: refused with the reason */
bool x509_check_digest(const char *word, struct err *err);
bool x509_check_name(const char *name, struct err *err); /* DNS name ("*." allowed) or address */

/* A new key, a certificate signed with it, and the request an authority would sign (csr may be
 * NULL). All PEM; the caller cleanses key. */
bool x509_make_self_signed(const struct x509_request *r, struct buf *cert, struct buf *key,
                           struct buf *csr, struct err *err);
/* Were these made by such a request, whoever signed the certificate since? */
bool x509_made_for(const char *cert, const char *csr, const struct x509_request *r);

#endif
