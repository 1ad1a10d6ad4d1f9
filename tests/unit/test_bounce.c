/* Delivery reports as they are sent, byte for byte; and the stored forms of a message. */
#include "daemon/bounce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/message.h"
#include "store/base/str.h"
#include "tests/unit/cm.h"
#include "tests/unit/config_of.h"

static const char original[] =
    "Received: from client\r\nSubject: Hello\r\nFrom: <a@example.org>\r\n\r\nText.\r\n";

static struct message *message(void)
{
    struct message *m = message_new();

    m->mid = 511;
    m->received = 1700000000000000;
    m->sender = message_text(m, "sender@example.org");
    message_add_rcpt(m, "gone@example.com", NULL, 0);
    message_add_rcpt(m, "full@example.com", "rfc822;Full+40Sales@example.com",
                     NOTIFY_FAILURE | NOTIFY_DELAY);
    return m;
}

static struct bounce_profile profile = {
    .dsn_format = ANSWER_YES,
    .template = (char *)"",
    .alternate = (char *)"",
    .failure_subject = (char *)"Delivery Status Notification (Failure)",
    .delay_subject = (char *)"Delivery Status Notification (Delay)",
};

static struct bounce report(enum bounce_kind kind, const struct message *m,
                            const struct bounce_rcpt *rcpts, unsigned n)
{
    struct bounce b = {
        .kind = kind,
        .to = m->sender,
        .profile = &profile,
        .max_copy = 10240,
        .of = m,
        .rcpts = rcpts,
        .n = n,
        .hostname = "gw.example.net",
        .mid = 515,
        .now = 1700000300000000,
        .original = {original, sizeof(original) - 1},
        .original_whole = true
    };

    return b;
}

static char *text_of(const struct bounce *b)
{
    struct buf out = BUF_INIT(1u << 20);

    bounce_text(b, &out);
    assert_false(out.full);
    for (size_t i = 0; i < out.n; i++) /* nothing but CRLF ends a line */
        assert_true((out.p[i] == '\n') == (i > 0 && out.p[i - 1] == '\r'));
    return buf_take(&out);
}

static void failure(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpts[2] = {
        {&m->rcpts[0], "5.1.1", status_phrase("5.1.1"), 550,
         "no such user\nsee https://example.com/", "mx.example.com", "192.0.2.25"},
        {&m->rcpts[1], "5.4.7", status_phrase("5.4.7"), 0, "the message is too old", "", NULL},
    };
    struct bounce b = report(BOUNCE_FAILED, m, rcpts, 2);
    char *text;

    (void)state;
    m->envid = message_text(m, "QQ+2B314");
    text = text_of(&b);
    assert_string_equal(
        text,
        "Date: Tue, 14 Nov 2023 22:18:20 +0000\r\n"
        "From: \"Mail Delivery System\" <MAILER-DAEMON@gw.example.net>\r\n"
        "To: <sender@example.org>\r\n"
        "Subject: Delivery Status Notification (Failure)\r\n"
        "Message-ID: <dsn.515.60a2429ffe300@gw.example.net>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        " boundary=\"=_203.60a2429ffe300\"\r\n"
        "\r\n"
        "--=_203.60a2429ffe300\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "\r\n"
        "The following message to <gone@example.com> was undeliverable.\r\n"
        "The reason for the problem:\r\n"
        "5.1.1 - Bad destination email address 550-'no such user see https://example.com/'\r\n"
        "\r\n"
        "The following message to <full@example.com> was undeliverable.\r\n"
        "The reason for the problem:\r\n"
        "5.4.7 - Delivery expired (message too old) 'the message is too old'\r\n"
        "\r\n"
        "--=_203.60a2429ffe300\r\n"
        "Content-Type: message/delivery-status\r\n"
        "\r\n"
        "Reporting-MTA: dns; gw.example.net\r\n"
        "Original-Envelope-Id: QQ+314\r\n"
        "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        "\r\n"
        "Final-Recipient: rfc822; gone@example.com\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.example.com (192.0.2.25)\r\n"
        "Diagnostic-Code: smtp; 550 no such user see https://example.com/\r\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 22:18:20 +0000\r\n"
        "\r\n"
        "Original-Recipient: rfc822;Full@Sales@example.com\r\n"
        "Final-Recipient: rfc822; full@example.com\r\n"
        "Action: failed\r\n"
        "Status: 5.4.7\r\n"
        "Diagnostic-Code: X-Postern; the message is too old\r\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 22:18:20 +0000\r\n"
        "\r\n"
        "--=_203.60a2429ffe300\r\n"
        "Content-Type: message/rfc822\r\n"
        "\r\n"
        "Received: from client\r\n"
        "Subject: Hello\r\n"
        "From: <a@example.org>\r\n"
        "\r\n"
        "Text.\r\n"
        "\r\n"
        "--=_203.60a2429ffe300--\r\n");
    free(text);
    message_free(&m);
}

/* A binary message may hold anything, and its report goes by DATA: what one host takes for the end
 * of a line and the other not must not come along. */
static void binary(void **state)
{
    static const char *const headers[] = {"Subject: a\r.\r\r\n\r\nText.\r\n", "Subject: a\n.\nb\r\n\r\n",
                                          "Subject: a\n\n\r.\rMAIL FROM:<x@example.net>\r\n"};
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[0], "5.6.3", status_phrase("5.6.3"), 0, "binary", "", NULL};
    struct bounce b = report(BOUNCE_FAILED, m, &rcpt, 1);
    char *text;

    (void)state;
    m->flags |= MSG_BINARY;
    text = text_of(&b);
    assert_non_null(strstr(text, "Subject: Hello\r\n"));
    assert_null(strstr(text, "Text."));
    free(text);
    for (size_t i = 0; i < countof(headers); i++) {
        b.original = (struct slice){headers[i], strlen(headers[i])};
        text = text_of(&b);
        assert_null(strstr(text, "Subject: a"));
        for (const char *p = text; (p = strchr(p, '\r')); p++)
            assert_int_equal(p[1], '\n');
        free(text);
    }
    message_free(&m);
}

static void delay(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[1], "4.2.2",     status_phrase("4.2.2"),
                               452,          "try later", "mx.example.com", NULL};
    struct bounce b = report(BOUNCE_DELAYED, m, &rcpt, 1);
    char *text;

    (void)state;
    b.retry_until = m->received + (usec_t)259200 * 1000000;
    text = text_of(&b);
    assert_non_null(strstr(text, "Subject: Delivery Status Notification (Delay)\r\n"));
    assert_non_null(strstr(text, "has not been delivered yet; it will be tried again.\r\n"));
    assert_non_null(strstr(text, "Action: delayed\r\nStatus: 4.2.2\r\n"));
    assert_non_null(strstr(text, "Will-Retry-Until: Fri, 17 Nov 2023 22:13:20 +0000\r\n"));
    assert_non_null(
        strstr(text, "Content-Type: text/rfc822-headers\r\n\r\nReceived: from client\r\n"));
    assert_null(strstr(text, "Text.")); /* the header alone */
    free(text);
    message_free(&m);
}

static void relay(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[0], "2.1.5", status_phrase("2.1.5"),
                               250,          "ok",    "192.0.2.25", "192.0.2.25"};
    struct bounce b = report(BOUNCE_RELAYED, m, &rcpt, 1);
    char *text = text_of(&b);

    (void)state;
    assert_non_null(strstr(text, "was passed on to a system that does not send notifications"));
    assert_non_null(strstr(text, "Action: relayed\r\nStatus: 2.1.5\r\nRemote-MTA: dns; [192.0.2.25]\r\n"
                                 "Diagnostic-Code: smtp; 250 ok\r\n"));
    assert_null(strstr(text, "Text."));
    free(text);
    message_free(&m);
}

static void how_much_of_the_original(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[0], "5.1.1", "x", 550, "no", "", NULL};
    struct bounce b = report(BOUNCE_FAILED, m, &rcpt, 1);
    char *long_header = xmalloc(BOUNCE_HEADER + 1), *text;

    (void)state;
    m->flags = MSG_RET_HDRS;
    text = text_of(&b);
    assert_null(strstr(text, "Text."));
    assert_non_null(strstr(text, "text/rfc822-headers"));
    free(text);
    m->flags = MSG_RET_FULL;
    text = text_of(&b);
    assert_non_null(strstr(text, "Text."));
    free(text);
    b.original_whole = false; /* longer than what is copied */
    text = text_of(&b);
    assert_null(strstr(text, "Text."));
    free(text);

    memset(long_header, 'x', BOUNCE_HEADER); /* a header without an end is cut at the end of a line */
    memcpy(long_header, "X-A: ", 5);
    memcpy(long_header + 5000, "\r\nX-B: ", 7);
    b.original = (struct slice){long_header, BOUNCE_HEADER};
    text = text_of(&b);
    assert_non_null(strstr(text, "\r\n\r\nX-A: "));
    assert_null(strstr(text, "X-B"));
    free(text);
    b.original = (struct slice){NULL, 0}; /* not to be had */
    text = text_of(&b);
    assert_null(strstr(text, "rfc822-headers"));
    assert_non_null(strstr(text, "Action: failed"));
    free(text);
    free(long_header);
    message_free(&m);
}

static void eight_bit(void **state)
{
    static const char latin[] = "Subject: caf\xe9\r\n\r\n\xc3\xa9\r\n";
    struct message *m = message();
    struct bounce_rcpt rcpt = {
        &m->rcpts[0], "5.1.1", "x", 550, "nicht gefunden \xc3\xbc\x1b[2J", "", NULL};
    struct bounce b = report(BOUNCE_FAILED, m, &rcpt, 1);
    char *text;

    (void)state;
    text = text_of(&b); /* foreign text alone makes nothing 8-bit */
    assert_null(strstr(text, "8bit"));
    assert_null(strchr(text, '\x1b'));
    for (char *p = text; *p; p++)
        assert_true((unsigned char)*p < 128);
    assert_non_null(strstr(text, "Content-Transfer-Encoding: quoted-printable\r\n"));
    assert_non_null(strstr(text, "550-'nicht gefunden =C3=BC\\x1B[2J'\r\n"));
    assert_non_null(strstr(text, "Diagnostic-Code: smtp; 550 nicht gefunden ??\\x1B[2J\r\n"));
    free(text);
    b.original = (struct slice){latin, sizeof(latin) - 1};
    text = text_of(&b);
    assert_non_null(strstr(text, "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert_non_null(strstr(text, "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert_non_null(strstr(text, latin));
    free(text);
    message_free(&m);
}

/* RFC 6533: what goes to an address that needs SMTPUTF8 says everything as it is; what goes to another one has the
 * forms that need nothing, because nobody knows what is on its way. */
static void internationalized(void **state)
{
    static const char umlaut[] = "Subject: gr\xc3\xbc\xc3\x9f\r\n\r\nText.\r\n";
    struct message *m = message();
    struct bounce_rcpt rcpts[2] = {
        {NULL, "5.1.1", "x", 550, "nein \xc3\xbc", "mx.example.com", ""},
        {NULL, "5.1.1", "x", 550, "no", "mx.example.com", ""},
    };
    struct bounce b = report(BOUNCE_FAILED, m, rcpts, 2);
    char *text;

    (void)state;
    m->flags = MSG_SMTPUTF8;
    message_add_rcpt(m, "j\xc3\xb6rg@example.com", "utf-8;j\\x{F6}rg\\x{2B}a@example.com", NOTIFY_FAILURE);
    rcpts[0].rcpt = &m->rcpts[2];
    rcpts[1].rcpt = &m->rcpts[0];
    b.original = (struct slice){umlaut, sizeof(umlaut) - 1};
    text = text_of(&b);
    assert_false(bounce_is_utf8(&b));
    assert_non_null(strstr(text, "To: <sender@example.org>\r\n"));
    assert_non_null(strstr(text, "The following message to <j=C3=B6rg@example.com> was undeliverable.\r\n"));
    assert_non_null(strstr(text, "\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA"));
    assert_non_null(strstr(text, "Original-Recipient: utf-8;j\\x{F6}rg\\x{2B}a@example.com\r\n"
                                 "Final-Recipient: utf-8; j\\x{F6}rg@example.com\r\nAction"));
    assert_non_null(strstr(text, "Final-Recipient: rfc822; gone@example.com\r\n"));
    assert_non_null(strstr(text, "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: gr\xc3"));
    for (char *p = text; p < strstr(text, "message/global"); p++)
        assert_true((unsigned char)*p < 128);
    free(text);

    m->sender = message_text(m, "\xc3\xb6@example.org");
    b.to = m->sender;
    m->flags |= MSG_RET_HDRS;
    text = text_of(&b);
    assert_true(bounce_is_utf8(&b));
    assert_non_null(strstr(text, "To: <\xc3\xb6@example.org>\r\n"));
    assert_non_null(strstr(text, "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"));
    assert_non_null(strstr(text, "Original-Recipient: utf-8;j\xc3\xb6rg+a@example.com\r\n"
                                 "Final-Recipient: utf-8; j\xc3\xb6rg@example.com\r\n"));
    assert_non_null(strstr(text, "Diagnostic-Code: smtp; 550 nein \xc3\xbc\r\n"));
    assert_non_null(strstr(text, "Content-Type: message/global-headers\r\n"));
    free(text);
    message_free(&m);
}

/* No line of a report is longer than RFC 5321 section 4.5.3.1.6 allows, however long what hosts say is. */
static void long_lines(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[0], "5.1.1", "x", 550, NULL, "mx.example.com", ""};
    struct bounce b = report(BOUNCE_FAILED, m, &rcpt, 1);
    char *words = xmalloc(4001), *word = xmalloc(4001), *text;

    (void)state;
    for (int i = 0; i < 4000; i++) {
        words[i] = i % 7 ? 'w' : ' ';
        word[i] = i % 2 ? '\xbc' : '\xc3';
    }
    words[4000] = word[4000] = '\0';
    for (int way = 0; way < 4; way++) {
        profile.dsn_format = way & 1 ? ANSWER_NO : ANSWER_YES;
        rcpt.text = way & 2 ? word : words;
        text = text_of(&b);
        for (const char *p = text; *p; p = strchr(p, '\n') + 1)
            assert_true(strchr(p, '\n') - p < 998);
        if (!way)
            assert_non_null(strstr(text, "\r\nDiagnostic-Code: smtp; 550 wwwwww wwwwww wwwwww wwwwww wwwwww wwwwww wwwwww\r\n wwwwww"));
        free(text);
    }
    profile.dsn_format = ANSWER_YES;
    free(words);
    free(word);
    message_free(&m);
}

/* Who gave the message to us is told where our own trace line says so, and nobody else's. */
static void received_from(void **state)
{
    static const char ours[] = "Received: from client.example (host [192.0.2.1])\r\n\tby gw.example.net with ESMTP id "
                               "ICID9-MID511; now\r\nSubject: x\r\n\r\n",
                      theirs[] = "Received: from elsewhere.example (host [192.0.2.1])\r\n\tby other.example with ESMTP id "
                                 "ICID9-MID510; now\r\nSubject:  id ICID9-MID511\r\n\r\n",
                      forged[] = "Received: from \r\n\tby evil id ICID9-MID511; now\r\nSubject: x\r\n\r\n";
    struct message *m = message();
    struct bounce_rcpt rcpt = {&m->rcpts[0], "5.1.1", "x", 550, "no", "mx.example.com", ""};
    struct bounce b = report(BOUNCE_FAILED, m, &rcpt, 1);
    char *text;

    (void)state;
    m->icid = 9;
    b.original = (struct slice){ours, sizeof(ours) - 1};
    text = text_of(&b);
    assert_non_null(strstr(text, "\r\nReceived-From-MTA: dns; client.example\r\nArrival-Date:"));
    free(text);
    b.original = (struct slice){theirs, sizeof(theirs) - 1};
    text = text_of(&b);
    assert_null(strstr(text, "Received-From-MTA"));
    free(text);
    b.original = (struct slice){forged, sizeof(forged) - 1};
    text = text_of(&b);
    assert_null(strstr(text, "Received-From-MTA"));
    free(text);
    message_free(&m);
}

static void many_recipients(void **state)
{
    struct message *m = message();
    struct bounce_rcpt *rcpts = xcalloc(BOUNCE_RCPTS, sizeof(*rcpts));
    struct bounce b = report(BOUNCE_FAILED, m, rcpts, BOUNCE_RCPTS);
    unsigned n = 0;
    char *text;

    (void)state;
    for (unsigned i = 0; i < BOUNCE_RCPTS; i++)
        message_add_rcpt(m, "someone@example.com", NULL, 0);
    for (unsigned i = 0; i < BOUNCE_RCPTS; i++)
        rcpts[i] = (struct bounce_rcpt){&m->rcpts[2 + i], "5.1.1", "x", 550, "no", "", NULL};
    text = text_of(&b);
    for (const char *p = text; (p = strstr(p, "Final-Recipient: ")); p++)
        n++;
    assert_int_equal(n, BOUNCE_RCPTS);
    n = 0;
    for (const char *p = text; (p = strstr(p, "The following message to")); p++)
        n++;
    assert_int_equal(n, 100);
    assert_non_null(strstr(text, "The same goes for 400 more recipients"));
    free(text);
    free(rcpts);
    message_free(&m);
}

static void templates(void **state)
{
    struct message *m = message();
    struct bounce_rcpt rcpts[2] = {{&m->rcpts[0], "5.1.1", "Bad address", 550, "no", "mx.example.com", ""},
                                   {&m->rcpts[1], "5.2.2", "Mailbox full", 552, "full", "", NULL}};
    struct bounce b = report(BOUNCE_FAILED, m, rcpts, 2);
    char *text;

    (void)state;
    m->subject = message_text(m, "Hel\x1blo");
    b.template = "Gr\xc3\xbc\xc3\x9f" "e!\nYour $subject ($MID) to $BouncedRecipient of $EnvelopeSender, $Date $GMTTimestamp:\n"
                 "$BounceReason\n$RemoteHost $HostName $Time $Nothing $";
    text = text_of(&b);
    assert_non_null(strstr(text, "charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
                                 "Gr=C3=BC=C3=9Fe!\r\n"
                                 "Your Hel\\x1Blo (511) to gone@example.com, full@example.com of sender@exampl=\r\n"
                                 "e.org, 11/14/2023 Tue, 14 Nov 2023 22:18:20 +0000:\r\n"
                                 "5.1.1 - Bad address 550-'no'\r\n"
                                 "5.2.2 - Mailbox full 552-'full'\r\n"
                                 "mx.example.com, none gw.example.net 22:18:20 UTC $Nothing $\r\n\r\n--="));
    assert_null(strstr(text, "The following message"));
    free(text);
    b.kind = BOUNCE_DELAYED; /* has its own words */
    text = text_of(&b);
    assert_non_null(strstr(text, "The following message"));
    free(text);
    message_free(&m);
}

static void languages(void **state)
{
    static const struct object settings[] = {
        {&section_bounce_template, "Plain",  "text=plain"},
        {&section_bounce_template, "German", "text=deutsch"},
        {&section_bounce_template, "Swiss",  "text=schweizerdeutsch"},
        {&section_bounce_profile,  "P",      "template=Plain|language_templates=de-CH:Swiss, de:German, fr:Gone"},
        {&section_bounce_profile,  "Q",      ""},
    };
    static const struct {
        const char *header, *text;
    } cases[] = {
        {"Subject: x\r\n\r\nContent-Language: de\r\n", "plain"},
        {"Subject: x\r\ncontent-language: de\r\n\r\n", "deutsch"},
        {"Content-Language: DE-at\r\n", "deutsch"},
        {"Content-Language: de-CH\r\n", "schweizerdeutsch"},
        {"Content-Language: den\r\n", "plain"},
        {"Accept-Language: en;q=0.9, \tde;q=0.5\r\nX: y\r\n", "deutsch"},
        {"Accept-Language: de\r\nContent-Language: en, de-CH\r\n", "schweizerdeutsch"},
        {"Content-Language: , ,;,\r\n", "plain"},
        {"", "plain"},
    };
    struct config *none = config_new(), *cfg = config_of(none, settings, countof(settings));

    (void)state;
    for (size_t i = 0; i < countof(cases); i++)
        assert_string_equal(
            bounce_template_for(cfg, CONFIG_GET(cfg, bounce_profile, "P"), slice_of(cases[i].header)), cases[i].text);
    assert_null(bounce_template_for(cfg, CONFIG_GET(cfg, bounce_profile, "P"), slice_of("Content-Language: fr\r\n")));
    assert_null(bounce_template_for(cfg, CONFIG_GET(cfg, bounce_profile, "Q"), slice_of("Content-Language: de\r\n")));
    config_free(&cfg);
    config_free(&none);
}

static void wanted(void **state)
{
    static const struct {
        unsigned notify;
        bool failed, delayed, relayed;
    } cases[] = {
        {0,                                            true,  true,  false},
        {NOTIFY_NEVER,                                 false, false, false},
        {NOTIFY_FAILURE,                               true,  false, false},
        {NOTIFY_DELAY,                                 false, true,  false},
        {NOTIFY_SUCCESS,                               false, false, true },
        {NOTIFY_SUCCESS | NOTIFY_FAILURE,              true,  false, true },
        {NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, true, true, true },
    };
    struct bounce_profile on = {.send_bounces = ANSWER_YES, .delay_warnings = ANSWER_YES},
                          off = {.send_bounces = ANSWER_NO, .delay_warnings = ANSWER_NO};

    (void)state;
    for (size_t i = 0; i < countof(cases); i++) {
        struct rcpt r = {.notify = (unsigned char)cases[i].notify};

        assert_int_equal(bounce_wanted(&on, &r, BOUNCE_FAILED), cases[i].failed);
        assert_int_equal(bounce_wanted(&on, &r, BOUNCE_DELAYED), cases[i].delayed);
        assert_int_equal(bounce_wanted(&on, &r, BOUNCE_RELAYED), cases[i].relayed);
        assert_false(bounce_wanted(&off, &r, BOUNCE_FAILED));
        assert_false(bounce_wanted(&off, &r, BOUNCE_DELAYED));
        assert_int_equal(bounce_wanted(&off, &r, BOUNCE_RELAYED), cases[i].relayed); /* asked for by the sender alone */
    }
}

static void phrases(void **state)
{
    (void)state;
    assert_string_equal(status_phrase("5.1.1"), "Bad destination email address");
    assert_string_equal(status_phrase("4.3.1"), "Mail system full");
    assert_string_equal(status_phrase("5.1.0"), "Unknown address error");
    assert_string_equal(status_phrase("5.99.99"), "Unknown address error");
    assert_string_equal(status_phrase(""), "Unknown address error");
}

static void stored_forms(void **state)
{
    struct buf envelope = BUF_INIT(1u << 20), states = BUF_INIT(1u << 20);
    struct message *m = message(), *back;
    struct err err = {0};

    (void)state;
    m->icid = 77;
    m->flags = MSG_8BIT | MSG_RET_HDRS;
    m->subject = message_text(m, "caf\xe9");
    m->bounce_profile = message_text(m, "Default");
    for (unsigned i = 0; i < 300; i++) {
        char address[40];

        snprintf(address, sizeof(address), "user%u@example.com", i);
        message_add_rcpt(m, address, NULL, i % 16);
    }
    message_encode(m, &envelope);
    back =
        message_decode(511, (struct slice){envelope.p, envelope.n}, (struct slice){NULL, 0}, &err);
    assert_non_null(back);
    assert_int_equal(back->mid, 511);
    assert_int_equal(back->icid, 77);
    assert_int_equal(back->received, m->received);
    assert_int_equal(back->flags, m->flags);
    assert_string_equal(back->sender, "sender@example.org");
    assert_string_equal(back->subject, "caf\xe9");
    assert_string_equal(back->bounce_profile, "Default");
    assert_null(back->envid);
    assert_int_equal(back->nrcpts, 302);
    assert_string_equal(back->rcpts[1].orcpt, "rfc822;Full+40Sales@example.com");
    assert_null(back->rcpts[0].orcpt);
    assert_string_equal(back->rcpts[301].address, "user299@example.com");
    assert_int_equal(back->rcpts[301].notify, 299 % 16);
    assert_int_equal(back->rcpts[301].state, RCPT_QUEUED);
    message_free(&back);

    m->rcpts[5].state = RCPT_DELIVERED;
    m->rcpts[6].attempts = 70000;
    m->rcpts[6].next_try = 1700000000123456;
    m->rcpts[6].last_error = xstrdup("450 4.2.1 busy");
    m->rcpts[6].warnings = 2;
    message_encode_state(m, &states);
    back = message_decode(511, (struct slice){envelope.p, envelope.n},
                          (struct slice){states.p, states.n}, &err);
    assert_non_null(back);
    assert_int_equal(back->rcpts[5].state, RCPT_DELIVERED);
    assert_int_equal(back->rcpts[6].attempts, 70000);
    assert_int_equal(back->rcpts[6].next_try, 1700000000123456);
    assert_string_equal(back->rcpts[6].last_error, "450 4.2.1 busy");
    assert_int_equal(back->rcpts[6].warnings, 2);
    message_free(&back);

    m->redirect = message_text(m, "[192.0.2.1]:2525"); /* stands before the recipients */
    buf_reset(&states);
    message_encode_state(m, &states);
    back = message_decode(511, (struct slice){envelope.p, envelope.n},
                          (struct slice){states.p, states.n}, &err);
    assert_non_null(back);
    assert_string_equal(back->redirect, "[192.0.2.1]:2525");
    assert_int_equal(back->rcpts[6].attempts, 70000);
    message_free(&back);

    /* Cut anywhere, or with something behind: refused, never read beyond its end. */
    for (size_t n = 0; n < envelope.n; n++) {
        char *exact = xmalloc(n ? n : 1);

        memcpy(exact, envelope.p, n);
        memset(&err, 0, sizeof(err));
        assert_null(message_decode(511, (struct slice){exact, n}, (struct slice){NULL, 0}, &err));
        assert_int_equal(err.code, E_IO);
        free(exact);
    }
    for (size_t n = 1; n < states.n; n++)
        assert_null(message_decode(511, (struct slice){envelope.p, envelope.n},
                                   (struct slice){states.p, n}, &err));
    buf_char(&envelope, 'x');
    assert_null(
        message_decode(511, (struct slice){envelope.p, envelope.n}, (struct slice){NULL, 0}, &err));
    buf_free(&envelope);
    buf_free(&states);
    message_free(&m);
}

static void domains(void **state)
{
    (void)state;
    assert_string_equal(address_domain("a@b.example"), "b.example");
    assert_string_equal(address_domain("\"a@c\"@b.example"), "b.example");
    assert_string_equal(address_domain("postmaster"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure),      cmocka_unit_test(binary), cmocka_unit_test(delay),
        cmocka_unit_test(relay),        cmocka_unit_test(how_much_of_the_original),
        cmocka_unit_test(eight_bit),    cmocka_unit_test(phrases),
        cmocka_unit_test(internationalized), cmocka_unit_test(long_lines),
        cmocka_unit_test(received_from), cmocka_unit_test(many_recipients),
        cmocka_unit_test(templates),    cmocka_unit_test(languages),
        cmocka_unit_test(wanted),
        cmocka_unit_test(stored_forms), cmocka_unit_test(domains),
    };

    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
