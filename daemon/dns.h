/* dns.h - questions to the DNS that look blocking. NXDOMAIN, NODATA, SERVFAIL, time-out and bogus stay distinct, and
 * the DNSSEC state travels with every answer: it is validated here, not by who is asked. Any thread.
 *
 * Names of /etc/hosts and "localhost" answer without asking anybody. Which servers are asked and which trust anchors
 * hold is configuration (dnsconfig, dns_servers.h). */
#ifndef POSTERN_DNS_H
#define POSTERN_DNS_H

#include <stdbool.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/net.h"
#include "store/base/str.h"

enum dns_status { DNS_OK, DNS_NODATA, DNS_NXDOMAIN, DNS_SERVFAIL, DNS_TIMEOUT, DNS_BOGUS };
enum dns_security { DNS_INSECURE, DNS_SECURE };

struct mx {
    unsigned preference;
    char host[256];
};
/* In every answer: security is DNS_SECURE only when each link of the chain of aliases was; the absence of a name or of
 * records is secure when it was proven. canonical is the name the records were found under, the name asked for unless
 * there are aliases; ttl is the least of the chain, in seconds. Lists are at most 100 long: the best, where there is an
 * order. */
struct dns_mx {
    enum dns_status status;
    enum dns_security security;
    char canonical[256];
    unsigned ttl;
    bool unvalidated; /* asked while answers were not validated: its security says nothing (dns_validates) */
    bool null_mx; /* RFC 7505 */
    unsigned n;
    struct mx *hosts; /* sorted by preference, equal ones shuffled */
};
struct dns_addrs { /* of both families; secure when each family that has addresses is, whatever the other one is */
    enum dns_status status;
    enum dns_security security;
    char canonical[256];
    unsigned ttl;
    bool unvalidated; /* as in dns_mx */
    unsigned n;
    struct addr *addrs;
};
struct tlsa { /* RFC 6698 section 2.1 */
    unsigned char usage, selector, matching;
    unsigned len;
    unsigned char *data;
};
struct dns_tlsa {
    enum dns_status status;
    enum dns_security security;
    char canonical[256];
    unsigned ttl;
    unsigned n;
    struct tlsa *records;
};
struct dns_texts {
    enum dns_status status;
    enum dns_security security;
    unsigned ttl;
    struct strlist texts; /* one per record, its strings joined; octets 0 are dropped with their record */
};

bool dns_start(const char *home, struct err *err);
void dns_stop(void);
void dns_flush(const char *name); /* YIELDS. Forgets the name and what is below it; NULL: everything */
msec_t dns_reverse_timeout(void); /* how long dns_reverse is worth waiting for; 0: it is not wanted */

/* YIELDS. false: no answer one could act on, worth a retry (err has the sentence); the status says
 * more. DNS_NODATA and DNS_NXDOMAIN are answers: true, with n == 0. Free with the _free calls. */
bool dns_mx(const char *domain, msec_t deadline, struct dns_mx *out, struct err *err);
bool dns_addresses(const char *host, bool v4, bool v6, msec_t deadline, struct dns_addrs *out,
                   struct err *err);
/* Are answers validated at all? While they are not, "insecure" is no finding, and DANE cannot be decided. */
bool dns_validates(void);
bool dns_tlsa(const char *name, msec_t deadline, struct dns_tlsa *out, struct err *err); /* "_25._tcp.mail.example.com" */
bool dns_txt(const char *name, msec_t deadline, struct dns_texts *out, struct err *err);
/* The alias at name itself; target is "" when there is none. *security as in answers, of its absence too. */
bool dns_cname(const char *name, msec_t deadline, char target[256], enum dns_security *security, struct err *err);
bool dns_reverse(const struct addr *a, msec_t deadline, char *host, size_t size,
                 bool *verified); /* PTR and back */
void dns_mx_free(struct dns_mx *m);
void dns_addrs_free(struct dns_addrs *a);
void dns_tlsa_free(struct dns_tlsa *t);
void dns_texts_free(struct dns_texts *t);

const char *
dns_status_name(enum dns_status s); /* as log lines have it: "NXDomain", "ServFail", ... */

#endif
