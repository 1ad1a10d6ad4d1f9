/* reload_logs.c - the part of the configuration that logfile.c follows: subscriptions, levels, sizes. */
#include <stdlib.h>

#include "daemon/logfile.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "store/base/str.h"
#include "store/rules.h"
#include "store/schema.h"

_Static_assert((int)LEVEL_CRITICAL == (int)LOG_CRITICAL && (int)LEVEL_TRACE == (int)LOG_TRACE,
               "the choices of log_levels are in the order of enum log_level");
_Static_assert((int)LOGTYPE_MAIL == (int)LOGFILE_MAIL && (int)LOGTYPE_CLI == (int)LOGFILE_CLI &&
                   (int)LOGTYPE_STATUS == (int)LOGFILE_STATUS,
               "the choices of log_types are in the order of enum logfile");

static const unsigned facilities[] = {
    [FACILITY_AUTH] = 4,    [FACILITY_AUTHPRIV] = 10, [FACILITY_CONSOLE] = 14, [FACILITY_DAEMON] = 3,
    [FACILITY_FTP] = 11,    [FACILITY_LOCAL0] = 16,   [FACILITY_LOCAL1] = 17,  [FACILITY_LOCAL2] = 18,
    [FACILITY_LOCAL3] = 19, [FACILITY_LOCAL4] = 20,   [FACILITY_LOCAL5] = 21,  [FACILITY_LOCAL6] = 22,
    [FACILITY_LOCAL7] = 23, [FACILITY_MAIL] = 2,      [FACILITY_NTP] = 12,     [FACILITY_SECURITY] = 13,
    [FACILITY_USER] = 1};

struct wanted {
    size_t n;
    struct logfile_subscription subs[];
};

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    size_t n = config_count(cfg, &section_log);
    struct wanted *w = xcalloc(1, sizeof(*w) + n * sizeof(w->subs[0]));

    (void)old;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        const struct row *row = config_at(cfg, &section_log, i);
        const struct log *l = row->data;
        struct logfile_subscription *s = &w->subs[w->n++];

        str_copy(s->name, sizeof(s->name), l->name);
        s->kind = (enum logfile)l->type;
        s->level = (enum log_level)l->level;
        s->max_bytes = l->max_size;
        s->max_files = (unsigned)l->max_files;
        s->roll_every = (unsigned)l->rollover_interval;
        if (*l->rollover_at)
            rollover_time(l->rollover_at, &s->roll_at, &s->roll_day);
        s->alert_removed = l->alert_removed;
        s->push.on = l->method == LOGMETHOD_SYSLOG;
        if (s->push.on) {
            s->push.tcp = l->syslog_protocol != SYSLOG_UDP;
            s->push.tls = l->syslog_protocol == SYSLOG_TLS && *l->syslog_host;
            str_copy(s->push.host, sizeof(s->push.host), l->syslog_host);
            s->push.port = (unsigned)l->syslog_port;
            s->push.facility = facilities[l->syslog_facility];
        }
    }
    *state = w;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    const struct log_setup *setup = CONFIG_SINGLE(cfg, log_setup);
    struct wanted *w = state;

    if (setup)
        maillog_choose(setup->message_ids, setup->remote_responses, setup->subjects);
    logfile_configure(w->subs, w->n);
    free(w);
}

static void discard(void *state)
{
    free(state);
}

const struct reload_part reload_logs = {"logs", prepare, publish, discard};
