/* export_area.h - the files people exchange with the gateway: HOME/export, where the console reads and writes, and nowhere else. */
#ifndef POSTERN_EXPORT_AREA_H
#define POSTERN_EXPORT_AREA_H

#include <stdbool.h>

#include "store/base/buf.h"
#include "store/base/err.h"

bool export_area_path(const char *name, char **path, struct err *err); /* letters, digits, . _ -; the caller frees it */
/* YIELDS; on disk, or not there. What an administrator wrote only an administrator replaces: such files are read-only.
 * E_EXISTS: there is another one, and replace was not said. */
bool export_area_write(const char *path, const char *text, size_t n, bool admin, bool replace, struct err *err);
/* YIELDS. The same of something long: next appends a piece (at most some hundred KiB), nothing at the end; it runs on a
 * worker. The same once more counts as another file. */
bool export_area_write_pieces(const char *path, bool (*next)(void *arg, struct buf *out, struct err *err), void *arg,
                              bool admin, bool replace, struct err *err);
bool export_area_read(const char *path, struct buf *out, struct err *err);             /* YIELDS; UTF-8, at most out->max */
bool export_area_read_bytes(const char *path, struct buf *out, struct err *err);       /* YIELDS; whatever it is */

struct control;
/* YIELDS. The same by name and for the person of a connection, who may not be allowed to see secrets in it. */
bool control_read_file(struct control *c, const char *name, struct buf *text, struct err *err);

#endif
