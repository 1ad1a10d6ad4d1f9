/* certconfig.c - certificate profiles: the menus, and what is looked at. Private keys go to the
 * daemon and never come back. */
#include "cmds/certconfig.h"

#include <stdlib.h>
#include <string.h>

#include "cmds/certauthority.h"
#include "cmds/certtlsa.h"
#include "cmds/crl.h"

/* --- list
 * ---------------------------------------------------------------------------------------------------
 */

static json_t *fetch(struct session *s, struct ui *ui)
{
    return session_call(s, ui, "cert.list", json_object());
}

static char *remaining(const json_t *c)
{
    json_int_t days = json_int(c, "remaining_days", 0);

    if (!json_is_integer(json_object_get(c, "remaining_days")))
        return xstrdup("");
    return days < 0 ? xstrdup("Expired")
                    : xasprintf("%lld day%s", (long long)days, days == 1 ? "" : "s");
}

static void say_list(struct ui *ui, struct session *s, const struct row *unused)
{
    json_t *data = fetch(s, ui), *c;
    int name = 9, common = 20, issuer = 20;
    size_t i;

    (void)unused;
    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        int n[] = {(int)strlen(json_str(c, "name", "")),
                   (int)strlen(json_str(c, "common_name", "")),
                   (int)strlen(json_str(c, "issuer", ""))};

        name = n[0] > name ? n[0] : name;
        common = n[1] > common ? n[1] > 40 ? 40 : n[1] : common;
        issuer = n[2] > issuer ? n[2] > 40 ? 40 : n[2] : issuer;
    }
    ui_say(ui, "List of Certificates");
    ui_say(ui, "%-*s %-*s  %-*s  %-13s  %s", name, "Name", common, "Common Name", issuer,
           "Issued By", "Status", "Remaining");
    ui_say(ui, "%.*s %.*s  %.*s  -------------  ---------", name,
           "----------------------------------------------------------------", common,
           "----------------------------------------", issuer,
           "----------------------------------------");
    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        char *days = remaining(c);

        ui_say(ui, "%-*s %-*.*s  %-*.*s  %-13s  %s", name, json_str(c, "name", ""), common, common,
               json_str(c, "common_name", ""), issuer, issuer, json_str(c, "issuer", ""),
               json_str(c, "status", ""), days);
        free(days);
    }
    json_decref(data);
}

/* The strings of a list as one text. */
static void put_joined(json_t *o, const char *list, const char *key)
{
    AUTO(buf) struct buf text = BUF_INIT(8000);
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(o, list), i, item)
        buf_printf(&text, "%s%s", i ? ", " : "", json_string_value(item));
    json_put_str(o, key, buf_str(&text));
}

static void cert_list(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Name",        "name",           0, false},
        {"Common Name", "common_name",    0, false},
        {"Issued By",   "issuer",         0, false},
        {"Status",      "status",         0, false},
        {"Remaining",   "remaining_days", 0, true },
        {"Key",         "key",            0, false},
        {"Used By",     "used_by",        0, false},
    };
    json_t *data = ui_end_of_words(ui) ? fetch(s, ui) : NULL, *c;
    struct out_table *t;
    size_t i;

    (void)unused;
    if (!data)
        return;
    t = out_table_new(ui, "certificates", columns, countof(columns), '-');
    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        if (!out_json(ui))
            put_joined(c, "uses", "used_by");
        out_table_row(t, json_incref(c));
    }
    out_table_end(&t);
    json_decref(data);
}

static void cert_print(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Listener / Service", "service",     0, false},
        {"Certificate",        "certificate", 0, false}
    };
    json_t *data = ui_end_of_words(ui) ? fetch(s, ui) : NULL, *use;
    struct out_table *t;
    size_t i;

    (void)unused;
    if (!data)
        return;
    out_line(ui, "List of Certificates assigned to Services:\n");
    t = out_table_new(ui, "services", columns, countof(columns), '-');
    json_array_foreach(json_object_get(data, "services"), i, use)
        out_table_row(t, json_incref(use));
    out_table_end(&t);
    json_decref(data);
}

/* --- what the operations share --- */

static bool accept_name(void *arg, const char *answer, struct err *err)
{
    struct row *r = row_new(&section_certificate, NULL);
    bool ok = !*answer || row_set(r, "name", answer, err);

    (void)arg;
    row_free(&r);
    return ok && (!str_eq(answer, "Demo") ||
                  err_set(err, E_DENIED,
                          "The demonstration certificate \"Demo\" cannot be changed. "
                          "Enter another name."));
}

bool cert_may_take(struct ui *ui, struct session *s, const char *name, bool *replace)
{
    char *question;

    if (ui_failed(ui) || *replace || !*name || !ui_interactive(ui) ||
        !has_name(s, &section_certificate, NULL, name))
        return !ui_failed(ui); /* in batch the daemon compares: the same once more is no change */
    question = xasprintf("Certificate profile \"%s\" already exists. Do you want to overwrite "
                         "with this new one?",
                         name);
    *replace = ask_yes(ui, "replace", question, false);
    free(question);
    return *replace && !ui_failed(ui);
}

char *cert_ask_name(struct ui *ui, struct session *s, bool *replace)
{
    const struct ui_question q = {.text = "Enter a name for this certificate profile:",
                                  .key = "name",
                                  .deflt = "",
                                  .bare = true,
                                  .accept = accept_name,
                                  .help = "Letters, digits, dots, \"_\" and \"-\". Enter: the "
                                          "common name of the certificate."};
    char *name = xstrdup(ui_ask(ui, &q));

    *replace = ui_flag(ui, "--replace");
    if (!cert_may_take(ui, s, name, replace)) {
        free(name);
        name = NULL;
    }
    return name;
}

bool cert_ask_fqdn(struct ui *ui)
{
    return ask_yes(ui, "fqdn",
                   "Do you want to check if Common Name or SAN:dNSName or both are in Fully "
                   "Qualified Domain Name(FQDN) format ?",
                   false);
}

void cert_say_warnings(struct ui *ui, const json_t *answer)
{
    json_t *w;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, w)
        ui_say(ui, "Warning: %s", json_string_value(w));
}

void cert_say_changed(struct ui *ui, const json_t *answer)
{
    if (json_bool_of(answer, "changed", true))
        ui_changed(ui);
    else
        ui_say(ui, "Certificate profile \"%s\" holds this certificate already; nothing changed.",
               json_str(answer, "name", ""));
}

void cert_say_staged(struct ui *ui, json_t *answer)
{
    if (!answer)
        return;
    ui_say(ui, "%s", json_str(answer, "subject", ""));
    cert_say_changed(ui, answer);
    cert_say_warnings(ui, answer);
    out_data(ui, answer);
}

/* A line names one profile of perhaps a thousand: their names are no answer. */
static bool is_unknown(struct session *s, const char *word)
{
    return word && strspn(word, "0123456789") < strlen(word) && !strchr(word, '=') &&
           !has_name(s, &section_certificate, NULL, word);
}

char *cert_ask_profile(struct ui *ui, struct session *s, const char *verb, bool demo)
{
    json_t *data = fetch(s, ui), *c;
    size_t i, n = 0, count = json_array_size(json_object_get(data, "certificates"));
    struct ui_choice *choices = xcalloc(count + 1, sizeof(*choices));
    char *question = xasprintf("Select the certificate profile you wish to %s:", verb),
         *name = NULL;
    int picked;

    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        if (!demo && json_bool_of(c, "demo", false))
            continue;
        choices[n].word = json_str(c, "name", "");
        choices[n++].text = xasprintf("[%s] %s", json_str(c, "name", ""),
                                      json_is_integer(json_object_get(c, "remaining_days"))
                                          ? json_str(c, "subject", "")
                                          : "(no certificate yet)");
    }
    if (!demo && ui_peek(ui, 0) && str_ieq(ui_peek(ui, 0), "Demo"))
        ui_fail(ui, E_DENIED,
                "The demonstration certificate \"Demo\" cannot be changed or deleted.");
    else if (!n && data)
        ui_fail(ui, E_NOT_FOUND,
                "There is no certificate profile to %s. Create one with NEW, PASTE or IMPORT.",
                verb);
    else if (data && !ui_interactive(ui) && is_unknown(s, ui_peek(ui, 0)))
        ui_fail(
            ui, E_NOT_FOUND,
            "There is no certificate profile \"%s\". \"certconfig certificate list\" shows them.",
            str_printable(ui_peek(ui, 0)));
    else if (data) {
        picked = ask_choice(ui, "name", question, choices, n == 1 ? 0 : -1);
        if (picked >= 0 && !ui_failed(ui))
            name = xstrdup(choices[picked].word);
    }
    for (i = 0; i < n; i++)
        free((char *)choices[i].text);
    free(choices);
    free(question);
    json_decref(data);
    return name;
}

/* --- DETAIL and CHECK --- */

/* One certificate of a profile, as "Label: value" lines; the daemon has escaped what came from
 * outside. chain: the last two are not of it. */
static void say_certificate(struct ui *ui, json_t *c, bool chain)
{
    static const struct {
        const char *label, *key;
    } lines[] = {
        {"Subject",         "subject"    },
        {"Issuer",          "issuer_name"},
        {"Names",           "all_names"  },
        {"Serial Number",   "serial"     },
        {"Valid From",      "not_before" },
        {"Valid Until",     "not_after"  },
        {"Status",          "status"     },
        {"Days Remaining",  "days"       },
        {"Public Key",      "key"        },
        {"Signature",       "signature"  },
        {"SHA-256",         "sha256"     },
        {"Used By",         "used_by"    },
        {"Signing Request", "csr_there"  },
    };
    char *days = remaining(c);

    put_joined(c, "names", "all_names");
    put_joined(c, "uses", "used_by");
    json_put_str(c, "days", days);
    json_put_str(c, "csr_there", json_bool_of(c, "request", false) ? "Yes" : "No");
    free(days);
    for (size_t i = 0; i < countof(lines) - (chain ? 2 : 0); i++)
        out_line(ui, "%s: %s", lines[i].label, json_str(c, lines[i].key, ""));
}

static json_t *ask_daemon(struct ui *ui, struct session *s, const char *op, const char *name)
{
    json_t *args = json_object();

    if (name)
        json_put_str(args, "name", name);
    return session_call(s, ui, op, args);
}

static void say_findings(struct ui *ui, const json_t *findings)
{
    json_t *f;
    size_t i;

    json_array_foreach(findings, i, f)
    {
        AUTO(buf) struct buf text = BUF_INIT(8000);
        char lead[32];

        snprintf(lead, sizeof(lead), "  %-8s ", json_str(f, "severity", ""));
        buf_printf(&text, "%s (%s)", json_str(f, "text", ""), json_str(f, "finding", ""));
        out_item(ui, lead, buf_str(&text));
    }
}

static void cert_detail(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = cert_ask_profile(ui, s, "view", true);
    json_t *data = name && ui_end_of_words(ui) ? ask_daemon(ui, s, "cert.detail", name) : NULL, *c;
    size_t i;

    (void)unused;
    if (data && out_json(ui)) {
        out_data(ui, json_incref(data));
    } else if (data) {
        out_line(ui, "Certificate profile: %s", name);
        say_certificate(ui, data, false);
        json_array_foreach(json_object_get(data, "chain"), i, c)
        {
            out_line(ui, "\nIntermediate certificate %zu:", i + 1);
            say_certificate(ui, c, true);
        }
        if (json_array_size(json_object_get(data, "findings")))
            out_line(ui, "\nFindings:");
        say_findings(ui, json_object_get(data, "findings"));
    }
    json_decref(data);
    free(name);
}

static void cert_check(struct ui *ui, struct session *s, struct row *unused)
{
    const char *word = ui_word(ui);
    json_t *data, *c;
    size_t i, found;

    (void)unused;
    if (!word)
        word = ui_key(ui, "name");
    data = ui_end_of_words(ui) ? ask_daemon(ui, s, "cert.check", word) : NULL;
    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        found = json_array_size(json_object_get(c, "findings"));
        out_line(ui, "%s:%s", json_str(c, "name", ""), found ? "" : " nothing is wrong");
        say_findings(ui, json_object_get(c, "findings"));
    }
    if (data)
        out_data(ui, data);
}

/* --- DELETE
 * -------------------------------------------------------------------------------------------------
 */

static char *users_of(struct session *s, struct ui *ui, const char *name)
{
    json_t *data = fetch(s, ui), *use;
    struct buf names = BUF_INIT(2000);
    size_t i;

    json_array_foreach(json_object_get(data, "services"), i,
                       use) if (str_eq(json_str(use, "certificate", ""), name))
        buf_printf(&names, "%s%s", names.n ? ", " : "", json_str(use, "service", ""));
    json_decref(data);
    return buf_take(&names);
}

static void cert_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = cert_ask_profile(ui, s, "delete", false),
         *users = name ? users_of(s, ui, name) : NULL, *question;

    (void)unused;
    if (users && *users)
        ui_fail(ui, E_INVALID,
                "Certificate profile \"%s\" is used by %s. Choose another certificate there first.",
                name, users);
    else if (name) {
        question = xasprintf("Are you sure you want to remove certificate \"%s\"?", name);
        if (ask_confirm(ui, "confirm", question, false))
            session_delete(s, &section_certificate, name);
        free(question);
    }
    free(users);
    free(name);
}

static bool any_own(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_certificate, NULL) > 1; /* Demo is always there */
}

static const struct menu_op certificate_ops[] = {
    {"IMPORT", "Import a certificate from a local PKCS#12 or PEM file", NULL, cert_import,      NULL   },
    {"PASTE",  "Paste a certificate into the CLI",                      NULL, cert_paste,       NULL   },
    {"NEW",    "Create a self-signed certificate and CSR",              NULL, cert_new,         NULL   },
    {"EDIT",   "Update certificate or view the signing request",        NULL, cert_edit,        any_own},
    {"EXPORT", "Export a certificate",                                  NULL, cert_export,      any_own},
    {"DELETE", "Remove a certificate",                                  NULL, cert_delete,      any_own},
    {"LIST",   "View all certificates",                                 NULL, cert_list,        NULL   },
    {"DETAIL", "View a certificate and its chain",                      NULL, cert_detail,      NULL   },
    {"PRINT",  "View certificates assigned to services",                NULL, cert_print,       NULL   },
    {"CHECK",  "Check certificates for what peers may refuse",          NULL, cert_check,       NULL   },
    {"TLSA",   "View the DNS records for a certificate",                NULL, certificate_tlsa, NULL   },
};
static const struct menu certificate_menu = {say_list, certificate_ops, countof(certificate_ops),
                                             &section_certificate};

static void certificates(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &certificate_menu, NULL);
}

static const struct menu_op main_ops[] = {
    {"CERTIFICATE",   "Import, Create a request, Edit or Remove Certificate Profiles", NULL,
     certificates,                                                                                          NULL},
    {"CERTAUTHORITY", "Manage System and Customized Authorities",                      NULL, certauthority, NULL},
    {"CRL",           "Manage Certificate Revocation Lists",                           NULL, crl_menu,      NULL},
};
static const struct menu main_menu = {NULL, main_ops, countof(main_ops), &section_certificate};

const struct command cmd_certconfig = {
    .name = "certconfig",
    .help = "Configure security certificates and keys",
    .detail =
        "A profile holds a certificate, its private key and its chain. Listeners choose one "
        "with listenerconfig, deliveries "
        "with destconfig > setup. Files are read from and written to the export area. The profile "
        "Demo is for tests only. Lists of revoked certificates (CRL) are fetched in the background and "
        "looked up where \"crl setup\" says so.",
    .usage = "certconfig certificate new [NAME] common_name=HOST [organization=..] [unit=..] "
             "[locality=..] [state=..] [country=XX]\n"
             "    [names=HOST,HOST] [days=N] "
             "[algorithm=rsa-2048|rsa-3072|rsa-4096|p256|p384|ed25519]\n"
             "    [digest=sha256|sha384|sha512] [fqdn=yes] [--replace]\n"
             "certconfig certificate paste NAME certificate=<<END private_key=<<END "
             "[add_intermediate=yes intermediates=<<END] [--replace]\n"
             "certconfig certificate import NAME FILE [key_file=FILE] [key=NUMBER] [fqdn=yes] "
             "[pass_phrase=<<END] [--replace]\n"
             "certconfig certificate import NAME data=<<END [pass_phrase=<<END] [--replace]\n"
             "certconfig certificate edit NAME certificate=<<END [add_intermediate=yes "
             "intermediates=<<END]\n"
             "certconfig certificate edit NAME update=no add_intermediate=yes intermediates=<<END\n"
             "certconfig certificate edit NAME update=no remove_intermediate=yes "
             "intermediate=SHA256\n"
             "certconfig certificate edit NAME --csr [--replace]\n"
             "certconfig certificate export NAME [FILE] pass_phrase=<<END [--legacy] [--replace]\n"
             "certconfig certificate delete NAME --yes\n"
             "certconfig certificate list\n"
             "certconfig certificate detail NAME\n"
             "certconfig certificate print\n"
             "certconfig certificate check [NAME]\n"
             "certconfig certificate tlsa NAME\n"
             "certconfig certauthority status\n"
             "certconfig certauthority custom enable|disable\n"
             "certconfig certauthority custom import|add FILE [fqdn=yes]\n"
             "certconfig certauthority custom import|add text=<<END [fqdn=yes]\n"
             "certconfig certauthority custom export FILE [--replace]\n"
             "certconfig certauthority custom print\n"
             "certconfig certauthority custom detail NAME\n"
             "certconfig certauthority custom edit NAME enabled=yes|no\n"
             "certconfig certauthority custom delete NAME\n"
             "certconfig certauthority custom check_ca_flag yes|no\n"
             "certconfig certauthority system enable|disable\n"
             "certconfig certauthority system export FILE [--replace]\n"
             "certconfig certauthority system print\n"
             "certconfig certauthority system detail NAME\n"
             "certconfig certauthority system update\n"
             "certconfig crl new NAME url=URL [format=asn1|pem] [url2=URL] [auto_update=yes|no]\n"
             "    [schedule=daily|weekly|monthly|hourly] [time=HH:MM] [enabled=yes|no]\n"
             "certconfig crl edit NAME FIELD=VALUE ...\n"
             "certconfig crl delete NAME\n"
             "certconfig crl setup [inbound=yes|no] [outbound=yes|no] [web=yes|no] [stale=accept|refuse]\n"
             "certconfig crl update [NAME]\n"
             "certconfig crl print [NAME]\n"
             "certconfig crl check PROFILE|FILE\n"
             "certconfig crl check certificate=<<END",
    .roles = ROLE_ADMIN,
    .commits = true,
    .menu = &main_menu,
};
