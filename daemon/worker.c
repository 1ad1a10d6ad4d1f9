/* worker.c - a few threads for calls that block. Any thread may call. */
#include "daemon/worker.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fiber.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define MAX_WORKERS 32
#define MAX_POSTED 1024

struct job {
    struct job *next;
    bool (*call)(void *arg, struct err *err); /* somebody waits for this one, or */
    void (*post)(void *arg); /* nobody does, and it is ours to free */
    void *arg;
    struct err *err;
    struct wait wait;
    bool ok;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all of these */
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct job *first, **end = &first;
static unsigned posted;
static bool stop;

static pthread_t threads[MAX_WORKERS];
static unsigned n_threads;

static void run(struct job *j)
{
    if (j->call) {
        j->ok = j->call(j->arg, j->err);
        wait_done(&j->wait); /* j may be gone from here on */
    } else {
        assert(j->post);
        j->post(j->arg);
        free(j);
    }
}

static void *worker_thread(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct job *j = first;

        if (j) {
            first = j->next;
            if (!first)
                end = &first;
            if (j->post)
                posted--;
            pthread_mutex_unlock(&lock);
            run(j);
            pthread_mutex_lock(&lock);
        } else if (stop) {
            break;
        } else {
            pthread_cond_wait(&work, &lock);
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

void workers_start(unsigned threads_wanted)
{
    sigset_t all, old;

    assert(!n_threads);
    if (!threads_wanted)
        threads_wanted = 4;
    if (threads_wanted > MAX_WORKERS)
        threads_wanted = MAX_WORKERS;
    stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (n_threads < threads_wanted) {
        int e = pthread_create(&threads[n_threads], NULL, worker_thread, NULL);

        if (e) {
            log_critical("starting workers: %s", strerror(e));
            abort();
        }
        pthread_setname_np(threads[n_threads++], "worker");
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void workers_stop(void)
{
    pthread_mutex_lock(&lock);
    stop = true;
    pthread_mutex_unlock(&lock);
    pthread_cond_broadcast(&work);
    while (n_threads)
        pthread_join(threads[--n_threads], NULL);
}

static bool push(struct job *j)
{
    bool ok;

    pthread_mutex_lock(&lock);
    ok = !j->post || posted < MAX_POSTED;
    if (ok) {
        posted += j->post != NULL;
        *end = j;
        end = &j->next;
    }
    pthread_mutex_unlock(&lock);
    if (ok)
        pthread_cond_signal(&work);
    return ok;
}

bool worker_call(bool (*fn)(void *arg, struct err *err), void *arg, struct err *err)
{
    struct job j = {.call = fn, .arg = arg, .err = err};

    if (!fiber_self() || !n_threads)
        return fn(arg, err);
    wait_init(&j.wait);
    push(&j);
    wait_for_done(&j.wait, "worker");
    return j.ok;
}

bool worker_post(void (*fn)(void *arg), void *arg)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->post = fn;
    j->arg = arg;
    if (push(j))
        return true;
    free(j);
    return false;
}
