/* main.c - the console program: options, login, and which of its forms this run has.
 *
 *   postern [--home DIR] [--json] [--yes] [--no-input]          a person at a terminal, or
 * statements on standard input postern ... COMMAND ARGS...                                one
 * statement postern ... batch [--commit] < FILE                        a file as one transaction
 *   postern -c 'COMMAND; COMMAND'                              as a login shell; ForceCommand's
 * SSH_ORIGINAL_COMMAND likewise */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/batch.h"
#include "shell/event.h"
#include "shell/harden.h"
#include "shell/help.h"
#include "shell/prompt.h"
#include "shell/run.h"
#include "shell/ui_term.h"
#include "store/base/home.h"
#include "store/base/version.h"

#define IDLE_SECONDS (30 * 60)

struct options {
    const char *home, *line, *reference;
    bool json, yes, no_input;
    char **words;
    int nwords;
};

static int usage(FILE *to)
{
    fputs("usage: postern [--home DIR] [--json] [--yes] [--no-input] [COMMAND ARGS... | -c "
          "'COMMAND; COMMAND']\n"
          "       postern [--home DIR] batch [--commit] [--comment TEXT] [--dry-run] [--replace] < "
          "FILE\n"
          "       postern --version | --help | --reference DIR\n"
          "\"postern help\" lists the commands.\n",
          to);
    return to == stdout ? 0 : 2;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* The option's value, from "--home=DIR" or the next argument. */
static const char *option_value(int argc, char **argv, int *i, const char *arg, const char *name)
{
    size_t n = strlen(name);

    if (strncmp(arg, name, n) == 0 && arg[n] == '=')
        return arg + n + 1;
    if (is(arg, name) && *i + 1 < argc)
        return argv[++*i];
    return NULL;
}

/* -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
    const char *value;

    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];

        if (!arg)
            break;
        if ((value = option_value(argc, argv, &i, arg, "--home")) != NULL) {
            o->home = value;
        } else if ((value = option_value(argc, argv, &i, arg, "--reference")) != NULL) {
            o->reference = value;
        } else if ((value = option_value(argc, argv, &i, arg, "-c")) != NULL) {
            o->line = value;
        } else if (is(arg, "--json")) {
            o->json = true;
        } else if (is(arg, "--yes")) {
            o->yes = true;
        } else if (is(arg, "--no-input")) {
            o->no_input = true;
        } else if (is(arg, "-l") || is(arg, "--login")) {
            continue; /* what su and terminals give a login shell */
        } else if (is(arg, "--help")) {
            return usage(stdout);
        } else if (is(arg, "--version")) {
            puts("postern " POSTERN_VERSION);
            return 0;
        } else if (arg[0] == '-') {
            fprintf(stderr, "postern: unknown option %s\n", str_printable(arg));
            return usage(stderr);
        } else {
            o->words = argv + i;
            o->nwords = argc - i;
            break;
        }
    }
    return -1;
}

static const char *first_word_base(const char *line, size_t *n)
{
    const char *end, *slash;

    while (*line == ' ')
        line++;
    end = strchr(line, ' ');
    *n = end ? (size_t)(end - line) : strlen(line);
    for (slash = line + *n; slash > line && slash[-1] != '/'; slash--)
        ;
    *n -= (size_t)(slash - line);
    return slash;
}

/* What sshd starts for file transfers and other services. */
static bool is_transfer(const char *line)
{
    static const char *const names[] = {"sftp-server", "internal-sftp",   "scp",
                                        "rsync",       "git-upload-pack", "git-receive-pack"};
    size_t n;
    const char *word = first_word_base(line, &n);

    for (size_t i = 0; i < countof(names); i++) {
        if (strlen(names[i]) == n && strncmp(word, names[i], n) == 0)
            return true;
    }
    return false;
}

/* ForceCommand run by a login shell that is the console itself. */
static bool is_self(const char *line)
{
    size_t n;
    const char *word = first_word_base(line, &n);

    return n == strlen("postern") && strncmp(word, "postern", n) == 0 && !word[n];
}

static void find_line(struct options *o)
{
    const char *original = getenv("SSH_ORIGINAL_COMMAND");

    if (o->line && is_self(o->line))
        o->line = NULL;
    if (!o->line && !o->nwords && original && *original)
        o->line = original;
}

static char *history_path(void)
{
    const char *home = getenv("HOME");
    const struct passwd *pw = home && *home ? NULL : getpwuid(getuid());

    if (pw)
        home = pw->pw_dir;
    return home && home[0] == '/' && access(home, W_OK) == 0
               ? xasprintf("%s/.postern_history", home)
               : NULL;
}

static int interact(struct session *s, const struct options *o, const char *history)
{
    const char *test_idle = getenv("POSTERN_TEST_IDLE");
    unsigned long seconds = test_idle ? strtoul(test_idle, NULL, 10) : 0;
    unsigned idle = seconds > 0 && seconds < IDLE_SECONDS ? (unsigned)seconds : IDLE_SECONDS;
    struct ui *ui = ui_term_new(s, history, idle);
    int code;

    ui->json_always = o->json;
    ui->yes_always = o->yes;
    code = prompt_run(ui, s, idle);
    ui_free(&ui);
    return code;
}

/* --- without one ----------------------------------------------------------------------------- */

/* What a one-shot staged and did not commit is kept, and said. */
static void keep_candidate(struct session *s, struct ui *ui)
{
    struct words none = {0};
    json_t *state;

    if (session_is_anonymous(s) || !session_refresh(s) || !session_changes(s))
        return;
    ui_begin(ui, &none);
    ui->end = UI_GOES_ON;
    session_use(s, ui);
    json_decref(session_call(s, ui, "candidate.keep", NULL));
    state = session_state(s);
    if (!ui_failed(ui))
        fprintf(stderr,
                "postern: %zu change%s staged, not committed: \"commit candidate=%lld\" makes them "
                "active\n",
                session_changes(s), session_changes(s) == 1 ? "" : "s",
                (long long)json_int(state, "candidate", 0));
    json_decref(state);
}

static int run_once(struct session *s, const struct options *o)
{
    struct ui *ui = ui_new(NULL, NULL);
    struct statements list = {0};
    struct words words = {0};
    struct err err = {0};
    int code;

    ui->json_always = o->json;
    ui->yes_always = o->yes;
    ui->no_input = o->no_input;
    session_use(s, ui);
    if (o->line && !words_parse(o->line, strlen(o->line), NULL, NULL, &list, &err)) {
        ui_error(ui, &err);
        code = ui->exit_code;
    } else if (o->line) {
        code = run_statements(ui, s, &list);
    } else if (o->nwords) {
        for (int i = 0; i < o->nwords; i++)
            words_add_argument(&words, o->words[i]);
        code = run_statement(ui, s, &words);
    } else {
        ui->json = o->json;
        code = batch_lines(ui, s, stdin, NULL);
    }
    statements_free(&list);
    if (ui->end == UI_GOES_ON || ui->end == UI_FAILED)
        keep_candidate(s, ui);
    ui_free(&ui);
    return code;
}

static int refuse(const struct options *o, const struct err *err)
{
    if (o->json) {
        AUTO(json)
        json_t *e =
            json_pack("{sisbsssisssbsn}", "v", 1, "ok", 0, "code", err_code_name(err->code), "exit",
                      err_exit_code(err->code), "message", err->text, "changed", 0, "data");
        AUTO(str) char *text = json_text(e);

        puts(text);
    } else {
        fprintf(stderr, "postern: %s\n", err->text);
    }
    return err_exit_code(err->code);
}

int main(int argc, char **argv)
{
    AUTO(str) char *line = NULL;
    struct options o = {0};
    struct err err = {0};
    struct session *s;
    bool person;
    AUTO(str) char *history = NULL;
    int code = parse_options(argc, argv, &o);

    if (code >= 0)
        return code;
    if (o.reference)
        return help_reference(o.reference, &err) ? 0 : refuse(&o, &err);
    find_line(&o);
    if (o.line && is_transfer(o.line)) {
        fputs("postern: this account is a console; it has no file transfer (SFTP, SCP, rsync)\n",
              stderr);
        return err_exit_code(E_DENIED);
    }
    if (!home_set(o.home, &err))
        return refuse(&o, &err);
    person = !o.line && !o.nwords && !o.no_input && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    history = person ? history_path() : NULL;
    line = o.line ? xstrdup(o.line) : NULL; /* it may be part of the environment */
    o.line = line;
    harden_environment();
    event_init();
    s = session_open(&(struct session_options){.path = home_control(), .interactive = person},
                     &err);
    if (!s)
        return refuse(&o, &err);
    if (!harden_process(&err))
        return refuse(&o, &err);
    code = person ? interact(s, &o, history) : run_once(s, &o);
    session_close(&s);
    if ((fflush(stdout) != 0 || ferror(stdout)) && !code) {
        fprintf(stderr, "postern: the output cannot be written: %s\n", strerror(errno));
        code = 1;
    }
    return code;
}
