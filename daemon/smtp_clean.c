/* smtp_clean.c - see smtp_clean.h. */
#include "daemon/smtp_clean.h"

#include <string.h>

void smtp_clean_start(struct smtp_clean *c, bool chunked)
{
    *c = (struct smtp_clean){.chunked = chunked, .at = CLEAN_AFTER_CRLF};
}

/* What the byte after a CR, or after a dot that began a line, decides; false: it is looked at again. */
static bool decide(struct smtp_clean *c, char byte, struct buf *out)
{
    bool lf = byte == '\n';

    switch (c->at) {
    case CLEAN_CR:
        buf_add(out, "\r\n", 2);
        c->at = lf ? CLEAN_AFTER_CRLF : CLEAN_AFTER_BARE;
        return lf;
    case CLEAN_DOT_CR:
        buf_add(out, lf ? ".\r\n" : "..\r\n", lf ? 3 : 4);
        c->ended = lf;
        c->at = CLEAN_AFTER_BARE;
        return lf;
    default: /* CLEAN_DOT */
        if (byte == '\r') {
            c->at = CLEAN_DOT_CR;
            return true;
        }
        buf_add(out, lf ? "..\r\n" : ".", lf ? 4 : 1);
        c->at = lf ? CLEAN_AFTER_BARE : CLEAN_IN_LINE;
        return lf;
    }
}

size_t smtp_clean_feed(struct smtp_clean *c, const char *p, size_t n, struct buf *out)
{
    size_t i = 0, begin;

    while (i < n && !c->ended) {
        if (c->at >= CLEAN_CR) {
            i += decide(c, p[i], out);
        } else if (p[i] == '.' && c->at != CLEAN_IN_LINE && !c->chunked) {
            if (c->at == CLEAN_AFTER_BARE)
                buf_add(out, "..", 2);
            c->at = c->at == CLEAN_AFTER_BARE ? CLEAN_IN_LINE : CLEAN_DOT;
            i++;
        } else if (p[i] == '\r') {
            c->at = CLEAN_CR;
            i++;
        } else if (p[i] == '\n') {
            buf_add(out, "\r\n", 2);
            c->at = CLEAN_AFTER_BARE;
            i++;
        } else {
            for (begin = i; i < n && p[i] != '\r' && p[i] != '\n'; i++)
                ;
            buf_add(out, p + begin, i - begin);
            c->at = CLEAN_IN_LINE;
        }
    }
    return i;
}

void smtp_clean_finish(struct smtp_clean *c, struct buf *out)
{
    if (c->at == CLEAN_CR)
        buf_add(out, "\r\n", 2);
    c->at = CLEAN_AFTER_BARE;
}
