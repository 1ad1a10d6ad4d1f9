/* home.h - where everything lives. The installed places are /var/lib/postern, /var/log/postern and /run/postern; with
 * --home DIR or POSTERN_HOME all of it is below DIR (DIR/log, DIR/run). Set once, before threads start. */
#ifndef POSTERN_HOME_H
#define POSTERN_HOME_H

#include <stdbool.h>

#include "store/base/err.h"

#define HOME_INSTALLED "/var/lib/postern"

/* dir is the option --home or NULL (then POSTERN_HOME, then the installed places). Made absolute; fails when that
 * is impossible or the control socket's path would be too long for a socket address. */
bool home_set(const char *dir, struct err *err);

const char *home_dir(void);     /* databases, spool, keys */
const char *home_log_dir(void); /* log/NAME/mail.current */
const char *home_run_dir(void); /* pid file */
const char *home_control(void); /* path of the control socket */
char *home_file(const char *name); /* HOME/name; caller frees */

/* May a file of the export area be called so? The sentence says how it may. */
bool home_file_name(const char *name, struct err *err);

#endif
