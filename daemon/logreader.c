/* logreader.c - see logreader.h.
 *
 * A rollover renames the file that is open here; its inode tells which saved file it became, and
 * the names of saved files sort by time, so "the next file" is well defined however many rollovers
 * were missed. */
#include "daemon/logreader.h"

#include <dirent.h>
#include <fcntl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/str.h"

#define CHUNK (64u << 10) /* also the longest line: more is cut into several */

struct logreader {
    int dir; /* descriptor of the directory */
    char *current; /* name of the current file in it: "mail.current" */
    char *prefix; /* of saved files: "mail.@" */
    char *saved; /* name of the open file when it is known to be a saved one, else NULL */
    int fd; /* -1: none open */
    struct buf pending; /* read from fd */
    size_t taken; /* bytes of pending the last call handed out */
};

static void list_saved(const struct logreader *r, struct strlist *out)
{
    int copy = openat(r->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (str_starts(e->d_name, r->prefix) && str_ends(e->d_name, ".s"))
            strlist_add(out, e->d_name);
    if (d)
        closedir(d);
    else if (copy >= 0)
        close(copy);
    strlist_sort(out);
}

static bool open_file(struct logreader *r, const char *name, bool saved)
{
    int fd = openat(r->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return false;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = fd;
    free(r->saved);
    r->saved = saved ? xstrdup(name) : NULL;
    return true;
}

static bool is_open_file(const struct logreader *r, const char *name)
{
    struct stat mine, st;

    return fstat(r->fd, &mine) == 0 && fstatat(r->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_ino == st.st_ino && mine.st_dev == st.st_dev;
}

/* The open file is read to its end: goes on with the file that follows it. false: there is none
 * yet. */
static bool advance(struct logreader *r)
{
    struct strlist saved = {0};
    const char *mine = r->saved, *next = NULL;
    bool moved = false;

    if (r->fd >= 0 && !mine && is_open_file(r, r->current))
        return false;
    list_saved(r, &saved);
    for (size_t i = saved.n; r->fd >= 0 && !mine && i-- > 0;)
        if (is_open_file(r, saved.items[i]))
            mine = saved.items[i];
    for (size_t i = 0; mine && !next && i < saved.n; i++)
        if (strcmp(saved.items[i], mine) > 0)
            next = saved.items[i];
    moved = next ? open_file(r, next, true) : open_file(r, r->current, false);
    strlist_free(&saved);
    return moved;
}

static bool fill(struct logreader *r)
{
    char *room = buf_reserve(&r->pending, CHUNK - r->pending.n);
    ssize_t n = r->fd >= 0 && room ? read(r->fd, room, CHUNK - r->pending.n) : 0;

    if (n > 0)
        r->pending.n += (size_t)n;
    return n > 0;
}

bool logreader_line(struct logreader *r, struct slice *line)
{
    buf_drop(&r->pending, r->taken);
    r->taken = 0;
    for (;;) {
        const char *p = r->pending.n ? memchr(r->pending.p, '\n', r->pending.n) : NULL;
        bool full = r->pending.n == CHUNK;

        if (p || full) {
            *line = (struct slice){r->pending.p, p ? (size_t)(p - r->pending.p) : CHUNK};
            r->taken = line->n + (p ? 1 : 0);
            return true;
        }
        if (fill(r))
            continue;
        if (!advance(r))
            return false;
        if (r->pending.n) /* the end of a file a crash cut short */
            buf_char(&r->pending, '\n');
    }
}

/* Position in the current file from which `last` lines follow. */
static void seek_last(struct logreader *r, long last)
{
    char chunk[2048];
    off_t end = lseek(r->fd, 0, SEEK_END), at = end;
    long seen = 0;

    while (last > 0 && at > 0) {
        size_t n = (size_t)(at < (off_t)sizeof(chunk) ? at : (off_t)sizeof(chunk));

        if (pread(r->fd, chunk, n, at - (off_t)n) != (ssize_t)n)
            break;
        while (n) {
            /* the line end at the very end of the file begins no line */
            if (chunk[n - 1] == '\n' && at != end && ++seen > last - 1) {
                lseek(r->fd, at, SEEK_SET);
                return;
            }
            n--;
            at--;
        }
    }
    lseek(r->fd, last ? 0 : end, SEEK_SET);
}

struct logreader *logreader_open(const char *current, long last, struct err *err)
{
    const char *slash = strrchr(current, '/'), *name = slash ? slash + 1 : current;
    char *dir = slash ? xstrndup(current, (size_t)(slash - current)) : xstrdup(".");
    struct logreader *r = xcalloc(1, sizeof(*r));
    struct strlist saved = {0};

    r->pending = (struct buf)BUF_INIT(CHUNK + 1);
    r->fd = -1;
    r->current = xstrdup(name);
    r->prefix = xasprintf("%.*s.@", (int)strcspn(name, "."), name);
    r->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir < 0) {
        err_errno(err, errno, "opening the log directory %s", dir);
        logreader_free(&r);
    } else if (last >= 0) {
        if (open_file(r, r->current, false))
            seek_last(r, last);
    } else {
        list_saved(r, &saved);
        if (!saved.n || !open_file(r, saved.items[0], true))
            open_file(r, r->current, false);
    }
    strlist_free(&saved);
    free(dir);
    return r;
}

void logreader_free(struct logreader **r)
{
    if (!*r)
        return;
    if ((*r)->fd >= 0)
        close((*r)->fd);
    if ((*r)->dir >= 0)
        close((*r)->dir);
    free((*r)->current);
    free((*r)->prefix);
    free((*r)->saved);
    buf_free(&(*r)->pending);
    free(*r);
    *r = NULL;
}
