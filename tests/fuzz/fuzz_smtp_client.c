/* fuzz_smtp_client.c - the client's side of a session against a server that says anything at all.
 * Its bytes lie in the socket before the client begins. Whatever they are: every recipient gets a
 * result, lines are lines, and the message is sent only after a 354. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/smtp_client.h"
#include "store/base/log.h"
#include "store/base/str.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char home[] = "/tmp/postern-fuzz-XXXXXX";
static struct message *message;

static void remove_home(void)
{
    char *command = xasprintf("rm -rf %s", home);

    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", home);
    free(command);
}

static void no_log(enum log_level level, const char *text)
{
    (void)level;
    (void)text;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char text[] = "Subject: x\r\n\r\n.secret\r\nsecret\r\n";
    struct body_writer *w = body_create();
    struct err err = {0};

    (void)argc;
    (void)argv;
    log_set_sink(no_log);
    if (!mkdtemp(home) || !spool_open(home, &err))
        abort();
    spool_ready(true);
    atexit(remove_home);
    message = message_new();
    message->sender = message_text(message, "a@example.org");
    message->envid = message_text(message, "QQ");
    message->flags = MSG_8BIT | MSG_RET_FULL;
    for (int i = 0; i < 3; i++)
        message_add_rcpt(message, "b@example.com", i ? "rfc822;c@example.com" : NULL, i * 6u);
    if (!body_append(w, text, sizeof(text) - 1, &err))
        abort();
    message->body = body_finish(&w, &err);
    return 0;
}

static void check_said(int fd, const char *server, size_t n)
{
    char said[65536];
    ssize_t got = recv(fd, said, sizeof(said), MSG_DONTWAIT);

    for (ssize_t i = 0; i < got; i++)
        assert((said[i] == '\n') == (i > 0 && said[i - 1] == '\r'));
    if (got > 0 && memmem(said, (size_t)got, "secret", 6)) {
        assert(memmem(server, n, "354", 3));
        assert(memmem(said, (size_t)got, "\r\n..secret\r\nsecret\r\n.\r\n", 23));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rcpt_result results[3] = {0};
    const unsigned rids[3] = {0, 1, 2};
    struct smtp_reply refusal;
    struct err err = {0};
    struct addr peer = {0}, local;
    struct client *c;
    int fds[2];

    if (size > 60000 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        return 0;
    if (size && send(fds[1], data, size, MSG_DONTWAIT) != (ssize_t)size)
        abort();
    shutdown(fds[1], SHUT_WR);
    c = client_greet(conn_new(fds[0]), "mx.example.com", &peer, 1, NEVER, &local, &refusal, &err);
    if (c && client_hello(c, "gw.example.net", &err)) {
        for (int k = 0; k < 2 && !c->closing; k++) {
            memset(results, 0, sizeof(results));
            client_transaction(c, message, message->sender, rids, 3, results, &err);
            for (int i = 0; i < 3; i++) {
                assert(results[i].text);
                assert(results[i].outcome != OUTCOME_DONE || results[i].code / 100 == 2);
                free(results[i].text);
            }
        }
    }
    client_free(&c);
    check_said(fds[1], (const char *)data, size);
    close(fds[1]);
    return 0;
}
