/* factory.c - the configuration of an empty home, as the batch form would say it. */
#include "store/factory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"

struct setting {
    const struct section *section;
    const char *name, *values; /* "field=value|field=value" */
};

static const struct setting settings[] = {
    {&section_user,              "root",                    "full_name=Administrator|role=administrator"},
    {&section_log,               "mail_logs",               "type=mail"                                 },
    {&section_log,               "system_logs",             "type=system"                               },
    {&section_log,               "cli_logs",                "type=cli"                                  },
    {&section_log,               "status_logs",             "type=status"                               },
    {&section_log_setup,         "-",                       ""                                          },
    {&section_bounce_profile,    "Default",                 ""                                          },
    {&section_bounce_setup,      "-",                       ""                                          },
    {&section_bv_setup,          "-",                       ""                                          },
    {&section_listener_setup,    "-",                       ""                                          },
    {&section_listener,          "InboundMail",             "kind=public|default_behavior=accept|dhap_limit=25"},
    {&section_mail_policy,       "InboundMail/ACCEPTED",    "behavior=accept"                           },
    {&section_mail_policy,       "InboundMail/BLOCKED",     "behavior=reject"                           },
    {&section_mail_policy,       "InboundMail/THROTTLED",
     "behavior=accept|max_message_size=10M|max_concurrency=1|max_msgs_per_session=10|max_rcpts_per_"
     "msg=25|max_rcpts_per_hour=20"                                                                     },
    {&section_mail_policy,       "InboundMail/TRUSTED",
     "behavior=accept|max_message_size=100M|max_concurrency=600|max_msgs_per_session=5000|max_"
     "rcpts_per_msg=5000|dhap_limit=unlimited"                                                                               },
    {&section_sender_group,      "InboundMail/WHITELIST",
     "position=1|policy=TRUSTED|comment=My trusted senders have no rate limiting"                       },
    {&section_sender_group,      "InboundMail/BLACKLIST",
     "position=2|policy=BLOCKED|comment=Spammers are rejected"                                          },
    {&section_sender_group,      "InboundMail/SUSPECTLIST",
     "position=3|policy=THROTTLED|comment=Suspicious senders are throttled"                             },
    {&section_sender_group,      "InboundMail/UNKNOWNLIST",
     "position=4|policy=ACCEPTED|comment=Reviewed but undecided, continue normal acceptance"            },
    {&section_listener,          "OutboundMail",
     "kind=private|default_behavior=reject|max_message_size=100M|max_concurrency=600|max_msgs_per_"
     "session=10000|max_rcpts_per_msg=10000"                                                            },
    {&section_mail_policy,       "OutboundMail/RELAYED",
     "behavior=relay|max_message_size=100M|max_concurrency=1000|max_msgs_per_session=100000|max_"
     "rcpts_per_msg=10000"                                                                              },
    {&section_mail_policy,       "OutboundMail/BLOCKED",    "behavior=reject"                           },
    {&section_sender_group,      "OutboundMail/RELAYLIST",
     "position=1|hosts=127.0.0.0/8, ::1|policy=RELAYED|comment=Systems that may relay through this "
     "gateway"                                                                                          },
    {&section_ssl_settings,      "-",                       ""                                          },
    {&section_destination_setup, "-",                       ""                                          },
    {&section_alert_setup,       "-",                       ""                                          },
    {&section_authority_setup,   "-",                       ""                                          },
    {&section_crl_setup,         "-",                       ""                                          },
    {&section_ldap_setup,        "-",                       ""                                          },
    {&section_destination,       "default",
     "concurrency_limit=500|max_messages_per_connection=50|use_tls=off|bounce_profile=default"          },
    {&section_dns_setup,         "-",                       ""                                          },
    {&section_delivery,          "-",                       ""                                          },
    {&section_resource_limits,   "-",                       ""                                          },
    {&section_update,            "-",                       ""                                          },
    {&section_mta_sts_setup,     "-",                       ""                                          },
};

static void set(struct row *r, const char *field, const char *text)
{
    bool ok = row_set(r, field, text, NULL);

    assert(ok); /* constants, or values that were checked */
    (void)ok;
}

static struct row *row_named(const struct setting *s, const char *name)
{
    struct row *r = row_new(s->section, name);
    AUTO(strlist) struct strlist values = {0};

    strlist_split(&values, s->values, '|');
    for (size_t i = 0; i < values.n; i++) {
        char *equals = strchr(values.items[i], '=');

        *equals = '\0';
        set(r, values.items[i], equals + 1);
    }
    return r;
}

static struct row *row_of(const struct setting *s)
{
    return row_named(s, s->name);
}

size_t factory_listener(enum listener_kinds kind, const char *name, struct row **rows)
{
    const char *like = kind == LISTENER_PUBLIC ? "InboundMail" : "OutboundMail";
    size_t n = 0, length = strlen(like);

    for (size_t i = 0; i < countof(settings) && n < FACTORY_LISTENER_ROWS; i++) {
        const char *rest = settings[i].name + length;
        char *full;

        if (!str_starts(settings[i].name, like) || (*rest && *rest != '/'))
            continue;
        full = xasprintf("%s%s", name, rest);
        rows[n++] = row_named(&settings[i], full);
        free(full);
    }
    return n;
}

static void place_listeners(const struct factory *f, struct row *r)
{
    const char *ports = getenv("POSTERN_TEST_PORTS");
    bool first = str_eq(r->name, "InboundMail");
    AUTO(strlist) struct strlist two = {0};

    set(r, "address", f->privileged ? "0.0.0.0" : "127.0.0.1");
    set(r, "port", f->privileged ? (first ? "25" : "587") : first ? "2525" : "2587");
    if (!ports)
        return;
    strlist_split(&two, ports, ',');
    if (two.n == 2)
        row_set(r, "port", two.items[first ? 0 : 1], NULL);
}

static void set_hostname(const struct factory *f, struct row *r)
{
    char *qualified = xasprintf("%s.localdomain", f->hostname);

    if (!row_set(r, "hostname", f->hostname, NULL))
        row_set(r, "hostname", qualified, NULL); /* else the schema's default stays */
    free(qualified);
}

struct config *factory_config(const struct factory *f)
{
    struct config_edit edits[countof(settings) + 3];
    struct config *cfg;
    size_t n = 0;

    for (size_t i = 0; i < countof(settings); i++) {
        struct row *r = row_of(&settings[i]);

        if (r->section == &section_listener)
            place_listeners(f, r);
        edits[n++].row = r;
    }
    edits[n].row = row_new(&section_system, "-");
    set_hostname(f, edits[n++].row);
    edits[n].row = row_new(&section_certificate, "Demo");
    set(edits[n].row, "certificate", f->demo_cert);
    set(edits[n].row, "private_key", f->demo_key);
    set(edits[n++].row, "demo", "yes");
    if (f->owner && !str_eq(f->owner, "root")) {
        struct row *r = row_new(&section_user, f->owner);

        if (row_set(r, "name", f->owner, NULL)) {
            set(r, "full_name", "Administrator");
            set(r, "role", "administrator");
            edits[n++].row = r;
        } else {
            row_free(&r); /* a login name this system's users cannot have is still administrator by
                             its uid */
        }
    }
    for (size_t i = 0; i < n; i++) {
        row_freeze(edits[i].row);
        edits[i].section = edits[i].row->section;
        edits[i].name = edits[i].row->name;
    }
    cfg = config_edit(NULL, edits, n, 1);
    for (size_t i = 0; i < n; i++)
        row_free(&edits[i].row);
    return cfg;
}
