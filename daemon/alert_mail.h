/* alert_mail.h - who gets an alert, and what it looks like as mail. Pure; any thread. */
#ifndef POSTERN_ALERT_MAIL_H
#define POSTERN_ALERT_MAIL_H

#include "store/base/clock.h"
#include "store/config.h"

struct alert {
    enum alert_class class;
    enum alert_severity severity;
    const char *key; /* as in alert_raise */
    const char *text; /* escaped; lines end with "\n" */
    usec_t at;
    bool again; /* it was said before, not long ago */
    unsigned held; /* how often it happened since without being said ... */
    usec_t first, latest; /* ... between these */
};

/* Those who want this class and severity; nobody is configured at all: the administrator's address.
 * Whoever lives in the domain that the alert is about (the last word of its key) hears of it once,
 * not again and again: it would not arrive, and trying could raise the next one. */
void alert_recipients(const struct config *cfg, const struct alert *a, struct strlist *out);

void alert_subject(const struct config *cfg, const struct alert *a, char *out, size_t size);
/* The whole message with CRLF lines. */
void alert_mail(const struct config *cfg, const struct alert *a, const struct strlist *to,
                uint64_t mid, const char *serial, struct buf *out);

const char *alert_severity_word(enum alert_severity s); /* "Critical", "Warning", "Info" */

#endif
