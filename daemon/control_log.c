/* control_log.c - log.list, log.tail, log.grep. Searching runs in slices on the worker threads, so
 * that a large log keeps no session waiting; between two slices the lines found go out and a Ctrl-C
 * is looked for. */
#include "daemon/control.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fiber.h"
#include "daemon/logfile.h"
#include "daemon/logreader.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/base/str.h"

#define MAX_PATTERNS 16
#define MAX_CONTEXT 100
#define MAX_GROUPS 20 /* of an expression, inside each other */
#define MAX_REPEAT 255
#define MAX_WEIGHT 4000 /* parts of an expression after repetitions are written out */
#define MAX_LAST 1000
#define SLICE_BYTES (2u << 20) /* read in one go on a worker */
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
    regex_t patterns[MAX_PATTERNS];
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
};

static bool matches(const struct search *s, const char *line)
{
    for (size_t i = 0; i < s->npatterns; i++)
        if (regexec(&s->patterns[i], line, 0, NULL, 0) == 0)
            return true;
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
    struct slice line;
    size_t read = 0;

    (void)err;
    s->more = false;
    while (logreader_line(s->reader, &line)) {
        char *text = xstrndup(line.p, line.n);

        look_at(s, text);
        free(text);
        read += line.n + 1;
        if (read > SLICE_BYTES || s->found.n > SLICE_FOUND) {
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

/* One atom more, of a cost; what multiplies it comes behind it. */
struct weight {
    unsigned sum[MAX_GROUPS + 1], last, depth;
};

static void weigh_atom(struct weight *w, unsigned cost)
{
    w->last = cost;
    w->sum[w->depth] += cost;
}

static const char *behind_brackets(const char *p) /* p: behind the "[" */
{
    p += *p == '^';
    p += *p == ']';
    while (*p && *p != ']') {
        const char close[3] = {p[1], ']', '\0'};
        const char *end = *p == '[' && p[1] && strchr(":.=", p[1]) ? strstr(p + 2, close) : NULL;

        p = end ? end + 2 : p + 1;
    }
    return p;
}

/* The C library copies what is repeated and calls itself for what is nested: a few dozen characters
 * could cost all memory. False: more than any search of a log needs. */
static bool affordable(const char *p)
{
    struct weight w = {0};

    for (; *p && w.sum[w.depth] <= MAX_WEIGHT; p++) {
        if (*p == '\\' && p[1]) {
            p++;
            weigh_atom(&w, 1);
        } else if (*p == '[') {
            p = behind_brackets(p + 1);
            weigh_atom(&w, 1);
            if (!*p)
                break;
        } else if (*p == '(') {
            if (w.depth == MAX_GROUPS)
                return false;
            w.sum[++w.depth] = 1;
        } else if (*p == ')' && w.depth) {
            w.depth--;
            weigh_atom(&w, w.sum[w.depth + 1]);
        } else if (*p == '+') { /* x+ is made into xx* */
            w.sum[w.depth] += w.last + 1;
            w.last += w.last + 1;
        } else if (*p == '{' && (p[1] == ',' || (p[1] >= '0' && p[1] <= '9'))) {
            unsigned long most = 1;

            for (p++; *p && *p != '}'; p++)
                if (*p >= '0' && *p <= '9') {
                    unsigned long n = strtoul(p, (char **)&p, 10);

                    p--;
                    most = n > most ? n : most;
                }
            if (!*p)
                break; /* regcomp() says what is missing */
            if (most > MAX_REPEAT)
                return false;
            w.sum[w.depth] += w.last * (unsigned)most;
            w.last += w.last * (unsigned)most;
        } else {
            weigh_atom(&w, 1);
        }
    }
    return w.sum[w.depth] <= MAX_WEIGHT;
}

struct compile {
    regex_t *to;
    const char *text;
    int flags;
};

static bool compile(void *arg,
                    struct err *err) /* on a worker: it needs more stack than a fiber has */
{
    struct compile *c = arg;
    char reason[160];
    int rc = regcomp(c->to, c->text, c->flags);

    if (!rc)
        return true;
    regerror(rc, c->to, reason, sizeof(reason));
    return err_set(err, E_INVALID, "The regular expression \"%s\" cannot be used: %s.",
                   str_printable(c->text), reason);
}

/* Back-references make matching exponential, and nobody needs them to search a log. YIELDS */
static bool add_pattern(struct search *s, const char *text, bool ignore_case, struct err *err)
{
    struct compile c = {&s->patterns[s->npatterns], text,
                        REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0)};

    for (const char *p = text; *p; p++) {
        if (*p == '\\' && p[1] >= '1' && p[1] <= '9')
            return err_set(err, E_INVALID, "Back-references (\\%c) are not supported in \"%s\".",
                           p[1], str_printable(text));
        if (*p == '\\' && p[1])
            p++;
    }
    if (strlen(text) > 1000)
        return err_set(err, E_INVALID,
                       "The regular expression must not be longer than 1000 characters.");
    if (!affordable(text))
        return err_set(err, E_LIMIT,
                       "The regular expression has too many groups or repetitions: at most %d "
                       "groups inside each other and {%d}.",
                       MAX_GROUPS, MAX_REPEAT);
    if (!worker_call(compile, &c, err))
        return false;
    s->npatterns++;
    return true;
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
        if (!add_pattern(s, text, json_bool_of(args, "ignore_case", false), err))
            return false;
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
        regfree(&s->patterns[i]);
    logreader_free(&s->reader);
    strlist_free(&s->before);
    buf_free(&s->found);
    free(s);
    return ok;
}

const struct control_op control_log_ops[] = {
    {"log.list", ROLE_READONLY, log_list},
    {"log.tail", ROLE_READONLY, log_tail},
    {"log.grep", ROLE_READONLY, log_grep},
    {NULL,       0,             NULL    },
};
