/* cert_intake.c - certconfig > certificate > paste and edit: certificates and chains that come as
 * PEM texts. */
#include <stdlib.h>
#include <string.h>

#include "cmds/certconfig.h"
#include "store/x509.h"

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

/* Chain certificates to be added behind those of before ("" for none), refused while they do not
 * fit. */
static void ask_intermediates(struct ui *ui, const char *leaf, const char *before,
                              const char *question, json_t *args)
{
    AUTO(buf) struct buf all = BUF_INIT(512u << 10), sorted = BUF_INIT(512u << 10);
    struct err err = {0};

    buf_str_add(&all, before);
    while (ask_yes(ui, "add_intermediate", question, false) && !ui_failed(ui)) {
        char *text =
            ask_pem(ui, "intermediates",
                    "Paste intermediate certificate in PEM format (end with '.'):", ask_block,
                    check_chain_text);
        size_t at = all.n;

        if (text)
            buf_printf(&all, "\n%s", text);
        buf_reset(&sorted);
        if (text && !x509_order_chain(leaf, buf_str(&all), &sorted, &err)) {
            all.n = at;
            all.p[at] = '\0';
            if (ui_interactive(ui))
                ui_say(ui, "%s", err.text);
            else
                ui_error(ui, &err);
        }
        free(text);
        question = "Do you want to add another intermediate certificate?";
    }
    if (all.n > strlen(before))
        json_put_str(args, "intermediates", buf_str(&all));
}

static void say_subject(struct ui *ui, const char *pem)
{
    struct x509_facts f = {0};

    if (x509_read(pem, &f, NULL))
        ui_say(ui, "%s", f.subject);
    x509_facts_free(&f);
}

static const char *const paste_certificate =
    "Paste public certificate in PEM format (end with '.'):";

void cert_paste(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object();
    bool replace;
    char *name = cert_ask_name(ui, s, &replace), *certificate = NULL, *key = NULL;
    struct err err = {0};

    (void)unused;
    if (name)
        certificate =
            ask_pem(ui, "certificate", paste_certificate, ask_block, check_certificate_text);
    if (certificate && !ui_failed(ui)) {
        say_subject(ui, certificate);
        json_put(args, "fqdn", json_boolean(cert_ask_fqdn(ui)));
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
        ask_intermediates(ui, certificate, "", "Do you want to add an intermediate certificate?",
                          args);
    }
    if (key && !ui_failed(ui) && ui_end_of_words(ui))
        cert_say_staged(ui, session_call(s, ui, "cert.paste", json_incref(args)));
    json_decref(args);
    secret_text_free(&key);
    free(certificate);
    free(name);
}

/* --- EDIT --- */

/* Which of the stored ones goes? Its fingerprint, which the caller frees; NULL: none. */
static char *ask_removed(struct ui *ui, const char *chain)
{
    struct x509_facts *facts = xcalloc(X509_MAX_CHAIN, sizeof(*facts));
    int n = x509_read_all(chain, facts, X509_MAX_CHAIN, NULL), picked;
    struct ui_choice choices[X509_MAX_CHAIN + 1] = {
        {NULL, NULL}
    };
    char *sha256 = NULL;

    for (int i = 0; i < n; i++)
        choices[i] = (struct ui_choice){facts[i].sha256, facts[i].subject};
    if (n > 0 && ask_yes(ui, "remove_intermediate",
                         "Would you like to remove an intermediate certificate?", false)) {
        picked = ask_choice(ui, "intermediate",
                            "Select the intermediate certificate you wish to remove:", choices,
                            n == 1 ? 0 : -1);
        if (!ui_failed(ui))
            sha256 = xstrdup(choices[picked].word);
    }
    for (int i = 0; i < n; i++)
        x509_facts_free(&facts[i]);
    free(facts);
    return sha256;
}

/* Puts what is to change into args; false: nothing. */
static bool ask_changes(struct ui *ui, const struct certificate *c, json_t *args)
{
    bool update = ask_yes(ui, "update", "Would you like to update the existing public certificate?",
                          !ui_interactive(ui));
    char *certificate = update ? ask_pem(ui, "certificate", paste_certificate, ask_block,
                                         check_certificate_text)
                               : NULL,
         *removed = NULL;
    bool given_up = update && !certificate;

    if (certificate && !ui_failed(ui)) {
        say_subject(ui, certificate);
        json_put_str(args, "certificate", certificate);
    }
    if (!given_up && !ui_failed(ui))
        ask_intermediates(ui, certificate ? certificate : c->certificate,
                          certificate ? "" : c->intermediates,
                          "Would you like to add a new intermediate certificate?", args);
    if (!given_up && !certificate && !json_object_get(args, "intermediates") && *c->intermediates &&
        !ui_failed(ui))
        removed = ask_removed(ui, c->intermediates);
    if (removed)
        json_put_str(args, "remove", removed);
    free(certificate);
    free(removed);
    return !given_up && !ui_failed(ui) && json_object_size(args) > 0;
}

static void view_csr(struct ui *ui, struct session *s, const char *name, const char *csr,
                     bool replace)
{
    json_t *args = json_object(), *answer;

    out_text(ui, csr); /* whether it can be saved or not */
    json_put_str(args, "name", name);
    answer = call_writing(ui, s, "cert.csr", args, replace);
    if (!answer)
        return;
    ui_say(ui, "The CSR was saved on machine \"%s\" as \"%s\".", session_hostname(s),
           json_str(answer, "csr_path", ""));
    out_data(ui, answer);
}

void cert_edit(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = cert_ask_profile(ui, s, "edit", false);
    struct row *r = name ? session_get(s, &section_certificate, name) : NULL;
    const struct certificate *c = r ? r->data : NULL;
    json_t *args = json_object();
    bool csr = !ui_interactive(ui) && ui_flag(ui, "--csr"),
         replace = csr && ui_flag(ui, "--replace");

    (void)unused;
    if (c && csr) {
        if (ui_end_of_words(ui))
            view_csr(ui, s, name, c->request, replace);
    } else if (c && ask_changes(ui, c, args) && ui_end_of_words(ui)) {
        json_put_str(args, "name", name);
        json_put(args, "replace", json_true());
        cert_say_staged(ui, session_call(s, ui, "cert.paste", json_incref(args)));
    }
    if (c && *c->request && ui_interactive(ui) && !ui_failed(ui) &&
        ask_yes(ui, "view_csr", "Would you like to view the CSR?", true))
        view_csr(ui, s, name, c->request, false);
    json_decref(args);
    row_free(&r);
    free(name);
}
