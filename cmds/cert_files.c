/* cert_files.c - certconfig > certificate > import and export: files of the export area, PKCS#12
 * and PEM. The console never sees a private key: the daemon reads and writes the files. */
#include <stdlib.h>
#include <string.h>

#include "cmds/certconfig.h"
#include "store/base/home.h"

/* Asks the daemon; a file with several keys is asked for again with the one that was chosen. Steals
 * args. */
static json_t *try_import(struct ui *ui, struct session *s, json_t *args)
{
    json_t *answer = session_answer(s, ui, "cert.import", json_incref(args)), *keys, *data = NULL;
    struct ui_choice choices[51] = {
        {NULL, NULL}
    };
    size_t i, n;

    keys = json_object_get(answer, "keys");
    n = json_array_size(keys);
    if (answer && !json_bool_of(answer, "ok", false) && n > 1 && n < countof(choices) &&
        ui_interactive(ui)) {
        for (i = 0; i < n; i++)
            choices[i].word = json_string_value(json_array_get(keys, i));
        json_put_int(
            args, "key",
            1 + ask_choice(ui, "key", "Select the private key you wish to import:", choices, -1));
        json_decref(answer);
        answer = ui_failed(ui) ? NULL : session_answer(s, ui, "cert.import", json_incref(args));
    }
    if (answer && !json_bool_of(answer, "ok", false))
        session_show_error(s, ui, answer);
    else if (answer)
        data = json_incref(json_object_get(answer, "data"));
    json_decref(answer);
    json_decref(args);
    return data;
}

static bool is_pem(const char *file)
{
    static const char *const endings[] = {".pem", ".crt", ".cer", ".key", ".txt"};

    for (size_t i = 0; i < countof(endings); i++)
        if (str_ends(file, endings[i]))
            return true;
    return false;
}

static void ask_pass_phrase(struct ui *ui, const char *question, json_t *args)
{
    const struct ui_question q = {
        .text = question, .key = "pass_phrase", .deflt = "", .secret = true};

    json_put_str(args, "pass_phrase", ui_ask(ui, &q));
}

static bool accept_file(void *arg, const char *answer, struct err *err)
{
    const bool *optional = arg;

    return (*optional && !*answer) || home_file_name(answer, err);
}

/* A name in the export area; deflt NULL: there must be one, "" there need not. */
static const char *ask_file_name(struct ui *ui, const char *key, const char *question,
                                 const char *deflt)
{
    bool optional = deflt && !*deflt;
    const struct ui_question q = {
        .text = question, .key = key, .deflt = deflt, .accept = accept_file, .arg = &optional};

    return ui_ask(ui, &q);
}

static void ask_file(struct ui *ui, struct session *s, json_t *args)
{
    char *question =
        xasprintf("Enter the name of the file on machine \"%s\" to import:", session_hostname(s));
    const char *data = ui_key(ui, "data"), *file;

    if (data)
        json_put_str(args, "data", data);
    else
        json_put_str(args, "file", ask_file_name(ui, "file", question, NULL));
    free(question);
    file = json_str(args, "file", "");
    if (is_pem(file))
        json_put_str(args, "key_file",
                     ask_file_name(ui, "key_file",
                                   "Enter the name of the file with the private key (leave empty "
                                   "if it is in the same file):",
                                   ""));
}

void cert_import(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object();
    bool replace, pem;
    char *name = cert_ask_name(ui, s, &replace);
    const char *which = ui_key(ui, "key");

    (void)unused;
    if (name && !ui_failed(ui)) {
        json_put_str(args, "name", name);
        json_put(args, "replace", json_boolean(replace));
        if (which)
            json_put_int(args, "key", strtol(which, NULL, 10));
        ask_file(ui, s, args);
        json_put(args, "fqdn", json_boolean(cert_ask_fqdn(ui)));
        pem =
            is_pem(json_str(args, "file", "")) || strstr(json_str(args, "data", ""), "-----BEGIN");
        ask_pass_phrase(ui,
                        pem ? "Enter pass phrase of the private key (leave empty if it has none):"
                            : "Enter pass phrase for PKCS#12:",
                        args);
    }
    if (name && !ui_failed(ui) && ui_end_of_words(ui))
        cert_say_staged(ui, try_import(ui, s, json_incref(args)));
    json_decref(args);
    free(name);
}

/* --- EXPORT --- */

static bool ask_new_pass_phrase(struct ui *ui, json_t *args)
{
    while (!ui_failed(ui)) {
        char *one = ask_secret(ui, "pass_phrase", "Enter pass phrase for PKCS#12:"),
             *two = ui_interactive(ui) ? ask_secret(ui, "pass_phrase", "Enter pass phrase again:")
                                       : xstrdup(one);
        bool same = str_eq(one, two) && *one;

        if (same)
            json_put_str(args, "pass_phrase", one);
        secret_text_free(&one);
        secret_text_free(&two);
        if (same || ui_failed(ui))
            return !ui_failed(ui);
        if (!ui_interactive(ui))
            ui_fail(ui, E_USAGE, "The pass phrase may not be empty.");
        ui_say(ui, "The pass phrases are empty or do not match. Enter the same one twice.");
    }
    return false;
}

void cert_export(struct ui *ui, struct session *s, struct row *unused)
{
    json_t *args = json_object(), *answer;
    bool legacy = ui_flag(ui, "--legacy"), replace = ui_flag(ui, "--replace");
    char *name = cert_ask_profile(ui, s, "export", false), *deflt;

    (void)unused;
    if (name && !ui_failed(ui)) {
        deflt = xasprintf("%s.p12", name);
        json_put_str(args, "name", name);
        json_put(args, "legacy", json_boolean(legacy));
        json_put_str(args, "file",
                     ask_file_name(ui, "file", "Enter a name for the exported file:", deflt));
        free(deflt);
        if (ask_new_pass_phrase(ui, args) && ui_end_of_words(ui) &&
            (answer = call_writing(ui, s, "cert.export", json_incref(args), replace)) != NULL) {
            out_line(ui, "File written on machine \"%s\" to the location \"%s\".",
                     session_hostname(s), json_str(answer, "path", ""));
            out_data(ui, answer);
        }
    }
    json_decref(args);
    free(name);
}
