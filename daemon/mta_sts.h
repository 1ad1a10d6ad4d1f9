/* mta_sts.h - MTA-STS policies (RFC 8461): the TXT record, the policy over HTTPS, the cache that survives restarts
 * (state.db). What a policy means for a delivery is tls_policy.c's business. Any thread. */
#ifndef POSTERN_MTA_STS_H
#define POSTERN_MTA_STS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/tls_policy.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/str.h"

#define STS_MAX_POLICY (64u << 10) /* octets of a policy (RFC 8461 section 3.3) */
#define STS_MAX_AGE 31557600u      /* seconds; more is cut to this (erratum 7282) */

struct sts_policy { /* immutable but for id and fetched, which are set before it is shared; reference-counted */
    atomic_int refs;
    enum sts_state mode; /* STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE */
    char id[33];         /* of the record it was fetched under */
    unsigned max_age;    /* seconds */
    usec_t fetched;
    struct strlist mx;   /* patterns, A-labels, lower case: "mail.example.com", "*.example.com" */
};
struct sts {
    enum sts_state state;
    struct sts_policy *policy; /* NULL unless state is one of STS_MODE_*; a reference */
    bool cached;               /* answered without asking the web server */
    char why[200];             /* STS_NO_RECORD, STS_NO_POLICY, STS_FAILED: a sentence, escaped */
};

/* YIELDS. The policy in force for a policy domain (the recipient domain, or a smart host's own). Never fails: what
 * cannot be had is a state. Logs the lines of mail_logs that belong to looking it up. */
void mta_sts_look_up(const char *domain, msec_t deadline, struct sts *out);
void sts_free(struct sts *s);
bool sts_lists(const struct sts_policy *p, const char *host); /* does a pattern cover the MX host? (section 4.1) */

/* Pure parsers, fuzzed. false or NULL: invalid, err says what. */
bool sts_parse_record(const char *const *texts, unsigned n, char id[33], struct err *err); /* the TXT records of a name;
                                        E_NOT_FOUND: none of them is about MTA-STS */
struct sts_policy *sts_parse_policy(const char *body, size_t n, struct err *err);
struct sts_policy *sts_policy_ref(struct sts_policy *p);
void sts_policy_free(struct sts_policy **p); /* gives a reference back */

bool mta_sts_start(struct err *err); /* loads the cache: before the first delivery */
void mta_sts_run(void);              /* the loops are there: policies are refreshed from now on */
void mta_sts_refresh_due(void);      /* one look through the cache, as mta_sts_run's fiber takes it */
void mta_sts_stop(void);

/* For the console. */
struct sts_info {
    const char *domain;
    const struct sts_policy *policy; /* NULL: none is cached, only a failure is remembered */
    usec_t used;                     /* when a delivery last asked */
    usec_t refresh;                  /* when it is fetched again without being asked for; 0: it is not */
    const char *failed_id, *failure; /* "" : the last fetch went well */
    usec_t retry;                    /* ... else not fetched again before this, under that id */
};
/* In the order of names, those after `after` (NULL: from the start) until fn returns false. fn must not wait. */
void mta_sts_list(const char *after, bool (*fn)(const struct sts_info *i, void *arg), void *arg);
bool mta_sts_show(const char *domain, void (*fn)(const struct sts_info *i, void *arg), void *arg);
/* YIELDS. Fetches now, whatever is cached or was tried lately; a failure leaves what is cached in force. */
bool mta_sts_refresh(const char *domain, msec_t deadline, struct err *err);
/* What the DNS said lately of a domain and those below it (NULL: all) is asked again; policies stay. */
void mta_sts_flush_records(const char *domain);
unsigned mta_sts_flush(const char *domain); /* NULL: all; how many were forgotten */

#endif
