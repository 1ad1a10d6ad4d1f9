/* crl_fetch.c - getting a revocation list and keeping it for the next start; see crl_source.h. The
 * network is waited for on the fiber; what takes time (a list may have a million entries) is done
 * on a worker. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/crl_source.h"
#include "daemon/fiber.h"
#include "daemon/http.h"
#include "daemon/trust.h"
#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/base/log.h"

#define FETCH_TIME MINUTES(10) /* for one URL: nobody waits, and long lists come over slow lines */
#define SUFFIX ".crl"
#define FRESH ".new-" /* begins no name of a source */

/* --- checking -------------------------------------------------------------------------------- */

struct crl_list *crl_check(const void *text, size_t n, bool pem, const struct crl_list *now,
                           struct buf *store, struct slice *der, struct err *err)
{
    STACK_OF(X509) *authorities = NULL;
    struct crl_list *l = NULL;
    struct crl_signed sig;
    char date[40];
    bool ok;

    if (!crl_decode(text, n, pem, store, der, err) || !(l = crl_parse(*der, &sig, err)))
        return NULL;
    ok = l->this_update <= clock_wall() + CRL_AHEAD ||
         err_set(err, E_INVALID,
                 "The list is dated in the future (%s): the clock of this gateway or of the "
                 "authority is wrong.",
                 clock_rfc3339(l->this_update, date));
    if (ok)
        authorities = trust_by_subject(l->issuer);
    ok = ok && crl_verify(l, &sig, authorities, err) && (!now || crl_may_follow(l, now, err));
    sk_X509_pop_free(authorities, X509_free);
    if (!ok)
        crl_list_free(&l);
    return l;
}

/* --- the disk -------------------------------------------------------------------------------- */

static char *path_of(const char *prefix, const char *name, const char *suffix)
{
    return xasprintf("%s/crl/%s%s%s", home_dir(), prefix, name, suffix);
}

static bool write_all(int fd, const char *p, size_t n)
{
    for (ssize_t done; n; p += done, n -= (size_t)done) {
        done = write(fd, p, n);
        if (done <= 0)
            return false;
    }
    return true;
}

static bool sync_directory(void)
{
    AUTO(str) char *dir = home_file("crl");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

/* The whole new file or the whole old one. */
static bool keep(const char *name, struct slice der, struct err *err)
{
    AUTO(str) char *path = path_of("", name, SUFFIX), *fresh = path_of(FRESH, name, "");
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write_all(fd, der.p, der.n) && fsync(fd) == 0;
    int e = errno;

    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        e = errno;
    }
    if (ok && (rename(fresh, path) != 0 || !sync_directory())) {
        ok = false;
        e = errno;
    }
    if (!ok)
        unlink(fresh);
    return ok || err_errno(err, e, "writing %s", path);
}

/* When it was fetched is the time of its file. */
static void touch(const char *name)
{
    AUTO(str) char *path = path_of("", name, SUFFIX);

    utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

static bool read_kept(const char *name, struct buf *out, usec_t *when, struct err *err)
{
    AUTO(str) char *path = path_of("", name, SUFFIX);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    ssize_t n = 0;

    if (fd < 0)
        return errno == ENOENT ? err_set(err, E_NOT_FOUND, "There is no file %s.", path)
                               : err_errno(err, errno, "opening %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > CRL_MAX_DER ||
        !buf_reserve(out, (size_t)st.st_size + 1)) {
        close(fd);
        return err_set(err, E_INVALID, "%s is not a file of at most %zu MiB.", path,
                       CRL_MAX_DER >> 20);
    }
    while (out->n < (size_t)st.st_size &&
           (n = read(fd, out->p + out->n, (size_t)st.st_size - out->n)) > 0)
        out->n += (size_t)n;
    *when = (usec_t)st.st_mtim.tv_sec * 1000000;
    close(fd);
    return n >= 0 || err_errno(err, errno, "reading %s", path);
}

static bool load(struct source *s, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(CRL_MAX_DER + 1), none = BUF_INIT(0);
    struct crl_list *l;
    struct slice der;
    usec_t when = 0;

    if (!read_kept(s->name, &text, &when, err))
        return false;
    l = crl_check(buf_str(&text), text.n, false, NULL, &none, &der, err);
    if (!l)
        return false;
    if (!crl_install(s, l, "disk", when, err)) {
        crl_list_free(&l);
        return false;
    }
    crl_lock(); /* is there anything to be fetched at once? */
    s->wanted = s->set.auto_update &&
                (s->outdated || crl_next_time(s->set.schedule, s->set.time, when) <= clock_wall());
    crl_unlock();
    log_info("crl: %s: %zu entries of %s, as kept on the disk", s->name, l->entries,
             l->issuer_text);
    crl_list_free(&l);
    return true;
}

static struct source *next_to_load(void)
{
    struct source **all, *s = NULL;
    size_t n;

    crl_lock();
    all = crl_sources(&n);
    for (size_t i = 0; i < n && !s; i++)
        if (all[i]->load)
            s = source_ref(all[i]);
    if (s)
        s->load = false;
    crl_unlock();
    return s;
}

void crl_load_kept(void)
{
    struct source *s;

    while ((s = next_to_load())) {
        struct err err = {0};

        if (!load(s, &err) && err.code != E_NOT_FOUND)
            log_warning("crl: %s: the list that was kept cannot be used: %s", s->name, err.text);
        source_unref(s);
    }
}

void crl_make_room(void)
{
    AUTO(str) char *dir = home_file("crl");
    struct dirent *e;
    DIR *d;

    mkdir(dir, 0700); /* without it lists are not kept, which is said then */
    d = opendir(dir);
    while (d && (e = readdir(d))) {
        AUTO(str) char *path = path_of("", e->d_name, "");

        if (str_starts(e->d_name, FRESH))
            unlink(path);
    }
    if (d)
        closedir(d);
}

static bool is_wanted(const char *file)
{
    size_t n, length = strlen(file) - strlen(SUFFIX);
    struct source **all;
    bool found;

    crl_lock();
    all = crl_sources(&n);
    found = !all; /* nothing is configured yet */
    for (size_t i = 0; i < n && !found; i++)
        found = strlen(all[i]->name) == length && !memcmp(all[i]->name, file, length);
    crl_unlock();
    return found;
}

void crl_tidy(void)
{
    AUTO(str) char *dir = home_file("crl");
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        AUTO(str) char *path = NULL;

        if (strlen(e->d_name) <= strlen(SUFFIX) || !str_ends(e->d_name, SUFFIX) ||
            is_wanted(e->d_name))
            continue;
        path = path_of("", e->d_name, "");
        if (unlink(path) == 0)
            log_info("crl: %s is removed: its source is gone", path);
    }
    if (d)
        closedir(d);
}

/* --- fetching -------------------------------------------------------------------------------- */

struct attempt { /* at one URL */
    const char *url;
    bool pem;
    struct crl_list *now; /* in force; NULL */
    struct http_answer answer;
    struct buf store;
    struct slice der;
    struct crl_list *list;
    bool came; /* there was an answer: what is wrong is the list */
};

static void attempt_free(struct attempt *a)
{
    crl_list_free(&a->list);
    crl_list_free(&a->now);
    buf_free(&a->answer.body);
    buf_free(&a->store);
}

static bool check_job(void *arg, struct err *err)
{
    struct attempt *a = arg;

    a->list = crl_check(buf_str(&a->answer.body), a->answer.body.n, a->pem, a->now, &a->store,
                        &a->der, err);
    return a->list != NULL;
}

static bool free_job(void *arg, struct err *err)
{
    (void)err;
    attempt_free(arg);
    return true;
}

/* YIELDS */
static bool attempt(struct attempt *a, struct err *err)
{
    struct http_request r = {.url = a->url,
                             .max_bytes = a->pem ? CRL_MAX_PEM : CRL_MAX_DER,
                             .deadline = clock_in(FETCH_TIME),
                             .total = FETCH_TIME,
                             .plain = true};

    if (!http_get(&r, &a->answer, err))
        return false;
    a->came = true;
    return worker_call(check_job, a, err);
}

struct outcome { /* of the attempts at both URLs */
    struct source *source;
    char *name, *urls[2];
    bool pem;
    struct crl_list *now;
    struct attempt tries[2];
    struct attempt *best;
    bool unchanged, refused;
};

static void begin(struct source *s, struct outcome *o)
{
    memset(o, 0, sizeof(*o));
    crl_lock();
    o->source = s;
    o->name = xstrdup(s->name);
    o->urls[0] = xstrdup(s->set.url);
    o->urls[1] = s->set.url2 && *s->set.url2 ? xstrdup(s->set.url2) : NULL;
    o->pem = s->set.format == CRL_PEM;
    o->now = s->list ? crl_ref(s->list) : NULL;
    crl_unlock();
}

static bool end(struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++) {
        if (o->tries[i].url)
            worker_call(free_job, &o->tries[i], NULL); /* YIELDS */
        free(o->urls[i]);
    }
    crl_list_free(&o->now);
    free(o->name);
    return true;
}

/* Which of two good lists: the one that is in date, then the newer one. */
static bool is_better(const struct crl_list *a, const struct crl_list *b)
{
    usec_t now = clock_wall();

    if (crl_is_outdated(a, now) != crl_is_outdated(b, now))
        return crl_is_outdated(b, now);
    return a->this_update > b->this_update;
}

/* On a worker: puts the best one in force, and on the disk. That it cannot be kept is no reason not
 * to use it. */
static bool install_job(void *arg, struct err *err)
{
    struct outcome *o = arg;
    struct attempt *a = o->best;
    struct err why = {0};

    if (o->now && !memcmp(o->now->digest, a->list->digest, sizeof(o->now->digest)) &&
        !memcmp(o->now->authority, a->list->authority, sizeof(o->now->authority))) {
        crl_lock();
        o->unchanged = o->source->list == o->now && o->source->trusted;
        if (o->unchanged) {
            o->source->fetched = clock_wall();
            free(o->source->from);
            o->source->from = xstrdup(a->url);
        }
        crl_unlock();
        if (o->unchanged) {
            touch(o->name);
            return true;
        }
    }
    if (!crl_install(o->source, a->list, a->url, clock_wall(), err))
        return false;
    log_info("crl: %s: %zu entries of %s, from %s", o->name, a->list->entries, a->list->issuer_text,
             str_printable(a->url));
    if (!keep(o->name, a->der, &why))
        log_warning("crl: %s: the list is in force, but is not kept for the next start: %s",
                    o->name, why.text);
    return true;
}

/* Both sentences when both URLs fail. */
static bool failed(const struct err first[2], bool two, struct err *err)
{
    if (!two)
        return err_set(err, first[0].code, "%s", first[0].text);
    return err_set(err, first[0].code, "%.230s The secondary URL: %.220s", first[0].text,
                   first[1].text);
}

static void try_both(struct outcome *o, struct err why[2]) /* YIELDS */
{
    for (unsigned i = 0; i < 2 && o->urls[i]; i++) {
        struct attempt *a = &o->tries[i];

        a->url = o->urls[i];
        a->pem = o->pem;
        a->now = o->now ? crl_ref(o->now) : NULL;
        a->store = (struct buf)BUF_INIT(CRL_MAX_DER + 100);
        if (attempt(a, &why[i])) {
            if (!o->best || is_better(a->list, o->best->list))
                o->best = a;
            if (!crl_is_outdated(a->list, clock_wall()))
                return;
        } else {
            o->refused |= a->came;
            if (!i && o->urls[1])
                log_warning("crl: %s: the primary URL failed: %s", o->name, why[i].text);
        }
    }
}

bool crl_fetch(struct source *s, bool *unchanged, struct err *err)
{
    struct err why[2] = {{0}, {0}};
    struct outcome o;
    char date[40];
    bool ok;

    begin(s, &o);
    try_both(&o, why); /* YIELDS */
    if (!o.best)
        ok = failed(why, o.urls[1] != NULL, err);
    else
        ok = worker_call(install_job, &o, err); /* YIELDS */
    *unchanged = ok && o.unchanged;
    if (ok && crl_is_outdated(o.best->list, clock_wall())) /* better than none, but no success */
        ok = err_set(err, E_INVALID,
                     "The list that is published is outdated itself: a next one "
                     "was to come by %s.",
                     clock_rfc3339(crl_ends(o.best->list), date));
    crl_lock();
    s->refused = !ok && o.refused;
    crl_unlock();
    end(&o);
    return ok;
}
