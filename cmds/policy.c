/* policy.c - the parameters of a mail flow policy, or of a listener for those that say nothing: the
 * block that shows them, the questions in the order people know, the options of other systems'
 * batch lines. */
#include "cmds/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool of_listener(const struct row *r)
{
    return r->section == &section_listener;
}

static const char *word_of(const struct row *r, const char *field)
{
    const struct field *f = field_find(r->section, field);

    return f->choices[*(const int *)row_slot(r, f)].text;
}

static uint64_t number_in(const struct row *r, const char *field)
{
    return *(const uint64_t *)row_slot(r, field_find(r->section, field));
}

/* --- the block ------------------------------------------------------------------------------- */

/* As the block shows it: "20M", "4,500", "Disabled", "Required". */
static const char *shown(const struct row *r, const struct field *f, char number[COUNT_TEXT])
{
    if (f->type == &type_choice)
        return f->choices[*(const int *)row_slot(r, f)].text;
    if (f->type == &type_boolean)
        return *(const bool *)row_slot(r, f) ? "Yes" : "No";
    if (f->type != &type_uint)
        return row_text(r, f->name);
    if (!*(const uint64_t *)row_slot(r, f) && f->zero)
        return str_eq(f->zero, "unlimited") ? "Disabled" : f->zero;
    return count_text(*(const uint64_t *)row_slot(r, f), number);
}

static void say_response(struct ui *ui, const char *title, uint64_t code, const char *text,
                         const char *standard)
{
    if (*text || standard)
        ui_say(ui, "%s:\n    %llu %s", title, (unsigned long long)code,
               *text ? str_printable(text) : standard);
}

static void say_harvesting(struct ui *ui, const struct listener *l)
{
    char number[COUNT_TEXT];

    ui_say(ui, "Directory Harvest Attack Prevention: %s", l->dhap_limit ? "Enabled" : "Disabled");
    if (!l->dhap_limit)
        return;
    ui_say(ui, "Maximum Number Of Invalid Recipients Per Hour: %s",
           count_text(l->dhap_limit, number));
    if (l->dhap_action == DHAP_CODE)
        say_response(ui, "Directory Harvest SMTP Response", l->dhap_code, l->dhap_text,
                     "Too many invalid recipients");
}

static void say_rates(struct ui *ui, const struct listener *l)
{
    char number[COUNT_TEXT];

    ui_say(ui, "Maximum Number Of Recipients Per Hour: %s",
           l->max_rcpts_per_hour ? count_text(l->max_rcpts_per_hour, number) : "Disabled");
    if (l->max_rcpts_per_hour)
        say_response(ui, "Maximum Recipients Per Hour SMTP Response", l->limit_code, l->limit_text,
                     "Too many recipients received this hour");
    if (l->max_rcpts_per_sender)
        ui_say(ui, "Maximum Number Of Recipients Per Envelope Sender: %s in %llu minutes",
               count_text(l->max_rcpts_per_sender, number), (unsigned long long)l->sender_minutes);
}

/* What the block says in its own words or leaves out; whatever else is in the group follows at its
 * end. */
static const char *const said[] = {"max_message_size",
                                   "max_concurrency",
                                   "max_msgs_per_session",
                                   "max_rcpts_per_msg",
                                   "banner_host",
                                   "accept_code",
                                   "accept_text",
                                   "reject_code",
                                   "reject_text",
                                   "dhap_limit",
                                   "dhap_action",
                                   "dhap_code",
                                   "dhap_text",
                                   "max_rcpts_per_hour",
                                   "limit_code",
                                   "limit_text",
                                   "max_rcpts_per_sender",
                                   "sender_minutes",
                                   "tls",
                                   "tls_senders",
                                   "verify_client",
                                   "auth",
                                   "auth_needs_tls"};

static bool among(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(names[i], name))
            return true;
    return false;
}

void say_policy_parameters(struct ui *ui, const struct row *listener)
{
    const struct listener *l = listener->data;
    char number[COUNT_TEXT];

    ui_say(ui, "Default Policy Parameters");
    ui_say(ui, "==========================");
    for (size_t i = 0; i < 4; i++) {
        const struct field *f = field_find(&section_listener, said[i]);

        ui_say(ui, "%s: %s", f->label, shown(listener, f, number));
    }
    if (*l->banner_host)
        ui_say(ui, "Hostname In The SMTP Banner: %s", l->banner_host);
    say_response(ui, "SMTP Acceptance Response", l->accept_code, l->accept_text, NULL);
    say_response(ui, "SMTP Rejection Response", l->reject_code, l->reject_text, NULL);
    say_harvesting(ui, l);
    say_rates(ui, l);
    ui_say(ui, "Allow TLS Connections: %s", word_of(listener, "tls"));
    if (l->tls == TLS_PREFERRED && l->tls_senders.n)
        ui_say(ui, "Senders That Need TLS: %s", row_text(listener, "tls_senders"));
    if (l->tls != TLS_OFF)
        ui_say(ui, "Verify Client Certificate: %s", l->verify_client ? "Yes" : "No");
    ui_say(ui, "Allow SMTP Authentication: %s", word_of(listener, "auth"));
    ui_say(ui, "Require TLS To Offer SMTP authentication: %s", l->auth_needs_tls ? "Yes" : "No");
    for (size_t i = 0; i < section_listener.nfields; i++) {
        const struct field *f = &section_listener.fields[i];

        if (str_eq(f->group, "DEFAULT") && !among(said, countof(said), f->name))
            ui_say(ui, "%s: %s", f->label, shown(listener, f, number));
    }
}

/* --- the options of other systems' batch lines ------------------------------------------------ */

static const struct option {
    const char *option, *field;
    const char *no; /* what "No" stands for, in a policy and in a listener */
    const char *no_listener;
} options[] = {
    {"--max_size", "max_message_size",     "default",   NULL       },
    {"--max_conn", "max_concurrency",      "default",   NULL       },
    {"--max_msgs", "max_msgs_per_session", "default",   NULL       },
    {"--max_rcpt", "max_rcpts_per_msg",    "default",   NULL       },
    {"--override", "banner_host",          "",          ""         },
    {"--cust_acc", "accept_text",          "",          ""         },
    {"--acc_code", "accept_code",          "default",   "220"      },
    {"--cust_rej", "reject_text",          "",          ""         },
    {"--rej_code", "reject_code",          "default",   "554"      },
    {"--rate_lim", "max_rcpts_per_hour",   "unlimited", "unlimited"},
    {"--cust_lim", "limit_text",           "",          ""         },
    {"--lim_code", "limit_code",           "default",   "452"      },
    {"--dhap",     "dhap_limit",           "unlimited", "unlimited"},
};
static const char *const ignored_options[] = {"--use_sb", "--as_scan", "--av_scan", "--sig_bits"};

static void take_options(struct ui *ui, struct row *row)
{
    for (size_t i = 0; i < countof(options) && !ui_failed(ui); i++) {
        const struct option *o = &options[i];
        const char *value = ui_option(ui, o->option);
        const char *no = of_listener(row) ? o->no_listener : o->no;
        struct err err = {0};

        if (!value)
            continue;
        if (str_ieq(value, "no") && no)
            value = no;
        else if (str_ieq(value, "default") &&
                 field_find(row->section, o->field)->type == &type_text)
            value = "";
        if (!row_set(row, o->field, value, &err))
            ui_fail(ui, E_INVALID, "%s: %s", o->option, err.text);
    }
    for (size_t i = 0; i < countof(ignored_options); i++)
        if (ui_option(ui, ignored_options[i]))
            ui_say(ui, "%s has no effect here: this gateway has no such check.",
                   ignored_options[i]);
    if (ui_option(ui, "--tls"))
        ui_fail(ui, E_USAGE,
                "--tls is not an option; write tls=off, tls=preferred or tls=required.");
}

static bool is_parameter(const struct row *r, const struct field *f)
{
    return of_listener(r) ? str_eq(f->group, "DEFAULT")
                          : !f->key && !f->hidden && !str_eq(f->name, "behavior");
}

/* What the line says; nothing is asked. */
static void take_words(struct ui *ui, struct row *row)
{
    take_options(ui, row);
    for (size_t i = 0; i < row->section->nfields && !ui_failed(ui); i++) {
        const struct field *f = &row->section->fields[i];
        const char *value = is_parameter(row, f) ? ui_key(ui, f->name) : NULL;
        struct err err = {0};

        if (value && !row_set(row, f->name, value, &err))
            ui_fail(ui, E_INVALID, "%s: %s", f->name, err.text);
    }
}

/* --- the questions ---------------------------------------------------------------------------- */

struct asking {
    struct ui *ui;
    struct session *s;
    struct row *row;
    struct row *base; /* of a policy: its listener, whose values it inherits; NULL: the row is the
                         listener */
};

static void set(struct asking *a, const char *field, const char *text)
{
    struct err err = {0};

    if (!ui_failed(a->ui) && !row_set(a->row, field, text, &err))
        ui_error(a->ui, &err);
}

static void ask(struct asking *a, const char *field)
{
    ask_field(a->ui, a->s, a->row, field);
}

/* The value that counts: a policy's own, or the listener's. */
static bool has(const struct asking *a, const char *field, const char *word)
{
    const char *own = row_text(a->row, field);

    return str_eq(a->base && str_eq(own, "default") ? row_text(a->base, field) : own, word);
}

static bool accept_switch(void *policy, const char *answer, struct err *err)
{
    static const char *const words[] = {"y", "yes", "n", "no", "default"};

    for (size_t i = 0; i < countof(words) - (policy ? 0 : 1); i++)
        if (str_ieq(answer, words[i]))
            return true;
    return err_set(err, E_USAGE,
                   policy ? "Please answer Y, N or default." : "Please answer Y or N.");
}

enum answer { DEFAULT, NO, YES };

/* Y or N; of a policy also "default": as the listener has it. */
static enum answer ask_switch(struct asking *a, const char *key, const char *question,
                              enum answer now)
{
    static const char *const words[] = {"default", "N", "Y"};
    static const struct ui_choice choices[] = {
        {"Y",       "Yes."                                            },
        {"N",       "No."                                             },
        {"default", "As the listener's default policy parameters say."},
        {NULL,      NULL                                              }
    };
    struct ui_question q = {.text = question,
                            .key = key,
                            .deflt = words[now],
                            .same_line = true,
                            .choices = choices,
                            .accept = accept_switch,
                            .arg = a->base};
    const char *answer = ui_ask(a->ui, &q);

    return str_ieq(answer, "default") ? DEFAULT : answer[0] == 'y' || answer[0] == 'Y' ? YES : NO;
}

/* A field that says yes and no, of either kind of row. */
static void ask_switch_field(struct asking *a, const char *field)
{
    const struct field *f = field_find(a->row->section, field);
    enum answer now, then;

    if (f->type == &type_boolean)
        now = *(const bool *)row_slot(a->row, f) ? YES : NO;
    else
        now =
            (enum answer) * (const int *)row_slot(a->row, f); /* in the order of choices_switches */
    then = ask_switch(a, field, f->prompt, now);
    if (f->type == &type_boolean)
        set(a, field, then == YES ? "yes" : "no");
    else
        set(a, field, then == YES ? "on" : then == NO ? "off" : "default");
}

struct limit {
    const struct row *row;
    const char *field;
};

static bool accept_limit(void *arg, const char *answer, struct err *err)
{
    const struct limit *l = arg;
    struct row *trial = row_copy(l->row);
    bool ok = row_set(trial, l->field, answer, err);

    if (ok && !number_in(trial, l->field))
        ok = err_set(err, E_INVALID, "The value must be an integer from 1 to %llu.",
                     (unsigned long long)field_find(trial->section, l->field)->max);
    row_free(&trial);
    return ok;
}

/* Is there a limit, and which? Of a policy 0 is the listener's and the greatest number is none.
 * True: there is one. */
static bool ask_limit(struct asking *a, const char *key, const char *question, const char *field)
{
    const struct field *f = field_find(a->row->section, field);
    uint64_t now = number_in(a->row, field);
    enum answer then;
    struct limit limit = {a->row, field};
    char number[24] = "";
    struct ui_question q = {.text = f->prompt,
                            .key = field,
                            .deflt = number,
                            .help = f->help,
                            .accept = accept_limit,
                            .arg = &limit};

    if (a->base)
        now = now == f->max ? 0 : now ? now : UINT64_MAX;
    then = ask_switch(a, key, question, now == UINT64_MAX ? DEFAULT : now ? YES : NO);
    if (then != YES) {
        set(a, field, then == DEFAULT ? "default" : a->base ? f->top : f->zero);
        return then == DEFAULT && number_in(a->base, field);
    }
    if (a->base && now == UINT64_MAX)
        now = number_in(a->base, field);
    if (now)
        snprintf(number, sizeof(number), "%llu", (unsigned long long)now);
    set(a, field, ui_ask(a->ui, &q));
    return true;
}

struct code {
    const struct row *row;
    const char *field;
    uint64_t least, most;
};

static bool accept_code(void *arg, const char *answer, struct err *err)
{
    const struct code *c = arg;
    struct row *trial = row_copy(c->row);
    bool ok = row_set(trial, c->field, answer, NULL);
    uint64_t n = ok ? number_in(trial, c->field) : 0;

    row_free(&trial);
    if (ok && (str_ieq(answer, "default") || (n >= c->least && n <= c->most)))
        return true;
    return err_set(err, E_INVALID, "The value must be an integer from %llu to %llu.",
                   (unsigned long long)c->least, (unsigned long long)c->most);
}

static void ask_code(struct asking *a, const char *field)
{
    const struct field *f = field_find(a->row->section, field);
    bool greeting = str_eq(field, "accept_code");
    struct code code = {a->row, field, greeting ? 200 : 400, greeting ? 299 : 599};
    struct ui_question q = {.text = f->prompt,
                            .key = field,
                            .deflt = row_text(a->row, field),
                            .help = f->help,
                            .accept = accept_code,
                            .arg = &code};

    set(a, field, ui_ask(a->ui, &q));
}

/* A reply of the administrator's own: code and text. prefix: "accept", with fields accept_code and
 * accept_text. */
static void ask_response(struct asking *a, const char *prefix, const char *question)
{
    char code[32], text[32], key[32];
    const struct field *f;

    snprintf(code, sizeof(code), "%s_code", prefix);
    snprintf(text, sizeof(text), "%s_text", prefix);
    snprintf(key, sizeof(key), "custom_%s", prefix);
    f = field_find(a->row->section, code);
    if (ask_yes(a->ui, key, question, *row_text(a->row, text))) {
        ask_code(a, code);
        ask(a, text);
    } else {
        set(a, text, "");
        set(a, code, f->deflt ? f->deflt : "default");
    }
}

static void ask_banner(struct asking *a)
{
    if (ask_yes(a->ui, "override_hostname",
                "Do you want to override the hostname in the SMTP banner?",
                *row_text(a->row, "banner_host")))
        ask(a, "banner_host");
    else
        set(a, "banner_host", "");
}

static void ask_rates(struct asking *a)
{
    if (ask_limit(a, "rate_limiting", "Do you want to enable rate limiting per host?",
                  "max_rcpts_per_hour"))
        ask_response(a, "limit",
                     "Would you like to specify a custom SMTP limit exceeded response?");
    if (ask_limit(a, "sender_limiting", "Do you want to enable rate limiting per envelope sender?",
                  "max_rcpts_per_sender") &&
        !row_is(a->row, "max_rcpts_per_sender", "default"))
        ask(a, "sender_minutes");
}

static void ask_harvesting(struct asking *a)
{
    if (!ask_limit(a, "dhap", "Do you want to enable Directory Harvest Attack Prevention per host?",
                   "dhap_limit") ||
        row_is(a->row, "dhap_limit", "default"))
        return;
    ask(a, "dhap_action");
    if (has(a, "dhap_action", "code"))
        ask_response(a, "dhap", "Would you like to specify a custom SMTP response?");
}

static void ask_tls(struct asking *a)
{
    bool tls;

    ask(a, "tls");
    if (row_is(a->row, "tls", "preferred") || row_is(a->row, "tls", "required")) {
        say_tls_notice(a->ui);
        if (!a->base)
            say_if_demo(a->ui, a->s, row_text(a->row, "certificate"));
    }
    tls = !has(a, "tls", "off");
    if (has(a, "tls", "preferred")) {
        if (ask_yes(a->ui, "tls_for_senders",
                    "Would you like to require TLS for specific addresses?",
                    *row_text(a->row, "tls_senders")))
            ask(a, "tls_senders");
        else
            set(a, "tls_senders", "");
    }
    if (tls)
        ask_switch_field(a, "verify_client");
    ask(a, "auth");
    if (tls && !has(a, "auth", "off"))
        ask_switch_field(a, "auth_needs_tls");
}

/* What is asked above; other parameters follow in the order of the schema. */
static void ask_others(struct asking *a)
{
    for (size_t i = 0; i < a->row->section->nfields; i++) {
        const struct field *f = &a->row->section->fields[i];

        if (!is_parameter(a->row, f) || among(said, countof(said), f->name))
            continue;
        if (f->type == &type_boolean || f->choices == choices_switches)
            ask_switch_field(a, f->name);
        else
            ask(a, f->name);
    }
}

void ask_policy_parameters(struct ui *ui, struct session *s, struct row *row)
{
    struct asking a = {.ui = ui, .s = s, .row = row};
    char *owner = of_listener(row) ? NULL : xstrndup(row->name, strcspn(row->name, "/"));

    if (!ui_interactive(ui) || ui_has_words(ui)) {
        take_words(ui, row);
        free(owner);
        return;
    }
    if (owner)
        a.base = session_get(s, &section_listener, owner);
    free(owner);
    if (!of_listener(row) && !a.base)
        return;
    for (size_t i = 0; i < 4; i++)
        ask(&a, said[i]);
    ask_banner(&a);
    ask_response(&a, "accept", "Would you like to specify a custom SMTP acceptance response?");
    ask_response(&a, "reject", "Would you like to specify a custom SMTP rejection response?");
    ask_rates(&a);
    ask_harvesting(&a);
    ask_tls(&a);
    ask_others(&a);
    row_free(&a.base);
}

void ask_rejection(struct ui *ui, struct session *s, struct row *policy)
{
    struct asking a = {.ui = ui, .s = s, .row = policy};

    if (!ui_interactive(ui) || ui_has_words(ui))
        take_words(ui, policy);
    else if (row_is(policy, "behavior", "reject"))
        ask_response(&a, "reject", "Would you like to specify a custom SMTP rejection response?");
}
