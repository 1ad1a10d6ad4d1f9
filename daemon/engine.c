/* engine.c - see engine.h. The list below is the whole order of start; the end runs it backwards. */
#include "daemon/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/alert.h"
#include "daemon/attempt.h"
#include "daemon/config_db.h"
#include "daemon/control.h"
#include "daemon/crl_source.h"
#include "daemon/dns.h"
#include "daemon/exceptions.h"
#include "daemon/expiry.h"
#include "daemon/fiber.h"
#include "daemon/http.h"
#include "daemon/ldap_pool.h"
#include "daemon/listeners.h"
#include "daemon/logfile.h"
#include "daemon/loop.h"
#include "daemon/mta_sts.h"
#include "daemon/ports.h"
#include "daemon/queue.h"
#include "daemon/reload.h"
#include "daemon/resources.h"
#include "daemon/sandbox.h"
#include "daemon/state.h"
#include "daemon/stats.h"
#include "daemon/statuslog.h"
#include "daemon/tls.h"
#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/base/version.h"
#include "store/failpoint.h"

#define GRACE SECONDS(10)

/* What log files call SN: a number of this machine that does not give away its machine-id(5). */
static void serial_number(char out[24])
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    char id[64] = "postern ";
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!read(fd, id + 8, 32);
        close(fd);
    }
    EVP_Digest(id, strlen(id), digest, NULL, EVP_sha256(), NULL);
    snprintf(out, 24, "%02X%02X%02X%02X%02X%02X-%02X%02X%02X%02X", digest[0], digest[1], digest[2],
             digest[3], digest[4], digest[5], digest[6], digest[7], digest[8], digest[9]);
}

static bool start_logs(struct err *err)
{
    char serial[24];

    serial_number(serial);
    return logfile_start(home_log_dir(), serial, err);
}

static uid_t owner;

static bool start_workers(struct err *err)
{
    (void)err;
    workers_start(4);
    return true;
}

/* They end after the loops, and with them go the last threads that could wake a fiber. */
static void stop_workers(void)
{
    workers_stop();
    loops_free();
}

static bool start_config(struct err *err)
{
    return config_db_start(home_dir(), owner, err);
}

static bool start_loops(struct err *err)
{
    (void)err;
    loops_start(0);
    stats_run();
    statuslog_run();
    mta_sts_run();
    ldap_pools_run();
    crl_run();
    return true;
}

static void wait_for_fibers(msec_t patience)
{
    const struct timespec tick = {.tv_nsec = 10000000};
    msec_t end = clock_in(patience);

    while (fiber_count() > 0 && clock_now() < end)
        nanosleep(&tick, NULL);
}

/* Sessions between two commands get 421 at once; the others may finish what they do for a while. */
static void stop_loops(void)
{
    unsigned left;

    fibers_stop();
    wait_for_fibers(GRACE);
    left = fiber_count();
    if (left > 0) {
        log_warning("%u sessions and deliveries are cut off: they did not end within %d seconds",
                    left, (int)(GRACE / 1000));
        fibers_abort();
        wait_for_fibers(GRACE);
    }
    for (unsigned i = 0; i < loops_count(); i++)
        loop_stop(loops_get(i));
    loops_join();
}

/* Everything that is built from the configuration, in the order of publishing. */
static const struct reload_part *const parts[] = {
    &reload_logs,
    &reload_trust,
    &reload_http,
    &reload_crl,
    &reload_tls,
    &reload_dns,
    &reload_ldap,
    &reload_bv,
    &reload_resources,
    &reload_queue,
    &reload_access,
    &reload_listeners,
    &reload_expiry,
    &reload_certs,
    NULL,
};

static bool start_stats(struct err *err)
{
    return stats_start(home_dir(), err);
}

static bool start_dns(struct err *err)
{
    return dns_start(home_dir(), err);
}

static bool start_ldap(struct err *err)
{
    (void)err; /* servers come with the configuration */
    return true;
}

static bool start_state(struct err *err)
{
    return state_start(home_dir(), err);
}

static bool start_queue(struct err *err)
{
    return queue_start(home_dir(), err);
}

static bool activate(struct err *err)
{
    reload_use(parts);
    return config_db_activate(err);
}

static bool start_alerts(struct err *err)
{
    char serial[24];

    serial_number(serial);
    return alert_start(serial, err) && resources_start(err);
}

static bool start_control(struct err *err)
{
    return control_start(home_control(), err);
}

static const struct step {
    const char *name; /* in "starting ...: what went wrong" */
    bool (*start)(struct err *err);
    void (*stop)(void); /* NULL: nothing to do */
} steps[] = {
    {"the system call filter", sandbox_engine_calls, NULL        },
    {"the logs",               start_logs,           logfile_stop},
    {"the worker threads",     start_workers,        stop_workers},
    {"the configuration",      start_config,         config_db_stop},
    {"name resolution",        start_dns,            dns_stop},
    {"HTTPS fetches",          http_start,           http_stop},
    {"what was learnt",        start_state,          state_stop},
    {"records of deliveries",  attempt_start,        attempt_stop},
    {"the MTA-STS policies",   mta_sts_start,        mta_sts_stop},
    {"the revocation lists",   crl_start,            crl_stop    },
    {"the queue",              start_queue,          queue_stop},
    {"the counters",           start_stats,          stats_stop},
    {"the directories",        start_ldap,           ldap_pools_stop},
    {"the loops",              start_loops,          stop_loops},
    {"what is configured",     activate,             listeners_stop},
    {"the alerts",             start_alerts,         NULL        },
    {"the backups",            config_db_watch,      NULL        },
    {"the certificate watch",  expiry_start,         NULL        },
    {"the TLS exceptions",     exceptions_start,     NULL        },
    {"the control socket",     start_control,        control_stop},
};

static void stop_steps(size_t n)
{
    while (n-- > 0)
        if (steps[n].stop)
            steps[n].stop();
}

static bool start_steps(struct err *err)
{
    for (size_t i = 0; i < countof(steps); i++) {
        if (!steps[i].start(err)) {
            err_wrap(err, "starting %s", steps[i].name);
            stop_steps(i);
            return false;
        }
    }
    return true;
}

/* The parent may have died before we asked to die with it. */
static bool parent_is_gone(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

int engine_run(const struct engine *e)
{
    struct err err = {0};
    sigset_t set;
    int sig;

    tls_memory_start();
    /* Every thread inherits the mask; this one waits for the signal. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    ports_attach(e->parent_fd);
    owner = e->owner;
    failpoint_arm(getenv("POSTERN_FAILPOINT"));
    if (chdir("/") != 0 || !start_steps(&err)) {
        log_critical("%s", err.code ? err.text : strerror(errno));
        return 1;
    }
    if (parent_is_gone(e->parent_fd)) {
        stop_steps(countof(steps));
        return 1;
    }
    log_info("Postern %s serves %s as uid %u", POSTERN_VERSION, home_dir(), (unsigned)getuid());
    if (e->last_exit)
        log_critical("the engine before this one ended: %s; restarts so far: %u", e->last_exit,
                     e->restarts);
    if (e->last_exit)
        alert_raise(ALERT_SYSTEM, ALERT_CRITICAL, "engine",
                    "An application fault occurred: the mail engine ended (%s) and was started again. "
                    "Restarts so far: %u. Accepted mail is kept and delivered.",
                    e->last_exit, e->restarts);
    ports_ready();
    sigwait(&set, &sig);
    log_info("stopping");
    stop_steps(countof(steps));
    return 0;
}
