/* bounceconfig.c - bounce profiles: when to give up on a recipient and what to tell the sender. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* --- the questions ---------------------------------------------------------------------------- */

/* Y, N or D, in full or in part; '\0': none of them. */
static char answer_of(const char *text)
{
    static const char *const words[] = {"yes", "no", "default"};

    for (size_t i = 0; *text && i < countof(words); i++)
        if (strlen(text) <= strlen(words[i]) && strncasecmp(text, words[i], strlen(text)) == 0)
            return *words[i];
    return '\0';
}

static bool accept_answer(void *arg, const char *answer, struct err *err)
{
    bool has_default = *(const bool *)arg;
    char a = answer_of(answer);

    if (a && (a != 'd' || has_default))
        return true;
    return err_set(err, E_INVALID, has_default ? "Please answer Yes, No or Default." : "Please answer Y or N.");
}

static bool is_base(const struct row *r)
{
    return str_eq(((const struct bounce_profile *)r->data)->name, "Default");
}

/* Yes, No, or what the profile Default says; that one has only the first two. */
static char ask_answer(struct ui *ui, const struct row *r, const char *key, const char *question, const char *now)
{
    static const struct ui_choice three[] = {{"Yes", NULL}, {"No", NULL}, {"Default", "As the profile Default says"}, {NULL, NULL}},
                                  two[] = {{"Yes", NULL}, {"No", NULL}, {NULL, NULL}};
    bool has_default = !is_base(r);
    char *text = has_default ? xasprintf("%s (Yes/No/Default)", question) : xstrdup(question);
    struct ui_question q = {.text = text,
                            .key = key,
                            .deflt = str_eq(now, "yes") ? "Y" : str_eq(now, "no") ? "N" : "D",
                            .same_line = true,
                            .choices = has_default ? three : two,
                            .accept = accept_answer,
                            .arg = &has_default};
    char answer = answer_of(ui_ask(ui, &q));

    free(text);
    return answer;
}

static void ask_switch(struct ui *ui, struct row *r, const char *field)
{
    const struct field *f = field_find(r->section, field);
    char answer = ask_answer(ui, r, field, f->prompt, row_text(r, field));

    if (answer && !ui_failed(ui))
        row_set(r, field, answer == 'y' ? "yes" : answer == 'n' ? "no" : "default", NULL);
}

static void ask_alternate(struct ui *ui, struct session *s, struct row *r)
{
    const struct bounce_profile *p = r->data;
    const char *now = str_eq(p->alternate, "default") ? "default" : *p->alternate ? "yes" : "no";
    char answer;

    if (!ui_interactive(ui)) {
        ask_field(ui, s, r, "alternate");
        return;
    }
    answer = ask_answer(ui, r, "use_alternate",
                        "Do you want hard bounce and delay warning messages sent to an alternate address,\n"
                        "instead of the sender?", now);
    if (answer == 'y') {
        if (str_eq(p->alternate, "default"))
            row_set(r, "alternate", "", NULL);
        ask_needed(ui, r, "alternate");
    } else if (answer && !ui_failed(ui)) {
        row_set(r, "alternate", answer == 'd' ? "default" : "", NULL);
    }
}

/* "System Generated", or one of the templates there are. */
static void ask_template(struct ui *ui, struct session *s, struct row *r)
{
    const struct bounce_profile *p = r->data;
    struct strlist names = {0};
    struct ui_choice *choices;
    int now = 0, answer;

    session_names(s, &section_bounce_template, NULL, &names);
    choices = xcalloc(names.n + 2, sizeof(*choices));
    choices[0] = (struct ui_choice){"System Generated", NULL};
    for (size_t i = 0; i < names.n; i++) {
        choices[i + 1] = (struct ui_choice){names.items[i], NULL};
        if (str_eq(names.items[i], p->template))
            now = (int)i + 1;
    }
    answer = ask_choice(ui, "template", field_find(r->section, "template")->prompt, choices, now);
    if (!ui_failed(ui))
        row_set(r, "template", answer > 0 ? choices[answer].word : "", NULL);
    if (ask_yes(ui, "use_languages", "Do you want to configure language specific templates?", p->language_templates.n > 0))
        ask_field(ui, s, r, "language_templates");
    else if (!ui_failed(ui))
        row_set(r, "language_templates", "", NULL);
    free(choices);
    strlist_free(&names);
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
    ask_switch(ui, r, "send_bounces");
    if (p->send_bounces != ANSWER_NO) {
        ask_switch(ui, r, "dsn_format");
        ask_field(ui, s, r, "failure_subject");
        ask_template(ui, s, r);
        ask_switch(ui, r, "parse_status");
    }
    ask_switch(ui, r, "delay_warnings");
    if (p->delay_warnings == ANSWER_YES) {
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

/* --- templates -------------------------------------------------------------------------------- */

static bool any_template(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_bounce_template, NULL) > 0;
}

static void say_templates(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    ui_say(ui, any_template(s, NULL) ? "Current notification templates:" : "There are no notification templates.");
    session_each(s, &section_bounce_template, NULL, say_profile, &p);
}

static void template_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_bounce_template, NULL, "edit");

    (void)unused;
    if (r)
        ask_field(ui, s, r, "text");
}

static void template_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_name(ui, s, &section_bounce_template, NULL, "delete");

    (void)unused;
    if (name && ask_deletable(ui, s, &section_bounce_template, name, NULL))
        session_delete(s, &section_bounce_template, name);
    free(name);
}

static const struct menu_op template_ops[] = {
    {"NEW",    "Create a new template.", NULL, dialog_new,      NULL        },
    {"EDIT",   "Modify a template.",     NULL, template_edit,   any_template},
    {"DELETE", "Remove a template.",     NULL, template_delete, any_template},
    {"PRINT",  "Display a template.",    NULL, dialog_print,    any_template},
};
static const struct menu template_menu = {say_templates, template_ops, countof(template_ops),
                                          &section_bounce_template};

static void templates(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &template_menu, NULL);
}

/* --- the command ------------------------------------------------------------------------------ */

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
    {"TEMPLATES", "Manage the texts of bounces.", NULL, templates, NULL},
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
              "intervals after which hosts that take no connection are probed. \"Default\" as an answer means: as the profile Default says at that time. "
              "Bounces may have a text of your own, by the language of the message; its variables are replaced: $Subject, "
              "$Date, $Time, $GMTTimestamp, $MID, $BouncedRecipient, $BounceReason, $RemoteHost, $EnvelopeSender, "
              "$Hostname. Bounces are not signed. A bounce that bounces is logged and gone: the null sender gets none.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_bounce_profile,
    .menu = &main_menu,
};
