/* cert_new.c - certconfig > certificate > new: a self-signed certificate and the request an
 * authority signs. The key is made by the daemon and stays there. */
#include <stdlib.h>
#include <string.h>

#include "cmds/certconfig.h"
#include "store/x509.h"

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

static bool accept_digest(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return x509_check_digest(answer, err);
}

static void ask_digest(struct ui *ui, json_t *args)
{
    static const struct ui_choice digests[] = {
        {"sha256", "SHA-256"},
        {"sha384", "SHA-384"},
        {"sha512", "SHA-512"},
        {NULL,     NULL     }
    };
    const char *algorithm = json_str(args, "algorithm", "");
    const struct ui_question q = {
        .text = "Enter the digest of the signature (sha256, sha384 or sha512):",
        .key = "digest",
        .deflt = str_eq(algorithm, "p384") ? "sha384" : "sha256",
        .choices = digests,
        .accept = accept_digest,
        .help = "SHA-256 is understood by every peer."};

    if (!str_eq(algorithm, "ed25519")) /* which has its own */
        json_put_str(args, "digest", ui_ask(ui, &q));
}

static const char *ask_part(struct ui *ui, const char *key, const char *question, bool required,
                            bool (*accept)(void *arg, const char *answer, struct err *err))
{
    const struct ui_question q = {.text = question,
                                  .key = key,
                                  .deflt = required ? NULL : "",
                                  .bare = true,
                                  .accept = accept};

    return ui_ask(ui, &q);
}

static bool is_qualified(const char *common_name, struct err *err)
{
    struct x509_facts f = {.common_name = (char *)(uintptr_t)common_name};

    return x509_check_fqdn(&f, err);
}

/* The common name, asked again while it is to be a host name and is none. */
static void ask_common_name(struct ui *ui, json_t *args)
{
    struct err err = {0};
    bool again;

    do {
        again = false;
        json_put_str(args, "common_name",
                     ask_part(ui, "common_name", "Enter Common Name:", true, accept_common_name));
        if (!cert_ask_fqdn(ui) || ui_failed(ui) ||
            is_qualified(json_str(args, "common_name", ""), &err))
            continue;
        again = ui_interactive(ui);
        if (again)
            ui_say(ui, "%s", err.text);
        else
            ui_error(ui, &err);
    } while (again && !ui_failed(ui));
}

static void ask_subject(struct ui *ui, json_t *args)
{
    static const struct {
        const char *key, *question;
        bool (*accept)(void *arg, const char *answer, struct err *err);
    } questions[] = {
        {"organization", "Enter Organization:",            NULL          },
        {"unit",         "Enter Organizational Unit:",     NULL          },
        {"locality",     "Enter Locality or City:",        NULL          },
        {"state",        "Enter State or Province:",       NULL          },
        {"country",      "Enter Country (2 letter code):", accept_country},
    };
    AUTO(strlist) struct strlist names = {0};
    json_t *list = json_array();

    ask_common_name(ui, args);
    for (size_t i = 0; i < countof(questions); i++)
        json_put_str(
            args, questions[i].key,
            ask_part(ui, questions[i].key, questions[i].question, false, questions[i].accept));
    strlist_split(&names,
                  ask_part(ui, "names",
                           "Enter further host names or addresses of this gateway, separated by "
                           "commas:",
                           false, accept_names),
                  ',');
    for (size_t k = 0; k < names.n; k++)
        json_array_append_new(list, json_string(names.items[k]));
    json_put(args, "names", list);
}

/* A profile without a name is called as its host. What no profile can be called is left to the
 * daemon. */
static bool take_common_name(struct ui *ui, struct session *s, const char *common_name, char **name,
                             bool *replace)
{
    struct row *trial = row_new(&section_certificate, NULL);

    if (!**name && row_set(trial, "name", common_name, NULL)) {
        free(*name);
        *name = xstrdup(common_name);
    }
    row_free(&trial);
    return cert_may_take(ui, s, *name, replace);
}

/* A script had it saved with the profile; a person may be asked whether another file is to go. */
static void save_csr(struct ui *ui, struct session *s, const json_t *made)
{
    json_t *args = json_object(), *saved = NULL;
    const char *path;

    json_put_str(args, "name", json_str(made, "name", ""));
    if (ui_interactive(ui))
        saved = call_writing(ui, s, "cert.csr", json_incref(args), false);
    path = json_str(saved ? saved : made, "csr_path", NULL);
    if (path)
        ui_say(ui, "The CSR was saved on machine \"%s\" as \"%s\".", session_hostname(s), path);
    json_decref(saved);
    json_decref(args);
}

void cert_new(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object(), *answer;
    bool replace;
    char *name = cert_ask_name(ui, s, &replace);

    (void)unused;
    if (name)
        ask_subject(ui, args);
    if (name && !take_common_name(ui, s, json_str(args, "common_name", ""), &name, &replace)) {
        free(name);
        name = NULL;
    }
    if (name && !ui_failed(ui)) {
        json_put_str(args, "name", name);
        json_put(args, "replace", json_boolean(replace));
        json_put_int(args, "days",
                     (json_int_t)ask_number(
                         ui, "days", "Duration before expiration (in days):", 3650, 1, 36500));
        ask_algorithm(ui, args);
        ask_digest(ui, args);
    }
    free(name);
    if (!json_object_get(args, "days") || ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    json_put(args, "save_csr", json_boolean(!ui_interactive(ui)));
    answer = session_call(s, ui, "cert.new", args);
    if (!answer)
        return;
    ui_say(ui, "%s", json_str(answer, "subject", ""));
    cert_say_changed(ui, answer);
    if (ui_interactive(ui) && ask_yes(ui, "view_csr", "Do you want to view the CSR?", true))
        out_text(ui, json_str(answer, "csr", ""));
    save_csr(ui, s, answer);
    cert_say_warnings(ui, answer);
    out_data(ui, answer);
}
