/* deliveryconfig.c - outgoing mail of the whole system. */
#include "cmds/common.h"

static void delivery_setup(struct ui *ui, struct session *s, struct row *unused)
{
    static const char *const fields[] = {"source_address", "possible_delivery", "max_concurrency",
                                         "max_tls_concurrency"};
    struct row *r = session_edit(s, &section_delivery, "-");

    (void)unused;
    for (size_t i = 0; r && i < countof(fields); i++)
        ask_field(ui, s, r, fields[i]);
}

static void say_delivery(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_delivery, "-");
    const struct delivery *d = r ? r->data : NULL;
    char number[COUNT_TEXT];

    (void)unused;
    if (d) {
        ui_say(ui, "Maximum outbound delivery concurrency: %s",
               count_text(d->max_concurrency, number));
        ui_say(ui, "Maximum outbound TLS concurrency: %s", count_text(d->max_tls_concurrency, number));
        ui_say(ui, "Possible Delivery: %s", d->possible_delivery ? "Yes" : "No");
        ui_say(ui, "Source addresses: %s",
               d->source_address.n ? row_text(r, "source_address") : "chosen by the system");
    }
    row_free(&r);
}

static const struct menu_op main_ops[] = {
    {"SETUP", "Configure mail delivery.", NULL, delivery_setup, NULL},
};
static const struct menu main_menu = {say_delivery, main_ops, countof(main_ops), &section_delivery};

const struct command cmd_deliveryconfig = {
    .name = "deliveryconfig",
    .help = "Configure mail delivery",
    .detail = "Settings of all outgoing connections: where they start from, how many there are, and how many of them with TLS. Limits by domain are in destconfig.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_delivery,
    .menu = &main_menu,
};
