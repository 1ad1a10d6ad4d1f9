/* candidate.h - the private, persistent candidate of a login: a change list over the head, kept by the engine so that a
 * lost connection loses nothing. All calls are made on the loop of the control socket (or before there are loops). */
#ifndef POSTERN_CANDIDATE_H
#define POSTERN_CANDIDATE_H

#include "store/check.h"
#include "store/db.h"

struct candidate {
    struct db_candidate db; /* id 0: nothing of it is on disk yet */
    bool anonymous;         /* belongs to no login: never on disk, dropped with its connection */
    bool attached;          /* to a connection */
    struct config *view, *view_head; /* head with the changes on top; kept until either moves */
};

struct candidate *candidate_new(const char *owner);
void candidate_restore(struct db_candidate *c);     /* at the start: takes over what the database holds, detached */
void candidate_detach(struct candidate **c);        /* the connection is gone: kept if there is something in it */
struct candidate *candidate_find(uint64_t id);      /* NULL: none */
struct candidate *candidate_next(struct candidate *after); /* NULL: the first; walks those with an id */
void candidates_free(void);

const struct config *candidate_view(struct candidate *c); /* borrowed, until the next call that yields or changes it */
size_t candidate_count(const struct candidate *c);

/* Puts the edits on top after checking the result; YIELDS while they are made durable. On false nothing changed;
 * check holds the reasons when they are rules. restores: the revision a rollback stages, 0 for none. */
bool candidate_stage(struct candidate *c, struct config_edit *edits, size_t n, uint64_t restores, struct check *check,
                     struct err *err);
/* Replaces the whole list by changes that were merged or resolved. YIELDS. Takes over the contents of fresh. */
bool candidate_replace(struct candidate *c, struct changes *fresh, struct err *err);
bool candidate_keep(struct candidate *c, struct err *err); /* an anonymous one becomes its login's. YIELDS */
bool candidate_clear(struct candidate *c, struct err *err); /* YIELDS */
/* After a commit wrote it away: empties it in memory. */
void candidate_committed(struct candidate *c);

#endif
