/* configfile.c - the configuration as text: showconfig, saveconfig, loadconfig. */
#include "cmds/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct ui_choice secrets[] = {
    {"mask",    "Mask passphrases (Files with masked passphrases can be loaded on this machine only)"},
    {"encrypt", "Encrypt passphrases"                                                                },
    {"plain",   "Plain passphrases"                                                                  },
    {NULL,      NULL                                                                                 }
};

/* In batch "y" is what older scripts say for masking. */
static bool ask_secrets(struct ui *ui, json_t *args)
{
    const char *word = ui_peek(ui, 0);
    int i = 0;

    if (word && (str_ieq(word, "y") || str_ieq(word, "yes")))
        ui_word(ui);
    else if (word || ui_interactive(ui) || ui_key(ui, "secrets"))
        i = ask_choice(ui, "secrets", "Choose the passphrase option:", secrets, 0);
    json_put_str(args, "secrets", secrets[i < 0 ? 0 : i].word);
    if (!str_eq(secrets[i < 0 ? 0 : i].word, "encrypt") || ui_failed(ui))
        return !ui_failed(ui);
    for (;;) {
        char *one = ask_secret(ui, "passphrase", "Enter a passphrase for the file:");
        char *two = ui_interactive(ui) ? ask_secret(ui, "passphrase", "Enter the passphrase again:")
                                       : xstrdup(one);
        bool same = str_eq(one, two) && one && *one;

        if (same)
            json_put_str(args, "passphrase", one);
        secret_text_free(&one);
        secret_text_free(&two);
        if (same || ui_failed(ui))
            return !ui_failed(ui);
        ui_say(ui, "The passphrases are empty or do not match. Enter the same passphrase twice.");
        if (!ui_interactive(ui)) {
            ui_fail(ui, E_USAGE, "The passphrase may not be empty.");
            return false;
        }
    }
}

/* The arguments of config.export; options come off the line before anything looks at its words. */
static json_t *export_args(struct ui *ui)
{
    const char *format = ui_option(ui, "--format");
    json_t *args = json_object();

    if (format && !str_ieq(format, "batch") && !str_ieq(format, "json"))
        ui_fail(ui, E_USAGE, "The format is batch or json, not \"%s\".", str_printable(format));
    json_put_str(args, "format", format ? format : "batch");
    return args;
}

static json_t *export(struct ui *ui, struct session *s, json_t *args)
{
    if (ui_failed(ui)) {
        json_decref(args);
        return NULL;
    }
    return session_call(s, ui, "config.export", args);
}

/* --- showconfig
 * --------------------------------------------------------------------------------------------- */

static void show(struct ui *ui, struct session *s)
{
    json_t *args = export_args(ui), *data = NULL;
    const char *word = ui_peek(ui, 0);
    char *end;
    long n = word ? strtol(word, &end, 10) : 0;

    if (word && !*end && n > 3) { /* a revision; 1 to 3 are the options of the question */
        ui_word(ui);
        json_put_int(args, "revision", n);
        json_put_str(args, "secrets", "mask");
        data = export(ui, s, args);
    } else if (ask_secrets(ui, args)) {
        data = export(ui, s, args);
    } else {
        json_decref(args);
    }
    if (!data)
        return;
    out_text(ui, json_str(data, "text", ""));
    out_data(ui, data);
}

const struct command cmd_showconfig = {
    .name = "showconfig",
    .help = "Display all configuration values",
    .usage = "showconfig [mask|encrypt|plain] [--format batch|json]\nshowconfig REVISION",
    .detail = "Prints the configuration as the statements that make it, uncommitted changes "
              "included. The text can be loaded with "
              "loadconfig and compares well: nothing in it changes from run to run.",
    .roles = ROLE_READONLY,
    .run = show,
};

/* --- saveconfig
 * --------------------------------------------------------------------------------------------- */

/* Model, serial and date in other people's files; here the host and the date. */
static char *generated_name(struct session *s)
{
    time_t now = (time_t)(clock_wall() / 1000000);
    char date[32], host[200];
    struct tm tm;

    str_copy(host, sizeof(host), session_hostname(s));
    strftime(date, sizeof(date), "%Y%m%dT%H%M%S", localtime_r(&now, &tm));
    return xasprintf("%s-%s.conf", host, date);
}

static const struct ui_choice namings[] = {
    {"generated", "Use system-generated file name"},
    {"named",     "Enter a file name"             },
    {NULL,        NULL                            }
};

static void save(struct ui *ui, struct session *s)
{
    json_t *args = export_args(ui), *data, *file, *answer;
    bool replace = ui_flag(ui, "--replace");
    const char *given;
    char *name;

    if (!ask_secrets(ui, args)) {
        json_decref(args);
        return;
    }
    given = ui_key(ui, "file");
    if (given || ask_choice(ui, "naming", "Choose a file naming option:", namings, 0) == 1)
        name = xstrdup(given ? given : ask_some(ui, "file", "Enter the file name:"));
    else
        name = generated_name(s);
    data = ui_end_of_words(ui) ? export(ui, s, json_incref(args)) : NULL;
    json_decref(args);
    if (data) {
        file = json_object();
        json_put_str(file, "name", name);
        json_put_str(file, "text", json_str(data, "text", ""));
        answer = call_writing(ui, s, "file.write", file, replace);
        if (answer) {
            out_line(ui, "File written on machine \"%s\" to the location \"%s\".",
                     session_hostname(s), json_str(answer, "path", ""));
            ui_say(ui, "Configuration saved.");
            out_data(ui, answer);
        }
        json_decref(data);
    }
    free(name);
}

const struct command cmd_saveconfig = {
    .name = "saveconfig",
    .help = "Save the configuration to a file",
    .usage = "saveconfig [mask|encrypt|plain] [1 | file=NAME] [--replace]",
    .detail = "Writes what showconfig prints into the export area. Private keys are masked (the "
              "file loads on this machine), "
              "encrypted with a passphrase, or plain.",
    .roles = ROLE_OPERATOR,
    .run = save,
};

/* --- loadconfig
 * --------------------------------------------------------------------------------------------- */

static const struct ui_choice sources[] = {
    {"paste", "Paste via CLI" },
    {"file",  "Load from file"},
    {NULL,    NULL            }
};
static const struct ui_choice modes[] = {
    {"merge",   "Merge: what the text does not mention stays"},
    {"replace", "Replace: the whole configuration"           },
    {NULL,      NULL                                         }
};

static json_t *read_file(struct ui *ui, struct session *s)
{
    json_t *args = json_object();

    json_put_str(args, "name", ask_some(ui, "file", "Enter the name of the file to import:"));
    if (ui_failed(ui)) {
        json_decref(args);
        return NULL;
    }
    return session_call(s, ui, "file.read", args);
}

static bool ask_source(struct ui *ui, struct session *s, json_t *args)
{
    bool file = !ui_interactive(ui) || ui_peek(ui, 0) || ui_key(ui, "file") ||
                ask_choice(ui, "source", "Choose a source:", sources, 0) == 1;
    json_t *data = file ? read_file(ui, s) : NULL;
    char *pasted =
        file || ui_failed(ui)
            ? NULL
            : ask_block(ui, "text",
                        "What you paste is shown on this terminal: load a file with plain "
                        "passphrases by its name.\n"
                        "Paste the configuration now (end with '.'):");

    if (data || pasted)
        json_put_str(args, "text", data ? json_str(data, "text", "") : pasted);
    json_decref(data);
    secret_text_free(&pasted);
    return json_object_get(args, "text") && !ui_failed(ui);
}

static void load(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *data;
    const char *text;
    char *pass;

    if (!ask_source(ui, s, args)) {
        json_decref(args);
        return;
    }
    json_put_str(
        args, "mode",
        modes[ask_choice(ui, "mode", "What about settings the text does not mention?", modes, 0)]
            .word);
    text = json_str(args, "text", "");
    if (strstr(text, "encrypted:")) {
        pass = ask_secret(ui, "passphrase", "Enter the passphrase of the file:");
        json_put_str(args, "passphrase", pass);
        secret_text_free(&pass);
    }
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    data = session_call(s, ui, "config.import", args);
    if (!data)
        return;
    if (json_int(data, "new", 0) + json_int(data, "changed", 0) + json_int(data, "deleted", 0)) {
        ui_say(ui, "Values have been loaded: %lld new, %lld changed, %lld deleted.",
               (long long)json_int(data, "new", 0), (long long)json_int(data, "changed", 0),
               (long long)json_int(data, "deleted", 0));
        ui_say(ui, "Be sure to run \"commit\" to make these settings active.");
    } else {
        ui_say(ui, "Values have been loaded; nothing changed.");
    }
    out_data(ui, data);
}

const struct command cmd_loadconfig = {
    .name = "loadconfig",
    .help = "Load a configuration file",
    .usage = "loadconfig FILE [mode=merge|replace]",
    .detail = "Any error: nothing is loaded. What was loaded is staged; \"showchanges\" shows it, "
              "\"commit\" makes it active.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .run = load,
};
