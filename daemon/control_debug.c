/* control_debug.c - debug.fibers: every fiber, what it waits for and since when. */
#include "daemon/control.h"
#include "daemon/fiber.h"

static void add_fiber(const struct fiber_info *info, void *arg)
{
    json_t *j = json_object();

    json_put_str(j, "name", info->name);
    json_put_str(j, "what", info->what);
    json_put_int(j, "since_ms", clock_now() - info->since);
    json_put_int(j, "loop", info->loop);
    json_array_append_new(arg, j);
}

static bool do_fibers(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_t *list = json_array();

    (void)c;
    (void)args;
    (void)err;
    fiber_list(add_fiber, list); /* YIELDS */
    json_put(data, "fibers", list);
    return true;
}

const struct control_op control_debug_ops[] = {
    {"debug.fibers", ROLE_OPERATOR, do_fibers},
    {NULL,           0,             NULL     },
};
