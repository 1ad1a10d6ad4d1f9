/* job.h - a control request that takes its time (a test of a connection, a search of the DNS): it
 * runs on a fiber of its own, hands over lines as they come, and whoever asked may leave at any
 * moment without waiting for its end. */
#ifndef POSTERN_JOB_H
#define POSTERN_JOB_H

#include "daemon/control.h"

struct job;

/* YIELDS. Runs fn(job, args) to its end and sends what it says; its data and error become the
 * answer's. When the caller cancels, the answer goes at once and fn finds out by job_over. */
bool job_run(struct control *c, const char *name,
             bool (*fn)(struct job *j, const json_t *args, json_t *data, struct err *err),
             const json_t *args, json_t *data, struct err *err);

/* The same with something of the caller's that fn takes by job_context; drop releases it, at once or after fn's end. */
bool job_run_with(struct control *c, const char *name, bool (*fn)(struct job *j, const json_t *args, json_t *data, struct err *err),
                  void *context, void (*drop)(void *context), const json_t *args, json_t *data, struct err *err);
void *job_context(const struct job *j);

/* For fn. record: what --json shows of it, stolen, NULL: nothing but the line. */
void job_say(struct job *j, const char *event, json_t *record, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool job_over(const struct job *j); /* nobody listens any more: come to an end */

#endif
