/* logfile.h - log subscriptions: HOME/log/NAME/mail.current and the files it was rolled over into
 * (mail.@20261121T140211.s), and syslog where a subscription says so (logpush.h). One thread writes; producers put lines into a bounded ring and never block: when
 * ring or disk are full, lines are lost and counted, and a line says so afterwards. Any thread may call. */
#ifndef POSTERN_LOGFILE_H
#define POSTERN_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/logpush.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

enum logfile { /* what a subscription subscribes to; the values of choice log_types */
    LOGFILE_MAIL,   /* written by maillog.c */
    LOGFILE_SYSTEM, /* log_info() and friends */
    LOGFILE_CLI,    /* what administrators did */
    LOGFILE_STATUS, /* a line of numbers again and again (statuslog.c) */
    LOGFILE_KINDS,
};

struct logfile_subscription {
    char name[40];
    enum logfile kind;
    enum log_level level;   /* lines above it are left out */
    uint64_t max_bytes;     /* of the current file before it is rolled over */
    unsigned max_files;     /* kept, the current one included */
    unsigned roll_every;    /* seconds after which a file is rolled over; 0: whatever its age */
    unsigned roll_at;       /* the minute of the day at which it is, + 1; 0: at none */
    unsigned roll_day;      /* ... on this day of the week only: 1 is Monday, 7 Sunday; 0: every day */
    bool alert_removed;     /* an alert when a file goes because there are too many */
    struct logpush_to push;
};

/* Starts the writing thread with mail_logs, system_logs and cli_logs at level Info; log_* lines go to system_logs from
 * here on. serial stands in each file's header. */
bool logfile_start(const char *dir, const char *serial, struct err *err);
void logfile_stop(void); /* writes what is pending; log_* lines go to stderr again */

/* Replaces the subscriptions (at most 32). Files of subscriptions that went stay where they are. */
void logfile_configure(const struct logfile_subscription *list, size_t n);
void logfile_set_level(const char *name, enum log_level level);

/* One line, without date and line end; control characters in it become '?'. The date is that of the call. */
void logfile_write(enum logfile kind, enum log_level level, const char *text);
bool logfile_wants(enum logfile kind, enum log_level level); /* is it worth formatting? */

bool logfile_flush(void); /* waits until earlier lines are in their files; false: not within 2 s. Not in a fiber. */
bool logfile_rollover(const char *name, struct err *err); /* NULL: all; done by the thread, soon */
bool logfile_path(const char *name, char *out, size_t size); /* of the current file; false: no such subscription */
/* The next time behind t at which the clock on the wall says what roll_at and roll_day say; pure but for the time zone. */
usec_t logfile_next_wall(const struct logfile_subscription *set, usec_t t);
uint64_t logfile_lost(void); /* lines lost since the start */

#endif
