/* crl_source.h - the sources of revocation lists (certconfig > crl): what crl.c (which list is in force), crl_fetch.c (getting
 * and keeping one) and crl_watch.c (when, and whom it is told) share, and what the console asks. crl.h is for those who look
 * certificates up. */
#ifndef POSTERN_CRL_SOURCE_H
#define POSTERN_CRL_SOURCE_H

#include "daemon/crl_list.h"
#include "store/config.h"

#define CRL_MAX_MEMORY ((size_t)512 << 20) /* of all lists in force */

bool crl_start(struct err *err); /* before the configuration is published: makes HOME/crl */
void crl_run(void);              /* the loops are there: lists are fetched from now on */
void crl_stop(void);             /* after the fibers have ended */
void crl_trust_changed(void);    /* the authorities did, without a commit: a list whose issuer went counts no more. Any thread */

enum crl_state { CRL_DISABLED, CRL_MISSING, CRL_CURRENT, CRL_OUTDATED };
const char *crl_state_word(enum crl_state s); /* "current" ... */

struct crl_info { /* a source of the running configuration; texts are escaped */
    const char *name;
    enum crl_state state;
    const struct crl_list *list;           /* the last good one, also when its authority went (state: missing); NULL */
    const char *fetched_from;              /* URL, or "disk" */
    const char *failure;                   /* "": the last fetch went well */
    usec_t fetched, failed_at, next_fetch; /* 0: never, or not planned */
};
/* In the order of names. fn must not wait: it runs under the lock that handshakes take for moments. */
void crl_each(void (*fn)(const struct crl_info *i, void *arg), void *arg);
struct crl_finding { /* what one list says about a certificate of its issuer */
    const char *source;
    enum crl_state state;   /* missing: its authority went, so it does not count */
    bool listed, covers;    /* not listed and covered: it is not revoked */
    struct crl_entry entry; /* when listed */
};
/* What the lists in force say about it, whatever is switched on. */
void crl_findings(X509 *x, void (*fn)(const struct crl_finding *f, void *arg), void *arg);

/* YIELDS. Fetches it now, or waits for the fetch that is under way; *unchanged: it was the list in force. A failure leaves the
 * last good list in force. */
bool crl_update(const char *name, bool *unchanged, struct err *err);

/* Pure. The first time after now at which a source is due, in local time: "HH:MM", hourly at :MM, weekly on Sundays, monthly on
 * the first. A time that daylight saving leaves out comes as much later. */
usec_t crl_next_time(ctype_choice schedule, const char *time, usec_t now);

/* --- what crl*.c share ----------------------------------------------------------------------- */

/* One source; reference-counted, for a fetch may outlive it. Everything but what says otherwise is under the lock of crl.c. */
struct source {
    int refs;
    char *name;              /* never changes */
    struct crl_source set;   /* as configured; its texts are of the row, which row holds */
    struct row *row;
    unsigned generation;     /* changes with the row */
    bool gone;               /* no longer configured */
    struct crl_list *list;   /* the last good one */
    bool trusted;            /* its authority is still there */
    bool outdated;           /* as was last seen */
    usec_t fetched;
    char *from;
    char failure[480];
    usec_t failed_at;
    unsigned failures;       /* in a row */
    bool refused;            /* the last one was fetched and could not be used */
    bool wanted;             /* fetched as soon as retry allows */
    msec_t retry;
    usec_t next;             /* by schedule; 0: none */
    bool busy;               /* a fetch is under way */
    bool load;               /* look on the disk first */
    bool told_failure, told_outdated; /* alerts that wait for "again" */
};

void crl_lock(void);
void crl_unlock(void);
struct source **crl_sources(size_t *n);   /* under the lock; borrowed */
struct source *source_ref(struct source *s); /* under the lock */
void source_unref(struct source *s);      /* not under the lock */
/* A good list takes the place of the last one; the caller keeps its reference. from: where it was had. E_LIMIT, E_CLOSED: it does
 * not. Not on a loop: it may free much memory. */
bool crl_install(struct source *s, struct crl_list *list, const char *from, usec_t fetched, struct err *err);
void crl_swap(void); /* under the lock: what is looked up from now on is what the sources have now; a new number */
bool crl_refuses(void); /* under the lock: what is outdated */
enum crl_state source_state(const struct source *s, usec_t now); /* under the lock */
void crl_wake(void); /* any thread: crl_watch.c looks at once */

/* Reads a list out of a file's bytes and checks it as every list is checked: kind, dates, authority, signature, age against
 * the one in force (NULL: none). Not on a loop. store holds what *der points to, unless it points to text. */
struct crl_list *crl_check(const void *text, size_t n, bool pem, const struct crl_list *now, struct buf *store, struct slice *der,
                           struct err *err);
bool crl_fetch(struct source *s, bool *unchanged, struct err *err); /* YIELDS; both URLs, installs, keeps; s is marked busy */
void crl_load_kept(void);                                           /* from the disk, of the sources marked load; not on a loop */
void crl_make_room(void);                                           /* at the start: HOME/crl, without halves of files */
void crl_tidy(void);                                                /* removes files of sources that are gone; not on a loop */
void crl_look(usec_t now);                                          /* on a loop; one look at all sources: what is due, what is outdated */
void crl_fetched(struct source *s, unsigned generation, bool ok, const struct err *err); /* takes down how it went, and tells */

#endif
