/* kept.c - see kept.h. When a file was set aside is the time its inode changed: it got its name then, and nobody writes
 * to it. */
#include "daemon/kept.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define FILES_MOST 10000u /* of one directory; more are seen when these are gone */

struct file {
    int dir;
    char name[256];
    uint64_t bytes;
    usec_t since;
};

struct found {
    struct file *files;
    size_t n, cap;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept_files last; /* under lock */

static bool is_kept(const char *name, bool spool)
{
    return spool ? str_starts(name, "lost-") : strstr(name, ".db.damaged") != NULL;
}

/* dir: -1: there is no such directory. */
static void look(int dir, bool spool, struct found *out)
{
    int fd = dir < 0 ? -1 : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    size_t most = out->n + FILES_MOST;
    struct dirent *e;
    struct stat st;

    while (d && out->n < most && (e = readdir(d))) {
        if (!is_kept(e->d_name, spool) || fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        if (out->n == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 16;
            out->files = xrealloc(out->files, out->cap * sizeof(*out->files));
        }
        out->files[out->n].dir = dir;
        str_copy(out->files[out->n].name, sizeof(out->files[0].name), e->d_name);
        out->files[out->n].bytes = (uint64_t)st.st_blocks * 512;
        out->files[out->n++].since = (usec_t)st.st_ctim.tv_sec * 1000000 + st.st_ctim.tv_nsec / 1000;
    }
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
}

static int oldest_first(const void *a, const void *b)
{
    const struct file *x = a, *y = b;

    return x->since != y->since ? (x->since < y->since ? -1 : 1) : strcmp(x->name, y->name);
}

static void tell(unsigned removed, uint64_t bytes, unsigned days, uint64_t most)
{
    alert_raise(ALERT_SYSTEM, ALERT_INFO, "kept files removed",
                "%u files that were set aside when something was damaged, %llu MiB, were removed: they are kept "
                "for %u days and up to %llu MiB (resourceconfig).",
                removed, (unsigned long long)(bytes >> 20), days, (unsigned long long)(most >> 20));
}

void kept_tidy(const char *home, unsigned days, uint64_t most)
{
    int top = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int spool = top < 0 ? -1 : openat(top, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    usec_t since = clock_wall() - (usec_t)days * 86400 * 1000000;
    struct kept_files left = {0};
    struct found found = {0};
    uint64_t removed_bytes = 0;
    unsigned removed = 0;

    look(top, false, &found);
    look(spool, true, &found);
    if (found.n)
        qsort(found.files, found.n, sizeof(*found.files), oldest_first);
    for (size_t i = 0; i < found.n; i++)
        left.bytes += found.files[i].bytes;
    for (size_t i = 0; i < found.n; i++) {
        const struct file *f = &found.files[i];

        if ((f->since < since || (most && left.bytes > most)) && unlinkat(f->dir, f->name, 0) == 0) {
            log_info("%s, which was set aside, is removed", str_printable(f->name));
            left.bytes -= f->bytes;
            removed_bytes += f->bytes;
            removed++;
            continue;
        }
        left.files++;
        if (!left.oldest)
            left.oldest = f->since;
    }
    if (removed)
        tell(removed, removed_bytes, days, most);
    pthread_mutex_lock(&lock);
    last = left;
    pthread_mutex_unlock(&lock);
    free(found.files);
    if (spool >= 0)
        close(spool);
    if (top >= 0)
        close(top);
}

void kept_files(struct kept_files *out)
{
    pthread_mutex_lock(&lock);
    *out = last;
    pthread_mutex_unlock(&lock);
}
