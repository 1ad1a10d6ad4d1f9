/* control_log.c - log.list, log.tail, log.grep, log.find, log.events, log.rollover. Searching runs in slices on the worker threads, so
 * that a large log keeps no session waiting; between two slices the lines found go out and a Ctrl-C
 * is looked for. */
#include "daemon/control.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/fiber.h"
#include "daemon/logfile.h"
#include "daemon/logreader.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/base/pattern.h"
#include "store/base/str.h"

#define MAX_PATTERNS 16
#define MAX_CONTEXT 100
#define MAX_LAST 1000
#define SLICE_BYTES (2u << 20) /* read in one go on a worker */
#define SLICE_MS 50 /* ... or worked on */
#define SLICE_FOUND (256u << 10) /* lines handed over at once */
#define LONGEST_LINE (64u << 10) /* of logreader */
#define FOLLOW_EVERY 200 /* ms between looks for new lines */

static void config_clear(struct config **c)
{
    config_free(c);
}

#define AUTO_CONFIG __attribute__((cleanup(config_clear))) struct config *
#define AUTO_READER __attribute__((cleanup(logreader_free))) struct logreader *

static bool log_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    AUTO_CONFIG cfg = running_config();
    json_t *logs = json_array();

    (void)c;
    (void)args;
    (void)err;
    for (size_t i = 0; i < config_count(cfg, &section_log); i++) {
        const struct row *r = config_at(cfg, &section_log, i);
        const struct log *l = r->data;
        json_t *entry = json_object();

        json_put_str(entry, "name", l->name);
        json_put_str(entry, "type", choices_log_types[l->type].word);
        json_put_str(entry, "type_name", choices_log_types[l->type].text);
        json_put_str(entry, "level", choices_log_levels[l->level].word);
        json_put_str(entry, "retrieval", choices_log_methods[l->method].text);
        json_array_append_new(logs, entry);
    }
    json_put(data, "logs", logs);
    return true;
}

/* The path of a log of the running configuration. */
static bool find_log(const json_t *args, char *path, size_t size, struct err *err)
{
    const char *name = json_str(args, "name", "");
    AUTO_CONFIG cfg = running_config();
    AUTO(buf) struct buf names = BUF_INIT(400);

    if (CONFIG_GET(cfg, log, name) && logfile_path(name, path, size))
        return true;
    for (size_t i = 0; i < config_count(cfg, &section_log); i++)
        buf_printf(&names, "%s%s", i ? ", " : "", config_at(cfg, &section_log, i)->name);
    return err_set(err, E_NOT_FOUND, "There is no log named \"%s\". The logs are: %s.",
                   str_printable(name), buf_str(&names));
}

static bool send_line(struct control *c, const char *p, size_t n)
{
    char *text = xstrndup(p, n);
    json_t *line = json_object();

    json_put_str(line, "line", text);
    free(text);
    return control_more(c, line); /* YIELDS */
}

static bool log_tail(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t last = json_int(args, "lines", 10);
    AUTO_READER r = NULL;
    struct slice line;
    char path[512];

    (void)data;
    if (last < 0 || last > MAX_LAST)
        return err_set(err, E_INVALID, "The number of lines must be an integer from 0 to %d.",
                       MAX_LAST);
    if (!find_log(args, path, sizeof(path), err))
        return false;
    r = logreader_open(path, last, err);
    if (!r)
        return false;
    while (!control_cancelled(c)) {
        while (logreader_line(r, &line))
            if (!send_line(c, line.p, line.n))
                return true;
        if (!json_bool_of(args, "follow", true) || !fiber_sleep(FOLLOW_EVERY))
            return true;
    }
    return true;
}

/* --- grep
 * ---------------------------------------------------------------------------------------------------
 */

struct search {
    struct logreader *reader;
    struct pattern *patterns[MAX_PATTERNS];
    size_t npatterns;
    bool invert;
    unsigned context;
    struct strlist before; /* the last `context` lines that were not shown */
    unsigned after; /* lines still to be shown behind a hit */
    bool gap; /* lines were left out since the last one shown */
    bool shown; /* anything at all */
    uint64_t hits;
    struct buf found; /* lines to send, each with its line end */
    bool more; /* of the last slice: the log has more to read */
    const struct pattern *too_much; /* nobody knows whether it matches a line */
};

static bool matches(struct search *s, const char *line)
{
    size_t n = strlen(line);

    for (size_t i = 0; i < s->npatterns; i++) {
        enum pattern_answer a = pattern_find(s->patterns[i], line, n);

        if (a == PATTERN_YES)
            return true;
        if (a == PATTERN_TOO_MUCH)
            s->too_much = s->patterns[i];
    }
    return false;
}

static void show(struct search *s, const char *line)
{
    buf_str_add(&s->found, line);
    buf_char(&s->found, '\n');
    s->shown = true;
}

static void keep_before(struct search *s, const char *line)
{
    if (s->before.n == s->context) {
        s->gap = true;
        if (!s->context)
            return;
        free(s->before.items[0]);
        memmove(s->before.items, s->before.items + 1, --s->before.n * sizeof(char *));
    }
    strlist_add(&s->before, line);
}

static void look_at(struct search *s, const char *line)
{
    if (matches(s, line) != s->invert) {
        if (s->context && s->shown && s->gap)
            show(s, "--");
        for (size_t i = 0; i < s->before.n; i++)
            show(s, s->before.items[i]);
        strlist_free(&s->before);
        show(s, line);
        s->hits++;
        s->after = s->context;
        s->gap = false;
    } else if (s->after) {
        s->after--;
        show(s, line);
    } else {
        keep_before(s, line);
    }
}

static bool search_slice(void *arg, struct err *err) /* on a worker */
{
    struct search *s = arg;
    msec_t until = clock_in(SLICE_MS);
    struct slice line;
    size_t read = 0;

    s->more = false;
    while (logreader_line(s->reader, &line)) {
        char *text = xstrndup(line.p, line.n);

        look_at(s, text);
        free(text);
        if (s->too_much)
            return pattern_too_much(s->too_much, err);
        read += line.n + 1;
        if (read > SLICE_BYTES || s->found.n > SLICE_FOUND || clock_now() >= until) {
            s->more = true;
            break;
        }
    }
    return true;
}

static bool send_found(struct control *c, struct search *s)
{
    const char *p = s->found.p, *end = p + s->found.n;
    bool ok = true;

    for (const char *stop; ok && p < end; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        ok = send_line(c, p, (size_t)(stop - p));
    }
    buf_reset(&s->found);
    return ok;
}

struct compile {
    struct pattern *p;
    const char *text;
    bool ignore_case;
};

static bool compile(void *arg, struct err *err) /* on a worker: see pattern_new */
{
    struct compile *c = arg;

    c->p = pattern_new(c->text, c->ignore_case, err);
    return c->p;
}

/* YIELDS */
static struct pattern *read_pattern(const char *text, bool ignore_case, struct err *err)
{
    struct compile c = {NULL, text, ignore_case};

    return worker_call(compile, &c, err) ? c.p : NULL;
}

static bool add_patterns(struct search *s, const json_t *args, struct err *err)
{
    const json_t *list = json_object_get(args, "patterns");

    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > MAX_PATTERNS)
        return err_set(err, E_USAGE, "Enter 1 to %d regular expressions.", MAX_PATTERNS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (!text || !*text)
            return err_set(err, E_USAGE,
                           "The regular expression is empty. Enter the text to search for.");
        s->patterns[i] = read_pattern(text, json_bool_of(args, "ignore_case", false), err);
        if (!s->patterns[i])
            return false;
        s->npatterns++;
    }
    return true;
}

static bool run_search(struct control *c, struct search *s, bool follow, struct err *err)
{
    while (!control_cancelled(c)) {
        if (!worker_call(search_slice, s, err)) /* YIELDS */
            return false;
        if (!send_found(c, s))
            return true;
        if (!s->more && (!follow || !fiber_sleep(FOLLOW_EVERY)))
            return true;
    }
    return true;
}

static bool log_grep(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct search *s = xcalloc(1, sizeof(*s));
    json_int_t context = json_int(args, "context", 0);
    char path[512];
    bool ok = false;

    s->found = (struct buf)BUF_INIT(SLICE_FOUND + (MAX_CONTEXT + 3) * (LONGEST_LINE + 1));
    s->invert = json_bool_of(args, "invert", false);
    s->context = (unsigned)context;
    if (context < 0 || context > MAX_CONTEXT)
        err_set(err, E_INVALID, "The lines of context must be an integer from 0 to %d.",
                MAX_CONTEXT);
    else if (find_log(args, path, sizeof(path), err) && add_patterns(s, args, err) &&
             (s->reader = logreader_open(path, -1, err)))
        ok = run_search(c, s, json_bool_of(args, "follow", false), err);
    if (ok)
        json_put_int(data, "matches", (json_int_t)s->hits);
    for (size_t i = 0; i < s->npatterns; i++)
        pattern_free(&s->patterns[i]);
    logreader_free(&s->reader);
    strlist_free(&s->before);
    buf_free(&s->found);
    free(s);
    return ok;
}

/* --- findevent --- */

#define MAX_RELATED 64 /* messages: reports about reports end */
#define MAX_CONNECTIONS 1000 /* of all deliveries of a message */
#define LOG_DATE 25 /* "Tue Feb  5 13:20:03 2019 " */
#define HEAD 48 /* what stands further right may be foreign text */

struct event_search {
    struct logreader *reader;
    struct pattern *pattern;
    bool too_much; /* nobody knows whether it matches something */
    enum { FIND_FROM, FIND_ID, FIND_SUBJECT, FIND_TO } by;
    struct strlist days; /* "Feb  5 2019"; none: any */
    json_t *found; /* to be sent */
    uint64_t last; /* MID found last, which a second recipient shall not repeat */
    uint64_t mid; /* of events */
    uint64_t mids[MAX_RELATED], icids[MAX_RELATED], dcids[MAX_CONNECTIONS];
    size_t nmids, nicids, ndcids;
    bool printing; /* the second pass */
    struct buf lines;
    bool more;
};

/* The number behind the word where the line itself says it: "MID " as a word of its own. 0: none. */
static uint64_t id_in(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = text; (p = strstr(p, word)) && p - text < HEAD; p += n)
        if ((p == text || p[-1] == ' ') && p[n] >= '0' && p[n] <= '9')
            return strtoull(p + n, NULL, 10);
    return 0;
}

/* "Info: ..." behind the date; what the level says is skipped. NULL: no line of ours. */
static const char *text_of(const char *line)
{
    const char *colon = strlen(line) > LOG_DATE ? strchr(line + LOG_DATE, ':') : NULL;

    return colon && colon[1] == ' ' ? colon + 2 : NULL;
}

static bool in_days(const struct event_search *e, const char *line)
{
    char day[16];

    if (!e->days.n)
        return true;
    snprintf(day, sizeof(day), "%.6s %.4s", line + 4, line + 20);
    return strlist_has(&e->days, day);
}

/* What the search is about in a line of that kind; cut out of it. NULL: another kind. */
static char *subject_of(const struct event_search *e, const char *text, uint64_t *mid)
{
    static const char *const marks[] = {" From: <", " Message-ID '", " Subject '", " To: <"};
    const char *p = strstr(text, marks[e->by]), *end;
    bool quoted = e->by == FIND_ID || e->by == FIND_SUBJECT;
    size_t n;

    if (strncmp(text, "MID ", 4) != 0 || !p || p - text > HEAD)
        return NULL;
    if (!quoted && !id_in(text, "ICID ")) /* made by the gateway itself */
        return NULL;
    *mid = strtoull(text + 4, NULL, 10);
    p += strlen(marks[e->by]) - (quoted ? 0 : 1);
    end = strrchr(p, quoted ? '\'' : '>');
    n = end ? (size_t)(end - p) + (quoted ? 0 : 1) : strlen(p);
    return xstrndup(p, n);
}

static void find_in(struct event_search *e, const char *line)
{
    const char *text = text_of(line);
    uint64_t mid = 0;
    char *what = text && in_days(e, line) ? subject_of(e, text, &mid) : NULL;
    enum pattern_answer a = what && mid != e->last ? pattern_find(e->pattern, what, strlen(what)) : PATTERN_NO;

    e->too_much |= a == PATTERN_TOO_MUCH;
    if (a == PATTERN_YES) {
        json_t *one = json_object();
        char date[LOG_DATE];

        str_copy(date, sizeof(date), line);
        json_put_int(one, "mid", (json_int_t)mid);
        json_put_str(one, "time", date);
        json_put_str(one, "text", what);
        json_array_append_new(e->found, one);
        e->last = mid;
    }
    free(what);
}

static bool has(const uint64_t *list, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == id)
            return true;
    return false;
}

static void note(uint64_t *list, size_t *n, size_t max, uint64_t id)
{
    if (id && *n < max && !has(list, *n, id))
        list[(*n)++] = id;
}

static uint64_t message_of(const char *text)
{
    uint64_t mid = id_in(text, "MID ");

    return mid || strncmp(text, "Message ", 8) != 0 ? mid : strtoull(text + 8, NULL, 10); /* "Message 4 to RID" */
}

/* Which connections and which further messages belong to the one that is asked for. */
static void relate(struct event_search *e, const char *text)
{
    const char *of = strstr(text, " was generated for bounce of MID ");
    uint64_t mid = message_of(text);

    if (of && of - text < HEAD && has(e->mids, e->nmids, strtoull(of + 33, NULL, 10)))
        note(e->mids, &e->nmids, MAX_RELATED, mid);
    if (!mid || !has(e->mids, e->nmids, mid))
        return;
    note(e->icids, &e->nicids, MAX_RELATED, id_in(text, "ICID "));
    note(e->dcids, &e->ndcids, MAX_CONNECTIONS, id_in(text, "DCID "));
}

static bool belongs(const struct event_search *e, const char *text)
{
    uint64_t mid = message_of(text), icid, dcid;

    if (mid) /* other messages share the connections */
        return has(e->mids, e->nmids, mid);
    icid = id_in(text, "ICID ");
    if (icid)
        return has(e->icids, e->nicids, icid);
    dcid = id_in(text, "DCID ");
    return dcid && has(e->dcids, e->ndcids, dcid);
}

static bool find_slice(void *arg, struct err *err) /* on a worker */
{
    struct event_search *e = arg;
    msec_t until = clock_in(SLICE_MS);
    struct slice line;
    size_t read = 0;

    e->more = false;
    while (logreader_line(e->reader, &line)) {
        char *text = xstrndup(line.p, line.n);
        const char *said = text_of(text);

        if (!e->mid) {
            find_in(e, text);
        } else if (said && !e->printing) {
            relate(e, said);
        } else if (said && belongs(e, said)) {
            buf_str_add(&e->lines, text);
            buf_char(&e->lines, '\n');
        }
        free(text);
        if (e->too_much)
            return pattern_too_much(e->pattern, err);
        read += line.n + 1;
        if (read > SLICE_BYTES || e->lines.n > SLICE_FOUND || json_array_size(e->found) > 1000 ||
            clock_now() >= until) {
            e->more = true;
            break;
        }
    }
    return true;
}

/* YIELDS. Reads the log to its end and sends what is found. */
static bool run_events(struct control *c, struct event_search *e, struct err *err)
{
    bool going = true;

    do {
        json_t *one;
        size_t i;

        if (!worker_call(find_slice, e, err))
            return false;
        json_array_foreach(e->found, i, one)
        {
            going = going && control_more(c, json_incref(one)); /* YIELDS */
        }
        json_array_clear(e->found);
        for (const char *p = e->lines.p, *end = p + e->lines.n, *stop; going && p < end; p = stop + 1) {
            stop = memchr(p, '\n', (size_t)(end - p));
            going = send_line(c, p, (size_t)(stop - p));
        }
        buf_reset(&e->lines);
    } while (going && e->more && !control_cancelled(c));
    return true;
}

static struct event_search *event_search_new(void)
{
    struct event_search *e = xcalloc(1, sizeof(*e));

    e->found = json_array();
    e->lines = (struct buf)BUF_INIT(SLICE_FOUND + 2 * LONGEST_LINE);
    return e;
}

static void event_search_free(struct event_search *e)
{
    logreader_free(&e->reader);
    pattern_free(&e->pattern);
    strlist_free(&e->days);
    json_decref(e->found);
    buf_free(&e->lines);
    free(e);
}

/* "20190205,20190206" */
static bool take_days(struct event_search *e, const char *dates, struct err *err)
{
    AUTO(strlist) struct strlist list = {0};

    strlist_split(&list, dates, ',');
    if (!list.n || list.n > 366)
        return err_set(err, E_USAGE, "Enter one or more dates, YYYYMMDD, separated by commas.");
    for (size_t i = 0; i < list.n; i++) {
        struct tm tm = {0};
        const char *end = strptime(list.items[i], "%Y%m%d", &tm);
        char day[16];

        if (!end || *end || strlen(list.items[i]) != 8)
            return err_set(err, E_INVALID, "\"%s\" is no date; write YYYYMMDD.",
                           str_printable(list.items[i]));
        strftime(day, sizeof(day), "%b %e %Y", &tm);
        strlist_add(&e->days, day);
    }
    return true;
}

static bool log_find(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    static const char *const kinds[] = {"from", "id", "subject", "to"};
    const char *by = json_str(args, "by", ""), *files = json_str(args, "files", "all"),
               *text = json_str(args, "regex", "");
    struct event_search *e = event_search_new();
    unsigned kind = 0;
    char path[512];
    bool ok = false;

    (void)data;
    while (kind < countof(kinds) && !str_eq(kinds[kind], by))
        kind++;
    e->by = kind;
    if (kind == countof(kinds))
        err_set(err, E_USAGE, "Search by \"from\", \"to\", \"subject\" or \"id\".");
    else if (!*text)
        err_set(err, E_USAGE, "The regular expression is empty. Enter the text to search for.");
    else if (find_log(args, path, sizeof(path), err) &&
             (!str_eq(files, "dates") || take_days(e, json_str(args, "dates", ""), err)) &&
             (e->pattern = read_pattern(text, json_bool_of(args, "ignore_case", false), err)) &&
             (e->reader = logreader_open(path, str_eq(files, "current") ? LONG_MAX : -1, err)))
        ok = run_events(c, e, err);
    event_search_free(e);
    return ok;
}

static bool log_events(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct event_search *e = event_search_new();
    char path[512];
    bool ok;

    (void)data;
    e->mid = json_int(args, "mid", 0) > 0 ? (uint64_t)json_int(args, "mid", 0) : 0;
    note(e->mids, &e->nmids, MAX_RELATED, e->mid);
    ok = e->mid ? find_log(args, path, sizeof(path), err)
                : err_set(err, E_USAGE, "Enter a MID: a whole number from 1.");
    for (unsigned pass = 0; ok && pass < 2; pass++) {
        e->printing = pass == 1;
        logreader_free(&e->reader);
        e->reader = logreader_open(path, -1, err);
        ok = e->reader && run_events(c, e, err);
    }
    event_search_free(e);
    return ok;
}

static bool flush_logs(void *unused, struct err *err)
{
    (void)unused;
    return logfile_flush() || err_set(err, E_IO, "The logs are not written at the moment: is a disk full?");
}

static bool log_rollover(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", NULL);
    char path[512];

    (void)data;
    if (name && !find_log(args, path, sizeof(path), err))
        return false;
    return logfile_rollover(name, err) && worker_call(flush_logs, NULL, err) && /* YIELDS */
           (control_audit(c, "log.rollover", name ? name : "all", "ok", NULL), true);
}

const struct control_op control_log_ops[] = {
    {"log.list",     ROLE_READONLY, log_list    },
    {"log.tail",     ROLE_READONLY, log_tail    },
    {"log.grep",     ROLE_READONLY, log_grep    },
    {"log.find",     ROLE_READONLY, log_find    },
    {"log.events",   ROLE_READONLY, log_events  },
    {"log.rollover", ROLE_OPERATOR, log_rollover},
    {NULL,           0,             NULL        },
};
