/* fuzz_smtp_parse.c - the parsers of daemon/smtp_parse.c. The first byte chooses; what was accepted
 * has to hold: an address is its own canonical form, clean enough for a reply, a header and a log.
 */
#include "daemon/smtp_parse.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const struct smtp_path *p)
{
    char again[SMTP_ADDRESS_MAX + 3];
    struct smtp_path second;
    struct smtp_refusal why;
    struct slice in;

    assert(strlen(p->address) <= SMTP_ADDRESS_MAX && p->local_len <= strlen(p->address));
    assert(!strpbrk(p->address, "\r\n\t"));
    assert(str_is_utf8(p->address, strlen(p->address)));
    snprintf(again, sizeof(again), "<%s>", p->address);
    in = slice_of(again);
    if (!smtp_parse_path(&in, &second, &why)) {
        fprintf(stderr, "%s: %s\n", again, why.text);
        abort();
    }
    assert(in.n == 0 && str_eq(p->address, second.address) && p->local_len == second.local_len);
}

static void check_refusal(const struct smtp_refusal *why)
{
    assert(why->code >= 400 && why->code < 600 && why->enhanced && why->text[0]);
    assert(strlen(why->text) < sizeof(why->text) && !strpbrk(why->text, "\r\n"));
}

static void feed_reply(struct slice in)
{
    struct smtp_reply r = {0};

    while (in.n) {
        const char *end = memchr(in.p, '\n', in.n);
        struct slice line = {in.p, end ? (size_t)(end - in.p) : in.n};

        in.p += line.n + (end != NULL);
        in.n -= line.n + (end != NULL);
        if (smtp_reply_feed(&r, line) == SMTP_REPLY_BAD)
            break;
        assert(r.code >= 200 && r.code < 600 && strlen(r.enhanced) < sizeof(r.enhanced));
        assert(r.text_len < sizeof(r.text) && r.text[r.text_len] == '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data + 1, size - 1}, verb, args;
    struct smtp_refusal why = {0};
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
    char text[600];

    if (size < 1)
        return 0;
    switch (data[0] % 6) {
    case 0:
        if (!smtp_parse_mail(in, &mail, &why)) {
            check_refusal(&why);
        } else {
            check_path(&mail.from);
            assert(!mail.from.utf8 || mail.smtputf8);
            assert(mail.envid.n <= 100);
        }
        break;
    case 1:
        if (!smtp_parse_rcpt(in, &rcpt, &why)) {
            check_refusal(&why);
        } else {
            check_path(&rcpt.to);
            assert(rcpt.to.address[0] && rcpt.orcpt.n <= 500);
        }
        break;
    case 2:
        smtp_split_command(in, &verb, &args);
        assert(verb.n <= in.n && args.n <= in.n - verb.n);
        break;
    case 3:
        if (smtp_parse_helo(in, text, 256))
            assert(!strpbrk(text, " \r\n()<>\\\"") && strlen(text) == in.n);
        break;
    case 4:
        if (smtp_xtext_decode(in, text, sizeof(text)) >= 0) {
            AUTO(buf) struct buf b = BUF_INIT(4096);
            char again[600];

            smtp_xtext_encode(&b, text);
            assert(smtp_xtext_decode((struct slice){buf_str(&b), b.n}, again, sizeof(again)) >= 0);
            assert(str_eq(text, again));
        }
        break;
    default:
        feed_reply(in);
    }
    return 0;
}
