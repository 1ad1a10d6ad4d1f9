/* test_shell.c - the console's machinery against a control socket that is made up: the uniform verbs, the forms of a line,
 * menus with their savepoints, questions, tables, the envelope, batches. */
#include <stdarg.h>
#include <locale.h>
#include <stddef.h>

#include "shell/backend.h"
#include "shell/batch.h"
#include "shell/complete.h"
#include "shell/dialog.h"
#include "shell/event.h"
#include "shell/out.h"
#include "shell/run.h"
#include "shell/session.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"
#include "tests/unit/fake_control.h"

struct world {
    struct fake *fake;
    struct session *s;
    struct strlist typed;
    struct buf screen;
    struct ui *ui;
};

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct err err = {0};

    event_init();
    w->fake = fake_new();
    fake_put(w->fake, &section_destination, "default", "use_tls", "off");
    fake_put(w->fake, &section_destination, "partner.example", "use_tls", "require");
    fake_put(w->fake, &section_listener, "InboundMail", NULL, NULL);
    fake_put(w->fake, &section_bounce_profile, "Default", NULL, NULL);
    fake_put(w->fake, &section_certificate, "Demo", NULL, NULL);
    fake_put(w->fake, &section_sender_group, "InboundMail/ONE", "position", "1");
    fake_put(w->fake, &section_sender_group, "InboundMail/TWO", "position", "2");
    fake_put(w->fake, &section_sender_group, "InboundMail/XTRA", "position", "3");
    fake_put(w->fake, &section_system, "-", "hostname", "gw.example");
    w->s = session_of_fd(w->fake->client, &err);
    if (!w->s)
        return -1;
    w->screen.max = 1 << 20;
    w->ui = ui_script_new(&w->typed, &w->screen);
    session_use(w->s, w->ui);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    ui_free(&w->ui);
    session_close(&w->s);
    fake_free(w->fake);
    strlist_free(&w->typed);
    buf_free(&w->screen);
    free(w);
    return 0;
}

/* Runs a line as batch would, and gives the envelope. */
static json_t *run(struct world *w, const char *line)
{
    struct statements list = {0};
    struct err err = {0};
    json_t *envelope;

    if (!words_parse(line, strlen(line), NULL, NULL, &list, &err))
        fail_msg("%s: %s", line, err.text);
    buf_reset(&w->screen);
    w->ui->json_always = true;
    run_statements(w->ui, w->s, &list);
    statements_free(&list);
    envelope = json_parse(w->screen.p, w->screen.n - 1, &err);
    if (!envelope)
        fail_msg("%s printed %s: %s", line, buf_str(&w->screen), err.text);
    return envelope;
}

static void expect(struct world *w, const char *line, int exit_code, const char *message)
{
    json_t *e = run(w, line);
    const char *got = json_str(e, "message", "");

    if (json_int(e, "exit", -1) != exit_code || (message && !strstr(got, message)))
        fail_msg("%s: exit %d, %s", line, (int)json_int(e, "exit", -1), got);
    assert_int_equal(json_bool_of(e, "ok", false), exit_code == 0);
    json_decref(e);
}

/* What the other end holds. */
static const json_t *object(struct world *w, const char *section, const char *name)
{
    return json_object_get(w->fake->objects, fake_key(section, name));
}

static const char *field(struct world *w, const char *section, const char *name, const char *what)
{
    const json_t *o = object(w, section, name);

    if (!o)
        fail_msg("there is no %s %s", section, name);
    return json_str(o, what, "(not a string)");
}

static void verbs(void **state)
{
    struct world *w = *state;

    expect(w, "destconfig new a.example use_tls=on", 0, NULL);
    assert_string_equal(field(w, "destination", "a.example", "use_tls"), "on");
    expect(w, "destconfig new a.example use_tls=on", 0, NULL); /* the same again */
    expect(w, "destconfig new a.example use_tls=require", 8, "exists already");
    expect(w, "destconfig new a.example use_tls=require --if-not-exists", 0, NULL);
    assert_string_equal(field(w, "destination", "a.example", "use_tls"), "on");
    expect(w, "destconfig edit a.example concurrency_limit=5", 0, NULL);
    assert_string_equal(field(w, "destination", "a.example", "use_tls"), "on");
    expect(w, "destconfig edit b.example use_tls=on", 7, "There is no destination entry \"b.example\"");
    expect(w, "destconfig edit b.example use_tls=on --if-exists", 0, NULL);
    assert_null(object(w, "destination", "b.example"));
    expect(w, "destconfig set b.example use_tls=on", 0, NULL);
    expect(w, "destconfig replace a.example concurrency_limit=7", 0, NULL);
    assert_string_equal(field(w, "destination", "a.example", "use_tls"), "default");
    assert_int_equal(json_int(object(w, "destination", "a.example"), "concurrency_limit", 0), 7);
    expect(w, "destconfig delete a.example", 0, NULL);
    assert_null(object(w, "destination", "a.example"));
    expect(w, "destconfig delete a.example", 7, NULL);
    expect(w, "destconfig delete a.example --if-exists", 0, NULL);
    expect(w, "destconfig absent a.example", 0, NULL);
    expect(w, "destconfig absent b.example", 0, NULL);
    assert_null(object(w, "destination", "b.example"));
}

static void wrong_words(void **state)
{
    struct world *w = *state;
    unsigned staged;

    expect(w, "nosuch", 2, "Unknown command or missing feature key: nosuch");
    expect(w, "destcofnig", 2, "Did you mean \"destconfig\"?");
    expect(w, "destconfig nosuch", 2, "is not one of the operations");
    expect(w, "destconfig", 2, "Say what to do");
    expect(w, "destconfig de", 2, "is not one of the operations"); /* no abbreviations in batch */
    staged = w->fake->staged;
    expect(w, "destconfig set a.example nosuch=1", 2, "it has: domain,");
    expect(w, "destconfig set a.example use_tls=requird", 3, "use_tls: ");
    expect(w, "destconfig set a.example use_tls=on --nosuch", 2, "\"--nosuch\" is no option");
    expect(w, "destconfig set a.example use_tls+=on", 2, "is no list");
    expect(w, "destconfig edit partner.example", 2, "Say what to change");
    expect(w, "listenerconfig edit InboundMail hostaccess set sendergroup Bad hosts=::::", 3, "hosts: ");
    assert_int_equal(w->fake->staged, staged);
}

static void owners(void **state)
{
    struct world *w = *state;

    expect(w, "listenerconfig edit InboundMail hostaccess set sendergroup NEW hosts=192.0.2.1 policy=ACCEPTED", 0, NULL);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/NEW"), "position", 0), 4);
    expect(w, "listenerconfig hostaccess sendergroup edit InboundMail/NEW hosts+=192.0.2.2,192.0.2.3", 0, NULL);
    expect(w, "listenerconfig InboundMail hostaccess edit sendergroup NEW hosts-=192.0.2.1", 0, NULL);
    assert_int_equal(json_array_size(json_object_get(object(w, "sender_group", "InboundMail/NEW"), "hosts")), 2);
    expect(w, "listenerconfig edit Nowhere hostaccess set sendergroup NEW policy=ACCEPTED", 7, "There is no listener \"Nowhere\"");
    expect(w, "listenerconfig edit InboundMail hostaccess move sendergroup NEW first", 0, NULL);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/NEW"), "position", 0), 1);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/ONE"), "position", 0), 2);
    expect(w, "listenerconfig edit InboundMail hostaccess move sendergroup NEW after=TWO", 0, NULL);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/TWO"), "position", 0), 2);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/NEW"), "position", 0), 3);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/XTRA"), "position", 0), 4);
    expect(w, "listenerconfig edit InboundMail hostaccess move sendergroup NEW before=ONE", 0, NULL);
    assert_int_equal(json_int(object(w, "sender_group", "InboundMail/NEW"), "position", 0), 1);
    expect(w, "listenerconfig edit InboundMail hostaccess move sendergroup NEW before=NOPE", 7, NULL);
    expect(w, "listenerconfig edit InboundMail hostaccess move sendergroup NEW", 2, "Say where to");
}

static void renames(void **state)
{
    struct world *w = *state;

    expect(w, "destconfig set other.example", 0, NULL);
    expect(w, "destconfig edit partner.example domain=other.example", 8, "exists already");
    expect(w, "destconfig edit partner.example domain=moved.example", 0, NULL);
    assert_null(object(w, "destination", "partner.example"));
    assert_string_equal(field(w, "destination", "moved.example", "use_tls"), "require");
}

static void single(void **state)
{
    struct world *w = *state;

    expect(w, "sethostname mail.example.com", 0, NULL);
    assert_string_equal(field(w, "system", "-", "hostname"), "mail.example.com");
    expect(w, "sethostname admin_address=postmaster@example.com", 0, NULL);
    assert_string_equal(field(w, "system", "-", "hostname"), "mail.example.com");
    expect(w, "sethostname not_a_name", 3, NULL);
    expect(w, "sethostname a.example.com b.example.com", 2, NULL);
}

static void envelope(void **state)
{
    struct world *w = *state;
    json_t *e = run(w, "destconfig set a.example use_tls=on"), *data;

    assert_int_equal(json_int(e, "v", 0), 1);
    assert_string_equal(json_str(e, "command", ""), "destconfig");
    assert_true(json_bool_of(e, "changed", false));
    assert_true(json_is_null(json_object_get(e, "data")));
    json_decref(e);
    e = run(w, "bounceconfig print Default");
    data = json_object_get(e, "data");
    assert_false(json_bool_of(e, "changed", true));
    assert_int_equal(json_int(data, "max_retries", 0), 100);
    json_decref(e);
    e = run(w, "destconfig edit nosuch.example use_tls=on");
    assert_string_equal(json_str(e, "code", ""), "E_NOT_FOUND");
    assert_int_equal(json_int(e, "exit", 0), 7);
    json_decref(e);
}

static void a_refused_change_is_dropped(void **state)
{
    struct world *w = *state;

    w->fake->refuse = "bad";
    expect(w, "destconfig set bad.example", 3, "The fake refuses");
    expect(w, "destconfig set good.example", 0, NULL);
    assert_null(object(w, "destination", "bad.example"));
    assert_non_null(object(w, "destination", "good.example"));
}

/* --- dialogs --------------------------------------------------------------------------------- */

static void fallible(struct ui *ui, struct session *s, struct row *row)
{
    (void)row;
    session_edit(s, &section_destination, "partner.example");
    ask_text(ui, "first", "First?", "one");
    row_set(session_edit(s, &section_destination, "partner.example"), "use_tls", "on", NULL);
    ask_text(ui, "second", "Second?", "two");
    ui_say(ui, "Done.");
}

static void failing(struct ui *ui, struct session *s, struct row *row)
{
    (void)row;
    row_set(session_edit(s, &section_destination, "partner.example"), "use_tls", "off", NULL);
    ui_fail(ui, E_INVALID, "It cannot be done.");
    ask_text(ui, "never", "Never asked?", "x");
}

static bool never(struct session *s, const struct row *row)
{
    (void)s;
    (void)row;
    return false;
}

static void count(struct ui *ui, struct session *s, const struct row *row)
{
    (void)row;
    ui_say(ui, "There are %zu profiles.", session_count(s, &section_bounce_profile, NULL));
}

static void inner_menu(struct ui *ui, struct session *s, struct row *row);

static const struct menu_op ops[] = {
    {"NEW",      "Create one.",   NULL, dialog_new,    NULL      },
    {"EDIT",     "Change one.",   NULL, dialog_edit,   NULL      },
    {"DELETE",   "Remove one.",   NULL, dialog_delete, dialog_any},
    {"FALLIBLE", "Ask twice.",    NULL, fallible,      NULL      },
    {"FAILING",  "Fail.",         NULL, failing,       NULL      },
    {"NEVER",    "Never shown.",  NULL, fallible,      never     },
    {"INNER",    "Another menu.", NULL, inner_menu,    NULL      },
};
static const struct menu menu = {count, ops, countof(ops), &section_bounce_profile};
static const struct menu_op inner_ops[] = {{"TLS", "Change TLS.", NULL, fallible, NULL}};
static const struct menu inner = {NULL, inner_ops, countof(inner_ops), &section_destination};

static void inner_menu(struct ui *ui, struct session *s, struct row *row)
{
    run_menu(ui, s, &inner, row);
}

/* Runs the menu over what is typed; answers are separated by "|". */
static const char *play(struct world *w, const char *typed)
{
    struct words none = {0};
    char *copy = xstrdup(typed), *rest = copy, *word;

    while ((word = strsep(&rest, "|")) != NULL)
        strlist_add(&w->typed, word);
    free(copy);
    buf_reset(&w->screen);
    ui_begin(w->ui, &none);
    run_menu(w->ui, w->s, &menu, NULL);
    return buf_str(&w->screen);
}

#define CHOOSE                                                                                                                   \
    "Choose the operation you want to perform:\n- NEW - Create one.\n- EDIT - Change one.\n- DELETE - Remove one.\n"             \
    "- FALLIBLE - Ask twice.\n- FAILING - Fail.\n- INNER - Another menu.\n"

static void menu_grammar(void **state)
{
    struct world *w = *state;

    assert_string_equal(play(w, "bogus|f|FALL||zwei|"),
                        "There are 1 profiles.\n\n" CHOOSE "[]> bogus\n"
                        "\"bogus\" is not one of the operations: NEW, EDIT, DELETE, FALLIBLE, FAILING,\nINNER.\n[]> f\n"
                        "\"f\" is not one of the operations: NEW, EDIT, DELETE, FALLIBLE, FAILING, INNER.\n[]> FALL\n\n"
                        "First?\n[one]> \n\nSecond?\n[two]> zwei\n\nDone.\n\nThere are 1 profiles.\n\n" CHOOSE "[]> \n");
    assert_string_equal(field(w, "destination", "partner.example", "use_tls"), "on");
}

static void new_and_delete(void **state)
{
    struct world *w = *state;
    const char *screen = play(w, "new|Default|Slow|9999999|20||||no||||||||x|1|||delete|9|Slow||");

    assert_non_null(strstr(screen, "A bounce profile \"Default\" exists already.\n[]> Slow\n"));
    assert_non_null(strstr(screen, "The value must be an integer from 0 to 10000.\n[100]> 20\n"));
    assert_non_null(strstr(screen, "There is no bounce profile \"9\".\n[]> Slow\n"));
    assert_non_null(strstr(screen, "There are 2 profiles."));
    assert_non_null(strstr(screen, "Bounce profile \"Slow\" deleted.\n\nThere are 1 profiles."));
    assert_null(object(w, "bounce_profile", "Slow"));
}

static void interrupted_is_undone(void **state)
{
    struct world *w = *state;

    play(w, "fallible|a|^C");
    assert_true(ui_aborted(w->ui));
    assert_string_equal(field(w, "destination", "partner.example", "use_tls"), "require");
    assert_int_equal(w->fake->staged, 0);
}

static void what_finished_stays(void **state)
{
    struct world *w = *state;

    play(w, "inner|tls|a|b|tls|a|^C");
    assert_true(ui_aborted(w->ui));
    assert_string_equal(field(w, "destination", "partner.example", "use_tls"), "on");
    assert_int_equal(w->fake->staged, 1);
}

static void a_failure_is_undone_and_the_menu_goes_on(void **state)
{
    struct world *w = *state;
    const char *screen = play(w, "failing||");

    assert_non_null(strstr(screen, "[]> failing\n\nIt cannot be done.\n\nThere are 1 profiles."));
    assert_null(strstr(screen, "Never asked"));
    assert_string_equal(field(w, "destination", "partner.example", "use_tls"), "require");
    assert_false(ui_failed(w->ui));
}

static void end_of_input(void **state)
{
    struct world *w = *state;

    play(w, "new|Half");
    assert_true(ui_aborted(w->ui));
    assert_null(object(w, "bounce_profile", "Half"));
}

static void question_mark(void **state)
{
    struct world *w = *state;
    const char *screen = play(w, "?||");

    assert_non_null(strstr(screen, "[]> ?\nEnter goes back.\n"));
    assert_non_null(strstr(screen, "  FALLIBLE         Ask twice.\n"));
}

static void choices(void **state)
{
    static const struct ui_choice list[] = {{"off", "No"}, {"on", "Preferred"}, {"require", "Required"}, {NULL, NULL}};
    struct world *w = *state;
    struct words none = {0};

    ui_begin(w->ui, &none);
    strlist_add(&w->typed, "4");
    strlist_add(&w->typed, "0");
    strlist_add(&w->typed, "Preferred");
    strlist_add(&w->typed, "");
    strlist_add(&w->typed, "req");
    strlist_add(&w->typed, "perhaps");
    strlist_add(&w->typed, "yEs");
    assert_int_equal(ask_choice(w->ui, "tls", "TLS?", list, 2), 1);
    assert_string_equal(buf_str(&w->screen), "TLS?\n1. No\n2. Preferred\n3. Required\n[3]> 4\nThe value must be an integer from 1 to 3.\n"
                                             "[3]> 0\nThe value must be an integer from 1 to 3.\n[3]> Preferred\n");
    assert_int_equal(ask_choice(w->ui, "tls", "TLS?", list, 2), 2);
    assert_int_equal(ask_choice(w->ui, "tls", "TLS?", list, 0), 2);
    buf_reset(&w->screen);
    assert_true(ask_yes(w->ui, "sure", "Sure?", false));
    assert_string_equal(buf_str(&w->screen), "\nSure? [N]> perhaps\nPlease answer Y or N.\nSure? [N]> yEs\n");
}

/* --- output, completion, batch --------------------------------------------------------------- */

static void tables(void **state)
{
    static const struct out_column cols[] = {{.title = "Name", .key = "n"}, {.title = "Size", .key = "s", .right = true}, {.title = "Note", .key = "t"}};
    struct world *w = *state;
    struct words none = {0};
    struct out_table *t;

    ui_begin(w->ui, &none);
    t = out_table_new(w->ui, "rows", cols, countof(cols), '=');
    out_table_row(t, json_pack("{sssiss}", "n", "\xe6\xbc\xa2\xe5\xad\x97", "s", 5, "t", "esc \033[31m"));
    out_table_row(t, json_pack("{sssiss}", "n", "b", "s", 12345, "t", "a note that is far too long for a terminal of eighty columns, and then some more"));
    out_table_end(&t);
    assert_string_equal(buf_str(&w->screen), "Name   Size  Note\n====  =====  ===================================================================\n"
                                             "\xe6\xbc\xa2\xe5\xad\x97      5  esc \\x1B[31m\n"
                                             "b     12345  a note that is far too long for a terminal of eighty columns, and >\n");
    buf_reset(&w->screen);
    out_item(w->ui, "  warning  ", "a sentence that is too long for a terminal of eighty columns goes on below its beginning");
    out_item(w->ui, "  notice   ", "");
    assert_string_equal(buf_str(&w->screen), "  warning  a sentence that is too long for a terminal of eighty columns goes on\n"
                                             "           below its beginning\n  notice   \n");
}

static void reflow(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"one two\nthree",                           "one two\nthree"                            },
        {"a line that is too long\nand its rest.\nx", "a line that is too\nlong and its rest. x"  },
        {"a line that is too long\nAnother sentence.", "a line that is too\nlong\nAnother sentence."},
        {"a line that is too long\n- an item",         "a line that is too\nlong\n- an item"       },
        {"a line that is too long\n\nx",               "a line that is too\nlong\n\nx"             },
    };

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        AUTO(buf) struct buf in = BUF_INIT(200), out = BUF_INIT(200);

        buf_str_add(&in, cases[i].in);
        ui_wrap(&in, 20, &out);
        assert_string_equal(buf_str(&out), cases[i].out);
    }
}

static void last_word(void **state)
{
    struct world *w = *state;
    struct words none = {0};

    ui_begin(w->ui, &none);
    ui_last_word(w->ui, "Not stopped.");
    ui_stop(w->ui, UI_INTERRUPTED);
    ui_say(w->ui, "Nobody hears this.");
    ui_last_word(w->ui, "Stopped. Half is done.");
    assert_string_equal(buf_str(&w->screen), "Stopped. Half is done.\n");
}

static void hostile_text(void **state)
{
    struct world *w = *state;
    struct words none = {0};

    ui_begin(w->ui, &none);
    ui_say(w->ui, "Subject: %s", "CN=\033[2Jx\r\xe2\x80\xae\xc2\x9b");
    out_line(w->ui, "a\\b \t%s", "\x07\xff");
    assert_string_equal(buf_str(&w->screen), "Subject: CN=\\x1B[2Jx\\x0D\\u{202E}\\u{9B}\na\\b \t\\x07\\xFF\n");
}

static void completions(void **state)
{
    static const struct {
        const char *line, *has, *has_not;
    } cases[] = {
        {"destc",                                       "destconfig",         "listenerconfig"},
        {"destconfig ",                                 "edit",               "hostaccess"    },
        {"destconfig edit ",                            "partner.example",    "InboundMail"   },
        {"destconfig edit partner.example ",            "use_tls=",           "certificate="  },
        {"destconfig edit partner.example use_tls=",    "use_tls=require",    "use_tls="      },
        {"destconfig setup certificate=",               "certificate=Demo",   "use_tls="      },
        {"bounceconfig edit Default send_bounces=",     "send_bounces=yes",   "yes"           },
        {"listenerconfig hostaccess sendergroup edit ", "InboundMail/",       "ONE"           },
        {"listenerconfig edit InboundMail ",            "hostaccess",         "policy"        },
        {"listenerconfig edit InboundMail ",            "port=",              "sendergroup"   },
        {"listenerconfig edit InboundMail hostaccess ", "edit",               "policy"        },
        {"listenerconfig edit InboundMail hostaccess edit ", "sendergroup",   "ONE"           },
        {"listenerconfig edit InboundMail hostaccess edit sendergroup ", "ONE", "policy="     },
        {"listenerconfig edit InboundMail hostaccess edit sendergroup ONE ", "policy=", "port="},
        {"listenerconfig edit InboundMail rcptaccess new x action=", "action=accept", "port=" },
        {"ldapconfig edit Corp ",                       "smtpauth",           "Corp.smtpauth" },
        {"ldapconfig edit Corp smtpauth ",              "delete",             "Corp.smtpauth" },
        {"ldapconfig edit Corp smtpauth edit ",         "Corp.smtpauth",      "Corp.certauth" },
        {"ldapconfig edit Corp smtpauth new ",          NULL,                 "Corp.smtpauth" },
        {"ldapconfig edit Corp test ",                  "Corp.certauth",      "smtpauth"      },
        {"ldaptest ",                                   "Corp.certauth",      "user="         },
        {"ldaptest Corp.certauth ",                     "cn=",                "user="         },
        {"ldaptest Corp.smtpauth ",                     "user=",              "cn="           },
        {"ldapflush ",                                  "Corp",               "Corp.smtpauth" },
        {"smtpauthconfig unlock ",                      "all",                "kind="         },
        {"help destc",                                  "destconfig",         "commit"        },
        {"nosuch ",                                     NULL,                 "destconfig"    },
        {"version; destc",                              "destconfig",         "commit"        },
    };
    struct world *w = *state;
    struct words none = {0};
    struct row *r;

    ui_begin(w->ui, &none);
    r = session_new(w->s, &section_ldap_server, NULL);
    assert_true(row_set(r, "name", "Corp", NULL));
    for (size_t i = 0; i < 2; i++) {
        r = session_new(w->s, &section_ldap_query, NULL);
        assert_true(row_set(r, "name", i ? "Corp.certauth" : "Corp.smtpauth", NULL));
        assert_true(row_set(r, "server", "Corp", NULL));
        assert_true(row_set(r, "kind", i ? "certauth" : "smtpauth", NULL));
    }
    assert_true(session_flush(w->s, w->ui));
    for (size_t i = 0; i < countof(cases); i++) {
        struct completion c;
        bool has = !cases[i].has, has_not = true;

        complete_line(w->s, cases[i].line, strlen(cases[i].line), &c);
        for (size_t k = 0; k < c.offers->n; k++) {
            has = has || str_eq(c.offers->items[k].word, cases[i].has);
            has_not = has_not && !str_eq(c.offers->items[k].word, cases[i].has_not);
        }
        if (!has || !has_not)
            fail_msg("%s: %s", cases[i].line, has ? "too much is offered" : "what should be offered is not");
        complete_free(&c);
    }
}

static void secrets_stay_out_of_the_history(void **state)
{
    (void)state;
    assert_false(line_has_secret("destconfig edit a use_tls=on"));
    assert_true(line_has_secret("saveconfig passphrase=abc"));
    assert_true(line_has_secret("certconfig set a private_key=\"x\""));
    assert_true(line_has_secret("certconfig set a private_key=\"x"));
    assert_false(line_has_secret("help private_key"));
}

/* What is printed on stderr between the two calls. */
struct capture {
    FILE *file;
    int old;
};

static struct capture capture_begin(void)
{
    struct capture c = {tmpfile(), dup(STDERR_FILENO)};

    fflush(stderr);
    dup2(fileno(c.file), STDERR_FILENO);
    return c;
}

static void capture_end(struct capture *c, struct buf *out)
{
    char *room = buf_reserve(out, 4096);

    fflush(stderr);
    dup2(c->old, STDERR_FILENO);
    close(c->old);
    rewind(c->file);
    out->n = fread(room, 1, 4096, c->file);
    fclose(c->file);
}

static int silently(struct world *w, const char *text, struct buf *errors)
{
    FILE *f = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
    struct capture c = capture_begin();
    int code = batch_lines(w->ui, w->s, f, NULL);

    capture_end(&c, errors);
    fclose(f);
    return code;
}

static void batch_names_the_line(void **state)
{
    struct world *w = *state;
    AUTO(buf) struct buf errors = BUF_INIT(8192);

    assert_int_equal(silently(w, "destconfig set a.example\n\n# comment\ndestconfig set b.example use_tls=bogus\nnosuch\n", &errors), 3);
    assert_non_null(strstr(buf_str(&errors), ":4: destconfig: use_tls: "));
    assert_null(strstr(buf_str(&errors), "nosuch"));
}

/* Changes are sent many at a time; the one that the gateway refuses is named all the same. */
static void deferred_changes_name_their_line(void **state)
{
    struct world *w = *state;
    AUTO(buf) struct buf errors = BUF_INIT(8192);
    struct ui *ui = ui_new(NULL, NULL);
    struct capture c;

    w->fake->refuse = "bad";
    session_deferred(w->s, true);
    assert_int_equal(silently(w, "destconfig set a.example\ndestconfig set bad.example\ndestconfig set c.example\n", &errors), 0);
    assert_int_equal(w->fake->staged, 0);
    c = capture_begin();
    assert_false(session_sync(w->s, ui));
    buf_reset(&errors);
    capture_end(&c, &errors);
    assert_non_null(strstr(buf_str(&errors), ":2: The fake refuses this name."));
    assert_int_equal(ui->exit_code, 3);
    session_deferred(w->s, false);
    session_use(w->s, w->ui);
    ui_free(&ui);
}

static void deferred_changes_of_one_object_follow_each_other(void **state)
{
    struct world *w = *state;
    AUTO(buf) struct buf errors = BUF_INIT(8192);

    session_deferred(w->s, true);
    assert_int_equal(silently(w, "destconfig set a.example use_tls=on\ndestconfig edit a.example concurrency_limit=9\n"
                                 "destconfig delete partner.example\ndestconfig new partner.example\n"
                                 "destconfig edit a.example domain=b.example\ndestconfig new a.example use_tls=off\n"
                                 "destconfig edit b.example limit_type=MXIP\n", &errors), 0);
    assert_true(session_sync(w->s, w->ui));
    session_deferred(w->s, false);
    assert_string_equal(field(w, "destination", "b.example", "use_tls"), "on");
    assert_string_equal(field(w, "destination", "b.example", "limit_type"), "MXIP");
    assert_int_equal(json_int(object(w, "destination", "b.example"), "concurrency_limit", 0), 9);
    assert_string_equal(field(w, "destination", "a.example", "use_tls"), "off");
    assert_string_equal(field(w, "destination", "partner.example", "use_tls"), "default");
}

static bool count_lines(void *arg, const json_t *data)
{
    *(json_int_t *)arg += json_int(data, "n", 0);
    return true;
}

static void streams_and_notices(void **state)
{
    struct world *w = *state;
    json_int_t sum = 0;
    char *notice;

    assert_true(session_stream(w->s, w->ui, "status", NULL, count_lines, &sum));
    assert_int_equal(sum, 3);
    notice = session_notice(w->s);
    assert_string_equal(notice, "something happened");
    free(notice);
    assert_null(session_notice(w->s));
}

/* The operations the other end was asked for, and with what: "config.stage status config.stage". */
static const char *asked_for(struct world *w, size_t from)
{
    static char text[400];
    json_t *r;
    size_t i;

    *text = '\0';
    json_array_foreach(w->fake->log, i, r) {
        size_t n = strlen(text);

        if (i >= from)
            snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "", json_str(r, "op", ""));
    }
    return text;
}

static bool stop_at_once(void *arg, const json_t *data)
{
    (void)data;
    ui_stop(arg, UI_INTERRUPTED);
    return false;
}

/* What the operation has changed is there while the call lasts, and not after it. */
static void a_trial_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct words none = {0};
    json_int_t sum = 0;
    struct err err;
    size_t from;
    const json_t *changes;
    json_t *data;
    struct row *r;

    ui_begin(w->ui, &none);
    r = session_edit(w->s, &section_destination, "partner.example");
    assert_true(row_set(r, "use_tls", "on", NULL));
    assert_true(row_set(r, "domain", "other.example", NULL));
    r = session_new(w->s, &section_certificate, NULL);
    assert_true(row_set(r, "name", "Fresh", NULL));
    session_secret(w->s, r, "private_key", "plain");
    from = json_array_size(w->fake->log);
    data = session_stream_trial(w->s, w->ui, "status", json_object(), count_lines, &sum, &err);
    assert_non_null(data);
    json_decref(data);
    assert_int_equal(sum, 3);
    assert_string_equal(asked_for(w, from), "config.stage status config.stage");
    changes = json_object_get(json_object_get(json_array_get(w->fake->log, from), "args"), "changes");
    assert_string_equal(json_str(json_array_get(changes, 0), "name", ""), "other.example");
    assert_null(object(w, "certificate", "Fresh"));
    assert_null(object(w, "destination", "other.example"));
    data = json_deep_copy(object(w, "destination", "partner.example"));
    assert_string_equal(json_str(data, "use_tls", ""), "require");
    json_decref(data);
    assert_true(session_flush(w->s, w->ui)); /* nothing of it was forgotten */
    assert_string_equal(field(w, "destination", "other.example", "use_tls"), "on");
    assert_string_equal(json_str(json_object_get(object(w, "certificate", "Fresh"), "private_key"), "$plain", ""), "plain");
}

static void a_trial_that_is_interrupted_or_refused_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct words none = {0};
    struct err err;
    struct row *r;

    ui_begin(w->ui, &none);
    r = session_new(w->s, &section_bounce_profile, NULL);
    assert_true(row_set(r, "name", "Half", NULL));
    w->fake->refuse = "Half";
    assert_null(session_stream_trial(w->s, w->ui, "status", json_object(), stop_at_once, w->ui, &err));
    assert_string_equal(err.text, "The fake refuses this name.");
    assert_false(ui_failed(w->ui)); /* it is the caller's to say */
    w->fake->refuse = NULL;
    json_decref(session_stream_trial(w->s, w->ui, "status", json_object(), stop_at_once, w->ui, &err));
    assert_true(ui_aborted(w->ui));
    assert_string_equal(asked_for(w, json_array_size(w->fake->log) - 1), "config.stage");
    assert_null(object(w, "bounce_profile", "Half"));
}

/* A question about an object: those that fit, and none of them. */
static bool is_not_two(const struct row *r)
{
    return !str_eq(row_leaf(r), "Demo2");
}

static void objects_that_fit(void **state)
{
    struct world *w = *state;
    struct words none = {0};
    struct row *r;

    ui_begin(w->ui, &none);
    r = session_new(w->s, &section_certificate, NULL);
    row_set(r, "name", "Demo2", NULL);
    r = session_new(w->s, &section_certificate, NULL);
    row_set(r, "name", "Own", NULL);
    assert_true(session_flush(w->s, w->ui));
    r = session_new(w->s, &section_ldap_setup, NULL);
    for (const char *const *p = (const char *const[]){"4", "Demo2", "3", "", "1", NULL}; *p; p++)
        strlist_add(&w->typed, *p);
    ask_ref(w->ui, w->s, r, "certificate", is_not_two, true);
    assert_string_equal(row_text(r, "certificate"), "Own");
    assert_non_null(strstr(buf_str(&w->screen), "\n1. None\n2. Demo\n3. Own\n[1]> 4\nThere is no certificate profile \"4\" that could be "
                                                "used here.\n[1]> Demo2\nThere is no certificate profile \"Demo2\" that could be"));
    ask_ref(w->ui, w->s, r, "certificate", is_not_two, true); /* Enter keeps it */
    assert_string_equal(row_text(r, "certificate"), "Own");
    buf_reset(&w->screen);
    ask_field(w->ui, w->s, r, "certificate"); /* the field may be empty: None is there by itself */
    assert_string_equal(row_text(r, "certificate"), "");
    assert_non_null(strstr(buf_str(&w->screen), "\n1. None\n2. Demo\n3. Demo2\n4. Own\n[4]> 1\n"));
}

static void a_lost_connection_is_said(void **state)
{
    struct world *w = *state;

    w->ui->json = true;
    assert_null(session_call(w->s, w->ui, "close", NULL));
    assert_int_equal(w->ui->exit_code, 9);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(verbs), T(wrong_words), T(owners), T(renames), T(single), T(envelope), T(a_refused_change_is_dropped), T(menu_grammar),
        T(new_and_delete), T(interrupted_is_undone), T(what_finished_stays), T(a_failure_is_undone_and_the_menu_goes_on), T(end_of_input),
        T(question_mark), T(choices), T(tables), T(hostile_text), T(last_word), cmocka_unit_test(reflow), T(completions), cmocka_unit_test(secrets_stay_out_of_the_history),
        T(batch_names_the_line), T(deferred_changes_name_their_line), T(deferred_changes_of_one_object_follow_each_other),
        T(streams_and_notices), T(a_trial_leaves_nothing), T(a_trial_that_is_interrupted_or_refused_leaves_nothing),
        T(objects_that_fit), T(a_lost_connection_is_said),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
