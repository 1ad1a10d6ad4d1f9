/* control_auth.c - auth.*: hosts that are locked out because SMTP authentications failed. */
#include "daemon/control.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/auth.h"
#include "store/base/log.h"

#define MAX_SHOWN 1000u

static bool auth_locked(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct auth_lockout *list = xcalloc(MAX_SHOWN, sizeof(*list));
    size_t n = auth_lockouts(list, MAX_SHOWN);
    json_t *hosts = json_array();

    (void)c;
    (void)args;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_object();

        json_put_str(o, "address", list[i].address);
        json_put_int(o, "failures", list[i].failures);
        json_put_str(o, "user", str_printable(list[i].user));
        json_put_int(o, "seconds", (list[i].left + 999) / 1000);
        json_array_append_new(hosts, o);
    }
    json_put(data, "hosts", hosts);
    free(list);
    return true;
}

static bool auth_unlock_op(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *address = json_str(args, "address", "");
    char plain[ADDR_TEXT];
    struct addr ip;
    size_t n;

    str_copy(plain, sizeof(plain), address);
    if (str_ends(plain, "/64")) /* as auth.locked names an IPv6 host */
        plain[strlen(plain) - 3] = '\0';
    if (!str_ieq(address, "all") && !addr_parse(plain, &ip))
        return err_set(err, E_INVALID, "\"%s\" is neither an IP address nor \"all\".",
                       str_printable(address));
    n = auth_unlock(str_ieq(address, "all") ? NULL : address);
    json_put_int(data, "unlocked", (int64_t)n);
    if (n) {
        log_info("smtp-auth: %s unlocked %s", control_user(c), str_printable(address));
        control_audit(c, "auth.unlock", address, "ok", NULL); /* YIELDS */
    }
    return true;
}

const struct control_op control_auth_ops[] = {
    {"auth.locked", ROLE_READONLY, auth_locked   },
    {"auth.unlock", ROLE_OPERATOR, auth_unlock_op},
    {NULL,          0,             NULL          },
};
