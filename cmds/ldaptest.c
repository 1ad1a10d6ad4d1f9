/* ldaptest.c - a query of ldapconfig tried by hand: what was asked, of whom, and what it means.
 * Every host of the server is asked, nothing comes from the cache, and it is the caller's
 * uncommitted configuration that counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/ldap.h"

static const struct certificate_value {
    const char *key, *question;
} values[] = {
    {"cn",  "Enter the common name:"                  },
    {"sn",  "Enter the serial number, in hexadecimal:"},
    {"e",   "Enter the mail address:"                 },
    {"upn", "Enter the principal name:"               },
    {"dn",  "Enter the subject:"                      },
    {"i",   "Enter the issuer:"                       },
    {"fp",  "Enter the SHA-256 fingerprint:"          },
};

/* --- what to ask with --- */

static void ask_person(struct ui *ui, json_t *args)
{
    const struct ui_question q = {.text =
                                      "Passphrase to use in query (Enter: none, only the user is "
                                      "looked for):",
                                  .key = "pass_phrase",
                                  .deflt = "",
                                  .secret = true};
    const char *answer = ask_some(ui, "user", "User identity to use in query:");

    if (!ui_failed(ui))
        json_put_str(args, "user", answer);
    answer = ui_ask(ui, &q);
    if (!ui_failed(ui) && *answer)
        json_put_str(args, "pass_phrase", answer);
}

static bool any_value(struct ui *ui, json_t *out)
{
    for (size_t i = 0; i < countof(values); i++) {
        const char *given = ui_key(ui, values[i].key);

        if (given)
            json_put_str(out, values[i].key, given);
    }
    return json_object_size(out) > 0;
}

/* Of the fields that the query uses. */
static void ask_values(struct ui *ui, struct session *s, const char *query, json_t *out)
{
    struct row *r = session_get(s, &section_ldap_query, query);
    const struct ldap_query *q = r ? r->data : NULL;

    for (size_t i = 0; q && i < countof(values); i++) {
        const char *answer;

        if (!strlist_has(&q->fields, values[i].key))
            continue;
        answer = ask_text(ui, values[i].key, values[i].question, "");
        if (!ui_failed(ui) && *answer)
            json_put_str(out, values[i].key, answer);
    }
    row_free(&r);
}

static const struct ui_choice sources[] = {
    {"values",  "Enter the values of its fields"     },
    {"paste",   "Paste a certificate in PEM format"  },
    {"profile", "A certificate profile of certconfig"},
    {NULL,      NULL                                 }
};

/* Questions that others surround go on: what was to be tried is there all the same. */
static void say_not_tried(struct ui *ui, enum err_code code, const char *why)
{
    if (ui_interactive(ui))
        ui_say(ui, "%s", why);
    else
        ui_fail(ui, code, "%s", why);
}

static void ask_certificate(struct ui *ui, struct session *s, const char *query, json_t *args)
{
    const char *given = ui_key(ui, "certificate");
    json_t *typed = json_object();
    int source = 0;

    if (given)
        json_put_str(args, "certificate", given);
    else if (!any_value(ui, typed) && !ui_interactive(ui))
        ui_fail(ui, E_USAGE,
                "Say whose certificate: certificate=PROFILE, certificate=<<END with a PEM "
                "text, or values such as cn=NAME sn=NUMBER.");
    else if (!json_object_size(typed))
        source = ask_choice(ui, "source", "Certificate to use in query:", sources, 0);
    if (given || ui_failed(ui)) {
        json_decref(typed);
        return;
    }
    if (source == 1) {
        AUTO(str)
        char *pem =
            ask_block(ui, "certificate", "Paste a certificate in PEM format (end with '.'):");

        if (!ui_failed(ui) && *pem)
            json_put_str(args, "certificate", pem);
    } else if (source == 2) {
        AUTO(str) char *name = ask_name(ui, s, &section_certificate, NULL, "use");

        if (name)
            json_put_str(args, "certificate", name);
    } else if (!json_object_size(typed)) {
        ask_values(ui, s, query, typed);
    }
    if (json_object_size(typed))
        json_object_set(args, "values", typed);
    json_decref(typed);
}

/* --- what came --- */

struct results {
    struct ui *ui;
    const char *query;
    char *argument;
    char *reason; /* the last that was printed */
};

/* A filter's own backslashes stay as they are; a sentence is broken where the terminal ends. */
static void put_line(struct ui *ui, const char *title, const char *value)
{
    AUTO(buf) struct buf text = BUF_INIT(16384);
    char lead[16];

    snprintf(lead, sizeof(lead), "%-10s ", title);
    str_escape_again(&text, value, strlen(value));
    if (text.n && str_eq(title, "Reason:"))
        out_item(ui, lead, buf_str(&text));
    else if (text.n)
        out_line(ui, "%s%s", lead, buf_str(&text));
}

static bool print_result(void *arg, const json_t *data)
{
    static const struct {
        const char *title, *key;
    } lines[] = {
        {"Host:",   "host"  },
        {"Base:",   "base"  },
        {"Filter:", "filter"},
        {"DN:",     "dn"    },
        {"User:",   "user"  },
        {"Result:", "result"},
        {"Reason:", "reason"},
    };
    struct results *r = arg;

    if (out_json(r->ui)) {
        out_stream(r->ui, "", json_deep_copy(data));
        return true;
    }
    if (!str_eq(json_str(data, "event", "host"), "host"))
        return true;
    out_line(r->ui, "%-10s %s%s", "Query:", r->query,
             str_eq(json_str(data, "step", ""), "allowance") ? " (allowance query string)" : "");
    put_line(r->ui, "Argument:", r->argument);
    for (size_t i = 0; i < countof(lines); i++)
        put_line(r->ui, lines[i].title, json_str(data, lines[i].key, ""));
    out_line(r->ui, "%s", "");
    free(r->reason);
    r->reason = xstrdup(json_str(data, "reason", ""));
    return !out_stopped(r->ui);
}

/* "cn=Alice Example, sn=0A1B", the user's name, or where the certificate is from */
static char *argument_of(const json_t *args)
{
    const char *user = json_str(args, "user", NULL),
               *certificate = json_str(args, "certificate", NULL);
    AUTO(buf) struct buf text = BUF_INIT(8000);
    json_t *value;
    const char *key;

    if (user)
        return xstrdup(user);
    if (certificate)
        return str_starts(certificate, "-----") ? xstrdup("the certificate given")
                                                : xasprintf("certificate profile %s", certificate);
    json_object_foreach(json_object_get(args, "values"), key, value)
        buf_printf(&text, "%s%s=%s", text.n ? ", " : "", key, json_string_value(value));
    return xstrdup(buf_str(&text));
}

bool ldap_try_query(struct ui *ui, struct session *s, const char *query)
{
    struct row *row = session_get(s, &section_ldap_query, query);
    json_t *args = json_object(), *data = NULL;
    struct results r = {.ui = ui, .query = query};
    struct err err = {0};
    bool yes;

    json_put_str(args, "query", query);
    if (!row)
        ui_fail(ui, E_NOT_FOUND, "There is no LDAP query \"%s\".", str_printable(query));
    else if (((const struct ldap_query *)row->data)->kind == LDAP_SMTPAUTH)
        ask_person(ui, args);
    else
        ask_certificate(ui, s, query, args);
    row_free(&row);
    r.argument = argument_of(args);
    if (!ui_failed(ui) && !*r.argument) {
        say_not_tried(ui, E_USAGE, "Nothing was tried.");
    } else if (!ui_failed(ui) && ui_end_of_words(ui)) {
        out_line(ui, "LDAP query test results:");
        data = session_stream_trial(s, ui, "ldap.test", json_incref(args), print_result, &r, &err);
    }
    if (err.code)
        say_not_tried(ui, err.code, err.text);
    yes = str_eq(json_str(data, "verdict", ""), "accept");
    if (data) {
        put_line(ui, "Verdict:", json_str(data, "verdict", ""));
        if (!yes && !str_eq(json_str(data, "reason", ""), r.reason ? r.reason : ""))
            put_line(ui, "Reason:", json_str(data, "reason", ""));
        out_line(ui, "\nLDAP query test finished.");
        out_data(ui, data);
    }
    free(r.argument);
    free(r.reason);
    json_decref(args);
    return yes;
}

/* --- which query --- */

struct finding {
    const char *server;
    int kind;
    struct strlist *out;
};

static bool take_query(void *arg, const struct row *row)
{
    struct finding *f = arg;
    const struct ldap_query *q = row->data;

    if ((!f->server || str_eq(q->server, f->server)) && (f->kind < 0 || f->kind == (int)q->kind))
        strlist_add(f->out, row->name);
    return true;
}

void ldap_queries(struct session *s, const char *server, int kind, struct strlist *out)
{
    struct finding f = {server, kind, out};

    session_each(s, &section_ldap_query, NULL, take_query, &f);
}

char *ldap_ask_query(struct ui *ui, struct session *s, const struct strlist *names,
                     const char *question)
{
    struct ui_choice *choices = xcalloc(names->n + 1, sizeof(*choices));
    const char *given = ui_key(ui, "query");
    char *name = NULL;
    int chosen;

    (void)s;
    if (!given && ui_peek(ui, 0) && strlist_has(names, ui_peek(ui, 0)))
        given = ui_word(ui);
    for (size_t i = 0; i < names->n; i++)
        choices[i] = (struct ui_choice){names->items[i], names->items[i]};
    if (given && !strlist_has(names, given)) {
        ui_fail(ui, E_NOT_FOUND, "There is no LDAP query \"%s\" here.", str_printable(given));
    } else if (given || (names->n == 1 && !ui_peek(ui, 0))) {
        name = xstrdup(given ? given : names->items[0]);
    } else if (names->n) {
        chosen = ask_choice(ui, "query", question, choices, ui_interactive(ui) ? 0 : -1);
        if (!ui_failed(ui))
            name = xstrdup(names->items[chosen]);
    }
    free(choices);
    return name;
}

static bool test_one(struct ui *ui, struct session *s, const char *server)
{
    AUTO(strlist) struct strlist names = {0};
    char *query;
    bool yes;

    ldap_queries(s, server, -1, &names);
    if (!names.n) {
        ui_fail(ui, E_NOT_FOUND,
                "There are no LDAP queries%s. Create one with ldapconfig: SMTPAUTH or CERTAUTH.",
                server ? " of this server" : "");
        return false;
    }
    query = ldap_ask_query(ui, s, &names, "Select which LDAP query to test:");
    yes = query && ldap_try_query(ui, s, query);
    free(query);
    return yes;
}

void ldap_test(struct ui *ui, struct session *s, struct row *server)
{
    if (!test_one(ui, s, server ? server->name : NULL) && !ui_interactive(ui) && !ui_failed(ui))
        ui_unsuccessful(ui);
}

static void run(struct ui *ui, struct session *s)
{
    if (!test_one(ui, s, NULL) && !ui_failed(ui))
        ui_unsuccessful(ui);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};
    struct row *r = words->n ? session_get(s, &section_ldap_query, words->items[0]) : NULL;
    const struct ldap_query *q = r ? r->data : NULL;

    if (!words->n)
        ldap_queries(s, NULL, -1, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
    if (q && q->kind == LDAP_SMTPAUTH)
        offer(out, "user=", "Whom to look for; the passphrase is asked for without echo.");
    for (size_t i = 0; q && q->kind == LDAP_CERTAUTH && i < countof(values); i++) {
        AUTO(str) char *word = xasprintf("%s=", values[i].key);

        if (strlist_has(&q->fields, values[i].key))
            offer(out, word, values[i].question);
    }
    if (q && q->kind == LDAP_CERTAUTH)
        offer(out, "certificate=", "A certificate profile of certconfig.");
    row_free(&r);
}

const struct command cmd_ldaptest = {
    .name = "ldaptest",
    .help = "Test an LDAP query",
    .usage = "ldaptest QUERY user=NAME [pass_phrase=-]\n"
             "ldaptest QUERY certificate=PROFILE\n"
             "ldaptest QUERY [cn=NAME] [sn=NUMBER] [e=ADDRESS] [upn=NAME] [dn=SUBJECT] [i=ISSUER] "
             "[fp=SHA256]",
    .detail =
        "Asks a query of ldapconfig as SMTP authentication would, of every host of its server, and "
        "prints the filter, the entry that was found and the result. An SMTP authentication query "
        "takes a user's name and, without echo, the passphrase (pass_phrase=- reads it from the "
        "standard input); without a passphrase only the query strings are tried. A certificate "
        "query "
        "takes the name of a certificate profile, a PEM text, or the values of its fields. "
        "Uncommitted changes count, the cache does not. In batch the exit code is 0 when the "
        "answer "
        "is yes, else 1.",
    .roles = ROLE_OPERATOR,
    .run = run,
    .complete = complete,
};
