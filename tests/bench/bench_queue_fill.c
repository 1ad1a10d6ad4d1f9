/* bench_queue_fill.c - a queue of any size in a moment: writes rows and bodies as the daemon would,
 * into the home of a gateway that is not running.
 *
 *     bench_queue_fill --home DIR --messages N [--domains D] [--due]
 *
 * Message k goes to u@d<k mod D>.bench.example from s<k mod 100>@client.bench.example, has 1 KiB and
 * was tried once; its next attempt is in a day, with --due it has none behind it. Prints the
 * seconds it took. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/message.h"
#include "daemon/spool.h"
#include "store/base/str.h"

#define BODY 1024

static void fail(const char *what)
{
    fprintf(stderr, "bench_queue_fill: %s\n", what);
    exit(1);
}

static void text_of(unsigned long k, char out[BODY])
{
    int n = snprintf(out, BODY, "From: <s@client.bench.example>\r\nSubject: queued %lu\r\nX-Bench-Id: q%lu\r\n\r\n", k, k);

    memset(out + n, 'x', (size_t)(BODY - n));
    for (int at = n + 70; at + 2 < BODY; at += 72)
        memcpy(out + at, "\r\n", 2);
    memcpy(out + BODY - 2, "\r\n", 2);
}

static struct body *store(const char *text)
{
    struct body_writer *w = body_create();
    struct body *b = NULL;

    if (body_append(w, text, BODY, NULL))
        b = body_finish(&w, NULL);
    if (!b)
        fail("the spool takes nothing");
    return b;
}

int main(int argc, char **argv)
{
    unsigned long messages = 1000, domains = 1000, first = 1000000;
    const char *home = NULL;
    bool due = false;
    static char path[4000], text[BODY];
    char address[100];
    sqlite3 *db;
    sqlite3_stmt *s;
    struct timespec begin, end;
    struct err err = {0};
    unsigned failures = spool_failures();
    usec_t now = clock_wall();

    for (int i = 1; i < argc; i++) {
        if (str_eq(argv[i], "--home") && i + 1 < argc)
            home = argv[++i];
        else if (str_eq(argv[i], "--messages") && i + 1 < argc)
            messages = strtoul(argv[++i], NULL, 10);
        else if (str_eq(argv[i], "--domains") && i + 1 < argc)
            domains = strtoul(argv[++i], NULL, 10);
        else if (str_eq(argv[i], "--due"))
            due = true;
        else
            fail("--home DIR --messages N [--domains D] [--due]");
    }
    if (!home || !domains)
        fail("--home is missing");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    snprintf(path, sizeof(path), "%s/spool", home);
    if (!spool_open(path, &err))
        fail(err.text);
    spool_ready(true);
    snprintf(path, sizeof(path), "%s/queue.db", home);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE; BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "INSERT INTO message VALUES (?1, ?2, ?3, ?4)", -1, &s, NULL) != SQLITE_OK)
        fail("there is no queue.db: start a gateway there once");
    for (unsigned long k = 0; k < messages; k++) {
        struct buf body = BUF_INIT(4096), envelope = BUF_INIT(4096), state = BUF_INIT(4096);
        struct message *m = message_new();

        text_of(k, text);
        m->mid = first + k;
        m->icid = 1;
        m->received = now - (usec_t)(messages - k);
        snprintf(address, sizeof(address), "s%lu@client.bench.example", k % 100);
        m->sender = message_text(m, address);
        snprintf(address, sizeof(address), "queued %lu", k);
        m->subject = message_text(m, address);
        m->bounce_profile = message_text(m, "Default");
        snprintf(address, sizeof(address), "u@d%lu.bench.example", k % domains);
        message_add_rcpt(m, address, NULL, 0);
        if (!due) {
            m->rcpts[0].attempts = 1;
            m->rcpts[0].next_try = now + 86400 * (usec_t)1000000 + (usec_t)(k % 10000) * 1000000;
            m->rcpts[0].last_error = xstrdup("Connection refused");
        }
        m->body = store(text);
        body_encode(m->body, &body);
        message_encode(m, &envelope);
        message_encode_state(m, &state);
        sqlite3_bind_int64(s, 1, (sqlite3_int64)m->mid);
        sqlite3_bind_blob(s, 2, body.p, (int)body.n, SQLITE_STATIC);
        sqlite3_bind_blob(s, 3, envelope.p, (int)envelope.n, SQLITE_STATIC);
        sqlite3_bind_blob(s, 4, due ? NULL : state.p, due ? 0 : (int)state.n, SQLITE_STATIC);
        if (sqlite3_step(s) != SQLITE_DONE)
            fail(sqlite3_errmsg(db));
        sqlite3_reset(s);
        message_free(&m);
        buf_free(&body);
        buf_free(&envelope);
        buf_free(&state);
    }
    sqlite3_finalize(s);
    if (!spool_sync(&failures, &err))
        fail(err.text);
    if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        fail(sqlite3_errmsg(db));
    sqlite3_close(db);
    spool_close();
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.2f\n", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    return 0;
}
