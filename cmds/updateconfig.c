/* updateconfig.c - how the gateway fetches over HTTPS: proxy, times, addresses. */
#include "cmds/common.h"

static const char *label(const struct row *r, const char *field)
{
    return *row_text(r, field) ? row_text(r, field) : "none";
}

static void say_update(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_update, "-");
    const struct update *u = r ? r->data : NULL;

    (void)unused;
    if (!u)
        return;
    if (*u->proxy_host) {
        ui_say(ui, "HTTPS Proxy server: %s port %llu", u->proxy_host,
               (unsigned long long)u->proxy_port);
        ui_say(ui, "HTTPS Proxy user: %s", label(r, "proxy_user"));
    } else {
        ui_say(ui, "HTTPS Proxy server: not enabled");
    }
    ui_say(ui, "Time to connect: %llu seconds", (unsigned long long)u->connect_timeout);
    ui_say(ui, "Time without data: %llu seconds", (unsigned long long)u->idle_timeout);
    ui_say(ui, "Time of a whole fetch: %llu seconds", (unsigned long long)u->total_timeout);
    ui_say(ui, "Private addresses: %s", u->allow_private_addresses ? "allowed" : "refused");
    row_free(&r);
}

static void setup_proxy(struct ui *ui, struct session *s)
{
    struct row *r = session_edit(s, &section_update, "-");
    const struct update *u = r ? r->data : NULL;

    if (!u)
        return;
    if (!ask_yes(ui, "use_proxy", "Do you want to use an HTTPS proxy server?", *u->proxy_host))
        row_set(r, "proxy_host", "", NULL);
    else
        ask_field(ui, s, r, "proxy_host");
    if (*u->proxy_host) {
        ask_field(ui, s, r, "proxy_port");
        ask_field(ui, s, r, "proxy_user");
    } else {
        row_set(r, "proxy_user", "", NULL);
    }
    if (*u->proxy_user)
        ask_field(ui, s, r, "proxy_password");
    else
        row_set(r, "proxy_password", "", NULL);
}

static void update_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r;

    (void)unused;
    setup_proxy(ui, s);
    r = ui_failed(ui) ? NULL : session_edit(s, &section_update, "-");
    if (!r)
        return;
    ask_group(ui, s, r, "TIMEOUTS");
    ask_group(ui, s, r, "ADDRESSES");
}

static const struct menu_op main_ops[] = {
    {"SETUP", "Edit update configuration.", NULL, update_setup, NULL},
};
static const struct menu main_menu = {say_update, main_ops, countof(main_ops), &section_update};

const struct command cmd_updateconfig = {
    .name = "updateconfig",
    .help = "Configure how the gateway fetches over HTTPS",
    .detail =
        "Proxy server, times and addresses of fetches over HTTPS: MTA-STS policies. They never "
        "follow "
        "redirects, and certificates are verified against the lists of certconfig > certauthority.",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_update,
    .menu = &main_menu,
};
