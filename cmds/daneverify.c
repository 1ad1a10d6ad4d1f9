/* daneverify.c - can mail for a domain be protected by DANE? Asked and tried as a delivery does it.
 */
#include "cmds/verify.h"

struct lines {
    struct ui *ui;
    bool success;
};

static bool print_line(void *arg, const json_t *data)
{
    struct lines *l = arg;

    l->success |=
        str_eq(json_str(data, "event", ""), "result") && json_bool_of(data, "success", false);
    out_stream(l->ui, json_str(data, "line", ""), json_deep_copy(data));
    return !out_stopped(l->ui);
}

void run_test(struct ui *ui, struct session *s, const char *op, json_t *args)
{
    struct lines l = {.ui = ui};
    json_t *data;

    if (!session_stream(s, ui, op, args, print_line, &l))
        return;
    data = json_object();
    json_put(data, "success", json_boolean(l.success));
    out_data(ui, data);
    if (!l.success)
        ui_unsuccessful(ui);
}

bool accept_domain(void *unused, const char *answer, struct err *err)
{
    char ascii[256];

    (void)unused;
    if (!*answer)
        return err_set(err, E_USAGE, "Enter a domain, for example: example.com.");
    return domain_to_ascii(answer, ascii, sizeof(ascii), err) && host_check(ascii, err);
}

static void run(struct ui *ui, struct session *s)
{
    const struct ui_question q = {
        .text = "Enter the DANE domain to verify against:",
        .key = "domain",
        .help = "Mail to addresses of this domain: MX, address and TLSA records are looked "
                "up, and the mail hosts are asked for their certificates.",
        .accept = accept_domain};
    bool detail = ui_flag(ui, "--detail"), all = ui_flag(ui, "--all");
    const char *domain = ui_ask(ui, &q);
    json_t *args;

    if (ui_failed(ui))
        return;
    args = json_object();
    json_put_str(args, "domain", domain);
    json_put(args, "detail", json_boolean(detail));
    json_put(args, "all", json_boolean(all));
    if (ui_end_of_words(ui))
        run_test(ui, s, "dane.verify", args);
    else
        json_decref(args);
}

const struct command cmd_daneverify = {
    .name = "daneverify",
    .help = "Verify that mail for a domain can be delivered under DANE",
    .usage = "daneverify DOMAIN [--all] [--detail]",
    .detail =
        "Looks up the MX, address and TLSA records of a domain, connects to its mail hosts in the "
        "order in which "
        "mail would, and compares their certificates with the TLSA records: the first host that is "
        "proven "
        "ends the test. --all tests every MX host and succeeds when all are proven. --detail adds "
        "the TLSA "
        "records, why some cannot be used, and which one matched; such lines are indented. Nothing "
        "is sent and "
        "nothing is stored. Ctrl-C stops. In batch the exit code is 0 when DANE succeeds, else 1.",
    .roles = ROLE_OPERATOR,
    .run = run,
};
