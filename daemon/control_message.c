/* control_message.c - queue.message, queue.oldest, queue.archive (store/control.h): one queued
 * message, looked at or copied out. Every look at somebody's mail is in the audit log. */
#include "daemon/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/export_area.h"
#include "daemon/message.h"
#include "daemon/queue_run.h"
#include "daemon/worker.h"
#include "store/base/log.h"
#include "store/base/str.h"

#define SHOWN (64u << 10) /* bytes of a message that are shown unless said otherwise */
#define MOST_SHOWN (1u << 20)
#define HEADER_SHOWN (64u << 10)
#define MOST_RCPTS 1000u /* listed */

/* --- looking --- */

struct look {
    struct message *m;
    size_t max;
    bool header; /* up to the empty line only */
    struct buf text;
    bool cut;
};

static bool read_text(void *arg, struct err *err) /* on a worker: the disk may be slow */
{
    struct look *l = arg;
    char *piece = xmalloc(SPOOL_PIECE);
    uint64_t at = 0, length = body_length(l->m->body);
    bool ok = true;

    while (ok && at < length && l->text.n < l->max) {
        size_t got = 0, want = l->max - l->text.n < SPOOL_PIECE ? l->max - l->text.n : SPOOL_PIECE;

        ok = body_read(l->m->body, at, piece, want, &got, err) && got > 0;
        if (ok)
            buf_add(&l->text, piece, got);
        at += got;
    }
    free(piece);
    l->cut = ok && at < length;
    if (l->header) {
        const char *end = l->text.n ? memmem(l->text.p, l->text.n, "\r\n\r\n", 4) : NULL;

        l->cut = !end && l->cut;
        if (end)
            l->text.n = (size_t)(end - l->text.p) + 2;
    }
    return ok;
}

/* Line by line, so that nothing in it can disturb a terminal. */
static char *shown(const struct buf *text)
{
    struct buf out = BUF_INIT(8u << 20);
    const char *p = text->p, *end = p + text->n;

    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p)), *next = stop ? stop + 1 : end;
        size_t n = (size_t)((stop ? stop : end) - p);

        if (n && p[n - 1] == '\r')
            n--;
        for (size_t k = 0; k < n;) { /* a tab is no harm */
            size_t run = 0;

            while (k + run < n && p[k + run] != '\t')
                run++;
            str_escape(&out, p + k, run);
            if (k + run < n)
                buf_char(&out, '\t');
            k += run + 1;
        }
        if (stop)
            buf_char(&out, '\n');
        p = next;
    }
    return buf_take(&out);
}

static void describe(const struct message *m, json_t *data)
{
    json_t *rcpts = json_array();
    char date[40];

    json_put_int(data, "mid", (json_int_t)m->mid);
    json_put_int(data, "age", (json_int_t)((clock_wall() - m->received) / 1000000));
    json_put_str(data, "received", clock_rfc3339(m->received, date));
    json_put_int(data, "received_us", (json_int_t)m->received);
    json_put_str(data, "sender", m->sender);
    json_put_str(data, "subject", m->subject);
    json_put_int(data, "bytes", (json_int_t)body_length(m->body));
    if (m->redirect)
        json_put_str(data, "redirected_to", m->redirect);
    for (unsigned i = 0; i < m->nrcpts && json_array_size(rcpts) < MOST_RCPTS; i++)
        if (m->rcpts[i].state == RCPT_QUEUED)
            json_array_append_new(rcpts, json_string(m->rcpts[i].address));
    json_put(data, "recipients", rcpts);
}

/* YIELDS */
static bool show(uint64_t mid, bool header, size_t max, json_t *data, struct err *err)
{
    struct look l = {.max = max, .header = header, .text = BUF_INIT(MOST_SHOWN + 1)};
    bool ok;

    l.m = queue_get(mid, err);
    ok = l.m && worker_call(read_text, &l, err);
    if (ok) {
        char *text = shown(&l.text);

        describe(l.m, data);
        json_put_str(data, "text", text ? text : "");
        json_put(data, "truncated", json_boolean(l.cut));
        free(text);
    }
    buf_free(&l.text);
    message_free(&l.m);
    return ok;
}

static bool mid_of(const json_t *args, uint64_t *mid, struct err *err)
{
    json_int_t n = json_int(args, "mid", 0);

    *mid = n > 0 ? (uint64_t)n : 0;
    return *mid || err_set(err, E_USAGE, "Enter a MID: a whole number from 1.");
}

static void note(struct control *c, const char *what, uint64_t mid, bool ok)
{
    char object[40];

    snprintf(object, sizeof(object), "MID %" PRIu64, mid);
    control_audit(c, what, object, ok ? "ok" : "failed", NULL); /* YIELDS */
}

static bool run_message(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    json_int_t bytes = json_int(args, "bytes", SHOWN);
    bool header = json_bool_of(args, "header", false), ok;
    uint64_t mid;

    if (!mid_of(args, &mid, err))
        return false;
    if (bytes < 1 || bytes > (json_int_t)MOST_SHOWN)
        return err_set(err, E_INVALID, "The bytes to show must be an integer from 1 to %u.", MOST_SHOWN);
    ok = show(mid, header, header ? HEADER_SHOWN : (size_t)bytes, data, err);
    note(c, "queue.message", mid, ok);
    return ok;
}

static bool run_oldest(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    uint64_t mid = 0;
    bool ok = false;

    (void)args;
    for (unsigned tries = 0; tries < 10 && !ok; tries++) { /* it may be delivered at this moment */
        mid = queue_oldest();
        if (!mid) {
            json_put(data, "mid", json_null());
            return true;
        }
        ok = show(mid, true, HEADER_SHOWN, data, err);
        if (!ok && err->code != E_NOT_FOUND)
            break;
    }
    note(c, "queue.oldest", mid, ok);
    return ok;
}

/* --- copying out --- */

struct archive {
    struct message *m;
    bool mbox;
    uint64_t at;
    bool begun, done, line_start, cr;
    char held[5]; /* beginning of a line that may be "From " */
    unsigned nheld;
};

/* mbox: lines end in LF, and one that begins with "From " gets a ">" before it. */
static void add_mbox(struct archive *a, const char *p, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        char ch = p[i];

        if (a->cr && ch != '\n')
            buf_char(out, '\r');
        a->cr = false;
        if (a->line_start && ch == "From "[a->nheld]) {
            a->held[a->nheld++] = ch;
            if (a->nheld < sizeof(a->held))
                continue;
            buf_char(out, '>');
            buf_add(out, a->held, a->nheld);
            a->nheld = 0;
            a->line_start = false;
            continue;
        }
        buf_add(out, a->held, a->nheld);
        a->nheld = 0;
        a->line_start = ch == '\n';
        if (ch == '\r')
            a->cr = true;
        else
            buf_char(out, ch);
    }
}

static bool next_piece(void *arg, struct buf *out, struct err *err) /* on a worker */
{
    struct archive *a = arg;
    char *piece, date[40];
    time_t t = (time_t)(a->m->received / 1000000);
    struct tm tm;
    size_t got = 0;
    bool ok;

    if (!a->begun && a->mbox) {
        gmtime_r(&t, &tm);
        strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm);
        buf_printf(out, "From %s %s\n", *a->m->sender ? a->m->sender : "MAILER-DAEMON", date);
        a->line_start = true;
    }
    a->begun = true;
    if (a->at >= body_length(a->m->body)) {
        if (a->mbox && !a->done) {
            buf_add(out, a->held, a->nheld);
            buf_str_add(out, a->line_start && !a->nheld ? "\n" : "\n\n");
        }
        a->done = true;
        return true;
    }
    piece = xmalloc(SPOOL_PIECE);
    ok = body_read(a->m->body, a->at, piece, SPOOL_PIECE, &got, err);
    if (ok && !got)
        ok = err_set(err, E_IO, "the message's text is shorter than it should be");
    a->at += got;
    if (ok && a->mbox)
        add_mbox(a, piece, got, out);
    else if (ok)
        buf_add(out, piece, got);
    free(piece);
    return ok;
}

static bool run_archive(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *format = json_str(args, "format", "mbox"), *file = json_str(args, "file", "");
    struct archive a = {.mbox = str_eq(format, "mbox")};
    AUTO(str) char *path = NULL;
    char name[300];
    uint64_t mid;
    bool ok;

    if (!mid_of(args, &mid, err))
        return false;
    if (!a.mbox && !str_eq(format, "eml"))
        return err_set(err, E_USAGE, "Choose \"mbox\" or \"eml\".");
    snprintf(name, sizeof(name), "%.250s", file);
    if (!*name)
        snprintf(name, sizeof(name), "oldmessage_%" PRIu64 ".%s", mid, format);
    if (!export_area_path(name, &path, err))
        return false;
    a.m = queue_get(mid, err);
    ok = a.m && export_area_write_pieces(path, next_piece, &a, control_role(c) >= ROLE_ADMIN,
                                         json_bool_of(args, "replace", false), err);
    message_free(&a.m);
    note(c, "queue.archive", mid, ok);
    if (!ok)
        return false;
    json_put_int(data, "mid", (json_int_t)mid);
    json_put_str(data, "path", path);
    json_put_str(data, "file", name);
    return true;
}

const struct control_op control_message_ops[] = {
    {"queue.message", ROLE_OPERATOR, run_message},
    {"queue.oldest",  ROLE_OPERATOR, run_oldest },
    {"queue.archive", ROLE_OPERATOR, run_archive},
    {NULL,            0,             NULL       },
};
