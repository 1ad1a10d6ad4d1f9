/* control_sts.c - sts.*: the cached MTA-STS policies. */
#include "daemon/control.h"

#include "daemon/mta_sts.h"
#include "store/base/log.h"

#define PAGE 1000u

static void put_time(json_t *o, const char *key, usec_t t)
{
    char text[40];

    if (t)
        json_put_str(o, key, clock_rfc3339(t, text));
}

static const char *mode_word(const struct sts_policy *p)
{
    return p ? sts_state_word(p->mode) : "";
}

static void put_policy(json_t *o, const struct sts_policy *p)
{
    json_t *mx = json_array();

    for (size_t i = 0; i < p->mx.n; i++)
        json_array_append_new(mx, json_string(p->mx.items[i]));
    json_put_str(o, "id", p->id);
    json_put(o, "mx", mx);
    json_put_int(o, "max_age", p->max_age);
    put_time(o, "fetched", p->fetched);
    put_time(o, "expires", p->fetched + (usec_t)p->max_age * 1000000);
}

static json_t *describe(const struct sts_info *i)
{
    json_t *o = json_object();

    json_put_str(o, "domain", i->domain);
    json_put_str(o, "mode", mode_word(i->policy));
    if (i->policy)
        put_policy(o, i->policy);
    put_time(o, "used", i->used);
    put_time(o, "refresh", i->refresh);
    if (*i->failed_id) {
        json_put_str(o, "failed_id", i->failed_id);
        json_put_str(o, "failure", i->failure);
        put_time(o, "retry", i->retry);
    }
    return o;
}

struct page {
    json_t *policies;
    bool more;
};

static bool add_to_page(const struct sts_info *i, void *arg)
{
    struct page *page = arg;

    page->more = json_array_size(page->policies) == PAGE;
    if (!page->more)
        json_array_append_new(page->policies, describe(i));
    return !page->more;
}

static bool sts_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct page page = {.policies = json_array()};

    (void)c;
    (void)err;
    mta_sts_list(json_str(args, "after", NULL), add_to_page, &page);
    json_put(data, "policies", page.policies);
    json_put(data, "more", json_boolean(page.more));
    return true;
}

static void show(const struct sts_info *i, void *arg)
{
    AUTO(json) json_t *o = describe(i);

    json_object_update(arg, o);
}

static bool sts_show(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *domain = json_str(args, "domain", "");

    (void)c;
    return mta_sts_show(domain, show, data) ||
           err_set(err, E_NOT_FOUND, "No MTA-STS policy of %s is cached.", str_printable(domain));
}

static bool sts_refresh(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *domain = json_str(args, "domain", "");

    (void)c;
    if (!mta_sts_refresh(domain, clock_in(SECONDS(90)), err)) /* YIELDS */
        return err_wrap(err, "The MTA-STS policy of %s was not fetched", str_printable(domain));
    mta_sts_show(domain, show, data);
    return true;
}

static bool sts_flush(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *domain = json_str(args, "domain", NULL);
    unsigned n = mta_sts_flush(domain);

    (void)err;
    json_put_int(data, "flushed", n);
    if (n) {
        log_info("mta-sts: %s forgot the policy of %s", control_user(c),
                 domain ? str_printable(domain) : "every domain");
        control_audit(c, "sts.flush", domain ? domain : "all", "ok", NULL); /* YIELDS */
    }
    return true;
}

const struct control_op control_sts_ops[] = {
    {"sts.list",    ROLE_READONLY, sts_list   },
    {"sts.show",    ROLE_READONLY, sts_show   },
    {"sts.refresh", ROLE_OPERATOR, sts_refresh},
    {"sts.flush",   ROLE_ADMIN,    sts_flush  },
    {NULL,          0,             NULL       },
};
