/* tlsexceptions.c - hosts and domains that policy treats differently for a while, by somebody's
 * decision. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/check.h"

#define DEFAULT_DAYS 30 /* unless somebody says more */

static void date_in(int days, char out[11])
{
    time_t when = (time_t)(clock_wall() / 1000000) + (time_t)days * 86400;
    struct tm tm;

    strftime(out, 11, "%Y-%m-%d", localtime_r(&when, &tm));
}

/* Days from today to a date: at noon, so that summer time does not matter. */
static int days_to(const char *date)
{
    time_t now = (time_t)(clock_wall() / 1000000);
    struct tm tm = {0}, today;

    localtime_r(&now, &today);
    if (!strptime(date, "%Y-%m-%d", &tm))
        return -1;
    today.tm_hour = tm.tm_hour = 12;
    today.tm_min = today.tm_sec = tm.tm_min = tm.tm_sec = 0;
    today.tm_isdst = tm.tm_isdst = -1;
    return (int)((mktime(&tm) - mktime(&today) + 43200) / 86400);
}

static void say_count(struct ui *ui, struct session *s, const struct row *unused)
{
    size_t n = session_count(s, &section_tls_exception, NULL);

    (void)unused;
    if (n)
        ui_say(ui, "There are currently %zu TLS exceptions configured.", n);
    else
        ui_say(ui, "There are no TLS exceptions.");
}

/* --- the questions */

/* A target has to be one for the kind: that rule looks at both. */
static bool accept_target(void *arg, const char *answer, struct err *err)
{
    const struct row *r = arg;
    struct row *trial = row_copy(r);
    struct check check = {.row = trial};
    bool ok = row_set(trial, "target", answer, err);

    if (ok)
        check_tls_exception_target(trial, &check);
    if (check.errors)
        ok = err_set(err, E_INVALID, "%s", check.items[0].text);
    check_free(&check);
    row_free(&trial);
    return ok;
}

static void ask_target(struct ui *ui, struct row *r)
{
    static const char *const questions[] = {
        [EXCEPTION_NO_DANE] = "Enter the MX host whose TLSA records are not to be used:",
        [EXCEPTION_NO_MTA_STS] =
            "Enter the recipient domain whose MTA-STS policy is to be ignored:",
        [EXCEPTION_NO_TLS] =
            "Enter the host, domain, IP address or CIDR block STARTTLS is not used with:",
        [EXCEPTION_TLS] =
            "Enter the host, domain, IP address or CIDR block that must use STARTTLS:",
    };
    char *now = xstrdup(row_text(r, "target"));
    struct ui_question q = {.text = questions[((const struct tls_exception *)r->data)->kind],
                            .key = "target",
                            .deflt = *now ? now : NULL,
                            .help = "\".example.com\" stands for everything below example.com.",
                            .accept = accept_target,
                            .arg = r};

    row_set(r, "target", ui_ask(ui, &q), NULL);
    free(now);
}

static bool accept_date(void *arg, const char *answer, struct err *err)
{
    struct row *trial = row_copy(arg);
    bool ok = row_set(trial, "expires", answer, err);

    row_free(&trial);
    if (!ok)
        return false;
    if (days_to(answer) < 0)
        return err_set(err, E_INVALID, "%s is over; enter a date that is still to come.", answer);
    return days_to(answer) <= EXCEPTION_DAYS ||
           err_set(err, E_INVALID, "An exception lasts %d days at most; it can be prolonged later.",
                   EXCEPTION_DAYS);
}

static void ask_date(struct ui *ui, struct row *r)
{
    char *now = xstrdup(row_text(r, "expires")), month[11];
    struct ui_question q = {.text = "Enter its last day (YYYY-MM-DD):",
                            .key = "expires",
                            .help = "Before it ends the administrators are told.",
                            .accept = accept_date,
                            .arg = r};

    date_in(DEFAULT_DAYS, month);
    q.deflt = *now && days_to(now) >= 0 ? now : month;
    row_set(r, "expires", ui_ask(ui, &q), NULL);
    free(now);
}

static void fill(struct session *s, struct row *r)
{
    char month[11];

    if (!*row_text(r, "owner"))
        row_set(r, "owner", session_user(s), NULL);
    if (*row_text(r, "expires"))
        return;
    date_in(DEFAULT_DAYS, month);
    row_set(r, "expires", month, NULL);
}

static void ask_rest(struct ui *ui, struct session *s, struct row *r)
{
    if (!ui_failed(ui))
        ask_target(ui, r);
    if (!ui_failed(ui))
        ask_field(ui, s, r, "reason");
    if (!*row_text(r, "owner"))
        row_set(r, "owner", session_user(s), NULL);
    ask_field(ui, s, r, "owner");
    if (!ui_failed(ui))
        ask_date(ui, r);
}

static void exception_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_tls_exception, NULL);

    (void)unused;
    ask_field(ui, s, r, "name");
    ask_field(ui, s, r, "kind");
    ask_rest(ui, s, r);
    if (!ui_failed(ui))
        ui_say(ui, "TLS exception \"%s\" created. It ends by itself after %s.",
               str_printable(r->name), row_text(r, "expires"));
}

static void exception_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_tls_exception, NULL, "edit");

    (void)unused;
    if (r) {
        ask_field(ui, s, r, "kind");
        ask_rest(ui, s, r);
    }
}

/* --- lists */

static const char *state_text(const struct tls_exception *e, char out[40])
{
    int days = days_to(e->expires);

    if (days < 0)
        str_copy(out, 40, "ended");
    else
        snprintf(out, 40, days == 1 ? "%d day" : "%d days", days);
    return out;
}

static bool list_one(void *arg, const struct row *r)
{
    const struct tls_exception *e = r->data;
    json_t *record = row_to_json(r);
    char left[40];

    json_put_int(record, "days", days_to(e->expires));
    json_put_str(record, "left", state_text(e, left));
    out_table_row(arg, record);
    return true;
}

static void exception_list(struct ui *ui, struct session *s, struct row *unused)
{
    static const struct out_column columns[] = {
        {"Name",       "name",    0, false},
        {"Kind",       "kind",    0, false},
        {"Applies To", "target",  0, false},
        {"Ends On",    "expires", 0, false},
        {"Left",       "left",    0, false},
        {"Owner",      "owner",   0, false},
        {"Reason",     "reason",  0, false},
    };
    struct out_table *t;

    (void)unused;
    if (!ui_end_of_words(ui))
        return;
    t = out_table_new(ui, "exceptions", columns, countof(columns), '=');
    session_each(s, &section_tls_exception, NULL, list_one, t);
    out_table_end(&t);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new exception.", NULL, exception_new,  NULL      },
    {"EDIT",   "Modify an exception.",    NULL, exception_edit, dialog_any},
    {"DELETE", "Remove an exception.",    NULL, dialog_delete,  dialog_any},
    {"LIST",   "Display all exceptions.", NULL, exception_list, dialog_any},
    {"PRINT",  "Display one exception.",  NULL, dialog_print,   dialog_any},
};
static const struct menu main_menu = {say_count, main_ops, countof(main_ops),
                                      &section_tls_exception};

const struct command cmd_tlsexceptions = {
    .name = "tlsexceptions",
    .help = "Manage exceptions from TLS policy, which end by themselves",
    .detail =
        "no-dane and no-mta-sts are for deliveries to a host or domain whose records are known to "
        "be wrong; no-tls and require-tls are for both directions: STARTTLS is never used with "
        "the peer, or always. An exception counts through its last day; without expires= that is "
        "in 30 days, 366 days at most, and without owner= it is that of who creates it. A week "
        "and a day before, and when it is over, an alert says so. Once a day a no-dane host is "
        "tried; when it proves itself again the gateway removes the exception in a commit of its "
        "own.",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_tls_exception,
    .fill = fill,
    .menu = &main_menu,
};
