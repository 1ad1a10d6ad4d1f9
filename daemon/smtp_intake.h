/* smtp_intake.h - the scanner of message content: finds the end of the data, undoes dot stuffing,
 * refuses what is no message, gathers a few facts of the header. It does no input or output of its
 * own. */
#ifndef POSTERN_SMTP_INTAKE_H
#define POSTERN_SMTP_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMTP_TEXT_LINE_MAX                                                                         \
    65536 /* RFC 5321 section 4.5.3.1.6 says 998; mail in the wild says otherwise */

enum smtp_fault { /* the first one found decides; the rest of the data is read and forgotten */
                  FAULT_NONE,
                  FAULT_BARE_LF,
                  FAULT_BARE_CR,
                  FAULT_NUL,
                  FAULT_LONG_LINE,
                  FAULT_SIZE,
                  FAULT_HEADERS, /* too many header lines */
                  FAULT_LOOP, /* too many Received: fields */
                  FAULT_STORE, /* the spool refused */
};

struct smtp_intake {
    /* to be set before the first byte */
    void (*store)(struct smtp_intake *in, const char *p, size_t n); /* may call smtp_intake_fault */
    void (*header_end)(
        struct smtp_intake *in); /* before the first byte behind the header; may store */
    uint64_t max_size;
    unsigned max_header_lines, max_received; /* 0: unlimited */
    bool want_8bit; /* look for bytes above 127 */
    bool chunked; /* BDAT (RFC 3030): no dots are undone, the end is said by smtp_intake_finish */
    bool binary; /* BINARYMIME: any bytes in lines of any length */

    /* what was found */
    enum smtp_fault fault;
    uint64_t size;
    unsigned received, header_lines;
    bool has_8bit, has_message_id, has_date, has_subject;
    char message_id[300], subject[201];
    bool ended;
    bool stalled; /* the data ends in something that another program would take for its end */

    /* private */
    size_t looked; /* bytes at the front of the next chunk that were examined before */
    enum { FIELD_NONE, FIELD_SUBJECT, FIELD_MESSAGE_ID } field; /* that a folded line continues */
    bool in_header, mid_line, after_crlf;
};

void smtp_intake_start(struct smtp_intake *in); /* zeroes all but the first group */
/* Takes what it can of the buffered data and returns how much; what is left is the beginning of a
 * line (more of it is needed) or, when ended is set, what follows the message. */
size_t smtp_intake_feed(struct smtp_intake *in, const char *p, size_t n);
/* Chunked: what feed has left is the end of the message. */
void smtp_intake_finish(struct smtp_intake *in, const char *p, size_t n);
void smtp_intake_fault(struct smtp_intake *in, enum smtp_fault fault); /* if it is the first */

#endif
