/* commit.c - makes the staged changes active: commit, commit check, commit resolve. */
#include "cmds/common.h"

#include <stdlib.h>

/* What the rules find doubtful; it did not stop the commit. */
static void say_warnings(struct ui *ui, const json_t *answer)
{
    json_t *w;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, w)
        out_line(ui, "Warning: %s: %s", json_str(w, "object", ""), json_str(w, "message", ""));
}

/* The same for programs: beside the receipt. New. */
static json_t *with_warnings(const json_t *answer)
{
    json_t *data = json_copy(json_object_get(answer, "data")),
           *warnings = json_object_get(answer, "warnings");

    if (data)
        json_put(data, "warnings", warnings ? json_incref(warnings) : json_array());
    return data;
}

static void say_merged(struct ui *ui, const json_t *data)
{
    json_t *m;
    size_t i;

    json_array_foreach(json_object_get(data, "merged"), i, m)
        ui_say(ui, "  merged   %s  %s", json_str(m, "object", json_str(m, "name", "")),
               json_str(m, "field", ""));
}

static void say_receipt(struct ui *ui, const json_t *data)
{
    char date[40];

    if (!json_int(data, "revision", 0)) {
        out_line(ui, "There is no data to commit.");
        return;
    }
    say_merged(ui, data);
    out_line(ui, "Changes committed: %s", date_text(json_object_get(data, "time"), date));
}

/* One request; its answer when it succeeded. */
static json_t *try_commit(struct ui *ui, struct session *s, json_t *args)
{
    json_t *answer = session_answer(s, ui, "commit", json_incref(args));

    if (answer && !json_bool_of(answer, "ok", false)) {
        session_show_error(s, ui, answer);
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

static void check(struct ui *ui, struct session *s)
{
    json_t *args = json_object(), *answer, *data, *w;
    size_t i;

    json_put(args, "check", json_true());
    if (!ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    answer = session_answer(s, ui, "commit", args);
    if (answer && !json_bool_of(answer, "ok", false)) {
        session_show_error(s, ui, answer);
    } else if (answer) {
        data = json_object_get(answer, "data");
        json_array_foreach(json_object_get(answer, "warnings"), i, w) out_line(
            ui, "  warning  %s: %s", json_str(w, "object", ""), json_str(w, "message", ""));
        say_merged(ui, data);
        if (json_int(data, "new", 0) + json_int(data, "changed", 0) + json_int(data, "deleted", 0))
            out_line(ui,
                     "The changes can be committed: %lld new, %lld changed, %lld deleted. Plan %s.",
                     (long long)json_int(data, "new", 0), (long long)json_int(data, "changed", 0),
                     (long long)json_int(data, "deleted", 0), json_str(data, "plan", ""));
        else
            out_line(ui, "There is no data to commit.");
        out_data(ui, with_warnings(answer));
    }
    json_decref(answer);
}

/* --- conflicts
 * ---------------------------------------------------------------------------------------------- */

static bool is_meant(const json_t *conflict, const char *object, const char *field)
{
    const struct section *sec = section_find(json_str(conflict, "section", ""));
    const char *name = json_str(conflict, "name", "");
    char *title = sec ? row_title(sec, name) : xstrdup(name);
    bool same = str_ieq(object, "all") || str_eq(object, name) || str_ieq(object, title);

    free(title);
    return same && (!field || str_eq(field, json_str(conflict, "field", "")));
}

static bool resolve_one(struct ui *ui, struct session *s, const json_t *conflict, const char *take)
{
    json_t *args = json_object(), *data;

    json_put_str(args, "section", json_str(conflict, "section", ""));
    json_put_str(args, "name", json_str(conflict, "name", ""));
    if (json_str(conflict, "field", NULL))
        json_put_str(args, "field", json_str(conflict, "field", NULL));
    json_put_str(args, "take", take);
    data = session_call(s, ui, "config.resolve", args);
    json_decref(data);
    return data != NULL;
}

/* The conflicts are those a commit would meet now. */
static void resolve(struct ui *ui, struct session *s)
{
    static const struct ui_choice sides[] = {
        {"mine",   "keep what you set"       },
        {"theirs", "take what the others set"},
        {NULL,     NULL                      }
    };
    const char *take = sides[ask_choice(ui, "take", "Which side?", sides, -1) == 1].word, *word;
    char *object = xstrdup(ask_some(ui, "object", "Which object? (\"all\" for every conflict)"));
    json_t *args = json_object(), *answer, *c;
    size_t i, n = 0;
    char *field;

    word = ui_key(ui, "field") ? ui_key(ui, "field") : ui_word(ui);
    field = word ? xstrdup(word) : NULL;
    json_put(args, "check", json_true());
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        free(object);
        free(field);
        return;
    }
    answer = session_answer(s, ui, "commit", args);
    json_array_foreach(json_object_get(answer, "conflicts"), i,
                       c) if (is_meant(c, object, field) && resolve_one(ui, s, c, take)) n++;
    if (answer && !n && !ui_failed(ui))
        ui_fail(ui, E_NOT_FOUND,
                "There is no conflict about %s%s%s. Type \"commit check\" to see the conflicts.",
                str_printable(object), field ? " " : "", field ? str_printable(field) : "");
    else if (!ui_failed(ui))
        ui_say(ui, "%zu conflict%s resolved. Type \"commit\" to commit.", n, n == 1 ? "" : "s");
    json_decref(answer);
    free(object);
    free(field);
}

/* --- commit
 * -------------------------------------------------------------------------------------------------
 */

static json_t *ask_args(struct ui *ui)
{
    json_t *args = json_object();
    const char *plan = ui_key(ui, "plan");
    bool yes = ui_flag(ui, "-y");

    if (plan)
        json_put_str(args, "plan", plan);
    if (yes) {
        json_put_str(args, "comment", "");
        json_put(args, "keep", json_true());
        return args;
    }
    json_put_str(
        args, "comment",
        ask_text(ui, "comment", "Please enter some comments describing your changes:", ""));
    json_put(args, "keep",
             json_boolean(ask_yes(
                 ui, "keep", "Do you want to save the current configuration for rollback?", true)));
    return args;
}

/* candidate=17: what an earlier run staged and left. */
static void attach(struct ui *ui, struct session *s)
{
    const char *candidate = ui_key(ui, "candidate");
    json_t *args;

    if (!candidate)
        return;
    args = json_object();
    json_put_int(args, "id", strtoll(candidate, NULL, 10));
    json_decref(session_call(s, ui, "candidate.attach", args));
}

static void run(struct ui *ui, struct session *s)
{
    const char *word = ui_peek(ui, 0);
    json_t *args, *answer;

    attach(ui, s);
    if (word && (str_ieq(word, "check") || str_ieq(word, "resolve"))) {
        ui_word(ui);
        if (str_ieq(word, "check"))
            check(ui, s);
        else
            resolve(ui, s);
        return;
    }
    if (ui_interactive(ui) && !session_changes(s)) {
        while (ui_word(ui)) /* the comment and the answer that are not needed */
            ;
        out_line(ui, "There is no data to commit.");
        return;
    }
    args = ask_args(ui);
    answer = ui_failed(ui) || !ui_end_of_words(ui) ? NULL : try_commit(ui, s, args);
    if (answer) {
        say_warnings(ui, answer);
        say_receipt(ui, json_object_get(answer, "data"));
        out_data(ui, with_warnings(answer));
    }
    json_decref(answer);
    json_decref(args);
}

static void complete(struct session *s, const struct strlist *words, struct offers *out)
{
    (void)s;
    if (words->n <= 1) {
        offer(out, "check", "what would happen, without doing it");
        offer(out, "resolve", "decide a conflict with another administrator's commit");
        offer(out, "comment=", "why");
    } else if (words->n == 2 && str_ieq(words->items[1], "resolve")) {
        offer(out, "mine", "keep what you set");
        offer(out, "theirs", "take what the others set");
    }
}

const struct command cmd_commit = {
    .name = "commit",
    .help = "Commit changes",
    .usage = "commit [\"COMMENT\" [Y|N]] [plan=PLAN] [candidate=NUMBER]\n"
             "commit comment=\"COMMENT\" [keep=yes|no]\n"
             "commit -y\n"
             "commit check\n"
             "commit resolve mine|theirs OBJECT [FIELD]",
    .detail = "Nothing you change is active until you commit it; every commit answered Y at the "
              "rollback question can be undone "
              "with rollbackconfig. What others committed meanwhile is merged; where both changed "
              "the same field, nothing is "
              "committed and you choose with \"commit resolve\". Warnings do not stop a commit; "
              "\"commit check\" lists them beforehand.",
    .roles = ROLE_OPERATOR,
    .run = run,
    .complete = complete,
};
