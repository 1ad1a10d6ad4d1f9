/* check_log.c - the rules of log subscriptions and of what is logged. See rules.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"
#include "store/rules.h"

bool rollover_time(const char *text, unsigned *at, unsigned *day)
{
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    unsigned hours, minutes;

    *at = *day = 0;
    for (unsigned i = 0; i < countof(days); i++)
        if (str_istarts(text, days[i]) && text[3] == ' ') {
            *day = i + 1;
            text += 4;
            break;
        }
    if (strlen(text) != 5 || text[2] != ':' || strspn(text, "0123456789") != 2 ||
        strspn(text + 3, "0123456789") != 2)
        return false;
    hours = (unsigned)((text[0] - '0') * 10 + text[1] - '0');
    minutes = (unsigned)((text[3] - '0') * 10 + text[4] - '0');
    if (hours > 23 || minutes > 59)
        return false;
    *at = hours * 60 + minutes + 1;
    return true;
}

bool check_rollover_time(const struct field *f, const char *text, struct err *err)
{
    unsigned at, day;

    (void)f;
    return !*text || rollover_time(text, &at, &day) ||
           err_set(err, E_INVALID,
                   "The time must be HH:MM, such as 00:00, or a day and a time, such as Mon 03:30.");
}

bool check_syslog_host(const struct field *f, const char *text, struct err *err)
{
    struct addr a;

    (void)f;
    return !*text || addr_parse(text, &a) || host_check(text, NULL) ||
           err_set(err, E_INVALID,
                   "The syslog server must be a host name or an IP address, such as "
                   "loghost.example.com or 192.0.2.20.");
}

/* RFC 5322: printable, no colon. */
bool check_header_name(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > 126 || *p == ':')
            return err_set(err, E_INVALID,
                           "\"%s\" is not the name of a header: it is one word without a colon, such as "
                           "X-Mailer.",
                           str_printable(text));
    return strlen(text) <= 100 || err_set(err, E_INVALID, "The name of a header has at most 100 characters.");
}
