/* export_area.c - see export_area.h. */
#include "daemon/export_area.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/base/str.h"

bool export_area_path(const char *name, char **path, struct err *err)
{
    if (!home_file_name(name, err))
        return false;
    *path = xasprintf("%s/export/%s", home_dir(), name);
    return true;
}

struct file_job {
    const char *path, *text;
    size_t n;
    bool admin, replace;
    struct buf *content;
    bool (*next)(void *arg, struct buf *out, struct err *err); /* instead of text */
    void *arg;
};

static bool write_all(int fd, const char *p, size_t n)
{
    for (ssize_t done; n; p += done, n -= (size_t)done) {
        done = write(fd, p, n);
        if (done <= 0)
            return false;
    }
    return true;
}

static bool holds(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    size_t same = 0;
    char piece[2048];
    ssize_t got;
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == n)
        while (same < n && (got = read(fd, piece, sizeof(piece))) > 0 && (size_t)got <= n - same &&
               memcmp(piece, text + same, (size_t)got) == 0)
            same += (size_t)got;
    else
        same = n + 1;
    if (fd >= 0)
        close(fd);
    return same == n;
}

/* Gives the new file its name. Another of that name goes only when that was said; the same once more
 * is no change. */
static bool put_in_place(const struct file_job *j, const char *fresh, struct err *err)
{
    if (j->replace)
        return rename(fresh, j->path) == 0 || err_errno(err, errno, "writing %s", j->path);
    if (link(fresh, j->path) == 0 || (errno == EEXIST && !j->next && holds(j->path, j->text, j->n))) {
        unlink(fresh);
        return true;
    }
    return errno == EEXIST ? err_set(err, E_EXISTS,
                                     "%s already exists. Choose another name, or overwrite it "
                                     "with --replace.",
                                     j->path)
                           : err_errno(err, errno, "writing %s", j->path);
}

static bool write_pieces(int fd, const struct file_job *j, struct err *err)
{
    AUTO(buf) struct buf piece = BUF_INIT(1u << 20);
    bool ok = true;

    do {
        buf_reset(&piece);
        ok = j->next(j->arg, &piece, err);
        if (ok && !write_all(fd, piece.p, piece.n))
            ok = err_errno(err, errno, "writing %s", j->path);
    } while (ok && piece.n);
    return ok;
}

static bool write_job(void *arg, struct err *err)
{
    struct file_job *j = arg;
    char *dir = xasprintf("%s/export", home_dir()),
         *fresh = xasprintf("%s/.new-%lx", dir, (unsigned long)(uintptr_t)j);
    struct stat there;
    int fd;
    bool ok;

    mkdir(dir, 0700);
    if (!j->admin && lstat(j->path, &there) == 0 && !(there.st_mode & S_IWUSR)) {
        free(fresh);
        free(dir);
        return err_set(err, E_DENIED, "%s was written by an administrator; choose another name.", j->path);
    }
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ok = fd >= 0 && (j->next ? write_pieces(fd, j, err) : write_all(fd, j->text, j->n)) &&
         (!j->admin || fchmod(fd, 0400) == 0) && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        ok = false;
    if (!ok && !(j->next && err && err->code))
        err_errno(err, errno, "writing %s", j->path);
    ok = ok && put_in_place(j, fresh, err);
    if (!ok)
        unlink(fresh);
    free(fresh);
    free(dir);
    return ok;
}

/* The engine reads, not the person: a file put here by root is often closed to it. */
static bool not_readable(const char *path, struct err *err)
{
    struct passwd pw, *found = NULL;
    char space[2048], number[24];

    snprintf(number, sizeof(number), "%lu", (unsigned long)geteuid());
    if (getpwuid_r(geteuid(), &pw, space, sizeof(space), &found) != 0)
        found = NULL;
    return err_set(
        err, E_IO,
        "opening %s: Permission denied. The gateway runs as the user \"%s\", who must be "
        "able to read the file: give it to that user with chown, or make it readable "
        "with chmod.",
        path, found ? pw.pw_name : number);
}

static bool read_job(void *arg, struct err *err)
{
    struct file_job *j = arg;
    int fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    ssize_t n = 1;

    if (fd < 0 && errno == EACCES)
        return not_readable(j->path, err);
    if (fd < 0)
        return errno == ENOENT ? err_set(err, E_NOT_FOUND, "There is no file %s.", j->path)
                               : err_errno(err, errno, "opening %s", j->path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size > j->content->max) {
        close(fd);
        return err_set(err, E_LIMIT, "%s is not a file of at most %zu bytes.", j->path,
                       j->content->max);
    }
    while (n > 0 && !j->content->full) {
        char *to = buf_reserve(j->content, 8192);

        n = to ? read(fd, to, 8192) : 0;
        if (n > 0)
            j->content->n += (size_t)n;
    }
    close(fd);
    if (n < 0)
        return err_errno(err, errno, "reading %s", j->path);
    return !j->content->full ||
           err_set(err, E_LIMIT, "%s is longer than %zu bytes.", j->path, j->content->max);
}

bool export_area_write(const char *path, const char *text, size_t n, bool admin, bool replace,
                       struct err *err)
{
    struct file_job j = {.path = path, .text = text, .n = n, .admin = admin, .replace = replace};

    return worker_call(write_job, &j, err); /* YIELDS */
}

bool export_area_write_pieces(const char *path,
                              bool (*next)(void *arg, struct buf *out, struct err *err), void *arg,
                              bool admin, bool replace, struct err *err)
{
    struct file_job j = {.path = path, .admin = admin, .replace = replace, .next = next, .arg = arg};

    return worker_call(write_job, &j, err); /* YIELDS */
}

bool export_area_read(const char *path, struct buf *out, struct err *err)
{
    return export_area_read_bytes(path, out, err) && /* YIELDS */
           (str_is_utf8(buf_str(out), out->n) ||
            err_set(err, E_INVALID, "%s is not a text in UTF-8.", path));
}

bool export_area_read_bytes(const char *path, struct buf *out, struct err *err)
{
    struct file_job j = {.path = path, .content = out};

    return worker_call(read_job, &j, err); /* YIELDS */
}
