/* session.c - see session.h. What an operation changes is kept here as copied rows ("pending")
 * until the operation has ended well; then it goes to the daemon in one message. The daemon's
 * candidate is the truth; nothing is cached. */
#include "shell/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shell/backend.h"
#include "shell/event.h"
#include "shell/out.h"
#include "shell/rpc.h"
#include "store/base/home.h"
#include "store/base/map.h"
#include "store/base/version.h"

#define ANSWER_IN SECONDS(180) /* a commit that rebuilds everything may take its time */
#define PAGE 500 /* objects of one config.list */
#define DEFERRED 500 /* changes of one message in batch */

struct pending {
    const struct section *section;
    char *name; /* as the daemon knows it; NULL: not at all yet */
    struct row *row; /* NULL: deleted */
    struct row *base; /* as the daemon knows it */
    json_t *secrets; /* field -> plain text */
    char *where; /* of a deferred change: "change.txt:4" */
};

struct savepoint {
    size_t n; /* entries of pending then */
    struct row **rows; /* copies of them */
    json_t **secrets;
};

struct session {
    struct rpc *rpc;
    char *path;
    bool interactive, anonymous;
    struct ui *ui;
    json_t *hello;
    char *host, *user;
    unsigned role;
    int64_t candidate, base, head;
    size_t changes;
    int64_t confirm_left; /* seconds until an unconfirmed commit is undone; -1: none */

    struct pending *items;
    size_t n, cap;
    struct savepoint *marks;
    size_t nmarks;
    bool deferred;
    struct map
        known[SECTIONS]; /* deferred: the names the daemon has, so that new ones cost no question */
    bool is_known[SECTIONS];
    size_t finished; /* the first so many items wait for session_sync */
};

/* --- talking --------------------------------------------------------------------------------- */

static enum err_code code_of(const char *name)
{
    for (int c = E_USAGE; c <= E_LIMIT; c++) {
        if (str_eq(name, err_code_name((enum err_code)c)))
            return (enum err_code)c;
    }
    return E_INVALID;
}

struct progress {
    msec_t began, next;
    bool shown;
};

static void progress_hide(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

/* Elapsed time, on a terminal that can erase it only, never into a file or a pipe. */
static void progress_tick(struct progress *p, const struct ui *ui)
{
    long seconds = (long)((clock_now() - p->began) / 1000);
    const char *term = getenv("TERM");

    p->next += SECONDS(1);
    if (!isatty(STDERR_FILENO) || (ui && ui->json) || !term || str_eq(term, "dumb"))
        return;
    fprintf(stderr, "\r[%ld s]  Ctrl-C stops", seconds);
    p->shown = true;
}

/* Waits for the last line about request id, handing the others to fn. NULL: err says why. */
static json_t *await(struct session *s, struct ui *ui, int64_t id,
                     bool (*fn)(void *arg, const json_t *data), void *arg, struct err *err)
{
    struct progress p = {.began = clock_now(), .next = clock_in(SECONDS(1))};
    msec_t until = fn ? NEVER : clock_in(ANSWER_IN);
    bool cancelled = false;

    for (;;) {
        json_t *j = rpc_receive(s->rpc, id, err);
        enum event e;

        if (j && json_bool_of(j, "more", false)) {
            progress_hide(&p);
            if (!cancelled && fn && !fn(arg, json_object_get(j, "data"))) {
                rpc_cancel(s->rpc, id);
                cancelled = true;
            }
            json_decref(j);
            continue;
        }
        if (j || err->code) {
            progress_hide(&p);
            if (!j)
                rpc_free(&s->rpc);
            return j;
        }
        e = event_wait(-1, rpc_fd(s->rpc), p.next < until ? p.next : until);
        if (e == EVENT_INTERRUPT && !cancelled) {
            rpc_cancel(s->rpc, id);
            cancelled = true;
            until = clock_in(SECONDS(2)); /* it may be past the point of no return */
            ui_stop(ui, UI_INTERRUPTED);
        } else if (e == EVENT_HANGUP) {
            rpc_cancel(s->rpc, id);
            ui_stop(ui, UI_HANGUP);
            progress_hide(&p);
            err_set(err, E_CLOSED, "The session is over.");
            return NULL;
        } else if (e == EVENT_TIME && clock_now() >= until) {
            progress_hide(&p);
            rpc_cancel(s->rpc, id);
            err_set(err, E_TIMEOUT, "The gateway did not answer in time.");
            return NULL;
        } else if (e == EVENT_TIME) {
            progress_tick(&p, ui);
        }
    }
}

static void take_candidate(struct session *s, const json_t *c)
{
    if (!json_is_object(c))
        return;
    s->candidate = json_int(c, "id", s->candidate);
    s->changes = (size_t)json_int(c, "changes", (json_int_t)s->changes);
    s->base = json_int(c, "base", s->base);
    s->head = json_int(c, "head", json_int(c, "revision", s->head));
    s->confirm_left = json_int(c, "confirm", -1);
}

/* Every answer says how the candidate stands. */
static void take_state(struct session *s, const json_t *answer)
{
    const char *host = json_str(answer, "host", NULL);

    s->head = json_int(answer, "head", s->head);
    s->base = json_int(answer, "base", s->base);
    s->changes = (size_t)json_int(answer, "changes", (json_int_t)s->changes);
    if (host && !str_eq(host, s->host)) {
        free(s->host);
        s->host = xstrdup(host);
    }
}

static bool take_hello(struct session *s, const json_t *data)
{
    static const struct {
        const char *name;
        unsigned role;
    } roles[] = {
        {"administrator", ROLE_ADMIN   },
        {"operator",      ROLE_OPERATOR},
        {"readonly",      ROLE_READONLY},
        {"guest",         ROLE_GUEST   }
    };
    const char *role = json_str(data, "role", "guest");

    free(s->host);
    free(s->user);
    s->host = xstrdup(json_str(data, "host", "postern"));
    s->user = xstrdup(json_str(data, "user", "?"));
    s->role = ROLE_GUEST;
    for (size_t i = 0; i < countof(roles); i++) {
        if (str_eq(role, roles[i].name))
            s->role = roles[i].role;
    }
    s->head = json_int(data, "revision", 0);
    take_candidate(s, json_object_get(data, "candidate"));
    json_decref(s->hello);
    s->hello = json_deep_copy(data);
    return true;
}

static bool is_ok(const json_t *answer, struct err *err)
{
    if (json_bool_of(answer, "ok", false))
        return true;
    return err_set(err, code_of(json_str(answer, "code", "E_INVALID")), "%s",
                   json_str(answer, "message", "The gateway refused without a reason."));
}

static bool say_hello(struct session *s, struct err *err)
{
    const char *ssh = getenv("SSH_CONNECTION"), *blank = ssh ? strchr(ssh, ' ') : NULL;
    char *peer = ssh ? xstrndup(ssh, blank ? (size_t)(blank - ssh) : strlen(ssh)) : NULL;
    json_t *args = json_object();
    AUTO(json) json_t *answer = NULL;
    int64_t id;

    json_put_str(args, "client", "postern " POSTERN_VERSION);
    json_put_str(args, "via", ssh ? "ssh" : "console");
    if (peer)
        json_put_str(args, "peer", peer);
    free(peer);
    json_put(args, "interactive", json_boolean(s->interactive));
    id = rpc_send(s->rpc, "hello", args, err);
    if (id)
        answer = await(s, s->ui, id, NULL, NULL, err);
    return answer && is_ok(answer, err) && take_hello(s, json_object_get(answer, "data"));
}

/* After the daemon was restarted: a new connection, and the candidate that was left behind. */
static bool reconnect(struct session *s, struct err *err)
{
    int64_t candidate = s->changes ? s->candidate : 0, id;
    json_t *args;

    rpc_free(&s->rpc);
    if (!s->path)
        return err_set(err, E_CLOSED, "The gateway closed the connection.");
    s->rpc = rpc_open(s->path, err);
    if (!s->rpc || !say_hello(s, err))
        return false;
    if (candidate && candidate != s->candidate) {
        args = json_object();
        json_put_int(args, "id", candidate);
        id = rpc_send(s->rpc, "candidate.attach", args, err);
        if (id) {
            json_t *answer = await(s, s->ui, id, NULL, NULL, err);

            if (answer && is_ok(answer, err))
                take_candidate(s, json_object_get(answer, "data"));
            json_decref(answer);
        }
    }
    return true;
}

/* The answer to one request, whatever it says. args is stolen. */
static json_t *request(struct session *s, struct ui *ui, const char *op, json_t *args,
                       bool (*fn)(void *arg, const json_t *data), void *arg, struct err *err)
{
    json_t *kept = json_incref(args), *answer = NULL;
    int64_t id = 0;

    *err = (struct err){0};
    if (s->rpc) { /* notices that came meanwhile; and is it still there? */
        json_decref(rpc_receive(s->rpc, 0, err));
        if (err->code)
            rpc_free(&s->rpc);
    }
    if (s->rpc || reconnect(s, err))
        id = rpc_send(s->rpc, op, args, err);
    else
        json_decref(args);
    if (id) {
        *err = (struct err){0};
        answer = await(s, ui, id, fn, arg, err);
    }
    json_decref(kept);
    take_state(s, answer);
    return answer;
}

static void forget_names(struct session *s);

json_t *session_answer(struct session *s, struct ui *ui, const char *op, json_t *args)
{
    struct err err = {0};
    json_t *answer;

    if (ui_failed(ui) || (s->finished && !session_sync(s, ui))) {
        json_decref(args);
        return NULL;
    }
    answer = request(s, ui, op, args, NULL, NULL, &err);
    forget_names(s); /* the call may have staged objects */
    if (!answer)
        ui_error(ui, &err);
    return answer;
}

static void add_extra(struct ui *ui, const json_t *answer, const char *key)
{
    json_t *value = json_object_get(answer, key);

    if (!value)
        return;
    if (!ui->extra)
        ui->extra = json_object();
    json_object_set(ui->extra, key, value);
}

static void add_conflicts(const json_t *conflicts, struct buf *out)
{
    size_t i;
    json_t *c;

    json_array_foreach(conflicts, i, c)
    {
        buf_printf(out, "\n  %s  %s", str_printable(json_str(c, "object", json_str(c, "name", ""))),
                   str_printable(json_str(c, "field", "(the whole object)")));
        buf_printf(out, "\n      was       %s",
                   str_printable(json_str(c, "base", json_str(c, "was", "(absent)"))));
        buf_printf(out, "\n      theirs    %s", str_printable(json_str(c, "theirs", "(deleted)")));
        buf_printf(out, "\n      yours     %s", str_printable(json_str(c, "mine", "(deleted)")));
    }
    if (json_array_size(conflicts))
        buf_str_add(out, "\nChoose for each of them: commit resolve mine|theirs OBJECT FIELD");
}

static void add_problems(const json_t *problems, const char *kind, struct buf *out)
{
    size_t i;
    json_t *p;

    json_array_foreach(problems, i, p)
        buf_printf(out, "\n  %s%s%s%s", kind, str_printable(json_str(p, "object", "")),
                   json_str(p, "object", NULL) ? ": " : "",
                   str_printable(json_str(p, "message", json_str(p, "text", ""))));
}

void session_show_error(struct session *s, struct ui *ui, const json_t *answer)
{
    static const char *const members[] = {"conflicts", "errors", "warnings"};
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);
    struct err err = {0};

    (void)s;
    if (is_ok(answer, &err))
        return;
    for (size_t i = 0; i < countof(members); i++)
        add_extra(ui, answer, members[i]);
    buf_str_add(&text, json_str(answer, "message", err.text));
    if (!ui->json) {
        add_problems(json_object_get(answer, "errors"), "", &text);
        add_problems(json_object_get(answer, "warnings"), "warning: ", &text);
        add_conflicts(json_object_get(answer, "conflicts"), &text);
    }
    ui_fail(ui, err.code, "%s", buf_str(&text));
}

json_t *session_call(struct session *s, struct ui *ui, const char *op, json_t *args)
{
    AUTO(json) json_t *answer = session_answer(s, ui, op, args);
    json_t *data;

    if (!answer)
        return NULL;
    if (!json_bool_of(answer, "ok", false)) {
        session_show_error(s, ui, answer);
        return NULL;
    }
    add_extra(ui, answer, "warnings");
    data = json_object_get(answer, "data");
    return data ? json_incref(data) : json_object();
}

/* The whole answer; NULL: there is none, or it is an error, which err has unless it was stopped. */
static json_t *stream_answer(struct session *s, struct ui *ui, const char *op, json_t *args,
                             bool (*fn)(void *arg, const json_t *data), void *arg, json_t **failed,
                             struct err *err)
{
    json_t *answer;

    if (ui_failed(ui) || (s->finished && !session_sync(s, ui))) {
        json_decref(args);
        return NULL;
    }
    answer = request(s, ui, op, args, fn, arg, err);
    if (!answer || is_ok(answer, err))
        return answer;
    if (ui_aborted(ui) || out_stopped(ui))
        *err = (struct err){0};
    else if (failed)
        *failed = json_incref(answer);
    json_decref(answer);
    return NULL;
}

bool session_stream(struct session *s, struct ui *ui, const char *op, json_t *args,
                    bool (*fn)(void *arg, const json_t *data), void *arg)
{
    json_t *failed = NULL;
    struct err err = {0};
    AUTO(json) json_t *answer = stream_answer(s, ui, op, args, fn, arg, &failed, &err);

    if (failed)
        session_show_error(s, ui, failed);
    else if (err.code)
        ui_error(ui, &err);
    json_decref(failed);
    return answer;
}

/* --- opening and closing --------------------------------------------------------------------- */

static struct session *open_on(struct rpc *rpc, const struct session_options *o, struct err *err)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->rpc = rpc;
    s->path = o->path ? xstrdup(o->path) : NULL;
    s->interactive = o->interactive;
    s->confirm_left = -1;
    if (!say_hello(s, err))
        session_close(&s);
    return s;
}

struct session *session_open(const struct session_options *o, struct err *err)
{
    struct rpc *rpc = rpc_open(o->path, err);

    return rpc ? open_on(rpc, o, err) : NULL;
}

struct session *session_of_fd(int fd, struct err *err)
{
    const struct session_options o = {0};

    return open_on(rpc_of_fd(fd), &o, err);
}

static void drop_item(struct pending *p)
{
    free(p->name);
    free(p->where);
    row_free(&p->row);
    row_free(&p->base);
    json_free(&p->secrets);
}

static void drop_from(struct session *s, size_t n)
{
    while (s->n > n)
        drop_item(&s->items[--s->n]);
    if (s->finished > s->n)
        s->finished = s->n;
}

static void drop_mark(struct savepoint *m)
{
    for (size_t i = 0; i < m->n; i++) {
        row_free(&m->rows[i]);
        json_free(&m->secrets[i]);
    }
    free(m->rows);
    free(m->secrets);
}

static void forget_names(struct session *s)
{
    for (size_t i = 0; i < SECTIONS; i++) {
        map_free(&s->known[i]);
        s->is_known[i] = false;
    }
}

void session_close(struct session **sp)
{
    struct session *s = *sp;

    if (!s)
        return;
    session_release(s, 0);
    drop_from(s, 0);
    forget_names(s);
    free(s->items);
    free(s->marks);
    rpc_free(&s->rpc);
    json_free(&s->hello);
    free(s->host);
    free(s->user);
    free(s->path);
    free(s);
    *sp = NULL;
}

void session_use(struct session *s, struct ui *ui)
{
    s->ui = ui;
}

const struct section *session_section(const struct session *s)
{
    return s->ui ? s->ui->section : NULL;
}

void session_end_command(struct session *s, unsigned mark, bool ok)
{
    size_t n = s->marks[mark - 1].n;

    if (ok)
        session_release(s, mark);
    else
        session_undo(s, mark);
    drop_from(s, n > s->finished ? n : s->finished);
}

const char *session_hostname(const struct session *s)
{
    return s->host;
}

const char *session_user(const struct session *s)
{
    return s->user;
}

unsigned session_role(const struct session *s)
{
    return s->role;
}

const json_t *session_hello(const struct session *s)
{
    return s->hello;
}

size_t session_changes(const struct session *s)
{
    return s->changes;
}

int session_fd(const struct session *s)
{
    return rpc_fd(s->rpc);
}

char *session_notice(struct session *s)
{
    struct err err = {0};

    if (!s->rpc)
        return NULL;
    json_decref(rpc_receive(s->rpc, 0, &err));
    if (err.code) { /* what is buffered is read; the next call connects again */
        char *last = rpc_notice(s->rpc);

        if (last)
            return last;
        rpc_free(&s->rpc);
        return xstrdup(
            "The gateway's engine has gone; the console connects again at the next command.");
    }
    return rpc_notice(s->rpc);
}

bool session_begin_anonymous(struct session *s, struct ui *ui)
{
    json_t *data = session_call(s, ui, "candidate.anonymous", NULL);

    s->anonymous = data != NULL;
    json_decref(data);
    return s->anonymous;
}

bool session_is_anonymous(const struct session *s)
{
    return s->anonymous;
}

bool session_refresh(struct session *s)
{
    struct err err = {0};
    AUTO(json)
    json_t *answer = request(s, s->ui, "candidate.state", json_object(), NULL, NULL, &err);

    if (!answer || !is_ok(answer, &err))
        return false;
    take_candidate(s, json_object_get(answer, "data"));
    return true;
}

/* Flags are prefixes only: scripts that match "host> $" keep working. */
void session_prompt(const struct session *s, struct buf *out)
{
    if (s->confirm_left >= 0)
        buf_printf(out, "~%d:%02d ", (int)(s->confirm_left / 60), (int)(s->confirm_left % 60));
    if (s->changes && s->base && s->head > s->base)
        buf_char(out, '!');
    if (s->changes)
        buf_char(out, '*');
    if (s->changes)
        buf_char(out, ' ');
    buf_printf(out, "%s> ", s->host);
}

json_t *session_state(const struct session *s)
{
    json_t *state = json_object();

    json_put_int(state, "head", s->head);
    json_put_int(state, "base", s->base);
    if (s->changes && s->candidate) /* 0: it has no number until it is kept */
        json_put_int(state, "candidate", s->candidate);
    json_put_int(state, "staged", (json_int_t)s->changes);
    return state;
}

/* --- reading --------------------------------------------------------------------------------- */

static struct pending *find_pending(const struct session *s, const struct section *sec,
                                    const char *name)
{
    for (size_t i = s->n; i-- > 0;) {
        struct pending *p = &s->items[i];
        const char *now = p->row ? p->row->name : p->name;

        if (p->section == sec && now && (str_eq(now, name) || (!p->row && str_eq(p->name, name))))
            return p;
    }
    return NULL;
}

static json_t *get_args(const struct section *sec, const char *name)
{
    json_t *args = json_object();

    json_put_str(args, "section", sec->name);
    if (name)
        json_put_str(args, "name", name);
    return args;
}

struct walk {
    const struct section *sec;
    const char *owner, *prefix;
    size_t limit;
    bool bodies;
    size_t total;
    bool (*entry)(void *arg, const char *name, const json_t *body);
    void *arg;
};

/* Calls entry for the objects, page by page. */
static void walk_list(struct session *s, struct walk *w)
{
    AUTO(str) char *after = NULL;
    size_t seen = 0;
    bool more = true;

    if (s->finished && !session_sync(s, s->ui))
        return;
    while (more && !ui_aborted(s->ui)) {
        json_t *args = get_args(w->sec, NULL), *e;
        AUTO(json) json_t *answer = NULL;
        const json_t *data, *entries;
        struct err err = {0};
        size_t i;

        if (w->owner)
            json_put_str(args, "owner", w->owner);
        if (w->prefix)
            json_put_str(args, "prefix", w->prefix);
        if (after)
            json_put_str(args, "after", after);
        json_put_int(args, "limit", (json_int_t)(w->limit && w->limit < PAGE ? w->limit : PAGE));
        json_put(args, "bodies", json_boolean(w->bodies));
        answer = request(s, s->ui, "config.list", args, NULL, NULL, &err);
        if (!answer || !is_ok(answer, &err)) {
            ui_error(s->ui, &err);
            return;
        }
        data = json_object_get(answer, "data");
        entries = json_object_get(data, "entries");
        w->total = (size_t)json_int(data, "total", (json_int_t)json_array_size(entries));
        json_array_foreach(entries, i, e)
        {
            const char *name = json_str(e, "name", "");

            free(after);
            after = xstrdup(name);
            if (w->entry && !w->entry(w->arg, name, json_object_get(e, "body")))
                return;
            if (w->limit && ++seen >= w->limit)
                return;
        }
        more = json_bool_of(data, "more", false) && json_array_size(entries) && w->entry;
    }
}

static bool know_name(void *arg, const char *name, const json_t *body)
{
    (void)body;
    map_set(arg, name, arg);
    return true;
}

/* In a batch nobody else changes the candidate: one list saves a question for each new object. */
static bool is_absent(struct session *s, const struct section *sec, const char *name)
{
    unsigned i = section_index(sec);
    struct walk w = {.sec = sec, .entry = know_name, .arg = &s->known[i]};

    if (!s->deferred || sec->single)
        return false;
    if (!s->is_known[i]) {
        s->is_known[i] = true;
        walk_list(s, &w);
    }
    return !map_get(&s->known[i], name);
}

static struct row *fetch(struct session *s, const struct section *sec, const char *name)
{
    struct err err = {0};
    AUTO(json) json_t *answer = NULL;
    const json_t *data;
    struct row *row = NULL;

    if ((s->ui && ui_aborted(s->ui)) || is_absent(s, sec, name))
        return NULL;
    answer = request(s, s->ui, "config.get", get_args(sec, name), NULL, NULL, &err);
    data = json_object_get(answer, "data");
    if (!answer || !is_ok(answer, &err)) {
        if (err.code != E_NOT_FOUND && s->ui)
            ui_error(s->ui, &err);
        return NULL;
    }
    if (!json_bool_of(data, "exists", true) || !json_is_object(json_object_get(data, "body")))
        return NULL;
    row = row_from_json(sec, json_str(data, "name", name), json_object_get(data, "body"), &err);
    if (!row && s->ui)
        ui_error(s->ui, &err);
    return row;
}

/* The place of a change that gives the object of this name another one; n: none does. */
static size_t renamed_at(const struct session *s, const struct section *sec, const char *name)
{
    size_t i = 0;

    while (i < s->n && (s->items[i].section != sec || !s->items[i].row ||
                        !str_eq(s->items[i].name, name) || str_eq(s->items[i].row->name, name)))
        i++;
    return i;
}

struct row *session_get(struct session *s, const struct section *sec, const char *name)
{
    AUTO(str) char *canonical = row_canonical(sec, name);
    size_t renamed = renamed_at(s, sec, canonical);
    const struct pending *p;

    if (renamed < s->finished && !session_sync(s, s->ui))
        return NULL;
    p = find_pending(s, sec, canonical);
    if (p)
        return p->row ? row_copy(p->row) : NULL;
    if (renamed_at(s, sec, canonical) < s->n)
        return NULL; /* it has another name now */
    return fetch(s, sec, canonical);
}

bool session_taken(struct session *s, const struct row *row)
{
    struct row *other;

    for (size_t i = 0; i < s->n; i++) {
        const struct pending *p = &s->items[i];

        if (p->section != row->section || p->row == row)
            continue;
        if (p->row && str_eq(p->row->name, row->name))
            return true;
        if (str_eq(p->name, row->name))
            return false; /* deleted, or it has another name now */
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].row == row && str_eq(s->items[i].name, row->name))
            return false; /* its own name */
    }
    other = fetch(s, row->section, row->name);
    if (!other)
        return false;
    row_free(&other);
    return true;
}

static const char *leaf(const struct section *sec, const char *name)
{
    const char *slash = sec->parent ? strchr(name, '/') : NULL;

    return slash ? slash + 1 : name;
}

struct collect {
    const struct section *sec;
    struct strlist *out;
};

static bool collect_name(void *arg, const char *name, const json_t *body)
{
    struct collect *c = arg;

    (void)body;
    strlist_add(c->out, leaf(c->sec, name));
    return true;
}

struct each {
    struct session *s;
    const struct section *sec;
    bool (*fn)(void *arg, const struct row *row);
    void *arg;
    struct row **rows; /* of ordered sections */
    size_t n, cap;
};

static bool each_entry(void *arg, const char *name, const json_t *body)
{
    struct each *e = arg;
    struct err err = {0};
    struct row *row = row_from_json(e->sec, name, body, &err);
    bool on;

    if (!row) {
        ui_error(e->s->ui, &err);
        return false;
    }
    if (e->sec->ordered) {
        if (e->n == e->cap) {
            e->cap = e->cap ? e->cap * 2 : 64;
            e->rows = xrealloc(e->rows, e->cap * sizeof(*e->rows));
        }
        e->rows[e->n++] = row;
        return true;
    }
    on = e->fn(e->arg, row);
    row_free(&row);
    return on;
}

static uint64_t position_of(const struct row *r)
{
    const struct field *f = field_find(r->section, "position");

    return f ? *(const uint64_t *)row_slot(r, f) : 0;
}

static int by_position(const void *a, const void *b)
{
    const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;
    uint64_t px = position_of(x), py = position_of(y);

    return px != py ? (px < py ? -1 : 1) : strcmp(x->name, y->name);
}

void session_each(struct session *s, const struct section *sec, const char *owner,
                  bool (*fn)(void *arg, const struct row *row), void *arg)
{
    struct each e = {.s = s, .sec = sec, .fn = fn, .arg = arg};
    struct walk w = {.sec = sec, .owner = owner, .bodies = true, .entry = each_entry, .arg = &e};
    bool on = true;

    walk_list(s, &w);
    if (e.n)
        qsort(e.rows, e.n, sizeof(*e.rows), by_position);
    for (size_t i = 0; i < e.n; i++) {
        on = on && fn(arg, e.rows[i]);
        row_free(&e.rows[i]);
    }
    free(e.rows);
}

static bool row_name_into(void *arg, const struct row *row)
{
    strlist_add(arg, row_leaf(row));
    return true;
}

void session_names(struct session *s, const struct section *sec, const char *owner,
                   struct strlist *out)
{
    struct collect c = {sec, out};
    struct walk w = {.sec = sec, .owner = owner, .entry = collect_name, .arg = &c};

    if (sec->ordered)
        session_each(s, sec, owner, row_name_into, out);
    else
        walk_list(s, &w);
}

void session_find(struct session *s, const struct section *sec, const char *owner,
                  const char *prefix, size_t limit, struct strlist *out)
{
    struct collect c = {sec, out};
    struct walk w = {.sec = sec,
                     .owner = owner,
                     .prefix = prefix,
                     .limit = limit,
                     .entry = collect_name,
                     .arg = &c};

    walk_list(s, &w);
}

size_t session_count(struct session *s, const struct section *sec, const char *owner)
{
    struct walk w = {.sec = sec, .owner = owner, .limit = 1};

    walk_list(s, &w);
    return w.total;
}

/* --- staging --------------------------------------------------------------------------------- */

static struct pending *add_pending(struct session *s, const struct section *sec, const char *name,
                                   struct row *row, struct row *base)
{
    struct pending *p;

    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->items = xrealloc(s->items, s->cap * sizeof(*s->items));
    }
    p = &s->items[s->n++];
    *p = (struct pending){
        .section = sec, .name = name ? xstrdup(name) : NULL, .row = row, .base = base};
    if (s->deferred && s->ui && s->ui->where)
        p->where = xstrdup(s->ui->where);
    return p;
}

/* An object whose last change waits for session_sync: it must be sent before the next change of it.
 */
static void settle(struct session *s, const struct section *sec, const char *name)
{
    const struct pending *p = s->finished ? find_pending(s, sec, name) : NULL;

    if (p && p < s->items + s->finished)
        session_sync(s, s->ui);
}

struct row *session_edit(struct session *s, const struct section *sec, const char *name)
{
    AUTO(str) char *canonical = row_canonical(sec, name);
    struct pending *p;
    struct row *row;

    settle(s, sec, canonical);
    p = find_pending(s, sec, canonical);
    if (p)
        return p->row;
    row = fetch(s, sec, canonical);
    if (row)
        add_pending(s, sec, row->name, row, row_copy(row));
    return row;
}

static bool last_position(void *arg, const struct row *row)
{
    uint64_t *last = arg, p = position_of(row);

    *last = p > *last ? p : *last;
    return true;
}

struct row *session_new(struct session *s, const struct section *sec, const char *owner)
{
    char *name = sec->parent && owner ? xasprintf("%s/", owner) : NULL;
    struct row *row = row_new(sec, name);
    uint64_t last = 0;
    char number[24];

    if (sec->ordered) {
        session_each(s, sec, owner, last_position, &last);
        snprintf(number, sizeof(number), "%llu", (unsigned long long)last + 1);
        row_set(row, "position", number, NULL);
    }
    add_pending(s, sec, NULL, row, NULL);
    free(name);
    return row;
}

/* The rows themselves live on with their items: dialogs may hold pointers to them. */
void session_forget(struct session *s, const struct section *sec, const char *owner)
{
    size_t n = strlen(owner);

    for (size_t i = s->finished; i < s->n; i++) {
        struct pending *p = &s->items[i];
        const char *name = p->row ? p->row->name : p->name;

        if (p->section == sec && str_starts(name, owner) && name[n] == '/')
            p->section = NULL;
    }
    forget_names(s);
}

void session_delete(struct session *s, const struct section *sec, const char *name)
{
    AUTO(str) char *canonical = row_canonical(sec, name);
    struct pending *p;

    settle(s, sec, canonical);
    p = find_pending(s, sec, canonical);
    if (p) {
        row_free(&p->row);
        json_free(&p->secrets);
        if (!p->name) /* never known to the daemon */
            p->section = NULL;
        return;
    }
    add_pending(s, sec, canonical, NULL, NULL);
}

void session_secret(struct session *s, struct row *row, const char *field, const char *plain)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].row != row)
            continue;
        if (!s->items[i].secrets)
            s->items[i].secrets = json_object();
        json_put_str(s->items[i].secrets, field, plain);
    }
}

unsigned session_mark(struct session *s)
{
    struct savepoint *m;

    s->marks = xrealloc(s->marks, (s->nmarks + 1) * sizeof(*s->marks));
    m = &s->marks[s->nmarks++];
    *m = (struct savepoint){.n = s->n,
                            .rows = xcalloc(s->n + 1, sizeof(*m->rows)),
                            .secrets = xcalloc(s->n + 1, sizeof(*m->secrets))};
    for (size_t i = s->finished; i < s->n; i++) { /* what is finished does not change any more */
        m->rows[i] = s->items[i].row ? row_copy(s->items[i].row) : NULL;
        m->secrets[i] = s->items[i].secrets ? json_deep_copy(s->items[i].secrets) : NULL;
    }
    return (unsigned)s->nmarks; /* from 1: 0 is the beginning */
}

/* Dialogs hold pointers to the rows, so the contents change places, not the rows. */
static void row_swap(struct row *a, struct row *b)
{
    void *data = a->data;
    char *name = a->name;

    a->data = b->data;
    a->name = b->name;
    b->data = data;
    b->name = name;
}

void session_undo(struct session *s, unsigned mark)
{
    struct savepoint *m = mark ? &s->marks[mark - 1] : NULL;

    drop_from(s, m ? m->n : s->finished);
    for (size_t i = s->finished; m && i < m->n && i < s->n; i++) {
        struct pending *p = &s->items[i];

        if (m->rows[i] && p->row) {
            row_swap(p->row, m->rows[i]);
        } else if (m->rows[i] && !p->row) {
            p->row = m->rows[i];
            m->rows[i] = NULL;
        }
        json_free(&p->secrets);
        p->secrets = m->secrets[i];
        m->secrets[i] = NULL;
    }
    session_release(s, mark);
}

void session_release(struct session *s, unsigned mark)
{
    while (s->nmarks && s->nmarks >= mark)
        drop_mark(&s->marks[--s->nmarks]);
}

static bool is_changed(const struct pending *p)
{
    if (!p->section)
        return false;
    if (!p->row)
        return p->name != NULL;
    return !p->base || p->secrets || !str_eq(p->name, p->row->name) || !row_equal(p->row, p->base);
}

static json_t *change_of(const struct pending *p)
{
    json_t *c = json_object(), *body, *value;
    const char *field;

    json_put_str(c, "section", p->section->name);
    json_put_str(c, "name", p->row ? p->row->name : p->name);
    if (!p->row) {
        json_put(c, "body", json_null());
        return c;
    }
    body = row_to_json(p->row);
    json_object_foreach(p->secrets, field, value)
    {
        json_t *plain = json_object();

        json_object_set(plain, "$plain", value);
        json_put(body, field, plain);
    }
    json_put(c, "body", body);
    if (p->name && !str_eq(p->name, p->row->name))
        json_put_str(c, "from", p->name);
    return c;
}

/* A secret that was sent in plain text is from now on what the daemon made of it: sent again as it was before, the row
 * would lose it. */
static void take_sealed(struct session *s, struct pending *p)
{
    struct row *stored = fetch(s, p->section, p->row->name);
    const char *field;
    json_t *value;

    json_object_foreach(p->secrets, field, value)
    {
        if (stored)
            row_set(p->row, field, row_text(stored, field), NULL);
    }
    row_free(&stored);
}

/* The daemon now knows the row as it is. */
static void rebase(struct session *s, struct pending *p)
{
    if (p->section && p->row && p->secrets && !s->deferred)
        take_sealed(s, p);
    if (s->deferred && p->section && p->row && !p->name)
        map_set(&s->known[section_index(p->section)], p->row->name, s);
    else if (s->deferred && p->section && !(p->row && str_eq(p->row->name, p->name)))
        forget_names(s); /* a deletion or a new name may take others along */
    row_free(&p->base);
    json_free(&p->secrets);
    free(p->name);
    p->name = p->row ? xstrdup(p->row->name) : NULL;
    p->base = p->row ? row_copy(p->row) : NULL;
    if (!p->row)
        p->section = NULL;
}

/* Sends items [from, to); the daemon takes all or none. */
static bool send_items(struct session *s, struct ui *ui, size_t from, size_t to, bool *sent,
                       struct err *err)
{
    json_t *list = json_array(), *args;
    AUTO(json) json_t *answer = NULL;

    *sent = false;
    for (size_t i = from; i < to; i++) {
        if (is_changed(&s->items[i]))
            json_array_append_new(list, change_of(&s->items[i]));
    }
    if (!json_array_size(list)) {
        json_decref(list);
        return true;
    }
    *sent = true;
    args = json_object();
    json_put(args, "changes", list);
    answer = request(s, ui, "config.stage", args, NULL, NULL, err);
    if (!answer || !is_ok(answer, err))
        return false;
    for (size_t i = from; i < to; i++)
        rebase(s, &s->items[i]);
    return true;
}

/* How the daemon had the row before change_of. */
static json_t *restore_of(const struct pending *p)
{
    json_t *c = json_object();

    json_put_str(c, "section", p->section->name);
    json_put_str(c, "name", p->name ? p->name : p->row->name);
    json_put(c, "body", p->name ? row_to_json(p->base) : json_null());
    if (p->name && !str_eq(p->name, p->row->name))
        json_put_str(c, "from", p->row->name);
    return c;
}

/* What is to be sent for a trial, and what afterwards. */
static void trial_changes(const struct session *s, json_t *stage, json_t *restore)
{
    json_t *changes = json_array(), *were = json_array();

    for (size_t i = 0; i < s->n; i++) {
        if (!s->items[i].row || !is_changed(&s->items[i]))
            continue;
        json_array_append_new(changes, change_of(&s->items[i]));
        json_array_append_new(were, restore_of(&s->items[i]));
    }
    json_put(stage, "changes", changes);
    json_put(restore, "changes", were);
}

static bool send_stage(struct session *s, struct ui *ui, json_t *args, struct err *err)
{
    AUTO(json) json_t *reply = request(s, ui, "config.stage", json_incref(args), NULL, NULL, err);

    return reply && is_ok(reply, err);
}

json_t *session_stream_trial(struct session *s, struct ui *ui, const char *op, json_t *args,
                             bool (*fn)(void *arg, const json_t *data), void *arg, struct err *err)
{
    AUTO(json) json_t *stage = json_object();
    AUTO(json) json_t *restore = json_object();
    AUTO(json) json_t *answer = NULL;
    json_t *data = NULL;
    struct err lost = {0};
    bool changes;

    *err = (struct err){0};
    if (ui_failed(ui) || (s->finished && !session_sync(s, ui))) {
        json_decref(args);
        return NULL;
    }
    trial_changes(s, stage, restore);
    changes = json_array_size(json_object_get(stage, "changes"));
    if (changes && !send_stage(s, ui, stage, err)) {
        json_decref(args);
        return NULL;
    }
    answer = stream_answer(s, ui, op, args, fn, arg, NULL, err);
    if (changes && !send_stage(s, ui, restore, &lost)) /* interrupted or not */
        ui_error(ui, &lost);
    if (answer)
        data = json_incref(json_object_get(answer, "data"));
    return answer && !data ? json_object() : data;
}

static bool has_names(struct session *s, struct ui *ui)
{
    for (size_t i = s->finished; i < s->n; i++) {
        const struct pending *p = &s->items[i];

        if (p->section && p->row && (!p->row->name || !*row_leaf(p->row))) {
            ui_fail(ui, E_USAGE, "The %s has no name.", p->section->noun);
            return false;
        }
    }
    return true;
}

bool session_flush(struct session *s, struct ui *ui)
{
    struct err err = {0};
    bool sent;

    if (!has_names(s, ui))
        return false;
    if (s->deferred) {
        s->finished = s->n;
        for (size_t i = 0; i < s->n && ui; i++)
            ui->changed = ui->changed || is_changed(&s->items[i]);
        return s->finished < DEFERRED || session_sync(s, ui);
    }
    if (!send_items(s, ui, 0, s->n, &sent, &err)) {
        ui_error(ui, &err);
        for (size_t i = 0; i < s->n; i++) { /* nothing of it was taken */
            struct pending *p = &s->items[i];

            if (p->row && p->base) {
                struct row *copy = row_copy(p->base);

                row_swap(p->row, copy);
                row_free(&copy);
            }
            json_free(&p->secrets);
        }
        return false;
    }
    ui->changed = ui->changed || sent;
    return true;
}

void session_deferred(struct session *s, bool on)
{
    s->deferred = on;
    forget_names(s);
}

/* The first n entries are gone. */
static void shift_mark(struct savepoint *m, size_t n)
{
    if (n > m->n)
        n = m->n;
    for (size_t i = 0; i < n; i++) {
        row_free(&m->rows[i]);
        json_free(&m->secrets[i]);
    }
    memmove(m->rows, m->rows + n, (m->n - n) * sizeof(*m->rows));
    memmove(m->secrets, m->secrets + n, (m->n - n) * sizeof(*m->secrets));
    m->n -= n;
}

bool session_sync(struct session *s, struct ui *ui)
{
    struct err err = {0};
    size_t n = s->finished, bad = 0;
    bool sent, ok;
    const char *where;

    assert(ui);
    where = ui->where;
    s->finished = 0; /* or the calls below would come back here */
    ok = send_items(s, ui, 0, n, &sent, &err);
    if (!ok) { /* which one was it? one after another says it */
        while (bad < n && send_items(s, ui, bad, bad + 1, &sent, &err))
            bad++;
        ui->where = bad < n && s->items[bad].where ? s->items[bad].where : where;
        ui_error(ui, &err);
        ui->where = where;
    }
    for (size_t i = 0; i < n; i++)
        drop_item(&s->items[i]);
    if (s->n > n)
        memmove(s->items, s->items + n, (s->n - n) * sizeof(*s->items));
    s->n -= n;
    for (size_t i = 0; i < s->nmarks; i++)
        shift_mark(&s->marks[i], n);
    return ok;
}
