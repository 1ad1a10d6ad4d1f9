/* job.c - see job.h. A job is shared by its fiber and by the one that serves the connection: one
 * reference each. */
#include "daemon/job.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdlib.h>

#include "daemon/fiber.h"
#include "store/base/str.h"

#define LOOK_EVERY 20 /* ms between looks for lines, and for a Ctrl-C */
#define MAX_LINES 10000u
#define MAX_JOBS 50u

struct job {
    atomic_int refs;
    bool (*fn)(struct job *j, const json_t *args, json_t *data, struct err *err);
    void *context;
    void (*drop)(void *context);
    json_t *args, *data;
    struct err err;
    bool ok;
    struct fiber *fiber; /* from its begin to its end */
    atomic_bool done, over;
    pthread_mutex_t lock;
    json_t *lines; /* not sent yet */
    unsigned said;
};

static atomic_uint jobs;

static void job_unref(struct job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) > 1)
        return;
    if (j->drop)
        j->drop(j->context);
    json_decref(j->args);
    json_decref(j->data);
    json_decref(j->lines);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

static void run(void *arg)
{
    struct job *j = arg;

    fiber_interruptible(true);
    j->fiber = fiber_self();
    j->ok = j->fn(j, j->args, j->data, &j->err);
    j->fiber = NULL;
    atomic_store(&j->done, true);
    atomic_fetch_sub(&jobs, 1);
    job_unref(j);
}

bool job_over(const struct job *j)
{
    return atomic_load(&j->over) || fiber_stopping();
}

void job_say(struct job *j, const char *event, json_t *record, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(4000);
    json_t *o = json_object();
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    json_put_str(o, "event", event);
    json_put_str(o, "line", buf_str(&text));
    if (record)
        json_object_update(o, record);
    json_decref(record);
    pthread_mutex_lock(&j->lock);
    if (j->said++ < MAX_LINES)
        json_array_append_new(j->lines, o);
    else
        json_decref(o);
    pthread_mutex_unlock(&j->lock);
}

/* YIELDS. false: nobody is there to read. */
static bool send_lines(struct control *c, struct job *j)
{
    json_t *lines, *o;
    bool ok = true;
    size_t i;

    pthread_mutex_lock(&j->lock);
    lines = j->lines;
    j->lines = json_array();
    pthread_mutex_unlock(&j->lock);
    json_array_foreach(lines, i, o)
    {
        ok = ok && control_more(c, json_incref(o));
    }
    json_decref(lines);
    return ok;
}

void *job_context(const struct job *j)
{
    return j->context;
}

bool job_run(struct control *c, const char *name,
             bool (*fn)(struct job *j, const json_t *args, json_t *data, struct err *err),
             const json_t *args, json_t *data, struct err *err)
{
    return job_run_with(c, name, fn, NULL, NULL, args, data, err);
}

bool job_run_with(struct control *c, const char *name,
                  bool (*fn)(struct job *j, const json_t *args, json_t *data, struct err *err),
                  void *context, void (*drop)(void *context), const json_t *args, json_t *data,
                  struct err *err)
{
    struct job *j = xcalloc(1, sizeof(*j));
    bool ok, done;

    j->refs = 2;
    j->fn = fn;
    j->context = context;
    j->drop = drop;
    j->args = json_deep_copy(args);
    j->data = json_object();
    j->lines = json_array();
    pthread_mutex_init(&j->lock, NULL);
    if (atomic_fetch_add(&jobs, 1) >= MAX_JOBS || !fiber_spawn(loops_get(0), name, run, j)) {
        atomic_fetch_sub(&jobs, 1);
        job_unref(j);
        job_unref(j);
        return err_set(err, E_BUSY, "Too many tests are under way; try again in a minute.");
    }
    do {
        done = atomic_load(&j->done); /* what was said before is in the list */
        ok = send_lines(c, j);
    } while (ok && !done && !control_cancelled(c) && fiber_sleep(LOOK_EVERY));
    if (done) {
        ok = j->ok;
        json_t *copy = json_deep_copy(j->data); /* the job's fiber may hold its own until later */

        json_object_update(data, copy);
        json_decref(copy);
        if (!ok && err)
            *err = j->err;
    } else {
        atomic_store(&j->over, true);
        if (j->fiber)
            fiber_cut(j->fiber); /* or a mute peer keeps it for minutes */
        ok = err_set(err, E_CLOSED, "The test was stopped.");
    }
    job_unref(j);
    return ok;
}
