/* smtp_parse.h - pure parsers for commands, paths, parameters and replies (RFC 5321, 1870, 3461,
 * 4954, 6152, 6531). They read borrowed bytes, keep nothing and allocate nothing (but for names in other
 * scripts, which libidn2 converts). Any thread. */
#ifndef POSTERN_SMTP_PARSE_H
#define POSTERN_SMTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"

#define SMTP_COMMAND_MAX 510 /* without CRLF; RFC 5321 section 4.5.3.1.4 */
#define SMTP_COMMAND_LONG_MAX 1600 /* MAIL and RCPT with their extensions' parameters */
#define SMTP_AUTH_LINE_MAX 12286 /* AUTH and the responses in it; RFC 4954 section 4, without CRLF */
#define SMTP_LOCAL_MAX 128 /* the RFC demands 64; bounce addresses made by machines are longer */
#define SMTP_DOMAIN_MAX 253
#define SMTP_ADDRESS_MAX (SMTP_LOCAL_MAX + 1 + SMTP_DOMAIN_MAX)

struct smtp_refusal { /* why something was not accepted, as a reply */
    int code;
    const char *enhanced; /* "5.5.4" */
    char text[200]; /* what came from outside is escaped */
};

/* An address without source route and without needless quotes, the domain in lower-case A-labels.
 */
struct smtp_path {
    char address[SMTP_ADDRESS_MAX + 1]; /* "" for <>; without "@" when there was no domain */
    unsigned local_len; /* bytes of the local part in address, quotes included */
    bool literal; /* the domain is an address literal: "[192.0.2.1]", "[IPv6:2001:db8::1]" */
    bool utf8; /* needs SMTPUTF8 */
};
const char *smtp_path_domain(const struct smtp_path *p); /* "" when there is none */

struct smtp_mail {
    struct smtp_path from;
    uint64_t size; /* 0: not declared */
    bool esmtp; /* there were parameters */
    bool eightbit, binary, smtputf8;
    char ret; /* 'F', 'H', 0 */
    struct slice envid; /* still in xtext; n == 0: none */
    bool has_auth; /* AUTH=, RFC 4954 section 5: "<>" or an address in xtext; who relays for whom is not believed */
};

struct smtp_rcpt {
    struct smtp_path to;
    bool esmtp;
    unsigned notify; /* SMTP_NOTIFY_*, 0: not given */
    struct slice orcpt; /* "rfc822;user+40example.com", still in xtext; n == 0: none */
    bool orcpt_utf8; /* it has bytes above 127, which need SMTPUTF8 (RFC 6533 section 3) */
};
enum {
    SMTP_NOTIFY_NEVER = 1,
    SMTP_NOTIFY_SUCCESS = 2,
    SMTP_NOTIFY_FAILURE = 4,
    SMTP_NOTIFY_DELAY = 8
};

/* Splits at the first blank; verb has only letters (n == 0: the line does not begin with one). */
void smtp_split_command(struct slice line, struct slice *verb, struct slice *args);

/* args of MAIL: "FROM:<path> PARAMETERS"; of RCPT: "TO:<path> PARAMETERS". */
bool smtp_parse_mail(struct slice args, struct smtp_mail *out, struct smtp_refusal *why);
bool smtp_parse_rcpt(struct slice args, struct smtp_rcpt *out, struct smtp_refusal *why);

/* A path at the front of *in, which is moved behind it. Brackets may be missing (old clients). */
bool smtp_parse_path(struct slice *in, struct smtp_path *out, struct smtp_refusal *why);

/* The name in HELO or EHLO: a domain or an address literal, loosely; never anything that could
 * disturb a header. */
bool smtp_parse_helo(struct slice args, char *out, size_t size);

/* RFC 3461 section 4. -1: not xtext, or it does not fit; else the bytes written before the NUL. */
int smtp_xtext_decode(struct slice in, char *out, size_t size);
void smtp_xtext_encode(struct buf *out, const char *s);

/* What follows "utf-8;" in ORCPT and in reports, RFC 6533 section 3: UTF-8, or ASCII with "\x{F6}" in it, which decode
 * turns into UTF-8. false: it is neither. encode writes the form of ASCII alone (utf-8-addr-xtext). */
bool smtp_utf8_address_decode(struct slice in, struct buf *out);
void smtp_utf8_address_encode(struct buf *out, const char *s);

/* A server's reply, fed line by line. */
struct smtp_reply {
    int code; /* 0 before the first line */
    char enhanced[12]; /* "4.7.1", "" when there is none */
    char text[1000]; /* the lines' texts without enhanced codes, separated by "\n"; cut when longer
                      */
    size_t text_len;
    unsigned lines;
};
enum smtp_reply_state { SMTP_REPLY_MORE, SMTP_REPLY_DONE, SMTP_REPLY_BAD };
enum smtp_reply_state smtp_reply_feed(struct smtp_reply *r,
                                      struct slice line); /* zero r before the first line */

#endif
