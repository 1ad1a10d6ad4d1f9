/* fake_control.h - a control socket's other end in a thread: keeps objects as JSON, answers what the shell asks. What it
 * is told to refuse it refuses; everything it was sent can be looked at. */
#ifndef POSTERN_TESTS_FAKE_CONTROL_H
#define POSTERN_TESTS_FAKE_CONTROL_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/json.h"
#include "store/base/str.h"
#include "store/row.h"

struct fake {
    int fd, client;
    pthread_t thread;
    json_t *objects; /* "section name" -> body */
    json_t *log;     /* every request */
    const char *refuse; /* staging an object whose name begins like this fails */
    unsigned staged;
};

static void fake_send(struct fake *f, json_t *j)
{
    char *text = json_text(j);
    size_t n = strlen(text);

    text[n] = '\n'; /* in place of the NUL: sent by length */
    if (write(f->fd, text, n + 1) < 0)
        perror("fake_control");
    free(text);
    json_decref(j);
}

static const char *fake_key(const char *section, const char *name)
{
    static __thread char key[400];

    snprintf(key, sizeof(key), "%s %s", section, name);
    return key;
}

static int fake_by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *fake_list(struct fake *f, const json_t *args)
{
    const char *section = json_str(args, "section", ""), *owner = json_str(args, "owner", NULL), *after = json_str(args, "after", NULL),
               *prefix = json_str(args, "prefix", ""), *key;
    char *start = owner ? xasprintf("%s %s/%s", section, owner, prefix) : xasprintf("%s %s", section, prefix);
    json_int_t limit = json_int(args, "limit", 1000), total = 0;
    json_t *entries = json_array(), *value;
    const char **keys = xcalloc(json_object_size(f->objects) + 1, sizeof(*keys));
    size_t n = 0;
    bool more = false;

    json_object_foreach(f->objects, key, value)
        keys[n++] = key;
    qsort(keys, n, sizeof(*keys), fake_by_key);
    for (size_t i = 0; i < n; i++) {
        const char *name = keys[i] + strlen(section) + 1;

        if (!str_starts(keys[i], start))
            continue;
        total++;
        if (after && strcmp(name, after) <= 0)
            continue;
        if ((json_int_t)json_array_size(entries) >= limit) {
            more = true;
            continue;
        }
        value = json_pack("{ss}", "name", name);
        if (json_bool_of(args, "bodies", false))
            json_object_set(value, "body", json_object_get(f->objects, keys[i]));
        json_array_append_new(entries, value);
    }
    free(start);
    free(keys);
    return json_pack("{sosbsI}", "entries", entries, "more", more, "total", total);
}

/* NULL: refused, message set */
static json_t *fake_stage(struct fake *f, const json_t *args, const char **message)
{
    json_t *c;
    size_t i;

    json_array_foreach(json_object_get(args, "changes"), i, c) {
        if (f->refuse && str_starts(json_str(c, "name", ""), f->refuse)) {
            *message = "The fake refuses this name.";
            return NULL;
        }
    }
    json_array_foreach(json_object_get(args, "changes"), i, c) {
        const char *section = json_str(c, "section", ""), *name = json_str(c, "name", "-"), *from = json_str(c, "from", NULL);
        json_t *body = json_object_get(c, "body");

        if (from)
            json_object_del(f->objects, fake_key(section, from));
        if (json_is_null(body))
            json_object_del(f->objects, fake_key(section, name));
        else
            json_object_set(f->objects, fake_key(section, name), body);
        f->staged++;
    }
    return json_object();
}

static json_t *fake_data(struct fake *f, const char *op, const json_t *args, const char **message)
{
    const char *key = fake_key(json_str(args, "section", ""), json_str(args, "name", "-"));
    json_t *body = json_object_get(f->objects, key);

    if (str_eq(op, "hello"))
        return json_pack("{sssssssss{sIsI}}", "user", "tester", "role", "administrator", "host", "gw.example", "version", "0", "candidate",
                         "id", (json_int_t)7, "base", (json_int_t)1);
    if (str_eq(op, "config.list"))
        return fake_list(f, args);
    if (str_eq(op, "config.stage"))
        return fake_stage(f, args, message);
    if (str_eq(op, "config.get"))
        return body ? json_pack("{sssOsb}", "name", json_str(args, "name", "-"), "body", body, "exists", 1)
                    : json_pack("{sssb}", "name", json_str(args, "name", "-"), "exists", 0);
    if (str_eq(op, "status")) { /* a stream, with a notice between */
        fake_send(f, json_pack("{sIsbs{si}}", "id", (json_int_t)json_array_size(f->log), "more", 1, "data", "n", 1));
        fake_send(f, json_pack("{ss}", "notice", "something happened"));
        fake_send(f, json_pack("{sIsbs{si}}", "id", (json_int_t)json_array_size(f->log), "more", 1, "data", "n", 2));
    }
    return json_object();
}

/* Bytes of the first line, its end included; 0: no more. Plain reads, because they are what tells the thread sanitizer
 * that the threads take turns. */
static size_t fake_line(struct fake *f, struct buf *in)
{
    for (;;) {
        const char *end = in->n ? memchr(in->p, '\n', in->n) : NULL;
        char *room;
        ssize_t n;

        if (end)
            return (size_t)(end - in->p) + 1;
        room = buf_reserve(in, 4096);
        n = room ? read(f->fd, room, 4096) : 0;
        if (n <= 0)
            return 0;
        in->n += (size_t)n;
    }
}

static void *fake_run(void *arg)
{
    struct fake *f = arg;
    AUTO(buf) struct buf in = BUF_INIT(JSON_MAX_LINE);
    size_t n;

    while ((n = fake_line(f, &in)) > 0) {
        json_t *request = json_parse(in.p, n, NULL), *answer, *data;
        const char *op = json_str(request, "op", ""), *message = "It is refused.";

        buf_drop(&in, n);
        json_array_append_new(f->log, request);
        if (str_eq(op, "close")) {
            shutdown(f->fd, SHUT_RDWR);
            break;
        }
        data = fake_data(f, op, json_object_get(request, "args"), &message);
        answer = json_pack("{sisIsbsisI}", "v", 1, "id", json_int(request, "id", 0), "ok", data != NULL, "changes", (int)f->staged, "head",
                           (json_int_t)1);
        if (data)
            json_put(answer, "data", data);
        else
            json_object_update_new(answer, json_pack("{sssssi}", "code", "E_INVALID", "message", message, "exit", 3));
        fake_send(f, answer);
    }
    return NULL;
}

static struct fake *fake_new(void)
{
    struct fake *f = xcalloc(1, sizeof(*f));
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        abort();
    f->fd = pair[0];
    f->client = pair[1];
    f->objects = json_object();
    f->log = json_array();
    pthread_create(&f->thread, NULL, fake_run, f);
    return f;
}

/* The session is closed: the thread sees the end of its input. */
static void fake_free(struct fake *f)
{
    pthread_join(f->thread, NULL);
    close(f->fd);
    json_decref(f->objects);
    json_decref(f->log);
    free(f);
}

/* An object with its defaults, and these settings: "use_tls=on". Before the session talks to the thread. */
static void fake_put(struct fake *f, const struct section *sec, const char *name, const char *field, const char *value)
{
    struct row *r = row_new(sec, name);

    if (field)
        row_set(r, field, value, NULL);
    json_object_set_new(f->objects, fake_key(sec->name, name), row_to_json(r));
    row_free(&r);
}

#endif
