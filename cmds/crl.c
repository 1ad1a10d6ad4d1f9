/* crl.c - certconfig > crl: where revocation lists come from, what became of them, and where
 * certificates are looked up in them. */
#include "cmds/crl.h"

#include <ctype.h>
#include <stdlib.h>

#include "cmds/common.h"

/* --- what is known of the sources ------------------------------------------------------------- */

static const char *state_text(const char *state)
{
    static const struct {
        const char *word, *text;
    } states[] = {
        {"current",  "Current"          },
        {"outdated", "Outdated"         },
        {"missing",  "Not available"    },
        {"disabled", "Disabled"         },
        {"staged",   "Not committed yet"},
    };

    for (size_t i = 0; i < countof(states); i++)
        if (str_eq(states[i].word, state))
            return states[i].text;
    return state;
}

/* The daemon knows the sources that are committed; those of the candidate are staged until then. */
static json_t *state_of(const json_t *data, const char *name)
{
    json_t *o;
    size_t i;

    json_array_foreach(json_object_get(data, "sources"), i, o)
    {
        if (str_eq(json_str(o, "name", ""), name))
            return json_incref(o);
    }
    o = json_object();
    json_put_str(o, "name", name);
    json_put_str(o, "state", "staged");
    return o;
}

/* As this session sees them. */
static void put_settings(json_t *o, struct session *s, const char *name)
{
    static const char *const fields[] = {"format", "url", "url2", "schedule", "time"};
    struct row *r = session_get(s, &section_crl_source, name);

    if (!r)
        return;
    json_put(o, "enabled", json_boolean(row_is(r, "enabled", "yes")));
    json_put(o, "auto_update", json_boolean(row_is(r, "auto_update", "yes")));
    for (size_t i = 0; i < countof(fields); i++)
        json_put_str(o, fields[i], row_text(r, fields[i]));
    row_free(&r);
}

/* All sources this session sees, in the order of names; new, or NULL after an error that was shown.
 */
static json_t *fetch(struct ui *ui, struct session *s)
{
    json_t *data = session_call(s, ui, "crl.list", json_object()), *all = json_array();
    AUTO(strlist) struct strlist names = {0};

    session_names(s, &section_crl_source, NULL, &names);
    for (size_t i = 0; data && i < names.n; i++) {
        json_t *o = state_of(data, names.items[i]);

        put_settings(o, s, names.items[i]);
        json_array_append_new(all, o);
    }
    if (!data) {
        json_decref(all);
        return NULL;
    }
    json_decref(data);
    return all;
}

/* --- summary --- */

static void say_switch(struct ui *ui, const struct row *setup, const char *field)
{
    ui_say(ui, "%s: %s", field_find(&section_crl_setup, field)->label,
           setup && row_is(setup, field, "yes") ? "Enabled" : "Disabled");
}

static void say_summary(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *setup = session_get(s, &section_crl_setup, "-");
    json_t *all = fetch(ui, s), *o;
    size_t i;

    (void)unused;
    say_switch(ui, setup, "inbound");
    say_switch(ui, setup, "outbound");
    say_switch(ui, setup, "web");
    ui_say(ui, "%s", "");
    if (!json_array_size(all))
        ui_say(ui, "No CRL sources configured.");
    else
        ui_say(ui, "Currently configured CRL sources:");
    json_array_foreach(all, i, o) ui_say(ui, "%zu. %s (%s)", i + 1, json_str(o, "name", ""),
                                         state_text(json_str(o, "state", "")));
    json_decref(all);
    row_free(&setup);
}

/* --- setup, new, edit --- */

static void setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_crl_setup, "-");

    (void)unused;
    if (r)
        ask_all(ui, s, r);
}

static void ask_source(struct ui *ui, struct session *s, struct row *r)
{
    ask_field(ui, s, r, "format");
    ask_field(ui, s, r, "url");
    ask_field(ui, s, r, "url2");
    ask_field(ui, s, r, "auto_update");
    if (row_is(r, "auto_update", "yes")) {
        ask_field(ui, s, r, "schedule");
        ask_field(ui, s, r, "time");
    }
    ask_field(ui, s, r, "enabled");
}

/* Whoever adds a source and has no switch on has only half of it. */
static void say_if_off(struct ui *ui, struct session *s)
{
    struct row *r = session_get(s, &section_crl_setup, "-");

    if (r && !row_is(r, "inbound", "yes") && !row_is(r, "outbound", "yes") &&
        !row_is(r, "web", "yes"))
        ui_say(ui, "Certificates are not checked against CRLs yet: use SETUP to switch it on.");
    row_free(&r);
}

static void source_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_crl_source, NULL);

    (void)unused;
    ask_field(ui, s, r, "name");
    ask_source(ui, s, r);
    if (ui_failed(ui))
        return;
    ui_say(ui, "CRL source \"%s\" created. It is downloaded as soon as it is committed.",
           row_leaf(r));
    say_if_off(ui, s);
}

static void source_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_crl_source, NULL, "edit");

    (void)unused;
    if (r)
        ask_source(ui, s, r);
}

static bool any_source(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_crl_source, NULL) > 0;
}

/* --- update --- */

struct lines {
    struct ui *ui;
    unsigned updated, failed, changed;
};

static bool print_line(void *arg, const json_t *data)
{
    struct lines *l = arg;

    if (json_bool_of(data, "ok", false))
        l->updated++;
    else
        l->failed++;
    l->changed += json_bool_of(data, "changed", false);
    out_stream(l->ui, json_str(data, "line", ""), json_deep_copy(data));
    return !out_stopped(l->ui);
}

static void offer_names(void *arg, const char *typed, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    session_find(arg, &section_crl_source, NULL, typed, 40, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

/* "": all of them. */
static const char *which(struct ui *ui, struct session *s)
{
    const struct ui_question q = {
        .text = "Enter the name of the CRL source you wish to update; Enter updates all of them.",
        .key = "name",
        .deflt = "",
        .offer = offer_names,
        .arg = s};

    return ui_ask(ui, &q);
}

static void source_update(struct ui *ui, struct session *s, struct row *unused)
{
    const char *name = which(ui, s);
    json_t *args = json_object(), *data;
    struct lines l = {.ui = ui};

    (void)unused;
    if (*name)
        json_put_str(args, "name", name);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    if (!session_stream(s, ui, "crl.update", args, print_line, &l))
        return;
    if (l.changed)
        ui_changed(ui);
    data = json_object();
    json_put_int(data, "updated", l.updated);
    json_put_int(data, "failed", l.failed);
    out_data(ui, data);
    if (l.failed)
        ui_unsuccessful(ui);
}

/* --- print --- */

static void print_one(struct ui *ui, const char *name, const json_t *all)
{
    static const struct out_column keys[] = {
        {"Name",            "name",         0, false},
        {"State",           "state",        0, false},
        {"File Type",       "format",       0, false},
        {"Primary URL",     "url",          0, false},
        {"Secondary URL",   "url2",         0, false},
        {"Schedule",        "schedule",     0, false},
        {"Time",            "time",         0, false},
        {"Next Download",   "next_fetch",   0, false},
        {"Last Download",   "fetched",      0, false},
        {"Downloaded From", "fetched_from", 0, false},
        {"Issuer",          "issuer",       0, false},
        {"CRL Number",      "number",       0, false},
        {"Entries",         "entries",      0, false},
        {"Bytes",           "bytes",        0, false},
        {"Memory",          "memory",       0, false},
        {"This Update",     "this_update",  0, false},
        {"Next Update",     "next_update",  0, false},
        {"Outdated From",   "ends",         0, false},
        {"Last Failure",    "failure",      0, false},
        {"Failed At",       "failed_at",    0, false},
    };
    struct out_column there[countof(keys)];
    json_t *o = NULL, *one;
    size_t i, n = 0;

    json_array_foreach(all, i, one)
    {
        if (str_ieq(json_str(one, "name", ""), name))
            o = one;
    }
    if (!o) {
        ui_fail(ui, E_NOT_FOUND, "There is no CRL source \"%s\".", str_printable(name));
        return;
    }
    for (i = 0; i < countof(keys); i++) {
        const json_t *value = json_object_get(o, keys[i].key);

        if (value && !(json_is_string(value) && !json_string_length(value)))
            there[n++] = keys[i];
    }
    if (!out_json(ui))
        json_put_str(o, "state", state_text(json_str(o, "state", "")));
    out_record(ui, there, n, json_incref(o));
}

static void print_all(struct ui *ui, json_t *all)
{
    static const struct out_column columns[] = {
        {"Name",          "name",        0, false},
        {"State",         "state",       0, false},
        {"Issuer",        "issuer",      0, false},
        {"Entries",       "entries",     0, true },
        {"This Update",   "this_update", 0, false},
        {"Next Update",   "next_update", 0, false},
        {"Last Download", "fetched",     0, false},
        {"Last Failure",  "failure",     0, false},
    };
    struct out_table *t;
    json_t *o;
    size_t i;

    if (!json_array_size(all))
        out_line(ui, "No CRL sources configured.");
    if (!json_array_size(all) && !out_json(ui))
        return;
    t = out_table_new(ui, "sources", columns, countof(columns), '-');
    json_array_foreach(all, i, o)
    {
        if (!out_json(ui))
            json_put_str(o, "state", state_text(json_str(o, "state", "")));
        out_table_row(t, json_incref(o));
    }
    out_table_end(&t);
}

static void source_print(struct ui *ui, struct session *s, struct row *unused)
{
    const char *word = ui_word(ui);
    AUTO(str) char *name = word ? xstrdup(word) : NULL;
    json_t *all = ui_end_of_words(ui) ? fetch(ui, s) : NULL;

    (void)unused;
    if (all && name)
        print_one(ui, name, all);
    else if (all)
        print_all(ui, all);
    json_decref(all);
}

/* --- check --- */

static void say_lists(struct ui *ui, const json_t *c)
{
    const char *result = json_str(c, "result", "");
    json_t *l;
    size_t i;

    out_line(ui, "%s: %s", json_str(c, "subject", ""),
             str_eq(result, "revoked") ? "revoked"
             : str_eq(result, "good")  ? "not revoked"
                                       : "not known: no list in date is about it");
    out_line(ui, "  Issuer %s, serial number %s", json_str(c, "issuer", ""),
             json_str(c, "serial", ""));
    json_array_foreach(json_object_get(c, "lists"), i, l)
    {
        const char *reason = json_str(l, "reason", "");

        if (json_bool_of(l, "listed", false))
            out_line(ui, "  %s (%s): revoked %s%s%s%s", json_str(l, "source", ""),
                     state_text(json_str(l, "state", "")), json_str(l, "revoked", ""),
                     *reason ? " (" : "", reason, *reason ? ")" : "");
        else
            out_line(ui, "  %s (%s): %s", json_str(l, "source", ""),
                     state_text(json_str(l, "state", "")),
                     json_bool_of(l, "covered", false) ? "not listed"
                                                       : "not listed, but of another part");
    }
}

static void check(struct ui *ui, struct session *s, struct row *unused)
{
    const char *given = ui_key(ui, "certificate");
    json_t *args = json_object(), *data, *c;
    size_t i;

    (void)unused;
    if (given)
        json_put_str(args, "certificate", given);
    else
        json_put_str(args, "name",
                     ask_some(ui, "name",
                              "Enter the name of a certificate profile, or of a file with "
                              "certificates in the export area."));
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    data = session_call(s, ui, "crl.check", args);
    json_array_foreach(json_object_get(data, "certificates"), i, c) say_lists(ui, c);
    if (data)
        out_data(ui, data);
}

/* People have PRINT; a line may say "list" as everywhere else. */
static bool batch_only(struct session *s, const struct row *unused)
{
    (void)s;
    (void)unused;
    return false;
}

static const struct menu_op ops[] = {
    {"SETUP",  "Configure global CRL settings",     NULL, setup,         NULL      },
    {"NEW",    "Add a new CRL source",              NULL, source_new,    NULL      },
    {"EDIT",   "Modify a CRL source",               NULL, source_edit,   any_source},
    {"DELETE", "Remove a CRL source",               NULL, dialog_delete, any_source},
    {"UPDATE", "Update a CRL source now",           NULL, source_update, any_source},
    {"PRINT",  "Show CRL sources and their status", NULL, source_print,  any_source},
    {"CHECK",  "Look certificates up in the CRLs",  NULL, check,         any_source},
    {"LIST",   "The same as PRINT",                 NULL, source_print,  batch_only},
};
static const struct menu menu = {say_summary, ops, countof(ops), &section_crl_source};

void crl_menu(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &menu, NULL);
}
