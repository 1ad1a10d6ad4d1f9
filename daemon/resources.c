/* resources.c - see resources.h. Whether mail is accepted is decided in queue.c; here the same look
 * is taken when no sender comes, and earlier thresholds are watched. */
#include "daemon/resources.h"

#include <stdio.h>
#include <sys/statvfs.h>

#include "daemon/alert.h"
#include "daemon/fiber.h"
#include "daemon/queue.h"
#include "store/base/home.h"

#define WARN_BYTES ((uint64_t)256 << 20) /* four times what queue.c needs to accept mail */
#define CALM_BYTES                                                                                 \
    ((uint64_t)320 << 20) /* so that a disk at the edge is not told of again and again */

struct disk {
    const char *what, *below; /* what happens when it is full */
    const char *(*path)(void);
    bool low;
};

static void look_at(struct disk *d)
{
    struct statvfs fs;
    uint64_t free_bytes;
    char key[60];

    if (statvfs(d->path(), &fs) != 0)
        return;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (d->low) {
        d->low = free_bytes < CALM_BYTES;
        return;
    }
    d->low = free_bytes < WARN_BYTES;
    if (!d->low)
        return;
    snprintf(key, sizeof(key), "disk %s", d->what);
    alert_raise(ALERT_SYSTEM, ALERT_WARNING, key,
                "The disk of the %s is getting full: %llu MiB are free in %s. %s", d->what,
                (unsigned long long)(free_bytes >> 20), d->path(), d->below);
}

static void watch_fiber(void *unused)
{
    struct disk disks[] = {
        {"queue and configuration", "Below 64 MiB no mail is accepted.",           home_dir,     false},
        {"log files",               "When it is full, lines of the log are lost.", home_log_dir, false},
    };
    struct statvfs first, second;
    bool same = statvfs(home_dir(), &first) == 0 && statvfs(home_log_dir(), &second) == 0 &&
                first.f_fsid == second.f_fsid;

    (void)unused;
    do {
        queue_accepts(NULL);
        look_at(&disks[0]);
        if (!same)
            look_at(&disks[1]);
    } while (fiber_sleep(MINUTES(1)));
}

bool resources_start(struct err *err)
{
    return fiber_spawn(loops_get(0), "resources", watch_fiber, NULL)
               ? true
               : err_set(err, E_LIMIT, "too many fibers");
}
