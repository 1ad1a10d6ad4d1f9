/* bounceconfig.c - bounce profiles: when to give up on a recipient and what to tell the sender. */
#include "cmds/common.h"

#include <stdlib.h>

struct listing {
    struct ui *ui;
    unsigned n;
};

static bool say_profile(void *arg, const struct row *r)
{
    struct listing *p = arg;

    ui_say(p->ui, "%u. %s", ++p->n, r->name);
    return true;
}

static void say_profiles(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    ui_say(ui, "Current bounce profiles:");
    session_each(s, &section_bounce_profile, NULL, say_profile, &p);
}

static void ask_alternate(struct ui *ui, struct session *s, struct row *r)
{
    const struct bounce_profile *p = r->data;

    if (!ui_interactive(ui) ||
        ask_yes(ui, "use_alternate",
                "Do you want hard bounce and delay warning messages sent to an alternate address,\n"
                "instead of the sender?",
                *p->alternate))
        ask_field(ui, s, r, "alternate");
    else
        row_set(r, "alternate", "", NULL);
}

static void ask_profile(struct ui *ui, struct session *s, struct row *r)
{
    const struct bounce_profile *p = r->data;

    ask_field(ui, s, r, "max_retries");
    ask_field(ui, s, r, "max_queue_seconds");
    for (bool again = true; again && !ui_failed(ui);) {
        ask_field(ui, s, r, "initial_retry");
        ask_field(ui, s, r, "max_retry");
        again = p->initial_retry > p->max_retry && ui_interactive(ui);
        if (again)
            ui_say(
                ui,
                "The initial retry interval (%llu) must not be longer than the maximum one (%llu).",
                (unsigned long long)p->initial_retry, (unsigned long long)p->max_retry);
    }
    ask_field(ui, s, r, "send_bounces");
    if (p->send_bounces) {
        ask_field(ui, s, r, "dsn_format");
        ask_field(ui, s, r, "failure_subject");
    }
    ask_field(ui, s, r, "delay_warnings");
    if (p->delay_warnings) {
        ask_field(ui, s, r, "delay_subject");
        ask_field(ui, s, r, "delay_interval");
        ask_field(ui, s, r, "delay_count");
    }
    ask_alternate(ui, s, r);
}

struct row *ask_new_bounce_profile(struct ui *ui, struct session *s)
{
    struct row *r = session_new(s, &section_bounce_profile, NULL);
    struct row *like = session_get(s, &section_bounce_profile, "Default");

    if (like)
        take_values(r, like);
    row_free(&like);
    ask_field(ui, s, r, "name");
    ask_profile(ui, s, r);
    return r;
}

static void profile_new(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    ask_new_bounce_profile(ui, s);
}

static void profile_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_bounce_profile, NULL, "edit");

    (void)unused;
    if (r)
        ask_profile(ui, s, r);
}

static void profile_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_name(ui, s, &section_bounce_profile, NULL, "delete");

    (void)unused;
    if (name && str_eq(name, "Default"))
        ui_fail(ui, E_INVALID,
                "The profile Default cannot be deleted; it is used where no other is chosen.");
    else if (name)
        session_delete(s, &section_bounce_profile, name);
    free(name);
}

static void bounce_setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_bounce_setup, "-");

    (void)unused;
    for (bool again = r; again && !ui_failed(ui);) {
        const struct bounce_setup *b = r->data;

        ask_all(ui, s, r);
        again = b->initial_host_retry > b->max_host_retry && ui_interactive(ui);
        if (again)
            ui_say(ui,
                   "The initial interval of an unreachable host (%llu) must not be longer than the "
                   "maximum one (%llu).",
                   (unsigned long long)b->initial_host_retry,
                   (unsigned long long)b->max_host_retry);
    }
}

static bool several(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_bounce_profile, NULL) > 1;
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new profile.", NULL, profile_new,    NULL      },
    {"EDIT",   "Modify a profile.",     NULL, profile_edit,   dialog_any},
    {"DELETE", "Remove a profile.",     NULL, profile_delete, several   },
    {"PRINT",  "Display a profile.",    NULL, dialog_print,   dialog_any},
    {"SETUP",  "Configure global bounce settings.", NULL, bounce_setup, NULL},
};
static const struct menu main_menu = {say_profiles, main_ops, countof(main_ops),
                                      &section_bounce_profile};

const struct command cmd_bounceconfig = {
    .name = "bounceconfig",
    .help = "Configure the behavior of bounces",
    .detail = "A profile is chosen by listener and by destination. A message bounces when its time "
              "in the queue or its number "
              "of retries is used up, whichever comes first; the retry interval doubles from the "
              "initial to the maximum one. A host that answers 4XX the first time is asked again within "
              "5 minutes, however long the initial interval is: greylisting wants that. SETUP has the "
              "intervals after which hosts that take no connection are probed.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_bounce_profile,
    .menu = &main_menu,
};
