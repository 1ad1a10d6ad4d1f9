/* reload_logs.c - the part of the configuration that logfile.c follows: subscriptions, levels, sizes. */
#include <stdlib.h>

#include "daemon/logfile.h"
#include "daemon/reload.h"
#include "store/base/str.h"
#include "store/schema.h"

_Static_assert((int)LEVEL_CRITICAL == (int)LOG_CRITICAL && (int)LEVEL_TRACE == (int)LOG_TRACE,
               "the choices of log_levels are in the order of enum log_level");
_Static_assert((int)LOGTYPE_MAIL == (int)LOGFILE_MAIL && (int)LOGTYPE_CLI == (int)LOGFILE_CLI,
               "the choices of log_types are in the order of enum logfile");

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
    }
    *state = w;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    struct wanted *w = state;

    (void)cfg;
    logfile_configure(w->subs, w->n);
    free(w);
}

static void discard(void *state)
{
    free(state);
}

const struct reload_part reload_logs = {"logs", prepare, publish, discard};
