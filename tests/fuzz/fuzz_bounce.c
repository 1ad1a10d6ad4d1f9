/* fuzz_bounce.c - a report about anything: what a host said, whom a message was for, how it begins. Whatever it is, the
 * report's lines end in CRLF and are short enough, its own parts are ASCII, and nothing in it ends it early. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bounce.h"
#include "daemon/smtp_parse.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Up to the next NUL, as a string of its own. */
static char *next(const uint8_t **p, size_t *n)
{
    size_t length = strnlen((const char *)*p, *n);
    char *text = xstrndup((const char *)*p, length);

    *p += length + (length < *n);
    *n -= length + (length < *n);
    return text;
}

static bool lines_are_whole(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!p[i] || (p[i] == '\n') != (i > 0 && p[i - 1] == '\r'))
            return false;
    return !n || p[n - 1] != '\r';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bounce_profile profile = {.dsn_format = ANSWER_YES,
                                     .failure_subject = (char *)"Failure",
                                     .delay_subject = (char *)"Delay",
                                     .template = (char *)"",
                                     .alternate = (char *)""};
    struct bounce_rcpt rcpt = {.status = "5.1.1", .phrase = "no", .code = 550, .address = "192.0.2.1"};
    struct bounce b = {.profile = &profile, .hostname = "gw.example", .max_copy = 10240, .n = 1, .now = 1, .rcpts = &rcpt};
    struct message *m;
    struct buf out = BUF_INIT(8u << 20);
    unsigned how = size ? *data : 0;
    char *orcpt, *reply, *address, *template;
    struct smtp_refusal why;
    struct smtp_rcpt parsed;
    struct config *cfg;
    size_t from = 0;

    if (size > 20000 || !size)
        return 0;
    m = message_new();
    data++;
    size--;
    address = next(&data, &size);
    orcpt = next(&data, &size);
    reply = next(&data, &size);
    template = next(&data, &size);
    b.kind = how % 3;
    profile.dsn_format = how & 4 ? ANSWER_NO : ANSWER_YES;
    m->flags = how & 8 ? MSG_SMTPUTF8 : 0;
    m->sender = message_text(m, how & 16 ? "\xc3\xb6@example.org" : "a@example.org");
    m->subject = message_text(m, reply);
    message_add_rcpt(m, str_is_utf8(address, strlen(address)) && strlen(address) < 400 ? address : "x@example.com", NULL, 0);
    /* ORCPT and ENVID only as the server takes them */
    {
        char *args = xasprintf("TO:<a@b.example> ORCPT=%s", orcpt);

        if (smtp_parse_rcpt(slice_of(args), &parsed, &why) && parsed.orcpt.n)
            m->rcpts[0].orcpt = arena_slice(&m->arena, parsed.orcpt);
        free(args);
    }
    rcpt.rcpt = &m->rcpts[0];
    rcpt.text = reply;
    rcpt.remote = how & 32 ? "2001:db8::1" : "mx.example.com";
    for (char *c = template; *c; c++)
        if ((unsigned char)*c < ' ' && *c != '\n')
            *c = ' '; /* the configuration has no others */
    if (how & 64 && str_is_utf8(template, strlen(template)))
        b.template = template;
    b.of = m;
    b.to = m->sender;
    b.original = (struct slice){(const char *)data, size};
    b.original_whole = true;
    if (how & 128 || !lines_are_whole(b.original.p, b.original.n))
        m->flags |= MSG_BINARY; /* the server takes such lines only so */
    bounce_text(&b, &out);
    assert(!out.full && out.n);
    for (size_t i = 0; i < out.n; i++) {
        assert((out.p[i] == '\n') == (i > 0 && out.p[i - 1] == '\r'));
        if (out.p[i] != '\n')
            continue;
        assert(i - from < 1000 || i + b.original.n + 100 > out.n); /* the copy may have any lines */
        from = i + 1;
    }
    if (!bounce_is_utf8(&b) && !b.original.n)
        for (size_t i = 0; i < out.n; i++)
            assert((unsigned char)out.p[i] < 128);
    buf_free(&out);
    cfg = config_new();
    profile.template = (char *)"None";
    bounce_template_for(cfg, &profile, b.original);
    config_free(&cfg);
    message_free(&m);
    free(address);
    free(orcpt);
    free(reply);
    free(template);
    return 0;
}
