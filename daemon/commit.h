/* commit.h - the commit pipeline: merge, check, prepare, write, publish. */
#ifndef POSTERN_COMMIT_H
#define POSTERN_COMMIT_H

#include "daemon/candidate.h"

struct commit {              /* one commit, from its request to its receipt */
    const char *comment;     /* "" for none */
    bool keep;               /* saved for rollback */
    bool check_only;         /* stops before the write */
    const char *plan;        /* commit exactly what was checked, or NULL */
    const struct db_audit *who;
    /* Of what would be written, against the head: may the caller do that? NULL: whatever it is. */
    bool (*may)(const struct changes *merged, struct err *err);

    uint64_t revision;       /* 0: there was nothing to commit */
    usec_t time;
    unsigned n_new, n_changed, n_deleted;
    char plan_id[10];        /* "7f3c-19a2": names head and changes */
    struct conflicts conflicts;
    struct conflicts merged; /* fields others changed in the objects of this candidate */
    struct check check;      /* errors stop the commit, warnings do not */
};

/* YIELDS. false: nothing was committed and the candidate is as it was; the struct says why in detail. */
bool commit_run(struct candidate *c, struct commit *k, struct err *err);
void commit_clear(struct commit *k);

/* At the start, when the head was never published and cannot be: writes what the revision before it held as a new revision
 * and publishes that; the head's changes become a candidate of its author. */
bool commit_take_back(struct err *err);

bool commit_lock(msec_t deadline, struct err *err); /* YIELDS; one commit at a time */
void commit_unlock(void);

#endif
