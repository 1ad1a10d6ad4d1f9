/* session.h - the console's view of the configuration: the candidate kept by the daemon, plus what the operation in
 * progress has changed but not yet sent. Calls fail through the ui (sentence printed, batch ends). */
#ifndef POSTERN_SESSION_H
#define POSTERN_SESSION_H

#include "shell/ui.h"
#include "store/base/json.h"
#include "store/control.h"
#include "store/row.h"

struct session;
struct rpc;

const char *session_hostname(const struct session *s);
const char *session_user(const struct session *s);
unsigned session_role(const struct session *s);     /* ROLE_ADMIN... of the person */
const json_t *session_hello(const struct session *s); /* the daemon's answer to hello; borrowed */
size_t session_changes(const struct session *s);    /* objects staged in the candidate */

/* One daemon call; NULL after an error that was shown. The result is the answer's "data", new. args is stolen. */
json_t *session_call(struct session *s, struct ui *ui, const char *op, json_t *args);
/* The same, but the whole answer whatever it says ("ok", "code", "conflicts"...); NULL: no answer, shown. */
json_t *session_answer(struct session *s, struct ui *ui, const char *op, json_t *args);
void session_show_error(struct session *s, struct ui *ui, const json_t *answer); /* shows such an answer's error */
/* The same with a line at a time; fn returns false to stop. Ctrl-C cancels it in the daemon. */
bool session_stream(struct session *s, struct ui *ui, const char *op, json_t *args,
                    bool (*fn)(void *arg, const json_t *data), void *arg);

/* The same about the configuration as the operation in progress would make it: what it has changed is staged as long as the
 * call lasts, and taken back whatever becomes of it. Deletions are not part of it. The answer's "data", new. NULL: err, which
 * is not shown, says why, or has no code: it was stopped. */
json_t *session_stream_trial(struct session *s, struct ui *ui, const char *op, json_t *args,
                             bool (*fn)(void *arg, const json_t *data), void *arg, struct err *err);

struct row *session_get(struct session *s, const struct section *sec, const char *name); /* new reference or NULL */
/* Has another object the name of this row of session_edit or session_new? */
bool session_taken(struct session *s, const struct row *row);
/* Names in order (child sections: of that owner, without "OWNER/"). Caller frees with strlist_free. */
void session_names(struct session *s, const struct section *sec, const char *owner, struct strlist *out);
/* At most limit of them that begin with prefix. */
void session_find(struct session *s, const struct section *sec, const char *owner, const char *prefix, size_t limit,
                  struct strlist *out);
size_t session_count(struct session *s, const struct section *sec, const char *owner);
/* Rows one after another, fetched in pages; fn returns false to stop. Sections with .ordered come by position. */
void session_each(struct session *s, const struct section *sec, const char *owner,
                  bool (*fn)(void *arg, const struct row *row), void *arg);

/* Staging: put the changed copy; flushed to the daemon when the operation ends well, dropped when it is aborted. */
struct row *session_edit(struct session *s, const struct section *sec, const char *name); /* a changeable copy, owned by the session; NULL: none */
struct row *session_new(struct session *s, const struct section *sec, const char *owner); /* with defaults; named by its key field */
/* The daemon has changed objects of this owner by itself: what the session has of them is forgotten. */
void session_forget(struct session *s, const struct section *sec, const char *owner);
void session_delete(struct session *s, const struct section *sec, const char *name);
/* Plain text of a secret field, to be sealed by the daemon; the row is one of session_edit or session_new. */
void session_secret(struct session *s, struct row *row, const char *field, const char *plain);
unsigned session_mark(struct session *s);               /* savepoint */
void session_undo(struct session *s, unsigned mark);    /* rows are again as they were; new ones are dropped */
void session_release(struct session *s, unsigned mark); /* forgets the savepoint (and those within) */
bool session_flush(struct session *s, struct ui *ui);   /* sends everything; false: refused by the daemon, shown, undone */

/* The life of a session: main, batch and tests. */
struct session_options {
    const char *path;     /* of the control socket */
    bool interactive;
};
struct session *session_open(const struct session_options *o, struct err *err);
struct session *session_of_fd(int fd, struct err *err); /* on a connected socket, for tests */
void session_close(struct session **s);
const struct section *session_section(const struct session *s); /* what the menu that runs is about */
void session_use(struct session *s, struct ui *ui);  /* whose questions and errors the calls without a ui belong to */
/* Undoes to the mark unless ok, and forgets the rows of session_edit and session_new since. */
void session_end_command(struct session *s, unsigned mark, bool ok);
void session_deferred(struct session *s, bool on);   /* batch: changes are sent many at a time; see session_sync */
bool session_sync(struct session *s, struct ui *ui); /* sends what was deferred */
/* The candidate belongs to no login and goes with the connection: batch. */
bool session_begin_anonymous(struct session *s, struct ui *ui);
bool session_is_anonymous(const struct session *s);
bool session_refresh(struct session *s);             /* asks for the state of the candidate, for the prompt */
int session_fd(const struct session *s);             /* to wait for notices; -1: not connected */
char *session_notice(struct session *s);             /* the next notice; the caller frees it */
void session_prompt(const struct session *s, struct buf *out); /* "* gw.example.com> " */
json_t *session_state(const struct session *s);      /* head, base, candidate for the envelope; new */

#endif
