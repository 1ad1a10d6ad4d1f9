/* certconfig.c - certificate profiles: made here, pasted, listed. Private keys go to the daemon and
 * never come back. */
#include "cmds/common.h"
#include "cmds/certauthority.h"

#include <stdlib.h>
#include <string.h>

#include "store/x509.h"

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

    if (!json_object_get(c, "remaining_days"))
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

static void cert_list(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Name",        "name",           0, false},
        {"Common Name", "common_name",    0, false},
        {"Issued By",   "issuer",         0, false},
        {"Status",      "status",         0, false},
        {"Remaining",   "remaining_days", 0, true },
        {"Key",         "key",            0, false},
    };
    json_t *data = ui_end_of_words(ui) ? fetch(s, ui) : NULL, *c;
    struct out_table *t;
    size_t i;

    (void)unused;
    if (!data)
        return;
    t = out_table_new(ui, "certificates", columns, countof(columns), '-');
    json_array_foreach(json_object_get(data, "certificates"), i, c)
        out_table_row(t, json_incref(c));
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

/* --- names of profiles
 * -------------------------------------------------------------------------------------- */

static bool accept_name(void *arg, const char *answer, struct err *err)
{
    struct row *r = row_new(&section_certificate, NULL);
    bool ok = row_set(r, "name", answer, err);

    (void)arg;
    row_free(&r);
    return ok && (!str_eq(answer, "Demo") ||
                  err_set(err, E_DENIED,
                          "The demonstration certificate \"Demo\" cannot be changed. "
                          "Enter another name."));
}

/* The name of a new profile; NULL when an existing one is to stay. The caller frees it. */
static char *ask_profile_name(struct ui *ui, struct session *s, bool *replace)
{
    const struct ui_question q = {.text = "Enter a name for this certificate profile:",
                                  .key = "name",
                                  .bare = true,
                                  .accept = accept_name};
    char *name = xstrdup(ui_ask(ui, &q)), *question;

    *replace = ui_flag(ui, "--replace");
    if (!ui_failed(ui) && !*replace && has_name(s, &section_certificate, NULL, name)) {
        question = xasprintf("Certificate profile \"%s\" already exists. Do you want to overwrite "
                             "with this new one?",
                             name);
        *replace = ask_yes(ui, "replace", question, false);
        free(question);
        if (!*replace && !ui_interactive(ui) && !ui_failed(ui))
            ui_fail(
                ui, E_EXISTS,
                "Certificate profile \"%s\" already exists. Choose another name, or say --replace.",
                name);
    } else if (!ui_failed(ui)) {
        return name;
    }
    if (!*replace || ui_failed(ui)) {
        free(name);
        return NULL;
    }
    return name;
}

static void say_warnings(struct ui *ui, const json_t *answer)
{
    json_t *w;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, w)
        ui_say(ui, "Warning: %s", json_string_value(w));
}

/* --- NEW
 * ----------------------------------------------------------------------------------------------------
 */

static bool accept_common_name(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return x509_check_common_name(answer, err);
}

static bool accept_country(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return x509_check_country(answer, err);
}

static bool accept_names(void *arg, const char *answer, struct err *err)
{
    AUTO(strlist) struct strlist names = {0};
    bool ok = true;

    (void)arg;
    strlist_split(&names, answer, ',');
    for (size_t i = 0; ok && i < names.n; i++)
        ok = x509_check_name(names.items[i], err);
    return ok;
}

/* The list of the question is its own: 1024 stays in its place so that an old habit gets the
 * reason. */
static const struct algorithm {
    const char *number, *word, *text;
} algorithms[] = {
    {"1", "rsa-2048", "RSA 2048 bits"},
    {"2", "rsa-3072", "RSA 3072 bits"},
    {"3", "rsa-4096", "RSA 4096 bits"},
    {"4", "p256",     "ECDSA P-256"  },
    {"5", "p384",     "ECDSA P-384"  },
    {"6", "ed25519",  "Ed25519"      },
};

static const char *algorithm_of(const char *answer)
{
    static const struct {
        const char *typed, *word;
    } others[] = {
        {"2048", "rsa-2048"},
        {"3072", "rsa-3072"},
        {"4096", "rsa-4096"}
    };

    for (size_t i = 0; i < countof(algorithms); i++)
        if (str_eq(answer, algorithms[i].number) || str_ieq(answer, algorithms[i].word))
            return algorithms[i].word;
    for (size_t i = 0; i < countof(others); i++)
        if (str_eq(answer, others[i].typed))
            return others[i].word;
    return answer;
}

static bool accept_algorithm(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return x509_check_algorithm(algorithm_of(answer), err);
}

static void ask_algorithm(struct ui *ui, json_t *args)
{
    struct ui_choice choices[countof(algorithms) + 1] = {
        {NULL, NULL}
    };
    AUTO(buf) struct buf text = BUF_INIT(500);
    struct ui_question q = {.key = "algorithm",
                            .deflt = "1",
                            .choices = choices,
                            .accept = accept_algorithm,
                            .help = "RSA 2048 works with every peer; ECDSA P-256 is faster."};

    buf_str_add(&text, "Select the type and size of the private key:");
    for (size_t i = 0; i < countof(algorithms); i++) {
        buf_printf(&text, "\n%s. %s", algorithms[i].number, algorithms[i].text);
        choices[i] = (struct ui_choice){algorithms[i].word, algorithms[i].text};
    }
    q.text = buf_str(&text);
    json_put_str(args, "algorithm", algorithm_of(ui_ask(ui, &q)));
}

static void ask_subject(struct ui *ui, json_t *args)
{
    static const struct {
        const char *key, *question;
        bool (*accept)(void *arg, const char *answer, struct err *err);
    } questions[] = {
        {"common_name",  "Enter Common Name:",                                                          accept_common_name},
        {"organization", "Enter Organization:",                                                         NULL              },
        {"unit",         "Enter Organizational Unit:",                                                  NULL              },
        {"locality",     "Enter Locality or City:",                                                     NULL              },
        {"state",        "Enter State or Province:",                                                    NULL              },
        {"country",      "Enter Country (2 letter code):",                                              accept_country    },
        {"names",        "Enter further host names or addresses of this gateway, separated by commas:",
         accept_names                                                                                                     },
    };

    for (size_t i = 0; i < countof(questions); i++) {
        const struct ui_question q = {.text = questions[i].question,
                                      .key = questions[i].key,
                                      .deflt = i ? "" : NULL,
                                      .bare = true,
                                      .accept = questions[i].accept};
        const char *answer = ui_ask(ui, &q);
        AUTO(strlist) struct strlist names = {0};
        json_t *list;

        if (!str_eq(questions[i].key, "names")) {
            json_put_str(args, questions[i].key, answer);
            continue;
        }
        strlist_split(&names, answer, ',');
        list = json_array();
        for (size_t k = 0; k < names.n; k++)
            json_array_append_new(list, json_string(names.items[k]));
        json_put(args, "names", list);
    }
}

static void cert_new(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object(), *answer;
    bool replace;
    char *name = ask_profile_name(ui, s, &replace);

    (void)unused;
    if (!name) {
        json_decref(args);
        return;
    }
    json_put_str(args, "name", name);
    json_put(args, "replace", json_boolean(replace));
    free(name);
    ask_subject(ui, args);
    json_put_int(args, "days",
                 (json_int_t)ask_number(ui, "days", "Duration before expiration (in days):", 3650,
                                        1, 36500));
    ask_algorithm(ui, args);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    answer = session_call(s, ui, "cert.new", args);
    if (!answer)
        return;
    ui_say(ui, "%s", json_str(answer, "subject", ""));
    if (ui_interactive(ui) && ask_yes(ui, "view_csr", "Do you want to view the CSR?", true))
        out_text(ui, json_str(answer, "csr", ""));
    out_data(ui, answer);
}

/* --- PASTE, EDIT
 * -------------------------------------------------------------------------------------------- */

/* Pasted text until it is accepted by check; NULL: given up. The caller frees it. */
static char *ask_pem(struct ui *ui, const char *key, const char *question,
                     char *(*ask)(struct ui *ui, const char *key, const char *question),
                     bool (*check)(const char *pem, struct err *err))
{
    for (int tries = 0; tries < 5 && !ui_failed(ui); tries++) {
        char *text = ask(ui, key, question);
        struct err err = {0};

        if (ui_failed(ui) || check(text, &err))
            return text;
        secret_text_free(&text);
        if (!ui_interactive(ui) || tries == 4) {
            ui_error(ui, &err);
            return NULL;
        }
        ui_say(ui, "%s", err.text);
    }
    return NULL;
}

static bool check_certificate_text(const char *pem, struct err *err)
{
    struct x509_facts f = {0};
    bool ok = x509_read(pem, &f, err);

    x509_facts_free(&f);
    return ok;
}

static bool check_chain_text(const char *pem, struct err *err)
{
    return x509_count(pem) > 0 || check_certificate_text(pem, err);
}

static void ask_intermediates(struct ui *ui, const char *leaf, json_t *args)
{
    AUTO(buf) struct buf all = BUF_INIT(512u << 10), sorted = BUF_INIT(512u << 10);
    const char *question = "Do you want to add an intermediate certificate?";
    struct err err = {0};

    while (ask_yes(ui, "add_intermediate", question, false) && !ui_failed(ui)) {
        char *text =
            ask_pem(ui, "intermediates",
                    "Paste intermediate certificate in PEM format (end with '.'):", ask_block,
                    check_chain_text);
        size_t before = all.n;

        if (text)
            buf_str_add(&all, text);
        buf_reset(&sorted);
        if (text && !x509_order_chain(leaf, buf_str(&all), &sorted, &err)) {
            all.n = before;
            if (ui_interactive(ui))
                ui_say(ui, "%s", err.text);
            else
                ui_error(ui, &err);
        }
        free(text);
        question = "Do you want to add another intermediate certificate?";
    }
    if (all.n)
        json_put_str(args, "intermediates", buf_str(&all));
}

static void say_subject(struct ui *ui, const char *pem)
{
    struct x509_facts f = {0};

    if (x509_read(pem, &f, NULL))
        ui_say(ui, "%s", f.subject);
    x509_facts_free(&f);
}

static void store_pasted(struct ui *ui, struct session *s, json_t *args)
{
    json_t *answer = session_call(s, ui, "cert.paste", args);

    if (answer)
        say_warnings(ui, answer);
    if (answer)
        out_data(ui, answer);
}

static const char *const paste_certificate =
    "Paste public certificate in PEM format (end with '.'):";

static void cert_paste(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object();
    bool replace;
    char *name = ask_profile_name(ui, s, &replace), *certificate = NULL, *key = NULL;
    struct err err = {0};

    (void)unused;
    if (name)
        certificate =
            ask_pem(ui, "certificate", paste_certificate, ask_block, check_certificate_text);
    if (certificate && !ui_failed(ui)) {
        say_subject(ui, certificate);
        key = ask_pem(ui, "private_key",
                      "Paste private key in PEM format (end with '.'):", ask_secret_block,
                      x509_check_key);
    }
    if (key && !ui_failed(ui) && !x509_key_matches(certificate, key, &err))
        ui_error(ui, &err);
    if (key && !ui_failed(ui)) {
        json_put_str(args, "name", name);
        json_put_str(args, "certificate", certificate);
        json_put_str(args, "private_key", key);
        json_put(args, "replace", json_boolean(replace));
        ask_intermediates(ui, certificate, args);
    }
    if (key && !ui_failed(ui))
        store_pasted(ui, s, json_incref(args));
    json_decref(args);
    secret_text_free(&key);
    free(certificate);
    free(name);
}

/* A profile by number or name, as its subject is shown. Demo is not among them. The caller frees
 * it. */
static char *ask_profile(struct ui *ui, struct session *s, const char *verb)
{
    json_t *data = fetch(s, ui), *c;
    size_t i, n = 0, count = json_array_size(json_object_get(data, "certificates"));
    struct ui_choice *choices = xcalloc(count + 1, sizeof(*choices));
    char *question = xasprintf("Select the certificate profile you wish to %s:", verb),
         *name = NULL;
    int picked;

    json_array_foreach(json_object_get(data, "certificates"), i, c)
    {
        if (json_bool_of(c, "demo", false))
            continue;
        choices[n].word = json_str(c, "name", "");
        choices[n++].text = xasprintf("[%s] %s", json_str(c, "name", ""),
                                      json_str(c, "subject", "(no certificate yet)"));
    }
    if (ui_peek(ui, 0) && str_ieq(ui_peek(ui, 0), "Demo"))
        ui_fail(ui, E_DENIED,
                "The demonstration certificate \"Demo\" cannot be changed or deleted.");
    else if (!n && data)
        ui_fail(ui, E_NOT_FOUND,
                "There is no certificate profile to %s. Create one with NEW or PASTE.", verb);
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

static void cert_edit(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_profile(ui, s, "edit"), *certificate;
    struct row *r = name ? session_get(s, &section_certificate, name) : NULL;
    const struct certificate *c = r ? r->data : NULL;
    json_t *args;

    (void)unused;
    if (c && ask_yes(ui, "update", "Would you like to update the existing public certificate?",
                     !ui_interactive(ui))) {
        certificate =
            ask_pem(ui, "certificate", paste_certificate, ask_block, check_certificate_text);
        if (certificate && !ui_failed(ui)) {
            args = json_object();
            say_subject(ui, certificate);
            json_put_str(args, "name", name);
            json_put_str(args, "certificate", certificate);
            json_put(args, "replace", json_true());
            ask_intermediates(ui, certificate, args);
            if (ui_failed(ui))
                json_decref(args);
            else
                store_pasted(ui, s, args);
        }
        free(certificate);
    }
    if (c && *c->request && ui_interactive(ui) &&
        ask_yes(ui, "view_csr", "Would you like to view the CSR?", true))
        out_text(ui, c->request);
    row_free(&r);
    free(name);
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
    char *name = ask_profile(ui, s, "delete"), *users = name ? users_of(s, ui, name) : NULL,
         *question;

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
    {"PASTE",  "Paste a certificate into the CLI",               NULL, cert_paste,  NULL   },
    {"NEW",    "Create a self-signed certificate and CSR",       NULL, cert_new,    NULL   },
    {"EDIT",   "Update certificate or view the signing request", NULL, cert_edit,   any_own},
    {"DELETE", "Remove a certificate",                           NULL, cert_delete, any_own},
    {"LIST",   "View all certificates",                          NULL, cert_list,   NULL   },
    {"PRINT",  "View certificates assigned to services",         NULL, cert_print,  NULL   },
};
static const struct menu certificate_menu = {say_list, certificate_ops, countof(certificate_ops),
                                             &section_certificate};

static void certificates(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    run_menu(ui, s, &certificate_menu, NULL);
}

static const struct menu_op main_ops[] = {
    {"CERTIFICATE", "Import, Create a request, Edit or Remove Certificate Profiles", NULL,
     certificates, NULL},
    {"CERTAUTHORITY", "Manage System and Customized Authorities", NULL, certauthority, NULL},
};
static const struct menu main_menu = {NULL, main_ops, countof(main_ops), &section_certificate};

const struct command cmd_certconfig = {
    .name = "certconfig",
    .help = "Configure security certificates and keys",
    .detail = "A profile holds a certificate, its private key and its chain. Listeners choose one "
              "with listenerconfig, deliveries "
              "with destconfig > setup. The profile Demo is for tests only: everybody has its key.",
    .usage = "certconfig certificate new NAME common_name=HOST [organization=..] [unit=..] "
             "[locality=..] [state=..] [country=XX]\n"
             "    [names=HOST,HOST] [days=N] "
             "[algorithm=rsa-2048|rsa-3072|rsa-4096|p256|p384|ed25519] [--replace]\n"
             "certconfig certificate delete NAME --yes\n"
             "certconfig certificate list\n"
             "certconfig certificate print",
    .roles = ROLE_ADMIN,
    .commits = true,
    .menu = &main_menu,
};
