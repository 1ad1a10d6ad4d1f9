/* statuslog.c - see statuslog.h. One table says which number of "status" stands behind which key;
 * what this gateway has nothing of (quarantines, filters, scanners) is 0, so that a script finds its
 * keys. */
#include "daemon/statuslog.h"

#include <stdio.h>
#include <string.h>

#include "daemon/control.h"
#include "daemon/fiber.h"
#include "daemon/loop.h"
#include "daemon/maillog.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/base/str.h"

enum where { GAUGE, COUNTER, ID, EXTRA, NOTHING };

static const struct {
    const char *key;
    enum where where;
    const char *name; /* in the answer of "status" */
} numbers[] = {
    {"CPULd",      GAUGE,   "cpu_utilization"            },
    {"DskIO",      GAUGE,   "disk_utilization"           },
    {"RAMUtil",    GAUGE,   "ram_utilization"            },
    {"QKUsd",      GAUGE,   "kbytes_used"                },
    {"QKFre",      GAUGE,   "kbytes_free"                },
    {"CrtMID",     ID,      "message_id"                 },
    {"CrtICID",    ID,      "injection_conn_id"          },
    {"CrtDCID",    ID,      "delivery_conn_id"           },
    {"InjMsg",     COUNTER, "inj_msgs"                   },
    {"InjRcp",     COUNTER, "inj_recips"                 },
    {"GenBncRcp",  COUNTER, "gen_bounce_recips"          },
    {"RejRcp",     COUNTER, "rejected_recips"            },
    {"DrpMsg",     COUNTER, "dropped_msgs"               },
    {"SftBncEvnt", COUNTER, "soft_bounced_evts"          },
    {"CmpRcp",     COUNTER, "completed_recips"           },
    {"HrdBncRcp",  COUNTER, "hard_bounced_recips"        },
    {"DnsHrdBnc",  COUNTER, "dns_hard_bounced_recips"    },
    {"5XXHrdBnc",  COUNTER, "5xx_hard_bounced_recips"    },
    {"FltrHrdBnc", NOTHING, NULL                         },
    {"ExpHrdBnc",  COUNTER, "expired_hard_bounced_recips"},
    {"OtrHrdBnc",  COUNTER, "other_hard_bounced_recips"  },
    {"DlvRcp",     COUNTER, "delivered_recips"           },
    {"DelRcp",     COUNTER, "deleted_recips"             },
    {"GlbUnsbHt",  NOTHING, NULL                         },
    {"ActvRcp",    GAUGE,   "active_recips"              },
    {"UnatmptRcp", GAUGE,   "unattempted_recips"         },
    {"AtmptRcp",   GAUGE,   "attempted_recips"           },
    {"CrtCncIn",   GAUGE,   "conn_in"                    },
    {"CrtCncOut",  GAUGE,   "conn_out"                   },
    {"DnsReq",     COUNTER, "dns_requests"               },
    {"NetReq",     COUNTER, "net_requests"               },
    {"CchHit",     COUNTER, "cache_hits"                 },
    {"CchMis",     COUNTER, "cache_misses"               },
    {"CchEct",     COUNTER, "cache_exceptions"           },
    {"CchExp",     COUNTER, "cache_expired"              },
    {"DstInMem",   GAUGE,   "dests_in_memory"            },
    {"ResCon",     GAUGE,   "resource_conservation"      },
    {"WorkQ",      GAUGE,   "msgs_in_work_queue"         },
    {"QuarMsgs",   NOTHING, NULL                         },
    {"QuarQKUsd",  NOTHING, NULL                         },
    {"LogUsd",     GAUGE,   "log_used"                   },
    {"TotalLd",    GAUGE,   "total_utilization"          },
    {"LogAvail",   EXTRA,   "log_available"              },
    {"TLSIn",      COUNTER, "tls_in"                     },
    {"TLSOut",     COUNTER, "tls_out"                    },
};

/* "148G": the unit belongs to the value. */
static void add_size(struct buf *out, json_int_t bytes)
{
    static const char units[] = "KMGT";
    unsigned u = 0;

    bytes /= 1024;
    while (bytes >= 1024 && u < 3) {
        bytes /= 1024;
        u++;
    }
    buf_printf(out, "%lld%c", (long long)bytes, units[u]);
}

void statuslog_line(const json_t *status, struct buf *out)
{
    const json_t *gauges = json_object_get(status, "gauges"),
                 *counters = json_object_get(status, "counters"), *ids = json_object_get(status, "ids");

    buf_str_add(out, "Status:");
    for (size_t i = 0; i < countof(numbers); i++) {
        const char *name = numbers[i].name;
        json_int_t n = 0;

        buf_printf(out, " %s ", numbers[i].key);
        if (numbers[i].where == EXTRA) {
            add_size(out, json_int(gauges, name, 0));
            continue;
        }
        if (numbers[i].where == GAUGE)
            n = json_int(gauges, name, 0);
        else if (numbers[i].where == ID)
            n = json_int(ids, name, 0);
        else if (numbers[i].where == COUNTER) /* since the last reset */
            n = json_int(json_object_get(counters, name), "reset", 0);
        buf_printf(out, "%lld", (long long)n);
    }
}

static bool write_line(void *unused, struct err *err) /* on a worker: it reads /proc */
{
    AUTO(buf) struct buf line = BUF_INIT(4000);
    json_t *status = json_object();

    (void)unused;
    (void)err;
    control_status(status);
    statuslog_line(status, &line);
    maillog_status(buf_str(&line));
    json_decref(status);
    return true;
}

static msec_t frequency(void)
{
    struct config *cfg = running_config();
    const struct log_setup *setup = cfg ? CONFIG_SINGLE(cfg, log_setup) : NULL;
    msec_t every = SECONDS(setup ? setup->metrics_frequency : 60);

    config_free(&cfg);
    return every;
}

static void run(void *unused)
{
    msec_t last = clock_now();

    (void)unused;
    fiber_interruptible(true);
    while (fiber_sleep(SECONDS(1))) { /* the setting may change at any time */
        if (clock_now() - last < frequency())
            continue;
        last = clock_now();
        worker_call(write_line, NULL, NULL);
    }
}

void statuslog_run(void)
{
    fiber_spawn(loops_get(0), "status log", run, NULL);
}
